/* cmd_data_plan.c : `taut data plan`: which samples of which shards a job trains on, as a small text. */
#include "cli.h"
#include "cmd_data.h"
#include "../comm/taut_data.h"
#include "data/group.h"
#include "json.h"
#include <inttypes.h>
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
    cli_progress line;
    json_t      *stages, *warnings;
    double       seconds; /* to make it */
} job;

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

/* ---- what the methods tell ---- */

static int show_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    job *j = ctx;
    cli_progress_show(&j->line, "%s %" PRIu64 "%%", what, total ? 100 * done / total : 0);
    return 0;
}

static void show_warning(void *ctx, const char *text)
{
    job *j = ctx;
    cli_progress_end(&j->line);
    cli_fail("warning: %s", text);
    json_array_append_new(j->warnings, json_string(text));
}

static void note_stage(void *ctx, const taut_data_stage_report *r)
{
    job    *j = ctx;
    json_t *o = json_object();
    cli_progress_end(&j->line);
    printf("%.*s: %" PRIu64 " of %" PRIu64, (int)strcspn(r->stage, ":"), r->stage, r->keep, r->of);
    if (r->criterion) printf("; %s: %.4g, random %.4g", r->criterion, r->chosen, r->random);
    printf("\n");
    jsn_text(o, "stage", r->stage);
    jsn_int(o, "of", r->of);
    jsn_int(o, "keep", r->keep);
    if (r->criterion) {
        jsn_text(o, "criterion", r->criterion);
        jsn_real(o, "chosen", r->chosen);
        jsn_real(o, "random", r->random);
    }
    json_array_append_new(j->stages, o);
}

static int report(const job *j, taut_data_plan *plan)
{
    taut_data_plan_info i = {.size = sizeof i};
    char                hash[24];
    taut_status         s = taut_data_plan_get_info(plan, &i);
    if (s != TAUT_OK) return cli_status(s, "%s", j->out);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)i.hash);
    printf("%s: %s; %llu samples a round, %llu round%s, seed %llu, hash %s\n", j->out, i.rule,
           (unsigned long long)i.samples, (unsigned long long)i.rounds, i.rounds == 1 ? "" : "s",
           (unsigned long long)i.seed, hash);
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
        jsn_int(o, "ranks", j->o.group ? j->o.group->ranks : 1);
        jsn_real(o, "seconds", j->seconds);
        json_object_set(o, "stages", j->stages);
        json_object_set(o, "warnings", j->warnings);
        jsn_print(o);
    }
    return CLI_OK;
}

/* The lowest status of all ranks, with its text. */
static taut_status agree(const job *j, taut_status s)
{
    char text[512] = "";
    if (!j->o.group) return s;
    if (s != TAUT_OK) snprintf(text, sizeof text, "%s", taut_last_error());
    taut_status all = j->o.group->agree(j->o.group->ctx, s, text, sizeof text);
    if (all != TAUT_OK && s == TAUT_OK) cli_fail("another rank: %s", text);
    return all;
}

static taut_status open_shards(job *j)
{
    taut_status s = TAUT_OK;
    for (int k = 0; k < j->shards && s == TAUT_OK; k++) s = taut_shard_open(j->path[k], &j->shard[k]);
    return s;
}

/* Every rank has the same plan? Different files under one name, or different machines, would show here. */
static int same_plan(const job *j, uint64_t hash)
{
    uint64_t all[4096] = {0};
    size_t   bytes[4096] = {0};
    uint32_t ranks = j->o.group ? j->o.group->ranks : 1;
    if (ranks == 1 || ranks > 4096) return CLI_OK;
    for (uint32_t r = 0; r < ranks; r++) bytes[r] = sizeof hash;
    if (j->o.group->gather(j->o.group->ctx, &hash, all, bytes) != TAUT_OK)
        return cli_fail("the ranks could not compare their plans");
    for (uint32_t r = 1; r < ranks; r++)
        if (all[r] != all[0])
            return cli_fail("rank %u made another plan than rank 0: do all ranks read the same files?", r);
    return CLI_OK;
}

/* Nothing that is read is written over, and what takes hours can be kept: rank 0 looks, which writes. */
static int check_out(const job *j)
{
    char *const also[] = {(char *)(uintptr_t)j->o.target, (char *)(uintptr_t)j->o.scores};
    bool        first = !j->o.group || j->o.group->rank == 0;
    int         rc = first ? cli_replaceable("-o", j->out) : CLI_OK;
    if (first && rc == CLI_OK) rc = cli_apart("-o", j->out, (size_t)j->shards, j->path);
    for (int k = 0; first && k < 2 && rc == CLI_OK; k++)
        if (also[k]) rc = cli_apart("-o", j->out, 1, &also[k]);
    if (j->o.group && agree(j, rc == CLI_OK ? TAUT_OK : TAUT_E_IO) != TAUT_OK && rc == CLI_OK) rc = CLI_FAILED;
    return rc;
}

static bool wrong_usage(taut_status s) { return s == TAUT_E_INVALID || s == TAUT_E_RANGE || s == TAUT_E_UNSUPPORTED; }

static int make(job *j)
{
    taut_data_plan     *plan = NULL;
    taut_data_plan_info i = {.size = sizeof i};
    taut_status         s;
    double              begin = cli_now();
    bool                first = !j->o.group || j->o.group->rank == 0;
    int                 rc = check_out(j);
    if (rc != CLI_OK) return rc;
    j->shard = calloc((size_t)j->shards, sizeof *j->shard);
    if (!j->shard) return cli_fail("out of memory");
    if ((s = agree(j, open_shards(j))) != TAUT_OK) return cli_status(s, "shard");
    s = taut_data_plan_create(j->rule, (size_t)j->shards, (const taut_shard *const *)j->shard, &j->o, &plan);
    cli_progress_end(&j->line);
    if ((s = agree(j, s)) != TAUT_OK) rc = wrong_usage(s) ? cli_bad(s, "%s", j->rule) : cli_status(s, "%s", j->rule);
    j->seconds = cli_now() - begin;
    if (rc == CLI_OK && (s = taut_data_plan_get_info(plan, &i)) != TAUT_OK) rc = cli_status(s, "%s", j->rule);
    if (rc == CLI_OK) rc = same_plan(j, i.hash);
    if (rc == CLI_OK) rc = check_strata(j, i.strata);
    if (rc == CLI_OK && first && (s = taut_data_plan_save(plan, j->out)) != TAUT_OK) rc = cli_status(s, "cannot write");
    if (rc == CLI_OK && first) rc = report(j, plan);
    taut_data_plan_destroy(plan);
    return rc;
}

static void write_methods(char *dst, size_t cap)
{
    size_t at = 0;
    for (size_t i = 0; taut_data_method_name(i) && at < cap; i++)
        at += (size_t)snprintf(dst + at, cap - at, "  %-26s %s\n", taut_data_method_name(i), taut_data_method_help(i));
}

int cmd_data_plan(int argc, char **argv)
{
    static const char *const start =
        "METHOD: one of these, or several joined by |, each choosing from what the one before left:\n"
        "  full                       all samples\n"
        "  static:budget=10%          a random subset, the same in every round\n"
        "  rs2:budget=10%             another random subset in every round (also replace=yes, strata=FIELD)\n"
        "  mix:shares=2:1             so much of each shard, or with field=FIELD of each class, in every round\n"
        "  list:file=IDS              numbers or ranges, each with an optional =WEIGHT, as in 0-99 250=0.5\n";
    static const char *const end =
        "These look at the samples; under mpirun each rank does at a part, for the same plan. docs/data-selection.md "
        "has their settings.\n"
        "The plan holds the shards' hashes: with other shards it is refused.\n"
        "--json: plan rule shards of samples rounds seed window strata hash ranks seconds warnings stages[]: stage of "
        "keep criterion chosen\n"
        "random (what the method looks at, of the samples that it chose and of as many random ones)\n\n"
        "  taut data plan rs2 mnist.taut -o P.plan --budget 10% --rounds 20\n"
        "  mpirun -n 4 taut data plan 'dedup|prior|dsir:budget=10%|rs2:budget=20%' web-*.taut -o P.plan --target "
        "wanted.txt\n";
    char             methods[4096], details[8192];
    job              j = {.o = TAUT_DATA_PLAN_INIT, .window = -1};
    const cli_option options[] = {
        {"o", "P.plan", CLI_TEXT, &j.out, "the plan to write (required)", 0, 0, NULL},
        {"budget", "SHARE", CLI_TEXT, &j.o.budget,
         "10%, or a number of samples, for the methods that take one; a stage's own wins", 0, 0, NULL},
        {"target", "FILE", CLI_TEXT, &j.o.target,
         "samples like those wanted: a shard *.taut, or a text, cut into windows of 1 KiB", 0, 0, NULL},
        {"scores", "FILE", CLI_TEXT, &j.o.scores, "of `taut train --score FILE`", 0, 0, NULL},
        {"field", "NAME", CLI_TEXT, &j.o.field, "that methods look at [the first that fits]", 0, 0, NULL},
        {"strata", "FIELD", CLI_TEXT, &j.o.strata,
         "of static and rs2: every class of this integer field gets its share", 0, 0, NULL},
        {"replace", NULL, CLI_FLAG, &j.replace, "of rs2: every round draws from all; else a pass has no sample twice",
         0, 0, NULL},
        {"rounds", "N", CLI_SIZE, &j.o.rounds, "visits of what the rule leaves", 1, 1e15, NULL},
        {"seed", "N", CLI_SIZE, &j.o.seed, "of every choice and order", 0, 9e15, NULL},
        {"window", "BLOCKS", CLI_INT, &j.window,
         "shuffle so many blocks together, so that each is read once a round; 0: shuffle all samples; "
         "-1: 64 for full, else 0",
         -1, 1e9, NULL},
        CLI_JSON(&j.json),
        CLI_END,
    };
    const cli_command cmd = {
        "taut data plan", "METHOD SHARD.taut...", "choose the samples of a job", details, options, 2, 1 << 20};
    int rc;
    write_methods(methods, sizeof methods);
    snprintf(details, sizeof details, "%s%s%s", start, methods, end);
    j.o.group = group_start();
    rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc == CLI_RUN && !j.out) rc = cli_usage("-o P.plan is missing");
    if (rc == CLI_RUN) {
        j.rule = argv[0], j.path = argv + 1, j.shards = argc - 1;
        j.o.replace = j.replace;
        j.o.window = j.window >= 0 ? (uint64_t)j.window : strcmp(j.rule, "full") == 0 ? 64 : 0;
        j.o.progress = show_progress, j.o.warn = show_warning, j.o.stage = note_stage;
        j.o.progress_ctx = j.o.warn_ctx = j.o.stage_ctx = &j;
        j.stages = json_array(), j.warnings = json_array();
        rc = make(&j);
        for (int k = 0; j.shard && k < j.shards; k++) taut_shard_close(j.shard[k]);
        free(j.shard);
        json_decref(j.stages);
        json_decref(j.warnings);
    }
    group_end();
    return rc;
}
