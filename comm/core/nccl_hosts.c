/* nccl_hosts.c : communicators of NCCL for a hierarchy: one for the ranks of each host, one for their leaders. */
#include "nccl.h"

enum { ID_BYTES = 128 };

bool taut__nccl_wants_hosts(const taut_comm *comm)
{
    return comm->ctx.hierarchical && comm->ctx.set.hierarchy == TAUT_HIERARCHY_ON;
}

/* Leaders make the ids: of their host, and the first one that of the leaders too. v: an id's bytes as numbers each, host by host, then the leaders'. */
static taut_status make_ids(const taut_comm *comm, const taut__nccl *n, double *v)
{
    const taut__group *leaders = &comm->ctx.leaders;
    int                ids = leaders->rank < 0 ? 0 : leaders->rank == 0 ? 2 : 1;
    for (int i = 0; i < ids; i++) {
        taut__nccl_id id;
        int           r = n->unique_id(&id), at = i == 0 ? leaders->rank : leaders->size;
        if (r != TAUT__NCCL_OK) return taut__nccl_failed(n, NULL, r, "ncclGetUniqueId");
        for (int b = 0; b < ID_BYTES; b++) v[at * ID_BYTES + b] = (unsigned char)id.bytes[b];
    }
    return TAUT_OK;
}

static int host_number(const taut_comm *comm)
{
    int h = 0;
    while (comm->ctx.leaders.member[h] != comm->ctx.local.member[0]) h++;
    return h;
}

static taut_status join(const taut_comm *comm, const taut__nccl *n, const double *v, int which, const taut__group *g,
                        taut__data **d)
{
    taut__nccl_id id;
    *d = NULL;
    if (g->rank < 0 || g->size == 1) return TAUT_OK;
    for (int b = 0; b < ID_BYTES; b++) id.bytes[b] = (char)(unsigned char)v[which * ID_BYTES + b];
    return taut__nccl_join(comm, n, id, g, d);
}

static taut_status join_both(taut_comm *comm, const taut__nccl *n, const double *v, taut__data *whole)
{
    taut__group *local = &comm->ctx.local, *leaders = &comm->ctx.leaders;
    TAUT_TRY(join(comm, n, v, host_number(comm), local, &local->data));
    TAUT_TRY(join(comm, n, v, leaders->size, leaders, &leaders->data));
    taut__data **end = &whole->beside;
    if (local->data) *end = local->data, end = &local->data->beside;
    *end = leaders->data;
    return TAUT_OK;
}

static void drop(taut__group *g)
{
    if (g->data) g->data->ops->abort(g->data), g->data->ops->destroy(g->data);
    g->data = NULL;
}

/* v: as make_ids has it. */
static taut_status share_and_join(taut_comm *comm, const taut__nccl *n, taut__data *whole, taut_status mine, double *v,
                                  size_t count)
{
    if (mine == TAUT_OK) mine = make_ids(comm, n, v);
    TAUT_TRY(taut__comm_agree(comm, mine));
    if (!v) return mine; /* NOMEM, and agreed on */
    TAUT_TRY(taut__context_sum(&comm->ctx, v, count));
    return join_both(comm, n, v, whole);
}

taut_status taut__nccl_open_hosts(taut_comm *comm, const taut__nccl *n, taut__data *whole, taut_status mine)
{
    size_t  count = ((size_t)comm->ctx.leaders.size + 1) * ID_BYTES;
    double *v = taut__alloc(count, sizeof *v);
    if (!v && mine == TAUT_OK) mine = taut__fail(TAUT_E_NOMEM, "NCCL: out of memory");
    taut_status s = share_and_join(comm, n, whole, mine, v, count);
    taut__free(v);
    if (s == TAUT_OK) return TAUT_OK;
    taut__kept why = taut__keep_error();
    drop(&comm->ctx.local), drop(&comm->ctx.leaders);
    return taut__fail(s, "%s", why.text);
}
