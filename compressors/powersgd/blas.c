/* blas.c : see blas.h. */
#include "blas.h"
#include "../codec.h"

#ifdef TAUT_BLAS_LIBRARY
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static taut__sgemm   *sgemm;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void *function(void *lib, const char *name, void *pointer) /* ISO C has no conversion for what dlsym() returns */
{
    void *object = lib ? dlsym(lib, name) : NULL;
    if (object) memcpy(pointer, &object, sizeof object);
    return object;
}

/* Somebody else's business: the program has the library itself, or the user has said how many threads it gets. */
static bool decided(void)
{
    static const char *const variable[] = {"OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"};
    void                    *theirs = dlopen(TAUT_BLAS_LIBRARY, RTLD_LAZY | RTLD_NOLOAD);
    if (theirs) dlclose(theirs);
    for (size_t i = 0; i < sizeof variable / sizeof *variable; i++)
        if (getenv(variable[i])) return true;
    return theirs != NULL;
}

static void open_library(void)
{
    bool  left = decided();
    void *lib = dlopen(TAUT_BLAS_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    void (*set_threads)(int);
    if (!function(lib, "cblas_sgemm", &sgemm)) {
        taut__log(TAUT_LOG_WARN, "powersgd", "%s; plain C makes the products", dlerror());
        return;
    }
    if (!left && function(lib, "openblas_set_num_threads", &set_threads)) set_threads(1);
}

taut__sgemm *taut__blas_sgemm(void)
{
    pthread_once(&once, open_library);
    return sgemm;
}
#else
taut__sgemm *taut__blas_sgemm(void) { return NULL; }
#endif
