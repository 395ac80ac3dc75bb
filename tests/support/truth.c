/* truth.c : see truth.h. */
#include "truth.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench {
    truth            *t;
    taut_comm        *comm[TRUTH_RANKS];
    float            *g[TRUTH_RANKS][TRUTH_LAYERS], *y[TRUTH_RANKS][TRUTH_LAYERS];
    double           *left[TRUTH_LAYERS]; /* sum over ranks of the residuals */
    size_t            n[TRUTH_LAYERS];
    uint8_t          *frame[TRUTH_RANKS];
    float            *back[TRUTH_RANKS];
    size_t            frame_bytes;
    double            reference[TRUTH_RANKS][TRUTH_LAYERS];
    const float      *scale[TRUTH_LAYERS]; /* in the step under way */
    uint64_t          sent, control;
    pthread_barrier_t barrier;
    pthread_mutex_t   complaining; /* holds status and why */
} bench;

typedef struct place {
    bench *b;
    int    rank;
} place;

static bool feeds_back(const truth *t) { return !t->cfg.feedback || strcmp(t->cfg.feedback, "off") != 0; }

static bool is_summed(const truth *t, int step, int l) { return !t->summed || t->summed(t, step, l); }

typedef struct metric_sums {
    double error, norm, reference;
} metric_sums;

static void add_metric(bench *b, int l, const truth_step *s, const double in_scale[2], double reference, metric_sums *m)
{
    const char *name = b->t->cfg.metric;
    double      p = b->t->ranks, n = (double)b->n[l], norm = s->layer_norm[l];
    bool        plain = name && strcmp(name, "plain") == 0, layer = name && strcmp(name, "layer") == 0;
    if (plain) {
        m->error += s->layer_error[l], m->norm += norm, m->reference += reference;
    } else if (!layer && b->scale[l]) {
        m->error += in_scale[0], m->norm += in_scale[1];
    } else if (norm > 0) {
        double w = (layer ? 1 : p * p) * n / norm;
        m->error += w * s->layer_error[l], m->norm += w * norm, m->reference += w * reference;
    }
}

static void compare_layer(bench *b, int l, truth_step *s, metric_sums *m)
{
    truth *t = b->t;
    double error = 0, norm = 0, in_scale[2] = {0}, reference = 0;
    for (size_t i = 0; i < b->n[l]; i++) {
        double x = b->left[l][i], e, u = b->scale[l] ? 1 / ((double)b->scale[l][i] * b->scale[l][i]) : 0;
        for (int r = 0; r < t->ranks; r++) x += (double)b->g[r][l][i];
        e = x - (double)b->y[0][l][i] * t->ranks;
        error += e * e;
        norm += x * x;
        in_scale[0] += u * e * e, in_scale[1] += u * x * x;
        if (feeds_back(t)) b->left[l][i] = e;
    }
    for (int r = 0; r < t->ranks; r++) reference += b->reference[r][l];
    s->layer_error[l] = error;
    s->layer_norm[l] = norm;
    s->error += error;
    s->norm += norm;
    add_metric(b, l, s, in_scale, reference, m);
}

/* Whatever is in the residuals: a codec without feedback leaves none, which shows in the statistics. */
static void forget_residuals(bench *b)
{
    for (int l = 0; l < b->t->layers; l++) {
        double left = 0;
        for (int r = 0; r < b->t->ranks; r++) {
            taut_layer_stats s = {.size = sizeof s};
            taut_layer_get_stats(taut_comm_layer(b->comm[r], (size_t)l), &s);
            left += s.residual_norm2;
        }
        if (left == 0) memset(b->left[l], 0, b->n[l] * sizeof *b->left[l]);
    }
}

static void compare(bench *b, int step)
{
    truth      *t = b->t;
    truth_step *s = &t->step[step];
    metric_sums m = {0};
    uint64_t    violations = step ? s[-1].stats.budget_violations : 0;
    *s = (truth_step){.stats = {.size = sizeof s->stats}};
    for (int l = 0; l < t->layers; l++) {
        if (!is_summed(t, step, l)) continue;
        compare_layer(b, l, s, &m);
        for (int r = 1; r < t->ranks; r++) t->same_bits &= memcmp(b->y[r][l], b->y[0][l], b->n[l] * sizeof(float)) == 0;
    }
    s->rel = s->norm > 0 ? s->error / s->norm : 0;
    s->rel_metric = m.norm > 0 ? m.error / m.norm : 0;
    s->reference = m.norm > 0 ? m.reference / m.norm : 0;
    taut_comm_get_stats(b->comm[0], &s->stats);
    s->planned = step && s[-1].stats.plans > 0;
    s->counted = s->stats.budget_violations > violations;
    uint64_t layers = 0;
    for (int l = 0; l < t->layers; l++) {
        taut_layer_stats q = {.size = sizeof q};
        taut_layer_get_stats(taut_comm_layer(b->comm[0], (size_t)l), &q);
        layers += q.bytes_sent;
        s->elements += t->shape[l].rows > 1 ? (double)q.elements : 0;
    }
    s->bytes_sent = s->stats.bytes_sent - b->sent;
    s->bytes_control = s->stats.bytes_sent - layers - b->control;
    b->sent = s->stats.bytes_sent;
    b->control = s->stats.bytes_sent - layers;
    forget_residuals(b);
}

static void refer(bench *b, int rank, int step)
{
    truth *t = b->t;
    for (int l = 0; l < t->layers && t->reference; l++) {
        b->reference[rank][l] = 0;
        size_t len, shape[2] = {t->shape[l].rows, t->shape[l].cols};
        if (t->shape[l].rows == 1 || b->n[l] < 1024) continue; /* uncompressed either way */
        if (!is_summed(t, step, l)) continue;
        if (taut_encode(t->reference, 2, shape, b->g[rank][l], (uint64_t)(step * 64 + rank), b->frame[rank],
                        b->frame_bytes, &len) != TAUT_OK ||
            taut_decode(b->frame[rank], len, b->back[rank], b->n[l]) != TAUT_OK)
            abort();
        for (size_t i = 0; i < b->n[l]; i++) {
            double e = (double)b->back[rank][i] - (double)b->g[rank][l][i];
            b->reference[rank][l] += e * e;
        }
    }
}

static taut_status one_step(bench *b, int rank, int step, taut_layer **layer)
{
    truth      *t = b->t;
    taut_status s = TAUT_OK;
    for (int l = 0; l < t->layers && s == TAUT_OK; l++) {
        const float *scale = t->scale ? t->scale(t, step, l) : NULL;
        if (rank == 0) b->scale[l] = t->shape[l].rows > 1 ? scale : NULL;
        if (scale && t->shape[l].rows > 1) s = taut_layer_scale(layer[l], scale, b->n[l]);
        if (!is_summed(t, step, l)) continue;
        t->gradient(t, rank, step, l, b->g[rank][l]);
        for (int k = 1; k < t->sums && s == TAUT_OK; k++) {
            memcpy(b->y[rank][l], b->g[rank][l], b->n[l] * sizeof(float));
            s = taut_allreduce(layer[l], b->y[rank][l], TAUT_MEAN);
        }
        memcpy(b->y[rank][l], b->g[rank][l], b->n[l] * sizeof(float));
        if (s == TAUT_OK) s = taut_allreduce_start(layer[l], b->y[rank][l], TAUT_MEAN);
    }
    refer(b, rank, step);
    return s == TAUT_OK ? taut_step_end(b->comm[rank]) : s;
}

static taut_status register_all(bench *b, int rank, taut_layer **layer)
{
    truth      *t = b->t;
    taut_status s = TAUT_OK;
    for (int l = 0; l < t->layers && s == TAUT_OK; l++) {
        size_t shape[2] = {t->shape[l].rows, t->shape[l].cols};
        bool   flat = shape[0] == 1;
        s = taut_layer_register(b->comm[rank], t->shape[l].name, TAUT_F32, flat ? 1 : 2, flat ? shape + 1 : shape,
                                &layer[l]);
        if (s == TAUT_OK && t->codec && !flat) s = taut_layer_codec(layer[l], t->codec);
    }
    return s;
}

static void *rank_main(void *arg)
{
    place      *at = arg;
    bench      *b = at->b;
    truth      *t = b->t;
    int         rank = at->rank;
    taut_layer *layer[TRUTH_LAYERS];
    taut_status s = register_all(b, rank, layer);
    for (int step = 0; step < t->steps; step++) {
        if (s == TAUT_OK) s = one_step(b, rank, step, layer);
        pthread_barrier_wait(&b->barrier);
        if (rank == 0 && s == TAUT_OK) compare(b, step);
        if (rank == 0 && s == TAUT_OK && t->step_done) t->step_done(t, step, b->y[0]);
        pthread_barrier_wait(&b->barrier);
    }
    if (s != TAUT_OK) { /* several ranks may fail: any of them tells */
        pthread_mutex_lock(&b->complaining);
        t->status = s;
        snprintf(t->why, sizeof t->why, "rank %d: %s: %s", rank, taut_status_name(s), taut_last_error());
        pthread_mutex_unlock(&b->complaining);
    }
    for (int l = 0; l < t->layers && rank == 0 && s == TAUT_OK; l++) {
        taut_layer_stats q = {.size = sizeof q};
        taut_layer_get_stats(layer[l], &q);
        snprintf(t->spec[l], sizeof t->spec[l], "%s", q.codec);
    }
    return NULL;
}

static void allocate(bench *b)
{
    truth *t = b->t;
    size_t most = 0;
    for (int l = 0; l < t->layers; l++) {
        size_t n = b->n[l] = t->shape[l].rows * t->shape[l].cols, bytes;
        most = n > most ? n : most;
        b->left[l] = calloc(n, sizeof(double));
        for (int r = 0; r < t->ranks; r++) b->g[r][l] = calloc(n, sizeof(float)), b->y[r][l] = calloc(n, sizeof(float));
        size_t shape[2] = {t->shape[l].rows, t->shape[l].cols};
        if (t->reference && shape[0] > 1 && taut_encode_bound(t->reference, 2, shape, &bytes) == TAUT_OK &&
            bytes > b->frame_bytes)
            b->frame_bytes = bytes;
    }
    for (int r = 0; r < t->ranks && t->reference; r++)
        b->frame[r] = malloc(b->frame_bytes), b->back[r] = calloc(most, sizeof(float));
}

static void release(bench *b)
{
    for (int r = 0; r < b->t->ranks; r++) {
        taut_comm_destroy(b->comm[r]);
        free(b->frame[r]), free(b->back[r]);
        for (int l = 0; l < b->t->layers; l++) free(b->g[r][l]), free(b->y[r][l]);
    }
    for (int l = 0; l < b->t->layers; l++) free(b->left[l]);
}

void truth_run(truth *t)
{
    bench     b = {.t = t};
    pthread_t thread[TRUTH_RANKS];
    place     at[TRUTH_RANKS];
    t->status = taut_comm_create_threads(t->ranks, &t->cfg, b.comm);
    t->same_bits = true;
    snprintf(t->why, sizeof t->why, "create: %s", taut_last_error());
    if (t->status != TAUT_OK) return;
    allocate(&b);
    pthread_barrier_init(&b.barrier, NULL, (unsigned)t->ranks);
    pthread_mutex_init(&b.complaining, NULL);
    for (int r = 0; r < t->ranks; r++) {
        at[r] = (place){&b, r};
        if (pthread_create(&thread[r], NULL, rank_main, &at[r]) != 0) abort();
    }
    for (int r = 0; r < t->ranks; r++) pthread_join(thread[r], NULL);
    pthread_barrier_destroy(&b.barrier);
    pthread_mutex_destroy(&b.complaining);
    release(&b);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double truth_median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    return n > 0 ? v[n / 2] : 0;
}
