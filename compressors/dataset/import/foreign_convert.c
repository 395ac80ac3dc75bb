/* foreign_convert.c : stored bytes of foreign files -> little-endian elements; the little of protobuf's encoding that this takes
 * (protobuf.dev/programming-guides/encoding; tensorflow/core/example/feature.proto). */
#include "../fields/zpack.h"
#include "foreign.h"

bool taut__pb_next(const uint8_t *src, size_t n, size_t *at, taut__pb_item *item)
{
    uint64_t key, len;
    *item = (taut__pb_item){0};
    if (!taut__varint_get(src, n, at, &key) || key >> 3 == 0 || key >> 3 > (1u << 29) - 1) return false;
    item->field = (uint32_t)(key >> 3);
    item->wire = (uint32_t)(key & 7);
    if (item->wire == 0) return taut__varint_get(src, n, at, &item->value);
    len = item->wire == 1 ? 8 : 4;
    if (item->wire == 2 && !taut__varint_get(src, n, at, &len)) return false;
    if ((item->wire != 1 && item->wire != 2 && item->wire != 5) || len > n - *at) return false;
    item->p = src + *at;
    item->n = (size_t)len;
    *at += (size_t)len;
    return true;
}

/* ---- lists: field 1, packed (one run of values) or not (a key before each) ---- */

typedef struct list {
    uint8_t *dst;
    size_t   room, n; /* elements */
} list;

static void put(list *l, uint64_t v, size_t bytes)
{
    if (l->dst && l->n < l->room) taut__put_uint(l->dst + l->n * bytes, v, bytes);
    l->n++;
}

static bool packed(taut__as as, const taut__pb_item *item, list *l)
{
    uint64_t v;
    if (as == TAUT__AS_FLOATLIST) {
        for (size_t i = 0; i + 4 <= item->n; i += 4) put(l, taut__get32(item->p + i), 4);
        return item->n % 4 == 0;
    }
    for (size_t i = 0; i < item->n;) {
        if (!taut__varint_get(item->p, item->n, &i, &v)) return false;
        put(l, v, 8);
    }
    return true;
}

static bool read_list(taut__as as, const uint8_t *src, size_t n, list *l)
{
    unsigned one = as == TAUT__AS_FLOATLIST ? 5 : 0;
    for (size_t at = 0; at < n;) {
        taut__pb_item item;
        if (!taut__pb_next(src, n, &at, &item) || item.field != 1) return false;
        if (item.wire == 2) {
            if (!packed(as, &item, l)) return false;
        } else if (item.wire == one) {
            if (one) put(l, taut__get32(item.p), 4);
            else put(l, item.value, 8);
        } else {
            return false;
        }
    }
    return true;
}

int64_t taut__list_count(taut__as as, const uint8_t *src, size_t n)
{
    list l = {0};
    return read_list(as, src, n, &l) ? (int64_t)l.n : -1;
}

/* ---- conversions ---- */

static bool space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static taut_status ascii(taut_type type, const uint8_t *src, size_t n, uint8_t *dst, size_t bytes)
{
    size_t   i = 0, end = n, digits = 0;
    bool     minus = false;
    uint64_t v = 0, limit;
    unsigned bits = 8 * (unsigned)taut_type_bytes(type);
    while (i < end && space(src[i])) i++;
    while (end > i && space(src[end - 1])) end--;
    if (i < end && (src[i] == '-' || src[i] == '+')) minus = src[i++] == '-';
    for (; i < end && src[i] >= '0' && src[i] <= '9'; i++, digits++) {
        if (v > (UINT64_MAX - 9) / 10) break;
        v = 10 * v + (uint64_t)(src[i] - '0');
    }
    limit = type & 1     ? (UINT64_C(1) << (bits - 1)) - !minus
            : minus      ? 0
            : bits == 64 ? UINT64_MAX
                         : (UINT64_C(1) << bits) - 1;
    if (digits == 0 || i < end || v > limit || bytes != bits / 8)
        return taut__fail(TAUT_E_CORRUPT, "'%.*s' is no whole number that %s holds", (int)taut__min(n, 24),
                          (const char *)src, taut_type_name(type));
    taut__put_uint(dst, minus ? 0 - v : v, bytes);
    return TAUT_OK;
}

static void swap(uint8_t *dst, const uint8_t *src, size_t n, size_t size)
{
    for (size_t at = 0; at + size <= n; at += size)
        for (size_t k = 0; k < size; k++) dst[at + k] = src[at + size - 1 - k];
}

taut_status taut__foreign_convert(taut__as as, taut_type type, const uint8_t *src, size_t n, uint8_t *dst, size_t bytes)
{
    size_t size = taut_type_bytes(type);
    list   l = {.dst = dst, .room = bytes / size};
    if (taut__as_same_length(as) && n != bytes)
        return taut__fail(TAUT_E_CORRUPT, "%zu bytes where %zu were expected", n, bytes);
    switch (as) {
    case TAUT__AS_PLAIN:
        if (n) memcpy(dst, src, n);
        return TAUT_OK;
    case TAUT__AS_SWAP:
        if (n % size) return taut__fail(TAUT_E_CORRUPT, "%zu bytes are no whole number of %s", n, taut_type_name(type));
        swap(dst, src, n, size);
        return TAUT_OK;
    case TAUT__AS_ASCII: return ascii(type, src, n, dst, bytes);
    case TAUT__AS_INT64LIST:
    case TAUT__AS_FLOATLIST:
        if (size == (as == TAUT__AS_FLOATLIST ? 4u : 8u) && bytes % size == 0 && read_list(as, src, n, &l) &&
            l.n == l.room)
            return TAUT_OK;
        return taut__fail(TAUT_E_CORRUPT, "not a list of %zu values in the encoding of tf.train.Example", l.room);
    }
    return taut__fail(TAUT_E_CORRUPT, "stored in a way of number %d, which this library does not know", as);
}
