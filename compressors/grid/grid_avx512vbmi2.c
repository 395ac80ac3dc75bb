/* grid_avx512vbmi2.c : AVX-512 with VBMI, VBMI2, IFMA, VNNI and VPOPCNTDQ: Ice Lake, Zen 4 and later. */
#define GRID_TABLE taut__grid_avx512vbmi2
#include "grid_avx512.h"
