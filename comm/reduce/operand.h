/* operand.h : what is reduced: of a layer, all that an algorithm needs to know. Core fills it in; a reduction points to it. */
#ifndef TAUT_OPERAND_H
#define TAUT_OPERAND_H

#include "../../compressors/feedback.h"

typedef struct taut__operand {
    taut_dtype        dtype;
    taut_tensor       tensor;
    taut_tensor       there;       /* tensor, with the scale in memory of the place where its buffers lie; not on the host */
    taut_spec         wire;        /* what is encoded: the codec, but fp16 or bf16 for `none` of a 16-bit layer */
    bool              lossy;       /* its codec loses something */
    bool              sharded;     /* has sharded collectives: they use neither the hierarchy nor gather */
    size_t            block;       /* parts of ranks start at multiples */
    uint64_t          seed;        /* of (run, name) */
    uint64_t          calls;       /* collectives so far: the next one's seeds */
    taut_feedback    *feedback;    /* NULL: no memory for x; else x is formed there */
    bool              feedback_on; /* what encoding loses is kept there */
    bool              residual;    /* feedback->r holds a residual, whatever the codec is now */
    taut_codec_state *state;       /* of stateful codecs */
    float            *spread;      /* 16-bit layers whose codec codes whole tensors: allgather's copy as floats */
} taut__operand;

#endif
