/* communicator_tcp.c : taut_comm_create_tcp(). Ranks tell each other, through whatever brings them together, in rounds that all take part
 * in: where they can be reached, and whether their settings are right; if settings differ, which, and how; and whether all could connect. What is
 * told is the same on all ranks, so they decide alike. */
#include "../transport/tcp.h"
#include "communicator.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { LINE = TAUT_HANDSHAKE_LINE, LINES = 64, TIMEOUT_MS = 60000 /* of a rank whose settings are wrong */ };

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
    if (w->ranks < 1 || w->ranks > TAUT_TCP_RANKS)
        return taut__fail(TAUT_E_RANGE, "taut_comm_create_tcp: ranks=%d: must be 1..%d", (int)w->ranks, TAUT_TCP_RANKS);
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

static taut_status find_difference(taut__tcp_meeting *m, const taut__settings *set, void *room)
{
    char      text[LINE];
    uint64_t  mine[LINES];
    uint64_t *all = room; /* ranks times LINES; then ranks times LINE characters */
    char     *lines = room;
    int       at = 0, other = 0;
    for (int i = 0; i < LINES; i++) mine[i] = line_hash(set, i, text);
    TAUT_TRY(taut__tcp_tell_all(m, mine, sizeof mine, all));
    for (int i = 0; other == 0 && i < LINES; i++)
        for (int r = m->ranks - 1; r > 0; r--)
            if (all[(size_t)r * LINES + (size_t)i] != all[i]) at = i, other = r;
    line_hash(set, at, text);
    TAUT_TRY(taut__tcp_tell_all(m, text, LINE, lines));
    return taut__fail(TAUT_E_MISMATCH, "taut_comm_create_tcp: rank 0 has %.300s, rank %d has %.300s", lines, other,
                      lines + (size_t)other * LINE);
}

/* card: of all ranks, in room for what comes next. */
static taut_status compare_cards(taut__tcp_meeting *m, taut__tcp_card *card, const taut__settings *set)
{
    bool alike = true;
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
        alike &= c->settings == card[0].settings;
    }
    for (int r = 0; r < m->ranks; r++)
        if (card[r].status != TAUT_OK && r != m->rank)
            return taut__fail((taut_status)card[r].status, "taut_comm_create_tcp: rank %d: %.95s", r, card[r].text);
    return alike ? TAUT_OK : find_difference(m, set, card);
}

/* The first rank that has failed, of those that did not just wait for another one, if there are such. -1: none has. */
static int culprit(const verdict *all, int ranks)
{
    int who = -1;
    for (int r = ranks - 1; r >= 0; r--) {
        if (all[r].status == TAUT_OK) continue;
        bool waited = all[r].status == TAUT_E_TIMEOUT;
        if (who < 0 || !waited || all[who].status == TAUT_E_TIMEOUT) who = r;
    }
    return who;
}

/* All ranks return the culprit's failure; who has failed for a reason of his own, that. */
static taut_status agree(taut__tcp_meeting *m, taut_status mine, void *room)
{
    verdict    v = {.status = mine};
    verdict   *all = room;
    taut__kept own = taut__keep_error();
    if (mine != TAUT_OK) snprintf(v.text, sizeof v.text, "%.315s", own.text);
    TAUT_TRY(taut__tcp_tell_all(m, &v, sizeof v, all));
    int who = culprit(all, m->ranks);
    if (who < 0) return TAUT_OK;
    if (who == m->rank || (mine != TAUT_OK && mine != TAUT_E_TIMEOUT)) return taut__fail(mine, "%s", own.text);
    all[who].text[sizeof all[who].text - 1] = 0;
    return taut__fail((taut_status)all[who].status, "rank %d: %s", who, all[who].text);
}

/* ---- memory ---- */

/* What creation needs until there is a transport, taken before ranks say anything: who lacks it says so then. What is needed for saying so is
 * always there. */
typedef struct memory {
    void     *room; /* what all ranks say in a round; NULL: somebody else has the last resort */
    void     *mesh;
    uint64_t *host;
    int      *fd;
} memory;

static char        last_resort[TAUT_TCP_RANKS * TAUT_TCP_ROUND_MOST];
static atomic_flag last_resort_taken = ATOMIC_FLAG_INIT;

static taut_status take_memory(memory *mem, size_t ranks)
{
    *mem = (memory){.room = taut__alloc(ranks, TAUT_TCP_ROUND_MOST),
                    .mesh = taut__tcp_mesh_room((int)ranks),
                    .host = taut__alloc(ranks, sizeof *mem->host),
                    .fd = taut__alloc(ranks, sizeof *mem->fd)};
    if (mem->room && mem->mesh && mem->host && mem->fd) return TAUT_OK;
    if (!mem->room && !atomic_flag_test_and_set(&last_resort_taken)) mem->room = last_resort;
    return taut__fail(TAUT_E_NOMEM, "out of memory");
}

static void give_memory(const memory *mem)
{
    if (mem->room == last_resort) atomic_flag_clear(&last_resort_taken);
    else taut__free(mem->room);
    taut__free(mem->mesh), taut__free(mem->host), taut__free(mem->fd);
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

/* With peers the address is the one given; all of them, where a name has several. */
static taut_status use_given(const taut_tcp *w, taut__tcp_card *card)
{
    struct sockaddr_storage at[TAUT_TCP_ADDRESSES];
    int                     n;
    for (int r = 1; w->peers && r < w->ranks; r++) {
        TAUT_TRY(taut__tcp_resolve(w->peers[r], false, at, TAUT_TCP_ADDRESSES, &n));
        memset(card[r].address, 0, sizeof card[r].address);
        for (int i = 0; i < n; i++) {
            taut__tcp_address *a = &card[r].address[i];
            bool               v6 = at[i].ss_family == AF_INET6;
            a->family = v6 ? 6 : 4;
            a->prefix = v6 ? 128 : 32;
            if (v6) memcpy(a->bytes, &((struct sockaddr_in6 *)(void *)&at[i])->sin6_addr, 16);
            else memcpy(a->bytes, &((struct sockaddr_in *)(void *)&at[i])->sin_addr, 4);
        }
    }
    return TAUT_OK;
}

static taut_status connect_all(taut__tcp_meeting *m, const taut_tcp *w, const taut__settings *set, const memory *mem,
                               int listener, taut__transport **t)
{
    taut__tcp_card *card = mem->room;
    uint64_t        job = 0;
    for (int r = 0; r < m->ranks; r++) job = taut__seed(job, card[r].nonce), mem->host[r] = card[r].host;
    TAUT_TRY(use_given(w, card));
    TAUT_TRY(taut__tcp_mesh(listener, card, m->rank, m->ranks, job, m->connect_ms, mem->mesh, mem->fd));
    return taut__tcp_create(m->rank, m->ranks, job, mem->host, set->fake_hosts, listener, mem->fd, t);
}

static taut_status create(const taut_tcp *w, const taut_config *cfg, taut_status mine, const taut__settings *set,
                          taut__tcp_meeting *m, const memory *mem, int *listener, taut_comm **comm)
{
    taut__transport *t = NULL;
    taut__tcp_card   own = {.magic = TAUT_TCP_MAGIC,
                            .version = TAUT_TCP_VERSION,
                            .rank = w->rank,
                            .ranks = w->ranks,
                            .host = taut__tcp_host()};
    if (mine == TAUT_OK) mine = open_listener(w, listener, &own);
    own.nonce = taut__seed((uint64_t)(1e9 * taut__now()), taut__seed((uint64_t)getpid(), (uint64_t)(uintptr_t)m));
    own.status = mine;
    if (mine == TAUT_OK) own.settings = settings_hash(set);
    else snprintf(own.text, sizeof own.text, "%.95s", taut_last_error());
    TAUT_TRY(taut__tcp_tell_all(m, &own, sizeof own, mem->room));
    if (mine != TAUT_OK) return mine;
    TAUT_TRY(compare_cards(m, mem->room, set));
    taut_status s = connect_all(m, w, set, mem, *listener, &t);
    if (s == TAUT_OK) s = taut__comm_create(t, cfg, comm);
    return agree(m, s, mem->room);
}

/* What this rank has found wrong by itself; timeout_ms: that of its settings, if those are right. */
static taut_status prepare(const taut_config *cfg, taut_comm **comm, int ranks, taut__settings *set, memory *mem,
                           int32_t *timeout_ms)
{
    taut_status s = taut__settings_load(cfg, set);
    *timeout_ms = s == TAUT_OK ? set->c.timeout_ms : TIMEOUT_MS;
    if (s == TAUT_OK && !comm) s = taut__fail(TAUT_E_INVALID, "taut_comm_create_tcp: comm is NULL");
    taut__kept  kept = taut__keep_error();
    taut_status had = take_memory(mem, (size_t)ranks);
    return s == TAUT_OK ? had : taut__fail(s, "%s", kept.text);
}

taut_status taut_comm_create_tcp(const taut_tcp *where, const taut_config *cfg, taut_comm **comm)
{
    _Static_assert(sizeof(taut__tcp_card) <= TAUT_TCP_ROUND_MOST && sizeof(verdict) <= TAUT_TCP_ROUND_MOST &&
                       (int)LINE <= (int)TAUT_TCP_ROUND_MOST && LINES * sizeof(uint64_t) <= TAUT_TCP_ROUND_MOST,
                   "the program's exchange carries it, and there is room for those of all");
    taut_tcp          w;
    taut__settings    set;
    taut__tcp_meeting m;
    memory            mem;
    taut_comm        *made = NULL;
    int               listener = -1;
    int32_t           timeout_ms;
    if (comm) *comm = NULL;
    TAUT_TRY(check_where(where, &w));
    taut_status mine = prepare(cfg, comm, w.ranks, &set, &mem, &timeout_ms);
    taut__kept  kept = taut__keep_error();
    taut_status s = mem.room ? taut__tcp_meet(&m, &w, w.connect_ms ? w.connect_ms : timeout_ms) : mine;
    if (s == TAUT_OK) {
        if (mine != TAUT_OK) taut__fail(mine, "%s", kept.text); /* for the others */
        taut__log_rank(w.rank);
        s = create(&w, cfg, mine, &set, &m, &mem, &listener, &made);
        taut__tcp_meeting_close(&m);
        taut__tcp_close(&listener);
    }
    if (mine != TAUT_OK && s != mine) s = taut__fail(mine, "%s", kept.text);
    give_memory(&mem);
    if (s == TAUT_OK) *comm = made;
    else if (made) taut__comm_discard(made);
    return s;
}
