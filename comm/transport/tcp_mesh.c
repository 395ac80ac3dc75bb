/* tcp_mesh.c : a connection between every two ranks. The lower one connects to the higher, at its candidates in turn; each says
 * who it is and whom it means, so that a connection to somebody else, or from a stranger, is known and closed. */
#include "tcp.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const double TRY_S = 3; /* with one candidate, where there are others */

typedef struct call { /* to one higher rank */
    struct sockaddr_storage to[TAUT_TCP_ADDRESSES + 1];
    int                     candidates, at;
    int                     fd;   /* -1: none under way */
    bool                    said; /* our words are sent */
    size_t                  got;
    taut__tcp_hello         answer;
    double                  since, rest;                   /* rest: not before */
    int                     why;                           /* errno of the last failure */
    int8_t                  tried[TAUT_TCP_ADDRESSES + 1]; /* how far each candidate came, last time */
    int                     error[TAUT_TCP_ADDRESSES + 1]; /* with FAILED: its errno */
} call;

enum { UNTRIED, SILENT, DEAF, OTHER, FAILED };

typedef struct mesh {
    int               rank, ranks;
    uint64_t          job;
    int              *fd;
    call             *call; /* by rank */
    taut__tcp_greeter greeter;
} mesh;

static void note(call *c, int how, int error)
{
    c->tried[c->at] = (int8_t)how;
    c->error[c->at] = error;
    c->why = error;
}

/* To the next candidate; what became of this one has been noted. */
static void give_up(call *c)
{
    taut__tcp_close(&c->fd);
    c->said = false;
    c->got = 0;
    c->at = (c->at + 1) % c->candidates;
    c->rest = c->at == 0 ? taut__now() + 0.05 : 0; /* all have been tried */
}

static void fail(call *c, int how, int error)
{
    note(c, how, error);
    give_up(c);
}

static void say_who(mesh *m, int peer, call *c)
{
    taut__tcp_hello h;
    int             there = taut__tcp_connected(c->fd, 0);
    if (there < 0) fail(c, FAILED, errno);
    if (there <= 0) return;
    taut__tcp_hello_fill(&h, TAUT_TCP_TO_STAY, m->rank, peer, m->ranks, m->job);
    if (send(c->fd, &h, sizeof h, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof h) {
        c->said = true;
        note(c, DEAF, 0);
        return;
    }
    fail(c, FAILED, errno); /* the first bytes: there is room */
}

static void hear_answer(mesh *m, int peer, call *c)
{
    ssize_t k = recv(c->fd, (char *)&c->answer + c->got, sizeof c->answer - c->got, MSG_DONTWAIT);
    if (k == 0) fail(c, OTHER, 0);
    else if (k < 0 && errno != EAGAIN && errno != EINTR) fail(c, FAILED, errno);
    if (k <= 0 || (c->got += (size_t)k) < sizeof c->answer) return;
    const taut__tcp_hello *h = &c->answer;
    bool him = taut__tcp_hello_good(h) && h->version == TAUT_TCP_VERSION && h->job == m->job && h->from == peer &&
               h->to == m->rank;
    if (!him) {
        fail(c, OTHER, 0);
        return;
    }
    m->fd[peer] = c->fd;
    c->fd = -1;
}

static void advance(mesh *m, int peer)
{
    call *c = &m->call[peer];
    if (m->fd[peer] >= 0 || c->candidates == 0) return;
    if (c->fd < 0) {
        if (taut__now() < c->rest) return;
        c->since = taut__now();
        c->fd = taut__tcp_connect(&c->to[c->at]);
        if (c->fd >= 0) note(c, SILENT, 0);
        else fail(c, FAILED, errno);
        return;
    }
    if (!c->said) say_who(m, peer, c);
    else hear_answer(m, peer, c);
    if (c->fd >= 0 && c->candidates > 1 && taut__now() - c->since > TRY_S) give_up(c);
}

static bool answer(mesh *m, int fd, const taut__tcp_hello *h)
{
    taut__tcp_hello mine;
    bool            ours = h->kind == TAUT_TCP_TO_STAY && h->version == TAUT_TCP_VERSION && h->job == m->job &&
                h->ranks == m->ranks && h->to == m->rank && h->from < m->rank;
    if (!ours) return false;
    taut__tcp_hello_fill(&mine, TAUT_TCP_TO_STAY, m->rank, h->from, m->ranks, m->job);
    if (send(fd, &mine, sizeof mine, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof mine) return false;
    taut__tcp_close(&m->fd[h->from]); /* an earlier one, which it has given up */
    m->fd[h->from] = fd;
    return true;
}

static int first_missing(const mesh *m)
{
    for (int r = 0; r < m->ranks; r++)
        if (r != m->rank && m->fd[r] < 0) return r;
    return -1;
}

/* Of this rank, which the others would wait for in vain. */
static int exhausted(const mesh *m)
{
    for (int r = m->rank + 1; r < m->ranks; r++)
        if (m->fd[r] < 0 && taut__tcp_exhausted(m->call[r].why)) return m->call[r].why;
    return m->greeter.why;
}

static const char *what_became(const call *c, int i)
{
    return c->tried[i] == UNTRIED  ? "not tried"
           : c->tried[i] == SILENT ? TAUT_TCP_SILENT
           : c->tried[i] == DEAF   ? "connected, but no word of it"
           : c->tried[i] == OTHER  ? "somebody else answers there"
                                   : strerror(c->error[i]);
}

static taut_status late(const mesh *m, int peer, int32_t connect_ms)
{
    char        where[600] = "";
    const call *c = &m->call[peer];
    if (peer < m->rank)
        return taut__fail(TAUT_E_TIMEOUT, "taut_comm_create_tcp: rank %d has not connected to rank %d within %d ms",
                          peer, m->rank, (int)connect_ms);
    for (int i = 0; i < c->candidates; i++) {
        char text[64];
        taut__tcp_address_text(&c->to[i], text, sizeof text);
        size_t at = strlen(where);
        snprintf(where + at, sizeof where - at, "%s%s: %s", at ? "; " : "", text, what_became(c, i));
    }
    return taut__fail(TAUT_E_TIMEOUT, "taut_comm_create_tcp: rank %d cannot reach rank %d within %d ms: %s", m->rank,
                      peer, (int)connect_ms, *where ? where : "it has no address");
}

static taut_status connect_all(mesh *m, int32_t connect_ms)
{
    double until = taut__tcp_deadline(connect_ms);
    for (int missing; (missing = first_missing(m)) >= 0;) {
        taut__tcp_hello h;
        for (int r = m->rank + 1; r < m->ranks; r++) advance(m, r);
        int fd = taut__tcp_greet(&m->greeter, 2, &h);
        if (fd >= 0 && !answer(m, fd, &h)) close(fd);
        int why = exhausted(m);
        if (why)
            return taut__fail(TAUT_E_TRANSPORT, "taut_comm_create_tcp: rank %d cannot connect: %s", m->rank,
                              strerror(why));
        if (taut__now() > until && first_missing(m) >= 0) return late(m, missing, connect_ms);
    }
    return TAUT_OK;
}

void *taut__tcp_mesh_room(int ranks) { return taut__alloc((size_t)ranks, sizeof(call)); }

taut_status taut__tcp_mesh(int listener, const taut__tcp_card *cards, int rank, int ranks, uint64_t job,
                           int32_t connect_ms, void *room, int *fd)
{
    mesh m = {.rank = rank, .ranks = ranks, .job = job, .fd = fd, .call = room, .greeter.listener = listener};
    for (int r = 0; r < ranks; r++) fd[r] = -1;
    if (!room) return taut__fail(TAUT_E_NOMEM, "taut_comm_create_tcp: out of memory");
    for (int r = 0; r < ranks; r++) {
        m.call[r].fd = -1;
        if (r > rank) m.call[r].candidates = taut__tcp_candidates(&cards[rank], &cards[r], m.call[r].to);
    }
    taut_status s = connect_all(&m, connect_ms);
    for (int r = 0; r < ranks; r++) {
        taut__tcp_close(&m.call[r].fd);
        if (s != TAUT_OK) taut__tcp_close(&fd[r]);
    }
    m.greeter.listener = -1; /* the caller's */
    taut__tcp_greeter_close(&m.greeter);
    return s;
}
