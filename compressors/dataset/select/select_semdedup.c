/* select_semdedup.c : one of each group of samples whose embeddings, a float field, are nearly the same (Abbas et al.: SemDeDup, 2023).
 *
 * Vectors of length 1 are clustered by spherical k-means, and compared inside their cluster: in the order of rising likeness to its centroid (so that
 * of two alike the less typical one stays, as published), each has
 *      m = the largest cosine with one before it,
 * and stays if m <= 1 - eps; with a budget those with the smallest m stay. Sums of k-means are whole numbers (2^-30), so the clusters are the
 * same for any number of ranks. Pairs that fall into different clusters are not compared. */
#include "vectors.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EPS, CLUSTERS, ITERATIONS };

typedef struct sem {
    taut__select *s;
    taut__vectors x;
    size_t        clusters;
    float        *centre;  /* clusters * dim */
    uint64_t     *sum;     /* the same, in units of 2^-30, as two's complement */
    uint32_t     *cluster; /* of each sample of this rank */
    float        *like;    /* cosine with its centre */
} sem;

static void assign(sem *m)
{
    for (size_t i = 0; i < m->x.n; i++) {
        m->like[i] = -2;
        for (size_t c = 0; c < m->clusters; c++) {
            float like = taut__vectors_dot(m->x.v + i * m->x.dim, m->centre + c * m->x.dim, m->x.dim);
            if (like > m->like[i]) m->like[i] = like, m->cluster[i] = (uint32_t)c;
        }
    }
}

static void add_up(sem *m)
{
    memset(m->sum, 0, m->clusters * m->x.dim * sizeof *m->sum);
    for (size_t i = 0; i < m->x.n; i++)
        for (size_t j = 0; j < m->x.dim; j++)
            m->sum[m->cluster[i] * m->x.dim + j] +=
                (uint64_t)(int64_t)llrint((double)m->x.v[i * m->x.dim + j] * 1073741824.0);
}

/* An empty cluster keeps its centre. */
static void move_centres(sem *m)
{
    for (size_t c = 0; c < m->clusters; c++) {
        double norm = 0;
        for (size_t j = 0; j < m->x.dim; j++) norm += pow((double)(int64_t)m->sum[c * m->x.dim + j], 2);
        for (size_t j = 0; norm > 0 && j < m->x.dim; j++)
            m->centre[c * m->x.dim + j] = (float)((double)(int64_t)m->sum[c * m->x.dim + j] / sqrt(norm));
    }
}

static taut_status cluster_all(sem *m)
{
    taut__select *s = m->s;
    uint64_t      n = s->pool->n;
    for (size_t c = 0; c < m->clusters; c++) /* evenly spread samples, turned by the seed */
        TAUT_TRY(taut__vectors_one(
            &m->x, s, (uint64_t)(((double)c + taut__select_uniform(s, c)) * (double)n / (double)m->clusters), true,
            m->centre + c * m->x.dim));
    return TAUT_OK;
}

typedef struct member {
    float    like;
    uint64_t place;
    uint32_t cluster, pad;
} member;

static int by_likeness(const void *a, const void *b)
{
    const member *x = a, *y = b;
    if (x->cluster != y->cluster) return x->cluster < y->cluster ? -1 : 1;
    if (x->like != y->like) return x->like < y->like ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

/* m of every member of one cluster: value[place]. */
static taut_status compare_cluster(sem *m, const member *of, size_t n, double *value)
{
    float      *v = taut__alloc(n * m->x.dim + 1, sizeof *v);
    taut_status status =
        v ? TAUT_OK
          : taut__fail(TAUT_E_NOMEM, "semdedup: out of memory for a cluster of %zu samples: more clusters would help",
                       n);
    for (size_t i = 0; status == TAUT_OK && i < n; i++) {
        float most = -1;
        status = taut__vectors_one(&m->x, m->s, of[i].place, true, v + i * m->x.dim);
        for (size_t j = 0; status == TAUT_OK && j < i; j++) {
            float like = taut__vectors_dot(v + i * m->x.dim, v + j * m->x.dim, m->x.dim);
            most = like > most ? like : most;
        }
        value[of[i].place] = most;
    }
    taut__free(v);
    return status;
}

typedef struct found {
    uint64_t place;
    double   value;
} found;

/* Each rank takes every ranks-th cluster; then everybody's values. all: every sample's cluster. */
static taut_status compare_all(sem *m, member *all, double *value)
{
    taut__select *s = m->s;
    uint64_t      n = s->pool->n;
    uint32_t      rank = taut__select_rank(s), ranks = taut__select_ranks(s);
    found        *mine = taut__alloc((size_t)n + 1, sizeof *mine), *theirs = NULL;
    size_t        k = 0, bytes = 0;
    taut_status   status = mine ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "semdedup: out of memory");
    qsort(all, (size_t)n, sizeof *all, by_likeness);
    for (uint64_t first = 0, end; status == TAUT_OK && first < n; first = end) {
        for (end = first + 1; end < n && all[end].cluster == all[first].cluster; end++) {}
        if (all[first].cluster % ranks != rank) continue;
        status = compare_cluster(m, all + first, (size_t)(end - first), value);
        for (uint64_t i = first; status == TAUT_OK && i < end; i++)
            mine[k++] = (found){all[i].place, value[all[i].place]};
        if (status == TAUT_OK) status = taut__select_progress(s, "comparing", first, n);
    }
    status = taut__select_collect(s, status, mine, k * sizeof *mine, (void **)&theirs, &bytes);
    for (size_t i = 0; status == TAUT_OK && i < bytes / sizeof *theirs; i++) value[theirs[i].place] = theirs[i].value;
    taut__free(mine);
    taut__free(theirs);
    return status;
}

static taut_status decide(taut__select *s, const double *value)
{
    uint8_t    *keep;
    taut_status status;
    if (s->keep) TAUT_TRY(taut__select_extreme(s, value, false));
    else {
        if (!(keep = taut__alloc((size_t)s->pool->n, 1))) return taut__fail(TAUT_E_NOMEM, "semdedup: out of memory");
        for (uint64_t i = 0; i < s->pool->n; i++) keep[i] = value[i] <= 1 - s->value[EPS];
        status = taut__select_marked(s, keep);
        taut__free(keep);
        if (status != TAUT_OK) return status;
    }
    return taut__select_compare(s, "mean of the largest cosine with one before", value);
}

static taut_status start(sem *m)
{
    taut__select *s = m->s;
    uint64_t      n = s->pool->n;
    TAUT_TRY(taut__vectors_read(&m->x, s, true));
    m->clusters = s->value[CLUSTERS] > 0 ? (size_t)s->value[CLUSTERS] : (size_t)ceil(sqrt((double)n));
    if (m->clusters > n) m->clusters = (size_t)n;
    m->centre = taut__alloc(m->clusters * m->x.dim + 1, sizeof *m->centre);
    m->sum = taut__alloc(m->clusters * m->x.dim + 1, sizeof *m->sum);
    m->cluster = taut__alloc(m->x.n + 1, sizeof *m->cluster);
    m->like = taut__alloc(m->x.n + 1, sizeof *m->like);
    if (!m->centre || !m->sum || !m->cluster || !m->like)
        return taut__fail(TAUT_E_NOMEM, "semdedup: out of memory for %zu clusters", m->clusters);
    return cluster_all(m);
}

static taut_status run(taut__select *s)
{
    sem         m = {.s = s};
    double     *value = taut__alloc((size_t)s->pool->n, sizeof *value);
    member     *mine = NULL, *all = NULL;
    size_t      bytes;
    taut_status status = value ? start(&m) : taut__fail(TAUT_E_NOMEM, "semdedup: out of memory");
    status = taut__select_agree(s, status);
    for (int i = 0; status == TAUT_OK && i < (int)s->value[ITERATIONS]; i++) {
        assign(&m);
        add_up(&m);
        status =
            taut__select_sum(s, taut__select_progress(s, "clustering", (uint64_t)i, (uint64_t)s->value[ITERATIONS]),
                             m.sum, m.clusters * m.x.dim);
        if (status == TAUT_OK) move_centres(&m);
    }
    if (status == TAUT_OK) {
        assign(&m);
        mine = taut__alloc(m.x.n + 1, sizeof *mine);
        for (size_t i = 0; mine && i < m.x.n; i++) mine[i] = (member){m.like[i], m.x.place[i], m.cluster[i], 0};
        status = taut__select_collect(s, mine ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "semdedup: out of memory"), mine,
                                      m.x.n * sizeof *mine, (void **)&all, &bytes);
    }
    if (status == TAUT_OK) status = compare_all(&m, all, value);
    if (status == TAUT_OK) status = decide(s, value);
    taut__vectors_free(&m.x);
    taut__free(m.centre);
    taut__free(m.sum);
    taut__free(m.cluster);
    taut__free(m.like);
    taut__free(mine);
    taut__free(all);
    taut__free(value);
    return status;
}

const taut__method taut__method_semdedup = {
    .name = "semdedup",
    .help = "one of each group of samples whose vectors, a float field, point almost the same way",
    .needs = TAUT__NEEDS_FLOATS,
    .budget = TAUT__BUDGET_MAY,
    .key = {{"eps", NULL, 0.05, 0, 1, false},
            {"clusters", NULL, 0, 0, 1 << 24, true},
            {"iterations", NULL, 10, 0, 1000, true}},
    .run = run,
};
