/* agree.c : what all ranks must be able to do, or none does it: who cannot, and why, is told to all. */
#include "communicator.h"
#include <stdio.h>

/* As numbers. */
taut_status taut__comm_share(taut_comm *comm, bool mine, char *bytes, size_t n)
{
    double v[TAUT_SHARED_MOST] = {0};
    for (size_t i = 0; i < n && mine; i++) v[i] = (unsigned char)bytes[i];
    TAUT_TRY(taut__context_sum(&comm->ctx, v, n));
    for (size_t i = 0; i < n; i++) bytes[i] = (char)(unsigned char)v[i];
    return TAUT_OK;
}

/* each: a status per rank, and this rank's reason. */
static taut_status tell(taut_comm *comm, const double *each, taut_status mine, const char *why)
{
    char text[TAUT_SHARED_MOST] = "";
    int  first = 0;
    while (first < comm->ctx.t->size && each[first] == 0) first++;
    if (first == comm->ctx.t->size) return TAUT_OK;
    bool speaks = first == comm->ctx.t->rank;
    if (speaks) snprintf(text, sizeof text, "%.*s", TAUT_SHARED_MOST - 1, why);
    taut_status told = taut__comm_share(comm, speaks, text, sizeof text);
    text[TAUT_SHARED_MOST - 1] = 0;
    if (mine != TAUT_OK) return taut__fail(mine, "%s", why);
    return told != TAUT_OK ? told : taut__fail((taut_status)each[first], "rank %d: %s", first, text);
}

taut_status taut__comm_agree(taut_comm *comm, taut_status mine)
{
    taut__kept why = taut__keep_error(); /* of mine */
    size_t     ranks = (size_t)comm->ctx.t->size;
    double    *each = taut__alloc(ranks, sizeof *each);
    if (!each) return taut__fail(TAUT_E_NOMEM, "out of memory"); /* the others wait as long as for any lost rank */
    each[comm->ctx.t->rank] = mine;
    taut_status told = taut__context_sum(&comm->ctx, each, ranks);
    if (told == TAUT_OK) told = tell(comm, each, mine, why.text);
    else if (mine != TAUT_OK) told = taut__fail(mine, "%s", why.text);
    taut__free(each);
    return told;
}
