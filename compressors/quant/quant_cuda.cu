/* quant_cuda.cu : the quant codec on a GPU, a warp per bucket, one after the other. Same bytes and floats as quant_portable.c.
 *
 * A lane has eight elements of a tile of 256 (quant_cuda.h): those that share hashes, so each makes four of them and keeps both halves. Codes
 * become bit planes in a transposition: a lane's codes are eight nibbles, one per plane and half; three butterfly exchanges over eight lanes turn
 * them into one word per plane for 32 elements, which is what the payload holds. Decoding runs the same exchanges the other way.
 * Buckets of up to 1024 elements stay in registers between measuring and packing, so memory is read once; larger ones are
 * read twice, the second time from a cache. Rare buckets, which float32 cannot carry, are read again by functions of their own. */
#include "quant_unit_cuda.h"

/* ---- encoding ---- */

template <bool EVEN>
static __device__ __forceinline__ void put_codes(const quant_params &p, const bucket_place &w, uint32_t tile, octet c,
                                                 uint8_t *tail)
{
    uint8_t *codes = w.j->payload + w.codes_at + w.at / 8 * p.bits;
    put_tile(p.bits, tile, w.m, c, codes);
    if (!EVEN && w.m % 64) put_tail(p.bits, tile, w.m, c, codes, tail);
}
template <bool EVEN>
static __device__ __forceinline__ void pack_tile(const quant_params &p, const quant_unit &u, const bucket_place &w,
                                                 eight x, uint32_t tile, uint8_t *tail)
{
    octet c = codes_for(u, x, tile);
    put_codes<EVEN>(p, w, tile, c, tail);
    if (!w.j->err) return;
    TAUT_UNROLL
    for (uint32_t k = 0; k < 8; k++) x.v[k] = x.v[k] - value_of(u, c, k);
    store8<EVEN>(w.j->err, TAUT_F32, w.at + place(tile), w.at + w.m, x);
}
/* The buckets that float32 cannot carry, and those that hold NaN or Inf; rare. */
static __device__ __forceinline__ void pack_tile_odd(const quant_params &p, const quant_bucket &b,
                                                     const bucket_place &w, eight x, uint32_t tile, uint8_t *tail)
{
    quant_exact unit = quant_exact_unit(&p, &b);
    uint32_t    q[8];
    TAUT_ROLLED
    for (uint32_t k = 0; k < 8; k++) {
        bool     here = b.kind != QUANT_VOID && place_of(tile, k) < w.m;
        uint32_t r = randoms(b.unit, tile, k % 4) >> k / 4 * 16 & 0xffff;
        q[k] = here ? quant_exact_code(&b.unit, &unit, x.v[k], r) << 16 : 0;
        x.v[k] = here ? taut__residual(x.v[k], quant_exact_value(&b.unit, &unit, q[k] >> 16)) : 0;
    }
    octet c = {pack4(q), pack4(q + 4)};
    put_codes<false>(p, w, tile, c, tail);
    if (w.j->err) store8<false>(w.j->err, TAUT_F32, w.at + place(tile), w.at + w.m, x);
}

static __device__ __forceinline__ void find_unit(const quant_params &p, const bucket_place &w, const taut__rng &rng,
                                                 const seen &s, quant_bucket *b)
{
    b->unit = quant_unit_for(&p);
    settle(p, s, b);
    b->unit.rng = rng;
    b->unit.counter = (uint32_t)((w.j->first + w.at) / 2);
    put_meta(p, *b, w);
}
/* A bucket of any kind, from a tile to the next; where its unit is known, only codes are made. */
template <class SOURCE>
static __device__ __forceinline__ void encode_slowly(const quant_params &p, const bucket_place &w, const taut__rng &rng,
                                                     const SOURCE &from, uint8_t *tail)
{
    quant_bucket b;
    eight        x;
    seen         s = nothing_seen();
    for (uint32_t t = 0; t * TILE < w.m; t++) {
        from.template tiles<1, false>(p, w, t, &x);
        see<false>(&s, p.norm, x, t, w.m);
    }
    find_unit(p, w, rng, s, &b);
    bool fast = quant_is_fast(&p, &b);
    for (uint32_t t = 0; t * TILE < w.m; t++) {
        from.template tiles<1, false>(p, w, t, &x);
        if (fast) pack_tile<false>(p, b.unit, w, x, t, tail);
        else pack_tile_odd(p, b, w, x, t, tail);
    }
}
/* An even one: TILES > 0: so many tiles stay in registers; 0: they are read again. False, and nothing done, where float32 cannot carry it. */
template <int TILES, class SOURCE>
static __device__ __forceinline__ bool encode_even(const quant_params &p, const bucket_place &w, const taut__rng &rng,
                                                   const SOURCE &from)
{
    enum { KEPT = TILES > 0 ? TILES : 1 };
    eight        x[KEPT];
    quant_bucket b;
    seen         s = nothing_seen();
    for (uint32_t t = 0; t == 0 || (TILES == 0 && t * TILE < w.m); t++) {
        from.template tiles<KEPT, true>(p, w, t, x);
        TAUT_UNROLL
        for (uint32_t i = 0; i < KEPT; i++) see<true>(&s, p.norm, x[i], t + i, w.m);
    }
    find_unit(p, w, rng, s, &b);
    if (!quant_is_fast(&p, &b)) return false;
    for (uint32_t t = 0; t == 0 || (TILES == 0 && t * TILE < w.m); t++) {
        if (TILES == 0) from.template tiles<KEPT, true>(p, w, t, x);
        TAUT_UNROLL
        for (uint32_t i = 0; i < KEPT; i++)
            if ((t + i) * TILE < w.m) pack_tile<true>(p, b.unit, w, x[i], t + i, nullptr);
    }
    return true;
}
template <int TILES, class SOURCE>
static __device__ __forceinline__ void encode_bucket(const quant_params &p, const bucket_place &w, const taut__rng &rng,
                                                     const SOURCE &from, uint8_t *tail)
{
    if (w.even && encode_even<TILES>(p, w, rng, from)) return;
    encode_slowly(p, w, rng, from, tail);
}

/* Warps take `each` buckets one after the other: what is the same in all of a job they find out once. */
struct warp_share {
    uint32_t at, end;
};
static __device__ __forceinline__ warp_share share_of(const taut__cuda_batch &b, uint32_t each)
{
    warp_share s;
    s.at = (blockIdx.x * WARPS + threadIdx.x / TAUT_WARP) * each; /* units are below 2^31 */
    s.end = min((uint32_t)b.units, s.at + each);
    return s;
}
/* The random numbers of a bucket: another key for each job, and for every 2^33 elements. */
struct keys {
    const taut__cuda_job *j;
    uint32_t              high;
    taut__rng             rng;
};
static __device__ __forceinline__ void keys_for(keys *k, const bucket_place &w)
{
    uint64_t counter = (w.j->first + w.at) / 2;
    if (k->j == w.j && k->high == (uint32_t)(counter >> 32)) return;
    k->j = w.j, k->high = (uint32_t)(counter >> 32);
    k->rng = taut__rng_of(w.j->seed, counter);
}

template <int TILES>
static __global__ void __launch_bounds__(WARPS *TAUT_WARP, TILES == 4 ? 2 : 3)
    quant_encode(const __grid_constant__ taut__cuda_batch batch, quant_params p, uint32_t each)
{
    TAUT_SHARED(uint8_t, tails, WARPS * 64);
    keys        rng = {nullptr, 0, {0, 0}};
    from_memory from = {batch.dtype};
    warp_share  share = share_of(batch, each);
    for (uint32_t u = share.at; u < share.end; u++) {
        bucket_place w = bucket_of(batch, p, u);
        put_header(p, w);
        keys_for(&rng, w);
        if (w.m) encode_bucket<TILES>(p, w, rng.rng, from, tails + threadIdx.x / TAUT_WARP * 64);
    }
}

/* Whether all payloads are of this kind; flagged if not. */
static __device__ __forceinline__ bool peers_fit(const quant_params &p, const taut__cuda_job *j, uint32_t peers)
{
    bool fit = true;
    for (uint32_t i = 0; i < peers; i++) fit = fit && header_fits(p, j->peers[i], j->n);
    if (!fit && TAUT_LANE == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
    return fit;
}
template <int TILES>
static __global__ void __launch_bounds__(WARPS *TAUT_WARP, 2)
    quant_sum_encode(const __grid_constant__ taut__cuda_batch batch, quant_params p, uint32_t each)
{
    TAUT_SHARED(uint8_t, tails, WARPS * 64);
    keys       rng = {nullptr, 0, {0, 0}};
    from_peers from = {batch.dtype, batch.peer_count, batch.factor};
    warp_share share = share_of(batch, each);
    bool       fit = false;
    for (uint32_t u = share.at; u < share.end; u++) {
        bucket_place w = bucket_of(batch, p, u);
        if (rng.j != w.j) fit = peers_fit(p, w.j, batch.peer_count);
        keys_for(&rng, w);
        if (!fit) continue;
        put_header(p, w);
        if (w.m) encode_bucket<TILES>(p, w, rng.rng, from, tails + threadIdx.x / TAUT_WARP * 64);
    }
}

/* ---- decoding ---- */

/* Tiles t.. of an even bucket; false, and nothing done, where it is not PLAIN. All that is read is under way before any of it is used. */
template <int N>
static __device__ __forceinline__ bool decode_tiles(const taut__cuda_batch &batch, const quant_params &p,
                                                    const bucket_place &w, uint32_t t, bool add)
{
    const uint8_t *codes = w.j->payload + w.codes_at + w.at / 8 * p.bits;
    plane_words    words[N];
    eight          x[N];
    TAUT_UNROLL
    for (uint32_t i = 0; i < N; i++) words[i] = fetch_tile(p.bits, t + i, w.m, codes);
    TAUT_UNROLL
    for (uint32_t i = 0; i < N && add; i++) x[i] = load8<true>(w.j->dst, batch.dtype, w.at + place(t + i), w.at + w.m);
    quant_bucket b = get_meta(p, w.j->payload, w.k);
    if (b.kind != QUANT_PLAIN) return false;
    TAUT_UNROLL
    for (uint32_t i = 0; i < N; i++) {
        if ((t + i) * TILE >= w.m) break;
        add_values(p, b, codes_of(p.bits, words[i]), add, &x[i]);
        TAUT_UNROLL
        for (uint32_t k = 0; k < 8; k++)
            if (batch.factor != 1) x[i].v[k] *= batch.factor;
        store8<true>(w.j->dst, batch.dtype, w.at + place(t + i), w.at + w.m, x[i]);
    }
    return true;
}
/* A bucket of any kind */
static __device__ __forceinline__ void decode_slowly(const taut__cuda_batch &batch, const quant_params &p,
                                                     const bucket_place &w, bool add)
{
    const uint8_t *codes = w.j->payload + w.codes_at + w.at / 8 * p.bits;
    quant_bucket   b = get_meta(p, w.j->payload, w.k);
    for (uint32_t t = 0; t * TILE < w.m; t++) {
        uint64_t i = w.at + place(t), end = w.at + w.m;
        octet    c = get_codes(p.bits, t, w.m, codes);
        eight    x = load8<false>(w.j->dst, batch.dtype, i, add ? end : 0);
        add_values(p, b, c, add, &x);
        for (uint32_t k = 0; k < 8; k++)
            if (batch.factor != 1) x.v[k] *= batch.factor;
        store8<false>(w.j->dst, batch.dtype, i, end, x);
    }
}

static __global__ void __launch_bounds__(WARPS *TAUT_WARP, 3)
    quant_decode(const __grid_constant__ taut__cuda_batch batch, quant_params p, bool add, uint32_t each)
{
    warp_share            share = share_of(batch, each);
    const taut__cuda_job *known = nullptr;
    bool                  fit = false;
    for (uint32_t u = share.at; u < share.end; u++) {
        bucket_place w = bucket_of(batch, p, u);
        if (known != w.j) {
            known = w.j;
            fit = header_fits(p, w.j->payload, w.j->n) && (!w.j->len || *w.j->len == payload_bytes(p, w));
            if (!fit && TAUT_LANE == 0) taut_flag(w.j, TAUT__CUDA_CORRUPT);
        }
        if (!fit || w.m == 0) continue;
        uint32_t t = 0;
        while (w.even && t * TILE < w.m && decode_tiles<2>(batch, p, w, t, add)) t += 2;
        if (t * TILE < w.m) decode_slowly(batch, p, w, add);
    }
}

struct candidates {
    quant_params p[TAUT__CUDA_CANDIDATES];
    uint32_t     count;
};

/* A warp takes 1024 elements at a time into registers and codes them by each candidate in turn; buckets of 1024 at most. */
enum { SPAN = TAUT__CUDA_SPAN, SPAN_TILES = SPAN / TILE };
/* Squared error of elements from..to of a span, by one lane: a bucket is one or more groups. */
static __device__ __forceinline__ double span_error(const quant_params &p, const taut__rng &rng, uint32_t counter,
                                                    const eight *x, uint32_t from, uint32_t to)
{
    quant_bucket b;
    seen         s = nothing_seen();
    double       sum = 0;
    b.unit = quant_unit_for(&p);
    TAUT_UNROLL
    for (uint32_t t = 0; t < SPAN_TILES; t++)
        for (uint32_t k = 0; k < 8; k++)
            if (place(t) >= from && place_of(t, k) < to) {
                s.lo = least(s.lo, x[t].v[k]), s.hi = fmaxf(s.hi, x[t].v[k]);
                if (p.norm == QUANT_L2) s.sum2 += taut__square(x[t].v[k]);
            }
    settle(p, s, &b);
    b.unit.rng = rng;
    b.unit.counter = counter;
    if (!quant_is_fast(&p, &b)) return 0;
    TAUT_UNROLL
    for (uint32_t t = 0; t < SPAN_TILES; t++) {
        if (place(t) < from || place(t) >= to) continue;
        octet c = codes_for(b.unit, x[t], t);
        for (uint32_t k = 0; k < 8; k++)
            if (place_of(t, k) < to) sum += taut__square(x[t].v[k] - value_of(b.unit, c, k));
    }
    return sum;
}
static __global__ void __launch_bounds__(WARPS *TAUT_WARP, 1)
    quant_errors(const __grid_constant__ taut__cuda_batch batch, candidates all)
{
    uint64_t u = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP, k;
    if (u >= batch.units) return;
    const taut__cuda_job *j = taut_job_of(batch, u, &k);
    uint64_t              at = k * SPAN;
    if (j->n == 0) return;
    bucket_place w = {j, (uint32_t)k, at, 0, (uint32_t)taut__min(SPAN, j->n - at), false};
    from_memory  from = {batch.dtype};
    eight        x[SPAN_TILES];
    uint64_t     counter = (j->first + at) / 2; /* of tile 0 */
    taut__rng    rng = taut__rng_of(j->seed, counter);
    from.tiles<SPAN_TILES, false>(all.p[0], w, 0, x);
    for (uint32_t c = 0; c < all.count; c++) {
        double   sum = 0;
        uint32_t bucket = (uint32_t)all.p[c].bucket;
        for (uint32_t at = 0; at < w.m; at += bucket)
            sum += span_error(all.p[c], rng, (uint32_t)counter, x, at, (uint32_t)taut__min(w.m, at + bucket));
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
/* Buckets of a warp: several where there is work for many more warps than run at once. */
static uint32_t each_of(const taut__cuda_batch *b) { return b->units >= 32768 ? 4 : 1; }
static unsigned grid_of(const taut__cuda_batch *b, uint32_t each)
{
    return (unsigned)taut__ceil_div(b->units, (size_t)WARPS * each);
}

static taut_status encode(const taut__cuda_batch *b, const quant_params *p, taut__cuda_stream s)
{
    TAUT_TRY(check(b, p, "quant encode"));
    if (p->norm == QUANT_ROTATED) {
        taut_quant_rotate_encode(b, p, s);
        return taut_launched("quant encode");
    }
    uint32_t each = each_of(b);
    unsigned grid = grid_of(b, each);
    if (p->bucket <= 2 * TILE) TAUT_LAUNCH(quant_encode<2>, grid, WARPS * TAUT_WARP, 0, s, *b, *p, each);
    else if (p->bucket <= 4 * TILE) TAUT_LAUNCH(quant_encode<4>, grid, WARPS * TAUT_WARP, 0, s, *b, *p, each);
    else TAUT_LAUNCH(quant_encode<0>, grid, WARPS * TAUT_WARP, 0, s, *b, *p, each);
    return taut_launched("quant encode");
}

static taut_status sum_encode(const taut__cuda_batch *b, const quant_params *p, taut__cuda_stream s)
{
    TAUT_TRY(check(b, p, "quant sum"));
    TAUT_TRY(uniform(p, "quant sum"));
    if (b->peer_count < 1 || b->peer_count > TAUT__CUDA_PEERS)
        return taut__fail(TAUT_E_RANGE, "quant sum: %u payloads: must be 1..%d", b->peer_count, TAUT__CUDA_PEERS);
    uint32_t each = each_of(b);
    unsigned grid = grid_of(b, each);
    if (p->bucket <= 2 * TILE) TAUT_LAUNCH(quant_sum_encode<2>, grid, WARPS * TAUT_WARP, 0, s, *b, *p, each);
    else TAUT_LAUNCH(quant_sum_encode<0>, grid, WARPS * TAUT_WARP, 0, s, *b, *p, each);
    return taut_launched("quant sum");
}

static taut_status decode(const taut__cuda_batch *b, const quant_params *p, bool add, taut__cuda_stream s)
{
    TAUT_TRY(check(b, p, "quant decode"));
    if (p->norm == QUANT_ROTATED) {
        taut_quant_rotate_decode(b, p, add, s);
        return taut_launched("quant decode");
    }
    uint32_t each = each_of(b);
    TAUT_LAUNCH(quant_decode, grid_of(b, each), WARPS * TAUT_WARP, 0, s, *b, *p, add, each);
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
    TAUT_LAUNCH(quant_errors, grid_of(b, 1), WARPS * TAUT_WARP, 0, s, *b, all);
    return taut_launched("quant errors");
}

extern "C" const taut__cuda_quant TAUT_CUDA_TABLE(quant);
extern "C" const taut__cuda_quant TAUT_CUDA_TABLE(quant) = {encode, decode, sum_encode, errors};
