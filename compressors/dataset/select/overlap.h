/* overlap.h : a target that is also in the pool: what is chosen by likeness to it is then the target itself, and what is measured on it
 * later is what was trained on. */
#ifndef TAUT_OVERLAP_H
#define TAUT_OVERLAP_H

#include "select.h"

/* taut__overlap_check() : warns with the number of pool samples that share half of their fingerprints or more with the target. Fingerprints
 * are hashes of 32 bytes, taken where the hash begins with five zeros, so that copies are found wherever they are cut (winnowing in
 * its simplest form, Schleimer et al. 2003, section 2). Samples without one are compared as a whole. Collective. */
taut_status taut__overlap_check(taut__select *s);

#endif
