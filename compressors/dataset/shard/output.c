/* output.c : see output.h. */
#include "output.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { BUFFER = 1 << 18 };

static taut_status cannot(const char *what, const char *name)
{
    return taut__fail(TAUT_E_IO, "%s: cannot %s: %s", name, what, strerror(errno));
}

/* "dir/.base<tail>" */
static char *beside(const char *path, const char *tail)
{
    const char *slash = strrchr(path, '/');
    size_t      dir = slash ? (size_t)(slash - path) + 1 : 0, n = strlen(path) + strlen(tail) + 2;
    char       *p = taut__alloc(n, 1);
    if (p) snprintf(p, n, "%.*s.%s%s", (int)dir, path, path + dir, tail);
    return p;
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t      n = slash ? (size_t)(slash - path) + 1 : 0;
    char       *p = taut__alloc(n + 2, 1);
    if (p) { memcpy(p, n ? path : ".", n ? n : 1); }
    return p;
}

/* Opens and locks o->part. Between open and lock another writer may have renamed or removed the file: then again. */
static taut_status open_part(taut_output *o)
{
    struct stat held, named;
    for (;;) {
        o->fd = open(o->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (o->fd < 0) return cannot("create", o->part);
        if (flock(o->fd, LOCK_EX | LOCK_NB) != 0) {
            bool        busy = errno == EWOULDBLOCK;
            taut_status rc =
                busy ? taut__fail(TAUT_E_IO, "%s: another process is writing it (%s is locked)", o->path, o->part)
                     : cannot("lock", o->part);
            close(o->fd);
            o->fd = -1;
            return rc;
        }
        if (fstat(o->fd, &held) == 0 && lstat(o->part, &named) == 0 && held.st_ino == named.st_ino &&
            held.st_dev == named.st_dev)
            break;
        close(o->fd);
    }
    if (ftruncate(o->fd, 0) != 0) return cannot("empty", o->part);
    return TAUT_OK;
}

taut_status taut__output_open(taut_output *o, const char *path)
{
    char        real[PATH_MAX];
    taut_status rc;
    *o = (taut_output){.fd = -1};
    TAUT_TRY(taut__behind_links(path, real));
    path = real;
    o->path = taut__alloc(strlen(path) + 1, 1);
    o->part = beside(path, ".part");
    if (!o->path || !o->part) {
        taut__output_close(o);
        return taut__fail(TAUT_E_NOMEM, "%s: no memory for its name", path);
    }
    strcpy(o->path, path);
    rc = open_part(o);
    if (rc != TAUT_OK) taut__output_close(o);
    return rc;
}

taut_status taut__write_all(int fd, const char *name, const void *src, size_t bytes)
{
    const uint8_t *p = src;
    while (bytes) {
        ssize_t n = write(fd, p, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == ENOSPC) return taut__fail(TAUT_E_IO, "%s: cannot write: the disk is full", name);
        if (n < 0) return cannot("write", name);
        p += n;
        bytes -= (size_t)n;
    }
    return TAUT_OK;
}

static taut_status flush(taut_output *o)
{
    TAUT_TRY(taut__write_all(o->fd, o->path, o->buffer.p, o->buffer.n));
    o->buffer.n = 0;
    return TAUT_OK;
}

taut_status taut__output_add(taut_output *o, const void *src, size_t bytes)
{
    if (o->buffer.n + bytes > BUFFER) TAUT_TRY(flush(o));
    o->written += bytes;
    if (bytes > BUFFER) return taut__write_all(o->fd, o->path, src, bytes);
    return taut__bytes_add(&o->buffer, src, bytes);
}

taut_status taut__output_put(taut_output *o, const void *src, size_t bytes, uint64_t offset)
{
    TAUT_TRY(flush(o));
    if (pwrite(o->fd, src, bytes, (off_t)offset) != (ssize_t)bytes) return cannot("write", o->path);
    return TAUT_OK;
}

static void sync_folder(const char *path)
{
    char *dir = folder_of(path);
    int   fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    taut__free(dir);
    if (fd < 0) return;
    (void)!fsync(fd); /* some file systems cannot; the rename itself has happened */
    close(fd);
}

taut_status taut__front_put(taut_output *o, taut_front *f, const taut_bytes *meta)
{
    uint8_t bytes[TAUT_FRONT_BYTES];
    f->meta_bytes = meta->n;
    f->meta_crc = taut__crc32c(meta->p, meta->n);
    f->hash = XXH64(meta->p, meta->n, 0);
    f->file_bytes = o->written;
    taut__front_write(bytes, f);
    return taut__output_put(o, bytes, sizeof bytes, 0);
}

taut_status taut__output_publish(taut_output *o)
{
    TAUT_TRY(flush(o));
    if (fsync(o->fd) != 0) return cannot("write to disk", o->path);
    if (rename(o->part, o->path) != 0) return cannot("rename its .part to", o->path);
    taut__free(o->part);
    o->part = NULL;
    sync_folder(o->path);
    return TAUT_OK;
}

void taut__output_close(taut_output *o)
{
    if (o->part && o->fd >= 0) unlink(o->part); /* while it is still locked */
    if (o->fd >= 0) close(o->fd);
    taut__free(o->path);
    taut__free(o->part);
    taut__bytes_free(&o->buffer);
    *o = (taut_output){.fd = -1};
}

taut_status taut__spool_open(const char *path, int *fd)
{
    char *dir = folder_of(path), *name = beside(path, ".spool.XXXXXX");
    *fd = -1;
    if (dir && name) {
        *fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (*fd < 0 && (*fd = mkostemp(name, O_CLOEXEC)) >= 0) unlink(name);
    }
    taut__free(dir);
    taut__free(name);
    return *fd >= 0 ? TAUT_OK : cannot("make a temporary file beside", path);
}
