/* repeats.h : how much of a data set is there only once: exact duplicates by hash, near ones by MinHash (minhash.h), and what the
 * repetition costs.
 *
 * Muennighoff et al., Scaling Data-Constrained Language Models (NeurIPS 2023), eq. 5: training on U unique tokens, each of them R times more
 * than once, is worth as much as
 *     D' = U + U * R* * (1 - exp(-R / R*)),   R* = 15.4 (fitted there for the data; the fit is for repeats of everything alike)
 * unique ones. Parts that are repeated more than others lose more: D' is concave in R, so we give the sum over groups of copies, too.
 * A small part that is repeated often is worse than either says: 0.1% of the data, repeated 100 times, can cost half of the model's
 * parameters (Hernandez et al., Scaling Laws and Interpretability of Learning from Repeated Data, 2022), hence the warning. */
#ifndef TAUT_REPEATS_H
#define TAUT_REPEATS_H

#include "../../comm/taut_data.h"
#include "minhash.h"

#define TAUT__REPEATS_STAR 15.4

/* taut__effective() : D' of U unique units with R repeats (0 = seen once). */
double taut__effective(double unique, double repeats);

typedef struct taut__repeats_config {
    const char *field; /* NULL: the first that is no label */
    bool        near;  /* look for near duplicates, in texts, bytes and token ids */
    unsigned    ngram; /* 1..32 */
    uint32_t    bands, rows;
    double      jaccard;                                       /* from here on they are near; above 0 */
    double      epochs;                                        /* passes over everything, 1 or more */
    int (*progress)(void *ctx, uint64_t done, uint64_t total); /* not 0 stops with TAUT_E_STATE; may be NULL */
    void *ctx;
} taut__repeats_config;
#define TAUT__REPEATS_INIT                                                                                             \
    {                                                                                                                  \
        NULL, true, TAUT__MINHASH_NGRAM, TAUT__MINHASH_BANDS, TAUT__MINHASH_ROWS, TAUT__NEAR_JACCARD, 1, NULL, NULL    \
    }

/* Copies of at least this many, of at most this share of what is unique, that make up at least this share of all: warned of. */
enum { TAUT__REPEATS_OFTEN = 10 };
#define TAUT__REPEATS_SMALL 0.1
#define TAUT__REPEATS_NOTED 0.01

typedef struct taut__repeats {
    char     field[TAUT_FIELD_NAME], unit[8]; /* unit: "tokens" or "bytes" */
    bool     near;                            /* near ones were looked for */
    uint64_t samples;
    double   units; /* of all samples, one pass */
    uint64_t exact,
        near_more;   /* samples that are copies of an earlier one; further ones that are near to an earlier one */
    uint64_t groups; /* of two samples or more */
    double   unique_exact, unique; /* units without exact copies; without near ones, too */
    double   repeats, effective;   /* R = epochs * units / unique - 1, and D' of it */
    double   effective_groups;     /* the sum over groups */
    uint64_t most, most_first;     /* copies of the largest group, its first sample */
    /* groups of TAUT__REPEATS_OFTEN copies or more: */
    uint64_t often_groups;
    double   often_unique, often_all, often_copies; /* shares of unique and of all units; mean of copies, by units */
    bool     warn;
} taut__repeats;

/* taut__repeats_audit() : over all samples of n shards. TAUT_E_INVALID: no such field. Reads every sample once, and candidates for
 *  near duplicates again where their n-grams do not fit into 512 MiB. About 150 bytes of memory a sample. */
taut_status taut__repeats_audit(size_t n, const taut_shard *const *shards, const taut__repeats_config *config,
                                taut__repeats *result);

#endif
