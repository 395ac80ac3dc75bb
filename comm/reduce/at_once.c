/* at_once.c : see at_once.h. A reduction without a layer and without an engine. */
#include "at_once.h"
#include "exchange.h"
#include "input.h"
#include <time.h>

enum { BLOCK = 64, SLICE = 1 << 18 };

struct taut__at_once {
    taut__context      ctx;
    taut__lane         lane;
    taut__operand      operand;
    taut__reduction    red;
    void              *memory;
    bool               under_way;
    taut__at_once_cost cost;
};

/* Nobody watches: what is asked of a watcher whatever its begin() says. */
static void                on_range(taut__reduction *red, size_t first, size_t n) { (void)red, (void)first, (void)n; }
static const taut__watcher nobody = {.form = on_range, .stored = on_range};

const char *taut__at_once_cannot(const taut__at_once_kind *k, int ranks)
{
    taut_tensor tensor = {.elems = k->n, .rows = k->n, .cols = 1};
    size_t      bytes, align;
    if (k->spec.automatic) return "codec=auto needs ranks to agree: name a codec";
    align = taut__spec_align(&k->spec);
    if (taut__spec_caps(&k->spec) & (TAUT_CAP_GLOBAL_STATS | TAUT_CAP_LINEAR | TAUT_CAP_STATEFUL) ||
        !(taut__spec_caps(&k->spec) & TAUT_CAP_SLICEABLE))
        return "the codec needs ranks to agree, or keeps a state: use quant, fp16 or bf16";
    if (!taut__spec_fixed(&k->spec, &tensor, 0, k->n, &bytes))
        return "the length of the codec's payloads depends on the data: use quant, fp16 or bf16";
    if (k->scatter && (k->n % (size_t)ranks || k->n / (size_t)ranks % align))
        return "its parts do not end where the codec's blocks do";
    return NULL;
}

static const taut__exchange_way *way_of(const taut__at_once_kind *k, int ranks)
{
    return !k->scatter && ranks == 2 ? &taut__exchange_gather : &taut__exchange_sra;
}

static void set_up(taut__at_once *a, const taut__at_once_kind *k, taut__data *d)
{
    size_t align = taut__spec_align(&k->spec),
           block = k->scatter ? k->n / (size_t)d->size : taut__round_up(BLOCK, align);
    a->ctx.data = d;
    a->ctx.set.c.timeout_ms = -1; /* as long as the data half itself waits */
    a->ctx.all = (taut__group){.rank = d->rank, .size = d->size, .data = d};
    a->lane = (taut__lane){
        .place = k->place, .space = taut__memory_of(k->place.space), .vectors = taut__vectors_of(k->place.space)};
    a->operand = (taut__operand){.dtype = k->dtype,
                                 .tensor = {.elems = k->n, .rows = k->n, .cols = 1},
                                 .wire = k->spec,
                                 .seed = k->seed,
                                 .lossy = !(taut__spec_caps(&k->spec) & TAUT_CAP_LOSSLESS)};
    a->operand.there = a->operand.tensor;
    a->red = (taut__reduction){.ctx = &a->ctx,
                               .lane = &a->lane,
                               .operand = &a->operand,
                               .watcher = &nobody,
                               .g = &a->ctx.all,
                               .via = &way_of(k, d->size)->algorithm,
                               .halves = k->scatter ? TAUT_REDUCE : TAUT_BOTH};
    a->red.job.name = "at once";
    a->red.call = (taut_call){.spec = &a->operand.wire, .tensor = &a->operand.there, .place = k->place, .n = k->n};
    a->red.part = taut__partition_of(k->n, d->size, block, SLICE);
}

static taut_status prepare(taut__at_once *a)
{
    taut_place place = a->lane.place;
    if (!a->lane.space || !a->lane.vectors) return TAUT_E_UNSUPPORTED;
    if (a->operand.dtype != TAUT_F32)
        TAUT_TRY(taut__feedback_create_in(place, a->operand.tensor.elems, 0, &a->operand.feedback));
    TAUT_TRY(a->red.via->prepare(&a->red));
    return a->lane.space->alloc(place, taut__exchange_bytes(&a->red), &a->memory);
}

taut_status taut__at_once_create(const taut__at_once_kind *k, taut__data *d, taut__at_once **out)
{
    const char    *why = taut__at_once_cannot(k, d->size);
    taut__at_once *a = why ? NULL : taut__alloc(1, sizeof *a);
    *out = NULL;
    if (why) return taut__fail(TAUT_E_UNSUPPORTED, "%s", why);
    if (!a) return taut__fail(TAUT_E_NOMEM, "out of memory");
    set_up(a, k, d);
    taut_status s = prepare(a);
    if (s == TAUT_OK) *out = a;
    else taut__at_once_destroy(a);
    return s;
}

void taut__at_once_destroy(taut__at_once *a)
{
    if (!a) return;
    if (a->red.work) a->red.via->release(&a->red);
    taut__feedback_destroy(a->operand.feedback);
    if (a->lane.space) a->lane.space->release(a->lane.place, a->memory);
    taut__free(a);
}

taut_status taut__at_once_look(taut__at_once *a, taut__at_once_cost *cost)
{
    bool        told = false;
    taut_status s = a->under_way ? taut__exchange_told(&a->red, &told) : TAUT_OK;
    if (told) a->under_way = false;
    if (told && s == TAUT_OK) {
        const taut__record *r = &a->red.record;
        a->cost.calls++;
        a->cost.sent += r->bytes_sent, a->cost.dense += r->bytes_dense;
        a->cost.error2 += r->error.plain, a->cost.norm2 += r->sum.plain;
    }
    if (cost) *cost = a->cost;
    return s;
}

taut_status taut__at_once_wait(taut__at_once *a, double seconds)
{
    double since = taut__now();
    for (;;) {
        taut_status s = taut__at_once_look(a, NULL);
        if (!a->under_way) return TAUT_OK;
        if (s != TAUT_OK) return s;
        if (taut__now() - since > seconds) return taut__fail(TAUT_E_TIMEOUT, "not over within %g s", seconds);
        nanosleep(&(struct timespec){0, 100000}, NULL);
    }
}

/* The stream of this call, wherever it is looked up. */
static void on_stream(taut__at_once *a, struct CUstream_st *stream)
{
    a->lane.place.stream = a->red.call.place.stream = stream;
    if (a->operand.feedback) a->operand.feedback->place.stream = stream;
}

taut_status taut__at_once_enqueue(taut__at_once *a, struct CUstream_st *stream, taut_op op, void *buf, void *part)
{
    taut__reduction *red = &a->red;
    TAUT_TRY(taut__at_once_look(a, NULL)); /* of the one before: what is not over yet is not counted */
    on_stream(a, stream);
    taut__reduction_anew(red, buf, op, red->halves);
    a->operand.calls++;
    taut__exchange_of(red)->part_to = part;
    a->under_way = true;
    return taut__exchange_at_once(red, a->memory);
}
