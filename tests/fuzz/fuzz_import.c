/* fuzz_import.c : files as `taut data pack` reads them: a byte that chooses the format, a byte of options, then what the file holds. Behind the first
 * byte 1e, where there is one, stands what it holds when it is read a second time: files change. Samples have the fields that were
 * described, or an error is told. max_len=512 */
#include "compressors/dataset/utf8.h"
#include "fuzz.h"
#include "launch/data/import.h"
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { LABEL = 1, SELECT = 2, FLOAT64 = 4, BYTES = 8, TWICE = 16, SPLIT = 32 /* and 64 */ };

/* ---- a file, for all inputs ----
 * For the fuzzer it is bytes, behind what the linker brings for zlib's calls (Makefile); else a file in memory, which is opened by its name. */
#ifdef FUZZ_IN_MEMORY
static struct gzFile_s import_bytes, import_opened[2]; /* next, have: what is left */

gzFile      __wrap_gzopen(const char *path, const char *how);
int         __wrap_gzbuffer(gzFile f, unsigned bytes);
int         __wrap_gzread(gzFile f, void *dst, unsigned n);
int         __wrap_gzclose(gzFile f);
const char *__wrap_gzerror(gzFile f, int *code);
int         __real_stat(const char *path, struct stat *st);
int         __wrap_stat(const char *path, struct stat *st);

gzFile __wrap_gzopen(const char *path, const char *how)
{
    FUZZ_HOLDS(strcmp(path, "fuzz") == 0 && strcmp(how, "rb") == 0);
    for (size_t i = 0; i < 2; i++)
        if (!import_opened[i].next) {
            import_opened[i] = import_bytes;
            return &import_opened[i];
        }
    FUZZ_HOLDS(!"a stream that was not closed");
    return NULL;
}

int __wrap_gzbuffer(gzFile f, unsigned bytes) { return f->next && bytes ? 0 : -1; }

/* Behind a byte 7f, where there is one, the data is damaged. */
int __wrap_gzread(gzFile f, void *dst, unsigned n)
{
    unsigned       left = taut__min(f->have, n);
    const uint8_t *bad = left ? memchr(f->next, 0x7f, left) : NULL;
    if (bad && bad == f->next) return -1;
    if (bad) left = (unsigned)(bad - f->next);
    if (left) memcpy(dst, f->next, left);
    f->next += left, f->have -= left;
    return (int)left;
}

int __wrap_gzclose(gzFile f)
{
    FUZZ_HOLDS(f->next);
    f->next = NULL;
    return 0;
}

const char *__wrap_gzerror(gzFile f, int *code)
{
    bool bad = f->have && *f->next == 0x7f;
    *code = bad ? Z_DATA_ERROR : Z_OK;
    return bad ? "incorrect data check" : "";
}

int __wrap_stat(const char *path, struct stat *st)
{
    if (strcmp(path, "fuzz") != 0) return __real_stat(path, st);
    memset(st, 0, sizeof *st);
    st->st_mode = S_IFREG, st->st_size = (off_t)import_bytes.have;
    return 0;
}

static char *import_path(void)
{
    static char path[] = "fuzz";
    return path;
}

static void import_put(const uint8_t *data, size_t size)
{
    import_bytes = (struct gzFile_s){.next = (unsigned char *)(uintptr_t)data, .have = (unsigned)size};
}
#else
static int import_fd = -1;

static char *import_path(void)
{
    static char path[40];
    if (import_fd < 0) {
        import_fd = memfd_create("fuzz_import", 0);
        FUZZ_HOLDS(import_fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", import_fd);
    }
    return path;
}

static void import_put(const uint8_t *data, size_t size)
{
    FUZZ_HOLDS(ftruncate(import_fd, 0) == 0 && pwrite(import_fd, data, size, 0) == (ssize_t)size);
}
#endif

/* ---- what becomes of it ---- */

static uint64_t import_lines(const char *text)
{
    uint64_t n = text != NULL;
    for (; text && *text; text++) n += *text == '\n';
    return n;
}

static uint64_t import_number(const taut_field *f, const void *at)
{
    uint64_t v = 0;
    memcpy(&v, at, taut_type_bytes(f->type)); /* little-endian */
    return v;
}

static volatile uint8_t import_seen;

static int import_sink(void *ctx, const void *const *data, const size_t *bytes)
{
    const import *im = ctx;
    for (size_t k = 0; k < im->fields; k++) {
        const taut_field *f = &im->field[k];
        size_t            fixed = taut_type_bytes(f->type), tail;
        for (uint32_t d = 0; d < f->ndim; d++) fixed *= f->shape[d];
        FUZZ_HOLDS(f->variable ? bytes[k] % taut_type_bytes(f->type) == 0 : bytes[k] == fixed);
        for (size_t i = 0; i < bytes[k]; i++) import_seen ^= ((const uint8_t *)data[k])[i]; /* it is there */
        if (f->kind == TAUT_KIND_TEXT) FUZZ_HOLDS(taut__utf8_bad(data[k], bytes[k], false, &tail) == bytes[k]);
        if (f->kind == TAUT_KIND_LABEL && im->labels) FUZZ_HOLDS(import_number(f, data[k]) < import_lines(im->labels));
    }
    return CLI_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {"csv", "jsonl", "npy", "idx", "text", "csv"};
    static const char *const splits[] = {NULL, "lines", "documents", "windows"};
    if (size < 3) return 0;
    cli_speak(false);
    unsigned       format = data[0] % 6, options = data[1];
    char          *input[2] = {import_path(), import_path()};
    const uint8_t *content = data + 2, *again = memchr(content, 0x1e, size - 2);
    size_t         bytes = again ? (size_t)(again - content) : size - 2;
    import_options o = {.format = formats[format],
                        .window = 1 + size % 7,
                        .delimiter = format == 5 ? ";" : NULL,
                        .label = options & LABEL ? "class" : NULL,
                        .float64 = options & FLOAT64,
                        .bytes = options & BYTES,
                        .split = splits[options / SPLIT % 4],
                        .separator = format == 4 && options / SPLIT % 4 == 2 ? "\\n\\n" : NULL};
    if (options & SELECT) o.select = (cli_list){.n = 1, .item = {"a"}};
import im = {.options = & o, .input = input, .inputs = options & TWICE ? 2 : 1, .sink = import_sink };
    im.ctx = &im;
    import_put(content, bytes);
    if (import_open(&im) == CLI_OK) {
        FUZZ_HOLDS(im.fields > 0 && im.fields <= IMPORT_FIELDS);
        for (size_t k = 0; k < im.fields; k++)
            for (size_t i = 0; i < k; i++) FUZZ_HOLDS(strcmp(im.field[k].name, im.field[i].name) != 0);
        if (again) import_put(again + 1, (size_t)(data + size - again - 1));
        bool fed = import_feed(&im) == CLI_OK;
        FUZZ_HOLDS(fed || again || format >= 2); /* the first pass has seen all of it, of CSV and JSON */
    }
    import_close(&im);
#ifdef FUZZ_IN_MEMORY
    FUZZ_HOLDS(!import_opened[0].next && !import_opened[1].next);
#endif
    return 0;
}
