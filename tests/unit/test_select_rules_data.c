/* test_select_rules_data.c : what does not look at text: mixes, orders, pruning, vectors, scores; and what goes wrong, said in one
 * sentence that names file, line or sample, on all ranks. */
#include "../support/suite.h"
#include "compressors/dataset/sampler/sampler.h"
#include "tests/support/select_case.h"
#include <math.h>

static texts       some;
static taut_shard *shard[2];

/* 120 samples in two shards; labels 0, 1, 2 in turn. */
static void set_up(void)
{
    dice d = {7};
    make_folder();
    for (int i = 0; i < 120; i++) add_text(&some, text_of(&d, (unsigned)i % 5, 0.3, 60 + roll(&d, 400)), i % 3);
    shard[0] = write_texts("a.taut", &some, 0, 80);
    shard[1] = write_texts("b.taut", &some, 80, 120);
}
static void tear_down(void)
{
    taut_shard_close(shard[0]), taut_shard_close(shard[1]);
    free_texts(&some);
    remove_folder();
}

static taut__sampler *sampler_of(const taut__plan *p, const int64_t *labels)
{
    taut__sampler *s;
    OK(taut__sampler_create(p, 7, labels, &s));
    return s;
}

/* ---- mix ---- */

static void check_mix(const char *rule, const int64_t *labels, uint32_t sources, const uint64_t *want)
{
    told                   t = {0};
    taut_data_plan_options o = listening(&t);
    taut__plan             p = plan_inside(2, rule, 2, shard, &o);
    taut__sampler         *s = sampler_of(&p, labels);
    uint64_t               n = taut__plan_samples(&p), visits[120] = {0}, sample;
    for (uint64_t round = 0; round < 50; round++) {
        uint64_t got[8] = {0};
        for (uint64_t i = 0; i < n; i++) {
            float w;
            OK(taut__sampler_at(s, round, i, &sample, &w));
            ck_assert_float_eq(w, 1);
            visits[sample]++;
            got[labels ? labels[sample] : sample >= 80]++;
        }
        for (uint32_t c = 0; c < sources; c++) ck_assert_uint_eq(got[c], want[c]);
        for (uint32_t c = 0; c < sources; c++) { /* within a source, visits differ by one at most, at any time */
            uint64_t least = UINT64_MAX, most = 0;
            for (uint64_t i = 0; i < 120; i++) {
                if ((labels ? (uint64_t)labels[i] : (uint64_t)(i >= 80)) != c) continue;
                least = visits[i] < least ? visits[i] : least, most = visits[i] > most ? visits[i] : most;
            }
            ck_assert_uint_le(most - least, 1);
        }
    }
    taut__sampler_destroy(s);
    taut__plan_free(&p);
}

START_TEST(mixes)
{
    int64_t labels[120];
    for (int i = 0; i < 120; i++) labels[i] = i % 3;
    check_mix("mix:shares=1:3,budget=100", NULL, 2, (uint64_t[]){25, 75}); /* b has 40: nearly twice a round */
    check_mix("mix:shares=2:1", NULL, 2, (uint64_t[]){80, 40});
    check_mix("mix:shares=0:1,budget=37", NULL, 2, (uint64_t[]){0, 37});
    check_mix("mix:shares=1:1:0.5,field=label,budget=50", labels, 3, (uint64_t[]){20, 20, 10});
    check_mix("full|mix:shares=1:1:1,field=label,budget=10", labels, 3, (uint64_t[]){4, 3, 3});
}
END_TEST

/* ---- orders ---- */

START_TEST(orders)
{
    told                   t = {0};
    taut_data_plan_options o = listening(&t);
    taut__plan             p = plan_inside(2, "curriculum:by=length,bucket=10", 2, shard, &o);
    taut__sampler         *s = sampler_of(&p, NULL);
    uint64_t               before[120], sample;
    size_t                 moved = 0;
    for (uint64_t round = 0; round < 3; round++)
        for (uint64_t i = 0; i < 120; i++) {
            OK(taut__sampler_at(s, round, i, &sample, NULL));
            moved += round && before[i] != sample;
            before[i] = sample;
            if (i >= 10)
                ck_assert_uint_ge(
                    some.bytes[sample],
                    some.bytes[p.stage[0].list[i / 10 * 10 - 1]]); /* no sample before a whole easier bucket */
        }
    ck_assert_uint_gt(moved, 60);
    taut__sampler_destroy(s);
    taut__plan_free(&p);
    p = plan_inside(1, "length:bucket=16", 2, shard, &o);
    s = sampler_of(&p, NULL);
    ck_assert_double_lt(t.chosen, t.random); /* padding */
    size_t first_bucket[5], seen[120] = {0};
    for (uint64_t round = 0; round < 5; round++) {
        for (uint64_t i = 0; i < 120; i++) {
            uint64_t place = 0;
            OK(taut__sampler_at(s, round, i, &sample, NULL));
            seen[sample]++;
            while (p.stage[0].list[place] != sample) place++;
            if (i == 0) first_bucket[round] = place / 16;
            if (i < 112 && i % 16) {
                uint64_t other, at = 0;
                OK(taut__sampler_at(s, round, i / 16 * 16, &other, NULL));
                while (p.stage[0].list[at] != other) at++;
                ck_assert_uint_eq(place / 16, at / 16); /* a batch of 16 is one bucket */
            }
        }
    }
    for (int i = 0; i < 120; i++) ck_assert_uint_eq(seen[i], 5);
    ck_assert(first_bucket[0] != first_bucket[1] || first_bucket[1] != first_bucket[2] ||
              first_bucket[2] != first_bucket[3]);
    taut__sampler_destroy(s);
    taut__plan_free(&p);
}
END_TEST

/* ---- scores ---- */

static void write_scores(const char *name, const double *value)
{
    static const char *const column[] = {"loss", "el2n", "forgetting"};
    OK(taut_scores_save(in_folder(name), 2, (const taut_shard *const *)shard, 3, column, value));
}
static void value_of(double *v) /* loss rises with the number; the last ten are very hard */
{
    for (int i = 0; i < 120; i++)
        v[3 * i] = 0.01 * i + (i >= 110 ? 5 : 0), v[3 * i + 1] = 0.005 * ((i * 37) % 120), v[3 * i + 2] = i % 4;
}

START_TEST(scores)
{
    told                   t = {0};
    taut_data_plan_options o = listening(&t);
    double                 v[360];
    char                   path[128];
    uint64_t               sample;
    value_of(v);
    write_scores("s.txt", v);
    snprintf(path, sizeof path, "%s", in_folder("s.txt"));
    o.scores = path;
    /* el2n: the largest, without the share that is skipped; the shards of the plan in another order than those of the scores */
    taut__plan p = plan_inside(2, "el2n:budget=30", 2, (taut_shard *[]){shard[1], shard[0]}, &o);
    ck_assert_uint_eq(p.stage[0].listed, 30);
    for (uint64_t i = 0; i < 30; i++) {
        uint64_t place = p.stage[0].list[i], id = place < 40 ? place + 80 : place - 40;
        ck_assert_uint_ge((id * 37) % 120, 90);
    }
    ck_assert_double_gt(t.chosen, t.random);
    taut__plan_free(&p);
    p = plan_inside(1, "el2n:budget=30,skip=0.1", 2, shard, &o);
    for (uint64_t i = 0; i < 30; i++) ck_assert_uint_lt((p.stage[0].list[i] * 37) % 120, 108);
    for (uint64_t i = 0; i < 30; i++) ck_assert_uint_ge((p.stage[0].list[i] * 37) % 120, 78);
    taut__plan_free(&p);
    p = plan_inside(1, "forgetting:budget=30", 2, shard, &o);
    for (uint64_t i = 0; i < 30; i++) ck_assert_uint_eq(p.stage[0].list[i] % 4, 3);
    taut__plan_free(&p);
    p = plan_inside(1, "curriculum:by=loss,bucket=1,order=falling", 2, shard, &o);
    for (uint64_t i = 0; i < 120; i++) ck_assert_uint_eq(p.stage[0].list[i], 119 - i);
    taut__plan_free(&p);
    /* infobatch: the hard ones every round with weight 1, of the easy ones half, each once a pass, with weight 2 */
    p = plan_inside(3, "infobatch", 2, shard, &o);
    taut__sampler *s = sampler_of(&p, NULL);
    double         mean = 0;
    uint64_t       visits[120] = {0}, hard = 0;
    for (int i = 0; i < 120; i++) mean += v[3 * i] / 120;
    for (int i = 0; i < 120; i++) hard += v[3 * i] >= mean;
    ck_assert_uint_eq(taut__plan_samples(&p), hard + (120 - hard) / 2);
    for (uint64_t round = 0; round < 4; round++) {
        double weights = 0;
        for (uint64_t i = 0; i < taut__plan_samples(&p); i++) {
            float w;
            OK(taut__sampler_at(s, round, i, &sample, &w));
            visits[sample]++;
            weights += (double)w;
            if (v[3 * sample] >= mean) ck_assert_float_eq(w, 1);
            else ck_assert_float_gt(w, 1.9f);
        }
        ck_assert_double_eq_tol(weights, 120, 1e-3); /* unbiased: the weights of a round add up to all samples */
    }
    for (int i = 0; i < 120; i++) {
        if (v[3 * i] >= mean) ck_assert_uint_eq(visits[i], 4);
        else
            ck_assert_uint_le(visits[i],
                              2); /* a pass is two rounds; what is less than a part at its end waits for the next */
    }
    taut__sampler_destroy(s);
    taut__plan_free(&p);
}
END_TEST

/* ---- vectors ---- */

static taut_shard *write_vectors(const char *name, const float *v, size_t n, size_t dim)
{
    taut_field   f = field_named("embedding", "raw", TAUT_KIND_FLOAT, TAUT_FLOAT32);
    taut_writer *w;
    taut_shard  *s;
    f.ndim = 1, f.shape[0] = dim;
    OK(taut_writer_create(in_folder(name), 1, &f, NULL, &w));
    for (size_t i = 0; i < n; i++) OK(taut_writer_add(w, (const void *[]){v + i * dim}, (size_t[]){dim * sizeof *v}));
    OK(taut_writer_finish(w));
    taut_writer_destroy(w);
    OK(taut_shard_open(in_folder(name), &s));
    return s;
}

/* 20 clusters of 12; within one, four are nearly the same. */
START_TEST(vectors)
{
    enum { DIM = 19, N = 240 };
    static float           v[N * DIM];
    dice                   d = {9};
    told                   t = {0};
    taut_data_plan_options o = listening(&t);
    taut_shard            *s;
    uint64_t               hash = 0;
    for (int i = 0; i < N; i++)
        for (int k = 0; k < DIM; k++) {
            dice   c = {(uint64_t)(i % 20 * 100 + k + 1)}, u = {(uint64_t)(i % 20 * 7000 + k + 5)};
            double wide = i / 20 < 4 ? 0.003 * (chance(&d) - 0.5) + 0.2 * (chance(&u) - 0.5) : 1.2 * (chance(&d) - 0.5);
            v[i * DIM + k] = (float)(3 * (chance(&c) - 0.5) + wide);
        }
    s = write_vectors("v.taut", v, N, DIM);
    for (uint32_t ranks = 1; ranks <= 4; ranks++) { /* as many centres as clusters: one each */
        taut__plan p = plan_inside(ranks, "kcenter:budget=20", 1, &s, &o);
        uint8_t    there[20] = {0};
        size_t     clusters = 0;
        for (uint64_t i = 0; i < 20; i++)
            clusters += !there[p.stage[0].list[i] % 20], there[p.stage[0].list[i] % 20] = 1;
        ck_assert_uint_ge(clusters, 19);
        if (ranks > 1) ck_assert_uint_eq(p.hash, hash);
        hash = p.hash;
        taut__plan_free(&p);
    }
    ck_assert_double_lt(t.chosen, t.random);
    for (uint32_t ranks = 1; ranks <= 4; ranks++) {
        taut__plan p = plan_inside(ranks, "semdedup:eps=0.002,clusters=12", 1, &s, &o);
        uint8_t    stays[N] = {0};
        if (ranks > 1) ck_assert_uint_eq(p.hash, hash);
        hash = p.hash;
        for (uint64_t i = 0; i < p.stage[0].listed; i++) stays[p.stage[0].list[i]] = 1;
        for (int c = 0; c < 20; c++) {
            int twins = 0;
            for (int k = 0; k < 12; k++) {
                if (k < 4) twins += stays[k * 20 + c];
                else ck_assert_msg(stays[k * 20 + c], "sample %d went", k * 20 + c);
            }
            ck_assert_int_eq(twins, 1);
        }
        taut__plan_free(&p);
    }
    v[77 * DIM + 3] = NAN;
    taut_shard *bad = write_vectors("nan.taut", v, N, DIM);
    must_fail(2, "kcenter:budget=5", 1, &bad, &o, TAUT_E_INVALID, "sample 77 of");
    must_fail(1, "kcenter:budget=5", 2, shard, &o, TAUT_E_INVALID,
              "no float32 field that fits; its fields: text (text), label (label)");
    free(t.score);
    taut_shard_close(s), taut_shard_close(bad);
}
END_TEST

/* ---- what goes wrong ---- */

static void put_file(const char *name, const char *text)
{
    FILE *f = fopen(in_folder(name), "w");
    fputs(text, f);
    fclose(f);
}

START_TEST(complaints)
{
    static const struct {
        const char *rule, *says;
        taut_status s;
    } bad[] = {
        {"dsir:budget=10", "dsir: needs a target: --target FILE", TAUT_E_INVALID},
        {"zipfit", "zipfit: needs a budget, as in zipfit:budget=10%", TAUT_E_INVALID},
        {"el2n:budget=10", "el2n: needs scores: --scores FILE", TAUT_E_INVALID},
        {"curriculum:by=loss", "by=loss: needs scores", TAUT_E_INVALID},
        {"dedup:jaccard=1.5", "'jaccard=1.5': must be mode=near|exact, jaccard=0.1..1", TAUT_E_INVALID},
        {"dedup:budget=10", "'budget=10': must be mode", TAUT_E_INVALID},
        {"dedup:mode=maybe", "'mode=maybe'", TAUT_E_INVALID},
        {"dedup:bands", "'bands'", TAUT_E_INVALID},
        {"entropy:budget=200", "budget=200: must be 1..120", TAUT_E_RANGE},
        {"rs2:budget=50%|dedup", "put it before them", TAUT_E_UNSUPPORTED},
        {"length|rs2:budget=10%", "an order must be the last stage", TAUT_E_UNSUPPORTED},
        {"dedupe", "'dedupe': must be full, static, rs2, mix, list or a method", TAUT_E_INVALID},
        {"mix:shares=1:1:1,field=label|mix:shares=1:1", "put them before", TAUT_E_UNSUPPORTED},
        {"static:budget=50%,strata=nothere|dedup", "no integer field 'nothere'", TAUT_E_INVALID},
    };
    told                   t = {0};
    taut_data_plan_options o = listening(&t);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (uint32_t ranks = 1; ranks <= 3; ranks += 2)
            must_fail(ranks, bad[i].rule, 2, shard, &o, bad[i].s, bad[i].says);
    /* more ranks than samples, from the start and behind a stage */
    must_fail(7, "static:budget=5|dedup", 2, shard, &o, TAUT_E_RANGE, "dedup: 7 ranks for 5 samples");
    o.target = "/nowhere/target.txt";
    must_fail(2, "dsir:budget=10", 2, shard, &o, TAUT_E_IO, "/nowhere/target.txt: No such file");
    o.target = in_folder("empty.txt");
    put_file("empty.txt", "");
    must_fail(2, "dsir:budget=10", 2, shard, &o, TAUT_E_INVALID, "an empty target");
    o.target = NULL;
    o.field = "picture";
    must_fail(1, "dedup", 2, shard, &o, TAUT_E_INVALID, "called picture; its fields: text (text), label (label)");
}
END_TEST

/* Lines of a good file, one of them changed. */
START_TEST(bad_scores)
{
    told                   t = {0};
    taut_data_plan_options o = listening(&t);
    double                 v[360];
    char                   good[20000], text[40000], path[128];
    size_t                 n;
    FILE                  *f;
    value_of(v);
    write_scores("s.txt", v);
    f = fopen(in_folder("s.txt"), "r");
    n = fread(good, 1, sizeof good - 1, f);
    fclose(f);
    good[n] = 0;
    snprintf(path, sizeof path, "%s", in_folder("bad.txt"));
    o.scores = path;
    static const struct {
        const char *find, *put, *says;
        taut_status s;
    } change[] = {
        {"taut-scores 1", "taut-scores 2", "line 1: ", TAUT_E_VERSION}, /* "scores version 2" */
        {"taut-scores 1", "hello", "line 1: must be 'taut-scores 1'", TAUT_E_CORRUPT},
        {" 80 a.taut", " 81 a.taut", "line 2: scores of 81 samples of", TAUT_E_MISMATCH},
        {"columns", "rows", "line 4: must be 'shard", TAUT_E_CORRUPT},
        {"loss el2n", "loss", "more numbers than columns", TAUT_E_CORRUPT},
        {"0.01 0.185 1", "0.01 x 1", "line 6: '0.01 x 1': must be 3 numbers", TAUT_E_CORRUPT},
        {"0.01 0.185 1", "0.01 nan 1", "line 6", TAUT_E_CORRUPT},
        {"0.01 0.185 1\n", "", "line 124: only 119 scores: the shards have 120 samples", TAUT_E_MISMATCH},
        {"0.01 0.185 1\n", "0.01 0.185 1\n0.01 0.185 1\n", "line 125: more scores than the 120 samples",
         TAUT_E_MISMATCH},
        {"0.01 0.185 1", "0.01 0.186 1", "was changed after it was written", TAUT_E_CORRUPT},
        {"end ", "", "more scores than", TAUT_E_MISMATCH},
    };
    for (size_t i = 0; i < sizeof change / sizeof *change; i++) {
        char *at = strstr(good, change[i].find);
        ck_assert_ptr_nonnull(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, change[i].put, at + strlen(change[i].find));
        put_file("bad.txt", text);
        if (i == 0) must_fail(1, "el2n:budget=10", 2, shard, &o, TAUT_E_VERSION, "scores version 2");
        else must_fail(1 + (uint32_t)i % 3, "el2n:budget=10", 2, shard, &o, change[i].s, change[i].says);
    }
    snprintf(text, sizeof text, "%.*s", (int)(n / 2), good);
    put_file("bad.txt", text);
    must_fail(2, "el2n:budget=10", 2, shard, &o, TAUT_E_CORRUPT, "bad.txt: ");
    /* of other shards, and of more of them */
    put_file("bad.txt", good);
    must_fail(1, "el2n:budget=10", 1, shard, &o, TAUT_E_MISMATCH, "which is not among the shards of this plan");
    OK(taut_scores_save(in_folder("bad.txt"), 1, (const taut_shard *const *)shard, 1, (const char *const[]){"el2n"},
                        v));
    must_fail(1, "el2n:budget=10", 2, shard, &o, TAUT_E_MISMATCH, "no scores of shard");
    must_fail(1, "forgetting:budget=10", 1, shard, &o, TAUT_E_INVALID, "no column 'forgetting'; they have el2n");
    v[5] = NAN; /* of a run that diverged: nothing could read it back */
    ck_assert_int_eq(taut_scores_save(in_folder("nan.txt"), 1, (const taut_shard *const *)shard, 2,
                                      (const char *const[]){"loss", "el2n"}, v),
                     TAUT_E_INVALID);
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "sample 2, column 'el2n': nan: must be finite"));
}
END_TEST

START_TEST(overlap_is_warned_about)
{
    told                   t = {0};
    taut_data_plan_options o = listening(&t);
    dice                   d = {99};
    char                  *other = text_of(&d, 1, 0.3, 3000), path[128];
    FILE                  *f;
    snprintf(path, sizeof path, "%s", in_folder("target.txt"));
    o.target = path;
    f = fopen(path, "w");
    fputs(other, f);
    fclose(f);
    taut__plan p = plan_inside(3, "dsir:budget=10", 2, shard, &o);
    ck_assert_int_eq(t.warnings, 0);
    taut__plan_free(&p);
    int one = 3, two;
    while (some.bytes[one] < 300) one++;
    for (two = 90; some.bytes[two] < 300;) two++;
    char said[64];
    snprintf(said, sizeof said, "sample %d of ", one);
    f = fopen(path, "w"); /* two of the pool's samples, cut anywhere */
    fprintf(f, "%s%s%s%s", other, some.text[one], other, some.text[two]);
    fclose(f);
    p = plan_inside(3, "zipfit:budget=10", 2, shard, &o);
    ck_assert_int_eq(t.warnings, 1);
    ck_assert_msg(strstr(t.warning, "2 of its 120 samples") && strstr(t.warning, said), "%s", t.warning);
    taut__plan_free(&p);
    t.warnings = 0; /* the pool itself */
    snprintf(path, sizeof path, "%s", in_folder("a.taut"));
    p = plan_inside(1, "dsir:budget=10", 1, shard, &o);
    ck_assert_int_eq(t.warnings, 1);
    ck_assert_msg(strstr(t.warning, "80 of its 80 samples"), "%s", t.warning);
    taut__plan_free(&p);
    free(t.score);
    free(other);
}
END_TEST

static int stop(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    (void)what, (void)done, (void)total;
    return ++*(int *)ctx > 0;
}

START_TEST(stopped)
{
    int                    calls = 0;
    taut_data_plan_options o = TAUT_DATA_PLAN_INIT;
    o.progress = stop, o.progress_ctx = &calls;
    must_fail(1, "dedup", 2, shard, &o, TAUT_E_STATE, "dedup: stopped");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("select rules");
    TCase *c = suite_case(suite, "all", 120);
    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_test(c, mixes);
    tcase_add_test(c, orders);
    tcase_add_test(c, scores);
    tcase_add_test(c, vectors);
    tcase_add_test(c, complaints);
    tcase_add_test(c, bad_scores);
    tcase_add_test(c, overlap_is_warned_about);
    tcase_add_test(c, stopped);
    return suite_run(suite);
}
