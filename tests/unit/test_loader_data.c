/* test_loader_data.c : the loader gives the plan's samples, byte for byte, once, in the order that does not depend on ranks,
 * memory, threads or stops; ranks share blocks; what is wrong ends all of them with one sentence. Ranks are threads here
 * (or forked processes, to be killed); tests/multi/test_train_data.sh runs it under MPI. */
#include "comm/taut_data.h"
#include "comm/base/base.h"
#include "compressors/dataset/loader/schedule.h"
#include "compressors/dataset/shard/shard.h"
#include "../support/suite.h"
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static char dir[] = "/tmp/taut-loader-XXXXXX";
static char path_a[64], path_b[64], path_plan[64];

/* ---- shards: sample i has `item` = 24 bytes made from i, `note` of 0..40 bytes, `label` = i % 10 ---- */

static void item_of(uint64_t i, uint8_t item[24], uint8_t note[40], size_t *note_bytes)
{
    for (int k = 0; k < 24; k++) item[k] = (uint8_t)taut__mix64(i * 31 + (uint64_t)k / 4);
    *note_bytes = (size_t)(taut__mix64(i) % 41);
    for (size_t k = 0; k < *note_bytes; k++) note[k] = (uint8_t)('a' + (i + k) % 26);
}

static void write_shard(const char *path, uint64_t first, uint64_t n, uint64_t per_block)
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

static void make_plan(const char *rule, uint64_t rounds, uint64_t window)
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

static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path_a, sizeof path_a, "%s/a.taut", dir);
    snprintf(path_b, sizeof path_b, "%s/b.taut", dir);
    snprintf(path_plan, sizeof path_plan, "%s/p.plan", dir);
    write_shard(path_a, 0, N_A, 16);
    write_shard(path_b, N_A, N_B, 16);
}

static void tear_down(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (system(command) != 0) fprintf(stderr, "%s stays\n", dir);
}

static taut_loader_config config_of(uint64_t batch)
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

static taut_status copy_from(member *m, uint32_t root, void *bytes, size_t n)
{
    m->t->from[m->rank] = bytes;
    pthread_barrier_wait(&m->t->barrier);
    if (m->rank != root) memcpy(bytes, m->t->from[root], n);
    pthread_barrier_wait(&m->t->barrier);
    return TAUT_OK;
}
static taut_status broadcast(void *ctx, void *bytes, size_t n) { return copy_from(ctx, 0, bytes, n); }
static taut_status node_broadcast(void *ctx, void *bytes, size_t n)
{
    return copy_from(ctx, ((member *)ctx)->node[0], bytes, n);
}
static taut_status agree(void *ctx, taut_status mine, char *text, size_t cap)
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
static bool right_sample(const taut_batch *b, uint64_t i)
{
    uint8_t item[24], note[40], label = (uint8_t)(b->id[i] % 10);
    size_t  n;
    item_of(b->id[i], item, note, &n);
    return b->bytes[0][i] == 24 && memcmp(b->data[0][i], item, 24) == 0 && b->bytes[1][i] == n &&
           memcmp(b->data[1][i], note, n) == 0 && b->bytes[2][i] == 1 && b->data[2][i][0] == label;
}

static void *run_member(void *arg)
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
static void run_team(member *m, uint32_t ranks, uint32_t per_node, const taut_loader_config *config, uint64_t *ids,
                     uint64_t stop_after)
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

/* The stream as the sampler says, +1. */
static uint64_t *reference(uint64_t *total)
{
    taut__plan     p;
    taut__sampler *s;
    uint64_t       m, *ids;
    int64_t        label[N];
    for (int i = 0; i < N; i++) label[i] = i % 10;
    ck_assert_int_eq(taut__plan_load(&p, path_plan), TAUT_OK);
    ck_assert_int_eq(taut__sampler_create(&p, 16, label, &s), TAUT_OK);
    m = taut__plan_samples(&p);
    *total = m * p.rounds;
    ids = malloc(*total * sizeof *ids);
    for (uint64_t i = 0; i < *total; i++) {
        if (taut__sampler_at(s, i / m, i % m, &ids[i], NULL) != TAUT_OK) ck_abort();
        ids[i]++;
    }
    taut__sampler_destroy(s);
    taut__plan_free(&p);
    return ids;
}

/* ---- the stream ---- */

static const struct {
    const char *rule;
    uint64_t    window, batch;
    uint32_t    ranks, per_node;
    uint64_t    cache;
    int         threads, ahead, share;
} runs[] = {
    {"full", 4, 32, 1, 1, 0, 1, 1, 0},
    {"full", 4, 32, 1, 1, 0, 3, 4, 0},
    {"full", 0, 50, 2, 2, 0, 2, 0, 0},
    {"full", 4, 50, 3, 3, 40000, 2, 0, 0}, /* less memory than data */
    {"full", 4, 50, 4, 2, 0, 1, 7, 0},     /* two nodes */
    {"full", 4, 7, 5, 3, 0, 1, 2, 0},      /* slices of 1 and 2, nodes of 3 and 2 */
    {"full", 4, 50, 4, 4, 0, 2, 0, 1},     /* nobody shares */
    {"rs2:budget=10%", 0, 16, 4, 4, 0, 2, 0, 0},
    {"rs2:budget=30%", 2, 16, 3, 3, 60000, 2, 3, 0},
    {"static:budget=20%,strata=label", 4, 13, 2, 2, 0, 2, 0, 0},
    {"rs2:budget=20%,strata=label", 4, 206, 2, 2, 0, 2, 0, 0}, /* a whole round a step */
    {"static:budget=5", 4, 5, 5, 5, 0, 1, 0, 0},               /* as many ranks as samples */
};

START_TEST(stream)
{
    taut_loader_config c = config_of(runs[_i].batch);
    member             m[RANKS_MAX];
    uint64_t           total, *want, *ids, n = 0;
    make_plan(runs[_i].rule, 3, runs[_i].window);
    c.cache_bytes = runs[_i].cache, c.threads = runs[_i].threads, c.ahead = runs[_i].ahead, c.share = runs[_i].share;
    want = reference(&total);
    ids = calloc(total, sizeof *ids);
    run_team(m, runs[_i].ranks, runs[_i].per_node, &c, ids, 0);
    for (uint32_t r = 0; r < runs[_i].ranks; r++) {
        ck_assert_msg(m[r].opened == TAUT_OK && m[r].ended == TAUT_OK, "rank %u: %s", r, m[r].text);
        ck_assert_uint_eq(m[r].steps, taut__ceil_div(total, runs[_i].batch));
        ck_assert_uint_eq(m[r].stats.steps, m[r].steps); /* equal steps on all ranks */
        ck_assert_int_eq(m[r].stats.shared,
                         runs[_i].share
                             ? 1
                             : (int)(runs[_i].ranks - r / runs[_i].per_node * runs[_i].per_node < runs[_i].per_node
                                         ? runs[_i].ranks - r / runs[_i].per_node * runs[_i].per_node
                                         : runs[_i].per_node));
        n += m[r].n;
    }
    ck_assert_uint_eq(n, total);
    ck_assert_mem_eq(ids, want, total * sizeof *ids);
    free(ids);
    free(want);
}
END_TEST

/* Memory for everything: a node decodes each block once. For less, but a window: once a round. */
START_TEST(decodes_once)
{
    static const struct {
        uint64_t window, cache, rounds;
        uint32_t ranks;
        double   most; /* decodes over different blocks per round */
    } t[] = {{0, 0, 1, 4, 1}, {4, 0, 1, 4, 1}, {4, 40000, 4, 2, 1.05}, {4, 40000, 4, 4, 1.05}, {2, 40000, 4, 3, 1.05}};
    taut_loader_config c = config_of(16);
    member             m[RANKS_MAX];
    make_plan("full", t[_i].rounds, t[_i].window);
    c.cache_bytes = t[_i].cache;
    run_team(m, t[_i].ranks, t[_i].ranks, &c, NULL, 0);
    for (uint32_t r = 0; r < t[_i].ranks; r++) ck_assert_msg(m[r].ended == TAUT_OK, "%s", m[r].text);
    ck_assert_uint_eq(m[0].stats.node_blocks, t[_i].rounds * (taut__ceil_div(N_A, 16) + taut__ceil_div(N_B, 16)));
    ck_assert_msg((double)m[0].stats.node_decodes <= t[_i].most * (double)m[0].stats.node_blocks,
                  "%d decodes of %d blocks, cache %d", (int)m[0].stats.node_decodes, (int)m[0].stats.node_blocks,
                  (int)m[0].stats.cache_blocks);
}
END_TEST

START_TEST(some_fields)
{
    taut_loader_config c = config_of(32);
    taut_loader       *l;
    taut_batch         b = TAUT_BATCH_INIT;
    taut_field         f = TAUT_FIELD_INIT;
    make_plan("full", 1, 4);
    c.fields = (const char *[]){"label", "item"}, c.nfields = 2;
    ck_assert_msg(taut_loader_open(&c, NULL, &l) == TAUT_OK, "%s", taut_last_error());
    ck_assert_uint_eq(taut_loader_fields(l), 2);
    ck_assert_int_eq(taut_loader_field(l, 1, &f), TAUT_OK);
    ck_assert_str_eq(f.name, "item");
    ck_assert_uint_eq(f.decoded_bytes, 24 * N);
    ck_assert_int_eq(taut_loader_field(l, 2, &f), TAUT_E_RANGE);
    ck_assert_int_eq(taut_loader_next(l, &b), TAUT_OK);
    for (uint64_t i = 0; i < b.n; i++) {
        uint8_t item[24], note[40];
        size_t  n;
        item_of(b.id[i], item, note, &n);
        ck_assert_uint_eq(b.data[0][i][0], b.id[i] % 10);
        ck_assert_mem_eq(b.data[1][i], item, 24);
        ck_assert_float_eq(b.weight[i], 1);
    }
    taut_loader_close(l);
    c.fields = (const char *[]){"nothing"}, c.nfields = 1;
    ck_assert_int_eq(taut_loader_open(&c, NULL, &l), TAUT_E_INVALID);
    ck_assert_ptr_null(l);
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "no field 'nothing'"));
}
END_TEST

START_TEST(without_a_plan)
{
    taut_loader_config c = config_of(100);
    member             m[RANKS_MAX];
    uint64_t           ids[2 * N] = {0};
    unsigned           seen[N] = {0};
    c.plan = NULL, c.rounds = 2;
    c.shards = (const char *[]){path_a, path_b}; /* whose order counts then */
    run_team(m, 2, 2, &c, ids, 0);
    ck_assert_msg(m[0].ended == TAUT_OK && m[1].ended == TAUT_OK, "%s", m[0].text);
    for (int i = 0; i < 2 * N; i++) seen[ids[i] >= 1 && ids[i] <= N ? ids[i] - 1 : 0]++;
    for (int i = 0; i < N; i++)
        if (seen[i] != 2) ck_abort_msg("sample %d %u times", i, seen[i]);
}
END_TEST

/* ---- stopped and resumed ---- */

START_TEST(resumed_with_other_ranks)
{
    taut_loader_config c = config_of(24);
    member             m[RANKS_MAX];
    uint64_t           total, *want, *ids, at = 0;
    uint8_t            state[TAUT_LOADER_STATE];
    make_plan("rs2:budget=30%", 6, 4);
    want = reference(&total);
    ids = calloc(total, sizeof *ids);
    for (uint32_t stop = 0; at < total; stop++) {
        uint32_t ranks = 1 + (uint32_t)(taut__mix64(stop) % 4);
        run_team(m, ranks, ranks, &c, ids, 1 + taut__mix64(stop + 50) % 9);
        ck_assert_msg(m[0].opened == TAUT_OK && m[0].ended == TAUT_OK, "%s", m[0].text);
        for (uint32_t r = 0; r < ranks; r++) at += m[r].n;
        for (uint32_t r = 1; r < ranks; r++)
            ck_assert_mem_eq(m[r].state, m[0].state, m[0].state_bytes); /* the same on all */
        memcpy(state, m[0].state, m[0].state_bytes);
        c.state = state, c.state_bytes = m[0].state_bytes;
    }
    ck_assert_uint_eq(at, total);
    ck_assert_mem_eq(ids, want, total * sizeof *ids);
    run_team(m, 2, 2, &c, NULL, 0); /* nothing is left */
    ck_assert_uint_eq(m[0].n + m[1].n, 0);
    ck_assert_int_eq(m[0].ended, TAUT_OK);
    free(ids);
    free(want);
}
END_TEST

/* Processes killed in the middle: a hundred times, on 1, 2, 3 and 4 ranks. Each rank writes the ids of a step into memory that the
 * test keeps, then the state; after the kill the job goes on from the last state that all ranks had reached. */
typedef struct ledger {
    _Atomic uint64_t progress[RANKS_MAX];                    /* steps of the job that the rank has finished */
    uint8_t          state[RANKS_MAX][2][TAUT_LOADER_STATE]; /* after even and odd numbers of steps */
    _Atomic uint64_t limit;                                  /* steps: the ranks wait there to be killed */
    team             t;
    char             carry[1 << 16];
    uint64_t         ids[];
} ledger;

/* A group of processes: the barrier and the bytes lie in the ledger. */
static taut_status carry_from(member *m, uint32_t root, void *bytes, size_t n)
{
    ledger *g = (ledger *)m->ids;
    if (n > sizeof g->carry) return TAUT_E_CAPACITY;
    if (m->rank == root) memcpy(g->carry, bytes, n);
    pthread_barrier_wait(&m->t->barrier);
    if (m->rank != root) memcpy(bytes, g->carry, n);
    pthread_barrier_wait(&m->t->barrier);
    return TAUT_OK;
}
static taut_status carry(void *ctx, void *bytes, size_t n) { return carry_from(ctx, 0, bytes, n); }

static void child(ledger *g, uint32_t rank, uint32_t ranks, taut_loader_config c)
{
    member       m = {.t = &g->t, .rank = rank, .ids = (uint64_t *)g};
    taut_loader *l;
    taut_batch   b = TAUT_BATCH_INIT;
    size_t       bytes;
    m.group = (taut_loader_group){sizeof m.group, &m, rank, ranks, ranks, m.node, carry, carry, agree};
    for (uint32_t k = 0; k < ranks; k++) m.node[k] = k;
    if (taut_loader_open(&c, &m.group, &l) != TAUT_OK) {
        fprintf(stderr, "%s\n", taut_last_error());
        _exit(1);
    }
    while (taut_loader_next(l, &b) == TAUT_OK && !b.end) {
        uint64_t first = b.step * c.batch + taut__slice_of(b.all, ranks, rank).first;
        for (uint64_t i = 0; i < b.n; i++) {
            if (!right_sample(&b, i)) _exit(2);
            g->ids[first + i] = b.id[i] + 1;
        }
        if (taut_loader_state(l, g->state[rank][(b.step + 1) % 2], TAUT_LOADER_STATE, &bytes) != TAUT_OK) _exit(3);
        atomic_store(&g->progress[rank], b.step + 1);
        pthread_barrier_wait(&g->t.barrier); /* the ranks of a training job are never more than a step apart */
        usleep(300);
        while (b.step + 1 >= atomic_load(&g->limit)) usleep(1000);
    }
    taut_loader_close(l);
    _exit(0);
}

static size_t shared_memory_files(void)
{
    DIR   *d = opendir("/dev/shm");
    size_t n = 0;
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) n += strstr(e->d_name, "taut") != NULL;
    if (d) closedir(d);
    return n;
}

START_TEST(killed)
{
    enum { BATCH = 10 };
    taut_loader_config    c = config_of(BATCH);
    pthread_barrierattr_t attr;
    uint64_t              total, *want, steps, done = 0;
    uint8_t               state[TAUT_LOADER_STATE];
    ledger               *g;
    int                   kills = 0;
    make_plan("rs2:budget=50%", 20, 4);
    want = reference(&total);
    steps = taut__ceil_div(total, BATCH);
    g = mmap(NULL, sizeof *g + total * 8, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(g != MAP_FAILED);
    pthread_barrierattr_init(&attr);
    pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    c.threads = 1;
    while (done < steps && kills < 400) {
        uint32_t ranks = 1 + (uint32_t)kills % 4;
        pid_t    pid[4];
        uint64_t least = steps, goal = done + 1 + taut__mix64((uint64_t)kills) % 12;
        bool     last = goal >= steps;
        memset(&g->t, 0, sizeof g->t);
        g->t.ranks = ranks;
        pthread_barrier_init(&g->t.barrier, &attr, ranks);
        for (uint32_t r = 0; r < 4; r++) atomic_store(&g->progress[r], done);
        atomic_store(&g->limit, last ? UINT64_MAX : goal + 3); /* at a hundred kills and more, however late the kill */
        for (uint32_t r = 0; r < ranks; r++)
            if ((pid[r] = fork()) == 0) child(g, r, ranks, c);
        if (last) goal = steps;
        for (int wait = 0; wait < 20000 && atomic_load(&g->progress[0]) < goal; wait++) usleep(500);
        ck_assert_uint_ge(atomic_load(&g->progress[0]), goal);
        for (uint32_t r = 0; r < ranks && !last; r++) kill(pid[r], SIGKILL);
        for (uint32_t r = 0; r < ranks; r++) {
            int status;
            ck_assert_int_eq(waitpid(pid[r], &status, 0), pid[r]);
            if (last) ck_assert_int_eq(status, 0);
        }
        for (uint32_t r = 0; r < ranks; r++)
            if (atomic_load(&g->progress[r]) < least) least = atomic_load(&g->progress[r]);
        for (uint64_t i = least * BATCH; i < total; i++) g->ids[i] = 0; /* what was done beyond is lost */
        if (least > done) memcpy(state, g->state[0][least % 2], sizeof state);
        /* rank 0 may be a step ahead of the others; its state of two steps is kept */
        done = least;
        c.state = done ? state : NULL, c.state_bytes = TAUT__SAMPLER_STATE;
        kills++;
    }
    ck_assert_int_ge(kills, 100);
    ck_assert_uint_eq(done, steps);
    ck_assert_mem_eq(g->ids, want, total * 8);
    ck_assert_uint_eq(shared_memory_files(), 0);
    munmap(g, sizeof *g + total * 8);
    free(want);
}
END_TEST

/* ---- reading ahead ---- */

/* 2 ms for every read, 4 ms of work a step of 2 blocks: reading alone would take as long again; nearly all of it is hidden. */
START_TEST(delay_is_hidden)
{
    taut_loader_config c = config_of(32);
    taut_loader       *l;
    taut_batch         b = TAUT_BATCH_INIT;
    taut_loader_stats  s = {.size = sizeof s};
    double             delays, waited;
    make_plan("full", 3, 4);
    c.read_delay_us = 2000, c.threads = 2, c.cache_bytes = 40000;
    ck_assert_msg(taut_loader_open(&c, NULL, &l) == TAUT_OK, "%s", taut_last_error());
    while (taut_loader_next(l, &b) == TAUT_OK && !b.end) usleep(6000);
    taut_loader_get_stats(l, &s);
    delays = 0.002 * (double)s.reads, waited = s.stall_s - s.first_stall_s;
    if (getenv("SPEED"))
        printf("%d reads, %.0f ms of delay, stalled %.1f ms, the first %.1f\n", (int)s.reads, 1e3 * delays,
               1e3 * s.stall_s, 1e3 * s.first_stall_s);
    ck_assert_uint_ge(s.reads, 120);
    ck_assert_msg(waited < 0.3 * delays, "%.0f ms of delay, stalled %.1f ms", 1e3 * delays,
                  1e3 * waited); /* 0.05 on an idle machine */
    taut_loader_close(l);
}
END_TEST

/* ---- what is wrong ---- */

static void fails(const taut_loader_config *c, uint32_t ranks, taut_status s, const char *says)
{
    member m[RANKS_MAX];
    run_team(m, ranks, ranks, c, NULL, 0);
    for (uint32_t r = 0; r < ranks; r++) {
        taut_status got = m[r].opened != TAUT_OK ? m[r].opened : m[r].ended;
        ck_assert_msg(got == s && strstr(m[r].text, says), "rank %u of %u: %s '%s', expected %s '%s'", r, ranks,
                      taut_status_name(got), m[r].text, taut_status_name(s), says);
    }
}

START_TEST(bad_settings)
{
    taut_loader_config c = config_of(8), good = c;
    member             m[RANKS_MAX];
    uint8_t            state[TAUT_LOADER_STATE];
    make_plan("rs2:budget=20", 3, 4);
    for (uint32_t ranks = 1; ranks <= 3; ranks += 2) {
        c = good, c.batch = 21, fails(&c, ranks, TAUT_E_RANGE, "batch=21");
        c = good, c.batch = 0, fails(&c, ranks, TAUT_E_RANGE, "batch=0");
        c = good, c.nshards = 0, fails(&c, ranks, TAUT_E_INVALID, "no shards");
        c = good, c.threads = 65, fails(&c, ranks, TAUT_E_RANGE, "threads=65: must be 1..64");
        c = good, c.ahead = 2000, fails(&c, ranks, TAUT_E_RANGE, "ahead=2000");
        c = good, c.cache_bytes = 100, fails(&c, ranks, TAUT_E_RANGE, "the cache has 100");
        c = good, c.shards = (const char *[]){path_a, "/nowhere/x.taut"},
        fails(&c, ranks, TAUT_E_IO, "/nowhere/x.taut");
        c = good, c.plan = "/nowhere/p.plan", fails(&c, ranks, TAUT_E_IO, "/nowhere/p.plan");
        c = good, c.nshards = 1, fails(&c, ranks, TAUT_E_MISMATCH, "its shard a.taut (hash ");
        c = good, c.state = "x", c.state_bytes = 1, fails(&c, ranks, TAUT_E_CORRUPT, "data state");
        c = good, c.cache_bytes = 5000, c.batch = 20, fails(&c, ranks, TAUT_E_RANGE, "needs more blocks than");
    }
    c = good, c.batch = 2, fails(&c, 3, TAUT_E_RANGE, "at least 1 sample for each of 3 ranks");
    /* a state of another batch, of another plan */
    run_team(m, 1, 1, &good, NULL, 2);
    memcpy(state, m[0].state, m[0].state_bytes);
    c = good, c.state = state, c.state_bytes = m[0].state_bytes, c.batch = 4,
    fails(&c, 2, TAUT_E_MISMATCH, "saved with 8 samples in a step, now 4");
    make_plan("rs2:budget=21", 3, 4);
    c.batch = 8, fails(&c, 2, TAUT_E_MISMATCH, "of a plan with hash");
    make_plan("static:budget=3", 3, 4);
    c = good, c.batch = 3, fails(&c, 4, TAUT_E_RANGE, "only 3 samples, fewer than ranks");
    make_plan("full", 1, 4);
    write_shard(path_b, N_A, N_B + 1, 16);
    c = good, fails(&c, 2, TAUT_E_MISMATCH, "b.taut has hash");
    write_shard(path_b, N_A, N_B, 16);
}
END_TEST

/* Rank 1 was given another batch. */
START_TEST(ranks_disagree)
{
    team               t = {.ranks = 2, .per_node = 2};
    taut_loader_config c[2] = {config_of(8), config_of(10)};
    member             m[2];
    pthread_t          thread[2];
    make_plan("full", 1, 4);
    pthread_barrier_init(&t.barrier, NULL, 2);
    for (uint32_t r = 0; r < 2; r++) {
        m[r] = (member){.t = &t, .rank = r, .config = c[r], .node = {0, 1}};
        m[r].group =
            (taut_loader_group){sizeof m[r].group, &m[r], r, 2, 2, m[r].node, broadcast, node_broadcast, agree};
    }
    for (uint32_t r = 0; r < 2; r++) pthread_create(&thread[r], NULL, run_member, &m[r]);
    for (uint32_t r = 0; r < 2; r++) pthread_join(thread[r], NULL);
    for (uint32_t r = 0; r < 2; r++) {
        ck_assert_int_eq(m[r].opened, TAUT_E_MISMATCH);
        ck_assert_ptr_nonnull(strstr(m[r].text, "rank 1: batch 10"));
    }
    pthread_barrier_destroy(&t.barrier);
}
END_TEST

START_TEST(strata_without_labels)
{
    char                   path[64];
    taut_field             f = TAUT_FIELD_INIT;
    taut_writer           *w;
    taut_shard            *s;
    taut_data_plan        *p;
    taut_data_plan_options o = TAUT_DATA_PLAN_INIT;
    taut_loader_config     c = config_of(2);
    snprintf(path, sizeof path, "%s/plain.taut", dir);
    strcpy(f.name, "text");
    f.variable = 1;
    ck_assert_int_eq(taut_writer_create(path, 1, &f, NULL, &w), TAUT_OK);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(taut_writer_add(w, (const void *[]){"hello"}, (size_t[]){5}), TAUT_OK);
    ck_assert_int_eq(taut_writer_finish(w), TAUT_OK);
    taut_writer_destroy(w);
    ck_assert_int_eq(taut_shard_open(path, &s), TAUT_OK);
    o.strata = "label", o.budget = "50%";
    ck_assert_int_eq(taut_data_plan_create("rs2", 1, (const taut_shard *const *)&s, &o, &p), TAUT_OK);
    ck_assert_int_eq(taut_data_plan_save(p, path_plan), TAUT_OK);
    taut_data_plan_destroy(p);
    taut_shard_close(s);
    c.shards = (const char *[]){path}, c.nshards = 1;
    fails(&c, 2, TAUT_E_INVALID,
          "no integer field 'label' with one value per sample, which the plan's strata need; its fields: text");
}
END_TEST

/* A flipped byte in a block: all ranks learn file, field and block. A shard that was replaced: the same, and why. */
START_TEST(damaged)
{
    taut_loader_config c = config_of(32);
    taut_shard        *s;
    taut_extent        e;
    uint8_t            byte;
    int                fd;
    make_plan("full", 1, 4);
    ck_assert_int_eq(taut_shard_open(path_a, &s), TAUT_OK);
    e = taut__shard_extent(s, 1, 20);
    taut_shard_close(s);
    fd = open(path_a, O_RDWR);
    ck_assert_int_eq(pread(fd, &byte, 1, (off_t)(e.offset + e.bytes - 3)), 1);
    byte ^= 4;
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)(e.offset + e.bytes - 3)), 1);
    close(fd);
    for (uint32_t ranks = 1; ranks <= 4; ranks++) {
        fails(&c, ranks, TAUT_E_CORRUPT, "a.taut");
        fails(&c, ranks, TAUT_E_CORRUPT, "block 20");
        fails(&c, ranks, TAUT_E_CORRUPT, "note");
    }
    write_shard(path_a, 0, N_A, 16);
}
END_TEST

/* A rank whose readers are gone while it holds a block: the other one does not wait for ever. */
START_TEST(a_rank_is_gone)
{
    enum { BATCH = 10 };
    taut_loader_config    c = config_of(BATCH);
    pthread_barrierattr_t attr;
    ledger      *g = mmap(NULL, sizeof *g + (1 << 20), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t        pid;
    member       m = {.t = &g->t, .rank = 0, .ids = (uint64_t *)g, .node = {0, 1}};
    taut_loader *l;
    taut_batch   b = TAUT_BATCH_INIT;
    taut_status  s;
    double       begin;
    make_plan("full", 5, 4);
    pthread_barrierattr_init(&attr);
    pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    g->t.ranks = 2;
    pthread_barrier_init(&g->t.barrier, &attr, 2);
    c.cache_bytes = 40000, c.timeout_ms = 1000;
    if ((pid = fork()) == 0) { /* rank 1 takes one batch and is killed */
        member r = {.t = &g->t, .rank = 1, .ids = (uint64_t *)g, .node = {0, 1}};
        r.group = (taut_loader_group){sizeof r.group, &r, 1, 2, 2, r.node, carry, carry, agree};
        if (taut_loader_open(&c, &r.group, &l) != TAUT_OK || taut_loader_next(l, &b) != TAUT_OK) _exit(1);
        raise(SIGKILL);
    }
    m.group = (taut_loader_group){sizeof m.group, &m, 0, 2, 2, m.node, carry, carry, agree};
    ck_assert_msg(taut_loader_open(&c, &m.group, &l) == TAUT_OK, "%s", taut_last_error());
    waitpid(pid, NULL, 0);
    begin = taut__now();
    while ((s = taut_loader_next(l, &b)) == TAUT_OK && !b.end) {}
    ck_assert_int_eq(s, TAUT_E_TIMEOUT); /* its slots are never given back */
    ck_assert_double_lt(taut__now() - begin, 15);
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "did not come within 1000 ms"));
    taut_loader_close(l);
    ck_assert_uint_eq(shared_memory_files(), 0);
    munmap(g, sizeof *g + (1 << 20));
}
END_TEST

START_TEST(allocation_failures)
{
    taut_loader_config c = config_of(8);
    taut_status        s = TAUT_E_NOMEM;
    size_t             held = taut__alloc_bytes();
    make_plan("rs2:budget=20%,strata=label", 1, 4);
    for (int n = 1; s != TAUT_OK && n < 500; n++) {
        taut_loader *l;
        taut_batch   b = TAUT_BATCH_INIT;
        taut__alloc_fail_after(n);
        s = taut_loader_open(&c, NULL, &l);
        if (s == TAUT_OK) {
            while ((s = taut_loader_next(l, &b)) == TAUT_OK && !b.end) {}
            taut_loader_close(l);
        } else ck_assert_ptr_null(l);
        taut__alloc_fail_after(-1);
        if (s != TAUT_OK) ck_assert_msg(s == TAUT_E_NOMEM, "%d: %s %s", n, taut_status_name(s), taut_last_error());
        ck_assert_uint_eq(taut__alloc_bytes(), held);
    }
    ck_assert_int_eq(s, TAUT_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loader");
    TCase *t = suite_case(suite, "loader", 120);
    tcase_add_unchecked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, stream, 0, (int)COUNT(runs));
    tcase_add_loop_test(t, decodes_once, 0, 5);
    tcase_add_test(t, some_fields);
    tcase_add_test(t, without_a_plan);
    tcase_add_test(t, resumed_with_other_ranks);
    tcase_add_test(t, killed);
    tcase_add_test(t, delay_is_hidden);
    tcase_add_test(t, bad_settings);
    tcase_add_test(t, ranks_disagree);
    tcase_add_test(t, strata_without_labels);
    tcase_add_test(t, damaged);
    tcase_add_test(t, a_rank_is_gone);
    tcase_add_test(t, allocation_failures);
    return suite_run(suite);
}
