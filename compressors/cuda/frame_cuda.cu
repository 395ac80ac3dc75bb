/* frame_cuda.cu : headers of frames on a GPU (frame.h), a thread for each. They have no checksum, and say so: XXH3 runs along a
 * payload, and what a GPU sends is checked by its network. */
#include "cuda_kernel.h"
#include "../digest.h"
#include "../frame.h"
#include "../tree_sum.h"

enum { THREADS = 128 };
#define MAGIC 0x54554154u /* "TAUT" */

static __device__ __forceinline__ const taut__cuda_job *job_at(const taut__cuda_batch &b, uint32_t *k)
{
    *k = blockIdx.x * THREADS + threadIdx.x;
    return *k >= b.count ? NULL : b.jobs ? b.jobs + *k : &b.one;
}

static __global__ void __launch_bounds__(THREADS)
    frame_seal(const __grid_constant__ taut__cuda_batch batch, uint32_t codec, uint32_t version)
{
    uint32_t              k;
    const taut__cuda_job *j = job_at(batch, &k);
    if (!j) return;
    uint64_t *word = (uint64_t *)(j->payload - TAUT_FRAME_HEADER);
    uint64_t  v = taut_version_of(codec, version, j->payload);
    word[0] = MAGIC | (uint64_t)TAUT_WIRE_VERSION << 32 | (uint64_t)TAUT_FRAME_UNCHECKED << 40 | (uint64_t)codec << 48;
    word[1] = j->n;
    word[2] = *j->len | v << 48;
    word[3] = 0;
}

static __global__ void __launch_bounds__(THREADS)
    frame_open(const __grid_constant__ taut__cuda_batch batch, uint32_t codec, uint32_t oldest, uint32_t version)
{
    uint32_t              k;
    const taut__cuda_job *j = job_at(batch, &k);
    if (!j) return;
    const uint64_t *word = (const uint64_t *)(j->payload - TAUT_FRAME_HEADER);
    uint64_t        flags = word[0] >> 40 & 0xff, v = word[2] >> 48;
    bool good = (word[0] & 0xffffffffffull) == (MAGIC | (uint64_t)TAUT_WIRE_VERSION << 32) && word[0] >> 48 == codec &&
                word[1] == j->n && v >= oldest && v <= version && (word[2] & 0xffffffffffffull) == *j->len;
    /* a checksum, where the host made the frame, is not looked at here; without one there is none */
    good = good && flags <= TAUT_FRAME_UNCHECKED && (flags == 0 || word[3] == 0);
    if (!good) taut_flag(j, TAUT__CUDA_CORRUPT);
}

/* One thread, since slots are as many as ranks: their number of bytes, and the largest of them. */
static __global__ void frame_admit(const uint8_t *slots, uint64_t stride, uint32_t n, uint64_t room, uint64_t *out,
                                   uint32_t *reserved)
{
    uint64_t largest = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t *word = (const uint64_t *)(slots + i * stride);
        uint64_t        said = word[0];
        out[4 * i] = said > room ? 0 : said;
        out[4 * i + 1] = word[1];
        out[4 * i + 2] = said;
        out[4 * i + 3] = (word[1] >> 32) * 16;
        if (said > largest) largest = said;
    }
    if (reserved) *reserved = (uint32_t)((largest + 15) / 16);
}

/* A thread for each word. */
static __global__ void __launch_bounds__(THREADS)
    frame_fields(uint32_t *words, int32_t *codes, uint64_t n, uint32_t per, uint32_t bias, bool join)
{
    uint64_t w = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    uint32_t bits = 32 / per, mask = per == 1 ? 0xffffffffu : (1u << bits) - 1, word = 0;
    if (w * per >= n) return;
    if (!join) word = words[w];
    for (uint32_t k = 0; k < per && w * per + k < n; k++) {
        if (join) word |= ((uint32_t)codes[w * per + k] + bias) << (k * bits);
        else codes[w * per + k] = (int32_t)((word >> (k * bits) & mask) - bias);
    }
    if (join) words[w] = word;
}

/* A thread for each number. */
static __global__ void __launch_bounds__(THREADS)
    frame_combine(double *out, const double *from, uint64_t stride, uint64_t n, uint32_t ranks, uint32_t *any)
{
    uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    double sum = taut__tree_sum(from + i, stride, ranks);
    out[i] = sum;
    if (i == 0 && any && !(sum == 0)) *any = 1;
}

/* Four bytes a thread and turn; where nothing is to be copied that costs a launch and a byte. */
static __global__ void __launch_bounds__(THREADS)
    frame_copy_if(const uint8_t *when, uint32_t *dst, const uint32_t *src, uint64_t words)
{
    if (!*when) return;
    for (uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x; i < words; i += (uint64_t)gridDim.x * THREADS)
        dst[i] = src[i];
}

/* A block for each row. */
static __global__ void __launch_bounds__(THREADS)
    frame_digest(uint64_t *rows, uint64_t stride, uint64_t n, uint32_t first, uint32_t *differs)
{
    TAUT_SHARED(unsigned long long, sum, 1);
    uint64_t *row = rows + blockIdx.x * stride, mine = 0;
    uint32_t  number = first + blockIdx.x;
    if (threadIdx.x == 0) sum[0] = 0;
    __syncthreads();
    for (uint64_t i = threadIdx.x; i < n; i += THREADS) mine += taut__digest_word(row[i], number, i);
    if (mine) atomicAdd(&sum[0], (unsigned long long)mine);
    __syncthreads();
    if (threadIdx.x > 0) return;
    if (!differs) row[n] = sum[0];
    else if (row[n] != sum[0]) atomicMax(differs, number + 1);
}

static taut_status check(const taut__cuda_batch *b, const char *what)
{
    TAUT_TRY(taut_check_batch(b, what));
    return TAUT_OK;
}
static taut_status seal(const taut__cuda_batch *b, uint16_t codec, uint16_t version, taut__cuda_stream s)
{
    TAUT_TRY(check(b, "frame seal"));
    TAUT_LAUNCH(frame_seal, (b->count + THREADS - 1) / THREADS, THREADS, 0, s, *b, (uint32_t)codec, (uint32_t)version);
    return taut_launched("frame seal");
}
static taut_status open(const taut__cuda_batch *b, uint16_t codec, uint16_t oldest, uint16_t version,
                        taut__cuda_stream s)
{
    TAUT_TRY(check(b, "frame open"));
    TAUT_LAUNCH(frame_open, (b->count + THREADS - 1) / THREADS, THREADS, 0, s, *b, (uint32_t)codec, (uint32_t)oldest,
                (uint32_t)version);
    return taut_launched("frame open");
}

static taut_status admit(const uint8_t *slots, uint64_t stride, uint32_t n, uint64_t room, uint64_t *out,
                         uint32_t *reserved, taut__cuda_stream s)
{
    if ((uintptr_t)slots % 8 || stride % 8)
        return taut__fail(TAUT_E_INVALID, "admit: slots at %p, %llu bytes apart: must be multiples of 8",
                          (const void *)slots, (unsigned long long)stride);
    TAUT_LAUNCH(frame_admit, 1, 1, 0, s, slots, stride, n, room, out, reserved);
    return taut_launched("admit");
}
static taut_status fields(uint32_t *words, int32_t *codes, uint64_t n, uint32_t per, uint32_t bias, bool join,
                          taut__cuda_stream s)
{
    if (per == 0 || per > 16 || 32 % per)
        return taut__fail(TAUT_E_RANGE, "fields: %u codes in a word: must be 1, 2, 4, 8 or 16", (unsigned)per);
    uint64_t count = (n + per - 1) / per;
    if (count == 0) return TAUT_OK;
    TAUT_LAUNCH(frame_fields, (unsigned)((count + THREADS - 1) / THREADS), THREADS, 0, s, words, codes, n, per, bias,
                join);
    return taut_launched("fields");
}

static taut_status combine(double *out, const double *from, uint64_t stride, uint64_t n, uint32_t ranks, uint32_t *any,
                           taut__cuda_stream s)
{
    if (ranks == 0 || ranks >> TAUT_TREE_DEPTH)
        return taut__fail(TAUT_E_RANGE, "combine: %u ranks: must be 1..%u", (unsigned)ranks,
                          (1u << TAUT_TREE_DEPTH) - 1);
    if (n == 0) return TAUT_OK;
    TAUT_LAUNCH(frame_combine, (unsigned)((n + THREADS - 1) / THREADS), THREADS, 0, s, out, from, stride, n, ranks,
                any);
    return taut_launched("combine");
}
static taut_status copy_if(const uint8_t *when, void *dst, const void *src, uint64_t bytes, taut__cuda_stream s)
{
    const uint64_t most = 4096; /* blocks of threads */
    uint64_t       words = bytes / 4, blocks = (words + THREADS - 1) / THREADS;
    if (bytes % 4 || ((uintptr_t)dst | (uintptr_t)src) & 3)
        return taut__fail(TAUT_E_INVALID, "copy_if: %llu bytes: must be a multiple of 4, at such an address",
                          (unsigned long long)bytes);
    if (words == 0) return TAUT_OK;
    TAUT_LAUNCH(frame_copy_if, (unsigned)taut__min(blocks, most), THREADS, 0, s, when, (uint32_t *)dst,
                (const uint32_t *)src, words);
    return taut_launched("copy_if");
}

static taut_status digest(void *rows, uint64_t stride, uint64_t n, uint32_t first, uint32_t count, uint32_t *differs,
                          taut__cuda_stream s)
{
    if ((uintptr_t)rows % 8 || stride <= n)
        return taut__fail(TAUT_E_INVALID, "digest: rows of %llu words at %p, %llu words apart", (unsigned long long)n,
                          (const void *)rows, (unsigned long long)stride);
    if (count == 0) return TAUT_OK;
    TAUT_LAUNCH(frame_digest, count, THREADS, 0, s, (uint64_t *)rows, stride, n, first, differs);
    return taut_launched("digest");
}

extern "C" const taut__cuda_frame TAUT_CUDA_TABLE(frame);
extern "C" const taut__cuda_frame TAUT_CUDA_TABLE(frame) = {seal, open, admit, fields, combine, copy_if, digest};
