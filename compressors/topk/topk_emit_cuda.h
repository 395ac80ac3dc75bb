/* topk_emit_cuda.h : from a job's candidates to its payload on a GPU.
 *
 * A block takes a part, WARPS tiles, by ticket. It counts what is kept of its candidates, and learns by looking back how much was kept before,
 * which says which groups of 512 are its own: those whose predecessor, the element before the first, lies in its part. It collects their positions and
 * values in shared memory, from the tiles behind its part too until the last group is full, sizes them, learns by looking back where they begin, and writes
 * them. So what is kept passes through memory once more than it must, as a candidate, since the threshold is known only when all has been seen. */
#ifndef TAUT_TOPK_EMIT_CUDA_H
#define TAUT_TOPK_EMIT_CUDA_H

#include "topk_cuda.h"

/* ---- parts, and what is kept of them ---- */

/* A job's first part in the launch's numbering. */
static __device__ __forceinline__ uint64_t part_base(const taut__cuda_batch &b, const taut__cuda_job *j)
{
    return tile_base(b, j) / WARPS + job_number(b, j);
}

struct job_walk {
    const choosing *c;
    uint64_t        base, tiles; /* the first tile in the launch; their number */
    const float    *val;         /* of the job's candidates */
    const uint8_t  *at;
};
struct passed { /* kept, and ties, before a tile */
    uint64_t kept, ties;
};

/* sums[2 w], [2 w + 1]: candidates of tile t + w above the threshold, and equal to it. A warp per tile. */
static __device__ void tally(const plan &p, const job_walk &w, uint64_t t, uint32_t *sums)
{
    stretch_of_tile x = candidates_in(p, w.c, w.base, w.tiles, t + threadIdx.x / TAUT_WARP);
    uint32_t        above = 0, ties = 0;
    for (uint32_t i = TAUT_LANE; i < x.count && !w.c->chosen; i += TAUT_WARP) {
        uint32_t m = taut__topk_magnitude(w.val[x.from + i]);
        above += m > w.c->least, ties += m == w.c->least;
    }
    above = __reduce_add_sync(TAUT_ALL, above), ties = __reduce_add_sync(TAUT_ALL, ties);
    if (w.c->chosen) above = x.count;
    __syncthreads();
    if (TAUT_LANE == 0) sums[threadIdx.x / TAUT_WARP * 2] = above, sums[threadIdx.x / TAUT_WARP * 2 + 1] = ties;
    __syncthreads();
}
/* Walks over the tiles that were tallied: *mine is where the warp's tile begins. */
static __device__ void pass_tiles(const job_walk &w, const uint32_t *sums, passed *walk, passed *mine)
{
    for (uint32_t v = 0; v < WARPS; v++) {
        if (v == threadIdx.x / TAUT_WARP) *mine = *walk;
        uint64_t left = walk->ties < w.c->rank ? w.c->rank - walk->ties : 0;
        walk->kept += sums[2 * v] + taut__min(left, sums[2 * v + 1]);
        walk->ties += sums[2 * v + 1];
    }
}

/* Positions and values of tile t's kept elements, from where `mine` says; pos[0] is that of rank `first` - 1. By a warp. */
static __device__ void collect_tile(const plan &p, const job_walk &w, uint64_t t, passed mine, uint64_t first,
                                    uint64_t *pos, float *val)
{
    stretch_of_tile x = candidates_in(p, w.c, w.base, w.tiles, t);
    if (x.count == 0 || mine.kept >= first + WINDOW || mine.kept + x.count < first) return;
    uint32_t of_stretch = TAUT_LANE < STRETCHES ? p.stretch[(w.base + t) * STRETCHES + TAUT_LANE] : 0;
    uint32_t begins = taut_warp_scan(of_stretch) - of_stretch;
    for (uint32_t i0 = 0; i0 < x.count; i0 += TAUT_WARP) {
        uint32_t i = i0 + TAUT_LANE, s = 0;
        bool     in = i < x.count;
        float    v = in ? w.val[x.from + i] : 0;
        uint32_t m = taut__topk_magnitude(v);
        bool     tie = in && !w.c->chosen && m == w.c->least;
        uint32_t ties = __ballot_sync(TAUT_ALL, tie);
        bool     tie_goes = tie && mine.ties + (uint32_t)__popc(ties & TAUT_LANES_LT) < w.c->rank;
        bool     goes = in && (w.c->chosen || m > w.c->least || tie_goes);
        uint32_t go = __ballot_sync(TAUT_ALL, goes);
        for (uint32_t d = STRETCHES / 2; d > 0; d /= 2) /* the last stretch that begins at i or before */
            if (__shfl_sync(TAUT_ALL, begins, (int)(s + d)) <= i) s += d;
        uint64_t slot =
            mine.kept + (uint32_t)__popc(go & TAUT_LANES_LT) + 1 - first; /* wraps around where it is before */
        if (goes && slot <= WINDOW) {
            pos[slot] = t * TAUT__CUDA_TILE + s * STRETCH + w.at[x.from + i];
            if (slot) val[slot - 1] = v;
        }
        mine.ties += (uint32_t)__popc(ties), mine.kept += (uint32_t)__popc(go);
    }
}

/* The first tile from t on that has candidates; the count of tiles where there is none. t > 0. */
static __device__ uint64_t skip_empty(const plan &p, const job_walk &w, uint64_t t)
{
    const unsigned long long *state =
        (w.c->chosen ? p.kept : p.seen) + w.base; /* all before the next tile: they never fall */
    uint64_t lo = t, hi = w.tiles;
    if (t >= w.tiles || state[t] != state[t - 1]) return t;
    while (lo < hi) {
        uint64_t mid = (lo + hi) / 2;
        if (state[mid] == state[t - 1]) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

/* Ranks first - 1 to first + WINDOW, as far as there are any before `end`. mine, behind: at the beginning of this warp's tile, and behind the
 * part, which begins with tile t. By a block. */
static __device__ void fill_window(const plan &p, const job_walk &w, uint64_t t, passed mine, passed behind,
                                   uint64_t first, uint64_t end, uint64_t *pos, float *val, uint32_t *sums)
{
    uint32_t warp = threadIdx.x / TAUT_WARP;
    if (threadIdx.x == 0 && first == 0) pos[0] = ~UINT64_C(0);
    collect_tile(p, w, t + warp, mine, first, pos, val);
    end = taut__min(end, first + WINDOW);
    for (t = skip_empty(p, w, t + WARPS); behind.kept < end && t < w.tiles; t = skip_empty(p, w, t + WARPS)) {
        tally(p, w, t, sums);
        pass_tiles(w, sums, &behind, &mine);
        collect_tile(p, w, t + warp, mine, first, pos, val);
    }
    __syncthreads();
}

/* ---- a group: pos[0] is the position before it ---- */

struct group_size {
    uint64_t entry;
    uint32_t bytes, b, words, low_words;
    bool     fits;
};
static __device__ __forceinline__ uint64_t gap_of(const uint64_t *pos, uint32_t i) { return pos[i + 1] - pos[i] - 1; }

static __device__ group_size size_group(const uint64_t *pos, uint32_t fill)
{
    uint64_t   span = pos[fill] - pos[0], best_cost = ~UINT64_C(0), unary = 0;
    unsigned   guess = taut__sparse_rice_guess(span, fill), best = 0;
    group_size z;
    for (unsigned b = guess ? guess - 1 : 0; b <= guess + 1 && b <= TAUT_SPARSE_RICE_MAX; b++) {
        uint64_t sum = 0;
        for (uint32_t i = TAUT_LANE; i < fill; i += TAUT_WARP) sum += gap_of(pos, i) >> b;
        for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(TAUT_ALL, sum, d);
        sum += fill;
        uint64_t cost = sum + (uint64_t)b * fill;
        if (cost >= best_cost) continue;
        best_cost = cost, best = b, unary = sum;
    }
    uint64_t words = taut__sparse_words(unary);
    z.fits = !(span >> TAUT_SPARSE_SPAN_BITS || words >> TAUT_SPARSE_WORDS_BITS);
    z.entry =
        span | words << TAUT_SPARSE_SPAN_BITS | (uint64_t)best << (TAUT_SPARSE_SPAN_BITS + TAUT_SPARSE_WORDS_BITS);
    z.b = best, z.words = (uint32_t)words, z.low_words = (uint32_t)taut__sparse_words((uint64_t)best * fill);
    z.bytes = 4 * (z.words + z.low_words + fill);
    return z;
}

/* unary: UNARY_MAX words of shared memory. By a warp. */
static __device__ void write_group(const group_size &z, const uint64_t *pos, const float *val, uint32_t fill,
                                   uint32_t *unary, uint32_t *out)
{
    for (uint32_t i = TAUT_LANE; i < UNARY_MAX; i += TAUT_WARP) unary[i] = 0;
    __syncwarp();
    uint32_t ones = 0; /* unary bits of this lane's neighbours, then where they begin */
    for (uint32_t i = TAUT_LANE * PER_LANE; i < taut__min(fill, (TAUT_LANE + 1) * PER_LANE); i++)
        ones += (uint32_t)(gap_of(pos, i) >> z.b) + 1;
    uint32_t at = taut_warp_scan(ones) - ones;
    for (uint32_t i = TAUT_LANE * PER_LANE; i < taut__min(fill, (TAUT_LANE + 1) * PER_LANE); i++) {
        at += (uint32_t)(gap_of(pos, i) >> z.b);
        atomicOr(&unary[at / 32], 1u << at % 32);
        at++;
    }
    __syncwarp();
    for (uint32_t i = TAUT_LANE; i < z.words; i += TAUT_WARP) out[i] = unary[i];
    for (uint32_t w = TAUT_LANE; w < z.low_words; w += TAUT_WARP) {
        uint64_t v = 0, mask = (UINT64_C(1) << z.b) - 1;
        uint32_t from = 32 * w;
        for (uint32_t i = from / z.b; i < fill && i * z.b < from + 32; i++) {
            int32_t shift = (int32_t)(i * z.b) - (int32_t)from;
            v |= shift >= 0 ? (gap_of(pos, i) & mask) << shift : (gap_of(pos, i) & mask) >> -shift;
        }
        out[z.words + w] = (uint32_t)v;
    }
    for (uint32_t i = TAUT_LANE; i < fill; i += TAUT_WARP) out[z.words + z.low_words + i] = __float_as_uint(val[i]);
}

/* ---- the payload ---- */

/* Where what this block writes begins, counted from the first group: `own` bytes that begin with its groups from g on, of all that end before `end`.
 * Those of a later round begin where `before` says. By a block. */
static __device__ uint64_t take_place(unsigned long long *state, uint64_t part, uint64_t before, uint32_t own,
                                      bool first, bool last, unsigned long long *shared)
{
    if (first && last) return chain(state, part, own, shared);
    if (first) {
        uint64_t found = threadIdx.x < TAUT_WARP ? taut_look_back(state, part) : 0;
        if (threadIdx.x == 0) shared[0] = found;
        __syncthreads();
        before = shared[0];
        __syncthreads();
    }
    if (last && threadIdx.x == 0) atomicExch(state + part, TAUT_LOOK_TOTAL | (before + own));
    return before;
}

/* The groups g to g + AT_ONCE, before end, which lie in the window. Returns where the next ones begin. */
static __device__ uint64_t emit_groups(const taut__cuda_batch &batch, const plan &p, const taut__cuda_job *j,
                                       choosing *c, uint64_t g, bool first, uint64_t end, uint64_t part,
                                       uint64_t before, const uint64_t *pos, const float *val,
                                       unsigned long long *shared)
{
    TAUT_SHARED(uint32_t, unary, AT_ONCE * UNARY_MAX);
    TAUT_SHARED(uint32_t, bytes, AT_ONCE);
    uint32_t   warp = threadIdx.x / TAUT_WARP, fill = 0, own = 0, mine = 0;
    uint64_t   groups = (c->count + GROUP - 1) / GROUP;
    group_size z = {};
    pos += warp * GROUP, val += warp * GROUP;
    bool active = warp < AT_ONCE && g + warp < end;
    if (active) {
        fill = (uint32_t)taut__min(GROUP, c->count - (g + warp) * GROUP);
        z = size_group(pos, fill);
        if (TAUT_LANE == 0 && !z.fits) atomicOr(&c->long_group, 1u);
    }
    if (warp < AT_ONCE && TAUT_LANE == 0) bytes[warp] = active ? z.bytes : 0;
    __syncthreads();
    for (uint32_t v = 0; v < AT_ONCE; v++) {
        if (v == warp) mine = own;
        own += bytes[v];
    }
    before = take_place(p.part_bytes + part_base(batch, j), part, before, own, first, g + AT_ONCE >= end, shared);
    /* where the floats would be shorter, topk_place will see it, and nothing is written beyond their length */
    if (active && z.fits && before + own + TAUT_SPARSE_ENTRY * groups <= 4 * j->n) {
        write_group(z, pos, val, fill, unary + warp * UNARY_MAX,
                    (uint32_t *)(j->payload + TAUT_SPARSE_HEADER + before + mine));
        if (TAUT_LANE == 0) p.entry[group_base(batch, j) + g + warp] = z.entry;
    }
    for (uint32_t i = TAUT_LANE; i < fill && j->err && !c->chosen; i += TAUT_WARP) j->err[pos[i + 1]] = 0;
    __syncthreads();
    return before + own;
}

static __global__ void __launch_bounds__(THREADS, 2) topk_emit(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(unsigned long long, shared, 1);
    TAUT_SHARED(uint64_t, pos, WINDOW + 1);
    TAUT_SHARED(float, val, WINDOW);
    TAUT_SHARED(uint32_t, sums, 2 * WARPS);
    uint64_t u = taut_ticket(p.ticket + 2, shared), part;
    __syncthreads();
    const taut__cuda_job *j = job_with<part_base>(batch, u, &part);
    if (!j) return;
    choosing *c = p.choosing_of + job_number(batch, j);
    uint64_t  t = part * WARPS, candidates = candidate_base(p, batch, j), state = part_base(batch, j);
    job_walk  w = {c, tile_base(batch, j), tiles_of(j), p.val + candidates, p.at + candidates};
    if (t >= w.tiles || c->raw || c->count > taut__topk_list(p.density, p.exact || j->choice, j->n)) return;
    passed behind = {0, 0}, mine = {0, 0};
    tally(p, w, t, sums);
    if (!c->chosen && c->rank < c->equal) { /* some ties stay */
        uint32_t ties = 0;
        for (uint32_t v = 0; v < WARPS; v++) ties += sums[2 * v + 1];
        behind.ties = chain(p.part_ties + state, part, ties, shared);
    }
    pass_tiles(w, sums, &behind, &mine);
    uint64_t before = c->chosen ? candidates_in(p, c, w.base, w.tiles, t).from
                                : chain(p.part_kept + state, part, (uint32_t)behind.kept, shared);
    mine.kept += before, behind.kept += before;
    uint64_t groups = (c->count + GROUP - 1) / GROUP, begin = part ? before / GROUP + 1 : 0,
             end = taut__min(behind.kept / GROUP + 1, groups), to = 0;
    if (begin >= end) to = chain(p.part_bytes + state, part, 0, shared);
    for (uint64_t g = begin; g < end; g += AT_ONCE) {
        fill_window(p, w, t, mine, behind, g * GROUP, taut__min(end * GROUP, c->count), pos, val, sums);
        to = emit_groups(batch, p, j, c, g, g == begin, end, part, to, pos, val, shared);
    }
    if (threadIdx.x == 0 && t + WARPS >= w.tiles) c->bytes = to;
}

/* Header, table and length; or that the floats are shorter. A block per job. */
static __global__ void __launch_bounds__(THREADS) topk_place(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    choosing             *c = p.choosing_of + blockIdx.x;
    uint64_t              room = taut__topk_list(p.density, p.exact || j->choice, j->n);
    bool                  raw = c->raw || c->long_group || c->count > room;
    uint64_t              groups = raw ? 0 : (c->count + GROUP - 1) / GROUP, bytes = raw ? 0 : c->bytes;
    raw = raw || bytes + TAUT_SPARSE_ENTRY * groups > 4 * j->n;
    uint32_t *table = (uint32_t *)(j->payload + TAUT_SPARSE_HEADER + bytes);
    for (uint64_t g = threadIdx.x; g < groups && !raw; g += THREADS) {
        uint64_t entry = p.entry[group_base(batch, j) + g];
        table[2 * g] = (uint32_t)entry, table[2 * g + 1] = (uint32_t)(entry >> 32);
    }
    __syncthreads(); /* all have read c->raw */
    if (threadIdx.x != 0) return;
    uint64_t *word = (uint64_t *)j->payload;
    c->raw = raw;
    word[0] = raw ? TAUT_SPARSE_RAW : TAUT_SPARSE_GROUPS;
    memcpy(word + 1, &p.density, sizeof p.density);
    word[2] = raw ? j->n : c->count;
    *j->len = TAUT_SPARSE_HEADER + (raw ? 4 * j->n : bytes + TAUT_SPARSE_ENTRY * groups);
}

/* The floats as they are where that was decided, and the error: zero for what was sent. */
static __global__ void __launch_bounds__(THREADS) topk_finish(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    choosing             *c = p.choosing_of + job_number(batch, j);
    bool                  in_err = keeps(batch, j);
    if (!c->raw) { /* topk_emit has done it for those that had more candidates than are kept */
        stretch_of_tile x = candidates_in(p, c, tile_base(batch, j), tiles_of(j), unit);
        const uint8_t  *at = p.at + candidate_base(p, batch, j) + x.from;
        for (uint32_t i = threadIdx.x; i < x.count && j->err && c->chosen; i += THREADS)
            j->err[unit * TAUT__CUDA_TILE +
                   element_of(p.stretch + (tile_base(batch, j) + unit) * STRETCHES, i, at[i])] = 0;
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

#endif
