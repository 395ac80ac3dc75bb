/* field_dict.c : `dict`: zstd with a dictionary that is trained on the field (COVER: Liao, Petri, Moffat and Wirth, "Effective
 * construction of relative Lempel-Ziv dictionaries", WWW 2016, as in zstd's dictBuilder) and stored once, itself compressed.
 * Shared bytes: size of the dictionary u32, a zstd frame with it. A part: a zstd frame, which only decodes with the
 * dictionary, so it travels in a skippable one. */
#define ZDICT_STATIC_LINKING_ONLY
#include "field.h"
#include <zdict.h>
#include <zstd.h>

enum { PIECE = 1024, COVER_BYTES = 8 << 20, TRAIN_BYTES = 64 << 20 };

typedef struct state {
    ZSTD_CCtx  *c;
    ZSTD_DCtx  *d;
    ZSTD_CDict *cd;
    ZSTD_DDict *dd;
} state;

static const taut_key keys[] = {
    {.name = "level", .kind = TAUT_KEY_INT, .min = 1, .max = 22, .fallback = 19, .help = "effort"},
    {.name = "size",
     .kind = TAUT_KEY_INT,
     .min = 1024,
     .max = 1 << 24,
     .fallback = 112 << 10,
     .help = "largest dictionary, bytes"},
};

/* Pieces of whole parts, evenly chosen, at most TRAIN_BYTES of them. Every sample begins a piece. */
static taut_status gather(const taut_source *source, taut_bytes *text, taut_bytes *sizes)
{
    uint64_t every = source->bytes / TRAIN_BYTES + 1;
    for (uint64_t b = 0; b < source->blocks; b += every) {
        taut_part part;
        TAUT_TRY(source->part(source->ctx, b, &part));
        TAUT_TRY(taut__bytes_add(text, part.data, part.bytes));
        for (uint32_t i = 0; i < part.n; i++)
            for (size_t left = part.offset[i + 1] - part.offset[i], n; left; left -= n) {
                n = taut__min(left, PIECE);
                TAUT_TRY(taut__bytes_add(sizes, &n, sizeof n));
            }
    }
    return TAUT_OK;
}

static size_t train_zdict(uint8_t *dict, size_t cap, const taut_bytes *text, const taut_bytes *sizes, int level)
{
    const size_t *size = (const size_t *)(const void *)sizes->p;
    unsigned      n = (unsigned)(sizes->n / sizeof *size);
    if (text->n <= COVER_BYTES) {
        ZDICT_cover_params_t p = {.k = 1024, .d = 8, .splitPoint = 1.0, .zParams = {.compressionLevel = level}};
        return ZDICT_trainFromBuffer_cover(dict, cap, text->p, size, n, p);
    }
    ZDICT_fastCover_params_t p = {
        .k = 1024, .d = 8, .f = 20, .accel = 1, .splitPoint = 1.0, .zParams = {.compressionLevel = level}};
    return ZDICT_trainFromBuffer_fastCover(dict, cap, text->p, size, n, p);
}

static taut_status store(const taut_field_spec *spec, const uint8_t *dict, size_t n, taut_bytes *shared)
{
    size_t  bound = ZSTD_compressBound(n), stored;
    uint8_t head[4];
    taut__put32(head, (uint32_t)n);
    TAUT_TRY(taut__bytes_add(shared, head, 4));
    TAUT_TRY(taut__bytes_reserve(shared, bound));
    stored = ZSTD_compress(shared->p + shared->n, bound, dict, n, 19);
    if (ZSTD_isError(stored))
        return taut__fail(TAUT_E_NOMEM, "field %s: dict: %s", spec->field->name, ZSTD_getErrorName(stored));
    shared->n += stored;
    return TAUT_OK;
}

static taut_status train(const taut_field_spec *spec, const taut_source *source, taut_bytes *shared)
{
    taut_bytes  text = {0}, sizes = {0};
    size_t      cap = (size_t)taut__min((size_t)spec->value[1], source->bytes / 8), n;
    uint8_t    *dict = taut__alloc(taut__max(cap, 1), 1);
    taut_status rc =
        dict ? gather(source, &text, &sizes) : taut__fail(TAUT_E_NOMEM, "field %s: dict: no memory", spec->field->name);
    if (rc == TAUT_OK) {
        n = cap < 256 ? (size_t)-1 : train_zdict(dict, cap, &text, &sizes, (int)spec->value[0]);
        if (ZDICT_isError(n))
            rc = taut__fail(TAUT_E_INVALID,
                            "field %s: dict: %llu bytes are too few, or too uniform, to train a dictionary: use zstd",
                            spec->field->name, (unsigned long long)source->bytes);
        else rc = store(spec, dict, n, shared);
    }
    taut__free(dict);
    taut__bytes_free(&text);
    taut__bytes_free(&sizes);
    return rc;
}

static void close_state(void *p)
{
    state *s = p;
    if (!s) return;
    ZSTD_freeCCtx(s->c);
    ZSTD_freeDCtx(s->d);
    ZSTD_freeCDict(s->cd);
    ZSTD_freeDDict(s->dd);
    taut__free(s);
}

static taut_status unpack_dictionary(const uint8_t *shared, size_t bytes, uint8_t **dict, size_t *n)
{
    size_t got;
    *dict = NULL;
    if (bytes < 4 || taut__get32(shared) > 1 << 24)
        return taut__fail(TAUT_E_CORRUPT, "dict: a dictionary of %u bytes in %zu: must be at most 2^24",
                          bytes < 4 ? 0 : taut__get32(shared), bytes);
    *n = taut__get32(shared);
    *dict = taut__alloc(*n + 1, 1);
    if (!*dict) return taut__fail(TAUT_E_NOMEM, "dict: no memory for a dictionary of %zu bytes", *n);
    got = ZSTD_decompress(*dict, *n, shared + 4, bytes - 4);
    if (ZSTD_isError(got) || got != *n)
        return taut__fail(TAUT_E_CORRUPT, "dict: its dictionary of %zu bytes does not decode: %s", *n,
                          ZSTD_isError(got) ? ZSTD_getErrorName(got) : "it has others");
    return TAUT_OK;
}

static taut_status open_state(const taut_field_spec *spec, const uint8_t *shared, size_t bytes, bool encoding,
                              void **out)
{
    state      *s = taut__alloc(1, sizeof *s);
    uint8_t    *dict = NULL;
    size_t      n = 0;
    taut_status rc = s ? unpack_dictionary(shared, bytes, &dict, &n) : taut__fail(TAUT_E_NOMEM, "dict: no memory");
    if (rc == TAUT_OK) {
        s->d = ZSTD_createDCtx();
        s->dd = ZSTD_createDDict(dict, n);
        if (encoding) s->c = ZSTD_createCCtx();
        if (encoding) s->cd = ZSTD_createCDict(dict, n, (int)spec->value[0]);
        if (!s->d || !s->dd || (encoding && (!s->c || !s->cd)))
            rc = taut__fail(TAUT_E_NOMEM, "dict: no memory, or no dictionary of zstd");
    }
    taut__free(dict);
    if (rc != TAUT_OK) {
        close_state(s);
        return rc;
    }
    *out = s;
    return TAUT_OK;
}

static taut_status encode(void *p, const taut_part *in, taut_bytes *out)
{
    state *s = p;
    size_t n, bound = ZSTD_compressBound(in->bytes);
    TAUT_TRY(taut__bytes_reserve(out, bound));
    n = ZSTD_compress_usingCDict(s->c, out->p + out->n, bound, in->data, in->bytes, s->cd);
    if (ZSTD_isError(n)) return taut__fail(TAUT_E_NOMEM, "dict: %s", ZSTD_getErrorName(n));
    out->n += n;
    return TAUT_OK;
}

static taut_status decode(void *p, const uint8_t *src, size_t len, const taut_part *g, uint8_t *dst)
{
    state *s = p;
    size_t n = ZSTD_decompress_usingDDict(s->d, dst, g->bytes, src, len, s->dd);
    if (ZSTD_isError(n)) return taut__fail(TAUT_E_CORRUPT, "dict: %s", ZSTD_getErrorName(n));
    if (n != g->bytes) return taut__fail(TAUT_E_CORRUPT, "dict: decodes to %zu bytes, not %zu", n, g->bytes);
    return TAUT_OK;
}

const taut_field_codec taut__field_dict = {
    .id = 3,
    .version = 1,
    .name = "dict",
    .help = "zstd with a dictionary trained on the field and stored with it",
    .n_keys = 2,
    .keys = keys,
    .train = train,
    .open = open_state,
    .close = close_state,
    .encode = encode,
    .decode = decode,
};
