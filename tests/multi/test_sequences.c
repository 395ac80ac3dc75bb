/* Jobs that nobody chose. A seed draws a job: ranks, settings, layers, codecs, gradients of every kind, and what a program does in its steps. Each job is run
 * four times, and what may not matter differs: the order of starts on every rank, how it waits, threads, who drives, checksums, assured delivery, and whether
 * it is saved, ended and begun anew on the way; the third time layers lie on the test's device on some ranks, on others after it was begun anew; the fourth
 * time all do, and travel by NCCL's double, which adds floats in an order of its own. All must leave the same bytes on every rank after every step, what loses nothing the exact sums, and no
 * call may fail. By the public interface only.
 * What they have found is in test_drawn_findings.c. LONG=1: more jobs. SEEDS=FROM:TO runs those, TELL=1 says which one is under way. */
#include "../support/suite.h"
#include "tests/support/drawn_job.h"
#include "tests/support/mock_space.h"
#include "tests/support/nccl_double.h"
#include "tests/support/ranks.h"
#include "comm/core/nccl.h"
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <xxhash.h>

enum { NOT_YET = -1, LEFT_OUT = -2 };

typedef struct seat {
    const drawn_job   *j;
    int                variant, rank;
    taut_comm         *comm;
    taut_comm        **comms; /* of all ranks */
    pthread_barrier_t *all;
    taut_config        cfg;           /* of this variant */
    int                renewed;       /* the step after which everything is saved, ended and begun anew; -1: never */
    taut_place         place;         /* of layers on the device, or the host's */
    bool               there[LAYERS]; /* it lies on the device */
    char              *buf[LAYERS], *at[LAYERS]; /* the program's copy, and what is reduced */
    uint64_t           hash[STEPS][LAYERS];
    char               fault[1024];
} seat;

/* ---- a rank ---- */

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        taut_status s_ = (call);                                                                                       \
        if (s_) return complain(seat_, "%s: %s: %s", #call, taut_status_name(s_), taut_last_error());                  \
    } while (0)

__attribute__((format(printf, 2, 3))) static bool complain(seat *s, const char *format, ...)
{
    va_list a;
    va_start(a, format);
    vsnprintf(s->fault, sizeof s->fault, format, a);
    va_end(a);
    return false;
}

static bool scale(seat *seat_, int i, int layer, int step)
{
    const tensor *t = &seat_->j->layer[i];
    float        *v;
    taut_status   status;
    if (!t->scales) return true;
    v = malloc(t->scales * sizeof *v);
    for (size_t e = 0; e < t->scales; e++)
        v[e] = (float)(0.1 + drawn_unit(drawn_mix(seat_->j->seed + (uint64_t)(step / 3)) + e));
    status = taut_layer_scale(taut_comm_layer(seat_->comm, (size_t)layer), v, t->scales);
    free(v);
    TRY(status);
    return true;
}

/* ... on odd steps; on even ones results serve again. */
static bool momentum(seat *seat_, int i, int layer, int step)
{
    const tensor *t = &seat_->j->layer[i];
    float        *m = malloc(t->n * sizeof *m);
    taut_status   status;
    for (size_t e = 0; e < t->n; e++) m[e] = (float)(drawn_unit(drawn_mix(seat_->j->seed + (uint64_t)step) + e) - 0.5);
    status = taut_layer_basis(taut_comm_layer(seat_->comm, (size_t)layer), m, step % 2 ? t->n : 0);
    free(m);
    TRY(status);
    return true;
}

/* ---- where layers lie ---- */

static const taut__space *memory_of(const seat *s) { return taut__memory_of(s->place.space); }

static bool settle(seat *seat_, uint64_t *s)
{
    const drawn_job *j = seat_->j;
    for (int i = 0; i < j->layers; i++) {
        size_t bytes = j->layer[i].n * drawn_width(j->layer[i].dtype);
        void  *at = NULL;
        seat_->there[i] = seat_->variant == NCCL || (seat_->variant == DEVICE && drawn_below(s, 3) > 0);
        if (seat_->there[i]) TRY(memory_of(seat_)->alloc(seat_->place, bytes, &at));
        seat_->at[i] = seat_->there[i] ? at : seat_->buf[i];
    }
    return true;
}

static void leave(seat *s)
{
    for (int i = 0; i < s->j->layers; i++)
        if (s->there[i]) memory_of(s)->release(s->place, s->at[i]), s->there[i] = false;
}

static taut_status start(seat *s, int i, taut_layer *l, taut_op op)
{
    if (!s->there[i]) return taut_allreduce_start(l, s->at[i], op);
    return taut_allreduce_start_on(l, s->at[i], op, s->place.space, s->place.device, s->place.stream);
}

static taut_status sharded(seat *s, int i, taut_layer *l, taut_op op)
{
    const taut_place p = s->place;
    if (!s->there[i]) {
        taut_status status = taut_reduce_scatter(l, s->at[i], op);
        return status ? status : taut_allgather(l, s->at[i]);
    }
    taut_status status = taut_reduce_scatter_on(l, s->at[i], op, p.space, p.device, p.stream);
    return status ? status : taut_allgather_on(l, s->at[i], p.space, p.device, p.stream);
}

/* Layers whose time has come; in one order on all ranks: those that begin first, first. */
static bool enrol(seat *seat_, int step, int *of)
{
    const drawn_job *j = seat_->j;
    bool             forced = j->cfg.algorithm != NULL;
    for (int from = 0; from <= step; from++)
        for (int i = 0; i < j->layers; i++) {
            const tensor *t = &j->layer[i];
            taut_layer   *l;
            if (t->from != from || of[i] != NOT_YET) continue;
            taut_status status;
            of[i] = (int)taut_comm_layers(seat_->comm);
            status = taut_layer_register(seat_->comm, t->name, t->dtype, t->ndim, t->shape, &l);
            if (forced && status == TAUT_E_UNSUPPORTED) of[i] = LEFT_OUT; /* told: this algorithm cannot carry it */
            else TRY(status);
            if (l && t->codec[0]) {
                status = taut_layer_codec(l, t->codec);
                if (status != TAUT_E_UNSUPPORTED && status != TAUT_E_INVALID)
                    TRY(status); /* told: it does not suit the layer */
            }
        }
    return true;
}

/* ... and what loses nothing is the sum. */
static bool exact(seat *seat_, int step, int i, const taut_layer *l, const void *buf)
{
    const drawn_job *j = seat_->j;
    const tensor    *t = &j->layer[i];
    taut_layer_stats st = {.size = sizeof st};
    double           unit_of = t->dtype == TAUT_F32 ? 0x1p-24 : t->dtype == TAUT_F16 ? 0x1p-11 : 0x1p-8;
    bool             plain;
    TRY(taut_layer_get_stats(l, &st));
    plain = j->ranks == 1 || !strcmp(t->codec, "none") || (!t->codec[0] && !strcmp(j->codec, "none"));
    for (size_t e = 0; e < t->n; e++) {
        double sum = 0, size = 0, got = drawn_get(t->dtype, buf, e);
        float  x;
        for (int r = 0; r < j->ranks; r++) {
            uint64_t held = 0;
            drawn_put(t->dtype, &held, 0, drawn_gradient(j, step, i, r, e));
            x = drawn_get(t->dtype, &held, 0);
            sum += x, size += fabs(x);
        }
        if (j->op[step][i] == TAUT_MEAN) sum /= j->ranks, size /= j->ranks;
        if (!isfinite(sum)) {
            if (isfinite(got)) return complain(seat_, "element %zu of layer %d is %g, not NaN or Inf", e, i, got);
        } else if (!isfinite(got) && !drawn_broken(j->kind[step][i])) {
            return complain(seat_, "element %zu of layer %d (%s) is %g, not finite: %g", e, i, st.codec, got, sum);
        } else if (plain && isfinite(got) &&
                   fabs(got - sum) > (j->ranks + 1) * unit_of * size + (t->dtype == TAUT_F16    ? 0x1p-24 * j->ranks
                                                                        : t->dtype == TAUT_BF16 ? 0x1p-133 * j->ranks
                                                                                                : 1e-45 * j->ranks)) {
            return complain(seat_, "element %zu of layer %d (%s) is %.9g: %.9g", e, i, st.codec, got, sum);
        }
    }
    return true;
}

/* Those that wait at once, in one order on all ranks. */
static bool at_once(seat *seat_, int step, const int *of)
{
    const drawn_job *j = seat_->j;
    for (int i = 0; i < j->layers; i++) {
        taut_layer *l = of[i] < 0 ? NULL : taut_comm_layer(seat_->comm, (size_t)of[i]);
        if (!l || j->skipped[step][i] || j->call[step][i] == STARTED) continue;
        if (j->call[step][i] == SHARDED) {
            TRY(sharded(seat_, i, l, j->op[step][i]));
        } else if (!seat_->there[i]) {
            TRY(taut_allreduce(l, seat_->at[i], j->op[step][i]));
        } else {
            TRY(start(seat_, i, l, j->op[step][i]));
            TRY(taut_wait(l));
        }
    }
    return true;
}

static bool begin(seat *seat_, int step, const int *order, const int *of, uint64_t *s)
{
    const drawn_job *j = seat_->j;
    for (int k = 0; k < j->layers; k++) {
        int         i = order[k], done = 0;
        taut_layer *l;
        if (of[i] < 0 || j->skipped[step][i] || j->call[step][i] != STARTED) continue;
        l = taut_comm_layer(seat_->comm, (size_t)of[i]);
        TRY(start(seat_, i, l, j->op[step][i]));
        if (j->polled && drawn_below(s, 3) == 0) TRY(taut_test(l, &done));
    }
    return true;
}

/* One after the other, tested until done, or left to the step's end. */
static bool finish(seat *seat_, int step, const int *order, const int *of, uint64_t *s)
{
    const drawn_job *j = seat_->j;
    size_t           how = drawn_below(s, 4);
    for (int k = 0; how > 0 && k < j->layers; k++) {
        int         i = order[k], done = 0;
        taut_layer *l;
        if (of[i] < 0 || j->skipped[step][i] || j->call[step][i] != STARTED) continue;
        l = taut_comm_layer(seat_->comm, (size_t)of[i]);
        if (how == 1)
            while (!done) TRY(taut_test(l, &done));
        else TRY(taut_wait(l));
    }
    TRY(taut_step_end(seat_->comm));
    return true;
}

static bool renew(seat *seat_, int step, int *of, uint64_t *s)
{
    const drawn_job *j = seat_->j;
    size_t           len = 0;
    char            *blob;
    TRY(taut_state_save(seat_->comm, NULL, 0, &len));
    blob = malloc(len);
    TRY(taut_state_save(seat_->comm, blob, len, &len));
    pthread_barrier_wait(seat_->all);
    taut_comm_destroy(seat_->comm);
    if (pthread_barrier_wait(seat_->all) == PTHREAD_BARRIER_SERIAL_THREAD &&
        taut_comm_create_threads(j->ranks, &seat_->cfg, seat_->comms))
        memset(seat_->comms, 0, (size_t)j->ranks * sizeof *seat_->comms);
    pthread_barrier_wait(seat_->all);
    seat_->comm = seat_->comms[seat_->rank];
    if (!seat_->comm) return complain(seat_, "no new communicator");
    if (seat_->variant == NCCL) TRY(taut__comm_open_nccl(seat_->comm, seat_->place));
    for (int i = 0; i < j->layers; i++) of[i] = NOT_YET;
    leave(seat_);
    if (!settle(seat_, s) || !enrol(seat_, step, of)) return false;
    TRY(taut_state_load(seat_->comm, blob, len));
    free(blob);
    return true;
}

static bool step_of(seat *seat_, int step, int *of, uint64_t *s)
{
    const drawn_job *j = seat_->j;
    int              order[LAYERS];
    if (!enrol(seat_, step, of)) return false;
    for (int i = 0; i < j->layers; i++) order[i] = i;
    if (seat_->variant >= DEVICE)
        TRY(memory_of(seat_)->wait(seat_->place)); /* what layers that were left out put there */
    for (int i = j->layers - 1; i > 0; i--) {
        int k = (int)drawn_below(s, (size_t)i + 1), o = order[i];
        order[i] = order[k], order[k] = o;
    }
    for (int i = 0; i < j->layers; i++) {
        const tensor *t = &j->layer[i];
        if (of[i] >= 0 && !scale(seat_, i, of[i], step)) return false;
        for (size_t e = 0; e < t->n; e++)
            drawn_put(t->dtype, seat_->buf[i], e, drawn_gradient(j, step, i, seat_->rank, e));
        if (seat_->there[i]) /* in the order of the stream, late */
            TRY(memory_of(seat_)->copy(seat_->place, seat_->at[i], seat_->buf[i], t->n * drawn_width(t->dtype)));
    }
    if (!at_once(seat_, step, of)) return false;
    if (!begin(seat_, step, order, of, s) || !finish(seat_, step, order, of, s)) return false;
    for (int i = 0; i < j->layers; i++) {
        if (of[i] < 0 || j->skipped[step][i]) continue;
        size_t bytes = j->layer[i].n * drawn_width(j->layer[i].dtype);
        if (seat_->there[i]) mock_read(seat_->buf[i], seat_->at[i], bytes);
        seat_->hash[step][i] = XXH3_64bits(seat_->buf[i], bytes);
        if (seat_->rank == 0 && !exact(seat_, step, i, taut_comm_layer(seat_->comm, (size_t)of[i]), seat_->buf[i]))
            return false;
    }
    if (j->event[step] == DROP) TRY(taut_step_drop(seat_->comm));
    for (int i = 0; j->event[step] == MOMENTUM && i < j->layers; i++)
        if (of[i] >= 0 && !momentum(seat_, i, of[i], step)) return false;
    if (step == seat_->renewed) return renew(seat_, step, of, s);
    return true;
}

static void *run(void *arg)
{
    seat            *s = arg;
    const drawn_job *j = s->j;
    uint64_t         own = drawn_mix(j->seed + 77 * (uint64_t)s->rank + 7777 * (uint64_t)s->variant);
    int              of[LAYERS];
    if (s->variant >= DEVICE) s->place = mock_stream();
    for (int i = 0; i < j->layers; i++)
        s->buf[i] = malloc(j->layer[i].n * drawn_width(j->layer[i].dtype)), of[i] = NOT_YET;
    bool fine = s->variant != NCCL || !taut__comm_open_nccl(s->comm, s->place) || complain(s, "%s", taut_last_error());
    fine = fine && settle(s, &own);
    for (int step = 0; step < j->steps && fine; step++)
        if (!(fine = step_of(s, step, of, &own))) {
            size_t n = strlen(s->fault);
            snprintf(s->fault + n, sizeof s->fault - n, " (step %d)", step);
        }
    taut_comm_destroy(s->comm);
    leave(s);
    if (s->variant >= DEVICE) mock_stream_end(s->place);
    for (int i = 0; i < j->layers; i++) free(s->buf[i]);
    return NULL;
}

/* ---- jobs ---- */

static void describe(const drawn_job *j, const seat *s)
{
    const taut_config *c = &s->cfg;
    fprintf(stderr,
            "job %llu variant %d: %d ranks, %d steps, codec %s, feedback %s, algorithm %s, metric %s, budget %s, "
            "objective %s, dropped %s, slice %u, bucket %u, small %u, replan %u, "
            "start %u, hosts %d; threads %d, progress %d, checksum %s, delivery %s, renewed %d\n",
            (unsigned long long)j->seed, s->variant, j->ranks, j->steps, c->codec, c->feedback ? c->feedback : "-",
            c->algorithm ? c->algorithm : "-", c->metric ? c->metric : "-", c->budget ? c->budget : "-", c->objective,
            c->dropped, c->slice_kib, c->bucket_kib, c->small_elems, c->replan_steps, c->start_step, j->hosts,
            c->threads, c->progress, c->checksum, c->delivery, s->renewed);
    for (int k = 0; k < j->steps && s->variant == 0; k++) {
        fprintf(stderr, "  step %d, then %s:", k,
                j->event[k] == DROP       ? "dropped"
                : j->event[k] == MOMENTUM ? "momentum"
                                          : "nothing");
        for (int i = 0; i < j->layers; i++)
            fprintf(stderr, " %s%s%d", j->skipped[k][i] ? "no " : "", j->call[k][i] == SHARDED ? "sharded " : "",
                    j->kind[k][i]);
        fprintf(stderr, "\n");
    }
    for (int i = 0; i < j->layers; i++)
        fprintf(stderr, "  layer %d: dtype %d, %d-D %zu x %zu x %zu, codec '%s', from %d, %zu scales\n", i,
                j->layer[i].dtype, j->layer[i].ndim, j->layer[i].shape[0], j->layer[i].shape[1], j->layer[i].shape[2],
                j->layer[i].codec, j->layer[i].from, j->layer[i].scales);
}

static void open_double(uint64_t seed)
{
    uint64_t s = drawn_mix(seed ^ 0xdcc1);
    nccl_double_open();
    nccl_double_delay((int)drawn_below(&s, 2) * 200);
    nccl_double_lazy((int)drawn_below(&s, 3));
    nccl_double_blocking(drawn_below(&s, 3) == 0);
    if (drawn_below(&s, 3) == 0) nccl_double_version(22000);
}

static bool run_variant(drawn_job *j, int variant, seat *seats)
{
    taut_comm        *comms[RANKS];
    pthread_t         thread[RANKS];
    pthread_barrier_t all;
    taut_config       cfg;
    int               renewed;
    drawn_variant(j, variant, &cfg, &renewed);
    if (renewed >= 0 && drawn_late(j)) j->polled = true;
    cfg.timeout_ms = (int32_t)suite_patience(20000);
    char hosts[8];
    if (variant >= DEVICE) mock_open();
    if (variant == NCCL) open_double(j->seed);
    snprintf(hosts, sizeof hosts, "%d", j->hosts);
    setenv("TAUT_FAKE_HOSTS", hosts, 1);
    pthread_barrier_init(&all, NULL, (unsigned)j->ranks);
    if (taut_comm_create_threads(j->ranks, &cfg, comms)) { /* feedback that would never end growing */
        ck_assert_msg(strstr(taut_last_error(), "residuals would grow") ||
                          strstr(taut_last_error(), "feedback=momentum with basis"),
                      "job %llu: %s", (unsigned long long)j->seed, taut_last_error());
        if (variant == NCCL) nccl_double_close();
        if (variant >= DEVICE) mock_close();
        return false;
    }
    for (int r = 0; r < j->ranks; r++) {
        seats[r] = (seat){.j = j,
                          .variant = variant,
                          .rank = r,
                          .comm = comms[r],
                          .comms = comms,
                          .all = &all,
                          .cfg = cfg,
                          .renewed = renewed};
        ck_assert_int_eq(pthread_create(&thread[r], NULL, run, &seats[r]), 0);
    }
    for (int r = 0; r < j->ranks; r++) pthread_join(thread[r], NULL);
    pthread_barrier_destroy(&all);
    if (variant == NCCL) nccl_double_close();
    if (variant >= DEVICE) mock_close();
    return true;
}

/* Whether all ranks of both variants agree and nobody complained. */
static bool run_job(uint64_t seed)
{
    static drawn_job j;
    static seat      seats[VARIANTS][RANKS];
    bool             fine = true;
    drawn_job_of(seed, &j);
    for (int v = 0; v < VARIANTS; v++)
        if (!run_variant(&j, v, seats[v])) return true;
    for (int v = 0; v < VARIANTS; v++)
        for (int r = 0; r < j.ranks; r++)
            if (seats[v][r].fault[0])
                fine = false,
                fprintf(stderr, "job %llu variant %d rank %d: %s\n", (unsigned long long)seed, v, r, seats[v][r].fault);
    for (int step = 0; fine && step < j.steps; step++)
        for (int i = 0; fine && i < j.layers; i++)
            for (int v = 0; v < VARIANTS; v++)
                for (int r = 0; r < j.ranks; r++)
                    if (seats[v][r].hash[step][i] != seats[j.polled || v == NCCL ? v : 0][0].hash[step][i]) {
                        fprintf(stderr, "job %llu: variant %d rank %d has other bytes in layer %d after step %d\n",
                                (unsigned long long)seed, v, r, i, step);
                        fine = false;
                    }
    if (!fine)
        for (int v = 0; v < VARIANTS; v++) describe(&j, &seats[v][0]);
    return fine;
}

START_TEST(drawn_jobs)
{
    unsigned long long from = 1, to = suite_long() ? 1000 : 36;
    const char        *set = getenv("SEEDS");
    int                failed = 0;
    if (set) ck_assert_int_ge(sscanf(set, "%llu:%llu", &from, &to), 1);
    for (unsigned long long seed = from; seed <= to; seed++) {
        if (getenv("TELL")) fprintf(stderr, "seed %llu\n", seed);
        failed += !run_job(seed);
    }
    ck_assert_msg(!failed, "%d of %llu jobs", failed, to - from + 1);
}

int main(void)
{
    Suite *s = suite_create("sequences");
    TCase *t = suite_case(s, "jobs that a seed draws", 3600);
    tcase_add_test(t, drawn_jobs);
    return suite_run(s);
}
