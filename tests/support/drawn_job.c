/* drawn_job.c : see drawn_job.h. */
#include "drawn_job.h"
#include "specs.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

__extension__ typedef _Float16 half;

/* ---- drawing ---- */

uint64_t drawn_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}
static uint64_t draw(uint64_t *s) { return drawn_mix((*s)++); }
size_t          drawn_below(uint64_t *s, size_t n) { return (size_t)(draw(s) % n); }
double          drawn_unit(uint64_t s) { return (double)(drawn_mix(s) >> 11) * 0x1p-53; }
#define ONE_OF(s, list) ((list)[drawn_below(s, sizeof(list) / sizeof *(list))])

static void draw_layer(uint64_t *s, int i, int steps, tensor *t)
{
    static const size_t sides[] = {1, 2, 3, 7, 16, 31, 64, 100, 129, 200};
    static const size_t sizes[] = {1, 2, 5, 63, 64, 65, 255, 1000, 1023, 1024, 1025, 4097, 16384, 33333};
    *t = (tensor){.dtype = drawn_below(s, 3)   ? TAUT_F32
                           : drawn_below(s, 2) ? TAUT_F16
                                               : TAUT_BF16,
                  .ndim = (int)drawn_below(s, 4)};
    snprintf(t->name, sizeof t->name, "layer %d", i);
    t->n = 1;
    for (int d = 0; d < t->ndim; d++) {
        t->shape[d] = t->ndim == 1 ? ONE_OF(s, sizes) : t->ndim == 2 ? ONE_OF(s, sides) : 1 + drawn_below(s, 30);
        t->n *= t->shape[d];
    }
    if (drawn_below(s, 4) == 0) {
        snprintf(t->codec, sizeof t->codec, "%s", ONE_OF(s, specs));
        if (strcmp(t->codec, "auto") && taut_spec_check(t->codec, t->ndim, t->shape)) t->codec[0] = 0;
    }
    if (drawn_below(s, 3) == 0)
        t->scales = drawn_below(s, 3) == 0 ? 1 : t->ndim && drawn_below(s, 2) ? t->shape[0] : t->n;
    if (drawn_below(s, 6) == 0) t->from = (int)drawn_below(s, (size_t)steps);
}

void drawn_job_of(uint64_t seed, drawn_job *j)
{
    static const char *const modes[] = {NULL, NULL, "on", "off", "momentum"}, *const algorithms[] = {
                                                                                  NULL,  NULL,   "native",
                                                                                  "sra", "ring", "gather"};
    static const char *const metrics[] = {NULL, "plain", "layer", "optimizer"}, *const budgets[] = {
                                                                                    NULL, "rel=0.05", "rel=0.3",
                                                                                    "like:topk:density=0.1"};
    static const int sizes[] = {1, 2, 2, 2, 3, 3, 4, 7};
    uint64_t         s = drawn_mix(seed);
    memset(j, 0, sizeof *j);
    j->seed = seed;
    j->ranks = ONE_OF(&s, sizes);
    j->layers = 1 + (int)drawn_below(&s, LAYERS);
    j->steps = 3 + (int)drawn_below(&s, STEPS - 2);
    snprintf(j->codec, sizeof j->codec, "%s", ONE_OF(&s, specs));
    j->cfg = (taut_config)TAUT_CONFIG_INIT;
    j->cfg.codec = j->codec;
    j->cfg.feedback = ONE_OF(&s, modes);
    j->cfg.algorithm = ONE_OF(&s, algorithms);
    j->cfg.metric = ONE_OF(&s, metrics);
    j->cfg.budget = ONE_OF(&s, budgets);
    j->cfg.objective = drawn_below(&s, 2) ? "bytes" : "time";
    j->cfg.dropped = drawn_below(&s, 2) ? "clear" : "restore";
    j->cfg.link = "100mbit"; /* no clock decides anything */
    j->cfg.seed = 1 + drawn_below(&s, 1000);
    j->cfg.slice_kib = drawn_below(&s, 2) ? 64 : 1024;
    j->cfg.bucket_kib = drawn_below(&s, 2) ? 64 : 4096;
    j->cfg.small_elems = drawn_below(&s, 2) ? 1024 : 1 + (uint32_t)drawn_below(&s, 5000);
    j->cfg.replan_steps = 2 + (uint32_t)drawn_below(&s, 6);
    j->cfg.start_step = 1 + (uint32_t)drawn_below(&s, 3);
    for (int i = 0; i < j->layers; i++) draw_layer(&s, i, j->steps, &j->layer[i]);
    j->layer[0].from = 0;
    j->polled = drawn_below(&s, 4) == 0;
    j->hosts = drawn_below(&s, 3) ? 0 : 1 + (int)drawn_below(&s, 3);
    for (int step = 0; step < j->steps; step++) {
        j->event[step] = (int)drawn_below(&s, 8);
        for (int i = 0; i < j->layers; i++) {
            j->skipped[step][i] = drawn_below(&s, 12) == 0;
            j->call[step][i] = drawn_below(&s, 4) ? STARTED : drawn_below(&s, 2) ? AT_ONCE : SHARDED;
            j->op[step][i] = (taut_op)drawn_below(&s, 2);
            j->kind[step][i] = (int)drawn_below(&s, 24);
        }
    }
}

void drawn_variant(const drawn_job *j, int variant, taut_config *cfg, int *renewed)
{
    uint64_t s = drawn_mix(j->seed ^ 0xabcd) + 1000 * (uint64_t)variant;
    *cfg = j->cfg;
    cfg->threads = 1 + (int)drawn_below(&s, 3);
    cfg->progress = (int)drawn_below(&s, 3);
    cfg->checksum = drawn_below(&s, 2) ? "on" : "off";
    cfg->delivery = drawn_below(&s, 3) ? "plain" : "assured";
    *renewed = variant > 0 && drawn_below(&s, 2) ? (int)drawn_below(&s, (size_t)j->steps) : -1;
}

/* ---- gradients ---- */

float drawn_gradient(const drawn_job *j, int step, int i, int rank, size_t e)
{
    uint64_t at = drawn_mix(drawn_mix(j->seed * 131 + (uint64_t)step) * 31 + (uint64_t)i) + e,
             own = drawn_mix(at + 0x1234567 * (uint64_t)(rank + 1));
    double x = (drawn_unit(own) + drawn_unit(own + 1) + drawn_unit(own + 2) - 1.5) * 0.02,
           common = (drawn_unit(at) - 0.5) * 0.03;
    switch (j->kind[step][i]) {
    case 0: return 0;
    case 1: return 0.25f;
    case 2: return drawn_unit(at) < 0.01 ? (float)x : 0;
    case 3: return (float)(common * 1e-6);
    case 4: return (float)(x * 1e3);
    case 5: return (float)common;
    case 6: return rank == 0 ? (float)x : 0;
    case 7: return e % 17 == 3 ? NAN : (float)x;
    case 8: return e % 31 == 5 ? (rank % 2 ? -INFINITY : INFINITY) : (float)x;
    case 9: return j->layer[i].dtype == TAUT_F16 ? (float)x : (float)(x * 1e-36);
    case 10: return j->layer[i].dtype == TAUT_F16 ? (float)x : (float)(x * 1e36);
    default: return (float)(x + common);
    }
}

bool drawn_broken(int kind) { return kind == 7 || kind == 8; }

void drawn_put(taut_dtype dtype, void *buf, size_t e, float x)
{
    if (dtype == TAUT_F32) {
        ((float *)buf)[e] = x;
    } else if (dtype == TAUT_F16) {
        ((half *)buf)[e] = (half)x;
    } else {
        uint32_t u;
        memcpy(&u, &x, 4);
        if (isfinite(x)) u += 0x7fff + ((u >> 16) & 1);
        ((uint16_t *)buf)[e] = (uint16_t)(u >> 16);
    }
}

float drawn_get(taut_dtype dtype, const void *buf, size_t e)
{
    if (dtype == TAUT_F32) return ((const float *)buf)[e];
    if (dtype == TAUT_F16) return (float)((const half *)buf)[e];
    uint32_t u = (uint32_t)((const uint16_t *)buf)[e] << 16;
    float    x;
    memcpy(&x, &u, 4);
    return x;
}

size_t drawn_width(taut_dtype d) { return d == TAUT_F32 ? 4 : 2; }
bool   drawn_late(const drawn_job *j)
{
    for (int i = 0; i < j->layers; i++)
        if (j->layer[i].from > 0) return true;
    return false;
}
