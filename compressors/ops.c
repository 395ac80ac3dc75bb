/* ops.c : see ops.h. The one place that turns a piece into a typed call, and a typed call into a piece. */
#include "ops.h"
#include "cuda/cuda.h"
#include "vectors.h"
#include <stdatomic.h>

static const char *const op_names[TAUT_OPS] = {
    [TAUT_OP_COLLECT_STATS] = "collect_stats",
    [TAUT_OP_CALIBRATE] = "calibrate",
    [TAUT_OP_ADAPT] = "adapt",
    [TAUT_OP_RESHAPED] = "reshaped",
    [TAUT_OP_REBASE] = "rebase",
    [TAUT_OP_ENCODE] = "encode",
    [TAUT_OP_ENCODE_EXACT] = "encode_exact",
    [TAUT_OP_DECODE] = "decode",
    [TAUT_OP_DECODE_ADD] = "decode_add",
    [TAUT_OP_QUANTIZE] = "quantize",
    [TAUT_OP_PACK] = "pack",
    [TAUT_OP_QUANTIZE_PACK] = "quantize_pack",
    [TAUT_OP_UNPACK_ADD] = "unpack_add",
    [TAUT_OP_UNPACK_VALUES] = "unpack_values",
    [TAUT_OP_DEQUANTIZE] = "dequantize",
    [TAUT_OP_SUM_PACK] = "sum_pack",
    [TAUT_OP_PROJECT] = "project",
    [TAUT_OP_ABSORB] = "absorb",
    [TAUT_OP_RECONSTRUCT] = "reconstruct",
};
const char *taut__op_name(taut__op op) { return op_names[op]; }

/* ---- which table ---- */

enum { SLOTS = 16 }; /* codecs that tests may give a table of their own; the last slot: all of them */
typedef _Atomic(const taut_codec_ops *) slot;
static slot                             given[TAUT_SPACES][SLOTS];

static slot *slot_of(const taut_codec *codec, taut_space space)
{
    for (size_t i = 0; codec && i + 1 < SLOTS; i++)
        if (taut__codec_at(i) == codec) return &given[space][i];
    return &given[space][SLOTS - 1];
}

void taut__ops_register(const taut_codec *codec, taut_space space, const taut_codec_ops *table)
{
    atomic_store(slot_of(codec, space), table);
}

const taut_codec_ops *taut__ops_elsewhere(const taut_codec *codec, taut_space space)
{
    if ((int)space < 0 || (int)space >= TAUT_SPACES) return NULL;
    const taut_codec_ops *own = atomic_load(slot_of(codec, space));
    if (!own) own = atomic_load(slot_of(NULL, space));
    if (own) return own;
    if (space == TAUT_CUDA && !taut__cuda_get(NULL)) return NULL;
    return codec->ops[space];
}

static taut_status missing(const taut_codec *codec, taut_space space, const char *op)
{
    const char *why = NULL;
    if (space == TAUT_CUDA && !taut__cuda_get(&why))
        return taut__fail(TAUT_E_UNSUPPORTED, "%s: %s: no CUDA device can be used: %s", codec->name, op, why);
    if (taut__ops(codec, space))
        return taut__fail(TAUT_E_UNSUPPORTED, "%s: %s: not for memory of space %s", codec->name, op,
                          taut__space_name(space));
    return taut__fail(TAUT_E_UNSUPPORTED, "%s: %s: the codec has no operations for space %s", codec->name, op,
                      taut__space_name(space));
}

/* ---- flags and statuses ---- */

uint32_t taut__flags_of(taut_status s)
{
    return s == TAUT_OK          ? 0
           : s == TAUT_E_CORRUPT ? TAUT_FLAG_CORRUPT
           : s == TAUT_E_RANGE   ? TAUT_FLAG_RANGE
                                 : TAUT_FLAG_FAILED;
}

/* NOT_FINITE alone is a remark, no failure: such input travels uncompressed. */
static taut_status status_of(taut__op op, const taut_codec *codec, uint32_t flags)
{
    if (flags & TAUT_FLAG_CORRUPT)
        return taut__fail(TAUT_E_CORRUPT, "%s: %s: malformed payload", codec->name, op_names[op]);
    if (flags & TAUT_FLAG_RANGE)
        return taut__fail(TAUT_E_RANGE, "%s: %s: a code exceeds its limit", codec->name, op_names[op]);
    if (flags & TAUT_FLAG_FAILED)
        return taut__fail(TAUT_E_DEVICE, "%s: %s: failed on the device", codec->name, op_names[op]);
    return TAUT_OK;
}

/* ---- a piece with typed functions ---- */

static taut_status run_reshaped(const taut_piece *p)
{
    const taut_stage *s = taut__stage(&p->call);
    if (!p->outcome) return taut__fail(TAUT_E_INVALID, "%s: reshaped: no outcome to tell", s->codec->name);
    if (s->codec->reshaped && s->codec->reshaped(s, p->earlier, p->stats)) p->outcome->bytes = 1;
    return TAUT_OK;
}

static taut_status run_stats(taut__op op, const taut_codec_ops *t, const taut_piece *p)
{
    const taut_call *c = &p->call;
    switch (op) {
    case TAUT_OP_COLLECT_STATS: return t->collect_stats(c, p->src, p->stats);
    case TAUT_OP_CALIBRATE: return t->calibrate(c, p->stats, p->ranks, p->src, p->calibration);
    case TAUT_OP_ADAPT: return t->adapt(c, p->earlier, p->stats, p->ranks, p->calibration);
    case TAUT_OP_RESHAPED: return run_reshaped(p);
    default: return t->rebase(c, p->earlier, p->stats);
    }
}

static taut_status run_codec(taut__op op, const taut_codec_ops *t, const taut_piece *p, size_t *len)
{
    const taut_call *c = &p->call;
    switch (op) {
    case TAUT_OP_ENCODE: return t->encode(c, p->src, p->payload, p->cap, len, p->err);
    case TAUT_OP_ENCODE_EXACT: return t->encode_exact(c, p->src, p->payload, p->cap, len);
    case TAUT_OP_DECODE: return t->decode(c, p->payload, *len, p->dst);
    default: return t->decode_add(c, p->payload, *len, p->dst);
    }
}

static taut_status run_sum_pack(const taut_integer_ops *t, const taut_piece *p, size_t *len)
{
    for (uint32_t i = 0; i < p->peer_count; i++)
        TAUT_TRY(t->unpack_add(&p->call, p->peers[i], (size_t)p->peer_bytes[i]->bytes, p->codes));
    return t->pack(&p->call, p->codes, p->payload, p->cap, len);
}

static taut_status run_integer(taut__op op, const taut_integer_ops *t, const taut_piece *p, size_t *len)
{
    const taut_call *c = &p->call;
    switch (op) {
    case TAUT_OP_QUANTIZE: return t->quantize(c, p->src, p->codes, p->err, p->limit);
    case TAUT_OP_PACK: return t->pack(c, p->codes, p->payload, p->cap, len);
    case TAUT_OP_QUANTIZE_PACK: return t->quantize_pack(c, p->src, p->codes, p->err, p->limit, p->payload, p->cap, len);
    case TAUT_OP_UNPACK_ADD: return t->unpack_add(c, p->payload, *len, p->codes);
    case TAUT_OP_SUM_PACK: return run_sum_pack(t, p, len);
    case TAUT_OP_UNPACK_VALUES: return t->unpack_values(c, p->payload, *len, p->codes, p->dst);
    default: return t->dequantize(c, p->codes, p->scale_by, p->dst);
    }
}

static taut_status run_linear(taut__op op, const taut_linear_ops *t, const taut_piece *p)
{
    const taut_call *c = &p->call;
    switch (op) {
    case TAUT_OP_PROJECT: return t->project(c, p->round, p->src, p->factor);
    case TAUT_OP_ABSORB: return t->absorb(c, p->round, p->factor);
    default: return t->reconstruct(c, p->scale_by, p->dst);
    }
}

static bool has(const taut_codec_ops *t, taut__op op)
{
    const taut_integer_ops *i = t->integer;
    switch (op) {
    case TAUT_OP_COLLECT_STATS: return t->collect_stats;
    case TAUT_OP_CALIBRATE: return t->calibrate;
    case TAUT_OP_ADAPT: return t->adapt;
    case TAUT_OP_RESHAPED: return t->adapt;
    case TAUT_OP_REBASE: return t->rebase;
    case TAUT_OP_ENCODE: return t->encode;
    case TAUT_OP_ENCODE_EXACT: return t->encode_exact;
    case TAUT_OP_DECODE: return t->decode;
    case TAUT_OP_DECODE_ADD: return t->decode_add;
    case TAUT_OP_QUANTIZE: return i && i->quantize;
    case TAUT_OP_PACK: return i && i->pack;
    case TAUT_OP_QUANTIZE_PACK: return i && i->quantize_pack;
    case TAUT_OP_UNPACK_ADD: return i && i->unpack_add;
    case TAUT_OP_UNPACK_VALUES: return i && i->unpack_values;
    case TAUT_OP_DEQUANTIZE: return i && i->dequantize;
    case TAUT_OP_SUM_PACK: return i && i->unpack_add && i->pack;
    default: return t->linear;
    }
}

taut_status taut__run_piece(taut__op op, const taut_codec *codec, const taut_codec_ops *table, const taut_piece *p)
{
    if (!table || !has(table, op)) return missing(codec, p->call.place.space, op_names[op]);
    size_t      len = p->outcome ? (size_t)p->outcome->bytes : 0;
    taut_status s;
    if (op <= TAUT_OP_REBASE) s = run_stats(op, table, p);
    else if (op <= TAUT_OP_DECODE_ADD) s = run_codec(op, table, p, &len);
    else if (op <= TAUT_OP_SUM_PACK) s = run_integer(op, table->integer, p, &len);
    else s = run_linear(op, table->linear, p);
    if (!p->outcome) return s;
    if (s == TAUT_OK && op != TAUT_OP_RESHAPED) p->outcome->bytes = len;
    p->outcome->flags |= taut__flags_of(s);
    return s;
}

/* ---- many pieces ---- */

static taut_status in_turn(taut__op op, const taut_codec *codec, const taut_codec_ops *t, const taut_piece *pieces,
                           size_t n, taut_place place)
{
    taut_status first = TAUT_OK;
    for (size_t i = 0; i < n; i++) {
        taut_piece one = pieces[i];
        one.call.place = place;
        taut_status s = taut__run_piece(op, codec, t, &one);
        if (first == TAUT_OK) first = s;
    }
    return first;
}

taut_status taut__enqueue(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place place)
{
    const taut_codec_ops *t = taut__ops(codec, place.space);
    if (t && t->enqueue[op]) return n ? t->enqueue[op](op, codec, pieces, n, place) : TAUT_OK;
    if (!t || !has(t, op)) return missing(codec, place.space, op_names[op]);
    return in_turn(op, codec, t, pieces, n, place);
}

/* ---- one piece, waited for ---- */

static bool takes_payload(taut__op op)
{
    return op == TAUT_OP_DECODE || op == TAUT_OP_DECODE_ADD || op == TAUT_OP_UNPACK_ADD || op == TAUT_OP_UNPACK_VALUES;
}

/* The pieces that ask for what first asks for, in one call. */
static void enqueue_alike(taut__asked *const *asked, size_t n, size_t first, taut_outcome *here, taut_place place)
{
    const taut__asked *a = asked[first];
    taut_piece         pieces[TAUT_ASKED_MAX] = {a->piece};
    size_t             m = 1;
    pieces[0].outcome = here + first;
    for (size_t i = first + 1; i < n; i++) {
        if (asked[i]->op != a->op || asked[i]->codec != a->codec) continue;
        pieces[m] = asked[i]->piece;
        pieces[m++].outcome = here + i;
    }
    taut_status s = taut__enqueue(a->op, a->codec, pieces, m, place);
    for (size_t i = first; i < n; i++)
        if (asked[i]->op == a->op && asked[i]->codec == a->codec) taut__asked_end(asked[i], s);
}

void taut__asked_end(taut__asked *a, taut_status s)
{
    a->status = s;
    a->ended = true;
    if (s != TAUT_OK) taut__snprintf(a->why, sizeof a->why, "%s", taut_last_error());
}

/* The outcomes travel to the device before the pieces and back behind them. */
static taut_status all_of(taut__asked *const *asked, size_t n, taut_place place, size_t *calls)
{
    const taut__space *space = taut__memory_of(place.space);
    taut_outcome       there[TAUT_ASKED_MAX] = {0}, *here = NULL;
    if (!space) return TAUT_E_UNSUPPORTED;
    for (size_t i = 0; i < n; i++) there[i].bytes = takes_payload(asked[i]->op) ? asked[i]->bytes : 0;
    TAUT_TRY(space->alloc_in(place, n * sizeof *here, (void **)&here));
    taut_status s = space->put(place, here, there, n * sizeof *here), done;
    for (size_t i = 0; i < n && s == TAUT_OK; i++)
        if (!asked[i]->ended) enqueue_alike(asked, n, i, here, place), ++*calls;
    if (s == TAUT_OK) s = space->copy(place, there, here, n * sizeof *here);
    space->release_in(place, here);
    done = space->wait(place);
    if (s == TAUT_OK) s = done;
    for (size_t i = 0; i < n && s == TAUT_OK; i++) {
        if (asked[i]->status == TAUT_OK)
            taut__asked_end(asked[i], status_of(asked[i]->op, asked[i]->codec, there[i].flags));
        asked[i]->bytes = asked[i]->status == TAUT_OK ? (size_t)there[i].bytes : 0;
    }
    return s;
}

size_t taut__ask_all(taut__asked *const *asked, size_t n, taut_place place)
{
    size_t calls = 0;
    for (size_t i = 0, m; i < n; i += m) {
        m = taut__min(n - i, TAUT_ASKED_MAX);
        taut_status s = all_of(asked + i, m, place, &calls);
        for (size_t k = i; k < i + m && s != TAUT_OK; k++)
            if (asked[k]->status == TAUT_OK) taut__asked_end(asked[k], s);
    }
    return calls;
}

/* len: NULL, or the payload's bytes. */
static taut_status one(taut__op op, const taut_codec *codec, const taut_piece *p, size_t *len)
{
    const taut_codec_ops *t = taut__ops(codec, p->call.place.space);
    taut__asked           a = {.op = op, .codec = codec, .piece = *p, .bytes = len ? *len : 0}, *list[] = {&a};
    if (!t || !t->enqueue[op]) return missing(codec, p->call.place.space, op_names[op]);
    taut__ask_all(list, 1, p->call.place);
    if (len) *len = a.status == TAUT_OK ? a.bytes : 0;
    return a.status == TAUT_OK ? TAUT_OK : taut__fail(a.status, "%s", a.why);
}

static const taut_codec_ops *of(const taut_codec *codec, const taut_call *c)
{
    return taut__ops(codec, c->place.space);
}
static const taut_integer_ops *integer_of(const taut_codec *codec, const taut_call *c)
{
    const taut_codec_ops *t = of(codec, c);
    return t ? t->integer : NULL;
}
static const taut_linear_ops *linear_of(const taut_codec *codec, const taut_call *c)
{
    const taut_codec_ops *t = of(codec, c);
    return t ? t->linear : NULL;
}

taut_status taut__op_collect_stats(const taut_codec *codec, const taut_call *c, const float *src, double *stats)
{
    const taut_codec_ops *t = of(codec, c);
    if (t && t->collect_stats) return t->collect_stats(c, src, stats);
    return one(TAUT_OP_COLLECT_STATS, codec, &(taut_piece){.call = *c, .src = src, .stats = stats}, NULL);
}

taut_status taut__op_calibrate(const taut_codec *codec, const taut_call *c, const double *stats, int ranks,
                               const float *src, taut_calibration *calibration)
{
    const taut_codec_ops *t = of(codec, c);
    if (t && t->calibrate) return t->calibrate(c, stats, ranks, src, calibration);
    return one(
        TAUT_OP_CALIBRATE, codec,
        &(taut_piece){
            .call = *c, .stats = (double *)(uintptr_t)stats, .ranks = ranks, .src = src, .calibration = calibration},
        NULL);
}

taut_status taut__op_adapt(const taut_codec *codec, const taut_call *c, const double *earlier, const double *now,
                           int ranks, taut_calibration *calibration)
{
    const taut_codec_ops *t = of(codec, c);
    if (t && t->adapt) return t->adapt(c, earlier, now, ranks, calibration);
    return one(TAUT_OP_ADAPT, codec,
               &(taut_piece){.call = *c,
                             .earlier = earlier,
                             .stats = (double *)(uintptr_t)now,
                             .ranks = ranks,
                             .calibration = calibration},
               NULL);
}

taut_status taut__op_rebase(const taut_codec *codec, const taut_call *c, const double *agreed, double *stats)
{
    const taut_codec_ops *t = of(codec, c);
    if (t && t->rebase) return t->rebase(c, agreed, stats);
    return one(TAUT_OP_REBASE, codec, &(taut_piece){.call = *c, .earlier = agreed, .stats = stats}, NULL);
}

taut_status taut__op_encode(const taut_codec *codec, const taut_call *c, const float *src, uint8_t *dst, size_t cap,
                            size_t *len, float *err)
{
    const taut_codec_ops *t = of(codec, c);
    if (t && t->encode) return t->encode(c, src, dst, cap, len, err);
    return one(TAUT_OP_ENCODE, codec, &(taut_piece){.call = *c, .src = src, .payload = dst, .cap = cap, .err = err},
               len);
}

taut_status taut__op_encode_exact(const taut_codec *codec, const taut_call *c, const float *src, uint8_t *dst,
                                  size_t cap, size_t *len)
{
    const taut_codec_ops *t = of(codec, c);
    if (t && t->encode_exact) return t->encode_exact(c, src, dst, cap, len);
    return one(TAUT_OP_ENCODE_EXACT, codec, &(taut_piece){.call = *c, .src = src, .payload = dst, .cap = cap}, len);
}

taut_status taut__op_decode(const taut_codec *codec, const taut_call *c, const uint8_t *src, size_t len, float *dst)
{
    const taut_codec_ops *t = of(codec, c);
    if (t && t->decode) return t->decode(c, src, len, dst);
    return one(TAUT_OP_DECODE, codec, &(taut_piece){.call = *c, .payload = (uint8_t *)(uintptr_t)src, .dst = dst},
               &len);
}

taut_status taut__op_decode_add(const taut_codec *codec, const taut_call *c, const uint8_t *src, size_t len, float *acc)
{
    const taut_codec_ops *t = of(codec, c);
    if (t && t->decode_add) return t->decode_add(c, src, len, acc);
    return one(TAUT_OP_DECODE_ADD, codec, &(taut_piece){.call = *c, .payload = (uint8_t *)(uintptr_t)src, .dst = acc},
               &len);
}

taut_status taut__op_quantize(const taut_codec *codec, const taut_call *c, const float *src, int32_t *q, float *err,
                              int32_t limit)
{
    const taut_integer_ops *t = integer_of(codec, c);
    if (t && t->quantize) return t->quantize(c, src, q, err, limit);
    return one(TAUT_OP_QUANTIZE, codec, &(taut_piece){.call = *c, .src = src, .codes = q, .err = err, .limit = limit},
               NULL);
}

taut_status taut__op_pack(const taut_codec *codec, const taut_call *c, const int32_t *q, uint8_t *dst, size_t cap,
                          size_t *len)
{
    const taut_integer_ops *t = integer_of(codec, c);
    if (t && t->pack) return t->pack(c, q, dst, cap, len);
    return one(TAUT_OP_PACK, codec,
               &(taut_piece){.call = *c, .codes = (int32_t *)(uintptr_t)q, .payload = dst, .cap = cap}, len);
}

taut_status taut__op_unpack_add(const taut_codec *codec, const taut_call *c, const uint8_t *src, size_t len,
                                int32_t *acc)
{
    const taut_integer_ops *t = integer_of(codec, c);
    if (t && t->unpack_add) return t->unpack_add(c, src, len, acc);
    return one(TAUT_OP_UNPACK_ADD, codec, &(taut_piece){.call = *c, .payload = (uint8_t *)(uintptr_t)src, .codes = acc},
               &len);
}

taut_status taut__op_quantize_pack(const taut_codec *codec, const taut_call *c, const float *src, int32_t *q,
                                   float *err, int32_t limit, uint8_t *dst, size_t cap, size_t *len)
{
    const taut_integer_ops *t = integer_of(codec, c);
    if (t && t->quantize_pack) return t->quantize_pack(c, src, q, err, limit, dst, cap, len);
    return one(
        TAUT_OP_QUANTIZE_PACK, codec,
        &(taut_piece){.call = *c, .src = src, .codes = q, .err = err, .limit = limit, .payload = dst, .cap = cap}, len);
}

taut_status taut__op_unpack_values(const taut_codec *codec, const taut_call *c, const uint8_t *src, size_t len,
                                   int32_t *acc, float *dst)
{
    const taut_integer_ops *t = integer_of(codec, c);
    if (t && t->unpack_values) return t->unpack_values(c, src, len, acc, dst);
    return one(TAUT_OP_UNPACK_VALUES, codec,
               &(taut_piece){.call = *c, .payload = (uint8_t *)(uintptr_t)src, .codes = acc, .dst = dst}, &len);
}

taut_status taut__op_dequantize(const taut_codec *codec, const taut_call *c, const int32_t *q, float factor, float *dst)
{
    const taut_integer_ops *t = integer_of(codec, c);
    if (t && t->dequantize) return t->dequantize(c, q, factor, dst);
    return one(TAUT_OP_DEQUANTIZE, codec,
               &(taut_piece){.call = *c, .codes = (int32_t *)(uintptr_t)q, .scale_by = factor, .dst = dst}, NULL);
}

taut_status taut__op_project(const taut_codec *codec, const taut_call *c, int round, const float *src, float *factor)
{
    const taut_linear_ops *t = linear_of(codec, c);
    if (t) return t->project(c, round, src, factor);
    return one(TAUT_OP_PROJECT, codec, &(taut_piece){.call = *c, .round = round, .src = src, .factor = factor}, NULL);
}

taut_status taut__op_absorb(const taut_codec *codec, const taut_call *c, int round, float *factor)
{
    const taut_linear_ops *t = linear_of(codec, c);
    if (t) return t->absorb(c, round, factor);
    return one(TAUT_OP_ABSORB, codec, &(taut_piece){.call = *c, .round = round, .factor = factor}, NULL);
}

taut_status taut__op_reconstruct(const taut_codec *codec, const taut_call *c, float factor, float *dst)
{
    const taut_linear_ops *t = linear_of(codec, c);
    if (t) return t->reconstruct(c, factor, dst);
    return one(TAUT_OP_RECONSTRUCT, codec, &(taut_piece){.call = *c, .scale_by = factor, .dst = dst}, NULL);
}

/* ---- state ---- */

taut_status taut__op_state_create(const taut_codec *codec, const taut_stage *s, const taut_tensor *t,
                                  uint64_t shared_seed, taut_place place, taut_codec_state **st)
{
    const taut_codec_ops *o = taut__ops(codec, place.space);
    *st = NULL;
    return o && o->state_create ? o->state_create(s, t, shared_seed, place, st)
                                : missing(codec, place.space, "state_create");
}

void taut__op_state_destroy(const taut_codec *codec, taut_place place, taut_codec_state *st)
{
    const taut_codec_ops *o = taut__ops(codec, place.space);
    if (st && o && o->state_destroy) o->state_destroy(st);
}

taut_status taut__op_state_save(const taut_codec *codec, taut_place place, const taut_codec_state *st, void *dst,
                                size_t cap, size_t *len)
{
    const taut_codec_ops *o = taut__ops(codec, place.space);
    *len = 0;
    return o && o->state_save ? o->state_save(st, dst, cap, len) : missing(codec, place.space, "state_save");
}

taut_status taut__op_state_load(const taut_codec *codec, taut_place place, taut_codec_state *st, const void *src,
                                size_t len)
{
    const taut_codec_ops *o = taut__ops(codec, place.space);
    return o && o->state_load ? o->state_load(st, src, len) : missing(codec, place.space, "state_load");
}
