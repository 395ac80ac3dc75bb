/* nccl.h : a communicator gets a data half. */
#ifndef TAUT_CORE_NCCL_H
#define TAUT_CORE_NCCL_H

#include "../taut_nccl.h"
#include "../transport/nccl_data.h"
#include "communicator.h"

taut_status taut__nccl_found(const taut__nccl **n); /* TAUT_E_UNSUPPORTED: there is none that can be used */
/* Collective. s: what came of making d on this rank, and *d, NULL if it failed; taken over, also on failure. All ranks return TAUT_OK, or none. */
taut_status taut__comm_take_data(taut_comm *comm, taut__data *d, taut_status s);
/* Makes a data half of messages of the communicator's own transport, and takes it; direct: that reads and writes memory of the place. */
taut_status taut__comm_open_messages(taut_comm *comm, bool direct);
/* With hierarchy=on: data halves of each host's ranks and of their leaders, beside `whole`; collective, mine: what came of making `whole`. They are
 * comm->ctx.local.data and .leaders.data until taut__comm_take_data() takes or drops them. The same status need not come to all ranks. */
bool        taut__nccl_wants_hosts(const taut_comm *comm);
taut_status taut__nccl_open_hosts(taut_comm *comm, const taut__nccl *n, taut__data *whole, taut_status mine);
/* A communicator of a group with an id that all of it have: waits at most timeout_ms. */
taut_status taut__nccl_join(const taut_comm *comm, const taut__nccl *n, taut__nccl_id id, const taut__group *g,
                            taut__data **d);
/* As taut_comm_use_nccl, in a space. */
taut_status taut__comm_use_nccl(taut_comm *comm, struct ncclComm *nccl, taut_space space);
/* As taut_comm_create_nccl, for a device of any space; the device's number is NCCL's. */
taut_status taut__comm_create_nccl(struct ncclComm *nccl, taut_place place, const taut_config *cfg, taut_comm **comm);
/* As taut_comm_open_nccl, for a device of any space. */
taut_status taut__comm_open_nccl(taut_comm *comm, taut_place place);
/* data_lines.c: how fast the data half is, given or measured. Sets comm->ctx.lines as TAUT_DATA_LINK says. Collective, of a communicator that has a data half and nothing under way: all ranks return TAUT_OK, or none.
 * place: where its buffers will lie. Measuring moves some megabytes a few times. */
taut_status taut__data_lines_find(taut_comm *comm, taut_place place);

#endif
