/* import_csv.c : comma-separated values (RFC 4180): a line of names, then records; quoted fields may hold delimiters, quotes
 * (doubled) and newlines. The first pass finds the types of columns: whole numbers, decimal numbers, else text. */
#include "../../compressors/dataset/utf8.h"
#include "import.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct csv {
    char     delimiter;
    column   col[IMPORT_FIELDS];
    size_t   cols;
    bool     wanted[IMPORT_FIELDS];
    uint64_t records;
    classes  classes;
    /* where the label column has more values than there may be classes; NULL: nowhere */
    const char *many_path;
    uint64_t    many_line;
} csv;

typedef struct record { /* one record, cells unquoted and terminated */
    import_buffer raw, cell;
    size_t        at[IMPORT_FIELDS + 1];
    size_t        n;
    uint64_t      line; /* of its first line */
} record;

static bool knows(const char *path) { return import_ends_with(path, ".csv") || import_ends_with(path, ".tsv"); }

/* Reads lines until quotes are balanced, then splits. */
static int read_record(import_stream *s, const csv *c, record *r, bool *got)
{
    bool quoted = false, more = true;
    int  rc;
    r->raw.n = r->cell.n = r->n = 0;
    *got = false;
    for (bool first = true; more; first = false) {
        size_t from = r->raw.n;
        bool   line;
        if ((rc = stream_line(s, &r->raw, &line)) != CLI_OK) return rc;
        if (first) r->line = s->line;
        if (!line && first) return CLI_OK;
        if (!line) return cli_fail("%s:%llu: a quoted field without an end", s->path, (unsigned long long)r->line);
        for (size_t i = from; i < r->raw.n; i++) quoted ^= r->raw.p[i] == '"';
        more = quoted;
    }
    while (r->raw.n && (r->raw.p[r->raw.n - 1] == '\n' || r->raw.p[r->raw.n - 1] == '\r')) r->raw.n--;
    if ((rc = import_reserve(&r->cell, r->raw.n + IMPORT_FIELDS + 2)) != CLI_OK) return rc;
    *got = true;
    quoted = false;
    r->at[r->n++] = 0;
    for (size_t i = 0; i < r->raw.n; i++) {
        char ch = r->raw.p[i];
        if (ch == '"' && quoted && i + 1 < r->raw.n && r->raw.p[i + 1] == '"') {
            r->cell.p[r->cell.n++] = ch;
            i++;
        } else if (ch == '"') {
            quoted = !quoted;
        } else if (ch == c->delimiter && !quoted) {
            if (r->n == IMPORT_FIELDS)
                return cli_fail("%s:%llu: more than %d columns", s->path, (unsigned long long)r->line, IMPORT_FIELDS);
            r->cell.p[r->cell.n++] = 0;
            r->at[r->n++] = r->cell.n;
        } else {
            r->cell.p[r->cell.n++] = ch;
        }
    }
    r->cell.p[r->cell.n++] = 0;
    r->at[r->n] = r->cell.n;
    return CLI_OK;
}

static bool whole_number(const char *text, int64_t *v)
{
    char *end;
    errno = 0;
    *v = strtoll(text, &end, 10);
    return *text && (*text == '-' || *text == '+' || (*text >= '0' && *text <= '9')) && *end == 0 && errno == 0;
}
static bool decimal_number(const char *text, double *v)
{
    char *end;
    *v = strtod(text, &end);
    if (isinf(*v) && strpbrk(text, "0123456789")) return false; /* not infinity, but beyond float64 */
    return *text && *end == 0 && !strpbrk(text, "xXpP ");
}

static void note(column *c, const char *text, const char *path, uint64_t line)
{
    int64_t whole;
    double  real;
    if (whole_number(text, &whole)) column_whole(c, whole);
    else if (!decimal_number(text, &real)) c->text = true;
    else if (strspn(text, "+-0123456789") == strlen(text)) column_huge(c, real, path, line);
    else column_real(c, real, path, line);
}

static int no_column(const csv *c, const char *path, const char *want)
{
    char   list[400] = "";
    size_t at = 0;
    for (size_t k = 0; k < c->cols && at < sizeof list; k++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", k ? ", " : "", c->col[k].name);
    return cli_fail("%s: no column '%s' in its first line; columns are %s", path, want, list);
}

/* Name k of a first line, without a byte order mark. */
static const char *name_at(const record *r, size_t k)
{
    const char *name = r->cell.p + r->at[k];
    return k == 0 && strncmp(name, "\xef\xbb\xbf", 3) == 0 ? name + 3 : name;
}

/* A further file has the columns of the first one, in their order: else values would change places unnoticed. */
static int same_names(const import *im, const csv *c, const record *r, const char *path)
{
    if (r->n != c->cols) return cli_fail("%s:1: %zu columns where the first file has %zu", path, r->n, c->cols);
    for (size_t k = 0; k < r->n; k++)
        if (strcmp(name_at(r, k), c->col[k].name) != 0)
            return cli_fail("%s:1: column %zu is called '%s', and '%s' in %s: must be the same, in the same order",
                            path, k + 1, name_at(r, k), c->col[k].name, im->input[0]);
    return CLI_OK;
}

static int names(import *im, csv *c, const record *r, const char *path)
{
    for (size_t k = 0; k < r->n; k++) {
        column     *col = &c->col[k];
        const char *name = name_at(r, k);
        if (!*name || strlen(name) >= sizeof col->name)
            return cli_fail("%s:1: column %zu has no name, or one longer than %zu", path, k + 1, sizeof col->name - 1);
        strcpy(col->name, name);
        c->wanted[k] = im->options->select.n == 0;
        for (size_t i = 0; i < im->options->select.n; i++)
            c->wanted[k] |= strcmp(name, im->options->select.item[i]) == 0;
        col->label = strcmp(name, im->options->label ? im->options->label : "label") == 0;
        for (size_t i = 0; i < k; i++)
            if (strcmp(c->col[i].name, name) == 0) return cli_fail("%s:1: two columns are called '%s'", path, name);
    }
    c->cols = r->n;
    for (size_t i = 0; i < im->options->select.n + (im->options->label ? 1 : 0); i++) {
        const char *want = i < im->options->select.n ? im->options->select.item[i] : im->options->label;
        size_t      k = 0;
        while (k < c->cols && strcmp(c->col[k].name, want) != 0) k++;
        if (k == c->cols) return no_column(c, path, want);
        if (im->options->label == want) c->wanted[k] = true;
    }
    return CLI_OK;
}

static size_t cell_bytes(const record *r, size_t k) { return r->at[k + 1] - r->at[k] - 1; }

static int utf8(const record *r, const char *path)
{
    size_t tail, bad = taut__utf8_bad(r->raw.p, r->raw.n, false, &tail);
    if (bad == r->raw.n) return CLI_OK;
    return cli_fail("%s:%llu: not UTF-8: byte 0x%02x", path, (unsigned long long)r->line, (unsigned char)r->raw.p[bad]);
}

typedef int (*visit)(import *im, csv *c, const record *r, const char *path);

static int each_record(import *im, visit what)
{
    csv           *c = im->state;
    record         r = {0};
    int            rc = CLI_OK;
    import_stream *s = malloc(sizeof *s);
    if (!s) return cli_fail("out of memory");
    for (int i = 0; i < im->inputs && rc == CLI_OK; i++) {
        bool got = true;
        rc = stream_open(s, im->input[i]);
        for (bool first = true; rc == CLI_OK && (rc = read_record(s, c, &r, &got)) == CLI_OK && got; first = false) {
            if ((rc = utf8(&r, s->path)) != CLI_OK) break;
            if (first) {
                rc = c->cols ? same_names(im, c, &r, s->path) : names(im, c, &r, s->path);
                continue;
            }
            if (r.raw.n == 0 || (r.n == 1 && r.cell.n == 1 && c->cols > 1)) continue; /* an empty line */
            if (r.n != c->cols)
                rc = cli_fail("%s:%llu: ragged: %zu fields where the first line names %zu", s->path,
                              (unsigned long long)r.line, r.n, c->cols);
            else rc = what(im, c, &r, s->path);
        }
        stream_close(s);
    }
    free(r.raw.p);
    free(r.cell.p);
    free(s);
    return rc;
}

static int look(import *im, csv *c, const record *r, const char *path)
{
    for (size_t k = 0; k < c->cols; k++) {
        const char *text = r->cell.p + r->at[k];
        int         rc = CLI_OK;
        if (!c->wanted[k]) continue;
        note(&c->col[k], text, path, r->line);
        if (c->col[k].label && !c->many_path && classes_full(&c->classes, text)) /* numbers need no names */
            c->many_path = path, c->many_line = r->line;
        else if (c->col[k].label && !c->many_path) rc = classes_note(&c->classes, text, cell_bytes(r, k));
        if (rc != CLI_OK) return rc;
    }
    if (++c->records % 1024 == 0) cli_progress_show(&im->line, "looking: %llu records", (unsigned long long)c->records);
    return CLI_OK;
}

static int describe(import *im)
{
    csv        *c = calloc(1, sizeof *c);
    const char *d = im->options->delimiter;
    int         rc;
    if (!c) return cli_fail("out of memory");
    im->state = c;
    c->delimiter = d ? strcmp(d, "\\t") == 0 ? '\t' : *d : import_ends_with(im->input[0], ".tsv") ? '\t' : ',';
    if (d && strcmp(d, "\\t") != 0 && strlen(d) != 1)
        return cli_usage("--delimiter=%s: must be one character, or \\t", d);
    if (c->delimiter == '"' || c->delimiter == '\n' || c->delimiter == '\r')
        return cli_usage("--delimiter: must be neither a quote nor the end of a line");
    if ((rc = import_twice(im)) != CLI_OK || (rc = each_record(im, look)) != CLI_OK) return rc;
    if (c->records == 0) return cli_fail("%s: no records behind the line of names", im->input[0]);
    for (size_t k = 0; k < c->cols; k++) {
        column *col = &c->col[k];
        if (!c->wanted[k]) continue;
        if (col->huge && !col->real) col->text = true;
        if (col->label && (col->text || (col->real && im->options->label))) {
            if (c->many_path)
                return cli_fail("%s:%llu: column '%s': more than %d classes; is this a label?", c->many_path,
                                (unsigned long long)c->many_line, col->name, CLASSES_MAX);
            if ((rc = classes_close(&c->classes, &im->labels)) != CLI_OK) return rc;
            col->text = col->real = col->huge = false; /* from now on: its number */
            col->whole = true;
            col->low = 0;
            col->high = (int64_t)c->classes.n - 1;
        } else if (col->label) {
            classes_free(&c->classes);
            col->label = !col->real; /* a decimal target that nobody called a class */
        }
        if ((rc = column_field(im, col, im->input[0])) != CLI_OK) return rc;
    }
    return CLI_OK;
}

static int give(import *im, csv *c, const record *r, const char *path)
{
    const void *data[IMPORT_FIELDS];
    size_t      bytes[IMPORT_FIELDS], f = 0;
    uint64_t    number[IMPORT_FIELDS];
    for (size_t k = 0; k < c->cols; k++) {
        const char *text = r->cell.p + r->at[k];
        taut_field *field = &im->field[f];
        int64_t     whole = 0;
        double      real = 0;
        bool        is_whole;
        if (!c->wanted[k]) continue;
        data[f] = text;
        bytes[f] = cell_bytes(r, k);
        if (field->kind == TAUT_KIND_TEXT) {
            f++;
            continue;
        }
        if (c->col[k].label && c->classes.n) {
            whole = (int64_t)classes_find(&c->classes, text);
            is_whole = strlen(text) == bytes[f];
        } else {
            is_whole = whole_number(text, &whole);
        }
        if ((!is_whole && !decimal_number(text, &real)) || !column_holds(&c->col[k], is_whole, whole))
            return cli_fail("%s:%llu: changed while it was read", path, (unsigned long long)r->line);
        put_number(&number[f], field->type, real, whole, is_whole);
        data[f] = &number[f];
        bytes[f] = taut_type_bytes(field->type);
        f++;
    }
    return im->sink(im->ctx, data, bytes);
}

static int  feed(import *im) { return each_record(im, give); }
static void release(import *im)
{
    csv *c = im->state;
    if (c) classes_free(&c->classes);
    free(c);
}

const import_format import_csv = {"csv", "comma-separated values with a line of names", knows, describe, feed, release};
