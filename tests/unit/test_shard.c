/* test_shard.c : shards through the public header, on small generated data: every codec gives back what it may, samples by
 * number equal samples in order, and what is damaged, foreign, newer or busy is refused with a message that names it. */
#include "comm/taut_data.h"
#include "compressors/crc/crc.h"
#include "compressors/dataset/fields/field.h"
#include "compressors/dataset/shard/layout.h"
#include "compressors/dispatch.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static char dir[] = "/tmp/taut-shard-XXXXXX", path[64], other[64];

static void setup(void)
{
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/a.taut", dir);
    snprintf(other, sizeof other, "%s/b.taut", dir);
}
static void teardown(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

#define OK(expr) ck_assert_msg((expr) == TAUT_OK, "%s: %s", #expr, taut_last_error())
#define FAILS(status, text, expr)                                                                                      \
    do {                                                                                                               \
        taut_status got_ = (expr);                                                                                     \
        ck_assert_msg(got_ == (status), "%s gave %s: %s", #expr, taut_status_name(got_), taut_last_error());           \
        ck_assert_msg(strstr(taut_last_error(), text) != NULL, "no '%s' in: %s", text, taut_last_error());             \
    } while (0)

/* ---- data ---- */
typedef struct set {
    uint8_t *data;
    size_t  *at; /* n+1 */
    size_t   n;
} set;

/* Samples of a field: words for text, smooth pixels, walks of integers, floats of mixed size; lengths differ if variable. */
static set make(const taut_field *f, size_t n, size_t longest)
{
    static const char *const words[] = {"the ", "of ", "id=42 ", "13:07:59 ", "error\n", "shard ", "0017 ", "x"};
    size_t                   size = taut_type_bytes(f->type), each = f->sample_bytes ? f->sample_bytes : longest * size;
    set                      s = {malloc(n * each + 16), malloc((n + 1) * sizeof(size_t)), n};
    uint64_t                 r = 5;
    s.at[0] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t bytes = f->sample_bytes ? f->sample_bytes : size * ((r = taut__mix64(r)) % (longest + 1));
        s.at[i + 1] = s.at[i] + bytes;
    }
    for (size_t i = 0; i < s.at[n] / size; i++) {
        uint8_t *p = s.data + i * size;
        float    x = (float)(sin((double)i * 0.7) * exp(3 * cos((double)i * 0.01)));
        double   d = x;
        r = taut__mix64(r);
        if (f->type == TAUT_FLOAT32) memcpy(p, &x, 4);
        else if (f->type == TAUT_FLOAT64) memcpy(p, &d, 8);
        else if (f->kind == TAUT_KIND_IMAGE) *p = (uint8_t)(128 + 90 * sin((double)i * 0.05) + (double)(r % 5));
        else if (f->kind == TAUT_KIND_TEXT || f->kind == TAUT_KIND_BYTES || f->kind == TAUT_KIND_FILE)
            *p = (uint8_t)words[(i / 9 + i / 31) % 8][i % strlen(words[(i / 9 + i / 31) % 8])];
        else if (f->kind == TAUT_KIND_LABEL) taut__put_uint(p, r % 10, size);
        else if (f->kind == TAUT_KIND_TOKENS) taut__put_uint(p, r % 7 ? r % 20 : r % (size == 1 ? 200 : 60000), size);
        else taut__put_uint(p, i * 3 - 100 + r % 4, size);
    }
    return s;
}
static void release(set *s)
{
    free(s->data);
    free(s->at);
}

static taut_field field(const char *name, const char *codec, taut_kind kind, taut_type type, int variable,
                        uint32_t ndim, uint64_t a, uint64_t b, uint64_t c)
{
    taut_field f = TAUT_FIELD_INIT;
    snprintf(f.name, sizeof f.name, "%s", name);
    snprintf(f.codec, sizeof f.codec, "%s", codec);
    f.kind = kind, f.type = type, f.variable = (uint32_t)variable, f.ndim = ndim;
    f.shape[0] = a, f.shape[1] = b, f.shape[2] = c;
    return f;
}

static void write_shard(const char *to, taut_field *f, const set *s, uint64_t per_block, int threads)
{
    taut_writer_options o = TAUT_WRITER_INIT;
    taut_writer        *w;
    o.samples_per_block = per_block;
    o.threads = threads;
    OK(taut_writer_create(to, 1, f, &o, &w));
    for (size_t i = 0; i < s->n; i++)
        OK(taut_writer_add(w, (const void *[]){s->data + s->at[i]}, (size_t[]){s->at[i + 1] - s->at[i]}));
    OK(taut_writer_finish(w));
    taut_writer_destroy(w);
}

static uint8_t *slurp(const char *name, size_t *n)
{
    FILE    *f = fopen(name, "rb");
    uint8_t *p = malloc(1 << 22);
    ck_assert_ptr_nonnull(f);
    *n = fread(p, 1, 1 << 22, f);
    fclose(f);
    return p;
}
static void spill(const char *name, const uint8_t *p, size_t n)
{
    FILE *f = fopen(name, "wb");
    ck_assert_uint_eq(fwrite(p, 1, n, f), n);
    fclose(f);
}

/* ---- every codec ---- */
static const struct {
    const char *codec;
    taut_kind   kind;
    taut_type   type;
    int         variable;
    uint32_t    ndim;
    uint64_t    shape[3];
    double      rel_err2; /* at most; 0 = lossless */
} cases[] = {
    {"raw", TAUT_KIND_TEXT, TAUT_U8, 1, 0, {0}, 0},
    {"raw", TAUT_KIND_FILE, TAUT_U8, 1, 0, {0}, 0},
    {"raw", TAUT_KIND_IMAGE, TAUT_U8, 0, 3, {9, 7, 3}, 0},
    {"zstd:3", TAUT_KIND_TEXT, TAUT_U8, 1, 0, {0}, 0},
    {"zstd", TAUT_KIND_FLOAT, TAUT_FLOAT64, 0, 1, {5}, 0},
    {"dict:3", TAUT_KIND_TEXT, TAUT_U8, 1, 0, {0}, 0},
    {"dense", TAUT_KIND_TEXT, TAUT_U8, 1, 0, {0}, 0},
    {"dense:prime=4096", TAUT_KIND_BYTES, TAUT_U8, 0, 1, {33}, 0},
    {"dense:0", TAUT_KIND_TEXT, TAUT_U8, 1, 0, {0}, 0},
    {"dense", TAUT_KIND_IMAGE, TAUT_U8, 0, 2, {9, 7}, 0},
    {"dense:2K", TAUT_KIND_IMAGE, TAUT_U8, 0, 3, {8, 8, 3}, 0},
    {"delta", TAUT_KIND_INT, TAUT_I16, 1, 0, {0}, 0},
    {"delta", TAUT_KIND_INT, TAUT_U64, 0, 1, {3}, 0},
    {"delta", TAUT_KIND_INT, TAUT_I32, 0, 0, {0}, 0},
    {"delta", TAUT_KIND_LABEL, TAUT_U8, 0, 0, {0}, 0},
    {"tokens", TAUT_KIND_TOKENS, TAUT_U16, 1, 0, {0}, 0},
    {"tokens", TAUT_KIND_TOKENS, TAUT_U32, 0, 1, {17}, 0},
    {"split", TAUT_KIND_FLOAT, TAUT_FLOAT32, 1, 0, {0}, 0},
    {"split", TAUT_KIND_FLOAT, TAUT_FLOAT64, 0, 1, {5}, 0},
    {"med", TAUT_KIND_IMAGE, TAUT_U8, 0, 2, {9, 7}, 0},
    {"med:predictor=paeth", TAUT_KIND_IMAGE, TAUT_U8, 0, 3, {5, 8, 3}, 0},
    {"quant:8", TAUT_KIND_FLOAT, TAUT_FLOAT32, 0, 1, {5}, 1e-3},
    {"quant:4", TAUT_KIND_FLOAT, TAUT_FLOAT32, 1, 0, {0}, 0.05},
    {"grid:rel=0.001", TAUT_KIND_FLOAT, TAUT_FLOAT32, 0, 1, {5}, 0.001},
    {"grid:step=0.01", TAUT_KIND_FLOAT, TAUT_FLOAT32, 1, 0, {0}, 0.001},
    {"wavelet:psnr=40", TAUT_KIND_IMAGE, TAUT_U8, 0, 2, {28, 29}, 0.01},
    {"wavelet:psnr=30", TAUT_KIND_IMAGE, TAUT_U8, 0, 3, {16, 5, 3}, 0.01},
    {"log", TAUT_KIND_TEXT, TAUT_U8, 1, 0, {0}, 0},
};

START_TEST(every_codec)
{
    taut_field   f = field("f", cases[_i].codec, cases[_i].kind, cases[_i].type, cases[_i].variable, cases[_i].ndim,
                           cases[_i].shape[0], cases[_i].shape[1], cases[_i].shape[2]);
    taut_shard  *s;
    taut_reader *r;
    taut_verify_result v = {.size = sizeof v};
    uint8_t           *sample = malloc(1 << 16), *a, *b;
    double             error = 0, norm = 0;
    size_t             na, nb;
    ck_assert_int_eq(taut__field_shape(&f), TAUT_OK);
    set d = make(&f, 301, 90);
    write_shard(path, &f, &d, 40, 1);
    write_shard(other, &f, &d, 40, 3); /* threads do not change the bytes */
    a = slurp(path, &na);
    b = slurp(other, &nb);
    ck_assert_uint_eq(na, nb);
    ck_assert_mem_eq(a, b, na);
    OK(taut_shard_open(path, &s));
    OK(taut_shard_verify(s, NULL, NULL, &v));
    ck_assert_uint_eq(v.blocks, 8);
    OK(taut_shard_field(s, 0, &f));
    OK(taut_reader_create(s, &r));
    for (size_t k = 0; k < d.n; k++) { /* in an order that jumps */
        size_t         i = k * 157 % d.n, bytes, want = d.at[i + 1] - d.at[i];
        const uint8_t *x = d.data + d.at[i];
        OK(taut_reader_sample(r, 0, i, NULL, 0, &bytes));
        ck_assert_uint_eq(bytes, want);
        if (want) FAILS(TAUT_E_CAPACITY, "sample", taut_reader_sample(r, 0, i, sample, want - 1, &bytes));
        OK(taut_reader_sample(r, 0, i, sample, 1 << 16, &bytes));
        if (cases[_i].rel_err2 == 0) {
            ck_assert_mem_eq(sample, x, want);
            continue;
        }
        for (size_t at = 0; at < want; at += taut_type_bytes(f.type)) {
            float p = x[at], q = sample[at];
            if (f.type == TAUT_FLOAT32) memcpy(&p, x + at, 4), memcpy(&q, sample + at, 4);
            error += ((double)p - q) * ((double)p - q);
            norm += (double)p * p;
        }
    }
    ck_assert_double_le(error, cases[_i].rel_err2 * norm);
    ck_assert_double_eq_tol(f.rel_err2, norm > 0 ? error / norm : 0,
                            1e-12); /* what the shard says of itself, in float64 */
    if (f.kind == TAUT_KIND_IMAGE && error > 0) ck_assert_double_ge(f.psnr_db, strstr(f.codec, "30") ? 30 : 39.99);
    taut_reader_destroy(r);
    taut_shard_close(s);
    release(&d);
    free(sample);
    free(a);
    free(b);
}
END_TEST

/* What is no number, or the largest that there are, comes back as it was; what is finite stays so. */
START_TEST(extreme_floats)
{
    static const char *const codec[] = {"grid:rel=1e-6", "grid:rel=0.1", "grid:step=1e30", "quant:2", "quant:8"};
    static const float       x[6] = {3.4e38f, -3.4e38f, 0, 1e-40f, 1, -1}, odd[6] = {NAN, INFINITY, -INFINITY, 1, 2, 3};
    taut_field               f = field("f", codec[_i], TAUT_KIND_FLOAT, TAUT_FLOAT32, 0, 1, 6, 0, 0);
    taut_writer_options      o = TAUT_WRITER_INIT;
    taut_writer             *w;
    taut_shard              *s;
    taut_reader             *r;
    float                    y[6];
    size_t                   n;
    o.samples_per_block = 10;
    OK(taut_writer_create(path, 1, &f, &o, &w));
    for (int i = 0; i < 20; i++) OK(taut_writer_add(w, (const void *[]){i < 10 ? x : odd}, (size_t[]){sizeof x}));
    OK(taut_writer_finish(w));
    taut_writer_destroy(w);
    OK(taut_shard_open(path, &s));
    OK(taut_reader_create(s, &r));
    OK(taut_reader_sample(r, 0, 3, y, sizeof y, &n));
    for (int k = 0; k < 6; k++) ck_assert_msg(isfinite(y[k]), "%g became %g", (double)x[k], (double)y[k]);
    OK(taut_reader_sample(r, 0, 17, y, sizeof y, &n));
    ck_assert_mem_eq(y, odd, sizeof y);
    OK(taut_shard_field(s, 0, &f));
    ck_assert(isfinite(f.rel_err2));
    taut_reader_destroy(r);
    taut_shard_close(s);
}
END_TEST

/* More than is looked at in search of the step: smooth parts where that looks, noise between. */
START_TEST(psnr_of_all_parts)
{
    enum { SIDE = 64, IMAGE = SIDE * SIDE, EACH = 16, IMAGES = 2200 };
    taut_field          f = field("f", "wavelet:psnr=30", TAUT_KIND_IMAGE, TAUT_U8, 0, 2, SIDE, SIDE, 0);
    taut_writer_options o = TAUT_WRITER_INIT;
    taut_writer        *w;
    taut_shard         *s;
    uint8_t             image[2][IMAGE];
    if (!suite_long()) return;
    for (size_t i = 0; i < IMAGE; i++) image[0][i] = (uint8_t)(i / SIDE), image[1][i] = (uint8_t)taut__mix64(i);
    o.samples_per_block = EACH;
    OK(taut_writer_create(path, 1, &f, &o, &w));
    for (size_t i = 0; i < IMAGES; i++)
        OK(taut_writer_add(w, (const void *[]){image[i / EACH % 2]}, (size_t[]){IMAGE}));
    OK(taut_writer_finish(w));
    taut_writer_destroy(w);
    OK(taut_shard_open(path, &s));
    OK(taut_shard_field(s, 0, &f));
    ck_assert_double_ge(f.psnr_db, 30);
    taut_shard_close(s);
}
END_TEST

/* The bytes of version 1 do not change. Codecs whose bytes depend on the release of zstd are left out. */
START_TEST(golden)
{
    static const struct {
        const char *codec;
        taut_kind   kind;
        taut_type   type;
        uint64_t    hash;
    } same[] = {
        {"raw", TAUT_KIND_TEXT, TAUT_U8, 0x4ae51eb7b31bf32bu},
        {"dense:1K", TAUT_KIND_TEXT, TAUT_U8, 0x723ccea08ef60e5du},
        {"delta", TAUT_KIND_INT, TAUT_I16, 0x7f9d97eea9299629u},
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        taut_field  f = field("f", same[i].codec, same[i].kind, same[i].type, 1, 0, 0, 0, 0);
        set         d = make(&f, 100, 50);
        taut_shard *s;
        write_shard(path, &f, &d, 30, 1);
        OK(taut_shard_open(path, &s));
        ck_assert_msg(taut__shard_hash(s) == same[i].hash, "%s: hash %016llx", same[i].codec,
                      (unsigned long long)taut__shard_hash(s));
        taut_shard_close(s);
        release(&d);
    }
}
END_TEST

/* blocks as a loader reads them: extents, foreign memory, an index that came from another process */
START_TEST(images_from_an_index)
{
    taut_field   f = field("t", "zstd:3", TAUT_KIND_TEXT, TAUT_U8, 1, 0, 0, 0, 0);
    set          d = make(&f, 101, 60);
    taut_shard  *first, *s;
    taut_reader *r;
    size_t       n, at = 0;
    const void  *index;
    write_shard(path, &f, &d, 10, 1);
    OK(taut_shard_open(path, &first));
    index = taut__shard_index(first, &n);
    OK(taut__shard_from_index(index, n, path, &s));
    ck_assert_uint_eq(taut__shard_hash(s), taut__shard_hash(first));
    OK(taut_reader_create(s, &r));
    for (uint64_t b = 0; b < taut__shard_blocks(s); b++) {
        taut_extent e = taut__shard_extent(s, 0, b);
        size_t      cap = taut__image_bytes(s, 0, b), bytes;
        uint8_t    *stored = malloc(e.bytes), *image = aligned_alloc(8, (cap + 7) / 8 * 8);
        ck_assert_int_eq(pread(taut__shard_fd(s), stored, e.bytes, (off_t)e.offset), (int)e.bytes);
        FAILS(TAUT_E_CAPACITY, "image", taut__reader_decode(r, 0, b, stored, e.bytes, image, cap - 1));
        OK(taut__reader_decode(r, 0, b, stored, e.bytes, image, cap));
        for (uint64_t k = 0; k < taut__block_samples(s, b); k++, at++) {
            const uint8_t *p = taut__image_sample(s, 0, b, image, k, &bytes);
            ck_assert_uint_eq(bytes, d.at[at + 1] - d.at[at]);
            ck_assert_mem_eq(p, d.data + d.at[at], bytes);
        }
        stored[e.bytes / 2] ^= 4;
        FAILS(TAUT_E_CORRUPT, "block", taut__reader_decode(r, 0, b, stored, e.bytes, image, cap));
        free(stored);
        free(image);
    }
    ck_assert_uint_eq(at, d.n);
    taut_reader_destroy(r);
    taut_shard_close(s);
    taut_shard_close(first);
    release(&d);
}
END_TEST

START_TEST(several_fields_and_labels)
{
    taut_field      f[3] = {field("image", "med", TAUT_KIND_IMAGE, TAUT_U8, 0, 2, 6, 5, 0),
                            field("label", "", TAUT_KIND_LABEL, TAUT_I8, 0, 0, 0, 0, 0),
                            field("note", "zstd", TAUT_KIND_TEXT, TAUT_U8, 1, 0, 0, 0, 0)};
    taut_writer    *w;
    taut_shard     *s;
    taut_reader    *r;
    taut_shard_info info = {.size = sizeof info};
    int64_t         classes[25];
    OK(taut_writer_create(path, 3, f, NULL, &w));
    for (int i = 0; i < 25; i++) {
        uint8_t pixels[30] = {(uint8_t)i};
        int8_t  label = (int8_t)(i % 5 - 2);
        FAILS(TAUT_E_INVALID, "field image",
              taut_writer_add(w, (const void *[]){pixels, &label, "hm"}, (size_t[]){29, 1, 2}));
        OK(taut_writer_add(w, (const void *[]){pixels, &label, "hm"}, (size_t[]){30, 1, (size_t)i % 3}));
    }
    OK(taut_writer_finish(w));
    FAILS(TAUT_E_STATE, "finished", taut_writer_finish(w));
    taut_writer_destroy(w);
    OK(taut_shard_open(path, &s));
    OK(taut_shard_get_info(s, &info));
    ck_assert_int_eq(info.label_field, 1);
    ck_assert_int_eq(info.plain, 0);
    ck_assert_int_eq(taut_shard_find(s, "note"), 2);
    OK(taut_reader_create(s, &r));
    OK(taut_reader_labels(r, classes));
    for (int i = 0; i < 25; i++) ck_assert_int_eq(classes[i], i % 5 - 2);
    taut_reader_destroy(r);
    taut_shard_close(s);
}
END_TEST

/* ---- damage ---- */

/* One flipped bit at a time, everywhere: verify finds each. A sample read afterwards is right or refused, never wrong. */
static void flips(const char *codec, int count)
{
    taut_field f = field("t", codec, TAUT_KIND_TEXT, TAUT_U8, 1, 0, 0, 0, 0);
    set        d = make(&f, 200, 100);
    uint8_t   *file, sample[128];
    size_t     n;
    uint64_t   r = 1, right = 0;
    write_shard(path, &f, &d, 20, 1);
    file = slurp(path, &n);
    for (int i = 0; i < count; i++) {
        taut_shard        *s;
        taut_reader       *reader;
        taut_verify_result v = {.size = sizeof v};
        uint64_t           bit = (r = taut__mix64(r)) % (8 * n);
        int                refused = 0;
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
        spill(other, file, n);
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_msg(taut_shard_open(other, &s) == TAUT_OK, "bit %llu: %s", (unsigned long long)bit,
                      taut_last_error());
        FAILS(TAUT_E_CORRUPT, "b.taut", taut_shard_verify(s, NULL, NULL, &v));
        ck_assert_uint_eq(v.bad_blocks + v.bad_parts, 1);
        if (i % 10 == 0) {
            OK(taut_reader_create(s, &reader));
            for (size_t k = 0; k < d.n; k += 7) {
                size_t      bytes;
                taut_status st = taut_reader_sample(reader, 0, k, sample, sizeof sample, &bytes);
                if (st == TAUT_OK) {
                    ck_assert_uint_eq(bytes, d.at[k + 1] - d.at[k]);
                    ck_assert_mem_eq(sample, d.data + d.at[k], bytes);
                    right++;
                } else {
                    ck_assert_int_eq(st, TAUT_E_CORRUPT);
                    ck_assert_ptr_nonnull(strstr(taut_last_error(), "block"));
                    refused++;
                }
            }
            ck_assert_int_le(refused, 3); /* of one block, 20 samples */
            taut_reader_destroy(reader);
        }
        taut_shard_close(s);
    }
    ck_assert_uint_gt(right, 0);
    free(file);
    release(&d);
}
START_TEST(single_bits)
{
    static const char *const codecs[] = {"zstd:3", "raw", "dict:3", "log"};
    setenv("TAUT_LOG", "error", 1);
    flips(codecs[_i], _i == 0 ? 10000 : 600);
}
END_TEST

START_TEST(truncated_foreign_newer)
{
    taut_field  f = field("t", "zstd:3", TAUT_KIND_TEXT, TAUT_U8, 1, 0, 0, 0, 0);
    set         d = make(&f, 50, 50);
    uint8_t    *file, *copy;
    size_t      n;
    taut_shard *s;
    write_shard(path, &f, &d, 20, 1);
    file = slurp(path, &n);
    copy = malloc(n + 1);
    for (size_t len = 0; len < n; len += 1 + len / 20) {
        spill(other, file, len);
        FAILS(TAUT_E_CORRUPT, "b.taut", taut_shard_open(other, &s));
        ck_assert_ptr_null(s);
    }
    memcpy(copy, file, n);
    copy[n] = 0;
    spill(other, copy, n + 1);
    FAILS(TAUT_E_CORRUPT, "appended", taut_shard_open(other, &s));
    spill(other,
          (const uint8_t *)"\x1f\x8b\x08\0 gzip and more, and more, and more, and more, and more, and more, and more, "
                           "and more.........",
          96);
    FAILS(TAUT_E_CORRUPT, "gzip", taut_shard_open(other, &s));
    copy[16] = 9; /* a version that is not written yet, with a right checksum */
    taut__put32(copy + 76, taut__crc32c(copy, 76));
    spill(other, copy, n);
    FAILS(TAUT_E_VERSION, "version 9", taut_shard_open(other, &s));
    FAILS(TAUT_E_IO, "nowhere", taut_shard_open("/nowhere/x.taut", &s));
    FAILS(TAUT_E_IO, "regular", taut_shard_open("/tmp", &s));
    free(file);
    free(copy);
    release(&d);
}
END_TEST

START_TEST(replaced_while_read)
{
    taut_field   f = field("t", "zstd:3", TAUT_KIND_TEXT, TAUT_U8, 1, 0, 0, 0, 0);
    set          d = make(&f, 200, 100);
    taut_shard  *s;
    taut_reader *r;
    uint8_t      sample[128];
    size_t       bytes, n;
    uint8_t     *file;
    write_shard(path, &f, &d, 20, 1);
    OK(taut_shard_open(path, &s));
    OK(taut_reader_create(s, &r));
    ck_assert(!taut__shard_changed(s));
    strcpy(f.codec, "zstd:1");
    write_shard(path, &f, &d, 30, 1); /* a new file of this name: the old one can still be read */
    ck_assert(taut__shard_changed(s));
    OK(taut_reader_sample(r, 0, 50, sample, sizeof sample, &bytes));
    ck_assert_mem_eq(sample, d.data + d.at[50], bytes);
    taut_reader_destroy(r);
    taut_shard_close(s);
    OK(taut_shard_open(path, &s)); /* overwritten in place */
    OK(taut_reader_create(s, &r));
    file = slurp(path, &n);
    memset(file + 100, 0, n - 100);
    FILE *out = fopen(path, "r+b");
    fwrite(file, 1, n, out);
    fclose(out);
    FAILS(TAUT_E_CORRUPT, "replaced or changed", taut_reader_sample(r, 0, 50, sample, sizeof sample, &bytes));
    ck_assert_int_eq(truncate(path, 90), 0);
    FAILS(TAUT_E_CORRUPT, "truncated", taut_reader_sample(r, 0, 150, sample, sizeof sample, &bytes));
    taut_reader_destroy(r);
    taut_shard_close(s);
    free(file);
    release(&d);
}
END_TEST

/* ---- writers ---- */
START_TEST(two_writers_of_one_name)
{
    taut_field   f = field("t", "zstd:3", TAUT_KIND_TEXT, TAUT_U8, 1, 0, 0, 0, 0);
    taut_writer *a, *b;
    taut_shard  *s;
    struct stat  st;
    OK(taut_writer_create(path, 1, &f, NULL, &a));
    FAILS(TAUT_E_IO, "another process is writing", taut_writer_create(path, 1, &f, NULL, &b));
    ck_assert_ptr_null(b);
    OK(taut_writer_add(a, (const void *[]){"x"}, (size_t[]){1}));
    ck_assert_int_ne(stat(path, &st), 0); /* nothing before it is complete */
    OK(taut_writer_finish(a));
    taut_writer_destroy(a);
    OK(taut_writer_create(path, 1, &f, NULL, &b)); /* the name is free again; without finish the old file stays */
    taut_writer_destroy(b);
    OK(taut_shard_open(path, &s));
    taut_shard_close(s);
    OK(taut_writer_create(other, 1, &f, NULL, &a));
    FAILS(TAUT_E_INVALID, "no samples", taut_writer_finish(a));
    taut_writer_destroy(a);
    ck_assert_int_ne(stat(other, &st), 0);
}
END_TEST

static const struct {
    const char *codec, *says;
    taut_kind   kind;
    taut_type   type;
    int         variable;
} bad[] = {
    {"zst", "field codecs are raw, zstd", TAUT_KIND_TEXT, TAUT_U8, 1},
    {"zstd:23", "level=23: must be an integer of at least 1 and at most 22", TAUT_KIND_TEXT, TAUT_U8, 1},
    {"zstd:level=x", "level=x", TAUT_KIND_TEXT, TAUT_U8, 1},
    {"zstd:lvl=3", "unknown key 'lvl=3': keys are level", TAUT_KIND_TEXT, TAUT_U8, 1},
    {"zstd:3,level=4", "given twice", TAUT_KIND_TEXT, TAUT_U8, 1},
    {"quant:9", "bits=9", TAUT_KIND_FLOAT, TAUT_FLOAT32, 1},
    {"quant:4", "codes f32, not f64", TAUT_KIND_FLOAT, TAUT_FLOAT64, 1},
    {"grid:rel=0", "rel=0: must be a number above 0", TAUT_KIND_FLOAT, TAUT_FLOAT32, 1},
    {"wavelet", "images of one shape", TAUT_KIND_TEXT, TAUT_U8, 1},
    {"delta", "not f32", TAUT_KIND_FLOAT, TAUT_FLOAT32, 1},
    {"med:predictor=left", "must be med|paeth", TAUT_KIND_IMAGE, TAUT_U8, 0},
    {"zstd", "does not hold elements of type", TAUT_KIND_TEXT, TAUT_U16, 1},
    {"zstd", "must be 0 and 0, one integer per sample", TAUT_KIND_LABEL, TAUT_U8, 1},
};
START_TEST(bad_fields)
{
    taut_field f = field("f", bad[_i].codec, bad[_i].kind, bad[_i].type, bad[_i].variable,
                         bad[_i].kind == TAUT_KIND_IMAGE ? 2 : 0, 4, 4, 0);
    ck_assert_int_ne(taut_field_check(&f), TAUT_OK);
    ck_assert_msg(strstr(taut_last_error(), bad[_i].says) && strstr(taut_last_error(), "field f"), "no '%s' in: %s",
                  bad[_i].says, taut_last_error());
}
END_TEST

/* ---- checksums ---- */
START_TEST(crc32c)
{
    static uint8_t p[20000];
    uint64_t       r = 3;
    ck_assert_uint_eq(taut__crc32c("123456789", 9), 0xe3069283u);
    ck_assert_uint_eq(taut__crc32c("", 0), 0);
    for (size_t i = 0; i < sizeof p; i++) p[i] = (uint8_t)(r = taut__mix64(r));
    for (size_t t = 0; taut__simd_at(t); t++)
        for (size_t n = 0; n < sizeof p; n += n < 300 ? 1 : 997) {
            uint32_t want = taut__crc32c_portable(0, p + 1, n);
            ck_assert_uint_eq(taut__simd_at(t)->crc->update(0, p + 1, n), want);
            ck_assert_uint_eq(
                taut__simd_at(t)->crc->update(taut__crc32c_portable(0, p + 1, n / 3), p + 1 + n / 3, n - n / 3), want);
        }
    for (int i = 0; i < 100; i++) {
        uint32_t crc = taut__crc32c(p, 5000);
        size_t   bit = taut__mix64((uint64_t)i) % 40000;
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert(taut__crc32c_repair(p, 5000, crc));
        ck_assert_uint_eq(taut__crc32c(p, 5000), crc);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shard");
    TCase *t = suite_case(suite, "shard", 240);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, every_codec, 0, sizeof cases / sizeof *cases);
    tcase_add_loop_test(t, extreme_floats, 0, 5);
    tcase_add_test(t, psnr_of_all_parts);
    tcase_add_test(t, golden);
    tcase_add_test(t, images_from_an_index);
    tcase_add_test(t, several_fields_and_labels);
    tcase_add_loop_test(t, single_bits, 0, 4);
    tcase_add_test(t, truncated_foreign_newer);
    tcase_add_test(t, replaced_while_read);
    tcase_add_test(t, two_writers_of_one_name);
    tcase_add_loop_test(t, bad_fields, 0, sizeof bad / sizeof *bad);
    tcase_add_test(t, crc32c);
    return suite_run(suite);
}
