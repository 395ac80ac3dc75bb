/* speeds.c : what codecs take on this machine, probed or assumed, and what they lose of Gaussian values. */
#include "../../compressors/candidates.h"
#include "observed.h"
#include <math.h>
#include <string.h>

enum { GAUSSIANS = 4096 };

/* Sums of twelve uniform numbers, without libm, since ranks on different machines must find the same bits. */
static void fill_gaussian(float *x)
{
    enum { UNIFORMS = 12 };
    taut__rng rng = taut__rng_of(2, 0);
    for (uint32_t i = 0; i < GAUSSIANS; i++) {
        int64_t sum = -(int64_t)UNIFORMS / 2 * (1 << 16);
        for (uint32_t k = 0; k < UNIFORMS; k++) sum += taut__random32(rng, UNIFORMS * i + k) >> 16;
        x[i] = (float)sum * 0x1p-16f;
    }
}

/* Share of the squared norm that a spec loses of the Gaussian values x; 0: not known, or of a codec whose sums are exact. */
static taut_status lose_gaussian(taut__bench *b, const taut_spec *spec, const float *x, double *share)
{
    taut_tensor    t = {.elems = GAUSSIANS, .rows = 1, .cols = GAUSSIANS};
    taut__measured m = {0};
    const char    *name = taut__spec_codec(spec)->name;
    *share = 0;
    if (spec->stages != 1 || !(strcmp(name, "quant") == 0 || strcmp(name, "fp16") == 0 || strcmp(name, "bf16") == 0))
        return TAUT_OK;
    TAUT_TRY(taut__measure(b, spec, &t, x, 1, 1, false, &m));
    *share = m.plain / taut__norm2(&t, x, 0, GAUSSIANS).plain;
    return TAUT_OK;
}

static taut_status list_speeds(taut__observer *o, const taut_tensor *t)
{
    enum { MOST = 64 };
    taut_spec   spec[MOST];
    taut_status s = TAUT_OK;
    size_t      n = taut__candidates(t, TAUT_FAMILY_ALL, false, spec, MOST - 3 - TAUT_CAREFUL);
    n += taut__careful_candidates(t, spec + n, TAUT_CAREFUL); /* the first of two alike counts */
    spec[n++] = o->grid[GRID_PACKED];
    spec[n++] = o->grid[GRID_RANS];
    if (taut__spec_suits(&o->starter, t) == TAUT_OK) spec[n++] = o->starter;
    o->speed = taut__alloc(n, sizeof *o->speed);
    o->seconds = taut__alloc(4 * n + 1, sizeof *o->seconds); /* the last: of a basis, per element and direction */
    float *x = taut__alloc(GAUSSIANS, sizeof *x);
    if (!o->speed || !o->seconds || !x) s = taut__fail(TAUT_E_NOMEM, "auto: out of memory");
    if (s == TAUT_OK) o->speeds = n, fill_gaussian(x);
    for (size_t i = 0; i < n && s == TAUT_OK; i++) {
        o->speed[i].spec = spec[i];
        taut__spec_print(&spec[i], o->speed[i].text, sizeof o->speed[i].text);
        s = lose_gaussian(&o->bench, &spec[i], x, &o->speed[i].gaussian);
    }
    taut__free(x);
    return s;
}

/* Least seconds of encode and decode of a side x side matrix, for every listed spec. */
static taut_status time_all(taut__observer *o, const float *x, size_t side, int tries, double *seconds)
{
    taut_tensor t = {.elems = side * side, .rows = side, .cols = side};
    for (size_t k = 0; k < o->speeds; k++) {
        double *best = seconds + 2 * k;
        best[0] = best[1] = INFINITY;
        for (int i = 0; i < tries; i++) {
            taut__measured m;
            TAUT_TRY(taut__measure(&o->bench, &o->speed[k].spec, &t, x, 1, 1, true, &m));
            best[0] = fmin(best[0], m.encode_s);
            best[1] = fmin(best[1], m.decode_s);
        }
    }
    return TAUT_OK;
}

/* Two sizes: what a call takes whatever the size, and what it takes per element. */
taut_status taut__observer_probe(taut__observer *o)
{
    enum { SMALL = 48, LARGE = 224, TRIES = 2 };
    const double small = SMALL * SMALL, large = LARGE * LARGE;
    taut_tensor  t = {.elems = SMALL * SMALL, .rows = SMALL, .cols = SMALL};
    taut__rng    rng = taut__rng_of(1, 0);
    float       *x = taut__alloc(LARGE * LARGE, sizeof *x);
    taut_status  s = x ? list_speeds(o, &t) : taut__fail(TAUT_E_NOMEM, "auto: out of memory");
    for (uint32_t i = 0; s == TAUT_OK && i < LARGE * LARGE; i++) { /* Laplacian, roughly as gradients are */
        double u = ((double)taut__random32(rng, i) + 0.5) / 4294967296.0;
        x[i] = (float)copysign(log(1 - fabs(2 * u - 1)), u - 0.5);
    }
    if (s == TAUT_OK) s = time_all(o, x, LARGE, TRIES, o->seconds);
    if (s == TAUT_OK) s = time_all(o, x, SMALL, TRIES, o->seconds + 2 * o->speeds);
    for (size_t i = 0; s == TAUT_OK && i < 2 * o->speeds; i++) {
        double *each = o->seconds + i, *call = o->seconds + 2 * o->speeds + i,
               slope = (*each - *call) / (large - small);
        slope = fmin(fmax(slope, 0.2 * *each / large), *each / large);
        *call = fmax(*each - slope * large, 0);
        *each = slope;
    }
    if (s == TAUT_OK) s = taut__basis_time(x, LARGE, TRIES, &o->seconds[4 * o->speeds]);
    taut__free(x);
    return s;
}

/* Nanoseconds per element of encode and decode, as `taut bench codec` gave them on one core with AVX-512 (docs/results.md), rounded. */
static void assumed_speed(const taut_spec *spec, double *ns)
{
    const taut_stage *s = &spec->stage[0];
    const char       *name = s->codec->name;
    ns[0] = 4, ns[1] = 4; /* stacks, rans */
    if (spec->stages > 1) return;
    if (s->codec->linear) ns[0] = 1 + s->value[0], ns[1] = 1;
    if (strcmp(name, "fp16") == 0 || strcmp(name, "bf16") == 0) ns[0] = ns[1] = 0.4;
    if (strcmp(name, "quant") == 0) ns[0] = 0.6, ns[1] = 0.4;
    if (strcmp(name, "topk") == 0) ns[0] = 1, ns[1] = 0.5;
    if (s->codec == &taut__codec_grid && s->value[GRID_KEY_CODE] != GRID_RANS) ns[0] = 1, ns[1] = 0.8;
}

/* Of a change of basis, per element and direction; likewise. */
static const double ASSUMED_BASIS_S = 0.2e-9;

taut_status taut__observer_assume(taut__observer *o)
{
    enum { SIDE = 48 };
    const double call_s = 2e-6; /* of a call, whatever the size */
    taut_tensor  t = {.elems = SIDE * SIDE, .rows = SIDE, .cols = SIDE};
    TAUT_TRY(list_speeds(o, &t));
    o->seconds[4 * o->speeds] = ASSUMED_BASIS_S;
    for (size_t i = 0; i < o->speeds; i++) {
        assumed_speed(&o->speed[i].spec, o->seconds + 2 * i);
        for (size_t k = 2 * i; k < 2 * i + 2; k++) {
            o->seconds[k] *= 1e-9;
            o->seconds[2 * o->speeds + k] = call_s;
        }
    }
    return TAUT_OK;
}

double *taut__observer_speeds(taut__observer *o, size_t *n)
{
    *n = 4 * o->speeds + 1;
    return o->seconds;
}

/* Result and residual are turned back, and the basis learns now and then. */
static const double BACK = 2.125;

void taut__price_codec(const taut__observer *o, const taut_spec *spec, double elems, taut__measured *m)
{
    char          text[TAUT_SPEC_TEXT];
    size_t        k = 0;
    const double *call = o->seconds + 2 * o->speeds;
    taut__spec_print(spec, text, sizeof text);
    if (taut__spec_codec(spec) == &taut__codec_grid)
        taut__spec_print(&o->grid[(int)spec->stage[0].value[GRID_KEY_CODE]], text, sizeof text);
    while (k < o->speeds && strcmp(o->speed[k].text, text) != 0) k++;
    if (k == o->speeds) k = 0;
    m->encode_s = o->slow * (call[2 * k] + o->seconds[2 * k] * elems);
    m->decode_s = o->slow * (call[2 * k + 1] + o->seconds[2 * k + 1] * elems);
    double turn_s = o->slow * o->seconds[4 * o->speeds] * (double)taut__spec_basis(spec) * elems;
    m->encode_s += turn_s;
    m->decode_s += BACK * turn_s;
}

taut_status taut__observer_crowd(taut__observer *o, double seconds, double *factor)
{
    enum { MOST = 1 << 20 };
    const double   most = 4; /* beyond, it is something else that has the processor */
    taut_spec      spec;
    taut__measured priced = {0}, m;
    size_t         n = 4096;
    double         took = 0, alone = 0, wall = 0, begin, processor;
    for (size_t l = 0; l < o->layers; l++) n = taut__max(n, o->layer[l].tensor->elems);
    n = taut__min(n, MOST);
    float      *x = taut__alloc(n, sizeof *x);
    taut_status s = x ? taut__spec_parse("quant:bits=4", &spec) : taut__fail(TAUT_E_NOMEM, "auto: out of memory");
    for (size_t i = 0; s == TAUT_OK && i < n; i++) x[i] = (float)((int)(i * 2654435761u >> 20 & 0xfff) - 0x800);
    taut_tensor t = {.elems = n, .rows = 1, .cols = n};
    if (s == TAUT_OK) s = taut__measure(&o->bench, &spec, &t, x, 1, 1, true, &m); /* touches the memory */
    begin = taut__now(), processor = taut__processor_s();
    while (s == TAUT_OK && wall < seconds) {
        s = taut__measure(&o->bench, &spec, &t, x, 1, 1, true, &m);
        taut__price_codec(o, &spec, (double)n, &priced);
        took += m.encode_s + m.decode_s;
        alone += priced.encode_s + priced.decode_s;
        wall = taut__now() - begin;
    }
    if (s == TAUT_OK) took *= fmax(wall / (taut__processor_s() - processor), 1); /* of which others had a part */
    taut__free(x);
    *factor = alone > 0 ? fmin(fmax(took * o->slow / alone, 1), most) : 1;
    return s;
}

void taut__observer_slow_down(taut__observer *o, double factor) { o->slow = factor; }

bool taut__observer_starter_suits(const taut__observer *o, size_t index)
{
    const taut__observed *l = &o->layer[index];
    return !l->careful && taut__spec_suits(&o->starter, l->tensor) == TAUT_OK &&
           taut__algorithm_carries(o->set, &o->starter);
}

bool taut__observer_starter_work(const taut__observer *o, size_t index, taut__work *w)
{
    const taut__observed *l = &o->layer[index];
    taut__measured        m = {0};
    if (!taut__observer_starter_suits(o, index)) return false;
    m.bytes = (double)taut__spec_capacity(&o->starter, l->tensor, l->tensor->elems) + TAUT_FRAME_HEADER;
    taut__price_codec(o, &o->starter, (double)l->tensor->elems, &m);
    *w = taut__work_of(&o->starter, l->tensor, o->ranks, &m);
    taut__force(o->set, &o->starter, w);
    return true;
}

double taut__gaussian_share(const taut__observer *o, const taut_spec *spec)
{
    char text[TAUT_SPEC_TEXT];
    taut__spec_print(spec, text, sizeof text);
    for (size_t i = 0; i < o->speeds; i++)
        if (strcmp(o->speed[i].text, text) == 0) return o->speed[i].gaussian;
    return 0;
}
