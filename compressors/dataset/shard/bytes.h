/* bytes.h : a growing buffer, little-endian numbers, packed bits. */
#ifndef TAUT_BYTES_H
#define TAUT_BYTES_H

#include "../../../comm/base/base.h"
#include <string.h>

/* ---- Growing buffer ---- zero-initialise; taut__bytes_free() when done. A failed grow leaves it as it was. */
typedef struct taut_bytes {
    uint8_t *p;
    size_t   n, cap;
} taut_bytes;

taut_status taut__bytes_reserve(taut_bytes *b, size_t more); /* room for `more` bytes behind n */
taut_status taut__bytes_add(taut_bytes *b, const void *src, size_t bytes);
void        taut__bytes_free(taut_bytes *b);

/* ---- Little-endian numbers at any address ---- */
static inline uint16_t taut__get16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t taut__get32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t taut__get64(const uint8_t *p) { return taut__get32(p) | (uint64_t)taut__get32(p + 4) << 32; }
static inline void     taut__put16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }
static inline void     taut__put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}
static inline void taut__put64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> 8 * i);
}

/* An unsigned integer of 1, 2, 4 or 8 bytes. */
static inline uint64_t taut__get_uint(const uint8_t *p, size_t bytes)
{
    switch (bytes) {
    case 1: return *p;
    case 2: return taut__get16(p);
    case 4: return taut__get32(p);
    default: return taut__get64(p);
    }
}
static inline void taut__put_uint(uint8_t *p, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) p[i] = (uint8_t)(v >> 8 * i);
}

/* ---- Packed bits ---- value i takes bits i*width .. of the stream, least significant first; width 0..64. */
static inline size_t   taut__packed_bytes(uint64_t n, unsigned width) { return (size_t)((n * width + 7) / 8); }
static inline unsigned taut__width(uint64_t largest) { return largest ? 64 - (unsigned)__builtin_clzll(largest) : 0; }
void                   taut__pack(uint8_t *dst, uint64_t i, unsigned width, uint64_t v); /* dst was zeroed */
uint64_t               taut__unpack(const uint8_t *src, uint64_t i, unsigned width);

#endif
