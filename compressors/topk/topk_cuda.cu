/* topk_cuda.cu : the k largest magnitudes on a GPU, exactly, and the sparse payload (topk_sparse.h). Same bytes as topk.c.
 *
 * Encoding. The k-th largest magnitude is found by its bits: three passes count 11, 10 and 10 of them, each among the elements
 * that share the bits found so far; the counts say which bits the k-th largest has. One more pass collects what is kept, in
 * order: tiles by ticket, each learns by looking back how many elements and how many ties lie before it, so ties go to the
 * lowest index. Groups of 512 are then sized, placed and written, a warp for each. Where the payload would be longer than the
 * floats, or the k-th largest is not finite, the floats travel as they are.
 * Decoding. The table's sums give every group its place and first position; a warp decodes a group. */
#include "../cuda/cuda_kernel.h"
#include "../codec.h"
#include "topk_format.h"

enum {
    THREADS = 256,
    WARPS = THREADS / TAUT_WARP,
    STEPS = TAUT__CUDA_TILE / (4 * THREADS),
    BINS = 2048,
    GROUP = TAUT_SPARSE_GROUP,
    PER_LANE = GROUP / TAUT_WARP,
    UNARY_MAX = 96, /* words of a group's unary bits: at most 5 * 512 bits, since b is next to the mean's logarithm */
};
#define LOOK_SUM   (UINT64_C(1) << 62)
#define LOOK_TOTAL (UINT64_C(2) << 62)
#define LOOK_VALUE (LOOK_SUM - 1)

/* choosing : of one job, on the device */
struct choosing {
    uint32_t found;  /* bits of the k-th largest magnitude that are known, at their places */
    uint32_t least;  /* kept: magnitude (or, exact, the bits) above this, or equal and a tie that goes */
    uint64_t rank;   /* of the k-th largest among those that share `found`; then: how many ties go */
    uint64_t count;  /* elements kept */
    uint64_t groups, bytes;
    uint32_t raw, unused;
    uint32_t bin[BINS];
};

struct plan { /* of a launch, by value */
    double   density;
    uint32_t exact;       /* all that is not +0 */
    choosing *choosing_of; /* per job */
    unsigned long long *ticket, *kept, *ties; /* look-back, per tile */
    uint64_t *pos;        /* lists, from each job's `list` on */
    float    *val;
    uint64_t *entry, *at; /* per group, from list / 512 + job on */
};

static __device__ __forceinline__ uint32_t job_number(const taut__cuda_batch &b, const taut__cuda_job *j) { return b.jobs ? (uint32_t)(j - b.jobs) : 0; }
static __device__ __forceinline__ uint64_t group_base(const taut__cuda_batch &b, const taut__cuda_job *j) { return j->list / GROUP + job_number(b, j); }
static __device__ __forceinline__ uint64_t place(uint64_t unit, int s) { return unit * TAUT__CUDA_TILE + (uint64_t)s * 4 * THREADS + 4 * threadIdx.x; }

/* ---- the threshold ---- */

/* Pass 0, 1, 2: bits 20..30, 10..19, 0..9 */
static __device__ __forceinline__ uint32_t shift_of(int pass) { return pass == 0 ? 20 : pass == 1 ? 10 : 0; }

static __global__ void __launch_bounds__(THREADS) topk_count(const __grid_constant__ taut__cuda_batch batch, plan p, int pass)
{
    TAUT_SHARED(uint32_t, bin, BINS);
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    choosing             *c = p.choosing_of + job_number(batch, j);
    uint32_t              shift = shift_of(pass), found = c->found, known = pass == 0 ? 0 : ~((1u << (shift + 10)) - 1) & TAUT_TOPK_MAGNITUDE;
    float4                x[STEPS];
    for (uint32_t i = threadIdx.x; i < BINS; i += THREADS) bin[i] = 0;
    TAUT_UNROLL
    for (int s = 0; s < STEPS; s++) x[s] = place(unit, s) < j->n ? taut_input4(j, batch.dtype, place(unit, s)) : make_float4(0, 0, 0, 0);
    __syncthreads();
    TAUT_UNROLL
    for (int s = 0; s < STEPS; s++) {
        float v[4] = {x[s].x, x[s].y, x[s].z, x[s].w};
        TAUT_UNROLL
        for (int q = 0; q < 4; q++) {
            uint32_t m = taut__topk_magnitude(v[q]);
            if (m && (m & known) == (found & known)) atomicAdd(&bin[(m >> shift) & (pass == 0 ? BINS - 1 : BINS / 2 - 1)], 1u);
        }
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < BINS; i += THREADS)
        if (bin[i]) atomicAdd(&c->bin[i], bin[i]);
}

/* Which bin holds the k-th largest, from the top. A block per job. */
static __global__ void __launch_bounds__(THREADS) topk_pick(const __grid_constant__ taut__cuda_batch batch, plan p, int pass)
{
    TAUT_SHARED(unsigned long long, sums, THREADS);
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    choosing             *c = p.choosing_of + blockIdx.x;
    enum { EACH = BINS / THREADS };
    uint64_t mine = 0, rank = pass == 0 ? taut__topk_kept(p.density, j->n) : c->rank;
    for (uint32_t q = 0; q < EACH; q++) mine += c->bin[threadIdx.x * EACH + q];
    sums[threadIdx.x] = mine;
    __syncthreads();
    uint64_t above = 0, all = 0;
    for (uint32_t t = 0; t < THREADS; t++) {
        if (t > threadIdx.x) above += sums[t];
        all += sums[t];
    }
    __syncthreads();
    if (all < rank) { /* pass 0 only: fewer than k are not zero, and those are all */
        if (threadIdx.x == 0) c->found = 0, c->rank = ~UINT64_C(0);
    } else if (c->rank != ~UINT64_C(0) || pass == 0) {
        for (int q = EACH - 1; q >= 0; q--) {
            uint32_t i = threadIdx.x * EACH + (uint32_t)q, n = c->bin[i];
            if (above < rank && rank <= above + n) {
                c->found |= i << shift_of(pass);
                c->rank = rank - above;
            }
            above += n;
        }
    }
    __syncthreads();
    for (uint32_t q = 0; q < EACH; q++) c->bin[threadIdx.x * EACH + q] = 0;
}

/* The threshold that the passes found, or the one that was given, as what the collector compares with. A thread per job. */
static __global__ void topk_calibrate(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    uint32_t k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= batch.count) return;
    const taut__cuda_job *j = batch.jobs ? batch.jobs + k : &batch.one;
    choosing             *c = p.choosing_of + k;
    if (p.exact) {
        c->least = 0, c->rank = 0;
    } else if (j->choice) {
        c->least = j->choice->threshold, c->rank = ~UINT64_C(0); /* ties by position */
        c->raw = c->least >= TAUT_TOPK_INFINITE;
    } else if (c->rank == ~UINT64_C(0)) {
        c->least = 0; /* every element that is not zero */
    } else {
        c->least = c->found;
        c->raw = c->found >= TAUT_TOPK_INFINITE;
    }
}

/* How many elements of each tile are exactly at the threshold. */
static __global__ void __launch_bounds__(THREADS) topk_ties(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    choosing             *c = p.choosing_of + job_number(batch, j);
    uint32_t              here = 0;
    if (c->rank == ~UINT64_C(0)) return;
    for (int s = 0; s < STEPS; s++) {
        if (place(unit, s) >= j->n) break;
        float4 x = taut_input4(j, batch.dtype, place(unit, s));
        float  v[4] = {x.x, x.y, x.z, x.w};
        for (int q = 0; q < 4; q++) here += place(unit, s) + (uint64_t)q < j->n && taut__topk_magnitude(v[q]) == c->found;
    }
    here = __reduce_add_sync(TAUT_ALL, here);
    if (TAUT_LANE == 0 && here) atomicAdd(p.ties + blockIdx.x, (unsigned long long)here);
}

static __global__ void __launch_bounds__(THREADS) topk_elements(const __grid_constant__ taut__cuda_batch batch)
{
    uint32_t k = blockIdx.x * THREADS + threadIdx.x;
    if (k >= batch.count) return;
    const taut__cuda_job *j = batch.jobs ? batch.jobs + k : &batch.one;
    *j->stats += (double)j->n;
}

/* ---- collecting ---- */

static __device__ uint64_t look_back(unsigned long long *state, uint64_t k)
{
    uint64_t before = 0;
    for (int64_t at = (int64_t)k - 1; at >= 0; at -= TAUT_WARP) {
        int64_t            i = at - (int64_t)TAUT_LANE;
        unsigned long long s = i >= 0 ? atomicAdd(state + i, 0ull) : LOOK_TOTAL;
        while (__any_sync(TAUT_ALL, s >> 62 == 0)) {
            __nanosleep(40);
            if (s >> 62 == 0) s = atomicAdd(state + i, 0ull);
        }
        uint32_t total = __ballot_sync(TAUT_ALL, s >> 62 == 2), first = total ? (uint32_t)__ffs((int)total) - 1 : TAUT_WARP;
        uint64_t v = TAUT_LANE <= first ? s & LOOK_VALUE : 0;
        for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(TAUT_ALL, v, d);
        before += v;
        if (total) break;
    }
    return before;
}

/* Exclusive sums of v over the block, in order of threads; *total: of all. */
static __device__ uint32_t block_scan(uint32_t v, uint32_t *total)
{
    TAUT_SHARED(uint32_t, sums, WARPS);
    uint32_t sum = v, before = 0;
    for (uint32_t d = 1; d < TAUT_WARP; d *= 2) {
        uint32_t o = __shfl_up_sync(TAUT_ALL, sum, d);
        if (TAUT_LANE >= d) sum += o;
    }
    __syncthreads();
    if (TAUT_LANE == 31) sums[threadIdx.x / TAUT_WARP] = sum;
    __syncthreads();
    *total = 0;
    for (uint32_t w = 0; w < WARPS; w++) {
        if (w == threadIdx.x / TAUT_WARP) before = *total;
        *total += sums[w];
    }
    return before + sum - v;
}

/* The choice of a job: threshold, and the place of the last tie that goes, which lies in the tile where their count is reached. A
 * block per job. */
static __global__ void __launch_bounds__(THREADS) topk_choice(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(unsigned long long, found, 3); /* tile, ties before it, place */
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    choosing             *c = p.choosing_of + blockIdx.x;
    uint64_t              tiles = (j->n + TAUT__CUDA_TILE - 1) / TAUT__CUDA_TILE, sum = 0, rank = c->rank;
    bool                  few = rank == ~UINT64_C(0); /* all that is not zero goes */
    if (threadIdx.x == 0) found[0] = found[1] = 0, found[2] = ~UINT64_C(0);
    __syncthreads();
    for (uint64_t from = 0; from < tiles && !few; from += THREADS) {
        uint64_t t = from + threadIdx.x;
        uint32_t here = t < tiles ? (uint32_t)p.ties[j->unit + t] : 0, all;
        uint64_t before = sum + block_scan(here, &all);
        if (before < rank && rank <= before + here) found[0] = t, found[1] = before;
        sum += all;
    }
    __syncthreads();
    if (!few && sum > rank) { /* some ties stay */
        uint64_t at = found[0] * TAUT__CUDA_TILE + 16 * threadIdx.x, left = rank - found[1];
        uint32_t equal = 0, all;
        for (uint32_t s = 0; s < 4; s++) {
            if (at + 4 * s >= j->n) break;
            float4 x = taut_input4(j, batch.dtype, at + 4 * s);
            float  v[4] = {x.x, x.y, x.z, x.w};
            for (uint32_t q = 0; q < 4; q++) equal |= (uint32_t)(at + 4 * s + q < j->n && taut__topk_magnitude(v[q]) == c->found) << (4 * s + q);
        }
        uint64_t before = block_scan((uint32_t)__popc(equal), &all);
        for (uint32_t q = 0; q < 16; q++)
            if ((equal >> q & 1) && ++before == left) found[2] = at + q;
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    taut_calibration made;
    memset(&made, 0, sizeof made);
    made.raw = !few && c->found >= TAUT_TOPK_INFINITE;
    made.u[0] = few ? 1 : c->found;
    made.u[1] = found[2];
    *j->calibration = made;
}

/* Look-back by the first warp: what lies before this tile, whose own sum is v. */
static __device__ uint64_t chain(unsigned long long *state, uint64_t unit, uint32_t v, unsigned long long *shared)
{
    if (threadIdx.x == 0) atomicExch(state + unit, (unit == 0 ? LOOK_TOTAL : LOOK_SUM) | v);
    if (threadIdx.x < TAUT_WARP) {
        uint64_t before = look_back(state, unit);
        if (threadIdx.x == 0) {
            shared[0] = before;
            if (unit) atomicExch(state + unit, LOOK_TOTAL | (before + v));
        }
    }
    __syncthreads();
    uint64_t before = shared[0];
    __syncthreads();
    return before;
}

static __global__ void __launch_bounds__(THREADS) topk_collect(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(unsigned long long, shared, 1);
    if (threadIdx.x == 0) shared[0] = atomicAdd(p.ticket, 1ull);
    __syncthreads();
    uint64_t u = shared[0], unit;
    __syncthreads();
    const taut__cuda_job *j = taut_job_of(batch, u, &unit);
    choosing             *c = p.choosing_of + job_number(batch, j);
    uint64_t              base = u - unit;
    bool                  keeps_x = j->err && (j->residual || (const void *)j->err != j->src || batch.dtype != TAUT_F32);
    uint64_t              in_order = unit * TAUT__CUDA_TILE + 16 * threadIdx.x; /* sixteen neighbours, so that order is by thread */
    float                 v[16];
    uint32_t              above = 0, equal = 0;
    TAUT_UNROLL
    for (int s = 0; s < 4; s++) {
        float4 x = make_float4(0, 0, 0, 0);
        if (in_order + 4 * s < j->n) {
            x = taut_input4(j, batch.dtype, in_order + 4 * s);
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
            if ((equal >> q & 1) && j->first + in_order + (uint64_t)q <= j->choice->last_tie && in_order + (uint64_t)q < j->n) above |= 1u << q;
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
    uint64_t to = chain(p.kept + base, unit, all, shared), room = taut__topk_list(p.density, p.exact || j->choice, j->n);
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

static __device__ __forceinline__ uint64_t gap_of(const uint64_t *pos, uint64_t i) { return pos[i] - (i ? pos[i - 1] + 1 : 0); }
static __device__ __forceinline__ uint64_t warp_total(uint64_t v)
{
    for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(TAUT_ALL, v, d);
    return v;
}

/* Entry and bytes of each group. A warp per group, of as many as a job may have. */
static __global__ void __launch_bounds__(THREADS) topk_size(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    uint64_t              u = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP;
    const taut__cuda_job *j = NULL;
    uint64_t              g = 0;
    for (uint32_t k = 0, lo = 0, hi = batch.count; lo < hi; k++) { /* the last job whose groups begin at or before u */
        uint32_t mid = (lo + hi) / 2;
        const taut__cuda_job *m = batch.jobs ? batch.jobs + mid : &batch.one;
        if (group_base(batch, m) <= u) j = m, lo = mid + 1;
        else hi = mid;
    }
    if (!j) return;
    g = u - group_base(batch, j);
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
    p.entry[u] = span | words << TAUT_SPARSE_SPAN_BITS | (uint64_t)best << (TAUT_SPARSE_SPAN_BITS + TAUT_SPARSE_WORDS_BITS);
    p.at[u] = 4 * (words + low + fill);
}

/* Where each group lies; header, length; or that the floats are shorter. A block per job. */
static __global__ void __launch_bounds__(THREADS) topk_place(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    choosing             *c = p.choosing_of + blockIdx.x;
    uint64_t              base = group_base(batch, j), groups = c->raw ? 0 : (c->count + GROUP - 1) / GROUP, used = TAUT_SPARSE_HEADER;
    uint64_t              room = taut__topk_list(p.density, p.exact || j->choice, j->n);
    bool                  raw = c->raw || c->count > room;
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

static __global__ void __launch_bounds__(THREADS) topk_write(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(uint32_t, unary_words, WARPS * UNARY_MAX);
    TAUT_SHARED(uint32_t, lows, WARPS * GROUP);
    uint64_t              u = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP;
    const taut__cuda_job *j = NULL;
    for (uint32_t lo = 0, hi = batch.count; lo < hi;) {
        uint32_t mid = (lo + hi) / 2;
        const taut__cuda_job *m = batch.jobs ? batch.jobs + mid : &batch.one;
        if (group_base(batch, m) <= u) j = m, lo = mid + 1;
        else hi = mid;
    }
    if (!j) return;
    uint64_t  g = u - group_base(batch, j);
    choosing *c = p.choosing_of + job_number(batch, j);
    if (c->raw || g >= c->groups) return;
    const uint64_t *pos = p.pos + j->list;
    uint64_t        first = g * GROUP, entry = p.entry[u];
    uint32_t        fill = (uint32_t)taut__min(GROUP, c->count - first), words = (uint32_t)(entry >> TAUT_SPARSE_SPAN_BITS) & ((1u << TAUT_SPARSE_WORDS_BITS) - 1);
    uint32_t        b = (uint32_t)(entry >> (TAUT_SPARSE_SPAN_BITS + TAUT_SPARSE_WORDS_BITS)), low_words = (uint32_t)taut__sparse_words((uint64_t)b * fill);
    uint32_t       *unary = unary_words + threadIdx.x / TAUT_WARP * UNARY_MAX, *low = lows + threadIdx.x / TAUT_WARP * GROUP;
    uint32_t       *out = (uint32_t *)(j->payload + p.at[u]);
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
    uint32_t at = ones;
    for (uint32_t d = 1; d < TAUT_WARP; d *= 2) {
        uint32_t o = __shfl_up_sync(TAUT_ALL, at, d);
        if (TAUT_LANE >= d) at += o;
    }
    at -= ones;
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
    for (uint32_t i = TAUT_LANE; i < fill; i += TAUT_WARP) out[words + low_words + i] = __float_as_uint(p.val[j->list + first + i]);
    uint32_t *table = (uint32_t *)(j->payload + c->bytes + TAUT_SPARSE_ENTRY * g);
    if (TAUT_LANE < 2) table[TAUT_LANE] = (uint32_t)(entry >> (32 * TAUT_LANE));
}

/* The floats as they are where that was decided, and the error: zero for what was sent. */
static __global__ void __launch_bounds__(THREADS) topk_finish(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    choosing             *c = p.choosing_of + job_number(batch, j);
    bool                  in_err = j->err && (j->residual || (const void *)j->err != j->src || batch.dtype != TAUT_F32);
    if (!c->raw) { /* this tile's share of the list */
        uint64_t tiles = (j->n + TAUT__CUDA_TILE - 1) / TAUT__CUDA_TILE;
        for (uint64_t i = unit * THREADS + threadIdx.x; j->err && i < c->count; i += tiles * THREADS) j->err[p.pos[j->list + i]] = 0;
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

/* ---- decoding ---- */

struct opened { /* of one job, on the device */
    uint64_t count, groups, table;
    uint32_t raw, good;
};
struct reading {
    opened   *open;
    uint64_t *at, *first; /* per group */
};
enum action { SET, ADD, CLEAR };

/* A block per job: the header, and the sums of its table. */
static __global__ void __launch_bounds__(THREADS) topk_open(const __grid_constant__ taut__cuda_batch batch, reading r)
{
    TAUT_SHARED(unsigned long long, sums, 2 * THREADS);
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    opened               *o = r.open + blockIdx.x;
    const uint64_t       *word = (const uint64_t *)j->payload;
    uint64_t              len = *j->len, base = j->n / GROUP, groups = 0;
    bool                  good = len >= TAUT_SPARSE_HEADER && word[0] <= TAUT_SPARSE_GROUPS && word[2] <= j->n, raw = false;
    base = group_base(batch, j);
    if (good) {
        raw = word[0] == TAUT_SPARSE_RAW;
        groups = raw ? 0 : (word[2] + GROUP - 1) / GROUP;
        good = raw ? word[2] == j->n && len - TAUT_SPARSE_HEADER == 4 * j->n : (len - TAUT_SPARSE_HEADER) / TAUT_SPARSE_ENTRY >= groups && len % 4 == 0;
    }
    uint64_t at = TAUT_SPARSE_HEADER, first = 0, table = good ? len - TAUT_SPARSE_ENTRY * groups : 0;
    for (uint64_t from = 0; good && from < groups; from += THREADS) {
        uint64_t i = from + threadIdx.x, bytes = 0, span = 0;
        bool     fits = true;
        if (i < groups) {
            const uint32_t *e = (const uint32_t *)(j->payload + table + TAUT_SPARSE_ENTRY * i);
            uint64_t        entry = e[0] | (uint64_t)e[1] << 32, fill = taut__min(GROUP, word[2] - i * GROUP);
            uint64_t        b = entry >> (TAUT_SPARSE_SPAN_BITS + TAUT_SPARSE_WORDS_BITS);
            span = entry & ((UINT64_C(1) << TAUT_SPARSE_SPAN_BITS) - 1);
            bytes = 4 * ((entry >> TAUT_SPARSE_SPAN_BITS & ((1u << TAUT_SPARSE_WORDS_BITS) - 1)) + taut__sparse_words(b * fill) + fill);
            fits = b <= TAUT_SPARSE_RICE_MAX && span <= j->n;
        }
        sums[threadIdx.x] = bytes, sums[THREADS + threadIdx.x] = span;
        good = !__syncthreads_or(!fits);
        uint64_t before = 0, before_span = 0, all = 0, all_span = 0;
        for (uint32_t t = 0; t < THREADS; t++) {
            if (t == threadIdx.x) before = all, before_span = all_span;
            all += sums[t], all_span += sums[THREADS + t];
        }
        if (i < groups) r.at[base + i] = at + before, r.first[base + i] = first + before_span;
        at += all, first += all_span;
        good = good && at <= table && first <= j->n;
        __syncthreads();
    }
    if (!raw && good) good = at == table;
    if (threadIdx.x != 0) return;
    o->count = good ? word[2] : 0, o->groups = good ? groups : 0, o->table = table, o->raw = raw, o->good = good;
    if (!good) taut_flag(j, TAUT__CUDA_CORRUPT);
}

/* dst = 0 where decoding sets; the floats of a raw payload. */
static __global__ void __launch_bounds__(THREADS) topk_base(const __grid_constant__ taut__cuda_batch batch, reading r, action act)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    opened               *o = r.open + job_number(batch, j);
    if (!o->good || (!o->raw && act != SET)) return;
    for (int s = 0; s < STEPS; s++) {
        uint64_t i = place(unit, s);
        if (i >= j->n) break;
        float4 v = make_float4(0, 0, 0, 0);
        if (o->raw && act != CLEAR) v = taut_load4((const float *)(j->payload + TAUT_SPARSE_HEADER), i, j->n);
        if (o->raw && act == ADD) v = taut_add4(taut_load4_as(j->dst, batch.dtype, i, j->n), v);
        if (o->raw && batch.factor != 1) v = taut_scale4(v, batch.factor);
        taut_store4_as(j->dst, batch.dtype, i, j->n, v);
    }
}

static __device__ __forceinline__ void apply(const taut__cuda_batch &batch, const taut__cuda_job *j, uint64_t i, float v, action act)
{
    if (act == CLEAR) v = 0;
    if (batch.dtype == TAUT_F32) {
        float *dst = (float *)j->dst + i;
        if (act == ADD) v = *dst + v;
        *dst = batch.factor == 1 ? v : v * batch.factor;
        return;
    }
    uint16_t *dst = (uint16_t *)j->dst + i;
    bool      f16 = batch.dtype == TAUT_F16;
    if (act == ADD) v = (f16 ? taut__from_f16(*dst) : taut__from_bf16(*dst)) + v;
    if (batch.factor != 1) v = v * batch.factor;
    *dst = f16 ? taut__to_f16(v) : taut__to_bf16(v);
}

static __global__ void __launch_bounds__(THREADS) topk_decode(const __grid_constant__ taut__cuda_batch batch, reading r, action act)
{
    TAUT_SHARED(uint32_t, one_at, WARPS * GROUP);
    uint64_t              u = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP;
    const taut__cuda_job *j = NULL;
    for (uint32_t lo = 0, hi = batch.count; lo < hi;) {
        uint32_t mid = (lo + hi) / 2;
        const taut__cuda_job *m = batch.jobs ? batch.jobs + mid : &batch.one;
        if (group_base(batch, m) <= u) j = m, lo = mid + 1;
        else hi = mid;
    }
    if (!j) return;
    uint64_t g = u - group_base(batch, j);
    opened  *o = r.open + job_number(batch, j);
    if (!o->good || g >= o->groups) return;
    const uint32_t *e = (const uint32_t *)(j->payload + o->table + TAUT_SPARSE_ENTRY * g), *in = (const uint32_t *)(j->payload + r.at[u]);
    uint64_t        entry = e[0] | (uint64_t)e[1] << 32, span = entry & ((UINT64_C(1) << TAUT_SPARSE_SPAN_BITS) - 1), first = r.first[u];
    uint32_t        words = (uint32_t)(entry >> TAUT_SPARSE_SPAN_BITS) & ((1u << TAUT_SPARSE_WORDS_BITS) - 1);
    uint32_t        b = (uint32_t)(entry >> (TAUT_SPARSE_SPAN_BITS + TAUT_SPARSE_WORDS_BITS)), fill = (uint32_t)taut__min(GROUP, o->count - g * GROUP);
    const uint32_t *low = in + words, *val = low + taut__sparse_words((uint64_t)b * fill);
    uint32_t       *one = one_at + threadIdx.x / TAUT_WARP * GROUP, found = 0, last = 0;
    for (uint32_t w0 = 0; w0 < words; w0 += TAUT_WARP) { /* where the ones are */
        uint32_t w = w0 + TAUT_LANE, bits = w < words ? in[w] : 0, sum = (uint32_t)__popc(bits), mine = sum;
        for (uint32_t d = 1; d < TAUT_WARP; d *= 2) {
            uint32_t t = __shfl_up_sync(TAUT_ALL, sum, d);
            if (TAUT_LANE >= d) sum += t;
        }
        uint32_t i = found + sum - mine;
        for (uint32_t m = bits; m; m &= m - 1, i++)
            if (i < GROUP) one[i] = 32 * w + (uint32_t)__ffs((int)m) - 1;
        found += __shfl_sync(TAUT_ALL, sum, 31);
        last = max(last, __reduce_max_sync(TAUT_ALL, bits ? 32 * w + 32 - (uint32_t)__clz((int)bits) : 0u));
    }
    __syncwarp();
    bool     good = found == fill && words == (last + 31) / 32;
    uint64_t lows = 0;
    for (uint32_t q = 0; q < PER_LANE; q++) {
        uint32_t i = TAUT_LANE * PER_LANE + q;
        if (good && i < fill && b) {
            uint64_t bit = (uint64_t)i * b, x = low[bit / 32] >> bit % 32;
            if (bit % 32 + b > 32) x |= (uint64_t)low[bit / 32 + 1] << (32 - bit % 32);
            lows += x & ((UINT64_C(1) << b) - 1);
        }
    }
    uint64_t before = lows;
    for (uint32_t d = 1; d < TAUT_WARP; d *= 2) {
        uint64_t t = __shfl_up_sync(TAUT_ALL, before, d);
        if (TAUT_LANE >= d) before += t;
    }
    uint64_t all_lows = __shfl_sync(TAUT_ALL, before, 31);
    before -= lows;
    if (good) good = ((uint64_t)(one[fill - 1] - (fill - 1)) << b) + all_lows + fill == span && span <= j->n - first;
    if (!good) {
        if (TAUT_LANE == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
        return;
    }
    for (uint32_t q = 0; q < PER_LANE; q++) {
        uint32_t i = TAUT_LANE * PER_LANE + q;
        if (i >= fill) continue;
        if (b) {
            uint64_t bit = (uint64_t)i * b, x = low[bit / 32] >> bit % 32;
            if (bit % 32 + b > 32) x |= (uint64_t)low[bit / 32 + 1] << (32 - bit % 32);
            before += x & ((UINT64_C(1) << b) - 1);
        }
        apply(batch, j, first + ((uint64_t)(one[i] - i) << b) + before + i, __uint_as_float(val[i]), act);
    }
}

/* ---- launchers ---- */

static size_t up16(size_t n) { return (n + 15) / 16 * 16; }
static uint64_t groups_of(uint64_t list, uint32_t jobs) { return list / GROUP + 1 + jobs; }

static size_t encode_work(uint64_t units, uint64_t list, uint32_t jobs)
{
    return 16 + up16(8 * units) * 2 + up16(jobs * sizeof(choosing)) + up16(8 * list) + up16(4 * list) + 2 * up16(8 * groups_of(list, jobs));
}

static taut_status encode(const taut__cuda_batch *b, double density, bool exact, uint64_t list, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "topk encode"));
    if (!(density > 0 && density <= 1)) return taut__fail(TAUT_E_RANGE, "topk encode: density=%g: must be above 0, up to 1", density);
    if (b->work_bytes < encode_work(b->units, list, b->count))
        return taut__fail(TAUT_E_CAPACITY, "topk encode: %zu bytes of scratch: must be %zu", b->work_bytes, encode_work(b->units, list, b->count));
    uint8_t *w = (uint8_t *)b->work;
    plan     p = {density, exact, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL};
    p.ticket = (unsigned long long *)w, w += 16;
    p.kept = (unsigned long long *)w, w += up16(8 * b->units);
    p.ties = (unsigned long long *)w, w += up16(8 * b->units);
    p.choosing_of = (choosing *)w, w += up16(b->count * sizeof(choosing));
    cudaError_t e = cudaMemsetAsync(b->work, 0, (size_t)(w - (uint8_t *)b->work), s);
    if (e != cudaSuccess) return taut__fail(TAUT_E_DEVICE, "topk encode: %s", cudaGetErrorString(e));
    p.pos = (uint64_t *)w, w += up16(8 * list);
    p.val = (float *)w, w += up16(4 * list);
    p.entry = (uint64_t *)w, w += up16(8 * groups_of(list, b->count));
    p.at = (uint64_t *)w;
    unsigned units = (unsigned)b->units, groups = (unsigned)((groups_of(list, b->count) + WARPS - 1) / WARPS);
    for (int pass = 0; !exact && pass < 3; pass++) {
        TAUT_LAUNCH(topk_count, units, THREADS, 0, s, *b, p, pass);
        TAUT_LAUNCH(topk_pick, b->count, THREADS, 0, s, *b, p, pass);
    }
    TAUT_LAUNCH(topk_calibrate, (b->count + THREADS - 1) / THREADS, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_collect, units, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_size, groups, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_place, b->count, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_write, groups, THREADS, 0, s, *b, p);
    TAUT_LAUNCH(topk_finish, units, THREADS, 0, s, *b, p);
    return taut_launched("topk encode");
}

static size_t decode_work(uint64_t list, uint32_t jobs) { return up16(jobs * sizeof(opened)) + 2 * up16(8 * groups_of(list, jobs)); }

static taut_status decode(const taut__cuda_batch *b, int what, uint64_t list, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "topk decode"));
    if (b->work_bytes < decode_work(list, b->count))
        return taut__fail(TAUT_E_CAPACITY, "topk decode: %zu bytes of scratch: must be %zu", b->work_bytes, decode_work(list, b->count));
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

static size_t choose_work(uint64_t units, uint32_t jobs) { return up16(8 * units) + up16(jobs * sizeof(choosing)); }

static taut_status choose(const taut__cuda_batch *b, double density, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "topk calibrate"));
    if (!(density > 0 && density <= 1)) return taut__fail(TAUT_E_RANGE, "topk calibrate: density=%g: must be above 0, up to 1", density);
    if (b->work_bytes < choose_work(b->units, b->count))
        return taut__fail(TAUT_E_CAPACITY, "topk calibrate: %zu bytes of scratch: must be %zu", b->work_bytes, choose_work(b->units, b->count));
    plan p = {density, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL};
    p.ties = (unsigned long long *)b->work;
    p.choosing_of = (choosing *)((uint8_t *)b->work + up16(8 * b->units));
    cudaError_t e = cudaMemsetAsync(b->work, 0, choose_work(b->units, b->count), s);
    if (e != cudaSuccess) return taut__fail(TAUT_E_DEVICE, "topk calibrate: %s", cudaGetErrorString(e));
    for (int pass = 0; pass < 3; pass++) {
        TAUT_LAUNCH(topk_count, (unsigned)b->units, THREADS, 0, s, *b, p, pass);
        TAUT_LAUNCH(topk_pick, b->count, THREADS, 0, s, *b, p, pass);
    }
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
extern "C" const taut__cuda_topk TAUT_CUDA_TABLE(topk) = {encode_work, encode, decode_work, decode, choose_work, choose, count};
