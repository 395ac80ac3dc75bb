/* bytes.h : numbers as little-endian bytes at any alignment, and blobs of them: a writer that counts on where there is no room, and
 * a reader that never reads past the end. */
#ifndef TAUT_BYTES_H
#define TAUT_BYTES_H

#include "base.h"
#include <string.h>

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define TAUT_LE16(x) __builtin_bswap16(x)
#define TAUT_LE32(x) __builtin_bswap32(x)
#define TAUT_LE64(x) __builtin_bswap64(x)
#else
#define TAUT_LE16(x) (x)
#define TAUT_LE32(x) (x)
#define TAUT_LE64(x) (x)
#endif

static inline void     taut__put16(void *p, uint16_t v) { memcpy(p, &(uint16_t){TAUT_LE16(v)}, sizeof v); }
static inline void     taut__put32(void *p, uint32_t v) { memcpy(p, &(uint32_t){TAUT_LE32(v)}, sizeof v); }
static inline void     taut__put64(void *p, uint64_t v) { memcpy(p, &(uint64_t){TAUT_LE64(v)}, sizeof v); }
static inline uint16_t taut__get16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return TAUT_LE16(v);
}
static inline uint32_t taut__get32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return TAUT_LE32(v);
}
static inline uint64_t taut__get64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return TAUT_LE64(v);
}

/* ---- writing ---- */

typedef struct taut__writer {
    uint8_t *dst;
    size_t   cap, len; /* len counts on when dst is NULL or full */
} taut__writer;

static inline void taut__write(taut__writer *w, const void *src, size_t n)
{
    if (w->dst && n > 0 && w->len <= w->cap && n <= w->cap - w->len) memcpy(w->dst + w->len, src, n);
    w->len += n;
}
static inline void taut__write16(taut__writer *w, uint16_t v) { taut__write(w, &(uint16_t){TAUT_LE16(v)}, sizeof v); }
static inline void taut__write32(taut__writer *w, uint32_t v) { taut__write(w, &(uint32_t){TAUT_LE32(v)}, sizeof v); }
static inline void taut__write64(taut__writer *w, uint64_t v) { taut__write(w, &(uint64_t){TAUT_LE64(v)}, sizeof v); }
static inline void taut__write_f32(taut__writer *w, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    taut__write32(w, bits);
}
static inline void taut__write_f64(taut__writer *w, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    taut__write64(w, bits);
}
static inline void taut__write_text(taut__writer *w, const char *s) /* u16 length, then the characters; below 64 KiB */
{
    taut__write16(w, (uint16_t)strlen(s));
    taut__write(w, s, strlen(s));
}

/* ---- reading ---- */

typedef struct taut__reader {
    const uint8_t *at;
    size_t         left;
    bool bad; /* asked for more than there was, or a text was too long: everything since then is 0, "" or NULL */
} taut__reader;

static inline const uint8_t *taut__read(taut__reader *r, uint64_t n)
{
    const uint8_t *p = r->at;
    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    r->at += n;
    r->left -= (size_t)n;
    return p;
}
static inline uint16_t taut__read16(taut__reader *r)
{
    const uint8_t *p = taut__read(r, 2);
    return p ? taut__get16(p) : 0;
}
static inline uint32_t taut__read32(taut__reader *r)
{
    const uint8_t *p = taut__read(r, 4);
    return p ? taut__get32(p) : 0;
}
static inline uint64_t taut__read64(taut__reader *r)
{
    const uint8_t *p = taut__read(r, 8);
    return p ? taut__get64(p) : 0;
}
static inline float taut__float_at(const void *p)
{
    uint32_t bits = taut__get32(p);
    float    v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
static inline float taut__read_f32(taut__reader *r)
{
    const uint8_t *p = taut__read(r, 4);
    return p ? taut__float_at(p) : 0;
}
static inline double taut__read_f64(taut__reader *r)
{
    uint64_t bits = taut__read64(r);
    double   v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
/* Of cap - 1 characters at most, none of them NUL; always terminated. */
static inline void taut__read_text(taut__reader *r, char *dst, size_t cap)
{
    uint16_t       n = taut__read16(r);
    const uint8_t *p = taut__read(r, n);
    dst[0] = 0;
    r->bad |= n >= cap || (p && n > 0 && memchr(p, 0, n) != NULL);
    if (r->bad || !p || n == 0) return;
    memcpy(dst, p, n);
    dst[n] = 0;
}

#endif
