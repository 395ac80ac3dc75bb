/* input.h : an operand's x, encoded, and its result, stored. */
#ifndef TAUT_INPUT_H
#define TAUT_INPUT_H

#include "reduction.h"

typedef struct taut__piece_done { /* what one piece of codec work measured; added to the record in a fixed order */
    taut_status status;
    const char *why; /* where status is an error: the text, of the thread that did the work, until its next piece */
    size_t      bytes;
    taut_norm2  own, error;                /* of this rank's x, and of its encoding */
    taut_norm2  sum, requantization_error; /* of a sum, times factor, and of its encoding */
    double      seconds, decode_s;
} taut__piece_done;
bool         taut__in_place(const taut__reduction *red);               /* x can be read from buf as it is */
const float *taut__form(taut__reduction *red, size_t first, size_t n); /* x of a slice, formed once per run */
taut_call    taut__slice_call(const taut__reduction *red, size_t first, size_t n);
void         taut__encode_x(taut__reduction *red, taut__range r, uint8_t *dst, size_t cap, float *scratch,
                            taut__piece_done *out);
void         taut__quantize_x(taut__reduction *red, taut__range r, int32_t *q, int32_t limit, float *scratch,
                              taut__piece_done *out);
/* Codes, and their frame, in one pass. */
void taut__quantize_pack_x(taut__reduction *red, taut__range r, int32_t *q, int32_t limit, uint8_t *dst, size_t cap,
                           float *scratch, taut__piece_done *out);
void taut__own_x(taut__reduction *red, taut__range r, float *dst, taut__piece_done *out); /* copied; residual cleared */
float *taut__result_at(taut__reduction *red, size_t first, float *scratch); /* where to decode: buf, or scratch */
/* from: the result, which becomes 16 bits wide in layers of that kind. Codecs that lose something, and feedback, may push it beyond
 * the format's largest number: it stays finite, and the rest goes into the residual. keeps: on this rank; of the ranks that store
 * an element one does. */
void taut__result_store(taut__reduction *red, size_t first, size_t n, const float *from, bool keeps);
/* Outside the host: of a result that lies in buf already, and came from there, what overflowed; waits for the device. */
taut_status taut__result_overflow(taut__reduction *red, size_t first, size_t n, const float *from, bool keeps);
/* As taut__result_store for a whole result that lies where the residual does: nothing else is left there. */
void taut__result_store_last(taut__reduction *red, bool keeps);
void taut__result_load(taut__reduction *red, size_t first, size_t n, float *to);  /* buf as floats, in the place */
void taut__result_fetch(taut__reduction *red, size_t first, size_t n, float *to); /* the same, on the host */
/* Results of integer codecs, stored: factor times the value of each code, rounded after the code's own rounding, so that sums of
 * codes and frames of sums give the same bits. sum, where not NULL: the result's norms. */
taut_status taut__store_codes(taut__reduction *red, taut__range r, const int32_t *q, float *scratch, taut_norm2 *sum);
/* A frame of codes is added to q; their sums are stored, in one pass. */
taut_status taut__store_sums(taut__reduction *red, taut__range r, const uint8_t *frame, size_t len, int32_t *q,
                             float *scratch, taut_norm2 *sum);
void taut__store_scaled(taut__reduction *red, taut__range r, float *x, taut_norm2 *sum); /* values of codes' sums */
taut_norm2 taut__sum_norms(const taut__reduction *red, const float *x,
                           taut__range r); /* of a result; plain is NaN if it holds NaN or Inf, and that matters */
taut_norm2 taut__sum_norms_here(const taut__reduction *red, const float *x,
                                taut__range r); /* the same of x on the host, wherever the layer lies */
taut_norm2 taut__sum_bad(const taut__reduction *red, const float *x,
                         taut__range r); /* of a sum that will be encoded: its norm, which that changes, as 0, or NaN */
void       taut__add_norm(taut_norm2 *sum, taut_norm2 x, double factor);
taut_norm2 taut__norms_of(const taut__reduction *red, const float *x, taut__range r); /* x[0] is element r.first */
void       taut__keep_requantization_error(taut__reduction *red, taut__range r, float *err,
                                           float factor); /* residual += factor * err, which may be spoilt */
void       taut__account(taut__reduction *red, const taut__piece_done *done);
/* For the watcher: x of r as it will be encoded; factor * lost, in units of the sum, is not in the sum. */
static inline void taut__tell_sample(taut__reduction *red, taut__range r, const float *x)
{
    if (red->watched & TAUT_WATCH_SAMPLE) red->watcher->sample(red, r, x);
}
static inline void taut__tell_lost(taut__reduction *red, taut__range r, const float *lost, float factor)
{
    if (red->watched & TAUT_WATCH_SAMPLE) red->watcher->lost(red, r, lost, factor);
}
/* The wire's share: from sending what this rank owed, at sent_s, to the beginning of the piece of work, just done, that
 * needed the bytes received. */
void taut__trace_wire(taut__reduction *red, double sent_s, const taut__piece_done *done, uint64_t bytes);

#endif
