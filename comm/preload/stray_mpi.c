/* stray_mpi.c : queued plain calls that wait for ranks which have made theirs elsewhere.
 *
 * A queued call is made on the channel's own communicator. A rank that gives another count or type, which MPI forbids, may have made a
 * call that cannot be compressed, on the program's communicator and unknown to its worker. Both would wait for ever, where plain MPI
 * tells an error or cuts what does not fit.
 *  1. A rank whose oldest queued call has been waiting for a second asks all others about it: number and digest of its channel's calls
 *     so far. Again after 2, 4, 8, ... seconds, for others may only be slow.
 *  2. One that has made its own call of that number with another digest, and only such a one, answers.
 *  3. Then the asking rank makes the call on the program's communicator, too. What happens there is what plain MPI has: as many calls as
 *     others have made. The copy's call is never completed; if it is in spite of all, that counts.
 * From then on both make all calls on the program's communicator, at once: on the copy, MPIs number non-blocking calls, and ranks that have
 * made one less would meet in the wrong ones. The next vote finds that digests differ, and there are no more votes. */
#include "channel.h"
#include <stdio.h>
#include <stdlib.h>

enum { TAG_ASK = 2, TAG_ANSWER = 3 };
static const double LOOK_S = 0.01, FIRST_S = 1, NEXT_S = 0.02; /* NEXT_S: where one was a stray, more are */

void taut__strays_post(taut__channel *c, const taut__entry *e)
{
    if (!c->strays.posted) return;
    c->strays.posted[e->event % TAUT_POSTED].event = e->event;
    c->strays.posted[e->event % TAUT_POSTED].digest = e->digest;
}

static bool receive(taut__channel *c, int tag, uint64_t *word, int words, int *from)
{
    int        there = 0;
    MPI_Status s;
    if (PMPI_Iprobe(MPI_ANY_SOURCE, tag, c->control, &there, &s) != MPI_SUCCESS || !there) return false;
    *from = s.MPI_SOURCE;
    return PMPI_Recv(word, words, MPI_UINT64_T, *from, tag, c->control, MPI_STATUS_IGNORE) == MPI_SUCCESS;
}

static void answer(taut__channel *c)
{
    uint64_t q[2];
    int      from;
    while (receive(c, TAG_ASK, q, 2, &from)) {
        pthread_mutex_lock(&c->lock);
        bool other = c->strays.posted && c->strays.posted[q[0] % TAUT_POSTED].event == q[0] &&
                     c->strays.posted[q[0] % TAUT_POSTED].digest != q[1];
        if (other) c->strays.found = true;
        pthread_mutex_unlock(&c->lock);
        if (other) PMPI_Send(q, 1, MPI_UINT64_T, from, TAG_ANSWER, c->control); /* small: does not wait */
    }
}

static void follow(taut__channel *c, taut__flight *f)
{
    const taut__entry *e = f->e;
    pthread_mutex_lock(&c->lock);
    MPI_Comm user = c->user;
    c->strays.found = true;
    pthread_mutex_unlock(&c->lock);
    bool gone = user == MPI_COMM_NULL || user == c->control; /* freed meanwhile: nowhere to meet */
    if (!c->strays.told || gone)
        fprintf(stderr,
                "taut: ranks have made different calls on a communicator of %d, which MPI forbids: rank %d %s\n",
                c->size, c->rank, gone ? "cannot meet the others" : "meets the others there");
    if (gone) PMPI_Abort(c->control, MPI_ERR_OTHER);
    c->strays.told = true;
    f->moved = taut__real_mpi.Iallreduce(e->in, e->out, e->count, e->type, e->op, user, &f->again) == MPI_SUCCESS;
}

static void ask(taut__channel *c, const taut__flight *f, double now)
{
    taut__strays *s = &c->strays;
    int           sent = 1;
    if (!s->asking) {
        if (!(s->asking = malloc((size_t)c->size * sizeof *s->asking))) return;
        for (int r = 0; r < c->size; r++) s->asking[r] = MPI_REQUEST_NULL;
    }
    if (PMPI_Testall(c->size, s->asking, &sent, MPI_STATUSES_IGNORE) != MPI_SUCCESS || !sent) return;
    s->question[0] = f->e->event, s->question[1] = f->e->digest;
    for (int r = 0; r < c->size; r++)
        if (r != c->rank) PMPI_Isend(s->question, 2, MPI_UINT64_T, r, TAG_ASK, c->control, &s->asking[r]);
    s->pause_s *= 2;
    s->asks_s = now + s->pause_s;
}

void taut__strays_look(taut__channel *c)
{
    taut__strays *s = &c->strays;
    taut__flight *f = c->flights;
    uint64_t      event;
    int           from;
    double        now = taut__now();
    if (!c->has_control || now - s->looked_s < LOOK_S) return;
    s->looked_s = now;
    answer(c);
    bool waits = f && f->apart && !f->moved;
    while (receive(c, TAG_ANSWER, &event, 1, &from))
        if (waits && f->e->event == event && !f->moved) follow(c, f);
    if (!waits || f->moved) return;
    double patience = s->found ? NEXT_S : FIRST_S;
    if (s->about != f->e->event || s->pause_s == 0)
        s->about = f->e->event, s->pause_s = patience, s->asks_s = f->begun_s + patience;
    if (now >= s->asks_s) ask(c, f, now);
}

void taut__strays_close(taut__channel *c)
{
    for (int r = 0; c->strays.asking && r < c->size; r++)
        if (c->strays.asking[r] != MPI_REQUEST_NULL) PMPI_Request_free(&c->strays.asking[r]);
    free(c->strays.asking), free(c->strays.posted);
    c->strays.asking = NULL, c->strays.posted = NULL;
}
