/* test_faults.c : slow and stopped peers in the middle of an overlapped step, two communicators at once, buffers that
 * are freed too early. Ranks are threads. It mostly waits. */
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LAYERS = 6, ROWS = 60, COLS = 50, N = ROWS * COLS };

typedef struct model {
    taut_layer *layer[LAYERS]; /* the even ones are small, and fused */
    float      *grad[LAYERS];
} model;

static void nap(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

static size_t elems(int i) { return i % 2 ? N : COLS; }

static taut_status model_create(taut_comm *comm, model *m)
{
    for (int i = 0; i < LAYERS; i++) {
        char   name[32];
        size_t shape[2] = {ROWS, COLS};
        snprintf(name, sizeof name, "layer%d", i);
        TAUT_TRY(taut_layer_register(comm, name, TAUT_F32, i % 2 ? 2 : 1, i % 2 ? shape : shape + 1, &m->layer[i]));
        m->grad[i] = calloc(elems(i), sizeof(float));
    }
    return TAUT_OK;
}

static void model_free(model *m)
{
    for (int i = 0; i < LAYERS; i++) free(m->grad[i]);
}

static taut_status start(model *m, int i, int rank, int step)
{
    for (size_t k = 0; k < elems(i); k++) m->grad[i][k] = ranks_value(rank, k + (size_t)i * 1000, step);
    return taut_allreduce_start(m->layer[i], m->grad[i], TAUT_SUM);
}

static taut_status check_sums(const model *m, int size, int step)
{
    for (int i = 0; i < LAYERS; i++) {
        double err = 0, norm = 0;
        for (size_t k = 0; k < elems(i); k++) {
            double x = ranks_sum(size, k + (size_t)i * 1000, step), d = (double)m->grad[i][k] - x;
            err += d * d, norm += x * x;
        }
        NEED(err <= 0.01 * norm);
    }
    return TAUT_OK;
}

static taut_config with_timeout(int ms, int progress)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = "quant:bits=8";
    cfg.timeout_ms = ms;
    cfg.progress = progress;
    return cfg;
}

/* ---- slow: every pause is shorter than the timeout, the step is not ---- */

static taut_status slow_rank(ranks_ctx *c)
{
    model m;
    TAUT_TRY(model_create(c->comm, &m));
    for (int step = 0; step < 2; step++) {
        for (int i = LAYERS - 1; i >= 0; i--) {
            if (c->rank == 1 && step == 1) nap(400);
            TAUT_TRY(start(&m, i, c->rank, step));
        }
        TAUT_TRY(taut_step_end(c->comm));
        TAUT_TRY(check_sums(&m, c->size, step));
    }
    model_free(&m);
    return TAUT_OK;
}
START_TEST(slow_peer)
{
    taut_config cfg = with_timeout(1500, _i);
    ranks_ok(3, &cfg, slow_rank, NULL);
}
END_TEST

/* ---- stopped: half of its layers started, then nothing more ---- */

static taut_status stopped_rank(ranks_ctx *c)
{
    model m;
    TAUT_TRY(model_create(c->comm, &m));
    for (int step = 0; step < 2; step++) {
        for (int i = LAYERS - 1; i >= 0; i--) {
            if (c->rank == 1 && step == 1 && i == LAYERS / 2) {
                nap(3500); /* well past the timeout of the others: what it does now comes too late */
                taut_status s = taut_step_end(c->comm);
                model_free(&m);
                return s;
            }
            TAUT_TRY(start(&m, i, c->rank, step));
        }
        taut_status s = taut_step_end(c->comm);
        if (s != TAUT_OK) {
            NEED(step == 1);
            NEED(taut_allreduce_start(m.layer[1], m.grad[1], TAUT_SUM) == s); /* it stays dead */
            model_free(&m);
            return s;
        }
    }
    return TAUT_OK;
}
START_TEST(stopped_peer)
{
    taut_config cfg = with_timeout(500, _i);
    ranks_ctx   ctx[3];
    double      begin = taut__now();
    ranks_run(3, &cfg, stopped_rank, NULL, ctx);
    ck_assert_double_lt(taut__now() - begin, 10);
    for (int r = 0; r < 3; r++) {
        ck_assert_msg(ctx[r].status == TAUT_E_TIMEOUT, "rank %d: %s", r, ctx[r].error);
        ck_assert_msg(strstr(ctx[r].error, "500 ms") != NULL, "rank %d: %s", r, ctx[r].error);
    }
}
END_TEST

/* ---- two communicators of the same ranks, both with layers under way, used in another order by every rank ---- */

static taut_comm *second[3];

static taut_status two_comms(ranks_ctx *c)
{
    taut_comm *comm[2] = {c->comm, second[c->rank]};
    model      m[2];
    for (int k = 0; k < 2; k++) TAUT_TRY(model_create(comm[k], &m[k]));
    for (int step = 0; step < 4; step++) {
        for (int i = LAYERS - 1; i >= 0; i--)
            for (int k = 0; k < 2; k++)
                TAUT_TRY(start(&m[(k + c->rank + step) % 2], i, c->rank + 3 * ((k + c->rank + step) % 2), step));
        /* a wait in one while the other's messages are on their way; no rank may hold up the others */
        TAUT_TRY(taut_wait(m[c->rank % 2].layer[1]));
        for (int k = 0; k < 2; k++) TAUT_TRY(taut_step_end(comm[k]));
        TAUT_TRY(check_sums(&m[0], c->size, step));
        for (size_t k = 0; k < N; k++) {
            double x = 0;
            for (int r = 0; r < c->size; r++) x += (double)ranks_value(r + 3, k + 1000, step);
            NEED(fabs((double)m[1].grad[1][k] - x) < 0.5);
        }
    }
    model_free(&m[0]), model_free(&m[1]);
    return TAUT_OK;
}
START_TEST(two_communicators)
{
    taut_config cfg = with_timeout(20000, 1);
    ck_assert_int_eq(taut_comm_create_threads(3, &cfg, second), TAUT_OK);
    ranks_ok(3, &cfg, two_comms, NULL);
    for (int r = 0; r < 3; r++) taut_comm_destroy(second[r]);
}
END_TEST

/* ---- freed between start and wait ---- */
#ifdef TAUT_DEBUG
/* What malloc gives back to the system is no memory any more; the sanitizers' malloc keeps it, so no malloc here. */
static taut_status give_back(ranks_ctx *c)
{
    size_t      bytes = (size_t)2048 * 256 * sizeof(float);
    float      *x = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    taut_layer *l;
    NEED(x != MAP_FAILED);
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){2048, 256}, &l));
    TAUT_TRY(taut_allreduce_start(l, x, TAUT_SUM));
    if (c->rank == 0) NEED(munmap((char *)x + bytes / 4 * 3, bytes / 4) == 0);
    return taut_wait(l);
}
static void freed_buffer(void)
{
    taut_config cfg = with_timeout(5000, 2);
    ranks_ctx   ctx[2];
    cfg.slice_kib = 64;
    ranks_run(2, &cfg, give_back, NULL, ctx);
}
START_TEST(freed_buffers)
{
    char   text[4096];
    int    fd[2];
    size_t n = 0;
    ck_assert_int_eq(pipe(fd), 0);
    pid_t pid = fork();
    if (pid == 0) { /* the process dies of it, having said why */
        dup2(fd[1], 2);
        close(fd[0]), close(fd[1]);
        freed_buffer();
        suite_leave(0);
    }
    close(fd[1]);
    for (ssize_t got; n < sizeof text - 1 && (got = read(fd[0], text + n, sizeof text - 1 - n)) > 0;) n += (size_t)got;
    text[n] = 0;
    close(fd[0]);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(!(WIFEXITED(status) && WEXITSTATUS(status) == 0), "nobody noticed");
    ck_assert_msg(strstr(text, "layer 'w': its buffer was freed between start and wait") != NULL, "%s", text);
}
END_TEST
#endif

int main(void)
{
    Suite *s = suite_create("faults");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, slow_peer, 1, 3); /* the two kinds of progress */
    tcase_add_loop_test(t, stopped_peer, 1, 3);
    tcase_add_test(t, two_communicators);
#ifdef TAUT_DEBUG
    tcase_add_test(t, freed_buffers);
#endif
    return suite_run(s);
}
