/* fuzz_shard.c : bytes of others into the shard reader. The first byte chooses: an even one, the rest is a file, and with bit 1 what its front says
 * of length and checksums is made right, so that the index is read; an odd one, the rest goes to a field codec behind the checksums: codec, length
 * of the shared bytes, these, then stored bytes. max_len=4096 */
#include "compressors/dataset/fields/field.h"
#include "compressors/dataset/shard/layout.h"
#include "fuzz.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(taut_shard *s)
{
    taut_reader       *r;
    taut_verify_result v = {.size = sizeof v};
    uint8_t            sample[256];
    size_t             bytes;
    taut_shard_verify(s, NULL, NULL, &v);
    if (taut_reader_create(s, &r) != TAUT_OK) return;
    for (uint32_t f = 0; f < taut__shard_fields(s); f++)
        for (uint64_t i = 0; i < taut__shard_samples(s) && i < 8; i++)
            taut_reader_sample(r, f, i, sample, sizeof sample, &bytes);
    taut_reader_destroy(r);
}

static void make_right(uint8_t *file, size_t size)
{
    uint64_t meta = size < TAUT_FRONT_BYTES ? size : taut__get64(file + 32);
    uint64_t bytes = size < TAUT_FRONT_BYTES ? 1 : taut__get64(file + 40);
    if (meta > size || bytes > size - meta) return;
    taut__front_write(file, &(taut_front){1, size, meta, bytes, taut__crc32c(file + meta, (size_t)bytes),
                                          XXH64(file + meta, (size_t)bytes, 0)});
}

/* ---- a file ----
 * For the fuzzer the file is memory, contexts of zstd, of 100 kB, are kept, and there is no memory for blocks that claim to be large, which would
 * all be zeroed: the linker brings what the reader calls here (Makefile). */
#ifdef FUZZ_IN_MEMORY
enum { IN_MEMORY = 1 << 20, KEPT = 8, MOST_BYTES = 1 << 20 }; /* the first: a descriptor that no process has */
static const uint8_t *in_memory;
static size_t         in_memory_bytes;
static ZSTD_DCtx     *kept[KEPT];
static size_t         kept_n;

ssize_t    __real_pread(int fd, void *dst, size_t n, off_t at);
int        __real_fstat(int fd, struct stat *st);
int        __real_stat(const char *path, struct stat *st);
void      *__real_aligned_alloc(size_t to, size_t bytes);
ZSTD_DCtx *__real_ZSTD_createDCtx(void);
size_t     __real_ZSTD_freeDCtx(ZSTD_DCtx *d);
ssize_t    __wrap_pread(int fd, void *dst, size_t n, off_t at);
int        __wrap_fstat(int fd, struct stat *st);
int        __wrap_stat(const char *path, struct stat *st);
void      *__wrap_aligned_alloc(size_t to, size_t bytes);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void);
size_t     __wrap_ZSTD_freeDCtx(ZSTD_DCtx *d);

ssize_t __wrap_pread(int fd, void *dst, size_t n, off_t at)
{
    if (fd != IN_MEMORY) return __real_pread(fd, dst, n, at);
    if (at < 0 || (size_t)at >= in_memory_bytes) return 0;
    n = taut__min(n, in_memory_bytes - (size_t)at);
    memcpy(dst, in_memory + at, n);
    return (ssize_t)n;
}

static int in_memory_stat(struct stat *st)
{
    memset(st, 0, sizeof *st);
    st->st_mode = S_IFREG, st->st_size = (off_t)in_memory_bytes;
    return 0;
}

int __wrap_fstat(int fd, struct stat *st) { return fd == IN_MEMORY ? in_memory_stat(st) : __real_fstat(fd, st); }
int __wrap_stat(const char *path, struct stat *st)
{
    return strcmp(path, "fuzz") == 0 ? in_memory_stat(st) : __real_stat(path, st);
}

void *__wrap_aligned_alloc(size_t to, size_t bytes)
{
    return bytes > MOST_BYTES ? NULL : __real_aligned_alloc(to, bytes);
}

ZSTD_DCtx *__wrap_ZSTD_createDCtx(void) { return kept_n ? kept[--kept_n] : __real_ZSTD_createDCtx(); }
size_t     __wrap_ZSTD_freeDCtx(ZSTD_DCtx *d)
{
    for (size_t i = 0; i < kept_n; i++) FUZZ_HOLDS(kept[i] != d);
    if (!d || kept_n == KEPT) return __real_ZSTD_freeDCtx(d);
    FUZZ_HOLDS(!ZSTD_isError(ZSTD_DCtx_reset(d, ZSTD_reset_session_and_parameters)));
    kept[kept_n++] = d;
    return 0;
}

static int file_of(const uint8_t *data, size_t size)
{
    in_memory = data, in_memory_bytes = size;
    return IN_MEMORY;
}
static void file_end(int fd) { (void)fd; }
#else
static int file_of(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    FUZZ_HOLDS(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    return fd;
}
static void file_end(int fd) { close(fd); }
#endif

static void as_file(const uint8_t *data, size_t size)
{
    taut_shard *s;
    int         fd = file_of(data, size);
    if (taut__shard_open_fd(fd, "fuzz", &s) == TAUT_OK) {
        read_all(s);
        taut_shard_close(s);
    }
    file_end(fd);
}

/* ---- stored bytes of a field ---- */

/* A model of dense has 2^12 to 2^18 slots and learns from a prime first: milliseconds, whatever the input. One of 16 is read at all, nearly
 * always with a small model. */
static bool make_quick(const char *codec, uint8_t *shared, size_t n)
{
    if (strcmp(codec, "dense") != 0 || n < 8) return true;
    if (!fuzz_one_of(shared, n, 16)) return false;
    if (fuzz_one_of(shared, n, 4096)) return true; /* 64 KiB and more of a prime: 100 ms and more with sanitizers */
    shared[2] = shared[3] = 0;                     /* bytes of the prime, 32 bits */
    shared[1] &= 1;
    if (shared[4] >= 12 && shared[4] <= 18) shared[4] = 12;
    return true;
}

static void as_codec(const uint8_t *data, size_t size)
{
    const taut_field_codec *c;
    taut_field              field = TAUT_FIELD_INIT;
    taut_field_spec         spec;
    void                   *state = NULL;
    size_t                  shared, n;
    uint32_t                offset[5];
    uint8_t                 dst[4096];
    if (size < 4 || !(c = taut__field_codec_at(data[0] % 16))) return;
    shared = data[1] | (size_t)data[2] << 8;
    n = 4 * (size_t)data[3];
    data += 4, size -= 4;
    if (shared > size) shared = size;
    strcpy(field.name, "f");
    snprintf(field.codec, sizeof field.codec, "%s", c->name);
    for (int kind = 0; kind < 8; kind++) { /* the first kind that it suits */
        static const taut_type types[] = {TAUT_U8,      TAUT_U8, TAUT_U16, TAUT_I32,
                                          TAUT_FLOAT32, TAUT_U8, TAUT_U8,  TAUT_U8};
        field.kind = (taut_kind)kind;
        field.type = types[kind];
        field.variable = kind != TAUT_KIND_IMAGE && kind != TAUT_KIND_LABEL;
        field.ndim = kind == TAUT_KIND_IMAGE ? 2 : 0;
        field.shape[0] = 16, field.shape[1] = 16;
        if (taut__field_shape(&field) == TAUT_OK && taut__field_spec_parse(&field, &spec) == TAUT_OK) break;
        if (kind == 7) return;
    }
    if (field.kind == TAUT_KIND_IMAGE) n = 4 * 256;
    for (int k = 0; k < 5; k++) offset[k] = (uint32_t)(n / 4 * (size_t)k);
    taut_part g = {.bytes = n, .n = 4, .offset = offset};
    uint8_t  *copy = malloc(size ? size : 1); /* exactly as long as it is, so that reading beyond it is seen */
    if (!copy) return;
    memcpy(copy, data, size);
    if (!make_quick(c->name, copy, size)) {
        free(copy);
        return;
    }
    if (c->open && c->open(&spec, shared ? copy : NULL, shared, false, &state) != TAUT_OK) {
        free(copy);
        return;
    }
    c->decode(state, copy + shared, size - shared, &g, dst);
    if (c->close) c->close(state);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    if (data[0] & 1) {
        as_codec(data + 1, size - 1);
    } else if (data[0] & 2) {
        uint8_t *file = fuzz_copy(data + 1, size - 1);
        make_right(file, size - 1);
        as_file(file, size - 1);
        free(file);
    } else {
        as_file(data + 1, size - 1);
    }
    return 0;
}
