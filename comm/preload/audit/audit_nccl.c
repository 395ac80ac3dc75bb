/* audit_nccl.c : libtaut-audit-nccl.so, for programs that open NCCL with dlopen, where what LD_PRELOAD brings is never looked up. The dynamic loader
 * (LD_AUDIT, rtld-audit(7)) says here which objects it loads and which names it binds, by dlsym, dlvsym or in a table of calls; the names that
 * libtaut-preload-nccl.so has, bound to NCCL, are answered with functions of this file.
 *
 * An audit library lives in a namespace of the loader of its own, with a C library of its own, and may not load anything while it is being
 * asked. So these functions hand on the call and nothing else: the first one loads libtaut-preload-nccl.so, which lies beside this file, into
 * the program's namespace, where it finds NCCL by itself. If it cannot be loaded that is said once, and all calls are NCCL's.
 *
 * One NCCL is served: the first that is loaded, in the program's own namespace. A second copy, and one that is opened by dlmopen, keep their
 * names; so do calls that NCCL makes itself, and those of libraries of ours. */
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { PATH = 4096 };

typedef void (*any)(void);
enum { ALL_REDUCE, REDUCE_SCATTER, GROUP_START, GROUP_END, COMM_DESTROY, COMM_ABORT, COMM_FINALIZE, NAMES };
static const char *const name[NAMES] = {"ncclAllReduce",   "ncclReduceScatter", "ncclGroupStart",  "ncclGroupEnd",
                                        "ncclCommDestroy", "ncclCommAbort",     "ncclCommFinalize"};

/* The loader calls with its lock held, programs do not: what both touch is atomic. */
static _Atomic(uintptr_t) nccl;        /* its link map; 0: none */
static _Atomic(any)       real[NAMES]; /* as it was bound */
static any                ours[NAMES]; /* of libtaut-preload-nccl.so, after load() */
static pthread_once_t     once = PTHREAD_ONCE_INIT;

/* ---- calls ---- */

static void complain(const char *why)
{
    fprintf(stderr, "taut: LD_AUDIT: libtaut-preload-nccl.so is not used, and nothing is compressed: %s\n", why);
}

/* Beside this file. */
static bool wrapper_path(char *path)
{
    Dl_info me;
    if (!dladdr((const void *)name, &me) || !me.dli_fname) return 0;
    const char *slash = strrchr(me.dli_fname, '/');
    size_t      folder = slash ? (size_t)(slash - me.dli_fname) + 1 : 0;
    int         n = snprintf(path, PATH, "%.*s%s", (int)folder, me.dli_fname, "libtaut-preload-nccl.so");
    return n > 0 && n < PATH;
}

static void load(void)
{
    char path[PATH];
    if (!wrapper_path(path)) {
        complain("where this library lies is not known");
        return;
    }
    void *handle = dlmopen(LM_ID_BASE, path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        complain(dlerror());
        return;
    }
    for (int i = 0; i < NAMES; i++) {
        void *f = dlsym(handle, name[i]);
        memcpy(&ours[i], &f, sizeof f);
    }
}

/* Ours, else NCCL's, which is known: the name has been bound. */
static any target(int i)
{
    pthread_once(&once, load);
    return ours[i] ? ours[i] : atomic_load(&real[i]);
}

typedef int (*reducing)(const void *, void *, size_t, int, int, void *, void *);
typedef int (*of_comm)(void *);
typedef int (*plain)(void);

static int all_reduce(const void *from, void *to, size_t count, int type, int op, void *comm, void *stream)
{
    return ((reducing)target(ALL_REDUCE))(from, to, count, type, op, comm, stream);
}
static int reduce_scatter(const void *from, void *to, size_t count, int type, int op, void *comm, void *stream)
{
    return ((reducing)target(REDUCE_SCATTER))(from, to, count, type, op, comm, stream);
}
static int group_start(void) { return ((plain)target(GROUP_START))(); }
static int group_end(void) { return ((plain)target(GROUP_END))(); }
static int destroy(void *comm) { return ((of_comm)target(COMM_DESTROY))(comm); }
static int abandon(void *comm) { return ((of_comm)target(COMM_ABORT))(comm); }
static int finalize(void *comm) { return ((of_comm)target(COMM_FINALIZE))(comm); }

static const any instead[NAMES] = {(any)all_reduce, (any)reduce_scatter, (any)group_start, (any)group_end,
                                   (any)destroy,    (any)abandon,        (any)finalize};

/* ---- what the loader asks ---- */

EXPORT unsigned la_version(unsigned version);
EXPORT unsigned la_version(unsigned version) { return version < LAV_CURRENT ? version : LAV_CURRENT; }

static bool starts(const char *path, const char *with)
{
    const char *slash = strrchr(path, '/');
    return strncmp(slash ? slash + 1 : path, with, strlen(with)) == 0;
}

/* The loader asks about bindings from objects with FROM and to those with TO, either being enough, and hands the cookies to la_symbind(). */
EXPORT unsigned la_objopen(struct link_map *map, Lmid_t space, uintptr_t *cookie);
EXPORT unsigned la_objopen(struct link_map *map, Lmid_t space, uintptr_t *cookie)
{
    bool served = space == LM_ID_BASE && !starts(map->l_name, "libtaut");
    *cookie = served ? (uintptr_t)map : 0;
    if (!served) return 0;
    if (!starts(map->l_name, "libnccl.so")) return LA_FLG_BINDFROM;
    if (atomic_load(&nccl)) return 0;
    atomic_store(&nccl, *cookie);
    return LA_FLG_BINDTO;
}

EXPORT unsigned la_objclose(uintptr_t *cookie);
EXPORT unsigned la_objclose(uintptr_t *cookie)
{
    uintptr_t gone = *cookie;
    atomic_compare_exchange_strong(&nccl, &gone, 0);
    return 0;
}

#if UINTPTR_MAX > UINT32_MAX
#define la_symbind la_symbind64
#else
#define la_symbind la_symbind32
#endif
EXPORT uintptr_t la_symbind(ElfW(Sym) * symbol, unsigned index, uintptr_t *from, uintptr_t *to, unsigned *flags,
                            const char *symbol_name);
EXPORT uintptr_t la_symbind(ElfW(Sym) * symbol, unsigned index, uintptr_t *from, uintptr_t *to, unsigned *flags,
                            const char *symbol_name)
{
    (void)index, (void)flags;
    bool served = *from && *from != *to && *to && *to == atomic_load(&nccl);
    for (int i = 0; i < NAMES && served; i++) {
        if (strcmp(symbol_name, name[i]) != 0) continue;
        any f;
        memcpy(&f, &symbol->st_value, sizeof f);
        atomic_store(&real[i], f);
        return (uintptr_t)instead[i];
    }
    return symbol->st_value;
}
