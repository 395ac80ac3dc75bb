/* cmd_plan.c : `taut plan`: choose a codec per layer for recorded gradients, under one error budget. */
#include "cli.h"
#include "cmd.h"
#include "plan.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct args {
    const char   *trace, *files, *replay, *record;
    plan_request  request;
    plan_settings settings;
    int64_t       ranks, bins, seed;
    double        latency_us;
    bool          break_even, json;
} args;

static const double SHM_BITS = 40e9, SHM_LATENCY_S = 1e-6; /* MPI_Allreduce over shared memory, 16 MiB: 4.5-7.4 ms */

/* "1gbit", "100mbit", "2.5gbit", "shm" */
static int parse_link(const char *text, double *bits)
{
    char  *end;
    double factor;
    if (strcmp(text, "shm") == 0) {
        *bits = SHM_BITS;
        return CLI_OK;
    }
    *bits = strtod(text, &end);
    factor = strcmp(end, "gbit") == 0 ? 1e9 : strcmp(end, "mbit") == 0 ? 1e6 : strcmp(end, "kbit") == 0 ? 1e3 : 0;
    *bits *= factor;
    if (end != text && factor > 0 && *bits >= 1e3 && *bits <= 1e15) return CLI_OK; /* as taut__link_parse() has it */
    return cli_usage("--link %s: must be shm or a bandwidth as in 100mbit, 1gbit, 25gbit; 1kbit to 1000000gbit", text);
}

static int settle(args *a, const plan_facts *f)
{
    plan_settings *s = &a->settings;
    double         bits, latency = 1e-6 * a->latency_us;
    int            ranks = a->ranks ? (int)a->ranks : f->ranks, rc = parse_link(s->link, &bits);
    if (rc != CLI_OK) return rc;
    if (strcmp(s->link, "shm") == 0) latency = fmin(latency, SHM_LATENCY_S);
    s->demand.unsquared = strcmp(s->norm, "l2") == 0;
    s->demand.budget = s->demand.unsquared ? f->budget_l2 : f->budget2;
    s->demand.solver = s->solver;
    s->demand.bins = (uint32_t)a->bins;
    s->demand.tight = true;
    s->demand.link = taut__link_simple(ranks, bits, latency);
    return taut__objective_parse(s->objective, &s->demand.objective) == TAUT_OK ? CLI_OK
                                                                                : cli_usage("%s", taut_last_error());
}

static int observe(const args *a, plan_facts *f)
{
    trace t;
    int   rc = trace_load(a->trace, a->files, &t);
    if (rc == CLI_OK) {
        plan_request r = a->request;
        r.ranks = a->ranks ? (int)a->ranks : (int)t.ranks;
        rc = facts_measure(&t, &r, f);
    }
    snprintf(f->source, sizeof f->source, "%s", a->trace);
    trace_free(&t);
    return rc;
}

static int plan(args *a, plan_facts *f)
{
    taut__decision d = {0};
    json_t        *rows = a->json && a->break_even ? json_array() : NULL;
    int            rc = settle(a, f);
    d.option = taut__alloc(f->o.layers, sizeof *d.option);
    if (rc == CLI_OK && !d.option) rc = cli_fail("out of memory");
    if (rc == CLI_OK && taut__decide(&f->o, &a->settings.demand, &d) != TAUT_OK) rc = cli_fail("%s", taut_last_error());
    if (rc == CLI_OK) report_table(f, &a->settings, &d);
    if (rc == CLI_OK && a->break_even) rc = report_break_even(f, &a->settings, 1e-6 * a->latency_us, rows);
    if (rc == CLI_OK && a->json) {
        json_t *o = report_json(f, &a->settings, &d);
        if (rows) json_object_set(o, "break_even", rows);
        jsn_print(o);
    }
    json_decref(rows);
    taut__free(d.option);
    return rc;
}

static int run(args *a)
{
    plan_facts f = {0};
    int        rc;
    double     bits;
    if (!a->trace == !a->replay) return cli_usage("give --trace FILE.json or --replay FILE, one of them");
    if ((rc = parse_link(a->settings.link, &bits)) != CLI_OK) return rc; /* before the gradients, which take a while */
    char *input = (char *)(uintptr_t)(a->trace ? a->trace : a->replay);
    if (a->record && (rc = cli_writable("--record", a->record)) != CLI_OK) return rc;
    if (a->record && (rc = cli_apart("--record", a->record, 1, &input)) != CLI_OK) return rc;
    rc = a->replay ? facts_load(a->replay, &f) : observe(a, &f);
    if (rc == CLI_OK && a->record) rc = facts_save(&f, a->record);
    if (rc == CLI_OK) rc = plan(a, &f);
    facts_free(&f);
    return rc;
}

int cmd_plan(int argc, char **argv)
{
    args             a = {.request = {.budget = "like:quant:bits=4", .metric = "layer", .families = "all"},
                          .settings = {.solver = "hull", .norm = "squared", .objective = "time", .link = "1gbit"},
                          .seed = 1,
                          .latency_us = 30};
    const cli_option options[] = {
        {"trace", "FILE", CLI_TEXT, &a.trace, "gradients to plan for: a JSON file that names layers and files", 0, 0,
         NULL},
        {"files", "TEXT", CLI_TEXT, &a.files, "only the trace's files whose name contains this, as in step20-", 0, 0,
         NULL},
        {"budget", "BUDGET", CLI_TEXT, &a.request.budget,
         "rel=X with 0 < X < 1, or like:SPEC: as much error as that makes", 0, 0, NULL},
        {"metric", "WORD", CLI_WORD, &a.request.metric,
         "how errors are weighted; optimizer needs a scale, which traces do not have", 0, 0, "plain|layer|optimizer"},
        {"objective", "WORD", CLI_WORD, &a.settings.objective, "what the plan minimises", 0, 0, "time|bytes"},
        {"families", "LIST", CLI_TEXT, &a.request.families,
         "codecs to choose from: half,quant,topk,powersgd,grid or all", 0, 0, NULL},
        {"link", "SPEED", CLI_TEXT, &a.settings.link, "between ranks: shm, or a bandwidth as in 100mbit, 1gbit", 0, 0,
         NULL},
        {"latency-us", "N", CLI_REAL, &a.latency_us, "microseconds per message", 0, 1e6, NULL},
        {"ranks", "N", CLI_INT, &a.ranks, "ranks to predict for; 0: as many as the trace has", 0, PLAN_RANKS_MAX, NULL},
        {"solver", "WORD", CLI_WORD, &a.settings.solver, "hull: Lagrangian; dp: L-GreCo's; exhaustive: tiny problems",
         0, 0, "hull|dp|exhaustive"},
        {"bins", "N", CLI_INT, &a.bins, "dp: bins of error; 0: 10000", 0, 1000000, NULL},
        {"norm", "WORD", CLI_WORD, &a.settings.norm, "errors of layers add as squares, or as norms (L-GreCo)", 0, 0,
         "squared|l2"},
        {"seed", "N", CLI_INT, &a.seed, "of stochastic rounding in the first file; one more in each further one", 0,
         9007199254740992.0, NULL},
        {"break-even", NULL, CLI_FLAG, &a.break_even, "print for which bandwidth and size each choice wins", 0, 0,
         NULL},
        {"record", "FILE", CLI_TEXT, &a.record, "write what was measured", 0, 0, NULL},
        {"replay", "FILE", CLI_TEXT, &a.replay, "plan from such a file; the same plan bit for bit", 0, 0, NULL},
        CLI_JSON(&a.json),
        CLI_END};
    const cli_command command = {
        "taut plan",
        "",
        "choose a codec per layer for recorded gradients",
        "Every candidate is encoded for real on every file of the trace; errors are summed over the files.\n"
        "rel_err2 is relative to the squared norm of the sum over ranks, in the metric. bytes: one rank's encodings.\n"
        "--budget, --metric and --families are part of a record: with --replay they are those it was made with.\n"
        "Example: taut plan --trace gpt.json --files step400- --objective bytes --metric plain --budget "
        "like:quant:bits=4\n",
        options,
        0,
        0};
    int operands, rc = cli_parse(&command, argc, argv, &operands);
    if (rc != CLI_RUN) return rc;
    a.request.seed = (uint64_t)a.seed;
    return run(&a);
}
