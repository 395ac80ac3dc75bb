/* sample.c : see sample.h. */
#include "../reduce/input.h"
#include "sample_blocks.h"
#include <math.h>
#include <string.h>

enum {
    LARGE_MODEL = 1 << 22,
    LEAST_BLOCKS = 4,
    TINY_LEAST = 8,
    TINY_BLOCKS = 28,
    MOST_BLOCKS = 4096,
    APART_RANKS = 16
};
/* Of the bytes of 2 bits per element: of large models the samples, of others the statistics too; and at most, the samples alone; of tiny ones
 * everything. */
static const double SHARE = 0.008, SHARE_SMALL = 0.05, MOST_SHARE = 0.012, MOST_SHARE_SMALL = 0.03, SHARE_TINY = 0.053;
static const double PLAN_BYTES = 8; /* of a plan, per layer and step */

/* Standard deviation of the measured error, relative, above which more blocks are taken in the next step, and below which fewer. */
static const double VAGUE = 0.07, SHARP = 0.05, MORE = 1.25, LESS = 0.94;

/* ---- how many, and which ---- */

/* Messages of the exchange: one in every round of recursive doubling, and one more where ranks are no power of two. */
static int rounds_of(const taut_comm *comm)
{
    int p = comm->ctx.all.size, w = taut__power_below(p);
    return taut__log2(w) + (w < p);
}

/* What a rank sends of so many elements at 2 bits each. */
static double coded_bytes(const taut_comm *comm, double elems)
{
    int p = comm->ctx.all.size;
    return elems / 4 * (p == 2 ? 1 : 2.0 * (p - 1) / p);
}

/* Blocks per block of a model of so many elements, beside so many bytes of other statistics, where so many fit into a tiny model's share; at most, and
 * this share of the least. Reckoned as bf16. */
static double rate_of(const taut_comm *comm, double elems, double others, double fit, double more)
{
    int    rounds = rounds_of(comm);
    bool   large = elems >= LARGE_MODEL;
    double coded = coded_bytes(comm, elems), block = rounds * (BLOCK + CONTROLS) * sizeof(uint16_t);
    double least = fmax((large ? SHARE * coded : SHARE_SMALL * coded - rounds * others) / block, LEAST_BLOCKS);
    double most =
        fmax((large ? MOST_SHARE : MOST_SHARE_SMALL) * coded / block,
             fmin(fmax(fit, TINY_LEAST), TINY_BLOCKS)); /* where that is less than the least, it is the number */
    return fmin(fmin(more * least, most), MOST_BLOCKS) / (elems / BLOCK);
}

/* Of a block in the next step, where they are few: bytes of the sample, and bits of an element as it is coded, over 2, at least: half of log2(1 / error),
 * for errors that samples of that form are sent for. Means, as blocks are distributed. */
static double block_bytes(const taut_comm *comm, double *finer)
{
    static const double least[] = {2.25, 2, 1.1, 1}; /* float32, bf16, 8 bits, 6 */
    double              bytes = 0, all = 0, bits = 0;
    for (size_t i = 0; i < comm->layers; i++) {
        const taut_layer *l = comm->layer[i];
        double            part = l->sample.density * (double)l->operand.tensor.elems;
        size_t            controls = CONTROLS * (1 + (size_t)has_scale(l));
        if (l->bucket || !l->operand.lossy) continue;
        all += part;
        bits += part * least[l->sample.form];
        bytes += part * (double)(1 + controls + (l->sample.form == TAUT_SAMPLES_6BIT ? 6 : BLOCK));
    }
    *finer = all > 0 ? bits / all : 1;
    return all > 0 ? bytes / all : BLOCK + CONTROLS;
}

static double blocks_that_fit(const taut_comm *comm, double elems, double others)
{
    size_t planned = 0;
    double finer, block = block_bytes(comm, &finer);
    for (size_t i = 0; comm->autom && i < comm->layers; i++) planned += comm->layer[i]->automatic;
    others += PLAN_BYTES * (double)planned;
    return (SHARE_TINY * finer * coded_bytes(comm, elems) / rounds_of(comm) - others) / block;
}

/* A layer that not all ranks are known to have registered counts as a model of its own. */
static double blocks_wanted(const taut_layer *l)
{
    const taut__sampling *s = &l->comm->sampling;
    double                rate = l->index < s->layers ? s->rate * l->sample.density
                                                      : rate_of(l->comm, (double)l->operand.tensor.elems, 0, INFINITY, INFINITY);
    if (l->sample.scattered) rate *= (double)(BLOCK + CONTROLS) / (2 * BLOCK + CONTROLS);
    if (s->apart) rate *= fmin(1, (double)APART_RANKS / taut__group_of(&l->comm->ctx, &l->operand)->size);
    return rate * (double)blocks_of(l);
}

/* In the step under way; agreed. */
static bool wanted(const taut_layer *l)
{
    return l->comm->ctx.all.size > 1 && !l->bucket && (l->operand.lossy || (l->automatic && l->comm->sampling.apart));
}

static uint64_t seed_of_step(const taut_layer *l) { return taut__seed(l->operand.seed ^ 0x5a3b1e, l->comm->steps); }

static double uniform(uint64_t seed, uint64_t i) { return (double)(taut__seed(seed, i) >> 11) * 0x1p-53; }

/* Rounded up or down at random, so that small layers get their share of blocks over steps. */
static size_t count(const taut_layer *l)
{
    if (!wanted(l)) return 0;
    size_t most = taut__min(l->sample.room, blocks_of(l));
    return (size_t)fmin(blocks_wanted(l) + uniform(seed_of_step(l), 0), (double)most);
}

/* First elements of n of all blocks: one of each stratum, each block with the same probability. Random numbers from number `first` on. */
static void draw(size_t *at, size_t n, size_t all, size_t elems, uint64_t seed, uint64_t first)
{
    for (size_t k = 0; k < n; k++) {
        size_t block = (size_t)(((double)k + uniform(seed, k + first)) * (double)all / (double)n);
        at[k] = elems * taut__min(block, all - 1);
    }
}

static void choose(taut_layer *l)
{
    l->sample.blocks = count(l);
    draw(l->sample.at, l->sample.blocks, blocks_of(l), BLOCK, seed_of_step(l), 1);
}

/* Whole blocks only. */
static void choose_wide(taut_layer *l)
{
    taut__sample *s = &l->sample;
    size_t        all = s->wide_elems ? l->operand.tensor.elems / s->wide_elems : 0;
    s->wide_blocks = l->operand.lossy ? taut__min(s->wide_room, all) : 0;
    draw(s->wide_at, s->wide_blocks, all, s->wide_elems, taut__mix64(seed_of_step(l)), 0);
}

/* ---- memory ---- */

static void release(taut__sample *s)
{
    taut__free(s->at);
    taut__free(s->x);
    taut__free(s->wide_at);
    taut__free(s->wide);
    s->at = s->wide_at = NULL;
    s->x = s->lost = s->result = s->wide = NULL;
    s->room = s->blocks = s->wide_room = s->wide_blocks = 0;
}

void taut__sample_release(taut_layer *l)
{
    taut__there_release(l);
    release(&l->sample);
}

taut_status taut__sample_prepare(taut_layer *l)
{
    taut__sample *s = &l->sample;
    size_t        room;
    if (l->comm->ctx.all.size < 2 || l->bucket || s->room > 0 || !(l->operand.lossy || l->automatic)) return TAUT_OK;
    room = taut__min(
        (size_t)(rate_of(l->comm, (double)l->operand.tensor.elems, 0, INFINITY, INFINITY) * (double)blocks_of(l)) + 1,
        blocks_of(l));
    s->at = taut__alloc(room, sizeof *s->at);
    s->x = taut__alloc(3 * room * BLOCK, sizeof *s->x);
    if (!s->at || !s->x) {
        release(s);
        return taut__fail(TAUT_E_NOMEM, "layer '%s': out of memory for %zu sampled blocks", l->name, room);
    }
    s->lost = s->x + room * BLOCK;
    s->result = s->lost + room * BLOCK;
    s->room = room;
    return TAUT_OK;
}

void taut__sample_reset(taut_layer *l)
{
    double p = l->comm->ctx.all.size;
    l->sample.form = TAUT_SAMPLES_F32;
    for (int i = 0; i < 2; i++) {
        taut__ratio_reset(&l->sample.error[i], 1, 2 * p); /* p where all errors are equal, and a sum's own on top */
        taut__ratio_reset(&l->sample.norm[i], 1, p);
        taut__ratio_reset(&l->sample.near[i], 1, 1e12); /* next to nothing may be sent */
    }
}

/* ---- taking ---- */

/* Results in parts are measured from the step on in which all ranks know that there are. */
static bool measurable(const taut_layer *l) { return l->reduction.halves == TAUT_BOTH || l->sample.scattered; }

bool taut__sample_begin(taut_layer *l)
{
    taut__sample          *s = &l->sample;
    const taut__reduction *red = &l->reduction;
    if (red->halves == TAUT_GATHER) return false;
    s->taken = false;
    s->blocks = s->wide_blocks = 0;
    if (!measurable(l)) return false;
    choose(l);
    choose_wide(l);
    s->factor = red->factor;
    if (s->blocks > 0) memset(s->x, 0, 2 * s->room * BLOCK * sizeof *s->x);
    if (!taut__lane_on_host(red->lane) && s->blocks + s->wide_blocks > 0)
        taut__lane_note(l->reduction.lane, taut__there_begin(l));
    return s->blocks > 0 || s->wide_blocks > 0;
}

typedef struct spots { /* ascending */
    const size_t *at;
    size_t        n, elems;
} spots;

static spots narrow(const taut__sample *s) { return (spots){s->at, s->blocks, BLOCK}; }

/* The first block that ends after element `first`. */
static size_t first_block(spots b, size_t first)
{
    size_t lo = 0, hi = b.n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (b.at[mid] + b.elems <= first) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

/* to, of a block's elements each, gets what r has of them, times factor. from[0] is element r.first. On the host. */
static void keep(spots b, taut__range r, const float *from, float factor, float *to)
{
    size_t end = r.first + r.n;
    for (size_t k = first_block(b, r.first); k < b.n && b.at[k] < end; k++) {
        size_t       at = taut__max(b.at[k], r.first), n = taut__min(b.at[k] + b.elems, end) - at;
        float       *kept = to + k * b.elems + (at - b.at[k]);
        const float *here = from + (at - r.first);
        for (size_t i = 0; i < n; i++) kept[i] = factor * here[i];
    }
}

void taut__sample_x(taut__reduction *red, taut__range r, const float *x)
{
    taut_layer   *l = red->job.layer;
    taut__sample *s = &l->sample;
    if (!taut__layer_at_home(l)) {
        taut__there_keep(l, TAUT_SAMPLED_X, r, x, 1);
        taut__there_keep(l, TAUT_SAMPLED_WIDE, r, x, 1);
        return;
    }
    keep(narrow(s), r, x, 1, s->x);
    keep((spots){s->wide_at, s->wide_blocks, s->wide_elems}, r, x, 1, s->wide);
}

void taut__sample_lost(taut__reduction *red, taut__range r, const float *lost, float factor)
{
    taut_layer *l = red->job.layer;
    if (taut__layer_at_home(l)) keep(narrow(&l->sample), r, lost, factor, l->sample.lost);
    else taut__there_keep(l, TAUT_SAMPLED_LOST, r, lost, factor);
}

void taut__sample_result(taut_layer *l)
{
    taut__sample *s = &l->sample;
    size_t        elems = l->operand.tensor.elems;
    if (l->reduction.halves == TAUT_GATHER) {
        taut__scale_look(l);
        return;
    }
    s->taken = measurable(l);
    if (!taut__layer_at_home(l)) {
        taut__there_result(l);
        taut__scale_look(l);
        return;
    }
    taut__scale_look(l);
    for (size_t k = 0; k < s->blocks; k++) {
        size_t n = taut__min(BLOCK, elems - s->at[k]);
        taut__result_fetch(&l->reduction, s->at[k], n, s->result + k * BLOCK);
    }
}

/* ---- the exchange ---- */

/* Of x and its controls; then, where no rank has all of the result, what each has of it. */
static size_t before_result(const taut_layer *l, size_t blocks)
{
    return blocks * (BLOCK * encoders(l) + CONTROLS * (1 + (size_t)has_scale(l)));
}

static size_t values(const taut_layer *l, size_t blocks)
{
    return before_result(l, blocks) + (l->sample.scattered ? BLOCK * blocks : 0);
}

/* Appends a run, unless it is empty. */
static size_t add_run(taut__run *run, size_t n, taut__as as, size_t values)
{
    if (values == 0) return n;
    if (run) run[n] = (taut__run){as, (uint32_t)values};
    return n + 1;
}

size_t taut__sample_runs(const taut_comm *comm, taut__run *run, size_t *floats)
{
    size_t n = 0;
    *floats = 0;
    for (size_t i = 0; i < comm->layers; i++) {
        const taut_layer *l = comm->layer[i];
        size_t            blocks = count(l), all = values(l, blocks), x = blocks * BLOCK * encoders(l);
        bool              groups = in_groups(l);
        n = add_run(run, n, as_of(l), groups ? x : all);
        if (groups) n = add_run(run, n, TAUT_AS_LEVEL, before_result(l, blocks) - x);
        if (groups) n = add_run(run, n, as_of(l), all - before_result(l, blocks));
        *floats += all;
    }
    return n;
}

/* Blocks, one set or several of them, to the units in which they travel, or back. */
static void change_units(const taut_layer *l, float *x, size_t n, bool back)
{
    const taut__sample *s = &l->sample;
    double              unit = group_unit(l);
    if (!in_groups(l) || s->blocks == 0) return;
    for (size_t i = 0; i < n; i++) {
        double gain = group_gain(l, unit, s->at[i / BLOCK % s->blocks] + i % BLOCK);
        x[i] = (float)(back ? (double)x[i] / gain : (double)x[i] * gain);
    }
}

static void put_control(const taut_layer *l, float *v)
{
    const taut__sample *s = &l->sample;
    for (size_t k = 0; k < s->blocks; k++) {
        double lost[2] = {0}, x[2] = {0}, by[2] = {control_unit(l), has_scale(l) ? weighted_unit(l, k) : 0};
        for (size_t i = 0; i < BLOCK && s->at[k] + i < l->operand.tensor.elems; i++) {
            double e = s->lost[k * BLOCK + i], g = s->x[k * BLOCK + i],
                   u = has_scale(l) ? unit2(&l->operand.tensor, s->at[k] + i) : 0;
            lost[0] += e * e, lost[1] += u * e * e;
            x[0] += g * g, x[1] += u * g * g;
        }
        for (size_t kind = 0; kind < 1 + (size_t)has_scale(l); kind++) {
            v[CONTROLS * kind * s->blocks + k] = (float)(by[kind] * lost[kind]);
            v[(CONTROLS * kind + 1) * s->blocks + k] = (float)(by[kind] * x[kind]);
        }
    }
}

/* This rank's part of the result. */
static void put_part(const taut_layer *l, float *v)
{
    const taut__sample *s = &l->sample;
    taut__range         mine = taut__part(&l->reduction.part, l->comm->ctx.all.rank);
    for (size_t k = 0; k < s->blocks; k++)
        for (size_t i = 0; i < BLOCK; i++)
            if (s->at[k] + i - mine.first < mine.n) v[k * BLOCK + i] = s->result[k * BLOCK + i];
}

static void put_layer(const taut_layer *l, size_t blocks, float *v)
{
    const taut__sample *s = &l->sample;
    size_t              x = BLOCK * blocks;
    int                 seat = taut__group_of(&l->comm->ctx, &l->operand)->rank;
    memset(v, 0, values(l, blocks) * sizeof *v);
    if (blocks == 0 || !s->taken || s->blocks != blocks || seat < 0) return;
    memcpy(v + (l->comm->sampling.apart ? (size_t)seat * x : 0), s->x, x * sizeof *v);
    change_units(l, v, encoders(l) * x, false);
    put_control(l, v + encoders(l) * x);
    if (!s->scattered) return;
    put_part(l, v + before_result(l, blocks));
    change_units(l, v + before_result(l, blocks), x, false);
}

/* A layer without a collective in this step leaves its place empty. */
void taut__sample_put(const taut_comm *comm, float *v)
{
    for (size_t i = 0; i < comm->layers; i++) {
        const taut_layer *l = comm->layer[i];
        size_t            blocks = count(l);
        put_layer(l, blocks, v);
        v += values(l, blocks);
    }
}

void taut__sample_take(taut_comm *comm, float *v)
{
    for (size_t i = 0; i < comm->layers; i++) {
        taut_layer *l = comm->layer[i];
        size_t      blocks = count(l), x = BLOCK * blocks;
        bool        there = l->sample.blocks == blocks && blocks > 0;
        l->sample.sums = v;
        l->sample.control = v + x * encoders(l);
        if (there) change_units(l, v, x * encoders(l), true);
        if (l->sample.scattered && there) {
            float *result = v + before_result(l, blocks);
            change_units(l, result, x, true);
            memcpy(l->sample.result, result, x * sizeof *v);
        }
        v += values(l, blocks);
    }
}

/* ---- between steps ---- */

/* As many blocks as the measurement needs: where ranks' errors are independent few tell enough; where they have much in common, and not
 * everywhere alike, more are taken than usually. */
static void adapt(taut__sampling *a, double noise)
{
    const double most = MOST_BLOCKS;
    if (!(a->more >= 1)) a->more = most;
    if (noise > VAGUE) a->more = fmin(a->more * MORE, most);
    else if (noise > 0 && noise < SHARP) a->more = fmax(a->more * LESS, 1);
}

/* Blocks go where errors and norms are, for the most part: a small layer may make half of the error. */
static void distribute(taut_comm *comm, double elems)
{
    const double by_share = 0.7;
    double       all[2] = {0};
    for (size_t i = 0; i < comm->layers; i++)
        for (int k = 0; k < 2; k++) all[k] += comm->layer[i]->sample.counts[k];
    for (size_t i = 0; i < comm->layers; i++) {
        taut_layer *l = comm->layer[i];
        double      part = (double)l->operand.tensor.elems / elems, share = 0;
        for (int k = 0; k < 2; k++)
            share += 0.5 * (all[k] > 0 && isfinite(all[k]) ? l->sample.counts[k] / all[k] : part);
        l->sample.density = 1 - by_share + by_share * share / part;
    }
}

void taut__sample_agree(taut_comm *comm, double others, double noise)
{
    taut__sampling *a = &comm->sampling;
    double          elems = 0, fit, most;
    for (size_t i = 0; i < comm->layers; i++) elems += (double)comm->layer[i]->operand.tensor.elems;
    distribute(comm, elems);
    adapt(a, noise);
    a->layers = comm->layers;
    fit = elems > 0 ? blocks_that_fit(comm, elems, others) : 0;
    a->rate = elems > 0 ? rate_of(comm, elems, others, fit, a->more) : 0;
    most = elems > 0 ? rate_of(comm, elems, others, fit, INFINITY) / rate_of(comm, elems, others, fit, 1) : 1;
    a->more = fmin(a->more, most); /* from there it falls at once */
}

taut_status taut__sample_room(taut_comm *comm)
{
    taut__sampling *a = &comm->sampling;
    size_t          room = 0;
    for (size_t i = 0; i < comm->layers; i++) room = taut__max(room, comm->layer[i]->sample.room);
    if (room <= a->room) return TAUT_OK;
    double **part[] = {&a->error, &a->lost, &a->rest, &a->result, &a->sum, &a->own};
    taut__free(a->error);
    a->room = 0;
    a->error = taut__alloc(sizeof part / sizeof *part * room, sizeof *a->error);
    if (!a->error) return taut__fail(TAUT_E_NOMEM, "out of memory for %zu sampled blocks", room);
    for (size_t i = 1; i < sizeof part / sizeof *part; i++) *part[i] = a->error + i * room;
    a->room = room;
    return TAUT_OK;
}

/* ---- for the planner ---- */

taut__apart taut__sample_apart(const taut_layer *l)
{
    const taut__sample *s = &l->sample;
    if (!l->comm->sampling.apart || !l->planned.step.called || !s->taken) return (taut__apart){0};
    return (taut__apart){s->blocks, encoders(l), BLOCK, s->at, s->sums};
}

taut_status taut__sample_widen(taut_layer *l, size_t elems, size_t blocks)
{
    taut__sample *s = &l->sample;
    blocks = taut__min(blocks, l->operand.tensor.elems / elems);
    if (s->wide) return TAUT_OK;
    s->wide_at = taut__alloc(blocks, sizeof *s->wide_at);
    s->wide = taut__alloc(blocks * elems, sizeof *s->wide);
    if (!s->wide_at || !s->wide)
        return taut__fail(TAUT_E_NOMEM, "layer '%s': out of memory for %zu blocks", l->name, blocks);
    s->wide_elems = elems;
    s->wide_room = blocks;
    return TAUT_OK;
}

taut__wide taut__sample_wide(const taut_layer *l)
{
    const taut__sample *s = &l->sample;
    if (!s->taken || taut__group_of(&l->comm->ctx, &l->operand)->rank < 0) return (taut__wide){0};
    return (taut__wide){s->wide_blocks, s->wide_elems, s->wide_at, s->wide};
}
