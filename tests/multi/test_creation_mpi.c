/* test_creation_mpi.c : taut_comm_create_mpi() failing on one rank alone, and ranks that do not come, or stop inside it. test_mpi.sh runs it.
 *   test_creation_mpi [funneled|multiple] [absent|stopped] */
#include "comm/taut_mpi.h"
#include "tests/support/creation.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int rank, size, passed, failed;
static int stops_in_dup = -1; /* rank */

/* MPI's profiling interface: a rank that is stopped while the communicator is duplicated. */
int MPI_Comm_dup(MPI_Comm from, MPI_Comm *to)
{
    if (rank == stops_in_dup) raise(SIGSTOP);
    return PMPI_Comm_dup(from, to);
}

static taut_status create(creation *c, const taut_config *cfg, taut_comm **comm)
{
    (void)c;
    return taut_comm_create_mpi(MPI_COMM_WORLD, cfg, comm);
}

static int least(creation *c, int mine)
{
    int all;
    (void)c;
    MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    return all;
}

static void run(const char *name, taut_status s)
{
    int mine = s == TAUT_OK, all;
    if (!mine) fprintf(stderr, "rank %d of %d: %s: %s\n", rank, size, name, taut_last_error());
    MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    passed += all;
    failed += !all;
}

/* The last rank never calls; the others say so, and end the job. Or it is stopped inside, and a watchdog ends the job. */
static int waits_in_vain(const char *how)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    taut_comm  *comm;
    cfg.timeout_ms = 1500;
    if (rank == size - 1 && strcmp(how, "absent") == 0) {
        sleep(60);
        return 0;
    }
    if (strcmp(how, "stopped") == 0) stops_in_dup = size - 1;
    double      begin = taut__now();
    taut_status s = taut_comm_create_mpi(MPI_COMM_WORLD, &cfg, &comm);
    printf("rank %d: %s after %.1f s: %s\n", rank, taut_status_name(s), taut__now() - begin, taut_last_error());
    fflush(stdout);
    sleep(1);
    MPI_Abort(MPI_COMM_WORLD, 3);
    return 0;
}

int main(int argc, char **argv)
{
    bool funneled = argc > 1 && strcmp(argv[1], "funneled") == 0;
    int  level;
    MPI_Init_thread(&argc, &argv, funneled ? MPI_THREAD_FUNNELED : MPI_THREAD_MULTIPLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (argc > 2) return waits_in_vain(argv[2]);
    creation c = {.rank = rank, .size = size, .create = create, .least = least, .every = 1};
    run("without memory", creation_without_memory(&c));
    run("otherwise", creation_otherwise(&c));
    if (rank == 0) printf("%d passed, %d failed\n", passed, failed);
    MPI_Finalize();
    return failed != 0;
}
