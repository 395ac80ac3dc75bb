/* layout.h : the bytes of a shard around its blocks; docs/shard-format.md shows them as a picture.
 *
 *   front    skippable frame at offset 0, fixed size: version, where meta lies, file size, hash, CRC
 *   parts    block 0 field 0, block 0 field 1, ... : [samples frame] payload frame
 *   shared   per field that has one: a skippable frame: dictionary, table, prime
 *   meta     skippable frame: counts, fields, texts, and per part: stored and decoded bytes, CRC32C, XXH64
 *   seek     skippable frame: the seek table of zstd's seekable format, over all frames before it
 *
 * All numbers are little-endian. */
#ifndef TAUT_LAYOUT_H
#define TAUT_LAYOUT_H

#include "../../crc/crc.h"
#include "../fields/field.h"
#include "shard.h"

/* Magic numbers of frames. RFC 8878 reserves 0x184D2A50..5F for skippable frames; the seekable format takes ..5E. */
#define TAUT_MAGIC_FRONT    0x184d2a50u
#define TAUT_MAGIC_SAMPLES  0x184d2a51u
#define TAUT_MAGIC_PAYLOAD  0x184d2a52u
#define TAUT_MAGIC_SHARED   0x184d2a53u
#define TAUT_MAGIC_META     0x184d2a54u
#define TAUT_MAGIC_SEEK     0x184d2a5eu
#define TAUT_MAGIC_SEEK_END 0x8f92eab1u

enum {
    TAUT_FRAME_HEAD = 8,   /* magic, size */
    TAUT_FRONT_BYTES = 80, /* with its frame's head */
    TAUT_META_HEAD = 64,   /* fixed part of meta, with its frame's head */
    TAUT_META_FIELD = 264, /* per field */
    TAUT_META_PART = 20,   /* per part */
    TAUT_FIELDS_MAX = 64,
    TAUT_SEEK_ENTRY = 12,
    TAUT_SEEK_FIXED = 17, /* head and footer of the seek table */
    TAUT_SAMPLES_HEAD = 8 /* of the samples frame's payload */
};
#define TAUT_PARTS_MAX     ((uint64_t)1 << 26) /* so that the seek table stays within its 2^27 frames */
#define TAUT_PER_BLOCK_MAX ((uint64_t)1 << 26)
#define TAUT_BLOCK_MAX     ((uint64_t)1 << 30) /* decoded bytes of a part */

typedef struct taut_front {
    uint32_t version;
    uint64_t file_bytes, meta_offset, meta_bytes; /* meta with its frame's head */
    uint32_t meta_crc;
    uint64_t hash; /* XXH64 of meta with its frame's head */
} taut_front;

typedef struct taut_meta_part { /* what the index says of a part */
    uint32_t stored, decoded, crc;
    uint64_t xxh;
} taut_meta_part;

typedef struct taut_shared { /* a field's shared frame; bytes 0: none */
    uint64_t offset, bytes;  /* with its frame's head */
    uint32_t crc;            /* of the same bytes */
} taut_shared;

void taut__frame_head(uint8_t *p, uint32_t magic, uint32_t size);

/* front: p holds TAUT_FRONT_BYTES. read: TAUT_E_CORRUPT, TAUT_E_VERSION; `repaired` tells whether one flipped bit was
 * corrected in p. */
void        taut__front_write(uint8_t *p, const taut_front *f);
taut_status taut__front_read(uint8_t *p, const char *name, taut_front *f, bool *repaired);

/* ---- Samples frame ---- in front of the payload of parts whose samples differ in length or are stored raw.
 *   head 8, flags u8 (1 = lengths, 2 = checksums), width u8, zero u16, shortest u32,
 *   lengths: n values of `width` bits, length - shortest; checksums: n CRC32C of samples; CRC32C of the frame so far */
enum { TAUT_SAMPLES_LENGTHS = 1, TAUT_SAMPLES_SUMS = 2 };

/* the flags of a field; 0 = it has no samples frame */
unsigned    taut__samples_flags(const taut_field *field, const taut_field_codec *codec);
taut_status taut__samples_write(unsigned flags, const taut_part *part, taut_bytes *out);

typedef struct taut_samples {
    size_t         bytes; /* of the frame */
    uint32_t       shortest;
    unsigned       width;
    const uint8_t *lengths, *sums; /* NULL where it has none */
} taut_samples;
/* src[0..len) begins with the frame of n samples. sums are only there after taut__samples_read with check = true. */
taut_status            taut__samples_read(unsigned flags, uint32_t n, const uint8_t *src, size_t len, taut_samples *s);
static inline uint32_t taut__samples_length(const taut_samples *s, uint64_t i)
{
    return s->shortest + (s->width ? (uint32_t)taut__unpack(s->lengths, i, s->width) : 0);
}
/* offset[0..n]; TAUT_E_CORRUPT unless they end at `bytes` */
taut_status taut__samples_offsets(const taut_samples *s, uint32_t n, size_t bytes, uint32_t *offset);

/* ---- Shard ---- */
struct taut_shard {
    int                   fd;
    bool                  own_fd;
    char                 *path;
    uint64_t              device, inode; /* of the file that was opened */
    int64_t               mtime_s, mtime_ns;
    taut_front            front;
    bool                  front_repaired, meta_repaired;
    uint8_t              *index; /* front and meta as read */
    size_t                index_bytes;
    uint64_t              samples, per_block, blocks;
    uint32_t              fields;
    int                   label;
    taut_field           *field;
    taut_field_spec      *spec;
    taut_shared          *shared;
    unsigned             *flags;  /* of samples frames */
    const uint8_t        *parts;  /* the index, TAUT_META_PART each, in `index` */
    uint64_t             *offset; /* parts+1 */
    size_t               *image_max;
    char                 *source, *labels;
    struct taut__foreign *foreign; /* of an index: the files with its samples; else NULL */
};

static inline uint64_t taut__part_number(const taut_shard *s, uint32_t f, uint64_t b) { return b * s->fields + f; }
static inline taut_meta_part taut__meta_part(const taut_shard *s, uint32_t f, uint64_t b)
{
    const uint8_t *p = s->parts + taut__part_number(s, f, b) * TAUT_META_PART;
    return (taut_meta_part){taut__get32(p), taut__get32(p + 4), taut__get32(p + 8), taut__get64(p + 12)};
}

/* ---- Meta ---- */
typedef struct taut_meta { /* what a writer knows at the end */
    uint64_t               samples, per_block, blocks;
    uint32_t               fields;
    const taut_field      *field; /* complete, codec spec canonical */
    const taut_field_spec *spec;
    const taut_shared     *shared;
    const char            *source, *labels;
    const uint8_t         *parts;
} taut_meta;
taut_status taut__meta_write(const taut_meta *m, taut_bytes *out);
/* s->index holds front and meta; fills in the rest of s. Nothing in the bytes is trusted. */
taut_status taut__meta_read(taut_shard *s);

/* ---- Messages ---- "FILE: block 3 of field text (samples 192..255)" */
void taut__part_name(const taut_shard *s, uint32_t f, uint64_t b, char *dst, size_t cap);

/* A part of this many bytes cannot be held: TAUT_E_NOMEM, naming it. */
taut_status taut__memory_ok(uint64_t bytes, const char *what);

/* The shared frame of a field with its frame's head, shared[f].bytes of it, checked; taut__free(*out). */
taut_status taut__read_shared(const taut_shard *s, uint32_t f, uint8_t **out);

/* pread all of it; TAUT_E_CORRUPT where the file ends before. */
taut_status taut__pread(int fd, const char *name, void *dst, size_t bytes, uint64_t offset);

#endif
