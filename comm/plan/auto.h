/* auto.h : between the communicator and codec=auto. The communicator calls the hooks; auto.c defines them and calls the
 * services below. All hooks of one communicator are serialised. "Agreed" values are the same bits on all ranks; whatever
 * decides must come from agreed values. */
#ifndef TAUT_AUTO_H
#define TAUT_AUTO_H

#include "../context/settings.h"
#include "../engine/job.h"

typedef struct taut__auto taut__auto; /* auto.c */

typedef struct taut__plan_hooks {
    /* After the settings are known; *self may stay NULL: no other hook is called then. */
    taut_status (*create)(taut_comm *comm, const taut__settings *settings, taut__auto **self);
    void (*destroy)(taut__auto *self);

    /* Once, at the end of the first step, before contribute: all ranks are here, so probes may talk to them (create may
     * not: one thread creates the ranks of taut_comm_create_threads one after the other). */
    taut_status (*open)(taut__auto *self);

    /* A layer without a spec of its own, not fused, in order of registration. */
    taut_status (*on_register)(taut__auto *self, taut_layer *layer);
    /* taut_layer_codec() gave the layer a spec: forget it. */
    void (*on_exclude)(taut__auto *self, taut_layer *layer);

    /* Does auto want to see this layer's x and the norm of its sum in the coming collective? Agreed, and the same throughout
     * a step. Where it does not, on_input is not called, and a layer that travels uncompressed is not looked at at all. */
    bool (*wants)(const taut__auto *self, const taut_layer *layer);

    /* x[0..n), elements first.. of this layer: gradient plus residual, float32, as it is about to be encoded. Every element
     * once per step, in slices in any order, on the engine's thread; x is only valid during the call. Cheap, please: sample.
     * Not called for layers of other specs. */
    void (*on_input)(taut__auto *self, taut_layer *layer, const float *x, size_t first, size_t n);

    /* Doubles that ride in this step's one exchange: how many (agreed), this rank's values; they come back summed over
     * ranks, agreed, in on_step_end. All collectives of the step are over. */
    size_t (*contribute)(taut__auto *self, double *v, size_t room); /* v NULL: only the number */
    /* The end of step `step` (from 0). May call taut__layer_adopt() and taut__sample_apart(). Must not wait for peers. */
    taut_status (*on_step_end)(taut__auto *self, uint64_t step, const double *sums, size_t n);

    /* Rows of taut_comm_stats that belong to auto: budget, violations, plans, plan hash, plan seconds. */
    void (*stats)(const taut__auto *self, taut_comm_stats *s);

    /* Checkpoints: two-call save as in taut_state_save. load replaces what there is, by what check has found good; the layers
     * have their saved codecs by then. len 0: nothing was saved, so as at the beginning. What load fails for is memory alone. */
    taut_status (*save)(const taut__auto *self, void *dst, size_t cap, size_t *len);
    taut_status (*check)(const taut__auto *self, const void *src, size_t len);
    taut_status (*load)(taut__auto *self, const void *src, size_t len);
} taut__plan_hooks;

/* auto.c; NULL = this build has no codec=auto, which then means none */
const taut__plan_hooks *taut__auto_hooks(void);

/* ---- services ---- */
size_t            taut__layer_index(const taut_layer *layer);   /* in order of registration */
const char       *taut__layer_name(const taut_layer *layer);
const taut_tensor *taut__layer_tensor(const taut_layer *layer); /* shape, and the scale in force */
const taut_spec  *taut__layer_spec(const taut_layer *layer);    /* in force */

/* From the next step on this layer uses this spec; the residual stays. In on_step_end, with agreed arguments. */
taut_status taut__layer_adopt(taut_layer *layer, const taut_spec *spec);
/* From the next step on, a codec that aims at a relative error aims at `factor` times that of its spec, which stays; until
 * another spec is adopted. False where the layer's codec cannot be tuned so. Agreed arguments. */
bool taut__layer_set_error_scale(taut_layer *layer, double factor);
/* For checkpoints: the relative error that such a codec aims at in the next step; 0: it aims at none. */
double taut__layer_aim(const taut_layer *layer);
void   taut__layer_aim_at(taut_layer *layer, double rel);

/* What the layer's last collective cost and lost, on this rank; zeros before the first. called: in this step. */
const taut__record *taut__layer_record(const taut_layer *layer, bool *called);

/* Sums over ranks of the layer's record of the step that ends; agreed. Valid in on_step_end. */
typedef struct taut__layer_sums {
    taut_norm2 own;       /* sum of ||x||^2 */
    taut_norm2 own_error; /* own and second errors, as the encoders measured them: the sum's squared error if they are independent */
    taut_norm2 error;     /* squared error of the sum: measured; own_error where it was not */
    taut_norm2 sum;       /* ||sum||^2: measured; the result's where it was not */
    taut_norm2 error_var, sum_var; /* variances of these measurements */
    bool       called;    /* a collective took place */
    bool       measured;  /* in this step, from sampled blocks */
    double     seconds;   /* codec=auto only: what it took the rank that began last, the least of all ranks; INFINITY if none */
} taut__layer_sums;
const taut__layer_sums *taut__layer_step(const taut_layer *layer);

/* In the next step, the samples of x of all automatic layers travel apart, of every encoder by itself; agreed. */
void taut__sample_apart(taut_comm *comm, bool apart);
bool taut__sample_is_apart(const taut_comm *comm);        /* for checkpoints: in the coming step, between steps, */
void taut__sample_apart_at_once(taut_comm *comm, bool apart); /* and set */
/* In on_step_end after such a step: x of every encoder in the layer's sampled blocks. */
typedef struct taut__apart {
    size_t        blocks, encoders, elems; /* elems: of a block; those beyond the tensor's end are 0 */
    const size_t *at;                      /* first element of each block */
    const float  *x;                       /* [encoder][block][element] */
} taut__apart;
taut__apart taut__layer_apart(const taut_layer *layer); /* blocks 0: none */

/* From the next collective on, while the layer loses something: x of some whole blocks of so many elements, chosen at random in every step, of this
 * rank alone. Once per layer. */
taut_status taut__sample_wide(taut_layer *layer, size_t elems, size_t blocks);
typedef struct taut__wide {
    size_t        blocks, elems; /* blocks 0: none, or another rank encodes */
    const size_t *at;
    const float  *x;
} taut__wide;
taut__wide taut__layer_wide(const taut_layer *layer); /* in contribute and on_step_end */

/* How much a layer's squared errors count, in units of the sum over ranks; with a scale: of weighted ones. Agreed, in on_step_end. */
double taut__layer_metric_weight(const taut_layer *layer);
/* Squared norm of the step's sums, all layers, in the metric. */
double taut__comm_norm2(const taut_comm *comm);

/* Sums a few doubles over all ranks, agreed; blocking, in an order that all ranks share. For probes at creation. */
taut_status taut__comm_sum(taut_comm *comm, double *v, size_t n);
const taut__group *taut__comm_group(const taut_comm *comm); /* all ranks; for probes */
int               taut__comm_members(const taut_comm *comm); /* who encodes: ranks, or leaders of hosts */
double            taut__comm_exposed_s(const taut_comm *comm); /* seconds that the program has spent waiting in this library, so far */
double            taut__comm_busy_s(const taut_comm *comm); /* seconds during which a collective was under way, so far */

#endif
