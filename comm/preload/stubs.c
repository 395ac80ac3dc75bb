/* stubs.c : libtaut-preload-mpi.so; see preload.h. Needs no MPI itself. */
#include "preload.h"
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AS_MPI, AS_PMPI, NAMES };
static _Atomic(taut__function) target[NAMES][TAUT_CALLS]; /* what a call goes to; NULL: not looked for, or not there */
static pthread_once_t          once = PTHREAD_ONCE_INIT;

static const char *const name_of[TAUT_CALLS] = {
#define TAUT_TEXT(word)       #word
#define TAUT_ITEM(name, args) [TAUT_CALL_##name] = TAUT_TEXT(PMPI_##name),
    TAUT_INTERCEPTED(TAUT_ITEM)
#undef TAUT_ITEM
};
/* Calls of MPI 4 that this MPI may have by another name, or not at all. */
static const char *const early_name_of[TAUT_CALLS] = {
#define TAUT_ITEM(name, args) [TAUT_CALL_##name] = TAUT_TEXT(PMPIX_##name),
    TAUT_INTERCEPTED_NEW(TAUT_ITEM)
#undef TAUT_ITEM
};
static const bool may_lack[TAUT_CALLS] = {
#define TAUT_ITEM(name, args) [TAUT_CALL_##name] = true,
    TAUT_INTERCEPTED_NEW(TAUT_ITEM) TAUT_INTERCEPTED_LARGE(TAUT_ITEM)
#undef TAUT_ITEM
};
TAUT_API extern const int taut_preload_stubs; /* TAUT_STUBS_MARK */
const int                 taut_preload_stubs = 1;

/* ISO C has no conversion for what dlsym() returns. */
static taut__function symbol(void *lib, const char *name)
{
    void          *object = dlsym(lib, name);
    taut__function f;
    memcpy(&f, &object, sizeof f);
    return f;
}

/* ---- the MPI that the program has loaded, which need not be in the global scope (Python extensions) ---- */

static bool named_like_an_mpi(const char *path)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    return strncmp(base, "libmpi.so", 9) == 0 || strncmp(base, "libmpich.so", 11) == 0 ||
           strncmp(base, "libmpi_abi.so", 13) == 0;
}

static int is_mpi(struct dl_phdr_info *info, size_t size, void *found)
{
    (void)size;
    if (!named_like_an_mpi(info->dlpi_name)) return 0;
    snprintf(found, 4096, "%s", info->dlpi_name);
    return 1;
}

static void *loaded_mpi(void)
{
    static char path[4096];
    if (!dl_iterate_phdr(is_mpi, path)) return NULL;
    return dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
}

/* ---- its back end, beside this library ---- */

static void complain(const char *what, const char *why)
{
    fprintf(stderr, "taut: %s: %s; MPI calls pass through as they are\n", what, why);
}

static void open_backend(void *mpi, taut__function found[TAUT_CALLS])
{
    char    path[4096], version[8192] = ""; /* MPI_MAX_LIBRARY_VERSION_STRING of both */
    int     length = 0;
    Dl_info here;
    int (*library_version)(char *, int *) = (int (*)(char *, int *))symbol(mpi, "MPI_Get_library_version");
    if (library_version) library_version(version, &length);
    const char *which = strncmp(version, "Open MPI", 8) == 0 ? "openmpi" : strstr(version, "MPICH") ? "mpich" : NULL;
    if (!which) {
        complain("preload", "this MPI is neither Open MPI nor MPICH");
        return;
    }
    if (!dladdr((void *)name_of, &here) || !strrchr(here.dli_fname, '/')) return;
    snprintf(path, sizeof path, "%.*s/libtaut-preload-%s.so", (int)(strrchr(here.dli_fname, '/') - here.dli_fname),
             here.dli_fname, which);
    void               *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    taut__backend_entry entry = lib ? (taut__backend_entry)symbol(lib, TAUT_BACKEND_ENTRY) : NULL;
    taut__function      wrap[TAUT_CALLS];
    if (!entry) {
        complain(path, dlerror());
        return;
    }
    if (entry(found, wrap) == 0) memcpy(found, wrap, sizeof wrap);
}

/* The next MPI_X behind ours, if it is not the MPI's. */
static taut__function profiler_of(taut__intercepted i, taut__function pmpi)
{
    Dl_info        where, mpi;
    taut__function f = symbol(RTLD_NEXT, name_of[i] + 1);
    void          *at, *of;
    memcpy(&at, &f, sizeof at);
    memcpy(&of, &pmpi, sizeof of);
    if (!f || !dladdr(at, &where) || !dladdr(of, &mpi)) return NULL;
    return where.dli_fbase == mpi.dli_fbase || named_like_an_mpi(where.dli_fname) ? NULL : f;
}

static void find_targets(void)
{
    void          *mpi = loaded_mpi();
    taut__function found[TAUT_CALLS], profiler[TAUT_CALLS];
    bool           whole = mpi != NULL;
    for (int i = 0; i < TAUT_CALLS; i++) {
        found[i] = symbol(mpi ? mpi : RTLD_NEXT, name_of[i]);
        if (!found[i] && early_name_of[i]) found[i] = symbol(mpi ? mpi : RTLD_NEXT, early_name_of[i]);
        if (!found[i] && !mpi) found[i] = symbol(RTLD_NEXT, name_of[i] + 1); /* a stand-in for one rank has no PMPI_X */
        profiler[i] = found[i] && mpi ? profiler_of(i, found[i]) : NULL;
        whole &= found[i] || may_lack[i];
    }
    if (whole) open_backend(mpi, found);
    for (int i = 0; i < TAUT_CALLS; i++) {
        atomic_store_explicit(&target[AS_MPI][i], profiler[i] ? profiler[i] : found[i], memory_order_release);
        atomic_store_explicit(&target[AS_PMPI][i], found[i], memory_order_release);
    }
}

__attribute__((cold, noinline)) static taut__function look_for(int as, taut__intercepted i)
{
    pthread_once(&once, find_targets);
    if (target[as][i]) return target[as][i];
    fprintf(stderr, "taut: preload: this process has loaded no MPI with %s\n", name_of[i] + 1);
    abort();
}

static inline taut__function target_of(int as, taut__intercepted i)
{
    taut__function known = atomic_load_explicit(&target[as][i], memory_order_acquire);
    return __builtin_expect(known != NULL, 1) ? known : look_for(as, i);
}

/* ---- the exported calls: integers and pointers, passed on in the registers and slots that they came in ---- */

#define WORDS_0 void
#define WORDS_1 long a
#define WORDS_2 long a, long b
#define WORDS_3 long a, long b, long c
#define WORDS_5 long a, long b, long c, long d, long e
#define WORDS_4 long a, long b, long c, long d
#define WORDS_6 long a, long b, long c, long d, long e, long f
#define WORDS_7 long a, long b, long c, long d, long e, long f, long g
#define WORDS_8 long a, long b, long c, long d, long e, long f, long g, long h
#define NAMES_0
#define NAMES_1 a
#define NAMES_2 a, b
#define NAMES_3 a, b, c
#define NAMES_5 a, b, c, d, e
#define NAMES_4 a, b, c, d
#define NAMES_6 a, b, c, d, e, f
#define NAMES_7 a, b, c, d, e, f, g
#define NAMES_8 a, b, c, d, e, f, g, h
#define EXPORT(symbol, as, name, args)                                                                                 \
    TAUT_API long symbol(WORDS_##args);                                                                                \
    long symbol(WORDS_##args) { return ((long (*)(WORDS_##args))target_of(as, TAUT_CALL_##name))(NAMES_##args); }
#define TAUT_ITEM(name, args) EXPORT(MPI_##name, AS_MPI, name, args) EXPORT(PMPI_##name, AS_PMPI, name, args)
TAUT_INTERCEPTED(TAUT_ITEM)
#undef TAUT_ITEM
#define TAUT_ITEM(name, args) EXPORT(MPIX_##name, AS_PMPI, name, args) EXPORT(PMPIX_##name, AS_PMPI, name, args)
TAUT_INTERCEPTED_NEW(TAUT_ITEM)
