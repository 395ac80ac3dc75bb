/* data_messages.c : the data half over messages of a control half.
 *
 * A group passes through: leaving (what it sends has been written: an event of the place's stream has passed; staged, it has been copied to
 * host memory too), moving (messages are under way), arriving (staged: what came is being copied back), and is then ready. On the host
 * there is nothing to wait for but messages. */
#include "data.h"

typedef struct message {
    taut__request request;
    bool          sends;
    int           peer;
    char         *buf, *stage; /* stage: NULL where the transport takes buf */
    size_t        bytes, at;   /* at: in the stage */
} message;

typedef enum state { READY, OPEN, LEAVING, MOVING, ARRIVING } state;

typedef struct messages {
    taut__data         base;
    taut__transport   *t;
    int                tag;
    bool               direct;
    state              state;
    taut_place         place;
    const taut__space *space; /* NULL on the host */
    taut__event       *event; /* of space, where it is not NULL */
    message           *message;
    size_t             room, n;
    char              *stage;
    size_t             stage_bytes, staged;
    _Atomic bool       aborted;
} messages;

static messages *of(taut__data *d) { return (messages *)(void *)d; }
static bool      stages(const messages *m) { return m->space && !m->direct; }

static taut_status gone(void) { return taut__fail(TAUT_E_STATE, "data: aborted"); }

/* The event is that of the space in which it was made; a communicator has buffers on one device. */
static taut_status enter_place(messages *m, taut_place place)
{
    const taut__space *space = taut__on_host(place) ? NULL : taut__space_of(place.space);
    if (!space && !taut__on_host(place))
        return taut__fail(TAUT_E_UNSUPPORTED, "data: there is no space %s", taut__space_name(place.space));
    if (m->event && space != m->space) m->space->event_destroy(m->event), m->event = NULL;
    m->space = space;
    m->place = place;
    return space && !m->event ? space->event_create(place, &m->event) : TAUT_OK;
}

static taut_status group_begin(taut__data *d, taut_place place)
{
    messages *m = of(d);
    if (atomic_load(&m->aborted)) return gone();
    if (m->state != READY) return taut__fail(TAUT_E_STATE, "data: a group is begun while another one is under way");
    TAUT_TRY(enter_place(m, place));
    m->state = OPEN;
    m->n = m->staged = 0;
    return TAUT_OK;
}

static taut_status add(taut__data *d, bool sends, int peer, void *buf, size_t bytes)
{
    messages *m = of(d);
    if (m->state != OPEN) return taut__fail(TAUT_E_STATE, "data: a message outside a group");
    if (m->n == m->room) return taut__fail(TAUT_E_RANGE, "data: more than %zu messages in a group", m->room);
    m->message[m->n++] = (message){.sends = sends, .peer = peer, .buf = buf, .bytes = bytes, .at = m->staged};
    taut__requests_init(&m->message[m->n - 1].request, 1);
    m->staged += (bytes + 63) / 64 * 64;
    if (sends) d->sent += bytes;
    return TAUT_OK;
}
static taut_status send(taut__data *d, int peer, const void *buf, size_t bytes)
{
    return add(d, true, peer, (void *)(uintptr_t)buf, bytes);
}
static taut_status recv(taut__data *d, int peer, void *buf, size_t bytes) { return add(d, false, peer, buf, bytes); }

static taut_status make_stage(messages *m)
{
    if (!taut__room(&m->stage, &m->stage_bytes, m->staged, 1))
        return taut__fail(TAUT_E_NOMEM, "data: out of memory for %zu bytes of host memory", m->staged);
    for (size_t i = 0; i < m->n; i++) m->message[i].stage = m->stage + m->message[i].at;
    return TAUT_OK;
}

/* Sends' bytes to the stage, or what came back from it. */
static taut_status copy_all(messages *m, bool sends)
{
    for (size_t i = 0; i < m->n; i++) {
        const message *x = &m->message[i];
        if (x->sends == sends)
            TAUT_TRY(m->space->copy(m->place, sends ? x->stage : x->buf, sends ? x->buf : x->stage, x->bytes));
    }
    return m->space->event_record(m->event, m->place);
}

static taut_status post(messages *m, bool sends)
{
    for (size_t i = 0; i < m->n; i++) {
        message *x = &m->message[i];
        char    *at = x->stage ? x->stage : x->buf;
        if (x->sends != sends) continue;
        TAUT_TRY(sends ? m->t->ops->isend(m->t, &x->request, x->peer, m->tag, at, x->bytes)
                       : m->t->ops->irecv(m->t, &x->request, x->peer, m->tag, at, x->bytes));
    }
    return TAUT_OK;
}

static taut_status group_end(taut__data *d)
{
    messages *m = of(d);
    if (m->state != OPEN) return taut__fail(TAUT_E_STATE, "data: the end of a group that was not begun");
    m->state = LEAVING;
    if (stages(m)) TAUT_TRY(make_stage(m));
    if (stages(m)) TAUT_TRY(copy_all(m, true));
    else if (m->space) TAUT_TRY(m->space->event_record(m->event, m->place));
    if (!m->space || stages(m)) return post(m, false); /* else the place may still use what is received into */
    return TAUT_OK;
}

static taut_status check_lengths(const messages *m)
{
    for (size_t i = 0; i < m->n; i++) {
        const message *x = &m->message[i];
        if (!x->sends && x->request.got != x->bytes)
            return taut__fail(TAUT_E_CORRUPT, "data: rank %d sent %zu bytes where %zu were expected", x->peer,
                              x->request.got, x->bytes);
    }
    return TAUT_OK;
}

static bool all_done(const messages *m)
{
    for (size_t i = 0; i < m->n; i++)
        if (!taut__done(&m->message[i].request)) return false;
    return true;
}

/* To the next state; *moved: it came there. */
static taut_status move_on(messages *m, bool *moved)
{
    *moved = true;
    if ((m->state == LEAVING || m->state == ARRIVING) && m->space) TAUT_TRY(m->space->event_test(m->event, moved));
    if (m->state == MOVING) *moved = all_done(m);
    if (!*moved) return TAUT_OK;
    switch (m->state) {
    case LEAVING:
        m->state = MOVING;
        if (m->space && !stages(m)) TAUT_TRY(post(m, false));
        return post(m, true);
    case MOVING:
        TAUT_TRY(check_lengths(m));
        m->state = stages(m) ? ARRIVING : READY;
        return stages(m) ? copy_all(m, false) : TAUT_OK;
    default: m->state = READY; return TAUT_OK;
    }
}

static taut_status ready(taut__data *d, bool *is_ready)
{
    messages *m = of(d);
    *is_ready = false;
    if (atomic_load(&m->aborted)) return gone();
    for (bool moved = true; moved && m->state > OPEN;) TAUT_TRY(move_on(m, &moved));
    *is_ready = m->state == READY;
    return TAUT_OK;
}

static int waiting_for(const taut__data *d)
{
    const messages *m = (const messages *)(const void *)d;
    for (size_t i = 0; i < m->n && m->state == MOVING; i++)
        if (!taut__done(&m->message[i].request)) return m->message[i].peer;
    return -1;
}

/* Requests are the transport's: they are cancelled by destroy(), in its thread. */
static void abort_all(taut__data *d) { atomic_store(&of(d)->aborted, true); }

static void destroy(taut__data *d)
{
    if (!d) return;
    messages *m = of(d);
    for (size_t i = 0; i < m->n && m->state > OPEN; i++)
        if (!taut__done(&m->message[i].request)) m->t->ops->cancel(m->t, &m->message[i].request);
    if (m->event) m->space->event_destroy(m->event);
    if (m->t->dirty) return; /* a late message may still be written into, or read from, its memory */
    taut__free(m->message);
    taut__free(m->stage);
    taut__free(m);
}

static const taut__data_ops ops = {
    .name = "messages",
    .group_begin = group_begin,
    .send = send,
    .recv = recv,
    .group_end = group_end,
    .ready = ready,
    .waiting_for = waiting_for,
    .abort = abort_all,
    .destroy = destroy,
};

taut_status taut__data_messages(taut__transport *t, int tag, size_t requests, bool direct, taut__data **out)
{
    messages *m = taut__alloc(1, sizeof *m);
    *out = NULL;
    if (m) m->message = taut__alloc(requests, sizeof *m->message);
    if (!m || !m->message) {
        taut__free(m);
        return taut__fail(TAUT_E_NOMEM, "data: out of memory for %zu messages", requests);
    }
    m->base = (taut__data){.ops = &ops, .rank = t->rank, .size = t->size};
    m->t = t, m->tag = tag, m->direct = direct, m->room = requests;
    taut_status s = t->ops->reserve(t, requests);
    *out = s == TAUT_OK ? &m->base : NULL;
    if (s != TAUT_OK) taut__free(m->message), taut__free(m);
    return s;
}
