/* auto_inside.h : the inside of taut__auto, shared by auto.c (hooks, steps) and what that calls. */
#ifndef TAUT_AUTO_INSIDE_H
#define TAUT_AUTO_INSIDE_H

#include "../../scheduler/guard.h"
#include "../../scheduler/refine.h"
#include "../../scheduler/step_time.h"
#include "../../scheduler/verdict.h"
#include "auto.h"
#include "observe.h"

/* ---- auto_link.c ---- times exchanges of a few bytes and of many over all ranks. Collective; same line on all ranks. */
taut_status taut__link_probe(taut__planning *planning, taut__refine *r);

/* ---- auto_probe.c ---- before a step's exchange, with all ranks: the link at first; codecs, which take longer, as soon as something is decided by
 * what they take. Whether they are is agreed. */
taut_status taut__probe(taut__auto *a);
/* Again, before a plan: the first time may have been an unusual moment. Codec work since the last plan says that it was less; not that it was more, since inside
 * a collective codecs share the processor with the messages, which are priced too. Where there was none, as at the start, if there
 * is time for it. */
void taut__probe_again(taut__auto *a);

typedef struct taut__layer_plan { /* one layer */
    taut__planned *layer;
    bool           out;     /* excluded after registration */
    taut_norm2     own;     /* sum over ranks of |x|^2, fading mean over steps; < 0: none yet */
    taut_norm2     ratio;   /* |sum|^2 over that, likewise */
    double         weight;  /* of its squared errors, in this step */
    bool           scaled;  /* they count in units of the layer's scale */
    double         planned; /* squared error of its option, in the metric, as of the last plan */
    double made; /* squared error of the sum over own, in the metric, under the codec in force; < 0: not measured yet */
    double expects; /* that error as a share of |x|^2, at an error scale of 1 */
    double carried; /* share of |x|^2 that the step before left over, in the metric, fading; 0: none, or no feedback */
    double left;    /* by the last step: squared, in the metric, if feedback brings it back */
    taut__reference reference; /* like: */
    double error_scale, began; /* what the error that it is asked for is multiplied by; in a new plan, beside caution */
    bool   few;                /* values, so that it errs by less than planned or, with another step, by as much */
    uint32_t sets;             /* bits: of which sets it is */
} taut__layer_plan;

enum { TAUT_SETS = 4 };
typedef struct taut__sets {                   /* auto_sets.c: the sets of layers that steps have summed lately */
    uint64_t shape[TAUT_SETS], at[TAUT_SETS]; /* a number for it, 0: none; one more than the step that had it */
    double   last[TAUT_SETS];                 /* the guard's, of that step */
    uint32_t now;                             /* of this step */
} taut__sets;

typedef struct taut__arms { /* arms.c: plans of several kinds, and which of them, if any, is the fastest */
    taut__verdict     verdict;
    taut__arm_offer   offer[TAUT_ARMS];
    uint32_t         *option[TAUT_ARMS];      /* per layer: of the last offers */
    double            error_scale[TAUT_ARMS]; /* of its options, in its last step (kept: at the plan); 0: it had none */
    taut__collective *collective;             /* per layer: scratch */
    bool              there;                  /* plans were made, of the offers that there are */
    int               kept; /* the arm in force, if its options are its codecs as they were tuned; 0: none */
    int               now;  /* the arm of the step under way; -1: none of them, as before the first plan */
    int      before;        /* of the step before it, whose seconds the next exchange carries; -1: they tell nothing */
    uint64_t shape;         /* of that step */
    double   seconds;       /* of that step, by this rank's clock */
    double   codec_s, priced_s; /* of codec work on this rank since the last plan, as it was and as it was priced */
    uint32_t codec_steps;
    bool     beside;                   /* codecs worked while the program computed */
    double   exposed_mark, delay_mark; /* at the last step's end: waited; taut__run_delay_s(), 0: not looked at */
} taut__arms;

typedef enum taut__odd { TAUT_ODD_NOT, TAUT_ODD_FELL, TAUT_ODD_ROSE } taut__odd;

struct taut__auto {
    taut__planning       *planning;
    const taut__settings *set;
    int                   ranks, members; /* all; those who encode */
    taut__budget          budget;
    taut__metric          metric;
    taut__objective       objective;
    const char           *solver;
    taut_spec             none, reference, starter; /* reference: of a like: budget; starter: until the first plan */
    uint32_t              replan_steps, start_step;
    size_t                slice_bytes;
    taut__line assumed; /* the link, where it is not to be measured: then nothing that a clock says decides anything */

    taut__observer   *observer;
    taut__refine      link;
    double            crowd; /* how many times slower codecs are than alone on the machine; agreed at plans */
    taut__layer_plan *layer_plans;
    taut__watch      *watch;   /* per layer */
    double           *scratch; /* per layer */
    taut__aggregate  *aggregate;
    taut__span       *span;
    size_t            layers, room;
    taut__offers     *offers; /* of the last plan; NULL before */

    taut__guard guard;
    double      norm2;       /* of this step's sums, in the metric, all layers */
    double      all_norms;   /* that, over the part of the layers that are planned for; < 0: not known */
    taut__bench bench;       /* of the reference */
    taut__odd   odd;         /* does the reference make other errors in this step than in those before it? */
    double      odd_budget2; /* these, squared, in the metric */
    taut__sets  sets;
    taut__arms  arms;
    double      norm2_then; /* squared norm of the inputs when the plan was made */
    uint64_t    step;       /* under way, counted from creation */
    uint64_t    plan_at;    /* the step at whose end the next plan is made */
    uint64_t    planned_at, plans, hash;
    size_t      sketch_turn;                /* the layer whose low rank is looked at next, */
    double      sketch_bytes;               /* as soon as these suffice */
    bool        stale;                      /* gradients have changed since the plan was made */
    bool        linked, priced;             /* the link has been probed, or taken as given; what codecs take, too */
    uint64_t    priced_at;                  /* in which step */
    bool        can;                        /* measuring is within its share of the time, agreed */
    bool        check_hash;                 /* a plan was adopted at the end of the last step */
    bool        loaded;                     /* a checkpoint was, since then: layers are yet to be given their scales */
    double      created_s, busy_s, probe_s; /* when; seconds spent on measuring and planning; on probes at the start */
};

static inline bool taut__auto_clockless(const taut__auto *a) { return a->assumed.beta > 0; }

/* auto_force.c */
void         taut__auto_plan_early(taut__auto *a, const char *why);
void         taut__auto_changed(taut__auto *a, const char *how); /* gradients are others than the plan was made for */
double       taut__auto_own2(const taut__auto *a);               /* squared norm of recent inputs, all layers */
taut__demand taut__auto_demand(const taut__auto *a);
bool         taut__auto_keep(const taut__auto *a, const taut__demand *demand,
                             const uint32_t *option); /* the options in force, rather than these? */
taut_status  taut__auto_adopt(taut__auto *a, size_t l, const char *spec);
/* Layer l goes to the cheapest option whose error is `factor` times its present one's at most. */
taut_status taut__auto_safer(taut__auto *a, size_t l, double factor);
/* Codecs of these options, one per layer, and what the guard allows them. NEW: a plan; KEPT: the codecs in force stay, and are tuned
 * as they are; SWITCHED: to another arm of the same plans. */
typedef enum taut__change { TAUT_PLAN_NEW, TAUT_PLAN_KEPT, TAUT_PLAN_SWITCHED } taut__change;
taut_status taut__auto_put_in_force(taut__auto *a, const uint32_t *option, taut__change change);
void        taut__auto_error_scales(taut__auto *a);
void        taut__auto_rehash(taut__auto *a);

/* auto_plan.c */
taut_status taut__auto_plan(taut__auto *a, const double *sums);
/* Before the first plan: layers that gain by it go to the starter, which is the reference of a like: budget, or safe. With bytes as the objective
 * a layer begins with it when it is registered, since no clock has to be asked whether it pays. */
void taut__auto_begin(taut__auto *a, size_t l);
/* Does this step end with a start? */
bool        taut__auto_starts(const taut__auto *a);
taut_status taut__auto_start(taut__auto *a);

/* auto_guard.c */
size_t taut__auto_reference_put(taut__auto *a, double *v);      /* this rank's part of the exchange; v NULL: how many */
void   taut__auto_note(taut__auto *a, const double *reference); /* what the step was, with the sums of those parts */
taut_status taut__auto_guard(taut__auto *a);
bool        taut__auto_norms_changed(const taut__auto *a);

/* auto_sets.c */
void   taut__sets_reset(taut__auto *a);
void   taut__sets_note(taut__auto *a);   /* what this step summed */
void   taut__sets_before(taut__auto *a); /* the guard speaks of these layers; and what it says holds for them alone */
void   taut__sets_after(taut__auto *a);
double taut__sets_strain(const taut__auto *a);        /* how far they are from what was planned */
void   taut__sets_begin(taut__auto *a, double scale); /* a plan: this scale for all that the sets can afford */

/* arms.c */
taut_status taut__arms_room(taut__auto *a, size_t used, size_t room);
void        taut__arms_free(taut__auto *a);
void        taut__arms_reset(taut__auto *a); /* nothing is known: at creation, or with a checkpoint's plan */
taut_status taut__arms_plan(taut__auto *a);  /* from a->offers: plans, and the one to begin with in force */
/* Ends a step. seconds: of the step before, agreed, as all ranks contributed a->arms.seconds. counts: nothing but the layers' own
 * collectives happened in the step that ends. Returns the arm of the next step. */
int         taut__arms_step(taut__auto *a, double seconds, bool counts);
taut_status taut__arms_switch(taut__auto *a, int arm);
/* Layer l went to this option, for the sake of the budget: under the arm in force it stays there. */
void        taut__arms_learn(taut__auto *a, size_t l, uint32_t option);
taut_status taut__arms_visit(taut__visit *v, taut__auto *a); /* arms_state.c */
double      taut__arms_crowd(const taut__auto *a); /* as codec work was since the last plan; 0: too little of it */

/* auto_state.c */
taut_status taut__auto_save(const taut__auto *a, void *dst, size_t cap, size_t *len);
taut_status taut__auto_check(const taut__auto *a, const void *src, size_t len);
taut_status taut__auto_load(taut__auto *a, const void *src, size_t len);

#endif
