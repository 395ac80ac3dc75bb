/* transport_tcp.c : ranks are processes with a TCP connection between every two of them (tcp_mesh.c), each a stream of messages
 * (tcp_stream.c). One epoll set tells which may be read, or written again. Sums without a codec go by messages.
 *
 * The end. A kernel that gets bytes for a socket which has been closed answers with a reset, and then what still lay in its own buffer for the
 * other side is lost. So destroy() waits until all that was sent has been acknowledged, and reads on meanwhile. A failure that came from
 * another rank is passed on before: else one who sees this rank's connection close first would blame this rank. */
#include "transport_tcp.h"
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <time.h>

enum { EVENTS = 64, IDLE_MOST_US = 1000 };
static const double STILL_S = 2, ABORT_S = 0.2; /* how long nothing may move until what is left to send is given up */

typedef taut__tcp tcp;

static tcp *self_of(taut__transport *t) { return (tcp *)t; }

/* ---- children: they close what they inherit, so that a connection ends with the process that has it ---- */

static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static tcp            *all;

static void before_fork(void) { pthread_mutex_lock(&all_lock); }
static void in_parent(void) { pthread_mutex_unlock(&all_lock); }
static void in_child(void)
{
    for (tcp *m = all; m; m = m->next) {
        taut__tcp_close(&m->epoll);
        for (int r = 0; r < m->base.size; r++)
            if (m->stream[r]) taut__tcp_close(&m->stream[r]->fd);
    }
    all = NULL;
    pthread_mutex_unlock(&all_lock);
}
static void watch_forks(void) { pthread_atfork(before_fork, in_parent, in_child); }

static void enlist(tcp *m)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&all_lock);
    m->next = all;
    all = m;
    pthread_mutex_unlock(&all_lock);
}

static void delist(const tcp *m)
{
    pthread_mutex_lock(&all_lock);
    tcp **at = &all;
    while (*at && *at != m) at = &(*at)->next;
    if (*at) *at = m->next;
    pthread_mutex_unlock(&all_lock);
}

/* ---- messages ---- */

static void listen_to(tcp *m, int r)
{
    taut__tcp_stream *s = m->stream[r];
    bool              writes = taut__tcp_stream_writes(s);
    if (s->gone || writes == m->listens[r]) return;
    struct epoll_event e = {.events = EPOLLIN | (writes ? EPOLLOUT : 0), .data.u32 = (uint32_t)r};
    if (epoll_ctl(m->epoll, EPOLL_CTL_MOD, s->fd, &e) == 0) m->listens[r] = writes;
}

static taut_status tcp_isend(taut__transport *t, taut__request *r, int peer, int tag, const void *buf, size_t bytes)
{
    taut__request_begin(r, true, peer, tag, buf, bytes);
    taut_status s = taut__tcp_stream_send(self_of(t)->stream[peer], r);
    listen_to(self_of(t), peer);
    return s;
}

static taut_status tcp_irecv(taut__transport *t, taut__request *r, int peer, int tag, void *buf, size_t room)
{
    taut__request_begin(r, false, peer, tag, buf, room);
    taut_status s = taut__tcp_stream_recv(self_of(t)->stream[peer], r);
    listen_to(self_of(t), peer);
    return s;
}

static void hear_survivor(tcp *m, int r, const taut__notice *n)
{
    if (n->word == TAUT_WORD_HERE) m->here[r] = (uint16_t)n->index;
    else if (!m->settled) m->belong = *n, m->settled = true;
}

/* A word of rank r, or a failure, the first of which counts. */
static void hear(tcp *m, int r, const taut__notice *n)
{
    if (n->status != TAUT_OK) {
        if (!m->failed) m->told = *n, m->came = true;
        m->failed = true;
        return;
    }
    if (n->word == TAUT_WORD_HERE || n->word == TAUT_WORD_BELONG) {
        hear_survivor(m, r, n);
        return;
    }
    m->word[m->words++ % TAUT_TCP_WORDS] = *n;
    if (m->words - m->heard > TAUT_TCP_WORDS) m->heard = m->words - TAUT_TCP_WORDS;
}

taut_status taut__tcp_read(tcp *m, int r)
{
    taut__tcp_stream *s = m->stream[r];
    do {
        s->news = false;
        TAUT_TRY(taut__tcp_stream_read(s));
        if (s->news) hear(m, r, &s->heard);
    } while (s->news);
    if (s->gone) epoll_ctl(m->epoll, EPOLL_CTL_DEL, s->fd, NULL);
    return TAUT_OK;
}

static taut_status tcp_poll(taut__transport *t)
{
    tcp               *m = self_of(t);
    struct epoll_event e[EVENTS];
    if (t->size == 1) return TAUT_OK;
    int n = epoll_wait(m->epoll, e, EVENTS, 0);
    if (n < 0 && errno != EINTR) return taut__fail(TAUT_E_TRANSPORT, "TCP: epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        int               r = (int)e[i].data.u32;
        taut__tcp_stream *s = m->stream[r];
        if (e[i].events & EPOLLOUT) TAUT_TRY(taut__tcp_stream_write(s));
        if (e[i].events & ~(uint32_t)EPOLLOUT) TAUT_TRY(taut__tcp_read(m, r));
        listen_to(m, r);
    }
    if (m->failed) return TAUT_OK; /* the reason is known, and it is not that connections end */
    for (int r = 0; r < t->size; r++)
        if (m->stream[r] && m->stream[r]->gone) TAUT_TRY(taut__tcp_stream_missed(m->stream[r]));
    return TAUT_OK;
}

/* Whatever a rank waits for wakes it, except its own threads of codecs. */
static void tcp_idle(taut__transport *t, int us)
{
    struct pollfd   p = {.fd = self_of(t)->epoll, .events = POLLIN};
    int             nap = us < IDLE_MOST_US ? IDLE_MOST_US : us;
    struct timespec ts = {nap / 1000000, nap % 1000000 * 1000L};
    ppoll(&p, 1, &ts, NULL);
}

static void tcp_cancel(taut__transport *t, taut__request *r)
{
    if (!taut__done(r)) taut__tcp_stream_cancel(self_of(t)->stream[r->peer], r);
}

/* ---- words and failures ---- */

static uint64_t unsent(const tcp *m, bool kernels) /* bytes, roughly; 0: all is gone, and with kernels: acknowledged */
{
    uint64_t left = 0;
    for (int r = 0; r < m->base.size; r++) {
        const taut__tcp_stream *s = m->stream[r];
        int                     queued = 0;
        if (!s || s->gone) continue;
        if (taut__tcp_stream_writes(s)) left += 1 + s->body_left + 1000 * (uint64_t)s->words;
        if (kernels && ioctl(s->fd, SIOCOUTQ, &queued) == 0) left += (uint64_t)queued;
    }
    return left;
}

/* Until all is sent, or nothing has moved for so long. Reads on: a peer that has no room for what it wants to say would not listen. */
static void flush(tcp *m, bool last, double still_s)
{
    double   moved = taut__now();
    uint64_t before = UINT64_MAX;
    for (uint64_t left; (left = unsent(m, last)) > 0 && taut__now() - moved < still_s;) {
        if (left != before) moved = taut__now();
        before = left;
        for (int r = 0; r < m->base.size; r++) {
            if (!m->stream[r]) continue;
            if (last) taut__tcp_stream_drain(m->stream[r]);
            if (taut__tcp_stream_write(m->stream[r]) != TAUT_OK) m->stream[r]->gone = true;
        }
        if (unsent(m, last) > 0) nanosleep(&(struct timespec){0, 100000}, NULL);
    }
}

void taut__tcp_say(tcp *m, int peer, const taut__notice *word)
{
    for (int r = 0; r < m->base.size; r++) {
        if (!m->stream[r] || (peer >= 0 && r != peer)) continue;
        taut__tcp_stream_tell(m->stream[r], word);
        if (taut__tcp_stream_write(m->stream[r]) == TAUT_OK) listen_to(m, r);
    }
}

void taut__tcp_flush(tcp *m)
{
    for (int r = 0; r < m->base.size; r++)
        if (m->stream[r]) (void)taut__tcp_stream_write(m->stream[r]);
}

static void tcp_abort(taut__transport *t, const taut__notice *why)
{
    tcp *m = self_of(t);
    if (m->failed) return;
    m->failed = true;
    m->told = *why;
    taut__tcp_say(m, -1, why);
    flush(m, false, ABORT_S);
}

static bool tcp_aborted(taut__transport *t, taut__notice *why)
{
    tcp *m = self_of(t);
    if (!m->came) return false;
    m->came = false;
    *why = m->told;
    return true;
}

static void tcp_tell(taut__transport *t, int peer, const taut__notice *word)
{
    if (!self_of(t)->failed) taut__tcp_say(self_of(t), peer, word);
}

static bool tcp_heard(taut__transport *t, taut__notice *word)
{
    tcp *m = self_of(t);
    if (m->heard == m->words) return false;
    *word = m->word[m->heard++ % TAUT_TCP_WORDS];
    return true;
}

/* ---- life ---- */

static void release(tcp *m)
{
    for (int r = 0; m->stream && r < m->base.size; r++) {
        if (!m->stream[r]) continue;
        taut__tcp_close(&m->stream[r]->fd);
        taut__tcp_stream_release(m->stream[r]);
        taut__free(m->stream[r]);
    }
    taut__tcp_close(&m->epoll);
    taut__free(m->stream), taut__free(m->listens), taut__free(m->here);
    taut__free(m->base.host);
    taut__free(m);
}

static void tcp_destroy(taut__transport *t)
{
    if (!t) return;
    tcp *m = self_of(t);
    delist(m);
    if (m->failed && m->told.rank != t->rank) taut__tcp_say(m, -1, &m->told);
    flush(m, true, STILL_S);
    release(m);
}

static const taut__transport_ops ops = {
    .name = "tcp",
    .isend = tcp_isend,
    .irecv = tcp_irecv,
    .poll = tcp_poll,
    .idle = tcp_idle,
    .cancel = tcp_cancel,
    .reserve = taut__reserves_nothing,
    .abort = tcp_abort,
    .aborted = tcp_aborted,
    .tell = tcp_tell,
    .heard = tcp_heard,
    .shrink = taut__tcp_shrink,
    .destroy = tcp_destroy,
};

/* Hosts are numbered in order of their lowest rank. */
static void number_hosts(tcp *m, const uint64_t *hosts, int fake_hosts)
{
    int found = 0;
    for (int r = 0; r < m->base.size; r++) {
        int first = 0;
        while (hosts[first] != hosts[r]) first++;
        m->base.host[r] = fake_hosts > 0 ? r / fake_hosts : first < r ? m->base.host[first] : found++;
    }
}

static taut_status open_streams(tcp *m, uint64_t job, int *fd)
{
    m->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (m->epoll < 0) return taut__fail(TAUT_E_TRANSPORT, "TCP: epoll_create1: %s", strerror(errno));
    for (int r = 0; r < m->base.size; r++) {
        if (r == m->base.rank) continue;
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)r};
        m->stream[r] = taut__alloc(1, sizeof **m->stream);
        if (!m->stream[r]) return taut__fail(TAUT_E_NOMEM, "TCP: out of memory for %d ranks", m->base.size);
        taut__tcp_stream_init(m->stream[r], fd[r], r, job);
        fd[r] = -1;
        if (epoll_ctl(m->epoll, EPOLL_CTL_ADD, m->stream[r]->fd, &e) != 0)
            return taut__fail(TAUT_E_TRANSPORT, "TCP: epoll_ctl: %s", strerror(errno));
    }
    return TAUT_OK;
}

static tcp *allocate(int rank, int ranks, uint64_t job)
{
    tcp *m = taut__alloc(1, sizeof *m);
    if (!m) return NULL;
    m->base =
        (taut__transport){.ops = &ops, .rank = rank, .size = ranks, .threads = true, .tag_max = INT32_MAX, .job = job};
    m->epoll = -1;
    m->base.host = taut__alloc((size_t)ranks, sizeof *m->base.host);
    m->stream = taut__alloc((size_t)ranks, sizeof(taut__tcp_stream *));
    m->listens = taut__alloc((size_t)ranks, sizeof *m->listens);
    m->here = taut__alloc((size_t)ranks, sizeof *m->here);
    if (m->base.host && m->stream && m->listens && m->here) return m;
    release(m);
    return NULL;
}

taut_status taut__tcp_create(int rank, int ranks, uint64_t job, const uint64_t *hosts, int fake_hosts, int listener,
                             int *fd, taut__transport **t)
{
    socklen_t length = sizeof(struct sockaddr_storage);
    _Static_assert(sizeof(taut__notice) == 512, "a notice is a message");
    tcp        *m = allocate(rank, ranks, job);
    taut_status s = m ? open_streams(m, job, fd) : taut__fail(TAUT_E_NOMEM, "TCP: out of memory for %d ranks", ranks);
    *t = NULL;
    for (int r = 0; r < ranks; r++) taut__tcp_close(&fd[r]); /* those that it did not come to */
    if (s == TAUT_OK && m) {
        number_hosts(m, hosts, fake_hosts);
        if (listener >= 0 && getsockname(listener, (void *)&m->listened, &length) != 0) m->listened.ss_family = 0;
        enlist(m);
        *t = &m->base;
    } else if (m) {
        release(m);
    }
    return s;
}
