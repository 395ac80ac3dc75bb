/* topk_cuda.cu : the k largest magnitudes on a GPU, exactly, and the sparse payload (topk_sparse.h). Same bytes as topk.c.
 *
 * What is kept is found first (topk_select_cuda.h), as candidates and a threshold; or, where a threshold is given, or everything was counted, all
 * that is kept is collected here: tiles by ticket, each learns by looking back how many elements and how many ties lie before it, so ties go to
 * the lowest index. Candidates become groups, and those the payload (topk_emit_cuda.h). Where it would be longer than the floats,
 * or the k-th largest is not finite, the floats travel as they are. Decoding: topk_decode_cuda.h. */
#include "topk_decode_cuda.h"
#include "topk_emit_cuda.h"
#include "topk_select_cuda.h"

/* ---- collecting ---- */

static __global__ void __launch_bounds__(THREADS) topk_collect(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(unsigned long long, shared, 1);
    uint64_t u = taut_ticket(p.ticket, shared), unit;
    __syncthreads();
    const taut__cuda_job *j = taut_job_of(batch, u, &unit);
    choosing             *c = p.choosing_of + job_number(batch, j);
    uint64_t              base = u - unit;
    bool                  keeps_x = keeps(batch, j) && !c->stored;
    if (!c->chosen) return;                                        /* the candidates that are there will do */
    uint64_t in_order = unit * TAUT__CUDA_TILE + 16 * threadIdx.x; /* sixteen neighbours, so that order is by thread */
    float    v[16];
    uint32_t above = 0, equal = 0;
    TAUT_UNROLL
    for (int s = 0; s < 4; s++) {
        float4 x = make_float4(0, 0, 0, 0);
        if (in_order + 4 * s < j->n) {
            x = x_at(batch, j, c, in_order + 4 * s);
            if (keeps_x) taut_store4(j->err, in_order + 4 * s, j->n, x);
        }
        v[4 * s] = x.x, v[4 * s + 1] = x.y, v[4 * s + 2] = x.z, v[4 * s + 3] = x.w;
    }
    if (c->raw) return;
    uint64_t ties_go = c->rank;
    TAUT_UNROLL
    for (int q = 0; q < 16; q++) {
        uint32_t m = p.exact ? __float_as_uint(v[q]) : taut__topk_magnitude(v[q]);
        if (m > c->least) above |= 1u << q;
        else if (m == c->least && c->least) equal |= 1u << q;
    }
    if (j->choice && !p.exact) { /* the threshold of a whole tensor: ties by position in it */
        for (int q = 0; q < 16; q++)
            if ((equal >> q & 1) && j->first + in_order + (uint64_t)q <= j->choice->last_tie &&
                in_order + (uint64_t)q < j->n)
                above |= 1u << q;
        equal = 0;
    }
    if (c->least && !j->choice && !p.exact) { /* c->least and the other conditions are the same for the whole job */
        uint32_t all;
        uint32_t here = block_scan((uint32_t)__popc(equal), &all);
        uint64_t rank = chain(p.ties + base, unit, all, shared) + here;
        for (int q = 0; q < 16; q++)
            if (equal >> q & 1) above |= (uint32_t)(rank++ < ties_go) << q;
    }
    uint32_t all;
    uint32_t here = block_scan((uint32_t)__popc(above), &all);
    uint64_t to = chain(p.kept + base, unit, all, shared),
             room = taut__topk_list(p.density, p.exact || j->choice, j->n);
    if (threadIdx.x == 0 && (unit + 1) * TAUT__CUDA_TILE >= j->n) c->count = to + all;
    count_stretches(p, u, above);
    to += candidate_base(p, batch, j) + here, room += candidate_base(p, batch, j);
    for (int q = 0; q < 16; q++)
        if ((above >> q & 1) && to < room) {
            p.val[to] = v[q];
            p.at[to++] = (uint8_t)(in_order + (uint64_t)q);
        }
}

/* ---- launchers ---- */

static size_t   up16(size_t n) { return (n + 15) / 16 * 16; }
static uint64_t groups_of(uint64_t list, uint32_t jobs) { return list / GROUP + 1 + jobs; }

static uint64_t parts_of(uint64_t units, uint32_t jobs) { return units / WARPS + jobs; }

/* Scratch, in one piece: what is counted up or looked back at comes first, and is cleared. */
struct scratch {
    uint8_t                 *work; /* NULL: only `used` is wanted */
    size_t                   used;
    template <typename T> T *take(uint64_t count)
    {
        size_t at = used;
        used += up16(count * sizeof(T));
        return work && count ? (T *)(work + at) : NULL;
    }
};
/* The plan of a launch. own: it finds thresholds of its own; emits: for encode, not for choose. *cleared, *end: bytes of scratch. */
static plan plan_of(uint8_t *work, uint64_t units, uint64_t list, uint32_t jobs, bool own, bool emits, size_t *cleared,
                    size_t *end)
{
    scratch  w = {work, 0};
    uint64_t parts = emits ? parts_of(units, jobs) : 0, chains = own ? parts : 0;
    plan     p;
    memset(&p, 0, sizeof p);
    p.spread = own ? 4 : 1, p.spare = own ? SPARE : 0;
    uint64_t candidates = p.spread * list + (uint64_t)p.spare * jobs;
    p.ticket = w.take<unsigned long long>(3);
    p.choosing_of = w.take<choosing>(jobs);
    p.ties = w.take<unsigned long long>(units);
    p.kept = w.take<unsigned long long>(emits ? units : 0);
    p.seen = w.take<unsigned long long>(own ? units : 0);
    p.part_kept = w.take<unsigned long long>(chains);
    p.part_ties = w.take<unsigned long long>(chains);
    p.part_bytes = w.take<unsigned long long>(parts);
    *cleared = w.used;
    p.stretch = w.take<uint16_t>(emits ? units * STRETCHES : 0);
    p.val = w.take<float>(emits ? candidates : 0);
    p.at = w.take<uint8_t>(emits ? candidates : 0);
    p.near = w.take<uint32_t>(own ? candidates : 0);
    p.entry = w.take<uint64_t>(emits ? groups_of(list, jobs) : 0);
    *end = w.used;
    return p;
}
static size_t encode_work(uint64_t units, uint64_t list, uint32_t jobs, bool own)
{
    size_t cleared, bytes;
    (void)plan_of(NULL, units, list, jobs, own, true, &cleared, &bytes);
    return bytes;
}
static size_t choose_work(uint64_t units, uint64_t list, uint32_t jobs)
{
    size_t cleared, bytes;
    (void)plan_of(NULL, units, list, jobs, true, false, &cleared, &bytes);
    return bytes;
}
/* What a launch that encodes or chooses begins with: its arguments checked, its scratch divided and cleared. */
static taut_status begin(const taut__cuda_batch *b, const char *what, double density, uint64_t list, bool own,
                         bool emits, taut__cuda_stream s, plan *p)
{
    size_t cleared, bytes;
    TAUT_TRY(taut_check_batch(b, what));
    if (!(density > 0 && density <= 1))
        return taut__fail(TAUT_E_RANGE, "%s: density=%g: must be above 0, up to 1", what, density);
    *p = plan_of((uint8_t *)b->work, b->units, list, b->count, own, emits, &cleared, &bytes);
    if (b->work_bytes < bytes)
        return taut__fail(TAUT_E_CAPACITY, "%s: %zu bytes of scratch: must be %zu", what, b->work_bytes, bytes);
    p->density = density;
    cudaError_t e = cudaMemsetAsync(b->work, 0, cleared, s);
    return e == cudaSuccess ? TAUT_OK : taut__fail(TAUT_E_DEVICE, "%s: %s", what, cudaGetErrorString(e));
}

/* The k-th largest of each job: among near candidates, or among all. */
static void find_threshold(const taut__cuda_batch *b, const plan &p, taut__cuda_stream s)
{
    unsigned units = (unsigned)b->units;
    TAUT_LAUNCH(topk_sample, b->count, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_gather, units, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_pick_near, b->count, THREADS, 0, s, *b, p, true);
    for (int pass = 0; pass < 2; pass++) {
        TAUT_LAUNCH(topk_count_near, PARTS * b->count, THREADS, 0, s, *b, p);
        TAUT_LAUNCH(topk_pick_near, b->count, THREADS, 0, s, *b, p, false);
    }
    for (int pass = 0; pass < 3; pass++) { /* of jobs that are small, or whose sample misled */
        TAUT_LAUNCH(topk_count, units, THREADS, 0, s, *b, p, pass);
        TAUT_LAUNCH(topk_pick, b->count, THREADS, 0, s, *b, p, pass);
    }
}

static taut_status encode(const taut__cuda_batch *b, double density, bool exact, uint64_t list, taut__cuda_stream s)
{
    bool own = !exact && !b->one.choice;
    plan p;
    TAUT_TRY(begin(b, "topk encode", density, list, own, true, s, &p));
    p.exact = exact;
    unsigned units = (unsigned)b->units;
    if (own) find_threshold(b, p, s);
    TAUT_LAUNCH(topk_calibrate, (b->count + THREADS - 1) / THREADS, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_collect, units, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_emit, (unsigned)parts_of(b->units, b->count), THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_place, b->count, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_finish, units, THREADS, 0, s, *b, p);
    return taut_launched("topk encode");
}

static size_t decode_work(uint64_t list, uint32_t jobs)
{
    return up16(jobs * sizeof(opened)) + 2 * up16(8 * groups_of(list, jobs));
}

static taut_status decode(const taut__cuda_batch *b, int what, uint64_t list, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "topk decode"));
    if (b->work_bytes < decode_work(list, b->count))
        return taut__fail(TAUT_E_CAPACITY, "topk decode: %zu bytes of scratch: must be %zu", b->work_bytes,
                          decode_work(list, b->count));
    uint8_t *w = (uint8_t *)b->work;
    reading  r;
    action   act = what == 0 ? SET : what == 1 ? ADD : CLEAR;
    r.open = (opened *)w, w += up16(b->count * sizeof(opened));
    r.at = (uint64_t *)w, w += up16(8 * groups_of(list, b->count));
    r.first = (uint64_t *)w;
    TAUT_LAUNCH(topk_open, b->count, THREADS, 0, s, *b, r);
    TAUT_LAUNCH(topk_base, (unsigned)b->units, THREADS, 0, s, *b, r, act);
    TAUT_LAUNCH(topk_decode, (unsigned)((groups_of(list, b->count) + WARPS - 1) / WARPS), THREADS, 0, s, *b, r, act);
    return taut_launched("topk decode");
}

static taut_status choose(const taut__cuda_batch *b, double density, uint64_t list, taut__cuda_stream s)
{
    plan p;
    TAUT_TRY(begin(b, "topk calibrate", density, list, true, false, s, &p));
    find_threshold(b, p, s);
    TAUT_LAUNCH(topk_ties, (unsigned)b->units, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_choice, b->count, THREADS, 0, s, *b, p);
    return taut_launched("topk calibrate");
}
static taut_status count(const taut__cuda_batch *b, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "topk statistics"));
    TAUT_LAUNCH(topk_elements, (b->count + THREADS - 1) / THREADS, THREADS, 0, s, *b);
    return taut_launched("topk statistics");
}

extern "C" const taut__cuda_topk TAUT_CUDA_TABLE(topk);
extern "C" const taut__cuda_topk TAUT_CUDA_TABLE(topk) = {encode_work, encode, decode_work, decode,
                                                          choose_work, choose, count};
