/* samples.cu : see samples.h. */
#include "samples.h"
#include "compressors/cuda/cuda_kernel.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

enum { THREADS = 256, BLOCKS = 6, N = THREADS * BLOCKS };

/* ---- right ones ---- */

__global__ void reverse_in_block(const unsigned *in, unsigned *out)
{
    TAUT_SHARED(unsigned, tile, THREADS);
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    tile[threadIdx.x] = in[i];
    __syncthreads();
    out[i] = tile[THREADS - 1 - threadIdx.x];
}

__global__ void words(const unsigned *in, unsigned *out) /* bytes 3, 0 and 2, a byte of i, and a sum in its bounds */
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, v = in[i] * 0x9e3779b9u;
    out[i] = __byte_perm(v, i, 0x4203) ^ (unsigned)__viaddmin_s32_relu((int)v, 5, 1000);
}

/* An inclusive sum over a warp, by shuffles, then over the block. */
__global__ void scan_block(const unsigned *in, unsigned *out)
{
    TAUT_SHARED(unsigned, totals, THREADS / 32);
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, v = in[i];
    for (unsigned d = 1; d < 32; d *= 2) {
        unsigned other = __shfl_up_sync(TAUT_ALL, v, d);
        if (TAUT_LANE >= d) v += other;
    }
    if (TAUT_LANE == 31) totals[threadIdx.x / 32] = v;
    __syncthreads();
    for (unsigned w = 0; w < threadIdx.x / 32; w++) v += totals[w];
    out[i] = v;
}

/* Two halves of a warp in different branches, each with operations of its own. */
__global__ void halves(const unsigned *in, unsigned *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, v = in[i], r;
    if (TAUT_LANE < 16) {
        r = __shfl_sync(0x0000ffffu, v, 3, 16) + __popc(__ballot_sync(0x0000ffffu, v & 1));
    } else {
        unsigned m = __match_any_sync(0xffff0000u, v % 3);
        r = m ^ __reduce_add_sync(0xffff0000u, v);
        __syncwarp(0xffff0000u);
    }
    out[i] = r;
}

/* Blocks that take turns by a ticket: each adds its sum to what those before it left. */
__global__ void chained(const unsigned *in, unsigned *out, unsigned *ticket, unsigned long long *chain)
{
    TAUT_SHARED(unsigned, turn, 1);
    TAUT_SHARED(unsigned, sum, 1);
    if (threadIdx.x == 0) turn[0] = atomicAdd(ticket, 1u), sum[0] = 0;
    __syncthreads();
    atomicAdd(&sum[0], in[turn[0] * THREADS + threadIdx.x]);
    __syncthreads();
    if (threadIdx.x != 0) return;
    unsigned long long before = 0;
    while (turn[0] > 0 && (before = atomicAdd(&chain[turn[0] - 1], 0ull)) == 0) __nanosleep(20);
    unsigned total = (unsigned)before + sum[0];
    out[turn[0]] = total;
    atomicExch(&chain[turn[0]], 1ull << 32 | total);
}

__global__ void dynamic_copy(const float4 *in, float4 *out)
{
    TAUT_SHARED_DYNAMIC(float4, tile);
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    tile[threadIdx.x] = in[i];
    __syncthreads();
    out[i] = tile[threadIdx.x ^ 1];
}

/* ---- wrong ones ---- */

__global__ void wrong_no_barrier(const unsigned *in, unsigned *out)
{
    TAUT_SHARED(unsigned, tile, THREADS);
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    tile[threadIdx.x] = in[i];
    out[i] = tile[THREADS - 1 - threadIdx.x];
}

/* The second barrier, before the tile is written again, is missing. */
__global__ void wrong_one_barrier(const unsigned *in, unsigned *out)
{
    TAUT_SHARED(unsigned, tile, THREADS);
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, v = in[i];
    for (int round = 0; round < 3; round++) {
        tile[threadIdx.x] = v;
        __syncthreads();
        v = tile[THREADS - 1 - threadIdx.x];
    }
    out[i] = v;
}

__global__ void wrong_no_syncwarp(const unsigned *in, unsigned *out)
{
    TAUT_SHARED(unsigned, tile, THREADS);
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    tile[threadIdx.x] = in[i];
    out[i] = tile[threadIdx.x ^ 31];
}

__global__ void wrong_barrier_in_branch(const unsigned *in, unsigned *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (in[i] & 1) __syncthreads();
    else __syncthreads();
    out[i] = in[i];
}

__global__ void wrong_barrier_after_exit(const unsigned *in, unsigned *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (threadIdx.x == 77) return;
    __syncthreads();
    out[i] = in[i];
}

__global__ void wrong_mask_of_branch(const unsigned *in, unsigned *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, v = in[i];
    if (TAUT_LANE < 16) v = __shfl_sync(TAUT_ALL, v, 3);
    else v = __shfl_xor_sync(0xffff0000u, v, 1);
    out[i] = v;
}

__global__ void wrong_not_in_mask(const unsigned *in, unsigned *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = __ballot_sync(0x0000ffffu, in[i] & 1);
}

__global__ void wrong_source_outside_mask(const unsigned *in, unsigned *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, v = in[i];
    if (TAUT_LANE < 16) v = __shfl_sync(0x0000ffffu, v, 20);
    out[i] = v;
}

__global__ void wrong_other_operation(const unsigned *in, unsigned *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, v = in[i];
    out[i] = v & 1 ? __ballot_sync(TAUT_ALL, 1) : __reduce_add_sync(TAUT_ALL, v);
}

__global__ void wrong_lane_has_exited(const unsigned *in, unsigned *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (TAUT_LANE == 5) return;
    out[i] = __shfl_xor_sync(TAUT_ALL, in[i], 1);
}

__global__ void wrong_misaligned(const unsigned *in, unsigned *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < N / 4 - 1) out[i] = reinterpret_cast<const uint4 *>(in + 1)[i].x;
}

__global__ void wrong_writes_past_end(const unsigned *in, unsigned *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i + 1] = in[i];
}

__global__ void wrong_reads_far_past_end(const unsigned *in, unsigned *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = in[i + (1u << 20)];
}

__global__ void wrong_shared_past_end(const unsigned *in, unsigned *out)
{
    TAUT_SHARED(unsigned, tile, THREADS);
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, *to = tile;
    to[threadIdx.x + 1] = in[i];
    __syncthreads();
    out[i] = tile[threadIdx.x];
}

__global__ void wrong_shared_not_set(const unsigned *in, unsigned *out)
{
    TAUT_SHARED(unsigned, sum, 1);
    atomicAdd(&sum[0], in[threadIdx.x]);
    __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum[0];
}

/* Blocks are assumed to start in the order of their index. */
__global__ void wrong_block_order(const unsigned *, unsigned *out, unsigned *ticket)
{
    if (threadIdx.x == 0) out[blockIdx.x] = atomicAdd(ticket, 1u);
}

__global__ void wrong_deadlock(const unsigned *in, unsigned *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (threadIdx.x / 32 == 0) __syncwarp();
    else __syncthreads();
    out[i] = in[i];
}

/* ---- how they are run ---- */

struct bench {
    unsigned             *in, *out, *extra;
    cudaStream_t          stream;
    std::vector<unsigned> host, back;
};

static void must(cudaError_t e)
{
    if (e == cudaSuccess) return;
    fprintf(stderr, "samples: %s\n", cudaGetErrorString(e));
    abort();
}

static void open_bench(bench *b)
{
    must(cudaStreamCreate(&b->stream));
    must(cudaMalloc((void **)&b->in, N * sizeof(unsigned)));
    must(cudaMalloc((void **)&b->out, N * sizeof(unsigned)));
    must(cudaMalloc((void **)&b->extra, 64 * sizeof(unsigned)));
    for (unsigned i = 0; i < N; i++) b->host.push_back(i * 2654435761u >> 7);
    b->back.resize(N);
    must(cudaMemcpyAsync(b->in, b->host.data(), N * sizeof(unsigned), cudaMemcpyHostToDevice, b->stream));
    must(cudaMemsetAsync(b->extra, 0, 64 * sizeof(unsigned), b->stream));
}

static void close_bench(bench *b)
{
    must(cudaMemcpyAsync(b->back.data(), b->out, N * sizeof(unsigned), cudaMemcpyDeviceToHost, b->stream));
    must(cudaStreamSynchronize(b->stream));
    must(cudaFree(b->in));
    must(cudaFree(b->out));
    must(cudaFree(b->extra));
    must(cudaStreamDestroy(b->stream));
}

typedef unsigned expected(const bench *b, unsigned i);
static unsigned  same_expected(const bench *b, unsigned i) { return b->host[i]; }
static unsigned  words_expected(const bench *b, unsigned i)
{
    unsigned v = b->host[i] * 0x9e3779b9u, bytes = v >> 24 | (v & 0xff) << 8 | (v & 0xff0000) | (i & 0xff) << 24;
    int      sum = (int)(v + 5);
    return bytes ^ (unsigned)(sum < 0 ? 0 : sum > 1000 ? 1000 : sum);
}
static unsigned reverse_expected(const bench *b, unsigned i)
{
    return b->host[i / THREADS * THREADS + THREADS - 1 - i % THREADS];
}
static unsigned warp_reverse_expected(const bench *b, unsigned i) { return b->host[i ^ 31]; }
static unsigned scan_expected(const bench *b, unsigned i)
{
    unsigned sum = 0;
    for (unsigned k = i / THREADS * THREADS; k <= i; k++) sum += b->host[k];
    return sum;
}
static unsigned halves_expected(const bench *b, unsigned i)
{
    unsigned base = i / 16 * 16, odd = 0, same = 0, sum = 0;
    for (unsigned k = 0; k < 16; k++) {
        odd += b->host[base + k] & 1;
        sum += b->host[base + k];
        same |= (unsigned)(b->host[base + k] % 3 == b->host[i] % 3) << (16 + k);
    }
    return i / 16 % 2 == 0 ? b->host[base + 3] + odd : same ^ sum;
}
static unsigned chained_expected(const bench *b, unsigned i)
{
    unsigned sum = 0;
    for (unsigned k = 0; i < BLOCKS && k < (i + 1) * THREADS; k++) sum += b->host[k];
    return i < BLOCKS ? sum : 0xa5a5a5a5u;
}
static unsigned dynamic_expected(const bench *b, unsigned i) { return b->host[i ^ 4]; }
static unsigned order_expected(const bench *, unsigned i) { return i < BLOCKS ? i : 0xa5a5a5a5u; }

typedef void launcher(bench *b);
#define PLAIN(kernel) [](bench *b) { TAUT_LAUNCH(kernel, BLOCKS, THREADS, 0, b->stream, b->in, b->out); }

static void run_chained(bench *b)
{
    TAUT_LAUNCH(chained, BLOCKS, THREADS, 0, b->stream, b->in, b->out, b->extra, (unsigned long long *)(b->extra + 2));
}
static void run_dynamic(bench *b)
{
    TAUT_LAUNCH(dynamic_copy, BLOCKS, THREADS / 4, THREADS / 4 * sizeof(float4), b->stream, (const float4 *)b->in,
                (float4 *)b->out);
}
static void run_order(bench *b) { TAUT_LAUNCH(wrong_block_order, BLOCKS, 64, 0, b->stream, b->in, b->out, b->extra); }

/* The same launch recorded and played back twice. */
static void run_graph(bench *b)
{
    cudaGraph_t     graph;
    cudaGraphExec_t exec;
    must(cudaStreamBeginCapture(b->stream, cudaStreamCaptureModeGlobal));
    TAUT_LAUNCH(reverse_in_block, BLOCKS, THREADS, 0, b->stream, b->in, b->out);
    TAUT_LAUNCH(reverse_in_block, BLOCKS, THREADS, 0, b->stream, b->out, b->in);
    TAUT_LAUNCH(scan_block, BLOCKS, THREADS, 0, b->stream, b->in, b->out);
    must(cudaStreamEndCapture(b->stream, &graph));
    must(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = 0; i < 2; i++) must(cudaGraphLaunch(exec, b->stream));
    must(cudaStreamSynchronize(b->stream));
    must(cudaGraphExecDestroy(exec));
    must(cudaGraphDestroy(graph));
}

/* A second stream waits for an event of the first. */
static void run_two_streams(bench *b)
{
    cudaStream_t other;
    cudaEvent_t  done;
    must(cudaStreamCreate(&other));
    must(cudaEventCreate(&done));
    must(cudaEventRecord(done, b->stream));
    must(cudaStreamWaitEvent(other, done, 0));
    TAUT_LAUNCH(scan_block, BLOCKS, THREADS, 0, other, b->in, b->out);
    must(cudaEventRecord(done, other));
    must(cudaStreamWaitEvent(b->stream, done, 0));
    must(cudaStreamSynchronize(b->stream));
    must(cudaEventDestroy(done));
    must(cudaStreamDestroy(other));
}

/* No wait between the streams: with lazy streams the second one reads what is not there yet. */
static void run_unordered_streams(bench *b)
{
    cudaStream_t other;
    cuda_host::set_eagerness(cuda_host::eagerness::lazy);
    must(cudaStreamCreate(&other));
    TAUT_LAUNCH(reverse_in_block, BLOCKS, THREADS, 0, b->stream, b->in, b->out);
    TAUT_LAUNCH(scan_block, BLOCKS, THREADS, 0, other, b->out, b->in);
    must(cudaStreamSynchronize(other));
    TAUT_LAUNCH(reverse_in_block, BLOCKS, THREADS, 0, other, b->in, b->out);
    must(cudaStreamSynchronize(b->stream));
    must(cudaStreamSynchronize(other));
    must(cudaStreamDestroy(other));
    cuda_host::set_eagerness(cuda_host::eagerness::by_seed);
}

static void run_use_after_free(bench *b)
{
    unsigned *p;
    must(cudaMallocAsync((void **)&p, N * sizeof *p, b->stream));
    must(cudaFreeAsync(p, b->stream));
    TAUT_LAUNCH(scan_block, BLOCKS, THREADS, 0, b->stream, b->in, p);
    must(cudaStreamSynchronize(b->stream));
}

static void run_wait_in_capture(bench *b)
{
    cudaGraph_t graph;
    must(cudaStreamBeginCapture(b->stream, cudaStreamCaptureModeGlobal));
    TAUT_LAUNCH(scan_block, BLOCKS, THREADS, 0, b->stream, b->in, b->out);
    must(cudaStreamSynchronize(b->stream));
    must(cudaStreamEndCapture(b->stream, &graph));
}

static void run_host_pointer(bench *b)
{
    must(cudaMemcpyAsync(b->back.data(), b->out, sizeof(unsigned), cudaMemcpyHostToDevice, b->stream));
}

static void run_too_many_threads(bench *b)
{
    TAUT_LAUNCH(scan_block, BLOCKS, 2048, 0, b->stream, b->in, b->out);
    must(cudaGetLastError());
}

struct sample {
    const char *name;
    launcher   *run;
    expected   *want;
};

static const sample right[] = {
    {"reverse_in_block", PLAIN(reverse_in_block), reverse_expected},
    {"scan_block", PLAIN(scan_block), scan_expected},
    {"halves", PLAIN(halves), halves_expected},
    {"words", PLAIN(words), words_expected},
    {"chained", run_chained, chained_expected},
    {"dynamic_copy", run_dynamic, dynamic_expected},
    {"graph", run_graph, scan_expected},
    {"two_streams", run_two_streams, scan_expected},
};
static const sample wrong[] = {
    {"no_barrier", PLAIN(wrong_no_barrier), reverse_expected},
    {"one_barrier", PLAIN(wrong_one_barrier), reverse_expected},
    {"no_syncwarp", PLAIN(wrong_no_syncwarp), warp_reverse_expected},
    {"barrier_in_branch", PLAIN(wrong_barrier_in_branch), same_expected},
    {"barrier_after_exit", PLAIN(wrong_barrier_after_exit), same_expected},
    {"mask_of_branch", PLAIN(wrong_mask_of_branch), same_expected},
    {"not_in_mask", PLAIN(wrong_not_in_mask), same_expected},
    {"source_outside_mask", PLAIN(wrong_source_outside_mask), same_expected},
    {"other_operation", PLAIN(wrong_other_operation), same_expected},
    {"lane_has_exited", PLAIN(wrong_lane_has_exited), same_expected},
    {"misaligned", PLAIN(wrong_misaligned), same_expected},
    {"writes_past_end", PLAIN(wrong_writes_past_end), same_expected},
    {"reads_far_past_end", PLAIN(wrong_reads_far_past_end), same_expected},
    {"shared_past_end", PLAIN(wrong_shared_past_end), same_expected},
    {"shared_not_set", PLAIN(wrong_shared_not_set), same_expected},
    {"block_order", run_order, order_expected},
    {"deadlock", PLAIN(wrong_deadlock), same_expected},
    {"unordered_streams", run_unordered_streams, scan_expected},
    {"use_after_free", run_use_after_free, same_expected},
    {"wait_in_capture", run_wait_in_capture, same_expected},
    {"host_pointer", run_host_pointer, same_expected},
    {"too_many_threads", run_too_many_threads, same_expected},
};
enum { RIGHT = sizeof right / sizeof *right, WRONG = sizeof wrong / sizeof *wrong };

const char *sample_right(size_t i) { return i < RIGHT ? right[i].name : nullptr; }
const char *sample_wrong(size_t i) { return i < WRONG ? wrong[i].name : nullptr; }

static int run_one(const sample *s, uint64_t seed)
{
    bench b;
    cuda_host::set_seed(seed);
    cuda_host::set_eagerness(cuda_host::eagerness::by_seed);
    open_bench(&b);
    s->run(&b);
    close_bench(&b);
    for (unsigned i = 0; i < N; i++)
        if (b.back[i] != s->want(&b, i)) return 1;
    return 0;
}

int sample_run(const char *name, uint64_t seed)
{
    for (const sample &s : right)
        if (strcmp(s.name, name) == 0) return run_one(&s, seed);
    for (const sample &s : wrong)
        if (strcmp(s.name, name) == 0) return run_one(&s, seed);
    fprintf(stderr, "samples: no sample %s\n", name);
    abort();
}

void sample_tally(const char *kernel, uint64_t *launches, uint64_t *threads)
{
    cuda_host::tally t = cuda_host::kernel_tally(kernel);
    *launches = t.launches;
    *threads = t.threads;
}
