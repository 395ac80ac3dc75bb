/* solver.c : conjugate gradients on a Laplacian of side x side points whose columns are spread over the ranks: one large sum of
 * float32 and two dot products of 8 bytes each iteration. solver SIDE; prints the number of iterations. It must not change under
 * a preload library, whose compression would be an error in the operator. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static double total(double x)
{
    MPI_Allreduce(MPI_IN_PLACE, &x, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    return x;
}
static double dot(const float *a, const float *b, size_t from, size_t to)
{
    double s = 0;
    for (size_t i = from; i < to; i++) s += (double)a[i] * b[i];
    return total(s);
}
static void apply(const float *p, float *y, size_t m, size_t from, size_t to)
{
    size_t n = m * m;
    for (size_t i = 0; i < n; i++) y[i] = 0;
    for (size_t j = from; j < to; j++) {
        y[j] += 4.01f * p[j];
        if (j % m) y[j - 1] -= p[j];
        if (j % m < m - 1) y[j + 1] -= p[j];
        if (j >= m) y[j - m] -= p[j];
        if (j < n - m) y[j + m] -= p[j];
    }
    MPI_Allreduce(MPI_IN_PLACE, y, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    int rank, ranks, iterations = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    size_t m = argc > 1 ? (size_t)atoi(argv[1]) : 200, n = m * m, from = n * (size_t)rank / (size_t)ranks,
           to = n * (size_t)(rank + 1) / (size_t)ranks;
    float *x = calloc(n, 4), *r = malloc(4 * n), *p = malloc(4 * n), *y = malloc(4 * n);
    for (size_t i = 0; i < n; i++) p[i] = r[i] = 1 + (float)(i * 2654435761u % 1000) / 1000;
    double rr = dot(r, r, from, to), first = rr;
    for (; iterations < 2000 && rr > 1e-10 * first; iterations++) {
        apply(p, y, m, from, to);
        float a = (float)(rr / dot(p, y, from, to));
        for (size_t i = 0; i < n; i++) x[i] += a * p[i], r[i] -= a * y[i];
        double next = dot(r, r, from, to);
        for (size_t i = 0; i < n; i++) p[i] = r[i] + (float)(next / rr) * p[i];
        rr = next;
    }
    if (rank == 0) printf("iterations=%d residual=%.3e\n", iterations, sqrt(rr / first));
    MPI_Finalize();
    return 0;
}
