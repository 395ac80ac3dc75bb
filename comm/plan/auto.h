/* auto.h : between the communicator and codec=auto. The communicator calls the hooks, which auto.c defines; what they are told, and what
 * they want, lies in planned.h. All hooks of one communicator are serialised. "Agreed" values are the same bits on all ranks; whatever
 * decides must come from agreed values. */
#ifndef TAUT_AUTO_H
#define TAUT_AUTO_H

#include "planned.h"

typedef struct taut__auto taut__auto; /* auto.c */

/* Doubles, one after the other: `exact` travel as they are, `shorts` rounded to 21 bits, `codes`, which are not negative, to ten from 2^-56 to 2^40 and to five beyond (compressors/sums/step_sums.h). */
typedef struct taut__contribution {
    size_t exact, shorts, codes;
    size_t usual; /* bytes of those that ride in every step */
    bool   rare;  /* there are others */
} taut__contribution;

typedef struct taut__plan_hooks {
    /* planning outlives it. After the settings are known; *self may stay NULL: no other hook is called then. */
    taut_status (*create)(taut__planning *planning, const taut__settings *settings, taut__auto **self);
    void (*destroy)(taut__auto *self);

    /* At the end of a step, before contribute: all ranks are here, so probes may talk to them (create may not: one thread creates the ranks of
     * taut_comm_create_threads one after the other). This, contribute and on_step_end are called from the first step on that ends with a layer to
     * plan for, which ranks have compared by then. */
    taut_status (*meet)(taut__auto *self);

    /* A layer without a spec of its own, not fused, in order of registration. */
    taut_status (*on_register)(taut__auto *self, taut__planned *layer);
    /* taut_layer_codec() gave the layer a spec: plan for it no longer. */
    void (*on_exclude)(taut__auto *self, taut__planned *layer);
    /* The layer that was registered last is released: its registration has failed. */
    void (*on_forget)(taut__auto *self, taut__planned *layer);
    /* Between steps, on all ranks: the layer's scale has come or gone, and with it the unit of its errors. */
    void (*on_rescale)(taut__auto *self, taut__planned *layer);

    /* Does auto want to see this layer's x and the norm of its sum in the coming collective? Agreed, and the same throughout
     * a step. Where it does not, on_input is not called, and a layer that travels uncompressed is not looked at at all. */
    bool (*wants)(const taut__auto *self, const taut__planned *layer);

    /* x[0..n), elements first.. of this layer: gradient plus residual, float32, as it is about to be encoded. Every element
     * once per step, in slices in any order, on the engine's thread; x is only valid during the call. Cheap, please: sample.
     * gradient: the same without the residual, for bases; NULL where that is not at hand (16 bits). On a device it comes in a call
     * of its own, without x. Not called for layers of other specs. */
    void (*on_input)(taut__auto *self, taut__planned *layer, const float *x, const float *gradient, size_t first,
                     size_t n);

    /* Doubles that ride in this step's one exchange: how many (agreed), this rank's values; they come back summed over
     * ranks, agreed, in on_step_end. All collectives of the step are over. v NULL: only the numbers */
    void (*contribute)(taut__auto *self, double *v, taut__contribution *n);
    /* The end of step `step` (from 0). May write what planned.h lets it, and sums. Must not wait for peers. */
    taut_status (*on_step_end)(taut__auto *self, uint64_t step, double *sums, size_t n);

    /* Rows of taut_comm_stats that belong to auto: budget, violations, plans, plan hash, plan seconds. */
    void (*stats)(const taut__auto *self, taut_comm_stats *s);

    /* Checkpoints: two-call save as in taut_state_save. load replaces what there is, by what check has found good; the layers
     * have their saved codecs by then. len 0: nothing was saved, so as at the beginning. What load fails for is memory
     * alone. */
    taut_status (*save)(const taut__auto *self, void *dst, size_t cap, size_t *len);
    taut_status (*check)(const taut__auto *self, const void *src, size_t len);
    taut_status (*load)(taut__auto *self, const void *src, size_t len);
} taut__plan_hooks;

/* auto.c; NULL = this build has no codec=auto, which then means none */
const taut__plan_hooks *taut__auto_hooks(void);

#endif
