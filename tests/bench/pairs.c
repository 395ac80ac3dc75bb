/* pairs.c : two builds of libtaut beside each other in one process, so that a busy machine disturbs both alike.
 *   build/release/tests/bench/pairs OLD/libtaut.so NEW/libtaut.so FILE.f32 FROM ELEMENTS DENSITY
 * The floats of the file from FROM on, by grid:code=rans at the step at which so many of them, as a fraction, are beyond the dead zone: payload bytes
 * of both, and seconds of the first over seconds of the second, median of pairs that take turns in going first. */
#include "comm/taut.h"
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PAIRS = 101, FRAME = 32 };
static const double dead = 0.65;

typedef struct build {
    taut_status (*encode)(const char *, int, const size_t *, const float *, uint64_t, void *, size_t, size_t *);
    taut_status (*decode)(const void *, size_t, float *, size_t);
    uint8_t *frame;
    size_t   bytes;
    double   encode_s, decode_s; /* of the last pair */
} build;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static void need(int ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "pairs: %s\n", what);
    exit(1);
}

static void once(build *b, const char *spec, const float *x, size_t n, size_t cap, float *back)
{
    int    times = (int)(1 + 100000 / n);
    double begin = now();
    for (int i = 0; i < times; i++)
        need(b->encode(spec, 1, &n, x, 1, b->frame, cap, &b->bytes) == TAUT_OK, "encode failed");
    double middle = now();
    for (int i = 0; i < times; i++) need(b->decode(b->frame, b->bytes, back, n) == TAUT_OK, "decode failed");
    b->encode_s = middle - begin, b->decode_s = now() - middle;
}

int main(int argc, char **argv)
{
    need(argc == 7, "OLD/libtaut.so NEW/libtaut.so FILE.f32 FROM ELEMENTS DENSITY");
    build  b[2];
    long   from = atol(argv[4]);
    size_t n = (size_t)atol(argv[5]), cap = 8 * n + 4096;
    double density = atof(argv[6]), encode[PAIRS], decode[PAIRS];
    need(n > 0 && from >= 0 && density > 0 && density < 1, "FROM 0 or more, ELEMENTS 1 or more, DENSITY in 0..1");
    float  *x = malloc(n * sizeof *x), *back = malloc(n * sizeof *x);
    double *size = malloc(n * sizeof *size);
    FILE   *f = fopen(argv[3], "rb");
    need(x && back && size && f && fseek(f, 4 * from, SEEK_SET) == 0, argv[3]);
    size_t got = fread(x, sizeof *x, n, f);
    need(got > 0, "no floats there");
    for (size_t i = got; i < n; i++) x[i] = x[i - got]; /* a short file again and again */
    for (size_t i = 0; i < n; i++) size[i] = fabs((double)x[i]);
    qsort(size, n, sizeof *size, by_size);
    char spec[80];
    snprintf(spec, sizeof spec, "grid:step=%.9g,code=rans", size[n - 1 - (size_t)((double)n * density)] / dead);
    for (int k = 0; k < 2; k++) {
        void *library = dlopen(argv[1 + k], RTLD_NOW | RTLD_LOCAL);
        need(library != NULL, library ? "" : dlerror());
        *(void **)&b[k].encode = dlsym(library, "taut_encode");
        *(void **)&b[k].decode = dlsym(library, "taut_decode");
        need(b[k].encode && b[k].decode && (b[k].frame = malloc(cap)), "not a libtaut");
        once(&b[k], spec, x, n, cap, back);
    }
    for (int i = 0; i < PAIRS; i++) {
        once(&b[i % 2], spec, x, n, cap, back), once(&b[1 - i % 2], spec, x, n, cap, back);
        encode[i] = b[0].encode_s / b[1].encode_s, decode[i] = b[0].decode_s / b[1].decode_s;
    }
    qsort(encode, PAIRS, sizeof *encode, by_size), qsort(decode, PAIRS, sizeof *decode, by_size);
    printf("n %zu, %g: %zu -> %zu bytes (%+.1f%%), speed: decode %.2f, encode %.2f\n", n, density, b[0].bytes - FRAME,
           b[1].bytes - FRAME, 100 * ((double)b[1].bytes / (double)b[0].bytes - 1), decode[PAIRS / 2],
           encode[PAIRS / 2]);
    return 0;
}
