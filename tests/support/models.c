/* models.c : see models.h. Forward and backward by hand, in float. */
#include "models.h"
#include "comm/base/base.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { IN = 64, HIDDEN = 128, CLASSES = 10, VOCAB = 24, EMBED = 32, CELL = 64, LENGTH = 12 };
enum { WIDTH = EMBED + CELL };

struct model {
    model_config c;
    int          layers;
    truth_shape  shape[MODEL_LAYERS];
    size_t       n[MODEL_LAYERS];
    float       *w[MODEL_LAYERS], *v[MODEL_LAYERS], *m[MODEL_LAYERS], *scale[MODEL_LAYERS];
    float       *g[TRUTH_RANKS][MODEL_LAYERS];
    double       loss[TRUTH_RANKS];
    float       *teacher; /* mlp: CLASSES x IN */
    int          steps;
};

static double uniform(uint64_t seed, uint64_t i) { return (double)(taut__seed(seed, i) >> 11) * 0x1p-53; }
static double normal(uint64_t seed, uint64_t i)
{
    return sqrt(-2 * log(uniform(seed, 2 * i) + 1e-18)) * cos(6.283185307179586 * uniform(seed, 2 * i + 1));
}

static void add_layer(model *m, const char *name, size_t rows, size_t cols, double size)
{
    int l = m->layers++;
    m->shape[l] = (truth_shape){name, rows, cols};
    m->n[l] = rows * cols;
    m->w[l] = calloc(m->n[l], sizeof(float)), m->v[l] = calloc(m->n[l], sizeof(float));
    m->m[l] = calloc(m->n[l], sizeof(float)), m->scale[l] = calloc(m->n[l], sizeof(float));
    for (int r = 0; r < m->c.ranks; r++) m->g[r][l] = calloc(m->n[l], sizeof(float));
    for (size_t i = 0; i < m->n[l]; i++) m->w[l][i] = (float)(size * normal(77 + (uint64_t)l + 1000 * m->c.seed, i));
}

model *model_create(const model_config *c)
{
    model *m = calloc(1, sizeof *m);
    m->c = *c;
    if (strcmp(c->kind, "mlp") == 0) {
        add_layer(m, "w1", HIDDEN, IN, 1.4 / sqrt(IN)), add_layer(m, "b1", 1, HIDDEN, 0);
        add_layer(m, "w2", HIDDEN, HIDDEN, 1.4 / sqrt(HIDDEN)), add_layer(m, "b2", 1, HIDDEN, 0);
        add_layer(m, "w3", CLASSES, HIDDEN, 1 / sqrt(HIDDEN)), add_layer(m, "b3", 1, CLASSES, 0);
        m->teacher = calloc(CLASSES * IN, sizeof(float));
        for (size_t i = 0; i < CLASSES * IN; i++) m->teacher[i] = (float)normal(5 + 1000 * c->seed, i);
    } else {
        add_layer(m, "embedding", VOCAB * 8, EMBED, 1), add_layer(m, "gates", 4 * CELL, WIDTH, 1 / sqrt(WIDTH));
        add_layer(m, "gates.bias", 1, 4 * CELL, 0), add_layer(m, "output", VOCAB * 8, CELL, 1 / sqrt(CELL));
    }
    return m;
}

void model_destroy(model *m)
{
    for (int l = 0; l < m->layers; l++) {
        free(m->w[l]), free(m->v[l]), free(m->m[l]), free(m->scale[l]);
        for (int r = 0; r < m->c.ranks; r++) free(m->g[r][l]);
    }
    free(m->teacher);
    free(m);
}

int                model_layers(const model *m) { return m->layers; }
const truth_shape *model_shapes(const model *m) { return m->shape; }
double             model_loss(const model *m)
{
    double sum = 0;
    for (int r = 0; r < m->c.ranks; r++) sum += m->loss[r] / m->c.ranks;
    return sum;
}

/* y += W x; rows x cols */
static void apply(const float *w, const float *x, size_t rows, size_t cols, float *y)
{
    for (size_t i = 0; i < rows; i++) {
        float sum = 0;
        for (size_t j = 0; j < cols; j++) sum += w[i * cols + j] * x[j];
        y[i] += sum;
    }
}

/* dW += d x^T; dx += W^T d, where wanted */
static void back(const float *w, const float *x, const float *d, size_t rows, size_t cols, float *dw, float *dx)
{
    for (size_t i = 0; i < rows; i++) {
        if (d[i] == 0) continue;
        for (size_t j = 0; j < cols; j++) dw[i * cols + j] += d[i] * x[j];
        for (size_t j = 0; dx && j < cols; j++) dx[j] += d[i] * w[i * cols + j];
    }
}

/* Logits become probabilities less the target; returns the loss. */
static double softmax(float *z, size_t n, size_t target)
{
    float  top = z[0];
    double sum = 0, loss;
    for (size_t i = 1; i < n; i++) top = z[i] > top ? z[i] : top;
    for (size_t i = 0; i < n; i++) sum += exp((double)(z[i] - top));
    loss = log(sum) - (double)(z[target] - top);
    for (size_t i = 0; i < n; i++) z[i] = (float)(exp((double)(z[i] - top)) / sum) - (i == target);
    return loss;
}

static void mlp_sample(model *m, float *const *g, uint64_t seed, float share, double *loss)
{
    float  x[IN], h1[HIDDEN], h2[HIDDEN], z[CLASSES], label[CLASSES] = {0}, d2[HIDDEN] = {0}, d1[HIDDEN] = {0};
    size_t target = 0;
    for (size_t i = 0; i < IN; i++) x[i] = (float)normal(seed, i);
    apply(m->teacher, x, CLASSES, IN, label);
    for (size_t i = 1; i < CLASSES; i++) target = label[i] > label[target] ? i : target;
    memcpy(h1, m->w[1], sizeof h1), apply(m->w[0], x, HIDDEN, IN, h1);
    for (size_t i = 0; i < HIDDEN; i++) h1[i] = h1[i] > 0 ? h1[i] : 0;
    memcpy(h2, m->w[3], sizeof h2), apply(m->w[2], h1, HIDDEN, HIDDEN, h2);
    for (size_t i = 0; i < HIDDEN; i++) h2[i] = h2[i] > 0 ? h2[i] : 0;
    memcpy(z, m->w[5], sizeof z), apply(m->w[4], h2, CLASSES, HIDDEN, z);
    *loss += (double)share * softmax(z, CLASSES, target);
    for (size_t i = 0; i < CLASSES; i++) z[i] *= share, g[5][i] += z[i];
    back(m->w[4], h2, z, CLASSES, HIDDEN, g[4], d2);
    for (size_t i = 0; i < HIDDEN; i++) d2[i] = h2[i] > 0 ? d2[i] : 0, g[3][i] += d2[i];
    back(m->w[2], h1, d2, HIDDEN, HIDDEN, g[2], d1);
    for (size_t i = 0; i < HIDDEN; i++) d1[i] = h1[i] > 0 ? d1[i] : 0, g[1][i] += d1[i];
    back(m->w[0], x, d1, HIDDEN, IN, g[0], NULL);
}

typedef struct cell {
    float x[WIDTH], gate[4 * CELL], c[CELL], z[VOCAB * 8];
} cell;

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

static void cell_forward(const model *m, cell *now, const cell *before)
{
    memcpy(now->gate, m->w[2], sizeof now->gate);
    apply(m->w[1], now->x, 4 * CELL, WIDTH, now->gate);
    for (size_t i = 0; i < 3 * CELL; i++) now->gate[i] = sigmoid(now->gate[i]);
    for (size_t i = 3 * CELL; i < 4 * CELL; i++) now->gate[i] = tanhf(now->gate[i]);
    for (size_t i = 0; i < CELL; i++) /* input, forget, output, candidate */
        now->c[i] = now->gate[i] * now->gate[3 * CELL + i] + (before ? now->gate[CELL + i] * before->c[i] : 0);
}

/* dh, dc: of this cell's outputs; become those of the one before. */
static void cell_backward(const model *m, const cell *now, const cell *before, float *const *g, size_t token, float *dh,
                          float *dc)
{
    float d[4 * CELL], dx[WIDTH] = {0};
    for (size_t i = 0; i < CELL; i++) {
        const float *a = now->gate;
        float in = a[i], forget = a[CELL + i], out = a[2 * CELL + i], new = a[3 * CELL + i], th = tanhf(now->c[i]);
        float c = dc[i] + dh[i] * out * (1 - th * th);
        d[i] = c * new *in *(1 - in);
        d[CELL + i] = before ? c * before->c[i] * forget * (1 - forget) : 0;
        d[2 * CELL + i] = dh[i] * th * out * (1 - out);
        d[3 * CELL + i] = c * in * (1 - new *new);
        dc[i] = c * forget;
    }
    for (size_t i = 0; i < 4 * CELL; i++) g[2][i] += d[i];
    back(m->w[1], now->x, d, 4 * CELL, WIDTH, g[1], dx);
    for (size_t i = 0; i < EMBED; i++) g[0][token * EMBED + i] += dx[i];
    memcpy(dh, dx + EMBED, CELL * sizeof *dh);
}

/* A random walk over tokens with a few frequent ones, as text has. */
static void draw_tokens(uint64_t seed, size_t token[LENGTH + 1])
{
    token[0] = (size_t)(VOCAB * 8 * pow(uniform(seed, 0), 3));
    for (size_t t = 1; t <= LENGTH; t++) {
        double u = uniform(seed, t);
        token[t] =
            u < 0.7 ? (token[t - 1] * 5 + 7) % (VOCAB * 8) : (size_t)(VOCAB * 8 * pow(uniform(seed, 100 + t), 3));
    }
}

static void lstm_sample(model *m, float *const *g, uint64_t seed, float share, double *loss)
{
    cell   all[LENGTH];
    size_t token[LENGTH + 1];
    float  dh[CELL] = {0}, dc[CELL] = {0}, h[LENGTH][CELL];
    draw_tokens(seed, token);
    for (size_t t = 0; t < LENGTH; t++) {
        cell *c = &all[t];
        memcpy(c->x, m->w[0] + token[t] * EMBED, EMBED * sizeof(float));
        for (size_t i = 0; i < CELL; i++) c->x[EMBED + i] = t ? h[t - 1][i] : 0;
        cell_forward(m, c, t ? c - 1 : NULL);
        for (size_t i = 0; i < CELL; i++) h[t][i] = c->gate[2 * CELL + i] * tanhf(c->c[i]);
        memset(c->z, 0, sizeof c->z), apply(m->w[3], h[t], VOCAB * 8, CELL, c->z);
        *loss += (double)share / LENGTH * softmax(c->z, VOCAB * 8, token[t + 1]);
        for (size_t i = 0; i < VOCAB * 8; i++) c->z[i] *= share / LENGTH;
    }
    for (size_t t = LENGTH; t-- > 0;) {
        back(m->w[3], h[t], all[t].z, VOCAB * 8, CELL, g[3], dh);
        cell_backward(m, &all[t], t ? &all[t - 1] : NULL, g, token[t], dh, dc);
    }
}

void model_gradient(truth *t, int rank, int step, int layer, float *out)
{
    model *m = t->model;
    if (layer == 0) {
        m->loss[rank] = 0;
        for (int l = 0; l < m->layers; l++) memset(m->g[rank][l], 0, m->n[l] * sizeof(float));
        for (int b = 0; b < m->c.batch; b++) {
            uint64_t seed = taut__seed((uint64_t)step + 1000003 * m->c.seed, (uint64_t)(rank * 4096 + b));
            if (m->teacher) mlp_sample(m, m->g[rank], seed, 1.0f / (float)m->c.batch, &m->loss[rank]);
            else lstm_sample(m, m->g[rank], seed, 1.0f / (float)m->c.batch, &m->loss[rank]);
        }
    }
    memcpy(out, m->g[rank][layer], m->n[layer] * sizeof(float));
}

const float *model_scale(truth *t, int step, int layer)
{
    model *m = t->model;
    return m->c.adam && step > 2 ? m->scale[layer] : NULL;
}

void model_step(truth *t, int step, float *const *mean)
{
    model *m = t->model;
    double b1 = 0.9, b2 = 0.99, c1 = 1 - pow(b1, step + 1), c2 = 1 - pow(b2, step + 1);
    for (int l = 0; l < m->layers; l++)
        for (size_t i = 0; i < m->n[l]; i++) {
            double g = mean[l][i];
            if (!m->c.adam) {
                m->w[l][i] -= (float)(m->c.rate * g);
                continue;
            }
            m->m[l][i] = (float)(b1 * m->m[l][i] + (1 - b1) * g);
            m->v[l][i] = (float)(b2 * m->v[l][i] + (1 - b2) * g * g);
            m->scale[l][i] = (float)(sqrt(m->v[l][i] / c2) + 1e-6);
            m->w[l][i] -= (float)(m->c.rate * m->m[l][i] / c1) / m->scale[l][i];
        }
}
