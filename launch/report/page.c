/* page.c : the page from top to bottom. */
#include "report.h"
#include "../cli.h"

static int charts(FILE *f, const report *p)
{
    int rc;
    fputs("<section class='charts'>\n", f);
    rc = report_lines(f, p);
    for (size_t i = 0; i < p->runs && rc == CLI_OK; i++)
        if (!report_exact(&p->run[i])) rc = report_error(f, &p->run[i], i);
    if (rc == CLI_OK) rc = report_break_even_runs(f, p);
    if (rc == CLI_OK) rc = report_phases(f, p);
    for (size_t i = 0; i < p->runs && rc == CLI_OK; i++)
        if (!report_exact(&p->run[i]) && p->run[i].looks > 0 && p->run[i].layers > 0)
            rc = report_heat(f, &p->run[i], i);
    if (rc == CLI_OK) rc = report_break_even_plan(f, p);
    fputs("</section>\n", f);
    for (size_t i = 0; i < p->runs; i++) {
        if (report_exact(&p->run[i]))
            figure_note(f,
                        "%s: no budget was in force, and no step lost anything: its gradients travelled as they are.",
                        p->run[i].name);
        else if (p->run[i].looks == 0) figure_note(f, "%s: the log has no records of layers.", p->run[i].name);
    }
    return rc;
}

int report_write(FILE *f, const report *p)
{
    int rc, v = taut_version();
    fputs("<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n<meta name='viewport' "
          "content='width=device-width,initial-scale=1'>\n<title>",
          f);
    html_text(f, p->title);
    fputs("</title>\n", f);
    report_style(f);
    fputs("</head>\n<body>\n<main>\n<header><h1>", f);
    html_text(f, p->title);
    fputs("</h1><small>", f);
    for (size_t i = 0; i < p->runs; i++) {
        if (i) fputs(", ", f);
        html_text(f, p->run[i].name);
    }
    fputs("</small><button type='button' hidden>light / dark</button></header>\n", f);
    report_tiles(f, p);
    rc = charts(f, p);
    report_summary(f, p);
    for (size_t i = 0; i < p->runs; i++) report_layers(f, &p->run[i]);
    fprintf(f,
            "<footer>Written by taut report, version %d.%d.%d. All that it shows is in this file; nothing is loaded "
            "from elsewhere.</footer>\n</main>\n",
            v / 10000, v / 100 % 100, v % 100);
    report_script(f);
    fputs("</body>\n</html>\n", f);
    return rc;
}
