/* test_tcp_shrink.c : ranks over TCP that are killed, stopped, or stay away; those who are left connect anew and go on
 * (taut_comm_shrink), with right sums, and with the lost one's residuals from its last checkpoint, or with their norm told. Ranks are
 * processes. It mostly waits. */
#include "tests/support/processes.h"
#include "../support/suite.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { LAYERS = 3, BEFORE = 5, MOST = 64 * 40, ROOM = 1 << 17, RANKS = 8 };
static const size_t      shape[LAYERS][2] = {{60, 42}, {1, 70}, {64, 40}};
static const char *const codec[] = {"none",
                                    "fp16",
                                    "quant:bits=8",
                                    "grid:rel=0.02",
                                    "topk:density=0.1",
                                    "randk:density=0.2",
                                    "powersgd:rank=2",
                                    "auto",
                                    "stack:quant:bits=8+quant:bits=8"};
enum { CODECS = sizeof codec / sizeof *codec, TOPK = 4 };

typedef enum way { KILLED, STOPPED, EXITED } way;

typedef struct scene { /* in memory that all ranks share */
    way         how;
    int         lost, again; /* again: a second one, lost in the same way after the survivors have gone on; -1: none */
    const char *peers[RANKS];
    bool        adds;                                                    /* what the lost one saved is added */
    double      before[RANKS][LAYERS][MOST], after[RANKS][LAYERS][MOST]; /* residuals */
    double      lost_norm2;
    size_t      blob_n;
    char        blob[ROOM];
} scene;
static scene *live;

static void   nap(int ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL); }
static size_t elements(int i) { return shape[i][0] * shape[i][1]; }

static taut_status register_all(taut_comm *comm)
{
    for (int i = 0; i < LAYERS; i++) {
        taut_layer *l;
        char        name[2] = {(char)('a' + i), 0};
        TAUT_TRY(
            taut_layer_register(comm, name, TAUT_F32, shape[i][0] == 1 ? 1 : 2, shape[i] + (shape[i][0] == 1), &l));
    }
    return TAUT_OK;
}

static float x[LAYERS][MOST];

/* me: whose data this is, for ever. */
static taut_status one_step(taut_comm *comm, int me, int step)
{
    for (int i = LAYERS - 1; i >= 0; i--) {
        for (size_t k = 0; k < elements(i); k++) x[i][k] = ranks_value(me, k + (size_t)i * 7, step);
        TAUT_TRY(taut_allreduce_start(taut_comm_layer(comm, (size_t)i), x[i], TAUT_SUM));
    }
    return taut_step_end(comm);
}

static taut_status check_sums(taut_comm *comm, const int *member, int n, int step, bool close)
{
    for (int i = 0; i < LAYERS; i++) {
        double err = 0, norm = 0;
        for (size_t k = 0; k < elements(i); k++) {
            double right = 0;
            for (int r = 0; r < n; r++) right += (double)ranks_value(member[r], k + (size_t)i * 7, step);
            err += ((double)x[i][k] - right) * ((double)x[i][k] - right), norm += right * right;
        }
        if (close && !(err <= 0.15 * norm)) return taut__fail(TAUT_E_INVALID, "layer %d: error %g of %g", i, err, norm);
        TAUT_TRY(ranks_same(comm, x[i], elements(i) * sizeof **x));
    }
    return TAUT_OK;
}

static void note_residuals(taut_comm *comm, double (*to)[MOST])
{
    for (int i = 0; i < LAYERS; i++) {
        const taut_layer *l = taut_comm_layer(comm, (size_t)i);
        for (size_t k = 0; k < elements(i); k++) to[i][k] = l->operand.residual ? (double)l->operand.feedback->r[k] : 0;
    }
}

static double norm2(double (*r)[MOST])
{
    double all = 0;
    for (int i = 0; i < LAYERS; i++)
        for (size_t k = 0; k < elements(i); k++) all += r[i][k] * r[i][k];
    return all;
}

/* Until all other ranks are so far. */
static taut_status await(const process *p, int at)
{
    for (int r = 0; r < p->size; r++)
        for (int i = 0; r != p->rank && p->all[r].at < at; i++) {
            if (i > 20000) return taut__fail(TAUT_E_TIMEOUT, "line %d: rank %d is at %d", __LINE__, r, p->all[r].at);
            nap(2);
        }
    return TAUT_OK;
}

enum { DONE_BEFORE = 1, FAILED, WENT_ON, ENDED };

/* Until the others have ended, when a child kills it. */
static void stop(const process *p)
{
    pid_t me = getpid();
    if (fork() == 0) {
        (void)await(p, ENDED);
        kill(me, SIGKILL);
        suite_leave(0);
    }
    raise(SIGSTOP);
}

static taut_status lose(process *p, taut_comm *comm)
{
    NEED(taut_state_save(comm, live->blob, sizeof live->blob, &live->blob_n) == TAUT_OK);
    TAUT_TRY(await(p, p->rank == live->again ? WENT_ON : DONE_BEFORE)); /* what it sent last may be lost with it */
    for (int i = 0; i < p->rank % LAYERS; i++)
        TAUT_TRY(taut_allreduce_start(taut_comm_layer(comm, (size_t)i), x[i], TAUT_SUM));
    p->status = TAUT_OK; /* what the parent reads */
    p->at = live->how == STOPPED ? DONE_BEFORE : ENDED;
    if (live->how == KILLED) raise(SIGKILL);
    if (live->how == STOPPED) stop(p);
    suite_leave(0);
}

/* Steps on *comm until one fails; then the survivors' communicator is in its place. member: whose data its ranks have. */
static taut_status go_on(process *p, taut_comm **comm, int lost, int *member, int *n)
{
    taut_survivors who = TAUT_SURVIVORS_INIT;
    taut_comm     *smaller = NULL;
    taut_status    s = one_step(*comm, p->rank, BEFORE);
    NEED(s == TAUT_E_PEER || s == TAUT_E_TIMEOUT);
    TAUT_TRY(taut_comm_shrink(*comm, &smaller, &who));
    NEED(taut_comm_shrink(*comm, &(taut_comm *){NULL}, NULL) == TAUT_E_STATE);
    taut_comm_destroy(*comm);
    *comm = smaller;
    int at = 0;
    while (member[at] != lost) at++;
    NEED(who.ranks == *n - 1 && who.lost == 1 && who.lost_rank[0] == at && taut_comm_size(smaller) == *n - 1);
    NEED(!who.behind && who.source == 0 && taut_comm_layers(smaller) == LAYERS);
    memmove(&member[at], &member[at + 1], (size_t)(--*n - at) * sizeof *member);
    NEED(member[who.rank] == p->rank && taut_comm_rank(smaller) == who.rank);
    if (lost == live->lost) live->lost_norm2 = who.lost_norm2;
    return TAUT_OK;
}

static taut_status play_rank(process *p, taut_comm **comm)
{
    const char *spec = p->arg;
    bool close = strncmp(spec, "topk", 4) != 0 && strncmp(spec, "randk", 5) != 0 && strncmp(spec, "power", 5) != 0;
    int  member[RANKS], n = p->size, lost[] = {live->lost, live->again};
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = spec, cfg.budget = "rel=0.02", cfg.link = "1gbit", cfg.dropped = "restore";
    cfg.timeout_ms = live->how == STOPPED ? 1500 : 50000; /* of those who have gone everybody knows */
    if (live->peers[0]) p->where.root = NULL, p->where.peers = live->peers;
    TAUT_TRY(taut_comm_create_tcp(&p->where, &cfg, comm));
    for (int r = 0; r < n; r++) member[r] = r;
    TAUT_TRY(register_all(*comm));
    for (int step = 0; step < BEFORE; step++) TAUT_TRY(one_step(*comm, p->rank, step));
    note_residuals(*comm, live->before[p->rank]);
    p->at = DONE_BEFORE;
    for (int round = 0; round < 2 && lost[round] >= 0; round++) {
        if (p->rank == lost[round]) return lose(p, *comm);
        TAUT_TRY(go_on(p, comm, lost[round], member, &n));
        if (live->adds && member[0] == p->rank) TAUT_TRY(taut_state_add(*comm, live->blob, live->blob_n));
        if (round == 0) note_residuals(*comm, live->after[p->rank]);
        for (int step = 20; step < 23; step++) {
            TAUT_TRY(one_step(*comm, p->rank, step));
            TAUT_TRY(check_sums(*comm, member, n, step, close));
        }
        p->at = WENT_ON;
    }
    return TAUT_OK;
}

static taut_status survive(process *p, taut_comm **comm)
{
    taut_status s = play_rank(p, comm);
    p->at = ENDED;
    return s;
}

/* What the survivors have is what all had; without the lost one's checkpoint it lacks what was said to be lost. */
static void check_residuals(int size)
{
    double err = 0, norm = 0, lost = norm2(live->before[live->lost]);
    for (int i = 0; i < LAYERS; i++)
        for (size_t k = 0; k < elements(i); k++) {
            double sum = 0, now = 0;
            for (int r = 0; r < size; r++) {
                if (r != live->lost) now += live->after[r][i][k];
                if (r != live->lost || live->adds) sum += live->before[r][i][k];
            }
            err += (sum - now) * (sum - now), norm += sum * sum;
        }
    ck_assert_msg(err <= 1e-10 * norm, "residuals: error %g of %g", err, norm);
    ck_assert_msg(fabs(live->lost_norm2 - lost) <= 0.02 * lost + 1e-9, "lost_norm2 is %g, and was %g", live->lost_norm2,
                  lost);
}

static void play(int size, const char *spec, scene s)
{
    live = mmap(NULL, sizeof *live, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(live != MAP_FAILED);
    *live = s;
    const process *p = processes_run(size, NULL, survive, (void *)(uintptr_t)spec, true);
    for (int r = 0; r < size; r++)
        ck_assert_msg(p[r].status == TAUT_OK, "%s, how %d, rank %d of %d, without %d: %s: %s (%x)", spec, (int)s.how, r,
                      size, s.lost, taut_status_name(p[r].status), p[r].error, (unsigned)p[r].wait);
    if (strncmp(spec, "topk", 4) == 0) check_residuals(size);
    munmap(live, sizeof *live);
}

/* scene is too large for the stack of a call by value */
static void play_one(int size, const char *spec, way h, int lost, int again, bool adds, const char *const *peers)
{
    static scene s;
    memset(&s, 0, sizeof s);
    s.how = h, s.lost = lost, s.again = again, s.adds = adds;
    for (int r = 0; peers && r < size; r++) s.peers[r] = peers[r];
    play(size, spec, s);
}

START_TEST(killed)
{
    for (int size = 2; size <= 4; size++)
        play_one(size, codec[_i], _i % 2 ? EXITED : KILLED, size == 3 ? 0 : size - 1 - size / 4, -1, false, NULL);
}
END_TEST

START_TEST(stopped)
{
    for (int size = 2; size <= (suite_long() ? 4 : 3); size++)
        play_one(size, codec[(3 * _i + size) % CODECS], STOPPED, _i == 0 ? 0 : size - 1, -1, false, NULL);
}
END_TEST

START_TEST(residuals)
{
    for (int size = 2; size <= 4; size++)
        for (int lost = 0; lost < size; lost += size - 1) play_one(size, codec[TOPK], KILLED, lost, -1, _i, NULL);
}
END_TEST

/* Twice in a row; and where ranks listen at given ports, which they use again. */
START_TEST(twice)
{
    static char        text[RANKS][32];
    static const char *peers[RANKS];
    for (int r = 0; r < RANKS; r++)
        snprintf(text[r], sizeof *text, "127.0.0.1:%d", processes_port()), peers[r] = text[r];
    play_one(4, codec[2], KILLED, 1, 3, false, NULL);
    play_one(4, codec[3], KILLED, 0, 1, false, peers);
    play_one(7, codec[0], KILLED, 3, 0, false, NULL);
}
END_TEST

/* ---- one that is there, but comes too late; one that gives up and leaves; nothing has failed ---- */

enum { JOINS, COMES_LATE, LEAVES };
static int         how;
static taut_status after_others(process *p, taut_comm **comm)
{
    taut_comm  *smaller = NULL;
    taut_status s;
    int         all[] = {0, 1, 2}, two[] = {0, 2}, n = how == JOINS ? 3 : 2;
    TAUT_TRY(register_all(*comm));
    TAUT_TRY(one_step(*comm, p->rank, 0));
    NEED(taut_comm_shrink(*comm, &smaller, NULL) == TAUT_E_STATE && strstr(taut_last_error(), "nothing has failed"));
    if (p->rank == 1) TAUT_TRY(await(p, FAILED));
    s = one_step(*comm, p->rank, 1);
    NEED(s == TAUT_E_TIMEOUT || s == TAUT_E_PEER);
    p->at = FAILED;
    if (p->rank == 1 && how == LEAVES) return TAUT_OK; /* destroys it: nobody waits for this one */
    if (p->rank == 1 && how == COMES_LATE) TAUT_TRY(await(p, WENT_ON));
    s = taut_comm_shrink(*comm, &smaller, NULL);
    if (p->rank == 1 && how == COMES_LATE) {
        p->at = ENDED;
        NEED(s == TAUT_E_PEER && strstr(taut_last_error(), "without rank 1") && !smaller);
        return TAUT_OK;
    }
    TAUT_TRY(s);
    NEED(taut_comm_size(smaller) == n);
    TAUT_TRY(one_step(smaller, p->rank, 2));
    TAUT_TRY(check_sums(smaller, n == 2 ? two : all, n, 2, true));
    p->at = WENT_ON;
    for (int i = 0; how == COMES_LATE && p->all[1].at < ENDED && i < 20000; i++)
        nap(2); /* it asks through what is left */
    taut_comm_destroy(smaller);
    return TAUT_OK;
}
START_TEST(late)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = "quant:bits=8";
    cfg.timeout_ms = 1500;
    how = _i;
    processes_ok(processes_run(3, &cfg, after_others, NULL, false), 3);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tcp_shrink");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, killed, 0, CODECS);
    tcase_add_loop_test(t, stopped, 0, 2);
    tcase_add_loop_test(t, residuals, 0, 2);
    tcase_add_test(t, twice);
    tcase_add_loop_test(t, late, 0, 3);
    return suite_run(s);
}
