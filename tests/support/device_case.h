/* device_case.h : ranks that reduce a layer of some kind, and a small one, on the host or on the test's device (mock_space.h), and what came of
 * it: results, messages, checkpoint. */
#ifndef TAUT_TEST_DEVICE_CASE_H
#define TAUT_TEST_DEVICE_CASE_H

#include "mock_space.h"
#include "ranks.h"

enum { ROWS = 48, COLS = 150, N = ROWS * COLS, SMALL = 300, MOST = 7, STEPS = 3 };
typedef enum where { HOST, DEVICE, MIXED } where; /* mixed: every second rank */

typedef struct setup {
    const char *spec, *feedback, *algorithm, *dropped;
    taut_dtype  dtype;
    int         scale;                        /* 0: none, 1: one, 2: rows, 3: elements */
    int         ranks, threads, drop, poison; /* drop, poison: the step that is dropped, or holds a NaN; -1: none */
    float       amplitude, growth;            /* of gradients; from step to step */
    where       where;
    bool        nccl;   /* on the device: by NCCL (nccl_double.h), else by messages of the control half */
    bool        staged; /* nccl: but by a data half of messages, staged */
    bool        whole;  /* gradients are small whole numbers, whose sums are exact */
} setup;

typedef struct outcome { /* of one rank */
    taut_status status;
    uint64_t    result[STEPS + 1], small[STEPS + 1], residual, sent;
    char       *values; /* the last result, as it is */
    uint8_t    *state;
    size_t      state_bytes, plan_bytes; /* the plan lies at the end */
} outcome;

typedef struct trial {
    setup   set;
    outcome of[MOST];
} trial;

typedef struct buffer {
    bool       there;
    taut_place place;
    size_t     bytes;
    char      *here, *at; /* the program's copy, and what is reduced */
} buffer;

setup       setup_of(const char *spec, int ranks);
taut_config setup_config(const setup *s);

void        buffer_make(buffer *b, bool there, taut_place place, size_t bytes);
void        buffer_drop(buffer *b);
size_t      dtype_bytes(taut_dtype d);
taut_status buffer_start(taut_layer *l,
                         buffer *b); /* what is in b->here is written, late, in the order of the stream, and reduced */
uint64_t    buffer_result(const buffer *b);
void        buffer_end(ranks_ctx *c, buffer *b,
                       taut_place place); /* after the communicator and its stream, with which they go */
void        buffer_fill(const setup *s, int rank, int step, size_t n, void *to);

taut_status rank_enroll(ranks_ctx *c, const setup *s, taut_layer **w, taut_layer **b);
taut_status rank_steps(ranks_ctx *c, const setup *s, outcome *o, taut_layer *w, taut_layer *b, buffer *x, buffer *y,
                       int from, int to);
taut_status rank_save(ranks_ctx *c, outcome *o);

trial *trial_run(setup set, where at); /* all ranks, STEPS steps */
void   trial_free(trial *t);
void   trial_compare(const trial *a, const trial *b);
bool   same_on_device(
      setup s,
      bool
          mixed); /* on the device as on the host; mixed: also with every second rank on the device. False: it does not work on the host */
void device_left_empty(void);

#endif
