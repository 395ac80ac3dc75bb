/* job.c : programs that know nothing of Taut. job MODE[:STEPS[:LAYERS[:ELEMENTS]]] ...: each mode on a communicator of its own (the
 * first one on MPI_COMM_WORLD) sums noise whose exact sum every rank computes itself, in double, since it knows everybody's seed.
 * Unless ELEMENTS is given each mode has its own size, by which the report tells them apart. Prints on rank 0, for each mode:
 *   MODE bytes=B calls=C small=S worst=E hash=H     E: the largest squared relative error of a sum; H: of all sums checked by this rank
 * Small sums must be exact.
 * Exits with 1 if ranks hold different bytes, a small sum is wrong, or a call fails. */
#include "job.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

int rank, ranks, bad;

float noise(uint32_t i, uint32_t seed)
{
    uint64_t x = (uint64_t)seed << 32 | i;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u, x = (x ^ (x >> 27)) * 0x94d049bb133111ebu, x ^= x >> 31;
    return (float)((int64_t)(x & 0xffffffff) - 0x80000000ll) / 2147483648.0f +
           (float)((int64_t)(x >> 32) - 0x80000000ll) / 2147483648.0f;
}
static uint32_t seed_of(int step, int layer, int r) { return (uint32_t)(step * 1000 + layer * 37 + r + 1); }
static void     fill(job *j, int step)
{
    for (int l = 0; l < j->layers; l++)
        for (size_t i = 0; i < j->n; i++) j->g[l][i] = noise((uint32_t)i, seed_of(step, l, rank));
}
void check(job *j, const float *x, int step, int l, size_t first, size_t count)
{
    double e = 0, w = 0;
    for (size_t i = 0; i < count; i++) {
        double   sum = 0;
        uint32_t b;
        memcpy(&b, x + i, 4);
        j->hash = (j->hash ^ b) * 1099511628211u;
        for (int r = 0; r < ranks; r++) sum += noise((uint32_t)(first + i), seed_of(step, l, r));
        e += (x[i] - sum) * (x[i] - sum), w += sum * sum;
    }
    if (e / w > j->worst || !(e / w == e / w)) j->worst = e / w;
}
void same_everywhere(job *j, const float *x, size_t count)
{
    uint64_t h = 1469598103934665603u, all[2];
    for (size_t i = 0; i < count; i++) {
        uint32_t b;
        memcpy(&b, x + i, 4);
        h = (h ^ b) * 1099511628211u;
    }
    all[0] = h, all[1] = ~h;
    MPI_Bcast(all, 2, MPI_UINT64_T, 0, j->comm);
    bad |= all[0] != h;
}
void all_right(job *j, float *const *x, int step)
{
    for (int l = 0; l < j->layers; l++) check(j, x[l], step, l, 0, j->n), same_everywhere(j, x[l], j->n);
}
static void small_sums(job *j, int step)
{
    double d[2] = {step + rank, 1}, want = (double)step * ranks + ranks * (ranks - 1) / 2.0;
    int    i = rank, most;
    bad |= MPI_Allreduce(MPI_IN_PLACE, d, 1, MPI_DOUBLE, MPI_SUM, j->comm) != MPI_SUCCESS || d[0] != want;
    MPI_Allreduce(&i, &most, 1, MPI_INT, MPI_MAX, j->comm);
    bad |= most != ranks - 1;
    j->small += 2;
}

/* ---- blocking sums ---- */

static void step_block(job *j, int step)
{
    (void)step;
    for (int l = 0; l < j->layers; l++)
        bad |= MPI_Allreduce(MPI_IN_PLACE, j->g[l], (int)j->n, MPI_FLOAT, MPI_SUM, j->comm) != MPI_SUCCESS, j->calls++;
    all_right(j, j->g, step);
}
static void step_out(job *j, int step)
{
    for (int l = 0; l < j->layers; l++) {
        float before = j->g[l][j->n / 2];
        bad |= MPI_Allreduce(j->g[l], j->out[l], (int)j->n, MPI_FLOAT, MPI_SUM, j->comm) != MPI_SUCCESS, j->calls++;
        bad |= j->g[l][j->n / 2] != before; /* the input is the program's */
    }
    all_right(j, j->out, step);
}
/* Layers of one size, each 32 times smaller than the one before, as gradients of deep nets are: no solver's vector that shrinks. */
static void step_uneven(job *j, int step)
{
    for (int l = 0; l < j->layers; l++) {
        float scale = ldexpf(1, -5 * l);
        for (size_t i = 0; i < j->n; i++) j->g[l][i] *= scale;
        bad |= MPI_Allreduce(MPI_IN_PLACE, j->g[l], (int)j->n, MPI_FLOAT, MPI_SUM, j->comm) != MPI_SUCCESS, j->calls++;
        for (size_t i = 0; i < j->n; i++) j->g[l][i] /= scale;
    }
    all_right(j, j->g, step);
}
/* Two vectors of one size in each round, which shrink: an iterative solver without dot products. */
static void step_shrinking(job *j, int step)
{
    float scale = ldexpf(1, -2 * step);
    for (int l = 0; l < 2; l++) {
        for (size_t i = 0; i < j->n; i++) j->g[l][i] *= scale;
        bad |= MPI_Allreduce(MPI_IN_PLACE, j->g[l], (int)j->n, MPI_FLOAT, MPI_SUM, j->comm) != MPI_SUCCESS, j->calls++;
        for (size_t i = 0; i < j->n; i++) j->g[l][i] /= scale;
        check(j, j->g[l], step, l, 0, j->n);
    }
}
/* From step 15 on rank 0 has one buffer at an odd address: MPI takes it, Taut does not, and the other ranks cannot know. */
static void step_odd_rank(job *j, int step)
{
    static char *odd;
    if (!odd) odd = malloc(4 * j->n + 1);
    for (int l = 0; l < j->layers; l++) {
        int   shifted = step >= 15 && step % 3 == 0 && rank == 0 && l == 1;
        void *to = shifted ? odd + 1 : (char *)j->out[l];
        bad |= MPI_Allreduce(j->g[l], to, (int)j->n, MPI_FLOAT, MPI_SUM, j->comm) != MPI_SUCCESS, j->calls++;
        if (shifted) memcpy(j->out[l], to, 4 * j->n);
    }
    all_right(j, j->out, step);
}
/* The sequence changes for good, on all ranks. */
static void step_changing(job *j, int step)
{
    for (int k = 0; k < j->layers; k++) {
        int    l = step >= j->steps / 2 ? j->layers - 1 - k : k;
        size_t m = l == 0 ? j->n / 2 : j->n;
        bad |= MPI_Allreduce(MPI_IN_PLACE, j->g[l], (int)m, MPI_FLOAT, MPI_SUM, j->comm) != MPI_SUCCESS, j->calls++;
        if (step % 7 == 6 && k == 1) small_sums(j, step);
        check(j, j->g[l], step, l, 0, m);
    }
}
/* The communicator is freed and made again. */
static void step_comms(job *j, int step)
{
    if (step % 10 == 0) {
        if (step > 0) MPI_Comm_free(&j->comm);
        MPI_Comm_dup(MPI_COMM_WORLD, &j->comm);
    }
    step_block(j, step);
}
/* What comes out is broadcast: parameters, however noisy. */
static void step_broadcast(job *j, int step)
{
    step_block(j, step);
    for (int l = 0; l < j->layers; l++) MPI_Bcast(j->g[l], (int)j->n, MPI_FLOAT, 0, j->comm);
}
/* The child of a fork computes and leaves; the parent goes on. */
static void step_fork(job *j, int step)
{
    int   status = 0;
    pid_t child = step % 5 == 4 ? fork() : -1;
    if (child == 0) {
        volatile double x = 0;
        for (size_t i = 0; i < j->n; i++) x = x + j->g[0][i];
        exit(step % 10 == 4 ? 0 : 3);
    }
    step_block(j, step);
    if (child > 0)
        bad |= waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
               WEXITSTATUS(status) != (step % 10 == 4 ? 0 : 3);
}

/* ---- parts ---- */

static void step_scatter(job *j, int step)
{
    int      part = (int)(j->n / (size_t)ranks), vector = strcmp(j->name, "scatterv") == 0;
    count_of counts[64];
    size_t   first = (size_t)part * (size_t)rank;
    for (int r = 0; r < ranks; r++) counts[r] = part;
    for (int l = 0; l < j->layers; l++) {
        int rc = vector ? MPI_Reduce_scatter(j->g[l], j->out[l], counts, MPI_FLOAT, MPI_SUM, j->comm)
                        : MPI_Reduce_scatter_block(j->g[l], j->out[l], part, MPI_FLOAT, MPI_SUM, j->comm);
        bad |= rc != MPI_SUCCESS, j->calls++;
        check(j, j->out[l], step, l, first, (size_t)part);
    }
}
/* Sums are scattered, divided and gathered again ("gather"), or what is gathered are parameters that they have changed. */
static void step_gather(job *j, int step)
{
    int   part = (int)(j->n / (size_t)ranks), parameters = strcmp(j->name, "gather-parameters") == 0;
    float scale = 1 / (float)ranks;
    for (int l = 0; l < j->layers; l++) {
        float *mine = j->extra[l], *all = j->out[l];
        bad |= MPI_Reduce_scatter_block(j->g[l], mine, part, MPI_FLOAT, MPI_SUM, j->comm) != MPI_SUCCESS, j->calls++;
        check(j, mine, step, l, (size_t)part * (size_t)rank, (size_t)part);
        for (int i = 0; i < part; i++) {
            if (parameters) all[(size_t)part * (size_t)rank + (size_t)i] = 1 + (float)i * 1e-4f - 0.1f * mine[i];
            else mine[i] *= scale;
        }
        if (parameters || l % 2)
            memcpy(parameters ? mine : all + (size_t)part * (size_t)rank,
                   parameters ? all + (size_t)part * (size_t)rank : mine, 4 * (size_t)part);
        bad |=
            MPI_Allgather(l % 2 ? MPI_IN_PLACE : mine, part, MPI_FLOAT, all, part, MPI_FLOAT, j->comm) != MPI_SUCCESS,
            j->calls++;
        same_everywhere(j, all, j->n);
        for (int i = 0; parameters && i < part; i++)
            bad |= all[(size_t)part * (size_t)rank + (size_t)i] != mine[i]; /* parameters stay exact */
        for (size_t i = 0; i < j->n && !parameters; i++) all[i] *= (float)ranks;
        if (!parameters) check(j, all, step, l, 0, j->n);
    }
}

/* ---- calls that are not gradients, or nothing that could be compressed ---- */

static void user_sum(void *in, void *io, int *n, MPI_Datatype *type)
{
    (void)type;
    for (int i = 0; i < *n; i++) ((float *)io)[i] += ((float *)in)[i];
}
static void step_foreign(job *j, int step)
{
    static MPI_Op       op;
    static MPI_Datatype pair;
    static MPI_Comm     half, between;
    static double      *d;
    if (!d) {
        MPI_Op_create(user_sum, 1, &op);
        MPI_Type_contiguous(2, MPI_FLOAT, &pair), MPI_Type_commit(&pair);
        MPI_Comm_split(j->comm, rank % 2, rank, &half);
        MPI_Intercomm_create(half, 0, j->comm, rank % 2 ? 0 : 1, 5, &between);
        d = malloc(8 * j->n);
    }
    bad |= MPI_Allreduce(MPI_IN_PLACE, j->g[0], (int)j->n, MPI_FLOAT, op, j->comm) != MPI_SUCCESS, j->small++;
    check(j, j->g[0], step, 0, 0, j->n);
    for (size_t i = 0; i < j->n; i++) d[i] = j->g[1][i];
    bad |= MPI_Allreduce(MPI_IN_PLACE, d, (int)j->n, MPI_DOUBLE, MPI_SUM, j->comm) != MPI_SUCCESS, j->small++;
    for (size_t i = 0; i < j->n; i++) j->out[1][i] = (float)d[i];
    check(j, j->out[1], step, 1, 0, j->n);
    bad |= MPI_Allreduce(j->g[2], j->out[2], (int)j->n, MPI_FLOAT, MPI_SUM, MPI_COMM_SELF) != MPI_SUCCESS;
    bad |= memcmp(j->g[2], j->out[2], 4 * j->n) != 0;
    memset(j->out[2], 0, 4 * j->n);
    bad |= MPI_Allreduce(j->g[2], j->out[2], (int)j->n, MPI_FLOAT, MPI_SUM, between) !=
           MPI_SUCCESS; /* the sum of the other group */
    for (size_t i = 0; i < j->n; i += 97) {
        double sum = 0;
        for (int r = 0; r < ranks; r++) sum += r % 2 != rank % 2 ? noise((uint32_t)i, seed_of(step, 2, r)) : 0;
        bad |= fabs(sum - j->out[2][i]) > 1e-5;
    }
    for (size_t i = 0; i < j->n; i++) j->extra[0][i] = (float)(rank + 1);
    bad |= MPI_Allreduce(MPI_IN_PLACE, j->extra[0], (int)j->n, MPI_FLOAT, MPI_MAX, j->comm) != MPI_SUCCESS ||
           j->extra[0][7] != (float)ranks,
        j->small++;
    if (step == j->steps - 1) MPI_Comm_free(&between), MPI_Comm_free(&half), MPI_Op_free(&op), MPI_Type_free(&pair);
}

/* ---- threads that call MPI at once, each on its own communicator ---- */

typedef struct thread_job {
    job       own;
    pthread_t thread;
    int       rounds;
} thread_job;
static void *thread_main(void *arg)
{
    thread_job *t = arg;
    for (int step = 0; step < t->rounds; step++) {
        fill(&t->own, step);
        for (int l = 0; l < t->own.layers; l++) {
            bad |=
                MPI_Allreduce(MPI_IN_PLACE, t->own.g[l], (int)t->own.n, MPI_FLOAT, MPI_SUM, t->own.comm) != MPI_SUCCESS;
            t->own.calls++;
            check(&t->own, t->own.g[l], step, l, 0, t->own.n);
        }
    }
    return NULL;
}
static void step_threads(job *j, int step)
{
    enum { THREADS = 3 };
    thread_job t[THREADS];
    int        level;
    MPI_Query_thread(&level);
    if (step > 0 || level != MPI_THREAD_MULTIPLE) return;
    for (int k = 0; k < THREADS; k++) {
        t[k].own = *j, t[k].rounds = j->steps;
        MPI_Comm_dup(j->comm, &t[k].own.comm);
        for (int l = 0; l < j->layers; l++) t[k].own.g[l] = malloc(4 * j->n);
    }
    for (int k = 0; k < THREADS; k++) pthread_create(&t[k].thread, NULL, thread_main, &t[k]);
    for (int k = 0; k < THREADS; k++) {
        pthread_join(t[k].thread, NULL);
        j->calls += t[k].own.calls, j->worst = fmax(j->worst, t[k].own.worst);
        MPI_Comm_free(&t[k].own.comm);
        for (int l = 0; l < j->layers; l++) free(t[k].own.g[l]);
    }
}

/* ---- half precision, where the MPI has it ---- */

static void step_half(job *j, int step)
{
#if defined(MPIX_C_FLOAT16) && defined(__FLT16_MAX__)
    _Float16 *h = (_Float16 *)j->extra[0];
    for (int l = 0; l < j->layers; l++) {
        for (size_t i = 0; i < j->n; i++) h[i] = (_Float16)j->g[l][i];
        bad |= MPI_Allreduce(MPI_IN_PLACE, h, (int)j->n, MPIX_C_FLOAT16, MPI_SUM, j->comm) != MPI_SUCCESS, j->calls++;
        for (size_t i = 0; i < j->n; i++) j->out[l][i] = (float)h[i];
    }
    all_right(j, j->out, step);
#else
    (void)j, (void)step;
#endif
}

static const struct {
    const char *name;
    void (*step)(job *j, int step);
    int no_small;
} modes[] = {
    {"block", step_block, 0},
    {"out", step_out, 0},
    {"odd-rank", step_odd_rank, 0},
    {"changing", step_changing, 1},
    {"comms", step_comms, 0},
    {"broadcast", step_broadcast, 0},
    {"fork", step_fork, 0},
    {"scatter", step_scatter, 0},
    {"scatterv", step_scatter, 0},
    {"gather", step_gather, 0},
    {"gather-parameters", step_gather, 0},
    {"foreign", step_foreign, 0},
    {"threads", step_threads, 1},
    {"half", step_half, 0},
    {"nonblocking", step_nonblocking, 0},
    {"overlap", step_overlap, 0},
    {"token", step_token, 0},
    {"pending", step_pending, 0},
    {"uneven", step_uneven, 0},
    {"shrinking", step_shrinking, 0},
    {"cancel", step_cancel, 0},
    {"persistent", step_persistent, 0},
    {"disorder", step_persistent, 0},
    {"rounds", step_rounds, 0},
    {"ahead", step_ahead, 0},
};
enum { MODES = sizeof modes / sizeof *modes };

static int run(char *what, int first)
{
    job   j = {.steps = 30, .layers = 3, .comm = MPI_COMM_WORLD};
    char *more = strchr(what, ':');
    int   mode = 0, width = 2;
    if (more) *more++ = 0;
    while (mode < MODES && strcmp(modes[mode].name, what) != 0) mode++;
    if (mode == MODES) return fprintf(stderr, "job: no mode '%s'\n", what), 1;
    j.name = modes[mode].name;
    j.n = (size_t)6144 * (size_t)(6 + mode);
    if (more) sscanf(more, "%d:%d:%zu", &j.steps, &j.layers, &j.n);
    if (!first) MPI_Comm_dup(MPI_COMM_WORLD, &j.comm);
    for (int l = 0; l < j.layers; l++)
        j.g[l] = malloc(4 * j.n), j.out[l] = malloc(4 * j.n), j.extra[l] = malloc(4 * j.n);
    for (int step = 0; step < j.steps; step++) {
        fill(&j, step);
        modes[mode].step(&j, step);
        if (!modes[mode].no_small) small_sums(&j, step);
    }
    if (strcmp(what, "half") == 0) width = 2, j.n /= 2;
    if (rank == 0)
        printf("%s bytes=%zu calls=%ld small=%ld worst=%.3e hash=%016llx\n", what, j.n * (size_t)width * 2, j.calls,
               j.small, j.worst, (unsigned long long)j.hash);
    if (!first) MPI_Comm_free(&j.comm);
    for (int l = 0; l < j.layers; l++) free(j.g[l]), free(j.out[l]), free(j.extra[l]);
    return 0;
}

int main(int argc, char **argv)
{
    int all_bad, threads = 0, got;
    for (int i = 1; i < argc; i++) threads |= strncmp(argv[i], "threads", 7) == 0;
    if (threads) MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &got);
    else MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (int i = 1; i < argc; i++) bad |= run(argv[i], i == 1);
    MPI_Allreduce(&bad, &all_bad, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (rank == 0 && all_bad) printf("BAD\n");
    MPI_Finalize();
    return all_bad;
}
