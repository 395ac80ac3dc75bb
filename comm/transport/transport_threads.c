/* transport_threads.c : ranks are threads of this process.
 *
 * Every rank has a mailbox: posted receives and unmatched sends, each in order. isend() and irecv() lock the receiver's
 * mailbox, look for the partner, and copy when they find it, straight from the sender's buffer to the receiver's. Both
 * requests are then done; `done` is released after the copy and acquired by its owner's poll. Whoever waits sleeps on
 * his own mailbox's condition, which is signalled when one of his requests is done. */
#include "../base/thread.h"
#include "transport.h"
#include <string.h>

enum { WORDS = 16 };

typedef struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t  changed;
    unsigned        events; /* counts signals, so that none is missed */
    taut__request  *posted, *unmatched;
    taut__notice    word[WORDS];
    unsigned        words, heard; /* how many came, and were heard; of more than WORDS the oldest are lost */
    _Atomic bool    told;         /* there are some */
} mailbox;

typedef struct hub { /* shared; released by the last rank */
    int             ranks;
    _Atomic int     users;
    pthread_mutex_t lock; /* of notice */
    _Atomic bool    aborted;
    taut__notice    notice;
    mailbox        *box;
    /* the meeting of survivors; with lock */
    pthread_cond_t    met;
    bool             *here, closed;
    int               came;
    double            until;
    taut_status       made; /* of making `smaller`, one transport per survivor, by its old rank */
    taut__transport **smaller;
} hub;

typedef struct threads_transport {
    taut__transport base;
    hub            *hub;
    unsigned        seen; /* events of my mailbox that idle() has seen */
} threads_transport;

static hub *hub_of(const taut__transport *t) { return ((const threads_transport *)t)->hub; }

static void wake(mailbox *b)
{
    pthread_mutex_lock(&b->lock);
    b->events++;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

/* The sender's rank is in send->got until it is done: a send needs no length of what arrived. */
static taut__request *take(taut__request **list, int peer, int tag, bool sends)
{
    for (; *list; list = &(*list)->next) {
        taut__request *r = *list;
        if ((sends ? (int)r->got : r->peer) == peer && r->tag == tag) {
            *list = r->next;
            return r;
        }
    }
    return NULL;
}

static void append(taut__request **list, taut__request *r)
{
    while (*list) list = &(*list)->next;
    r->next = NULL;
    *list = r;
}

static void deliver(taut__request *send, taut__request *recv)
{
    recv->got = send->bytes;
    memcpy(recv->buf, send->buf, taut__min(send->bytes, recv->bytes)); /* longer: the owner sees got > bytes */
    taut__request_end(recv);
    taut__request_end(send);
}

static taut_status threads_isend(taut__transport *t, taut__request *r, int peer, int tag, const void *buf, size_t bytes)
{
    mailbox *b = &hub_of(t)->box[peer];
    taut__request_begin(r, true, peer, tag, buf, bytes);
    r->got = (size_t)t->rank;
    pthread_mutex_lock(&b->lock);
    taut__request *recv = take(&b->posted, t->rank, tag, false);
    if (recv) {
        deliver(r, recv);
        b->events++;
        pthread_cond_signal(&b->changed);
    } else {
        append(&b->unmatched, r);
    }
    pthread_mutex_unlock(&b->lock);
    return TAUT_OK;
}

static taut_status threads_irecv(taut__transport *t, taut__request *r, int peer, int tag, void *buf, size_t room)
{
    mailbox *b = &hub_of(t)->box[t->rank];
    taut__request_begin(r, false, peer, tag, buf, room);
    pthread_mutex_lock(&b->lock);
    taut__request *send = take(&b->unmatched, peer, tag, true);
    if (send) deliver(send, r);
    else append(&b->posted, r);
    pthread_mutex_unlock(&b->lock);
    if (send) wake(&hub_of(t)->box[peer]);
    return TAUT_OK;
}

static taut_status threads_poll(taut__transport *t)
{
    (void)t; /* the partner's call did the work */
    return TAUT_OK;
}

/* Whatever this rank may wait for wakes it, so it need not look as often as was asked for, and the less often the more ranks share the
 * processors: all of them together look 20,000 times a second. */
static void threads_idle(taut__transport *t, int us)
{
    enum { NAP_US = 5000, EACH_US = 50 };
    us = us > NAP_US ? us : NAP_US;
    us = us > EACH_US * t->size ? us : EACH_US * t->size;
    threads_transport *self = (threads_transport *)t;
    mailbox           *b = &self->hub->box[t->rank];
    pthread_mutex_lock(&b->lock);
    if (b->events == self->seen) taut__wait_ns(&b->changed, &b->lock, us * 1000L);
    self->seen = b->events;
    pthread_mutex_unlock(&b->lock);
}

static void threads_cancel(taut__transport *t, taut__request *r)
{
    if (taut__done(r)) return;
    mailbox *b = &hub_of(t)->box[r->send ? r->peer : t->rank];
    pthread_mutex_lock(&b->lock);
    taut__request **at = r->send ? &b->unmatched : &b->posted;
    while (*at && *at != r) at = &(*at)->next;
    if (*at) *at = r->next;
    pthread_mutex_unlock(&b->lock);
    taut__request_end(r);
}

taut_status taut__reserves_nothing(taut__transport *t, size_t requests)
{
    (void)t, (void)requests;
    return TAUT_OK;
}

static void threads_abort(taut__transport *t, const taut__notice *why)
{
    hub *h = hub_of(t);
    pthread_mutex_lock(&h->lock);
    if (!atomic_load(&h->aborted)) h->notice = *why;
    atomic_store(&h->aborted, true);
    pthread_mutex_unlock(&h->lock);
    for (int r = 0; r < h->ranks; r++) wake(&h->box[r]);
}

static bool threads_aborted(taut__transport *t, taut__notice *why)
{
    hub *h = hub_of(t);
    if (!atomic_load_explicit(&h->aborted, memory_order_relaxed)) return false;
    pthread_mutex_lock(&h->lock);
    *why = h->notice;
    pthread_mutex_unlock(&h->lock);
    return true;
}

static void put_word(mailbox *b, const taut__notice *word)
{
    pthread_mutex_lock(&b->lock);
    b->word[b->words++ % WORDS] = *word;
    if (b->words - b->heard > WORDS) b->heard = b->words - WORDS;
    atomic_store(&b->told, true);
    b->events++;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

static void threads_tell(taut__transport *t, int peer, const taut__notice *word)
{
    hub *h = hub_of(t);
    for (int r = 0; r < h->ranks; r++)
        if (r != t->rank && (peer < 0 || r == peer)) put_word(&h->box[r], word);
}

static bool threads_heard(taut__transport *t, taut__notice *word)
{
    mailbox *b = &hub_of(t)->box[t->rank];
    if (!atomic_load_explicit(&b->told, memory_order_relaxed)) return false;
    pthread_mutex_lock(&b->lock);
    bool any = b->heard != b->words;
    if (any) *word = b->word[b->heard++ % WORDS];
    else atomic_store(&b->told, false);
    pthread_mutex_unlock(&b->lock);
    return any;
}

static void hub_release(hub *h)
{
    if (!h || atomic_fetch_sub(&h->users, 1) != 1) return;
    for (int r = 0; h->box && r < h->ranks; r++) {
        pthread_mutex_destroy(&h->box[r].lock);
        pthread_cond_destroy(&h->box[r].changed);
    }
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->met);
    taut__free(h->here), taut__free(h->smaller);
    taut__free(h->box);
    taut__free(h);
}

static void threads_destroy(taut__transport *t)
{
    if (!t) return;
    hub_release(hub_of(t));
    taut__free(t->host);
    taut__free(t);
}

/* ---- survivors ---- */

/* Hosts are numbered anew, in the same order. */
static void keep_hosts(taut__transport *to, const taut__transport *from, const int *old)
{
    for (int i = 0, hosts = 0; i < to->size; i++) {
        int before = 0;
        while (before < i && from->host[old[before]] != from->host[old[i]]) before++;
        to->host[i] = before < i ? to->host[before] : hosts++;
    }
}

static int survivors(const hub *h, int *old)
{
    int n = 0;
    for (int r = 0; r < h->ranks; r++)
        if (h->here[r]) old[n++] = r;
    return n;
}

/* By whoever notices first that nobody is waited for any more. */
static taut_status close_meeting(taut__transport *t, int *old)
{
    hub              *h = hub_of(t);
    int               n = survivors(h, old);
    taut__transport **made = taut__alloc((size_t)n, sizeof *made);
    h->closed = true;
    h->smaller = taut__alloc((size_t)h->ranks, sizeof *h->smaller);
    h->made = made && h->smaller ? taut__threads_create(n, 0, made)
                                 : taut__fail(TAUT_E_NOMEM, "threads: out of memory for %d ranks", n);
    for (int i = 0; i < n && h->made == TAUT_OK; i++) {
        keep_hosts(made[i], t, old);
        h->smaller[old[i]] = made[i];
    }
    taut__free(made);
    pthread_cond_broadcast(&h->met);
    return h->made;
}

static taut_status meet(taut__transport *t, int wait_ms, int *old)
{
    hub *h = hub_of(t);
    if (!h->here && !(h->here = taut__alloc((size_t)h->ranks, sizeof *h->here)))
        return taut__fail(TAUT_E_NOMEM, "threads: out of memory");
    if (h->closed) return taut__fail(TAUT_E_PEER, "the survivors have gone on without rank %d", t->rank);
    if (h->came++ == 0) h->until = taut__now() + 1e-3 * wait_ms;
    h->here[t->rank] = true;
    while (!h->closed && h->came < h->ranks && taut__now() < h->until) taut__wait_ns(&h->met, &h->lock, 10000000);
    if (!h->closed) return close_meeting(t, old);
    return h->made == TAUT_OK ? TAUT_OK
                              : taut__fail(h->made, "threads: no communicator of the survivors could be made");
}

static taut_status threads_shrink(taut__transport *t, int wait_ms, taut__transport **smaller, int *old)
{
    hub *h = hub_of(t);
    pthread_mutex_lock(&h->lock);
    taut_status s = meet(t, wait_ms, old);
    if (s == TAUT_OK) survivors(h, old), *smaller = h->smaller[t->rank];
    pthread_mutex_unlock(&h->lock);
    return s;
}

static const taut__transport_ops ops = {
    .name = "threads",
    .isend = threads_isend,
    .irecv = threads_irecv,
    .poll = threads_poll,
    .idle = threads_idle,
    .cancel = threads_cancel,
    .reserve = taut__reserves_nothing,
    .abort = threads_abort,
    .aborted = threads_aborted,
    .tell = threads_tell,
    .heard = threads_heard,
    .shrink = threads_shrink,
    .destroy = threads_destroy,
};

void taut__requests_init(taut__request *r, size_t n)
{
    for (size_t i = 0; i < n; i++) atomic_init(&r[i].done, true);
}

static hub *hub_create(int ranks)
{
    hub *h = taut__alloc(1, sizeof *h);
    if (!h) return NULL;
    h->box = taut__alloc((size_t)ranks, sizeof *h->box);
    if (!h->box) {
        taut__free(h);
        return NULL;
    }
    h->ranks = ranks;
    taut__cond_init(&h->met);
    atomic_init(&h->users, ranks);
    pthread_mutex_init(&h->lock, NULL);
    for (int r = 0; r < ranks; r++) {
        pthread_mutex_init(&h->box[r].lock, NULL);
        taut__cond_init(&h->box[r].changed);
    }
    return h;
}

static threads_transport *rank_create(hub *h, int rank, int fake_hosts)
{
    threads_transport *t = taut__alloc(1, sizeof *t);
    if (!t) return NULL;
    t->base = (taut__transport){.ops = &ops, .rank = rank, .size = h->ranks, .threads = true, .tag_max = INT32_MAX};
    t->base.host = taut__alloc((size_t)h->ranks, sizeof *t->base.host);
    if (!t->base.host) {
        taut__free(t);
        return NULL;
    }
    for (int r = 0; fake_hosts > 0 && r < h->ranks; r++) t->base.host[r] = r / fake_hosts;
    t->hub = h;
    return t;
}

taut_status taut__threads_create(int ranks, int fake_hosts, taut__transport **t)
{
    hub *h = hub_create(ranks);
    int  made = 0;
    for (; h && made < ranks; made++) {
        t[made] = (taut__transport *)rank_create(h, made, fake_hosts);
        if (!t[made]) break;
    }
    if (made == ranks) return TAUT_OK;
    for (int r = ranks - 1; h && r >= made; r--) hub_release(h); /* the ranks that were not made */
    for (int r = 0; r < made; r++) threads_destroy(t[r]), t[r] = NULL;
    return taut__fail(TAUT_E_NOMEM, "threads: out of memory for %d ranks", ranks);
}
