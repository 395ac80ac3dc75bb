/* permute.c : see permute.h. */
#include "permute.h"
#include "philox.h"
#include <string.h>

/* Philox words of one key, in order. Counter: block number, stream, index, high half of the round; the low half of the
 * round and the seed are mixed into the key. */
typedef struct words {
    taut__philox_block counter, block;
    uint64_t           key;
    unsigned           used;
} words;

static words words_of(taut__order_key k)
{
    words w = {.counter = {{0, k.stream, k.index, (uint32_t)(k.round >> 32)}}, .used = 4};
    w.key = taut__seed(k.seed, (uint32_t)k.round);
    return w;
}

static uint32_t next_word(words *w)
{
    if (w->used == 4) {
        w->block = taut__philox(w->counter, w->key);
        w->counter.word[0]++;
        w->used = 0;
    }
    return w->block.word[w->used++];
}

/* Uniform in 0..n-1 without bias: multiply, and draw again in the part where the products do not divide evenly
 * (Lemire: Fast Random Integer Generation in an Interval, 2019, algorithm 5). */
static uint32_t below(words *w, uint32_t n)
{
    uint64_t product = (uint64_t)next_word(w) * n;
    uint32_t low = (uint32_t)product;
    if (low < n) {
        uint32_t threshold = (uint32_t)(-n) % n;
        while (low < threshold) {
            product = (uint64_t)next_word(w) * n;
            low = (uint32_t)product;
        }
    }
    return (uint32_t)(product >> 32);
}

static void shuffle(uint16_t *table, uint32_t n, taut__order_key key)
{
    words w = words_of(key);
    for (uint32_t i = 0; i < n; i++) table[i] = (uint16_t)i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = below(&w, i);
        uint16_t t = table[i - 1];
        table[i - 1] = table[j];
        table[j] = t;
    }
}

static bool same_key(taut__order_key a, taut__order_key b)
{
    return a.seed == b.seed && a.round == b.round && a.stream == b.stream && a.index == b.index;
}

void taut__permutation_set_network(taut__permutation *p, uint64_t n, taut__order_key key)
{
    words    w = words_of(key);
    unsigned bits = 2; /* two halves of at least one bit */
    taut__permutation_free(p);
    while (bits < 64 && (UINT64_C(1) << bits) < n) bits++;
    p->left = bits / 2;
    p->right = bits - p->left;
    for (int i = 0; i < TAUT__FEISTEL_ROUNDS; i++) p->round_key[i] = next_word(&w);
    p->n = n;
    p->key = key;
}

taut_status taut__permutation_set(taut__permutation *p, uint64_t n, taut__order_key key)
{
    if (p->n == n && same_key(p->key, key)) return TAUT_OK;
    if (n > TAUT__TABLE_MAX) {
        taut__permutation_set_network(p, n, key);
        return TAUT_OK;
    }
    if (p->capacity < n) {
        taut__permutation_free(p);
        p->table = taut__alloc((size_t)n, sizeof *p->table);
        if (!p->table)
            return taut__fail(TAUT_E_NOMEM, "sampler: out of memory for a table of %llu places", (unsigned long long)n);
        p->capacity = (size_t)n;
    }
    shuffle(p->table, (uint32_t)n, key);
    p->n = n;
    p->key = key;
    return TAUT_OK;
}

void taut__permutation_free(taut__permutation *p)
{
    taut__free(p->table);
    memset(p, 0, sizeof *p);
}
