/* topk_cuda.cu : the k largest magnitudes on a GPU, exactly, and the sparse payload (topk_sparse.h). Same bytes as topk.c.
 *
 * What is kept is found first (topk_select_cuda.h). Collecting it is in order: tiles by ticket, each learns by looking back how many
 * elements and how many ties lie before it, so ties go to the lowest index. Groups of 512 are then sized, placed and written, a warp
 * for each. Where the payload would be longer than the floats, or the k-th largest is not finite, the floats travel as they are.
 * Decoding: topk_decode_cuda.h. */
#include "topk_decode_cuda.h"
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
    if (c->floor && !c->all) return;                               /* topk_filter has done it */
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
    to += here;
    for (int q = 0; q < 16; q++)
        if ((above >> q & 1) && to < room) {
            p.pos[j->list + to] = in_order + (uint64_t)q;
            p.val[j->list + to] = v[q];
            to++;
        }
}

/* ---- groups ---- */

static __device__ __forceinline__ uint64_t gap_of(const uint64_t *pos, uint64_t i)
{
    return pos[i] - (i ? pos[i - 1] + 1 : 0);
}
static __device__ __forceinline__ uint64_t warp_total(uint64_t v)
{
    for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(TAUT_ALL, v, d);
    return v;
}

/* Entry and bytes of each group. A warp per group, of as many as a job may have. */
static __global__ void __launch_bounds__(THREADS) topk_size(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    uint64_t              u = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP, g;
    const taut__cuda_job *j = job_of_group(batch, u, &g);
    if (!j) return;
    choosing *c = p.choosing_of + job_number(batch, j);
    if (c->raw || g * GROUP >= c->count) return;
    const uint64_t *pos = p.pos + j->list;
    uint64_t        first = g * GROUP, fill = taut__min(GROUP, c->count - first), last = pos[first + fill - 1];
    uint64_t        span = last + 1 - (first ? pos[first - 1] + 1 : 0), best_cost = ~UINT64_C(0), unary = 0;
    unsigned        guess = taut__sparse_rice_guess(span, fill), best = 0;
    for (unsigned b = guess ? guess - 1 : 0; b <= guess + 1 && b <= TAUT_SPARSE_RICE_MAX; b++) {
        uint64_t sum = 0;
        for (uint64_t i = TAUT_LANE; i < fill; i += TAUT_WARP) sum += gap_of(pos, first + i) >> b;
        sum = warp_total(sum) + fill;
        uint64_t cost = sum + (uint64_t)b * fill;
        if (cost >= best_cost) continue;
        best_cost = cost, best = b, unary = sum;
    }
    if (TAUT_LANE != 0) return;
    uint64_t words = taut__sparse_words(unary), low = taut__sparse_words((uint64_t)best * fill);
    if (span >> TAUT_SPARSE_SPAN_BITS || words >> TAUT_SPARSE_WORDS_BITS) atomicOr(&c->raw, 1u);
    p.entry[u] =
        span | words << TAUT_SPARSE_SPAN_BITS | (uint64_t)best << (TAUT_SPARSE_SPAN_BITS + TAUT_SPARSE_WORDS_BITS);
    p.at[u] = 4 * (words + low + fill);
}

/* Where each group lies; header, length; or that the floats are shorter. A block per job. */
static __global__ void __launch_bounds__(THREADS) topk_place(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    choosing             *c = p.choosing_of + blockIdx.x;
    uint64_t              base = group_base(batch, j), groups = c->raw ? 0 : (c->count + GROUP - 1) / GROUP,
             used = TAUT_SPARSE_HEADER;
    uint64_t room = taut__topk_list(p.density, p.exact || j->choice, j->n);
    bool     raw = c->raw || c->count > room;
    __syncthreads();
    for (uint64_t from = 0; from < groups && !raw; from += THREADS) {
        uint64_t i = from + threadIdx.x;
        uint32_t bytes = i < groups ? (uint32_t)p.at[base + i] : 0, all;
        uint32_t before = block_scan(bytes, &all);
        if (i < groups) p.at[base + i] = used + before;
        used += all;
    }
    if (used + TAUT_SPARSE_ENTRY * groups > TAUT_SPARSE_HEADER + 4 * j->n) raw = true;
    if (threadIdx.x != 0) return;
    uint64_t *word = (uint64_t *)j->payload;
    c->raw = raw;
    c->groups = groups, c->bytes = used;
    word[0] = raw ? TAUT_SPARSE_RAW : TAUT_SPARSE_GROUPS;
    memcpy(word + 1, &p.density, sizeof p.density);
    word[2] = raw ? j->n : c->count;
    *j->len = raw ? TAUT_SPARSE_HEADER + 4 * j->n : used + TAUT_SPARSE_ENTRY * groups;
}

static __global__ void __launch_bounds__(THREADS, 4) topk_write(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(uint32_t, unary_words, WARPS * UNARY_MAX);
    TAUT_SHARED(uint32_t, lows, WARPS * GROUP);
    uint64_t              u = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP, g;
    const taut__cuda_job *j = job_of_group(batch, u, &g);
    if (!j) return;
    choosing *c = p.choosing_of + job_number(batch, j);
    if (c->raw || g >= c->groups) return;
    const uint64_t *pos = p.pos + j->list;
    uint64_t        first = g * GROUP, entry = p.entry[u];
    uint32_t        fill = (uint32_t)taut__min(GROUP, c->count - first),
             words = (uint32_t)(entry >> TAUT_SPARSE_SPAN_BITS) & ((1u << TAUT_SPARSE_WORDS_BITS) - 1);
    uint32_t b = (uint32_t)(entry >> (TAUT_SPARSE_SPAN_BITS + TAUT_SPARSE_WORDS_BITS)),
             low_words = (uint32_t)taut__sparse_words((uint64_t)b * fill);
    uint32_t *unary = unary_words + threadIdx.x / TAUT_WARP * UNARY_MAX, *low = lows + threadIdx.x / TAUT_WARP * GROUP;
    uint32_t *out = (uint32_t *)(j->payload + p.at[u]);
    for (uint32_t i = TAUT_LANE; i < UNARY_MAX; i += TAUT_WARP) unary[i] = 0;
    __syncwarp();
    uint32_t ones = 0; /* unary bits of this lane's neighbours, then where they begin */
    for (uint32_t q = 0; q < PER_LANE; q++) {
        uint32_t i = TAUT_LANE * PER_LANE + q;
        if (i < fill) {
            uint64_t gap = gap_of(pos, first + i);
            ones += (uint32_t)(gap >> b) + 1;
            low[i] = (uint32_t)(b == 32 ? gap : gap & ((UINT64_C(1) << b) - 1));
        }
    }
    uint32_t at = taut_warp_scan(ones) - ones;
    for (uint32_t q = 0; q < PER_LANE; q++) {
        uint32_t i = TAUT_LANE * PER_LANE + q;
        if (i >= fill) continue;
        at += (uint32_t)(gap_of(pos, first + i) >> b);
        atomicOr(&unary[at / 32], 1u << at % 32);
        at++;
    }
    __syncwarp();
    for (uint32_t i = TAUT_LANE; i < words; i += TAUT_WARP) out[i] = unary[i];
    for (uint32_t w = TAUT_LANE; w < low_words; w += TAUT_WARP) {
        uint64_t v = 0;
        uint32_t from = 32 * w;
        for (uint32_t i = from / b; i < fill && i * b < from + 32; i++) {
            int32_t shift = (int32_t)(i * b) - (int32_t)from;
            v |= shift >= 0 ? (uint64_t)low[i] << shift : low[i] >> -shift;
        }
        out[words + w] = (uint32_t)v;
    }
    for (uint32_t i = TAUT_LANE; i < fill; i += TAUT_WARP)
        out[words + low_words + i] = __float_as_uint(p.val[j->list + first + i]);
    uint32_t *table = (uint32_t *)(j->payload + c->bytes + TAUT_SPARSE_ENTRY * g);
    if (TAUT_LANE < 2) table[TAUT_LANE] = (uint32_t)(entry >> (32 * TAUT_LANE));
}

/* The floats as they are where that was decided, and the error: zero for what was sent. */
static __global__ void __launch_bounds__(THREADS) topk_finish(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    choosing             *c = p.choosing_of + job_number(batch, j);
    bool                  in_err = keeps(batch, j);
    if (!c->raw) { /* this tile's share of the list */
        uint64_t tiles = (j->n + TAUT__CUDA_TILE - 1) / TAUT__CUDA_TILE;
        for (uint64_t i = unit * THREADS + threadIdx.x; j->err && i < c->count; i += tiles * THREADS)
            j->err[p.pos[j->list + i]] = 0;
        return;
    }
    float *out = (float *)(j->payload + TAUT_SPARSE_HEADER);
    for (int s = 0; s < STEPS; s++) {
        uint64_t i = place(unit, s);
        if (i >= j->n) break;
        float4 x = in_err ? taut_load4(j->err, i, j->n) : taut_input4(j, batch.dtype, i);
        taut_store4(out, i, j->n, x);
        if (j->err) taut_store4(j->err, i, j->n, make_float4(0, 0, 0, 0));
    }
}

/* ---- launchers ---- */

static size_t   up16(size_t n) { return (n + 15) / 16 * 16; }
static uint64_t groups_of(uint64_t list, uint32_t jobs) { return list / GROUP + 1 + jobs; }

/* Candidates of launches that find their own thresholds. */
static uint64_t candidates_of(uint64_t list, uint32_t jobs) { return 4 * list + (uint64_t)SPARE * jobs; }

static size_t encode_work(uint64_t units, uint64_t list, uint32_t jobs, bool own)
{
    size_t more =
        own ? up16(8 * units) + 2 * up16(8 * (size_t)PARTS * jobs) + 2 * up16(4 * candidates_of(list, jobs)) : 0;
    return more + 32 + up16(8 * units) * 2 + up16(jobs * sizeof(choosing)) + up16(8 * list) + up16(4 * list) +
           2 * up16(8 * groups_of(list, jobs));
}

/* The k-th largest of each job: among candidates, or among all. */
static void find_threshold(const taut__cuda_batch *b, const plan &p, taut__cuda_stream s)
{
    unsigned units = (unsigned)b->units;
    TAUT_LAUNCH(topk_sample, b->count, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_gather, units, THREADS, 0, s, *b, p);
    for (int pass = 0; pass < 3; pass++) {
        TAUT_LAUNCH(topk_count_candidates, PARTS * b->count, THREADS, 0, s, *b, p, pass);
        TAUT_LAUNCH(topk_pick, b->count, THREADS, 0, s, *b, p, pass, false);
    }
    for (int pass = 0; pass < 3; pass++) { /* of jobs that are small, or whose sample misled */
        TAUT_LAUNCH(topk_count, units, THREADS, 0, s, *b, p, pass);
        TAUT_LAUNCH(topk_pick, b->count, THREADS, 0, s, *b, p, pass, true);
    }
}

static taut_status encode(const taut__cuda_batch *b, double density, bool exact, uint64_t list, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "topk encode"));
    if (!(density > 0 && density <= 1))
        return taut__fail(TAUT_E_RANGE, "topk encode: density=%g: must be above 0, up to 1", density);
    bool own = !exact && !b->one.choice;
    if (b->work_bytes < encode_work(b->units, list, b->count, own))
        return taut__fail(TAUT_E_CAPACITY, "topk encode: %zu bytes of scratch: must be %zu", b->work_bytes,
                          encode_work(b->units, list, b->count, own));
    uint8_t *w = (uint8_t *)b->work;
    plan     p;
    memset(&p, 0, sizeof p);
    p.density = density, p.exact = exact;
    p.ticket = (unsigned long long *)w, p.more = p.ticket + 1, w += 32;
    p.kept = (unsigned long long *)w, w += up16(8 * b->units);
    p.ties = (unsigned long long *)w, w += up16(8 * b->units);
    p.choosing_of = (choosing *)w, w += up16(b->count * sizeof(choosing));
    if (own) {
        p.seen = (unsigned long long *)w, w += up16(8 * b->units);
        p.part_kept = (unsigned long long *)w, w += up16(8 * (size_t)PARTS * b->count);
        p.part_ties = (unsigned long long *)w, w += up16(8 * (size_t)PARTS * b->count);
    }
    cudaError_t e = cudaMemsetAsync(b->work, 0, (size_t)(w - (uint8_t *)b->work), s);
    if (e != cudaSuccess) return taut__fail(TAUT_E_DEVICE, "topk encode: %s", cudaGetErrorString(e));
    p.pos = (uint64_t *)w, w += up16(8 * list);
    p.val = (float *)w, w += up16(4 * list);
    p.entry = (uint64_t *)w, w += up16(8 * groups_of(list, b->count));
    p.at = (uint64_t *)w, w += up16(8 * groups_of(list, b->count));
    p.cand_pos = (uint32_t *)w, w += up16(4 * candidates_of(list, b->count));
    p.cand_val = (float *)w;
    unsigned units = (unsigned)b->units, groups = (unsigned)((groups_of(list, b->count) + WARPS - 1) / WARPS);
    if (own) find_threshold(b, p, s);
    TAUT_LAUNCH(topk_calibrate, (b->count + THREADS - 1) / THREADS, THREADS, 0, s, *b, p);
    if (own) TAUT_LAUNCH(topk_filter, PARTS * b->count, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_collect, units, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_size, groups, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_place, b->count, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_write, groups, THREADS, 0, s, *b, p);
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

static size_t choose_work(uint64_t units, uint64_t list, uint32_t jobs)
{
    return 32 + 2 * up16(8 * units) + up16(jobs * sizeof(choosing)) + 2 * up16(4 * candidates_of(list, jobs));
}

static taut_status choose(const taut__cuda_batch *b, double density, uint64_t list, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "topk calibrate"));
    if (!(density > 0 && density <= 1))
        return taut__fail(TAUT_E_RANGE, "topk calibrate: density=%g: must be above 0, up to 1", density);
    if (b->work_bytes < choose_work(b->units, list, b->count))
        return taut__fail(TAUT_E_CAPACITY, "topk calibrate: %zu bytes of scratch: must be %zu", b->work_bytes,
                          choose_work(b->units, list, b->count));
    uint8_t *w = (uint8_t *)b->work;
    plan     p;
    memset(&p, 0, sizeof p);
    p.density = density;
    p.more = (unsigned long long *)w, w += 32;
    p.ties = (unsigned long long *)w, w += up16(8 * b->units);
    p.seen = (unsigned long long *)w, w += up16(8 * b->units);
    p.choosing_of = (choosing *)w, w += up16(b->count * sizeof(choosing));
    p.cand_pos = (uint32_t *)w, w += up16(4 * candidates_of(list, b->count));
    p.cand_val = (float *)w;
    cudaError_t e = cudaMemsetAsync(b->work, 0, (size_t)((uint8_t *)p.cand_pos - (uint8_t *)b->work), s);
    if (e != cudaSuccess) return taut__fail(TAUT_E_DEVICE, "topk calibrate: %s", cudaGetErrorString(e));
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
