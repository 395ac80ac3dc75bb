/* select_case.h : made-up texts with known properties, shards of them, and plans by ranks that are threads. In a header, because the tests'
 * support library is also built without zstd. */
#ifndef TAUT_TEST_SELECT_CASE_H
#define TAUT_TEST_SELECT_CASE_H

#include "comm/base/base.h"
#include "comm/taut_data.h"
#include "compressors/dataset/plan/plan.h"
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- random text ---- */
typedef struct dice {
    uint64_t state;
} dice;
static inline uint64_t roll(dice *d, uint64_t n) { return (d->state = taut__mix64(d->state)) % n; }
static inline double   chance(dice *d) { return (double)(roll(d, 1 << 30)) / (1 << 30); }

enum { WORDS = 3000 };
/* A rank in 0..WORDS-1, about as often as 1/(rank+3). */
static inline unsigned zipf(dice *d)
{
    static double sum[WORDS + 1];
    unsigned      low = 0, high = WORDS;
    if (sum[WORDS] == 0)
        for (unsigned i = 0; i < WORDS; i++) sum[i + 1] = sum[i] + 1.0 / (i + 3);
    for (double x = chance(d) * sum[WORDS]; high - low > 1;) {
        unsigned middle = (low + high) / 2;
        if (sum[middle] <= x) low = middle;
        else high = middle;
    }
    return low;
}
static inline size_t put_word(char *to, unsigned word) /* its spelling: two to seven letters */
{
    static const char vowel[] = "aeiou", rest[] = "bcdfghklmnprst";
    uint64_t          h = taut__mix64(word + 77);
    size_t            n = 2 + h % 6;
    for (size_t i = 0; i < n; i++, h = taut__mix64(h)) to[i] = i % 2 ? vowel[h % 5] : rest[h % 14];
    return n;
}
/* Words of a topic: a share `own` by the topic's own frequencies, the others by the language's. */
static inline char *text_of(dice *d, unsigned topic, double own, size_t bytes)
{
    char  *t = malloc(bytes + 16);
    size_t n = 0;
    while (n < bytes) {
        unsigned word = zipf(d);
        if (chance(d) < own) word = (unsigned)(taut__mix64(word * 131u + topic * 7919u) % WORDS);
        n += put_word(t + n, word);
        t[n++] = roll(d, 12) ? ' ' : '.';
    }
    t[bytes] = 0;
    return t;
}

/* ---- sets of texts ---- */
typedef struct texts {
    char  **text;
    size_t *bytes, n, room;
    int    *mark; /* whatever the test wants to know later */
} texts;
static inline void add_bytes(texts *t, char *text, size_t bytes, int mark)
{
    if (t->n == t->room) {
        t->room = t->room ? 2 * t->room : 64;
        t->text = realloc(t->text, t->room * sizeof *t->text);
        t->bytes = realloc(t->bytes, t->room * sizeof *t->bytes);
        t->mark = realloc(t->mark, t->room * sizeof *t->mark);
    }
    t->text[t->n] = text, t->bytes[t->n] = bytes, t->mark[t->n++] = mark;
}
static inline void add_text(texts *t, char *text, int mark) { add_bytes(t, text, strlen(text), mark); }
static inline void mix_up(texts *t, dice *d)
{
    for (size_t i = t->n; i > 1; i--) {
        size_t k = roll(d, i);
        char  *text = t->text[k];
        size_t bytes = t->bytes[k];
        int    mark = t->mark[k];
        t->text[k] = t->text[i - 1], t->bytes[k] = t->bytes[i - 1], t->mark[k] = t->mark[i - 1];
        t->text[i - 1] = text, t->bytes[i - 1] = bytes, t->mark[i - 1] = mark;
    }
}
static inline void free_texts(texts *t)
{
    for (size_t i = 0; i < t->n; i++) free(t->text[i]);
    free(t->text), free(t->bytes), free(t->mark);
    memset(t, 0, sizeof *t);
}

/* ---- shards ---- */
static char               test_folder[] = "/tmp/taut-select-XXXXXX";
static inline const char *in_folder(const char *name)
{
    static __thread char path[4][128];
    static __thread int  k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", test_folder, name);
    return path[k];
}
#define OK(call) ck_assert_msg((call) == TAUT_OK, "%s", taut_last_error())
static inline taut_field field_named(const char *name, const char *codec, taut_kind kind, taut_type type)
{
    taut_field f = TAUT_FIELD_INIT;
    snprintf(f.name, sizeof f.name, "%s", name);
    snprintf(f.codec, sizeof f.codec, "%s", codec);
    f.kind = kind, f.type = type;
    return f;
}
/* Texts from..to-1 as field "text", and their marks as field "label". */
static inline taut_shard *write_texts(const char *name, const texts *t, size_t from, size_t to)
{
    taut_field          f[2] = {field_named("text", "zstd:1", TAUT_KIND_BYTES, TAUT_U8),
                                field_named("label", "raw", TAUT_KIND_LABEL, TAUT_U8)};
    taut_writer_options o = TAUT_WRITER_INIT;
    taut_writer        *w;
    taut_shard         *s;
    f[0].kind = TAUT_KIND_TEXT, f[0].variable = 1;
    o.block_bytes = 16384;
    OK(taut_writer_create(in_folder(name), 2, f, &o, &w));
    for (size_t i = from; i < to; i++) {
        uint8_t label = (uint8_t)t->mark[i];
        OK(taut_writer_add(w, (const void *[]){t->text[i], &label}, (size_t[]){t->bytes[i], 1}));
    }
    OK(taut_writer_finish(w));
    taut_writer_destroy(w);
    OK(taut_shard_open(in_folder(name), &s));
    return s;
}

/* ---- plans ---- */
typedef struct told { /* what a plan's stages said */
    char   warning[512], criterion[128];
    double chosen, random, *score;
    size_t scores;
    int    warnings;
} told;
static inline void hear_warning(void *ctx, const char *text)
{
    told *t = ctx;
    t->warnings++;
    snprintf(t->warning, sizeof t->warning, "%s", text);
}
static inline void hear_stage(void *ctx, const taut_data_stage_report *r)
{
    told *t = ctx;
    snprintf(t->criterion, sizeof t->criterion, "%s", r->criterion ? r->criterion : "");
    t->chosen = r->chosen, t->random = r->random;
    free(t->score);
    t->score = NULL;
    t->scores = 0;
    if (!r->score) return;
    t->scores = r->of;
    t->score = malloc(r->of * sizeof *t->score);
    memcpy(t->score, r->score, r->of * sizeof *t->score);
}

/* Ranks as threads. A rank writes its address, all wait, all read, all wait. */
typedef struct crowd {
    pthread_barrier_t barrier;
    uint32_t          ranks;
    const void       *part[16];
    size_t            size[16];
    taut_status       status[16];
    char              text[16][512];
} crowd;
typedef struct member_of {
    crowd   *c;
    uint32_t rank;
} member_of;
static inline void        meet(crowd *c) { pthread_barrier_wait(&c->barrier); }
static inline taut_status crowd_sum(void *ctx, uint64_t *x, size_t n)
{
    member_of *m = ctx;
    uint64_t  *all = calloc(n + 1, sizeof *all);
    m->c->part[m->rank] = x;
    meet(m->c);
    for (uint32_t r = 0; r < m->c->ranks; r++)
        for (size_t i = 0; i < n; i++) all[i] += ((const uint64_t *)m->c->part[r])[i];
    meet(m->c);
    memcpy(x, all, n * sizeof *x);
    free(all);
    return TAUT_OK;
}
static inline taut_status crowd_gather(void *ctx, const void *mine, void *all, const size_t *bytes)
{
    member_of *m = ctx;
    size_t     at = 0;
    m->c->part[m->rank] = mine;
    m->c->size[m->rank] = bytes[m->rank];
    meet(m->c);
    for (uint32_t r = 0; r < m->c->ranks; at += bytes[r++]) {
        if (m->c->size[r] != bytes[r]) abort(); /* the ranks do not agree on what they send */
        if (bytes[r]) memcpy((char *)all + at, m->c->part[r], bytes[r]);
    }
    meet(m->c);
    return TAUT_OK;
}
static inline taut_status crowd_agree(void *ctx, taut_status mine, char *text, size_t cap)
{
    member_of *m = ctx;
    uint32_t   worst = 0;
    m->c->status[m->rank] = mine;
    snprintf(m->c->text[m->rank], sizeof m->c->text[0], "%s", text);
    meet(m->c);
    for (uint32_t r = 1; r < m->c->ranks; r++)
        if (m->c->status[r] < m->c->status[worst]) worst = r;
    mine = m->c->status[worst];
    if (mine != TAUT_OK) snprintf(text, cap, "%s", m->c->text[worst]);
    meet(m->c);
    return mine;
}

typedef struct planning {
    crowd                   *c;
    uint32_t                 rank;
    const char              *rule;
    size_t                   n;
    const taut_shard *const *shard;
    taut_data_plan_options   o;
    taut_status              status;
    char                     error[512];
    taut_data_plan          *plan;
} planning;
static inline void *plan_rank(void *arg)
{
    planning       *p = arg;
    member_of       m = {p->c, p->rank};
    taut_data_group g = {sizeof g, &m, p->rank, p->c->ranks, crowd_sum, crowd_gather, crowd_agree};
    p->o.group = p->c->ranks > 1 ? &g : NULL;
    p->status = taut_data_plan_create(p->rule, p->n, p->shard, &p->o, &p->plan);
    snprintf(p->error, sizeof p->error, "%s", taut_last_error());
    return NULL;
}
/* The plan of `ranks` ranks, all of which make the same. On failure NULL, with the text, the same status on all. */
static inline taut_data_plan *plan_by(uint32_t ranks, const char *rule, size_t n, taut_shard *const *shard,
                                      const taut_data_plan_options *o, taut_status *status, char error[512])
{
    crowd               c = {.ranks = ranks};
    planning            p[16];
    pthread_t           t[16];
    taut_data_plan_info first = {.size = sizeof first}, i = {.size = sizeof i};
    pthread_barrier_init(&c.barrier, NULL, ranks);
    for (uint32_t r = 0; r < ranks; r++) {
        p[r] = (planning){&c, r, rule, n, (const taut_shard *const *)shard, *o, TAUT_OK, "", NULL};
        pthread_create(&t[r], NULL, plan_rank, &p[r]);
    }
    for (uint32_t r = 0; r < ranks; r++) pthread_join(t[r], NULL);
    pthread_barrier_destroy(&c.barrier);
    for (uint32_t r = 1; r < ranks; r++) {
        ck_assert_int_eq(p[r].status, p[0].status);
        if (p[0].status != TAUT_OK) continue;
        OK(taut_data_plan_get_info(p[0].plan, &first));
        OK(taut_data_plan_get_info(p[r].plan, &i));
        ck_assert_uint_eq(i.hash, first.hash);
        taut_data_plan_destroy(p[r].plan);
    }
    *status = p[0].status;
    snprintf(error, 512, "%s", p[0].error);
    return p[0].plan;
}
/* The inside of a plan made by so many ranks; must succeed. */
static inline taut__plan plan_inside(uint32_t ranks, const char *rule, size_t n, taut_shard *const *shard,
                                     const taut_data_plan_options *o)
{
    char            error[512];
    taut_status     status;
    taut_data_plan *p = plan_by(ranks, rule, n, shard, o, &status, error);
    taut__plan      inside;
    ck_assert_msg(status == TAUT_OK, "%s: %s", rule, error);
    OK(taut_data_plan_save(p, in_folder("inside.plan")));
    taut_data_plan_destroy(p);
    OK(taut__plan_load(&inside, in_folder("inside.plan")));
    return inside;
}
static inline taut_data_plan_options listening(told *t)
{
    taut_data_plan_options o = TAUT_DATA_PLAN_INIT;
    o.warn = hear_warning, o.stage = hear_stage, o.warn_ctx = o.stage_ctx = t;
    return o;
}
static inline void must_fail(uint32_t ranks, const char *rule, size_t n, taut_shard *const *shard,
                             const taut_data_plan_options *o, taut_status want, const char *says)
{
    char            error[512];
    taut_status     status;
    taut_data_plan *p = plan_by(ranks, rule, n, shard, o, &status, error);
    ck_assert_ptr_null(p);
    ck_assert_msg(status == want && strstr(error, says), "%s: %s, %s; wanted: %s", rule, taut_status_name(status),
                  error, says);
}

static inline void make_folder(void) { ck_assert_ptr_nonnull(mkdtemp(test_folder)); }
static inline void remove_folder(void)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", test_folder);
    if (system(command) != 0) perror(command);
    strcpy(test_folder, "/tmp/taut-select-XXXXXX");
}

#endif
