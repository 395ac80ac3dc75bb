/* options.h : the command line of `taut train`. */
#ifndef TRAIN_OPTIONS_H
#define TRAIN_OPTIONS_H

#include "../../comm/taut.h"
#include "../cli.h"

typedef struct options {
    const char *model, *data, *tokens;   /* what to train on */
    const char *device;                  /* "cpu", "cuda" (that of the local rank's number) or "cuda:N" */
    bool        nccl;                    /* gradients on a device travel by NCCL */
    int64_t     ctx, dim, blocks, heads; /* size of built-in models; dim and blocks 0 = the model's default */
    const char *optimizer;
    double      lr, momentum, beta2, weight_decay, clip; /* lr 0 = by optimizer; clip 0 = off */
    int64_t     warmup, steps, batch, eval_every, eval_samples;
    uint64_t    seed;
    const char *codec, *budget, *objective, *metric, *feedback, *algorithm, *scale, *basis;
    double      scale_floor;
    cli_list    layer_codecs; /* PATTERN=SPEC */
    const char *checkpoint, *log, *compare;
    int64_t     checkpoint_every;
    const char *plan, *validation, *score; /* of shards */
    int64_t     global_batch, rounds;      /* 0 = batch * ranks; the plan's */
    const char *schedule;                  /* of the learning rate */
    uint64_t    data_cache;                /* bytes; 0 = automatic */
    int64_t     data_threads, data_ahead, read_delay_us;
    bool        resume, json;
} options;

enum { OPTIONS_STEPS = 300 }; /* where neither --steps nor a plan says */

/* Returns CLI_RUN, or the exit code after help or a message. The same answer on all ranks. */
int options_parse(options *o, int argc, char **argv);

/* Of everything that must be equal on all ranks; paths may differ. */
uint64_t options_hash(const options *o);

bool options_is(const char *value, const char *word); /* both given and equal */

/* The learning rate of a step (from 0), relative to --lr: linear warm-up, then --schedule down to 0 at the last step (cosine: Loshchilov &
 * Hutter 2017, equation 5, without restarts). */
double options_rate(const options *o, int64_t step);

/* PATTERN=SPEC taken apart: the pattern's length is returned, *spec points behind the '='. */
size_t options_layer_codec(const char *item, const char **spec);

#endif
