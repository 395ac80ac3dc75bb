/* likeness.c : see likeness.h. */
#include "likeness.h"
#include <math.h>

const char *taut__doubt_text(taut__doubt d)
{
    static const char *const text[TAUT_DOUBTS] = {
        [TAUT_DOUBT_NONE] = "looks like a gradient",
        [TAUT_DOUBT_UNSEEN] = "not seen often enough",
        [TAUT_DOUBT_CONSTANT] = "constant values, not a gradient",
        [TAUT_DOUBT_SAME] = "the same values on all ranks, like parameters",
        [TAUT_DOUBT_DISJOINT] = "parts of a vector, each from one rank",
        [TAUT_DOUBT_TREND] = "shrinks or grows steadily, like a solver's vector",
        [TAUT_DOUBT_SOLVER] = "comes with dot products, like a solver's vector",
    };
    return (unsigned)d < TAUT_DOUBTS ? text[d] : "?";
}

void taut__likeness_look(taut__likeness *k, const float *own, const float *sum, size_t n, int ranks)
{
    double aa = 0, bb = 0, ab = 0, ss = 0, dd = 0, low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        double a = own[i], b = (double)sum[i] - a, d = a * ranks - sum[i];
        aa += a * a, bb += b * b, ab += fabs(a * b), ss += (double)sum[i] * sum[i], dd += d * d;
        low = fmin(low, a), high = fmax(high, a);
    }
    double most = fmax(fabs(low), fabs(high)), spread = most > 0 ? (high - low) / most : 0;
    if (!isfinite(ss + aa + bb + dd)) return; /* a step that overflowed tells nothing */
    if (aa > 0 && bb > 0) k->overlap = fmax(k->overlap, ab / sqrt(aa * bb));
    if (ss > 0) k->apart = fmax(k->apart, dd / ss);
    k->spread = fmax(k->spread, spread);
    for (int i = TAUT_LOOKS - 1; i > 0; i--) k->norm[i] = k->norm[i - 1];
    k->norm[0] = sqrt(ss);
    k->looks++;
}

/* Every ratio of neighbours on the same side of 1, and a decade in all. */
static bool steady(const taut__likeness *k)
{
    bool falls = true, grows = true;
    for (int i = 1; i < TAUT_LOOKS; i++) {
        falls &= k->norm[i - 1] < 0.7 * k->norm[i];
        grows &= k->norm[i - 1] > k->norm[i] / 0.7;
    }
    double ratio = k->norm[TAUT_LOOKS - 1] > 0 ? k->norm[0] / k->norm[TAUT_LOOKS - 1] : 1;
    return (falls && ratio < 0.1) || (grows && ratio > 10);
}

/* Measured: gradients of ranks with batches of their own overlap by 0.3 (sparse rows) to 0.7 and differ from their mean by more
 * than 1e-3 of its square; assembled vectors overlap in their borders only; averaged parameters differ by less than 1e-4. */
taut__doubt taut__likeness_judge(const taut__likeness *k)
{
    static const double OVERLAP = 0.05, APART = 1e-6, SPREAD = 1e-6;
    if (k->looks < TAUT_LOOKS) return TAUT_DOUBT_UNSEEN;
    if (k->spread < SPREAD) return TAUT_DOUBT_CONSTANT;
    if (k->apart < APART) return TAUT_DOUBT_SAME;
    if (k->overlap < OVERLAP) return TAUT_DOUBT_DISJOINT;
    return steady(k) ? TAUT_DOUBT_TREND : TAUT_DOUBT_NONE;
}
