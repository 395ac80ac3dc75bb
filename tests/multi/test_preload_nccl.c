/* test_preload_nccl.c : what libtaut-preload-nccl.so makes of a program's calls of NCCL, with NCCL's double as NCCL and the mock device as GPU: large
 * sums compressed, on the program's stream, in its order; all else as it is. */
#include "comm/preload/nccl/nccl_calls.h"
#include "compressors/vectors.h"
#include "tests/support/device_case.h"
#include "tests/support/nccl_double.h"
#include "../support/suite.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int ncclAllReduce(const void *from, void *to, size_t count, int type, int op, taut__nccl_comm comm,
                  struct CUstream_st *stream);
int ncclReduceScatter(const void *from, void *to, size_t count, int type, int op, taut__nccl_comm comm,
                      struct CUstream_st *stream);
int ncclGroupStart(void);
int ncclGroupEnd(void);
int ncclCommDestroy(taut__nccl_comm comm);
int ncclCommAbort(taut__nccl_comm comm);

enum { COUNT = 65536 / 4 * 3, FEW = 1000, PART = 16384, UNSUITED = 12 };

typedef struct program {
    int             rank, size, failed;
    taut__nccl_id   id;
    taut__nccl_comm comm;
    taut_place      place;
    char           *from, *to; /* on the device */
    float          *x;         /* what is put in */
    int (*body)(struct program *p);
} program;

static float value(int rank, size_t i) { return ranks_value(rank, i, 3); }

static size_t     width(int type) { return type == TAUT__NCCL_F32 ? 4 : 2; }
static taut_dtype dtype(int type)
{
    return type == TAUT__NCCL_F32 ? TAUT_F32 : type == TAUT__NCCL_F16 ? TAUT_F16 : TAUT_BF16;
}

/* The program's thread uses device 0 when it calls NCCL; whatever happens then, it does so afterwards. */
static _Atomic int strayed;
static void        to_own_device(void)
{
    if (mock_used() != 0) strayed++;
    mock_use(mock_device());
}

/* Late, in the order of the program's stream. */
static void put_in(program *p, int type, size_t n)
{
    to_own_device();
    static _Thread_local char kept[4 * COUNT];
    for (size_t i = 0; i < n; i++) p->x[i] = value(p->rank, i);
    taut__vectors_host.convert((taut_place){0}, kept, dtype(type), p->x, TAUT_F32, n);
    taut__memory_of(p->place.space)->copy(p->place, p->from, kept, n * width(type));
    mock_use(0);
}

static void get_out(program *p, int type, size_t n, const void *at, float *out)
{
    static _Thread_local char raw[4 * COUNT];
    to_own_device();
    taut__memory_of(p->place.space)->wait(p->place);
    mock_read(raw, at, n * width(type));
    taut__vectors_host.convert((taut_place){0}, out, TAUT_F32, raw, dtype(type), n);
    mock_use(0);
}

/* Squared error of n results, relative, against the sum of elements first + i over ranks, times factor. */
static double error(const program *p, const float *out, size_t first, size_t n, double factor)
{
    double e = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        double want = 0;
        for (int r = 0; r < p->size; r++) want += (double)value(r, first + i);
        want *= factor;
        e += ((double)out[i] - want) * ((double)out[i] - want), all += want * want;
    }
    return e / all;
}

#define MUST(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond)) return fprintf(stderr, "rank %d, line %d: %s\n", p->rank, __LINE__, #cond), 1;                    \
    } while (0)
/* Four bits of such numbers, one in a hundred of which is ten times as large, lose between these; halves less, and what one of three ranks has alone
 * is further away. */
static const double CODED = 0.6, PLAIN = 1e-2;

static int sums(program *p)
{
    static const int types[] = {TAUT__NCCL_F32, TAUT__NCCL_F16, TAUT__NCCL_BF16};
    float           *out = malloc(COUNT * sizeof *out);
    for (int t = 0; t < 3; t++)
        for (int avg = 0; avg < 2; avg++)
            for (int in_place = 0; in_place < 2; in_place++) {
                int    op = avg ? TAUT__NCCL_AVG : TAUT__NCCL_SUM;
                size_t n = COUNT / width(types[t]) * 4 / (size_t)(1 + (t > 0));
                n = n > COUNT ? COUNT : n;
                void *to = in_place ? p->from : p->to;
                put_in(p, types[t], n);
                MUST(ncclAllReduce(p->from, to, n, types[t], op, p->comm, p->place.stream) == 0);
                get_out(p, types[t], n, to, out);
                double e = error(p, out, 0, n, avg ? 1.0 / p->size : 1);
                MUST(e > PLAIN && e < CODED);
                if (in_place) continue;
                get_out(p, types[t], n, p->from, out); /* what was put in is still there */
                for (size_t i = 0; i < n; i += 97) MUST(fabsf(out[i] - p->x[i]) <= 0.01f * fabsf(p->x[i]) + 1e-3f);
            }
    free(out);
    return 0;
}

/* Small sums, whole numbers, other operations: as they are. */
static int exact(program *p)
{
    float out[FEW];
    put_in(p, TAUT__NCCL_F32, FEW);
    MUST(ncclAllReduce(p->from, p->to, FEW, TAUT__NCCL_F32, TAUT__NCCL_SUM, p->comm, p->place.stream) == 0);
    get_out(p, TAUT__NCCL_F32, FEW, p->to, out);
    MUST(error(p, out, 0, FEW, 1) < 1e-12);
    put_in(p, TAUT__NCCL_F32, COUNT);
    MUST(ncclAllReduce(p->from, p->to, COUNT, TAUT__NCCL_I32, TAUT__NCCL_SUM, p->comm, p->place.stream) == 0);
    MUST(ncclAllReduce(p->from, p->to, COUNT, TAUT__NCCL_F32, 2, p->comm, p->place.stream) !=
         0); /* max: the double has none, and is asked */
    MUST(ncclAllReduce(p->from, p->to, COUNT, TAUT__NCCL_F32, TAUT__NCCL_SUM, NULL, p->place.stream) != 0);
    return 0;
}

/* A program that captures a step captures it on all ranks: its sums are NCCL's own, which a graph may hold, and compressed again outside. */
static int in_capture(program *p)
{
    float *out = malloc(COUNT * sizeof *out);
    for (int captured = 1; captured >= 0; captured--) {
        int before = nccl_double_operations();
        mock_capture_all(captured);
        put_in(p, TAUT__NCCL_F32, COUNT);
        MUST(ncclAllReduce(p->from, p->to, COUNT, TAUT__NCCL_F32, TAUT__NCCL_SUM, p->comm, p->place.stream) == 0);
        get_out(p, TAUT__NCCL_F32, COUNT, p->to, out);
        double e = error(p, out, 0, COUNT, 1);
        MUST(captured || p->size == 1 ? e < 1e-12 : e > PLAIN && e < CODED);
        MUST(nccl_double_operations() > before);
        /* nobody goes on before all have been here */
        MUST(ncclAllReduce(p->from, p->to, 1, TAUT__NCCL_F32, TAUT__NCCL_SUM, p->comm, p->place.stream) == 0);
        get_out(p, TAUT__NCCL_F32, 1, p->to, out);
    }
    free(out);
    return 0;
}

/* In a group nothing is made until the outermost one ends; then in the order of the calls. */
static int groups(program *p)
{
    float *out = malloc(COUNT * sizeof *out);
    put_in(p, TAUT__NCCL_F32, COUNT);
    int before = nccl_double_operations();
    MUST(ncclGroupStart() == 0 && ncclGroupStart() == 0);
    MUST(ncclAllReduce(p->from, p->to, COUNT, TAUT__NCCL_F32, TAUT__NCCL_AVG, p->comm, p->place.stream) == 0);
    if (p->size > 1) /* of the result of the first; NCCL's own know no order in a group */
        MUST(ncclAllReduce(p->to, p->to, COUNT, TAUT__NCCL_F32, TAUT__NCCL_SUM, p->comm, p->place.stream) == 0);
    MUST(ncclGroupEnd() == 0);
    MUST(p->size > 1 || nccl_double_operations() == before);
    MUST(ncclGroupEnd() == 0);
    get_out(p, TAUT__NCCL_F32, COUNT, p->to, out);
    double e = error(p, out, 0, COUNT, 1);
    MUST(e < 3 * CODED && (p->size == 1 || e > PLAIN));
    free(out);
    return 0;
}

/* A communicator that does not block takes nothing before it has taken what was asked last; in a group that is NCCL's affair. */
static int unblocking(program *p)
{
    float *out = malloc(COUNT * sizeof *out);
    char  *few = p->from + 4 * COUNT - 8 * FEW;
    for (int large = 0; large < 2; large++) {
        size_t n = COUNT - 2 * FEW;
        int    state = TAUT__NCCL_IN_PROGRESS;
        put_in(p, TAUT__NCCL_F32, COUNT);
        MUST(ncclGroupStart() == 0);
        MUST(ncclAllReduce(few, few, FEW, TAUT__NCCL_F32, TAUT__NCCL_SUM, p->comm, p->place.stream) == 0);
        if (large)
            MUST(ncclAllReduce(p->from, p->to, n, TAUT__NCCL_F32, TAUT__NCCL_SUM, p->comm, p->place.stream) == 0);
        MUST(ncclAllReduce(few + 4 * FEW, few + 4 * FEW, FEW, TAUT__NCCL_F32, TAUT__NCCL_SUM, p->comm,
                           p->place.stream) == 0);
        int r = ncclGroupEnd();
        MUST(r == 0 || r == TAUT__NCCL_IN_PROGRESS);
        while (state == TAUT__NCCL_IN_PROGRESS) MUST(nccl_double_table()->async_error(p->comm, &state) == 0);
        MUST(state == 0);
        for (int i = 0; i < 2; i++) {
            get_out(p, TAUT__NCCL_F32, FEW, few + 4 * FEW * i, out);
            MUST(error(p, out, n + FEW * (size_t)i, FEW, 1) < 1e-11);
        }
        if (large) get_out(p, TAUT__NCCL_F32, n, p->to, out);
        MUST(!large || (error(p, out, 0, n, 1) < CODED && error(p, out, 0, n, 1) > PLAIN));
    }
    free(out);
    return 0;
}

/* Such a communicator is aborted by another thread of the program, while a call of it is being made: the call ends, and NCCL, whose memory is gone, is asked
 * for nothing any more. */
static void *abort_soon(void *comm)
{
    usleep(100000);
    ncclCommAbort(comm);
    return NULL;
}
static int aborted_meanwhile(program *p)
{
    pthread_t thread;
    float     first;
    put_in(p, TAUT__NCCL_F32, COUNT);
    /* nobody goes on before all have their communicator */
    MUST(ncclAllReduce(p->from, p->to, 1, TAUT__NCCL_F32, TAUT__NCCL_SUM, p->comm, p->place.stream) == 0);
    get_out(p, TAUT__NCCL_F32, 1, p->to, &first);
    nccl_double_lazy(1 << 30); /* it is never taken */
    MUST(pthread_create(&thread, NULL, abort_soon, p->comm) == 0);
    int r = ncclAllReduce(p->from, p->to, COUNT, TAUT__NCCL_F32, TAUT__NCCL_SUM, p->comm, p->place.stream);
    pthread_join(thread, NULL);
    MUST(r != 0);
    p->comm = NULL;
    return 0;
}

static int scattered(program *p)
{
    size_t n = PART * (size_t)p->size;
    float *out = malloc(PART * sizeof *out);
    if (n > COUNT) n = 0;
    put_in(p, TAUT__NCCL_F32, n);
    for (int avg = 0; n && avg < 2; avg++) {
        MUST(ncclReduceScatter(p->from, p->to, PART, TAUT__NCCL_F32, avg ? TAUT__NCCL_AVG : TAUT__NCCL_SUM, p->comm,
                               p->place.stream) == 0);
        get_out(p, TAUT__NCCL_F32, PART, p->to, out);
        double e = error(p, out, PART * (size_t)p->rank, PART, avg ? 1.0 / p->size : 1);
        MUST(e > PLAIN && e < CODED);
    }
    free(out);
    return 0;
}

/* Rounds that a seed draws: sums of every kind on parts of the buffers, in groups, nested ones and none, some small and exact; ranks are late by chance. */
enum { SLICES = 3, SLICE = COUNT / SLICES, ROUNDS = 25 };
typedef struct drawn_sum {
    int    kind, in_place, avg; /* kind: all of it, scattered, a few */
    size_t slice, n;
} drawn_sum;

static uint64_t drawn_seed;
static int      draw(uint64_t *s, int n) { return (int)(taut__mix64((*s)++) % (uint64_t)n); }

static int make_sum(program *p, const drawn_sum *d)
{
    char *from = p->from + 4 * SLICE * d->slice, *to = d->in_place ? from : p->to + 4 * SLICE * d->slice;
    int   op = d->avg ? TAUT__NCCL_AVG : TAUT__NCCL_SUM;
    if (d->kind != 1) return ncclAllReduce(from, to, d->n, TAUT__NCCL_F32, op, p->comm, p->place.stream);
    to = d->in_place ? from + 4 * d->n * (size_t)p->rank : to;
    return ncclReduceScatter(from, to, d->n, TAUT__NCCL_F32, op, p->comm, p->place.stream);
}

static int check_sum(program *p, const drawn_sum *d, float *out)
{
    size_t first = d->kind == 1 ? d->n * (size_t)p->rank : 0, at = SLICE * d->slice;
    char  *to = (d->in_place ? p->from + 4 * (d->kind == 1 ? first : 0) : p->to) + 4 * at;
    get_out(p, TAUT__NCCL_F32, d->n, to, out);
    double e = error(p, out, at + first, d->n, d->avg ? 1.0 / p->size : 1);
    bool   codes = p->size > 1 && 4 * d->n * (d->kind == 1 ? (size_t)p->size : 1) >= 65536;
    MUST(d->kind == 2 || !codes ? e < 1e-11 : e < CODED);
    return 0;
}

static int drawn(program *p)
{
    uint64_t  s = taut__mix64(drawn_seed), own = taut__mix64(drawn_seed + 77 * (uint64_t)(p->rank + 1));
    float    *out = malloc(COUNT * sizeof *out);
    drawn_sum d[SLICES];
    for (int round = 0; round < ROUNDS; round++) {
        int k = 1 + draw(&s, SLICES), depth = draw(&s, 3), left = 0, first = draw(&s, SLICES);
        taut__memory_of(p->place.space)->wait(p->place);
        put_in(p, TAUT__NCCL_F32, COUNT);
        for (int i = 0; i < k; i++) {
            d[i] = (drawn_sum){draw(&s, 3), draw(&s, 2), draw(&s, 2), (size_t)((first + i) % SLICES), SLICE};
            if (SLICE % p->size)
                d[i].kind &= 2; /* parts of less than the threshold would be NCCL's, and there is none for them */
            if (d[i].kind == 1) d[i].n = (size_t)SLICE / (size_t)p->size;
            if (d[i].kind == 2) d[i].n = 1 + (size_t)draw(&s, FEW);
        }
        for (int i = 0; i < k; i++) {
            if (draw(&own, 3) == 0) usleep((useconds_t)draw(&own, 400));
            for (; i == 0 && left < depth; left++) MUST(ncclGroupStart() == 0);
            MUST(make_sum(p, &d[i]) == 0);
            if (left > 0 && draw(&s, 3) == 0) { /* the outermost group may end between two sums */
                MUST(ncclGroupEnd() == 0);
                left--;
            }
        }
        for (; left > 0; left--) MUST(ncclGroupEnd() == 0);
        for (int i = 0; i < k; i++)
            if (check_sum(p, &d[i], out)) return 1;
    }
    free(out);
    return 0;
}

/* A program that makes its communicator anew, time and again, is served to the last: more different calls than a table of fixed size would hold. */
enum { REMADE = 56, KINDS = 10 };
static taut__nccl_id remade_id[REMADE];
static int           remade(program *p)
{
    float *out = malloc(COUNT * sizeof *out);
    for (int i = 0; i < REMADE; i++) {
        taut__nccl_comm comm;
        MUST(taut__nccl_begin(nccl_double_table(), p->size, remade_id[i], p->rank, &comm) == TAUT_OK);
        for (size_t k = 0; k < KINDS; k++) {
            size_t n = PART + 64 * k;
            put_in(p, TAUT__NCCL_F32, n);
            MUST(ncclAllReduce(p->from, p->to, n, TAUT__NCCL_F32, TAUT__NCCL_SUM, comm, p->place.stream) == 0);
            get_out(p, TAUT__NCCL_F32, n, p->to, out);
            double e = error(p, out, 0, n, 1);
            MUST(e > PLAIN && e < CODED);
        }
        MUST(ncclCommDestroy(comm) == 0);
    }
    free(out);
    return 0;
}

/* A rank's operation never happens: the program's own watchdog aborts, and calls made after that fail. What is enqueued ends. */
static int abandoned(program *p)
{
    put_in(p, TAUT__NCCL_F32, COUNT);
    if (p->rank == 0) nccl_double_fault(NCCL_LOST, 0, 1);
    MUST(ncclAllReduce(p->from, p->to, COUNT, TAUT__NCCL_F32, TAUT__NCCL_SUM, p->comm, p->place.stream) == 0);
    usleep(50000);
    MUST(ncclCommAbort(p->comm) == 0);
    taut__memory_of(p->place.space)->wait(p->place);
    MUST(ncclAllReduce(p->from, p->to, COUNT, TAUT__NCCL_F32, TAUT__NCCL_SUM, p->comm, p->place.stream) != 0);
    return 0;
}

static void program_begin(program *p)
{
    void *from, *to;
    p->place = mock_stream();
    taut__memory_of(p->place.space)->alloc(p->place, 4 * COUNT, &from),
        taut__memory_of(p->place.space)->alloc(p->place, 4 * COUNT, &to);
    p->from = from, p->to = to, p->x = malloc(4 * COUNT);
    p->failed = taut__nccl_begin(nccl_double_table(), p->size, p->id, p->rank, &p->comm) != TAUT_OK;
    for (bool ready = false; !p->failed && !ready;)
        p->failed = taut__nccl_poll(nccl_double_table(), p->comm, &ready) != TAUT_OK;
    mock_use(0);
}
static void program_end(program *p)
{
    taut__memory_of(p->place.space)->wait(p->place);
    if (p->comm) ncclCommDestroy(p->comm);
    mock_stream_end(p->place);
    taut__memory_of(p->place.space)->release(p->place, p->from),
        taut__memory_of(p->place.space)->release(p->place, p->to);
    free(p->x);
}

static void *program_main(void *arg)
{
    program *p = arg;
    program_begin(p);
    if (!p->failed) p->failed = p->body(p);
    program_end(p);
    return NULL;
}

static int  budgeted(program *p) { return sums(p); }
static int  unsuited(program *p);
static bool blocking;
static int  polls;
static void run_program(int size, int (*body)(program *p))
{
    program   p[MOST];
    pthread_t thread[MOST];
    setenv("TAUT_REPORT", body == unsuited ? "-" : "build/preload_nccl_report.json", 1);
    if (body != unsuited && body != budgeted) setenv("TAUT_CODEC", "quant:bits=4", 1);
    mock_open(), nccl_double_open();
    nccl_double_blocking(blocking);
    nccl_double_lazy(polls);
    taut__nccl_space = TAUT_SPACE_TEST;
    nccl_double_table()->unique_id(&p[0].id);
    for (int i = 0; i < REMADE; i++) nccl_double_table()->unique_id(&remade_id[i]);
    for (int r = 0; r < size; r++) {
        p[r] = (program){.rank = r, .size = size, .id = p[0].id, .body = body};
        pthread_create(&thread[r], NULL, program_main, &p[r]);
    }
    for (int r = 0; r < size; r++) pthread_join(thread[r], NULL);
    for (int r = 0; r < size; r++) ck_assert_msg(!p[r].failed, "rank %d of %d", r, size);
    ck_assert_int_eq(nccl_double_left(), 0);
    ck_assert_int_eq(strayed, 0);
    device_left_empty();
    nccl_double_close(), mock_close();
}

START_TEST(all_sums) { run_program(2 + _i, sums); }
END_TEST
/* Ranks are threads of this process, and NCCL's calls come back when all ranks have made them: nobody's call may hold up another's. */
START_TEST(all_threads)
{
    static int (*const of[])(program *) = {sums, groups, scattered, exact};
    blocking = true;
    run_program(2 + _i % 2, of[_i / 2]);
}
END_TEST

/* One thread makes the calls of all ranks, each on a device of its own, in groups: nothing else could. They are as they are. */
static int several_devices(program *p, int size)
{
    float *out = malloc(COUNT * sizeof *out);
    for (int call = 0; call < 3; call++) {
        for (int r = 0; r < size; r++) { /* what is put in is copied late, from memory of this thread's */
            put_in(&p[r], TAUT__NCCL_F32, COUNT);
            taut__memory_of(p[r].place.space)->wait(p[r].place);
        }
        MUST(ncclGroupStart() == 0);
        for (int r = 0; r < size; r++)
            MUST(ncclAllReduce(p[r].from, p[r].to, COUNT, TAUT__NCCL_F32, TAUT__NCCL_SUM, p[r].comm,
                               p[r].place.stream) == 0);
        MUST(ncclGroupEnd() == 0);
        for (int r = 0; r < size; r++) {
            get_out(&p[r], TAUT__NCCL_F32, COUNT, p[r].to, out);
            MUST(error(&p[r], out, 0, COUNT, 1) < 1e-12);
        }
    }
    free(out);
    return 0;
}
START_TEST(one_thread)
{
    program       p[MOST];
    const int     size = 2 + _i;
    taut__nccl_id id;
    setenv("TAUT_REPORT", "-", 1), setenv("TAUT_CODEC", "quant:bits=4", 1);
    mock_open(), nccl_double_open();
    nccl_double_blocking(true), nccl_double_devices(true);
    taut__nccl_space = TAUT_SPACE_TEST;
    nccl_double_table()->unique_id(&id);
    for (int r = 0; r < size; r++) {
        p[r] = (program){.rank = r, .size = size, .id = id};
        program_begin(&p[r]);
    }
    ck_assert_int_eq(several_devices(p, size), 0);
    for (int r = 0; r < size; r++) program_end(&p[r]);
    ck_assert_int_eq(nccl_double_left(), 0);
    device_left_empty();
    nccl_double_close(), mock_close();
}
END_TEST

START_TEST(by_budget) /* the codec whose error it is */
{
    unsetenv("TAUT_CODEC");
    setenv("TAUT_BUDGET", "like:quant:bits=4", 1);
    run_program(2, budgeted);
}
END_TEST
/* Sums that nothing is compressed of. */
static int exact_sums(program *p, int calls)
{
    float *out = malloc(COUNT * sizeof *out);
    for (int i = 0; i < calls; i++) {
        put_in(p, TAUT__NCCL_F32, COUNT);
        MUST(ncclAllReduce(p->from, p->to, COUNT, TAUT__NCCL_F32, TAUT__NCCL_SUM, p->comm, p->place.stream) == 0);
        get_out(p, TAUT__NCCL_F32, COUNT, p->to, out);
        MUST(error(p, out, 0, COUNT, 1) < 1e-12);
    }
    free(out);
    return 0;
}

/* A codec that has no operations there: said, and exact. */
static int not_there(program *p)
{
    taut__ops_register(taut__codec_by_name("quant", 5), TAUT_SPACE_TEST, NULL);
    return exact_sums(p, 2);
}
START_TEST(all_not_there) { run_program(2 + _i, not_there); }
END_TEST

START_TEST(all_unblocking)
{
    polls = 3;
    run_program(2 + _i, unblocking);
}
END_TEST
START_TEST(all_aborted)
{
    run_program(2, aborted_meanwhile);
    ck_assert_int_eq(nccl_double_strays(), 0);
}
END_TEST
START_TEST(all_in_capture) { run_program(1 + _i, in_capture); }
END_TEST
START_TEST(all_abandoned) { run_program(2 + _i, abandoned); }
END_TEST
START_TEST(all_exact) { run_program(1 + _i, exact); }
END_TEST
START_TEST(all_groups) { run_program(1 + _i, groups); }
END_TEST
START_TEST(all_remade) { run_program(2, remade); }
END_TEST
START_TEST(all_drawn)
{
    for (drawn_seed = 1; drawn_seed <= (suite_long() ? 40 : 2); drawn_seed++) run_program(2 + _i, drawn);
}
END_TEST
START_TEST(all_scattered) { run_program(2 + _i, scattered); }
END_TEST

/* Without a codec, and with another one than such calls can have, nothing is compressed; nor what the user leaves out. */
static int unsuited(program *p) { return exact_sums(p, 1); }
START_TEST(unsuited_codecs)
{
    static const struct {
        const char *codec, *more;
    } of[] = {{NULL, NULL},
              {"auto", NULL},
              {NULL, "TAUT_BUDGET=rel=0.03"},
              {"grid", NULL},
              {"topk", NULL},
              {"powersgd:rank=2", NULL},
              {"none", "TAUT_BUDGET=like:quant:bits=4"},
              {"bogus", NULL},
              {"quant:bits=4", "TAUT_EXCLUDE=64K.."},
              {"quant:bits=4", "TAUT_DRYRUN=1"},
              {"quant:bits=4", "TAUT_THRESHOLD=1M"},
              {"quant:bits=4", "TAUT_INCLUDE=1M.."}};
    ck_assert_int_eq(sizeof of / sizeof *of, UNSUITED);
    unsetenv("TAUT_CODEC"), unsetenv("TAUT_BUDGET");
    if (of[_i].codec) setenv("TAUT_CODEC", of[_i].codec, 1);
    if (of[_i].more) putenv((char *)(uintptr_t)of[_i].more);
    run_program(2, unsuited);
}
END_TEST

static void read_report(char *text, size_t cap)
{
    taut__nccl_report();
    FILE *f = fopen("build/preload_nccl_report.json", "r");
    ck_assert(f != NULL);
    text[fread(text, 1, cap - 1, f)] = 0;
    fclose(f);
}

static long number_of(const char *text, const char *field)
{
    const char *at = strstr(text, field);
    ck_assert_msg(at != NULL, "no %s in %.200s", field, text);
    return atol(at + strlen(field));
}

/* The report has the fields of the MPI preload's. */
START_TEST(report)
{
    static const char *const want[] = {"\"mpi\": \"NCCL 2.28.9\"", "\"ranks\": 3",         "\"call\": \"allreduce\"",
                                       "\"coded_calls\": 2",       "\"codec\": \"quant\"", "\"rel_err2\""};
    char                     text[8192] = "";
    run_program(3, sums);
    read_report(text, sizeof text);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        ck_assert_msg(strstr(text, want[i]) != NULL, "no %s in %.200s", want[i], text);
    ck_assert(number_of(text, "\"bytes_sent\": ") > 0);
}
END_TEST

/* Uncompressed, a rank would have sent the others their parts, and no sum back. */
START_TEST(report_scattered)
{
    enum { RANKS = 3 };
    char text[8192];
    run_program(RANKS, scattered);
    read_report(text, sizeof text);
    ck_assert_int_eq(number_of(text, "\"bytes_dense\": "), (RANKS - 1) * 4 * (long)PART);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("preload nccl");
    TCase *t = suite_case(s, "all", 60);
    tcase_add_loop_test(t, all_sums, 0, 4);
    tcase_add_loop_test(t, all_not_there, 0, 2);
    tcase_add_loop_test(t, all_in_capture, 0, 3);
    tcase_add_loop_test(t, all_abandoned, 0, 3);
    tcase_add_loop_test(t, all_exact, 0, 3);
    tcase_add_loop_test(t, all_groups, 0, 3);
    tcase_add_loop_test(t, all_drawn, 0, 3);
    tcase_add_test(t, all_remade);
    tcase_add_loop_test(t, all_scattered, 0, 2);
    tcase_add_loop_test(t, all_threads, 0, 8);
    tcase_add_loop_test(t, one_thread, 0, 2);
    tcase_add_test(t, by_budget);
    tcase_add_loop_test(t, unsuited_codecs, 0, UNSUITED);
    tcase_add_test(t, report);
    tcase_add_test(t, report_scattered);
    t = suite_case(s, "unblocking", 60);
    tcase_add_loop_test(t, all_unblocking, 0, 2);
    tcase_add_test(t, all_aborted);
    return suite_run(s);
}
