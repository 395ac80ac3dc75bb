/* floats.c : see floats.h. */
#include "floats.h"
#include "cli.h"
#include "../comm/base/base.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files ---- */

static int read_all(int fd, const char *path, uint8_t **data, size_t *bytes)
{
    struct stat st;
    size_t      cap = 1u << 16, n = 0;
    uint8_t    *p, *more;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) return cli_fail("%s: is a directory", path);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) cap = (size_t)st.st_size + 1; /* +1: see the end without growing */
    if (!(p = malloc(cap))) return cli_fail("%s: out of memory for %zu bytes", path, cap);
    for (;;) {
        ssize_t got = read(fd, p + n, cap - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            free(p);
            return cli_fail("%s: %s", path, strerror(errno));
        }
        if (got == 0) break;
        n += (size_t)got;
        if (n < cap) continue;
        if (!(more = realloc(p, cap *= 2))) {
            free(p);
            return cli_fail("%s: out of memory for %zu bytes", path, cap);
        }
        p = more;
    }
    *data = p;
    *bytes = n;
    return CLI_OK;
}

int bytes_read(const char *path, uint8_t **data, size_t *bytes)
{
    int fd, rc;
    *data = NULL;
    *bytes = 0;
    if (strcmp(path, "-") == 0) return read_all(STDIN_FILENO, "standard input", data, bytes);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) return cli_fail("%s: %s", path, strerror(errno));
    rc = read_all(fd, path, data, bytes);
    close(fd);
    return rc;
}

static int write_all(int fd, const char *path, const uint8_t *p, size_t n)
{
    while (n) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return cli_fail("%s: %s", path, strerror(errno));
        p += put;
        n -= (size_t)put;
    }
    return CLI_OK;
}

/* A new file beside `path`, which takes its place when it is complete. It has the mode of the file that it replaces, or what
 * open() would have given. */
static int replace(const char *path, const struct stat *old, const void *data, size_t bytes)
{
    size_t len = strlen(path) + 8;
    char  *temp = malloc(len);
    mode_t mask, mode;
    int    fd, rc;
    if (!temp) return cli_fail("out of memory");
    snprintf(temp, len, "%s.XXXXXX", path);
    if ((fd = mkstemp(temp)) < 0) {
        rc = cli_fail("%s: %s", path, strerror(errno));
        free(temp);
        return rc;
    }
    umask(mask = umask(0)); /* mkstemp gives 0600 */
    mode = old ? old->st_mode & 07777 : 0666 & ~mask;
    if (old && (old->st_uid != geteuid() || old->st_gid != getegid()) && fchown(fd, old->st_uid, old->st_gid) != 0)
        mode &= 0777; /* somebody else's set-user-id bit would be ours */
    rc = write_all(fd, path, data, bytes);
    if (rc == CLI_OK && fchmod(fd, mode) != 0) rc = cli_fail("%s: %s", path, strerror(errno));
    if (close(fd) != 0 && rc == CLI_OK) rc = cli_fail("%s: %s", path, strerror(errno));
    if (rc == CLI_OK && rename(temp, path) != 0) rc = cli_fail("%s: %s", path, strerror(errno));
    if (rc != CLI_OK) unlink(temp);
    free(temp);
    return rc;
}

int bytes_write(const char *path, const void *data, size_t bytes)
{
    struct stat st;
    char        real[PATH_MAX];
    int         fd, rc;
    bool        exists;
    if (strcmp(path, "-") == 0) return write_all(STDOUT_FILENO, "standard output", data, bytes);
    exists = stat(path, &st) == 0;
    if (exists && !S_ISREG(st.st_mode)) { /* a device or pipe cannot be replaced */
        if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0) return cli_fail("%s: %s", path, strerror(errno));
        rc = write_all(fd, path, data, bytes);
        close(fd);
        return rc;
    }
    if (taut__behind_links(path, real) != TAUT_OK) return cli_fail("%s", taut_last_error());
    return replace(real, exists ? &st : NULL, data, bytes);
}

int floats_read(const char *path, float **x, size_t *n)
{
    uint8_t *data;
    size_t   bytes;
    int      rc = bytes_read(path, &data, &bytes);
    *x = NULL;
    *n = 0;
    if (rc != CLI_OK) return rc;
    if (bytes == 0) rc = cli_fail("%s: is empty; needs at least one float32", path);
    else if (bytes % 4 != 0) rc = cli_fail("%s: %zu bytes; a file of float32 has a multiple of 4", path, bytes);
    else if (!(*x = floats_alloc(bytes / 4))) rc = cli_fail("%s: out of memory for %zu floats", path, bytes / 4);
    else memcpy(*x, data, bytes);
    if (rc == CLI_OK) *n = bytes / 4;
    free(data);
    return rc;
}

float *floats_alloc(size_t n)
{
    size_t bytes;
    void  *p;
    if (!taut__mul_ok(n, sizeof(float), &bytes)) return NULL;
    if (posix_memalign(&p, 64, bytes ? bytes : 64) != 0) return NULL;
    memset(p, 0, bytes);
    return p;
}

/* ---- shapes ---- */

int shape_parse(const char *text, size_t n, int *ndim, size_t *shape)
{
    const char *p = text;
    size_t      product = 1;
    int         d = 0;
    for (;;) {
        char              *end;
        unsigned long long v = strtoull(p, &end, 10);
        if (end == p || *p < '0' || *p > '9' || v == 0 || d == SHAPE_MAX || !taut__mul_ok(product, (size_t)v, &product))
            return cli_usage("--shape=%s: must be 1 to %d positive extents, as in 1024x784", text, SHAPE_MAX);
        shape[d++] = (size_t)v;
        if (!*end) break;
        if (*end != 'x') return cli_usage("--shape=%s: extents are separated by x, as in 1024x784", text);
        p = end + 1;
    }
    if (n && product != n) return cli_usage("--shape=%s: has %zu elements; the input has %zu", text, product, n);
    *ndim = d;
    return CLI_OK;
}

void shape_square(size_t n, size_t shape[2])
{
    size_t r = (size_t)sqrt((double)n);
    while (r > 1 && n % r != 0) r--;
    shape[0] = r ? r : 1;
    shape[1] = n / shape[0];
}

/* ---- numbers ---- */

double rel_err2(const float *x, const float *y, size_t n)
{
    double err = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)y[i] - (double)x[i];
        if (!isfinite(d)) { /* of floats, this takes a NaN or an Inf */
            if (isfinite(x[i]) != isfinite(y[i])) return INFINITY;
            continue;
        }
        err += d * d;
        norm += (double)x[i] * (double)x[i];
    }
    return err == 0 ? 0 : err / norm;
}

static float unit(taut__rng g, uint32_t i) /* (0, 1) */
{
    return ((float)(taut__random32(g, i) >> 8) + 0.5f) * 0x1p-24f;
}

void floats_synthetic(float *x, size_t n, uint64_t seed, int rank)
{
    uint64_t values = taut__seed(seed, 2 + (uint64_t)rank);
    for (size_t i = 0; i < n; i += 1024) {
        taut__rng g = taut__rng_of(values, i), row = taut__rng_of(taut__seed(seed, 1), i);
        /* Box-Muller; only the row's scale needs a Gaussian */
        float normal = sqrtf(-2 * logf(unit(row, (uint32_t)i))) * cosf(6.2831853f * unit(row, (uint32_t)i + 1));
        float scale = 1e-3f * expf(1.1f * normal);
        for (size_t k = i; k < taut__min(i + 1024, n); k++) {
            float u = 2 * unit(g, (uint32_t)k) - 1;
            x[k] = -copysignf(scale, u) * log1pf(-fabsf(u) * 0.9999999f);
        }
    }
}

void floats_tile(float *x, size_t n, const float *part, size_t m)
{
    for (size_t i = 0; i < n; i += m) memmove(x + i, part, taut__min(m, n - i) * sizeof *x);
}

void openblas_set_num_threads(int) __attribute__((weak)); /* NULL where another BLAS, or none, is linked */

void blas_threads(int threads)
{
    if (openblas_set_num_threads) openblas_set_num_threads(threads);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, ascending);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}
