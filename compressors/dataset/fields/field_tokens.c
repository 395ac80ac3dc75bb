/* field_tokens.c : `tokens`: ids are replaced by their rank in frequency (by id where equal), so that common ones are small.
 * Shared bytes: number of ids u32, then a zpack stream of the ids, most frequent first, u32 each. A part: mode u8: 0 =
 * width u8, ranks of `width` bits, packed; 1 = a zpack stream of the ranks as LEB128; whichever is shorter. */
#include "field.h"
#include "zpack.h"
#include <stdlib.h>

#define IDS_MAX (UINT32_C(1) << 26)
enum { PACKED = 0, VARINTS = 1 };

typedef struct state {
    size_t     size;   /* of an element */
    uint32_t   n, top; /* ids; the largest + 1 */
    uint32_t  *id;     /* by rank */
    uint32_t  *rank;   /* by id; only when encoding */
    int        level;
    taut_zpack z;
    taut_bytes scratch;
} state;

static const taut_key keys[] = {
    {.name = "level", .kind = TAUT_KEY_INT, .min = 1, .max = 22, .fallback = 19, .help = "effort of zstd"}};

static taut_status suits(const taut_field_spec *spec)
{
    taut_type t = spec->field->type;
    if (t == TAUT_U8 || t == TAUT_U16 || t == TAUT_U32) return TAUT_OK;
    return taut__fail(TAUT_E_UNSUPPORTED, "field %s: tokens: ids are u8, u16 or u32, not %s", spec->field->name,
                      taut_type_name(t));
}

static _Thread_local const uint64_t *counts; /* of the sort under way, one of each thread's */
static int                           by_count(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (counts[x] != counts[y]) return counts[x] < counts[y] ? 1 : -1;
    return (x > y) - (x < y);
}

static taut_status count(const taut_field_spec *spec, const taut_source *source, uint64_t **out, uint32_t *top)
{
    size_t size = taut_type_bytes(spec->field->type);
    *top = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (uint64_t b = 0; b < source->blocks; b++) {
            taut_part part;
            TAUT_TRY(source->part(source->ctx, b, &part));
            for (size_t at = 0; at < part.bytes; at += size) {
                uint32_t id = (uint32_t)taut__get_uint(part.data + at, size);
                if (pass) (*out)[id]++;
                else if (id >= *top) *top = id < UINT32_MAX ? id + 1 : id;
            }
        }
        if (pass) break;
        if (*top > IDS_MAX)
            return taut__fail(TAUT_E_UNSUPPORTED, "field %s: tokens: id %u: must be below %u; use delta or zstd",
                              spec->field->name, *top - 1, IDS_MAX);
        *out = taut__alloc((size_t)*top + 1, sizeof **out);
        if (!*out) return taut__fail(TAUT_E_NOMEM, "field %s: tokens: no memory for %u ids", spec->field->name, *top);
    }
    return TAUT_OK;
}

static taut_status train(const taut_field_spec *spec, const taut_source *source, taut_bytes *shared)
{
    uint64_t   *n = NULL;
    uint32_t    top = 0, ids = 0, *id = NULL;
    uint8_t     head[4];
    taut_zpack  z = {0};
    taut_status rc = count(spec, source, &n, &top);
    if (rc == TAUT_OK && !(id = taut__alloc((size_t)top + 1, sizeof *id)))
        rc = taut__fail(TAUT_E_NOMEM, "tokens: no memory for %u ids", top);
    if (rc == TAUT_OK) {
        for (uint32_t i = 0; i < top; i++)
            if (n[i]) id[ids++] = i;
        counts = n;
        qsort(id, ids, sizeof *id, by_count);
        taut__put32(head, ids);
        for (uint32_t i = 0; i < ids; i++) taut__put32((uint8_t *)&id[i], id[i]);
        rc = taut__bytes_add(shared, head, 4);
    }
    if (rc == TAUT_OK) rc = taut__zpack(&z, id, ids * sizeof *id, 19, shared);
    taut__zpack_free(&z);
    taut__free(id);
    taut__free(n);
    return rc;
}

static void close_state(void *p)
{
    state *s = p;
    if (!s) return;
    taut__free(s->id);
    taut__free(s->rank);
    taut__bytes_free(&s->scratch);
    taut__zpack_free(&s->z);
    taut__free(s);
}

static taut_status read_table(state *s, const uint8_t *shared, size_t bytes, bool encoding)
{
    size_t used;
    if (bytes < 4 || taut__get32(shared) > IDS_MAX)
        return taut__fail(TAUT_E_CORRUPT, "tokens: a table of %u ids in %zu bytes: must be at most %d",
                          bytes < 4 ? 0 : taut__get32(shared), bytes, (int)IDS_MAX);
    s->n = taut__get32(shared);
    TAUT_TRY(taut__zunpack(&s->z, shared + 4, bytes - 4, 4 * (size_t)s->n, &s->scratch, &used));
    if (s->scratch.n != 4 * (size_t)s->n)
        return taut__fail(TAUT_E_CORRUPT, "tokens: a table of %zu bytes: %u ids take %zu", s->scratch.n, s->n,
                          4 * (size_t)s->n);
    s->id = taut__alloc((size_t)s->n + 1, sizeof *s->id);
    if (!s->id) return taut__fail(TAUT_E_NOMEM, "tokens: no memory for %u ids", s->n);
    for (uint32_t i = 0; i < s->n; i++) {
        s->id[i] = taut__get32(s->scratch.p + 4 * (size_t)i);
        if (s->id[i] >= IDS_MAX)
            return taut__fail(TAUT_E_CORRUPT, "tokens: id %u: must be below %d", s->id[i], (int)IDS_MAX);
        if (s->id[i] >= s->top) s->top = s->id[i] + 1;
    }
    if (!encoding) return TAUT_OK;
    s->rank = taut__alloc((size_t)s->top + 1, sizeof *s->rank);
    if (!s->rank) return taut__fail(TAUT_E_NOMEM, "tokens: no memory for %u ids", s->top);
    for (uint32_t i = 0; i < s->n; i++) s->rank[s->id[i]] = i;
    return TAUT_OK;
}

static taut_status open_state(const taut_field_spec *spec, const uint8_t *shared, size_t bytes, bool encoding,
                              void **out)
{
    state      *s = taut__alloc(1, sizeof *s);
    taut_status rc;
    if (!s) return taut__fail(TAUT_E_NOMEM, "tokens: no memory");
    s->size = taut_type_bytes(spec->field->type);
    s->level = (int)spec->value[0];
    rc = read_table(s, shared, bytes, encoding);
    if (rc != TAUT_OK) close_state(s);
    else *out = s;
    return rc;
}

static taut_status encode(void *p, const taut_part *in, taut_bytes *out)
{
    state   *s = p;
    size_t   n = in->bytes / s->size, packed, at = out->n;
    uint32_t most = 0;
    unsigned width;
    s->scratch.n = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t r = s->rank[taut__get_uint(in->data + i * s->size, s->size)];
        if (r > most) most = r;
        TAUT_TRY(taut__varint_add(&s->scratch, r));
    }
    width = taut__width(most);
    packed = taut__packed_bytes(n, width);
    TAUT_TRY(taut__bytes_reserve(out, 1));
    out->p[out->n++] = VARINTS;
    TAUT_TRY(taut__zpack(&s->z, s->scratch.p, s->scratch.n, s->level, out));
    if (out->n - at <= 2 + packed) return TAUT_OK;
    out->n = at;
    TAUT_TRY(taut__bytes_reserve(out, 2 + packed));
    memset(out->p + at, 0, 2 + packed);
    out->p[at] = PACKED;
    out->p[at + 1] = (uint8_t)width;
    for (size_t i = 0; i < n && width; i++)
        taut__pack(out->p + at + 2, i, width, s->rank[taut__get_uint(in->data + i * s->size, s->size)]);
    out->n += 2 + packed;
    return TAUT_OK;
}

static taut_status put(const state *s, uint8_t *dst, size_t i, uint64_t rank)
{
    if (rank >= s->n)
        return taut__fail(TAUT_E_CORRUPT, "tokens: rank %llu: the table has %u ids", (unsigned long long)rank, s->n);
    taut__put_uint(dst + i * s->size, s->id[rank], s->size);
    return TAUT_OK;
}

static taut_status decode(void *p, const uint8_t *src, size_t len, const taut_part *g, uint8_t *dst)
{
    state   *s = p;
    size_t   n = g->bytes / s->size, used, at = 0;
    uint64_t v;
    if (g->bytes % s->size || len < 2 || src[0] > VARINTS)
        return taut__fail(TAUT_E_CORRUPT, "tokens: %zu bytes of kind %d for %zu of ids of %zu: malformed", len,
                          len ? src[0] : -1, g->bytes, s->size);
    if (src[0] == PACKED) {
        if (src[1] > 32 || len != 2 + taut__packed_bytes(n, src[1]))
            return taut__fail(TAUT_E_CORRUPT, "tokens: %zu bytes for %zu ranks of %d bits: malformed", len, n, src[1]);
        for (size_t i = 0; i < n; i++) TAUT_TRY(put(s, dst, i, src[1] ? taut__unpack(src + 2, i, src[1]) : 0));
        return TAUT_OK;
    }
    s->scratch.n = 0;
    TAUT_TRY(taut__zunpack(&s->z, src + 1, len - 1, 5 * n, &s->scratch, &used));
    for (size_t i = 0; i < n; i++) {
        if (!taut__varint_get(s->scratch.p, s->scratch.n, &at, &v))
            return taut__fail(TAUT_E_CORRUPT, "tokens: rank %zu of %zu is missing", i, n);
        TAUT_TRY(put(s, dst, i, v));
    }
    return TAUT_OK;
}

const taut_field_codec taut__field_tokens = {
    .id = 6,
    .version = 1,
    .name = "tokens",
    .help = "token ids by rank in frequency, packed or varint and zstd",
    .n_keys = 1,
    .keys = keys,
    .suits = suits,
    .train = train,
    .open = open_state,
    .close = close_state,
    .encode = encode,
    .decode = decode,
};
