/* codec.c : what depends on a whole spec rather than on one stage of it. */
#include "codec.h"
#include "stack/stack.h"

extern const taut_codec taut__codec_stack;

const taut_codec *taut__spec_codec(const taut_spec *spec)
{
    return spec->stages > 1 ? &taut__codec_stack : spec->stage[0].codec;
}

static size_t stage_basis(const taut_stage *s)
{
    return s->codec->basis_key ? (size_t)s->value[s->codec->basis_key - 1] : 0;
}

void taut__spec_no_basis(taut_spec *spec)
{
    taut_stage *s = &spec->stage[0];
    if (spec->stages == 1 && s->codec->basis_key) s->value[s->codec->basis_key - 1] = 0;
}

size_t taut__spec_basis(const taut_spec *spec) { return spec->stages == 1 ? stage_basis(&spec->stage[0]) : 0; }

taut_status taut__spec_suits(const taut_spec *spec, const taut_tensor *t)
{
    for (uint32_t i = 0; i < spec->stages; i++) {
        const taut_stage *s = &spec->stage[i];
        if (s->codec->check) TAUT_TRY(s->codec->check(s, t));
        if (spec->stages > 1 && stage_basis(s) > 0)
            return taut__fail(TAUT_E_UNSUPPORTED,
                              "stack: %s with basis=%zu: a stage has no basis of its own: leave basis out",
                              s->codec->name, stage_basis(s));
    }
    return TAUT_OK;
}

/* In a stack every stage sees what the one before left, which is no larger in the norms of the codecs here: largest magnitude
 * in a bucket, or squares. */
const char *taut__spec_expands(const taut_spec *spec)
{
    for (uint32_t i = 0; i < spec->stages; i++) {
        const taut_stage *s = &spec->stage[i];
        const char       *why = s->codec->expands ? s->codec->expands(s) : NULL;
        if (why) return why;
    }
    return NULL;
}

size_t taut__spec_align(const taut_spec *spec)
{
    const taut_stage *s = &spec->stage[0];
    if (spec->stages > 1) return taut__stack_align(spec);
    return s->codec->align ? s->codec->align(s) : 1;
}

size_t taut__spec_capacity(const taut_spec *spec, const taut_tensor *t, size_t n)
{
    const taut_stage *s = &spec->stage[0];
    return spec->stages > 1 ? taut__stack_capacity(spec, t, n) : s->codec->capacity(s, t, n);
}

bool taut__spec_fixed(const taut_spec *spec, const taut_tensor *t, size_t first, size_t n, size_t *bytes)
{
    const taut_stage *s = &spec->stage[0];
    *bytes = 0;
    if (spec->stages > 1) return taut__stack_fixed(spec, t, first, n, bytes);
    if (!(s->codec->caps & TAUT_CAP_FIXED_SIZE)) return false;
    *bytes = s->codec->fixed(s, t, first, n);
    return true;
}
