/* native.c : sums without a codec: `none`, and codes of integer codecs as int32.
 *
 * Where every rank waits in a blocking taut_allreduce for this very layer, the transport's own collective (MPI_Allreduce)
 * does it, on the waiting thread. Ranks find that out by a vote, because one may wait while another only started the
 * layer; they then all enter the collective, and no rank can be in another one, since blocking calls come in the same
 * order everywhere. Otherwise the sum goes by messages (plain_sum.h), which may be under way with any other. */
#include "input.h"
#include "placed.h"

enum { VOTE_NATIVE, VOTE_KIND_AND, VOTE_KIND_OR, VOTE_WORDS };

typedef struct native {
    uint64_t vote[VOTE_WORDS], in[VOTE_WORDS];
    bool     voting, native, summing, summed, measured;
    size_t   formed; /* elements quantized or copied so far */
    size_t   stored;
    double   begin_s; /* of the sum */
    int32_t *q;       /* codes of the whole tensor; NULL for none */
} native;

static native *native_of(const taut__reduction *red) { return red->work; }
static bool    integer(const taut__reduction *red) { return taut__spec_codec(red->call.spec)->caps & TAUT_CAP_INTEGER; }

static void native_release(taut__reduction *red)
{
    if (!red->work) return;
    taut__placed_release(red, native_of(red)->q);
    taut__free(red->work);
    red->work = NULL;
}

static taut_status native_prepare(taut__reduction *red)
{
    size_t n = red->call.tensor->elems;
    red->work = taut__alloc(1, sizeof(native));
    if (!red->work) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", red->job.name);
    if (integer(red)) TAUT_TRY(taut__placed_alloc(red, n * sizeof(int32_t), "codes", &native_of(red)->q));
    return TAUT_OK; /* red->plain: taut__raw_prepare */
}

/* Smaller sums go by messages: at 64 KiB and 10 Gbit/s they took 1.02 times as long as MPI_Allreduce, with the vote 1.3 times. */
enum { VOTE_FROM = 1 << 18 }; /* bytes */

static bool worth_a_vote(const taut__reduction *red)
{
    return red->g->t->ops->allreduce && red->g->size == red->g->t->size && red->halves == TAUT_BOTH &&
           red->call.tensor->elems * 4 >= VOTE_FROM;
}

static taut_status native_begin(taut__reduction *red)
{
    native *a = native_of(red);
    a->voting = worth_a_vote(red);
    a->native = a->summing = a->summed = a->measured = false;
    a->formed = a->stored = 0;
    if (!a->voting) return TAUT_OK;
    a->vote[VOTE_NATIVE] = red->blocking && taut__at_home(red);
    a->vote[VOTE_KIND_AND] = a->vote[VOTE_KIND_OR] = (uint64_t)red->kind + 1;
    static const taut__mixed mixed = {0, VOTE_KIND_OR};
    taut__small_allreduce_begin(&red->exchange, red->g, red->job.tag + TAUT_TAG_CONTROL, a->vote, a->in, sizeof a->vote,
                                taut__combine_mixed, &mixed);
    return TAUT_OK;
}

static taut_status advance_vote(taut__reduction *red, bool *moved)
{
    native *a = native_of(red);
    bool    done;
    if (!a->voting) return TAUT_OK;
    TAUT_TRY(taut__small_allreduce_advance(&red->exchange, &done));
    if (!done) return TAUT_OK;
    *moved = true;
    a->voting = false;
    red->record.bytes_sent += red->exchange.sent;
    a->native = a->vote[VOTE_NATIVE];
    if (a->vote[VOTE_KIND_AND] != a->vote[VOTE_KIND_OR])
        return taut__fail(TAUT_E_MISMATCH, "%s: some ranks ask for the sum, others for the mean", red->job.name);
    return TAUT_OK;
}

/* ---- the input, slice by slice: x into buf, or its codes into q ---- */

static taut__range next_slice(const taut__reduction *red, size_t at)
{
    return (taut__range){at, taut__min(red->lane->scratch_n, red->call.tensor->elems - at)};
}

static taut_status form(taut__reduction *red)
{
    native          *a = native_of(red);
    taut__range      r = next_slice(red, a->formed);
    taut__piece_done done = {0};
    if (integer(red)) taut__quantize_x(red, r, a->q + r.first, INT32_MAX / red->g->size, red->aside.scratch, &done);
    else taut__own_x(red, r, taut__result_at(red, r.first, NULL), &done);
    if (!integer(red) && !red->watched) done.own = (taut_norm2){0, 0}; /* as where nothing had to be formed */
    a->formed += r.n;
    taut__account(red, &done);
    return done.status;
}

static bool formed(const taut__reduction *red)
{
    bool there = !integer(red) && taut__in_place(red);
    return (there && !red->watched) || native_of(red)->formed == red->call.tensor->elems;
}

static taut__number kind_of(const taut__reduction *red) { return integer(red) ? TAUT_NUMBER_I32 : TAUT_NUMBER_F32; }
static void        *numbers(const taut__reduction *red) { return integer(red) ? (void *)native_of(red)->q : red->buf; }

static void count_native(taut__reduction *red)
{
    uint64_t bytes = 4 * (uint64_t)red->call.tensor->elems, p = (uint64_t)red->g->size;
    red->record.payload_bytes = bytes;
    red->record.encoded = red->call.tensor->elems;
    red->record.bytes_sent += 2 * bytes * (p - 1) / p; /* what a bandwidth-optimal collective sends */
    red->record.bytes_dense += 2 * bytes * (p - 1) / p;
}

static void trace_sum(taut__reduction *red, uint64_t bytes)
{
    taut__trace_span(red->ctx->trace, &red->job, "wire", native_of(red)->begin_s, taut__now(), bytes);
}

static taut_status sum(taut__reduction *red, bool *moved)
{
    native *a = native_of(red);
    if (!a->summing) a->begin_s = taut__now();
    if (a->native) {
        size_t n = red->call.tensor->elems;
        TAUT_TRY(taut__watchdog_enter(&red->ctx->watchdog, red->job.name, 4 * n));
        taut_status s = red->g->t->ops->allreduce(red->g->t, numbers(red), n, kind_of(red));
        taut__watchdog_leave(&red->ctx->watchdog);
        TAUT_TRY(s);
        if (!integer(red) && red->factor != 1.0f) taut__placed_scale(red, numbers(red), red->factor, n);
        count_native(red);
        trace_sum(red, red->record.bytes_sent);
        *moved = a->summed = true;
        return TAUT_OK;
    }
    if (!a->summing)
        taut__plain_sum_begin(&red->plain, kind_of(red), numbers(red), red->call.tensor->elems, red->halves,
                              red->factor);
    a->summing = true;
    TAUT_TRY(taut__plain_sum_advance(&red->plain, moved, &a->summed));
    if (!a->summed) return TAUT_OK;
    trace_sum(red, red->plain.sent);
    red->record.payload_bytes = 4 * (uint64_t)red->call.tensor->elems;
    red->record.encoded = red->call.tensor->elems;
    red->record.bytes_sent += red->plain.sent;
    red->record.bytes_dense += red->plain.sent;
    return TAUT_OK;
}

static taut_status store_codes(taut__reduction *red)
{
    native          *a = native_of(red);
    taut__range      r = next_slice(red, a->stored);
    taut__piece_done done = {0};
    bool             count = red->g->rank == 0; /* every rank has all of the sum: count it once */
    TAUT_TRY(taut__store_codes(red, r, a->q + r.first, red->aside.scratch, count ? &done.sum : NULL));
    taut__account(red, &done);
    a->stored += r.n;
    return TAUT_OK;
}

/* The exact sum counts in the communicator's relative error, if there is any error, and in plans, whole or scattered. Every rank measures its
 * part. */
static bool measures(const taut__reduction *red)
{
    return !integer(red) && (red->ctx->lossy || red->watched & TAUT_WATCH_INPUT) && red->halves != TAUT_GATHER;
}

static taut_status measure_sum(taut__reduction *red)
{
    taut__range      mine = taut__part(&red->part, red->g->rank);
    taut__piece_done done = {.sum = taut__sum_norms(red, (float *)red->buf + mine.first, mine)};
    native_of(red)->measured = true;
    taut__account(red, &done);
    return TAUT_OK;
}

static taut_status native_advance(taut__reduction *red, bool *moved, bool *done)
{
    native *a = native_of(red);
    if (!formed(red)) {
        *moved = true;
        return taut__aside_begin(red, form);
    }
    TAUT_TRY(advance_vote(red, moved));
    if (a->voting && red->blocking) return TAUT_OK; /* else the outcome is known: by messages */
    if (!a->summed) TAUT_TRY(sum(red, moved));
    if (!a->summed || a->voting) return TAUT_OK;
    *moved = true;
    size_t n = integer(red) ? red->call.tensor->elems : 0;
    if (a->stored < n) TAUT_TRY(taut__aside_begin(red, store_codes));
    if (taut__aside_busy(red) || a->stored < n) return TAUT_OK;
    if (measures(red) && !a->measured) TAUT_TRY(taut__aside_begin(red, measure_sum));
    *done = !taut__aside_busy(red);
    return TAUT_OK;
}

static int native_waiting_for(const taut__reduction *red, int *hops)
{
    if (native_of(red)->voting) return taut__small_allreduce_waiting_for(&red->exchange, hops);
    return taut__plain_sum_waiting_for(&red->plain, hops);
}

static const char *native_cannot(const taut_spec *spec)
{
    const taut_codec *codec = taut__spec_codec(spec);
    bool              none = codec->caps & TAUT_CAP_LOSSLESS;
    return none || codec->caps & TAUT_CAP_INTEGER ? NULL : "its codes cannot be added";
}

const taut__algorithm taut__native = {
    .name = "native",
    .help = "the transport's own sum of float32, or of integer codes as int32",
    .cannot = native_cannot,
    .prepare = native_prepare,
    .begin = native_begin,
    .advance = native_advance,
    .waiting_for = native_waiting_for,
    .release = native_release,
};
