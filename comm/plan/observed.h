/* observed.h : the inside of an observer, shared by observe.c, which fills it, and offers.c, which reads it. */
#ifndef TAUT_OBSERVED_H
#define TAUT_OBSERVED_H

#include "../../compressors/powersgd/lowrank.h"
#include "observe.h"

enum {
    ABOUT = 8192,            /* elements sampled per look: 16 buckets of quant, 128 blocks of grid */
    BLOCK = 1024,            /* of consecutive elements */
    SPECS = 24,              /* candidates of a layer, the reference included */
    RUNGS = 7,               /* grid steps offered per layer, two per octave */
    RANKS = 8,               /* largest rank whose error is estimated */
    LOWRANK_ELEMS = 1 << 18, /* above: every k-th row */
};
/* a layer's vector: looks, own squared norms, shares of the norm in singular vectors, {plain, weighted, bytes} per spec, grid's statistics */
/* old looks count this much per new one: scales, and with them units, change quickly when training starts */
static const double FADE = 0.1;
enum { V_LOOKS, V_PLAIN, V_WEIGHTED, V_LOWRANK_LOOKS, V_LOWRANK, V_SPEC = V_LOWRANK + RANKS };
static inline size_t v_grid(size_t specs) { return V_SPEC + 3 * specs; }
/* ... and bits per element without and with the layer's basis, at relative errors of these */
enum { BASIS_RELS = 3 };
static const double  basis_rel[BASIS_RELS] = {0.05, 0.2, 0.5};
static inline size_t v_basis(size_t specs) { return v_grid(specs) + GRID_STATS; }
static inline size_t v_size(size_t specs) { return v_basis(specs) + 2 * BASIS_RELS; }

typedef struct taut__observed {
    char               name[TAUT_LAYER_NAME];
    const taut_tensor *tensor;
    size_t             specs, at; /* candidates; position in the vector */
    taut_spec         *spec;      /* the reference last, where it suits */
    bool               referenced, armed, careful;
    size_t             start, stride, blocks; /* of the sample: blocks start, start+stride, ... of BLOCK elements */
    size_t             fed;                   /* elements since it was armed */
    float             *x;                     /* the sample */
    size_t             row_stride, rows;      /* of what low rank looks at */
    taut__basis        basis;                 /* of this rank's own, where the reference is of low rank */
    taut__sketch       sketch;                /* of the sum */
    taut__shared       shared;
    struct taut_axes *const *axes; /* see taut__planned.axes */
    float *tile;            /* of the basis: a sample of whole vectors, and room for their coordinates; NULL: none */
    size_t tile_n, tile_at; /* floats of one of the two; which tile */
    bool   tiled;           /* the look has one */
    int    window;          /* of the histograms that are being added */
} taut__observed;

typedef struct taut__speed {
    taut_spec spec;
    char      text[TAUT_SPEC_TEXT];
    double    gaussian; /* see taut__gaussian_share() */
} taut__speed;

struct taut__observer {
    const taut__settings *set;
    int                   ranks;
    bool                  like, own_lowrank; /* the latter: the reference is of low rank */
    taut_spec             reference, starter, grid[2];
    taut__observed       *layer;
    size_t                layers, room, values;
    double               *vector;
    taut__bench           bench;
    float                *scale;  /* of a sample */
    float                *matrix; /* rows of the one layer that is armed for low rank */
    size_t                matrix_elems, matrix_layer;
    float                *sketch;                    /* of that layer, this step; NULL: no memory yet */
    size_t                sketch_room, sketch_layer; /* SIZE_MAX: none in this step; agreed */
    bool                  sketched;                  /* this rank's product is there */
    taut__speed          *speed;
    double          *
        seconds; /* encode, decode per element, for each speed; then the same per call; then of a basis, per element and direction */
    size_t       speeds;
    double       slow; /* times as long as those */
    taut__offers offers;
    double      *stats, *weight; /* of all layers: statistics of one step, weights of their errors */
    double       expected;       /* what errors have in common, all layers, at the step that would spend the budget */
    size_t       option_room;
};

/* Seconds of encode and decode of so many elements, in plan/speeds.c. */
void taut__price_codec(const taut__observer *o, const taut_spec *spec, double elems, taut__measured *m);
/* Share of the squared norm that a spec, of those that are timed, loses of Gaussian values; 0: not known, or its sums are exact. */
double taut__gaussian_share(const taut__observer *o, const taut_spec *spec);

/* Room for the offers of all layers, and for so many options. */
taut_status taut__offers_room(taut__observer *o, size_t options);
/* A layer's basis, in plan/basis_look.c. */
taut_status taut__basis_arm(taut__observed *l, uint64_t turn);
void        taut__basis_feed(taut__observed *l, const float *gradient, size_t first, size_t n);
taut_status taut__basis_measure(taut__observed *l, double *v); /* adds to the layer's vector v */
/* Bits with the basis of l over bits without at this relative error, as of sums v; 1: not known. */
double taut__basis_ratio(const taut__observed *l, const double *v, double rel);

/* Of a change of basis, per element and direction: the least of a few, on x of side x side, which is spoilt. */
taut_status taut__basis_time(float *x, size_t side, int tries, double *seconds);

/* This layer's low rank is looked at in the coming step. */
taut_status taut__observer_arm_lowrank(taut__observer *o, size_t layer);

#endif
