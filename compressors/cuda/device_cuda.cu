/* device_cuda.cu : the device as a table of plain functions, so that C code (and the tests' execution model) need no header of
 * CUDA. Errors carry CUDA's words. */
#include "cuda_kernel.h"
#include <dlfcn.h>
#include <pthread.h>

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

/* While a program captures a stream CUDA forbids calls that wait, ask or allocate, to the capturing thread and, in mode "global", to all threads of the
 * process, and spoils the capture if one is made. Those of ours have nothing to do with what is captured: they run in mode "relaxed". */
struct unrelated {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    bool                  set;
    unrelated() : set(cudaThreadExchangeStreamCaptureMode(&mode) == cudaSuccess) {}
    ~unrelated()
    {
        if (!set || cudaThreadExchangeStreamCaptureMode(&mode) != cudaSuccess) cudaGetLastError();
    }
};

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
    unrelated u;
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
    unrelated u;
    if (p) cudaFree(p);
}

/* ---- memory in stream order ---- from a pool of our own for each device: the driver's takes its memory back from the system, and gives it, whenever
 * somebody waits for the device, as programs do in every step. What is unused goes back with a stream of ours (stream_destroy). */
enum { DEVICES = 64 };
static pthread_mutex_t pools_lock = PTHREAD_MUTEX_INITIALIZER;
static cudaMemPool_t   pools[DEVICES];
static bool            asked[DEVICES];

static cudaMemPool_t make_pool(int device)
{
    cudaMemPoolProps props;
    cudaMemPool_t    pool = NULL;
    uint64_t         most = UINT64_MAX;
    memset(&props, 0, sizeof props);
    props.allocType = cudaMemAllocationTypePinned;
    props.location.type = cudaMemLocationTypeDevice;
    props.location.id = device;
    if (cudaMemPoolCreate(&pool, &props) == cudaSuccess &&
        cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &most) == cudaSuccess)
        return pool;
    cudaGetLastError();
    return NULL;
}
/* Of the thread's device; NULL: the driver's. */
static cudaMemPool_t pool_now(void)
{
    int device = 0;
    if (cudaGetDevice(&device) != cudaSuccess || device < 0 || device >= DEVICES) return cudaGetLastError(), nullptr;
    pthread_mutex_lock(&pools_lock);
    if (!asked[device]) pools[device] = make_pool(device);
    asked[device] = true;
    cudaMemPool_t pool = pools[device];
    pthread_mutex_unlock(&pools_lock);
    return pool;
}
static void trim_pools(void)
{
    pthread_mutex_lock(&pools_lock);
    for (int i = 0; i < DEVICES; i++)
        if (pools[i] && cudaMemPoolTrimTo(pools[i], 0) != cudaSuccess) cudaGetLastError();
    pthread_mutex_unlock(&pools_lock);
}

static taut_status alloc_in(size_t bytes, void **p, taut__cuda_stream s)
{
    unrelated     u;
    cudaMemPool_t pool = pool_now();
    *p = NULL;
    if (pool) TRY_CUDA(cudaMallocFromPoolAsync(p, bytes ? bytes : 1, pool, s));
    else TRY_CUDA(cudaMallocAsync(p, bytes ? bytes : 1, s));
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
    uint32_t i = 16 * (blockIdx.x * PUT_THREADS + threadIdx.x), end = i + 16 < bytes ? i + 16 : bytes;
    if (i + 16 <= bytes && ((uintptr_t)dst & 15) == 0) *(uint4 *)(dst + i) = p.word[i / 16];
    else
        for (uint32_t k = i; k < end; k++) dst[k] = ((const uint8_t *)p.word)[k];
}
static taut_status put(void *dst, const void *src, size_t bytes, taut__cuda_stream s)
{
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

/* Whether anybody has used a device so far: naming it wakes it up, which takes memory there. What cannot be found out counts as used. */
typedef int (*state_of)(int device, unsigned *flags, int *active);
static pthread_once_t looked = PTHREAD_ONCE_INIT;
static state_of       state;
static void           look(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (driver) state = (state_of)dlsym(driver, "cuDevicePrimaryCtxGetState");
    if (driver) dlclose(driver);
}
static int now(void)
{
    int      device = -1, active = 1;
    unsigned flags = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return cudaGetLastError(), -1;
    pthread_once(&looked, look);
    return !state || state(device, &flags, &active) != 0 || active ? device : -1;
}

static taut_status event_create(void **e)
{
    unrelated   u;
    cudaEvent_t made;
    *e = NULL;
    TRY_CUDA(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
    *e = made;
    return TAUT_OK;
}
static void event_destroy(void *e)
{
    unrelated u;
    if (e) cudaEventDestroy((cudaEvent_t)e);
}
static taut_status event_record(void *e, taut__cuda_stream s)
{
    TRY_CUDA(cudaEventRecord((cudaEvent_t)e, s));
    return TAUT_OK;
}
static taut_status event_test(void *e, bool *passed)
{
    unrelated   u;
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
static taut_status fill_rows(void *dst, size_t apart, int byte, size_t bytes, size_t rows, taut__cuda_stream s)
{
    for (size_t i = 0; apart > INT32_MAX && i < rows; i++) TAUT_TRY(fill((char *)dst + i * apart, byte, bytes, s));
    if (apart <= INT32_MAX) TRY_CUDA(cudaMemset2DAsync(dst, apart, byte, bytes, rows, s)); /* the greatest pitch */
    return TAUT_OK;
}
static taut_status stream_create(taut__cuda_stream *s)
{
    unrelated u;
    *s = NULL;
    TRY_CUDA(cudaStreamCreateWithFlags(s, cudaStreamNonBlocking));
    return TAUT_OK;
}
static void stream_destroy(taut__cuda_stream s)
{
    unrelated u;
    if (s) cudaStreamDestroy(s);
    trim_pools();
}
static taut_status wait(taut__cuda_stream s)
{
    unrelated u;
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

static int where(const void *p)
{
    cudaPointerAttributes a;
    if (cudaPointerGetAttributes(&a, p) != cudaSuccess) return cudaGetLastError(), -1;
    return a.type == cudaMemoryTypeDevice ? a.device : -1;
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
    unrelated   u;
    cudaError_t e = cudaStreamQuery(s);
    return e == cudaSuccess || e == cudaErrorNotReady ? TAUT_OK : failed(e, "cudaStreamQuery");
}
static void *host_alloc(size_t bytes)
{
    unrelated u;
    void     *p = NULL;
    if (cudaMallocHost(&p, bytes ? bytes : 1) == cudaSuccess) return memset(p, 0, bytes ? bytes : 1);
    cudaGetLastError();
    return NULL;
}
static void host_release(void *p)
{
    unrelated u;
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
    host_alloc, host_release, capturing,     fill_rows,    where,        now,
};
