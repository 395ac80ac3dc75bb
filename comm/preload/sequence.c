/* sequence.c : see sequence.h. */
#include "sequence.h"

uint64_t taut__call_key(taut__call_kind kind, uint64_t count, uint32_t type, uint32_t op, bool eligible)
{
    uint64_t h = taut__seed((uint64_t)kind << 32 | type, op);
    h = taut__seed(h, count);
    return (h & ~1ull) | eligible;
}

/* Knuth, Morris, Pratt on the latest n events, read backwards: failure[i] is the length of the longest border of the first
 * i + 1 of them, so that i + 1 - failure[i] is their shortest period. */
size_t taut__sequence_period(const taut__sequence *s, uint64_t last, uint32_t *failure)
{
    if (!taut__sequence_knows(s, last)) return 0;
    uint64_t first = s->events > TAUT_HISTORY ? s->events - TAUT_HISTORY : 0;
    size_t   n = (size_t)(last - first) + 1;
    bool     eligible = false;
    failure[0] = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t key = taut__sequence_key(s, last - i);
        uint32_t k = i ? failure[i - 1] : 0;
        while (i && k > 0 && taut__sequence_key(s, last - k) != key) k = failure[k - 1];
        if (i && taut__sequence_key(s, last - k) == key) k++;
        failure[i] = i ? k : 0;
        eligible |= taut__key_eligible(key);
        size_t period = i + 1 - failure[i];
        if (eligible && failure[i] && (i + 1) == TAUT_CYCLES * period) return period;
    }
    return 0;
}

bool taut__sequence_votes_at(uint64_t event)
{
    if (event + 1 < TAUT_CYCLES) return false;
    uint64_t step = 1;
    while (step * 16 < event && step < 512) step *= 2; /* each up to 16, every 2nd up to 32, every 4th up to 64, ... */
    return event % step == 0;
}
