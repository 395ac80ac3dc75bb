/* device_cuda.cu : the device as a table of plain functions, so that C code (and the tests' execution model) need no header of
 * CUDA. Errors carry CUDA's words. */
#include "cuda_kernel.h"

static taut_status failed(cudaError_t e, const char *call)
{
    cudaGetLastError(); /* it would be taken for the next launch's */
    if (e == cudaErrorMemoryAllocation) return taut__fail(TAUT_E_NOMEM, "%s: out of device memory", call);
    return taut__fail(TAUT_E_DEVICE, "%s: %s", call, cudaGetErrorString(e));
}
#define TRY_CUDA(call)                                                                                         \
    do {                                                                                                       \
        cudaError_t e_ = (call);                                                                               \
        if (e_ != cudaSuccess) return failed(e_, #call);                                                       \
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
            taut__snprintf(text, cap, "%s, %d.%d, %.0f GiB%s", p.name, p.major, p.minor, (double)p.totalGlobalMem / 0x1p30,
                           count > 1 ? ", and others" : "");
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

extern "C" const taut__cuda_device TAUT_CUDA_TABLE(device);
extern "C" const taut__cuda_device TAUT_CUDA_TABLE(device) = {
    found, alloc, release, alloc_in, release_in, copy, fill, stream_create, stream_destroy, wait, check,
    capture_begin, capture_end, graph_launch, graph_destroy, clock_events,
};
