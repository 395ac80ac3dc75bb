/* compare_report.c : table, curve as CSV and figure, JSON. */
#include "../json.h"
#include "compare.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_table(const compare *c)
{
    const compare_method *full = &c->m[c->methods - 1];
    printf("%s, budget %s: %llu of %llu samples a round, %lld rounds = %llu steps of %lld samples, %lld seed%s; shards "
           "of %.2f MB\n\n",
           c->model, c->budget, (unsigned long long)c->samples, (unsigned long long)c->of, (long long)c->rounds,
           (unsigned long long)c->steps, (long long)c->batch, (long long)c->seeds, c->seeds == 1 ? "" : "s",
           (double)c->shard_bytes / 1e6);
    printf("| method | samples a round | different | steps | %s | spread | loss_val | against full | choose s | train "
           "s | MB of shards | MB read | decoded per used |\n",
           c->text ? "loss" : "accuracy %");
    printf("|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < c->methods; i++) {
        const compare_method *m = &c->m[i];
        double                value = c->text ? m->loss : m->accuracy;
        printf("| %s | %llu | %llu | %llu | %.*f | %.2f | %.4f | %+.*f | %.3f | %.1f | %.2f | %.2f | %.2f |\n", m->name,
               (unsigned long long)m->samples, (unsigned long long)m->different, (unsigned long long)m->steps,
               c->text ? 4 : 2, value, m->accuracy_max - m->accuracy_min, m->loss, c->text ? 4 : 2,
               value - (c->text ? full->loss : full->accuracy), m->plan_s, m->train_s, (double)m->bytes / 1e6,
               m->read_bytes / 1e6, m->decoded_per_used);
    }
}

/* ---- curve ---- */

static double curve_at(const compare *c, const compare_method *m, uint64_t k)
{
    double sum = 0;
    for (int64_t s = 0; s < c->seeds; s++) sum += k < m->run[s].rounds ? m->run[s].curve[k] : 0;
    return sum / (double)c->seeds;
}

static uint64_t curve_points(const compare *c)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < c->methods; i++)
        for (int64_t s = 0; s < c->seeds; s++)
            if (c->m[i].run[s].rounds < least) least = c->m[i].run[s].rounds;
    return least;
}

static int write_csv(const compare *c, const char *path)
{
    FILE *f = fopen(path, "w");
    bool  bad;
    if (!f) return cli_fail("%s: %s", path, strerror(errno));
    fprintf(f, "round");
    for (size_t i = 0; i < c->methods; i++) fprintf(f, ",\"%s\"", c->m[i].name);
    fputc('\n', f);
    for (uint64_t k = 0; k < curve_points(c); k++) {
        fprintf(f, "%llu", (unsigned long long)k + 1);
        for (size_t i = 0; i < c->methods; i++) fprintf(f, ",%.6g", curve_at(c, &c->m[i], k));
        fputc('\n', f);
    }
    bad = ferror(f);
    bad = fclose(f) != 0 || bad;
    return bad ? cli_fail("%s: could not be written: %s", path, strerror(errno ? errno : EIO)) : CLI_OK;
}

static int draw(const compare *c, const char *csv)
{
    FILE *p = popen("gnuplot 2>/dev/null", "w");
    if (p) {
        fprintf(p,
                "set terminal svg size 720,440 background '#ffffff'\nset output '%s'\nset datafile separator ','\nset "
                "key bottom right\n",
                c->figure);
        fprintf(p, "set xlabel 'rounds of %llu samples'\nset ylabel '%s'\nset grid\n", (unsigned long long)c->samples,
                c->text ? "validation loss" : "validation accuracy, %");
        fprintf(p,
                "plot for [i=2:%zu] '%s' using 1:i with linespoints pointsize 0.5 linewidth 2 title columnheader(i)\n",
                c->methods + 1, csv);
    }
    if (!p || pclose(p) != 0) return cli_fail("--figure=%s: gnuplot is missing, or could not write it", c->figure);
    return CLI_OK;
}

static int draw_curves(const compare *c)
{
    char        path[96];
    const char *csv = c->csv;
    int         rc = CLI_OK;
    snprintf(path, sizeof path, "%s/curve.csv", c->folder);
    if (!csv) csv = path;
    if (c->csv || c->figure) rc = write_csv(c, csv);
    return rc == CLI_OK && c->figure ? draw(c, csv) : rc;
}

/* ---- JSON ---- */

static json_t *method_json(const compare *c, const compare_method *m)
{
    const compare_method *full = &c->m[c->methods - 1];
    json_t               *o = json_object(), *runs = json_array();
    jsn_text(o, "method", m->name);
    jsn_text(o, "rule", m->text);
    jsn_int(o, "samples", m->samples);
    jsn_int(o, "different", m->different);
    jsn_int(o, "steps", m->steps);
    jsn_int(o, "bytes", m->bytes);
    jsn_real(o, "accuracy", m->accuracy);
    jsn_real(o, "accuracy_min", m->accuracy_min);
    jsn_real(o, "accuracy_max", m->accuracy_max);
    jsn_real(o, "loss_val", m->loss);
    jsn_real(o, "against_full", c->text ? m->loss - full->loss : m->accuracy - full->accuracy);
    jsn_real(o, "plan_s", m->plan_s);
    jsn_real(o, "train_s", m->train_s);
    jsn_int(o, "read_bytes", (uint64_t)m->read_bytes);
    jsn_real(o, "decoded_per_used", m->decoded_per_used);
    for (int64_t k = 0; k < c->seeds; k++) {
        json_t *r = json_object();
        jsn_int(r, "seed", m->run[k].seed);
        jsn_real(r, "accuracy", m->run[k].accuracy);
        jsn_real(r, "loss_val", m->run[k].loss);
        json_array_append_new(runs, r);
    }
    json_object_set_new(o, "runs", runs);
    return o;
}

static void print_json(const compare *c)
{
    json_t *o = json_object(), *results = json_array();
    jsn_text(o, "model", c->model);
    jsn_text(o, "budget", c->budget);
    jsn_int(o, "samples", c->of);
    jsn_int(o, "rounds", (uint64_t)c->rounds);
    jsn_int(o, "steps", c->steps);
    jsn_int(o, "batch", (uint64_t)c->batch);
    jsn_int(o, "seeds", (uint64_t)c->seeds);
    jsn_int(o, "shard_bytes", c->shard_bytes);
    for (size_t i = 0; i < c->methods; i++) json_array_append_new(results, method_json(c, &c->m[i]));
    json_object_set_new(o, "results", results);
    jsn_print(o);
}

int compare_report(compare *c)
{
    int rc;
    print_table(c);
    rc = draw_curves(c);
    if (rc == CLI_OK && c->json) print_json(c);
    return rc;
}
