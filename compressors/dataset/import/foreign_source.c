/* foreign_source.c : see foreign_source.h. */
#include "foreign_source.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { WINDOW = 1 << 16, VIEW_MAX = 1 << 30 };

static taut_status take_name(taut__source *s, const char *name)
{
    memset(s, 0, sizeof *s);
    s->fd = -1;
    s->name = taut__alloc(strlen(name) + 1, 1);
    if (!s->name) return taut__fail(TAUT_E_NOMEM, "%s: no memory for its name", name);
    strcpy(s->name, name);
    return TAUT_OK;
}

static taut_status take_file(taut__source *s)
{
    struct stat st;
    s->fd = open(s->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK /* no wait for a fifo's writer */);
    if (s->fd < 0 || fstat(s->fd, &st) != 0)
        return taut__fail(TAUT_E_IO, "%s: cannot open: %s", s->name, strerror(errno));
    if (!S_ISREG(st.st_mode)) return taut__fail(TAUT_E_IO, "%s: not a regular file", s->name);
    if (st.st_size == 0) return taut__fail(TAUT_E_CORRUPT, "%s: an empty file", s->name);
    s->bytes = (uint64_t)st.st_size;
    s->mtime_s = st.st_mtim.tv_sec;
    s->mtime_ns = (uint32_t)st.st_mtim.tv_nsec;
    return TAUT_OK;
}

taut_status taut__source_open(taut__source *s, const char *path)
{
    taut_status rc = take_name(s, path);
    if (rc == TAUT_OK) rc = take_file(s);
    if (rc != TAUT_OK) taut__source_close(s);
    return rc;
}

taut_status taut__source_memory(taut__source *s, const char *name, const void *bytes, uint64_t n)
{
    TAUT_TRY(take_name(s, name));
    s->memory = bytes;
    s->bytes = n;
    if (n) return TAUT_OK;
    taut__source_close(s);
    return taut__fail(TAUT_E_CORRUPT, "%s: an empty file", name);
}

void taut__source_close(taut__source *s)
{
    if (s->name && !s->memory && s->fd >= 0) close(s->fd);
    taut__free(s->name);
    taut__free(s->window);
    memset(s, 0, sizeof *s);
    s->fd = -1;
}

static taut_status outside(const taut__source *s, uint64_t at, uint64_t n, const char *what)
{
    return taut__fail(TAUT_E_CORRUPT,
                      "%s: %s: bytes %" PRIu64 "..%" PRIu64 " lie outside the file, which has %" PRIu64
                      ": truncated or damaged",
                      s->name, what, at, at + n - 1, s->bytes);
}

static bool inside(const taut__source *s, uint64_t at, uint64_t n) { return at <= s->bytes && n <= s->bytes - at; }

taut_status taut__source_read(const taut__source *s, void *dst, size_t n, uint64_t at, const char *what)
{
    if (n == 0) return TAUT_OK;
    if (!inside(s, at, n)) return outside(s, at, n, what);
    if (s->memory) {
        memcpy(dst, s->memory + at, n);
        return TAUT_OK;
    }
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(s->fd, (uint8_t *)dst + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return taut__fail(TAUT_E_IO, "%s: %s: cannot read: %s", s->name, what, strerror(errno));
        if (got == 0)
            return taut__fail(TAUT_E_CORRUPT, "%s: %s: the file now ends at byte %" PRIu64 ", it had %" PRIu64, s->name,
                              what, at + done, s->bytes);
        done += (size_t)got;
    }
    return TAUT_OK;
}

taut_status taut__source_view(taut__source *s, uint64_t at, size_t n, const char *what, const uint8_t **p)
{
    size_t want;
    if (!inside(s, at, n)) return outside(s, at, n ? n : 1, what);
    if (s->memory) {
        *p = s->memory + at;
        return TAUT_OK;
    }
    if (at >= s->window_at && at - s->window_at <= s->window_bytes && n <= s->window_bytes - (at - s->window_at)) {
        *p = s->window + (at - s->window_at);
        return TAUT_OK;
    }
    if (n > VIEW_MAX)
        return taut__fail(TAUT_E_RANGE, "%s: %s: %zu bytes in one piece: at most %d", s->name, what, n, VIEW_MAX);
    want = taut__max(n, WINDOW);
    if (want > s->window_cap) {
        uint8_t *more = taut__alloc(want, 1);
        if (!more) return taut__fail(TAUT_E_NOMEM, "%s: %s: no memory for %zu bytes", s->name, what, want);
        taut__free(s->window);
        s->window = more;
        s->window_cap = want;
    }
    want = s->bytes - at < want ? (size_t)(s->bytes - at) : want;
    s->window_bytes = 0;
    TAUT_TRY(taut__source_read(s, s->window, want, at, what));
    s->window_at = at;
    s->window_bytes = want;
    *p = s->window;
    return TAUT_OK;
}

taut_status taut__source_hash(taut__source *s, uint64_t *hash)
{
    XXH64_state_t *x = XXH64_createState();
    taut_status    rc = x ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "%s: no memory for its hash", s->name);
    if (x) XXH64_reset(x, 0);
    for (uint64_t at = 0; rc == TAUT_OK && at < s->bytes;) {
        const uint8_t *p;
        size_t         n = s->bytes - at < WINDOW ? (size_t)(s->bytes - at) : WINDOW;
        rc = taut__source_view(s, at, n, "its bytes", &p);
        if (rc == TAUT_OK) XXH64_update(x, p, n);
        at += n;
    }
    if (rc == TAUT_OK) *hash = XXH64_digest(x);
    XXH64_freeState(x);
    return rc;
}
