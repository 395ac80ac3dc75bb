/* topk_decode_cuda.h : sparse payloads on a GPU, taken apart: the table's sums give every group its place and first position; a warp
 * decodes a group. */
#ifndef TAUT_TOPK_DECODE_CUDA_H
#define TAUT_TOPK_DECODE_CUDA_H

#include "topk_cuda.h"

struct opened { /* of one job, on the device */
    uint64_t count, groups, table;
    uint32_t raw, good;
};
struct reading {
    opened   *open;
    uint64_t *at, *first; /* per group */
};
enum action { SET, ADD, CLEAR };

/* A block per job: the header, and the sums of its table. */
static __global__ void __launch_bounds__(THREADS) topk_open(const __grid_constant__ taut__cuda_batch batch, reading r)
{
    TAUT_SHARED(unsigned long long, sums, 2 * THREADS);
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    opened               *o = r.open + blockIdx.x;
    const uint64_t       *word = (const uint64_t *)j->payload;
    uint64_t              len = *j->len, base = j->n / GROUP, groups = 0;
    bool good = len >= TAUT_SPARSE_HEADER && word[0] <= TAUT_SPARSE_GROUPS && word[2] <= j->n, raw = false;
    base = group_base(batch, j);
    if (good) {
        raw = word[0] == TAUT_SPARSE_RAW;
        groups = raw ? 0 : (word[2] + GROUP - 1) / GROUP;
        good = raw ? word[2] == j->n && len - TAUT_SPARSE_HEADER == 4 * j->n
                   : (len - TAUT_SPARSE_HEADER) / TAUT_SPARSE_ENTRY >= groups && len % 4 == 0;
    }
    uint64_t at = TAUT_SPARSE_HEADER, first = 0, table = good ? len - TAUT_SPARSE_ENTRY * groups : 0;
    for (uint64_t from = 0; good && from < groups; from += THREADS) {
        uint64_t i = from + threadIdx.x, bytes = 0, span = 0;
        bool     fits = true;
        if (i < groups) {
            const uint32_t *e = (const uint32_t *)(j->payload + table + TAUT_SPARSE_ENTRY * i);
            uint64_t        entry = e[0] | (uint64_t)e[1] << 32, fill = taut__min(GROUP, word[2] - i * GROUP);
            uint64_t        b = entry >> (TAUT_SPARSE_SPAN_BITS + TAUT_SPARSE_WORDS_BITS);
            span = entry & ((UINT64_C(1) << TAUT_SPARSE_SPAN_BITS) - 1);
            bytes = 4 * ((entry >> TAUT_SPARSE_SPAN_BITS & ((1u << TAUT_SPARSE_WORDS_BITS) - 1)) +
                         taut__sparse_words(b * fill) + fill);
            fits = b <= TAUT_SPARSE_RICE_MAX && span <= j->n;
        }
        sums[threadIdx.x] = bytes, sums[THREADS + threadIdx.x] = span;
        good = !__syncthreads_or(!fits);
        uint64_t before = 0, before_span = 0, all = 0, all_span = 0;
        for (uint32_t t = 0; t < THREADS; t++) {
            if (t == threadIdx.x) before = all, before_span = all_span;
            all += sums[t], all_span += sums[THREADS + t];
        }
        if (i < groups) r.at[base + i] = at + before, r.first[base + i] = first + before_span;
        at += all, first += all_span;
        good = good && at <= table && first <= j->n;
        __syncthreads();
    }
    if (!raw && good) good = at == table;
    if (threadIdx.x != 0) return;
    o->count = good ? word[2] : 0, o->groups = good ? groups : 0, o->table = table, o->raw = raw, o->good = good;
    if (!good) taut_flag(j, TAUT__CUDA_CORRUPT);
}

/* dst = 0 where decoding sets; the floats of a raw payload. */
static __global__ void __launch_bounds__(THREADS)
    topk_base(const __grid_constant__ taut__cuda_batch batch, reading r, action act)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    opened               *o = r.open + job_number(batch, j);
    if (!o->good || (!o->raw && act != SET)) return;
    for (int s = 0; s < STEPS; s++) {
        uint64_t i = place(unit, s);
        if (i >= j->n) break;
        float4 v = make_float4(0, 0, 0, 0);
        if (o->raw && act != CLEAR) v = taut_load4((const float *)(j->payload + TAUT_SPARSE_HEADER), i, j->n);
        if (o->raw && act == ADD) v = taut_add4(taut_load4_as(j->dst, batch.dtype, i, j->n), v);
        if (o->raw && batch.factor != 1) v = taut_scale4(v, batch.factor);
        taut_store4_as(j->dst, batch.dtype, i, j->n, v);
    }
}

static __device__ __forceinline__ void apply(const taut__cuda_batch &batch, const taut__cuda_job *j, uint64_t i,
                                             float v, action act)
{
    if (act == CLEAR) v = 0;
    if (batch.dtype == TAUT_F32) {
        float *dst = (float *)j->dst + i;
        if (act == ADD) v = *dst + v;
        *dst = batch.factor == 1 ? v : v * batch.factor;
        return;
    }
    uint16_t *dst = (uint16_t *)j->dst + i;
    bool      f16 = batch.dtype == TAUT_F16;
    if (act == ADD) v = (f16 ? taut__from_f16(*dst) : taut__from_bf16(*dst)) + v;
    if (batch.factor != 1) v = v * batch.factor;
    *dst = f16 ? taut__to_f16(v) : taut__to_bf16(v);
}

/* The b low bits of the group's gap i; 0 if b is 0, and then nothing is read. */
static __device__ __forceinline__ uint64_t low_bits(const uint32_t *low, uint32_t i, uint32_t b)
{
    if (b == 0) return 0;
    uint64_t bit = (uint64_t)i * b, x = low[bit / 32] >> bit % 32;
    if (bit % 32 + b > 32) x |= (uint64_t)low[bit / 32 + 1] << (32 - bit % 32);
    return x & ((UINT64_C(1) << b) - 1);
}

static __global__ void __launch_bounds__(THREADS, 4)
    topk_decode(const __grid_constant__ taut__cuda_batch batch, reading r, action act)
{
    TAUT_SHARED(uint32_t, one_at, WARPS * GROUP);
    uint64_t              u = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP, g;
    const taut__cuda_job *j = job_with<group_base>(batch, u, &g);
    if (!j) return;
    opened *o = r.open + job_number(batch, j);
    if (!o->good || g >= o->groups) return;
    const uint32_t *e = (const uint32_t *)(j->payload + o->table + TAUT_SPARSE_ENTRY * g),
                   *in = (const uint32_t *)(j->payload + r.at[u]);
    uint64_t entry = e[0] | (uint64_t)e[1] << 32, span = entry & ((UINT64_C(1) << TAUT_SPARSE_SPAN_BITS) - 1),
             first = r.first[u];
    uint32_t words = (uint32_t)(entry >> TAUT_SPARSE_SPAN_BITS) & ((1u << TAUT_SPARSE_WORDS_BITS) - 1);
    uint32_t b = (uint32_t)(entry >> (TAUT_SPARSE_SPAN_BITS + TAUT_SPARSE_WORDS_BITS)),
             fill = (uint32_t)taut__min(GROUP, o->count - g * GROUP);
    const uint32_t *low = in + words, *val = low + taut__sparse_words((uint64_t)b * fill);
    uint32_t       *one = one_at + threadIdx.x / TAUT_WARP * GROUP, found = 0, last = 0;
    for (uint32_t w0 = 0; w0 < words; w0 += TAUT_WARP) { /* where the ones are */
        uint32_t w = w0 + TAUT_LANE, bits = w < words ? in[w] : 0, mine = (uint32_t)__popc(bits),
                 sum = taut_warp_scan(mine);
        uint32_t i = found + sum - mine;
        for (uint32_t m = bits; m; m &= m - 1, i++)
            if (i < GROUP) one[i] = 32 * w + (uint32_t)__ffs((int)m) - 1;
        found += __shfl_sync(TAUT_ALL, sum, 31);
        last = max(last, __reduce_max_sync(TAUT_ALL, bits ? 32 * w + 32 - (uint32_t)__clz((int)bits) : 0u));
    }
    __syncwarp();
    bool     good = found == fill && words == (last + 31) / 32;
    uint64_t lows = 0;
    for (uint32_t q = 0; q < PER_LANE; q++) {
        uint32_t i = TAUT_LANE * PER_LANE + q;
        if (good && i < fill) lows += low_bits(low, i, b);
    }
    uint64_t before = taut_warp_scan(lows);
    uint64_t all_lows = __shfl_sync(TAUT_ALL, before, 31);
    before -= lows;
    if (good) good = ((uint64_t)(one[fill - 1] - (fill - 1)) << b) + all_lows + fill == span && span <= j->n - first;
    if (!good) {
        if (TAUT_LANE == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
        return;
    }
    for (uint32_t q = 0; q < PER_LANE; q++) {
        uint32_t i = TAUT_LANE * PER_LANE + q;
        if (i >= fill) continue;
        before += low_bits(low, i, b);
        apply(batch, j, first + ((uint64_t)(one[i] - i) << b) + before + i, __uint_as_float(val[i]), act);
    }
}

#endif
