/* feed.h : the samples of one run, step after step: from data in memory, or from shards through the loader. */
#ifndef TRAIN_FEED_H
#define TRAIN_FEED_H

#include "data.h"
#include "checkpoint.h"
#include <jansson.h>

typedef struct feed feed;

/* feed_open() : collective; prints why and returns an exit code on all ranks. at: what was done before. */
int  feed_open(feed **f, const data *d, const options *o, const checkpoint_place *at);
void feed_close(feed *f);

/* The most samples that a step has on this rank. */
int64_t feed_most(const data *d, const options *o);

/* feed_fill() : this rank's samples of the next step. Where the ranks' shares differ, or samples have weights, the batch has
 *  weights, so that the mean over ranks is the mean over the samples of the step. 0, or an exit code after fault(). */
int feed_fill(feed *f, data_room *room);

/* feed_ids() : the sample numbers of the last fill, n of them; NULL where they do not come from shards. */
const uint64_t *feed_ids(const feed *f, size_t *n);

/* feed_place() : where the next step begins, as a checkpoint holds it: samples and data of *at. 0, or an exit code after fault(). */
int feed_place(const feed *f, checkpoint_place *at);

/* feed_report() : collective; what the loader did, for --json: NULL without shards. On rank 0. */
json_t *feed_report(feed *f, double seconds);

#endif
