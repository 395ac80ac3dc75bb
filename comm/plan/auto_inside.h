/* auto_inside.h : the inside of taut__auto, shared by auto.c (hooks, steps), auto_plan.c (plans) and auto_state.c. */
#ifndef TAUT_AUTO_INSIDE_H
#define TAUT_AUTO_INSIDE_H

#include "../../scheduler/guard.h"
#include "../../scheduler/step_time.h"
#include "../../scheduler/verdict.h"
#include "auto.h"
#include "auto_link.h"
#include "observe.h"

typedef struct taut__layer_plan { /* one layer */
    taut_layer *layer;
    bool        out;        /* excluded after registration */
    bool        audited;    /* armed for the step under way */
    taut_norm2  own, sum;   /* squared norms, fading means over steps */
    double      weight;     /* of its squared errors, as of the last plan */
    bool        scaled;     /* they count in units of the layer's scale */
    double      planned;    /* squared error of its option, in the metric, as of the last plan */
    double      own_then;   /* squared norm of its inputs then, in the metric */
    const taut_codec *suspect; /* made more error than planned ... */
    double      penalty;       /* ... by this factor */
} taut__layer_plan;

typedef struct taut__arms { /* arms.c: plans of several kinds, and which of them, if any, is the fastest */
    taut__verdict     verdict;
    taut__arm_offer   offer[TAUT_ARMS];
    uint32_t         *option[TAUT_ARMS]; /* per layer: of the last offers */
    double            error[TAUT_ARMS];  /* of the plan, in the metric */
    taut__collective *collective;        /* per layer: scratch */
    bool     there;    /* plans were made */
    int      now;      /* the arm of the step under way; -1: none of them, as before the first plan */
    int      before;   /* of the step before it, whose seconds the next exchange carries; -1: they tell nothing */
    uint64_t shape;    /* of that step */
    double   seconds;  /* of that step, by this rank's clock */
} taut__arms;

struct taut__auto {
    taut_comm       *comm;
    int              ranks, members; /* all; those who encode */
    taut__budget     budget;
    taut__metric     metric;
    taut__objective  objective;
    const char      *solver;
    taut_spec        none, reference, starter; /* reference: of a like: budget; starter: until the first plan */
    uint32_t         replan_steps, audit_steps, start_step;
    size_t           slice_bytes;

    taut__observer  *observer;
    taut__refine     link;
    double           crowd; /* how many times slower codecs are while all ranks are at it; agreed at plans */
    taut__layer_plan    *layer_plans;
    taut__watch     *watch;   /* per layer */
    double          *scratch; /* per layer */
    taut__aggregate *aggregate;
    taut__span      *span;
    size_t           layers, room;
    taut__offers    *offers;  /* of the last plan; NULL before */

    taut__guard      guard;
    double           budget_now; /* the budget, relative to this step's sums */
    taut__arms       arms;
    double           own_to_sum; /* like: norm of the sums over that of the inputs, as of the last plan */
    double           norm2_then; /* squared norm of the inputs, in the metric, when the plan was made */
    uint64_t         step;       /* under way, counted from creation */
    uint64_t         plan_at;    /* the step at whose end the next plan is made */
    uint64_t         planned_at, plans, hash, audit_turn;
    bool             can;        /* measuring is within its share of the time, agreed */
    bool             check_hash; /* a plan was adopted at the end of the last step */
    double           audit;      /* relative squared error of the last one; -1 = none */
    double           created_s, busy_s, probe_s; /* when; seconds spent on measuring and planning; on probes at the start */
};

/* auto_plan.c */
taut_status taut__auto_plan(taut__auto *a, const double *sums);
/* Layer l goes to the cheapest option whose error is `factor` times its present one's at most. */
taut_status taut__auto_safer(taut__auto *a, size_t l, double factor);
/* Codecs of these options, one per layer, and what the guard allows them. fresh: a new plan, not one that stood before. */
taut_status taut__auto_put_in_force(taut__auto *a, const uint32_t *option, bool fresh);
taut__demand taut__auto_demand(const taut__auto *a);
bool        taut__auto_keep(const taut__auto *a, const taut__demand *demand, const uint32_t *option); /* the options in force, rather than these? */
/* Before the first plan: layers that gain by it go to the starter, which is the reference of a like: budget, or safe. */
taut_status taut__auto_start(taut__auto *a);
void        taut__auto_error_scales(taut__auto *a);
void        taut__auto_rehash(taut__auto *a);
double      taut__auto_error(const taut__layer_plan *t, const taut_norm2 *error); /* in the metric; norms too */
double      taut__auto_own2(const taut__auto *a); /* squared norm of recent inputs, in the metric, all layers */

/* arms.c */
taut_status taut__arms_room(taut__auto *a, size_t used, size_t room);
void        taut__arms_free(taut__auto *a);
void        taut__arms_reset(taut__auto *a); /* nothing is known: at creation, and when a checkpoint has brought another plan */
taut_status taut__arms_plan(taut__auto *a);  /* from a->offers: plans, and the one to begin with in force */
/* Ends a step. seconds: of the step before, agreed, as all ranks contributed a->arms.seconds. counts: nothing but the layers' own
 * collectives happened in the step that ends. Returns the arm of the next step. */
int         taut__arms_step(taut__auto *a, double seconds, bool counts);
taut_status taut__arms_switch(taut__auto *a, int arm);

/* auto_state.c */
taut_status taut__auto_save(const taut__auto *a, void *dst, size_t cap, size_t *len);
taut_status taut__auto_load(taut__auto *a, const void *src, size_t len);

#endif
