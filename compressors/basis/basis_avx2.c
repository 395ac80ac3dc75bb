/* basis_avx2.c : see basis_simd.h */
#include "basis_simd.h"

const struct taut__basis_kernels taut__basis_avx2 = {.reflect = reflect, .project = project, .outer = outer};
