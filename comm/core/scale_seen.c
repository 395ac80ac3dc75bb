/* scale_seen.c : what a step's samples saw of a scale that is read in place: is it one, and is it the same on all ranks (handshake.c)? */
#include "communicator.h"
#include <xxhash.h>

static void look_at(taut_layer *l, size_t first, size_t elems)
{
    size_t n = taut__min(elems, l->operand.tensor.elems - first);
    for (size_t i = first; i < first + n && !l->scale_lent.spoilt; i++)
        if (!taut__scale_usable(l->scale[i])) l->scale_lent.spoilt = true, l->scale_lent.where = i;
    l->scale_hash = XXH3_64bits_withSeed(l->scale + first, n * sizeof *l->scale, l->scale_hash);
}

void taut__scale_look(taut_layer *l)
{
    const taut__sample *s = &l->sample;
    if (!l->scale_lent.at || !l->operand.tensor.scale_n) return;
    l->scale_hash = 0;
    for (size_t k = 0; k < s->blocks; k++) look_at(l, s->at[k], TAUT_SAMPLE_BLOCK);
}
