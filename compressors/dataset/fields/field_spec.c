/* field_spec.c : "name:key=value,..." of a field, and whether kind, type and shape make sense. */
#include "field.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>

/* ---- names ---- */
static const char *const type_names[] = {"u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"};
static const uint8_t     type_sizes[] = {1, 1, 2, 2, 4, 4, 8, 8, 4, 8};
static const char *const kind_names[] = {"bytes", "text", "tokens", "int", "float", "image", "file", "label"};
static const char *const kind_codecs[] = {"zstd", "zstd", "tokens", "delta", "split", "zstd", "raw", "delta"};
enum { TYPES = sizeof type_names / sizeof *type_names, KINDS = sizeof kind_names / sizeof *kind_names };

size_t      taut_type_bytes(taut_type t) { return (unsigned)t < TYPES ? type_sizes[t] : 0; }
const char *taut_type_name(taut_type t) { return (unsigned)t < TYPES ? type_names[t] : "?"; }
const char *taut_kind_name(taut_kind k) { return (unsigned)k < KINDS ? kind_names[k] : "?"; }

/* ---- shape ---- */
static bool allowed(taut_kind k, taut_type t)
{
    switch (k) {
    case TAUT_KIND_BYTES: return true;
    case TAUT_KIND_TEXT:
    case TAUT_KIND_IMAGE:
    case TAUT_KIND_FILE: return t == TAUT_U8;
    case TAUT_KIND_TOKENS: return t == TAUT_U8 || t == TAUT_U16 || t == TAUT_U32;
    case TAUT_KIND_INT:
    case TAUT_KIND_LABEL: return t < TAUT_FLOAT32;
    case TAUT_KIND_FLOAT: return t >= TAUT_FLOAT32;
    }
    return false;
}

static taut_status check_name(const taut_field *f)
{
    size_t n = strnlen(f->name, TAUT_FIELD_NAME);
    if (n == 0 || n == TAUT_FIELD_NAME)
        return taut__fail(TAUT_E_INVALID, "field name '%.20s%s': %s%zu characters: must be 1..%d", f->name,
                          n > 20 ? "..." : "", n == TAUT_FIELD_NAME ? "at least " : "", n, TAUT_FIELD_NAME - 1);
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)f->name[i]) && !strchr("-_.", f->name[i]))
            return taut__fail(TAUT_E_INVALID, "field name '%s': only letters, digits, - _ and . are allowed", f->name);
    return TAUT_OK;
}

taut_status taut__field_shape(taut_field *f)
{
    size_t bytes;
    TAUT_TRY(check_name(f));
    if ((unsigned)f->kind >= KINDS)
        return taut__fail(TAUT_E_INVALID, "field %s: kind %d: must be 0..%d", f->name, f->kind, KINDS - 1);
    if ((unsigned)f->type >= TYPES)
        return taut__fail(TAUT_E_INVALID, "field %s: type %d: must be 0..%d", f->name, f->type, TYPES - 1);
    if (!allowed(f->kind, f->type))
        return taut__fail(TAUT_E_INVALID, "field %s: kind %s does not hold elements of type %s", f->name,
                          kind_names[f->kind], type_names[f->type]);
    if (f->ndim > TAUT_FIELD_DIMS || f->variable > 1)
        return taut__fail(TAUT_E_RANGE, "field %s: ndim=%u, variable=%u: must be 0..%d and 0..1", f->name, f->ndim,
                          f->variable, TAUT_FIELD_DIMS);
    if (f->kind == TAUT_KIND_LABEL && (f->variable || f->ndim))
        return taut__fail(TAUT_E_INVALID,
                          "field %s: a label with ndim=%u, variable=%u: must be 0 and 0, one integer per sample",
                          f->name, f->ndim, f->variable);
    if (f->kind == TAUT_KIND_IMAGE && !f->variable && (f->ndim < 2 || f->ndim > 3 || (f->ndim == 3 && f->shape[2] > 4)))
        return taut__fail(
            TAUT_E_INVALID,
            "field %s: an image with ndim=%u%s: must have shape rows x cols or rows x cols x channels (1..4)", f->name,
            f->ndim, f->ndim == 3 ? " and other channels" : "");
    f->sample_bytes = 0;
    if (f->variable) return TAUT_OK;
    bytes = taut_type_bytes(f->type);
    for (uint32_t d = 0; d < f->ndim; d++)
        if (f->shape[d] == 0 || f->shape[d] > UINT32_MAX || !taut__mul_ok(bytes, (size_t)f->shape[d], &bytes))
            return taut__fail(TAUT_E_RANGE, "field %s: shape[%u]=%llu: must be 1..2^32-1, and the sample fit in memory",
                              f->name, d, (unsigned long long)f->shape[d]);
    if (bytes >= UINT32_MAX)
        return taut__fail(TAUT_E_RANGE, "field %s: a sample of %zu bytes: must be below 4 GiB", f->name, bytes);
    f->sample_bytes = bytes;
    return TAUT_OK;
}

/* ---- specs ---- */
static taut_status unknown_codec(const taut_field *f, const char *text, size_t len)
{
    char                    names[256] = "";
    const taut_field_codec *c;
    for (size_t i = 0; (c = taut__field_codec_at(i)) != NULL; i++) {
        size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", c->name);
    }
    return taut__fail(TAUT_E_INVALID, "field %s: unknown codec '%.*s': field codecs are %s", f->name,
                      (int)taut__min(len, 40), text, names);
}

static taut_status bad_value(const taut_field_spec *s, const taut_key *k, const char *text)
{
    const char *name = s->field->name;
    if (k->kind == TAUT_KEY_WORD)
        return taut__fail(TAUT_E_INVALID, "field %s: %s: %s=%s: must be %s", name, s->codec->name, k->name, text,
                          k->words);
    return taut__fail(TAUT_E_RANGE, "field %s: %s: %s=%s: must be %s %s %g and at most %g", name, s->codec->name,
                      k->name, text, k->kind == TAUT_KEY_INT ? "an integer" : "a number",
                      k->above_min ? "above" : "of at least", k->min, k->max);
}

static taut_status parse_value(taut_field_spec *s, uint32_t k, const char *at, size_t len)
{
    const taut_key *key = &s->codec->keys[k];
    char            text[48], *end;
    double          v;
    snprintf(text, sizeof text, "%.*s", (int)taut__min(len, 47), at);
    if (s->given & 1u << k)
        return taut__fail(TAUT_E_INVALID, "field %s: %s: %s is given twice", s->field->name, s->codec->name, key->name);
    s->given |= 1u << k;
    if (key->kind == TAUT_KEY_WORD) {
        const char *w = key->words;
        for (int i = 0; *w; i++) {
            size_t n = strcspn(w, "|");
            if (n == len && memcmp(w, at, n) == 0) {
                s->value[k] = i;
                return TAUT_OK;
            }
            w += n + (w[n] == '|');
        }
        return bad_value(s, key, text);
    }
    v = taut__strtod(text, &end);
    if (end != text && key->kind == TAUT_KEY_INT && (*end == 'K' || *end == 'M')) v *= *end++ == 'K' ? 1024 : 1048576;
    if (end == text || *end || strpbrk(text, "xXnN ") || !isfinite(v) || v > key->max ||
        (key->above_min ? v <= key->min : v < key->min) || (key->kind == TAUT_KEY_INT && v != floor(v)))
        return bad_value(s, key, text);
    s->value[k] = v;
    return TAUT_OK;
}

static taut_status parse_pair(taut_field_spec *s, const char *at, size_t len, bool first)
{
    const taut_field_codec *c = s->codec;
    const char             *eq = memchr(at, '=', len);
    char                    names[160] = "none";
    if (!eq && first && c->n_keys) return parse_value(s, 0, at, len);
    for (uint32_t k = 0; k < c->n_keys; k++) {
        size_t n = strlen(c->keys[k].name);
        if (eq && (size_t)(eq - at) == n && memcmp(at, c->keys[k].name, n) == 0)
            return parse_value(s, k, eq + 1, len - n - 1);
    }
    for (uint32_t k = 0, n = 0; k < c->n_keys; k++)
        n += (uint32_t)snprintf(names + n, sizeof names - n, "%s%s", k ? ", " : "", c->keys[k].name);
    return taut__fail(TAUT_E_INVALID, "field %s: %s: unknown key '%.*s': keys are %s", s->field->name, c->name,
                      (int)taut__min(len, 40), at, names);
}

taut_status taut__field_spec_parse(const taut_field *field, taut_field_spec *spec)
{
    const char *text = *field->codec ? field->codec : (unsigned)field->kind < KINDS ? kind_codecs[field->kind] : "";
    size_t      name = strcspn(text, ":");
    const taut_field_codec *c = taut__field_codec_by_name(text, name);
    *spec = (taut_field_spec){.field = field};
    if (strnlen(field->codec, TAUT_FIELD_CODEC) == TAUT_FIELD_CODEC)
        return taut__fail(TAUT_E_INVALID, "field %s: codec spec longer than %d characters", field->name,
                          TAUT_FIELD_CODEC - 1);
    if (!c) return unknown_codec(field, text, name);
    spec->codec = c;
    for (uint32_t k = 0; k < c->n_keys; k++) spec->value[k] = c->keys[k].fallback;
    if (text[name]) {
        const char *p = text + name + 1;
        for (bool first = true;; first = false) {
            size_t n = strcspn(p, ",");
            TAUT_TRY(parse_pair(spec, p, n, first));
            if (!p[n]) break;
            p += n + 1;
        }
    }
    return c->suits ? c->suits(spec) : TAUT_OK;
}

taut_status taut_field_check(const taut_field *field)
{
    taut_field      f = *field;
    taut_field_spec spec;
    TAUT_TRY(taut__field_shape(&f));
    return taut__field_spec_parse(&f, &spec);
}

void taut__field_spec_print(const taut_field_spec *s, char *dst, size_t cap)
{
    size_t n = (size_t)snprintf(dst, cap, "%s", s->codec->name);
    char   sep = ':', number[40];
    for (uint32_t k = 0; k < s->codec->n_keys && n < cap; k++) {
        const taut_key *key = &s->codec->keys[k];
        if (s->value[k] == key->fallback) continue;
        if (key->kind == TAUT_KEY_WORD) {
            const char *w = key->words;
            for (int i = 0; i < (int)s->value[k]; i++) w += strcspn(w, "|") + 1;
            n += (size_t)snprintf(dst + n, cap - n, "%c%s=%.*s", sep, key->name, (int)strcspn(w, "|"), w);
        } else {
            for (int digits = 6; digits <= 17; digits += 11) {
                taut__snprintf(number, sizeof number, "%.*g", digits, s->value[k]);
                if (taut__strtod(number, NULL) == s->value[k]) break;
            }
            n += (size_t)snprintf(dst + n, cap - n, "%c%s=%s", sep, key->name, number);
        }
        sep = ',';
    }
}
