/* tcp_stream.c : what travels between two ranks.
 *
 *   EAGER tag bytes + bytes     a message up to EAGER_MOST: sent at once, and kept by the receiver until its receive is posted
 *   ASK tag bytes id            a larger one waits for room
 *   GRANT id                    ... which its receive has
 *   DATA id bytes + bytes       ... and comes
 *   WORD + a notice
 *
 * Messages with one tag are matched in the order of EAGER and ASK, since both sides keep lists in order. What lies early at the receiver is
 * bounded by EAGER_MOST for each message that a peer's jobs may have under way. Words go before every message that has not begun. A send that is
 * given up in its middle is filled up with zeros, so that what comes behind it, the reason, still arrives. */
#include "tcp_stream.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <xxhash.h>

enum { EAGER = 1, ASK, GRANT, DATA, WORD };
enum { EAGER_MOST = 1 << 18, READ_AT_ONCE = 1 << 20, SPARE_MOST = 32 };

static const char zeros[4096];

/* ---- lists, in order ---- */

static void list_init(taut__tcp_list *l) { l->head = NULL, l->tail = &l->head; }

static void append(taut__tcp_list *l, taut__request *r)
{
    r->next = NULL;
    *l->tail = r;
    l->tail = &r->next;
}

static taut__request *unlink_at(taut__tcp_list *l, taut__request **at)
{
    taut__request *r = *at;
    *at = r->next;
    if (l->tail == &r->next) l->tail = at;
    return r;
}

static bool remove_from(taut__tcp_list *l, const taut__request *r)
{
    for (taut__request **at = &l->head; *at; at = &(*at)->next)
        if (*at == r) return unlink_at(l, at) != NULL;
    return false;
}

/* The first with this id, or else this tag. */
static taut__request *take(taut__tcp_list *l, bool by_id, uint32_t value)
{
    for (taut__request **at = &l->head; *at; at = &(*at)->next)
        if ((by_id ? (*at)->id : (uint32_t)(*at)->tag) == value) return unlink_at(l, at);
    return NULL;
}

static uint32_t check_of(const taut__tcp_stream *s, const taut__tcp_header *h, uint32_t count)
{
    taut__tcp_header x = *h;
    x.check = count;
    return (uint32_t)XXH3_64bits_withSeed(&x, sizeof x, s->job);
}

/* ---- going out ---- */

static void put_header(taut__tcp_stream *s, uint32_t kind, uint32_t id, int tag, uint64_t bytes)
{
    s->oh = (taut__tcp_header){.kind = kind, .id = id, .tag = tag, .bytes = bytes};
    s->oh.check = check_of(s, &s->oh, s->sent_headers++);
    s->oh_at = 0;
    s->writing = true;
}

static void begin_request(taut__tcp_stream *s, taut__request *r)
{
    s->current = r;
    s->body = NULL, s->body_left = 0;
    put_header(s, r->phase, r->id, r->tag, r->phase == GRANT ? 0 : r->bytes);
    if (r->phase == EAGER || r->phase == DATA) s->body = r->buf, s->body_left = r->bytes;
}

/* False: nothing to write. */
static bool begin_next(taut__tcp_stream *s)
{
    if (s->words > 0) {
        s->current = NULL;
        put_header(s, WORD, 0, 0, sizeof s->word[0]);
        s->body = (const char *)&s->word[0], s->body_left = sizeof s->word[0];
        s->word_out = true;
        return true;
    }
    if (!s->out.head) return false;
    begin_request(s, unlink_at(&s->out, &s->out.head));
    return true;
}

static void end_item(taut__tcp_stream *s)
{
    taut__request *r = s->current;
    s->writing = false;
    s->current = NULL;
    if (s->word_out) {
        s->word_out = false;
        memmove(&s->word[0], &s->word[1], (size_t)--s->words * sizeof s->word[0]);
    } else if (r && r->phase == ASK) {
        append(&s->waiting, r);
    } else if (r && r->phase == GRANT) {
        append(&s->granted, r);
    } else if (r) {
        taut__request_end(r);
    }
}

static void written(taut__tcp_stream *s, size_t n)
{
    size_t head = taut__min(n, sizeof s->oh - s->oh_at);
    s->oh_at += head;
    n -= head;
    s->body_left -= n;
    if (s->body) s->body += n;
    if (s->oh_at == sizeof s->oh && s->body_left == 0) end_item(s);
}

/* The connection will take no more, or bring no more. */
static void close_ways(taut__tcp_stream *s, int why)
{
    s->gone = true;
    s->why = why;
}

taut_status taut__tcp_stream_write(taut__tcp_stream *s)
{
    while (!s->gone && (s->writing || begin_next(s))) {
        bool         pads = s->body_left > 0 && !s->body;
        struct iovec v[2] = {
            {(char *)&s->oh + s->oh_at, sizeof s->oh - s->oh_at},
            {(void *)(uintptr_t)(pads ? zeros : s->body), pads ? taut__min(s->body_left, sizeof zeros) : s->body_left}};
        struct msghdr m = {.msg_iov = v, .msg_iovlen = s->body_left ? 2 : 1};
        ssize_t       n = sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) written(s, (size_t)n);
        else if (errno == EAGAIN) return TAUT_OK;
        else if (errno == EPIPE || errno == ECONNRESET) return TAUT_OK; /* reading tells the rest: its last words */
        else if (errno != EINTR)
            return taut__fail(TAUT_E_TRANSPORT, "TCP: sending to rank %d: %s", s->peer, strerror(errno));
    }
    return TAUT_OK;
}

bool taut__tcp_stream_writes(const taut__tcp_stream *s)
{
    return !s->gone && (s->writing || s->words > 0 || s->out.head);
}

taut_status taut__tcp_stream_send(taut__tcp_stream *s, taut__request *r)
{
    bool large = r->bytes > EAGER_MOST;
    r->phase = large ? ASK : EAGER;
    r->id = large ? ++s->last_id : 0;
    append(&s->out, r);
    TAUT_TRY(taut__tcp_stream_missed(s));
    return taut__tcp_stream_write(s);
}

void taut__tcp_stream_tell(taut__tcp_stream *s, const taut__notice *word)
{
    int oldest = s->word_out; /* it is on its way */
    if (s->words == TAUT_TCP_WORDS) {
        memmove(&s->word[oldest], &s->word[oldest + 1], (size_t)(s->words - oldest - 1) * sizeof s->word[0]);
        s->words--;
    }
    s->word[s->words++] = *word;
}

/* ---- coming in ---- */

static taut_status damaged(const taut__tcp_stream *s, const char *what)
{
    return taut__fail(TAUT_E_CORRUPT, "TCP: rank %d sent %s (kind %u, tag %d, %llu bytes)", s->peer, what, s->ih.kind,
                      s->ih.tag, (unsigned long long)s->ih.bytes);
}

/* Buffers of messages that came early are kept for the next ones. */
static taut__tcp_early *early_take(taut__tcp_stream *s, size_t bytes)
{
    for (taut__tcp_early **at = &s->spare; *at; at = &(*at)->next)
        if ((*at)->room >= bytes) {
            taut__tcp_early *e = *at;
            *at = e->next;
            return e;
        }
    taut__tcp_early *e = taut__alloc(1, sizeof *e + bytes);
    if (e) e->room = bytes;
    return e;
}

static void early_give(taut__tcp_stream *s, taut__tcp_early *e)
{
    int spares = 0;
    for (taut__tcp_early *k = s->spare; k; k = k->next) spares++;
    if (spares >= SPARE_MOST) {
        taut__free(e);
        return;
    }
    e->next = s->spare;
    s->spare = e;
}

static taut_status early_add(taut__tcp_stream *s, bool asks, taut__tcp_early **made)
{
    taut__tcp_early **at = &s->early, *e = early_take(s, asks ? 0 : (size_t)s->ih.bytes);
    if (!e)
        return taut__fail(TAUT_E_NOMEM, "TCP: out of memory for %llu bytes from rank %d",
                          (unsigned long long)s->ih.bytes, s->peer);
    while (*at) at = &(*at)->next;
    e->next = NULL;
    e->tag = s->ih.tag, e->id = s->ih.id;
    e->bytes = (size_t)s->ih.bytes;
    e->asks = asks, e->complete = false;
    e->claimed = NULL;
    *at = e;
    *made = e;
    return TAUT_OK;
}

static void early_unlink(taut__tcp_stream *s, const taut__tcp_early *e)
{
    taut__tcp_early **at = &s->early;
    while (*at && *at != e) at = &(*at)->next;
    if (*at) *at = e->next;
}

static void deliver(taut__tcp_stream *s, taut__tcp_early *e, taut__request *r)
{
    r->got = e->bytes;
    memcpy(r->buf, e->data, taut__min(e->bytes, r->bytes));
    early_give(s, e);
    taut__request_end(r);
}

static void grant(taut__tcp_stream *s, taut__request *r, uint32_t id, size_t bytes)
{
    r->got = bytes;
    r->id = id;
    r->phase = GRANT;
    append(&s->out, r);
}

static void receive_into(taut__tcp_stream *s, taut__request *r)
{
    s->into = r;
    s->dst = r->buf;
    s->dst_left = taut__min((size_t)s->ih.bytes, r->bytes); /* longer than the room: the owner sees got > bytes */
}

static taut_status open_eager(taut__tcp_stream *s)
{
    taut__request *r = take(&s->posted, false, (uint32_t)s->ih.tag);
    if (s->ih.bytes > EAGER_MOST) return damaged(s, "a message that should have asked");
    if (r) {
        r->got = (size_t)s->ih.bytes;
        receive_into(s, r);
        return TAUT_OK;
    }
    TAUT_TRY(early_add(s, false, &s->into_early));
    s->dst = s->into_early->data, s->dst_left = s->into_early->bytes;
    return TAUT_OK;
}

static taut_status open_ask(taut__tcp_stream *s)
{
    taut__request   *r = take(&s->posted, false, (uint32_t)s->ih.tag);
    taut__tcp_early *e;
    s->left_in = 0;
    if (!r) return early_add(s, true, &e);
    grant(s, r, s->ih.id, (size_t)s->ih.bytes);
    return taut__tcp_stream_write(s);
}

static taut_status open_grant(taut__tcp_stream *s)
{
    taut__request *r = take(&s->waiting, true, s->ih.id);
    s->left_in = 0;
    if (!r) return TAUT_OK; /* given up since */
    r->phase = DATA;
    append(&s->out, r);
    return taut__tcp_stream_write(s);
}

static taut_status open_data(taut__tcp_stream *s)
{
    taut__request *r = take(&s->granted, true, s->ih.id);
    if (!r) return TAUT_OK; /* given up since */
    if (r->got != s->ih.bytes) return damaged(s, "another length than it asked for");
    receive_into(s, r);
    return TAUT_OK;
}

static taut_status open_word(taut__tcp_stream *s)
{
    if (s->ih.bytes != sizeof s->heard) return damaged(s, "a word of another length");
    s->dst = (char *)&s->heard, s->dst_left = sizeof s->heard;
    return TAUT_OK;
}

static taut_status open_message(taut__tcp_stream *s)
{
    if (s->ih.check != check_of(s, &s->ih, s->got_headers++)) return damaged(s, "a damaged header");
    s->left_in = (size_t)s->ih.bytes;
    s->into = NULL, s->into_early = NULL, s->dst = NULL, s->dst_left = 0;
    switch (s->ih.kind) {
    case EAGER: return open_eager(s);
    case ASK: return open_ask(s);
    case GRANT: return open_grant(s);
    case DATA: return open_data(s);
    case WORD: return open_word(s);
    default: return damaged(s, "a header of no kind");
    }
}

static void close_message(taut__tcp_stream *s)
{
    taut__tcp_early *e = s->into_early;
    s->ih_got = 0;
    if (s->ih.kind == WORD) {
        s->news = true;
        s->heard.text[sizeof s->heard.text - 1] = 0;
        s->left |= s->heard.status == TAUT_OK && s->heard.word == TAUT_WORD_LEAVES;
        s->failed |= s->heard.status != TAUT_OK;
    }
    if (s->into) taut__request_end(s->into);
    s->into = NULL, s->into_early = NULL;
    if (!e) return;
    e->complete = true;
    if (!e->claimed) return;
    early_unlink(s, e);
    deliver(s, e, e->claimed);
}

static void took(taut__tcp_stream *s, size_t n) /* n bytes of the message have been stored */
{
    size_t kept = taut__min(n, s->dst_left);
    if (s->dst) s->dst += kept;
    s->dst_left -= kept;
    s->left_in -= n;
}

static taut_status parse(taut__tcp_stream *s)
{
    while (s->rx_at < s->rx_end && !s->news) {
        size_t n = taut__min(sizeof s->ih - s->ih_got, s->rx_end - s->rx_at);
        memcpy((char *)&s->ih + s->ih_got, s->rx + s->rx_at, n);
        s->rx_at += n;
        if (n > 0 && (s->ih_got += n) < sizeof s->ih) return TAUT_OK;
        if (n > 0) TAUT_TRY(open_message(s));
        n = taut__min(s->left_in, s->rx_end - s->rx_at);
        if (s->dst && n > 0) memcpy(s->dst, s->rx + s->rx_at, taut__min(n, s->dst_left));
        s->rx_at += n;
        took(s, n);
        if (s->left_in == 0) close_message(s);
    }
    return TAUT_OK;
}

/* Straight to where it belongs, if much of it is still to come; else through the buffer. */
static ssize_t receive(taut__tcp_stream *s)
{
    bool    direct = s->ih_got == sizeof s->ih && s->dst && s->dst_left > TAUT_TCP_READ / 2;
    ssize_t n =
        direct ? recv(s->fd, s->dst, s->dst_left, MSG_DONTWAIT) : recv(s->fd, s->rx, sizeof s->rx, MSG_DONTWAIT);
    if (n <= 0) return n;
    if (!direct) {
        s->rx_at = 0, s->rx_end = (size_t)n;
        return n;
    }
    took(s, (size_t)n);
    if (s->left_in == 0) close_message(s);
    return n;
}

taut_status taut__tcp_stream_read(taut__tcp_stream *s)
{
    for (size_t got = 0; got < READ_AT_ONCE && !s->news;) {
        TAUT_TRY(parse(s));
        if (s->news || s->gone) return TAUT_OK;
        ssize_t n = receive(s);
        if (n > 0) got += (size_t)n;
        else if (n == 0) close_ways(s, 0);
        else if (errno == EAGAIN) return TAUT_OK;
        else if (errno == ECONNRESET || errno == EPIPE || errno == ETIMEDOUT) close_ways(s, errno);
        else if (errno != EINTR)
            return taut__fail(TAUT_E_TRANSPORT, "TCP: receiving from rank %d: %s", s->peer, strerror(errno));
    }
    return parse(s); /* what has been taken from the kernel wakes nobody any more */
}

void taut__tcp_stream_drain(taut__tcp_stream *s)
{
    while (!s->gone) {
        ssize_t n = recv(s->fd, s->rx, sizeof s->rx, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) close_ways(s, n == 0 ? 0 : errno);
        else if (n < 0 && errno == EAGAIN) return;
    }
}

taut_status taut__tcp_stream_recv(taut__tcp_stream *s, taut__request *r)
{
    for (taut__tcp_early *e = s->early; e; e = e->next) {
        if (e->tag != r->tag || e->claimed) continue;
        if (!e->asks && !e->complete) {
            e->claimed = r;
            return TAUT_OK;
        }
        early_unlink(s, e);
        if (!e->asks) {
            deliver(s, e, r);
            return TAUT_OK;
        }
        grant(s, r, e->id, e->bytes);
        early_give(s, e);
        return taut__tcp_stream_write(s);
    }
    append(&s->posted, r);
    return taut__tcp_stream_missed(s);
}

/* ---- the end ---- */

taut_status taut__tcp_stream_missed(const taut__tcp_stream *s)
{
    if (!s->gone || s->left || s->failed) return TAUT_OK; /* who left in order has said so to those above */
    if (!s->out.head && !s->waiting.head && !s->posted.head && !s->granted.head && !s->into && !s->current)
        return TAUT_OK;
    return taut__fail(TAUT_E_PEER, "rank %d has closed its connection: its process has exited or was killed%s%s",
                      s->peer, s->why ? ": " : "", s->why ? strerror(s->why) : "");
}

void taut__tcp_stream_cancel(taut__tcp_stream *s, taut__request *r)
{
    for (taut__tcp_early *e = s->early; e; e = e->next)
        if (e->claimed == r) e->claimed = NULL;
    if (s->into == r) s->into = NULL, s->dst = NULL, s->dst_left = 0;
    if (s->current == r) s->current = NULL, s->body = NULL;
    if (!remove_from(&s->out, r) && !remove_from(&s->waiting, r) && !remove_from(&s->posted, r))
        remove_from(&s->granted, r);
    taut__request_end(r);
}

void taut__tcp_stream_init(taut__tcp_stream *s, int fd, int peer, uint64_t job)
{
    s->fd = fd, s->peer = peer, s->job = job;
    list_init(&s->out), list_init(&s->waiting), list_init(&s->posted), list_init(&s->granted);
}

void taut__tcp_stream_release(taut__tcp_stream *s)
{
    for (taut__tcp_early *e = s->early, *next; e; e = next) next = e->next, taut__free(e);
    for (taut__tcp_early *e = s->spare, *next; e; e = next) next = e->next, taut__free(e);
    s->early = s->spare = NULL;
}
