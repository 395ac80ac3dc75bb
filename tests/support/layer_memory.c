/* layer_memory.c : see layer_memory.h. */
#include "layer_memory.h"
#include <math.h>

enum { SLICE = 1 << 18 }; /* floats of slice_kib's default */

typedef struct slots {
    size_t bytes, count;
} slots;

static size_t requests(size_t n) { return taut__round_up(n * sizeof(taut__request), TAUT_LINE); }

/* contributions of the others, straight into the sum, or all of a small sum */
static slots raw_slots(size_t n, int ranks, size_t block)
{
    taut__partition part = taut__partition_of(n, ranks, block, SLICE);
    size_t          p = (size_t)ranks, bytes = requests(4 * p) + (p - 1) * part.sub * sizeof(float);
    return (slots){taut__max(bytes, taut__min(4 * n, TAUT_RAW_DOUBLING)), taut__min(part.slices, TAUT_SLOTS)};
}

static size_t frame_bytes(const layer_memory *m, size_t n)
{
    return taut__round_up(taut__frame_capacity(m->wire, m->tensor, n), TAUT_LINE);
}

size_t layer_memory_factor(const layer_memory *m)
{
    const taut_codec_linear *linear = taut__spec_codec(m->wire)->linear;
    size_t                   most = 0;
    for (int k = 0; linear && k < linear->rounds; k++)
        most = taut__max(most, linear->factor_elems(&m->wire->stage[0], m->tensor, k));
    return most;
}

static slots gather_slots(const layer_memory *m, size_t sub)
{
    const taut_codec *codec = taut__spec_codec(m->wire);
    size_t n = m->tensor->elems, p = (size_t)m->ranks, each = codec->caps & TAUT_CAP_SLICEABLE ? taut__min(n, sub) : n;
    size_t codes = codec->caps & TAUT_CAP_INTEGER ? taut__round_up(each * sizeof(int32_t), TAUT_LINE) : 0;
    return (slots){requests(2 * p) + p * frame_bytes(m, each) + codes, taut__slots_for(taut__ceil_div(n, each), 1)};
}

static slots slots_of(const layer_memory *m)
{
    const taut_codec *codec = taut__spec_codec(m->wire);
    size_t            p = (size_t)m->ranks;
    taut__partition   part = taut__partition_of(m->tensor->elems, m->ranks, m->block, SLICE / TAUT_CODED_SLICE_DIV);
    size_t            count = taut__slots_for(part.slices, 1), frame = frame_bytes(m, part.sub),
           sum = codec->caps & TAUT_CAP_SPARSE ? frame : 0;
    if (m->via == &taut__sra)
        return (slots){requests(4 * p) + taut__round_up(p, TAUT_LINE) + 2 * (p - 1) * frame + sum, count};
    if (m->via == &taut__ring) return (slots){requests(6) + 4 * frame, taut__min(count, TAUT_RING_TAGS)};
    if (m->via == &taut__gather) return gather_slots(m, part.sub);
    if (m->via == &taut__linear) return raw_slots(layer_memory_factor(m), m->ranks, 64);
    return raw_slots(m->tensor->elems, m->ranks, m->block);
}

/* Of the aggregate: at most 3% of the bytes of 2 bits per element (1.2% from 4 Mi elements on), 20 bytes for a block of 8 in every round of the exchange. A block holds its place
 * and three times its floats, and its part of the exchange as floats, and what is sent and received of it, most of it in few bytes. */
size_t layer_memory_samples(const layer_memory *m)
{
    double p = m->ranks, n = (double)m->tensor->elems, rounds = ceil(log2(p)),
           coded = n / 4 * (p == 2 ? 1 : 2 * (p - 1) / p);
    if (m->ranks < 2 || taut__spec_caps(m->wire) & TAUT_CAP_LOSSLESS) return 0;
    double blocks = fmax((n < 1 << 22 ? 0.03 : 0.012) * coded / (rounds * 20), 28);
    return (size_t)fmin(fmin(blocks, 4096) + 1, ceil(n / 8)) *
           (8 + 3 * 32 + 40 + 2 * 20 + 24); /* and an eighth, for steps with more */
}

layer_bytes layer_memory_bytes(const layer_memory *m)
{
    const taut_codec *codec = taut__spec_codec(m->wire);
    size_t            n = m->tensor->elems;
    slots             s = slots_of(m);
    layer_bytes       b = {.own = s.bytes, .borrows = (s.count - 1) * taut__arena_block(s.bytes)};
    b.feedback_on += layer_memory_samples(m);
    if (m->residual) b.feedback_on += n * sizeof(float);
    if (codec->n_stats) b.feedback_on += 3 * TAUT_STATS_MAX * sizeof(double);
    if (m->via == &taut__native && codec->caps & TAUT_CAP_INTEGER) b.feedback_on += n * sizeof(int32_t);
    if (m->via == &taut__linear) b.feedback_on += layer_memory_factor(m) * sizeof(float);
    return b;
}
