/* formats.h : from a file of another format to an index of it. A format is one table: scan() walks through the sources, says which
 * fields there are, and adds the places of every sample. Nothing in a file is trusted; failures name file and record.
 * index_writer.c then reads every sample once, in blocks, and writes the index with their hashes. */
#ifndef TAUT_DATASET_IMPORT_H
#define TAUT_DATASET_IMPORT_H

#include "foreign.h"

typedef struct taut__import_field {
    taut_field   field; /* name, kind, type, shape, variable */
    taut__as     as;
    taut__places places;
    uint32_t *decoded; /* decoded bytes of samples, where `as` changes lengths and the field is variable; else NULL */
    size_t    decoded_room;
    bool      nonnegative; /* elements are signed in the file and must not be below 0 */
} taut__import_field;

typedef struct taut__import { /* zero-initialise; taut__import_free() */
    const taut_index_options *options;
    taut__foreign             foreign; /* file[0..files): the sources, open; formats add buffers */
    taut__import_field        field[64];
    size_t                    fields;
    uint64_t                  samples;
    taut_bytes                labels; /* names of classes, a line each */
} taut__import;

typedef struct taut__format {
    const char *name, *help;
    /* does a file that begins with head[0..n) and has this name look like one? */
    bool (*knows)(const char *path, const uint8_t *head, size_t n);
    bool several; /* several files are fields of the same samples */
    taut_status (*scan)(taut__import *im);
} taut__format;

extern const taut__format taut__format_mds, taut__format_tar, taut__format_megatron, taut__format_npy, taut__format_idx,
    taut__format_tfrecord, taut__format_arrow;

/* Name of the format of a file that begins with head[0..n), as far as can be told; NULL: none of these. */
const char *taut__import_format_of(const char *path, const uint8_t *head, size_t n);

void        taut__import_free(taut__import *im);
taut_status taut__import_scan(taut__import *im, const taut__format *format); /* scan() and what must hold after it */
taut_status taut__index_write(taut__import *im, const taut__format *format, const char *path); /* index_writer.c */

/* ---- for formats ---- */

/* taut__import_field_add() : a field, checked, with a name made of letters that names may have; another of that name gets a number.
 *  *number: of the field. places.fixed is set where the samples are of one size. Returns TAUT_E_UNSUPPORTED past 64. */
taut_status taut__import_field_add(taut__import *im, const char *name, const taut_field *like, taut__as as,
                                   size_t *number);
/* taut__import_tokens_add() : the same; integers of one dimension that are called like token ids (tokens, input_ids, ids, or
 *  options.tokens) are of kind tokens, signed ones after a check that none is negative. */
taut_status taut__import_tokens_add(taut__import *im, const char *name, const taut_field *like, taut__as as,
                                    size_t *number);
/* Is this field wanted (options.select)? */
bool taut__import_wanted(const taut__import *im, const char *name);
/* Every selected name was there? n fields were looked at by these names. */
taut_status taut__import_selected(const taut__import *im, const char *file, size_t n, const char *const *names);
/* One more sample. bytes: stored; decoded: ignored but for fields with lengths of their own. what: of the failure, "record 3" */
taut_status taut__import_place(taut__import *im, size_t field, uint32_t buffer, uint64_t at, uint64_t bytes,
                               uint64_t decoded, const char *what);

/* An integer column is the label if it is called so (label, class, cls, target, y, or options.label). */
bool taut__import_is_label(const taut__import *im, const char *name);
bool taut__import_has_label(const taut__import *im);

/* Kind, shape of an array of elements `type` with the extents after the first axis, as `taut data pack` chooses them. name: NULL or
 * what decides about a label. */
taut_status taut__import_array(const taut__import *im, const char *name, taut_type type, const uint64_t *shape,
                               size_t ndim, taut_field *field);

/* The stored text without an end of something: "path/x.tar" -> "x" */
void taut__import_stem(const char *path, char *dst, size_t cap);
bool taut__import_ends(const char *path, const char *tail); /* without regard to case */

#endif
