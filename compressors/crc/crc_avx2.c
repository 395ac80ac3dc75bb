/* crc_avx2.c : the crc32 instruction takes 8 bytes and has a latency of three cycles, so three lanes run at once. A lane
 * of L bytes is put in front of the next by multiplying its remainder by x^(8L) mod P, which is linear: four
 * tables of 256, one per byte of the remainder. (Every CPU with AVX2 has SSE4.2's crc32.) */
#include "crc.h"
#include <nmmintrin.h>
#include <pthread.h>
#include <string.h>

enum { LONG = 2048, SHORT = 256 };
static uint32_t       far_table[4][256], near_table[4][256];
static pthread_once_t filled = PTHREAD_ONCE_INIT;

static uint32_t zeros(uint32_t c, int bytes) /* the remainder after that many zero bytes */
{
    for (int i = 0; i < bytes; i++) c = _mm_crc32_u8(c, 0);
    return c;
}

static void fill_one(uint32_t t[4][256], int bytes)
{
    for (int k = 0; k < 4; k++) {
        uint32_t power[8];
        for (int b = 0; b < 8; b++) power[b] = zeros(1u << (8 * k + b), bytes);
        for (uint32_t i = 0; i < 256; i++) {
            t[k][i] = 0;
            for (int b = 0; b < 8; b++) t[k][i] ^= i >> b & 1 ? power[b] : 0;
        }
    }
}
static void fill(void)
{
    fill_one(far_table, LONG);
    fill_one(near_table, SHORT);
}

static inline uint32_t shift(uint32_t t[4][256], uint32_t c)
{
    return t[0][c & 255] ^ t[1][c >> 8 & 255] ^ t[2][c >> 16 & 255] ^ t[3][c >> 24];
}

static inline uint64_t word(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static inline uint64_t three(uint64_t a, const uint8_t *p, size_t lane, uint32_t t[4][256])
{
    uint64_t b = 0, c = 0;
    for (size_t i = 0; i < lane; i += 8) {
        a = _mm_crc32_u64(a, word(p + i));
        b = _mm_crc32_u64(b, word(p + lane + i));
        c = _mm_crc32_u64(c, word(p + 2 * lane + i));
    }
    return shift(t, shift(t, (uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
}

static uint32_t update(uint32_t crc, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    uint64_t       c = ~crc;
    pthread_once(&filled, fill);
    for (; bytes >= 3 * LONG; p += 3 * LONG, bytes -= 3 * LONG) c = three(c, p, LONG, far_table);
    for (; bytes >= 3 * SHORT; p += 3 * SHORT, bytes -= 3 * SHORT) c = three(c, p, SHORT, near_table);
    for (; bytes >= 8; p += 8, bytes -= 8) c = _mm_crc32_u64(c, word(p));
    while (bytes--) c = _mm_crc32_u8((uint32_t)c, *p++);
    return ~(uint32_t)c;
}

const taut__crc_kernels taut__crc_avx2 = {update};
