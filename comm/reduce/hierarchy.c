/* hierarchy.c : hierarchical reduction. The ranks of one host add their gradients uncompressed in their leader (the lowest rank),
 * over the host's shared memory; leaders cross the network, compressed, as a group of their own; then leaders hand the
 * result to their host. So a host encodes once, and residuals live at leaders. float32 layers only.
 *
 *     leader     LOCAL_SUM (receives, adds) -> own phases with the leaders of other hosts -> LOCAL_COPY (sends)    -> DONE
 *     followers  LOCAL_SUM (send)           --------------------------------------------> LOCAL_COPY (receive)    -> DONE
 *
 *     time ->    F: |send k=0|send 1|...            wait                    |recv 0|recv 1|...
 *                L: |recv, add 0|recv, add 1|...    reduce with leaders     |send 0|send 1|...
 *
 * The phases are one after the other: what leaders encode is the sum of all of the host, whose statistics the codec wants to see first.
 * Both directions go in slices, a few under way, as slots (arena.h) are there. The leader adds in order of rank. Outside the host a slice
 * is staged in its slot: copied into host memory, summed or received there, and copied back; both copies are under way as messages are.
 *
 * A slice passes through: opened (on its way to the stage), started (messages), met (all have come, and been added), finished (what came is in buf). */
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include "phases.h"
#include "placed.h"

typedef struct slot {
    taut__request *request; /* leader: one per other rank; others: one. NULL: no slice has the slot */
    float         *in;      /* leader: sub floats per other rank */
    float         *stage;   /* outside the host: sub floats of buf */
    taut__event   *copied;  /* the last copy from or to it; NULL on the host. Of the place, for good */
} slot;

typedef struct taut__hierarchy {
    size_t sub, slices;
    size_t opened, started, met, finished;
    slot   slot[TAUT_SLOTS];
} taut__hierarchy;

static bool leads(const taut__reduction *red) { return red->ctx->local.rank == 0; }

static size_t requests_of(const taut__reduction *red) { return leads(red) ? (size_t)red->ctx->local.size - 1 : 1; }

/* memory: of a slot; NULL: counts its bytes. */
static size_t lay_out(const taut__reduction *red, slot *t, void *memory)
{
    taut__carver c = {memory, 0};
    t->request = taut__carve(&c, requests_of(red), sizeof *t->request);
    t->in = leads(red) ? taut__carve(&c, requests_of(red) * red->hier->sub, sizeof *t->in) : NULL;
    t->stage = taut__at_home(red) ? NULL : taut__carve(&c, red->hier->sub, sizeof *t->stage);
    return c.bytes;
}

/* Cut like a sum over the host's ranks, so that a slot stays a small part of the layer. */
taut_status taut__hier_prepare(taut__reduction *red)
{
    size_t           n = red->call.n;
    taut__hierarchy *h = red->hier = taut__alloc(1, sizeof *h);
    slot             t;
    if (!h) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", red->job.name);
    h->sub = taut__partition_of(n, red->ctx->local.size, 1, red->ctx->set.c.slice_kib * (size_t)256).sub;
    h->slices = taut__ceil_div(n, h->sub);
    taut__slots_need(&red->slots, lay_out(red, &t, NULL), requests_of(red), taut__min(h->slices, TAUT_SLOTS));
    for (size_t i = 0; i < TAUT_SLOTS && !taut__at_home(red); i++)
        TAUT_TRY(red->lane->space->event_create(red->lane->place, &h->slot[i].copied));
    return TAUT_OK;
}

void taut__hier_release(taut__reduction *red)
{
    for (size_t i = 0; red->hier && i < TAUT_SLOTS; i++) red->lane->space->event_destroy(red->hier->slot[i].copied);
    taut__free(red->hier);
    red->hier = NULL;
}

void taut__hier_cancel(taut__reduction *red)
{
    taut__hierarchy *h = red->hier;
    for (size_t i = 0; h && i < TAUT_SLOTS; i++)
        for (size_t q = 0; h->slot[i].request && q < requests_of(red); q++)
            red->ctx->t->ops->cancel(red->ctx->t, &h->slot[i].request[q]);
}

int taut__hier_waiting_for(const taut__reduction *red)
{
    const taut__hierarchy *h = red->hier;
    for (size_t i = 0; h && i < TAUT_SLOTS; i++)
        for (size_t q = 0; h->slot[i].request && q < requests_of(red); q++)
            if (!taut__done(&h->slot[i].request[q])) return h->slot[i].request[q].peer;
    return -1;
}

static taut__range slice(const taut__reduction *red, size_t k)
{
    size_t first = k * red->hier->sub;
    return (taut__range){first, taut__min(red->hier->sub, red->call.n - first)};
}
static slot *slot_of(const taut__reduction *red, size_t k) { return &red->hier->slot[k % TAUT_SLOTS]; }

/* Memory for slice k; false: none is left now. */
static bool open_slot(taut__reduction *red, size_t k)
{
    slot *t = slot_of(red, k);
    void *memory = taut__slots_take(&red->slots, lay_out(red, t, NULL), requests_of(red));
    if (!memory) return false;
    lay_out(red, t, memory);
    taut__requests_init(t->request, requests_of(red));
    return true;
}

static void close_slot(taut__reduction *red, size_t k)
{
    slot *t = slot_of(red, k);
    taut__slots_give(&red->slots, t->request); /* a slot begins with them */
    t->request = NULL;
}

/* Of slice r, in host memory. */
static float *here(const taut__reduction *red, const slot *t, taut__range r)
{
    return taut__at_home(red) ? (float *)red->buf + r.first : t->stage;
}

/* ---- between buf and the stage: in stream order, and nothing on the host ---- */

static taut_status copy(taut__reduction *red, size_t k, bool back)
{
    slot       *t = slot_of(red, k);
    taut__range r = slice(red, k);
    float      *x = (float *)red->buf + r.first;
    if (taut__at_home(red)) return TAUT_OK;
    TAUT_TRY(red->lane->space->copy(red->lane->place, back ? x : t->stage, back ? t->stage : x, r.n * sizeof *x));
    return red->lane->space->event_record(t->copied, red->lane->place);
}

static taut_status copied(taut__reduction *red, size_t k, bool *passed)
{
    *passed = true;
    return taut__at_home(red) ? TAUT_OK : taut__lane_passed(red->lane, slot_of(red, k)->copied, passed);
}

/* ---- a slice ---- */

/* Up, the leader receives from all others; down, they receive from it. */
static bool receives(const taut__reduction *red, bool up) { return up == leads(red); }

static taut_status start(taut__reduction *red, size_t k, bool up)
{
    slot              *t = slot_of(red, k);
    const taut__group *local = &red->ctx->local;
    taut__range        r = slice(red, k);
    float             *x = here(red, t, r);
    size_t             bytes = r.n * sizeof *x;
    int                tag = red->job.tag + (up ? TAUT_TAG_UP : TAUT_TAG_DOWN);
    size_t             sends = receives(red, up) ? 0 : requests_of(red);
    red->record.bytes_sent += sends * bytes;
    red->record.bytes_dense += sends * bytes;
    if (!leads(red))
        return up ? taut__isend(local, t->request, 0, tag, x, bytes) : taut__irecv(local, t->request, 0, tag, x, bytes);
    for (int q = 1; q < local->size; q++) {
        size_t i = (size_t)q - 1;
        TAUT_TRY(up ? taut__irecv(local, &t->request[i], q, tag, t->in + i * red->hier->sub, bytes)
                    : taut__isend(local, &t->request[i], q, tag, x, bytes));
    }
    return TAUT_OK;
}

static taut_status meet(taut__reduction *red, size_t k, bool up)
{
    slot       *t = slot_of(red, k);
    taut__range r = slice(red, k);
    for (size_t i = 0; receives(red, up) && i < requests_of(red); i++) {
        const taut__request *in = &t->request[i];
        if (in->got != r.n * sizeof(float))
            return taut__fail(TAUT_E_MISMATCH, "%s: rank %d sent %zu bytes where %zu were expected", red->job.name,
                              in->peer, in->got, r.n * sizeof(float));
        if (up) taut__simd_get()->vec->add(here(red, t, r), t->in + i * red->hier->sub, r.n);
    }
    return receives(red, up) ? copy(red, k, true) : TAUT_OK;
}

taut_status taut__hier_advance(taut__reduction *red, bool up, bool *moved, bool *done)
{
    taut__hierarchy *h = red->hier;
    bool             there = true;
    if (red->at == 0) h->opened = h->started = h->met = h->finished = 0;
    red->at = 1;
    if (h->opened < h->slices && h->opened < h->finished + TAUT_SLOTS && open_slot(red, h->opened)) {
        *moved = true;
        if (up || leads(red)) TAUT_TRY(copy(red, h->opened, false));
        h->opened++;
    }
    if (h->started < h->opened && (up || leads(red))) TAUT_TRY(copied(red, h->started, &there));
    if (h->started < h->opened && there) {
        *moved = true;
        TAUT_TRY(start(red, h->started++, up));
    }
    if (h->met < h->started && taut__all_done(slot_of(red, h->met)->request, requests_of(red))) {
        *moved = true;
        TAUT_TRY(meet(red, h->met++, up));
    }
    if (h->finished < h->met) TAUT_TRY(copied(red, h->finished, &there));
    if (h->finished < h->met && there) {
        *moved = true;
        close_slot(red, h->finished++);
    }
    *done = h->finished == h->slices;
    return TAUT_OK;
}
