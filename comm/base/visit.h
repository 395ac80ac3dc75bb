/* visit.h : one description of a saved layout for three purposes: writing it, checking bytes that claim to have it, and reading
 * them. A function that visits its fields in order is called once for each; checking changes nothing but counts and ranges are looked at,
 * so that reading what was found good cannot go wrong. */
#ifndef TAUT_VISIT_H
#define TAUT_VISIT_H

#include "bytes.h"

typedef enum taut__way { TAUT_WRITE, TAUT_CHECK, TAUT_READ } taut__way;

typedef struct taut__visit {
    taut__way    way;
    taut__writer w; /* TAUT_WRITE */
    taut__reader r; /* else */
    bool         bad;
} taut__visit;

static inline bool taut__visit_bad(const taut__visit *v) { return v->bad || v->r.bad; }
static inline bool taut__reads(const taut__visit *v) { return v->way == TAUT_READ; }

/* The number that is there, or comes to be there; at most `most`, or the bytes are bad, and it is 0. */
static inline uint64_t taut__visit64(taut__visit *v, uint64_t *x, uint64_t most)
{
    if (v->way == TAUT_WRITE) {
        taut__write64(&v->w, *x);
        return *x;
    }
    uint64_t got = taut__read64(&v->r);
    if (got > most) v->bad = true, got = 0;
    if (taut__reads(v)) *x = got;
    return got;
}
static inline size_t taut__visit_size(taut__visit *v, size_t *x, size_t most)
{
    uint64_t n = *x;
    n = taut__visit64(v, &n, most);
    if (taut__reads(v)) *x = (size_t)n;
    return (size_t)n;
}
static inline uint32_t taut__visit32(taut__visit *v, uint32_t *x, uint32_t most)
{
    uint64_t n = *x;
    n = taut__visit64(v, &n, most);
    if (taut__reads(v)) *x = (uint32_t)n;
    return (uint32_t)n;
}
/* least <= x <= most */
static inline void taut__visit_int(taut__visit *v, int *x, int least, int most)
{
    uint64_t n = (uint64_t)((int64_t)*x - least);
    n = taut__visit64(v, &n, (uint64_t)((int64_t)most - least));
    if (taut__reads(v)) *x = (int)((int64_t)n + least);
}
static inline bool taut__visit_bool(taut__visit *v, bool *x)
{
    uint64_t n = *x;
    n = taut__visit64(v, &n, 1);
    if (taut__reads(v)) *x = n != 0;
    return n != 0;
}
static inline double taut__visit_f64(taut__visit *v, double *x)
{
    double   got;
    uint64_t bits;
    memcpy(&bits, x, sizeof bits);
    bits = taut__visit64(v, &bits, UINT64_MAX);
    memcpy(&got, &bits, sizeof got);
    if (taut__reads(v)) *x = got;
    return got;
}
/* least <= x <= most; NaN is not. */
static inline void taut__visit_within(taut__visit *v, double *x, double least, double most)
{
    double got = taut__visit_f64(v, x);
    v->bad |= v->way != TAUT_WRITE && !(got >= least && got <= most);
}
static inline void taut__visit_f64s(taut__visit *v, double *x, size_t n)
{
    for (size_t i = 0; i < n && !taut__visit_bad(v); i++) taut__visit_f64(v, x + i);
}
/* x may be NULL where the bytes are only checked. */
static inline void taut__visit_floats(taut__visit *v, float *x, size_t n)
{
    size_t bytes;
    if (v->way == TAUT_WRITE) {
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): who writes has an x */
        for (size_t i = 0; i < n; i++) taut__write_f32(&v->w, x[i]);
        return;
    }
    const uint8_t *p = taut__mul_ok(n, 4, &bytes) ? taut__read(&v->r, bytes) : NULL;
    v->bad |= !p;
    for (size_t i = 0; p && i < n && taut__reads(v); i++) x[i] = taut__float_at(p + 4 * i);
}
/* text: of cap bytes. */
static inline void taut__visit_text(taut__visit *v, char *text, size_t cap)
{
    if (v->way == TAUT_WRITE) taut__write_text(&v->w, text);
    else taut__read_text(&v->r, text, cap);
}

#endif
