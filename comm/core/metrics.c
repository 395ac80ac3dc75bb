/* metrics.c : a communicator's figures in a file that Prometheus's node exporter reads (its textfile collector), TAUT_METRICS.
 *
 * The text format wants all samples of one metric together, so a file is written for all communicators of this process that share it:
 * each keeps its last figures in a list, and whoever writes prints metric after metric over that list. The file is written beside and
 * renamed, so that nobody reads half of it. docs/metrics.md is the list of names; tests/multi/test_metrics.c compares. */
#include "communicator.h"
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATH_ROOM = 512, LABELS_ROOM = 192, CODECS = 16 };

typedef struct figures {
    taut_comm_stats c;
    size_t          layers;
    double          now;              /* seconds since 1970, of the last step */
    const char     *codec[CODECS];    /* names of the registry */
    double          elements[CODECS]; /* carried by it in the last step */
    bool            running;
} figures;

struct taut__metrics {
    char                  path[PATH_ROOM], labels[LABELS_ROOM];
    figures               now;
    double                written;  /* taut__now(); -1: never */
    bool                  grumbled; /* that it cannot be written */
    struct taut__metrics *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list, and of writing */
static taut__metrics  *list;
static unsigned        opened; /* communicators with metrics, ever: the next one's number */

/* ---- figures ---- */

static void count_codecs(const taut_comm *comm, figures *f)
{
    for (size_t i = 0; i < comm->layers; i++) {
        if (comm->layer[i]->bundle) continue;
        const taut_spec *spec = &taut__fuse_carrier(comm->layer[i])->spec;
        const char      *name = spec->stages > 1 ? "stack" : spec->stages == 1 ? spec->stage[0].codec->name : "none";
        int              k = 0;
        while (k < CODECS - 1 && f->codec[k] && strcmp(f->codec[k], name) != 0) k++;
        f->codec[k] = name;
        f->elements[k] += (double)comm->layer[i]->operand.tensor.elems;
    }
}

static void look(const taut_comm *comm, bool running, figures *f)
{
    struct timespec t;
    *f = (figures){.c = {.size = sizeof f->c}, .layers = taut_comm_layers(comm), .running = running};
    (void)taut_comm_get_stats(comm, &f->c);
    clock_gettime(CLOCK_REALTIME, &t);
    f->now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    count_codecs(comm, f);
}

/* ---- the text ---- */

static void put(FILE *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(FILE *f, const char *fmt, ...)
{
    char    text[PATH_ROOM + LABELS_ROOM];
    va_list args;
    va_start(args, fmt);
    taut__vsnprintf(text, sizeof text, fmt, args); /* whatever locale the program has set */
    va_end(args);
    fputs(text, f);
}

static void put_head(FILE *f, const char *name, const char *type, const char *help)
{
    put(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

typedef struct metric {
    const char *name, *type, *help;
    double      value;
} metric;
enum { METRICS = 19 };

static metric metric_of(const figures *f, size_t i)
{
    const taut_comm_stats *c = &f->c;
    const metric           all[METRICS] = {
                  {"taut_running", "gauge", "1 while the communicator exists, 0 after it was destroyed.", f->running},
                  {"taut_last_step_timestamp_seconds", "gauge", "When the last step ended, seconds since 1970.", f->now},
                  {"taut_steps_total", "counter", "Steps that have ended.", (double)c->steps},
                  {"taut_layers", "gauge", "Layers that are registered.", (double)f->layers},
                  {"taut_sent_bytes_total", "counter", "Bytes sent by this rank, headers, statistics and probes among them.",
                   (double)c->bytes_sent},
                  {"taut_uncompressed_bytes_total", "counter", "Bytes that the same messages would have taken uncompressed.",
                   (double)c->bytes_dense},
                  {"taut_probe_bytes_total", "counter", "Of the bytes sent, those that measured the link.",
                   (double)c->bytes_probes},
                  {"taut_relative_squared_error", "gauge",
                   "Error of the last step's aggregate in the metric of the budget, relative to its squared norm.",
                   c->rel_err2_metric},
                  {"taut_relative_squared_error_low", "gauge", "Lower end of the interval of that error.",
                   c->rel_err2_metric_low},
                  {"taut_relative_squared_error_high", "gauge", "Upper end of the interval of that error.",
                   c->rel_err2_metric_high},
                  {"taut_relative_squared_error_plain", "gauge", "The same error in the plain metric.", c->rel_err2},
                  {"taut_error_measured", "gauge",
                   "1 if the error was measured on the result in every layer that loses something, 0 if it is the encoders' own.",
                   (double)c->measured},
                  {"taut_budget_relative_squared_error", "gauge",
                   "Error that the last step was allowed; 0 while no plan is in force.", c->budget},
                  {"taut_budget_violations_total", "counter", "Steps whose error exceeded the budget.",
                   (double)c->budget_violations},
                  {"taut_plans_total", "counter", "Plans adopted.", (double)c->plans},
                  {"taut_communication_seconds_total", "counter", "Time during which at least one collective was under way.",
                   c->comm_s},
                  {"taut_waiting_seconds_total", "counter", "Time that the program spent waiting for communication.",
                   c->exposed_s},
                  {"taut_codec_seconds_total", "counter", "Time of encoding and decoding, all threads of this rank together.",
                   c->codec_s},
                  {"taut_planning_seconds_total", "counter", "Time spent on measuring and planning.", c->plan_s},
    };
    return all[i];
}

static void put_all(FILE *f, const taut__metrics *of)
{
    const char *path = of->path;
    put_head(f, "taut_info", "gauge", "What runs: version of the library, kernels in use.");
    for (const taut__metrics *m = list; m; m = m->next)
        if (strcmp(m->path, path) == 0)
            put(f, "taut_info{%s,version=\"%d.%d.%d\",kernels=\"%s\"} 1\n", m->labels, TAUT_VERSION_MAJOR,
                TAUT_VERSION_MINOR, TAUT_VERSION_PATCH, taut_cpu_path());
    for (size_t i = 0; i < METRICS; i++) {
        metric x = metric_of(&of->now, i);
        put_head(f, x.name, x.type, x.help);
        for (const taut__metrics *m = list; m; m = m->next)
            if (strcmp(m->path, path) == 0) put(f, "%s{%s} %.17g\n", x.name, m->labels, metric_of(&m->now, i).value);
    }
    put_head(f, "taut_codec_elements", "gauge", "Elements of the layers that this codec carries now.");
    for (const taut__metrics *m = list; m; m = m->next)
        for (int k = 0; k < CODECS && m->now.codec[k] && strcmp(m->path, path) == 0; k++)
            put(f, "taut_codec_elements{%s,codec=\"%s\"} %.17g\n", m->labels, m->now.codec[k], m->now.elements[k]);
}

static taut_status write_file(const taut__metrics *m)
{
    char  path[PATH_MAX], part[PATH_MAX + 32];
    FILE *f;
    if (taut__behind_links(m->path, path) != TAUT_OK)
        return taut__fail(TAUT_E_IO, "TAUT_METRICS=%s", taut_last_error());
    snprintf(part, sizeof part, "%s.%ld.part", path, (long)getpid());
    if (!(f = fopen(part, "w"))) return taut__fail(TAUT_E_IO, "TAUT_METRICS=%s: %s", path, strerror(errno));
    put_all(f, m);
    bool bad = ferror(f) != 0;
    bad = fclose(f) != 0 || bad;
    if (!bad && rename(part, path) == 0) return TAUT_OK;
    int why = errno;
    unlink(part);
    return taut__fail(TAUT_E_IO, "TAUT_METRICS=%s: %s", path, bad ? "could not be written" : strerror(why));
}

static taut_status write_now(taut_comm *comm, bool running)
{
    taut__metrics *m = comm->metrics;
    taut_status    s;
    look(comm, running, &m->now);
    s = write_file(m);
    m->written = taut__now();
    return s;
}

/* ---- what the communicator calls ---- */

/* A label's value: quotes, backslashes and line ends would break the format. */
static void plain(char *text)
{
    for (; *text; text++)
        if (*text == '"' || *text == '\\' || (unsigned char)*text < 0x20) *text = '_';
}

static void name_labels(taut__metrics *m, const taut_comm *comm)
{
    const char *job = getenv("SLURM_JOB_ID");
    char        run[64];
    if (job && *job) snprintf(run, sizeof run, "%.60s", job);
    else snprintf(run, sizeof run, "%ld", (long)getpid());
    plain(run);
    snprintf(m->labels, sizeof m->labels, "run=\"%s\",rank=\"%d\",ranks=\"%d\",comm=\"%u\"", run, comm->ctx.all.rank,
             comm->ctx.all.size, opened++);
}

taut_status taut__metrics_open(taut_comm *comm)
{
    const char *path = comm->ctx.set.metrics;
    taut_status s;
    if (!*path || (comm->ctx.all.rank != 0 && !strstr(path, "%r"))) return TAUT_OK; /* one name: rank 0 writes it */
    taut__metrics *m = taut__alloc(1, sizeof *m);
    if (!m) return taut__fail(TAUT_E_NOMEM, "metrics: out of memory");
    if (!taut__rank_path(path, comm->ctx.all.rank, m->path, sizeof m->path)) {
        size_t most = sizeof m->path;
        taut__free(m);
        return taut__fail(TAUT_E_RANGE, "TAUT_METRICS=%s: %zu characters: must be below %zu, rank included", path,
                          strlen(path), most);
    }
    pthread_mutex_lock(&lock);
    name_labels(m, comm);
    m->next = list;
    list = comm->metrics = m;
    s = write_now(comm, true);
    pthread_mutex_unlock(&lock);
    return s;
}

void taut__metrics_step(taut_comm *comm)
{
    taut__metrics *m = comm->metrics;
    if (!m || taut__now() - m->written < comm->ctx.set.metrics_seconds) return;
    pthread_mutex_lock(&lock);
    taut_status s = write_now(comm, true);
    pthread_mutex_unlock(&lock);
    if (s != TAUT_OK && !m->grumbled)
        taut__log(TAUT_LOG_WARN, "comm", "%s; training goes on without", taut_last_error());
    m->grumbled |= s != TAUT_OK;
}

void taut__metrics_close(taut_comm *comm)
{
    taut__metrics *m = comm->metrics, **at = &list;
    if (!m) return;
    pthread_mutex_lock(&lock);
    (void)write_now(comm, false);
    while (*at && *at != m) at = &(*at)->next;
    if (*at) *at = m->next;
    pthread_mutex_unlock(&lock);
    comm->metrics = NULL;
    taut__free(m);
}
