/* bench.h : what the two halves of `taut bench codec` share: an input, and one codec applied to it. */
#ifndef TAUT_BENCH_H
#define TAUT_BENCH_H

#include "../compressors/codec.h"

typedef struct bench_input {
    const float *x; /* n floats */
    size_t       n;
    size_t       shape[2]; /* matrix view for codecs that need one; product n */
    float       *back;     /* n floats, scratch: decoded values, sums, copies */
    uint8_t     *frame;    /* scratch, grown by bench_prepare() */
    size_t       cap;
} bench_input;

/* A codec ready to run on a part of the input. */
typedef struct bench_codec {
    taut_spec   spec;
    taut_tensor tensor;
    char        name[128]; /* the spec as typed */
} bench_codec;

/* Parses text, checks it against rows x cols elements, makes room in in->frame. 0, or an exit code after a message. */
int bench_prepare(bench_input *in, const char *text, size_t rows, size_t cols, bench_codec *c);
/* Whether it can: of a selection that nobody typed, what cannot is left out. */
bool      bench_suits(const char *text, size_t rows, size_t cols);
taut_call bench_call(const bench_codec *c);
/* Encodes x[0..elems) into in->frame and decodes it into back. *bytes counts the frame's header. */
int bench_once(bench_input *in, const bench_codec *c, const float *x, float *back, size_t *bytes);

/* cmd_bench_sweep.c: size against error for every family, to stdout. layers: path of a trace's JSON, which gives
 * low-rank codecs their matrices, or NULL. */
enum bench_format { BENCH_TABLE, BENCH_CSV, BENCH_JSON };
int bench_sweep(bench_input *in, const char *layers, enum bench_format format);

/* cmd_bench_device.c: `--device cuda`. Exit code, after a message where not 0. */
int bench_device(const bench_input *in, const bench_codec *codecs, size_t count, bool json);

#endif
