/* stored.c : see stored.h. */
#include "stored.h"
#include "../cli.h"
#include "ranks.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static int failed(const char *what, const char *path, const char *why)
{
    return fault(CLI_FAILED, "%s: %s: %s", what, path, why);
}

/* A new name, or a removed one, is on the disk when its folder is. Not every file system can do that: no failure then. */
static void flush_folder(const char *path)
{
    char dir[PATH_MAX], *slash;
    int  fd;
    snprintf(dir, sizeof dir, "%s", path);
    slash = strrchr(dir, '/');
    if (!slash) snprintf(dir, sizeof dir, ".");
    else slash[slash == dir] = 0;
    if ((fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) return;
    (void)!fsync(fd);
    close(fd);
}

static int write_file(const char *what, const char *path, const char *head, const void *body, size_t n)
{
    FILE *f = fopen(path, "wb");
    int   error;
    bool  ok;
    if (!f) return failed(what, path, strerror(errno));
    errno = 0;
    ok = fputs(head, f) >= 0 && fwrite(body, 1, n, f) == n && fflush(f) == 0 && fsync(fileno(f)) == 0;
    error = errno;
    if (fclose(f) != 0 && ok) ok = false, error = errno;
    if (ok) return 0;
    unlink(path);
    return failed(what, path, error ? strerror(error) : "could not be written");
}

int stored_write(const char *what, const char *path, const char *head, const void *body, size_t n)
{
    int code = write_file(what, path, head, body, n);
    if (!code) flush_folder(path);
    return code;
}

int stored_replace(const char *what, const char *path, const char *text)
{
    char part[PATH_MAX];
    int  code;
    snprintf(part, sizeof part, "%s.part", path);
    if ((code = write_file(what, part, text, "", 0)) != 0) return code;
    if (rename(part, path) != 0) {
        code = failed(what, path, strerror(errno));
        unlink(part);
        return code;
    }
    flush_folder(path);
    return 0;
}

int stored_read(const char *what, const char *path, size_t most, char **data, size_t *n)
{
    FILE       *f = fopen(path, "rb");
    struct stat s;
    int         code = 0;
    *data = NULL, *n = 0;
    if (!f) return failed(what, path, strerror(errno));
    if (fstat(fileno(f), &s) != 0) code = failed(what, path, strerror(errno));
    else if (!S_ISREG(s.st_mode)) code = failed(what, path, "not a file");
    else if ((uint64_t)s.st_size > most)
        code = fault(CLI_FAILED, "%s: %s: %" PRIu64 " bytes: at most %zu are expected here", what, path,
                     (uint64_t)s.st_size, most);
    else if (!(*data = malloc((size_t)s.st_size + 1))) code = failed(what, path, "out of memory");
    else if ((*n = fread(*data, 1, (size_t)s.st_size, f)) != (size_t)s.st_size)
        code = failed(what, path, "could not be read");
    fclose(f);
    if (!code) {
        (*data)[*n] = 0;
        return 0;
    }
    free(*data);
    *data = NULL;
    return code;
}

int stored_checksum(const char *what, const char *path, stored_sum *sum)
{
    enum { BLOCK = 1 << 18 };
    FILE          *f = fopen(path, "rb");
    XXH3_state_t  *state = XXH3_createState();
    unsigned char *block = malloc(BLOCK);
    size_t         got;
    int            code = 0;
    *sum = (stored_sum){0};
    if (!f) code = failed(what, path, strerror(errno));
    else if (!state || !block || XXH3_128bits_reset(state) != XXH_OK) code = failed(what, path, "out of memory");
    while (!code && (got = fread(block, 1, BLOCK, f)) > 0) {
        XXH3_128bits_update(state, block, got);
        sum->bytes += got;
    }
    if (!code && ferror(f)) code = failed(what, path, strerror(errno));
    if (!code) {
        XXH128_hash_t h = XXH3_128bits_digest(state);
        sum->high = h.high64, sum->low = h.low64;
    }
    if (f) fclose(f);
    XXH3_freeState(state);
    free(block);
    return code;
}

int stored_verify(const char *what, const char *path, const stored_sum *want)
{
    stored_sum have;
    int        code = stored_checksum(what, path, &have);
    if (code) return code;
    if (have.bytes != want->bytes)
        return fault(CLI_FAILED, "%s: %s: %" PRIu64 " bytes: the checkpoint was written with %" PRIu64, what, path,
                     have.bytes, want->bytes);
    if (have.high != want->high || have.low != want->low)
        return fault(CLI_FAILED, "%s: %s: damaged, or of another checkpoint: its checksum is not the one written down",
                     what, path);
    return 0;
}
