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
#define TAUT_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                            \
    cuda_host::launch_kernel(#kernel, grid, block, shared_bytes, stream, kernel, __VA_ARGS__)
#define TAUT_SHARED(type, name, count)                                                                         \
    static const char name##_tag = 0;                                                                          \
    type(&name)[count] = *static_cast<type(*)[count]>(cuda_host::shared_static(&name##_tag, sizeof(type[count])))
#define TAUT_SHARED_DYNAMIC(type, name) type *name = static_cast<type *>(cuda_host::shared_dynamic())
#else
#define TAUT_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                            \
    kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#define TAUT_SHARED(type, name, count)  __shared__ __align__(16) type name[count]
#define TAUT_SHARED_DYNAMIC(type, name) extern __shared__ __align__(16) unsigned char taut_dynamic_[]; type *name = (type *)taut_dynamic_
#endif

#define TAUT_WARP     32
#define TAUT_ALL      0xffffffffu /* the mask of a whole warp */
#define TAUT_LANE     (threadIdx.x % TAUT_WARP)
#define TAUT_LANES_LT ((1u << TAUT_LANE) - 1) /* the lanes before this one */

#endif
