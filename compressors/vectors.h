/* vectors.h : what else is done with floats of a place, besides what codecs do: error feedback's passes, sums, casts, norms, and the
 * headers of frames. One table per space; the host's is the code of feedback.c, vec/ and frame.c.
 *
 * Calls enqueue on place.stream (on the host: do) and return; numbers and flags go to memory of the space. Buffers need the alignment
 * of their type, payloads outside the host that of 16 bytes. */
#ifndef TAUT_VECTORS_H
#define TAUT_VECTORS_H

#include "../comm/base/space.h"
#include "basis/basis_there.h"
#include "feedback.h"
#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* taut__admitted : what is made of a slot of an exchange: a taut_outcome, said by its sender, and the payload behind it. */
typedef struct taut__admitted {
    /* the sender's; 0 bytes where the slot has no room for what it says, so that nobody reads beyond it */
    taut_outcome seen;
    uint64_t     said;    /* bytes, by the sender */
    uint64_t     largest; /* 16 times the sender's `reserved` */
} taut__admitted;

typedef struct taut__vectors {
    /* x = g + r in r[0..n), as taut__feedback_input(); u: NULL, or the momentum. fresh: r = u = g */
    taut_status (*input)(taut_place p, float *r, float *u, float momentum, taut_dtype dtype, const void *g, size_t n,
                         bool fresh);
    /* u = 0 where r is 0 or u is not finite */
    taut_status (*output)(taut_place p, const float *r, float *u, size_t n);
    /* x = 0 where it is not finite; *found += how many */
    taut_status (*scrub)(taut_place p, float *x, size_t n, uint64_t *found);
    /* As taut__norm2(); the host's sums are in a fixed order, a device's within 1e-12 of them. flags: NULL, or |= TAUT_FLAG_NOT_FINITE */
    taut_status (*norm2)(taut_place p, const taut_tensor *t, const float *e, size_t first, size_t n, taut_norm2 *out,
                         uint32_t *flags);
    taut_status (*add)(taut_place p, float *acc, taut_dtype dtype, const void *x, size_t n); /* acc[i] += x[i] */
    taut_status (*scale)(taut_place p, float *x, float factor, size_t n);
    taut_status (*convert)(taut_place p, void *dst, taut_dtype to, const void *src, taut_dtype from,
                           size_t n); /* not in place */
    taut_status (*residual)(taut_place p, float *err, const float *x, const float *y,
                            size_t n); /* x - y, 0 where not finite */
    /* Headers of frames, which lie TAUT_FRAME_HEADER bytes before each piece's payload (frame.h). seal: payload and outcome are there.
     * open: outcome->bytes holds the frame's bytes less the header; what is not a frame of this codec and of call.n elements is
     * flagged TAUT_FLAG_CORRUPT. Frames made outside the host have no checksum. */
    taut_status (*seal)(const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place p);
    taut_status (*open)(const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place p);
    /* n slots, stride bytes apart, with room for so many bytes of payload each, into out[n]. sum: NULL, or its `reserved` becomes the largest
     * number of bytes that one of them says, in units of 16, rounded up. */
    taut_status (*admit)(taut_place p, const uint8_t *slots, size_t stride, size_t n, size_t room, taut__admitted *out,
                         taut_outcome *sum);
    /* Blocks of `elems` elements each: of block k, at dst + k * elems, those of its elements at[k].. that lie in [first, first + n) become factor times
     * src's, whose src[0] is element first; the others stay. at: in memory of the place. */
    taut_status (*pick)(taut_place p, float *dst, taut_dtype dtype, const void *src, const uint64_t *at, size_t blocks,
                        size_t elems, size_t first, size_t n, float factor);
    /* Sums of small integers as one sum of words: word i holds `per` codes, each plus bias, in fields of 32 / per bits, the first lowest; its
     * last one may lack some, which are 0. field_join: n codes to ceil(n / per) words. field_split: the reverse, of a sum of words, bias
     * being that of all ranks together. per: 1, 2, 4, 8 or 16; codes plus bias fit (docs/algorithms.md). */
    taut_status (*field_join)(taut_place p, uint32_t *words, const int32_t *codes, size_t n, uint32_t per,
                              uint32_t bias);
    taut_status (*field_split)(taut_place p, int32_t *codes, const uint32_t *words, size_t n, uint32_t per,
                               uint32_t bias);
    /* out[i] = the sum of from[i], from[i + stride], ... of all ranks, as tree_sum.h, i < n. any: NULL, or becomes 1 where out[0] is not 0; else it stays. */
    taut_status (*combine)(taut_place p, double *out, const double *from, size_t stride, size_t n, uint32_t ranks,
                           uint32_t *any);
    /* The same as copy within the place, if *when is not 0. Multiples of 4 bytes. */
    taut_status (*copy_if)(taut_place p, const uint8_t *when, void *dst, const void *src, size_t bytes);
    /* Rows of n words of 64 bits and their digest (digest.h) behind them, stride words apart, `count` of them from row number `first` on, which lies at rows.
     * differs: NULL, and digests are written; or they are compared, and it becomes 1 + the number of the last row whose digest is another; else it stays. */
    taut_status (*digest)(taut_place p, void *rows, size_t stride, size_t n, uint32_t first, uint32_t count,
                          uint32_t *differs);
    /* Of all of x, n and vectors as m says, what taut__axes_turn() (back: taut__axes_back()) and taut__axes_learn() do: basis/basis.h. The same bits. */
    taut_status (*change)(taut_place p, const taut__axes_there *m, const taut_tensor *t, float *x, bool back);
    taut_status (*learn)(taut_place p, const taut__axes_there *m, const taut_tensor *t, const float *x);
} taut__vectors;

extern const taut__vectors taut__vectors_host;

/* The tables of a place's space. NULL, with TAUT_E_UNSUPPORTED's text in taut_last_error(), where the space cannot be used here. */
const taut__vectors *taut__vectors_of(taut_space s);
const taut__space   *taut__memory_of(taut_space s);
/* TAUT_KEEP_DEVICE() around a call that may be the first one in this space: so that there is somebody who knows the thread's device. */
#define TAUT_KEEP_DEVICE_IN(space, call)                                                                               \
    do {                                                                                                               \
        (void)taut__memory_of(space);                                                                                  \
        TAUT_KEEP_DEVICE(call);                                                                                        \
    } while (0)
/* TAUT_E_INVALID, with the address and the name `what`, where memory is not that of the place: host memory given for a device's, or,
 * where there is a device, the reverse. */
taut_status taut__place_check(taut_place p, const void *memory, const char *what);
/* The reverse alone, for what a program gives as its own: TAUT_E_INVALID where it is memory of a CUDA device. Asks nobody where this process has
 * not used CUDA. */
taut_status taut__host_check(const void *memory, const char *what);
void        taut__vectors_register(taut_space s, const taut__vectors *table); /* tests; as taut__space_register() */

#ifdef __cplusplus
}
#endif

#endif
