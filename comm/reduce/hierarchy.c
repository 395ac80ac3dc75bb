/* hierarchy.c : hierarchical reduction. The ranks of one host add their gradients uncompressed in their leader (the lowest rank),
 * over the host's shared memory; leaders cross the network, compressed, as a group of their own; then leaders hand the
 * result to their host. So a host encodes once, and residuals live at leaders. float32 layers only.
 *
 * Both directions go in slices, a few under way, as slots (arena.h) are there. The leader adds in order of rank. */
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include "../core/communicator.h"

typedef struct slot {
    taut__request *request; /* leader: one per other rank; others: one. NULL: no slice has the slot */
    float        *in;      /* leader: sub floats per other rank */
} slot;

typedef struct taut__hierarchy {
    size_t sub, slices;
    size_t started, finished;
    slot   slot[TAUT_SLOTS];
} taut__hierarchy;

static bool leads(const taut__job *job) { return job->comm->local.rank == 0; }

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
    int32_t mode = comm->set.hierarchy;
    comm->local.t = comm->leaders.t = comm->t;
    TAUT_TRY(split(comm));
    int several = 0; /* hosts with several ranks */
    for (int h = 0; h < comm->leaders.size; h++) {
        int ranks = 0;
        for (int r = 0; r < comm->t->size; r++) ranks += comm->t->host[r] == h;
        several += ranks > 1;
    }
    comm->hierarchical = mode == TAUT_HIERARCHY_ON ? several > 0 : mode == TAUT_HIERARCHY_AUTO && comm->leaders.size > 1 && several == comm->leaders.size;
    return TAUT_OK;
}

static size_t requests_of(const taut__job *job) { return leads(job) ? (size_t)job->comm->local.size - 1 : 1; }

/* memory: of a slot; NULL: counts its bytes. */
static size_t lay_out(const taut__job *job, slot *t, void *memory)
{
    taut__carver c = {memory, 0};
    t->request = taut__carve(&c, requests_of(job), sizeof *t->request);
    t->in = leads(job) ? taut__carve(&c, requests_of(job) * job->hier->sub, sizeof *t->in) : NULL;
    return c.bytes;
}

/* Cut like a sum over the host's ranks, so that a slot stays a small part of the layer. */
taut_status taut__hier_prepare(taut__job *job)
{
    taut_comm *comm = job->comm;
    size_t     n = job->call.n;
    taut__hierarchy *h = job->hier = taut__alloc(1, sizeof *h);
    slot       t;
    if (!h) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", job->name);
    h->sub = taut__partition_of(n, comm->local.size, 1, comm->set.c.slice_kib * (size_t)256).sub;
    h->slices = taut__ceil_div(n, h->sub);
    taut__slots_need(&job->slots, lay_out(job, &t, NULL), requests_of(job), taut__min(h->slices, TAUT_SLOTS));
    return TAUT_OK;
}

void taut__hier_release(taut__job *job)
{
    taut__free(job->hier);
    job->hier = NULL;
}

void taut__hier_cancel(taut__job *job)
{
    taut__hierarchy *h = job->hier;
    for (size_t i = 0; h && i < TAUT_SLOTS; i++)
        for (size_t q = 0; h->slot[i].request && q < requests_of(job); q++)
            job->comm->t->ops->cancel(job->comm->t, &h->slot[i].request[q]);
}

/* *hops: 1, as of a job with a hierarchy. The leader sees its own ranks. They see the leader only, and once it has their sums, it
 * waits for other leaders, who wait for their ranks. */
int taut__hier_waiting_for(const taut__job *job, int *hops)
{
    const taut__hierarchy *h = job->hier;
    bool down = job->phase == TAUT_PHASE_LOCAL_COPY;
    *hops += leads(job) ? -1 : down ? 1 + taut__log2(taut__power_below(job->comm->leaders.size)) : 0; /* rounds of their exchange */
    for (size_t i = 0; h && i < TAUT_SLOTS; i++)
        for (size_t q = 0; h->slot[i].request && q < requests_of(job); q++)
            if (!taut__done(&h->slot[i].request[q])) return h->slot[i].request[q].peer;
    return -1;
}

static taut__range slice(const taut__job *job, size_t k)
{
    size_t first = k * job->hier->sub;
    return (taut__range){first, taut__min(job->hier->sub, job->call.n - first)};
}
static slot *slot_of(const taut__job *job, size_t k) { return &job->hier->slot[k % TAUT_SLOTS]; }

/* Memory for slice k; false: none is left now. */
static bool open_slot(taut__job *job, size_t k)
{
    slot *t = slot_of(job, k);
    void *memory = taut__slots_take(&job->slots, lay_out(job, t, NULL), requests_of(job));
    if (!memory) return false;
    lay_out(job, t, memory);
    taut__requests_init(t->request, requests_of(job));
    return true;
}

static void close_slot(taut__job *job, size_t k)
{
    slot *t = slot_of(job, k);
    taut__slots_give(&job->slots, t->request); /* a slot begins with them */
    t->request = NULL;
}

/* up: the leader receives from all others; down: they receive from it. */
static taut_status start(taut__job *job, size_t k, bool up)
{
    slot             *t = slot_of(job, k);
    const taut__group *local = &job->comm->local;
    taut__range        r = slice(job, k);
    float            *x = (float *)job->buf + r.first;
    size_t            bytes = r.n * sizeof *x;
    int               tag = job->tag + (up ? TAUT_TAG_UP : TAUT_TAG_DOWN);
    if (!leads(job)) {
        job->record.bytes_sent += up ? bytes : 0;
        job->record.bytes_dense += up ? bytes : 0;
        return up ? taut__isend(local, t->request, 0, tag, x, bytes) : taut__irecv(local, t->request, 0, tag, x, bytes);
    }
    for (int q = 1; q < local->size; q++) {
        size_t i = (size_t)q - 1;
        TAUT_TRY(up ? taut__irecv(local, &t->request[i], q, tag, t->in + i * job->hier->sub, bytes)
                    : taut__isend(local, &t->request[i], q, tag, x, bytes));
        job->record.bytes_sent += up ? 0 : bytes;
        job->record.bytes_dense += up ? 0 : bytes;
    }
    return TAUT_OK;
}

static taut_status finish(taut__job *job, size_t k, bool up)
{
    slot      *t = slot_of(job, k);
    taut__range r = slice(job, k);
    for (size_t i = 0; up == leads(job) && i < requests_of(job); i++) { /* whoever receives */
        const taut__request *in = &t->request[i];
        if (in->got != r.n * sizeof(float))
            return taut__fail(TAUT_E_MISMATCH, "%s: rank %d sent %zu bytes where %zu were expected", job->name, in->peer, in->got,
                              r.n * sizeof(float));
        if (up) taut__simd_get()->vec->add((float *)job->buf + r.first, t->in + i * job->hier->sub, r.n);
    }
    close_slot(job, k);
    return TAUT_OK;
}

static taut_status advance(taut__job *job, bool up, bool *moved, bool *done)
{
    taut__hierarchy *h = job->hier;
    if (job->at == 0) h->started = h->finished = 0;
    job->at = 1;
    if (h->started < h->slices && h->started < h->finished + TAUT_SLOTS && open_slot(job, h->started)) {
        *moved = true;
        TAUT_TRY(start(job, h->started++, up));
    }
    if (h->finished < h->started && taut__all_done(slot_of(job, h->finished)->request, requests_of(job))) {
        *moved = true;
        TAUT_TRY(finish(job, h->finished++, up));
    }
    *done = h->finished == h->slices;
    return TAUT_OK;
}

taut_status taut__hier_up(taut__job *job, bool *moved, bool *done) { return advance(job, true, moved, done); }
taut_status taut__hier_down(taut__job *job, bool *moved, bool *done) { return advance(job, false, moved, done); }
