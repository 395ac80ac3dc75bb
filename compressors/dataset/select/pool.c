/* pool.c : see pool.h. */
#include "pool.h"
#include "../sampler/sampler.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

typedef unsigned long long ull;

enum { TEXT_WINDOW = 1024 };

void taut__pool_close(taut__pool *p)
{
    for (size_t i = 0; p->reader && i < p->shards; i++) taut_reader_destroy(p->reader[i]);
    taut__free(p->reader);
    taut__free(p->field);
    taut__free(p->first);
    taut__free(p->id);
    taut__free(p->visit);
    taut__free(p->text);
    taut__free(p->at);
    taut_shard_close(p->own);
    memset(p, 0, sizeof *p);
}

/* ---- fields ---- */

static int rank_of(const taut_field *f, taut__pool_want want)
{
    if (want == TAUT__WANT_NONE) return 1;
    if (want == TAUT__WANT_FLOATS) return f->type == TAUT_FLOAT32 && !f->variable && f->sample_bytes >= 4 ? 1 : 0;
    switch (f->kind) {
    case TAUT_KIND_TEXT: return 4;
    case TAUT_KIND_TOKENS: return 3;
    case TAUT_KIND_BYTES: return 2;
    case TAUT_KIND_FILE: return 1;
    case TAUT_KIND_IMAGE: return want == TAUT__WANT_ANY ? 1 : 0;
    default: return 0;
    }
}

static taut_status no_field(const taut_shard *s, const char *field, taut__pool_want want)
{
    char            names[400] = "";
    taut_shard_info info = {.size = sizeof info};
    taut_shard_get_info(s, &info);
    for (uint32_t f = 0; f < info.fields; f++) {
        taut_field d = TAUT_FIELD_INIT;
        size_t     at = strlen(names);
        taut_shard_field(s, f, &d);
        snprintf(names + at, sizeof names - at, "%s%s (%s)", f ? ", " : "", d.name, taut_kind_name(d.kind));
    }
    return taut__fail(TAUT_E_INVALID, "%s: no %sfield %s%s; its fields: %s", taut_shard_path(s),
                      want == TAUT__WANT_FLOATS ? "float32 "
                      : want == TAUT__WANT_TEXT ? "text, token or byte "
                                                : "",
                      field ? "called " : "that fits", field ? field : "", names);
}

static taut_status find_field(taut__pool *p, size_t i, const char *field, taut__pool_want want)
{
    const taut_shard *s = p->shard[i];
    taut_shard_info   info = {.size = sizeof info};
    int               best = 0, found = -1;
    taut_field        d = TAUT_FIELD_INIT;
    taut_shard_get_info(s, &info);
    for (uint32_t f = 0; f < info.fields; f++) {
        taut_field c = TAUT_FIELD_INIT;
        int        fits;
        taut_shard_field(s, f, &c);
        if (i > 0 && strcmp(c.name, p->name) != 0) continue; /* the one that the first shard has */
        if (field && strcmp(c.name, field) != 0) continue;
        fits = rank_of(&c, want);
        if (fits == 0 && field && want == TAUT__WANT_ANY) fits = 1;
        if (fits > best) best = fits, found = (int)f, d = c;
    }
    if (found < 0) return no_field(s, i > 0 ? p->name : field, want);
    if (i > 0 && (d.type != p->type || d.kind != p->kind))
        return taut__fail(TAUT_E_MISMATCH, "%s: field '%s' has another type than in %s", taut_shard_path(s), d.name,
                          taut_shard_path(p->shard[0]));
    snprintf(p->name, sizeof p->name, "%.*s", (int)sizeof p->name - 1, d.name);
    p->kind = d.kind, p->type = d.type;
    p->field[i] = (uint32_t)found;
    return TAUT_OK;
}

/* ---- opening ---- */

typedef struct pair {
    uint64_t id, place;
} pair;

static int by_id(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static taut_status order_by_id(taut__pool *p)
{
    pair *all;
    bool  rising = true;
    for (uint64_t i = 1; i < p->n && rising; i++) rising = p->id[i] >= p->id[i - 1];
    if (rising) return TAUT_OK;
    all = taut__alloc((size_t)p->n, sizeof *all);
    p->visit = taut__alloc((size_t)p->n, sizeof *p->visit);
    if (!all || !p->visit) {
        taut__free(all);
        return taut__fail(TAUT_E_NOMEM, "plan: out of memory for %llu samples", (ull)p->n);
    }
    for (uint64_t i = 0; i < p->n; i++) all[i] = (pair){p->id[i], i};
    qsort(all, (size_t)p->n, sizeof *all, by_id);
    for (uint64_t i = 0; i < p->n; i++) p->visit[i] = all[i].place;
    taut__free(all);
    return TAUT_OK;
}

static taut_status open_shards(taut__pool *p, const char *field, taut__pool_want want)
{
    p->first = taut__alloc(p->shards + 1, sizeof *p->first);
    p->reader = taut__alloc(p->shards, sizeof *p->reader);
    p->field = taut__alloc(p->shards, sizeof *p->field);
    if (!p->first || !p->reader || !p->field)
        return taut__fail(TAUT_E_NOMEM, "plan: out of memory for %zu shards", p->shards);
    for (size_t i = 0; i < p->shards; i++) {
        taut_shard_info info = {.size = sizeof info};
        TAUT_TRY(taut_shard_get_info(p->shard[i], &info));
        p->first[i + 1] = p->first[i] + info.samples;
        p->hash = XXH64(&info.hash, sizeof info.hash, p->hash);
        TAUT_TRY(find_field(p, i, field, want));
    }
    if (!p->id) p->n = p->first[p->shards];
    return p->id ? order_by_id(p) : TAUT_OK;
}

taut_status taut__pool_open(taut__pool *p, size_t shards, const taut_shard *const *shard, uint64_t *id, uint64_t n,
                            const char *field, taut__pool_want want)
{
    taut_status s;
    memset(p, 0, sizeof *p);
    p->shards = shards, p->shard = shard, p->id = id, p->n = n;
    s = open_shards(p, field, want);
    if (s != TAUT_OK) taut__pool_close(p);
    return s;
}

/* ---- text ---- */

static taut_status read_text(taut__pool *p, const char *path)
{
    struct stat st;
    size_t      at = 0, bytes;
    int         fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return taut__fail(TAUT_E_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0 ||
        !(p->text = taut__alloc((size_t)st.st_size, 1))) {
        close(fd);
        return taut__fail(p->text || st.st_size ? TAUT_E_IO : TAUT_E_INVALID, "%s: %s", path,
                          st.st_size ? "no file that can be read into memory" : "an empty target");
    }
    for (bytes = (size_t)st.st_size; at < bytes;) {
        ssize_t n = read(fd, p->text + at, bytes - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        at += (size_t)n;
    }
    close(fd);
    if (at < bytes) return taut__fail(TAUT_E_IO, "%s: %s", path, "could not be read to its end");
    p->n = taut__ceil_div(bytes, TEXT_WINDOW);
    if (!(p->at = taut__alloc((size_t)p->n + 1, sizeof *p->at)))
        return taut__fail(TAUT_E_NOMEM, "%s: out of memory", path);
    for (uint64_t i = 0; i <= p->n; i++) p->at[i] = taut__min((size_t)i * TEXT_WINDOW, bytes);
    p->kind = TAUT_KIND_TEXT, p->type = TAUT_U8;
    p->hash = XXH64(p->text, bytes, 0);
    snprintf(p->name, sizeof p->name, "text");
    return TAUT_OK;
}

taut_status taut__pool_open_file(taut__pool *p, const char *path, const char *field, taut__pool_want want)
{
    const char *dot = strrchr(path, '.');
    taut_status s;
    memset(p, 0, sizeof *p);
    if (dot && strcmp(dot, ".taut") == 0) {
        s = taut_shard_open(path, &p->own);
        p->shards = 1;
        p->shard = (const taut_shard *const *)&p->own;
        if (s == TAUT_OK) s = open_shards(p, field, want);
    } else if (want == TAUT__WANT_FLOATS)
        s = taut__fail(TAUT_E_INVALID, "%s: a target of floats must be a shard, *.taut", path);
    else s = read_text(p, path);
    if (s != TAUT_OK) taut__pool_close(p);
    return s;
}

/* ---- reading ---- */

static uint64_t number_of(const taut__pool *p, uint64_t place, size_t *shard)
{
    uint64_t id = p->id ? p->id[place] : place;
    size_t   low = 0, high = p->shards;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (p->first[middle] <= id) low = middle;
        else high = middle;
    }
    *shard = low;
    return id - p->first[low];
}

taut_status taut__pool_get(taut__pool *p, uint64_t place, const uint8_t **data, size_t *bytes)
{
    taut_block_view v = {.size = sizeof v};
    taut_shard_info info = {.size = sizeof info};
    uint64_t        sample;
    size_t          i;
    if (p->text) {
        *data = p->text + p->at[place];
        *bytes = (size_t)(p->at[place + 1] - p->at[place]);
        return TAUT_OK;
    }
    sample = number_of(p, place, &i);
    if (!p->reader[i]) TAUT_TRY(taut_reader_create(p->shard[i], &p->reader[i]));
    TAUT_TRY(taut_shard_get_info(p->shard[i], &info));
    TAUT_TRY(taut_reader_block(p->reader[i], p->field[i], sample / info.samples_per_block, &v));
    *data = v.data + v.offset[sample - v.first];
    *bytes = v.offset[sample - v.first + 1] - v.offset[sample - v.first];
    return TAUT_OK;
}

void taut__pool_where(const taut__pool *p, uint64_t place, char *dst, size_t cap)
{
    size_t   shard = 0;
    uint64_t sample;
    if (p->text) snprintf(dst, cap, "window %llu of the text", (ull)place);
    else {
        sample = number_of(p, place, &shard);
        snprintf(dst, cap, "sample %llu of %s", (ull)sample, taut_shard_path(p->shard[shard]));
    }
}

void taut__pool_part(const taut__pool *p, uint32_t rank, uint32_t ranks, uint64_t *begin, uint64_t *end)
{
    taut__slice part = taut__slice_of(p->n, ranks, rank);
    *begin = part.first;
    *end = part.first + part.n;
}
