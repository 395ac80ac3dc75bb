/* test_dense.c : bytes of field codec `dense` that are not what an encoder wrote: cut, longer, or a few that ask for the work of many. A byte or
 * two that are missing can make another text's code: such damage is for the shard's checksums. */
#include "compressors/dataset/fields/field.h"
#include "comm/base/base.h"
#include "../support/suite.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { BYTES = 6000, SAMPLES = 10, HEAD = 8 };

static uint8_t         text[BYTES];
static uint32_t        offset[SAMPLES + 1];
static taut_field      field;
static taut_field_spec spec;

static const taut_field_codec *dense(void)
{
    for (size_t i = 0; taut__field_codec_at(i); i++)
        if (strcmp(taut__field_codec_at(i)->name, "dense") == 0) return taut__field_codec_at(i);
    ck_abort_msg("no codec 'dense'");
}

static taut_part part_of_text(void)
{
    return (taut_part){.data = text, .bytes = BYTES, .n = SAMPLES, .offset = offset};
}

static taut_status give_part(void *ctx, uint64_t block, taut_part *part)
{
    (void)ctx, (void)block;
    *part = part_of_text();
    return TAUT_OK;
}

/* codec: with its keys; fills the text, and what training makes of it. */
static taut_bytes trained(const char *codec)
{
    const taut_source source = {NULL, 1, BYTES, give_part};
    taut_bytes        shared = {0};
    for (size_t i = 0; i < BYTES; i++)
        text[i] = (uint8_t)('0' + taut__mix64(i) % 64); /* six bits each, whatever the model learns */
    for (uint32_t k = 0; k <= SAMPLES; k++) offset[k] = k * (BYTES / SAMPLES);
    field = (taut_field)TAUT_FIELD_INIT;
    snprintf(field.name, sizeof field.name, "text");
    snprintf(field.codec, sizeof field.codec, "%s", codec);
    field.kind = TAUT_KIND_TEXT, field.type = TAUT_U8, field.variable = 1;
    ck_assert_int_eq(taut__field_shape(&field), TAUT_OK);
    ck_assert_int_eq(taut__field_spec_parse(&field, &spec), TAUT_OK);
    ck_assert_int_eq(dense()->train(&spec, &source, &shared), TAUT_OK);
    return shared;
}

/* Memory of exactly that size, so that a sanitizer sees what is read beyond. */
static taut_status open_bytes(const uint8_t *p, size_t n, void **state)
{
    uint8_t *copy = malloc(n);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, p, n);
    *state = NULL;
    taut_status s = dense()->open(&spec, copy, n, false, state);
    free(copy);
    return s;
}

START_TEST(prime_of_another_length)
{
    taut_bytes shared = trained(_i ? "dense:prime=4096" : "dense:prime=1000");
    uint8_t   *longer = calloc(shared.n + 4, 1);
    void      *state;
    memcpy(longer, shared.p, shared.n);
    ck_assert_int_eq(open_bytes(shared.p, shared.n, &state), TAUT_OK);
    dense()->close(state);
    for (size_t cut = 8; cut <= 60; cut++) {
        ck_assert_int_eq(open_bytes(shared.p, shared.n - cut, &state), TAUT_E_CORRUPT);
        ck_assert_ptr_null(state);
        ck_assert_ptr_nonnull(strstr(taut_last_error(), "field text"));
    }
    for (size_t more = 1; more <= 4; more++)
        ck_assert_int_eq(open_bytes(longer, shared.n + more, &state), TAUT_E_CORRUPT);
    free(longer);
    taut__bytes_free(&shared);
}
END_TEST

START_TEST(few_bytes_that_ask_for_much)
{
    uint8_t    few[HEAD + 5] = {0, 0, 0, 1, 18};
    taut_bytes shared = trained("dense");
    clock_t    begin = clock();
    void      *state;
    for (int k = 0; k < 6; k++) { /* sixteen million bytes from five */
        for (int i = 0; i < 5; i++) few[HEAD + i] = (uint8_t)taut__mix64((uint64_t)(5 * k + i));
        ck_assert_int_eq(open_bytes(few, sizeof few, &state), TAUT_E_CORRUPT);
    }
    ck_assert_double_lt((double)(clock() - begin) / CLOCKS_PER_SEC, 4); /* each took two seconds and more */
    taut__bytes_free(&shared);
}
END_TEST

START_TEST(part_of_another_length)
{
    taut_bytes shared = trained("dense:prime=512"), code = {0};
    taut_part  in = part_of_text(), out = part_of_text();
    uint8_t    back[BYTES], *longer;
    void      *state;
    in.start = 512; /* not at the prime's beginning, where a part would only point into it */
    ck_assert_int_eq(dense()->open(&spec, shared.p, shared.n, true, &state), TAUT_OK);
    ck_assert_int_eq(dense()->encode(state, &in, &code), TAUT_OK);
    ck_assert_int_eq(dense()->decode(state, code.p, code.n, &out, back), TAUT_OK);
    ck_assert_mem_eq(back, text, BYTES);
    ck_assert_int_eq(code.p[0], 1);
    for (size_t cut = 8; cut <= 60; cut++) {
        ck_assert_int_eq(dense()->decode(state, code.p, code.n - cut, &out, back), TAUT_E_CORRUPT);
        ck_assert_ptr_nonnull(strstr(taut_last_error(), "are not the code of"));
    }
    longer = calloc(code.n + 1, 1);
    memcpy(longer, code.p, code.n);
    ck_assert_int_eq(dense()->decode(state, longer, code.n + 1, &out, back), TAUT_E_CORRUPT);
    ck_assert_int_eq(dense()->decode(state, code.p, code.n, &out, back), TAUT_OK); /* as before: nothing has stayed */
    ck_assert_mem_eq(back, text, BYTES);
    dense()->close(state);
    free(longer);
    taut__bytes_free(&code);
    taut__bytes_free(&shared);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dense");
    TCase *t = suite_case(suite, "dense", 60);
    tcase_add_loop_test(t, prime_of_another_length, 0, 2);
    tcase_add_test(t, few_bytes_that_ask_for_much);
    tcase_add_test(t, part_of_another_length);
    return suite_run(suite);
}
