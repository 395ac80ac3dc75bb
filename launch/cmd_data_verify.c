/* cmd_data_verify.c : `taut data verify`: every byte of shards against what was written. */
#include "cli.h"
#include "cmd_data.h"
#include "../comm/taut_data.h"
#include "../compressors/dataset/shard/shard.h"
#include "json.h"
#include <stdio.h>

static void progress(void *ctx, uint64_t done, uint64_t total)
{
    cli_progress_show(ctx, "%llu of %llu blocks", (unsigned long long)done, (unsigned long long)total);
}

static void bad(void *ctx, const char *text)
{
    json_t *list = ctx;
    fprintf(stderr, "bad: %s\n", text);
    json_array_append_new(list, json_string(text));
}

static int verify(const char *path, bool json)
{
    taut_shard        *s;
    taut_verify_result r = {.size = sizeof r};
    json_t            *o, *list = json_array();
    double             start = cli_now();
    cli_progress       line = {0};
    taut_status        st = taut_shard_open(path, &s);
    if (st == TAUT_OK) {
        st = taut__shard_verify(s, bad, list, &r, progress, &line);
        cli_progress_end(&line);
        taut_shard_close(s);
    }
    if (st == TAUT_OK)
        printf("%s: good: %llu blocks, %llu bytes, %.2f GB/s\n", path, (unsigned long long)r.blocks,
               (unsigned long long)r.bytes, (double)r.bytes / 1e9 / (cli_now() - start));
    if (json) {
        o = json_object();
        jsn_text(o, "shard", path);
        jsn_bool(o, "good", st == TAUT_OK);
        jsn_int(o, "blocks", r.blocks);
        jsn_int(o, "bad_blocks", r.bad_blocks);
        jsn_int(o, "bad_parts", r.bad_parts);
        jsn_text(o, "error", st == TAUT_OK ? "" : taut_last_error());
        json_object_set(o, "bad", list);
        jsn_print(o);
    }
    json_decref(list);
    return st == TAUT_OK ? CLI_OK : cli_status(st, "bad");
}

int cmd_data_verify(int argc, char **argv)
{
    bool              json = false;
    int               worst = CLI_OK;
    const cli_option  options[] = {CLI_JSON(&json), CLI_END};
    const cli_command cmd = {
        "taut data verify",
        "SHARD...",
        "read every byte of shards and check it",
        "Names each damaged block on stderr; exit code 1 if there is one. `zstd -t` tests the outer frames too.\n"
        "--json: one object per shard, one per line: shard good blocks bad_blocks bad_parts error bad[]\n",
        options,
        1,
        1 << 20};
    int rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc != CLI_RUN) return rc;
    for (int i = 0; i < argc; i++) {
        rc = verify(argv[i], json);
        if (rc != CLI_OK) worst = rc;
    }
    return worst;
}
