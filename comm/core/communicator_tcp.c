/* communicator_tcp.c : taut_comm_create_tcp(). Ranks tell each other, through whatever brings them together, in rounds that all take part
 * in: where they can be reached, and whether their settings are right; if settings differ, which, and how; and whether all could connect. What is
 * told is the same on all ranks, so they decide alike. */
#include "../transport/tcp.h"
#include "communicator.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { LINE = TAUT_HANDSHAKE_LINE, LINES = 64 };

typedef struct verdict {
    int32_t status;
    char    text[316];
} verdict;

/* ---- arguments ---- */

static taut_status check_ways(const taut_tcp *w)
{
    int ways = (w->root != NULL) + (w->peers != NULL) + (w->exchange != NULL);
    if (ways > 1 || (ways == 0 && w->ranks > 1))
        return taut__fail(TAUT_E_INVALID,
                          "taut_comm_create_tcp: %d of root, peers and exchange are given: must be exactly one", ways);
    for (int r = 0; w->peers && r < w->ranks; r++)
        if (!w->peers[r])
            return taut__fail(TAUT_E_INVALID, "taut_comm_create_tcp: peers[%d] is NULL: must be HOST:PORT", r);
    return TAUT_OK;
}

static taut_status check_where(const taut_tcp *given, taut_tcp *w)
{
    *w = (taut_tcp)TAUT_TCP_INIT;
    if (!given) return taut__fail(TAUT_E_INVALID, "taut_comm_create_tcp: where is NULL");
    if (given->size < offsetof(taut_tcp, root))
        return taut__fail(TAUT_E_INVALID, "taut_comm_create_tcp: where->size=%zu: must be set by TAUT_TCP_INIT",
                          given->size);
    memcpy(w, given, taut__min(given->size, sizeof *w));
    if (w->ranks < 1 || w->ranks > 1024)
        return taut__fail(TAUT_E_RANGE, "taut_comm_create_tcp: ranks=%d: must be 1..1024", (int)w->ranks);
    if (w->rank < 0 || w->rank >= w->ranks)
        return taut__fail(TAUT_E_RANGE, "taut_comm_create_tcp: rank=%d: must be 0..%d", (int)w->rank,
                          (int)w->ranks - 1);
    if (w->connect_ms < -1)
        return taut__fail(TAUT_E_RANGE, "taut_comm_create_tcp: connect_ms=%d: must be at least -1", (int)w->connect_ms);
    return check_ways(w);
}

/* ---- what ranks have in common ---- */

static uint64_t line_hash(const taut__settings *set, int i, char text[LINE])
{
    memset(text, 0, LINE);
    if (i == 0) taut__handshake_versions(text);
    else if (i <= (int)taut__settings_lines()) taut__settings_line(set, (size_t)i - 1, text, LINE);
    return XXH3_64bits(text, strlen(text));
}

static uint64_t settings_hash(const taut__settings *set)
{
    char     text[LINE];
    uint64_t h = taut__settings_lines() < LINES ? 0 : taut__settings_lines();
    for (int i = 0; i < LINES; i++) h = taut__seed(h, line_hash(set, i, text));
    return h;
}

static taut_status find_difference(taut__tcp_meeting *m, const taut__settings *set)
{
    char        text[LINE];
    uint64_t    mine[LINES];
    size_t      p = (size_t)m->ranks;
    uint64_t   *all = taut__alloc(p, sizeof mine);
    char       *lines = taut__alloc(p, LINE);
    int         at = 0, other = 0;
    taut_status s = all && lines ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "taut_comm_create_tcp: out of memory");
    for (int i = 0; i < LINES; i++) mine[i] = line_hash(set, i, text);
    if (s == TAUT_OK) s = taut__tcp_tell_all(m, mine, sizeof mine, all);
    for (int i = 0; s == TAUT_OK && other == 0 && i < LINES; i++)
        for (int r = m->ranks - 1; r > 0; r--)
            if (all[(size_t)r * LINES + (size_t)i] != all[i]) at = i, other = r;
    line_hash(set, at, text);
    if (s == TAUT_OK) s = taut__tcp_tell_all(m, text, LINE, lines);
    if (s == TAUT_OK)
        s = taut__fail(TAUT_E_MISMATCH, "taut_comm_create_tcp: rank 0 has %.300s, rank %d has %.300s", lines, other,
                       lines + (size_t)other * LINE);
    taut__free(all), taut__free(lines);
    return s;
}

static taut_status compare_cards(taut__tcp_meeting *m, const taut__tcp_card *card, const taut__settings *set,
                                 bool *alike)
{
    *alike = true;
    for (int r = 0; r < m->ranks; r++) {
        const taut__tcp_card *c = &card[r];
        if (c->magic != TAUT_TCP_MAGIC || c->version != TAUT_TCP_VERSION)
            return taut__fail(TAUT_E_VERSION,
                              "taut_comm_create_tcp: rank %d has version %u of the connection, this one %d", r,
                              c->version, TAUT_TCP_VERSION);
        if (c->rank != r || c->ranks != m->ranks)
            return taut__fail(TAUT_E_MISMATCH,
                              "taut_comm_create_tcp: in place %d of %d there is a process with rank=%d, ranks=%d", r,
                              m->ranks, c->rank, c->ranks);
        *alike &= c->settings == card[0].settings;
    }
    for (int r = 0; r < m->ranks; r++)
        if (card[r].status != TAUT_OK && r != m->rank)
            return taut__fail((taut_status)card[r].status, "taut_comm_create_tcp: rank %d: %.95s", r, card[r].text);
    return *alike ? TAUT_OK : find_difference(m, set);
}

/* All ranks return the first failure of them. */
static taut_status agree(taut__tcp_meeting *m, taut_status mine)
{
    verdict  v = {.status = mine};
    verdict *all = taut__alloc((size_t)m->ranks, sizeof v);
    char     own[512];
    snprintf(own, sizeof own, "%s", taut_last_error());
    if (mine != TAUT_OK) snprintf(v.text, sizeof v.text, "%.315s", own);
    if (!all) return taut__fail(TAUT_E_NOMEM, "taut_comm_create_tcp: out of memory");
    taut_status s = taut__tcp_tell_all(m, &v, sizeof v, all);
    for (int r = 0; s == TAUT_OK && r < m->ranks; r++) {
        if (all[r].status == TAUT_OK || (mine != TAUT_OK && r != m->rank)) continue;
        all[r].text[sizeof all[r].text - 1] = 0;
        s = r == m->rank ? taut__fail(mine, "%s", own)
                         : taut__fail((taut_status)all[r].status, "rank %d: %s", r, all[r].text);
    }
    taut__free(all);
    return s;
}

/* ---- creation ---- */

static taut_status open_listener(const taut_tcp *w, int *fd, taut__tcp_card *card)
{
    struct sockaddr_storage at[8];
    int                     n = 0;
    if (w->peers && w->rank > 0) {
        TAUT_TRY(taut__tcp_resolve(w->peers[w->rank], true, at, 8, &n));
        for (int i = 0; i < n && *fd < 0; i++) *fd = taut__tcp_listen(&at[i]);
    } else {
        *fd = taut__tcp_listen(NULL);
    }
    if (*fd < 0)
        return taut__fail(TAUT_E_TRANSPORT, "taut_comm_create_tcp: rank %d cannot listen on %s: %s", (int)w->rank,
                          n ? w->peers[w->rank] : "any port", strerror(errno));
    card->port = (uint32_t)taut__tcp_port(*fd);
    return taut__tcp_own_addresses(w->peers ? NULL : w->bind, card);
}

/* With peers the address is the one given. */
static taut_status use_given(const taut_tcp *w, taut__tcp_card *card)
{
    struct sockaddr_storage at[1];
    int                     n;
    for (int r = 1; w->peers && r < w->ranks; r++) {
        TAUT_TRY(taut__tcp_resolve(w->peers[r], false, at, 1, &n));
        bool v6 = at[0].ss_family == AF_INET6;
        memset(card[r].address, 0, sizeof card[r].address);
        card[r].address[0].family = v6 ? 6 : 4;
        card[r].address[0].prefix = v6 ? 128 : 32;
        if (v6) memcpy(card[r].address[0].bytes, &((struct sockaddr_in6 *)(void *)at)->sin6_addr, 16);
        else memcpy(card[r].address[0].bytes, &((struct sockaddr_in *)(void *)at)->sin_addr, 4);
    }
    return TAUT_OK;
}

static taut_status connect_all(taut__tcp_meeting *m, const taut_tcp *w, const taut__settings *set, taut__tcp_card *card,
                               int listener, taut__transport **t)
{
    size_t    p = (size_t)m->ranks;
    uint64_t  job = 0;
    uint64_t *host = taut__alloc(p, sizeof *host);
    int      *fd = taut__alloc(p, sizeof *fd);
    for (size_t r = 0; r < p && host; r++) job = taut__seed(job, card[r].nonce), host[r] = card[r].host;
    taut_status s = host && fd ? use_given(w, card) : taut__fail(TAUT_E_NOMEM, "taut_comm_create_tcp: out of memory");
    if (s == TAUT_OK) s = taut__tcp_mesh(listener, card, m->rank, m->ranks, job, m->connect_ms, fd);
    if (s == TAUT_OK) s = taut__tcp_create(m->rank, m->ranks, job, host, set->fake_hosts, listener, fd, t);
    taut__free(host), taut__free(fd);
    return s;
}

static taut_status create(const taut_tcp *w, const taut_config *cfg, taut_status mine, const taut__settings *set,
                          taut__tcp_meeting *m, int *listener, taut_comm **comm)
{
    taut__transport *t = NULL;
    bool             alike;
    taut__tcp_card   own = {.magic = TAUT_TCP_MAGIC,
                            .version = TAUT_TCP_VERSION,
                            .rank = w->rank,
                            .ranks = w->ranks,
                            .host = taut__tcp_host()};
    taut__tcp_card  *card = taut__alloc((size_t)w->ranks, sizeof *card);
    if (mine == TAUT_OK) mine = open_listener(w, listener, &own);
    if (mine == TAUT_OK && !card) mine = taut__fail(TAUT_E_NOMEM, "taut_comm_create_tcp: out of memory");
    if (!card) return mine;
    own.nonce = taut__seed((uint64_t)(1e9 * taut__now()), taut__seed((uint64_t)getpid(), (uint64_t)(uintptr_t)card));
    own.status = mine;
    if (mine == TAUT_OK) own.settings = settings_hash(set);
    else snprintf(own.text, sizeof own.text, "%.95s", taut_last_error());
    taut_status s = taut__tcp_tell_all(m, &own, sizeof own, card);
    if (s == TAUT_OK && mine == TAUT_OK) s = compare_cards(m, card, set, &alike);
    if (s == TAUT_OK) s = mine;
    if (s == TAUT_OK) {
        s = connect_all(m, w, set, card, *listener, &t);
        if (s == TAUT_OK) s = taut__comm_create(t, cfg, comm);
        s = agree(m, s);
    }
    taut__free(card);
    return s;
}

taut_status taut_comm_create_tcp(const taut_tcp *where, const taut_config *cfg, taut_comm **comm)
{
    _Static_assert(sizeof(taut__tcp_card) <= TAUT_TCP_ROUND_MOST && sizeof(verdict) <= TAUT_TCP_ROUND_MOST,
                   "the program's exchange carries it");
    taut_tcp          w;
    taut__settings    set;
    taut__tcp_meeting m;
    int               listener = -1;
    char              text[512];
    if (!comm) return taut__fail(TAUT_E_INVALID, "taut_comm_create_tcp: comm is NULL");
    *comm = NULL;
    TAUT_TRY(check_where(where, &w));
    taut_status mine = taut__settings_load(cfg, &set);
    snprintf(text, sizeof text, "%s", taut_last_error());
    int32_t limit = w.connect_ms ? w.connect_ms : mine == TAUT_OK ? set.c.timeout_ms : 60000;
    TAUT_TRY(taut__tcp_meet(&m, &w, limit));
    if (mine != TAUT_OK) taut__fail(mine, "%s", text); /* for the others */
    taut__log_rank(w.rank);
    taut_status s = create(&w, cfg, mine, &set, &m, &listener, comm);
    taut__tcp_meeting_close(&m);
    taut__tcp_close(&listener);
    if (s == TAUT_OK) return TAUT_OK;
    if (*comm) taut__comm_discard(*comm);
    *comm = NULL;
    return s;
}
