/* bins.c : see bins.h. */
#include "bins.h"
#include "../cli.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

int bins_make(const run_log *r, run_column x, run_column y, bins *b) { return bins_make_band(r, x, y, y, y, b); }

static void fill(const run_log *r, run_column cx, const run_column *cy, size_t k, bins *b)
{
    size_t first = k * b->each, last = first + b->each < r->steps ? first + b->each : r->steps, n = 0;
    double x = 0, sum = 0;
    b->low[k] = b->high[k] = NAN;
    for (size_t i = first; i < last; i++) {
        double y = r->column[cy[0]][i], low = r->column[cy[1]][i], high = r->column[cy[2]][i];
        x += r->column[cx][i];
        if (isfinite(y)) sum += y, n++;
        b->low[k] = fmin(b->low[k], isfinite(low) ? low : NAN);
        b->high[k] = fmax(b->high[k], isfinite(high) ? high : NAN);
    }
    b->x[k] = x / (double)(last - first);
    b->mean[k] = n ? sum / (double)n : NAN;
    b->from[k] = r->column[RUN_STEP][first];
    b->to[k] = r->column[RUN_STEP][last - 1];
}

int bins_make_band(const run_log *r, run_column x, run_column y, run_column low, run_column high, bins *b)
{
    const run_column cy[] = {y, low, high};
    memset(b, 0, sizeof *b);
    b->steps = r->steps;
    b->each = (r->steps + REPORT_BINS - 1) / REPORT_BINS;
    b->n = b->each ? (r->steps + b->each - 1) / b->each : 0;
    b->x = calloc(6 * b->n + 1, sizeof *b->x);
    if (!b->x) return cli_fail("out of memory");
    b->mean = b->x + b->n, b->low = b->mean + b->n, b->high = b->low + b->n, b->from = b->high + b->n,
    b->to = b->from + b->n;
    for (size_t k = 0; k < b->n; k++) fill(r, x, cy, k, b);
    return CLI_OK;
}

void bins_free(bins *b)
{
    free(b->x);
    memset(b, 0, sizeof *b);
}

void axis_grow(axis *a, double v)
{
    if (!isfinite(v) || (a->log && v <= 0)) return;
    a->lo = fmin(a->lo, v);
    a->hi = fmax(a->hi, v);
}

void axis_round(axis *a)
{
    double room;
    if (!isfinite(a->lo)) a->lo = a->log ? 1 : 0, a->hi = a->log ? 10 : 1;
    if (a->log) {
        room = a->hi > a->lo ? pow(a->hi / a->lo, 0.04) : 1.5;
        a->lo /= room, a->hi *= room;
        return;
    }
    room = a->hi > a->lo ? 0.04 * (a->hi - a->lo) : fmax(0.5, 0.1 * fabs(a->hi));
    if (a->lo != 0) a->lo -= room;
    a->hi += room;
}

double axis_at(const axis *a, double v)
{
    double at = a->log ? (v > 0 ? log(v / a->lo) / log(a->hi / a->lo) : 0) : (v - a->lo) / (a->hi - a->lo);
    return isnan(v) ? NAN : fmin(1, fmax(0, at));
}

static size_t linear_ticks(const axis *a, size_t most, double *tick)
{
    double              raw = (a->hi - a->lo) / (double)most, unit = pow(10, floor(log10(raw)));
    static const double clock[] = {60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400};
    double              step = raw <= unit ? unit : raw <= 2 * unit ? 2 * unit : raw <= 5 * unit ? 5 * unit : 10 * unit;
    size_t              n = 0;
    for (size_t k = 0; a->seconds && raw > 30 && k < sizeof clock / sizeof *clock; k++)
        if (clock[k] >= raw) {
            step = clock[k];
            break;
        }
    for (double k = ceil(a->lo / step); k * step <= a->hi && n < 2 * most; k++) tick[n++] = k * step + 0.0; /* no -0 */
    return n;
}

size_t axis_ticks(const axis *a, size_t most, double *tick)
{
    static const double finest[] = {1, 2, 5}, coarser[] = {1, 3};
    double              decades = a->log ? log10(a->hi / a->lo) : 0;
    size_t              n = 0, skip = (size_t)fmax(1, ceil(decades / (double)most));
    if (!a->log || decades < 0.7) return linear_ticks(a, most, tick);
    const double *within = 3 * decades <= (double)most ? finest : coarser;
    size_t        each = within == finest ? 3 : 2 * decades <= (double)most ? 2 : 1;
    for (int e = (int)floor(log10(a->lo)); e <= (int)ceil(log10(a->hi)); e++)
        for (size_t k = 0; k < each; k++) {
            double v = within[k] * pow(10, e);
            if (v >= a->lo && v <= a->hi && (size_t)(e + 400) % skip == 0 && n < 2 * most) tick[n++] = v;
        }
    return n;
}
