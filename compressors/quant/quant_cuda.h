/* quant_cuda.h : payloads of quant on a GPU: headers, and the codes of a bucket, by warps. Used by quant_cuda.cu and quant_rotate_cuda.cu. */
#ifndef TAUT_QUANT_CUDA_H
#define TAUT_QUANT_CUDA_H

#include "../cuda/cuda_kernel.h"

/* quant_rotate_cuda.cu */
#define taut_quant_rotate_encode TAUT_CUDA_TABLE(rotate_encode)
#define taut_quant_rotate_decode TAUT_CUDA_TABLE(rotate_decode)
void taut_quant_rotate_encode(const taut__cuda_batch *b, const quant_params *p, taut__cuda_stream s);
void taut_quant_rotate_decode(const taut__cuda_batch *b, const quant_params *p, bool add, taut__cuda_stream s);

enum { WARPS = 8, TILE = 256 };

/* A warp holds tiles of four groups of 64. A lane has eight elements of a tile: four neighbours in the first half of a group, and the four that
 * lie 32 behind them. So eight lanes hold a group, and 16 bytes of each of them are a line of memory. This is the first of the eight. */
static __device__ __forceinline__ uint32_t place(uint32_t tile)
{
    return tile * TILE + TAUT_LANE / 8 * 64 + TAUT_LANE % 8 * 4;
}
static __device__ __forceinline__ uint32_t place_of(uint32_t tile, uint32_t k) /* of the k-th */
{
    return place(tile) + k % 4 + k / 4 * 32;
}

struct eight {
    float v[8];
};
struct octet { /* the codes of a lane's elements, a byte each */
    uint32_t lo, hi;
};
/* byte k of word as a float: at 2^23 the last bit counts ones */
static __device__ __forceinline__ float byte_of(uint32_t word, uint32_t k)
{
    return __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7540u + k)) - 8388608.0f;
}
static __device__ __forceinline__ float code_at(octet c, uint32_t k) { return byte_of(k < 4 ? c.lo : c.hi, k % 4); }

/* ---- codes <-> planes ---- */

/* Nibble k of lane l becomes nibble l of lane k, within eight lanes. Its own inverse. */
static __device__ __forceinline__ uint32_t transpose(uint32_t r)
{
    uint32_t o = __shfl_xor_sync(TAUT_ALL, r, 4), odd = TAUT_LANE & 1 ? 0xf0f0f0f0u : 0x0f0f0f0fu;
    r = __byte_perm(r, o, TAUT_LANE & 4 ? 0x3276 : 0x5410);
    o = __shfl_xor_sync(TAUT_ALL, r, 2);
    r = __byte_perm(r, o, TAUT_LANE & 2 ? 0x3715 : 0x6240);
    o = __shfl_xor_sync(TAUT_ALL, r, 1);
    return (r & odd) | (__funnelshift_r(o, o, TAUT_LANE & 1 ? 4 : 28) & ~odd);
}
/* Bit p of the low nibble of byte k becomes bit k of nibble 2p, of the high one of nibble 2p + 1: places 16 a + 8 b + 4 h + 2 c + d go to
 * 16 c + 8 d + 4 h + 2 a + b. Its own inverse. */
static __device__ __forceinline__ uint32_t turn_bits(uint32_t x)
{
    uint32_t t = (x ^ x >> 14) & 0x0000ccccu;
    x ^= t ^ t << 14;
    t = (x ^ x >> 7) & 0x00aa00aau;
    return x ^ t ^ t << 7;
}

/* The words of a tile that this lane reads or writes: of a group's planes the one of its number among eight, and the eighth after it. */
struct plane_words {
    uint32_t a, b;
};
static __device__ __forceinline__ bool holds_group(uint32_t tile, uint32_t m)
{
    return tile * TILE + TAUT_LANE / 8 * 64 + 64 <= m;
}
static __device__ __forceinline__ uint32_t word_at(uint32_t bits, uint32_t tile)
{
    return (tile * (TILE / 64) + TAUT_LANE / 8) * 2 * bits + TAUT_LANE % 8;
}

static __device__ __forceinline__ void put_tile(uint32_t bits, uint32_t tile, uint32_t m, octet c, uint8_t *codes)
{
    uint32_t *to = (uint32_t *)codes + word_at(bits, tile), low = 0x0f0f0f0fu;
    bool      there = holds_group(tile, m);
    uint32_t  r = transpose(turn_bits((c.lo & low) | (c.hi << 4 & ~low)));
    if (there && TAUT_LANE % 8 < 2 * bits) to[0] = r;
    if (bits <= 4) return;
    r = transpose(turn_bits((c.lo >> 4 & low) | (c.hi & ~low)));
    if (there && TAUT_LANE % 8 + 8 < 2 * bits) to[8] = r;
}
static __device__ __forceinline__ plane_words fetch_tile(uint32_t bits, uint32_t tile, uint32_t m, const uint8_t *codes)
{
    const uint32_t *from = (const uint32_t *)codes + word_at(bits, tile);
    plane_words     w = {0, 0};
    bool            there = holds_group(tile, m);
    if (there && TAUT_LANE % 8 < 2 * bits) w.a = from[0];
    if (there && TAUT_LANE % 8 + 8 < 2 * bits) w.b = from[8];
    return w;
}
static __device__ __forceinline__ octet codes_of(uint32_t bits, plane_words w)
{
    uint32_t x = turn_bits(transpose(w.a)), low = 0x0f0f0f0fu;
    octet    c = {x & low, x >> 4 & low};
    if (bits <= 4) return c;
    x = turn_bits(transpose(w.b));
    c.lo |= x << 4 & ~low;
    c.hi |= x & ~low;
    return c;
}

/* ---- the last group of a tensor, of g < 64 elements: planes without gaps, by one lane ---- */

/* mine: 64 bytes of shared memory for the warp */
static __device__ void put_tail(uint32_t bits, uint32_t tile, uint32_t m, octet c, uint8_t *codes, uint8_t *mine)
{
    uint32_t at = m / 64 * 64, g = m - at;
    if (g == 0 || at / TILE != tile) return;
    if (place(tile) / 64 == at / 64)
        for (uint32_t k = 0; k < 8; k++) mine[place_of(tile, k) - at] = (uint8_t)((k < 4 ? c.lo : c.hi) >> 8 * (k % 4));
    __syncwarp();
    if (TAUT_LANE == 0) {
        uint8_t *dst = codes + at / 8 * bits;
        for (uint32_t b = 0; b < quant_code_bytes(bits, g); b++) {
            uint32_t v = 0;
            for (uint32_t k = 0; k < 8; k++) {
                uint32_t bit = 8 * b + k;
                if (bit < bits * g) v |= (uint32_t)(mine[bit % g] >> (bit / g) & 1) << k;
            }
            dst[b] = (uint8_t)v;
        }
    }
    __syncwarp();
}
static __device__ void get_tail(uint32_t bits, uint32_t tile, uint32_t m, const uint8_t *codes, octet *c)
{
    uint32_t       at = m / 64 * 64, g = m - at;
    const uint8_t *src = codes + at / 8 * bits;
    for (uint32_t k = 0; k < 8; k++) {
        uint32_t i = place_of(tile, k), q = 0;
        if (i < at || i >= m) continue;
        for (uint32_t p = 0; p < bits; p++) {
            uint32_t bit = p * g + (i - at);
            q |= (uint32_t)(src[bit / 8] >> bit % 8 & 1) << p;
        }
        if (k < 4) c->lo |= q << 8 * k;
        else c->hi |= q << 8 * (k - 4);
    }
}

static __device__ __forceinline__ octet get_codes(uint32_t bits, uint32_t tile, uint32_t m, const uint8_t *codes)
{
    octet c = codes_of(bits, fetch_tile(bits, tile, m, codes));
    if (m % 64) get_tail(bits, tile, m, codes, &c); /* a lane of the last group has got zeros above */
    return c;
}

/* ---- jobs and headers ---- */

/* A bucket of a job, and what is the same for all buckets of it. */
struct bucket_place {
    const taut__cuda_job *j;
    uint32_t              k;        /* its number */
    uint64_t              at;       /* its first element */
    uint64_t              codes_at; /* of all codes, in the payload */
    uint32_t              m;        /* elements */
    bool                  even;     /* whole groups, at addresses where four neighbours are one access */
};
/* As taut_job_of(). The count of a job's buckets is that of its units, so nobody divides. */
static __device__ __forceinline__ bucket_place bucket_of(const taut__cuda_batch &b, const quant_params &p, uint32_t u)
{
    bucket_place w;
    uint64_t     k, units = b.units, bytes;
    w.j = taut_job_of(b, u, &k);
    w.k = (uint32_t)k;
    if (b.jobs) units = (w.j + 1 < b.jobs + b.count ? w.j[1].unit : b.units) - w.j->unit;
    bytes = (w.j->n ? units : 0) * quant_meta_bytes(p.norm);
    w.codes_at = QUANT_HEADER + (bytes + 7) / 8 * 8;
    w.at = k * p.bucket;
    w.m = w.j->n > w.at ? (uint32_t)taut__min(p.bucket, w.j->n - w.at) : 0;
    uintptr_t elements = (uintptr_t)w.j->src | (uintptr_t)w.j->dst,
              floats = (uintptr_t)w.j->residual | (uintptr_t)w.j->err;
    w.even = w.m % 64 == 0 && (elements & (b.dtype == TAUT_F32 ? 15 : 7)) == 0 && (floats & 15) == 0;
    return w;
}
static __device__ __forceinline__ uint64_t payload_bytes(const quant_params &p, const bucket_place &w)
{
    return w.codes_at + quant_code_bytes(p.bits, w.j->n);
}

/* Header, length and padding: by the first unit of a job. */
static __device__ __forceinline__ void put_header(const quant_params &p, const bucket_place &w)
{
    const taut__cuda_job *j = w.j;
    if (w.k != 0 || TAUT_LANE != 0) return;
    uint64_t *word = (uint64_t *)j->payload;
    word[0] = quant_header_word(&p);
    word[1] = j->n;
    for (uint64_t i = QUANT_HEADER + taut__ceil_div(j->n, p.bucket) * quant_meta_bytes(p.norm); i < w.codes_at; i++)
        j->payload[i] = 0;
    if (j->len) *j->len = payload_bytes(p, w);
}

/* What the encoder chose for itself does not count: rounding, and the rotation, which comes with the payload. */
static __device__ __forceinline__ bool header_fits(const quant_params &p, const uint8_t *payload, uint64_t n)
{
    const uint64_t *word = (const uint64_t *)payload;
    uint64_t        free = p.norm == QUANT_ROTATED ? UINT64_C(0xffffffff) << 32 : UINT64_C(0xff) << 16;
    return (word[0] & ~free) == (quant_header_word(&p) & ~free) && (word[0] >> 16 & 0xff) <= 1 && word[1] == n;
}

#endif
