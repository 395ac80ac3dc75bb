/* cmd_data_plan.c : `taut data plan`: which samples of which shards a job trains on, as a small text. */
#include "cli.h"
#include "cmd_data.h"
#include "../comm/taut_data.h"
#include "json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    const char            *rule, *out;
    char                 **path; /* shards */
    int                    shards;
    taut_data_plan_options o;
    int64_t                window; /* -1: by rule */
    bool                   replace, json;

    taut_shard **shard;
} job;

static bool chooses(const char *rule, const char *word) { return strstr(rule, word) != NULL; }

/* The strata's field is there, in all shards? The plan is not to fail only when it is used. */
static int check_strata(const job *j, const char *field)
{
    for (int i = 0; i < j->shards && *field; i++) {
        taut_shard_info info = {.size = sizeof info};
        char            names[400] = "";
        if (taut_shard_find(j->shard[i], field) >= 0) continue;
        taut_shard_get_info(j->shard[i], &info);
        for (uint32_t f = 0; f < info.fields; f++) {
            taut_field d = TAUT_FIELD_INIT;
            size_t     at = strlen(names);
            taut_shard_field(j->shard[i], f, &d);
            snprintf(names + at, sizeof names - at, "%s%s", f ? ", " : "", d.name);
        }
        return cli_fail("%s: no field '%s' for the strata; its fields: %s", j->path[i], field, names);
    }
    return CLI_OK;
}

static int report(const job *j, taut_data_plan *plan)
{
    taut_data_plan_info i = {.size = sizeof i};
    char                hash[24];
    taut_status         s = taut_data_plan_get_info(plan, &i);
    if (s != TAUT_OK) return cli_status(s, "%s", j->out);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)i.hash);
    printf("%s: %s; %llu samples a round, %llu round%s, seed %llu, hash %s\n", j->out, i.rule, (unsigned long long)i.samples,
           (unsigned long long)i.rounds, i.rounds == 1 ? "" : "s", (unsigned long long)i.seed, hash);
    if (j->json) {
        json_t *o = json_object();
        jsn_text(o, "plan", j->out);
        jsn_text(o, "rule", i.rule);
        jsn_int(o, "shards", i.shards);
        jsn_int(o, "of", i.of);
        jsn_int(o, "samples", i.samples);
        jsn_int(o, "rounds", i.rounds);
        jsn_int(o, "seed", i.seed);
        jsn_int(o, "window", i.window);
        jsn_text(o, "strata", i.strata);
        jsn_text(o, "hash", hash);
        jsn_print(o);
    }
    return CLI_OK;
}

static int make(job *j)
{
    taut_data_plan     *plan = NULL;
    taut_data_plan_info i = {.size = sizeof i};
    taut_status         s;
    int                 rc = CLI_OK;
    j->shard = calloc((size_t)j->shards, sizeof *j->shard);
    if (!j->shard) return cli_fail("out of memory");
    for (int k = 0; k < j->shards; k++)
        if ((s = taut_shard_open(j->path[k], &j->shard[k])) != TAUT_OK) return cli_status(s, "shard");
    s = taut_data_plan_create(j->rule, (size_t)j->shards, (const taut_shard *const *)j->shard, &j->o, &plan);
    if (s != TAUT_OK) return s == TAUT_E_IO || s == TAUT_E_NOMEM ? cli_status(s, "%s", j->rule) : cli_bad(s, "%s", j->rule);
    if ((s = taut_data_plan_get_info(plan, &i)) != TAUT_OK) rc = cli_status(s, "%s", j->rule);
    if (rc == CLI_OK) rc = check_strata(j, i.strata);
    if (rc == CLI_OK && (s = taut_data_plan_save(plan, j->out)) != TAUT_OK) rc = cli_status(s, "cannot write");
    if (rc == CLI_OK) rc = report(j, plan);
    taut_data_plan_destroy(plan);
    return rc;
}

int cmd_data_plan(int argc, char **argv)
{
    job              j = {.o = TAUT_DATA_PLAN_INIT, .window = -1};
    const cli_option options[] = {
        {"o", "P.plan", CLI_TEXT, &j.out, "the plan to write (required)", 0, 0, NULL},
        {"budget", "SHARE", CLI_TEXT, &j.o.budget, "of static and rs2: 10%, or a number of samples; a stage's own wins", 0, 0, NULL},
        {"strata", "FIELD", CLI_TEXT, &j.o.strata, "of static and rs2: every class of this integer field gets its share", 0, 0, NULL},
        {"replace", NULL, CLI_FLAG, &j.replace, "of rs2: every round draws from all; else a pass has no sample twice", 0, 0, NULL},
        {"rounds", "N", CLI_SIZE, &j.o.rounds, "visits of what the rule leaves", 1, 1e15, NULL},
        {"seed", "N", CLI_SIZE, &j.o.seed, "of every choice and order", 0, 9e15, NULL},
        {"window", "BLOCKS", CLI_INT, &j.window, "shuffle so many blocks together, so that each is read once a round; 0: shuffle all samples; "
                                                 "-1: 64 for full, else 0", -1, 1e9, NULL},
        CLI_JSON(&j.json),
        CLI_END,
    };
    const cli_command cmd = {
        "taut data plan", "METHOD SHARD.taut...", "choose the samples of a job",
        "METHOD: full | static | rs2 | list:file=PATH, or several joined by |, each choosing from what the one before left:\n"
        "  full                       all samples\n"
        "  static:budget=10%          a random subset, the same in every round\n"
        "  rs2:budget=10%             another random subset in every round (also replace=yes, strata=FIELD)\n"
        "  list:file=IDS              numbers or ranges, each with an optional =WEIGHT, as in 0-99 250=0.5\n"
        "The plan holds the shards' hashes: with other shards it is refused. docs/data.md has its text.\n"
        "--json: plan rule shards of samples rounds seed window strata hash\n\n"
        "  taut data plan rs2 mnist.taut -o P.plan --budget 10% --rounds 20\n"
        "  taut data plan 'static:budget=50%|rs2:budget=20%' a.taut b.taut -o P.plan\n",
        options, 2, 1 << 20};
    int rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc != CLI_RUN) return rc;
    if (!j.out) return cli_usage("-o P.plan is missing");
    j.rule = argv[0];
    j.path = argv + 1;
    j.shards = argc - 1;
    j.o.replace = j.replace;
    j.o.window = j.window >= 0 ? (uint64_t)j.window : chooses(j.rule, "static") || chooses(j.rule, "rs2") ? 0 : 64;
    rc = make(&j);
    for (int k = 0; j.shard && k < j.shards; k++) taut_shard_close(j.shard[k]);
    free(j.shard);
    return rc;
}
