/* hier.c : hierarchical reduction. The ranks of one host add their gradients uncompressed in their leader (the lowest rank),
 * over the host's shared memory; leaders cross the network, compressed, as a group of their own; then leaders hand the
 * result to their host. So a host encodes once, and residuals live at leaders. float32 layers only.
 *
 * Both directions go in slices, a few under way. The leader adds in order of rank. */
#include "../compressors/dispatch.h"
#include "../compressors/vec/vec.h"
#include "communicator.h"

typedef struct taut_hier {
    size_t        sub, slices;
    size_t        started, finished;
    float        *in;      /* leader: TAUT_SLOTS * (local ranks) * sub floats */
    taut_request *request; /* TAUT_SLOTS * local ranks; other ranks use one per slot */
} taut_hier;

static bool leads(const taut_job *job) { return job->comm->local.rank == 0; }

static taut_status split(taut_comm *comm)
{
    int  p = comm->t->size, hosts = 0, locals = 0, mine = comm->t->host[comm->t->rank], last = -1;
    int *local, *leader;
    comm->members = taut__alloc(2 * (size_t)p, sizeof *comm->members);
    if (!comm->members) return taut__fail(TAUT_E_NOMEM, "hierarchy: out of memory");
    local = comm->members, leader = comm->members + p;
    comm->local.rank = comm->leaders.rank = -1;
    for (int r = 0; r < p; r++) {
        if (comm->t->host[r] == mine) {
            if (r == comm->t->rank) comm->local.rank = locals;
            local[locals++] = r;
        }
        if (comm->t->host[r] <= last) continue; /* hosts are numbered in order of their lowest rank */
        last = comm->t->host[r];
        if (r == comm->t->rank) comm->leaders.rank = hosts;
        leader[hosts++] = r;
    }
    comm->local.size = locals, comm->local.member = local;
    comm->leaders.size = hosts, comm->leaders.member = leader;
    return TAUT_OK;
}

taut_status taut__hier_init(taut_comm *comm)
{
    const char *mode = comm->set.c.hierarchy;
    comm->local.t = comm->leaders.t = comm->t;
    TAUT_TRY(split(comm));
    int several = 0; /* hosts with several ranks */
    for (int h = 0; h < comm->leaders.size; h++) {
        int ranks = 0;
        for (int r = 0; r < comm->t->size; r++) ranks += comm->t->host[r] == h;
        several += ranks > 1;
    }
    comm->hierarchical = mode[1] == 'n' ? several > 0 : mode[0] == 'a' && comm->leaders.size > 1 && several == comm->leaders.size;
    return TAUT_OK;
}

taut_status taut__hier_prepare(taut_job *job)
{
    taut_comm *comm = job->comm;
    size_t     n = job->call.n, p = (size_t)comm->local.size, requests = TAUT_SLOTS * p;
    taut_hier *h = job->hier = taut__alloc(1, sizeof *h);
    if (!h) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", job->name);
    h->sub = taut__min(n, comm->set.c.slice_kib * (size_t)256);
    h->slices = taut__ceil_div(n, h->sub);
    h->request = taut__alloc(requests, sizeof *h->request);
    if (leads(job)) h->in = taut__alloc(requests * h->sub, sizeof *h->in);
    if (!h->request || (leads(job) && !h->in)) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", job->name);
    taut__requests_init(h->request, requests);
    return comm->t->ops->reserve(comm->t, requests);
}

void taut__hier_release(taut_job *job)
{
    if (!job->hier) return;
    taut__free(job->hier->request);
    taut__free(job->hier->in);
    taut__free(job->hier);
    job->hier = NULL;
}

void taut__hier_cancel(taut_job *job)
{
    if (!job->hier) return;
    for (size_t i = 0; i < TAUT_SLOTS * (size_t)job->comm->local.size; i++)
        job->comm->t->ops->cancel(job->comm->t, &job->hier->request[i]);
}

static taut_range slice(const taut_job *job, size_t k)
{
    size_t first = k * job->hier->sub;
    return (taut_range){first, taut__min(job->hier->sub, job->call.n - first)};
}
static size_t slot(const taut_job *job, size_t k, int q) { return k % TAUT_SLOTS * (size_t)job->comm->local.size + (size_t)q; }

/* up: the leader receives from all others; down: they receive from it. */
static taut_status start(taut_job *job, size_t k, bool up)
{
    taut_hier        *h = job->hier;
    const taut_group *local = &job->comm->local;
    taut_range        r = slice(job, k);
    float            *x = (float *)job->buf + r.first;
    size_t            bytes = r.n * sizeof *x;
    int               tag = job->tag + (up ? TAUT_TAG_UP : TAUT_TAG_DOWN);
    if (!leads(job)) {
        job->record.bytes_sent += up ? bytes : 0;
        job->record.bytes_dense += up ? bytes : 0;
        return up ? taut__isend(local, &h->request[slot(job, k, 0)], 0, tag, x, bytes)
                  : taut__irecv(local, &h->request[slot(job, k, 0)], 0, tag, x, bytes);
    }
    for (int q = 1; q < local->size; q++) {
        size_t i = slot(job, k, q);
        TAUT_TRY(up ? taut__irecv(local, &h->request[i], q, tag, h->in + i * h->sub, bytes)
                    : taut__isend(local, &h->request[i], q, tag, x, bytes));
        job->record.bytes_sent += up ? 0 : bytes;
        job->record.bytes_dense += up ? 0 : bytes;
    }
    return TAUT_OK;
}

static taut_status finish(taut_job *job, size_t k, bool up)
{
    taut_hier *h = job->hier;
    taut_range r = slice(job, k);
    bool       receives = up == leads(job);
    for (int q = leads(job) ? 1 : 0; receives && q < (leads(job) ? job->comm->local.size : 1); q++) {
        size_t i = slot(job, k, q);
        if (h->request[i].got != r.n * sizeof(float))
            return taut__fail(TAUT_E_MISMATCH, "%s: rank %d sent %zu bytes where %zu were expected", job->name,
                              h->request[i].peer, h->request[i].got, r.n * sizeof(float));
        if (up) taut__simd_get()->vec->add((float *)job->buf + r.first, h->in + i * h->sub, r.n);
    }
    return TAUT_OK;
}

static taut_status advance(taut_job *job, bool up, bool *moved, bool *done)
{
    taut_hier *h = job->hier;
    size_t     p = (size_t)job->comm->local.size;
    if (job->at == 0) h->started = h->finished = 0;
    job->at = 1;
    if (h->started < h->slices && h->started < h->finished + TAUT_SLOTS) {
        *moved = true;
        TAUT_TRY(start(job, h->started++, up));
    }
    if (h->finished < h->started && taut__all_done(&h->request[slot(job, h->finished, 0)], p)) {
        *moved = true;
        TAUT_TRY(finish(job, h->finished++, up));
    }
    *done = h->finished == h->slices;
    return TAUT_OK;
}

taut_status taut__hier_up(taut_job *job, bool *moved, bool *done) { return advance(job, true, moved, done); }
taut_status taut__hier_down(taut_job *job, bool *moved, bool *done) { return advance(job, false, moved, done); }
