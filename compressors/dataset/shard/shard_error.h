/* shard_error.h : how far decoded elements are from those put in, in float64. */
#ifndef TAUT_SHARD_ERROR_H
#define TAUT_SHARD_ERROR_H

#include "../fields/field.h"

typedef struct taut_error {
    double   error2, norm2, max; /* sums of squares of differences and of elements; the largest difference */
    uint64_t n;
} taut_error;

/* x and y: `bytes` of elements of this type. NaN against NaN, and equal infinities, are no difference; a NaN or
 * infinity that was lost or invented makes the error infinite. */
taut_error taut__error_of(taut_type type, const uint8_t *x, const uint8_t *y, size_t bytes);
void       taut__error_add(taut_error *sum, const taut_error *e);
void       taut__error_report(const taut_error *e, taut_field *field); /* rel_err2, max_err, psnr_db */

#endif
