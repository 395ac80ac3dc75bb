/* codec.h : what a codec is, wherever it runs; ops.h: what it does, in each memory space.
 *
 * A codec is one const table (taut_codec): its name, keys, caps, layout, and a table of operations per space. registry.c lists the
 * tables. A user's text "name:key=value,..." is parsed into a taut_spec, a plain value. Codecs read and write float32; callers
 * convert other dtypes.
 *
 * Life of one tensor in an allreduce, with x = gradient + residual:
 *   collect_stats(x)     (optional) one pass over the whole tensor -> a few doubles, which add over slices and, for
 *                        TAUT_CAP_GLOBAL_STATS codecs, over ranks
 *   calibrate(stats)     -> taut_calibration: what encode must know about the whole tensor (grid's step, top-k's threshold).
 *                        Deterministic, so ranks that hold the same stats hold the same calibration.
 *   encode(slice of x)   any block-aligned slice alone (TAUT_CAP_SLICEABLE), or the whole tensor. Also gives
 *                        err = x - decoded(x), in place if wanted, which is the new residual.
 *   decode / decode_add  of a payload into floats
 * With call->calibration == NULL encode collects statistics of its own src and calibrates; that is the standalone case.
 *
 * Payloads are what codecs write; frames (frame.h) wrap them with magic, version, counts and a checksum. A payload is
 * self-describing given the element count: decode trusts neither its bytes nor its length (TAUT_E_CORRUPT), and
 * reads every parameter it needs from the payload, not from call->stage, which may be NULL in decode.
 */
#ifndef TAUT_CODEC_H
#define TAUT_CODEC_H

#include "../comm/base/place.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TAUT_SPEC_KEYS = 6,
    TAUT_SPEC_STAGES = 4,
    TAUT_SPEC_ROOM = 700 /* room for the text of any spec */
};

struct taut_codec;

/* ---- Specs ---- */

/* taut_key : one key of a codec's spec. value[] of a stage is indexed like the codec's key table. */
typedef enum taut_key_kind { TAUT_KEY_INT, TAUT_KEY_REAL, TAUT_KEY_WORD } taut_key_kind;
typedef struct taut_key {
    const char   *name;
    taut_key_kind kind;
    double        min, max, fallback; /* WORD: fallback is an index into words; min > max never occurs */
    bool          above_min;          /* REAL: min itself is excluded */
    const char   *words;              /* WORD: the allowed ones, as in "stochastic|nearest"; value = position */
    const char   *help;
    double        multiple; /* INT: the value is a multiple of this; 0 = any */
} taut_key;

typedef struct taut_stage {
    const struct taut_codec *codec;
    double                   value[TAUT_SPEC_KEYS];
    uint32_t                 given; /* bit k: key k was written by the user */
} taut_stage;

/* taut_spec : a parsed spec; plain value. stages > 1 only for stack:A+B+C. `automatic` is spec "auto", which has no
 * stages. */
typedef struct taut_spec {
    uint32_t   stages;
    bool       automatic;
    taut_stage stage[TAUT_SPEC_STAGES];
} taut_spec;

taut_status taut__spec_parse(const char *text, taut_spec *spec); /* fails, too, where the keys suit no tensor */
/* Canonical text: only keys that differ from their defaults; parses back to the same spec. Always terminated. */
void taut__spec_print(const taut_spec *spec, char *dst, size_t cap);

/* ---- Tensors and calls ---- */

/* taut_tensor : the whole layer that a call belongs to. Matrix view: rows = shape[0], cols = elems / rows. */
typedef struct taut_tensor {
    size_t       elems, rows, cols;
    const float *scale; /* shared positive scale (taut_layer_scale), in the space of the call that uses it; NULL = 1 */
    size_t       scale_n; /* 0, 1, rows or elems */
} taut_tensor;

/* The unit of element i: a layer's scale has one value for all, for each row or for each element; without one it is 1. */
static inline float taut__unit_at(const taut_tensor *t, size_t i)
{
    return t->scale_n == 0 ? 1 : t->scale[t->scale_n == 1 ? 0 : t->scale_n == t->elems ? i : i / t->cols];
}

/* taut_calibration : result of calibrate(). Codecs give the words their own meaning. `raw` asks the caller to send this tensor
 * uncompressed this time: some rank holds NaN or Inf, or codes would overflow. */
typedef struct taut_calibration {
    bool     raw;
    float    f[6];
    uint64_t u[4];
} taut_calibration;

typedef struct taut_codec_state taut_codec_state; /* per tensor; defined by the stateful codec */

typedef struct taut_call {
    const taut_spec   *spec; /* what to do; codec functions look at spec->stage[stage] */
    uint32_t           stage;
    const taut_tensor *tensor;
    taut_place         place; /* of src, dst, err, acc, scale, payloads, statistics, calibration and state */
    size_t             first; /* index in the tensor of src[0] / dst[0]; a multiple of align() */
    size_t             n;     /* elements of this call; all of the tensor unless SLICEABLE */
    uint64_t           seed;  /* of (run, tensor, step, rank): stochastic rounding; element i of the tensor uses i */
    uint64_t shared_seed;     /* of (run, tensor, step): the same on all ranks; randk's choice, powersgd's start */
    const taut_calibration *calibration; /* NULL: encode collects the statistics of its own src */
    bool                    brief;       /* collect_stats: only the first n_brief numbers are wanted */
    taut_codec_state       *state;       /* of STATEFUL codecs; NULL = stateless use */
    bool                    turned;      /* elements are coordinates in a basis (basis/basis.h), and payloads say so */
    bool                    no_checksum; /* of the frame around the payload */
} taut_call;

/* ---- The table ---- */

enum {                         /* caps: ask, never guess */
       TAUT_CAP_SLICEABLE = 1, /* any align()-aligned slice encodes and decodes alone, given the same calibration */
       TAUT_CAP_LINEAR = 2,    /* has ->linear, and in ops: factors add as floats */
       TAUT_CAP_INTEGER = 4,   /* ops have ->integer: codes add exactly */
       TAUT_CAP_SPARSE =
           8, /* decoded tensor is mostly zeros; ops have encode_exact, which keeps a sum of such lossless */
       TAUT_CAP_STATEFUL = 16,     /* wants state_create */
       TAUT_CAP_GLOBAL_STATS = 32, /* statistics must be summed over ranks before calibrate */
       TAUT_CAP_LOSSLESS = 64,     /* decoded == src bit for bit (none) */
       TAUT_CAP_FEEDBACK = 128,    /* feedback=auto means on for this codec */
       TAUT_CAP_FIXED_SIZE = 256,  /* has ->fixed: the payload's length does not depend on the data */
};

enum { TAUT_STATS_MAX = 264 }; /* doubles that collect_stats may fill */

/* A linear codec in an allreduce: for each round, factor = project(x); factors are averaged over ranks by a native
 * allreduce; absorb(factor). Then reconstruct gives the mean tensor (ops.h). Whole tensors only. */
typedef struct taut_codec_linear {
    int rounds;
    size_t (*factor_elems)(const taut_stage *s, const taut_tensor *t, int round);
} taut_codec_linear;

struct taut_codec_ops; /* ops.h */

typedef struct taut_codec {
    uint16_t id;      /* on the wire; never reused. 1..1023 ours, 1024.. users' */
    uint16_t version; /* of the payload; moves when bytes move. The newest, where there are several: */
    uint16_t oldest;  /* (optional; 0: version) that decode reads */
    uint16_t (*version_of)(
        const uint8_t *payload); /* (with oldest) the oldest that reads this payload, which encode has written */
    const char     *name;        /* lower case */
    const char     *help;        /* one line */
    uint32_t        caps;
    const taut_key *keys;
    uint32_t        n_keys;
    uint32_t        n_stats; /* 0 = no statistics: no collect_stats, no calibrate */
    /* (optional) 1 + the key that is the rel_err2 aimed at, which may change between calls; 0: none */
    uint32_t error_key;
    double   coarse; /* (with error_key) from which on feedback=auto means on, as it does in a basis; 0: never */
    /* (optional) 1 + the key that is the number of directions of a basis in which the tensor is coded; 0: none */
    uint32_t basis_key;
    uint32_t n_brief; /* (of codecs that adapt) 1..8; 0: does not adapt */
    /* (optional) of the first n_brief numbers, of all ranks: is x of another shape than it was, so that all of them are needed? */
    bool (*reshaped)(const taut_stage *s, const double *earlier, const double *now);
    /* (optional) where in the statistics the sum of (x/scale)^2 is, followed by that of x^2; 0: nowhere */
    uint32_t norms;

    /* (optional; default: anything goes) does this stage suit this tensor? Fails with the value and the range. */
    taut_status (*check)(const taut_stage *s, const taut_tensor *t);
    /* (optional; default: NULL) NULL: a contraction, that is, there are a norm and a c < 1 with |x - decoded(x)| <= c |x| for every x
     * (expected, where rounding is random; or an absolute bound): error feedback around it stays bounded (Karimireddy et al.
     * 2019, assumption A). Else why not, and what to use instead: "scale=1 multiplies what is sent: use scale=0". */
    const char *(*expands)(const taut_stage *s);
    /* (optional; default 1) slices start at multiples of this many elements */
    size_t (*align)(const taut_stage *s);
    /* Payload bytes that n elements of this tensor can take at most; without looking at data. */
    size_t (*capacity)(const taut_stage *s, const taut_tensor *t, size_t n);
    /* (TAUT_CAP_FIXED_SIZE) The payload's bytes for elements first .. first + n of the tensor, known without looking at data. */
    size_t (*fixed)(const taut_stage *s, const taut_tensor *t, size_t first, size_t n);
    /* (optional) canonical spec text from payload bytes on the host; for taut_frame_info */
    taut_status (*describe)(const uint8_t *src, size_t len, taut_stage *s);

    const taut_codec_linear     *linear;           /* (LINEAR) */
    const struct taut_codec_ops *ops[TAUT_SPACES]; /* by space; NULL: none there. Asked for through taut__ops() */
} taut_codec;

/* ---- registry.c ---- */
const taut_codec *taut__codec_by_name(const char *name, size_t len); /* NULL if unknown */
const taut_codec *taut__codec_by_id(uint16_t id);
const taut_codec *taut__codec_at(size_t i); /* in order of id; NULL past the end */

/* ---- spec-level calls (codec.c): these dispatch to the codec of a spec, or to stack when it has several stages, and
 * are what comm/ and launch/ use ---- */
static inline uint16_t taut__payload_version(const taut_codec *codec, const uint8_t *payload)
{
    return codec->version_of ? codec->version_of(payload) : codec->version;
}
static inline bool taut__reads_version(const taut_codec *codec, uint16_t version)
{
    return version <= codec->version && version >= (codec->oldest ? codec->oldest : codec->version);
}
static inline const taut_stage *taut__stage(const taut_call *c) { return &c->spec->stage[c->stage]; }
const taut_codec *taut__spec_codec(const taut_spec *spec); /* the stack codec for several stages; not for auto */
taut_status       taut__spec_suits(const taut_spec *spec, const taut_tensor *t);
uint32_t taut__spec_caps(const taut_spec *spec); /* of the codec; of a stack: what all of its stages allow (stack.c) */
const char *taut__spec_expands(
    const taut_spec *spec); /* as taut_codec.expands; a stack does if one of its stages does */
/* Directions of the basis in which a tensor with a shorter side of 2 and more is coded; 0: none. */
size_t taut__spec_basis(const taut_spec *spec);
void   taut__spec_no_basis(taut_spec *spec); /* leaves it out */
size_t taut__spec_align(const taut_spec *spec);
size_t taut__spec_capacity(const taut_spec *spec, const taut_tensor *t, size_t n);
/* True if the payload's bytes are known beforehand: of one stage with, or of a stack all of whose stages have, FIXED_SIZE. */
bool taut__spec_fixed(const taut_spec *spec, const taut_tensor *t, size_t first, size_t n, size_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
