/* import_text.c : text files and folders: windows of a fixed size, lines, or documents. Samples keep their newlines and
 * separators, so the samples one behind the other are the files one behind the other. */
#include "../../compressors/dataset/import/formats.h"
#include "../../compressors/dataset/shard/layout.h"
#include "../../compressors/dataset/utf8.h"
#include "import.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct text {
    char **file;
    size_t files;
    enum { WINDOWS, LINES, DOCUMENTS } split;
    char   separator[64];
    size_t separator_bytes; /* 0: a document is a file */
} text;

static bool knows(const char *path)
{
    (void)path;
    return true;
}

/* "\n\n" as typed in a shell to two newlines */
static int unescape(const char *typed, text *t)
{
    for (const char *p = typed; *p; p++) {
        char c = *p;
        if (c == '\\' && p[1]) {
            c = *++p;
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == '0' ? 0 : c;
        }
        if (t->separator_bytes == sizeof t->separator)
            return cli_usage("--separator=%s: must be at most %zu bytes", typed, sizeof t->separator);
        t->separator[t->separator_bytes++] = c;
    }
    return CLI_OK;
}

static int add_files(text *t, const char *path)
{
    char **files, **grown;
    size_t n;
    int    rc = list_files(path, &files, &n);
    if (rc != CLI_OK) return rc;
    grown = realloc(t->file, (t->files + n) * sizeof *grown);
    if (!grown) {
        list_free(files, n);
        return cli_fail("out of memory for a list of %zu files", n);
    }
    memcpy(grown + t->files, files, n * sizeof *files);
    free(files);
    t->file = grown;
    t->files += n;
    return CLI_OK;
}

static int describe(import *im)
{
    text       *t = calloc(1, sizeof *t);
    struct stat st;
    const char *split = im->options->split;
    int         rc = CLI_OK;
    if (!t) return cli_fail("out of memory");
    im->state = t;
    for (int i = 0; i < im->inputs && rc == CLI_OK; i++) rc = add_files(t, im->input[i]);
    if (rc == CLI_OK && im->options->separator) rc = unescape(im->options->separator, t);
    if (rc != CLI_OK) return rc;
    if (!split)
        split = t->separator_bytes || (stat(im->input[0], &st) == 0 && S_ISDIR(st.st_mode)) ? "documents" : "windows";
    t->split = strcmp(split, "windows") == 0 ? WINDOWS : strcmp(split, "lines") == 0 ? LINES : DOCUMENTS;
    if (t->separator_bytes && t->split != DOCUMENTS)
        return cli_usage("--separator ends documents; --split=%s makes none", split);
    im->fields = 1;
    im->field[0] = (taut_field)TAUT_FIELD_INIT;
    strcpy(im->field[0].name, im->options->bytes ? "bytes" : "text");
    im->field[0].kind = im->options->bytes ? TAUT_KIND_BYTES : TAUT_KIND_TEXT;
    im->field[0].variable = 1;
    return CLI_OK;
}

static int emit(import *im, const char *p, size_t n)
{
    const void *data = p;
    return im->sink(im->ctx, &data, &n);
}

static uint64_t lines_before(const char *p, size_t n)
{
    uint64_t lines = 0;
    for (size_t i = 0; i < n; i++) lines += p[i] == '\n';
    return lines;
}

static bool inside_character(char c) { return ((unsigned char)c & 0xc0) == 0x80; }

/* Texts are cut between characters: a window is as long as was asked for, or up to three bytes shorter; at least one character. */
static size_t window_of(const import *im, const char *p, size_t n, bool end)
{
    size_t want = (size_t)im->options->window, cut = want;
    if (n <= want) return end || (im->options->bytes && n == want) ? n : 0;
    if (im->options->bytes) return want;
    while (cut && inside_character(p[cut])) cut--;
    if (cut) return cut;
    for (cut = want; cut < n && inside_character(p[cut]);) cut++;
    return cut < n || end ? cut : 0;
}

/* Length of the first sample in p[0..n); 0: not complete yet. `end`: nothing follows. `seen`: bytes already searched. */
static size_t first_sample(const text *t, const import *im, const char *p, size_t n, bool end, size_t seen)
{
    const char *at = NULL;
    size_t      back;
    switch (t->split) {
    case WINDOWS: return window_of(im, p, n, end);
    case LINES: at = n > seen ? memchr(p + seen, '\n', n - seen) : NULL; return at ? (size_t)(at - p) + 1 : end ? n : 0;
    case DOCUMENTS: break;
    }
    if (t->separator_bytes) {
        back = seen > t->separator_bytes ? seen - t->separator_bytes : 0;
        at = memmem(p + back, n - back, t->separator, t->separator_bytes);
        if (at) return (size_t)(at - p) + t->separator_bytes;
    }
    return end ? n : 0;
}

/* What nobody called text, and is something else: the bytes between its texts are none, even where they are all UTF-8. */
static int check_text(const import *im, const char *path, const char *p, size_t n)
{
    const uint8_t *head = (const uint8_t *)p;
    const char    *format;
    if (im->options->format || im->options->bytes) return CLI_OK;
    if (n >= 4 && taut__get32(head) == TAUT_MAGIC_FRONT)
        return cli_fail("%s: is a shard already; `taut data cat` and `taut data export` give what is in it", path);
    format = taut__import_format_of(path, head, n < 512 ? n : 512);
    if (format)
        return cli_fail(
            "%s: is of format %s, which `taut data index` reads as it is, uncompressed; --format text: as text", path,
            format);
    return CLI_OK;
}

/* One file, streamed: no more of it is in memory than one sample and a chunk. */
static int feed_file(import *im, const char *path)
{
    text         *t = im->state;
    import_stream s;
    import_buffer b = {0};
    size_t        begin = 0, checked = 0, seen = 0, n = 1, bad, tail, keep;
    uint64_t      lines = 0, offset = 0;
    int           rc = stream_open(&s, path);
    while (rc == CLI_OK && n > 0) {
        keep = begin < checked ? begin : checked; /* a window may end inside a character that is not checked yet */
        if (keep) memmove(b.p, b.p + keep, b.n - keep);
        b.n -= keep, checked -= keep, begin -= keep;
        if ((rc = import_reserve(&b, TEXT_CHUNK)) != CLI_OK ||
            (rc = stream_read(&s, b.p + b.n, TEXT_CHUNK, &n)) != CLI_OK)
            break;
        b.n += n;
        if (!offset && (rc = check_text(im, path, b.p, b.n)) != CLI_OK) break;
        if (!im->options->bytes) {
            bad = taut__utf8_bad(b.p + checked, b.n - checked, n > 0, &tail);
            if (bad < b.n - checked) {
                lines += lines_before(b.p + checked, bad);
                rc = cli_fail("%s: line %llu (byte %llu): not UTF-8: byte 0x%02x; --bytes packs any bytes, --format "
                              "files each file as it is",
                              path, (unsigned long long)lines + 1, (unsigned long long)offset + bad,
                              (unsigned char)b.p[checked + bad]);
                break;
            }
            lines += lines_before(b.p + checked, b.n - checked - tail);
            offset += b.n - checked - tail;
            checked = b.n - tail;
        } else {
            checked = b.n;
        }
        for (size_t len;
             rc == CLI_OK && begin < b.n && (len = first_sample(t, im, b.p + begin, b.n - begin, n == 0, seen)) > 0;
             begin += len, seen = 0)
            rc = emit(im, b.p + begin, len);
        seen = b.n - begin;
    }
    stream_close(&s);
    free(b.p);
    return rc;
}

static int feed(import *im)
{
    text *t = im->state;
    int   rc = CLI_OK;
    for (size_t i = 0; i < t->files && rc == CLI_OK; i++) rc = feed_file(im, t->file[i]);
    return rc;
}

static void release(import *im)
{
    text *t = im->state;
    if (!t) return;
    list_free(t->file, t->files);
    free(t);
}

const import_format import_text = {"text", "text files or folders: windows, lines or documents", knows, describe, feed,
                                   release};
