/* import.c : the formats, and what they share. */
#include "import.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <zlib.h>

static const import_format *const formats[] = {&import_jsonl, &import_csv,   &import_npy,
                                               &import_idx,   &import_files, &import_text};
enum { FORMATS = sizeof formats / sizeof *formats };

int import_open(import *im)
{
    char names[160] = "";
    for (size_t i = 0; i < FORMATS && !im->format; i++) {
        size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", formats[i]->name);
        if (im->options->format ? strcmp(im->options->format, formats[i]->name) == 0 : formats[i]->knows(im->input[0]))
            im->format = formats[i];
    }
    if (!im->format) return cli_usage("--format=%s: must be one of %s", im->options->format, names);
    int rc = im->format->describe(im);
    cli_progress_end(&im->line);
    return rc;
}

int import_feed(import *im) { return im->format->feed(im); }

void import_close(import *im)
{
    if (im->format && im->format->close) im->format->close(im);
    free(im->labels);
    im->labels = NULL;
}

/* ---- buffers and streams ---- */

int import_reserve(import_buffer *b, size_t more)
{
    char  *p;
    size_t cap = b->n + more;
    if (cap <= b->cap) return CLI_OK;
    if (cap < b->cap + b->cap / 2) cap = b->cap + b->cap / 2;
    p = realloc(b->p, cap);
    if (!p) return cli_fail("out of memory for %zu bytes", cap);
    b->p = p;
    b->cap = cap;
    return CLI_OK;
}

int import_append(import_buffer *b, const void *src, size_t n)
{
    int rc = import_reserve(b, n);
    if (rc == CLI_OK && n) memcpy(b->p + b->n, src, n);
    if (rc == CLI_OK) b->n += n;
    return rc;
}

bool import_ends_with(const char *text, const char *tail)
{
    size_t n = strlen(text), t = strlen(tail);
    if (n > 3 && strcasecmp(text + n - 3, ".gz") == 0) n -= 3;
    return n >= t && strncasecmp(text + n - t, tail, t) == 0;
}

int stream_open(import_stream *s, const char *path)
{
    struct stat st;
    s->path = path;
    s->line = 0;
    s->f = NULL;
    s->at = s->filled = 0;
    if (stat(path, &st) != 0) return cli_fail("%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return cli_fail("%s: is a directory", path);
    if (S_ISREG(st.st_mode) && st.st_size == 0) return cli_fail("%s: is empty", path);
    s->f = gzopen(path, "rb");
    if (!s->f) return cli_fail("%s: %s", path, strerror(errno));
    gzbuffer(s->f, GZIP_CHUNK);
    return CLI_OK;
}

void stream_close(import_stream *s)
{
    if (s->f) gzclose(s->f);
    s->f = NULL;
}

static int stream_fault(import_stream *s)
{
    int         code;
    const char *text = gzerror(s->f, &code);
    if (code == Z_ERRNO) return cli_fail("%s: %s", s->path, strerror(errno));
    if (code == Z_BUF_ERROR) return cli_fail("%s: ends in the middle of its gzip data: truncated", s->path);
    return cli_fail("%s: damaged gzip data: %s", s->path, text);
}

int stream_read(import_stream *s, void *dst, size_t cap, size_t *n)
{
    int got = gzread(s->f, dst, cap > 1 << 30 ? 1u << 30 : (unsigned)cap), code = Z_OK;
    *n = 0;
    if (got < 0) return stream_fault(s);
    if (got == 0) gzerror(s->f, &code);
    if (code != Z_OK) return stream_fault(s);
    *n = (size_t)got;
    return CLI_OK;
}

int stream_line(import_stream *s, import_buffer *b, bool *got)
{
    size_t start = b->n;
    *got = false;
    for (;;) {
        const char *end;
        int         rc;
        if (s->at == s->filled) {
            if ((rc = stream_read(s, s->chunk, sizeof s->chunk, &s->filled)) != CLI_OK) return rc;
            s->at = 0;
            if (s->filled == 0) break;
        }
        end = memchr(s->chunk + s->at, '\n', s->filled - s->at);
        size_t n = end ? (size_t)(end - (s->chunk + s->at)) + 1 : s->filled - s->at;
        if ((rc = import_append(b, s->chunk + s->at, n)) != CLI_OK) return rc;
        s->at += n;
        if (end) break;
    }
    *got = b->n > start;
    if (*got) s->line++;
    return CLI_OK;
}

int import_twice(const import *im)
{
    struct stat st;
    for (int i = 0; i < im->inputs; i++)
        if (stat(im->input[i], &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
            return cli_fail("%s: not a regular file, and it is read twice: save it to one first", im->input[i]);
    return CLI_OK;
}

/* ---- folders ---- */

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int list_add(char ***files, size_t *n, char *path)
{
    char **grown = path ? realloc(*files, (*n + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(path);
        return cli_fail("out of memory for a list of files");
    }
    grown[(*n)++] = path;
    *files = grown;
    return CLI_OK;
}

static int list_walk(const char *path, char ***files, size_t *n, int depth)
{
    struct stat    st;
    struct dirent *e;
    DIR           *d;
    int            rc = CLI_OK;
    if (stat(path, &st) != 0) return cli_fail("%s: %s", path, strerror(errno));
    if (S_ISREG(st.st_mode)) return list_add(files, n, strdup(path));
    if (!S_ISDIR(st.st_mode)) return cli_fail("%s: neither a file nor a folder", path);
    if (depth > 32) return cli_fail("%s: more than 32 folders deep", path);
    if (!(d = opendir(path))) return cli_fail("%s: %s", path, strerror(errno));
    while (rc == CLI_OK && (e = readdir(d)) != NULL) {
        char  *child;
        size_t len = strlen(path) + strlen(e->d_name) + 2;
        if (e->d_name[0] == '.') continue;
        if (!(child = malloc(len))) {
            rc = cli_fail("out of memory for a list of files");
            break;
        }
        snprintf(child, len, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/", e->d_name);
        rc = list_walk(child, files, n, depth + 1);
        free(child);
    }
    closedir(d);
    return rc;
}

int list_files(const char *path, char ***files, size_t *n)
{
    int rc;
    *files = NULL;
    *n = 0;
    rc = list_walk(path, files, n, 0);
    if (rc == CLI_OK && *n == 0) rc = cli_fail("%s: a folder without files", path);
    if (rc != CLI_OK) {
        list_free(*files, *n);
        *files = NULL;
        *n = 0;
        return rc;
    }
    qsort(*files, *n, sizeof **files, by_name);
    return rc;
}

void list_free(char **files, size_t n)
{
    for (size_t i = 0; i < n; i++) free(files[i]);
    free(files);
}

/* ---- columns ---- */

void column_whole(column *c, int64_t v)
{
    if (!c->whole || v < c->low) c->low = v;
    if (!c->whole || v > c->high) c->high = v;
    c->whole = true;
}

static void note_wide(column *c, double v, const char *path, uint64_t line)
{
    if (c->wide_path || !isfinite(v) || fabs(v) < 0x1.ffffffp127) return; /* from there on float32 rounds to infinity */
    c->wide = v, c->wide_path = path, c->wide_line = line;
}

void column_real(column *c, double v, const char *path, uint64_t line)
{
    c->real = true;
    note_wide(c, v, path, line);
}

void column_huge(column *c, double v, const char *path, uint64_t line)
{
    c->huge = true;
    note_wide(c, v, path, line);
}

void column_length(column *c, uint64_t n)
{
    if (!c->array || n < c->shortest) c->shortest = n;
    if (!c->array || n > c->longest) c->longest = n;
    c->array = true;
}

static taut_type whole_type(int64_t low, int64_t high)
{
    if (low >= 0)
        return high <= UINT8_MAX ? TAUT_U8 : high <= UINT16_MAX ? TAUT_U16 : high <= UINT32_MAX ? TAUT_U32 : TAUT_U64;
    if (low >= INT8_MIN && high <= INT8_MAX) return TAUT_I8;
    if (low >= INT16_MIN && high <= INT16_MAX) return TAUT_I16;
    return low >= INT32_MIN && high <= INT32_MAX ? TAUT_I32 : TAUT_I64;
}

bool column_holds(const column *c, bool is_whole, int64_t v)
{
    return c->real || (is_whole && c->whole && v >= c->low && v <= c->high);
}

static void column_type(const column *c, bool float64, taut_field *f)
{
    if (c->text) {
        f->kind = TAUT_KIND_TEXT;
        f->variable = 1;
        return;
    }
    f->type = c->real ? float64 ? TAUT_FLOAT64 : TAUT_FLOAT32 : whole_type(c->low, c->high);
    f->kind = c->real ? TAUT_KIND_FLOAT : c->label ? TAUT_KIND_LABEL : TAUT_KIND_INT;
    if (!c->array) return;
    if (!c->real && c->low >= 0 && c->high <= UINT32_MAX) f->kind = TAUT_KIND_TOKENS;
    if (c->shortest == c->longest && c->longest > 0) {
        f->ndim = 1;
        f->shape[0] = c->longest;
    } else {
        f->variable = 1;
    }
}

int column_field(import *im, const column *c, const char *path)
{
    taut_field *f = &im->field[im->fields];
    *f = (taut_field)TAUT_FIELD_INIT;
    snprintf(f->name, sizeof f->name, "%s", c->name);
    for (char *p = f->name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-_.", *p)) *p = '_';
    for (size_t k = 0; k < im->fields; k++)
        if (strcmp(im->field[k].name, f->name) == 0)
            return cli_fail(
                "%s: field '%s': would be called '%s' in the shard, as another one is: rename it, or choose "
                "with --select",
                path, c->name, f->name);
    column_type(c, im->options->float64, f);
    if (f->type == TAUT_FLOAT32 && c->wide_path)
        return cli_fail("%s:%llu: field '%s': %g: float32 holds numbers below 3.4e38: --float64 keeps it", c->wide_path,
                        (unsigned long long)c->wide_line, c->name, c->wide);
    im->fields++;
    return CLI_OK;
}

void put_number(void *dst, taut_type t, double real, int64_t whole, bool is_whole)
{
    float f = is_whole ? (float)whole : (float)real;
    if (t == TAUT_FLOAT32) {
        memcpy(dst, &f, 4);
    } else if (t == TAUT_FLOAT64) {
        if (is_whole) real = (double)whole;
        memcpy(dst, &real, 8);
    } else {
        for (size_t i = 0; i < taut_type_bytes(t); i++) ((uint8_t *)dst)[i] = (uint8_t)((uint64_t)whole >> 8 * i);
    }
}

/* ---- classes ---- */

/* The slot of a name: where it is, or an empty one. */
static uint32_t *slot_of(const classes *c, const char *name)
{
    uint64_t h = 14695981039346656037u;
    for (const char *p = name; *p; p++) h = (h ^ (uint8_t)*p) * 1099511628211u;
    for (size_t at = h & (c->slots - 1);; at = (at + 1) & (c->slots - 1))
        if (!c->slot[at] || strcmp(c->name[c->slot[at] - 1], name) == 0) return &c->slot[at];
}

static bool is_class(const classes *c, const char *name) { return c->slots && *slot_of(c, name); }

bool classes_full(const classes *c, const char *name) { return c->n == CLASSES_MAX && !is_class(c, name); }

static bool more_slots(classes *c)
{
    size_t    slots = c->slots ? 2 * c->slots : 64;
    uint32_t *grown = calloc(slots, sizeof *grown);
    if (!grown) return false;
    free(c->slot);
    c->slot = grown, c->slots = slots;
    for (size_t i = 0; i < c->n; i++) *slot_of(c, c->name[i]) = (uint32_t)i + 1;
    return true;
}

int classes_note(classes *c, const char *name, size_t bytes)
{
    char **grown;
    if (strlen(name) != bytes) return cli_fail("class '%s...': a name of a class cannot hold a NUL", name);
    if (is_class(c, name)) return CLI_OK;
    if (classes_full(c, name))
        return cli_fail("class '%.40s' is the %dth: at most %d; is this a label?", name, CLASSES_MAX + 1, CLASSES_MAX);
    if (strchr(name, '\n'))
        return cli_fail("class '%.*s...': a name of a class cannot hold a newline", (int)strcspn(name, "\n"), name);
    if (2 * (c->n + 1) > c->slots && !more_slots(c)) return cli_fail("out of memory for names of classes");
    grown = realloc(c->name, (c->n + 1) * sizeof *grown);
    if (grown) c->name = grown;
    if (!grown || !(c->name[c->n] = strdup(name))) return cli_fail("out of memory for names of classes");
    *slot_of(c, name) = (uint32_t)c->n + 1;
    c->n++;
    return CLI_OK;
}

int classes_close(classes *c, char **labels)
{
    import_buffer b = {0};
    int           rc = CLI_OK;
    qsort(c->name, c->n, sizeof *c->name, by_name);
    for (size_t i = 0; i < c->n && rc == CLI_OK; i++) {
        rc = import_append(&b, c->name[i], strlen(c->name[i]));
        if (rc == CLI_OK) rc = import_append(&b, i + 1 < c->n ? "\n" : "", 1); /* the last one: its terminator */
    }
    *labels = b.p;
    return rc;
}

size_t classes_find(const classes *c, const char *name)
{
    char **at = bsearch(&name, c->name, c->n, sizeof *c->name, by_name);
    return at ? (size_t)(at - c->name) : c->n;
}

void classes_free(classes *c)
{
    list_free(c->name, c->n);
    free(c->slot);
    *c = (classes){0};
}
