/* cmd_data_pack.c : `taut data pack`: files into a shard. */
#include "cli.h"
#include "cmd_data.h"
#include "data/budget.h"
#include "data/import.h"
#include "json.h"
#include <stdlib.h>
#include <string.h>

typedef struct job {
    import_options in;
    const char    *out, *codec, *budget;
    cli_list       field; /* NAME=CODEC */
    uint64_t       block, samples_per_block;
    int64_t        threads;
    bool           random, json;
    double         rel;

import im;
    taut_writer *writer;
    cli_progress progress;
    uint64_t     samples, bytes;
    double       seconds;
} job;

/* ---- codecs of fields ---- */

static int set_codec(taut_field *f, const char *codec, const char *option)
{
    taut_status s;
    if (strlen(codec) >= sizeof f->codec)
        return cli_usage("%s: a codec of more than %zu characters", option, sizeof f->codec - 1);
    strcpy(f->codec, codec);
    s = taut_field_check(f);
    return s == TAUT_OK ? CLI_OK : cli_bad(s, "%s", option);
}

/* --codec goes to the fields that it suits, labels excepted; to at least one. */
static int codec_for_all(job *j)
{
    import     *im = &j->im;
    size_t      taken = 0, last = 0;
    taut_status s = TAUT_OK;
    for (size_t k = 0; k < im->fields; k++) {
        taut_field f = im->field[k];
        if (f.kind == TAUT_KIND_LABEL && im->fields > 1) continue;
        if (strlen(j->codec) >= sizeof f.codec)
            return cli_usage("--codec=%s: longer than %zu characters", j->codec, sizeof f.codec - 1);
        strcpy(f.codec, j->codec);
        s = taut_field_check(&f);
        last = k;
        if (s != TAUT_OK) continue;
        im->field[k] = f;
        taken++;
    }
    if (taken) return CLI_OK;
    return set_codec(&im->field[last], j->codec, "--codec");
}

static int codec_for_one(job *j, const char *option)
{
    const char *eq = strchr(option, '=');
    char        names[256] = "", text[160];
    if (!eq || eq == option || !eq[1]) return cli_usage("--field=%s: must be NAME=CODEC", option);
    for (size_t k = 0; k < j->im.fields; k++) {
        taut_field *f = &j->im.field[k];
        size_t      at = strlen(names);
        snprintf(names + at, sizeof names - at, "%s%s", k ? ", " : "", f->name);
        snprintf(text, sizeof text, "--field=%s", option);
        if (strlen(f->name) == (size_t)(eq - option) && strncmp(f->name, option, (size_t)(eq - option)) == 0)
            return set_codec(f, eq + 1, text);
    }
    return cli_usage("--field=%s: no such field; fields are %s", option, names);
}

/* ---- packing ---- */

static int sink(void *ctx, const void *const *data, const size_t *bytes)
{
    job        *j = ctx;
    taut_status s = taut_writer_add(j->writer, data, bytes);
    if (s != TAUT_OK) return cli_status(s, "%s", j->out);
    for (size_t k = 0; k < j->im.fields; k++) j->bytes += bytes[k];
    if (++j->samples % 256 == 0)
        cli_progress_show(&j->progress, "reading: %llu samples", (unsigned long long)j->samples);
    return CLI_OK;
}

static int encoded(void *ctx, uint64_t done, uint64_t total)
{
    job *j = ctx;
    cli_progress_show(&j->progress, "encoding: %llu of %llu samples", (unsigned long long)done,
                      (unsigned long long)total);
    return 0;
}

/* The last part of a path, with which a folder may end in slashes: not where it lay, so equal inputs give equal bytes. */
static const char *source_of(const char *path, char *dst, size_t cap)
{
    size_t n = strlen(path), begin;
    while (n > 1 && path[n - 1] == '/') n--;
    for (begin = n; begin > 0 && path[begin - 1] != '/';) begin--;
    snprintf(dst, cap, "%.*s", (int)(n - begin), path + begin);
    return dst;
}

static int write_shard(job *j)
{
    taut_writer_options o = TAUT_WRITER_INIT;
    char                name[256];
    taut_status         s;
    int                 rc;
    o.block_bytes = j->block ? j->block : j->random ? 16384 : 0;
    o.samples_per_block = j->samples_per_block;
    o.labels = j->im.labels;
    o.source = source_of(j->im.input[0], name, sizeof name);
    o.threads = (int32_t)j->threads;
    o.progress = encoded;
    o.progress_ctx = j;
    s = taut_writer_create(j->out, j->im.fields, j->im.field, &o, &j->writer);
    if (s != TAUT_OK)
        return s == TAUT_E_INVALID || s == TAUT_E_RANGE ? cli_bad(s, "%s", j->out) : cli_status(s, "%s", j->out);
    j->im.sink = sink;
    j->im.ctx = j;
    if ((rc = import_feed(&j->im)) != CLI_OK) return rc;
    if (j->budget && j->samples && (rc = budget_spend(j->writer, j->im.field, j->im.fields, j->rel)) != CLI_OK)
        return rc;
    s = taut_writer_finish(j->writer);
    return s == TAUT_OK ? CLI_OK : cli_status(s, "%s", j->out);
}

static int pack(job *j)
{
    double start = cli_now();
    int    rc = import_open(&j->im);
    if (rc == CLI_OK && j->codec) rc = codec_for_all(j);
    for (size_t i = 0; i < j->field.n && rc == CLI_OK; i++) rc = codec_for_one(j, j->field.item[i]);
    if (rc == CLI_OK) rc = write_shard(j);
    cli_progress_end(&j->progress);
    j->seconds = cli_now() - start;
    return rc;
}

/* ---- report ---- */

static int report(const job *j)
{
    taut_shard     *shard;
    taut_shard_info info = {.size = sizeof info};
    taut_status     s = taut_shard_open(j->out, &shard);
    if (s != TAUT_OK) return cli_status(s, "%s: what was written cannot be read", j->out);
    taut_shard_get_info(shard, &info);
    printf("%s: %llu samples, %llu bytes -> %llu bytes (%.2f times smaller), %llu blocks of %llu samples, %.1f s\n",
           j->out, (unsigned long long)info.samples, (unsigned long long)j->bytes, (unsigned long long)info.file_bytes,
           (double)j->bytes / (double)info.file_bytes, (unsigned long long)info.blocks,
           (unsigned long long)info.samples_per_block, j->seconds);
    if (j->json) {
        json_t *o = json_object();
        char    hash[24];
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)info.hash);
        jsn_text(o, "shard", j->out);
        jsn_int(o, "samples", info.samples);
        jsn_int(o, "bytes", j->bytes);
        jsn_int(o, "file_bytes", info.file_bytes);
        jsn_int(o, "blocks", info.blocks);
        jsn_int(o, "samples_per_block", info.samples_per_block);
        jsn_text(o, "hash", hash);
        jsn_real(o, "seconds", j->seconds);
        jsn_print(o);
    }
    taut_shard_close(shard);
    return CLI_OK;
}

int cmd_data_pack(int argc, char **argv)
{
    job              j = {.in = {.window = 1024}, .threads = 1};
    const cli_option options[] = {
        {"o", "OUT.taut", CLI_TEXT, &j.out, "the shard to write (required)", 0, 0, NULL},
        {"codec", "SPEC", CLI_TEXT, &j.codec,
         "field codec, for the fields that it suits, labels excepted; default: by kind", 0, 0, NULL},
        {"field", "NAME=SPEC", CLI_LIST, &j.field, "codec of one field; may be repeated", 0, 0, NULL},
        {"budget", "rel=X", CLI_TEXT, &j.budget,
         "lossy float32 fields: mean relative squared error over them; codecs are planned", 0, 0, NULL},
        {"block", "BYTES", CLI_SIZE, &j.block, "decoded bytes of a block [64K]", 256, 0x1p30, NULL},
        {"random", NULL, CLI_FLAG, &j.random, "blocks of 16K, for reading single samples", 0, 0, NULL},
        {"samples-per-block", "N", CLI_SIZE, &j.samples_per_block, "instead of --block", 1, 0x1p26, NULL},
        {"format", "NAME", CLI_TEXT, &j.in.format, "text, jsonl, csv, idx, npy or files; default: by the first input",
         0, 0, NULL},
        {"split", "HOW", CLI_WORD, &j.in.split, "text: how to make samples", 0, 0, "windows|lines|documents"},
        {"window", "BYTES", CLI_SIZE, &j.in.window, "text: bytes of a window", 1, 0x1p30, NULL},
        {"separator", "TEXT", CLI_TEXT, &j.in.separator, "text: documents end with this; \\n and \\t are understood", 0,
         0, NULL},
        {"bytes", NULL, CLI_FLAG, &j.in.bytes, "text: take any bytes, not only UTF-8", 0, 0, NULL},
        {"select", "NAME", CLI_LIST, &j.in.select, "jsonl, csv: only this field; may be repeated", 0, 0, NULL},
        {"label", "NAME", CLI_TEXT, &j.in.label, "jsonl, csv: the field that holds classes [label]", 0, 0, NULL},
        {"delimiter", "C", CLI_TEXT, &j.in.delimiter, "csv: between fields [,]", 0, 0, NULL},
        {"float64", NULL, CLI_FLAG, &j.in.float64, "jsonl, csv: decimal numbers stay float64", 0, 0, NULL},
        {"threads", "N", CLI_INT, &j.threads, "that encode; the bytes do not depend on it", 1, 64, NULL},
        CLI_JSON(&j.json),
        CLI_END,
    };
    const cli_command cmd = {
        "taut data pack",
        "INPUT...",
        "pack files into a shard",
        "Codecs: taut data info --codecs lists them. OUT.taut appears complete or not at all.\n"
        "--json: shard samples bytes file_bytes blocks samples_per_block hash seconds\n\n"
        "  taut data pack book.txt -o book.taut --codec dense\n"
        "  taut data pack train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz -o mnist.taut\n"
        "  taut data pack chat.jsonl -o chat.taut --select prompt --select answer --field answer=dict\n"
        "  taut data pack photos/ -o photos.taut             folders below it are classes\n",
        options,
        1,
        1 << 20};
    int rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc != CLI_RUN) return rc;
    if (!j.out) return cli_usage("-o OUT.taut is missing");
    if (j.block && j.random) return cli_usage("--block and --random both say how large blocks are");
    if (j.budget && (rc = budget_parse(j.budget, &j.rel)) != CLI_OK) return rc;
    if ((rc = cli_apart("-o", j.out, (size_t)argc, argv)) != CLI_OK) return rc;
    j.im.options = &j.in;
    j.im.input = argv;
    j.im.inputs = argc;
    rc = pack(&j);
    taut_writer_destroy(j.writer);
    import_close(&j.im);
    return rc == CLI_OK ? report(&j) : rc;
}
