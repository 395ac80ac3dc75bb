/* test_long_tensor.c : layers of more than 2^31 elements, whose byte counts, element numbers and slice numbers no int
 * holds. Most of a rank's 8 GiB is one window of zeros, mapped again and again, which sums of zeros leave as it is; only
 * both ends and the place where 2^31 is crossed are memory of their own, with values that tell where they belong. So
 * the test needs 200 MiB per rank, and a value that lands in a wrong place is seen. */
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define NEED(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond)) return taut__fail(TAUT_E_INVALID, "line %d: %s", __LINE__, #cond);                                \
    } while (0)

enum { WINDOW = 1 << 24, TAIL = 12345 };
static const size_t ELEMS = ((size_t)1 << 31) + TAIL;
static const size_t own[] = {0, ((size_t)1 << 31) / WINDOW - 1, ((size_t)1 << 31) / WINDOW}; /* windows with values */
enum { OWN = sizeof own / sizeof *own };

typedef struct plan {
    const char *algorithm, *codec;
} plan;
static const plan plans[] = {
    {"auto", "none"},           {"ring", "none"},         {"sra", "quant:bits=1"},         {"ring", "quant:bits=4"},
    {"gather", "quant:bits=1"}, {"sra", "grid:step=0.5"}, {"sra", "topk:density=0.00001"}, {"sra", "fp16"}};

static void *map(void *at, int fd, size_t window)
{
    return mmap(at, (size_t)WINDOW * sizeof(float), PROT_READ | PROT_WRITE, MAP_SHARED | (at ? MAP_FIXED : 0), fd,
                (off_t)(window * WINDOW * sizeof(float)));
}

static taut_status tensor_create(float **x)
{
    size_t windows = taut__ceil_div(ELEMS, WINDOW), bytes = windows * WINDOW * sizeof **x;
    int    fd = memfd_create("taut", 0);
    NEED(fd >= 0 && ftruncate(fd, (off_t)((OWN + 1) * WINDOW * sizeof **x)) == 0);
    *x = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    NEED(*x != MAP_FAILED);
    for (size_t w = 0; w < windows; w++) {
        size_t k = 0;
        while (k < OWN && own[k] != w) k++;
        NEED(map(*x + w * WINDOW, fd, k) != MAP_FAILED); /* the last window of the file is the zeros' */
    }
    close(fd);
    return TAUT_OK;
}

/* 0 or 1; a sparse codec keeps few values of a slice, so that it gets few: */
static float value(size_t i, bool sparse)
{
    if (sparse) return i % (1 << 22) == 7 || i == ELEMS - 1;
    return (float)(taut__random32(taut__rng_of(3, i), (uint32_t)i) & 1);
}

static taut_status reduce_long(ranks_ctx *c)
{
    const plan *p = c->arg;
    bool        sparse = p->codec[0] == 't';
    float      *x = NULL;
    taut_layer *l;
    TAUT_TRY(tensor_create(&x));
    for (size_t k = 0; k < OWN; k++)
        for (size_t i = own[k] * WINDOW; i < taut__min((own[k] + 1) * WINDOW, ELEMS); i++) x[i] = value(i, sparse);
    TAUT_TRY(taut_layer_register(c->comm, "long", TAUT_F32, 2, (size_t[]){1, ELEMS}, &l));
    TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
    for (size_t k = 0; k < OWN; k++)
        for (size_t i = own[k] * WINDOW; i < taut__min((own[k] + 1) * WINDOW, ELEMS); i++)
            if (x[i] != (float)c->size * value(i, sparse))
                return taut__fail(TAUT_E_INVALID, "element %zu is %g", i, (double)x[i]);
    for (size_t i = WINDOW; i < (size_t)2 * WINDOW; i++) NEED(x[i] == 0);
    munmap(x, taut__ceil_div(ELEMS, WINDOW) * WINDOW * sizeof *x);
    return TAUT_OK;
}

START_TEST(long_tensor)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    double      begin = taut__now();
    cfg.codec = plans[_i].codec;
    cfg.algorithm = plans[_i].algorithm;
    cfg.feedback = "off"; /* a residual has the layer's size */
    cfg.timeout_ms = 300000;
    ranks_ok(2, &cfg, reduce_long, (void *)(uintptr_t)&plans[_i]);
    printf("%s by %s: %.1f s\n", plans[_i].codec, plans[_i].algorithm, taut__now() - begin);
}
END_TEST

int main(void)
{
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    puts("SKIP 2^31 elements take an hour under a sanitizer");
    puts("0 passed, 0 failed, 1 skipped");
    return 0;
#endif
    Suite *s = suite_create("long tensors");
    TCase *t = suite_case(s, "all", 900);
    tcase_add_loop_test(t, long_tensor, 0, sizeof plans / sizeof *plans);
    return suite_run(s);
}
