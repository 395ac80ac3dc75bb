/* foreign_flatbuffer.h : a reader of FlatBuffers (flatbuffers.dev/internals) for a few fields of tables whose layout is known. Every
 * offset is checked against the buffer; what is missing or lies outside reads as absent. */
#ifndef TAUT_FOREIGN_FLATBUFFER_H
#define TAUT_FOREIGN_FLATBUFFER_H

#include "../shard/bytes.h"

typedef struct taut__fb { /* a buffer, and a table in it; p NULL: no table */
    const uint8_t *p;
    size_t         n, at;
} taut__fb;

typedef struct taut__fb_vector { /* n elements from at on; p NULL: none */
    taut__fb in;
    size_t   at, n;
} taut__fb_vector;

static inline bool taut__fb_inside(const taut__fb *t, size_t at, size_t bytes)
{
    return at <= t->n && bytes <= t->n - at;
}

/* Where field i of the table lies, `bytes` of it; 0: absent. */
static inline size_t taut__fb_field(const taut__fb *t, unsigned i, size_t bytes)
{
    int64_t  vtable;
    unsigned size, at;
    if (!t->p || !taut__fb_inside(t, t->at, 4)) return 0;
    vtable = (int64_t)t->at - (int32_t)taut__get32(t->p + t->at);
    if (vtable < 0 || !taut__fb_inside(t, (size_t)vtable, 4)) return 0;
    size = taut__get16(t->p + vtable);
    if (4 + 2 * i + 2 > size || !taut__fb_inside(t, (size_t)vtable, size)) return 0;
    at = taut__get16(t->p + vtable + 4 + 2 * i);
    return at && taut__fb_inside(t, t->at + at, bytes) ? t->at + at : 0;
}

static inline int64_t taut__fb_number(const taut__fb *t, unsigned i, size_t bytes, int64_t absent)
{
    size_t   at = taut__fb_field(t, i, bytes);
    uint64_t v = at && t->p ? taut__get_uint(t->p + at, bytes) : 0;
    unsigned unused = 64 - 8 * (unsigned)bytes;
    return at ? (int64_t)(v << unused) >> unused : absent;
}

static inline size_t taut__fb_offset(const taut__fb *t, size_t at)
{
    size_t to = at && t->p ? at + taut__get32(t->p + at) : 0;
    return at && taut__fb_inside(t, to, 4) ? to : 0;
}

static inline taut__fb taut__fb_root(const uint8_t *p, size_t n)
{
    taut__fb t = {p, n, n >= 4 ? taut__get32(p) : 0};
    if (n < 8 || !taut__fb_inside(&t, t.at, 4)) t.p = NULL;
    return t;
}

static inline taut__fb taut__fb_table(const taut__fb *t, unsigned i)
{
    size_t   at = taut__fb_offset(t, taut__fb_field(t, i, 4));
    taut__fb r = {at ? t->p : NULL, t->n, at};
    return r;
}

/* A vector of elements of `bytes` each, or a string (bytes 1). */
static inline taut__fb_vector taut__fb_list(const taut__fb *t, unsigned i, size_t bytes)
{
    size_t          at = taut__fb_offset(t, taut__fb_field(t, i, 4));
    taut__fb_vector v = {*t, 0, 0};
    v.in.p = NULL;
    if (!at || taut__get32(t->p + at) > (t->n - at - 4) / bytes) return v;
    v.in.p = t->p;
    v.n = taut__get32(t->p + at);
    v.at = at + 4;
    return v;
}

static inline const uint8_t *taut__fb_element(const taut__fb_vector *v, size_t k, size_t bytes)
{
    return v->in.p + v->at + k * bytes;
}

static inline taut__fb taut__fb_table_at(const taut__fb_vector *v, size_t k)
{
    size_t   at = taut__fb_offset(&v->in, v->at + 4 * k);
    taut__fb r = {at ? v->in.p : NULL, v->in.n, at};
    return r;
}

#endif
