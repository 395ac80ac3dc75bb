/* test_select_data.c : methods that choose samples by their text, on mixes made here: what was planted is found; the same plan for any
 * number of ranks. SPEED=1 prints samples per second. */
#include "../support/suite.h"
#include "compressors/dataset/minhash.h"
#include "tests/support/select_case.h"
#include <math.h>
#include <time.h>
#include <zstd.h>

/* Share of pairs (marked, other) that the scores put in order. */
static double auc(const double *score, const texts *t)
{
    double right = 0, pairs = 0;
    for (size_t i = 0; i < t->n; i++)
        for (size_t k = 0; k < t->n; k++) {
            if (t->mark[i] != 1 || t->mark[k] != 0) continue;
            right += score[i] > score[k] ? 1 : score[i] == score[k] ? 0.5 : 0;
            pairs++;
        }
    return right / pairs;
}

/* One in six is of the target's topic; lengths differ by a factor of eight. */
typedef struct mix_case {
    texts       pool, target;
    taut_shard *shard;
} mix_case;
static mix_case make_mix(uint64_t seed, double own, bool same_length)
{
    mix_case m = {0};
    dice     d = {seed};
    for (int i = 0; i < 900; i++)
        add_text(&m.pool,
                 text_of(&d, i % 6 ? 2 + (unsigned)roll(&d, 3) : 1, own, same_length ? 1024 : 256 << roll(&d, 4)),
                 i % 6 == 0);
    for (int i = 0; i < 150; i++) add_text(&m.target, text_of(&d, 1, own, 1024), 0);
    mix_up(&m.pool, &d);
    m.shard = write_texts("pool.taut", &m.pool, 0, m.pool.n);
    taut_shard_close(write_texts("target.taut", &m.target, 0, m.target.n));
    return m;
}
static void free_mix(mix_case *m)
{
    taut_shard_close(m->shard);
    free_texts(&m->pool), free_texts(&m->target);
}
static double auc_of(mix_case *m, const char *rule, const char *budget)
{
    told                   t = {0};
    taut_data_plan_options o = listening(&t);
    taut__plan             p;
    double                 a;
    o.budget = budget, o.target = in_folder("target.taut");
    p = plan_inside(1, rule, 1, &m->shard, &o);
    ck_assert_uint_eq(t.scores, m->pool.n);
    ck_assert_uint_eq(taut__plan_samples(&p), 150);
    for (uint64_t i = 0; i + 1 < p.stage[0].listed; i++) ck_assert(p.stage[0].list[i] < p.stage[0].list[i + 1]);
    a = auc(t.score, &m->pool);
    ck_assert_int_eq(t.warnings, 0);
    free(t.score);
    taut__plan_free(&p);
    return a;
}

START_TEST(dsir_finds_the_topic)
{
    mix_case m = make_mix(11 + (uint64_t)_i, 0.25, false);
    double   mean = auc_of(&m, "dsir", "150"), sum = auc_of(&m, "dsir:norm=sum", "150");
    printf("dsir AUC %.4f, summed %.4f, gumbel %.4f\n", mean, sum, auc_of(&m, "dsir:sample=gumbel,noise=0.01", "150"));
    ck_assert_double_ge(mean, 0.98);
    free_mix(&m);
}
END_TEST

START_TEST(zipfit_finds_the_topic)
{
    mix_case m = make_mix(31 + (uint64_t)_i, 0.6, false);
    double   dictionary = auc_of(&m, "zipfit", "150"), ncd = auc_of(&m, "zipfit:by=ncd,most=4,level=6", "150"),
           alone = auc_of(&m, "zipfit:against=nothing", "150");
    printf("zipfit AUC %.4f, target's dictionary alone %.4f, ncd with 4 of the target %.4f\n", dictionary, alone, ncd);
    ck_assert_double_ge(dictionary, 0.97);
    ck_assert_double_ge(alone, 0.8);
    ck_assert_double_ge(ncd, 0.6); /* as published, and no better than that on words without phrases */
    free_mix(&m);
}
END_TEST

/* ---- dedup ---- */

/* Some words exchanged, so that the Jaccard index falls to what chance gives. */
static char *edited(dice *d, const char *text, double share)
{
    size_t n = strlen(text), at = 0;
    char  *to = malloc(2 * n + 64);
    for (size_t i = 0; i < n;) {
        size_t w = strcspn(text + i, " .");
        if (w && chance(d) < share) at += put_word(to + at, (unsigned)roll(d, WORDS));
        else memcpy(to + at, text + i, w), at += w;
        i += w;
        if (i < n) to[at++] = text[i++];
    }
    to[at] = 0;
    return to;
}

typedef struct near_case {
    texts  t;
    size_t origin[2000]; /* of each text: the number of the one that it was made of, or its own */
} near_case;

START_TEST(dedup_finds_what_is_near)
{
    /* texts without a word in common by chance: J of an edited copy is known by computing it */
    static near_case       c;
    taut__shingles         a = {0}, b = {0};
    dice                   d = {5 + (uint64_t)_i};
    taut_shard            *s[2];
    told                   t = {0};
    taut_data_plan_options o = listening(&t);
    size_t                 near = 0, missed = 0, wrong = 0, gone = 0;
    memset(&c, 0, sizeof c);
    for (size_t i = 0; i < 400; i++) c.origin[c.t.n] = i, add_text(&c.t, text_of(&d, (unsigned)i, 0.5, 900), 0);
    for (size_t i = 0; i < 400; i++)
        for (int k = 0; k < 2; k++) { /* most of them at J between 0.7 and 1 */
            c.origin[c.t.n] = i;
            add_text(&c.t, edited(&d, c.t.text[i], k ? chance(&d) * 0.045 : 0.02), 0);
        }
    s[0] = write_texts("near0.taut", &c.t, 0, 500);
    s[1] = write_texts("near1.taut", &c.t, 500, c.t.n);
    taut__plan p = plan_inside(1, "dedup", 2, s, &o);
    uint8_t    stays[2000] = {0};
    for (uint64_t i = 0; i < p.stage[0].listed; i++) stays[p.stage[0].list[i]] = 1;
    for (size_t i = 400; i < c.t.n; i++) {
        double best = 0;
        bool   kept_near = false;
        OK(taut__shingles_text(&a, (const uint8_t *)c.t.text[i], c.t.bytes[i], 5));
        for (size_t k = 0; k < i; k++) {
            if (c.origin[k] != c.origin[i]) continue;
            OK(taut__shingles_text(&b, (const uint8_t *)c.t.text[k], c.t.bytes[k], 5));
            double j = taut__jaccard(&a, &b);
            if (stays[k] && j > best) best = j;
            kept_near = kept_near || (stays[k] && j >= 0.8);
        }
        gone += !stays[i];
        wrong += !stays[i] && !kept_near; /* precision: what goes is near to something that stays */
        near += kept_near;
        missed += kept_near && stays[i];
        (void)best;
    }
    printf("dedup: %zu near, %zu missed, %zu gone, %zu wrongly\n", near, missed, gone, wrong);
    ck_assert_uint_ge(near, 200);
    ck_assert_uint_eq(wrong, 0);
    ck_assert_msg((double)missed <= 0.03 * (double)near, "%zu of %zu missed", missed, near);
    for (uint32_t ranks = 2; ranks <= 4; ranks += 2) {
        taut__plan q = plan_inside(ranks, "dedup", 2, s, &o);
        ck_assert_uint_eq(q.hash, p.hash);
        taut__plan_free(&q);
    }
    taut__plan_free(&p);
    taut__shingles_free(&a), taut__shingles_free(&b);
    taut_shard_close(s[0]), taut_shard_close(s[1]);
    free_texts(&c.t);
}
END_TEST

START_TEST(dedup_of_exact_copies)
{
    texts                  t = {0};
    dice                   d = {3};
    told                   heard = {0};
    taut_data_plan_options o = listening(&heard);
    for (int i = 0; i < 300; i++)
        add_text(&t, i % 3 == 2 ? strdup(t.text[roll(&d, (uint64_t)i)]) : text_of(&d, 1, 0.1, 300 + roll(&d, 40)), 0);
    add_bytes(&t, strdup(""), 0, 0), add_bytes(&t, strdup(""), 0, 0);
    taut_shard *s = write_texts("exact.taut", &t, 0, t.n);
    for (int near = 0; near < 2; near++) {
        taut__plan p = plan_inside(3, near ? "dedup" : "dedup:mode=exact", 1, &s, &o);
        size_t     different = 0;
        for (size_t i = 0; i < t.n; i++) {
            size_t k = 0;
            while (k < i && strcmp(t.text[k], t.text[i]) != 0) k++;
            different += k == i;
            bool listed = false;
            for (uint64_t x = 0; x < p.stage[0].listed; x++) listed = listed || p.stage[0].list[x] == i;
            ck_assert_int_eq(listed, k == i);
        }
        ck_assert_uint_eq(p.stage[0].listed, different);
        taut__plan_free(&p);
    }
    taut_shard_close(s);
    free_texts(&t);
}
END_TEST

/* ---- prior ---- */

static char *junk(dice *d, int kind)
{
    char  *t = malloc(1200);
    size_t n = 0;
    switch (kind) {
    case 0: /* random letters */
        while (n < 1000) t[n++] = roll(d, 6) ? (char)('a' + roll(d, 26)) : ' ';
        break;
    case 1: /* one phrase again and again */
        for (char *p = text_of(d, 1, 0, 60); n < 1000; n++) {
            t[n] = p[n % 60];
            if (n == 999) free(p);
        }
        break;
    case 2: /* numbers */
        while (n < 1000) n += (size_t)sprintf(t + n, "%llu ", (unsigned long long)roll(d, 1000000));
        break;
    case 3: /* base64 */
        for (; n < 1000; n++)
            t[n] =
                n % 77 == 76 ? '\n' : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[roll(d, 64)];
        break;
    default: /* one word */
        while (n < 1000) n += (size_t)sprintf(t + n, "%s ", "click");
    }
    t[n] = 0;
    return t;
}

START_TEST(prior_drops_junk)
{
    texts                  t = {0};
    dice                   d = {17 + (uint64_t)_i};
    told                   heard = {0};
    taut_data_plan_options o = listening(&heard);
    size_t                 junks = 0, clean = 0, junk_gone = 0, clean_gone = 0;
    for (int i = 0; i < 1500; i++)
        if (i % 5) add_text(&t, text_of(&d, (unsigned)roll(&d, 4), 0.3, 400 + roll(&d, 1600)), 0);
        else add_text(&t, junk(&d, (i / 5) % 5), 1);
    mix_up(&t, &d);
    taut_shard *s = write_texts("junk.taut", &t, 0, t.n);
    taut__plan  p = plan_inside(1, "prior", 1, &s, &o);
    uint8_t    *stays = calloc(t.n, 1);
    for (uint64_t i = 0; i < p.stage[0].listed; i++) stays[p.stage[0].list[i]] = 1;
    for (size_t i = 0; i < t.n; i++) {
        if (t.mark[i]) junks++, junk_gone += !stays[i];
        else clean++, clean_gone += !stays[i];
    }
    printf("prior: %.1f%% of junk gone, %.1f%% of the clean\n", 100.0 * (double)junk_gone / (double)junks,
           100.0 * (double)clean_gone / (double)clean);
    ck_assert_double_ge((double)junk_gone, 0.95 * (double)junks);
    ck_assert_double_le((double)clean_gone, 0.05 * (double)clean);
    free(stays);
    free(heard.score);
    taut__plan_free(&p);
    taut_shard_close(s);
    free_texts(&t);
}
END_TEST

/* ---- entropy ---- */

static double joint(const texts *t, const taut__stage *s)
{
    size_t     n = 0, size;
    char      *all, *out;
    ZSTD_CCtx *c = ZSTD_createCCtx();
    for (uint64_t i = 0; i < s->listed; i++) n += t->bytes[s->list[i]];
    all = malloc(n), out = malloc(ZSTD_compressBound(n));
    n = 0;
    for (uint64_t i = 0; i < s->listed; i++)
        memcpy(all + n, t->text[s->list[i]], t->bytes[s->list[i]]), n += t->bytes[s->list[i]];
    ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, 12); /* not the level or window that chose them */
    ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 27);
    size = ZSTD_compress2(c, out, ZSTD_compressBound(n), all, n);
    ZSTD_freeCCtx(c);
    free(all), free(out);
    return (double)n / (double)size;
}

/* A third of the samples share long passages with others that lie far away. */
START_TEST(entropy_sees_all_that_it_chose)
{
    texts                  t = {0};
    dice                   d = {23 + (uint64_t)_i};
    told                   heard = {0};
    taut_data_plan_options o = listening(&heard);
    char                  *passage[60];
    for (int i = 0; i < 60; i++) passage[i] = text_of(&d, 9, 1, 700);
    for (int i = 0; i < 1500; i++) {
        char *text = text_of(&d, (unsigned)roll(&d, 3), 0.5, 900);
        if (i % 3 == 0) memcpy(text, passage[roll(&d, 60)], 700);
        add_text(&t, text, i % 3 == 0);
    }
    taut_shard *s = write_texts("entropy.taut", &t, 0, t.n);
    o.budget = "20%";
    taut__plan ours = plan_inside(1, "entropy", 1, &s, &o), theirs = plan_inside(1, "entropy:by=published", 1, &s, &o),
               random = plan_inside(1, "static", 1, &s, &o);
    double a = joint(&t, &ours.stage[0]), b = joint(&t, &theirs.stage[0]);
    printf("entropy: joint ratio %.4f, published %.4f (%.1f%% less)\n", a, b, 100 * (1 - a / b));
    ck_assert_double_le(a, 0.97 * b);
    ck_assert_double_lt(heard.chosen, heard.random);
    for (int i = 0; i < 60; i++) free(passage[i]);
    taut__plan_free(&ours), taut__plan_free(&theirs), taut__plan_free(&random);
    taut_shard_close(s);
    free_texts(&t);
}
END_TEST

/* ---- softdedup ---- */

START_TEST(softdedup_weighs_the_common_less)
{
    texts                  t = {0};
    dice                   d = {41};
    told                   heard = {0};
    taut_data_plan_options o = listening(&heard);
    double                 sum = 0, common = 0, rare = 0, most = 0, least = 1e9;
    for (int i = 0; i < 600; i++)
        add_text(&t, i % 4 == 0 && i ? edited(&d, t.text[0], 0.05) : text_of(&d, (unsigned)roll(&d, 5), 0.5, 600),
                 i % 4 == 0);
    taut_shard *s = write_texts("soft.taut", &t, 0, t.n);
    taut__plan  p = plan_inside(2, "softdedup", 1, &s, &o);
    ck_assert_uint_eq(p.stage[0].listed, t.n);
    for (size_t i = 0; i < t.n; i++) {
        double w = (double)p.stage[0].weight[i];
        ck_assert_uint_eq(p.stage[0].list[i], i);
        sum += w;
        *(t.mark[i] ? &common : &rare) += w / (t.mark[i] ? 150 : 450);
        most = w > most ? w : most, least = w < least ? w : least;
    }
    ck_assert_double_eq_tol(sum / (double)t.n, 1, 1e-3);
    ck_assert_double_lt(common, 0.5 * rare);
    ck_assert_double_le(most, 10.01 * least);
    free(heard.score);
    taut__plan_free(&p);
    taut_shard_close(s);
    free_texts(&t);
}
END_TEST

/* ---- any number of ranks; chains ---- */

static const char *const rules[] = {
    "dsir:budget=100",
    "dsir:budget=30%,sample=gumbel,norm=sum,n=3",
    "zipfit:budget=77",
    "zipfit:budget=10%,by=ncd,most=3",
    "entropy:budget=200",
    "entropy:budget=150,by=published",
    "prior",
    "prior:budget=50%",
    "softdedup",
    "dedup",
    "dedup:mode=exact",
    "length",
    "curriculum",
    "curriculum:by=length,order=falling,bucket=7",
    "dedup|prior|dsir:budget=50%|zipfit:budget=60%|rs2:budget=20%",
    "static:budget=40%,strata=label|entropy:budget=10%|softdedup",
    "mix:shares=1:2,budget=300",
};

START_TEST(same_for_any_ranks)
{
    texts                  t = {0};
    dice                   d = {61};
    told                   heard = {0};
    taut_data_plan_options o = listening(&heard);
    taut_shard            *s[2];
    uint64_t               hash = 0;
    for (int i = 0; i < 420; i++)
        add_text(&t, i % 9 == 8 ? strdup(t.text[i - 5]) : text_of(&d, (unsigned)i % 5, 0.4, 100 + roll(&d, 500)),
                 i % 3);
    s[0] = write_texts("a.taut", &t, 0, 201);
    s[1] = write_texts("b.taut", &t, 201, t.n);
    char target[128];
    snprintf(target, sizeof target, "%s", in_folder("target.txt"));
    FILE *f = fopen(target, "w");
    for (int i = 0; i < 40; i++) {
        char *x = text_of(&d, 2, 0.4, 500);
        fputs(x, f);
        free(x);
    }
    fclose(f);
    o.target = target;
    for (uint32_t ranks = 1; ranks <= 7; ranks += ranks < 4 ? ranks : 3) {
        if (ranks == 4 && !suite_long()) continue;
        taut__plan p = plan_inside(ranks, rules[_i], 2, s, &o);
        if (ranks > 1) ck_assert_msg(p.hash == hash, "%s: another plan with %u ranks", rules[_i], ranks);
        hash = p.hash;
        taut__plan_free(&p);
    }
    free(heard.score);
    taut_shard_close(s[0]), taut_shard_close(s[1]);
    free_texts(&t);
}
END_TEST

/* ---- speed ---- */

START_TEST(speed)
{
    static const char *const rule[] = {"zipfit:budget=10%", "dsir:budget=10%",   "prior", "dedup",
                                       "softdedup",         "entropy:budget=10%"};
    texts                    t = {0};
    dice                     d = {71};
    told                     heard = {0};
    taut_data_plan_options   o = listening(&heard);
    if (!getenv("SPEED")) return;
    for (int i = 0; i < 20000; i++) add_text(&t, text_of(&d, (unsigned)i % 5, 0.4, 1024), 0);
    taut_shard *s = write_texts("speed.taut", &t, 0, t.n);
    char        target[128];
    snprintf(target, sizeof target, "%s", in_folder("target.txt"));
    FILE *f = fopen(target, "w");
    for (int i = 0; i < 500; i++) {
        char *x = text_of(&d, 2, 0.4, 1024);
        fputs(x, f);
        free(x);
    }
    fclose(f);
    o.target = target;
    for (size_t k = 0; k < sizeof rule / sizeof *rule; k++) {
        clock_t    begin = clock();
        taut__plan p = plan_inside(1, rule[k], 1, &s, &o);
        double     seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        printf("%-20s %.0f samples of 1 KiB per second of one core, reading included\n", rule[k],
               (double)t.n / seconds);
        taut__plan_free(&p);
    }
    free(heard.score);
    taut_shard_close(s);
    free_texts(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("select");
    TCase *c = suite_case(suite, "all", 300);
    int    seeds = suite_long() ? 4 : 1;
    tcase_add_checked_fixture(c, make_folder, remove_folder);
    tcase_add_loop_test(c, dsir_finds_the_topic, 0, seeds);
    tcase_add_loop_test(c, zipfit_finds_the_topic, 0, seeds);
    tcase_add_loop_test(c, dedup_finds_what_is_near, 0, seeds);
    tcase_add_test(c, dedup_of_exact_copies);
    tcase_add_loop_test(c, prior_drops_junk, 0, seeds);
    tcase_add_loop_test(c, entropy_sees_all_that_it_chose, 0, seeds);
    tcase_add_test(c, softdedup_weighs_the_common_less);
    tcase_add_loop_test(c, same_for_any_ranks, 0, sizeof rules / sizeof *rules);
    tcase_add_test(c, speed);
    return suite_run(suite);
}
