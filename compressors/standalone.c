/* standalone.c : taut_encode() and friends: one tensor to one frame and back, no communicator. */
#include "frame.h"
#include "stack/stack.h"
#include <stdio.h>
#include <string.h>

extern const taut_codec taut__codec_stack;

static taut_status need(const void *p, const char *call, const char *what)
{
    return p ? TAUT_OK : taut__fail(TAUT_E_INVALID, "%s: %s is NULL", call, what);
}

static taut_status tensor_of(int ndim, const size_t *shape, taut_tensor *t)
{
    memset(t, 0, sizeof *t);
    if (ndim < 0 || ndim > 8) return taut__fail(TAUT_E_RANGE, "ndim=%d: must be 0..8", ndim);
    if (ndim > 0 && !shape) return taut__fail(TAUT_E_INVALID, "shape is NULL with ndim=%d", ndim);
    t->elems = 1;
    for (int d = 0; d < ndim; d++) {
        if (shape[d] == 0) return taut__fail(TAUT_E_RANGE, "shape[%d]=0: must be at least 1", d);
        if (!taut__mul_ok(t->elems, shape[d], &t->elems) || t->elems > SIZE_MAX / 64)
            return taut__fail(TAUT_E_RANGE,
                              "shape[%d]=%zu: with it there are more elements than the %zu that memory can hold", d,
                              shape[d], SIZE_MAX / 64);
    }
    t->rows = ndim > 0 ? shape[0] : 1;
    t->cols = t->elems / t->rows;
    return TAUT_OK;
}

static taut_status spec_for(const char *text, int ndim, const size_t *shape, taut_spec *spec, taut_tensor *t)
{
    TAUT_TRY(taut__spec_parse(text, spec));
    TAUT_TRY(tensor_of(ndim, shape, t));
    if (spec->automatic)
        return taut__fail(TAUT_E_UNSUPPORTED, "codec auto needs a communicator: name a codec to encode one tensor");
    if (taut__spec_basis(spec) > 0)
        return taut__fail(
            TAUT_E_UNSUPPORTED,
            "codec %s: basis=%zu: a basis needs a communicator, whose results it is made from: leave it out",
            spec->stage[0].codec->name, taut__spec_basis(spec));
    return taut__spec_suits(spec, t);
}

taut_status taut_spec_check(const char *text, int ndim, const size_t *shape)
{
    taut_spec   spec;
    taut_tensor t;
    TAUT_TRY(taut__spec_parse(text, &spec));
    if (ndim == 0 && !shape) return TAUT_OK;
    TAUT_TRY(tensor_of(ndim, shape, &t));
    return spec.automatic ? TAUT_OK : taut__spec_suits(&spec, &t);
}

taut_status taut_encode_bound(const char *text, int ndim, const size_t *shape, size_t *bytes)
{
    taut_spec   spec;
    taut_tensor t;
    TAUT_TRY(need(bytes, "taut_encode_bound", "bytes"));
    *bytes = 0;
    TAUT_TRY(spec_for(text, ndim, shape, &spec, &t));
    *bytes = taut__frame_capacity(&spec, &t, t.elems);
    return TAUT_OK;
}

taut_status taut_encode(const char *text, int ndim, const size_t *shape, const float *src, uint64_t seed, void *dst,
                        size_t cap, size_t *len)
{
    taut_spec   spec;
    taut_tensor t;
    TAUT_TRY(need(len, "taut_encode", "len"));
    *len = 0;
    TAUT_TRY(need(src, "taut_encode", "src"));
    TAUT_TRY(need(dst, "taut_encode", "dst"));
    TAUT_TRY(spec_for(text, ndim, shape, &spec, &t));
    taut_call call = {.spec = &spec, .tensor = &t, .n = t.elems, .seed = seed, .shared_seed = seed};
    return taut__frame_encode(&call, src, dst, cap, len, NULL, false);
}

/* A stack's payload names its own stages, and every payload its own parameters, so a frame needs no spec to decode. */
taut_status taut_decode(const void *src, size_t len, float *dst, size_t elems)
{
    const taut_codec *codec;
    const uint8_t    *payload;
    size_t            bytes, count;
    TAUT_TRY(need(src, "taut_decode", "src"));
    TAUT_TRY(need(dst, "taut_decode", "dst"));
    TAUT_TRY(taut__frame_open(NULL, 0, src, len, &payload, &bytes, &codec, &count, NULL));
    if (count != elems)
        return taut__fail(TAUT_E_INVALID, "frame holds %zu elements where the caller expects %zu", count, elems);
    taut_tensor t = {.elems = elems, .rows = 1, .cols = elems};
    taut_spec   none = {.stages = 0};
    taut_call   call = {.spec = &none, .tensor = &t, .n = elems};
    return taut__op_decode(codec, &call, payload, bytes, dst);
}

static taut_status describe(const taut_codec *codec, const uint8_t *payload, size_t bytes, taut_spec *spec)
{
    *spec = (taut_spec){.stages = 1, .stage = {{.codec = codec}}};
    for (uint32_t k = 0; k < codec->n_keys; k++) spec->stage[0].value[k] = codec->keys[k].fallback;
    if (codec == &taut__codec_stack) return taut__stack_describe(payload, bytes, spec);
    return codec->describe ? codec->describe(payload, bytes, &spec->stage[0]) : TAUT_OK;
}

taut_status taut_frame_info(const void *src, size_t len, size_t *elems, size_t *frame_len, char *text, size_t text_cap)
{
    const taut_codec *codec;
    const uint8_t    *payload;
    size_t            bytes, count, more;
    taut_spec         spec;
    if (elems) *elems = 0;
    if (frame_len) *frame_len = 0;
    if (text && text_cap > 0) text[0] = 0;
    TAUT_TRY(need(src, "taut_frame_info", "src"));
    TAUT_TRY(taut__frame_open(NULL, 0, src, len, &payload, &bytes, &codec, &count, &more));
    if (text && text_cap > 0) {
        TAUT_TRY(describe(codec, payload, bytes, &spec));
        taut__spec_print(&spec, text, text_cap);
    }
    if (elems) *elems = count;
    if (frame_len) *frame_len = len - more;
    return TAUT_OK;
}

/* ---- introspection ---- */

const char *taut_codec_name(size_t i)
{
    const taut_codec *c = taut__codec_at(i);
    return c ? c->name : NULL;
}

static int print_key(char *dst, size_t cap, const taut_key *k)
{
    if (k->kind == TAUT_KEY_WORD) {
        const char *w = k->words;
        for (int i = 0; i < (int)k->fallback && strchr(w, '|'); i++) w = strchr(w, '|') + 1;
        return snprintf(dst, cap, " %s=%s (%.*s)", k->name, k->words, (int)strcspn(w, "|"), w);
    }
    return taut__snprintf(dst, cap, " %s=%g..%g (%g)", k->name, k->min, k->max, k->fallback);
}

const char *taut_codec_help(size_t i)
{
    static _Thread_local char text[512];
    const taut_codec         *c = taut__codec_at(i);
    if (!c) return NULL;
    int n = snprintf(text, sizeof text, "%s.%s", c->help, c->n_keys ? " Keys:" : "");
    for (uint32_t k = 0; k < c->n_keys && n < (int)sizeof text; k++)
        n += print_key(text + n, sizeof text - (size_t)n, &c->keys[k]);
    return text;
}
