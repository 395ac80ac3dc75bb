/* captured.h : an exchange of a layer in a graph: all its stages are enqueued once, on a stream that is being captured, in memory of their own, and what
 * every replay leaves is looked at as after an exchange that was enqueued as ever. So errors are told, residuals and accounts are kept, and slots
 * that turn out too short send their tails in a second round, which is no part of the graph. */
#ifndef TAUT_CAPTURED_H
#define TAUT_CAPTURED_H

#include "reduction.h"

typedef struct taut__captured taut__captured;

/* NULL: it can be captured; else why not, and what to do. Of a layer that has been through a collective. */
const char *taut__captured_cannot(const taut__reduction *red);
/* Memory, and how long slots are to be: sizes are this rank's, and then must become the largest of any rank (a width is one of them). */
taut_status taut__captured_create(taut__reduction *red, taut__captured **c, size_t size[2]);
void        taut__captured_agree(taut__captured *c, const size_t size[2]);
void        taut__captured_destroy(taut__reduction *red, taut__captured *c); /* nothing under way; NULL is fine */
/* With the engine held: everything goes on `stream`. After a failure what the graph holds is of no use. */
taut_status taut__captured_enqueue(taut__reduction *red, taut__captured *c, struct CUstream_st *stream, void *buf,
                                   int kind);
void       *taut__captured_buf(const taut__captured *c, int *kind); /* NULL: it has not been captured */
/* A graph has been launched on `stream`: the reduction is as one whose stages are all enqueued, and may be given to the engine. */
taut_status taut__captured_launched(taut__reduction *red, taut__captured *c, struct CUstream_st *stream);

#endif
