/* basis_avx512.c : see basis_simd.h */
#include <immintrin.h>

#define LANES        16
#define ADD(s, x, v) (s) = (lanes)_mm512_fmadd_ps(_mm512_set1_ps(x), (__m512)(v), (__m512)(s))
#define SUB(s, x, v) (s) = (lanes)_mm512_fnmadd_ps(_mm512_set1_ps(x), (__m512)(v), (__m512)(s))
#include "basis_simd.h"

const struct taut__basis_kernels taut__basis_avx512 = {.reflect = reflect, .project = project, .outer = outer};
