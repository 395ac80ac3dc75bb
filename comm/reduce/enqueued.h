/* enqueued.h : what stages of an exchange are made of: passes and codec work on the lane's stream, of which nothing is waited for. */
#ifndef TAUT_ENQUEUED_H
#define TAUT_ENQUEUED_H

#include "agreement.h"
#include "exchange.h"
#include "input.h"
#include "placed.h"

static inline taut_outcome *taut__slot_outcome(uint8_t *slot) { return (taut_outcome *)(void *)slot; }
static inline uint8_t      *taut__slot_payload(uint8_t *slot) { return slot + TAUT_SLOT_HEADER; }
uint8_t                    *taut__slot_of(const taut__reduction *red, uint8_t *slots, int half, int q);

static inline taut__range taut__whole(const taut__reduction *red) { return (taut__range){0, red->call.n}; }
static inline float      *taut__err_of(const taut__reduction *red) /* where encoding leaves what it loses */
{
    return taut__in_place(red) ? taut__exchange_of(red)->err : red->operand->feedback->r;
}
/* Of rank q's slot, its first cell. */
static inline taut__admitted *taut__seen_of(const taut__reduction *red, int half, int q)
{
    return taut__exchange_of(red)->admitted[half] + (size_t)q * taut__exchange_of(red)->cells;
}

/* ---- x ---- */
/* x of the whole tensor, formed and looked at; err: where encoding leaves what it loses, n floats, which may be x. */
taut_status taut__enqueue_x(taut__reduction *red, const float **x, float **err);
/* Own x of r, copied to acc, and nothing of it stays in the residual; of codecs whose codes add, its codes; of sparse ones what its encoding, made in
 * `slot`, decodes to. */
taut_status taut__enqueue_own(taut__reduction *red, taut__range r, const float *x, float *err, uint8_t *slot,
                              void *acc);
/* Work on cell k of a slot, which holds taut__cell_of(red, r, k) of r. */
taut_piece  taut__piece_encode(const taut__reduction *red, taut__range r, size_t k, const float *x, float *err,
                               uint8_t *slot, int half);
taut__range taut__cell_of(const taut__reduction *red, taut__range r, size_t k); /* n = 0: r ends before */
/* Encodes r of x into slot. */
taut_status taut__enqueue_encode(const taut__reduction *red, taut__range r, const float *x, float *err, uint8_t *slot,
                                 int half);
/* Each other rank's part of x into its slot, in as few launches as one. */
taut_status taut__enqueue_encode_others(const taut__reduction *red, const float *x, float *err, uint8_t *slots,
                                        int half);
taut_status taut__enqueue_pieces(const taut__reduction *red, taut__op op, const taut_piece *pieces, size_t n);
/* What encoding has left of r, in err: its norms, and so on. */
taut_status taut__enqueue_left(taut__reduction *red, taut__range r, const float *err, taut_norm2 *norms);

/* ---- sums ---- */
/* seen: of the slot's first cell. */
taut_status taut__enqueue_add(taut__reduction *red, taut__range r, uint8_t *slot, int half, taut__admitted *seen,
                              void *acc, bool first);
/* acc, a sum of r in units of the sum times scale, as a payload; what that loses goes to the residual and, times nothing, to *lost. */
taut_status taut__enqueue_sum(taut__reduction *red, taut__range r, void *acc, uint64_t round, float scale,
                              uint8_t *slot, taut_norm2 *lost);
/* Nothing is known of sums yet, nor of the slot (NULL: none) that this rank's goes into: where a stage is made again, it was. */
taut_status taut__enqueue_anew(taut__reduction *red, uint8_t *slot);
taut_status taut__enqueue_bad(taut__reduction *red, const float *sum, taut__range r); /* is anything not finite? */
/* Where results are decoded; and what follows once those of `all` are there. mine: the part whose norm this rank measures. */
float      *taut__enqueued_result(const taut__reduction *red);
taut_status taut__enqueue_results(taut__reduction *red, float factor, taut__range all, taut__range mine);
taut_status taut__enqueue_sums(taut__reduction *red,
                               taut__range      mine); /* of parts, that all ranks have: decoded, results */

/* ---- slots ---- */
taut_status taut__enqueue_clear(const taut__reduction *red, uint8_t *slots, int half); /* headers = 0 */
taut_status taut__enqueue_admit(taut__reduction *red, uint8_t *slots, int half, taut__admitted *out, taut_outcome *sum);
taut_status taut__group_exchange(taut__reduction *red); /* slot q of out to rank q, into this rank's slot of its in */
taut_status taut__group_gather(taut__reduction *red);   /* this rank's slot of sums to all */
taut_status taut__group_pass(taut__reduction *red, int to, const uint8_t *out, int from, uint8_t *in, size_t bytes);

#endif
