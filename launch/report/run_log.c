/* run_log.c : see run_log.h. */
#include "run_log.h"
#include "../cli.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double run_number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

const char *run_text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static bool bad(run_log *r, const char *what)
{
    snprintf(r->error, sizeof r->error, "%s", what);
    return false;
}

/* Room for one more of `size` bytes behind n; doubles. */
static bool grow(void **p, size_t n, size_t size)
{
    void *more;
    if (n & (n - 1)) return true; /* room is a power of two */
    more = realloc(*p, (n ? 2 * n : 1) * size);
    if (!more) return false;
    *p = more;
    return true;
}

static bool grow_columns(run_log *r)
{
    size_t room = r->room ? 2 * r->room : 256;
    if (r->steps < r->room) return true;
    for (int c = 0; c < RUN_COLUMNS; c++) {
        double *more = realloc(r->column[c], room * sizeof *more);
        if (!more) return false;
        r->column[c] = more;
    }
    r->room = room;
    return true;
}

/* A counter since the line before: a resumed run counts from the beginning. */
static double since(double now, double *before)
{
    double d = !isfinite(now) ? 0 : now >= *before ? now - *before : now;
    if (isfinite(now)) *before = now;
    return d;
}

/* A resumed run goes on from its checkpoint: what had been done behind it is done again. */
static void rewind_to(run_log *r, double step)
{
    while (r->steps > 0 && r->column[RUN_STEP][r->steps - 1] >= step) {
        r->last_violations -=
            r->column[RUN_VIOLATIONS][--r->steps]; /* part of the checkpoint: it counts on from there */
        r->repeated++;
    }
    while (r->evals > 0 && r->eval[r->evals - 1].step >= step) r->evals--;
    while (r->plans > 0 && r->plan[r->plans - 1].step >= step) r->plans--;
    while (r->looks > 0 && r->look[r->looks - 1].step >= step) free(r->look[--r->looks].cell);
}

static bool take_step(run_log *r, const json_t *o)
{
    static const struct {
        run_column  c;
        const char *key;
    } plain[] = {{RUN_STEP, "step"},
                 {RUN_LOSS, "loss"},
                 {RUN_STEP_MS, "step_ms"},
                 {RUN_ERROR, "rel_err2_metric"},
                 {RUN_ERROR_LOW, "rel_err2_metric_low"},
                 {RUN_ERROR_HIGH, "rel_err2_metric_high"},
                 {RUN_BUDGET, "budget"},
                 {RUN_DATA_MS, "data_ms"},
                 {RUN_FORWARD_MS, "forward_ms"},
                 {RUN_BACKWARD_MS, "backward_ms"},
                 {RUN_WAIT_MS, "wait_ms"},
                 {RUN_OPTIMIZER_MS, "optimizer_ms"},
                 {RUN_SCALE_MS, "scale_ms"},
                 {RUN_COMM_MS, "comm_ms"},
                 {RUN_CODEC_MS, "codec_ms"}};
    double step = run_number(o, "step"), *c[RUN_COLUMNS];
    if (!isfinite(step) || step < 0) return bad(r, "a record \"step\" without a number \"step\"");
    if (r->steps && step <= r->column[RUN_STEP][r->steps - 1]) rewind_to(r, step);
    if (!grow_columns(r)) return bad(r, "out of memory");
    size_t i = r->steps++;
    for (int k = 0; k < RUN_COLUMNS; k++) c[k] = r->column[k] + i;
    for (size_t k = 0; k < sizeof plain / sizeof *plain; k++) *c[plain[k].c] = run_number(o, plain[k].key);
    *c[RUN_STEP_SENT] = since(run_number(o, "bytes_sent"), &r->last_sent);
    *c[RUN_STEP_DENSE] = since(run_number(o, "bytes_dense"), &r->last_dense);
    *c[RUN_VIOLATIONS] = since(run_number(o, "budget_violations"), &r->last_violations);
    *c[RUN_SENT] = *c[RUN_STEP_SENT] + (i ? r->column[RUN_SENT][i - 1] : 0);
    *c[RUN_DENSE] = *c[RUN_STEP_DENSE] + (i ? r->column[RUN_DENSE][i - 1] : 0);
    *c[RUN_TIME_S] = (isfinite(*c[RUN_STEP_MS]) ? *c[RUN_STEP_MS] / 1e3 : 0) + (i ? r->column[RUN_TIME_S][i - 1] : 0);
    if (!(*c[RUN_BUDGET] > 0)) *c[RUN_BUDGET] = NAN;
    r->timed |= isfinite(*c[RUN_FORWARD_MS]);
    return true;
}

static bool take_eval(run_log *r, const json_t *o)
{
    if (!grow((void **)&r->eval, r->evals, sizeof *r->eval)) return bad(r, "out of memory");
    r->eval[r->evals++] = (run_eval){run_number(o, "step"), run_number(o, "loss_val"), run_number(o, "accuracy_val")};
    return true;
}

static int codec_of(run_log *r, const char *text)
{
    for (size_t i = r->codecs; i-- > 0;) /* the latest are the likeliest */
        if (strcmp(r->codec[i], text) == 0) return (int)i;
    if (!grow((void **)&r->codec, r->codecs, sizeof *r->codec) || !(r->codec[r->codecs] = strdup(text))) return -1;
    return (int)r->codecs++;
}

/* Where layer `name` is in r->layer; it is usually at `guess`. -1: out of memory */
static int layer_of(run_log *r, const char *name, size_t guess)
{
    if (guess < r->layers && strncmp(r->layer[guess].name, name, sizeof r->layer->name - 1) == 0) return (int)guess;
    for (size_t i = 0; i < r->layers; i++)
        if (strncmp(r->layer[i].name, name, sizeof r->layer->name - 1) == 0) return (int)i;
    if (!grow((void **)&r->layer, r->layers, sizeof *r->layer)) return -1;
    r->layer[r->layers] = (run_layer){.elements = NAN};
    snprintf(r->layer[r->layers].name, sizeof r->layer->name, "%s", name);
    return (int)r->layers++;
}

static bool take_layers(run_log *r, const json_t *o)
{
    const json_t *all = json_object_get(o, "layers");
    size_t        n = json_array_size(all);
    run_look      look = {.step = run_number(o, "step")};
    if (!json_is_array(all)) return bad(r, "a record \"layers\" without an array \"layers\"");
    for (size_t i = 0; i < n; i++)
        if (layer_of(r, run_text(json_array_get(all, i), "name"), i) < 0) return bad(r, "out of memory");
    look.layers = r->layers;
    look.cell = malloc((look.layers ? look.layers : 1) * sizeof *look.cell);
    if (!look.cell || !grow((void **)&r->look, r->looks, sizeof *r->look)) {
        free(look.cell);
        return bad(r, "out of memory");
    }
    for (size_t i = 0; i < look.layers; i++) look.cell[i] = (run_cell){NAN, NAN, -1};
    for (size_t i = 0; i < n; i++) {
        const json_t *l = json_array_get(all, i);
        int           at = layer_of(r, run_text(l, "name"), i);
        run_cell     *c = &look.cell[at];
        if (isfinite(run_number(l, "elements"))) r->layer[at].elements = run_number(l, "elements");
        *c =
            (run_cell){run_number(l, "bits_per_element"), run_number(l, "rel_err2"), codec_of(r, run_text(l, "codec"))};
    }
    r->look[r->looks++] = look;
    return true;
}

static bool take_plan(run_log *r, const json_t *o)
{
    if (!grow((void **)&r->plan, r->plans, sizeof *r->plan)) return bad(r, "out of memory");
    r->plan[r->plans].step = run_number(o, "step");
    snprintf(r->plan[r->plans++].hash, sizeof r->plan->hash, "%s", run_text(o, "plan_hash"));
    return true;
}

static void take_end(run_log *r, json_t *o)
{
    const json_t *all = json_object_get(o, "layers");
    json_decref(r->end);
    r->end = json_incref(o);
    for (size_t i = 0; i < json_array_size(all);
         i++) { /* logs of earlier versions say only here how large layers are */
        const json_t *l = json_array_get(all, i);
        int           at = layer_of(r, run_text(l, "name"), i);
        if (at >= 0) r->layer[at].elements = run_number(l, "elements");
    }
}

static bool take(run_log *r, json_t *o)
{
    const char *kind = run_text(o, "kind");
    if (strcmp(kind, "run") == 0) {
        if (r->head) {
            r->resumes++;
            r->last_sent = r->last_dense = 0;
        }
        json_decref(r->end); /* of a run that goes on */
        r->end = NULL;
        json_decref(r->head);
        r->head = json_incref(o);
        return true;
    }
    if (!r->head)
        return bad(r, "is no log of taut train --log: it begins with another record than {\"kind\":\"run\", ...}");
    if (strcmp(kind, "step") == 0) return take_step(r, o);
    if (strcmp(kind, "eval") == 0) return take_eval(r, o);
    if (strcmp(kind, "layers") == 0) return take_layers(r, o);
    if (strcmp(kind, "plan") == 0) return take_plan(r, o);
    if (strcmp(kind, "end") == 0) take_end(r, o);
    return true; /* kinds of later versions */
}

bool run_log_line(run_log *r, const char *line, size_t len)
{
    json_error_t e;
    json_t      *o;
    bool         ok;
    r->lines++;
    while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == ' ')) len--;
    if (len == 0) return true;
    o = json_loadb(line, len, 0, &e);
    if (!json_is_object(o)) {
        json_decref(o);
        return bad(r, "is no JSON object");
    }
    ok = take(r, o);
    json_decref(o);
    return ok;
}

int run_log_load(const char *path, run_log *r)
{
    FILE   *f = fopen(path, "r");
    char   *line = NULL;
    size_t  room = 0;
    ssize_t n;
    int     rc = CLI_OK;
    memset(r, 0, sizeof *r);
    snprintf(r->name, sizeof r->name, "%s", path);
    if (!f) return cli_fail("%s: %s", path, strerror(errno));
    while (rc == CLI_OK && (n = getline(&line, &room, f)) > 0) {
        bool whole = line[n - 1] == '\n';
        if (run_log_line(r, line, (size_t)(whole ? n - 1 : n))) continue;
        if (!whole && r->head) r->cut = true;
        else rc = cli_fail("%s: line %zu: %s", path, r->lines, r->error);
    }
    if (rc == CLI_OK && !feof(f))
        rc = cli_fail("%s: line %zu: %s", path, r->lines + 1, strerror(errno)); /* or no memory for it */
    if (rc == CLI_OK && !r->head) rc = cli_fail("%s: is empty: expected the log of taut train --log", path);
    fclose(f);
    free(line);
    return rc;
}

void run_log_free(run_log *r)
{
    json_decref(r->head);
    json_decref(r->end);
    for (int c = 0; c < RUN_COLUMNS; c++) free(r->column[c]);
    for (size_t i = 0; i < r->looks; i++) free(r->look[i].cell);
    for (size_t i = 0; i < r->codecs; i++) free(r->codec[i]);
    free(r->eval);
    free(r->layer);
    free(r->look);
    free(r->plan);
    free(r->codec);
    memset(r, 0, sizeof *r);
}

double run_mean(const run_log *r, run_column c, size_t first)
{
    double sum = 0;
    size_t n = 0;
    for (size_t i = first; i < r->steps; i++)
        if (isfinite(r->column[c][i])) sum += r->column[c][i], n++;
    return n ? sum / (double)n : NAN;
}

size_t run_settled(const run_log *r)
{
    enum { ENOUGH = 10 };
    size_t at = 0;
    double step = r->plans ? r->plan[r->plans - 1].step : 0;
    while (at < r->steps && r->column[RUN_STEP][at] <= step) at++;
    return r->steps - at >= ENOUGH ? at : r->steps / 2;
}
