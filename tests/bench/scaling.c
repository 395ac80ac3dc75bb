/* scaling.c : the table of docs/scaling.md: what one allreduce of 16 MiB costs per rank, for 2 to 4096 ranks, from the
 * formulas that the library plans with (scheduler/time_model.c), cuts with (comm/base/partition.h) and allocates by
 * (tests/support/layer_memory.c, which a test compares with the allocator). Without arguments: Markdown.
 *   scaling BITS LATENCY_US RANKS VIA CODEC_BYTES   predicted milliseconds of one allreduce, codec work left out */
#include "scheduler/time_model.h"
#include "tests/support/layer_memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 1024, COLS = 4096, ELEMS = ROWS * COLS, HOST = 8 };
static const int    ranks[] = {2, 8, 64, 512, 4096};
static const double BITS = 1e9, LATENCY_S = 50e-6;

typedef struct row {
    const char            *codec;
    taut__algorithm_id     via;
    const taut__algorithm *algorithm;
    bool                   hosts; /* one of HOST ranks takes part */
} row;
static const row rows[] = {{"none", TAUT_VIA_NATIVE, &taut__native, false},
                           {"quant:bits=4", TAUT_VIA_SRA, &taut__sra, false},
                           {"quant:bits=4", TAUT_VIA_SRA, &taut__sra, true},
                           {"quant:bits=4", TAUT_VIA_RING, &taut__ring, false},
                           {"quant:bits=4", TAUT_VIA_GATHER, &taut__gather, false}};

static double messages(const row *r, int p)
{
    taut__partition part = taut__partition_of(ELEMS, p, 64, (1 << 18) / TAUT_CODED_SLICE_DIV);
    double          each = (double)part.slices * (p - 1);
    if (r->via == TAUT_VIA_GATHER) each = (double)taut__ceil_div(ELEMS, part.sub) * (p - 1);
    return r->via == TAUT_VIA_GATHER ? each : 2 * each;
}

static void print_row(const row *r, int all)
{
    int          p = r->hosts ? all / HOST : all;
    taut_spec    spec;
    taut_tensor  tensor = {.elems = ELEMS, .rows = ROWS, .cols = COLS};
    layer_memory m = {&spec, &tensor, r->algorithm, p, 512, false};
    if (taut__spec_parse(r->codec, &spec) != TAUT_OK) exit(1);
    layer_bytes held = layer_memory_bytes(&m);
    double      bytes = r->via == TAUT_VIA_NATIVE ? 4.0 * ELEMS : (double)taut__frame_capacity(&spec, &tensor, ELEMS);
    taut__work  w = {.dense_bytes = 4.0 * ELEMS, .bytes = bytes, .sum_bytes = bytes, .rounds = 1};
    taut__link  link = taut__link_simple(p, BITS, LATENCY_S);
    printf("| %d | `%s` | `%s`%s | %.0f | ", all, r->codec, taut__algorithm_name(r->via),
           r->hosts ? ", 8 ranks a host" : "", taut__algorithm_hops(r->via, p, &w));
    if (r->via == TAUT_VIA_NATIVE) printf("MPI's | ");
    else printf("%.0f | ", messages(r, p));
    printf("%.1f | %.2f + %.2f | %.1f |\n", taut__algorithm_bytes(r->via, p, &w) / 1e6,
           (double)(held.feedback_on + held.own) / 1048576, (double)held.borrows / 1048576,
           1e3 * taut__algorithm_seconds(&link, r->via, &w));
}

static int predict(char **argv)
{
    int        p = atoi(argv[2]), via = 0;
    double     bytes = atof(argv[4]);
    taut__link link = taut__link_simple(p, atof(argv[0]), 1e-6 * atof(argv[1]));
    while (via < TAUT_VIAS && strcmp(argv[3], taut__algorithm_name((taut__algorithm_id)via)) != 0) via++;
    if (via == TAUT_VIAS || p < 1) return 2;
    taut__work w = {.bytes = bytes, .sum_bytes = bytes, .rounds = 1};
    printf("%.1f\n", 1e3 * taut__algorithm_seconds(&link, (taut__algorithm_id)via, &w));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 6) return predict(argv + 1);
    printf("| ranks | codec | algorithm | hops | messages sent | MB sent | MiB held + borrowed | ms of wire "
           "|\n|---|---|---|---|---|---|---|---|\n");
    for (size_t p = 0; p < sizeof ranks / sizeof *ranks; p++)
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            if (!rows[r].hosts || ranks[p] > HOST) print_row(&rows[r], ranks[p]);
    return 0;
}
