/* ranks.h : a test body run by every rank of a communicator over threads, and the data that it reduces. */
#ifndef TAUT_TEST_RANKS_H
#define TAUT_TEST_RANKS_H

#include "comm/core/communicator.h"

typedef struct ranks_ctx {
    taut_comm  *comm;
    int         rank, size;
    void       *arg;
    taut_status status; /* what the body returned */
    char        error[512];
} ranks_ctx;

typedef taut_status (*ranks_body)(ranks_ctx *c);

/* Runs body on `size` ranks; ctx: size results, or NULL. Fails the test if creation fails. Destroys the communicators; a body that has done
 * so sets its comm to NULL. */
void ranks_run(int size, const taut_config *cfg, ranks_body body, void *arg, ranks_ctx *ctx);
/* The same, and every rank must return TAUT_OK. */
void ranks_ok(int size, const taut_config *cfg, ranks_body body, void *arg);

/* All ranks hold the same bytes: compared through an uncompressed sum of the hash's 16-bit pieces. */
taut_status ranks_same(taut_comm *comm, const void *p, size_t bytes);

/* In a body: fail this rank, with the line and what was expected. */
#define NEED(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond)) return taut__fail(TAUT_E_INVALID, "line %d: %s", __LINE__, #cond);                                \
    } while (0)

/* Element i of a rank's gradient in a step: of prime period, between -1 and 1, some ten times as large. */
float ranks_value(int rank, size_t i, int step);
/* The first n of them, without two divisions for each. */
void ranks_fill(float *x, size_t n, int rank, int step);
/* The exact sum over ranks. */
double ranks_sum(int size, size_t i, int step);

/* Uniform in -1..1, another one for each rank, i and step. */
float ranks_noise(int rank, size_t i, int step);

#endif
