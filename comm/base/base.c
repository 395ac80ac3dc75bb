/* base.c : see base.h. */
#define _POSIX_C_SOURCE 200809L
#include "base.h"
#include <limits.h>
#include <locale.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- version, status ---- */
int taut_version(void) { return TAUT_VERSION; }
int taut_wire_version(void) { return TAUT_WIRE_VERSION; }

const char *taut_status_name(taut_status s)
{
    switch (s) {
#define TAUT_NAME_ITEM(name, value, text)                                                                              \
    case name: return #name;
        TAUT_STATUS_MAP(TAUT_NAME_ITEM)
    default: return "TAUT_E_?";
    }
}

const char *taut_status_text(taut_status s)
{
    switch (s) {
#define TAUT_TEXT_ITEM(name, value, text)                                                                              \
    case name: return text;
        TAUT_STATUS_MAP(TAUT_TEXT_ITEM)
    default: return "unknown status";
    }
}

/* ---- numbers as text ---- */
static locale_t       c_locale; /* 0 if there was no memory: the program's locale is used */
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void c_locale_make(void) { c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0); }

/* This thread's locale before, to be given back to uselocale(). */
static locale_t use_c_locale(void)
{
    pthread_once(&c_locale_once, c_locale_make);
    return uselocale(c_locale);
}

double taut__strtod(const char *text, char **end)
{
    locale_t before = use_c_locale();
    double   v = strtod(text, end);
    uselocale(before);
    return v;
}

int taut__vsnprintf(char *dst, size_t cap, const char *fmt, va_list ap)
{
    locale_t before = use_c_locale();
    int      n = vsnprintf(dst, cap, fmt, ap);
    uselocale(before);
    return n;
}

int taut__snprintf(char *dst, size_t cap, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = taut__vsnprintf(dst, cap, fmt, ap);
    va_end(ap);
    return n;
}

/* ---- errors ---- */
static _Thread_local char last_error[sizeof(taut__kept)];

const char *taut_last_error(void) { return last_error; }

taut__kept taut__keep_error(void)
{
    taut__kept k;
    memcpy(k.text, last_error, sizeof k.text);
    return k;
}

taut_status(taut__fail)(taut_status s, const char *fmt, ...)
{
    char    text[sizeof last_error]; /* arguments may point into last_error */
    va_list ap;
    va_start(ap, fmt);
    taut__vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(last_error, text, sizeof text);
    taut__log(TAUT_LOG_DEBUG, "base", "%s: %s", taut_status_name(s), text);
    return s;
}

taut_status(taut__failed_at)(taut_status s, const char *file, int line)
{
    taut__log(TAUT_LOG_TRACE, "base", "%s passed up at %s:%d", taut_status_name(s), file, line);
    return s;
}

/* ---- log ---- */
static _Atomic int log_level = -1; /* -1 = environment not read yet; racing readers reach the same answer */
static _Atomic int log_rank = -1;

static int log_level_get(void)
{
    static const char *const names[] = {"error", "warn", "info", "debug", "trace"};
    int                      level = atomic_load_explicit(&log_level, memory_order_relaxed);
    if (level >= 0) return level;
    level = TAUT_LOG_WARN;
    const char *e = getenv("TAUT_LOG");
    for (int i = 0; e && i < 5; i++)
        if (strcmp(e, names[i]) == 0) level = i;
    atomic_store_explicit(&log_level, level, memory_order_relaxed);
    return level;
}

static bool in_list(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)) != NULL; p += n)
        if ((p == list || p[-1] == ',') && (p[n] == 0 || p[n] == ',')) return true;
    return false;
}

bool taut__log_on(taut__log_level level, const char *subsys)
{
    if ((int)level > log_level_get()) return false;
    const char *only = getenv("TAUT_LOG_SUBSYS");
    return !only || !*only || in_list(only, subsys);
}

void taut__log(taut__log_level level, const char *subsys, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug", "trace"};
    if (!taut__log_on(level, subsys)) return;
    char    line[1400];
    int     rank = atomic_load_explicit(&log_rank, memory_order_relaxed);
    int     n = rank < 0 ? snprintf(line, sizeof line, "taut %s [%s] ", names[level], subsys)
                         : snprintf(line, sizeof line, "taut %s [%s] rank %d: ", names[level], subsys, rank);
    va_list ap;
    va_start(ap, fmt);
    n += taut__vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    va_end(ap);
    if (n > (int)sizeof line - 2) n = (int)sizeof line - 2;
    line[n++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, (size_t)n);
    (void)ignored;
}

void taut__log_rank(int rank) { atomic_store_explicit(&log_rank, rank, memory_order_relaxed); }

/* ---- memory: the header before each block holds its size, so that bytes in use can be counted ---- */
enum { ALIGN = 64 };

/* AddressSanitizer's own edges lie around header, block and what rounds the size up: the block has edges of its own. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TAUT_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define TAUT_ASAN
#endif
#ifdef TAUT_ASAN
#include <sanitizer/asan_interface.h>
static void guard(char *p, size_t bytes, size_t total)
{
    ASAN_POISON_MEMORY_REGION(p + sizeof bytes, ALIGN - sizeof bytes);
    ASAN_POISON_MEMORY_REGION(p + ALIGN + bytes, total - ALIGN - bytes);
}
#else
static void guard(char *p, size_t bytes, size_t total) { (void)p, (void)bytes, (void)total; }
#endif

static _Atomic size_t  alloc_count, alloc_bytes;
static _Atomic int64_t fail_after = -1;

void *taut__alloc(size_t count, size_t size)
{
    size_t bytes, total;
    if (!taut__mul_ok(count, size, &bytes) || !taut__add_ok(bytes, (size_t)2 * ALIGN, &total)) return NULL;
    if (atomic_load(&fail_after) >= 0 && atomic_fetch_sub(&fail_after, 1) == 0) return NULL;
    total -= total % ALIGN; /* aligned_alloc wants a multiple; at least one spare byte remains */
    char *p = aligned_alloc(ALIGN, total);
    if (!p) return NULL;
    memset(p, 0, total);
    memcpy(p, &bytes, sizeof bytes);
    guard(p, bytes, total);
    atomic_fetch_add(&alloc_count, 1);
    atomic_fetch_add(&alloc_bytes, bytes);
    return p + ALIGN;
}

void taut__free(void *p)
{
    if (!p) return;
    size_t bytes;
    memcpy(&bytes, (char *)p - ALIGN, sizeof bytes);
    atomic_fetch_sub(&alloc_bytes, bytes);
    free((char *)p - ALIGN);
}

bool taut__room(void *array, size_t *room, size_t n, size_t size)
{
    void *old;
    if (n <= *room) return true;
    memcpy(&old, array, sizeof old);
    taut__free(old);
    void *fresh = taut__alloc(n, size);
    memcpy(array, &fresh, sizeof fresh);
    *room = fresh ? n : 0;
    return fresh;
}

bool taut__grow(void *array, size_t used, size_t room, size_t size)
{
    void *old, *more = taut__alloc(room, size);
    if (!more) return false;
    memcpy(&old, array, sizeof old);
    if (used) memcpy(more, old, used * size);
    taut__free(old);
    memcpy(array, &more, sizeof more);
    return true;
}

size_t taut__alloc_count(void) { return atomic_load(&alloc_count); }
size_t taut__alloc_bytes(void) { return atomic_load(&alloc_bytes); }
void   taut__alloc_fail_after(int64_t n) { atomic_store(&fail_after, n); }

/* ---- names of files ---- */
taut_status taut__behind_links(const char *path, char *dst)
{
    enum { LINKS_MAX = 40 };
    char        target[PATH_MAX], next[PATH_MAX];
    struct stat there, named;
    ssize_t     n;
    int         folder;
    bool        is_there = stat(path, &there) == 0;
    if (is_there && !S_ISREG(there.st_mode)) /* a rename would take the place of a device */
        return taut__fail(TAUT_E_IO, "%s: is there and not a regular file", path);
    if (snprintf(dst, PATH_MAX, "%s", path) >= PATH_MAX) return taut__fail(TAUT_E_RANGE, "%s: a name too long", path);
    for (int links = 0; (n = readlink(dst, target, sizeof target - 1)) >= 0; links++) {
        const char *slash = strrchr(dst, '/');
        target[n] = 0;
        folder = target[0] == '/' || !slash ? 0 : (int)(slash - dst) + 1; /* what it is relative to */
        if (links == LINKS_MAX) return taut__fail(TAUT_E_IO, "%s: too many symbolic links", path);
        if (snprintf(next, sizeof next, "%.*s%s", folder, dst, target) >= PATH_MAX)
            return taut__fail(TAUT_E_RANGE, "%s: a name too long", path);
        memcpy(dst, next, sizeof next);
    }
    if (is_there && (stat(dst, &named) != 0 || named.st_dev != there.st_dev || named.st_ino != there.st_ino))
        return taut__fail(TAUT_E_IO, "%s: is a file without a name, as one that was deleted", path);
    return TAUT_OK;
}

double taut__now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
