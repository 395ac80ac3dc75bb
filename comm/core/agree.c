/* agree.c : what all ranks must be able to do, or none does it: who cannot, and why, is told to all. */
#include "communicator.h"
#include <stdio.h>

enum { SAID = 256 }; /* bytes of a reason that travel */

/* Letters as numbers, from the rank that has them to all. */
static taut_status share_text(taut_comm *comm, bool mine, char text[SAID])
{
    double v[SAID] = {0};
    for (int i = 0; i < SAID && mine; i++) v[i] = (unsigned char)text[i];
    TAUT_TRY(taut__context_sum(&comm->ctx, v, SAID));
    for (int i = 0; i < SAID; i++) text[i] = (char)(unsigned char)v[i];
    text[SAID - 1] = 0;
    return TAUT_OK;
}

/* each: a status per rank, and this rank's reason. */
static taut_status tell(taut_comm *comm, const double *each, taut_status mine, const char *why)
{
    char text[SAID] = "";
    int  first = 0;
    while (first < comm->ctx.t->size && each[first] == 0) first++;
    if (first == comm->ctx.t->size) return TAUT_OK;
    bool speaks = first == comm->ctx.t->rank;
    if (speaks) snprintf(text, sizeof text, "%.*s", SAID - 1, why);
    taut_status told = share_text(comm, speaks, text);
    if (mine != TAUT_OK) return taut__fail(mine, "%s", why);
    return told != TAUT_OK ? told : taut__fail((taut_status)each[first], "rank %d: %s", first, text);
}

taut_status taut__comm_agree(taut_comm *comm, taut_status mine)
{
    char    why[400] = "";
    size_t  ranks = (size_t)comm->ctx.t->size;
    double *each = taut__alloc(ranks, sizeof *each);
    if (mine != TAUT_OK) snprintf(why, sizeof why, "%s", taut_last_error());
    if (!each) return taut__fail(TAUT_E_NOMEM, "out of memory"); /* the others wait as long as for any lost rank */
    each[comm->ctx.t->rank] = mine;
    taut_status told = taut__context_sum(&comm->ctx, each, ranks);
    if (told == TAUT_OK) told = tell(comm, each, mine, why);
    else if (mine != TAUT_OK) told = taut__fail(mine, "%s", why);
    taut__free(each);
    return told;
}
