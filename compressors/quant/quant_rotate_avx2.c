/* quant_rotate_avx2.c : rotated buckets, quant_rotate_simd.h. */
#define ROTATE_TABLE taut__rotate_avx2
#include "quant_rotate_x86.h"
