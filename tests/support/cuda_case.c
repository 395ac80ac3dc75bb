/* cuda_case.c : see cuda_case.h. */
#include "cuda_case.h"
#include "codec_case.h"
#include "cuda_host/control.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const taut__cuda taut__cuda_model __attribute__((weak));
extern void             cuda_model_seed(uint64_t seed) __attribute__((weak));

enum { BUFFERS_MAX = 256 };
static void             *buffer[BUFFERS_MAX];
static size_t            buffers;
static taut__cuda_stream stream;

void cuda_must(taut_status s, const char *what)
{
    if (s == TAUT_OK) return;
    fprintf(stderr, "cuda_case: %s: %s\n", what, taut_last_error());
    abort();
}

const taut__cuda *cuda_tables(void)
{
    const char       *gpu = getenv("TEST_GPU"), *why = "not linked with this test";
    const taut__cuda *c = gpu && *gpu == '1' ? taut__cuda_get(&why) : &taut__cuda_model;
    if (!c) fprintf(stderr, "cuda_case: no kernels: %s\n", why), abort();
    return c;
}

taut__cuda_stream cuda_begin(uint64_t seed)
{
    const taut__cuda *c = cuda_tables();
    const char       *more = getenv("TAUT_TEST_SEED"); /* other schedules */
    if (cuda_model_seed) cuda_model_seed(seed + (more ? 1000 * strtoull(more, NULL, 10) : 0));
    cuda_must(c->device->stream_create(&stream), "stream");
    return stream;
}

void cuda_end(void)
{
    const taut__cuda_device *d = cuda_tables()->device;
    cuda_must(d->wait(stream), "wait");
    while (buffers) d->release(buffer[--buffers]);
    d->stream_destroy(stream);
    stream = NULL;
}

void *cuda_new(size_t bytes, size_t offset)
{
    void *p;
    if (buffers == BUFFERS_MAX) fprintf(stderr, "cuda_case: too many buffers\n"), abort();
    cuda_must(cuda_tables()->device->alloc(bytes + offset, &p), "alloc");
    buffer[buffers++] = p;
    return (char *)p + offset;
}

/* The copy may still be under way: what is at `host` must not change before the next cuda_get() or cuda_end(). */
void *cuda_put(const void *host, size_t bytes, size_t offset)
{
    void *p = cuda_new(bytes, offset);
    cuda_must(cuda_tables()->device->copy(p, host, bytes, stream), "copy");
    return p;
}

void cuda_get(void *host, const void *device, size_t bytes)
{
    cuda_must(cuda_tables()->device->copy(host, device, bytes, stream), "copy back");
    cuda_must(cuda_tables()->device->wait(stream), "wait");
}

bool cuda_same(const float *x, const float *y, size_t n)
{
    if (n == 0 || memcmp(x, y, n * sizeof *x) == 0) return true;
    if (strcmp(cuda_tables()->name, "gpu") != 0) return false;
    for (size_t i = 0; i < n; i++)
        if (memcmp(x + i, y + i, sizeof *x) != 0 && !(isnan(x[i]) && isnan(y[i]))) return false;
    return true;
}

bool cuda_same_payload(const uint8_t *x, const uint8_t *y, size_t n)
{
    size_t words = n / 4;
    return cuda_same((const float *)(const void *)x, (const float *)(const void *)y, words) &&
           memcmp(x + 4 * words, y + 4 * words, n % 4) == 0;
}

static const char *const kinds[CUDA_KINDS] = {"normal", "zeros",       "denormals", "NaN",   "Inf",
                                              "huge",   "heavy tails", "equal",     "sparse"};
const char              *cuda_kind_name(int kind) { return kinds[kind]; }

void cuda_fill(float *x, size_t n, int kind)
{
    fill_normal(x, n, kind == 2 ? 1e-42f : kind == 5 ? 1e38f : 1e-3f, (uint64_t)kind + n);
    for (size_t i = 0; i < n; i++) {
        uint32_t r = taut__random32(taut__rng_of(n, i), (uint32_t)i);
        if (kind == 1) x[i] = r & 1 ? 0.0f : -0.0f;
        if (kind == 6) x[i] *= ldexpf(1, (int)(r % 24) - 12);
        if (kind == 7) x[i] = 1.5f;
        if (kind == 8 && r % 50) x[i] = 0;
    }
    if (kind == 3 && n) x[n / 2] = NAN;
    if (kind == 4 && n) x[n - 1] = -INFINITY, x[n / 3] = INFINITY;
    if (kind == 5 && n) x[n / 2] = FLT_MAX, x[n / 4] = -FLT_MAX;
}
