/* native.c : sums without a codec: `none`, and codes of integer codecs as int32.
 *
 * Where every rank waits in a blocking taut_allreduce for this very layer, the transport's own collective (MPI_Allreduce)
 * does it, on the waiting thread. Ranks find that out by a vote, because one may wait while another only started the
 * layer; they then all enter the collective, and no rank can be in another one, since blocking calls come in the same
 * order everywhere. Otherwise the sum goes by messages (plain_sum.h), which may be under way with any other. */
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include "../core/communicator.h"
#include <string.h>

enum { VOTE_NATIVE, VOTE_KIND_AND, VOTE_KIND_OR, VOTE_WORDS };

typedef struct native {
    uint64_t  vote[VOTE_WORDS], in[VOTE_WORDS];
    bool      voting, native, summing, summed;
    size_t    formed;  /* elements quantized or copied so far */
    size_t    stored;
    double    begin_s; /* of the sum */
    taut__plain_sum  raw;
    int32_t  *q;       /* codes of the whole tensor; NULL for none */
} native;

static native *native_of(const taut__job *job) { return job->work; }
static bool integer(const taut__job *job) { return taut__spec_codec(job->call.spec)->integer != NULL; }

static void native_release(taut__job *job)
{
    if (!job->work) return;
    taut__free(native_of(job)->q);
    taut__free(job->work);
    job->work = NULL;
}

static taut_status native_prepare(taut__job *job)
{
    size_t n = job->call.tensor->elems, slice = job->comm->set.c.slice_kib * (size_t)256;
    job->work = taut__alloc(1, sizeof(native));
    if (!job->work) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", job->name);
    if (integer(job)) native_of(job)->q = taut__alloc(n, sizeof(int32_t));
    if (integer(job) && !native_of(job)->q) return taut__fail(TAUT_E_NOMEM, "%s: out of memory for %zu codes", job->name, n);
    TAUT_TRY(taut__comm_scratch(job->comm, taut__min(n, slice)));
    taut__plain_sum_prepare(&native_of(job)->raw, job->g, job->tag, integer(job) ? TAUT_NUMBER_I32 : TAUT_NUMBER_F32, n, job->part.block,
                      slice, &job->slots);
    return TAUT_OK;
}

/* Smaller sums go by messages: at 64 KiB and 10 Gbit/s they took 1.02 times as long as MPI_Allreduce, with the vote 1.3 times. */
enum { VOTE_FROM = 1 << 18 }; /* bytes */

static bool worth_a_vote(const taut__job *job)
{
    return job->g->t->ops->allreduce && job->g->size == job->g->t->size && job->halves == TAUT_BOTH &&
           job->call.tensor->elems * 4 >= VOTE_FROM;
}

static taut_status native_begin(taut__job *job)
{
    native *a = native_of(job);
    a->voting = worth_a_vote(job);
    a->native = a->summing = a->summed = false;
    a->formed = a->stored = 0;
    if (!a->voting) return TAUT_OK;
    a->vote[VOTE_NATIVE] = job->blocking;
    a->vote[VOTE_KIND_AND] = a->vote[VOTE_KIND_OR] = (uint64_t)job->kind + 1;
    static const taut__mixed mixed = {0, VOTE_KIND_OR};
    taut__small_allreduce_begin(&job->exchange, job->g, job->tag + TAUT_TAG_CONTROL, a->vote, a->in, sizeof a->vote, taut__combine_mixed,
                         &mixed);
    return TAUT_OK;
}

static taut_status advance_vote(taut__job *job, bool *moved)
{
    native *a = native_of(job);
    bool    done;
    if (!a->voting) return TAUT_OK;
    TAUT_TRY(taut__small_allreduce_advance(&job->exchange, &done));
    if (!done) return TAUT_OK;
    *moved = true;
    a->voting = false;
    job->record.bytes_sent += job->exchange.sent;
    a->native = a->vote[VOTE_NATIVE];
    if (a->vote[VOTE_KIND_AND] != a->vote[VOTE_KIND_OR])
        return taut__fail(TAUT_E_MISMATCH, "%s: some ranks ask for the sum, others for the mean", job->name);
    return TAUT_OK;
}

/* ---- the input, slice by slice: x into buf, or its codes into q ---- */

static taut__range next_slice(const taut__job *job, size_t at)
{
    return (taut__range){at, taut__min(job->comm->scratch_n, job->call.tensor->elems - at)};
}

static bool looked_at(const taut__job *job) { return taut__watched(job->layer) || taut__sampled(job); }

static taut_status form(taut__job *job)
{
    native         *a = native_of(job);
    taut__range      r = next_slice(job, a->formed);
    taut__piece_done done = {0};
    if (integer(job)) taut__quantize_x(job, r, a->q + r.first, INT32_MAX / job->g->size, job->comm->scratch[0], &done);
    else taut__own_x(job, r, taut__result_at(job, r.first, NULL), &done);
    if (!integer(job) && !looked_at(job)) done.own = (taut_norm2){0, 0}; /* as where nothing had to be formed */
    a->formed += r.n;
    taut__account(job, &done);
    return done.status;
}

static bool formed(const taut__job *job)
{
    bool there = !integer(job) && taut__in_place(job);
    return (there && !looked_at(job)) || native_of(job)->formed == job->call.tensor->elems;
}

static void *numbers(const taut__job *job) { return integer(job) ? (void *)native_of(job)->q : job->buf; }

static void count_native(taut__job *job)
{
    uint64_t bytes = 4 * (uint64_t)job->call.tensor->elems, p = (uint64_t)job->g->size;
    job->record.payload_bytes = bytes;
    job->record.encoded = job->call.tensor->elems;
    job->record.bytes_sent += 2 * bytes * (p - 1) / p; /* what a bandwidth-optimal collective sends */
    job->record.bytes_dense += 2 * bytes * (p - 1) / p;
}

static void trace_sum(taut__job *job, uint64_t bytes)
{
    taut__trace_span(job->comm->trace, job, "wire", native_of(job)->begin_s, taut__now(), bytes);
}

static taut_status sum(taut__job *job, bool *moved)
{
    native *a = native_of(job);
    if (!a->summing) a->begin_s = taut__now();
    if (a->native) {
        size_t n = job->call.tensor->elems;
        taut__watchdog_enter(&job->comm->watchdog, job->name, 4 * n);
        taut_status s = job->g->t->ops->allreduce(job->g->t, numbers(job), n, integer(job) ? TAUT_NUMBER_I32 : TAUT_NUMBER_F32);
        taut__watchdog_leave(&job->comm->watchdog);
        TAUT_TRY(s);
        if (!integer(job) && job->factor != 1.0f) taut__simd_get()->vec->scale(numbers(job), job->factor, n);
        count_native(job);
        trace_sum(job, job->record.bytes_sent);
        *moved = a->summed = true;
        return TAUT_OK;
    }
    if (!a->summing) taut__plain_sum_begin(&native_of(job)->raw, numbers(job), job->call.tensor->elems, job->halves, job->factor);
    a->summing = true;
    TAUT_TRY(taut__plain_sum_advance(&native_of(job)->raw, moved, &a->summed));
    if (!a->summed) return TAUT_OK;
    trace_sum(job, a->raw.sent);
    job->record.payload_bytes = 4 * (uint64_t)job->call.tensor->elems;
    job->record.encoded = job->call.tensor->elems;
    job->record.bytes_sent += a->raw.sent;
    job->record.bytes_dense += a->raw.sent;
    return TAUT_OK;
}

static taut_status store_codes(taut__job *job)
{
    native         *a = native_of(job);
    taut__range      r = next_slice(job, a->stored);
    taut__piece_done done = {0};
    bool            count = job->g->rank == 0; /* every rank has all of the sum: count it once */
    TAUT_TRY(taut__store_codes(job, r, a->q + r.first, job->comm->scratch[0], count ? &done.sum : NULL));
    taut__account(job, &done);
    a->stored += r.n;
    return TAUT_OK;
}

/* The exact sum counts in the communicator's relative error, if there is any error, and in plans. Every rank measures its
 * part. */
static void measure_sum(taut__job *job)
{
    taut__range      mine = taut__part(&job->part, job->g->rank);
    taut__piece_done done = {0};
    if ((!job->comm->lossy && !taut__watched(job->layer)) || job->halves != TAUT_BOTH) return;
    done.sum = taut__sum_norms(job, (float *)job->buf + mine.first, mine);
    taut__account(job, &done);
}

static taut_status native_advance(taut__job *job, bool *moved, bool *done)
{
    native *a = native_of(job);
    if (!formed(job)) {
        *moved = true;
        return form(job);
    }
    TAUT_TRY(advance_vote(job, moved));
    if (a->voting && job->blocking) return TAUT_OK; /* else the outcome is known: by messages */
    if (!a->summed) TAUT_TRY(sum(job, moved));
    if (!a->summed || a->voting) return TAUT_OK;
    *moved = true;
    if (integer(job)) TAUT_TRY(store_codes(job));
    else measure_sum(job);
    *done = !integer(job) || a->stored == job->call.tensor->elems;
    return TAUT_OK;
}

static int native_waiting_for(const taut__job *job, int *hops)
{
    if (native_of(job)->voting) return taut__small_allreduce_waiting_for(&job->exchange, hops);
    return taut__plain_sum_waiting_for(&native_of(job)->raw, hops);
}

static void native_cancel(taut__job *job)
{
    if (job->work) taut__plain_sum_cancel(&native_of(job)->raw);
}

static const char *native_cannot(const taut_spec *spec)
{
    const taut_codec *codec = taut__spec_codec(spec);
    bool              none = codec->caps & TAUT_CAP_LOSSLESS;
    return none || codec->integer ? NULL : "its codes cannot be added";
}

const taut__algorithm taut__native = {
    .name = "native", .help = "the transport's own sum of float32, or of integer codes as int32",
    .cannot = native_cannot, .prepare = native_prepare, .begin = native_begin, .advance = native_advance,
    .waiting_for = native_waiting_for, .cancel = native_cancel, .release = native_release,
};
