/* foreign_arrow.c : the messages of an Arrow stream, or of a file, which is a stream between two magics with a footer behind it. */
#include "foreign_arrow.h"
#include <inttypes.h>

enum { SCHEMA = 1, DICTIONARY_BATCH = 2, RECORD_BATCH = 3, METADATA_MAX = 256 << 20 };
static const char magic[6] = {'A', 'R', 'R', 'O', 'W', '1'};

typedef struct message {
    uint64_t at, body, body_bytes; /* at: of the message, for messages */
    taut__fb root;
    bool     end;
} message;

static taut_status bad(const taut__arrow *a, uint64_t at, const char *what)
{
    return taut__fail(TAUT_E_CORRUPT, "%s: the message at byte %" PRIu64 ", behind %" PRIu64 " record batches: %s",
                      a->s->name, at, a->batches, what);
}

/* The message at *at, below `limit`; *at moves behind its body. Before version 0.15 there was no marker in front of the length. */
static taut_status next_message(taut__arrow *a, uint64_t *at, uint64_t limit, message *m)
{
    const uint8_t *p;
    uint64_t       head = 4;
    uint32_t       length;
    int64_t        body;
    *m = (message){.at = *at};
    if (*at == limit) return bad(a, *at, "the stream ends without its end mark: truncated");
    if (limit - *at < 4) return bad(a, *at, "ends inside its length: truncated");
    TAUT_TRY(taut__source_view(a->s, *at, 4, "a message", &p));
    length = taut__get32(p);
    if (length == UINT32_MAX) {
        if (limit - *at < 8) return bad(a, *at, "ends inside its length: truncated");
        TAUT_TRY(taut__source_view(a->s, *at + 4, 4, "a message", &p));
        length = taut__get32(p);
        head = 8;
    }
    m->end = length == 0;
    if (m->end) return TAUT_OK;
    if (length > METADATA_MAX) return bad(a, *at, "metadata of an unlikely length");
    if (length > limit - *at - head) return bad(a, *at, "ends inside its metadata: truncated");
    TAUT_TRY(taut__source_view(a->s, *at + head, length, "a message", &p));
    m->root = taut__fb_root(p, length);
    body = taut__fb_number(&m->root, 3, 8, 0);
    if (!m->root.p || body < 0) return bad(a, *at, "its metadata is malformed");
    m->body = *at + head + length;
    m->body_bytes = (uint64_t)body;
    if (m->body_bytes > limit - m->body) return bad(a, *at, "ends inside its body: truncated");
    *at = m->body + m->body_bytes;
    return TAUT_OK;
}

/* The metadata is copied, since its view would be lost while bodies are looked at. */
static taut_status take_message(taut__arrow *a, const message *m)
{
    uint8_t    *copy = taut__alloc(m->root.n, 1);
    taut__fb    root = {copy, m->root.n, m->root.at}, head;
    int64_t     type;
    taut_status rc;
    if (!copy) return taut__fail(TAUT_E_NOMEM, "%s: no memory for %zu bytes of metadata", a->s->name, m->root.n);
    memcpy(copy, m->root.p, m->root.n);
    head = taut__fb_table(&root, 2);
    type = taut__fb_number(&root, 1, 1, 0);
    if (!head.p) rc = bad(a, m->at, "its metadata is malformed");
    else if (type == SCHEMA) rc = taut__arrow_schema(a, &head);
    else if (a->columns == 0) rc = bad(a, m->at, "comes before the schema");
    else if (type == DICTIONARY_BATCH) rc = taut__arrow_dictionary_batch(a, &head, m->body, m->body_bytes);
    else if (type == RECORD_BATCH) rc = taut__arrow_record_batch(a, &head, m->body, m->body_bytes);
    else
        rc = taut__fail(TAUT_E_UNSUPPORTED, "%s: a message of type number %" PRId64 ": must be a schema or a batch",
                        a->s->name, type);
    taut__free(copy);
    return rc;
}

/* A file's footer: where it begins, and how many record batches it names. */
static taut_status read_footer(taut__arrow *a, uint64_t *begin, uint64_t *batches)
{
    const uint8_t  *p;
    uint64_t        n = a->s->bytes, length;
    taut__fb        footer;
    taut__fb_vector blocks;
    if (n < 8 + 10)
        return taut__fail(TAUT_E_CORRUPT, "%s: an Arrow file of %" PRIu64 " bytes: truncated", a->s->name, n);
    TAUT_TRY(taut__source_view(a->s, n - 10, 10, "its end", &p));
    length = taut__get32(p);
    if (memcmp(p + 4, magic, sizeof magic) != 0)
        return taut__fail(TAUT_E_CORRUPT, "%s: an Arrow file that does not end with ARROW1: truncated", a->s->name);
    if (length > n - 18)
        return taut__fail(TAUT_E_CORRUPT, "%s: its footer of %" PRIu64 " bytes does not fit into the file", a->s->name,
                          length);
    *begin = n - 10 - length;
    TAUT_TRY(taut__source_view(a->s, *begin, (size_t)length, "its footer", &p));
    footer = taut__fb_root(p, (size_t)length);
    blocks = taut__fb_list(&footer, 3, 24);
    *batches = blocks.n;
    return footer.p ? TAUT_OK : taut__fail(TAUT_E_CORRUPT, "%s: its footer is malformed", a->s->name);
}

static taut_status scan_with(taut__arrow *a)
{
    const uint8_t *p;
    uint64_t       at = 0, limit = a->s->bytes, batches = 0;
    bool           file;
    message        m;
    TAUT_TRY(taut__source_view(a->s, 0, (size_t)taut__min(8, a->s->bytes), "its beginning", &p));
    file = a->s->bytes >= 8 && memcmp(p, magic, sizeof magic) == 0;
    if (file) {
        TAUT_TRY(read_footer(a, &limit, &batches));
        at = 8;
    }
    TAUT_TRY(taut__foreign_add_buffer(&a->im->foreign, (taut__foreign_buffer){0, false, 0, a->s->bytes, a->s->bytes},
                                      &a->whole));
    for (;;) {
        if (file && at == limit) break; /* old writers left the end mark out */
        TAUT_TRY(next_message(a, &at, limit, &m));
        if (m.end) break;
        TAUT_TRY(take_message(a, &m));
    }
    if (file && batches != a->batches)
        return taut__fail(TAUT_E_CORRUPT, "%s: its footer names %" PRIu64 " record batches, and there are %" PRIu64,
                          a->s->name, batches, a->batches);
    if (a->columns == 0) return taut__fail(TAUT_E_CORRUPT, "%s: no schema in it", a->s->name);
    return TAUT_OK;
}

static taut_status scan(taut__import *im)
{
    taut__arrow *a = taut__alloc(1, sizeof *a);
    taut_status  rc;
    if (!a) return taut__fail(TAUT_E_NOMEM, "%s: no memory", im->foreign.file[0].source.name);
    a->im = im;
    a->s = &im->foreign.file[0].source;
    rc = scan_with(a);
    for (size_t i = 0; i < a->dictionaries; i++) taut__bytes_free(&a->dictionary[i].entries);
    taut__bytes_free(&a->unpacked[0]);
    taut__bytes_free(&a->unpacked[1]);
    taut__free(a);
    return rc;
}

static bool knows(const char *path, const uint8_t *p, size_t n)
{
    if (n >= 8 && memcmp(p, magic, sizeof magic) == 0) return true;
    return (n >= 8 && taut__get32(p) == UINT32_MAX && taut__get32(p + 4) < METADATA_MAX) ||
           taut__import_ends(path, ".arrow") || taut__import_ends(path, ".arrows");
}

const taut__format taut__format_arrow = {"arrow", "Arrow IPC, file or stream", knows, false, scan};
