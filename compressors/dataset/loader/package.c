/* package.c : see package.h. */
#include "package.h"
#include "../shard/shard.h"
#include <stdio.h>
#include <string.h>

typedef unsigned long long ull;

void taut__package_free(taut__package *p)
{
    for (size_t i = 0; p->shard && i < p->plan.shards; i++) taut_shard_close(p->shard[i]);
    taut__free(p->shard);
    taut__free(p->label);
    taut__plan_free(&p->plan);
    memset(p, 0, sizeof *p);
}

/* ---- classes ---- */

static int64_t integer_at(const uint8_t *at, taut_type t)
{
    uint64_t u = 0;
    size_t   bytes = taut_type_bytes(t);
    for (size_t i = 0; i < bytes; i++) u |= (uint64_t)at[i] << (8 * i);
    if (t == TAUT_I8) return (int8_t)u;
    if (t == TAUT_I16) return (int16_t)u;
    if (t == TAUT_I32) return (int32_t)u;
    return (int64_t)u;
}

static taut_status no_classes(const taut_shard *s, const char *field)
{
    char names[400];
    taut__shard_names(s, names, sizeof names);
    return taut__fail(
        TAUT_E_INVALID,
        "%s: no integer field '%s' with one value per sample, which the plan's strata need; its fields: %s",
        taut_shard_path(s), field, names);
}

taut_status taut__shard_classes(const taut_shard *s, const char *field, int64_t *to)
{
    int               f = taut_shard_find(s, field);
    const taut_field *d = f < 0 ? NULL : taut__shard_field(s, (uint32_t)f);
    taut_reader      *r;
    taut_status       status;
    if (!d || d->variable || d->type == TAUT_FLOAT32 || d->type == TAUT_FLOAT64 ||
        d->sample_bytes != taut_type_bytes(d->type))
        return no_classes(s, field);
    TAUT_TRY(taut_reader_create(s, &r));
    for (uint64_t b = 0; b < taut__shard_blocks(s); b++) {
        taut_block_view v = {.size = sizeof v};
        if ((status = taut_reader_block(r, (size_t)f, b, &v)) != TAUT_OK) {
            taut_reader_destroy(r);
            return status;
        }
        for (uint64_t k = 0; k < v.n; k++) to[v.first + k] = integer_at(v.data + v.offset[k], d->type);
    }
    taut_reader_destroy(r);
    return TAUT_OK;
}

static taut_status read_labels(taut__package *p)
{
    const char *field = taut__plan_strata(&p->plan);
    uint64_t    at = 0;
    if (!field) return TAUT_OK;
    p->label = taut__alloc((size_t)taut__plan_of(&p->plan), sizeof *p->label);
    if (!p->label)
        return taut__fail(TAUT_E_NOMEM, "loader: out of memory for %llu labels", (ull)taut__plan_of(&p->plan));
    for (size_t i = 0; i < p->plan.shards; at += p->plan.shard[i++].samples)
        TAUT_TRY(taut__shard_classes(p->shard[i], field, p->label + at));
    return TAUT_OK;
}

/* ---- from files ---- */

/* Pinned to what the shards hold, not to where they lie or how they are called: a state goes on when they were moved. */
static taut_status make_full_plan(taut__plan *plan, taut_shard *const *shard, size_t n)
{
    char  *text;
    size_t bytes;
    plan->seed = 1;
    plan->rounds = 1;
    plan->window = 64;
    for (size_t i = 0; i < n; i++)
        TAUT_TRY(taut__plan_add_shard(plan, taut_shard_path(shard[i]), taut__shard_hash(shard[i]),
                                      taut__shard_samples(shard[i])));
    for (size_t i = 0; i < n; i++) strcpy(plan->shard[i].name, "-");
    TAUT_TRY(taut__plan_add_rule(plan, "full", &(taut__plan_defaults){0}));
    TAUT_TRY(taut__plan_print(plan, &text, &bytes)); /* for its hash */
    taut__free(text);
    return TAUT_OK;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* What to say when no file has the hash: is there one of that name, with another? */
static taut_status not_there(const taut__plan_shard *want, const char *plan, taut_shard *const *shard, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (shard[i] && strcmp(base_name(taut_shard_path(shard[i])), base_name(want->name)) == 0)
            return taut__fail(TAUT_E_MISMATCH,
                              "%s: made for a shard %s with hash %016llx and %llu samples; %s has hash %016llx and "
                              "%llu samples: make the "
                              "plan anew, or give the shard that it was made for",
                              plan, want->name, (ull)want->hash, (ull)want->samples, taut_shard_path(shard[i]),
                              (ull)taut__shard_hash(shard[i]), (ull)taut__shard_samples(shard[i]));
    return taut__fail(TAUT_E_MISMATCH, "%s: its shard %s (hash %016llx) is not among the %zu given", plan, want->name,
                      (ull)want->hash, n);
}

/* Moves the plan's shards from the files' order into p->shard. */
static taut_status match(taut__package *p, const char *plan, taut_shard **file, size_t n)
{
    p->shard = taut__alloc(p->plan.shards, sizeof *p->shard);
    if (!p->shard) return taut__fail(TAUT_E_NOMEM, "loader: out of memory for %zu shards", p->plan.shards);
    for (size_t i = 0; i < p->plan.shards; i++) {
        const taut__plan_shard *want = &p->plan.shard[i];
        size_t                  k = 0;
        while (k < n &&
               !(file[k] && taut__shard_hash(file[k]) == want->hash && taut__shard_samples(file[k]) == want->samples))
            k++;
        if (k == n) return not_there(want, plan, file, n);
        p->shard[i] = file[k];
        file[k] = NULL;
    }
    return TAUT_OK;
}

taut_status taut__package_read(taut__package *p, const taut_loader_config *c)
{
    taut_shard **file = taut__alloc(c->nshards, sizeof *file);
    taut_status  s = file ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "loader: out of memory for %zu shards", c->nshards);
    for (size_t i = 0; s == TAUT_OK && i < c->nshards; i++) s = taut_shard_open(c->shards[i], &file[i]);
    if (s == TAUT_OK) s = c->plan ? taut__plan_load(&p->plan, c->plan) : make_full_plan(&p->plan, file, c->nshards);
    if (s == TAUT_OK) s = match(p, c->plan ? c->plan : "plan", file, c->nshards);
    if (s == TAUT_OK) s = read_labels(p);
    for (size_t i = 0; file && i < c->nshards; i++) taut_shard_close(file[i]);
    taut__free(file);
    if (s != TAUT_OK) taut__package_free(p);
    return s;
}

/* ---- bytes ---- between processes of one job on machines of one kind: words are the machine's own. */

typedef struct cursor {
    uint8_t       *to; /* packing; NULL = count only */
    const uint8_t *from;
    size_t         at, n;
} cursor;

static void put(cursor *c, const void *bytes, size_t n)
{
    uint64_t word = n;
    if (c->to) {
        memcpy(c->to + c->at, &word, sizeof word);
        if (n) memcpy(c->to + c->at + sizeof word, bytes, n);
    }
    c->at += sizeof word + n;
}

static taut_status get(cursor *c, const uint8_t **bytes, size_t *n)
{
    uint64_t word = 0;
    if (c->n - c->at >= sizeof word) memcpy(&word, c->from + c->at, sizeof word);
    if (c->n - c->at < sizeof word || word > c->n - c->at - sizeof word)
        return taut__fail(TAUT_E_CORRUPT, "loader: what rank 0 sent, %zu bytes, is cut off behind byte %zu", c->n,
                          c->at);
    *bytes = c->from + c->at + sizeof word;
    *n = (size_t)word;
    c->at += sizeof word + (size_t)word;
    return TAUT_OK;
}

static void put_all(const taut__package *p, const char *text, size_t bytes, cursor *c)
{
    put(c, text, bytes);
    put(c, &p->plan.hash, sizeof p->plan.hash);
    for (size_t i = 0; i < p->plan.shards; i++) {
        size_t      n;
        const void *index = taut__shard_index(p->shard[i], &n);
        put(c, taut_shard_path(p->shard[i]), strlen(taut_shard_path(p->shard[i])) + 1);
        put(c, index, n);
    }
    put(c, p->label, p->label ? (size_t)taut__plan_of(&p->plan) * sizeof *p->label : 0);
}

taut_status taut__package_pack(const taut__package *p, uint8_t **bytes, size_t *n)
{
    cursor     c = {0};
    char      *text;
    size_t     length;
    taut__plan plan =
        p->plan; /* print() sets the hash: of its text, not of one with comments that the plan was read from */
    TAUT_TRY(taut__plan_print(&plan, &text, &length));
    put_all(p, text, length, &c);
    *n = c.at;
    *bytes = taut__alloc(c.at, 1);
    c = (cursor){.to = *bytes};
    if (*bytes) put_all(p, text, length, &c);
    taut__free(text);
    return *bytes ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "loader: out of memory for %zu bytes of indexes", *n);
}

static taut_status unpack(taut__package *p, cursor *c)
{
    const uint8_t *part, *path;
    size_t         n, length;
    TAUT_TRY(get(c, &part, &n));
    TAUT_TRY(taut__plan_parse(&p->plan, "plan of rank 0", (const char *)part, n));
    TAUT_TRY(get(c, &part, &n));
    if (n != sizeof p->plan.hash)
        return taut__fail(TAUT_E_CORRUPT, "loader: rank 0 sent %zu bytes as the hash of the plan", n);
    memcpy(&p->plan.hash, part, n);
    p->shard = taut__alloc(p->plan.shards, sizeof *p->shard);
    if (!p->shard) return taut__fail(TAUT_E_NOMEM, "loader: out of memory for %zu shards", p->plan.shards);
    for (size_t i = 0; i < p->plan.shards; i++) {
        TAUT_TRY(get(c, &path, &length));
        TAUT_TRY(get(c, &part, &n));
        TAUT_TRY(taut__shard_from_index(part, n, (const char *)path, &p->shard[i]));
    }
    TAUT_TRY(get(c, &part, &n));
    if (n == 0) return TAUT_OK;
    p->label = taut__alloc(n, 1);
    if (!p->label) return taut__fail(TAUT_E_NOMEM, "loader: out of memory for %zu bytes of labels", n);
    memcpy(p->label, part, n);
    return TAUT_OK;
}

taut_status taut__package_unpack(taut__package *p, const uint8_t *bytes, size_t n)
{
    cursor      c = {.from = bytes, .n = n};
    taut_status s = unpack(p, &c);
    if (s != TAUT_OK) taut__package_free(p);
    return s;
}
