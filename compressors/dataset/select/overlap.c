/* overlap.c : see overlap.h. */
#include "overlap.h"
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef unsigned long long ull;

enum { SPAN = 32, ZEROS = 5, LEAST = 4 };

typedef struct prints {
    uint64_t *hash;
    size_t    n, room;
} prints;

static bool add(prints *p, uint64_t hash)
{
    if (p->n == p->room) {
        size_t    room = p->room ? 2 * p->room : 4096;
        uint64_t *more = taut__alloc(room, sizeof *more);
        if (!more) return false;
        if (p->n) memcpy(more, p->hash, p->n * sizeof *more);
        taut__free(p->hash);
        p->hash = more, p->room = room;
    }
    p->hash[p->n++] = hash;
    return true;
}

/* The fingerprints of a sample: a polynomial rolling hash, whose upper bits depend on all of its bytes. */
static bool fingerprints(const uint8_t *d, size_t n, prints *p)
{
    const uint64_t base = 0x9e3779b97f4a7c15u;
    uint64_t       h = 0, drop = 1;
    for (int i = 0; i < SPAN; i++) drop *= base;
    for (size_t i = 0; i < n; i++) {
        h = h * base + d[i] + 1;
        if (i >= SPAN) h -= drop * (d[i - SPAN] + 1u);
        if (i + 1 >= SPAN) {
            if (h >> (64 - ZEROS) == 0 && !add(p, h)) return false;
        }
    }
    return true;
}

static int rising(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool is_there(const prints *p, uint64_t hash)
{
    return p->n && bsearch(&hash, p->hash, p->n, sizeof hash, rising);
}

typedef struct checking {
    taut__select *s;
    prints        target, whole, sample;
    uint64_t      found, first; /* samples; the first one's place */
} checking;

static taut_status no_memory(void)
{
    return taut__fail(TAUT_E_NOMEM, "plan: out of memory for the fingerprints of the target");
}

static taut_status check_one(void *ctx, uint64_t place, const uint8_t *data, size_t bytes)
{
    checking *c = ctx;
    size_t    hits = 0;
    bool      same;
    c->sample.n = 0;
    if (!fingerprints(data, bytes, &c->sample)) return no_memory();
    for (size_t i = 0; i < c->sample.n; i++) hits += is_there(&c->target, c->sample.hash[i]);
    same = c->sample.n >= LEAST ? 2 * hits >= c->sample.n : bytes > 0 && is_there(&c->whole, XXH64(data, bytes, 0));
    if (!same) return TAUT_OK;
    if (c->found++ == 0 || place < c->first) c->first = place;
    return TAUT_OK;
}

static taut_status read_target(checking *c)
{
    taut__pool *t = c->s->target;
    for (uint64_t i = 0; i < t->n; i++) {
        const uint8_t *data;
        size_t         bytes;
        TAUT_TRY(taut__pool_get(t, i, &data, &bytes));
        if (!fingerprints(data, bytes, &c->target) || (bytes && !add(&c->whole, XXH64(data, bytes, 0))))
            return no_memory();
    }
    if (c->target.n) qsort(c->target.hash, c->target.n, sizeof *c->target.hash, rising);
    if (c->whole.n) qsort(c->whole.hash, c->whole.n, sizeof *c->whole.hash, rising);
    return TAUT_OK;
}

taut_status taut__overlap_check(taut__select *s)
{
    checking    c = {.s = s, .first = UINT64_MAX};
    uint64_t   *all;
    size_t      bytes = 0;
    char        where[300];
    taut_status status = read_target(&c);
    if (status == TAUT_OK) status = taut__select_visit(s, s->pool, "target in the pool?", check_one, &c);
    uint64_t mine[2] = {c.found, c.first};
    status = taut__select_collect(s, status, mine, sizeof mine, (void **)&all, &bytes);
    for (size_t r = 1; status == TAUT_OK && r < bytes / sizeof mine; r++) {
        all[0] += all[2 * r];
        if (all[2 * r + 1] < all[1]) all[1] = all[2 * r + 1];
    }
    if (status == TAUT_OK && all[0]) {
        taut__pool_where(s->pool, all[1], where, sizeof where);
        taut__select_warn(s,
                          "%s: the target overlaps the pool: %llu of its %llu samples are in the target, too (the "
                          "first: %s); what is measured on this target will be on "
                          "what was trained on",
                          s->method->name, (ull)all[0], (ull)s->pool->n, where);
    }
    taut__free(all);
    taut__free(c.target.hash);
    taut__free(c.whole.hash);
    taut__free(c.sample.hash);
    return status;
}
