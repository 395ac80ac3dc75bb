/* plan_record.c : facts to a JSON file and back. Numbers have 17 digits, so a replay decides on the same bits. */
#include "plan.h"
#include "cli.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { RECORD_VERSION = 2 };
static const char FORMAT[] = "taut-statistics";

/* ---- save ---- */

static json_t *option_json(const taut__option *o)
{
    return json_pack("{s:s s:b s:f s:f s:f s:f s:f s:f s:f s:i s:f}", "codec", o->spec, "dense", o->dense, "error",
                     o->error, "dense_bytes", o->work.dense_bytes, "bytes", o->work.bytes, "sum_bytes",
                     o->work.sum_bytes, "encode_s", o->work.encode_s, "decode_s", o->work.decode_s, "rounds",
                     o->work.rounds, "vias", (int)o->work.vias, "agree", o->work.agree);
}

static json_t *layer_json(const taut__observations *o, const taut__offer *l)
{
    json_t *options = json_array();
    for (size_t i = 0; i < l->n; i++) json_array_append_new(options, option_json(&o->option[l->first + i]));
    return json_pack("{s:s s:I s:f s:o}", "name", l->name, "elements", (json_int_t)l->elems, "norm2", l->norm2,
                     "options", options);
}

int facts_save(const plan_facts *f, const char *path)
{
    json_t *layers = json_array(), *root;
    int     rc;
    for (size_t l = 0; l < f->o.layers; l++) json_array_append_new(layers, layer_json(&f->o, &f->o.layer[l]));
    root = json_pack("{s:s s:i s:s s:s s:s s:s s:i s:f s:f s:f s:f s:f s:o}", "format", FORMAT, "version",
                     RECORD_VERSION, "trace", f->source, "budget", f->budget, "metric", f->metric, "families",
                     f->families, "ranks", f->ranks, "budget2", f->budget2, "budget_l2", f->budget_l2, "norm2",
                     f->norm2, "fp16_error", f->fp16_error, "reference_bytes", f->reference_bytes, "layers", layers);
    if (!root) return cli_fail("%s: a name in the trace is not UTF-8", path);
    rc = json_dump_file(root, path, JSON_REAL_PRECISION(17) | JSON_INDENT(1));
    json_decref(root);
    return rc == 0 ? CLI_OK : cli_fail("%s: cannot be written: %s", path, strerror(errno));
}

/* ---- load ---- */

static double real(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static bool text(const json_t *o, const char *key, char *dst, size_t cap)
{
    const char *v = json_string_value(json_object_get(o, key));
    return v && snprintf(dst, cap, "%s", v) < (int)cap;
}

/* A whole number from 1 up to most; 0: it is another, or none. */
static int64_t whole(const json_t *o, const char *key, json_int_t most)
{
    const json_t *v = json_object_get(o, key);
    json_int_t    n = json_integer_value(v);
    return json_is_integer(v) && n >= 1 && n <= most ? n : 0;
}

static bool at_least_0(double v) { return v >= 0 && isfinite(v); }

static bool load_option(const json_t *item, taut__option *o)
{
    o->dense = json_is_true(json_object_get(item, "dense"));
    o->error = real(item, "error");
    o->work = (taut__work){real(item, "dense_bytes"),
                           real(item, "bytes"),
                           real(item, "sum_bytes"),
                           real(item, "encode_s"),
                           real(item, "decode_s"),
                           real(item, "rounds"),
                           (uint32_t)whole(item, "vias", (1 << TAUT_VIAS) - 1),
                           real(item, "agree")};
    return text(item, "codec", o->spec, sizeof o->spec) && o->work.vias > 0 && at_least_0(o->error) &&
           at_least_0(o->work.dense_bytes) && at_least_0(o->work.bytes) && at_least_0(o->work.sum_bytes) &&
           at_least_0(o->work.encode_s) && at_least_0(o->work.decode_s) && at_least_0(o->work.rounds) &&
           at_least_0(o->work.agree);
}

static bool load_layer(const json_t *item, taut__observations *o, taut__offer *l)
{
    const json_t *options = json_object_get(item, "options");
    l->first = o->options;
    l->n = json_array_size(options);
    l->norm2 = real(item, "norm2");
    l->elems = (size_t)whole(item, "elements", INT64_MAX / 4);
    for (size_t i = 0; i < l->n; i++)
        if (!load_option(json_array_get(options, i), &o->option[o->options++])) return false;
    return text(item, "name", l->name, sizeof l->name) && l->n > 0 && l->elems > 0 && at_least_0(l->norm2);
}

static int load_layers(const char *path, const json_t *root, plan_facts *f)
{
    const json_t *layers = json_object_get(root, "layers");
    size_t        options = 0;
    f->o.layers = json_array_size(layers);
    for (size_t l = 0; l < f->o.layers; l++)
        options += json_array_size(json_object_get(json_array_get(layers, l), "options"));
    if (options == 0) return cli_fail("%s: must have \"layers\" with \"options\"", path);
    f->o.layer = taut__alloc(f->o.layers, sizeof *f->o.layer);
    f->o.option = taut__alloc(options, sizeof *f->o.option);
    if (!f->o.layer || !f->o.option) return cli_fail("out of memory");
    for (size_t l = 0; l < f->o.layers; l++)
        if (!load_layer(json_array_get(layers, l), &f->o, &f->o.layer[l]))
            return cli_fail("%s: layer %zu: must have name, elements, norm2 and options, each with codec, vias, error "
                            "and work of 0 or more",
                            path, l);
    return CLI_OK;
}

static int load_root(const char *path, const json_t *root, plan_facts *f)
{
    char          format[32] = "";
    const json_t *version = json_object_get(root, "version");
    if (!text(root, "format", format, sizeof format) || strcmp(format, FORMAT) != 0)
        return cli_fail("%s: is not a record of `taut plan --record` (\"format\" must be \"%s\")", path, FORMAT);
    if (json_integer_value(version) != RECORD_VERSION)
        return cli_fail("%s: is of version %lld, this taut reads version %d: record it again", path,
                        (long long)json_integer_value(version), RECORD_VERSION);
    f->ranks = (int)whole(root, "ranks", PLAN_RANKS_MAX);
    f->budget2 = real(root, "budget2");
    f->budget_l2 = real(root, "budget_l2");
    f->norm2 = real(root, "norm2");
    f->fp16_error = real(root, "fp16_error");
    f->reference_bytes = real(root, "reference_bytes");
    const struct {
        const char *name;
        bool        good;
    } member[] = {{"trace", text(root, "trace", f->source, sizeof f->source)},
                  {"budget", text(root, "budget", f->budget, sizeof f->budget)},
                  {"metric", text(root, "metric", f->metric, sizeof f->metric)},
                  {"families", text(root, "families", f->families, sizeof f->families)},
                  {"ranks", f->ranks >= 1},
                  {"budget2", at_least_0(f->budget2)},
                  {"budget_l2", at_least_0(f->budget_l2)},
                  {"norm2", at_least_0(f->norm2)},
                  {"fp16_error", at_least_0(f->fp16_error)},
                  {"reference_bytes", at_least_0(f->reference_bytes)}};
    for (size_t i = 0; i < sizeof member / sizeof *member; i++)
        if (!member[i].good) return cli_fail("%s: \"%s\" is missing or out of range", path, member[i].name);
    return load_layers(path, root, f);
}

int facts_load(const char *path, plan_facts *f)
{
    json_error_t e;
    json_t      *root = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
    int          rc;
    *f = (plan_facts){0};
    if (!root) return jsn_bad(path, &e);
    rc = load_root(path, root, f);
    json_decref(root);
    return rc;
}
