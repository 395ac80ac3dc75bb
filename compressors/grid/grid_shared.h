/* grid_shared.h : what the errors of several encoders have in common under codecs that have not been tried.
 *
 * Own errors add up to the error of the sum only where encoders' errors are independent. Codecs that round to nearest, or leave out what is
 * small, err alike wherever encoders see alike. Who holds every encoder's x in some blocks of a tensor can see what any element-wise codec would make
 * of them, with grid's rounding: the factor
 *
 *     |sum_r e_r|^2 / sum_r |e_r|^2          (between 0 and the number of encoders; 1 where errors are independent) */
#ifndef TAUT_GRID_SHARED_H
#define TAUT_GRID_SHARED_H

#include "../codec.h"

/* x of every encoder in a layer's sampled blocks. */
typedef struct taut__apart {
    size_t        blocks, encoders, elems; /* blocks 0: none; elems: of a block; those beyond the tensor's end are 0 */
    const size_t *at;                      /* first element of each block */
    const float  *x;                       /* [encoder][block][element] */
} taut__apart;

enum { TAUT_SHARED_LOOKS = 2 };

typedef struct taut__shared_look {
    size_t  blocks, encoders, elems, room, at_room; /* elems: of a block; room: floats of x, blocks of at */
    size_t *at;
    float  *x; /* [encoder][block][element] */
} taut__shared_look;

typedef struct taut__shared { /* of a layer: the last looks */
    taut__shared_look look[TAUT_SHARED_LOOKS];
    size_t            next;
} taut__shared;

void        taut__shared_fini(taut__shared *s);
taut_status taut__shared_room(taut__shared *s, size_t i, size_t blocks, size_t encoders, size_t elems); /* of look i */
taut_status taut__shared_keep(taut__shared *s, const taut__apart *a); /* copies; the oldest look goes */

typedef struct taut__common { /* sums over the samples: of squares of errors' sums, of squares of errors */
    double together, apart, blocks;
} taut__common;

/* Errors of grid at this step, in units of the tensor's scale, dead zone as given; or of what leaves out everything below a threshold
 * (dead 0). weighted: errors count in units of the scale. */
taut__common taut__shared_errors(const taut__shared *s, const taut_tensor *t, double step, double dead, bool weighted);

/* together / apart, where few blocks tell little drawn towards `expected`; expected where there are none. */
double taut__common_factor(const taut__common *c, double expected);

#endif
