/* philox.h : Philox4x32-10, a counter-based generator (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as
 * 1, 2, 3, SC 2011, section 4.3): 128 bits of counter and 64 of key in, 128 random bits out, no state. */
#ifndef TAUT_PHILOX_H
#define TAUT_PHILOX_H

#include <stdint.h>

typedef struct taut__philox_block {
    uint32_t word[4];
} taut__philox_block;

/* One round: two 32x32 products; their low halves move across, their high halves are keyed. */
static inline void taut__philox_round(taut__philox_block *c, uint32_t k0, uint32_t k1)
{
    uint64_t p0 = (uint64_t)0xD2511F53u * c->word[0], p1 = (uint64_t)0xCD9E8D57u * c->word[2];
    uint32_t w1 = c->word[1], w3 = c->word[3];
    c->word[0] = (uint32_t)(p1 >> 32) ^ w1 ^ k0;
    c->word[1] = (uint32_t)p1;
    c->word[2] = (uint32_t)(p0 >> 32) ^ w3 ^ k1;
    c->word[3] = (uint32_t)p0;
}

static inline taut__philox_block taut__philox(taut__philox_block counter, uint64_t key)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int r = 0; r < 10; r++) {
        taut__philox_round(&counter, k0, k1);
        k0 += 0x9E3779B9u; /* Weyl sequences of the key: golden ratio, sqrt(3)-1 */
        k1 += 0xBB67AE85u;
    }
    return counter;
}

#endif
