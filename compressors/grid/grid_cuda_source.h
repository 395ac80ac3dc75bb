/* grid_cuda_source.h : a chunk of code rans on a GPU, opened from its end and closed again: open_back() and finish() of grid_rans.c. By one
 * thread each. */
#ifndef TAUT_GRID_CUDA_SOURCE_H
#define TAUT_GRID_CUDA_SOURCE_H

#include "grid_cuda.h"
#include "grid_rans_classes.h"

/* A chunk that is being decoded: what one lane finds at its end, for all of them. */
struct rans_source {
    const uint8_t     *words, *words_end;
    uint32_t           side_len; /* at most */
    uint32_t           lanes;    /* blocks that are decoded by lanes */
    uint32_t           shape;
    bool               serial; /* there are no lanes */
    grid_serial_reader tail;
    uint32_t           state[GRID_LANES];
    uint8_t            bytes[GRID_TAIL_BYTES];
};

/* By one lane. */
static __device__ inline bool open_lanes(rans_source *s, const uint8_t *cls, uint32_t blocks, const uint8_t *src,
                                         uint32_t len)
{
    if (len < GRID_LANES_HEAD) return false;
    len -= GRID_LANES_HEAD;
    uint32_t in_tail = src[len], words = 2 * (src[len + 1] | (uint32_t)src[len + 2] << 8),
             states = grid_get_states(s->state, src + len, len);
    if (states == 0 || words > len - states) return false;
    s->words_end = src + len - states;
    s->words = s->words_end - words;
    s->side_len = len - states - words;
    s->lanes = blocks;
    while (in_tail > 0 && s->lanes > 0) in_tail -= grid_has_symbols(cls[--s->lanes]);
    return in_tail == 0;
}
static __device__ inline bool open_source(rans_source *s, uint8_t *cls, uint32_t blocks, const uint8_t *src,
                                          uint32_t len)
{
    TAUT_SHARED(grid_arith, arith, 1);
    uint32_t form = src[--len], symbols = 0;
    if (form >= GRID_RANS_PACKED) return false;
    uint32_t classes = (uint32_t)grid_get_classes(&arith[0], src, len, blocks, cls);
    if (classes == 0) return false;
    len -= classes;
    s->shape = form % GRID_SHAPES;
    s->serial = form >= GRID_RANS_SERIAL;
    if (!s->serial) return open_lanes(s, cls, blocks, src, len);
    s->words = s->words_end = src + len;
    s->side_len = len;
    s->lanes = 0;
    s->tail.x = GRID_STATE_LOW, s->tail.low = src, s->tail.p = src + len;
    for (uint32_t k = 0; k < blocks; k++) symbols += grid_has_symbols(cls[k]);
    return symbols == 0 || grid_serial_open(&s->tail, src, src + len);
}
/* What the lanes leave holds the tail. */
static __device__ inline bool open_tail(rans_source *s, bool any)
{
    const uint8_t *end = s->bytes + GRID_TAIL_BYTES;
    if (!grid_tail_of_states(s->state, s->bytes)) return false;
    s->tail.x = GRID_STATE_LOW, s->tail.low = s->bytes, s->tail.p = end;
    return !any || grid_serial_open(&s->tail, s->bytes, end);
}
/* State and words of the serial coder used up; side: bytes that were read */
static __device__ inline bool used_up(const rans_source *s, const uint8_t *src, uint64_t side)
{
    if (s->tail.x != GRID_STATE_LOW) return false;
    if (s->serial) return side == (uint64_t)(s->tail.p - src);
    for (const uint8_t *p = s->bytes; p < s->tail.p; p++)
        if (*p) return false;
    return side == s->side_len;
}

#endif
