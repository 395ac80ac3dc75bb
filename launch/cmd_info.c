/* cmd_info.c : `taut info`: what this build is and what it would do now. */
#include "cli.h"
#include "cmd.h"
#include "json.h"
#include "../comm/taut_nccl.h"
#include "../compressors/cuda/cuda.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* TAUT_HAVE_*: set to 1 by the Makefile for what it found. */
#ifndef TAUT_HAVE_MPI
#define TAUT_HAVE_MPI 0
#endif
#ifndef TAUT_HAVE_BLAS
#define TAUT_HAVE_BLAS 0
#endif
#ifndef TAUT_HAVE_TORCH
#define TAUT_HAVE_TORCH 0
#endif
#ifndef TAUT_HAVE_ZSTD
#define TAUT_HAVE_ZSTD 0
#endif
#ifndef TAUT_HAVE_JPEG
#define TAUT_HAVE_JPEG 0
#endif
#ifndef TAUT_HAVE_CUDA
#define TAUT_HAVE_CUDA 0
#endif

static const struct {
    const char *name;
    int         built;
    const char *gives;
} features[] = {
    {"mpi", TAUT_HAVE_MPI, "communicators over MPI, taut bench allreduce"},
    {"blas", TAUT_HAVE_BLAS, "fast matrix products in powersgd"},
    {"torch", TAUT_HAVE_TORCH, "the libtorch shim, taut train"},
    {"zstd", TAUT_HAVE_ZSTD, "shards, taut data"},
    {"jpeg", TAUT_HAVE_JPEG, "JPEGs decoded on read"},
    {"cuda", TAUT_HAVE_CUDA, "kernels of the codecs for a GPU (make CUDA=1)"},
};
enum { FEATURES = sizeof features / sizeof *features };

/* "Open MPI v4.1.4", "MPICH Version: 4.0.2": the beginning of what it says of itself; "" without one. */
#if TAUT_HAVE_MPI
#include <mpi.h>
static const char *mpi_library(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int         n = 0, to = 0;
    if (MPI_Get_library_version(text, &n) != MPI_SUCCESS) return "";
    text[strcspn(text, ",\n")] = 0;
    for (int i = 0; text[i]; i++)
        if (!isspace((unsigned char)text[i]) || (to > 0 && text[to - 1] != ' '))
            text[to++] = isspace((unsigned char)text[i]) ? ' ' : text[i];
    text[to] = 0;
    return text;
}
#else
static const char *mpi_library(void) { return ""; }
#endif

static void print_text(void)
{
    taut_setting s = {0};
    int          v = taut_version();
    printf("taut %d.%d.%d, wire version %d\nCPU path  %s (TAUT_CPU caps it)\nlibrary   %s\n\nfeatures\n", v / 10000,
           v / 100 % 100, v % 100, taut_wire_version(), taut_cpu_path(), taut_features());
    for (int i = 0; i < FEATURES; i++)
        printf("  %-10s %-9s %s\n", features[i].name, features[i].built ? "found" : "left out", features[i].gives);
    const char *gpu, *mpi = mpi_library();
    bool        usable = taut__cuda_get(&gpu) != NULL;
    printf("\nMPI       %s\nGPU       %s%s\n", *mpi ? mpi : "none", gpu,
           usable ? "; taut_allreduce_start_on() runs on it" : "");
    int nccl = taut_nccl_version();
    if (nccl) printf("NCCL      %d.%d.%d\n", nccl / 10000, nccl / 100 % 100, nccl % 100);
    else printf("NCCL      none: %s\n", taut_last_error());
    printf("\ncodecs\n");
    for (size_t i = 0; taut_codec_name(i); i++) printf("  %-10s %s\n", taut_codec_name(i), taut_codec_help(i));
    printf("\nsettings (value now; `taut info --env` explains them)\n");
    for (size_t i = 0; taut_setting_get(i, &s) == TAUT_OK; i++)
        printf("  %-22s %s%s\n", s.name, *s.value ? s.value : s.fallback, *s.value ? "  (set)" : "");
}

static void print_json(void)
{
    json_t      *o = json_object(), *list;
    taut_setting s = {0};
    char         version[32];
    int          v = taut_version();
    snprintf(version, sizeof version, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    jsn_text(o, "version", version);
    jsn_int(o, "wire_version", (uint64_t)taut_wire_version());
    jsn_text(o, "cpu_path", taut_cpu_path());
    jsn_text(o, "library", taut_features());
    list = json_object();
    for (int i = 0; i < FEATURES; i++) jsn_bool(list, features[i].name, features[i].built);
    json_object_set_new(o, "features", list);
    const char *gpu;
    jsn_text(o, "mpi_library", mpi_library());
    jsn_bool(o, "gpu_usable", taut__cuda_get(&gpu) != NULL);
    jsn_int(o, "nccl_version", (uint64_t)taut_nccl_version());
    jsn_text(o, "gpu", gpu);
    list = json_object();
    for (size_t i = 0; taut_codec_name(i); i++) jsn_text(list, taut_codec_name(i), taut_codec_help(i));
    json_object_set_new(o, "codecs", list);
    list = json_object();
    for (size_t i = 0; taut_setting_get(i, &s) == TAUT_OK; i++) jsn_text(list, s.name, *s.value ? s.value : s.fallback);
    json_object_set_new(o, "settings", list);
    jsn_print(o);
}

/* A cell of a Markdown table: '|' would end it. */
static void print_cell(const char *text)
{
    printf(" ");
    for (; *text; text++) printf(*text == '|' ? "\\|" : "%c", *text);
    printf(" |");
}

static void print_env_table(int debug)
{
    taut_setting s = {0};
    printf("\n| variable | default | meaning |\n|---|---|---|\n");
    for (size_t i = 0; taut_setting_get(i, &s) == TAUT_OK; i++) {
        if (!s.debug != !debug) continue;
        printf("| `%s` |", s.name);
        print_cell(*s.fallback ? s.fallback : "(none)");
        print_cell(s.help);
        printf("\n");
    }
}

/* docs/env.md is this output; tests/unit/test_docs.sh compares. */
static void print_env(void)
{
    printf("# Environment variables\n\n"
           "Generated by `taut info --env > docs/env.md`; do not edit. A variable that is set wins over the program's\n"
           "`taut_config`. Settings are read when a communicator is created, debugging aids once, when first needed. "
           "Sizes\n"
           "are in the unit that the name gives. `taut info` shows the values in force.\n\n"
           "## Settings\n");
    print_env_table(0);
    printf("\n## Debugging\n");
    print_env_table(1);
}

int cmd_info(int argc, char **argv)
{
    bool             json = false, env = false;
    const cli_option options[] = {
        {"env", NULL, CLI_FLAG, &env, "the settings' manual, as Markdown (docs/env.md)", 0, 0, NULL},
        CLI_JSON(&json),
        CLI_END,
    };
    const cli_command cmd = {
        "taut info", "", "version, wire version, CPU path, features, codecs, settings", NULL, options, 0, 0};
    int rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc != CLI_RUN) return rc;
    if (env) print_env();
    else if (!json) print_text();
    if (json) print_json();
    return CLI_OK;
}
