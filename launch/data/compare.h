/* compare.h : `taut data compare`, shared by its files: compare.c (plans and runs), compare_train.c (one run), compare_report.c. */
#ifndef TAUT_COMPARE_H
#define TAUT_COMPARE_H

#include "../../comm/taut_data.h"
#include "../cli.h"
#include <jansson.h>

enum { COMPARE_METHODS_MAX = 16 };

typedef struct compare_run_result {
    uint64_t seed, read_bytes, rounds; /* rounds: points of the curve */
    double   accuracy, loss, plan_s, train_s, decoded_per_used;
    double  *curve; /* accuracy (or loss) after each round, NULL-terminated by rounds */
} compare_run_result;

typedef struct compare_method {
    const char         *rule;
    const char         *data;                /* shards of its own instead of a choice of these: distilled ones; NULL */
    const char         *plan;                /* a plan that is there already, for all seeds; NULL */
    char                name[96], text[200]; /* as typed; as the plan says it */
    bool                whole;               /* as many rounds over everything */
    uint64_t            samples, different, steps, bytes; /* bytes: of its shards */
    compare_run_result *run;                              /* one per seed */
    double accuracy, accuracy_min, accuracy_max, loss, plan_s, train_s, decoded_per_used, read_bytes; /* means */
} compare_method;

typedef struct compare {
    const char *model, *budget, *schedule, *optimizer, *validation, *figure, *csv, *target, *scores;
    cli_list    method, plan, more, distilled;
    int64_t     rounds, seeds, batch, ranks, eval_samples, teacher_steps;
    double      lr;
    bool        json, whole, soft;
    char      **path;
    int         shards;

    /* what is found */
    compare_method m[COMPARE_METHODS_MAX]; /* the last one is full under the same schedule */
    size_t         methods;
    uint64_t       of, samples, steps, shard_bytes;
    bool           text; /* no accuracy to speak of: loss counts */
    char           folder[64], soft_path[80];
} compare;

int compare_run(compare *c); /* all of it; an exit code */

/* compare_rounds() : as many rounds of a method as its steps take, the last one perhaps in part. */
uint64_t compare_rounds(const compare *c, const compare_method *m);

/* compare_train() : one run of taut train with this plan; fills *r but plan_s. */
int compare_train(const compare *c, const compare_method *m, const char *plan, uint64_t seed, compare_run_result *r);

/* compare_soft() : as many random samples of every class as the budget allows, with soft labels of a teacher, to c->soft_path. */
int compare_soft(const compare *c);

/* compare_report() : table, figure, CSV, JSON. */
int compare_report(compare *c);

#endif
