/* field_registry.c : the field codecs, by id. Ids are in the files and never reused. */
#include "field.h"

static const taut_field_codec *const codecs[] = {
    &taut__field_raw,   &taut__field_zstd,   &taut__field_dict,    &taut__field_dense,
    &taut__field_delta, &taut__field_tokens, &taut__field_split,   &taut__field_med,
    &taut__field_quant, &taut__field_grid,   &taut__field_wavelet, &taut__field_log,
};
enum { CODECS = sizeof codecs / sizeof *codecs };

const taut_field_codec *taut__field_codec_at(size_t i) { return i < CODECS ? codecs[i] : NULL; }

const taut_field_codec *taut__field_codec_by_id(uint16_t id)
{
    for (size_t i = 0; i < CODECS; i++)
        if (codecs[i]->id == id) return codecs[i];
    return taut__field_extern.id == id ? &taut__field_extern : NULL;
}

const taut_field_codec *taut__field_codec_by_name(const char *name, size_t length)
{
    for (size_t i = 0; i <= CODECS; i++) {
        const taut_field_codec *c = i < CODECS ? codecs[i] : &taut__field_extern;
        if (strlen(c->name) == length && memcmp(c->name, name, length) == 0) return c;
    }
    return NULL;
}

const char *taut_field_codec_name(size_t i)
{
    const taut_field_codec *c = taut__field_codec_at(i);
    return c ? c->name : NULL;
}

const char *taut_field_codec_help(size_t i)
{
    static _Thread_local char text[512];
    const taut_field_codec   *c = taut__field_codec_at(i);
    if (!c) return NULL;
    int n = taut__snprintf(text, sizeof text, "%s.%s", c->help, c->n_keys ? " Keys:" : "");
    for (uint32_t k = 0; k < c->n_keys && n < (int)sizeof text; k++) {
        const taut_key *key = &c->keys[k];
        n += key->kind == TAUT_KEY_WORD
                 ? taut__snprintf(text + n, sizeof text - (size_t)n, " %s=%s", key->name, key->words)
                 : taut__snprintf(text + n, sizeof text - (size_t)n, " %s=%g..%g (%g)", key->name, key->min, key->max,
                                  key->fallback);
    }
    return text;
}
