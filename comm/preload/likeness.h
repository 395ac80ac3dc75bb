/* likeness.h : do the values of a reduction look like gradients? Pure. A program that nobody changed does not say what it sums;
 * compressing a solver's vectors, parameters that are averaged or somebody's constants would be wrong or pointless. Each rank
 * compares a sample of what it put in with what came out, before anything is compressed; one rank's doubt stops all. */
#ifndef TAUT_LIKENESS_H
#define TAUT_LIKENESS_H

#include "../base/base.h"

enum { TAUT_SAMPLE = 2048, TAUT_LOOKS = 3 }; /* elements of a sample; samples that a judgement needs */

typedef enum taut__doubt { /* the larger, the more it weighs */
                           TAUT_DOUBT_NONE,
                           TAUT_DOUBT_UNSEEN, /* too few samples yet */
                           TAUT_DOUBT_CONSTANT, /* all values of a rank are the same, or all ranks put in the same values and they never change */
                           TAUT_DOUBT_SAME, /* all ranks put in (nearly) the same values: parameters, not gradients */
                           TAUT_DOUBT_BROADCAST, /* what came out is broadcast afterwards: parameters */
                           TAUT_DOUBT_FOREIGN, /* an allgather of other values than those that were scattered before: parameters */
                           TAUT_DOUBT_DISJOINT, /* where one rank has values the others have zeros: parts of a vector being assembled */
                           TAUT_DOUBT_TREND, /* its norm falls or grows steadily by orders of magnitude: an iterative solver */
                           TAUT_DOUBT_SOLVER, /* two scalar sums and more for one large one: dot products of a Krylov method */
                           TAUT_DOUBTS
} taut__doubt;
const char *taut__doubt_text(taut__doubt d);

typedef struct taut__likeness {
    uint32_t looks;
    double   overlap;          /* largest seen: sum |own||rest| / (|own| |rest|) */
    double   apart;            /* largest seen: |own * ranks - sum|^2 / |sum|^2 */
    double   spread;           /* largest seen: (max - min) of own over its largest magnitude */
    double   norm[TAUT_LOOKS]; /* root mean squares of the latest sums, latest first; 0: not known */
    uint64_t broadcasts;       /* results that were broadcast afterwards */
    double   foreign;          /* allgather: largest seen: |own - a * scattered|^2 / |own|^2, a: the best factor */
} taut__likeness;

/* own, sum: the same n elements of this rank's input and of the result over `ranks` ranks. */
void taut__likeness_look(taut__likeness *k, const float *own, const float *sum, size_t n, int ranks);
/* An allgather: this rank's part, and the same elements of what it got from the reduce-scatter before. */
void taut__likeness_gathered(taut__likeness *k, const float *own, const float *scattered, size_t n);
bool taut__is_multiple(const float *own, const float *of, size_t n); /* up to rounding; all zeros: of anything */
/* calls: of the site so far. */
taut__doubt taut__likeness_judge(const taut__likeness *k, uint64_t calls);

float taut__from_half(uint16_t h); /* IEEE binary16 */

/* Element i of a sample of m out of n: spread evenly, each in the middle of its stretch. */
static inline size_t taut__sample_at(size_t n, size_t m, size_t i)
{
    return (size_t)(((double)i + 0.5) * (double)n / (double)m);
}

#endif
