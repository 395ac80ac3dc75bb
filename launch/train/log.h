/* log.h : the run as JSON lines, one object each; member "kind" says what: run, step, eval, plan, layers, end. docs/guide.md lists the
 * members. Only rank 0 writes. All calls do nothing on a NULL log. */
#ifndef TRAIN_LOG_H
#define TRAIN_LOG_H

#include "run.h"
#include <jansson.h>

typedef struct train_log train_log;

/* log_open() : path NULL or a rank other than 0 gives NULL. Returns 0, or an exit code after fault(). append: go on. */
int  log_open(train_log **log, const char *path, bool append);
void log_run(train_log *log, const options *o, const data *d, size_t params);
void log_step(train_log *log, int64_t step, double loss, const run_split *seconds, const taut_comm_stats *c);
void log_eval(train_log *log, int64_t step, double loss, double accuracy);
void log_plan(train_log *log, int64_t step, const taut_comm *comm, uint64_t hash); /* which codec each layer has */
/* Statistics of each layer: at the steps that are asked for, and at others, so that a run has enough of them for a picture of it. */
void log_layers(train_log *log, int64_t step, const taut_comm *comm);
void log_layers_now_and_then(train_log *log, int64_t step, const taut_comm *comm);
void log_end(train_log *log, const result *r, const options *o);
/* Closes. Returns 0, or an exit code after fault() if anything could not be written. */
int log_close(train_log *log, const char *path);

#endif
