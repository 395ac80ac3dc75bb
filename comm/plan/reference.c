/* reference.c : see observe.h. */
#include "observe.h"
#include <math.h>
#include <string.h>

/* A bucket of quant; blocks of a layer; elements per block beyond the few. */
enum { ELEMS = 512, FEW = 4, MANY = 64, PER = 1 << 19 };
/* Of what picks the largest: elements; blocks for one of the others. */
enum { SMALL = 64, MORE = 32 };
/* Low rank: rows for each of so many ranks; power iterations; elements at most. */
enum { RANKS = 8, ROWS = 16, ITERATIONS = 3, MOST = 1 << 20 };
static const double FRESH = 0.25; /* share of the last step in what is kept */
static const double SCALED_MOST = 2.5;

/* Chooses the largest of a tensor, which those of many small blocks stand for. */
static bool picks(const taut_spec *spec) { return strcmp(taut__spec_codec(spec)->name, "topk") == 0; }

static bool lowrank(const taut_spec *spec)
{
    return spec->stages == 1 && strcmp(taut__spec_codec(spec)->name, "powersgd") == 0 &&
           spec->stage[0].value[0] <= TAUT_BASIS_MOST;
}

/* A step of grid is in units of the layer's scale. */
static bool steps(const taut_spec *spec)
{
    return taut__spec_codec(spec) == &taut__codec_grid && spec->stage[0].given >> GRID_KEY_STEP & 1;
}

/* Can the reference be measured on blocks alone? */
static bool on_blocks(const taut_spec *spec)
{
    const taut_codec *codec = taut__spec_codec(spec);
    if (spec->stages > 1) return true; /* nearly: its first stage chooses among the sampled blocks */
    return picks(spec) || steps(spec) ||
           (!codec->linear && !(codec->caps & (TAUT_CAP_SPARSE | TAUT_CAP_GLOBAL_STATS)) && codec->error_key == 0);
}

/* Whole rows: what a rank leaves of a sample of them is a little less than what it leaves of all, the less the more rows there are. */
static taut_status watch_rows(taut__reference *r, const taut_spec *spec, taut__planned *layer)
{
    const taut_tensor *t = layer->tensor;
    size_t             rank = (size_t)spec->stage[0].value[0];
    size_t             rows = taut__min(ROWS * taut__min(rank, RANKS), taut__max(MOST / t->cols, 2 * rank));
    rows = taut__min(rows, t->rows);
    rank = taut__min(rank, taut__min(rows, t->cols));
    TAUT_TRY(taut__basis_prepare(&r->basis, rows, t->cols, rank));
    return taut__planned_ask_wide(layer, t->cols, rows);
}

taut_status taut__reference_watch(taut__reference *r, const taut_spec *spec, taut__planned *layer)
{
    const taut_tensor *t = layer->tensor;
    size_t             blocks = taut__min(FEW + t->elems / PER, MANY), elems = picks(spec) ? SMALL : ELEMS;
    r->suits = taut__spec_suits(spec, t) == TAUT_OK;
    r->rows = r->suits && lowrank(spec);
    r->sampled = r->rows || (r->suits && on_blocks(spec));
    if (!r->sampled) return TAUT_OK;
    if (r->rows) return watch_rows(r, spec, layer);
    return taut__planned_ask_wide(layer, elems, picks(spec) ? MORE * blocks : blocks);
}

void taut__reference_fini(taut__reference *r) { taut__basis_fini(&r->basis); }

static taut_norm2 squares(const taut_tensor *t, const taut__wide *w, const float *x)
{
    taut_norm2 sum = {0, 0};
    for (size_t k = 0; k < w->blocks; k++)
        for (size_t i = 0; i < w->elems; i++) {
            double v = x[k * w->elems + i], s = t->scale_n ? taut__unit_at(t, w->at[k] + i) : 1;
            sum.plain += v * v;
            sum.weighted += v * v / (s * s);
        }
    return sum;
}

/* Begun anew in each step, so that nothing is to be kept. In units of a scale it is taken to lose the same share. */
static void measure_rows(const taut__reference *r, const taut__wide *w, double v[TAUT_REFERENCE_VALUES])
{
    taut__basis b = r->basis;
    taut_tensor rows = {.elems = w->blocks * w->elems, .rows = w->blocks, .cols = w->elems};
    double      energy[TAUT_BASIS_MOST], x = taut__norm2(&rows, w->x, 0, rows.elems).plain, left = x;
    if (w->blocks != b.rows || w->elems != b.cols || !(x > 0) || !isfinite(x)) return;
    taut__basis_restart(&b);
    for (int i = 0; i < ITERATIONS; i++)
        if (!taut__basis_energies(&b, w->x, energy)) return;
    for (size_t i = 0; i < b.rank; i++) left -= energy[i];
    v[0] = v[1] = fmax(left, 0), v[2] = v[3] = x;
}

taut_status taut__reference_measure(const taut__reference *r, const taut_spec *spec, const taut__planned *layer,
                                    taut__bench *bench, uint64_t seed, double v[TAUT_REFERENCE_VALUES])
{
    const taut_tensor *t = layer->tensor;
    taut__wide         w = r->sampled ? layer->wide : (taut__wide){0};
    taut_tensor        sample = {.elems = w.blocks * w.elems, .rows = 1, .cols = w.blocks * w.elems};
    taut__measured     m;
    memset(v, 0, TAUT_REFERENCE_VALUES * sizeof *v);
    if (w.blocks == 0 || (t->scale_n > 0 && steps(spec))) return TAUT_OK;
    if (r->rows) {
        measure_rows(r, &w, v);
        return TAUT_OK;
    }
    TAUT_TRY(taut__measure(bench, spec, &sample, w.x, 1, seed, false, &m));
    taut_norm2 x = t->scale_n > 1 ? squares(t, &w, w.x) : taut__norm2(&sample, w.x, 0, sample.elems),
               e = {m.plain, m.weighted};
    if (t->scale_n > 1) e = squares(t, &w, bench->err);
    if (!isfinite(x.plain) || !isfinite(x.weighted) || !isfinite(e.plain) || !isfinite(e.weighted)) return TAUT_OK;
    v[0] = e.plain, v[1] = e.weighted, v[2] = x.plain, v[3] = x.weighted;
    return TAUT_OK;
}

static double faded(double share, double lost, double all, double fresh)
{
    return all > 0 ? share + fresh * (lost / all - share) : share;
}

taut__reference taut__reference_with(const taut__reference *r, const double v[TAUT_REFERENCE_VALUES], bool alone)
{
    double          fresh = alone ? 1 : FRESH;
    taut__reference now = *r;
    now.share.plain = faded(r->share.plain, v[0], v[2], fresh);
    now.share.weighted = faded(r->share.weighted, v[1], v[3], fresh);
    return now;
}

double taut__reference_error(const taut__reference *r, const taut_norm2 *own, bool scaled)
{
    if (!r->suits) return 0; /* the reference too would send this layer uncompressed */
    return scaled ? own->weighted * fmin(r->share.weighted, SCALED_MOST * r->share.plain) : own->plain * r->share.plain;
}
