/* registry.c : the codecs, in order of id. Adding one: its folder, and a line here. Ids are never reused. */
#include "codec.h"
#include <string.h>

extern const taut_codec taut__codec_none, taut__codec_fp16, taut__codec_bf16, taut__codec_quant, taut__codec_grid,
    taut__codec_topk, taut__codec_randk, taut__codec_powersgd, taut__codec_stack;

static const taut_codec *const registry[] = {
    &taut__codec_none,     &taut__codec_fp16,  &taut__codec_bf16,  &taut__codec_quant, /* 1 2 3 4 */
    &taut__codec_grid,     &taut__codec_topk,  &taut__codec_randk,                     /* 5 6 7 */
    &taut__codec_powersgd, &taut__codec_stack,                                         /* 8 9 */
};
enum { CODECS = sizeof registry / sizeof *registry };

const taut_codec *taut__codec_at(size_t i) { return i < CODECS ? registry[i] : NULL; }

const taut_codec *taut__codec_by_name(const char *name, size_t len)
{
    const taut_codec *c;
    for (size_t i = 0; (c = taut__codec_at(i)) != NULL; i++)
        if (strlen(c->name) == len && memcmp(c->name, name, len) == 0) return c;
    return NULL;
}

const taut_codec *taut__codec_by_id(uint16_t id)
{
    const taut_codec *c;
    for (size_t i = 0; (c = taut__codec_at(i)) != NULL; i++)
        if (c->id == id) return c;
    return NULL;
}
