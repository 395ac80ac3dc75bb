/* foreign.h : samples where somebody else's files have them. An *index* is a shard whose fields have the codec `extern`: a block of
 * it stores no data but *places*, which say where in which *buffer* the samples lie; decoding a block reads them from there. So
 * all that reads shards reads unmodified files of other formats, and the checksums of the index are checked in every read.
 *
 * A buffer is a range of a file, stored as it is or as a zstd frame (bodies of Arrow files); places count from its
 * beginning. How stored bytes become elements is the field's `as`. docs/shard-format.md has the bytes. */
#ifndef TAUT_FOREIGN_H
#define TAUT_FOREIGN_H

#include "../fields/field.h"
#include "foreign_source.h"

enum { TAUT__FILES_MAX = 64, TAUT__BUFFERS_MAX = 1 << 24 };

typedef enum taut__as {                         /* the value of codec extern's key `as`; in the files */
                        TAUT__AS_PLAIN = 0,     /* elements, little-endian */
                        TAUT__AS_SWAP = 1,      /* big-endian */
                        TAUT__AS_ASCII = 2,     /* one whole number in decimal digits; white space around it */
                        TAUT__AS_INT64LIST = 3, /* tf.train.Int64List: protobuf varints */
                        TAUT__AS_FLOATLIST = 4, /* tf.train.FloatList */
} taut__as;

typedef struct taut__foreign_file {
    char        *path;        /* as it is in the index: relative to the index's folder, or absolute */
    bool         whole;       /* data is not read from it, but it must stay as it is: `hash` is of all of it */
    uint64_t     bytes, hash; /* when it was indexed */
    taut__source source;
} taut__foreign_file;

typedef struct taut__foreign_buffer {
    uint32_t file;
    bool     zstd;
    uint64_t at, stored, decoded; /* decoded = stored unless zstd */
} taut__foreign_buffer;

typedef struct taut__foreign { /* zero-initialise; taut__foreign_free() */
    taut__foreign_file   *file;
    size_t                files;
    taut__foreign_buffer *buffer;
    size_t                buffers, room;
    int64_t               index_s, index_ns; /* when the index was written: files that changed later are newer */
} taut__foreign;

void taut__foreign_free(taut__foreign *f);
/* All of an open source, as buffer number *buffer; the source is moved in, also when it fails. */
taut_status taut__foreign_add_file(taut__foreign *f, taut__source *source, bool whole);
taut_status taut__foreign_add_buffer(taut__foreign *f, taut__foreign_buffer b, uint32_t *number);

/* ---- Tables ---- in the shared frame of an index's first field. No times in it, so that the same files have the same index
 * on every machine. read() opens the files: `index` is the index's path; f->index_s, index_ns are set before. A file of another size is
 * TAUT_E_CORRUPT; one that is newer than the index is a warning in the log, since blocks are checked when they are read. */
taut_status taut__foreign_write(const taut__foreign *f, taut_bytes *out);
taut_status taut__foreign_read(taut__foreign *f, const uint8_t *src, size_t bytes, const char *index);
/* The first file of another size than when it was indexed, or newer than the index; NULL: none. */
const taut__foreign_file *taut__foreign_changed(const taut__foreign *f);
/* Files with `whole`: is the hash what it was? TAUT_E_CORRUPT names the file. */
taut_status taut__foreign_verify(taut__foreign *f);

/* ---- Places ---- of the samples of a field, while indexing: runs of samples with a constant gap between them. */
typedef struct taut__run {
    uint64_t at, samples;
    int64_t  gap; /* from the end of a sample to the next; counts from the second sample on */
    uint32_t buffer;
} taut__run;

typedef struct taut__places { /* zero-initialise; taut__places_free() */
    uint64_t   samples, end;  /* end: of the last sample */
    uint32_t   fixed;         /* stored bytes of every sample; 0: listed */
    taut__run *run;
    size_t     runs, run_room;
    uint32_t  *length; /* stored bytes, where they are listed */
    size_t     length_room;
} taut__places;

void        taut__places_free(taut__places *p);
taut_status taut__places_add(taut__places *p, uint32_t buffer, uint64_t at, uint64_t bytes);
/* n samples of `fixed` bytes, one behind the other. */
taut_status            taut__places_add_array(taut__places *p, uint32_t buffer, uint64_t at, uint64_t n);
static inline uint32_t taut__places_length(const taut__places *p, uint64_t i)
{
    return p->fixed ? p->fixed : p->length[i];
}

typedef struct taut__places_cursor { /* zero: the first sample */
    size_t   run;
    uint64_t inside, at, sample;
} taut__places_cursor;
/* The places of the next n samples, appended to out. lengths: they are not known from elsewhere and are written, too. */
taut_status taut__places_write(const taut__places *p, taut__places_cursor *c, uint32_t n, bool lengths,
                               taut_bytes *out);

/* ---- Reading ---- what a thread needs; zero-initialise, taut__gather_free(). */
typedef struct taut__gather {
    uint8_t  *span, *unpacked;
    size_t    span_cap, unpacked_cap, samples_cap;
    uint32_t  unpacked_buffer; /* number + 1; 0: none */
    uint64_t *at;
    uint32_t *length, *buffer;
    uint64_t  read_bytes, reads; /* from the files, since ever */
} taut__gather;
void taut__gather_free(taut__gather *g);

/* taut__gather_part() : the samples of a part into dst. places[0..len) is not trusted. TAUT_E_CORRUPT names file and sample (its
 *  number in the part). */
taut_status taut__gather_part(taut__gather *g, const taut__foreign *f, taut__as as, taut_type type,
                              const uint8_t *places, size_t len, const taut_part *geometry, uint8_t *dst);

/* Stored bytes -> elements. dst[0..bytes) is written completely. */
taut_status taut__foreign_convert(taut__as as, taut_type type, const uint8_t *src, size_t n, uint8_t *dst,
                                  size_t bytes);
/* Are the stored bytes of this `as` as long as the decoded ones? Else places carry lengths of their own. */
static inline bool taut__as_same_length(taut__as as) { return as == TAUT__AS_PLAIN || as == TAUT__AS_SWAP; }

/* ---- Protobuf ---- a key, and where its value lies; *at moves behind it. false: malformed. (foreign_convert.c) */
typedef struct taut__pb_item {
    uint32_t       field, wire; /* 0 varint, 1 eight bytes, 2 bytes, 5 four bytes */
    uint64_t       value;       /* varint */
    const uint8_t *p;           /* wire 1, 2, 5: bytes of it */
    size_t         n;
} taut__pb_item;
bool taut__pb_next(const uint8_t *src, size_t n, size_t *at, taut__pb_item *item);
/* Elements of a tf.train.Int64List or FloatList; -1 = malformed. */
int64_t taut__list_count(taut__as as, const uint8_t *src, size_t n);

extern const taut_field_codec taut__field_extern;

#endif
