/* taut.c : the command. Finds the subcommand and hands over; `train` is a program of its own (libexec/taut-train), so
 * that nothing else has to load libtorch. */
#include "cli.h"
#include "cmd.h"
#include "../comm/context/settings.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* What this build left out stays listed, with the reason. */
#ifdef TAUT_HAVE_MPI
#define WITH_MPI(run) run
#else
#define WITH_MPI(run) NULL
#endif

#ifdef TAUT_HAVE_ZSTD
#define WITH_ZSTD(run) run
#else
#define WITH_ZSTD(run) NULL
#endif

static int cmd_train(int argc, char **argv);

typedef struct subcommand {
    const char *word, *second;         /* second: "codec" of "bench codec"; NULL = one word */
    int (*run)(int argc, char **argv); /* NULL: left out */
    const char *summary, *needs;       /* needs: what the build lacks where it is left out */
} subcommand;

static const subcommand subcommands[] = {
    {"info", NULL, cmd_info, "version, CPU path, features, codecs, settings", NULL},
    {"encode", NULL, cmd_encode, "compress a file of float32", NULL},
    {"decode", NULL, cmd_decode, "the inverse of encode", NULL},
    {"bench", "codec", cmd_bench_codec, "speed, size and error of codecs on this machine", NULL},
    {"bench", "allreduce", WITH_MPI(cmd_bench_allreduce), "compressed against native allreduce, under mpirun", "MPI"},
    {"plan", NULL, cmd_plan, "choose a codec per layer for recorded gradients", NULL},
    {"report", NULL, cmd_report, "logs of training runs as one page of pictures", NULL},
    {"top", NULL, cmd_top, "follow a running job in the terminal", NULL},
    {"data", NULL, WITH_ZSTD(cmd_data), "datasets as shards: pack, info, verify, cat, bench, ...", "zstd"},
    {"train", NULL, cmd_train, "train a model, under mpirun", NULL},
};
enum { SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

static void print_list(FILE *out)
{
    char name[40];
    for (int i = 0; i < SUBCOMMANDS; i++) {
        const subcommand *s = &subcommands[i];
        snprintf(name, sizeof name, "taut %s%s%s", s->word, s->second ? " " : "", s->second ? s->second : "");
        fprintf(out, "  %-22s %s", name, s->summary);
        fprintf(out, s->run ? "\n" : " (left out: built without %s)\n", s->needs);
    }
}

static int help(void)
{
    printf("taut : compressed allreduce for distributed training\n\nusage: taut SUBCOMMAND [options]\n\n");
    print_list(stdout);
    printf("\nEach has --help and --json. taut --version prints the version.\n"
           "Exit code: 0 done, 1 failed, 2 wrong usage.\n");
    return CLI_OK;
}

/* Nothing has this name. `typed` is what the user wrote, both words of it. */
static int unknown(const char *typed)
{
    char        names[SUBCOMMANDS][40];
    const char *words[SUBCOMMANDS], *near;
    for (int i = 0; i < SUBCOMMANDS; i++) {
        const subcommand *s = &subcommands[i];
        snprintf(names[i], sizeof names[i], "%s%s%s", s->word, s->second ? " " : "", s->second ? s->second : "");
        words[i] = names[i];
    }
    near = cli_nearest(typed, words, SUBCOMMANDS);
    fprintf(stderr, "taut: unknown subcommand '%s'%s%s%s; there are:\n", typed, near ? "; did you mean '" : "",
            near ? near : "", near ? "'?" : "");
    print_list(stderr);
    return CLI_USAGE;
}

static int cmd_train(int argc, char **argv)
{
    (void)argc;
    return cmd_start("taut-train", argv);
}

static const subcommand *find(int argc, char **argv)
{
    for (int i = 0; i < SUBCOMMANDS; i++) {
        const subcommand *s = &subcommands[i];
        if (strcmp(s->word, argv[1]) != 0) continue;
        if (!s->second || (argc > 2 && strcmp(s->second, argv[2]) == 0)) return s;
    }
    return NULL;
}

/* Settings in the environment that are none are told by whoever makes a communicator, on one rank; here for the others. `taut info` shows
 * what there is. */
static int check_settings(const subcommand *s, int argc, char **argv)
{
    taut__settings set;
    if (strcmp(s->word, "info") == 0 || strcmp(s->word, "train") == 0) return CLI_OK;
    if (s->second && strcmp(s->second, "allreduce") == 0) return CLI_OK;
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return CLI_OK;
    return taut__settings_load(NULL, &set) == TAUT_OK ? CLI_OK : cli_usage("%s", taut_last_error());
}

static int run(int argc, char **argv)
{
    const subcommand *s;
    char              typed[80];
    if (argc < 2) {
        help();
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 && argc > 2) { /* "help plan" is "plan --help" */
        memmove(argv + 1, argv + 2, (size_t)(argc - 2) * sizeof *argv);
        argv[argc - 1] = (char *)(uintptr_t) "--help";
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) return help();
    if (strcmp(argv[1], "--version") == 0) {
        int v = taut_version();
        printf("taut %d.%d.%d (wire %d)\n", v / 10000, v / 100 % 100, v % 100, taut_wire_version());
        return CLI_OK;
    }
    s = find(argc, argv);
    if (s) {
        int skip = s->second ? 2 : 1, code = check_settings(s, argc, argv);
        if (!s->run)
            return cli_fail("%s%s%s: left out: built without %s; see `make print-config`", s->word,
                            s->second ? " " : "", s->second ? s->second : "", s->needs);
        return code == CLI_OK ? s->run(argc - skip, argv + skip) : code;
    }
    if (strcmp(argv[1], "bench") == 0 && argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0))
        return help();
    snprintf(typed, sizeof typed, "%s%s%s", argv[1], strcmp(argv[1], "bench") == 0 && argc > 2 ? " " : "",
             strcmp(argv[1], "bench") == 0 && argc > 2 ? argv[2] : "");
    return unknown(typed);
}

int main(int argc, char **argv)
{
    cli_begin();
    return cli_end(run(argc, argv));
}
