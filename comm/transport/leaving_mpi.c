/* leaving_mpi.c : when MPI's communicators can be freed: once nobody will send on them any more. A message that comes later would be
 * delivered to the next communicator with that number, of whoever made it. So a rank that has destroyed its own hears the last
 * words of all others first, whenever it comes here again, at the latest in MPI_Finalize. Until then its receive of words stays. */
#include "transport_mpi.h"
#include <pthread.h>
#include <time.h>

static pthread_mutex_t buried_lock = PTHREAD_MUTEX_INITIALIZER;
static taut__mpi      *buried;

/* True: nothing more can come. Failures, and what must stay, are left to MPI. */
static bool at_rest(taut__mpi *m)
{
    taut__notice word;
    while (taut__mpi_poll(&m->base) == TAUT_OK && (m->news || !m->listening) && taut__mpi_heard(&m->base, &word)) {}
    m->failed |= taut__mpi_aborted(&m->base, &word);
    m->uneven |= m->left > 0 && (m->word.count != m->count || m->word.steps != m->steps);
    return !m->failed && m->left == m->base.size - 1 && taut__mpi_all_told(m, 1);
}

/* last: MPI is about to end. */
static size_t visit(bool last)
{
    size_t left = 0;
    pthread_mutex_lock(&buried_lock);
    for (taut__mpi **at = &buried, *m; (m = *at);) {
        bool rests = at_rest(m), leave = !rests && (m->failed || last);
        if (rests || leave) *at = m->next;
        else at = &m->next, left++;
        if (rests || leave) taut__mpi_stop_listening(m);
        if (rests && !m->uneven) taut__mpi_release(m);
    }
    pthread_mutex_unlock(&buried_lock);
    return left;
}

/* Others may be gone, or may not be there yet: no longer than it takes for what is on its way. */
static int before_finalize(MPI_Comm comm, int key, void *value, void *extra)
{
    (void)comm, (void)key, (void)value, (void)extra;
    for (int i = 0; i < 100 && visit(false) > 0; i++) nanosleep(&(struct timespec){0, 1000000}, NULL);
    visit(true);
    return MPI_SUCCESS;
}

static void watch_finalize(void)
{
    int key;
    if (MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, before_finalize, &key, NULL) == MPI_SUCCESS)
        MPI_Comm_set_attr(MPI_COMM_SELF, key, NULL);
}

void taut__mpi_bury(taut__mpi *m)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_finalize);
    pthread_mutex_lock(&buried_lock);
    m->next = buried;
    buried = m;
    pthread_mutex_unlock(&buried_lock);
    visit(false);
}

void taut__mpi_visit_buried(void) { visit(false); }
