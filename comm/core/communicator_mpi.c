/* communicator_mpi.c : taut_comm_create_mpi(). Ranks may disagree about success (their environments differ), or about settings on which
 * what follows depends: they agree first, with calls that depend on nothing. They wait for each other once, where time can run out; from there
 * on each is inside these calls, and a rank that is stopped or dies in them is a watchdog's. */
#include "../transport/transport_mpi.h"
#include "../transport/wrapped.h"
#include "nccl.h"
#include <dlfcn.h>
#include <xxhash.h>

enum { LINE = TAUT_HANDSHAKE_LINE, TIMEOUT_MS = 60000 /* of a rank whose settings are wrong */ };

static taut_status failed(void)
{
    return taut__fail(TAUT_E_TRANSPORT, "taut_comm_create_mpi: MPI failed while ranks compared their settings");
}

static taut_status check_mpi(MPI_Comm mpi)
{
    int up = 0, down = 0, inter = 0;
    MPI_Initialized(&up);
    MPI_Finalized(&down);
    if (!up || down)
        return taut__fail(TAUT_E_STATE, "taut_comm_create_mpi: MPI_Init has not been called, or MPI_Finalize has");
    if (mpi == MPI_COMM_NULL)
        return taut__fail(
            TAUT_E_INVALID,
            "taut_comm_create_mpi: MPI_COMM_NULL: this rank is no member of the communicator; only members may call");
    if (MPI_Comm_test_inter(mpi, &inter) != MPI_SUCCESS) return failed();
    return inter ? taut__fail(TAUT_E_INVALID, "taut_comm_create_mpi: an intercommunicator: must be an "
                                              "intracommunicator, as MPI_Intercomm_merge makes one")
                 : TAUT_OK;
}

static taut_status lowest(MPI_Comm mpi, int mine, int *worst)
{
    return MPI_Allreduce(&mine, worst, 1, MPI_INT, MPI_MIN, mpi) == MPI_SUCCESS ? TAUT_OK : failed();
}

/* This rank's line against rank 0's; *other: the lowest rank with another one. */
static taut_status compare(MPI_Comm mpi, int rank, int size, char *zero, const char *mine, int *other)
{
    if (rank == 0) memcpy(zero, mine, LINE);
    if (MPI_Bcast(zero, LINE, MPI_CHAR, 0, mpi) != MPI_SUCCESS) return failed();
    zero[LINE - 1] = 0;
    return lowest(mpi, strcmp(zero, mine) == 0 ? size : rank, other);
}

/* Line -1: versions; then settings. */
static const char *line(const taut__settings *set, int i, char dst[LINE])
{
    memset(dst, 0, LINE);
    if (i >= 0) return taut__settings_line(set, (size_t)i, dst, LINE);
    taut__handshake_versions(dst);
    return dst;
}

static taut_status find_difference(MPI_Comm mpi, const taut__settings *set)
{
    int  rank, size, other = 0, lines = 0; /* another version of the library may have fewer */
    char zero[LINE] = "", mine[LINE] = "";
    TAUT_TRY(lowest(mpi, (int)taut__settings_lines(), &lines));
    if (MPI_Comm_rank(mpi, &rank) != MPI_SUCCESS || MPI_Comm_size(mpi, &size) != MPI_SUCCESS) return failed();
    for (int i = -1; i < lines; i++) {
        line(set, i, mine);
        TAUT_TRY(compare(mpi, rank, size, zero, mine, &other));
        if (other == size) continue;
        if (MPI_Bcast(mine, LINE, MPI_CHAR, other, mpi) != MPI_SUCCESS) return failed();
        mine[LINE - 1] = 0;
        return taut__fail(TAUT_E_MISMATCH, "taut_comm_create_mpi: rank 0 has %s, rank %d has %s", zero, other, mine);
    }
    return taut__fail(TAUT_E_MISMATCH, "taut_comm_create_mpi: ranks run versions of Taut with different settings");
}

static taut_status compare_settings(MPI_Comm mpi, const taut__settings *set)
{
    char     text[LINE];
    uint64_t h = 0, ends[2], top[2];
    for (int i = -1; i < (int)taut__settings_lines(); i++) {
        line(set, i, text);
        h = XXH3_64bits_withSeed(text, strlen(text), h);
    }
    ends[0] = h, ends[1] = ~h;
    if (MPI_Allreduce(ends, top, 2, MPI_UINT64_T, MPI_MAX, mpi) != MPI_SUCCESS) return failed();
    return top[0] == ~top[1] ? TAUT_OK : find_difference(mpi, set);
}

/* A communicator of some of the job's ranks may be one of several that reduce the same data. */
static void advise_replicas(MPI_Comm mpi, const taut__settings *set)
{
    int here, all, rank;
    if (!set->spec.automatic || strcmp(set->c.link, "measure") != 0 || !taut__log_on(TAUT_LOG_INFO, "sched")) return;
    if (MPI_Comm_size(mpi, &here) != MPI_SUCCESS || MPI_Comm_size(MPI_COMM_WORLD, &all) != MPI_SUCCESS || here == all)
        return;
    if (MPI_Comm_rank(mpi, &rank) != MPI_SUCCESS || rank != 0) return;
    taut__log(TAUT_LOG_INFO, "sched",
              "codec=auto over %d of %d ranks plans by its own clocks: if other communicators reduce the same data and "
              "must end with the "
              "same bits, set TAUT_LINK, as in link=1gbit",
              here, all);
}

static taut_status create(MPI_Comm mpi, const taut_config *cfg, taut_status mine, const taut__settings *set,
                          taut_comm **comm)
{
    taut__transport *t = NULL;
    TAUT_TRY(taut__mpi_agree(mpi, mine));
    TAUT_TRY(compare_settings(mpi, set));
    TAUT_TRY(taut__mpi_create(&mpi, set->fake_hosts, &t));
    mine = taut__comm_create(t, cfg, comm);
    taut_status s = taut__mpi_agree(mpi, mine);
    if (s == TAUT_OK) advise_replicas(mpi, set);
    else if (mine == TAUT_OK) taut__comm_discard(*comm);
    if (s != TAUT_OK) *comm = NULL;
    return s;
}

taut_status taut_comm_create_mpi(MPI_Comm mpi, const taut_config *cfg, taut_comm **comm)
{
    taut__settings  set;
    taut__watchdog  watchdog;
    taut__transport all = {.ops = &(taut__transport_ops){.name = "mpi", .end_job = taut__mpi_end_job}};
    taut_comm      *none;
    if (comm) *comm = NULL;
    TAUT_TRY(check_mpi(mpi));
    taut_status mine = taut__settings_load(cfg, &set);
    int32_t     ms = mine == TAUT_OK ? set.c.timeout_ms : TIMEOUT_MS;
    if (mine == TAUT_OK && !comm) mine = taut__fail(TAUT_E_INVALID, "taut_comm_create_mpi: comm is NULL");
    TAUT_TRY(taut__mpi_gather_ranks(mpi, ms, "taut_comm_create_mpi"));
    if (MPI_Comm_rank(mpi, &all.rank) != MPI_SUCCESS) return failed();
    taut__watchdog_init(&watchdog, &all, ms);
    if (mine == TAUT_OK) mine = taut__watchdog_enter(&watchdog, "taut_comm_create_mpi", 0);
    taut_status s = create(mpi, cfg, mine, &set, comm ? comm : &none);
    taut__watchdog_destroy(&watchdog);
    return s;
}

/* Open MPI's word for it; others have none, or another. */
static taut_status cuda_aware(void)
{
    int (*query)(void) = NULL;
    void *f = dlsym(RTLD_DEFAULT, "MPIX_Query_cuda_support");
    memcpy(&query, &f, sizeof query);
    if (!query)
        return taut__fail(TAUT_E_UNSUPPORTED, "taut_comm_open_cuda_mpi: this MPI has no MPIX_Query_cuda_support");
    return query() ? TAUT_OK
                   : taut__fail(TAUT_E_UNSUPPORTED,
                                "taut_comm_open_cuda_mpi: this MPI says that it was built without CUDA");
}

taut_status taut_comm_open_cuda_mpi(taut_comm *comm)
{
    if (!comm) return taut__fail(TAUT_E_INVALID, "taut_comm_open_cuda_mpi: comm is NULL");
    taut_status s = cuda_aware();
    if (s == TAUT_OK) return taut__comm_open_messages(comm, true);
    return taut__comm_take_data(comm, NULL, s);
}

/* Wrappers (delivery=assured) have the name of their own. */
static const taut__mpi *innermost(const taut__transport *t)
{
    while (strcmp(t->ops->name, "assured") == 0 || strcmp(t->ops->name, "faulty") == 0) t = taut__inner(t);
    return strcmp(t->ops->name, "mpi") == 0 ? (const taut__mpi *)t : NULL;
}

taut_status taut_comm_mpi(const taut_comm *comm, MPI_Comm *mpi)
{
    if (!comm || !mpi) return taut__fail(TAUT_E_INVALID, "taut_comm_mpi: comm or mpi is NULL");
    const taut__mpi *m = innermost(comm->ctx.t);
    *mpi = m ? m->given : MPI_COMM_NULL;
    if (*mpi != MPI_COMM_NULL) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "taut_comm_mpi: not a communicator that taut_comm_shrink() made of one over MPI");
}
