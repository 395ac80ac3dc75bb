/* cuda_traffic.cpp : bytes of device memory that the CUDA kernels read and write, counted in the execution model, beside the least that any
 * implementation moves.
 *
 *   make cuda-traffic     a Markdown table; exit code 1 where a row moves more than 1.1 times the least
 *   cuda_traffic topk     some of casts, quant, grid, topk, randk
 *
 * The kernels are compiled with the calls before loads and stores that -fsanitize=thread puts there; here they count. Within a launch a
 * byte counts once (again it comes from a cache), and not as read where the launch itself has written it; launches of one operation add
 * up, and so do the bytes that they have cleared beforehand. Shared memory and registers do not count. "asked for": every access counts, which is what caches see. */
#include "tests/support/cuda_host/block.h"
#include "tests/support/cuda_host/control.h"
#include "compressors/codec.h"
#include "compressors/dispatch.h"
extern "C" {
#include "compressors/grid/grid_model.h"
}
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

/* ---- counting ---- */

enum { READ = 1, WRITTEN = 2, BUFFERS = 64 };

struct buffer {
    uint8_t *at, *seen; /* seen: a byte for each, in this launch */
    size_t   bytes;
    bool     scratch;
};
static buffer buffers[BUFFERS];
static int    count;
struct sums {
    double reads, writes, scratch, asked;
};
static sums now;

static void new_launch(const char *)
{
    for (int i = 0; i < count; i++) memset(buffers[i].seen, 0, buffers[i].bytes);
}
static void touch(const void *p, size_t size, bool write)
{
    for (int i = 0; i < count; i++) {
        buffer &b = buffers[i];
        if ((uintptr_t)p - (uintptr_t)b.at >= b.bytes) continue;
        now.asked += (double)size;
        uint8_t *seen = b.seen + ((uintptr_t)p - (uintptr_t)b.at);
        for (size_t k = 0; k < size; k++) {
            bool first = write ? !(seen[k] & WRITTEN) : seen[k] == 0;
            seen[k] |= write ? WRITTEN : READ;
            if (first) (b.scratch ? now.scratch : write ? now.writes : now.reads)++;
        }
        return;
    }
}

static void set(void *p, size_t bytes)
{
    new_launch(nullptr);
    touch(p, bytes, true);
}

extern "C" {
#define HOOKS(n)                                                                                                       \
    void __tsan_read##n(void *p) { touch(p, n, false); }                                                               \
    void __tsan_write##n(void *p) { touch(p, n, true); }                                                               \
    void __tsan_unaligned_read##n(void *p) { touch(p, n, false); }                                                     \
    void __tsan_unaligned_write##n(void *p) { touch(p, n, true); }
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16) void __tsan_read_range(void *p, unsigned long n) { touch(p, n, false); }
void __tsan_write_range(void *p, unsigned long n) { touch(p, n, true); }
void __tsan_init(void) {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void) {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_atomic_thread_fence(int) {}
#define ATOMICS(bits, T)                                                                                               \
    T __tsan_atomic##bits##_load(const volatile T *p, int)                                                             \
    {                                                                                                                  \
        touch((const void *)p, sizeof(T), false);                                                                      \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                                   \
    }                                                                                                                  \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile T *p, T *old, T next, int, int)                         \
    {                                                                                                                  \
        touch((const void *)p, sizeof(T), true);                                                                       \
        return __atomic_compare_exchange_n(p, old, next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                   \
    }
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)
}

/* ---- what is run ---- */

enum { PEERS = 4, SMALL = 1 << 18, LARGE = 1 << 20 };
static uint32_t          N = SMALL; /* elements */
static const taut__cuda *k = &taut__cuda_model;

static void must(taut_status s)
{
    if (s == TAUT_OK) return;
    fprintf(stderr, "cuda_traffic: %s\n", taut_last_error());
    exit(1);
}
template <class T = void> static T *take(size_t bytes, bool scratch = false)
{
    void *p;
    must(k->device->alloc(bytes, &p));
    if (count == BUFFERS) abort();
    buffers[count++] = {(uint8_t *)p, (uint8_t *)calloc(bytes, 1), bytes, scratch};
    return (T *)p;
}
template <class T> static T *give(const T *host, size_t bytes)
{
    T *p = take<T>(bytes);
    must(k->device->copy(p, host, bytes, nullptr));
    must(k->device->wait(nullptr));
    return p;
}
static void release()
{
    while (count > 0) k->device->release(buffers[--count].at), free(buffers[count].seen);
}

static int over;
/* One operation that has been enqueued since begin(): `least` bytes an element beside the payload's; p: how often the payload moves. */
static void row(const char *name, double least, double payload_bytes, double times, const char *why)
{
    must(k->device->wait(nullptr));
    double c = payload_bytes / N, all = least + c * times, moved = (now.reads + now.writes + now.scratch) / N;
    printf("| %s | %.3f | %.3f | %.3f | %.3f | %.2f%s | %.1f |\n", name, now.reads / N, now.writes / N, now.scratch / N,
           all, moved / all, why ? why : "", now.asked / N / all);
    if (moved > 1.1 * all) over++;
    now = sums();
}

static std::vector<float> normal(uint32_t seed, double sigma)
{
    std::vector<float> x(N);
    for (uint32_t i = 0; i < N; i++) {
        double s = -6;
        for (int q = 0; q < 12; q++) s += taut__random32(taut__rng_of(seed, 0), 12 * i + (uint32_t)q) / 4294967296.0;
        x[i] = (float)(s * sigma);
    }
    return x;
}

struct work {
    std::vector<float> x = normal(1, 1), r = normal(2, 0.1);
    taut__cuda_job     j;
    taut__cuda_batch   b;
    bool               residual;
    work(size_t payload, size_t unit, bool with_residual) : residual(with_residual)
    {
        memset(&j, 0, sizeof j);
        j.n = j.elems = N, j.seed = 77;
        j.src = give(x.data(), 4 * N), j.dst = take(4 * N);
        j.payload = take<uint8_t>(payload), j.len = take<uint64_t>(8);
        j.flags = take<uint32_t>(4);
        must(k->device->fill(j.flags, 0, 4, nullptr)), must(k->device->fill(j.dst, 0, 4 * N, nullptr));
        if (residual) j.residual = give(r.data(), 4 * N), j.err = (float *)(uintptr_t)j.residual;
        b = taut__cuda_single(&j, unit);
        must(k->device->wait(nullptr));
        now = sums();
    }
    ~work() { release(); }
    void     scratch(size_t bytes) { b.work = take(bytes, true), b.work_bytes = bytes; }
    uint64_t len() const
    {
        uint64_t n;
        must(k->device->copy(&n, j.len, 8, nullptr));
        must(k->device->wait(nullptr));
        return n;
    }
    double in() const { return residual ? 12 : 4; } /* x, and a residual that is replaced */
};

static void casts()
{
    work w(4 * N, TAUT__CUDA_TILE, false);
    must(k->vec->encode(&w.b, TAUT_F16, true, nullptr)), row("fp16 encode", 4, 2 * N, 1, NULL);
    must(k->vec->decode(&w.b, TAUT_F16, false, nullptr)), row("fp16 decode", 4, 2 * N, 1, NULL);
    must(k->vec->decode(&w.b, TAUT_F16, true, nullptr)), row("fp16 decode, added", 8, 2 * N, 1, NULL);
    work   v(16, TAUT__CUDA_TILE, true);
    double stats[2] = {0, 0};
    v.b.one.stats = give(stats, sizeof stats);
    must(k->vec->input(&v.b, 0, nullptr)), row("input: residual added", 12, 0, 0, NULL);
    must(k->vec->input_norms(&v.b, nullptr)), row("input and norms", 12, 0, 0, NULL);
}

static void quant(quant_params p, const char *name, bool rotated)
{
    char   text[128];
    size_t bytes = quant_payload_bytes(&p, N);
    for (int residual = 0; residual < 2; residual++) {
        work w(bytes, p.bucket, residual);
        must(k->quant->encode(&w.b, &p, nullptr));
        snprintf(text, sizeof text, "%s encode%s", name, residual ? ", residual replaced" : ""),
            row(text, w.in(), (double)bytes, 1, NULL);
        if (residual) continue;
        must(k->quant->decode(&w.b, &p, false, nullptr));
        snprintf(text, sizeof text, "%s decode", name), row(text, 4, (double)bytes, 1, NULL);
        must(k->quant->decode(&w.b, &p, true, nullptr));
        snprintf(text, sizeof text, "%s decode, added", name), row(text, 8, (double)bytes, 1, NULL);
        if (rotated) continue;
        const uint8_t       *peers[PEERS];
        std::vector<uint8_t> payload(bytes);
        must(k->device->copy(payload.data(), w.j.payload, bytes, nullptr)), must(k->device->wait(nullptr));
        for (int i = 0; i < PEERS; i++) peers[i] = give(payload.data(), bytes);
        w.b.one.src = NULL, w.b.one.peers = (const uint8_t *const *)give(peers, sizeof peers), w.b.peer_count = PEERS,
        now = sums();
        must(k->quant->sum_encode(&w.b, &p, nullptr));
        snprintf(text, sizeof text, "%s sum of 4, encoded", name), row(text, 0, (double)bytes, PEERS + 1, NULL);
    }
    if (rotated) return;
    work               w(16, TAUT__CUDA_SPAN, false);
    double             stats[4] = {0, 0, 0, 0};
    const quant_params four[4] = {p, p, p, p};
    w.b.one.stats = give(stats, sizeof stats), now = sums();
    must(k->quant->errors(&w.b, four, 4, nullptr));
    snprintf(text, sizeof text, "%s errors of 4 candidates", name), row(text, 4, 0, 0, NULL);
}

static void grid(bool rans)
{
    char         text[128];
    const char  *name = rans ? "grid rans" : "grid packed";
    const double dead = 0.65;
    const void  *tables = NULL;
    float        step = 0.75f;
    for (int residual = 0; residual < 2; residual++) {
        work w(8 * N, TAUT__CUDA_CHUNK, residual);
        if (rans)
            tables = give((const uint8_t *)taut__grid_tables(), k->grid->table_bytes),
            buffers[count - 1].scratch = true;
        w.b.one.step = give(&step, 4);
        w.scratch(k->grid->encode_work(w.b.units, 4, rans)), now = sums();
        must(k->grid->encode(&w.b, dead, 0, tables, nullptr));
        double bytes = (double)w.len();
        snprintf(text, sizeof text, "%s encode%s", name, residual ? ", residual replaced" : "");
        row(text, w.in(), bytes, 1, " (slots of the chunks under way)");
        if (residual) continue;
        must(k->grid->decode(&w.b, false, tables, nullptr)), snprintf(text, sizeof text, "%s decode", name),
            row(text, 4, bytes, 1, NULL);
        must(k->grid->decode(&w.b, true, tables, nullptr)), snprintf(text, sizeof text, "%s decode, added", name),
            row(text, 8, bytes, 1, NULL);
        w.b.one.codes = take<int32_t>(4 * N);
        must(k->device->fill(w.b.one.codes, 0, 4 * N, nullptr)), must(k->device->wait(nullptr)), now = sums();
        must(k->grid->unpack_add(&w.b, tables, nullptr)), snprintf(text, sizeof text, "%s codes added", name),
            row(text, 8, bytes, 1, NULL);
        if (rans) continue;
        must(k->grid->quantize(&w.b, dead, 1 << 20, nullptr)), row("grid quantize", 8, 0, 0, NULL);
        must(k->grid->dequantize(&w.b, nullptr)), row("grid dequantize", 8, 0, 0, NULL);
        std::vector<uint8_t> payload((size_t)bytes);
        const uint8_t       *peers[PEERS];
        const uint64_t      *lens[PEERS];
        must(k->device->copy(payload.data(), w.j.payload, (size_t)bytes, nullptr)), must(k->device->wait(nullptr));
        for (int i = 0; i < PEERS; i++) peers[i] = give(payload.data(), (size_t)bytes), lens[i] = w.j.len;
        w.b.one.codes = NULL, w.b.peer_count = PEERS;
        w.b.one.peers = (const uint8_t *const *)give(peers, sizeof peers),
        w.b.one.peer_len = (const uint64_t *const *)give(lens, sizeof lens);
        now = sums();
        must(k->grid->sum_pack(&w.b, dead, nullptr));
        row("grid packed sum of 4, packed", 0, bytes * PEERS + (double)w.len(), 1, " (slots of the chunks under way)");
    }
    if (rans) return;
    work   w(16, TAUT__CUDA_CHUNK, false);
    double stats[GRID_STATS] = {0};
    float  steps[4] = {0.5f, 0.7f, 0.9f, 1.1f};
    w.b.one.stats = give(stats, sizeof stats);
    w.scratch(k->stats->work(w.b.units, 1)), now = sums();
    must(k->stats->collect(&w.b, false, nullptr)), row("grid statistics", 4, 0, 0, NULL);
    must(k->stats->errors(&w.b, steps, dead, nullptr)), row("grid errors of 4 steps", 4, 0, 0, NULL);
}

/* What an exact threshold keeps is known only when all has been seen. Until then it lies in memory, where it does not fit into registers: so it is
 * written, read, and written to its place. The residual's zeros can only be written then, too. */
static void topk_encode(double density, int residual, bool given)
{
    char              text[128];
    work              w(8 * N, TAUT__CUDA_TILE, residual);
    taut__topk_choice choice = {0, UINT64_MAX};
    if (given) { /* a slice, with the threshold of the whole tensor */
        taut_calibration  c;
        taut_calibration *at = w.b.one.calibration = take<taut_calibration>(sizeof c);
        uint64_t          list = taut__cuda_list(&w.b.one, 1, density, false);
        w.scratch(k->topk->choose_work(w.b.units, list, 1)), now = sums();
        must(k->topk->choose(&w.b, density, list, nullptr));
        snprintf(text, sizeof text, "topk calibrate, density %g", density), row(text, 4, 0, 0, NULL);
        must(k->device->copy(&c, at, sizeof c, nullptr)), must(k->device->wait(nullptr));
        choice.threshold = (uint32_t)c.u[0], choice.last_tie = c.u[1];
        w.b.one.choice = give(&choice, sizeof choice);
    }
    uint64_t list = taut__cuda_list(&w.b.one, 1, density, given);
    w.scratch(k->topk->encode_work(w.b.units, list, 1, !given)), now = sums();
    must(k->topk->encode(&w.b, density, false, list, nullptr));
    double bytes = (double)w.len();
    snprintf(text, sizeof text, "topk encode, density %g%s%s", density, residual ? ", residual replaced" : "",
             given ? ", threshold given" : "");
    row(text, w.in() + (residual ? 4 * density : 0), bytes, 3, " (what is kept waits in memory)");
    if (residual || given) return;
    list = taut__cuda_list(&w.b.one, 1, density, false);
    w.scratch(k->topk->decode_work(list, 1)), now = sums();
    must(k->topk->decode(&w.b, 0, list, nullptr)), snprintf(text, sizeof text, "topk decode, density %g", density),
        row(text, 4, bytes, 1, NULL);
    must(k->topk->decode(&w.b, 1, list, nullptr));
    snprintf(text, sizeof text, "topk decode, added, density %g", density),
        row(text, 8 * density, bytes, 1, " (table read twice)");
}
static void topk(double density)
{
    N = LARGE; /* what does not depend on the size, a sample and counters, is 50 KB */
    topk_encode(density, 0, false);
    topk_encode(density, 1, false);
    topk_encode(density, 0, true);
    N = SMALL;
}

static void randk(double density)
{
    work   w(4 * N + 64, TAUT__CUDA_TILE, false);
    double bytes;
    must(k->randk->encode(&w.b, density, false, false, nullptr)), bytes = (double)w.len(),
                                                                  row("randk encode", 4, bytes, 1, NULL);
    must(k->randk->decode(&w.b, density, false, false, false, nullptr)), row("randk decode", 4, bytes, 1, NULL);
}

static int    many;
static char **named;
static bool   wanted(const char *family)
{
    for (int i = 1; i < many; i++)
        if (strcmp(named[i], family) == 0) return true;
    return many < 2;
}

int main(int argc, char **argv)
{
    many = argc, named = argv;
    cuda_host::set_workers(1);
    cuda_host::launch_begins = new_launch;
    cuda_host::memory_is_set = set;
    cuda_model_seed(1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("| kernel | read | written | scratch | least | moved / least | asked for / least |");
    puts("|---|---|---|---|---|---|---|");
    if (wanted("casts")) casts();
    quant_params p;
    memset(&p, 0, sizeof p);
    p.bits = 4, p.norm = QUANT_MAXMIN, p.stochastic = true, p.bucket = 512;
    if (wanted("quant")) quant(p, "quant 4 bits", false);
    p.norm = QUANT_ROTATED, p.bucket = 1024;
    if (wanted("quant")) quant(p, "quant 4 bits rotated", true);
    if (wanted("grid")) grid(false), grid(true);
    if (wanted("topk")) topk(0.01), topk(0.1);
    if (wanted("randk")) randk(0.1);
    return over != 0;
}
