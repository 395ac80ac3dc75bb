/* blas.c : see blas.h. */
#include "blas.h"
#include "../codec.h"

#ifdef TAUT_BLAS_LIBRARY
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

static taut__sgemm   *sgemm;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void open_library(void)
{
    void *lib = dlopen(TAUT_BLAS_LIBRARY, RTLD_NOW | RTLD_LOCAL), *object = lib ? dlsym(lib, "cblas_sgemm") : NULL;
    if (!object) {
        taut__log(TAUT_LOG_WARN, "powersgd", "%s; plain C makes the products", dlerror());
        return;
    }
    memcpy(&sgemm, &object, sizeof sgemm); /* ISO C has no conversion for what dlsym() returns */
}

taut__sgemm *taut__blas_sgemm(void)
{
    pthread_once(&once, open_library);
    return sgemm;
}
#else
taut__sgemm *taut__blas_sgemm(void) { return NULL; }
#endif
