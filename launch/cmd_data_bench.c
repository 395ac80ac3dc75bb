/* cmd_data_bench.c : `taut data bench`: how long a sample takes at random, and how fast blocks are read in order, from a warm
 * file, one thread, everything verified. */
#include "cli.h"
#include "cmd_data.h"
#include "../comm/base/base.h"
#include "../comm/taut_data.h"
#include "../compressors/dataset/shard/shard.h"
#include "floats.h"
#include "json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct figures {
    double sample_us, sample_p99_us; /* a random sample: read, decode, copy */
    double read_gbps;                /* decoded bytes per second, blocks in order, verified */
    double prepare_ms;               /* the first sample of a new reader: dictionary or prime included */
} figures;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Blocks of `dense` take a tenth of a second each: so many samples at least, then as many as fit into these seconds. */
enum { FEW_SAMPLES = 21 };
static const double SAMPLES_S = 4;

static taut_status time_samples(const taut_shard *s, size_t f, const taut_shard_info *info, uint64_t n, figures *out)
{
    taut_reader *r = NULL;
    size_t       cap = 0, bytes;
    uint8_t     *dst = NULL;
    double      *us = malloc(n * sizeof *us), t, begin = cli_now();
    taut_status  rc = us ? taut_reader_create(s, &r) : TAUT_E_NOMEM;
    uint64_t     i = 0;
    for (; i < n && rc == TAUT_OK && (i < FEW_SAMPLES || cli_now() - begin < SAMPLES_S); i++) {
        uint64_t k = taut__mix64(i + 1) % info->samples;
        taut__reader_forget(r, (uint32_t)f); /* the block of the sample before may be this one's */
        t = cli_now();
        rc = taut_reader_sample(r, f, k, dst, cap, &bytes);
        if (rc == TAUT_E_CAPACITY || !dst) {
            free(dst);
            dst = malloc(cap = bytes + 1);
            rc = dst ? TAUT_OK : TAUT_E_NOMEM;
            if (i == 0) rc = rc == TAUT_OK ? taut_reader_sample(r, f, k, dst, cap, &bytes) : rc;
            if (i == 0) out->prepare_ms = 1e3 * (cli_now() - t);
            us[i] = 1e6 * (cli_now() - t);
            continue;
        }
        us[i] = 1e6 * (cli_now() - t);
    }
    if (rc == TAUT_OK) {
        qsort(us, i, sizeof *us, by_value);
        out->sample_us = us[i / 2];
        out->sample_p99_us = us[i * 99 / 100];
    }
    taut_reader_destroy(r);
    free(dst);
    free(us);
    return rc;
}

/* Whole passes until `seconds` are over, at least one after a first that warms the file; the fastest counts. */
static taut_status time_blocks(const taut_shard *s, size_t f, const taut_shard_info *info, double seconds, figures *out)
{
    taut_reader *r;
    double       begin = 0, best = 0;
    cli_progress line = {0};
    taut_status  rc = taut_reader_create(s, &r);
    if (rc != TAUT_OK) return rc;
    for (int pass = 0; rc == TAUT_OK && (pass < 2 || cli_now() - begin < seconds); pass++) {
        double   t = cli_now();
        uint64_t bytes = 0;
        for (uint64_t b = 0; b < info->blocks && rc == TAUT_OK; b++) {
            taut_block_view v = {.size = sizeof v};
            taut__reader_forget(r, (uint32_t)f); /* a shard of one block would be read once */
            rc = taut_reader_block(r, f, b, &v);
            if (rc == TAUT_OK) bytes += v.offset[v.n];
            cli_progress_show(&line, "pass %d, %.0f%%", pass + 1, 100 * (double)b / (double)info->blocks);
        }
        t = cli_now() - t;
        if (pass == 0) begin = cli_now();
        if (pass && (double)bytes / t > best) best = (double)bytes / t;
    }
    cli_progress_end(&line);
    out->read_gbps = best / 1e9;
    taut_reader_destroy(r);
    return rc;
}

static json_t *entry(const taut_shard *s, const taut_field *f, const taut_shard_info *info, const figures *g)
{
    json_t *o = json_object();
    jsn_text(o, "shard", taut_shard_path(s));
    jsn_text(o, "field", f->name);
    jsn_text(o, "codec", f->codec);
    jsn_int(o, "samples_per_block", info->samples_per_block);
    jsn_int(o, "decoded_bytes", f->decoded_bytes);
    jsn_int(o, "stored_bytes", f->stored_bytes);
    jsn_int(o, "file_bytes", info->file_bytes);
    jsn_real(o, "sample_us", g->sample_us);
    jsn_real(o, "sample_p99_us", g->sample_p99_us);
    jsn_real(o, "read_gbps", g->read_gbps);
    jsn_real(o, "prepare_ms", g->prepare_ms);
    return o;
}

static int bench(const char *path, uint64_t n, double seconds, json_t *results)
{
    taut_shard     *s;
    taut_shard_info info = {.size = sizeof info};
    taut_status     st = taut_shard_open(path, &s);
    if (st != TAUT_OK) return cli_status(st, "cannot open");
    taut_shard_get_info(s, &info);
    for (uint32_t k = 0; k < info.fields && st == TAUT_OK; k++) {
        taut_field f = TAUT_FIELD_INIT;
        figures    g = {0};
        taut_shard_field(s, k, &f);
        st = time_blocks(s, k, &info, seconds, &g);
        if (st == TAUT_OK) st = time_samples(s, k, &info, n, &g);
        if (st != TAUT_OK) break;
        printf("%-24s %-12s %-20s %10llu %8.2f us %8.2f us %9.4f GB/s %8.2f ms\n", path, f.name, f.codec,
               (unsigned long long)f.stored_bytes, g.sample_us, g.sample_p99_us, g.read_gbps, g.prepare_ms);
        json_array_append_new(results, entry(s, &f, &info, &g));
    }
    taut_shard_close(s);
    return st == TAUT_OK ? CLI_OK : cli_status(st, "%s", path);
}

int cmd_data_bench(int argc, char **argv)
{
    bool             json = false;
    uint64_t         n = 2000;
    double           seconds = 1;
    json_t          *results = json_array(), *o;
    const cli_option options[] = {
        {"samples", "N", CLI_SIZE, &n, "random samples to time, for 4 seconds at most", 1, 1e7, NULL},
        {"seconds", "S", CLI_REAL, &seconds, "for reading all blocks again and again", 0, 3600, NULL},
        CLI_JSON(&json),
        CLI_END,
    };
    const cli_command cmd = {
        "taut data bench",
        "SHARD...",
        "time of a sample, speed of reading; one thread, verified",
        "--json: results[]: shard field codec samples_per_block decoded_bytes stored_bytes file_bytes\n"
        "sample_us (median of random samples) sample_p99_us read_gbps (decoded GB/s, blocks in order, fastest pass)\n"
        "prepare_ms (first sample of a new reader)\n",
        options,
        1,
        1 << 20};
    int rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc == CLI_RUN) {
        printf("%-24s %-12s %-20s %10s %11s %11s %14s %11s\n", "shard", "field", "codec", "stored", "sample", "p99",
               "read", "prepare");
        rc = CLI_OK;
        for (int i = 0; i < argc && rc == CLI_OK; i++) rc = bench(argv[i], n, seconds, results);
        if (rc == CLI_OK && json) {
            o = json_object();
            json_object_set(o, "results", results);
            jsn_print(o);
        }
    }
    json_decref(results);
    return rc;
}
