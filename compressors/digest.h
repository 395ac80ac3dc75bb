/* digest.h : a number that tells whether words of 64 bits are those that were sent, on the CPU and on a GPU, by as many threads as there are: a sum of mixed
 * words, each mixed with its place, and with the number of their row. One word that is another one is always noticed; more, but for one in 2^64. */
#ifndef TAUT_DIGEST_H
#define TAUT_DIGEST_H

#include "../comm/base/base.h"

/* What word i of the row adds to the sum, modulo 2^64. */
TAUT_INLINE uint64_t taut__digest_word(uint64_t word, uint64_t row, uint64_t i)
{
    return taut__mix64(word ^ taut__seed(row, i));
}

#endif
