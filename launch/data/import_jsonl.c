/* import_jsonl.c : one JSON object per line. The first pass finds the types of the fields: strings, whole and decimal
 * numbers, arrays of numbers; true and false are 1 and 0. */
#include "import.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct jsonl {
    column        col[IMPORT_FIELDS];
    size_t        cols;
    uint64_t      records;
    classes       classes;
    import_buffer array[IMPORT_FIELDS]; /* elements of the sample under way */
} jsonl;

typedef struct place {
    const char *path;
    uint64_t    line;
} place;

static bool knows(const char *path) { return import_ends_with(path, ".jsonl") || import_ends_with(path, ".ndjson"); }

static int fault(place p, const char *name, const char *what)
{
    return cli_fail("%s:%llu: field '%s': %s", p.path, (unsigned long long)p.line, name, what);
}

static const char CHANGED[] = "changed while it was read";

static bool is_number(const json_t *v) { return json_is_number(v) || json_is_boolean(v); }

static void note_number(column *c, const json_t *v, place p)
{
    if (json_is_real(v)) column_real(c, json_real_value(v), p.path, p.line);
    else column_whole(c, json_is_boolean(v) ? json_is_true(v) : (int64_t)json_integer_value(v));
}

static int note(column *c, const json_t *v, place p)
{
    bool seen = c->text || c->real || c->whole || c->array;
    if (json_is_array(v)) {
        if (seen && !c->array) return fault(p, c->name, "an array, and no array in an earlier line");
        for (size_t i = 0; i < json_array_size(v); i++) {
            const json_t *e = json_array_get(v, i);
            if (!is_number(e)) return fault(p, c->name, "an array of something else than numbers");
            note_number(c, e, p);
        }
        column_length(c, json_array_size(v));
        return CLI_OK;
    }
    if (c->array) return fault(p, c->name, "no array, and an array in an earlier line");
    if (json_is_string(v)) {
        if (seen && !c->text) return fault(p, c->name, "a string, and a number in an earlier line");
        c->text = true;
        return CLI_OK;
    }
    if (!is_number(v))
        return fault(p, c->name, json_is_null(v) ? "null" : "neither a string, a number nor an array of numbers");
    if (c->text) return fault(p, c->name, "a number, and a string in an earlier line");
    note_number(c, v, p);
    return CLI_OK;
}

/* The first line says which fields there are, unless --select does. */
static int choose(import *im, jsonl *j, json_t *object, place p)
{
    const char *key;
    json_t     *v;
    json_object_foreach(object, key, v)
    {
        bool wanted = im->options->select.n == 0;
        for (size_t i = 0; i < im->options->select.n; i++) wanted |= strcmp(key, im->options->select.item[i]) == 0;
        wanted |= im->options->label && strcmp(key, im->options->label) == 0;
        if (!wanted) continue;
        if (j->cols == IMPORT_FIELDS)
            return cli_fail("%s:%llu: more than %d fields; --select chooses some", p.path, (unsigned long long)p.line,
                            IMPORT_FIELDS);
        if (!*key || strlen(key) >= TAUT_FIELD_NAME) return fault(p, key, "a name of 1..47 bytes is needed");
        strcpy(j->col[j->cols].name, key);
        j->col[j->cols++].label = strcmp(key, im->options->label ? im->options->label : "label") == 0;
    }
    for (size_t i = 0; i < im->options->select.n; i++)
        if (!json_object_get(object, im->options->select.item[i]))
            return fault(p, im->options->select.item[i], "is not there");
    if (im->options->label && !json_object_get(object, im->options->label))
        return fault(p, im->options->label, "is not there");
    return j->cols ? CLI_OK : cli_fail("%s:%llu: an object without fields", p.path, (unsigned long long)p.line);
}

typedef int (*visit)(import *im, jsonl *j, json_t *object, place p);

static bool blank(const char *p, size_t n) { return strspn(p, " \t\r\n") >= n; }

/* Bytes of a byte order mark, which some editors put in front. */
static size_t mark(const import_stream *s, const import_buffer *b)
{
    return s->line == 1 && strncmp(b->p, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

static int each_line(import *im, visit what)
{
    jsonl         *j = im->state;
    import_buffer  b = {0};
    import_stream *s = malloc(sizeof *s);
    int            rc = CLI_OK;
    if (!s) return cli_fail("out of memory");
    for (int i = 0; i < im->inputs && rc == CLI_OK; i++) {
        bool got = true;
        rc = stream_open(s, im->input[i]);
        while (rc == CLI_OK && (b.n = 0, rc = stream_line(s, &b, &got)) == CLI_OK && got) {
            json_error_t e;
            json_t      *object;
            if ((rc = import_reserve(&b, 1)) != CLI_OK) break;
            b.p[b.n] = 0;
            if (blank(b.p + mark(s, &b), b.n - mark(s, &b))) continue;
            object = json_loadb(b.p + mark(s, &b), b.n - mark(s, &b), JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
            if (!object)
                rc = cli_fail("%s:%llu: invalid JSON: %s (column %d)", s->path, (unsigned long long)s->line, e.text,
                              e.column);
            else if (!json_is_object(object))
                rc = cli_fail("%s:%llu: not a JSON object", s->path, (unsigned long long)s->line);
            else rc = what(im, j, object, (place){s->path, s->line});
            json_decref(object);
        }
        stream_close(s);
    }
    free(b.p);
    free(s);
    return rc;
}

/* A field that the first line has not would be left out of all lines unnoticed. */
static int check_keys(const jsonl *j, json_t *object, place p)
{
    const char *key;
    json_t     *v;
    json_object_foreach(object, key, v)
    {
        size_t k = 0;
        while (k < j->cols && strcmp(j->col[k].name, key) != 0) k++;
        if (k == j->cols)
            return fault(p, key, "the first line has none of that name: --select chooses fields that all lines have");
    }
    return CLI_OK;
}

static int look(import *im, jsonl *j, json_t *object, place p)
{
    int rc = j->cols ? CLI_OK : choose(im, j, object, p);
    for (size_t k = 0; k < j->cols && rc == CLI_OK; k++) {
        column *c = &j->col[k];
        json_t *v = json_object_get(object, c->name);
        if (!v) return fault(p, c->name, "is not there; --select chooses fields that all lines have");
        rc = note(c, v, p);
        if (rc == CLI_OK && c->label && c->text)
            rc = classes_note(&j->classes, json_string_value(v), json_string_length(v));
    }
    if (rc == CLI_OK && im->options->select.n == 0 && json_object_size(object) != j->cols)
        rc = check_keys(j, object, p);
    if (++j->records % 1024 == 0) cli_progress_show(&im->line, "looking: %llu records", (unsigned long long)j->records);
    return rc;
}

static int describe(import *im)
{
    jsonl *j = calloc(1, sizeof *j);
    int    rc;
    if (!j) return cli_fail("out of memory");
    im->state = j;
    if ((rc = import_twice(im)) != CLI_OK || (rc = each_line(im, look)) != CLI_OK) return rc;
    if (j->records == 0) return cli_fail("%s: no JSON object in it", im->input[0]);
    for (size_t k = 0; k < j->cols; k++) {
        column *c = &j->col[k];
        if (c->label && c->text) {
            if ((rc = classes_close(&j->classes, &im->labels)) != CLI_OK) return rc;
            c->text = false;
            c->whole = true;
            c->high = (int64_t)j->classes.n - 1;
        } else if (c->label && (c->array || c->real)) {
            c->label = false;
        }
        if ((rc = column_field(im, c, im->input[0])) != CLI_OK) return rc;
    }
    return CLI_OK;
}

/* False: not a number that the first pass saw. */
static bool give_number(void *dst, taut_type t, const column *c, const json_t *v)
{
    bool    is_whole = !json_is_real(v);
    int64_t whole = json_is_boolean(v) ? json_is_true(v) : is_whole ? (int64_t)json_integer_value(v) : 0;
    if (!is_number(v) || !column_holds(c, is_whole, whole)) return false;
    put_number(dst, t, is_whole ? 0 : json_real_value(v), whole, is_whole);
    return true;
}

/* An array's elements into b. */
static int give_array(import_buffer *b, const taut_field *f, const column *c, const json_t *v, place p)
{
    size_t size = taut_type_bytes(f->type), n = json_array_size(v);
    int    rc = import_reserve(b, n * size + 1);
    b->n = n * size;
    if (rc != CLI_OK) return rc;
    if (!json_is_array(v) || n < c->shortest || n > c->longest) return fault(p, c->name, CHANGED);
    for (size_t i = 0; i < n; i++)
        if (!give_number(b->p + i * size, f->type, c, json_array_get(v, i))) return fault(p, c->name, CHANGED);
    return CLI_OK;
}

static int give(import *im, jsonl *j, json_t *object, place p)
{
    const void *data[IMPORT_FIELDS];
    size_t      bytes[IMPORT_FIELDS];
    uint64_t    number[IMPORT_FIELDS];
    for (size_t k = 0; k < j->cols; k++) {
        const taut_field *f = &im->field[k];
        const column     *c = &j->col[k];
        const json_t     *v = json_object_get(object, c->name);
        data[k] = &number[k];
        bytes[k] = taut_type_bytes(f->type);
        if (f->kind == TAUT_KIND_TEXT) {
            if (!json_is_string(v)) return fault(p, c->name, CHANGED);
            data[k] = json_string_value(v);
            bytes[k] = json_string_length(v);
        } else if (c->array) {
            int rc = give_array(&j->array[k], f, c, v, p);
            if (rc != CLI_OK) return rc;
            data[k] = j->array[k].p;
            bytes[k] = j->array[k].n;
        } else if (c->label && j->classes.n) {
            int64_t found = json_is_string(v) ? (int64_t)classes_find(&j->classes, json_string_value(v)) : -1;
            if (!column_holds(c, true, found)) return fault(p, c->name, CHANGED);
            put_number(&number[k], f->type, 0, found, true);
        } else if (!give_number(&number[k], f->type, c, v)) {
            return fault(p, c->name, CHANGED);
        }
    }
    return im->sink(im->ctx, data, bytes);
}

static int  feed(import *im) { return each_line(im, give); }
static void release(import *im)
{
    jsonl *j = im->state;
    if (!j) return;
    classes_free(&j->classes);
    for (size_t k = 0; k < IMPORT_FIELDS; k++) free(j->array[k].p);
    free(j);
}

const import_format import_jsonl = {"jsonl", "a JSON object per line", knows, describe, feed, release};
