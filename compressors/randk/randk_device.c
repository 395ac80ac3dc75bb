/* randk_device.c : randk on a CUDA device. The linear rounds carry values without a header; absorb keeps their mean for reconstruct. */
#include "../cuda/pieces.h"

enum { DENSITY, SCALE };

struct taut_codec_state { /* of this space: on the host, with the means on the device */
    taut_place place;
    size_t     n;
    float     *mean;
};

static bool linear(taut__op op) { return op == TAUT_OP_PROJECT || op == TAUT_OP_RECONSTRUCT; }

static taut_status need_state(const taut_piece *p)
{
    const taut_codec_state *st = p->call.state;
    size_t                  n = taut__topk_kept(taut__stage(&p->call)->value[DENSITY], p->call.tensor->elems);
    return st && st->n == n ? TAUT_OK : taut__fail(TAUT_E_STATE, "randk: no state for the averaged values");
}

static taut_status fill(const taut__launch *l, const taut_piece *p, taut__cuda_job *j)
{
    j->seed = p->call.shared_seed;
    if (!linear(l->op)) return TAUT_OK;
    if (l->op == TAUT_OP_RECONSTRUCT) TAUT_TRY(need_state(p));
    j->payload = (uint8_t *)(l->op == TAUT_OP_PROJECT ? p->factor : p->call.state->mean);
    j->len = NULL, j->err = NULL;
    return taut__on_device(l->c, l->codec, j->payload, "factor");
}

static taut_status run(const taut__launch *l)
{
    const taut__cuda_randk *randk = l->c->randk;
    double                  density = l->stage->value[DENSITY];
    bool                    scaled = l->stage->value[SCALE] != 0;
    taut__cuda_batch        b = l->b;
    switch (l->op) {
    case TAUT_OP_ENCODE: return randk->encode(&b, density, scaled, false, l->place.stream);
    case TAUT_OP_ENCODE_EXACT: return randk->encode(&b, density, false, false, l->place.stream);
    case TAUT_OP_PROJECT: return randk->encode(&b, density, scaled, true, l->place.stream);
    case TAUT_OP_RECONSTRUCT:
        b.factor = l->pieces[0].scale_by;
        return randk->decode(&b, density, scaled, true, false, l->place.stream);
    default: return randk->decode(&b, density, scaled, false, l->op == TAUT_OP_DECODE_ADD, l->place.stream);
    }
}

static const taut__device_codec device = {.unit = TAUT__CUDA_TILE, .fill = fill, .run = run};

static taut_status enqueue(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place place)
{
    return taut__launch_pieces(&device, op, codec, pieces, n, place);
}

/* One launch for each: factors may differ. */
static taut_status reconstruct(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n,
                               taut_place place)
{
    for (size_t i = 0; i < n; i++) TAUT_TRY(taut__launch_pieces(&device, op, codec, pieces + i, 1, place));
    return TAUT_OK;
}

static taut_status absorb(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place place)
{
    (void)op;
    const taut__cuda *c = taut__cuda_get(NULL);
    for (size_t i = 0; i < n; i++) {
        TAUT_TRY(need_state(&pieces[i]));
        TAUT_TRY(taut__on_device(c, codec, pieces[i].factor, "factor"));
        TAUT_TRY(c->device->copy(pieces[i].call.state->mean, pieces[i].factor, pieces[i].call.state->n * sizeof(float),
                                 place.stream));
    }
    return TAUT_OK;
}

/* ---- state: nothing of it outlives a step ---- */

static void state_destroy(taut_codec_state *st)
{
    taut__space_cuda.release(st->place, st->mean);
    taut__free(st);
}

static taut_status state_create(const taut_stage *s, const taut_tensor *t, uint64_t shared_seed, taut_place place,
                                taut_codec_state **out)
{
    void *mean;
    (void)shared_seed;
    taut_codec_state *st = taut__alloc(1, sizeof *st);
    if (!st) return taut__fail(TAUT_E_NOMEM, "randk: out of memory");
    st->place = place;
    st->n = taut__topk_kept(s->value[DENSITY], t->elems);
    taut_status status = taut__space_cuda.alloc(place, st->n * sizeof(float), &mean);
    st->mean = mean;
    if (status != TAUT_OK) taut__free(st);
    else *out = st;
    return status;
}

static taut_status state_save(const taut_codec_state *st, void *dst, size_t cap, size_t *len)
{
    (void)st, (void)dst, (void)cap;
    *len = 0;
    return TAUT_OK;
}

static taut_status state_load(taut_codec_state *st, const void *src, size_t len)
{
    (void)st, (void)src;
    return len == 0 ? TAUT_OK : taut__fail(TAUT_E_CORRUPT, "randk state: %zu bytes, must be 0", len);
}

extern const taut_codec_ops taut__randk_device;
const taut_codec_ops        taut__randk_device = {
           .enqueue = {[TAUT_OP_ENCODE] = enqueue,
                       [TAUT_OP_ENCODE_EXACT] = enqueue,
                       [TAUT_OP_DECODE] = enqueue,
                       [TAUT_OP_DECODE_ADD] = enqueue,
                       [TAUT_OP_PROJECT] = enqueue,
                       [TAUT_OP_ABSORB] = absorb,
                       [TAUT_OP_RECONSTRUCT] = reconstruct},
           .state_create = state_create,
           .state_destroy = state_destroy,
           .state_save = state_save,
           .state_load = state_load,
};
