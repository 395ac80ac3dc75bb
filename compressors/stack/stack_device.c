/* stack_device.c : stack on a CUDA device: each stage by its own codec, with a buffer of its own, since a stage's length, and with it
 * where the next one begins, is known on the device only. */
#include "../cuda/pieces.h"
#include "stack.h"
#include <string.h>

/* Scratch of one piece, on the device: the stages' outcomes and payloads, and what the stage before left. */
typedef struct scratch {
    taut_outcome     *outcome; /* one per stage */
    taut__cuda_job   *jobs;    /* decode: and lengths behind them */
    uint8_t          *payload[TAUT_SPEC_STAGES];
    uint64_t          cap[TAUT_SPEC_STAGES];
    float            *rest;
    taut__cuda_stages stages;
    void             *base;
} scratch;

static size_t up(size_t n) { return taut__ceil_div(n, 64) * 64; }

static taut_status reserve(const taut__cuda *c, const taut_piece *p, bool rest, taut_place place, scratch *s)
{
    const taut_spec *spec = p->call.spec;
    size_t           outcomes = up(spec->stages * sizeof *s->outcome),
           jobs = up(TAUT__CUDA_STAGES * (sizeof *s->jobs + sizeof(uint64_t)));
    size_t bytes = outcomes + jobs + (rest ? up(p->call.n * sizeof(float)) : 0);
    memset(s, 0, sizeof *s);
    s->stages.count = spec->stages;
    for (uint32_t i = 0; i < spec->stages; i++) {
        s->cap[i] = spec->stage[i].codec->capacity(&spec->stage[i], p->call.tensor, p->call.n);
        bytes += up((size_t)s->cap[i]);
    }
    TAUT_TRY(taut__scratch(c, place, bytes, &s->base));
    uint8_t *at = s->base;
    s->outcome = (taut_outcome *)(void *)at, at += outcomes;
    s->jobs = (taut__cuda_job *)(void *)at, at += jobs;
    for (uint32_t i = 0; i < spec->stages; i++) {
        s->payload[i] = at, at += up((size_t)s->cap[i]);
        s->stages.id[i] = spec->stage[i].codec->id;
        s->stages.version[i] = spec->stage[i].codec->version;
        s->stages.payload[i] = s->payload[i];
        s->stages.len[i] = &s->outcome[i].bytes;
    }
    if (rest) s->rest = (float *)(void *)at;
    return c->device->fill(s->outcome, 0, outcomes, place.stream);
}

static taut_status gather(const taut__cuda *c, const scratch *s, const taut_piece *p, taut_place place)
{
    const uint32_t *flags[TAUT__CUDA_STAGES];
    for (uint32_t i = 0; i < s->stages.count; i++) flags[i] = &s->outcome[i].flags;
    return c->stack->flags(flags, s->stages.count, &p->outcome->flags, place.stream);
}

static taut_status encode_stages(const taut__cuda *c, const scratch *s, const taut_piece *p, taut_place place)
{
    float *rest = p->err ? p->err : s->rest;
    for (uint32_t i = 0; i < s->stages.count; i++) {
        bool       last = i + 1 == s->stages.count;
        taut_piece stage = {.call = taut__stack_call(&p->call, i),
                            .src = i == 0 ? p->src : rest,
                            .err = last ? p->err : rest,
                            .payload = s->payload[i],
                            .cap = (size_t)s->cap[i],
                            .outcome = &s->outcome[i]};
        TAUT_TRY(taut__enqueue(TAUT_OP_ENCODE, p->call.spec->stage[i].codec, &stage, 1, place));
    }
    TAUT_TRY(c->stack->assemble(&s->stages, p->payload, &p->outcome->bytes, place.stream));
    return gather(c, s, p, place);
}

static taut_status decode_stages(const taut__cuda *c, const scratch *s, const taut_piece *p, bool add, taut_place place)
{
    TAUT_TRY(
        c->stack->take(&s->stages, s->cap, p->payload, &p->outcome->bytes, s->jobs, &p->outcome->flags, place.stream));
    for (uint32_t i = 0; i < s->stages.count; i++) {
        taut_piece stage = {.call = taut__stack_call(&p->call, i),
                            .dst = p->dst,
                            .payload = s->payload[i],
                            .cap = (size_t)s->cap[i],
                            .outcome = &s->outcome[i]};
        TAUT_TRY(taut__enqueue(add || i > 0 ? TAUT_OP_DECODE_ADD : TAUT_OP_DECODE, p->call.spec->stage[i].codec, &stage,
                               1, place));
    }
    return gather(c, s, p, place);
}

static taut_status check(const taut__cuda *c, const taut_codec *codec, const taut_piece *p, bool encodes)
{
    if (p->call.spec->stages < 2 || p->call.spec->stages > TAUT__CUDA_STAGES)
        return taut__fail(TAUT_E_UNSUPPORTED, "stack: a device needs the spec, not only the payload");
    TAUT_TRY(taut__on_device(c, codec, p->outcome, "outcome"));
    TAUT_TRY(taut__on_device(c, codec, p->payload, "payload"));
    return encodes ? taut__payload_room(codec, p) : TAUT_OK;
}

static taut_status one(const taut__cuda *c, taut__op op, const taut_codec *codec, const taut_piece *p, taut_place place)
{
    bool    encodes = op == TAUT_OP_ENCODE;
    scratch s;
    if (!p->outcome) return taut__fail(TAUT_E_INVALID, "stack: %s: outcome is NULL", taut__op_name(op));
    TAUT_TRY(check(c, codec, p, encodes));
    TAUT_TRY(reserve(c, p, encodes && !p->err, place, &s));
    taut_status status =
        encodes ? encode_stages(c, &s, p, place) : decode_stages(c, &s, p, op == TAUT_OP_DECODE_ADD, place);
    c->device->release_in(s.base, place.stream);
    return status;
}

static taut_status enqueue(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place place)
{
    const taut__cuda *c = taut__cuda_get(NULL);
    if (!c) return taut__fail(TAUT_E_UNSUPPORTED, "stack: %s: no CUDA device", taut__op_name(op));
    for (size_t i = 0; i < n; i++) TAUT_TRY(one(c, op, codec, &pieces[i], place));
    return TAUT_OK;
}

extern const taut_codec_ops taut__stack_device;
const taut_codec_ops        taut__stack_device = {
           .enqueue = {[TAUT_OP_ENCODE] = enqueue, [TAUT_OP_DECODE] = enqueue, [TAUT_OP_DECODE_ADD] = enqueue},
};
