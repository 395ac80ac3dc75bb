/* ulfm_mpi.c : what an MPI with user-level failure mitigation (ULFM: Bland et al., "Post-failure recovery of MPI communication capability", IJHPCA
 * 2013; the MPIX_ calls of Open MPI 5) knows and does about lost ranks. Its calls are looked up when they are first wanted: the same library
 * works with an MPI of the same binary interface that lacks them, as Open MPI 4. MPICH 4 and 5 have most of them too, but not
 * MPIX_Comm_is_revoked, and none of its processes lives to call them (docs/launch.md): it counts as an MPI without.
 *
 * Nothing here speaks unless MPI itself has noticed a failure, which Open MPI does only under mpirun --with-ft ulfm. */
#include "transport_mpi.h"
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

typedef int one_arg(MPI_Comm);
typedef int group_arg(MPI_Comm, MPI_Group *);
typedef int flag_arg(MPI_Comm, int *);
typedef int comm_arg(MPI_Comm, MPI_Comm *);
typedef int from_group(MPI_Group, const char *, MPI_Info, MPI_Errhandler, MPI_Comm *);

static struct {
    one_arg    *revoke, *ack;
    group_arg  *acked;
    flag_arg   *agree, *is_revoked;
    comm_arg   *shrink;
    from_group *create; /* of MPI 4 */
    bool        all;
} ulfm;

static bool find(const char *name, void *function)
{
    void *f = dlsym(RTLD_DEFAULT, name);
    memcpy(function, &f, sizeof f);
    return f != NULL;
}

static void find_all(void)
{
    ulfm.all = find("MPIX_Comm_revoke", &ulfm.revoke) && find("MPIX_Comm_failure_ack", &ulfm.ack) &&
               find("MPIX_Comm_failure_get_acked", &ulfm.acked) && find("MPIX_Comm_agree", &ulfm.agree) &&
               find("MPIX_Comm_is_revoked", &ulfm.is_revoked) && find("MPIX_Comm_shrink", &ulfm.shrink) &&
               find("MPI_Comm_create_from_group", &ulfm.create);
}

static bool there(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_all);
    return ulfm.all;
}

int taut__mpi_lost(MPI_Comm comm, bool *gone)
{
    MPI_Group all = MPI_GROUP_NULL, lost = MPI_GROUP_NULL;
    int       n = 0;
    if (!there() || ulfm.ack(comm) != MPI_SUCCESS || ulfm.acked(comm, &lost) != MPI_SUCCESS) return 0;
    if (MPI_Comm_group(comm, &all) != MPI_SUCCESS || MPI_Group_size(lost, &n) != MPI_SUCCESS) n = 0;
    for (int i = 0; i < n; i++) {
        int r = MPI_UNDEFINED;
        if (MPI_Group_translate_ranks(lost, 1, &i, all, &r) == MPI_SUCCESS && r != MPI_UNDEFINED) gone[r] = true;
    }
    if (all != MPI_GROUP_NULL) MPI_Group_free(&all);
    if (lost != MPI_GROUP_NULL && lost != MPI_GROUP_EMPTY) MPI_Group_free(&lost);
    return n;
}

void taut__mpi_revoke(MPI_Comm comm)
{
    if (there() && comm != MPI_COMM_NULL) (void)ulfm.revoke(comm);
}

taut_status taut__mpi_failed(int rc, const char *what)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int  n = 0;
    MPI_Error_string(rc, text, &n);
    return taut__fail(TAUT_E_TRANSPORT, "MPI: %s: %s", what, text);
}

taut_status taut__mpi_call_failed(taut__mpi *m, MPI_Comm comm, int rc, const char *what)
{
    int n = taut__mpi_lost(comm, m->gone), first = 0, revoked = 0;
    while (n > 0 && first < m->base.size && !m->gone[first]) first++;
    if (n > 0 && first < m->base.size)
        return n == 1
                   ? taut__fail(TAUT_E_PEER, "rank %d is gone: MPI says that its process has ended", first)
                   : taut__fail(TAUT_E_PEER, "rank %d and %d more are gone: MPI says that their processes have ended",
                                first, n - 1);
    if (there() && ulfm.is_revoked(comm, &revoked) == MPI_SUCCESS && revoked)
        return taut__fail(TAUT_E_PEER, "another rank has given up MPI's communicator, which has lost a rank");
    return taut__mpi_failed(rc, what);
}

bool taut__mpi_agree_on(MPI_Comm comm, bool mine)
{
    int flag = mine;
    return ulfm.agree(comm, &flag) == MPI_SUCCESS && flag;
}

taut_status taut__mpi_ulfm_shrink(MPI_Comm from, MPI_Comm *left, int *old)
{
    MPI_Group before = MPI_GROUP_NULL, after = MPI_GROUP_NULL;
    int       n = 0, rc = there() ? ulfm.shrink(from, left) : MPI_ERR_OTHER;
    if (rc == MPI_SUCCESS) MPI_Comm_set_errhandler(*left, MPI_ERRORS_RETURN);
    if (rc == MPI_SUCCESS) rc = MPI_Comm_group(from, &before);
    if (rc == MPI_SUCCESS) rc = MPI_Comm_group(*left, &after);
    if (rc == MPI_SUCCESS) rc = MPI_Group_size(after, &n);
    for (int i = 0; rc == MPI_SUCCESS && i < n; i++) rc = MPI_Group_translate_ranks(after, 1, &i, before, &old[i]);
    if (before != MPI_GROUP_NULL) MPI_Group_free(&before);
    if (after != MPI_GROUP_NULL) MPI_Group_free(&after);
    return rc == MPI_SUCCESS ? TAUT_OK : taut__fail(TAUT_E_TRANSPORT, "taut_comm_shrink: MPIX_Comm_shrink failed");
}

int taut__mpi_from_group(MPI_Group group, const char *tag, MPI_Comm *comm)
{
    return there() ? ulfm.create(group, tag, MPI_INFO_NULL, MPI_ERRORS_RETURN, comm) : MPI_ERR_OTHER;
}
