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
static void add_self(args *a)
{
    char    self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    add(a, "%.*s", n > 0 ? (int)n : 4, n > 0 ? self : "taut");
}

static void add_command(args *a, const compare *c)
{
    if (c->ranks > 1) {
        add(a, "mpirun");
        add(a, "-n");
        add(a, "%lld", (long long)c->ranks);
    }
    add_self(a);
    add(a, "train");
}

static void add_shards(args *a, const compare *c, const char *front)
{
    size_t room = strlen(front) + 16;
    char  *list;
    for (int i = 0; i < c->shards; i++) room += strlen(c->path[i]) + 1;
    if (!(list = calloc(room, 1))) return;
    for (int i = 0; i < c->shards; i++) {
        strcat(list, i ? "," : front);
        strcat(list, c->path[i]);
    }
    add(a, "%s", list);
    free(list);
}

static void fill_args(args *a, const compare *c, const compare_method *m, const char *plan, const char *log,
                      uint64_t seed)
{
    uint64_t every = m->steps / (uint64_t)c->rounds,
             batch = m->samples < (uint64_t)c->batch ? m->samples : (uint64_t)c->batch;
    add_command(a, c);
    if (m->data) add(a, "--data=%s", m->data);
    else add_shards(a, c, "--data=");
    add(a, "--plan=%s", plan);
    if (m->plan) add(a, "--rounds=%llu", (unsigned long long)compare_rounds(c, m));
    add(a, "--validation=%s", c->validation);
    add(a, "--model=%s", c->model);
    add(a, "--steps=%llu", (unsigned long long)m->steps);
    add(a, "--global-batch=%llu", (unsigned long long)batch);
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
static int tell(const char *err, const char *front)
{
    char  line[1024] = "it said nothing";
    FILE *f = fopen(err, "r");
    bool  own = false;
    while (f && !own && fgets(line, sizeof line, f)) own = strncmp(line, front, strlen(front)) == 0;
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
    snprintf(out, sizeof out, "%s/out", c->folder);
    snprintf(err, sizeof err, "%s/err", c->folder);
    snprintf(log, sizeof log, "%s/log.jsonl", c->folder);
    fill_args(&a, c, m, plan, log, seed);
    rc = start(&a, out, err);
    if (rc != CLI_OK) rc = tell(err, "taut train: ");
    else if (!(j = last_line(out)) || !(data = json_object_get(j, "data")))
        rc = cli_fail("taut train printed no result");
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

int compare_soft(const compare *c)
{
    char    out[96], err[96], part[4096], steps[24];
    args    a = {.n = 0};
    int64_t classes = 0;
    int     rc;
    for (int i = 0; i < c->shards; i++) { /* how many classes the budget is for */
        taut_shard     *s;
        taut_reader    *r = NULL;
        taut_shard_info info = {.size = sizeof info};
        int64_t        *label;
        taut_status     st = taut_shard_open(c->path[i], &s);
        if (st != TAUT_OK) return cli_status(st, "shard");
        taut_shard_get_info(s, &info);
        label = malloc((size_t)info.samples * sizeof *label);
        st = label ? taut_reader_create(s, &r) : TAUT_E_NOMEM;
        if (st == TAUT_OK) st = taut_reader_labels(r, label);
        for (uint64_t k = 0; st == TAUT_OK && k < info.samples; k++)
            if (label[k] + 1 > classes) classes = label[k] + 1;
        free(label);
        taut_reader_destroy(r);
        taut_shard_close(s);
        if (st != TAUT_OK) return cli_status(st, "--soft-labels: %s", c->path[i]);
    }
    if (classes < 1) return cli_fail("--soft-labels: no label of these shards is 0 or more: there is no class");
    snprintf(out, sizeof out, "%s/out", c->folder);
    snprintf(err, sizeof err, "%s/err", c->folder);
    add_self(&a);
    add(&a, "data");
    add(&a, "distill");
    add_shards(&a, c, "");
    snprintf(part, sizeof part, "%lld",
             (long long)((int64_t)c->samples / classes > 0 ? (int64_t)c->samples / classes : 1));
    add(&a, "--method=random");
    add(&a, "--soft-labels");
    add(&a, "--per-class=%s", part);
    if (c->teacher_steps > 0) {
        snprintf(steps, sizeof steps, "%lld", (long long)c->teacher_steps);
        add(&a, "--teacher-steps=%s", steps);
    }
    add(&a, "-o");
    add(&a, "%s", c->soft_path);
    fprintf(stderr, "random samples with soft labels: a teacher, %s of a class\n", part);
    rc = start(&a, out, err);
    if (rc != CLI_OK) rc = tell(err, "taut data distill: ");
    for (int i = 0; i < a.n; i++) free(a.v[i]);
    return rc;
}
