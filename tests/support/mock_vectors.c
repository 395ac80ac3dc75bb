/* mock_vectors.c : passes over floats on the mock device: the host's, on its addresses. */
#include "mock_work.h"
#include <stdlib.h>

typedef enum pass {
    INPUT,
    OUTPUT,
    SCRUB,
    NORM2,
    ADD,
    SCALE,
    CONVERT,
    RESIDUAL,
    ADMIT,
    JOIN,
    SPLIT,
    PICK,
    COMBINE,
    COPY_IF,
    DIGEST,
    CHANGE,
    LEARN
} pass;
static const taut_place host = {0};

typedef struct picked {
    size_t n, elems;
} picked;

typedef struct changed {
    taut_tensor      tensor; /* first: run_pass */
    taut__axes_there m;
} changed;

static void reach_axes(taut__axes_there *m, bool *bad)
{
    m->w = mock_reach(m->w, bad), m->wt = mock_reach(m->wt, bad), m->t = mock_reach(m->t, bad);
    m->tt = mock_reach(m->tt, bad), m->v = mock_reach(m->v, bad), m->a = mock_reach(m->a, bad);
}

/* a: what is written; b, c: read; d: numbers */
static taut_status run_pass(mock_work *w)
{
    const taut__vectors *v = &taut__vectors_host;
    bool                 bad = false;
    void                *a = mock_reach(w->a, &bad), *c = mock_reach(w->c, &bad), *d = mock_reach(w->d, &bad);
    const void          *b = mock_reach(w->b, &bad);
    taut_tensor         *t = w->byte == PICK || w->byte == COMBINE ? NULL : w->data;
    const picked        *k = w->data;
    changed             *basis = w->byte == CHANGE || w->byte == LEARN ? w->data : NULL;
    if (t) t->scale = mock_reach(t->scale, &bad);
    if (basis) reach_axes(&basis->m, &bad);
    if (bad)
        return taut__fail(TAUT_E_DEVICE, "mock device: pass %d over floats: an address that is not its own", w->byte);
    switch ((pass)w->byte) {
    case INPUT: return v->input(host, a, c, w->number, (taut_dtype)w->kind, b, w->n, w->kind2);
    case OUTPUT: return v->output(host, b, a, w->n);
    case SCRUB: return v->scrub(host, a, w->n, d);
    case NORM2: return v->norm2(host, t, b, w->count, w->n, a, d);
    case ADD: return v->add(host, a, (taut_dtype)w->kind, b, w->n);
    case SCALE: return v->scale(host, a, w->number, w->n);
    case CONVERT: return v->convert(host, a, (taut_dtype)w->kind, b, (taut_dtype)w->kind2, w->n);
    case ADMIT: return v->admit(host, b, w->count, (size_t)w->kind, w->n, a, d);
    case PICK: return v->pick(host, a, (taut_dtype)w->kind, b, c, w->n, k->elems, (size_t)w->count, k->n, w->number);
    case JOIN: return v->field_join(host, a, b, w->n, (uint32_t)w->kind, (uint32_t)w->count);
    case COMBINE: return v->combine(host, a, b, k->n, w->n, (uint32_t)w->count, d);
    case DIGEST: return v->digest(host, a, (size_t)w->kind, w->n, (uint32_t)w->kind2, (uint32_t)w->count, d);
    case COPY_IF: return v->copy_if(host, c, a, b, w->n);
    case CHANGE: return v->change(host, &basis->m, t, a, w->kind);
    case LEARN: return v->learn(host, &basis->m, t, b);
    case SPLIT: return v->field_split(host, a, b, w->n, (uint32_t)w->kind, (uint32_t)w->count);
    default: return v->residual(host, a, b, c, w->n);
    }
}

static taut_status give(taut_place p, pass what, mock_work w)
{
    MOCK_FAIL_IF(MOCK_ENQUEUE, TAUT_E_DEVICE, "a pass over floats");
    w.run = run_pass;
    w.byte = (int)what;
    mock_enqueue_work(p, w);
    return TAUT_OK;
}
#define MUTABLE(x) (void *)(uintptr_t)(x)

static taut_status mock_input(taut_place p, float *r, float *u, float momentum, taut_dtype dtype, const void *g,
                              size_t n, bool fresh)
{
    return give(p, INPUT,
                (mock_work){.a = r, .c = u, .number = momentum, .kind = (int)dtype, .b = g, .n = n, .kind2 = fresh});
}
static taut_status mock_output(taut_place p, const float *r, float *u, size_t n)
{
    return give(p, OUTPUT, (mock_work){.a = u, .b = r, .n = n});
}
static taut_status mock_scrub(taut_place p, float *x, size_t n, uint64_t *found)
{
    return give(p, SCRUB, (mock_work){.a = x, .n = n, .d = found});
}
static taut_status mock_norm2(taut_place p, const taut_tensor *t, const float *e, size_t first, size_t n,
                              taut_norm2 *out, uint32_t *flags)
{
    taut_tensor *copy = malloc(sizeof *copy);
    mock_ensure(copy != NULL, "out of memory");
    *copy = *t;
    taut_status s = give(
        p, NORM2,
        (mock_work){.a = out, .b = e, .n = n, .count = first, .d = flags, .data = copy, .data_bytes = sizeof *copy});
    if (s != TAUT_OK) free(copy);
    return s;
}
static taut_status mock_add(taut_place p, float *acc, taut_dtype dtype, const void *x, size_t n)
{
    return give(p, ADD, (mock_work){.a = acc, .kind = (int)dtype, .b = x, .n = n});
}
static taut_status mock_scale(taut_place p, float *x, float factor, size_t n)
{
    return give(p, SCALE, (mock_work){.a = x, .number = factor, .n = n});
}
static taut_status mock_convert(taut_place p, void *dst, taut_dtype to, const void *src, taut_dtype from, size_t n)
{
    return give(p, CONVERT, (mock_work){.a = dst, .kind = (int)to, .b = src, .kind2 = (int)from, .n = n});
}
static taut_status mock_residual(taut_place p, float *err, const float *x, const float *y, size_t n)
{
    return give(p, RESIDUAL, (mock_work){.a = err, .b = x, .c = MUTABLE(y), .n = n});
}

static taut_status mock_admit(taut_place p, const uint8_t *slots, size_t stride, size_t n, size_t room,
                              taut__admitted *out, taut_outcome *sum)
{
    return give(p, ADMIT, (mock_work){.a = out, .b = slots, .count = stride, .kind = (int)n, .n = room, .d = sum});
}
static taut_status mock_pick(taut_place p, float *dst, taut_dtype dtype, const void *src, const uint64_t *at,
                             size_t picks, size_t elems, size_t first, size_t n, float factor)
{
    picked *k = malloc(sizeof *k);
    mock_ensure(k != NULL, "out of memory");
    *k = (picked){n, elems};
    taut_status s = give(p, PICK,
                         (mock_work){.a = dst,
                                     .kind = (int)dtype,
                                     .b = src,
                                     .c = MUTABLE(at),
                                     .n = picks,
                                     .count = first,
                                     .number = factor,
                                     .data = k,
                                     .data_bytes = sizeof *k});
    if (s != TAUT_OK) free(k);
    return s;
}
static taut_status mock_join(taut_place p, uint32_t *words, const int32_t *codes, size_t n, uint32_t per, uint32_t bias)
{
    return give(p, JOIN, (mock_work){.a = words, .b = codes, .n = n, .kind = (int)per, .count = bias});
}
static taut_status mock_split(taut_place p, int32_t *codes, const uint32_t *words, size_t n, uint32_t per,
                              uint32_t bias)
{
    return give(p, SPLIT, (mock_work){.a = codes, .b = words, .n = n, .kind = (int)per, .count = bias});
}

static taut_status mock_combine(taut_place p, double *out, const double *from, size_t stride, size_t n, uint32_t ranks,
                                uint32_t *any)
{
    picked *k = malloc(sizeof *k);
    mock_ensure(k != NULL, "out of memory");
    *k = (picked){.n = stride};
    taut_status s =
        give(p, COMBINE,
             (mock_work){.a = out, .b = from, .n = n, .count = ranks, .d = any, .data = k, .data_bytes = sizeof *k});
    if (s != TAUT_OK) free(k);
    return s;
}
static taut_status mock_copy_if(taut_place p, const uint8_t *when, void *dst, const void *src, size_t bytes)
{
    return give(p, COPY_IF, (mock_work){.a = dst, .b = src, .c = MUTABLE(when), .n = bytes});
}
static taut_status mock_digest(taut_place p, void *rows, size_t stride, size_t n, uint32_t first, uint32_t count,
                               uint32_t *differs)
{
    return give(p, DIGEST,
                (mock_work){.a = rows, .kind = (int)stride, .n = n, .kind2 = (int)first, .count = count, .d = differs});
}

static taut_status give_basis(taut_place p, pass what, const taut__axes_there *m, const taut_tensor *t, mock_work w)
{
    changed *copy = malloc(sizeof *copy);
    mock_ensure(copy != NULL, "out of memory");
    *copy = (changed){*t, *m};
    w.data = copy, w.data_bytes = sizeof *copy;
    taut_status s = give(p, what, w);
    if (s != TAUT_OK) free(copy);
    return s;
}
static taut_status mock_change(taut_place p, const taut__axes_there *m, const taut_tensor *t, float *x, bool back)
{
    return give_basis(p, CHANGE, m, t, (mock_work){.a = x, .kind = back});
}
static taut_status mock_learn(taut_place p, const taut__axes_there *m, const taut_tensor *t, const float *x)
{
    return give_basis(p, LEARN, m, t, (mock_work){.b = x});
}

const taut__vectors mock_vectors = {
    .input = mock_input,
    .output = mock_output,
    .scrub = mock_scrub,
    .norm2 = mock_norm2,
    .add = mock_add,
    .scale = mock_scale,
    .convert = mock_convert,
    .residual = mock_residual,
    .admit = mock_admit,
    .pick = mock_pick,
    .field_join = mock_join,
    .field_split = mock_split,
    .combine = mock_combine,
    .copy_if = mock_copy_if,
    .digest = mock_digest,
    .change = mock_change,
    .learn = mock_learn,
};
