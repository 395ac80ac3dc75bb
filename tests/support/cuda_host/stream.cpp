/* stream.cpp : see stream.h. One lock: work of all streams runs one piece after the other, on whichever thread waits. */
#include "stream.h"
#include "memory.h"
#include "fiber.h"
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

typedef std::function<void()> piece;

struct CUgraph_st {
    std::vector<piece> work;
};
struct CUgraphExec_st {
    std::vector<piece> work;
};
struct CUstream_st {
    std::deque<piece>           queue;
    uint64_t                    enqueued = 0, run = 0;
    bool                        lazy = false, running = false;
    std::unique_ptr<CUgraph_st> capture;
    bool                        spoiled = false; /* the capture cannot be ended well */
    cudaStreamCaptureMode       mode = cudaStreamCaptureModeGlobal;
    std::thread::id             by;
};
struct CUevent_st {
    CUstream_st *stream = nullptr;
    uint64_t     position = 0; /* done when the stream has run this many */
    double       when = 0;
};

namespace cuda_host
{

static std::recursive_mutex                   mutex;
typedef std::lock_guard<std::recursive_mutex> lock;
static thread_local cudaError_t               last = cudaSuccess;
static cudaError_t                            driver = cudaSuccess;
static eagerness                              wanted = eagerness::by_seed;
static std::vector<CUstream_st *>             streams;
static CUstream_st                            default_stream;
static bool                                   default_ready;

static cudaError_t told(cudaError_t e)
{
    if (e != cudaSuccess) last = e;
    return e;
}

static bool lazy_by_seed() { return wanted == eagerness::lazy || (wanted == eagerness::by_seed && draw() >> 40 & 1); }

static CUstream_st *stream_of(cudaStream_t s)
{
    if (s) return s;
    if (!default_ready) {
        default_stream.lazy = lazy_by_seed();
        default_ready = true;
    }
    return &default_stream;
}

void set_eagerness(eagerness e)
{
    lock hold(mutex);
    wanted = e;
    default_ready = false;
}
static int driver_version = 13000, capability = 80;
void       set_driver(cudaError_t answer, int version) { driver = answer, driver_version = version; }
void       set_capability(int tenfold) { capability = tenfold; }

/* Runs the stream's work up to and including piece number `upto`. */
static void drain(CUstream_st *s, uint64_t upto)
{
    if (s->running) return; /* a cycle of waits cannot be built: waits name what was enqueued before them */
    while (s->run < upto && !s->queue.empty()) {
        piece p = std::move(s->queue.front());
        s->queue.pop_front();
        s->running = true;
        p();
        s->running = false;
        s->run++;
    }
}

static void drain_all()
{
    for (CUstream_st *s : streams) drain(s, UINT64_MAX);
    drain(&default_stream, UINT64_MAX);
}

static cudaError_t enqueue(cudaStream_t stream, piece p)
{
    lock         hold(mutex);
    CUstream_st *s = stream_of(stream);
    if (s->capture) {
        s->capture->work.push_back(std::move(p));
        return cudaSuccess;
    }
    if (s == &default_stream)
        for (CUstream_st *other : streams) drain(other, UINT64_MAX);
    s->queue.push_back(std::move(p));
    s->enqueued++;
    if (!s->lazy || draw() % 16 == 0) drain(s, UINT64_MAX);
    return cudaSuccess;
}

void enqueue_launch(launch l, cudaStream_t stream)
{
    uint64_t threads = (uint64_t)l.block.x * l.block.y * l.block.z;
    if (driver != cudaSuccess) {
        told(driver);
        return;
    }
    if (threads < 1 || threads > 1024 || l.block.z > 64 || l.grid.x < 1 || l.grid.x > 0x7fffffffu || l.grid.y < 1 ||
        l.grid.y > 65535 || l.grid.z < 1 || l.grid.z > 65535 || l.shared_bytes > (227u << 10)) {
        told(cudaErrorInvalidConfiguration);
        return;
    }
    l.seed = draw();
    enqueue(stream, [l]() { run(l); });
}

static cudaError_t take_told(void **p, size_t bytes, bool device, CUmemPoolHandle_st *pool)
{
    *p = nullptr;
    if (device && driver != cudaSuccess) return told(driver);
    if (bytes == 0) return cudaSuccess;
    *p = take(bytes, device, pool);
    return *p ? cudaSuccess : told(cudaErrorMemoryAllocation);
}

} // namespace cuda_host

using namespace cuda_host;

/* ---- errors, devices ---- */

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorNotReady: return "device not ready";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    }
    return "unrecognized error code";
}
const char *cudaGetErrorName(cudaError_t e) { return e == cudaSuccess ? "cudaSuccess" : "cudaError"; }
cudaError_t cudaGetLastError()
{
    cudaError_t e = last;
    last = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError() { return last; }
cudaError_t cudaGetDeviceCount(int *count)
{
    *count = driver == cudaSuccess ? 1 : 0;
    return told(driver);
}
cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return told(driver);
}
cudaError_t cudaSetDevice(int device)
{
    return told(driver != cudaSuccess ? driver : device == 0 ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    memset(p, 0, sizeof *p);
    if (device != 0 || driver != cudaSuccess) return told(cudaErrorInvalidValue);
    snprintf(p->name, sizeof p->name, "execution model on the CPU");
    p->totalGlobalMem = memory_limit() ? memory_limit() : (size_t)8 << 30;
    p->major = cuda_host::capability / 10, p->minor = cuda_host::capability % 10, p->multiProcessorCount = 4;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version)
{
    *version = cuda_host::driver_version;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

static thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;
cudaError_t                               cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode)
{
    std::swap(*mode, thread_mode);
    return told(driver);
}

/* Of calls that wait, ask or allocate. */
static bool capturing()
{
    for (CUstream_st *s : streams) {
        bool mine = s->by == std::this_thread::get_id();
        if (!s->capture || thread_mode == cudaStreamCaptureModeRelaxed) continue;
        if (mine ? s->mode == cudaStreamCaptureModeRelaxed
                 : s->mode != cudaStreamCaptureModeGlobal || thread_mode != cudaStreamCaptureModeGlobal)
            continue;
        s->spoiled = true;
        return true;
    }
    return false;
}

cudaError_t cudaDeviceSynchronize()
{
    lock hold(mutex);
    if (capturing()) return told(cudaErrorStreamCaptureUnsupported);
    drain_all();
    give_memory_back();
    return told(driver);
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    lock hold(mutex);
    if (capturing()) return told(cudaErrorStreamCaptureUnsupported);
    return take_told(p, bytes, true, nullptr);
}
cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    lock hold(mutex);
    if (capturing()) return told(cudaErrorStreamCaptureUnsupported);
    return take_told(p, bytes, false, nullptr);
}
cudaError_t cudaFree(void *p)
{
    lock hold(mutex);
    if (!p) return cudaSuccess;
    if (capturing()) return told(cudaErrorStreamCaptureUnsupported);
    drain_all();
    if (!is_taken(p)) return told(cudaErrorInvalidValue);
    bury((char *)p);
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p) { return cudaFree(p); }
cudaError_t cudaMallocAsync(void **p, size_t bytes, cudaStream_t stream)
{
    lock hold(mutex);
    return cudaMallocFromPoolAsync(p, bytes, pool_of_driver(), stream);
}
cudaError_t cudaMallocFromPoolAsync(void **p, size_t bytes, cudaMemPool_t pool, cudaStream_t stream)
{
    lock hold(mutex);
    if (stream_of(stream)->capture) return told(cudaErrorStreamCaptureUnsupported);
    return take_told(p, bytes, true, pool);
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t *pool, const cudaMemPoolProps *)
{
    lock hold(mutex);
    *pool = make_pool();
    return told(driver);
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr, void *value)
{
    pool->threshold = *(const uint64_t *)value;
    return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t keep)
{
    lock hold(mutex);
    if (pool->unused > keep) pool->unused = keep;
    return cudaSuccess;
}
cudaError_t cudaFreeAsync(void *p, cudaStream_t stream)
{
    lock hold(mutex);
    if (!p) return cudaSuccess;
    if (!is_taken(p)) return told(cudaErrorInvalidValue);
    return enqueue(stream, [p]() { bury((char *)p); });
}

static bool kind_fits(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind)
{
    bool in_dst, in_src, to = is_device(dst, bytes, &in_dst), from = is_device(src, bytes, &in_src);
    if (!in_dst || !in_src) return false;
    switch (kind) {
    case cudaMemcpyHostToHost: return !to && !from;
    case cudaMemcpyHostToDevice: return to && !from;
    case cudaMemcpyDeviceToHost: return !to && from;
    case cudaMemcpyDeviceToDevice: return to && from;
    default: return true;
    }
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    lock hold(mutex);
    if (driver != cudaSuccess) return told(driver);
    if (bytes == 0) return cudaSuccess;
    if (!kind_fits(dst, src, bytes, kind)) return told(cudaErrorInvalidValue);
    return enqueue(stream, [=]() { memmove(dst, src, bytes); });
}
cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind)
{
    cudaError_t e = cudaMemcpyAsync(dst, src, bytes, kind, nullptr);
    return e == cudaSuccess ? cudaStreamSynchronize(nullptr) : e;
}
cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream)
{
    lock hold(mutex);
    bool inside;
    if (driver != cudaSuccess) return told(driver);
    if (bytes == 0) return cudaSuccess;
    if (!is_device(dst, bytes, &inside) || !inside) return told(cudaErrorInvalidValue);
    return enqueue(stream, [=]() {
        if (cuda_host::memory_is_set) cuda_host::memory_is_set(dst, bytes);
        memset(dst, value, bytes);
    });
}
cudaError_t cudaMemset2DAsync(void *dst, size_t pitch, int value, size_t width, size_t height, cudaStream_t stream)
{
    cudaError_t e = width > pitch ? told(cudaErrorInvalidValue) : cudaSuccess;
    for (size_t i = 0; i < height && e == cudaSuccess; i++)
        e = cudaMemsetAsync((char *)dst + i * pitch, value, width, stream);
    return e;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p)
{
    lock          hold(mutex);
    const region *r = region_of(p, nullptr);
    memset(a, 0, sizeof *a);
    if (driver != cudaSuccess) return told(driver);
    a->type = !r ? cudaMemoryTypeUnregistered : r->device ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
    if (r && r->device) a->devicePointer = (void *)p, a->device = r->number;
    if (r && !r->device) a->hostPointer = (void *)p;
    return cudaSuccess;
}

/* ---- streams, events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    lock hold(mutex);
    *stream = nullptr;
    if (driver != cudaSuccess) return told(driver);
    *stream = new CUstream_st;
    (*stream)->lazy = lazy_by_seed();
    streams.push_back(*stream);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    lock hold(mutex);
    if (!stream) return told(cudaErrorInvalidResourceHandle);
    drain(stream, UINT64_MAX);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == stream) streams.erase(streams.begin() + (ptrdiff_t)i);
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    lock         hold(mutex);
    CUstream_st *s = stream_of(stream);
    if (s->capture) {
        s->spoiled = true;
        return told(cudaErrorStreamCaptureUnsupported);
    }
    if (capturing()) return told(cudaErrorStreamCaptureUnsupported);
    if (!stream) drain_all();
    drain(s, UINT64_MAX);
    give_memory_back();
    return told(driver);
}
/* What somebody only looks at goes on all the same, a piece at a time; the answer is that of before. */
static void meanwhile(CUstream_st *s)
{
    if (!s->capture && !s->queue.empty()) drain(s, s->run + 1);
}
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    lock         hold(mutex);
    CUstream_st *s = stream_of(stream);
    if (capturing()) return told(cudaErrorStreamCaptureUnsupported);
    if (s->queue.empty()) return cudaSuccess;
    meanwhile(s);
    return cudaErrorNotReady;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = new CUevent_st;
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    lock hold(mutex);
    if (event->stream) drain(event->stream, event->position);
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    lock         hold(mutex);
    CUstream_st *s = stream_of(stream);
    if (s->capture) return told(cudaErrorStreamCaptureUnsupported);
    event->stream = s;
    event->position = s->enqueued + 1;
    return enqueue(stream, [event]() {
        event->when = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    lock         hold(mutex);
    CUstream_st *from = event->stream;
    uint64_t     position = event->position;
    if (!from || stream_of(stream)->capture) return from ? told(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
    return enqueue(stream, [from, position]() { drain(from, position); });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    lock hold(mutex);
    if (capturing()) return told(cudaErrorStreamCaptureUnsupported);
    if (event->stream) drain(event->stream, event->position);
    give_memory_back();
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    lock hold(mutex);
    if (capturing()) return told(cudaErrorStreamCaptureUnsupported);
    if (!event->stream || event->stream->run >= event->position) return cudaSuccess;
    meanwhile(event->stream);
    return cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    if (cudaEventQuery(from) != cudaSuccess || cudaEventQuery(to) != cudaSuccess) return told(cudaErrorNotReady);
    *ms = (float)((to->when - from->when) * 1e3);
    return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    lock hold(mutex);
    if (!stream) return told(cudaErrorStreamCaptureUnsupported);
    if (stream->capture) return told(cudaErrorInvalidValue);
    stream->capture = std::make_unique<CUgraph_st>();
    stream->spoiled = false;
    stream->mode = mode;
    stream->by = std::this_thread::get_id();
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    lock hold(mutex);
    *status = stream && stream->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    lock hold(mutex);
    *graph = nullptr;
    if (!stream || !stream->capture) return told(cudaErrorInvalidValue);
    std::unique_ptr<CUgraph_st> made = std::move(stream->capture);
    if (stream->spoiled) return told(cudaErrorStreamCaptureInvalidated);
    *graph = made.release();
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = new CUgraphExec_st{graph->work};
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    std::vector<piece> work = exec->work;
    return enqueue(stream, [work]() {
        for (const piece &p : work) p();
    });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}
