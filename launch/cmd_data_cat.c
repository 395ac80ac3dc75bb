/* cmd_data_cat.c : `taut data cat`: decoded samples to stdout or a file. */
#include "cli.h"
#include "cmd_data.h"
#include "../comm/taut_data.h"
#include "json.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct job {
    const char     *field, *samples, *out;
    bool            skip, json;
    uint64_t        from, to; /* samples [from, to) */
    int             f;
    taut_shard_info info;
    FILE           *file;
    uint64_t        bytes, given, bad_blocks, bad_samples;
} job;

/* "17", "10:20", "10:", ":20" */
static int parse_samples(job *j)
{
    const char        *t = j->samples;
    char              *end;
    unsigned long long v;
    j->from = 0;
    j->to = j->info.samples;
    if (!t) return CLI_OK;
    if (*t != ':') {
        v = strtoull(t, &end, 10);
        if (end == t || *t == '-' || (*end && *end != ':')) goto bad;
        j->from = v;
        if (!*end) j->to = v + 1;
        t = end;
    }
    if (*t == ':' && t[1]) {
        v = strtoull(t + 1, &end, 10);
        if (*end || t[1] == '-') goto bad;
        j->to = v;
    }
    if (j->from >= j->to || j->to > j->info.samples) goto bad;
    return CLI_OK;
bad:
    return cli_usage("--samples=%s: must be N, or FROM:TO with FROM < TO, within 0..%llu", j->samples,
                     (unsigned long long)j->info.samples);
}

static int copy_blocks(job *j, taut_reader *r)
{
    uint64_t     each = j->info.samples_per_block;
    cli_progress line = {0};
    for (uint64_t b = j->from / each; b * each < j->to; b++) {
        taut_block_view v = {.size = sizeof v};
        taut_status     s = taut_reader_block(r, (size_t)j->f, b, &v);
        uint64_t first = b * each < j->from ? j->from : b * each, end = (b + 1) * each < j->to ? (b + 1) * each : j->to;
        if (s == TAUT_E_CORRUPT && j->skip) {
            fprintf(stderr, "taut data cat: skipped: %s\n", taut_last_error());
            j->bad_blocks++;
            j->bad_samples += end - first;
            continue;
        }
        if (s != TAUT_OK) cli_progress_end(&line);
        if (s != TAUT_OK)
            return cli_status(s, "cannot read%s",
                              s == TAUT_E_CORRUPT ? " (--skip-bad goes on with the next block)" : "");
        uint32_t at = v.offset[first - v.first];
        size_t   n = v.offset[end - v.first] - at;
        if (n && fwrite(v.data + at, 1, n, j->file) != n) return cli_fail("cannot write: %s", strerror(errno));
        j->bytes += n;
        j->given += end - first;
        if (j->out || !isatty(STDOUT_FILENO))
            cli_progress_show(&line, "%.0f%% of %llu samples", 100 * (double)j->given / (double)(j->to - j->from),
                              (unsigned long long)(j->to - j->from));
    }
    cli_progress_end(&line);
    return CLI_OK;
}

static int choose_field(job *j, const taut_shard *s)
{
    char names[512] = "";
    if (j->field) j->f = taut_shard_find(s, j->field);
    if (!j->field && j->info.fields == 1) j->f = 0;
    if (j->f >= 0) return CLI_OK;
    for (uint32_t k = 0; k < j->info.fields; k++) {
        taut_field f = TAUT_FIELD_INIT;
        size_t     at = strlen(names);
        taut_shard_field(s, k, &f);
        snprintf(names + at, sizeof names - at, "%s%s", k ? ", " : "", f.name);
    }
    return j->field ? cli_usage("--field=%s: no such field; fields are %s", j->field, names)
                    : cli_usage("--field is missing; fields are %s", names);
}

static int cat(job *j, const taut_shard *s)
{
    taut_reader *r;
    taut_status  st;
    struct stat  there;
    int          rc = choose_field(j, s);
    if (rc == CLI_OK) rc = parse_samples(j);
    if (rc != CLI_OK) return rc;
    if ((st = taut_reader_create(s, &r)) != TAUT_OK) return cli_status(st, "cannot read");
    j->file = j->out ? fopen(j->out, "wb") : stdout;
    bool opened = j->file != NULL,
         ours = opened && j->out && fstat(fileno(j->file), &there) == 0 && S_ISREG(there.st_mode);
    rc = opened ? copy_blocks(j, r) : cli_fail("%s: %s", j->out, strerror(errno));
    bool lost = false;
    if (!j->out) lost = fflush(j->file) != 0;
    else if (opened) lost = fclose(j->file) != 0;
    if (lost && rc == CLI_OK) rc = cli_fail("cannot write: %s", strerror(errno));
    if (rc != CLI_OK && ours) remove(j->out); /* no device */
    taut_reader_destroy(r);
    return rc;
}

int cmd_data_cat(int argc, char **argv)
{
    job              j = {.f = -1};
    taut_shard      *s;
    taut_status      st;
    const cli_option options[] = {
        {"field", "NAME", CLI_TEXT, &j.field, "which field; may be left out where there is one", 0, 0, NULL},
        {"samples", "FROM:TO", CLI_TEXT, &j.samples, "which samples, TO excluded; N: that one; default: all", 0, 0,
         NULL},
        {"o", "FILE", CLI_TEXT, &j.out, "write there instead of stdout", 0, 0, NULL},
        {"skip-bad", NULL, CLI_FLAG, &j.skip, "leave out damaged blocks, which are named on stderr", 0, 0, NULL},
        CLI_JSON(&j.json),
        CLI_END,
    };
    const cli_command cmd = {"taut data cat",
                             "SHARD",
                             "decoded samples, one behind the other",
                             "Stops at the first damaged block, unless --skip-bad.\n"
                             "--json (with -o): shard field samples bytes bad_blocks bad_samples\n",
                             options,
                             1,
                             1};
    int               rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc != CLI_RUN) return rc;
    if (j.json && !j.out) return cli_usage("--json and the samples both go to stdout: give -o FILE");
    if (j.out && (rc = cli_apart("-o", j.out, 1, argv)) != CLI_OK) return rc;
    if ((st = taut_shard_open(argv[0], &s)) != TAUT_OK) return cli_status(st, "cannot open");
    j.info.size = sizeof j.info;
    taut_shard_get_info(s, &j.info);
    rc = cat(&j, s);
    if (j.bad_blocks)
        fprintf(stderr, "taut data cat: %llu damaged blocks left out, %llu samples\n", (unsigned long long)j.bad_blocks,
                (unsigned long long)j.bad_samples);
    if (rc == CLI_OK && j.json) {
        json_t *o = json_object();
        jsn_text(o, "shard", argv[0]);
        jsn_int(o, "field", (uint64_t)j.f);
        jsn_int(o, "samples", j.given);
        jsn_int(o, "bytes", j.bytes);
        jsn_int(o, "bad_blocks", j.bad_blocks);
        jsn_int(o, "bad_samples", j.bad_samples);
        jsn_print(o);
    }
    taut_shard_close(s);
    return rc;
}
