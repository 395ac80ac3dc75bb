/* auto.c : see auto.h. */
#include "auto.h"

const taut_auto_hooks *taut__auto_hooks(void) { return NULL; }
