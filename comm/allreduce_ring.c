/* allreduce_ring.c : every rank talks to its neighbours only. In step t < p-1 it receives from rank-1 the partial sum of one part,
 * adds its own x, encodes and passes it on; after p-1 steps rank r holds the sum of part r. In p-1 more steps the encoded sums
 * go round unchanged, and all ranks decode the same bytes. 2(p-1) messages and 2(p-1)/p of the encoded bytes per rank, like sra,
 * but one after the other, and float codecs encode p-1 partial sums, each error going to the residual of whoever made it. With
 * integer codecs partial sums are exact and the bits are those of every other algorithm.
 *
 * Slices go in batches of TAUT_SLOTS. Frames are sent, received and processed in the order (step, slice in the batch), so that
 * messages of the one sender and tag match. A slice owns two buffers for frames that arrive and two for partial sums, used
 * in turn; sums are passed on straight from the buffer in which they came. */
#include "../compressors/dispatch.h"
#include "../compressors/vec/vec.h"
#include "communicator.h"
#include <string.h>

typedef struct slot {
    taut_request in[2], out[2], pass[2];
    uint8_t     *arrived[2], *partial[2]; /* frames */
    void        *acc;                     /* sub floats or int32 */
} slot;

typedef struct ring {
    size_t frame;
    size_t batch;   /* first slice of it */
    size_t opened;  /* slices of the batch that have been opened */
    int    step;    /* what is processed next: step, and slice of the batch */
    size_t i;
    slot   slot[TAUT_SLOTS];
} ring;

static ring *ring_of(const taut_job *job) { return job->work; }
static const taut_codec *codec_of(const taut_job *job) { return taut__spec_codec(job->call.spec); }
static bool integer(const taut_job *job) { return codec_of(job)->integer && job->halves != TAUT_GATHER; }
/* sums of decoded tensors are encoded without loss; not what allgather spreads, which is no such sum */
static bool exact(const taut_job *job) { return codec_of(job)->encode_exact && job->halves != TAUT_GATHER; }
static int  steps_of(const taut_job *job) { return job->g->size - 1; } /* of each half */
static int  first_step(const taut_job *job) { return job->halves & TAUT_REDUCE ? 0 : steps_of(job); }
static int  last_step(const taut_job *job) { return steps_of(job) * (job->halves & TAUT_GATHER ? 2 : 1); }
static size_t in_batch(const taut_job *job) { return taut__min(TAUT_SLOTS, job->part.slices - ring_of(job)->batch); }

/* The part that arrives in a step. */
static int part_in(const taut_job *job, int step)
{
    int p = job->g->size, gather = step - steps_of(job);
    return gather < 0 ? taut__ring_recv(job->g->rank, step, p) : taut__mod(job->g->rank - 1 - gather, p);
}
static taut_range range_of(const taut_job *job, size_t i, int part) { return taut__sub(&job->part, part, ring_of(job)->batch + i); }

/* ---- memory ---- */

static void ring_release(taut_job *job)
{
    ring *a = ring_of(job);
    if (!a) return;
    for (int i = 0; i < TAUT_SLOTS; i++) taut__free(a->slot[i].arrived[0]), taut__free(a->slot[i].acc);
    taut__free(a);
    job->work = NULL;
}

static taut_status ring_prepare(taut_job *job)
{
    ring *a = job->work = taut__alloc(1, sizeof *a);
    if (!a) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", job->name);
    a->frame = taut__round_up(taut__frame_capacity(job->call.spec, job->call.tensor, job->part.sub), 64);
    for (size_t i = 0; i < taut__min(TAUT_SLOTS, job->part.slices); i++) {
        slot *t = &a->slot[i];
        t->arrived[0] = taut__alloc(4, a->frame);
        t->acc = taut__alloc(job->part.sub, sizeof(float));
        if (!t->arrived[0] || !t->acc) return taut__fail(TAUT_E_NOMEM, "%s: out of memory for frames of %zu bytes", job->name, a->frame);
        t->arrived[1] = t->arrived[0] + a->frame;
        t->partial[0] = t->arrived[1] + a->frame;
        t->partial[1] = t->partial[0] + a->frame;
    }
    for (int i = 0; i < TAUT_SLOTS; i++) {
        taut__requests_init(a->slot[i].in, 2), taut__requests_init(a->slot[i].out, 2), taut__requests_init(a->slot[i].pass, 2);
    }
    TAUT_TRY(taut__comm_scratch(job->comm, job->part.sub));
    return job->g->t->ops->reserve(job->g->t, 6 * TAUT_SLOTS);
}

static void begin_batch(taut_job *job, size_t first)
{
    ring *a = ring_of(job);
    a->batch = first;
    a->opened = a->i = 0;
    a->step = first_step(job);
}

static taut_status ring_begin(taut_job *job)
{
    begin_batch(job, 0);
    return TAUT_OK;
}

/* ---- messages ---- */

static int tag_of(const taut_job *job, int step) { return job->tag + (step < steps_of(job) ? TAUT_TAG_FIRST : TAUT_TAG_SECOND); }

static taut_status receive(taut_job *job, size_t i, int step)
{
    slot *t = &ring_of(job)->slot[i];
    int   from = taut__mod(job->g->rank - 1, job->g->size);
    if (step >= last_step(job) || range_of(job, i, part_in(job, step)).n == 0) return TAUT_OK;
    return taut__irecv(job->g, &t->in[step % 2], from, tag_of(job, step), t->arrived[step % 2], ring_of(job)->frame);
}

static taut_status send(taut_job *job, taut_request *r, int step, const uint8_t *frame, size_t bytes, size_t n)
{
    job->record.bytes_sent += bytes;
    job->record.bytes_dense += n * (job->layer->dtype == TAUT_F32 ? 4 : 2);
    return taut__isend(job->g, r, (job->g->rank + 1) % job->g->size, tag_of(job, step), frame, bytes);
}

/* ---- codec work ---- */

/* acc = this rank's contribution: codes; or x as it is; or, for sparse codecs, what their encoding of x decodes to */
static taut_status own(taut_job *job, slot *t, taut_range r, uint8_t *frame, taut_piece_done *done)
{
    float *scratch = job->comm->scratch[0];
    if (integer(job)) {
        taut__quantize_x(job, r, t->acc, INT32_MAX / job->g->size, scratch, done);
        return done->status;
    }
    if (!exact(job)) {
        taut__own_x(job, r, t->acc, done);
        return TAUT_OK;
    }
    taut_call c = taut__slice_call(job, r.first, r.n);
    taut__encode_x(job, r, frame, ring_of(job)->frame, scratch, done);
    TAUT_TRY(done->status);
    return taut__frame_decode(&c, frame, done->bytes, t->acc);
}

static taut_status add(taut_job *job, slot *t, taut_range r, int step)
{
    taut_call           c = taut__slice_call(job, r.first, r.n);
    const taut_request *in = &t->in[step % 2];
    if (in->got > in->bytes)
        return taut__fail(TAUT_E_CORRUPT, "%s: rank %d sent %zu bytes where at most %zu were expected", job->name, in->peer, in->got,
                          in->bytes);
    return integer(job) ? taut__codes_unpack_add(&c, t->arrived[step % 2], in->got, t->acc)
                        : taut__frame_decode_add(&c, t->arrived[step % 2], in->got, t->acc);
}

/* acc -> frame; what that loses goes to the residual. scale: of acc, in units of the sum. */
static taut_status encode_acc(taut_job *job, slot *t, taut_range r, int step, float scale, uint8_t *frame, size_t *bytes, taut_norm2 *lost)
{
    taut_call c = taut__slice_call(job, r.first, r.n);
    bool      lossless = exact(job) || taut__spec_caps(c.spec) & TAUT_CAP_LOSSLESS;
    if (integer(job)) return taut__codes_pack(&c, t->acc, frame, ring_of(job)->frame, bytes);
    if (job->halves == TAUT_GATHER) c.prep = NULL;
    c.seed = taut__seed(c.seed, (uint64_t)(uint32_t)step + 1); /* every hop rounds independently */
    TAUT_TRY(taut__frame_encode(&c, t->acc, frame, ring_of(job)->frame, bytes, lossless ? NULL : t->acc, exact(job)));
    if (lossless || job->halves == TAUT_GATHER) return TAUT_OK;
    *lost = taut__job_norms(job, t->acc, r);
    taut__keep_second(job, r, t->acc, 1 / scale);
    return TAUT_OK;
}

static taut_status store(taut_job *job, taut_range r, const uint8_t *frame, size_t bytes, taut_norm2 *sum)
{
    taut_call c = taut__slice_call(job, r.first, r.n);
    float    *to = taut__result_at(job, r.first, job->comm->scratch[0]);
    if (integer(job)) return taut__store_frame(job, r, frame, bytes, job->comm->scratch[0], sum);
    TAUT_TRY(taut__frame_decode(&c, frame, bytes, to));
    taut__result_store(job, r.first, r.n, to);
    return TAUT_OK;
}

static void book(taut_job *job, taut_piece_done *done, const char *phase, double begin, size_t bytes)
{
    double end = taut__now();
    if (phase[0] == 'd') done->decode_s = end - begin;
    else done->seconds = end - begin;
    taut__account(job, done);
    taut__trace_span(job->comm->trace, job, phase, begin, end, bytes);
}

/* ---- steps ---- */

/* The sum of my part is in acc: encode it once, or, for a reduce-scatter, keep it. */
static taut_status finish_sum(taut_job *job, slot *t, taut_range r, int step, taut_piece_done *done)
{
    size_t bytes;
    bool   whole = job->halves & TAUT_GATHER;
    if (!integer(job) && job->halves & TAUT_REDUCE) {
        if (job->factor != 1.0f) taut__simd_get()->vec->scale(t->acc, job->factor, r.n);
        done->sum = taut__job_norms(job, t->acc, r);
        if (!whole) taut__result_store(job, r.first, r.n, t->acc);
    }
    if (!whole) return integer(job) ? taut__store_codes(job, r, t->acc, job->comm->scratch[0], &done->sum) : TAUT_OK;
    uint8_t *frame = t->partial[step % 2];
    TAUT_TRY(encode_acc(job, t, r, step, job->factor, frame, &bytes, &done->second));
    job->record.sum_bytes += bytes;
    TAUT_TRY(send(job, &t->out[step % 2], step, frame, bytes, r.n));
    return store(job, r, frame, bytes, &done->sum);
}

static taut_status open_slice(taut_job *job, size_t i)
{
    slot           *t = &ring_of(job)->slot[i];
    int             step = first_step(job), part = step == 0 ? taut__ring_send(job->g->rank, 0, job->g->size) : job->g->rank;
    taut_range      r = range_of(job, i, part);
    taut_piece_done done = {0};
    double          begin = taut__now();
    uint8_t        *frame = t->partial[step % 2];
    TAUT_TRY(receive(job, i, step));
    if (r.n == 0) return TAUT_OK;
    if (step > 0) {
        TAUT_TRY(own(job, t, r, frame, &done));
        TAUT_TRY(finish_sum(job, t, r, step, &done));
    } else {
        if (integer(job)) {
            taut_call c = taut__slice_call(job, r.first, r.n);
            TAUT_TRY(own(job, t, r, frame, &done));
            TAUT_TRY(taut__codes_pack(&c, t->acc, frame, ring_of(job)->frame, &done.bytes));
        } else {
            taut__encode_x(job, r, frame, ring_of(job)->frame, job->comm->scratch[0], &done);
            TAUT_TRY(done.status);
        }
        job->record.payload_bytes += done.bytes;
        job->record.encoded += r.n;
        TAUT_TRY(send(job, &t->out[0], 0, frame, done.bytes, r.n));
    }
    book(job, &done, "encode", begin, done.bytes);
    return TAUT_OK;
}

static taut_status pass_on(taut_job *job, size_t i, int step)
{
    slot           *t = &ring_of(job)->slot[i];
    taut_range      r = range_of(job, i, part_in(job, step));
    taut_piece_done done = {0};
    double          begin = taut__now();
    size_t          bytes;
    if (r.n == 0) return TAUT_OK;
    if (step >= steps_of(job)) { /* a finished sum */
        const taut_request *in = &t->in[step % 2];
        if (in->got > in->bytes) return taut__fail(TAUT_E_CORRUPT, "%s: frame of %zu bytes is too long", job->name, in->got);
        if (step + 1 < last_step(job)) TAUT_TRY(send(job, &t->pass[step % 2], step + 1, t->arrived[step % 2], in->got, r.n));
        TAUT_TRY(store(job, r, t->arrived[step % 2], in->got, NULL));
        book(job, &done, "decode", begin, in->got);
        return TAUT_OK;
    }
    uint8_t *frame = t->partial[(step + 1) % 2];
    TAUT_TRY(own(job, t, r, frame, &done));
    TAUT_TRY(add(job, t, r, step));
    if (step + 1 == steps_of(job)) {
        TAUT_TRY(finish_sum(job, t, r, step + 1, &done));
    } else {
        taut_norm2 lost = {0, 0};
        TAUT_TRY(encode_acc(job, t, r, step + 1, 1, frame, &bytes, &lost));
        done.error.plain += lost.plain, done.error.weighted += lost.weighted;
        job->record.payload_bytes += bytes;
        job->record.encoded += r.n;
        TAUT_TRY(send(job, &t->out[(step + 1) % 2], step + 1, frame, bytes, r.n));
    }
    book(job, &done, "reduce", begin, done.bytes);
    return TAUT_OK;
}

/* Everything that processing a step will overwrite has left. */
static bool ready(const slot *t, int step)
{
    int next = (step + 1) % 2;
    return taut__done(&t->in[step % 2]) && taut__done(&t->out[next]) && taut__done(&t->pass[next]);
}

static bool batch_sent(const ring *a)
{
    for (int i = 0; i < TAUT_SLOTS; i++)
        if (!taut__all_done(a->slot[i].out, 2) || !taut__all_done(a->slot[i].pass, 2)) return false;
    return true;
}

static taut_status ring_advance(taut_job *job, bool *moved, bool *done)
{
    ring *a = ring_of(job);
    if (a->opened < in_batch(job)) {
        *moved = true;
        return open_slice(job, a->opened++);
    }
    if (a->step < last_step(job)) {
        if (!ready(&a->slot[a->i], a->step)) return TAUT_OK;
        *moved = true;
        TAUT_TRY(receive(job, a->i, a->step + 1));
        TAUT_TRY(pass_on(job, a->i, a->step));
        if (++a->i == in_batch(job)) a->i = 0, a->step++;
        return TAUT_OK;
    }
    if (!batch_sent(a)) return TAUT_OK;
    *moved = true;
    *done = a->batch + in_batch(job) == job->part.slices;
    if (!*done) begin_batch(job, a->batch + in_batch(job));
    return TAUT_OK;
}

static int ring_waiting_for(const taut_job *job)
{
    return taut__mod(job->g->rank - 1, job->g->size);
}

static void ring_cancel(taut_job *job)
{
    ring           *a = ring_of(job);
    taut_transport *t = job->g->t;
    for (int i = 0; a && i < TAUT_SLOTS; i++)
        for (int k = 0; k < 2; k++)
            t->ops->cancel(t, &a->slot[i].in[k]), t->ops->cancel(t, &a->slot[i].out[k]), t->ops->cancel(t, &a->slot[i].pass[k]);
}

static const char *ring_cannot(const taut_spec *spec)
{
    return taut__spec_caps(spec) & TAUT_CAP_SLICEABLE ? NULL : "codes whole tensors only";
}

const taut_algorithm taut__ring = {
    .name = "ring", .help = "partial sums to the next neighbour: 2(p-1) steps, 2(p-1)/p of the encoded bytes per rank",
    .cannot = ring_cannot, .prepare = ring_prepare, .begin = ring_begin, .advance = ring_advance,
    .waiting_for = ring_waiting_for, .cancel = ring_cancel, .release = ring_release,
};
