/* sra.c : scatter-reduce-allgather. Every rank sends each owner its part, encoded; the owner adds what arrives
 * in order of rank to its own (unquantized, unless the codec is sparse), encodes the sum once and sends it to all, who decode
 * the same bytes, the owner included. 2(p-1) messages and 2(p-1)/p of the encoded bytes per rank. With an integer codec the owner adds
 * codes, its own among them, and packs the sum without loss.
 *
 * Slice k passes through: encoded (contributions leave one by one, receives are posted before the first), reduced
 * (all arrived, sum sent), posted (receives of the sums, into the memory of contributions that have left), decoded,
 * finished. `encoded`, `reduced`, `posted` and `finished` move in order of k, because messages of one sender and tag
 * are matched in the order of sending; decoding takes what is there. Pieces of several slices may run in parallel. A slice
 * has a slot from encoding to the end; while there is none for the next slice, those under way go on. */
#include "pipeline.h"
#include <string.h>

typedef struct slot {
    taut__request *out1, *in1, *out2, *in2; /* one per rank; NULL: no slice has the slot */
    uint8_t       *out; /* p-1 frames: contributions to their owners; later the sums of other owners */
    uint8_t       *in;  /* p-1 frames: contributions to my part */
    uint8_t       *sum; /* one frame; where `in` lay, unless it serves before those have been added */
    size_t         sum_bytes;
    bool          *decoded;   /* p */
    bool           summed;    /* sum is complete */
    double         sent_s[2]; /* when the last contribution, and the sum, were sent */
} slot;

enum { ENCODE, REDUCE, DECODE }; /* pieces; from: the part */
static const char *const name[] = {[ENCODE] = "encode", [REDUCE] = "reduce", [DECODE] = "decode"};

typedef struct sra {
    taut__pipeline pipe;
    size_t         reduced, posted; /* slices */
    int            next;            /* contribution of slice pipe.encoded to encode, 1..p-1 */
} sra;

static sra        *sra_of(const taut__reduction *red) { return red->work; }
static slot       *slot_of(const taut__reduction *red, size_t k) { return taut__pipeline_slot(red, k); }
static taut__range mine(const taut__reduction *red, size_t k) { return taut__sub(&red->part, red->g->rank, k); }

/* Of an array of frames of all ranks but this one. */
static uint8_t *frame_of(const taut__reduction *red, uint8_t *frames, int q)
{
    return frames + (size_t)(q - (q > red->g->rank)) * sra_of(red)->pipe.frame;
}

static size_t requests(const taut__reduction *red) { return 4 * (size_t)red->g->size; }

static size_t lay_out(const taut__reduction *red, void *dst, void *memory)
{
    slot        *t = dst;
    size_t       p = (size_t)red->g->size, frame = sra_of(red)->pipe.frame;
    taut__carver c = {memory, 0};
    t->out1 = taut__carve(&c, 4 * p, sizeof *t->out1);
    t->in1 = t->out1 ? t->out1 + p : NULL, t->out2 = t->out1 ? t->out1 + 2 * p : NULL,
    t->in2 = t->out1 ? t->out1 + 3 * p : NULL;
    t->decoded = taut__carve(&c, p, sizeof *t->decoded);
    t->out = taut__carve(&c, p - 1, frame);
    t->in = taut__carve(&c, p - 1, frame);
    t->sum = taut__spec_caps(red->call.spec) & TAUT_CAP_SPARSE ? taut__carve(&c, 1, frame) : t->in;
    return c.bytes;
}

/* ---- pieces: run by any thread of the executor ---- */

static taut_status reduce(taut__reduction *red, taut__piece *p, float *scratch)
{
    slot       *t = slot_of(red, p->k);
    taut__range r = mine(red, p->k);
    float      *acc = taut__acc(red, scratch);
    bool        codes = taut__adds_codes(red), sparse = taut__spec_caps(red->call.spec) & TAUT_CAP_SPARSE;
    TAUT_TRY(taut__own_contribution(red, r, sparse ? t->sum : NULL, scratch, acc, &p->done));
    double begin = taut__now();
    for (int q = 0; q < red->g->size && red->halves & TAUT_REDUCE; q++)
        if (q != red->g->rank) TAUT_TRY(taut__add_frame(red, r, &t->in1[q], frame_of(red, t->in, q), acc, scratch));
    if (!codes && red->halves & TAUT_REDUCE) taut__finish_floats(red, r, acc, &p->done);
    p->done.decode_s += taut__now() - begin;
    if (red->halves & TAUT_GATHER)
        return taut__encode_sum(red, r, acc, 1, red->factor, t->sum, &t->sum_bytes, &p->done.requantization_error,
                                scratch);
    return codes ? taut__store_codes(red, r, (int32_t *)(void *)acc, scratch, &p->done.sum) : TAUT_OK;
}

/* The owner's own frame also tells the norm of the result. */
static taut_status decode(taut__reduction *red, taut__piece *p, float *scratch)
{
    slot       *t = slot_of(red, p->k);
    taut__range r = taut__sub(&red->part, p->from, p->k);
    if (p->from == red->g->rank) return taut__store_sum(red, r, t->sum, t->sum_bytes, scratch, &p->done.sum);
    TAUT_TRY(taut__frame_fits(red, &t->in2[p->from]));
    return taut__store_sum(red, r, frame_of(red, t->out, p->from), t->in2[p->from].got, scratch, NULL);
}

static void work(taut__reduction *red, taut__piece *p, float *scratch)
{
    slot  *t = slot_of(red, p->k);
    double begin = taut__now();
    switch (p->what) {
    case ENCODE:
        taut__encode_x(red, taut__sub(&red->part, p->from, p->k), frame_of(red, t->out, p->from),
                       sra_of(red)->pipe.frame, scratch, &p->done);
        break;
    case REDUCE:
        p->done.status = reduce(red, p, scratch);
        p->done.bytes = t->sum_bytes;
        p->done.seconds = taut__now() - begin - p->done.decode_s;
        break;
    case DECODE:
        p->done.status = decode(red, p, scratch);
        p->done.decode_s = taut__now() - begin;
        break;
    }
}

/* ---- after the work ---- */

static taut_status send_contribution(taut__reduction *red, const taut__piece *p)
{
    slot  *t = slot_of(red, p->k);
    size_t n = taut__sub(&red->part, p->from, p->k).n;
    t->sent_s[0] = taut__now();
    red->record.payload_bytes += p->done.bytes;
    red->record.encoded += n;
    return taut__frame_send(red, &t->out1[p->from], p->from, TAUT_TAG_FIRST, frame_of(red, t->out, p->from),
                            p->done.bytes, n);
}

static taut_status send_sum(taut__reduction *red, const taut__piece *p)
{
    slot *t = slot_of(red, p->k);
    t->summed = true;
    t->sent_s[1] = taut__now();
    if (!(red->halves & TAUT_GATHER)) return TAUT_OK;
    red->record.sum_bytes += t->sum_bytes;
    for (int i = 1; i < red->g->size; i++) {
        int q = (red->g->rank + i) % red->g->size;
        TAUT_TRY(taut__frame_send(red, &t->out2[q], q, TAUT_TAG_SECOND, t->sum, t->sum_bytes, mine(red, p->k).n));
    }
    return TAUT_OK;
}

static void trace_wire(taut__reduction *red, const taut__piece *p)
{
    const slot *t = slot_of(red, p->k);
    bool        decodes = p->what == DECODE;
    uint64_t    bytes = 0;
    if (p->what == ENCODE || (decodes && p->from == red->g->rank)) return;
    for (int q = 0; q < red->g->size && !decodes; q++) bytes += q == red->g->rank ? 0 : t->in1[q].got;
    taut__trace_wire(red, t->sent_s[decodes], &p->done, decodes ? t->in2[p->from].got : bytes);
}

static taut_status settle(taut__reduction *red, const taut__piece *p)
{
    trace_wire(red, p);
    return p->what == ENCODE ? send_contribution(red, p) : p->what == REDUCE ? send_sum(red, p) : TAUT_OK;
}

/* ---- choosing pieces ---- */

static taut_status open_slice(taut__reduction *red, size_t k)
{
    slot *t = slot_of(red, k);
    memset(t->decoded, 0, (size_t)red->g->size * sizeof *t->decoded);
    t->summed = false;
    t->sent_s[0] = t->sent_s[1] = taut__now();
    for (int q = 0; q < red->g->size && mine(red, k).n > 0 && red->halves & TAUT_REDUCE; q++)
        if (q != red->g->rank)
            TAUT_TRY(taut__irecv(red->g, &t->in1[q], q, red->job.tag + TAUT_TAG_FIRST, frame_of(red, t->in, q),
                                 sra_of(red)->pipe.frame));
    return TAUT_OK;
}

/* Every rank begins with another owner, so that no owner is flooded. */
static taut_status choose_encodes(taut__reduction *red)
{
    sra *s = sra_of(red);
    while (s->pipe.encoded < red->part.slices && s->pipe.encoded < s->pipe.finished + s->pipe.slots) {
        if (s->next == 0 && !taut__pipeline_open(red, s->pipe.encoded)) return TAUT_OK;
        if (s->next == 0) TAUT_TRY(open_slice(red, s->pipe.encoded));
        if (s->next == 0) s->next = 1;
        for (; s->next < red->g->size && red->halves & TAUT_REDUCE; s->next++) {
            int q = (red->g->rank + s->next) % red->g->size;
            if (taut__sub(&red->part, q, s->pipe.encoded).n == 0) continue;
            if (!taut__pipeline_room(red)) return TAUT_OK;
            taut__pipeline_add(red, (taut__piece){.what = ENCODE, .k = s->pipe.encoded, .from = q});
        }
        s->next = 0;
        s->pipe.encoded++;
    }
    return TAUT_OK;
}

static bool arrived(const taut__reduction *red, size_t k)
{
    return taut__all_done(slot_of(red, k)->in1, (size_t)red->g->size);
}

/* A slice that has been opened may be reduced: its contributions to others need not have been encoded. */
static void choose_reductions(taut__reduction *red)
{
    sra   *s = sra_of(red);
    size_t opened = s->pipe.encoded + (s->next > 0);
    for (; s->reduced < opened && arrived(red, s->reduced); s->reduced++) {
        if (mine(red, s->reduced).n == 0) continue;
        if (!taut__pipeline_room(red)) return;
        taut__pipeline_add(red, (taut__piece){.what = REDUCE, .k = s->reduced, .from = red->g->rank});
    }
}

static bool here(const taut__reduction *red, size_t k, int q)
{
    return q == red->g->rank ? slot_of(red, k)->summed
                             : k < sra_of(red)->posted && taut__done(&slot_of(red, k)->in2[q]);
}

static void choose_decodes(taut__reduction *red)
{
    sra *s = sra_of(red);
    for (size_t k = s->pipe.finished; k < s->pipe.encoded && red->halves & TAUT_GATHER; k++)
        for (int i = 0; i < red->g->size; i++) {
            int   q = (red->g->rank + i) % red->g->size;
            slot *t = slot_of(red, k);
            if (t->decoded[q] || taut__sub(&red->part, q, k).n == 0 || !here(red, k, q)) continue;
            if (!taut__pipeline_room(red)) return;
            taut__pipeline_add(red, (taut__piece){.what = DECODE, .k = k, .from = q});
            t->decoded[q] = true;
        }
}

/* Sums of other owners go where my contributions to them lay, once those have left. */
static taut_status post_sums(taut__reduction *red, bool *moved)
{
    sra *s = sra_of(red);
    while (s->posted < s->pipe.encoded && taut__all_done(slot_of(red, s->posted)->out1, (size_t)red->g->size)) {
        slot *t = slot_of(red, s->posted);
        for (int q = 0; q < red->g->size && red->halves & TAUT_GATHER; q++)
            if (q != red->g->rank && taut__sub(&red->part, q, s->posted).n > 0)
                TAUT_TRY(taut__irecv(red->g, &t->in2[q], q, red->job.tag + TAUT_TAG_SECOND, frame_of(red, t->out, q),
                                     s->pipe.frame));
        s->posted++;
        *moved = true;
    }
    return TAUT_OK;
}

static bool over(const taut__reduction *red, size_t k)
{
    const slot *t = slot_of(red, k);
    size_t      p = (size_t)red->g->size;
    if (k >= sra_of(red)->posted || k >= sra_of(red)->reduced) return false;
    if (!taut__all_done(t->out1, p) || !taut__all_done(t->out2, p)) return false;
    for (int q = 0; q < red->g->size && red->halves & TAUT_GATHER; q++)
        if (!t->decoded[q] && taut__sub(&red->part, q, k).n > 0) return false;
    return true;
}

/* ---- the algorithm ---- */

static taut_status choose(taut__reduction *red, bool *moved)
{
    TAUT_TRY(post_sums(red, moved));
    choose_reductions(red); /* others wait for these */
    TAUT_TRY(choose_encodes(red));
    choose_decodes(red);
    return TAUT_OK;
}

static const taut__pipeline_ops ops = {.slot_bytes = sizeof(slot),
                                       .name = name,
                                       .requests = requests,
                                       .lay_out = lay_out,
                                       .work = work,
                                       .choose = choose,
                                       .settle = settle,
                                       .over = over};

static taut_status sra_prepare(taut__reduction *red)
{
    return taut__pipeline_prepare(red, &ops, sizeof(sra), red->part.slices, red->part.sub, SIZE_MAX);
}

static taut_status sra_begin(taut__reduction *red)
{
    sra *s = sra_of(red);
    s->reduced = s->posted = 0;
    s->next = 0;
    return taut__pipeline_begin(red);
}

/* Contributions come straight from their ranks; whoever owes a sum may wait for the contribution of another one. */
static int sra_waiting_for(const taut__reduction *red, int *hops)
{
    size_t in2 = 3 * (size_t)red->g->size;
    int    peer = taut__pipeline_waiting(red, 0, in2);
    if (peer >= 0) return peer;
    peer = taut__pipeline_waiting(red, in2, requests(red));
    *hops += peer >= 0;
    return peer;
}

const taut__algorithm taut__sra = {
    .name = "sra",
    .help = "scatter-reduce-allgather: 2(p-1) messages, 2(p-1)/p of the encoded bytes per rank",
    .cannot = taut__pipeline_cannot,
    .prepare = sra_prepare,
    .begin = sra_begin,
    .advance = taut__pipeline_advance,
    .waiting_for = sra_waiting_for,
    .cancel = taut__pipeline_cancel,
    .release = taut__pipeline_release,
};
