/* algorithms.c : the table of algorithms, which one carries a layer, and the phases around it. */
#include "../core/communicator.h"
#include <math.h>
#include <string.h>

static const taut__algorithm *const table[] = {&taut__native, &taut__linear, &taut__sra, &taut__ring, &taut__gather};
enum { ALGORITHMS = sizeof table / sizeof *table };

const taut__algorithm *taut__algorithm_by_name(const char *name)
{
    for (size_t i = 0; i < ALGORITHMS; i++)
        if (strcmp(table[i]->name, name) == 0) return table[i];
    return NULL;
}

/* Of the setting; NULL: auto. */
static const taut__algorithm *chosen(const taut__settings *set)
{
    switch (set->algorithm) {
    case TAUT_ALGORITHM_NATIVE: return &taut__native;
    case TAUT_ALGORITHM_SRA: return &taut__sra;
    case TAUT_ALGORITHM_RING: return &taut__ring;
    case TAUT_ALGORITHM_GATHER: return &taut__gather;
    default: return NULL;
    }
}

const taut__algorithm *taut__automatic(const taut_spec *spec, int members)
{
    const taut_codec *codec = taut__spec_codec(spec);
    uint32_t          caps = taut__spec_caps(spec);
    if (caps & TAUT_CAP_LOSSLESS) return &taut__native;
    if (codec->linear) return &taut__linear;
    return caps & TAUT_CAP_SLICEABLE && members != 2 ? &taut__sra : &taut__gather;
}

const taut__group *taut__group_of(const taut_layer *l)
{
    return l->comm->hierarchical && l->dtype == TAUT_F32 && !l->sharded ? &l->comm->leaders : &l->comm->all;
}

/* What codes whole tensors, or spreads codes that were never agreed on, is not for layers with sharded collectives. */
static bool needs_whole(const taut__algorithm *a, const taut_spec *spec)
{
    return a == &taut__gather || (a == &taut__native && taut__spec_codec(spec)->integer);
}

/* algorithm=native means a native sum wherever codes can be added; otherwise the name is meant as it stands, except for
 * layers with sharded collectives: their ranks want, or have, one part, which sra brings or spreads. */
taut_status taut__algorithm_for(const taut_layer *l, const taut_spec *spec, const taut__algorithm **via)
{
    const taut__algorithm *a = chosen(&l->comm->set);
    bool                  sharded = l->sharded && taut__spec_caps(spec) & TAUT_CAP_SLICEABLE;
    *via = taut__automatic(spec, taut__group_of(l)->size);
    if (sharded && needs_whole(a ? a : *via, spec)) *via = a = &taut__sra;
    if (!a) return TAUT_OK;
    if (a == &taut__native && taut__spec_codec(spec)->linear) a = &taut__linear;
    const char *why = a->cannot ? a->cannot(spec) : NULL;
    if (why) {
        char text[96];
        taut__spec_print(spec, text, sizeof text);
        return taut__fail(TAUT_E_UNSUPPORTED, "algorithm=%s cannot carry %s: %s; use auto", l->comm->set.c.algorithm, text, why);
    }
    *via = a;
    return TAUT_OK;
}

/* ---- life of a job ---- */

static bool shared(const taut_spec *spec) { return taut__spec_caps(spec) & TAUT_CAP_GLOBAL_STATS; }

static void stop(taut__job *job)
{
    if (job->via && job->via->cancel) job->via->cancel(job);
    taut__plain_sum_cancel(&job->raw);
    taut__small_allreduce_cancel(&job->exchange);
    taut__hier_cancel(job);
}

/* With a hierarchy leaders wait for other leaders, who may wait for their own hosts. */
static int waiting_for(const taut__job *job, int *hops)
{
    *hops += job->g != &job->comm->all;
    switch (job->phase) {
    case TAUT_PHASE_AGREE: return taut__small_allreduce_waiting_for(&job->exchange, hops);
    case TAUT_PHASE_RAW: return taut__plain_sum_waiting_for(&job->raw, hops);
    case TAUT_PHASE_REDUCE: return job->via->waiting_for ? job->via->waiting_for(job, hops) : -1;
    case TAUT_PHASE_LOCAL_SUM:
    case TAUT_PHASE_LOCAL_COPY: return taut__hier_waiting_for(job, hops);
    default: return -1;
    }
}

taut_status taut__job_init(taut__job *job, taut_layer *layer)
{
    job->comm = layer->comm;
    job->layer = layer;
    job->name = layer->name;
    job->priority = (uint32_t)layer->index;
    job->needs = layer->index + 1;
    job->step = taut__job_step;
    job->stop = stop;
    job->waiting_for = waiting_for;
    atomic_init(&job->state, TAUT_JOB_IDLE);
    return taut__comm_tags(layer->comm, &job->tag);
}

void taut__job_release(taut__job *job)
{
    if (job->via && job->work) job->via->release(job);
    taut__hier_release(job);
    taut__agree_release(job);
    taut__slots_release(&job->slots);
    job->work = NULL;
    job->via = NULL;
    job->raw = (taut__plain_sum){0};
}

size_t taut__coded_slots(const taut__job *job, size_t slices)
{
    return taut__slots_for(slices, (size_t)taut__executor_threads(job->comm->pool));
}

static size_t common_block(size_t a, size_t b) { return a % b == 0 ? a : b % a == 0 ? b : a * b; }

/* Parts cannot be coded alone by a codec that codes whole tensors, nor by sums of factors of them, which would add what lies
 * outside a rank's part: allgather then spreads parts as they are. */
static bool spreads_raw(const taut__job *job)
{
    return job->layer->sharded && (job->via == &taut__linear || !(taut__spec_caps(job->call.spec) & TAUT_CAP_SLICEABLE));
}

/* 16-bit numbers are spread as floats, beside the residual, which stays. */
static taut_status room_to_spread(const taut__job *job)
{
    taut_layer *l = job->layer;
    if (!spreads_raw(job) || l->dtype == TAUT_F32 || l->spread) return TAUT_OK;
    l->spread = taut__alloc(l->tensor.elems, sizeof *l->spread);
    return l->spread ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "%s: out of memory to spread its parts", job->name);
}

/* Whatever replaces the algorithm uses the same slots. */
static taut_status prepare_reduction(taut__job *job)
{
    taut_layer *l = job->layer;
    taut_comm  *comm = l->comm;
    size_t      n = l->tensor.elems, slice = comm->set.c.slice_kib * (size_t)256;
    job->part = taut__partition_of(n, job->g->size, common_block(l->block, taut__spec_align(&l->wire)), slice / TAUT_CODED_SLICE_DIV);
    TAUT_TRY(taut__agree_prepare(job));
    TAUT_TRY(taut__comm_scratch(comm, taut__min(n, slice)));
    TAUT_TRY(room_to_spread(job));
    if (job->g->size > 1) TAUT_TRY(job->via->prepare(job));
    if (shared(&l->wire) || job->g->size == 1 || spreads_raw(job))
        taut__plain_sum_prepare(&job->raw, job->g, job->tag, TAUT_NUMBER_F32, n, job->part.block, slice, &job->slots);
    return TAUT_OK;
}

taut_status taut__job_prepare(taut__job *job)
{
    taut_layer *l = job->layer;
    job->g = taut__group_of(l);
    job->call = (taut_call){.spec = &l->wire, .tensor = &l->tensor, .n = l->tensor.elems, .state = l->state};
    TAUT_TRY(taut__algorithm_for(l, &l->wire, &job->via));
    if (job->g->rank >= 0) TAUT_TRY(prepare_reduction(job)); /* else the leader of this host does it */
    if (job->g != &l->comm->all) TAUT_TRY(taut__hier_prepare(job));
    return taut__comm_slots(l->comm, &job->slots);
}

/* ---- phases ---- */

/* All of x is formed before any of it is encoded: the codec looks at the whole, or several threads
 * will encode while the plan wants to see slices one after the other. */
static bool forms_first(const taut__job *job)
{
    const taut_layer *l = job->layer;
    bool watched = taut__watched(l);
    return taut__agree_wanted(job->call.spec) ||
           (watched && (taut__executor_threads(l->comm->pool) > 1 || job->via == &taut__linear));
}

static taut_status enter(taut__job *job, taut__phase phase)
{
    job->phase = phase;
    job->phase_s = taut__now();
    if (phase == TAUT_PHASE_REDUCE) return job->via->begin(job);
    job->at = 0;
    return TAUT_OK;
}

static taut_status enter_reduce(taut__job *job)
{
    if (job->g->size == 1 || (job->prep.raw && shared(job->call.spec))) return enter(job, TAUT_PHASE_RAW);
    return enter(job, TAUT_PHASE_REDUCE);
}

static taut_status enter_own(taut__job *job)
{
    if (job->halves == TAUT_GATHER && job->g->size == 1) return enter(job, TAUT_PHASE_DONE);
    if (job->halves == TAUT_GATHER && spreads_raw(job)) return enter(job, TAUT_PHASE_RAW);
    bool first = job->halves != TAUT_GATHER && job->g->size > 1 && forms_first(job);
    return first ? enter(job, TAUT_PHASE_SURVEY) : enter_reduce(job);
}

taut_status taut__job_begin(taut__job *job, void *buf, int kind, taut__half halves, bool blocking)
{
    taut_layer *l = job->layer;
    job->buf = buf;
    job->kind = kind;
    job->halves = halves;
    job->blocking = blocking;
    job->factor = kind == TAUT_MEAN && halves != TAUT_GATHER ? 1.0f / (float)l->comm->all.size : 1.0f;
    job->formed = false;
    job->record = (taut__record){.begin_s = taut__now()};
    job->prep = (taut_prep){0};
    job->call.prep = NULL;
    job->call.state = l->state;
    job->call.shared_seed = taut__seed(l->seed, l->calls);
    job->call.seed = taut__seed(job->call.shared_seed, (uint64_t)(uint32_t)l->comm->all.rank + 1);
    taut__agree_begin(job);
    taut__sample_begin(job);
    return job->g != &l->comm->all ? enter(job, TAUT_PHASE_LOCAL_SUM) : enter_own(job);
}

static taut_status survey(taut__job *job)
{
    taut_layer  *l = job->layer;
    taut_comm   *comm = job->comm;
    double       begin = taut__now();
    taut__range   r = {job->at, taut__min(job->part.sub, job->call.n - job->at)};
    const float *x = taut__form(job, r.first, r.n);
    bool         settled = true;
    if (job->agree) TAUT_TRY(taut__agree_look(job, r, x));
    if (taut__watched(l) && !job->formed) comm->hooks->on_input(comm->autom, l, x, r.first, r.n);
    job->at += r.n;
    double end = taut__now();
    job->record.encode_s += end - begin;
    taut__trace_span(comm->trace, job, "survey", begin, end, 0);
    if (job->at < job->call.n) return TAUT_OK;
    job->formed = true;
    if (job->agree) TAUT_TRY(taut__agree_ask(job, &settled));
    return settled ? enter_reduce(job) : enter(job, TAUT_PHASE_AGREE);
}

/* Since the phase began, mostly messages. */
static void trace_phase(taut__job *job, uint64_t bytes)
{
    taut__trace_span(job->comm->trace, job, "wire", job->phase_s, taut__now(), bytes);
}

static taut_status agree(taut__job *job, bool *moved)
{
    taut__agreed outcome;
    TAUT_TRY(taut__agree_advance(job, moved, &outcome));
    if (outcome == TAUT_AGREE_WAITING) return TAUT_OK;
    trace_phase(job, job->exchange.sent);
    return outcome == TAUT_AGREED ? enter_reduce(job) : enter(job, TAUT_PHASE_SURVEY);
}

/* Uncompressed: x moves to buf (16-bit layers: stays in the residual's memory) and nothing of it is left behind. */
static taut_status begin_raw(taut__job *job)
{
    taut_layer *l = job->layer;
    bool        direct = l->dtype == TAUT_F32;
    size_t      n = job->call.n;
    for (size_t at = 0; at < n && direct; at += job->part.sub) {
        taut__range      r = {at, taut__min(job->part.sub, n - at)};
        taut__piece_done done = {0};
        taut__own_x(job, r, (float *)job->buf + at, &done);
        taut__account(job, &done);
    }
    bool spread = !direct && job->halves == TAUT_GATHER;
    if (spread) taut__result_load(job, 0, n, l->spread);
    else if (!direct) taut__sample_x(job, (taut__range){0, n}, taut__form(job, 0, n));
    taut__plain_sum_begin(&job->raw, direct ? job->buf : spread ? l->spread : l->feedback->r, n, job->halves, job->factor);
    job->phase_s = taut__now();
    return TAUT_OK;
}

static taut_status enter_after(taut__job *job)
{
    return enter(job, job->g != &job->comm->all ? TAUT_PHASE_LOCAL_COPY : TAUT_PHASE_DONE);
}

/* Every rank measures its part of the sum. */
static void measure_raw(taut__job *job)
{
    taut__range      mine = taut__part(&job->part, job->g->rank);
    taut__piece_done done = {0};
    if (!job->comm->lossy || job->halves != TAUT_BOTH || job->layer->dtype != TAUT_F32) return;
    done.sum = taut__job_norms(job, (float *)job->buf + mine.first, mine);
    taut__account(job, &done);
}

/* The plan has no use for the norm of such a sum, but a NaN in it counts. Every rank looks at its part. */
static void note_bad(taut__job *job, const float *sum)
{
    taut__range mine = taut__part(&job->part, job->g->rank);
    taut_norm2  seen = mine.n ? taut__sum_norms(job, sum + mine.first, mine) : (taut_norm2){0, 0};
    if (isnan(seen.plain)) job->record.sum.plain = seen.plain;
}

static taut_status raw(taut__job *job, bool *moved)
{
    taut_layer *l = job->layer;
    bool        done = false;
    if (job->at == 0) TAUT_TRY(begin_raw(job));
    job->at = job->call.n;
    TAUT_TRY(taut__plain_sum_advance(&job->raw, moved, &done));
    if (!done) return TAUT_OK;
    *moved = true;
    trace_phase(job, job->raw.sent);
    measure_raw(job);
    job->record.bytes_sent += job->raw.sent;
    job->record.bytes_dense += job->raw.sent;
    note_bad(job, l->dtype == TAUT_F32 ? job->buf : job->halves == TAUT_GATHER ? l->spread : l->feedback->r);
    if (l->dtype != TAUT_F32 && job->halves == TAUT_GATHER) {
        taut__result_store(job, 0, job->call.n, l->spread, false);
    } else if (l->dtype != TAUT_F32) {
        taut__result_store_last(job, job->g->rank == 0);
    }
    return enter_after(job);
}

static void complete(taut__job *job)
{
    taut_layer *l = job->layer;
    taut__sample_result(job);
    job->record.end_s = taut__now();
    if (job->halves != TAUT_GATHER) l->residual = l->feedback_on && job->g->rank >= 0;
    taut__layer_count(l);
    taut__trace_span(job->comm->trace, job, "layer", job->record.begin_s, job->record.end_s, job->record.bytes_sent);
}

taut_status taut__job_step(taut__job *job, bool *moved, bool *done)
{
    bool over = false;
    if (job->needs > atomic_load(&job->comm->compared)) return TAUT_OK;
    switch (job->phase) {
    case TAUT_PHASE_LOCAL_SUM:
        TAUT_TRY(taut__hier_up(job, moved, &over));
        if (over) trace_phase(job, job->record.bytes_sent);
        if (over) TAUT_TRY(job->g->rank < 0 ? enter(job, TAUT_PHASE_LOCAL_COPY) : enter_own(job));
        break;
    case TAUT_PHASE_SURVEY: *moved = true; return survey(job);
    case TAUT_PHASE_AGREE: return agree(job, moved);
    case TAUT_PHASE_REDUCE:
        TAUT_TRY(job->via->advance(job, moved, &over));
        if (over) TAUT_TRY(enter_after(job));
        break;
    case TAUT_PHASE_RAW: return raw(job, moved);
    case TAUT_PHASE_LOCAL_COPY:
        TAUT_TRY(taut__hier_down(job, moved, &over));
        if (over) trace_phase(job, 0);
        if (over) job->phase = TAUT_PHASE_DONE;
        break;
    case TAUT_PHASE_DONE: break;
    }
    if (job->phase == TAUT_PHASE_DONE) {
        complete(job);
        *done = true;
    }
    return TAUT_OK;
}
