/* nccl_double.h : the calls of NCCL that are used, for ranks that are threads of this process and buffers of the mock device (mock_space.h). What
 * is given to a stream runs on that stream's thread, late and in order, and waits there for the other ranks, as kernels of NCCL do. It is
 * strict where NCCL would hang or bring wrong bytes: ranks that make their operations in different orders, or of different lengths, get an
 * asynchronous error with words; an operation that is asked for before the last one was taken is an invalid argument; and no communicator ends while graphs
 * hold operations of it. Faults on demand. */
#ifndef TAUT_TEST_NCCL_DOUBLE_H
#define TAUT_TEST_NCCL_DOUBLE_H

#include "comm/transport/nccl_table.h"

typedef enum nccl_fault {
    NCCL_FINE,
    NCCL_NO_ID,     /* the nth unique id that anybody asks for cannot be had */
    NCCL_REFUSES,   /* a call answers an error */
    NCCL_ASYNC,     /* an operation ends in an asynchronous error on that rank, and is never done */
    NCCL_LOST,      /* an operation of that rank never happens, and nobody says so */
    NCCL_TRUNCATES, /* its first bytes arrive damaged */
    NCCL_STOPS,     /* that rank's call never comes back, until somebody aborts: with calls that block, nobody's do */
    NCCL_SPOILS_ONE /* some of its bytes arrive damaged at one rank, the next one; nccl_double_spoils() */
} nccl_fault;

void nccl_double_open(void);  /* taut__nccl_get() answers it from now on */
void nccl_double_close(void); /* communicators that are left are counted by nccl_double_left() */
void nccl_double_fault(nccl_fault what, int rank,
                       int nth);    /* the nth operation (group or collective) of that rank from now on; once */
void nccl_double_spoils(size_t at); /* eight bytes from there on; the last eight of what is shorter */
void nccl_double_delay(int us);     /* each operation waits up to so long, at random */
/* From now on a sum, or anything else, takes so long, and so much more for each KiB that a rank puts in. */
void nccl_double_speed(bool sum, int us, int us_per_kib);
void nccl_double_lazy(int polls); /* calls answer "in progress", and are taken after so many polls; 0: at once */
/* Calls come back when all ranks have made theirs, as NCCL's do that first have to connect; after 20 s without them they fail. */
void nccl_double_blocking(bool on);
void nccl_double_devices(
    bool many);                     /* each rank says that it has a device of its own: the mock's number and its rank */
void nccl_double_version(int code); /* before 22800: no ncclAlltoAll */
int  nccl_double_left(void);
int  nccl_double_operations(void); /* of all ranks, so far */
int  nccl_double_strays(void);     /* calls with a communicator that had been aborted: NCCL's memory is gone then */
const taut__nccl *nccl_double_table(void);

#endif
