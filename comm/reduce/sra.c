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
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include "../core/communicator.h"
#include <string.h>

enum { PIECES = 32 };

typedef struct slot {
    taut__request *out1, *in1, *out2, *in2; /* one per rank; NULL: no slice has the slot */
    uint8_t      *out;                     /* p-1 frames: contributions to their owners; later the sums of other owners */
    uint8_t      *in;                      /* p-1 frames: contributions to my part */
    uint8_t      *sum;                     /* one frame; where `in` lay, unless it serves before those have been added */
    size_t        sum_bytes;
    bool         *decoded;                 /* p */
    bool          summed;                  /* sum is complete */
    double        sent_s[2];               /* when the last contribution, and the sum, were sent */
} slot;

typedef enum action { ENCODE, REDUCE, DECODE } action;
typedef struct piece {
    action          what;
    size_t          k;
    int             q;
    taut__piece_done done;
} piece;

typedef struct sra {
    size_t frame; /* capacity of one */
    size_t slots;
    size_t encoded, reduced, posted, finished; /* slices */
    int    next;                               /* contribution of slice `encoded` to encode, 1..p-1 */
    size_t pieces;
    piece  piece[PIECES];
    slot   slot[];
} sra;

static sra  *sra_of(const taut__job *job) { return job->work; }
static slot *slot_of(const taut__job *job, size_t k) { return &sra_of(job)->slot[k % sra_of(job)->slots]; }
static const taut_codec *codec_of(const taut__job *job) { return taut__spec_codec(job->call.spec); }
static bool integer(const taut__job *job) { return codec_of(job)->caps & TAUT_CAP_INTEGER && job->halves != TAUT_GATHER; }
/* sums of decoded tensors are encoded without loss; not what allgather spreads, which is no such sum */
static bool exact(const taut__job *job) { return codec_of(job)->caps & TAUT_CAP_SPARSE && job->halves != TAUT_GATHER; }
static size_t wire_bytes(const taut__job *job, size_t n) { return n * (job->layer->dtype == TAUT_F32 ? 4 : 2); }

/* ---- memory ---- */

static void sra_release(taut__job *job)
{
    taut__free(job->work);
    job->work = NULL;
}

/* Of an array of frames of all ranks but this one. */
static uint8_t *frame_of(const taut__job *job, uint8_t *frames, int q)
{
    return frames + (size_t)(q - (q > job->g->rank)) * sra_of(job)->frame;
}

/* memory: of a slot; NULL: counts its bytes. */
static size_t lay_out(const taut__job *job, slot *t, void *memory)
{
    size_t   p = (size_t)job->g->size, frame = sra_of(job)->frame;
    taut__carver c = {memory, 0};
    t->out1 = taut__carve(&c, 4 * p, sizeof *t->out1);
    t->decoded = taut__carve(&c, p, sizeof *t->decoded);
    t->out = taut__carve(&c, p - 1, frame);
    t->in = taut__carve(&c, p - 1, frame);
    t->sum = taut__spec_caps(job->call.spec) & TAUT_CAP_SPARSE ? taut__carve(&c, 1, frame) : t->in;
    return c.bytes;
}

static taut_status sra_prepare(taut__job *job)
{
    size_t p = (size_t)job->g->size, slots = taut__coded_slots(job, job->part.slices);
    sra   *s = taut__alloc(1, sizeof *s + slots * sizeof *s->slot);
    if (!s) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", job->name);
    job->work = s;
    s->slots = slots;
    /* rounded, so that frames of one array are aligned */
    s->frame = taut__round_up(taut__frame_capacity(job->call.spec, job->call.tensor, job->part.sub), 64);
    taut__slots_need(&job->slots, lay_out(job, s->slot, NULL), 4 * p, slots);
    return taut__comm_scratch(job->comm, job->part.sub);
}

static taut_status sra_begin(taut__job *job)
{
    sra *s = sra_of(job);
    s->encoded = s->reduced = s->posted = s->finished = 0;
    s->next = 0;
    return TAUT_OK;
}

static int32_t code_limit(const taut__job *job) { return INT32_MAX / job->g->size; }

/* ---- pieces: run by any thread of the pool ---- */

/* Integer codes that nobody here adds are packed as they are made: the same bytes as quantizing first, in one pass. */
static void encode(taut__job *job, piece *p, float *scratch)
{
    sra *s = sra_of(job);
    taut__encode_x(job, taut__sub(&job->part, p->q, p->k), frame_of(job, slot_of(job, p->k)->out, p->q), s->frame, scratch, &p->done);
}

static taut_status check_frame(const taut__job *job, const taut__request *r)
{
    if (r->got <= r->bytes) return TAUT_OK;
    return taut__fail(TAUT_E_CORRUPT, "%s: rank %d sent %zu bytes where at most %zu were expected", job->name, r->peer, r->got,
                      r->bytes);
}

static taut_status add_contributions(taut__job *job, slot *t, const taut_call *c, void *acc)
{
    for (int q = 0; q < job->g->size; q++) {
        if (q == job->g->rank) continue;
        const uint8_t *in = frame_of(job, t->in, q);
        TAUT_TRY(check_frame(job, &t->in1[q]));
        TAUT_TRY(integer(job) ? taut__codes_unpack_add(c, in, t->in1[q].got, acc)
                              : taut__frame_decode_add(c, in, t->in1[q].got, acc));
    }
    return TAUT_OK;
}

/* Float codecs: the sum's own encoding error goes to this rank's residual. */
static taut_status encode_sum(taut__job *job, slot *t, taut__range r, float *acc, taut__piece_done *done)
{
    taut_call c = taut__slice_call(job, r.first, r.n);
    bool      lossless = exact(job) || taut__spec_caps(c.spec) & TAUT_CAP_LOSSLESS;
    if (job->halves == TAUT_GATHER) c.calibration = NULL;
    c.seed = taut__seed(c.seed, 1); /* rounding of the second stage is independent of the first */
    TAUT_TRY(taut__frame_encode(&c, acc, t->sum, sra_of(job)->frame, &t->sum_bytes, lossless ? NULL : acc, exact(job)));
    if (lossless || job->halves == TAUT_GATHER) return TAUT_OK;
    done->requantization_error = taut__job_norms(job, acc, r);
    taut__keep_requantization_error(job, r, acc, 1 / job->factor);
    return TAUT_OK;
}

/* This rank's own part of x, as it enters the sum. Nothing is gained by coding what does not travel, except for sparse
 * codecs: a dense part would make the sum dense, and the sum travels without loss. */
static taut_status own_contribution(taut__job *job, slot *t, const taut_call *c, taut__range r, float *scratch, float *acc,
                                    taut__piece_done *done)
{
    if (!(taut__spec_caps(c->spec) & TAUT_CAP_SPARSE) || job->halves == TAUT_GATHER) {
        taut__own_x(job, r, acc, done);
        return TAUT_OK;
    }
    taut__encode_x(job, r, t->sum, sra_of(job)->frame, scratch, done);
    TAUT_TRY(done->status);
    return taut__frame_decode(c, t->sum, done->bytes, acc);
}

static taut_status reduce_float(taut__job *job, slot *t, taut__range r, float *scratch, taut__piece_done *done)
{
    taut_call c = taut__slice_call(job, r.first, r.n);
    float    *acc = taut__acc(job, scratch);
    TAUT_TRY(own_contribution(job, t, &c, r, scratch, acc, done));
    if (job->halves & TAUT_REDUCE) {
        double begin = taut__now();
        TAUT_TRY(add_contributions(job, t, &c, acc));
        if (job->factor != 1.0f) taut__simd_get()->vec->scale(acc, job->factor, r.n);
        done->sum = job->halves & TAUT_GATHER ? taut__sum_bad(job, acc, r) : taut__sum_norms(job, acc, r);
        done->decode_s += taut__now() - begin;
    }
    if (job->halves & TAUT_GATHER) return encode_sum(job, t, r, acc, done);
    taut__result_store(job, r.first, r.n, acc, true);
    return TAUT_OK;
}

static taut_status reduce_integer(taut__job *job, slot *t, taut__range r, float *scratch, taut__piece_done *done)
{
    taut_call c = taut__slice_call(job, r.first, r.n);
    int32_t  *acc = taut__acc(job, scratch);
    taut__quantize_x(job, r, acc, code_limit(job), scratch, done);
    if (done->status != TAUT_OK) return done->status;
    double begin = taut__now();
    TAUT_TRY(add_contributions(job, t, &c, acc));
    done->decode_s += taut__now() - begin;
    if (job->halves & TAUT_GATHER) return taut__codes_pack(&c, acc, t->sum, sra_of(job)->frame, &t->sum_bytes);
    return taut__store_codes(job, r, acc, scratch, &done->sum);
}

static void reduce(taut__job *job, piece *p, float *scratch)
{
    slot      *t = slot_of(job, p->k);
    taut__range r = taut__sub(&job->part, job->g->rank, p->k);
    double     begin = taut__now();
    p->done.status = integer(job) ? reduce_integer(job, t, r, scratch, &p->done) : reduce_float(job, t, r, scratch, &p->done);
    p->done.bytes = t->sum_bytes;
    p->done.seconds = taut__now() - begin - p->done.decode_s;
}

/* The owner's own frame also tells the norm of the result. */
static taut_status decode_frame(taut__job *job, taut__range r, const uint8_t *src, size_t len, float *scratch, taut_norm2 *sum)
{
    if (integer(job)) return taut__store_frame(job, r, src, len, scratch, sum);
    taut_call c = taut__slice_call(job, r.first, r.n);
    float    *to = taut__result_at(job, r.first, scratch);
    TAUT_TRY(taut__frame_decode(&c, src, len, to));
    if (sum && job->halves & TAUT_REDUCE) *sum = taut__job_norms(job, to, r);
    taut__result_store(job, r.first, r.n, to, sum != NULL);
    return TAUT_OK;
}

static void decode(taut__job *job, piece *p, float *scratch)
{
    slot          *t = slot_of(job, p->k);
    bool           mine = p->q == job->g->rank;
    const uint8_t *src = mine ? t->sum : frame_of(job, t->out, p->q);
    double         begin = taut__now();
    if (!mine) p->done.status = check_frame(job, &t->in2[p->q]);
    if (p->done.status == TAUT_OK)
        p->done.status = decode_frame(job, taut__sub(&job->part, p->q, p->k), src, mine ? t->sum_bytes : t->in2[p->q].got, scratch,
                                      mine ? &p->done.sum : NULL);
    p->done.decode_s = taut__now() - begin;
}

static void run_piece(void *ctx, size_t i, int worker)
{
    taut__job *job = ctx;
    piece    *p = &sra_of(job)->piece[i];
    float    *scratch = job->comm->scratch[worker];
    switch (p->what) {
    case ENCODE: encode(job, p, scratch); break;
    case REDUCE: reduce(job, p, scratch); break;
    case DECODE: decode(job, p, scratch); break;
    }
    taut__piece_end(&p->done);
}

/* ---- choosing pieces ---- */

static bool add_piece(taut__job *job, action what, size_t k, int q)
{
    sra *s = sra_of(job);
    if (s->pieces == taut__min(PIECES, (size_t)taut__executor_threads(job->comm->pool))) return false;
    s->piece[s->pieces++] = (piece){.what = what, .k = k, .q = q};
    return true;
}

/* Memory for slice k; false: none is left now. */
static bool open_slot(taut__job *job, size_t k)
{
    slot  *t = slot_of(job, k);
    size_t p = (size_t)job->g->size;
    void  *memory = taut__slots_take(&job->slots, lay_out(job, t, NULL), 4 * p);
    if (!memory) return false;
    lay_out(job, t, memory);
    taut__requests_init(t->out1, 4 * p);
    t->in1 = t->out1 + p, t->out2 = t->in1 + p, t->in2 = t->out2 + p;
    return true;
}

static void close_slot(taut__job *job, size_t k)
{
    slot *t = slot_of(job, k);
    taut__slots_give(&job->slots, t->out1); /* a slot begins with them */
    t->out1 = NULL;
}

static taut_status open_slice(taut__job *job, size_t k)
{
    slot      *t = slot_of(job, k);
    taut__range mine = taut__sub(&job->part, job->g->rank, k);
    memset(t->decoded, 0, (size_t)job->g->size * sizeof *t->decoded);
    t->summed = false;
    t->sent_s[0] = t->sent_s[1] = taut__now();
    for (int q = 0; q < job->g->size && mine.n > 0 && job->halves & TAUT_REDUCE; q++)
        if (q != job->g->rank)
            TAUT_TRY(taut__irecv(job->g, &t->in1[q], q, job->tag + TAUT_TAG_FIRST, frame_of(job, t->in, q), sra_of(job)->frame));
    return TAUT_OK;
}

/* Every rank begins with another owner, so that no owner is flooded. */
static taut_status choose_encodes(taut__job *job)
{
    sra *s = sra_of(job);
    while (s->encoded < job->part.slices && s->encoded < s->finished + s->slots) {
        if (s->next == 0 && !open_slot(job, s->encoded)) return TAUT_OK;
        if (s->next == 0) TAUT_TRY(open_slice(job, s->encoded));
        if (s->next == 0) s->next = 1;
        for (; s->next < job->g->size && job->halves & TAUT_REDUCE; s->next++) {
            int q = (job->g->rank + s->next) % job->g->size;
            if (taut__sub(&job->part, q, s->encoded).n > 0 && !add_piece(job, ENCODE, s->encoded, q)) return TAUT_OK;
        }
        s->next = 0;
        s->encoded++;
    }
    return TAUT_OK;
}

static bool arrived(const taut__job *job, size_t k) { return taut__all_done(slot_of(job, k)->in1, (size_t)job->g->size); }

/* A slice that has been opened may be reduced: its contributions to others need not have been encoded. */
static void choose_reductions(taut__job *job)
{
    sra   *s = sra_of(job);
    size_t opened = s->encoded + (s->next > 0);
    for (; s->reduced < opened && arrived(job, s->reduced); s->reduced++)
        if (taut__sub(&job->part, job->g->rank, s->reduced).n > 0 && !add_piece(job, REDUCE, s->reduced, job->g->rank)) return;
}

static bool here(const taut__job *job, size_t k, int q)
{
    return q == job->g->rank ? slot_of(job, k)->summed : k < sra_of(job)->posted && taut__done(&slot_of(job, k)->in2[q]);
}

static void choose_decodes(taut__job *job)
{
    sra *s = sra_of(job);
    for (size_t k = s->finished; k < s->encoded && job->halves & TAUT_GATHER; k++)
        for (int i = 0; i < job->g->size; i++) {
            int   q = (job->g->rank + i) % job->g->size;
            slot *t = slot_of(job, k);
            if (t->decoded[q] || taut__sub(&job->part, q, k).n == 0 || !here(job, k, q)) continue;
            if (!add_piece(job, DECODE, k, q)) return;
            t->decoded[q] = true;
        }
}

/* ---- after the work ---- */

static taut_status send_contribution(taut__job *job, const piece *p)
{
    slot *t = slot_of(job, p->k);
    t->sent_s[0] = taut__now();
    job->record.payload_bytes += p->done.bytes;
    job->record.encoded += taut__sub(&job->part, p->q, p->k).n;
    job->record.bytes_sent += p->done.bytes;
    job->record.bytes_dense += wire_bytes(job, taut__sub(&job->part, p->q, p->k).n);
    return taut__isend(job->g, &t->out1[p->q], p->q, job->tag + TAUT_TAG_FIRST, frame_of(job, t->out, p->q), p->done.bytes);
}

static taut_status send_sum(taut__job *job, const piece *p)
{
    slot  *t = slot_of(job, p->k);
    size_t n = taut__sub(&job->part, job->g->rank, p->k).n;
    t->summed = true;
    t->sent_s[1] = taut__now();
    if (!(job->halves & TAUT_GATHER)) return TAUT_OK;
    job->record.sum_bytes += t->sum_bytes;
    for (int i = 1; i < job->g->size; i++) {
        int q = (job->g->rank + i) % job->g->size;
        job->record.bytes_sent += t->sum_bytes;
        job->record.bytes_dense += wire_bytes(job, n);
        TAUT_TRY(taut__isend(job->g, &t->out2[q], q, job->tag + TAUT_TAG_SECOND, t->sum, t->sum_bytes));
    }
    return TAUT_OK;
}

static void trace_wire(taut__job *job, const piece *p)
{
    const slot *t = slot_of(job, p->k);
    bool        decodes = p->what == DECODE;
    uint64_t    bytes = 0;
    if (p->what == ENCODE || (decodes && p->q == job->g->rank)) return;
    for (int q = 0; q < job->g->size && !decodes; q++) bytes += q == job->g->rank ? 0 : t->in1[q].got;
    taut__trace_wire(job, t->sent_s[decodes], &p->done, decodes ? t->in2[p->q].got : bytes);
}

static taut_status settle_pieces(taut__job *job)
{
    sra *s = sra_of(job);
    for (size_t i = 0; i < s->pieces; i++) {
        piece *p = &s->piece[i];
        TAUT_TRY(taut__piece_status(&p->done));
        taut__account(job, &p->done);
        trace_wire(job, p);
        if (p->what == ENCODE) TAUT_TRY(send_contribution(job, p));
        if (p->what == REDUCE) TAUT_TRY(send_sum(job, p));
    }
    return TAUT_OK;
}

static taut_status run_pieces(taut__job *job, bool *moved)
{
    static const char *const name[] = {[ENCODE] = "encode", [REDUCE] = "reduce", [DECODE] = "decode"};
    sra                     *s = sra_of(job);
    double                   begin = taut__now();
    if (s->pieces == 0) return TAUT_OK;
    *moved = true;
    taut__executor_run(job->comm->pool, run_piece, job, s->pieces);
    taut__trace_span(job->comm->trace, job, name[s->piece[0].what], begin, taut__now(), s->piece[0].done.bytes);
    taut_status status = settle_pieces(job);
    s->pieces = 0;
    return status;
}

/* Sums of other owners go where my contributions to them lay, once those have left. */
static taut_status post_sums(taut__job *job, bool *moved)
{
    sra *s = sra_of(job);
    while (s->posted < s->encoded && taut__all_done(slot_of(job, s->posted)->out1, (size_t)job->g->size)) {
        slot *t = slot_of(job, s->posted);
        for (int q = 0; q < job->g->size && job->halves & TAUT_GATHER; q++)
            if (q != job->g->rank && taut__sub(&job->part, q, s->posted).n > 0)
                TAUT_TRY(taut__irecv(job->g, &t->in2[q], q, job->tag + TAUT_TAG_SECOND, frame_of(job, t->out, q), s->frame));
        s->posted++;
        *moved = true;
    }
    return TAUT_OK;
}

static bool slice_finished(const taut__job *job, size_t k)
{
    const slot *t = slot_of(job, k);
    size_t      p = (size_t)job->g->size;
    if (!taut__all_done(t->out1, p) || !taut__all_done(t->out2, p)) return false;
    for (int q = 0; q < job->g->size && job->halves & TAUT_GATHER; q++)
        if (!t->decoded[q] && taut__sub(&job->part, q, k).n > 0) return false;
    return true;
}

static taut_status sra_advance(taut__job *job, bool *moved, bool *done)
{
    sra *s = sra_of(job);
    TAUT_TRY(post_sums(job, moved));
    choose_reductions(job); /* others wait for these */
    TAUT_TRY(choose_encodes(job));
    choose_decodes(job);
    TAUT_TRY(run_pieces(job, moved));
    while (s->finished < s->posted && s->finished < s->reduced && slice_finished(job, s->finished)) {
        close_slot(job, s->finished++);
        *moved = true;
    }
    *done = s->finished == job->part.slices;
    return TAUT_OK;
}

/* Contributions come straight from their ranks; whoever owes a sum may wait for the contribution of another one. */
static int sra_waiting_for(const taut__job *job, int *hops)
{
    sra   *s = sra_of(job);
    size_t p = (size_t)job->g->size;
    for (size_t q = 0; q < 4 * p; q++)
        for (size_t i = 0; i < s->slots; i++) {
            if (!s->slot[i].out1 || taut__done(&s->slot[i].out1[q])) continue;
            *hops += q >= 3 * p; /* in2 */
            return s->slot[i].out1[q].peer;
        }
    return -1;
}

static void sra_cancel(taut__job *job)
{
    sra *s = sra_of(job);
    for (size_t i = 0; s && i < s->slots; i++)
        for (size_t q = 0; s->slot[i].out1 && q < 4 * (size_t)job->g->size; q++)
            job->g->t->ops->cancel(job->g->t, &s->slot[i].out1[q]);
}

static const char *sra_cannot(const taut_spec *spec)
{
    return taut__spec_caps(spec) & TAUT_CAP_SLICEABLE ? NULL : "codes whole tensors only";
}

const taut__algorithm taut__sra = {
    .name = "sra", .help = "scatter-reduce-allgather: 2(p-1) messages, 2(p-1)/p of the encoded bytes per rank",
    .cannot = sra_cannot, .prepare = sra_prepare, .begin = sra_begin, .advance = sra_advance,
    .waiting_for = sra_waiting_for, .cancel = sra_cancel, .release = sra_release,
};
