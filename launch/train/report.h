/* report.h : what rank 0 tells people and programs about a run. */
#ifndef TRAIN_REPORT_H
#define TRAIN_REPORT_H

#include "run.h"
#include <jansson.h>

/* One line now and then: on a terminal rewritten in place, else every ten seconds. Zero-initialise. */
typedef struct progress {
    cli_progress line;
    double       start, last;
} progress;
void progress_show(progress *p, const options *o, int64_t step, int64_t first, double loss, const taut_comm_stats *c);
void progress_end(progress *p);

void    report_table(const result *r, const options *o, const data *d, bool layers); /* (per layer, then) the totals */
void    report_compare(const result *a, const result *b);                            /* side by side */
json_t *report_object(const result *r, const options *o);                            /* the fields of --json */

#endif
