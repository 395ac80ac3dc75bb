/* layout.c : see layout.h. */
#include "layout.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/sysinfo.h>
#include <unistd.h>

void taut__frame_head(uint8_t *p, uint32_t magic, uint32_t size)
{
    taut__put32(p, magic);
    taut__put32(p + 4, size);
}

/* ---- front ----
 *  0 magic  4 size  8 "TAUTSHRD"  16 version u32  20 zero u32  24 file bytes u64  32 meta offset u64  40 meta bytes u64
 * 48 hash u64  56 meta CRC u32  60 zero u32 x 4  76 CRC32C of bytes 0..75 */
static const char tag[8] = {'T', 'A', 'U', 'T', 'S', 'H', 'R', 'D'};

void taut__front_write(uint8_t *p, const taut_front *f)
{
    memset(p, 0, TAUT_FRONT_BYTES);
    taut__frame_head(p, TAUT_MAGIC_FRONT, TAUT_FRONT_BYTES - TAUT_FRAME_HEAD);
    memcpy(p + 8, tag, 8);
    taut__put32(p + 16, f->version);
    taut__put64(p + 24, f->file_bytes);
    taut__put64(p + 32, f->meta_offset);
    taut__put64(p + 40, f->meta_bytes);
    taut__put64(p + 48, f->hash);
    taut__put32(p + 56, f->meta_crc);
    taut__put32(p + 76, taut__crc32c(p, 76));
}

static taut_status foreign(const uint8_t *p, const char *name)
{
    uint32_t    magic = taut__get32(p);
    const char *what = magic == 0xfd2fb528u                   ? "a zstd file without our front"
                       : (magic & 0xfffffff0u) == 0x184d2a50u ? "a zstd file with a foreign skippable frame"
                       : (magic & 0xffff) == 0x8b1f           ? "a gzip file"
                       : memcmp(p, "TAUT", 4) == 0            ? "a gradient frame (taut decode reads it)"
                                                              : "none of ours";
    return taut__fail(TAUT_E_CORRUPT, "%s: not a shard: its first bytes are %02x %02x %02x %02x, %s", name, p[0], p[1],
                      p[2], p[3], what);
}

taut_status taut__front_read(uint8_t *p, const char *name, taut_front *f, bool *repaired)
{
    uint32_t crc = taut__get32(p + 76);
    *repaired = false;
    if (taut__crc32c(p, 76) != crc) {
        uint8_t copy[TAUT_FRONT_BYTES];
        memcpy(copy, p, sizeof copy);
        *repaired = taut__crc32c_repair(copy, 76, crc) && taut__get32(copy) == TAUT_MAGIC_FRONT &&
                    memcmp(copy + 8, tag, 8) == 0;
        if (!*repaired && (taut__get32(p) != TAUT_MAGIC_FRONT || memcmp(p + 8, tag, 8) != 0)) return foreign(p, name);
        if (!*repaired)
            return taut__fail(TAUT_E_CORRUPT, "%s: its front is damaged: CRC32C %08x, not %08x", name,
                              taut__crc32c(p, 76), crc);
        taut__put32(copy + 76, taut__crc32c(copy, 76));
        memcpy(p, copy, sizeof copy);
    }
    if (taut__get32(p) != TAUT_MAGIC_FRONT || memcmp(p + 8, tag, 8) != 0) return foreign(p, name);
    *f = (taut_front){.version = taut__get32(p + 16),
                      .file_bytes = taut__get64(p + 24),
                      .meta_offset = taut__get64(p + 32),
                      .meta_bytes = taut__get64(p + 40),
                      .hash = taut__get64(p + 48),
                      .meta_crc = taut__get32(p + 56)};
    if (f->version != TAUT_SHARD_VERSION)
        return taut__fail(TAUT_E_VERSION, "%s: a shard of version %u; this library reads version %d", name, f->version,
                          TAUT_SHARD_VERSION);
    return TAUT_OK;
}

/* ---- samples frame ---- */
unsigned taut__samples_flags(const taut_field *field, const taut_field_codec *codec)
{
    return (field->variable ? TAUT_SAMPLES_LENGTHS : 0) | (codec->caps & TAUT_FIELD_RAW ? TAUT_SAMPLES_SUMS : 0);
}

taut_status taut__samples_write(unsigned flags, const taut_part *part, taut_bytes *out)
{
    uint32_t shortest = part->n ? UINT32_MAX : 0, longest = 0;
    unsigned width;
    size_t   lengths, bytes;
    uint8_t *p;
    if (!flags) return TAUT_OK;
    for (uint32_t i = 0; i < part->n; i++) {
        uint32_t len = part->offset[i + 1] - part->offset[i];
        if (len < shortest) shortest = len;
        if (len > longest) longest = len;
    }
    width = flags & TAUT_SAMPLES_LENGTHS ? taut__width(longest - shortest) : 0;
    lengths = taut__packed_bytes(part->n, width);
    bytes = TAUT_FRAME_HEAD + TAUT_SAMPLES_HEAD + lengths + (flags & TAUT_SAMPLES_SUMS ? 4 * (size_t)part->n : 0) + 4;
    TAUT_TRY(taut__bytes_reserve(out, bytes));
    p = out->p + out->n;
    memset(p, 0, bytes);
    taut__frame_head(p, TAUT_MAGIC_SAMPLES, (uint32_t)(bytes - TAUT_FRAME_HEAD));
    p[8] = (uint8_t)flags;
    p[9] = (uint8_t)width;
    if (flags & TAUT_SAMPLES_LENGTHS) taut__put32(p + 12, shortest);
    for (uint32_t i = 0; i < part->n && width; i++)
        taut__pack(p + 16, i, width, part->offset[i + 1] - part->offset[i] - shortest);
    for (uint32_t i = 0; i < part->n && flags & TAUT_SAMPLES_SUMS; i++)
        taut__put32(p + 16 + lengths + 4 * (size_t)i,
                    taut__crc32c(part->data + part->offset[i], part->offset[i + 1] - part->offset[i]));
    taut__put32(p + bytes - 4, taut__crc32c(p, bytes - 4));
    out->n += bytes;
    return TAUT_OK;
}

taut_status taut__samples_read(unsigned flags, uint32_t n, const uint8_t *src, size_t len, taut_samples *s)
{
    size_t lengths, bytes = 0;
    *s = (taut_samples){0};
    if (!flags) return TAUT_OK;
    if (len >= TAUT_FRAME_HEAD + TAUT_SAMPLES_HEAD + 4) {
        lengths = taut__packed_bytes(n, src[9]);
        bytes = TAUT_FRAME_HEAD + TAUT_SAMPLES_HEAD + lengths + (flags & TAUT_SAMPLES_SUMS ? 4 * (size_t)n : 0) + 4;
    }
    if (!bytes || len < bytes || taut__get32(src) != TAUT_MAGIC_SAMPLES ||
        taut__get32(src + 4) != bytes - TAUT_FRAME_HEAD || src[8] != flags || src[9] > 32)
        return taut__fail(TAUT_E_CORRUPT, "the frame of its samples, %zu bytes for %u samples, is malformed", len,
                          (unsigned)n);
    *s = (taut_samples){.bytes = bytes,
                        .shortest = taut__get32(src + 12),
                        .width = src[9],
                        .lengths = src + 16,
                        .sums = flags & TAUT_SAMPLES_SUMS ? src + 16 + lengths : NULL};
    return TAUT_OK;
}

taut_status taut__samples_offsets(const taut_samples *s, uint32_t n, size_t bytes, uint32_t *offset)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        offset[i] = (uint32_t)at;
        at += taut__samples_length(s, i);
        if (at > bytes) break;
    }
    if (at != bytes) return taut__fail(TAUT_E_CORRUPT, "the lengths of its samples do not add up to %zu bytes", bytes);
    offset[n] = (uint32_t)at;
    return TAUT_OK;
}

/* ---- small ---- */
void taut__part_name(const taut_shard *s, uint32_t f, uint64_t b, char *dst, size_t cap)
{
    uint64_t first = b * s->per_block;
    snprintf(dst, cap, "%s: block %" PRIu64 " of field %s (samples %" PRIu64 "..%" PRIu64 ")", s->path, b,
             s->field[f].name, first, first + taut__block_samples(s, b) - 1);
}

taut_status taut__memory_ok(uint64_t bytes, const char *what)
{
    struct sysinfo si;
    if (sysinfo(&si) == 0 && bytes > (uint64_t)si.totalram * si.mem_unit / 2)
        return taut__fail(TAUT_E_NOMEM, "%s: takes %" PRIu64 " bytes, more than half of this machine's memory", what,
                          bytes);
    return TAUT_OK;
}

taut_status taut__pread(int fd, const char *name, void *dst, size_t bytes, uint64_t offset)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = pread(fd, (uint8_t *)dst + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return taut__fail(TAUT_E_IO, "%s: cannot read: %s", name, strerror(errno));
        if (n == 0)
            return taut__fail(TAUT_E_CORRUPT, "%s: ends at byte %" PRIu64 ", in the middle of a part: truncated", name,
                              offset + done);
        done += (size_t)n;
    }
    return TAUT_OK;
}
