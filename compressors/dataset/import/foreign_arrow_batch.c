/* foreign_arrow_batch.c : see foreign_arrow.h. A batch has a node (length, nulls) per column and, in the same order, buffers of its body:
 * validity, then what the type has. Compressed ones begin with their decoded length, i64; -1: not compressed. */
#include "../shard/layout.h"
#include "foreign_arrow.h"
#include <inttypes.h>
#include <stdio.h>
#include <zstd.h>

typedef struct batch {
    taut__arrow    *a;
    const char     *what; /* "record batch 3", for messages */
    taut__fb_vector nodes, buffers;
    size_t          node, buffer; /* the next ones */
    uint64_t        rows, body, body_bytes;
    bool            compressed;
    bool            nulls_matter; /* of columns that are wanted */
} batch;

typedef struct piece {  /* a buffer of a batch, as a buffer of the index */
    uint32_t number;    /* in the import's table */
    uint64_t at, bytes; /* where it begins in that; decoded bytes */
} piece;

static taut_status bad(const batch *b, const char *what)
{
    return taut__fail(TAUT_E_CORRUPT, "%s: %s: %s", b->a->s->name, b->what, what);
}

/* ---- nodes and buffers ---- */

static taut_status next_node(batch *b, uint64_t *rows)
{
    const uint8_t *p;
    uint64_t       nulls;
    if (b->node >= b->nodes.n) return bad(b, "it has fewer columns than the schema");
    p = taut__fb_element(&b->nodes, b->node++, 16);
    *rows = taut__get64(p);
    nulls = taut__get64(p + 8);
    if (*rows > INT64_MAX || nulls > *rows) return bad(b, "the length of a column is malformed");
    if (nulls && b->nulls_matter)
        return taut__fail(TAUT_E_UNSUPPORTED,
                          "%s: %s: %" PRIu64 " of %" PRIu64
                          " values are null: fill or drop them, or choose other columns with select",
                          b->a->s->name, b->what, nulls, *rows);
    return TAUT_OK;
}

static taut_status unpacked_piece(batch *b, uint64_t at, uint64_t bytes, piece *p)
{
    const uint8_t       *head;
    int64_t              decoded;
    taut__foreign_buffer buffer = {0};
    if (bytes < 8) return bad(b, "a compressed buffer without its length");
    TAUT_TRY(taut__source_view(b->a->s, at, 8, b->what, &head));
    decoded = (int64_t)taut__get64(head);
    if (decoded == -1) {
        *p = (piece){b->a->whole, at + 8, bytes - 8};
        return TAUT_OK;
    }
    if (decoded < 0) return bad(b, "the length of a compressed buffer is negative");
    buffer = (taut__foreign_buffer){0, true, at + 8, bytes - 8, (uint64_t)decoded};
    *p = (piece){.bytes = (uint64_t)decoded};
    return taut__foreign_add_buffer(&b->a->im->foreign, buffer, &p->number);
}

static taut_status next_buffer(batch *b, piece *p, bool used)
{
    const uint8_t *e;
    uint64_t       at, bytes;
    if (b->buffer >= b->buffers.n) return bad(b, "it has fewer buffers than its columns take");
    e = taut__fb_element(&b->buffers, b->buffer++, 16);
    at = taut__get64(e);
    bytes = taut__get64(e + 8);
    if (at > b->body_bytes || bytes > b->body_bytes - at) return bad(b, "a buffer reaches beyond the body");
    *p = (piece){b->a->whole, b->body + at, bytes};
    return used && b->compressed && bytes ? unpacked_piece(b, b->body + at, bytes, p) : TAUT_OK;
}

/* All bytes of a piece in memory. */
static taut_status bytes_of(batch *b, const piece *p, int which, const uint8_t **bytes)
{
    const taut__foreign_buffer *u = &b->a->im->foreign.buffer[p->number];
    taut_bytes                 *out = &b->a->unpacked[which];
    const uint8_t              *stored;
    size_t                      got;
    if (!u->zstd) return taut__source_view(b->a->s, p->at, (size_t)p->bytes, b->what, bytes);
    if (u->decoded / 32768 > u->stored) return bad(b, "a compressed buffer claims to hold more than it can");
    TAUT_TRY(taut__memory_ok(u->decoded, b->a->s->name));
    out->n = 0;
    TAUT_TRY(taut__bytes_reserve(out, (size_t)u->decoded + 1));
    TAUT_TRY(taut__source_view(b->a->s, u->at, (size_t)u->stored, b->what, &stored));
    got = ZSTD_decompress(out->p, (size_t)u->decoded, stored, (size_t)u->stored);
    if (ZSTD_isError(got) || got != u->decoded) return bad(b, "a zstd buffer is damaged");
    *bytes = out->p;
    return TAUT_OK;
}

/* ---- walking past columns ---- */

static taut_status skip_column(batch *b, size_t k)
{
    const taut__arrow_node *n = &b->a->node[k];
    uint64_t                rows;
    piece                   p;
    int                     buffers;
    TAUT_TRY(next_node(b, &rows));
    switch (n->encoded ? ARROW_INT : n->type) {
    case ARROW_NULL: buffers = 0; break;
    case ARROW_STRUCT:
    case ARROW_FIXED_LIST: buffers = 1; break;
    case ARROW_BINARY:
    case ARROW_UTF8:
    case ARROW_LARGE_BINARY:
    case ARROW_LARGE_UTF8: buffers = 3; break;
    case ARROW_INT:
    case ARROW_FLOAT:
    case ARROW_BOOL:
    case ARROW_DECIMAL:
    case ARROW_DATE:
    case ARROW_TIME:
    case ARROW_TIMESTAMP:
    case ARROW_INTERVAL:
    case ARROW_DURATION:
    case ARROW_FIXED_BINARY:
    case ARROW_LIST:
    case ARROW_LARGE_LIST:
    case ARROW_MAP: buffers = 2; break;
    default:
        return taut__fail(TAUT_E_UNSUPPORTED, "%s: a column of type number %d, beside which nothing can be found",
                          b->a->s->name, n->type);
    }
    for (int i = 0; i < buffers; i++) TAUT_TRY(next_buffer(b, &p, false));
    for (size_t c = k + 1; !n->encoded && c < n->end; c = b->a->node[c].end) TAUT_TRY(skip_column(b, c));
    return TAUT_OK;
}

/* ---- values ---- where they go: places of a field, or entries of a dictionary */

typedef struct sink {
    taut__import           *im;
    size_t                  field;
    taut__arrow_dictionary *dictionary; /* not NULL: there */
} sink;

static taut_status put(const batch *b, const sink *s, uint32_t buffer, uint64_t at, uint64_t bytes)
{
    taut__arrow_entry e = {at, bytes, buffer};
    if (s->dictionary) return taut__bytes_add(&s->dictionary->entries, &e, sizeof e);
    return taut__import_place(s->im, s->field, buffer, at, bytes, 0, b->what);
}

static taut_status put_array(const batch *b, const sink *s, const piece *p, uint64_t rows, uint64_t width)
{
    if (rows > p->bytes / width) return bad(b, "a buffer is shorter than its values");
    if (!s->dictionary) return taut__places_add_array(&s->im->field[s->field].places, p->number, p->at, rows);
    for (uint64_t i = 0; i < rows; i++) TAUT_TRY(put(b, s, p->number, p->at + i * width, width));
    return TAUT_OK;
}

/* Values between offsets of `size` bytes each, in elements of `width`. */
static taut_status put_between(batch *b, const sink *s, const piece *offsets, size_t size, const piece *data,
                               uint64_t rows, uint64_t width)
{
    const uint8_t *p;
    if (rows == 0) return TAUT_OK;
    if (rows >= offsets->bytes / size) return bad(b, "a buffer of offsets is shorter than its column");
    TAUT_TRY(bytes_of(b, offsets, 0, &p));
    for (uint64_t i = 0; i < rows; i++) {
        uint64_t from = taut__get_uint(p + i * size, size), to = taut__get_uint(p + (i + 1) * size, size);
        if (from > to || to > data->bytes / width) return bad(b, "offsets of a column fall, or lie outside its data");
        TAUT_TRY(put(b, s, data->number, data->at + from * width, (to - from) * width));
    }
    return TAUT_OK;
}

/* The values of node k without regard to a dictionary. */
static taut_status take_values(batch *b, size_t k, const sink *s, uint64_t want)
{
    const taut__arrow_node *n = &b->a->node[k];
    uint64_t                rows, inner = 1;
    piece                   valid, offsets, data;
    bool wide = n->type == ARROW_LARGE_UTF8 || n->type == ARROW_LARGE_BINARY || n->type == ARROW_LARGE_LIST;
    TAUT_TRY(next_node(b, &rows));
    if (rows != want) return bad(b, "columns of different lengths");
    TAUT_TRY(next_buffer(b, &valid, false));
    switch (n->type) {
    case ARROW_INT:
    case ARROW_FLOAT:
    case ARROW_FIXED_BINARY:
        TAUT_TRY(next_buffer(b, &data, true));
        return put_array(b, s, &data, rows, n->type == ARROW_FIXED_BINARY ? n->width : taut_type_bytes(n->element));
    case ARROW_UTF8:
    case ARROW_LARGE_UTF8:
    case ARROW_BINARY:
    case ARROW_LARGE_BINARY:
        TAUT_TRY(next_buffer(b, &offsets, true));
        TAUT_TRY(next_buffer(b, &data, true));
        return put_between(b, s, &offsets, wide ? 8 : 4, &data, rows, 1);
    case ARROW_LIST:
    case ARROW_LARGE_LIST:
        TAUT_TRY(next_buffer(b, &offsets, true));
        TAUT_TRY(next_node(b, &inner));
        TAUT_TRY(next_buffer(b, &valid, false));
        TAUT_TRY(next_buffer(b, &data, true));
        if (inner > data.bytes / taut_type_bytes(n[1].element)) return bad(b, "a buffer is shorter than its values");
        return put_between(b, s, &offsets, wide ? 8 : 4, &data, rows, taut_type_bytes(n[1].element));
    default: break; /* fixed lists, whose elements are at the bottom */
    }
    for (; n->type == ARROW_FIXED_LIST; n++) {
        inner *= n->width; /* taut__field_shape() has bounded it */
        if (inner == 0) return bad(b, "a fixed list of no elements");
        TAUT_TRY(next_node(b, &want));
        if (want / inner != rows || want % inner) return bad(b, "a fixed list of another number of elements");
        TAUT_TRY(next_buffer(b, &valid, false));
    }
    TAUT_TRY(next_buffer(b, &data, true));
    return put_array(b, s, &data, rows, inner * taut_type_bytes(n->element));
}

/* ---- a column by its dictionary ---- */

static taut_status take_encoded(batch *b, const taut__arrow_column *c, const sink *s)
{
    const taut__arrow_node *n = &b->a->node[c->node];
    taut__arrow_dictionary *d = taut__arrow_find(b->a, n->dictionary);
    size_t         size = taut_type_bytes(n->index), entries = d ? d->entries.n / sizeof(taut__arrow_entry) : 0;
    uint64_t       rows;
    piece          valid, data;
    const uint8_t *p;
    TAUT_TRY(next_node(b, &rows));
    if (rows != b->rows) return bad(b, "columns of different lengths");
    TAUT_TRY(next_buffer(b, &valid, false));
    TAUT_TRY(next_buffer(b, &data, true));
    if (rows > data.bytes / size) return bad(b, "a buffer is shorter than its indices");
    if (rows == 0) return TAUT_OK;
    if (!d || d->times == 0) return bad(b, "comes before its dictionary");
    if (c->label && d->times > 1)
        return taut__fail(TAUT_E_UNSUPPORTED,
                          "%s: column %s: its dictionary changes on the way, so its indices are no classes",
                          b->a->s->name, c->name);
    TAUT_TRY(bytes_of(b, &data, 1, &p));
    for (uint64_t i = 0; i < rows; i++) {
        uint64_t          at = taut__get_uint(p + i * size, size);
        taut__arrow_entry e;
        if (at >= entries)
            return taut__fail(TAUT_E_CORRUPT,
                              "%s: %s: value %" PRIu64 " of column %s is number %" PRIu64 " of a dictionary of %zu",
                              b->a->s->name, b->what, i, c->name, at, entries);
        if (c->label) continue;
        memcpy(&e, d->entries.p + at * sizeof e, sizeof e);
        TAUT_TRY(put(b, s, e.buffer, e.at, e.bytes));
    }
    return c->label ? put_array(b, s, &data, rows, size) : TAUT_OK;
}

/* ---- batches ---- */

static taut_status open_batch(batch *b, const taut__fb *t)
{
    taut__fb compression = taut__fb_table(t, 3);
    int64_t  rows = taut__fb_number(t, 0, 8, 0), codec;
    b->nodes = taut__fb_list(t, 1, 16);
    b->buffers = taut__fb_list(t, 2, 16);
    if (rows < 0) return bad(b, "its length is negative");
    b->rows = (uint64_t)rows;
    if (!compression.p) return TAUT_OK;
    codec = taut__fb_number(&compression, 0, 1, 0);
    if (codec == 0)
        return taut__fail(TAUT_E_UNSUPPORTED, "%s: %s: compressed by lz4: write it with zstd or without compression",
                          b->a->s->name, b->what);
    if (codec != 1 || taut__fb_number(&compression, 1, 1, 0) != 0) return bad(b, "compressed in an unknown way");
    b->compressed = true;
    return TAUT_OK;
}

taut_status taut__arrow_record_batch(taut__arrow *a, const taut__fb *t, uint64_t body, uint64_t body_bytes)
{
    char  what[48];
    batch b = {.a = a, .what = what, .body = body, .body_bytes = body_bytes};
    snprintf(what, sizeof what, "record batch %" PRIu64, a->batches++);
    TAUT_TRY(open_batch(&b, t));
    for (size_t k = 0; k < a->columns; k++) {
        const taut__arrow_column *c = &a->column[k];
        sink                      s = {a->im, c->field, NULL};
        b.nulls_matter = c->wanted;
        if (!c->wanted) TAUT_TRY(skip_column(&b, c->node));
        else TAUT_TRY(a->node[c->node].encoded ? take_encoded(&b, c, &s) : take_values(&b, c->node, &s, b.rows));
    }
    a->im->samples += b.rows;
    return TAUT_OK;
}

/* Names of classes, in the dictionary's order. */
static taut_status take_names(batch *b, const taut__arrow_dictionary *d)
{
    taut_bytes *out = &b->a->im->labels;
    out->n = 0;
    for (size_t i = 0; i < d->entries.n / sizeof(taut__arrow_entry); i++) {
        taut__arrow_entry e;
        const uint8_t    *p;
        memcpy(&e, d->entries.p + i * sizeof e, sizeof e);
        piece whole = {e.buffer, 0, b->a->im->foreign.buffer[e.buffer].decoded};
        if (b->a->im->foreign.buffer[e.buffer].zstd) {
            TAUT_TRY(bytes_of(b, &whole, 0, &p));
            p += e.at;
        } else {
            TAUT_TRY(taut__source_view(b->a->s, e.at, (size_t)e.bytes, b->what, &p));
        }
        if (memchr(p, '\n', (size_t)e.bytes) || memchr(p, 0, (size_t)e.bytes))
            return bad(b, "a class whose name holds a newline");
        TAUT_TRY(taut__bytes_add(out, p, (size_t)e.bytes));
        TAUT_TRY(taut__bytes_add(out, "\n", 1));
        if (out->n > 1 << 24) return bad(b, "names of classes of more than 16 MiB: is this a label?");
    }
    return TAUT_OK;
}

taut_status taut__arrow_dictionary_batch(taut__arrow *a, const taut__fb *t, uint64_t body, uint64_t body_bytes)
{
    int64_t                 id = taut__fb_number(t, 0, 8, 0);
    taut__arrow_dictionary *d = taut__arrow_find(a, id);
    taut__fb                data = taut__fb_table(t, 1);
    char                    what[48];
    batch                   b = {.a = a, .what = what, .body = body, .body_bytes = body_bytes};
    sink                    s = {a->im, 0, d};
    bool                    wanted = false, label = false;
    snprintf(what, sizeof what, "dictionary %" PRId64, id);
    if (!d) return bad(&b, "no column has it");
    for (size_t k = 0; k < a->columns; k++) {
        const taut__arrow_node *n = &a->node[a->column[k].node];
        if (!a->column[k].wanted || !n->encoded || n->dictionary != id) continue;
        if (n->type != a->node[d->node].type || n->element != a->node[d->node].element ||
            n->width != a->node[d->node].width)
            return bad(&b, "columns of different types share it");
        wanted = true;
        label |= a->column[k].label;
    }
    if (!wanted) return TAUT_OK;
    TAUT_TRY(open_batch(&b, &data));
    b.nulls_matter = true;
    if (!taut__fb_number(t, 2, 1, 0)) d->entries.n = 0;
    d->times++;
    TAUT_TRY(take_values(&b, d->node, &s, b.rows));
    return label ? take_names(&b, d) : TAUT_OK;
}
