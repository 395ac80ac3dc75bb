/* test_blas.c : the BLAS that low rank opens: how many threads it has then, and that they make the right product. */
#include "../../compressors/powersgd/blas.h"
#include "../support/suite.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef TAUT_BLAS_LIBRARY
static int threads_of(void *lib)
{
    int (*count)(void);
    void *object = dlsym(lib, "openblas_get_num_threads");
    if (!object) return -1; /* a BLAS that is not OpenBLAS */
    memcpy(&count, &object, sizeof object);
    return count();
}
static void *opened(int flags) { return dlopen(TAUT_BLAS_LIBRARY, RTLD_NOW | RTLD_LOCAL | flags); }

static void unset(void) { unsetenv("OPENBLAS_NUM_THREADS"), unsetenv("GOTO_NUM_THREADS"), unsetenv("OMP_NUM_THREADS"); }

START_TEST(one_thread_of_its_own)
{
    unset();
    ck_assert_ptr_null(opened(RTLD_NOLOAD)); /* nothing has opened it before */
    ck_assert(taut__blas_sgemm() != NULL);
    int n = threads_of(opened(RTLD_NOLOAD));
    ck_assert_msg(n == 1 || n == -1, "%d threads", n);
}
END_TEST

/* What the program has opened, or the user has decided, keeps its threads. */
START_TEST(left_alone)
{
    unset();
    if (_i) setenv(_i == 1 ? "OPENBLAS_NUM_THREADS" : "OMP_NUM_THREADS", "2", 1);
    void *lib = _i ? NULL : opened(0);
    int   before = lib ? threads_of(lib) : 0;
    ck_assert(taut__blas_sgemm() != NULL);
    int n = threads_of(opened(RTLD_NOLOAD)), cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (n == -1) return;
    if (lib) ck_assert_int_eq(n, before);
    else ck_assert_int_eq(n, cores < 2 ? cores : 2); /* OpenBLAS starts no more than there are cores */
}
END_TEST

START_TEST(product)
{
    const float a[] = {1, 2, 3, 4, 5, 6}, b[] = {1, -1, 2, 0, 3, 1};
    float       c[4] = {9, 9, 9, 9};
    taut__blas_sgemm()(TAUT_ROW_MAJOR, TAUT_NO_TRANS, TAUT_NO_TRANS, 2, 2, 3, 1, a, 3, b, 2, 0, c, 2);
    ck_assert(c[0] == 14 && c[1] == 2 && c[2] == 32 && c[3] == 2);
}
END_TEST
#endif

int main(void)
{
    Suite *s = suite_create("blas");
#ifdef TAUT_BLAS_LIBRARY
    TCase *t = suite_case(s, "threads", 30);
    tcase_add_test(t, one_thread_of_its_own);
    tcase_add_loop_test(t, left_alone, 0, 3);
    tcase_add_test(t, product);
#endif
    return suite_run(s);
}
