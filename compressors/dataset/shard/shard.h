/* shard.h : what is inside a taut_shard and a taut_reader, for those who read blocks by themselves (a loader whose
 * threads pread ahead, and whose decoded blocks lie in shared memory). comm/taut_data.h is the plain interface;
 * docs/shard-format.md has the bytes.
 *
 * Vocabulary. Field f of block b is a *part*. Its stored bytes are one contiguous extent of the file, which starts with the
 * lengths or checksums of its samples where it has those. The parts of a block lie one behind the other, field 0 first, so
 * one pread fetches a whole block. A part decodes into an *image*: decoded bytes, then, where samples differ in length,
 * their offsets. Images hold no pointers: they may be decoded in one process and used in another.
 *
 * One way of a part:
 *     taut__shard_extent()  ->  pread (yours)  ->  taut__reader_decode() into your memory  ->  taut__image_sample()
 *
 * Shards are immutable after open. Readers are used by one thread at a time; many readers may share a shard. */
#ifndef TAUT_SHARD_H
#define TAUT_SHARD_H

#include "../../../comm/base/base.h"
#include "../../../comm/taut_data.h"

typedef struct taut_extent { /* where stored bytes lie in the file */
    uint64_t offset;
    uint64_t bytes;
} taut_extent;

/* ---- Shard ---- */

/* taut__shard_open_fd() : as taut_shard_open(), from an open file. fd is borrowed: it stays open at least as long as the
 *  shard and is never closed by it. name: for messages; copied. */
taut_status taut__shard_open_fd(int fd, const char *name, taut_shard **shard);

/* taut__shard_index() : all that open() read from the file: bytes that may be sent to other processes, borrowed from the
 *  shard. taut__shard_from_index() : a shard from these bytes (checked like a file's), without reading the file; it opens
 *  `path` for the blocks and answers TAUT_E_IO if that has another size than the index says. path NULL: no
 *  file is opened; then only taut__reader_decode() of parts that need no dictionary or prime works. */
const void *taut__shard_index(const taut_shard *s, size_t *bytes);
taut_status taut__shard_from_index(const void *index, size_t bytes, const char *path, taut_shard **shard);

uint64_t          taut__shard_samples(const taut_shard *s);
uint64_t          taut__shard_blocks(const taut_shard *s);
uint64_t          taut__shard_per_block(const taut_shard *s); /* samples per block; the last block may have fewer */
uint64_t          taut__shard_hash(const taut_shard *s);
uint32_t          taut__shard_fields(const taut_shard *s);
int               taut__shard_fd(const taut_shard *s);                /* of the file, for pread and posix_fadvise */
int               taut__shard_label(const taut_shard *s);             /* field of kind label; -1 = none */
const taut_field *taut__shard_field(const taut_shard *s, uint32_t f); /* complete; f < fields */
void              taut__shard_names(const taut_shard *s, char *dst, size_t cap); /* of its fields: "a, b", cut to fit */
taut_status       taut__shard_no_field(const taut_shard *s,
                                       const char       *name); /* TAUT_E_INVALID, which names those there are */

static inline uint64_t taut__block_of(uint64_t sample, uint64_t per_block) { return sample / per_block; }
uint64_t taut__block_samples(const taut_shard *s, uint64_t block); /* per_block, or what is left in the last one */

/* ---- Parts: b < blocks, f < fields ---- */
taut_extent taut__shard_extent(const taut_shard *s, uint32_t f, uint64_t b);
taut_extent taut__shard_block_extent(const taut_shard *s, uint64_t b);      /* all its fields */
size_t      taut__image_bytes(const taut_shard *s, uint32_t f, uint64_t b); /* what its image takes */
size_t      taut__image_bytes_max(const taut_shard *s, uint32_t f);         /* the largest of the field */

/* Sample k (0 .. block_samples-1) of an image: borrowed pointer into it. */
const uint8_t *taut__image_sample(const taut_shard *s, uint32_t f, uint64_t b, const void *image, uint64_t k,
                                  size_t *bytes);

/* ---- Decoding ---- */

/* taut__reader_decode() : stored bytes (of exactly the extent's length) -> image. Checks the CRC32C of the stored bytes
 *  before a decoder sees them, and the XXH64 of the decoded ones after. image: image_bytes() or more, 8-byte aligned, not
 *  overlapping; undefined after a failure. TAUT_E_CORRUPT names file, field, block, samples.
 *  Codecs with a shared dictionary or prime read it from the file at the reader's first part of that field. */
taut_status taut__reader_decode(taut_reader *r, uint32_t f, uint64_t b, const void *stored, size_t bytes, void *image,
                                size_t cap);

/* Reads and their bytes from the files of an index, by this reader so far. */
void taut__reader_foreign(const taut_reader *r, uint64_t *reads, uint64_t *bytes);

/* taut__reader_forget() : the block of field f that it keeps is read anew when it is asked for: for measuring. */
void taut__reader_forget(taut_reader *r, uint32_t f);

/* taut__reader_load() : pread and decode. */
taut_status taut__reader_load(taut_reader *r, uint32_t f, uint64_t b, void *image, size_t cap);

/* taut_shard_verify() that tells how far it is: blocks done and in all. */
taut_status taut__shard_verify(const taut_shard *s, void (*bad)(void *ctx, const char *text), void *ctx,
                               taut_verify_result *result, void (*progress)(void *ctx, uint64_t done, uint64_t total),
                               void               *progress_ctx);

/* taut__shard_changed() : the file behind the shard is no longer what was opened (size or modification time), or its path
 *  now names another file. Explains a checksum error. */
bool taut__shard_changed(const taut_shard *s);

#endif
