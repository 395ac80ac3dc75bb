/* quant_rotate_avx512.c : rotated buckets, quant_rotate_simd.h with the registers and masks of AVX-512VL. */
#define ROTATE_TABLE taut__rotate_avx512
#include "quant_rotate_x86.h"
