/* operand.h : what is reduced: of a layer, all that an algorithm needs to know. Core fills it in; a reduction points to it.
 *
 * The life of feedback->r, an operand's n floats, between steps and within one (red->formed, residual, feedback_on):
 *
 *       collective begins                 taut__form(slice)                   taut__encode_x(slice)
 *     residual: r is the residual     ->  x = g + r, in r                 ->  r = x - decoded(x): the new residual
 *     else: r is anything             ->  x = g, in r (fresh)             ->  feedback_on: as above; else only measured
 *       formed: all slices at once, before any is encoded (statistics, planner)
 *       raw this time, lossless: r = 0 where x was sent as it is
 *       owner of a sum that is encoded again: r += what that lost
 *     complete: residual = feedback_on. It belongs to the gradient, not to the codec: another codec goes on with it.
 *     taut_step_drop, NaN in the sum: r = 0, or (dropped=restore) the copy that was taken when x was formed
 *     in a basis (rotate.c): y in r from the forming on, until what encoding lost is turned back
 *     checkpoint: r is saved where residual; loads add up where several ranks' states meet in one. */
#ifndef TAUT_OPERAND_H
#define TAUT_OPERAND_H

#include "../../compressors/feedback.h"

typedef struct taut__operand {
    taut_dtype        dtype;
    taut_tensor       tensor;
    taut_tensor       there; /* tensor, with the scale in memory of the place where its buffers lie; not on the host */
    taut_spec         wire;  /* what is encoded: the codec, but fp16 or bf16 for `none` of a 16-bit layer */
    bool              lossy; /* its codec loses something */
    bool              sharded;     /* has sharded collectives: they use neither the hierarchy nor gather */
    size_t            block;       /* parts of ranks start at multiples */
    uint64_t          seed;        /* of (run, name) */
    uint64_t          calls;       /* collectives so far: the next one's seeds */
    taut_feedback    *feedback;    /* NULL: no memory for x; else x is formed there */
    bool              feedback_on; /* what encoding loses is kept there */
    bool              residual;    /* feedback->r holds a residual, whatever the codec is now */
    taut_codec_state *state;       /* of stateful codecs */
    struct taut_axes *axes;        /* a basis, made or in the making, of the gradient, as the residual is; NULL: none */
    bool              turns;       /* allreduces are coded in it, once it is made */
    bool              learns;      /* it is shown results */
    float            *spread;      /* 16-bit layers whose codec codes whole tensors: allgather's copy as floats */
} taut__operand;

#endif
