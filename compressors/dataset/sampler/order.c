/* order.c : see order.h. */
#include "order.h"
#include <string.h>

static const uint32_t INDEX_ALL = UINT32_MAX, INDEX_TURN = UINT32_MAX - 1;

static uint64_t scaled(uint64_t a, uint64_t b, uint64_t c) /* floor(a*b/c), exactly */
{
    return (uint64_t)((taut__u128)a * b / c);
}

static uint64_t chunks_before(const taut__order *o, uint64_t q) { return scaled(o->chunks, q, o->windows); }
static uint64_t tails_before(const taut__order *o, uint64_t q) { return scaled(o->tails, q, o->windows); }
static uint64_t places_before(const taut__order *o, uint64_t q)
{
    return chunks_before(o, q) * o->chunk + tails_before(o, q);
}

static taut_status sum_up(taut__order *o, const uint64_t *samples)
{
    for (size_t k = 0; k < o->segments; k++) {
        o->first_chunk[k + 1] = o->first_chunk[k] + samples[k] / o->chunk;
        o->first_tail[k + 1] = o->first_tail[k] + samples[k] % o->chunk;
        if (__builtin_add_overflow(o->first[k], samples[k], &o->first[k + 1]) || o->first[k + 1] > UINT64_C(1) << 62)
            return taut__fail(TAUT_E_RANGE, "sampler: segment %zu has %llu samples: all together must be at most 2^62",
                              k, (unsigned long long)samples[k]);
    }
    o->n = o->first[o->segments];
    return o->n ? TAUT_OK : taut__fail(TAUT_E_RANGE, "sampler: 0 samples: must be at least 1");
}

taut_status taut__order_init(taut__order *o, const uint64_t *samples, size_t segments, uint64_t chunk, uint64_t window)
{
    taut_status s;
    memset(o, 0, sizeof *o);
    if (segments == 0 || chunk == 0)
        return taut__fail(TAUT_E_INVALID, "sampler: %zu segments, chunks of %llu samples: must be at least 1 each",
                          segments, (unsigned long long)chunk);
    o->chunk = chunk;
    o->window = window;
    o->segments = segments;
    o->first = taut__alloc(3 * (segments + 1), sizeof *o->first);
    if (!o->first) return taut__fail(TAUT_E_NOMEM, "sampler: out of memory for %zu shards", segments);
    o->first_chunk = o->first + segments + 1;
    o->first_tail = o->first_chunk + segments + 1;
    if ((s = sum_up(o, samples)) != TAUT_OK) {
        taut__order_free(o);
        return s;
    }
    o->chunks = o->first_chunk[segments];
    o->tails = o->first_tail[segments];
    if (o->chunks == 0) o->window = 0; /* nothing but tails */
    /* a window's number is a key's index */
    while (o->window && taut__ceil_div(o->chunks, o->window) >= INDEX_TURN) o->window *= 2;
    o->windows = o->window ? taut__ceil_div(o->chunks, o->window) : 1;
    return TAUT_OK;
}

void taut__order_free(taut__order *o)
{
    taut__permutation_free(&o->all);
    taut__permutation_free(&o->inside);
    taut__free(o->first);
    memset(o, 0, sizeof *o);
}

taut_status taut__order_set(taut__order *o, taut__order_key key)
{
    taut__permutation turn = {0};
    key.index = INDEX_ALL;
    o->key = key;
    o->at.end = 0;
    TAUT_TRY(taut__permutation_set(&o->all, o->window ? o->chunks : o->n, key));
    if (!o->window || o->tails == 0) return TAUT_OK;
    key.index = INDEX_TURN;
    taut__permutation_set_network(&turn, o->tails, key); /* one number of 0..T-1 */
    o->turn = taut__permute(&turn, 0);
    return TAUT_OK;
}

/* The k with first[k] <= x < first[k+1]. */
static size_t segment_of(const uint64_t *first, size_t segments, uint64_t x)
{
    size_t low = 0, high = segments;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (first[middle] <= x) low = middle;
        else high = middle;
    }
    return low;
}

static uint64_t sample_of_chunk(const taut__order *o, uint64_t chunk, uint64_t offset)
{
    size_t k = segment_of(o->first_chunk, o->segments, chunk);
    return o->first[k] + (chunk - o->first_chunk[k]) * o->chunk + offset;
}

static uint64_t sample_of_tail(const taut__order *o, uint64_t tail)
{
    size_t   k;
    uint64_t full;
    tail = tail + o->turn >= o->tails ? tail + o->turn - o->tails : tail + o->turn;
    k = segment_of(o->first_tail, o->segments, tail);
    full = (o->first_chunk[k + 1] - o->first_chunk[k]) * o->chunk;
    return o->first[k] + full + (tail - o->first_tail[k]);
}

static uint64_t window_of(const taut__order *o, uint64_t place)
{
    uint64_t q = scaled(place, o->windows, o->n);
    while (q > 0 && places_before(o, q) > place) q--;
    while (q + 1 < o->windows && places_before(o, q + 1) <= place) q++;
    return q;
}

static taut_status enter_window(taut__order *o, uint64_t place)
{
    uint64_t            q = window_of(o, place);
    taut__order_key     key = o->key;
    struct taut__window w = {.start = places_before(o, q), .end = places_before(o, q + 1)};
    w.first_chunk = chunks_before(o, q);
    w.first_tail = tails_before(o, q);
    w.full = (chunks_before(o, q + 1) - w.first_chunk) * o->chunk;
    o->at.end = 0;
    key.index = (uint32_t)q;
    TAUT_TRY(taut__permutation_set(&o->inside, w.end - w.start, key));
    o->at = w;
    return TAUT_OK;
}

taut_status taut__order_at(taut__order *o, uint64_t i, uint64_t *sample)
{
    uint64_t inside;
    *sample = 0;
    if (i >= o->n)
        return taut__fail(TAUT_E_RANGE, "sampler: place %llu: must be below %llu", (unsigned long long)i,
                          (unsigned long long)o->n);
    if (!o->window) {
        *sample = taut__permute(&o->all, i);
        return TAUT_OK;
    }
    if (i < o->at.start || i >= o->at.end) TAUT_TRY(enter_window(o, i));
    inside = taut__permute(&o->inside, i - o->at.start);
    *sample = inside < o->at.full
                  ? sample_of_chunk(o, taut__permute(&o->all, o->at.first_chunk + inside / o->chunk), inside % o->chunk)
                  : sample_of_tail(o, o->at.first_tail + (inside - o->at.full));
    return TAUT_OK;
}
