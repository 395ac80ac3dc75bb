/* votes_mpi.c : what all ranks say at an event. */
#include "channel.h"
#include <stdio.h>
#include <string.h>

enum { WORDS = 4, TAG_VOTE = 1 };

/* Every thread of the program may go on while the worker votes, and may have to before another rank gets here: so the worker completes
 * calls meanwhile. By messages and not by MPI_Iallreduce, since ranks that have made different calls would take each other's for
 * votes. Dissemination: in round k to the rank 2^k further; what is least may be heard of twice. */
static int least_on_worker(taut__channel *c, uint64_t *v)
{
    int rc = MPI_SUCCESS;
    for (int k = 1; k < c->size && rc == MPI_SUCCESS; k *= 2) {
        uint64_t    mine[WORDS], theirs[WORDS];
        MPI_Request q[2];
        int         done = 0;
        unsigned    turns = 0;
        memcpy(mine, v, sizeof mine);
        rc = PMPI_Irecv(theirs, WORDS, MPI_UINT64_T, (c->rank + c->size - k) % c->size, TAG_VOTE, c->control, &q[0]);
        if (rc == MPI_SUCCESS)
            rc = PMPI_Isend(mine, WORDS, MPI_UINT64_T, (c->rank + k) % c->size, TAG_VOTE, c->control, &q[1]);
        while (rc == MPI_SUCCESS && (rc = PMPI_Testall(2, q, &done, MPI_STATUSES_IGNORE)) == MPI_SUCCESS && !done)
            taut__worker_turn(c, &turns);
        for (int i = 0; i < WORDS && rc == MPI_SUCCESS; i++) v[i] = taut__min(v[i], theirs[i]);
    }
    return rc;
}

static bool least(taut__channel *c, uint64_t v[WORDS])
{
    int rc = c->on_worker ? least_on_worker(c, v)
                          : taut__real_mpi.Allreduce(MPI_IN_PLACE, v, WORDS, MPI_UINT64_T, MPI_MIN,
                                                     c->has_control ? c->control : c->user);
    return rc == MPI_SUCCESS;
}

bool taut__any_says(taut__channel *c, bool yes)
{
    uint64_t v[WORDS] = {!yes};
    return least(c, v) && v[0] == 0;
}

bool taut__all_say(taut__channel *c, bool yes, uint64_t word)
{
    uint64_t v[WORDS] = {yes ? word : 0, yes ? ~word : 0, c->said, ~c->said};
    if (!least(c, v)) return false;
    if (v[2] != ~v[3] && !c->failed) {
        if (c->rank == 0)
            fprintf(stderr,
                    "taut: ranks have made different calls on a communicator of %d, which MPI forbids: they pass "
                    "through from here on\n",
                    c->size);
        c->failed = c->differs = true;
    }
    return v[0] == ~v[1] && !c->failed;
}
