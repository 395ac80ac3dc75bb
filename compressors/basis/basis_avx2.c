/* basis_avx2.c : see basis_simd.h */
#include <immintrin.h>

#define LANES        8
#define ADD(s, x, v) (s) = (lanes)_mm256_fmadd_ps(_mm256_set1_ps(x), (__m256)(v), (__m256)(s))
#define SUB(s, x, v) (s) = (lanes)_mm256_fnmadd_ps(_mm256_set1_ps(x), (__m256)(v), (__m256)(s))
#include "basis_simd.h"

const struct taut__basis_kernels taut__basis_avx2 = {.reflect = reflect, .project = project, .outer = outer};
