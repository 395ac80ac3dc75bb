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
        [TAUT_DOUBT_BROADCAST] = "is broadcast afterwards, like parameters",
        [TAUT_DOUBT_FOREIGN] = "not what was scattered before: parameters",
        [TAUT_DOUBT_DISJOINT] = "parts of a vector, each from one rank",
        [TAUT_DOUBT_TREND] = "shrinks or grows steadily, like a solver's vector",
        [TAUT_DOUBT_SOLVER] = "comes with dot products, like a solver's vector",
    };
    return (unsigned)d < TAUT_DOUBTS ? text[d] : "?";
}

float taut__from_half(uint16_t h)
{
    float   sign = h & 0x8000 ? -1.0f : 1.0f;
    int32_t exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexpf((float)(1024 + mantissa), exponent - 25) : ldexpf((float)mantissa, -24));
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
    k->norm[0] = sqrt(ss / (double)n);
    k->looks++;
}

static const double FOREIGN = 1e-9; /* a mean divided in float32 differs by 1e-14 */

/* |own - a of|^2 / |own|^2 at the best a. */
static double foreignness(const float *own, const float *of, size_t n)
{
    double xx = 0, xy = 0, yy = 0;
    for (size_t i = 0; i < n; i++)
        xx += (double)own[i] * own[i], xy += (double)own[i] * of[i], yy += (double)of[i] * of[i];
    if (xx == 0 || !isfinite(xx + yy)) return 0;
    return yy > 0 ? fmax(1 - xy / xx * (xy / yy), 0) : 1;
}

bool taut__is_multiple(const float *own, const float *of, size_t n) { return foreignness(own, of, n) <= FOREIGN; }

void taut__likeness_gathered(taut__likeness *k, const float *own, const float *scattered, size_t n)
{
    k->foreign = fmax(k->foreign, foreignness(own, scattered, n));
    k->spread = fmax(k->spread, 1), k->apart = fmax(k->apart, 1),
    k->overlap = fmax(k->overlap, 1); /* those are questions about sums */
    k->looks++;
}

/* Every ratio of neighbours on the same side of 1, and a decade in all. */
static bool steady(const taut__likeness *k)
{
    bool falls = true, grows = true;
    for (int i = 0; i < TAUT_LOOKS; i++)
        if (!(k->norm[i] > 0)) return false;
    for (int i = 1; i < TAUT_LOOKS; i++) {
        falls &= k->norm[i - 1] < 0.7 * k->norm[i];
        grows &= k->norm[i - 1] > k->norm[i] / 0.7;
    }
    double ratio = k->norm[0] / k->norm[TAUT_LOOKS - 1];
    return (falls && ratio < 0.1) || (grows && ratio > 10);
}

/* Measured: gradients of ranks with batches of their own overlap by 0.3 (sparse rows) to 0.7 and differ from their mean by more
 * than 1e-3 of its square; assembled vectors overlap in their borders only; averaged parameters differ by less than 1e-4. */
taut__doubt taut__likeness_judge(const taut__likeness *k, uint64_t calls)
{
    static const double OVERLAP = 0.05, APART = 1e-6, SPREAD = 1e-6;
    if (k->looks < TAUT_LOOKS) return TAUT_DOUBT_UNSEEN;
    if (k->broadcasts > 0 && 4 * k->broadcasts >= calls) return TAUT_DOUBT_BROADCAST;
    if (k->foreign > FOREIGN) return TAUT_DOUBT_FOREIGN;
    if (k->spread < SPREAD) return TAUT_DOUBT_CONSTANT;
    if (k->apart < APART) return TAUT_DOUBT_SAME;
    if (k->overlap < OVERLAP) return TAUT_DOUBT_DISJOINT;
    return steady(k) ? TAUT_DOUBT_TREND : TAUT_DOUBT_NONE;
}
