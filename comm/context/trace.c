/* trace.c : what happened when, as Chrome's trace events (chrome://tracing, ui.perfetto.dev): one complete event per
 * piece of work, two rows per layer (work, wire), bytes as an argument. Written as it happens, through a buffer of its own. */
#include "context.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>

struct taut__trace {
    FILE               *file;
    pthread_mutex_t     lock;
    double              zero;
    int                 rank;
    struct taut__trace *next; /* of all that are open */
    char                buffer[1 << 18];
};

/* A forked child's exit() would write what it has inherited in buffers once more, into the parent's files. */
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static taut__trace    *all;

static void before_fork(void)
{
    pthread_mutex_lock(&all_lock);
    for (taut__trace *t = all; t; t = t->next) pthread_mutex_lock(&t->lock);
}
static void after_fork(void)
{
    for (taut__trace *t = all; t; t = t->next) pthread_mutex_unlock(&t->lock);
    pthread_mutex_unlock(&all_lock);
}
static void in_child(void)
{
    for (taut__trace *t = all; t; t = t->next) __fpurge(t->file);
    after_fork();
}
static void watch_forks(void) { pthread_atfork(before_fork, after_fork, in_child); }

static void enlist(taut__trace *t)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&all_lock);
    t->next = all;
    all = t;
    pthread_mutex_unlock(&all_lock);
}

static void delist(const taut__trace *t)
{
    pthread_mutex_lock(&all_lock);
    taut__trace **at = &all;
    while (*at && *at != t) at = &(*at)->next;
    if (*at) *at = t->next;
    pthread_mutex_unlock(&all_lock);
}

bool taut__rank_path(const char *path, int rank, char *dst, size_t cap)
{
    const char *mark = strstr(path, "%r");
    int         n = mark ? snprintf(dst, cap, "%.*s%d%s", (int)(mark - path), path, rank, mark + 2)
                         : snprintf(dst, cap, "%s", path);
    return n >= 0 && (size_t)n < cap;
}

taut_status taut__trace_open(const char *path, int rank, taut__trace **trace)
{
    char name[512];
    *trace = NULL;
    if (!*path || (rank != 0 && !strstr(path, "%r"))) return TAUT_OK; /* one name: rank 0 writes it */
    if (!taut__rank_path(path, rank, name, sizeof name))
        return taut__fail(TAUT_E_RANGE, "TAUT_TRACE=%s: %zu characters: must be below %zu, rank included", path,
                          strlen(path), sizeof name);
    taut__trace *t = taut__alloc(1, sizeof *t);
    if (!t) return taut__fail(TAUT_E_NOMEM, "trace: out of memory");
    t->file = fopen(name, "w");
    if (!t->file) {
        taut__free(t);
        return taut__fail(TAUT_E_IO, "TAUT_TRACE=%s: %s", name, strerror(errno));
    }
    setvbuf(t->file, t->buffer, _IOFBF, sizeof t->buffer);
    pthread_mutex_init(&t->lock, NULL);
    t->zero = taut__now();
    t->rank = rank;
    enlist(t);
    fprintf(t->file,
            "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,"
            "\"args\":{\"name\":\"rank %d\"}}",
            rank, rank);
    *trace = t;
    return TAUT_OK;
}

void taut__trace_close(taut__trace *t)
{
    if (!t) return;
    delist(t);
    fprintf(t->file, "\n]}\n");
    bool bad = ferror(t->file) != 0;
    if (fclose(t->file) != 0 || bad)
        taut__log(TAUT_LOG_WARN, "comm", "TAUT_TRACE: rank %d's trace could not be written (disk full?)", t->rank);
    pthread_mutex_destroy(&t->lock);
    taut__free(t);
}

/* Names are the program's: quotes, backslashes and control characters must not break the file. */
static void put_name(FILE *f, const char *s)
{
    for (; *s; s++)
        if (*s == '"' || *s == '\\') fprintf(f, "\\%c", *s);
        else if ((unsigned char)*s < 0x20) fprintf(f, "\\u%04x", (unsigned)*s);
        else fputc(*s, f);
}

/* A layer has a row for its work and one for its messages, which overlap the work. */
static void name_rows(taut__trace *t, const taut__job *job)
{
    static const char *const kind[] = {"", ", wire"};
    for (int k = 0; k < 2; k++) {
        fprintf(t->file, ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":\"",
                t->rank, job->tag + k);
        put_name(t->file, job->name);
        fprintf(t->file, "%s\"}}", kind[k]);
    }
}

void taut__trace_span(taut__trace *t, taut__job *job, const char *phase, double begin, double end, uint64_t bytes)
{
    char text[256];
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    if (!job->traced) name_rows(t, job);
    job->traced = true;
    taut__snprintf(text, sizeof text,
                   ",\n{\"name\":\"%s\",\"cat\":\"taut\",\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,"
                   "\"args\":{\"bytes\":%llu,\"layer\":\"",
                   phase, t->rank, job->tag + (phase[0] == 'w'), (begin - t->zero) * 1e6, (end - begin) * 1e6,
                   (unsigned long long)bytes);
    fputs(text, t->file);
    put_name(t->file, job->name);
    fprintf(t->file, "\"}}");
    pthread_mutex_unlock(&t->lock);
}
