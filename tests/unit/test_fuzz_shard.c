/* test_fuzz_shard.c : the fuzz target over valid shards and parts of every codec, whole and damaged in many ways. What can go
 * wrong here is seen by the sanitizers (make MODE=asan); without them it is that nothing crashes. */
#include "tests/fuzz/fuzz_shard.c"
#include "../support/fuzz_case.h"

static int damages = 60; /* LONG=1: many more */

static uint64_t seed = 7;
static uint32_t dice(uint32_t n) { return (uint32_t)((seed = taut__mix64(seed)) >> 32) % n; }

static void damage(uint8_t *p, size_t n, size_t from)
{
    int times = 1 + (int)dice(4);
    while (times-- && n > from) {
        size_t at = from + dice((uint32_t)(n - from));
        switch (dice(4)) {
        case 0: p[at] ^= (uint8_t)(1u << dice(8)); break;
        case 1: p[at] = (uint8_t)dice(256); break;
        case 2: p[at] = dice(2) ? 255 : 0; break;
        default: p[at] = p[from + dice((uint32_t)(n - from))];
        }
    }
}

static void try_damaged(const uint8_t *p, size_t n, size_t from)
{
    uint8_t *copy = malloc(n + 1);
    LLVMFuzzerTestOneInput(p, n);
    for (int i = 0; i < damages; i++) {
        size_t len = dice(8) ? n : from + dice((uint32_t)(n - from) + 1);
        memcpy(copy, p, n);
        damage(copy, len, from);
        LLVMFuzzerTestOneInput(copy, len);
    }
    free(copy);
}

/* What has made trouble once, or covers something that nothing else does. */
START_TEST(corpus) { ck_assert_int_ge(fuzz_corpus(LLVMFuzzerTestOneInput, "shard", fuzz_copies(1000, 1000000)), 2); }
END_TEST

/* ---- a part of every codec, by its own encoder ---- */

typedef struct whole {
    taut_part part;
} whole;
static taut_status only_part(void *ctx, uint64_t block, taut_part *part)
{
    (void)block;
    *part = ((whole *)ctx)->part;
    return TAUT_OK;
}

START_TEST(damaged_parts)
{
    const taut_field_codec *c = taut__field_codec_at((size_t)_i);
    static uint8_t          data[2048];
    uint32_t                offset[5];
    taut_field              field = TAUT_FIELD_INIT;
    taut_field_spec         spec;
    taut_bytes              shared = {0}, stored = {0};
    void                   *state = NULL;
    whole                   w;
    taut_source             source = {&w, 1, 0, only_part};
    uint8_t                *input;
    size_t                  n = 1020;
    strcpy(field.name, "f");
    snprintf(field.codec, sizeof field.codec, "%s", c->name);
    for (int kind = 0; kind < 8; kind++) {
        static const taut_type types[] = {TAUT_U8,      TAUT_U8, TAUT_U16, TAUT_I32,
                                          TAUT_FLOAT32, TAUT_U8, TAUT_U8,  TAUT_U8};
        field.kind = (taut_kind)kind, field.type = types[kind];
        field.variable = kind != TAUT_KIND_IMAGE && kind != TAUT_KIND_LABEL;
        field.ndim = kind == TAUT_KIND_IMAGE ? 2 : 0;
        field.shape[0] = field.shape[1] = 16;
        if (taut__field_shape(&field) == TAUT_OK && taut__field_spec_parse(&field, &spec) == TAUT_OK) break;
    }
    if (field.kind == TAUT_KIND_IMAGE) n = 1024;
    for (size_t i = 0; i < n; i++)
        data[i] = field.type == TAUT_FLOAT32 ? (uint8_t)(i & 3 ? i * 7 & 63 : 0)
                                             : (uint8_t)("12:00 id=7 ok\n"[i % 14] + (i / 140) % 3);
    for (int k = 0; k < 5; k++) offset[k] = (uint32_t)(n / 4 * (size_t)k);
    w.part = (taut_part){.data = data, .bytes = n, .n = 4, .offset = offset};
    source.bytes = n;
    if (c == &taut__field_dict) return; /* too little to train on; its frames are zstd's */
    if (c->train) ck_assert_int_eq(c->train(&spec, &source, &shared), TAUT_OK);
    if (c->open) ck_assert_int_eq(c->open(&spec, shared.p, shared.n, true, &state), TAUT_OK);
    ck_assert_int_eq(c->encode(state, &w.part, &stored), TAUT_OK);
    if (c->close) c->close(state);
    input = malloc(5 + shared.n + stored.n);
    input[0] = 1;
    input[1] = (uint8_t)_i;
    input[2] = (uint8_t)shared.n, input[3] = (uint8_t)(shared.n >> 8);
    input[4] = (uint8_t)(n / 4);
    if (shared.n) memcpy(input + 5, shared.p, shared.n);
    memcpy(input + 5 + shared.n, stored.p, stored.n);
    try_damaged(input, 5 + shared.n + stored.n, 5);
    fuzz_keep("shard", c->name, input, 5 + shared.n + stored.n);
    free(input);
    taut__bytes_free(&shared);
    taut__bytes_free(&stored);
}
END_TEST

/* ---- whole files, with a checksum that was made to fit, so that the index is read ---- */

START_TEST(damaged_files)
{
    static const char *const codecs[] = {"raw", "zstd", "delta"};
    char                     path[] = "/tmp/taut-fuzz-XXXXXX";
    taut_field               f = TAUT_FIELD_INIT;
    taut_writer             *w;
    taut_writer_options      o = TAUT_WRITER_INIT;
    uint8_t                 *file;
    size_t                   n;
    FILE                    *in;
    close(mkstemp(path));
    strcpy(f.name, "f");
    strcpy(f.codec, codecs[_i]);
    f.variable = 1;
    o.samples_per_block = 7;
    ck_assert_int_eq(taut_writer_create(path, 1, &f, &o, &w), TAUT_OK);
    for (size_t i = 0; i < 40; i++)
        ck_assert_int_eq(
            taut_writer_add(w, (const void *[]){"some text that is cut here and there, some text"}, (size_t[]){i % 48}),
            TAUT_OK);
    ck_assert_int_eq(taut_writer_finish(w), TAUT_OK);
    taut_writer_destroy(w);
    in = fopen(path, "rb");
    file = malloc(1 << 16);
    file[0] = 0;
    n = 1 + fread(file + 1, 1, (1 << 16) - 1, in);
    fclose(in);
    unlink(path);
    try_damaged(file, n, 1);
    file[0] = 2; /* checksums that agree with the damage, so that the index is read */
    try_damaged(file, n, 1 + (size_t)taut__get64(file + 1 + 32));
    snprintf(f.name, sizeof f.name, "file-%s", codecs[_i]);
    fuzz_keep("shard", f.name, file, n);
    free(file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fuzz_shard");
    TCase *t = suite_case(suite, "fuzz_shard", suite_long() ? 3000 : 240);
    int    codecs = 0;
    if (suite_long()) damages = 1000;
    setenv("TAUT_LOG", "error", 1); /* corrected bits are many here */
    while (taut__field_codec_at((size_t)codecs)) codecs++;
    tcase_add_test(t, corpus);
    tcase_add_loop_test(t, damaged_parts, 0, codecs);
    tcase_add_loop_test(t, damaged_files, 0, 3);
    return suite_run(suite);
}
