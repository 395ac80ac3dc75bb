/* shrink.c : what the survivors of a failure make of a communicator.
 *
 * The transport finds out who is left and gives them one of their own. Then, on that:
 *
 *  1. Every rank makes a communicator with the same layers. What the step that failed has left in residuals is dropped.
 *  2. They tell each other how many steps they have ended, which differ by one at most: a rank may have had the last message of a step that
 *     the others lack. The lowest of those that are furthest is the source.
 *  3. The source's state without residuals, which is what all ranks share, goes to all: a sum of bytes to which the others add
 *     nothing. Each then adds its own residuals.
 *  4. They agree that all have done so; where the transport can, in a way that gives all the same answer even if a rank is lost in it.
 *
 * A rank that fails on the way takes part in the exchanges all the same, and says so in them. */
#include "state.h"
#include <math.h>
#include <string.h>

enum { WAIT_MS = 60000 };
enum { STEPS, KEPT, KNOWN, BYTES, GOOD, COLUMNS }; /* what ranks tell each other: columns of ranks values */

typedef struct shrinking {
    taut_comm  *from, *to;
    int        *old;    /* ranks of `from`, by those of `to` */
    taut_status status; /* of this rank */
    void       *own;    /* this rank's state */
    size_t      own_n;
    double     *told; /* COLUMNS * size */
} shrinking;

static double *column(const shrinking *s, int which) { return s->told + (size_t)which * (size_t)s->to->ctx.all.size; }

/* ---- what is left on this rank ---- */

static double residual_norm2(const taut_layer *l)
{
    if (!l->operand.feedback || !l->operand.residual || !taut__layer_at_home(l)) return 0;
    return taut__norm2(&l->operand.tensor, l->operand.feedback->r, 0, l->operand.tensor.elems).plain;
}

/* -1: not known of some layer. Before the step is forgotten. */
static double known_residuals(const taut_comm *comm)
{
    double all = 0;
    for (size_t i = 0; i < comm->layers; i++) {
        if (comm->layer[i]->residual_all < 0) return -1;
        all += comm->layer[i]->residual_all;
    }
    return all;
}

static double kept_residuals(const taut_comm *comm)
{
    double all = 0;
    for (size_t i = 0; i < comm->layers; i++) all += residual_norm2(comm->layer[i]);
    return all;
}

static taut_status save(const taut_comm *comm, bool residuals, void **blob, size_t *n)
{
    TAUT_TRY(taut__state_write(comm, residuals, NULL, 0, n));
    if (!(*blob = taut__alloc(1, taut__round_up(*n, 8))))
        return taut__fail(TAUT_E_NOMEM, "taut_comm_shrink: out of memory for %zu bytes of state", *n);
    return taut__state_write(comm, residuals, *blob, *n, n);
}

/* ---- the same layers ---- */

static taut_status same_codec(const taut_layer *l, taut_layer *now)
{
    char spec[TAUT_LONG_SPEC] = "auto";
    if (l->pinned) taut__spec_print(&l->spec, spec, sizeof spec);
    return l->pinned || (l->automatic && !now->automatic) ? taut_layer_codec(now, spec) : TAUT_OK;
}

static taut_status same_layers(const taut_comm *from, taut_comm *to)
{
    for (size_t i = 0; i < from->layers; i++) {
        const taut_layer *l = from->layer[i];
        taut_layer       *now;
        if (l->bundle) continue;
        TAUT_TRY(taut_layer_register(to, l->name, l->operand.dtype, l->ndim, l->shape, &now));
        TAUT_TRY(same_codec(l, now));
        TAUT_TRY(taut__scale_same(l, now));
    }
    return TAUT_OK;
}

/* ---- with the others ---- */

static taut_status tell(shrinking *s, double known, double kept)
{
    int p = s->to->ctx.all.size, me = s->to->ctx.all.rank;
    memset(s->told, 0, (size_t)COLUMNS * (size_t)p * sizeof *s->told);
    column(s, STEPS)[me] = (double)s->from->steps;
    column(s, KEPT)[me] = kept;
    column(s, KNOWN)[me] = known;
    column(s, BYTES)[me] = (double)s->own_n;
    column(s, GOOD)[me] = s->status == TAUT_OK;
    return taut__context_sum(&s->to->ctx, s->told, (size_t)COLUMNS * (size_t)p);
}

static int find_source(const shrinking *s)
{
    int best = 0;
    for (int r = 1; r < s->to->ctx.all.size; r++)
        if (column(s, STEPS)[r] > column(s, STEPS)[best]) best = r;
    return best;
}

static taut_status share(shrinking *s, int source, void **blob, size_t *n)
{
    static const taut__mixed bits = {0, 0}; /* all of it is ORed */
    taut__small_allreduce    x;
    taut_comm               *to = s->to;
    bool                     mine = source == to->ctx.all.rank;
    void                    *in = NULL;
    double                   bytes[1] = {0};
    if (mine && s->status == TAUT_OK) s->status = save(s->from, false, blob, n);
    if (mine && s->status == TAUT_OK) bytes[0] = (double)*n;
    TAUT_TRY(taut__context_sum(&to->ctx, bytes, 1));
    *n = (size_t)bytes[0];
    size_t room = taut__round_up(*n, 8);
    if (room == 0) return TAUT_OK; /* the source has failed, and will say so */
    if (!mine) *blob = taut__alloc(1, room);
    in = taut__alloc(1, room);
    if (!*blob || !in)
        return taut__engine_fail(&to->ctx.engine, TAUT_E_NOMEM,
                                 "taut_comm_shrink: out of memory for the state of another rank");
    taut__small_allreduce_begin(&x, &to->ctx.all, TAUT_TAG_SUM, *blob, in, room, taut__combine_mixed, &bits);
    taut_status status = taut__engine_exchange(&to->ctx.engine, &x, "taut_comm_shrink: the state that ranks share");
    if (!to->ctx.t->dirty) taut__free(in);
    return status;
}

static taut_status agree(shrinking *s)
{
    int     p = s->to->ctx.all.size;
    double *good = column(s, GOOD);
    for (int r = 0; r < p; r++) good[r] = r == s->to->ctx.all.rank && s->status == TAUT_OK;
    TAUT_TRY(taut__context_sum(&s->to->ctx, good, (size_t)p));
    for (int r = 0; r < p && s->status == TAUT_OK; r++)
        if (good[r] != 1)
            return taut__fail(TAUT_E_PEER, "taut_comm_shrink: it failed on rank %d, which is now rank %d", s->old[r],
                              r);
    return s->status;
}

static void report(const shrinking *s, int source, taut_survivors *who)
{
    taut_survivors   w = {.rank = s->to->ctx.all.rank, .ranks = s->to->ctx.all.size, .source = source};
    const taut_comm *from = s->from;
    w.steps = (uint64_t)column(s, STEPS)[source];
    w.behind = from->steps < w.steps;
    for (int r = 0, i = 0; r < from->ctx.all.size; r++) {
        if (i < w.ranks && s->old[i] == r) i++;
        else if (w.lost++ < (int)(sizeof w.lost_rank / sizeof *w.lost_rank)) w.lost_rank[w.lost - 1] = r;
    }
    for (int r = 0; r < w.ranks; r++) w.residual_norm2 += column(s, KEPT)[r];
    w.lost_norm2 = column(s, KNOWN)[source] < 0 ? -1 : fmax(0, column(s, KNOWN)[source] - w.residual_norm2);
    size_t n = taut__min(who->size, sizeof w);
    memcpy((char *)who + sizeof w.size, (char *)&w + sizeof w.size, n - sizeof w.size);
}

/* ---- the call ---- */

static taut_status move(shrinking *s, taut_survivors *who)
{
    void  *shared = NULL;
    size_t n = 0;
    double known = known_residuals(s->from);
    for (size_t i = 0; i < s->from->layers; i++) taut__drop_broken(s->from->layer[i]);
    s->status = same_layers(s->from, s->to);
    if (s->status == TAUT_OK) s->status = save(s->from, true, &s->own, &s->own_n);
    taut_status status = tell(s, known, kept_residuals(s->from));
    int         source = status == TAUT_OK ? find_source(s) : 0;
    if (status == TAUT_OK) status = share(s, source, &shared, &n);
    if (status == TAUT_OK && s->status == TAUT_OK && n > 0) s->status = taut_state_join(s->to, shared, n);
    if (status == TAUT_OK && s->status == TAUT_OK && n > 0) s->status = taut_state_add(s->to, s->own, s->own_n);
    if (status == TAUT_OK) status = agree(s);
    if (status == TAUT_OK && who) report(s, source, who);
    if (!s->to->ctx.t->dirty) taut__free(shared);
    return status;
}

static taut_status check(const taut_comm *comm, taut_comm **smaller, const taut_survivors *who)
{
    if (!comm || !smaller) return taut__fail(TAUT_E_INVALID, "taut_comm_shrink: comm or smaller is NULL");
    if (who && who->size < sizeof who->size)
        return taut__fail(TAUT_E_INVALID, "taut_comm_shrink: who.size=%zu: use TAUT_SURVIVORS_INIT", who->size);
    if (taut__comm_forked(comm)) return taut__comm_check(comm, "taut_comm_shrink");
    if (atomic_load(&comm->ctx.engine.failed) == TAUT_OK)
        return taut__fail(TAUT_E_STATE, "taut_comm_shrink: nothing has failed: all ranks are there");
    if (!comm->ctx.t->ops->shrink)
        return taut__fail(TAUT_E_UNSUPPORTED, "taut_comm_shrink: not over %s: resume from a checkpoint",
                          comm->ctx.t->ops->name);
    return TAUT_OK;
}

/* Another rank may have been lost since: none returns a communicator of which others know nothing. */
static taut_status end_alike(shrinking *s, taut_status mine)
{
    taut__transport *t = s->from->ctx.t;
    bool             all = mine == TAUT_OK;
    taut__engine_hold(&s->from->ctx.engine);
    if (t->ops->all_agree) all = t->ops->all_agree(t, all);
    taut__engine_release(&s->from->ctx.engine);
    if (all || mine != TAUT_OK) return mine;
    return taut__engine_fail(&s->to->ctx.engine, TAUT_E_PEER,
                             "taut_comm_shrink: another rank was lost, or failed, meanwhile; it may be called again");
}

static taut_status shrink(taut_comm *comm, taut_comm **smaller, taut_survivors *who)
{
    taut__transport *t = NULL;
    shrinking        s = {.from = comm};
    if (!smaller) return check(comm, smaller, who);
    *smaller = NULL;
    TAUT_TRY(check(comm, smaller, who));
    int32_t ms = comm->ctx.set.c.timeout_ms;
    if (!(s.old = taut__alloc((size_t)comm->ctx.all.size, sizeof *s.old)))
        return taut__fail(TAUT_E_NOMEM, "taut_comm_shrink: out of memory");
    taut__engine_hold(&comm->ctx.engine);
    taut_status status = comm->ctx.t->ops->shrink(comm->ctx.t, ms < 0 ? WAIT_MS : ms, &t, s.old);
    taut__engine_release(&comm->ctx.engine);
    bool found = status == TAUT_OK;
    if (status == TAUT_OK) status = taut__comm_create(t, &comm->ctx.set.c, &s.to);
    if (status == TAUT_OK && !(s.told = taut__alloc(COLUMNS * (size_t)s.to->ctx.all.size, sizeof *s.told)))
        status = taut__engine_fail(&s.to->ctx.engine, TAUT_E_NOMEM, "taut_comm_shrink: out of memory");
    if (status == TAUT_OK) status = move(&s, who);
    if (found) status = end_alike(&s, status);
    if (status == TAUT_OK) *smaller = s.to;
    else if (s.to) taut__comm_discard(s.to);
    taut__free(s.told), taut__free(s.own), taut__free(s.old);
    return status;
}

taut_status taut_comm_shrink(taut_comm *comm, taut_comm **smaller, taut_survivors *who)
{
    TAUT_KEEP_DEVICE(shrink(comm, smaller, who));
}
