/* break_even_table.c : what `taut plan --break-even --json` has found: which codec wins for a bandwidth and a size. */
#include "report.h"
#include "../cli.h"
#include <math.h>
#include <string.h>

enum { MOST = 32 };

typedef struct grid {
    double elements[MOST], gbit[MOST];
    size_t rows, columns;
} grid;

static bool add(double *list, size_t *n, double v)
{
    for (size_t i = 0; i < *n; i++)
        if (list[i] == v) return true;
    if (*n == MOST || !isfinite(v)) return false;
    list[(*n)++] = v;
    return true;
}

static const json_t *find(const json_t *rows, double elements, double gbit)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *o = json_array_get(rows, i);
        if (run_number(o, "elements") == elements && run_number(o, "gbit_per_s") == gbit) return o;
    }
    return NULL;
}

static int class_of(double speedup)
{
    static const double to[] = {1.02, 1.5, 2.5, 4, 8};
    int                 k = 0;
    while (k < 5 && speedup >= to[k]) k++;
    return k;
}

static void cell(FILE *f, const json_t *o)
{
    double speedup = run_number(o, "speedup");
    if (!o) {
        fputs("<td></td>", f);
        return;
    }
    fprintf(f, "<td class='g%d' data-value='%.9g'>", class_of(speedup), speedup);
    html_text(f, run_text(o, "codec"));
    fprintf(f, "<br><b>%.3g×</b></td>", speedup);
}

int report_break_even_plan(FILE *f, const report *p)
{
    const json_t *rows = json_object_get(p->plan, "break_even");
    grid          g = {.rows = 0};
    char          text[NUMBER_TEXT];
    if (!p->plan) return CLI_OK;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *o = json_array_get(rows, i);
        if (!add(g.elements, &g.rows, run_number(o, "elements")) ||
            !add(g.gbit, &g.columns, run_number(o, "gbit_per_s")))
            return cli_fail("%s: break_even[%zu]: more than %d sizes or bandwidths, or no numbers", p->plan_name, i,
                            MOST);
    }
    if (g.rows == 0)
        return cli_fail("%s: has no \"break_even\": make it with taut plan --break-even --json", p->plan_name);
    figure_begin(f, "break-even-plan", "What wins, by bandwidth and size", p->plan_name);
    fputs("<div class='wide'><table class='grid'><tr><th>elements</th>", f);
    for (size_t k = 0; k < g.columns; k++) fprintf(f, "<th>%s</th>", text_bits(1e9 * g.gbit[k], text));
    fputs("</tr>", f);
    for (size_t i = 0; i < g.rows; i++) {
        fprintf(f, "<tr><th>%s</th>", text_count(g.elements[i], text));
        for (size_t k = 0; k < g.columns; k++) cell(f, find(rows, g.elements[i], g.gbit[k]));
        fputs("</tr>", f);
    }
    fputs("</table></div>", f);
    figure_note(f,
                "The codec that is fastest for an allreduce of so many elements, all at the budget %s, and how many "
                "times faster it is than sending them uncompressed.",
                run_text(p->plan, "budget"));
    fputs("</figure>", f);
    return CLI_OK;
}
