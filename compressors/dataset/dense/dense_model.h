/* dense_model.h : context mixing: a prediction of the next bit from several contexts, mixed by a small online network, then
 * an arithmetic coder. Integers only, so encoder and decoder agree on every machine.
 *
 * Sources of the ideas: Mahoney, "Adaptive weighing of context models for lossless data compression" (2005): bit histories,
 * logistic mixing, adaptive probability maps; the coder is Martin's range coder (1979) in its carry-less binary form.
 * docs/shard-format.md has all of it step by step, so that a decoder can be written from there.
 *
 * A user of the model (text, images) says at every byte which contexts it has: hashes, and small numbers that choose the
 * mixer's weights. Each hashed context owns, per nibble, a slot of 16 bytes: a check and 15 bit histories, one per node of the
 * binary tree of a nibble. A bit history is a byte that stands for (zeros seen, ones seen, last bit), with old evidence
 * against the last bit discounted. */
#ifndef TAUT_DENSE_MODEL_H
#define TAUT_DENSE_MODEL_H

#include "../../../comm/base/base.h"
#include "dense_mix.h"

enum {
    TAUT_DENSE_CONTEXTS =
        6, /* hashed contexts; the mixer's other inputs are the match and the bits of the byte so far */
    TAUT_DENSE_SETS = 8,
    TAUT_DENSE_SLOT = 16,
    TAUT_DENSE_PAST = 3 /* the decoder is four bytes ahead, and the end is written in one at least */
};

typedef struct taut_dense_model taut_dense_model; /* one piece of memory: copied with memcpy */

size_t taut__dense_bytes(unsigned slot_bits); /* of a model with 2^slot_bits slots per context */
void   taut__dense_init(taut_dense_model *m, unsigned slot_bits);

/* What a user says at every byte. */
typedef struct taut_dense_byte {
    uint32_t hash[TAUT_DENSE_CONTEXTS];
    uint32_t set;      /* 0..7: which of the mixer's weights, together with the bits so far */
    int      expected; /* byte that follows the longest match; -1 = none */
    uint32_t length;   /* of the match, 0..15 */
} taut_dense_byte;

typedef struct taut_dense_coder {
    uint32_t       low, high, x; /* x: decoder only */
    uint8_t       *out, *limit;  /* encoder: where the next byte goes; nothing is written from limit on */
    bool           full;         /* encoder: limit was reached, what was written is of no use */
    const uint8_t *in, *end;     /* decoder: behind the end it reads zeros */
    uint32_t       past;         /* decoder: how many of those; up to TAUT_DENSE_PAST belong to what an encoder wrote */
} taut_dense_coder;

/* Fetches what a byte needs into the cache; call it as soon as `c` is known, and do something else before coding. */
void taut__dense_prefetch(const taut_dense_model *m, const taut_dense_byte *c);

/* One byte; `c` tells what to predict it from. Encoding takes the byte; decoding gives it. */
void    taut__dense_encode(taut_dense_model *m, const taut_dense_byte *c, taut_dense_coder *coder, uint8_t byte);
uint8_t taut__dense_decode(taut_dense_model *m, const taut_dense_byte *c, taut_dense_coder *coder);

void     taut__dense_begin_encode(taut_dense_coder *coder, uint8_t *out, size_t cap);
uint8_t *taut__dense_end_encode(taut_dense_coder *coder); /* the end of what was written */
void     taut__dense_begin_decode(taut_dense_coder *coder, const uint8_t *in, size_t bytes);
bool     taut__dense_end_decode(const taut_dense_coder *coder); /* do the bytes end as an encoder ends them, here? */

static inline uint32_t taut__dense_hash(uint32_t a, uint32_t b)
{
    uint32_t h = a * 0x2c1b3c6du + b * 0x297a2d39u + 0x9e3779b9u;
    h ^= h >> 15;
    h *= 0x85ebca6bu;
    return h ^ h >> 13;
}

#endif
