/* models.h : small models that are really trained, for gradients as training has them: ranks see different batches of generated data,
 * share the parameters, and so share a signal, more of it the larger the batch. */
#ifndef TAUT_TEST_MODELS_H
#define TAUT_TEST_MODELS_H

#include "truth.h"

enum { MODEL_LAYERS = 6 };

typedef struct model model;

typedef struct model_config {
    const char      *
        kind; /* "mlp": three matrices and their biases, a teacher's labels; "lstm": a recurrent cell, predicts the next token */
    bool     adam; /* else SGD */
    double   rate;
    int      batch; /* samples per rank and step */
    int      ranks;
    uint64_t seed; /* of parameters and data */
} model_config;

model             *model_create(const model_config *c);
void               model_destroy(model *m);
int                model_layers(const model *m);
const truth_shape *model_shapes(const model *m);
double             model_loss(const model *m); /* mean over ranks, of the last step */

/* As truth.h wants them; truth.model is the model. */
void         model_gradient(truth *t, int rank, int step, int layer, float *g);
const float *model_scale(truth *t, int step, int layer); /* sqrt(v) + eps of Adam, from the third step on */
void         model_step(truth *t, int step, float *const *mean);

#endif
