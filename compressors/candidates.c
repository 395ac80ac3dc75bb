/* candidates.c : the table of specs that plans choose from. */
#include "grid/grid.h"
#include "candidates.h"
#include <string.h>

typedef struct row {
    uint32_t    family;
    bool        thorough;
    const char *format;    /* at most one %g */
    double      value[16]; /* up to the first 0 */
} row;

static const row rows[] = {
    {TAUT_FAMILY_HALF, false, "fp16", {1}},
    {TAUT_FAMILY_HALF, false, "bf16", {1}},
    {TAUT_FAMILY_QUANT, false, "quant:bits=%g", {1, 2, 3, 4, 5, 6, 7, 8}},
    {TAUT_FAMILY_QUANT, true, "quant:bits=%g,bucket=64", {1, 2, 3, 4, 5, 6, 7, 8}},
    {TAUT_FAMILY_QUANT, false, "quant:bits=%g,bucket=128", {2, 3, 4, 5}}, /* between two numbers of bits */
    {TAUT_FAMILY_QUANT, true, "quant:bits=%g,bucket=128", {1, 6, 7, 8}},
    {TAUT_FAMILY_QUANT, true, "quant:bits=%g,bucket=256", {1, 2, 3, 4, 5, 6, 7, 8}},
    {TAUT_FAMILY_QUANT, true, "quant:bits=%g,bucket=2048", {1, 2, 3, 4, 5, 6, 7, 8}},
    {TAUT_FAMILY_QUANT, true, "quant:bits=%g,bucket=64,norm=linf", {2, 3, 4, 5, 6, 7, 8}},
    {TAUT_FAMILY_QUANT, true, "quant:bits=%g,bucket=128,norm=linf", {2, 3, 4, 5, 6, 7, 8}},
    {TAUT_FAMILY_QUANT, true, "quant:bits=%g,norm=linf", {2, 3, 4, 5, 6, 7, 8}},
    {TAUT_FAMILY_TOPK, false, "topk:density=%g", {0.01, 0.1}},
    {TAUT_FAMILY_TOPK, true, "topk:density=%g", {0.001, 0.003, 0.03, 0.2, 0.3, 0.5}},
    {TAUT_FAMILY_POWERSGD, false, "powersgd:rank=%g", {1, 2, 4, 8, 16, 32}},
    {TAUT_FAMILY_POWERSGD, true, "powersgd:rank=%g", {3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 18, 20, 22, 24, 28}},
    {TAUT_FAMILY_POWERSGD, true, "powersgd:rank=%g", {40, 48, 56, 64, 80, 96}},
};

static const struct {
    const char *name;
    uint32_t    family;
} names[] = {
    {"half", TAUT_FAMILY_HALF},         {"quant", TAUT_FAMILY_QUANT}, {"topk", TAUT_FAMILY_TOPK},
    {"powersgd", TAUT_FAMILY_POWERSGD}, {"grid", TAUT_FAMILY_GRID},   {"all", TAUT_FAMILY_ALL},
};

taut_status taut__families_parse(const char *text, uint32_t *families)
{
    *families = 0;
    for (const char *at = text;; at++) {
        size_t len = strcspn(at, ","), i = 0, n = sizeof names / sizeof *names;
        while (i < n && (strlen(names[i].name) != len || strncmp(names[i].name, at, len) != 0)) i++;
        if (i == n)
            return taut__fail(TAUT_E_INVALID, "families '%s': '%.*s' must be half, quant, topk, powersgd, grid or all",
                              text, (int)len, at);
        *families |= names[i].family;
        at += len;
        if (!*at) return TAUT_OK;
    }
}

static bool suits(const char *text, const taut_tensor *t, taut_spec *spec)
{
    return taut__spec_parse(text, spec) == TAUT_OK && taut__spec_suits(spec, t) == TAUT_OK &&
           taut__spec_capacity(spec, t, t->elems) < t->elems * sizeof(float);
}

size_t taut__candidates(const taut_tensor *t, uint32_t families, bool thorough, taut_spec *spec, size_t max)
{
    size_t n = 0;
    char   text[64];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!(rows[i].family & families) || (rows[i].thorough && !thorough)) continue;
        for (const double *v = rows[i].value; n < max && v < rows[i].value + 16 && *v != 0; v++) {
            taut__snprintf(text, sizeof text, rows[i].format, *v);
            if (suits(text, t, &spec[n])) n++;
        }
    }
    return n;
}

size_t taut__careful_candidates(const taut_tensor *t, taut_spec *spec, size_t max)
{
    static const char *const texts[] = {"fp16", "bf16", "quant:bits=8,bucket=64", "quant:bits=8,bucket=64,norm=linf"};
    size_t                   n = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && n < max; i++) n += suits(texts[i], t, &spec[n]);
    return n;
}

void taut__grid_text(double rel, int code, size_t basis, char *dst, size_t cap)
{
    int n = taut__snprintf(dst, cap, "grid:rel=%.3g,code=%s", rel, code == GRID_RANS ? "rans" : "packed");
    if (basis > 0 && n > 0 && (size_t)n < cap) taut__snprintf(dst + n, cap - (size_t)n, ",basis=%zu", basis);
}
