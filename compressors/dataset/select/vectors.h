/* vectors.h : a float field of this rank's part of a pool, in memory. */
#ifndef TAUT_VECTORS_H
#define TAUT_VECTORS_H

#include "select.h"

typedef struct taut__vectors { /* zero-initialise; taut__vectors_free() */
    size_t    dim, n;          /* floats of a sample; samples of this rank */
    float    *v;               /* n * dim */
    uint64_t *place;           /* n */
} taut__vectors;

/* taut__vectors_read() : unit: each is divided by its length (a vector of zeros stays). TAUT_E_INVALID names a sample with a value that is not
 *  finite. Not collective. */
taut_status taut__vectors_read(taut__vectors *x, taut__select *s, bool unit);
void        taut__vectors_free(taut__vectors *x);
/* One sample of the pool, as read() would have it: to[0..dim). */
taut_status taut__vectors_one(const taut__vectors *x, taut__select *s, uint64_t place, bool unit, float *to);

/* Sums in eight lanes, in a fixed order: the same on every machine and for any number of ranks. */
float taut__vectors_dot(const float *a, const float *b, size_t n);
float taut__vectors_distance2(const float *a, const float *b, size_t n);

#endif
