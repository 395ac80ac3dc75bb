/* shards.h : training data from shards (comm/taut_data.h): what rank 0 finds out before the first step, and how samples become
 * batches. The samples of a step come from feed.h. */
#ifndef TRAIN_SHARDS_H
#define TRAIN_SHARDS_H

#include "data.h"
#include "options.h"

enum { SHARDS_NAME = 48, SHARDS_STATE = 128 };

/* How a stored value becomes what the model sees. The same on all ranks. */
typedef struct shards_facts {
    uint64_t samples, round, rounds, batch,
        steps; /* of the shards, of a round; samples of a step on all ranks; steps of the plan */
    uint64_t hash, elems, n_val, state_bytes;
    int64_t  classes, shape[3];
    int32_t  ndim, text, targets, width, floats; /* width: bytes of a stored value */
    float    mean, unit;
    char     input[SHARDS_NAME], label[SHARDS_NAME], soft[SHARDS_NAME], rule[200]; /* soft: "" = labels only */
    uint8_t  state[SHARDS_STATE]; /* of --resume: what pins plan and batch */
} shards_facts;

struct shards {
    shards_facts f;
    char       **path;
    size_t       n;
    float       *val_values; /* n_val * elems, as the model sees them */
    int64_t     *val_tokens; /* n_val * (elems + 1) */
    int64_t     *val_label;
};

/* shards_named() : does --data name shards: files *.taut, or files with an index FILE.taut beside them, several joined by commas, or a
 *  folder with files *.taut? */
bool shards_named(const char *data);

/* shards_open() : collective; prints why and returns an exit code on all ranks, as ranks_agree() does. Sets o->steps where the user
 *  left it open. */
int  shards_open(data *d, options *o);
void shards_close(data *d);

/* One stored sample as sample k of the batch. pick: any number, chooses the window of a longer text. */
void shards_put(const data *d, data_room *room, size_t k, const uint8_t *bytes, size_t n, int64_t label, uint64_t pick);
void shards_put_val(const data *d, data_room *room, size_t k, size_t i);

/* shards_soft() : does the data have soft labels: a float32 field `soft` with a probability of each class? Then they are what is learned. */
static inline bool shards_soft(const data *d) { return d->shards && d->shards->f.soft[0]; }

/* shards_label() : an integer of a label field. */
int64_t shards_label(const uint8_t *bytes, size_t n);

#endif
