/* test_loader_data.c : the loader gives the plan's samples, byte for byte, once, in the order that does not depend on ranks,
 * memory, threads or stops; ranks share blocks; a rank that is killed is noticed. Ranks are threads here
 * (or forked processes, to be killed); tests/multi/test_train_data.sh runs it under MPI. */
#include "tests/support/loader_case.h"
#include <dirent.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <xxhash.h>

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
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "no field 'nothing'; fields are "));
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

/* Where the shards lie is not what a state is pinned to. */
START_TEST(moved)
{
    taut_loader_config c = config_of(100);
    member             m[1];
    char               here[512];
    c.plan = NULL;
    c.shards = (const char *[]){path_a, path_b}; /* whose order counts then */
    run_team(m, 1, 1, &c, NULL, 3);
    ck_assert_ptr_nonnull(getcwd(here, sizeof here));
    ck_assert_int_eq(chdir(dir), 0);
    ck_assert_int_eq(symlink("b.taut", "called-otherwise.taut"), 0);
    c.shards = (const char *[]){"a.taut", "called-otherwise.taut"};
    c.state = m[0].state, c.state_bytes = m[0].state_bytes;
    member again[1];
    run_team(again, 1, 1, &c, NULL, 0);
    ck_assert_int_eq(unlink("called-otherwise.taut"), 0);
    ck_assert_int_eq(chdir(here), 0);
    ck_assert_msg(again[0].opened == TAUT_OK, "%s", again[0].text);
    ck_assert_uint_eq(again[0].n, N - 300);
}
END_TEST

/* A plan with a comment, and a shard whose name begins with a blank: every rank has the hash of its text. */
START_TEST(edited_plan)
{
    taut_loader_config c = config_of(100);
    member             m[2], again[2];
    char               text[2000], edited[2100], *end;
    FILE              *f;
    make_plan("full", 1, 4);
    f = fopen(path_plan, "r");
    ck_assert_ptr_nonnull(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    end = strstr(text, "end ");
    snprintf(edited, sizeof edited, "%.*s# mine\n", (int)(end - text), text);
    f = fopen(path_plan, "w");
    fprintf(f, "%send %016llx\n", edited, (unsigned long long)XXH64(edited, strlen(edited), 0));
    fclose(f);
    run_team(m, 2, 2, &c, NULL, 2);
    ck_assert_msg(m[0].ended == TAUT_OK && m[1].ended == TAUT_OK, "%s", m[0].text);
    ck_assert_mem_eq(m[0].state, m[1].state, m[0].state_bytes);
    c.state = m[0].state, c.state_bytes = m[0].state_bytes;
    run_team(again, 2, 2, &c, NULL, 0);
    ck_assert_msg(again[0].opened == TAUT_OK && again[1].opened == TAUT_OK, "%s", again[0].text);
}
END_TEST

/* A child has not the threads that read: it is told so, and closing there waits for nobody and takes nothing from its parent. */
START_TEST(forked)
{
    taut_loader_config c = config_of(50);
    taut_loader       *l;
    taut_batch         b = TAUT_BATCH_INIT;
    uint64_t           n = 0;
    int                status;
    make_plan("full", 1, 4);
    c.cache_bytes = 40000; /* so that slots are used again */
    ck_assert_msg(taut_loader_open(&c, NULL, &l) == TAUT_OK, "%s", taut_last_error());
    ck_assert_int_eq(taut_loader_next(l, &b), TAUT_OK);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        alarm(20);
        taut_status s = taut_loader_next(l, &b);
        bool        told = strstr(taut_last_error(), "forked") != NULL;
        taut_loader_close(l);
        suite_leave(s == TAUT_E_STATE && told ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %x", (unsigned)status);
    do {
        for (uint64_t i = 0; i < b.n; i++)
            if (!right_sample(&b, i)) ck_abort_msg("step %d: wrong bytes", (int)b.step);
        n += b.n;
        ck_assert_int_eq(taut_loader_next(l, &b), TAUT_OK);
    } while (!b.end);
    ck_assert_uint_eq(n, N);
    taut_loader_close(l);
}
END_TEST

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

int main(void)
{
    Suite *suite = suite_create("loader");
    TCase *t = suite_case(suite, "loader", 120);
    tcase_add_unchecked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, stream, 0, (int)COUNT(runs));
    tcase_add_loop_test(t, decodes_once, 0, 5);
    tcase_add_test(t, some_fields);
    tcase_add_test(t, without_a_plan);
    tcase_add_test(t, moved);
    tcase_add_test(t, edited_plan);
    tcase_add_test(t, forked);
    tcase_add_test(t, resumed_with_other_ranks);
    tcase_add_test(t, killed);
    tcase_add_test(t, delay_is_hidden);
    tcase_add_test(t, a_rank_is_gone);
    return suite_run(suite);
}
