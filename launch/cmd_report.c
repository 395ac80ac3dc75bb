/* cmd_report.c : `taut report`: logs of training runs as one page of pictures. */
#include "cli.h"
#include "cmd.h"
#include "json.h"
#include "report/report.h"
#include "../comm/base/base.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct args {
    const char *out, *plan, *title;
    bool        json;
} args;

static int load_plan(const char *path, report *p)
{
    json_error_t e;
    FILE        *f = fopen(path, "r");
    char        *line = NULL;
    size_t       room = 0;
    if (!f) return cli_fail("--plan %s: %s", path, strerror(errno));
    while (getline(&line, &room, f) > 0) { /* what it printed: the object is the last line */
        json_t *o = json_loads(line, 0, &e);
        if (json_object_get(o, "break_even")) {
            json_decref(p->plan);
            p->plan = json_incref(o);
        }
        json_decref(o);
    }
    fclose(f);
    free(line);
    p->plan_name = path;
    return p->plan ? CLI_OK
                   : cli_fail("--plan %s: has no object with \"break_even\": expected what `taut plan --break-even "
                              "--json` prints",
                              path);
}

/* The page appears whole or not at all. */
static int save(const report *p, const char *path, long *bytes)
{
    char  real[PATH_MAX], part[PATH_MAX];
    FILE *f;
    int   rc;
    if (taut__behind_links(path, real) != TAUT_OK) return cli_fail("-o %s", taut_last_error());
    path = real;
    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part) return cli_fail("-o %s: path too long", path);
    f = fopen(part, "w");
    if (!f) return cli_fail("-o %s: %s", part, strerror(errno));
    rc = report_write(f, p);
    *bytes = ftell(f);
    bool lost = ferror(f);
    if ((fclose(f) != 0 || lost) && rc == CLI_OK) rc = cli_fail("-o %s: could not be written (disk full?)", part);
    if (rc == CLI_OK && rename(part, path) != 0) rc = cli_fail("-o %s: %s", path, strerror(errno));
    if (rc != CLI_OK) unlink(part);
    return rc;
}

/* Without their folders, if that still tells them apart. */
static void shorten_names(report *p)
{
    const char *base[REPORT_RUNS] = {NULL};
    size_t      runs = p->runs;
    for (size_t i = 0; i < runs; i++) {
        const char *slash = strrchr(p->run[i].name, '/');
        base[i] = slash && slash[1] ? slash + 1 : p->run[i].name;
        for (size_t k = 0; k < i; k++)
            if (strcmp(base[k], base[i]) == 0) return;
    }
    for (size_t i = 0; i < runs; i++) memmove(p->run[i].name, base[i], strlen(base[i]) + 1);
}

static void tell(const args *a, const report *p, long bytes)
{
    if (!a->json) {
        printf("%s: %zu run%s, %ld kB\n", a->out, p->runs, p->runs == 1 ? "" : "s", (bytes + 500) / 1000);
        return;
    }
    json_t *o = json_object(), *runs = json_array();
    for (size_t i = 0; i < p->runs; i++) {
        json_t *r = json_object();
        jsn_text(r, "name", p->run[i].name);
        jsn_int(r, "steps", p->run[i].steps);
        jsn_int(r, "layers", p->run[i].layers);
        jsn_bool(r, "ended", p->run[i].end != NULL);
        json_array_append_new(runs, r);
    }
    jsn_text(o, "page", a->out);
    jsn_int(o, "bytes", (uint64_t)bytes);
    json_object_set_new(o, "runs", runs);
    jsn_print(o);
}

/* The page takes the place of none of the files that it is made of, nor of a device. */
static int check_page(const args *a, char **logs, int n)
{
    char *plan = (char *)(uintptr_t)a->plan;
    int   rc = cli_replaceable("-o", a->out);
    if (rc == CLI_OK) rc = cli_apart("-o", a->out, (size_t)n, logs);
    if (rc == CLI_OK && plan) rc = cli_apart("-o", a->out, 1, &plan);
    return rc;
}

static int run(const args *a, char **logs, int n)
{
    report *p = calloc(1, sizeof *p);
    long    bytes = 0;
    int     rc = check_page(a, logs, n);
    if (!p) return cli_fail("out of memory");
    p->title = a->title ? a->title : "Taut: what the run cost and lost";
    cli_progress line = {0};
    for (int i = 0; i < n && rc == CLI_OK; i++) {
        cli_progress_show(&line, "reading %s", logs[i]);
        rc = run_log_load(logs[i], &p->run[p->runs++]);
    }
    shorten_names(p);
    if (rc == CLI_OK && a->plan) rc = load_plan(a->plan, p);
    if (rc == CLI_OK) rc = save(p, a->out, &bytes);
    cli_progress_end(&line);
    if (rc == CLI_OK) tell(a, p, bytes);
    for (size_t i = 0; i < p->runs; i++) run_log_free(&p->run[i]);
    json_decref(p->plan);
    free(p);
    return rc;
}

int cmd_report(int argc, char **argv)
{
    args             a = {.out = "report.html"};
    const cli_option options[] = {
        {"o", "FILE", CLI_TEXT, &a.out, "the page", 0, 0, NULL},
        {"plan", "PLAN.json", CLI_TEXT, &a.plan,
         "also what `taut plan --break-even --json` printed: what wins, by bandwidth and size", 0, 0, NULL},
        {"title", "TEXT", CLI_TEXT, &a.title, "heading of the page", 0, 0, NULL},
        CLI_JSON(&a.json),
        CLI_END};
    const cli_command command = {"taut report",
                                 "RUN.jsonl...",
                                 "logs of training runs as one page of pictures",
                                 "RUN.jsonl is what `taut train --log RUN.jsonl` writes; give up to 8 to compare them, "
                                 "the one of interest first, no compression last.\n"
                                 "The page holds everything it needs and loads nothing: it can be sent by mail. It "
                                 "shows loss against steps, time and bytes; the\n"
                                 "error of every step against the budget, with violations marked; bits per element of "
                                 "every layer over time; a step as a timeline;\n"
                                 "from which bandwidth on compression pays; and the figures of the log.\n"
                                 "Example: taut report auto.jsonl none.jsonl -o report.html\n",
                                 options,
                                 1,
                                 REPORT_RUNS};
    int               operands, rc = cli_parse(&command, argc, argv, &operands);
    return rc != CLI_RUN ? rc : run(&a, argv, operands);
}
