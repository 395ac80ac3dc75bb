/* plan_trace.c : loads a trace (DESIGN.md section 3): a JSON file that names layers, and files of float32. */
#include "plan.h"
#include "cli.h"
#include "floats.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int load_layer(const char *path, const json_t *item, size_t i, size_t end, trace_layer *l)
{
    const json_t *shape = json_object_get(item, "shape"), *offset = json_object_get(item, "offset");
    l->name = json_string_value(json_object_get(item, "name"));
    l->ndim = (int)json_array_size(shape);
    l->elems = 1;
    if (!l->name || strlen(l->name) >= TAUT_LAYER_NAME || !json_is_array(shape) || l->ndim > TRACE_NDIM ||
        !json_is_integer(offset))
        return cli_fail("%s: layer %zu: must have name, shape (at most %d extents) and offset", path, i, TRACE_NDIM);
    for (int d = 0; d < l->ndim; d++) {
        const json_t *number = json_array_get(shape, (size_t)d);
        json_int_t    extent = json_integer_value(number);
        if (!json_is_integer(number))
            return cli_fail("%s: layer %s: shape[%d]: must be a whole number", path, l->name, d);
        if (extent < 1)
            return cli_fail("%s: layer %s: shape[%d] is %lld: must be at least 1", path, l->name, d, (long long)extent);
        if (!taut__mul_ok(l->elems, (size_t)extent, &l->elems))
            return cli_fail("%s: layer %s: shape[%d] is %lld: too many elements for memory", path, l->name, d,
                            (long long)extent);
        l->shape[d] = (size_t)extent;
    }
    if (json_integer_value(offset) < 0 || (size_t)json_integer_value(offset) != end)
        return cli_fail("%s: layer %s: offset %lld: must be %zu, where the layer before ends", path, l->name,
                        (long long)json_integer_value(offset), end);
    l->offset = end;
    return CLI_OK;
}

static int load_layers(const char *path, trace *t)
{
    const json_t *layers = json_object_get(t->json, "layers");
    size_t        end = 0;
    int           rc = CLI_OK;
    json_int_t    floats = json_integer_value(json_object_get(t->json, "floats"));
    t->layers = json_array_size(layers);
    if (floats < 1 || t->layers < 1) return cli_fail("%s: must have \"floats\" (at least 1) and \"layers\"", path);
    t->floats = (size_t)floats;
    if (!(t->layer = taut__alloc(t->layers, sizeof *t->layer))) return cli_fail("out of memory");
    for (size_t i = 0; i < t->layers && rc == CLI_OK; i++) {
        rc = load_layer(path, json_array_get(layers, i), i, end, &t->layer[i]);
        if (rc == CLI_OK && t->layer[i].elems > t->floats - end)
            return cli_fail("%s: layer %s: has %zu floats from %zu on, \"floats\" says %zu", path, t->layer[i].name,
                            t->layer[i].elems, end, t->floats);
        end += t->layer[i].elems;
    }
    if (rc == CLI_OK && end != t->floats)
        return cli_fail("%s: the layers have %zu floats together, \"floats\" says %zu", path, end, t->floats);
    return rc;
}

/* The name without the digits after "rank": the same for all ranks of a step. */
static void step_name(const char *name, char *dst, size_t cap)
{
    const char *rank = strstr(name, "rank");
    size_t      head = rank ? (size_t)(rank - name) + 4 : strlen(name);
    snprintf(dst, cap, "%.*s%s", (int)head, name, rank ? rank + 4 + strspn(rank + 4, "0123456789") : "");
}

static void group_file(trace *t, const char **names, size_t i, const char *name, size_t *count)
{
    char mine[256], other[256];
    names[i] = name;
    step_name(name, mine, sizeof mine);
    t->step[i] = t->steps;
    for (size_t k = 0; k < i; k++) {
        step_name(names[k], other, sizeof other);
        if (strcmp(mine, other) == 0) t->step[i] = t->step[k];
    }
    if (t->step[i] == t->steps) t->steps++;
    t->ranks = taut__max(t->ranks, ++count[t->step[i]]);
}

static int load_file(const char *path, const char *name, const trace *t, float **x)
{
    char        full[4096];
    const char *slash = strrchr(path, '/');
    size_t      n;
    int         rc;
    snprintf(full, sizeof full, "%.*s%s", slash && name[0] != '/' ? (int)(slash - path) + 1 : 0, path, name);
    rc = floats_read(full, x, &n);
    if (rc != CLI_OK) return rc;
    if (n == t->floats) return CLI_OK;
    return cli_fail("%s: has %zu floats, %s says %zu", full, n, path, t->floats);
}

static int load_files(const char *path, const char *wanted, trace *t)
{
    const json_t *files = json_object_get(t->json, "files");
    size_t        n = json_array_size(files);
    const char  **names = taut__alloc(n + 1, sizeof *names);
    size_t       *count = taut__alloc(n + 1, sizeof *count);
    int           rc = CLI_OK;
    t->file = taut__alloc(n + 1, sizeof *t->file);
    t->step = taut__alloc(n + 1, sizeof *t->step);
    if (!names || !count || !t->file || !t->step) rc = cli_fail("out of memory");
    for (size_t i = 0; i < n && rc == CLI_OK; i++) {
        const char *name = json_string_value(json_array_get(files, i));
        if (!name) rc = cli_fail("%s: files[%zu]: must be a name", path, i);
        if (rc != CLI_OK || (wanted && !strstr(name, wanted))) continue;
        rc = load_file(path, name, t, &t->file[t->files]);
        if (rc == CLI_OK) group_file(t, names, t->files++, name, count);
    }
    if (rc == CLI_OK && t->files == 0 && wanted)
        rc = cli_fail("%s: none of its %zu files contains '%s'", path, n, wanted);
    else if (rc == CLI_OK && t->files == 0) rc = cli_fail("%s: \"files\" must name at least one file", path);
    if (rc == CLI_OK && !(t->sum = taut__alloc(t->floats, sizeof *t->sum))) rc = cli_fail("out of memory");
    taut__free(names);
    taut__free(count);
    return rc;
}

int trace_load(const char *path, const char *wanted, trace *t)
{
    json_error_t e;
    int          rc;
    *t = (trace){0};
    t->json = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
    if (!t->json) return jsn_bad(path, &e);
    rc = load_layers(path, t);
    return rc == CLI_OK ? load_files(path, wanted, t) : rc;
}

void trace_free(trace *t)
{
    for (size_t i = 0; i < t->files; i++) free(t->file[i]);
    taut__free(t->file);
    taut__free(t->step);
    taut__free(t->sum);
    taut__free(t->layer);
    json_decref(t->json);
}
