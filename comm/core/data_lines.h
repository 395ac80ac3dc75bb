/* data_lines.h : how fast a data half is: given, or measured. */
#ifndef TAUT_DATA_LINES_H
#define TAUT_DATA_LINES_H

#include "communicator.h"

/* Sets comm->ctx.lines as TAUT_DATA_LINK says. Collective, of a communicator that has a data half and nothing under way: all ranks return TAUT_OK, or none.
 * place: where its buffers will lie. Measuring moves some megabytes a few times. */
taut_status taut__data_lines_find(taut_comm *comm, taut_place place);

#endif
