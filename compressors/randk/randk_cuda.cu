/* randk_cuda.cu : random elements on a GPU. Same bytes and floats as randk.c. A block of threads takes the randk blocks that begin
 * in its tile (and the first tile the one that began before it), so that each element belongs to one block of threads. */
#include "../cuda/cuda_kernel.h"
#include "randk_pick.h"

enum { THREADS = 256, HEADER = 48, FLAG_SCALED = 1 };

/* What one block of threads works on: randk blocks from..to of the tensor, and the slice's elements begin..end they cover. */
struct share {
    taut__pick pick;
    uint64_t   from, to, begin, end, first_block, count; /* first_block, count: of the slice */
    bool       scaled;
};

static __device__ share share_of(const taut__pick &pick, bool scaled, uint64_t first, uint64_t n, uint64_t unit)
{
    share    s;
    uint64_t lo = first + unit * TAUT__CUDA_TILE, hi = taut__min(first + n, lo + TAUT__CUDA_TILE);
    s.pick = pick;
    s.scaled = scaled;
    s.first_block = n ? taut__pick_block(&pick, first) : 0;
    s.count = n ? taut__pick_block(&pick, first + n - 1) - s.first_block + 1 : 0;
    s.from = s.to = s.begin = s.end = 0;
    if (lo >= hi) return s;
    s.from = taut__pick_block(&pick, lo);
    if (unit > 0 && taut__pick_start(&pick, s.from) < lo) s.from++;
    s.to = taut__pick_block(&pick, hi - 1) + 1;
    if (s.from >= s.to) return s; /* the whole tile lies in a block that began before it */
    s.begin = taut__pick_start(&pick, s.from) > first ? taut__pick_start(&pick, s.from) - first : 0;
    uint64_t stop = taut__pick_start(&pick, s.to - 1) + taut__pick_size(&pick, s.to - 1);
    s.end = taut__min(n, stop - first);
    return s;
}

static __device__ __forceinline__ float one_input(const taut__cuda_job *j, taut_dtype d, uint64_t i)
{
    float x = d == TAUT_F32   ? ((const float *)j->src)[i]
              : d == TAUT_F16 ? taut__from_f16(((const uint16_t *)j->src)[i])
                              : taut__from_bf16(((const uint16_t *)j->src)[i]);
    return j->residual ? j->residual[i] + x : x;
}
static __device__ __forceinline__ bool finite(float x) { return (taut__bits(x) & 0x7fffffff) < 0x7f800000; }

/* x of elements i..i+3 into err, where there is one; whether all are finite. Those before begin and from end on are somebody else's. */
static __device__ __forceinline__ bool take4(const taut__cuda_job *j, taut_dtype d, uint64_t i, uint64_t begin,
                                             uint64_t end)
{
    bool good = true;
    if (i >= begin && i + 4 <= end) {
        float4 x = taut_input4_to(j, d, i, end);
        if (j->err) taut_store4(j->err, i, end, x);
        return finite(x.x) && finite(x.y) && finite(x.z) && finite(x.w);
    }
    for (uint64_t e = i > begin ? i : begin; e < i + 4 && e < end; e++) {
        float x = one_input(j, d, e);
        good = good && finite(x);
        if (j->err) j->err[e] = x;
    }
    return good;
}

/* The part of block b that lies in the slice. */
static __device__ __forceinline__ void part_of(const share &s, uint64_t b, uint64_t first, uint64_t n, uint64_t *from,
                                               uint64_t *to)
{
    uint64_t start = taut__pick_start(&s.pick, b), stop = start + taut__pick_size(&s.pick, b);
    *from = start > first ? start - first : 0;
    *to = taut__min(n, stop - first);
}

struct pick_plan {
    double   density;
    uint32_t scaled, bare; /* bare: values without a header */
};

static __global__ void __launch_bounds__(THREADS, 4)
    randk_encode(const __grid_constant__ taut__cuda_batch batch, pick_plan p)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    taut__pick            pick = taut__pick_init(j->seed, j->elems, taut__topk_kept(p.density, j->elems));
    share                 s = share_of(pick, p.scaled, j->first, j->n, unit);
    float                *value = (float *)(j->payload + (p.bare ? 0 : HEADER));
    bool                  bad = false;
    if (unit == 0 && threadIdx.x == 0) {
        if (!p.bare) {
            uint64_t *word = (uint64_t *)j->payload;
            word[0] = p.scaled ? FLAG_SCALED : 0;
            word[1] = pick.seed, word[2] = pick.elems, word[3] = pick.blocks, word[4] = j->first;
            memcpy(word + 5, &p.density, sizeof p.density);
        }
        if (j->len) *j->len = (p.bare ? 0 : HEADER) + 4 * s.count;
    }
    for (uint64_t b = s.from + threadIdx.x; b < s.to; b += THREADS) {
        uint64_t at = taut__pick_elem(&pick, b) - j->first;
        value[b - s.first_block] = at < j->n ? one_input(j, batch.dtype, at) : 0;
    }
    __syncthreads();
    for (uint64_t i = s.begin / 4 * 4 + 4 * threadIdx.x; i < s.end; i += 4 * THREADS)
        bad |= !take4(j, batch.dtype, i, s.begin, s.end);
    if (__syncthreads_or(bad)) { /* a value that is not finite takes the place of its block's, in order */
        if (threadIdx.x == 0) taut_flag(j, TAUT__CUDA_NOT_FINITE);
        for (uint64_t b = s.from + threadIdx.x; b < s.to; b += THREADS) {
            uint64_t from, to;
            float    v = value[b - s.first_block];
            part_of(s, b, j->first, j->n, &from, &to);
            for (uint64_t i = from; i < to; i++) {
                float x = j->err ? j->err[i] : one_input(j, batch.dtype, i);
                if (!finite(x)) v = finite(v) ? x : v + x;
            }
            value[b - s.first_block] = v;
        }
        __syncthreads();
    }
    if (!j->err) return;
    for (uint64_t b = s.from + threadIdx.x; b < s.to; b += THREADS) {
        float    v = value[b - s.first_block];
        uint64_t at = taut__pick_elem(&pick, b) - j->first, from, to;
        if (!finite(v)) {
            part_of(s, b, j->first, j->n, &from, &to);
            for (uint64_t i = from; i < to; i++) j->err[i] = 0;
        } else if (at < j->n) {
            float left = j->err[at] - v * (p.scaled ? (float)taut__pick_size(&pick, b) : 1);
            j->err[at] = finite(left) ? left : 0;
        }
    }
}

static __device__ __forceinline__ void put(const taut__cuda_batch &batch, const taut__cuda_job *j, uint64_t i, float v,
                                           bool add)
{
    if (batch.dtype == TAUT_F32) {
        float *dst = (float *)j->dst + i;
        *dst = add ? *dst + v : v;
        return;
    }
    uint16_t *dst = (uint16_t *)j->dst + i;
    bool      f16 = batch.dtype == TAUT_F16;
    if (add) v = (f16 ? taut__from_f16(*dst) : taut__from_bf16(*dst)) + v;
    *dst = f16 ? taut__to_f16(v) : taut__to_bf16(v);
}

/* Values are multiplied by factor (and by the block's size where the payload says so), as reconstruct() does. */
static __global__ void __launch_bounds__(THREADS, 4)
    randk_decode(const __grid_constant__ taut__cuda_batch batch, pick_plan p, bool add)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    const uint64_t       *word = (const uint64_t *)j->payload;
    const float          *value = (const float *)(j->payload + (p.bare ? 0 : HEADER));
    share                 s;
    bool                  good = true;
    if (p.bare) {
        s = share_of(taut__pick_init(j->seed, j->elems, taut__topk_kept(p.density, j->elems)), p.scaled, j->first, j->n,
                     unit);
    } else {
        uint64_t len = *j->len;
        good = len >= HEADER && word[0] <= FLAG_SCALED && word[2] <= INT64_MAX && word[3] != 0 && word[3] <= word[2] &&
               word[4] <= word[2] && j->n <= word[2] - word[4];
        if (good) {
            s = share_of(taut__pick_init(word[1], word[2], word[3]), word[0] & FLAG_SCALED, word[4], j->n, unit);
            good = len - HEADER == 4 * s.count;
        }
    }
    if (!good) {
        if (threadIdx.x == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
        return;
    }
    uint64_t first = p.bare ? j->first : word[4];
    for (uint64_t i = s.begin + threadIdx.x; !add && i < s.end; i += THREADS) put(batch, j, i, 0, false);
    __syncthreads();
    for (uint64_t b = s.from + threadIdx.x; b < s.to; b += THREADS) {
        float    v = value[b - s.first_block];
        uint64_t at = taut__pick_elem(&s.pick, b) - first, from, to;
        if (!finite(v)) {
            part_of(s, b, first, j->n, &from, &to);
            for (uint64_t i = from; i < to; i++) put(batch, j, i, v, add);
        } else if (at < j->n) {
            v *= batch.factor * (s.scaled ? (float)taut__pick_size(&s.pick, b) : 1);
            put(batch, j, at, v, add);
        }
    }
}

static taut_status check(const taut__cuda_batch *b, double density, const char *what)
{
    TAUT_TRY(taut_check_batch(b, what));
    if (!(density > 0 && density <= 1))
        return taut__fail(TAUT_E_RANGE, "%s: density=%g: must be above 0, up to 1", what, density);
    if (!b->jobs && (b->one.elems == 0 || b->one.first > b->one.elems || b->one.n > b->one.elems - b->one.first))
        return taut__fail(TAUT_E_INVALID, "%s: elements %llu..+%llu of a tensor of %llu", what,
                          (unsigned long long)b->one.first, (unsigned long long)b->one.n,
                          (unsigned long long)b->one.elems);
    return TAUT_OK;
}
static taut_status encode(const taut__cuda_batch *b, double density, bool scaled, bool bare, taut__cuda_stream s)
{
    TAUT_TRY(check(b, density, "randk encode"));
    pick_plan p = {density, scaled, bare};
    TAUT_LAUNCH(randk_encode, (unsigned)b->units, THREADS, 0, s, *b, p);
    return taut_launched("randk encode");
}
static taut_status decode(const taut__cuda_batch *b, double density, bool scaled, bool bare, bool add,
                          taut__cuda_stream s)
{
    TAUT_TRY(check(b, density, "randk decode"));
    pick_plan p = {density, scaled, bare};
    TAUT_LAUNCH(randk_decode, (unsigned)b->units, THREADS, 0, s, *b, p, add);
    return taut_launched("randk decode");
}

extern "C" const taut__cuda_randk TAUT_CUDA_TABLE(randk);
extern "C" const taut__cuda_randk TAUT_CUDA_TABLE(randk) = {encode, decode};
