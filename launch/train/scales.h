/* scales.h : what Adam divides by becomes the unit in which layers' errors count. */
#ifndef TAUT_TRAIN_SCALES_H
#define TAUT_TRAIN_SCALES_H

#include "../../shim/torch.h"
#include "options.h"

typedef struct scales {
    const options          *o;
    taut_torch_optim       *optim;
    size_t                  n; /* parameters = layers */
    const taut_torch_param *param;
    taut_layer *const      *layer;
    float                  *room; /* for one of a row each, or of a layer; NULL = no scales */
} scales;

int  scales_begin(scales *s); /* does this run have any? 0, or an exit code */
void scales_end(scales *s);

enum { SCALES_ODD = -1 };
/* After every step, so that a resumed run has the scale that the interrupted one had; not before the first. 0, an exit code, or SCALES_ODD: *odd is no
 * scale, the run has diverged. All ranks find the same, because Adam saw the same mean gradients everywhere. */
int scales_set(const scales *s, double *odd);

#endif
