/* grid_cuda_walk.h : through a chunk of code packed on a GPU without decoding it: classes of its blocks, and how long each body is. By
 * one thread; and the classes by all threads. */
#ifndef TAUT_GRID_CUDA_WALK_H
#define TAUT_GRID_CUDA_WALK_H

#include "grid_cuda.h"

/* Classes of a chunk from its tail, into cls[0..blocks); bytes before them, or -1: they do not fit. By one thread; tail: the
 * chunk's last bytes, of which `held` are there. */
static __device__ inline int64_t read_classes(const uint8_t *tail, uint32_t held, uint32_t len, uint32_t blocks,
                                              uint8_t *cls)
{
    uint32_t i = 0;
    bool     counted = true; /* false: the nibble before was RUN */
    for (uint32_t k = 0; k < blocks;) {
        if (i / 2 >= len || i / 2 >= held) return -1;
        uint32_t v = tail[held - 1 - i / 2] >> (i % 2 ? 4 : 0) & 15;
        i++;
        if (!counted) {
            uint32_t run = v + GRID_RUN_MIN;
            if (run > blocks - k) return -1;
            for (uint32_t end = k + run; k < end; k++) cls[k] = GRID_ZERO;
            counted = true;
        } else if (v == GRID_RUN) {
            counted = false;
        } else {
            cls[k++] = (uint8_t)v;
        }
    }
    return (int64_t)len - (i + 1) / 2;
}

/* Bits of the body at `pos`; 0: malformed. What the maps say is checked; values are checked where they are decoded. */
static __device__ inline uint32_t body_bits(const uint8_t *src, const uint8_t *end, uint64_t pos, uint32_t cls)
{
    uint64_t begin = pos, map, nz = 0;
    uint32_t r = cls >= GRID_R0 ? cls - GRID_R0 : 0;
    if (cls == GRID_WIDE) { /* rare: up to 30 planes */
        r = (uint32_t)grid_low(grid_bits_at(src, end, pos), 5);
        pos += 5;
        if (r < 8) return 0;
        if (r == GRID_RAW) return 5 + 64 * 32;
    }
    for (uint32_t p = 0; p < r; p++, pos += 64) nz |= grid_bits_at(src, end, pos);
    if (cls < GRID_H4) {
        uint32_t count = cls - GRID_P1 + 1;
        uint64_t v = grid_low(grid_bits_at(src, end, pos), 6 * count);
        pos += 6 * count;
        map = 0;
        for (uint32_t i = 0; i < count; i++) map |= UINT64_C(1) << (v >> 6 * i & 63);
    } else if (cls == GRID_H4) {
        uint64_t groups = grid_unpack_groups(grid_low(grid_bits_at(src, end, pos), 16)) * 15;
        if (!groups) return 0;
        map = grid_bits_at(src, end, pos + 16);
        pos += 16 + grid_count_bits(groups);
        map = grid_low(map, grid_count_bits(groups)); /* only its ones are counted below: r is 0 */
    } else {
        map = grid_bits_at(src, end, pos);
        pos += 64;
    }
    if (r == 0 && map == 0) return 0;
    uint32_t left = grid_count_bits(map), non_zero = grid_count_bits(nz | map);
    for (uint32_t h = 2; h <= GRID_LEVELS && left; h++) {
        uint64_t v = grid_low(grid_bits_at(src, end, pos), left);
        pos += left;
        left = grid_count_bits(v);
    }
    for (; left; left--) pos += 5 + grid_low(grid_bits_at(src, end, pos), 5);
    return (uint32_t)(pos + non_zero - begin);
}

/* ---- by all threads of a decoder ---- */

enum {
    D_WARPS = 4, /* of which the first one walks over bodies */
    D_THREADS = D_WARPS * TAUT_WARP,
    CLASS_NIBBLES = 8, /* per thread: GRID_CHUNK_BLOCKS are the most that there can be */
};

/* One thread's nibbles: what they are, from the first one's state on. */
struct nibble_walk {
    bool                                counted; /* false: the nibble before was RUN */
    __device__ __forceinline__ uint32_t blocks_of(uint32_t v)
    {
        uint32_t n = !counted ? v + GRID_RUN_MIN : v == GRID_RUN ? 0 : 1;
        counted = !counted || v != GRID_RUN;
        return n;
    }
};

/* Classes of a chunk into cls[0..blocks); bytes of its bodies, or -1: malformed. All D_THREADS threads. */
static __device__ inline int64_t spread_classes(const uint8_t *end, uint32_t bytes, uint32_t blocks, uint8_t *cls)
{
    TAUT_SHARED(uint32_t, word, D_THREADS);
    TAUT_SHARED(uint32_t, sums, D_WARPS);
    TAUT_SHARED(uint32_t, used, 1);
    uint32_t t = threadIdx.x, mine = 0, w = 0;
    for (uint32_t c = 0; c < 4; c++)
        if (4 * t + c < bytes) w |= (uint32_t)end[-1 - (int32_t)(4 * t + c)] << 8 * c;
    word[t] = w;
    if (t == 0) used[0] = 0;
    for (uint32_t i = t; i < GRID_CHUNK_BLOCKS / 4; i += D_THREADS) ((uint32_t *)cls)[i] = 0;
    __syncthreads();
    /* A run begins with the first, third, ... of nibbles RUN in a row; words of nothing else change no parity. */
    uint32_t k = t;
    while (k > 0 && word[k - 1] == 0xffffffffu) k--;
    nibble_walk walk = {k == 0 || __clz((int)~word[k - 1]) / 4 % 2 == 0}, first = walk;
    TAUT_ROLLED
    for (uint32_t c = 0; c < CLASS_NIBBLES; c++) mine += walk.blocks_of(w >> 4 * c & 15);
    uint32_t at = taut_warp_scan(mine) - mine;
    if (TAUT_LANE == 31) sums[t / TAUT_WARP] = at + mine;
    __syncthreads();
    for (uint32_t p = 0; p < t / TAUT_WARP; p++) at += sums[p];
    walk = first;
    TAUT_ROLLED
    for (uint32_t c = 0; c < CLASS_NIBBLES && at < blocks; c++) {
        uint32_t v = w >> 4 * c & 15;
        bool     zeros = !walk.counted;
        uint32_t n = walk.blocks_of(v);
        if (n == 1 && !zeros) cls[at] = (uint8_t)v;
        at += n;
        if (at == blocks) used[0] = t * CLASS_NIBBLES + c + 1;
    }
    __syncthreads();
    return used[0] ? (int64_t)bytes - (used[0] + 1) / 2 : -1;
}

#endif
