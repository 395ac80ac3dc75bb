/* decide.h : from observations to a plan: one codec per layer.
 *
 * An offer is what one layer may use: options with the squared error each would make, in the metric, summed over
 * ranks, and what it would put on the wire. taut__decide() is a pure function of its arguments, so a recorded set of
 * observations gives the same plan, bit for bit, wherever it is replayed. */
#ifndef TAUT_DECIDE_H
#define TAUT_DECIDE_H

#include "budget.h"
#include "time_model.h"

enum { TAUT_LAYER_NAME = 128 };

typedef struct taut__option {
    char       spec[TAUT_SPEC_TEXT];
    bool       dense; /* uncompressed: what compressing must beat */
    double     error; /* squared, in the metric, summed over ranks */
    taut__work work;  /* bytes and seconds, mean over ranks */
    uint32_t   kind;  /* bits whose meaning is the caller's, for taut__demand.leave_out */
    double     share; /* error over what goes in, in every step: the caller's */
} taut__option;

typedef struct taut__offer {
    char   name[TAUT_LAYER_NAME];
    size_t elems;
    double norm2;    /* squared norm of the sum over ranks, in the metric */
    size_t first, n; /* its options; at least one */
} taut__offer;

typedef struct taut__observations {
    size_t        layers, options;
    taut__offer  *layer;
    taut__option *option;
} taut__observations;

typedef struct taut__demand {
    double          budget; /* squared error allowed, in the unit of the options' errors */
    taut__objective objective;
    const char     *solver; /* "hull", "dp" */
    uint32_t        bins;
    bool            unsquared;
    uint32_t        leave_out; /* options of these kinds are not considered */
    taut__link      link;
    bool            tight; /* time: solve more often for a gap that is nearer to the truth; the plan is the same */
    bool compressing; /* time: the best plan that compresses something, even if none of them pays; none: all dense */
} taut__demand;

typedef struct taut__decision {
    uint32_t *option; /* of each layer, an index into observations.option; caller's memory */
    double    error;  /* of the plan */
    /* no plan within the budget takes less than 1 - gap times this one's seconds (bytes, where they are the objective) */
    double   gap;
    double   bytes, seconds, dense_seconds; /* of one rank's encodings; predicted; predicted if all were dense */
    bool     feasible;                      /* false: the most exact options were taken and still exceed the budget */
    uint64_t hash;
} taut__decision;

/* Layers of a step are under way together, so what counts is max(processor, link) of them all, which is no sum over layers.
 * Sums are what solvers minimise: so plans are made for a range of prices of bytes in the processor's seconds, and with
 * options of low latency only, and of them and of no compression at all the one whose step is predicted to be shortest is taken.
 * Predictions, which are what is printed and what plans are judged by, include a margin for lossy codecs. Of given
 * observations a faster link never makes the predicted seconds longer. */
taut_status taut__decide(const taut__observations *o, const taut__demand *demand, taut__decision *d);

/* Error and cost, in the objective, of given options: of a plan that stands. */
void taut__appraise(const taut__observations *o, const taut__demand *demand, const uint32_t *option, double *error,
                    double *cost);

/* Hash of names and specs; equal plans have equal hashes. chain: 0, or the result so far. */
uint64_t taut__plan_hash(uint64_t chain, const char *name, const char *spec);

#endif
