/* strata.c : see strata.h. */
#include "strata.h"
#include <stdlib.h>
#include <string.h>

typedef struct labelled {
    int64_t  label;
    uint32_t place;
} labelled;

static int by_label(const void *a, const void *b)
{
    const labelled *x = a, *y = b;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

typedef struct rest {
    uint64_t remainder;
    size_t class;
} rest;

static int by_remainder(const void *a, const void *b)
{
    const rest *x = a, *y = b;
    if (x->remainder != y->remainder) return x->remainder > y->remainder ? -1 : 1;
    return (x->class > y->class) - (x->class < y->class);
}

/* Largest remainders (Hamilton's method). */
static taut_status share_out(taut__strata *s)
{
    uint64_t given = 0;
    rest    *r = taut__alloc(s->classes, sizeof *r);
    if (!r) return taut__fail(TAUT_E_NOMEM, "sampler: out of memory for %zu classes", s->classes);
    for (size_t c = 0; c < s->classes; c++) {
        taut__u128 part = (taut__u128)(s->first[c + 1] - s->first[c]) * s->samples;
        s->first_share[c + 1] = (uint64_t)(part / s->n);
        r[c] = (rest){(uint64_t)(part % s->n), c};
        given += s->first_share[c + 1];
    }
    qsort(r, s->classes, sizeof *r, by_remainder);
    for (size_t k = 0; given < s->samples; k++, given++) s->first_share[r[k].class + 1]++;
    for (size_t c = 0; c < s->classes; c++) s->first_share[c + 1] += s->first_share[c];
    taut__free(r);
    return TAUT_OK;
}

static taut_status group(taut__strata *s, const labelled *sorted)
{
    s->classes = 1;
    for (uint64_t i = 1; i < s->n; i++) s->classes += sorted[i].label != sorted[i - 1].label;
    s->member = taut__alloc((size_t)s->n, sizeof *s->member);
    s->first = taut__alloc(s->classes + 1, sizeof *s->first);
    s->first_share = taut__alloc(s->classes + 1, sizeof *s->first_share);
    s->inside = taut__alloc(s->classes, sizeof *s->inside);
    if (!s->member || !s->first || !s->first_share || !s->inside)
        return taut__fail(TAUT_E_NOMEM, "sampler: out of memory for %llu labels", (unsigned long long)s->n);
    for (uint64_t i = 0, c = 0; i < s->n; i++) {
        s->member[i] = sorted[i].place;
        if (i > 0 && sorted[i].label != sorted[i - 1].label) s->first[++c] = i;
    }
    s->first[s->classes] = s->n;
    return share_out(s);
}

taut_status taut__strata_init(taut__strata *s, const int64_t *label, uint64_t n, uint64_t samples, bool replace)
{
    labelled   *sorted;
    taut_status status;
    memset(s, 0, sizeof *s);
    if (n == 0 || n > UINT32_MAX || samples == 0 || samples > n)
        return taut__fail(TAUT_E_RANGE, "sampler: strata: %llu of %llu samples: must be 1..n of fewer than 2^32",
                          (unsigned long long)samples, (unsigned long long)n);
    s->n = n;
    s->samples = samples;
    s->replace = replace;
    sorted = taut__alloc((size_t)n, sizeof *sorted);
    if (!sorted) return taut__fail(TAUT_E_NOMEM, "sampler: out of memory for %llu labels", (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++) sorted[i] = (labelled){label[i], (uint32_t)i};
    qsort(sorted, (size_t)n, sizeof *sorted, by_label);
    status = group(s, sorted);
    taut__free(sorted);
    if (status != TAUT_OK) taut__strata_free(s);
    return status;
}

void taut__strata_free(taut__strata *s)
{
    for (size_t c = 0; s->inside && c < s->classes; c++) taut__permutation_free(&s->inside[c]);
    taut__free(s->inside);
    taut__permutation_free(&s->mix);
    taut__free(s->member);
    taut__free(s->first);
    taut__free(s->first_share);
    memset(s, 0, sizeof *s);
}

taut_status taut__strata_at(taut__strata *s, taut__order_key key, uint64_t i, uint64_t *place)
{
    size_t   low = 0, high = s->classes;
    uint64_t mixed, size, share, passes;
    key.index = UINT32_MAX;
    TAUT_TRY(taut__permutation_set(&s->mix, s->samples, key));
    mixed = taut__permute(&s->mix, i);
    while (high - low > 1) { /* the class whose share holds it */
        size_t middle = low + (high - low) / 2;
        if (s->first_share[middle] <= mixed) low = middle;
        else high = middle;
    }
    size = s->first[low + 1] - s->first[low];
    share = s->first_share[low + 1] - s->first_share[low];
    passes = s->replace ? 1 : size / share; /* rounds until the class is used up */
    mixed = mixed - s->first_share[low] + key.round % passes * share;
    key.round /= passes;
    key.index = (uint32_t)low;
    TAUT_TRY(taut__permutation_set(&s->inside[low], size, key));
    *place = s->member[s->first[low] + taut__permute(&s->inside[low], mixed)];
    return TAUT_OK;
}
