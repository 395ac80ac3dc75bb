/* nccl_opener.c : a program that opens NCCL, as frameworks do, in the way that its second argument says. LINKED: it is linked with it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef int (*reducing)(const void *, void *, size_t, int, int, void *, void *);
typedef struct api {
    reducing all_reduce, scatter;
    int (*group_start)(void), (*group_end)(void), (*destroy)(void *);
} api;
enum { N = 1 << 20, TIMES = 3, THREADS = 8 };
static float x[N];
static int   comm;

#ifdef LINKED
int ncclAllReduce(const void *, void *, size_t, int, int, void *, void *),
    ncclReduceScatter(const void *, void *, size_t, int, int, void *, void *), ncclGroupStart(void), ncclGroupEnd(void),
    ncclCommDestroy(void *);
/* calls, whose names are bound one by one: what is an address in a table need not be audited */
static int linked_reduce(const void *a, void *b, size_t n, int t, int op, void *c, void *s)
{
    return ncclAllReduce(a, b, n, t, op, c, s);
}
static int linked_scatter(const void *a, void *b, size_t n, int t, int op, void *c, void *s)
{
    return ncclReduceScatter(a, b, n, t, op, c, s);
}
static int linked_start(void) { return ncclGroupStart(); }
static int linked_end(void) { return ncclGroupEnd(); }
static int linked_destroy(void *c) { return ncclCommDestroy(c); }
#endif

static int look(void *lib, const char *version, api *a)
{
    static const char *const name[] = {"ncclAllReduce", "ncclReduceScatter", "ncclGroupStart", "ncclGroupEnd",
                                       "ncclCommDestroy"};
    for (size_t i = 0; i < 5; i++) {
        void *f = version ? dlvsym(lib, name[i], version) : dlsym(lib, name[i]);
        if (!f) return 1;
        memcpy((char *)a + i * sizeof f, &f, sizeof f);
    }
    return 0;
}

/* Three sums, one of them in a group, and a scatter. */
static int use(const api *a)
{
    int bad = a->all_reduce(x, x, N, 7, 0, &comm, NULL) | a->all_reduce(x, x, N, 7, 0, &comm, NULL);
    bad |= a->group_start() | a->all_reduce(x, x, N, 7, 0, &comm, NULL) | a->group_end();
    bad |= a->scatter(x, x, N / 4, 7, 0, &comm, NULL);
    return bad | a->destroy(&comm);
}

static void *of_thread(void *lib)
{
    static api         each[THREADS];
    static _Atomic int n;
    api               *a = &each[n++];
    int                bad = look(lib, NULL, a);
    for (int i = 0; i < TIMES && !bad; i++) bad = a->all_reduce(x, x, N, 7, 0, &comm, NULL);
    return bad ? lib : NULL;
}

static int threads(void *lib)
{
    pthread_t t[THREADS];
    void     *bad;
    api       a;
    int       n = 0;
    for (int i = 0; i < THREADS; i++) pthread_create(&t[i], NULL, of_thread, lib);
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], &bad), n += bad != NULL;
    return look(lib, NULL, &a) | a.scatter(x, x, N / 4, 7, 0, &comm, NULL) | a.destroy(&comm) | n;
}

static int by(const char *how, const char *path, const char *second)
{
    int flags = RTLD_NOW | (strcmp(how, "global") == 0 ? RTLD_GLOBAL : RTLD_LOCAL);
    api a = {0}, b = {0};
#ifdef LINKED
    return use(&(api){linked_reduce, linked_scatter, linked_start, linked_end, linked_destroy});
#endif
    void *lib = strcmp(how, "dlmopen") == 0 ? dlmopen(LM_ID_NEWLM, path, flags) : dlopen(path, flags);
    if (!lib) return puts("cannot be opened"), 3;
    if (strcmp(how, "module") == 0) {
        void *f = dlsym(lib, "module");
        int (*module)(void);
        memcpy(&module, &f, sizeof f);
        return module();
    }
    if (strcmp(how, "threads") == 0) return threads(lib);
    if (look(lib, strcmp(how, "dlvsym") == 0 ? "NCCL_2.0" : NULL, &a)) return puts("a name is missing"), 4;
    if (strcmp(how, "again") == 0) {
        if (dlclose(lib) || !(lib = dlopen(path, flags)) || look(lib, NULL, &a)) return 5;
    }
    if (strcmp(how, "second") == 0) {
        void *other = dlopen(second, flags);
        if (!other || look(other, NULL, &b) || use(&b)) return 6;
    }
    int bad = use(&a);
    /* who has called it may close it and open it again, and finds what was there */
    if (strcmp(how, "closed") == 0 && (dlclose(lib) || !dlopen(path, flags | RTLD_NOLOAD))) return 7;
    return bad;
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    int bad = by(argv[2], argv[1], argc > 3 ? argv[3] : NULL);
    fflush(NULL);
    return bad;
}
