/* grid_device.c : grid on a CUDA device. What calibrate finds stays there: the step as a float that kernels read, and whether floats
 * travel as they are. The search for the exact step of one tensor alone is the host's. */
#include "../cuda/pieces.h"
#include "grid_payload.h"

enum { TOGETHER = 264 }; /* chunks encoded at once: two per multiprocessor of an H100 */

static taut_status need_step(const taut__launch *l, const taut_piece *p, taut__cuda_job *j)
{
    grid_aim aim = taut__grid_aim(taut__stage(&p->call));
    j->given = aim.given ? aim.step : 0;
    if (p->call.calibration || aim.given) return TAUT_OK;
    return taut__fail(TAUT_E_UNSUPPORTED,
                      "grid: %s: on a device the step must be agreed (collect_stats, calibrate) or given (step=)",
                      taut__op_name(l->op));
}

static taut_status fill(const taut__launch *l, const taut_piece *p, taut__cuda_job *j)
{
    if (p->call.first % GRID_BLOCK)
        return taut__fail(TAUT_E_INVALID, "grid: slice begins at element %zu: must be a multiple of %d", p->call.first,
                          GRID_BLOCK);
    switch (l->op) {
    case TAUT_OP_COLLECT_STATS:
    case TAUT_OP_REBASE:
    case TAUT_OP_ADAPT: return TAUT_OK;
    case TAUT_OP_RESHAPED: return p->outcome ? TAUT_OK : taut__fail(TAUT_E_INVALID, "grid: reshaped: outcome is NULL");
    case TAUT_OP_CALIBRATE:
        if (p->ranks != 1 || !p->src || taut__grid_aim(taut__stage(&p->call)).given) return TAUT_OK;
        return taut__fail(TAUT_E_UNSUPPORTED,
                          "grid: calibrate: the exact step of one tensor is searched on the host: src must be NULL");
    case TAUT_OP_DECODE:
    case TAUT_OP_DECODE_ADD: j->raw = NULL; return TAUT_OK; /* the payload says it */
    case TAUT_OP_ENCODE: j->codes = NULL; return need_step(l, p, j);
    default: return need_step(l, p, j);
    }
}

static bool rans(const taut__launch *l) { return l->stage->value[GRID_KEY_CODE] == GRID_RANS; }

static size_t work(taut__launch *l)
{
    switch (l->op) {
    case TAUT_OP_COLLECT_STATS: return l->c->stats->work(l->b.units, l->b.count);
    case TAUT_OP_ENCODE:
    case TAUT_OP_PACK:
    case TAUT_OP_SUM_PACK:
    case TAUT_OP_QUANTIZE_PACK: return l->c->grid->encode_work(l->b.units, TOGETHER, rans(l));
    default: return 0;
    }
}

static bool uses_tables(taut__op op)
{
    return op == TAUT_OP_ENCODE || op == TAUT_OP_PACK || op == TAUT_OP_QUANTIZE_PACK || op == TAUT_OP_DECODE ||
           op == TAUT_OP_DECODE_ADD || op == TAUT_OP_UNPACK_ADD || op == TAUT_OP_UNPACK_VALUES;
}

static taut_status run_stats(const taut__launch *l)
{
    grid_aim aim = taut__grid_aim(l->stage);
    switch (l->op) {
    case TAUT_OP_COLLECT_STATS: return l->c->stats->collect(&l->b, l->pieces[0].call.brief, l->place.stream);
    case TAUT_OP_CALIBRATE: return l->c->stats->calibrate(&l->b, &aim, l->pieces[0].ranks, l->place.stream);
    case TAUT_OP_ADAPT: return l->c->stats->adapt(&l->b, &aim, l->pieces[0].ranks, l->place.stream);
    case TAUT_OP_RESHAPED: return l->c->stats->reshaped(&l->b, &aim, l->place.stream);
    default: return l->c->stats->rebase(&l->b, l->place.stream);
    }
}

static taut_status run(const taut__launch *l)
{
    const taut__cuda_grid *grid = l->c->grid;
    taut__cuda_stream      s = l->place.stream;
    double                 dead = grid_dead(l->stage);
    const void            *tables = NULL;
    taut__cuda_batch       b = l->b;
    if (l->op <= TAUT_OP_REBASE) return run_stats(l);
    if (uses_tables(l->op) && rans(l))
        TAUT_TRY(taut__device_table(l->c, l->place, taut__grid_tables(), grid->table_bytes, &tables));
    switch (l->op) {
    case TAUT_OP_ENCODE: return grid->encode(&b, dead, INT32_MAX, tables, s);
    case TAUT_OP_DECODE: return grid->decode(&b, false, tables, s);
    case TAUT_OP_DECODE_ADD: return grid->decode(&b, true, tables, s);
    case TAUT_OP_QUANTIZE: return grid->quantize(&b, dead, l->pieces[0].limit, s);
    case TAUT_OP_PACK: return grid->pack(&b, dead, tables, s);
    case TAUT_OP_SUM_PACK: return grid->sum_pack(&b, dead, s);
    case TAUT_OP_QUANTIZE_PACK: return grid->encode(&b, dead, l->pieces[0].limit, tables, s);
    case TAUT_OP_UNPACK_ADD: return grid->unpack_add(&b, tables, s);
    case TAUT_OP_UNPACK_VALUES: return grid->unpack_values(&b, tables, s);
    default: b.factor = l->pieces[0].scale_by; return grid->dequantize(&b, s);
    }
}

static const taut__device_codec device = {.unit = TAUT__CUDA_CHUNK, .fill = fill, .work = work, .run = run};

static taut_status enqueue(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place place)
{
    return taut__launch_pieces(&device, op, codec, pieces, n, place);
}

/* Code rans, and more peers than one pass takes: each is added, then the sum is packed. */
static taut_status sum_in_turn(const taut_codec *codec, const taut_piece *p, taut_place place)
{
    taut_piece one = *p;
    if (!p->codes) return taut__fail(TAUT_E_INVALID, "grid: sum_pack: codes is NULL: must be memory for the sum");
    for (uint32_t k = 0; k < p->peer_count; k++) {
        one.payload = (uint8_t *)(uintptr_t)p->peers[k];
        one.outcome = (taut_outcome *)(uintptr_t)p->peer_bytes[k];
        TAUT_TRY(enqueue(TAUT_OP_UNPACK_ADD, codec, &one, 1, place));
    }
    return enqueue(TAUT_OP_PACK, codec, p, 1, place);
}

static taut_status sum_pack(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place place)
{
    for (size_t i = 0, m; i < n; i += m) {
        bool fused = pieces[i].peer_count <= TAUT__GRID_PEERS &&
                     taut__stage(&pieces[i].call)->value[GRID_KEY_CODE] == GRID_PACKED;
        for (m = 1; fused && i + m < n && pieces[i + m].peer_count == pieces[i].peer_count;) m++;
        TAUT_TRY(fused ? enqueue(op, codec, pieces + i, m, place) : sum_in_turn(codec, &pieces[i], place));
    }
    return TAUT_OK;
}

extern const taut_codec_ops taut__grid_device;
const taut_codec_ops        taut__grid_device = {
           .enqueue = {[TAUT_OP_COLLECT_STATS] = enqueue,
                       [TAUT_OP_CALIBRATE] = enqueue,
                       [TAUT_OP_ADAPT] = enqueue,
                       [TAUT_OP_RESHAPED] = enqueue,
                       [TAUT_OP_REBASE] = enqueue,
                       [TAUT_OP_ENCODE] = enqueue,
                       [TAUT_OP_DECODE] = enqueue,
                       [TAUT_OP_DECODE_ADD] = enqueue,
                       [TAUT_OP_QUANTIZE] = enqueue,
                       [TAUT_OP_PACK] = enqueue,
                       [TAUT_OP_QUANTIZE_PACK] = enqueue,
                       [TAUT_OP_UNPACK_ADD] = enqueue,
                       [TAUT_OP_UNPACK_VALUES] = enqueue,
                       [TAUT_OP_SUM_PACK] = sum_pack,
                       [TAUT_OP_DEQUANTIZE] = enqueue},
};
