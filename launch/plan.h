/* plan.h : what the files of `taut plan` share. */
#ifndef TAUT_LAUNCH_PLAN_H
#define TAUT_LAUNCH_PLAN_H

#include "../comm/plan/measure.h"
#include "json.h"

/* ---- plan_trace.c: recorded gradients ---- */
enum { TRACE_NDIM = 8 };
typedef struct trace_layer {
    const char *name; /* in trace.json */
    int         ndim;
    size_t      shape[TRACE_NDIM], elems, offset; /* in floats */
} trace_layer;

typedef struct trace {
    json_t      *json;
    size_t       floats, layers, files, steps, ranks; /* ranks: most files of one step */
    trace_layer *layer;
    float      **file; /* floats each */
    size_t      *step; /* of each file: 0 .. steps-1; files whose names differ in rank<N> only are of one step */
    float       *sum;  /* floats: scratch for a step's sum over ranks */
} trace;

/* wanted: NULL, or only files whose name contains it. Messages are printed; returns an exit code. */
int  trace_load(const char *path, const char *wanted, trace *t);
void trace_free(trace *t);

/* ---- plan_facts.c: everything that a decision rests on ---- */
typedef struct plan_facts {
    char   budget[TAUT_SPEC_TEXT + 8], metric[16], families[64]; /* as given; the metric in force */
    char   source[256];                                          /* the trace */
    int    ranks;                                                /* in the trace */
    double budget2, budget_l2; /* squared error allowed; sum over layers of its root, for --norm l2 */
    double norm2;              /* squared norm of the sums over ranks, in the metric: errors are relative to it */
    double fp16_error;         /* squared, of fp16 everywhere; 0 if not measured */
    double reference_bytes;    /* like: what the reference takes for the layers that can be compressed; else 0 */
    taut__observations o;
} plan_facts;

enum { PLAN_RANKS_MAX = 1 << 20 }; /* of the time model */

typedef struct plan_request {
    const char *budget, *metric, *families;
    uint64_t    seed;
    int         ranks; /* of the time model */
} plan_request;

int  facts_measure(const trace *t, const plan_request *r, plan_facts *f);
void facts_free(plan_facts *f);

/* ---- plan_record.c: --record and --replay ---- */
int facts_save(const plan_facts *f, const char *path);
int facts_load(const char *path, plan_facts *f);

/* ---- plan_report.c ---- */
typedef struct plan_settings {
    const char  *solver, *norm, *objective, *link;
    taut__demand demand;
} plan_settings;

void    report_table(const plan_facts *f, const plan_settings *s, const taut__decision *d);
json_t *report_json(const plan_facts *f, const plan_settings *s, const taut__decision *d);
/* Which codec wins for which bandwidth and size, all at the budget. rows: NULL, or a JSON array to fill. */
int report_break_even(const plan_facts *f, const plan_settings *s, double latency_s, json_t *rows);

#endif
