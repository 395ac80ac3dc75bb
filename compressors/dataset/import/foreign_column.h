/* foreign_column.h : values of one column that lie here and there in a file, each a piece of bytes: members of a tar with one
 * ending, a column of MDS. First every value is looked at, then the column becomes a field, then every value is placed. */
#ifndef TAUT_FOREIGN_COLUMN_H
#define TAUT_FOREIGN_COLUMN_H

#include "foreign_array.h"

/* The header of a value at [at, at+bytes) of the source: type, shape and where its elements begin (an offset of the source). ctx: the
 * column's. */
typedef taut_status (*taut__value_head)(const void *ctx, taut__source *s, uint64_t at, uint64_t bytes, taut__array *a);

typedef enum taut__column_kind {
    TAUT__COLUMN_TEXT,
    TAUT__COLUMN_BYTES, /* of one shape where all values have as many */
    TAUT__COLUMN_FILE,
    TAUT__COLUMN_ASCII, /* a whole number in digits: i64 */
    TAUT__COLUMN_FIXED, /* elements of `type`, `ndim` and `shape` as they are */
    TAUT__COLUMN_ARRAY  /* an array behind a header: elements of one shape, or of one dimension and type; else a file */
} taut__column_kind;

typedef struct taut__column {
    char              name[128]; /* of the field to be */
    taut__column_kind kind;
    taut__array       first; /* FIXED: type, shape[0..ndim), ndim; ARRAY: of the first value */
    taut__value_head  head;  /* ARRAY */
    const void       *ctx;
    uint64_t          values, bytes;        /* looked at; bytes of the first */
    bool              differ;               /* in bytes */
    bool              shapes_differ, lines; /* ARRAY: lines: all have one dimension, and the type of the first */
    size_t            field;                /* number, after taut__column_field() */
} taut__column;

taut_status taut__column_look(taut__column *c, taut__source *s, uint64_t at, uint64_t bytes);
taut_status taut__column_field(taut__import *im, taut__column *c);
/* buffer: all of the source. what: for messages. */
taut_status taut__column_place(taut__import *im, const taut__column *c, taut__source *s, uint32_t buffer, uint64_t at,
                               uint64_t bytes, const char *what);

/* A head for portable any-maps, P5 and P6 with 8 bits. */
taut_status taut__pnm_head(const void *ctx, taut__source *s, uint64_t at, uint64_t bytes, taut__array *a);
taut_status taut__npy_value(const void *ctx, taut__source *s, uint64_t at, uint64_t bytes, taut__array *a);

#endif
