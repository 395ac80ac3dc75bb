/* nccl.h : a communicator gets a data half. */
#ifndef TAUT_CORE_NCCL_H
#define TAUT_CORE_NCCL_H

#include "../transport/nccl_data.h"
#include "communicator.h"

/* Collective. s: what came of making d on this rank, and *d, NULL if it failed; taken over, also on failure. All ranks return TAUT_OK, or none. */
taut_status taut__comm_take_data(taut_comm *comm, taut__data *d, taut_status s);
/* Makes a data half of messages of the communicator's own transport, and takes it; direct: that reads and writes memory of the place. */
taut_status taut__comm_open_messages(taut_comm *comm, bool direct);
/* As taut_comm_open_nccl, for a device of any space. */
taut_status taut__comm_open_nccl(taut_comm *comm, taut_place place);

#endif
