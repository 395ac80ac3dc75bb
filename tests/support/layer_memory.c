/* layer_memory.c : see layer_memory.h. */
#include "layer_memory.h"

enum { SLICE = 1 << 18 }; /* floats of slice_kib's default */

/* slots * (p * sub numbers, 4p requests) and a scratch of 4 KiB at most */
static size_t raw_bytes(size_t n, int ranks, size_t block)
{
    taut_partition part = taut__partition(n, ranks, block, SLICE);
    size_t         p = (size_t)ranks, slots = taut__min(part.slices, TAUT_SLOTS);
    return slots * p * (part.sub * sizeof(float) + 4 * sizeof(taut_request)) + taut__min(4 * n, TAUT_RAW_DOUBLING);
}

static size_t frame_bytes(const layer_memory *m, size_t n)
{
    return taut__round_up(taut__frame_capacity(m->wire, m->tensor, n), 64);
}

size_t layer_memory_factor(const layer_memory *m)
{
    const taut_codec_linear *linear = taut__spec_codec(m->wire)->linear;
    size_t                   most = 0;
    for (int k = 0; linear && k < linear->rounds; k++) most = taut__max(most, linear->factor_elems(&m->wire->stage[0], m->tensor, k));
    return most;
}

static size_t gather_bytes(const layer_memory *m, size_t sub)
{
    const taut_codec *codec = taut__spec_codec(m->wire);
    size_t            n = m->tensor->elems, p = (size_t)m->ranks;
    size_t            each = codec->caps & TAUT_CAP_SLICEABLE ? taut__min(n, sub) : n, slots = taut__slots_for(taut__ceil_div(n, each), 1);
    return slots * (p * (frame_bytes(m, each) + 2 * sizeof(taut_request)) + (codec->integer ? each * sizeof(int32_t) : 0));
}

size_t layer_memory_bytes(const layer_memory *m)
{
    const taut_codec *codec = taut__spec_codec(m->wire);
    size_t            n = m->tensor->elems, p = (size_t)m->ranks, factor = layer_memory_factor(m);
    taut_partition    part = taut__partition(n, m->ranks, m->block, SLICE / TAUT_FINER);
    size_t            slots = taut__slots_for(part.slices, 1), frame = frame_bytes(m, part.sub), sum = part.sub * sizeof(float);
    size_t            bytes = m->residual ? n * sizeof(float) : 0;
    if (codec->caps & TAUT_CAP_SHARED) bytes += raw_bytes(n, m->ranks, m->block); /* for tensors with NaN or Inf */
    if (codec->survey) bytes += 3 * TAUT_STATS_MAX * sizeof(double);
    if (m->via == &taut__sra) bytes += slots * ((2 * p + 1) * frame + sum + p * (4 * sizeof(taut_request) + 1));
    if (m->via == &taut__ring) bytes += slots * (4 * frame + sum);
    if (m->via == &taut__gather) bytes += gather_bytes(m, part.sub);
    if (m->via == &taut__native) bytes += raw_bytes(n, m->ranks, m->block) + (codec->integer ? n * sizeof(int32_t) : 0);
    if (m->via == &taut__linear) bytes += factor * sizeof(float) + raw_bytes(factor, m->ranks, 64);
    return bytes;
}
