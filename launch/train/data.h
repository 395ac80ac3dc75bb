/* data.h : training and validation samples, from text or from IDX images.
 *
 * A sample is addressed by number, so that which rank trains on what is computed, never remembered: sample j of round
 * r is a keyed permutation of 0..n_train-1, rank k of p takes places (step*p + k)*batch .. of it. Ranks never share a
 * sample within a round, a resumed run continues exactly, and another number of ranks sees the same order. */
#ifndef TRAIN_DATA_H
#define TRAIN_DATA_H

#include "../../shim/torch.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum data_want { DATA_ANY, DATA_TEXT, DATA_IMAGES } data_want;

typedef struct data {
    bool    text;          /* tokens; else images */
    int64_t classes;       /* tokens of the vocabulary, or labels */
    size_t n_train, n_val; /* samples. text: a training sample starts at any token; validation windows do not overlap */
    size_t elems;          /* values of one sample: text ctx tokens, image channels*height*width */
    size_t targets;        /* of one sample: text ctx, image 1 */
    int    ndim;           /* of one sample: text {ctx}, image {1, height, width} */
    int64_t  shape[3];
    uint64_t hash;      /* of everything read; equal on all ranks of a job */
    char     what[160]; /* one line for people */

    uint16_t      *tokens; /* text: training part, then validation part */
    size_t         n_tokens, first_val;
    uint8_t       *pixels, *labels; /* images: training samples, then validation samples */
    struct shards *shards;          /* instead of all that (shards.h); NULL = none */
    float          mean, unit;      /* images: values are (pixel-mean)*unit, measured on the training samples */
} data;

/* data_open() : path NULL = the text that this machine has (its licence texts). units: "chars" or "bytes" of text.
 *  Returns 0, or an exit code after fault(). */
int  data_open(data *d, const char *path, data_want want, const char *units, int64_t ctx);
void data_close(data *d);

/* One reader each; for data_open(). data_is_idx: is this path IDX images? */
int  data_open_text(data *d, const char *path, const char *units, int64_t ctx);
int  data_open_idx(data *d, const char *path);
bool data_is_idx(const char *path);

uint64_t data_hash(uint64_t h, const void *p, size_t n); /* FNV-1a over 8-byte words; h of the call before, or 0 */

/* data_batch : room for `batch` samples, reused. x: tokens or values. */
typedef struct data_room {
    int64_t         *tokens, *targets;
    float           *values, *weights; /* weights: one per target, used where batch.weights points to them */
    float           *soft;             /* classes per target; NULL = the data has labels only */
    taut_torch_batch batch;
} data_room;
int  data_room_create(const data *d, int64_t batch, data_room *room);
void data_room_destroy(data_room *room);

/* Fill it: with samples first..first+batch-1 in the order of training, which goes on over all rounds; or with validation samples
 * first..first+n-1 of `of` samples spread evenly over all. */
void data_fill_train(const data *d, data_room *room, uint64_t seed, uint64_t first, int64_t batch);
void data_fill_val(const data *d, data_room *room, size_t first, size_t n, size_t of);

/* data_permute : place i of round `round` of 0..n-1; for tests of the order. */
size_t data_permute(size_t n, uint64_t key, size_t i);

#endif
