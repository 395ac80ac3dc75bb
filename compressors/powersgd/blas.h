/* blas.h : the matrix product of the BLAS that the build found.
 *
 * It is opened when the first powersgd product asks, not linked: OpenBLAS starts a thread for every core as it is loaded, and
 * they spin for a while. A program that never uses low rank, least of all one that only preloads the library, has none of that.
 *
 * Products then run on the thread that asks: ranks share a machine's cores with the program's own work, and OpenBLAS's threads spin behind each
 * product as long as it took. Where the program has opened the same library before, or OPENBLAS_NUM_THREADS or OMP_NUM_THREADS is set,
 * its number of threads stays what it is. */
#ifndef TAUT_BLAS_H
#define TAUT_BLAS_H

/* cblas_sgemm: C (m x n) = alpha op(A) op(B) + beta C, row-major; see cblas.h for the arguments. */
typedef void taut__sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                         const float *b, int ldb, float beta, float *c, int ldc);

enum { TAUT_ROW_MAJOR = 101, TAUT_NO_TRANS = 111, TAUT_TRANS = 112 }; /* as the CBLAS standard has them */

/* NULL: built without, or it cannot be opened, which the log says once. */
taut__sgemm *taut__blas_sgemm(void);

#endif
