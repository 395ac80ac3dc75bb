/* shrink_mpi.c : those of an MPI job who are left after a failure find each other, and get a communicator of MPI.
 *
 * MPI before 5 has no call for it, but point-to-point messages between those who live still arrive, and MPI_Comm_create_group() asks
 * nobody else. So, on the failed communicator, with tags of their own:
 *
 *   1. Everybody tells everybody "I am here", and listens until wait_ms after his own call, or until all have come.
 *   2. The lowest of those that a rank has heard, itself included, decides who belongs: those that it has heard. It tells all ranks. Who
 *      is not the lowest waits for a decision, as long again, and takes the first that comes, whoever made it; a decision that comes
 *      earlier ends the listening. Who is not in it has come too late.
 *   3. Those in it call MPI_Comm_create_group().
 *
 * A rank that dies in between leaves the others in 3, where a watchdog ends them after the timeout: a second failure during the seconds that
 * this takes is not survived.
 * Launchers end the job when a rank dies unless they are told not to: docs/launch.md. */
#include "transport_mpi.h"
#include <string.h>
#include <time.h>

enum { TAGS_BELOW_MOST = 8, HERE = 1 }; /* of the transport's tags the last ones are those of delivery=assured */

typedef struct word {
    uint64_t job;
    int32_t  what; /* HERE; or how many belong, and their ranks follow */
    int32_t  pad;
} word;

typedef struct meeting {
    taut__mpi   *m;
    int          tag[2]; /* of words, of decisions */
    word         here, *heard;
    int32_t     *decision, *decided; /* size + 1 numbers: how many, and who; of this rank, and of each other one */
    MPI_Request *in, *in2, *out;
    bool        *came;
    int          others; /* that came */
} meeting;

static taut_status failed(const char *what)
{
    return taut__fail(TAUT_E_TRANSPORT, "taut_comm_shrink: MPI: %s failed", what);
}

static taut_status allocate(meeting *g)
{
    size_t p = (size_t)g->m->base.size;
    g->heard = taut__alloc(p, sizeof *g->heard);
    g->came = taut__alloc(p, sizeof *g->came);
    g->decision = taut__alloc(p + 1, sizeof *g->decision);
    g->decided = taut__alloc(p * (p + 1), sizeof *g->decided);
    g->in = taut__alloc(4 * p, sizeof *g->in);
    if (!g->heard || !g->came || !g->decision || !g->decided || !g->in)
        return taut__fail(TAUT_E_NOMEM, "taut_comm_shrink: out of memory for %zu ranks", p);
    g->in2 = g->in + p, g->out = g->in + 2 * p; /* two of these */
    for (size_t i = 0; i < 4 * p; i++) g->in[i] = MPI_REQUEST_NULL;
    return TAUT_OK;
}

/* Messages to those who are gone never leave, and what they point to must stay: nothing is freed where some are left. */
static void release(meeting *g)
{
    int p = g->m->base.size, left = 0;
    for (int i = 0; i < 2 * p; i++) /* receives */
        if (g->in[i] != MPI_REQUEST_NULL) MPI_Cancel(&g->in[i]);
    for (int i = 0; i < 4 * p; i++) {
        int done = g->in[i] == MPI_REQUEST_NULL;
        if (!done) MPI_Test(&g->in[i], &done, MPI_STATUS_IGNORE);
        if (!done) MPI_Request_free(&g->in[i]), left++;
    }
    if (left) return;
    taut__free(g->heard), taut__free(g->came), taut__free(g->decision), taut__free(g->decided), taut__free(g->in);
}

static taut_status open_ears(meeting *g)
{
    taut__mpi *m = g->m;
    int        p = m->base.size;
    g->here = (word){.job = m->job, .what = HERE};
    for (int r = 0; r < p; r++) {
        if (r == m->base.rank) continue;
        if (MPI_Irecv(&g->heard[r], sizeof g->heard[r], MPI_BYTE, r, g->tag[0], m->comm, &g->in[r]) != MPI_SUCCESS ||
            MPI_Irecv(g->decided + (size_t)r * (size_t)(p + 1), p + 1, MPI_INT32_T, r, g->tag[1], m->comm,
                      &g->in2[r]) != MPI_SUCCESS)
            return failed("a receive");
    }
    for (int r = 0; r < p; r++)
        if (r != m->base.rank)
            (void)MPI_Isend(&g->here, sizeof g->here, MPI_BYTE, r, g->tag[0], m->comm,
                            &g->out[r]); /* who is gone is gone */
    return TAUT_OK;
}

/* Returns a rank that has decided, or -1. */
static int listen(meeting *g)
{
    int p = g->m->base.size, by = -1;
    for (int r = 0; r < p; r++) {
        int done = 0;
        if (r == g->m->base.rank) continue;
        if (!g->came[r] && g->in[r] != MPI_REQUEST_NULL &&
            MPI_Test(&g->in[r], &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done && g->heard[r].job == g->m->job &&
            g->heard[r].what == HERE)
            g->came[r] = true, g->others++;
        if (by < 0 && g->in2[r] != MPI_REQUEST_NULL && MPI_Test(&g->in2[r], &done, MPI_STATUS_IGNORE) == MPI_SUCCESS &&
            done)
            by = r;
    }
    return by;
}

static int hear_until(meeting *g, double until, bool all)
{
    for (int by;;) {
        taut__mpi_into(g->m);
        by = listen(g);
        taut__mpi_out(g->m);
        if (by >= 0) return by;
        if (taut__now() >= until || (all && g->others == g->m->base.size - 1)) return -1;
        nanosleep(&(struct timespec){0, 500000}, NULL);
    }
}

static void decide(meeting *g)
{
    int n = 0, p = g->m->base.size;
    for (int r = 0; r < p; r++)
        if (r == g->m->base.rank || g->came[r]) g->decision[1 + n++] = r;
    g->decision[0] = n;
    for (int r = 0; r < p; r++)
        if (r != g->m->base.rank)
            (void)MPI_Isend(g->decision, p + 1, MPI_INT32_T, r, g->tag[1], g->m->comm, &g->out[p + r]);
}

static taut_status agree(meeting *g, int wait_ms)
{
    double begin = taut__now(), wait = 1e-3 * wait_ms;
    int    p = g->m->base.size, by = hear_until(g, begin + wait, true), lowest = 0;
    while (lowest < g->m->base.rank && !g->came[lowest]) lowest++;
    if (by < 0 && lowest < g->m->base.rank) by = hear_until(g, begin + 2 * wait, false);
    if (by < 0 && lowest < g->m->base.rank)
        return taut__fail(TAUT_E_PEER, "taut_comm_shrink: rank %d was there, and has not said who belongs for %d ms",
                          lowest, wait_ms);
    if (by < 0) decide(g);
    else memcpy(g->decision, g->decided + (size_t)by * (size_t)(p + 1), (size_t)(p + 1) * sizeof *g->decision);
    for (int i = 0; i < g->decision[0]; i++)
        if (g->decision[1 + i] == g->m->base.rank) return TAUT_OK;
    return taut__fail(TAUT_E_PEER, "the survivors have gone on without rank %d", g->m->base.rank);
}

static taut_status make(meeting *g, MPI_Comm *comm)
{
    MPI_Group all = MPI_GROUP_NULL, left = MPI_GROUP_NULL;
    int       rc = MPI_Comm_group(g->m->comm, &all);
    if (rc == MPI_SUCCESS) rc = MPI_Group_incl(all, g->decision[0], (const int *)(g->decision + 1), &left);
    taut__mpi_into(g->m); /* the watchdog ends it */
    if (rc == MPI_SUCCESS) rc = MPI_Comm_create_group(g->m->comm, left, g->tag[1] + 1, comm);
    taut__mpi_out(g->m);
    if (all != MPI_GROUP_NULL) MPI_Group_free(&all);
    if (left != MPI_GROUP_NULL) MPI_Group_free(&left);
    return rc == MPI_SUCCESS ? TAUT_OK : failed("MPI_Comm_create_group");
}

taut_status taut__mpi_survivors(taut__transport *t, int wait_ms, MPI_Comm *left, int *old)
{
    meeting g = {.m = (taut__mpi *)t};
    int     n = 0;
    *left = MPI_COMM_NULL;
    g.tag[0] = t->tag_max - TAGS_BELOW_MOST, g.tag[1] = g.tag[0] + 1;
    TAUT_TRY(allocate(&g));
    taut_status s = open_ears(&g);
    if (s == TAUT_OK) s = agree(&g, wait_ms);
    if (s == TAUT_OK) s = make(&g, left);
    for (; s == TAUT_OK && n < g.decision[0]; n++) old[n] = g.decision[1 + n];
    release(&g);
    if (s == TAUT_OK) MPI_Comm_set_errhandler(*left, MPI_ERRORS_RETURN);
    return s;
}
