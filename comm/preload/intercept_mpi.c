/* intercept_mpi.c : the intercepted calls of one MPI; what a back end exports. */
#include "channel.h"
#include "imports.h"
#include "preload.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

taut__real          taut__real_mpi;
taut__preload_state taut__preload;

static _Thread_local int inside; /* calls of ours, and calls that the MPI makes for its own: they pass through */

/* Calls like the latest one that pass through and need no look at anything but this: what is small comes again and again, and finds
 * the caches cold when it has waited for others. Counted when another call comes. In programs of one thread at a time. */
static struct {
    _Alignas(64) uint64_t given, left; /* such calls; left: still to come */
    MPI_Comm       comm;
    MPI_Datatype   type;
    MPI_Op         op;
    int            count;
    bool           inside; /* of such a call: calls that the MPI makes for its own */
    taut__channel *channel;
} same;

void taut__passed_counted(void)
{
    uint64_t made = same.given - same.left;
    same.given = same.left = 0;
    if (made == 0) return;
    taut__channel_repeat(same.channel, made);
    taut__preload.small_calls += made;
}

static void expect_more(taut__channel *c, const taut__entry *e)
{
    if (taut__preload.many || e->kind != TAUT_KIND_ALLREDUCE || taut__key_eligible(e->key)) return;
    same.channel = c, same.comm = c->user, same.type = e->type, same.op = e->op, same.count = e->count;
    same.given = same.left = taut__channel_quiet(c);
}

/* ---- reducing calls ---- */

/* NULL: passes through. */
static taut__channel *channel_for(MPI_Comm comm)
{
    if (!taut__preload.ready || inside || same.inside) return NULL;
    if (same.given) taut__passed_counted();
    return taut__channel_of(comm);
}

/* One that the MPI refuses at once: no other rank hears of it, and this one may go on and make the right call. So it is no event. */
static bool refused(const taut__entry *e)
{
    return e->type == MPI_DATATYPE_NULL || (e->op == MPI_OP_NULL && e->kind != TAUT_KIND_ALLGATHER) || e->count < 0;
}

static int blocking(taut__channel *c, taut__entry *e)
{
    int rc = MPI_SUCCESS;
    inside++;
    if (refused(e)) rc = taut__plain_call(c, e);
    else if (taut__channel_event(c, e)) rc = taut__channel_execute(c, e);
    else {
        taut__preload.small_calls++;
        rc = taut__plain_call(c, e);
        expect_more(c, e);
    }
    inside--;
    return rc;
}

static taut__entry entry_of(taut__call_kind kind, const void *in, void *out, int count, MPI_Datatype type, MPI_Op op)
{
    return (taut__entry){.kind = kind, .in = in, .out = out, .count = count, .type = type, .op = op, .data = true};
}

static int taut__MPI_Allreduce(const void *in, void *out, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    if (same.left && comm == same.comm && count == same.count && type == same.type && op == same.op && !same.inside) {
        same.left--;
        same.inside = true;
        int rc = taut__real_mpi.Allreduce(in, out, count, type, op, comm);
        same.inside = false;
        return rc;
    }
    taut__channel *c = channel_for(comm);
    if (!c) return taut__real_mpi.Allreduce(in, out, count, type, op, comm);
    taut__entry e = entry_of(TAUT_KIND_ALLREDUCE, in, out, count, type, op);
    return blocking(c, &e);
}

static int taut__MPI_Reduce_scatter(const void *in, void *out, const int *counts, MPI_Datatype type, MPI_Op op,
                                    MPI_Comm comm)
{
    taut__channel *c = counts ? channel_for(comm) : NULL;
    if (!c) return taut__real_mpi.Reduce_scatter(in, out, counts, type, op, comm);
    taut__entry e = entry_of(TAUT_KIND_REDUCE_SCATTER, in, out, 0, type, op);
    e.counts = counts;
    return blocking(c, &e);
}

static int taut__MPI_Reduce_scatter_block(const void *in, void *out, int count, MPI_Datatype type, MPI_Op op,
                                          MPI_Comm comm)
{
    taut__channel *c = channel_for(comm);
    if (!c) return taut__real_mpi.Reduce_scatter_block(in, out, count, type, op, comm);
    taut__entry e = entry_of(TAUT_KIND_REDUCE_SCATTER, in, out, count, type, op);
    return blocking(c, &e);
}

static int taut__MPI_Allgather(const void *in, int send_count, MPI_Datatype send_type, void *out, int count,
                               MPI_Datatype type, MPI_Comm comm)
{
    taut__channel *c = channel_for(comm);
    if (!c || !c->scatters) return taut__real_mpi.Allgather(in, send_count, send_type, out, count, type, comm);
    taut__entry e = entry_of(TAUT_KIND_ALLGATHER, in, out, count, type, MPI_OP_NULL);
    e.send_count = send_count, e.send_type = send_type;
    return blocking(c, &e);
}

static int taut__MPI_Bcast(void *buf, int count, MPI_Datatype type, int root, MPI_Comm comm)
{
    int            rc = taut__real_mpi.Bcast(buf, count, type, root, comm), size = 0;
    taut__channel *c = taut__preload.sites > 0 && count > 0 ? channel_for(comm) : NULL;
    if (!c || c->sites == 0 || rc != MPI_SUCCESS || PMPI_Type_size(type, &size) != MPI_SUCCESS) return rc;
    if ((uint64_t)count * (uint64_t)size >= taut__preload.option.threshold)
        taut__note_broadcast(c, buf, (size_t)count * (size_t)size);
    return rc;
}

static int taut__MPI_Allreduce_init(const void *in, void *out, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                                    MPI_Info info, MPI_Request *request)
{
    taut__channel *c = taut__preload.threads ? channel_for(comm) : NULL;
    if (!taut__preload.threads) taut__preload.unserved++;
    if (!c) return taut__real_mpi.Allreduce_init(in, out, count, type, op, comm, info, request);
    inside++;
    taut__entry e = entry_of(TAUT_KIND_PERSISTENT, in, out, count, type, op);
    int         rc = taut__allreduce_init(c, &e, comm, info, request);
    inside--;
    return rc;
}

/* One that could be coded is queued, and so is its part in votes where it could not. */
static int taut__MPI_Iallreduce(const void *in, void *out, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                                MPI_Request *request)
{
    taut__channel *c = channel_for(comm);
    if (!c) return taut__real_mpi.Iallreduce(in, out, count, type, op, comm, request);
    taut__entry e = {.kind = TAUT_KIND_IALLREDUCE, .in = in, .out = out, .count = count, .type = type, .op = op};
    int         rc = MPI_SUCCESS;
    if (refused(&e)) return taut__real_mpi.Iallreduce(in, out, count, type, op, comm, request);
    inside++;
    bool wanted = taut__channel_event(c, &e);
    /* with no buffers, or one for both, the MPI says what is wrong */
    e.data = wanted && e.apart && taut__key_eligible(e.key) && in && out && in != out;
    if (wanted) rc = taut__channel_queue(c, &e, request);
    if (!e.data && rc == MPI_SUCCESS) {
        taut__preload.small_calls++;
        rc = taut__real_mpi.Iallreduce(in, out, count, type, op, comm, request);
    }
    inside--;
    return rc;
}

/* ---- counts of MPI_Count: where they are ints these are the calls above; others are the MPI's alone, on all ranks alike ----
 *
 * Programs may refer to such calls weakly, to use them where they are (mpi4py): here they are also where the MPI has none. */

static bool is_int(MPI_Count n) { return n == (int)n; }
static int  too_large(MPI_Comm comm) { return PMPI_Comm_call_errhandler(comm, MPI_ERR_COUNT), MPI_ERR_COUNT; }
#define LARGE(name, ...) (taut__real_mpi.name ? taut__real_mpi.name(__VA_ARGS__) : too_large(comm))

static int taut__MPI_Allreduce_c(const void *in, void *out, MPI_Count n, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    return is_int(n) ? taut__MPI_Allreduce(in, out, (int)n, type, op, comm)
                     : LARGE(Allreduce_c, in, out, n, type, op, comm);
}

static int taut__MPI_Iallreduce_c(const void *in, void *out, MPI_Count n, MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                                  MPI_Request *request)
{
    return is_int(n) ? taut__MPI_Iallreduce(in, out, (int)n, type, op, comm, request)
                     : LARGE(Iallreduce_c, in, out, n, type, op, comm, request);
}

static int taut__MPI_Reduce_scatter_c(const void *in, void *out, const MPI_Count *counts, MPI_Datatype type, MPI_Op op,
                                      MPI_Comm comm)
{
    int  size = 0, *n = NULL, rc;
    bool ints = counts && PMPI_Comm_size(comm, &size) == MPI_SUCCESS && (n = malloc((size_t)size * sizeof *n));
    for (int r = 0; ints && r < size; r++) ints = is_int(counts[r]), n[r] = (int)counts[r];
    rc = ints ? taut__MPI_Reduce_scatter(in, out, n, type, op, comm)
              : LARGE(Reduce_scatter_c, in, out, counts, type, op, comm);
    free(n);
    return rc;
}

static int taut__MPI_Reduce_scatter_block_c(const void *in, void *out, MPI_Count n, MPI_Datatype type, MPI_Op op,
                                            MPI_Comm comm)
{
    return is_int(n) ? taut__MPI_Reduce_scatter_block(in, out, (int)n, type, op, comm)
                     : LARGE(Reduce_scatter_block_c, in, out, n, type, op, comm);
}

static int taut__MPI_Allgather_c(const void *in, MPI_Count sends, MPI_Datatype send_type, void *out, MPI_Count n,
                                 MPI_Datatype type, MPI_Comm comm)
{
    bool ints = is_int(n) && (in == MPI_IN_PLACE || is_int(sends)); /* in place, the latter is anything */
    return ints ? taut__MPI_Allgather(in, (int)sends, send_type, out, (int)n, type, comm)
                : LARGE(Allgather_c, in, sends, send_type, out, n, type, comm);
}

static int taut__MPI_Bcast_c(void *buf, MPI_Count n, MPI_Datatype type, int root, MPI_Comm comm)
{
    return is_int(n) ? taut__MPI_Bcast(buf, (int)n, type, root, comm) : LARGE(Bcast_c, buf, n, type, root, comm);
}

static int taut__MPI_Allreduce_init_c(const void *in, void *out, MPI_Count n, MPI_Datatype type, MPI_Op op,
                                      MPI_Comm comm, MPI_Info info, MPI_Request *request)
{
    return is_int(n) ? taut__MPI_Allreduce_init(in, out, (int)n, type, op, comm, info, request)
                     : LARGE(Allreduce_init_c, in, out, n, type, op, comm, info, request);
}

/* ---- life ---- */

/* What decides where ranks meet must be the same on all. But programs of several executables differ in what they import, and mpirun hands
 * settings to the ranks of its own host alone unless it is told (-x). */
static void agree(void)
{
    taut__preload_options *o = &taut__preload.option;
    int                    rank = 0;
    uint64_t word = (uint64_t)o->threshold << 2 | (uint64_t)o->dry_run << 1 | (o->dry_run && o->codec_given);
    uint64_t v[4] = {taut__preload.threads, ~(uint64_t)o->threshold, word, ~word};
    if (taut__real_mpi.Allreduce(MPI_IN_PLACE, v, 4, MPI_UINT64_T, MPI_MIN, MPI_COMM_WORLD) != MPI_SUCCESS) return;
    taut__preload.threads = v[0];
    if (v[2] == ~v[3]) return;
    o->threshold = (size_t)~v[1], o->dry_run = false, o->off = true;
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 0)
        fprintf(stderr, "taut: TAUT_DRYRUN or TAUT_THRESHOLD differ between ranks, as where mpirun is not told to hand "
                        "them on (-x): nothing is compressed\n");
}

static void started(int provided)
{
    MPI_Comm parent = MPI_COMM_NULL;
    taut__preload.threads = taut__preload.many = provided == MPI_THREAD_MULTIPLE;
    agree();
    taut__preload.spawned = PMPI_Comm_get_parent(&parent) == MPI_SUCCESS && parent != MPI_COMM_NULL;
    taut__preload.begun_s = taut__now();
    pthread_mutex_init(&taut__preload.lock, NULL);
    taut__preload.ready = true;
    taut__channel_open_world();
}

/* More than asked for where non-blocking calls may have to be served: that makes every call of the MPI slower, so not for programs
 * that do not make any. In these what codes beside the program's thread never calls the MPI, which need not know of it: Open MPI takes
 * its locks from MPI_THREAD_FUNNELED on, 3% of a small sum between two hosts. */
static int level_wanted(int required)
{
    const taut__preload_options *o = &taut__preload.option;
    bool served = o->nonblocking >= 0 ? o->nonblocking : taut__program_imports(taut__reduces_behind_a_request);
    return served ? MPI_THREAD_MULTIPLE : required;
}

/* The program is told what it asked for. */
static int taut__MPI_Init_thread(int *argc, char ***argv, int required, int *provided)
{
    int got = MPI_THREAD_SINGLE;
    inside++;
    taut__preload_options_load(&taut__preload.option);
    int rc = taut__real_mpi.Init_thread(argc, argv, level_wanted(required), &got);
    if (rc == MPI_SUCCESS) started(got);
    inside--;
    if (provided) *provided = got < required ? got : required;
    return rc;
}

static int taut__MPI_Init(int *argc, char ***argv)
{
    int provided;
    return taut__MPI_Init_thread(argc, argv, MPI_THREAD_SINGLE, &provided);
}

static void write_report(const taut__job_report *r, const char *path)
{
    char own[4096 + 32];
    snprintf(own, sizeof own, taut__preload.spawned ? "%.4095s.%ld" : "%s", path, (long)getpid());
    if (taut__report_write(r, own) != TAUT_OK) fprintf(stderr, "taut: %s\n", taut_last_error());
}

static void report(bool aborted)
{
    taut__passed_counted();
    char             version[8192] = "";
    int              length, rank = 0, size = 1;
    const char      *codec = getenv("TAUT_CODEC"), *budget = getenv("TAUT_BUDGET");
    taut__job_report r = {.site = (const taut__site *const *)taut__preload.site,
                          .sites = taut__preload.sites,
                          .mpi = version,
                          .aborted = aborted,
                          .wall_s = taut__now() - taut__preload.begun_s,
                          .in_calls_s = taut__preload.in_calls_s,
                          .small_calls = taut__preload.small_calls,
                          .unserved = taut__preload.unserved};
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank != 0) return;
    PMPI_Comm_size(MPI_COMM_WORLD, &size);
    PMPI_Get_library_version(version, &length);
    version[strcspn(version, ",\n")] = 0;
    for (char *tab = version; (tab = strpbrk(tab, "\t:")); tab++) *tab = ' '; /* MPICH Version:\t4.0.2 */
    r.ranks = size;
    for (size_t i = 0; i < taut__preload.sites; i++)
        if (taut__preload.site[i]->doubt == TAUT_DOUBT_UNSEEN)
            taut__preload.site[i]->doubt =
                taut__likeness_judge(&taut__preload.site[i]->like, taut__preload.site[i]->calls);
    for (taut__channel *c = taut__preload.channels; c; c = c->next) r.in_calls_s += c->in_calls_s;
    snprintf(r.config, sizeof r.config, "codec=%s budget=%s", codec && *codec ? codec : "auto",
             budget && *budget ? budget : "like:quant:bits=4");
    if (taut__preload.option.dry_run) taut__dry_budgets(r.budget);
    const char *path = taut__preload.option.report;
    if (path && strcmp(path, "-") == 0) return;
    taut__report_print(&r);
    if (path && *path) write_report(&r, path);
}

static int taut__MPI_Finalize(void)
{
    inside++;
    if (taut__preload.ready) {
        taut__passed_counted();
        taut__persistent_close_all();
        /* What is still under way ends first: workers use the same communicators as what comes now. */
        for (taut__channel *c = taut__preload.channels; c; c = c->next) taut__worker_stop(c);
        taut__gauge_constants();
        taut__channel_close_all();
        report(false);
        taut__preload.ready = false;
    }
    int rc = taut__real_mpi.Finalize();
    inside--;
    return rc;
}

static int taut__MPI_Abort(MPI_Comm comm, int code)
{
    if (taut__preload.ready && !inside) report(true);
    return taut__real_mpi.Abort(comm, code);
}

/* ---- the table ---- */

/* Preloaded itself, this library would bring its MPI into a program of another one, before the program's own. */
__attribute__((constructor)) static void refuse_to_be_preloaded(void)
{
    static const char text[] =
        "taut: LD_PRELOAD names a back end (libtaut-preload-openmpi.so or -mpich.so): name libtaut-preload-mpi.so "
        "instead, which opens the one that fits the program's MPI\n";
    if (dlsym(RTLD_DEFAULT, TAUT_STUBS_MARK)) return;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(126);
    _exit(127);
}

TAUT_API int taut_preload_backend(const taut__function real[TAUT_CALLS], taut__function wrap[TAUT_CALLS]);
int          taut_preload_backend(const taut__function real[TAUT_CALLS], taut__function wrap[TAUT_CALLS])
{
    static const taut__function mine[TAUT_CALLS] = {
#define TAUT_ITEM(name, args) (taut__function) taut__MPI_##name,
        TAUT_INTERCEPTED(TAUT_ITEM)
#undef TAUT_ITEM
    };
    memcpy(&taut__real_mpi, real, sizeof taut__real_mpi);
    for (int i = 0; i < TAUT_CALLS; i++) {
        bool ours = real[i] ||
                    (i >= TAUT_CALL_Allreduce_c && (i != TAUT_CALL_Allreduce_init_c || real[TAUT_CALL_Allreduce_init]));
        wrap[i] = ours ? mine[i] : NULL;
    }
    return 0;
}
