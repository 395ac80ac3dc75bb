/* budget.c : see budget.h. */
#include "budget.h"
#include "../../comm/base/base.h"
#include "../cli.h"
#include <string.h>

static const char *const candidates[] = {
    "split",         "grid:rel=0.1",  "grid:rel=0.03", "grid:rel=0.01", "grid:rel=0.003", "grid:rel=0.001",
    "grid:rel=3e-4", "grid:rel=1e-4", "grid:rel=3e-5", "grid:rel=1e-5", "grid:rel=1e-6",  "quant:2",
    "quant:3",       "quant:4",       "quant:5",       "quant:6",       "quant:7",        "quant:8"};
enum { CANDIDATES = sizeof candidates / sizeof *candidates, FIELDS = 64 };

int budget_parse(const char *text, double *rel)
{
    char *end = NULL;
    *rel = strncmp(text, "rel=", 4) == 0 ? taut__strtod(text + 4, &end) : 0;
    if (!end || end == text + 4 || *end || !(*rel > 0 && *rel < 1))
        return cli_usage("--budget=%s: must be rel=X with 0 < X < 1", text);
    return CLI_OK;
}

int budget_spend(taut_writer *w, const taut_field *fields, size_t n, double rel)
{
    size_t            which[FIELDS], first[FIELDS + 1], lossy = 0;
    double            error[FIELDS * CANDIDATES], cost[FIELDS * CANDIDATES];
    uint32_t          choice[FIELDS];
    taut_plan_problem p = {.size = sizeof p};
    taut_plan_result  result = {.size = sizeof result};
    taut_status       s;
    for (size_t f = 0; f < n; f++) {
        if (fields[f].kind != TAUT_KIND_FLOAT || fields[f].type != TAUT_FLOAT32 || *fields[f].codec) continue;
        first[lossy] = lossy * CANDIDATES;
        for (size_t c = 0; c < CANDIDATES; c++) {
            taut_trial t = {.size = sizeof t};
            if ((s = taut_writer_measure(w, f, candidates[c], &t)) != TAUT_OK)
                return cli_status(s, "--budget: trying %s", candidates[c]);
            error[lossy * CANDIDATES + c] = t.norm2 > 0 ? t.error2 / t.norm2 : t.error2;
            cost[lossy * CANDIDATES + c] = t.bytes;
        }
        which[lossy++] = f;
    }
    if (lossy == 0) return cli_fail("--budget: no float32 field without a codec of its own to spend it on");
    first[lossy] = lossy * CANDIDATES;
    p.layers = lossy, p.first = first, p.error = error, p.cost = cost, p.budget = rel * (double)lossy;
    if ((s = taut_plan_solve(&p, choice, &result)) != TAUT_OK) return cli_status(s, "--budget");
    for (size_t k = 0; k < lossy; k++)
        if ((s = taut_writer_codec(w, which[k], candidates[choice[k]])) != TAUT_OK) return cli_status(s, "--budget");
    return CLI_OK;
}
