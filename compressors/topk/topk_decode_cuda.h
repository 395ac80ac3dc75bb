/* topk_decode_cuda.h : sparse payloads on a GPU, taken apart: the table's sums give every group its place and first position; a warp
 * decodes a group. Where groups are about as long as one another, a warp also sets its group's span to 0 first, while that is in the
 * cache; else a pass before them does. */
#ifndef TAUT_TOPK_DECODE_CUDA_H
#define TAUT_TOPK_DECODE_CUDA_H

#include "topk_cuda.h"

enum {
    OPENERS = 512,      /* threads that sum up a table, */
    ENTRIES = 4,        /* entries of it at a time each */
    SPAN_MAX = 1 << 18, /* elements that a warp sets to 0 at most, */
    SPAN_SHARE = 4,     /* and of the mean span */
    PADDED = GROUP + GROUP / PER_LANE,
};
struct opened { /* of one job, on the device */
    uint64_t count, groups, table;
    uint32_t raw, good;
    uint32_t fills; /* groups set their spans to 0, the last one the rest, too */
};
struct reading {
    opened   *open;
    uint64_t *at, *first; /* per group */
};
enum action { SET, ADD, CLEAR };

static __device__ __forceinline__ uint64_t span_of(uint64_t entry)
{
    return entry & ((UINT64_C(1) << TAUT_SPARSE_SPAN_BITS) - 1);
}
static __device__ __forceinline__ uint32_t words_of(uint64_t entry)
{
    return (uint32_t)(entry >> TAUT_SPARSE_SPAN_BITS) & ((1u << TAUT_SPARSE_WORDS_BITS) - 1);
}
static __device__ __forceinline__ uint32_t rice_of(uint64_t entry)
{
    return (uint32_t)(entry >> (TAUT_SPARSE_SPAN_BITS + TAUT_SPARSE_WORDS_BITS));
}
static __device__ __forceinline__ uint64_t entry_of(const taut__cuda_job *j, uint64_t table, uint64_t g)
{
    const uint32_t *e = (const uint32_t *)(j->payload + table + TAUT_SPARSE_ENTRY * g);
    return e[0] | (uint64_t)e[1] << 32;
}

/* The sums of a job's table, groups > 0, which begins at `table`: every group's place and first position. Returns whether they can be true;
 * *longest: elements of the longest span, and behind the last. By a block, same answer in all threads. */
static __device__ bool sum_table(const taut__cuda_job *j, const reading &r, uint64_t base, uint64_t table,
                                 uint64_t groups, uint64_t count, uint64_t *longest)
{
    uint64_t at = TAUT_SPARSE_HEADER, first = 0, most = 0;
    for (uint64_t from = 0; from < groups; from += ENTRIES * OPENERS) {
        uint64_t i0 = from + ENTRIES * threadIdx.x, bytes[ENTRIES], span[ENTRIES], all_bytes = 0, all_span = 0, sum,
                 ends;
        bool fits = true;
        TAUT_UNROLL
        for (int q = 0; q < ENTRIES; q++) {
            uint64_t i = i0 + (uint64_t)q, entry = i < groups ? entry_of(j, table, i) : 0,
                     fill = i < groups ? taut__min(GROUP, count - i * GROUP) : 0;
            bytes[q] = 4 * (words_of(entry) + taut__sparse_words(rice_of(entry) * fill) + fill);
            span[q] = span_of(entry), most = taut__max(most, span[q]);
            fits = fits && rice_of(entry) <= TAUT_SPARSE_RICE_MAX && span[q] <= j->n;
            all_bytes += bytes[q], all_span += span[q];
        }
        if (__syncthreads_or(!fits)) return false;
        uint64_t before = at + block_scan(all_bytes, &sum), before_span = first + block_scan(all_span, &ends);
        TAUT_UNROLL
        for (int q = 0; q < ENTRIES; q++) {
            if (i0 + (uint64_t)q < groups)
                r.at[base + i0 + (uint64_t)q] = before, r.first[base + i0 + (uint64_t)q] = before_span;
            before += bytes[q], before_span += span[q];
        }
        at += sum, first += ends;
        if (at > table || first > j->n) return false;
    }
    *longest = taut__max(most, j->n - first);
    return at == table;
}

/* A block per job: the header, and the sums of its table. */
static __global__ void __launch_bounds__(OPENERS) topk_open(const __grid_constant__ taut__cuda_batch batch, reading r)
{
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    opened               *o = r.open + blockIdx.x;
    const uint64_t       *word = (const uint64_t *)j->payload;
    uint64_t              len = *j->len, groups = 0, longest = 0;
    bool good = len >= TAUT_SPARSE_HEADER && word[0] <= TAUT_SPARSE_GROUPS && word[2] <= j->n, raw = false;
    if (good) {
        raw = word[0] == TAUT_SPARSE_RAW;
        groups = raw ? 0 : (word[2] + GROUP - 1) / GROUP;
        good = raw ? word[2] == j->n && len - TAUT_SPARSE_HEADER == 4 * j->n
                   : (len - TAUT_SPARSE_HEADER) / TAUT_SPARSE_ENTRY >= groups && len % 4 == 0;
    }
    uint64_t table = good ? len - TAUT_SPARSE_ENTRY * groups : 0;
    if (good && !raw) good = sum_table(j, r, group_base(batch, j), table, groups, word[2], &longest);
    bool fills = good && groups && !__syncthreads_or(longest > taut__min(SPAN_MAX, SPAN_SHARE * (j->n / groups)));
    if (threadIdx.x != 0) return;
    o->count = good ? word[2] : 0, o->groups = good ? groups : 0, o->table = table, o->raw = raw, o->good = good;
    o->fills = fills;
    if (!good) taut_flag(j, TAUT__CUDA_CORRUPT);
}

/* dst = 0 where decoding sets and its groups do not; the floats of a raw payload. */
static __global__ void __launch_bounds__(THREADS)
    topk_base(const __grid_constant__ taut__cuda_batch batch, reading r, action act)
{
    for (uint64_t u = blockIdx.x, unit; u < batch.units; u += gridDim.x) {
        const taut__cuda_job *j = taut_job_of(batch, u, &unit);
        opened               *o = r.open + job_number(batch, j);
        if (!o->good || (!o->raw && (act != SET || o->fills))) continue;
        TAUT_UNROLL
        for (int s = 0; s < STEPS; s++) {
            uint64_t i = place(unit, s);
            float4   v = make_float4(0, 0, 0, 0);
            if (i >= j->n) continue;
            if (o->raw && act != CLEAR) v = taut_load4((const float *)(j->payload + TAUT_SPARSE_HEADER), i, j->n);
            if (o->raw && act == ADD) v = taut_add4(taut_load4_as(j->dst, batch.dtype, i, j->n), v);
            if (o->raw && batch.factor != 1) v = taut_scale4(v, batch.factor);
            taut_store4_as(j->dst, batch.dtype, i, j->n, v);
        }
    }
}

/* Elements from..to of dst = 0. By a warp. */
static __device__ __forceinline__ void zero_span(void *dst, taut_dtype d, uint64_t from, uint64_t to)
{
    uint64_t elem = d == TAUT_F32 ? 4 : 2, bytes = (to - from) * elem;
    uint8_t *p = (uint8_t *)dst + from * elem;
    uint64_t head = taut__min((uint64_t)(-(uintptr_t)p & 15), bytes), body = (bytes - head) / 16 * 16;
    if (2 * TAUT_LANE < head) *(uint16_t *)(p + 2 * TAUT_LANE) = 0;
    for (uint64_t i = head + 16 * TAUT_LANE; i < head + body; i += 16 * TAUT_WARP)
        *(float4 *)(p + i) = make_float4(0, 0, 0, 0);
    if (2 * TAUT_LANE < bytes - head - body) *(uint16_t *)(p + head + body + 2 * TAUT_LANE) = 0;
}

static __device__ __forceinline__ float element(const taut__cuda_batch &batch, const taut__cuda_job *j, uint64_t i)
{
    if (batch.dtype == TAUT_F32) return ((const float *)j->dst)[i];
    uint16_t h = ((const uint16_t *)j->dst)[i];
    return batch.dtype == TAUT_F16 ? taut__from_f16(h) : taut__from_bf16(h);
}
static __device__ __forceinline__ void set_element(const taut__cuda_batch &batch, const taut__cuda_job *j, uint64_t i,
                                                   float v, action act)
{
    if (batch.factor != 1 && act != CLEAR) v = v * batch.factor;
    if (batch.dtype == TAUT_F32) ((float *)j->dst)[i] = v;
    else ((uint16_t *)j->dst)[i] = batch.dtype == TAUT_F16 ? taut__to_f16(v) : taut__to_bf16(v);
}

/* The b <= 32 low bits of the group's gap i; 0 if b is 0, and then nothing is read. */
static __device__ __forceinline__ uint32_t low_bits(const uint32_t *low, uint32_t i, uint32_t b)
{
    if (b == 0) return 0;
    uint32_t bit = i * b;
    uint64_t x = low[bit / 32] >> bit % 32;
    if (bit % 32 + b > 32) x |= (uint64_t)low[bit / 32 + 1] << (32 - bit % 32);
    return (uint32_t)(x & ((UINT64_C(1) << b) - 1));
}

/* Where element i of a group has its slot: sixteen neighbours are one lane's, and lanes do not meet in a bank. */
static __device__ __forceinline__ uint32_t slot_of(uint32_t i) { return i + i / PER_LANE; }

/* Where the ones of a group's unary words are, to its slots. Returns how many there are, *last: the bit behind the last. By a warp. */
static __device__ __forceinline__ uint32_t find_ones(const uint32_t *in, uint32_t words, uint64_t *slot, uint32_t *last)
{
    uint32_t found = 0;
    *last = 0;
    for (uint32_t w0 = 0; w0 < words; w0 += TAUT_WARP) {
        uint32_t w = w0 + TAUT_LANE, bits = w < words ? in[w] : 0, mine = (uint32_t)__popc(bits),
                 sum = taut_warp_scan(mine), i = found + sum - mine;
        for (uint32_t m = bits; m; m &= m - 1, i++)
            if (i < GROUP) slot[slot_of(i)] = 32 * w + (uint32_t)__ffs((int)m) - 1;
        found += __shfl_sync(TAUT_ALL, sum, 31);
        *last = max(*last, __reduce_max_sync(TAUT_ALL, bits ? 32 * w + 32 - (uint32_t)__clz((int)bits) : 0u));
    }
    __syncwarp();
    return found;
}

/* From ones to positions counted from the group's first element, in the slots. Returns whether they end with the span. By a warp. */
static __device__ __forceinline__ bool find_positions(const uint32_t *low, uint32_t b, uint32_t fill, uint64_t span,
                                                      uint64_t *slot)
{
    uint32_t lows[PER_LANE];
    uint64_t sum = 0;
    slot += slot_of(TAUT_LANE * PER_LANE);
    TAUT_UNROLL
    for (uint32_t q = 0; q < PER_LANE; q++) {
        uint32_t i = TAUT_LANE * PER_LANE + q;
        sum += lows[q] = i < fill ? low_bits(low, i, b) : 0;
    }
    uint64_t before = taut_warp_scan(sum) - sum;
    bool     ends = true;
    TAUT_UNROLL
    for (uint32_t q = 0; q < PER_LANE; q++) {
        uint32_t i = TAUT_LANE * PER_LANE + q;
        if (i >= fill) continue;
        before += lows[q];
        slot[q] = ((slot[q] - i) << b) + before + i;
        if (i == fill - 1) ends = slot[q] + 1 == span;
    }
    __syncwarp();
    return __all_sync(TAUT_ALL, ends);
}

/* The group's values to where they belong. By a warp. */
static __device__ __forceinline__ void apply_group(const taut__cuda_batch &batch, const taut__cuda_job *j,
                                                   const uint32_t *val, uint32_t fill, uint64_t first,
                                                   const uint64_t *slot, action act)
{
    float v[PER_LANE];
    TAUT_UNROLL
    for (uint32_t q = 0; q < PER_LANE; q++) {
        uint32_t i = q * TAUT_WARP + TAUT_LANE;
        v[q] = act != CLEAR && i < fill ? __uint_as_float(val[i]) : 0;
    }
    if (act == ADD) {
        TAUT_UNROLL
        for (uint32_t q = 0; q < PER_LANE; q++) {
            uint32_t i = q * TAUT_WARP + TAUT_LANE;
            if (i < fill) v[q] = element(batch, j, first + slot[slot_of(i)]) + v[q];
        }
    }
    TAUT_UNROLL
    for (uint32_t q = 0; q < PER_LANE; q++) {
        uint32_t i = q * TAUT_WARP + TAUT_LANE;
        if (i < fill) set_element(batch, j, first + slot[slot_of(i)], v[q], act);
    }
}

/* Group u of the launch. slot: PADDED words of shared memory. By a warp. */
static __device__ __forceinline__ void decode_group(const taut__cuda_batch &batch, const reading &r, uint64_t u,
                                                    action act, uint64_t *slot)
{
    uint64_t              g;
    const taut__cuda_job *j = job_with<group_base>(batch, u, &g);
    if (!j) return;
    opened *o = r.open + job_number(batch, j);
    if (!o->good || g >= o->groups) return;
    const uint32_t *in = (const uint32_t *)(j->payload + r.at[u]);
    uint64_t        entry = entry_of(j, o->table, g), span = span_of(entry), first = r.first[u];
    uint32_t words = words_of(entry), b = rice_of(entry), fill = (uint32_t)taut__min(GROUP, o->count - g * GROUP), last,
             found = find_ones(in, words, slot, &last);
    const uint32_t *low = in + words, *val = low + taut__sparse_words((uint64_t)b * fill);
    bool            good = found == fill && words == (last + 31) / 32;
    if (act == SET && o->fills) zero_span(j->dst, batch.dtype, first, g + 1 == o->groups ? j->n : first + span);
    if (good) good = find_positions(low, b, fill, span, slot) && span <= j->n - first;
    if (good) apply_group(batch, j, val, fill, first, slot, act);
    else if (TAUT_LANE == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
    __syncwarp();
}

/* Groups of the whole launch, as many as there could be: those that there are come first in each job. */
static __global__ void __launch_bounds__(THREADS, 4)
    topk_decode(const __grid_constant__ taut__cuda_batch batch, reading r, action act, uint64_t groups)
{
    TAUT_SHARED(uint64_t, slots, WARPS * PADDED);
    uint64_t *slot = slots + threadIdx.x / TAUT_WARP * PADDED;
    for (uint64_t u = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP; u < groups;
         u += (uint64_t)gridDim.x * WARPS)
        decode_group(batch, r, u, act, slot);
}

#endif
