/* data_idx.c : images and labels in the IDX format (LeCun's MNIST page: magic 0 0 type ndim, big-endian extents, then
 * the values), plain or gzip. Folder: train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz] and, for validation,
 * t10k-images-... and t10k-labels-...; without those the last tenth of the training images validates. A file of images
 * stands for itself and the labels beside it. */
#include "../cli.h"
#include "data.h"
#include "ranks.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum { TYPE_UBYTE = 8, DIMS = 3 };

typedef struct idx {
    uint8_t *byte;
    size_t   n, each; /* items, bytes of one */
    uint32_t extent[DIMS];
} idx;

/* dir/STEM or dir/STEM.gz, whichever is there. */
static bool locate(char *path, size_t cap, const char *dir, const char *stem)
{
    struct stat s;
    snprintf(path, cap, "%s/%s", dir, stem);
    if (stat(path, &s) == 0) return true;
    snprintf(path, cap, "%s/%s.gz", dir, stem);
    return stat(path, &s) == 0;
}

bool data_is_idx(const char *path)
{
    struct stat   s;
    char          images[PATH_MAX];
    unsigned char magic[4];
    gzFile        f;
    bool          yes;
    if (stat(path, &s) != 0) return false;
    if (S_ISDIR(s.st_mode)) return locate(images, sizeof images, path, "train-images-idx3-ubyte");
    if (!(f = gzopen(path, "rb"))) return false;
    yes = gzread(f, magic, 4) == 4 && magic[0] == 0 && magic[1] == 0 && magic[2] == TYPE_UBYTE && magic[3] == DIMS;
    gzclose(f);
    return yes;
}

static int read_header(gzFile f, const char *path, int ndim, idx *x)
{
    unsigned char head[4 + 4 * DIMS];
    int           len = 4 + 4 * ndim;
    size_t        all;
    if (gzread(f, head, (unsigned)len) != len) return fault(CLI_FAILED, "--data: %s: shorter than an IDX header", path);
    if (head[0] || head[1] || head[2] != TYPE_UBYTE || head[3] != ndim)
        return fault(CLI_FAILED, "--data: %s: magic %02x%02x%02x%02x: must be 0000%02x%02x (IDX, bytes, %d dimensions)",
                     path, head[0], head[1], head[2], head[3], TYPE_UBYTE, ndim, ndim);
    x->each = 1;
    for (int i = 0; i < ndim; i++) {
        const unsigned char *b = head + 4 + 4 * i;
        x->extent[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
        if (i > 0 && __builtin_mul_overflow(x->each, (size_t)x->extent[i], &x->each)) x->each = 0;
    }
    x->n = x->extent[0];
    if (x->n == 0 || x->each == 0 || __builtin_mul_overflow(x->n, x->each, &all) || all > PTRDIFF_MAX / 8)
        return fault(CLI_FAILED, "--data: %s: %zu items of %zu bytes: not a usable size", path, x->n, x->each);
    return 0;
}

/* Grows as bytes arrive, so that a header that lies about the size costs no memory. */
static int read_idx(const char *path, int ndim, idx *x)
{
    enum { STEP = 1 << 24 };
    gzFile f = gzopen(path, "rb");
    size_t have = 0, want;
    int    code;
    if (!f) return fault(CLI_FAILED, "--data: %s: cannot be opened", path);
    code = read_header(f, path, ndim, x);
    want = code ? 0 : x->n * x->each;
    while (!code && have < want) {
        size_t   part = want - have < STEP ? want - have : STEP;
        uint8_t *more = realloc(x->byte, have + part);
        int      got;
        if (!more) {
            code = fault(CLI_FAILED, "--data: %s: out of memory", path);
            break;
        }
        x->byte = more;
        got = gzread(f, x->byte + have, (unsigned)part);
        if (got != (int)part)
            code = fault(CLI_FAILED, "--data: %s: truncated or damaged: %zu of %zu bytes", path,
                         have + (got > 0 ? (size_t)got : 0), want);
        have += part;
    }
    gzclose(f);
    return code;
}

/* Appends one pair of files; *n_items grows by what it holds. */
static int append_pair(data *d, const char *images, const char *labels, size_t *n_items)
{
    idx      x = {0}, y = {0};
    size_t   old = *n_items, now, bytes = 0;
    uint8_t *p;
    int      code = read_idx(images, 3, &x);
    if (!code) code = read_idx(labels, 1, &y);
    if (!code && x.n != y.n)
        code = fault(CLI_FAILED, "--data: %s has %zu images, %s %zu labels", images, x.n, labels, y.n);
    if (!code && old && x.each != d->elems)
        code = fault(CLI_FAILED, "--data: %s: images of %zu bytes, in training %zu", images, x.each, d->elems);
    now = old + x.n;
    if (!code && (now <= old || __builtin_mul_overflow(now, x.each, &bytes) || bytes == 0))
        code = fault(CLI_FAILED, "--data: %s: %zu images", images, x.n);
    if (!code) {
        d->elems = x.each;
        d->shape[1] = x.extent[1], d->shape[2] = x.extent[2];
        p = realloc(d->pixels, bytes);
        if (p) d->pixels = p, p = realloc(d->labels, now);
        if (p) {
            d->labels = p;
            memcpy(d->pixels + old * x.each, x.byte, x.n * x.each);
            memcpy(d->labels + old, y.byte, x.n);
            *n_items = now;
        } else code = fault(CLI_FAILED, "--data: out of memory");
    }
    free(x.byte);
    free(y.byte);
    return code;
}

/* Mean and deviation of the training pixels; labels' range. */
static void measure(data *d, size_t all)
{
    double sum = 0, square = 0, n = (double)d->n_train * (double)d->elems;
    for (size_t i = 0; i < d->n_train * d->elems; i++) {
        sum += d->pixels[i];
        square += (double)d->pixels[i] * d->pixels[i];
    }
    square = square / n - (sum / n) * (sum / n);
    d->mean = (float)(sum / n);
    d->unit = square > 0 ? (float)(1 / sqrt(square)) : 1;
    for (size_t i = 0; i < all; i++)
        if (d->labels[i] + 1 > d->classes) d->classes = d->labels[i] + 1;
    if (d->classes < 2) d->classes = 2;
    d->hash = data_hash(data_hash(0, d->pixels, all * d->elems), d->labels, all);
}

static int open_pairs(data *d, const char *dir)
{
    char   images[PATH_MAX], labels[PATH_MAX];
    size_t n = 0;
    int    code;
    if (!locate(images, sizeof images, dir, "train-images-idx3-ubyte") ||
        !locate(labels, sizeof labels, dir, "train-labels-idx1-ubyte"))
        return fault(CLI_FAILED, "--data=%s: needs both train-images-idx3-ubyte[.gz] and train-labels-idx1-ubyte[.gz]",
                     dir);
    if ((code = append_pair(d, images, labels, &n)) != 0) return code;
    d->n_train = n;
    if (locate(images, sizeof images, dir, "t10k-images-idx3-ubyte")) {
        if (!locate(labels, sizeof labels, dir, "t10k-labels-idx1-ubyte"))
            return fault(CLI_FAILED, "--data=%s: t10k-images without t10k-labels", dir);
        if ((code = append_pair(d, images, labels, &n)) != 0) return code;
    } else if (n < 10) {
        return fault(CLI_FAILED, "--data=%s: %zu images: must be at least 10", dir, n);
    } else {
        d->n_train = n - n / 10;
    }
    d->n_val = n - d->n_train;
    measure(d, n);
    return 0;
}

/* The images file that the user named, with its labels beside it: NAME-labels-idx1-... of NAME-images-idx3-.... The last
 * tenth validates. */
static int open_file(data *d, const char *images)
{
    static const char word[] = "images-idx3";
    char              labels[PATH_MAX];
    const char       *slash = strrchr(images, '/'), *at = strstr(slash ? slash + 1 : images, word);
    size_t            n = 0;
    int               code;
    if (!at)
        return fault(
            CLI_FAILED,
            "--data=%s: a file of images is called NAME-images-idx3-ubyte[.gz], its labels NAME-labels-idx1-ubyte[.gz]",
            images);
    snprintf(labels, sizeof labels, "%.*slabels-idx1%s", (int)(at - images), images, at + sizeof word - 1);
    if ((code = append_pair(d, images, labels, &n)) != 0) return code;
    if (n < 10) return fault(CLI_FAILED, "--data=%s: %zu images: must be at least 10", images, n);
    d->n_val = n / 10;
    d->n_train = n - d->n_val;
    measure(d, n);
    return 0;
}

int data_open_idx(data *d, const char *path)
{
    struct stat s;
    int         code;
    d->targets = 1;
    d->ndim = 3;
    d->shape[0] = 1;
    code = stat(path, &s) == 0 && S_ISDIR(s.st_mode) ? open_pairs(d, path) : open_file(d, path);
    if (code) {
        data_close(d);
        return code;
    }
    snprintf(d->what, sizeof d->what, "%zu images of %lldx%lld, %lld classes", d->n_train + d->n_val,
             (long long)d->shape[1], (long long)d->shape[2], (long long)d->classes);
    return 0;
}
