/* foreign.c : the files and buffers of an index. Bytes of the table:
 *   version u32, files u32, per file: whole u32, bytes of path u32, bytes u64, XXH64 u64 (whole ones), path; then buffers u32, per buffer: file u32, zstd u32, offset u64, stored bytes u64, decoded bytes u64 */
#include "foreign.h"
#include "../shard/layout.h"
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

enum { VERSION = 1, FILE_BYTES = 24, BUFFER_BYTES = 32, PATH_MAX_BYTES = 4096 };

void taut__foreign_free(taut__foreign *f)
{
    for (size_t i = 0; i < f->files; i++) {
        taut__source_close(&f->file[i].source);
        taut__free(f->file[i].path);
    }
    taut__free(f->file);
    taut__free(f->buffer);
    *f = (taut__foreign){0};
}

static taut_status no_memory(void) { return taut__fail(TAUT_E_NOMEM, "no memory for the files of an index"); }

static taut_status room_for_files(taut__foreign *f)
{
    if (!f->file) f->file = taut__alloc(TAUT__FILES_MAX, sizeof *f->file);
    if (!f->file) return no_memory();
    return f->files < TAUT__FILES_MAX ? TAUT_OK
                                      : taut__fail(TAUT_E_RANGE, "more than %d files in one index", TAUT__FILES_MAX);
}

taut_status taut__foreign_add_file(taut__foreign *f, taut__source *source, bool whole)
{
    taut__foreign_file *file;
    taut_status         rc = room_for_files(f);
    if (rc != TAUT_OK) {
        taut__source_close(source);
        return rc;
    }
    file = &f->file[f->files++];
    file->source = *source;
    *source = (taut__source){0};
    file->whole = whole;
    file->bytes = file->source.bytes;
    return whole ? taut__source_hash(&file->source, &file->hash) : TAUT_OK;
}

taut_status taut__foreign_add_buffer(taut__foreign *f, taut__foreign_buffer b, uint32_t *number)
{
    if (f->buffers >= TAUT__BUFFERS_MAX) return taut__fail(TAUT_E_RANGE, "more than %d buffers", TAUT__BUFFERS_MAX);
    if (f->buffers == f->room) {
        size_t                more = f->room ? 2 * f->room : 16;
        taut__foreign_buffer *p = taut__alloc(more, sizeof *p);
        if (!p) return no_memory();
        if (f->buffers) memcpy(p, f->buffer, f->buffers * sizeof *p);
        taut__free(f->buffer);
        f->buffer = p;
        f->room = more;
    }
    *number = (uint32_t)f->buffers;
    f->buffer[f->buffers++] = b;
    return TAUT_OK;
}

/* ---- tables ---- */

taut_status taut__foreign_write(const taut__foreign *f, taut_bytes *out)
{
    uint8_t b[BUFFER_BYTES];
    taut__put32(b, VERSION);
    taut__put32(b + 4, (uint32_t)f->files);
    TAUT_TRY(taut__bytes_add(out, b, 8));
    for (size_t i = 0; i < f->files; i++) {
        const taut__foreign_file *file = &f->file[i];
        taut__put32(b, file->whole);
        taut__put32(b + 4, (uint32_t)strlen(file->path));
        taut__put64(b + 8, file->bytes);
        taut__put64(b + 16, file->hash);
        TAUT_TRY(taut__bytes_add(out, b, FILE_BYTES));
        TAUT_TRY(taut__bytes_add(out, file->path, strlen(file->path)));
    }
    taut__put32(b, (uint32_t)f->buffers);
    TAUT_TRY(taut__bytes_add(out, b, 4));
    for (size_t i = 0; i < f->buffers; i++) {
        const taut__foreign_buffer *u = &f->buffer[i];
        taut__put32(b, u->file);
        taut__put32(b + 4, u->zstd);
        taut__put64(b + 8, u->at);
        taut__put64(b + 16, u->stored);
        taut__put64(b + 24, u->decoded);
        TAUT_TRY(taut__bytes_add(out, b, BUFFER_BYTES));
    }
    return TAUT_OK;
}

static taut_status malformed(const char *index)
{
    return taut__fail(TAUT_E_CORRUPT, "%s: its table of files is malformed", index);
}

/* The path beside the index, unless it is absolute. */
static taut_status open_beside(taut__foreign_file *file, const char *index)
{
    const char *slash = *file->path == '/' ? NULL : strrchr(index, '/');
    size_t      dir = slash ? (size_t)(slash - index) + 1 : 0, n = dir + strlen(file->path) + 1;
    char       *path = taut__alloc(n, 1);
    taut_status rc;
    char        why[600];
    if (!path) return no_memory();
    snprintf(path, n, "%.*s%s", (int)dir, index, file->path);
    rc = taut__source_open(&file->source, path);
    taut__free(path);
    if (rc == TAUT_OK) return rc;
    snprintf(why, sizeof why, "%s", taut_last_error());
    return taut__fail(rc, "%s: an index of a file that cannot be read: %s", index, why);
}

static bool newer(const taut__foreign *f, int64_t s, int64_t ns)
{
    return s > f->index_s || (s == f->index_s && ns > f->index_ns);
}

static taut_status check_file(const taut__foreign *f, taut__foreign_file *file, const char *index)
{
    const taut__source *s = &file->source;
    if (s->bytes != file->bytes)
        return taut__fail(TAUT_E_CORRUPT,
                          "%s: %s was changed after it was indexed: it has %" PRIu64 " bytes and had %" PRIu64
                          ": index it anew",
                          index, s->name, s->bytes, file->bytes);
    if (!newer(f, s->mtime_s, s->mtime_ns)) return TAUT_OK;
    if (file->whole) {
        uint64_t hash;
        TAUT_TRY(taut__source_hash(&file->source, &hash));
        if (hash != file->hash)
            return taut__fail(TAUT_E_CORRUPT,
                              "%s: %s was changed after it was indexed: its XXH64 differs: index it anew", index,
                              s->name);
        return TAUT_OK;
    }
    taut__log(TAUT_LOG_WARN, "data", "%s: %s is newer than its index; its blocks are checked when they are read", index,
              s->name);
    return TAUT_OK;
}

static taut_status read_file(taut__foreign *f, const uint8_t *src, size_t bytes, size_t *at, const char *index)
{
    taut__foreign_file *file;
    const uint8_t      *p = src + *at;
    size_t              n;
    TAUT_TRY(room_for_files(f));
    if (bytes - *at < FILE_BYTES) return malformed(index);
    n = taut__get32(p + 4);
    if (taut__get32(p) > 1 || n < 1 || n > PATH_MAX_BYTES || n > bytes - *at - FILE_BYTES ||
        memchr(p + FILE_BYTES, 0, n))
        return malformed(index);
    file = &f->file[f->files];
    *file = (taut__foreign_file){.whole = taut__get32(p),
                                 .bytes = taut__get64(p + 8),
                                 .hash = taut__get64(p + 16),
                                 .path = taut__alloc(n + 1, 1)};
    if (!file->path) return no_memory();
    f->files++;
    memcpy(file->path, p + FILE_BYTES, n);
    *at += FILE_BYTES + n;
    TAUT_TRY(open_beside(file, index));
    return check_file(f, file, index);
}

taut_status taut__foreign_read(taut__foreign *f, const uint8_t *src, size_t bytes, const char *index)
{
    size_t   at = 8;
    uint32_t files, buffers, number;
    if (bytes < 8 || (files = taut__get32(src + 4)) < 1 || files > TAUT__FILES_MAX) return malformed(index);
    if (taut__get32(src) != VERSION)
        return taut__fail(TAUT_E_VERSION, "%s: a table of files of version %u; this library reads version %d", index,
                          taut__get32(src), VERSION);
    for (uint32_t i = 0; i < files; i++) TAUT_TRY(read_file(f, src, bytes, &at, index));
    if (bytes - at < 4) return malformed(index);
    buffers = taut__get32(src + at);
    at += 4;
    if ((bytes - at) / BUFFER_BYTES != buffers || (bytes - at) % BUFFER_BYTES) return malformed(index);
    for (uint32_t i = 0; i < buffers; i++, at += BUFFER_BYTES) {
        const uint8_t       *p = src + at;
        taut__foreign_buffer b = {taut__get32(p), taut__get32(p + 4) & 1, taut__get64(p + 8), taut__get64(p + 16),
                                  taut__get64(p + 24)};
        if (b.file >= files || taut__get32(p + 4) > 1 || b.at > f->file[b.file].bytes ||
            b.stored > f->file[b.file].bytes - b.at || (!b.zstd && b.decoded != b.stored))
            return malformed(index);
        TAUT_TRY(taut__foreign_add_buffer(f, b, &number));
    }
    return TAUT_OK;
}

/* ---- changes ---- */

static bool touched(const taut__foreign *f, const taut__foreign_file *file)
{
    struct stat st;
    if (file->source.memory) return false;
    return stat(file->source.name, &st) != 0 || (uint64_t)st.st_size != file->bytes ||
           newer(f, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

const taut__foreign_file *taut__foreign_changed(const taut__foreign *f)
{
    for (size_t i = 0; i < f->files; i++)
        if (touched(f, &f->file[i])) return &f->file[i];
    return NULL;
}

taut_status taut__foreign_verify(taut__foreign *f)
{
    for (size_t i = 0; i < f->files; i++) {
        uint64_t hash;
        if (!f->file[i].whole) continue;
        TAUT_TRY(taut__source_hash(&f->file[i].source, &hash));
        if (hash != f->file[i].hash)
            return taut__fail(TAUT_E_CORRUPT, "%s: was changed after it was indexed: its XXH64 differs",
                              f->file[i].source.name);
    }
    return TAUT_OK;
}
