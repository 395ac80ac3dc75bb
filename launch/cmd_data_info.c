/* cmd_data_info.c : `taut data info`: what is in a shard; `--codecs`: the field codecs. */
#include "cli.h"
#include "cmd_data.h"
#include "../comm/taut_data.h"
#include "data/repeats_report.h"
#include "json.h"
#include <stdio.h>
#include <string.h>

static void shape_text(const taut_field *f, char *dst, size_t cap)
{
    int n = snprintf(dst, cap, "%s", taut_type_name(f->type));
    if (f->variable) {
        snprintf(dst + n, cap - (size_t)n, "[]");
        return;
    }
    for (uint32_t d = 0; d < f->ndim && (size_t)n < cap; d++)
        n += snprintf(dst + n, cap - (size_t)n, "%s%llu", d ? "x" : " ", (unsigned long long)f->shape[d]);
}

static void print_text(const taut_shard *s, const taut_shard_info *i)
{
    printf("%s: version %u, %llu samples in %llu blocks of %llu, %llu bytes, hash %016llx\n", taut_shard_path(s),
           i->version, (unsigned long long)i->samples, (unsigned long long)i->blocks,
           (unsigned long long)i->samples_per_block, (unsigned long long)i->file_bytes, (unsigned long long)i->hash);
    if (*taut_shard_source(s)) printf("source: %s\n", taut_shard_source(s));
    printf("%-16s %-7s %-12s %-20s %14s %14s %7s %10s\n", "field", "kind", "sample", "codec", "decoded", "stored",
           "ratio", "rel_err2");
    for (uint32_t k = 0; k < i->fields; k++) {
        taut_field f = TAUT_FIELD_INIT;
        char       shape[48];
        taut_shard_field(s, k, &f);
        shape_text(&f, shape, sizeof shape);
        printf("%-16s %-7s %-12s %-20s %14llu %14llu %7.2f %10.3g", f.name, taut_kind_name(f.kind), shape, f.codec,
               (unsigned long long)f.decoded_bytes, (unsigned long long)f.stored_bytes,
               f.stored_bytes && !i->foreign ? (double)f.decoded_bytes / (double)f.stored_bytes : 1, f.rel_err2);
        if (f.psnr_db > 0) printf("  psnr %.2f dB", f.psnr_db);
        printf("\n");
    }
    for (size_t k = 0; taut_shard_foreign(s, k); k++)
        printf("%s %s\n", k ? "          " : "samples in", taut_shard_foreign(s, k));
    if (i->foreign) return;
    printf("zstd -dc gives %s\n",
           i->plain ? "the samples one behind the other" : "no single field; taut data cat does");
}

static json_t *field_json(const taut_field *f)
{
    json_t *o = json_object(), *shape = json_array();
    jsn_text(o, "name", f->name);
    jsn_text(o, "kind", taut_kind_name(f->kind));
    jsn_text(o, "type", taut_type_name(f->type));
    jsn_bool(o, "variable", f->variable != 0);
    for (uint32_t d = 0; d < f->ndim; d++) json_array_append_new(shape, json_integer((json_int_t)f->shape[d]));
    json_object_set_new(o, "shape", shape);
    jsn_text(o, "codec", f->codec);
    jsn_int(o, "sample_bytes", f->sample_bytes);
    jsn_int(o, "decoded_bytes", f->decoded_bytes);
    jsn_int(o, "stored_bytes", f->stored_bytes);
    jsn_real(o, "rel_err2", f->rel_err2);
    jsn_real(o, "max_err", f->max_err);
    jsn_real(o, "psnr_db", f->psnr_db);
    return o;
}

static void print_json(const taut_shard *s, const taut_shard_info *i)
{
    json_t *o = json_object(), *fields = json_array(), *files = json_array();
    char    hash[24];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)i->hash);
    jsn_text(o, "shard", taut_shard_path(s));
    jsn_int(o, "version", i->version);
    jsn_int(o, "samples", i->samples);
    jsn_int(o, "blocks", i->blocks);
    jsn_int(o, "samples_per_block", i->samples_per_block);
    jsn_int(o, "file_bytes", i->file_bytes);
    jsn_text(o, "hash", hash);
    jsn_bool(o, "plain", i->plain);
    for (size_t k = 0; taut_shard_foreign(s, k); k++)
        json_array_append_new(files, json_string(taut_shard_foreign(s, k)));
    json_object_set_new(o, "files", files);
    jsn_text(o, "source", taut_shard_source(s));
    jsn_text(o, "labels", taut_shard_labels(s));
    for (uint32_t k = 0; k < i->fields; k++) {
        taut_field f = TAUT_FIELD_INIT;
        taut_shard_field(s, k, &f);
        json_array_append_new(fields, field_json(&f));
    }
    json_object_set_new(o, "fields", fields);
    jsn_print(o);
}

int cmd_data_info(int argc, char **argv)
{
    bool                 json = false, codecs = false, repeats = false, exact = false;
    int64_t              ngram = TAUT__MINHASH_NGRAM;
    taut__repeats_config audit = TAUT__REPEATS_INIT;
    const cli_option     options[] = {
            {"codecs", NULL, CLI_FLAG, &codecs, "list the field codecs and their keys instead", 0, 0, NULL},
            {"repeats", NULL, CLI_FLAG, &repeats,
             "audit instead: exact and near copies of samples, effective unique data, all shards together", 0, 0, NULL},
            {"field", "NAME", CLI_TEXT, &audit.field, "--repeats: which field; default: the first that is no label", 0, 0,
             NULL},
            {"epochs", "E", CLI_REAL, &audit.epochs, "--repeats: passes over everything", 1, 1e6, NULL},
            {"jaccard", "J", CLI_REAL, &audit.jaccard, "--repeats: samples whose sets of n-grams overlap so much are near",
             0.01, 1, NULL},
            {"ngram", "N", CLI_INT, &ngram, "--repeats: words, or token ids, of an n-gram", 1, 32, NULL},
            {"exact", NULL, CLI_FLAG, &exact, "--repeats: exact copies only, which is faster", 0, 0, NULL},
            CLI_JSON(&json),
            CLI_END,
    };
    const cli_command cmd = {
        "taut data info",
        "SHARD...",
        "fields, codecs, sizes and errors of shards",
        "--json: one object per shard, one per line: shard version samples blocks samples_per_block file_bytes hash "
        "plain files[] (of an index) source\n"
        "labels fields[]: name kind type variable shape codec sample_bytes decoded_bytes stored_bytes rel_err2 max_err "
        "psnr_db\n"
        "--repeats --json: shards field unit samples units exact_duplicates near near_duplicates groups unique_exact "
        "unique epochs\n"
        "repeats effective effective_groups most most_first often_groups often_unique often_all often_copies warning\n",
        options,
        0,
        1 << 20};
    int rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc != CLI_RUN) return rc;
    if (repeats && argc) {
        audit.near = !exact;
        audit.ngram = (unsigned)ngram;
        return repeats_report((size_t)argc, argv, &audit, json);
    }
    if (codecs) {
        for (size_t i = 0; taut_field_codec_name(i); i++)
            printf("  %-10s %s\n", taut_field_codec_name(i), taut_field_codec_help(i));
        return CLI_OK;
    }
    if (argc == 0) return cli_usage("missing operand; expected: SHARD...");
    for (int i = 0; i < argc; i++) {
        taut_shard     *s;
        taut_shard_info info = {.size = sizeof info};
        taut_status     st = taut_shard_open(argv[i], &s);
        if (st != TAUT_OK) return cli_status(st, "cannot open");
        taut_shard_get_info(s, &info);
        print_text(s, &info);
        if (json) print_json(s, &info);
        taut_shard_close(s);
    }
    return CLI_OK;
}
