/* run.c : a training run: set up, step, evaluate, take down.
 *
 * A step: fill the batch; forward; backward, which hands each gradient to Taut the moment it is final, so that it
 * travels while earlier layers are still being differentiated; start what backward did not touch; step end; clip;
 * optimizer; scales. The mean loss over ranks travels beside, on its own communicator.
 *
 * Failures: until the first step, and between steps, every rank reaches ranks_agree() and all leave together. Within
 * a step the others may be waiting for this rank's gradients, so that a rank which fails there ends the job. What
 * taut_step_end() returns is the same on all ranks. */
#include "run.h"
#include "../../comm/taut_nccl.h"
#include "../../shim/torch.h"
#include "checkpoint.h"
#include "feed.h"
#include "gather.h"
#include "interrupt.h"
#include "log.h"
#include "ranks.h"
#include "report.h"
#include "scales.h"
#include "score.h"
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct run {
    const options    *o;
    const data       *d;
    taut_torch_model *model;
    taut_torch_optim *optim;
    taut_comm        *comm;
    size_t            n; /* parameters = layers */
    taut_torch_param *param;
    taut_layer      **layer;
    bool             *started; /* in this step */
    scales            scales;
    float            *copy; /* of a model on a device: room for a tensor on the host; NULL = it is there */
    data_room         train, val;
    feed             *feed;
    score            *score; /* NULL = nobody asked */
    train_log        *log;
    gather            sums;
    progress          line;
    uint64_t          plan_hash;
    int64_t           step, first;      /* steps done; those done before this run */
    checkpoint_place  from;             /* where it was resumed; zeros */
    bool              inside, diverged; /* a step is under way; numbers are no longer finite */
    int64_t           saved;            /* the last step that a checkpoint holds */
    int               interrupted;      /* by this signal, on some rank; the same on all */
} run;

/* ---- set up ---- */

static int torch_fault(const char *what, taut_status s)
{
    return fault_status(CLI_FAILED, what, taut_torch_last_error(), s);
}
static int taut_fault(const char *what, taut_status s) { return fault_status(CLI_FAILED, what, taut_last_error(), s); }

static int make_model(run *r)
{
    const options          *o = r->o;
    taut_torch_model_config c = TAUT_TORCH_MODEL_CONFIG_INIT;
    taut_status             s;
    bool                    script = strncmp(o->model, "script:", 7) == 0;
    c.kind = script ? "script" : o->model;
    c.script = script ? o->model + 7 : NULL;
    c.seed = o->seed;
    c.vocab = c.classes = r->d->classes;
    c.ctx = o->ctx, c.dim = o->dim, c.blocks = o->blocks, c.heads = o->heads;
    c.inputs = (int64_t)r->d->elems;
    c.device = ranks_device(o->device);
    s = taut_torch_model_create(&c, &r->model);
    if (s == TAUT_E_RANGE) return fault_status(CLI_USAGE, "--model", taut_torch_last_error(), s);
    if (s != TAUT_OK) return torch_fault("--model", s);
    r->n = taut_torch_model_params(r->model);
    r->param = calloc(r->n, sizeof *r->param);
    r->layer = calloc(r->n, sizeof *r->layer);
    r->started = calloc(r->n, sizeof *r->started);
    if (!r->param || !r->layer || !r->started) return fault(CLI_FAILED, "out of memory");
    for (size_t i = 0; i < r->n; i++) {
        r->param[i].size = sizeof r->param[i];
        if ((s = taut_torch_model_param(r->model, i, &r->param[i])) != TAUT_OK) return torch_fault("--model", s);
    }
    return 0;
}

static int make_optimizer(run *r)
{
    taut_torch_optim_config c = TAUT_TORCH_OPTIM_CONFIG_INIT;
    taut_status             s;
    c.kind = r->o->optimizer;
    c.lr = r->o->lr;
    c.momentum = r->o->momentum;
    c.beta2 = r->o->beta2;
    c.weight_decay = r->o->weight_decay;
    s = taut_torch_optim_create(r->model, &c, &r->optim);
    return s == TAUT_OK ? 0 : torch_fault("--optimizer", s);
}

static int make_comm(run *r)
{
    const options *o = r->o;
    taut_config    c = TAUT_CONFIG_INIT;
    taut_status    s;
    c.codec = o->codec;
    c.budget = o->budget;
    c.objective = o->objective;
    c.metric = o->metric;
    c.feedback = o->feedback;
    c.algorithm = o->algorithm;
    c.seed = o->seed;
    s = ranks_comm(&c, &r->comm);
    if (s == TAUT_OK && o->nccl) {
        s = taut_comm_open_nccl(r->comm, r->param[0].device);
        if (s != TAUT_OK) return taut_fault("--nccl", s);
    }
    return s == TAUT_OK ? 0
                        : fault_status(s == TAUT_E_INVALID || s == TAUT_E_RANGE ? CLI_USAGE : CLI_FAILED,
                                       "communicator", taut_last_error(), s);
}

/* The first --layer-codec whose pattern fits; hits[k] counts the layers of pattern k. */
static int choose_codec(run *r, size_t i, size_t *hits)
{
    const char *spec;
    char        pattern[256], what[300];
    for (size_t k = 0; k < r->o->layer_codecs.n; k++) {
        const char *item = r->o->layer_codecs.item[k];
        snprintf(pattern, sizeof pattern, "%.*s", (int)options_layer_codec(item, &spec), item);
        if (fnmatch(pattern, r->param[i].name, 0) != 0) continue;
        hits[k]++;
        taut_status s = taut_spec_check(spec, r->param[i].ndim, r->param[i].shape);
        if (s == TAUT_OK) s = taut_layer_codec(r->layer[i], spec);
        if (s == TAUT_OK) return 0;
        snprintf(what, sizeof what, "--layer-codec: %s", r->param[i].name);
        return fault_status(CLI_USAGE, what, taut_last_error(), s);
    }
    return 0;
}

static int register_layers(run *r)
{
    size_t hits[CLI_LIST_MAX] = {0};
    for (size_t i = 0; i < r->n; i++) {
        const taut_torch_param *p = &r->param[i];
        taut_status             s = taut_layer_register(r->comm, p->name, TAUT_F32, p->ndim, p->shape, &r->layer[i]);
        int                     code = s == TAUT_OK ? choose_codec(r, i, hits) : taut_fault(p->name, s);
        if (code) return code;
    }
    for (size_t k = 0; k < r->o->layer_codecs.n; k++)
        if (hits[k] == 0)
            return fault(CLI_USAGE, "--layer-codec=%s: fits none of the %zu parameters, which are called %s, %s ... %s",
                         r->o->layer_codecs.item[k], r->n, r->param[0].name, r->param[r->n > 1].name,
                         r->param[r->n - 1].name);
    return 0;
}

static int make_scales(run *r)
{
    r->scales = (scales){.o = r->o, .optim = r->optim, .n = r->n, .param = r->param, .layer = r->layer};
    return scales_begin(&r->scales);
}

static uint64_t layout_hash(const run *r)
{
    uint64_t h = data_hash(0, &r->n, sizeof r->n);
    for (size_t i = 0; i < r->n; i++) {
        h = data_hash(h, r->param[i].name, strlen(r->param[i].name));
        h = data_hash(h, r->param[i].shape, (size_t)r->param[i].ndim * sizeof r->param[i].shape[0]);
    }
    return h;
}

/* Room for what lies on a device. */
static int make_copy(run *r)
{
    size_t most = 1;
    if (r->param[0].device < 0) return 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->param[i].elements > most) most = r->param[i].elements;
    r->copy = malloc(most * sizeof *r->copy);
    return r->copy ? 0 : fault(CLI_FAILED, "out of memory");
}

/* A parameter's data, gradient or optimizer state on the host: itself, or a copy, which the next call overwrites. NULL: it failed. */
static float *here(const run *r, size_t i, const char *which)
{
    float *there = NULL;
    bool   state = *which == 'm' || *which == 'v';
    if (r->copy) return taut_torch_copy_param(r->model, r->optim, i, which, r->copy, 1) == TAUT_OK ? r->copy : NULL;
    if (!state) return *which == 'd' ? r->param[i].data : r->param[i].grad;
    return taut_torch_optim_state(r->optim, i, which, &there) == TAUT_OK ? there : NULL;
}

static uint64_t params_hash(const run *r)
{
    uint64_t h = 0;
    for (size_t i = 0; i < r->n; i++) {
        const float *x = here(r, i, "data");
        h = x ? data_hash(h, x, r->param[i].elements * sizeof *x) : h + 1 + (uint64_t)ranks_rank();
    }
    return h;
}

/* Rank 0's to all. */
static int broadcast_params(run *r)
{
    for (size_t i = 0; i < r->n; i++) {
        float *x = here(r, i, "data");
        if (!x) return torch_fault(r->param[i].name, TAUT_E_TORCH);
        ranks_broadcast(x, r->param[i].elements * sizeof *x);
        taut_status s = r->copy ? taut_torch_copy_param(r->model, NULL, i, "data", x, 0) : TAUT_OK;
        if (s != TAUT_OK) return torch_fault(r->param[i].name, s);
    }
    return 0;
}

/* ---- scales ---- */

/* Gradients, parameters and the mean loss are the same on all ranks, so all of them find this. */
static int diverged(run *r, const char *what, double value)
{
    r->diverged = true;
    return fault(CLI_FAILED, "diverged: %s at step %lld is %g; --lr is %g (a smaller one, or more --warmup, may help)",
                 what, (long long)r->step + r->inside, value, r->o->lr);
}

static int set_scales(run *r)
{
    double odd;
    int    code = scales_set(&r->scales, &odd);
    return code == SCALES_ODD ? diverged(r, "the optimizer's second moment", odd) : code;
}

/* ---- bases ---- */

/* The optimizer's momentum is the same on all ranks, too. Not when a run is resumed: the basis is in its state. */
static int set_bases(run *r)
{
    enum { FIRST = 8, EVERY = 8 }; /* as often as a basis learns from results */
    if (!options_is(r->o->basis, "momentum") || (r->step >= FIRST && r->step % EVERY != 0)) return 0;
    for (size_t i = 0; i < r->n; i++) {
        const float *m = here(r, i, "m");
        taut_status  s;
        if (!m) return torch_fault(r->param[i].name, TAUT_E_TORCH);
        if ((s = taut_layer_basis(r->layer[i], m, r->param[i].elements)) != TAUT_OK)
            return taut_fault(r->param[i].name, s);
    }
    return 0;
}

/* ---- step ---- */

static taut_status ready(void *user, size_t i)
{
    run *r = user;
    r->started[i] = true;
    if (r->param[i].device < 0) return taut_allreduce_start(r->layer[i], r->param[i].grad, TAUT_MEAN);
    /* goes on beside backward, on a stream of the communicator's, once the default stream has the gradient */
    return taut_allreduce_start_on(r->layer[i], r->param[i].grad, TAUT_MEAN, TAUT_CUDA, r->param[i].device, NULL);
}

static int start_the_rest(run *r)
{
    for (size_t i = 0; i < r->n; i++) {
        taut_status s = r->started[i] ? TAUT_OK : ready(r, i);
        if (s != TAUT_OK) return taut_fault(r->param[i].name, s);
    }
    memset(r->started, 0, r->n * sizeof *r->started);
    return 0;
}

static int compute(run *r, run_split *t, double *loss)
{
    double      begin = cli_now(), now;
    taut_status s;
    int         code = feed_fill(r->feed, &r->train);
    if (code) return code;
    t->data = (now = cli_now()) - begin, begin = now;
    if ((s = taut_torch_forward(r->model, &r->train.batch, loss)) != TAUT_OK) return torch_fault("forward", s);
    ranks_mean_start(*loss, interrupt_seen());
    if ((code = score_step(r->score, r->feed, r->step)) != 0) return code;
    t->forward = (now = cli_now()) - begin, begin = now;
    if ((s = taut_torch_backward(r->model)) != TAUT_OK) {
        bool ours = s == TAUT_E_TORCH || s == TAUT_E_NOMEM;
        return ours ? torch_fault("backward", s) : taut_fault("allreduce", s);
    }
    t->backward = cli_now() - begin;
    return start_the_rest(r);
}

static int update(run *r, run_split *t)
{
    const options *o = r->o;
    double         begin = cli_now(), now, norm;
    taut_status    s;
    int            code;
    /* the norm is of mean gradients, so all ranks find the same */
    s = taut_torch_clip(r->model, o->clip > 0 ? o->clip : HUGE_VAL, &norm);
    if (s == TAUT_OK && !isfinite(norm)) return diverged(r, "the norm of the gradient", norm);
    if (s == TAUT_OK && (r->step <= o->warmup || !options_is(o->schedule, "constant")))
        s = taut_torch_optim_set_lr(r->optim, o->lr * options_rate(o, r->step));
    if (s == TAUT_OK) s = taut_torch_optim_step(r->optim);
    t->optimizer = (now = cli_now()) - begin, begin = now;
    if (s != TAUT_OK) return torch_fault("optimizer", s);
    code = set_scales(r);
    if (!code) code = set_bases(r);
    t->scale = cli_now() - begin;
    return code;
}

static int one_step(run *r)
{
    run_split       t = {0};
    taut_comm_stats c = {.size = sizeof c};
    double          loss, begin;
    taut_status     s;
    int             code;
    r->inside = true;
    code = compute(r, &t, &loss);
    if (code) ranks_abort(code);
    begin = cli_now();
    s = taut_step_end(r->comm);
    if (s == TAUT_E_PEER || s == TAUT_E_TIMEOUT || s == TAUT_E_TRANSPORT) ranks_abort(taut_fault("step end", s));
    if (s != TAUT_OK) return ranks_agree(taut_fault("step end", s));
    loss = ranks_mean_wait(&r->interrupted);
    t.wait = cli_now() - begin;
    if (!isfinite(loss)) return ranks_agree(diverged(r, "the loss", loss));
    if ((code = update(r, &t)) != 0) {
        if (!r->diverged) ranks_abort(code);
        return ranks_agree(code);
    }
    r->step++;
    r->inside = false;
    taut_comm_get_stats(r->comm, &c);
    gather_step(&r->sums, loss, &t, r->comm, &c);
    log_step(r->log, r->step, loss, &t, &c);
    if (c.plan_hash != r->plan_hash) log_plan(r->log, r->step, r->comm, r->plan_hash = c.plan_hash);
    log_layers_now_and_then(r->log, r->step, r->comm);
    progress_show(&r->line, r->o, r->step, r->first, loss, &c);
    return 0;
}

/* ---- evaluation ---- */

/* Chunk k is evaluated by rank k mod p and the chunks' sums are added in order, so that the result does not depend on
 * the number of ranks. */
static int evaluate(run *r, double *loss, double *accuracy)
{
    enum { CHUNK = 16 };
    size_t  of = r->d->n_val < (size_t)r->o->eval_samples ? r->d->n_val : (size_t)r->o->eval_samples;
    size_t  chunks = (of + CHUNK - 1) / CHUNK;
    double *part = calloc(2 * chunks, sizeof *part), sum = 0, right = 0;
    int     code = part ? 0 : fault(CLI_FAILED, "out of memory");
    for (size_t k = (size_t)ranks_rank(); !code && k < chunks; k += (size_t)ranks_count()) {
        size_t      n = of - k * CHUNK < CHUNK ? of - k * CHUNK : CHUNK;
        int64_t     hits;
        double      mean;
        taut_status s;
        data_fill_val(r->d, &r->val, k * CHUNK, n, of);
        if ((s = taut_torch_evaluate(r->model, &r->val.batch, &mean, &hits)) != TAUT_OK)
            code = torch_fault("evaluation", s);
        else part[2 * k] = mean * (double)n, part[2 * k + 1] = (double)hits;
    }
    if ((code = ranks_agree(code)) == 0) {
        ranks_sum(part, (int)(2 * chunks));
        for (size_t k = 0; k < chunks; k++) sum += part[2 * k], right += part[2 * k + 1];
        *loss = sum / (double)of;
        *accuracy = right / ((double)of * (double)r->d->targets);
    }
    free(part);
    return code;
}

/* ---- the run ---- */

static int make_everything(run *r)
{
    int code = make_model(r);
    if (!code) code = make_optimizer(r);
    if (!code) code = make_scales(r);
    if (!code) code = make_copy(r);
    if (!code) code = data_room_create(r->d, feed_most(r->d, r->o), &r->train);
    if (!code) code = data_room_create(r->d, 16, &r->val);
    if (!code) code = checkpoint_probe(r->o);
    if ((code = ranks_agree(code)) != 0) return code;
    if (!ranks_same(layout_hash(r)))
        return ranks_agree(fault(CLI_FAILED, "the ranks have different models: parameters differ in name or shape"));
    if ((code = ranks_agree(broadcast_params(r))) != 0) return code;
    if ((code = ranks_agree(make_comm(r))) != 0) return code;
    if ((code = ranks_agree(register_layers(r))) != 0) return code;
    if (r->o->resume && (code = checkpoint_load(r->o, &r->from, r->model, r->optim, r->comm)) != 0) return code;
    r->step = r->from.step;
    if ((code = ranks_agree(set_scales(r))) != 0) return code;
    r->first = r->step;
    if ((code = feed_open(&r->feed, r->d, r->o, &r->from)) != 0) return code;
    if ((code = score_open(&r->score, r->d, r->o, r->model)) != 0) return code;
    taut_torch_model_on_grad(r->model, ready, r);
    code = gather_create(&r->sums, r->o->steps - r->first, r->n);
    if (!code)
        code = log_open(&r->log, r->o->log,
                        r->o->resume); /* the last: an earlier one is kept where the run does not begin */
    return ranks_agree(code);
}

static bool every(int64_t step, int64_t n) { return n > 0 && step % n == 0; }

static int save(run *r)
{
    checkpoint_place at = {.step = r->step};
    int              code = r->o->checkpoint ? ranks_agree(feed_place(r->feed, &at)) : 0;
    if (!code && r->o->checkpoint) code = checkpoint_save(r->o, &at, r->model, r->optim, r->comm);
    if (!code) r->saved = r->step;
    return code;
}

/* A signal ends all ranks at the end of a step, with the state saved where there is a place for it. */
static int interrupted(run *r)
{
    const char *name = interrupt_name(r->interrupted);
    int         code = r->saved == r->step ? 0 : save(r), rc = 128 + r->interrupted;
    long long   step = r->step, of = r->o->steps;
    if (code) return code;
    if (!r->o->checkpoint)
        return ranks_agree(fault(rc, "%s at step %lld of %lld; nothing was saved: no --checkpoint", name, step, of));
    return ranks_agree(fault(rc, "%s at step %lld of %lld; %s holds it: --resume goes on from there", name, step, of,
                             r->o->checkpoint));
}

static int train(run *r, result *out)
{
    const options *o = r->o;
    int            code = 0;
    while (r->step < o->steps) {
        bool last = r->step + 1 == o->steps;
        if ((code = one_step(r)) != 0) return code;
        if (last || every(r->step, o->eval_every)) {
            if ((code = evaluate(r, &out->loss_val, &out->accuracy_val)) != 0) return code;
            if (!isfinite(out->loss_val)) return ranks_agree(diverged(r, "the validation loss", out->loss_val));
            log_eval(r->log, r->step, out->loss_val, out->accuracy_val);
            log_layers(r->log, r->step, r->comm);
        }
        if ((last || every(r->step, o->checkpoint_every)) && (code = save(r)) != 0) return code;
        if (r->interrupted && !last) return interrupted(r);
    }
    return 0;
}

/* A run that ends worse than one that guesses all classes alike, and far above where it began, has diverged without
 * reaching a number that is not finite. */
static bool worse_than_guessing(const run *r, const result *out)
{
    double guess = log((double)r->d->classes);
    return out->loss_train > 2 * (out->loss_first > guess ? out->loss_first : guess);
}

static void take_down(run *r)
{
    progress_end(&r->line);
    gather_destroy(&r->sums);
    feed_close(r->feed);
    score_close(r->score);
    data_room_destroy(&r->train);
    data_room_destroy(&r->val);
    taut_comm_destroy(r->comm);
    taut_torch_optim_destroy(r->optim);
    taut_torch_model_destroy(r->model);
    scales_end(&r->scales);
    free(r->copy);
    free(r->param);
    free(r->layer);
    free(r->started);
}

int run_train(const options *o, const data *d, result *out)
{
    run r = {.o = o, .d = d};
    int code, closed;
    memset(out, 0, sizeof *out);
    code = make_everything(&r);
    out->codec = o->codec;
    out->first_step = r.first;
    for (size_t i = 0; !code && i < r.n; i++) out->params += r.param[i].elements;
    if (!code) log_run(r.log, o, d, out->params);
    if (!code) code = train(&r, out);
    out->steps = r.step;
    if (!code) code = ranks_agree(gather_result(&r.sums, r.comm, out));
    if (!code) out->loader = feed_report(r.feed, out->seconds);
    if (!code) out->diverged = worse_than_guessing(&r, out);
    if (!code) out->identical = ranks_same(params_hash(&r));
    if (!code) code = score_write(r.score);
    if (!code) log_end(r.log, out, o);
    closed = log_close(r.log, o->log);
    if (!code) code = ranks_agree(closed);
    take_down(&r);
    if (code) run_free(out);
    return code;
}

void run_free(result *r)
{
    free(r->layers);
    json_decref(r->loader);
    memset(r, 0, sizeof *r);
}
