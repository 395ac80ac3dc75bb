/* compare_train.c : one `taut train` as a process of its own; its JSON and its log are read back. */
#include "compare.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGS_MAX = 96 };

typedef struct args {
    char *v[ARGS_MAX + 1];
    int   n;
} args;

static void add(args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(args *a, const char *fmt, ...)
{
    va_list ap;
    if (a->n == ARGS_MAX) return; /* far more than are ever added */
    va_start(ap, fmt);
    if (vasprintf(&a->v[a->n], fmt, ap) >= 0) a->n++;
    va_end(ap);
}

/* The command itself: its `train` knows where the training program is. */
static void add_command(args *a, const compare *c)
{
    char    self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (c->ranks > 1) {
        add(a, "mpirun");
        add(a, "-n");
        add(a, "%lld", (long long)c->ranks);
    }
    add(a, "%.*s", n > 0 ? (int)n : 4, n > 0 ? self : "taut");
    add(a, "train");
}

static void add_shards(args *a, const compare *c)
{
    size_t room = 16;
    char  *list;
    for (int i = 0; i < c->shards; i++) room += strlen(c->path[i]) + 1;
    if (!(list = calloc(room, 1))) return;
    for (int i = 0; i < c->shards; i++) {
        strcat(list, i ? "," : "--data=");
        strcat(list, c->path[i]);
    }
    add(a, "%s", list);
    free(list);
}

static void fill_args(args *a, const compare *c, const char *plan, const char *log, uint64_t seed)
{
    uint64_t every = c->samples / (uint64_t)c->batch;
    add_command(a, c);
    add_shards(a, c);
    add(a, "--plan=%s", plan);
    add(a, "--validation=%s", c->validation);
    add(a, "--model=%s", c->model);
    add(a, "--steps=%llu", (unsigned long long)c->steps);
    add(a, "--global-batch=%lld", (long long)c->batch);
    add(a, "--optimizer=%s", c->optimizer);
    add(a, "--schedule=%s", c->schedule);
    add(a, "--eval-samples=%lld", (long long)c->eval_samples);
    add(a, "--eval-every=%llu", (unsigned long long)(every ? every : 1));
    add(a, "--seed=%llu", (unsigned long long)seed);
    add(a, "--codec=none"); /* nothing but the choice of samples differs */
    if (c->lr > 0) add(a, "--lr=%.17g", c->lr);
    for (size_t i = 0; i < c->more.n; i++) add(a, "--%s", c->more.item[i]);
    add(a, "--log=%s", log);
    add(a, "--json");
}

static int start(const args *a, const char *out, const char *err)
{
    int   status;
    pid_t pid = fork();
    if (pid == 0) {
        int o = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600), e = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (o < 0 || e < 0 || dup2(o, 1) < 0 || dup2(e, 2) < 0) _exit(126);
        execvp(a->v[0], a->v);
        fprintf(stderr, "%s: %s\n", a->v[0], strerror(errno));
        _exit(127);
    }
    if (pid < 0) return cli_fail("cannot start taut train: %s", strerror(errno));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? CLI_OK : CLI_FAILED;
}

/* What the run said on stderr, if it failed: its own sentence. */
static int tell(const char *err)
{
    char  line[1024] = "it said nothing";
    FILE *f = fopen(err, "r");
    bool  own = false;
    while (f && !own && fgets(line, sizeof line, f)) own = strncmp(line, "taut train: ", 12) == 0;
    if (f) fclose(f);
    line[strcspn(line, "\n")] = 0;
    return cli_fail("a run failed: %s", line);
}

static json_t *last_line(const char *path)
{
    FILE   *f = fopen(path, "r");
    char   *line = NULL, *last = NULL;
    size_t  room = 0;
    json_t *j;
    while (f && getline(&line, &room, f) > 0) {
        free(last);
        last = strdup(line);
    }
    if (f) fclose(f);
    j = last ? json_loads(last, 0, NULL) : NULL;
    free(line);
    free(last);
    return j;
}

static double real(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }

/* Accuracy, or loss of text, at every evaluation. */
static void read_curve(const compare *c, const char *log, compare_run_result *r)
{
    FILE  *f = fopen(log, "r");
    char  *line = NULL;
    size_t room = 0;
    while (f && getline(&line, &room, f) > 0) {
        json_t     *j = json_loads(line, 0, NULL);
        const char *kind = json_string_value(json_object_get(j, "kind"));
        if (kind && strcmp(kind, "eval") == 0) {
            double *more = realloc(r->curve, (r->rounds + 1) * sizeof *more);
            if (more) {
                r->curve = more;
                r->curve[r->rounds++] = c->text ? real(j, "loss_val") : 100 * real(j, "accuracy_val");
            }
        }
        json_decref(j);
    }
    if (f) fclose(f);
    free(line);
}

int compare_train(const compare *c, const compare_method *m, const char *plan, uint64_t seed, compare_run_result *r)
{
    char    out[96], err[96], log[96];
    args    a = {.n = 0};
    json_t *j = NULL, *data;
    int     rc;
    (void)m;
    snprintf(out, sizeof out, "%s/out", c->folder);
    snprintf(err, sizeof err, "%s/err", c->folder);
    snprintf(log, sizeof log, "%s/log.jsonl", c->folder);
    fill_args(&a, c, plan, log, seed);
    rc = start(&a, out, err);
    if (rc != CLI_OK) rc = tell(err);
    else if (!(j = last_line(out)) || !(data = json_object_get(j, "data"))) rc = cli_fail("taut train printed no result");
    else {
        r->seed = seed;
        r->accuracy = 100 * real(j, "accuracy_val");
        r->loss = real(j, "loss_val");
        r->train_s = real(j, "seconds");
        r->read_bytes = (uint64_t)real(data, "read_bytes");
        r->decoded_per_used = real(data, "decoded_per_used");
        read_curve(c, log, r);
    }
    json_decref(j);
    for (int i = 0; i < a.n; i++) free(a.v[i]);
    return rc;
}
