/* nccl_table.c : see nccl_table.h. */
#include "nccl_table.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NEEDED, OPTIONAL };
static const struct name {
    const char *name;
    size_t      at;
    int         kind;
} names[] = {
    {"ncclGetVersion", offsetof(taut__nccl, version), NEEDED},
    {"ncclGetErrorString", offsetof(taut__nccl, error_text), NEEDED},
    {"ncclGetLastError", offsetof(taut__nccl, last_error), OPTIONAL},
    {"ncclGetUniqueId", offsetof(taut__nccl, unique_id), NEEDED},
    {"ncclCommInitRankConfig", offsetof(taut__nccl, init), NEEDED},
    {"ncclCommDestroy", offsetof(taut__nccl, destroy), NEEDED},
    {"ncclCommAbort", offsetof(taut__nccl, abort), NEEDED},
    {"ncclCommGetAsyncError", offsetof(taut__nccl, async_error), NEEDED},
    {"ncclCommCount", offsetof(taut__nccl, count), NEEDED},
    {"ncclCommCuDevice", offsetof(taut__nccl, device), NEEDED},
    {"ncclCommUserRank", offsetof(taut__nccl, rank), NEEDED},
    {"ncclGroupStart", offsetof(taut__nccl, group_start), NEEDED},
    {"ncclGroupEnd", offsetof(taut__nccl, group_end), NEEDED},
    {"ncclSend", offsetof(taut__nccl, send), NEEDED},
    {"ncclRecv", offsetof(taut__nccl, recv), NEEDED},
    {"ncclAllReduce", offsetof(taut__nccl, all_reduce), NEEDED},
    {"ncclAllGather", offsetof(taut__nccl, all_gather), NEEDED},
    {"ncclAlltoAll", offsetof(taut__nccl, all_to_all), OPTIONAL},
};
enum { NAMES = sizeof names / sizeof *names };

/* The version first: one that is too old lacks functions, and the version says more. */
static taut_status check_version(const char *library, const taut__nccl *t, int *version)
{
    if (!t->version || t->version(version) != TAUT__NCCL_OK)
        return taut__fail(TAUT_E_UNSUPPORTED, "%s: it does not tell its version", library);
    if (*version >= TAUT__NCCL_LEAST) return TAUT_OK;
    return taut__fail(TAUT_E_UNSUPPORTED, "%s: NCCL version code %d: must be at least %d (2.14)", library, *version,
                      TAUT__NCCL_LEAST);
}

void taut__nccl_fill(void *handle, taut__nccl *t)
{
    for (size_t i = 0; i < NAMES; i++) {
        void *f = dlsym(handle, names[i].name);
        memcpy((char *)t + names[i].at, &f, sizeof f);
    }
}

static taut_status fill(const char *library, void *handle, taut__nccl *t, int *version)
{
    taut__nccl_fill(handle, t);
    TAUT_TRY(check_version(library, t, version));
    for (size_t i = 0; i < NAMES; i++) {
        void *f;
        memcpy(&f, (char *)t + names[i].at, sizeof f);
        if (!f && names[i].kind == NEEDED)
            return taut__fail(TAUT_E_UNSUPPORTED, "%s: it has no %s", library, names[i].name);
    }
    return TAUT_OK;
}

taut_status taut__nccl_open(const char *library, taut__nccl *t, int *version)
{
    memset(t, 0, sizeof *t);
    *version = 0;
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle) return taut__fail(TAUT_E_UNSUPPORTED, "NCCL: %s", dlerror());
    taut_status s = fill(library, handle, t, version);
    if (s != TAUT_OK) dlclose(handle); /* else it stays: NCCL has threads */
    return s;
}

static pthread_once_t              once = PTHREAD_ONCE_INIT;
static taut__nccl                  found;
static int                         found_version;
static char                        reason[256];
static bool                        usable;
static _Atomic(const taut__nccl *) given;

static void look(void)
{
    const char *library = getenv("TAUT_NCCL_LIBRARY");
    usable = taut__nccl_open(library && *library ? library : "libnccl.so.2", &found, &found_version) == TAUT_OK;
    if (!usable) snprintf(reason, sizeof reason, "%s", taut_last_error());
}

const taut__nccl *taut__nccl_get(const char **why)
{
    const taut__nccl *test = atomic_load(&given);
    if (test) return test;
    pthread_once(&once, look);
    if (why) *why = reason;
    return usable ? &found : NULL;
}

int taut__nccl_version(void)
{
    const taut__nccl *t = taut__nccl_get(NULL);
    int               v = 0;
    return t && t->version(&v) == TAUT__NCCL_OK ? v : 0;
}

bool taut__nccl_is_given(void) { return atomic_load(&given); }

void taut__nccl_use(const taut__nccl *table) { atomic_store(&given, table); }

taut_status taut__nccl_failed(const taut__nccl *n, taut__nccl_comm comm, int result, const char *call)
{
    const char *more = n->last_error ? n->last_error(comm) : NULL;
    bool        tells = more && *more;
    return taut__fail(TAUT_E_TRANSPORT, "%s: %s%s%.200s", call, n->error_text(result), tells ? ": " : "",
                      tells ? more : "");
}
