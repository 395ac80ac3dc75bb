/* basis_there.h : a basis as a memory space is given it: what basis.c, the passes of a space (vectors.h) and the kernels (basis_cuda.cu) share.
 *
 * The tensor has `vectors` vectors of n numbers. Number j of vector v is element v n + j, or, where vectors are columns (across), j vectors + v.
 * Turned, coordinate j of vector v of a tile of BASIS_TILE vectors, of which there are m, is element j m + v of the tile's; across: where it was. */
#ifndef TAUT_BASIS_THERE_H
#define TAUT_BASIS_THERE_H

#include <stdbool.h>
#include <stdint.h>

enum { BASIS_TILE = 64 };

typedef struct taut__axes_there {
    uint64_t     n, vectors, r; /* r: directions, rounded up to BASIS_LANES */
    bool         across;
    const float *w, *wt, *t, *tt; /* as in taut__reflections */
    const float *v;               /* n x r: the leading directions */
    float       *a;               /* n x r: what is learnt, added to */
} taut__axes_there;

#endif
