/* bins.h : many steps in few points, and axes. */
#ifndef TAUT_REPORT_BINS_H
#define TAUT_REPORT_BINS_H

#include "run_log.h"

enum { REPORT_BINS = 600 }; /* points of a line: about as many as a chart has pixels */

/* One bin holds `each` steps one after the other (the last one what is left): nothing is drawn from a choice of steps. */
typedef struct bins {
    size_t  n, each, steps;
    double *x, *mean, *low,
        *high;         /* x: mean of the x column; low, high: least and largest; NaN where no step has a number */
    double *from, *to; /* first and last step */
} bins;

int bins_make(const run_log *r, run_column x, run_column y, bins *b); /* exit code */
/* Least of one column and largest of another, for bands that the log gives. */
int  bins_make_band(const run_log *r, run_column x, run_column y, run_column low, run_column high, bins *b);
void bins_free(bins *b);

typedef struct axis {
    double lo, hi;
    bool   log;
    bool   seconds; /* ticks at whole minutes and hours */
} axis;

#define AXIS_EMPTY                                                                                                     \
    {                                                                                                                  \
        .lo = NAN, .hi = NAN                                                                                           \
    }
void axis_grow(
    axis  *a,
    double v); /* NaN and, on a logarithmic axis, what is not positive: left out. An axis begins as AXIS_EMPTY */
void   axis_round(axis *a);                                  /* to something to draw: never empty */
double axis_at(const axis *a, double v);                     /* 0..1, clamped; NaN stays */
size_t axis_ticks(const axis *a, size_t most, double *tick); /* round values inside; most >= 2; room for 2*most */

#endif
