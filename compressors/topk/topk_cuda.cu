/* topk_cuda.cu : the k largest magnitudes on a GPU, exactly, and the sparse payload (topk_sparse.h). Same bytes as topk.c.
 *
 * What is kept is found first (topk_select_cuda.h), as candidates and a threshold. From candidates, or, where a threshold is given, or
 * everything was counted, from all elements, a list of what is kept is made, and from it the payload (topk_emit_cuda.h). Where it would be
 * longer than the floats, or the k-th largest is not finite, the floats travel as they are. Decoding: topk_decode_cuda.h. */
#include "topk_decode_cuda.h"
#include "topk_emit_cuda.h"
#include "topk_select_cuda.h"

/* ---- launchers ---- */

static size_t   up16(size_t n) { return (n + 15) / 16 * 16; }
static uint64_t groups_of(uint64_t list, uint32_t jobs) { return list / GROUP + 1 + jobs; }

static uint64_t parts_of(uint64_t units, uint32_t jobs) { return units / WARPS + jobs; }
static uint64_t blocks_of(uint64_t list, uint32_t jobs) { return list / (GROUP * WARPS) + jobs; }

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
static bool wide(uint64_t units) { return units >= WIDE_FROM; }

/* The plan of a launch. own: it finds thresholds of its own; emits: for encode, not for choose. *cleared, *end: bytes of scratch. */
static plan plan_of(uint8_t *work, uint64_t units, uint64_t list, uint32_t jobs, bool own, bool emits, size_t *cleared,
                    size_t *end)
{
    scratch  w = {work, 0};
    uint64_t parts = own && emits ? parts_of(units, jobs) : 0, blocks = emits ? blocks_of(list, jobs) : 0,
             candidates = own ? 4 * list + (uint64_t)SPARE * jobs : 0;
    plan p;
    memset(&p, 0, sizeof p);
    p.own = own;
    p.ticket = w.take<unsigned long long>(3);
    p.again = w.take<unsigned long long>(1);
    p.choosing_of = w.take<choosing>(jobs);
    p.kept = w.take<unsigned long long>(emits ? units : 0);
    p.part_above = w.take<unsigned long long>(parts);
    p.part_ties = w.take<unsigned long long>(parts);
    p.block_bytes = w.take<unsigned long long>(blocks);
    *cleared = w.used;
    p.tile = w.take<unsigned long long>(own ? units : 0);
    p.ties = w.take<uint32_t>(own ? units : 0);
    p.val = w.take<float>(candidates);
    p.at = w.take<uint16_t>(emits ? candidates : 0);
    if (wide(units)) p.pos = w.take<uint64_t>(emits ? list : 0);
    else p.pos = w.take<uint32_t>(emits ? list : 0);
    p.kept_val = w.take<float>(emits ? list : 0);
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

/* The grid of kernels that loop over units of work. */
static unsigned grid_of(uint64_t units) { return (unsigned)taut__min(units, (uint64_t)MANY); }

/* The k-th largest of each job: among candidates, or among all. */
static void find_threshold(const taut__cuda_batch *b, const plan &p, bool calibrating, taut__cuda_stream s)
{
    unsigned gather = 1 + (b->units >= 16) + 2 * (b->units >= 2 * MANY), /* tiles of a block */
        count = (unsigned)taut__ceil_div(b->units, (uint64_t)MANY),
             parts = (unsigned)taut__ceil_div(taut__min(b->units / 8, (uint64_t)MANY), (uint64_t)b->count);
    parts = parts ? parts : 1;
    TAUT_LAUNCH(topk_sample, b->count, SAMPLERS, 0, s, *b, p);
    TAUT_LAUNCH(topk_gather, (unsigned)taut__ceil_div(b->units, (uint64_t)gather), THREADS, 0, s, *b, p, gather);
    for (int pass = 0; pass < 3; pass++)
        TAUT_LAUNCH(topk_count_near, parts * b->count, THREADS, 0, s, *b, p, pass == 0, parts);
    for (int pass = 0; pass < 3; pass++) /* of jobs that are small, or whose sample misled */
        TAUT_LAUNCH(topk_count, (unsigned)taut__ceil_div(b->units, (uint64_t)count), THREADS, 0, s, *b, p, pass, count);
    TAUT_LAUNCH(topk_ties, grid_of(taut__ceil_div(b->units, (uint64_t)WARPS)), THREADS, 0, s, *b, p, calibrating);
    TAUT_LAUNCH(topk_last_tie, b->count, THREADS, 0, s, *b, p, calibrating);
}

template <typename POS> static void emit(const taut__cuda_batch *b, const plan &p, uint64_t list, taut__cuda_stream s)
{
    TAUT_LAUNCH(topk_collect<POS>, grid_of(b->units), THREADS, 0, s, *b, p);
    if (p.own) TAUT_LAUNCH(topk_sort_out<POS>, (unsigned)parts_of(b->units, b->count), THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_emit<POS>, (unsigned)blocks_of(list, b->count), THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_finish<POS>, grid_of(b->units), THREADS, 0, s, *b, p);
}

static taut_status encode(const taut__cuda_batch *b, double density, bool exact, uint64_t list, taut__cuda_stream s)
{
    bool own = !exact && !b->one.choice;
    plan p;
    TAUT_TRY(begin(b, "topk encode", density, list, own, true, s, &p));
    p.exact = exact;
    if (own) find_threshold(b, p, false, s);
    if (wide(b->units)) emit<uint64_t>(b, p, list, s);
    else emit<uint32_t>(b, p, list, s);
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
    TAUT_LAUNCH(topk_open, b->count, OPENERS, 0, s, *b, r);
    TAUT_LAUNCH(topk_base, grid_of(b->units), THREADS, 0, s, *b, r, act);
    uint64_t groups = groups_of(list, b->count), blocks = taut__ceil_div(groups, (uint64_t)WARPS);
    TAUT_LAUNCH(topk_decode, (unsigned)taut__min(blocks, 4ull * MANY), THREADS, 0, s, *b, r, act, groups);
    return taut_launched("topk decode");
}

static taut_status choose(const taut__cuda_batch *b, double density, uint64_t list, taut__cuda_stream s)
{
    plan p;
    TAUT_TRY(begin(b, "topk calibrate", density, list, true, false, s, &p));
    find_threshold(b, p, true, s);
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
