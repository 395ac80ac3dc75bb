/* crc.h : CRC-32C (Castagnoli): reflected polynomial 0x82f63b78, initial and final inversion, as in RFC 3720 appendix B.4.
 * crc32c("123456789") = 0xe3069283. */
#ifndef TAUT_CRC_H
#define TAUT_CRC_H

#include "../../comm/base/base.h"

typedef struct taut__crc_kernels {
    /* continues: update(update(0, a), b) = update(0, ab) */
    uint32_t (*update)(uint32_t crc, const void *data, size_t bytes);
} taut__crc_kernels;
extern const taut__crc_kernels taut__crc_portable;
extern const taut__crc_kernels taut__crc_avx2;

uint32_t taut__crc32c(const void *data, size_t bytes); /* by the kernels of this CPU */
uint32_t taut__crc32c_more(uint32_t crc, const void *data, size_t bytes);
uint32_t taut__crc32c_portable(uint32_t crc, const void *data, size_t bytes);

/* taut__crc32c_repair() : data[0..bytes) should have this CRC and does not. If flipping one bit of the data, or of the CRC
 *  itself, explains it, the bit is flipped (in data) and true returned; a CRC is linear, so the difference tells which bit,
 *  and two such bits never share one below 2^31 bits. More damage than that may be repaired wrongly with probability
 *  bits / 2^32: check something else, too. Costs about 1 ns per bit; gives up above 64 MiB. */
bool taut__crc32c_repair(void *data, size_t bytes, uint32_t crc);

#endif
