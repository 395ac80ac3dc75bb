/* captured.c : see exchange.h. */
#include "exchange.h"
#include "input.h"
#include <string.h>

struct taut__captured {
    taut__lane      lane; /* the layer's, with the stream that is captured */
    taut__exchange *work; /* of its own */
    void           *memory, *buf;
    int             kind;
    uint64_t        sent;    /* bytes of a replay */
    size_t          size[2]; /* as all ranks have agreed: what the graph sends, whatever second rounds agree on */
};

/* Does some stage draw random numbers? A graph would draw the same ones in every replay. */
static bool draws(const taut_spec *spec)
{
    for (uint32_t i = 0; i < spec->stages; i++) {
        const taut_codec *codec = spec->stage[i].codec;
        for (uint32_t k = 0; k < codec->n_keys; k++)
            if (strcmp(codec->keys[k].name, "round") == 0 && spec->stage[i].value[k] == 0) return true;
    }
    return false;
}

const char *taut__captured_cannot(const taut__reduction *red)
{
    const taut_spec *spec = red->call.spec;
    if (!red->via || red->via->advance != taut__exchange_advance || !red->work)
        return "it does not travel by NCCL, or has not yet: its first collective must have ended";
    if (red->operand->sharded || red->g != &red->ctx->all)
        return "collectives of sharded layers, and of hierarchies, cannot be";
    if (taut__spec_caps(spec) & (TAUT_CAP_LINEAR | TAUT_CAP_STATEFUL))
        return "its codec draws random numbers, or keeps a state, by the number of the call: use quant:round=nearest, "
               "grid, topk, fp16 or bf16";
    if (draws(spec)) return "a graph would round by the same random numbers in every replay: use round=nearest";
    if (taut__spec_basis(spec) > 0 || (red->operand->feedback && red->operand->feedback->u))
        return "codecs in a basis, and feedback with momentum, cannot be";
    return NULL;
}

/* The reduction with the graph's exchange in place of its own, and back. */
static taut__exchange *exchanged(taut__reduction *red, taut__exchange *by)
{
    taut__exchange *was = red->work;
    red->work = by;
    return was;
}

taut_status taut__captured_create(taut__reduction *red, taut__captured **out, size_t size[2])
{
    taut__captured *c = *out = taut__alloc(1, sizeof *c);
    if (!c) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", red->job.name);
    taut__exchange *own = exchanged(red, NULL);
    taut_status     s = red->via->prepare(red);
    size_t          bytes = s == TAUT_OK ? taut__exchange_bytes(red) : 0;
    c->work = exchanged(red, own);
    if (s == TAUT_OK) s = red->lane->space->alloc(red->lane->place, bytes, &c->memory);
    for (int i = 0; i < 2; i++) size[i] = own->wanted[i];
    return s;
}

void taut__captured_agree(taut__captured *c, const size_t size[2])
{
    for (int i = 0; i < 2; i++) c->size[i] = c->work->turn.mine.size[i] = size[i];
}

void taut__captured_destroy(taut__reduction *red, taut__captured *c)
{
    if (!c) return;
    taut__exchange *own = red->work == (void *)c->work ? c->work->outside : red->work;
    exchanged(red, c->work);
    if (c->work) taut__exchange_release(red);
    exchanged(red, own);
    red->lane->space->release(red->lane->place, c->memory);
    taut__free(c);
}

void *taut__captured_buf(const taut__captured *c, int *kind)
{
    *kind = c->kind;
    return c->buf;
}

/* What is captured adds to a residual, so there is one. */
static taut_status residual_stands(taut__reduction *red)
{
    taut__operand *o = red->operand;
    if (!o->feedback_on || o->residual) return TAUT_OK;
    TAUT_TRY(taut__feedback_clear(o->feedback, 0, red->call.n));
    TAUT_TRY(taut__lane_wait(red->lane));
    o->residual = true;
    return TAUT_OK;
}

taut_status taut__captured_enqueue(taut__reduction *red, taut__captured *c, struct CUstream_st *stream, void *buf,
                                   int kind)
{
    TAUT_TRY(residual_stands(red));
    TAUT_TRY(taut__lane_check(red->lane));
    taut__lane     *lane = red->lane;
    taut__exchange *own = exchanged(red, c->work);
    c->lane = *lane;
    c->lane.place.stream = stream;
    red->lane = &c->lane;
    red->call.place.stream = stream;
    if (red->operand->feedback) red->operand->feedback->place.stream = stream;
    taut__reduction_anew(red, buf, kind, TAUT_BOTH);
    taut_status s = taut__exchange_capture(red, c->memory);
    c->sent = red->record.bytes_sent;
    red->lane = lane;
    red->call.place.stream = lane->place.stream;
    if (red->operand->feedback) red->operand->feedback->place.stream = lane->place.stream;
    exchanged(red, own);
    c->buf = s == TAUT_OK ? buf : NULL;
    c->kind = kind;
    return s == TAUT_OK ? taut__lane_check(&c->lane) : s; /* where it was noted */
}

taut_status taut__captured_launched(taut__reduction *red, taut__captured *c, struct CUstream_st *stream)
{
    taut_place place = red->lane->place;
    place.stream = stream;
    taut__reduction_anew(red, c->buf, c->kind, TAUT_BOTH);
    red->formed = true; /* by the replay; whatever comes now is a second round */
    red->phase = TAUT_PHASE_REDUCE;
    red->phase_s = red->record.begin_s;
    red->record.bytes_sent = c->sent;
    taut__exchange *own = exchanged(red, c->work);
    c->work->outside = own;
    for (int i = 0; i < 2; i++) c->work->turn.mine.size[i] = c->size[i];
    return taut__exchange_replayed(red, c->memory, place);
}
