/* powersgd_cuda.cu : PowerSGD on a GPU (powersgd.c has the algorithm). P: rows x rank, Qt: rank x cols, row-major.
 *
 * Both products read X once for every eight columns of P, which is what bounds them: X is large, P and Qt are small. Their sums
 * run in another order than the CPU's, as BLAS's do, so factors agree within rounding, not bit for bit; what is decoded from
 * given factors (P Qt) is the same floats as the CPU's, and so are random starts. Sums are in a fixed order: a GPU repeats its
 * own bits. */
#include "../cuda/cuda_kernel.h"

enum { THREADS = 256, WARPS = THREADS / TAUT_WARP, TOGETHER = 8, HEADER = 32, SPLITS_MAX = 64, SOLVERS = 512 };

struct matrix {
    uint64_t rows, cols, rank;
};

/* ---- products ---- */

/* P = X Qt^T: a warp per row of X */
static __global__ void __launch_bounds__(THREADS) lowrank_p(matrix d, const float *x, const float *qt, float *p)
{
    uint64_t row = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP;
    if (row >= d.rows) return;
    for (uint64_t k0 = 0; k0 < d.rank; k0 += TOGETHER) {
        float sum[TOGETHER] = {0};
        for (uint64_t c = TAUT_LANE; c < d.cols; c += TAUT_WARP) {
            float v = x[row * d.cols + c];
            TAUT_UNROLL
            for (uint64_t k = 0; k < TOGETHER; k++)
                if (k0 + k < d.rank) sum[k] += v * qt[(k0 + k) * d.cols + c];
        }
        TAUT_UNROLL
        for (uint64_t k = 0; k < TOGETHER; k++) {
            for (int o = 16; o > 0; o /= 2) sum[k] += __shfl_xor_sync(TAUT_ALL, sum[k], o);
            if (TAUT_LANE == 0 && k0 + k < d.rank) p[row * d.rank + k0 + k] = sum[k];
        }
    }
}

/* Parts of Qt = P^T X: a thread per column, a share of the rows per blockIdx.y -> part[share][k][col] */
static __global__ void __launch_bounds__(THREADS)
    lowrank_qt_parts(matrix d, const float *x, const float *p, float *part)
{
    uint64_t col = (uint64_t)blockIdx.x * THREADS + threadIdx.x, share = (d.rows + gridDim.y - 1) / gridDim.y;
    uint64_t from = blockIdx.y * share, to = taut__min(d.rows, from + share);
    if (col >= d.cols) return;
    for (uint64_t k0 = 0; k0 < d.rank; k0 += TOGETHER) {
        float sum[TOGETHER] = {0};
        for (uint64_t r = from; r < to; r++) {
            float v = x[r * d.cols + col];
            TAUT_UNROLL
            for (uint64_t k = 0; k < TOGETHER; k++)
                if (k0 + k < d.rank) sum[k] += v * p[r * d.rank + k0 + k];
        }
        TAUT_UNROLL
        for (uint64_t k = 0; k < TOGETHER; k++)
            if (k0 + k < d.rank) part[(blockIdx.y * d.rank + k0 + k) * d.cols + col] = sum[k];
    }
}
static __global__ void __launch_bounds__(THREADS) lowrank_qt_sum(matrix d, const float *part, uint32_t parts, float *qt)
{
    uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x, n = d.rank * d.cols;
    if (i >= n) return;
    float sum = part[i];
    for (uint32_t k = 1; k < parts; k++) sum += part[k * n + i];
    qt[i] = sum;
}

/* ---- orthonormal vectors: one block, the sums over the block ---- */

struct vectors { /* vector k is x[k * vector + i * element], i < n */
    float   *x;
    uint64_t n, count, vector, element;
};

/* Sums over the block, in a fixed order; all threads. */
static __device__ double sum_of_block(double sum)
{
    TAUT_SHARED(double, part, SOLVERS / TAUT_WARP);
    sum = taut_warp_sum(sum);
    __syncthreads();
    if (TAUT_LANE == 0) part[threadIdx.x / TAUT_WARP] = sum;
    __syncthreads();
    sum = 0;
    for (int w = 0; w < SOLVERS / TAUT_WARP; w++) sum += part[w];
    return sum;
}
static __device__ double dot_of(const vectors &b, uint64_t j, uint64_t k)
{
    const float *x = b.x + j * b.vector, *y = b.x + k * b.vector;
    double       sum = 0;
    for (uint64_t i = threadIdx.x; i < b.n; i += SOLVERS) sum += (double)x[i * b.element] * (double)y[i * b.element];
    return sum_of_block(sum);
}
static __device__ void scale_vector(const vectors &b, uint64_t k, double s)
{
    float *x = b.x + k * b.vector;
    for (uint64_t i = threadIdx.x; i < b.n; i += SOLVERS) x[i * b.element] = (float)((double)x[i * b.element] * s);
}
/* Vector k less `along` times vector j; returns what it then is along vector `next`. */
static __device__ double subtract(const vectors &b, uint64_t j, uint64_t k, double along, uint64_t next)
{
    const float *from = b.x + j * b.vector, *other = b.x + next * b.vector;
    float       *x = b.x + k * b.vector;
    double       sum = 0;
    for (uint64_t i = threadIdx.x; i < b.n; i += SOLVERS) {
        float z = (float)((double)x[i * b.element] - along * (double)from[i * b.element]);
        sum += (double)z * (double)(next == k ? z : other[i * b.element]);
        x[i * b.element] = z;
    }
    return sum_of_block(sum);
}
static __device__ float random_at(uint64_t key, uint64_t i)
{
    int32_t r = (int32_t)(taut__random32(taut__rng_of(key, i), (uint32_t)i) ^ 0x80000000u);
    return (float)(r >> 8) * 0x1p-23f;
}
/* Every element is one thread's, in all vectors, so barriers are for the sums alone. */
static __device__ bool orthonormalise_vector(const vectors &b, uint64_t k)
{
    double before = dot_of(b, k, k);
    if (!(before > 0)) return false;
    scale_vector(b, k, 1 / sqrt(before));
    double along = dot_of(b, 0, k); /* of the first vector: with itself */
    for (uint64_t step = 0; step < 2 * k; step++)
        along = subtract(b, step % k, k, along, step + 1 == 2 * k ? k : (step + 1) % k);
    if (along < 1e-12) return false;
    scale_vector(b, k, 1 / sqrt(along));
    return true;
}

static __global__ void __launch_bounds__(SOLVERS) lowrank_orthonormalise(vectors b, uint64_t seed, const uint32_t *stop)
{
    enum { ATTEMPTS = 8 };
    if (*stop) return;
    for (uint64_t k = 0; k < b.count; k++) {
        bool done = orthonormalise_vector(b, k);
        for (uint64_t attempt = 0; !done && attempt < ATTEMPTS; attempt++) {
            uint64_t key = taut__seed(seed, k * ATTEMPTS + attempt + 1);
            __syncthreads();
            for (uint64_t i = threadIdx.x; i < b.n; i += SOLVERS) b.x[k * b.vector + i * b.element] = random_at(key, i);
            __syncthreads();
            done = orthonormalise_vector(b, k);
        }
        if (!done) scale_vector(b, k, 0);
        __syncthreads();
    }
}

/* ---- starts, ends ---- */

static __global__ void __launch_bounds__(THREADS)
    lowrank_random(float *x, uint64_t n, uint64_t key, const uint32_t *unless)
{
    uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n && !(unless && *unless)) x[i] = random_at(key, i);
}
/* *bad |= something is not finite */
static __global__ void __launch_bounds__(THREADS) lowrank_check(const float *x, uint64_t n, uint32_t *bad)
{
    uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    bool     is = i < n && (taut__bits(x[i]) & 0x7fffffff) >= 0x7f800000;
    if (__any_sync(TAUT_ALL, is) && TAUT_LANE == 0) atomicOr(bad, 1u);
}
static __global__ void __launch_bounds__(THREADS) lowrank_poison(float *x, uint64_t n, const uint32_t *bad)
{
    uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n && *bad) x[i] = taut__float(0x7fc00000);
}
/* kept = from, or random where *bad */
static __global__ void __launch_bounds__(THREADS)
    lowrank_keep(float *kept, const float *from, uint64_t n, uint64_t key, const uint32_t *bad)
{
    uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) kept[i] = *bad ? random_at(key, i) : from[i];
}
static __global__ void lowrank_header(taut__cuda_job j, matrix d, uint32_t iterations, const uint32_t *bad)
{
    uint64_t *word = (uint64_t *)j.payload;
    word[0] = d.rows, word[1] = d.cols;
    word[2] = d.rank | (uint64_t)iterations << 32;
    word[3] = 0;
    *j.len = HEADER + 4 * (d.rows + d.cols) * d.rank;
    if (*bad) taut_flag(&j, TAUT__CUDA_NOT_FINITE);
}

/* factor * row of P * Qt in the order of taut__lowrank_row(), for element `col` */
static __device__ __forceinline__ float product_at(const matrix &d, const float *p, const float *qt, float factor,
                                                   uint64_t row, uint64_t col)
{
    float sum = 0;
    for (uint64_t k = 0; k < d.rank; k++) sum += p[row * d.rank + k] * qt[k * d.cols + col];
    return factor * sum;
}

enum what { STORE, ADD, REST };

/* dst = P Qt, dst += P Qt, or err = x - P Qt: THREADS columns of one row per block */
static __global__ void __launch_bounds__(THREADS)
    lowrank_expand(taut__cuda_job j, taut_dtype dtype, matrix d, const float *p, const float *qt, float factor,
                   what act, const uint32_t *bad)
{
    for (uint64_t row = blockIdx.y; row < d.rows; row += gridDim.y) {
        uint64_t col = (uint64_t)blockIdx.x * THREADS + threadIdx.x, i = row * d.cols + col;
        if (col >= d.cols) return;
        if (act == REST) {
            float e = *bad ? 0 : ((const float *)j.src)[i] - product_at(d, p, qt, 1, row, col);
            j.err[i] = (taut__bits(e) & 0x7fffffff) < 0x7f800000 ? e : 0;
            continue;
        }
        float v = bad && *bad ? taut__float(0x7fc00000) : product_at(d, p, qt, factor, row, col);
        if (dtype == TAUT_F32) {
            float *dst = (float *)j.dst + i;
            *dst = act == ADD ? *dst + v : v;
        } else {
            uint16_t *dst = (uint16_t *)j.dst + i;
            bool      f16 = dtype == TAUT_F16;
            if (act == ADD) v = (f16 ? taut__from_f16(*dst) : taut__from_bf16(*dst)) + v;
            *dst = f16 ? taut__to_f16(v) : taut__to_bf16(v);
        }
    }
}
/* The header of a payload is the matrix's. */
static __global__ void lowrank_open(taut__cuda_job j, matrix d, uint32_t *bad)
{
    const uint64_t *word = (const uint64_t *)j.payload;
    uint64_t        len = *j.len;
    bool            good = len == HEADER + 4 * (d.rows + d.cols) * d.rank && word[0] == d.rows && word[1] == d.cols &&
                (uint32_t)word[2] == d.rank && word[2] >> 32 >= 1 && word[2] >> 32 <= 16 && word[3] == 0;
    *bad = 0;
    if (!good) {
        taut_flag(&j, TAUT__CUDA_CORRUPT);
        *bad = 1;
    }
}

/* ---- launchers ---- */

static unsigned blocks_for(uint64_t n) { return (unsigned)((n + THREADS - 1) / THREADS); }
static uint32_t splits_of(const matrix &d) { return (uint32_t)taut__min(SPLITS_MAX, (d.rows + 63) / 64); }
static bool     wide(const matrix &d) { return d.rows <= d.cols; }
static bool     makes_p(const matrix &d, int round) { return (round != 1) == wide(d); }
static matrix   matrix_of(const taut__cuda_matrix *m) { return {m->rows, m->cols, m->rank}; }

static size_t work(const taut__cuda_matrix *m)
{
    matrix d = matrix_of(m);
    return 16 + 4 * (size_t)splits_of(d) * d.rank * d.cols;
}

static taut_status check(const taut__cuda_matrix *m, const void *scratch, size_t bytes, const char *name)
{
    if (m->rank < 1 || m->rank > m->rows || m->rank > m->cols)
        return taut__fail(TAUT_E_RANGE, "%s: rank=%llu: must be 1 to the smaller side of %llu x %llu", name,
                          (unsigned long long)m->rank, (unsigned long long)m->rows, (unsigned long long)m->cols);
    if (!scratch || bytes < work(m))
        return taut__fail(TAUT_E_CAPACITY, "%s: %zu bytes of scratch: must be %zu", name, bytes, work(m));
    return TAUT_OK;
}

static void multiply_by(const matrix &d, bool p_side, const float *x, const float *other, float *factor, float *parts,
                        taut__cuda_stream s)
{
    if (p_side) {
        TAUT_LAUNCH(lowrank_p, (unsigned)((d.rows + WARPS - 1) / WARPS), THREADS, 0, s, d, x, other, factor);
        return;
    }
    uint32_t splits = splits_of(d);
    TAUT_LAUNCH(lowrank_qt_parts, dim3(blocks_for(d.cols), splits), THREADS, 0, s, d, x, other, parts);
    TAUT_LAUNCH(lowrank_qt_sum, blocks_for(d.rank * d.cols), THREADS, 0, s, d, (const float *)parts, splits, factor);
}

static void orthonormalise_by(const matrix &d, bool p_side, float *factor, uint64_t seed, const uint32_t *stop,
                              taut__cuda_stream s)
{
    vectors b = p_side ? vectors{factor, d.rows, d.rank, 1, d.rank} : vectors{factor, d.cols, d.rank, d.cols, 1};
    TAUT_LAUNCH(lowrank_orthonormalise, 1, SOLVERS, 0, s, b, seed, stop);
}

/* The product of the round, or the orthonormal form of its factor. */
static taut_status project(const taut__cuda_matrix *m, int round, const float *x, const float *p, const float *qt,
                           float *factor, void *scratch, size_t bytes, taut__cuda_stream s)
{
    TAUT_TRY(check(m, scratch, bytes, "powersgd project"));
    matrix d = matrix_of(m);
    bool   p_side = makes_p(d, round);
    multiply_by(d, p_side, x, p_side ? qt : p, factor, (float *)((uint8_t *)scratch + 16), s);
    return taut_launched("powersgd project");
}
static taut_status absorb(const taut__cuda_matrix *m, int round, float *factor, uint64_t seed, uint32_t *poisoned,
                          taut__cuda_stream s)
{
    matrix   d = matrix_of(m);
    bool     p_side = makes_p(d, round);
    uint64_t n = (p_side ? d.rows : d.cols) * d.rank;
    TAUT_LAUNCH(lowrank_check, blocks_for(n), THREADS, 0, s, (const float *)factor, n, poisoned);
    if (round < 2) orthonormalise_by(d, p_side, factor, seed, poisoned, s);
    return taut_launched("powersgd absorb");
}
static taut_status reconstruct(const taut__cuda_batch *b, const taut__cuda_matrix *m, const float *p, const float *qt,
                               const uint32_t *poisoned, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "powersgd reconstruct"));
    matrix d = matrix_of(m);
    TAUT_LAUNCH(lowrank_expand, dim3(blocks_for(d.cols), (unsigned)taut__min(d.rows, 65535)), THREADS, 0, s, b->one,
                b->dtype, d, p, qt, b->factor, STORE, poisoned);
    return taut_launched("powersgd reconstruct");
}

static taut_status encode(const taut__cuda_batch *b, const taut__cuda_matrix *m, int iterations, const float *start,
                          taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "powersgd encode"));
    TAUT_TRY(check(m, b->work, b->work_bytes, "powersgd encode"));
    if (b->jobs || b->dtype != TAUT_F32 || b->one.residual)
        return taut__fail(TAUT_E_UNSUPPORTED,
                          "powersgd encode: one float32 tensor at a time, with its residual added before");
    if (iterations < 1 || iterations > 16)
        return taut__fail(TAUT_E_RANGE, "powersgd encode: iterations=%d: must be 1..16", iterations);
    matrix    d = matrix_of(m);
    uint32_t *bad = (uint32_t *)b->work;
    float    *parts = (float *)((uint8_t *)b->work + 16), *p = (float *)(b->one.payload + HEADER),
          *qt = p + d.rows * d.rank;
    const float *x = (const float *)b->one.src;
    float       *first = wide(d) ? qt : p;
    uint64_t     n = (wide(d) ? d.cols : d.rows) * d.rank;
    cudaError_t  e = cudaMemsetAsync(bad, 0, 16, s);
    if (e == cudaSuccess && start) e = cudaMemcpyAsync(first, start, 4 * n, cudaMemcpyDeviceToDevice, s);
    if (e != cudaSuccess) return taut__fail(TAUT_E_DEVICE, "powersgd encode: %s", cudaGetErrorString(e));
    if (!start)
        TAUT_LAUNCH(lowrank_random, blocks_for(n), THREADS, 0, s, first, n, taut__seed(b->one.seed, 0),
                    (const uint32_t *)NULL);
    for (int half = 0; half <= 2 * iterations; half++) {
        bool   p_side = makes_p(d, half % 2);
        float *factor = p_side ? p : qt;
        multiply_by(d, p_side, x, p_side ? qt : p, factor, parts, s);
        n = (p_side ? d.rows : d.cols) * d.rank;
        TAUT_LAUNCH(lowrank_check, blocks_for(n), THREADS, 0, s, (const float *)factor, n, bad);
        if (half < 2 * iterations) orthonormalise_by(d, p_side, factor, b->one.seed, bad, s);
    }
    if (b->one.err)
        TAUT_LAUNCH(lowrank_expand, dim3(blocks_for(d.cols), (unsigned)taut__min(d.rows, 65535)), THREADS, 0, s, b->one,
                    b->dtype, d, (const float *)p, (const float *)qt, 1.0f, REST, (const uint32_t *)bad);
    TAUT_LAUNCH(lowrank_poison, blocks_for((d.rows + d.cols) * d.rank), THREADS, 0, s, p, (d.rows + d.cols) * d.rank,
                (const uint32_t *)bad);
    TAUT_LAUNCH(lowrank_header, 1, 1, 0, s, b->one, d, (uint32_t)m->written_iterations, (const uint32_t *)bad);
    return taut_launched("powersgd encode");
}

static taut_status decode(const taut__cuda_batch *b, const taut__cuda_matrix *m, bool add, taut__cuda_stream s)
{
    TAUT_TRY(taut_check_batch(b, "powersgd decode"));
    TAUT_TRY(check(m, b->work, b->work_bytes, "powersgd decode"));
    matrix       d = matrix_of(m);
    uint32_t    *bad = (uint32_t *)b->work;
    const float *p = (const float *)(b->one.payload + HEADER), *qt = p + d.rows * d.rank;
    TAUT_LAUNCH(lowrank_open, 1, 1, 0, s, b->one, d, bad);
    TAUT_LAUNCH(lowrank_expand, dim3(blocks_for(d.cols), (unsigned)taut__min(d.rows, 65535)), THREADS, 0, s, b->one,
                b->dtype, d, p, qt, b->factor, add ? ADD : STORE, (const uint32_t *)bad);
    return taut_launched("powersgd decode");
}

static taut_status restart(float *x, uint64_t n, uint64_t seed, uint32_t *poisoned, taut__cuda_stream s)
{
    TAUT_LAUNCH(lowrank_keep, blocks_for(n), THREADS, 0, s, x, (const float *)x, n, taut__seed(seed, 0),
                (const uint32_t *)poisoned);
    cudaError_t e = cudaMemsetAsync(poisoned, 0, 4, s);
    return e == cudaSuccess ? taut_launched("powersgd restart")
                            : taut__fail(TAUT_E_DEVICE, "powersgd restart: %s", cudaGetErrorString(e));
}
static taut_status poison(float *x, uint64_t n, const uint32_t *bad, taut__cuda_stream s)
{
    TAUT_LAUNCH(lowrank_poison, blocks_for(n), THREADS, 0, s, x, n, bad);
    return taut_launched("powersgd poison");
}
static taut_status keep(float *kept, const float *from, uint64_t n, uint64_t seed, const uint32_t *bad,
                        taut__cuda_stream s)
{
    TAUT_LAUNCH(lowrank_keep, blocks_for(n), THREADS, 0, s, kept, from, n, taut__seed(seed, 0), bad);
    return taut_launched("powersgd keep");
}

extern "C" const taut__cuda_powersgd TAUT_CUDA_TABLE(powersgd);
extern "C" const taut__cuda_powersgd TAUT_CUDA_TABLE(powersgd) = {work,   project, absorb, reconstruct, encode,
                                                                  decode, restart, poison, keep};
