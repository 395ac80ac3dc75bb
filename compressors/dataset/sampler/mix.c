/* mix.c : see mix.h. */
#include "mix.h"
#include <string.h>

typedef unsigned long long ull;

/* Largest remainders (Hamilton's method); ties go to the first source. */
static void share_out(taut__mix *m, const uint64_t *share)
{
    taut__u128 all = 0;
    uint64_t   given = 0;
    for (uint32_t c = 0; c < m->sources; c++) all += share[c];
    for (uint32_t c = 0; c < m->sources; c++) {
        m->first_share[c + 1] = (uint64_t)((taut__u128)share[c] * m->samples / all);
        given += m->first_share[c + 1];
    }
    for (; given < m->samples; given++) { /* fewer than `sources` times */
        uint32_t   best = 0;
        taut__u128 most = 0;
        for (uint32_t c = 0; c < m->sources; c++) {
            taut__u128 want = (taut__u128)share[c] * m->samples, have = all * m->first_share[c + 1];
            if (want > have && want - have > most) most = want - have, best = c;
        }
        m->first_share[best + 1]++;
    }
    for (uint32_t c = 0; c < m->sources; c++) m->first_share[c + 1] += m->first_share[c];
}

static void group(taut__mix *m, const uint32_t *source)
{
    for (uint64_t i = 0; i < m->n; i++) m->first[source[i] + 1]++;
    for (uint32_t c = 0; c < m->sources; c++) m->first[c + 1] += m->first[c];
    for (uint64_t i = 0; i < m->n; i++) m->member[m->first[source[i]]++] = (uint32_t)i;
    for (uint32_t c = m->sources; c > 0; c--) m->first[c] = m->first[c - 1]; /* back to where they began */
    m->first[0] = 0;
}

static taut_status make_passes(taut__mix *m)
{
    for (uint32_t c = 0; c < m->sources; c++) {
        uint64_t size = m->first[c + 1] - m->first[c], share = m->first_share[c + 1] - m->first_share[c], passes = 0;
        if (share && !size)
            return taut__fail(TAUT_E_INVALID, "plan: mix: source %u has a share of %llu samples a round, but no sample",
                              c, (ull)share);
        if (share) passes = share / size + 2; /* a round may begin and end in the middle of one */
        if (passes > TAUT__MIX_PASSES)
            return taut__fail(TAUT_E_RANGE,
                              "plan: mix: source %u: %llu of its %llu samples a round: at most %d times all of them", c,
                              (ull)share, (ull)size, TAUT__MIX_PASSES - 2);
        m->first_pass[c + 1] = m->first_pass[c] + (size_t)passes;
    }
    m->pass = taut__alloc(m->first_pass[m->sources] + 1, sizeof *m->pass);
    return m->pass ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "sampler: out of memory for the passes of a mix");
}

taut_status taut__mix_init(taut__mix *m, const uint32_t *source, uint64_t n, const uint64_t *share, uint32_t sources,
                           uint64_t samples)
{
    taut_status s;
    memset(m, 0, sizeof *m);
    if (n == 0 || n > UINT32_MAX || samples == 0 || samples > UINT64_C(1) << 40)
        return taut__fail(TAUT_E_RANGE, "sampler: mix: %llu of %llu samples: must be 1 or more of fewer than 2^32",
                          (ull)samples, (ull)n);
    m->n = n, m->samples = samples, m->sources = sources;
    m->member = taut__alloc((size_t)n, sizeof *m->member);
    m->first = taut__alloc(sources + 1, sizeof *m->first);
    m->first_share = taut__alloc(sources + 1, sizeof *m->first_share);
    m->first_pass = taut__alloc(sources + 1, sizeof *m->first_pass);
    if (!m->member || !m->first || !m->first_share || !m->first_pass)
        s = taut__fail(TAUT_E_NOMEM, "sampler: out of memory for %llu sources", (ull)n);
    else {
        group(m, source);
        share_out(m, share);
        s = make_passes(m);
    }
    if (s != TAUT_OK) taut__mix_free(m);
    return s;
}

void taut__mix_free(taut__mix *m)
{
    for (size_t i = 0; m->pass && m->first_pass && i < m->first_pass[m->sources]; i++)
        taut__permutation_free(&m->pass[i]);
    taut__permutation_free(&m->order);
    taut__free(m->pass);
    taut__free(m->member);
    taut__free(m->first);
    taut__free(m->first_share);
    taut__free(m->first_pass);
    memset(m, 0, sizeof *m);
}

taut_status taut__mix_at(taut__mix *m, taut__order_key key, uint64_t i, uint64_t *place)
{
    uint32_t           low = 0, high = m->sources;
    uint64_t           mixed, size, at;
    taut__permutation *p;
    key.index = UINT32_MAX;
    TAUT_TRY(taut__permutation_set(&m->order, m->samples, key));
    mixed = taut__permute(&m->order, i);
    while (high - low >
           1) { /* the last source whose share begins at or before it: those without a share are passed over */
        uint32_t middle = low + (high - low) / 2;
        if (m->first_share[middle] <= mixed) low = middle;
        else high = middle;
    }
    size = m->first[low + 1] - m->first[low];
    at = key.round * (m->first_share[low + 1] - m->first_share[low]) + mixed - m->first_share[low];
    key.round = at / size; /* the pass */
    key.index = low;
    p = &m->pass[m->first_pass[low] + (size_t)(key.round % (m->first_pass[low + 1] - m->first_pass[low]))];
    TAUT_TRY(taut__permutation_set(p, size, key));
    *place = m->member[m->first[low] + taut__permute(p, at % size)];
    return TAUT_OK;
}
