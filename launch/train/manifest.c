/* manifest.c : see manifest.h. Parsing prints what it read again and compares: nothing but the canonical text passes. */
#include "manifest.h"
#include "../cli.h"
#include "ranks.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { VERSION = 2, HEAD_BYTES = 320 + 2 * MANIFEST_DATA_MAX, LINE_BYTES = 96, RANKS_MAX = MANIFEST_BYTES_MAX / 128 };

static size_t print_file(char *at, const char *name, uint64_t rank, const stored_sum *s)
{
    char number[24] = "";
    if (rank != UINT64_MAX) snprintf(number, sizeof number, "%" PRIu64, rank);
    return (size_t)sprintf(at, "%s%s %" PRIu64 " %016" PRIx64 "%016" PRIx64 "\n", name, number, s->bytes, s->high,
                           s->low);
}

char *manifest_print(const manifest *m)
{
    char *text = malloc(HEAD_BYTES + (m->ranks + 2) * LINE_BYTES), *at = text;
    if (!text) return NULL;
    at += sprintf(at, "taut-checkpoint %d\ngeneration %" PRIu64 "\nstep %" PRIu64 "\nranks %" PRIu64 "\n", VERSION,
                  m->generation, m->step, m->ranks);
    at += sprintf(at, "seed %" PRIu64 "\nbatch %" PRIu64 "\nsamples %" PRIu64 "\ndata ", m->seed, m->batch, m->samples);
    for (size_t i = 0; i < m->data_bytes; i++) at += sprintf(at, "%02x", m->data[i]);
    at += sprintf(at, m->data_bytes ? "\n" : "-\n");
    at += print_file(at, "model", UINT64_MAX, &m->model);
    for (uint64_t r = 0; r < m->ranks; r++) at += print_file(at, "rank", r, &m->rank[r]);
    sprintf(at, "sum %016" PRIx64 "\n", (uint64_t)XXH3_64bits(text, (size_t)(at - text)));
    return text;
}

/* Reads one file's line; *used is its length. */
static bool scan_file(const char *at, const char *format, stored_sum *s, int *used)
{
    *used = 0;
    /* cppcheck-suppress wrongPrintfScanfArgNum ; the callers' formats have three numbers and %n */
    /* NOLINTNEXTLINE(cert-err34-c): manifest_parse() writes it again and compares */
    return sscanf(at, format, &s->bytes, &s->high, &s->low, used) == 3 && *used > 0;
}

static bool scan_data(manifest *m, const char *hex)
{
    size_t n = strlen(hex) / 2;
    if (strcmp(hex, "-") == 0) return true;
    for (size_t i = 0; i < n; i++) /* NOLINTNEXTLINE(cert-err34-c): two digits fit */
        if (sscanf(hex + 2 * i, "%2" SCNx8, &m->data[i]) != 1) return false;
    m->data_bytes = n;
    return true;
}

static bool scan_head(manifest *m, const char *text, int *used)
{
    char hex[2 * MANIFEST_DATA_MAX + 1];
    _Static_assert(MANIFEST_DATA_MAX == 128, "the width of %256 below");
    *used = 0;
    /* NOLINTNEXTLINE(cert-err34-c): manifest_parse() writes it again and compares */
    return sscanf(text,
                  "taut-checkpoint %*d generation %" SCNu64 " step %" SCNu64 " ranks %" SCNu64 " seed %" SCNu64
                  " batch %" SCNu64 " samples %" SCNu64 " data %256[-0-9a-f] %n",
                  &m->generation, &m->step, &m->ranks, &m->seed, &m->batch, &m->samples, hex, used) == 7 &&
           *used > 0 && m->ranks >= 1 && m->ranks <= RANKS_MAX && scan_data(m, hex);
}

static bool scan(manifest *m, const char *text)
{
    const char *at = text;
    int         used;
    if (!scan_head(m, at, &used)) return false;
    at += used;
    if (!scan_file(at, "model %" SCNu64 " %16" SCNx64 "%16" SCNx64 " %n", &m->model, &used)) return false;
    at += used;
    if (!(m->rank = calloc(m->ranks, sizeof *m->rank))) return false;
    for (uint64_t r = 0; r < m->ranks; r++, at += used)
        if (!scan_file(at, "rank%*u %" SCNu64 " %16" SCNx64 "%16" SCNx64 " %n", &m->rank[r], &used)) return false;
    return true;
}

int manifest_parse(manifest *m, const char *what, const char *path, const char *text, size_t n)
{
    char *again = NULL;
    int   version;
    bool  same;
    *m = (manifest){0};
    /* NOLINTNEXTLINE(cert-err34-c): at most nine digits */
    if (sscanf(text, "taut-checkpoint %9d", &version) != 1)
        return fault(CLI_FAILED, "%s: %s: not a checkpoint of taut train: it does not begin with 'taut-checkpoint'",
                     what, path);
    if (version != VERSION)
        return fault(CLI_FAILED, "%s: %s: checkpoint of version %d: this taut reads version %d", what, path, version,
                     VERSION);
    same = scan(m, text) && (again = manifest_print(m)) != NULL && strlen(again) == n && memcmp(again, text, n) == 0;
    free(again);
    if (same) return 0;
    manifest_free(m);
    return fault(CLI_FAILED, "%s: %s: damaged: its lines do not match its checksum", what, path);
}

void manifest_free(manifest *m)
{
    free(m->rank);
    *m = (manifest){0};
}
