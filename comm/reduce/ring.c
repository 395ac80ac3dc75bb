/* ring.c : every rank talks to its neighbours only. In step t < p-1 it receives from rank-1 the partial sum of one part,
 * adds its own x, encodes and passes it on; after p-1 steps rank r holds the sum of part r. In p-1 more steps the encoded sums
 * go round unchanged, and all ranks decode the same bytes. 2(p-1) messages and 2(p-1)/p of the encoded bytes per rank, like sra,
 * but one after the other, and float codecs encode p-1 partial sums, each error going to the residual of whoever made it. With
 * integer codecs partial sums are exact and the bits are those of every other algorithm.
 *
 * Slices of a window go round independently of each other, each with a tag of its own, so that neighbours may hold different
 * numbers of slots: within a slice messages go in order of step, and a tag serves the next slice when this one is finished. A
 * slice owns two buffers for frames that arrive and two for partial sums, used in turn; sums are passed on straight from the
 * buffer in which they came. */
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include "../core/communicator.h"
#include <string.h>

enum { PIECES = 32 };

typedef struct slot {
    taut__request *in, *out, *pass;         /* two of each; NULL: no slice has the slot */
    uint8_t      *arrived[2], *partial[2]; /* frames */
    int           step;                    /* what is processed next */
    double        sent_s;                  /* when this rank last sent a frame of the slice */
} slot;

typedef enum action { OPEN, ADD, DECODE } action;
typedef struct piece {
    action          what;
    size_t          k;    /* slice */
    int             step; /* of the frame that it makes, or decodes */
    bool            sums; /* that frame is a whole sum */
    taut__piece_done done; /* bytes: of that frame, 0: none was made */
} piece;

typedef struct ring {
    size_t frame;
    size_t slots;
    size_t opened, finished; /* slices */
    size_t pieces;
    piece  piece[PIECES];
    slot   slot[];
} ring;

static ring *ring_of(const taut__job *job) { return job->work; }
static slot *slot_of(const taut__job *job, size_t k) { return &ring_of(job)->slot[k % ring_of(job)->slots]; }
static const taut_codec *codec_of(const taut__job *job) { return taut__spec_codec(job->call.spec); }
static bool integer(const taut__job *job) { return codec_of(job)->caps & TAUT_CAP_INTEGER && job->halves != TAUT_GATHER; }
/* sums of decoded tensors are encoded without loss; not what allgather spreads, which is no such sum */
static bool exact(const taut__job *job) { return codec_of(job)->caps & TAUT_CAP_SPARSE && job->halves != TAUT_GATHER; }
static int  steps_of(const taut__job *job) { return job->g->size - 1; } /* of each half */
static int  first_step(const taut__job *job) { return job->halves & TAUT_REDUCE ? 0 : steps_of(job); }
static int  last_step(const taut__job *job) { return steps_of(job) * (job->halves & TAUT_GATHER ? 2 : 1); }

/* The part that arrives in a step. */
static int part_in(const taut__job *job, int step)
{
    int p = job->g->size, gather = step - steps_of(job);
    return gather < 0 ? taut__ring_recv(job->g->rank, step, p) : taut__mod(job->g->rank - 1 - gather, p);
}

/* ---- memory ---- */

static void ring_release(taut__job *job)
{
    taut__free(job->work);
    job->work = NULL;
}

/* memory: of a slot; NULL: counts its bytes. */
static size_t lay_out(const taut__job *job, slot *t, void *memory)
{
    taut__carver c = {memory, 0};
    t->in = taut__carve(&c, 6, sizeof *t->in);
    for (int i = 0; i < 2; i++) {
        t->arrived[i] = taut__carve(&c, 1, ring_of(job)->frame);
        t->partial[i] = taut__carve(&c, 1, ring_of(job)->frame);
    }
    return c.bytes;
}

static taut_status ring_prepare(taut__job *job)
{
    size_t slots = taut__min(taut__coded_slots(job, job->part.slices), TAUT_RING_TAGS);
    ring  *a = job->work = taut__alloc(1, sizeof *a + slots * sizeof *a->slot);
    if (!a) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", job->name);
    a->slots = slots;
    a->frame = taut__round_up(taut__frame_capacity(job->call.spec, job->call.tensor, job->part.sub), 64);
    taut__slots_need(&job->slots, lay_out(job, a->slot, NULL), 6, slots);
    return taut__comm_scratch(job->comm, job->part.sub);
}

static taut_status ring_begin(taut__job *job)
{
    ring_of(job)->opened = ring_of(job)->finished = 0;
    return TAUT_OK;
}

/* Memory for slice k; false: none is left now. */
static bool open_slot(taut__job *job, size_t k)
{
    slot *t = slot_of(job, k);
    void *memory = taut__slots_take(&job->slots, lay_out(job, t, NULL), 6);
    if (!memory) return false;
    lay_out(job, t, memory);
    taut__requests_init(t->in, 6);
    t->out = t->in + 2, t->pass = t->out + 2;
    return true;
}

static void close_slot(taut__job *job, size_t k)
{
    slot *t = slot_of(job, k);
    taut__slots_give(&job->slots, t->in); /* a slot begins with them */
    t->in = NULL;
}

/* ---- messages ---- */

static int tag_of(const taut__job *job, size_t k) { return job->tag + TAUT_TAG_RING + (int)(k % TAUT_RING_TAGS); }

static taut_status receive(taut__job *job, size_t k, int step)
{
    slot *t = slot_of(job, k);
    int   from = taut__mod(job->g->rank - 1, job->g->size);
    if (step >= last_step(job) || taut__sub(&job->part, part_in(job, step), k).n == 0) return TAUT_OK;
    return taut__irecv(job->g, &t->in[step % 2], from, tag_of(job, k), t->arrived[step % 2], ring_of(job)->frame);
}

static taut_status send(taut__job *job, size_t k, taut__request *r, const uint8_t *frame, size_t bytes, size_t n)
{
    slot_of(job, k)->sent_s = taut__now();
    job->record.bytes_sent += bytes;
    job->record.bytes_dense += n * (job->layer->dtype == TAUT_F32 ? 4 : 2);
    return taut__isend(job->g, r, (job->g->rank + 1) % job->g->size, tag_of(job, k), frame, bytes);
}

/* ---- codec work ---- */

/* acc = this rank's contribution: codes; or x as it is; or, for sparse codecs, what their encoding of x decodes to */
static taut_status own(taut__job *job, taut__range r, uint8_t *frame, float *scratch, taut__piece_done *done)
{
    void *acc = taut__acc(job, scratch);
    if (integer(job)) {
        taut__quantize_x(job, r, acc, INT32_MAX / job->g->size, scratch, done);
        return done->status;
    }
    if (!exact(job)) {
        taut__own_x(job, r, acc, done);
        return TAUT_OK;
    }
    taut_call c = taut__slice_call(job, r.first, r.n);
    taut__encode_x(job, r, frame, ring_of(job)->frame, scratch, done);
    TAUT_TRY(done->status);
    return taut__frame_decode(&c, frame, done->bytes, acc);
}

static taut_status add(taut__job *job, slot *t, taut__range r, int step, void *acc)
{
    taut_call      c = taut__slice_call(job, r.first, r.n);
    size_t         got = t->in[step % 2].got;
    const uint8_t *frame = t->arrived[step % 2];
    return integer(job) ? taut__codes_unpack_add(&c, frame, got, acc) : taut__frame_decode_add(&c, frame, got, acc);
}

/* acc -> frame; what that loses goes to the residual. scale: of acc, in units of the sum. */
static taut_status encode_acc(taut__job *job, taut__range r, void *acc, int step, float scale, uint8_t *frame, size_t *bytes, taut_norm2 *lost)
{
    taut_call c = taut__slice_call(job, r.first, r.n);
    bool      lossless = exact(job) || taut__spec_caps(c.spec) & TAUT_CAP_LOSSLESS;
    if (integer(job)) return taut__codes_pack(&c, acc, frame, ring_of(job)->frame, bytes);
    if (job->halves == TAUT_GATHER) c.calibration = NULL;
    c.seed = taut__seed(c.seed, (uint64_t)(uint32_t)step + 1); /* every hop rounds independently */
    TAUT_TRY(taut__frame_encode(&c, acc, frame, ring_of(job)->frame, bytes, lossless ? NULL : acc, exact(job)));
    if (lossless || job->halves == TAUT_GATHER) return TAUT_OK;
    *lost = taut__job_norms(job, acc, r);
    taut__keep_requantization_error(job, r, acc, 1 / scale);
    return TAUT_OK;
}

static taut_status store(taut__job *job, taut__range r, const uint8_t *frame, size_t bytes, float *scratch, taut_norm2 *sum)
{
    taut_call c = taut__slice_call(job, r.first, r.n);
    float    *to = taut__result_at(job, r.first, scratch);
    if (integer(job)) return taut__store_frame(job, r, frame, bytes, scratch, sum);
    TAUT_TRY(taut__frame_decode(&c, frame, bytes, to));
    if (sum && job->halves & TAUT_REDUCE) taut__add_norm(sum, taut__job_norms(job, to, r), 1);
    taut__result_store(job, r.first, r.n, to, sum != NULL);
    return TAUT_OK;
}

/* ---- pieces: run by any thread of the pool ---- */

/* The sum of my part is in acc: encode it once, or, for a reduce-scatter, keep it. */
static taut_status finish_sum(taut__job *job, slot *t, taut__range r, piece *p, float *scratch)
{
    bool  whole = job->halves & TAUT_GATHER;
    void *acc = taut__acc(job, scratch);
    if (!integer(job) && job->halves & TAUT_REDUCE) {
        if (job->factor != 1.0f) taut__simd_get()->vec->scale(acc, job->factor, r.n);
        p->done.sum = whole ? taut__sum_bad(job, acc, r) : taut__sum_norms(job, acc, r);
        if (!whole) taut__result_store(job, r.first, r.n, acc, true);
    }
    p->done.bytes = 0;
    if (!whole) return integer(job) ? taut__store_codes(job, r, acc, scratch, &p->done.sum) : TAUT_OK;
    uint8_t *frame = t->partial[p->step % 2];
    p->sums = true;
    TAUT_TRY(encode_acc(job, r, taut__acc(job, scratch), p->step, job->factor, frame, &p->done.bytes, &p->done.requantization_error));
    return store(job, r, frame, p->done.bytes, scratch, &p->done.sum);
}

/* My x of the part that leaves first; or, for an allgather, my part. */
static taut_status open_slice(taut__job *job, slot *t, taut__range r, piece *p, float *scratch)
{
    uint8_t *frame = t->partial[p->step % 2];
    if (p->step == 0 && !integer(job)) {
        taut__encode_x(job, r, frame, ring_of(job)->frame, scratch, &p->done);
        return p->done.status;
    }
    TAUT_TRY(own(job, r, frame, scratch, &p->done));
    if (p->step > 0) return finish_sum(job, t, r, p, scratch);
    taut_call c = taut__slice_call(job, r.first, r.n);
    return taut__codes_pack(&c, taut__acc(job, scratch), frame, ring_of(job)->frame, &p->done.bytes);
}

/* What arrived plus my x: a partial sum, or the sum. */
static taut_status add_own(taut__job *job, slot *t, taut__range r, piece *p, float *scratch)
{
    taut_norm2 lost = {0, 0};
    uint8_t   *frame = t->partial[p->step % 2];
    TAUT_TRY(own(job, r, frame, scratch, &p->done));
    TAUT_TRY(add(job, t, r, p->step - 1, taut__acc(job, scratch)));
    if (p->step == steps_of(job)) return finish_sum(job, t, r, p, scratch);
    TAUT_TRY(encode_acc(job, r, taut__acc(job, scratch), p->step, 1, frame, &p->done.bytes, &lost));
    p->done.error.plain += lost.plain, p->done.error.weighted += lost.weighted;
    return TAUT_OK;
}

static taut__range range_of_piece(const taut__job *job, const piece *p)
{
    int part = p->what == OPEN ? (p->step == 0 ? taut__ring_send(job->g->rank, 0, job->g->size) : job->g->rank)
                               : part_in(job, p->what == ADD ? p->step - 1 : p->step);
    return taut__sub(&job->part, part, p->k);
}

static void run_piece(void *ctx, size_t i, int worker)
{
    taut__job  *job = ctx;
    piece     *p = &ring_of(job)->piece[i];
    slot      *t = slot_of(job, p->k);
    float     *scratch = job->comm->scratch[worker];
    taut__range r = range_of_piece(job, p);
    double     begin = taut__now();
    switch (p->what) {
    case OPEN: p->done.status = open_slice(job, t, r, p, scratch); break;
    case ADD: p->done.status = add_own(job, t, r, p, scratch); break;
    case DECODE: p->done.status = store(job, r, t->arrived[p->step % 2], t->in[p->step % 2].got, scratch, NULL); break;
    }
    taut__piece_end(&p->done);
    double seconds = taut__now() - begin;
    p->done.seconds = p->what == DECODE ? 0 : seconds;
    p->done.decode_s = p->what == DECODE ? seconds : 0;
}

/* ---- before and after the work ---- */

static bool room_for_piece(const taut__job *job)
{
    return ring_of(job)->pieces < taut__min(PIECES, (size_t)taut__executor_threads(job->comm->pool));
}

static taut_status choose_opens(taut__job *job)
{
    ring *a = ring_of(job);
    for (; a->opened < job->part.slices && a->opened < a->finished + a->slots && room_for_piece(job); a->opened++) {
        piece p = {.what = OPEN, .k = a->opened, .step = first_step(job)};
        if (!open_slot(job, p.k)) return TAUT_OK;
        slot *t = slot_of(job, p.k);
        t->step = p.step;
        t->sent_s = taut__now();
        TAUT_TRY(receive(job, p.k, p.step));
        if (range_of_piece(job, &p).n > 0) a->piece[a->pieces++] = p;
    }
    return TAUT_OK;
}

/* The frame of the step in hand has arrived. A finished sum goes on to the next neighbour at once. */
static taut_status choose_arrived(taut__job *job, size_t k)
{
    ring               *a = ring_of(job);
    slot               *t = slot_of(job, k);
    int                 step = t->step++;
    bool                sum = step >= steps_of(job);
    piece               p = {.what = sum ? DECODE : ADD, .k = k, .step = step + !sum};
    const taut__request *in = &t->in[step % 2];
    size_t              n = range_of_piece(job, &p).n;
    TAUT_TRY(receive(job, k, step + 1));
    if (n == 0) return TAUT_OK;
    if (in->got > in->bytes)
        return taut__fail(TAUT_E_CORRUPT, "%s: rank %d sent %zu bytes where at most %zu were expected", job->name, in->peer, in->got,
                          in->bytes);
    if (job->comm->trace) taut__trace_span(job->comm->trace, job, "wire", t->sent_s, taut__now(), in->got);
    a->piece[a->pieces++] = p;
    if (!sum || step + 1 == last_step(job)) return TAUT_OK;
    return send(job, k, &t->pass[step % 2], t->arrived[step % 2], in->got, n);
}

/* Everything that processing the next step will overwrite has left. */
static bool ready(const taut__job *job, const slot *t)
{
    int next = (t->step + 1) % 2;
    return t->step < last_step(job) && taut__done(&t->in[t->step % 2]) && taut__done(&t->out[next]) && taut__done(&t->pass[next]);
}

/* opened: slices whose first frame has been made */
static taut_status choose_ready(taut__job *job, size_t opened, bool *moved)
{
    for (size_t k = ring_of(job)->finished; k < opened && room_for_piece(job); k++) {
        if (!ready(job, slot_of(job, k))) continue;
        *moved = true;
        TAUT_TRY(choose_arrived(job, k));
    }
    return TAUT_OK;
}

static taut_status settle_piece(taut__job *job, const piece *p)
{
    slot  *t = slot_of(job, p->k);
    size_t n = range_of_piece(job, p).n;
    TAUT_TRY(taut__piece_status(&p->done));
    taut__account(job, &p->done);
    if (p->what == DECODE || p->done.bytes == 0) return TAUT_OK;
    if (p->sums) {
        job->record.sum_bytes += p->done.bytes;
    } else {
        job->record.payload_bytes += p->done.bytes;
        job->record.encoded += n;
    }
    return send(job, p->k, &t->out[p->step % 2], t->partial[p->step % 2], p->done.bytes, n);
}

static taut_status run_pieces(taut__job *job)
{
    static const char *const name[] = {[OPEN] = "encode", [ADD] = "reduce", [DECODE] = "decode"};
    ring       *a = ring_of(job);
    double      begin = taut__now();
    taut_status s = TAUT_OK;
    if (a->pieces == 0) return TAUT_OK;
    taut__executor_run(job->comm->pool, run_piece, job, a->pieces);
    taut__trace_span(job->comm->trace, job, name[a->piece[0].what], begin, taut__now(), a->piece[0].done.bytes);
    for (size_t k = 0; k < a->pieces && s == TAUT_OK; k++) s = settle_piece(job, &a->piece[k]);
    a->pieces = 0;
    return s;
}

static bool slice_finished(const taut__job *job, const slot *t)
{
    return t->step == last_step(job) && taut__all_done(t->in, 6);
}

static taut_status ring_advance(taut__job *job, bool *moved, bool *done)
{
    ring  *a = ring_of(job);
    size_t opened = a->opened;
    TAUT_TRY(choose_opens(job));
    TAUT_TRY(choose_ready(job, opened, moved));
    *moved |= a->opened > opened;
    TAUT_TRY(run_pieces(job));
    while (a->finished < a->opened && slice_finished(job, slot_of(job, a->finished))) {
        close_slot(job, a->finished++);
        *moved = true;
    }
    *done = a->finished == job->part.slices;
    return TAUT_OK;
}

/* What arrives in step k has come through k other ranks. */
static int ring_waiting_for(const taut__job *job, int *hops)
{
    const ring *a = ring_of(job);
    if (a->finished < a->opened) *hops += slot_of(job, a->finished)->step;
    return taut__member(job->g, taut__mod(job->g->rank - 1, job->g->size));
}

static void ring_cancel(taut__job *job)
{
    ring           *a = ring_of(job);
    taut__transport *t = job->g->t;
    for (size_t i = 0; a && i < a->slots; i++)
        for (int k = 0; a->slot[i].in && k < 6; k++) t->ops->cancel(t, &a->slot[i].in[k]);
}

static const char *ring_cannot(const taut_spec *spec)
{
    return taut__spec_caps(spec) & TAUT_CAP_SLICEABLE ? NULL : "codes whole tensors only";
}

const taut__algorithm taut__ring = {
    .name = "ring", .help = "partial sums to the next neighbour: 2(p-1) steps, 2(p-1)/p of the encoded bytes per rank",
    .cannot = ring_cannot, .prepare = ring_prepare, .begin = ring_begin, .advance = ring_advance,
    .waiting_for = ring_waiting_for, .cancel = ring_cancel, .release = ring_release,
};
