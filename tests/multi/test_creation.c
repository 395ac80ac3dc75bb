/* test_creation.c : communicators over threads and TCP whose creation fails on one rank alone, or that lose a rank while they are created.
 * Over MPI: test_creation_mpi.c. It mostly waits. */
#include "tests/support/creation.h"
#include "tests/support/processes.h"
#include "../support/suite.h"
#include "comm/base/thread.h"
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { TIMEOUT_MS = 1000 };
static const double MOST_S = 1e-3 * TIMEOUT_MS + 2;

/* ---- TCP: processes ---- */

static taut_status by_tcp(creation *c, const taut_config *cfg, taut_comm **comm)
{
    const process *p = c->ctx;
    return taut_comm_create_tcp(&p->where, cfg, comm);
}

/* Values of the last 64 rounds; nobody is ahead of another one by more than one. */
static int by_memory(creation *c, int mine)
{
    process *p = c->ctx;
    int      round = p->at, least = mine;
    p->hash[round % 64] = (uint64_t)(int64_t)mine;
    p->at = round + 1;
    for (int r = 0; r < c->size; r++) {
        while (p->all[r].at <= round) usleep(100);
        int his = (int)(int64_t)p->all[r].hash[round % 64];
        if (his < least) least = his;
    }
    return least;
}

static taut_status alone(process *p, taut_comm **comm)
{
    const int *what = p->arg;
    creation   c = {.rank = p->rank, .size = p->size, .create = by_tcp, .least = by_memory, .ctx = p, .every = what[1]};
    (void)comm;
    taut_status s = what[0] ? creation_otherwise(&c) : creation_without_memory(&c);
    if (s != TAUT_OK) /* the others, who wait for this one, cannot say what it is */
        fprintf(stderr, "rank %d of %d: %s\n", p->rank, p->size, taut_last_error());
    return s;
}
START_TEST(one_fails)
{
    int size = 1 + _i % 4, what[2] = {_i / 4, suite_long() || size < 3 ? 1 : 3};
    processes_ok(processes_run(size, NULL, alone, what, true), size);
}
END_TEST

/* Killed, or without a descriptor, when it has connected so and so far. */
enum { KILLED, NO_DESCRIPTORS };
static int how, nth;

static void dies(int unused)
{
    (void)unused;
    raise(SIGKILL);
}

static taut_status goes(process *p, taut_comm **comm)
{
    taut_config  cfg = TAUT_CONFIG_INIT;
    const size_t before = taut__alloc_bytes();
    bool         odd = p->rank == p->size - 1;
    cfg.timeout_ms = TIMEOUT_MS;
    if (odd && how == KILLED) {
        signal(SIGALRM, dies);
        ualarm((useconds_t)(200 + 700 * nth), 0);
    }
    if (odd && how == NO_DESCRIPTORS) setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)(3 + nth), (rlim_t)(3 + nth)});
    taut_status s = taut_comm_create_tcp(&p->where, &cfg, comm);
    if (s == TAUT_OK) return s;
    char text[400];
    snprintf(text, sizeof text, "%s", taut_last_error());
    NEED(!*comm && taut__alloc_bytes() == before);
    return taut__fail(s, "%s", text);
}
START_TEST(one_goes)
{
    char who[20];
    how = _i % 2;
    int size = 2 + _i / 2, failures = 0, step = suite_long() ? 1 : 4;
    snprintf(who, sizeof who, "rank %d", size - 1);
    for (nth = 0; nth < 8; nth += step) {
        const process *p = processes_run(size, NULL, goes, NULL, true);
        int            good = 0;
        for (int r = 0; r < size - 1; r++) {
            good += p[r].status == TAUT_OK;
            ck_assert_msg(p[r].status == TAUT_OK || strstr(p[r].error, who), "how %d, %d: rank %d of %d: %s: %s", how,
                          nth, r, size, taut_status_name(p[r].status), p[r].error);
            ck_assert_msg(p[r].status != TAUT_STATUS_END_ && p[r].seconds < MOST_S, "how %d, %d: rank %d of %d: %.1f s",
                          how, nth, r, size, p[r].seconds);
        }
        failures += good < size - 1;
        /* who is killed behind its last word leaves a communicator to the others, in which it is missed at once */
        ck_assert_msg(how == KILLED || good == 0 || good == size - 1, "how %d, %d: some have a communicator", how, nth);
    }
    ck_assert_int_gt(failures, 0);
}
END_TEST

/* ---- threads of this process ---- */

static taut_status by_threads(creation *c, const taut_config *cfg, taut_comm **comm)
{
    taut_comm **all = c->ctx;
    *comm = NULL;
    taut_status s = taut_comm_create_threads(4, cfg, all);
    if (s == TAUT_OK) *comm = all[0];
    return s;
}

static void no_memory(int n) { taut__alloc_fail_after(n); }
static void no_thread(int n) { taut__thread_fail_after(n); }

START_TEST(threads)
{
    void (*arm)(int) = _i ? no_thread : no_memory;
    taut_config cfg = TAUT_CONFIG_INIT;
    taut_comm  *comm[4], *first;
    creation    c = {.ctx = comm};
    int         named = 0;
    cfg.threads = 2;
    const size_t before = taut__alloc_bytes();
    taut_status  s = TAUT_E_NOMEM;
    for (int n = 0; s != TAUT_OK; n++) {
        arm(n);
        s = by_threads(&c, &cfg, &first);
        arm(-1);
        ck_assert_msg(s == TAUT_OK || s == TAUT_E_NOMEM, "%s", taut_last_error());
        for (int r = 0; r < 4; r++) {
            ck_assert((comm[r] != NULL) == (s == TAUT_OK));
            char who[20];
            snprintf(who, sizeof who, "rank %d: ", r);
            if (s != TAUT_OK && strstr(taut_last_error(), who)) named |= 1 << r;
        }
        if (s != TAUT_OK) ck_assert_uint_eq(taut__alloc_bytes(), before);
    }
    ck_assert_int_eq(named, 15); /* each was the one, once */
    for (int r = 0; r < 4; r++) taut_comm_destroy(comm[r]);
    ck_assert_uint_eq(taut__alloc_bytes(), before);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("creation");
    TCase *t = suite_case(s, "creation", 120);
    tcase_add_loop_test(t, one_fails, 0, 8);
    tcase_add_loop_test(t, one_goes, 0, 6);
    tcase_add_loop_test(t, threads, 0, 2);
    return suite_run(s);
}
