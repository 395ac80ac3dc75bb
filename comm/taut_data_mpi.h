/* taut_data_mpi.h : taut_loader_open() and taut_data_plan_create() over the ranks of an MPI communicator. Needs mpi.h; everything is in this header, because
 * the library's dataset half knows no MPI. */
#ifndef TAUT_DATA_MPI_H
#define TAUT_DATA_MPI_H

#include "taut_data.h"
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct taut_data_mpi { /* two communicators, during open only */
    MPI_Comm all, node;
} taut_data_mpi;

static inline taut_status taut_data_mpi_send(MPI_Comm comm, void *bytes, size_t n)
{
    const size_t most = (size_t)1 << 30; /* MPI counts are int */
    char        *at = (char *)bytes;
    while (n > 0) {
        size_t part = n < most ? n : most;
        if (MPI_Bcast(at, (int)part, MPI_BYTE, 0, comm) != MPI_SUCCESS) return TAUT_E_TRANSPORT;
        at += part;
        n -= part;
    }
    return TAUT_OK;
}
static inline taut_status taut_data_mpi_broadcast(void *ctx, void *bytes, size_t n)
{
    return taut_data_mpi_send(((taut_data_mpi *)ctx)->all, bytes, n);
}
static inline taut_status taut_data_mpi_node_broadcast(void *ctx, void *bytes, size_t n)
{
    return taut_data_mpi_send(((taut_data_mpi *)ctx)->node, bytes, n);
}
static inline taut_status taut_data_mpi_agree(void *ctx, taut_status mine, char *text, size_t cap)
{
    taut_data_mpi *m = (taut_data_mpi *)ctx;
    struct {
        int status, rank;
    } in, out;
    in.status = (int)mine;
    if (MPI_Comm_rank(m->all, &in.rank) != MPI_SUCCESS ||
        MPI_Allreduce(&in, &out, 1, MPI_2INT, MPI_MINLOC, m->all) != MPI_SUCCESS)
        return TAUT_E_TRANSPORT;
    if (out.status != (int)TAUT_OK && MPI_Bcast(text, (int)cap, MPI_CHAR, out.rank, m->all) != MPI_SUCCESS)
        return TAUT_E_TRANSPORT;
    return (taut_status)out.status;
}

/* taut_loader_open_mpi() : collective over comm; the ranks that MPI_Comm_split_type() finds on one host share decoded blocks.
 *  comm is duplicated for the time of the call; the loader does not use MPI afterwards. */
static inline taut_status taut_loader_open_mpi(MPI_Comm comm, const taut_loader_config *config, taut_loader **loader)
{
    taut_data_mpi     m = {MPI_COMM_NULL, MPI_COMM_NULL};
    taut_loader_group g;
    int               rank = 0, ranks = 1, here = 1, mine;
    int              *node = NULL;
    taut_status       s = TAUT_E_TRANSPORT;
    *loader = NULL;
    if (MPI_Comm_dup(comm, &m.all) == MPI_SUCCESS && MPI_Comm_rank(m.all, &rank) == MPI_SUCCESS &&
        MPI_Comm_size(m.all, &ranks) == MPI_SUCCESS &&
        MPI_Comm_split_type(m.all, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &m.node) == MPI_SUCCESS &&
        MPI_Comm_size(m.node, &here) == MPI_SUCCESS && (node = (int *)malloc((size_t)here * sizeof *node)) != NULL) {
        mine = rank;
        if (MPI_Allgather(&mine, 1, MPI_INT, node, 1, MPI_INT, m.node) == MPI_SUCCESS) {
            memset(&g, 0, sizeof g);
            g.size = sizeof g;
            g.ctx = &m;
            g.rank = (uint32_t)rank;
            g.ranks = (uint32_t)ranks;
            g.node_ranks = (uint32_t)here;
            g.node = (const uint32_t *)node; /* the same bytes: ranks are not negative */
            g.broadcast = taut_data_mpi_broadcast;
            g.node_broadcast = taut_data_mpi_node_broadcast;
            g.agree = taut_data_mpi_agree;
            s = taut_loader_open(config, &g, loader);
        }
    }
    free(node);
    if (m.node != MPI_COMM_NULL) MPI_Comm_free(&m.node);
    if (m.all != MPI_COMM_NULL) MPI_Comm_free(&m.all);
    return s;
}

/* ---- ranks that make a plan together ---- */

static inline taut_status taut_data_mpi_sum(void *ctx, uint64_t *x, size_t n)
{
    const size_t most = (size_t)1 << 27; /* MPI counts are int */
    for (size_t at = 0; at < n; at += most)
        if (MPI_Allreduce(MPI_IN_PLACE, x + at, (int)(n - at < most ? n - at : most), MPI_UINT64_T, MPI_SUM,
                          ((taut_data_mpi *)ctx)->all) != MPI_SUCCESS)
            return TAUT_E_TRANSPORT;
    return TAUT_OK;
}
static inline taut_status taut_data_mpi_gather(void *ctx, const void *mine, void *all, const size_t *bytes)
{
    const size_t most = (size_t)1 << 30;
    MPI_Comm     comm = ((taut_data_mpi *)ctx)->all;
    int          rank, ranks;
    size_t       at = 0;
    if (MPI_Comm_rank(comm, &rank) != MPI_SUCCESS || MPI_Comm_size(comm, &ranks) != MPI_SUCCESS)
        return TAUT_E_TRANSPORT;
    for (int r = 0; r < ranks; at += bytes[r++]) {
        if (r == rank && bytes[r]) memcpy((char *)all + at, mine, bytes[r]);
        for (size_t k = 0; k < bytes[r]; k += most)
            if (MPI_Bcast((char *)all + at + k, (int)(bytes[r] - k < most ? bytes[r] - k : most), MPI_BYTE, r, comm) !=
                MPI_SUCCESS)
                return TAUT_E_TRANSPORT;
    }
    return TAUT_OK;
}

/* taut_data_group_mpi() : *group over a duplicate of comm, which *m keeps until taut_data_group_mpi_free(). Collective. */
static inline taut_status taut_data_group_mpi(MPI_Comm comm, taut_data_mpi *m, taut_data_group *group)
{
    int rank, ranks;
    m->all = m->node = MPI_COMM_NULL;
    if (MPI_Comm_dup(comm, &m->all) != MPI_SUCCESS || MPI_Comm_rank(m->all, &rank) != MPI_SUCCESS ||
        MPI_Comm_size(m->all, &ranks) != MPI_SUCCESS)
        return TAUT_E_TRANSPORT;
    memset(group, 0, sizeof *group);
    group->size = sizeof *group;
    group->ctx = m;
    group->rank = (uint32_t)rank;
    group->ranks = (uint32_t)ranks;
    group->sum = taut_data_mpi_sum;
    group->gather = taut_data_mpi_gather;
    group->agree = taut_data_mpi_agree;
    return TAUT_OK;
}
static inline void taut_data_group_mpi_free(taut_data_mpi *m)
{
    if (m->all != MPI_COMM_NULL) MPI_Comm_free(&m->all);
}

#ifdef __cplusplus
}
#endif
#endif
