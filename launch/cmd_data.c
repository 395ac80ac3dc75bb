/* cmd_data.c : `taut data`: finds the subcommand and hands over. */
#include "cli.h"
#include "cmd.h"
#include "cmd_data.h"
#include <stdio.h>
#include <string.h>

static const struct {
    const char *word;
    int (*run)(int argc, char **argv);
    const char *summary;
} subcommands[] = {
    {"pack", cmd_data_pack, "text, JSONL, CSV, IDX, .npy or folders into a shard"},
    {"index", cmd_data_index, "MDS, tar, Megatron, .npy, IDX, TFRecord, Arrow files, read as shards where they are"},
    {"export", cmd_data_export, "a shard as MDS, tar or .npy"},
    {"info", cmd_data_info, "fields, codecs, sizes and errors of a shard"},
    {"verify", cmd_data_verify, "read every byte of a shard and check it"},
    {"cat", cmd_data_cat, "samples of a shard, as they were"},
    {"bench", cmd_data_bench, "time of a sample, speed of reading, on this machine"},
    {"plan", cmd_data_plan, "which samples a job trains on: rs2, dedup, dsir, zipfit, ..."},
    {"distill", cmd_data_distill, "few images that stand for many"},
    {"compare", cmd_data_compare, "train the same model on several choices and on all data, side by side"},
};
enum { SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

static void list(FILE *out)
{
    for (int i = 0; i < SUBCOMMANDS; i++)
        fprintf(out, "  taut data %-8s %s\n", subcommands[i].word, subcommands[i].summary);
}

static int help(void)
{
    printf("taut data : datasets as shards\n\nusage: taut data SUBCOMMAND [options]\n\n");
    list(stdout);
    printf("\nEach has --help and --json. docs/data.md is the guide.\n");
    return CLI_OK;
}

int cmd_data(int argc, char **argv)
{
    const char *words[SUBCOMMANDS], *near;
    if (argc < 2) {
        help();
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) return help();
    for (int i = 0; i < SUBCOMMANDS; i++) {
        if (strcmp(argv[1], subcommands[i].word) == 0) return subcommands[i].run(argc - 1, argv + 1);
        words[i] = subcommands[i].word;
    }
    near = cli_nearest(argv[1], words, SUBCOMMANDS);
    fprintf(stderr, "taut data: unknown subcommand '%s'%s%s%s; there are:\n", argv[1], near ? "; did you mean '" : "",
            near ? near : "", near ? "'?" : "");
    list(stderr);
    return CLI_USAGE;
}
