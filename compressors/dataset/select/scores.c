/* scores.c : see scores.h. */
#include "scores.h"
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

typedef unsigned long long ull;

void taut__scores_free(taut__scores *s)
{
    taut__free(s->value);
    memset(s, 0, sizeof *s);
}

taut_status taut__scores_no_column(const taut__scores *s, const char *who, const char *name)
{
    char   names[300] = "";
    size_t at = 0;
    for (uint32_t i = 0; i < s->columns && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", s->name[i]);
    return taut__fail(TAUT_E_INVALID, "%s: the scores have no column '%s'; they have %s", who, name, names);
}

int taut__scores_column(const taut__scores *s, const char *name)
{
    for (uint32_t c = 0; c < s->columns; c++)
        if (strcmp(s->name[c], name) == 0) return (int)c;
    return -1;
}

/* ---- reading ---- */

typedef struct parser {
    taut__scores            *s;
    const char              *path;
    FILE                    *f;
    char                    *line;
    size_t                   room, length;
    long                     number;
    XXH64_state_t           *hash;
    size_t                   shards;
    const taut_shard *const *shard;
    uint64_t                *first; /* shards + 1: sample numbers of the plan */
    size_t                  *order; /* the shards in the order of the file */
    size_t                   listed;
    bool                     ended;
} parser;

static taut_status bad(const parser *p, taut_status s, const char *what)
{
    return taut__fail(s, "%s: line %ld: %s", p->path, p->number, what);
}

/* The next line without its newline; at the end of the file: what is missing. */
static taut_status next_line(parser *p)
{
    ssize_t n;
    errno = 0;
    n = getline(&p->line, &p->room, p->f);
    p->number++;
    if (n < 0 && errno) return taut__fail(TAUT_E_IO, "%s: %s", p->path, strerror(errno));
    if (n < 0)
        return taut__fail(TAUT_E_CORRUPT, "%s: the file is cut off after line %ld: no line 'end'", p->path,
                          p->number - 1);
    if (p->line[n - 1] != '\n') return bad(p, TAUT_E_CORRUPT, "the file ends in the middle of a line");
    if (strncmp(p->line, "end ", 4) != 0 && p->hash) XXH64_update(p->hash, p->line, (size_t)n);
    p->line[n - 1] = 0;
    p->length = (size_t)n - 1;
    return TAUT_OK;
}

static taut_status take_shard(parser *p)
{
    ull    hash, samples;
    int    used = 0;
    size_t i;
    /* NOLINTNEXTLINE(cert-err34-c): both are compared with the shard's own */
    if (sscanf(p->line, "shard %16llx %llu %n", &hash, &samples, &used) != 2 || used == 0)
        return bad(p, TAUT_E_CORRUPT, "must be 'shard HASH SAMPLES NAME'");
    for (i = 0; i < p->shards; i++) {
        taut_shard_info info = {.size = sizeof info};
        TAUT_TRY(taut_shard_get_info(p->shard[i], &info));
        if (info.hash != hash) continue;
        if (info.samples != samples)
            return taut__fail(TAUT_E_MISMATCH, "%s: line %ld: scores of %llu samples of %s, which has %llu", p->path,
                              p->number, samples, taut_shard_path(p->shard[i]), (ull)info.samples);
        break;
    }
    if (i == p->shards)
        return taut__fail(TAUT_E_MISMATCH,
                          "%s: line %ld: scores of the %llu samples of shard %s with hash %016llx, which is not among "
                          "the shards of this plan",
                          p->path, p->number, samples, p->line + used, hash);
    for (size_t k = 0; k < p->listed; k++)
        if (p->order[k] == i) return bad(p, TAUT_E_CORRUPT, "this shard for the second time");
    p->order[p->listed++] = i;
    return TAUT_OK;
}

static taut_status take_columns(parser *p)
{
    char *save = NULL;
    for (char *word = strtok_r(p->line + 8, " \t", &save); word; word = strtok_r(NULL, " \t", &save)) {
        if (p->s->columns == TAUT__SCORES_COLUMNS || strlen(word) >= TAUT__SCORES_NAME)
            return bad(p, TAUT_E_CORRUPT, "more than 16 columns, or a name of more than 31 bytes");
        snprintf(p->s->name[p->s->columns++], TAUT__SCORES_NAME, "%s", word);
    }
    return p->s->columns ? TAUT_OK : bad(p, TAUT_E_CORRUPT, "no column is named");
}

static taut_status take_head(parser *p)
{
    int version;
    TAUT_TRY(next_line(p));
    /* NOLINTNEXTLINE(cert-err34-c): at most nine digits */
    if (sscanf(p->line, "taut-scores %9d", &version) != 1)
        return bad(p, TAUT_E_CORRUPT, "must be 'taut-scores 1': these are no scores");
    if (version != 1)
        return taut__fail(TAUT_E_VERSION, "%s: scores version %d: this library reads 1", p->path, version);
    for (;;) {
        TAUT_TRY(next_line(p));
        if (strncmp(p->line, "shard ", 6) == 0) TAUT_TRY(take_shard(p));
        else if (strncmp(p->line, "columns ", 8) == 0) break;
        else return bad(p, TAUT_E_CORRUPT, "must be 'shard ...' or 'columns ...'");
    }
    TAUT_TRY(take_columns(p));
    for (size_t i = 0; i < p->shards; i++) {
        size_t k = 0;
        while (k < p->listed && p->order[k] != i) k++;
        if (k == p->listed)
            return taut__fail(TAUT_E_MISMATCH, "%s: no scores of shard %s", p->path, taut_shard_path(p->shard[i]));
    }
    return TAUT_OK;
}

static taut_status take_sample(parser *p, double *value)
{
    char *at = p->line, *end;
    for (uint32_t c = 0; c < p->s->columns; c++, at = end) {
        value[c] = taut__strtod(at, &end);
        if (end == at || !isfinite(value[c]))
            return taut__fail(TAUT_E_CORRUPT, "%s: line %ld: '%.40s': must be %u numbers", p->path, p->number, p->line,
                              p->s->columns);
    }
    return at[strspn(at, " \t")] ? bad(p, TAUT_E_CORRUPT, "more numbers than columns") : TAUT_OK;
}

static taut_status take_samples(parser *p)
{
    uint64_t seen = 0;
    for (size_t k = 0; k < p->listed; k++)
        for (uint64_t i = p->first[p->order[k]]; i < p->first[p->order[k] + 1]; i++, seen++) {
            TAUT_TRY(next_line(p));
            if (strncmp(p->line, "end ", 4) == 0)
                return taut__fail(TAUT_E_MISMATCH, "%s: line %ld: only %llu scores: the shards have %llu samples",
                                  p->path, p->number, (ull)seen, (ull)p->s->samples);
            TAUT_TRY(take_sample(p, p->s->value + i * p->s->columns));
        }
    TAUT_TRY(next_line(p));
    if (strncmp(p->line, "end ", 4) != 0)
        return taut__fail(TAUT_E_MISMATCH, "%s: line %ld: more scores than the %llu samples of the shards", p->path,
                          p->number, (ull)p->s->samples);
    return TAUT_OK;
}

static taut_status parse(parser *p)
{
    ull said;
    TAUT_TRY(take_head(p));
    p->s->samples = p->first[p->shards];
    p->s->value = taut__alloc((size_t)p->s->samples * p->s->columns, sizeof *p->s->value);
    if (!p->s->value) return taut__fail(TAUT_E_NOMEM, "%s: out of memory for %llu scores", p->path, (ull)p->s->samples);
    TAUT_TRY(take_samples(p));
    p->s->hash = XXH64_digest(p->hash);
    /* NOLINTNEXTLINE(cert-err34-c): sixteen digits fit */
    if (sscanf(p->line, "end %16llx", &said) != 1 || said != p->s->hash)
        return bad(p, TAUT_E_CORRUPT, "the file was changed after it was written: its hash differs");
    return TAUT_OK;
}

taut_status taut__scores_load(taut__scores *s, const char *path, size_t shards, const taut_shard *const *shard)
{
    parser      p = {.s = s, .path = path, .shards = shards, .shard = shard};
    taut_status status = TAUT_OK;
    memset(s, 0, sizeof *s);
    if (!(p.f = fopen(path, "r"))) return taut__fail(TAUT_E_IO, "%s: %s", path, strerror(errno));
    p.first = taut__alloc(shards + 1, sizeof *p.first);
    p.order = taut__alloc(shards, sizeof *p.order);
    p.hash = XXH64_createState();
    if (!p.first || !p.order || !p.hash) status = taut__fail(TAUT_E_NOMEM, "%s: out of memory", path);
    else XXH64_reset(p.hash, 0);
    for (size_t i = 0; status == TAUT_OK && i < shards; i++) {
        taut_shard_info info = {.size = sizeof info};
        status = taut_shard_get_info(shard[i], &info);
        p.first[i + 1] = p.first[i] + info.samples;
    }
    if (status == TAUT_OK) status = parse(&p);
    fclose(p.f);
    free(p.line);
    XXH64_freeState(p.hash);
    taut__free(p.first);
    taut__free(p.order);
    if (status != TAUT_OK) taut__scores_free(s);
    return status;
}

/* ---- writing ---- */

static bool write_lines(FILE *f, XXH64_state_t *hash, size_t n, const taut_shard *const *shards, size_t columns,
                        const char *const *name, const double *value)
{
    char     line[64 * TAUT__SCORES_COLUMNS + 512];
    uint64_t all = 0;
    int      at;
    for (size_t i = 0; i < n + 2; i++) {
        taut_shard_info info = {.size = sizeof info};
        if (i == 0) at = snprintf(line, sizeof line, "taut-scores 1\n");
        else if (i <= n) {
            const char *path = taut_shard_path(shards[i - 1]), *slash = strrchr(path, '/');
            taut_shard_get_info(shards[i - 1], &info);
            all += info.samples;
            at = snprintf(line, sizeof line, "shard %016llx %llu %.400s\n", (ull)info.hash, (ull)info.samples,
                          slash ? slash + 1 : path);
        } else {
            at = snprintf(line, sizeof line, "columns");
            for (size_t c = 0; c < columns; c++) at += snprintf(line + at, sizeof line - (size_t)at, " %s", name[c]);
            line[at++] = '\n';
        }
        XXH64_update(hash, line, (size_t)at);
        if (fwrite(line, 1, (size_t)at, f) != (size_t)at) return false;
    }
    for (uint64_t i = 0; i < all; i++) {
        at = 0;
        for (size_t c = 0; c < columns; c++)
            at += taut__snprintf(line + at, sizeof line - (size_t)at, "%s%.9g", c ? " " : "", value[i * columns + c]);
        line[at++] = '\n';
        XXH64_update(hash, line, (size_t)at);
        if (fwrite(line, 1, (size_t)at, f) != (size_t)at) return false;
    }
    return fprintf(f, "end %016llx\n", (ull)XXH64_digest(hash)) > 0;
}

/* What no reader would take back. */
static taut_status check_values(size_t n, const taut_shard *const *shards, size_t columns, const char *const *name,
                                const double *value)
{
    uint64_t all = 0;
    for (size_t i = 0; i < n; i++) {
        taut_shard_info info = {.size = sizeof info};
        taut_shard_get_info(shards[i], &info);
        all += info.samples;
    }
    for (uint64_t k = 0; k < all * columns; k++)
        if (!isfinite(value[k]))
            return taut__fail(TAUT_E_INVALID, "scores: sample %llu, column '%s': %g: must be finite",
                              (ull)(k / columns), name[k % columns], value[k]);
    return TAUT_OK;
}

taut_status taut_scores_save(const char *path, size_t n, const taut_shard *const *shards, size_t columns,
                             const char *const *name, const double *value)
{
    char           real[PATH_MAX], part[4200];
    XXH64_state_t *hash;
    FILE          *f;
    bool           good;
    TAUT_TRY(taut__behind_links(path, real));
    path = real;
    if (n == 0 || columns == 0 || columns > TAUT__SCORES_COLUMNS)
        return taut__fail(TAUT_E_RANGE, "scores: %zu shards, %zu columns: must be 1 or more, and 16 columns at most", n,
                          columns);
    for (size_t c = 0; c < columns; c++)
        if (!*name[c] || strlen(name[c]) >= TAUT__SCORES_NAME || strpbrk(name[c], " \t\r\n"))
            return taut__fail(TAUT_E_INVALID, "scores: column '%s': must be a word of 31 bytes at most", name[c]);
    TAUT_TRY(check_values(n, shards, columns, name, value));
    if (snprintf(part, sizeof part, "%s.part%ld", path, (long)getpid()) >= (int)sizeof part)
        return taut__fail(TAUT_E_RANGE, "%s: a name too long", path);
    if (!(hash = XXH64_createState())) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", path);
    XXH64_reset(hash, 0);
    if (!(f = fopen(part, "w"))) {
        XXH64_freeState(hash);
        return taut__fail(TAUT_E_IO, "%s: %s", part, strerror(errno));
    }
    good = write_lines(f, hash, n, shards, columns, name, value);
    good = fflush(f) == 0 && fsync(fileno(f)) == 0 && good;
    good = fclose(f) == 0 && good;
    XXH64_freeState(hash);
    if (good && rename(part, path) == 0) return TAUT_OK;
    unlink(part);
    return taut__fail(TAUT_E_IO, "%s: could not be written: %s", path, strerror(errno));
}
