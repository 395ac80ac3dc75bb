/* shrink_mpi.c : those of an MPI job who are left after a failure find each other, and get a communicator of MPI.
 *
 * Point-to-point messages between those who live still arrive. So, on the failed communicator, with tags of their own:
 *
 *   1. Everybody tells everybody "I am here", and listens until wait_ms after his own call, or until all have come that MPI does not know to
 *      be lost.
 *   2. The lowest of those that a rank has heard, itself included, decides who belongs: those that it has heard. It tells all ranks. Who
 *      is not the lowest waits for a decision, as long again, and takes the first that comes, whoever made it; a decision that comes
 *      earlier ends the listening. Who is not in it has come too late.
 *   3. If MPI knows all others to be lost (ULFM, ulfm_mpi.c), MPIX_Comm_shrink() makes the communicator: a rank that dies in the meantime is
 *      left out, and who is lost while a transport is made of it, in 4. Without that, or if one lives that has not come (it is stopped),
 *      those in it call MPI_Comm_create_group(), which asks nobody else, or MPI_Comm_create_from_group(), where some are lost and some stopped.
 *   4. A transport is made (taut__mpi_go_on). With ULFM those who fail in that revoke the communicator, so that nobody waits for them;
 *      all agree whether it is there, and if not, and somebody is lost, do 4 again without that one.
 *
 * Without ULFM a rank that dies in between leaves the others in 3, where a watchdog ends them after the timeout: a second failure during the
 * seconds that this takes is not survived.
 * A call that fails may be made again: words have the number of their meeting.
 * Launchers end the job when a rank dies unless they are told not to: docs/launch.md. */
#include "transport_mpi.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TAGS_BELOW_MOST = 8, HERE = 1 }; /* of the transport's tags the last ones are those of delivery=assured */
enum { TURNS = 20 };                    /* between questions to MPI about who is lost */

typedef struct word {
    uint64_t job;
    int32_t  what, meeting;
} word;

enum { GROUP, FROM_GROUP, SHRINK }; /* ways to make the communicator */
/* A decision: these two, how many belong, and their ranks. */
enum { MEETING, WAY, COUNT, MEMBERS };

typedef struct meeting {
    taut__mpi   *m;
    int          tag[2]; /* of words, of decisions */
    word         here, *heard;
    int32_t     *decision, *decided; /* MEMBERS + size numbers; of this rank, and of each other one */
    MPI_Request *in, *in2, *out;
    bool        *came;
} meeting;

static taut_status failed(const char *what)
{
    return taut__fail(TAUT_E_TRANSPORT, "taut_comm_shrink: MPI: %s failed", what);
}

static size_t   length(const meeting *g) { return MEMBERS + (size_t)g->m->base.size; }
static int32_t *decided_by(const meeting *g, int r) { return g->decided + (size_t)r * length(g); }

static taut_status allocate(meeting *g)
{
    size_t p = (size_t)g->m->base.size;
    g->heard = taut__alloc(p, sizeof *g->heard);
    g->came = taut__alloc(p, sizeof *g->came);
    g->decision = taut__alloc(length(g), sizeof *g->decision);
    g->decided = taut__alloc(p * length(g), sizeof *g->decided);
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

static bool hear_word(meeting *g, int r)
{
    return MPI_Irecv(&g->heard[r], sizeof g->heard[r], MPI_BYTE, r, g->tag[0], g->m->comm, &g->in[r]) == MPI_SUCCESS;
}

static bool hear_decision(meeting *g, int r)
{
    return MPI_Irecv(decided_by(g, r), (int)length(g), MPI_INT32_T, r, g->tag[1], g->m->comm, &g->in2[r]) ==
           MPI_SUCCESS;
}

static taut_status open_ears(meeting *g)
{
    taut__mpi *m = g->m;
    g->here = (word){.job = m->job, .what = HERE, .meeting = ++m->meetings};
    taut__mpi_lost(m->comm, m->gone);
    for (int r = 0; r < m->base.size; r++) {
        if (r == m->base.rank || m->gone[r]) continue;
        if ((!hear_word(g, r) || !hear_decision(g, r)) && (taut__mpi_lost(m->comm, m->gone) == 0 || !m->gone[r]))
            return failed("a receive");
    }
    for (int r = 0; r < m->base.size; r++)
        if (r != m->base.rank && !m->gone[r])
            (void)MPI_Isend(&g->here, sizeof g->here, MPI_BYTE, r, g->tag[0], m->comm, &g->out[r]); /* gone is gone */
    return TAUT_OK;
}

static bool arrived(MPI_Request *request)
{
    int done = 0;
    return *request != MPI_REQUEST_NULL && MPI_Test(request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done;
}

/* Returns a rank that has decided, or -1. What is left of an earlier meeting is passed over. */
static int listen(meeting *g)
{
    int p = g->m->base.size, by = -1;
    for (int r = 0; r < p; r++) {
        if (r == g->m->base.rank) continue;
        if (arrived(&g->in[r])) {
            g->came[r] = g->heard[r].job == g->m->job && g->heard[r].meeting == g->here.meeting;
            if (!g->came[r]) hear_word(g, r);
        }
        if (by >= 0 || !arrived(&g->in2[r])) continue;
        if (decided_by(g, r)[MEETING] == g->here.meeting) by = r;
        else hear_decision(g, r);
    }
    return by;
}

static bool accounted_for(const meeting *g)
{
    for (int r = 0; r < g->m->base.size; r++)
        if (r != g->m->base.rank && !g->came[r] && !g->m->gone[r]) return false;
    return true;
}

/* Until somebody has decided, whom >= 0: or that rank is lost; else: or all have come or are lost. */
static int hear_until(meeting *g, double until, int whom)
{
    for (int turn = 0, by;; turn++) {
        taut__mpi_into(g->m);
        by = listen(g);
        if (turn % TURNS == 0) taut__mpi_lost(g->m->comm, g->m->gone);
        taut__mpi_out(g->m);
        if (by >= 0) return by;
        if (taut__now() >= until || (whom < 0 ? accounted_for(g) : g->m->gone[whom])) return -1;
        nanosleep(&(struct timespec){0, 500000}, NULL);
    }
}

static bool belongs(const meeting *g, int r) { return r == g->m->base.rank || (g->came[r] && !g->m->gone[r]); }

static int lowest(const meeting *g)
{
    int r = 0;
    while (!belongs(g, r)) r++;
    return r;
}

static void decide(meeting *g)
{
    int     p = g->m->base.size, lost = taut__mpi_lost(g->m->comm, g->m->gone);
    int32_t n = 0;
    for (int r = 0; r < p; r++)
        if (belongs(g, r)) g->decision[MEMBERS + n++] = r;
    g->decision[MEETING] = g->here.meeting;
    g->decision[WAY] = lost == 0 ? GROUP : accounted_for(g) ? SHRINK : FROM_GROUP;
    g->decision[COUNT] = n;
    for (int r = 0; r < p; r++)
        if (r != g->m->base.rank && !g->m->gone[r])
            (void)MPI_Isend(g->decision, (int)length(g), MPI_INT32_T, r, g->tag[1], g->m->comm, &g->out[p + r]);
}

static taut_status too_late(const taut__mpi *m)
{
    return taut__fail(TAUT_E_PEER, "the survivors have gone on without rank %d", m->base.rank);
}

static taut_status agree(meeting *g, int wait_ms)
{
    double begin = taut__now(), wait = 1e-3 * wait_ms;
    int    me = g->m->base.rank, by = hear_until(g, begin + wait, -1);
    while (by < 0 && lowest(g) < me && taut__now() < begin + 2 * wait) by = hear_until(g, begin + 2 * wait, lowest(g));
    if (by < 0 && lowest(g) < me)
        return taut__fail(TAUT_E_PEER, "taut_comm_shrink: rank %d was there, and has not said who belongs for %d ms",
                          lowest(g), wait_ms);
    if (by < 0) decide(g);
    else memcpy(g->decision, decided_by(g, by), length(g) * sizeof *g->decision);
    for (int i = 0; i < g->decision[COUNT]; i++)
        if (g->decision[MEMBERS + i] == me) return TAUT_OK;
    g->m->excluded = true;
    return too_late(g->m);
}

static taut_status make_group(const meeting *g, MPI_Comm *comm, int *old)
{
    char      name[64];
    MPI_Group all = MPI_GROUP_NULL, left = MPI_GROUP_NULL;
    int       n = g->decision[COUNT], rc = MPI_Comm_group(g->m->comm, &all);
    for (int i = 0; i < n; i++) old[i] = g->decision[MEMBERS + i];
    if (rc == MPI_SUCCESS) rc = MPI_Group_incl(all, n, old, &left);
    snprintf(name, sizeof name, "taut %016" PRIx64 " %d", g->m->job, (int)g->here.meeting);
    if (rc == MPI_SUCCESS && g->decision[WAY] == FROM_GROUP) rc = taut__mpi_from_group(left, name, comm);
    else if (rc == MPI_SUCCESS) rc = MPI_Comm_create_group(g->m->comm, left, g->tag[1] + 1, comm);
    if (all != MPI_GROUP_NULL) MPI_Group_free(&all);
    if (left != MPI_GROUP_NULL) MPI_Group_free(&left);
    if (rc != MPI_SUCCESS) return failed("making a communicator of those who are left");
    MPI_Comm_set_errhandler(*comm, MPI_ERRORS_RETURN);
    return TAUT_OK;
}

taut_status taut__mpi_survivors(taut__transport *t, int wait_ms, MPI_Comm *left, int *old)
{
    meeting g = {.m = (taut__mpi *)t};
    *left = MPI_COMM_NULL;
    g.tag[0] = t->tag_max - TAGS_BELOW_MOST, g.tag[1] = g.tag[0] + 1;
    if (g.m->excluded) return too_late(g.m); /* alone it would make one of its own */
    TAUT_TRY(allocate(&g));
    taut_status s = open_ears(&g);
    if (s == TAUT_OK) s = agree(&g, wait_ms);
    taut__mpi_into(g.m); /* the watchdog ends it */
    if (s == TAUT_OK)
        s = g.decision[WAY] == SHRINK ? taut__mpi_ulfm_shrink(g.m->comm, left, old) : make_group(&g, left, old);
    taut__mpi_out(g.m);
    g.m->mitigates = s == TAUT_OK && g.decision[WAY] == SHRINK;
    release(&g);
    return s;
}

/* Those of *left who live, if one does not: then *fewer. */
static taut_status without_more(MPI_Comm *left, int *old, int *map, bool *fewer)
{
    MPI_Comm next;
    int      before = 0, after = 0;
    TAUT_TRY(taut__mpi_ulfm_shrink(*left, &next, map));
    if (MPI_Comm_size(*left, &before) != MPI_SUCCESS || MPI_Comm_size(next, &after) != MPI_SUCCESS)
        return failed("MPI_Comm_size");
    *fewer = after < before;
    for (int i = 0; i < after; i++) old[i] = old[map[i]]; /* in order of rank: map[i] >= i */
    MPI_Comm_free(left);
    *left = next;
    return TAUT_OK;
}

taut_status taut__mpi_go_on(taut__mpi *m, MPI_Comm *left, int *old, taut__mpi_maker *make, taut__transport **smaller)
{
    taut_status s = make(left, 0, smaller);
    if (!m->mitigates) return s;
    int *map = taut__alloc((size_t)m->base.size, sizeof *map);
    if (!map && s == TAUT_OK) (*smaller)->ops->destroy(*smaller);
    if (!map) s = taut__fail(TAUT_E_NOMEM, "taut_comm_shrink: out of memory for %d ranks", m->base.size);
    for (bool fewer = map != NULL;;) {
        if (s != TAUT_OK) taut__mpi_revoke(*left);
        if (taut__mpi_agree_on(*left, s == TAUT_OK)) break;
        if (s == TAUT_OK) {
            (*smaller)->ops->destroy(*smaller);
            s = taut__fail(TAUT_E_PEER, "taut_comm_shrink: another rank could not make its transport");
        }
        taut_status shrunk = map ? without_more(left, old, map, &fewer) : s;
        if (shrunk != TAUT_OK) s = shrunk;
        if (shrunk != TAUT_OK || !fewer) break;
        s = make(left, 0, smaller);
    }
    taut__free(map);
    return s;
}
