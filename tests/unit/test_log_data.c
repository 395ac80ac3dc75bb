/* test_log_data.c : the field codec `log`: lines as templates and columns. What it stores decodes to the same bytes, in memory of exactly their
 * size; kinds of columns, lines without an end, texts that are no lines; stored bytes that lie are refused. */
#include "../support/suite.h"
#include "compressors/dataset/fields/field.h"
#include "compressors/dataset/fields/zpack.h"
#include <stdio.h>

typedef struct coder {
    taut_field      field;
    taut_field_spec spec;
    void           *state;
} coder;

static void coder_open(coder *c, bool encoding)
{
    c->field = (taut_field)TAUT_FIELD_INIT;
    strcpy(c->field.name, "f");
    strcpy(c->field.codec, "log:3");
    c->field.kind = TAUT_KIND_TEXT, c->field.variable = 1;
    ck_assert_int_eq(taut__field_shape(&c->field), TAUT_OK);
    ck_assert_int_eq(taut__field_spec_parse(&c->field, &c->spec), TAUT_OK);
    ck_assert_int_eq(taut__field_log.open(&c->spec, NULL, 0, encoding, &c->state), TAUT_OK);
}

static taut_status encode(coder *c, const char *text, size_t n, taut_bytes *stored)
{
    uint32_t  offset[2] = {0, (uint32_t)n};
    taut_part part = {.data = (const uint8_t *)text, .bytes = n, .n = 1, .offset = offset};
    stored->n = 0;
    return taut__field_log.encode(c->state, &part, stored);
}

/* Into memory of exactly n bytes, from memory of exactly len: a sanitizer sees what goes beyond. */
static taut_status decode(coder *c, const uint8_t *stored, size_t len, size_t n, uint8_t **out)
{
    uint32_t    offset[2] = {0, (uint32_t)n};
    taut_part   part = {.bytes = n, .n = 1, .offset = offset};
    uint8_t    *copy = malloc(len + (len == 0)), *dst = malloc(n + (n == 0));
    taut_status s;
    memcpy(copy, stored, len);
    s = taut__field_log.decode(c->state, copy, len, &part, dst);
    free(copy);
    *out = dst;
    return s;
}

static void round_trip(coder *to, coder *from, const char *text, size_t n, int mode)
{
    taut_bytes stored = {0};
    uint8_t   *back;
    ck_assert_int_eq(encode(to, text, n, &stored), TAUT_OK);
    if (mode >= 0) ck_assert_int_eq(stored.p[0], mode);
    ck_assert_int_eq(decode(from, stored.p, stored.n, n, &back), TAUT_OK);
    ck_assert_mem_eq(back, text, n);
    free(back);
    taut__bytes_free(&stored);
}

/* Lines of a server: a column of each kind, two templates, and one with neither a word nor a number. */
static size_t server_log(char *text, size_t cap, int lines, bool newline)
{
    size_t n = 0;
    for (int i = 0; i < lines; i++) {
        n += (size_t)snprintf(text + n, cap - n, "12:%02d:%02d host-%d served /a%d in %d ms", i / 60 % 60, i % 60,
                              i * i % 7, i % 3, i * 37 % 1500);
        n += (size_t)snprintf(text + n, cap - n, i % 5 ? "\n" : "\nuser=%llu, disk %s at [0%d%%]\n\n",
                              12345678901234567ull * (unsigned)i, i % 2 ? "full" : "0x1f", i % 10);
    }
    return newline ? n : n - 1;
}

START_TEST(lines_of_a_server)
{
    static char text[1 << 16];
    coder       to, from;
    coder_open(&to, true);
    coder_open(&from, false);
    for (int lines = 1; lines < 400; lines += 1 + lines / 3)
        for (int newline = 0; newline < 2; newline++) {
            size_t n = server_log(text, sizeof text, lines, newline);
            round_trip(&to, &from, text, n, lines > 200 ? 1 : -1);
            round_trip(&to, &from, text, n / 2, -1); /* ends within a line */
        }
    taut__field_log.close(to.state);
    taut__field_log.close(from.state);
}
END_TEST

/* Hundreds of templates, so that their table grows; some begin like others. */
START_TEST(templates)
{
    static char text[1 << 17];
    size_t      n = 0;
    coder       c;
    coder_open(&c, true);
    for (int i = 0; i < 2400; i++) {
        int t = i % 600;
        n += (size_t)snprintf(text + n, sizeof text - n, "event %c%c%c%.*s took %d us\n", 'a' + t % 26, 'a' + t / 26,
                              'x', t % 4, "yyyy", i);
    }
    round_trip(&c, &c, text, n, 1);
    taut__field_log.close(c.state);
}
END_TEST

START_TEST(no_lines)
{
    static const struct {
        const char *text;
        size_t      n;
    } texts[] = {{"", 0},          {"\n", 1},       {"x", 1},       {"\n\n\n", 3},
                 {"a\0b 12\n", 7}, {"a\1b 1\n", 6}, {"007\n08", 6}, {"999999999999999999999999 1\n", 27}};
    coder c;
    coder_open(&c, true);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) round_trip(&c, &c, texts[i].text, texts[i].n, -1);
    for (size_t i = 4; i < 6; i++) { /* bytes that mean something else in a template: stored whole, however long */
        char   many[7 * 400];
        size_t n = 0;
        for (int k = 0; k < 400; k++) memcpy(many + n, texts[i].text, texts[i].n), n += texts[i].n;
        round_trip(&c, &c, many, n, 0);
    }
    taut__field_log.close(c.state);
}
END_TEST

/* Numbers whose text does not follow from their value, alone in a column and beside others. */
START_TEST(numbers)
{
    static const char *const values[] = {
        "0",   "00", "7",  "07",   "10",  "999999999999999999", "1000000000000000000",
        "1e5", "-3", "+3", "0x10", "1.5", "000000000000000001", "18446744073709551616"};
    enum { VALUES = sizeof values / sizeof *values, REPEAT = 60 };
    char  text[2 * REPEAT * 40];
    coder c;
    coder_open(&c, true);
    for (size_t a = 0; a < VALUES; a++)
        for (size_t b = 0; b < VALUES; b++) {
            size_t n = 0;
            for (int k = 0; k < REPEAT; k++)
                n += (size_t)snprintf(text + n, sizeof text - n, "x=%s,\nx=%s,\n", values[a], values[b]);
            round_trip(&c, &c, text, n, -1);
        }
    taut__field_log.close(c.state);
}
END_TEST

/* ---- stored bytes that lie ---- */

typedef struct lie {
    uint32_t    lines;
    uint8_t     last;
    const char *stream[5]; /* templates, lines, kinds, numbers, words */
    size_t      n[5], bytes;
    const char *text; /* what it decodes to; NULL: refused */
} lie;

static const lie lies[] = {
    {2, 1, {"ab\1\n", "\0\0", "\2", "\16\4", ""}, {4, 2, 1, 2, 0}, 10, "ab07\nab09\n"},
    {2, 0, {"ab\1\n", "\0\0", "\2", "\16\4", ""}, {4, 2, 1, 2, 0}, 9, "ab07\nab09"},
    {2, 1, {"\1!\n", "\0\0", "\100", "", "cd\n\n"}, {3, 2, 1, 0, 4}, 6, "cd!\n!\n"},
    {2, 1, {"ab\1\n", "\0\0", "\2", "\16\4", ""}, {4, 2, 1, 2, 0}, 11, NULL},        /* shorter than the part */
    {2, 1, {"ab\1\n", "\0\0", "\2", "\16\4", ""}, {4, 2, 1, 2, 0}, 9, NULL},         /* longer */
    {2, 1, {"abc\n", "\0\0", "", "", ""}, {4, 2, 0, 0, 0}, 3, NULL},                 /* text beyond the part */
    {2, 1, {"\1\n", "\0\0", "\100", "", "word\nword\n"}, {2, 2, 1, 0, 10}, 3, NULL}, /* a word beyond it */
    {2, 1, {"\1\n", "\0\0", "\22", "\2\2", ""}, {2, 2, 1, 2, 0}, 5, NULL},           /* a number beyond it */
    {3, 1, {"ab\1\n", "\0\0", "\2", "\16\4", ""}, {4, 2, 1, 2, 0}, 10, NULL},   /* more lines than numbers of them */
    {2, 1, {"ab\1\n", "\0\1", "\2", "\16\4", ""}, {4, 2, 1, 2, 0}, 10, NULL},   /* a template that is not there */
    {2, 1, {"ab\1\n", "\0\200", "\2", "\16\4", ""}, {4, 2, 1, 2, 0}, 10, NULL}, /* a number that does not end */
    {2, 1, {"ab\1", "\0\0", "\2", "\16\4", ""}, {3, 2, 1, 2, 0}, 10, NULL},     /* a template that does not end */
    {2, 1, {"ab\1\n", "\0\0", "", "\16\4", ""}, {4, 2, 0, 2, 0}, 10, NULL},     /* fewer kinds than columns */
    {2, 1, {"ab\1\n", "\0\0", "\23", "\16\4", ""}, {4, 2, 1, 2, 0}, 10, NULL},  /* 19 digits */
    {2, 1, {"ab\1\n", "\0\0", "\0", "\16\4", ""}, {4, 2, 1, 2, 0}, 10, NULL},   /* none */
    {2, 1, {"ab\1\n", "\0\0", "\2", "\16", ""}, {4, 2, 1, 1, 0}, 10, NULL},     /* fewer numbers than lines */
    {2, 1, {"\1!\n", "\0\0", "\100", "", "cd\n"}, {3, 2, 1, 0, 3}, 6, NULL},    /* fewer words */
    {2, 1, {"\1!\n", "\0\0", "\100", "", "cd\n!"}, {3, 2, 1, 0, 4}, 6, NULL},   /* a word that does not end */
    {2, 2, {"ab\1\n", "\0\0", "\2", "\16\4", ""}, {4, 2, 1, 2, 0}, 10, NULL},   /* neither with nor without an end */
    {0, 1, {"", "", "", "", ""}, {0, 0, 0, 0, 0}, 0, ""},
    {0xffffffff, 1, {"a\n", "\0", "", "", ""}, {2, 1, 0, 0, 0}, 4, NULL},
};

START_TEST(malformed)
{
    const lie *l = &lies[_i];
    taut_bytes stored = {0};
    taut_zpack z = {0};
    uint8_t    head[6] = {1}, *back;
    coder      c;
    coder_open(&c, false);
    taut__put32(head + 1, l->lines);
    head[5] = l->last;
    ck_assert_int_eq(taut__bytes_add(&stored, head, sizeof head), TAUT_OK);
    for (int k = 0; k < 5; k++) ck_assert_int_eq(taut__zpack(&z, l->stream[k], l->n[k], 3, &stored), TAUT_OK);
    ck_assert_int_eq(decode(&c, stored.p, stored.n, l->bytes, &back), l->text ? TAUT_OK : TAUT_E_CORRUPT);
    if (l->text) ck_assert_mem_eq(back, l->text, l->bytes);
    free(back);
    for (size_t n = 0; n < stored.n; n++) { /* cut anywhere */
        ck_assert_int_eq(decode(&c, stored.p, n, l->bytes, &back), TAUT_E_CORRUPT);
        free(back);
    }
    ck_assert_int_eq(taut__bytes_add(&stored, "\0", 1), TAUT_OK); /* and something behind it */
    ck_assert_int_eq(decode(&c, stored.p, stored.n, l->bytes, &back), TAUT_E_CORRUPT);
    free(back);
    stored.p[0] = 2;
    ck_assert_int_eq(decode(&c, stored.p, stored.n, l->bytes, &back), TAUT_E_CORRUPT);
    free(back);
    taut__zpack_free(&z);
    taut__bytes_free(&stored);
    taut__field_log.close(c.state);
}
END_TEST

START_TEST(suits_text_only)
{
    coder c;
    coder_open(&c, false);
    taut__field_log.close(c.state);
    c.field.kind = TAUT_KIND_FLOAT, c.field.type = TAUT_FLOAT32;
    ck_assert_int_eq(taut__field_spec_parse(&c.field, &c.spec), TAUT_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "log: codes text"));
    taut__field_log.close(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *t = suite_case(suite, "log", 0);
    tcase_add_test(t, lines_of_a_server);
    tcase_add_test(t, templates);
    tcase_add_test(t, no_lines);
    tcase_add_test(t, numbers);
    tcase_add_loop_test(t, malformed, 0, sizeof lies / sizeof *lies);
    tcase_add_test(t, suits_text_only);
    return suite_run(suite);
}
