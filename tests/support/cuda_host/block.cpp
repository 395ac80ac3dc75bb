/* block.cpp : see block.h. Compiled without TSan's instrumentation: what the lanes do is checked, not what runs them. */
#include "block.h"
#include "fiber.h"
#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <sched.h>
#include <thread>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

namespace cuda_host
{

thread_local lane *current;
lane              *current_unseen() { return current; }

enum { WARP = 32, LANES_MAX = 1024, ARENA = 228 << 10, GAP = 64, SPINS_MAX = 200000000, ARRAYS = 64 };
static const unsigned char POISON = 0xcb, CANARY = 0x5e;

/* ---- seeds ---- */

struct random_numbers {
    uint64_t state;
    uint64_t next()
    {
        state += 0x9e3779b97f4a7c15u;
        uint64_t x = state;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return x ^ (x >> 31);
    }
    unsigned below(unsigned n) { return (unsigned)((next() >> 32) * n >> 32); }
};

static random_numbers host_numbers = {1};
static std::mutex     host_mutex;
static unsigned       workers_wanted, ends_wanted;

void set_seed(uint64_t seed)
{
    std::lock_guard<std::mutex> hold(host_mutex);
    host_numbers.state = seed * 0x2545f4914f6cdd1du + 1;
}
uint64_t draw()
{
    std::lock_guard<std::mutex> hold(host_mutex);
    return host_numbers.next();
}
void set_workers(unsigned workers) { workers_wanted = workers; }
void set_ends(unsigned blocks) { ends_wanted = blocks; }

/* ---- an engine runs one block at a time ---- */

enum class state { ready, in_barrier, in_warp, done };

struct rendezvous { /* of the lanes of one mask */
    unsigned mask = 0, arrived = 0, kind = 0, turn = 0;
    warp_op  op = warp_op::sync;
    site     where = {nullptr, 0};
    uint64_t bits[WARP];
    int      argument[WARP], width[WARP];
};

struct shared_array {
    const void *tag;
    size_t      at, bytes;
};

struct engine {
    fiber                   host;
    std::vector<fiber>      fibers;
    std::vector<unsigned>   fiber_of; /* lane -> fiber: drawn anew for each block */
    std::vector<lane>       lanes;
    std::vector<state>      states;
    std::vector<site>       waits;
    std::vector<unsigned>   ready;
    std::vector<rendezvous> meetings; /* warp * 32 + lowest lane of the mask */
    /* Bits of each warp: which meetings are open, which lanes have exited or never were. */
    unsigned opened[LANES_MAX / WARP] = {}, exited[LANES_MAX / WARP] = {};
    /* Two per meeting, then two for the barrier; fresh for each block. They take turns, so that who is late to leave does not
     * learn of what others did before they came again. */
    std::vector<char> tokens;
    shared_array      shared[ARRAYS]; /* [0]: the dynamic one */
    unsigned          arrays = 0;
    char             *arena = nullptr;
    size_t            arena_used = 0;
    const launch     *work = nullptr;
    void             *begin_token = nullptr, *end_token = nullptr;
    random_numbers    numbers = {0};
    unsigned          count = 0, running = 0, done = 0, at_barrier = 0, yes = 0, barrier_turn = 0;
    unsigned          barrier_result = 0;
    site              barrier_where = {nullptr, 0};
    uint64_t          spins = 0;
};

static thread_local engine *self;

void misuse(const char *format, ...)
{
    char    text[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (self && current) {
        const index3 &b = current->block, &t = current->thread;
        fprintf(stderr, "cuda_host: %s block (%u,%u,%u) thread (%u,%u,%u): %s\n", self->work->kernel, b.x, b.y, b.z,
                t.x, t.y, t.z, text);
    } else {
        fprintf(stderr, "cuda_host: %s\n", text);
    }
    fflush(stderr);
    abort();
}

/* memset would be seen by TSan as an access of the fiber that happens to call it */
static void fill(char *p, unsigned char v, size_t n)
{
    for (volatile unsigned char *q = (volatile unsigned char *)p; n > 0; n--) *q++ = v;
}

/* ---- scheduling ---- */

[[noreturn]] static void deadlock(engine *e)
{
    fprintf(stderr, "cuda_host: %s block (%u,%u,%u): deadlock: nobody can go on; threads wait at:\n", e->work->kernel,
            e->lanes[0].block.x, e->lanes[0].block.y, e->lanes[0].block.z);
    std::map<std::string, unsigned> at;
    for (unsigned i = 0; i < e->count; i++) {
        const char *what = e->states[i] == state::done         ? "exited"
                           : e->states[i] == state::in_barrier ? "__syncthreads"
                                                               : "warp operation";
        char        line[256];
        if (e->states[i] == state::done) snprintf(line, sizeof line, "%s", what);
        else snprintf(line, sizeof line, "%s at %s:%d", what, e->waits[i].file, e->waits[i].line);
        at[line]++;
    }
    for (auto &p : at) fprintf(stderr, "  %u: %s\n", p.second, p.first.c_str());
    fflush(stderr);
    abort();
}

/* From the running lane, or from the host fiber, to a ready lane. */
static void switch_to_next(engine *e, fiber *from)
{
    if (e->ready.empty()) {
        if (e->done < e->count) deadlock(e);
        current = nullptr;
        fiber_switch(from, &e->host);
        return;
    }
    unsigned k = e->numbers.below((unsigned)e->ready.size()), next = e->ready[k];
    e->ready[k] = e->ready.back();
    e->ready.pop_back();
    e->running = next;
    current = &e->lanes[next];
    fiber *to = &e->fibers[e->fiber_of[next]];
    if (to != from) fiber_switch(from, to);
}

static void wait_as(engine *e, unsigned me, state s, site where)
{
    e->states[me] = s;
    e->waits[me] = where;
    switch_to_next(e, &e->fibers[e->fiber_of[me]]);
}

static void wake(engine *e, unsigned i)
{
    e->states[i] = state::ready;
    e->ready.push_back(i);
}

void yield()
{
    engine *e = self;
    if (++e->spins > SPINS_MAX) misuse("spins for ever");
    if (e->ready.empty()) {
        sched_yield(); /* another block has to do something */
        return;
    }
    unsigned me = e->running;
    e->ready.push_back(me);
    switch_to_next(e, &e->fibers[e->fiber_of[me]]);
}

void maybe_yield()
{
    if (self->numbers.below(8) == 0) yield();
}

/* ---- barrier ---- */

static void leave_barrier(engine *e)
{
    e->barrier_result = e->yes;
    e->at_barrier = e->yes = 0;
    e->barrier_turn++;
    for (unsigned i = 0; i < e->count; i++)
        if (e->states[i] == state::in_barrier) wake(e, i);
}

unsigned barrier_count(bool yes, site where)
{
    engine  *e = self;
    unsigned me = e->running;
    char    *token = &e->tokens.back() - (e->barrier_turn & 1);
    if (e->done)
        misuse("__syncthreads at %s:%d, but %u threads of the block have exited", where.file, where.line, e->done);
    if (e->at_barrier == 0) e->barrier_where = where;
    else if (e->barrier_where.line != where.line || strcmp(e->barrier_where.file, where.file) != 0)
        misuse("__syncthreads at %s:%d while others wait in the one at %s:%d", where.file, where.line,
               e->barrier_where.file, e->barrier_where.line);
    fiber_release(token);
    e->yes += yes;
    if (++e->at_barrier == e->count) {
        leave_barrier(e);
        wake(e, me);
        switch_to_next(e, &e->fibers[e->fiber_of[me]]);
    } else {
        wait_as(e, me, state::in_barrier, where);
    }
    fiber_acquire(token);
    return e->barrier_result;
}

void barrier(site where) { barrier_count(false, where); }

/* ---- warp operations ---- */

static const char *const op_names[] = {
    "__syncwarp",        "__shfl_sync",       "__shfl_up_sync",   "__shfl_down_sync",  "__shfl_xor_sync",
    "__ballot_sync",     "__any_sync",        "__all_sync",       "__match_any_sync",  "__reduce_add_sync",
    "__reduce_min_sync", "__reduce_max_sync", "__reduce_or_sync", "__reduce_and_sync", "__reduce_xor_sync"};

/* Lane whose value a shuffle of lane i delivers; -1: its own (beyond the segment). */
static int source_lane(const rendezvous &r, int i)
{
    int width = r.width[i], base = i & ~(width - 1), top = base + width - 1, at;
    switch (r.op) {
    case warp_op::shfl: return base + (r.argument[i] & (width - 1));
    case warp_op::shfl_up: at = i - r.argument[i]; return at < base ? -1 : at;
    case warp_op::shfl_down: at = i + r.argument[i]; return at > top ? -1 : at;
    default: at = i ^ r.argument[i]; return at > top ? -1 : at;
    }
}

static uint64_t shuffled(const rendezvous &r, int i)
{
    int width = r.width[i];
    if (width < 1 || width > WARP || (width & (width - 1)))
        misuse("%s: width=%d: must be a power of two up to 32", op_names[(int)r.op], width);
    int from = source_lane(r, i);
    if (from < 0) return r.bits[i];
    if (from >= WARP || !(r.mask >> from & 1))
        misuse("%s at %s:%d: lane %d reads lane %d, which is not in mask %08x", op_names[(int)r.op], r.where.file,
               r.where.line, i, from, r.mask);
    return r.bits[from];
}

static uint64_t reduced(const rendezvous &r)
{
    uint64_t x = 0;
    bool     first = true;
    for (int i = 0; i < WARP; i++) {
        if (!(r.mask >> i & 1)) continue;
        uint64_t v = r.bits[i];
        bool     is_signed = r.kind & 1;
        int64_t  s = (int32_t)(uint32_t)v, t = (int32_t)(uint32_t)x;
        if (first) x = v;
        else if (r.op == warp_op::add) x = (uint32_t)(x + v);
        else if (r.op == warp_op::bit_or) x |= v;
        else if (r.op == warp_op::bit_and) x &= v;
        else if (r.op == warp_op::bit_xor) x ^= v;
        else if ((r.op == warp_op::min) == (is_signed ? s < t : (uint32_t)v < (uint32_t)x)) x = v;
        first = false;
    }
    return x;
}

/* Everybody is there: what each lane gets. */
static void resolve(engine *e, unsigned warp, const rendezvous &r)
{
    unsigned votes = 0;
    for (int i = 0; i < WARP; i++) votes |= (unsigned)((r.mask >> i & 1) && r.bits[i]) << i;
    uint64_t all = r.op >= warp_op::add      ? reduced(r)
                   : r.op == warp_op::ballot ? votes
                   : r.op == warp_op::any    ? votes != 0
                                             : votes == r.mask;
    for (int i = 0; i < WARP; i++) {
        if (!(r.mask >> i & 1)) continue;
        uint64_t &out = e->lanes[warp * WARP + (unsigned)i].result;
        if (r.op >= warp_op::shfl && r.op <= warp_op::shfl_xor) {
            out = shuffled(r, i);
        } else if (r.op == warp_op::match_any) {
            unsigned same = 0;
            for (int k = 0; k < WARP; k++) same |= (unsigned)((r.mask >> k & 1) && r.bits[k] == r.bits[i]) << k;
            out = same;
        } else {
            out = all;
        }
    }
}

static rendezvous &meeting_of(engine *e, unsigned warp, unsigned mask, warp_op op, unsigned kind, site where)
{
    for (unsigned left = e->opened[warp]; left; left &= left - 1) {
        const rendezvous &r = e->meetings[warp * WARP + (unsigned)__builtin_ctz(left)];
        if (!(r.mask & mask)) continue;
        if (r.mask != mask)
            misuse("%s with mask %08x at %s:%d while lanes of it wait in %s with mask %08x at %s:%d", op_names[(int)op],
                   mask, where.file, where.line, op_names[(int)r.op], r.mask, r.where.file, r.where.line);
        if (r.op != op || r.kind != kind)
            misuse("%s at %s:%d while lanes of the same mask wait in %s (or with another type) at %s:%d",
                   op_names[(int)op], where.file, where.line, op_names[(int)r.op], r.where.file, r.where.line);
    }
    unsigned    first = (unsigned)__builtin_ctz(mask);
    rendezvous &r = e->meetings[warp * WARP + first];
    if (!(e->opened[warp] >> first & 1)) {
        e->opened[warp] |= 1u << first;
        r.mask = mask, r.arrived = 0, r.kind = kind, r.op = op, r.where = where;
    }
    return r;
}

uint64_t warp_meet(unsigned mask, warp_op op, uint64_t bits, int argument, int width, unsigned kind, site where)
{
    engine  *e = self;
    unsigned me = e->running, warp = me / WARP, lane_id = me % WARP;
    if (!(mask >> lane_id & 1))
        misuse("%s at %s:%d: lane %u is not in its own mask %08x", op_names[(int)op], where.file, where.line, lane_id,
               mask);
    if (mask & e->exited[warp])
        misuse("%s at %s:%d: lanes %08x of mask %08x have exited or never were", op_names[(int)op], where.file,
               where.line, mask & e->exited[warp], mask);
    rendezvous &r = meeting_of(e, warp, mask, op, kind, where);
    char       *token = &e->tokens[2 * (size_t)(&r - e->meetings.data()) + (r.turn & 1)];
    r.bits[lane_id] = bits, r.argument[lane_id] = argument, r.width[lane_id] = width;
    r.arrived |= 1u << lane_id;
    fiber_release(token);
    if (r.arrived == mask) {
        resolve(e, warp, r);
        e->opened[warp] &= ~(1u << __builtin_ctz(mask));
        r.turn++;
        for (unsigned i = 0; i < WARP; i++)
            if (mask >> i & 1) wake(e, warp * WARP + i);
        switch_to_next(e, &e->fibers[e->fiber_of[me]]);
    } else {
        wait_as(e, me, state::in_warp, where);
    }
    fiber_acquire(token);
    return e->lanes[me].result;
}

/* An exit while others wait for this lane can never be made good. */
static void check_exit(engine *e, unsigned me)
{
    for (unsigned left = e->opened[me / WARP]; left; left &= left - 1) {
        const rendezvous &r = e->meetings[me / WARP * WARP + (unsigned)__builtin_ctz(left)];
        if (r.mask >> me % WARP & 1)
            misuse("exits while lanes wait for it in %s with mask %08x at %s:%d", op_names[(int)r.op], r.mask,
                   r.where.file, r.where.line);
    }
    if (e->at_barrier)
        misuse("exits while %u threads wait in __syncthreads at %s:%d", e->at_barrier, e->barrier_where.file,
               e->barrier_where.line);
}

/* ---- shared memory ---- */

static char *carve(engine *e, size_t bytes)
{
    size_t at = e->arena_used, end = at + (bytes + 15) / 16 * 16;
    if (end + GAP > ARENA) misuse("more than %d KiB of shared memory", ARENA >> 10);
    ASAN_UNPOISON_MEMORY_REGION(e->arena + at, end - at + GAP);
    fill(e->arena + at, POISON, bytes);
    fill(e->arena + at + bytes, CANARY, end - at - bytes + GAP);
    ASAN_POISON_MEMORY_REGION(e->arena + at + bytes, end - at - bytes + GAP);
    e->arena_used = end + GAP;
    return e->arena + at;
}

void *shared_static(const void *tag, size_t bytes)
{
    engine *e = self;
    for (unsigned k = 1; k < e->arrays; k++)
        if (e->shared[k].tag == tag) return e->arena + e->shared[k].at;
    if (e->arrays == ARRAYS) misuse("more than %d shared arrays", ARRAYS - 1);
    char *p = carve(e, bytes);
    e->shared[e->arrays++] = {tag, (size_t)(p - e->arena), bytes};
    return p;
}

void *shared_dynamic()
{
    if (self->shared[0].bytes == 0) misuse("dynamic shared memory in a launch that asks for none");
    return self->arena + self->shared[0].at;
}

static void check_canaries(engine *e)
{
    for (unsigned k = 0; k < e->arrays; k++) {
        const shared_array &a = e->shared[k];
        size_t              end = (a.bytes + 15) / 16 * 16 + GAP;
        ASAN_UNPOISON_MEMORY_REGION(e->arena + a.at + a.bytes, end - a.bytes);
        for (size_t i = a.bytes; i < end; i++)
            if (((volatile unsigned char *)e->arena)[a.at + i] != CANARY) {
                fprintf(stderr,
                        "cuda_host: %s block (%u,%u,%u): written %zu bytes behind a shared array of %zu bytes\n",
                        e->work->kernel, e->lanes[0].block.x, e->lanes[0].block.y, e->lanes[0].block.z, i - a.bytes,
                        a.bytes);
                fflush(stderr);
                abort();
            }
    }
}

/* ---- blocks ---- */

static void lane_loop(void *argument)
{
    engine *e = (engine *)argument;
    for (;;) {
        unsigned me = e->running;
        fiber_acquire(e->begin_token);
        e->work->body();
        me = e->running;
        check_exit(e, me);
        fiber_release(e->end_token);
        e->states[me] = state::done;
        e->exited[me / WARP] |= 1u << me % WARP;
        e->done++;
        switch_to_next(e, &e->fibers[e->fiber_of[me]]);
    }
}

static void prepare_lanes(engine *e, index3 block)
{
    const launch &l = *e->work;
    e->count = l.block.x * l.block.y * l.block.z;
    while (e->fibers.size() < e->count) e->fibers.push_back(fiber());
    e->fiber_of.resize(e->count);
    e->lanes.resize(e->count);
    e->states.assign(e->count, state::ready);
    e->waits.resize(e->count);
    e->ready.resize(e->count);
    e->meetings.resize((e->count + WARP - 1) / WARP * WARP);
    for (unsigned i = 0; i < e->count; i++) {
        if (!e->fibers[i].stack) fiber_create(&e->fibers[i], lane_loop, e);
        e->fiber_of[i] = e->ready[i] = i;
        e->lanes[i] = lane{{i % l.block.x, i / l.block.x % l.block.y, i / l.block.x / l.block.y},
                           block,
                           l.block,
                           l.grid,
                           i,
                           i % WARP,
                           0};
    }
    for (unsigned i = e->count; i > 1; i--) std::swap(e->fiber_of[i - 1], e->fiber_of[e->numbers.below(i)]);
    for (unsigned warp = 0; warp * WARP < e->count; warp++) {
        unsigned size = std::min<unsigned>(WARP, e->count - warp * WARP);
        e->opened[warp] = 0;
        e->exited[warp] = size < WARP ? ~0u << size : 0;
    }
    std::vector<char>(2 * e->meetings.size() + 2).swap(e->tokens); /* a new address each: blocks do not synchronise */
}

static void run_block(engine *e, index3 block)
{
    fiber_unseen(true); /* no order between blocks: the next one may get the same memory */
    e->arena = (char *)malloc(ARENA);
    if (!e->arena) abort();
    e->arena_used = 0;
    prepare_lanes(e, block); /* its tables grow after the launch, with which lanes are in order, has begun */
    fiber_unseen(false);
    e->shared[0] = {nullptr, (size_t)(carve(e, e->work->shared_bytes) - e->arena), e->work->shared_bytes};
    e->arrays = 1;
    e->done = e->at_barrier = e->yes = 0;
    e->spins = 0;
    switch_to_next(e, &e->host);
    check_canaries(e);
    fiber_unseen(true);
    free(e->arena);
    fiber_unseen(false);
}

/* ---- launches ---- */

/* Engines keep their stacks for the next launch. */
static std::mutex                           idle_mutex;
static std::vector<std::unique_ptr<engine>> idle;

static std::unique_ptr<engine> take_engine()
{
    std::lock_guard<std::mutex> hold(idle_mutex);
    if (idle.empty()) {
        auto e = std::make_unique<engine>();
        e->fibers.reserve(LANES_MAX);
        return e;
    }
    auto e = std::move(idle.back());
    idle.pop_back();
    return e;
}

static void give_engine(std::unique_ptr<engine> e)
{
    std::lock_guard<std::mutex> hold(idle_mutex);
    idle.push_back(std::move(e));
}

struct job {
    const launch         *work;
    std::vector<uint32_t> order;
    std::atomic<size_t>   next{0};
    char                  begin_token = 0, end_token = 0;
};

static index3 block_index(const launch &l, uint32_t i)
{
    return {i % l.grid.x, i / l.grid.x % l.grid.y, i / l.grid.x / l.grid.y};
}

static void work_on(job *j)
{
    auto e = take_engine();
    self = e.get();
    fiber_adopt(&e->host);
    e->work = j->work;
    e->begin_token = &j->begin_token, e->end_token = &j->end_token;
    for (size_t k; (k = j->next.fetch_add(1)) < j->order.size();) {
        e->numbers.state = j->work->seed ^ (uint64_t)j->order[k] << 20;
        run_block(e.get(), block_index(*j->work, j->order[k]));
    }
    self = nullptr;
    current = nullptr;
    give_engine(std::move(e));
}

void run(const launch &l)
{
    job    j;
    size_t blocks = (size_t)l.grid.x * l.grid.y * l.grid.z;
    j.work = &l;
    random_numbers shuffle = {l.seed};
    for (size_t i = 0; i < blocks; i++) {
        if (ends_wanted && i == ends_wanted && blocks > 2 * (size_t)ends_wanted) i = blocks - ends_wanted;
        j.order.push_back((uint32_t)i);
    }
    blocks = j.order.size();
    for (size_t i = blocks; i > 1; i--) std::swap(j.order[i - 1], j.order[shuffle.below((unsigned)i)]);
    count_launch(l, blocks);
    unsigned cpus = workers_wanted ? workers_wanted : std::min(4u, std::max(2u, std::thread::hardware_concurrency()));
    unsigned extra = (unsigned)std::min<size_t>(cpus, blocks) - 1;
    fiber_release(&j.begin_token);
    std::vector<std::thread> helpers;
    for (unsigned i = 0; i < extra; i++) helpers.emplace_back(work_on, &j);
    work_on(&j);
    for (std::thread &t : helpers) t.join();
    fiber_acquire(&j.end_token);
}

} // namespace cuda_host
