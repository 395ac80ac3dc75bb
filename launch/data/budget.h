/* budget.h : codecs of float fields under one error budget. */
#ifndef TAUT_DATA_BUDGET_H
#define TAUT_DATA_BUDGET_H

#include "../../comm/taut_data.h"

/* "rel=X", 0 < X < 1. Exit codes and messages as in cli.h. */
int budget_parse(const char *text, double *rel);

/* For the float32 fields whose codec is their default: tries candidates on the samples, and lets taut_plan_solve() choose one each: the
 * fewest bytes such that the mean over these fields of |decoded-x|^2/|x|^2 stays at or under rel. */
int budget_spend(taut_writer *w, const taut_field *fields, size_t n, double rel);

#endif
