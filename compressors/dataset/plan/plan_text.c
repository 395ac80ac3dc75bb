/* plan_text.c : plans as text. One item a line:
 *
 *      taut-plan 1
 *      shard 0f1e2d3c4b5a6978 60000 mnist-train.taut      hash, samples, name (the rest of the line)
 *      seed 1
 *      rounds 20
 *      window 64                                          chunks shuffled together; 0 = all samples at once
 *      stage rs2 of 60000 keep 6000 replace no strata label
 *      stage list of 6000 keep 900 by dedup:jaccard=0.8 order kept bucket 64     by, order and bucket where they apply
 *      index 0 5-9=0.5 ...                                after "stage list" and "stage prune": places among what comes in, weights
 *      stage prune of 6000 keep 4000 by infobatch         those that are listed may be left out
 *      stage mix of 6000 keep 600 shares 2:1              one number a shard, or with "strata label" a class
 *      end 89abcdef01234567                               XXH64 of every byte before this line
 *
 * Empty lines and lines that start with # are skipped. */
#include "plan.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef unsigned long long ull;

static const char *const kind_name[] = {"full", "static", "list", "rs2", "mix", "prune"};
enum { KINDS = sizeof kind_name / sizeof *kind_name };
static const char *const order_name[] = {"shuffled", "kept", "buckets"};

/* ---- writing ---- */

static taut_status grow(taut__plan_text *t, size_t room)
{
    char *more = taut__alloc(room, 1);
    if (!more) return taut__fail(TAUT_E_NOMEM, "plan: out of memory for %zu bytes of text", room);
    if (t->bytes) memcpy(more, t->text, t->bytes);
    taut__free(t->text);
    t->text = more;
    t->room = room;
    return TAUT_OK;
}

/* A name may be as long as a path. */
taut_status taut__plan_put(taut__plan_text *t, const char *fmt, ...)
{
    enum { USUAL = 512 };
    if (t->bytes + USUAL > t->room) TAUT_TRY(grow(t, 2 * (t->room + USUAL)));
    for (;;) {
        va_list ap;
        va_start(ap, fmt);
        int n = taut__vsnprintf(t->text + t->bytes, t->room - t->bytes, fmt, ap);
        va_end(ap);
        if (n < 0) return taut__fail(TAUT_E_INVALID, "plan: text cannot be printed");
        if (t->bytes + (size_t)n < t->room) {
            t->bytes += (size_t)n;
            return TAUT_OK;
        }
        TAUT_TRY(grow(t, 2 * (t->bytes + (size_t)n + 1)));
    }
}

static taut_status put_stage(const taut__stage *s, taut__plan_text *t)
{
    TAUT_TRY(taut__plan_put(t, "stage %s of %llu keep %llu", kind_name[s->kind], (ull)s->of, (ull)s->samples));
    if (s->kind == TAUT__STAGE_RS2) TAUT_TRY(taut__plan_put(t, " replace %s", s->replace ? "yes" : "no"));
    if (s->strata[0]) TAUT_TRY(taut__plan_put(t, " strata %s", s->strata));
    if (s->by[0]) TAUT_TRY(taut__plan_put(t, " by %s", s->by));
    if (s->order) TAUT_TRY(taut__plan_put(t, " order %s bucket %llu", order_name[s->order], (ull)s->bucket));
    for (uint32_t i = 0; i < s->shares; i++)
        TAUT_TRY(taut__plan_put(t, "%s%llu", i ? ":" : " shares ", (ull)s->share[i]));
    TAUT_TRY(taut__plan_put(t, "\n"));
    return s->list ? taut__plan_list_print(s, t) : TAUT_OK;
}

static taut_status put_all(taut__plan *p, taut__plan_text *t)
{
    TAUT_TRY(taut__plan_check(p));
    TAUT_TRY(taut__plan_put(t, "taut-plan %d\n", taut__plan_newer(p) ? TAUT__PLAN_VERSION : 1));
    for (size_t i = 0; i < p->shards; i++) {
        const taut__plan_shard *s = &p->shard[i];
        TAUT_TRY(taut__plan_put(t, "shard %016llx %llu %s\n", (ull)s->hash, (ull)s->samples, s->name));
    }
    TAUT_TRY(taut__plan_put(t, "seed %llu\nrounds %llu\nwindow %llu\n", (ull)p->seed, (ull)p->rounds, (ull)p->window));
    for (size_t i = 0; i < p->stages; i++) TAUT_TRY(put_stage(&p->stage[i], t));
    p->hash = XXH64(t->text, t->bytes, 0);
    return taut__plan_put(t, "end %016llx\n", (ull)p->hash);
}

taut_status taut__plan_print(taut__plan *p, char **text, size_t *bytes)
{
    taut__plan_text t = {0};
    taut_status     status = put_all(p, &t);
    if (status != TAUT_OK) {
        taut__free(t.text);
        t = (taut__plan_text){0};
    }
    *text = t.text;
    *bytes = t.bytes;
    return status;
}

/* ---- reading ---- */

typedef struct parser {
    taut__plan     *plan;
    const char     *name;
    char            where[300]; /* "P.plan: line 7" */
    long            line;
    bool            seed, rounds, window, listing;
    uint64_t        keep;  /* of the stage that is being read */
    taut__stage     stage; /* a list that is being read */
    taut__plan_list list;
} parser;

/* Takes the next word of *at; "" at the end. */
static void word(const char **at, char *dst, size_t cap)
{
    size_t n = strspn(*at, " \t");
    *at += n;
    n = strcspn(*at, " \t");
    snprintf(dst, cap, "%.*s", (int)taut__min(n, cap - 1), *at);
    *at += n;
}

static bool number(const char *text, int base, uint64_t *value)
{
    char *end;
    bool  digit = base == 16 ? strspn(text, "0123456789abcdef") == strlen(text) : text[0] >= '0' && text[0] <= '9';
    errno = 0;
    *value = strtoull(text, &end, base);
    return digit && *text && !*end && !errno;
}

static taut_status take_number(parser *r, const char **at, const char *what, uint64_t *value)
{
    char text[32];
    word(at, text, sizeof text);
    if (number(text, 10, value)) return TAUT_OK;
    return taut__fail(TAUT_E_CORRUPT, "%s: %s '%s': must be a whole number", r->where, what, text);
}

static taut_status take_hash(parser *r, const char **at, uint64_t *value)
{
    char text[32];
    word(at, text, sizeof text);
    if (strlen(text) == 16 && number(text, 16, value)) return TAUT_OK;
    return taut__fail(TAUT_E_CORRUPT, "%s: hash '%s': must be 16 hexadecimal digits", r->where, text);
}

static taut_status take_setting(parser *r, const char **at, const char *what, bool *seen, uint64_t *value)
{
    if (*seen) return taut__fail(TAUT_E_CORRUPT, "%s: %s for the second time", r->where, what);
    *seen = true;
    return take_number(r, at, what, value);
}

/* A failure of plan.c or plan_list.c, with the line. */
static taut_status located(const parser *r, taut_status s)
{
    char why[512];
    if (s == TAUT_OK) return s;
    snprintf(why, sizeof why, "%s", taut_last_error());
    if (strncmp(why, r->where, strlen(r->where)) == 0) return s; /* it says so already */
    return taut__fail(s == TAUT_E_NOMEM ? s : TAUT_E_CORRUPT, "%s: %s", r->where, why);
}

static taut_status take_shard(parser *r, const char *at)
{
    uint64_t hash, samples;
    TAUT_TRY(take_hash(r, &at, &hash));
    TAUT_TRY(take_number(r, &at, "samples", &samples));
    at += strspn(at, " \t");
    if (!*at) return taut__fail(TAUT_E_CORRUPT, "%s: the shard has no name", r->where);
    return located(r, taut__plan_add_shard(r->plan, at, hash, samples));
}

static taut_status end_list(parser *r)
{
    taut_status s;
    if (!r->listing) return TAUT_OK;
    r->listing = false;
    s = taut__plan_list_end(&r->list, r->where);
    r->stage.samples = r->keep;
    if (s == TAUT_OK && r->stage.kind == TAUT__STAGE_LIST && r->stage.listed != r->keep)
        s = taut__fail(TAUT_E_CORRUPT, "%s: the list before this line has %llu places: must be the %llu of its stage",
                       r->where, (ull)r->stage.listed, (ull)r->keep);
    return s == TAUT_OK ? located(r, taut__plan_add_stage(r->plan, &r->stage)) : located(r, s);
}

/* "2:1:1" */
static bool take_shares(taut__stage *s, const char *text)
{
    char one[24];
    for (s->shares = 0; s->shares < TAUT__SHARES_MAX; text++) {
        size_t n = strcspn(text, ":");
        snprintf(one, sizeof one, "%.*s", (int)taut__min(n, sizeof one - 1), text);
        if (!number(one, 10, &s->share[s->shares++])) return false;
        text += n;
        if (!*text) return true;
    }
    return false;
}

static bool take_order(taut__stage *s, const char *text)
{
    for (int i = TAUT__ORDER_KEPT; i <= TAUT__ORDER_BUCKETS; i++)
        if (strcmp(text, order_name[i]) == 0) s->order = (taut__list_order)i;
    return s->order != TAUT__ORDER_SHUFFLED;
}

static taut_status take_stage_words(parser *r, const char *at)
{
    taut__stage *s = &r->stage;
    char         key[32], value[1024];
    for (word(&at, key, sizeof key); *key; word(&at, key, sizeof key)) {
        if (strcmp(key, "of") == 0) TAUT_TRY(take_number(r, &at, key, &s->of));
        else if (strcmp(key, "keep") == 0) TAUT_TRY(take_number(r, &at, key, &r->keep));
        else if (strcmp(key, "bucket") == 0) TAUT_TRY(take_number(r, &at, key, &s->bucket));
        else if (word(&at, value, sizeof value), strcmp(key, "replace") == 0 && strcmp(value, "yes") == 0)
            s->replace = true;
        else if (strcmp(key, "replace") == 0 && strcmp(value, "no") == 0) s->replace = false;
        else if (strcmp(key, "strata") == 0 && *value && strlen(value) < sizeof s->strata) strcpy(s->strata, value);
        else if (strcmp(key, "by") == 0 && *value && strlen(value) < sizeof s->by) strcpy(s->by, value);
        else if (strcmp(key, "order") == 0 && take_order(s, value)) {
        } else if (strcmp(key, "shares") == 0 && take_shares(s, value)) {
        } else
            return taut__fail(TAUT_E_CORRUPT,
                              "%s: '%s %s': must be of N, keep N, replace yes|no, strata FIELD, by METHOD, order "
                              "kept|buckets, bucket N or shares N:N...",
                              r->where, key, value);
    }
    return TAUT_OK;
}

static taut_status take_stage(parser *r, const char *at)
{
    char   name[32];
    size_t kind = 0;
    word(&at, name, sizeof name);
    while (kind < KINDS && strcmp(name, kind_name[kind]) != 0) kind++;
    if (kind == KINDS)
        return taut__fail(TAUT_E_CORRUPT, "%s: stage '%s': must be full, static, list, rs2, mix or prune", r->where,
                          name);
    r->stage = (taut__stage){.kind = (taut__stage_kind)kind};
    r->keep = 0;
    TAUT_TRY(take_stage_words(r, at));
    if (kind == TAUT__STAGE_LIST || kind == TAUT__STAGE_PRUNE) { /* its lines follow */
        r->list = (taut__plan_list){.stage = &r->stage};
        r->listing = true;
        return TAUT_OK;
    }
    r->stage.samples = r->keep;
    return located(r, taut__plan_add_stage(r->plan, &r->stage));
}

static taut_status take_line(parser *r, const char *line)
{
    const char *at = line;
    char        key[32];
    word(&at, key, sizeof key);
    if (!*key || *key == '#') return TAUT_OK;
    if (strcmp(key, "index") == 0) {
        if (!r->listing)
            return taut__fail(TAUT_E_CORRUPT, "%s: index without a stage list or prune before it", r->where);
        return located(r, taut__plan_list_add(&r->list, at, strlen(at), r->where));
    }
    TAUT_TRY(end_list(r));
    if (strcmp(key, "shard") == 0) return take_shard(r, at);
    if (strcmp(key, "stage") == 0) return take_stage(r, at);
    if (strcmp(key, "seed") == 0) return take_setting(r, &at, key, &r->seed, &r->plan->seed);
    if (strcmp(key, "rounds") == 0) return take_setting(r, &at, key, &r->rounds, &r->plan->rounds);
    if (strcmp(key, "window") == 0) return take_setting(r, &at, key, &r->window, &r->plan->window);
    return taut__fail(TAUT_E_CORRUPT, "%s: '%s': must be shard, seed, rounds, window, stage, index or end", r->where,
                      key);
}

/* The first line tells the version, so that a newer plan is called that, not damaged. */
static taut_status take_first(parser *r, const char *line)
{
    uint64_t version;
    if (strncmp(line, "taut-plan ", 10) != 0 || !number(line + 10, 10, &version))
        return taut__fail(TAUT_E_CORRUPT, "%s: must be 'taut-plan %d': this is no plan", r->where, TAUT__PLAN_VERSION);
    if (version < 1 || version > TAUT__PLAN_VERSION)
        return taut__fail(TAUT_E_VERSION, "%s: plan version %llu: this library reads 1 to %d", r->where, (ull)version,
                          TAUT__PLAN_VERSION);
    return TAUT_OK;
}

static taut_status take_end(parser *r, const char *at, const char *text, size_t before)
{
    uint64_t    said;
    taut_status s = end_list(r);
    if (s != TAUT_OK) return s;
    TAUT_TRY(take_hash(r, &at, &said));
    r->plan->hash = XXH64(text, before, 0);
    if (said != r->plan->hash)
        return taut__fail(TAUT_E_CORRUPT,
                          "%s: the plan was changed after it was written: its hash is %016llx, the end line says "
                          "%016llx",
                          r->where, (ull)r->plan->hash, (ull)said);
    if (!r->seed || !r->rounds || !r->window)
        return taut__fail(TAUT_E_CORRUPT, "%s: no line %s", r->name,
                          r->seed ? r->rounds ? "window" : "rounds" : "seed");
    return located(r, taut__plan_check(r->plan));
}

/* Line after line; the terminating newline of each is replaced in `copy`, `text` keeps them for the hash. */
static taut_status parse(parser *r, char *copy, const char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        char  *line = copy + at, *newline = memchr(line, '\n', bytes - at);
        size_t length = newline ? (size_t)(newline - line) : bytes - at;
        snprintf(r->where, sizeof r->where, "%s: line %ld", r->name, ++r->line);
        if (!newline) return taut__fail(TAUT_E_CORRUPT, "%s: the plan ends in the middle of a line", r->where);
        if (memchr(line, 0, length)) return taut__fail(TAUT_E_CORRUPT, "%s: a zero byte: this is no plan", r->where);
        *newline = 0;
        if (r->line == 1) TAUT_TRY(take_first(r, line));
        else if (strncmp(line, "end ", 4) == 0) {
            TAUT_TRY(take_end(r, line + 4, text, at));
            if (at + length + 1 != bytes) return taut__fail(TAUT_E_CORRUPT, "%s: lines follow after end", r->where);
            return TAUT_OK;
        } else TAUT_TRY(take_line(r, line));
        at += length + 1;
    }
    return taut__fail(TAUT_E_CORRUPT, "%s: the plan is cut off: no line 'end' after line %ld", r->name, r->line);
}

taut_status taut__plan_parse(taut__plan *p, const char *name, const char *text, size_t bytes)
{
    parser      r = {.plan = p, .name = name};
    char       *copy = taut__alloc(bytes + 1, 1);
    taut_status s;
    memset(p, 0, sizeof *p);
    if (!copy) return taut__fail(TAUT_E_NOMEM, "%s: out of memory for %zu bytes", name, bytes);
    memcpy(copy, text, bytes);
    s = parse(&r, copy, text, bytes);
    taut__free(copy);
    if (s == TAUT_OK) return s;
    taut__free(r.stage.list); /* of a list that did not become a stage */
    taut__free(r.stage.weight);
    taut__plan_free(p);
    return s;
}
