/* topk_device.c : topk on a CUDA device. A calibration's two words are a taut__topk_choice as kernels read it. */
#include "../cuda/pieces.h"

_Static_assert(sizeof(taut__topk_choice) == 2 * sizeof(uint64_t), "words of a calibration");

static double density(const taut__launch *l) { return l->stage->value[0]; }

/* Elements that any job of the launch may keep: all of them in sums, and under a threshold of the whole tensor. */
static bool any(const taut__launch *l) { return l->op != TAUT_OP_ENCODE || l->pieces[0].call.calibration; }

static taut_status fill(const taut__launch *l, const taut_piece *p, taut__cuda_job *j)
{
    const taut_calibration *c = l->op == TAUT_OP_ENCODE ? p->call.calibration : NULL;
    if (l->op == TAUT_OP_ENCODE && !c != !l->pieces[0].call.calibration)
        return taut__fail(TAUT_E_INVALID, "topk: encode: pieces with and without a calibration in one batch");
    j->choice = c ? (const taut__topk_choice *)(const void *)c->u : NULL;
    if (l->op != TAUT_OP_CALIBRATE) return TAUT_OK;
    if (!p->src) return taut__fail(TAUT_E_INVALID, "topk: calibrate: needs the whole tensor");
    j->n = p->call.tensor->elems, j->first = 0, j->err = NULL;
    return TAUT_OK;
}

static size_t work(taut__launch *l)
{
    uint32_t jobs = l->b.count;
    switch (l->op) {
    case TAUT_OP_COLLECT_STATS: return 0;
    case TAUT_OP_CALIBRATE:
        l->list = taut__cuda_list(l->jobs, jobs, density(l), false);
        return l->c->topk->choose_work(l->b.units, l->list, jobs);
    default: l->list = taut__cuda_list(l->jobs, jobs, density(l), any(l));
    }
    bool encodes = l->op == TAUT_OP_ENCODE || l->op == TAUT_OP_ENCODE_EXACT;
    return encodes ? l->c->topk->encode_work(l->b.units, l->list, jobs, !any(l))
                   : l->c->topk->decode_work(l->list, jobs);
}

static taut_status run(const taut__launch *l)
{
    const taut__cuda_topk *topk = l->c->topk;
    taut__cuda_stream      s = l->place.stream;
    switch (l->op) {
    case TAUT_OP_COLLECT_STATS: return topk->count(&l->b, s);
    case TAUT_OP_CALIBRATE: return topk->choose(&l->b, density(l), l->list, s);
    case TAUT_OP_ENCODE: return topk->encode(&l->b, density(l), false, l->list, s);
    case TAUT_OP_ENCODE_EXACT: return topk->encode(&l->b, density(l), true, l->list, s);
    default: return topk->decode(&l->b, l->op == TAUT_OP_DECODE_ADD, l->list, s);
    }
}

static const taut__device_codec device = {.unit = TAUT__CUDA_TILE, .fill = fill, .work = work, .run = run};

static taut_status enqueue(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place place)
{
    return taut__launch_pieces(&device, op, codec, pieces, n, place);
}

extern const taut_codec_ops taut__topk_device;
const taut_codec_ops        taut__topk_device = {
           .enqueue = {[TAUT_OP_COLLECT_STATS] = enqueue,
                       [TAUT_OP_CALIBRATE] = enqueue,
                       [TAUT_OP_ENCODE] = enqueue,
                       [TAUT_OP_ENCODE_EXACT] = enqueue,
                       [TAUT_OP_DECODE] = enqueue,
                       [TAUT_OP_DECODE_ADD] = enqueue},
};
