/* grid_stats_cuda.cu : grid's statistics, and the squared errors of four steps, on a GPU: one read of the gradient and its residual, and a
 * few hundred numbers for the scheduler instead of the gradient. The same numbers as the CPU's, bit for bit: sums of doubles run in
 * the order of grid_unit.h (eight lanes over a chunk, chunks one after the other), so eight threads of a block add what the others
 * prepare. */
#include "grid_cuda_bins.h"
#include "grid_cuda_sums.h"
#include "grid.h"
#include "grid_steps.h"
#include <float.h>

enum { ROUND = 32 }; /* blocks of 64 elements between two barriers */

struct stats_work {             /* per launch */
    double             *sums;   /* per chunk: GRID_SUMS or GRID_STEPS */
    unsigned long long *counts; /* per job: bins, octaves, sampled elements, equal pairs */
};

struct candidate_steps {
    float step[GRID_STEPS];
    float bias;
};

static __device__ __forceinline__ uint32_t job_number(const taut__cuda_batch &b, const taut__cuda_job *j)
{
    return b.jobs ? (uint32_t)(j - b.jobs) : 0;
}

static __device__ __forceinline__ float input_at(const taut__cuda_job *j, taut_dtype d, uint64_t i)
{
    float x = d == TAUT_F32   ? ((const float *)j->src)[i]
              : d == TAUT_F16 ? taut__from_f16(((const uint16_t *)j->src)[i])
                              : taut__from_bf16(((const uint16_t *)j->src)[i]);
    return j->residual ? j->residual[i] + x : x;
}

/* The unit of step 1 (times a factor): what is measured in. */
static __device__ __forceinline__ grid_warp_unit unit_at_step(const taut__cuda_job *j, float step, float bias)
{
    grid_warp_unit u = {step, 0, bias, j->scale, j->scale ? j->stride : 0, j->first, false, false};
    if (j->scale && j->stride == 0) u.step *= j->scale[0];
    u.divide = u.stride != 0 || u.step < FLT_MIN;
    u.inv = 1.0f / u.step;
    return u;
}

static __device__ __forceinline__ bool is_sampled(uint64_t block, uint64_t stride)
{
    return stride == 1 || block == grid_sampled_block(block / stride, stride);
}

/* Norms, histogram and block means of chunk k. A block of threads. */
static __global__ void __launch_bounds__(THREADS)
    grid_stats_chunks(const __grid_constant__ taut__cuda_batch batch, stats_work w, bool brief)
{
    TAUT_SHARED(float, scaled, ROUND *GRID_BLOCK);
    TAUT_SHARED(float, plain, ROUND *GRID_BLOCK);
    TAUT_SHARED(uint32_t, bins, COUNTERS);
    uint64_t              k;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &k);
    uint64_t              first = k * GRID_CHUNK, n = taut__min(GRID_CHUNK, j->n - first),
             stride = grid_sample_stride(j->elems ? j->elems : j->n);
    grid_warp_unit u = unit_at_step(j, 1, 0.5f);
    double         sum = 0; /* threads 0..7: scaled; 32..39: plain; 64..71: magnitudes, scaled */
    uint32_t       lane = TAUT_LANE, warp = threadIdx.x / TAUT_WARP, sampled = 0, equal = 0;
    for (uint32_t i = threadIdx.x; i < COUNTERS; i += THREADS) bins[i] = 0;
    __syncthreads();
    for (uint64_t base = 0; base < n; base += ROUND * GRID_BLOCK) {
        float x[ROUND / WARPS][2]; /* all loads of a round are under way before the first is used */
        TAUT_UNROLL
        for (uint32_t b = 0; b < ROUND / WARPS; b++)
            for (uint32_t h = 0; h < 2; h++) {
                uint64_t i = base + (b * WARPS + warp) * GRID_BLOCK + lane + 32 * h;
                x[b][h] = i < n ? input_at(j, batch.dtype, first + i) : 0;
            }
        TAUT_UNROLL
        for (uint32_t b = 0; b < ROUND / WARPS; b++) {
            uint32_t block = b * WARPS + warp;
            uint64_t at = base + block * GRID_BLOCK;
            if (at >= n) continue;
            uint64_t m = taut__min(GRID_BLOCK, n - at);
            float    t[2], raised[2], unit[2];
            uint32_t bits[2];
            for (uint32_t h = 0; h < 2; h++) {
                uint32_t e = lane + 32 * h;
                float    s = 0, d = e < m ? u.at(first + at + e) : 1;
                if (e < m) s = u.divide ? x[b][h] / d : x[b][h] * u.inv;
                scaled[block * GRID_BLOCK + e] = s;
                plain[block * GRID_BLOCK + e] = x[b][h];
                unit[h] = d;
                bits[h] = taut__bits(x[b][h]) & 0x7fffffff;
                t[h] = fabsf(s);
                raised[h] = fabsf(u.divide ? x[b][h] / (d * 0x1p-24f) : x[b][h] * (u.inv * 0x1p24f));
            }
            if (brief || !is_sampled((j->first + first + at) / GRID_BLOCK, stride)) continue;
            count_block(bins, t, raised, (uint32_t)m);
            equal += bits[0] != 0 && bits[0] == bits[1] && unit[0] == unit[1];
            if (lane == 0) sampled += (uint32_t)m;
        }
        __syncthreads();
        uint32_t here = (uint32_t)taut__min(ROUND * GRID_BLOCK, n - base);
        if (warp < GRID_SUMS && lane < GRID_SUM_LANES)
            sum =
                add_lane(sum, (warp == 1 ? plain : scaled) + lane, lane < here ? (here - lane + 7) / 8 : 0, warp == 2);
        __syncthreads();
    }
    /* ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7)) */
    sum += __shfl_down_sync(TAUT_ALL, sum, 4);
    sum += __shfl_down_sync(TAUT_ALL, sum, 2);
    sum += __shfl_down_sync(TAUT_ALL, sum, 1);
    if (lane == 0 && warp < GRID_SUMS) w.sums[GRID_SUMS * (uint64_t)blockIdx.x + warp] = sum;
    unsigned long long *counts = w.counts + (uint64_t)job_number(batch, j) * COUNTS;
    for (uint32_t i = threadIdx.x; i < COUNTERS; i += THREADS)
        if (bins[i]) atomicAdd(&counts[i], (unsigned long long)bins[i]);
    if (sampled) atomicAdd(&counts[COUNTERS], (unsigned long long)sampled);
    if (equal) atomicAdd(&counts[COUNTERS + 1], (unsigned long long)equal);
}

/* stats[0..GRID_STATS) += of each job, as taut__grid_collect_stats() adds them. A block per job. */
static __global__ void __launch_bounds__(THREADS)
    grid_stats_finish(const __grid_constant__ taut__cuda_batch batch, stats_work w)
{
    TAUT_SHARED(double, row, THREADS *GRID_SUMS);
    TAUT_SHARED(double, stats, GRID_STATS);
    TAUT_SHARED(double, sum, GRID_SUMS);
    TAUT_SHARED(unsigned long long, bin, GRID_BINS);
    TAUT_SHARED(unsigned long long, block, GRID_OCTAVES);
    const taut__cuda_job     *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    const unsigned long long *counts = w.counts + (uint64_t)blockIdx.x * COUNTS;
    for (uint32_t i = threadIdx.x; i < GRID_STATS; i += THREADS) stats[i] = j->stats[i];
    for (uint32_t i = threadIdx.x; i < GRID_BINS; i += THREADS) bin[i] = 0;
    for (uint32_t i = threadIdx.x; i < GRID_OCTAVES; i += THREADS) block[i] = 0;
    double all = add_chunks(0, w.sums + GRID_SUMS * j->unit, (j->n + GRID_CHUNK - 1) / GRID_CHUNK, GRID_SUMS, row);
    if (threadIdx.x < GRID_SUMS) sum[threadIdx.x] = all;
    __syncthreads();
    bool   good = fabs(sum[0]) <= DBL_MAX && fabs(sum[1]) <= DBL_MAX;
    double norm2 = good ? stats[GRID_STAT_NORM2] + sum[0] : stats[GRID_STAT_NORM2];
    int before = stats[GRID_STAT_N] > 0 ? (int)lrint(stats[GRID_STAT_LOWEST] / stats[GRID_STAT_N]) : grid_window_of(0);
    int lowest = grid_window_of(norm2), by = lowest - before;
    if (good) count_in_window(counts, lowest, bin, block);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < GRID_BINS; i += THREADS)
        j->stats[GRID_STAT_BIN + i] =
            moved_bin(stats + GRID_STAT_BIN, GRID_BINS, by * GRID_BINS_PER_OCTAVE, i) + (double)bin[i];
    for (int i = (int)threadIdx.x; i < GRID_OCTAVES; i += THREADS)
        j->stats[GRID_STAT_BLOCK + i] = moved_bin(stats + GRID_STAT_BLOCK, GRID_OCTAVES, by, i) + (double)block[i];
    if (threadIdx.x > 0) return;
    if (good) {
        j->stats[GRID_STAT_NORM2] = norm2;
        j->stats[GRID_STAT_PLAIN2] = stats[GRID_STAT_PLAIN2] + sum[1];
        j->stats[GRID_STAT_ABS] = stats[GRID_STAT_ABS] + sum[2];
        j->stats[GRID_STAT_SAMPLED] = stats[GRID_STAT_SAMPLED] + (double)counts[COUNTERS];
        j->stats[GRID_STAT_EQUAL] = stats[GRID_STAT_EQUAL] + (double)counts[COUNTERS + 1];
    } else {
        j->stats[GRID_STAT_BAD] = stats[GRID_STAT_BAD] + 1;
        taut_flag(j, TAUT__CUDA_NOT_FINITE);
    }
    j->stats[GRID_STAT_N] = stats[GRID_STAT_N] + (double)j->n;
    j->stats[GRID_STAT_LOWEST] = lowest * (stats[GRID_STAT_N] + (double)j->n);
}

/* Squared errors of four steps in chunk k, in units of each step. */
static __global__ void __launch_bounds__(THREADS)
    grid_error_chunks(const __grid_constant__ taut__cuda_batch batch, stats_work w, candidate_steps c)
{
    TAUT_SHARED(float, part, ROUND *GRID_STEPS * 16);
    uint64_t              k;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &k);
    uint64_t              first = k * GRID_CHUNK, n = taut__min(GRID_CHUNK, j->n - first);
    grid_warp_unit        u[GRID_STEPS];
    double                sum = 0; /* threads 0..31: step threadIdx.x / 8, lane threadIdx.x % 8 */
    uint32_t              lane = TAUT_LANE, warp = threadIdx.x / TAUT_WARP;
    TAUT_UNROLL
    for (uint32_t s = 0; s < GRID_STEPS; s++) u[s] = unit_at_step(j, c.step[s], c.bias);
    for (uint64_t base = 0; base < n; base += ROUND * GRID_BLOCK) {
        for (uint32_t block = warp; block < ROUND && base + block * GRID_BLOCK < n; block += WARPS) {
            uint64_t at = base + block * GRID_BLOCK, m = taut__min(GRID_BLOCK, n - at);
            float    x[2];
            for (uint32_t h = 0; h < 2; h++)
                x[h] = lane + 32 * h < m ? fabsf(input_at(j, batch.dtype, first + at + lane + 32 * h)) : 0;
            TAUT_UNROLL
            for (uint32_t s = 0; s < GRID_STEPS; s++) {
                float e[2];
                for (uint32_t h = 0; h < 2; h++) {
                    uint64_t i = first + at + lane + 32 * h;
                    float    t = u[s].divide ? (lane + 32 * h < m ? x[h] / u[s].at(i) : 0) : x[h] * u[s].inv;
                    e[h] = t - truncf(t + u[s].bias);
                    e[h] = lane + 32 * h < m ? e[h] * e[h] : 0;
                }
                float low = e[0] + __shfl_down_sync(TAUT_ALL, e[0], 16),
                      high = e[1] + __shfl_down_sync(TAUT_ALL, e[1], 16);
                if (lane < 16) part[(block * GRID_STEPS + s) * 16 + lane] = low + high;
            }
        }
        __syncthreads();
        uint32_t blocks = (uint32_t)taut__min(ROUND, (n - base + GRID_BLOCK - 1) / GRID_BLOCK);
        if (warp == 0)
            for (uint32_t b = 0; b < blocks; b++) {
                const float *p = part + (b * GRID_STEPS + lane / GRID_SUM_LANES) * 16 + lane % GRID_SUM_LANES;
                sum += (double)p[0];
                sum += (double)p[GRID_SUM_LANES];
            }
        __syncthreads();
    }
    if (warp != 0) return;
    sum += __shfl_down_sync(TAUT_ALL, sum, 4, GRID_SUM_LANES);
    sum += __shfl_down_sync(TAUT_ALL, sum, 2, GRID_SUM_LANES);
    sum += __shfl_down_sync(TAUT_ALL, sum, 1, GRID_SUM_LANES);
    if (lane % GRID_SUM_LANES == 0) w.sums[GRID_STEPS * (uint64_t)blockIdx.x + lane / GRID_SUM_LANES] = sum;
}
static __global__ void __launch_bounds__(THREADS)
    grid_error_finish(const __grid_constant__ taut__cuda_batch batch, stats_work w)
{
    TAUT_SHARED(double, row, THREADS *GRID_STEPS);
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    double                before = threadIdx.x < GRID_STEPS ? j->stats[threadIdx.x] : 0;
    double                sum =
        add_chunks(before, w.sums + GRID_STEPS * j->unit, (j->n + GRID_CHUNK - 1) / GRID_CHUNK, GRID_STEPS, row);
    if (threadIdx.x < GRID_STEPS) j->stats[threadIdx.x] = sum;
}

/* ---- from statistics to a step: a block of threads per job ---- */

/* The sum, in order, and the largest, of what threads have. The same in all threads. term: scratch. */
struct over_bins {
    double sum, most;
};
static __device__ over_bins gather(double mine, double *term)
{
    over_bins r = {0, 0};
    if (threadIdx.x < GRID_BINS) term[threadIdx.x] = mine;
    __syncthreads();
    for (int b = 0; b < GRID_BINS; b++) r.sum += term[b], r.most = fmax(r.most, term[b]);
    __syncthreads();
    return r;
}

/* few_margin() of grid_stats.c, from..to being this thread's bin. */
static __device__ double few_margin(const double *stats, double alike, double count, double from, double to,
                                    double width, double dead, double *term)
{
    double mean = grid_mean_within(from, to, width, dead);
    double spread = gather(count > 0 ? grid_spread_within(from, to, width, mean, dead) : 0, term).most;
    double worst = gather(count * (grid_worst_within(from, to, dead) - mean), term).sum;
    return grid_few_margin(stats, alike, spread, worst);
}

/* taut__grid_estimate_error(): what each bin adds by a thread, their sum in order. The same answer in all threads. */
static __device__ double estimated_error(const double *stats, double step, double dead, double *term)
{
    double   octave = ldexp(ldexp(1.0, grid_lowest(stats)) / step, (int)(threadIdx.x / GRID_BINS_PER_OCTAVE));
    double   width = octave / GRID_BINS_PER_OCTAVE, alike = grid_alike(stats);
    uint32_t part = threadIdx.x % GRID_BINS_PER_OCTAVE;
    double   from = octave + width * part, to = octave + width * (part + 1);
    double   count = threadIdx.x < GRID_BINS ? stats[GRID_STAT_BIN + threadIdx.x] : 0;
    double   sum = gather(count * (grid_error_integral(to, dead) - grid_error_integral(from, dead)) / width, term).sum;
    if (alike > 0) sum += few_margin(stats, alike, count, from, to, width, dead, term);
    return sum * step * step * stats[GRID_STAT_N] / stats[GRID_STAT_SAMPLED];
}

/* taut__grid_estimate_step() */
static __device__ float estimated_step(const double *stats, double error2, double dead, double *term)
{
    if (!grid_searchable(stats)) return 0;
    int64_t lo = grid_lowest_index(stats, 1), hi = grid_highest_index(stats);
    if (estimated_error(stats, (double)grid_step_at(lo), dead, term) > error2) return 0;
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        if (estimated_error(stats, (double)grid_step_at(mid), dead, term) <= error2) lo = mid;
        else hi = mid;
    }
    double step = (double)grid_step_at(lo);
    return grid_inside(stats, step) ? (float)step : 0;
}

static __device__ __forceinline__ const taut__cuda_job *job_at(const taut__cuda_batch &b, uint32_t k)
{
    return b.jobs ? b.jobs + k : &b.one;
}

static __global__ void __launch_bounds__(THREADS)
    grid_calibrate(const __grid_constant__ taut__cuda_batch batch, grid_aim aim, int ranks)
{
    TAUT_SHARED(double, stats, GRID_STATS);
    TAUT_SHARED(double, term, GRID_BINS);
    const taut__cuda_job *j = job_at(batch, blockIdx.x);
    for (uint32_t i = threadIdx.x; i < GRID_STATS; i += THREADS) stats[i] = j->stats[i];
    __syncthreads();
    float step = 0;
    bool  ok = grid_all_finite(stats);
    if (ok && aim.given) step = aim.step;
    else if (ok && !(stats[GRID_STAT_NORM2] > 0)) step = 1; /* all zero: any step will do */
    else if (ok) step = estimated_step(stats, aim.rel * stats[GRID_STAT_NORM2] / GRID_CAUTION, aim.dead, term);
    if (ok && (aim.given || stats[GRID_STAT_NORM2] > 0)) ok = grid_fits(stats, (double)step, ranks);
    if (threadIdx.x != 0) return;
    taut_calibration c;
    memset(&c, 0, sizeof c);
    c.raw = !ok;
    c.f[GRID_CALIBRATED_STEP] = ok ? step : 0;
    *j->calibration = c;
}

static __global__ void __launch_bounds__(THREADS)
    grid_adapt(const __grid_constant__ taut__cuda_batch batch, grid_aim aim, int ranks)
{
    uint32_t k = blockIdx.x * THREADS + threadIdx.x;
    if (k >= batch.count) return;
    const taut__cuda_job *j = job_at(batch, k);
    taut_calibration     *c = j->calibration;
    c->raw = !grid_adapt_step(&aim, c->raw, j->earlier, j->stats, ranks, &c->f[GRID_CALIBRATED_STEP]);
}

static __global__ void __launch_bounds__(THREADS) grid_rebase(const __grid_constant__ taut__cuda_batch batch)
{
    TAUT_SHARED(double, stats, GRID_STATS);
    const taut__cuda_job *j = job_at(batch, blockIdx.x);
    for (uint32_t i = threadIdx.x; i < GRID_STATS; i += THREADS) stats[i] = j->stats[i];
    __syncthreads();
    int lowest = grid_window_of(j->earlier[GRID_STAT_NORM2]), by = lowest - grid_lowest(stats), i = (int)threadIdx.x;
    if (by != 0 && i < GRID_BINS)
        j->stats[GRID_STAT_BIN + i] = moved_bin(stats + GRID_STAT_BIN, GRID_BINS, by * GRID_BINS_PER_OCTAVE, i);
    if (by != 0 && i < GRID_OCTAVES)
        j->stats[GRID_STAT_BLOCK + i] = moved_bin(stats + GRID_STAT_BLOCK, GRID_OCTAVES, by, i);
    if (i == 0) j->stats[GRID_STAT_LOWEST] = lowest * stats[GRID_STAT_N];
}

static __global__ void __launch_bounds__(THREADS)
    grid_compare(const __grid_constant__ taut__cuda_batch batch, grid_aim aim)
{
    uint32_t k = blockIdx.x * THREADS + threadIdx.x;
    if (k >= batch.count) return;
    const taut__cuda_job *j = job_at(batch, k);
    if (grid_reshaped(aim.given, j->earlier, j->stats)) *j->len = 1;
}

/* ---- launchers ---- */

static size_t up16(size_t n) { return (n + 15) / 16 * 16; }
static size_t work(uint64_t units, uint32_t jobs)
{
    return up16(8 * GRID_STEPS * units) + up16(8 * (size_t)COUNTS * jobs);
}

static taut_status prepare(const taut__cuda_batch *b, stats_work *w, const char *what, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, what));
    if (b->work_bytes < work(b->units, b->count))
        return taut__fail(TAUT_E_CAPACITY, "%s: %zu bytes of scratch: must be %zu", what, b->work_bytes,
                          work(b->units, b->count));
    w->sums = (double *)b->work;
    w->counts = (unsigned long long *)((uint8_t *)b->work + up16(8 * GRID_STEPS * b->units));
    cudaError_t e = cudaMemsetAsync(w->counts, 0, 8 * (size_t)COUNTS * b->count, s);
    return e == cudaSuccess ? TAUT_OK : taut__fail(TAUT_E_DEVICE, "%s: %s", what, cudaGetErrorString(e));
}
static taut_status collect(const taut__cuda_batch *b, bool brief, taut__cuda_stream s)
{
    stats_work w;
    TAUT_TRY(prepare(b, &w, "grid statistics", s));
    TAUT_LAUNCH(grid_stats_chunks, (unsigned)b->units, THREADS, 0, s, *b, w, brief);
    TAUT_LAUNCH(grid_stats_finish, b->count, THREADS, 0, s, *b, w);
    return taut_launched("grid statistics");
}
static taut_status errors(const taut__cuda_batch *b, const float *steps, double dead, taut__cuda_stream s)
{
    stats_work      w;
    candidate_steps c = {{steps[0], steps[1], steps[2], steps[3]}, (float)(1.0 - dead)};
    TAUT_TRY(prepare(b, &w, "grid errors", s));
    TAUT_LAUNCH(grid_error_chunks, (unsigned)b->units, THREADS, 0, s, *b, w, c);
    TAUT_LAUNCH(grid_error_finish, b->count, THREADS, 0, s, *b, w);
    return taut_launched("grid errors");
}

static taut_status check_ranks(const taut__cuda_batch *b, int ranks, const char *what)
{
    TAUT_TRY(taut_check_batch(b, what));
    return ranks >= 1 ? TAUT_OK : taut__fail(TAUT_E_RANGE, "%s: %d ranks: must be at least 1", what, ranks);
}
static taut_status calibrate(const taut__cuda_batch *b, const grid_aim *aim, int ranks, taut__cuda_stream s)
{
    TAUT_TRY(check_ranks(b, ranks, "grid calibrate"));
    TAUT_LAUNCH(grid_calibrate, b->count, THREADS, 0, s, *b, *aim, ranks);
    return taut_launched("grid calibrate");
}
static taut_status adapt(const taut__cuda_batch *b, const grid_aim *aim, int ranks, taut__cuda_stream s)
{
    TAUT_TRY(check_ranks(b, ranks, "grid adapt"));
    TAUT_LAUNCH(grid_adapt, (b->count + THREADS - 1) / THREADS, THREADS, 0, s, *b, *aim, ranks);
    return taut_launched("grid adapt");
}
static taut_status rebase(const taut__cuda_batch *b, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "grid rebase"));
    TAUT_LAUNCH(grid_rebase, b->count, THREADS, 0, s, *b);
    return taut_launched("grid rebase");
}

static taut_status reshaped(const taut__cuda_batch *b, const grid_aim *aim, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "grid reshaped"));
    TAUT_LAUNCH(grid_compare, (b->count + THREADS - 1) / THREADS, THREADS, 0, s, *b, *aim);
    return taut_launched("grid reshaped");
}

extern "C" const taut__cuda_stats TAUT_CUDA_TABLE(stats);
extern "C" const taut__cuda_stats TAUT_CUDA_TABLE(stats) = {work, collect, errors, calibrate, adapt, rebase, reshaped};
