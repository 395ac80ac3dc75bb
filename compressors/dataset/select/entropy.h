/* entropy.h : the sizes that the entropy method compares, by zstd with a prefix that may be as long as the chosen set. */
#ifndef TAUT_ENTROPY_H
#define TAUT_ENTROPY_H

#include "../../../comm/base/base.h"
#include <zstd.h>

/* taut__sizer : compressed bytes of a sample, given others. Zero-initialise. */
typedef struct taut__sizer {
    ZSTD_CCtx *c;
    uint8_t   *out;
    size_t     room;
} taut__sizer;
taut_status taut__sizer_init(taut__sizer *z);
void        taut__sizer_fini(taut__sizer *z);
/* given[0..n) is what sizes are conditional on from now on; copied; n = 0: nothing. Its tables have a place for every position, or
 * what came first would be forgotten. */
taut_status taut__sizer_given(taut__sizer *z, const uint8_t *given, size_t n);
taut_status taut__sizer_size(taut__sizer *z, const uint8_t *data, size_t n, size_t *size);

#endif
