/* preload_options.h : what the environment tells the interposers. Besides, TAUT_* settings of docs/env.md hold for what they
 * compress. Read once, at the first intercepted call. */
#ifndef TAUT_PRELOAD_OPTIONS_H
#define TAUT_PRELOAD_OPTIONS_H

#include "../base/base.h"

enum { TAUT_PICKS = 32 };

typedef struct taut__pick { /* a site's number, or sizes of one call in bytes */
    bool   by_number;
    size_t low, high; /* inclusive */
} taut__pick;

typedef struct taut__preload_options {
    size_t      threshold;          /* bytes: smaller sums stay exact. TAUT_THRESHOLD, default 64K */
    size_t      includes, excludes; /* TAUT_INCLUDE, TAUT_EXCLUDE: as in 3,1M..4M,64K.. */
    taut__pick  include[TAUT_PICKS], exclude[TAUT_PICKS];
    const char *report;  /* TAUT_REPORT: a path for JSON; "-": none at all, not even the table */
    bool        dry_run; /* TAUT_DRYRUN=1 */
    bool        off;     /* TAUT_CODEC=none: nothing is ever compressed */
    int  nonblocking;    /* TAUT_NONBLOCKING: 1 on, 0 off, -1 auto: if the program can make non-blocking reductions */
    bool codec_given;    /* TAUT_CODEC or TAUT_BUDGET are set */
} taut__preload_options;

/* Complains on stderr about values that it cannot read, names them, and takes the default. */
void        taut__preload_options_load(taut__preload_options *o);
bool        taut__preload_picked(const taut__pick *p, size_t n, size_t site, size_t bytes);
taut_status taut__preload_picks(const char *name, const char *text, taut__pick *p, size_t *n);

#endif
