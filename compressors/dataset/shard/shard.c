/* shard.c : opening a shard. Two reads: the front, then meta, to which it points. A single flipped bit in either is
 * corrected from its CRC and reported as a warning, so that it does not take the blocks with it; verify still counts it. */
#include "../import/extern.h"
#include "layout.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static taut_status out_of_memory(const char *name)
{
    return taut__fail(TAUT_E_NOMEM, "%s: no memory for its index", name);
}

static taut_status shard_alloc(const char *name, taut_shard **out)
{
    taut_shard *s = taut__alloc(1, sizeof *s);
    if (s) s->path = taut__alloc(strlen(name) + 1, 1);
    if (!s || !s->path) {
        taut__free(s);
        return out_of_memory(name);
    }
    strcpy(s->path, name);
    s->fd = -1;
    *out = s;
    return TAUT_OK;
}

void taut_shard_close(taut_shard *s)
{
    if (!s) return;
    if (s->own_fd && s->fd >= 0) close(s->fd);
    taut__extern_close(s);
    taut__free(s->index);
    taut__free(s->field);
    taut__free(s->spec);
    taut__free(s->shared);
    taut__free(s->flags);
    taut__free(s->image_max);
    taut__free(s->offset);
    taut__free(s->source);
    taut__free(s->labels);
    taut__free(s->path);
    taut__free(s);
}

static taut_status remember_file(taut_shard *s, uint64_t *bytes)
{
    struct stat st;
    if (fstat(s->fd, &st) != 0) return taut__fail(TAUT_E_IO, "%s: cannot read: %s", s->path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return taut__fail(TAUT_E_IO, "%s: not a regular file", s->path);
    s->device = st.st_dev, s->inode = st.st_ino;
    s->mtime_s = st.st_mtim.tv_sec, s->mtime_ns = st.st_mtim.tv_nsec;
    *bytes = (uint64_t)st.st_size;
    return TAUT_OK;
}

bool taut__shard_changed(const taut_shard *s)
{
    struct stat st;
    if (s->fd < 0) return false;
    if (fstat(s->fd, &st) != 0 || (uint64_t)st.st_size != s->front.file_bytes || st.st_mtim.tv_sec != s->mtime_s ||
        st.st_mtim.tv_nsec != s->mtime_ns)
        return true;
    return stat(s->path, &st) != 0 || st.st_dev != s->device || st.st_ino != s->inode;
}

static taut_status check_front(const taut_shard *s)
{
    const taut_front *f = &s->front;
    if (f->meta_bytes < TAUT_META_HEAD || f->meta_bytes - TAUT_FRAME_HEAD > UINT32_MAX ||
        f->meta_offset < TAUT_FRONT_BYTES || f->meta_offset > f->file_bytes ||
        f->meta_bytes > f->file_bytes - f->meta_offset)
        return taut__fail(TAUT_E_CORRUPT, "%s: its front points outside the file", s->path);
    return TAUT_OK;
}

static taut_status check_meta(taut_shard *s)
{
    uint8_t *meta = s->index + TAUT_FRONT_BYTES;
    size_t   bytes = (size_t)s->front.meta_bytes;
    if (taut__crc32c(meta, bytes) != s->front.meta_crc)
        s->meta_repaired = taut__crc32c_repair(meta, bytes, s->front.meta_crc);
    if (XXH64(meta, bytes, 0) != s->front.hash)
        return taut__fail(TAUT_E_CORRUPT,
                          "%s: its meta frame (bytes %" PRIu64 "..%" PRIu64
                          ") is damaged: CRC32C or XXH64 do not match%s",
                          s->path, s->front.meta_offset, s->front.meta_offset + bytes - 1,
                          taut__shard_changed(s) ? "; the file was replaced or changed while it was read" : "");
    if (s->front_repaired || s->meta_repaired)
        taut__log(TAUT_LOG_WARN, "data", "%s: a flipped bit in its %s was corrected; the file is damaged, make it anew",
                  s->path, s->front_repaired ? "front" : "meta frame");
    TAUT_TRY(taut__meta_read(s));
    return taut__extern_open(s);
}

static taut_status open_file(taut_shard *s)
{
    uint64_t bytes;
    uint8_t  front[TAUT_FRONT_BYTES];
    TAUT_TRY(remember_file(s, &bytes));
    if (bytes == 0) return taut__fail(TAUT_E_CORRUPT, "%s: an empty file, not a shard", s->path);
    if (bytes < sizeof front) {
        memset(front, 0, sizeof front);
        TAUT_TRY(taut__pread(s->fd, s->path, front, (size_t)bytes, 0));
        return taut__fail(TAUT_E_CORRUPT, "%s: %" PRIu64 " bytes: not a shard, or one that was cut off", s->path,
                          bytes);
    }
    TAUT_TRY(taut__pread(s->fd, s->path, front, sizeof front, 0));
    TAUT_TRY(taut__front_read(front, s->path, &s->front, &s->front_repaired));
    if (bytes != s->front.file_bytes)
        return taut__fail(TAUT_E_CORRUPT, "%s: has %" PRIu64 " bytes and was written with %" PRIu64 ": %s", s->path,
                          bytes, s->front.file_bytes,
                          bytes < s->front.file_bytes ? "truncated" : "something was appended");
    TAUT_TRY(check_front(s));
    TAUT_TRY(taut__memory_ok(s->front.meta_bytes, s->path));
    s->index_bytes = TAUT_FRONT_BYTES + (size_t)s->front.meta_bytes;
    s->index = taut__alloc(s->index_bytes, 1);
    if (!s->index) return out_of_memory(s->path);
    memcpy(s->index, front, sizeof front);
    TAUT_TRY(
        taut__pread(s->fd, s->path, s->index + TAUT_FRONT_BYTES, (size_t)s->front.meta_bytes, s->front.meta_offset));
    return check_meta(s);
}

taut_status taut__shard_open_fd(int fd, const char *name, taut_shard **shard)
{
    taut_shard *s = NULL;
    taut_status rc;
    *shard = NULL;
    TAUT_TRY(shard_alloc(name, &s));
    s->fd = fd;
    rc = open_file(s);
    if (rc != TAUT_OK) {
        taut_shard_close(s);
        return rc;
    }
    *shard = s;
    return TAUT_OK;
}

static taut_status open_path(const char *path, taut_shard **shard)
{
    int         fd;
    taut_status rc;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK /* no wait for a fifo's writer */);
    if (fd < 0)
        return taut__fail(TAUT_E_IO, "%s: cannot open: %s%s", path, strerror(errno),
                          errno == EMFILE ? ": each shard keeps its file open: raise the limit (ulimit -n)" : "");
    rc = taut__shard_open_fd(fd, path, shard);
    if (rc != TAUT_OK) close(fd);
    else (*shard)->own_fd = true;
    return rc;
}

/* PATH is no shard: is PATH.taut an index of it? TAUT_E_STATE: no. */
static taut_status open_index_beside(const char *path, taut_shard **shard)
{
    size_t      n = strlen(path);
    char       *name = taut__alloc(n + 6, 1);
    taut_status rc = TAUT_E_STATE;
    if (!name) return taut__fail(TAUT_E_NOMEM, "%s: no memory for its name", path);
    snprintf(name, n + 6, "%s.taut", path);
    if (access(name, F_OK) == 0) rc = open_path(name, shard);
    taut__free(name);
    if (rc != TAUT_OK || (*shard)->foreign) return rc;
    taut_shard_close(*shard); /* a shard that somebody packed */
    *shard = NULL;
    return TAUT_E_STATE;
}

taut_status taut_shard_open(const char *path, taut_shard **shard)
{
    taut_status rc, beside;
    char        why[512];
    *shard = NULL;
    if (!path || !*path) return taut__fail(TAUT_E_INVALID, "no path of a shard");
    rc = open_path(path, shard);
    if (rc != TAUT_E_CORRUPT) return rc;
    snprintf(why, sizeof why, "%s", taut_last_error());
    beside = open_index_beside(path, shard);
    return beside == TAUT_E_STATE ? taut__fail(rc, "%s", why) : beside;
}

const void *taut__shard_index(const taut_shard *s, size_t *bytes)
{
    *bytes = s->index_bytes;
    return s->index;
}

static taut_status from_index(taut_shard *s, const void *index, size_t bytes, bool file)
{
    uint64_t there;
    s->index = taut__alloc(bytes, 1);
    if (!s->index) return out_of_memory(s->path);
    memcpy(s->index, index, bytes);
    s->index_bytes = bytes;
    TAUT_TRY(taut__front_read(s->index, s->path, &s->front, &s->front_repaired));
    TAUT_TRY(check_front(s));
    if (s->front.meta_bytes != bytes - TAUT_FRONT_BYTES)
        return taut__fail(TAUT_E_CORRUPT, "%s: an index of another length", s->path);
    if (file) {
        s->fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        s->own_fd = true;
        if (s->fd < 0) return taut__fail(TAUT_E_IO, "%s: cannot open: %s", s->path, strerror(errno));
        TAUT_TRY(remember_file(s, &there));
        if (there != s->front.file_bytes)
            return taut__fail(TAUT_E_IO,
                              "%s: has %" PRIu64 " bytes where its index, read by another process, says %" PRIu64,
                              s->path, there, s->front.file_bytes);
    }
    return check_meta(s);
}

taut_status taut__shard_from_index(const void *index, size_t bytes, const char *path, taut_shard **shard)
{
    taut_shard *s = NULL;
    taut_status rc;
    *shard = NULL;
    if (bytes < TAUT_FRONT_BYTES + TAUT_META_HEAD) return taut__fail(TAUT_E_INVALID, "an index of %zu bytes", bytes);
    TAUT_TRY(shard_alloc(path ? path : "(index)", &s));
    rc = from_index(s, index, bytes, path != NULL);
    if (rc != TAUT_OK) {
        taut_shard_close(s);
        return rc;
    }
    *shard = s;
    return TAUT_OK;
}

/* ---- what is in it ---- */
uint64_t          taut__shard_samples(const taut_shard *s) { return s->samples; }
uint64_t          taut__shard_blocks(const taut_shard *s) { return s->blocks; }
uint64_t          taut__shard_per_block(const taut_shard *s) { return s->per_block; }
uint64_t          taut__shard_hash(const taut_shard *s) { return s->front.hash; }
uint32_t          taut__shard_fields(const taut_shard *s) { return s->fields; }
int               taut__shard_fd(const taut_shard *s) { return s->fd; }
int               taut__shard_label(const taut_shard *s) { return s->label; }
const taut_field *taut__shard_field(const taut_shard *s, uint32_t f) { return &s->field[f]; }
const char       *taut_shard_path(const taut_shard *s) { return s->path; }
const char       *taut_shard_source(const taut_shard *s) { return s->source; }
const char       *taut_shard_labels(const taut_shard *s) { return s->labels; }

uint64_t taut__block_samples(const taut_shard *s, uint64_t b)
{
    return b + 1 < s->blocks ? s->per_block : s->samples - (s->blocks - 1) * s->per_block;
}

taut_extent taut__shard_extent(const taut_shard *s, uint32_t f, uint64_t b)
{
    const uint64_t *at = s->offset + taut__part_number(s, f, b);
    return (taut_extent){at[0], at[1] - at[0]};
}

taut_extent taut__shard_block_extent(const taut_shard *s, uint64_t b)
{
    const uint64_t *at = s->offset + b * s->fields;
    return (taut_extent){at[0], at[s->fields] - at[0]};
}

/* Decoded bytes, padded to 8; offsets behind them where samples differ in length. */
static size_t offsets_at(const taut_shard *s, uint32_t f, uint64_t b)
{
    return ((size_t)taut__meta_part(s, f, b).decoded + 7) & ~(size_t)7;
}
size_t taut__image_bytes(const taut_shard *s, uint32_t f, uint64_t b)
{
    if (!s->field[f].variable) return taut__meta_part(s, f, b).decoded;
    return offsets_at(s, f, b) + 4 * ((size_t)taut__block_samples(s, b) + 1);
}
size_t taut__image_bytes_max(const taut_shard *s, uint32_t f) { return s->image_max[f]; }

const uint8_t *taut__image_sample(const taut_shard *s, uint32_t f, uint64_t b, const void *image, uint64_t k,
                                  size_t *bytes)
{
    const uint8_t *data = image;
    if (!s->field[f].variable) {
        *bytes = (size_t)s->field[f].sample_bytes;
        return data + k * s->field[f].sample_bytes;
    }
    const uint32_t *offset = (const uint32_t *)(const void *)(data + offsets_at(s, f, b));
    *bytes = offset[k + 1] - offset[k];
    return data + offset[k];
}

taut_status taut_shard_get_info(const taut_shard *s, taut_shard_info *info)
{
    taut_shard_info i = {.size = info->size,
                         .samples = s->samples,
                         .blocks = s->blocks,
                         .samples_per_block = s->per_block,
                         .file_bytes = s->front.file_bytes,
                         .hash = s->front.hash,
                         .fields = s->fields,
                         .version = s->front.version,
                         .label_field = s->label,
                         .foreign = s->foreign != NULL,
                         .plain = s->fields == 1 && s->spec[0].codec->caps & TAUT_FIELD_PLAIN ? 1 : 0};
    if (info->size < sizeof(size_t))
        return taut__fail(TAUT_E_INVALID, "taut_shard_info.size=%zu: set it to sizeof(taut_shard_info)", info->size);
    memcpy(info, &i, taut__min(info->size, sizeof i));
    return TAUT_OK;
}

taut_status taut_shard_field(const taut_shard *s, size_t i, taut_field *field)
{
    size_t size = field->size;
    if (i >= s->fields) return taut__fail(TAUT_E_RANGE, "field %zu: %s has fields 0..%u", i, s->path, s->fields - 1);
    if (size < sizeof(size_t))
        return taut__fail(TAUT_E_INVALID, "taut_field.size=%zu: set it to sizeof(taut_field)", size);
    memcpy(field, &s->field[i], taut__min(size, sizeof *field));
    field->size = size;
    return TAUT_OK;
}

int taut_shard_find(const taut_shard *s, const char *name)
{
    for (uint32_t f = 0; f < s->fields; f++)
        if (strcmp(s->field[f].name, name) == 0) return (int)f;
    return -1;
}

void taut__shard_names(const taut_shard *s, char *dst, size_t cap)
{
    size_t at = 0;
    dst[0] = 0;
    for (uint32_t f = 0; f < s->fields && at < cap; f++)
        at += (size_t)snprintf(dst + at, cap - at, "%s%s", f ? ", " : "", s->field[f].name);
}

taut_status taut__shard_no_field(const taut_shard *s, const char *name)
{
    char names[400];
    taut__shard_names(s, names, sizeof names);
    return taut__fail(TAUT_E_INVALID, "%s: no field '%s'; fields are %s", s->path, name, names);
}
