/* faulty.c : see wrapped.h. What is not sent as it is goes as a copy that belongs to the wrapper; the caller's request is done at once. */
#include "wrapped.h"
#include <string.h>

enum { REORDER_US = 2000 }; /* how long a message waits for the one that is to overtake it */

typedef struct copy {
    taut__request request; /* of the inner transport, once it has been sent */
    int           peer, tag;
    size_t        bytes;
    double        due;             /* when it is to be sent */
    bool          sent, overtaken; /* overtaken: others may pass */
    struct copy  *next;
    uint8_t       data[];
} copy;

typedef struct faulty {
    taut__wrapped w;
    taut__faults  f;
    uint64_t      number, all; /* messages, faults made */
    size_t        copies, reserved;
    copy         *first; /* in the order of sending */
} faulty;

static faulty *self_of(const taut__transport *t) { return (faulty *)(uintptr_t)t; }

/* ---- the text ---- */

static const char *const share_name[TAUT_FAULTS] = {"drop", "delay", "twice", "reorder", "flip", "cut"};

static double *field_of(taut__faults *f, const char *key, size_t n, double *most)
{
    const struct {
        const char *name;
        double     *field;
    } other[] = {{"delay_us", &f->delay_us}, {"least", &f->least}, {"most", &f->most},
                 {"after", &f->after},       {"times", &f->times}, {"rank", &f->rank}};
    *most = 1;
    for (int i = 0; i < TAUT_FAULTS; i++)
        if (strlen(share_name[i]) == n && memcmp(share_name[i], key, n) == 0) return &f->share[i];
    *most = 1e15;
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (strlen(other[i].name) == n && memcmp(other[i].name, key, n) == 0) return other[i].field;
    return NULL;
}

taut_status taut__faults_parse(const char *text, taut__faults *f)
{
    *f = (taut__faults){.seed = 1, .delay_us = 1000, .most = 1e15, .times = 1e15, .rank = -1};
    double together = 0;
    while (*text) {
        size_t n = strcspn(text, "=,");
        double most, value, *field = field_of(f, text, n, &most);
        char  *end = NULL;
        bool   seed = n == 4 && memcmp(text, "seed", 4) == 0;
        if (!field && !seed)
            return taut__fail(TAUT_E_INVALID,
                              "TAUT_FAULTS: '%.*s': must be drop, delay, twice, reorder, flip, cut, seed, delay_us, "
                              "least, most, after, times or rank",
                              (int)n, text);
        value = text[n] == '=' ? taut__strtod(text + n + 1, &end) : -1;
        if (!end || end == text + n + 1 || (*end && *end != ',') || !(value >= 0 && value <= (seed ? 1e15 : most)))
            return taut__fail(TAUT_E_RANGE, "TAUT_FAULTS: %.*s: must be 0..%g", (int)strcspn(text, ","), text,
                              seed ? 1e15 : most);
        if (seed) f->seed = (uint64_t)value;
        else *field = value;
        text = *end ? end + 1 : end;
    }
    for (int i = 0; i < TAUT_FAULTS; i++) together += f->share[i];
    return together <= 1 ? TAUT_OK
                         : taut__fail(TAUT_E_RANGE, "TAUT_FAULTS: shares of %g together: must be at most 1", together);
}

bool taut__faults_any(const taut__faults *f)
{
    for (int i = 0; i < TAUT_FAULTS; i++)
        if (f->share[i] > 0) return true;
    return false;
}

/* ---- copies ---- */

static copy *copy_of(faulty *x, int peer, int tag, const void *buf, size_t bytes)
{
    copy *c = taut__alloc(1, sizeof *c + bytes);
    if (!c) return NULL;
    taut__requests_init(&c->request, 1);
    c->peer = peer, c->tag = tag, c->bytes = bytes;
    if (bytes) memcpy(c->data, buf, bytes);
    copy **at = &x->first;
    while (*at) at = &(*at)->next;
    *at = c;
    x->copies++;
    return c;
}

static taut_status send_copy(faulty *x, copy *c)
{
    taut__transport *inner = x->w.inner;
    if (x->copies > x->reserved) {
        TAUT_TRY(inner->ops->reserve(inner, x->copies - x->reserved));
        x->reserved = x->copies;
    }
    c->sent = true;
    return inner->ops->isend(inner, &c->request, c->peer, c->tag, c->data, c->bytes);
}

/* What is still held back for this rank and may not be passed. */
static bool held(const faulty *x, int peer, double *until)
{
    bool any = false;
    for (const copy *c = x->first; c; c = c->next)
        if (!c->sent && !c->overtaken && c->peer == peer) any = true, *until = c->due;
    return any;
}

static taut_status send_due(faulty *x, bool all)
{
    double now = x->first ? taut__now() : 0;
    for (copy **at = &x->first, *c; (c = *at);) {
        if (!c->sent && (all || c->due <= now)) TAUT_TRY(send_copy(x, c));
        if (!c->sent || !taut__done(&c->request)) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        x->copies--;
        taut__free(c);
    }
    return TAUT_OK;
}

/* The next message to a rank has been sent: the one that it was to overtake follows. */
static void release_overtaken(faulty *x, int peer)
{
    for (copy *c = x->first; c; c = c->next)
        if (c->overtaken && c->peer == peer) c->due = 0;
}

/* ---- drawing ---- */

/* number: for what there is to choose about the fault. */
static int draw(faulty *x, size_t bytes, uint32_t *number)
{
    taut__rng g = taut__rng_of(x->f.seed, (uint64_t)(uint32_t)x->w.base.rank << 32);
    uint32_t  i = 2 * (uint32_t)x->number++;
    double    u = (double)taut__random32(g, i) / 4294967296.0, sum = 0;
    *number = taut__random32(g, i + 1);
    if ((double)bytes < x->f.least || (double)bytes > x->f.most || (double)x->number <= x->f.after ||
        (double)x->all >= x->f.times)
        return -1;
    if (x->f.rank >= 0 && x->w.base.rank != (int)x->f.rank) return -1;
    for (int kind = 0; kind < TAUT_FAULTS; kind++)
        if (u < (sum += x->f.share[kind])) return kind;
    return -1;
}

/* A request that the wrapper answers itself, at once. */
static void sent(taut__request *r, int peer, int tag, const void *buf, size_t bytes)
{
    taut__request_begin(r, true, peer, tag, buf, bytes);
    taut__request_end(r);
}

static taut_status damage(faulty *x, int kind, uint32_t number, taut__request *r, int peer, int tag, const void *buf,
                          size_t bytes)
{
    copy *c = kind == TAUT_FAULT_DROP ? NULL : copy_of(x, peer, tag, buf, bytes);
    if (!c && kind != TAUT_FAULT_DROP) return taut__fail(TAUT_E_NOMEM, "faulty: out of memory for %zu bytes", bytes);
    x->all++;
    sent(r, peer, tag, buf, bytes);
    switch (kind) {
    case TAUT_FAULT_DELAY: c->due = taut__now() + 1e-6 * x->f.delay_us * (double)number / 4294967296.0; return TAUT_OK;
    case TAUT_FAULT_REORDER: c->due = taut__now() + 1e-6 * REORDER_US, c->overtaken = true; return TAUT_OK;
    case TAUT_FAULT_TWICE:
        TAUT_TRY(send_copy(x, c));
        c = copy_of(x, peer, tag, buf, bytes);
        break;
    case TAUT_FAULT_FLIP:
        if (bytes) c->data[number / 8 % bytes] ^= (uint8_t)(1u << number % 8);
        break;
    case TAUT_FAULT_CUT: c->bytes -= bytes ? 1 + number % (bytes < 64 ? bytes : 64) : 0; break;
    default: return TAUT_OK; /* nothing is sent */
    }
    return c ? send_copy(x, c) : taut__fail(TAUT_E_NOMEM, "faulty: out of memory for %zu bytes", bytes);
}

static taut_status faulty_isend(taut__transport *t, taut__request *r, int peer, int tag, const void *buf, size_t bytes)
{
    faulty  *x = self_of(t);
    double   until = 0;
    uint32_t number;
    int      kind = draw(x, bytes, &number);
    if (held(x, peer, &until)) { /* behind what is delayed, whole */
        copy *c = copy_of(x, peer, tag, buf, bytes);
        if (!c) return taut__fail(TAUT_E_NOMEM, "faulty: out of memory for %zu bytes", bytes);
        c->due = until;
        sent(r, peer, tag, buf, bytes);
        return TAUT_OK;
    }
    taut_status s = kind < 0 ? x->w.inner->ops->isend(x->w.inner, r, peer, tag, buf, bytes)
                             : damage(x, kind, number, r, peer, tag, buf, bytes);
    if (kind != TAUT_FAULT_REORDER) release_overtaken(x, peer);
    return s == TAUT_OK ? send_due(x, false) : s;
}

static taut_status faulty_poll(taut__transport *t)
{
    faulty *x = self_of(t);
    TAUT_TRY(send_due(x, false));
    taut_status s = x->w.inner->ops->poll(x->w.inner);
    t->dirty = x->w.inner->dirty;
    return s;
}

static bool faulty_pending(const taut__transport *t)
{
    const taut__transport *inner = taut__inner(t);
    return self_of(t)->first || (inner->ops->pending && inner->ops->pending(inner));
}

/* What was held back still goes out. */
static void faulty_destroy(taut__transport *t)
{
    faulty          *x = self_of(t);
    taut__transport *inner = x->w.inner;
    (void)send_due(x, true);
    for (int i = 0; i < 100 && x->first && inner->ops->poll(inner) == TAUT_OK; i++) {
        (void)send_due(x, true);
        if (x->first) inner->ops->idle(inner, 100);
    }
    for (copy *c = x->first, *next; c; c = next) {
        next = c->next;
        inner->ops->cancel(inner, &c->request);
        if (!inner->dirty) taut__free(c);
    }
    inner->ops->destroy(inner);
    taut__free(x);
}

taut_status taut__faulty_create(const taut__faults *f, taut__transport **t)
{
    faulty *x = taut__alloc(1, sizeof *x);
    if (!x) return taut__fail(TAUT_E_NOMEM, "faulty: out of memory");
    taut__wrap(&x->w, *t, "faulty");
    x->f = *f;
    x->w.ops.isend = faulty_isend;
    x->w.ops.poll = faulty_poll;
    x->w.ops.pending = faulty_pending;
    x->w.ops.destroy = faulty_destroy;
    *t = &x->w.base;
    return TAUT_OK;
}
