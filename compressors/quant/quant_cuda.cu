/* quant_cuda.cu : the quant codec on a GPU, a warp per bucket. Same bytes and floats as quant_portable.c.
 *
 * A warp holds tiles of 128 elements, four neighbours in each lane: one 16-byte access. Codes become bit planes in a transposition:
 * a lane's four codes are eight nibbles, one per plane; three butterfly exchanges over eight lanes turn them into one word per
 * plane for 32 elements, which is what the payload holds. Decoding runs the same exchanges the other way.
 * Buckets of up to 1024 elements stay in registers between measuring and packing, so memory is read once; larger ones are
 * read twice, the second time from a cache. */
#include "quant_cuda.h"

/* ---- random halves ---- */

/* r of this lane's four elements. Elements 32 apart share a hash: each of the two lanes makes two of the four. */
static __device__ __forceinline__ four randoms(const quant_unit &u, uint32_t tile)
{
    four r = {{0x8000, 0x8000, 0x8000, 0x8000}};
    if (!u.stochastic) return r;
    uint32_t lane = TAUT_LANE, counter = u.counter + tile * 64 + lane / 16 * 32 + lane % 8 * 4, two = lane & 8 ? 2 : 0;
    uint32_t a = taut__random32(u.rng, counter + two), b = taut__random32(u.rng, counter + two + 1);
    uint32_t c = __shfl_xor_sync(TAUT_ALL, a, 8), d = __shfl_xor_sync(TAUT_ALL, b, 8), shift = lane & 8 ? 16 : 0;
    r.q[0] = (two ? c : a) >> shift & 0xffff;
    r.q[1] = (two ? d : b) >> shift & 0xffff;
    r.q[2] = (two ? a : c) >> shift & 0xffff;
    r.q[3] = (two ? b : d) >> shift & 0xffff;
    return r;
}

/* quant_code() with the device's own conversion, which rounds half to even as well. Lanes beyond a tile's elements hold 0, which may lie far
 * outside of the bucket: the sum wraps there, and nobody takes the code. */
static __device__ __forceinline__ uint32_t code_of(const quant_unit &u, float x, uint32_t r)
{
    int32_t q = (int32_t)((uint32_t)__float2int_rn((x - u.base) * u.inv) + r) >> 16;
    return (uint32_t)min(max(q, 0), (int32_t)u.top);
}

/* ---- a bucket's metadata ---- */

struct seen { /* by one lane, over the tiles of a bucket */
    int    lo, hi;
    bool   nan;
    double sum2; /* l2 only: element i of the bucket in lane i mod 32 */
};
static __device__ __forceinline__ seen nothing_seen()
{
    seen s = {0x7fffffff, (int)0x80000000, false, 0};
    return s;
}
/* m: elements of the bucket */
static __device__ __forceinline__ void see(seen *s, quant_norm norm, float4 x, uint32_t tile, uint32_t m)
{
    float    v[4] = {x.x, x.y, x.z, x.w};
    uint32_t i = tile * TILE + 4 * TAUT_LANE;
    TAUT_UNROLL
    for (uint32_t k = 0; k < 4; k++)
        if (i + k < m) {
            s->nan |= v[k] != v[k];
            s->lo = min(s->lo, taut_ordered(v[k]));
            s->hi = max(s->hi, taut_ordered(v[k]));
        }
    if (norm != QUANT_L2) return;
    for (uint32_t part = 0; part < TILE / 32;
         part++) { /* element 32 part + lane of the tile, from the lane that holds it */
        int   from = (int)(part * 8 + TAUT_LANE / 4);
        float a = __shfl_sync(TAUT_ALL, x.x, from), b = __shfl_sync(TAUT_ALL, x.y, from),
              c = __shfl_sync(TAUT_ALL, x.z, from), d = __shfl_sync(TAUT_ALL, x.w, from),
              mine = TAUT_LANE & 2 ? (TAUT_LANE & 1 ? d : c) : (TAUT_LANE & 1 ? b : a);
        if (tile * TILE + part * 32 + TAUT_LANE < m) s->sum2 += taut__square(mine);
    }
}
/* The bucket's unit, the same in all lanes. */
static __device__ __forceinline__ void settle(const quant_params &p, const seen &s, quant_bucket *b)
{
    float lo = taut_unordered(__reduce_min_sync(TAUT_ALL, s.lo)),
          hi = taut_unordered(__reduce_max_sync(TAUT_ALL, s.hi));
    bool   ordered = !__any_sync(TAUT_ALL, s.nan);
    double sum2 = p.norm == QUANT_L2 ? __shfl_sync(TAUT_ALL, taut_warp_sum(s.sum2), 0) : 0;
    quant_meta_of(&p, ordered, lo, hi, sum2, b->meta);
    quant_understand(&p, b);
    b->unit.inv = quant_inverse(b);
}

static __device__ __forceinline__ void put_meta(const quant_params &p, const quant_bucket &b, uint64_t k,
                                                uint8_t *payload)
{
    uint32_t *meta = (uint32_t *)(payload + QUANT_HEADER + k * quant_meta_bytes(p.norm));
    if (TAUT_LANE != 0) return;
    meta[0] = __float_as_uint(b.meta[0]);
    if (p.norm == QUANT_MAXMIN) meta[1] = __float_as_uint(b.meta[1]);
}

/* ---- one tile: floats -> codes, payload, error ---- */

static __device__ __forceinline__ void pack_tile(const quant_bucket &b, float4 x, uint32_t tile, uint32_t m,
                                                 uint8_t *codes, four *c, float4 *e)
{
    const quant_unit &u = b.unit;
    four              r = randoms(u, tile);
    c->q[0] = code_of(u, x.x, r.q[0]);
    c->q[1] = code_of(u, x.y, r.q[1]);
    c->q[2] = code_of(u, x.z, r.q[2]);
    c->q[3] = code_of(u, x.w, r.q[3]);
    put_tile(u.bits, tile, m, *c, codes);
    *e = make_float4(x.x - (u.base + (float)c->q[0] * u.step), x.y - (u.base + (float)c->q[1] * u.step),
                     x.z - (u.base + (float)c->q[2] * u.step), x.w - (u.base + (float)c->q[3] * u.step));
}

/* The buckets that float32 cannot carry, and those that hold NaN or Inf; rare. */
static __device__ TAUT_NOINLINE void pack_tile_exact(const quant_params &p, const quant_bucket &b, float4 x,
                                                     uint32_t tile, uint32_t m, uint8_t *codes, four *c, float4 *e)
{
    quant_exact unit = quant_exact_unit(&p, &b);
    four        r = randoms(b.unit, tile);
    float       v[4] = {x.x, x.y, x.z, x.w}, left[4];
    uint32_t    i = tile * TILE + 4 * TAUT_LANE;
    for (uint32_t k = 0; k < 4; k++) {
        c->q[k] = 0;
        left[k] = 0;
        if (b.kind == QUANT_VOID || i + k >= m) continue;
        c->q[k] = quant_exact_code(&b.unit, &unit, v[k], r.q[k]);
        left[k] = taut__residual(v[k], quant_exact_value(&b.unit, &unit, c->q[k]));
    }
    put_tile(b.unit.bits, tile, m, *c, codes);
    *e = make_float4(left[0], left[1], left[2], left[3]);
}

static __device__ __forceinline__ float4 values_of(const quant_params &p, const quant_bucket &b, four c)
{
    const quant_unit &u = b.unit;
    if (b.kind == QUANT_PLAIN)
        return make_float4(u.base + (float)c.q[0] * u.step, u.base + (float)c.q[1] * u.step,
                           u.base + (float)c.q[2] * u.step, u.base + (float)c.q[3] * u.step);
    float nan = taut__float(QUANT_NAN);
    if (b.kind == QUANT_VOID) return make_float4(nan, nan, nan, nan);
    quant_exact e = quant_exact_unit(&p, &b);
    return make_float4(quant_exact_value(&u, &e, c.q[0]), quant_exact_value(&u, &e, c.q[1]),
                       quant_exact_value(&u, &e, c.q[2]), quant_exact_value(&u, &e, c.q[3]));
}

static __device__ __forceinline__ void get_meta(const quant_params &p, const uint8_t *payload, uint64_t k,
                                                quant_bucket *b)
{
    const uint32_t *meta = (const uint32_t *)(payload + QUANT_HEADER + k * quant_meta_bytes(p.norm));
    b->meta[0] = __uint_as_float(meta[0]);
    b->meta[1] = p.norm == QUANT_MAXMIN ? __uint_as_float(meta[1]) : 0;
    quant_understand(&p, b);
}

/* A value as decode stores it: wide ones are 0 + value, which knows no -0. */
static __device__ __forceinline__ float4 set_values(quant_kind kind, float4 v)
{
    return kind == QUANT_WIDE ? make_float4(0 + v.x, 0 + v.y, 0 + v.z, 0 + v.w) : v;
}
/* acc + value as decode_add makes it: void buckets replace. */
static __device__ __forceinline__ float4 add_values(quant_kind kind, float4 acc, float4 v)
{
    return kind == QUANT_VOID ? v : taut_add4(acc, v);
}

/* ---- where a bucket's floats come from ---- */

struct from_memory { /* src + residual */
    const taut__cuda_job             *j;
    taut_dtype                        dtype;
    uint64_t                          at;
    __device__ __forceinline__ float4 tile(const quant_params &, uint32_t t, uint32_t m) const
    {
        return taut_input4_to(j, dtype, at + t * TILE + 4 * TAUT_LANE,
                              at + m); /* a tile may reach into the next bucket */
    }
};
struct from_peers { /* the sum of payloads, and of src before them */
    const taut__cuda_job *j;
    taut_dtype            dtype;
    uint64_t              at, k;
    uint32_t              peers;
    float                 factor;
    __device__ float4     tile(const quant_params &p, uint32_t t, uint32_t m) const
    {
        float4 x = make_float4(0, 0, 0, 0);
        if (j->src) x = taut_load4_as(j->src, dtype, at + t * TILE + 4 * TAUT_LANE, at + m);
        for (uint32_t i = 0; i < peers; i++) {
            quant_bucket b;
            b.unit = quant_unit_for(&p);
            get_meta(p, j->peers[i], k, &b);
            float4 v =
                values_of(p, b, get_codes(p.bits, t, m, j->peers[i] + quant_codes_at(&p, j->n) + at / 8 * p.bits));
            x = i == 0 && !j->src ? set_values(b.kind, v) : add_values(b.kind, x, v);
        }
        return factor == 1 ? x : taut_scale4(x, factor);
    }
};

/* ---- kernels ---- */

/* Bucket k of job j. TILES > 0: so many tiles stay in registers; 0: they are read again. */
template <int TILES, class SOURCE>
static __device__ __forceinline__ void encode_bucket(const quant_params &p, const taut__cuda_job *j, uint64_t k,
                                                     const SOURCE &from, uint8_t *tail)
{
    uint64_t     at = k * p.bucket;
    uint32_t     m = (uint32_t)taut__min(p.bucket, j->n - at), tiles = (m + TILE - 1) / TILE;
    float4       x[TILES > 0 ? TILES : 1];
    quant_bucket b;
    seen         s = nothing_seen();
    b.unit = quant_unit_for(&p);
    TAUT_UNROLL
    for (uint32_t t = 0; t < (TILES > 0 ? (uint32_t)TILES : tiles); t++) {
        if (t >= tiles) break;
        float4 v = from.tile(p, t, m);
        if (TILES > 0) x[TILES > 0 ? t : 0] = v;
        see(&s, p.norm, v, t, m);
    }
    settle(p, s, &b);
    uint64_t counter = (j->first + at) / 2;
    b.unit.rng = taut__rng_of(j->seed, counter);
    b.unit.counter = (uint32_t)counter;
    put_meta(p, b, k, j->payload);
    if (b.kind == QUANT_VOID && TAUT_LANE == 0) taut_flag(j, TAUT__CUDA_NOT_FINITE);
    uint8_t *codes = j->payload + quant_codes_at(&p, j->n) + at / 8 * p.bits;
    bool     fast = quant_is_fast(&p, &b);
    TAUT_UNROLL
    for (uint32_t t = 0; t < (TILES > 0 ? (uint32_t)TILES : tiles); t++) {
        if (t >= tiles) break;
        float4 v = TILES > 0 ? x[TILES > 0 ? t : 0] : from.tile(p, t, m), e;
        four   c;
        if (fast) pack_tile(b, v, t, m, codes, &c, &e);
        else pack_tile_exact(p, b, v, t, m, codes, &c, &e);
        if (m % 64) put_tail(p.bits, t, m, c, codes, tail);
        if (j->err)
            taut_store4(j->err, at + t * TILE + 4 * TAUT_LANE, at + m, e); /* a tile may reach into the next bucket */
    }
}

template <int TILES>
static __global__ void __launch_bounds__(WARPS *TAUT_WARP)
    quant_encode(const __grid_constant__ taut__cuda_batch batch, quant_params p)
{
    TAUT_SHARED(uint8_t, tails, WARPS * 64);
    uint64_t u = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP, k;
    if (u >= batch.units) return;
    const taut__cuda_job *j = taut_job_of(batch, u, &k);
    if (k == 0) put_header(p, j);
    from_memory from = {j, batch.dtype, k * p.bucket};
    if (j->n) encode_bucket<TILES>(p, j, k, from, tails + threadIdx.x / TAUT_WARP * 64);
}

template <int TILES>
static __global__ void __launch_bounds__(WARPS *TAUT_WARP, 2)
    quant_sum_encode(const __grid_constant__ taut__cuda_batch batch, quant_params p)
{
    TAUT_SHARED(uint8_t, tails, WARPS * 64);
    uint64_t u = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP, k;
    if (u >= batch.units) return;
    const taut__cuda_job *j = taut_job_of(batch, u, &k);
    for (uint32_t i = 0; i < batch.peer_count; i++)
        if (!header_fits(p, j->peers[i], j->n)) {
            if (TAUT_LANE == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
            return;
        }
    if (k == 0) put_header(p, j);
    from_peers from = {j, batch.dtype, k * p.bucket, k, batch.peer_count, batch.factor};
    if (j->n) encode_bucket<TILES>(p, j, k, from, tails + threadIdx.x / TAUT_WARP * 64);
}

static __global__ void __launch_bounds__(WARPS *TAUT_WARP)
    quant_decode(const __grid_constant__ taut__cuda_batch batch, quant_params p, bool add)
{
    uint64_t u = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP, k;
    if (u >= batch.units) return;
    const taut__cuda_job *j = taut_job_of(batch, u, &k);
    if (!header_fits(p, j->payload, j->n) || (j->len && *j->len != quant_payload_bytes(&p, j->n))) {
        if (TAUT_LANE == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
        return;
    }
    if (j->n == 0) return;
    uint64_t       at = k * p.bucket;
    uint32_t       m = (uint32_t)taut__min(p.bucket, j->n - at), tiles = (m + TILE - 1) / TILE;
    const uint8_t *codes = j->payload + quant_codes_at(&p, j->n) + at / 8 * p.bits;
    quant_bucket   b;
    b.unit = quant_unit_for(&p);
    get_meta(p, j->payload, k, &b);
    for (uint32_t t = 0; t < tiles; t++) {
        uint64_t i = at + t * TILE + 4 * TAUT_LANE;
        float4   v = values_of(p, b, get_codes(p.bits, t, m, codes));
        v = add ? add_values(b.kind, taut_load4_as(j->dst, batch.dtype, i, at + m), v) : set_values(b.kind, v);
        if (batch.factor != 1) v = taut_scale4(v, batch.factor);
        taut_store4_as(j->dst, batch.dtype, i, at + m, v);
    }
}

struct candidates {
    quant_params p[TAUT__CUDA_CANDIDATES];
    uint32_t     count;
};

/* A warp takes 1024 elements at a time into registers and codes them by each candidate in turn; buckets of 1024 at most. */
enum { SPAN = TAUT__CUDA_SPAN, SPAN_TILES = SPAN / TILE };
static __global__ void __launch_bounds__(WARPS *TAUT_WARP, 1)
    quant_errors(const __grid_constant__ taut__cuda_batch batch, candidates all)
{
    uint64_t u = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP, k;
    if (u >= batch.units) return;
    const taut__cuda_job *j = taut_job_of(batch, u, &k);
    uint64_t              at = k * SPAN;
    if (j->n == 0) return;
    uint32_t m = (uint32_t)taut__min(SPAN, j->n - at);
    float4   x[SPAN_TILES];
    TAUT_UNROLL
    for (uint32_t t = 0; t < SPAN_TILES; t++) x[t] = taut_input4(j, batch.dtype, at + t * TILE + 4 * TAUT_LANE);
    for (uint32_t c = 0; c < all.count; c++) {
        const quant_params &p = all.p[c];
        double              sum = 0;
        for (uint32_t from = 0; from < m;
             from += (uint32_t)p.bucket) { /* a bucket is one or more tiles, or half a one */
            quant_bucket b;
            seen         s = nothing_seen();
            uint32_t     to = (uint32_t)taut__min(m, from + p.bucket);
            b.unit = quant_unit_for(&p);
            TAUT_UNROLL
            for (uint32_t t = 0; t < SPAN_TILES; t++) {
                uint32_t i = t * TILE + 4 * TAUT_LANE;
                float    v[4] = {x[t].x, x[t].y, x[t].z, x[t].w};
                for (uint32_t q = 0; q < 4; q++)
                    if (i + q >= from && i + q < to) {
                        s.nan |= v[q] != v[q];
                        s.lo = min(s.lo, taut_ordered(v[q])), s.hi = max(s.hi, taut_ordered(v[q]));
                        s.sum2 += taut__square(v[q]);
                    }
            }
            settle(p, s, &b);
            uint64_t counter = (j->first + at) / 2; /* of tile 0 */
            b.unit.rng = taut__rng_of(j->seed, counter);
            b.unit.counter = (uint32_t)counter;
            if (!quant_is_fast(&p, &b)) continue;
            TAUT_UNROLL
            for (uint32_t t = 0; t < SPAN_TILES; t++) {
                four     r = randoms(b.unit, t);
                uint32_t i = t * TILE + 4 * TAUT_LANE;
                float    v[4] = {x[t].x, x[t].y, x[t].z, x[t].w};
                for (uint32_t q = 0; q < 4; q++)
                    if (i + q >= from && i + q < to)
                        sum += taut__square(v[q] - (b.unit.base + (float)code_of(b.unit, v[q], r.q[q]) * b.unit.step));
            }
        }
        sum = taut_warp_sum(sum);
        if (TAUT_LANE == 0) taut_add_double(j->stats + c, sum);
    }
}

/* ---- launchers ---- */

static taut_status check(const taut__cuda_batch *b, const quant_params *p, const char *what)
{
    TAUT_TRY(taut_check_batch(b, what));
    if (p->bits < 1 || p->bits > 8) return taut__fail(TAUT_E_RANGE, "%s: bits=%u: must be 1..8", what, p->bits);
    if (p->bucket < 64 || p->bucket > 8192 || p->bucket % 64)
        return taut__fail(TAUT_E_RANGE, "%s: bucket=%zu: must be a multiple of 64 up to 8192", what, p->bucket);
    if (p->norm == QUANT_ROTATED && (p->bucket & (p->bucket - 1)))
        return taut__fail(TAUT_E_RANGE, "%s: bucket=%zu of rotated buckets: must be a power of 2", what, p->bucket);
    if (!b->jobs && b->one.first % p->bucket)
        return taut__fail(TAUT_E_INVALID, "%s: slice begins at element %llu: must be a multiple of bucket=%zu", what,
                          (unsigned long long)b->one.first, p->bucket);
    return TAUT_OK;
}
static taut_status uniform(const quant_params *p, const char *what)
{
    if (p->norm != QUANT_ROTATED) return TAUT_OK;
    return taut__fail(TAUT_E_UNSUPPORTED, "%s: rotated buckets: must be decoded one after the other", what);
}
static unsigned grid_of(const taut__cuda_batch *b) { return (unsigned)((b->units + WARPS - 1) / WARPS); }

static taut_status encode(const taut__cuda_batch *b, const quant_params *p, taut__cuda_stream s)
{
    TAUT_TRY(check(b, p, "quant encode"));
    if (p->norm == QUANT_ROTATED) {
        taut_quant_rotate_encode(b, p, s);
        return taut_launched("quant encode");
    }
    if (p->bucket <= 4 * TILE) TAUT_LAUNCH(quant_encode<4>, grid_of(b), WARPS * TAUT_WARP, 0, s, *b, *p);
    else if (p->bucket <= 8 * TILE) TAUT_LAUNCH(quant_encode<8>, grid_of(b), WARPS * TAUT_WARP, 0, s, *b, *p);
    else TAUT_LAUNCH(quant_encode<0>, grid_of(b), WARPS * TAUT_WARP, 0, s, *b, *p);
    return taut_launched("quant encode");
}

static taut_status sum_encode(const taut__cuda_batch *b, const quant_params *p, taut__cuda_stream s)
{
    TAUT_TRY(check(b, p, "quant sum"));
    TAUT_TRY(uniform(p, "quant sum"));
    if (b->peer_count < 1 || b->peer_count > TAUT__CUDA_PEERS)
        return taut__fail(TAUT_E_RANGE, "quant sum: %u payloads: must be 1..%d", b->peer_count, TAUT__CUDA_PEERS);
    if (p->bucket <= 4 * TILE) TAUT_LAUNCH(quant_sum_encode<4>, grid_of(b), WARPS * TAUT_WARP, 0, s, *b, *p);
    else TAUT_LAUNCH(quant_sum_encode<0>, grid_of(b), WARPS * TAUT_WARP, 0, s, *b, *p);
    return taut_launched("quant sum");
}

static taut_status decode(const taut__cuda_batch *b, const quant_params *p, bool add, taut__cuda_stream s)
{
    TAUT_TRY(check(b, p, "quant decode"));
    if (p->norm == QUANT_ROTATED) {
        taut_quant_rotate_decode(b, p, add, s);
        return taut_launched("quant decode");
    }
    TAUT_LAUNCH(quant_decode, grid_of(b), WARPS * TAUT_WARP, 0, s, *b, *p, add);
    return taut_launched("quant decode");
}

static taut_status errors(const taut__cuda_batch *b, const quant_params *p, uint32_t count, taut__cuda_stream s)
{
    candidates all;
    if (count < 1 || count > TAUT__CUDA_CANDIDATES)
        return taut__fail(TAUT_E_RANGE, "quant errors: %u candidates: must be 1..%d", count, TAUT__CUDA_CANDIDATES);
    memset(&all, 0, sizeof all);
    all.count = count;
    for (uint32_t c = 0; c < count; c++) {
        TAUT_TRY(check(b, &p[c], "quant errors"));
        TAUT_TRY(uniform(&p[c], "quant errors"));
        if (SPAN % p[c].bucket)
            return taut__fail(TAUT_E_RANGE, "quant errors: bucket=%zu: must divide %d", p[c].bucket, SPAN);
        all.p[c] = p[c];
    }
    TAUT_LAUNCH(quant_errors, grid_of(b), WARPS * TAUT_WARP, 0, s, *b, all);
    return taut_launched("quant errors");
}

extern "C" const taut__cuda_quant TAUT_CUDA_TABLE(quant);
extern "C" const taut__cuda_quant TAUT_CUDA_TABLE(quant) = {encode, decode, sum_encode, errors};
