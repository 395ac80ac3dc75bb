/* observe.h : what codec=auto has seen of each layer: how much error and how many bytes each candidate would make of the
 * gradients that really go through, feedback residuals included.
 *
 * Element-wise codecs encode blocks sampled from the tensor. grid and top-k read one histogram (grid's statistics), which
 * covers all their settings at once. Low rank takes one subspace iteration per look, started from the last one's basis.
 * Everything ends up in one vector of doubles per rank; vectors add over ranks, and observations made from the sum are the
 * same on every rank. */
#ifndef TAUT_OBSERVE_H
#define TAUT_OBSERVE_H

#include "../base/visit.h"
#include "auto.h"
#include "../../compressors/powersgd/lowrank.h"
#include "measure.h"

/* ---- reference.c ---- what the reference of a like: budget makes of this step's inputs: the sum over ranks of its squared errors on x.
 *
 * In every step that compresses, each rank encodes some whole blocks of its x with the reference, chosen at random (sample.h), and
 * the share of |x|^2 that this loses, of all ranks together and faded over a few steps, times |x|^2 of the step, which is known, is the
 * budget. Where the shares of one step are far below what they were, as when gradients become values that the reference keeps exactly, they
 * count alone, at once (auto_guard.c). Between a plan's looks and the first step under it the share is that of the looks. topk picks from
 * many small blocks as it would from the whole tensor; of low rank whole rows are taken, of which a rank leaves a little less than of all. Those whose
 * share hardly depends on the gradient (randk, grid:rel) are taken at the plan's. */
enum { TAUT_REFERENCE_VALUES = 4 }; /* doubles per layer: errors, plain and in units of the scale; squares, likewise */

typedef struct taut__reference { /* of a layer */
    bool suits, sampled, rows;   /* rows: of low rank, whose looks come in turn, so that what was sampled is newer */
    bool fresh;                  /* in this step; agreed */
    taut_norm2  share;           /* of |x|^2: plain; in units of the scale */
    taut__basis basis;           /* of low rank: of the sampled rows */
} taut__reference;

/* The layer will be sampled. */
taut_status taut__reference_watch(taut__reference *r, const taut_spec *spec, taut__planned *layer);

void taut__reference_fini(taut__reference *r);

/* This rank's values; zeros where the layer was not sampled. seed: of stochastic rounding. */
taut_status taut__reference_measure(const taut__reference *r, const taut_spec *spec, const taut__planned *layer,
                                    taut__bench *bench, uint64_t seed, double v[TAUT_REFERENCE_VALUES]);
/* r with a step's values, summed over ranks; alone: as if no step before it counted. */
taut__reference taut__reference_with(const taut__reference *r, const double v[TAUT_REFERENCE_VALUES], bool alone);

/* The budget of a layer with these norms of x, summed over ranks. scaled: errors count in units of the scale. Where the scale is nearly 0
 * the reference, which does not know it, makes errors without bound in that unit, and would allow as much everywhere: so there its
 * error counts as at most 2.5 times its plain relative error (with Adam, 0.1 of the metric cost as little loss as 0.04 plain). */
double taut__reference_error(const taut__reference *r, const taut_norm2 *own, bool scaled);

/* ---- observe.c ---- */

typedef struct taut__observer taut__observer;

/* set: of the communicator, kept: what its algorithm cannot carry is not offered. reference: the spec of a like: budget, or NULL. starter: of whose work
 * is asked below. ranks: those who encode, and look. */
taut_status taut__observer_create(const taut__settings *set, const taut_spec *reference, const taut_spec *starter,
                                  int ranks, taut__observer **o);
void        taut__observer_destroy(taut__observer *o);

/* tensor is kept, and its scale may change later, and so are axes. careful: 8 bits and more: a reference leaves it uncompressed. */
taut_status taut__observer_add(taut__observer *o, const char *name, const taut_tensor *tensor,
                               struct taut_axes *const *axes, bool careful);
/* All but the first `layers`: what taut__observer_add() has left of one that failed, too. */
void taut__observer_forget(taut__observer *o, size_t layers);

/* Looking at a layer takes three calls: arm it, feed all its elements once, in slices in any order, then measure, which does nothing until
 * all have come. x is
 * the gradient plus the residual, as it is about to be encoded. turn: which blocks. lowrank: keep whole rows too; of one
 * layer at a time. Layers that are not armed ignore what they are fed. */
taut_status taut__observer_arm(taut__observer *o, size_t l, uint64_t turn, bool lowrank);
void        taut__observer_disarm(taut__observer *o, size_t l);
bool        taut__observer_armed(const taut__observer *o, size_t l);
void taut__observer_feed(taut__observer *o, size_t l, const float *x, const float *gradient, size_t first, size_t n);
taut_status taut__observer_measure(taut__observer *o, size_t l);

/* Moves layer l's histogram, in a copy of this rank's vector, to the window of a norm: before vectors of several ranks are added,
 * with a norm on which they agree (its order of magnitude matters; 0: not known yet). Which window that is does not travel: it comes back to the sums
 * by taut__observer_aligned(). */
void taut__observer_align(taut__observer *o, size_t l, double norm2, double *values);
void taut__observer_aligned(const taut__observer *o, size_t l, double *sums);

/* Low rank: what layer l's look takes in the exchange, in doubles; how many are due in this step (agreed); this rank's; and their sums. */
size_t taut__observer_sketch_size(const taut__observer *o, size_t l);
size_t taut__observer_sketch(const taut__observer *o, double *v); /* v NULL: only how many */
void   taut__observer_sketch_take(taut__observer *o, const double *v);

/* This rank's vector, to be summed over ranks into `sum` of as many doubles. */
const double *taut__observer_vector(const taut__observer *o, size_t *n);

/* Speeds of all candidates' codecs on this machine, as a vector that is averaged over ranks. */
taut_status taut__observer_probe(taut__observer *o);
taut_status taut__observer_assume(taut__observer *o); /* instead: what a core did when this was written; no clock */
double     *taut__observer_speeds(taut__observer *o, size_t *n);

/* How many times as long as probed, 1 to 4, a fast codec takes on the largest layer (4 MiB of it) while the other ranks are at it
 * too: they may share its processor or its memory. Called by all ranks at the same moment; takes about so many seconds. */
taut_status taut__observer_crowd(taut__observer *o, double seconds, double *factor);
void        taut__observer_slow_down(taut__observer *o, double factor); /* all are priced so many times as slow */

/* Does the starter suit layer l, and the algorithm? */
bool taut__observer_starter_suits(const taut__observer *o, size_t l);
/* What layer l would take under the starter, at most; false where that does not suit. */
bool taut__observer_starter_work(const taut__observer *o, size_t l, taut__work *w);

/* Everything is relative to the looks, so that a step whose gradients are larger than those of the looks leaves no trace. */
typedef struct taut__aggregate { /* of a layer */
    bool       out;              /* not to be planned for */
    taut_norm2 ratio;            /* |sum over ranks of x|^2 / sum over ranks of |x|^2, of recent steps */
    bool       scaled;           /* errors count in units of the layer's scale */
    double     relative; /* not scaled: squared errors count as this many times elements / |sum|^2; 0: as they are */
    const taut_spec *current; /* in force: always among the options */
    double           tuned;   /* its error is asked for times this */
    /* squared error that it makes of the sum, over sum of |x|^2, in the metric, as measured; < 0: unknown */
    double     made;
    double     carried;   /* share of |x|^2, in the metric, that is what earlier steps left over */
    taut_norm2 reference; /* of a like: budget: what it loses, as taut__observer_reference() has it or newer */
} taut__aggregate;

/* taut__option.kind of what compresses: with an entropy coder; neither that nor one of the fastest codecs; one of these, and whatever small layers take,
 * of which there is too little to make a plan one of another kind. */
enum { TAUT_KIND_ENTROPY = 1, TAUT_KIND_OTHERS = 2, TAUT_KIND_FAST = 4 };

typedef struct taut__offers {
    taut__observations o;
    double             budget2; /* like: squared error of the reference; rel: share of norm2 */
    double             norm2;   /* of the sums, in the metric, all layers that are planned for */
    double             own2;    /* sum over ranks of |x|^2, likewise */
    double            *own;     /* per layer: its part of own2 */
    double            *budget;  /* likewise, of budget2 */
    uint32_t          *current; /* per layer: the option that is in force */
} taut__offers;

/* The layer's samples travelled apart in this step. */
taut_status taut__observer_shared(taut__observer *o, size_t l, const taut__apart *apart);
/* What the reference of a like: budget loses of layer l, as of the looks in sum; zeros where it does not suit. */
taut_norm2 taut__observer_reference(const taut__observer *o, size_t l, const double *sum);

/* Bits of layer l with its basis over bits without, at this relative error, as of the looks in sum; 1: not known. */
double taut__observer_basis(const taut__observer *o, size_t l, const double *sum, double rel);

/* Has layer l so few values, as of the last offers, that errors are only known to be at most so large? Values may lie where they make none. */
bool taut__observer_few_values(const taut__observer *o, size_t l);

/* sum: vectors of all ranks. rel: the budget if not like:, a share of `all` times norm2: layers that are not planned for have norms
 * too. The result belongs to the observer, until the next call. */
taut_status taut__observer_offers(taut__observer *o, const double *sum, const taut__aggregate *aggregate, double rel,
                                  double all, taut__offers **offers);

/* Checkpoints (observe_state.c): looks, and what is to be looked at next; the options of the last offers, and how many they are. What fails is memory,
 * in reading; bytes that are not what they should be are noted in v. */
taut_status   taut__observer_visit(taut__visit *v, taut__observer *o);
taut_status   taut__offers_visit(taut__visit *v, taut__observer *o, size_t *options);
taut__offers *taut__observer_last(taut__observer *o); /* offers, as read */

#endif
