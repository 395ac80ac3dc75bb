/* candidates.h : which codec specs a plan may choose from. A family is one row per list of values in candidates.c; a new
 * codec joins with a row. grid's candidates depend on the data (measure.h: a ladder of steps). */
#ifndef TAUT_CANDIDATES_H
#define TAUT_CANDIDATES_H

#include "codec.h"

enum { /* families, as bits */
       TAUT_FAMILY_HALF = 1,
       TAUT_FAMILY_QUANT = 2,
       TAUT_FAMILY_TOPK = 4,
       TAUT_FAMILY_POWERSGD = 8,
       TAUT_FAMILY_GRID = 16,
       TAUT_FAMILY_ALL = 31,
};

/* "quant,grid" or "all" */
taut_status taut__families_parse(const char *text, uint32_t *families);

/* Fills spec[0..max) with those that suit the tensor and are smaller than float32; returns how many. `none` is not
 * among them. thorough: also values that are rarely chosen and cost time to measure. */
size_t taut__candidates(const taut_tensor *t, uint32_t families, bool thorough, taut_spec *spec, size_t max);

/* The same, of small layers in one: 8 bits and more. They lie at multiples of 64 elements, so that one with small values has buckets of
 * its own. */
enum { TAUT_CAREFUL_BLOCK = 64, TAUT_CAREFUL = 4 };
size_t taut__careful_candidates(const taut_tensor *t, taut_spec *spec, size_t max);

/* The spec of grid at a relative error; code: as its key; basis: directions, 0: none. */
void taut__grid_text(double rel, int code, size_t basis, char *dst, size_t cap);

#endif
