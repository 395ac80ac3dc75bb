/* torch.h : models and optimizers of libtorch, from C.
 *
 * INTRODUCTION
 *
 *  A thin C face of libtorch (1.13 to 2.x) for programs that train with Taut: build or load a model, run forward and
 *  backward, see every parameter and gradient as a plain pointer, hear of each gradient the moment backward has
 *  finished it, step an optimizer whose state is within reach. Not a single torch type is in this header.
 *
 *      taut_torch_model_config mc = TAUT_TORCH_MODEL_CONFIG_INIT;
 *      taut_torch_model       *model;
 *      mc.kind = "gpt"; mc.vocab = 65; mc.seed = 7;
 *      taut_torch_model_create(&mc, &model);
 *      taut_torch_model_on_grad(model, ready, user);      // ready() calls taut_allreduce_start()
 *      for (;;) {
 *          taut_torch_forward(model, &batch, &loss);
 *          taut_torch_backward(model);                    // zeroes the gradients, then calls ready() per parameter
 *          taut_step_end(comm);                           // the gradients now hold the mean over ranks
 *          taut_torch_optim_step(optim);
 *      }
 *
 *  Conventions are those of taut.h: every call returns a taut_status, 0 is success; out-parameters are NULL or 0
 *  after a failure; destroy(NULL) is fine. What libtorch throws becomes TAUT_E_TORCH. The sentence that says what
 *  went wrong is in taut_torch_last_error(), not in taut_last_error(): this is a library of its own.
 *  A model, its optimizer and its batches are used by one thread at a time. Tensors live on the host, or on a CUDA device
 *  (taut_torch_model_config.device), as float32.
 *
 * CONTENTS: errors and threads, models, parameters, batches, forward and backward, what each row cost, gradient callback,
 *  optimizers, save and load.
 */
#ifndef TAUT_TORCH_H
#define TAUT_TORCH_H

#include "../comm/taut.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Errors and threads ---------------------------------------------------------------------------------------- */

/* taut_torch_last_error() : what went wrong in the last failed call of this header by this thread; "" before the
 *  first failure. Valid until this thread's next failing call. */
TAUT_API const char *taut_torch_last_error(void);

/* taut_torch_threads() : threads that one operation may use, 1..1024, process-wide (libtorch, OpenMP and OpenBLAS
 *  where that is the BLAS). Also asks libtorch for deterministic algorithms, so that with the same seed and the same
 *  number of threads a run gives the same bits twice. Call before anything else. */
TAUT_API taut_status taut_torch_threads(int threads);

TAUT_API const char *taut_torch_version(void); /* of the libtorch this was built against, as in "1.13.0" */

/* ---- Models ---------------------------------------------------------------------------------------------------- */
typedef struct taut_torch_model taut_torch_model;
typedef struct taut_torch_optim taut_torch_optim;

/* taut_torch_model_config : 0 or NULL means the default. The shim copies min(size, known) bytes.
 *
 *  kind "gpt"    : decoder-only transformer, pre-norm, learned positions, GELU, no dropout. Parameters, in this order:
 *                  te.weight [vocab,dim], pe.weight [ctx,dim], per block N: b.N.l1, b.N.l2 (layer norms before
 *                  attention and before the feed-forward part), b.N.qkv [3*dim,dim], b.N.proj [dim,dim],
 *                  b.N.fc [4*dim,dim], b.N.out [dim,4*dim]; then ln and head.weight [vocab,dim].
 *  kind "mlp"    : `blocks` hidden layers of width `dim` with ReLU: fc1.weight [dim,inputs], fc1.bias, fc2 ...
 *  kind "script" : a TorchScript module file; its forward takes one tensor and returns logits (or a tuple that starts
 *                  with them). Parameters have the names that the module gives them and must be float32; one that has several
 *                  (tied weights) is there once, by the first; those that want no gradient (frozen ones) are saved, and not trained, unless
 *                  none wants one. */
typedef struct taut_torch_model_config {
    size_t      size;    /* set by TAUT_TORCH_MODEL_CONFIG_INIT */
    const char *kind;    /* "gpt", "mlp" or "script" */
    const char *script;  /* kind "script": path of the module */
    uint64_t    seed;    /* of the initial parameters; the same seed gives the same bits */
    int64_t     vocab;   /* gpt: token values, 2..1048576 */
    int64_t     ctx;     /* gpt: longest sequence, 1..65536; default 64 */
    int64_t     dim;     /* width, 1..65536; default gpt 128, mlp 256 */
    int64_t     blocks;  /* gpt: blocks, default 4; mlp: hidden layers, default 2; 1..1024 */
    int64_t     heads;   /* gpt: attention heads, must divide dim; default 4 */
    int64_t     inputs;  /* mlp: values per sample, at least 1 */
    int64_t     classes; /* mlp: at least 2 */
    /* "cpu" (default), "cuda" or "cuda:N": where parameters, gradients and optimizer states lie and the work is done. Initial parameters are the
     * same bits everywhere. TAUT_E_UNSUPPORTED where libtorch has no CUDA, or no such device. */
    const char *device;
} taut_torch_model_config;
#define TAUT_TORCH_MODEL_CONFIG_INIT                                                                                   \
    {                                                                                                                  \
        sizeof(taut_torch_model_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                                               \
    }

TAUT_API taut_status taut_torch_model_create(const taut_torch_model_config *cfg, taut_torch_model **model);
TAUT_API void        taut_torch_model_destroy(taut_torch_model *model); /* after its optimizers */

/* ---- Parameters ------------------------------------------------------------------------------------------------
 * data and grad are contiguous, row-major, 64-byte aligned where libtorch aligns so, and keep their addresses for
 * the life of the model. Reading and writing them is allowed whenever no call of this header is running. On a device
 * they are its memory, and work on them is in the order of its default stream. */
typedef struct taut_torch_param {
    size_t      size; /* set to sizeof before the call */
    const char *name; /* owned by the model */
    int         ndim;
    size_t      shape[8];
    size_t      elements;
    float      *data;
    float      *grad;   /* zero before the first backward */
    int         device; /* of data and grad: -1 the host, else the number of a CUDA device */
} taut_torch_param;

TAUT_API size_t      taut_torch_model_params(const taut_torch_model *model); /* how many */
TAUT_API taut_status taut_torch_model_param(const taut_torch_model *model, size_t i, taut_torch_param *param);

/* taut_torch_copy_param() : a parameter's `elements` numbers to host memory (to_host not 0), or from it, wherever the model lies; done when it returns.
 *  which : "data", "grad", or of an optimizer of the model's "m" or "v" (optim NULL: of neither). Since 0.1. */
TAUT_API taut_status taut_torch_copy_param(taut_torch_model *model, taut_torch_optim *optim, size_t i,
                                           const char *which, float *host, int to_host);

/* ---- Batches ---------------------------------------------------------------------------------------------------
 * Inputs are either tokens (int64) or values (float32), the other pointer being NULL. They are read during the call
 * and not kept. One target per logit row: for gpt one per token, for classifiers one per sample. */
typedef struct taut_torch_batch {
    size_t         size;    /* set by TAUT_TORCH_BATCH_INIT */
    const int64_t *tokens;  /* product of shape */
    const float   *values;  /* product of shape */
    const int64_t *targets; /* n_targets class numbers */
    size_t         n_targets;
    int            ndim;     /* 1..8 */
    int64_t        shape[8]; /* gpt: {batch, length <= ctx}; mlp: {batch, ...} with `inputs` values a sample */
    /* (optional) n_targets factors of the targets' losses, whose mean is then the loss; NULL = all 1 */
    const float *weights;
    /* (optional) n_targets * classes probabilities: the loss is the cross-entropy with them instead of the targets; NULL */
    const float *soft;
} taut_torch_batch;
#define TAUT_TORCH_BATCH_INIT                                                                                          \
    {                                                                                                                  \
        sizeof(taut_torch_batch), 0, 0, 0, 0, 0, {0, 0, 0, 0, 0, 0, 0, 0}, 0, 0                                        \
    }

/* ---- Forward and backward --------------------------------------------------------------------------------------
 * forward  : mean cross-entropy over the targets, in nats; keeps what backward needs (a second forward drops it).
 * backward : zeroes the gradients, then computes them. TAUT_E_STATE without a forward before it.
 * accumulate : as backward, but adds to the gradients that are there. Callbacks fire on it, too.
 * evaluate : the same loss without gradients, in the module's evaluation mode; hits = how many targets had the
 *            largest logit. */
TAUT_API taut_status taut_torch_forward(taut_torch_model *model, const taut_torch_batch *batch, double *loss);
TAUT_API taut_status taut_torch_backward(taut_torch_model *model);
TAUT_API taut_status taut_torch_accumulate(taut_torch_model *model);
TAUT_API taut_status taut_torch_evaluate(taut_torch_model *model, const taut_torch_batch *batch, double *loss,
                                         int64_t *hits);

/* ---- What each row cost ----
 * rows : of a batch, in evaluation mode and without gradients, one number a target: loss, its cross-entropy; el2n, the distance |p - onehot|
 *        of its class probabilities (Paul et al. 2021); hit, 1 where the largest logit was the target's. Any may be NULL.
 * keep : 1: forward keeps its logits for hits(), until the next forward.
 * hits : of the last forward, one a target: TAUT_E_STATE where nothing was kept. */
TAUT_API taut_status taut_torch_rows(taut_torch_model *model, const taut_torch_batch *batch, float *loss, float *el2n,
                                     uint8_t *hit);
TAUT_API taut_status taut_torch_keep(taut_torch_model *model, int keep);
TAUT_API taut_status taut_torch_hits(taut_torch_model *model, uint8_t *hit);

/* ---- Gradient callback -----------------------------------------------------------------------------------------
 * Called once per backward for each parameter that takes part in the loss, as soon as its gradient is final and
 * in place, so last layer first; a parameter that takes no part is not mentioned and its gradient stays as it is.
 * Runs inside taut_torch_backward(), on whichever thread libtorch runs backward on (for host tensors: the caller's),
 * never two at a time. It may start an allreduce on the gradient; it must not call this header. What it returns
 * other than TAUT_OK ends the callbacks of this backward and is returned by it.
 * On a device the gradient has been enqueued on its default stream when the callback runs, not computed, so that
 *     taut_allreduce_start_on(layer, param.grad, TAUT_MEAN, TAUT_CUDA, param.device, NULL)
 * goes on beside backward, on a stream of the communicator's; after taut_step_end() the results are there.
 * on_grad(model, NULL, NULL) removes it. */
typedef taut_status (*taut_torch_grad_ready)(void *user, size_t param);
TAUT_API taut_status taut_torch_model_on_grad(taut_torch_model *model, taut_torch_grad_ready ready, void *user);

/* ---- Optimizers ------------------------------------------------------------------------------------------------
 * With g the gradient (plus weight_decay*p, except adamw), t the step counted from 1:
 *  sgd   : m = momentum*m + g;  p -= lr*m                                  (Polyak, as PyTorch: dampening 0)
 *  adam  : m = b1*m + (1-b1)*g;  v = b2*v + (1-b2)*g^2;
 *          p -= lr * (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps)               (Kingma & Ba 2015, algorithm 1)
 *  adamw : p *= 1 - lr*weight_decay, then adam                             (Loshchilov & Hutter 2019, algorithm 2) */
typedef struct taut_torch_optim_config {
    size_t      size;         /* set by TAUT_TORCH_OPTIM_CONFIG_INIT */
    const char *kind;         /* "sgd", "adam", "adamw"; default "adam" */
    double      lr;           /* > 0; default sgd 0.1, else 0.001 */
    double      momentum;     /* sgd: [0,1); default 0 */
    double      beta1, beta2; /* adam: [0,1); default 0.9, 0.999; negative = really 0 */
    double      eps;          /* adam: > 0; default 1e-8 */
    double      weight_decay; /* >= 0; default 0 */
} taut_torch_optim_config;
#define TAUT_TORCH_OPTIM_CONFIG_INIT                                                                                   \
    {                                                                                                                  \
        sizeof(taut_torch_optim_config), 0, 0, 0, 0, 0, 0, 0                                                           \
    }

TAUT_API taut_status taut_torch_optim_create(taut_torch_model *model, const taut_torch_optim_config *cfg,
                                             taut_torch_optim **optim);
TAUT_API void        taut_torch_optim_destroy(taut_torch_optim *optim);
TAUT_API taut_status taut_torch_optim_step(taut_torch_optim *optim);
TAUT_API taut_status taut_torch_optim_set_lr(taut_torch_optim *optim, double lr);
TAUT_API uint64_t    taut_torch_optim_steps(const taut_torch_optim *optim); /* steps taken, those of loads included */

/* taut_torch_clip() : scales all gradients by min(1, max_norm/norm), norm being their common Euclidean norm, which is
 *  returned in *norm (may be NULL). A norm that is not finite leaves them alone. max_norm > 0. */
TAUT_API taut_status taut_torch_clip(taut_torch_model *model, double max_norm, double *norm);

/* taut_torch_optim_state() : the optimizer's own tensor of a parameter, `elements` floats with a stable address, where the model lies:
 *  "m" (sgd: momentum buffer, adam: first moment) or "v" (adam: second moment, without bias correction). */
TAUT_API taut_status taut_torch_optim_state(taut_torch_optim *optim, size_t param, const char *which, float **state);

/* taut_torch_optim_scale() : what Adam divides this parameter's update by, s = sqrt(v/(1-b2^t)) + eps: the argument of
 *  taut_layer_scale().
 *  n     : elements of the parameter, or shape[0] (one per row, from the row's mean v), or 1.
 *  floor : no s is smaller than floor times the root mean square of the parameter's, 0..1. An element whose gradient
 *          has been 0 so far (an embedding row not seen yet) has s = eps otherwise, and its first gradient would
 *          count 10^6 times more than everybody else's.
 *  TAUT_E_UNSUPPORTED for sgd, TAUT_E_STATE before the first step. The same bits on all ranks if the gradients were. */
TAUT_API taut_status taut_torch_optim_scale(const taut_torch_optim *optim, size_t param, double floor, float *s,
                                            size_t n);

/* taut_torch_optim_denominator() : the same, one per element, as the optimizer's own tensor, where the model lies, with an address that stays: the argument of
 *  taut_layer_scale_in_place(). From the first call for a parameter on every step makes it anew, since it divides by it: nothing is copied, on no
 *  device. The floor is that of the latest call. The same bits as taut_torch_optim_scale(). Errors as there. Since 0.1. */
TAUT_API taut_status taut_torch_optim_denominator(taut_torch_optim *optim, size_t param, double floor, const float **s);

/* ---- Save and load ---------------------------------------------------------------------------------------------
 * One file: parameters, buffers, optimizer state, and `note`, a string of the caller (step, seed, settings). It is a
 * libtorch archive, so PyTorch opens it with torch.jit.load(), closed by a checksum of all its bytes in the archive's
 * comment. Written beside the target, flushed to the disk and renamed, so that a failure (TAUT_E_IO: a full disk, ...)
 * leaves the old file. optim may be NULL.
 * load : into a model of the same names and shapes and an optimizer of the same kind; TAUT_E_MISMATCH names the first
 *  difference, TAUT_E_CORRUPT a file whose checksum is wrong, and both change nothing. *note is allocated; free it with taut_torch_note_free(). Load only files that you
 *  trust: libtorch does not defend itself against malicious archives. */
TAUT_API taut_status taut_torch_save(const taut_torch_model *model, const taut_torch_optim *optim, const char *note,
                                     const char *path);
TAUT_API taut_status taut_torch_load(taut_torch_model *model, taut_torch_optim *optim, const char *path, char **note);
TAUT_API void        taut_torch_note_free(char *note);

#ifdef __cplusplus
}
#endif
#endif
