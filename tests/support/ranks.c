/* ranks.c : see ranks.h. */
#include "ranks.h"
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

typedef struct seat {
    ranks_ctx  ctx;
    ranks_body body;
} seat;

static void *seat_main(void *arg)
{
    seat *s = arg;
    s->ctx.status = s->body(&s->ctx);
    snprintf(s->ctx.error, sizeof s->ctx.error, "%s", taut_last_error());
    return NULL;
}

void ranks_run(int size, const taut_config *cfg, ranks_body body, void *arg, ranks_ctx *ctx)
{
    taut_comm **comms = calloc((size_t)size, sizeof *comms);
    seat       *seats = calloc((size_t)size, sizeof *seats);
    pthread_t  *thread = calloc((size_t)size, sizeof *thread);
    taut_status s = taut_comm_create_threads(size, cfg, comms);
    ck_assert_msg(s == TAUT_OK, "create: %s", taut_last_error());
    for (int r = 0; r < size; r++) {
        seats[r] = (seat){{.comm = comms[r], .rank = r, .size = size, .arg = arg}, body};
        ck_assert_int_eq(pthread_create(&thread[r], NULL, seat_main, &seats[r]), 0);
    }
    for (int r = 0; r < size; r++) pthread_join(thread[r], NULL);
    for (int r = 0; r < size; r++) {
        if (ctx) ctx[r] = seats[r].ctx;
        taut_comm_destroy(seats[r].ctx.comm);
    }
    free(comms), free(seats), free(thread);
}

void ranks_ok(int size, const taut_config *cfg, ranks_body body, void *arg)
{
    ranks_ctx *ctx = calloc((size_t)size, sizeof *ctx);
    ranks_run(size, cfg, body, arg, ctx);
    for (int r = 0; r < size; r++)
        ck_assert_msg(ctx[r].status == TAUT_OK, "rank %d of %d: %s: %s", r, size, taut_status_name(ctx[r].status),
                      ctx[r].error);
    free(ctx);
}

taut_status ranks_same(taut_comm *comm, const void *p, size_t bytes)
{
    uint64_t h = XXH3_64bits(p, bytes);
    double   v[8], mine[8];
    for (int i = 0; i < 4; i++) mine[i] = v[i] = (double)(h >> (16 * i) & 0xffff), mine[4 + i] = v[4 + i] = v[i] * v[i];
    TAUT_TRY(taut__context_sum(&comm->ctx, v, 8));
    for (int i = 0; i < 8; i++) NEED(v[i] == mine[i] * taut_comm_size(comm));
    return TAUT_OK;
}

/* The values repeat, and are asked for by the hundred million: they stand in a table for each of the first ranks. */
enum { PERIOD = 10007, TABLES = 32 };
static float value_at(int rank, uint32_t at)
{
    uint32_t h = taut__random32(taut__rng_of(17, (uint64_t)(uint32_t)rank << 32), at);
    return (float)((double)h / 2147483648.0 - 1.0);
}

static const float *table_of(int rank)
{
    static _Atomic(float *) tables[TABLES];
    float                  *t = atomic_load_explicit(&tables[rank], memory_order_acquire), *none = NULL;
    if (t) return t;
    t = malloc(PERIOD * sizeof *t);
    for (uint32_t at = 0; at < PERIOD; at++) t[at] = value_at(rank, at);
    if (atomic_compare_exchange_strong(&tables[rank], &none, t)) return t;
    free(t); /* another thread was faster */
    return none;
}

float ranks_value(int rank, size_t i, int step)
{
    size_t at = (i + 7 * (size_t)step) % PERIOD;
    float  v = rank >= 0 && rank < TABLES ? table_of(rank)[at] : value_at(rank, (uint32_t)at);
    return i % 97 == 5 ? 10 * v : v;
}

void ranks_fill(float *x, size_t n, int rank, int step)
{
    const float *t = rank >= 0 && rank < TABLES ? table_of(rank) : NULL;
    for (size_t i = 0; i < n && !t; i++) x[i] = ranks_value(rank, i, step);
    for (size_t i = 0, at = 7 * (size_t)step % PERIOD; i < n && t; at = 0)
        for (; at < PERIOD && i < n; i++, at++) x[i] = t[at];
    for (size_t i = 5; i < n && t; i += 97) x[i] *= 10;
}

double ranks_sum(int size, size_t i, int step)
{
    double s = 0;
    for (int r = 0; r < size; r++) s += (double)ranks_value(r, i, step);
    return s;
}

float ranks_noise(int rank, size_t i, int step)
{
    return (float)((int32_t)taut__random32(taut__rng_of(3, (uint64_t)(uint32_t)rank << 32),
                                           (uint32_t)(i + 9973 * (size_t)step)) >>
                   8) *
           0x1p-23f;
}
