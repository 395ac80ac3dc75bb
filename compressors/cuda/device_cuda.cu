/* device_cuda.cu : the device as a table of plain functions, so that C code (and the tests' execution model) need no header of
 * CUDA. Errors carry CUDA's words. */
#include "cuda_kernel.h"

static taut_status failed(cudaError_t e, const char *call)
{
    cudaGetLastError(); /* it would be taken for the next launch's */
    if (e == cudaErrorMemoryAllocation) return taut__fail(TAUT_E_NOMEM, "%s: out of device memory", call);
    return taut__fail(TAUT_E_DEVICE, "%s: %s", call, cudaGetErrorString(e));
}
#define TRY_CUDA(call)                                                                                                 \
    do {                                                                                                               \
        cudaError_t e_ = (call);                                                                                       \
        if (e_ != cudaSuccess) return failed(e_, #call);                                                               \
    } while (0)

static bool found(char *text, size_t cap)
{
    int         count = 0, driver = 0, runtime = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    cudaGetLastError();
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (e == cudaErrorInsufficientDriver && driver == 0) {
        taut__snprintf(text, cap, "no driver");
    } else if (e == cudaErrorInsufficientDriver) {
        taut__snprintf(text, cap, "the driver is too old: it runs CUDA %d.%d, this library needs %d.%d", driver / 1000,
                       driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    } else if (e != cudaSuccess || count == 0) {
        taut__snprintf(text, cap, "none: %s", cudaGetErrorString(e));
    } else {
        cudaDeviceProp p;
        e = cudaGetDeviceProperties(&p, 0);
        if (e == cudaSuccess && p.major >= 8) {
            taut__snprintf(text, cap, "%s, %d.%d, %.0f GiB%s", p.name, p.major, p.minor,
                           (double)p.totalGlobalMem / 0x1p30, count > 1 ? ", and others" : "");
            return true;
        }
        taut__snprintf(text, cap, "%s has compute capability %d.%d: must be 8.0 or more", p.name, p.major, p.minor);
    }
    return false;
}

static taut_status alloc(size_t bytes, void **p)
{
    *p = NULL;
    cudaError_t e = cudaMalloc(p, bytes ? bytes : 1);
    if (e == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return taut__fail(TAUT_E_NOMEM, "out of device memory for %zu bytes", bytes);
    }
    return e == cudaSuccess ? TAUT_OK : failed(e, "cudaMalloc");
}
static void release(void *p)
{
    if (p) cudaFree(p);
}
static taut_status alloc_in(size_t bytes, void **p, taut__cuda_stream s)
{
    *p = NULL;
    TRY_CUDA(cudaMallocAsync(p, bytes ? bytes : 1, s));
    return TAUT_OK;
}
static void release_in(void *p, taut__cuda_stream s)
{
    if (p) cudaFreeAsync(p, s);
}
static taut_status copy(void *dst, const void *src, size_t bytes, taut__cuda_stream s)
{
    if (bytes) TRY_CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, s));
    return TAUT_OK;
}
/* Bytes that travel as a launch's argument: no host memory has to stay. */
enum { PARCEL = 16 * 1024, PUT_THREADS = 256 };
struct parcel {
    uint4 word[PARCEL / 16];
};
static __global__ void __launch_bounds__(PUT_THREADS)
    device_put(uint8_t *dst, const __grid_constant__ parcel p, uint32_t bytes)
{
    uint32_t i = 16 * (blockIdx.x * PUT_THREADS + threadIdx.x);
    if (i + 16 <= bytes) *(uint4 *)(dst + i) = p.word[i / 16];
    else
        for (uint32_t k = i; k < bytes; k++) dst[k] = ((const uint8_t *)p.word)[k];
}
static taut_status put(void *dst, const void *src, size_t bytes, taut__cuda_stream s)
{
    if ((uintptr_t)dst & 15) return taut__fail(TAUT_E_INVALID, "put: %p: must be a multiple of 16", dst);
    for (size_t at = 0; at < bytes; at += PARCEL) {
        parcel   p;
        uint32_t n = (uint32_t)taut__min(PARCEL, bytes - at);
        memcpy(&p, (const uint8_t *)src + at, n);
        TAUT_LAUNCH(device_put, (n + 16 * PUT_THREADS - 1) / (16 * PUT_THREADS), PUT_THREADS, 0, s, (uint8_t *)dst + at,
                    p, n);
    }
    return taut_launched("put");
}

static taut_status use(int device)
{
    TRY_CUDA(cudaSetDevice(device));
    return TAUT_OK;
}

static taut_status event_create(void **e)
{
    cudaEvent_t made;
    *e = NULL;
    TRY_CUDA(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
    *e = made;
    return TAUT_OK;
}
static void event_destroy(void *e)
{
    if (e) cudaEventDestroy((cudaEvent_t)e);
}
static taut_status event_record(void *e, taut__cuda_stream s)
{
    TRY_CUDA(cudaEventRecord((cudaEvent_t)e, s));
    return TAUT_OK;
}
static taut_status event_test(void *e, bool *passed)
{
    cudaError_t is = cudaEventQuery((cudaEvent_t)e);
    *passed = is == cudaSuccess;
    return is == cudaSuccess || is == cudaErrorNotReady ? TAUT_OK : failed(is, "cudaEventQuery");
}
static taut_status event_hold(void *e, taut__cuda_stream s)
{
    TRY_CUDA(cudaStreamWaitEvent(s, (cudaEvent_t)e, 0));
    return TAUT_OK;
}

static taut_status fill(void *dst, int byte, size_t bytes, taut__cuda_stream s)
{
    if (bytes) TRY_CUDA(cudaMemsetAsync(dst, byte, bytes, s));
    return TAUT_OK;
}
static taut_status stream_create(taut__cuda_stream *s)
{
    *s = NULL;
    TRY_CUDA(cudaStreamCreateWithFlags(s, cudaStreamNonBlocking));
    return TAUT_OK;
}
static void stream_destroy(taut__cuda_stream s)
{
    if (s) cudaStreamDestroy(s);
}
static taut_status wait(taut__cuda_stream s)
{
    TRY_CUDA(cudaStreamSynchronize(s));
    return TAUT_OK;
}

static taut_status check(const void *p, bool device, const char *what)
{
    cudaPointerAttributes a;
    TRY_CUDA(cudaPointerGetAttributes(&a, p));
    bool is_device = a.type == cudaMemoryTypeDevice || a.type == cudaMemoryTypeManaged;
    if (device && !is_device)
        return taut__fail(TAUT_E_INVALID, "%s: %p is host memory: must be memory of the CUDA device", what, p);
    if (!device && a.type == cudaMemoryTypeDevice)
        return taut__fail(TAUT_E_INVALID, "%s: %p is memory of the CUDA device: must be host memory", what, p);
    return TAUT_OK;
}

static taut_status capture_begin(taut__cuda_stream s)
{
    TRY_CUDA(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    return TAUT_OK;
}
static taut_status capture_end(taut__cuda_stream s, void **graph)
{
    cudaGraph_t     g;
    cudaGraphExec_t exec;
    *graph = NULL;
    TRY_CUDA(cudaStreamEndCapture(s, &g));
    cudaError_t e = cudaGraphInstantiate(&exec, g, 0);
    cudaGraphDestroy(g);
    if (e != cudaSuccess) return failed(e, "cudaGraphInstantiate");
    *graph = exec;
    return TAUT_OK;
}
static taut_status graph_launch(void *graph, taut__cuda_stream s)
{
    TRY_CUDA(cudaGraphLaunch((cudaGraphExec_t)graph, s));
    return TAUT_OK;
}
static void graph_destroy(void *graph)
{
    if (graph) cudaGraphExecDestroy((cudaGraphExec_t)graph);
}

static taut_status clock_events(taut__cuda_stream s, int start, double *seconds)
{
    static thread_local cudaEvent_t from, to;
    if (!from) TRY_CUDA(cudaEventCreate(&from));
    if (!to) TRY_CUDA(cudaEventCreate(&to));
    TRY_CUDA(cudaEventRecord(start ? from : to, s));
    if (start) return TAUT_OK;
    float ms = 0;
    TRY_CUDA(cudaEventSynchronize(to));
    TRY_CUDA(cudaEventElapsedTime(&ms, from, to));
    *seconds = (double)ms * 1e-3;
    return TAUT_OK;
}

static taut_status query(taut__cuda_stream s)
{
    cudaError_t e = cudaStreamQuery(s);
    return e == cudaSuccess || e == cudaErrorNotReady ? TAUT_OK : failed(e, "cudaStreamQuery");
}
static void *host_alloc(size_t bytes)
{
    void *p = NULL;
    if (cudaMallocHost(&p, bytes ? bytes : 1) == cudaSuccess) return memset(p, 0, bytes ? bytes : 1);
    cudaGetLastError();
    return NULL;
}
static void host_release(void *p)
{
    if (p) cudaFreeHost(p);
}
static taut_status capturing(taut__cuda_stream s, bool *is)
{
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    *is = false;
    TRY_CUDA(cudaStreamIsCapturing(s, &status));
    *is = status != cudaStreamCaptureStatusNone;
    return TAUT_OK;
}

extern "C" const taut__cuda_device TAUT_CUDA_TABLE(device);
extern "C" const taut__cuda_device TAUT_CUDA_TABLE(device) = {
    found,      alloc,        release,       alloc_in,     release_in,   copy,          put,           fill,
    use,        event_create, event_destroy, event_record, event_test,   event_hold,    stream_create, stream_destroy,
    wait,       check,        capture_begin, capture_end,  graph_launch, graph_destroy, clock_events,  query,
    host_alloc, host_release, capturing,
};
