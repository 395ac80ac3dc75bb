/* repeats_report.c : see repeats_report.h. */
#include "repeats_report.h"
#include "../cli.h"
#include "../json.h"
#include <stdio.h>
#include <stdlib.h>

static int progress(void *ctx, uint64_t done, uint64_t total)
{
    cli_progress_show(ctx, "repeats: %llu of %llu samples", (unsigned long long)done, (unsigned long long)total);
    return 0;
}

static double percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

static void print_text(const taut__repeats *r, const taut__repeats_config *c)
{
    printf("repeats in field %s: %llu samples, %.0f %s\n", r->field, (unsigned long long)r->samples, r->units, r->unit);
    printf("  exact copies     %12llu samples, %.2f%% of the %s\n", (unsigned long long)r->exact,
           percent(r->units - r->unique_exact, r->units), r->unit);
    if (r->near)
        printf("  near copies      %12llu samples more, %.2f%% of the %s (%u-grams, Jaccard of %g or more, verified)\n",
               (unsigned long long)r->near_more, percent(r->unique_exact - r->unique, r->units), r->unit, c->ngram,
               c->jaccard);
    printf("  unique U         %12.0f %s\n", r->unique, r->unit);
    printf("  repeats R        %12.4f  in %g pass%s over everything\n", r->repeats, c->epochs,
           c->epochs == 1 ? "" : "es");
    printf("  effective D'     %12.0f %s = U + U*R*(1-exp(-R/R*)), R* = %g (Muennighoff et al. 2023); %.0f summed over "
           "groups of copies\n",
           r->effective, r->unit, TAUT__REPEATS_STAR, r->effective_groups);
    if (r->most > 1)
        printf("  most often       %12llu times: sample %llu\n", (unsigned long long)r->most,
               (unsigned long long)r->most_first);
    if (r->warn)
        printf("warning: %.3g%% of the unique %s are repeated %.0f times on average and make up %.3g%% of all: a small "
               "part repeated often harms more than its size "
               "(Hernandez et al. 2022); `taut data plan dedup` leaves copies out\n",
               100 * r->often_unique, r->unit, r->often_copies, 100 * r->often_all);
}

static void print_json(const taut__repeats *r, const taut__repeats_config *c, size_t shards)
{
    json_t *o = json_object();
    jsn_int(o, "shards", shards);
    jsn_text(o, "field", r->field);
    jsn_text(o, "unit", r->unit);
    jsn_int(o, "samples", r->samples);
    jsn_real(o, "units", r->units);
    jsn_int(o, "exact_duplicates", r->exact);
    jsn_bool(o, "near", r->near);
    jsn_int(o, "near_duplicates", r->near_more);
    jsn_int(o, "groups", r->groups);
    jsn_real(o, "unique_exact", r->unique_exact);
    jsn_real(o, "unique", r->unique);
    jsn_real(o, "epochs", c->epochs);
    jsn_real(o, "repeats", r->repeats);
    jsn_real(o, "effective", r->effective);
    jsn_real(o, "effective_groups", r->effective_groups);
    jsn_int(o, "most", r->most);
    jsn_int(o, "most_first", r->most_first);
    jsn_int(o, "often_groups", r->often_groups);
    jsn_real(o, "often_unique", r->often_unique);
    jsn_real(o, "often_all", r->often_all);
    jsn_real(o, "often_copies", r->often_copies);
    jsn_bool(o, "warning", r->warn);
    jsn_print(o);
}

int repeats_report(size_t n, char **path, taut__repeats_config *c, bool json)
{
    taut_shard  **shard = calloc(n, sizeof *shard);
    taut__repeats r;
    cli_progress  line = {0};
    taut_status   s = shard ? TAUT_OK : TAUT_E_NOMEM;
    c->progress = progress;
    c->ctx = &line;
    for (size_t i = 0; i < n && s == TAUT_OK; i++) s = taut_shard_open(path[i], &shard[i]);
    if (s == TAUT_OK) s = taut__repeats_audit(n, (const taut_shard *const *)shard, c, &r);
    c->progress = NULL, c->ctx = NULL;
    cli_progress_end(&line);
    if (s == TAUT_OK) print_text(&r, c);
    if (s == TAUT_OK && json) print_json(&r, c, n);
    for (size_t i = 0; shard && i < n; i++) taut_shard_close(shard[i]);
    free(shard);
    if (s == TAUT_E_INVALID || s == TAUT_E_RANGE) return cli_bad(s, "--repeats");
    return s == TAUT_OK ? CLI_OK : cli_status(s, "repeats");
}
