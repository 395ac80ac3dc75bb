/* shrink_tcp.c : those over TCP who are left after a failure connect to each other anew.
 *
 * The connections of the failed transport still carry words between those who live: a message that was given up in its middle is filled
 * up, and words go before all that has not begun. So
 *
 *   1. Everybody listens where he did when ranks connected first, and tells everybody "I am here", and at which port. Then he waits until
 *      wait_ms after his own call, or until all have come whose connection is not closed: who was killed is not waited for.
 *   2. The lowest of those that a rank has heard, itself included, decides who belongs: those that it has heard. It tells all ranks. Who
 *      is not the lowest waits for that, as long again, and takes the first that comes, whoever made it; one that comes earlier ends the
 *      waiting. Who is not in it has come too late.
 *   3. Those in it connect as in the beginning (tcp_mesh.c), the lower to the higher, at the address of the connection that they have, under
 *      a new number of the job. The old connections stay the old transport's.
 *
 * A rank that dies in between is missed in 3, after wait_ms at most: nothing here waits for ever. */
#include "transport_tcp.h"
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

enum { MOST = 1024, MAP = MOST / 8 };

static bool in_map(const char *map, int r) { return (unsigned char)map[r / 8] >> r % 8 & 1; }

/* ---- who is there ---- */

/* What has come. A stream that is no more in order brings no more. */
static void hear_all(taut__tcp *m)
{
    for (int r = 0; r < m->base.size; r++) {
        taut__tcp_stream *s = m->stream[r];
        if (s && !s->gone && taut__tcp_read(m, r) != TAUT_OK) s->gone = true;
    }
    taut__tcp_flush(m);
}

static bool all_came(const taut__tcp *m)
{
    for (int r = 0; r < m->base.size; r++) {
        const taut__tcp_stream *s = m->stream[r];
        if (s && !s->gone && !s->left && !m->here[r]) return false;
    }
    return true;
}

static void hear_until(taut__tcp *m, double until, bool all)
{
    for (;;) {
        hear_all(m);
        if (m->settled || taut__now() >= until || (all && all_came(m))) return;
        nanosleep(&(struct timespec){0, 500000}, NULL);
    }
}

static int lowest(const taut__tcp *m)
{
    int r = 0;
    while (r < m->base.rank && !m->here[r]) r++;
    return r;
}

static void decide(taut__tcp *m)
{
    taut__notice w = {.rank = m->base.rank, .job = m->base.job, .word = TAUT_WORD_BELONG};
    for (int r = 0; r < m->base.size; r++) {
        if (r != m->base.rank && (!m->here[r] || m->stream[r]->gone)) continue;
        w.text[r / 8] = (char)(w.text[r / 8] | 1 << r % 8);
        w.index++;
    }
    w.count = taut__seed((uint64_t)(1e9 * taut__now()), (uint64_t)getpid());
    m->belong = w;
    m->settled = true;
    taut__tcp_say(m, -1, &w);
}

/* settled afterwards, with this rank. */
static taut_status agree(taut__tcp *m, int wait_ms)
{
    double begin = taut__now(), wait = 1e-3 * wait_ms;
    hear_until(m, begin + wait, true);
    int first = lowest(m);
    if (!m->settled && first < m->base.rank) hear_until(m, begin + 2 * wait, false);
    if (!m->settled && first < m->base.rank)
        return taut__fail(TAUT_E_PEER, "taut_comm_shrink: rank %d was there, and has not said who belongs for %d ms",
                          first, wait_ms);
    if (!m->settled) decide(m);
    if (in_map(m->belong.text, m->base.rank)) return TAUT_OK;
    return taut__fail(TAUT_E_PEER, "the survivors have gone on without rank %d", m->base.rank);
}

/* ---- their connections ---- */

static taut_status find(const taut__tcp *m, int r, taut__tcp_card *card)
{
    struct sockaddr_storage    a = {0};
    socklen_t                  n = sizeof a;
    const struct sockaddr_in  *v4 = (const void *)&a;
    const struct sockaddr_in6 *v6 = (const void *)&a;
    if (getpeername(m->stream[r]->fd, (void *)&a, &n) != 0)
        return taut__fail(TAUT_E_PEER, "taut_comm_shrink: rank %d was there, and is gone: %s", r, strerror(errno));
    bool mapped = a.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr), four = a.ss_family == AF_INET;
    card->port = m->here[r];
    card->address[0].family = four || mapped ? 4 : 6;
    card->address[0].prefix = four || mapped ? 32 : 128;
    if (four) memcpy(card->address[0].bytes, &v4->sin_addr, 4);
    else memcpy(card->address[0].bytes, (const char *)&v6->sin6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
    return TAUT_OK;
}

/* Whoever decided has heard all who belong; what they told this rank may still be on its way. */
static taut_status wait_for_ports(taut__tcp *m, int n, const int *old, int me, double until)
{
    for (int i = me + 1; i < n; i++)
        while (!m->here[old[i]]) {
            hear_all(m);
            if (taut__now() >= until || m->stream[old[i]]->gone)
                return taut__fail(TAUT_E_PEER, "taut_comm_shrink: rank %d belongs, and rank %d does not hear it",
                                  old[i], m->base.rank);
            nanosleep(&(struct timespec){0, 500000}, NULL);
        }
    return TAUT_OK;
}

static taut_status connect_all(taut__tcp *m, int n, const int *old, int me, int listener, int wait_ms,
                               taut__transport **smaller)
{
    uint64_t        job = taut__seed(m->belong.count, XXH3_64bits(m->belong.text, MAP));
    taut__tcp_card *card = taut__alloc((size_t)n, sizeof *card);
    uint64_t       *host = taut__alloc((size_t)n, sizeof *host);
    int            *fd = taut__alloc((size_t)n, sizeof *fd);
    void           *room = taut__tcp_mesh_room(n);
    taut_status     s = card && host && fd && room
                            ? TAUT_OK
                            : taut__fail(TAUT_E_NOMEM, "taut_comm_shrink: out of memory for %d ranks", n);
    if (s == TAUT_OK) s = wait_for_ports(m, n, old, me, taut__tcp_deadline(wait_ms));
    for (int i = 0; s == TAUT_OK && i < n; i++) {
        host[i] = (uint64_t)m->base.host[old[i]];
        card[i].host = (uint64_t)i + 1; /* the address that is known to work, and not the loopback interface */
        if (i > me) s = find(m, old[i], &card[i]);
    }
    if (s == TAUT_OK) s = taut__tcp_mesh(listener, card, me, n, job, wait_ms, room, fd);
    if (s == TAUT_OK) s = taut__tcp_create(me, n, job, host, 0, listener, fd, smaller);
    taut__free(card), taut__free(host), taut__free(fd), taut__free(room);
    return s;
}

/* ---- the call ---- */

static taut_status open_listener(const taut__tcp *m, int *fd)
{
    if (m->listened.ss_family == 0)
        return taut__fail(TAUT_E_UNSUPPORTED, "taut_comm_shrink: one rank has nobody to go on with");
    *fd = taut__tcp_listen(&m->listened);
    if (*fd >= 0) return TAUT_OK;
    char where[64];
    taut__tcp_address_text(&m->listened, where, sizeof where);
    return taut__fail(TAUT_E_TRANSPORT, "taut_comm_shrink: rank %d cannot listen on %s again: %s", m->base.rank, where,
                      strerror(errno));
}

taut_status taut__tcp_shrink(taut__transport *t, int wait_ms, taut__transport **smaller, int *old)
{
    taut__tcp *m = (taut__tcp *)t;
    int        listener = -1, n = 0, me = 0;
    *smaller = NULL;
    if (m->shrunk)
        return taut__fail(TAUT_E_STATE, "taut_comm_shrink: over TCP once only: it was called on this communicator");
    m->shrunk = true;
    TAUT_TRY(open_listener(m, &listener));
    taut__tcp_say(
        m, -1,
        &(taut__notice){
            .rank = t->rank, .job = t->job, .word = TAUT_WORD_HERE, .index = (int32_t)taut__tcp_port(listener)});
    taut_status s = agree(m, wait_ms);
    for (int r = 0; s == TAUT_OK && r < t->size; r++) {
        if (!in_map(m->belong.text, r)) continue;
        if (r == t->rank) me = n;
        old[n++] = r;
    }
    if (s == TAUT_OK) s = connect_all(m, n, old, me, listener, wait_ms, smaller);
    taut__tcp_close(&listener);
    return s;
}
