/* step_time.c : see step_time.h. */
#include "step_time.h"
#include <stdlib.h>

static int by_begin(const void *a, const void *b)
{
    const taut__collective *x = a, *y = b;
    double                  p = x->end - x->seconds, q = y->end - y->seconds;
    return p < q ? -1 : p > q;
}

double taut__shared_seconds(taut__collective *c, size_t n)
{
    double sum = 0, until = 0;
    qsort(c, n, sizeof *c, by_begin);
    for (size_t i = 0; i < n; i++) {
        double begin = c[i].end - c[i].seconds;
        if (i == 0 || begin > until) sum += c[i].seconds;
        else if (c[i].end > until) sum += c[i].end - until;
        if (i == 0 || c[i].end > until) until = c[i].end;
    }
    return sum;
}
