/* log.c : see log.h. */
#include "log.h"
#include "../json.h"
#include "ranks.h"
#include "report.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOOKS = 200, LAYERS_LOGGED = 20000 }; /* looks at all layers in a run; layers in all of these */

struct train_log {
    FILE           *f;
    bool            failed;
    int64_t         steps, looked; /* of the run; at which all layers were last looked at */
    taut_comm_stats before;        /* of the step before */
};

/* Where the last line begins. */
static long last_line(FILE *f, long end)
{
    char block[4096];
    long n;
    for (; end > 0; end -= n) {
        n = end < (long)sizeof block ? end : (long)sizeof block;
        if (fseek(f, end - n, SEEK_SET) != 0 || fread(block, 1, (size_t)n, f) != (size_t)n) return -1;
        char *newline = memrchr(block, '\n', (size_t)n);
        if (newline) return end - n + (newline - block) + 1;
    }
    return 0;
}

/* Of a run that was killed while it wrote a line: what the next one appends would be part of that. */
static int drop_half_line(const char *path)
{
    static const char begin[] = "{\"kind\":";
    struct stat       st;
    FILE             *f = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? fopen(path, "r") : NULL;
    char              text[sizeof begin] = "";
    long              end = f ? (long)st.st_size : 0, at = end > 0 ? last_line(f, end) : -1;
    bool              half = at >= 0 && at < end && fseek(f, at, SEEK_SET) == 0 && fgets(text, sizeof text, f) &&
                strncmp(text, begin, strlen(text)) == 0;
    if (f) fclose(f);
    return half && truncate(path, at) != 0
               ? fault(CLI_FAILED, "--log=%s: its last line is not complete, and cannot be cut off: %s", path,
                       strerror(errno))
               : 0;
}

int log_open(train_log **log, const char *path, bool append)
{
    int code;
    *log = NULL;
    if (!path || ranks_rank() != 0) return 0;
    if (append && (code = drop_half_line(path)) != 0) return code;
    *log = calloc(1, sizeof **log);
    if (*log && ((*log)->f = fopen(path, append ? "a" : "w")) != NULL) return 0;
    free(*log);
    *log = NULL;
    return fault(CLI_FAILED, "--log=%s: %s", path, strerror(errno));
}

static void line(train_log *log, json_t *o)
{
    if (json_dumpf(o, log->f, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9) | JSON_COMPACT) != 0) log->failed = true;
    fputc('\n', log->f);
    fflush(log->f); /* so that a run can be watched, and that one that is killed leaves whole lines */
    json_decref(o);
}

static json_t *begin(const char *kind)
{
    json_t *o = json_object();
    jsn_text(o, "kind", kind);
    return o;
}

void log_run(train_log *log, const options *o, const data *d, size_t params)
{
    json_t *j;
    if (!log) return;
    j = begin("run");
    jsn_text(j, "model", o->model);
    jsn_int(j, "params", params);
    jsn_text(j, "data", d->what);
    jsn_int(j, "ranks", (uint64_t)ranks_count());
    jsn_int(j, "steps", (uint64_t)o->steps);
    jsn_int(j, "batch", (uint64_t)o->batch);
    jsn_int(j, "seed", o->seed);
    jsn_text(j, "codec", o->codec);
    jsn_text(j, "budget", o->budget ? o->budget : "");
    jsn_text(j, "optimizer", o->optimizer);
    jsn_real(j, "lr", o->lr);
    line(log, j);
    log->steps = o->steps;
}

static void put_split(json_t *j, const run_split *s)
{
    jsn_real(j, "step_ms", 1e3 * (s->data + s->forward + s->backward + s->wait + s->optimizer + s->scale));
    jsn_real(j, "data_ms", 1e3 * s->data);
    jsn_real(j, "forward_ms", 1e3 * s->forward);
    jsn_real(j, "backward_ms", 1e3 * s->backward);
    jsn_real(j, "wait_ms", 1e3 * s->wait);
    jsn_real(j, "optimizer_ms", 1e3 * s->optimizer);
    jsn_real(j, "scale_ms", 1e3 * s->scale);
}

void log_step(train_log *log, int64_t step, double loss, const run_split *s, const taut_comm_stats *c)
{
    json_t *j;
    if (!log) return;
    j = begin("step");
    jsn_int(j, "step", (uint64_t)step);
    jsn_real(j, "loss", loss);
    put_split(j, s);
    jsn_real(j, "comm_ms", 1e3 * (c->comm_s - log->before.comm_s));
    jsn_real(j, "codec_ms", 1e3 * (c->codec_s - log->before.codec_s));
    jsn_real(j, "plan_ms", 1e3 * (c->plan_s - log->before.plan_s));
    log->before = *c;
    jsn_int(j, "bytes_sent", c->bytes_sent);
    jsn_int(j, "bytes_dense", c->bytes_dense);
    jsn_real(j, "rel_err2", c->rel_err2);
    jsn_real(j, "rel_err2_metric", c->rel_err2_metric);
    jsn_real(j, "rel_err2_metric_low", c->rel_err2_metric_low);
    jsn_real(j, "rel_err2_metric_high", c->rel_err2_metric_high);
    jsn_int(j, "measured", (uint64_t)c->measured);
    jsn_real(j, "budget", c->budget);
    jsn_int(j, "budget_violations", c->budget_violations);
    line(log, j);
}

void log_eval(train_log *log, int64_t step, double loss, double accuracy)
{
    json_t *j;
    if (!log) return;
    j = begin("eval");
    jsn_int(j, "step", (uint64_t)step);
    jsn_real(j, "loss_val", loss);
    jsn_real(j, "accuracy_val", accuracy);
    line(log, j);
}

void log_plan(train_log *log, int64_t step, const taut_comm *comm, uint64_t hash)
{
    json_t *j, *all;
    char    hex[24];
    if (!log) return;
    j = begin("plan");
    all = json_object();
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)hash);
    jsn_int(j, "step", (uint64_t)step);
    jsn_text(j, "plan_hash", hex);
    for (size_t i = 0; i < taut_comm_layers(comm); i++) {
        taut_layer_stats s = {.size = sizeof s};
        if (taut_layer_get_stats(taut_comm_layer(comm, i), &s) == TAUT_OK) jsn_text(all, s.name, s.codec);
    }
    json_object_set_new(j, "layers", all);
    line(log, j);
}

void log_layers(train_log *log, int64_t step, const taut_comm *comm)
{
    json_t *j, *all;
    if (!log || (log->looked == step && step > 0)) return;
    j = begin("layers");
    all = json_array();
    jsn_int(j, "step", (uint64_t)step);
    for (size_t i = 0; i < taut_comm_layers(comm); i++) {
        taut_layer_stats s = {.size = sizeof s};
        json_t          *l = json_object();
        if (taut_layer_get_stats(taut_comm_layer(comm, i), &s) == TAUT_OK) {
            jsn_text(l, "name", s.name);
            jsn_int(l, "elements", s.elements);
            jsn_text(l, "codec", s.codec);
            jsn_real(l, "bits_per_element", s.bits_per_element);
            jsn_real(l, "rel_err2", s.rel_err2);
            jsn_real(l, "rel_err2_metric", s.rel_err2_metric);
            jsn_real(l, "residual_norm2", s.residual_norm2);
            jsn_int(l, "bytes_sent", s.bytes_sent);
        }
        json_array_append_new(all, l);
    }
    json_object_set_new(j, "layers", all);
    line(log, j);
    log->looked = step;
}

void log_layers_now_and_then(train_log *log, int64_t step, const taut_comm *comm)
{
    if (!log) return;
    int64_t layers = (int64_t)taut_comm_layers(comm), each = log->steps / LOOKS,
            few = log->steps * layers / LAYERS_LOGGED;
    if (step - log->looked >= (few > each ? few : each)) log_layers(log, step, comm);
}

void log_end(train_log *log, const result *r, const options *o)
{
    json_t *j, *fields;
    if (!log) return;
    j = begin("end");
    fields = report_object(r, o);
    json_object_update(j, fields);
    json_decref(fields);
    line(log, j);
}

int log_close(train_log *log, const char *path)
{
    bool bad;
    if (!log) return 0;
    bad = log->failed || ferror(log->f);
    bad = fclose(log->f) != 0 || bad;
    free(log);
    return bad ? fault(CLI_FAILED, "--log=%s: could not be written (disk full?)", path) : 0;
}
