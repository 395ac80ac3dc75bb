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

/* True for one of `of` inputs, drawn by their bytes: what takes a hundred times as long as the rest is done for these. Not by the length, which
 * mutations keep: a corpus of those that are drawn would grow. */
static inline bool fuzz_one_of(const uint8_t *data, size_t size, uint32_t of)
{
    return (uint32_t)(XXH3_64bits(data, size) >> 32) % of == 0;
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
