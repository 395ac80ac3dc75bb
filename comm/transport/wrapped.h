/* wrapped.h : a transport around another one. What it does not do itself goes to the inner one. */
#ifndef TAUT_WRAPPED_H
#define TAUT_WRAPPED_H

#include "transport.h"

typedef struct taut__wrapped {
    taut__transport     base;
    taut__transport_ops ops; /* of this one: an operation that the inner one does not offer is not offered */
    taut__transport    *inner;
} taut__wrapped;

static inline taut__transport *taut__inner(const taut__transport *t) { return ((const taut__wrapped *)t)->inner; }

/* Fills w, of zeros, with ranks, hosts and forwarding operations; the wrapper then puts its own in their place. The inner transport belongs
 * to the wrapper, whose destroy() ends both. */
void taut__wrap(taut__wrapped *w, taut__transport *inner, const char *name);

#endif
