/* field_wavelet.c : `wavelet`: lossy u8 images at a PSNR: biorthogonal 9/7 wavelets by lifting (Daubechies and Sweldens,
 * "Factoring wavelet transforms into lifting steps", 1998, as in JPEG 2000 part 1, annex F), then the gradient codec `grid`
 * with one step for the whole field, which is found by bisection. Coefficients of one place of all images of a part lie side by
 * side, coarse bands first, so that grid's blocks hold values of one kind.
 * Shared bytes: step f32. A part: a gradient frame of the coefficients (docs/wire-format.md); pixels are rounded half up and
 * clamped. All arithmetic is in float32, one operation after the other, so every machine decodes the same pixels. */
#include "field.h"
#include <math.h>

enum { LEVELS_MAX = 5, SEARCH_BYTES = 8 << 20, SEARCH_STEPS = 14 };
#define LEAST_STEP 0.05 /* pixels come back as they were */

typedef struct state {
    size_t    rows, cols, channels, size;
    int       levels;
    float     step;
    uint32_t *order; /* size entries: place in the image of the k-th coefficient */
    float    *image; /* size */
    float    *line;  /* 2 * the longer side */
    float    *coef;  /* of a part */
    size_t    cap;
} state;

static const taut_key keys[] = {
    {.name = "psnr", .kind = TAUT_KEY_REAL, .min = 20, .max = 60, .fallback = 40, .help = "dB, at least"}};

static taut_status suits(const taut_field_spec *spec)
{
    if (spec->field->kind == TAUT_KIND_IMAGE && !spec->field->variable) return TAUT_OK;
    return taut__fail(TAUT_E_UNSUPPORTED, "field %s: wavelet: codes u8 images of one shape, not %s", spec->field->name,
                      taut_kind_name(spec->field->kind));
}

/* ---- transform ---- */

/* One lifting step: every second value, from `first` on, takes k times the sum of its neighbours; mirrored at the ends. */
static void lift(float *x, size_t n, size_t first, float k)
{
    for (size_t i = first; i < n; i += 2) {
        float a = i > 0 ? x[i - 1] : x[1], b = i + 1 < n ? x[i + 1] : x[i - 1];
        x[i] += k * (a + b);
    }
}

/* alpha, beta, gamma, delta of the lifting factorisation; scaled so that both bands have the norm of an orthonormal basis */
static const float A = -1.586134342f, B = -0.052980118f, G = 0.882911075f, D = 0.443506852f, LOW = 1.149604398f,
                   HIGH = 0.869864452f;

/* x[0..n): in place; low band to the front. tmp: n */
static void forward(float *x, size_t n, float *tmp)
{
    size_t low = (n + 1) / 2;
    if (n < 2) return;
    lift(x, n, 1, A);
    lift(x, n, 0, B);
    lift(x, n, 1, G);
    lift(x, n, 0, D);
    for (size_t i = 0; i < n; i++) tmp[i & 1 ? low + i / 2 : i / 2] = x[i] * (i & 1 ? HIGH : LOW);
    memcpy(x, tmp, n * sizeof *x);
}

static void inverse(float *x, size_t n, float *tmp)
{
    size_t low = (n + 1) / 2;
    if (n < 2) return;
    for (size_t i = 0; i < n; i++) tmp[i] = (i & 1 ? x[low + i / 2] * LOW : x[i / 2] * HIGH);
    lift(tmp, n, 0, -D);
    lift(tmp, n, 1, -G);
    lift(tmp, n, 0, -B);
    lift(tmp, n, 1, -A);
    memcpy(x, tmp, n * sizeof *x);
}

static void lines(state *s, size_t count, size_t n, size_t between, size_t step, size_t channel,
                  void (*f)(float *, size_t, float *))
{
    for (size_t l = 0; l < count; l++) {
        float *at = s->image + (l * between) * s->channels + channel;
        for (size_t i = 0; i < n; i++) s->line[i] = at[i * step * s->channels];
        f(s->line, n, s->line + n);
        for (size_t i = 0; i < n; i++) at[i * step * s->channels] = s->line[i];
    }
}

static size_t band(size_t n, int level)
{
    while (level-- > 0) n = (n + 1) / 2;
    return n;
}

static void transform(state *s, bool back)
{
    for (size_t c = 0; c < s->channels; c++)
        for (int k = 0; k < s->levels; k++) {
            int    level = back ? s->levels - 1 - k : k;
            size_t rows = band(s->rows, level), cols = band(s->cols, level);
            if (back) {
                lines(s, cols, rows, 1, s->cols, c, inverse);
                lines(s, rows, cols, s->cols, 1, c, inverse);
            } else {
                lines(s, rows, cols, s->cols, 1, c, forward);
                lines(s, cols, rows, 1, s->cols, c, forward);
            }
        }
}

/* Coarse bands first: by level, then row by row. */
static void make_order(state *s)
{
    size_t n = 0;
    for (int level = s->levels; level >= 0; level--) {
        size_t rows = band(s->rows, level), cols = band(s->cols, level),
               r0 = level < s->levels ? band(s->rows, level + 1) : 0,
               c0 = level < s->levels ? band(s->cols, level + 1) : 0;
        for (int part = 0; part < 3; part++) /* right, below, both; the coarsest band is `both` from 0 on */
            for (size_t r = part == 0 ? 0 : r0; r < (part == 0 ? r0 : rows); r++)
                for (size_t c = part == 1 ? 0 : c0; c < (part == 1 ? c0 : cols); c++)
                    for (size_t k = 0; k < s->channels; k++)
                        s->order[n++] = (uint32_t)((r * s->cols + c) * s->channels + k);
    }
}

/* ---- parts ---- */

static taut_status room(state *s, size_t n)
{
    if (n <= s->cap) return TAUT_OK;
    taut__free(s->coef);
    s->cap = 0;
    s->coef = taut__alloc(n, sizeof *s->coef);
    if (!s->coef) return taut__fail(TAUT_E_NOMEM, "wavelet: no memory for %zu coefficients", n);
    s->cap = n;
    return TAUT_OK;
}

static taut_status encode(void *p, const taut_part *in, taut_bytes *out)
{
    state *s = p;
    size_t n = in->bytes, bound, len;
    char   spec[64];
    TAUT_TRY(room(s, n));
    for (uint32_t i = 0; i < in->n; i++) {
        for (size_t k = 0; k < s->size; k++) s->image[k] = (float)in->data[i * s->size + k] - 128.0f;
        transform(s, false);
        for (size_t k = 0; k < s->size; k++) s->coef[k * in->n + i] = s->image[s->order[k]];
    }
    taut__snprintf(spec, sizeof spec, "grid:step=%.9g,code=rans", (double)s->step);
    TAUT_TRY(taut_encode_bound(spec, 1, &n, &bound));
    TAUT_TRY(taut__bytes_reserve(out, bound));
    TAUT_TRY(taut_encode(spec, 1, &n, s->coef, 1, out->p + out->n, bound, &len));
    out->n += len;
    return TAUT_OK;
}

static taut_status decode(void *p, const uint8_t *src, size_t len, const taut_part *g, uint8_t *dst)
{
    state *s = p;
    if (g->bytes != g->n * s->size)
        return taut__fail(TAUT_E_CORRUPT, "wavelet: %zu bytes are not %u images of %zu", g->bytes, g->n, s->size);
    TAUT_TRY(room(s, g->bytes));
    if (taut_decode(src, len, s->coef, g->bytes) != TAUT_OK)
        return taut__fail(TAUT_E_CORRUPT, "wavelet: its %zu bytes of coefficients do not decode: %s", len,
                          taut_last_error());
    for (uint32_t i = 0; i < g->n; i++) {
        for (size_t k = 0; k < s->size; k++) s->image[s->order[k]] = s->coef[k * g->n + i];
        transform(s, true);
        for (size_t k = 0; k < s->size; k++) {
            float v = floorf(s->image[k] + 128.5f);
            dst[i * s->size + k] = (uint8_t)(v > 0.0f ? v < 255.0f ? v : 255.0f : 0.0f); /* NaN becomes 0 */
        }
    }
    return TAUT_OK;
}

/* ---- state ---- */

static void close_state(void *p)
{
    state *s = p;
    if (!s) return;
    taut__free(s->order);
    taut__free(s->image);
    taut__free(s->line);
    taut__free(s->coef);
    taut__free(s);
}

static taut_status state_create(const taut_field_spec *spec, state **out)
{
    const taut_field *f = spec->field;
    state            *s = taut__alloc(1, sizeof *s);
    *out = s;
    if (!s) return taut__fail(TAUT_E_NOMEM, "wavelet: no memory");
    s->rows = (size_t)f->shape[0], s->cols = (size_t)f->shape[1], s->channels = f->ndim == 3 ? (size_t)f->shape[2] : 1;
    s->size = s->rows * s->cols * s->channels;
    while (s->levels < LEVELS_MAX && band(s->rows, s->levels) >= 4 && band(s->cols, s->levels) >= 4) s->levels++;
    s->order = taut__alloc(s->size, sizeof *s->order);
    s->image = taut__alloc(s->size, sizeof *s->image);
    s->line = taut__alloc(2 * taut__max(s->rows, s->cols), sizeof *s->line);
    if (!s->order || !s->image || !s->line)
        return taut__fail(TAUT_E_NOMEM, "wavelet: no memory for an image of %zu bytes", s->size);
    make_order(s);
    return TAUT_OK;
}

static taut_status open_state(const taut_field_spec *spec, const uint8_t *shared, size_t bytes, bool encoding,
                              void **out)
{
    state      *s;
    uint32_t    bits = bytes == 4 ? taut__get32(shared) : 0;
    taut_status rc = state_create(spec, &s);
    (void)encoding;
    if (rc == TAUT_OK) {
        memcpy(&s->step, &bits, 4);
        if (!(s->step > 0 && s->step < 1e6f))
            rc = taut__fail(TAUT_E_CORRUPT, "wavelet: step %g of %zu bytes: must be above 0 and below 1e6",
                            (double)s->step, bytes);
    }
    if (rc != TAUT_OK) close_state(s);
    else *out = s;
    return rc;
}

/* Mean squared error with the state's step, over every so-manieth part. */
static taut_status measure(state *s, const taut_source *source, uint64_t every, uint8_t *back, taut_bytes *code,
                           double *mse)
{
    uint64_t n = 0;
    double   sum = 0;
    for (uint64_t b = 0; b < source->blocks; b += every) {
        taut_part part, g;
        TAUT_TRY(source->part(source->ctx, b, &part));
        code->n = 0;
        TAUT_TRY(encode(s, &part, code));
        g = part;
        TAUT_TRY(decode(s, code->p, code->n, &g, back));
        for (size_t i = 0; i < part.bytes; i++) {
            int d = part.data[i] - back[i];
            sum += d * d;
        }
        n += part.bytes;
    }
    *mse = n ? sum / (double)n : 0;
    return TAUT_OK;
}

static taut_status search(state *s, const taut_field_spec *spec, const taut_source *source, uint8_t *back)
{
    double promised = 255.0 * 255.0 * pow(10, -spec->value[0] / 10), want = promised, mse = 0, low = LEAST_STEP,
           high = 256;
    uint64_t    every = source->bytes / SEARCH_BYTES + 1;
    taut_bytes  code = {0};
    taut_status rc = TAUT_OK;
    if (every > 1) want *= 0.98; /* parts that are not looked at may be a little worse */
    for (int i = 0; i < SEARCH_STEPS && rc == TAUT_OK; i++) {
        double middle = sqrt(low * high);
        s->step = (float)middle;
        rc = measure(s, source, every, back, &code, &mse);
        if (mse > want) high = middle;
        else low = middle;
    }
    s->step = (float)low;
    for (int i = 0; i < SEARCH_STEPS && rc == TAUT_OK && every > 1;
         i++) { /* or much worse: in the end all are looked at */
        rc = measure(s, source, 1, back, &code, &mse);
        if (mse <= promised) break;
        s->step = (float)fmax(LEAST_STEP, 0.98 * sqrt(promised / mse) * (double)s->step);
    }
    taut__bytes_free(&code);
    return rc;
}

static taut_status train(const taut_field_spec *spec, const taut_source *source, taut_bytes *shared)
{
    state      *s;
    uint8_t     head[4], *back = NULL;
    uint32_t    bits;
    taut_part   first;
    taut_status rc = state_create(spec, &s);
    if (rc == TAUT_OK) rc = source->part(source->ctx, 0, &first); /* no part is larger */
    if (rc == TAUT_OK && !(back = taut__alloc(taut__max(first.bytes, 1), 1)))
        rc = taut__fail(TAUT_E_NOMEM, "wavelet: no memory");
    if (rc == TAUT_OK) rc = search(s, spec, source, back);
    if (rc == TAUT_OK) {
        memcpy(&bits, &s->step, 4);
        taut__put32(head, bits);
        rc = taut__bytes_add(shared, head, 4);
    }
    taut__free(back);
    close_state(s);
    return rc;
}

const taut_field_codec taut__field_wavelet = {
    .id = 11,
    .version = 1,
    .name = "wavelet",
    .help = "lossy u8 images at a PSNR: 9/7 wavelets, then grid",
    .caps = TAUT_FIELD_LOSSY,
    .n_keys = 1,
    .keys = keys,
    .suits = suits,
    .train = train,
    .open = open_state,
    .close = close_state,
    .encode = encode,
    .decode = decode,
};
