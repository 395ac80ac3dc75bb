/* half_device.c : none, fp16 and bf16 on a CUDA device. */
#include "../cuda/pieces.h"
#include <string.h>

static taut_dtype kind_of(const taut_codec *codec)
{
    return strcmp(codec->name, "fp16") == 0 ? TAUT_F16 : strcmp(codec->name, "bf16") == 0 ? TAUT_BF16 : TAUT_F32;
}

static taut_status run(const taut__launch *l)
{
    const taut__cuda_vec *vec = l->c->vec;
    taut_dtype            kind = kind_of(l->codec);
    bool                  clamps = kind != TAUT_F32 && l->stage->value[0] == 0;
    if (l->op == TAUT_OP_ENCODE) return vec->encode(&l->b, kind, clamps, l->place.stream);
    return vec->decode(&l->b, kind, l->op == TAUT_OP_DECODE_ADD, l->place.stream);
}

static const taut__device_codec device = {.unit = TAUT__CUDA_TILE, .run = run};

static taut_status enqueue(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place place)
{
    return taut__launch_pieces(&device, op, codec, pieces, n, place);
}

extern const taut_codec_ops taut__cast_device;
const taut_codec_ops        taut__cast_device = {
           .enqueue = {[TAUT_OP_ENCODE] = enqueue, [TAUT_OP_DECODE] = enqueue, [TAUT_OP_DECODE_ADD] = enqueue},
};
