/* dispatch.h : which kernels this CPU runs. Only dispatch.c asks the CPU.
 *
 * Each kernel family is a table of function pointers, declared in its own folder, with one instance per level:
 * taut__<family>_portable (the specification, always there) and taut__<family>_avx2, _avx512, _avx512vbmi2, _neon
 * where the compiler has the ISA. Tables are complete: a level without its own kernel names the next lower one's function.
 */
#ifndef TAUT_DISPATCH_H
#define TAUT_DISPATCH_H

#include "../comm/base/base.h"

struct taut__vec_kernels;    /* compressors/vec/vec.h: casts, add, scale, sums of squares */
struct taut__quant_kernels;  /* compressors/quant/quant_kernels.h */
struct taut__topk_kernels;   /* compressors/topk/topk_kernels.h */
struct taut__grid_kernels;   /* compressors/grid/grid_kernels.h */
struct taut__crc_kernels;    /* compressors/crc/crc.h: CRC-32C */
struct taut__basis_kernels;  /* compressors/basis/basis_kernels.h */
struct taut__rotate_kernels; /* compressors/quant/quant_rotate.h */

typedef struct taut__simd {
    const char                        *name; /* "portable", "avx2", "avx512", "avx512vbmi2", "neon" */
    const struct taut__vec_kernels    *vec;
    const struct taut__quant_kernels  *quant;
    const struct taut__topk_kernels   *topk;
    const struct taut__grid_kernels   *grid;
    const struct taut__crc_kernels    *crc;
    const struct taut__basis_kernels  *basis;
    const struct taut__rotate_kernels *rotate;
} taut__simd;

const taut__simd *taut__simd_get(void);    /* the best this CPU and OS support, capped by TAUT_CPU */
const taut__simd *taut__simd_at(size_t i); /* tests: every usable table on this CPU, portable first; NULL past */
void taut__simd_use(const taut__simd *t);  /* tests: from now on this one; NULL: as before. Not while codecs work */

#endif
