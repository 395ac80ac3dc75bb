#include "codec_case.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void must(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "codec_case: %s: %s\n", what, taut_last_error());
    abort();
}

void case_open(codec_case *k, const char *spec, size_t rows, size_t cols)
{
    memset(k, 0, sizeof *k);
    must(taut__spec_parse(spec, &k->spec) == TAUT_OK, spec);
    k->tensor = (taut_tensor){.elems = rows * cols, .rows = rows, .cols = cols};
    must(taut__spec_suits(&k->spec, &k->tensor) == TAUT_OK, spec);
    k->codec = taut__spec_codec(&k->spec);
    k->call = (taut_call){.spec = &k->spec, .tensor = &k->tensor, .n = rows * cols, .seed = 11, .shared_seed = 7};
    k->cap = taut__spec_capacity(&k->spec, &k->tensor, k->tensor.elems);
    k->payload = malloc(k->cap);
    must(k->payload != NULL, "malloc");
}

void case_close(codec_case *k)
{
    if (k->call.state) taut__op_state_destroy(k->codec, (taut_place){0}, k->call.state);
    free(k->payload);
}

void case_round_trip(codec_case *k, const float *src, float *err, float *back)
{
    must(taut__op_encode(k->codec, &k->call, src, k->payload, k->cap, &k->len, err) == TAUT_OK, "encode");
    must(k->len <= k->cap, "payload within capacity");
    must(taut__op_decode(k->codec, &k->call, k->payload, k->len, back) == TAUT_OK, "decode");
}

static bool refused(codec_case *k, const uint8_t *bytes, size_t len, float *dst)
{
    uint8_t *copy = malloc(len ? len : 1);
    must(copy != NULL, "malloc");
    memcpy(copy, bytes, len);
    bool no = taut__op_decode(k->codec, &k->call, copy, len, dst) != TAUT_OK;
    no |= taut__op_decode_add(k->codec, &k->call, copy, len, dst) != TAUT_OK;
    free(copy);
    return no;
}

size_t case_fuzz_payload(codec_case *k)
{
    static const uint8_t change[] = {0x01, 0x80, 0xff, 0x10};
    size_t               count = 0;
    float               *dst = new_floats(k->call.n);
    for (size_t i = 0; i < k->len; i++)
        for (size_t j = 0; j < sizeof change; j++) {
            k->payload[i] ^= change[j];
            count += refused(k, k->payload, k->len, dst);
            k->payload[i] ^= change[j];
        }
    for (size_t len = 0; len < k->len; len++) {
        must(refused(k, k->payload, len, dst), "a truncated payload must be refused");
        count++;
    }
    free(dst);
    return count;
}

void fill_normal(float *x, size_t n, float sigma, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) { /* four uniforms: variance 4/12 */
        double    sum = 0;
        taut__rng g = taut__rng_of(seed, i);
        for (uint32_t j = 0; j < 4; j++) sum += taut__random32(g, (uint32_t)i * 4 + j) / 4294967296.0 - 0.5;
        x[i] = (float)(sum * 1.7320508 * sigma);
    }
}

float *new_floats(size_t n)
{
    float *x = calloc(n ? n : 1, sizeof *x);
    must(x != NULL, "calloc");
    return x;
}

double norm2(const float *x, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)x[i] * x[i];
    return s;
}

double distance2(const float *x, const float *y, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
    return s;
}

static float *floats_of(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        printf("SKIP no recorded gradient %s\n", path);
        fflush(stdout);
        return NULL;
    }
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f) / sizeof(float);
    rewind(f);
    float *x = new_floats(*n);
    must(fread(x, sizeof *x, *n, f) == *n, "trace");
    fclose(f);
    return x;
}

/* Noise whose scale changes by up to eight octaves from one run of 200 elements to the next, as it does between a gradient's
 * rows: large elements come in clusters, most blocks are nearly empty. */
static float *floats_like_a_gradient(size_t *n)
{
    enum { N = 800000, RUN = 200, OCTAVES = 9 };
    float *x = new_floats(*n = N);
    fill_normal(x, N, 0.01f, 400);
    for (size_t i = 0; i < N; i++) x[i] *= exp2f((float)(taut__mix64(3 + i / RUN) % OCTAVES) - OCTAVES / 2);
    return x;
}

float *trace_floats(size_t *n)
{
    const char *path = getenv("TAUT_TRACE_F32"), *shipped = "../shared/traces/gpt-step400-rank0.f32";
    if (path) return floats_of(path, n);
    return access(shipped, R_OK) == 0 ? floats_of(shipped, n) : floats_like_a_gradient(n);
}

float *trace_shipped(const char *name, size_t *n)
{
    char path[256];
    snprintf(path, sizeof path, "../shared/traces/%s.f32", name);
    return floats_of(path, n);
}
