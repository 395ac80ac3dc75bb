/* budget.h : the words of a plan's settings: budget, metric, objective. Codec specs stay opaque here. */
#ifndef TAUT_BUDGET_H
#define TAUT_BUDGET_H

#include "../comm/base/base.h"

enum { TAUT_SPEC_TEXT = 96 }; /* a spec as text, as in taut_layer_stats */

typedef struct taut__budget {
    bool   like;                      /* as much error as this spec makes, everywhere */
    double rel;                       /* !like: squared error relative to the squared norm of the sum */
    char   reference[TAUT_SPEC_TEXT]; /* like: the spec; the caller checks it */
} taut__budget;

/* "rel=X" with 0 < X < 1, or "like:SPEC" */
taut_status taut__budget_parse(const char *text, taut__budget *b);

/* How errors are weighted (docs/planning.md): plain sum of squares; `layer` divides every layer by its mean square;
 * `optimizer` divides every element by its scale squared, and falls back to `layer` where there is no scale. */
typedef enum taut__metric { TAUT_METRIC_PLAIN, TAUT_METRIC_LAYER, TAUT_METRIC_OPTIMIZER } taut__metric;
const char *taut__metric_name(taut__metric m);
taut_status taut__metric_parse(const char *text, taut__metric *m); /* NULL or "": optimizer, which falls back */

/* Weight of a layer's squared errors under `layer`: 1 / mean square of the sum over ranks, per element.
 * sum_norm2: squared norm of the sum over ranks; own_norm2: sum over ranks of their squared norms. A sum that cancels
 * to less than a thousandth of what went in does not raise the weight further. Silent layers weigh 0. */
double taut__layer_weight(size_t elems, double sum_norm2, double own_norm2);

typedef enum taut__objective { TAUT_OBJECTIVE_TIME, TAUT_OBJECTIVE_BYTES } taut__objective;
taut_status taut__objective_parse(const char *text, taut__objective *o); /* NULL or "": time */

#endif
