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
#include "pipeline.h"
#include "placed.h"

typedef struct slot {
    taut__request *out, *in; /* one per rank; NULL: no slice has the slot */
    uint8_t       *frame;    /* p frames; mine is sent to all */
    int32_t       *codes;    /* integer codecs: the sum, which begins as mine */
    size_t         bytes;    /* of my frame */
    int            added;    /* ranks whose frames are in the sum */
    double         sent_s;   /* when mine was sent */
} slot;

enum { ENCODE, ADD }; /* pieces; from, to: ranks to add */
static const char *const name[] = {[ENCODE] = "encode", [ADD] = "decode"};

typedef struct gather {
    taut__pipeline pipe;
    size_t         sub;
    int32_t       *there; /* outside the host, where slots are not: the codes of all of them */
} gather;

static gather *gather_of(const taut__reduction *red) { return red->work; }
static slot   *slot_of(const taut__reduction *red, size_t k) { return taut__pipeline_slot(red, k); }
static bool    codes(const taut__reduction *red) { return taut__codec_of(red)->caps & TAUT_CAP_INTEGER; }

static size_t requests(const taut__reduction *red) { return 2 * (size_t)red->g->size; }

/* A codec that codes whole tensors has one slice. */
static size_t slice_elems(const taut__reduction *red)
{
    return taut__spec_caps(red->call.spec) & TAUT_CAP_SLICEABLE ? taut__min(red->call.n, red->part.sub) : red->call.n;
}

static size_t lay_out(const taut__reduction *red, void *dst, void *memory)
{
    slot        *t = dst;
    size_t       p = (size_t)red->g->size;
    taut__carver c = {memory, 0};
    t->out = taut__carve(&c, 2 * p, sizeof *t->out);
    t->in = t->out ? t->out + p : NULL;
    t->frame = taut__carve(&c, p, gather_of(red)->pipe.frame);
    t->codes = codes(red) ? taut__carve(&c, slice_elems(red), sizeof *t->codes)
                          : NULL; /* wherever: ranks cut sums by the slot's size */
    if (gather_of(red)->there)
        t->codes = gather_of(red)->there + (size_t)(t - (slot *)(void *)gather_of(red)->pipe.slot) * slice_elems(red);
    return c.bytes;
}

static taut__range range_of(const taut__reduction *red, size_t k)
{
    size_t first = k * gather_of(red)->sub;
    return (taut__range){first, taut__min(gather_of(red)->sub, red->call.tensor->elems - first)};
}

static uint8_t *frame_of(const taut__reduction *red, size_t k, int q)
{
    return slot_of(red, k)->frame + (size_t)q * gather_of(red)->pipe.frame;
}

/* ---- pieces: run by any thread of the executor ---- */

static void encode(taut__reduction *red, taut__piece *p, float *scratch)
{
    taut__range r = range_of(red, p->k);
    uint8_t    *dst = frame_of(red, p->k, red->g->rank);
    size_t      room = gather_of(red)->pipe.frame;
    if (codes(red))
        taut__quantize_pack_x(red, r, slot_of(red, p->k)->codes, taut__code_limit(red), dst, room, scratch, &p->done);
    else taut__encode_x(red, r, dst, room, scratch, &p->done);
}

/* Ranks add in their order. */
static taut_status add_floats(taut__reduction *red, const taut__piece *p, taut__range r, float *scratch,
                              taut_norm2 *sum)
{
    slot     *t = slot_of(red, p->k);
    taut_call c = taut__slice_call(red, r.first, r.n);
    float    *acc = taut__result_at(red, r.first, scratch);
    for (int q = p->from; q < p->to; q++) {
        const uint8_t *src = frame_of(red, p->k, q);
        size_t         len = q == red->g->rank ? t->bytes : t->in[q].got;
        if (q != red->g->rank) TAUT_TRY(taut__frame_fits(red, &t->in[q]));
        TAUT_TRY(taut__placed_take(red, q > 0 ? TAUT_OP_DECODE_ADD : TAUT_OP_DECODE,
                                   &(taut_piece){.call = c, .dst = acc}, src, len, scratch));
    }
    if (p->to < red->g->size) return TAUT_OK;
    taut__store_scaled(red, r, acc, sum);
    return TAUT_OK;
}

/* Mine are in the sum already, and the last frame is added as the sum is stored. */
static taut_status add_codes(taut__reduction *red, const taut__piece *p, taut__range r, float *scratch, taut_norm2 *sum)
{
    slot     *t = slot_of(red, p->k);
    taut_call c = taut__slice_call(red, r.first, r.n);
    int       me = red->g->rank, last = p->to - 1 - (p->to - 1 == me);
    bool      stores = p->to == red->g->size, stored = false;
    for (int q = p->from; q < p->to; q++) {
        const uint8_t *src = frame_of(red, p->k, q);
        if (q == me) continue;
        TAUT_TRY(taut__frame_fits(red, &t->in[q]));
        stored = stores && q == last;
        TAUT_TRY(stored ? taut__store_sums(red, r, src, t->in[q].got, t->codes, scratch, sum)
                        : taut__placed_take(red, TAUT_OP_UNPACK_ADD, &(taut_piece){.call = c, .codes = t->codes}, src,
                                            t->in[q].got, scratch));
    }
    return stores && !stored ? taut__store_codes(red, r, t->codes, scratch, sum) : TAUT_OK;
}

/* 16-bit results are summed in the thread's scratch, so all frames at once. All ranks have the sum: its norm is measured by
 * each for some slices. */
static void add(taut__reduction *red, taut__piece *p, float *scratch)
{
    taut__range r = range_of(red, p->k);
    double      begin = taut__now();
    taut_norm2 *sum = p->k % (size_t)red->g->size == (size_t)red->g->rank ? &p->done.sum : NULL;
    p->done.status = codes(red) ? add_codes(red, p, r, scratch, sum) : add_floats(red, p, r, scratch, sum);
    if (p->to < red->g->size) red->watcher->stored(red, r.first, r.n); /* so far */
    p->done.decode_s = taut__now() - begin;
}

static void work(taut__reduction *red, taut__piece *p, float *scratch)
{
    if (p->what == ADD) add(red, p, scratch);
    else encode(red, p, scratch);
}

/* ---- after the work ---- */

static taut_status send_frame(taut__reduction *red, const taut__piece *p)
{
    slot  *t = slot_of(red, p->k);
    size_t n = range_of(red, p->k).n;
    t->bytes = p->done.bytes;
    t->sent_s = taut__now();
    red->record.payload_bytes += t->bytes;
    red->record.encoded += n;
    for (int i = 1; i < red->g->size; i++) {
        int q = (red->g->rank + i) % red->g->size; /* every rank begins with another one, so that none is flooded */
        TAUT_TRY(taut__frame_send(red, &t->out[q], q, TAUT_TAG_FIRST, frame_of(red, p->k, red->g->rank), t->bytes, n));
    }
    return TAUT_OK;
}

static taut_status settle(taut__reduction *red, const taut__piece *p)
{
    uint64_t bytes = 0;
    if (p->what == ENCODE) return send_frame(red, p);
    for (int q = p->from; q < p->to; q++) bytes += q == red->g->rank ? 0 : slot_of(red, p->k)->in[q].got;
    if (bytes) taut__trace_wire(red, slot_of(red, p->k)->sent_s, &p->done, bytes);
    return TAUT_OK;
}

/* ---- choosing pieces ---- */

static taut_status choose_encodes(taut__reduction *red)
{
    gather *a = gather_of(red);
    for (; a->pipe.encoded < a->pipe.slices && a->pipe.encoded < a->pipe.finished + a->pipe.slots &&
           taut__pipeline_room(red);
         a->pipe.encoded++) {
        if (!taut__pipeline_open(red, a->pipe.encoded)) return TAUT_OK;
        slot *t = slot_of(red, a->pipe.encoded);
        for (int q = 0; q < red->g->size; q++)
            if (q != red->g->rank)
                TAUT_TRY(taut__irecv(red->g, &t->in[q], q, red->job.tag + TAUT_TAG_FIRST,
                                     frame_of(red, a->pipe.encoded, q), a->pipe.frame));
        t->added = 0;
        taut__pipeline_add(red, (taut__piece){.what = ENCODE, .k = a->pipe.encoded});
    }
    return TAUT_OK;
}

/* `encoded`: of slices whose own frame is complete. */
static void choose_adds(taut__reduction *red, size_t encoded)
{
    bool together = red->operand->dtype != TAUT_F32 && !codes(red);
    for (size_t k = taut__pipeline_of(red)->finished; k < encoded && taut__pipeline_room(red); k++) {
        slot *t = slot_of(red, k);
        int   to = t->added;
        while (to < red->g->size && taut__done(&t->in[to])) to++; /* mine is always done */
        if (to == t->added || (together && to < red->g->size)) continue;
        taut__pipeline_add(red, (taut__piece){.what = ADD, .k = k, .from = t->added, .to = to});
        t->added = to;
    }
}

/* ---- the algorithm ---- */

static taut_status choose(taut__reduction *red, bool *moved)
{
    size_t encoded = taut__pipeline_of(red)->encoded;
    (void)moved;
    TAUT_TRY(choose_encodes(red));
    choose_adds(red, encoded);
    return TAUT_OK;
}

static bool over(const taut__reduction *red, size_t k)
{
    const slot *t = slot_of(red, k);
    return t->added == red->g->size && taut__all_done(t->out, (size_t)red->g->size);
}

static const taut__pipeline_ops ops = {.slot_bytes = sizeof(slot),
                                       .name = name,
                                       .requests = requests,
                                       .lay_out = lay_out,
                                       .work = work,
                                       .choose = choose,
                                       .settle = settle,
                                       .over = over};

static taut_status gather_prepare(taut__reduction *red)
{
    size_t sub = slice_elems(red), slices = taut__ceil_div(red->call.n, sub);
    TAUT_TRY(taut__pipeline_prepare(red, &ops, sizeof(gather), slices, sub, SIZE_MAX));
    gather_of(red)->sub = sub;
    if (taut__at_home(red) || !codes(red)) return TAUT_OK;
    return taut__placed_alloc(red, gather_of(red)->pipe.slots * sub * sizeof(int32_t), "codes", &gather_of(red)->there);
}

static void gather_release(taut__reduction *red)
{
    taut__placed_release(red, gather_of(red)->there);
    taut__pipeline_release(red);
}

/* Frames come straight from their ranks. */
static int gather_waiting_for(const taut__reduction *red, int *hops)
{
    (void)hops;
    return taut__pipeline_waiting(red, 0, requests(red));
}

const taut__algorithm taut__gather = {
    .name = "gather",
    .help = "everybody's whole encoding to everybody: 1 step, p-1 times the encoded bytes per rank",
    .prepare = gather_prepare,
    .begin = taut__pipeline_begin,
    .advance = taut__pipeline_advance,
    .waiting_for = gather_waiting_for,
    .cancel = taut__pipeline_cancel,
    .release = gather_release,
};
