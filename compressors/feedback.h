/* feedback.h : error feedback, per layer or per slice of one.
 *
 * What a codec drops stays in a residual r and is added to the next gradient, so that the sum of everything that was
 * applied plus the last residual equals the sum of everything that was put in (Seide et al. 2014; Karimireddy et al.
 * 2019, algorithm 1). The codec-encoded tensor x is formed in r's own memory and encode() writes x - decoded(x) back
 * in place, so the state is one float per element:
 *
 *     taut__feedback_input(f, first, n, dtype, g)     x = g + r, in f->r[first .. first+n)
 *     codec->encode(call, x, dst, cap, &len, x)       the payload; x becomes the new residual
 *     taut__feedback_output(f, first, n)              momentum mode: forget the momentum of what was sent
 *
 * Slices may go through these in any order and from several threads, as long as slices do not overlap.
 * The residual is in units of the gradient, not of the codec: a layer that changes its codec keeps it as it is, which
 * is all that hand-over takes. A lossless codec sends x and leaves r = 0: taut__feedback_clear().
 *
 * Momentum mode is the momentum correction of DGC (Lin et al. 2018, eq. 4-5 and section 3.2, "momentum factor
 * masking"): u = m*u + g; v = v + u; v is what is encoded, and both u and v are zeroed where v was sent. It costs a
 * second float per element. It is meant for sparse codecs, which send an element exactly or not at all, and for an
 * optimizer without momentum of its own.
 *
 * EF21 (Richtarik et al. 2021) is left out: it sends C(g - h) and both sides add it to h, so every rank would keep the
 * h of the aggregate as well (a second state per element), a skipped or raw step would have to rewrite h everywhere,
 * and a new codec cannot take an EF21 state over.
 */
#ifndef TAUT_FEEDBACK_H
#define TAUT_FEEDBACK_H

#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct taut_feedback {
    taut_place place;    /* of r, u and of every g: work is enqueued on its stream */
    size_t     n;        /* elements */
    float      momentum; /* of u, [0,1); 0 = plain error feedback, and u is NULL */
    float     *r;        /* n floats: the residual between steps, x = g + r within one */
    float     *u;        /* n floats of momentum, or NULL */
} taut_feedback;

/* _create allocates zeroed state, on the host or in a place; momentum 0 for plain feedback. destroy(NULL) is fine. */
taut_status taut__feedback_create(size_t n, float momentum, taut_feedback **f);
taut_status taut__feedback_create_in(taut_place place, size_t n, float momentum, taut_feedback **f);
void        taut__feedback_destroy(taut_feedback *f);

/* r[first+i] += g[i] (or through u), i < n. g: n elements of dtype, first element of the slice first.
 * fresh: ignore the residual and the momentum, and overwrite them (feedback off, where r is still the place in which x is formed). */
taut_status taut__feedback_input(taut_feedback *f, size_t first, size_t n, taut_dtype dtype, const void *g, bool fresh);

/* After encode. Momentum mode: u = 0 where the residual is exactly 0, that is, where x was sent, and where u is not finite, which
 * would stay for the rest of the run. Else nothing. */
taut_status taut__feedback_output(taut_feedback *f, size_t first, size_t n);

/* The slice was sent without loss (uncompressed, or raw because of NaN or Inf): nothing is left of it. */
taut_status taut__feedback_clear(taut_feedback *f, size_t first, size_t n);

/* Residual and momentum that are not finite become 0; returns how many. For codecs and states from outside: a single
 * NaN would otherwise stay for the rest of the run. Host only: elsewhere taut__vectors.scrub. */
size_t taut__feedback_scrub(taut_feedback *f, size_t first, size_t n);

/* Squared norm of e[0..n): plain, and in the tensor's metric, that is, divided by its scale (taut_tensor: none, one
 * value, one per row, one per element). e[0] is element `first` of the tensor. Sums in double in a fixed order, so equal
 * input gives equal bits. Elements that are not finite are left out. */
typedef struct taut_norm2 {
    double plain, weighted;
} taut_norm2;
taut_norm2 taut__norm2(const taut_tensor *t, const float *e, size_t first, size_t n);

/* Checkpoints hold host bytes; elsewhere save and load copy and wait.
 * r += s, for a saved residual of n floats at any alignment: restart with fewer ranks, where several saved states meet
 * in one. TAUT_E_MISMATCH unless len == 4n (8n with momentum). */
taut_status taut__feedback_load(taut_feedback *f, const void *src, size_t len);
/* len = bytes needed; written when dst is not NULL and cap suffices (else TAUT_E_CAPACITY). Little-endian: r, then u. */
taut_status taut__feedback_save(const taut_feedback *f, void *dst, size_t cap, size_t *len);

#ifdef __cplusplus
}
#endif

#endif
