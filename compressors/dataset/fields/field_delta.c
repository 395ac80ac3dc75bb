/* field_delta.c : `delta`: integers in groups of 1024, each as differences to the one before, or as differences to the group's
 * smallest, whichever takes fewer bits (frame of reference: Goldstein, Ramakrishnan and Shaft, ICDE 1998).
 * Per group: mode u8 (0 = to the smallest, 1 = to the one before, zigzag), width u8, base (size of an element), then
 * the values of `width` bits, packed. Mode 1: base is the first element, and the first value is 0. Arithmetic is modulo 2^64. */
#include "field.h"
#include "zpack.h"

enum { GROUP = 1024 };

static taut_status suits(const taut_field_spec *spec)
{
    if (spec->field->type < TAUT_FLOAT32) return TAUT_OK;
    return taut__fail(TAUT_E_UNSUPPORTED, "field %s: delta: codes integers, not %s", spec->field->name,
                      taut_type_name(spec->field->type));
}

static taut_status open_state(const taut_field_spec *spec, const uint8_t *shared, size_t bytes, bool encoding,
                              void **out)
{
    taut_type *t = taut__alloc(1, sizeof *t);
    (void)shared, (void)bytes, (void)encoding;
    if (!t) return taut__fail(TAUT_E_NOMEM, "delta: no memory");
    *t = spec->field->type;
    *out = t;
    return TAUT_OK;
}

static int64_t element(taut_type t, const uint8_t *p)
{
    size_t   size = taut_type_bytes(t);
    uint64_t u = taut__get_uint(p, size);
    unsigned unused = 64 - 8 * (unsigned)size;
    return t & 1 ? (int64_t)(u << unused) >> unused : (int64_t)u;
}

static taut_status encode_group(taut_type t, const uint8_t *src, size_t n, taut_bytes *out)
{
    size_t   size = taut_type_bytes(t), bytes;
    int64_t  v[GROUP], low = 0;
    uint64_t most[2] = {0, 0};
    unsigned width;
    uint8_t *p;
    int      mode;
    for (size_t i = 0; i < n; i++) {
        v[i] = element(t, src + i * size);
        if (i == 0 || (t == TAUT_U64 ? (uint64_t)v[i] < (uint64_t)low : v[i] < low)) low = v[i];
    }
    for (size_t i = 0; i < n; i++) {
        most[0] |= (uint64_t)v[i] - (uint64_t)low;
        if (i) most[1] |= taut__zigzag((int64_t)((uint64_t)v[i] - (uint64_t)v[i - 1]));
    }
    mode = taut__width(most[1]) < taut__width(most[0]);
    width = taut__width(most[mode]);
    bytes = 2 + size + taut__packed_bytes(n, width);
    TAUT_TRY(taut__bytes_reserve(out, bytes));
    p = out->p + out->n;
    memset(p, 0, bytes);
    p[0] = (uint8_t)mode;
    p[1] = (uint8_t)width;
    taut__put_uint(p + 2, (uint64_t)(mode ? v[0] : low), size);
    for (size_t i = 0; i < n && width; i++)
        taut__pack(p + 2 + size, i, width,
                   mode == 0 ? (uint64_t)v[i] - (uint64_t)low
                   : i       ? taut__zigzag((int64_t)((uint64_t)v[i] - (uint64_t)v[i - 1]))
                             : 0);
    out->n += bytes;
    return TAUT_OK;
}

static taut_status encode(void *state, const taut_part *in, taut_bytes *out)
{
    taut_type t = *(taut_type *)state;
    size_t    size = taut_type_bytes(t), n = in->bytes / size;
    for (size_t at = 0; at < n; at += GROUP)
        TAUT_TRY(encode_group(t, in->data + at * size, taut__min(GROUP, n - at), out));
    return TAUT_OK;
}

static taut_status decode(void *state, const uint8_t *src, size_t len, const taut_part *g, uint8_t *dst)
{
    taut_type t = *(taut_type *)state;
    size_t    size = taut_type_bytes(t), n = g->bytes / size, at = 0;
    if (g->bytes % size)
        return taut__fail(TAUT_E_CORRUPT, "delta: %zu bytes are no whole number of elements of %zu", g->bytes, size);
    for (size_t first = 0; first < n; first += GROUP) {
        size_t   k = taut__min(GROUP, n - first), head = 2 + size;
        unsigned mode, width;
        uint64_t v;
        if (len - at < head || (mode = src[at]) > 1 || (width = src[at + 1]) > 64 ||
            len - at - head < taut__packed_bytes(k, width))
            return taut__fail(TAUT_E_CORRUPT, "delta: group %zu, at byte %zu of %zu, is malformed", first / GROUP, at,
                              len);
        v = (uint64_t)element(t, src + at + 2);
        for (size_t i = 0; i < k; i++) {
            uint64_t d = width ? taut__unpack(src + at + head, i, width) : 0;
            if (mode) v += (uint64_t)taut__unzigzag(d);
            taut__put_uint(dst + (first + i) * size, mode ? v : v + d, size);
        }
        at += head + taut__packed_bytes(k, width);
    }
    return at == len ? TAUT_OK : taut__fail(TAUT_E_CORRUPT, "delta: %zu of %zu bytes are left over", len - at, len);
}

const taut_field_codec taut__field_delta = {
    .id = 5,
    .version = 1,
    .name = "delta",
    .help = "integers as packed differences",
    .suits = suits,
    .open = open_state,
    .close = taut__free,
    .encode = encode,
    .decode = decode,
};
