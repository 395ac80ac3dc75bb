/* nccl_intercept.c : the calls of NCCL that libtaut-preload-nccl.so exports. Loaded before NCCL (LD_PRELOAD), its names come first; what it does not
 * compress goes to NCCL itself, the next library that has the name; or, where NCCL is in nobody's scope (it was opened by dlopen, or belongs to a module
 * of Python), the first one that has been loaded. libtaut-audit-nccl.so brings this library to programs that dlopen NCCL.
 *
 * Between ncclGroupStart and the outermost ncclGroupEnd a call may only be noted down by NCCL; compressed ones are made of several operations, each
 * of which needs the one before, so they wait until the outermost group has ended, in their order, on their streams. What is never compressed is given to
 * NCCL at once, in the group: calls of one group know no order among each other. A thread that drives several devices
 * makes calls of several ranks in one group, since each waits for the others: those are NCCL's own, in a group again. */
#include "nccl_calls.h"
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
typedef int (*reducing)(const void *, void *, size_t, int, int, taut__nccl_comm, struct CUstream_st *);
typedef int (*of_comm)(taut__nccl_comm);

enum { DEFERRED = 4096, INTERNAL_ERROR = 3, PATH = 4096 };
static _Thread_local int              depth;
static _Thread_local taut__nccl_call *deferred;
static _Thread_local size_t           n_deferred;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static taut__nccl     real;
static struct {
    reducing scatter;
    of_comm  destroy, abort, finalize;
} more;

static void find(void *nccl, const char *name, void *into)
{
    void *f = dlsym(nccl, name);
    memcpy(into, &f, sizeof f);
}

static int is_nccl(struct dl_phdr_info *info, size_t size, void *path)
{
    const char *slash = strrchr(info->dlpi_name, '/'), *base = slash ? slash + 1 : info->dlpi_name;
    (void)size;
    if (strncmp(base, "libnccl.so", 10) != 0) return 0;
    snprintf(path, PATH, "%s", info->dlpi_name);
    return 1;
}

/* It stays loaded from now on, whatever the program closes: its functions are called until the program ends. */
static void *behind(void)
{
    char path[PATH];
    if (dlsym(RTLD_NEXT, "ncclGetVersion")) return RTLD_NEXT;
    return dl_iterate_phdr(is_nccl, path) ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : NULL;
}

static void look(void)
{
    bool  test = taut__nccl_is_given();
    void *nccl = test ? RTLD_NEXT : behind();
    if (test) real = *taut__nccl_get(NULL);
    if (!test && nccl) taut__nccl_fill(nccl, &real);
    if (nccl) {
        find(nccl, "ncclReduceScatter", &more.scatter), find(nccl, "ncclCommDestroy", &more.destroy);
        find(nccl, "ncclCommAbort", &more.abort), find(nccl, "ncclCommFinalize", &more.finalize);
    }
    atexit(taut__nccl_report);
}

static const taut__nccl *nccl(void)
{
    pthread_once(&once, look);
    return &real;
}

static int make(const taut__nccl_call *c, bool together) { return taut__nccl_make(&real, more.scatter, c, together); }

static int call(taut__nccl_call c)
{
    if (!nccl()->version) return INTERNAL_ERROR; /* there is no NCCL behind this */
    if (depth == 0) return make(&c, false);
    if (taut__nccl_stays(&real, &c)) return taut__nccl_plain(&real, more.scatter, &c);
    if (!deferred) deferred = malloc(DEFERRED * sizeof *deferred);
    if (!deferred || n_deferred == DEFERRED) return INTERNAL_ERROR;
    deferred[n_deferred++] = c;
    return TAUT__NCCL_OK;
}

EXPORT int ncclAllReduce(const void *from, void *to, size_t count, int type, int op, taut__nccl_comm comm,
                         struct CUstream_st *stream);
EXPORT int ncclAllReduce(const void *from, void *to, size_t count, int type, int op, taut__nccl_comm comm,
                         struct CUstream_st *stream)
{
    return call((taut__nccl_call){
        .from = from, .to = to, .count = count, .type = type, .op = op, .comm = comm, .stream = stream});
}

EXPORT int ncclReduceScatter(const void *from, void *to, size_t count, int type, int op, taut__nccl_comm comm,
                             struct CUstream_st *stream);
EXPORT int ncclReduceScatter(const void *from, void *to, size_t count, int type, int op, taut__nccl_comm comm,
                             struct CUstream_st *stream)
{
    return call((taut__nccl_call){.scatter = true,
                                  .from = from,
                                  .to = to,
                                  .count = count,
                                  .type = type,
                                  .op = op,
                                  .comm = comm,
                                  .stream = stream});
}

EXPORT int ncclGroupStart(void);
EXPORT int ncclGroupStart(void)
{
    if (!nccl()->group_start) return INTERNAL_ERROR;
    depth++;
    return real.group_start();
}

static bool on_several_devices(void)
{
    int first = 0, other = 0;
    for (size_t i = 0; i < n_deferred; i++) {
        if (i > 0 && deferred[i].comm == deferred[i - 1].comm) continue;
        if (!real.device || real.device(deferred[i].comm, i ? &other : &first) != TAUT__NCCL_OK) continue;
        if (i > 0 && other != first) return true;
    }
    return false;
}

/* Of two results in a row: the first failure; "in progress", which is none, where there is no failure. */
static int both(int r, int next)
{
    return r == TAUT__NCCL_OK || (r == TAUT__NCCL_IN_PROGRESS && next != TAUT__NCCL_OK) ? next : r;
}

/* The first failure is the group's; the rest is made all the same, since other ranks make it. */
static int make_deferred(int r)
{
    bool together = on_several_devices();
    for (size_t i = 0; i < n_deferred && together; i++) taut__nccl_settle(&real, deferred[i].comm);
    if (together) r = both(r, real.group_start());
    for (size_t i = 0; i < n_deferred; i++) {
        if (!together) taut__nccl_settle(&real, deferred[i].comm);
        r = both(r, make(&deferred[i], together));
    }
    if (together) r = both(r, real.group_end());
    n_deferred = 0;
    return r;
}

EXPORT int ncclGroupEnd(void);
EXPORT int ncclGroupEnd(void)
{
    if (!nccl()->group_end) return INTERNAL_ERROR;
    int r = real.group_end();
    if (depth > 0) depth--;
    return depth == 0 && n_deferred > 0 ? make_deferred(r) : r;
}

static int leave(of_comm f, taut__nccl_comm comm)
{
    taut__nccl_forget(comm);
    return f ? f(comm) : INTERNAL_ERROR;
}
static int abandon(of_comm f, taut__nccl_comm comm) /* what is under way ends by it */
{
    taut__nccl_abandon(comm);
    int r = f ? f(comm) : INTERNAL_ERROR;
    taut__nccl_forget(comm);
    return r;
}
EXPORT int ncclCommDestroy(taut__nccl_comm comm);
EXPORT int ncclCommDestroy(taut__nccl_comm comm)
{
    return nccl(), leave(more.destroy ? more.destroy : real.destroy, comm);
}
EXPORT int ncclCommAbort(taut__nccl_comm comm);
EXPORT int ncclCommAbort(taut__nccl_comm comm) { return nccl(), abandon(more.abort ? more.abort : real.abort, comm); }
EXPORT int ncclCommFinalize(taut__nccl_comm comm);
EXPORT int ncclCommFinalize(taut__nccl_comm comm) { return nccl(), leave(more.finalize, comm); }
