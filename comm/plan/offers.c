/* offers.c : from the sums of what all ranks have seen to options: error in the metric, bytes, seconds. */
#include "../../compressors/basis/basis.h"
#include "../../compressors/candidates.h"
#include "observed.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct pricing { /* one layer */
    taut__observer        *o;
    const taut__observed  *l;
    const double          *v;     /* its sums over ranks */
    const double          *stats; /* grid's statistics of one step, all ranks */
    const taut__aggregate *aggregate;
    double                 weight;     /* of its squared errors */
    double                 own2, sum2; /* sum over ranks of |x|^2, and |sum|^2; in the metric */
    taut__offer           *offer;
} pricing;

/* What one step's value k comes to, summed over ranks. looks counts the looks of all ranks. */
static double per_step(const pricing *p, size_t k)
{
    return p->v[V_LOOKS] > 0 ? p->v[k] / p->v[V_LOOKS] * p->o->ranks : 0;
}

static taut__option *append(pricing *p)
{
    taut__observations *all = &p->o->offers.o;
    if (taut__offers_room(p->o, all->options + 1) != TAUT_OK) return NULL;
    p->offer->n++;
    return &all->option[all->options++];
}

static uint32_t kind_of(const taut_spec *spec)
{
    const taut_codec *codec = taut__spec_codec(spec);
    if (codec == &taut__codec_grid && (int)spec->stage[0].value[GRID_KEY_CODE] == GRID_RANS) return TAUT_KIND_ENTROPY;
    bool fast =
        strcmp(codec->name, "quant") == 0 || strcmp(codec->name, "fp16") == 0 || strcmp(codec->name, "bf16") == 0;
    return fast && spec->stages == 1 ? TAUT_KIND_FAST : TAUT_KIND_OTHERS;
}

bool taut__observer_few_values(const taut__observer *o, size_t l)
{
    const double few = 0.02; /* fifty */
    return grid_alike(o->stats + l * GRID_STATS) > few;
}

static bool few_values(const pricing *p) { return taut__observer_few_values(p->o, (size_t)(p->l - p->o->layer)); }

/* What a sum loses of its norm when it is encoded, less what its terms lose of theirs (share of the squared norm). A bucket's step goes with its
 * largest element, and the terms' may be small for their norm: of p equal ones the sum's is at most p times as large, squared and over the norm, and
 * no sum is taken to be worse than a Gaussian, nor terms to be better than those whose elements are all as large as the largest, about a ninth of
 * that: where they lose less, their values happen to be levels, and those of the sum need not be. Of few values, zeros among them, that says nothing of the sum, which is taken to be a Gaussian. What ranks share is in
 * the sum as in the terms. */
static double excess_of_sum(const pricing *p, const taut_spec *spec, double share)
{
    const double even = 1.0 / 9, equal = 0.99;
    double       ranks = p->o->ranks, gaussian = taut__gaussian_share(p->o, spec), least = fmax(share, even * gaussian);
    double       alike = ranks > 1 ? (p->aggregate->ratio.plain - 1) / (ranks - 1) : 1; /* 0: independent, 1: equal */
    double       most = few_values(p) ? INFINITY : ranks * least;
    if (alike > equal) return 0;
    return (fmin(fmax(gaussian, least), most) - share) * (1 - fmax(alike, 0));
}

/* With feedback |x|^2 = |g|^2 + |residual|^2, and a codec that leaves a share of |x|^2 over makes it |g|^2 / (1 - share). So many times as
 * large as now are the squared norm of x, and errors that are a share of it, once a setting has been in force for a while. */
static double growth(const pricing *p, const taut_spec *spec, double share)
{
    if (p->l->careful) return 1;
    return (1 - p->aggregate->carried) / (1 - (taut__settings_feeds(p->o->set, spec) ? share : 0));
}

/* own: squared errors of all ranks' encodings. common: of the sum, per own. excess: see excess_of_sum(). */
static taut_status add_again(pricing *p, const taut_spec *spec, double own, double common, double excess, double bytes)
{
    const taut_codec *codec = taut__spec_codec(spec);
    taut__measured    m = {.bytes = bytes};
    taut__option     *option;
    double            error = common * own, ranks = p->o->ranks;
    if (!isfinite(error) || !isfinite(bytes)) return TAUT_OK; /* the statistics cannot tell */
    if (!taut__algorithm_carries(p->o->set, spec)) return TAUT_OK;
    option = append(p);
    if (!option) return taut__fail(TAUT_E_NOMEM, "auto: out of memory for options");
    taut__price_codec(p->o, spec, (double)p->l->tensor->elems, &m);
    *option = (taut__option){.error = error,
                             .kind = p->l->careful ? TAUT_KIND_FAST : kind_of(spec),
                             .work = taut__work_of(spec, p->l->tensor, p->o->ranks, &m)};
    taut__force(p->o->set, spec, &option->work);
    taut__spec_print(spec, option->spec, sizeof option->spec);
    /* an owner adds its own part as it is, and encodes the sum once more, unless that makes no error, or two ranks tell each other */
    bool again = option->work.vias & 1u << TAUT_VIA_SRA && ranks > 2;
    if (again && !(codec->caps & (TAUT_CAP_INTEGER | TAUT_CAP_SPARSE)))
        option->error = error * (ranks - 1) / ranks + (own / p->own2 + excess) * p->sum2;
    if (option->error > 0.95 * p->sum2 ||
        own > 0.95 * p->own2) { /* as bad as sending nothing; feedback would only let it grow */
        p->offer->n--;
        p->o->offers.o.options--;
    } else if (p->own2 > 0) {
        option->share = option->error / p->own2;
        option->error *= growth(p, spec, own / p->own2);
    }
    return TAUT_OK;
}

/* Of a codec whose sums need no encoding, or are as their terms. */
static taut_status add(pricing *p, const taut_spec *spec, double own, double common, double bytes)
{
    return add_again(p, spec, own, common, 0, bytes);
}

/* Errors of ranks under grid's step, and of what leaves out all below a threshold: both in units of the scale. */
static double grid_common(const pricing *p, double step, double dead)
{
    taut__common c = taut__shared_errors(&p->l->shared, p->l->tensor, step, dead, p->aggregate->scaled);
    return taut__common_factor(&c, p->o->expected);
}

/* basis: directions; 0: none */
static taut_status add_grid_at(pricing *p, taut__rung rung, double common, int code, size_t basis)
{
    char      text[64];
    taut_spec spec;
    double    bits;
    taut__grid_text(rung.rel, code, basis, text, sizeof text);
    if (taut__spec_parse(text, &spec) != TAUT_OK) return TAUT_OK;
    bits = taut__grid_estimate_bits(p->stats, rung.step, spec.stage[0].value[GRID_KEY_DEAD], code);
    if (basis > 0) bits *= taut__basis_ratio(p->l, p->v, rung.rel);
    return add(p, &spec, spec.stage[0].value[GRID_KEY_REL] * p->own2, common,
               bits / 8 * (double)p->l->tensor->elems + GRID_FIXED_BYTES + TAUT_FRAME_HEADER);
}

/* Weight of the statistics' squared errors: its norm in the metric over its norm in its own unit. */
static double stats_weight(const pricing *p)
{
    return p->stats[GRID_STAT_NORM2] > 0 ? p->own2 / p->stats[GRID_STAT_NORM2] : 0;
}

/* Feedback grows until what is left of x each step is what g adds: |residual|^2 = rel / (1 - rel) |g|^2. */
static const double COARSEST = 0.7;
static const double DEAD = 0.65; /* grid's default */

/* Bits in a basis over bits without, from which on it is not worth the work: one that has gone stale, too. */
static const double WORTH_TURNING = 0.9;

static taut_status add_grid(pricing *p, double centre)
{
    taut__rung rung[RUNGS];
    size_t     n = taut__grid_ladder(p->stats, stats_weight(p), centre, 2, COARSEST, RUNGS, rung);
    for (size_t i = 0; i < n; i++) {
        double common = grid_common(p, rung[i].step, DEAD);
        TAUT_TRY(add_grid_at(p, rung[i], common, GRID_PACKED, 0));
        TAUT_TRY(add_grid_at(p, rung[i], common, GRID_RANS, 0));
        if (taut__basis_ratio(p->l, p->v, rung[i].rel) > WORTH_TURNING) continue;
        TAUT_TRY(add_grid_at(p, rung[i], common, GRID_RANS, taut__axes_most(*p->l->axes)));
    }
    return TAUT_OK;
}

/* Of small layers in one a single step suits only those in units of a scale, which makes them alike. */
static taut_status add_fine_grid(pricing *p)
{
    static const double rels[] = {1.5e-4, 3e-5}; /* as quant of 8 bits and 9 */
    for (size_t i = 0; p->aggregate->scaled && i < sizeof rels / sizeof *rels; i++) {
        taut__rung rung = {rels[i], taut__grid_estimate_step(p->stats, rels[i] * p->stats[GRID_STAT_NORM2], DEAD)};
        if (!(rung.step > 0)) continue;
        TAUT_TRY(add_grid_at(p, rung, grid_common(p, rung.step, DEAD), GRID_PACKED, 0));
        TAUT_TRY(add_grid_at(p, rung, grid_common(p, rung.step, DEAD), GRID_RANS, 0));
    }
    return TAUT_OK;
}

/* Squared share of what top-k leaves out, from the histogram: whole bins from the top, the last one in part; and the threshold. */
static double topk_left(const double *stats, double density, double *threshold)
{
    double keep = 0, all = 0, left = 0;
    for (int b = 0; b < GRID_BINS; b++) keep += density * stats[GRID_STAT_BIN + b];
    *threshold = 0;
    for (int b = GRID_BINS - 1; b >= 0; b--) {
        double n = stats[GRID_STAT_BIN + b], t = exp2((b + 0.5) / GRID_BINS_PER_OCTAVE); /* in any unit */
        double kept = fmin(n, keep);
        if (keep > 0 && kept == keep) *threshold = t;
        keep -= kept;
        all += n * t * t;
        left += (n - kept) * t * t;
    }
    return all > 0 ? left / all : 0;
}

static taut_status add_topk(pricing *p)
{
    taut_spec spec[8];
    size_t    n = taut__candidates(p->l->tensor, TAUT_FAMILY_TOPK, false, spec, 8);
    for (size_t i = 0; i < n; i++) {
        double density = spec[i].stage[0].value[0], threshold;
        double bits = density * (32 + 2 + log2(1 / density)); /* value, and a Rice-coded gap */
        double left = topk_left(p->stats, density, &threshold);
        TAUT_TRY(add(p, &spec[i], left * p->own2, grid_common(p, threshold, 0),
                     bits / 8 * (double)p->l->tensor->elems + 64));
    }
    return TAUT_OK;
}

/* Share of the squared norm that rank r leaves out; the largest rank looked at where r is larger. */
static double lowrank_left(const pricing *p, size_t rank)
{
    double left = 1;
    if (!(p->v[V_LOWRANK_LOOKS] > 0)) return 0;
    for (size_t i = 0; i < rank && i < RANKS; i++) left -= p->v[V_LOWRANK + i] / p->v[V_LOWRANK_LOOKS];
    return fmax(left, 0);
}

/* Without a warm start a first step leaves about half as much again. */
static const double COLD = 1.5;

static taut_status add_lowrank(pricing *p)
{
    taut_spec          spec[16];
    const taut_tensor *t = p->l->tensor;
    size_t             n = taut__candidates(t, TAUT_FAMILY_POWERSGD, false, spec, 16);
    for (size_t i = 0; i < n && p->sum2 > 0; i++) {
        size_t rank = (size_t)spec[i].stage[0].value[0];
        double left = taut__sketch_left(&p->l->sketch, rank);
        if (rank > TAUT_SKETCH_RANK || left >= 1) continue;
        if (taut__spec_codec(p->aggregate->current) != taut__spec_codec(&spec[i])) left *= COLD;
        TAUT_TRY(add(p, &spec[i], left * p->own2, p->sum2 / p->own2, 4.0 * (double)(rank * (t->rows + t->cols))));
    }
    return TAUT_OK;
}

taut_norm2 taut__observer_reference(const taut__observer *o, size_t index, const double *sum)
{
    const taut__observed *l = &o->layer[index];
    const double         *v = sum + l->at, *m = v + V_SPEC + 3 * (l->specs - 1);
    const taut_stage     *stage = &o->reference.stage[0];
    const taut_codec     *codec = o->like ? taut__spec_codec(&o->reference) : NULL;
    pricing               p = {.v = v};
    double                share, threshold;
    if (!codec || !l->referenced || !(v[V_PLAIN] > 0)) return (taut_norm2){0, 0};
    if (o->reference.stages == 1 && strcmp(codec->name, "powersgd") == 0) {
        share = lowrank_left(&p, (size_t)stage->value[0]);
    } else if (o->reference.stages == 1 && strcmp(codec->name, "topk") == 0) {
        double stats[GRID_STATS];
        for (size_t i = 0; i < GRID_STATS; i++) stats[i] = v[v_grid(l->specs) + i];
        share = topk_left(stats, stage->value[0], &threshold);
    } else {
        return (taut_norm2){m[0] / v[V_PLAIN], v[V_WEIGHTED] > 0 ? m[1] / v[V_WEIGHTED] : 0};
    }
    return (taut_norm2){share, share};
}

/* The option in force; of grid, as it is tuned now. */
static taut_status find_current(pricing *p, uint32_t *current)
{
    const taut_spec    *spec = p->aggregate->current;
    taut__observations *all = &p->o->offers.o;
    char                text[TAUT_SPEC_TEXT];
    taut__spec_print(spec, text, sizeof text);
    *current = (uint32_t)p->offer->first;
    if (taut__spec_codec(spec) != &taut__codec_grid) {
        for (size_t i = 0; i < p->offer->n; i++)
            if (strcmp(all->option[p->offer->first + i].spec, text) == 0) *current = (uint32_t)(p->offer->first + i);
        return TAUT_OK;
    }
    if (!(p->own2 > 0)) return TAUT_OK;
    double     tuned = p->l->careful ? fmin(p->aggregate->tuned, 1) : p->aggregate->tuned; /* as it is applied */
    taut__rung rung = {fmin(spec->stage[0].value[GRID_KEY_REL] * tuned, COARSEST), 0};
    rung.step =
        taut__grid_estimate_step(p->stats, rung.rel * p->stats[GRID_STAT_NORM2], spec->stage[0].value[GRID_KEY_DEAD]);
    *current = (uint32_t)all->options;
    if (rung.step > 0)
        TAUT_TRY(add_grid_at(p, rung, grid_common(p, rung.step, DEAD), (int)spec->stage[0].value[GRID_KEY_CODE],
                             taut__spec_basis(spec)));
    if (*current == all->options) *current = (uint32_t)p->offer->first;
    return TAUT_OK;
}

static double measured_over(double made, double expected) { return fmin(fmax(made / expected, 0.25), 4); }

/* What the codec in force is measured to make, over what is expected of it, holds for its other settings too; of few values only where it is more, since they
 * may happen to lie where they make no error, and with the next setting do not. Its own price is what it makes now, since
 * mostly its residual is what it will be; growth() from there, which divides by what is estimated to be left, would be noise. */
static void correct(pricing *p, uint32_t current)
{
    taut__observations *all = &p->o->offers.o;
    const taut_codec   *codec = taut__spec_codec(p->aggregate->current);
    double              made = p->aggregate->made, error, share;
    taut_spec           spec;
    if (made < 0 || !(all->option[current].error > 0)) return;
    error = measured_over(made * p->own2, all->option[current].error);
    share = measured_over(made, all->option[current].share);
    if (few_values(p)) error = fmax(error, 1), share = fmax(share, 1);
    for (size_t i = p->offer->first; i < p->offer->first + p->offer->n; i++)
        if (taut__spec_parse(all->option[i].spec, &spec) == TAUT_OK && taut__spec_codec(&spec) == codec)
            all->option[i].error *= error, all->option[i].share *= share;
}

static taut_status offer_layer(pricing *p, double centre, uint32_t *current)
{
    taut__option *dense = append(p);
    if (!dense) return taut__fail(TAUT_E_NOMEM, "auto: out of memory for options");
    *dense = (taut__option){.spec = "none", .dense = true, .work = taut__work_dense(p->l->tensor)};
    taut__force(p->o->set, NULL, &dense->work);
    if (p->own2 > 0) { /* a layer without gradient so far stays uncompressed: nothing is known about it */
        for (size_t i = 0; i + p->l->referenced < p->l->specs; i++) {
            size_t at = V_SPEC + 3 * i;
            bool   nearest = taut__spec_codec(&p->l->spec[i])->n_keys == 0;
            double own = p->weight * per_step(p, at + p->aggregate->scaled);
            /* stochastic rounding errs independently; what rounds to nearest, fp16 and bf16, may err alike everywhere */
            TAUT_TRY(add_again(p, &p->l->spec[i], own, nearest ? p->o->ranks : 1,
                               excess_of_sum(p, &p->l->spec[i], p->v[at] / p->v[V_PLAIN]),
                               per_step(p, at + 2) / p->o->ranks));
        }
        /* top-k picks by |x| and low rank by plain energy: what that leaves in units of a scale was not measured */
        bool coarse = !p->l->careful;
        if (coarse && !p->aggregate->scaled) TAUT_TRY(add_topk(p));
        if (coarse && !p->aggregate->scaled) TAUT_TRY(add_lowrank(p));
        TAUT_TRY(coarse ? add_grid(p, centre) : add_fine_grid(p));
    }
    TAUT_TRY(find_current(p, current));
    correct(p, *current);
    return TAUT_OK;
}

static pricing pricing_of(taut__observer *o, size_t l, const double *sum, const taut__aggregate *a)
{
    pricing p = {.o = o,
                 .l = &o->layer[l],
                 .v = sum + o->layer[l].at,
                 .stats = o->stats + l * GRID_STATS,
                 .aggregate = a,
                 .offer = &o->offers.o.layer[l]};
    double  plain2 = per_step(&p, V_PLAIN), own = a->scaled ? per_step(&p, V_WEIGHTED) : plain2;
    p.weight = a->scaled || a->relative == 0
                   ? 1
                   : a->relative * taut__layer_weight(p.l->tensor->elems, plain2 * a->ratio.plain, plain2);
    if (a->out) p.weight = 0;
    p.own2 = p.weight * own;
    p.sum2 = p.own2 * (a->scaled ? a->ratio.weighted : a->ratio.plain);
    return p;
}

/* What errors have in common at the step that spends the budget, all layers together. */
static double common_at(const taut__observer *o, double centre)
{
    taut__common all = {0};
    for (size_t l = 0; l < o->layers; l++) {
        taut__common c = {0};
        if (o->weight[l] > 0)
            c = taut__shared_errors(&o->layer[l].shared, o->layer[l].tensor, centre / sqrt(o->weight[l]), DEAD, true);
        all.together += o->weight[l] * c.together;
        all.apart += o->weight[l] * c.apart;
        all.blocks += c.blocks;
    }
    return taut__common_factor(&all, 1);
}

/* The step that spends the budget depends on what errors have in common there, and that on the step: a few rounds settle it. */
static double find_centre(taut__observer *o, double budget)
{
    double centre = 0;
    o->expected = 1;
    for (int i = 0; i < 3; i++) {
        centre = taut__grid_centre(o->stats, o->weight, o->layers, budget / o->expected);
        if (!(centre > 0)) return 0;
        o->expected = fmax(common_at(o, centre), 1e-3);
    }
    return centre;
}

taut_status taut__observer_offers(taut__observer *o, const double *sum, const taut__aggregate *aggregate, double rel,
                                  double all, taut__offers **out)
{
    taut__offers *offers = &o->offers;
    double        centre;
    TAUT_TRY(taut__offers_room(o, 0));
    offers->budget2 = offers->norm2 = offers->own2 = 0;
    offers->o.options = 0;
    for (size_t l = 0; l < o->layers; l++) {
        pricing         p = pricing_of(o, l, sum, &aggregate[l]);
        taut__reference r = {.suits = p.l->referenced, .share = aggregate[l].reference};
        taut_norm2      own = {p.own2, p.own2};
        for (size_t i = 0; i < GRID_STATS; i++) o->stats[l * GRID_STATS + i] = per_step(&p, v_grid(p.l->specs) + i);
        o->weight[l] = p.l->careful ? 0 : stats_weight(&p); /* takes no part in the common step */
        offers->budget[l] = o->like ? taut__reference_error(&r, &own, aggregate[l].scaled) : rel * all * p.sum2;
        offers->budget2 += offers->budget[l];
        offers->norm2 += p.sum2;
        offers->own2 += p.own2;
        offers->own[l] = p.own2;
    }
    centre = find_centre(o, offers->budget2);
    for (size_t l = 0; l < o->layers; l++) {
        pricing p = pricing_of(o, l, sum, &aggregate[l]);
        *p.offer = (taut__offer){.elems = p.l->tensor->elems, .norm2 = p.sum2, .first = offers->o.options};
        snprintf(p.offer->name, sizeof p.offer->name, "%s", p.l->name);
        TAUT_TRY(offer_layer(&p, centre, &offers->current[l]));
    }
    *out = offers;
    return TAUT_OK;
}
