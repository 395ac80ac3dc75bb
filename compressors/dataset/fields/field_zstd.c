/* field_zstd.c : `zstd`: one zstd frame per part, content size announced, no checksum (the container has two). */
#include "field.h"
#include <zstd.h>

typedef struct state {
    ZSTD_CCtx *c;
    ZSTD_DCtx *d;
    int        level;
} state;

static const taut_key keys[] = {
    {.name = "level", .kind = TAUT_KEY_INT, .min = 1, .max = 22, .fallback = 19, .help = "effort"}};

static void close_state(void *p)
{
    state *s = p;
    if (!s) return;
    ZSTD_freeCCtx(s->c);
    ZSTD_freeDCtx(s->d);
    taut__free(s);
}

static taut_status open_state(const taut_field_spec *spec, const uint8_t *shared, size_t bytes, bool encoding,
                              void **out)
{
    state *s = taut__alloc(1, sizeof *s);
    (void)shared;
    (void)bytes;
    if (s) {
        s->level = (int)spec->value[0];
        s->d = ZSTD_createDCtx();
        if (encoding) s->c = ZSTD_createCCtx();
    }
    if (!s || !s->d || (encoding && !s->c)) {
        close_state(s);
        return taut__fail(TAUT_E_NOMEM, "zstd: no memory for its context");
    }
    *out = s;
    return TAUT_OK;
}

static taut_status encode(void *p, const taut_part *in, taut_bytes *out)
{
    state *s = p;
    size_t n, bound = ZSTD_compressBound(in->bytes);
    TAUT_TRY(taut__bytes_reserve(out, bound));
    n = ZSTD_compressCCtx(s->c, out->p + out->n, bound, in->data, in->bytes, s->level);
    if (ZSTD_isError(n)) return taut__fail(TAUT_E_NOMEM, "zstd: %s", ZSTD_getErrorName(n));
    out->n += n;
    return TAUT_OK;
}

static taut_status decode(void *p, const uint8_t *src, size_t len, const taut_part *g, uint8_t *dst)
{
    state *s = p;
    size_t n = ZSTD_decompressDCtx(s->d, dst, g->bytes, src, len);
    if (ZSTD_isError(n)) return taut__fail(TAUT_E_CORRUPT, "zstd: %s", ZSTD_getErrorName(n));
    if (n != g->bytes) return taut__fail(TAUT_E_CORRUPT, "zstd: decodes to %zu bytes, not %zu", n, g->bytes);
    return TAUT_OK;
}

const taut_field_codec taut__field_zstd = {
    .id = 2,
    .version = 1,
    .name = "zstd",
    .help = "a zstd frame per block",
    .caps = TAUT_FIELD_PLAIN,
    .n_keys = 1,
    .keys = keys,
    .open = open_state,
    .close = close_state,
    .encode = encode,
    .decode = decode,
};
