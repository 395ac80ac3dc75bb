/* run_log.h : the log of a training run (`taut train --log`), read line by line, whole or as it grows.
 *
 * Per step there is a row of numbers, held by column. Counters of a log (bytes, violations) start again where a run was resumed; here they
 * go on. Steps that a resumed run did again replace those of before. */
#ifndef TAUT_RUN_LOG_H
#define TAUT_RUN_LOG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum run_column {
    RUN_STEP,
    RUN_LOSS,
    RUN_TIME_S, /* spent in steps until here */
    RUN_SENT,
    RUN_DENSE, /* bytes of rank 0 until here */
    RUN_STEP_MS,
    RUN_STEP_SENT,
    RUN_STEP_DENSE, /* bytes of rank 0 in this step */
    RUN_ERROR,
    RUN_ERROR_LOW,
    RUN_ERROR_HIGH, /* relative squared error in the budget's metric, and its interval */
    RUN_BUDGET,     /* NaN where none was in force */
    RUN_VIOLATIONS, /* counted in this step */
    RUN_DATA_MS,
    RUN_FORWARD_MS,
    RUN_BACKWARD_MS,
    RUN_WAIT_MS,
    RUN_OPTIMIZER_MS,
    RUN_SCALE_MS, /* one after the other */
    RUN_COMM_MS,  /* during which communication was under way */
    RUN_CODEC_MS, /* encoding and decoding, all threads of rank 0 */
    RUN_COLUMNS
} run_column;

typedef struct run_eval {
    double step, loss, accuracy;
} run_eval;

typedef struct run_layer {
    char   name[128];
    double elements;
} run_layer;

typedef struct run_cell {
    double bits, error;
    int    codec;
} run_cell; /* bits per element of rank 0's encodings; codec: in run_log.codec; -1 = none told */

typedef struct run_look {
    double    step;
    run_cell *cell;
    size_t    layers;
} run_look; /* all layers at a step; the layers known by then */

typedef struct run_plan {
    double step;
    char   hash[24];
} run_plan;

typedef struct run_log {
    char       name[256];           /* of the file */
    json_t    *head, *end;          /* records "run" and "end"; NULL: not seen */
    double    *column[RUN_COLUMNS]; /* NaN where the log has no such number */
    size_t     steps, room;
    run_eval  *eval;
    size_t     evals;
    run_layer *layer;
    size_t     layers;
    run_look  *look;
    size_t     looks;
    run_plan  *plan;
    size_t     plans;
    char     **codec; /* texts */
    size_t     codecs;
    double     last_sent, last_dense, last_violations; /* as the log counts */
    size_t     lines, resumes, repeated;               /* lines read; further records "run"; steps done again */
    bool       cut;                                    /* ends within a line */
    bool       timed;                                  /* has the phases of steps */
    char       error[200];                             /* of the line that could not be read */
} run_log;

/* One line without its newline. False: `error` says what is wrong with it. */
bool run_log_line(run_log *r, const char *line, size_t len);
/* The whole file. Returns an exit code; messages are printed. A last line that is not complete is left out, and `cut` set. */
int  run_log_load(const char *path, run_log *r);
void run_log_free(run_log *r);

/* A number of a record: NaN where it is missing or null. o may be NULL. */
double      run_number(const json_t *o, const char *key);
const char *run_text(const json_t *o, const char *key); /* "" where missing */

/* Mean of a column over steps first..n-1; NaN where there is none. */
double run_mean(const run_log *r, run_column c, size_t first);
/* The first step after the last plan; where fewer than 10 follow, half of all. What is in force is seen from there on. */
size_t run_settled(const run_log *r);

#endif
