/* exchange_table.c : which algorithms the data half carries, and how. */
#include "exchange.h"
#include <math.h>
#include <string.h>

static const taut__exchange_way *const ways[] = {&taut__exchange_sra, &taut__exchange_gather, &taut__exchange_ring,
                                                 &taut__exchange_native, &taut__exchange_linear};

/* Bits per element of codes that leave a relative squared error, before anything has been coded: those of a Gaussian, and a half, as measured on gradients
 * of a GPT between 0.04 and 0.2 (docs/planning.md: 0.2 with an entropy coder, 0.7 without). 0: that error is not given, so nothing is known. */
static double expected_bits(const taut_stage *stage)
{
    uint32_t key = stage->codec->error_key; /* 1 + its number */
    double   rel = key > 0 && stage->given >> (key - 1) & 1 ? stage->value[key - 1] : 0;
    return rel > 0 ? fmax(0.5 * log2(1 / rel), 0) + 0.5 : 0;
}

/* Is a native sum of codes in fields predicted to take less than what `via` would put on the wire? The same answer on all ranks: from the layer's size,
 * the spec, and lines on which they have agreed. */
static bool fields_pay(const taut__reduction *red, const taut__algorithm *via)
{
    const taut__data_lines *lines = &red->ctx->lines;
    const taut__operand    *o = red->operand;
    bool                    by_setting = red->ctx->set.algorithm != TAUT_ALGORITHM_AUTO;
    if (by_setting || o->sharded || o->wire.stages > 1 || !(taut__spec_caps(&o->wire) & TAUT_CAP_INTEGER) ||
        (o->feedback && o->feedback->u) || !(lines->sum.beta > 0))
        return false;
    double     bits = expected_bits(&o->wire.stage[0]), n = (double)o->tensor.elems, seconds, p = red->g->size;
    taut__work w = {
        .dense_bytes = 4 * n, .bytes = bits / 8 * n, .sum_bytes = bits / 8 * n * (1 + 0.25 * log2(p)), .rounds = 1};
    taut__link link = {.ranks = red->g->size, .slice_bytes = INFINITY}; /* nothing is cut */
    for (int v = 0; v < TAUT_VIAS; v++) link.line[v] = v == TAUT_VIA_FIELDS ? lines->sum : lines->move;
    w.vias = 1u << TAUT_VIA_FIELDS | 1u << (via == &taut__gather ? TAUT_VIA_GATHER : TAUT_VIA_SRA);
    return bits > 0 && taut__algorithm_best(&link, &w, &seconds) == TAUT_VIA_FIELDS;
}

/* Of sharded layers' collectives sra alone is known. */
const taut__algorithm *taut__exchange_for(const taut__reduction *red, const taut__algorithm *via)
{
    const taut__data *d = red->g->data;
    if (!d || taut__at_home(red) || red->g->size == 1) return NULL;
    if (red->operand->sharded && via != &taut__sra) return NULL;
    if (d->ops->sum && fields_pay(red, via)) via = &taut__native;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        bool sums = ways[i]->slots == TAUT_SLOTS_NONE;
        if (strcmp(ways[i]->algorithm.name, via->name) == 0) return sums && !d->ops->sum ? NULL : &ways[i]->algorithm;
    }
    return NULL;
}
