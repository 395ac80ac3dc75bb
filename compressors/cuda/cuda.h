/* cuda.h : codecs on a CUDA device: what the launchers of compressors/<codec>/<codec>_cuda.cu take and promise.
 *
 * A launcher enqueues kernels on a stream and returns. It never allocates, never waits, reads nothing back and can be captured
 * in a graph. It answers TAUT_OK, or TAUT_E_INVALID (arguments, which it can check on the host) or TAUT_E_DEVICE (the launch
 * failed). What only the data can tell - a malformed payload, a code out of range - is ORed into a word on the device
 * (TAUT__CUDA_* below), which the caller looks at when it waits anyway. Payloads, codes and floats are the same bytes as the
 * CPU's; where they are not, the launcher says so. A NaN that is computed may have other bits than the CPU's.
 *
 * Work comes in jobs, one per tensor or slice, and one launch takes any number of them: hundreds of small layers cost one
 * launch. A single job travels in the launch itself; several lie in an array on the device.
 *
 * The kernels exist twice: compiled by nvcc, and compiled by g++ for the execution model of the tests. Both fill the same
 * tables, and whoever uses them holds a taut__cuda. */
#ifndef TAUT_CUDA_H
#define TAUT_CUDA_H

#include "../../comm/base/base.h"
#include "../basis/basis_there.h"
#include "../grid/grid_steps.h"
#include "../quant/quant_format.h"
#include "../topk/topk_format.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CUstream_st *taut__cuda_stream;

enum {                            /* bits of a job's flag word */
       TAUT__CUDA_CORRUPT = 1,    /* the payload is not one that an encoder writes; dst holds anything */
       TAUT__CUDA_NOT_FINITE = 2, /* the input held NaN or Inf */
       TAUT__CUDA_RANGE = 4,      /* a code exceeded its limit: codes and err hold anything */
};

enum { TAUT__CUDA_PEERS = 32 }; /* payloads that one fused pass adds, at most; more take several passes */

/* taut__cuda_job : one tensor or slice. All pointers lead into device memory; payloads are aligned to 16 bytes, floats to 4
 * (fast where they are to 16). Members that a launcher does not name are ignored. */
typedef struct taut__cuda_job {
    uint64_t      n, first; /* elements, and the place of the first one in its tensor */
    uint64_t      elems;    /* of the whole tensor: randk, statistics */
    uint64_t      seed;     /* as in taut_call */
    const void   *src;      /* n elements of the launch's dtype */
    const float  *residual; /* NULL, or n floats that are added to src */
    float        *err;      /* NULL, or n floats, may be src or residual: what the payload does not hold */
    void         *dst;      /* decode: n elements of the launch's dtype */
    int32_t      *codes;    /* grid: n integers */
    uint8_t      *payload;  /* encode: room for capacity() bytes */
    uint64_t     *len;      /* payload bytes: encode writes them, decode reads them */
    uint32_t     *flags;    /* ORed; never cleared here */
    const float  *scale;    /* grid: NULL, or the tensor's scale; of element i of the tensor scale[i / stride] */
    uint64_t      stride;   /* 0 without a scale of several values */
    const float  *step;     /* grid: the agreed step, one float on the device; NULL: given, or what the payload says */
    float         given;    /* grid, without an agreed step: the spec's */
    bool          turned;   /* grid: elements are coordinates in a basis, and payloads say so */
    const bool   *raw;      /* grid: NULL, or whether floats travel as they are this time, on the device */
    const double *earlier;  /* statistics: of an earlier call (adapt), or agreed (rebase) */
    struct taut_calibration *calibration; /* what calibrate and adapt write */
    double                  *stats;       /* statistics */
    const uint8_t *const    *peers;       /* fused passes: peer_count payloads */
    const uint64_t *const   *peer_len;    /* grid: and their bytes */
    const taut__topk_choice *choice;      /* topk: NULL, or the whole tensor's threshold, on the device */
    uint64_t                 unit;        /* filled by taut__cuda_number() */
    uint64_t                 list;        /* topk: filled by taut__cuda_list() */
} taut__cuda_job;

typedef struct taut__cuda_batch {
    const taut__cuda_job *jobs; /* `count` of them on the device; NULL: `one` */
    taut__cuda_job        one;  /* with several: a copy of the first, for what the host asks (topk: has it a choice?) */
    uint32_t              count;
    uint64_t              units; /* of all jobs: what taut__cuda_number() returned */
    void      *work; /* scratch on the device, of as many bytes as the table's ..._work() says, 16-byte aligned */
    size_t     work_bytes;
    taut_dtype dtype; /* of src and dst */
    uint32_t   peer_count;
    float      factor; /* decode: what values are multiplied by; 1: not at all */
} taut__cuda_batch;

/* Numbers the units of jobs (host memory) of `elems` elements each, before they are copied to the device. Returns their sum. */
static inline uint64_t taut__cuda_number(taut__cuda_job *jobs, size_t count, size_t elems)
{
    uint64_t units = 0;
    for (size_t k = 0; k < count; k++) {
        jobs[k].unit = units;
        units += taut__ceil_div(jobs[k].n, elems) + (jobs[k].n == 0); /* an empty payload has a header too */
    }
    return units;
}

static inline taut__cuda_batch taut__cuda_single(const taut__cuda_job *job, size_t elems)
{
    taut__cuda_batch b;
    memset(&b, 0, sizeof b);
    b.one = *job;
    b.count = 1;
    b.units = taut__cuda_number(&b.one, 1, elems);
    b.factor = 1;
    return b;
}

/* ---- the device itself ---- */
typedef struct taut__cuda_device {
    /* What there is: the first device's name into text; false: none that can be used, text says why. */
    bool (*found)(char *text, size_t cap);
    taut_status (*alloc)(size_t bytes, void **p); /* TAUT_E_NOMEM with the size and what is free */
    void (*release)(void *p);
    taut_status (*alloc_in)(size_t bytes, void **p, taut__cuda_stream s); /* in stream order */
    void (*release_in)(void *p, taut__cuda_stream s);
    taut_status (*copy)(void *dst, const void *src, size_t bytes,
                        taut__cuda_stream s); /* any direction, in stream order */
    /* Host bytes, which may be used again at once; they travel in launches */
    taut_status (*put)(void *dst, const void *src, size_t bytes, taut__cuda_stream s);
    taut_status (*fill)(void *dst, int byte, size_t bytes, taut__cuda_stream s);
    taut_status (*use)(int device); /* what follows in this thread is for it */
    taut_status (*event_create)(void **e);
    void (*event_destroy)(void *e);
    taut_status (*event_record)(void *e, taut__cuda_stream s);
    taut_status (*event_test)(void *e, bool *passed);
    taut_status (*event_hold)(void *e, taut__cuda_stream s); /* the stream waits for it */
    taut_status (*stream_create)(taut__cuda_stream *s);
    void (*stream_destroy)(taut__cuda_stream s);
    taut_status (*wait)(taut__cuda_stream s);
    /* TAUT_E_INVALID unless p..p+bytes is memory of the device (or, with device false, of the host). */
    taut_status (*check)(const void *p, bool device, const char *what);
    taut_status (*capture_begin)(taut__cuda_stream s);
    taut_status (*capture_end)(taut__cuda_stream s, void **graph); /* ready to be launched */
    taut_status (*graph_launch)(void *graph, taut__cuda_stream s);
    void (*graph_destroy)(void *graph);
    taut_status (*clock)(taut__cuda_stream s, int start, double *seconds); /* start 1 begins; 0 waits and tells */
    taut_status (*query)(taut__cuda_stream s); /* what has failed of its work; never waits */
    void *(*host_alloc)(size_t bytes);         /* zeroed and pinned; NULL: there is none */
    void (*host_release)(void *p);
    taut_status (*capturing)(taut__cuda_stream s, bool *is);
    taut_status (*fill_rows)(void *dst, size_t apart, int byte, size_t bytes, size_t rows, taut__cuda_stream s);
    int (*where)(const void *p); /* the number of the device whose memory it is; -1: of none alone */
    int (*now)(void); /* the thread's device, which use() sets; -1: not known, or nobody has used it so far */
} taut__cuda_device;

/* ---- plain passes over floats ---- unit: TAUT__CUDA_TILE elements */
enum { TAUT__CUDA_TILE = 4096 };

/* One pass over n floats, for what is no codec's. */
typedef enum taut__cuda_pass_kind {
    TAUT__PASS_ADD,      /* dst += a, of dtype `from` */
    TAUT__PASS_SCALE,    /* dst *= factor */
    TAUT__PASS_CONVERT,  /* dst, of dtype `to`, = a, of dtype `from` */
    TAUT__PASS_RESIDUAL, /* dst = a - b, or 0 where that is not finite */
    TAUT__PASS_OUTPUT,   /* dst = 0 where a is 0 or dst is not finite */
    TAUT__PASS_SCRUB,    /* dst = 0 where it is not finite; *found += how many */
    TAUT__PASS_KINDS
} taut__cuda_pass_kind;
typedef struct taut__cuda_pass {
    taut__cuda_pass_kind kind;
    void                *dst;
    const void          *a, *b;
    taut_dtype           to, from;
    float                factor;
    uint64_t             n;
    unsigned long long  *found;
} taut__cuda_pass;

typedef struct taut__cuda_vec {
    /* codecs none, fp16, bf16 (`kind`): payload = cast(src + residual); err likewise. clamps: overflow=clamp */
    taut_status (*encode)(const taut__cuda_batch *b, taut_dtype kind, bool clamps, taut__cuda_stream s);
    /* dst = payload * factor, or dst += payload */
    taut_status (*decode)(const taut__cuda_batch *b, taut_dtype kind, bool add, taut__cuda_stream s);
    /* err = src + residual (feedback); err = src without a residual. momentum > 0: codes, as floats, hold u = momentum * u +
     * src, and err = residual + u */
    taut_status (*input)(const taut__cuda_batch *b, float momentum, taut__cuda_stream s);
    /* The same and its norms in one read: stats[0] += sum of x^2, stats[1] += of (x / scale)^2, of finite elements;
     * NOT_FINITE is flagged. Sums in another order than the CPU's: within 1e-12. */
    taut_status (*input_norms)(const taut__cuda_batch *b, taut__cuda_stream s);
    /* dst = factor * the sum of src and the peers' floats, in order (codec none, unpack + add + scale + store) */
    taut_status (*sum)(const taut__cuda_batch *b, taut__cuda_stream s);
    taut_status (*pass)(const taut__cuda_pass *p, taut__cuda_stream s);
    /* As taut__vectors.pick: p->dst, of p->a of dtype `from`, which begins with element first and has n; factor */
    taut_status (*pick)(const taut__cuda_pass *p, const uint64_t *at, uint64_t blocks, uint64_t elems, uint64_t first,
                        taut__cuda_stream s);
} taut__cuda_vec;

/* ---- headers of frames ---- they lie TAUT_FRAME_HEADER bytes before each job's payload. Without checksum. */
typedef struct taut__cuda_frame {
    /* Of payloads of *len bytes, which are there. grid's version follows from its payload. */
    taut_status (*seal)(const taut__cuda_batch *b, uint16_t codec, uint16_t version, taut__cuda_stream s);
    /* *len: the frame's bytes less its header. CORRUPT where the header is not that of such a payload of n elements. */
    taut_status (*open)(const taut__cuda_batch *b, uint16_t codec, uint16_t oldest, uint16_t version,
                        taut__cuda_stream s);
    /* Slots of an exchange: as taut__vectors.admit. A slot begins with u64 bytes, u32 flags, u32 reserved; out: 32 bytes each. */
    taut_status (*admit)(const uint8_t *slots, uint64_t stride, uint32_t n, uint64_t room, uint64_t *out,
                         uint32_t *reserved, taut__cuda_stream s);
    taut_status (*fields)(uint32_t *words, int32_t *codes, uint64_t n, uint32_t per, uint32_t bias, bool join,
                          taut__cuda_stream s);
    /* As taut__vectors.combine, .copy_if and .digest. */
    taut_status (*combine)(double *out, const double *from, uint64_t stride, uint64_t n, uint32_t ranks, uint32_t *any,
                           taut__cuda_stream s);
    taut_status (*copy_if)(const uint8_t *when, void *dst, const void *src, uint64_t bytes, taut__cuda_stream s);
    taut_status (*digest)(void *rows, uint64_t stride, uint64_t n, uint32_t first, uint32_t count, uint32_t *differs,
                          taut__cuda_stream s);
} taut__cuda_frame;

/* ---- quant ---- unit: a bucket. len is known beforehand (quant_payload_bytes) and written all the same. */
typedef struct taut__cuda_quant {
    /* src + residual -> payload, err, in one read */
    taut_status (*encode)(const taut__cuda_batch *b, const quant_params *p, taut__cuda_stream s);
    /* dst = value * factor, or dst += value */
    taut_status (*decode)(const taut__cuda_batch *b, const quant_params *p, bool add, taut__cuda_stream s);
    /* Sum of the peers' payloads, in order (and of src before them, where it is not NULL) -> payload, err, in one pass:
     * decode the first, add the others, multiply by factor, encode */
    taut_status (*sum_encode)(const taut__cuda_batch *b, const quant_params *p, taut__cuda_stream s);
    /* stats[k] += squared error of src + residual under candidate k, count up to TAUT__CUDA_CANDIDATES, one read; buckets
     * divide TAUT__CUDA_SPAN, which is the unit here, and those that are not finite or too wide count nothing. Sums in
     * another order than the CPU's: within 1e-12 */
    taut_status (*errors)(const taut__cuda_batch *b, const quant_params *p, uint32_t count, taut__cuda_stream s);
} taut__cuda_quant;
enum { TAUT__CUDA_CANDIDATES = 8, TAUT__CUDA_SPAN = 1024 };

/* ---- grid ---- unit: a chunk of TAUT__CUDA_CHUNK elements. Jobs hold step (on the device, in units of the scale), and the
 * tensor's scale where it has one; dead is 0.5..0.95. tables: NULL for code `packed`; for code `rans` taut__grid_tables() (table_bytes
 * bytes), copied to the device once. Decoding with tables takes payloads of both codes. */
enum { TAUT__CUDA_CHUNK = 65536, TAUT__GRID_PEERS = 8 };
typedef struct taut__cuda_grid {
    size_t table_bytes;
    /* Scratch of encode and pack: `together` chunks are encoded at once (two per multiprocessor are a good number). */
    size_t (*encode_work)(uint64_t units, uint32_t together, bool rans);
    /* src + residual -> payload, err. With codes not NULL also the codes, of |q| <= limit (else RANGE is flagged): quantize, pack
     * and error in one read. */
    taut_status (*encode)(const taut__cuda_batch *b, double dead, int32_t limit, const void *tables,
                          taut__cuda_stream s);
    taut_status (*pack)(const taut__cuda_batch *b, double dead, const void *tables,
                        taut__cuda_stream s); /* codes -> payload */
    /* The sum of the peers' payloads, up to TAUT__GRID_PEERS of code packed, and of codes (NULL: zeros) -> payload, in one pass:
     * what the peers say is read, what all say is written, and nothing else. Scratch as for pack. */
    taut_status (*sum_pack)(const taut__cuda_batch *b, double dead, taut__cuda_stream s);
    taut_status (*raw)(const taut__cuda_batch *b, double dead, taut__cuda_stream s); /* floats as they are; err = 0 */
    taut_status (*quantize)(const taut__cuda_batch *b, double dead, int32_t limit,
                            taut__cuda_stream s); /* -> codes, err */
    taut_status (*dequantize)(const taut__cuda_batch *b,
                              taut__cuda_stream       s); /* dst = value of codes at factor * step */
    /* A payload whose step is not the job's is CORRUPT. dst = value * factor, or dst += value */
    taut_status (*decode)(const taut__cuda_batch *b, bool add, const void *tables, taut__cuda_stream s);
    taut_status (*unpack_add)(const taut__cuda_batch *b, const void *tables,
                              taut__cuda_stream s); /* codes += codes of the payload */
    taut_status (*unpack_values)(const taut__cuda_batch *b, const void *tables,
                                 taut__cuda_stream s); /* and dst = value of the sums, times factor */
} taut__cuda_grid;

/* grid's statistics and the errors of GRID_STEPS (4) steps: unit TAUT__CUDA_CHUNK; the CPU's numbers, bit for bit. Jobs hold stats, in
 * device memory, to which is added, and the scale; elems, or n is the whole tensor. */
typedef struct taut__cuda_stats {
    size_t (*work)(uint64_t units, uint32_t jobs);
    taut_status (*collect)(const taut__cuda_batch *b, bool brief,
                           taut__cuda_stream s); /* stats[0..GRID_STATS); NOT_FINITE */
    taut_status (*errors)(const taut__cuda_batch *b, const float steps[4], double dead,
                          taut__cuda_stream s); /* stats[0..4), in units of steps */
    /* As the CPU's calibrate of shared statistics (there is no exact search here), adapt and rebase: the same bits. */
    taut_status (*calibrate)(const taut__cuda_batch *b, const grid_aim *aim, int ranks, taut__cuda_stream s);
    taut_status (*adapt)(const taut__cuda_batch *b, const grid_aim *aim, int ranks, taut__cuda_stream s);
    taut_status (*rebase)(const taut__cuda_batch *b, taut__cuda_stream s);
    /* *len = 1 where the numbers of earlier and of stats have another shape, as the CPU's reshaped says; else it stays */
    taut_status (*reshaped)(const taut__cuda_batch *b, const grid_aim *aim, taut__cuda_stream s);
} taut__cuda_stats;

/* ---- topk ---- unit: TAUT__CUDA_TILE elements. Jobs have places in a list of kept elements (taut__cuda_list). */
typedef struct taut__cuda_topk {
    /* Scratch; list: what taut__cuda_list returned; own: jobs without a choice, and not exact. */
    size_t (*encode_work)(uint64_t units, uint64_t list, uint32_t jobs, bool own);
    /* src + residual -> payload, err. A job's choice, where it has one, says what is kept; else the k largest of the job are
     * found. exact: everything that is not +0. */
    taut_status (*encode)(const taut__cuda_batch *b, double density, bool exact, uint64_t list, taut__cuda_stream s);
    size_t (*decode_work)(uint64_t list, uint32_t jobs);
    /* what: 0 dst = value, 1 dst += value, 2 dst = 0 where the payload has an element. list: for payloads of any density, 1. */
    taut_status (*decode)(const taut__cuda_batch *b, int what, uint64_t list, taut__cuda_stream s);
    /* The threshold of the k largest of each job, as topk.c's calibrate: *calibration. Scratch: choose_work. stats: of count() */
    size_t (*choose_work)(uint64_t units, uint64_t list, uint32_t jobs);
    taut_status (*choose)(const taut__cuda_batch *b, double density, uint64_t list, taut__cuda_stream s);
    taut_status (*count)(const taut__cuda_batch *b, taut__cuda_stream s); /* stats[0] += n */
} taut__cuda_topk;

/* Elements that a job may keep: k, or, for exact sums and thresholds from outside, all. */
TAUT_INLINE uint64_t taut__topk_list(double density, bool any, uint64_t n)
{
    return any ? n : taut__topk_kept(density, n);
}
/* Gives each job its place in the list; host memory. Returns the list's length. */
static inline uint64_t taut__cuda_list(taut__cuda_job *jobs, size_t count, double density, bool any)
{
    uint64_t list = 0;
    for (size_t k = 0; k < count; k++) {
        jobs[k].list = list;
        list += taut__ceil_div(taut__topk_list(density, any, jobs[k].n), TAUT_SPARSE_GROUP) * TAUT_SPARSE_GROUP;
    }
    return list;
}

/* ---- randk ---- unit: TAUT__CUDA_TILE elements. Jobs hold elems; seed is the shared one. bare: values alone, as the linear
 * rounds average them; decoding then takes the choice from the job, else from the payload. */
typedef struct taut__cuda_randk {
    taut_status (*encode)(const taut__cuda_batch *b, double density, bool scaled, bool bare, taut__cuda_stream s);
    /* dst = value * factor, or dst += value * factor */
    taut_status (*decode)(const taut__cuda_batch *b, double density, bool scaled, bool bare, bool add,
                          taut__cuda_stream s);
} taut__cuda_randk;

/* ---- powersgd ---- one matrix at a time, whole. Factors within rounding of the CPU's; what is decoded from them the same. */
typedef struct taut__cuda_matrix {
    uint64_t rows, cols, rank;
    int      written_iterations; /* for the payload's header */
} taut__cuda_matrix;
typedef struct taut__cuda_powersgd {
    size_t (*work)(const taut__cuda_matrix *m);
    /* The linear rounds 0..2: factor = X Qt^T or P^T X; then, averaged, orthonormal in place (rounds 0 and 1). *poisoned, on the
     * device, is set where a factor is not finite. */
    taut_status (*project)(const taut__cuda_matrix *m, int round, const float *x, const float *p, const float *qt,
                           float *factor, void *work, size_t work_bytes, taut__cuda_stream s);
    taut_status (*absorb)(const taut__cuda_matrix *m, int round, float *factor, uint64_t seed, uint32_t *poisoned,
                          taut__cuda_stream s);
    /* dst = factor * P Qt; NaN where *poisoned (may be NULL) */
    taut_status (*reconstruct)(const taut__cuda_batch *b, const taut__cuda_matrix *m, const float *p, const float *qt,
                               const uint32_t *poisoned, taut__cuda_stream s);
    /* src -> payload, err. start: the longer factor to begin with, or NULL: random from seed. */
    taut_status (*encode)(const taut__cuda_batch *b, const taut__cuda_matrix *m, int iterations, const float *start,
                          taut__cuda_stream s);
    taut_status (*decode)(const taut__cuda_batch *b, const taut__cuda_matrix *m, bool add, taut__cuda_stream s);
    /* A state's life. restart: x, n floats, random where *poisoned, which is then cleared. poison: x NaN where *bad. keep: kept =
     * from, or random where *bad. */
    taut_status (*restart)(float *x, uint64_t n, uint64_t seed, uint32_t *poisoned, taut__cuda_stream s);
    taut_status (*poison)(float *x, uint64_t n, const uint32_t *bad, taut__cuda_stream s);
    taut_status (*keep)(float *kept, const float *from, uint64_t n, uint64_t seed, const uint32_t *bad,
                        taut__cuda_stream s);
} taut__cuda_powersgd;

/* ---- stack ---- */
enum { TAUT__CUDA_STAGES = 4 };
typedef struct taut__cuda_stages {
    uint32_t        count;
    uint16_t        id[TAUT__CUDA_STAGES], version[TAUT__CUDA_STAGES]; /* of the stages' codecs */
    const uint8_t  *payload[TAUT__CUDA_STAGES];                        /* assemble: on the device, aligned to 16 */
    const uint64_t *len[TAUT__CUDA_STAGES];                            /* assemble: their bytes, on the device */
} taut__cuda_stages;
typedef struct taut__cuda_stack {
    taut_status (*assemble)(const taut__cuda_stages *st, uint8_t *payload, uint64_t *len, taut__cuda_stream s);
    /* Fills payload and *len of jobs[0..count), which lie on the device as a batch of each stage's codec expects them. */
    taut_status (*open)(const taut__cuda_stages *st, const uint8_t *payload, const uint64_t *len, taut__cuda_job *jobs,
                        uint32_t *flags, taut__cuda_stream s);
    /* Copies each stage's payload to st->payload[i], of cap[i] bytes, and its length to st->len[i]; what does not fit, or is not such
     * a payload, is flagged and has length 0. scratch: jobs for open. */
    taut_status (*take)(const taut__cuda_stages *st, const uint64_t *cap, const uint8_t *payload, const uint64_t *len,
                        taut__cuda_job *scratch, uint32_t *flags, taut__cuda_stream s);
    taut_status (*flags)(const uint32_t *const *from, uint32_t count, uint32_t *to,
                         taut__cuda_stream s); /* *to |= each; up to 4 */
} taut__cuda_stack;

/* ---- basis ---- the same bits as basis_portable.c. Whole tiles of BASIS_TILE vectors, `count` of them from number `first` on. */
typedef struct taut__cuda_unit { /* of the layer's scale */
    const float *scale;          /* NULL: none that has several values */
    bool         each;           /* one per element; else one per row of the tensor */
} taut__cuda_unit;
typedef struct taut__cuda_basis {
    /* out: the tiles' room, beginning with the first one's; across: x itself. */
    taut_status (*change)(const taut__axes_there *m, const taut__cuda_unit *u, const float *x, float *out,
                          uint64_t first, uint64_t count, bool back, taut__cuda_stream s);
    /* m->a += of these tiles, which come in order, each once. c: r floats per vector of them, scratch */
    taut_status (*learn)(const taut__axes_there *m, const taut__cuda_unit *u, const float *x, float *c, uint64_t first,
                         uint64_t count, taut__cuda_stream s);
} taut__cuda_basis;

/* ---- everything together ---- */
typedef struct taut__cuda {
    const char                *name; /* "gpu", or "model" in tests */
    const taut__cuda_device   *device;
    const taut__cuda_vec      *vec;
    const taut__cuda_quant    *quant;
    const taut__cuda_grid     *grid;
    const taut__cuda_stats    *stats;
    const taut__cuda_topk     *topk;
    const taut__cuda_randk    *randk;
    const taut__cuda_powersgd *powersgd;
    const taut__cuda_stack    *stack;
    const taut__cuda_frame    *frame;
    const taut__cuda_basis    *basis;
} taut__cuda;

/* The kernels and a GPU that runs them; NULL where the library was built without kernels or finds no device. why: NULL, or what
 * was found, or what is missing, for `taut info`. */
const taut__cuda *taut__cuda_get(const char **why);
/* The same, but NULL as long as nobody in this process has used CUDA: nothing is initialised for this answer. */
const taut__cuda *taut__cuda_if_used(void);
/* Tests: use these instead; NULL ends it. */
void taut__cuda_use(const taut__cuda *c);

#ifdef __cplusplus
}
#endif

#endif
