/* fusion.c : small layers travel together, in buckets by order of registration: uncompressed, or as a layer that the plan decides on.
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
 * A rank that waits for something else, a member of another bucket or a layer of its own, has no reason to vote here, and who waits here may be who it
 * waits for. So who waits asks (absence.c), 5 ms after nothing moves, and who is asked begins a round. That is not done beforehand: rounds that
 * begin early carry fewer.
 *
 *     rank 0   start a   start c   wait c: | vote {c} in bucket 1 |            | "a?": vote {a} in bucket 0 | sum {a} | wait a: | ...
 *     rank 1   start a   start c   wait a: | vote {a} in bucket 0 | ask "a?"   |                            | sum {a} | a out | wait c: | vote {c} | ...
 *
 * A member that lies outside the host is copied into the bucket in the order of its program's stream, as it is, and back once it is summed. A
 * round begins when the copies of its members have been made, and ends when those of their results have.
 *
 * Under codec=auto a bucket has a bundle: a layer of its own, of all members one after the other, each at a multiple of a codec's buckets,
 * which is planned for as any other, with careful codecs. Rounds that carry all members go as that layer: one frame, one collective. Others go
 * uncompressed. */
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include "../../compressors/candidates.h"
#include "../reduce/input.h"
#include "bucket.h"
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static taut__bucket *bucket_of(taut__job *job) { return (taut__bucket *)(void *)job; }

/* ---- members ---- */

static size_t space_of(size_t n) { return taut__round_up(n, TAUT_CAREFUL_BLOCK); }
static bool   bit(const uint64_t *set, size_t i) { return set[i / 64] >> (i % 64) & 1; }
static bool   is_started(const taut__bucket *b, size_t i)
{
    return atomic_load_explicit(&b->started[i / 64], memory_order_acquire) >> (i % 64) & 1;
}

static taut_status bucket_step(taut__job *job, bool *moved, bool *done);

static void bucket_stop(taut__job *job)
{
    taut__bucket *b = bucket_of(job);
    taut__small_allreduce_cancel(&b->exchange);
    taut__plain_sum_cancel(&b->plain);
    if (b->coded && !b->voting) b->bundle->reduction.job.stop(&b->bundle->reduction.job);
    for (size_t i = 0; b->going && i < b->members; i++) /* copies read what is about to be freed */
        if (b->member[i] && !taut__layer_at_home(b->member[i])) taut__lane_wait(taut__layer_lane(b->member[i]));
}

static int bucket_waiting_for(const taut__job *job, int *hops)
{
    const taut__bucket *b = (const taut__bucket *)(const void *)job;
    if (b->voting) return taut__small_allreduce_waiting_for(&b->exchange, hops);
    if (b->coded) return b->bundle->reduction.job.waiting_for(&b->bundle->reduction.job, hops);
    return taut__plain_sum_waiting_for(&b->plain, hops);
}

enum { BUCKET_ROOM = 32 };

static taut_status add_bucket(taut_comm *comm)
{
    taut__bucket *b = taut__alloc(1, sizeof *b);
    taut_layer  **member = taut__alloc(BUCKET_ROOM, sizeof *member);
    int           tag;
    bool        room = b && member && taut__grow(&comm->bucket, comm->buckets, comm->buckets + 1, sizeof *comm->bucket);
    taut_status s =
        room ? taut__context_tags(&comm->ctx, &tag) : taut__fail(TAUT_E_NOMEM, "out of memory for a bucket");
    if (s != TAUT_OK) {
        taut__free(b), taut__free(member);
        return s;
    }
    snprintf(b->label, sizeof b->label, "small layers %zu", comm->buckets);
    b->comm = comm;
    b->job = (taut__job){.name = b->label,
                         .step = bucket_step,
                         .stop = bucket_stop,
                         .waiting_for = bucket_waiting_for,
                         .tag = tag,
                         .urgent = true,
                         .priority = (uint32_t)comm->layers};
    b->member = member;
    b->room = BUCKET_ROOM; /* so that what it is made for finds its place */
    comm->bucket[comm->buckets++] = b;
    return TAUT_OK;
}

static taut_status add_member(taut__bucket *b, taut_layer *l)
{
    if (b->members == b->room) {
        if (!taut__grow(&b->member, b->members, 2 * b->room, sizeof *b->member))
            return taut__fail(TAUT_E_NOMEM, "layer '%s': out of memory", l->name);
        b->room *= 2;
    }
    l->bucket = b;
    l->at = b->floats;
    l->seat = b->members;
    b->member[b->members++] = l;
    b->floats += space_of(l->operand.tensor.elems);
    return TAUT_OK;
}

static size_t most_of(const taut_comm *comm) { return comm->ctx.set.c.bucket_kib * (size_t)256; }

bool taut__fuse_fits(const taut_layer *l) { return space_of(l->operand.tensor.elems) <= most_of(l->comm); }

taut_status taut__fuse_register(taut_layer *l)
{
    taut_comm    *comm = l->comm;
    taut__bucket *b = comm->buckets ? comm->bucket[comm->buckets - 1] : NULL;
    if (!b || b->closed || b->floats + space_of(l->operand.tensor.elems) > most_of(comm)) TAUT_TRY(add_bucket(comm));
    return add_member(comm->bucket[comm->buckets - 1], l);
}

taut_status taut__fuse_leave(taut_layer *l)
{
    l->bucket->member[l->seat] = NULL; /* its place stays empty: nobody else's moves */
    l->bucket->scaled -= l->scaled_there;
    l->bucket = NULL;
    return TAUT_OK;
}

/* By the program's thread, which may wait for memory; the round is the engine's. */
static taut_status prepare_bundle(const taut__bucket *b)
{
    if (!b->bundle) return TAUT_OK;
    TAUT_TRY(taut__layer_prepare(b->bundle));
    return taut__context_arena(&b->comm->ctx);
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
    TAUT_TRY(taut__plain_sum_prepare(&b->plain, &comm->ctx.all, b->job.tag, b->floats, 64,
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
    taut__free(b->member), taut__staging_free(&b->made[0], b->x), taut__staging_free(&b->made[1], b->packed);
    taut__free((void *)b->started), taut__free(b->round);
    taut__free(b);
}

/* ---- scales ---- */

static size_t count(const taut__bucket *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->members; i++) n += b->member[i] != NULL;
    return n;
}

/* Numbers that cannot be units leave what was there. */
static void put_scale(taut_layer *bundle, const taut_layer *l)
{
    size_t n = l->operand.tensor.elems, each = l->scale_n ? n / l->scale_n : 1;
    for (size_t i = 0; l->scale_n && i < n; i++)
        if (taut__scale_usable(l->scale[i / each])) bundle->scale[l->at + i] = l->scale[i / each];
}

/* Units of a member's elements, in the bundle's scale, which counts once all have one, on the host. */
taut_status taut__fuse_rescaled(taut_layer *l)
{
    taut__bucket *b = l->bucket;
    taut_layer   *bundle = b->bundle;
    bool          has = l->scale_n > 0 && !taut__scale_there(l);
    l->scale_moved = false;
    if (!bundle) return TAUT_OK;
    if (has) put_scale(bundle, l);
    b->scaled += (size_t)has - l->scaled_there;
    l->scaled_there = has;
    bundle->scale_n = b->scaled == count(b) ? b->floats : 0;
    return taut__scale_use(bundle);
}

/* Before a round: ranks compare at the step's end what they have used. */
static void hash_scale(taut_layer *bundle)
{
    bundle->scale_hash = bundle->scale_n ? XXH3_64bits(bundle->scale, bundle->scale_n * sizeof *bundle->scale) : 0;
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

/* All members there are: by the round's vote, so on all ranks. */
static bool complete(const taut__bucket *b)
{
    for (size_t i = 0; i < b->members; i++)
        if (b->member[i] && !bit(b->round, i)) return false;
    return true;
}

/* Where a member's floats begin in packed; so many of members before it are there. */
static size_t place_of(const taut__bucket *b, const taut_layer *l, size_t before) { return b->coded ? l->at : before; }

static taut_status begin_sum(taut__bucket *b)
{
    b->in_round = 0;
    b->coded = b->bundle && !b->comm->ctx.data && complete(b);
    if (b->coded) memset(b->packed, 0, b->floats * sizeof *b->packed);
    for (size_t i = 0; i < b->members; i++) {
        if (!bit(b->round, i)) continue;
        const taut_layer *l = b->member[i];
        size_t            n = l->operand.tensor.elems;
        taut_dtype        came_as = taut__layer_at_home(l) ? TAUT_F32 : l->operand.dtype;
        taut__vectors_host.convert((taut_place){0}, b->packed + place_of(b, l, b->in_round), TAUT_F32, b->x + l->at,
                                   came_as, n);
        b->in_round += n;
    }
    b->voting = false;
    b->begin_s = taut__now();
    if (b->coded) hash_scale(b->bundle);
    if (b->coded) return taut__reduction_begin(&b->bundle->reduction, b->packed, TAUT_SUM, TAUT_BOTH, false);
    if (b->in_round > 0) taut__plain_sum_begin(&b->plain, TAUT_NUMBER_F32, b->packed, b->in_round, TAUT_BOTH, 1);
    return TAUT_OK;
}

static taut_status advance_sum(taut__bucket *b, bool *moved, bool *over)
{
    taut__job *job = b->coded ? &b->bundle->reduction.job : NULL;
    return job ? job->step(job, moved, over) : taut__plain_sum_advance(&b->plain, moved, over);
}

/* What the round cost: members have their parts of it in their accounts, and so has the bundle nothing. */
static taut__record cost_of(taut__bucket *b)
{
    if (!b->coded)
        return (taut__record){.bytes_sent = b->plain.sent,
                              .bytes_dense = b->plain.sent,
                              .payload_bytes = 4 * b->in_round,
                              .encoded = b->in_round};
    b->bundle->bytes_sent = b->bundle->bytes_dense = 0;
    return b->bundle->reduction.record;
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
    TAUT_TRY(taut__space_use(lane->space, lane->place));
    TAUT_TRY(lane->space->copy(lane->place, l->reduction.buf, result, n * (wide ? 4 : 2)));
    return lane->space->event_record(l->reduction.ordered, lane->place);
}

static uint64_t part_of(const taut__bucket *b, uint64_t all, size_t n)
{
    return (uint64_t)((double)all * (double)n / (double)b->in_round);
}

static taut_status copy_out(taut__bucket *b, taut_layer *l, const taut__record *cost, float *sum)
{
    taut__reduction *red = &l->reduction;
    const taut_comm *comm = b->comm;
    size_t           n = l->operand.tensor.elems;
    red->record = (taut__record){.bytes_sent = part_of(b, cost->bytes_sent, n),
                                 .bytes_dense = part_of(b, cost->bytes_dense, n),
                                 .payload_bytes = part_of(b, cost->payload_bytes, n),
                                 .encoded = part_of(b, cost->encoded, n)};
    bool counts = comm->ctx.lossy && comm->ctx.all.rank == 0 && !b->coded; /* else its norm is in the bundle's */
    if (counts) red->record.sum = taut__sum_norms_here(red, sum, (taut__range){0, n});
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
    taut__record cost = cost_of(b);
    b->going = true;
    for (size_t i = 0, at = 0; i < b->members; i++) {
        if (!bit(b->round, i)) continue;
        TAUT_TRY(copy_out(b, b->member[i], &cost, b->packed + place_of(b, b->member[i], at)));
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
    taut__trace_span(b->comm->ctx.trace, &b->job, "layer", b->begin_s, taut__now(),
                     b->coded ? b->bundle->reduction.record.bytes_sent : b->plain.sent);
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
        TAUT_TRY(begin_sum(b));
        *moved = b->in_round > 0; /* rounds without members are no progress */
        *done = b->in_round == 0;
        return TAUT_OK;
    }
    if (!b->going) {
        TAUT_TRY(advance_sum(b, moved, &over));
        if (!over) return TAUT_OK;
        TAUT_TRY(copy_all_out(b));
    }
    return end_round(b, moved, done);
}

/* ---- callers ---- */

/* What a communication thread has ended since the caller looked may have carried l: a round with nothing in it would wait for ranks that have
 * no reason to vote again. It lets members go before the round counts as done, and only this thread begins rounds. */
void taut__fuse_round(const taut_layer *l, bool quiet)
{
    taut__bucket *b = l->bucket;
    if (atomic_load(&b->job.state) == TAUT_JOB_RUNNING || !is_started(b, l->seat)) return;
    begin_round(b);
    taut__engine_start(&b->comm->ctx.engine, &b->job, quiet);
}

static bool all_started(const taut__bucket *b)
{
    for (size_t i = 0; i < b->members; i++)
        if (b->member[i] && !is_started(b, i)) return false;
    return true;
}

/* A copy to memory that is not pinned comes back when all that its stream held before is done: the program, which starts its layers while it computes
 * others, would wait for the device each time. Before the first copy; while a round of members on the host is under way they stay as they are. */
static void pin(taut__bucket *b, const taut__lane *lane)
{
    const taut__staging from = {lane->space, lane->place};
    float             **memory[2] = {&b->x, &b->packed};
    if (atomic_load(&b->elsewhere)) return;
    taut__engine_hold(&b->comm->ctx.engine);
    for (int i = 0; i < 2 && atomic_load(&b->job.state) != TAUT_JOB_RUNNING; i++) {
        taut__staging made;
        float        *more = taut__staging_alloc(&made, &from, b->floats * sizeof *more);
        if (!more) continue;
        memcpy(more, *memory[i], b->floats * sizeof *more); /* members that lie on the host may have come */
        taut__staging_free(&b->made[i], *memory[i]);
        b->made[i] = made, *memory[i] = more;
    }
    taut__engine_release(&b->comm->ctx.engine);
}

/* In the order of the stream in which the program writes it. */
static taut_status come(taut__bucket *b, taut_layer *l, taut_place caller)
{
    const taut__space *space = taut__layer_lane(l)->space;
    pin(b, taut__layer_lane(l));
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
    if (l->scale_moved) TAUT_TRY(taut__fuse_rescaled(l));
    TAUT_TRY(prepare_bundle(b));
    if (taut__layer_at_home(l)) taut__result_load(&l->reduction, 0, l->operand.tensor.elems, b->x + l->at);
    else TAUT_TRY(come(b, l, caller));
    atomic_fetch_or_explicit(&b->started[l->seat / 64], UINT64_C(1) << (l->seat % 64), memory_order_release);
    taut__layer_starts(l);
    if (all_started(b)) taut__fuse_round(l, waits);
    return TAUT_OK;
}

const taut_layer *taut__fuse_wanted(const taut__job *job)
{
    const taut__bucket *b = (const taut__bucket *)(const void *)job;
    const taut_layer   *wanted = atomic_load(&b->wanted), *asked = atomic_load(&b->asked);
    if (wanted) return wanted;
    return asked && is_started(b, asked->seat) ? asked : NULL;
}

bool taut__fuse_holds(const taut_layer *l) { return is_started(l->bucket, l->seat); }

static void begin_for(const taut_comm *comm, int32_t index, bool quiet)
{
    const taut_layer *l = index >= 0 && (size_t)index < comm->layers ? comm->layer[index] : NULL;
    if (!l || !l->bucket || !l->bucket->closed || !is_started(l->bucket, l->seat)) return;
    atomic_store(&l->bucket->asked, l);
    taut__fuse_round(l, quiet);
}

/* A program's thread that waits holds the lock all the time, so it is who hears this; else it may be anywhere, and layers are its own. */
void taut__fuse_asked(taut_comm *comm, int32_t index)
{
    if (atomic_load(&comm->ctx.engine.waited)) begin_for(comm, index, true);
    else atomic_store(&comm->asked, index + 1);
}

void taut__fuse_answer(taut_comm *comm)
{
    if (atomic_load_explicit(&comm->asked, memory_order_relaxed))
        begin_for(comm, atomic_exchange(&comm->asked, 0) - 1, false);
}

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
    taut__fuse_answer(l->comm);
    while (taut__fuse_holds(l)) {
        taut__fuse_round(l, true);
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

/* Who tests again and again waits, too. */
static taut_status ask_if_late(taut__bucket *b, const taut_layer *l)
{
    const double first = 0.005, most = 1;
    double       now = taut__now();
    if (b->tested != l) {
        b->tested = l;
        b->ask_at = now + first;
        b->ask_gap = first;
    }
    if (now < b->ask_at) return TAUT_OK;
    b->ask_gap = 4 * b->ask_gap < most ? 4 * b->ask_gap : most;
    b->ask_at = now + b->ask_gap;
    return taut__absence_ask_all(b->comm, l);
}

taut_status taut__fuse_test(taut_layer *l, bool *done)
{
    taut__bucket *b = l->bucket;
    bool          over;
    if (taut__fuse_holds(l)) taut__fuse_round(l, false);
    TAUT_TRY(taut__engine_test(&l->comm->ctx.engine, &b->job, &over));
    *done = !taut__fuse_holds(l);
    if (!*done) return ask_if_late(b, l);
    b->tested = NULL;
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
