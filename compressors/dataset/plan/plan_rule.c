/* plan_rule.c : stages as people type them. */
#include "plan.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long              ull;
__extension__ typedef unsigned __int128 u128;

/* One stage's words while it is read. */
typedef struct wish {
    char kind[16], budget[32], strata[TAUT__FIELD_NAME_MAX], file[1024], shares[512];
    int  replace; /* -1 = not said */
} wish;

enum { DECIMALS = 9 };

/* A decimal number with at most DECIMALS places, times 10^DECIMALS; *end is behind it. 0: there is none, or above 1000. */
static uint64_t scaled_decimal(const char *text, const char **end)
{
    uint64_t value = 0;
    int      places = -1; /* before the point */
    for (; (*text >= '0' && *text <= '9' && places < DECIMALS) || (*text == '.' && places < 0); text++) {
        if (*text == '.') {
            places = 0;
            continue;
        }
        value = 10 * value + (uint64_t)(*text - '0');
        if (places >= 0) places++;
        else if (value > 1000) return 0;
    }
    for (places = places < 0 ? 0 : places; places < DECIMALS; places++) value *= 10;
    *end = text;
    return value;
}

taut_status taut__plan_budget(const char *text, uint64_t of, uint64_t *samples)
{
    static const uint64_t one = 1000000000; /* 10^DECIMALS */
    const char           *rest = text;
    uint64_t              percent = scaled_decimal(text, &rest);
    bool                  number = text[0] >= '0' && text[0] <= '9';
    char                 *end;
    if (number && *text && text[strlen(text) - 1] == '%') {
        if (percent == 0 || percent > 100 * one || strcmp(rest, "%") != 0)
            return taut__fail(TAUT_E_RANGE, "budget=%s: must be above 0%%, 100%% at most, with %d decimals at most",
                              text, DECIMALS);
        *samples = (uint64_t)(((u128)of * percent + 50 * one) / (100 * one));
        if (*samples == 0) *samples = 1;
        return TAUT_OK;
    }
    errno = 0;
    *samples = number ? strtoull(text, &end, 10) : 0;
    if (!number || *end || errno)
        return taut__fail(TAUT_E_INVALID, "budget=%s: must be a share as in 10%%, or a number of samples as in 6000",
                          text);
    if (*samples == 0 || *samples > of)
        return taut__fail(TAUT_E_RANGE, "budget=%s: must be 1..%llu samples, which is what comes in", text, (ull)of);
    return TAUT_OK;
}

static taut_status read_key(wish *w, const char *key, size_t n)
{
    const char *equals = memchr(key, '=', n), *value = equals ? equals + 1 : NULL;
    size_t      name = equals ? (size_t)(equals - key) : n, room = 0, length = value ? n - name - 1 : 0;
    char       *to = NULL;
    bool        listed = strcmp(w->kind, "list") == 0, mixed = strcmp(w->kind, "mix") == 0;
    bool        chosen = strcmp(w->kind, "static") == 0 || strcmp(w->kind, "rs2") == 0;
    if ((chosen || mixed) && name == 6 && memcmp(key, "budget", 6) == 0) to = w->budget, room = sizeof w->budget;
    if (chosen && name == 6 && memcmp(key, "strata", 6) == 0) to = w->strata, room = sizeof w->strata;
    if (mixed && name == 5 && memcmp(key, "field", 5) == 0) to = w->strata, room = sizeof w->strata;
    if (mixed && name == 6 && memcmp(key, "shares", 6) == 0) to = w->shares, room = sizeof w->shares;
    if (listed && name == 4 && memcmp(key, "file", 4) == 0) to = w->file, room = sizeof w->file;
    if (to && length > 0 && length < room) {
        memcpy(to, value, length);
        to[length] = 0;
        return TAUT_OK;
    }
    if (strcmp(w->kind, "rs2") == 0 && name == 7 && memcmp(key, "replace", 7) == 0) {
        if (length == 3 && memcmp(value, "yes", 3) == 0) w->replace = 1;
        else if (length == 2 && memcmp(value, "no", 2) == 0) w->replace = 0;
        else return taut__fail(TAUT_E_INVALID, "%.*s: must be replace=yes or replace=no", (int)n, key);
        return TAUT_OK;
    }
    return taut__fail(TAUT_E_INVALID, "%s: '%.*s': must be %s", w->kind, (int)n, key,
                      listed                           ? "file=PATH"
                      : mixed                          ? "shares=2:1, field=FIELD or budget=10%"
                      : strcmp(w->kind, "rs2") == 0    ? "budget=10%, strata=FIELD or replace=yes|no"
                      : strcmp(w->kind, "static") == 0 ? "budget=10% or strata=FIELD"
                                                       : "without keys");
}

static taut_status read_wish(wish *w, const char *text, size_t n)
{
    const char *colon = memchr(text, ':', n), *end = text + n;
    size_t      word = colon ? (size_t)(colon - text) : n;
    memset(w, 0, sizeof *w);
    w->replace = -1;
    snprintf(w->kind, sizeof w->kind, "%.*s", (int)taut__min(word, sizeof w->kind - 1), text);
    if (strcmp(w->kind, "full") != 0 && strcmp(w->kind, "static") != 0 && strcmp(w->kind, "rs2") != 0 &&
        strcmp(w->kind, "mix") != 0 && strcmp(w->kind, "list") != 0)
        return TAUT_E_UNSUPPORTED;
    for (const char *at = colon ? colon + 1 : end; at < end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at)), *stop = comma ? comma : end;
        TAUT_TRY(read_key(w, at, (size_t)(stop - at)));
        at = comma ? comma + 1 : end;
    }
    return TAUT_OK;
}

static taut_status read_list_file(taut__stage *s, const char *path)
{
    taut__plan_list l = {.stage = s};
    char            line[4096], where[1100];
    taut_status     status = TAUT_OK;
    long            number = 0;
    FILE           *f = fopen(path, "r");
    if (!f) return taut__fail(TAUT_E_IO, "list: file=%s: %s", path, strerror(errno));
    while (status == TAUT_OK && fgets(line, sizeof line, f)) {
        size_t n = strlen(line);
        bool   whole = n > 0 && line[n - 1] == '\n';
        snprintf(where, sizeof where, "%s: line %ld", path, ++number);
        if (!whole && !feof(f))
            status = taut__fail(TAUT_E_INVALID, "%s: longer than %zu bytes", where, sizeof line - 2);
        else status = taut__plan_list_add(&l, line, strcspn(line, "#\n"), where);
    }
    if (status == TAUT_OK && ferror(f)) status = taut__fail(TAUT_E_IO, "list: file=%s: %s", path, strerror(errno));
    fclose(f);
    s->samples = s->listed;
    return status == TAUT_OK ? taut__plan_list_end(&l, path) : status;
}

/* "2:1:0.5": to whole numbers, exactly, by the decimals of scaled_decimal(). */
static taut_status read_shares(taut__stage *s, const char *text)
{
    const char *at = text;
    for (s->shares = 0; s->shares < TAUT__SHARES_MAX; at++) {
        const char *end = at;
        uint64_t    value = scaled_decimal(at, &end);
        if (end == at || (*end && *end != ':'))
            return taut__fail(TAUT_E_INVALID, "mix: shares=%s: must be numbers of 0..1000 joined by ':', as in 2:1:0.5",
                              text);
        s->share[s->shares++] = value / 1000; /* a millionth is the finest */
        at = end;
        if (!*at) return TAUT_OK;
    }
    return taut__fail(TAUT_E_RANGE, "mix: shares=%s: more than %d", text, TAUT__SHARES_MAX);
}

static taut_status wish_to_stage(const wish *w, const taut__plan_defaults *d, taut__stage *s)
{
    const char *budget = w->budget[0] ? w->budget : d->budget;
    s->samples = s->of;
    if (strcmp(w->kind, "full") == 0) return TAUT_OK;
    if (strcmp(w->kind, "list") == 0) {
        s->kind = TAUT__STAGE_LIST;
        if (!w->file[0]) return taut__fail(TAUT_E_INVALID, "list: needs file=PATH");
        return read_list_file(s, w->file);
    }
    if (strcmp(w->kind, "mix") == 0) {
        s->kind = TAUT__STAGE_MIX;
        if (!w->shares[0]) return taut__fail(TAUT_E_INVALID, "mix: needs shares, one a shard, as in mix:shares=2:1");
        snprintf(s->strata, sizeof s->strata, "%s", w->strata);
        TAUT_TRY(read_shares(s, w->shares));
        return budget ? taut__plan_budget(budget, s->of, &s->samples) : TAUT_OK;
    }
    s->kind = strcmp(w->kind, "rs2") == 0 ? TAUT__STAGE_RS2 : TAUT__STAGE_STATIC;
    if (s->kind == TAUT__STAGE_RS2) s->replace = w->replace >= 0 ? w->replace == 1 : d->replace;
    if (!w->strata[0] && d->strata && strlen(d->strata) >= sizeof s->strata)
        return taut__fail(TAUT_E_RANGE, "strata=%s: longer than %zu bytes", d->strata, sizeof s->strata - 1);
    snprintf(s->strata, sizeof s->strata, "%s", w->strata[0] ? w->strata : d->strata ? d->strata : "");
    if (!budget) return taut__fail(TAUT_E_INVALID, "%s: needs a budget, as in %s:budget=10%%", w->kind, w->kind);
    return taut__plan_budget(budget, s->of, &s->samples);
}

/* One stage: a rule of this file, or a method that looks at the samples. */
static taut_status read_stage(const taut__plan *p, const char *text, size_t n, const taut__plan_defaults *d,
                              taut__stage *s)
{
    wish        w;
    bool        known = false;
    taut_status status = read_wish(&w, text, n);
    if (status == TAUT_OK) return wish_to_stage(&w, d, s);
    if (status != TAUT_E_UNSUPPORTED) return status;
    if (d->measure && !taut__plan_repeats(p, p->stages))
        return taut__fail(
            TAUT_E_UNSUPPORTED,
            "'%.*s' after rs2, mix or infobatch: what comes in changes from round to round: put it before them", (int)n,
            text);
    if (d->measure) status = d->measure(d->measure_ctx, p, text, n, s, &known);
    if (known) return status;
    return taut__fail(TAUT_E_INVALID, "'%.*s': must be full, static, rs2, mix, list%s, joined by |", (int)n, text,
                      d->measure ? " or a method of `taut data plan --help`" : "");
}

taut_status taut__plan_add_rule(taut__plan *p, const char *rule, const taut__plan_defaults *defaults)
{
    size_t before = p->stages;
    for (const char *at = rule;; at++) {
        taut__stage s = {.of = p->stages ? taut__plan_samples(p) : taut__plan_of(p)};
        size_t      n = strcspn(at, "|"), left = n;
        const char *first = at;
        while (left > 0 && *first == ' ') first++, left--;
        while (left > 0 && first[left - 1] == ' ') left--;
        taut_status status = read_stage(p, first, left, defaults, &s);
        if (status == TAUT_OK) status = taut__plan_add_stage(p, &s);
        taut__free(s.list);
        taut__free(s.weight);
        if (status != TAUT_OK) {
            while (p->stages > before) {
                p->stages--;
                taut__free(p->stage[p->stages].list);
                taut__free(p->stage[p->stages].weight);
                memset(&p->stage[p->stages], 0, sizeof p->stage[0]);
            }
            return status;
        }
        at += n;
        if (!*at) return TAUT_OK;
    }
}
