/* cuda_kernel.h : what every .cu file begins with. The same source is compiled by nvcc and, for tests on a machine without a
 * GPU, by g++ against the execution model in tests/support/cuda_host/. Two things differ and are macros:
 *
 *   TAUT_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)   instead of kernel<<<...>>>(arguments...)
 *   TAUT_SHARED(type, name, count)                                         instead of __shared__ type name[count]
 *
 * Rules that make it work: every warp operation has its mask; a block's threads all reach each barrier and leave together;
 * nothing depends on warps running in lockstep; PTX stands under __CUDA_ARCH__ only. */
#ifndef TAUT_CUDA_KERNEL_H
#define TAUT_CUDA_KERNEL_H

#include <cuda_runtime.h>

#if defined(TAUT_CUDA_HOST_MODEL)
#define TAUT_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                    \
    cuda_host::launch_kernel(#kernel, grid, block, shared_bytes, stream, kernel, __VA_ARGS__)
#define TAUT_SHARED(type, name, count)                                                                                 \
    static const char name##_tag = 0;                                                                                  \
    type(&name)[count] = *static_cast<type(*)[count]>(cuda_host::shared_static(&name##_tag, sizeof(type[count])))
#define TAUT_SHARED_DYNAMIC(type, name) type *name = static_cast<type *>(cuda_host::shared_dynamic())
#define TAUT_UNROLL
#define TAUT_ROLLED
#else
#define TAUT_UNROLL _Pragma("unroll")
#define TAUT_ROLLED _Pragma("unroll 1") /* before rare paths, and loops whose code would miss the instruction cache */
#define TAUT_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                    \
    kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#define TAUT_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define TAUT_SHARED_DYNAMIC(type, name)                                                                                \
    extern __shared__ __align__(16) unsigned char taut_dynamic_[];                                                     \
    type                                         *name = (type *)taut_dynamic_
#endif

#define TAUT_NOINLINE __attribute__((noinline))
#define TAUT_WARP     32
#define TAUT_ALL      0xffffffffu /* the mask of a whole warp */
#define TAUT_LANE     (threadIdx.x % TAUT_WARP)
#define TAUT_LANES_LT ((1u << TAUT_LANE) - 1) /* the lanes before this one */

#include "cuda.h"

/* Tables of launchers have C linkage and a name per build, so that both can be in one program. */
#if defined(TAUT_CUDA_HOST_MODEL)
#define TAUT_CUDA_TABLE(name) taut__cuda_##name##_model
#else
#define TAUT_CUDA_TABLE(name) taut__cuda_##name##_gpu
#endif

/* ---- launching ---- */

/* What a launcher ends with. */
static inline taut_status taut_launched(const char *what)
{
    cudaError_t e = cudaGetLastError();
    return e == cudaSuccess ? TAUT_OK : taut__fail(TAUT_E_DEVICE, "%s: %s", what, cudaGetErrorString(e));
}
/* What an enum of C holds, which may be no value of it: C++ must not load that as one. */
template <typename E> static inline uint32_t taut_number_of(const E *e)
{
    uint32_t n;
    static_assert(sizeof *e == sizeof n, "an enum of C is an int");
    memcpy(&n, e, sizeof n);
    return n;
}
static inline taut_status taut_check_batch(const taut__cuda_batch *b, const char *what)
{
    if (b->count < 1 || (!b->jobs && b->count != 1))
        return taut__fail(TAUT_E_INVALID, "%s: %u jobs without a list of them", what, b->count);
    if (!b->jobs && ((uintptr_t)b->one.payload & 15))
        return taut__fail(TAUT_E_INVALID, "%s: payload at %p: must be a multiple of 16", what, (void *)b->one.payload);
    if (!b->jobs && (((uintptr_t)b->one.residual | (uintptr_t)b->one.err) & 3))
        return taut__fail(TAUT_E_INVALID, "%s: floats at %p or %p: must be multiples of 4", what,
                          (const void *)b->one.residual, (void *)b->one.err);
    if (taut_number_of(&b->dtype) > TAUT_BF16)
        return taut__fail(TAUT_E_INVALID, "%s: dtype %d: must be 0 (f32), 1 (f16) or 2 (bf16)", what,
                          (int)taut_number_of(&b->dtype));
    size_t elem = b->dtype == TAUT_F32 ? 4 : 2;
    if (!b->jobs && (((uintptr_t)b->one.src | (uintptr_t)b->one.dst) & (elem - 1)))
        return taut__fail(TAUT_E_INVALID, "%s: elements at %p or %p: must be multiples of %zu", what, b->one.src,
                          b->one.dst, elem);
    if (b->units > 0x7fffffffull)
        return taut__fail(TAUT_E_RANGE, "%s: %llu units of work: must be below 2^31", what,
                          (unsigned long long)b->units);
    return TAUT_OK;
}

/* The oldest version that reads a payload which a kernel has written, as taut_codec.version_of says it on the host: of quant (id 4) 2 with norm 3,
 * rotated, of grid (5) 4 with code rans, kind 5, and 3 in a basis and 1 with others; `newest` of the other codecs. */
static __device__ __forceinline__ uint32_t taut_version_of(uint32_t codec, uint32_t newest, const uint8_t *payload)
{
    if (codec == 5) return (payload[0] & 0x3f) == 5 ? 4 : payload[0] & 0x40 ? 3 : 1;
    if (codec == 4) return payload[1] == 3 ? 2 : 1;
    return newest;
}

/* ---- jobs ---- */

/* The job that unit `u` belongs to; *unit: the unit's number in it. Same answer for all threads that pass the same u. */
static __device__ __forceinline__ const taut__cuda_job *taut_job_of(const taut__cuda_batch &b, uint64_t u,
                                                                    uint64_t *unit)
{
    if (!b.jobs) {
        *unit = u;
        return &b.one;
    }
    uint32_t lo = 0, hi = b.count;
    while (hi - lo > 1) {
        uint32_t mid = (lo + hi) / 2;
        if (b.jobs[mid].unit <= u) lo = mid;
        else hi = mid;
    }
    *unit = u - b.jobs[lo].unit;
    return &b.jobs[lo];
}
static __device__ __forceinline__ void taut_flag(const taut__cuda_job *j, unsigned bits)
{
    if (j->flags) atomicOr(j->flags, bits);
}

/* ---- four neighbours at a time: 16-byte accesses where the address allows ---- */

static __device__ __forceinline__ float4 taut_load4(const float *p, uint64_t i, uint64_t n)
{
    if (((uintptr_t)(p + i) & 15) == 0 && i + 4 <= n) return *(const float4 *)(p + i);
    return make_float4(i < n ? p[i] : 0, i + 1 < n ? p[i + 1] : 0, i + 2 < n ? p[i + 2] : 0, i + 3 < n ? p[i + 3] : 0);
}
static __device__ __forceinline__ void taut_store4(float *p, uint64_t i, uint64_t n, float4 v)
{
    if (((uintptr_t)(p + i) & 15) == 0 && i + 4 <= n) {
        *(float4 *)(p + i) = v;
        return;
    }
    if (i < n) p[i] = v.x;
    if (i + 1 < n) p[i + 1] = v.y;
    if (i + 2 < n) p[i + 2] = v.z;
    if (i + 3 < n) p[i + 3] = v.w;
}
static __device__ __forceinline__ ushort4 taut_load4h(const uint16_t *p, uint64_t i, uint64_t n)
{
    if (((uintptr_t)(p + i) & 7) == 0 && i + 4 <= n) return *(const ushort4 *)(p + i);
    uint16_t z = 0;
    return make_ushort4(i < n ? p[i] : z, i + 1 < n ? p[i + 1] : z, i + 2 < n ? p[i + 2] : z, i + 3 < n ? p[i + 3] : z);
}
static __device__ __forceinline__ void taut_store4h(uint16_t *p, uint64_t i, uint64_t n, ushort4 v)
{
    if (((uintptr_t)(p + i) & 7) == 0 && i + 4 <= n) {
        *(ushort4 *)(p + i) = v;
        return;
    }
    if (i < n) p[i] = v.x;
    if (i + 1 < n) p[i + 1] = v.y;
    if (i + 2 < n) p[i + 2] = v.z;
    if (i + 3 < n) p[i + 3] = v.w;
}
static __device__ __forceinline__ float4 taut_from_half(ushort4 h, taut_dtype d)
{
    if (d == TAUT_F16)
        return make_float4(taut__from_f16(h.x), taut__from_f16(h.y), taut__from_f16(h.z), taut__from_f16(h.w));
    return make_float4(taut__from_bf16(h.x), taut__from_bf16(h.y), taut__from_bf16(h.z), taut__from_bf16(h.w));
}
static __device__ __forceinline__ ushort4 taut_to_half(float4 v, taut_dtype d)
{
    if (d == TAUT_F16) return make_ushort4(taut__to_f16(v.x), taut__to_f16(v.y), taut__to_f16(v.z), taut__to_f16(v.w));
    return make_ushort4(taut__to_bf16(v.x), taut__to_bf16(v.y), taut__to_bf16(v.z), taut__to_bf16(v.w));
}
/* Elements i..i+3 of n, of any dtype; 0 beyond n. */
static __device__ __forceinline__ float4 taut_load4_as(const void *p, taut_dtype d, uint64_t i, uint64_t n)
{
    return d == TAUT_F32 ? taut_load4((const float *)p, i, n)
                         : taut_from_half(taut_load4h((const uint16_t *)p, i, n), d);
}
static __device__ __forceinline__ void taut_store4_as(void *p, taut_dtype d, uint64_t i, uint64_t n, float4 v)
{
    if (d == TAUT_F32) taut_store4((float *)p, i, n, v);
    else taut_store4h((uint16_t *)p, i, n, taut_to_half(v, d));
}
static __device__ __forceinline__ float4 taut_add4(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}
static __device__ __forceinline__ float4 taut_scale4(float4 a, float f)
{
    return make_float4(a.x * f, a.y * f, a.z * f, a.w * f);
}
/* x of a job: src + residual; 0 from element `end` on, which may be somebody else's to write. */
static __device__ __forceinline__ float4 taut_input4_to(const taut__cuda_job *j, taut_dtype d, uint64_t i, uint64_t end)
{
    float4 x = taut_load4_as(j->src, d, i, end);
    return j->residual ? taut_add4(taut_load4(j->residual, i, end), x) : x;
}
static __device__ __forceinline__ float4 taut_input4(const taut__cuda_job *j, taut_dtype d, uint64_t i)
{
    return taut_input4_to(j, d, i, j->n);
}

/* ---- sums and extremes over a warp ---- */

/* v of this lane and of all lanes before it. By a whole warp. */
template <typename T> static __device__ __forceinline__ T taut_warp_scan(T v)
{
    for (uint32_t d = 1; d < TAUT_WARP; d *= 2) {
        T o = __shfl_up_sync(TAUT_ALL, v, d);
        if (TAUT_LANE >= d) v += o;
    }
    return v;
}

/* Floats in an order of integers; -0 below +0, NaN beyond the infinities. */
static __device__ __forceinline__ int taut_ordered(float x)
{
    int b = (int)__float_as_uint(x);
    return b ^ (int)((unsigned)(b >> 31) >> 1);
}
static __device__ __forceinline__ float taut_unordered(int b)
{
    return __uint_as_float((unsigned)(b ^ (int)((unsigned)(b >> 31) >> 1)));
}
static __device__ __forceinline__ double taut_warp_sum(double v)
{
    for (unsigned d = 16; d > 0; d /= 2) v += __shfl_down_sync(TAUT_ALL, v, d);
    return v; /* in lane 0, folded as taut__fold() does */
}

/* *to += v, in the order in which threads come. */
static __device__ inline void taut_add_double(double *to, double v)
{
    unsigned long long *word = (unsigned long long *)to, old = atomicAdd(word, 0ull), seen, next;
    do {
        double sum;
        seen = old;
        memcpy(&sum, &seen, sizeof sum);
        sum += v;
        memcpy(&next, &sum, sizeof next);
        old = atomicCAS(word, seen, next);
    } while (old != seen);
}

#endif
