/* placed.h : what a reduction does with memory of its place, which may be a device's that the host cannot touch.
 *
 * Frames lie in host memory wherever the place is, since transports take them from there and put them there: outside the host a payload is
 * written to, and read from, the worker's scratch, and its header and checksum are the host's work. So frames are the same bytes, and
 * algorithms need not know where their operand lies.
 *
 * On the host these are the plain calls. Elsewhere they enqueue on the lane's stream and wait, except copies, fills and passes over floats,
 * which nobody on the host looks at: what goes wrong with those is noted (taut__lane_note), and the job's step fails with it. scratch: of
 * the worker who calls. */
#ifndef TAUT_PLACED_H
#define TAUT_PLACED_H

#include "reduction.h"

/* ---- codec operations ---- on the piece's operands, which lie in the place; done when they return */
/* len: NULL, or the payload's bytes. */
taut_status taut__placed_do(const taut__reduction *red, taut__op op, taut_piece *p, size_t *len);
/* With a payload that is made, as a frame in host memory; or taken from one. */
taut_status taut__placed_make(const taut__reduction *red, taut__op op, taut_piece *p, uint8_t *frame, size_t cap,
                              size_t *len, float *scratch);
taut_status taut__placed_take(const taut__reduction *red, taut__op op, taut_piece *p, const uint8_t *frame, size_t len,
                              float *scratch);

/* ---- numbers ---- */
/* As taut__norm2; *bad, where not NULL: something is not finite. Not on the host. */
taut_norm2 taut__placed_norms(const taut__reduction *red, const float *x, size_t first, size_t n, bool *bad);
taut_norm2 taut__placed_norms_of(const taut__reduction *red, const taut_tensor *t, const float *x, size_t first,
                                 size_t n, bool *bad); /* in units of t's scale, which lies in the place */
void taut__placed_copy(const taut__reduction *red, void *dst, const void *src, size_t bytes); /* within the place */
void taut__placed_scale(const taut__reduction *red, float *x, float factor, size_t n);
void taut__placed_residual(const taut__reduction *red, float *err, const float *x, const float *y,
                           size_t n); /* x - y, 0 where not finite */
void taut__placed_convert(const taut__reduction *red, void *dst, taut_dtype to, const void *src, taut_dtype from,
                          size_t n);
/* r = r + factor * err, 0 where that is not finite. Outside the host err is spoilt. */
void taut__placed_add_scaled(const taut__reduction *red, float *r, float *err, float factor, size_t n);
bool taut__placed_overflowed(const taut__reduction *red, const void *x, taut_dtype dtype,
                             size_t n); /* a 16-bit number is not finite. Not on the host */

/* ---- memory of the place, zeroed ---- */
taut_status taut__placed_alloc(const taut__reduction *red, size_t bytes, const char *what,
                               void *out);                                  /* out: points to a pointer */
void        taut__placed_release(const taut__reduction *red, void *memory); /* NULL is fine */

/* ---- to or from the host: done when it returns ---- */
taut_status taut__lane_copy(const taut__lane *lane, void *dst, const void *src, size_t bytes);

/* ---- aside ---- work() is done when this returns, on the host; elsewhere by the lane's threads, and the reduction is not advanced until it is,
 * so it may change all that belongs to the reduction alone. red->aside.scratch: the worker's. */
taut_status        taut__aside_begin(taut__reduction *red, taut_status (*work)(taut__reduction *red));
taut_status        taut__aside_poll(taut__reduction *red, bool *moved); /* its status, once it is done */
void               taut__aside_cancel(taut__reduction *red);
static inline bool taut__aside_busy(const taut__reduction *red) { return red->aside.work; }

/* ---- order ---- */
taut_status               taut__placed_wait(const taut__reduction *red); /* until all work of the lane so far is done */
static inline taut_status taut__placed_check(const taut__reduction *red)
{
    return taut__at_home(red) ? TAUT_OK : taut__lane_check(red->lane);
}

#endif
