/* shard_reader.c : from stored bytes to samples. A reader keeps per field the codec's state, made at the first part (it
 * may need a dictionary from the file), and the last block that it decoded. */
#include "../fields/field_raw.h"
#include "../import/extern.h"
#include "layout.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

typedef struct field_state {
    bool           opened;
    void          *codec;  /* state of the field's codec */
    uint32_t      *offset; /* per_block+1: of the part under way */
    uint8_t       *image;  /* the last block, image_max bytes; NULL until asked for */
    uint64_t       held;   /* its number; UINT64_MAX: none */
    const uint8_t *data;   /* its decoded bytes: in image, or in stored where those lie there as they are */
    uint8_t       *stored;
    size_t         stored_cap;
} field_state;

struct taut_reader {
    const taut_shard *shard;
    field_state      *field;
};

taut_status taut_reader_create(const taut_shard *s, taut_reader **out)
{
    taut_reader *r = taut__alloc(1, sizeof *r);
    *out = NULL;
    if (r) r->field = taut__alloc(s->fields, sizeof *r->field);
    if (!r || !r->field) {
        taut__free(r);
        return taut__fail(TAUT_E_NOMEM, "%s: no memory for a reader", s->path);
    }
    r->shard = s;
    for (uint32_t f = 0; f < s->fields; f++) r->field[f].held = UINT64_MAX;
    *out = r;
    return TAUT_OK;
}

void taut_reader_destroy(taut_reader *r)
{
    if (!r) return;
    for (uint32_t f = 0; f < r->shard->fields; f++) {
        field_state            *st = &r->field[f];
        const taut_field_codec *c = r->shard->spec[f].codec;
        if (st->opened && c->close) c->close(st->codec);
        taut__free(st->offset);
        taut__free(st->image);
        taut__free(st->stored);
    }
    taut__free(r->field);
    taut__free(r);
}

void taut__reader_foreign(const taut_reader *r, uint64_t *reads, uint64_t *bytes)
{
    *reads = *bytes = 0;
    for (uint32_t f = 0; r->shard->foreign && f < r->shard->fields; f++)
        if (r->field[f].opened) taut__extern_counters(r->field[f].codec, reads, bytes);
}

/* ---- messages ---- */

/* The failure of a part, with its place in front of what went wrong. */
static taut_status bad_part(const taut_shard *s, uint32_t f, uint64_t b, taut_status rc)
{
    char place[512], why[512];
    snprintf(why, sizeof why, "%s", taut_last_error());
    taut__part_name(s, f, b, place, sizeof place);
    return taut__fail(rc, "%s: %s%s", place, why,
                      taut__shard_changed(s) ? "; the file was replaced or changed since it was opened" : "");
}

/* ---- codec state ---- */

taut_status taut__read_shared(const taut_shard *s, uint32_t f, uint8_t **out)
{
    const taut_shared *sh = &s->shared[f];
    char               name[512];
    uint8_t           *p;
    taut_status        rc;
    snprintf(name, sizeof name, "%s: what the blocks of field %s share (bytes %" PRIu64 "..%" PRIu64 ")", s->path,
             s->field[f].name, sh->offset, sh->offset + sh->bytes - 1);
    TAUT_TRY(taut__memory_ok(sh->bytes, name));
    if (s->fd < 0) return taut__fail(TAUT_E_STATE, "%s: the shard was opened from its index alone", name);
    p = taut__alloc((size_t)sh->bytes, 1);
    if (!p) return taut__fail(TAUT_E_NOMEM, "%s: no memory", name);
    rc = taut__pread(s->fd, name, p, (size_t)sh->bytes, sh->offset);
    if (rc == TAUT_OK && taut__crc32c(p, (size_t)sh->bytes) != sh->crc) {
        if (taut__crc32c_repair(p, (size_t)sh->bytes, sh->crc))
            taut__log(TAUT_LOG_WARN, "data", "%s: a flipped bit was corrected; the file is damaged, make it anew",
                      name);
        else rc = taut__fail(TAUT_E_CORRUPT, "%s: CRC32C does not match", name);
    }
    if (rc == TAUT_OK && (taut__get32(p) != TAUT_MAGIC_SHARED || taut__get32(p + 4) != sh->bytes - TAUT_FRAME_HEAD))
        rc = taut__fail(TAUT_E_CORRUPT, "%s: not a shared frame", name);
    if (rc != TAUT_OK) {
        taut__free(p);
        p = NULL;
    }
    *out = p;
    return rc;
}

static taut_status open_codec(taut_reader *r, uint32_t f)
{
    const taut_shard       *s = r->shard;
    const taut_field_codec *c = s->spec[f].codec;
    field_state            *st = &r->field[f];
    uint8_t                *shared = NULL;
    taut_status             rc = TAUT_OK;
    if (st->opened) return TAUT_OK;
    if (!st->offset) st->offset = taut__alloc((size_t)taut__min(s->per_block, s->samples) + 1, sizeof *st->offset);
    if (!st->offset) return taut__fail(TAUT_E_NOMEM, "%s: no memory for a reader", s->path);
    if (s->shared[f].bytes) TAUT_TRY(taut__read_shared(s, f, &shared));
    if (c->open)
        rc = c->open(&s->spec[f], shared ? shared + TAUT_FRAME_HEAD : NULL,
                     shared ? (size_t)s->shared[f].bytes - TAUT_FRAME_HEAD : 0, false, &st->codec);
    taut__free(shared);
    st->opened = rc == TAUT_OK;
    if (rc == TAUT_OK && c->attach && (rc = c->attach(st->codec, s)) != TAUT_OK) {
        c->close(st->codec);
        st->opened = false;
    }
    return rc;
}

/* ---- decoding ---- */

/* Offsets of the samples of a part, and where its payload frame begins. */
static taut_status part_geometry(taut_reader *r, uint32_t f, uint64_t b, const uint8_t *stored, size_t bytes,
                                 taut_part *g, size_t *at)
{
    const taut_shard *s = r->shard;
    taut_samples      samples;
    *g = (taut_part){.block = b,
                     .bytes = taut__meta_part(s, f, b).decoded,
                     .n = (uint32_t)taut__block_samples(s, b),
                     .offset = r->field[f].offset};
    TAUT_TRY(taut__samples_read(s->flags[f], g->n, stored, bytes, &samples));
    *at = samples.bytes;
    if (s->field[f].variable) return taut__samples_offsets(&samples, g->n, g->bytes, r->field[f].offset);
    for (uint32_t k = 0; k <= g->n; k++) r->field[f].offset[k] = (uint32_t)(k * s->field[f].sample_bytes);
    return TAUT_OK;
}

static taut_status check_stored(const taut_shard *s, uint32_t f, uint64_t b, const uint8_t *stored, size_t bytes)
{
    taut_meta_part m = taut__meta_part(s, f, b);
    uint32_t       crc;
    if (bytes != m.stored) return taut__fail(TAUT_E_INVALID, "%zu stored bytes given; it has %u", bytes, m.stored);
    crc = taut__crc32c(stored, bytes);
    return crc == m.crc ? TAUT_OK
                        : taut__fail(TAUT_E_CORRUPT, "CRC32C of its stored bytes is %08x, not %08x", crc, m.crc);
}

static taut_status check_decoded(const taut_shard *s, uint32_t f, uint64_t b, const uint8_t *data, size_t bytes)
{
    uint64_t want = taut__meta_part(s, f, b).xxh, hash = XXH64(data, bytes, 0);
    return hash == want ? TAUT_OK
                        : taut__fail(TAUT_E_CORRUPT, "XXH64 of its decoded bytes is %016" PRIx64 ", not %016" PRIx64,
                                     hash, want);
}

/* Payload frame -> dst. */
static taut_status decode_payload(taut_reader *r, uint32_t f, const uint8_t *frame, size_t bytes, const taut_part *g,
                                  uint8_t *dst)
{
    const taut_field_codec *c = r->shard->spec[f].codec;
    if (c->caps & TAUT_FIELD_PLAIN) return c->decode(r->field[f].codec, frame, bytes, g, dst);
    if (bytes < TAUT_FRAME_HEAD || taut__get32(frame) != TAUT_MAGIC_PAYLOAD ||
        taut__get32(frame + 4) != bytes - TAUT_FRAME_HEAD)
        return taut__fail(TAUT_E_CORRUPT, "not a payload frame of %zu bytes", bytes);
    return c->decode(r->field[f].codec, frame + TAUT_FRAME_HEAD, bytes - TAUT_FRAME_HEAD, g, dst);
}

/* A part of an index whose own bytes were good: then the file that it points to is to blame. */
static taut_status blamed(const taut_shard *s, taut_status rc)
{
    char        why[512];
    const char *file = rc == TAUT_E_CORRUPT || rc == TAUT_E_IO ? taut__extern_blame(s) : NULL;
    if (!file) return rc;
    snprintf(why, sizeof why, "%s", taut_last_error());
    return taut__fail(rc, "%s; %s is not what it was when it was indexed: index it anew", why, file);
}

static taut_status decode(taut_reader *r, uint32_t f, uint64_t b, const uint8_t *stored, size_t bytes, uint8_t *image)
{
    const taut_shard *s = r->shard;
    taut_part         g;
    taut_status       rc;
    size_t            at;
    TAUT_TRY(check_stored(s, f, b, stored, bytes));
    TAUT_TRY(open_codec(r, f));
    TAUT_TRY(part_geometry(r, f, b, stored, bytes, &g, &at));
    rc = decode_payload(r, f, stored + at, bytes - at, &g, image);
    if (rc == TAUT_OK) rc = check_decoded(s, f, b, image, g.bytes);
    if (rc != TAUT_OK) return blamed(s, rc);
    if (s->field[f].variable) memcpy(image + ((g.bytes + 7) & ~(size_t)7), g.offset, 4 * ((size_t)g.n + 1));
    return TAUT_OK;
}

static taut_status check_place(const taut_shard *s, size_t f, uint64_t b)
{
    if (f >= s->fields) return taut__fail(TAUT_E_RANGE, "field %zu: %s has fields 0..%u", f, s->path, s->fields - 1);
    if (b >= s->blocks)
        return taut__fail(TAUT_E_RANGE, "block %" PRIu64 ": %s has blocks 0..%" PRIu64, b, s->path, s->blocks - 1);
    return TAUT_OK;
}

taut_status taut__reader_decode(taut_reader *r, uint32_t f, uint64_t b, const void *stored, size_t bytes, void *image,
                                size_t cap)
{
    taut_status rc;
    TAUT_TRY(check_place(r->shard, f, b));
    r->field[f].held = UINT64_MAX; /* the offsets of the block that was held are overwritten */
    if (cap < taut__image_bytes(r->shard, f, b))
        return taut__fail(TAUT_E_CAPACITY, "an image of %zu bytes: this block takes %zu", cap,
                          taut__image_bytes(r->shard, f, b));
    rc = decode(r, f, b, stored, bytes, image);
    return rc == TAUT_OK ? rc : bad_part(r->shard, f, b, rc);
}

/* The stored bytes of a part in the reader's memory. */
static taut_status fetch(taut_reader *r, uint32_t f, uint64_t b)
{
    const taut_shard *s = r->shard;
    field_state      *st = &r->field[f];
    taut_extent       e = taut__shard_extent(s, f, b);
    if (s->fd < 0) return taut__fail(TAUT_E_STATE, "the shard was opened from its index alone");
    if (e.bytes > st->stored_cap) {
        size_t   cap = (size_t)e.bytes + e.bytes / 8;
        uint8_t *p;
        TAUT_TRY(taut__memory_ok(e.bytes, "its stored bytes"));
        p = taut__alloc(cap, 1);
        if (!p) return taut__fail(TAUT_E_NOMEM, "no memory for its %" PRIu64 " stored bytes", e.bytes);
        taut__free(st->stored);
        st->stored = p;
        st->stored_cap = cap;
    }
    return taut__pread(s->fd, s->path, st->stored, (size_t)e.bytes, e.offset);
}

taut_status taut__reader_load(taut_reader *r, uint32_t f, uint64_t b, void *image, size_t cap)
{
    taut_status rc;
    TAUT_TRY(check_place(r->shard, f, b));
    r->field[f].held = UINT64_MAX;
    rc = fetch(r, f, b);
    if (rc != TAUT_OK) return bad_part(r->shard, f, b, rc);
    return taut__reader_decode(r, f, b, r->field[f].stored, (size_t)taut__shard_extent(r->shard, f, b).bytes, image,
                               cap);
}

/* ---- the last block ---- */

/* Stored samples need no second copy where they lie in one piece. */
static taut_status hold_stored(taut_reader *r, uint32_t f, uint64_t b)
{
    const taut_shard *s = r->shard;
    field_state      *st = &r->field[f];
    size_t            bytes = (size_t)taut__shard_extent(s, f, b).bytes, at;
    taut_part         g;
    TAUT_TRY(fetch(r, f, b));
    TAUT_TRY(check_stored(s, f, b, st->stored, bytes));
    TAUT_TRY(open_codec(r, f));
    TAUT_TRY(part_geometry(r, f, b, st->stored, bytes, &g, &at));
    if (bytes - at < TAUT_RAW_HEADER) return taut__fail(TAUT_E_CORRUPT, "not a stored frame");
    TAUT_TRY(taut__raw_check(st->stored + at, bytes - at, g.bytes));
    st->data = st->stored + at + taut__raw_at(0);
    return check_decoded(s, f, b, st->data, g.bytes);
}

static taut_status hold_image(taut_reader *r, uint32_t f, uint64_t b)
{
    const taut_shard *s = r->shard;
    field_state      *st = &r->field[f];
    if (!st->image) {
        size_t bytes = taut__max(s->image_max[f], 1);
        TAUT_TRY(taut__memory_ok(bytes, "the largest block of this field"));
        st->image = taut__alloc(bytes, 1);
        if (!st->image) return taut__fail(TAUT_E_NOMEM, "no memory for a block of %zu bytes", bytes);
    }
    TAUT_TRY(fetch(r, f, b));
    st->data = st->image;
    return decode(r, f, b, st->stored, (size_t)taut__shard_extent(s, f, b).bytes, st->image);
}

static taut_status hold(taut_reader *r, uint32_t f, uint64_t b)
{
    const taut_shard *s = r->shard;
    field_state      *st = &r->field[f];
    bool in_place = s->spec[f].codec->caps & TAUT_FIELD_RAW && taut__meta_part(s, f, b).decoded <= TAUT_RAW_BLOCK;
    taut_status rc;
    if (st->held == b) return TAUT_OK;
    st->held = UINT64_MAX;
    rc = in_place ? hold_stored(r, f, b) : hold_image(r, f, b);
    if (rc != TAUT_OK) return bad_part(s, f, b, rc);
    st->held = b;
    return TAUT_OK;
}

void taut__reader_forget(taut_reader *r, uint32_t f) { r->field[f].held = UINT64_MAX; }

taut_status taut_reader_block(taut_reader *r, size_t f, uint64_t b, taut_block_view *view)
{
    taut_block_view v = {.size = view->size};
    if (view->size < sizeof v)
        return taut__fail(TAUT_E_INVALID, "taut_block_view.size=%zu: set it to sizeof(taut_block_view)", view->size);
    TAUT_TRY(check_place(r->shard, f, b));
    TAUT_TRY(hold(r, (uint32_t)f, b));
    v.first = b * r->shard->per_block;
    v.n = taut__block_samples(r->shard, b);
    v.data = r->field[f].data;
    v.offset = r->field[f].offset;
    *view = v;
    return TAUT_OK;
}

/* ---- one sample ---- */

static taut_status too_small(const taut_shard *s, size_t f, uint64_t index, size_t bytes, size_t cap)
{
    return taut__fail(TAUT_E_CAPACITY, "%s: sample %" PRIu64 " of field %s takes %zu bytes; the buffer has %zu",
                      s->path, index, s->field[f].name, bytes, cap);
}

/* Decoded bytes [at, at+bytes) of a stored frame that begins at file offset `frame`: one read per zstd block touched. */
static taut_status read_pieces(const taut_shard *s, uint64_t frame, size_t at, size_t bytes, uint8_t *dst)
{
    for (size_t n; bytes; at += n, dst += n, bytes -= n) {
        n = taut__min(bytes, TAUT_RAW_BLOCK - at % TAUT_RAW_BLOCK);
        TAUT_TRY(taut__pread(s->fd, s->path, dst, n, frame + taut__raw_at(at)));
    }
    return TAUT_OK;
}

/* Sample k of a stored part without its block: the samples frame (checked by its own CRC), then the sample (by its
 * own). The frame's size follows from its first bytes. */
static taut_status read_stored_sample(taut_reader *r, uint32_t f, uint64_t b, uint64_t k, void *dst, size_t cap,
                                      size_t *bytes)
{
    const taut_shard *s = r->shard;
    field_state      *st = &r->field[f];
    taut_extent       e = taut__shard_extent(s, f, b);
    taut_samples      samples;
    uint32_t          n = (uint32_t)taut__block_samples(s, b);
    size_t            frame = TAUT_FRAME_HEAD + TAUT_SAMPLES_HEAD + 4 * (size_t)n + 4, at = 0;
    if (s->field[f].variable) frame += 4 * (size_t)n; /* at most; what is read too much is payload */
    frame = (size_t)taut__min(frame, e.bytes);
    if (st->stored_cap < frame) {
        taut__free(st->stored);
        st->stored_cap = 0;
        st->stored = taut__alloc(frame, 1);
        if (!st->stored) return taut__fail(TAUT_E_NOMEM, "no memory for %zu bytes", frame);
        st->stored_cap = frame;
    }
    TAUT_TRY(taut__pread(s->fd, s->path, st->stored, frame, e.offset));
    TAUT_TRY(taut__samples_read(s->flags[f], n, st->stored, frame, &samples));
    if (taut__crc32c(st->stored, samples.bytes - 4) != taut__get32(st->stored + samples.bytes - 4))
        return taut__fail(TAUT_E_CORRUPT, "CRC32C of the frame of its samples does not match");
    *bytes = s->field[f].variable ? taut__samples_length(&samples, k) : (size_t)s->field[f].sample_bytes;
    if (!dst) return TAUT_OK;
    if (*bytes > cap) return TAUT_E_CAPACITY;
    for (uint64_t i = 0; i < k && s->field[f].variable; i++) at += taut__samples_length(&samples, i);
    if (!s->field[f].variable) at = (size_t)(k * s->field[f].sample_bytes);
    if (at > taut__meta_part(s, f, b).decoded || *bytes > taut__meta_part(s, f, b).decoded - at)
        return taut__fail(TAUT_E_CORRUPT, "sample %" PRIu64 " of it: %zu bytes from %zu on, in a block of %u", k,
                          *bytes, (size_t)at, taut__meta_part(s, f, b).decoded);
    TAUT_TRY(read_pieces(s, e.offset + samples.bytes, at, *bytes, dst));
    if (taut__crc32c(dst, *bytes) != taut__get32(samples.sums + 4 * k))
        return taut__fail(TAUT_E_CORRUPT, "CRC32C of sample %" PRIu64 " does not match", b * s->per_block + k);
    return TAUT_OK;
}

taut_status taut_reader_sample(taut_reader *r, size_t f, uint64_t index, void *dst, size_t cap, size_t *bytes)
{
    const taut_shard *s = r->shard;
    uint64_t          b = index / s->per_block, k = index % s->per_block;
    size_t            len = 0;
    *bytes = 0;
    if (index >= s->samples)
        return taut__fail(TAUT_E_RANGE, "sample %" PRIu64 ": %s has samples 0..%" PRIu64, index, s->path,
                          s->samples - 1);
    TAUT_TRY(check_place(s, f, b));
    if (s->spec[f].codec->caps & TAUT_FIELD_RAW && r->field[f].held != b && s->fd >= 0) {
        r->field[f].held = UINT64_MAX; /* its stored bytes are about to be overwritten */
        taut_status rc = read_stored_sample(r, (uint32_t)f, b, k, dst, cap, &len);
        *bytes = len;
        if (rc == TAUT_E_CAPACITY) return too_small(s, f, index, len, cap);
        return rc == TAUT_OK ? rc : bad_part(s, (uint32_t)f, b, rc);
    }
    if (!dst && !s->field[f].variable) {
        *bytes = (size_t)s->field[f].sample_bytes;
        return TAUT_OK;
    }
    TAUT_TRY(hold(r, (uint32_t)f, b));
    len = r->field[f].offset[k + 1] - r->field[f].offset[k];
    *bytes = len;
    if (!dst) return TAUT_OK;
    if (len > cap) return too_small(s, f, index, len, cap);
    memcpy(dst, r->field[f].data + r->field[f].offset[k], len);
    return TAUT_OK;
}

taut_status taut_reader_labels(taut_reader *r, int64_t *classes)
{
    const taut_shard *s = r->shard;
    taut_block_view   v = {.size = sizeof v};
    uint32_t          f = (uint32_t)s->label;
    size_t            size;
    if (s->label < 0) return taut__fail(TAUT_E_UNSUPPORTED, "%s: no field of kind label", s->path);
    size = taut_type_bytes(s->field[f].type);
    for (uint64_t b = 0; b < s->blocks; b++) {
        TAUT_TRY(taut_reader_block(r, f, b, &v));
        for (uint64_t k = 0; k < v.n; k++) {
            uint64_t u = taut__get_uint(v.data + k * size, size);
            unsigned unused = 64 - 8 * (unsigned)size; /* sign-extend i8, i16, i32 */
            classes[v.first + k] = s->field[f].type & 1 ? (int64_t)(u << unused) >> unused : (int64_t)u;
        }
    }
    return TAUT_OK;
}
