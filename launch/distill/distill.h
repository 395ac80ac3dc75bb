/* distill.h : `taut data distill`, libexec/taut-distill: few images instead of many, as an ordinary shard, beside random ones. */
#ifndef DISTILL_H
#define DISTILL_H

#include "../../comm/taut_data.h"
#include "../../shim/distill.h"
#include "../cli.h"
#include <jansson.h>

/* Images of shards in memory. */
typedef struct image_pool {
    taut_torch_images t; /* points into the two below */
    uint8_t          *pixels;
    int64_t          *labels;
    float            *soft; /* soft_n * soft_classes, of a field `soft` of the shards; NULL = there is none */
    size_t            soft_n;
    int64_t           soft_classes;
    char              field[TAUT_FIELD_NAME];
    char             *names; /* of the classes, as in taut_shard_labels(); NULL = none */
    uint64_t          bytes; /* of the shards */
} image_pool;

/* pool_read() : every sample of the shards `list` (joined by commas): a field of u8 images of one shape, and the labels. Exit code; prints why. */
int  pool_read(image_pool *p, const char *list, const char *option);
void pool_free(image_pool *p);

/* One set that is judged: n images of the pool or made ones. */
typedef struct image_choice {
    const char *name;
    uint8_t    *pixels;
    int64_t    *labels;
    float      *soft; /* NULL = labels only */
    size_t      n;
    int64_t     height, width;     /* of the images: those of the pool, or a part of them */
    double      seconds, cpu_s;    /* to make it, teacher included where it was asked */
    double      accuracy, spread;  /* mean over seeds, %; -1 = not judged */
    uint64_t    bytes, soft_bytes; /* of its shard, and of the soft labels in it */
} image_choice;
void choice_free(image_choice *c);

typedef struct distill_options {
    const char *out, *from, *method, *validation, *soft_codec, *augment;
    int64_t  per_class, parts, iterations, real, filters, teacher_steps, judge_steps, judge_filters, seeds, candidates;
    double   lr, judge_lr, temperature;
    uint64_t seed;
    bool     soft, mirror, alone, json;
} distill_options;

/* choose.c : the methods. teacher may be NULL where the method needs none. */
int choose_random(const distill_options *o, const image_pool *p, image_choice *c);
int choose_easiest(const distill_options *o, const image_pool *p, taut_torch_judge *teacher, image_choice *c);
int choose_distilled(const distill_options *o, const image_pool *p, image_choice *c);
int choose_given(const distill_options *o, const image_pool *p, image_choice *c); /* those of the shard o->from */
int choose_soft(const distill_options *o, const image_pool *p, taut_torch_judge *teacher,
                image_choice *c); /* adds soft labels */

int32_t distill_augment(const distill_options *o); /* TAUT_TORCH_AUGMENT_... */

/* store.c : a shard of a choice; counts its bytes. */
int store_choice(const distill_options *o, const image_pool *p, image_choice *c, const char *path);

int    distill_progress(void *ctx, int64_t done, int64_t total, double loss); /* ctx: the word in front */
int    distill_fail(const char *what, taut_status s);                         /* of the shim: prints its sentence */
double distill_cpu(void);                                                     /* seconds of all threads */

#endif
