/* loader_case.h : two shards whose samples are known by their number, plans over them, and ranks as threads that load them. In a header,
 * because the tests' support library is also built without zstd. */
#ifndef TAUT_TEST_LOADER_CASE_H
#define TAUT_TEST_LOADER_CASE_H

#include "comm/base/base.h"
#include "comm/taut_data.h"
#include "compressors/dataset/loader/schedule.h"
#include "compressors/dataset/shard/shard.h"
#include "suite.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static char dir[] = "/tmp/taut-loader-XXXXXX";
static char path_a[64], path_b[64], path_plan[64];

/* ---- shards: sample i has `item` = 24 bytes made from i, `note` of 0..40 bytes, `label` = i % 10 ---- */

static inline void item_of(uint64_t i, uint8_t item[24], uint8_t note[40], size_t *note_bytes)
{
    for (int k = 0; k < 24; k++) item[k] = (uint8_t)taut__mix64(i * 31 + (uint64_t)k / 4);
    *note_bytes = (size_t)(taut__mix64(i) % 41);
    for (size_t k = 0; k < *note_bytes; k++) note[k] = (uint8_t)('a' + (i + k) % 26);
}

static inline void write_shard(const char *path, uint64_t first, uint64_t n, uint64_t per_block)
{
    taut_field          f[3] = {TAUT_FIELD_INIT, TAUT_FIELD_INIT, TAUT_FIELD_INIT};
    taut_writer_options o = TAUT_WRITER_INIT;
    taut_writer        *w;
    o.samples_per_block = per_block;
    strcpy(f[0].name, "item");
    f[0].ndim = 1, f[0].shape[0] = 24;
    strcpy(f[1].name, "note");
    f[1].kind = TAUT_KIND_TEXT, f[1].variable = 1;
    strcpy(f[2].name, "label");
    f[2].kind = TAUT_KIND_LABEL;
    strcpy(f[2].codec, "raw"); /* one field of each sort of codec */
    ck_assert_msg(taut_writer_create(path, 3, f, &o, &w) == TAUT_OK, "%s", taut_last_error());
    for (uint64_t i = first; i < first + n; i++) {
        uint8_t item[24], note[40], label = (uint8_t)(i % 10);
        size_t  bytes[3] = {24, 0, 1};
        item_of(i, item, note, &bytes[1]);
        if (taut_writer_add(w, (const void *[]){item, note, &label}, bytes) != TAUT_OK)
            ck_abort_msg("%s", taut_last_error());
    }
    ck_assert_msg(taut_writer_finish(w) == TAUT_OK, "%s", taut_last_error());
    taut_writer_destroy(w);
}

enum { N_A = 700, N_B = 333, N = N_A + N_B };

static inline void make_plan(const char *rule, uint64_t rounds, uint64_t window)
{
    taut_shard            *s[2];
    taut_data_plan        *p;
    taut_data_plan_options o = TAUT_DATA_PLAN_INIT;
    o.rounds = rounds, o.window = window, o.seed = 11;
    ck_assert_msg(taut_shard_open(path_a, &s[0]) == TAUT_OK, "%s", taut_last_error());
    ck_assert_int_eq(taut_shard_open(path_b, &s[1]), TAUT_OK);
    ck_assert_msg(taut_data_plan_create(rule, 2, (const taut_shard *const *)s, &o, &p) == TAUT_OK, "%s",
                  taut_last_error());
    ck_assert_int_eq(taut_data_plan_save(p, path_plan), TAUT_OK);
    taut_data_plan_destroy(p);
    taut_shard_close(s[0]);
    taut_shard_close(s[1]);
}

static inline void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path_a, sizeof path_a, "%s/a.taut", dir);
    snprintf(path_b, sizeof path_b, "%s/b.taut", dir);
    snprintf(path_plan, sizeof path_plan, "%s/p.plan", dir);
    write_shard(path_a, 0, N_A, 16);
    write_shard(path_b, N_A, N_B, 16);
}

static inline void tear_down(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (system(command) != 0) fprintf(stderr, "%s stays\n", dir);
}

static inline taut_loader_config config_of(uint64_t batch)
{
    static const char *paths[2];
    taut_loader_config c = TAUT_LOADER_INIT;
    paths[0] = path_b, paths[1] = path_a; /* not in the plan's order */
    c.shards = paths, c.nshards = 2, c.plan = path_plan, c.batch = batch;
    c.timeout_ms = 20000;
    return c;
}

/* ---- ranks as threads ---- */

enum { RANKS_MAX = 8 };
typedef struct team {
    pthread_barrier_t barrier;
    uint32_t          ranks, per_node;
    void             *from[RANKS_MAX];
    taut_status       status[RANKS_MAX];
    char              text[RANKS_MAX][512];
} team;
typedef struct member {
    team              *t;
    uint32_t           rank, node[RANKS_MAX];
    taut_loader_group  group;
    taut_loader_config config;
    /* what it found */
    uint64_t         *ids, n, steps; /* ids by place in the stream */
    taut_loader_stats stats;
    taut_status       opened, ended;
    char              text[512];
    uint64_t          stop_after; /* steps; 0 = to the end */
    uint8_t           state[TAUT_LOADER_STATE];
    size_t            state_bytes;
    bool              by_rank; /* ids in the order they came, not by place */
} member;

static inline taut_status copy_from(member *m, uint32_t root, void *bytes, size_t n)
{
    m->t->from[m->rank] = bytes;
    pthread_barrier_wait(&m->t->barrier);
    if (m->rank != root) memcpy(bytes, m->t->from[root], n);
    pthread_barrier_wait(&m->t->barrier);
    return TAUT_OK;
}
static inline taut_status broadcast(void *ctx, void *bytes, size_t n) { return copy_from(ctx, 0, bytes, n); }
static inline taut_status node_broadcast(void *ctx, void *bytes, size_t n)
{
    return copy_from(ctx, ((member *)ctx)->node[0], bytes, n);
}
static inline taut_status agree(void *ctx, taut_status mine, char *text, size_t cap)
{
    member     *m = ctx;
    uint32_t    worst = 0;
    taut_status s;
    m->t->status[m->rank] = mine;
    snprintf(m->t->text[m->rank], sizeof m->t->text[0], "%s", text);
    pthread_barrier_wait(&m->t->barrier);
    for (uint32_t r = 1; r < m->t->ranks; r++)
        if (m->t->status[r] < m->t->status[worst]) worst = r;
    s = m->t->status[worst];
    snprintf(text, cap, "%s", m->t->text[worst]);
    pthread_barrier_wait(&m->t->barrier);
    return s;
}

/* The bytes are those of the sample? */
static inline bool right_sample(const taut_batch *b, uint64_t i)
{
    uint8_t item[24], note[40], label = (uint8_t)(b->id[i] % 10);
    size_t  n;
    item_of(b->id[i], item, note, &n);
    return b->bytes[0][i] == 24 && memcmp(b->data[0][i], item, 24) == 0 && b->bytes[1][i] == n &&
           memcmp(b->data[1][i], note, n) == 0 && b->bytes[2][i] == 1 && b->data[2][i][0] == label;
}

static inline void *run_member(void *arg)
{
    member      *m = arg;
    taut_loader *l;
    taut_batch   b = TAUT_BATCH_INIT;
    m->opened = taut_loader_open(&m->config, m->t ? &m->group : NULL, &l);
    if (m->opened != TAUT_OK) {
        snprintf(m->text, sizeof m->text, "%s", taut_last_error());
        return NULL;
    }
    m->steps = taut_loader_steps(l);
    for (uint64_t taken = 0; !m->stop_after || taken < m->stop_after; taken++) {
        uint64_t first;
        if ((m->ended = taut_loader_next(l, &b)) != TAUT_OK || b.end) break;
        first = b.step * m->config.batch + taut__slice_of(b.all, m->t ? m->t->ranks : 1, m->rank).first;
        for (uint64_t i = 0; i < b.n; i++) {
            if (m->config.nfields == 0 && !right_sample(&b, i))
                ck_abort_msg("step %d: wrong bytes of sample %d", (int)b.step, (int)b.id[i]);
            if (m->ids) m->ids[first + i] = b.id[i] + 1;
        }
        m->n += b.n;
    }
    if (m->ended != TAUT_OK) snprintf(m->text, sizeof m->text, "%s", taut_last_error());
    m->stats.size = sizeof m->stats;
    taut_loader_get_stats(l, &m->stats);
    taut_loader_state(l, m->state, sizeof m->state, &m->state_bytes);
    taut_loader_close(l);
    return NULL;
}

/* All ranks run `config`; ids: room for the whole stream, 0 where nobody was. */
static inline void run_team(member *m, uint32_t ranks, uint32_t per_node, const taut_loader_config *config,
                            uint64_t *ids, uint64_t stop_after)
{
    team      t = {.ranks = ranks, .per_node = per_node};
    pthread_t thread[RANKS_MAX];
    pthread_barrier_init(&t.barrier, NULL, ranks);
    for (uint32_t r = 0; r < ranks; r++) {
        uint32_t first = r / per_node * per_node;
        m[r] = (member){.t = &t, .rank = r, .config = *config, .ids = ids, .stop_after = stop_after};
        m[r].group = (taut_loader_group){sizeof m[r].group,
                                         &m[r],
                                         r,
                                         ranks,
                                         ranks - first < per_node ? ranks - first : per_node,
                                         m[r].node,
                                         broadcast,
                                         node_broadcast,
                                         agree};
        for (uint32_t k = 0; k < m[r].group.node_ranks; k++) m[r].node[k] = first + k;
    }
    for (uint32_t r = 0; r < ranks; r++) ck_assert_int_eq(pthread_create(&thread[r], NULL, run_member, &m[r]), 0);
    for (uint32_t r = 0; r < ranks; r++) pthread_join(thread[r], NULL);
    pthread_barrier_destroy(&t.barrier);
}

#endif
