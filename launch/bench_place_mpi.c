/* bench_place_mpi.c : `taut bench allreduce --device cuda [--nccl]`: the buffer that is reduced lies on a GPU, and travels by NCCL; native is
 * then ncclAllReduce of the same buffer. */
#include "bench_allreduce.h"
#include "../comm/base/space.h"
#include "../comm/taut_nccl.h"
#include "../comm/transport/nccl_data.h"
#include "../compressors/vectors.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bench_place {
    taut_place         place;
    const taut__space *space;
    void              *there; /* of the largest size */
    const taut__nccl  *nccl;  /* NULL: without */
    taut__nccl_comm    raw;   /* for native sums */
};

/* All of `text`, a device's number? */
static bool whole_number(const char *text, int *number)
{
    enum { MOST = 4096 };
    char *end = NULL;
    long  n = strtol(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || n < 0 || n > MOST) return false;
    *number = (int)n;
    return true;
}

/* Ranks of one host take its devices in turn, as mpirun and srun number them there. */
bool bench_place_device(const char *device, int *number)
{
    int n = 0;
    if (strncmp(device, "cuda", 4) != 0) return false;
    if (device[4] == ':' ? !whole_number(device + 5, &n) : device[4] != '\0') return false;
    if (!device[4]) n = cli_device();
    if (number) *number = n < 0 ? 0 : n;
    return true;
}

static taut_status make_raw(bench_job *j, bench_place *p)
{
    const char   *why = NULL;
    taut__nccl_id id = {{0}};
    bool          ready = false;
    p->nccl = taut__nccl_get(&why);
    if (!p->nccl) return taut__fail(TAUT_E_UNSUPPORTED, "--nccl: NCCL cannot be used: %s", why);
    if (j->rank == 0) p->nccl->unique_id(&id);
    MPI_Bcast(id.bytes, (int)sizeof id.bytes, MPI_CHAR, 0, MPI_COMM_WORLD);
    TAUT_TRY(taut__nccl_begin(p->nccl, j->ranks, id, j->rank, &p->raw));
    for (int ms = 0; !ready && ms < 60000; ms++) {
        TAUT_TRY(taut__nccl_poll(p->nccl, p->raw, &ready));
        if (!ready) nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return ready ? TAUT_OK : taut__fail(TAUT_E_TIMEOUT, "--nccl: ncclCommInitRankConfig: not done within a minute");
}

static taut_status open_place(bench_job *j, bench_place *p)
{
    p->place = (taut_place){.space = TAUT_CUDA};
    if (!bench_place_device(j->device, &p->place.device)) return TAUT_E_INVALID;
    p->space = taut__memory_of(TAUT_CUDA);
    if (!p->space || !taut__vectors_of(TAUT_CUDA)) return TAUT_E_UNSUPPORTED;
    TAUT_TRY(p->space->stream_create(&p->place));
    return p->space->alloc(p->place, (size_t)j->sizes.to, &p->there);
}

int bench_place_open(bench_job *j)
{
    int rc;
    if (strcmp(j->device, "host") == 0) return j->nccl ? cli_fail("--nccl: needs --device cuda") : CLI_OK;
    j->at = calloc(1, sizeof *j->at);
    if (!j->at) return cli_fail("out of memory");
    if ((rc = bench_agree(j, open_place(j, j->at), j->device)) != CLI_OK || !j->nccl) return rc;
    return bench_agree(j, make_raw(j, j->at), "--nccl");
}

void bench_place_close(bench_job *j)
{
    bench_place *p = j->at;
    if (!p) return;
    if (p->raw) p->nccl->destroy(p->raw);
    if (p->space) p->space->release(p->place, p->there);
    if (p->space && p->place.stream) p->space->stream_destroy(p->place);
    free(p);
    j->at = NULL;
}

taut_status bench_place_attach(bench_job *j, taut_comm *comm)
{
    return j->nccl ? taut_comm_open_nccl(comm, j->at->place.device) : TAUT_OK;
}

static taut_status across(bench_place *p, void *dst, const void *src, size_t n)
{
    TAUT_TRY(p->space->copy(p->place, dst, src, n * sizeof(float)));
    return p->space->wait(p->place);
}
taut_status bench_place_put(bench_job *j, size_t n)
{
    return j->at ? across(j->at, j->at->there, j->x, n) : (memcpy(j->buf, j->x, n * sizeof *j->x), TAUT_OK);
}
taut_status bench_place_get(bench_job *j, size_t n) { return j->at ? across(j->at, j->buf, j->at->there, n) : TAUT_OK; }

taut_status bench_place_native(bench_job *j, size_t n)
{
    bench_place *p = j->at;
    if (!p || !p->raw)
        return MPI_Allreduce(MPI_IN_PLACE, j->buf, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD) == MPI_SUCCESS
                   ? TAUT_OK
                   : TAUT_E_TRANSPORT;
    int  r = p->nccl->all_reduce(p->there, p->there, n, TAUT__NCCL_F32, TAUT__NCCL_SUM, p->raw, p->place.stream);
    bool ready = r == TAUT__NCCL_OK;
    if (r != TAUT__NCCL_OK && r != TAUT__NCCL_IN_PROGRESS)
        return taut__nccl_failed(p->nccl, p->raw, r, "ncclAllReduce");
    while (!ready) TAUT_TRY(taut__nccl_poll(p->nccl, p->raw, &ready));
    return p->space->wait(p->place);
}

taut_status bench_place_taut(bench_job *j, taut_layer *layer)
{
    bench_place *p = j->at;
    if (!p) return taut_allreduce(layer, j->buf, TAUT_SUM);
    TAUT_TRY(taut_allreduce_start_on(layer, p->there, TAUT_SUM, TAUT_CUDA, p->place.device, p->place.stream));
    return taut_wait(layer);
}
