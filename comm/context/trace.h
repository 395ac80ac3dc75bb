/* trace.h : what happened when, in a file of Chrome's trace events (TAUT_TRACE). NULL trace = off, every call returns at once. */
#ifndef TAUT_TRACE_H
#define TAUT_TRACE_H

#include "../engine/job.h"

typedef struct taut__trace taut__trace;

/* path: as in TAUT_TRACE; "" or another rank's file: *trace = NULL, TAUT_OK. */
taut_status taut__trace_open(const char *path, int rank, taut__trace **trace);
void        taut__trace_close(taut__trace *trace);
/* A path of the settings with its first "%r" replaced by the rank. False: it is longer than cap - 1. */
bool taut__rank_path(const char *path, int rank, char *dst, size_t cap);
/* One event in job's row; begin, end: of taut__now(). */
void taut__trace_span(taut__trace *trace, taut__job *job, const char *phase, double begin, double end, uint64_t bytes);

#endif
