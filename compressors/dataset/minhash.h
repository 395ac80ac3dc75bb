/* minhash.h : near duplicates: documents whose sets of n-grams overlap by at least a given Jaccard index.
 *
 * The way: a document becomes a set of hashed n-grams (of words, or of token ids); MinHash sketches it (Broder 1997: the minima
 * of k random functions of two sets agree in a share J of them); the minima are cut into `bands` bands of `rows` rows, and two
 * documents whose rows agree in a whole band are candidates, which happens with probability 1 - (1 - J^rows)^bands (Leskovec,
 * Rajaraman, Ullman: Mining of Massive Datasets, section 3.4.2); a candidate counts only after its Jaccard index was computed.
 * So nothing is called a duplicate that is none, and a pair at J = 0.8, 0.85, 0.9 is missed with probability 0.08, 0.01, 0.0003 by
 * the usual 14 bands of 8 rows.
 *
 * All of it is a function of the text and the seed, so ranks may sketch a part each: the keys are the same, and
 * taut__near_duplicates() over all keys gives the same answer for any number of ranks. */
#ifndef TAUT_MINHASH_H
#define TAUT_MINHASH_H

#include "../../comm/base/base.h"

enum { TAUT__MINHASH_BANDS = 14, TAUT__MINHASH_ROWS = 8, TAUT__MINHASH_NGRAM = 5, TAUT__MINHASH_MAX = 512 };
#define TAUT__NEAR_JACCARD 0.8 /* the usual threshold */

/* ---- Sets of n-grams ---- zero-initialise; taut__shingles_free(). Kept between calls, so that memory is reused. */
typedef struct taut__shingles {
    uint64_t *p; /* n hashes, ascending, each once */
    size_t    n, cap;
} taut__shingles;

/* taut__shingles_text() : of `ngram` successive words (1..32); a text of fewer words is one n-gram, one without any an empty set.
 *  A word is a run of ASCII letters and digits, without regard to case, and of other characters below U+3000; from
 *  there on (CJK, Hangul, emoji) each character is a word. Everything else separates. Bytes need not be valid UTF-8.
 *  taut__shingles_tokens() : the same of token ids of `width` bytes (1, 2, 4, 8), little-endian; a rest below width is ignored. */
taut_status taut__shingles_text(taut__shingles *s, const uint8_t *text, size_t bytes, unsigned ngram);
taut_status taut__shingles_tokens(taut__shingles *s, const uint8_t *ids, size_t bytes, size_t width, unsigned ngram);
void        taut__shingles_free(taut__shingles *s);

/* |a and b| / |a or b|; 0 where both are empty. */
double taut__jaccard(const taut__shingles *a, const taut__shingles *b);

/* ---- Sketches ---- */
typedef struct taut__minhash {
    uint32_t bands, rows;
    uint64_t a[TAUT__MINHASH_MAX], b[TAUT__MINHASH_MAX]; /* function i: the upper half of a[i]*x + b[i] modulo 2^64 */
} taut__minhash;

/* bands * rows must be 1..TAUT__MINHASH_MAX: else TAUT_E_RANGE. */
taut_status taut__minhash_init(taut__minhash *m, uint32_t bands, uint32_t rows, uint64_t seed);

/* key[0..bands) : a hash of each band. TAUT__NO_KEY in all of them for an empty set: it is nobody's candidate. */
#define TAUT__NO_KEY UINT64_MAX
void taut__minhash_keys(const taut__minhash *m, const taut__shingles *s, uint64_t *key);

/* ---- Duplicates ----
 * taut__near_duplicates() : documents 0..n-1 in order (n below 2^32 - 1); document j stays unless it is near to an earlier one
 *  that stays. first[j] = j for those that stay, else the lowest staying document that j is near to.
 *  key: n * bands, document after document. near(): *yes = are documents i < j, both candidates of each other, near? A
 *  failure of it ends the search. */
typedef struct taut__near {
    void *ctx;
    taut_status (*near)(void *ctx, uint64_t i, uint64_t j, bool *yes);
} taut__near;
taut_status taut__near_duplicates(uint64_t n, uint32_t bands, const uint64_t *key, const taut__near *near,
                                  uint64_t *first);

#endif
