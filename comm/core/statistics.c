/* statistics.c : what a step cost and lost. At the end of a step one exchange adds the squared errors and norms of all layers
 * over the ranks, and carries what codec=auto contributes; the relative errors follow from the sums. */
#include "../../scheduler/budget.h"
#include "communicator.h"
#include <math.h>
#include <string.h>

enum { PER_LAYER = 7 }; /* own, error, sum: plain and weighted; ranks that called */

/* ---- services of auto.h ---- */

size_t             taut__layer_index(const taut_layer *l) { return l->index; }
const char        *taut__layer_name(const taut_layer *l) { return l->name; }
const taut_tensor *taut__layer_tensor(const taut_layer *l) { return &l->tensor; }
const taut_spec   *taut__layer_spec(const taut_layer *l) { return &l->spec; }
const taut__layer_sums *taut__layer_step(const taut_layer *l) { return &l->step; }
const taut__audit  *taut__layer_audit(const taut_layer *l) { return &l->audit; }
const taut__group  *taut__comm_group(const taut_comm *comm) { return &comm->all; }
int                taut__comm_members(const taut_comm *comm) { return comm->hierarchical ? comm->leaders.size : comm->all.size; }

const taut__record *taut__layer_record(const taut_layer *l, bool *called)
{
    if (called) *called = l->calls > l->calls_at_step;
    return &l->job.record;
}

/* ---- audits: x of the layers that are armed, and a slot for each ---- */

static size_t audit_x_bytes(const taut_layer *l) { return taut__round_up(l->tensor.elems * sizeof(float), TAUT_LINE); }

static size_t prepare_audit(taut_layer *l)
{
    const taut__group *g = taut__group_of(l);
    if (!l->audit_armed || g->rank < 0) return 0;
    l->audit_slots = (taut__slots){0};
    taut__plain_sum_prepare(&l->audit_raw, g, l->job.tag + TAUT_TAG_AUDIT, TAUT_NUMBER_F32, l->tensor.elems, 64,
                      l->comm->set.c.slice_kib * (size_t)256, &l->audit_slots);
    return audit_x_bytes(l) + l->audit_slots.bytes;
}

static taut_status room_for_audits(taut_comm *comm, size_t bytes)
{
    if (bytes <= comm->audit_bytes) return TAUT_OK;
    taut__free(comm->audit);
    comm->audit_bytes = 0;
    comm->audit = taut__alloc(bytes, 1);
    if (!comm->audit) return taut__fail(TAUT_E_NOMEM, "audit: out of memory for %zu bytes", bytes);
    comm->audit_bytes = bytes;
    return TAUT_OK;
}

/* No collective is under way. */
static taut_status place_audits(taut_comm *comm)
{
    size_t bytes = 0, at = 0;
    for (size_t i = 0; i < comm->layers; i++) bytes += prepare_audit(comm->layer[i]);
    if (bytes == 0) return TAUT_OK;
    TAUT_TRY(room_for_audits(comm, bytes));
    for (size_t i = 0; i < comm->layers; i++) {
        taut_layer *l = comm->layer[i];
        if (!l->audit_armed || taut__group_of(l)->rank < 0) continue;
        l->audit_x = (float *)(void *)(comm->audit + at);
        at += audit_x_bytes(l);
        TAUT_TRY(taut__slots_open(&l->audit_slots, &comm->arena, comm->audit + at));
        at += l->audit_slots.bytes;
        TAUT_TRY(taut__comm_reserve(comm, &l->job.slots, l->audit_slots.requests + 2));
    }
    return TAUT_OK;
}

void taut__audit_arm(taut_layer *l) { l->audit_armed = true; }

taut_status taut__comm_sum(taut_comm *comm, double *v, size_t n)
{
    taut__small_allreduce x;
    double       *in = taut__alloc(n, sizeof *in);
    if (!in) return taut__fail(TAUT_E_NOMEM, "out of memory for %zu sums", n);
    taut__small_allreduce_begin(&x, &comm->all, TAUT_TAG_SUM, v, in, n * sizeof *v, taut__combine_mixed, NULL);
    taut_status s = taut__engine_exchange(&comm->engine, &x, "adding a few numbers over all ranks");
    taut__free(in);
    return s;
}

/* ---- the exchange ---- */

static taut_status room(taut_comm *comm, size_t n)
{
    if (n <= comm->control_n) return TAUT_OK;
    double *more = taut__alloc(2 * n, sizeof *more);
    if (!more) return taut__fail(TAUT_E_NOMEM, "out of memory for the statistics of %zu layers", comm->layers);
    taut__free(comm->control);
    comm->control = more;
    comm->control_n = n;
    return TAUT_OK;
}

static void fill(const taut_layer *l, double *v)
{
    const taut__record *r = &l->job.record;
    bool               called = l->calls > l->calls_at_step;
    memset(v, 0, PER_LAYER * sizeof *v);
    if (!called) return;
    v[0] = r->own.plain, v[1] = r->own.weighted;
    v[2] = r->error.plain + r->requantization_error.plain, v[3] = r->error.weighted + r->requantization_error.weighted;
    v[4] = r->sum.plain, v[5] = r->sum.weighted;
    if (taut__spec_caps(&l->wire) & (TAUT_CAP_SPARSE | TAUT_CAP_LINEAR)) /* what is left out is orthogonal to what is sent */
        v[4] += v[2], v[5] += v[3];
    v[6] = 1;
}

/* What this layer's collective took here, peers' lateness included; the least over ranks is without it. */
static double own_seconds(const taut_layer *l)
{
    return l->calls > l->calls_at_step ? l->job.record.end_s - l->job.record.begin_s : INFINITY;
}

static void take(taut_layer *l, const double *v)
{
    l->step = (taut__layer_sums){.own = {v[0], v[1]}, .error = {v[2], v[3]}, .sum = {v[4], v[5]}, .called = v[6] > 0};
    if (l->step.called) l->shown = l->step;
}

/* How much a layer's squared errors count. optimizer: the scale already divides them; without one, as layer does. */
static double weight(const taut_layer *l)
{
    taut__metric m;
    if (taut__metric_parse(l->comm->set.c.metric, &m) != TAUT_OK || m == TAUT_METRIC_PLAIN) return 1;
    if (m == TAUT_METRIC_OPTIMIZER && l->tensor.scale_n) return 1;
    return taut__layer_weight(l->tensor.elems, l->step.sum.plain, l->step.own.plain);
}

static bool in_scale(const taut_layer *l) { return l->tensor.scale_n && l->comm->set.c.metric[0] == 'o'; }

static void relate(taut_comm *comm)
{
    double error = 0, sum = 0, error_metric = 0, sum_metric = 0;
    for (size_t i = 0; i < comm->layers; i++) {
        const taut_layer *l = comm->layer[i];
        double            w = weight(l);
        if (!l->step.called) continue;
        error += l->step.error.plain, sum += l->step.sum.plain;
        error_metric += w * (in_scale(l) ? l->step.error.weighted : l->step.error.plain);
        sum_metric += w * (in_scale(l) ? l->step.sum.weighted : l->step.sum.plain);
    }
    comm->rel_err2 = sum > 0 ? error / sum : 0;
    comm->rel_err2_metric = sum_metric > 0 ? error_metric / sum_metric : 0;
}

/* sums: doubles to be added; of those that follow the least is taken. */
static taut_status exchange(taut_comm *comm, size_t n, size_t sums)
{
    taut__small_allreduce x;
    taut__mixed           mixed = {.sums = sums, .least = n - sums};
    taut__small_allreduce_begin(&x, &comm->all, TAUT_TAG_STEP, comm->control, comm->control + n, n * sizeof *comm->control,
                         taut__combine_mixed, &mixed);
    double      begin = taut__now();
    taut_status s = taut__engine_exchange(&comm->engine, &x, "taut_step_end");
    comm->exposed_s += taut__now() - begin;
    comm->control_sent += x.sent;
    return s;
}

taut_status taut__step_exchange(taut_comm *comm)
{
    size_t layers = comm->layers * PER_LAYER, extra = comm->autom ? comm->hooks->contribute(comm->autom, NULL, 0) : 0;
    size_t sums = layers + extra, n = sums + (comm->autom ? comm->layers : 0);
    TAUT_TRY(room(comm, n));
    for (size_t i = 0; i < comm->layers; i++) fill(comm->layer[i], comm->control + i * PER_LAYER);
    if (comm->autom) comm->hooks->contribute(comm->autom, comm->control + layers, extra);
    for (size_t i = 0; comm->autom && i < comm->layers; i++) comm->control[sums + i] = own_seconds(comm->layer[i]);
    TAUT_TRY(exchange(comm, n, sums));
    for (size_t i = 0; i < comm->layers; i++) take(comm->layer[i], comm->control + i * PER_LAYER);
    for (size_t i = 0; comm->autom && i < comm->layers; i++) comm->layer[i]->step.seconds = comm->control[sums + i];
    relate(comm);
    if (comm->autom) {
        taut_status s = comm->hooks->on_step_end(comm->autom, comm->steps, comm->control + layers, extra);
        taut__engine_hold(&comm->engine); /* requests are shared with the communication thread */
        if (s == TAUT_OK) s = place_audits(comm);
        taut__engine_release(&comm->engine);
        if (s != TAUT_OK) return taut__engine_fail(&comm->engine, s, taut_last_error());
    }
    comm->steps++;
    for (size_t i = 0; i < comm->layers; i++) {
        comm->layer[i]->calls_at_step = comm->layer[i]->calls;
        comm->layer[i]->audit.done = false;
    }
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

taut_status taut_layer_get_stats(const taut_layer *l, taut_layer_stats *stats)
{
    if (!l || !stats || stats->size < sizeof stats->size)
        return taut__fail(TAUT_E_INVALID, "taut_layer_get_stats: layer or stats is NULL, or stats.size is not set");
    taut_layer_stats s = {.elements = l->tensor.elems, .calls = l->calls, .bytes_sent = l->bytes_sent, .bytes_dense = l->bytes_dense};
    memcpy(s.name, l->name, sizeof s.name);
    taut__spec_print(&l->spec, s.codec, sizeof s.codec);
    strncpy(s.algorithm, algorithm_name(l), sizeof s.algorithm - 1);
    const taut__record *r = &l->job.record;
    s.bits_per_element = r->encoded > 0 ? 8.0 * (double)r->payload_bytes / (double)r->encoded : 0;
    s.rel_err2 = l->shown.sum.plain > 0 ? l->shown.error.plain / l->shown.sum.plain : 0;
    s.rel_err2_metric = in_scale(l) && l->shown.sum.weighted > 0 ? l->shown.error.weighted / l->shown.sum.weighted : s.rel_err2;
    s.residual_norm2 = residual_norm2(l);
    hand_over(stats, stats->size, &s, sizeof s);
    return TAUT_OK;
}

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
    taut_comm_stats s = {.steps = comm->steps, .bytes_sent = comm->control_sent, .bytes_dense = comm->control_sent,
                         .rel_err2 = comm->rel_err2, .rel_err2_metric = comm->rel_err2_metric, .rel_err2_audit = -1,
                         .exposed_s = comm->exposed_s};
    for (size_t i = 0; i < comm->layers; i++) {
        s.bytes_sent += comm->layer[i]->bytes_sent;
        s.bytes_dense += comm->layer[i]->bytes_dense;
    }
    s.comm_s = taut__comm_busy_s(comm);
    if (comm->autom) comm->hooks->stats(comm->autom, &s);
    hand_over(stats, stats->size, &s, sizeof s);
    return TAUT_OK;
}
