/* quant_rotate_vector.h : the vector types of quant_rotate_simd.h. */
#ifndef TAUT_QUANT_ROTATE_VECTOR_H
#define TAUT_QUANT_ROTATE_VECTOR_H

#include <stdint.h>

typedef float   f8 __attribute__((vector_size(32)));
typedef float   f8_loose __attribute__((vector_size(32), aligned(4), may_alias)); /* in memory, anywhere */
typedef int32_t i8 __attribute__((vector_size(32)));
typedef double  d4 __attribute__((vector_size(32)));

#endif
