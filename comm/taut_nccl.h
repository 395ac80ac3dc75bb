/* taut_nccl.h : what lies on GPUs travels by NCCL, device to device. Needs no header of NCCL's: an ncclComm_t is a struct ncclComm *.
 *
 * A communicator over MPI (taut_mpi.h) or threads carries what ranks say to each other; given NCCL's as well, it carries gradients by that:
 *
 *      taut_comm_create_mpi(MPI_COMM_WORLD, &cfg, &comm);
 *      taut_comm_open_nccl(comm, device);                      // or taut_comm_use_nccl(comm, the_program_s_own);
 *      ...
 *      taut_allreduce_start_on(layer, grad, TAUT_MEAN, TAUT_CUDA, device, stream);   // taut.h
 *
 * libnccl.so.2 is opened when one of these is first called, so programs that never call them run where it is not; TAUT_NCCL_LIBRARY names
 * another file. NCCL 2.14 or newer.
 *
 * From then on buffers of layers that are not small lie on the device: a collective on host memory is TAUT_E_INVALID on all ranks.
 * Layers may be started in any order on any rank, as ever. Work goes on a stream of the communicator; the program's is not held up. With
 * hierarchy=on NCCL adds within hosts, and leaders alone compress (two communicators of NCCL's more, made here); auto means off: NCCL knows which
 * ranks share a host. Results are the bytes that MPI brings, except sums that NCCL makes itself: of `none`, and of the
 * factors of powersgd and randk, in an order of its own, the same on all ranks.
 *
 * Errors: one that NCCL reports, a rank that is lost, or nothing moving for timeout_ms, is an error on all ranks with the layer's name, and
 * NCCL's communicator has been aborted (ncclCommAbort), also where it is the program's own. */
#ifndef TAUT_NCCL_H
#define TAUT_NCCL_H

#include "taut.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ncclComm;

/* taut_comm_use_nccl() : the program's own communicator of NCCL. Collective; between steps; once.
 *  nccl : the same ranks in the same order as comm, on the device where the layers' buffers lie; borrowed until comm is destroyed, and used
 *         by nobody else while collectives are under way.
 *  TAUT_E_UNSUPPORTED: NCCL is not there, or too old (taut_last_error() says which). TAUT_E_MISMATCH: other ranks. TAUT_E_STATE: comm has NCCL
 *  already, or a layer is under way. After an error comm is as it was; all ranks return one. Since 0.1. */
TAUT_API taut_status taut_comm_use_nccl(taut_comm *comm, struct ncclComm *nccl);

/* taut_comm_open_nccl() : makes one, with an id that rank 0 sends to the others, and owns it.
 *  device : number of this rank's CUDA device, 0... Waits at most timeout_ms for the others. As above otherwise. Since 0.1. */
TAUT_API taut_status taut_comm_open_nccl(taut_comm *comm, int device);

/* taut_comm_create_nccl() : a communicator from NCCL's alone, for programs without MPI: what ranks say to each other goes by TCP (taut_tcp.h), whose
 *  addresses they exchange once by NCCL. Collective.
 *  nccl : as for taut_comm_use_nccl.   stream : of the program, on nccl's device, for that exchange, which is waited for; NULL: the default stream.
 *  cfg  : as for every communicator.   TAUT_E_UNSUPPORTED: no NCCL, or no device. TAUT_E_TIMEOUT: a rank has not called it within
 *  cfg's timeout_ms; an operation of nccl then waits for that rank, until ncclCommAbort(); where nccl blocks, it has been aborted, as
 *  taut_last_error() says. Else what taut_comm_create_tcp() answers. Since 0.1. */
TAUT_API taut_status taut_comm_create_nccl(struct ncclComm *nccl, struct CUstream_st *stream, const taut_config *cfg,
                                           taut_comm **comm);

/* ---- Graphs ---- A step whose layers travel by NCCL can be captured into a CUDA graph and replayed:
 *
 *      the first step as ever; then taut_graph_prepare(layer) for every layer, on all ranks
 *      cudaStreamBeginCapture(stream, ...);
 *      ... taut_allreduce_start_on(layer, grad, TAUT_MEAN, TAUT_CUDA, device, stream);       // enqueued on `stream` itself, in the same order on all ranks
 *      cudaStreamEndCapture(stream, &graph);
 *      every step: cudaGraphLaunch(exec, stream); taut_graph_launched(layer, stream) per layer; taut_step_end(comm);
 *
 * In stream order behind the launch the result is there, where payloads have a known length (fp16, bf16, quant); of others (grid, topk) where no payload was
 * longer than its slot, and nothing held a NaN: else the rest is done outside the graph, and the result is there after taut_wait() or
 * taut_step_end(), so what reads it belongs behind those. Replays are counted, error feedback goes on, and an error on any rank is told as ever; the
 * error on the aggregate is not sampled. While graphs may be launched the communicator, the buffers and the layers stay; a new codec, scale or state
 * is TAUT_E_STATE.
 *
 * NCCL wants all ranks to make their operations in the same order, and a graph's are made by its launch. So when one is launched, other layers that are not
 * small are not under way (TAUT_E_STATE from taut_graph_launched(), where they were started outside of graphs); and of a graph whose payloads have no
 * known length the layers are waited for before another graph is launched. Drop graphs (cudaGraphExecDestroy, and the cudaGraph_t) before the
 * communicator: NCCL does not end one while graphs hold operations of it. taut_comm_destroy() waits five seconds for that, a failure one, then it
 * goes on without; a thread of ours waits for the graphs. */

/* taut_graph_prepare() : memory for a layer's part of graphs, outside its captures, after its first collective on the device. Collective; once per layer.
 *  TAUT_E_UNSUPPORTED, with what to do: not by NCCL; codec=auto; small layers; codecs that draw random numbers (use round=nearest), are linear or keep
 *  a state; sharded layers, hierarchies, momentum, dropped=restore. Since 0.1. */
TAUT_API taut_status taut_graph_prepare(taut_layer *layer);

/* taut_graph_launched() : a graph that holds the layer's collective has been launched on stream. The layer is then started, as by
 *  taut_allreduce_start_on(). TAUT_E_STATE: it is in no graph, or under way; or another layer is, outside of graphs. Since 0.1. */
TAUT_API taut_status taut_graph_launched(taut_layer *layer, struct CUstream_st *stream);

/* taut_nccl_version() : of the NCCL that would be used, as NCCL has it (22809 is 2.28.9); 0: none, and taut_last_error() says why. */
TAUT_API int taut_nccl_version(void);

#ifdef __cplusplus
}
#endif
#endif
