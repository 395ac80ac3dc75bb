/* cuda.c : which kernels there are, and whether a device runs them. The tables are weak: a build without nvcc leaves them out. */
#include "pieces.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

#define TABLE(name) extern const taut__cuda_##name taut__cuda_##name##_gpu __attribute__((weak));
TABLE(device)
TABLE(vec)
TABLE(quant)
TABLE(grid)
TABLE(stats)
TABLE(topk)
TABLE(randk)
TABLE(powersgd)
TABLE(stack)
TABLE(frame)
TABLE(basis)

static const taut__cuda gpu = {
    .name = "gpu",
    .device = &taut__cuda_device_gpu,
    .vec = &taut__cuda_vec_gpu,
    .quant = &taut__cuda_quant_gpu,
    .grid = &taut__cuda_grid_gpu,
    .stats = &taut__cuda_stats_gpu,
    .topk = &taut__cuda_topk_gpu,
    .randk = &taut__cuda_randk_gpu,
    .powersgd = &taut__cuda_powersgd_gpu,
    .stack = &taut__cuda_stack_gpu,
    .frame = &taut__cuda_frame_gpu,
    .basis = &taut__cuda_basis_gpu,
};

static _Atomic(const taut__cuda *) instead;
static pthread_once_t              asked = PTHREAD_ONCE_INIT;
static bool                        usable;
static char                        answer[256];

/* Memory and passes of the space, for whoever asks by place. */
static void offer(bool there)
{
    taut__space_register(TAUT_CUDA, there ? &taut__space_cuda : NULL);
    taut__vectors_register(TAUT_CUDA, there ? &taut__vectors_cuda : NULL);
}

static void ask(void)
{
    if (gpu.device) usable = gpu.device->found(answer, sizeof answer);
    else taut__snprintf(answer, sizeof answer, "built without CUDA kernels");
    if (usable) offer(true);
}

const taut__cuda *taut__cuda_get(const char **why)
{
    const taut__cuda *use = atomic_load(&instead);
    if (use) {
        if (why) *why = use->name;
        return use;
    }
    pthread_once(&asked, ask);
    if (why) *why = answer;
    return usable ? &gpu : NULL;
}

const taut__cuda *taut__cuda_if_used(void)
{
    if (!atomic_load(&instead)) {
        static atomic_bool driver;
        if (!gpu.device) return NULL;
        if (!atomic_load(&driver)) {
            void *loaded =
                dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD); /* CUDA's runtime opens it in its first call */
            if (!loaded) return NULL;
            dlclose(loaded);
            atomic_store(&driver, true);
        }
    }
    return taut__cuda_get(NULL);
}

void taut__cuda_use(const taut__cuda *c)
{
    taut__device_tables_release();
    atomic_store(&instead, c);
    offer(c || usable);
}
