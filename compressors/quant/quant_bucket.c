/* quant_bucket.c : the buckets of a tensor, one after the other (quant_format.h). */
#include "quant_bucket.h"
#include "../vec/vec.h"

/* Metadata of x[0..n); NaN if some element is not finite. */
static inline void measure(const taut__simd *simd, const quant_params *p, const float *x, size_t n, float meta[2])
{
    float lo, hi;
    bool  ordered = simd->quant->range(x, n, &lo, &hi);
    quant_meta_of(p, ordered, lo, hi, p->norm == QUANT_L2 && ordered ? simd->vec->sum2(x, n) : 0, meta);
}

/* ---- the slow path ---- */

static void exact_pack(const quant_unit *u, const quant_exact *e, const float *x, size_t n, uint8_t *codes, float *err)
{
    for (size_t i = 0; i < n; i += QUANT_GROUP) {
        uint8_t  q[QUANT_GROUP] = {0};
        size_t   g = taut__min(QUANT_GROUP, n - i);
        uint32_t counter = u->counter + (uint32_t)(i / 2);
        for (size_t j = 0; j < g; j++) q[j] = (uint8_t)quant_exact_code(u, e, x[i + j], quant_random(u, counter, j));
        quant_put_planes(u->bits, q, g, codes + i / 8 * u->bits);
        for (size_t j = 0; err && j < g; j++) err[i + j] = taut__residual(x[i + j], quant_exact_value(u, e, q[j]));
    }
}

static void exact_unpack(const quant_unit *u, const quant_exact *e, const uint8_t *codes, size_t n, float *dst,
                         bool add)
{
    for (size_t i = 0; i < n; i += QUANT_GROUP) {
        uint8_t q[QUANT_GROUP];
        size_t  g = taut__min(QUANT_GROUP, n - i);
        quant_get_planes(u->bits, codes + i / 8 * u->bits, g, q);
        for (size_t j = 0; j < g; j++) dst[i + j] = (add ? dst[i + j] : 0) + quant_exact_value(u, e, q[j]);
    }
}

/* ---- buckets ---- */

static inline void prepare(const taut__simd *simd, const quant_params *p, const float *x, size_t n, quant_bucket *b)
{
    measure(simd, p, x, n, b->meta);
    quant_understand(p, b);
    b->unit.inv = quant_inverse(b);
}

static void encode_bucket(const taut__simd *simd, const quant_params *p, const quant_bucket *b, const float *x,
                          size_t n, uint8_t *codes, float *err)
{
    if (quant_is_fast(p, b)) {
        simd->quant->pack(&b->unit, x, n, codes, err);
    } else if (b->kind != QUANT_VOID) {
        quant_exact e = quant_exact_unit(p, b);
        exact_pack(&b->unit, &e, x, n, codes, err);
    } else {
        memset(codes, 0, quant_code_bytes(p->bits, n));
        if (err) memset(err, 0, n * sizeof *err);
    }
}

/* The next bucket is measured before this one is packed: the two do not depend on each other, so the processor hides
 * the end of one (reduction, two divisions) behind the other. */
void taut__quant_encode(const taut__simd *simd, const quant_params *p, uint64_t seed, uint64_t first, const float *x,
                        size_t n, uint8_t *meta, uint8_t *codes, float *err)
{
    quant_bucket b[2] = {{.unit = quant_unit_for(p)}, {.unit = quant_unit_for(p)}};
    uint64_t     block = 0; /* of 2^32 counters: where buckets are no powers of 2, one may begin anywhere in it */
    taut__rng    rng = taut__rng_of(seed, 0);
    if (n) prepare(simd, p, x, taut__min(p->bucket, n), &b[0]);
    for (size_t i = 0, k = 0; i < n; k ^= 1) {
        size_t   len = taut__min(p->bucket, n - i), next = i + len;
        uint64_t counter = (first + i) / 2;
        if (next < n) prepare(simd, p, x + next, taut__min(p->bucket, n - next), &b[k ^ 1]);
        if (counter >> 32 != block) block = counter >> 32, rng = taut__rng_of(seed, counter);
        b[k].unit.rng = rng;
        b[k].unit.counter = (uint32_t)counter;
        memcpy(meta, b[k].meta, 4);
        if (p->norm == QUANT_MAXMIN) memcpy(meta + 4, &b[k].meta[1], 4);
        encode_bucket(simd, p, &b[k], x + i, len, codes + i / 8 * p->bits, err ? err + i : NULL);
        meta += quant_meta_bytes(p->norm);
        i = next;
    }
}

static void decode_bucket(const taut__simd *simd, const quant_params *p, const quant_bucket *b, const uint8_t *codes,
                          size_t n, float *dst, bool add)
{
    if (b->kind == QUANT_PLAIN && add) {
        simd->quant->unpack_add(&b->unit, codes, n, dst);
    } else if (b->kind == QUANT_PLAIN) {
        simd->quant->unpack(&b->unit, codes, n, dst);
    } else if (b->kind == QUANT_WIDE) {
        quant_exact e = quant_exact_unit(p, b);
        exact_unpack(&b->unit, &e, codes, n, dst, add);
    } else {
        for (size_t i = 0; i < n; i++) dst[i] = taut__float(QUANT_NAN);
    }
}

void taut__quant_decode(const taut__simd *simd, const quant_params *p, const uint8_t *meta, const uint8_t *codes,
                        size_t n, float *dst, bool add)
{
    quant_bucket b = {.unit = quant_unit_for(p)};
    for (size_t i = 0; i < n; i += p->bucket) {
        memcpy(&b.meta[0], meta, 4);
        if (p->norm == QUANT_MAXMIN) memcpy(&b.meta[1], meta + 4, 4);
        quant_understand(p, &b);
        decode_bucket(simd, p, &b, codes + i / 8 * p->bits, taut__min(p->bucket, n - i), dst + i, add);
        meta += quant_meta_bytes(p->norm);
    }
}
