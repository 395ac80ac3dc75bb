/* tcp_meet.c : an allgather for ranks that have no connections yet: by the program's own callback, or over rank 0, which listens where
 * all know. There every other rank connects, and in each round sends its bytes and gets those of all. */
#include "tcp.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const double PART_S = 1;

typedef struct reply { /* before the bytes of all */
    int32_t status;
    char    text[252];
} reply;

/* ---- rank 0 ---- */

static void missing_ranks(const taut__tcp_meeting *m, char *dst, size_t cap)
{
    size_t at = 0;
    dst[0] = 0;
    for (int r = 1; r < m->ranks && at + 16 < cap; r++)
        if (m->guest[r] < 0) at += (size_t)snprintf(dst + at, cap - at, "%s%d", at ? ", " : "", r);
}

/* Until the other side has closed: bytes of it that nobody has read would cost it what was sent last. */
static void part(int fd, double until)
{
    char rest[256];
    shutdown(fd, SHUT_WR);
    while (taut__tcp_recv_all(fd, rest, 1, until) == 0) {}
}

static taut_status refuse(int fd, taut_status s, const char *text)
{
    reply no = {.status = s};
    snprintf(no.text, sizeof no.text, "%s", text);
    taut__tcp_send_all(fd, &no, sizeof no, taut__now() + PART_S);
    part(fd, taut__now() + PART_S);
    return taut__fail(s, "%s", text);
}

/* A newcomer who is wrong fails the job, which could not become complete; who says nothing of ours has not come this far. */
static taut_status seat(taut__tcp_meeting *m, int fd, const taut__tcp_hello *h)
{
    char text[250] = "";
    if (h->version != TAUT_TCP_VERSION)
        snprintf(text, sizeof text, "taut_comm_create_tcp: rank %d has version %u of the connection, rank 0 has %d",
                 h->from, h->version, TAUT_TCP_VERSION);
    else if (h->ranks != m->ranks)
        snprintf(text, sizeof text, "taut_comm_create_tcp: rank 0 has ranks=%d, rank %d has ranks=%d", m->ranks,
                 h->from, h->ranks);
    else if (h->from == 0 || m->guest[h->from] >= 0)
        snprintf(text, sizeof text, "taut_comm_create_tcp: two processes have rank=%d", h->from);
    if (!*text) {
        m->guest[h->from] = fd;
        return TAUT_OK;
    }
    taut_status s = refuse(fd, h->version != TAUT_TCP_VERSION ? TAUT_E_VERSION : TAUT_E_MISMATCH, text);
    close(fd);
    return s;
}

static taut_status receive_all(taut__tcp_meeting *m)
{
    for (int there = 1; there < m->ranks;) {
        taut__tcp_hello h;
        char            who[120];
        int             fd = taut__tcp_greet(&m->greeter, 100, &h);
        if (fd >= 0 && h.kind != TAUT_TCP_TO_MEET) taut__tcp_close(&fd);
        if (fd >= 0) {
            TAUT_TRY(seat(m, fd, &h));
            there++;
            continue;
        }
        if (m->greeter.why)
            return taut__fail(TAUT_E_TRANSPORT, "taut_comm_create_tcp: rank 0: cannot accept connections at %s: %s",
                              m->place, strerror(m->greeter.why));
        if (taut__now() < m->until) continue;
        missing_ranks(m, who, sizeof who);
        return taut__fail(TAUT_E_TIMEOUT, "taut_comm_create_tcp: rank %s did not come to %s within %d ms", who,
                          m->place, (int)m->connect_ms);
    }
    return TAUT_OK;
}

/* One that is gone by now is missed in the next round, by all; behind the last one, by who uses the communicator. */
static void tell_guests(taut__tcp_meeting *m, taut_status s, const char *text, const void *all, size_t bytes)
{
    reply head = {.status = s};
    snprintf(head.text, sizeof head.text, "%s", text);
    for (int r = 1; r < m->ranks; r++) {
        if (m->guest[r] < 0) continue;
        if (taut__tcp_send_all(m->guest[r], &head, sizeof head, m->until) == 0)
            taut__tcp_send_all(m->guest[r], all, bytes, m->until);
    }
    double until = taut__now() + PART_S;
    for (int r = 1; r < m->ranks && s != TAUT_OK; r++)
        if (m->guest[r] >= 0) part(m->guest[r], until);
}

static taut_status gather_at_root(taut__tcp_meeting *m, const void *mine, size_t bytes, char *all)
{
    char text[200] = "";
    memcpy(all, mine, bytes);
    for (int r = 1; r < m->ranks && !*text; r++)
        if (taut__tcp_recv_all(m->guest[r], all + (size_t)r * bytes, bytes, m->until) != 0)
            snprintf(text, sizeof text, "taut_comm_create_tcp: rank %d went away while ranks connected: %s", r,
                     strerror(errno));
    if (*text) tell_guests(m, TAUT_E_PEER, text, all, 0);
    else tell_guests(m, TAUT_OK, "", all, bytes * (size_t)m->ranks);
    return *text ? taut__fail(TAUT_E_PEER, "%s", text) : TAUT_OK;
}

/* Those who come while rank 0 is about to give up learn why, too. */
static void tell_late(taut__tcp_meeting *m, taut_status s, const char *text)
{
    double          until = taut__now() + PART_S;
    taut__tcp_hello h;
    while (taut__now() < until) {
        int fd = taut__tcp_greet(&m->greeter, 100, &h);
        if (fd < 0 && m->greeter.n == 0) return;
        if (fd < 0) continue;
        refuse(fd, s, text);
        close(fd);
    }
}

static taut_status open_root(taut__tcp_meeting *m, const struct sockaddr_storage *at, int n)
{
    for (int i = 0; i < n && m->greeter.listener < 0; i++) m->greeter.listener = taut__tcp_listen(&at[i]);
    if (m->greeter.listener < 0)
        return taut__fail(TAUT_E_TRANSPORT, "taut_comm_create_tcp: rank 0 cannot listen on %s: %s", m->place,
                          strerror(errno));
    taut_status s = receive_all(m);
    if (s == TAUT_OK) { /* nobody is through with this meeting yet, so nobody has come for the next one at this place */
        taut__tcp_greeter_close(&m->greeter);
        return TAUT_OK;
    }
    taut__kept why = taut__keep_error();
    tell_guests(m, s, why.text, NULL, 0);
    tell_late(m, s, why.text);
    return taut__fail(s, "%s", why.text);
}

/* ---- other ranks ---- */

/* Rank 0 may not be there yet. */
static taut_status go_to_root(taut__tcp_meeting *m, const struct sockaddr_storage *to, int n)
{
    taut__tcp_hello h;
    taut__tcp_hello_fill(&h, TAUT_TCP_TO_MEET, m->rank, 0, m->ranks, 0);
    for (int i = 0, why = ETIMEDOUT;; i = (i + 1) % n) {
        int    fd = taut__tcp_connect(&to[i]), there = -1;
        double enough = taut__now() + 3;
        while (fd >= 0 && (there = taut__tcp_connected(fd, 100)) == 0 && taut__now() < enough &&
               taut__now() < m->until) {}
        if (there == 1 && taut__tcp_send_all(fd, &h, sizeof h, m->until) == 0) {
            m->root = fd;
            return TAUT_OK;
        }
        why = there ? errno : ETIMEDOUT; /* a refusal would have come in a tenth of a second */
        taut__tcp_close(&fd);
        if (taut__now() >= m->until || taut__tcp_exhausted(why))
            return taut__fail(taut__tcp_exhausted(why) ? TAUT_E_TRANSPORT : TAUT_E_TIMEOUT,
                              "taut_comm_create_tcp: rank %d cannot reach rank 0 at %s within %d ms: %s", m->rank,
                              m->place, (int)m->connect_ms, why == ETIMEDOUT ? TAUT_TCP_SILENT : strerror(why));
        if (i == n - 1) usleep(50000);
    }
}

static taut_status gather_elsewhere(taut__tcp_meeting *m, const void *mine, size_t bytes, char *all)
{
    reply  head = {0};
    double grace = m->until + 1;                     /* rank 0 says who did not answer */
    taut__tcp_send_all(m->root, mine, bytes, grace); /* if that fails, rank 0 has said why */
    bool heard = taut__tcp_recv_all(m->root, &head, sizeof head, grace) == 0;
    head.text[sizeof head.text - 1] = 0;
    if (heard && head.status != TAUT_OK) return taut__fail((taut_status)head.status, "%s", head.text);
    if (heard && taut__tcp_recv_all(m->root, all, bytes * (size_t)m->ranks, grace) == 0) return TAUT_OK;
    return taut__fail(errno == ETIMEDOUT ? TAUT_E_TIMEOUT : TAUT_E_PEER,
                      "taut_comm_create_tcp: rank %d: rank 0 at %s: %s", m->rank, m->place, strerror(errno));
}

/* ---- all ---- */

taut_status taut__tcp_meet(taut__tcp_meeting *m, const taut_tcp *where, int32_t connect_ms)
{
    struct sockaddr_storage to[8];
    int                     n;
    *m = (taut__tcp_meeting){.rank = where->rank,
                             .ranks = where->ranks,
                             .exchange = where->exchange,
                             .ctx = where->ctx,
                             .root = -1,
                             .greeter.listener = -1};
    for (int r = 0; r < m->ranks; r++) m->guest[r] = -1;
    m->until = taut__tcp_deadline(connect_ms);
    m->connect_ms = connect_ms;
    m->place = where->root ? where->root : where->peers ? where->peers[0] : "";
    if (m->exchange || m->ranks == 1) return TAUT_OK;
    taut_status s = taut__tcp_resolve(m->place, m->rank == 0, to, 8, &n);
    if (s == TAUT_OK) s = m->rank == 0 ? open_root(m, to, n) : go_to_root(m, to, n);
    if (s != TAUT_OK) taut__tcp_meeting_close(m);
    return s;
}

taut_status taut__tcp_tell_all(taut__tcp_meeting *m, const void *mine, size_t bytes, void *all)
{
    int round = m->round++;
    m->until = taut__tcp_deadline(m->connect_ms) + 1; /* others may have used up all of their time until now */
    if (m->ranks == 1) {
        memcpy(all, mine, bytes);
        return TAUT_OK;
    }
    if (!m->exchange) return m->rank == 0 ? gather_at_root(m, mine, bytes, all) : gather_elsewhere(m, mine, bytes, all);
    int rc = m->exchange(m->ctx, round, mine, bytes, all);
    return rc == 0 ? TAUT_OK
                   : taut__fail(TAUT_E_TRANSPORT,
                                "taut_comm_create_tcp: the program's exchange failed with %d in round %d on rank %d",
                                rc, round, m->rank);
}

void taut__tcp_meeting_close(taut__tcp_meeting *m)
{
    for (int r = 0; r < m->ranks; r++) taut__tcp_close(&m->guest[r]);
    taut__tcp_close(&m->root);
    taut__tcp_greeter_close(&m->greeter);
}
