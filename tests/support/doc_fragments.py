"""Programs around the fragments of C that documents show: what a fragment supposes to be there, and a word about what it did. %s: the fragment."""

READING = r"""
#include <taut_data.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void)
{
    taut_shard     *shard = NULL;
    taut_reader    *reader = NULL;
    taut_block_view view = {.size = sizeof view};
    uint8_t         pixels[28 * 28], file[4] = "none";
    uint64_t        i = 17, b = 0;
    size_t          bytes = 0, shape[3], cap = sizeof pixels;
    %s
    printf("read %%zu bytes and %%llu samples\n", bytes, (unsigned long long)view.n);
    taut_reader_destroy(reader);
    taut_shard_close(shard);
    return bytes != sizeof pixels || view.n == 0;
}
"""

LOADING = r"""
#include <taut_data_mpi.h>
#include <stdio.h>
static uint64_t used, ids;
static void use(const uint8_t *data, size_t bytes, uint64_t id) { used += data && bytes ? 1 : 0, ids += id; }
int main(int argc, char **argv)
{
    const char  *paths[] = {"mnist.taut"};
    size_t       n = 1, i;
    taut_loader *loader;
    taut_batch   batch = TAUT_BATCH_INIT;
    MPI_Init(&argc, &argv);
    %s
    /* 3000 samples, 10%% of them in each of 20 rounds, two ranks */
    printf("%%d samples a rank\n", (int)used);
    MPI_Finalize();
    return used != 3000 || ids == 0;
}
"""

SURVIVING = r"""
#include <taut_mpi.h>
#include <taut_tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void give_up(void) { fprintf(stderr, "%%s\n", taut_last_error()), _exit(1); }
static int  have_checkpoint_of(int rank) { return rank < 0; }
static void broadcast_model(int source, MPI_Comm mpi) { (void)source, (void)mpi; }
static int  rank_main(int rank, const char *root)
{
    static float gradient[4096];
    taut_tcp     where = TAUT_TCP_INIT;
    taut_config  cfg = TAUT_CONFIG_INIT;
    taut_comm   *comm, *smaller = NULL;
    taut_layer  *layer[1];
    taut_status  s;
    MPI_Comm     mpi = MPI_COMM_NULL;
    const void  *blob = NULL;
    size_t       bytes = 0, i;
    uint64_t     step = 0;
    where.rank = rank, where.ranks = 3, where.root = root, cfg.codec = "quant:bits=8", cfg.timeout_ms = 20000;
    if (taut_comm_create_tcp(&where, &cfg, &comm) || taut_layer_register(comm, "w", TAUT_F32, 2, (size_t[]){64, 64}, layer)) give_up();
    if (taut_allreduce(layer[0], gradient, TAUT_MEAN) || taut_step_end(comm)) give_up();
    if (rank == 1) sleep(3), raise(SIGKILL); /* the others are in the next step by then */
    taut_allreduce_start(layer[0], gradient, TAUT_MEAN);
    %s
    if (!smaller) give_up();
    for (i = 0; i < 4096; i++) gradient[i] = (float)rank;
    if (taut_allreduce(layer[0], gradient, TAUT_SUM) || taut_step_end(smaller) || gradient[0] < 1.9f || gradient[0] > 2.1f) give_up();
    printf("%%d of 3 are left, step %%d\n", taut_comm_size(smaller), (int)step);
    fflush(stdout);
    taut_comm_destroy(smaller);
    return 0;
}
int main(void)
{
    char root[64];
    int  ok = 0, status;
    snprintf(root, sizeof root, "127.0.0.1:%%d", 20000 + (int)(getpid() %% 10000));
    for (int r = 0; r < 3; r++)
        if (fork() == 0) _exit(rank_main(r, root));
    while (wait(&status) > 0) ok += WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return ok != 2;
}
"""

NCCL = r"""
#include <taut_mpi.h>
#include <taut_nccl.h>
int main(int argc, char **argv)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    taut_comm  *comm;
    taut_layer *layer = 0;
    float      *grad = 0;
    void       *stream = 0;
    int         device = 0;
    MPI_Init(&argc, &argv);
    %s
    MPI_Finalize();
    return 0;
}
"""
