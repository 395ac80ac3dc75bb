/* taut_data.h : datasets as shards: fewer bytes per sample, any sample in O(1), verified, from C.
 *
 * INTRODUCTION
 *
 *  A shard is one file, NAME.taut, that every zstd can test (`zstd -t`) and that is the concatenation of its samples where
 *  it has one field of codec `zstd` or `raw` (`zstd -dc`). It holds `samples` samples; each has one value per field. Samples
 *  are grouped in blocks of a constant number, and every block of every field is compressed on its own, so reading sample
 *  i touches block i / samples_per_block and nothing else. docs/data.md is the guide, docs/shard-format.md the bytes.
 *
 *      taut_shard  *shard;                                      // read
 *      taut_reader *reader;                                     // one per thread
 *      taut_shard_open("mnist.taut", &shard);
 *      taut_reader_create(shard, &reader);
 *      taut_reader_sample(reader, 0, i, pixels, sizeof pixels, &bytes);
 *
 *      taut_field fields[2] = {TAUT_FIELD_INIT, TAUT_FIELD_INIT};   // write
 *      ...
 *      taut_writer_create("mnist.taut", 2, fields, NULL, &writer);
 *      taut_writer_add(writer, (const void *[]){pixels, &label}, (size_t[]){784, 1});   // once per sample
 *      taut_writer_finish(writer);
 *      taut_writer_destroy(writer);
 *
 *  It stands beside taut.h, not in it: a program that reads data needs no communicator, and the other way round.
 *  Conventions (status, last error, ownership, strings) are those of taut.h.
 *
 * CONTENTS: types and fields, writer, shard, reader, images; then plans, sampler and loader.
 */
#ifndef TAUT_DATA_H
#define TAUT_DATA_H

#include "taut.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TAUT_SHARD_VERSION 1 /* of the bytes of a shard; moves when they do */

/* ---- Types and fields ---------------------------------------------------------------------------------------- */

/* Element type of a field; all little-endian. The values are in the files. */
typedef enum taut_type {
    TAUT_U8 = 0,
    TAUT_I8 = 1,
    TAUT_U16 = 2,
    TAUT_I16 = 3,
    TAUT_U32 = 4,
    TAUT_I32 = 5,
    TAUT_U64 = 6,
    TAUT_I64 = 7,
    TAUT_FLOAT32 = 8,
    TAUT_FLOAT64 = 9
} taut_type;

/* What a field is. It decides which codecs make sense, and what a loader may do with it. The values are in the files. */
typedef enum taut_kind {
    TAUT_KIND_BYTES = 0,  /* bytes without further meaning */
    TAUT_KIND_TEXT = 1,   /* UTF-8 */
    TAUT_KIND_TOKENS = 2, /* token ids, unsigned */
    TAUT_KIND_INT = 3,    /* integers */
    TAUT_KIND_FLOAT = 4,  /* floats; soft labels too */
    TAUT_KIND_IMAGE = 5,  /* u8 pixels, shape {rows, cols} or {rows, cols, channels} */
    TAUT_KIND_FILE = 6,   /* a whole file (JPEG, PNG, ...), passed through */
    TAUT_KIND_LABEL = 7   /* class numbers: an integer per sample; at most one field of a shard */
} taut_kind;

enum { TAUT_FIELD_NAME = 48, TAUT_FIELD_CODEC = 64, TAUT_FIELD_DIMS = 4 };

/* taut_field : one column of a shard. A writer reads the first part; a shard fills in all of it. */
typedef struct taut_field {
    size_t    size;                    /* set by TAUT_FIELD_INIT */
    char      name[TAUT_FIELD_NAME];   /* "image"; letters, digits, - _ . ; unique in the shard */
    char      codec[TAUT_FIELD_CODEC]; /* field codec spec, as in "zstd:19" (docs/data.md); "" = the kind's default */
    taut_kind kind;
    taut_type type;
    uint32_t  ndim;                   /* 0: one element per sample */
    uint32_t  variable;               /* 1: samples differ in length; ndim and shape do not apply */
    uint64_t  shape[TAUT_FIELD_DIMS]; /* extents of a sample */
    /* ---- filled in by taut_shard_field() ---- */
    uint64_t sample_bytes;  /* bytes of each sample; 0 where they differ */
    uint64_t decoded_bytes; /* of all samples */
    uint64_t stored_bytes;  /* of all blocks, and of dictionary and tables of this field */
    double   rel_err2;      /* sum (decoded-x)^2 / sum x^2, measured on all samples; 0 = lossless */
    double   max_err;       /* max |decoded-x| */
    double   psnr_db;       /* images: 10 log10(255^2 / mean squared error); 0 where lossless */
} taut_field;
#define TAUT_FIELD_INIT                                                                                                \
    {                                                                                                                  \
        sizeof(taut_field), {0}, {0}, TAUT_KIND_BYTES, TAUT_U8, 0, 0, {0}, 0, 0, 0, 0, 0, 0                            \
    }

TAUT_API size_t      taut_type_bytes(taut_type t);    /* 0 for an unknown one */
TAUT_API const char *taut_type_name(taut_type t);     /* "u8" ... "f64"; "?" */
TAUT_API const char *taut_kind_name(taut_kind k);     /* "bytes" ...; "?" */
TAUT_API const char *taut_field_codec_name(size_t i); /* registered field codecs; NULL past the end */
TAUT_API const char *taut_field_codec_help(size_t i); /* one line: what it is, its keys with ranges and defaults */
/* taut_field_check() : TAUT_OK if the codec spec is well formed and suits kind, type and shape. */
TAUT_API taut_status taut_field_check(const taut_field *field);

/* ---- Writer ---------------------------------------------------------------------------------------------------
 * Samples are spooled, then (in finish) tables are trained, blocks encoded, decoded again to measure the error, and
 * written to ".NAME.part" beside the target, which is fsynced and renamed. A kill at any moment leaves the old file or
 * none. Two writers of one name: the second is refused. The same samples and options give the same bytes. */
typedef struct taut_writer taut_writer;

typedef struct taut_writer_options {
    size_t      size;              /* set by TAUT_WRITER_INIT */
    uint64_t    block_bytes;       /* decoded bytes of a block of the largest field, 256..1 GiB; 0 = 65536 */
    uint64_t    samples_per_block; /* 0 = as many as fit block_bytes, at least 1 */
    const char *source;            /* free text kept in the shard, as in "mnist train"; NULL = "" */
    const char *labels;            /* names of the classes 0, 1, ... one per line; NULL = none */
    int (*progress)(void *ctx, uint64_t done,
                    uint64_t total); /* samples encoded; not 0 stops with TAUT_E_STATE; may be NULL */
    void   *progress_ctx;
    int32_t threads; /* that encode blocks, 1..64; 0 = 1. The bytes do not depend on it */
} taut_writer_options;
#define TAUT_WRITER_INIT                                                                                               \
    {                                                                                                                  \
        sizeof(taut_writer_options), 0, 0, 0, 0, 0, 0, 0                                                               \
    }

/* taut_writer_create() : fields: n of them, 1..64; copied. path: of the shard to be; options NULL: defaults. */
TAUT_API taut_status taut_writer_create(const char *path, size_t nfields, const taut_field *fields,
                                        const taut_writer_options *options, taut_writer **writer);
/* taut_writer_add() : one sample: data[f], bytes[f] for every field. Copied. */
TAUT_API taut_status taut_writer_add(taut_writer *writer, const void *const *data, const size_t *bytes);
/* taut_writer_measure() : what this codec would make of a field, tried on at most 64 MiB of evenly chosen blocks of the samples
 *  added so far. taut_writer_codec() : use this codec for it. Both before finish. For choosing codecs under an error budget
 *  (taut_plan_solve in taut.h; taut data pack --budget does it). */
typedef struct taut_trial {
    size_t size;          /* sizeof(taut_trial), set before the call */
    double error2, norm2; /* sums of squares of differences and of elements */
    double bytes;         /* stored bytes of the whole field, extrapolated */
} taut_trial;
TAUT_API taut_status taut_writer_measure(taut_writer *writer, size_t field, const char *codec, taut_trial *trial);
TAUT_API taut_status taut_writer_codec(taut_writer *writer, size_t field, const char *codec);
/* taut_writer_finish() : encode and publish. TAUT_E_INVALID without any sample. The writer can then only be destroyed. */
TAUT_API taut_status taut_writer_finish(taut_writer *writer);
/* taut_writer_destroy() : without a successful finish, nothing of it remains on disk. */
TAUT_API void taut_writer_destroy(taut_writer *writer);

/* ---- Shard ----------------------------------------------------------------------------------------------------
 * What is in a file. Immutable after open, so any number of threads may use it. */
typedef struct taut_shard taut_shard;

typedef struct taut_shard_info {
    size_t   size; /* sizeof(taut_shard_info), set before the call */
    uint64_t samples, blocks, samples_per_block;
    uint64_t file_bytes;
    uint64_t hash; /* identity of the content: equal files have equal hashes, plans are pinned to it */
    uint32_t fields, version;
    int32_t  label_field; /* field of kind label; -1 = none */
    int32_t  plain;       /* 1: `zstd -dc` gives the samples one after another */
    int32_t  foreign;     /* 1: an index, whose samples lie in files of another format (taut_shard_foreign()) */
} taut_shard_info;

/* taut_shard_open() : reads the index and checks it. TAUT_E_CORRUPT: no shard, truncated or damaged; TAUT_E_VERSION: newer. A file of
 *  another format is read by its index PATH.taut, where that is there. */
TAUT_API taut_status taut_shard_open(const char *path, taut_shard **shard);
TAUT_API void        taut_shard_close(taut_shard *shard); /* after its readers */
TAUT_API taut_status taut_shard_get_info(const taut_shard *shard, taut_shard_info *info);
TAUT_API taut_status taut_shard_field(const taut_shard *shard, size_t i, taut_field *field); /* .size set before */
TAUT_API int         taut_shard_find(const taut_shard *shard, const char *name);             /* index of a field; -1 */
TAUT_API const char *taut_shard_path(const taut_shard *shard);
TAUT_API const char *taut_shard_source(const taut_shard *shard); /* of the writer's options */
TAUT_API const char *taut_shard_labels(const taut_shard *shard); /* of the writer's options */
TAUT_API const char *taut_shard_foreign(const taut_shard *shard,
                                        size_t            i); /* file i that an index reads; NULL past the end */

/* ---- Indexes --------------------------------------------------------------------------------------------------
 * A shard over files of other formats, which stay as they are: an index says where each sample lies and holds the hashes of
 * all blocks. Everything that takes a shard takes one. docs/data.md has the formats. A file that changes under its index is
 * noticed: by its size when the index is opened, by its blocks' hashes in every read. */
typedef struct taut_index_options {
    size_t      size;        /* set by TAUT_INDEX_INIT */
    const char *format;      /* mds, tar, megatron, npy, idx, tfrecord, arrow; NULL = by the look of the first file */
    uint64_t    block_bytes; /* decoded bytes of a block of the largest field, 256..1 GiB; 0 = 65536 */
    uint64_t    samples_per_block; /* 0 = as many as fit block_bytes, at least 1 */
    const char *label; /* this field holds the classes; NULL = one that is called label, class, cls, target or y */
    /* this integer field holds token ids; NULL = one that is called tokens, token_ids, input_ids or ids */
    const char        *tokens;
    const char *const *select; /* only these fields; may be NULL */
    size_t             nselect;
    int32_t            bytes; /* 1: texts are any bytes; else a text that is not UTF-8 is an error */
    int32_t            raw;   /* tfrecord: 1 = records as they are, not as tf.train.Example */
    int (*progress)(void *ctx, uint64_t done, uint64_t total); /* samples; not 0 stops with TAUT_E_STATE; may be NULL */
    void *progress_ctx;
} taut_index_options;
#define TAUT_INDEX_INIT                                                                                                \
    {                                                                                                                  \
        sizeof(taut_index_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                                                    \
    }

/* taut_index_create() : path: of the index to be, which appears complete or not at all. files: of one format; several npy or idx
 *  files are fields of the same samples, of megatron the .bin or the .idx is given; else n must be 1. TAUT_E_CORRUPT and
 *  TAUT_E_UNSUPPORTED name file and record. The index names files beside it by their names, so both can be moved together. */
TAUT_API taut_status taut_index_create(const char *path, size_t n, const char *const *files,
                                       const taut_index_options *options);
TAUT_API const char *taut_index_format_name(size_t i); /* NULL past the end */
TAUT_API const char *taut_index_format_help(size_t i);

/* ---- Reader ---------------------------------------------------------------------------------------------------
 * Decoding memory of one thread; it keeps the last block of each field. Every byte that it returns has passed the
 * checksums of its block (raw samples: their own). TAUT_E_CORRUPT names file, field, block and samples. */
typedef struct taut_reader taut_reader;

/* taut_reader_create() : of an open shard, which outlives it. taut_reader_destroy(NULL) is fine. */
TAUT_API taut_status taut_reader_create(const taut_shard *shard, taut_reader **reader);
TAUT_API void        taut_reader_destroy(taut_reader *reader);
/* taut_reader_sample() : copies sample `index` of a field to dst[0..*bytes). dst NULL: only its length.
 *  TAUT_E_CAPACITY if cap is too small; *bytes then tells what it takes. */
TAUT_API taut_status taut_reader_sample(taut_reader *reader, size_t field, uint64_t index, void *dst, size_t cap,
                                        size_t *bytes);
/* taut_reader_block() : a whole decoded block, borrowed until the reader's next call: n samples, sample k of it at
 *  data[offset[k] .. offset[k+1]). Samples first .. first+n-1, first = block * samples_per_block. */
typedef struct taut_block_view {
    size_t          size; /* sizeof(taut_block_view), set before the call */
    uint64_t        first, n;
    const uint8_t  *data;
    const uint32_t *offset; /* n+1 entries */
} taut_block_view;
TAUT_API taut_status taut_reader_block(taut_reader *reader, size_t field, uint64_t block, taut_block_view *view);
/* taut_reader_labels() : classes[0..samples) of the label field. TAUT_E_UNSUPPORTED if the shard has none. */
TAUT_API taut_status taut_reader_labels(taut_reader *reader, int64_t *classes);

/* ---- Export ---------------------------------------------------------------------------------------------------
 * taut_shard_export() : the samples of shards, one shard behind the other, as another format: "mds" (a folder for Mosaic Streaming), "tar"
 *  (for WebDataset), "npy". The shards must have the same fields. Each file appears complete or not at all; the index.json of mds comes
 *  last. TAUT_E_UNSUPPORTED: the format cannot hold a field; TAUT_E_MISMATCH: the shards differ. */
typedef struct taut_export_options {
    size_t             size;   /* set by TAUT_EXPORT_INIT */
    const char *const *select; /* only these fields; may be NULL */
    size_t             nselect;
    uint64_t           shard_bytes;                            /* mds: of a shard at most, 4096..2^31; 0 = 64 MiB */
    int (*progress)(void *ctx, uint64_t done, uint64_t total); /* samples; not 0 stops with TAUT_E_STATE; may be NULL */
    void *progress_ctx;
} taut_export_options;
#define TAUT_EXPORT_INIT                                                                                               \
    {                                                                                                                  \
        sizeof(taut_export_options), 0, 0, 0, 0, 0                                                                     \
    }
TAUT_API taut_status taut_shard_export(const char *format, const char *path, size_t n, const taut_shard *const *shards,
                                       const taut_export_options *options);
TAUT_API const char *taut_export_format_name(size_t i); /* NULL past the end */
TAUT_API const char *taut_export_format_help(size_t i);

/* ---- Verification ---------------------------------------------------------------------------------------------
 * taut_shard_verify() : reads every byte of the file and calls bad() for everything that is not as it was written: text
 *  names the part, as in "block 3 of field text (samples 192..255): ...". Returns TAUT_OK if nothing is bad, else
 *  TAUT_E_CORRUPT; other statuses where it could not read. bad() may be NULL. */
typedef struct taut_verify_result {
    size_t   size; /* sizeof(taut_verify_result), set before the call */
    uint64_t blocks, bad_blocks, bad_parts, bytes;
} taut_verify_result;
TAUT_API taut_status taut_shard_verify(const taut_shard *shard, void (*bad)(void *ctx, const char *text), void *ctx,
                                       taut_verify_result *result);

/* ---- Images ---------------------------------------------------------------------------------------------------
 * taut_jpeg_info(), taut_jpeg_decode() : a JPEG to u8 pixels, rows x cols x channels (1 or 3), by libjpeg-turbo.
 *  scale: 1, 2, 4 or 8: decode to 1/scale of the size, which costs about 1/scale^2; extents are rounded up.
 *  TAUT_E_UNSUPPORTED where the library was built without libjpeg-turbo, TAUT_E_CORRUPT for what is not a whole JPEG. */
TAUT_API taut_status taut_jpeg_info(const void *jpeg, size_t bytes, int scale, size_t shape[3]);
TAUT_API taut_status taut_jpeg_decode(const void *jpeg, size_t bytes, int scale, uint8_t *pixels, size_t cap,
                                      size_t shape[3]);

/* ---- Plans ----------------------------------------------------------------------------------------------------
 * Which samples a job trains on, as rules: a small text that is pinned to its shards by hash (docs/data.md). */
typedef struct taut_data_plan taut_data_plan;

/* taut_data_group : ranks that look at the samples together, each at its part, for a library that knows no MPI. All callbacks are
 * collective, are called by all ranks in the same order, and return TAUT_OK or what went wrong. taut_data_mpi.h has them for MPI. */
typedef struct taut_data_group {
    size_t   size; /* sizeof(taut_data_group) */
    void    *ctx;
    uint32_t rank, ranks;
    taut_status (*sum)(void *ctx, uint64_t *x, size_t n); /* over the ranks, in place */
    taut_status (*gather)(void *ctx, const void *mine, void *all,
                          const size_t *bytes); /* bytes[r] bytes of rank r, in rank order, to all */
    taut_status (*agree)(void *ctx, taut_status mine, char *text, size_t cap); /* as of taut_loader_group */
} taut_data_group;

/* What a method tells of its stage: a criterion, as a mean over what it chose and over as many random samples. */
typedef struct taut_data_stage_report {
    size_t      size;
    const char *stage; /* "dsir:n=3" */
    uint64_t    of, keep;
    const char *criterion; /* NULL = nothing to compare */
    double      chosen, random;
    /* of each of the `of` samples that came in, valid during the call; NULL = the method has none */
    const double *score;
} taut_data_stage_report;

typedef struct taut_data_plan_options {
    size_t      size;    /* set by TAUT_DATA_PLAN_INIT */
    const char *budget;  /* "10%" or a number of samples, for stages of the rule without one; NULL = none */
    const char *strata;  /* integer field of which every class gets its share; NULL = none */
    uint64_t    seed;    /* of every random choice and order */
    uint64_t    rounds;  /* visits of what the rule leaves; 0 = 1 */
    uint64_t    window;  /* blocks that are shuffled together, which bounds what a reader needs at a time; 0 = every
                            sample may come at any time: the finest shuffle, for sets that fit into memory */
    int32_t     replace; /* of rs2: 1 = every round draws from everything */
    /* of methods that look at the samples */
    const char *target; /* path of a shard *.taut, or of a text: samples like those that are wanted; NULL = none */
    const char *scores; /* path of a file that taut_scores_save() wrote; NULL = none */
    const char *field;  /* that they look at; NULL = the first that fits */
    /* NULL = one rank. With more, every rank makes the same call and gets the same plan */
    const taut_data_group *group;
    int (*progress)(void *ctx, const char *what, uint64_t done,
                    uint64_t total); /* of this rank; not 0 stops with TAUT_E_STATE; may be NULL */
    void *progress_ctx;
    void (*warn)(void *ctx, const char *text); /* on rank 0; may be NULL */
    void *warn_ctx;
    void (*stage)(void *ctx, const taut_data_stage_report *report); /* on rank 0, after each such stage; may be NULL */
    void *stage_ctx;
} taut_data_plan_options;
#define TAUT_DATA_PLAN_INIT                                                                                            \
    {                                                                                                                  \
        sizeof(taut_data_plan_options), 0, 0, 1, 1, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                                \
    }

TAUT_API const char *taut_data_method_name(size_t i); /* methods that look at the samples; NULL past the end */
TAUT_API const char *taut_data_method_help(size_t i); /* one line */

/* taut_scores_save() : columns of numbers about every sample of n shards, for options.scores: value[sample * columns + c], finite, samples
 *  counted through the shards. Written beside the target and renamed. docs/data-selection.md has the text. */
TAUT_API taut_status taut_scores_save(const char *path, size_t n, const taut_shard *const *shards, size_t columns,
                                      const char *const *name, const double *value);

/* taut_data_plan_create() : rule: "full", "static:budget=10%", "rs2:budget=10%", "mix:shares=2:1", "list:file=PATH" or a method that looks at the
 *  samples, as in "dedup:jaccard=0.8"; stages joined by "|".
 *  shards: n of them, whose order is the order of sample numbers; not needed after the call. */
TAUT_API taut_status taut_data_plan_create(const char *rule, size_t n, const taut_shard *const *shards,
                                           const taut_data_plan_options *options, taut_data_plan **plan);
TAUT_API taut_status taut_data_plan_load(const char *path, taut_data_plan **plan); /* an error names the line */
TAUT_API taut_status taut_data_plan_save(taut_data_plan *plan, const char *path);  /* beside the target, renamed */
TAUT_API void        taut_data_plan_destroy(taut_data_plan *plan);

typedef struct taut_data_plan_info {
    size_t   size;       /* sizeof(taut_data_plan_info), set before the call */
    uint64_t hash;       /* of its text; identifies it in states and reports */
    uint64_t shards, of; /* shards, and samples in them */
    uint64_t samples;    /* of a round */
    uint64_t rounds, seed, window;
    char     rule[256];  /* "static 6000 of 60000 | rs2 600 of 6000" */
    char     strata[64]; /* "" = not stratified */
} taut_data_plan_info;
TAUT_API taut_status taut_data_plan_get_info(taut_data_plan *plan, taut_data_plan_info *info);
/* taut_data_plan_shard() : hash and samples of shard i (below info.shards), in the order in which samples are counted. */
TAUT_API taut_status taut_data_plan_shard(const taut_data_plan *plan, uint64_t i, uint64_t *hash, uint64_t *samples);

/* ---- Loader ---------------------------------------------------------------------------------------------------
 * Batches of a plan, read and decoded ahead by threads in the order in which they will be needed. Step t of the job takes the
 * places t*batch .. of the plan's stream, whatever the number of ranks; the ranks take slices, so all of them take equally many
 * steps. Ranks of one node decode each block once, into memory that they share and that has no name: nothing of it
 * stays when they are killed.
 *
 *      taut_loader_config cfg = TAUT_LOADER_INIT;
 *      cfg.shards = paths, cfg.nshards = 1, cfg.plan = "P.plan", cfg.batch = 256;
 *      taut_loader_open(&cfg, NULL, &loader);                 // or taut_loader_open_mpi() of taut_data_mpi.h
 *      while (taut_loader_next(loader, &batch) == TAUT_OK && !batch.end)
 *          for (i = 0; i < batch.n; i++) use(batch.data[0][i], batch.bytes[0][i]);
 *      taut_loader_close(loader);
 *
 * Used by one thread at a time, of the process that opened it: one that was forked closes it only. */
typedef struct taut_loader taut_loader;

/* taut_loader_group : the ranks of a job, for a loader that knows no MPI. All callbacks are collective, are called by all
 *  ranks in the same order, during open only, and return TAUT_OK or what went wrong. */
typedef struct taut_loader_group {
    size_t          size; /* sizeof(taut_loader_group) */
    void           *ctx;
    uint32_t        rank, ranks;
    uint32_t        node_ranks;                                      /* ranks on this rank's node, itself included */
    const uint32_t *node;                                            /* their numbers, ascending */
    taut_status (*broadcast)(void *ctx, void *bytes, size_t n);      /* of rank 0 */
    taut_status (*node_broadcast)(void *ctx, void *bytes, size_t n); /* of node[0], to node[] */
    /* Everybody gets the lowest status of all ranks (TAUT_OK is the highest), and the text of a rank that has it. */
    taut_status (*agree)(void *ctx, taut_status mine, char *text, size_t cap);
} taut_loader_group;

typedef struct taut_loader_config {
    size_t             size;   /* set by TAUT_LOADER_INIT */
    const char *const *shards; /* paths; they need not be in the plan's order, it knows them by their hashes */
    size_t             nshards;
    const char        *plan;   /* path of a plan; NULL = "full", seed 1, `rounds` rounds */
    uint64_t           rounds; /* 0 = the plan's */
    uint64_t           batch;  /* samples of a step, all ranks together: at least one a rank, at most a round */
    const char *const *fields; /* names; NULL = all fields of the shards */
    size_t             nfields;
    const void        *state; /* of taut_loader_state(): go on there; NULL = from the start */
    size_t             state_bytes;
    uint64_t           cache_bytes;   /* decoded blocks of a node; 0 = 256 MiB, more where two steps need it */
    int32_t            threads;       /* readers of this rank, 1..64; 0 = 2 */
    int32_t            ahead;         /* steps to read ahead, 1..1024; 0 = 16 */
    int32_t            timeout_ms;    /* longest wait for a block; 0 = 60000 */
    int32_t            share;         /* 1 = each rank decodes for itself; 0 = share with the node */
    int32_t            read_delay_us; /* for tests: added to every read */
    uint64_t first_step; /* begin at this step; a state then only pins plan and batch. 0 = at the state's place */
} taut_loader_config;
#define TAUT_LOADER_INIT                                                                                               \
    {                                                                                                                  \
        sizeof(taut_loader_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                                     \
    }

/* taut_loader_open() : collective over the group; NULL = one rank. Rank 0 reads plan, indexes and labels, and broadcasts
 *  them. Fails on all ranks or on none. TAUT_E_MISMATCH: a shard, or the state, does not belong to the plan. */
TAUT_API taut_status taut_loader_open(const taut_loader_config *config, const taut_loader_group *group,
                                      taut_loader **loader);
TAUT_API void        taut_loader_close(taut_loader *loader); /* not collective; close(NULL) is fine */

/* taut_batch : this rank's slice of one step. Pointers are borrowed until the next call of next() or close(). */
typedef struct taut_batch {
    size_t                       size;        /* set by TAUT_BATCH_INIT */
    uint64_t                     n;           /* samples of this rank; in a short last step it may be 0 */
    uint64_t                     all;         /* samples of this step, all ranks */
    uint64_t                     step, round; /* of the job, from 0; the round of the step's first sample */
    const uint64_t              *id;          /* n numbers of samples among all of the plan's shards */
    const float                 *weight;      /* n weights; 1 where the plan has none */
    const uint8_t *const *const *data;        /* data[f][i]: sample i of field f */
    const size_t *const         *bytes;       /* bytes[f][i] */
    int32_t                      end;         /* 1: the plan is done, the rest is empty */
} taut_batch;
#define TAUT_BATCH_INIT                                                                                                \
    {                                                                                                                  \
        sizeof(taut_batch), 0, 0, 0, 0, 0, 0, 0, 0, 0                                                                  \
    }

/* taut_loader_next() : waits until this rank's samples are there. TAUT_E_CORRUPT names file, field and block;
 *  TAUT_E_TIMEOUT: a rank of this node that was to decode a block is gone. After a failure: only state() and close(). */
TAUT_API taut_status taut_loader_next(taut_loader *loader, taut_batch *batch);

/* taut_loader_state() : the place behind the last batch, for a checkpoint; at most TAUT_LOADER_STATE bytes, the same on all
 *  ranks, valid with any number of ranks. */
enum { TAUT_LOADER_STATE = 128 };
TAUT_API taut_status taut_loader_state(const taut_loader *loader, void *state, size_t cap, size_t *bytes);

/* Of the whole plan, from 0: for a schedule of the learning rate. */
TAUT_API uint64_t taut_loader_steps(const taut_loader *loader);
TAUT_API uint64_t taut_loader_samples(const taut_loader *loader); /* of a round */
TAUT_API size_t   taut_loader_fields(const taut_loader *loader);
/* Field f of the batches; .size set before. Errors are the largest over the shards, bytes their sums. */
TAUT_API taut_status taut_loader_field(const taut_loader *loader, size_t f, taut_field *field);

/* Counters since open. `node`: of all ranks that share memory with this one. */
typedef struct taut_loader_stats {
    size_t   size; /* sizeof(taut_loader_stats), set before the call */
    uint64_t steps, samples;
    double   stall_s;       /* that next() waited */
    double   first_stall_s; /* of these, in the first call, when nothing could be read ahead */
    uint64_t used_bytes;    /* of samples that this rank was given */
    uint64_t reads, read_bytes, decodes, decoded_bytes; /* by this rank's threads; decodes in blocks */
    uint64_t node_decodes;                              /* blocks that the node decoded */
    uint64_t node_blocks; /* different blocks that the node's batches so far need, counted anew in every round */
    uint64_t node_read_bytes, node_decoded_bytes;
    uint64_t cache_blocks; /* blocks that fit into the node's memory */
    int32_t  shared;       /* ranks that share it */
} taut_loader_stats;
TAUT_API taut_status taut_loader_get_stats(const taut_loader *loader, taut_loader_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
