/* fusion.c : small layers travel together, uncompressed, in buckets by order of registration.
 *
 * A started member is copied into its bucket, whose job runs in rounds: the ranks first agree on which members all of
 * them have started (the AND of bit sets), then sum those, then copy them out. A round begins when all members have been
 * started, or when somebody waits for a member, tests one, or ends the step. So ranks may wait for different members, and
 * begin rounds for different reasons: members that not all have started wait for the next round.
 *
 *     rank 0   start a   start b   wait a: | vote {a,b} |            | sum {b} | b out | wait a: | vote {a} |  | sum {a} | a out
 *     rank 1             start b   wait b: | vote {b}   | AND = {b}  | sum {b} | b out | start a | vote {a} |  | sum {a} | a out
 *
 * Rank 0 waits for a, but the first round carries b, which both have. A round whose AND is empty carries nothing, and is repeated as long as
 * somebody waits. No rank can miss a round: a vote is an exchange with all others, so it waits until their bucket votes too.
 *
 * A member that lies outside the host is copied into the bucket in the order of its program's stream, as it is, and back once it is summed. A
 * round begins when the copies of its members have been made, and ends when those of their results have. */
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include "../reduce/input.h"
#include "communicator.h"
#include <stdio.h>
#include <string.h>

struct taut__bucket {
    taut__job                 job; /* first */
    taut_comm                *comm;
    taut__small_allreduce     exchange;
    taut__plain_sum           plain;
    taut__slots               slots;
    double                    begin_s;   /* of the round's sum */
    bool                      closed;    /* takes no more members */
    _Atomic bool              elsewhere; /* members lie outside the host */
    size_t                    members, room, floats, words;
    taut_layer              **member;   /* NULL: has left */
    float                    *x;        /* all members, back to back */
    float                    *packed;   /* those of the round, back to back */
    size_t                    in_round; /* floats of it */
    _Atomic uint64_t         *started;  /* bit set of members; set by callers after the copy, cleared by the round */
    uint64_t                 *round, *scratch;
    bool                      coming, going; /* copies are under way, and the round waits for them */
    bool                      voting;
    const taut_layer *_Atomic wanted; /* somebody waits for it */
    char                      label[32];
};

static taut__bucket *bucket_of(taut__job *job) { return (taut__bucket *)(void *)job; }

/* ---- members ---- */

static bool bit(const uint64_t *set, size_t i) { return set[i / 64] >> (i % 64) & 1; }
static bool is_started(const taut__bucket *b, size_t i)
{
    return atomic_load_explicit(&b->started[i / 64], memory_order_acquire) >> (i % 64) & 1;
}

static taut_status bucket_step(taut__job *job, bool *moved, bool *done);

static void bucket_stop(taut__job *job)
{
    taut__bucket *b = bucket_of(job);
    taut__small_allreduce_cancel(&b->exchange);
    taut__plain_sum_cancel(&b->plain);
    for (size_t i = 0; b->going && i < b->members; i++) /* copies read what is about to be freed */
        if (b->member[i] && !taut__layer_at_home(b->member[i])) taut__lane_wait(taut__layer_lane(b->member[i]));
}

static int bucket_waiting_for(const taut__job *job, int *hops)
{
    const taut__bucket *b = (const taut__bucket *)(const void *)job;
    return b->voting ? taut__small_allreduce_waiting_for(&b->exchange, hops)
                     : taut__plain_sum_waiting_for(&b->plain, hops);
}

static taut_status add_bucket(taut_comm *comm)
{
    taut__bucket **more = taut__alloc(comm->buckets + 1, sizeof *more), *b = taut__alloc(1, sizeof *b);
    if (!more || !b) {
        taut__free(more), taut__free(b);
        return taut__fail(TAUT_E_NOMEM, "out of memory for a bucket");
    }
    if (comm->buckets) memcpy(more, comm->bucket, comm->buckets * sizeof *more);
    snprintf(b->label, sizeof b->label, "small layers %zu", comm->buckets);
    b->comm = comm;
    b->job = (taut__job){.name = b->label,
                         .step = bucket_step,
                         .stop = bucket_stop,
                         .waiting_for = bucket_waiting_for,
                         .priority = (uint32_t)comm->layers};
    more[comm->buckets++] = b;
    taut__free(comm->bucket);
    comm->bucket = more;
    return taut__context_tags(&comm->ctx, &b->job.tag);
}

static taut_status add_member(taut__bucket *b, taut_layer *l)
{
    if (b->members == b->room) {
        size_t       room = taut__max(32, 2 * b->room);
        taut_layer **more = taut__alloc(room, sizeof *more);
        if (!more) return taut__fail(TAUT_E_NOMEM, "layer '%s': out of memory", l->name);
        if (b->members) memcpy(more, b->member, b->members * sizeof *more);
        taut__free(b->member);
        b->member = more;
        b->room = room;
    }
    l->bucket = b;
    l->at = b->floats;
    l->seat = b->members;
    b->member[b->members++] = l;
    b->floats += l->operand.tensor.elems;
    return TAUT_OK;
}

taut_status taut__fuse_register(taut_layer *l)
{
    taut_comm *comm = l->comm;
    size_t     most = comm->ctx.set.c.bucket_kib * (size_t)256;
    if (l->operand.tensor.elems > most) return TAUT_OK; /* travels alone */
    taut__bucket *b = comm->buckets ? comm->bucket[comm->buckets - 1] : NULL;
    if (!b || b->closed || b->floats + l->operand.tensor.elems > most) TAUT_TRY(add_bucket(comm));
    return add_member(comm->bucket[comm->buckets - 1], l);
}

taut_status taut__fuse_leave(taut_layer *l)
{
    l->bucket->member[l->seat] = NULL; /* its place stays empty: nobody else's moves */
    l->bucket = NULL;
    return TAUT_OK;
}

static taut_status allocate(taut__bucket *b)
{
    taut_comm *comm = b->comm;
    b->words = taut__ceil_div(b->members, 64);
    b->x = taut__alloc(b->floats, sizeof *b->x);
    b->packed = taut__alloc(b->floats, sizeof *b->packed);
    b->started = taut__alloc(b->words, sizeof *b->started);
    b->round = taut__alloc(2 * b->words, sizeof *b->round);
    if (!b->x || !b->packed || !b->started || !b->round)
        return taut__fail(TAUT_E_NOMEM, "%s: out of memory for %zu floats", b->label, b->floats);
    b->scratch = b->round + b->words;
    TAUT_TRY(taut__plain_sum_prepare(&b->plain, &comm->ctx.all, b->job.tag, TAUT_NUMBER_F32, b->floats, 64,
                                     comm->ctx.set.c.slice_kib * (size_t)256, &b->slots, (taut_place){0}));
    return taut__context_slots(&comm->ctx, &b->slots);
}

taut_status taut__fuse_close(taut__bucket *b)
{
    taut__engine *e = &b->comm->ctx.engine;
    if (b->closed || b->members == 0) return TAUT_OK; /* the latter: registering its first member failed */
    taut__engine_hold(e);
    taut_status s = allocate(b);
    taut__engine_release(e);
    b->closed = s == TAUT_OK;
    b->job.needs = b->comm->layers;
    return s;
}

void taut__fuse_destroy(taut__bucket *b)
{
    if (!b) return;
    taut__slots_release(&b->slots);
    taut__free(b->member), taut__free(b->x), taut__free(b->packed);
    taut__free((void *)b->started), taut__free(b->round);
    taut__free(b);
}

/* ---- a round ---- */

static void begin_round(taut__bucket *b)
{
    static const taut__mixed masks_only = {0, SIZE_MAX};
    for (size_t w = 0; w < b->words; w++) b->round[w] = atomic_load_explicit(&b->started[w], memory_order_acquire);
    b->coming = b->elsewhere;
    b->voting = true;
    b->going = false;
    taut__small_allreduce_begin(&b->exchange, &b->comm->ctx.all, b->job.tag + TAUT_TAG_CONTROL, b->round, b->scratch,
                                b->words * sizeof *b->round, taut__combine_mixed, &masks_only);
}

static void begin_sum(taut__bucket *b)
{
    b->in_round = 0;
    for (size_t i = 0; i < b->members; i++) {
        if (!bit(b->round, i)) continue;
        const taut_layer *l = b->member[i];
        size_t            n = l->operand.tensor.elems;
        taut_dtype        came_as = taut__layer_at_home(l) ? TAUT_F32 : l->operand.dtype;
        taut__vectors_host.convert((taut_place){0}, b->packed + b->in_round, TAUT_F32, b->x + l->at, came_as, n);
        b->in_round += n;
    }
    b->voting = false;
    b->begin_s = taut__now();
    if (b->in_round > 0) taut__plain_sum_begin(&b->plain, b->packed, b->in_round, TAUT_BOTH, 1);
}

/* The copies of the round's members, in or out, have been made. */
static taut_status copied(taut__bucket *b, bool *all)
{
    *all = true;
    for (size_t i = 0; i < b->members && *all; i++) {
        const taut_layer *l = bit(b->round, i) ? b->member[i] : NULL;
        if (l && !taut__layer_at_home(l)) TAUT_TRY(taut__lane_passed(taut__layer_lane(l), l->reduction.ordered, all));
    }
    return TAUT_OK;
}

/* The bucket's copy of the member is of no more use. */
static taut_status store_elsewhere(taut__bucket *b, taut_layer *l, const float *sum, size_t n)
{
    bool        wide = l->operand.dtype == TAUT_F32;
    const void *result = wide ? (const void *)sum : b->x + l->at;
    if (!wide) TAUT_TRY(taut__vectors_host.convert((taut_place){0}, b->x + l->at, l->operand.dtype, sum, TAUT_F32, n));
    const taut__lane *lane = taut__layer_lane(l);
    TAUT_TRY(lane->space->copy(lane->place, l->reduction.buf, result, n * (wide ? 4 : 2)));
    return lane->space->event_record(l->reduction.ordered, lane->place);
}

static taut_status copy_out(taut__bucket *b, taut_layer *l, float *sum)
{
    taut__reduction *red = &l->reduction;
    const taut_comm *comm = b->comm;
    size_t           n = l->operand.tensor.elems;
    uint64_t         sent = b->plain.sent * n / b->in_round;
    red->record = (taut__record){.bytes_sent = sent, .bytes_dense = sent, .payload_bytes = 4 * n, .encoded = n};
    red->call.tensor = &l->operand.tensor;
    if (comm->ctx.lossy && comm->ctx.all.rank == 0) red->record.sum = taut__sum_norms(red, sum, (taut__range){0, n});
    if (red->kind == TAUT_MEAN) taut__simd_get()->vec->scale(sum, 1.0f / (float)comm->ctx.all.size, n);
    if (!taut__layer_at_home(l)) return store_elsewhere(b, l, sum, n);
    taut__result_store(red, 0, n, sum, false);
    return TAUT_OK;
}

static void let_go(taut__bucket *b, taut_layer *l)
{
    taut__layer_count(l);
    atomic_fetch_and_explicit(&b->started[l->seat / 64], ~(UINT64_C(1) << (l->seat % 64)), memory_order_release);
}

static taut_status copy_all_out(taut__bucket *b)
{
    b->going = true;
    for (size_t i = 0, at = 0; i < b->members; i++) {
        if (!bit(b->round, i)) continue;
        TAUT_TRY(copy_out(b, b->member[i], b->packed + at));
        at += b->member[i]->operand.tensor.elems;
    }
    return TAUT_OK;
}

static taut_status end_round(taut__bucket *b, bool *moved, bool *done)
{
    TAUT_TRY(copied(b, done));
    if (!*done) return TAUT_OK;
    *moved = true;
    b->going = false;
    for (size_t i = 0; i < b->members; i++)
        if (bit(b->round, i)) let_go(b, b->member[i]);
    taut__trace_span(b->comm->ctx.trace, &b->job, "layer", b->begin_s, taut__now(), b->plain.sent);
    return TAUT_OK;
}

static taut_status bucket_step(taut__job *job, bool *moved, bool *done)
{
    taut__bucket *b = bucket_of(job);
    bool          over = false;
    if (job->needs > atomic_load(&b->comm->ctx.engine.compared)) return TAUT_OK;
    if (b->coming) {
        TAUT_TRY(copied(b, &over));
        b->coming = !over;
        *moved = over;
        return TAUT_OK;
    }
    if (b->voting) {
        TAUT_TRY(taut__small_allreduce_advance(&b->exchange, &over));
        if (!over) return TAUT_OK;
        begin_sum(b);
        *moved = b->in_round > 0; /* rounds without members are no progress */
        *done = b->in_round == 0;
        return TAUT_OK;
    }
    if (!b->going) {
        TAUT_TRY(taut__plain_sum_advance(&b->plain, moved, &over));
        if (!over) return TAUT_OK;
        TAUT_TRY(copy_all_out(b));
    }
    return end_round(b, moved, done);
}

/* ---- callers ---- */

static void run(taut__bucket *b, bool quiet)
{
    if (atomic_load(&b->job.state) == TAUT_JOB_RUNNING) return;
    begin_round(b);
    taut__engine_start(&b->comm->ctx.engine, &b->job, quiet);
}

static bool all_started(const taut__bucket *b)
{
    for (size_t i = 0; i < b->members; i++)
        if (b->member[i] && !is_started(b, i)) return false;
    return true;
}

/* In the order of the stream in which the program writes it. */
static taut_status come(taut__bucket *b, taut_layer *l, taut_place caller)
{
    const taut__space *space = taut__layer_lane(l)->space;
    atomic_store(&b->elsewhere, true);
    TAUT_TRY(space->copy(caller, b->x + l->at, l->reduction.buf,
                         l->operand.tensor.elems * (l->operand.dtype == TAUT_F32 ? 4 : 2)));
    return space->event_record(l->reduction.ordered, caller);
}

taut_status taut__fuse_start(taut_layer *l, void *buf, int kind, taut_place caller, bool waits)
{
    taut__bucket *b = l->bucket;
    l->reduction.buf = buf;
    l->reduction.kind = l->last_op = kind;
    TAUT_TRY(taut__place_take(l, caller));
    if (taut__layer_at_home(l)) taut__result_load(&l->reduction, 0, l->operand.tensor.elems, b->x + l->at);
    else TAUT_TRY(come(b, l, caller));
    atomic_fetch_or_explicit(&b->started[l->seat / 64], UINT64_C(1) << (l->seat % 64), memory_order_release);
    taut__layer_starts(l);
    if (all_started(b)) run(b, waits);
    return TAUT_OK;
}

const taut_layer *taut__fuse_wanted(const taut__job *job)
{
    const taut__bucket *b = (const taut__bucket *)(const void *)job;
    return atomic_load(&b->wanted);
}

bool taut__fuse_holds(const taut_layer *l) { return is_started(l->bucket, l->seat); }

static taut_status never_started(taut_layer *l)
{
    char why[256];
    snprintf(why, sizeof why, "%s: some rank has not started it for %d ms", l->name,
             (int)l->comm->ctx.engine.timeout_ms);
    return taut__engine_fail(&l->comm->ctx.engine, TAUT_E_TIMEOUT, why);
}

/* Rounds that agree on nothing are repeated: another rank has yet to start the member. The first round's beginning bounds
 * the wait. */
taut_status taut__fuse_wait(taut_layer *l)
{
    taut__bucket *b = l->bucket;
    taut__engine *e = &l->comm->ctx.engine;
    double        begin = taut__now(), ask = 0.1; /* seconds until others are asked why they have not started it */
    atomic_store(&b->wanted, l);
    while (taut__fuse_holds(l)) {
        run(b, true);
        TAUT_TRY(taut__engine_wait(e, &b->job));
        if (taut__now() - begin > ask && taut__fuse_holds(l)) {
            TAUT_TRY(taut__absence_ask_all(l->comm, l));
            ask = taut__now() - begin + (ask < 1 ? ask : 1);
        }
        if (e->timeout_ms >= 0 && taut__now() - begin > e->timeout_ms * 1e-3 && taut__fuse_holds(l) && b->in_round == 0)
            return never_started(l);
    }
    atomic_store(&b->wanted, NULL);
    return taut__engine_check(e);
}

taut_status taut__fuse_test(taut_layer *l, bool *done)
{
    bool over;
    if (taut__fuse_holds(l)) run(l->bucket, false);
    TAUT_TRY(taut__engine_test(&l->comm->ctx.engine, &l->bucket->job, &over));
    *done = !taut__fuse_holds(l);
    return TAUT_OK;
}

taut_status taut__fuse_flush(taut__bucket *b)
{
    for (size_t i = 0; i < b->members; i++) {
        taut_layer *l = b->member[i];
        if (l && l->started && is_started(b, i)) TAUT_TRY(taut__fuse_wait(l));
        if (l && l->bucket && l->started) TAUT_TRY(taut__layer_finish(l, TAUT_OK));
    }
    return TAUT_OK;
}
