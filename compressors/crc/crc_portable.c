/* crc_portable.c : the specification, eight bytes at a time from eight tables (Kounavis and Berry, "Novel table
 * lookup-based algorithms for high-performance CRC generation", 2008), and what does not depend on the CPU. */
#include "../dispatch.h"
#include "crc.h"
#include <pthread.h>
#include <string.h>

#define POLY 0x82f63b78u
static uint32_t       table[8][256];
static pthread_once_t filled = PTHREAD_ONCE_INIT;

static void fill(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ POLY : c >> 1;
        table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++) table[t][i] = table[t - 1][i] >> 8 ^ table[0][table[t - 1][i] & 255];
}

uint32_t taut__crc32c_portable(uint32_t crc, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    pthread_once(&filled, fill);
    crc = ~crc;
    for (; bytes >= 8; p += 8, bytes -= 8) {
        uint32_t a, b;
        memcpy(&a, p, 4);
        memcpy(&b, p + 4, 4);
        a ^= crc;
        crc = table[7][a & 255] ^ table[6][a >> 8 & 255] ^ table[5][a >> 16 & 255] ^ table[4][a >> 24] ^
              table[3][b & 255] ^ table[2][b >> 8 & 255] ^ table[1][b >> 16 & 255] ^ table[0][b >> 24];
    }
    while (bytes--) crc = crc >> 8 ^ table[0][(crc ^ *p++) & 255];
    return ~crc;
}

const taut__crc_kernels taut__crc_portable = {taut__crc32c_portable};

uint32_t taut__crc32c_more(uint32_t crc, const void *data, size_t bytes)
{
    return taut__simd_get()->crc->update(crc, data, bytes);
}
uint32_t taut__crc32c(const void *data, size_t bytes) { return taut__crc32c_more(0, data, bytes); }

bool taut__crc32c_repair(void *data, size_t bytes, uint32_t crc)
{
    uint8_t *p = data;
    uint32_t difference = taut__crc32c(data, bytes) ^ crc;
    if (bytes > (64u << 20) || difference == 0) return false;
    if ((difference & (difference - 1)) == 0) return true; /* the CRC's own bit */
    uint32_t effect = 1; /* of flipping the bit under consideration: x^32, x^33, ... from the last bit on */
    for (size_t i = bytes; i-- > 0;)
        for (int bit = 7; bit >= 0; bit--) {
            effect = effect & 1 ? effect >> 1 ^ POLY : effect >> 1;
            if (effect == difference) {
                p[i] ^= (uint8_t)(1u << bit);
                return true;
            }
        }
    return false;
}
