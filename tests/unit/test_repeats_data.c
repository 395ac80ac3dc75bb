/* test_repeats_data.c : the repeat audit on planted copies: counts, unique units, D' against its formula in float64, the warning. */
#include "compressors/dataset/repeats.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t seed = 3;
static uint32_t dice(uint32_t n) { return (uint32_t)((seed = taut__mix64(seed)) >> 32) % n; }

enum { WORDS = 120, TEXT = WORDS * 8 + 1 };

/* Text number `id`, with `edits` words replaced. */
static size_t text_of(char *dst, uint64_t id, uint32_t edits, uint64_t variant)
{
    size_t n = 0;
    for (uint32_t w = 0; w < WORDS; w++) {
        uint64_t h = taut__seed(id, w);
        if (w % (WORDS / (edits + 1)) == WORDS / (edits + 1) - 1 && edits) h = taut__seed(variant + 1000000, w);
        n += (size_t)snprintf(dst + n, TEXT - n, "%06x ", (unsigned)(h & 0xffffff));
    }
    return n;
}

typedef struct pile {
    char         path[32];
    taut_writer *w;
} pile;

static void begin(pile *p, taut_kind kind, taut_type type)
{
    taut_field          f[2] = {TAUT_FIELD_INIT, TAUT_FIELD_INIT};
    taut_writer_options o = TAUT_WRITER_INIT;
    int                 fd;
    strcpy(p->path, "/tmp/taut-repeats-XXXXXX");
    ck_assert((fd = mkstemp(p->path)) >= 0);
    close(fd);
    strcpy(f[0].name, "label");
    f[0].kind = TAUT_KIND_LABEL;
    strcpy(f[1].name, "text");
    f[1].kind = kind;
    f[1].type = type;
    f[1].variable = 1;
    o.samples_per_block = 7;
    ck_assert_int_eq(taut_writer_create(p->path, 2, f, &o, &p->w), TAUT_OK);
}

static void add(pile *p, const void *data, size_t bytes)
{
    uint8_t label = 0;
    ck_assert_int_eq(taut_writer_add(p->w, (const void *[]){&label, data}, (size_t[]){1, bytes}), TAUT_OK);
}

static taut_shard *end(pile *p)
{
    taut_shard *s;
    ck_assert_int_eq(taut_writer_finish(p->w), TAUT_OK);
    taut_writer_destroy(p->w);
    ck_assert_int_eq(taut_shard_open(p->path, &s), TAUT_OK);
    unlink(p->path);
    return s;
}

START_TEST(formula)
{
    ck_assert(taut__effective(100, 0) == 100);
    ck_assert_double_eq_tol(taut__effective(100, 4), 100 + 100 * 15.4 * (1 - exp(-4 / 15.4)), 1e-9);
    ck_assert_double_eq_tol(taut__effective(100, 1e9), 1640, 1e-6); /* no more than 1 + R* times what is unique */
    ck_assert_double_eq_tol(taut__effective(1e12, 3) / (4e12), 0.93145,
                            1e-4); /* four epochs are worth nearly four: their main finding */
}
END_TEST

/* 300 texts, 40 of them twice, 30 with a near copy (2 of 120 words), 20 with one that is too far (30 words), in two shards. */
START_TEST(copies)
{
    pile                 p[2];
    taut_shard          *s[2];
    taut__repeats_config c = TAUT__REPEATS_INIT;
    taut__repeats        r;
    char                 t[TEXT];
    double               each, unique;
    begin(&p[0], TAUT_KIND_TEXT, TAUT_U8);
    begin(&p[1], TAUT_KIND_TEXT, TAUT_U8);
    for (uint64_t i = 0; i < 300; i++) add(&p[i % 2], t, text_of(t, i, 0, 0));
    for (uint64_t i = 0; i < 40; i++) add(&p[dice(2)], t, text_of(t, i, 0, 0));
    for (uint64_t i = 100; i < 130; i++) add(&p[dice(2)], t, text_of(t, i, 1, i));
    for (uint64_t i = 200; i < 220; i++) add(&p[dice(2)], t, text_of(t, i, 30, i));
    s[0] = end(&p[0]), s[1] = end(&p[1]);
    each = WORDS * 7;
    ck_assert_int_eq(taut__repeats_audit(2, (const taut_shard *const *)s, &c, &r), TAUT_OK);
    ck_assert_str_eq(r.field, "text");
    ck_assert_str_eq(r.unit, "bytes");
    ck_assert_uint_eq(r.samples, 390);
    ck_assert_uint_eq(r.exact, 40);
    ck_assert_msg(r.near && r.near_more >= 29 && r.near_more <= 30, "%llu near",
                  (unsigned long long)r.near_more); /* each found with 0.99 */
    unique = each * (350 - (double)r.near_more);
    ck_assert(r.units == 390 * each && r.unique_exact == 350 * each && r.unique == unique);
    ck_assert_double_eq_tol(r.repeats, 390 * each / unique - 1, 1e-12);
    ck_assert_double_eq_tol(r.effective, unique + unique * 15.4 * (1 - exp(-r.repeats / 15.4)), 1e-6);
    ck_assert_double_eq_tol(r.effective_groups,
                            each * (350 - 2 * (double)r.near_more - 40) +
                                each * ((double)r.near_more + 40) * (1 + 15.4 * (1 - exp(-1 / 15.4))),
                            1e-6);
    ck_assert(r.effective_groups <= r.effective && !r.warn && r.most == 2);
    c.near = false, c.epochs = 4;
    ck_assert_int_eq(taut__repeats_audit(2, (const taut_shard *const *)s, &c, &r), TAUT_OK);
    ck_assert(!r.near && r.near_more == 0 && r.unique == 350 * each);
    ck_assert_double_eq_tol(r.repeats, 4 * 390 / 350.0 - 1, 1e-12);
    c.field = "nix";
    ck_assert_int_eq(taut__repeats_audit(2, (const taut_shard *const *)s, &c, &r), TAUT_E_INVALID);
    c.field = NULL, c.jaccard = 0;
    ck_assert_int_eq(taut__repeats_audit(2, (const taut_shard *const *)s, &c, &r), TAUT_E_RANGE);
    c.jaccard = 0.8, c.epochs = 0.5;
    ck_assert_int_eq(taut__repeats_audit(2, (const taut_shard *const *)s, &c, &r), TAUT_E_RANGE);
    taut_shard_close(s[0]);
    taut_shard_close(s[1]);
}
END_TEST

/* 1000 token sequences and three of them 60 times more, one of these with a different id somewhere: warned of. */
START_TEST(often)
{
    pile                 p;
    taut_shard          *s;
    taut__repeats_config c = TAUT__REPEATS_INIT;
    taut__repeats        r;
    uint16_t             ids[100];
    begin(&p, TAUT_KIND_TOKENS, TAUT_U16);
    for (uint64_t i = 0; i < 1000; i++) {
        for (uint32_t k = 0; k < 100; k++) ids[k] = (uint16_t)taut__seed(i, k);
        add(&p, ids, sizeof ids);
        for (int again = 0; i < 3 && again < 60; again++) {
            if (i == 2) ids[50] = (uint16_t)again;
            add(&p, ids, sizeof ids);
        }
    }
    add(&p, ids, 0);
    add(&p, ids, 0); /* empty ones are copies of each other */
    s = end(&p);
    ck_assert_int_eq(taut__repeats_audit(1, (const taut_shard *const *)&s, &c, &r), TAUT_OK);
    ck_assert_str_eq(r.unit, "tokens");
    ck_assert_uint_eq(r.exact, 121);
    ck_assert_msg(r.near_more >= 58 && r.near_more <= 60, "%llu near", (unsigned long long)r.near_more);
    ck_assert(r.units == 1180 * 100 && r.most == 61);
    ck_assert_uint_eq(r.often_groups, 3);
    ck_assert(r.warn);
    ck_assert_double_eq_tol(r.often_unique, 3 * 100 / r.unique, 1e-9);
    ck_assert_double_eq_tol(r.often_all, 183 / 1180.0, 0.003);
    taut_shard_close(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("repeats");
    TCase *t = suite_case(suite, "repeats", 60);
    tcase_add_test(t, formula);
    tcase_add_test(t, copies);
    tcase_add_test(t, often);
    return suite_run(suite);
}
