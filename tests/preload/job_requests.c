/* job_requests.c : the modes of job.c that get requests. */
#include "job.h"

#if MPI_VERSION >= 4 || (defined(OMPI_MAJOR_VERSION) && OMPI_MAJOR_VERSION >= 5) /* which says that it is MPI 3.1 */
#define HAVE_PERSISTENT
#elif defined(OMPI_HAVE_MPI_EXT_PCOLLREQ)
#define HAVE_PERSISTENT
#define MPI_Allreduce_init MPIX_Allreduce_init
#endif

static void start(job *j, int l, MPI_Request *q)
{
    bad |= MPI_Iallreduce(l % 2 ? j->g[l] : MPI_IN_PLACE, l % 2 ? j->out[l] : j->g[l], (int)j->n, MPI_FLOAT, MPI_SUM,
                          j->comm, q) != MPI_SUCCESS;
    j->calls++;
}
static void results_right(job *j, int step)
{
    for (int l = 0; l < j->layers; l++) {
        float *x = l % 2 ? j->out[l] : j->g[l];
        check(j, x, step, l, 0, j->n), same_everywhere(j, x, j->n);
    }
}

/* Every call that completes requests, in turn. */
static void finish(int how, int count, MPI_Request *q)
{
    int        flag = 0, index, done, list[MOST];
    MPI_Status status, all[MOST];
    switch (how % 8) {
    case 0: MPI_Waitall(count, q, all); break;
    case 1:
        for (int i = count - 1; i >= 0; i--) MPI_Wait(&q[i], &status);
        break;
    case 2:
        for (int i = 0; i < count; i++) MPI_Waitany(count, q, &index, MPI_STATUS_IGNORE);
        break;
    case 3:
        for (int left = count; left > 0; left -= done) MPI_Waitsome(count, q, &done, list, MPI_STATUSES_IGNORE);
        break;
    case 4:
        while (!flag) MPI_Testall(count, q, &flag, MPI_STATUSES_IGNORE);
        break;
    case 5:
        for (int i = 0; i < count; i++)
            for (flag = 0; !flag;) MPI_Test(&q[i], &flag, &status);
        break;
    case 6:
        for (int left = count; left > 0; left -= flag && index != MPI_UNDEFINED)
            MPI_Testany(count, q, &index, &flag, &status);
        break;
    case 7:
        for (int left = count; left > 0; left -= done > 0 ? done : 0)
            MPI_Testsome(count, q, &done, list, MPI_STATUSES_IGNORE);
        break;
    }
}
void step_nonblocking(job *j, int step)
{
    MPI_Request q[MOST];
    for (int l = 0; l < j->layers; l++) start(j, l, &q[l]);
    finish(step, j->layers, q);
    for (int l = 0; l < j->layers; l++) bad |= q[l] != MPI_REQUEST_NULL;
    results_right(j, step);
}
/* Beside blocking sums, and with a point-to-point message in the same Waitall. */
void step_overlap(job *j, int step)
{
    MPI_Request q[MOST + 2];
    int         out = rank + 100 * step, in = -1, to = (rank + 1) % ranks, from = (rank + ranks - 1) % ranks;
    for (int l = 1; l < j->layers; l++) start(j, l, &q[l - 1]);
    bad |= MPI_Allreduce(MPI_IN_PLACE, j->g[0], (int)j->n, MPI_FLOAT, MPI_SUM, j->comm) != MPI_SUCCESS, j->calls++;
    MPI_Irecv(&in, 1, MPI_INT, from, 9, j->comm, &q[j->layers - 1]);
    MPI_Isend(&out, 1, MPI_INT, to, 9, j->comm, &q[j->layers]);
    finish(step, j->layers + 1, q);
    bad |= in != from + 100 * step;
    results_right(j, step);
}
/* One rank waits before it lets another one go on: nobody may wait for peers inside a wait that MPI would have finished. */
void step_token(job *j, int step)
{
    MPI_Request q;
    char        token = 0;
    start(j, 0, &q);
    if (rank > 0) MPI_Recv(&token, 1, MPI_CHAR, rank - 1, 7, j->comm, MPI_STATUS_IGNORE);
    MPI_Wait(&q, MPI_STATUS_IGNORE);
    if (rank < ranks - 1) MPI_Send(&token, 1, MPI_CHAR, rank + 1, 7, j->comm);
    check(j, j->g[0], step, 0, 0, j->n);
}
/* The first rank starts the next sum before it has waited for the last one, and lets the others go on to the next only then. */
void step_ahead(job *j, int step)
{
    MPI_Request q[2];
    char        token = 0;
    for (int l = 0; l + 1 < j->layers; l += 2) {
        start(j, l, &q[0]);
        if (rank == 0) start(j, l + 1, &q[1]);
        MPI_Wait(&q[0], MPI_STATUS_IGNORE);
        if (rank > 0) MPI_Recv(&token, 1, MPI_CHAR, 0, 6, j->comm, MPI_STATUS_IGNORE);
        for (int r = 1; r < ranks && rank == 0; r++) MPI_Send(&token, 1, MPI_CHAR, r, 6, j->comm);
        if (rank > 0) start(j, l + 1, &q[1]);
        MPI_Wait(&q[1], MPI_STATUS_IGNORE);
    }
    for (int l = 0; l + 1 < j->layers; l++) check(j, l % 2 ? j->out[l] : j->g[l], step, l, 0, j->n);
}
/* The communicator is freed while sums on it are under way; the last rank joins them only when another one has freed it. */
void step_pending(job *j, int step)
{
    MPI_Request q[MOST];
    char        token = 0;
    int         frees = step % 6 == 5, last = rank == ranks - 1;
    if (step == 0) MPI_Comm_dup(MPI_COMM_WORLD, &j->comm);
    MPI_Comm old = j->comm;
    if (frees && last) MPI_Recv(&token, 1, MPI_CHAR, 0, 8, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int l = 0; l < j->layers; l++) start(j, l, &q[l]);
    if (frees) MPI_Comm_free(&old);
    if (frees && rank == 0 && ranks > 1) MPI_Send(&token, 1, MPI_CHAR, ranks - 1, 8, MPI_COMM_WORLD);
    finish(step, j->layers, q);
    if (frees) MPI_Comm_dup(MPI_COMM_WORLD, &j->comm);
    results_right(j, step);
}
/* MPI forbids to cancel or free the request of a collective call, so what it answers is its business; the sums must be right. */
void step_cancel(job *j, int step)
{
    MPI_Request q[MOST];
    int         flag = 0, rc;
    MPI_Comm_set_errhandler(j->comm, MPI_ERRORS_RETURN), MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    for (int l = 0; l < j->layers; l++) start(j, l, &q[l]);
    rc = MPI_Request_get_status(q[0], &flag, MPI_STATUS_IGNORE);
    bad |= rc != MPI_SUCCESS;
    if (getenv("JOB_CANCELS")) MPI_Cancel(&q[j->layers - 1]);
    if (getenv("JOB_FREES")) {
        MPI_Request freed = q[j->layers - 1];
        MPI_Request_free(&freed);
        MPI_Waitall(j->layers - 1, q, MPI_STATUSES_IGNORE);
        MPI_Barrier(j->comm);
        for (double begin = MPI_Wtime(); MPI_Wtime() < begin + 0.05;)
            MPI_Test(&(MPI_Request){MPI_REQUEST_NULL}, &flag, MPI_STATUS_IGNORE);
    } else MPI_Waitall(j->layers, q, MPI_STATUSES_IGNORE);
    results_right(j, step);
}

/* ---- persistent requests ---- */

static MPI_Request persistent[MOST];

static void make_requests(job *j)
{
    for (int l = 0; l < j->layers; l++) {
#ifdef HAVE_PERSISTENT
        bad |= MPI_Allreduce_init(l % 2 ? j->g[l] : MPI_IN_PLACE, l % 2 ? j->out[l] : j->g[l], (int)j->n, MPI_FLOAT,
                                  MPI_SUM, j->comm, MPI_INFO_NULL, &persistent[l]) != MPI_SUCCESS;
#endif
    }
}
/* disorder: started one by one, in another order on each rank and at each step. */
void step_persistent(job *j, int step)
{
#ifdef HAVE_PERSISTENT
    int disorder = strcmp(j->name, "disorder") == 0;
    if (step == 0) make_requests(j);
    if (!disorder && step % 2) bad |= MPI_Startall(j->layers, persistent) != MPI_SUCCESS;
    else
        for (int k = 0; k < j->layers; k++)
            bad |=
                MPI_Start(&persistent[disorder ? (k * (rank % 2 ? j->layers - 1 : 1) + step + rank) % j->layers : k]) !=
                MPI_SUCCESS;
    j->calls += j->layers;
    finish(step, j->layers, persistent);
    for (int l = 0; l < j->layers; l++) bad |= persistent[l] == MPI_REQUEST_NULL;
    results_right(j, step);
    for (int l = 0; l < j->layers && step == j->steps - 1; l++)
        bad |= MPI_Request_free(&persistent[l]) != MPI_SUCCESS || persistent[l] != MPI_REQUEST_NULL;
#else
    (void)j, (void)step;
#endif
}
/* Requests that are started more often than others, made and freed on the way. */
void step_rounds(job *j, int step)
{
#ifdef HAVE_PERSISTENT
    if (step % 10 == 0) make_requests(j);
    for (int l = 0; l < j->layers; l++) {
        if (step % (l + 1)) continue;
        bad |= MPI_Start(&persistent[l]) != MPI_SUCCESS, j->calls++;
        bad |= MPI_Wait(&persistent[l], MPI_STATUS_IGNORE) != MPI_SUCCESS;
        check(j, l % 2 ? j->out[l] : j->g[l], step, l, 0, j->n);
    }
    for (int l = 0; l < j->layers && step % 10 == 9; l++) MPI_Request_free(&persistent[l]);
#else
    (void)j, (void)step;
#endif
}
