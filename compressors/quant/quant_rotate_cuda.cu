/* quant_rotate_cuda.cu : rotated buckets on a GPU, a block of threads per bucket. Same bytes and floats as quant_rotate.c.
 *
 * A bucket lies in shared memory from the first read to the last write. Hadamard's butterflies are five exchanges within a warp, then
 * three stages at a time over eight elements in registers; each element goes through the same additions as on the CPU. Sums of 64
 * elements are made by eight threads, those 8 apart added in order, and then by eight lanes over all of them, also in order. */
#include "quant_cuda.h"
#include "quant_levels.h"

enum { THREADS = 128, TURN_WARPS = THREADS / TAUT_WARP, LOWEST = -100, HIGHEST = 120 };

static_assert(sizeof(taut__cuda_batch) + sizeof(quant_params) + sizeof(quant_levels) <= 4096,
              "what a launch may carry");

/* What R does to a bucket: `pieces` of quant_rotate.c, whose signs are made where they are needed. */
struct rotation {
    uint32_t                         n, piece, last;
    float                            unit;
    taut__rng                        rng;
    __device__ __forceinline__ float sign(uint32_t i) const /* of the first piece; i + piece: of the second one */
    {
        return taut__random32(rng, i / 32) >> i % 32 & 1 ? -unit : unit;
    }
};
static __device__ __forceinline__ rotation rotation_of(uint32_t seed, uint32_t n)
{
    rotation r;
    r.n = n;
    r.piece = 1u << (31 - __clz((int)n));
    r.last = n - r.piece;
    r.unit = (float)(1 / sqrt((double)r.piece));
    r.rng = taut__rng_of(seed, 0);
    return r;
}

/* w[0..n) = H w, n a power of 2. All threads; they have met before, and meet behind it. */
static __device__ void turn(float *w, uint32_t n)
{
    for (uint32_t base = threadIdx.x / TAUT_WARP * TAUT_WARP; base < n; base += THREADS) {
        uint32_t i = base + TAUT_LANE;
        float    v = i < n ? w[i] : 0;
        for (uint32_t h = 1; h < TAUT_WARP && h < n; h *= 2) {
            float o = __shfl_xor_sync(TAUT_ALL, v, (int)h);
            v = TAUT_LANE & h ? o - v : v + o;
        }
        if (i < n) w[i] = v;
    }
    __syncthreads();
    uint32_t h = TAUT_WARP;
    for (; 8 * h <= n; h *= 8) {
        for (uint32_t t = threadIdx.x; t < n / 8; t += THREADS) {
            float *at = w + (t & ~(h - 1)) * 8 + (t & (h - 1)), v[8];
            TAUT_UNROLL
            for (uint32_t k = 0; k < 8; k++) v[k] = at[k * h];
            TAUT_UNROLL
            for (uint32_t d = 1; d < 8; d *= 2) {
                TAUT_UNROLL
                for (uint32_t k = 0; k < 8; k++)
                    if (!(k & d)) {
                        float a = v[k], b = v[k + d];
                        v[k] = a + b, v[k + d] = a - b;
                    }
            }
            TAUT_UNROLL
            for (uint32_t k = 0; k < 8; k++) at[k * h] = v[k];
        }
        __syncthreads();
    }
    for (; h < n; h *= 2) {
        for (uint32_t t = threadIdx.x; t < n / 2; t += THREADS) {
            float *at = w + (t & ~(h - 1)) * 2 + (t & (h - 1)), a = at[0], b = at[h];
            at[0] = a + b, at[h] = a - b;
        }
        __syncthreads();
    }
}

/* ---- sums ---- */

/* sum[0..8 groups), in order over the groups and then folded: rotate_add() and rotate_fold(). By the first warp; lane 0 has it. */
static __device__ __forceinline__ double fold_columns(const float *sum, uint32_t groups)
{
    double s = 0;
    for (uint32_t g = 0; g < groups && TAUT_LANE < 8; g++) s += (double)sum[8 * g + TAUT_LANE];
    return taut_warp_sum(s);
}

/* w = w * factor times the signs of the first piece, and what lies behind it times the factor. sum[0..n/8): squares of the columns. */
static __device__ void flip_first(const rotation &r, float *w, float factor, float *sum)
{
    for (uint32_t c = threadIdx.x; c < (r.n + 63) / 64 * 8; c += THREADS) {
        float s = 0;
        for (uint32_t k = 0; k < 8; k++) {
            uint32_t i = c / 8 * 64 + c % 8 + 8 * k;
            float    v = 0;
            if (i < r.n) v = w[i] * factor;
            if (i < r.piece) v = v * r.sign(i);
            if (i < r.n) w[i] = v;
            s = k ? s + v * v : v * v;
        }
        sum[c] = s;
    }
    __syncthreads();
}

/* w = R x * factor, w holding x. Returns the root of the mean square of x * factor, in all threads. */
static __device__ double rotate(const rotation &r, float *w, float factor, float *sum)
{
    TAUT_SHARED(double, rms, 1);
    double mean = 0;
    if (r.last && threadIdx.x < TAUT_WARP) {
        double s = 0;
        for (uint32_t i = TAUT_LANE; i < r.n; i += TAUT_WARP) s += taut__square(w[i]);
        mean = taut_warp_sum(s) * (double)factor * (double)factor / (double)r.n;
    }
    if (r.last) __syncthreads();
    flip_first(r, w, factor, sum);
    if (threadIdx.x < TAUT_WARP) {
        if (r.last == 0) mean = fold_columns(sum, (r.n + 63) / 64);
        if (TAUT_LANE == 0) rms[0] = sqrt(mean);
    }
    turn(w, r.piece);
    if (r.last) {
        for (uint32_t i = threadIdx.x; i < r.piece; i += THREADS) w[r.last + i] *= r.sign(r.piece + i);
        __syncthreads();
        turn(w + r.last, r.piece);
    }
    return rms[0];
}
/* w = H D w of rotate_back(): what give() takes. */
static __device__ void rotate_back(const rotation &r, float *w)
{
    if (r.last) {
        turn(w + r.last, r.piece);
        for (uint32_t i = threadIdx.x; i < r.piece; i += THREADS) w[r.last + i] *= r.sign(r.piece + i);
        __syncthreads();
    }
    turn(w, r.piece);
}
static __device__ __forceinline__ float give(const rotation &r, const float *w, uint32_t i, float unit)
{
    return i < r.piece ? rotate_give(w[i], r.sign(i), unit) : rotate_give(w[i], 1, unit);
}

/* w -> codes and, in place, their levels; returns <w / rms, levels> in lane 0 of the first warp. All threads. */
static __device__ double quantize(const quant_levels *l, uint32_t n, float *w, float inv, uint8_t *code, float *sum)
{
    for (uint32_t c = threadIdx.x; c < (n + 63) / 64 * 8; c += THREADS) {
        float s = 0;
        for (uint32_t k = 0; k < 8; k++) {
            uint32_t i = c / 8 * 64 + c % 8 + 8 * k;
            float    product = 0;
            if (i < n) {
                float    y = w[i] * inv;
                uint32_t m = rotate_magnitude(l, fabsf(y));
                w[i] = y < 0 ? -l->level[m] : l->level[m];
                code[i] = (uint8_t)(y < 0 ? l->half - 1 - m : l->half + m);
                product = y * w[i];
            }
            s = k ? s + product : product;
        }
        sum[c] = s;
    }
    __syncthreads();
    return threadIdx.x < TAUT_WARP ? fold_columns(sum, (n + 63) / 64) : 0;
}

/* The levels, where threads may look at different ones at once. They meet behind it. */
static __device__ __forceinline__ void bring_levels(const quant_levels &from, quant_levels *to)
{
    static_assert(sizeof from % 4 == 0, "copied by words");
    for (uint32_t i = threadIdx.x; i < sizeof from / 4; i += THREADS)
        ((uint32_t *)to)[i] = ((const uint32_t *)&from)[i];
    __syncthreads();
}

/* ---- encoding ---- */

/* x of the bucket at `at` into w; returns the largest magnitude's bits, in all threads. */
static __device__ uint32_t take(const taut__cuda_job *j, taut_dtype dtype, uint64_t at, uint32_t m, float *w)
{
    TAUT_SHARED(uint32_t, of_warp, TURN_WARPS);
    uint32_t most = 0;
    for (uint32_t i = 4 * threadIdx.x; i < m; i += 4 * THREADS) {
        float4 x = taut_input4(j, dtype, at + i);
        taut_store4(w, i, m, x);
        float v[4] = {x.x, x.y, x.z, x.w};
        TAUT_UNROLL
        for (uint32_t q = 0; q < 4; q++)
            if (i + q < m) most = max(most, __float_as_uint(v[q]) & 0x7fffffff);
    }
    most = __reduce_max_sync(TAUT_ALL, most);
    if (TAUT_LANE == 0) of_warp[threadIdx.x / TAUT_WARP] = most;
    __syncthreads();
    for (uint32_t k = 0; k < TURN_WARPS; k++) most = max(most, of_warp[k]);
    return most;
}

/* Zeros, and what is not finite: codes 0, and no error but the zeros themselves. */
static __device__ void put_constant(const quant_params &p, const taut__cuda_job *j, uint64_t at, uint32_t m,
                                    bool finite, const float *w, uint8_t *codes)
{
    for (uint32_t i = threadIdx.x; i < quant_code_bytes(p.bits, m); i += THREADS) codes[i] = 0;
    if (!finite && threadIdx.x == 0) taut_flag(j, TAUT__CUDA_NOT_FINITE);
    for (uint32_t i = threadIdx.x; i < m && j->err; i += THREADS) j->err[at + i] = finite ? w[i] : 0;
}

static __device__ void put_codes(uint32_t bits, uint32_t m, const uint8_t *code, uint8_t *codes)
{
    TAUT_SHARED(uint8_t, tail, 64);
    for (uint32_t t = threadIdx.x / TAUT_WARP; t < (m + TILE - 1) / TILE; t += TURN_WARPS) {
        octet c = {0, 0}; /* the room for codes ends with a group */
        if (place(t) < m) {
            c.lo = *(const uint32_t *)(code + place(t));
            c.hi = *(const uint32_t *)(code + place(t) + 32);
        }
        put_tile(bits, t, m, c, codes);
        if (m % 64) put_tail(bits, t, m, c, codes, tail);
    }
}

/* x - x^, or x where the bucket's unit is too small to be one. */
static __device__ void put_error(const taut__cuda_job *j, taut_dtype dtype, const rotation &r, uint64_t at, float *w,
                                 float unit)
{
    if (unit > 0) rotate_back(r, w);
    for (uint32_t i = 4 * threadIdx.x; i < r.n; i += 4 * THREADS) {
        float4 x = taut_input4(j, dtype, at + i);
        float  e[4] = {x.x, x.y, x.z, x.w};
        TAUT_UNROLL
        for (uint32_t q = 0; q < 4; q++)
            if (unit > 0 && i + q < r.n) e[q] = taut__residual(e[q], give(r, w, i + q, unit));
        taut_store4(j->err, at + i, at + r.n, make_float4(e[0], e[1], e[2], e[3]));
    }
}

static __global__ void __launch_bounds__(THREADS)
    quant_rotate_encode(const __grid_constant__ taut__cuda_batch batch, quant_params p,
                        const __grid_constant__ quant_levels levels)
{
    TAUT_SHARED_DYNAMIC(float, w);
    TAUT_SHARED(quant_levels, l, 1);
    TAUT_SHARED(float, unit_of, 1);
    bucket_place          here = bucket_of(batch, p, blockIdx.x);
    const taut__cuda_job *j = here.j;
    p.rotation = (uint32_t)taut__mix64(j->seed);
    if (threadIdx.x < TAUT_WARP) put_header(p, here);
    if (j->n == 0) return;
    uint64_t at = here.at, k = here.k;
    uint32_t m = here.m;
    uint8_t *code = (uint8_t *)(w + p.bucket), *codes = j->payload + here.codes_at + at / 8 * p.bits;
    float   *sum = (float *)(code + p.bucket), *meta = (float *)(j->payload + QUANT_HEADER) + k;
    bring_levels(levels, l);
    uint32_t most = take(j, batch.dtype, at, m, w);
    if (most == 0 || most >= 0x7f800000) {
        if (threadIdx.x == 0) *meta = most ? taut__float(QUANT_NAN) : 0;
        put_constant(p, j, at, m, most == 0, w, codes);
        return;
    }
    rotation r = rotation_of(p.rotation, m);
    int      up = (int)(most >> 23) - 127; /* of a denormal, whose own is lower still, LOWEST as well */
    up = up < LOWEST ? LOWEST : up > HIGHEST ? HIGHEST : up;
    double rms = rotate(r, w, taut__float((uint32_t)(127 - up) << 23), sum);
    double dot = quantize(l, m, w, (float)(1 / rms), code, sum);
    if (threadIdx.x == 0) *meta = unit_of[0] = (float)fmin(ldexp(rms * (double)m / dot, up), (double)FLT_MAX);
    put_codes(p.bits, m, code, codes);
    __syncthreads();
    if (j->err) put_error(j, batch.dtype, r, at, w, unit_of[0]);
}

/* ---- decoding ---- */

/* What the bucket gives element i, with what was there before it. */
static __device__ __forceinline__ float decoded(const rotation &r, const float *w, uint32_t i, float unit, bool add,
                                                float before)
{
    if (unit == 0) return add ? before : 0;
    if (!quant_is_finite(unit)) return taut__float(QUANT_NAN);
    float v = give(r, w, i, unit);
    return add || i >= r.piece ? (add ? before : 0) + v : v;
}

static __global__ void __launch_bounds__(THREADS)
    quant_rotate_decode(const __grid_constant__ taut__cuda_batch batch, quant_params p, bool add,
                        const __grid_constant__ quant_levels levels)
{
    TAUT_SHARED_DYNAMIC(float, w);
    TAUT_SHARED(quant_levels, l, 1);
    bucket_place          here = bucket_of(batch, p, blockIdx.x);
    const taut__cuda_job *j = here.j;
    const uint64_t       *word = (const uint64_t *)j->payload;
    if (!header_fits(p, j->payload, j->n) || (j->len && *j->len != payload_bytes(p, here))) {
        if (threadIdx.x == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
        return;
    }
    if (j->n == 0) return;
    uint64_t       at = here.at;
    uint32_t       m = here.m;
    const uint8_t *codes = j->payload + here.codes_at + at / 8 * p.bits;
    float          unit = ((const float *)(j->payload + QUANT_HEADER))[here.k];
    rotation       r = rotation_of((uint32_t)(word[0] >> 32), m);
    bring_levels(levels, l);
    if (unit != 0 && quant_is_finite(unit)) {
        for (uint32_t t = threadIdx.x / TAUT_WARP; t < (m + TILE - 1) / TILE; t += TURN_WARPS) {
            octet c = get_codes(p.bits, t, m, codes);
            TAUT_UNROLL
            for (uint32_t q = 0; q < 8; q++)
                if (place_of(t, q) < m) w[place_of(t, q)] = rotate_value(l, code_at(c, q));
        }
        __syncthreads();
        rotate_back(r, w);
    }
    for (uint32_t i = 4 * threadIdx.x; i < m; i += 4 * THREADS) {
        float4 before = add ? taut_load4_as(j->dst, batch.dtype, at + i, j->n) : make_float4(0, 0, 0, 0);
        float  v[4] = {before.x, before.y, before.z, before.w};
        TAUT_UNROLL
        for (uint32_t q = 0; q < 4; q++)
            if (i + q < m) v[q] = decoded(r, w, i + q, unit, add, v[q]);
        float4 out = make_float4(v[0], v[1], v[2], v[3]);
        if (batch.factor != 1) out = taut_scale4(out, batch.factor);
        taut_store4_as(j->dst, batch.dtype, at + i, at + m, out);
    }
}

/* ---- launchers, for quant_cuda.cu ---- */

/* Elements, codes, and sums of columns. */
static size_t room(const quant_params *p) { return p->bucket * 4 + p->bucket + p->bucket / 8 * 4; }

void taut_quant_rotate_encode(const taut__cuda_batch *b, const quant_params *p, taut__cuda_stream s)
{
    TAUT_LAUNCH(quant_rotate_encode, (unsigned)b->units, THREADS, room(p), s, *b, *p, *taut__quant_levels(p->bits));
}
void taut_quant_rotate_decode(const taut__cuda_batch *b, const quant_params *p, bool add, taut__cuda_stream s)
{
    TAUT_LAUNCH(quant_rotate_decode, (unsigned)b->units, THREADS, 4 * p->bucket, s, *b, *p, add,
                *taut__quant_levels(p->bits));
}
