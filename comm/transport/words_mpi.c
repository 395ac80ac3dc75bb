/* words_mpi.c : what ranks of an MPI job tell each other of their own accord: that they have failed, and words (taut__notice). They have a tag of
 * their own; one receive from any rank is always posted. */
#include "transport_mpi.h"
#include <time.h>

static void nap(void) { nanosleep(&(struct timespec){0, 100000}, NULL); }

void taut__mpi_abort(taut__transport *t, const taut__notice *why)
{
    taut__mpi *m = (taut__mpi *)t;
    if (m->failed) return;
    m->failed = true;
    m->told = *why;
    m->told.job = m->job;
    taut__mpi_into(m);
    for (int r = 0; r < t->size; r++)
        if (r != t->rank) MPI_Isend(&m->told, sizeof m->told, MPI_BYTE, r, TAUT_MPI_TAG_NOTICE, m->comm, &m->tell[r]);
    for (int i = 0, all = 0; i < 100 && !all; i++) { /* small messages leave at once, unless the peer is gone */
        MPI_Testall(t->size, m->tell, &all, MPI_STATUSES_IGNORE);
        if (!all) nap();
    }
    taut__mpi_out(m);
    if (taut__mpi_lost(m->comm, m->gone) > 0) taut__mpi_revoke(m->native); /* for those who are inside a native sum */
}

static void listen(taut__mpi *m)
{
    if (m->listening || m->n == m->room) return;
    if (MPI_Irecv(&m->heard, sizeof m->heard, MPI_BYTE, MPI_ANY_SOURCE, TAUT_MPI_TAG_NOTICE, m->comm,
                  &m->request[m->n]) != MPI_SUCCESS)
        return;
    m->owner[m->n++] = (taut__mpi_pending){NULL, MPI_BYTE};
    m->listening = true;
}

static void note_last_word(taut__mpi *m, const taut__notice *word)
{
    if (m->left++ == 0) m->count = word->count, m->steps = word->steps;
    m->uneven |= word->count != m->count || word->steps != m->steps;
}

/* Sorts out what has come: a failure is left for aborted(). */
bool taut__mpi_heard(taut__transport *t, taut__notice *word)
{
    taut__mpi *m = (taut__mpi *)t;
    if (!m->news) {
        listen(m);
        return false;
    }
    bool ours = m->heard.job == m->job, failure = ours && m->heard.status != TAUT_OK;
    if (failure) return false;
    *word = m->heard;
    word->text[sizeof word->text - 1] = 0;
    m->news = false;
    listen(m);
    if (ours && word->word == TAUT_WORD_LEAVES) note_last_word(m, word);
    return ours;
}

bool taut__mpi_aborted(taut__transport *t, taut__notice *why)
{
    taut__mpi *m = (taut__mpi *)t;
    if (!m->news || m->heard.job != m->job || m->heard.status == TAUT_OK) return false;
    m->news = false;
    m->failed = true;
    *why = m->heard;
    why->text[sizeof why->text - 1] = 0;
    return true;
}

/* Small messages leave at once, unless the peer is gone. */
bool taut__mpi_all_told(taut__mpi *m, int tries)
{
    int all = 0;
    for (int i = 0; i < tries && !all; i++) {
        if (i > 0) nap();
        taut__mpi_into(m);
        int rc = MPI_Testall(m->base.size, m->telling, &all, MPI_STATUSES_IGNORE);
        taut__mpi_out(m);
        if (rc != MPI_SUCCESS) return false;
    }
    return all;
}

/* One word at a time: while the last one is on its way to anybody there is no other. */
void taut__mpi_tell(taut__transport *t, int peer, const taut__notice *word)
{
    taut__mpi *m = (taut__mpi *)t;
    bool       last = word->word == TAUT_WORD_LEAVES;
    if (m->failed) return;
    if (!taut__mpi_all_told(m, last ? 100 : 1)) {
        m->failed = last; /* some peer is gone */
        return;
    }
    m->word = *word;
    m->word.job = m->job;
    m->leaves = last;
    taut__mpi_into(m);
    for (int r = 0; r < t->size; r++)
        if (r != t->rank && (peer < 0 || r == peer))
            MPI_Isend(&m->word, sizeof m->word, MPI_BYTE, r, TAUT_MPI_TAG_NOTICE, m->comm, &m->telling[r]);
    taut__mpi_out(m);
    taut__mpi_all_told(m, 1);
}
