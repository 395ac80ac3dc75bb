/* allreduce_gather.c : every rank encodes its whole x and sends it to all; everybody adds all frames in order of rank, its own
 * decoded frame included. One step, (p-1) times the encoded bytes per rank: for few ranks, short or very sparse tensors, and for
 * codecs that code whole tensors only. No sum is encoded again. Sliceable codecs go slice by slice, several under way. */
#include "../compressors/dispatch.h"
#include "../compressors/vec/vec.h"
#include "communicator.h"
#include <string.h>

typedef struct slot {
    taut_request *out, *in; /* one per rank */
    uint8_t      *frame;    /* p frames; mine is sent to all */
    size_t        bytes;    /* of mine */
} slot;

typedef struct gather {
    size_t frame, sub, slices, slots;
    size_t encoded, finished; /* slices */
    void  *acc;               /* sub numbers: int32 codes, or floats of 16-bit results; NULL where buf serves */
    slot   slot[TAUT_SLOTS];
} gather;

static gather *gather_of(const taut_job *job) { return job->work; }
static slot   *slot_of(const taut_job *job, size_t k) { return &gather_of(job)->slot[k % gather_of(job)->slots]; }
static const taut_codec *codec_of(const taut_job *job) { return taut__spec_codec(job->call.spec); }

static void gather_release(taut_job *job)
{
    gather *a = gather_of(job);
    if (!a) return;
    for (size_t i = 0; i < a->slots; i++) taut__free(a->slot[i].out), taut__free(a->slot[i].frame);
    taut__free(a->acc);
    taut__free(a);
    job->work = NULL;
}

static taut_status gather_prepare(taut_job *job)
{
    size_t  p = (size_t)job->g->size, n = job->call.tensor->elems;
    bool    sliceable = taut__spec_caps(job->call.spec) & TAUT_CAP_SLICEABLE, ok;
    gather *a = job->work = taut__alloc(1, sizeof *a);
    if (!a) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", job->name);
    a->sub = sliceable ? taut__min(n, job->part.sub) : n;
    a->slices = taut__ceil_div(n, a->sub);
    a->slots = taut__min(a->slices, TAUT_SLOTS);
    a->frame = taut__round_up(taut__frame_capacity(job->call.spec, job->call.tensor, a->sub), 64);
    bool own_sum = codec_of(job)->integer || job->layer->dtype != TAUT_F32;
    if (own_sum) a->acc = taut__alloc(a->sub, sizeof(float));
    ok = a->acc || !own_sum;
    for (size_t i = 0; i < a->slots && ok; i++) {
        slot *t = &a->slot[i];
        t->out = taut__alloc(2 * p, sizeof *t->out);
        t->frame = taut__alloc(p, a->frame);
        ok = t->out && t->frame;
        if (t->out) taut__requests_init(t->out, 2 * p), t->in = t->out + p;
    }
    if (!ok) return taut__fail(TAUT_E_NOMEM, "%s: out of memory for %zu frames of %zu bytes", job->name, p, a->frame);
    TAUT_TRY(taut__comm_scratch(job->comm, a->sub));
    return job->g->t->ops->reserve(job->g->t, 2 * p * a->slots);
}

static taut_status gather_begin(taut_job *job)
{
    gather_of(job)->encoded = gather_of(job)->finished = 0;
    return TAUT_OK;
}

static taut_range range_of(const taut_job *job, size_t k)
{
    size_t first = k * gather_of(job)->sub;
    return (taut_range){first, taut__min(gather_of(job)->sub, job->call.tensor->elems - first)};
}

static uint8_t *frame_of(const taut_job *job, size_t k, int q) { return slot_of(job, k)->frame + (size_t)q * gather_of(job)->frame; }

static void encode_integer(taut_job *job, taut_range r, uint8_t *dst, taut_piece_done *done)
{
    int32_t  *q = gather_of(job)->acc;
    taut_call c = taut__slice_call(job, r.first, r.n);
    size_t    bytes;
    taut__quantize_x(job, r, q, INT32_MAX / job->g->size, job->comm->scratch[0], done);
    if (done->status != TAUT_OK) return;
    done->status = codec_of(job)->integer->pack(&c, q, dst + TAUT_FRAME_HEADER, gather_of(job)->frame - TAUT_FRAME_HEADER, &bytes);
    if (done->status == TAUT_OK) done->status = taut__frame_seal(codec_of(job), r.n, dst, bytes, &done->bytes);
}

static taut_status encode(taut_job *job, size_t k)
{
    slot           *t = slot_of(job, k);
    taut_range      r = range_of(job, k);
    uint8_t        *dst = frame_of(job, k, job->g->rank);
    taut_piece_done done = {0};
    double          begin = taut__now();
    for (int q = 0; q < job->g->size; q++)
        if (q != job->g->rank)
            TAUT_TRY(taut__irecv(job->g, &t->in[q], q, job->tag + TAUT_TAG_FIRST, frame_of(job, k, q), gather_of(job)->frame));
    if (codec_of(job)->integer) encode_integer(job, r, dst, &done);
    else taut__encode_x(job, r, dst, gather_of(job)->frame, job->comm->scratch[0], &done);
    TAUT_TRY(done.status);
    taut__account(job, &done);
    taut__trace_span(job->comm->trace, job, "encode", begin, taut__now(), done.bytes);
    t->bytes = done.bytes;
    job->record.payload_bytes += done.bytes;
    job->record.encoded += r.n;
    for (int i = 1; i < job->g->size; i++) {
        int q = (job->g->rank + i) % job->g->size;
        TAUT_TRY(taut__isend(job->g, &t->out[q], q, job->tag + TAUT_TAG_FIRST, dst, t->bytes));
        job->record.bytes_sent += t->bytes;
        job->record.bytes_dense += r.n * (job->layer->dtype == TAUT_F32 ? 4 : 2);
    }
    return TAUT_OK;
}

static taut_status add_frame(taut_job *job, taut_range r, const uint8_t *src, size_t len, void *acc, bool first)
{
    taut_call      c = taut__slice_call(job, r.first, r.n);
    const uint8_t *payload;
    size_t         bytes;
    if (!codec_of(job)->integer)
        return first ? taut__frame_decode(&c, src, len, acc) : taut__frame_decode_add(&c, src, len, acc);
    if (first) memset(acc, 0, r.n * sizeof(int32_t));
    TAUT_TRY(taut__frame_open(codec_of(job), r.n, src, len, &payload, &bytes, NULL, NULL, NULL));
    return codec_of(job)->integer->unpack_add(&c, payload, bytes, acc);
}

static taut_status add_all(taut_job *job, size_t k)
{
    slot      *t = slot_of(job, k);
    taut_range r = range_of(job, k);
    float     *acc = gather_of(job)->acc ? gather_of(job)->acc : taut__result_at(job, r.first, NULL);
    double     begin = taut__now();
    for (int q = 0; q < job->g->size; q++) {
        bool   mine = q == job->g->rank;
        size_t len = mine ? t->bytes : t->in[q].got;
        if (len > gather_of(job)->frame)
            return taut__fail(TAUT_E_CORRUPT, "%s: rank %d sent %zu bytes where at most %zu were expected", job->name, q, len,
                              gather_of(job)->frame);
        TAUT_TRY(add_frame(job, r, frame_of(job, k, q), len, acc, q == 0));
    }
    taut_piece_done done = {0};
    taut_norm2     *sum = job->g->rank == 0 ? &done.sum : NULL; /* all ranks have it: count it once */
    if (codec_of(job)->integer) {
        TAUT_TRY(taut__store_codes(job, r, gather_of(job)->acc, job->comm->scratch[0], sum));
    } else {
        if (job->factor != 1.0f) taut__simd_get()->vec->scale(acc, job->factor, r.n);
        if (sum) *sum = taut__job_norms(job, acc, r);
        taut__result_store(job, r.first, r.n, acc);
    }
    done.decode_s = taut__now() - begin;
    taut__account(job, &done);
    taut__trace_span(job->comm->trace, job, "decode", begin, taut__now(), 0);
    return TAUT_OK;
}

static taut_status gather_advance(taut_job *job, bool *moved, bool *done)
{
    gather *a = gather_of(job);
    size_t  p = (size_t)job->g->size;
    if (a->encoded < a->slices && a->encoded < a->finished + a->slots) {
        *moved = true;
        return encode(job, a->encoded++);
    }
    slot *t = slot_of(job, a->finished);
    if (a->finished < a->encoded && taut__all_done(t->in, p) && taut__all_done(t->out, p)) {
        *moved = true;
        TAUT_TRY(add_all(job, a->finished++));
    }
    *done = a->finished == a->slices;
    return TAUT_OK;
}

static int gather_waiting_for(const taut_job *job)
{
    gather *a = gather_of(job);
    for (size_t i = 0; i < a->slots; i++)
        for (size_t q = 0; q < 2 * (size_t)job->g->size; q++)
            if (!taut__done(&a->slot[i].out[q])) return (int)(q % (size_t)job->g->size);
    return -1;
}

static void gather_cancel(taut_job *job)
{
    gather *a = gather_of(job);
    for (size_t i = 0; a && i < a->slots; i++)
        for (size_t q = 0; a->slot[i].out && q < 2 * (size_t)job->g->size; q++)
            job->g->t->ops->cancel(job->g->t, &a->slot[i].out[q]);
}

const taut_algorithm taut__gather = {
    .name = "gather", .help = "everybody's whole encoding to everybody: 1 step, p-1 times the encoded bytes per rank",
    .prepare = gather_prepare, .begin = gather_begin, .advance = gather_advance, .waiting_for = gather_waiting_for,
    .cancel = gather_cancel, .release = gather_release,
};
