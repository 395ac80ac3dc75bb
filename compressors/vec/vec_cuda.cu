/* vec_cuda.cu : passes over floats on a GPU that are not a codec's own: the codecs none, fp16 and bf16, feedback's input, norms.
 * A block of 256 threads takes a tile of 4096 elements, each thread four neighbours at a time: 16 bytes of float32, 8 of the
 * halves. Four loads are under way before the first is used. */
#include "../cuda/cuda_kernel.h"

enum { THREADS = 256, STEPS = TAUT__CUDA_TILE / (4 * THREADS) };

/* First element of this thread's step k in unit u. */
static __device__ __forceinline__ uint64_t place(uint64_t unit, int k)
{
    return unit * TAUT__CUDA_TILE + (uint64_t)k * 4 * THREADS + 4 * threadIdx.x;
}

static __device__ __forceinline__ float4 cast_residual(float4 x, ushort4 h, taut_dtype kind)
{
    float4 y = taut_from_half(h, kind);
    return make_float4(taut__residual(x.x, y.x), taut__residual(x.y, y.y), taut__residual(x.z, y.z),
                       taut__residual(x.w, y.w));
}

/* Finite values that round to infinity become the largest number of the format, as the codecs fp16 and bf16 have it. */
static __device__ __forceinline__ unsigned short clamp_half(unsigned short h, float x, unsigned infinity)
{
    return (h & 0x7fff) == infinity && (taut__bits(x) & 0x7fffffff) < 0x7f800000 ? (unsigned short)(h - 1) : h;
}
static __device__ __forceinline__ ushort4 to_half(float4 x, taut_dtype kind, bool clamps)
{
    ushort4  h = taut_to_half(x, kind);
    unsigned infinity = kind == TAUT_F16 ? 0x7c00 : 0x7f80;
    if (!clamps) return h;
    return make_ushort4(clamp_half(h.x, x.x, infinity), clamp_half(h.y, x.y, infinity), clamp_half(h.z, x.z, infinity),
                        clamp_half(h.w, x.w, infinity));
}

static __global__ void __launch_bounds__(THREADS)
    vec_encode(const __grid_constant__ taut__cuda_batch batch, taut_dtype kind, bool clamps)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    float4                x[STEPS];
    if (unit == 0 && threadIdx.x == 0 && j->len) *j->len = j->n * (kind == TAUT_F32 ? 4 : 2);
    TAUT_UNROLL
    for (int k = 0; k < STEPS; k++)
        if (place(unit, k) < j->n) x[k] = taut_input4(j, batch.dtype, place(unit, k));
    TAUT_UNROLL
    for (int k = 0; k < STEPS; k++) {
        uint64_t i = place(unit, k);
        if (i >= j->n) break;
        if (kind == TAUT_F32) {
            taut_store4((float *)j->payload, i, j->n, x[k]);
            if (j->err) taut_store4(j->err, i, j->n, make_float4(0, 0, 0, 0));
        } else {
            ushort4 h = to_half(x[k], kind, clamps);
            taut_store4h((uint16_t *)j->payload, i, j->n, h);
            if (j->err) taut_store4(j->err, i, j->n, cast_residual(x[k], h, kind));
        }
    }
}

static __global__ void __launch_bounds__(THREADS)
    vec_decode(const __grid_constant__ taut__cuda_batch batch, taut_dtype kind, bool add)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    if (j->len && *j->len != j->n * (kind == TAUT_F32 ? 4 : 2)) {
        if (threadIdx.x == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
        return;
    }
    TAUT_UNROLL
    for (int k = 0; k < STEPS; k++) {
        uint64_t i = place(unit, k);
        if (i >= j->n) break;
        float4 v = taut_load4_as(j->payload, kind, i, j->n);
        if (add) v = taut_add4(taut_load4_as(j->dst, batch.dtype, i, j->n), v);
        if (batch.factor != 1) v = taut_scale4(v, batch.factor);
        taut_store4_as(j->dst, batch.dtype, i, j->n, v);
    }
}

/* DGC eq. 4 with u in `codes`: u = m u + g, v += u; or v = r + g. */
static __global__ void __launch_bounds__(THREADS)
    vec_input(const __grid_constant__ taut__cuda_batch batch, float momentum)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    TAUT_UNROLL
    for (int k = 0; k < STEPS; k++) {
        uint64_t i = place(unit, k);
        if (i >= j->n) break;
        if (momentum == 0) {
            taut_store4(j->err, i, j->n, taut_input4(j, batch.dtype, i));
            continue;
        }
        float4 u = taut_add4(taut_scale4(taut_load4((float *)j->codes, i, j->n), momentum),
                             taut_load4_as(j->src, batch.dtype, i, j->n));
        taut_store4((float *)j->codes, i, j->n, u);
        taut_store4(j->err, i, j->n, taut_add4(taut_load4(j->residual, i, j->n), u));
    }
}

static __device__ __forceinline__ float scale_at(const taut__cuda_job *j, uint64_t i)
{
    if (!j->scale) return 1;
    return j->scale[j->stride == 0 ? 0 : j->stride == 1 ? j->first + i : (j->first + i) / j->stride];
}

/* x = src + residual into err, where there is one, and its squares: per thread in double, then over the block, then added to
 * the job's numbers by one block after the other in the order in which they finish. */
static __global__ void __launch_bounds__(THREADS) vec_input_norms(const __grid_constant__ taut__cuda_batch batch)
{
    TAUT_SHARED(double, part, 2 * THREADS / TAUT_WARP);
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    double                plain = 0, scaled = 0;
    bool                  bad = false;
    TAUT_UNROLL
    for (int k = 0; k < STEPS; k++) {
        uint64_t i = place(unit, k);
        if (i >= j->n) break;
        float4 x = taut_input4(j, batch.dtype, i);
        float  v[4] = {x.x, x.y, x.z, x.w};
        if (j->err) taut_store4(j->err, i, j->n, x);
        for (uint64_t q = 0; q < 4 && i + q < j->n; q++) {
            bad |= (taut__bits(v[q]) & 0x7fffffff) >= 0x7f800000;
            plain += taut__square(v[q]);
            double v2 = taut__square(v[q]),
                   s = (double)scale_at(j, i + q); /* as taut__norm2(): scales of rows divide sums */
            if (!j->scale || j->stride == 0) scaled += v2;
            else scaled += j->stride == 1 ? taut__square(v[q] / (float)s) : v2 / (s * s);
        }
    }
    plain = taut_warp_sum(plain);
    scaled = taut_warp_sum(scaled);
    if (TAUT_LANE == 0)
        part[threadIdx.x / TAUT_WARP] = plain, part[THREADS / TAUT_WARP + threadIdx.x / TAUT_WARP] = scaled;
    int any_bad = __syncthreads_or(bad);
    if (threadIdx.x != 0) return;
    for (int w = 1; w < THREADS / TAUT_WARP; w++) plain += part[w], scaled += part[THREADS / TAUT_WARP + w];
    if (j->scale && j->stride == 0) scaled /= (double)j->scale[0] * (double)j->scale[0];
    taut_add_double(j->stats, plain);
    taut_add_double(j->stats + 1, scaled);
    if (any_bad) taut_flag(j, TAUT__CUDA_NOT_FINITE);
}

static __global__ void __launch_bounds__(THREADS) vec_sum(const __grid_constant__ taut__cuda_batch batch)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    TAUT_UNROLL
    for (int k = 0; k < STEPS; k++) {
        uint64_t i = place(unit, k);
        if (i >= j->n) break;
        float4 x = make_float4(0, 0, 0, 0);
        if (j->src) x = taut_load4_as(j->src, batch.dtype, i, j->n);
        for (uint32_t p = 0; p < batch.peer_count; p++) {
            float4 v = taut_load4((const float *)j->peers[p], i, j->n);
            x = p == 0 && !j->src ? v : taut_add4(x, v);
        }
        if (batch.factor != 1) x = taut_scale4(x, batch.factor);
        taut_store4_as(j->dst, batch.dtype, i, j->n, x);
    }
}

static __device__ __forceinline__ bool   finite(float x) { return (taut__bits(x) & 0x7fffffff) < 0x7f800000; }
static __device__ __forceinline__ float4 pass4(const taut__cuda_pass &p, uint64_t i, uint32_t *found)
{
    float4 d = p.kind == TAUT__PASS_CONVERT || p.kind == TAUT__PASS_RESIDUAL ? make_float4(0, 0, 0, 0)
                                                                             : taut_load4((const float *)p.dst, i, p.n);
    float4 a = p.a ? taut_load4_as(p.a, p.from, i, p.n) : d;
    float  x[4] = {d.x, d.y, d.z, d.w}, y[4] = {a.x, a.y, a.z, a.w};
    switch (p.kind) {
    case TAUT__PASS_ADD: return taut_add4(d, a);
    case TAUT__PASS_SCALE: return taut_scale4(d, p.factor);
    case TAUT__PASS_CONVERT: return a;
    case TAUT__PASS_RESIDUAL: {
        float4 b = taut_load4((const float *)p.b, i, p.n);
        return make_float4(taut__residual(a.x, b.x), taut__residual(a.y, b.y), taut__residual(a.z, b.z),
                           taut__residual(a.w, b.w));
    }
    case TAUT__PASS_OUTPUT:
        TAUT_UNROLL
        for (int q = 0; q < 4; q++)
            if (y[q] == 0 || !finite(x[q])) x[q] = 0;
        break;
    default:
        TAUT_UNROLL
        for (int q = 0; q < 4; q++)
            if (!finite(x[q])) x[q] = 0, ++*found;
    }
    return make_float4(x[0], x[1], x[2], x[3]);
}

static __global__ void __launch_bounds__(THREADS) vec_pass(const __grid_constant__ taut__cuda_pass p)
{
    uint32_t found = 0;
    TAUT_UNROLL
    for (int k = 0; k < STEPS; k++) {
        uint64_t i = place(blockIdx.x, k);
        if (i >= p.n) break;
        taut_store4_as(p.dst, p.kind == TAUT__PASS_CONVERT ? p.to : TAUT_F32, i, p.n, pass4(p, i, &found));
    }
    if (p.kind == TAUT__PASS_SCRUB && found) atomicAdd(p.found, (unsigned long long)found);
}

/* A thread for each element of each block. */
static __global__ void __launch_bounds__(THREADS)
    vec_pick(const __grid_constant__ taut__cuda_pass p, const uint64_t *at, uint64_t all, uint64_t elems,
             uint64_t first)
{
    uint64_t q = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    if (q >= all) return;
    uint64_t i = at[q / elems] + q % elems;
    if (i < first || i - first >= p.n) return;
    uint16_t h = p.from == TAUT_F32 ? (uint16_t)0 : ((const uint16_t *)p.a)[i - first];
    float    v = p.from == TAUT_F32   ? ((const float *)p.a)[i - first]
                 : p.from == TAUT_F16 ? taut__from_f16(h)
                                      : taut__from_bf16(h);
    ((float *)p.dst)[q] = p.factor * v;
}

/* ---- launchers ---- */

static taut_status check_kind(const taut_dtype *kind, const char *what)
{
    uint32_t k = taut_number_of(kind);
    if (k <= TAUT_BF16) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "%s: kind %u: must be 0 (f32), 1 (f16) or 2 (bf16)", what, k);
}

static taut_status encode(const taut__cuda_batch *b, taut_dtype kind, bool clamps, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "cast encode"));
    TAUT_TRY(check_kind(&kind, "cast encode"));
    TAUT_LAUNCH(vec_encode, (unsigned)b->units, THREADS, 0, s, *b, kind, clamps);
    return taut_launched("cast encode");
}
static taut_status decode(const taut__cuda_batch *b, taut_dtype kind, bool add, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "cast decode"));
    TAUT_TRY(check_kind(&kind, "cast decode"));
    TAUT_LAUNCH(vec_decode, (unsigned)b->units, THREADS, 0, s, *b, kind, add);
    return taut_launched("cast decode");
}
static taut_status input(const taut__cuda_batch *b, float momentum, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "feedback input"));
    if (!(momentum >= 0 && momentum < 1))
        return taut__fail(TAUT_E_RANGE, "feedback input: momentum=%g: must be at least 0 and below 1",
                          (double)momentum);
    TAUT_LAUNCH(vec_input, (unsigned)b->units, THREADS, 0, s, *b, momentum);
    return taut_launched("feedback input");
}
static taut_status input_norms(const taut__cuda_batch *b, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "norms"));
    TAUT_LAUNCH(vec_input_norms, (unsigned)b->units, THREADS, 0, s, *b);
    return taut_launched("norms");
}
static taut_status sum(const taut__cuda_batch *b, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "sum"));
    TAUT_LAUNCH(vec_sum, (unsigned)b->units, THREADS, 0, s, *b);
    return taut_launched("sum");
}

static taut_status pass(const taut__cuda_pass *p, taut__cuda_stream s)
{
    uint64_t units = (p->n + TAUT__CUDA_TILE - 1) / TAUT__CUDA_TILE;
    if (p->kind < 0 || p->kind >= TAUT__PASS_KINDS)
        return taut__fail(TAUT_E_INVALID, "pass: kind %d: must be 0..%d", (int)p->kind, TAUT__PASS_KINDS - 1);
    TAUT_TRY(check_kind(&p->to, "pass"));
    TAUT_TRY(check_kind(&p->from, "pass"));
    if (((uintptr_t)p->dst & (p->to == TAUT_F32 ? 3 : 1)) || ((uintptr_t)p->a & (p->from == TAUT_F32 ? 3 : 1)) ||
        ((uintptr_t)p->b & 3))
        return taut__fail(TAUT_E_INVALID, "pass: %p, %p or %p: must be multiples of their elements", p->dst, p->a,
                          p->b);
    if (units > 0x7fffffffull)
        return taut__fail(TAUT_E_RANGE, "pass: %llu elements: too many for one launch", (unsigned long long)p->n);
    if (units == 0) return TAUT_OK;
    TAUT_LAUNCH(vec_pass, (unsigned)units, THREADS, 0, s, *p);
    return taut_launched("pass");
}

static taut_status pick(const taut__cuda_pass *p, const uint64_t *at, uint64_t blocks, uint64_t elems, uint64_t first,
                        taut__cuda_stream s)
{
    uint64_t all = blocks * elems;
    TAUT_TRY(check_kind(&p->from, "pick"));
    if (all > 0x7fffffffull * THREADS)
        return taut__fail(TAUT_E_RANGE, "pick: %llu elements: too many for one launch", (unsigned long long)all);
    if (all == 0 || p->n == 0) return TAUT_OK;
    TAUT_LAUNCH(vec_pick, (unsigned)((all + THREADS - 1) / THREADS), THREADS, 0, s, *p, at, all, elems, first);
    return taut_launched("pick");
}

extern "C" const taut__cuda_vec TAUT_CUDA_TABLE(vec);
extern "C" const taut__cuda_vec TAUT_CUDA_TABLE(vec) = {encode, decode, input, input_norms, sum, pass, pick};
