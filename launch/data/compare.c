/* compare.c : the methods, their plans, and the runs. */
#include "compare.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static taut_status open_shards(const compare *c, taut_shard **shard)
{
    for (int i = 0; i < c->shards; i++) {
        taut_status s = taut_shard_open(c->path[i], &shard[i]);
        if (s != TAUT_OK) return s;
    }
    return TAUT_OK;
}

static void close_shards(const compare *c, taut_shard **shard)
{
    for (int i = 0; i < c->shards; i++) taut_shard_close(shard[i]);
}

static void show_warning(void *ctx, const char *text)
{
    (void)ctx;
    cli_fail("warning: %s", text);
}

/* A plan of a set of its own: all of it. */
static int plan_distilled(compare *c, compare_method *m, uint64_t seed, const char *path)
{
    taut_data_plan_options o = TAUT_DATA_PLAN_INIT;
    taut_data_plan        *plan = NULL;
    taut_data_plan_info    info = {.size = sizeof info};
    taut_shard            *shard = NULL;
    taut_shard_info        si = {.size = sizeof si};
    taut_status            s = taut_shard_open(m->data, &shard);
    o.seed = seed, o.window = 0, o.rounds = c->steps * (uint64_t)c->batch;
    if (s == TAUT_OK) s = taut_data_plan_create("full", 1, (const taut_shard *const[]){shard}, &o, &plan);
    if (s == TAUT_OK) s = taut_data_plan_save(plan, path);
    if (s == TAUT_OK) s = taut_data_plan_get_info(plan, &info);
    if (s == TAUT_OK) s = taut_shard_get_info(shard, &si);
    taut_data_plan_destroy(plan);
    taut_shard_close(shard);
    if (s != TAUT_OK) return cli_status(s, "--distilled=%s", m->data);
    m->samples = m->different = info.samples;
    m->bytes = si.file_bytes;
    snprintf(m->text, sizeof m->text, "%.190s", m->data);
    return CLI_OK;
}

/* The plan of a method and seed in a file; there are rounds enough for all steps, whatever the method leaves. */
static int make_plan(compare *c, compare_method *m, uint64_t seed, const char *path, double *seconds)
{
    taut_shard            *shard[64] = {NULL};
    taut_data_plan_options o = TAUT_DATA_PLAN_INIT;
    taut_data_plan        *plan = NULL;
    taut_data_plan_info    info = {.size = sizeof info};
    taut_status            s = open_shards(c, shard);
    double                 begin = cli_now();
    bool                   full = strcmp(m->rule, "full") == 0;
    if (m->data) {
        close_shards(c, shard);
        *seconds = 0;
        return s == TAUT_OK ? plan_distilled(c, m, seed, path) : cli_status(s, "shard");
    }
    o.target = c->target, o.scores = c->scores, o.warn = show_warning;
    o.seed = seed;
    o.window = 0; /* the finest shuffle for all */
    o.budget = full ? NULL : c->budget;
    o.rounds = c->steps ? (m->steps ? m->steps : c->steps) * (uint64_t)c->batch : (uint64_t)c->rounds;
    if (s == TAUT_OK)
        s = taut_data_plan_create(m->rule, (size_t)c->shards, (const taut_shard *const *)shard, &o, &plan);
    if (s == TAUT_OK) s = taut_data_plan_save(plan, path);
    *seconds = cli_now() - begin;
    if (s == TAUT_OK) s = taut_data_plan_get_info(plan, &info);
    taut_data_plan_destroy(plan);
    close_shards(c, shard);
    m->bytes = c->shard_bytes;
    if (s != TAUT_OK) return s == TAUT_E_IO ? cli_status(s, "%s", m->rule) : cli_bad(s, "%s", m->rule);
    snprintf(m->text, sizeof m->text, "%.190s", info.rule);
    m->samples = info.samples;
    c->of = info.of;
    return CLI_OK;
}

uint64_t compare_rounds(const compare *c, const compare_method *m)
{
    return m->steps * (uint64_t)c->batch / m->samples + 1;
}

/* A plan that was made before: what it leaves does not depend on the run's seed. */
static int take_plan(const compare *c, compare_method *m)
{
    taut_data_plan     *plan = NULL;
    taut_data_plan_info info = {.size = sizeof info};
    taut_status         s = taut_data_plan_load(m->plan, &plan);
    if (s == TAUT_OK) s = taut_data_plan_get_info(plan, &info);
    taut_data_plan_destroy(plan);
    if (s != TAUT_OK) return cli_status(s, "--plan");
    snprintf(m->text, sizeof m->text, "%.190s", info.rule);
    m->samples = info.samples;
    m->bytes = c->shard_bytes;
    return CLI_OK;
}

/* How many different samples the steps see: of a plan, exactly, by going through it. */
static int count_different(const compare *c, compare_method *m, const char *plan)
{
    taut_loader_config cfg = TAUT_LOADER_INIT;
    taut_loader       *l;
    taut_batch         b = TAUT_BATCH_INIT;
    taut_field         f = TAUT_FIELD_INIT;
    uint8_t           *seen = calloc(c->of / 8 + 1, 1);
    taut_shard        *first = NULL;
    const char        *name[1] = {f.name};
    taut_status        s = seen ? taut_shard_open(c->path[0], &first) : TAUT_E_NOMEM;
    taut_shard_info    info = {.size = sizeof info};
    if (s == TAUT_OK) { /* the smallest field is enough to get the numbers */
        uint64_t least = UINT64_MAX;
        uint32_t smallest = 0;
        taut_shard_get_info(first, &info);
        for (uint32_t k = 0; k < info.fields; k++) {
            taut_field d = TAUT_FIELD_INIT;
            taut_shard_field(first, k, &d);
            if (d.stored_bytes < least) least = d.stored_bytes, smallest = k;
        }
        taut_shard_field(first, smallest, &f);
        taut_shard_close(first);
        cfg.shards = (const char *const *)c->path, cfg.nshards = (size_t)c->shards;
        cfg.plan = plan, cfg.batch = m->samples < (uint64_t)c->batch ? m->samples : (uint64_t)c->batch;
        if (m->plan) cfg.rounds = compare_rounds(c, m);
        cfg.fields = name, cfg.nfields = 1;
        s = taut_loader_open(&cfg, NULL, &l);
    }
    if (s != TAUT_OK) {
        free(seen);
        return s == TAUT_E_RANGE ? cli_bad(s, "%s", m->rule) : cli_status(s, "%s", m->rule);
    }
    m->different = 0;
    for (uint64_t t = 0; t < m->steps && (s = taut_loader_next(l, &b)) == TAUT_OK && !b.end; t++)
        for (uint64_t i = 0; i < b.n; i++) {
            uint8_t bit = (uint8_t)(1u << (b.id[i] % 8));
            m->different += !(seen[b.id[i] / 8] & bit);
            seen[b.id[i] / 8] |= bit;
        }
    taut_loader_close(l);
    free(seen);
    return s == TAUT_OK ? CLI_OK : cli_status(s, "%s", m->rule);
}

static void average(const compare *c, compare_method *m)
{
    double n = (double)c->seeds;
    m->accuracy_min = m->accuracy_max = m->run[0].accuracy;
    for (int64_t k = 0; k < c->seeds; k++) {
        const compare_run_result *r = &m->run[k];
        m->accuracy += r->accuracy / n, m->loss += r->loss / n;
        m->plan_s += r->plan_s / n, m->train_s += r->train_s / n;
        m->read_bytes += (double)r->read_bytes / n, m->decoded_per_used += r->decoded_per_used / n;
        if (r->accuracy < m->accuracy_min) m->accuracy_min = r->accuracy;
        if (r->accuracy > m->accuracy_max) m->accuracy_max = r->accuracy;
    }
}

static int run_method(compare *c, compare_method *m)
{
    char        path[96];
    const char *plan = m->plan ? m->plan : path;
    int         rc = CLI_OK;
    snprintf(path, sizeof path, "%s/P.plan", c->folder);
    m->run = calloc((size_t)c->seeds, sizeof *m->run);
    if (!m->run) return cli_fail("out of memory");
    for (int64_t k = 0; k < c->seeds && rc == CLI_OK; k++) {
        compare_run_result *r = &m->run[k];
        fprintf(stderr, "%s, seed %lld of %lld\n", m->name, (long long)k + 1, (long long)c->seeds);
        rc = m->plan ? take_plan(c, m) : make_plan(c, m, (uint64_t)k + 1, path, &r->plan_s);
        if (rc == CLI_OK && k == 0 && !m->data) rc = count_different(c, m, plan);
        if (rc == CLI_OK) rc = compare_train(c, m, plan, (uint64_t)k + 1, r);
    }
    if (rc == CLI_OK) average(c, m);
    return rc;
}

/* The budget's samples decide how many steps all methods take. */
static int find_steps(compare *c)
{
    compare_method probe = {.rule = "static"};
    char           path[96];
    double         seconds;
    int            rc;
    snprintf(path, sizeof path, "%s/P.plan", c->folder);
    if ((rc = make_plan(c, &probe, 1, path, &seconds)) != CLI_OK) return rc;
    c->samples = probe.samples;
    if ((uint64_t)c->batch > c->samples)
        return cli_usage("--batch=%lld: a round has %llu samples: must be 1..%llu", (long long)c->batch,
                         (unsigned long long)c->samples, (unsigned long long)c->samples);
    c->steps = (uint64_t)c->rounds * c->samples / (uint64_t)c->batch;
    for (size_t i = 0; i < c->methods; i++)
        c->m[i].steps = c->m[i].whole ? (uint64_t)c->rounds * c->of / (uint64_t)c->batch : c->steps;
    return CLI_OK;
}

static compare_method *add_method(compare *c, const char *rule, const char *what)
{
    compare_method *m = &c->m[c->methods++];
    m->rule = rule;
    snprintf(m->name, sizeof m->name, "%.90s", what);
    return m;
}

static void list_methods(compare *c)
{
    static const char *const usual[] = {"rs2", "static"};
    size_t                   n = c->method.n ? c->method.n : 2;
    if (c->whole) add_method(c, "full", "full, all rounds over all samples")->whole = true;
    for (size_t i = 0; i < n; i++)
        add_method(c, c->method.n ? c->method.item[i] : usual[i], c->method.n ? c->method.item[i] : usual[i]);
    for (size_t i = 0; i < c->plan.n; i++) add_method(c, "plan", c->plan.item[i])->plan = c->plan.item[i];
    for (size_t i = 0; i < c->distilled.n; i++)
        add_method(c, "full", c->distilled.item[i])->data = c->distilled.item[i];
    if (c->soft) add_method(c, "full", "static, soft labels")->data = c->soft_path;
    add_method(c, "full", "full, same steps and schedule");
}

static int shard_sizes(compare *c)
{
    for (int i = 0; i < c->shards; i++) {
        taut_shard     *s;
        taut_shard_info info = {.size = sizeof info};
        taut_status     st = taut_shard_open(c->path[i], &s);
        if (st != TAUT_OK) return cli_status(st, "shard");
        taut_shard_get_info(s, &info);
        c->shard_bytes += info.file_bytes;
        taut_shard_close(s);
    }
    return CLI_OK;
}

int compare_run(compare *c)
{
    char command[128];
    int  rc;
    if (c->method.n + c->plan.n + c->distilled.n > COMPARE_METHODS_MAX - 5)
        return cli_usage("--method, --plan, --distilled: given more than %d times", COMPARE_METHODS_MAX - 5);
    snprintf(c->folder, sizeof c->folder, "/tmp/taut-compare-XXXXXX");
    if (!mkdtemp(c->folder)) return cli_fail("%s: no folder for plans and logs", c->folder);
    snprintf(c->soft_path, sizeof c->soft_path, "%s/soft.taut", c->folder);
    list_methods(c);
    c->text = strcmp(c->model, "gpt") == 0;
    rc = shard_sizes(c);
    if (rc == CLI_OK) rc = find_steps(c);
    if (rc == CLI_OK && c->soft) rc = compare_soft(c);
    for (size_t i = 0; i < c->methods && rc == CLI_OK; i++) rc = run_method(c, &c->m[i]);
    if (rc == CLI_OK) rc = compare_report(c);
    snprintf(command, sizeof command, "rm -rf '%s'", c->folder);
    if (system(command) != 0) cli_fail("%s could not be removed", c->folder);
    for (size_t i = 0; i < c->methods; i++) {
        for (int64_t k = 0; c->m[i].run && k < c->seeds; k++) free(c->m[i].run[k].curve);
        free(c->m[i].run);
    }
    return rc;
}
