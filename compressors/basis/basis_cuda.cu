/* basis_cuda.cu : changes of basis and learning on a GPU, with the bits of basis_portable.c.
 *
 * A block takes a strip of 16 vectors, of one tile. Every number is a sum of products that one thread adds one by one in the specification's order;
 * threads differ in which sums are theirs. Strips pass through shared memory 32 numbers of each vector at a time, so that the tensor is read and
 * written along memory whichever way its vectors run, and read twice (the second time mostly from a cache): once for x W, once for x - (x W) T W^T. The
 * basis' matrices, small beside the tensor, come from the caches. */
#include "../cuda/cuda_kernel.h"
#include "basis_there.h"
#include <math.h>

enum {
    THREADS = 256,
    STRIP = 16,              /* vectors of a block */
    LANES = THREADS / STRIP, /* sums of a vector side by side; r is a multiple (BASIS_LANES) */
    MOST = 256,              /* r */
    SUMS = MOST / LANES,     /* of a thread */
    CHUNK = 32,              /* numbers of a vector that are in shared memory */
    PADDED = CHUNK + 1,      /* so that neither direction hits one bank */
    EACH = STRIP * CHUNK / THREADS,
};
static_assert(BASIS_TILE % STRIP == 0, "a strip lies in one tile");

static __device__ __forceinline__ uint64_t lesser(uint64_t a, uint64_t b) { return a < b ? a : b; }

struct strip {
    uint64_t first, count;     /* vectors */
    uint64_t tile, tile_count; /* its tile's first vector, and how many it has */
};

static __device__ __forceinline__ strip strip_of(const taut__axes_there &m, uint64_t first_tile)
{
    strip s;
    s.first = first_tile * BASIS_TILE + (uint64_t)blockIdx.x * STRIP;
    s.count = lesser(STRIP, m.vectors - s.first);
    s.tile = s.first / BASIS_TILE * BASIS_TILE;
    s.tile_count = lesser(BASIS_TILE, m.vectors - s.tile);
    return s;
}

/* The element of number j of vector v. */
static __device__ __forceinline__ uint64_t element(const taut__axes_there &m, const strip &s, bool turned, uint64_t v,
                                                   uint64_t j)
{
    if (m.across) return j * m.vectors + v;
    return turned ? s.tile * m.n + j * s.tile_count + (v - s.tile) : v * m.n + j;
}

static __device__ __forceinline__ float scale_at(const taut__axes_there &m, const strip &s, const taut__cuda_unit &u,
                                                 uint64_t v, uint64_t j)
{
    return u.scale[u.each ? element(m, s, false, v, j) : m.across ? j : v];
}

/* Which vector of the strip, and which number of the chunk, are this thread's e-th: neighbours in memory belong to neighbours. */
struct spot {
    uint32_t i, j;
};
static __device__ __forceinline__ spot spot_of(bool along_vectors, uint32_t e)
{
    uint32_t k = threadIdx.x + e * THREADS;
    spot     at = {along_vectors ? k % STRIP : k / CHUNK, along_vectors ? k / STRIP : k % CHUNK};
    return at;
}

/* Numbers from..from+CHUNK of the strip's vectors, over their scale if they are not turned; zeros beyond. */
static __device__ void fetch(const taut__axes_there &m, const strip &s, const taut__cuda_unit &u, const float *x,
                             bool turned, uint64_t from, float *to)
{
    TAUT_UNROLL
    for (uint32_t e = 0; e < EACH; e++) {
        spot     at = spot_of(m.across || turned, e);
        uint64_t v = s.first + at.i, j = from + at.j;
        float    z = 0;
        if (at.i < s.count && j < m.n) {
            z = x[element(m, s, turned, v, j)];
            if (!turned && u.scale) z /= scale_at(m, s, u, v, j);
        }
        to[at.i * PADDED + at.j] = z;
    }
}

/* sum[q] of this thread's vector: x's numbers by column LANES q + lane of `by`, n x r, in order. */
static __device__ void project(const taut__axes_there &m, const strip &s, const taut__cuda_unit &u, const float *x,
                               bool turned, const float *by, float *chunk, float *sum)
{
    uint32_t i = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    TAUT_UNROLL
    for (uint32_t q = 0; q < SUMS; q++) sum[q] = 0;
    for (uint64_t from = 0; from < m.n; from += CHUNK) {
        uint32_t n = (uint32_t)lesser(CHUNK, m.n - from);
        __syncthreads();
        fetch(m, s, u, x, turned, from, chunk);
        __syncthreads();
        for (uint32_t j = 0; j < n; j++) {
            float z = chunk[i * PADDED + j];
            TAUT_UNROLL
            for (uint32_t q = 0; q < SUMS; q++)
                if (q * LANES < m.r) sum[q] = fmaf(z, by[(from + j) * m.r + q * LANES + lane], sum[q]);
        }
    }
}

/* Out again, where they belong; times their scale if they were turned. */
static __device__ void put(const taut__axes_there &m, const strip &s, const taut__cuda_unit &u, float *out,
                           uint64_t begin, bool turned, uint64_t from, const float *chunk)
{
    TAUT_UNROLL
    for (uint32_t e = 0; e < EACH; e++) {
        spot     at = spot_of(m.across || turned, e);
        uint64_t v = s.first + at.i, j = from + at.j;
        if (at.i >= s.count || j >= m.n) continue;
        float z = chunk[at.i * PADDED + at.j];
        if (!turned && u.scale) z *= scale_at(m, s, u, v, j);
        out[element(m, s, turned, v, j) - begin] = z;
    }
}

/* b = (x W) T, or T^T, of the strip into shared memory; a: room for x W. */
static __device__ void inner(const taut__axes_there &m, const strip &s, const taut__cuda_unit &u, const float *x,
                             bool back, float *chunk, float *a, float *b)
{
    uint32_t     i = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const float *t = back ? m.tt : m.t;
    float        sum[SUMS];
    project(m, s, u, x, back, m.w, chunk, sum);
    TAUT_UNROLL
    for (uint32_t q = 0; q < SUMS; q++)
        if (q * LANES < m.r) a[i * MOST + q * LANES + lane] = sum[q];
    __syncthreads();
    TAUT_UNROLL
    for (uint32_t q = 0; q < SUMS; q++) sum[q] = 0;
    for (uint32_t k = 0; k < m.r; k++) {
        float z = a[i * MOST + k];
        TAUT_UNROLL
        for (uint32_t q = 0; q < SUMS; q++)
            if (q * LANES < m.r) sum[q] = fmaf(z, t[k * m.r + q * LANES + lane], sum[q]);
    }
    TAUT_UNROLL
    for (uint32_t q = 0; q < SUMS; q++)
        if (q * LANES < m.r) b[i * MOST + q * LANES + lane] = sum[q];
    __syncthreads();
}

static __global__ void __launch_bounds__(THREADS)
    basis_change(const __grid_constant__ taut__axes_there m, const __grid_constant__ taut__cuda_unit u, const float *x,
                 float *out, uint64_t first, bool back)
{
    TAUT_SHARED(float, chunk, STRIP *PADDED);
    TAUT_SHARED(float, a, STRIP *MOST);
    TAUT_SHARED(float, b, STRIP *MOST);
    strip    s = strip_of(m, first);
    uint64_t begin = m.across ? 0 : first * BASIS_TILE * m.n;
    inner(m, s, u, x, back, chunk, a, b);
    for (uint64_t from = 0; from < m.n; from += CHUNK) {
        fetch(m, s, u, x, back, from, chunk);
        __syncthreads();
        TAUT_UNROLL
        for (uint32_t e = 0; e < EACH; e++) {
            spot at = spot_of(false, e);
            if (from + at.j >= m.n) continue;
            float rest = chunk[at.i * PADDED + at.j];
            for (uint32_t k = 0; k < m.r; k++) rest = fmaf(-b[at.i * MOST + k], m.wt[k * m.n + from + at.j], rest);
            chunk[at.i * PADDED + at.j] = rest;
        }
        __syncthreads();
        put(m, s, u, out, begin, !back, from, chunk);
        __syncthreads();
    }
}

/* c = x V of these tiles' vectors. */
static __global__ void __launch_bounds__(THREADS)
    basis_project(const __grid_constant__ taut__axes_there m, const __grid_constant__ taut__cuda_unit u, const float *x,
                  float *c, uint64_t first)
{
    TAUT_SHARED(float, chunk, STRIP *PADDED);
    float    sum[SUMS];
    strip    s = strip_of(m, first);
    uint32_t i = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    project(m, s, u, x, false, m.v, chunk, sum);
    if (i >= s.count) return;
    c += (s.first + i - first * BASIS_TILE) * m.r;
    TAUT_UNROLL
    for (uint32_t q = 0; q < SUMS; q++)
        if (q * LANES < m.r) c[q * LANES + lane] = sum[q];
}

/* a += x^T c: a block has 16 rows and columns of a, and takes 16 vectors at a time. The specification fills up the last tile with vectors of
 * zeros: one of them tells (-0 + 0 is +0). */
static __global__ void __launch_bounds__(THREADS)
    basis_outer(const __grid_constant__ taut__axes_there m, const __grid_constant__ taut__cuda_unit u, const float *x,
                const float *c, uint64_t first, uint64_t count)
{
    TAUT_SHARED(float, xs, STRIP *(STRIP + 1));
    TAUT_SHARED(float, cs, STRIP *LANES);
    uint32_t tj = threadIdx.x / LANES, tk = threadIdx.x % LANES;
    uint64_t j = (uint64_t)blockIdx.x * STRIP + tj, k = (uint64_t)blockIdx.y * LANES + tk;
    uint64_t from = first * BASIS_TILE, to = lesser(from + count * BASIS_TILE, m.vectors);
    float    sum = j < m.n ? m.a[j * m.r + k] : 0;
    strip    none = {};
    for (uint64_t v = from; v < to; v += STRIP) {
        uint32_t i = m.across ? tk : tj, l = m.across ? tj : tk; /* vector and number that this thread fetches */
        uint64_t jj = (uint64_t)blockIdx.x * STRIP + l;
        float    z = 0;
        __syncthreads();
        if (v + i < to && jj < m.n) {
            z = x[element(m, none, false, v + i, jj)];
            if (u.scale) z /= scale_at(m, none, u, v + i, jj);
        }
        xs[i * (STRIP + 1) + l] = z;
        cs[tj * LANES + tk] = v + tj < to ? c[(v + tj - from) * m.r + k] : 0;
        __syncthreads();
        TAUT_UNROLL
        for (uint32_t q = 0; q < STRIP; q++)
            if (v + q < to) sum = fmaf(xs[q * (STRIP + 1) + tj], cs[q * LANES + tk], sum);
    }
    if (to == m.vectors && to % BASIS_TILE) sum = fmaf(0.0f, 0.0f, sum);
    if (j < m.n) m.a[j * m.r + k] = sum;
}

/* ---- launchers ---- */

static taut_status check(const taut__axes_there *m, const float *x, uint64_t first, uint64_t count)
{
    uint64_t tiles = (m->vectors + BASIS_TILE - 1) / BASIS_TILE;
    if (m->r == 0 || m->r > MOST || m->r % LANES || m->n == 0)
        return taut__fail(TAUT_E_INVALID, "basis: %llu directions of %llu: must be a multiple of %d up to %d",
                          (unsigned long long)m->r, (unsigned long long)m->n, LANES, MOST);
    if (first + count > tiles || count == 0 || count * (BASIS_TILE / STRIP) > 0x7fffffffull || m->n > 0x7fffffffull)
        return taut__fail(TAUT_E_RANGE, "basis: tiles %llu..%llu: there are %llu", (unsigned long long)first,
                          (unsigned long long)(first + count), (unsigned long long)tiles);
    if ((uintptr_t)x & 3)
        return taut__fail(TAUT_E_INVALID, "basis: floats at %p: must be a multiple of 4", (const void *)x);
    return TAUT_OK;
}

static unsigned strips(const taut__axes_there *m, uint64_t first, uint64_t count)
{
    uint64_t from = first * BASIS_TILE, to = from + count * BASIS_TILE;
    return (unsigned)(((to < m->vectors ? to : m->vectors) - from + STRIP - 1) / STRIP);
}

static taut_status change(const taut__axes_there *m, const taut__cuda_unit *u, const float *x, float *out,
                          uint64_t first, uint64_t count, bool back, taut__cuda_stream s)
{
    TAUT_TRY(check(m, x, first, count));
    TAUT_LAUNCH(basis_change, strips(m, first, count), THREADS, 0, s, *m, *u, x, out, first, back);
    return taut_launched("change of basis");
}

static taut_status learn(const taut__axes_there *m, const taut__cuda_unit *u, const float *x, float *c, uint64_t first,
                         uint64_t count, taut__cuda_stream s)
{
    TAUT_TRY(check(m, x, first, count));
    TAUT_LAUNCH(basis_project, strips(m, first, count), THREADS, 0, s, *m, *u, x, c, first);
    TAUT_TRY(taut_launched("basis: project"));
    dim3 grid((unsigned)((m->n + STRIP - 1) / STRIP), (unsigned)(m->r / LANES));
    TAUT_LAUNCH(basis_outer, grid, THREADS, 0, s, *m, *u, x, c, first, count);
    return taut_launched("basis: outer");
}

extern "C" const taut__cuda_basis TAUT_CUDA_TABLE(basis);
extern "C" const taut__cuda_basis TAUT_CUDA_TABLE(basis) = {change, learn};
