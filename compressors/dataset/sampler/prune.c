/* prune.c : see prune.h. */
#include "prune.h"
#include <string.h>

taut_status taut__prune_init(taut__prune *p, const uint64_t *list, uint64_t listed, uint64_t n, uint64_t samples)
{
    uint8_t *is = taut__alloc((size_t)(n / 8 + 1), 1);
    memset(p, 0, sizeof *p);
    p->listed = listed, p->others = n - listed, p->part = samples - p->others;
    p->other = taut__alloc((size_t)p->others + 1, sizeof *p->other);
    if (!is || !p->other) {
        taut__free(is);
        taut__prune_free(p);
        return taut__fail(TAUT_E_NOMEM, "sampler: out of memory for %llu places", (unsigned long long)n);
    }
    for (uint64_t i = 0; i < listed; i++) is[list[i] / 8] |= (uint8_t)(1u << (list[i] % 8));
    for (uint64_t i = 0, k = 0; i < n; i++)
        if (!(is[i / 8] >> (i % 8) & 1)) p->other[k++] = i;
    taut__free(is);
    return TAUT_OK;
}

void taut__prune_free(taut__prune *p)
{
    taut__free(p->other);
    taut__permutation_free(&p->order);
    taut__permutation_free(&p->pass);
    memset(p, 0, sizeof *p);
}

taut_status taut__prune_at(taut__prune *p, taut__order_key key, uint64_t i, uint64_t *index, uint64_t *place)
{
    uint64_t rounds = p->listed / p->part, mixed, round = key.round;
    key.index = UINT32_MAX;
    TAUT_TRY(taut__permutation_set(&p->order, p->others + p->part, key));
    mixed = taut__permute(&p->order, i);
    *index = UINT64_MAX;
    if (mixed < p->others) {
        *place = p->other[mixed];
        return TAUT_OK;
    }
    key.index = 0;
    key.round = round / rounds;
    TAUT_TRY(taut__permutation_set(&p->pass, p->listed, key));
    *index = taut__permute(&p->pass, round % rounds * p->part + mixed - p->others);
    return TAUT_OK;
}

taut_status taut__buckets_at(taut__buckets *b, taut__order_key key, uint64_t i, uint64_t *place)
{
    uint64_t k = i / b->bucket, whole = b->n / b->bucket, size = k < whole ? b->bucket : b->n % b->bucket;
    if (b->shuffled && k < whole) {
        key.index = UINT32_MAX;
        TAUT_TRY(taut__permutation_set(&b->order, whole, key));
        k = taut__permute(&b->order, k);
    }
    key.index = (uint32_t)(k % (UINT32_MAX - 1));
    TAUT_TRY(taut__permutation_set(&b->inside, size, key));
    *place = k * b->bucket + taut__permute(&b->inside, i % b->bucket);
    return TAUT_OK;
}

void taut__buckets_free(taut__buckets *b)
{
    taut__permutation_free(&b->order);
    taut__permutation_free(&b->inside);
}
