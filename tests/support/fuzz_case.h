/* fuzz_case.h : fuzz targets without a fuzzer: seeds from tests/fuzz/corpus/NAME and from the test itself, whole, and damaged in many ways. What
 * can go wrong aborts (fuzz.h), or is seen by the sanitizers (make MODE=asan). Run from the top of the tree. */
#ifndef TAUT_TEST_FUZZ_CASE_H
#define TAUT_TEST_FUZZ_CASE_H

#include "suite.h"
#include "tests/fuzz/fuzz.h"
#include <dirent.h>

enum { FUZZ_SEED_MAX = 1 << 16 };
typedef int fuzz_target(const uint8_t *data, size_t size);

static uint64_t        fuzz_random = 9;
static inline uint32_t fuzz_dice(uint32_t n) { return (uint32_t)((fuzz_random = taut__mix64(fuzz_random)) >> 32) % n; }

static inline void fuzz_damage(uint8_t *p, size_t n)
{
    for (int times = 1 + (int)fuzz_dice(3); times && n; times--) {
        size_t at = fuzz_dice((uint32_t)n);
        switch (fuzz_dice(5)) {
        case 0: p[at] ^= (uint8_t)(1u << fuzz_dice(8)); break;
        case 1: p[at] = (uint8_t)fuzz_dice(256); break;
        case 2: memset(p + at, fuzz_dice(2) ? 255 : 0, taut__min(n - at, 1 + fuzz_dice(8))); break;
        case 3: p[at] = (uint8_t)(p[at] + 1 - 2 * fuzz_dice(2)); break;
        default: { /* neighbours from elsewhere */
            size_t from = fuzz_dice((uint32_t)n);
            memmove(p + at, p + from, taut__min(n - taut__max(at, from), 8));
            break;
        }
        }
    }
}

/* The seed, then so many damaged copies of it; a quarter of them cut as well. */
static inline void fuzz_seed(fuzz_target *target, const uint8_t *seed, size_t n, size_t copies)
{
    target(seed, n);
    for (size_t k = 0; k < copies; k++) {
        size_t   len = fuzz_dice(4) || n < 2 ? n : 1 + fuzz_dice((uint32_t)n);
        uint8_t *copy = malloc(len + (len == 0)); /* of that size, for the sanitizer to see who reads beyond it */
        ck_assert_ptr_nonnull(copy);
        if (len) memcpy(copy, seed, len);
        if (fuzz_dice(16)) fuzz_damage(copy, len);
        target(copy, len);
        free(copy);
    }
}

static inline int fuzz_visible(const struct dirent *e) { return e->d_name[0] != '.'; }

/* Every file of the folder, in order of their names; so many damaged copies of all of them together. Returns how many files there are. */
static inline int fuzz_corpus(fuzz_target *target, const char *name, size_t copies)
{
    char            path[512];
    struct dirent **file;
    uint8_t        *seed = malloc(FUZZ_SEED_MAX);
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", name);
    int files = scandir(path, &file, fuzz_visible, alphasort);
    ck_assert_msg(files > 0 && seed, "%s: run from the top of the tree", path);
    for (int i = 0; i < files; i++) {
        snprintf(path, sizeof path, "tests/fuzz/corpus/%s/%s", name, file[i]->d_name);
        FILE *f = fopen(path, "rb");
        ck_assert_msg(f != NULL, "%s", path);
        size_t n = fread(seed, 1, FUZZ_SEED_MAX, f);
        fclose(f);
        fuzz_seed(target, seed, n, copies / (size_t)files + 1);
        free(file[i]);
    }
    free(file);
    free(seed);
    return files;
}

/* FUZZ_SEEDS=1: what the test has made becomes the fuzzer's seed. */
static inline void fuzz_keep(const char *target, const char *name, const uint8_t *p, size_t n)
{
    char path[300];
    if (!getenv("FUZZ_SEEDS")) return;
    snprintf(path, sizeof path, "build/fuzz/corpus/%s/seed-%s", target, name);
    FILE *f = fopen(path, "wb");
    ck_assert_msg(f && fwrite(p, 1, n, f) == n && fclose(f) == 0, "%s: is there a folder?", path);
}

static inline size_t fuzz_copies(size_t usual, size_t in_long) { return suite_long() ? in_long : usual; }

#endif
