/* foreign_array.h : formats that are one array, whose first axis counts samples. */
#ifndef TAUT_FOREIGN_ARRAY_H
#define TAUT_FOREIGN_ARRAY_H

#include "formats.h"

enum { TAUT__ARRAY_DIMS = 1 + TAUT_FIELD_DIMS };

typedef struct taut__array {
    taut_type type;
    bool      swap;
    size_t    ndim; /* 1.. */
    uint64_t  shape[TAUT__ARRAY_DIMS];
    uint64_t  at; /* of the first element */
} taut__array;

/* Each file of *im an array whose header `head` reads: a field each. */
taut_status taut__arrays_scan(taut__import *im, taut_status (*head)(taut__source *s, taut__array *a));

/* The header of a .npy that begins at offset `at` of the source and has `bytes` in all; a->at is an offset of the source. A single
 * number has ndim 0. what: "its .npy header" (foreign_npy.c) */
taut_status taut__npy_head(taut__source *s, uint64_t at, uint64_t bytes, taut__array *a);

#endif
