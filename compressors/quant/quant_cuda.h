/* quant_cuda.h : payloads of quant on a GPU: headers, and the codes of a bucket, by warps. Used by quant_cuda.cu and quant_rotate_cuda.cu. */
#ifndef TAUT_QUANT_CUDA_H
#define TAUT_QUANT_CUDA_H

#include "../cuda/cuda_kernel.h"

/* quant_rotate_cuda.cu */
#define taut_quant_rotate_encode TAUT_CUDA_TABLE(rotate_encode)
#define taut_quant_rotate_decode TAUT_CUDA_TABLE(rotate_decode)
void taut_quant_rotate_encode(const taut__cuda_batch *b, const quant_params *p, taut__cuda_stream s);
void taut_quant_rotate_decode(const taut__cuda_batch *b, const quant_params *p, bool add, taut__cuda_stream s);

enum { WARPS = 8, TILE = 128 };

/* ---- codes <-> planes ---- */

/* Bit p of q to bit 4p, q < 256; and back */
static __device__ __forceinline__ uint32_t spread(uint32_t q)
{
    q = (q | q << 12) & 0x000f000fu;
    q = (q | q << 6) & 0x03030303u;
    return (q | q << 3) & 0x11111111u;
}
static __device__ __forceinline__ uint32_t gather(uint32_t r)
{
    r &= 0x11111111u;
    r = (r | r >> 3) & 0x03030303u;
    r = (r | r >> 6) & 0x000f000fu;
    return (r | r >> 12) & 0xffu;
}

/* Nibble k of lane l becomes nibble l of lane k, within eight lanes. Its own inverse. */
static __device__ __forceinline__ uint32_t transpose(uint32_t r)
{
    uint32_t o = __shfl_xor_sync(TAUT_ALL, r, 4);
    r = TAUT_LANE & 4 ? (r & 0xffff0000u) | o >> 16 : (r & 0x0000ffffu) | o << 16;
    o = __shfl_xor_sync(TAUT_ALL, r, 2);
    r = TAUT_LANE & 2 ? (r & 0xff00ff00u) | (o >> 8 & 0x00ff00ffu) : (r & 0x00ff00ffu) | (o << 8 & 0xff00ff00u);
    o = __shfl_xor_sync(TAUT_ALL, r, 1);
    return TAUT_LANE & 1 ? (r & 0xf0f0f0f0u) | (o >> 4 & 0x0f0f0f0fu) : (r & 0x0f0f0f0fu) | (o << 4 & 0xf0f0f0f0u);
}

/* Where this lane's word of a tile lies among a bucket's codes; lanes of planes that do not exist have none. */
static __device__ __forceinline__ uint32_t word_at(uint32_t bits, uint32_t tile)
{
    uint32_t half = tile * (TILE / 32) + TAUT_LANE / 8; /* of a group of 64 */
    return half / 2 * 8 * bits + TAUT_LANE % 8 * 8 + half % 2 * 4;
}

struct four {
    uint32_t q[4];
};

static __device__ __forceinline__ void put_tile(uint32_t bits, uint32_t tile, uint32_t m, four c, uint8_t *codes)
{
    uint32_t r = transpose(spread(c.q[0]) | spread(c.q[1]) << 1 | spread(c.q[2]) << 2 | spread(c.q[3]) << 3);
    if (TAUT_LANE % 8 < bits && tile * TILE + TAUT_LANE / 16 * 64 + 64 <= m)
        *(uint32_t *)(codes + word_at(bits, tile)) = r;
}
static __device__ __forceinline__ four get_tile(uint32_t bits, uint32_t tile, uint32_t m, const uint8_t *codes)
{
    uint32_t r = 0;
    if (TAUT_LANE % 8 < bits && tile * TILE + TAUT_LANE / 16 * 64 + 64 <= m)
        r = *(const uint32_t *)(codes + word_at(bits, tile));
    r = transpose(r);
    four c = {{gather(r), gather(r >> 1), gather(r >> 2), gather(r >> 3)}};
    return c;
}

/* ---- the last group of a tensor, of g < 64 elements: planes without gaps, by one lane ---- */

static __device__ void put_tail(uint32_t bits, uint32_t tile, uint32_t m, four c, uint8_t *codes, uint8_t *mine)
{
    uint32_t at = m / 64 * 64, g = m - at, i = tile * TILE + 4 * TAUT_LANE;
    if (g == 0 || at / TILE != tile) return;
    for (uint32_t k = 0; k < 4; k++)
        if (i + k >= at && i + k < at + 64) mine[i + k - at] = (uint8_t)(i + k < m ? c.q[k] : 0);
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
static __device__ void get_tail(uint32_t bits, uint32_t tile, uint32_t m, const uint8_t *codes, four *c)
{
    uint32_t       at = m / 64 * 64, g = m - at, i = tile * TILE + 4 * TAUT_LANE;
    const uint8_t *src = codes + at / 8 * bits;
    for (uint32_t k = 0; k < 4; k++)
        if (i + k >= at && i + k < m) {
            c->q[k] = 0;
            for (uint32_t p = 0; p < bits; p++) {
                uint32_t bit = p * g + (i + k - at);
                c->q[k] |= (uint32_t)(src[bit / 8] >> bit % 8 & 1) << p;
            }
        }
}

static __device__ __forceinline__ four get_codes(uint32_t bits, uint32_t tile, uint32_t m, const uint8_t *codes)
{
    four c = get_tile(bits, tile, m, codes);
    if (m % 64) get_tail(bits, tile, m, codes, &c);
    return c;
}

/* ---- headers ---- */

/* Header, length and padding: by the first unit of a job. */
static __device__ void put_header(const quant_params &p, const taut__cuda_job *j)
{
    if (TAUT_LANE != 0) return;
    uint64_t *word = (uint64_t *)j->payload, bytes = quant_payload_bytes(&p, j->n), at = quant_codes_at(&p, j->n);
    word[0] = quant_header_word(&p);
    word[1] = j->n;
    for (uint64_t i = QUANT_HEADER + taut__ceil_div(j->n, p.bucket) * quant_meta_bytes(p.norm); i < at; i++)
        j->payload[i] = 0;
    if (j->len) *j->len = bytes;
}

/* What the encoder chose for itself does not count: rounding, and the rotation, which comes with the payload. */
static __device__ __forceinline__ bool header_fits(const quant_params &p, const uint8_t *payload, uint64_t n)
{
    const uint64_t *word = (const uint64_t *)payload;
    uint64_t        free = p.norm == QUANT_ROTATED ? UINT64_C(0xffffffff) << 32 : UINT64_C(0xff) << 16;
    return (word[0] & ~free) == (quant_header_word(&p) & ~free) && (word[0] >> 16 & 0xff) <= 1 && word[1] == n;
}

#endif
