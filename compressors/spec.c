/* spec.c : "name:key=value,..." <-> taut_spec. Every error names the bad value and the allowed ones. */
#include "codec.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- texts for messages ---- */

static void append(char *dst, size_t cap, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void append(char *dst, size_t cap, const char *fmt, ...)
{
    size_t  at = strlen(dst);
    va_list ap;
    va_start(ap, fmt);
    taut__vsnprintf(dst + at, cap - at, fmt, ap);
    va_end(ap);
}

static void codec_names(char *dst, size_t cap)
{
    const taut_codec *c;
    dst[0] = 0;
    for (size_t i = 0; (c = taut__codec_at(i)) != NULL; i++) append(dst, cap, "%s, ", c->name);
    append(dst, cap, "auto");
}

static void key_names(const taut_codec *c, char *dst, size_t cap)
{
    dst[0] = 0;
    for (uint32_t k = 0; k < c->n_keys; k++) append(dst, cap, "%s%s", k ? ", " : "", c->keys[k].name);
    if (c->n_keys == 0) append(dst, cap, "none");
}

/* Position of `text` (len bytes) in "a|b|c", -1 if it is not there. */
static int word_index(const char *words, const char *text, size_t len)
{
    for (int i = 0; words; i++) {
        const char *bar = strchr(words, '|');
        size_t      n = bar ? (size_t)(bar - words) : strlen(words);
        if (n == len && memcmp(words, text, n) == 0) return i;
        words = bar ? bar + 1 : NULL;
    }
    return -1;
}

static const char *word_at(const char *words, int i, int *len)
{
    while (i-- > 0 && words) {
        const char *bar = strchr(words, '|');
        words = bar ? bar + 1 : NULL;
    }
    *len = words ? (int)strcspn(words, "|") : 0;
    return words ? words : "";
}

/* ---- values ---- */

static taut_status out_of_range(const taut_codec *c, const taut_key *k, const char *text)
{
    if (k->kind == TAUT_KEY_INT)
        return taut__fail(TAUT_E_RANGE,
                          k->multiple > 0 ? "%s: %s=%s: must be an integer %.0f..%.0f, a multiple of %.0f"
                                          : "%s: %s=%s: must be an integer %.0f..%.0f",
                          c->name, k->name, text, k->min, k->max, k->multiple);
    return taut__fail(TAUT_E_RANGE, "%s: %s=%s: must be a number %s %g and at most %g", c->name, k->name, text,
                      k->above_min ? "above" : "at least", k->min, k->max);
}

static taut_status parse_value(const taut_codec *c, const taut_key *k, const char *at, size_t len, double *value)
{
    char text[64], *end;
    if (len == 0 || len >= sizeof text)
        return taut__fail(TAUT_E_INVALID, "%s: %s needs a value of 1..%zu characters", c->name, k->name,
                          sizeof text - 1);
    memcpy(text, at, len);
    text[len] = 0;
    if (k->kind == TAUT_KEY_WORD) {
        int i = word_index(k->words, at, len);
        *value = i;
        return i >= 0 ? TAUT_OK : taut__fail(TAUT_E_INVALID, "%s: %s=%s: must be %s", c->name, k->name, text, k->words);
    }
    double v = taut__strtod(text, &end);
    if (*end != 0 || end == text || strpbrk(text, "xXnN \t\n\v\f\r")) return out_of_range(c, k, text);
    bool inside = (k->above_min ? v > k->min : v >= k->min) && v <= k->max && isfinite(v);
    if (!inside || (k->kind == TAUT_KEY_INT && v != floor(v)) || (k->multiple > 0 && fmod(v, k->multiple) != 0))
        return out_of_range(c, k, text);
    *value = v;
    return TAUT_OK;
}

/* One "key=value" of at[0..len). */
static taut_status parse_pair(taut_stage *s, const char *at, size_t len)
{
    const taut_codec *c = s->codec;
    const char       *eq = memchr(at, '=', len);
    size_t            name = eq ? (size_t)(eq - at) : len;
    char              names[256];
    for (uint32_t k = 0; k < c->n_keys; k++) {
        const taut_key *key = &c->keys[k];
        if (strlen(key->name) != name || memcmp(key->name, at, name) != 0) continue;
        if (!eq)
            return taut__fail(TAUT_E_INVALID, "%s: key '%s' has no value: write %s=VALUE", c->name, key->name,
                              key->name);
        if (s->given & (1u << k)) return taut__fail(TAUT_E_INVALID, "%s: key '%s' is given twice", c->name, key->name);
        s->given |= 1u << k;
        return parse_value(c, key, eq + 1, len - name - 1, &s->value[k]);
    }
    key_names(c, names, sizeof names);
    return taut__fail(TAUT_E_INVALID, "%s: unknown key '%.*s': keys are %s", c->name, (int)taut__min(name, 64), at,
                      names);
}

/* ---- stages ---- */

static taut_status parse_stage(taut_stage *s, const char *at, size_t len)
{
    const char *colon = memchr(at, ':', len);
    size_t      name = colon ? (size_t)(colon - at) : len;
    char        names[256];
    s->codec = taut__codec_by_name(at, name);
    if (name == 4 && memcmp(at, "auto", 4) == 0)
        return taut__fail(TAUT_E_INVALID, "codec '%.*s': auto has no keys and is no stage of a stack: write auto alone",
                          (int)taut__min(len, 64), at);
    if (!s->codec) {
        codec_names(names, sizeof names);
        return taut__fail(TAUT_E_INVALID, "unknown codec '%.*s': codecs are %s", (int)taut__min(name, 64), at, names);
    }
    for (uint32_t k = 0; k < s->codec->n_keys; k++) s->value[k] = s->codec->keys[k].fallback;
    if (!colon) return TAUT_OK;
    const char *p = colon + 1, *end = at + len;
    for (;;) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        TAUT_TRY(parse_pair(s, p, (size_t)((comma ? comma : end) - p)));
        if (!comma) return TAUT_OK;
        p = comma + 1;
    }
}

static taut_status parse_stack(const char *at, taut_spec *spec)
{
    while (at) {
        const char *plus = strchr(at, '+');
        size_t      len = plus ? (size_t)(plus - at) : strlen(at);
        if (spec->stages == TAUT_SPEC_STAGES)
            return taut__fail(TAUT_E_RANGE, "stack: more than %d stages in '%s'", TAUT_SPEC_STAGES, at);
        if (len == 0)
            return taut__fail(TAUT_E_INVALID, "stack: an empty stage: write stack:A+B, as in stack:topk+quant");
        if (len >= 5 && memcmp(at, "stack", 5) == 0)
            return taut__fail(TAUT_E_INVALID, "stack: a stage cannot be a stack");
        TAUT_TRY(parse_stage(&spec->stage[spec->stages], at, len));
        spec->stages++;
        at = plus ? plus + 1 : NULL;
    }
    if (spec->stages < 2) return taut__fail(TAUT_E_INVALID, "stack: needs at least two stages, as in stack:topk+quant");
    return TAUT_OK;
}

/* Suits whatever suits some tensor. */
static const taut_tensor any_shape = {.elems = (size_t)1 << 40, .rows = (size_t)1 << 20, .cols = (size_t)1 << 20};

taut_status taut__spec_parse(const char *text, taut_spec *spec)
{
    memset(spec, 0, sizeof *spec);
    if (!text || !*text) return taut__fail(TAUT_E_INVALID, "empty codec spec: write NAME or NAME:KEY=VALUE,...");
    if (strlen(text) > 512)
        return taut__fail(TAUT_E_INVALID, "codec spec of %zu characters: must be at most 512", strlen(text));
    if (strcmp(text, "auto") == 0) {
        spec->automatic = true;
        return TAUT_OK;
    }
    taut_status s;
    if (strcmp(text, "stack") == 0 || strncmp(text, "stack:", 6) == 0) {
        s = parse_stack(text[5] ? text + 6 : "", spec);
    } else {
        s = parse_stage(&spec->stage[0], text, strlen(text));
        spec->stages = 1;
    }
    if (s == TAUT_OK) s = taut__spec_suits(spec, &any_shape); /* keys that contradict each other suit no tensor */
    if (s != TAUT_OK) memset(spec, 0, sizeof *spec);
    return s;
}

/* ---- printing ---- */

/* Shortest of %.6g, %.9g and %.17g that reads back as the same double; 1e+10 as 1e10, because + separates stages. */
static void print_number(double v, char *dst, size_t cap)
{
    static const int digits[] = {6, 9, 17};
    for (int i = 0; i < 3; i++) {
        taut__snprintf(dst, cap, "%.*g", digits[i], v);
        if (taut__strtod(dst, NULL) == v) break;
    }
    char *plus = strchr(dst, '+');
    if (plus) memmove(plus, plus + 1, strlen(plus));
}

static void print_stage(const taut_stage *s, char *dst, size_t cap)
{
    char sep = ':', number[40];
    append(dst, cap, "%s", s->codec->name);
    for (uint32_t k = 0; k < s->codec->n_keys; k++) {
        const taut_key *key = &s->codec->keys[k];
        if (s->value[k] == key->fallback) continue;
        if (key->kind == TAUT_KEY_WORD) {
            int         len;
            const char *w = word_at(key->words, (int)s->value[k], &len);
            append(dst, cap, "%c%s=%.*s", sep, key->name, len, w);
        } else {
            print_number(s->value[k], number, sizeof number);
            append(dst, cap, "%c%s=%s", sep, key->name, number);
        }
        sep = ',';
    }
}

void taut__spec_print(const taut_spec *spec, char *dst, size_t cap)
{
    if (cap == 0) return;
    dst[0] = 0;
    if (spec->automatic) append(dst, cap, "auto");
    if (spec->stages > 1) append(dst, cap, "stack:");
    for (uint32_t i = 0; i < spec->stages; i++) {
        if (i) append(dst, cap, "+");
        print_stage(&spec->stage[i], dst, cap);
    }
}
