/* statistics.c : what a step cost and lost. At the end of a step one exchange adds the squared errors and norms of all layers
 * over the ranks, and sampled blocks (sample.h), and carries what codec=auto contributes; the relative errors
 * follow from the sums. */
#include "../../scheduler/budget.h"
#include "communicator.h"
#include <math.h>
#include <string.h>

/* ---- the exchange ---- */

static taut_status make_room(taut_comm *comm, size_t n)
{
    if (n <= comm->control_n) return TAUT_OK;
    n += n / 8; /* how many blocks are sampled differs a little from step to step */
    double *more = taut__alloc(n, sizeof *more);
    if (!more) return taut__fail(TAUT_E_NOMEM, "out of memory for the statistics of %zu layers", comm->layers);
    taut__free(comm->control);
    comm->control = more;
    comm->control_n = n;
    return TAUT_OK;
}

/* A layer's values: result, own and error, plain and, where they are not the plain ones in another unit, weighted; of one that never loses
 * anything only the result. */
typedef struct layer_values {
    bool   errs;
    size_t kinds, n;
} layer_values;

static layer_values values_of(const taut_layer *l)
{
    bool   errs = l->operand.lossy || l->automatic;
    size_t kinds = l->operand.tensor.scale_n > 1 ? 2 : 1;
    return (layer_values){errs, kinds, (errs ? 3 : 1) * kinds};
}

static size_t count_values(const taut_comm *comm)
{
    size_t n = 0;
    for (size_t i = 0; i < comm->layers; i++) n += values_of(comm->layer[i]).n;
    return n;
}

static size_t count_automatic(const taut_comm *comm)
{
    size_t n = 0;
    for (size_t i = 0; comm->autom && i < comm->layers; i++) n += comm->layer[i]->automatic;
    return n;
}

/* Norms travel in units of the last step's, as a power of two: those that are like them are the most precise. */
static double unit_of(const taut_layer *l, size_t kind)
{
    const taut__layer_sums *s = &l->shown;
    const taut_norm2       *of = s->own.plain > 0 ? &s->own : &s->sum;
    double                  norm = kind ? of->weighted : of->plain;
    int                     exponent;
    if (!(norm > 0) || !isfinite(norm)) return 1;
    frexp(norm, &exponent);
    return ldexp(1, exponent);
}

static bool called(const taut_layer *l) { return l->operand.calls != l->calls_at_step; }

static size_t fill(const taut_layer *l, double *v)
{
    const taut__step_record *r = &l->lost;
    layer_values             n = values_of(l);
    memset(v, 0, n.n * sizeof *v);
    if (!called(l)) return n.n;
    const double own[] = {r->own.plain, r->own.weighted}, sum[] = {r->sum.plain, r->sum.weighted};
    const double error[] = {r->error.plain + r->requantization_error.plain,
                            r->error.weighted + r->requantization_error.weighted};
    for (size_t k = 0; k < n.kinds; k++) {
        double by = 1 / unit_of(l, k);
        *v++ = by * sum[k];
        if (n.errs) *v++ = by * own[k], *v++ = by * error[k];
    }
    return n.n;
}

/* Sums that this step made of the layer; as all ranks have made them: the digest says so. */
static uint64_t sums_of(const taut_layer *l)
{
    return called(l) ? taut__max(l->operand.calls - l->calls_at_step - l->gathers, 1) : 0;
}

/* Has this rank sampled the last one's result? */
static bool sampled_here(const taut_layer *l)
{
    return l->sample.taken && l->operand.calls > l->calls_at_step + l->gathers;
}

/* Where one value is in the plain unit, the other is that one in the scale's. */
static size_t unfill(const taut_layer *l, const double *v, taut__layer_sums *s)
{
    layer_values  n = values_of(l);
    double        unit = l->operand.tensor.scale_n == 1
                             ? 1 / ((double)l->operand.tensor.scale[0] * (double)l->operand.tensor.scale[0])
                             : 1;
    double        own[2] = {0}, error[2] = {0}, sum[2] = {0};
    const double *at = v;
    for (size_t k = 0; k < n.kinds; k++) {
        double by = unit_of(l, k);
        sum[k] = by * *at++;
        if (n.errs) own[k] = by * *at++, error[k] = by * *at++;
    }
    if (n.kinds == 1) sum[1] = unit * sum[0], own[1] = unit * own[0], error[1] = unit * error[0];
    *s = (taut__layer_sums){.own = {own[0], own[1]},
                            .own_error = {error[0], error[1]},
                            .error = {error[0], error[1]},
                            .sum = {sum[0], sum[1]},
                            .called = called(l)};
    return n.n;
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
    return called(l) ? l->reduction.record.end_s - l->reduction.record.begin_s : INFINITY;
}

/* A norm of NaN says that some rank found NaN or Inf in the sum: for the plan, as before, what is finite counts. sampled: by all ranks.
 * Returns the values used. */
static size_t take(taut_layer *l, const double *v, bool sampled)
{
    taut__layer_measured m;
    size_t               n = unfill(l, v, &l->planned.step);
    l->comm->bad |= isnan(l->planned.step.sum.plain);
    if (isnan(l->planned.step.sum.plain)) l->planned.step.sum = (taut_norm2){0, 0};
    if (sampled && taut__sample_measure(l, &l->planned.step, (double)sums_of(l), &m))
        take_measured(&l->planned.step, &m);
    if (l->planned.step.called) l->shown = l->planned.step;
    return n;
}

static bool in_scale(const taut_layer *l)
{
    return l->operand.tensor.scale_n && l->comm->ctx.set.metric == TAUT_METRIC_OPTIMIZER;
}

static void add(taut__measured_sum *sum, double by, double value, double var)
{
    sum->value += by * value, sum->var += by * by * var;
}

static void relate(taut_comm *comm)
{
    taut__measured_sum error = {0}, norm = {0}, error_metric = {0}, norm_metric = {0};
    comm->measured = true;
    for (size_t i = 0; i < comm->layers; i++) {
        taut_layer             *l = comm->layer[i];
        const taut__layer_sums *s = &l->planned.step;
        double                  w = taut__layer_metric_weight(l);
        bool                    scaled = in_scale(l);
        if (!s->called) continue;
        l->sample.counts[0] = w * (scaled ? s->error.weighted : s->error.plain);
        l->sample.counts[1] = l->operand.lossy ? w * (scaled ? s->sum.weighted : s->sum.plain)
                                               : 0; /* what loses nothing has an exact norm */
        if (l->operand.lossy && !s->measured) comm->measured = false;
        add(&error, 1, s->error.plain, s->error_var.plain);
        add(&norm, 1, s->sum.plain, s->sum_var.plain);
        add(&error_metric, w, scaled ? s->error.weighted : s->error.plain,
            scaled ? s->error_var.weighted : s->error_var.plain);
        add(&norm_metric, w, scaled ? s->sum.weighted : s->sum.plain, scaled ? s->sum_var.weighted : s->sum_var.plain);
    }
    comm->rel_err2 = taut__relative(error, norm);
    comm->rel_err2_metric = taut__relative(error_metric, norm_metric);
    comm->planning.norm2 = norm_metric.value;
}

/* A step's values: of the layers, of the plan, seconds of which the least is taken, and whether a layer was sampled by all; then samples. */
typedef struct parcel {
    size_t             layers, extra, automatic, floats;
    taut__contribution plan;
    taut__step_sums    sums;
    size_t             in_room; /* bytes of what may be received */
    uint8_t           *wire, *in;
} parcel;

static taut_status list_runs(taut_comm *comm, parcel *p)
{
    enum { OTHERS = 6 }; /* besides samples */
    size_t n = 0, most = OTHERS + taut__sample_runs(comm, NULL, &p->floats);
    if (most > comm->run_n && !taut__grow(&comm->run, 0, most + most / 8, sizeof *comm->run))
        return taut__fail(TAUT_E_NOMEM, "out of memory for the statistics of %zu layers", comm->layers);
    if (most > comm->run_n) comm->run_n = most + most / 8;
    p->layers = count_values(comm), p->automatic = count_automatic(comm);
    if (comm->plans) comm->hooks->contribute(comm->autom, NULL, &p->plan);
    p->extra = p->plan.exact + p->plan.shorts + p->plan.codes;
    comm->run[n++] = (taut__run){TAUT_AS_CODE, (uint32_t)p->layers};
    comm->run[n++] = (taut__run){TAUT_AS_DOUBLE, (uint32_t)p->plan.exact};
    comm->run[n++] = (taut__run){TAUT_AS_SHORT, (uint32_t)p->plan.shorts};
    comm->run[n++] = (taut__run){TAUT_AS_CODE, (uint32_t)p->plan.codes};
    comm->run[n++] = (taut__run){TAUT_AS_LEAST, (uint32_t)p->automatic};
    comm->run[n++] = (taut__run){TAUT_AS_ALL, (uint32_t)comm->layers};
    n += taut__sample_runs(comm, comm->run + n, &p->floats);
    p->sums.run = comm->run, p->sums.runs = n;
    return TAUT_OK;
}

/* Memory: values, floats, then bytes: what is sent; what is received, of a rank whose vector is longer, too; and, if zeros are left out, what it is made of. */
static taut_status prepare(taut_comm *comm, parcel *p)
{
    enum { LONGER = 4096 };
    TAUT_TRY(list_runs(comm, p));
    size_t values = p->layers + p->extra + p->automatic + comm->layers;
    size_t floats = taut__ceil_div(p->floats, 2), bytes = taut__step_bytes(p->sums.run, p->sums.runs), room;
    p->sums.squeezed = p->plan.rare || comm->sampling.apart;
    room = p->sums.squeezed ? taut__step_room(bytes) : bytes;
    p->in_room = room + room / 8 + LONGER;
    TAUT_TRY(make_room(comm, values + floats +
                                 taut__ceil_div(room + p->in_room + (p->sums.squeezed ? bytes : 0), sizeof(double))));
    p->sums.values = comm->control;
    p->sums.floats = (float *)(void *)(comm->control + values);
    p->wire = (uint8_t *)(comm->control + values + floats), p->in = p->wire + room;
    p->sums.flat = p->in + p->in_room;
    return taut__sample_room(comm);
}

/* At the front a digest of what this rank did, which must be everybody's. */
static taut_status exchange(taut_comm *comm, parcel *p)
{
    taut__small_allreduce x;
    p->sums.seed = taut__seed(comm->steps, 0x3a17); /* not of what ranks compare: how a scale was given is no matter */
    taut__step_words(&p->sums, taut__handshake_digest(comm));
    taut__small_allreduce_begin(&x, &comm->ctx.all, TAUT_TAG_STEP, p->wire, p->in, p->in_room, NULL, NULL);
    x.sums = &p->sums;
    double      begin = taut__now();
    taut_status s = taut__engine_exchange(&comm->ctx.engine, &x, "taut_step_end");
    comm->exposed_s += taut__now() - begin;
    comm->control_sent += x.sent;
    return s != TAUT_OK || p->sums.word[0] == p->sums.word[1] ? s : taut__handshake_step(comm);
}

/* Of what the budget is held against. */
static double noise(const taut_comm *comm)
{
    const taut__interval *e = &comm->rel_err2_metric;
    return comm->measured && e->value > 0 ? (e->high - e->value) / (TAUT_SIGMAS * e->value) : 0;
}

/* What a step's exchange takes besides samples and what rides in it once in a while, in bytes. */
static double usual_bytes(const taut_comm *comm, const parcel *p)
{
    return TAUT_STEP_WORDS * sizeof(uint32_t) + (double)(p->layers + p->automatic) * sizeof(uint16_t) +
           (double)comm->layers / 8 + (double)p->plan.usual;
}

static void close_step(taut_comm *comm, const parcel *p)
{
    comm->steps++;
    comm->stepped = true;
    comm->sampling.apart = comm->planning.apart;
    comm->planning.apart = false;
    taut__sample_agree(comm, usual_bytes(comm, p), noise(comm));
    for (size_t i = 0; i < comm->layers; i++) {
        taut_layer *l = comm->layer[i];
        l->dropping = l->operand.calls != l->calls_at_step;
        if (l->planned.step.called && l->operand.feedback_on)
            l->residual_all = l->planned.step.own_error.plain; /* what codecs lost is what waits */
        l->calls_at_step = l->operand.calls;
        l->starts_at_step = atomic_load_explicit(&l->starts, memory_order_relaxed);
        l->ops = 0;
        l->gathers = 0;
        l->sample.taken = false;
        l->sample.scattered = l->operand.sharded;
    }
    if (comm->bad) taut__drop_step(comm);
}

/* Adds over all ranks what this step measured. */
static taut_status collect(taut_comm *comm, parcel *p)
{
    TAUT_TRY(prepare(comm, p));
    double *v = p->sums.values, *least, *sampled;
    for (size_t i = 0; i < comm->layers; i++) v += fill(comm->layer[i], v);
    if (comm->plans) {
        taut__planned_before(comm);
        comm->hooks->contribute(comm->autom, v, &p->plan);
    }
    least = v + p->extra, sampled = least + p->automatic;
    for (size_t i = 0, k = 0; i < comm->layers; i++)
        if (comm->layer[i]->automatic) least[k++] = own_seconds(comm->layer[i]);
    for (size_t i = 0; i < comm->layers; i++) sampled[i] = sampled_here(comm->layer[i]);
    taut__sample_put(comm, p->sums.floats);
    TAUT_TRY(exchange(comm, p));
    comm->bad = false;
    taut__sample_take(comm, p->sums.floats);
    v = p->sums.values;
    for (size_t i = 0; i < comm->layers; i++) v += take(comm->layer[i], v, sampled[i] > 0);
    for (size_t i = 0, k = 0; i < comm->layers; i++)
        if (comm->layer[i]->automatic) comm->layer[i]->planned.step.seconds = least[k++];
    relate(comm);
    return TAUT_OK;
}

taut_status taut__step_exchange(taut_comm *comm)
{
    parcel p = {0};
    TAUT_TRY(collect(comm, &p));
    if (comm->plans) {
        taut__planned_after(comm);
        taut_status s = comm->hooks->on_step_end(comm->autom, comm->steps, p.sums.values + p.layers, p.extra);
        if (s == TAUT_OK) s = taut__planned_apply(comm);
        TAUT_TRY(taut__engine_tell(&comm->ctx.engine, s));
    }
    close_step(comm, &p);
    return TAUT_OK;
}

/* ---- what the program may ask ---- */

/* With the engine held. On a device, behind what its stream holds, which is waited for. */
static double residual_norm2(const taut_layer *l)
{
    if (!l->operand.feedback || !l->operand.residual) return 0;
    const float *r = l->operand.feedback->r;
    size_t       n = l->operand.tensor.elems;
    return taut__layer_at_home(l) ? taut__norm2(&l->operand.tensor, r, 0, n).plain
                                  : taut__placed_norms(&l->reduction, r, 0, n, NULL).plain;
}

static const char *algorithm_name(const taut_layer *l)
{
    const taut__algorithm *via = l->reduction.via;
    if (l->bucket && !via) return "fused";
    if (!via && taut__algorithm_for(&l->comm->ctx, &l->operand, &l->operand.wire, &via) != TAUT_OK) return "";
    return via->name;
}

/* A caller of an older library's header gets the fields that it knows. */
static void hand_over(void *dst, size_t size, const void *src, size_t known)
{
    size_t n = size < known ? size : known;
    memcpy((char *)dst + sizeof(size_t), (const char *)src + sizeof(size_t), n - sizeof(size_t));
}

/* Of a small layer: what its bucket lost, all members together. */
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
    s->measured = m->measured || !l->operand.lossy;
}

taut_status taut_layer_get_stats(const taut_layer *l, taut_layer_stats *stats)
{
    if (!l || !stats || stats->size < sizeof stats->size)
        return taut__fail(TAUT_E_INVALID, "taut_layer_get_stats: layer or stats is NULL, or stats.size is not set");
    taut__engine *e = (taut__engine *)(uintptr_t)&l->comm->ctx.engine;
    taut__engine_hold(e); /* the communication thread may be about to complete a collective */
    taut_layer_stats s = {.elements = l->operand.tensor.elems,
                          .calls = l->operand.calls,
                          .bytes_sent = l->bytes_sent,
                          .bytes_dense = l->bytes_dense};
    memcpy(s.name, l->name, sizeof s.name);
    const taut_layer *carrier = taut__fuse_carrier(l);
    taut__spec_print(&carrier->spec, s.codec, sizeof s.codec);
    strncpy(s.algorithm, algorithm_name(l), sizeof s.algorithm - 1);
    const taut__step_record *r = &l->lost;
    s.bits_per_element = r->encoded > 0 ? 8.0 * (double)r->payload_bytes / (double)r->encoded : 0;
    s.residual_norm2 = residual_norm2(l);
    show_error(carrier, &s);
    taut__engine_release(e);
    hand_over(stats, stats->size, &s, sizeof s);
    return TAUT_OK;
}

taut_status taut_comm_get_stats(const taut_comm *comm, taut_comm_stats *stats)
{
    if (!comm || !stats || stats->size < sizeof stats->size)
        return taut__fail(TAUT_E_INVALID, "taut_comm_get_stats: comm or stats is NULL, or stats.size is not set");
    uint64_t        control = comm->control_sent;
    taut_comm_stats s = {.steps = comm->steps,
                         .bytes_sent = control + comm->planning.probe_sent,
                         .bytes_probes = comm->planning.probe_sent,
                         .bytes_dense = control,
                         .rel_err2 = comm->rel_err2.value,
                         .rel_err2_low = comm->rel_err2.low,
                         .rel_err2_high = comm->rel_err2.high,
                         .rel_err2_metric = comm->rel_err2_metric.value,
                         .rel_err2_metric_low = comm->rel_err2_metric.low,
                         .rel_err2_metric_high = comm->rel_err2_metric.high,
                         .measured = comm->measured,
                         .rel_err2_audit = comm->measured && comm->steps > 0 ? comm->rel_err2.value : -1,
                         .exposed_s = comm->exposed_s};
    taut__engine   *e = (taut__engine *)(uintptr_t)&comm->ctx.engine;
    taut__engine_hold(e); /* the communication thread may be about to complete a collective */
    for (size_t i = 0; i < comm->layers; i++) {
        s.bytes_sent += comm->layer[i]->bytes_sent;
        s.bytes_dense += comm->layer[i]->bytes_dense;
        s.codec_s += comm->layer[i]->codec_s;
    }
    taut__engine_release(e);
    s.comm_s = taut__engine_busy_s(e);
    if (comm->autom) comm->hooks->stats(comm->autom, &s);
    hand_over(stats, stats->size, &s, sizeof s);
    return TAUT_OK;
}
