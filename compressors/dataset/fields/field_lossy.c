/* field_lossy.c : `quant` and `grid`: the gradient codecs of the same names for float fields, so that one error budget and one
 * solver serve both halves. A part: mode u8: 0 = floats as they are (a part that holds NaN or Inf, or is empty); 1 = a
 * gradient frame (docs/wire-format.md). Numbers from 2^126 on are kept as they are, too: their nearest level may be infinity. */
#include "field.h"
#include <math.h>

enum { PLAIN = 0, FRAME = 1 };

typedef struct state {
    char   spec[96];
    float *x;
    size_t cap;
} state;

static const taut_key quant_keys[] = {
    {.name = "bits", .kind = TAUT_KEY_INT, .min = 1, .max = 8, .fallback = 8, .help = "per element"},
    {.name = "bucket",
     .kind = TAUT_KEY_INT,
     .min = 64,
     .max = 65536,
     .fallback = 512,
     .multiple = 64,
     .help = "elements that share a range"},
};
static const taut_key grid_keys[] = {
    {.name = "rel",
     .kind = TAUT_KEY_REAL,
     .min = 0,
     .max = 1,
     .above_min = true,
     .fallback = 1e-4,
     .help = "squared error relative to the block's square sum"},
    {.name = "step",
     .kind = TAUT_KEY_REAL,
     .min = 0,
     .max = 1e30,
     .fallback = 0,
     .help = "distance of levels, instead of rel"},
};

static taut_status suits(const taut_field_spec *spec)
{
    if (spec->field->type != TAUT_FLOAT32)
        return taut__fail(TAUT_E_UNSUPPORTED, "field %s: %s: codes f32, not %s", spec->field->name, spec->codec->name,
                          taut_type_name(spec->field->type));
    if (spec->codec == &taut__field_quant && (int)spec->value[1] % 64)
        return taut__fail(TAUT_E_RANGE, "field %s: quant: bucket=%g: must be a multiple of 64", spec->field->name,
                          spec->value[1]);
    return TAUT_OK;
}

static taut_status open_state(const taut_field_spec *spec, const uint8_t *shared, size_t bytes, bool encoding,
                              void **out)
{
    state *s = taut__alloc(1, sizeof *s);
    (void)shared, (void)bytes, (void)encoding;
    if (!s) return taut__fail(TAUT_E_NOMEM, "%s: no memory", spec->codec->name);
    if (spec->codec == &taut__field_quant)
        taut__snprintf(s->spec, sizeof s->spec, "quant:bits=%d,bucket=%d,round=nearest", (int)spec->value[0],
                       (int)spec->value[1]);
    else if (spec->value[1] > 0) taut__snprintf(s->spec, sizeof s->spec, "grid:step=%.9g,code=rans", spec->value[1]);
    else taut__snprintf(s->spec, sizeof s->spec, "grid:rel=%.9g,code=rans", spec->value[0]);
    *out = s;
    return TAUT_OK;
}

static void close_state(void *p)
{
    state *s = p;
    if (s) taut__free(s->x);
    taut__free(s);
}

static taut_status room(state *s, size_t n)
{
    if (n <= s->cap) return TAUT_OK;
    taut__free(s->x);
    s->cap = 0;
    s->x = taut__alloc(n, sizeof *s->x);
    if (!s->x) return taut__fail(TAUT_E_NOMEM, "no memory for %zu floats", n);
    s->cap = n;
    return TAUT_OK;
}

static taut_status encode(void *p, const taut_part *in, taut_bytes *out)
{
    state *s = p;
    size_t n = in->bytes / 4, bound, len, at = out->n;
    bool   finite = n > 0;
    TAUT_TRY(room(s, n));
    if (n) memcpy(s->x, in->data, in->bytes);
    for (size_t i = 0; i < n && finite; i++) finite = fabsf(s->x[i]) < 0x1p126f; /* false of NaN */
    TAUT_TRY(taut__bytes_reserve(out, 1));
    out->p[out->n++] = finite ? FRAME : PLAIN;
    if (finite) {
        TAUT_TRY(taut_encode_bound(s->spec, 1, &n, &bound));
        TAUT_TRY(taut__bytes_reserve(out, bound));
        TAUT_TRY(taut_encode(s->spec, 1, &n, s->x, in->block, out->p + out->n, bound, &len));
        out->n += len;
        if (out->n - at <= 1 + in->bytes) return TAUT_OK;
        out->n = at + 1;
        out->p[at] = PLAIN; /* a step so fine that codes are longer than floats */
    }
    return taut__bytes_add(out, in->data, in->bytes);
}

static taut_status decode(void *p, const uint8_t *src, size_t len, const taut_part *g, uint8_t *dst)
{
    state *s = p;
    size_t n = g->bytes / 4;
    if (len < 1 || g->bytes % 4 || src[0] > FRAME || (src[0] == PLAIN && len != 1 + g->bytes))
        return taut__fail(TAUT_E_CORRUPT, "no floats in it");
    if (src[0] == PLAIN) {
        if (g->bytes) memcpy(dst, src + 1, g->bytes);
        return TAUT_OK;
    }
    TAUT_TRY(room(s, n));
    if (taut_decode(src + 1, len - 1, s->x, n) != TAUT_OK) {
        char why[256];
        taut__snprintf(why, sizeof why, "%.250s", taut_last_error());
        return taut__fail(TAUT_E_CORRUPT, "%s", why);
    }
    memcpy(dst, s->x, g->bytes);
    return TAUT_OK;
}

const taut_field_codec taut__field_quant = {
    .id = 9,
    .version = 1,
    .name = "quant",
    .help = "lossy floats: uniform levels in buckets",
    .caps = TAUT_FIELD_LOSSY,
    .n_keys = 2,
    .keys = quant_keys,
    .suits = suits,
    .open = open_state,
    .close = close_state,
    .encode = encode,
    .decode = decode,
};
const taut_field_codec taut__field_grid = {
    .id = 10,
    .version = 1,
    .name = "grid",
    .help = "lossy floats: one step with a dead zone, entropy coded",
    .caps = TAUT_FIELD_LOSSY,
    .n_keys = 2,
    .keys = grid_keys,
    .suits = suits,
    .open = open_state,
    .close = close_state,
    .encode = encode,
    .decode = decode,
};
