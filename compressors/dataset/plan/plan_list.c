/* plan_list.c : index lists, "1 5-9=0.5 12". */
#include "plan.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

static taut_status make_room(taut__plan_list *l, const char *where)
{
    taut__stage *s = l->stage;
    size_t       room = l->room ? 2 * l->room : 1024;
    uint64_t    *list = taut__alloc(room, sizeof *list);
    float       *weight = taut__alloc(room, sizeof *weight);
    if (!list || !weight) {
        taut__free(list);
        taut__free(weight);
        return taut__fail(TAUT_E_NOMEM, "%s: out of memory for a list of %zu places", where, room);
    }
    if (s->listed) {
        memcpy(list, s->list, (size_t)s->listed * sizeof *list);
        memcpy(weight, s->weight, (size_t)s->listed * sizeof *weight);
    }
    taut__free(s->list);
    taut__free(s->weight);
    s->list = list;
    s->weight = weight;
    l->room = room;
    return TAUT_OK;
}

static taut_status append(taut__plan_list *l, uint64_t place, float weight, const char *where)
{
    taut__stage *s = l->stage;
    if (place >= s->of)
        return taut__fail(TAUT_E_RANGE, "%s: place %llu: must be 0..%llu", where, (ull)place, (ull)(s->of - 1));
    if (s->listed >= s->of)
        return taut__fail(TAUT_E_RANGE, "%s: more than %llu places: one is there twice", where, (ull)s->of);
    if (s->listed == l->room) TAUT_TRY(make_room(l, where));
    s->list[s->listed] = place;
    s->weight[s->listed++] = weight;
    l->weighted |= weight != 1;
    return TAUT_OK;
}

/* "5", "5-9", each perhaps with "=0.5". */
static taut_status add_token(taut__plan_list *l, char *token, const char *where)
{
    char  *equals = strchr(token, '='), *end;
    double weight = 1;
    ull    first, last;
    errno = 0;
    if (equals) {
        *equals = 0;
        weight = taut__strtod(equals + 1, &end);
        if (end == equals + 1 || *end || !isfinite(weight) || !((float)weight > 0) || !isfinite((float)weight))
            return taut__fail(TAUT_E_RANGE, "%s: weight '%s': must be a number above 0", where, equals + 1);
    }
    first = last = strtoull(token, &end, 10);
    if (token[0] >= '0' && token[0] <= '9' && *end == '-' && end[1] >= '0' && end[1] <= '9')
        last = strtoull(end + 1, &end, 10);
    if (token[0] < '0' || token[0] > '9' || *end || errno || last < first)
        return taut__fail(TAUT_E_INVALID, "%s: '%s': must be a place or a range FIRST-LAST, as in 5 or 5-9", where,
                          token);
    if (last >= l->stage->of)
        return taut__fail(TAUT_E_RANGE, "%s: place %llu: must be 0..%llu", where, last, (ull)(l->stage->of - 1));
    for (ull place = first; place <= last; place++) TAUT_TRY(append(l, place, (float)weight, where));
    return TAUT_OK;
}

taut_status taut__plan_list_add(taut__plan_list *l, const char *text, size_t bytes, const char *where)
{
    char token[96];
    for (size_t at = 0; at < bytes;) {
        size_t n = 0;
        while (at < bytes && strchr(" \t\r", text[at])) at++;
        while (at + n < bytes && !strchr(" \t\r", text[at + n])) n++;
        if (n == 0) break;
        if (n >= sizeof token || memchr(text + at, 0, n))
            return taut__fail(TAUT_E_INVALID, "%s: '%.20s...': must be a place or a range FIRST-LAST", where,
                              text + at);
        memcpy(token, text + at, n);
        token[n] = 0;
        TAUT_TRY(add_token(l, token, where));
        at += n;
    }
    return TAUT_OK;
}

static taut_status twice(const char *where, uint64_t place)
{
    return taut__fail(TAUT_E_INVALID, "%s: place %llu is there twice", where, (ull)place);
}

/* A bit for every sample there is. */
static taut_status once_by_bits(const taut__stage *s, const char *where)
{
    uint8_t    *seen = taut__alloc((size_t)(s->of / 8 + 1), 1);
    taut_status status = TAUT_OK;
    if (!seen) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", where);
    for (uint64_t i = 0; status == TAUT_OK && i < s->listed; i++) {
        uint8_t bit = (uint8_t)(1u << (s->list[i] % 8));
        if (seen[s->list[i] / 8] & bit) status = twice(where, s->list[i]);
        seen[s->list[i] / 8] |= bit;
    }
    taut__free(seen);
    return status;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static taut_status once_by_order(const taut__stage *s, const char *where)
{
    uint64_t   *sorted = taut__alloc((size_t)s->listed, sizeof *sorted);
    taut_status status = TAUT_OK;
    if (!sorted) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", where);
    memcpy(sorted, s->list, (size_t)s->listed * sizeof *sorted);
    qsort(sorted, (size_t)s->listed, sizeof *sorted, ascending);
    for (uint64_t i = 1; status == TAUT_OK && i < s->listed; i++)
        if (sorted[i] == sorted[i - 1]) status = twice(where, sorted[i]);
    taut__free(sorted);
    return status;
}

/* Memory is that of the list, whatever number of samples the text claims. */
taut_status taut__plan_list_end(taut__plan_list *l, const char *where)
{
    taut__stage *s = l->stage;
    taut_status  status;
    if (s->listed == 0) return taut__fail(TAUT_E_RANGE, "%s: an empty list: must have at least 1 place", where);
    status = s->of / 8 / sizeof(uint64_t) <= s->listed ? once_by_bits(s, where) : once_by_order(s, where);
    if (!l->weighted) {
        taut__free(s->weight);
        s->weight = NULL;
    }
    return status;
}

taut_status taut__plan_list_print(const taut__stage *s, taut__plan_text *t)
{
    enum { PER_LINE = 12 };
    int tokens = 0;
    for (uint64_t i = 0, run; i < s->listed; i += run, tokens++) {
        float w = s->weight ? s->weight[i] : 1;
        for (run = 1; i + run < s->listed && s->list[i + run] == s->list[i] + run; run++)
            if (s->weight && s->weight[i + run] != w) break;
        TAUT_TRY(taut__plan_put(t, "%s %llu", tokens % PER_LINE ? "" : tokens ? "\nindex" : "index", (ull)s->list[i]));
        if (run > 1) TAUT_TRY(taut__plan_put(t, "-%llu", (ull)(s->list[i] + run - 1)));
        if (w != 1) TAUT_TRY(taut__plan_put(t, "=%.9g", (double)w));
    }
    return taut__plan_put(t, "\n");
}
