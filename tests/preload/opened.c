/* opened.c : a program that is linked with no MPI. opened LIBRARY GLOBAL(0|1): opens one, sums noise in a loop, closes it. With GLOBAL
 * it asks the whole process for MPI_Allreduce, as a plug-in would that was linked with MPI; then the preloaded one answers. Knows
 * MPI's handles by symbol, so for Open MPI only. Prints "worst=E" on rank 0. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 40000, STEPS = 16 };
static float g[N];

int main(int argc, char **argv)
{
    int   global = argc > 2 && atoi(argv[2]), rank, ranks;
    void *mpi = dlopen(argv[1], RTLD_NOW | (global ? RTLD_GLOBAL : RTLD_LOCAL)), *from = global ? RTLD_DEFAULT : mpi;
    if (!mpi) return fprintf(stderr, "%s\n", dlerror()), 1;
    int (*init)(int *, char ***) = (int (*)(int *, char ***))dlsym(from, "MPI_Init");
    int (*finalize)(void) = (int (*)(void))dlsym(from, "MPI_Finalize");
    int (*rank_of)(void *, int *) = (int (*)(void *, int *))dlsym(mpi, "MPI_Comm_rank");
    int (*size_of)(void *, int *) = (int (*)(void *, int *))dlsym(mpi, "MPI_Comm_size");
    int (*allreduce)(const void *, void *, int, void *, void *, void *) =
        (int (*)(const void *, void *, int, void *, void *, void *))dlsym(from, "MPI_Allreduce");
    void *world = dlsym(mpi, "ompi_mpi_comm_world"), *type = dlsym(mpi, "ompi_mpi_float"),
         *sum = dlsym(mpi, "ompi_mpi_op_sum");
    double worst = 0;
    init(&argc, &argv);
    rank_of(world, &rank), size_of(world, &ranks);
    for (int step = 0; step < STEPS; step++) {
        double e = 0, w = 0;
        for (int i = 0; i < N; i++)
            g[i] = (float)((unsigned)(i * 40503 + (rank + 1) * 9973 + step * 131) % 2001) - 1000;
        allreduce((void *)1, g, N, type, sum, world);
        for (int i = 0; i < N; i++) {
            double exact = 0;
            for (int r = 0; r < ranks; r++)
                exact += (float)((unsigned)(i * 40503 + (r + 1) * 9973 + step * 131) % 2001) - 1000;
            e += (g[i] - exact) * (g[i] - exact), w += exact * exact;
        }
        if (e / w > worst) worst = e / w;
    }
    finalize();
    dlclose(mpi);
    if (rank == 0) printf("worst=%.3e\n", worst);
    return 0;
}
