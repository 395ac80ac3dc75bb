/* topk_sparse.h : payload of positions and values, used by topk and for exact sums (docs/wire-format.md, "topk").
 *
 *   header | groups of up to 512 kept elements: unary words, low words, values | one 8-byte entry per group
 *
 * Positions are coded as gaps g >= 0 (elements skipped), Rice-coded per group with the parameter b that is shortest for
 * that group: g >> b zeros and a one in the unary words, b low bits in the low words. b = 0 is exactly a bitmap of the
 * group's span. The table at the end lets many decoders start at once; it is last because nobody knows the number of
 * groups before the data was read once. */
#ifndef TAUT_TOPK_SPARSE_H
#define TAUT_TOPK_SPARSE_H

#include "topk_format.h"

typedef struct taut__sparse_writer {
    uint8_t *dst;
    size_t   cap, used, groups;
    uint64_t count; /* elements written, without the open group */
    uint64_t next;  /* position after the last one pushed */
    size_t   fill;  /* of the open group */
    bool     full;  /* did not fit: the caller sends the floats raw instead */
    uint64_t gap[TAUT_SPARSE_GROUP];
    float    val[TAUT_SPARSE_GROUP];
} taut__sparse_writer;

/* dst[0..cap) is the writer's until finish, which returns the payload's bytes, or 0 if it did not fit. */
void   taut__sparse_begin(taut__sparse_writer *w, uint8_t *dst, size_t cap);
void   taut__sparse_flush(taut__sparse_writer *w);
size_t taut__sparse_finish(taut__sparse_writer *w, double density);

/* Positions increase. */
static inline void taut__sparse_push(taut__sparse_writer *w, uint64_t pos, float val)
{
    w->gap[w->fill] = pos - w->next;
    w->val[w->fill] = val;
    w->next = pos + 1;
    if (++w->fill == TAUT_SPARSE_GROUP) taut__sparse_flush(w);
}

/* The same header around n floats as they are. dst: TAUT_SPARSE_HEADER + 4n bytes. */
size_t taut__sparse_raw(const float *src, size_t n, double density, uint8_t *dst);

/* dst[i] = value, or += value. TAUT_E_CORRUPT for anything that a writer would not have written. */
taut_status taut__sparse_decode(const uint8_t *src, size_t len, float *dst, size_t n);
taut_status taut__sparse_decode_add(const uint8_t *src, size_t len, float *acc, size_t n);
/* err[i] = 0 for the elements that the payload holds: what encoding them leaves. */
taut_status taut__sparse_zero(const uint8_t *src, size_t len, float *err, size_t n);
taut_status taut__sparse_density(const uint8_t *src, size_t len, double *density);

#endif
