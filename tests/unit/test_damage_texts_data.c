/* test_damage_texts_data.c : what the codecs of fields say of bytes that no encoder wrote: each sentence names the number that is wrong, and the status is
 * TAUT_E_CORRUPT. Behind the checksums of a shard nothing of this is seen; a shard made by another program has its own. */
#include "compressors/dataset/fields/field.h"
#include "../support/suite.h"

typedef struct row {
    const char *codec;
    taut_kind   kind;
    taut_type   type;
    const char *shared;
    int         shared_n;
    const char *stored;
    int         stored_n, samples, bytes; /* samples of bytes / samples each */
    const char *says;
} row;

static const row rows[] = {
    {"delta", TAUT_KIND_INT, TAUT_I32, "", 0, "", 0, 1, 6, "delta: 6 bytes are no whole number of elements of 4"},
    {"delta", TAUT_KIND_INT, TAUT_I32, "", 0, "\7\0\0\0\0\0", 6, 1, 8, "delta: group 0, at byte 0 of 6, is malformed"},
    {"delta", TAUT_KIND_INT, TAUT_I32, "", 0, "\0\0\1\0\0\0zzz", 9, 1, 4, "delta: 3 of 9 bytes are left over"},
    {"split", TAUT_KIND_FLOAT, TAUT_FLOAT32, "", 0, "", 0, 1, 6, "split: 6 bytes are no whole number of elements of 4"},
    {"split", TAUT_KIND_FLOAT, TAUT_FLOAT32, "", 0, "\1\0\0\0\1\0\0\0x", 9, 1, 8,
     "split: plane 0 has 1 bytes: must be 2"},
    {"split", TAUT_KIND_FLOAT, TAUT_FLOAT32, "", 0, "\11\0\0\0\1\0\0\0x", 9, 1, 8,
     "a stream inside it of 9 bytes, stored in 1, where 1 are left and at most 2 expected: malformed"},
    {"med", TAUT_KIND_IMAGE, TAUT_U8, "", 0, "\4\0\0\0\4\0\0\0abcd", 12, 1, 256,
     "med: 4 bytes from 12 of 12: must be 256 from all"},
    {"dense", TAUT_KIND_TEXT, TAUT_U8, "\0\0\0\0\14\0\0\0", 8, "\11", 1, 1, 4, "dense: 1 bytes, mode 9: must be 0..2"},
    {"dense", TAUT_KIND_TEXT, TAUT_U8, "\0\0\0\0\14\0\0\0", 8, "\0abc", 4, 1, 4, "dense: 3 stored bytes, not 4"},
    {"dense", TAUT_KIND_TEXT, TAUT_U8, "\0\0\0\0\14\0\0\0", 8, "\2\5\0\0\0\2\0\0\0", 9, 1, 4,
     "dense: 2 bytes from 5 of the prime, which has 0, into 4"},
    {"tokens", TAUT_KIND_TOKENS, TAUT_U16, "\1\0", 2, "", 0, 1, 4, "tokens: a table of 0 ids in 2 bytes"},
    {"tokens", TAUT_KIND_TOKENS, TAUT_U16, "\2\0\0\0\4\0\0\0\4\0\0\0\7\0\0\0", 16, "", 0, 1, 4,
     "tokens: a table of 4 bytes: 2 ids take 8"},
    {"tokens", TAUT_KIND_TOKENS, TAUT_U16, "\1\0\0\0\4\0\0\0\4\0\0\0\7\0\0\0", 16, "\11\0", 2, 1, 4,
     "tokens: 2 bytes of kind 9"},
    {"tokens", TAUT_KIND_TOKENS, TAUT_U16, "\1\0\0\0\4\0\0\0\4\0\0\0\7\0\0\0", 16, "\0\10\5\5", 4, 1, 4,
     "tokens: rank 5: the table has 1 ids"},
    {"tokens", TAUT_KIND_TOKENS, TAUT_U16, "\1\0\0\0\4\0\0\0\4\0\0\0\7\0\0\0", 16, "\0\41\5\5", 4, 1, 4,
     "tokens: 4 bytes for 2 ranks of 33 bits"},
    {"wavelet", TAUT_KIND_IMAGE, TAUT_U8, "\0\0\0\0", 4, "", 0, 1, 256,
     "wavelet: step 0 of 4 bytes: must be above 0 and below 1e6"},
    {"wavelet", TAUT_KIND_IMAGE, TAUT_U8, "\0\0\200\77", 4, "nonsense", 8, 1, 256,
     "wavelet: its 8 bytes of coefficients do not decode: frame: 8 bytes: shorter than a header"},
    {"dict", TAUT_KIND_TEXT, TAUT_U8, "\0\0\0\2", 4, "", 0, 1, 4,
     "dict: a dictionary of 33554432 bytes in 4: must be at most 2^24"},
    {"dict", TAUT_KIND_TEXT, TAUT_U8, "\4\0\0\0xxxx", 8, "", 0, 1, 4,
     "dict: its dictionary of 4 bytes does not decode: "},
};
enum { ROWS = sizeof rows / sizeof *rows };

static const taut_field_codec *codec_called(const char *name)
{
    for (size_t i = 0; taut__field_codec_at(i); i++)
        if (strcmp(taut__field_codec_at(i)->name, name) == 0) return taut__field_codec_at(i);
    ck_abort_msg("%s", name);
    return NULL;
}

START_TEST(says_which_number)
{
    const row              *r = &rows[_i];
    const taut_field_codec *c = codec_called(r->codec);
    taut_field              field = TAUT_FIELD_INIT;
    taut_field_spec         spec;
    void                   *state = NULL;
    uint8_t                 dst[512];
    uint32_t                offset[2] = {0, (uint32_t)r->bytes};
    taut_part               part = {.bytes = (size_t)r->bytes, .n = (uint32_t)r->samples, .offset = offset};
    taut_status             s = TAUT_OK;
    strcpy(field.name, "f");
    strcpy(field.codec, r->codec);
    field.kind = r->kind, field.type = r->type;
    field.variable = r->kind != TAUT_KIND_IMAGE;
    field.ndim = r->kind == TAUT_KIND_IMAGE ? 2 : 0;
    field.shape[0] = field.shape[1] = 16;
    ck_assert_int_eq(taut__field_shape(&field), TAUT_OK);
    ck_assert_int_eq(taut__field_spec_parse(&field, &spec), TAUT_OK);
    if (c->open)
        s = c->open(&spec, r->shared_n ? (const uint8_t *)r->shared : NULL, (size_t)r->shared_n, false, &state);
    if (s == TAUT_OK) {
        s = c->decode(state, (const uint8_t *)r->stored, (size_t)r->stored_n, &part, dst);
        if (c->close) c->close(state);
    }
    ck_assert_msg(s == TAUT_E_CORRUPT && strstr(taut_last_error(), r->says), "%s: \"%s\"; expected \"%s\"",
                  taut_status_name(s), taut_last_error(), r->says);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("damage_texts");
    TCase *t = suite_case(suite, "damage_texts", 60);
    tcase_add_loop_test(t, says_which_number, 0, ROWS);
    return suite_run(suite);
}
