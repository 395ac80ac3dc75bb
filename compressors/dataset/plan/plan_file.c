/* plan_file.c : plans in files. */
#include "plan.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PLAN_BYTES_MAX = 1 << 30 };

static taut_status write_all(int fd, const char *path, const char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        ssize_t n = write(fd, text + at, bytes - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return taut__fail(TAUT_E_IO, "%s: could not be written: %s", path, strerror(n < 0 ? errno : ENOSPC));
        at += (size_t)n;
    }
    if (fsync(fd) != 0) return taut__fail(TAUT_E_IO, "%s: could not be written: %s", path, strerror(errno));
    return TAUT_OK;
}

taut_status taut__plan_save(taut__plan *p, const char *path)
{
    char        real[PATH_MAX], part[PATH_MAX], *text;
    size_t      bytes;
    taut_status s;
    int         fd;
    TAUT_TRY(taut__behind_links(path, real));
    path = real;
    if (snprintf(part, sizeof part, "%s.part%ld", path, (long)getpid()) >= (int)sizeof part)
        return taut__fail(TAUT_E_RANGE, "%s: a name longer than %d bytes", path, PATH_MAX);
    TAUT_TRY(taut__plan_print(p, &text, &bytes));
    if (bytes > PLAN_BYTES_MAX) { /* nobody could load it */
        taut__free(text);
        return taut__fail(TAUT_E_RANGE, "%s: %zu bytes: a plan has at most %d: list fewer samples", path, bytes,
                          PLAN_BYTES_MAX);
    }
    fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    s = fd < 0 ? taut__fail(TAUT_E_IO, "%s: %s", part, strerror(errno)) : write_all(fd, part, text, bytes);
    taut__free(text);
    if (fd >= 0 && close(fd) != 0 && s == TAUT_OK)
        s = taut__fail(TAUT_E_IO, "%s: could not be written: %s", part, strerror(errno));
    if (s == TAUT_OK && rename(part, path) != 0) s = taut__fail(TAUT_E_IO, "%s: %s", path, strerror(errno));
    if (s != TAUT_OK && fd >= 0) unlink(part);
    return s;
}

static taut_status read_all(int fd, const char *path, char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        ssize_t n = read(fd, text + at, bytes - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return taut__fail(TAUT_E_IO, "%s: %s", path, n < 0 ? strerror(errno) : "became shorter while it was read");
        at += (size_t)n;
    }
    return TAUT_OK;
}

taut_status taut__plan_load(taut__plan *p, const char *path)
{
    struct stat st;
    char       *text = NULL;
    taut_status s = TAUT_OK;
    int         fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    memset(p, 0, sizeof *p);
    if (fd < 0) return taut__fail(TAUT_E_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0) s = taut__fail(TAUT_E_IO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode)) s = taut__fail(TAUT_E_INVALID, "%s: not a plan but a folder or device", path);
    else if (st.st_size > PLAN_BYTES_MAX)
        s = taut__fail(TAUT_E_RANGE, "%s: %lld bytes: a plan has at most %d", path, (long long)st.st_size,
                       PLAN_BYTES_MAX);
    else if (!(text = taut__alloc((size_t)st.st_size + 1, 1))) s = taut__fail(TAUT_E_NOMEM, "%s: out of memory", path);
    if (s == TAUT_OK) s = read_all(fd, path, text, (size_t)st.st_size);
    close(fd);
    if (s == TAUT_OK) s = taut__plan_parse(p, path, text, (size_t)st.st_size);
    taut__free(text);
    return s;
}
