/* context.c : see context.h. */
#include "context.h"

taut_status taut__context_tags(taut__context *ctx, int *tag)
{
    if (ctx->next_tag > ctx->t->tag_max - TAUT_TAGS)
        return taut__fail(TAUT_E_RANGE, "%d layers: the transport's %d tags allow no more", ctx->next_tag / TAUT_TAGS,
                          ctx->t->tag_max);
    *tag = ctx->next_tag;
    ctx->next_tag += TAUT_TAGS;
    return TAUT_OK;
}

/* Room in the transport for s's own slot. */
static taut_status reserve(taut__context *ctx, taut__slots *s, size_t requests)
{
    if (requests <= s->reserved) return TAUT_OK;
    TAUT_TRY(ctx->t->ops->reserve(ctx->t, requests - s->reserved));
    s->reserved = requests;
    return TAUT_OK;
}

taut_status taut__context_slots(taut__context *ctx, taut__slots *s)
{
    TAUT_TRY(taut__slots_open(s, &ctx->arena, NULL));
    return reserve(ctx, s, s->requests + 2);
}

static taut_status fit_arena(taut__context *ctx)
{
    TAUT_TRY(taut__arena_fit(&ctx->arena));
    if (ctx->arena.requests <= ctx->reserved) return TAUT_OK;
    TAUT_TRY(ctx->t->ops->reserve(ctx->t, ctx->arena.requests - ctx->reserved));
    ctx->reserved = ctx->arena.requests;
    return TAUT_OK;
}

taut_status taut__context_arena(taut__context *ctx)
{
    if (!ctx->arena.due) return TAUT_OK;
    taut__engine_hold(&ctx->engine);
    taut_status s = fit_arena(ctx);
    taut__engine_release(&ctx->engine);
    return s;
}

taut_status taut__context_sum(taut__context *ctx, double *v, size_t n)
{
    taut__small_allreduce x;
    double               *in = taut__alloc(n, sizeof *in);
    if (!in) return taut__fail(TAUT_E_NOMEM, "out of memory for %zu sums", n);
    taut__small_allreduce_begin(&x, &ctx->all, TAUT_TAG_SUM, v, in, n * sizeof *v, taut__combine_mixed, NULL);
    taut_status s = taut__engine_exchange(&ctx->engine, &x, "adding a few numbers over all ranks");
    if (!ctx->t->dirty) taut__free(in); /* else a late message may still be written there */
    return s;
}

/* Ranks of one host as a group, and one of each. Hosts are numbered in order of their lowest rank. */
static taut_status split_by_host(taut__context *ctx)
{
    int  p = ctx->t->size, hosts = 0, locals = 0, mine = ctx->t->host[ctx->t->rank], last = -1;
    int *local, *leader;
    ctx->local.t = ctx->leaders.t = ctx->t;
    ctx->members = taut__alloc(2 * (size_t)p, sizeof *ctx->members);
    if (!ctx->members) return taut__fail(TAUT_E_NOMEM, "hierarchy: out of memory");
    local = ctx->members, leader = ctx->members + p;
    ctx->local.rank = ctx->leaders.rank = -1;
    for (int r = 0; r < p; r++) {
        if (ctx->t->host[r] == mine) {
            if (r == ctx->t->rank) ctx->local.rank = locals;
            local[locals++] = r;
        }
        if (ctx->t->host[r] <= last) continue;
        last = ctx->t->host[r];
        if (r == ctx->t->rank) ctx->leaders.rank = hosts;
        leader[hosts++] = r;
    }
    ctx->local.size = locals, ctx->local.member = local;
    ctx->leaders.size = hosts, ctx->leaders.member = leader;
    return TAUT_OK;
}

/* auto: where every host has several ranks, and there are several hosts. */
static bool wants_hierarchy(const taut__context *ctx)
{
    int several = 0; /* hosts with several ranks */
    for (int h = 0; h < ctx->leaders.size; h++) {
        int ranks = 0;
        for (int r = 0; r < ctx->t->size; r++) ranks += ctx->t->host[r] == h;
        several += ranks > 1;
    }
    if (ctx->set.hierarchy == TAUT_HIERARCHY_ON) return several > 0;
    return ctx->set.hierarchy == TAUT_HIERARCHY_AUTO && ctx->leaders.size > 1 && several == ctx->leaders.size;
}

taut_status taut__context_open(taut__context *ctx, taut__transport *t)
{
    ctx->t = t;
    ctx->all = (taut__group){.t = t, .rank = t->rank, .size = t->size};
    ctx->next_tag = TAUT_TAG_LAYERS;
    if (ctx->set.c.progress == 1 && !t->threads)
        return taut__fail(TAUT_E_UNSUPPORTED, "progress=1: a communication thread needs MPI_THREAD_MULTIPLE");
    taut__watchdog_init(&ctx->watchdog, t, ctx->set.c.timeout_ms);
    taut__engine_create(&ctx->engine, t, ctx->set.c.timeout_ms);
    TAUT_TRY(taut__watchdog_watch(&ctx->watchdog, taut__engine_describe, &ctx->engine));
    taut__lane *host;
    TAUT_TRY(taut__context_lane(ctx, (taut_place){0}, &host));
    TAUT_TRY(t->ops->reserve(t, 8)); /* control exchanges */
    TAUT_TRY(split_by_host(ctx));
    ctx->hierarchical = wants_hierarchy(ctx);
    return taut__trace_open(ctx->set.c.trace, t->rank, &ctx->trace);
}

void taut__context_close(taut__context *ctx, bool keep)
{
    for (int i = 0; i < TAUT_SPACES; i++) taut__lane_close(&ctx->lane[i]);
    if (!keep) taut__arena_fini(&ctx->arena);
    taut__free(ctx->members);
}
