/* field_med.c : `med`: u8 images: differences to what the neighbours predict, then a zpack stream. The predictor is LOCO-I's
 * median edge detector (Weinberger, Seroussi and Sapiro, "The LOCO-I lossless image compression algorithm", 2000, eq. 1), of the
 * same channel; or Paeth's (PNG, RFC 2083, 6.6). Neighbours outside the image are 0; differences are modulo 256. */
#include "field.h"
#include "zpack.h"

typedef struct state {
    size_t     rows, cols, channels;
    int        level;
    bool       paeth;
    taut_zpack z;
    taut_bytes residual;
} state;

static const taut_key keys[] = {
    {.name = "level", .kind = TAUT_KEY_INT, .min = 1, .max = 22, .fallback = 19, .help = "effort of zstd"},
    {.name = "predictor", .kind = TAUT_KEY_WORD, .words = "med|paeth", .help = "of a pixel from its neighbours"},
};

static taut_status suits(const taut_field_spec *spec)
{
    if (spec->field->kind == TAUT_KIND_IMAGE && !spec->field->variable) return TAUT_OK;
    return taut__fail(TAUT_E_UNSUPPORTED, "field %s: med: codes u8 images of one shape, not %s", spec->field->name,
                      taut_kind_name(spec->field->kind));
}

static taut_status open_state(const taut_field_spec *spec, const uint8_t *shared, size_t bytes, bool encoding,
                              void **out)
{
    const taut_field *f = spec->field;
    state            *s = taut__alloc(1, sizeof *s);
    (void)shared, (void)bytes, (void)encoding;
    if (!s) return taut__fail(TAUT_E_NOMEM, "med: no memory");
    s->rows = (size_t)f->shape[0], s->cols = (size_t)f->shape[1], s->channels = f->ndim == 3 ? (size_t)f->shape[2] : 1;
    s->level = (int)spec->value[0];
    s->paeth = spec->value[1] == 1;
    *out = s;
    return TAUT_OK;
}

static void close_state(void *p)
{
    state *s = p;
    if (!s) return;
    taut__zpack_free(&s->z);
    taut__bytes_free(&s->residual);
    taut__free(s);
}

static inline int magnitude(int v) { return v < 0 ? -v : v; }

/* Prediction of pixel i of an image from those before it. */
static inline uint8_t predict(const state *s, const uint8_t *image, size_t i)
{
    size_t row = s->cols * s->channels;
    bool   west = i % row >= s->channels, north = i >= row;
    int    w = west ? image[i - s->channels] : 0, n = north ? image[i - row] : 0,
        nw = west && north ? image[i - row - s->channels] : 0;
    int plane = w + n - nw, low = w < n ? w : n, high = w < n ? n : w;
    if (s->paeth) {
        int a = magnitude(plane - w), b = magnitude(plane - n), c = magnitude(plane - nw);
        return (uint8_t)(a <= b && a <= c ? w : b <= c ? n : nw);
    }
    return (uint8_t)(nw >= high ? low : nw <= low ? high : plane);
}

static taut_status encode(void *p, const taut_part *in, taut_bytes *out)
{
    state *s = p;
    size_t size = s->rows * s->cols * s->channels;
    s->residual.n = 0;
    TAUT_TRY(taut__bytes_reserve(&s->residual, in->bytes));
    for (size_t at = 0; at < in->bytes; at += size)
        for (size_t i = 0; i < size; i++)
            s->residual.p[at + i] = (uint8_t)(in->data[at + i] - predict(s, in->data + at, i));
    return taut__zpack(&s->z, s->residual.p, in->bytes, s->level, out);
}

static taut_status decode(void *p, const uint8_t *src, size_t len, const taut_part *g, uint8_t *dst)
{
    state *s = p;
    size_t size = s->rows * s->cols * s->channels, used;
    s->residual.n = 0;
    TAUT_TRY(taut__zunpack(&s->z, src, len, g->bytes, &s->residual, &used));
    if (s->residual.n != g->bytes || used != len || g->bytes % size)
        return taut__fail(TAUT_E_CORRUPT, "med: %zu bytes from %zu of %zu: must be %zu from all, in images of %zu",
                          s->residual.n, used, len, g->bytes, size);
    for (size_t at = 0; at < g->bytes; at += size)
        for (size_t i = 0; i < size; i++) dst[at + i] = (uint8_t)(s->residual.p[at + i] + predict(s, dst + at, i));
    return TAUT_OK;
}

const taut_field_codec taut__field_med = {
    .id = 8,
    .version = 1,
    .name = "med",
    .help = "lossless u8 images: prediction from neighbours, then zstd",
    .n_keys = 2,
    .keys = keys,
    .suits = suits,
    .open = open_state,
    .close = close_state,
    .encode = encode,
    .decode = decode,
};
