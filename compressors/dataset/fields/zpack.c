/* zpack.c : see zpack.h. */
#include "zpack.h"

enum { HEAD = 8 };

taut_status taut__zpack(taut_zpack *z, const void *src, size_t n, int level, taut_bytes *out)
{
    size_t   bound = ZSTD_compressBound(n), got;
    uint8_t *p;
    if (!z->c) z->c = ZSTD_createCCtx();
    if (!z->c) return taut__fail(TAUT_E_NOMEM, "zstd: no memory for its context");
    TAUT_TRY(taut__bytes_reserve(out, HEAD + bound));
    p = out->p + out->n;
    got = ZSTD_compressCCtx(z->c, p + HEAD, bound, src, n, level);
    if (ZSTD_isError(got)) return taut__fail(TAUT_E_NOMEM, "zstd: %s", ZSTD_getErrorName(got));
    if (got >= n) {
        if (n) memcpy(p + HEAD, src, n);
        got = n;
    }
    taut__put32(p, (uint32_t)n);
    taut__put32(p + 4, (uint32_t)got);
    out->n += HEAD + got;
    return TAUT_OK;
}

taut_status taut__zunpack(taut_zpack *z, const uint8_t *src, size_t len, size_t most, taut_bytes *out, size_t *used)
{
    size_t n = len >= HEAD ? taut__get32(src) : 0, stored = len >= HEAD ? taut__get32(src + 4) : 0, got;
    *used = 0;
    if (len < HEAD || stored > len - HEAD || stored > n || n > most)
        return taut__fail(
            TAUT_E_CORRUPT,
            "a stream inside it of %zu bytes, stored in %zu, where %zu are left and at most %zu expected: malformed", n,
            stored, len < HEAD ? 0 : len - HEAD, most);
    if (!z->d) z->d = ZSTD_createDCtx();
    if (!z->d) return taut__fail(TAUT_E_NOMEM, "zstd: no memory for its context");
    TAUT_TRY(taut__bytes_reserve(out, n));
    if (stored == n) {
        if (n) memcpy(out->p + out->n, src + HEAD, n);
    } else {
        got = ZSTD_decompressDCtx(z->d, out->p + out->n, n, src + HEAD, stored);
        if (ZSTD_isError(got) || got != n)
            return taut__fail(TAUT_E_CORRUPT, "a stream inside it does not decode: %s",
                              ZSTD_isError(got) ? ZSTD_getErrorName(got) : "another length");
    }
    out->n += n;
    *used = HEAD + stored;
    return TAUT_OK;
}

void taut__zpack_free(taut_zpack *z)
{
    ZSTD_freeCCtx(z->c);
    ZSTD_freeDCtx(z->d);
    *z = (taut_zpack){0};
}

taut_status taut__varint_add(taut_bytes *b, uint64_t v)
{
    uint8_t p[10];
    size_t  n = 0;
    do {
        p[n++] = (uint8_t)((v & 127) | (v > 127 ? 128 : 0));
        v >>= 7;
    } while (v);
    return taut__bytes_add(b, p, n);
}

bool taut__varint_get(const uint8_t *p, size_t n, size_t *at, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 64 && *at < n; shift += 7) {
        uint8_t byte = p[(*at)++];
        *v |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128)) return true;
    }
    return false;
}
