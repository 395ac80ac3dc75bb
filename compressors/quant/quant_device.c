/* quant_device.c : quant on a CUDA device. */
#include "../cuda/pieces.h"
#include "quant_bucket.h"

static taut_status run(const taut__launch *l)
{
    quant_params p = taut__quant_params(l->stage);
    if (l->op == TAUT_OP_ENCODE) return l->c->quant->encode(&l->b, &p, l->place.stream);
    return l->c->quant->decode(&l->b, &p, l->op == TAUT_OP_DECODE_ADD, l->place.stream);
}

static taut_status fill(const taut__launch *l, const taut_piece *p, taut__cuda_job *j)
{
    (void)l;
    size_t bucket = taut__quant_params(taut__stage(&p->call)).bucket;
    if (j->first % bucket == 0) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "quant: slice begins at element %llu: must be a multiple of bucket=%zu",
                      (unsigned long long)j->first, bucket);
}

/* Units are buckets: of one size in a launch, but not in all. */
static taut_status enqueue(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place place)
{
    for (size_t i = 0, m; i < n; i += m) {
        taut__device_codec device = {
            .unit = taut__quant_params(taut__stage(&pieces[i].call)).bucket, .fill = fill, .run = run};
        for (m = 1; i + m < n && taut__quant_params(taut__stage(&pieces[i + m].call)).bucket == device.unit;) m++;
        TAUT_TRY(taut__launch_pieces(&device, op, codec, pieces + i, m, place));
    }
    return TAUT_OK;
}

extern const taut_codec_ops taut__quant_device;
const taut_codec_ops        taut__quant_device = {
           .enqueue = {[TAUT_OP_ENCODE] = enqueue, [TAUT_OP_DECODE] = enqueue, [TAUT_OP_DECODE_ADD] = enqueue},
};
