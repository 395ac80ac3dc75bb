/* taut.h : compressed allreduce for distributed training, in C.
 *
 * INTRODUCTION
 *
 *  Taut sums a model's gradients over all ranks and sends far fewer bytes than a plain allreduce. A user states
 *  one number, the error budget; Taut chooses a codec for every layer, meets the budget, measures that it met it,
 *  and leaves a layer uncompressed where compression does not pay. This is all that a training program adds:
 *
 *      taut_config cfg = TAUT_CONFIG_INIT;             // TAUT_CODEC, TAUT_BUDGET ... in the environment win
 *      taut_comm  *comm;
 *      taut_layer *fc1;
 *      taut_comm_create_mpi(MPI_COMM_WORLD, &cfg, &comm);                              // taut_mpi.h
 *      taut_layer_register(comm, "fc1.weight", TAUT_F32, 2, (size_t[]){1024, 784}, &fc1);
 *      for (;;) {
 *          ...                                         // backward
 *          taut_allreduce_start(fc1, grad_fc1, TAUT_MEAN);    // in place, as soon as the gradient is there
 *          ...
 *          taut_step_end(comm);                        // waits for all layers; re-plans when it is time
 *          ...                                         // optimizer step: grad_fc1 now holds the mean
 *      }
 *      taut_comm_destroy(comm);
 *
 *  Conventions. Every call returns a taut_status: 0 is success, negatives are errors, and taut_last_error() then
 *  names the bad value and the allowed ones. _create/_destroy allocate and release; destroy(NULL) is fine.
 *  Out-parameters are NULL or 0 after a failure. Strings are UTF-8, NUL-terminated, and copied by the callee.
 *  A collective call must be made by every rank; layers are matched by name, never by call order.
 *  Unless said otherwise a taut_comm and its layers are used by one thread at a time; different communicators are
 *  independent. A forked child may not use its parent's communicators (TAUT_E_STATE); destroying them there does
 *  nothing. Nothing is printed to stdout and nothing exits or aborts.
 *
 * CONTENTS: version, status, types, communicator, layers, collectives, step, statistics, state, standalone codecs,
 *  planning, introspection.
 */
#ifndef TAUT_H
#define TAUT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TAUT_API __attribute__((visibility("default")))
#else
#define TAUT_API
#endif

/* ---- Version -------------------------------------------------------------------------------------------------
 * Three numbers that move apart: the library (API), the soname (ABI) and the bytes on the wire. Ranks of one job
 * may run different library versions as long as their wire versions agree. */
#define TAUT_VERSION_MAJOR 0
#define TAUT_VERSION_MINOR 1
#define TAUT_VERSION_PATCH 0
#define TAUT_VERSION       (TAUT_VERSION_MAJOR * 10000 + TAUT_VERSION_MINOR * 100 + TAUT_VERSION_PATCH)
#define TAUT_WIRE_VERSION  1

TAUT_API int taut_version(void);      /* TAUT_VERSION of the library that is running */
TAUT_API int taut_wire_version(void); /* TAUT_WIRE_VERSION of the library that is running */

/* ---- Status --------------------------------------------------------------------------------------------------
 * One list makes the enum, the names and the messages. Values are never reused. docs/errors.md says what is still
 * usable after each. After TAUT_E_PEER, TAUT_E_TIMEOUT and TAUT_E_TRANSPORT a communicator can only be destroyed. */
#define TAUT_STATUS_MAP(X)                                                                                             \
    X(TAUT_OK, 0, "success")                                                                                           \
    X(TAUT_E_INVALID, -10, "invalid argument")                                                                         \
    X(TAUT_E_RANGE, -11, "value out of range")                                                                         \
    X(TAUT_E_UNSUPPORTED, -12, "not supported")                                                                        \
    X(TAUT_E_STATE, -13, "call out of order")                                                                          \
    X(TAUT_E_CAPACITY, -14, "buffer too small")                                                                        \
    X(TAUT_E_NOMEM, -15, "out of memory")                                                                              \
    X(TAUT_E_IO, -16, "file could not be read or written")                                                             \
    X(TAUT_E_CORRUPT, -20, "malformed bytes")                                                                          \
    X(TAUT_E_VERSION, -21, "written by an incompatible version")                                                       \
    X(TAUT_E_PEER, -30, "a peer failed")                                                                               \
    X(TAUT_E_TIMEOUT, -31, "timed out waiting for a peer")                                                             \
    X(TAUT_E_MISMATCH, -32, "ranks disagree")                                                                          \
    X(TAUT_E_TRANSPORT, -33, "the transport failed")                                                                   \
    X(TAUT_E_INFEASIBLE, -40, "no plan meets the budget")                                                              \
    X(TAUT_E_TORCH, -50, "libtorch raised an exception")                                                               \
    X(TAUT_E_DEVICE, -60, "the GPU or its driver failed")

#define TAUT_ENUM_ITEM(name, value, text) name = value,
typedef enum taut_status { TAUT_STATUS_MAP(TAUT_ENUM_ITEM) TAUT_STATUS_END_ = 1 } taut_status;
#undef TAUT_ENUM_ITEM

TAUT_API const char *taut_status_name(taut_status s); /* "TAUT_E_RANGE"; "TAUT_E_?" for an unknown value */
TAUT_API const char *taut_status_text(taut_status s); /* "value out of range" */

/* taut_last_error() : what went wrong in the last failed call of this thread, with the bad value and the allowed
 *  range; "" before the first failure. Valid until this thread's next failing call. */
TAUT_API const char *taut_last_error(void);

/* ---- Types --------------------------------------------------------------------------------------------------- */
typedef enum taut_dtype { TAUT_F32 = 0, TAUT_F16 = 1, TAUT_BF16 = 2 } taut_dtype;
typedef enum taut_op { TAUT_SUM = 0, TAUT_MEAN = 1 } taut_op;
typedef enum taut_space { TAUT_HOST = 0, TAUT_CUDA = 1 } taut_space; /* where a buffer lives */

typedef struct taut_comm  taut_comm;  /* one per group of ranks; owns its layers */
typedef struct taut_layer taut_layer; /* one per tensor; owned by its communicator */
struct CUstream_st;                   /* a cudaStream_t is a pointer to this */

/* taut_config : settings of a communicator. Zero or NULL means the default. The library copies min(size, known)
 *  bytes, so a program built against an older header keeps working. Every field has an environment variable
 *  TAUT_<FIELD>, which wins over the program (docs/env.md). All but trace, timeout_ms, threads and progress must be the
 *  same on all ranks: TAUT_E_MISMATCH otherwise names the setting, two ranks and their values, over MPI on all ranks when
 *  the communicator is created. */
typedef struct taut_config {
    size_t      size;      /* set by TAUT_CONFIG_INIT */
    const char *codec;     /* codec spec of all layers, as in "quant:bits=4"; default "auto" (docs/algorithms.md) */
    const char *budget;    /* error budget of codec=auto: "rel=X" with 0 < X < 1, or "like:SPEC";
                              default "like:quant:bits=4" */
    const char *objective; /* what the plan minimises: "time" (default) or "bytes" */
    const char *metric;    /* how errors are weighted: "plain", "layer" or "optimizer"; default: optimizer for layers
                              that have a scale (taut_layer_scale), else layer */
    const char *feedback;  /* error feedback: "auto" (default, per codec), "on", "off", "momentum" (DGC) */
    const char *algorithm; /* "auto" (default), "native", "sra", "ring", "gather" (docs/algorithms.md) */
    const char *hierarchy; /* "auto" (default), "on", "off": reduce inside a host first */
    const char *solver;    /* "hull" (default) or "dp" */
    const char *trace;     /* path of a Chrome/Perfetto trace, "%r" becomes the rank; default none */
    uint64_t    seed;      /* of stochastic rounding and random selection; same on all ranks; default 1 */
    /* longest wait for a peer; default 60000; -1 = for ever. docs/errors.md: inside MPI_Allreduce */
    int32_t  timeout_ms;
    int32_t  threads;    /* codec threads per rank; default 1 */
    int32_t  progress;   /* 0 = automatic, 1 = communication thread, 2 = driven from start/test/wait */
    uint32_t slice_kib;  /* pipelining unit of float32, KiB, 64..65536; default 1024 */
    uint32_t bucket_kib; /* fusion bucket of small layers, KiB, 64..262144; default 4096 */
    uint32_t
             small_elems; /* layers of fewer elements, and 1-D ones, travel fused: uncompressed, or by a plan in 8 bits and more; default 1024 */
    uint32_t replan_steps; /* steps between plans of codec=auto; default 50 */
    uint32_t audit_steps;  /* ignored: every step is measured */
    /* uncompressed steps before codec=auto may compress; default 0: none with objective "bytes", else 1 (it measures them) */
    uint32_t    start_step;
    float       momentum; /* of feedback=momentum, [0,1); default 0.9 */
    const char *dropped;  /* feedback residuals of a step that is dropped (taut_step_drop): "clear" (default) empties
                              them; "restore" puts back what they were before it, for one more float per parameter */
    const char *link; /* what codec=auto plans for: "measure" (default), or a bandwidth as in "1gbit", "100mbit". Then
                              no clock decides anything: communicators that reduce the same data (replicas of a
                              tensor-parallel mesh) make the same plans at the same steps, two runs have the same bits,
                              and so has a resumed one. With "measure" none of that is promised */
    /* "on" (default): a frame has a checksum, and bytes that were damaged on the way are TAUT_E_CORRUPT;
     * "off": it has none, for networks that check by themselves. Frames of both kinds are read */
    const char *checksum;
    /* "plain" (default): messages go as the transport takes them. "assured": all of them, frames or not, are
     * numbered, checked and acknowledged; one that is lost, damaged, doubled or overtaken is asked for again once, and
     * is TAUT_E_CORRUPT when it was damaged twice. Costs copies, acknowledgements and MPI's native sums (docs/launch.md) */
    const char *delivery;
} taut_config;
#define TAUT_CONFIG_INIT                                                                                               \
    {                                                                                                                  \
        sizeof(taut_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                    \
    }

/* ---- Communicator --------------------------------------------------------------------------------------------
 * taut_comm_create_mpi() is in taut_mpi.h; taut_nccl.h has what lets layers on GPUs travel by NCCL. */

/* taut_comm_create_threads() : a group of ranks inside this process, one thread each; for tests and for programs
 *  whose workers are threads. comms: array of `ranks` pointers, filled; comms[r] is used by the thread of rank r.
 *  ranks: 1..1024. Each element is destroyed on its own; the last one releases what they share. */
TAUT_API taut_status taut_comm_create_threads(int ranks, const taut_config *cfg, taut_comm **comms);

/* taut_comm_destroy() : releases the communicator and its layers. Not collective: it waits for no peer, so it is called when
 *  nothing is under way. What still is, is given up: its buffers are the program's again, with undefined contents. Ranks that
 *  wait for this one, or go on to, fail at once with TAUT_E_PEER, naming the rank and the layer. */
TAUT_API void taut_comm_destroy(taut_comm *comm);
TAUT_API int  taut_comm_rank(const taut_comm *comm);
TAUT_API int  taut_comm_size(const taut_comm *comm);

/* ---- Layers --------------------------------------------------------------------------------------------------- */

/* taut_layer_register() : announce a tensor, once, before its first collective. Every rank registers the same
 *  layers in the same order, with the same name, dtype and shape; the first step checks that and answers
 *  TAUT_E_MISMATCH, naming the layer and the ranks, on all ranks. A layer whose shape the communicator's codec does not
 *  suit travels uncompressed, with a line in the log; only taut_layer_codec() insists.
 *  name : unique in the communicator, not beginning with "taut: ".   ndim : 0..8.   shape : ndim extents; product at least 1.
 *  Layers may be registered after the first step; the next step checks them. */
TAUT_API taut_status taut_layer_register(taut_comm *comm, const char *name, taut_dtype dtype, int ndim,
                                         const size_t *shape, taut_layer **layer);

/* taut_layer_codec() : use this spec for this layer instead of the communicator's. Before the layer's first
 *  collective. Also for small layers, which otherwise travel together (small_elems). "none" excludes a layer. */
TAUT_API taut_status taut_layer_codec(taut_layer *layer, const char *spec);

/* taut_layer_scale() : the unit in which this layer's errors count, and the unit of grid's step: with scale s the
 *  error of a step is sum(((ghat-g)/s)^2). Under codec=auto with another metric than optimizer it is not used. Give what the optimizer divides by, such as sqrt(v)+eps of Adam.
 *  s : n finite positive floats on the host, identical bits on all ranks; copied.
 *  n : 1, or shape[0] (one per row), or the number of elements; 0 removes the scale.
 *  Call between steps, at any step. taut_step_end() compares them. */
TAUT_API taut_status taut_layer_scale(taut_layer *layer, const float *s, size_t n);

/* taut_layer_scale_in_place() : the same with one number per element, read where it lies, without a copy: the optimizer's own tensor of what it divides by,
 *  such as taut_torch_optim_denominator() has.
 *  s      : as many finite positive floats as the layer has elements, identical bits on all ranks; borrowed until the next call of this or of
 *           taut_layer_scale(), or the communicator's end, and written between steps only. NULL removes the scale.
 *  space  : where s lies, as the layer's buffers do: TAUT_HOST, or TAUT_CUDA on `device`. There, what writes s comes before the layer's next
 *           collective in the order of the stream that is given to that.
 *  Call again whenever s has been written. On the host all of s is looked at then. On a device nothing is copied, and nobody waits: what each step samples
 *  is looked at with its samples, all of it where the planner looks around; a number that is no scale is TAUT_E_RANGE in the next call. Ranks compare what
 *  they have sampled (TAUT_E_MISMATCH in taut_step_end()), so a difference in few elements may show some steps later: all ranks give their scales the same
 *  way, in place or not.
 *  TAUT_E_STATE if the layer's buffers lie elsewhere. A buffer elsewhere is TAUT_E_STATE, too. Since 0.1. */
TAUT_API taut_status taut_layer_scale_in_place(taut_layer *layer, const float *s, taut_space space, int device);

/* taut_layer_basis() : for layers whose codec is coded in a basis (basis=R): make it from m, of the layer's shape, such as an optimizer's
 *  momentum, instead of from the sums that ranks have received. Under codec=auto with
 *  objective=bytes it offers the plan a basis, from the next step on. Each call is one step of an iteration that begins where the last one
 *  ended, in units of the layer's scale; called every few steps it follows m. Other layers ignore it.
 *  m : n finite floats on the host, wherever the layer's buffers lie; identical bits on all ranks; read, not kept. TAUT_E_UNSUPPORTED where the layer's
 *      scale is read in place on a device (taut_layer_scale_in_place).
 *  n : the number of elements; 0: from sums again.
 *  Call between steps. taut_step_end() compares bases. Costs 4 R operations per element. Since 0.1. */
TAUT_API taut_status taut_layer_basis(taut_layer *layer, const float *m, size_t n);

/* ---- Collectives -----------------------------------------------------------------------------------------------
 * buf is the layer's whole tensor, of its dtype, contiguous, aligned to an element, on the host; it is borrowed until the
 * wait (or the step end) and must not be read or written meanwhile. Afterwards all ranks hold the same bytes.
 * A buffer that overlaps that of another layer under way is TAUT_E_INVALID. After an error over MPI the buffers of that step must stay
 * until MPI_Finalize: a message that had begun to arrive may still be written there; the log names it.
 * NaN and Inf of any rank arrive as NaN or Inf on every rank. Layers may be started in any order on any rank.
 * A rank in taut_step_end() that has not started a layer which another one waits for is TAUT_E_MISMATCH on all ranks, long before
 * the timeout, naming both and the layer. */
TAUT_API taut_status taut_allreduce(taut_layer *layer, void *buf, taut_op op); /* start and wait */
TAUT_API taut_status taut_allreduce_start(taut_layer *layer, void *buf, taut_op op);
/* taut_allreduce_start_on() : the same on memory of a device; for a buffer on the host with space TAUT_HOST, which taut_allreduce_start() is.
 *  buf    : of memory that the device can reach, aligned to an element.
 *  space  : TAUT_CUDA.   device : its number, 0..; all layers of a communicator that lie on devices lie on the same one.
 *  stream : what this stream holds now is done before buf is read; it is not held up itself. The result is in buf, for any stream, when
 *           taut_wait(), taut_test() or taut_step_end() says that the layer is done. Must live until then; NULL: the default stream. A rank
 *           that waits for its own stream waits no longer than timeout_ms without anything else moving, as for a peer.
 *  A layer's first collective fixes its space and device: another one later is TAUT_E_STATE. TAUT_E_UNSUPPORTED, with the reason, where
 *  the space cannot be used, or the layer's codec does not run there. TAUT_E_INVALID if buf is no memory of the space. None of these has
 *  started anything. Ranks may keep a layer in different spaces, and results are the same bytes as on the host, except where a device
 *  sums in another order (docs/cuda.md). taut_allreduce(), taut_reduce_scatter() and taut_allgather() take buffers on the host.
 *  Since 0.1. */
TAUT_API taut_status taut_allreduce_start_on(taut_layer *layer, void *buf, taut_op op, taut_space space, int device,
                                             struct CUstream_st *stream);
TAUT_API taut_status taut_test(taut_layer *layer, int *done); /* done = 1 when the result is in buf */
TAUT_API taut_status taut_wait(taut_layer *layer);            /* TAUT_E_STATE if the layer was not started */

/* taut_reduce_scatter() : rank r receives elements [first_r, first_r+n_r) of the reduced tensor in buf at its own
 *  place (the rest of buf is undefined afterwards). taut_layer_part() tells first and n of a rank: parts are
 *  contiguous, in rank order, and differ by at most one codec block.
 * taut_allgather() : the inverse: every rank's part travels, compressed without feedback, to all. */
TAUT_API taut_status taut_reduce_scatter(taut_layer *layer, void *buf, taut_op op);
TAUT_API taut_status taut_allgather(taut_layer *layer, void *buf);
/* taut_reduce_scatter_on(), taut_allgather_on() : the same on memory of a device, as taut_allreduce_start_on(), waited for. Since 0.1. */
TAUT_API taut_status taut_reduce_scatter_on(taut_layer *layer, void *buf, taut_op op, taut_space space, int device,
                                            struct CUstream_st *stream);
TAUT_API taut_status taut_allgather_on(taut_layer *layer, void *buf, taut_space space, int device,
                                       struct CUstream_st *stream);
TAUT_API taut_status taut_layer_part(const taut_layer *layer, int rank, size_t *first, size_t *n);

/* ---- Step ------------------------------------------------------------------------------------------------------ */

/* taut_step_end() : waits for every started layer, exchanges statistics and re-plans when it is time.
 *  Collective; once per training step. Returns the first error of any layer, the same on all ranks. TAUT_E_MISMATCH, with
 *  the layer, two ranks and their values: ranks asked for different operations, gave different scales, follow different plans or
 *  continue from different checkpoints. */
TAUT_API taut_status taut_step_end(taut_comm *comm);

/* taut_step_drop() : the program does not use the results of the step that has just ended (a loss scaler found an overflow),
 *  so what codecs left of its gradients shall not come back with later ones: residuals become empty, or, with
 *  dropped=restore, what they were before that step. On all ranks, after taut_step_end() and before the next start; sends
 *  nothing. A step with a NaN or Inf in any result is dropped by taut_step_end() itself. */
TAUT_API taut_status taut_step_drop(taut_comm *comm);

/* ---- Statistics ------------------------------------------------------------------------------------------------
 * Set .size = sizeof before the call.
 *
 * What is measured: rel_err2 is ||result - sum||^2 / ||sum||^2 of the last step, sum being the exact sum over ranks of what they put
 *  in, feedback residuals included. In every allreduce of a layer that loses something the exact sums, in float32, of
 *  some blocks of 8 elements travel with the step's statistics: chosen at random, anew in each step, the same on all ranks. Result
 *  minus sum is the error there, whatever ranks have in common. What the encoders lost over all elements, and the
 *  result's norm, are known and serve as controls; the ratio to them is followed over steps, so that few blocks tell enough
 *  (scheduler/estimate.h). _low and _high lie 4 standard deviations beside the value: the true one is between them in about
 *  99.9% of steps (docs/planning.md). Of a layer that a step sums more than once, the last sum is sampled, and stands
 *  for the others if it is like them; else, errors are what encoders measured.
 * What that costs: 1.6% of the bytes that 2 bits per element take, for models from 4 Mi elements (4.5% below that; 16 blocks at least), 4096 blocks at most,
 *  and for a plan one step's samples of every rank.
 * What is not measured: what an allgather loses, a layer's first step with a reduce-scatter, and what 16-bit layers without a codec
 *  lose by rounding. */
typedef struct taut_layer_stats {
    size_t   size;
    char     name[128];
    size_t   elements;
    char     codec[96]; /* spec in force, as in "grid:rel=0.03" */
    char     algorithm[16];
    uint64_t calls;
    uint64_t bytes_sent;       /* by this rank, all calls, headers included */
    uint64_t bytes_dense;      /* what this rank would have sent uncompressed with the same pattern of messages */
    double   bits_per_element; /* of this rank's encodings: payload bits / elements, last step */
    double   rel_err2;         /* aggregate error of the last step, as measured (above), plain metric; 0 where exact */
    double   rel_err2_metric;  /* the same in the metric in force */
    double   residual_norm2;   /* squared norm of this rank's feedback residual */
    double   rel_err2_low, rel_err2_high;               /* the interval of rel_err2 */
    double   rel_err2_metric_low, rel_err2_metric_high; /* of rel_err2_metric */
    int32_t  measured; /* 1: measured; 0: the encoders' own errors added up, as if ranks' errors were independent */
} taut_layer_stats;

typedef struct taut_comm_stats {
    size_t   size;
    uint64_t steps;
    uint64_t bytes_sent,
        bytes_dense;        /* sums over layers, and what agreement and statistics took; sent: and bytes_probes */
    double rel_err2;        /* all layers, last step, as measured (above), plain metric */
    double rel_err2_metric; /* the same in the metric in force */
    /* rel_err2 where it was measured, else -1; of earlier versions, which measured now and then */
    double rel_err2_audit;
    /* relative squared error that the last step was allowed, metric in force; 0 = no plan was in force */
    double budget;
    /* steps whose error exceeded the budget; without layers that have a codec of their own (taut_layer_codec) */
    uint64_t budget_violations;
    uint64_t plans;     /* plans adopted */
    uint64_t plan_hash; /* of the plan in force, equal on all ranks */
    double   comm_s;    /* seconds during which at least one collective was under way */
    double   exposed_s; /* seconds that the caller spent waiting */
    double   plan_s;    /* seconds spent on measuring and planning */
    /* of bytes_sent: what measuring the link took, at the end of the first step with a layer to plan for; since 0.1 */
    uint64_t bytes_probes;
    double   rel_err2_low, rel_err2_high;               /* the interval of rel_err2 */
    double   rel_err2_metric_low, rel_err2_metric_high; /* of rel_err2_metric, which is what the budget is about */
    int32_t  measured; /* 1: rel_err2 of the last step was measured in every layer that loses something */
    double   codec_s;  /* seconds that encoding and decoding took on this rank, all its threads together */
} taut_comm_stats;

TAUT_API size_t      taut_comm_layers(const taut_comm *comm);          /* how many are registered */
TAUT_API taut_layer *taut_comm_layer(const taut_comm *comm, size_t i); /* in registration order; NULL past the end */
TAUT_API taut_status taut_layer_get_stats(const taut_layer *layer, taut_layer_stats *stats);
TAUT_API taut_status taut_comm_get_stats(const taut_comm *comm, taut_comm_stats *stats);

/* ---- State -----------------------------------------------------------------------------------------------------
 * Residuals, factors, seeds and the plan, as bytes for a checkpoint: one blob per rank. Between steps.
 * save : two calls, dst NULL first for the size.
 * load : into a communicator with the same layers, which may have run: the blob takes the place of what is there (a
 *  rollback), all of it or, after an error, nothing. A blob carries a checksum of all of it: TAUT_E_CORRUPT if that is not
 *  right, TAUT_E_VERSION if another version of the format wrote it, TAUT_E_MISMATCH if its layers are others. Out of memory for a codec
 *  that the blob's plan gives a layer ends the communicator, as it does in a step: every later call says so.
 * With another number of ranks, give every saved blob to exactly one rank. Where there are more blobs than ranks, load several
 *  one after the other: residuals of different ranks of one checkpoint add up, as long as no collective comes between, so
 *  nothing is lost. Where there are more ranks than blobs, the others give any of them to taut_state_join(), which takes
 *  what all ranks share, the plan, factors and counts, and leaves residuals empty. */
TAUT_API taut_status taut_state_save(const taut_comm *comm, void *dst, size_t cap, size_t *len);
TAUT_API taut_status taut_state_load(taut_comm *comm, const void *src, size_t len);
TAUT_API taut_status taut_state_join(taut_comm *comm, const void *src, size_t len);
/* taut_state_add() : adds the residuals of a blob to this rank's, and takes nothing else of it: those of a rank that is lost, from its last
 *  checkpoint, of whichever step. On one rank; the others do nothing. */
TAUT_API taut_status taut_state_add(taut_comm *comm, const void *src, size_t len);

/* ---- Survivors -------------------------------------------------------------------------------------------------
 * After TAUT_E_PEER, TAUT_E_TIMEOUT, TAUT_E_TRANSPORT or TAUT_E_CORRUPT in a collective the ranks that are left can go on without those that
 * are not. What is lost, and what to do about it: docs/launch.md. */

typedef struct taut_survivors {
    size_t   size;          /* sizeof(taut_survivors) */
    int32_t  rank, ranks;   /* this rank's number among the survivors, and how many they are */
    int32_t  lost;          /* how many are not among them */
    int32_t  lost_rank[32]; /* their numbers in the old communicator, as far as there is room */
    uint64_t steps;         /* that the survivor which is furthest has ended */
    /* the lowest of those that are, by new number: whose model, optimizer and place in the data all others take */
    int32_t source;
    int32_t behind;         /* 1: this rank has not ended that step: its model is one step older */
    double  residual_norm2; /* squared norm of the residuals, of all layers and ranks, that the survivors still have */
    /* of those that are lost, by what encoders measured in the last steps; -1: not known, after a load */
    double lost_norm2;
} taut_survivors;
#define TAUT_SURVIVORS_INIT                                                                                            \
    {                                                                                                                  \
        sizeof(taut_survivors), 0, 0, 0, {0}, 0, 0, 0, 0, 0                                                            \
    }

/* taut_comm_shrink() : a new communicator of those who call this on their failed one, each within timeout_ms (a minute, if that is -1) after the
 *  first of them. Layers are registered as they were, in the same order (taut_comm_layer()), with their codecs, scales and feedback. Plan,
 *  factors and counts become those of `source`; residuals stay with their ranks, except those of layers that had begun in
 *  the step that failed, which are emptied, and those of lost ranks, which taut_state_add() brings back from a checkpoint. The step that failed is
 *  to be done again, its buffers filled anew.
 *  comm : failed; stays to be destroyed. who : filled in, or NULL.
 *  TAUT_E_STATE: nothing has failed; over TCP, this communicator has been shrunk before. TAUT_E_UNSUPPORTED: the transport cannot.
 *  TAUT_E_PEER: the others have gone on without this rank, or another one was lost meanwhile. After any failure but TAUT_E_STATE and
 *  TAUT_E_UNSUPPORTED it may be called again where MPI has ULFM. On ranks that stay together all return the same. Over MPI the launcher must not
 *  end the job when a rank dies: docs/launch.md. Since 0.1. */
TAUT_API taut_status taut_comm_shrink(taut_comm *comm, taut_comm **smaller, taut_survivors *who);

/* ---- Standalone codecs ------------------------------------------------------------------------------------------
 * One tensor to one self-describing frame (docs/wire-format.md) and back. src and dst must not overlap.
 * ndim/shape as in taut_layer_register. seed: of stochastic rounding. */
TAUT_API taut_status taut_encode_bound(const char *spec, int ndim, const size_t *shape, size_t *bytes);
TAUT_API taut_status taut_encode(const char *spec, int ndim, const size_t *shape, const float *src, uint64_t seed,
                                 void *dst, size_t cap, size_t *len);
TAUT_API taut_status taut_frame_info(const void *src, size_t len, size_t *elems, size_t *frame_len, char *spec,
                                     size_t spec_cap);
TAUT_API taut_status taut_decode(const void *src, size_t len, float *dst, size_t elems);
/* taut_spec_check() : TAUT_OK if the spec is well formed and suits the shape (ndim 0 and shape NULL: any shape). */
TAUT_API taut_status taut_spec_check(const char *spec, int ndim, const size_t *shape);

/* ---- Planning ---------------------------------------------------------------------------------------------------
 * The solver on its own: choose one candidate per layer, minimise the sum of costs subject to the sum of errors
 * staying within the budget. docs/algorithms.md has the mathematics. */
typedef struct taut_plan_problem {
    size_t        size;      /* sizeof(taut_plan_problem) */
    size_t        layers;    /* at least 1 */
    const size_t *first;     /* layers+1 offsets: layer l has candidates first[l] .. first[l+1]-1, at least one */
    const double *error;     /* squared error of each candidate, finite, >= 0 */
    const double *cost;      /* bytes or seconds of each candidate, finite, >= 0 */
    double        budget;    /* >= 0 */
    const char   *solver;    /* "hull" (default), "dp", "exhaustive" */
    uint32_t      bins;      /* dp: bins of discretised error; 0 = 10000 */
    int32_t       unsquared; /* 1 = add norms instead of squares, as L-GreCo does (budget then bounds the norm) */
} taut_plan_problem;

typedef struct taut_plan_result {
    size_t size;
    double error, cost; /* of the plan */
    double bound;       /* no plan within the budget costs less (hull: Lagrangian bound; dp: of its rounding) */
} taut_plan_result;

/* choice : layers entries, filled with candidate numbers counted from first[l]. TAUT_E_INFEASIBLE: not even the
 *  most exact candidates meet the budget; choice then holds those. */
TAUT_API taut_status taut_plan_solve(const taut_plan_problem *p, uint32_t *choice, taut_plan_result *result);

/* ---- Introspection ---------------------------------------------------------------------------------------------- */
TAUT_API const char *taut_cpu_path(void); /* kernels in use: "portable", "avx2", "avx512", "avx512vbmi2", "neon" */
TAUT_API const char *taut_features(void); /* built-in features, space-separated: "mpi threads ..." */
TAUT_API const char *taut_codec_name(size_t i); /* registered codecs in order of id; NULL past the end */
TAUT_API const char *taut_codec_help(size_t i); /* one line: what it is, its keys with ranges and defaults */

typedef struct taut_setting { /* one row of the settings table that taut info and docs/env.md print */
    const char *name;         /* "TAUT_CODEC" */
    const char *value;        /* live value as text, "" = default */
    const char *fallback;     /* default as text */
    const char *help;
    int         debug; /* 0 = setting, 1 = debugging aid */
} taut_setting;
TAUT_API taut_status taut_setting_get(size_t i, taut_setting *s); /* TAUT_E_RANGE past the end */

#ifdef __cplusplus
}
#endif
#endif
