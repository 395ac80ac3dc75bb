/* bytes.c : see bytes.h. */
#include "bytes.h"

taut_status taut__bytes_reserve(taut_bytes *b, size_t more)
{
    size_t   need, cap;
    uint8_t *p;
    if (!taut__add_ok(b->n, more, &need)) return taut__fail(TAUT_E_NOMEM, "a buffer of more than 2^64 bytes");
    if (need <= b->cap) return TAUT_OK;
    cap = taut__max(need, taut__max(256, b->cap + b->cap / 2));
    p = taut__alloc(cap, 1);
    if (!p) return taut__fail(TAUT_E_NOMEM, "no memory for a buffer of %zu bytes", cap);
    if (b->n) memcpy(p, b->p, b->n);
    taut__free(b->p);
    b->p = p;
    b->cap = cap;
    return TAUT_OK;
}

taut_status taut__bytes_add(taut_bytes *b, const void *src, size_t bytes)
{
    TAUT_TRY(taut__bytes_reserve(b, bytes));
    if (bytes) memcpy(b->p + b->n, src, bytes);
    b->n += bytes;
    return TAUT_OK;
}

void taut__bytes_free(taut_bytes *b)
{
    taut__free(b->p);
    *b = (taut_bytes){0};
}

void taut__pack(uint8_t *dst, uint64_t i, unsigned width, uint64_t v)
{
    uint64_t at = i * width;
    uint8_t *p = dst + at / 8;
    unsigned bit = at % 8;
    for (int left = (int)width; left > 0;) {
        *p++ |= (uint8_t)(v << bit);
        v >>= 8 - bit;
        left -= (int)(8 - bit);
        bit = 0;
    }
}

uint64_t taut__unpack(const uint8_t *src, uint64_t i, unsigned width)
{
    uint64_t       at = i * width, v = 0;
    const uint8_t *p = src + at / 8;
    unsigned       bit = at % 8, got = 0;
    while (got < width) {
        v |= (uint64_t)(*p++ >> bit) << got;
        got += 8 - bit;
        bit = 0;
    }
    return width >= 64 ? v : v & ((1ull << width) - 1);
}
