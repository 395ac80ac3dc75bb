/* grid_avx512.c : AVX-512 F, BW, DQ, VL, CD. */
#define GRID_TABLE taut__grid_avx512
#include "grid_avx512.h"
