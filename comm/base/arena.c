/* arena.c : see arena.h. A block begins with a line that says how long it is and whether it is lent; the next block follows.
 * Free neighbours are joined by whoever looks for room and comes past. */
#include "arena.h"

typedef struct block {
    size_t bytes, requests; /* with this line */
    bool   lent;
} block;
_Static_assert(sizeof(block) <= TAUT_LINE, "a block's head is one line");

/* ---- the arena ---- */

static block *block_at(const taut__arena *a, size_t at) { return (block *)(void *)(a->memory + at); }

/* b and the free blocks behind it become one. */
static void join(const taut__arena *a, size_t at)
{
    block *b = block_at(a, at);
    while (at + b->bytes < a->bytes && !block_at(a, at + b->bytes)->lent) b->bytes += block_at(a, at + b->bytes)->bytes;
}

static void *lend(taut__arena *a, size_t at, size_t bytes, size_t requests)
{
    block *b = block_at(a, at);
    if (b->bytes > bytes) *block_at(a, at + bytes) = (block){.bytes = b->bytes - bytes};
    *b = (block){.bytes = bytes, .requests = requests, .lent = true};
    a->lent++;
    a->requests_lent += requests;
    return (char *)b + TAUT_LINE;
}

static void *take(taut__arena *a, size_t bytes, size_t requests)
{
    size_t whole = taut__arena_block(bytes);
    if (a->requests - a->requests_lent < requests) return NULL;
    for (size_t at = 0; at < a->bytes; at += block_at(a, at)->bytes) {
        if (block_at(a, at)->lent) continue;
        join(a, at);
        if (block_at(a, at)->bytes >= whole) return lend(a, at, whole, requests);
    }
    return NULL;
}

static void give(taut__arena *a, void *slot)
{
    block *b = (block *)(void *)((char *)slot - TAUT_LINE);
    b->lent = false;
    a->lent--;
    a->requests_lent -= b->requests;
}

/* It becomes smaller only when nobody borrows any more: layers that go to another codec for a few steps come back. */
static taut_status resize(taut__arena *a, size_t bytes)
{
    bool stays = a->made.space == a->staging.space || bytes == 0;
    if (stays && (bytes == a->bytes || (bytes > 0 && bytes < a->bytes))) return TAUT_OK;
    taut__staging_free(&a->made, a->memory);
    a->bytes = 0;
    a->memory = taut__staging_alloc(&a->made, &a->staging, bytes);
    if (!a->memory) return taut__fail(TAUT_E_NOMEM, "out of memory for %zu bytes of slices under way", bytes);
    a->bytes = bytes;
    if (bytes > 0) *block_at(a, 0) = (block){.bytes = bytes};
    return TAUT_OK;
}

taut_status taut__arena_fit(taut__arena *a)
{
    size_t bytes = 0, requests = 0, most_bytes = 0, most_requests = 0;
    if (a->lent > 0) return TAUT_OK;
    for (const taut__slots *s = a->users; s; s = s->next) {
        bytes += s->more_bytes, requests += s->more_requests;
        most_bytes = taut__max(most_bytes, s->more_bytes), most_requests = taut__max(most_requests, s->more_requests);
    }
    a->requests = taut__arena_bound(requests, most_requests, TAUT_ARENA_REQUESTS);
    TAUT_TRY(resize(a, taut__arena_bound(bytes, most_bytes, TAUT_ARENA_BYTES)));
    a->due = false;
    return TAUT_OK;
}

void taut__arena_stage(taut__arena *a, const taut__space *space, taut_place place)
{
    a->staging = (taut__staging){space, place};
    a->due = true;
}

void taut__arena_fini(taut__arena *a)
{
    taut__staging_free(&a->made, a->memory);
    *a = (taut__arena){0};
}

/* ---- the slots of one job ---- */

void taut__slots_need(taut__slots *s, size_t bytes, size_t requests, size_t count)
{
    s->bytes = taut__max(s->bytes, bytes);
    s->requests = taut__max(s->requests, requests);
    s->more_bytes = taut__max(s->more_bytes, (count - 1) * taut__arena_block(bytes));
    s->more_requests = taut__max(s->more_requests, (count - 1) * requests);
}

taut_status taut__slots_open(taut__slots *s, taut__arena *arena, void *memory)
{
    s->arena = arena;
    s->allocated = !memory;
    s->own = memory ? memory : taut__staging_alloc(&s->made, &arena->staging, s->bytes);
    if (!s->own) return taut__fail(TAUT_E_NOMEM, "out of memory for a slot of %zu bytes", s->bytes);
    if (memory) return TAUT_OK;
    s->next = arena->users;
    arena->users = s;
    arena->due = true;
    return TAUT_OK;
}

void taut__slots_release(taut__slots *s)
{
    for (taut__slots **at = s->arena ? &s->arena->users : NULL; at && *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            s->arena->due = true;
            break;
        }
    if (s->allocated) taut__staging_free(&s->made, s->own);
    *s = (taut__slots){.reserved = s->reserved};
}

void *taut__slots_take(taut__slots *s, size_t bytes, size_t requests)
{
    if (s->own_lent) return take(s->arena, bytes, requests);
    s->own_lent = true;
    return s->own;
}

void taut__slots_give(taut__slots *s, void *slot)
{
    if (slot == s->own) s->own_lent = false;
    else give(s->arena, slot);
}
