/* field_log.c : `log`: text of lines as templates and columns of parameters. A column is what one parameter of one template
 * holds, line after line: numbers as differences to the one before, other words as they are.
 * A part: mode u8: 0 = one zpack stream of the text; 1 = lines u32, last u8 (1: the text ends with a newline), then five zpack
 * streams: templates (a line each, byte 1 for a parameter); number of the template per line (LEB128); a byte per column (1..18:
 * numbers of that many digits, 32: numbers without leading zeros, 64: words); numbers (zigzag LEB128 of the difference to
 * the one before, column by column); words (a line each, column by column). Columns are ordered by template, then place. */
#include "../fields/field.h"
#include "../fields/zpack.h"
#include "log_lines.h"

enum { WHOLE = 0, LINES = 1, NUMBER = 32, WORDS = 64, DIGITS = 18, HEAD = 6, STREAMS = 5 };

typedef struct state {
    taut_zpack z;
    int        level;
    log_lines  parsed;
    taut_bytes text;            /* with a newline at its end */
    taut_bytes stream[STREAMS]; /* templates, lines, kinds, numbers, words */
    taut_bytes order, column;   /* scratch: u32 arrays; cursors */
} state;

static const taut_key keys[] = {
    {.name = "level", .kind = TAUT_KEY_INT, .min = 1, .max = 22, .fallback = 19, .help = "effort of zstd"}};

static taut_status suits(const taut_field_spec *spec)
{
    taut_kind k = spec->field->kind;
    if (k == TAUT_KIND_TEXT || (k == TAUT_KIND_BYTES && spec->field->type == TAUT_U8)) return TAUT_OK;
    return taut__fail(TAUT_E_UNSUPPORTED, "field %s: log: codes text, not %s", spec->field->name, taut_kind_name(k));
}

static taut_status open_state(const taut_field_spec *spec, const uint8_t *shared, size_t bytes, bool encoding,
                              void **out)
{
    state *s = taut__alloc(1, sizeof *s);
    (void)shared, (void)bytes, (void)encoding;
    if (!s) return taut__fail(TAUT_E_NOMEM, "log: no memory");
    s->level = (int)spec->value[0];
    *out = s;
    return TAUT_OK;
}

static void close_state(void *p)
{
    state *s = p;
    if (!s) return;
    taut__zpack_free(&s->z);
    log_free(&s->parsed);
    taut__bytes_free(&s->text);
    for (int k = 0; k < STREAMS; k++) taut__bytes_free(&s->stream[k]);
    taut__bytes_free(&s->order);
    taut__bytes_free(&s->column);
    taut__free(s);
}

/* ---- encoding ---- */

/* digits of a number that prints back as the same bytes; 0 if it does not */
static unsigned number_digits(const uint8_t *p, uint32_t len, uint64_t *v)
{
    *v = 0;
    if (len > DIGITS) return 0;
    for (uint32_t i = 0; i < len; i++) {
        if (p[i] < '0' || p[i] > '9') return 0;
        *v = *v * 10 + p[i] - '0';
    }
    return len;
}

/* rows[0..n): the lines of one template. Column `slot` of it. */
static taut_status encode_column(state *s, const uint32_t *rows, uint32_t n, uint32_t slot)
{
    const log_lines *l = &s->parsed;
    unsigned         same = 0;
    bool             number = true;
    uint64_t         v, before = 0;
    uint8_t          kind;
    for (uint32_t i = 0; i < n && number; i++) {
        const log_word *w = log_word_at(l, log_line_at(l, rows[i])->first + slot);
        unsigned        digits = number_digits(s->text.p + w->at, w->len, &v);
        if (i == 0) same = digits;
        if (digits != same) same = 0;
        number = digits > 0;
    }
    for (uint32_t i = 0; i < n && number && !same; i++) { /* of several lengths: none may begin with a zero */
        const log_word *w = log_word_at(l, log_line_at(l, rows[i])->first + slot);
        number = w->len == 1 || s->text.p[w->at] != '0';
    }
    kind = number ? same ? (uint8_t)same : NUMBER : WORDS;
    TAUT_TRY(taut__bytes_add(&s->stream[2], &kind, 1));
    for (uint32_t i = 0; i < n; i++) {
        const log_word *w = log_word_at(l, log_line_at(l, rows[i])->first + slot);
        if (kind == WORDS) {
            TAUT_TRY(taut__bytes_add(&s->stream[4], s->text.p + w->at, w->len));
            TAUT_TRY(taut__bytes_add(&s->stream[4], "\n", 1));
            continue;
        }
        number_digits(s->text.p + w->at, w->len, &v);
        TAUT_TRY(taut__varint_add(&s->stream[3], taut__zigzag((int64_t)(v - before))));
        before = v;
    }
    return TAUT_OK;
}

/* Lines sorted by template, in order within one: order[start[t] .. start[t+1]). */
static taut_status sort_lines(state *s, uint32_t **order, uint32_t **start)
{
    const log_lines *l = &s->parsed;
    s->order.n = 0;
    TAUT_TRY(taut__bytes_reserve(&s->order, 4 * ((size_t)l->lines + l->count + 2)));
    *order = (uint32_t *)(void *)s->order.p;
    *start = *order + l->lines;
    memset(*start, 0, 4 * ((size_t)l->count + 2));
    for (uint32_t i = 0; i < l->lines; i++) (*start)[log_line_at(l, i)->template + 2]++;
    for (uint32_t t = 2; t <= l->count + 1; t++) (*start)[t] += (*start)[t - 1];
    for (uint32_t i = 0; i < l->lines; i++) (*order)[(*start)[log_line_at(l, i)->template + 1]++] = i;
    return TAUT_OK;
}

static taut_status encode_lines(state *s)
{
    log_lines *l = &s->parsed;
    uint32_t  *order = NULL, *start = NULL;
    TAUT_TRY(log_parse(l, s->text.p, s->text.n));
    TAUT_TRY(taut__bytes_add(&s->stream[0], l->templates.p, l->templates.n));
    for (uint32_t i = 0; i < l->lines; i++) TAUT_TRY(taut__varint_add(&s->stream[1], log_line_at(l, i)->template));
    TAUT_TRY(sort_lines(s, &order, &start));
    for (uint32_t t = 0; t < l->count; t++) {
        uint32_t slots = log_line_at(l, order[start[t]])->n;
        for (uint32_t k = 0; k < slots; k++) TAUT_TRY(encode_column(s, order + start[t], start[t + 1] - start[t], k));
    }
    return TAUT_OK;
}

static taut_status encode(void *p, const taut_part *in, taut_bytes *out)
{
    state  *s = p;
    size_t  at = out->n, lines_end;
    bool    newline = in->bytes && in->data[in->bytes - 1] == '\n';
    uint8_t head[HEAD] = {LINES, 0, 0, 0, 0, newline};
    log_free(&s->parsed);
    for (int k = 0; k < STREAMS; k++) s->stream[k].n = 0;
    if (in->bytes && !memchr(in->data, 0, in->bytes) && !memchr(in->data, LOG_PARAMETER, in->bytes)) {
        s->text.n = 0;
        TAUT_TRY(taut__bytes_add(&s->text, in->data, in->bytes));
        if (!newline) TAUT_TRY(taut__bytes_add(&s->text, "\n", 1));
        TAUT_TRY(encode_lines(s));
        taut__put32(head + 1, s->parsed.lines);
        TAUT_TRY(taut__bytes_add(out, head, sizeof head));
        for (int k = 0; k < STREAMS; k++) TAUT_TRY(taut__zpack(&s->z, s->stream[k].p, s->stream[k].n, s->level, out));
    }
    lines_end = out->n;
    TAUT_TRY(taut__bytes_reserve(out, 1));
    out->p[out->n++] = WHOLE;
    TAUT_TRY(taut__zpack(&s->z, in->data, in->bytes, s->level, out));
    if (lines_end == at) return TAUT_OK;
    if (out->n - lines_end < lines_end - at) {
        memmove(out->p + at, out->p + lines_end, out->n - lines_end);
        out->n = at + (out->n - lines_end);
    } else {
        out->n = lines_end;
    }
    return TAUT_OK;
}

/* ---- decoding ---- */

typedef struct column {
    uint8_t  kind;
    size_t   at; /* in numbers or words */
    uint64_t before;
} column;

typedef struct template_of { /* where a template lies, its first column, how many lines have it */
    uint32_t at, len, column, lines;
} template_of;

typedef struct reader {
    state       *s;
    template_of *t;
    column      *c;
    uint32_t     templates, columns, lines;
} reader;

static taut_status malformed(void) { return taut__fail(TAUT_E_CORRUPT, "log: malformed"); }

static taut_status read_templates(reader *r)
{
    state   *s = r->s;
    uint32_t n = 0, at = 0;
    s->order.n = 0;
    for (size_t i = 0; i < s->stream[0].n; i++) n += s->stream[0].p[i] == '\n';
    TAUT_TRY(taut__bytes_reserve(&s->order, n * sizeof *r->t + 1));
    r->t = (template_of *)(void *)s->order.p;
    r->templates = n;
    r->columns = 0;
    for (uint32_t t = 0; t < n; t++) {
        const uint8_t *p = s->stream[0].p + at, *end = memchr(p, '\n', s->stream[0].n - at);
        r->t[t] = (template_of){at, (uint32_t)(end - p), r->columns, 0};
        for (const uint8_t *q = p; q < end; q++) r->columns += *q == LOG_PARAMETER;
        at += r->t[t].len + 1;
    }
    return at == s->stream[0].n && r->columns == s->stream[2].n ? TAUT_OK : malformed();
}

/* Skips the values of a column, which begins at *at of its stream. */
static bool skip(const state *s, uint8_t kind, uint32_t lines, size_t *at)
{
    uint64_t v;
    for (uint32_t i = 0; i < lines; i++) {
        if (kind == WORDS) {
            const uint8_t *end = *at < s->stream[4].n ? memchr(s->stream[4].p + *at, '\n', s->stream[4].n - *at) : NULL;
            if (!end) return false;
            *at = (size_t)(end - s->stream[4].p) + 1;
        } else if (!taut__varint_get(s->stream[3].p, s->stream[3].n, at, &v)) {
            return false;
        }
    }
    return true;
}

static taut_status read_columns(reader *r)
{
    state   *s = r->s;
    size_t   at = 0, numbers = 0, words = 0;
    uint64_t t;
    for (uint32_t i = 0; i < r->lines; i++) {
        if (!taut__varint_get(s->stream[1].p, s->stream[1].n, &at, &t) || t >= r->templates) return malformed();
        r->t[t].lines++;
    }
    s->column.n = 0;
    TAUT_TRY(taut__bytes_reserve(&s->column, r->columns * sizeof *r->c + 1));
    r->c = (column *)(void *)s->column.p;
    for (uint32_t k = 0; k < r->templates; k++)
        for (uint32_t c = r->t[k].column; c < (k + 1 < r->templates ? r->t[k + 1].column : r->columns); c++) {
            uint8_t kind = s->stream[2].p[c];
            if (kind != WORDS && kind != NUMBER && (kind < 1 || kind > DIGITS)) return malformed();
            r->c[c] = (column){kind, kind == WORDS ? words : numbers, 0};
            if (!skip(s, kind, r->t[k].lines, kind == WORDS ? &words : &numbers)) return malformed();
        }
    return TAUT_OK;
}

/* The next value of a column to dst[*n..cap); false: it does not fit. */
static bool put_value(reader *r, column *c, uint8_t *dst, size_t cap, size_t *n)
{
    const state *s = r->s;
    uint8_t      digits[20];
    size_t       len = 0;
    uint64_t     d;
    if (c->kind == WORDS) {
        const uint8_t *p = s->stream[4].p + c->at, *end = memchr(p, '\n', s->stream[4].n - c->at);
        len = (size_t)(end - p);
        if (len > cap - *n) return false;
        memcpy(dst + *n, p, len);
        c->at += len + 1;
        *n += len;
        return true;
    }
    taut__varint_get(s->stream[3].p, s->stream[3].n, &c->at, &d);
    c->before += (uint64_t)taut__unzigzag(d);
    d = c->before;
    do digits[len++] = (uint8_t)('0' + d % 10), d /= 10;
    while (d);
    while (c->kind != NUMBER && len < c->kind) digits[len++] = '0';
    if (len > cap - *n) return false;
    while (len) dst[(*n)++] = digits[--len];
    return true;
}

static taut_status put_lines(reader *r, bool newline, uint8_t *dst, size_t cap)
{
    state *s = r->s;
    size_t n = 0, at = 0;
    for (uint32_t i = 0; i < r->lines; i++) {
        const template_of *t;
        uint64_t           number = 0;
        uint32_t           c;
        taut__varint_get(s->stream[1].p, s->stream[1].n, &at, &number);
        t = &r->t[number];
        c = t->column;
        for (uint32_t k = 0; k < t->len; k++) {
            uint8_t byte = s->stream[0].p[t->at + k];
            if (byte == LOG_PARAMETER) {
                if (!put_value(r, &r->c[c++], dst, cap, &n)) return malformed();
            } else if (n < cap) {
                dst[n++] = byte;
            } else {
                return malformed();
            }
        }
        if (i + 1 == r->lines && !newline) break;
        if (n == cap) return malformed();
        dst[n++] = '\n';
    }
    return n == cap ? TAUT_OK : malformed();
}

static taut_status decode(void *p, const uint8_t *src, size_t len, const taut_part *g, uint8_t *dst)
{
    state *s = p;
    reader r = {.s = s};
    size_t at = HEAD, used;
    if (len < 1 || src[0] > LINES) return malformed();
    for (int k = 0; k < STREAMS; k++) s->stream[k].n = 0;
    if (src[0] == WHOLE) {
        TAUT_TRY(taut__zunpack(&s->z, src + 1, len - 1, g->bytes, &s->stream[0], &used));
        if (s->stream[0].n != g->bytes || used != len - 1) return malformed();
        if (g->bytes) memcpy(dst, s->stream[0].p, g->bytes);
        return TAUT_OK;
    }
    if (len < HEAD || src[5] > 1) return malformed();
    r.lines = taut__get32(src + 1);
    for (int k = 0; k < STREAMS; k++, at += used)
        TAUT_TRY(taut__zunpack(&s->z, src + at, len - at, 16 * g->bytes + 64, &s->stream[k], &used));
    if (at != len || r.lines > s->stream[1].n) return malformed();
    TAUT_TRY(read_templates(&r));
    TAUT_TRY(read_columns(&r));
    return put_lines(&r, src[5], dst, g->bytes);
}

const taut_field_codec taut__field_log = {
    .id = 12,
    .version = 1,
    .name = "log",
    .help = "lines of logs as templates and columns of parameters",
    .n_keys = 1,
    .keys = keys,
    .suits = suits,
    .open = open_state,
    .close = close_state,
    .encode = encode,
    .decode = decode,
};
