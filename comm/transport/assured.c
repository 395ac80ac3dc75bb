/* assured.c : see wrapped.h.
 *
 * PROTOCOL
 *
 *  A message is cut into pieces of at most 64 KiB, each with a header: which message of this tag it belongs to, where in it, the
 *  number of the piece among all from this rank to that one, and checksums of the header and of what follows. Pieces of all tags
 *  travel under one tag of the inner transport, answers under another. Who receives a piece whose checksums are right puts it
 *  in its place and answers GOOD; a second copy is answered, too, and thrown away, and so is what another communicator sent. A piece
 *  that is damaged is answered AGAIN, by its number, or ALL if not even its header can be read. Who is asked, or hears nothing for
 *  much longer than acknowledgements of late took, sends a piece a second time, and never a third: if it is asked again, the communicator fails with TAUT_E_CORRUPT; if
 *  the piece is lost again, whoever waits for it fails at its timeout.
 *
 *  A sender keeps copies until they are acknowledged, so its requests are done at once, and nobody but this file owns memory that
 *  the inner transport may still read or write. Of what goes to one rank at most WINDOW pieces are unacknowledged; the rest
 *  waits. After the first steps nothing is allocated: pieces, answers and places of messages are used again.
 *
 *  Nothing is timed out here: a rank may compute for as long as it likes, and answers when it comes back. */
#include "pieces.h"
#include "tags.h"
#include "wrapped.h"

enum { SMALL = 1 << 10, POSTED = 4, WINDOW = 1024 };
static const double LINGER_S = 0.3, LEAST_S = 0.02,
                    DELAYS = 6; /* patience: so many times what acknowledgements usually take, and at least */

typedef struct piece { /* on its way */
    struct piece *next;
    uint64_t      number;
    size_t        bytes, room; /* header included */
    taut__request send[2];
    int           times; /* it was sent */
    bool          good;  /* acknowledged */
    double        sent_s;
    uint8_t       data[];
} piece;

typedef struct answer {
    struct answer *next;
    taut__request  send;
    uint8_t        data[TAUT_PIECE_ANSWER];
} answer;

typedef struct arrival { /* a message that is waited for, or has begun to come */
    struct arrival *next;
    uint64_t        seq, total, got;
    int             tag;
    bool            known;   /* total is */
    taut__request  *request; /* NULL: nobody has asked for it yet */
    uint8_t        *own;     /* memory for it then */
} arrival;

typedef struct peer {
    bool            open;
    piece          *first, *last, *unsent;    /* unsent: the first that was not yet sent */
    uint64_t        next;                     /* number of the next piece */
    uint64_t        below, seen[WINDOW / 64]; /* of what comes: all numbers below have come, and these from there on */
    taut__request   in[POSTED], answer_in[POSTED];
    uint8_t        *in_data, (*answer_data)[TAUT_PIECE_ANSWER];
    unsigned        at, answer_at; /* posted receives are filled in turn */
    double          delay_s;       /* until pieces are acknowledged, averaged */
    arrival        *arrivals;
    answer         *answers; /* being sent */
    taut__tag_table tags;
} peer;

typedef struct assured {
    taut__wrapped w;
    double        patience_s;    /* at most */
    peer         *peer;          /* one per rank */
    piece        *small, *large; /* free ones */
    answer       *free_answers;
    arrival      *free_arrivals;
    size_t        live, reserved; /* requests of the inner transport */
} assured;

static assured    *self_of(const taut__transport *t) { return (assured *)(uintptr_t)t; }
static int         data_tag(const assured *a) { return a->w.inner->tag_max - 1; } /* answers have tag_max */
static taut_status no_memory(void) { return taut__fail(TAUT_E_NOMEM, "assured delivery: out of memory"); }

/* ---- the inner transport ---- */

static taut_status room(assured *a)
{
    enum { MORE = 64 };
    if (a->live < a->reserved) return TAUT_OK;
    TAUT_TRY(a->w.inner->ops->reserve(a->w.inner, MORE));
    a->reserved += MORE;
    return TAUT_OK;
}

static taut_status send_piece(assured *a, int q, piece *p)
{
    TAUT_TRY(room(a));
    p->sent_s = taut__now();
    a->live++;
    return a->w.inner->ops->isend(a->w.inner, &p->send[p->times++], q, data_tag(a), p->data, p->bytes);
}

/* ---- peers ---- */

static taut_status open_peer(assured *a, int q)
{
    peer            *p = &a->peer[q];
    taut__transport *inner = a->w.inner;
    if (p->open) return TAUT_OK;
    p->in_data = taut__alloc(POSTED, TAUT_PIECE_HEAD + TAUT_PIECE);
    p->answer_data = taut__alloc(POSTED, TAUT_PIECE_ANSWER);
    if (!p->in_data || !p->answer_data) return no_memory();
    TAUT_TRY(inner->ops->reserve(inner, 2 * POSTED));
    taut__requests_init(p->in, POSTED);
    taut__requests_init(p->answer_in, POSTED);
    p->open = true;
    for (int i = 0; i < POSTED; i++) {
        TAUT_TRY(inner->ops->irecv(inner, &p->in[i], q, data_tag(a),
                                   p->in_data + (size_t)i * (TAUT_PIECE_HEAD + TAUT_PIECE),
                                   TAUT_PIECE_HEAD + TAUT_PIECE));
        TAUT_TRY(inner->ops->irecv(inner, &p->answer_in[i], q, data_tag(a) + 1, p->answer_data[i], TAUT_PIECE_ANSWER));
    }
    return TAUT_OK;
}

/* ---- sending ---- */

static piece *take_piece(assured *a, size_t bytes)
{
    size_t  most = bytes <= SMALL ? SMALL : TAUT_PIECE_HEAD + TAUT_PIECE;
    piece **from = bytes <= SMALL ? &a->small : &a->large, *p = *from;
    if (p) *from = p->next;
    else p = taut__alloc(1, sizeof *p + most);
    if (!p) return NULL;
    p->next = NULL, p->room = most, p->bytes = bytes, p->times = 0, p->good = false;
    taut__requests_init(p->send, 2);
    return p;
}

static void give_piece(assured *a, piece *p)
{
    piece **to = p->room == SMALL ? &a->small : &a->large;
    a->live -= (size_t)p->times;
    p->next = *to;
    *to = p;
}

static taut_status send_waiting(assured *a, int q)
{
    peer *p = &a->peer[q];
    for (; p->unsent && p->unsent->number - p->first->number < WINDOW; p->unsent = p->unsent->next)
        TAUT_TRY(send_piece(a, q, p->unsent));
    return TAUT_OK;
}

static taut_status queue_piece(assured *a, int q, taut__piece_head *h, const uint8_t *from)
{
    peer  *p = &a->peer[q];
    piece *s = take_piece(a, TAUT_PIECE_HEAD + (size_t)h->bytes);
    if (!s) return no_memory();
    h->number = s->number = p->next++;
    if (h->bytes) memcpy(s->data + TAUT_PIECE_HEAD, from, h->bytes);
    taut__put_head(s->data, h);
    if (p->last && p->first) p->last->next = s;
    else p->first = s;
    p->last = s;
    if (!p->unsent) p->unsent = s;
    return TAUT_OK;
}

static taut_status assured_isend(taut__transport *t, taut__request *r, int q, int tag, const void *buf, size_t bytes)
{
    assured          *a = self_of(t);
    taut__tag_counts *c;
    TAUT_TRY(open_peer(a, q));
    TAUT_TRY(taut__tags_find(&a->peer[q].tags, tag, &c));
    taut__piece_head h = {.job = t->job, .seq = c->sent++, .total = bytes, .tag = (uint32_t)tag};
    do {
        h.bytes = (uint32_t)taut__min(bytes - h.at, TAUT_PIECE);
        TAUT_TRY(queue_piece(a, q, &h, (const uint8_t *)buf + h.at));
        h.at += h.bytes;
    } while (h.at < bytes);
    taut__request_begin(r, true, q, tag, buf, bytes);
    taut__request_end(r);
    return send_waiting(a, q);
}

/* ---- receiving ---- */

static arrival *new_arrival(assured *a, int q, int tag, uint64_t seq)
{
    arrival *x = a->free_arrivals;
    if (x) a->free_arrivals = x->next;
    else x = taut__alloc(1, sizeof *x);
    if (!x) return NULL;
    *x = (arrival){.tag = tag, .seq = seq, .next = a->peer[q].arrivals};
    return a->peer[q].arrivals = x;
}

static arrival *find_arrival(const peer *p, int tag, uint64_t seq)
{
    arrival *x = p->arrivals;
    while (x && !(x->tag == tag && x->seq == seq)) x = x->next;
    return x;
}

static void drop_arrival(assured *a, int q, arrival *x)
{
    arrival **at = &a->peer[q].arrivals;
    while (*at != x) at = &(*at)->next;
    *at = x->next;
    taut__free(x->own);
    x->own = NULL;
    x->next = a->free_arrivals;
    a->free_arrivals = x;
}

/* All of it has come, and somebody wants it. */
static void finish(assured *a, int q, arrival *x)
{
    taut__request *r = x->request;
    if (!r || !x->known || x->got < x->total) return;
    if (x->own) memcpy(r->buf, x->own, taut__min(x->total, r->bytes));
    r->got = (size_t)x->total;
    drop_arrival(a, q, x);
    taut__request_end(r);
}

static taut_status assured_irecv(taut__transport *t, taut__request *r, int q, int tag, void *buf, size_t bytes)
{
    assured          *a = self_of(t);
    taut__tag_counts *c;
    TAUT_TRY(open_peer(a, q));
    TAUT_TRY(taut__tags_find(&a->peer[q].tags, tag, &c));
    taut__request_begin(r, false, q, tag, buf, bytes);
    arrival *x = find_arrival(&a->peer[q], tag, c->wanted);
    if (!x) x = new_arrival(a, q, tag, c->wanted);
    if (!x) return no_memory();
    c->wanted++;
    x->request = r;
    finish(a, q, x);
    return TAUT_OK;
}

static taut_status place_piece(assured *a, int q, const taut__piece_head *h, const uint8_t *from)
{
    arrival *x = find_arrival(&a->peer[q], (int)h->tag, h->seq);
    if (!x) x = new_arrival(a, q, (int)h->tag, h->seq);
    if (!x) return no_memory();
    if (!x->request && !x->own && !(x->own = taut__alloc(1, (size_t)h->total))) return no_memory();
    uint8_t *to = x->own ? x->own : x->request->buf;
    size_t   most = x->own ? (size_t)h->total : x->request->bytes, at = (size_t)h->at;
    if (h->bytes && at < most) memcpy(to + at, from, taut__min(h->bytes, most - at));
    x->known = true, x->total = h->total, x->got += h->bytes;
    finish(a, q, x);
    return TAUT_OK;
}

static bool seen(peer *p, uint64_t number)
{
    if (number < p->below) return true;
    return p->seen[number % WINDOW / 64] >> number % 64 & 1;
}

static void note_seen(peer *p, uint64_t number)
{
    p->seen[number % WINDOW / 64] |= 1ull << number % 64;
    for (; seen(p, p->below); p->below++) p->seen[p->below % WINDOW / 64] &= ~(1ull << p->below % 64);
}

static taut_status tell(assured *a, int q, uint32_t what, uint64_t number)
{
    answer *x = a->free_answers;
    if (x) a->free_answers = x->next;
    else x = taut__alloc(1, sizeof *x);
    if (!x) return no_memory();
    taut__put_answer(x->data, a->w.base.job, what, number);
    x->next = a->peer[q].answers;
    a->peer[q].answers = x;
    TAUT_TRY(room(a));
    a->live++;
    return a->w.inner->ops->isend(a->w.inner, &x->send, q, data_tag(a) + 1, x->data, TAUT_PIECE_ANSWER);
}

static taut_status hear_piece(assured *a, int q, const uint8_t *src, size_t bytes)
{
    peer            *p = &a->peer[q];
    taut__piece_head h;
    if (!taut__get_head(src, bytes, &h)) return tell(a, q, TAUT_PIECE_ALL, 0);
    if (h.job != a->w.base.job) return TAUT_OK;
    if (!taut__piece_whole(src, bytes, &h)) return tell(a, q, TAUT_PIECE_AGAIN, h.number);
    if (h.number >= p->below + WINDOW)
        return taut__fail(TAUT_E_CORRUPT, "rank %d sent piece %llu, and piece %llu never", q,
                          (unsigned long long)h.number, (unsigned long long)p->below);
    if (!seen(p, h.number)) {
        TAUT_TRY(place_piece(a, q, &h, src + TAUT_PIECE_HEAD));
        note_seen(p, h.number);
    }
    return tell(a, q, TAUT_PIECE_GOOD, h.number);
}

/* ---- what receivers answer ---- */

static taut_status once_more(assured *a, int q, piece *s)
{
    if (s->times < 2) return send_piece(a, q, s);
    return taut__fail(TAUT_E_CORRUPT, "a message from rank %d to rank %d was damaged twice on its way", a->w.base.rank,
                      q);
}

static taut_status all_once_more(assured *a, int q)
{
    for (piece *s = a->peer[q].first; s && s != a->peer[q].unsent; s = s->next)
        if (!s->good && s->times == 1) TAUT_TRY(send_piece(a, q, s));
    return TAUT_OK;
}

static taut_status hear_answer(assured *a, int q, const uint8_t *src, size_t bytes)
{
    uint64_t job, number;
    uint32_t what;
    if (!taut__get_answer(src, bytes, &job, &what, &number) || job != a->w.base.job)
        return TAUT_OK; /* it will be missed */
    if (what == TAUT_PIECE_ALL) return all_once_more(a, q);
    piece *s = a->peer[q].first;
    while (s && s->number != number) s = s->next;
    if (!s || s->good || s->times == 0) return TAUT_OK;
    if (what == TAUT_PIECE_AGAIN) return once_more(a, q, s);
    s->good = true;
    if (s->times == 1) a->peer[q].delay_s += 0.1 * (taut__now() - s->sent_s - a->peer[q].delay_s);
    return TAUT_OK;
}

/* ---- poll ---- */

static taut_status hear(assured *a, int q)
{
    peer            *p = &a->peer[q];
    taut__transport *inner = a->w.inner;
    for (unsigned i; i = p->answer_at % POSTED, taut__done(&p->answer_in[i]); p->answer_at++) {
        TAUT_TRY(hear_answer(a, q, p->answer_data[i], p->answer_in[i].got));
        TAUT_TRY(inner->ops->irecv(inner, &p->answer_in[i], q, data_tag(a) + 1, p->answer_data[i], TAUT_PIECE_ANSWER));
    }
    for (unsigned i; i = p->at % POSTED, taut__done(&p->in[i]); p->at++) {
        uint8_t *data = p->in_data + (size_t)i * (TAUT_PIECE_HEAD + TAUT_PIECE);
        TAUT_TRY(hear_piece(a, q, data, p->in[i].got));
        TAUT_TRY(inner->ops->irecv(inner, &p->in[i], q, data_tag(a), data, TAUT_PIECE_HEAD + TAUT_PIECE));
    }
    return TAUT_OK;
}

static void tidy(assured *a, peer *p)
{
    for (piece *s; (s = p->first) && s->good && taut__all_done(s->send, 2);) {
        p->first = s->next;
        if (!p->first) p->last = NULL;
        give_piece(a, s);
    }
    for (answer **at = &p->answers, *x; (x = *at);) {
        if (!taut__done(&x->send)) {
            at = &x->next;
            continue;
        }
        *at = x->next;
        x->next = a->free_answers;
        a->free_answers = x;
        a->live--;
    }
}

static taut_status resend_late(assured *a, int q)
{
    peer  *p = &a->peer[q];
    double now = p->first ? taut__now() : 0, patience = LEAST_S + DELAYS * p->delay_s;
    if (patience > a->patience_s) patience = a->patience_s;
    for (piece *s = p->first; s && s != p->unsent && now - s->sent_s > patience; s = s->next)
        if (!s->good && s->times == 1) TAUT_TRY(send_piece(a, q, s));
    return TAUT_OK;
}

static taut_status assured_poll(taut__transport *t)
{
    assured *a = self_of(t);
    TAUT_TRY(a->w.inner->ops->poll(a->w.inner));
    for (int q = 0; q < t->size; q++) {
        if (!a->peer[q].open) continue;
        TAUT_TRY(hear(a, q));
        tidy(a, &a->peer[q]);
        TAUT_TRY(send_waiting(a, q));
        TAUT_TRY(resend_late(a, q));
    }
    return TAUT_OK;
}

/* What was sent twice is not sent again. */
static bool assured_pending(const taut__transport *t)
{
    const assured         *a = self_of(t);
    const taut__transport *inner = a->w.inner;
    for (int q = 0; q < t->size; q++)
        for (const piece *s = a->peer[q].first; s; s = s->next)
            if (!s->good && s->times < 2) return true;
    return inner->ops->pending && inner->ops->pending(inner);
}

/* Only receives are ever under way; what comes for it later finds nobody who wants it. */
static void assured_cancel(taut__transport *t, taut__request *r)
{
    assured *a = self_of(t);
    if (taut__done(r)) return;
    for (arrival *x = a->peer[r->peer].arrivals; x; x = x->next) {
        if (x->request != r) continue;
        drop_arrival(a, r->peer, x);
        break;
    }
    taut__request_end(r);
}

/* ---- life ---- */

static bool all_acknowledged(const assured *a)
{
    for (int q = 0; q < a->w.base.size; q++)
        if (a->peer[q].first) return false;
    return true;
}

/* Others may still be asking for what this rank sent last. */
static void linger(assured *a)
{
    taut__notice why;
    double       until = taut__now() + LINGER_S;
    while (!all_acknowledged(a) && taut__now() < until && !a->w.inner->ops->aborted(a->w.inner, &why)) {
        if (assured_poll(&a->w.base) != TAUT_OK) return;
        a->w.inner->ops->idle(a->w.inner, 50);
    }
}

static void cancel_peer(assured *a, peer *p)
{
    taut__transport *inner = a->w.inner;
    for (int i = 0; i < POSTED && p->open; i++) {
        inner->ops->cancel(inner, &p->in[i]);
        inner->ops->cancel(inner, &p->answer_in[i]);
    }
    for (piece *s = p->first; s; s = s->next)
        for (int i = 0; i < 2; i++) inner->ops->cancel(inner, &s->send[i]);
    for (answer *x = p->answers; x; x = x->next) inner->ops->cancel(inner, &x->send);
}

/* `next` is the first member of all of them. */
static void free_list(void *first)
{
    for (void *x = first, *next; x; x = next) {
        memcpy(&next, x, sizeof next);
        taut__free(x);
    }
}

static void free_peer(peer *p)
{
    for (arrival *x = p->arrivals; x; x = x->next) taut__free(x->own);
    free_list(p->arrivals), free_list(p->first), free_list(p->answers);
    taut__free(p->in_data), taut__free(p->answer_data), taut__tags_free(&p->tags);
}

static void assured_destroy(taut__transport *t)
{
    assured         *a = self_of(t);
    taut__transport *inner = a->w.inner;
    linger(a);
    for (int q = 0; q < t->size; q++) cancel_peer(a, &a->peer[q]);
    bool keep = inner->dirty; /* the inner transport may still read or write some of it */
    for (int q = 0; q < t->size && !keep; q++) free_peer(&a->peer[q]);
    free_list(a->small), free_list(a->large), free_list(a->free_answers), free_list(a->free_arrivals);
    inner->ops->destroy(inner);
    if (keep) return;
    taut__free(a->peer);
    taut__free(a);
}

taut_status taut__assured_create(int patience_ms, taut__transport **t)
{
    assured *a = taut__alloc(1, sizeof *a);
    if (!a || !(a->peer = taut__alloc((size_t)(*t)->size, sizeof *a->peer))) {
        taut__free(a);
        return no_memory();
    }
    taut__wrap(&a->w, *t, "assured");
    a->patience_s = patience_ms < 0 ? 5 : 1e-3 * patience_ms;
    a->w.base.tag_max = INT32_MAX;
    a->w.ops.isend = assured_isend;
    a->w.ops.irecv = assured_irecv;
    a->w.ops.poll = assured_poll;
    a->w.ops.cancel = assured_cancel;
    a->w.ops.pending = assured_pending;
    a->w.ops.reserve = taut__reserves_nothing; /* requests of the inner transport are this file's own */
    a->w.ops.destroy = assured_destroy;
    a->w.ops.allreduce = NULL;
    a->w.ops.end_job = NULL;
    *t = &a->w.base;
    return TAUT_OK;
}
