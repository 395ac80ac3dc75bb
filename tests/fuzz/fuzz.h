/* fuzz.h : what the fuzz targets share. A target is LLVMFuzzerTestOneInput(): tests/fuzz/run.sh builds it with clang's libFuzzer, tests/unit/
 * test_fuzz_*.c runs it over tests/fuzz/corpus and damaged copies of it, without a fuzzer. A property that does not hold aborts. */
#ifndef FUZZ_H
#define FUZZ_H

#include "comm/base/base.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define FUZZ_HOLDS(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                             \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Memory of exactly `size` bytes, so that a sanitizer sees what is read beyond. */
static inline uint8_t *fuzz_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    FUZZ_HOLDS(copy);
    if (size) memcpy(copy, data, size);
    return copy;
}

/* A number drawn by an input's bytes. Not by its length, which mutations keep: a corpus of those that are drawn would grow. */
static inline uint32_t fuzz_draw(const uint8_t *data, size_t size) { return (uint32_t)(XXH3_64bits(data, size) >> 32); }

/* True for one of `of` inputs: what takes a hundred times as long as the rest is done for these. */
static inline bool fuzz_one_of(const uint8_t *data, size_t size, uint32_t of)
{
    return fuzz_draw(data, size) % of == 0;
}

/* fuzz_copy() as a string. */
static inline char *fuzz_string(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + 1);
    FUZZ_HOLDS(copy);
    if (size) memcpy(copy, data, size);
    copy[size] = 0;
    return copy;
}

#endif
