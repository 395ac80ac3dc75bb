/* step_sums.h : the vector of a step's exchange, as small_allreduce.h carries it: values that are added over ranks, each at the precision that its
 * use needs. They stay in memory as doubles and floats; what is sent is made of them anew in every round, and so are they of that, so that
 * both sides add the same numbers.
 *
 * A vector is a sequence of runs:
 *   DOUBLE  8 bytes
 *   SHORT   4: the upper half of a double, 21 bits of precision
 *   CODE    2: not negative, off by 0.1% at most from 2^-56 to 2^40, by 3% from there to 2^-512 and 2^512; NaN and Inf stay what they are
 *   LEAST   2: likewise; not the sum, the least
 *   ALL     a bit: 1 on all ranks, or 0
 *   FLOAT, HALF   4 and 2, the latter bf16
 *   GROUP8, GROUP6   eight values: a byte for their largest, and 8 or 6 bits each, in 126ths or 30ths of it, with a subtractive dither: so that
 *           rounding errs by a twelfth of a grain's square whatever the values are
 *   LEVEL   1: not negative, three levels to an octave, 2^-44 to 2^40: for what errs by more anyhow. Off by up to 26%, by 9% as a rule, and rounded up
 *           or down at random, so that sums are right (of two levels they would lie halfway between others too often)
 * What a group or a level cannot hold, as NaN, is NaN, and so are all of its group. The first five lie in `values`, the others in `floats`.
 *
 * In front are two words, of which the first is ANDed and the second ORed: equal where they are the same on all ranks. They are made of the runs, too:
 * where ranks' vectors have other runs they come to differ on all ranks, and the rest is without meaning then. (Of two halves of the ranks whose vectors
 * are added in a round, either one has that sign everywhere, or their runs differ in every pair, or in none. Whether a message has the length of a
 * vector does not tell alone: with zeros left out it may have that of several.)
 *
 * squeezed: most of it is zero; zero bytes are left out. */
#ifndef TAUT_STEP_SUMS_H
#define TAUT_STEP_SUMS_H

#include "../../comm/base/base.h"

typedef enum taut__as {
    TAUT_AS_DOUBLE,
    TAUT_AS_SHORT,
    TAUT_AS_CODE,
    TAUT_AS_LEAST,
    TAUT_AS_ALL,
    TAUT_AS_FLOAT,
    TAUT_AS_HALF,
    TAUT_AS_GROUP8,
    TAUT_AS_GROUP6,
    TAUT_AS_LEVEL
} taut__as;

enum { TAUT_STEP_WORDS = 2, TAUT_STEP_GROUP = 8 };

typedef struct taut__run {
    uint32_t as, n; /* taut__as; values; of groups, whole ones */
} taut__run;

typedef struct taut__step_sums {
    uint32_t         word[TAUT_STEP_WORDS];
    const taut__run *run;
    size_t           runs;
    double          *values;
    float           *floats;
    bool             squeezed;
    uint64_t         seed; /* of dithers, in all rounds */
    uint8_t         *flat; /* taut__step_bytes() of scratch */
} taut__step_sums;

size_t taut__step_bytes(const taut__run *run, size_t runs); /* not squeezed */
size_t taut__step_room(size_t bytes);                       /* for what they may become */

/* Sets the words: what must be the same on all ranks, and the runs. */
void taut__step_words(taut__step_sums *s, uint64_t digest);

/* What is to be sent; returns its bytes. Values become what it says. seed: of the dither; who adds or takes the bytes has the same. */
size_t taut__step_pack(taut__step_sums *s, uint64_t seed, uint8_t *to);
void   taut__step_add(taut__step_sums *s, uint64_t seed, const uint8_t *from, size_t bytes, bool from_first);
/* In the place of what is there. */
void taut__step_take(taut__step_sums *s, uint64_t seed, const uint8_t *from, size_t bytes);

/* Distance of neighbouring values of a group whose largest is this, in units of them. */
float taut__step_grain(taut__as as, float most);

uint32_t taut__short_of(double x); /* rounded to nearest, ties to even */
double   taut__of_short(uint32_t s);
uint16_t taut__code_of(double x);
double   taut__of_code(uint16_t c);
uint8_t  taut__level_of(double x, double chance); /* the level above where its probability exceeds this, 0..1 */
double   taut__of_level(uint8_t c);

#endif
