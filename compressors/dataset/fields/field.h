/* field.h : field codecs: decoded bytes of a part of a shard <-> stored bytes.
 *
 * A codec is one const table; registry in field_registry.c. A user's text is "name", "name:value" (of the codec's first
 * key) or "name:key=value,...". A part is one field of one block: n samples, one behind the other. Parts are coded
 * independently, but may share what was learned from all samples: a dictionary, a table, a step, a text to prime a model
 * with. That is made by train(), stored once per field, and comes back in open().
 *
 * Stored bytes are not trusted: decode() never reads outside src, never writes outside dst, and answers TAUT_E_CORRUPT.
 * Encoding is a pure function of (shared bytes, part, block number): the same bytes on every machine and thread. */
#ifndef TAUT_FIELD_H
#define TAUT_FIELD_H

#include "../../../comm/base/base.h"
#include "../../../comm/taut_data.h"
#include "../../codec.h" /* taut_key */
#include "../shard/bytes.h"

struct taut_field_codec;
enum { TAUT_FIELD_KEYS = 6 };

typedef struct taut_field_spec {
    const struct taut_field_codec *codec;
    double                         value[TAUT_FIELD_KEYS]; /* indexed like the codec's keys */
    uint32_t                       given;                  /* bit k: key k was written by the user */
    const taut_field              *field;
} taut_field_spec;

/* One field of one block, decoded. */
typedef struct taut_part {
    uint64_t        block, start; /* start: of its first byte in the field; only when encoding */
    const uint8_t  *data;
    size_t          bytes;
    uint32_t        n;
    const uint32_t *offset; /* n+1 */
} taut_part;

/* Where train() gets samples from: any part, in any order; borrowed until the next call. */
typedef struct taut_source {
    void    *ctx;
    uint64_t blocks, bytes; /* of all parts */
    taut_status (*part)(void *ctx, uint64_t block, taut_part *part);
} taut_source;

enum {
    TAUT_FIELD_PLAIN = 1, /* stored bytes are a zstd frame that any zstd decodes: not wrapped into a skippable one */
    TAUT_FIELD_LOSSY = 2, /* decoded bytes may differ from those put in */
    TAUT_FIELD_RAW = 4    /* decoded bytes lie in the frame as they are: samples can be read one by one */
};

typedef struct taut_field_codec {
    uint16_t        id, version; /* in the files: an id is never reused, version moves when bytes move */
    const char     *name, *help;
    uint32_t        caps, n_keys;
    const taut_key *keys;
    /* (optional; default: suits everything) does it suit kind, type and shape? */
    taut_status (*suits)(const taut_field_spec *spec);
    /* (optional) learn from all samples; appends what all parts share */
    taut_status (*train)(const taut_field_spec *spec, const taut_source *source, taut_bytes *shared);
    /* state of one thread; shared: what train() made, from the file when decoding, not trusted */
    taut_status (*open)(const taut_field_spec *spec, const uint8_t *shared, size_t bytes, bool encoding, void **state);
    /* (optional) called after open() when decoding: the shard that the parts belong to, which outlives the state */
    taut_status (*attach)(void *state, const struct taut_shard *shard);
    void (*close)(void *state);
    /* appends the stored bytes of a part; NULL: no writer makes such parts (extern, of indexes) */
    taut_status (*encode)(void *state, const taut_part *in, taut_bytes *out);
    /* geometry: block, bytes, n, offset as they were; data is NULL. dst[0..geometry->bytes) is written completely. */
    taut_status (*decode)(void *state, const uint8_t *src, size_t len, const taut_part *geometry, uint8_t *dst);
} taut_field_codec;

const taut_field_codec *taut__field_codec_at(size_t i); /* NULL past the end */
const taut_field_codec *taut__field_codec_by_id(uint16_t id);
const taut_field_codec *taut__field_codec_by_name(const char *name, size_t length); /* these two know `extern` too */

/* taut__field_spec_parse() : reads field->codec ("" = the default of its kind) and checks that it suits the field.
 *  spec->field = field. Messages begin with the field's name. */
taut_status taut__field_spec_parse(const taut_field *field, taut_field_spec *spec);
/* Canonical text; parses back to the same spec. */
void taut__field_spec_print(const taut_field_spec *spec, char *dst, size_t cap);

/* kind, type, ndim and shape make sense together; fills sample_bytes. */
taut_status taut__field_shape(taut_field *field);

extern const taut_field_codec taut__field_raw, taut__field_zstd, taut__field_dict, taut__field_dense,
    taut__field_tokens, taut__field_delta, taut__field_split, taut__field_quant, taut__field_grid, taut__field_med,
    taut__field_wavelet, taut__field_log, taut__field_extern;

#endif
