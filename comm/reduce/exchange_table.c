/* exchange_table.c : which algorithms the data half carries, and how. */
#include "exchange.h"
#include <string.h>

static const taut__exchange_way *const ways[] = {&taut__exchange_sra, &taut__exchange_gather, &taut__exchange_ring,
                                                 &taut__exchange_native, &taut__exchange_linear};

/* Of sharded layers' collectives sra alone is known. */
const taut__algorithm *taut__exchange_for(const taut__reduction *red, const taut__algorithm *via)
{
    const taut__data *d = red->g->data;
    if (!d || taut__at_home(red) || red->g->size == 1) return NULL;
    if (red->operand->sharded && via != &taut__sra) return NULL;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        bool sums = ways[i]->slots == TAUT_SLOTS_NONE;
        if (strcmp(ways[i]->algorithm.name, via->name) == 0) return sums && !d->ops->sum ? NULL : &ways[i]->algorithm;
    }
    return NULL;
}
