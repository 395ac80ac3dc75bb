/* reference.c : see reference.h. */
#include "reference.h"
#include <math.h>
#include <string.h>

enum {
    ELEMS = 512,
    FEW = 4,
    MANY = 64,
    PER = 1 << 19
};                                /* a bucket of quant; blocks of a layer; elements per block beyond the few */
static const double FRESH = 0.25; /* share of the last step in what is kept */
static const double SCALED_MOST = 2.5;

/* Can the reference be measured on blocks alone? */
static bool on_blocks(const taut_spec *spec)
{
    const taut_codec *codec = taut__spec_codec(spec);
    if (spec->stages > 1) return true; /* nearly: its first stage chooses among the sampled blocks */
    return !codec->linear && !(codec->caps & (TAUT_CAP_SPARSE | TAUT_CAP_GLOBAL_STATS)) && codec->error_key == 0;
}

taut_status taut__reference_watch(taut__reference *r, const taut_spec *spec, taut__planned *layer)
{
    const taut_tensor *t = layer->tensor;
    size_t             blocks = taut__min(FEW + t->elems / PER, MANY);
    r->suits = taut__spec_suits(spec, t) == TAUT_OK;
    r->sampled = r->suits && on_blocks(spec);
    return r->sampled ? taut__planned_ask_wide(layer, ELEMS, blocks) : TAUT_OK;
}

static double scale_at(const taut_tensor *t, size_t i)
{
    return t->scale_n == t->elems ? t->scale[i] : t->scale_n > 1 ? t->scale[i / t->cols] : t->scale[0];
}

static taut_norm2 squares(const taut_tensor *t, const taut__wide *w, const float *x)
{
    taut_norm2 sum = {0, 0};
    for (size_t k = 0; k < w->blocks; k++)
        for (size_t i = 0; i < w->elems; i++) {
            double v = x[k * w->elems + i], s = t->scale_n ? scale_at(t, w->at[k] + i) : 1;
            sum.plain += v * v;
            sum.weighted += v * v / (s * s);
        }
    return sum;
}

taut_status taut__reference_measure(const taut__reference *r, const taut_spec *spec, const taut__planned *layer,
                                    taut__bench *bench, uint64_t seed, double v[TAUT_REFERENCE_VALUES])
{
    const taut_tensor *t = layer->tensor;
    taut__wide         w = r->sampled ? layer->wide : (taut__wide){0};
    taut_tensor        sample = {.elems = w.blocks * w.elems, .rows = 1, .cols = w.blocks * w.elems};
    taut__measured     m;
    memset(v, 0, TAUT_REFERENCE_VALUES * sizeof *v);
    if (w.blocks == 0) return TAUT_OK;
    TAUT_TRY(taut__measure_error(bench, spec, &sample, w.x, 1, seed, &m));
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
