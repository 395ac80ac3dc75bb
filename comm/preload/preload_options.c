/* preload_options.c : see preload_options.h. */
#include "preload_options.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* 65536, 64K, 1.5M, 2G, 1e6; end: behind it. False if there is no number. */
static bool read_bytes(const char *text, const char **end, size_t *bytes)
{
    char  *stop;
    double v;
    if (!isdigit((unsigned char)*text) || toupper((unsigned char)text[1]) == 'X') return false;
    v = taut__strtod(text, &stop);
    if (*stop == '.' && stop[-1] == '.') stop--; /* "1..": the number ends before the dots */
    const char *units = "KMG", *unit = *stop ? strchr(units, toupper((unsigned char)*stop)) : NULL;
    for (int i = 0; unit && i <= unit - units; i++) v *= 1024;
    *end = stop + (unit != NULL);
    if (v > 1e18) return false;
    *bytes = (size_t)v;
    return true;
}

static bool read_pick(const char *at, const char **end, taut__pick *p)
{
    if (!read_bytes(at, end, &p->low)) {
        if (strncmp(at, "..", 2) != 0) return false;
        p->low = 0, *end = at;
    }
    p->by_number = strncmp(*end, "..", 2) != 0;
    p->high = p->low;
    if (p->by_number) return *end > at && isdigit((unsigned char)(*end)[-1]); /* a size alone would be ambiguous */
    *end += 2;
    if (!read_bytes(*end, end, &p->high)) p->high = SIZE_MAX;
    return p->low <= p->high;
}

taut_status taut__preload_picks(const char *name, const char *text, taut__pick *p, size_t *n)
{
    const char *at = text, *end = text;
    *n = 0;
    while (*at) {
        if (*n == TAUT_PICKS) return taut__fail(TAUT_E_RANGE, "%s=%s: at most %d items", name, text, TAUT_PICKS);
        if (!read_pick(at, &end, &p[*n]) || (*end && (*end != ',' || !end[1])))
            return taut__fail(
                TAUT_E_INVALID,
                "%s=%s: cannot read '%.20s': expected site numbers and ranges of bytes, as in 3,1M..4M,64K..", name,
                text, at);
        (*n)++;
        at = *end ? end + 1 : end;
    }
    return TAUT_OK;
}

bool taut__preload_picked(const taut__pick *p, size_t n, size_t site, size_t bytes)
{
    for (size_t i = 0; i < n; i++) {
        size_t v = p[i].by_number ? site : bytes;
        if (v >= p[i].low && v <= p[i].high) return true;
    }
    return false;
}

static void load_picks(const char *name, taut__pick *p, size_t *n)
{
    const char *text = getenv(name);
    if (!text || taut__preload_picks(name, text, p, n) == TAUT_OK) return;
    fprintf(stderr, "taut: %s; ignored\n", taut_last_error());
    *n = 0;
}

static int load_nonblocking(const char *text)
{
    static const char *const word[] = {"auto", "off", "on"};
    for (int i = 0; text && *text && i < 3; i++)
        if (strcmp(text, word[i]) == 0) return i - 1;
    if (text && *text) fprintf(stderr, "taut: TAUT_NONBLOCKING=%s: must be auto, on or off; auto is used\n", text);
    return -1;
}

static bool negative(const char *text)
{
    static const char *const word[] = {"0", "off", "no", "false"};
    for (size_t i = 0; i < sizeof word / sizeof *word; i++)
        if (strcasecmp(text, word[i]) == 0) return true;
    return false;
}

void taut__preload_options_load(taut__preload_options *o)
{
    const char *threshold = getenv("TAUT_THRESHOLD"), *dry = getenv("TAUT_DRYRUN"), *codec = getenv("TAUT_CODEC"),
               *budget = getenv("TAUT_BUDGET"), *end = "";
    *o = (taut__preload_options){.threshold = 1 << 16, .report = getenv("TAUT_REPORT")};
    if (threshold && *threshold && (!read_bytes(threshold, &end, &o->threshold) || *end)) {
        fprintf(stderr, "taut: TAUT_THRESHOLD=%s: must be a number of bytes, as in 65536, 64K or 1M; 64K is used\n",
                threshold);
        o->threshold = 1 << 16;
    }
    o->threshold = taut__max(o->threshold, 4096);
    load_picks("TAUT_INCLUDE", o->include, &o->includes);
    load_picks("TAUT_EXCLUDE", o->exclude, &o->excludes);
    o->dry_run = dry && *dry && !negative(dry);
    o->off = codec && strcmp(codec, "none") == 0;
    o->nonblocking = load_nonblocking(getenv("TAUT_NONBLOCKING"));
    o->codec_given = (codec && *codec) || (budget && *budget);
}
