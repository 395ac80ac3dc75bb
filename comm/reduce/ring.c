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
#include "pipeline.h"
#include "placed.h"

typedef struct slot {
    taut__request *in, *out, *pass;         /* two of each; NULL: no slice has the slot */
    uint8_t       *arrived[2], *partial[2]; /* frames */
    int            step;                    /* what is processed next */
    double         sent_s;                  /* when this rank last sent a frame of the slice */
} slot;

/* Pieces; from: the step of the frame that it makes, or decodes. done.bytes: of that frame, 0: none was made. */
enum { OPEN, ADD, DECODE };
static const char *const name[] = {[OPEN] = "encode", [ADD] = "reduce", [DECODE] = "decode"};
enum { REQUESTS = 6 };

static slot *slot_of(const taut__reduction *red, size_t k) { return taut__pipeline_slot(red, k); }
static int   steps_of(const taut__reduction *red) { return red->g->size - 1; } /* of each half */
static int   first_step(const taut__reduction *red) { return red->halves & TAUT_REDUCE ? 0 : steps_of(red); }
static int   last_step(const taut__reduction *red) { return steps_of(red) * (red->halves & TAUT_GATHER ? 2 : 1); }

/* The part that arrives in a step. */
static int part_in(const taut__reduction *red, int step)
{
    int p = red->g->size, gather = step - steps_of(red);
    return gather < 0 ? taut__ring_recv(red->g->rank, step, p) : taut__mod(red->g->rank - 1 - gather, p);
}

static size_t requests(const taut__reduction *red) { return (void)red, REQUESTS; }

static size_t lay_out(const taut__reduction *red, void *dst, void *memory)
{
    slot        *t = dst;
    taut__carver c = {memory, 0};
    t->in = taut__carve(&c, REQUESTS, sizeof *t->in);
    t->out = t->in ? t->in + 2 : NULL, t->pass = t->in ? t->in + 4 : NULL;
    for (int i = 0; i < 2; i++) {
        t->arrived[i] = taut__carve(&c, 1, taut__pipeline_of(red)->frame);
        t->partial[i] = taut__carve(&c, 1, taut__pipeline_of(red)->frame);
    }
    return c.bytes;
}

/* ---- messages: of a slice, with a tag of its own ---- */

static int tag_of(size_t k) { return TAUT_TAG_RING + (int)(k % TAUT_RING_TAGS); }

static taut_status receive(taut__reduction *red, size_t k, int step)
{
    slot *t = slot_of(red, k);
    int   from = taut__mod(red->g->rank - 1, red->g->size);
    if (step >= last_step(red) || taut__sub(&red->part, part_in(red, step), k).n == 0) return TAUT_OK;
    return taut__irecv(red->g, &t->in[step % 2], from, red->job.tag + tag_of(k), t->arrived[step % 2],
                       taut__pipeline_of(red)->frame);
}

static taut_status pass_on(taut__reduction *red, size_t k, taut__request *r, const uint8_t *frame, size_t bytes,
                           size_t n)
{
    slot_of(red, k)->sent_s = taut__now();
    return taut__frame_send(red, r, (red->g->rank + 1) % red->g->size, tag_of(k), frame, bytes, n);
}

/* ---- pieces: run by any thread of the executor ---- */

static taut__range range_of_piece(const taut__reduction *red, const taut__piece *p)
{
    int part = p->what == OPEN ? (p->from == 0 ? taut__ring_send(red->g->rank, 0, red->g->size) : red->g->rank)
                               : part_in(red, p->what == ADD ? p->from - 1 : p->from);
    return taut__sub(&red->part, part, p->k);
}

/* The sum of my part is in acc: encode it once, or, for a reduce-scatter, keep it. */
static taut_status finish_sum(taut__reduction *red, slot *t, taut__range r, taut__piece *p, float *scratch)
{
    void    *acc = taut__acc(red, scratch);
    uint8_t *frame = t->partial[p->from % 2];
    bool     codes = taut__adds_codes(red);
    if (!codes && red->halves & TAUT_REDUCE) taut__finish_floats(red, r, acc, &p->done);
    p->done.bytes = 0;
    if (!(red->halves & TAUT_GATHER)) return codes ? taut__store_codes(red, r, acc, scratch, &p->done.sum) : TAUT_OK;
    p->sums = true;
    TAUT_TRY(taut__encode_sum(red, r, acc, (uint64_t)p->from + 1, red->factor, frame, &p->done.bytes,
                              &p->done.requantization_error, scratch));
    return taut__store_sum(red, r, frame, p->done.bytes, scratch, &p->done.sum);
}

static taut_status own(taut__reduction *red, taut__range r, uint8_t *frame, taut__piece *p, float *scratch)
{
    return taut__own_contribution(red, r, taut__sums_exact(red) ? frame : NULL, scratch, taut__acc(red, scratch),
                                  &p->done);
}

/* My x of the part that leaves first; or, for an allgather, my part. */
static taut_status open_slice(taut__reduction *red, slot *t, taut__range r, taut__piece *p, float *scratch)
{
    uint8_t *frame = t->partial[p->from % 2];
    if (p->from == 0 && !taut__adds_codes(red)) {
        taut__encode_x(red, r, frame, taut__pipeline_of(red)->frame, scratch, &p->done);
        return p->done.status;
    }
    TAUT_TRY(own(red, r, frame, p, scratch));
    if (p->from > 0) return finish_sum(red, t, r, p, scratch);
    return taut__placed_make(
        red, TAUT_OP_PACK, &(taut_piece){.call = taut__slice_call(red, r.first, r.n), .codes = taut__acc(red, scratch)},
        frame, taut__pipeline_of(red)->frame, &p->done.bytes, scratch);
}

/* What arrived plus my x: a partial sum, or the sum. */
static taut_status add_own(taut__reduction *red, slot *t, taut__range r, taut__piece *p, float *scratch)
{
    taut_norm2 lost = {0, 0};
    void      *acc = taut__acc(red, scratch);
    uint8_t   *frame = t->partial[p->from % 2];
    int        came = (p->from - 1) % 2;
    TAUT_TRY(own(red, r, frame, p, scratch));
    TAUT_TRY(taut__add_frame(red, r, &t->in[came], t->arrived[came], acc, scratch));
    if (p->from == steps_of(red)) return finish_sum(red, t, r, p, scratch);
    TAUT_TRY(taut__encode_sum(red, r, acc, (uint64_t)p->from + 1, 1, frame, &p->done.bytes, &lost, scratch));
    taut__add_norm(&p->done.error, lost, 1);
    return TAUT_OK;
}

static void work(taut__reduction *red, taut__piece *p, float *scratch)
{
    slot       *t = slot_of(red, p->k);
    taut__range r = range_of_piece(red, p);
    double      begin = taut__now();
    switch (p->what) {
    case OPEN: p->done.status = open_slice(red, t, r, p, scratch); break;
    case ADD: p->done.status = add_own(red, t, r, p, scratch); break;
    case DECODE:
        p->done.status = taut__store_sum(red, r, t->arrived[p->from % 2], t->in[p->from % 2].got, scratch, NULL);
        break;
    }
    double seconds = taut__now() - begin;
    p->done.seconds = p->what == DECODE ? 0 : seconds;
    p->done.decode_s = p->what == DECODE ? seconds : 0;
}

static taut_status settle(taut__reduction *red, const taut__piece *p)
{
    slot  *t = slot_of(red, p->k);
    size_t n = range_of_piece(red, p).n;
    if (p->what == DECODE || p->done.bytes == 0) return TAUT_OK;
    if (p->sums) {
        red->record.sum_bytes += p->done.bytes;
    } else {
        red->record.payload_bytes += p->done.bytes;
        red->record.encoded += n;
    }
    return pass_on(red, p->k, &t->out[p->from % 2], t->partial[p->from % 2], p->done.bytes, n);
}

/* ---- choosing pieces ---- */

static taut_status choose_opens(taut__reduction *red)
{
    taut__pipeline *a = taut__pipeline_of(red);
    for (; a->encoded < red->part.slices && a->encoded < a->finished + a->slots && taut__pipeline_room(red);
         a->encoded++) {
        taut__piece p = {.what = OPEN, .k = a->encoded, .from = first_step(red)};
        if (!taut__pipeline_open(red, p.k)) return TAUT_OK;
        slot *t = slot_of(red, p.k);
        t->step = p.from;
        t->sent_s = taut__now();
        TAUT_TRY(receive(red, p.k, p.from));
        if (range_of_piece(red, &p).n > 0) taut__pipeline_add(red, p);
    }
    return TAUT_OK;
}

/* The frame of the step in hand has arrived. A finished sum goes on to the next neighbour at once. */
static taut_status choose_arrived(taut__reduction *red, size_t k)
{
    slot                *t = slot_of(red, k);
    int                  step = t->step++;
    bool                 sum = step >= steps_of(red);
    taut__piece          p = {.what = sum ? DECODE : ADD, .k = k, .from = step + !sum};
    const taut__request *in = &t->in[step % 2];
    size_t               n = range_of_piece(red, &p).n;
    TAUT_TRY(receive(red, k, step + 1));
    if (n == 0) return TAUT_OK;
    TAUT_TRY(taut__frame_fits(red, in));
    taut__trace_span(red->ctx->trace, &red->job, "wire", t->sent_s, taut__now(), in->got);
    taut__pipeline_add(red, p);
    if (!sum || step + 1 == last_step(red)) return TAUT_OK;
    return pass_on(red, k, &t->pass[step % 2], t->arrived[step % 2], in->got, n);
}

/* Everything that processing the next step will overwrite has left. */
static bool ready(const taut__reduction *red, const slot *t)
{
    int next = (t->step + 1) % 2;
    return t->step < last_step(red) && taut__done(&t->in[t->step % 2]) && taut__done(&t->out[next]) &&
           taut__done(&t->pass[next]);
}

/* opened: slices whose first frame has been made */
static taut_status choose_ready(taut__reduction *red, size_t opened, bool *moved)
{
    for (size_t k = taut__pipeline_of(red)->finished; k < opened && taut__pipeline_room(red); k++) {
        if (!ready(red, slot_of(red, k))) continue;
        *moved = true;
        TAUT_TRY(choose_arrived(red, k));
    }
    return TAUT_OK;
}

/* ---- the algorithm ---- */

static taut_status choose(taut__reduction *red, bool *moved)
{
    taut__pipeline *a = taut__pipeline_of(red);
    size_t          opened = a->encoded;
    TAUT_TRY(choose_opens(red));
    TAUT_TRY(choose_ready(red, opened, moved));
    *moved |= a->encoded > opened;
    return TAUT_OK;
}

static bool over(const taut__reduction *red, size_t k)
{
    const slot *t = slot_of(red, k);
    return t->step == last_step(red) && taut__all_done(t->in, REQUESTS);
}

static const taut__pipeline_ops ops = {.slot_bytes = sizeof(slot),
                                       .name = name,
                                       .requests = requests,
                                       .lay_out = lay_out,
                                       .work = work,
                                       .choose = choose,
                                       .settle = settle,
                                       .over = over};

static taut_status ring_prepare(taut__reduction *red)
{
    return taut__pipeline_prepare(red, &ops, sizeof(taut__pipeline), red->part.slices, red->part.sub, TAUT_RING_TAGS);
}

/* What arrives in step k has come through k other ranks. */
static int ring_waiting_for(const taut__reduction *red, int *hops)
{
    const taut__pipeline *a = taut__pipeline_of(red);
    if (a->finished < a->encoded) *hops += slot_of(red, a->finished)->step;
    return taut__member(red->g, taut__mod(red->g->rank - 1, red->g->size));
}

const taut__algorithm taut__ring = {
    .name = "ring",
    .help = "partial sums to the next neighbour: 2(p-1) steps, 2(p-1)/p of the encoded bytes per rank",
    .cannot = taut__pipeline_cannot,
    .prepare = ring_prepare,
    .begin = taut__pipeline_begin,
    .advance = taut__pipeline_advance,
    .waiting_for = ring_waiting_for,
    .cancel = taut__pipeline_cancel,
    .release = taut__pipeline_release,
};
