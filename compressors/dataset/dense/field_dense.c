/* field_dense.c : `dense`: context mixing for archives and slow links. Blocks are coded one by one, each from a model that
 * has read the field's first bytes, the prime, which are stored once, as the shared bytes:
 *   prime bytes u32, slot bits u8, zero u8 x 3, code of the prime
 * A part: mode u8: 0 = stored as it is; 1 = coded; 2 = begins inside the prime: offset u32, bytes u32 that are found there, code of the rest. */
#include "../fields/field.h"
#include "dense_stream.h"

enum { STORED = 0, CODED = 1, IN_PRIME = 2, SHARED_HEAD = 8, PRIME_MAX = 1 << 24 };

typedef struct state {
    size_t             prime_bytes, model_bytes, history_cap;
    unsigned           slot_bits;
    taut_dense_model  *primed, *model; /* the first is only copied */
    taut_dense_stream *primed_stream, *stream;
    uint8_t           *history; /* the prime, then the part under way */
    taut_bytes         code;
} state;

static const taut_key keys[] = {
    {.name = "prime",
     .kind = TAUT_KEY_INT,
     .min = 0,
     .max = PRIME_MAX,
     .fallback = 64 << 10,
     .help = "bytes that every block's model has read"},
};

static taut_status suits(const taut_field_spec *spec)
{
    const taut_field *f = spec->field;
    if (f->kind == TAUT_KIND_IMAGE && !f->variable && f->shape[0] * f->shape[1] <= 1u << 28) return TAUT_OK;
    if (f->type == TAUT_U8 && f->kind != TAUT_KIND_IMAGE) return TAUT_OK;
    return taut__fail(TAUT_E_UNSUPPORTED, "field %s: dense: codes text, bytes and u8 images of one shape, not %s of %s",
                      f->name, taut_kind_name(f->kind), taut_type_name(f->type));
}

static void geometry(const taut_field *f, taut_dense_stream *s)
{
    bool image = f->kind == TAUT_KIND_IMAGE;
    taut__dense_stream_init(s, image ? (uint32_t)f->shape[0] : 0, image ? (uint32_t)f->shape[1] : 0,
                            image ? (f->ndim == 3 ? (uint32_t)f->shape[2] : 1) : 0);
}

static void close_state(void *p)
{
    state *s = p;
    if (!s) return;
    taut__free(s->primed);
    taut__free(s->model);
    taut__free(s->primed_stream);
    taut__free(s->stream);
    taut__free(s->history);
    taut__bytes_free(&s->code);
    taut__free(s);
}

static taut_status state_create(const taut_field_spec *spec, size_t prime, unsigned slot_bits, state **out)
{
    state *s = taut__alloc(1, sizeof *s);
    *out = s;
    if (!s) return taut__fail(TAUT_E_NOMEM, "dense: no memory");
    s->prime_bytes = prime;
    s->slot_bits = slot_bits;
    s->model_bytes = taut__dense_bytes(slot_bits);
    s->history_cap = taut__max(prime, 1);
    s->primed = taut__alloc(s->model_bytes, 1);
    s->model = taut__alloc(s->model_bytes, 1);
    s->primed_stream = taut__alloc(1, sizeof *s->stream);
    s->stream = taut__alloc(1, sizeof *s->stream);
    s->history = taut__alloc(s->history_cap, 1);
    if (!s->primed || !s->model || !s->primed_stream || !s->stream || !s->history)
        return taut__fail(TAUT_E_NOMEM, "dense: no memory for two models of %zu bytes", s->model_bytes);
    taut__dense_init(s->primed, slot_bits);
    geometry(spec->field, s->primed_stream);
    return TAUT_OK;
}

/* Model and stream as they are behind the prime; room for n more bytes of history. */
static taut_status begin_part(state *s, size_t n)
{
    if (s->prime_bytes + n > s->history_cap) {
        size_t   cap = s->prime_bytes + n;
        uint8_t *p = taut__alloc(cap, 1);
        if (!p) return taut__fail(TAUT_E_NOMEM, "dense: no memory for a block of %zu bytes", n);
        memcpy(p, s->history, s->prime_bytes);
        taut__free(s->history);
        s->history = p;
        s->history_cap = cap;
    }
    memcpy(s->model, s->primed, s->model_bytes);
    *s->stream = *s->primed_stream;
    return TAUT_OK;
}

/* ---- training: the prime ---- */

static taut_status gather(const taut_source *source, size_t prime, taut_bytes *text)
{
    for (uint64_t b = 0; b < source->blocks && text->n < prime; b++) {
        taut_part part;
        TAUT_TRY(source->part(source->ctx, b, &part));
        TAUT_TRY(taut__bytes_add(text, part.data, taut__min(part.bytes, prime - text->n)));
    }
    return TAUT_OK;
}

/* A byte touches two slots per context, of which many are not new; larger tables are slower than what they save. */
static unsigned choose_slot_bits(const taut_source *source, size_t prime)
{
    uint64_t bytes = prime + source->bytes / source->blocks;
    unsigned bits = 12;
    while (bits < 18 && (UINT64_C(8) << bits) < bytes) bits++;
    return bits;
}

static taut_status train(const taut_field_spec *spec, const taut_source *source, taut_bytes *shared)
{
    size_t           prime = (size_t)taut__min((size_t)spec->value[0], source->bytes);
    unsigned         bits;
    taut_bytes       text = {0};
    state           *s = NULL;
    taut_dense_coder coder;
    taut_status      rc;
    if (spec->field->sample_bytes) prime -= prime % spec->field->sample_bytes; /* whole images */
    bits = choose_slot_bits(source, prime);
    rc = gather(source, prime, &text);
    if (rc == TAUT_OK) rc = state_create(spec, prime, bits, &s);
    if (rc == TAUT_OK) rc = taut__bytes_reserve(shared, SHARED_HEAD + 2 * prime + 16);
    if (rc == TAUT_OK) {
        uint8_t *p = shared->p + shared->n;
        memset(p, 0, SHARED_HEAD);
        taut__put32(p, (uint32_t)prime);
        p[4] = (uint8_t)bits;
        taut__dense_begin_encode(&coder, p + SHARED_HEAD, 2 * prime + 16);
        taut__dense_encode_bytes(s->primed_stream, s->primed, &coder, text.p, 0, prime);
        shared->n = (size_t)(taut__dense_end_encode(&coder) - shared->p);
        if (coder.full) { /* noise: nothing to learn from it */
            taut__put32(p, 0);
            shared->n = (size_t)(p - shared->p) + SHARED_HEAD;
        }
    }
    close_state(s);
    taut__bytes_free(&text);
    return rc;
}

static taut_status open_state(const taut_field_spec *spec, const uint8_t *shared, size_t bytes, bool encoding,
                              void **out)
{
    taut_dense_coder coder;
    state           *s;
    taut_status      rc;
    (void)encoding;
    if (bytes < SHARED_HEAD || taut__get32(shared) > PRIME_MAX || shared[4] < 12 || shared[4] > 18)
        return taut__fail(TAUT_E_CORRUPT, "dense: the prime of field %s is malformed", spec->field->name);
    rc = state_create(spec, taut__get32(shared), shared[4], &s);
    if (rc != TAUT_OK) {
        close_state(s);
        return rc;
    }
    taut__dense_begin_decode(&coder, shared + SHARED_HEAD, bytes - SHARED_HEAD);
    if (s->prime_bytes &&
        !taut__dense_decode_bytes(s->primed_stream, s->primed, &coder, s->history, 0, s->prime_bytes)) {
        close_state(s);
        return taut__fail(TAUT_E_CORRUPT, "dense: the prime of field %s, %zu bytes, is not that of %u",
                          spec->field->name, bytes, taut__get32(shared));
    }
    *out = s;
    return TAUT_OK;
}

/* ---- parts ---- */

static taut_status encode(void *p, const taut_part *in, taut_bytes *out)
{
    state           *s = p;
    taut_dense_coder coder;
    size_t offset = (size_t)taut__min(in->start, s->prime_bytes), found = taut__min(in->bytes, s->prime_bytes - offset),
           head = found ? 9 : 1, n;
    uint8_t *at;
    TAUT_TRY(begin_part(s, in->bytes));
    s->code.n = 0;
    TAUT_TRY(taut__bytes_reserve(&s->code, in->bytes + 16));
    memcpy(s->history + s->prime_bytes, in->data + found, in->bytes - found);
    taut__dense_begin_encode(&coder, s->code.p, in->bytes + 16);
    taut__dense_encode_bytes(s->stream, s->model, &coder, s->history, s->prime_bytes, in->bytes - found);
    n = in->bytes > found ? (size_t)(taut__dense_end_encode(&coder) - s->code.p) : 0;
    if (coder.full || (!found && n >= in->bytes)) {
        TAUT_TRY(taut__bytes_reserve(out, 1 + in->bytes));
        out->p[out->n++] = STORED;
        return taut__bytes_add(out, in->data, in->bytes);
    }
    TAUT_TRY(taut__bytes_reserve(out, head + n));
    at = out->p + out->n;
    at[0] = found ? IN_PRIME : CODED;
    if (found) {
        taut__put32(at + 1, (uint32_t)offset);
        taut__put32(at + 5, (uint32_t)found);
    }
    out->n += head;
    return taut__bytes_add(out, s->code.p, n);
}

static taut_status decode(void *p, const uint8_t *src, size_t len, const taut_part *g, uint8_t *dst)
{
    state           *s = p;
    taut_dense_coder coder;
    size_t           found = 0, head = 1;
    if (len < 1 || src[0] > IN_PRIME)
        return taut__fail(TAUT_E_CORRUPT, "dense: %zu bytes, mode %d: must be 0..%d", len, len ? src[0] : -1, IN_PRIME);
    if (src[0] == STORED) {
        if (len != 1 + g->bytes)
            return taut__fail(TAUT_E_CORRUPT, "dense: %zu stored bytes, not %zu", len - 1, g->bytes);
        memcpy(dst, src + 1, g->bytes);
        return TAUT_OK;
    }
    if (src[0] == IN_PRIME) {
        size_t offset = len >= 9 ? taut__get32(src + 1) : SIZE_MAX;
        found = len >= 9 ? taut__get32(src + 5) : 0;
        head = 9;
        if (offset > s->prime_bytes || found > s->prime_bytes - offset || found > g->bytes)
            return taut__fail(TAUT_E_CORRUPT, "dense: %zu bytes from %zu of the prime, which has %zu, into %zu", found,
                              offset, s->prime_bytes, g->bytes);
        memcpy(dst, s->history + offset, found);
    }
    if (found == g->bytes) return TAUT_OK;
    TAUT_TRY(begin_part(s, g->bytes - found));
    taut__dense_begin_decode(&coder, src + head, len - head);
    if (!taut__dense_decode_bytes(s->stream, s->model, &coder, s->history, s->prime_bytes, g->bytes - found))
        return taut__fail(TAUT_E_CORRUPT, "dense: %zu bytes are not the code of %zu", len, g->bytes);
    memcpy(dst + found, s->history + s->prime_bytes, g->bytes - found);
    return TAUT_OK;
}

const taut_field_codec taut__field_dense = {
    .id = 4,
    .version = 1,
    .name = "dense",
    .help = "context mixing for text and u8 images: the fewest bytes, at about 1.5 MB/s",
    .n_keys = 1,
    .keys = keys,
    .suits = suits,
    .train = train,
    .open = open_state,
    .close = close_state,
    .encode = encode,
    .decode = decode,
};
