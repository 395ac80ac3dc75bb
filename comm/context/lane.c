/* lane.c : what a communicator has in each memory space. */
#include "joint.h"
#include "../base/partition.h"
#include <sched.h>
#include <string.h>
#include <time.h>

/* ---- memory that exchanges borrow ---- */

typedef struct taut__block {
    void  *memory;
    size_t bytes;
    bool   lent;
} block;

taut_status taut__lane_borrow(taut__lane *lane, size_t bytes, void **out)
{
    block *best = NULL;
    *out = NULL;
    if (!lane->blocks) lane->blocks = taut__alloc(TAUT_BLOCKS, sizeof *lane->blocks);
    if (!lane->blocks) return taut__fail(TAUT_E_NOMEM, "out of memory");
    for (block *b = lane->blocks; b < lane->blocks + TAUT_BLOCKS; b++)
        if (!b->lent && (!best || (best->bytes < bytes && b->bytes > best->bytes))) best = b;
    if (!best) return TAUT_OK;
    if (best->bytes < bytes) {
        lane->space->release(lane->place, best->memory);
        *best = (block){0};
        taut_status s = lane->space->alloc(lane->place, bytes, &best->memory);
        if (s != TAUT_OK)
            return s == TAUT_E_NOMEM ? taut__fail(s, "out of memory for an exchange of %zu bytes", bytes) : s;
        best->bytes = bytes;
    }
    best->lent = true;
    *out = best->memory;
    return TAUT_OK;
}

void taut__lane_give_back(taut__lane *lane, void *memory)
{
    for (int i = 0; memory && lane->blocks && i < TAUT_BLOCKS; i++)
        if (lane->blocks[i].memory == memory) lane->blocks[i].lent = false;
}

static void release_blocks(taut__lane *lane)
{
    for (int i = 0; lane->blocks && i < TAUT_BLOCKS; i++) lane->space->release(lane->place, lane->blocks[i].memory);
    taut__free(lane->blocks);
}

/* ---- waiting ---- */

static taut_status overdue(const taut__lane *lane)
{
    taut__data_abort(lane->data);
    lane->space->wait(lane->place);
    return taut__fail(TAUT_E_TIMEOUT, "the device did not finish within %d ms", (int)lane->timeout_ms);
}

taut_status taut__lane_passed(const taut__lane *lane, taut__event *e, bool *passed)
{
    TAUT_TRY(taut__space_use(lane->space, lane->place)); /* the engine's thread may be any */
    TAUT_TRY(lane->space->event_test(e, passed));
    return *passed && lane->space->failed ? lane->space->failed(lane->place) : TAUT_OK;
}

static taut_status wait_for(const taut__lane *lane, taut__event *e)
{
    double begin = taut__now();
    bool   passed = false;
    TAUT_TRY(lane->space->event_record(e, lane->place));
    for (int looks = 0;; looks++) {
        TAUT_TRY(taut__lane_passed(lane, e, &passed));
        if (passed) return TAUT_OK;
        if (lane->timeout_ms >= 0 && taut__now() - begin > lane->timeout_ms * 1e-3) return overdue(lane);
        if (looks < 200) sched_yield();
        else nanosleep(&(struct timespec){0, 20000}, NULL);
    }
}

static _Atomic uint64_t waits;
uint64_t                taut__lane_waits(void) { return atomic_load(&waits); }

taut_status taut__lane_wait(const taut__lane *lane)
{
    taut__event *e;
    atomic_fetch_add(&waits, 1);
    TAUT_TRY(taut__space_use(lane->space, lane->place));
    if (!lane->data) return lane->space->wait(lane->place);
    TAUT_TRY(lane->space->event_create(lane->place, &e));
    taut_status s = wait_for(lane, e);
    lane->space->event_destroy(e);
    return s;
}

/* ---- life ---- */

static size_t workers(const taut__lane *lane) { return (size_t)taut__executor_threads(lane->executor); }

void taut__lane_close(taut__lane *lane)
{
    if (lane->executor) {
        taut__executor_quiet(lane->executor);
        for (size_t w = 0; lane->scratch && w < workers(lane); w++) lane->space->release(lane->place, lane->scratch[w]);
    }
    release_blocks(lane);
    taut__free(lane->scratch);
    taut__staging_free(&lane->fetched_made, lane->fetched);
    taut__executor_destroy(lane->executor);
    taut__joint_destroy(lane->joint);
    if (lane->space) lane->space->stream_destroy(lane->place);
    *lane = (taut__lane){0};
}

/* On the host the thread that runs a batch is one of its workers; elsewhere it goes on meanwhile, and threads only wait for the device. */
static taut_status make(taut__context *ctx, taut__lane *lane)
{
    int threads = ctx->set.c.threads;
    if (!taut__lane_on_host(lane)) threads = 1 + (threads > TAUT_JOINT_THREADS ? threads : TAUT_JOINT_THREADS);
    TAUT_TRY(taut__executor_create(threads, &lane->executor));
    if (!taut__lane_on_host(lane)) TAUT_TRY(taut__joint_create((size_t)threads, &lane->joint));
    lane->scratch = taut__alloc(workers(lane), sizeof *lane->scratch);
    return lane->scratch ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "out of memory");
}

taut_status taut__context_one_device(const taut__context *ctx, taut_place caller)
{
    const taut__lane *lane = &ctx->lane[caller.space];
    if (!lane->space || lane->place.device == caller.device) return TAUT_OK;
    return taut__fail(TAUT_E_STATE, "device=%d: this communicator's layers lie on device %d", caller.device,
                      lane->place.device);
}

taut_status taut__context_lane(taut__context *ctx, taut_place caller, taut__lane **out)
{
    taut__lane *lane = &ctx->lane[caller.space];
    *out = lane;
    TAUT_TRY(taut__context_one_device(ctx, caller));
    if (lane->space) return TAUT_OK;
    const taut__space   *space = taut__memory_of(caller.space);
    const taut__vectors *vectors = taut__vectors_of(caller.space);
    if (!space || !vectors) return TAUT_E_UNSUPPORTED;
    taut_place place = {.space = caller.space, .device = caller.device};
    TAUT_TRY(space->stream_create(&place));
    *lane = (taut__lane){.place = place,
                         .space = space,
                         .vectors = vectors,
                         .data = taut__on_host(place) ? NULL : ctx->data,
                         .timeout_ms = ctx->set.c.timeout_ms};
    taut_status s = make(ctx, lane);
    if (s != TAUT_OK) taut__lane_close(lane);
    else if (space->host_alloc) taut__arena_stage(&ctx->arena, space, place);
    return s;
}

void taut__lane_note(taut__lane *lane, taut_status s)
{
    int none = 0;
    if (s == TAUT_OK || !atomic_compare_exchange_strong(&lane->noted, &none, 1)) return;
    strncpy(lane->why, taut_last_error(), sizeof lane->why - 1);
    atomic_store_explicit(&lane->failed, (int)s, memory_order_release);
}

taut_status taut__lane_check(const taut__lane *lane)
{
    taut_status s = (taut_status)atomic_load_explicit(&lane->failed, memory_order_acquire);
    return s == TAUT_OK ? TAUT_OK : taut__fail(s, "%s", lane->why);
}

/* Pieces of other layers may be under way outside the host, in the scratch that there is. */
static taut_status enlarge(taut__lane *lane, size_t floats, size_t payload)
{
    bool host = taut__lane_on_host(lane);
    if (!host) taut__executor_quiet(lane->executor);
    for (size_t w = 0; w < workers(lane); w++) {
        void *more;
        if (lane->space->alloc(lane->place, 2 * floats * sizeof(float) + payload, &more) != TAUT_OK)
            return taut__fail(TAUT_E_NOMEM, "out of memory for %zu floats of scratch", 2 * floats);
        lane->space->release(lane->place, lane->scratch[w]);
        lane->scratch[w] = more;
    }
    if (host) return TAUT_OK;
    taut__staging made = {0}, from = {lane->space, lane->place};
    float        *fetched = taut__staging_alloc(&made, &from, floats * sizeof *fetched);
    if (!fetched) return taut__fail(TAUT_E_NOMEM, "out of memory for %zu floats of scratch", floats);
    taut__staging_free(&lane->fetched_made, lane->fetched);
    lane->fetched_made = made;
    lane->fetched = fetched;
    return TAUT_OK;
}

taut_status taut__context_scratch(taut__lane *lane, size_t floats, size_t payload)
{
    if (taut__lane_on_host(lane)) payload = 0; /* frames are written where they leave from */
    if (floats <= lane->scratch_n && payload <= lane->frame_bytes) return TAUT_OK;
    floats = taut__max(taut__round_up(floats, 64), lane->scratch_n);
    payload = taut__max(taut__round_up(payload, 64), lane->frame_bytes);
    TAUT_TRY(enlarge(lane, floats, payload));
    lane->scratch_n = floats;
    lane->frame_bytes = payload;
    return TAUT_OK;
}
