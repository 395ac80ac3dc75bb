/* transport_mpi.c : ranks are processes of an MPI job, on an own duplicate of the caller's communicator.
 *
 * Pending requests lie in a dense array, so that one MPI_Testsome looks at all of them and makes MPI's progress.
 * Failure notices (words_mpi.c) travel with their own tag: one receive from any rank is always posted, the first of the array, which no
 * taut__request owns; whoever fails sends to all.
 * After a failure requests that cannot be finished are cancelled or left to MPI, and what they point to is not freed (`dirty`). */
#include "transport_mpi.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

enum { WHOLE_MAX = 1 << 30, CHECK_SEED = 12345, ABORT_S = 2 };

#define MPI_TRY(call, what)                                                                                            \
    do {                                                                                                               \
        int mpi_rc_ = (call);                                                                                          \
        if (mpi_rc_ != MPI_SUCCESS) return taut__mpi_failed(mpi_rc_, what);                                            \
    } while (0)

static taut__mpi *self_of(taut__transport *t) { return (taut__mpi *)t; }

/* ---- messages ---- */

/* Counts are int: a longer message is one element of a type of that many bytes. */
static taut_status message_type(size_t bytes, MPI_Datatype *type, int *count)
{
    *type = MPI_BYTE;
    *count = (int)bytes;
    if (bytes <= WHOLE_MAX) return TAUT_OK;
    MPI_Datatype whole;
    int          length[2] = {(int)(bytes / WHOLE_MAX), (int)(bytes % WHOLE_MAX)};
    MPI_Aint     at[2] = {0, (MPI_Aint)(bytes - bytes % WHOLE_MAX)};
    MPI_TRY(MPI_Type_contiguous(WHOLE_MAX, MPI_BYTE, &whole), "datatype");
    int rc = MPI_Type_create_struct(2, length, at, (MPI_Datatype[]){whole, MPI_BYTE}, type);
    MPI_Type_free(&whole);
    if (rc != MPI_SUCCESS) return taut__mpi_failed(rc, "datatype");
    *count = 1;
    MPI_TRY(MPI_Type_commit(type), "datatype");
    return TAUT_OK;
}

static taut_status start(taut__mpi *m, taut__request *r, bool send, int peer, int tag, void *buf, size_t bytes)
{
    int count;
    if (m->n == m->room) return taut__fail(TAUT_E_STATE, "MPI: more than %zu messages under way", m->room);
    taut__mpi_pending *p = &m->owner[m->n];
    TAUT_TRY(message_type(bytes, &p->type, &count));
    taut__mpi_into(m);
    int rc = send ? MPI_Isend(buf, count, p->type, peer, tag, m->comm, &m->request[m->n])
                  : MPI_Irecv(buf, count, p->type, peer, tag, m->comm, &m->request[m->n]);
    taut__mpi_out(m);
    if (rc != MPI_SUCCESS) return taut__mpi_call_failed(m, m->comm, rc, send ? "send" : "receive");
    taut__request_begin(r, send, peer, tag, buf, bytes);
    p->request = r;
    m->n++;
    return TAUT_OK;
}

static taut_status mpi_isend(taut__transport *t, taut__request *r, int peer, int tag, const void *buf, size_t bytes)
{
    return start(self_of(t), r, true, peer, tag, (void *)(uintptr_t)buf, bytes);
}

static taut_status mpi_irecv(taut__transport *t, taut__request *r, int peer, int tag, void *buf, size_t room)
{
    return start(self_of(t), r, false, peer, tag, buf, room);
}

static void release_type(taut__mpi_pending *p)
{
    if (p->type != MPI_BYTE) MPI_Type_free(&p->type);
}

static void finish(taut__mpi_pending *p, const MPI_Status *s)
{
    MPI_Count got = 0;
    if (!p->request->send) MPI_Get_elements_x(s, p->type, &got);
    release_type(p);
    p->request->got = (size_t)got;
    taut__request_end(p->request);
}

/* Finished requests are MPI_REQUEST_NULL; keep the others dense, in order. */
static void compact(taut__mpi *m)
{
    size_t to = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (m->request[i] == MPI_REQUEST_NULL) continue;
        m->request[to] = m->request[i];
        m->owner[to++] = m->owner[i];
    }
    m->n = to;
}

static void take(taut__mpi *m, int i)
{
    taut__mpi_pending *p = &m->owner[m->index[i]];
    if (p->request) finish(p, &m->status[i]);
    else m->listening = false, m->news = true;
}

/* Of what has ended some may be whole, and a notice among it says more than MPI does: that is heard first. */
static taut_status poll_failed(taut__mpi *m, int rc, int count)
{
    int class = rc;
    MPI_Error_class(rc, &class);
    for (int i = 0; class == MPI_ERR_IN_STATUS && i < count; i++) {
        if (m->status[i].MPI_ERROR == MPI_SUCCESS) take(m, i);
        else rc = m->status[i].MPI_ERROR;
    }
    compact(m);
    m->broken = rc;
    return m->news ? TAUT_OK : taut__mpi_call_failed(m, m->comm, rc, "message");
}

taut_status taut__mpi_poll(taut__transport *t)
{
    taut__mpi *m = self_of(t);
    int        count = 0;
    if (m->broken != MPI_SUCCESS) return taut__mpi_call_failed(m, m->comm, m->broken, "message");
    if (m->n == 0) return TAUT_OK;
    taut__mpi_into(m);
    int rc = MPI_Testsome((int)m->n, m->request, &count, m->index, m->status);
    taut__mpi_out(m);
    if (rc != MPI_SUCCESS) return poll_failed(m, rc, count);
    if (count == MPI_UNDEFINED || count == 0) return TAUT_OK;
    for (int i = 0; i < count; i++) take(m, i);
    compact(m);
    return TAUT_OK;
}

/* Somebody else may need the core: another rank, or the program's own threads. */
static void mpi_idle(taut__transport *t, int us)
{
    (void)t;
    struct timespec nap = {0, us * 1000L};
    nanosleep(&nap, NULL);
}

/* Cancelling sends is not dependable, and MPI 4 drops it. A receive that has been matched is not cancelled either: then MPI still
 * writes into its buffer, whenever the sender goes on, unless the message happens to be complete now. */
static void give_up(taut__mpi *m, MPI_Request *request, const taut__request *r)
{
    int over = 0;
    if (!r->send) {
        taut__mpi_into(m);
        MPI_Cancel(request);
        MPI_Test(request, &over, MPI_STATUS_IGNORE);
        taut__mpi_out(m);
    }
    if (over || *request == MPI_REQUEST_NULL) return; /* NULL also where MPI_Testsome has failed on it */
    m->base.dirty = true;
    if (!r->send)
        taut__log(TAUT_LOG_WARN, "comm",
                  "a receive of up to %zu bytes from rank %d cannot be cancelled: MPI may write to %p until "
                  "MPI_Finalize",
                  r->bytes, r->peer, r->buf);
    MPI_Request_free(request);
}

static void mpi_cancel(taut__transport *t, taut__request *r)
{
    taut__mpi *m = self_of(t);
    if (taut__done(r)) return;
    for (size_t i = 0; i < m->n; i++) {
        if (m->owner[i].request != r) continue;
        if (m->request[i] != MPI_REQUEST_NULL) give_up(m, &m->request[i], r);
        m->request[i] = MPI_REQUEST_NULL;
        release_type(&m->owner[i]);
        compact(m);
        break;
    }
    taut__request_end(r);
}

static taut_status mpi_reserve(taut__transport *t, size_t requests)
{
    taut__mpi *m = self_of(t);
    size_t     room = m->room + requests;
    if (room > INT32_MAX || !taut__grow(&m->request, m->n, room, sizeof *m->request) ||
        !taut__grow(&m->owner, m->n, room, sizeof *m->owner) || !taut__grow(&m->status, 0, room, sizeof *m->status) ||
        !taut__grow(&m->index, 0, room, sizeof *m->index))
        return taut__fail(TAUT_E_NOMEM, "MPI: out of memory for %zu requests", room);
    m->room = room;
    return TAUT_OK;
}

/* ---- native sums ---- */

static taut_status sum_piece(taut__mpi *m, void *buf, int n, taut__number kind)
{
    MPI_Datatype type = kind == TAUT_NUMBER_F32 ? MPI_FLOAT : MPI_INT32_T;
    const char  *what = "MPI_Allreduce";
    int          rc;
    if (m->exact || kind == TAUT_NUMBER_I32) {
        rc = MPI_Allreduce(MPI_IN_PLACE, buf, n, type, MPI_SUM, m->native);
    } else {
        bool root = m->base.rank == 0;
        what = "MPI_Reduce";
        rc = MPI_Reduce(root ? MPI_IN_PLACE : buf, root ? buf : NULL, n, type, MPI_SUM, 0, m->native);
        if (rc == MPI_SUCCESS) what = "MPI_Bcast", rc = MPI_Bcast(buf, n, type, 0, m->native);
    }
    return rc == MPI_SUCCESS ? TAUT_OK : taut__mpi_call_failed(m, m->native, rc, what);
}

static taut_status mpi_allreduce(taut__transport *t, void *buf, size_t n, taut__number kind)
{
    for (size_t at = 0; at < n; at += WHOLE_MAX) {
        int m = (int)(n - at < WHOLE_MAX ? n - at : WHOLE_MAX);
        TAUT_TRY(sum_piece(self_of(t), (char *)buf + 4 * at, m, kind));
    }
    return TAUT_OK;
}

/* MPI recommends, but does not promise, that all ranks get the same bits. Sums of numbers of very different size are
 * tried at the sizes where Open MPI and MPICH change their algorithms. */
enum { CHECK_MOST = 100003 };
static taut_status check_native(taut__mpi *m, float *x) /* x: CHECK_MOST floats of scratch */
{
    static const int sizes[] = {1, 7, 100, 2049, 20000, CHECK_MOST};
    int              same = 1;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        taut__rng g = taut__rng_of(CHECK_SEED, (uint64_t)(uint32_t)m->base.rank << 32);
        uint64_t  h[2] = {0, 0}, all[2];
        for (int i = 0; i < sizes[k]; i++) {
            uint32_t r = taut__random32(g, (uint32_t)i);
            x[i] = (float)((double)r - 2e9) * (r & 1 ? 1e-6f : r & 2 ? 1.0f : 1e6f);
        }
        int rc = MPI_Allreduce(MPI_IN_PLACE, x, sizes[k], MPI_FLOAT, MPI_SUM, m->native);
        h[0] = XXH3_64bits(x, (size_t)sizes[k] * sizeof *x);
        h[1] = ~h[0];
        if (rc == MPI_SUCCESS) rc = MPI_Allreduce(h, all, 2, MPI_UINT64_T, MPI_MAX, m->native);
        if (rc != MPI_SUCCESS) return taut__mpi_failed(rc, "MPI_Allreduce");
        same &= all[0] == ~all[1];
    }
    m->exact = same;
    if (!same) taut__log(TAUT_LOG_INFO, "comm", "MPI_Allreduce differs between ranks; using MPI_Reduce and MPI_Bcast");
    return TAUT_OK;
}

/* ---- failure ---- */

/* MPI_Abort may wait for those it cannot reach: not for ever. */
void taut__mpi_end_job(taut__transport *t, const char *why)
{
    fprintf(stderr, "taut: rank %d: %s\n", t->rank, why);
    fflush(stderr);
    signal(SIGALRM, SIG_DFL);
    alarm(ABORT_S);
    MPI_Abort(MPI_COMM_WORLD, 1);
    abort();
}

/* ---- life ---- */

void taut__mpi_stop_listening(taut__mpi *m)
{
    for (size_t i = 0; m->listening && i < m->n; i++)
        if (!m->owner[i].request && m->request[i] != MPI_REQUEST_NULL) {
            MPI_Cancel(&m->request[i]);
            MPI_Request_free(&m->request[i]);
        }
    m->listening = false;
}

/* Pending notices point into *m, and pending sends into their owners' memory: after a failure both stay. */
void taut__mpi_release(taut__mpi *m)
{
    taut__transport *t = &m->base;
    if (m->comm != MPI_COMM_NULL) MPI_Comm_free(&m->comm);
    if (m->native != MPI_COMM_NULL) MPI_Comm_free(&m->native);
    if (m->given != MPI_COMM_NULL) MPI_Comm_free(&m->given);
    taut__free(m->request), taut__free(m->status), taut__free(m->index), taut__free(m->owner);
    taut__free(m->tell), taut__free(m->telling);
    taut__free(t->host), taut__free(m->gone);
    taut__free(t);
}

static void mpi_destroy(taut__transport *t)
{
    if (!t) return;
    taut__mpi *m = self_of(t);
    int        gone = 0;
    MPI_Finalized(&gone);
    if (gone) return;
    if (m->leaves && !m->failed && !t->dirty) {
        taut__mpi_bury(m);
        return;
    }
    taut__mpi_stop_listening(m);
    if (!m->failed && !t->dirty) taut__mpi_release(m);
}

static taut_status mpi_shrink(taut__transport *t, int wait_ms, taut__transport **smaller, int *old)
{
    MPI_Comm left;
    TAUT_TRY(taut__mpi_survivors(t, wait_ms, &left, old));
    taut__mpi_into(self_of(t)); /* all of those who are left are there, but one may be lost now */
    taut_status s = taut__mpi_go_on(self_of(t), &left, old, taut__mpi_create, smaller);
    taut__mpi_out(self_of(t));
    if (s == TAUT_OK) self_of(*smaller)->given = left;
    return s;
}

static bool mpi_all_agree(taut__transport *t, bool mine)
{
    taut__mpi *m = self_of(t);
    if (!m->mitigates) return mine;
    taut__mpi_into(m);
    taut__mpi_lost(m->comm, m->gone); /* no news any more */
    mine = taut__mpi_agree_on(m->comm, mine);
    taut__mpi_out(m);
    return mine;
}

static const taut__transport_ops ops = {
    .name = "mpi",
    .isend = mpi_isend,
    .irecv = mpi_irecv,
    .poll = taut__mpi_poll,
    .idle = mpi_idle,
    .cancel = mpi_cancel,
    .reserve = mpi_reserve,
    .allreduce = mpi_allreduce,
    .end_job = taut__mpi_end_job,
    .abort = taut__mpi_abort,
    .tell = taut__mpi_tell,
    .heard = taut__mpi_heard,
    .aborted = taut__mpi_aborted,
    .shrink = mpi_shrink,
    .all_agree = mpi_all_agree,
    .destroy = mpi_destroy,
};

/* host[r]: hosts are numbered in order of their lowest rank. */
static taut_status find_hosts(taut__mpi *m, int fake_hosts)
{
    int      size = m->base.size, lowest = m->base.rank, *first = m->base.host;
    MPI_Comm local;
    if (fake_hosts > 0) {
        for (int r = 0; r < size; r++) first[r] = r / fake_hosts;
        return TAUT_OK;
    }
    MPI_TRY(MPI_Comm_split_type(m->comm, MPI_COMM_TYPE_SHARED, m->base.rank, MPI_INFO_NULL, &local),
            "MPI_Comm_split_type");
    int rc = MPI_Bcast(&lowest, 1, MPI_INT, 0, local);
    if (rc != MPI_SUCCESS) taut__mpi_revoke(local); /* for those who wait for this rank in it */
    MPI_Comm_free(&local);
    if (rc == MPI_SUCCESS) rc = MPI_Allgather(&lowest, 1, MPI_INT, first, 1, MPI_INT, m->comm);
    if (rc != MPI_SUCCESS) return taut__mpi_failed(rc, "finding the ranks of each host");
    for (int r = 0, hosts = 0; r < size; r++) first[r] = first[r] == r ? hosts++ : first[first[r]];
    return TAUT_OK;
}

static taut_status open_comms(taut__mpi *m, MPI_Comm mpi)
{
    int level = MPI_THREAD_SINGLE, found = 0, *tag_ub = NULL;
    MPI_TRY(MPI_Comm_dup(mpi, &m->comm), "MPI_Comm_dup");
    MPI_TRY(MPI_Comm_dup(mpi, &m->native), "MPI_Comm_dup");
    MPI_Comm_set_errhandler(m->comm, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(m->native, MPI_ERRORS_RETURN);
    MPI_TRY(MPI_Comm_rank(m->comm, &m->base.rank), "MPI_Comm_rank");
    MPI_TRY(MPI_Comm_size(m->comm, &m->base.size), "MPI_Comm_size");
    MPI_TRY(MPI_Query_thread(&level), "MPI_Query_thread");
    MPI_TRY(MPI_Comm_get_attr(m->comm, MPI_TAG_UB, &tag_ub, &found), "MPI_TAG_UB");
    m->base.threads = level == MPI_THREAD_MULTIPLE;
    m->base.tag_max = found ? *tag_ub : 32767;
    return TAUT_OK;
}

/* A rank that lacks memory must not leave the others in a collective: memory first, then all ranks agree. */
static taut_status allocate(taut__mpi *m, float **scratch)
{
    m->base.host = taut__alloc((size_t)m->base.size, sizeof *m->base.host);
    m->tell = taut__alloc((size_t)m->base.size, sizeof *m->tell);
    m->telling = taut__alloc((size_t)m->base.size, sizeof *m->telling);
    m->gone = taut__alloc((size_t)m->base.size, sizeof *m->gone);
    *scratch = taut__alloc(CHECK_MOST, sizeof **scratch);
    for (int r = 0; m->telling && r < m->base.size; r++) m->telling[r] = MPI_REQUEST_NULL;
    if (!m->base.host || !m->tell || !m->telling || !m->gone || !*scratch)
        return taut__fail(TAUT_E_NOMEM, "MPI: out of memory for %d ranks", m->base.size);
    for (int r = 0; r < m->base.size; r++) m->tell[r] = MPI_REQUEST_NULL;
    return mpi_reserve(&m->base, 16);
}

static taut_status prepare(taut__mpi *m, int fake_hosts, float *scratch)
{
    TAUT_TRY(find_hosts(m, fake_hosts));
    TAUT_TRY(check_native(m, scratch));
    m->job = taut__seed((uint64_t)(1e9 * taut__now()), (uint64_t)getpid());
    MPI_TRY(MPI_Bcast(&m->job, 1, MPI_UINT64_T, 0, m->comm), "MPI_Bcast");
    m->base.job = m->job;
    MPI_TRY(
        MPI_Irecv(&m->heard, sizeof m->heard, MPI_BYTE, MPI_ANY_SOURCE, TAUT_MPI_TAG_NOTICE, m->comm, &m->request[0]),
        "receive");
    m->owner[0] = (taut__mpi_pending){NULL, MPI_BYTE};
    m->n = 1;
    m->listening = true;
    return TAUT_OK;
}

taut_status taut__mpi_create(const void *mpi, int fake_hosts, taut__transport **t)
{
    _Static_assert(sizeof(taut__notice) == 512, "a notice is a message");
    int up = 0;
    *t = NULL;
    MPI_Initialized(&up);
    if (!up) return taut__fail(TAUT_E_STATE, "taut_comm_create_mpi: MPI_Init has not been called");
    MPI_Comm from = *(const MPI_Comm *)mpi;
    float   *scratch = NULL;
    taut__mpi_visit_buried();
    taut__mpi  *m = taut__alloc(1, sizeof *m);
    taut_status s = taut__mpi_agree(from, m ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "MPI: out of memory"));
    if (s != TAUT_OK || !m) {
        taut__free(m);
        return s;
    }
    m->base.ops = &ops;
    m->base.calls = m->calls;
    m->comm = m->native = m->given = MPI_COMM_NULL;
    s = open_comms(m, from);
    if (s == TAUT_OK) taut__log_rank(m->base.rank);
    if (s == TAUT_OK) s = allocate(m, &scratch);
    s = taut__mpi_agree(from, s);
    if (scratch && s == TAUT_OK) s = taut__mpi_agree(from, prepare(m, fake_hosts, scratch));
    taut__free(scratch);
    if (s == TAUT_OK) *t = &m->base;
    else taut__mpi_revoke(m->comm), taut__mpi_revoke(m->native), mpi_destroy(&m->base);
    return s;
}
