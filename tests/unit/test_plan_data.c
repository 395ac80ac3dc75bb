/* test_plan_data.c : plans as text: what is written is read, what is wrong is named with its line; rules as people type
 * them; no text can hurt the parser. */
#include "compressors/dataset/plan/plan.h"
#include "../support/suite.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static taut__plan with_shards(void)
{
    taut__plan p = {.seed = 1, .rounds = 3, .window = 64};
    ck_assert_int_eq(taut__plan_add_shard(&p, "train 0.taut", 0xabcdef, 900), TAUT_OK);
    ck_assert_int_eq(taut__plan_add_shard(&p, "train 1.taut", UINT64_MAX, 100), TAUT_OK);
    return p;
}

static void same(const taut__plan *a, const taut__plan *b)
{
    ck_assert_uint_eq(a->shards, b->shards);
    ck_assert_uint_eq(a->stages, b->stages);
    ck_assert_uint_eq(a->seed, b->seed);
    ck_assert_uint_eq(a->rounds, b->rounds);
    ck_assert_uint_eq(a->window, b->window);
    ck_assert_uint_eq(a->hash, b->hash);
    for (size_t i = 0; i < a->shards; i++) {
        ck_assert_str_eq(a->shard[i].name, b->shard[i].name);
        ck_assert_uint_eq(a->shard[i].hash, b->shard[i].hash);
        ck_assert_uint_eq(a->shard[i].samples, b->shard[i].samples);
    }
    for (size_t i = 0; i < a->stages; i++) {
        const taut__stage *x = &a->stage[i], *y = &b->stage[i];
        ck_assert(x->kind == y->kind && x->of == y->of && x->samples == y->samples && x->replace == y->replace);
        ck_assert_str_eq(x->strata, y->strata);
        ck_assert_int_eq(x->list != NULL, y->list != NULL);
        ck_assert_int_eq(x->weight != NULL, y->weight != NULL);
        ck_assert_uint_eq(x->listed, y->listed);
        ck_assert_uint_eq(x->bucket, y->bucket);
        ck_assert(x->order == y->order && x->shares == y->shares);
        ck_assert_str_eq(x->by, y->by);
        ck_assert_mem_eq(x->share, y->share, x->shares * sizeof *x->share);
        for (uint64_t k = 0; x->list && k < x->listed; k++) {
            ck_assert_uint_eq(x->list[k], y->list[k]);
            if (x->weight) ck_assert_mem_eq(&x->weight[k], &y->weight[k], sizeof(float));
        }
    }
}

static taut_status write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    return TAUT_OK;
}

static const char *const good[] = {
    "full",
    "rs2:budget=10%",
    "rs2:budget=7,replace=yes",
    "static:budget=0.1%",
    "static:budget=50%,strata=label|rs2:budget=20%,strata=label",
    "full|full | full",
    "list:file=LIST",
    "list:file=LIST|rs2:budget=2",
    "mix:shares=2:1",
    "mix:shares=0.5:0,budget=30",
    "list:file=LIST|mix:shares=3:1:0.25,field=label,budget=50",
    "mix:shares=1:1|rs2:budget=7",
};

START_TEST(round_trip)
{
    char                path[] = "/tmp/taut-plan-XXXXXX", rule[200], *text, *again;
    const char         *at = strstr(good[_i], "LIST");
    taut__plan          p = with_shards(), q;
    taut__plan_defaults d = {0};
    size_t              n, m;
    close(mkstemp(path));
    write_file(path, "999 5-9=0.25\n\n# a comment\n10-40 3=0.1 1=123456.75 # and one here\n100 200 300 400 500 600 700 "
                     "800 900 901 903 905 907\n");
    snprintf(rule, sizeof rule, "%.*s%s%s", at ? (int)(at - good[_i]) : 200, good[_i], at ? path : "",
             at ? at + 4 : "");
    ck_assert_msg(taut__plan_add_rule(&p, rule, &d) == TAUT_OK, "%s", taut_last_error());
    ck_assert_msg(taut__plan_print(&p, &text, &n) == TAUT_OK, "%s", taut_last_error());
    ck_assert_msg(taut__plan_parse(&q, "P", text, n) == TAUT_OK, "%s\n%s", taut_last_error(), text);
    same(&p, &q);
    ck_assert_int_eq(taut__plan_print(&q, &again, &m), TAUT_OK);
    ck_assert_str_eq(text, again);
    ck_assert_msg(taut__plan_save(&p, path) == TAUT_OK, "%s", taut_last_error());
    taut__plan_free(&q);
    ck_assert_int_eq(taut__plan_load(&q, path), TAUT_OK);
    same(&p, &q);
    unlink(path);
    taut__free(text);
    taut__free(again);
    taut__plan_free(&p);
    taut__plan_free(&q);
}
END_TEST

/* Names are paths, and these are long, or not what one expects of a name. */
START_TEST(long_names)
{
    enum { LONGEST = 4095 };
    static const size_t      lengths[] = {1, 400, 470, 471, 472, 511, 512, 513, 1023, 4000, LONGEST, 8, 8, 8};
    static const char *const odd[] = {"  a.taut", "a\nb.taut", "\ta  b.t "};
    for (size_t i = 0; i < COUNT(lengths); i++) {
        taut__plan          p = {.seed = 1, .rounds = 1}, q;
        taut__plan_defaults d = {0};
        char                name[LONGEST + 1], *text;
        size_t              n;
        memset(name, 'x', lengths[i]);
        name[lengths[i]] = 0;
        if (lengths[i] == 8) memcpy(name, odd[COUNT(lengths) - 1 - i], 8);
        ck_assert_int_eq(taut__plan_add_shard(&p, name, 7, 100), TAUT_OK);
        ck_assert_int_eq(taut__plan_add_shard(&p, name, 8, 100), TAUT_OK);
        ck_assert_int_eq(taut__plan_add_rule(&p, "rs2:budget=10%", &d), TAUT_OK);
        ck_assert_msg(taut__plan_print(&p, &text, &n) == TAUT_OK, "%zu: %s", lengths[i], taut_last_error());
        ck_assert_msg(taut__plan_parse(&q, "P", text, n) == TAUT_OK, "%zu: %s", lengths[i], taut_last_error());
        same(&p, &q);
        taut__free(text);
        taut__plan_free(&p);
        taut__plan_free(&q);
    }
}
END_TEST

START_TEST(budgets)
{
    static const struct {
        const char *text;
        uint64_t    samples;
    } budget[] = {{"10%", 100},     {"0.05%", 1},   {"0.15%", 2}, {"0.001%", 1}, {"100%", 1000},
                  {"99.95%", 1000}, {"33.3%", 333}, {"1", 1},     {"1000", 1000}};
    for (size_t i = 0; i < COUNT(budget); i++) {
        taut__plan          p = with_shards();
        taut__plan_defaults d = {.budget = budget[i].text, .strata = "label", .replace = true};
        ck_assert_msg(taut__plan_add_rule(&p, "rs2", &d) == TAUT_OK, "%s", taut_last_error());
        ck_assert_uint_eq(taut__plan_samples(&p), budget[i].samples);
        ck_assert_str_eq(taut__plan_strata(&p), "label");
        ck_assert(p.stage[0].replace);
        taut__plan_free(&p);
    }
}
END_TEST

static const struct {
    const char *rule, *says;
} bad_rule[] = {
    {"", "must be full, static, rs2, mix, list"},
    {"rs3:budget=10%", "'rs3:budget=10%': must be full, static, rs2, mix, list"},
    {"rs2", "needs a budget"},
    {"static:budget=0%", "above 0%"},
    {"static:budget=101%", "100% at most"},
    {"static:budget=nan%", "a share as in 10%"},
    {"static:budget=1e1%", "above 0%"},
    {"static:budget=1.0000000001%", "9 decimals"},
    {"static:budget=5%%", "above 0%"},
    {"static:budget=99999999999999999999%", "above 0%"},
    {"static:budget=-5%", "a share as in 10%"},
    {"static:budget=0", "1..1000"},
    {"static:budget=1001", "1..1000"},
    {"static:budget=50%|rs2:budget=501", "1..500"},
    {"static:budget=0.1", "a share as in 10%"},
    {"static:budget=99999999999999999999", "a share as in 10%"},
    {"static:budget=10%,replace=yes", "must be budget=10% or strata=FIELD"},
    {"rs2:budget=10%,replace=maybe", "replace=yes or replace=no"},
    {"rs2:budget=10%,", NULL},
    {"rs2:budget=", "must be budget=10%"},
    {"full:budget=10%", "without keys"},
    {"full|", "must be full"},
    {"list", "needs file=PATH"},
    {"list:file=/nowhere/list", "/nowhere/list: No such file"},
    {"rs2:budget=50%|static:budget=50%,strata=label", "after rs2"},
    {"static:budget=50%,strata=a|static:budget=50%,strata=b", "one field"},
    {"full|full|full|full|full|full|full|full|full", "more than 8 stages"},
    {"dedup",
     "'dedup': must be full, static, rs2, mix, list, joined by |"}, /* methods that look at samples are not known here */
    {"mix", "needs shares"},
    {"mix:shares=1", "1 shares for 2 shards"},
    {"mix:shares=1:x", "numbers of 0..1000 joined by ':'"},
    {"mix:shares=0:0", "add up to 0"},
    {"mix:shares=1:1:", "numbers of 0..1000"},
    {"mix:shares=1:1001", "numbers of 0..1000"},
    {"mix:shares=1:1,strata=label", "must be shares=2:1, field=FIELD or budget"},
    {"rs2:budget=10%|mix:shares=1:1", "put them before rs2"},
};

START_TEST(bad_rules)
{
    taut__plan          p = with_shards();
    taut__plan_defaults d = {0};
    taut_status         s = taut__plan_add_rule(&p, bad_rule[_i].rule, &d);
    if (!bad_rule[_i].says) {
        ck_assert_int_eq(s, TAUT_OK); /* a comma at the end does no harm */
    } else {
        ck_assert_int_ne(s, TAUT_OK);
        ck_assert_msg(strstr(taut_last_error(), bad_rule[_i].says) != NULL, "%s: %s", bad_rule[_i].rule,
                      taut_last_error());
        ck_assert_uint_eq(p.stages, 0);
    }
    taut__plan_free(&p);
}
END_TEST

static const struct {
    const char *list, *says;
} bad_list[] = {
    {"", "empty"},
    {"1 2\n3 x\n", "line 2: 'x'"},
    {"1000", "line 1: place 1000: must be 0..999"},
    {"5-", "'5-'"},
    {"9-5", "'9-5'"},
    {"1=0", "weight '0'"},
    {"1=nan", "weight 'nan'"},
    {"1=1e-60", "weight"},
    {"1=", "weight ''"},
    {"7 5-9", "place 7 is there twice"},
    {"0-99999999999", "must be 0..999"},
    {"-1", "'-1'"},
    {"0-999 0-999 1", "twice"},
};

START_TEST(bad_lists)
{
    char                path[] = "/tmp/taut-list-XXXXXX", rule[100];
    taut__plan          p = with_shards();
    taut__plan_defaults d = {0};
    close(mkstemp(path));
    write_file(path, bad_list[_i].list);
    snprintf(rule, sizeof rule, "list:file=%s", path);
    ck_assert_int_ne(taut__plan_add_rule(&p, rule, &d), TAUT_OK);
    ck_assert_msg(strstr(taut_last_error(), bad_list[_i].says) && strstr(taut_last_error(), path), "%s: %s",
                  bad_list[_i].list, taut_last_error());
    unlink(path);
    taut__plan_free(&p);
}
END_TEST

#define HEAD "taut-plan 1\nshard 0000000000000001 1000 a.taut\nseed 1\nrounds 2\nwindow 0\n"
static const struct {
    const char *text, *says;
    bool        sealed; /* an end line with the right hash is added */
} bad_text[] = {
    {"", "cut off", false},
    {"hello\n", "line 1: must be 'taut-plan 2'", false},
    {"taut-plan 3\n", "line 1: plan version 3: this library reads 1 to 2", false},
    {"taut-plan x\n", "line 1", false},
    {HEAD "stage full of 1000 keep 1000\n", "cut off: no line 'end' after line 6", false},
    {HEAD "stage full of 1000 keep 1000\nend 0000000000000000\n", "line 7: the plan was changed", false},
    {HEAD "stage full of 1000 keep 1000\nend 12\n", "line 7: hash '12': must be 16", false},
    {HEAD "stage full of 1000 keep 1000", "line 6: the plan ends in the middle", false},
    {HEAD "stage full of 1000 keep 999\n", "line 6: plan: full: 999 samples: must be all 1000", true},
    {HEAD "stage rs2 of 999 keep 9 replace no\n", "line 6: plan: stage 1 takes 999 samples, but 1000 come in", true},
    {HEAD "stage rs2 of 1000 keep 0 replace no\n", "line 6: plan: stage 1: 0 samples: must be 1..1000", true},
    {HEAD "stage rs2 of 1000 keep 1001 replace no\n", "1001 samples: must be 1..1000", true},
    {HEAD "stage rs2 of 1000 keep 10 replace perhaps\n", "line 6: 'replace perhaps'", true},
    {HEAD "stage magic of 1000 keep 10\n", "line 6: stage 'magic': must be full, static, list, rs2, mix or prune",
     true},
    {HEAD "stage list of 1000 keep 3\nindex 1 2\n", "2 places: must be the 3", true},
    {HEAD "stage list of 1000 keep 2\nindex 1 2000\n", "line 7: place 2000: must be 0..999", true},
    {HEAD "stage list of 1000 keep 2\nindex 1 1\n", "place 1 is there twice", true},
    {HEAD "stage list of 1000 keep 2\n", "empty list", true},
    {HEAD "index 1 2\n", "line 6: index without", true},
    {HEAD "stage prune of 1000 keep 997\nindex 1 2 3\n", "must keep all others and at least 1", true},
    {HEAD "stage prune of 1000 keep 998\n", "empty list", true},
    {HEAD "stage list of 1000 keep 2 order kept\nindex 1 2\n", "order: of a list, with buckets of 1", true},
    {HEAD "stage list of 1000 keep 2 order odd bucket 2\nindex 1 2\n", "line 6: 'order odd'", true},
    {HEAD "stage list of 1000 keep 2 by x order kept bucket 2\nindex 1 2\nstage full of 2 keep 2\n",
     "line 8: plan: stage 2 stands behind an order (x)", true},
    {HEAD "stage mix of 1000 keep 9\n", "1..64 shares", true},
    {HEAD "stage mix of 1000 keep 9 shares 1:2\n", "2 shares for 1 shards", true},
    {HEAD "stage mix of 1000 keep 9 shares 1:\n", "'shares 1:'", true},
    {HEAD "stage full of 1000 keep 1000 by x\n", "by x: must be one word, of list and prune only", true},
    {HEAD "seed 2\n", "line 6: seed for the second time", true},
    {HEAD "banana\n", "line 6: 'banana': must be shard, seed", true},
    {HEAD, "no stage", true},
    {"taut-plan 1\nseed 1\nrounds 1\nwindow 0\nstage full of 0 keep 0\n", "line 5", true},
    {"taut-plan 1\nshard 0000000000000001 1000 a\nseed 1\nwindow 0\nstage full of 1000 keep 1000\n", "no line rounds",
     true},
    {"taut-plan 1\nshard 1 1000 a\n", "line 2: hash '1'", true},
    {"taut-plan 1\nshard 0000000000000001 x a\n", "line 2: samples 'x'", true},
    {"taut-plan 1\nshard 0000000000000001 0 a\n", "line 2: plan: shard a: 0 samples", true},
    {"taut-plan 1\nshard 0000000000000001 5\n", "line 2: the shard has no name", true},
    {"taut-plan 1\nshard 0000000000000001 5 a\nshard 0000000000000001 5 b\n", "line 3: plan: shard b has the same hash",
     true},
    {"taut-plan 1\nshard 0000000000000001 9223372036854775807 a\n", "line 2", true},
    {"taut-plan 1\nshard 0000000000000001 1000 a\nseed 1\nrounds 99999999999999999\nwindow 0\nstage full of 1000 keep "
     "1000\n",
     "rounds of 1000 samples", true},
    {"taut-plan 1\nshard 0000000000000001 1000 a\nseed -1\n", "line 3: seed '-1'", true},
};

static char *seal(const char *text, size_t *n)
{
    char *all = malloc(strlen(text) + 64);
    *n = (size_t)sprintf(all, "%send %016llx\n", text, (unsigned long long)XXH64(text, strlen(text), 0));
    return all;
}

START_TEST(bad_texts)
{
    taut__plan  p;
    size_t      n = strlen(bad_text[_i].text);
    char       *text = bad_text[_i].sealed ? seal(bad_text[_i].text, &n) : strdup(bad_text[_i].text);
    taut_status s = taut__plan_parse(&p, "P.plan", text, n);
    ck_assert_int_ne(s, TAUT_OK);
    ck_assert_msg(strstr(taut_last_error(), bad_text[_i].says) && strncmp(taut_last_error(), "P.plan: ", 8) == 0,
                  "%s\nsays: %s\nwanted: %s", bad_text[_i].text, taut_last_error(), bad_text[_i].says);
    ck_assert_uint_eq(p.shards, 0);
    free(text);
}
END_TEST

/* A few places of a set as large as sets may be take no memory for the rest; and twice is twice. */
START_TEST(few_of_very_many)
{
    static const struct {
        const char *index;
        bool        good;
    } list[] = {
        {"5 2305843009213693951 7", true}, {"5 7 5", false}, {"2305843009213693951 0 2305843009213693951", false}};
    for (size_t i = 0; i < COUNT(list); i++) {
        char       text[400], *sealed;
        size_t     n;
        taut__plan p;
        snprintf(text, sizeof text,
                 "taut-plan 1\nshard 00000000000000ff 2305843009213693952 x\nseed 1\nrounds 1\nwindow 0\nstage list of "
                 "2305843009213693952 keep 3\nindex %s\n",
                 list[i].index);
        sealed = seal(text, &n);
        taut_status s = taut__plan_parse(&p, "P", sealed, n);
        ck_assert_msg((s == TAUT_OK) == list[i].good, "%s: %s", list[i].index, taut_last_error());
        if (s != TAUT_OK) ck_assert_ptr_nonnull(strstr(taut_last_error(), "is there twice"));
        taut__plan_free(&p);
        free(sealed);
    }
}
END_TEST

/* Comments, empty lines, another order of the settings. */
START_TEST(hand_written)
{
    static const char *const text =
        "taut-plan 1\n# mine\n\nwindow 4\nrounds 1\nseed 18446744073709551615\nshard 00000000000000ff 10 my data.taut\n"
        "stage list of 10 keep 3\nindex 9\nindex 0-1=2.5\nstage static of 3 keep 2\n";
    size_t     n;
    char      *sealed = seal(text, &n);
    taut__plan p;
    ck_assert_msg(taut__plan_parse(&p, "P", sealed, n) == TAUT_OK, "%s", taut_last_error());
    ck_assert_str_eq(p.shard[0].name, "my data.taut");
    ck_assert_uint_eq(p.stages, 2);
    ck_assert_uint_eq(taut__plan_samples(&p), 2);
    ck_assert_float_eq(p.stage[0].weight[2], 2.5f);
    taut__plan_free(&p);
    free(sealed);
}
END_TEST

/* Bytes changed, lost or doubled anywhere: refused, or (in a sealed text) at least a plan that checks. No crash. */
START_TEST(damaged)
{
    static const char *const text = HEAD "stage list of 1000 keep 12 by dsir:n=3\nindex 1-10=0.5 999\nindex 500\nstage "
                                         "rs2 of 12 keep 6 replace yes strata label\n";
    size_t                   n;
    char                    *sealed = seal(text, &n);
    int                      accepted = 0;
    for (uint64_t k = 0; k < 6000; k++) {
        char      *copy = malloc(2 * n);
        size_t     m = n, at = taut__mix64(k) % n;
        taut__plan p;
        memcpy(copy, sealed, n);
        if (k % 3 == 0) copy[at] = (char)(copy[at] ^ (1 << (taut__mix64(k + 1) % 8)));
        if (k % 3 == 1) memmove(copy + at, copy + at + 1, --m - at);
        if (k % 3 == 2) memmove(copy + at + 1, copy + at, m++ - at);
        if (k % 2) { /* with a hash that fits */
            char *end = NULL, *again;
            copy[m] = 0;
            for (char *c = copy; (c = strstr(c, "\nend ")) != NULL; c++) end = c;
            if (end) end[1] = 0;
            again = seal(copy, &m);
            free(copy);
            copy = again;
        }
        if (taut__plan_parse(&p, "P", copy, m) == TAUT_OK) accepted += k % 2 == 0;
        taut__plan_free(&p);
        free(copy);
    }
    ck_assert_int_le(accepted, 6); /* unsealed: only what changes nothing, as two equal bytes swapped */
    free(sealed);
}
END_TEST

START_TEST(files)
{
    taut__plan p;
    ck_assert_int_eq(taut__plan_load(&p, "/nowhere/p.plan"), TAUT_E_IO);
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "/nowhere/p.plan"));
    ck_assert_int_eq(taut__plan_load(&p, "/tmp"), TAUT_E_INVALID);
    p = with_shards();
    ck_assert_int_eq(taut__plan_save(&p, "/tmp/x.plan"), TAUT_E_INVALID); /* no stage */
    ck_assert_int_eq(taut__plan_add_rule(&p, "full", &(taut__plan_defaults){0}), TAUT_OK);
    ck_assert_int_eq(taut__plan_save(&p, "/nowhere/p.plan"), TAUT_E_IO);
    taut__plan_free(&p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("data plan");
    TCase *t = suite_case(s, "all", 60);
    tcase_add_loop_test(t, round_trip, 0, (int)COUNT(good));
    tcase_add_test(t, budgets);
    tcase_add_test(t, long_names);
    tcase_add_test(t, few_of_very_many);
    tcase_add_loop_test(t, bad_rules, 0, (int)COUNT(bad_rule));
    tcase_add_loop_test(t, bad_lists, 0, (int)COUNT(bad_list));
    tcase_add_loop_test(t, bad_texts, 0, (int)COUNT(bad_text));
    tcase_add_test(t, hand_written);
    tcase_add_test(t, damaged);
    tcase_add_test(t, files);
    return suite_run(s);
}
