/* ops.h : what a codec does, in one memory space.
 *
 * A codec has a table of operations per space (taut_codec.ops[space], asked for through taut__ops()). A table has two halves:
 *
 *   typed functions   work is done when they return, results are theirs to give. The host's.
 *   enqueue[]         one function per operation, which takes any number of pieces (slices, or whole tensors), puts the work on
 *                     place.stream and returns. Every pointer of a piece leads into the place's space; lengths, statistics,
 *                     calibrations and flags too, so that nobody waits for them. On a GPU one launch does all pieces.
 *
 * Callers need not know which half a space has: taut__op_...() does one piece and waits for it, taut__enqueue() takes many and, in a
 * space without the second half, does them one after the other, with the same bytes. An operation that neither half has is
 * TAUT_E_UNSUPPORTED, with the names of codec, operation and space. */
#ifndef TAUT_OPS_H
#define TAUT_OPS_H

#include "codec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- The operations ---- */

typedef enum taut__op {
    TAUT_OP_COLLECT_STATS,
    TAUT_OP_CALIBRATE,
    TAUT_OP_ADAPT,
    TAUT_OP_RESHAPED,
    TAUT_OP_REBASE,
    TAUT_OP_ENCODE,
    TAUT_OP_ENCODE_EXACT,
    TAUT_OP_DECODE,
    TAUT_OP_DECODE_ADD,
    TAUT_OP_QUANTIZE,
    TAUT_OP_PACK,
    TAUT_OP_QUANTIZE_PACK,
    TAUT_OP_UNPACK_ADD,
    TAUT_OP_UNPACK_VALUES,
    TAUT_OP_DEQUANTIZE,
    TAUT_OP_SUM_PACK,
    TAUT_OP_PROJECT,
    TAUT_OP_ABSORB,
    TAUT_OP_RECONSTRUCT,
    TAUT_OPS
} taut__op;
const char *taut__op_name(taut__op op);

enum {                           /* taut_outcome.flags: what only the data can tell */
       TAUT_FLAG_CORRUPT = 1,    /* the payload is not one that an encoder writes; dst holds anything */
       TAUT_FLAG_NOT_FINITE = 2, /* the input held NaN or Inf */
       TAUT_FLAG_RANGE = 4,      /* a code exceeded its limit: codes and err hold anything */
       TAUT_FLAG_FAILED = 8,     /* anything else; on the host the call's status and taut_last_error() say what */
};

/* taut_outcome : what a piece of work tells, in memory of the place's space, there when the work is done. */
typedef struct taut_outcome {
    uint64_t bytes; /* of the payload: written by those that make one, read by those that take one */
    uint32_t flags; /* ORed; whoever enqueues clears them */
    uint32_t reserved;
} taut_outcome;
/* Of RESHAPED: bytes becomes 1 where taut_codec.reshaped says so of `earlier` and `stats`, else it stays. */

/* taut_piece : the operands of one operation on call.n elements. call.place is that of the batch. Members that an operation does not
 * name are not read. */
typedef struct taut_piece {
    taut_call call;
    /* collect_stats, encode, encode_exact, quantize, quantize_pack, project: call.n floats; calibrate: the
     * whole tensor on this rank, or NULL */
    const float  *src;
    float        *dst;     /* decode, unpack_values, dequantize, reconstruct: call.n floats; decode_add: added to */
    float        *err;     /* encode, quantize, quantize_pack: NULL, or call.n floats, may be src */
    uint8_t      *payload; /* made: room for cap bytes; or taken. Aligned to 16 bytes outside the host */
    size_t        cap;
    taut_outcome *outcome;
    int32_t *codes;    /* quantize, quantize_pack: written; unpack_add, unpack_values: added to; pack, dequantize: read;
                                    * sum_pack: begin as this rank's own */
    int32_t  limit;    /* quantize, quantize_pack */
    float    scale_by; /* dequantize, reconstruct: the factor that values are multiplied by */
    const uint8_t *const
        *peers; /* sum_pack: peer_count payloads, which are added to codes; their sum is packed. The lists are */
    const taut_outcome *const
            *peer_bytes; /* on the host and may be used again when the call returns; codes hold anything afterwards. */
    uint32_t peer_count; /* 1..8 in one pass on a device */
    double  *stats;      /* collect_stats: added to; rebase: changed; calibrate, adapt: read */
    const double     *earlier;     /* adapt: all statistics of an earlier call; rebase: the first n_brief, agreed */
    taut_calibration *calibration; /* calibrate: written; adapt: changed */
    int               ranks;       /* calibrate, adapt */
    int               round;       /* project, absorb */
    float            *factor;      /* project: written; absorb: read, may be changed */
} taut_piece;

/* ---- A table of one space ---- */

/* Codes of an integer codec: int32, |q| <= limit, in element order. All ranks hold the same calibration. */
typedef struct taut_integer_ops {
    /* q[i] = code of src[i]; err (optional, may be src) = src - decoded. TAUT_E_RANGE if a code would exceed limit
     * (calibrate has made sure that it does not: calibration.raw). */
    taut_status (*quantize)(const taut_call *c, const float *src, int32_t *q, float *err, int32_t limit);
    /* lossless: payload of codes; bytes <= capacity() */
    taut_status (*pack)(const taut_call *c, const int32_t *q, uint8_t *dst, size_t cap, size_t *len);
    taut_status (*unpack_add)(const taut_call *c, const uint8_t *src, size_t len, int32_t *acc); /* acc[i] += q[i] */
    /* quantize and pack, in one pass; limit >= 255 */
    taut_status (*quantize_pack)(const taut_call *c, const float *src, int32_t *q, float *err, int32_t limit,
                                 uint8_t *dst, size_t cap, size_t *len);
    /* unpack_add, then dequantize with factor 1, in one pass */
    taut_status (*unpack_values)(const taut_call *c, const uint8_t *src, size_t len, int32_t *acc, float *dst);
    /* dst[i] = factor * value of q[i]; factor 1 for sums, 1/ranks for means */
    taut_status (*dequantize)(const taut_call *c, const int32_t *q, float factor, float *dst);
} taut_integer_ops;

typedef struct taut_linear_ops { /* see taut_codec_linear */
    taut_status (*project)(const taut_call *c, int round, const float *src, float *factor);
    taut_status (*absorb)(const taut_call *c, int round, float *factor); /* may orthogonalise in place; deterministic */
    taut_status (*reconstruct)(const taut_call *c, float factor, float *dst); /* dst = factor * mean tensor */
} taut_linear_ops;

typedef taut_status taut_enqueue(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n,
                                 taut_place place);

typedef struct taut_codec_ops {
    /* (of codecs with statistics) stats[0..n_stats) += contribution of src[0..n). Caller zeroes. */
    taut_status (*collect_stats)(const taut_call *c, const float *src, double *stats);
    /* (of codecs with statistics) ranks: how many ranks' codes will be added, for headroom; 1 standalone.
     * src: the whole tensor on this rank where the codec needs a second look (top-k), else ignored. */
    taut_status (*calibrate)(const taut_call *c, const double *stats, int ranks, const float *src,
                             taut_calibration *calibration);
    /* (with n_brief) The first n_brief statistics of this call and all of an earlier one, from which calibration was made: changes it
     * to suit this call, were its elements distributed as they were then. */
    taut_status (*adapt)(const taut_call *c, const double *earlier, const double *now, int ranks,
                         taut_calibration *calibration);
    /* (with n_brief) Called on one rank's statistics before they are added to the other ranks': agreed: the first n_brief
     * numbers, summed over ranks. */
    taut_status (*rebase)(const taut_call *c, const double *agreed, double *stats);

    /* src[0..n) -> payload. Never writes past cap; *len = bytes written. err: NULL, or n floats, may be src:
     * err[i] = src[i] - decoded[i]; where decoded or src is not finite err[i] = 0. */
    taut_status (*encode)(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err);
    /* (SPARSE) sums of decoded tensors, without loss: the second half of a reduction */
    taut_status (*encode_exact)(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len);
    taut_status (*decode)(const taut_call *c, const uint8_t *src, size_t len, float *dst);     /* dst[i]  = value */
    taut_status (*decode_add)(const taut_call *c, const uint8_t *src, size_t len, float *acc); /* acc[i] += value */

    const taut_integer_ops *integer; /* (INTEGER) */
    const taut_linear_ops  *linear;  /* (LINEAR) */

    /* (STATEFUL) memory of one tensor, in the space of place. save/load in host bytes; load distrusts them. */
    taut_status (*state_create)(const taut_stage *s, const taut_tensor *t, uint64_t shared_seed, taut_place place,
                                taut_codec_state **st);
    void (*state_destroy)(taut_codec_state *st);
    taut_status (*state_save)(const taut_codec_state *st, void *dst, size_t cap, size_t *len);
    taut_status (*state_load)(taut_codec_state *st, const void *src, size_t len);

    taut_enqueue *enqueue[TAUT_OPS];
} taut_codec_ops;

/* The codec's table for a space; NULL: it has none, or the space cannot be used here (no kernels, no device). */
const taut_codec_ops               *taut__ops_elsewhere(const taut_codec *codec, taut_space space);
static inline const taut_codec_ops *taut__ops(const taut_codec *codec, taut_space space)
{
    return space == TAUT_HOST ? codec->ops[TAUT_HOST] : taut__ops_elsewhere(codec, space);
}
/* Tests: this codec's (NULL: every codec's) table for a space; table NULL ends it. Not while operations run. */
void taut__ops_register(const taut_codec *codec, taut_space space, const taut_codec_ops *table);

/* ---- Many pieces: enqueued ---- */

/* Outside the host: TAUT_OK means enqueued, anything else that nothing was; what the data tells is in the outcomes' flags. On the host
 * (and in spaces without enqueue[]): all pieces are done; the status is that of the first one that failed, whose flags are set. */
taut_status taut__enqueue(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place place);
/* One piece with a table's typed functions, in the calling thread; what the host does. */
taut_status taut__run_piece(taut__op op, const taut_codec *codec, const taut_codec_ops *table, const taut_piece *piece);
uint32_t    taut__flags_of(taut_status s);

/* ---- Pieces that somebody waits for: outside the host ---- */

/* taut__asked : an operation, by whoever waits for it; others may have asked meanwhile. A zeroed `ended` and status before. */
enum { TAUT_ASKED_MAX = 32 };
typedef struct taut__asked {
    taut__op          op;
    const taut_codec *codec;
    taut_piece        piece; /* all but its outcome */
    size_t            bytes; /* of the payload: taken, or made */
    taut_status       status;
    char              why[256]; /* where status is an error */
    bool              ended;
} taut__asked;
/* Does them all, pieces of one operation and codec in one call to enqueue[], and waits for the place. They are independent of each other. Returns how
 * many calls that took. */
size_t taut__ask_all(taut__asked *const *asked, size_t n, taut_place place);
void   taut__asked_end(taut__asked *a, taut_status s); /* s, and taut_last_error() */

/* ---- One piece, waited for ---- as the functions of the table, in the space of c->place. Outside the host they allocate and wait:
 * for whoever has one tensor, not for a step. */
taut_status taut__op_collect_stats(const taut_codec *codec, const taut_call *c, const float *src, double *stats);
taut_status taut__op_calibrate(const taut_codec *codec, const taut_call *c, const double *stats, int ranks,
                               const float *src, taut_calibration *calibration);
taut_status taut__op_adapt(const taut_codec *codec, const taut_call *c, const double *earlier, const double *now,
                           int ranks, taut_calibration *calibration);
taut_status taut__op_rebase(const taut_codec *codec, const taut_call *c, const double *agreed, double *stats);
taut_status taut__op_encode(const taut_codec *codec, const taut_call *c, const float *src, uint8_t *dst, size_t cap,
                            size_t *len, float *err);
taut_status taut__op_encode_exact(const taut_codec *codec, const taut_call *c, const float *src, uint8_t *dst,
                                  size_t cap, size_t *len);
taut_status taut__op_decode(const taut_codec *codec, const taut_call *c, const uint8_t *src, size_t len, float *dst);
taut_status taut__op_decode_add(const taut_codec *codec, const taut_call *c, const uint8_t *src, size_t len,
                                float *acc);
taut_status taut__op_quantize(const taut_codec *codec, const taut_call *c, const float *src, int32_t *q, float *err,
                              int32_t limit);
taut_status taut__op_pack(const taut_codec *codec, const taut_call *c, const int32_t *q, uint8_t *dst, size_t cap,
                          size_t *len);
taut_status taut__op_unpack_add(const taut_codec *codec, const taut_call *c, const uint8_t *src, size_t len,
                                int32_t *acc);
taut_status taut__op_quantize_pack(const taut_codec *codec, const taut_call *c, const float *src, int32_t *q,
                                   float *err, int32_t limit, uint8_t *dst, size_t cap, size_t *len);
taut_status taut__op_unpack_values(const taut_codec *codec, const taut_call *c, const uint8_t *src, size_t len,
                                   int32_t *acc, float *dst);
taut_status taut__op_dequantize(const taut_codec *codec, const taut_call *c, const int32_t *q, float factor,
                                float *dst);
taut_status taut__op_project(const taut_codec *codec, const taut_call *c, int round, const float *src, float *factor);
taut_status taut__op_absorb(const taut_codec *codec, const taut_call *c, int round, float *factor);
taut_status taut__op_reconstruct(const taut_codec *codec, const taut_call *c, float factor, float *dst);

/* Stateful codecs. destroy(NULL) is fine. */
taut_status taut__op_state_create(const taut_codec *codec, const taut_stage *s, const taut_tensor *t,
                                  uint64_t shared_seed, taut_place place, taut_codec_state **st);
void        taut__op_state_destroy(const taut_codec *codec, taut_place place, taut_codec_state *st);
taut_status taut__op_state_save(const taut_codec *codec, taut_place place, const taut_codec_state *st, void *dst,
                                size_t cap, size_t *len);
taut_status taut__op_state_load(const taut_codec *codec, taut_place place, taut_codec_state *st, const void *src,
                                size_t len);

#ifdef __cplusplus
}
#endif

#endif
