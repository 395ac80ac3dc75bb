/* cmd_data_index.c : `taut data index`: an index beside a file of another format, with which it is read as a shard. */
#include "cli.h"
#include "cmd_data.h"
#include "../comm/taut_data.h"
#include "data/mds_folder.h"
#include "json.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct job {
    const char        *out;
    cli_list           select;
    bool               bytes, raw, random, json;
    uint64_t           block;
    taut_index_options o;
    cli_progress       progress;
    const char        *name;
} job;

static int progress(void *ctx, uint64_t done, uint64_t total)
{
    job *j = ctx;
    cli_progress_show(&j->progress, "%s: %llu of %llu samples", j->name, (unsigned long long)done,
                      (unsigned long long)total);
    return 0;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int report(const job *j, const char *index, double seconds)
{
    taut_shard     *s;
    taut_shard_info i = {.size = sizeof i};
    taut_status     st = taut_shard_open(index, &s);
    json_t         *o;
    char            hash[24];
    uint64_t        bytes = 0;
    if (st != TAUT_OK) return cli_status(st, "cannot open");
    taut_shard_get_info(s, &i);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)i.hash);
    for (uint32_t f = 0; f < i.fields; f++) {
        taut_field d = TAUT_FIELD_INIT;
        taut_shard_field(s, f, &d);
        bytes += d.decoded_bytes;
    }
    printf(
        "%s: %s; %llu samples, %u fields, %llu bytes in blocks of %llu samples; the index takes %llu bytes; hash %s\n",
        index, taut_shard_source(s), (unsigned long long)i.samples, i.fields, (unsigned long long)bytes,
        (unsigned long long)i.samples_per_block, (unsigned long long)i.file_bytes, hash);
    if (j->json) {
        o = json_object();
        jsn_text(o, "index", index);
        jsn_text(o, "source", taut_shard_source(s));
        jsn_int(o, "samples", i.samples);
        jsn_int(o, "fields", i.fields);
        jsn_int(o, "bytes", bytes);
        jsn_int(o, "file_bytes", i.file_bytes);
        jsn_int(o, "blocks", i.blocks);
        jsn_int(o, "samples_per_block", i.samples_per_block);
        jsn_text(o, "hash", hash);
        jsn_real(o, "seconds", seconds);
        jsn_print(o);
    }
    taut_shard_close(s);
    return CLI_OK;
}

static int index_one(job *j, const char *out, size_t n, const char *const *files)
{
    double      start = cli_now();
    taut_status s;
    j->name = files[0];
    s = taut_index_create(out, n, files, &j->o);
    cli_progress_end(&j->progress);
    if (s == TAUT_E_INVALID || s == TAUT_E_RANGE) return cli_bad(s, "%s", files[0]);
    return s == TAUT_OK ? report(j, out, cli_now() - start) : cli_status(s, "cannot index");
}

/* FILE.taut beside the file, or in the folder -o. */
static char *index_name(const job *j, const char *file)
{
    const char *base = j->out && strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
    size_t      n = strlen(base) + (j->out ? strlen(j->out) : 0) + 16;
    char       *name = malloc(n);
    if (name)
        snprintf(name, n, "%s%s%s.taut", j->out ? j->out : "", j->out && j->out[strlen(j->out) - 1] != '/' ? "/" : "",
                 base);
    return name;
}

/* What would be overwritten without having been named: an index, or nothing. */
static int check_free(const char *name)
{
    taut_shard     *s;
    taut_shard_info i = {.size = sizeof i};
    struct stat     st;
    if (stat(name, &st) != 0 || taut_shard_open(name, &s) != TAUT_OK) return CLI_OK;
    taut_shard_get_info(s, &i);
    taut_shard_close(s);
    return i.foreign ? CLI_OK : cli_fail("%s: is there and no index: name another with -o", name);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Files of one name in different folders would have one index in the folder -o. */
static int check_twice(char **name, size_t n)
{
    char **sorted = malloc((n + 1) * sizeof *sorted);
    int    rc = sorted ? CLI_OK : cli_fail("out of memory");
    if (sorted) memcpy(sorted, name, n * sizeof *sorted);
    if (sorted) qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 1; i < n && rc == CLI_OK; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            rc = cli_usage("%s: would be the index of two files: give each a folder of its own with -o", sorted[i]);
    free(sorted);
    return rc;
}

/* Each file has an index of its own. */
static int index_each(job *j, size_t n, const char *const *files)
{
    char **name = calloc(n + 1, sizeof *name);
    int    rc = name ? CLI_OK : cli_fail("out of memory");
    if (rc == CLI_OK && j->out && !is_folder(j->out))
        rc = cli_usage("-o %s: several files have an index each: must be a folder", j->out);
    for (size_t i = 0; i < n && rc == CLI_OK; i++)
        if (!(name[i] = index_name(j, files[i]))) rc = cli_fail("out of memory");
    if (rc == CLI_OK) rc = check_twice(name, n);
    for (size_t i = 0; i < n && rc == CLI_OK; i++)
        if ((rc = check_free(name[i])) == CLI_OK) rc = index_one(j, name[i], 1, &files[i]);
    for (size_t i = 0; name && i < n; i++) free(name[i]);
    free(name);
    return rc;
}

/* npy and idx files together are fields; their format is that of the first. */
static bool is_array(const job *j, const char *file)
{
    FILE         *f;
    unsigned char h[6] = {1};
    size_t        n = 0;
    if (j->o.format) return strcmp(j->o.format, "npy") == 0 || strcmp(j->o.format, "idx") == 0;
    if ((f = fopen(file, "rb")) != NULL) {
        n = fread(h, 1, sizeof h, f);
        fclose(f);
    }
    return n == sizeof h && (memcmp(h, "\x93NUMPY", 6) == 0 || (h[0] == 0 && h[1] == 0 && h[2] >= 8 && h[2] <= 14 &&
                                                                h[3] >= 1 && h[3] <= 5 && !strstr(file, ".bin")));
}

static int index_files(job *j, size_t n, const char *const *files)
{
    char *name;
    int   rc;
    if (n > 1 && !is_array(j, files[0])) return index_each(j, n, files);
    if (j->out && !is_folder(j->out)) return index_one(j, j->out, n, files);
    name = index_name(j, files[0]);
    rc = name ? check_free(name) : cli_fail("out of memory");
    if (rc == CLI_OK) rc = index_one(j, name, n, files);
    free(name);
    return rc;
}

/* A folder with an index.json is a data set of Mosaic Streaming. */
static int index_inputs(job *j, size_t n, char **input)
{
    char **files = NULL;
    size_t count = 0;
    int    rc = CLI_OK;
    if (!is_folder(input[0])) return index_files(j, n, (const char *const *)input);
    for (size_t i = 0; i < n && rc == CLI_OK; i++) rc = mds_folder_list(input[i], &files, &count);
    if (rc == CLI_OK)
        rc = count == 1 && !j->out ? index_files(j, count, (const char *const *)files)
                                   : index_each(j, count, (const char *const *)files);
    for (size_t i = 0; i < count; i++) free(files[i]);
    free(files);
    return rc;
}

static void format_help(char *dst, size_t cap)
{
    size_t at =
        (size_t)snprintf(dst, cap, "Reads nothing but these, and changes nothing: samples stay where they are.\n");
    for (size_t i = 0; taut_index_format_name(i) && at < cap; i++)
        at +=
            (size_t)snprintf(dst + at, cap - at, "  %-10s %s\n", taut_index_format_name(i), taut_index_format_help(i));
    snprintf(
        dst + at, cap - at,
        "  a folder with an index.json: all shards of a data set of Mosaic Streaming\n"
        "Without -o the index is FILE.taut. It takes the place of a shard in plan, train, info, cat, verify, bench, "
        "export. A file\n"
        "that changes is noticed: by its size at once, by its hashes when it is read.\n"
        "--json: index source samples fields bytes file_bytes blocks samples_per_block hash seconds; one object per "
        "index\n\n"
        "  taut data index train-images-idx3-ubyte train-labels-idx1-ubyte -o mnist.taut\n"
        "  taut data index wds-*.tar --select jpg --select cls      wds-0000.tar.taut, ...\n"
        "  taut data index corpus_text_document.bin && taut train --model gpt --data corpus_text_document.bin.taut\n");
}

int cmd_data_index(int argc, char **argv)
{
    job              j = {.o = TAUT_INDEX_INIT};
    char             details[2400];
    const cli_option options[] = {
        {"o", "OUT.taut", CLI_TEXT, &j.out, "the index, or a folder for them", 0, 0, NULL},
        {"format", "NAME", CLI_TEXT, &j.o.format, "one of the formats below; default: by the look of the first file", 0,
         0, NULL},
        {"block", "SIZE", CLI_SIZE, &j.block,
         "decoded bytes of a block of the largest field; 0: 64K. A sample is read and checked with its block", 0,
         1 << 30, NULL},
        {"random", NULL, CLI_FLAG, &j.random, "small blocks (16K), for random samples", 0, 0, NULL},
        {"label", "NAME", CLI_TEXT, &j.o.label,
         "this field holds the classes; default: one called label, class, cls, target or y", 0, 0, NULL},
        {"tokens", "NAME", CLI_TEXT, &j.o.tokens,
         "this field holds token ids; default: one called tokens, token_ids, input_ids or ids", 0, 0, NULL},
        {"select", "NAME", CLI_LIST, &j.select, "only this field; may be repeated", 0, 0, NULL},
        {"bytes", NULL, CLI_FLAG, &j.bytes, "texts are any bytes; else what is not UTF-8 is an error", 0, 0, NULL},
        {"raw", NULL, CLI_FLAG, &j.raw, "tfrecord: records as they are, not tf.train.Example", 0, 0, NULL},
        CLI_JSON(&j.json),
        CLI_END,
    };
    const cli_command cmd = {"taut data index",
                             "FILE...",
                             "read files of other formats as shards, where they are",
                             details,
                             options,
                             1,
                             1 << 20};
    int               rc;
    format_help(details, sizeof details);
    rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc != CLI_RUN) return rc;
    if (j.block && j.random) return cli_usage("--block and --random both say how large blocks are");
    if (j.block && j.block < 256)
        return cli_usage("--block=%llu: must be 0, or 256 to 1G", (unsigned long long)j.block);
    j.o.block_bytes = j.random ? 16384 : j.block;
    j.o.select = j.select.item;
    j.o.nselect = j.select.n;
    j.o.bytes = j.bytes;
    j.o.raw = j.raw;
    j.o.progress = progress;
    j.o.progress_ctx = &j;
    return index_inputs(&j, (size_t)argc, argv);
}
