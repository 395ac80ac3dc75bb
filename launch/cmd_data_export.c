/* cmd_data_export.c : `taut data export`: shards as data sets of other formats. */
#include "cli.h"
#include "cmd_data.h"
#include "../comm/taut_data.h"
#include "json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    const char         *out, *format;
    cli_list            select;
    bool                json;
    taut_export_options o;
    cli_progress        progress;
    taut_shard        **shard;
} job;

static int progress(void *ctx, uint64_t done, uint64_t total)
{
    job *j = ctx;
    cli_progress_show(&j->progress, "%llu of %llu samples", (unsigned long long)done, (unsigned long long)total);
    return 0;
}

static bool ends(const char *text, const char *tail)
{
    size_t n = strlen(text), t = strlen(tail);
    return n > t && strcmp(text + n - t, tail) == 0;
}

static int report(const job *j, size_t n, uint64_t samples, double seconds)
{
    printf("%s: %s; %llu samples of %zu shard%s in %.2f s\n", j->out, j->format, (unsigned long long)samples, n,
           n == 1 ? "" : "s", seconds);
    if (j->json) {
        json_t *o = json_object();
        jsn_text(o, "out", j->out);
        jsn_text(o, "format", j->format);
        jsn_int(o, "shards", n);
        jsn_int(o, "samples", samples);
        jsn_real(o, "seconds", seconds);
        jsn_print(o);
    }
    return CLI_OK;
}

static int export(job *j, size_t n, char **path)
{
    taut_status s = TAUT_OK;
    uint64_t    samples = 0;
    double      start = cli_now();
    if (!(j->shard = calloc(n, sizeof *j->shard))) return cli_fail("out of memory");
    for (size_t i = 0; i < n; i++) {
        taut_shard_info info = {.size = sizeof info};
        if ((s = taut_shard_open(path[i], &j->shard[i])) != TAUT_OK) return cli_status(s, "cannot open");
        taut_shard_get_info(j->shard[i], &info);
        samples += info.samples;
    }
    s = taut_shard_export(j->format, j->out, n, (const taut_shard *const *)j->shard, &j->o);
    cli_progress_end(&j->progress);
    if (s == TAUT_E_INVALID || s == TAUT_E_RANGE) return cli_bad(s, "%s", j->out);
    return s == TAUT_OK ? report(j, n, samples, cli_now() - start) : cli_status(s, "cannot export");
}

int cmd_data_export(int argc, char **argv)
{
    job              j = {.o = TAUT_EXPORT_INIT};
    char             details[900];
    size_t           at;
    const cli_option options[] = {
        {"o", "OUT", CLI_TEXT, &j.out, "file or folder to write (required)", 0, 0, NULL},
        {"format", "NAME", CLI_TEXT, &j.format,
         "one of the formats below; default: tar or npy by the ending of OUT, else mds", 0, 0, NULL},
        {"select", "NAME", CLI_LIST, &j.select, "only this field; may be repeated", 0, 0, NULL},
        {"shard-bytes", "SIZE", CLI_SIZE, &j.o.shard_bytes, "mds: bytes of a shard; 0: 64M", 0, 1u << 31, NULL},
        CLI_JSON(&j.json),
        CLI_END,
    };
    const cli_command cmd = {"taut data export",
                             "SHARD...",
                             "shards, or indexed files, as data sets of other formats",
                             details,
                             options,
                             1,
                             1 << 20};
    int               rc;
    at = (size_t)snprintf(details, sizeof details,
                          "Samples of all shards, one behind the other; the shards have the same fields.\n");
    for (size_t i = 0; taut_export_format_name(i); i++)
        at += (size_t)snprintf(details + at, sizeof details - at, "  %-5s %s\n", taut_export_format_name(i),
                               taut_export_format_help(i));
    snprintf(details + at, sizeof details - at,
             "--json: out format shards samples seconds\n\n  taut data export mnist.taut -o mnist-mds\n  taut data "
             "export mnist.taut -o mnist.tar\n"
             "  taut data export mnist.taut -o arrays --format npy        arrays/image.npy, arrays/label.npy\n");
    rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc != CLI_RUN) return rc;
    if (!j.out) return cli_usage("-o OUT is missing");
    if ((rc = cli_apart("-o", j.out, (size_t)argc, argv)) != CLI_OK) return rc;
    if (!j.format) j.format = ends(j.out, ".tar") ? "tar" : ends(j.out, ".npy") ? "npy" : "mds";
    j.o.select = j.select.item;
    j.o.nselect = j.select.n;
    j.o.progress = progress;
    j.o.progress_ctx = &j;
    rc = export(&j, (size_t)argc, argv);
    for (int i = 0; j.shard && i < argc; i++) taut_shard_close(j.shard[i]);
    free(j.shard);
    return rc;
}
