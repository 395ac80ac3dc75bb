/* data_text.c : a text file, or all text files of a folder, plain or .gz, as tokens. Characters are UTF-8 code points, numbered in
 * order of value; bytes that are no UTF-8 count as themselves. The first 90% train, the last 10% validate. */
#include "../cli.h"
#include "data.h"
#include "ranks.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum { CODE_POINTS = 0x110000, VOCAB_MAX = 65535, BINARY_PEEK = 8192, SHARE = 10, VAL_WINDOWS_MIN = 2 };

typedef struct text {
    unsigned char *byte;
    size_t         n, room;
    int            files, skipped;
} text;

/* What a file that is compressed in another way than gzip begins with. */
static const char *packed_as(const unsigned char *p, size_t n)
{
    static const struct {
        const char *name, *magic;
        size_t      n;
    } known[] = {{"zstd", "\x28\xb5\x2f\xfd", 4},
                 {"xz",
                  "\xfd"
                  "7zXZ",
                  5},
                 {"bzip2", "BZh", 3},
                 {"zip", "PK\3\4", 4}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n >= known[i].n && memcmp(p, known[i].magic, known[i].n) == 0) return known[i].name;
    return NULL;
}

static int grow(text *t, const char *path, size_t need)
{
    size_t         room = t->room + t->room / 2 > need ? t->room + t->room / 2 : need;
    unsigned char *more = need <= t->room ? t->byte : realloc(t->byte, room);
    if (!more) return fault(CLI_FAILED, "--data=%s: out of memory for %zu bytes", path, need);
    if (need > t->room) t->room = room;
    t->byte = more;
    return 0;
}

/* All of an open file, plain or gzip; t->n stays where it was. */
static int read_bytes(text *t, gzFile f, const char *path, size_t *got)
{
    enum { STEP = 1 << 20 };
    int part, error;
    *got = 0;
    do {
        int code = grow(t, path, t->n + *got + STEP);
        if (code) return code;
        part = gzread(f, t->byte + t->n + *got, STEP);
        if (part > 0) *got += (size_t)part;
    } while (part > 0);
    const char *why = gzerror(f, &error);
    if (error == Z_OK || error == Z_STREAM_END) return 0;
    return fault(CLI_FAILED, "--data=%s: damaged or truncated after %zu bytes of text: %s", path, *got,
                 error == Z_ERRNO ? strerror(errno) : why);
}

static int append_file(text *t, const char *path, bool skip_binary)
{
    gzFile      f = gzopen(path, "rb");
    const char *packed;
    size_t      got;
    int         code;
    if (!f) return fault(CLI_FAILED, "--data=%s: %s", path, strerror(errno));
    code = read_bytes(t, f, path, &got);
    gzclose(f);
    if (code) return code;
    packed = packed_as(t->byte + t->n, got);
    if (packed && !skip_binary)
        return fault(CLI_FAILED, "--data=%s: compressed with %s: unpack it first; .gz is read as it is", path, packed);
    if (skip_binary && (packed || memchr(t->byte + t->n, 0, got < BINARY_PEEK ? got : BINARY_PEEK))) {
        t->skipped++;
        return 0;
    }
    t->n += got;
    t->files++;
    return 0;
}

/* Regular files in order of name. Links are left out: they are mostly second names of the same text. */
static int append_folder(text *t, const char *path)
{
    struct dirent **entry;
    char            name[PATH_MAX];
    struct stat     s;
    int             code = 0, n = scandir(path, &entry, NULL, alphasort);
    if (n < 0) return fault(CLI_FAILED, "--data=%s: %s", path, strerror(errno));
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s/%s", path, entry[i]->d_name);
        if (!code && entry[i]->d_name[0] != '.' && lstat(name, &s) == 0 && S_ISREG(s.st_mode))
            code = append_file(t, name, true);
        free(entry[i]);
    }
    free(entry);
    if (!code && t->files == 0) return fault(CLI_FAILED, "--data=%s: no text file in this folder", path);
    return code;
}

/* The code point at c and how many bytes it takes; a byte that starts no valid sequence stands for itself. */
static uint32_t next_point(const unsigned char *c, size_t left, size_t *used)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t              p;
    size_t                len = *c < 0x80 ? 1 : *c < 0xc2 ? 0 : *c < 0xe0 ? 2 : *c < 0xf0 ? 3 : *c < 0xf5 ? 4 : 0;
    *used = 1;
    if (len < 2 || len > left) return *c;
    p = *c & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((c[i] & 0xc0) != 0x80) return *c;
        p = p << 6 | (c[i] & 0x3f);
    }
    if (p < least[len] || p >= CODE_POINTS) return *c;
    *used = len;
    return p;
}

/* Two passes over the text: which characters there are, then their numbers. */
static int tokens_of_chars(data *d, const text *t)
{
    uint32_t *number = calloc(CODE_POINTS, sizeof *number);
    size_t    used, n = 0;
    if (!number) return fault(CLI_FAILED, "out of memory");
    for (size_t i = 0; i < t->n; i += used) number[next_point(t->byte + i, t->n - i, &used)] = 1;
    for (size_t p = 0; p < CODE_POINTS; p++)
        if (number[p]) number[p] = (uint32_t)d->classes++;
    if (d->classes > VOCAB_MAX) {
        free(number);
        return fault(CLI_FAILED, "the text has %lld different characters: at most %d; try --tokens bytes",
                     (long long)d->classes, VOCAB_MAX);
    }
    for (size_t i = 0; i < t->n; i += used) d->tokens[n++] = (uint16_t)number[next_point(t->byte + i, t->n - i, &used)];
    d->n_tokens = n;
    free(number);
    return 0;
}

static int tokenize(data *d, const text *t, const char *units)
{
    d->tokens = malloc((t->n + 1) * sizeof *d->tokens);
    if (!d->tokens) return fault(CLI_FAILED, "out of memory");
    if (strcmp(units, "chars") == 0) return tokens_of_chars(d, t);
    for (size_t i = 0; i < t->n; i++) d->tokens[i] = t->byte[i];
    d->n_tokens = t->n;
    d->classes = 256;
    return 0;
}

static int divide(data *d, const char *path, const char *units, int64_t ctx)
{
    size_t window = (size_t)ctx, least = SHARE * (VAL_WINDOWS_MIN * window + 1);
    if (d->n_tokens < least)
        return fault(CLI_FAILED, "--data=%s: %zu %s: must be at least %zu, for %d validation windows of --ctx %lld",
                     path, d->n_tokens, units, least, VAL_WINDOWS_MIN, (long long)ctx);
    if (d->classes < 2)
        return fault(CLI_FAILED, "--data=%s: all %s are the same: at least 2 different ones are needed", path, units);
    d->text = true;
    d->first_val = d->n_tokens - d->n_tokens / SHARE;
    d->n_train = d->first_val - window; /* the last target is still training text */
    d->n_val = (d->n_tokens - d->first_val - 1) / window;
    d->elems = d->targets = window;
    d->ndim = 1;
    d->shape[0] = ctx;
    return 0;
}

int data_open_text(data *d, const char *path, const char *units, int64_t ctx)
{
    text        t = {0};
    struct stat s;
    int         code;
    if (stat(path, &s) != 0) return fault(CLI_FAILED, "--data=%s: %s", path, strerror(errno));
    code = S_ISDIR(s.st_mode) ? append_folder(&t, path) : append_file(&t, path, false);
    if (!code) code = tokenize(d, &t, units);
    if (!code) code = divide(d, path, units, ctx);
    if (!code) {
        d->hash = data_hash(0, t.byte, t.n);
        snprintf(d->what, sizeof d->what, "%d file%s, %zu %s, vocabulary %lld", t.files, t.files == 1 ? "" : "s",
                 d->n_tokens, units, (long long)d->classes);
    }
    free(t.byte);
    if (code) data_close(d);
    return code;
}
