/* field_split.c : `split`: bytes of elements sorted by significance (a plane per byte), each plane a zpack stream: signs and
 * exponents repeat, low mantissa bytes are noise and stay as they are. Lossless for any type. */
#include "field.h"
#include "zpack.h"

typedef struct state {
    size_t     size;
    int        level;
    taut_zpack z;
    taut_bytes plane;
} state;

static const taut_key keys[] = {
    {.name = "level", .kind = TAUT_KEY_INT, .min = 1, .max = 22, .fallback = 19, .help = "effort of zstd"}};

static taut_status open_state(const taut_field_spec *spec, const uint8_t *shared, size_t bytes, bool encoding,
                              void **out)
{
    state *s = taut__alloc(1, sizeof *s);
    (void)shared, (void)bytes, (void)encoding;
    if (!s) return taut__fail(TAUT_E_NOMEM, "split: no memory");
    s->size = taut_type_bytes(spec->field->type);
    s->level = (int)spec->value[0];
    *out = s;
    return TAUT_OK;
}

static void close_state(void *p)
{
    state *s = p;
    if (!s) return;
    taut__zpack_free(&s->z);
    taut__bytes_free(&s->plane);
    taut__free(s);
}

static taut_status encode(void *p, const taut_part *in, taut_bytes *out)
{
    state *s = p;
    size_t n = in->bytes / s->size;
    s->plane.n = 0;
    TAUT_TRY(taut__bytes_reserve(&s->plane, n));
    for (size_t k = 0; k < s->size; k++) {
        for (size_t i = 0; i < n; i++) s->plane.p[i] = in->data[i * s->size + k];
        TAUT_TRY(taut__zpack(&s->z, s->plane.p, n, s->level, out));
    }
    return TAUT_OK;
}

static taut_status decode(void *p, const uint8_t *src, size_t len, const taut_part *g, uint8_t *dst)
{
    state *s = p;
    size_t n = g->bytes / s->size, at = 0, used;
    if (g->bytes % s->size)
        return taut__fail(TAUT_E_CORRUPT, "split: %zu bytes are no whole number of elements of %zu", g->bytes, s->size);
    for (size_t k = 0; k < s->size; k++, at += used) {
        s->plane.n = 0;
        TAUT_TRY(taut__zunpack(&s->z, src + at, len - at, n, &s->plane, &used));
        if (s->plane.n != n)
            return taut__fail(TAUT_E_CORRUPT, "split: plane %zu has %zu bytes: must be %zu", k, s->plane.n, n);
        for (size_t i = 0; i < n; i++) dst[i * s->size + k] = s->plane.p[i];
    }
    return at == len ? TAUT_OK : taut__fail(TAUT_E_CORRUPT, "split: %zu of %zu bytes are left over", len - at, len);
}

const taut_field_codec taut__field_split = {
    .id = 7,
    .version = 1,
    .name = "split",
    .help = "lossless floats: bytes sorted by significance, then zstd",
    .n_keys = 1,
    .keys = keys,
    .open = open_state,
    .close = close_state,
    .encode = encode,
    .decode = decode,
};
