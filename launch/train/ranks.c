/* ranks.c : see ranks.h. */
#include "ranks.h"
#include "../cli.h"
#ifdef TAUT_HAVE_ZSTD
#include "../../comm/taut_data.h"
#endif
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef TAUT_HAVE_MPI
#include "../../comm/taut_mpi.h"
#ifdef TAUT_HAVE_ZSTD
#include "../../comm/taut_data_mpi.h"
#endif
static MPI_Comm    world = MPI_COMM_NULL; /* a duplicate, so that nobody else's messages match ours */
static MPI_Request mean_request;
#endif

static int       rank, ranks = 1;
static char      fault_text[1024];
static const int signals[] = {SIGINT, SIGTERM, SIGUSR1}; /* of several the first is the one that is reported */
enum { SIGNALS = sizeof signals / sizeof *signals };
static double mean_in[1 + SIGNALS], mean_out[1 + SIGNALS]; /* x, ranks that saw each of them */

int ranks_rank(void) { return rank; }
int ranks_count(void) { return ranks; }

const char *ranks_device(const char *name)
{
    static char text[32];
    int         n = cli_device();
    if (strcmp(name, "cuda") != 0 || n < 0) return name;
    snprintf(text, sizeof text, "cuda:%d", n);
    return text;
}

void ranks_start(int *argc, char ***argv)
{
#ifdef TAUT_HAVE_MPI
    int provided;
    MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided); /* less works, too: taut_mpi.h */
    MPI_Comm_dup(MPI_COMM_WORLD, &world);
    MPI_Comm_rank(world, &rank);
    MPI_Comm_size(world, &ranks);
#else
    (void)argc, (void)argv;
#endif
}

void ranks_end(void)
{
#ifdef TAUT_HAVE_MPI
    MPI_Comm_free(&world);
    MPI_Finalize();
#endif
}

taut_status ranks_comm(const taut_config *cfg, taut_comm **comm)
{
#ifdef TAUT_HAVE_MPI
    return taut_comm_create_mpi(world, cfg, comm);
#else
    return taut_comm_create_threads(1, cfg, comm);
#endif
}

#ifdef TAUT_HAVE_ZSTD
taut_status ranks_loader(const taut_loader_config *cfg, taut_loader **loader)
{
#ifdef TAUT_HAVE_MPI
    return taut_loader_open_mpi(world, cfg, loader);
#else
    return taut_loader_open(cfg, NULL, loader);
#endif
}
#endif

/* ---- failures ---- */

int(fault)(int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(fault_text, sizeof fault_text, fmt, ap);
    va_end(ap);
    return code;
}

int(fault_status)(int code, const char *what, const char *why, taut_status s)
{
    return fault(code, "%s: %s (%s)", what, *why ? why : taut_status_text(s), taut_status_name(s));
}

static void print_fault(int of)
{
    char from[32] = "";
    if (ranks > 1 && of != 0) snprintf(from, sizeof from, "rank %d: ", of);
    cli_fail("%s%s", from, fault_text);
}

int(ranks_agree)(int code)
{
    int first = code ? rank : ranks;
#ifdef TAUT_HAVE_MPI
    MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, world);
    if (first < ranks) {
        MPI_Bcast(&code, 1, MPI_INT, first, world);
        MPI_Bcast(fault_text, sizeof fault_text, MPI_CHAR, first, world);
    }
#endif
    if (first == ranks) return 0;
    if (rank == 0) print_fault(first);
    return code;
}

void ranks_abort(int code)
{
    cli_speak(true);
    print_fault(rank);
#ifdef TAUT_HAVE_MPI
    MPI_Abort(world, code);
#endif
    exit(code);
}

/* ---- small collectives ---- */

bool ranks_same(uint64_t value)
{
#ifdef TAUT_HAVE_MPI
    uint64_t pair[2] = {value, ~value}; /* the largest of v and of ~v tells the largest and the smallest */
    MPI_Allreduce(MPI_IN_PLACE, pair, 2, MPI_UINT64_T, MPI_MAX, world);
    return pair[0] == ~pair[1];
#else
    (void)value;
    return true;
#endif
}

void ranks_sum(double *x, int n)
{
#ifdef TAUT_HAVE_MPI
    MPI_Allreduce(MPI_IN_PLACE, x, n, MPI_DOUBLE, MPI_SUM, world);
#else
    (void)x, (void)n;
#endif
}

void ranks_broadcast(void *p, size_t n)
{
#ifdef TAUT_HAVE_MPI
    enum { MOST = 1 << 30 };
    for (char *c = p; n > 0;) {
        int part = n < MOST ? (int)n : MOST;
        MPI_Bcast(c, part, MPI_BYTE, 0, world);
        c += part, n -= (size_t)part;
    }
#else
    (void)p, (void)n;
#endif
}

void ranks_gather(const void *p, size_t n, void *all)
{
#ifdef TAUT_HAVE_MPI
    MPI_Gather(p, (int)n, MPI_BYTE, all, (int)n, MPI_BYTE, 0, world);
#else
    memcpy(all, p, n);
#endif
}

void ranks_mean_start(double x, int signal)
{
    mean_in[0] = x;
    for (int i = 0; i < SIGNALS; i++) mean_in[1 + i] = signal == signals[i];
#ifdef TAUT_HAVE_MPI
    MPI_Iallreduce(mean_in, mean_out, 1 + SIGNALS, MPI_DOUBLE, MPI_SUM, world, &mean_request);
#else
    memcpy(mean_out, mean_in, sizeof mean_in);
#endif
}

double ranks_mean_wait(int *signal)
{
#ifdef TAUT_HAVE_MPI
    /* started in ranks_mean_start(): the checker looks into one function at a time */
    MPI_Wait(&mean_request, MPI_STATUS_IGNORE); /* NOLINT(clang-analyzer-optin.mpi.MPI-Checker) */
#endif
    *signal = 0;
    for (int i = SIGNALS - 1; i >= 0; i--)
        if (mean_out[1 + i] > 0) *signal = signals[i];
    return mean_out[0] / ranks;
}
