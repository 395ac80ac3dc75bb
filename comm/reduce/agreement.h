/* agreement.h : statistics that ranks agree on before an operand is coded. A run: begin, look at all of x, ask, then advance until
 * agreed; AGAIN: look at all of x once more, and ask. */
#ifndef TAUT_AGREEMENT_H
#define TAUT_AGREEMENT_H

#include "../base/bytes.h"
#include "reduction.h"

typedef enum taut__agreed { TAUT_AGREE_WAITING, TAUT_AGREED, TAUT_AGREE_AGAIN } taut__agreed;

bool        taut__agree_wanted(const taut_spec *spec);
taut_status taut__agree_prepare(taut__reduction *red);
void        taut__agree_release(taut__reduction *red);
void        taut__agree_begin(taut__reduction *red);
taut_status taut__agree_look(taut__reduction *red, taut__range r, const float *x); /* x: of r */
bool taut__agree_knows_norms(const taut__reduction *red); /* ... of x, then, and they are in the record after ask */
taut_status taut__agree_ask(taut__reduction *red, bool *calibrated);
taut_status taut__agree_advance(taut__reduction *red, bool *moved, taut__agreed *outcome);
void        taut__agree_save(const taut__reduction *red, taut__writer *w);
taut_status taut__agree_check(const void *src, size_t len);
void taut__agree_load(taut__reduction *red, const void *src, size_t len); /* what check found good; len 0: forget */

/* ---- where the operand lies (agree_there.h) ---- */
struct taut__agree_there **taut__agree_data(const taut__reduction *red); /* NULL: no agreement is wanted */
typedef struct taut__agreed_before {
    bool                    wants_all; /* what this rank has of earlier calls does not do */
    bool                    stands;    /* `earlier` and its calibration are there, as they were left */
    bool                    same_keys; /* `calibrated` is under the stage in force */
    const double           *earlier;   /* TAUT_STATS_MAX */
    const taut_calibration *calibrated;
} taut__agreed_before;
taut__agreed_before taut__agree_before(taut__reduction *red);
typedef struct taut__agreed_now {
    const double           *own; /* this rank's, the first ones at least */
    const double           *all; /* NULL: the earlier ones stay */
    const taut_calibration *calibrated, *calibration;
} taut__agreed_now;
void taut__agree_settle(taut__reduction *red, const taut__agreed_now *now); /* red->calibration is the call's */

#endif
