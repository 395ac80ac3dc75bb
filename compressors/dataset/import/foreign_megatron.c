/* foreign_megatron.c : token sequences of Megatron-LM (megatron/core/datasets/indexed_dataset.py): tokens in NAME.bin, and where each
 * sequence lies in NAME.idx: "MMIDIDX\0\0", version u64 = 1, type u8, sequences u64, documents u64, then lengths i32 (in tokens) and
 * offsets i64 (in bytes) of all sequences, and the documents' first sequences i64, one more than there are documents in the count. A
 * sequence is a sample. */
#include "formats.h"
#include <inttypes.h>
#include <stdio.h>

enum { HEAD = 34 };
static const char magic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};

/* By what the user gave, the two files: file[0] becomes the .bin, file[1] the .idx. */
static taut_status open_both(taut__import *im)
{
    const char  *given = im->foreign.file[0].source.name;
    bool         idx = taut__import_ends(given, ".idx");
    size_t       n = strlen(given);
    char        *other;
    taut__source s = {0};
    taut_status  rc;
    if (im->foreign.files == 2) return TAUT_OK; /* tests bring both */
    if (n < 4 || !(idx || taut__import_ends(given, ".bin")))
        return taut__fail(TAUT_E_INVALID, "%s: tokens of Megatron are NAME.bin and NAME.idx: give one of them", given);
    if (!(other = taut__alloc(n + 1, 1))) return taut__fail(TAUT_E_NOMEM, "%s: no memory", given);
    memcpy(other, given, n + 1);
    memcpy(other + n - 3, idx ? "bin" : "idx", 3);
    rc = taut__source_open(&s, other);
    taut__free(other);
    TAUT_TRY(rc);
    TAUT_TRY(taut__foreign_add_file(&im->foreign, &s, !idx));
    if (!idx) return TAUT_OK;
    taut__foreign_file bin = im->foreign.file[1];
    im->foreign.file[1] = im->foreign.file[0];
    im->foreign.file[0] = bin;
    im->foreign.file[1].whole = true;
    return taut__source_hash(&im->foreign.file[1].source, &im->foreign.file[1].hash);
}

typedef struct head {
    taut_type type;
    bool      nonnegative;                 /* signed in the file */
    uint64_t  sequences, lengths, offsets; /* where these begin */
} head;

static taut_status read_head(taut__source *s, head *h)
{
    /* 6 and 7 changed places in the history of the format for elements that are no tokens anyway */
    static const struct {
        taut_type type;
        bool      nonnegative;
    } types[] = {[1] = {TAUT_U8, false}, [2] = {TAUT_I8, false},  [3] = {TAUT_U16, true},
                 [4] = {TAUT_U32, true}, [5] = {TAUT_I64, false}, [8] = {TAUT_U16, false}};
    const uint8_t *p;
    uint64_t       documents, want;
    TAUT_TRY(taut__source_view(s, 0, HEAD, "its header", &p));
    if (memcmp(p, magic, sizeof magic) != 0 || taut__get64(p + 9) != 1)
        return taut__fail(TAUT_E_CORRUPT, "%s: not a .idx of Megatron, which begins with MMIDIDX and version 1",
                          s->name);
    if (p[17] == 0 || p[17] > 8 || p[17] == 6 || p[17] == 7)
        return taut__fail(TAUT_E_UNSUPPORTED, "%s: elements of type number %u: token ids are of type 1..5 or 8",
                          s->name, p[17]);
    h->type = types[p[17]].type;
    h->nonnegative = types[p[17]].nonnegative;
    h->sequences = taut__get64(p + 18);
    documents = taut__get64(p + 26);
    if (h->sequences == 0) return taut__fail(TAUT_E_CORRUPT, "%s: no sequences in it", s->name);
    if (h->sequences > s->bytes || documents > s->bytes) want = UINT64_MAX;
    else want = HEAD + 12 * h->sequences + 8 * documents;
    /* multimodal sets append a byte per sequence */
    if (want != s->bytes && want + h->sequences != s->bytes)
        return taut__fail(TAUT_E_CORRUPT,
                          "%s: has %" PRIu64 " bytes; %" PRIu64 " sequences and %" PRIu64 " documents take %" PRIu64,
                          s->name, s->bytes, h->sequences, documents, want);
    h->lengths = HEAD;
    h->offsets = HEAD + 4 * h->sequences;
    return TAUT_OK;
}

static taut_status add_sequence(taut__import *im, const head *h, size_t field, uint32_t buffer, uint64_t i,
                                uint32_t tokens, uint64_t at)
{
    const taut__source *bin = &im->foreign.file[0].source, *idx = &im->foreign.file[1].source;
    uint64_t            size = taut_type_bytes(h->type), bytes = tokens * size;
    char                what[48];
    if (tokens > INT32_MAX || at % size || at > bin->bytes || bytes > bin->bytes - at)
        return taut__fail(TAUT_E_CORRUPT,
                          "%s: sequence %" PRIu64 ": %" PRIu64 " tokens from byte %" PRIu64
                          " on lie outside %s, which has %" PRIu64 " bytes",
                          idx->name, i, (uint64_t)tokens, at, bin->name, bin->bytes);
    snprintf(what, sizeof what, "sequence %" PRIu64, i);
    return taut__import_place(im, field, buffer, at, bytes, 0, what);
}

enum { CHUNK = 4096 };

static taut_status add_sequences(taut__import *im, const head *h, size_t field, uint32_t buffer)
{
    taut__source *idx = &im->foreign.file[1].source;
    uint32_t      length[CHUNK];
    for (uint64_t i = 0; i < h->sequences; i += CHUNK) {
        const uint8_t *p;
        size_t         n = h->sequences - i < CHUNK ? (size_t)(h->sequences - i) : CHUNK;
        TAUT_TRY(taut__source_view(idx, h->lengths + 4 * i, 4 * n, "lengths of sequences", &p));
        for (size_t k = 0; k < n; k++) length[k] = taut__get32(p + 4 * k);
        TAUT_TRY(taut__source_view(idx, h->offsets + 8 * i, 8 * n, "offsets of sequences", &p));
        for (size_t k = 0; k < n; k++)
            TAUT_TRY(add_sequence(im, h, field, buffer, i + k, length[k], taut__get64(p + 8 * k)));
    }
    return TAUT_OK;
}

static taut_status scan(taut__import *im)
{
    head       h;
    size_t     field;
    uint32_t   buffer;
    taut_field f = TAUT_FIELD_INIT;
    TAUT_TRY(open_both(im));
    TAUT_TRY(read_head(&im->foreign.file[1].source, &h));
    f.kind = h.type == TAUT_U8 || h.type == TAUT_U16 || h.type == TAUT_U32 ? TAUT_KIND_TOKENS : TAUT_KIND_INT;
    f.type = h.type;
    f.variable = 1;
    TAUT_TRY(taut__import_field_add(im, "tokens", &f, TAUT__AS_PLAIN, &field));
    im->field[field].nonnegative = h.nonnegative;
    TAUT_TRY(taut__foreign_add_buffer(
        &im->foreign, (taut__foreign_buffer){0, false, 0, im->foreign.file[0].bytes, im->foreign.file[0].bytes},
        &buffer));
    im->samples = h.sequences;
    return add_sequences(im, &h, field, buffer);
}

/* The .bin has no magic: its neighbour decides. */
static bool knows(const char *path, const uint8_t *p, size_t n)
{
    char  other[4096];
    FILE *f;
    char  begin[sizeof magic] = {0};
    if (n >= sizeof magic && memcmp(p, magic, sizeof magic) == 0) return true;
    if (!taut__import_ends(path, ".bin") || strlen(path) >= sizeof other) return false;
    snprintf(other, sizeof other, "%.*sidx", (int)strlen(path) - 3, path);
    if (!(f = fopen(other, "rb"))) return false;
    n = fread(begin, 1, sizeof begin, f);
    fclose(f);
    return n == sizeof begin && memcmp(begin, magic, sizeof magic) == 0;
}

const taut__format taut__format_megatron = {"megatron", "token sequences, NAME.bin with NAME.idx", knows, false, scan};
