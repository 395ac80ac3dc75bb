/* planned.h : what passes between core and the planner: one struct per layer and one per communicator. Core fills in what is known
 * before it calls a hook (auto.h), the planner writes what it wants, and core does it when the hook returns. */
#ifndef TAUT_PLANNED_H
#define TAUT_PLANNED_H

#include "../../compressors/grid/grid_shared.h"
#include "../reduce/reduction.h"

/* Sums over ranks of a layer's record of the step that ends; agreed. */
typedef struct taut__layer_sums {
    taut_norm2 own; /* sum of ||x||^2 */
    /* own and second errors, as the encoders measured them: the sum's squared error if they are independent */
    taut_norm2 own_error;
    taut_norm2 error;              /* squared error of the sum: measured; own_error where it was not */
    taut_norm2 sum;                /* ||sum||^2: measured; the result's where it was not */
    taut_norm2 error_var, sum_var; /* variances of these measurements */
    bool       called;             /* a collective took place */
    bool       measured;           /* in this step, from sampled blocks */
    /* codec=auto only: what it took the rank that began last, the least of all ranks; INFINITY if none */
    double seconds;
} taut__layer_sums;

/* x of this rank in some whole blocks, chosen at random in every step. */
typedef struct taut__wide {
    size_t        blocks, elems; /* blocks 0: none, or another rank encodes */
    const size_t *at;
    const float  *x;
} taut__wide;

typedef struct taut__planned {
    size_t                   index; /* in order of registration */
    const char              *name;
    const taut_tensor       *tensor;      /* shape, and the scale in force */
    struct taut_axes *const *axes;        /* its basis, in the making or made; NULL: none */
    bool                     basis_given; /* the program gives what a basis is made from */
    bool                     careful;     /* small layers in one, or a 1-D one: 8 bits and more */

    /* of the step that ends, on this rank: in contribute and on_step_end */
    const taut__record *record; /* what the last collective cost and lost; zeros before the first */
    bool                called; /* it took place in this step */
    taut__wide          wide;
    /* ... and of all ranks, agreed: in on_step_end */
    taut__layer_sums step;
    taut__apart      apart; /* after a step that was asked for it */
    /* how much its squared errors count, in units of the sum over ranks; with a scale: of weighted ones */
    double weight;

    /* in force; the planner's to change, with agreed values: from the next step on. The residual stays. */
    taut_spec spec;
    bool      adopts; /* spec has been written */
    /* a codec that aims at a relative error aims at so many times that of its spec; 0: leave it as it is */
    double error_scale;
    /* From the next collective on, while the layer loses something: x of so many whole blocks of so many elements; once per layer. */
    size_t wide_blocks, wide_elems;
    /* a basis of so many directions is to be made from results, whether or not the codec is coded in one; 0: only if it is */
    size_t directions;
} taut__planned;

typedef struct taut__planning { /* of a communicator */
    taut__context *ctx;
    int            members;    /* who encodes: ranks, or leaders of hosts */
    double         norm2;      /* squared norm of the step's sums, all layers, in the metric; in on_step_end */
    double         exposed_s;  /* seconds that the program has spent waiting in this library, so far; in on_step_end */
    uint64_t       probe_sent; /* bytes: the planner adds what its probes sent */
    /* in the next step, the samples of x of all automatic layers travel apart, of every encoder by itself; agreed */
    bool apart;
} taut__planning;

static inline taut_status taut__planned_adopt(taut__planned *p, const taut_spec *spec)
{
    p->spec = *spec;
    p->adopts = true;
    p->error_scale = 0;
    return TAUT_OK;
}

/* False where the layer's codec cannot be tuned so. */
static inline bool taut__planned_scale_error(taut__planned *p, double factor)
{
    if (p->spec.stages != 1 || p->spec.stage[0].codec->error_key == 0) return false;
    p->error_scale = p->careful && factor > 1 ? 1 : factor;
    return true;
}

/* What it aims at over what its spec says, behind taut__planned_scale_error(). */
static inline double taut__planned_asks(const taut__planned *p) { return p->error_scale > 0 ? p->error_scale : 1; }

static inline taut_status taut__planned_ask_wide(taut__planned *p, size_t elems, size_t blocks)
{
    p->wide_elems = elems, p->wide_blocks = blocks;
    return TAUT_OK;
}

#endif
