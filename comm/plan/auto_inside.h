/* auto_inside.h : the inside of taut__auto, shared by auto.c (hooks, steps), auto_plan.c (plans) and auto_state.c. */
#ifndef TAUT_AUTO_INSIDE_H
#define TAUT_AUTO_INSIDE_H

#include "../../scheduler/guard.h"
#include "../../scheduler/plan_check.h"
#include "auto.h"
#include "auto_link.h"
#include "observe.h"
#include "reference.h"

typedef struct taut__layer_plan { /* one layer */
    taut_layer *layer;
    bool        out;        /* excluded after registration */
    taut_norm2  own;        /* sum over ranks of |x|^2, fading mean over steps; < 0: none yet */
    taut_norm2  ratio;      /* |sum|^2 over that, likewise */
    double      weight;     /* of its squared errors, in this step */
    bool        scaled;     /* they count in units of the layer's scale */
    double      planned;    /* squared error of its option, in the metric, as of the last plan */
    double      made;       /* squared error of the sum over own, in the metric, under the codec in force; < 0: not measured yet */
    taut__reference reference; /* like: */
} taut__layer_plan;

struct taut__auto {
    taut_comm       *comm;
    int              ranks, members; /* all; those who encode */
    taut__budget     budget;
    taut__metric     metric;
    taut__objective  objective;
    const char      *solver;
    taut_spec        none, reference, starter; /* reference: of a like: budget; starter: until the first plan */
    uint32_t         replan_steps, start_step;
    size_t           slice_bytes;

    taut__observer  *observer;
    taut__refine     link;
    taut__layer_plan    *layer_plans;
    taut__watch     *watch;   /* per layer */
    double          *scratch; /* per layer */
    taut__aggregate *aggregate;
    taut__span      *span;
    uint32_t        *option;  /* per layer: of the last offers */
    size_t           layers, room;
    taut__offers    *offers;  /* of the last plan; NULL before */

    taut__guard      guard;
    double           norm2;      /* of this step's sums, in the metric, all layers */
    double           all_norms;  /* that, over the part of the layers that are planned for; < 0: not known */
    taut__bench      bench;      /* of the reference */
    taut__plan_check       plan_check;
    double           predicted, predicted_dense; /* seconds of a step under the plan in force, and without one */
    double           busy_mark, end_mark; /* at the end of the last step: taut__comm_busy_s(), the time */
    uint32_t         trial;      /* steps still to come without the plan, to see what it brings */
    uint64_t         tried;      /* the plan that was tried so last; 0: none */
    bool             lossy;      /* the step under way compresses something */
    uint64_t         adopted_at; /* the step at whose end codecs last changed */
    double           norm2_then; /* squared norm of the inputs when the plan was made */
    uint64_t         step;       /* under way, counted from creation */
    uint64_t         plan_at;    /* the step at whose end the next plan is made */
    uint64_t         planned_at, plans, hash;
    size_t           sketch_turn;  /* the layer whose low rank is looked at next, */
    double           sketch_bytes; /* as soon as these suffice */
    bool             can;        /* measuring is within its share of the time, agreed */
    bool             check_hash; /* a plan was adopted at the end of the last step */
    double           created_s, busy_s, probe_s; /* when; seconds spent on measuring and planning; on probes at the start */
};

/* auto_plan.c */
taut_status taut__auto_plan(taut__auto *a, const double *sums);
/* Layer l goes to the cheapest option whose error is `factor` times its present one's at most. */
taut_status taut__auto_safer(taut__auto *a, size_t l, double factor);
/* All layers uncompressed, and the plan again. */
taut_status taut__auto_pause(taut__auto *a);
taut_status taut__auto_resume(taut__auto *a);
taut_status taut__auto_replan(taut__auto *a); /* from the last plan's offers, since costs are seen differently now */
/* Before the first plan: layers that gain by it go to the starter, which is the reference of a like: budget, or safe. */
taut_status taut__auto_start(taut__auto *a);
void        taut__auto_error_scales(taut__auto *a);
void        taut__auto_rehash(taut__auto *a);

/* auto_guard.c */
double      taut__auto_error(const taut__layer_plan *t, const taut_norm2 *error); /* in the metric; norms too */
double      taut__auto_own2(const taut__auto *a); /* squared norm of recent inputs, all layers */
bool        taut__auto_compressed(const taut__auto *a, size_t l);
size_t      taut__auto_reference_put(taut__auto *a, double *v); /* this rank's part of the exchange; v NULL: how many */
void        taut__auto_note(taut__auto *a, const double *reference); /* what the step was, with the sums of those parts */
taut_status taut__auto_guard(taut__auto *a);
bool        taut__auto_norms_changed(const taut__auto *a);

/* auto.c */
void        taut__auto_plan_early(taut__auto *a, const char *why);

/* auto_state.c */
taut_status taut__auto_save(const taut__auto *a, void *dst, size_t cap, size_t *len);
taut_status taut__auto_load(taut__auto *a, const void *src, size_t len);

#endif
