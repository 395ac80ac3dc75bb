/* wrapped.c : see wrapped.h. */
#include "wrapped.h"

static taut_status isend(taut__transport *t, taut__request *r, int peer, int tag, const void *buf, size_t bytes)
{
    return taut__inner(t)->ops->isend(taut__inner(t), r, peer, tag, buf, bytes);
}
static taut_status irecv(taut__transport *t, taut__request *r, int peer, int tag, void *buf, size_t room)
{
    return taut__inner(t)->ops->irecv(taut__inner(t), r, peer, tag, buf, room);
}
static taut_status poll(taut__transport *t)
{
    taut_status s = taut__inner(t)->ops->poll(taut__inner(t));
    t->dirty = taut__inner(t)->dirty;
    return s;
}
static void idle(taut__transport *t, int us) { taut__inner(t)->ops->idle(taut__inner(t), us); }
static void cancel(taut__transport *t, taut__request *r)
{
    taut__inner(t)->ops->cancel(taut__inner(t), r);
    t->dirty = taut__inner(t)->dirty;
}
static taut_status reserve(taut__transport *t, size_t n) { return taut__inner(t)->ops->reserve(taut__inner(t), n); }
static taut_status allreduce(taut__transport *t, void *buf, size_t n, taut__number kind)
{
    return taut__inner(t)->ops->allreduce(taut__inner(t), buf, n, kind);
}
static void end_job(taut__transport *t, const char *why) { taut__inner(t)->ops->end_job(taut__inner(t), why); }
static void abort_all(taut__transport *t, const taut__notice *why) { taut__inner(t)->ops->abort(taut__inner(t), why); }
static bool aborted(taut__transport *t, taut__notice *why) { return taut__inner(t)->ops->aborted(taut__inner(t), why); }
static void tell(taut__transport *t, int peer, const taut__notice *word)
{
    taut__inner(t)->ops->tell(taut__inner(t), peer, word);
}
static bool heard(taut__transport *t, taut__notice *word) { return taut__inner(t)->ops->heard(taut__inner(t), word); }
static taut_status shrink(taut__transport *t, int wait_ms, taut__transport **smaller, int *old)
{
    return taut__inner(t)->ops->shrink(taut__inner(t), wait_ms, smaller, old);
}
static bool all_agree(taut__transport *t, bool mine) { return taut__inner(t)->ops->all_agree(taut__inner(t), mine); }
static bool pending(const taut__transport *t) { return taut__inner(t)->ops->pending(taut__inner(t)); }
static void destroy(taut__transport *t)
{
    taut__inner(t)->ops->destroy(taut__inner(t));
    taut__free(t);
}

void taut__wrap(taut__wrapped *w, taut__transport *inner, const char *name)
{
    w->inner = inner;
    w->base = *inner; /* the hosts are the inner one's */
    w->ops = (taut__transport_ops){
        .name = name,
        .isend = isend,
        .irecv = irecv,
        .poll = poll,
        .idle = idle,
        .cancel = cancel,
        .reserve = reserve,
        .allreduce = inner->ops->allreduce ? allreduce : NULL,
        .end_job = inner->ops->end_job ? end_job : NULL,
        .abort = abort_all,
        .aborted = aborted,
        .tell = tell,
        .heard = heard,
        .shrink = inner->ops->shrink ? shrink : NULL,
        .all_agree = inner->ops->all_agree ? all_agree : NULL,
        .pending = inner->ops->pending ? pending : NULL,
        .destroy = destroy,
    };
    w->base.ops = &w->ops;
}
