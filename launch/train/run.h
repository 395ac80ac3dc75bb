/* run.h : one training run and what it found. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include "data.h"
#include "options.h"
#include <jansson.h>

typedef struct layer_result {
    char   name[128];
    size_t elements;
    char   codec[96];               /* in force at the end */
    double bits, rel_err2;          /* means over the steps of this run */
    double bytes_sent, bytes_dense; /* all ranks */
} layer_result;

/* Milliseconds per step, means over the steps after the first few. */
typedef struct run_split {
    double data, forward, backward, wait, optimizer, scale;
} run_split;

typedef struct result {
    const char *codec; /* as asked for */
    size_t      params;
    int64_t     first_step, steps; /* first_step > 0 after a resume */
    double      loss_first, loss_train, loss_val, accuracy_val;
    double      step_ms; /* median */
    run_split   split;
    double      comm_ms, exposed_ms, plan_ms; /* means per step */
    double      bytes_sent, bytes_dense, rel_err2, rel_err2_metric, rel_err2_audit;
    double      bytes_probes; /* of bytes_sent: what measuring the link took, once per run */
    double      budget,
        budgeted_err2; /* what was allowed and what was made, metric in force: means over the steps with a budget */
    int64_t       budgeted; /* how many steps those are */
    double        seconds;
    uint64_t      budget_violations, plans, plan_hash;
    bool          diverged;  /* ends far above where it began and where guessing would be */
    bool          identical; /* all ranks ended with the same parameters */
    layer_result *layers;
    size_t        n_layers;
    json_t       *loader; /* what it did (feed.h); NULL without shards */
} result;

/* run_train() : collective. Returns 0, or an exit code after the message was printed; r is then empty. Failures that
 *  leave the other ranks waiting end the whole job (ranks_abort). */
int  run_train(const options *o, const data *d, result *r);
void run_free(result *r);

static inline double run_ratio(const result *r) { return r->bytes_sent > 0 ? r->bytes_dense / r->bytes_sent : 1; }

#endif
