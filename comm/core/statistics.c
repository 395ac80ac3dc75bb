/* statistics.c : what a step cost and lost. At the end of a step one exchange adds the squared errors and norms of all layers
 * over the ranks, and the exact sums of sampled blocks (sample.h), and carries what codec=auto contributes; the relative errors
 * follow from the sums. */
#include "../../scheduler/budget.h"
#include "communicator.h"
#include <math.h>
#include <string.h>

enum { PER_LAYER = 8 }; /* own, error, result: plain and weighted; ranks that called; ranks that sampled the result */

/* ---- services of auto.h ---- */

size_t             taut__layer_index(const taut_layer *l) { return l->index; }
const char        *taut__layer_name(const taut_layer *l) { return l->name; }
const taut_tensor *taut__layer_tensor(const taut_layer *l) { return &l->tensor; }
const taut_spec   *taut__layer_spec(const taut_layer *l) { return &l->spec; }
const taut__layer_sums *taut__layer_step(const taut_layer *l) { return &l->step; }
const taut__group  *taut__comm_group(const taut_comm *comm) { return &comm->all; }
int                taut__comm_members(const taut_comm *comm) { return comm->hierarchical ? comm->leaders.size : comm->all.size; }

const taut__record *taut__layer_record(const taut_layer *l, bool *called)
{
    if (called) *called = l->calls > l->calls_at_step;
    return &l->job.record;
}

taut_status taut__comm_sum(taut_comm *comm, double *v, size_t n)
{
    taut__small_allreduce x;
    double       *in = taut__alloc(n, sizeof *in);
    if (!in) return taut__fail(TAUT_E_NOMEM, "out of memory for %zu sums", n);
    taut__small_allreduce_begin(&x, &comm->all, TAUT_TAG_SUM, v, in, n * sizeof *v, taut__combine_mixed, NULL);
    taut_status s = taut__engine_exchange(&comm->engine, &x, "adding a few numbers over all ranks");
    if (!comm->t->dirty) taut__free(in); /* else a late message may still be written there */
    return s;
}

/* ---- the exchange ---- */

static taut_status room(taut_comm *comm, size_t n)
{
    if (n <= comm->control_n) return TAUT_OK;
    n += n / 8; /* how many blocks are sampled differs a little from step to step */
    double *more = taut__alloc(2 * n, sizeof *more);
    if (!more) return taut__fail(TAUT_E_NOMEM, "out of memory for the statistics of %zu layers", comm->layers);
    taut__free(comm->control);
    comm->control = more;
    comm->control_n = n;
    return TAUT_OK;
}

static void fill(const taut_layer *l, double *v)
{
    const taut__step_record *r = &l->lost;
    bool                     called = l->calls > l->calls_at_step;
    memset(v, 0, PER_LAYER * sizeof *v);
    if (!called) return;
    v[0] = r->own.plain, v[1] = r->own.weighted;
    v[2] = r->error.plain + r->requantization_error.plain, v[3] = r->error.weighted + r->requantization_error.weighted;
    v[4] = r->sum.plain, v[5] = r->sum.weighted;
    v[6] = 1;
    v[7] = l->sample.taken && l->calls == l->calls_at_step + 1; /* samples are of one collective, errors of all */
}

static void take_measured(taut__layer_sums *s, const taut__layer_measured *m)
{
    s->error = (taut_norm2){m->error[0].value, m->error[1].value};
    s->error_var = (taut_norm2){m->error[0].var, m->error[1].var};
    s->sum = (taut_norm2){m->norm[0].value, m->norm[1].value};
    s->sum_var = (taut_norm2){m->norm[0].var, m->norm[1].var};
    s->measured = true;
}

/* What this layer's collective took here, peers' lateness included; the least over ranks is without it. */
static double own_seconds(const taut_layer *l)
{
    return l->calls > l->calls_at_step ? l->job.record.end_s - l->job.record.begin_s : INFINITY;
}

/* A norm of NaN says that some rank found NaN or Inf in the sum: for the plan, as before, what is finite counts. */
static void take(taut_layer *l, double *v)
{
    l->comm->bad |= isnan(v[4]);
    if (isnan(v[4])) v[4] = v[5] = 0;
    taut__layer_measured m;
    l->step = (taut__layer_sums){.own = {v[0], v[1]}, .own_error = {v[2], v[3]}, .error = {v[2], v[3]}, .sum = {v[4], v[5]}, .called = v[6] > 0};
    if ((int)v[7] == l->comm->all.size && taut__sample_measure(l, &l->step, &m)) take_measured(&l->step, &m);
    if (l->step.called) l->shown = l->step;
}

/* optimizer: the scale, which is one of means, already divides them; layers without one count as under `layer`, of means. */
double taut__layer_metric_weight(const taut_layer *l)
{
    int32_t m = l->comm->set.metric;
    double  p = l->comm->all.size, means = m == TAUT_METRIC_OPTIMIZER ? p * p : 1;
    if (m == TAUT_METRIC_PLAIN) return 1;
    if (m == TAUT_METRIC_OPTIMIZER && l->tensor.scale_n) return 1;
    return means * taut__layer_weight(l->tensor.elems, l->step.sum.plain, l->step.own.plain > 0 ? l->step.own.plain : l->step.sum.plain);
}

double taut__comm_norm2(const taut_comm *comm) { return comm->norm2_metric; }

static bool in_scale(const taut_layer *l) { return l->tensor.scale_n && l->comm->set.metric == TAUT_METRIC_OPTIMIZER; }

static void add(taut__measured_sum *sum, double by, double value, double var) { sum->value += by * value, sum->var += by * by * var; }

static void relate(taut_comm *comm)
{
    taut__measured_sum error = {0}, norm = {0}, error_metric = {0}, norm_metric = {0};
    comm->measured = true;
    for (size_t i = 0; i < comm->layers; i++) {
        const taut_layer       *l = comm->layer[i];
        const taut__layer_sums *s = &l->step;
        double                  w = taut__layer_metric_weight(l);
        bool                    scaled = in_scale(l);
        if (!s->called) continue;
        if (l->lossy && !s->measured) comm->measured = false;
        add(&error, 1, s->error.plain, s->error_var.plain);
        add(&norm, 1, s->sum.plain, s->sum_var.plain);
        add(&error_metric, w, scaled ? s->error.weighted : s->error.plain, scaled ? s->error_var.weighted : s->error_var.plain);
        add(&norm_metric, w, scaled ? s->sum.weighted : s->sum.plain, scaled ? s->sum_var.weighted : s->sum_var.plain);
    }
    comm->rel_err2 = taut__relative(error, norm);
    comm->rel_err2_metric = taut__relative(error_metric, norm_metric);
    comm->norm2_metric = norm_metric.value;
}

/* At the front the digest of what this rank did, which must be everybody's: its AND and OR; then doubles, of them the last `least` of
 * which the least is taken; then floats. room_n: doubles of room. */
static taut_status exchange(taut_comm *comm, size_t doubles, size_t least, size_t floats, size_t room_n)
{
    taut__small_allreduce x;
    taut__sums            sums = {doubles - least, least};
    uint64_t              digest = taut__handshake_digest(comm), word[TAUT_SUMS_WORDS] = {digest, digest};
    memcpy(comm->control, word, sizeof word);
    taut__small_allreduce_begin(&x, &comm->all, TAUT_TAG_STEP, comm->control, comm->control + room_n,
                                sizeof word + doubles * sizeof(double) + floats * sizeof(float), taut__combine_sums, &sums);
    x.room = room_n * sizeof(double);
    double      begin = taut__now();
    taut_status s = taut__engine_exchange(&comm->engine, &x, "taut_step_end");
    comm->exposed_s += taut__now() - begin;
    comm->control_sent += x.sent;
    memcpy(word, comm->control, sizeof word);
    return s != TAUT_OK || word[0] == word[1] ? s : taut__handshake_step(comm);
}

static void close_step(taut_comm *comm)
{
    comm->steps++;
    comm->stepped = true;
    comm->sampling.apart = comm->sampling.apart_next;
    comm->sampling.apart_next = false;
    taut__sample_agree(comm, comm->layers);
    for (size_t i = 0; i < comm->layers; i++) {
        taut_layer *l = comm->layer[i];
        l->dropping = l->calls != l->calls_at_step;
        l->calls_at_step = l->calls;
        l->ops = 0;
        l->sample.taken = false;
    }
    if (comm->bad) taut__drop_step(comm);
}

/* Adds over all ranks what this step measured. */
static taut_status collect(taut_comm *comm, size_t extra)
{
    size_t  layers = comm->layers * PER_LAYER, sums = layers + extra, least = comm->autom ? comm->layers : 0, n = sums + least;
    size_t  floats = taut__sample_floats(comm), all = TAUT_SUMS_WORDS + n + taut__ceil_div(floats, 2);
    double *v;
    TAUT_TRY(room(comm, all));
    TAUT_TRY(taut__sample_room(comm));
    v = comm->control + TAUT_SUMS_WORDS;
    for (size_t i = 0; i < comm->layers; i++) fill(comm->layer[i], v + i * PER_LAYER);
    if (comm->autom) comm->hooks->contribute(comm->autom, v + layers, extra);
    for (size_t i = 0; i < least; i++) v[sums + i] = own_seconds(comm->layer[i]);
    taut__sample_put(comm, (float *)(void *)(v + n));
    TAUT_TRY(exchange(comm, n, least, floats, all));
    comm->bad = false;
    taut__sample_take(comm, (const float *)(const void *)(v + n));
    for (size_t i = 0; i < comm->layers; i++) take(comm->layer[i], v + i * PER_LAYER);
    for (size_t i = 0; i < least; i++) comm->layer[i]->step.seconds = v[sums + i];
    relate(comm);
    return TAUT_OK;
}

taut_status taut__step_exchange(taut_comm *comm)
{
    size_t extra = comm->autom ? comm->hooks->contribute(comm->autom, NULL, 0) : 0;
    TAUT_TRY(collect(comm, extra));
    if (comm->autom) {
        taut_status s = comm->hooks->on_step_end(comm->autom, comm->steps, comm->control + TAUT_SUMS_WORDS + comm->layers * PER_LAYER, extra);
        if (s != TAUT_OK) return taut__engine_fail(&comm->engine, s, taut_last_error());
    }
    close_step(comm);
    return TAUT_OK;
}

/* ---- what the program may ask ---- */

static double residual_norm2(const taut_layer *l)
{
    if (!l->feedback || !l->residual) return 0;
    return taut__norm2(&l->tensor, l->feedback->r, 0, l->tensor.elems).plain;
}

static const char *algorithm_name(const taut_layer *l)
{
    const taut__algorithm *via = l->job.via;
    if (l->bucket && !via) return "fused";
    if (!via && taut__algorithm_for(l, &l->wire, &via) != TAUT_OK) return "";
    return via->name;
}

/* A caller of an older library's header gets the fields that it knows. */
static void hand_over(void *dst, size_t size, const void *src, size_t known)
{
    size_t n = size < known ? size : known;
    memcpy((char *)dst + sizeof(size_t), (const char *)src + sizeof(size_t), n - sizeof(size_t));
}

static void show_error(const taut_layer *l, taut_layer_stats *s)
{
    const taut__layer_sums *m = &l->shown;
    taut__measured_sum      error = {m->error.plain, m->error_var.plain}, norm = {m->sum.plain, m->sum_var.plain};
    taut__interval          plain = taut__relative(error, norm), metric = plain;
    if (in_scale(l)) {
        error = (taut__measured_sum){m->error.weighted, m->error_var.weighted};
        norm = (taut__measured_sum){m->sum.weighted, m->sum_var.weighted};
        metric = taut__relative(error, norm);
    }
    s->rel_err2 = plain.value, s->rel_err2_low = plain.low, s->rel_err2_high = plain.high;
    s->rel_err2_metric = metric.value, s->rel_err2_metric_low = metric.low, s->rel_err2_metric_high = metric.high;
    s->measured = m->measured || !l->lossy;
}

taut_status taut_layer_get_stats(const taut_layer *l, taut_layer_stats *stats)
{
    if (!l || !stats || stats->size < sizeof stats->size)
        return taut__fail(TAUT_E_INVALID, "taut_layer_get_stats: layer or stats is NULL, or stats.size is not set");
    taut__engine *e = (taut__engine *)(uintptr_t)&l->comm->engine;
    taut__engine_hold(e); /* the communication thread may be about to complete a collective */
    taut_layer_stats s = {.elements = l->tensor.elems, .calls = l->calls, .bytes_sent = l->bytes_sent, .bytes_dense = l->bytes_dense};
    memcpy(s.name, l->name, sizeof s.name);
    taut__spec_print(&l->spec, s.codec, sizeof s.codec);
    strncpy(s.algorithm, algorithm_name(l), sizeof s.algorithm - 1);
    const taut__step_record *r = &l->lost;
    s.bits_per_element = r->encoded > 0 ? 8.0 * (double)r->payload_bytes / (double)r->encoded : 0;
    s.residual_norm2 = residual_norm2(l);
    show_error(l, &s);
    taut__engine_release(e);
    hand_over(stats, stats->size, &s, sizeof s);
    return TAUT_OK;
}

double taut__comm_exposed_s(const taut_comm *comm) { return comm->exposed_s; }

double taut__comm_busy_s(const taut_comm *comm)
{
    taut__engine *e = (taut__engine *)(uintptr_t)&comm->engine;
    pthread_mutex_lock(&e->lock);
    double s = e->busy_s + (e->active ? taut__now() - e->busy_since : 0);
    pthread_mutex_unlock(&e->lock);
    return s;
}

taut_status taut_comm_get_stats(const taut_comm *comm, taut_comm_stats *stats)
{
    if (!comm || !stats || stats->size < sizeof stats->size)
        return taut__fail(TAUT_E_INVALID, "taut_comm_get_stats: comm or stats is NULL, or stats.size is not set");
    taut_comm_stats s = {.steps = comm->steps, .bytes_sent = comm->control_sent + comm->probe_sent, .bytes_probes = comm->probe_sent,
                         .bytes_dense = comm->control_sent,
                         .rel_err2 = comm->rel_err2.value, .rel_err2_low = comm->rel_err2.low, .rel_err2_high = comm->rel_err2.high,
                         .rel_err2_metric = comm->rel_err2_metric.value, .rel_err2_metric_low = comm->rel_err2_metric.low,
                         .rel_err2_metric_high = comm->rel_err2_metric.high, .measured = comm->measured,
                         .rel_err2_audit = comm->measured && comm->steps > 0 ? comm->rel_err2.value : -1, .exposed_s = comm->exposed_s};
    taut__engine *e = (taut__engine *)(uintptr_t)&comm->engine;
    taut__engine_hold(e); /* the communication thread may be about to complete a collective */
    for (size_t i = 0; i < comm->layers; i++) {
        s.bytes_sent += comm->layer[i]->bytes_sent;
        s.bytes_dense += comm->layer[i]->bytes_dense;
    }
    taut__engine_release(e);
    s.comm_s = taut__comm_busy_s(comm);
    if (comm->autom) comm->hooks->stats(comm->autom, &s);
    hand_over(stats, stats->size, &s, sizeof s);
    return TAUT_OK;
}
