/* nccl_intercept.c : the calls of NCCL that libtaut-preload-nccl.so exports. Loaded before NCCL (LD_PRELOAD), its names come first; what it does not
 * compress goes to NCCL itself, the next library that has the name.
 *
 * Between ncclGroupStart and the outermost ncclGroupEnd a call may only be noted down by NCCL; compressed ones are made of several operations, each
 * of which needs the one before, so they wait until the outermost group has ended, in their order, on their streams. */
#include "nccl_calls.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
typedef int (*reducing)(const void *, void *, size_t, int, int, taut__nccl_comm, struct CUstream_st *);
typedef int (*of_comm)(taut__nccl_comm);

enum { DEFERRED = 4096, INTERNAL_ERROR = 3 };
static _Thread_local int              depth;
static _Thread_local taut__nccl_call *deferred;
static _Thread_local size_t           n_deferred;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static taut__nccl     real;
static struct {
    reducing scatter;
    of_comm  destroy, abort, finalize;
} more;

static void find(const char *name, void *into)
{
    void *f = dlsym(RTLD_NEXT, name);
    memcpy(into, &f, sizeof f);
}

static void look(void)
{
    if (taut__nccl_get(NULL) && taut__nccl_is_given()) real = *taut__nccl_get(NULL);
    else taut__nccl_fill(RTLD_NEXT, &real);
    find("ncclReduceScatter", &more.scatter);
    find("ncclCommDestroy", &more.destroy), find("ncclCommAbort", &more.abort),
        find("ncclCommFinalize", &more.finalize);
    atexit(taut__nccl_report);
}

static const taut__nccl *nccl(void)
{
    pthread_once(&once, look);
    return &real;
}

static int make(const taut__nccl_call *c) { return taut__nccl_make(&real, more.scatter, c); }

static int call(taut__nccl_call c)
{
    if (!nccl()->version) return INTERNAL_ERROR; /* there is no NCCL behind this */
    if (depth == 0) return make(&c);
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

/* The first failure is the group's; the rest is made all the same, since other ranks make it. */
EXPORT int ncclGroupEnd(void);
EXPORT int ncclGroupEnd(void)
{
    if (!nccl()->group_end) return INTERNAL_ERROR;
    int r = real.group_end();
    if (depth > 0) depth--;
    for (size_t i = 0; depth == 0 && i < n_deferred; i++) {
        int each = make(&deferred[i]);
        if (r == TAUT__NCCL_OK) r = each;
    }
    if (depth == 0) n_deferred = 0;
    return r;
}

static int leave(of_comm f, taut__nccl_comm comm)
{
    taut__nccl_forget(comm);
    return f ? f(comm) : INTERNAL_ERROR;
}
static int abandon(of_comm f, taut__nccl_comm comm) /* what is under way ends by it */
{
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
