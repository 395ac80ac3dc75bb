/* stack.h : what codec.c needs to know of a spec with several stages (stack:A+B+C). The codec table sees one stage at
 * a time, so whatever depends on all of them is a function of the spec. taut__spec_caps() (codec.h) lives in stack.c. */
#ifndef TAUT_STACK_H
#define TAUT_STACK_H

#include "../ops.h"

/* Payload bytes of all stages, and room for the intermediate remainder (n floats) when encode gets no err buffer. */
size_t taut__stack_capacity(const taut_spec *spec, const taut_tensor *t, size_t n);
/* As taut__spec_fixed(). */
bool taut__stack_fixed(const taut_spec *spec, const taut_tensor *t, size_t first, size_t n, size_t *bytes);
/* The call of stage i: no calibration, no state, random numbers of its own. */
taut_call taut__stack_call(const taut_call *c, uint32_t i);
/* Least common multiple of the stages' alignments. */
size_t taut__stack_align(const taut_spec *spec);
/* The spec that wrote a payload, as far as its stages describe themselves; for taut_frame_info. */
taut_status taut__stack_describe(const uint8_t *src, size_t len, taut_spec *spec);

#endif
