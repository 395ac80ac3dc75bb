/* linear.c : codecs whose factors add (PowerSGD, randk). In each round every rank projects its x to a small factor,
 * factors are averaged uncompressed, and absorbed; then all ranks reconstruct the same mean. What one rank keeps as
 * residual is its x less that mean, so that residuals add up to what the sum lacks. Whole tensors. */
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include "../core/communicator.h"
#include <string.h>

typedef struct linear {
    float *factor; /* of the largest round */
    float *mean;   /* elems floats, for 16-bit results; else NULL: reconstructed in buf */
    taut__plain_sum raw;
    int    round;
    bool   summing;
    double sent_s; /* since when */
} linear;

static linear                  *linear_of(const taut__job *job) { return job->work; }
static const taut_codec        *codec_of(const taut__job *job) { return taut__spec_codec(job->call.spec); }
static const taut_codec_linear *table(const taut__job *job) { return codec_of(job)->linear; }
static size_t factor_elems(const taut__job *job, int round)
{
    return table(job)->factor_elems(&job->call.spec->stage[0], job->call.tensor, round);
}

static void linear_release(taut__job *job)
{
    if (!job->work) return;
    taut__free(linear_of(job)->factor);
    taut__free(linear_of(job)->mean);
    taut__free(job->work);
    job->work = NULL;
}

static taut_status linear_prepare(taut__job *job)
{
    size_t  most = 0, n = job->call.tensor->elems;
    linear *a = job->work = taut__alloc(1, sizeof *a);
    for (int k = 0; k < table(job)->rounds; k++) most = taut__max(most, factor_elems(job, k));
    if (a) a->factor = taut__alloc(most, sizeof *a->factor);
    if (a && job->layer->dtype != TAUT_F32) a->mean = taut__alloc(n, sizeof *a->mean);
    if (!a || !a->factor || (job->layer->dtype != TAUT_F32 && !a->mean))
        return taut__fail(TAUT_E_NOMEM, "%s: out of memory for factors of %zu floats", job->name, most);
    taut__plain_sum_prepare(&a->raw, job->g, job->tag, TAUT_NUMBER_F32, most, 64, job->comm->set.c.slice_kib * (size_t)256, &job->slots);
    return TAUT_OK;
}

static taut_status linear_begin(taut__job *job)
{
    linear_of(job)->round = 0;
    linear_of(job)->summing = false;
    return TAUT_OK;
}

static taut_status project(taut__job *job)
{
    linear      *a = linear_of(job);
    double       begin = taut__now();
    const float *x = taut__form(job, 0, job->call.n);
    if (a->round == 0) {
        taut__piece_done done = {.own = taut__job_norms(job, x, (taut__range){0, job->call.n})};
        taut__account(job, &done);
        taut__sample_x(job, (taut__range){0, job->call.n}, x);
    }
    TAUT_TRY(taut__op_project(codec_of(job), &job->call, a->round, x, a->factor));
    job->formed = true; /* x stays in the residual's memory until the last round */
    double end = taut__now();
    job->record.encode_s += end - begin;
    taut__trace_span(job->comm->trace, job, "encode", begin, end, 4 * factor_elems(job, a->round));
    taut__plain_sum_begin(&linear_of(job)->raw, a->factor, factor_elems(job, a->round), TAUT_BOTH, 1.0f / (float)job->g->size);
    a->summing = true;
    a->sent_s = end;
    return TAUT_OK;
}

static taut_status absorb(taut__job *job)
{
    linear *a = linear_of(job);
    double  begin = taut__now();
    taut__trace_span(job->comm->trace, job, "wire", a->sent_s, begin, a->raw.sent);
    job->record.payload_bytes += 4 * factor_elems(job, a->round);
    job->record.bytes_sent += a->raw.sent;
    job->record.encoded = job->call.n;
    if (a->round == 0) job->record.bytes_dense += 8 * (uint64_t)job->call.n * (uint64_t)(job->g->size - 1) / (uint64_t)job->g->size;
    TAUT_TRY(taut__op_absorb(codec_of(job), &job->call, a->round, a->factor));
    taut__trace_span(job->comm->trace, job, "reduce", begin, taut__now(), 0);
    a->summing = false;
    a->round++;
    return TAUT_OK;
}

/* mean -> residual = x - mean, result = factor * ranks * mean */
static taut_status reconstruct(taut__job *job)
{
    const taut__vec_kernels *vec = taut__simd_get()->vec;
    taut_layer      *l = job->layer;
    size_t           n = job->call.n;
    float           *mean = linear_of(job)->mean ? linear_of(job)->mean : job->buf;
    taut__range       all = {0, n};
    taut__piece_done  done = {0};
    double           begin = taut__now();
    TAUT_TRY(taut__op_reconstruct(codec_of(job), &job->call, 1, mean));
    vec->residual(l->feedback->r, l->feedback->r, mean, n);
    if (l->feedback_on) taut__feedback_output(l->feedback, 0, n);
    done.error = taut__job_norms(job, l->feedback->r, all);
    taut__sample_lost(job, all, l->feedback->r, 1);
    vec->scale(mean, job->factor * (float)job->g->size, n);
    if (job->g->rank == 0) done.sum = taut__sum_norms(job, mean, all); /* all ranks have it: count it once */
    taut__result_store(job, 0, n, mean, job->g->rank == 0);
    done.decode_s = taut__now() - begin;
    taut__account(job, &done);
    taut__trace_span(job->comm->trace, job, "decode", begin, taut__now(), 0);
    return TAUT_OK;
}

static taut_status linear_advance(taut__job *job, bool *moved, bool *done)
{
    linear *a = linear_of(job);
    bool    summed = false;
    if (a->round == table(job)->rounds) {
        *moved = *done = true;
        return reconstruct(job);
    }
    if (!a->summing) {
        *moved = true;
        return project(job);
    }
    TAUT_TRY(taut__plain_sum_advance(&linear_of(job)->raw, moved, &summed));
    if (!summed) return TAUT_OK;
    *moved = true;
    return absorb(job);
}

static int linear_waiting_for(const taut__job *job, int *hops) { return taut__plain_sum_waiting_for(&linear_of(job)->raw, hops); }

static void linear_cancel(taut__job *job)
{
    if (job->work) taut__plain_sum_cancel(&linear_of(job)->raw);
}

static const char *linear_cannot(const taut_spec *spec)
{
    return taut__spec_codec(spec)->linear ? NULL : "its codes cannot be added";
}

const taut__algorithm taut__linear = {
    .name = "linear", .help = "sums of the small factors of powersgd and randk, uncompressed",
    .cannot = linear_cannot, .prepare = linear_prepare, .begin = linear_begin, .advance = linear_advance,
    .waiting_for = linear_waiting_for, .cancel = linear_cancel, .release = linear_release,
};
