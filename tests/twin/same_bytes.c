/* same_bytes.c : what every codec makes of a fixed input, as hashes, for comparing levels of one CPU (TAUT_CPU) and different
 * CPUs with each other: test_neon.sh runs it on this machine and, built for aarch64, under an emulator. Not a test by
 * itself. powersgd is left out: its products may come from a BLAS, whose order of summation is its own. */
#include "comm/base/base.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const specs[] = {"none",
                                    "fp16",
                                    "bf16",
                                    "quant:bits=4",
                                    "quant:bits=1",
                                    "quant:bits=3,norm=linf",
                                    "quant:bits=5,norm=l2,round=nearest",
                                    "quant:bits=8,bucket=64",
                                    "quant:bits=4,rotate=1",
                                    "quant:bits=7,bucket=128,rotate=1",
                                    "grid:step=0.003",
                                    "grid:step=0.2,code=rans",
                                    "grid:rel=0.03",
                                    "grid:rel=0.3,code=rans",
                                    "topk:density=0.05",
                                    "randk:density=0.1",
                                    "stack:quant:bits=2+topk:density=0.01"};
static const size_t      sizes[] = {1, 63, 64, 65, 511, 513, 4096, 70001};

static uint64_t hash(const void *p, size_t n)
{
    const unsigned char *c = p;
    uint64_t             h = n;
    for (size_t i = 0; i < n; i++) h = taut__mix64(h ^ c[i]);
    return h;
}

static void fill(float *x, size_t n)
{
    taut__rng rng = taut__rng_of(3, 0);
    for (size_t i = 0; i < n; i++) {
        float v = (float)taut__random32(rng, (uint32_t)i) / 2147483648.0f - 1.0f;
        x[i] = v * v * v * (i / 300 % 3 ? 0.01f : 1.0f);
        if (i % 1009 == 7) x[i] = 0;
        if (i % 2003 == 9) x[i] = 1e-40f; /* a denormal */
    }
}

int main(void)
{
    fprintf(stderr, "%s\n", taut_cpu_path());
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            size_t n = sizes[k], cap, len, shape[] = {n};
            float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
            fill(x, n);
            if (taut_encode_bound(specs[s], 1, shape, &cap) != TAUT_OK) return 1;
            char *frame = malloc(cap);
            if (taut_encode(specs[s], 1, shape, x, 11, frame, cap, &len) != TAUT_OK ||
                taut_decode(frame, len, y, n) != TAUT_OK) {
                fprintf(stderr, "%s: %s\n", specs[s], taut_last_error());
                return 1;
            }
            printf("%s %zu %016llx %016llx\n", specs[s], n, (unsigned long long)hash(frame, len),
                   (unsigned long long)hash(y, n * sizeof *y));
            free(x), free(y), free(frame);
        }
    return 0;
}
