/* drawn.c FROM TO : programs that nobody chose, and that know nothing of Taut. Each seed draws one: communicators, a sequence of calls of all kinds that repeats, what
 * of it changes on the way, and, on each rank for itself, how it waits. Every rank knows what all put in, and compares with the sum in double.
 * Prints on rank 0, for each seed:
 *   seed=N worst=E together=T exact=X hash=H     E: the largest squared relative error of a large float sum; T: of a communicator's sums in a
 *                 step, all together, which is what a budget is about; X: of anything else, which must be right to the last bits; H: of all results on all ranks
 * Exits with 1 if a call fails, or ranks that share a sum hold different bytes. */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 7, COMMS = 3, MOST = 70000, STEPS = 17 };
enum { SUM, ISUM, SCATTER, SCATTER_GATHER, SCATTER_V, SMALL, DOUBLES, MOST_OF, INTEGERS, SPREAD, RING, BARRIER, KINDS };
enum { NOTHING, EXTRA, REVERSED, LEFT_OUT, OTHER_SIZE, NEW_COMM, CHANGES };

typedef struct slot {
    int     kind, comm, count, in_place, shift, off; /* off: floats, where results begin in out */
    float  *in, *out;
    double *wide;
} slot;

static int      rank, ranks, bad;
static double   worst, exact, together[STEPS][COMMS][2]; /* squared errors and norms */
static uint64_t hash, seed;
static MPI_Comm comm[COMMS];
static slot     of[SLOTS + 1];
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u, x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u, x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
static uint64_t draw(uint64_t *s) { return mix((*s)++); }
static int      below(uint64_t *s, int n) { return (int)(draw(s) % (uint64_t)n); }
#define MUST(call) (bad |= (call) != MPI_SUCCESS)

/* What the rank of that number in MPI_COMM_WORLD puts in. */
static float value(int step, const slot *s, int r, int i)
{
    uint64_t x = mix(seed * 977 + (uint64_t)step * 31 + (uint64_t)(s - of)),
             own = mix(x + 101 * (uint64_t)(r + 1) + ((uint64_t)i << 20));
    float noise = (float)(own & 0xffffff) / 8388608.0f - 1,
          common = (float)(mix(x + (uint64_t)i) & 0xffffff) / 8388608.0f - 1;
    return (noise + 0.5f * common) / (float)(1 << s->shift);
}

static int world_rank(MPI_Comm c, int r)
{
    MPI_Group g, all;
    int       there;
    MPI_Comm_group(c, &g), MPI_Comm_group(MPI_COMM_WORLD, &all);
    MPI_Group_translate_ranks(g, 1, &r, all, &there);
    MPI_Group_free(&g), MPI_Group_free(&all);
    return there;
}

static void take(const void *p, size_t bytes)
{
    const unsigned char *b = p;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ b[i]) * 1099511628211u;
}

static void same(const slot *s, const float *x, int n)
{
    uint64_t h = 1469598103934665603u, all;
    for (int i = 0; i < n; i++) {
        uint32_t b;
        memcpy(&b, x + i, 4);
        h = (h ^ b) * 1099511628211u;
    }
    all = h;
    MPI_Bcast(&all, 1, MPI_UINT64_T, 0, comm[s->comm]);
    if (all != h)
        fprintf(stderr, "seed %llu: rank %d has other bytes of kind %d\n", (unsigned long long)seed, rank, s->kind),
            bad = 1;
}

/* x holds elements first.. of the sum of slot s in that step, factor times. */
static void check(const slot *s, int step, const float *x, int first, int n, double factor, double *largest)
{
    double e = 0, w = 0; /* few elements may cancel: they are held against what was put in */
    int    size, who[16];
    MPI_Comm_size(comm[s->comm], &size);
    for (int r = 0; r < size; r++) who[r] = world_rank(comm[s->comm], r);
    for (int i = 0; i < n; i++) {
        double sum = 0, in = 0;
        for (int r = 0; r < size; r++) {
            double v = value(step, s, who[r], first + i);
            sum += v, in += v * v;
        }
        sum *= factor;
        e += (x[i] - sum) * (x[i] - sum), w += largest == &exact ? in : sum * sum;
    }
    take(x, 4 * (size_t)n);
    if (n > 0 && !(e <= *largest * w)) *largest = e / w;
    if (largest == &worst) together[step][s->comm][0] += e, together[step][s->comm][1] += w;
}

static void scatter(slot *s, int step)
{
    int      size, at, counts[16], n = 0, first = 0;
    MPI_Comm c = comm[s->comm];
    MPI_Comm_size(c, &size), MPI_Comm_rank(c, &at);
    int part = (s->count < 16384 ? 16384 : s->count) / size / 512 * 512;
    if (s->shift % 2) part -= 3; /* ends inside a codec's block */
    for (int r = 0; r < size; r++)
        counts[r] = s->kind == SCATTER_V ? part - 512 * (r % 2) : part, first += r < at ? counts[r] : 0, n += counts[r];
    for (int i = 0; i < n; i++) s->in[i] = value(step, s, rank, i);
    if (s->kind == SCATTER_V)
        MUST(MPI_Reduce_scatter(s->in_place ? MPI_IN_PLACE : s->in, s->in_place ? s->in : s->out, counts, MPI_FLOAT,
                                MPI_SUM, c));
    else
        MUST(MPI_Reduce_scatter_block(s->in_place ? MPI_IN_PLACE : s->in, s->in_place ? s->in : s->out, part, MPI_FLOAT,
                                      MPI_SUM, c));
    float *mine = s->in_place ? s->in : s->out;
    check(s, step, mine, first, counts[at], 1, &worst);
    if (s->kind != SCATTER_GATHER) return;
    for (int i = 0; i < part; i++) mine[i] *= -0.25f; /* what it was, times the same everywhere */
    float *whole = malloc(4 * (size_t)n);
    MUST(MPI_Allgather(mine, part, MPI_FLOAT, whole, part, MPI_FLOAT, c));
    check(s, step, whole, 0, n, -0.25, &worst);
    same(s, whole, n);
    free(whole);
}

static void wide(slot *s, int step)
{
    int size;
    MPI_Comm_size(comm[s->comm], &size);
    double e = 0;
    int    n = s->count / 2;
    for (int i = 0; i < n; i++) s->wide[i] = value(step, s, rank, i);
    MUST(MPI_Allreduce(MPI_IN_PLACE, s->wide, n, MPI_DOUBLE, s->kind == DOUBLES ? MPI_SUM : MPI_MAX, comm[s->comm]));
    for (int i = 0; i < n; i += 97) {
        double sum = 0, most = -9;
        for (int r = 0; r < size; r++) {
            double v = value(step, s, world_rank(comm[s->comm], r), i);
            sum += v, most = v > most ? v : most;
        }
        double d = s->wide[i] - (s->kind == DOUBLES ? sum : most);
        e = d * d > e ? d * d : e;
    }
    take(s->wide, 8 * (size_t)n);
    if (e > exact) exact = e;
}

static void others(slot *s, int step)
{
    MPI_Comm c = comm[s->comm];
    int      size, at, n[3] = {step, rank, 7};
    MPI_Comm_size(c, &size), MPI_Comm_rank(c, &at);
    if (s->kind == INTEGERS) {
        MUST(MPI_Allreduce(MPI_IN_PLACE, n, 3, MPI_INT, MPI_SUM, c));
        bad |= n[0] != step * size || n[2] != 7 * size;
    } else if (s->kind == SPREAD) {
        int root = world_rank(c, step % size);
        for (int i = 0; i < s->count; i++) s->in[i] = rank == root ? value(step, s, root, i) : 0;
        MUST(MPI_Bcast(s->in, s->count, MPI_FLOAT, step % size, c));
        for (int i = 0; i < s->count; i += 61) bad |= s->in[i] != value(step, s, root, i);
    } else if (s->kind == RING) {
        for (int i = 0; i < s->count; i++) s->in[i] = value(step, s, rank, i);
        MUST(MPI_Sendrecv(s->in, s->count, MPI_FLOAT, (at + 1) % size, 5, s->out, s->count, MPI_FLOAT,
                          (at + size - 1) % size, 5, c, MPI_STATUS_IGNORE));
        for (int i = 0; i < s->count; i += 61)
            bad |= s->out[i] != value(step, s, world_rank(c, (at + size - 1) % size), i);
    } else {
        MUST(MPI_Barrier(c));
    }
}

static void begin(slot *s, int step, MPI_Request *r, uint64_t *own)
{
    s->off = below(own, 3) ? 0 : below(own, 17);
    for (int i = 0; i < s->count; i++) s->in[i] = value(step, s, rank, i);
    if (s->in_place) memcpy(s->out + s->off, s->in, 4 * (size_t)s->count);
    const void *from = s->in_place ? MPI_IN_PLACE : s->in;
    int         n = s->kind == SMALL ? 1 + s->count % 900 : s->count;
    if (s->kind == ISUM) MUST(MPI_Iallreduce(from, s->out + s->off, n, MPI_FLOAT, MPI_SUM, comm[s->comm], r));
    else MUST(MPI_Allreduce(from, s->out + s->off, n, MPI_FLOAT, MPI_SUM, comm[s->comm]));
}

static void end(slot *s, int step)
{
    int n = s->kind == SMALL ? 1 + s->count % 900 : s->count;
    check(s, step, s->out + s->off, 0, n, 1, s->kind == SMALL ? &exact : &worst);
    same(s, s->out + s->off, n);
}

/* All requests, in a way that the rank chooses. */
static void wait_for(MPI_Request *r, int n, uint64_t *own)
{
    int how = below(own, 6), left = 0, which, done = 0, list[SLOTS + 1];
    for (int i = 0; i < n; i++) left += r[i] != MPI_REQUEST_NULL;
    if (how == 0) MUST(MPI_Waitall(n, r, MPI_STATUSES_IGNORE));
    while (how == 1 && left-- > 0) MUST(MPI_Waitany(n, r, &which, MPI_STATUS_IGNORE));
    while (how == 2 && !done) MUST(MPI_Testall(n, r, &done, MPI_STATUSES_IGNORE));
    while (how == 3 && left > 0) {
        MUST(MPI_Waitsome(n, r, &which, list, MPI_STATUSES_IGNORE));
        if (which == MPI_UNDEFINED) break;
        left -= which;
    }
    for (int i = n - 1; i >= 0; i--) { /* from the last one, asked for or waited for */
        if (how == 4) MUST(MPI_Wait(&r[i], MPI_STATUS_IGNORE));
        for (done = 0; how == 5 && !done;) MUST(MPI_Test(&r[i], &done, MPI_STATUS_IGNORE));
    }
    for (int i = 0; i < n; i++) bad |= r[i] != MPI_REQUEST_NULL;
}

static void make_comm(int k, uint64_t how)
{
    int colour = how % 3 == 0 ? rank % 2 : 0, key = how % 2 ? -rank : rank;
    if (k == 0 || how % 3 == 1) MPI_Comm_dup(MPI_COMM_WORLD, &comm[k]);
    else MPI_Comm_split(MPI_COMM_WORLD, colour, key, &comm[k]);
}

static void step_of(int slots, int step, int change, int at, int which, uint64_t *own)
{
    MPI_Request r[SLOTS + 1];
    int         begun[SLOTS + 1], n = 0;
    for (int k = 0; k < slots + (change == EXTRA && step == at); k++) {
        int   i = change == REVERSED && step >= at && k < slots ? slots - 1 - k : k;
        slot *s = &of[i];
        if (change == LEFT_OUT && step == at && i == which) continue;
        if (change == OTHER_SIZE && step == at && i == which) s->count -= 512;
        if (s->kind == DOUBLES || s->kind == MOST_OF) wide(s, step);
        else if (s->kind >= INTEGERS) others(s, step);
        else if (s->kind >= SCATTER && s->kind <= SCATTER_V) scatter(s, step);
        else begin(s, step, &r[n], own);
        if (s->kind == ISUM) begun[n++] = i;
        else if (s->kind == SUM || s->kind == SMALL) end(s, step);
    }
    if (n) wait_for(r, n, own);
    for (int k = 0; k < n; k++) end(&of[begun[k]], step);
}

static void program(void)
{
    static const int sizes[] = {1000, 16384, 16385, 20000, 32768, 40000, 65536};
    uint64_t         s = mix(seed), own = mix(seed + 7919 * (uint64_t)(rank + 1));
    int              slots = 1 + below(&s, SLOTS), steps = 9 + below(&s, 8), comms = 1 + below(&s, COMMS),
        change = below(&s, CHANGES), at = 2 + below(&s, steps - 2), which = below(&s, slots);
    int ready = below(&s, 3) ? 3 : KINDS; /* most of what trains sums, and little else */
    worst = exact = 0, memset(together, 0, sizeof together), hash = 1469598103934665603u;
    for (int k = 0; k < comms; k++) make_comm(k, draw(&s));
    for (int k = 0; k <= slots; k++) {
        of[k] = (slot){below(&s, 2) ? below(&s, ready) : below(&s, KINDS),
                       below(&s, 3) ? 0 : below(&s, comms),
                       sizes[below(&s, 7)],
                       below(&s, 2),
                       below(&s, 4),
                       0,
                       malloc(4 * MOST),
                       malloc(4 * MOST),
                       malloc(8 * MOST)};
    }
    for (int k = 0; k <= slots && rank == 0 && getenv("TELL"); k++) {
        int size;
        MPI_Comm_size(comm[of[k].comm], &size);
        fprintf(stderr,
                "seed %llu, %d steps, change %d at %d of %d: %s %d, communicator %d of %d ranks, %d elements, 2^-%d\n",
                (unsigned long long)seed, steps, change, at, which, k < slots ? "kind" : "extra", of[k].kind,
                of[k].comm, size, of[k].count, of[k].shift);
    }
    for (int step = 0; step < steps; step++) {
        if (change == NEW_COMM && step == at) {
            MPI_Comm_free(&comm[comms - 1]);
            make_comm(comms - 1, draw(&s));
        }
        step_of(slots, step, change, at, which, &own);
    }
    for (int k = 0; k <= slots; k++) free(of[k].in), free(of[k].out), free(of[k].wide);
    for (int k = 0; k < comms; k++) MPI_Comm_free(&comm[k]);
}

int main(int argc, char **argv)
{
    unsigned long long from = argc > 1 ? strtoull(argv[1], NULL, 10) : 1,
                       to = argc > 2 ? strtoull(argv[2], NULL, 10) : from;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (seed = from; seed <= to; seed++) {
        double   most[2], mine[2], all_of[STEPS][COMMS][2], largest = 0;
        uint64_t all = 0;
        program();
        mine[0] = worst, mine[1] = exact, hash = mix(hash + (uint64_t)rank);
        MPI_Reduce(mine, most, 2, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
        MPI_Reduce(&hash, &all, 1, MPI_UINT64_T, MPI_BXOR, 0, MPI_COMM_WORLD);
        MPI_Reduce(together, all_of, STEPS * COMMS * 2, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
        for (int i = 0; i < STEPS * COMMS && rank == 0; i++) {
            const double *t = all_of[i / COMMS][i % COMMS];
            if (t[0] > largest * t[1]) largest = t[0] / t[1];
        }
        if (rank == 0)
            printf("seed=%llu worst=%.3g together=%.3g exact=%.3g hash=%016llx\n", (unsigned long long)seed, most[0],
                   largest, most[1], (unsigned long long)all);
    }
    MPI_Finalize();
    if (bad) fprintf(stderr, "rank %d: a call failed, or ranks differ\n", rank);
    return bad;
}
