/* gather.c : every rank encodes its whole x and sends it to all; everybody adds all frames in order of rank, its own
 * decoded frame included (integer codecs: its own codes). One hop, (p-1) times the encoded bytes per rank, and no sum is
 * encoded again: for two ranks, where that is less than any other algorithm sends, for short or very sparse tensors, and
 * for codecs that code whole tensors only.
 *
 * Slice k of a sliceable codec passes through: encoded (receives are posted before, the frame leaves after), added (frames
 * of ranks 0..added-1 are in the sum), finished (all added, and mine has left). Encoding comes first, because the wire waits
 * for it; frames that arrive meanwhile are added in between. Both move in order of k, because messages of one sender and
 * tag are matched in the order of sending. Pieces of several slices may run in parallel. A slice has a slot from encoding to
 * the end; while there is none for the next slice, those under way go on. */
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include "../core/communicator.h"
#include <string.h>

enum { PIECES = 32 };

typedef struct slot {
    taut__request *out, *in; /* one per rank; NULL: no slice has the slot */
    uint8_t      *frame;    /* p frames; mine is sent to all */
    int32_t      *codes;    /* integer codecs: the sum, which begins as mine */
    size_t        bytes;    /* of my frame */
    int           added;    /* ranks whose frames are in the sum */
    double        sent_s;   /* when mine was sent */
} slot;

typedef struct piece {
    size_t          k;
    bool            adds;     /* else it encodes */
    int             from, to; /* ranks to add */
    taut__piece_done done;
} piece;

typedef struct gather {
    size_t frame, sub, slices, slots;
    size_t encoded, finished; /* slices */
    size_t pieces;
    piece  piece[PIECES];
    slot   slot[];
} gather;

static gather *gather_of(const taut__job *job) { return job->work; }
static slot   *slot_of(const taut__job *job, size_t k) { return &gather_of(job)->slot[k % gather_of(job)->slots]; }
static const taut_codec *codec_of(const taut__job *job) { return taut__spec_codec(job->call.spec); }

static void gather_release(taut__job *job)
{
    taut__free(job->work);
    job->work = NULL;
}

/* memory: of a slot; NULL: counts its bytes. */
static size_t lay_out(const taut__job *job, slot *t, void *memory)
{
    const gather *a = gather_of(job);
    size_t        p = (size_t)job->g->size;
    taut__carver      c = {memory, 0};
    t->out = taut__carve(&c, 2 * p, sizeof *t->out);
    t->frame = taut__carve(&c, p, a->frame);
    t->codes = codec_of(job)->caps & TAUT_CAP_INTEGER ? taut__carve(&c, a->sub, sizeof *t->codes) : NULL;
    return c.bytes;
}

static taut_status gather_prepare(taut__job *job)
{
    bool    sliceable = taut__spec_caps(job->call.spec) & TAUT_CAP_SLICEABLE;
    size_t  p = (size_t)job->g->size, n = job->call.tensor->elems, sub = sliceable ? taut__min(n, job->part.sub) : n;
    size_t  slices = taut__ceil_div(n, sub), slots = taut__coded_slots(job, slices);
    gather *a = job->work = taut__alloc(1, sizeof *a + slots * sizeof *a->slot);
    if (!a) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", job->name);
    a->sub = sub, a->slices = slices, a->slots = slots;
    /* rounded, so that frames of one array are aligned */
    a->frame = taut__round_up(taut__frame_capacity(job->call.spec, job->call.tensor, sub), 64);
    taut__slots_need(&job->slots, lay_out(job, a->slot, NULL), 2 * p, slots);
    return taut__comm_scratch(job->comm, sub);
}

static taut_status gather_begin(taut__job *job)
{
    gather_of(job)->encoded = gather_of(job)->finished = 0;
    return TAUT_OK;
}

static taut__range range_of(const taut__job *job, size_t k)
{
    size_t first = k * gather_of(job)->sub;
    return (taut__range){first, taut__min(gather_of(job)->sub, job->call.tensor->elems - first)};
}

static uint8_t *frame_of(const taut__job *job, size_t k, int q) { return slot_of(job, k)->frame + (size_t)q * gather_of(job)->frame; }

/* ---- pieces: run by any thread of the pool ---- */

static void encode(taut__job *job, piece *p, float *scratch)
{
    taut__range r = range_of(job, p->k);
    uint8_t   *dst = frame_of(job, p->k, job->g->rank);
    if (!(codec_of(job)->caps & TAUT_CAP_INTEGER)) {
        taut__encode_x(job, r, dst, gather_of(job)->frame, scratch, &p->done);
        return;
    }
    taut__quantize_pack_x(job, r, slot_of(job, p->k)->codes, INT32_MAX / job->g->size, dst, gather_of(job)->frame, scratch, &p->done);
}

static taut_status received(const taut__job *job, const taut__request *in)
{
    if (in->got <= gather_of(job)->frame) return TAUT_OK;
    return taut__fail(TAUT_E_CORRUPT, "%s: rank %d sent %zu bytes where at most %zu were expected", job->name, in->peer, in->got,
                      gather_of(job)->frame);
}

/* Ranks add in their order. */
static taut_status add_floats(taut__job *job, const piece *p, taut__range r, float *scratch, taut_norm2 *sum)
{
    slot     *t = slot_of(job, p->k);
    taut_call c = taut__slice_call(job, r.first, r.n);
    float    *acc = taut__result_at(job, r.first, scratch);
    for (int q = p->from; q < p->to; q++) {
        const uint8_t *src = frame_of(job, p->k, q);
        size_t         len = q == job->g->rank ? t->bytes : t->in[q].got;
        if (q != job->g->rank) TAUT_TRY(received(job, &t->in[q]));
        TAUT_TRY(q == 0 ? taut__frame_decode(&c, src, len, acc) : taut__frame_decode_add(&c, src, len, acc));
    }
    if (p->to < job->g->size) return TAUT_OK;
    if (job->factor != 1.0f) taut__simd_get()->vec->scale(acc, job->factor, r.n);
    if (sum) *sum = taut__sum_norms(job, acc, r);
    taut__result_store(job, r.first, r.n, acc, sum != NULL);
    return TAUT_OK;
}

/* Mine are in the sum already, and the last frame is added as the sum is stored. */
static taut_status add_codes(taut__job *job, const piece *p, taut__range r, float *scratch, taut_norm2 *sum)
{
    slot     *t = slot_of(job, p->k);
    taut_call c = taut__slice_call(job, r.first, r.n);
    int       me = job->g->rank, last = p->to - 1 - (p->to - 1 == me);
    bool      stores = p->to == job->g->size, stored = false;
    for (int q = p->from; q < p->to; q++) {
        const uint8_t *src = frame_of(job, p->k, q);
        if (q == me) continue;
        TAUT_TRY(received(job, &t->in[q]));
        stored = stores && q == last;
        TAUT_TRY(stored ? taut__store_sums(job, r, src, t->in[q].got, t->codes, scratch, sum)
                        : taut__codes_unpack_add(&c, src, t->in[q].got, t->codes));
    }
    return stores && !stored ? taut__store_codes(job, r, t->codes, scratch, sum) : TAUT_OK;
}

/* 16-bit results are summed in the thread's scratch, so all frames at once. All ranks have the sum: its norm is measured by
 * each for some slices. */
static void add(taut__job *job, piece *p, float *scratch)
{
    taut__range  r = range_of(job, p->k);
    double      begin = taut__now();
    taut_norm2 *sum = p->k % (size_t)job->g->size == (size_t)job->g->rank ? &p->done.sum : NULL;
    bool        codes = slot_of(job, p->k)->codes != NULL;
    p->done.status = codes ? add_codes(job, p, r, scratch, sum) : add_floats(job, p, r, scratch, sum);
    if (p->to < job->g->size) taut__debug_wrote(job->layer, r.first, r.n); /* so far */
    p->done.decode_s = taut__now() - begin;
}

static void run_piece(void *ctx, size_t i, int worker)
{
    taut__job *job = ctx;
    piece    *p = &gather_of(job)->piece[i];
    if (p->adds) add(job, p, job->comm->scratch[worker]);
    else encode(job, p, job->comm->scratch[worker]);
    taut__piece_end(&p->done);
}

/* ---- choosing pieces ---- */

static bool room_for_piece(const taut__job *job)
{
    return gather_of(job)->pieces < taut__min(PIECES, (size_t)taut__executor_threads(job->comm->pool));
}

/* Memory for slice k; false: none is left now. */
static bool open_slot(taut__job *job, size_t k)
{
    slot  *t = slot_of(job, k);
    size_t p = (size_t)job->g->size;
    void  *memory = taut__slots_take(&job->slots, lay_out(job, t, NULL), 2 * p);
    if (!memory) return false;
    lay_out(job, t, memory);
    taut__requests_init(t->out, 2 * p);
    t->in = t->out + p;
    return true;
}

static void close_slot(taut__job *job, size_t k)
{
    slot *t = slot_of(job, k);
    taut__slots_give(&job->slots, t->out); /* a slot begins with them */
    t->out = NULL;
}

static taut_status choose_encodes(taut__job *job)
{
    gather *a = gather_of(job);
    for (; a->encoded < a->slices && a->encoded < a->finished + a->slots && room_for_piece(job); a->encoded++) {
        if (!open_slot(job, a->encoded)) return TAUT_OK;
        slot *t = slot_of(job, a->encoded);
        for (int q = 0; q < job->g->size; q++)
            if (q != job->g->rank)
                TAUT_TRY(taut__irecv(job->g, &t->in[q], q, job->tag + TAUT_TAG_FIRST, frame_of(job, a->encoded, q), a->frame));
        t->added = 0;
        a->piece[a->pieces++] = (piece){.k = a->encoded};
    }
    return TAUT_OK;
}

/* `encoded`: of slices whose own frame is complete. */
static void choose_adds(taut__job *job, size_t encoded)
{
    gather *a = gather_of(job);
    bool    together = job->layer->dtype != TAUT_F32 && !(codec_of(job)->caps & TAUT_CAP_INTEGER);
    for (size_t k = a->finished; k < encoded && room_for_piece(job); k++) {
        slot *t = slot_of(job, k);
        int   to = t->added;
        while (to < job->g->size && taut__done(&t->in[to])) to++; /* mine is always done */
        if (to == t->added || (together && to < job->g->size)) continue;
        a->piece[a->pieces++] = (piece){.k = k, .adds = true, .from = t->added, .to = to};
        t->added = to;
    }
}

/* ---- after the work ---- */

static taut_status send_frame(taut__job *job, const piece *p)
{
    slot  *t = slot_of(job, p->k);
    size_t n = range_of(job, p->k).n;
    t->bytes = p->done.bytes;
    t->sent_s = taut__now();
    job->record.payload_bytes += t->bytes;
    job->record.encoded += n;
    for (int i = 1; i < job->g->size; i++) {
        int q = (job->g->rank + i) % job->g->size; /* every rank begins with another one, so that none is flooded */
        TAUT_TRY(taut__isend(job->g, &t->out[q], q, job->tag + TAUT_TAG_FIRST, frame_of(job, p->k, job->g->rank), t->bytes));
        job->record.bytes_sent += t->bytes;
        job->record.bytes_dense += n * (job->layer->dtype == TAUT_F32 ? 4 : 2);
    }
    return TAUT_OK;
}

static taut_status settle_pieces(taut__job *job)
{
    gather *a = gather_of(job);
    for (size_t i = 0; i < a->pieces; i++) {
        piece *p = &a->piece[i];
        TAUT_TRY(taut__piece_status(&p->done));
        taut__account(job, &p->done);
        if (!p->adds) {
            TAUT_TRY(send_frame(job, p));
            continue;
        }
        uint64_t bytes = 0;
        for (int q = p->from; q < p->to; q++) bytes += q == job->g->rank ? 0 : slot_of(job, p->k)->in[q].got;
        if (bytes) taut__trace_wire(job, slot_of(job, p->k)->sent_s, &p->done, bytes);
    }
    return TAUT_OK;
}

static taut_status run_pieces(taut__job *job, bool *moved)
{
    gather *a = gather_of(job);
    double  begin = taut__now();
    if (a->pieces == 0) return TAUT_OK;
    *moved = true;
    taut__executor_run(job->comm->pool, run_piece, job, a->pieces);
    taut__trace_span(job->comm->trace, job, a->piece[0].adds ? "decode" : "encode", begin, taut__now(), a->piece[0].done.bytes);
    taut_status status = settle_pieces(job);
    a->pieces = 0;
    return status;
}

static taut_status gather_advance(taut__job *job, bool *moved, bool *done)
{
    gather *a = gather_of(job);
    size_t  encoded = a->encoded, p = (size_t)job->g->size;
    TAUT_TRY(choose_encodes(job));
    choose_adds(job, encoded);
    TAUT_TRY(run_pieces(job, moved));
    for (; a->finished < a->encoded; a->finished++) {
        slot *t = slot_of(job, a->finished);
        if (t->added < job->g->size || !taut__all_done(t->out, p)) break;
        close_slot(job, a->finished);
        *moved = true;
    }
    *done = a->finished == a->slices;
    return TAUT_OK;
}

static int gather_waiting_for(const taut__job *job, int *hops)
{
    (void)hops; /* frames come straight from their ranks */
    gather *a = gather_of(job);
    for (size_t i = 0; i < a->slots; i++)
        for (size_t q = 0; a->slot[i].out && q < 2 * (size_t)job->g->size; q++)
            if (!taut__done(&a->slot[i].out[q])) return a->slot[i].out[q].peer;
    return -1;
}

static void gather_cancel(taut__job *job)
{
    gather *a = gather_of(job);
    for (size_t i = 0; a && i < a->slots; i++)
        for (size_t q = 0; a->slot[i].out && q < 2 * (size_t)job->g->size; q++)
            job->g->t->ops->cancel(job->g->t, &a->slot[i].out[q]);
}

const taut__algorithm taut__gather = {
    .name = "gather", .help = "everybody's whole encoding to everybody: 1 step, p-1 times the encoded bytes per rank",
    .prepare = gather_prepare, .begin = gather_begin, .advance = gather_advance, .waiting_for = gather_waiting_for,
    .cancel = gather_cancel, .release = gather_release,
};
