/* fuzz_record.c : what `taut plan --record` wrote, as --replay reads it: a byte of options, then the JSON. Bit 0: the objective is bytes. Bit 1: norms are
 * added, not squares. Bit 2: the solver is dp. Of what is accepted a plan can be made, which chooses for each layer among its own options, or an
 * error says why not. max_len=1024 */
#define load_layer  record_load_layer /* fuzz_trace.c, which may be in the same program, has its own */
#define load_layers record_load_layers
#include "launch/plan_record.c"
#undef load_layer
#undef load_layers
#include "fuzz.h"

enum { RECORD_OPTIONS = 24, RECORD_BINS = 50 };

static void record_plan(const plan_facts *f, uint8_t how)
{
    uint32_t       choice[RECORD_OPTIONS];
    taut__decision d = {.option = choice};
    taut__demand   demand = {.budget = how & 2 ? f->budget_l2 : f->budget2,
                             .objective = how & 1 ? TAUT_OBJECTIVE_BYTES : TAUT_OBJECTIVE_TIME,
                             .solver = how & 4 ? "dp" : "hull",
                             .bins = RECORD_BINS,
                             .unsquared = how & 2,
                             .tight = true,
                             .link = taut__link_simple(f->ranks, 1e9, 3e-5)};
    if (taut__decide(&f->o, &demand, &d) != TAUT_OK) return;
    for (size_t l = 0; l < f->o.layers; l++)
        FUZZ_HOLDS(choice[l] >= f->o.layer[l].first && choice[l] < f->o.layer[l].first + f->o.layer[l].n);
    FUZZ_HOLDS(!d.feasible || d.error <= demand.budget * (1 + 1e-9) || how & 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    plan_facts f = {0};
    json_t    *root;
    cli_speak(false);
    if (size < 1) return 0;
    root = json_loadb((const char *)data + 1, size - 1, JSON_REJECT_DUPLICATES, NULL);
    if (root && load_root("fuzz", root, &f) == CLI_OK) {
        for (size_t l = 0; l < f.o.layers; l++)
            FUZZ_HOLDS(f.o.layer[l].n > 0 && f.o.layer[l].elems > 0 &&
                       f.o.layer[l].first + f.o.layer[l].n <= f.o.options);
        if (f.o.layers <= RECORD_OPTIONS) record_plan(&f, data[0]);
    }
    json_decref(root);
    taut__free(f.o.layer);
    taut__free(f.o.option);
    return 0;
}
