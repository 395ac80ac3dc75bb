/* basis_look.c : what coding a layer in its basis would save. A look takes one tile of the basis, whole vectors, and compares the bits that grid's
 * entropy coder takes of them as they are and of their coordinates, at the same relative errors. */
#include "../../compressors/basis/basis.h"
#include "observed.h"
#include <math.h>
#include <string.h>

static taut_axes *axes_of(const taut__observed *l) { return l->axes ? *l->axes : NULL; }

static size_t tile_floats(const taut_axes *a, size_t tile)
{
    size_t n = 0, at, len;
    for (size_t i = 0; (len = taut__axes_run(a, tile, i, &at)) > 0; i++) n += len;
    return n;
}

/* Room for the largest tile, which is the first, twice. */
static taut_status room(taut__observed *l)
{
    size_t n = tile_floats(axes_of(l), 0);
    if (l->tile && l->tile_n == n) return TAUT_OK;
    taut__free(l->tile);
    l->tile_n = n;
    l->tile = taut__alloc(2 * n, sizeof *l->tile);
    return l->tile ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "auto: out of memory for layer %s", l->name);
}

taut_status taut__basis_arm(taut__observed *l, uint64_t turn)
{
    taut_axes *a = axes_of(l);
    l->tiled = a && taut__axes_ready(a);
    if (!l->tiled) return TAUT_OK;
    l->tile_at = taut__mix64(turn + 1) % taut__axes_tiles(a);
    return room(l);
}

/* Elements first.. of the tensor. The gradient alone: what a codec without the basis has left in the residual is spread over all
 * directions, and would cost bits in the basis that a residual of the codec in it does not. */
void taut__basis_feed(taut__observed *l, const float *gradient, size_t first, size_t n)
{
    taut_axes *a = axes_of(l);
    size_t     at, len, to = 0;
    if (!l->tiled || !a || (!l->tile && room(l) != TAUT_OK)) return; /* after a checkpoint there may be none yet */
    for (size_t i = 0; (len = taut__axes_run(a, l->tile_at, i, &at)) > 0; i++, to += len) {
        size_t from = taut__max(first, at), end = taut__min(first + n, at + len);
        if (from < end) memcpy(l->tile + to + (from - at), gradient + (from - first), (end - from) * sizeof *gradient);
    }
}

/* Bits per element at BASIS_RELS relative errors, to bits[0], bits[2], ...; false: x tells nothing. */
static bool bits_of(const float *x, size_t n, double *bits)
{
    const double dead = 0.65; /* grid's default */
    taut_tensor  t = {.elems = n, .rows = 1, .cols = n};
    taut_spec    spec;
    taut_call    call = {.spec = &spec, .tensor = &t, .n = n};
    double       stats[GRID_STATS] = {0};
    if (taut__spec_parse("grid", &spec) != TAUT_OK ||
        taut__op_collect_stats(taut__spec_codec(&spec), &call, x, stats) != TAUT_OK)
        return false;
    for (int i = 0; i < BASIS_RELS; i++) {
        double step = (double)taut__grid_estimate_step(stats, basis_rel[i] * stats[GRID_STAT_NORM2], dead);
        bits[2 * i] = step > 0 ? taut__grid_estimate_bits(stats, step, dead, GRID_RANS) : NAN;
        if (!isfinite(bits[2 * i])) return false;
    }
    return true;
}

taut_status taut__basis_measure(taut__observed *l, double *v)
{
    taut_axes *a = axes_of(l);
    double     bits[2 * BASIS_RELS], *sum = v + v_basis(l->specs);
    if (!l->tiled || !a || !l->tile || l->tile_at >= taut__axes_tiles(a)) return TAUT_OK;
    size_t n = tile_floats(a, l->tile_at);
    float *y = l->tile + l->tile_n;
    taut__axes_look(a, l->tensor, l->tile_at, l->tile, y);
    if (!bits_of(l->tile, n, bits) || !bits_of(y, n, bits + 1)) return TAUT_OK;
    for (int i = 0; i < 2 * BASIS_RELS; i++) sum[i] = FADE * sum[i] + bits[i];
    return TAUT_OK;
}

/* Between the relative errors looked at, straight over their logarithm; beyond them, as at the nearest. */
double taut__basis_ratio(const taut__observed *l, const double *v, double rel)
{
    const double *bits = v + v_basis(l->specs);
    double        ratio[BASIS_RELS];
    int           i = 0;
    if (!axes_of(l)) return 1;
    for (int k = 0; k < BASIS_RELS; k++) {
        if (!(bits[2 * k] > 0)) return 1;
        ratio[k] = bits[2 * k + 1] / bits[2 * k];
    }
    while (i < BASIS_RELS - 2 && rel > basis_rel[i + 1]) i++;
    double at = log(rel / basis_rel[i]) / log(basis_rel[i + 1] / basis_rel[i]);
    at = fmin(fmax(at, 0), 1);
    return ratio[i] + at * (ratio[i + 1] - ratio[i]);
}

taut_status taut__basis_time(float *x, size_t side, int tries, double *seconds)
{
    enum { DIRECTIONS = 16 };
    taut_tensor t = {.elems = side * side, .rows = side, .cols = side};
    taut_axes  *a;
    TAUT_TRY(taut__axes_create(&t, DIRECTIONS, 1, &a));
    *seconds = INFINITY;
    for (int i = 0; i < tries; i++) {
        double begin = taut__processor_s();
        for (size_t k = 0; k < taut__axes_tiles(a); k++) taut__axes_turn(a, &t, k, x);
        *seconds = fmin(*seconds, (taut__processor_s() - begin) / (double)(t.elems * DIRECTIONS));
    }
    taut__axes_destroy(a);
    return TAUT_OK;
}

double taut__observer_basis(const taut__observer *o, size_t index, const double *sum, double rel)
{
    return taut__basis_ratio(&o->layer[index], sum + o->layer[index].at, rel);
}
