/* algorithms.c : the table of algorithms, and which one carries an operand. */
#include "reduction.h"
#include <string.h>

static const taut__algorithm *const table[] = {&taut__native, &taut__linear, &taut__sra, &taut__ring, &taut__gather};
enum { ALGORITHMS = sizeof table / sizeof *table };

const taut__algorithm *taut__algorithm_by_name(const char *name)
{
    for (size_t i = 0; i < ALGORITHMS; i++)
        if (strcmp(table[i]->name, name) == 0) return table[i];
    return NULL;
}

/* Of the setting; NULL: auto. */
static const taut__algorithm *chosen(const taut__settings *set)
{
    switch (set->algorithm) {
    case TAUT_ALGORITHM_NATIVE: return &taut__native;
    case TAUT_ALGORITHM_SRA: return &taut__sra;
    case TAUT_ALGORITHM_RING: return &taut__ring;
    case TAUT_ALGORITHM_GATHER: return &taut__gather;
    default: return NULL;
    }
}

/* What algorithm=auto takes for an allreduce among so many members of the group that reduces (all ranks, or the leaders of
 * hosts). Of specs that can be sliced: two members gather, because each then sends b bytes in one hop where sra sends (b + s) / 2
 * in two, s >= b being those of an encoded sum, and encodes the sum again. */
static const taut__algorithm *automatic(const taut_spec *spec, int members)
{
    const taut_codec *codec = taut__spec_codec(spec);
    uint32_t          caps = taut__spec_caps(spec);
    if (caps & TAUT_CAP_LOSSLESS) return &taut__native;
    if (codec->linear) return &taut__linear;
    return caps & TAUT_CAP_SLICEABLE && members != 2 ? &taut__sra : &taut__gather;
}

const taut__group *taut__group_of(const taut__context *ctx, const taut__operand *o)
{
    return ctx->hierarchical && o->dtype == TAUT_F32 && !o->sharded ? &ctx->leaders : &ctx->all;
}

/* What codes whole tensors, or spreads codes that were never agreed on, is not for layers with sharded collectives. */
static bool needs_whole(const taut__algorithm *a, const taut_spec *spec)
{
    return a == &taut__gather || (a == &taut__native && taut__spec_caps(spec) & TAUT_CAP_INTEGER);
}

/* Why the setting's algorithm cannot carry it; NULL: it can, or, of a linear codec, *a is what does instead. */
static const char *refuses(const taut__algorithm **a, const taut_spec *spec)
{
    if (*a == &taut__native && taut__spec_codec(spec)->linear) *a = &taut__linear;
    return (*a)->cannot ? (*a)->cannot(spec) : NULL;
}

bool taut__algorithm_carries(const taut__settings *set, const taut_spec *spec)
{
    const taut__algorithm *a = chosen(set);
    return !a || !refuses(&a, spec);
}

/* algorithm=native means a native sum wherever codes can be added; otherwise the name is meant as it stands, except for
 * layers with sharded collectives: their ranks want, or have, one part, which sra brings or spreads. */
taut_status taut__algorithm_for(const taut__context *ctx, const taut__operand *o, const taut_spec *spec,
                                const taut__algorithm **via)
{
    const taut__algorithm *a = chosen(&ctx->set);
    bool                   sharded = o->sharded && taut__spec_caps(spec) & TAUT_CAP_SLICEABLE;
    *via = automatic(spec, taut__group_of(ctx, o)->size);
    if (sharded && needs_whole(a ? a : *via, spec)) *via = a = &taut__sra;
    if (!a) return TAUT_OK;
    const char *why = refuses(&a, spec);
    if (why) {
        char text[96];
        taut__spec_print(spec, text, sizeof text);
        return taut__fail(TAUT_E_UNSUPPORTED, "algorithm=%s cannot carry %s: %s; use auto", ctx->set.c.algorithm, text,
                          why);
    }
    *via = a;
    return TAUT_OK;
}
