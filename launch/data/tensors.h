/* tensors.h : what .npy and IDX have in common: one array per file, the first axis counts samples, and several files are
 * fields of the same samples. */
#ifndef TAUT_TENSORS_H
#define TAUT_TENSORS_H

#include "import.h"

enum { TENSOR_DIMS = 5 };
typedef struct tensor {
    taut_type type;
    int       ndim;
    uint64_t  shape[TENSOR_DIMS]; /* samples first */
    bool      swap;               /* elements are big-endian */
} tensor;

/* head: reads the header and leaves the stream at the first element. */
int  tensors_describe(import *im, int (*head)(import_stream *s, tensor *t));
int  tensors_feed(import *im);
void tensors_close(import *im);
/* exactly n bytes; `what` names them when the file ends before */
int tensors_read(import_stream *s, void *dst, size_t n, const char *what);

/* The beginning of a file, without messages; NULL if it cannot be opened. */
import_stream *tensors_peek(const char *path);
void           tensors_unpeek(import_stream *s);

#endif
