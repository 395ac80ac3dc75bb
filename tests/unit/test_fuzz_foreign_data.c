/* test_fuzz_foreign_data.c : the fuzz targets of the importers over their seeds, whole and damaged in many ways, without a fuzzer. What
 * can go wrong is seen by the sanitizers (make MODE=asan); without them it is that nothing crashes. LONG=1: many more. */
#define LLVMFuzzerTestOneInput unused_places
#include "tests/fuzz/fuzz_places.c"
#undef LLVMFuzzerTestOneInput
#include "../support/suite.h"
#include <dirent.h>
#include <stdio.h>
#include <string.h>

static int      damages = 600;
static uint64_t random_state = 9;
static uint32_t dice(uint32_t n) { return (uint32_t)((random_state = taut__mix64(random_state)) >> 32) % n; }

static const struct {
    const char         *name;
    const taut__format *format;
} targets[] = {{"mds", &taut__format_mds},           {"tar", &taut__format_tar},
               {"npy", &taut__format_npy},           {"idx", &taut__format_idx},
               {"tfrecord", &taut__format_tfrecord}, {"arrow", &taut__format_arrow},
               {"megatron", &taut__format_megatron}, {"places", NULL}};

static void run(int i, const uint8_t *p, size_t n)
{
    if (targets[i].format) fuzz_format(targets[i].format, targets[i].format == &taut__format_megatron, p, n);
    else unused_places(p, n);
}

static void damage(uint8_t *p, size_t n)
{
    for (int times = 1 + (int)dice(3); times && n; times--) {
        size_t at = dice((uint32_t)n);
        switch (dice(5)) {
        case 0: p[at] ^= (uint8_t)(1u << dice(8)); break;
        case 1: p[at] = (uint8_t)dice(256); break;
        case 2: memset(p + at, dice(2) ? 255 : 0, taut__min(n - at, 1 + dice(8))); break;
        case 3: p[at] = (uint8_t)(p[at] + 1); break;
        default:
            memmove(p + at, p + dice((uint32_t)n), taut__min(n - taut__max(at, n / 2), 8) % (n - at + 1) / 2);
            break;
        }
    }
}

static void try_seed(int i, const char *path)
{
    FILE    *f = fopen(path, "rb");
    uint8_t *seed = malloc(1 << 16), *copy = malloc(1 << 16);
    size_t   n = f ? fread(seed, 1, 1 << 16, f) : 0;
    ck_assert_msg(f && n > 4, "%s", path);
    fclose(f);
    run(i, seed, n);
    for (int k = 0; k < damages; k++) {
        size_t len = dice(4) ? n : 1 + dice((uint32_t)n);
        memcpy(copy, seed, n);
        if (dice(16)) damage(copy, len);
        run(i, copy, len);
    }
    free(seed);
    free(copy);
}

START_TEST(seeds)
{
    char           folder[128], path[512];
    DIR           *d;
    struct dirent *e;
    int            n = 0;
    snprintf(folder, sizeof folder, "tests/fuzz/corpus/%s", targets[_i].name);
    ck_assert_msg((d = opendir(folder)) != NULL, "%s: run from the top of the tree", folder);
    while ((e = readdir(d)) != NULL) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        try_seed(_i, path);
        n++;
    }
    closedir(d);
    ck_assert_int_ge(n, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fuzz_foreign");
    TCase *t = suite_case(suite, "fuzz_foreign", 600);
    if (suite_long()) damages = 5000;
    setenv("TAUT_LOG", "error", 1);
    tcase_add_loop_test(t, seeds, 0, sizeof targets / sizeof *targets);
    return suite_run(suite);
}
