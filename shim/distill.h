/* distill.h : few images instead of many, from C; the conventions of torch.h. Not a torch type in it.
 *
 *  Three things, on images of bytes: make images whose features in random networks have the same mean as those of the real
 *  ones (distribution matching); train a small convolutional network, as a teacher or as a judge; ask it for class probabilities (soft labels).
 */
#ifndef TAUT_DISTILL_H
#define TAUT_DISTILL_H

#include "torch.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Images: n of channels*height*width bytes, one behind the other; label[i] in 0..classes-1. Borrowed during calls. */
typedef struct taut_torch_images {
    size_t         size; /* set by TAUT_TORCH_IMAGES_INIT */
    const uint8_t *pixels;
    const int64_t *labels;
    const float   *soft; /* (optional) n*classes probabilities to learn instead of the labels; NULL */
    size_t         n;
    int64_t        channels, height, width, classes;
    double         mean,
        deviation; /* of the values, 0..255: networks see (value-mean)/deviation; 0 deviation = measured on these */
} taut_torch_images;
#define TAUT_TORCH_IMAGES_INIT                                                                                         \
    {                                                                                                                  \
        sizeof(taut_torch_images), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                                                        \
    }

/* What is done to an image each time that a network sees it, always at random: rotation (15 degrees at most), scale (0.8..1.25 along each axis), shift (an eighth at
 * most), brightness and contrast, a blanked square of half the side, with `mirror` mirroring. */
enum {
    TAUT_TORCH_AUGMENT_AUTO =
        0, /* one where `mirror` is set, several where it is not: what was measured to do best on clothes and on digits */
    TAUT_TORCH_AUGMENT_SEVERAL =
        1, /* rotated, scaled and moved at once (7 of 10), or blanked, or the light; and mirrored */
    TAUT_TORCH_AUGMENT_ONE = 2, /* one of all of these, as in DSA (Zhao & Bilen, ICML 2021) */
    TAUT_TORCH_AUGMENT_NONE = 3
};

/* Called after every iteration with how many are done; not 0 stops with TAUT_E_STATE. */
typedef int (*taut_torch_progress)(void *ctx, int64_t done, int64_t total, double loss);

/* taut_torch_distill() : distribution matching (Zhao & Bilen, WACV 2023, equation 4 and algorithm 1) with siamese augmentation. In each iteration a
 *  network theta is drawn at random, and the images S move along the gradient of
 *      sum over classes c of | mean_{x in T_c} f_theta(A(x)) - mean_{s in S_c} f_theta(A(s)) |^2
 *  with T_c `real` random images of the class, and one random transformation A for both. Nothing is trained, so an iteration
 *  costs a forward pass of the real ones and one backward pass of S. It begins with random real images.
 *  out: classes*per_class images, class after class. With parts = f > 1 there are f*f times as many, of ceil(height/f) rows and ceil(width/f)
 *  columns: as many pixels, of which networks see enlargements (bilinear; Kim et al., ICML 2022, section 3.2: multi-formation). */
typedef struct taut_torch_distill_config {
    size_t   size;      /* set by TAUT_TORCH_DISTILL_INIT */
    int64_t  per_class; /* images of a class, 1..10000 */
    uint64_t seed;
    int64_t  iterations; /* 0 = 1200 */
    int64_t  real;       /* real images of a class in an iteration; 0 = 64 */
    int64_t  filters;    /* of the random networks; 0 = 64 */
    /* step, for one image a class: multiplied by how many there are, and by half a cosine that falls to 0; 0 = 0.25. If it is too large, the sum above
     * grows (Fashion-MNIST, ten images a class, 45 iterations: with 0.2 from 28 to 16, with 1 to 48) */
    double              lr;
    int32_t             mirror; /* 1: transformations may mirror: not for digits */
    taut_torch_progress progress;
    void               *ctx;
    int64_t             parts;   /* 1..8, 0 = 1: the pixels of one image hold parts*parts smaller ones */
    int32_t             augment; /* TAUT_TORCH_AUGMENT_... */
} taut_torch_distill_config;
#define TAUT_TORCH_DISTILL_INIT                                                                                        \
    {                                                                                                                  \
        sizeof(taut_torch_distill_config), 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0                                             \
    }
TAUT_API taut_status taut_torch_distill(const taut_torch_distill_config *cfg, const taut_torch_images *images,
                                        uint8_t *out);

/* taut_torch_judge : a network of three blocks (3x3 convolution, instance normalisation, ReLU, pooling) of `filters`, trained from the start on these
 *  images with augmentation: SGD with momentum 0.9 and weight decay 5e-4, the rate divided by 10 at half and at three quarters of the steps. */
typedef struct taut_torch_judge taut_torch_judge;
typedef struct taut_torch_judge_config {
    size_t              size; /* set by TAUT_TORCH_JUDGE_INIT */
    uint64_t            seed;
    int64_t             filters; /* 0 = 64 */
    int64_t             steps;   /* 0 = 600 */
    int64_t             batch;   /* 0 = 128; at most all images */
    double              lr;      /* 0 = 0.02 */
    int32_t             mirror;
    taut_torch_progress progress;
    void               *ctx;
    int64_t height, width; /* of the images it will be asked about; 0 = of these. Others are scaled, bilinear */
    int32_t augment;       /* TAUT_TORCH_AUGMENT_... */
} taut_torch_judge_config;
#define TAUT_TORCH_JUDGE_INIT                                                                                          \
    {                                                                                                                  \
        sizeof(taut_torch_judge_config), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                                               \
    }
TAUT_API taut_status taut_torch_judge_train(const taut_torch_judge_config *cfg, const taut_torch_images *images,
                                            taut_torch_judge **judge);
/* probability: n*classes, as many as the judge was trained on, softmax of logits divided by `temperature` (> 0); hits: how many have the largest at their label. Either may be NULL. */
TAUT_API taut_status taut_torch_judge_ask(taut_torch_judge *judge, const taut_torch_images *images, double temperature,
                                          float *probability, int64_t *hits);
TAUT_API void        taut_torch_judge_destroy(taut_torch_judge *judge);

#ifdef __cplusplus
}
#endif
#endif
