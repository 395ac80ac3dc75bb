/* bad.c : programs with a mistake in them, and ends that come early. bad WHAT [FIRST]: right steps up to step FIRST (14), and from there on
 *   counts     rank 0 sums half as much          types      rank 0 sums ints, the others floats
 *   once       as counts, in one of the calls of that step alone
 *   swap       rank 0 makes a small and a large call in the other order
 *   order      rank 0 takes its buffers in another order, which MPI allows: sums of what was put in
 *   null       all ranks give no buffer, or only the one for what goes in or for what comes out, once: errors, then everything goes on
 *   local      calls that MPI refuses at once: by rank 0 alone, which then makes the right one; non-blocking ones by all. errors: of calls that were not
 *              refused, and of a communicator's attribute that was copied or deleted while nobody did that
 *   exit, kill the last rank leaves, without MPI_Finalize
 *   abort      rank 0 calls MPI_Abort            finalize   sums are under way in MPI_Finalize
 * counts, types and once with a letter before them are of other calls than MPI_Allreduce: i MPI_Iallreduce; w the same, one MPI_Waitall for
 * all of a step's; r MPI_Reduce_scatter_block; v MPI_Reduce_scatter; g MPI_Allgather behind a right reduce-scatter; p persistent requests.
 * And inull: as null, of a non-blocking sum. ERRORS=return in the environment: errors are returned, not fatal.
 * Prints "WHAT done worst=E errors=N" on rank 0 if it gets to the end. What plain MPI makes of a mistake is its business; nothing may hang
 * that does not hang there. */
#include <math.h>
#include <mpi.h>
#ifdef OPEN_MPI
#include <mpi-ext.h>
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LAYERS = 3, STEPS = 24, N = 24576 };
static int   rank, ranks, first = 14;
static float g[LAYERS][N], in[LAYERS][N];

static float value(int r, int l, int step, int i)
{
    return sinf((float)(i % 977) * 1.7f + (float)(r * 31 + l * 7 + step * 3)) +
           0.3f * (float)((i * 7919 + r * 104729) % 1000) / 1000;
}
static int layer_of(const char *what, int r, int k, int step)
{
    return strcmp(what, "order") == 0 && step >= first && r == 0 ? LAYERS - 1 - k : k;
}

static double error_of(const char *what, int k, int step)
{
    double e = 0, w = 0;
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int r = 0; r < ranks; r++) sum += value(r, layer_of(what, r, k, step), step, i);
        double d = g[layer_of(what, rank, k, step)][i] - sum;
        e += d * d, w += sum * sum;
    }
    return e / w;
}

static void leave(const char *what)
{
    if (strcmp(what, "exit") == 0 && rank == ranks - 1) exit(0);
    if (strcmp(what, "kill") == 0 && rank == ranks - 1) raise(SIGKILL);
    if (strcmp(what, "abort") == 0 && rank == 0) MPI_Abort(MPI_COMM_WORLD, 7);
}

static int null_buffers(int behind_request)
{
    MPI_Request q;
    int         bad = 0;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    for (int k = 0; k < 3 && !behind_request; k++)
        bad += MPI_Allreduce(k == 1 ? in[0] : NULL, k == 2 ? g[0] : NULL, N, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD) !=
               MPI_SUCCESS;
    if (behind_request) bad = MPI_Iallreduce(NULL, NULL, N, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &q) != MPI_SUCCESS;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
    return bad;
}

#if MPI_VERSION < 4 && defined(OMPI_HAVE_MPI_EXT_PCOLLREQ)
#define MPI_Allreduce_init MPIX_Allreduce_init
#endif

static MPI_Request started[LAYERS];
static int         behind; /* calls that are waited for together at the end of a step */

/* The call of letter `way`. */
static int sum(char way, float *x, float *part, int count, int right, MPI_Datatype type)
{
    MPI_Request q = MPI_REQUEST_NULL;
    int         each[64], rc = MPI_SUCCESS;
    for (int r = 0; r < ranks; r++) each[r] = count / ranks;
    if (way == 'r') return MPI_Reduce_scatter_block(x, part, count / ranks, type, MPI_SUM, MPI_COMM_WORLD);
    if (way == 'v') return MPI_Reduce_scatter(x, part, each, type, MPI_SUM, MPI_COMM_WORLD);
    if (way == 'g') {
        rc = MPI_Reduce_scatter_block(x, part, right / ranks, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        return MPI_Allgather(part, count / ranks, type, x, count / ranks, type, MPI_COMM_WORLD) + rc;
    }
    if (way == 'p') {
        rc = MPI_Allreduce_init(MPI_IN_PLACE, x, count, type, MPI_SUM, MPI_COMM_WORLD, MPI_INFO_NULL, &q);
        rc += MPI_Start(&q) + MPI_Wait(&q, MPI_STATUS_IGNORE);
        return rc + MPI_Request_free(&q);
    }
    if (way == 'w') return MPI_Iallreduce(MPI_IN_PLACE, x, count, type, MPI_SUM, MPI_COMM_WORLD, &started[behind++]);
    if (way != 'i') return MPI_Allreduce(MPI_IN_PLACE, x, count, type, MPI_SUM, MPI_COMM_WORLD);
    rc = MPI_Iallreduce(MPI_IN_PLACE, x, count, type, MPI_SUM, MPI_COMM_WORLD, &q);
    return rc + MPI_Wait(&q, MPI_STATUS_IGNORE);
}

static int touched;
static int copied(MPI_Comm c, int key, void *extra, void *in, void *out, int *keep)
{
    return *keep = 0, touched++, MPI_SUCCESS;
}
static int deleted(MPI_Comm c, int key, void *value, void *extra) { return touched++, MPI_SUCCESS; }

static int refusals(int step)
{
    static MPI_Comm own = MPI_COMM_NULL;
    MPI_Request     q = MPI_REQUEST_NULL;
    int             missing = 0, key;
    if (own == MPI_COMM_NULL) {
        MPI_Comm_dup(MPI_COMM_WORLD, &own);
        MPI_Comm_set_errhandler(own, MPI_ERRORS_RETURN);
        MPI_Comm_create_keyval(copied, deleted, &key, NULL);
        MPI_Comm_set_attr(own, key, &touched), MPI_Comm_set_attr(MPI_COMM_SELF, key, &touched);
    }
    if (rank == 0 && step % 3 == 1) {
        missing += MPI_Allreduce(in[0], g[0], N, MPI_DATATYPE_NULL, MPI_SUM, own) == MPI_SUCCESS;
        missing += MPI_Allreduce(in[0], g[0], N, MPI_FLOAT, MPI_OP_NULL, own) == MPI_SUCCESS;
        missing += MPI_Iallreduce(in[0], g[0], N, MPI_FLOAT, MPI_OP_NULL, own, &q) == MPI_SUCCESS;
    }
    for (int i = 0; i < N; i++) in[0][i] = value(rank, 0, step, i);
    missing += MPI_Allreduce(in[0], g[0], N, MPI_FLOAT, MPI_SUM, own) != MPI_SUCCESS;
    if (step % 3 ==
        2) { /* one buffer for what goes in and what comes out; Open MPI tells the handler of MPI_COMM_WORLD */
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
        missing += MPI_Iallreduce(in[0], in[0], N, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &q) == MPI_SUCCESS;
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
    }
    return missing + touched;
}

static char way_of(const char *what) /* 'b': blocking */
{
    static const char *const mistakes[] = {"counts", "types", "once"};
    for (int i = 0; i < 3; i++)
        if (strcmp(what + 1, mistakes[i]) == 0) return what[0];
    return 'b';
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "none";
    double      worst = 0, one = 1;
    int         errors = 0;
    char        way = way_of(what);
    if (argc > 2) first = atoi(argv[2]);
    const char *mistake = what + (way != 'b');
    MPI_Init(&argc, &argv);
    if (getenv("ERRORS")) MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (int step = 0; step < STEPS; step++) {
        int wrong = step >= first;
        if (wrong) leave(what);
        if (strcmp(what, "local") == 0) errors += refusals(step);
        if (step == first && strstr(what, "null")) errors += null_buffers(what[0] == 'i');
        for (int k = 0; k < LAYERS; k++) {
            int l = layer_of(what, rank, k, step), count = N;
            int mine = wrong && rank == 0 && (strcmp(mistake, "once") != 0 || (step == first && k == 1));
            for (int i = 0; i < N; i++) g[l][i] = value(rank, l, step, i);
            if (wrong && rank == 0 && k == 1 && strcmp(what, "swap") == 0)
                MPI_Allreduce(MPI_IN_PLACE, &one, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
            if (mine && (strcmp(mistake, "counts") == 0 || strcmp(mistake, "once") == 0)) count = N / 2;
            errors += sum(way, g[l], in[l], count, N, mine && strcmp(mistake, "types") == 0 ? MPI_INT : MPI_FLOAT) != 0;
            if (way == 'b' || way == 'i')
                worst = fmax(worst, wrong && strcmp(mistake, "types") == 0 ? 0 : error_of(what, k, step));
        }
        if (way == 'w') errors += MPI_Waitall(behind, started, MPI_STATUSES_IGNORE) != MPI_SUCCESS, behind = 0;
        if (!(wrong && rank == 0 && strcmp(what, "swap") == 0))
            MPI_Allreduce(MPI_IN_PLACE, &one, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    }
    if (strcmp(what, "finalize") == 0)
        for (int l = 0; l < LAYERS; l++) {
            MPI_Request lost;
            memcpy(in[l], g[l], sizeof in[l]);
            MPI_Iallreduce(in[l], g[l], N, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &lost);
        }
    if (rank == 0) printf("%s done worst=%.3e errors=%d\n", what, worst, errors), fflush(stdout);
    MPI_Finalize();
    return 0;
}
