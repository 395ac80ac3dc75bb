/* grid_shared.c : see grid_shared.h. */
#include "grid_shared.h"
#include <math.h>
#include <string.h>

static const double TRUST = 6; /* blocks that `expected` counts as */

void taut__shared_fini(taut__shared *s)
{
    for (size_t i = 0; i < TAUT_SHARED_LOOKS; i++) {
        taut__free(s->look[i].at);
        taut__free(s->look[i].x);
    }
    *s = (taut__shared){0};
}

static taut_status reserve(taut__shared_look *look, size_t blocks, size_t floats)
{
    if (floats <= look->room && blocks <= look->at_room) return TAUT_OK;
    taut__free(look->at);
    taut__free(look->x);
    *look = (taut__shared_look){.at = taut__alloc(blocks, sizeof *look->at), .x = taut__alloc(floats, sizeof *look->x)};
    if (!look->at || !look->x) return taut__fail(TAUT_E_NOMEM, "auto: out of memory for samples of %zu floats", floats);
    look->room = floats, look->at_room = blocks;
    return TAUT_OK;
}

taut_status taut__shared_room(taut__shared *s, size_t i, size_t blocks, size_t encoders, size_t elems)
{
    s->look[i].blocks = 0;
    TAUT_TRY(reserve(&s->look[i], blocks, blocks * encoders * elems));
    s->look[i].blocks = blocks, s->look[i].encoders = encoders, s->look[i].elems = elems;
    return TAUT_OK;
}

taut_status taut__shared_keep(taut__shared *s, const taut__apart *a)
{
    taut__shared_look *look = &s->look[s->next];
    size_t             floats = a->encoders * a->blocks * a->elems;
    if (a->blocks == 0) return TAUT_OK;
    TAUT_TRY(taut__shared_room(s, s->next, a->blocks, a->encoders, a->elems));
    memcpy(look->at, a->at, a->blocks * sizeof *look->at);
    memcpy(look->x, a->x, floats * sizeof *look->x);
    s->next = (s->next + 1) % TAUT_SHARED_LOOKS;
    return TAUT_OK;
}

/* grid's rounding, as grid_unit.h specifies it; in units of the step */
static double error_of(double x, double inverse, double dead)
{
    double t = fabs(x) * inverse, e = dead > 0 ? t - trunc(t + 1 - dead) : t < 1 ? t : 0;
    return x < 0 ? -e : e;
}

static void add_block(const taut__shared_look *look, size_t k, const taut_tensor *t, double step, double dead,
                      bool weighted, taut__common *c)
{
    size_t all = look->blocks * look->elems;
    for (size_t i = 0; i < look->elems && look->at[k] + i < t->elems; i++) {
        double s = taut__unit_at(t, look->at[k] + i), unit = weighted ? step : step * s, sum = 0, squares = 0;
        for (size_t q = 0; q < look->encoders; q++) {
            double e = error_of(look->x[q * all + k * look->elems + i], 1 / (step * s), dead);
            sum += e;
            squares += e * e;
        }
        if (!isfinite(squares)) continue;
        c->together += unit * unit * sum * sum;
        c->apart += unit * unit * squares;
    }
    c->blocks++;
}

taut__common taut__shared_errors(const taut__shared *s, const taut_tensor *t, double step, double dead, bool weighted)
{
    enum { MOST = 512 }; /* blocks of a look: enough for 2% */
    taut__common c = {0};
    for (size_t i = 0; i < TAUT_SHARED_LOOKS && step > 0; i++) {
        const taut__shared_look *look = &s->look[i];
        size_t                   stride = taut__ceil_div(look->blocks, MOST);
        for (size_t k = 0; k < look->blocks; k += stride) add_block(look, k, t, step, dead, weighted, &c);
    }
    return c;
}

double taut__common_factor(const taut__common *c, double expected)
{
    if (!(c->apart > 0) || !(c->blocks > 0)) return expected;
    return (c->blocks * c->together / c->apart + TRUST * expected) / (c->blocks + TRUST);
}
