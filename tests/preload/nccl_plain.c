/* nccl_plain.c : a libnccl.so.2 that counts, for tests of what the dynamic loader makes of its names. */
#include <stdio.h>

static _Thread_local int depth;
static _Atomic int       reduces, scatters, in_group;

int         ncclGetVersion(int *v) { return *v = 22809, 0; }
const char *ncclGetErrorString(int r) { return (void)r, "a word"; }
int         ncclCommCount(void *c, int *n) { return (void)c, *n = 2, 0; }
int         ncclCommUserRank(void *c, int *n) { return (void)c, *n = 0, 0; }
int         ncclCommCuDevice(void *c, int *n) { return (void)c, *n = 0, 0; }
int         ncclGroupStart(void) { return depth++, 0; }
int         ncclGroupEnd(void) { return depth--, 0; }
int         ncclCommDestroy(void *c)
{
    (void)c;
    printf("destroyed, %d reduces, %d scatters, %d in a group\n", reduces, scatters, in_group);
    fflush(stdout); /* of a namespace of its own, where it is in one */
    return 0;
}
/* 13 elements: an error */
int ncclAllReduce(const void *a, void *b, size_t n, int type, int op, void *c, void *s)
{
    (void)a, (void)b, (void)type, (void)op, (void)c, (void)s;
    reduces++, in_group += depth > 0;
    return n == 13 ? 4 : 0;
}
int ncclReduceScatter(const void *a, void *b, size_t n, int type, int op, void *c, void *s)
{
    (void)a, (void)b, (void)n, (void)type, (void)op, (void)c, (void)s;
    scatters++, in_group += depth > 0;
    return 0;
}
