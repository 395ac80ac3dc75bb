/* scene.h : a small model trained under codec=auto, each step's true error held against its budget. */
#ifndef TAUT_TEST_SCENE_H
#define TAUT_TEST_SCENE_H

#include "models.h"

enum { SCENE_STEPS = 400 };

typedef struct scene {
    model_config model;
    const char  *budget, *metric, *feedback,
        *reference; /* reference: the spec of a like: budget, computed beside; or NULL */
    int steps;
} scene;

typedef struct scene_result { /* of planned steps */
    int    planned;
    int    over;                 /* truly over the budget */
    int    unseen;               /* of them, neither counted nor inside the interval that was reported */
    int    inside, below, above; /* the true error is inside the reported interval; below it; above it */
    double used;                 /* sum over steps of true error over budget */
    double first, worst;         /* that, of the first one; the largest */
    double ratio;                /* median of reported over true */
    double control, bits; /* statistics and samples over 2 bits per element, mean; bits per element, all in all */
    int    plans;
} scene_result;

/* Of a run of codec=auto, at most SCENE_STEPS steps. Prints a line, which begins with `what`. */
scene_result scene_judge(const truth *t, const char *what);

/* Prints a line. A run that fails: status in *why, which has room for 512, else "". */
scene_result scene_run(const scene *c, char *why);

#endif
