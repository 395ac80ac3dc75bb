/* basis_avx512.c : see basis_simd.h */
#include "basis_simd.h"

const struct taut__basis_kernels taut__basis_avx512 = {.reflect = reflect, .project = project, .outer = outer};
