/* cuda_runtime.h : the part of CUDA C++ and of its runtime that Taut's kernels use, for g++ on a CPU. The compiler finds this
 * file in place of NVIDIA's. How threads run: ../block.h; streams, graphs, memory: ../stream.h. What is missing here is not
 * to be used in a kernel, or to be added here. Differences that cannot be hidden are macros, in compressors/cuda/cuda_kernel.h:
 * launches and shared memory. */
#ifndef CUDA_HOST_RUNTIME_H
#define CUDA_HOST_RUNTIME_H

#include "../block.h"
#include "../stream.h"
#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>

#define TAUT_CUDA_HOST_MODEL 1

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
#define __restrict__ __restrict

/* ---- vectors: aligned as on the device, so that UBSan sees a misaligned one ---- */
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) ushort4 {
    unsigned short x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
struct alignas(16) ulonglong2 {
    unsigned long long x, y;
};
static inline float4  make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2   make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4   make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline int4    make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline ushort4 make_ushort4(unsigned short x, unsigned short y, unsigned short z, unsigned short w)
{
    return {x, y, z, w};
}

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#if defined(__SANITIZE_THREAD__)
#define CUDA_HOST_HERE cuda_host::current_unseen()
#else
#define CUDA_HOST_HERE cuda_host::current
#endif
#define threadIdx (CUDA_HOST_HERE->thread)
#define blockIdx  (CUDA_HOST_HERE->block)
#define blockDim  (CUDA_HOST_HERE->block_dim)
#define gridDim   (CUDA_HOST_HERE->grid_dim)
enum { warpSize = 32 };

/* ---- barriers and warp operations ---- */
#define CUDA_HOST_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(CUDA_HOST_SITE) { cuda_host::barrier({file, line}); }
static inline int  __syncthreads_count(int yes, CUDA_HOST_SITE)
{
    return (int)cuda_host::barrier_count(yes != 0, {file, line});
}
static inline int __syncthreads_or(int yes, CUDA_HOST_SITE)
{
    return cuda_host::barrier_count(yes != 0, {file, line}) != 0;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_HOST_SITE)
{
    cuda_host::warp_meet(mask, cuda_host::warp_op::sync, 0, 0, 32, 0, {file, line});
}

namespace cuda_host
{
template <class T> static inline uint64_t to_bits(T v)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value,
                  "warp operations take values of up to 8 bytes");
    uint64_t b = 0;
    memcpy(&b, &v, sizeof v);
    return b;
}
template <class T> static inline T from_bits(uint64_t b)
{
    T v;
    memcpy(&v, &b, sizeof v);
    return v;
}
template <class T>
constexpr unsigned kind_of = (unsigned)sizeof(T) * 4 + (std::is_floating_point<T>::value ? 2 : 0) +
                             (std::is_signed<T>::value ? 1 : 0);
template <class T> static inline T shuffle(unsigned mask, warp_op op, T v, int argument, int width, site where)
{
    return from_bits<T>(warp_meet(mask, op, to_bits(v), argument, width, kind_of<T>, where));
}
} // namespace cuda_host

template <class T> static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32, CUDA_HOST_SITE)
{
    return cuda_host::shuffle(mask, cuda_host::warp_op::shfl, v, from, width, {file, line});
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, CUDA_HOST_SITE)
{
    return cuda_host::shuffle(mask, cuda_host::warp_op::shfl_up, v, (int)delta, width, {file, line});
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, CUDA_HOST_SITE)
{
    return cuda_host::shuffle(mask, cuda_host::warp_op::shfl_down, v, (int)delta, width, {file, line});
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int with, int width = 32, CUDA_HOST_SITE)
{
    return cuda_host::shuffle(mask, cuda_host::warp_op::shfl_xor, v, with, width, {file, line});
}
static inline unsigned __ballot_sync(unsigned mask, int yes, CUDA_HOST_SITE)
{
    return (unsigned)cuda_host::warp_meet(mask, cuda_host::warp_op::ballot, yes != 0, 0, 32, 0, {file, line});
}
static inline int __any_sync(unsigned mask, int yes, CUDA_HOST_SITE)
{
    return (int)cuda_host::warp_meet(mask, cuda_host::warp_op::any, yes != 0, 0, 32, 0, {file, line});
}
static inline int __all_sync(unsigned mask, int yes, CUDA_HOST_SITE)
{
    return (int)cuda_host::warp_meet(mask, cuda_host::warp_op::all, yes != 0, 0, 32, 0, {file, line});
}
template <class T> static inline unsigned __match_any_sync(unsigned mask, T v, CUDA_HOST_SITE)
{
    return (unsigned)cuda_host::warp_meet(mask, cuda_host::warp_op::match_any, cuda_host::to_bits(v), 0, 32,
                                          cuda_host::kind_of<T>, {file, line});
}
#define CUDA_HOST_REDUCE(name, T, op)                                                                                  \
    static inline T name(unsigned mask, T v, CUDA_HOST_SITE)                                                           \
    {                                                                                                                  \
        return cuda_host::from_bits<T>(cuda_host::warp_meet(mask, cuda_host::warp_op::op, cuda_host::to_bits(v), 0,    \
                                                            32, cuda_host::kind_of<T>, {file, line}));                 \
    }
CUDA_HOST_REDUCE(__reduce_add_sync, unsigned, add)
CUDA_HOST_REDUCE(__reduce_add_sync, int, add)
CUDA_HOST_REDUCE(__reduce_min_sync, unsigned, min)
CUDA_HOST_REDUCE(__reduce_min_sync, int, min)
CUDA_HOST_REDUCE(__reduce_max_sync, unsigned, max)
CUDA_HOST_REDUCE(__reduce_max_sync, int, max)
CUDA_HOST_REDUCE(__reduce_or_sync, unsigned, bit_or)
CUDA_HOST_REDUCE(__reduce_and_sync, unsigned, bit_and)
CUDA_HOST_REDUCE(__reduce_xor_sync, unsigned, bit_xor)
#undef CUDA_HOST_REDUCE

/* ---- atomics, fences ---- */
namespace cuda_host
{
template <class T, class F> static inline T update(T *p, F f)
{
    maybe_yield();
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(p, &old, f(old), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}
} // namespace cuda_host
#define CUDA_HOST_ATOMIC(T)                                                                                            \
    static inline T atomicAdd(T *p, T v)                                                                               \
    {                                                                                                                  \
        return cuda_host::update(p, [v](T o) { return (T)(o + v); });                                                  \
    }                                                                                                                  \
    static inline T atomicOr(T *p, T v)                                                                                \
    {                                                                                                                  \
        return cuda_host::update(p, [v](T o) { return (T)(o | v); });                                                  \
    }                                                                                                                  \
    static inline T atomicAnd(T *p, T v)                                                                               \
    {                                                                                                                  \
        return cuda_host::update(p, [v](T o) { return (T)(o & v); });                                                  \
    }                                                                                                                  \
    static inline T atomicMax(T *p, T v)                                                                               \
    {                                                                                                                  \
        return cuda_host::update(p, [v](T o) { return o > v ? o : v; });                                               \
    }                                                                                                                  \
    static inline T atomicMin(T *p, T v)                                                                               \
    {                                                                                                                  \
        return cuda_host::update(p, [v](T o) { return o < v ? o : v; });                                               \
    }                                                                                                                  \
    static inline T atomicExch(T *p, T v)                                                                              \
    {                                                                                                                  \
        return cuda_host::update(p, [v](T) { return v; });                                                             \
    }                                                                                                                  \
    static inline T atomicCAS(T *p, T old, T v)                                                                        \
    {                                                                                                                  \
        return cuda_host::update(p, [old, v](T o) { return o == old ? v : o; });                                       \
    }
CUDA_HOST_ATOMIC(unsigned)
CUDA_HOST_ATOMIC(int)
CUDA_HOST_ATOMIC(unsigned long long)
#undef CUDA_HOST_ATOMIC
#if defined(__SANITIZE_THREAD__) /* which knows no fences: what came before one comes before what follows a later one */
static inline void __threadfence()
{
    static int order;
    int        seen = 0;
    __atomic_compare_exchange_n(&order, &seen, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
#else
static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
#endif
static inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __nanosleep(unsigned) { cuda_host::yield(); }

/* ---- arithmetic ---- */
static inline int      __popc(unsigned v) { return __builtin_popcount(v); }
static inline int      __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static inline int      __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
static inline int      __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
static inline int      __ffs(int v) { return __builtin_ffs(v); }
static inline int      __ffsll(long long v) { return __builtin_ffsll(v); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned n)
{
    return (unsigned)(((uint64_t)hi << 32 | lo) >> (n & 31));
}
static inline unsigned __byte_perm(unsigned a, unsigned b,
                                   unsigned s) /* selectors of 0..7; the copied sign is not modelled */
{
    uint64_t all = (uint64_t)b << 32 | a;
    unsigned r = 0;
    for (int k = 0; k < 4; k++) r |= (unsigned)(all >> 8 * (s >> 4 * k & 7) & 0xff) << 8 * k;
    return r;
}
static inline int __viaddmin_s32_relu(int a, int b, int c) /* the sum wraps */
{
    int s = (int)((unsigned)a + (unsigned)b), least = s < c ? s : c;
    return least > 0 ? least : 0;
}
static inline unsigned __float_as_uint(float x) { return cuda_host::from_bits<unsigned>(cuda_host::to_bits(x)); }
static inline float    __uint_as_float(unsigned x) { return cuda_host::from_bits<float>(cuda_host::to_bits(x)); }
static inline int      __float2int_rn(float x)
{
    return x != x ? 0 : x >= 2147483648.0f ? INT32_MAX : x < -2147483648.0f ? INT32_MIN : (int)lrintf(x);
}
template <class T> static inline T    __ldg(const T *p) { return *p; }
template <class T> static inline T    __ldcs(const T *p) { return *p; }
template <class T> static inline void __stcs(T *p, T v) { *p = v; }
static inline unsigned                min(unsigned a, unsigned b) { return a < b ? a : b; }
static inline unsigned                max(unsigned a, unsigned b) { return a > b ? a : b; }
static inline int                     min(int a, int b) { return a < b ? a : b; }
static inline int                     max(int a, int b) { return a > b ? a : b; }

/* ---- launches ---- */
namespace cuda_host
{
template <class... P, class... A>
static inline void launch_kernel(const char *name, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                                 void (*kernel)(P...), A &&...args)
{
    std::tuple<typename std::decay<P>::type...> held(static_cast<P>(args)...);
    enqueue_launch(launch{name,
                          {grid.x, grid.y, grid.z},
                          {block.x, block.y, block.z},
                          shared_bytes,
                          [kernel, held]() { std::apply(kernel, held); },
                          0},
                   stream);
}
} // namespace cuda_host

#endif
