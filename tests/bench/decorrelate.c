/* decorrelate.c : what would rounding offsets that differ by rank save where ranks share a signal? `build/release/tests/bench/decorrelate`
 *
 * grid rounds to nearest with a dead zone, so ranks that see the same make the same error, and the error of the sum of p ranks is up to p times what
 * independent ones would make. Compared at equal error of the aggregate, by the entropy of the codes: grid as it is; thresholds that differ
 * by rank; and a lattice shifted by rank, values included (subtractive dither, of one offset per rank). Laplacian values, of whose
 * variance a share is common to all ranks. Prints bits per element at three relative squared errors. */
#include "comm/base/base.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 40000, RANKS = 8, STEPS = 28, CODES = 4096, SCHEMES = 4, TARGETS = 3 };
static const double      DEAD = 0.65, target[TARGETS] = {0.03, 0.1, 0.3};
static const char *const scheme_name[SCHEMES] = {"as it is", "thresholds +-0.15", "thresholds +-0.3",
                                                 "shifted lattice"};

static double laplace(uint64_t seed, uint64_t i)
{
    double u = (double)(taut__seed(seed, i) >> 11) * 0x1p-53 - 0.5;
    return copysign(-log(1 - 2 * fabs(u) + 1e-15), u) / sqrt(2);
}

/* The code of x, in units of the step, and its value. offset: of this rank, in (-1/2, 1/2). */
static int code(double x, double offset, int scheme, double *value)
{
    static const double swing[] = {0, 0.3, 0.6};
    int                 q;
    if (scheme == 3) {
        q = (int)lrint(x + offset);
        *value = q - offset;
        return q;
    }
    q = (int)(fabs(x) + 1 - DEAD + swing[scheme] * offset);
    *value = x < 0 ? -q : q;
    return (int)*value;
}

static double entropy(const int *count)
{
    double bits = 0;
    for (int i = 0; i < 2 * CODES; i++)
        if (count[i]) bits -= (double)count[i] / N * log2((double)count[i] / N);
    return bits;
}

/* Relative squared error of the sum, and mean bits per element. */
static void run(int ranks, double share, int scheme, double step, double *error, double *bits)
{
    static double sum[N], lost[N];
    static int    count[2 * CODES];
    double        norm2 = 0, error2 = 0;
    memset(sum, 0, sizeof sum), memset(lost, 0, sizeof lost);
    *bits = 0;
    for (int r = 0; r < ranks; r++) {
        memset(count, 0, sizeof count);
        for (size_t i = 0; i < N; i++) {
            double x = sqrt(share) * laplace(99, i) + sqrt(1 - share) * laplace((uint64_t)r, i), y;
            int    q = code(x / step, (r + 0.5) / ranks - 0.5, scheme, &y);
            count[q + CODES]++;
            sum[i] += x;
            lost[i] += y * step - x;
        }
        *bits += entropy(count) / ranks;
    }
    for (size_t i = 0; i < N; i++) norm2 += sum[i] * sum[i], error2 += lost[i] * lost[i];
    *error = error2 / norm2;
}

/* By log error between the two steps around it. */
static double bits_at(const double *error, const double *bits, double at)
{
    for (int i = 1; i < STEPS; i++)
        if (error[i] >= at && error[i - 1] < at) {
            double t = log(at / error[i - 1]) / log(error[i] / error[i - 1]);
            return bits[i - 1] + t * (bits[i] - bits[i - 1]);
        }
    return NAN;
}

int main(void)
{
    static const int    ranks[] = {2, 4, 8};
    static const double share[] = {0, 0.1, 0.5, 1};
    for (size_t p = 0; p < 3; p++)
        for (size_t s = 0; s < 4; s++)
            for (int k = 0; k < SCHEMES; k++) {
                double error[STEPS], bits[STEPS];
                for (int i = 0; i < STEPS; i++) run(ranks[p], share[s], k, 0.2 * exp2(i / 5.0), &error[i], &bits[i]);
                printf("%d ranks, %3.0f%% shared, %-18s", ranks[p], 100 * share[s], scheme_name[k]);
                for (int t = 0; t < TARGETS; t++)
                    printf("  %.3f bits at %.2f", bits_at(error, bits, target[t]), target[t]);
                printf("\n");
            }
    return EXIT_SUCCESS;
}
