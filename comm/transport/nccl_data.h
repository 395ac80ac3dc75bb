/* nccl_data.h : the data half over NCCL. */
#ifndef TAUT_NCCL_DATA_H
#define TAUT_NCCL_DATA_H

#include "data.h"
#include "nccl_table.h"

/* Over comm, which must outlive it and be used by nobody else meanwhile. Its ranks and device are those of NCCL. owns: destroy() destroys it
 * too. check: NULL, or the place of a first buffer: TAUT_E_INVALID if NCCL's communicator lies on another device. */
taut_status taut__data_nccl(const taut__nccl *n, taut__nccl_comm comm, bool owns, taut__data **d);
int         taut__data_nccl_device(const taut__data *d); /* its device's number */
/* The program is about to abort comm: it is not asked for anything any more. */
void taut__data_nccl_gone(taut__data *d);
/* comm is the program's, whose calls may wait for other ranks: no longer than that (nccl_minder.h). Once, before it is used. */
taut_status taut__data_nccl_mind(taut__data *d, int32_t timeout_ms);
/* Makes a communicator that does not block: begin; then poll until *ready. id: the same on all ranks, of taut__nccl.unique_id on one. */
taut_status taut__nccl_begin(const taut__nccl *n, int ranks, taut__nccl_id id, int rank, taut__nccl_comm *comm);
taut_status taut__nccl_poll(const taut__nccl *n, taut__nccl_comm comm, bool *ready);

#endif
