/* grid_cuda_chunk.h : what the kernels of both codes do with a chunk: its place in a payload, the bodies of code packed, and
 * where decoded values go. A block of THREADS threads for each. */
#ifndef TAUT_GRID_CUDA_CHUNK_H
#define TAUT_GRID_CUDA_CHUNK_H

#include "../cuda/look_back_cuda.h"
#include "grid_cuda_walk.h"
#include <float.h>

/* grid_rans_cuda.cu */
#define taut_grid_rans_slot   TAUT_CUDA_TABLE(rans_slot)
#define taut_grid_rans_encode TAUT_CUDA_TABLE(rans_encode)
#define taut_grid_rans_decode TAUT_CUDA_TABLE(rans_decode)
size_t taut_grid_rans_slot(void);
void   taut_grid_rans_encode(const taut__cuda_batch *b, float bias, uint32_t dead, int32_t limit, uint32_t from_codes,
                             unsigned blocks, unsigned long long *ticket, unsigned long long *state, uint8_t *slots,
                             const grid_tables *tables, taut__cuda_stream s);
void   taut_grid_rans_decode(const taut__cuda_batch *b, int to, const grid_tables *tables, taut__cuda_stream s);

enum {
    WARPS = 8,
    THREADS = WARPS * TAUT_WARP,
    PER_WARP = 4,
    ROUND = WARPS * PER_WARP,                  /* blocks */
    WINDOW = ROUND * GRID_BLOCK_BYTES / 4 + 4, /* words: a round and what is left of the last one */
    SLOT = GRID_CHUNK_BLOCKS * GRID_BLOCK_BYTES + GRID_CHUNK_BLOCKS / 2 + 64,
    HEADER = 8,
    ENTRY = 4,
    KIND_RAW = 0,
    KIND_ZERO = 1,
    KIND_PACKED = 2,
    KIND_RANS = 5,
    KIND_SCALED = 0x80,
    KIND_TURNED = 0x40,
    KIND_MASK = 0x3f,
};

struct settings {
    float    bias;  /* 1 - dead */
    uint32_t dead;  /* in 1/10000 */
    int32_t  limit; /* of codes that are stored */
    uint32_t from_codes;
};

/* The next chunk by ticket, of those that are coded this time: its job, its number k in it and *unit of the batch. NULL: there is none.
 * All threads. shared: one word, which is written again only after a barrier that the caller passes. */
static __device__ __forceinline__ const taut__cuda_job *next_chunk(const taut__cuda_batch &batch,
                                                                   unsigned long long     *ticket,
                                                                   unsigned long long *shared, uint64_t *unit,
                                                                   uint64_t *k)
{
    for (;;) {
        *unit = taut_ticket(ticket, shared);
        if (*unit >= batch.units) return NULL;
        const taut__cuda_job *j = taut_job_of(batch, *unit, k);
        if (!grid_is_raw(j)) return j;
        __syncthreads(); /* shared[0] is about to change */
    }
}

/* ---- classes ---- */

/* The list of nibbles of cls[0..blocks), zeros in runs, into nibble[]; returns their number. All threads. */
static __device__ inline uint32_t list_classes(const uint8_t *cls, uint32_t blocks, uint8_t *nibble)
{
    TAUT_SHARED(uint32_t, used, GRID_CHUNK_BLOCKS / 32);
    TAUT_SHARED(uint32_t, sums, TAUT_WARP);
    for (uint32_t w = threadIdx.x / TAUT_WARP; w < GRID_CHUNK_BLOCKS / 32; w += blockDim.x / TAUT_WARP) {
        uint32_t m = __ballot_sync(TAUT_ALL, w * 32 + TAUT_LANE < blocks && cls[w * 32 + TAUT_LANE] != GRID_ZERO);
        if (TAUT_LANE == 0) used[w] = m;
    }
    __syncthreads();
    uint32_t run[4], mine = 0;
    for (uint32_t q = 0; q < 4; q++) { /* nibbles of block 4t + q, or of the run of zeros that begins there */
        uint32_t i = 4 * threadIdx.x + q;
        run[q] = 0;
        if (i >= blocks) continue;
        if (used[i / 32] >> i % 32 & 1) {
            mine++;
        } else if (i == 0 || (used[(i - 1) / 32] >> (i - 1) % 32 & 1)) {
            uint32_t w = i / 32, rest = used[w] & (0xffffffffu << i % 32);
            while (rest == 0 && ++w < GRID_CHUNK_BLOCKS / 32) rest = used[w];
            uint32_t end = rest ? w * 32 + (uint32_t)__ffs((int)rest) - 1 : blocks;
            run[q] = end - i;
            uint32_t left = run[q] % GRID_RUN_MAX;
            mine += run[q] / GRID_RUN_MAX * 2 + (left >= GRID_RUN_MIN ? 2 : left);
        }
    }
    uint32_t at = taut_warp_scan(mine);
    if (TAUT_LANE == 31) sums[threadIdx.x / TAUT_WARP] = at;
    __syncthreads();
    uint32_t total = 0;
    for (uint32_t w = 0; w < blockDim.x / TAUT_WARP; w++) {
        if (w == threadIdx.x / TAUT_WARP) at += total;
        total += sums[w];
    }
    at -= mine;
    for (uint32_t q = 0; q < 4; q++) {
        uint32_t i = 4 * threadIdx.x + q, zeros = run[q];
        if (i < blocks && (used[i / 32] >> i % 32 & 1)) nibble[at++] = cls[i];
        while (zeros >= GRID_RUN_MIN) {
            uint32_t take = min(zeros, (uint32_t)GRID_RUN_MAX);
            nibble[at++] = GRID_RUN;
            nibble[at++] = (uint8_t)(take - GRID_RUN_MIN);
            zeros -= take;
        }
        while (zeros-- > 0) nibble[at++] = GRID_ZERO;
    }
    __syncthreads();
    return total;
}

/* The list, two to a byte, from dst on backwards; returns its bytes. nibble: room for the list. All threads. */
static __device__ inline uint32_t put_classes(const uint8_t *cls, uint32_t blocks, uint8_t *nibble, uint8_t *dst)
{
    uint32_t count = list_classes(cls, blocks, nibble), bytes = (count + 1) / 2;
    for (uint32_t i = threadIdx.x; i < bytes; i += blockDim.x) {
        uint32_t at = 2 * (bytes - 1 - i);
        dst[i] = (uint8_t)(nibble[at] | (at + 1 < count ? nibble[at + 1] << 4 : 0));
    }
    __syncthreads();
    return bytes;
}

/* ---- encoding: one round ---- */

struct round_block { /* of a warp: what lies between finding a block's size and writing it */
    grid_warp_block k;
    grid_shape_of   s;
    bool            raw;
};

/* Block `i` (elements) of the job, m of its 64 elements there. */
static __device__ __forceinline__ void take_floats(const taut__cuda_job *j, taut_dtype dtype, const settings &set,
                                                   const grid_warp_unit &u, uint64_t i, uint32_t m, bool try_only,
                                                   round_block *r)
{
    float    x[2], d[2], e[2];
    uint32_t mag[2];
    bool     bad = false;
    TAUT_UNROLL
    for (uint32_t h = 0; h < 2; h++) {
        uint64_t at = i + TAUT_LANE + 32 * h;
        bool     in = TAUT_LANE + 32 * h < m;
        x[h] = 0;
        if (in) {
            x[h] = dtype == TAUT_F32   ? ((const float *)j->src)[at]
                   : dtype == TAUT_F16 ? taut__from_f16(((const uint16_t *)j->src)[at])
                                       : taut__from_bf16(((const uint16_t *)j->src)[at]);
            if (j->residual) x[h] = j->residual[at] + x[h];
        }
        d[h] = in ? u.at(at) : u.step;
        float level = u.level(x[h], d[h]);
        bool  has = level <= GRID_CODE_LIMIT;
        bad |= in && !has;
        mag[h] = in && has ? (uint32_t)level : 0;
    }
    r->raw = __any_sync(TAUT_ALL, bad);
    r->k.sign = grid_vote(mag[0] != 0 && x[0] < 0, mag[1] != 0 && x[1] < 0);
    TAUT_UNROLL
    for (uint32_t h = 0; h < 2; h++) {
        uint64_t at = i + TAUT_LANE + 32 * h;
        int32_t  q = (h ? grid_bit_b(r->k.sign) : grid_bit_a(r->k.sign)) ? -(int32_t)mag[h] : (int32_t)mag[h];
        e[h] = r->raw ? 0 : x[h] - grid_value(q, d[h]);
        if (u.huge && (taut__bits(e[h]) & 0x7fffffff) >= 0x7f800000) e[h] = 0;
        if (TAUT_LANE + 32 * h >= m || try_only) continue;
        if (j->err) j->err[at] = e[h];
        if (j->codes) j->codes[at] = q;
    }
    if (j->codes && !try_only &&
        __any_sync(TAUT_ALL, r->raw || mag[0] > (uint32_t)set.limit || mag[1] > (uint32_t)set.limit) && TAUT_LANE == 0)
        taut_flag(j, TAUT__CUDA_RANGE);
    r->k.a = r->raw ? __float_as_uint(x[0]) : mag[0];
    r->k.b = r->raw ? __float_as_uint(x[1]) : mag[1];
}
static __device__ __forceinline__ void take_codes(const taut__cuda_job *j, uint64_t i, uint32_t m, round_block *r)
{
    int32_t q[2];
    for (uint32_t h = 0; h < 2; h++) q[h] = TAUT_LANE + 32 * h < m ? j->codes[i + TAUT_LANE + 32 * h] : 0;
    r->raw = false;
    r->k.a = q[0] < 0 ? 0u - (uint32_t)q[0] : (uint32_t)q[0];
    r->k.b = q[1] < 0 ? 0u - (uint32_t)q[1] : (uint32_t)q[1];
    r->k.sign = grid_vote(q[0] < 0, q[1] < 0);
}

/* ---- sums of payloads ---- */

/* peer_chunks : the chunks of one number in all peers' payloads, walked: where each block begins, and its class. */
struct peer_chunks {
    uint32_t       count;
    const uint8_t *src[TAUT__GRID_PEERS], *end[TAUT__GRID_PEERS]; /* NULL: all zero */
    /* in shared memory: of peer p's block b, [p * GRID_CHUNK_BLOCKS + b]: bit, and class above */
    const uint32_t *start;
};
enum { START_BITS = 24, START_MASK = (1 << START_BITS) - 1 }; /* a chunk's body has fewer than 2^22 bits */

/* Block `block`: codes, where there are some, and what the peers say of it. */
static __device__ __forceinline__ void take_sums(const taut__cuda_job *j, const peer_chunks &peers, uint32_t block,
                                                 uint64_t i, uint32_t m, round_block *r)
{
    int32_t a = j->codes && TAUT_LANE < m ? j->codes[i + TAUT_LANE] : 0,
            b = j->codes && TAUT_LANE + 32 < m ? j->codes[i + TAUT_LANE + 32] : 0;
    for (uint32_t p = 0; p < peers.count; p++) {
        if (!peers.src[p]) continue;
        uint32_t         at = peers.start[p * GRID_CHUNK_BLOCKS + block];
        grid_warp_block  k = {0, 0, 0};
        grid_warp_reader rd = {peers.src[p], peers.end[p], at & START_MASK};
        bool             raw = false;
        if (at >> START_BITS == GRID_ZERO) continue;
        if (!grid_warp_read(&rd, at >> START_BITS, &k, &raw) || raw) {
            if (TAUT_LANE == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
            continue;
        }
        a = (int32_t)((uint32_t)a + (uint32_t)grid_code_a(k));
        b = (int32_t)((uint32_t)b + (uint32_t)grid_code_b(k));
    }
    r->raw = false;
    r->k.a = a < 0 ? 0u - (uint32_t)a : (uint32_t)a;
    r->k.b = b < 0 ? 0u - (uint32_t)b : (uint32_t)b;
    r->k.sign = grid_vote(a < 0 && TAUT_LANE < m, b < 0 && TAUT_LANE + 32 < m);
}

/* Chunk k of the job -> slot: bodies, then classes. Returns its bytes. All threads. try_only: err and codes are left alone.
 * *any_raw (NULL: nobody asks): some block has no codes. SUMS: of codes and peers. */
template <bool SUMS>
static __device__ inline uint32_t chunk_of(const taut__cuda_job *j, taut_dtype dtype, const settings &set, uint64_t k,
                                           uint8_t *slot, bool try_only, bool *any_raw, const peer_chunks *peers)
{
    TAUT_SHARED(uint32_t, window, WINDOW);
    TAUT_SHARED(uint32_t, sizes, ROUND);
    TAUT_SHARED(uint8_t, cls, GRID_CHUNK_BLOCKS);
    uint64_t       first = k * GRID_CHUNK, n = taut__min(GRID_CHUNK, j->n - first);
    uint32_t       blocks = (uint32_t)((n + GRID_BLOCK - 1) / GRID_BLOCK), carry = 0, warp = threadIdx.x / TAUT_WARP;
    uint32_t      *out = (uint32_t *)slot;
    bool           raw = false;
    grid_warp_unit u = {0, 0, 0, NULL, 0, 0, false, false};
    if (!SUMS && !set.from_codes) u = grid_unit_of(j, 1, set.bias);
    for (uint32_t i = threadIdx.x; i < WINDOW; i += THREADS) window[i] = 0;
    __syncthreads();
    for (uint32_t base = 0; base < blocks; base += ROUND) {
        round_block r[PER_WARP];
        TAUT_UNROLL
        for (uint32_t q = 0; q < PER_WARP; q++) {
            uint32_t block = base + warp * PER_WARP + q;
            r[q].s.cls = GRID_ZERO, r[q].s.bits = 0, r[q].s.r = 0, r[q].raw = false;
            if (block < blocks) {
                uint32_t m = (uint32_t)taut__min(GRID_BLOCK, n - (uint64_t)block * GRID_BLOCK);
                if (SUMS) take_sums(j, *peers, block, first + (uint64_t)block * GRID_BLOCK, m, &r[q]);
                else if (set.from_codes) take_codes(j, first + (uint64_t)block * GRID_BLOCK, m, &r[q]);
                else take_floats(j, dtype, set, u, first + (uint64_t)block * GRID_BLOCK, m, try_only, &r[q]);
                raw |= r[q].raw;
                if (r[q].raw) r[q].s.cls = GRID_WIDE, r[q].s.bits = 5 + 64 * 32;
                else r[q].s = grid_warp_shape(r[q].k);
                if (TAUT_LANE == 0) cls[block] = (uint8_t)r[q].s.cls;
            }
            if (TAUT_LANE == 0) sizes[warp * PER_WARP + q] = r[q].s.bits;
        }
        __syncthreads();
        uint32_t v = sizes[TAUT_LANE], sum = taut_warp_scan(v); /* ROUND == TAUT_WARP: every warp scans for itself */
        uint32_t total = __shfl_sync(TAUT_ALL, sum, 31) + carry;
        TAUT_UNROLL
        for (uint32_t q = 0; q < PER_WARP; q++) {
            uint32_t pos = carry + __shfl_sync(TAUT_ALL, sum - v, (int)(warp * PER_WARP + q));
            if (r[q].s.cls == GRID_ZERO) continue;
            if (r[q].raw) grid_warp_raw(__uint_as_float(r[q].k.a), __uint_as_float(r[q].k.b), window, &pos);
            else grid_warp_body(r[q].k, r[q].s, window, &pos);
        }
        __syncthreads();
        uint32_t full = total / 32, rest = window[full];
        for (uint32_t i = threadIdx.x; i < full; i += THREADS) out[i] = window[i];
        __syncthreads();
        for (uint32_t i = threadIdx.x; i <= full + 2 && i < WINDOW; i += THREADS) window[i] = i == 0 ? rest : 0;
        out += full;
        carry = total % 32;
        __syncthreads();
    }
    if (any_raw) *any_raw = __syncthreads_or(raw) != 0;
    if (threadIdx.x == 0 && carry) out[0] = window[0];
    uint32_t body = (uint32_t)((uint8_t *)out - slot) + (carry + 7) / 8;
    if (body == 0) return 0; /* every block that is not zero has a body */
    return body + put_classes(cls, blocks, (uint8_t *)(window + 4), slot + body);
}
static __device__ inline uint32_t encode_chunk(const taut__cuda_job *j, taut_dtype dtype, const settings &set,
                                               uint64_t k, uint8_t *slot, bool try_only, bool *any_raw)
{
    return chunk_of<false>(j, dtype, set, k, slot, try_only, any_raw, NULL);
}

/* bytes from src, which is aligned to 4, to any address. All threads; src has a word to spare behind its end. */
static __device__ inline void move_bytes(uint8_t *dst, const uint8_t *src, uint32_t bytes)
{
    uint32_t head = min(bytes, (uint32_t)(-(uintptr_t)dst & 3)), words = (bytes - head) / 4, tail = head + 4 * words;
    const uint32_t *from = (const uint32_t *)src;
    uint32_t       *to = (uint32_t *)(dst + head);
    if (threadIdx.x < head) dst[threadIdx.x] = src[threadIdx.x];
    for (uint32_t i = threadIdx.x; i < words; i += blockDim.x)
        to[i] = head ? __funnelshift_r(from[i], from[i + 1], 8 * head) : from[i];
    if (threadIdx.x < bytes - tail) dst[tail + threadIdx.x] = src[tail + threadIdx.x];
}

static __device__ inline void put_header(const taut__cuda_job *j, const settings &set, uint32_t kind)
{
    uint32_t *word = (uint32_t *)j->payload;
    word[0] =
        kind | (j->scale ? KIND_SCALED : 0) | (j->turned ? KIND_TURNED : 0) | GRID_CHUNK_LOG2 << 8 | set.dead << 16;
    word[1] = __float_as_uint(grid_step_of(j));
}

enum sink { STORE, ADD, CODES, VALUES }; /* VALUES: codes are added, and their values stored */

static __device__ __forceinline__ void deliver(const taut__cuda_batch &batch, const taut__cuda_job *j,
                                               const grid_warp_unit &u, sink to, uint64_t i, bool raw, uint32_t word,
                                               int32_t q)
{
    if (to == CODES || to == VALUES) {
        q = (int32_t)((uint32_t)j->codes[i] + (uint32_t)q);
        j->codes[i] = q;
        if (to == CODES) return;
    }
    float v = raw ? __uint_as_float(word) : grid_value(q, u.at(i));
    if (to != ADD) v = grid_finite(u, v);
    if (batch.dtype == TAUT_F32) {
        float *dst = (float *)j->dst + i;
        if (to == ADD) v = *dst + v;
        *dst = batch.factor == 1 ? v : v * batch.factor;
    } else {
        uint16_t *dst = (uint16_t *)j->dst + i;
        bool      f16 = batch.dtype == TAUT_F16;
        if (to == ADD) v = (f16 ? taut__from_f16(*dst) : taut__from_bf16(*dst)) + v;
        if (batch.factor != 1) v = v * batch.factor;
        *dst = f16 ? taut__to_f16(v) : taut__to_bf16(v);
    }
}

/* Whether the payload's header and lengths can be those of this job; its kind, where chunk k lies, and that chunk's bytes.
 * All threads; the same answer. */
static __device__ inline bool open_payload(const taut__cuda_job *j, const uint8_t *payload, uint64_t len, uint64_t k,
                                           bool codes, uint32_t *kind, uint64_t *from, uint32_t *bytes)
{
    TAUT_SHARED(unsigned long long, sums, 2 * WARPS);
    const uint32_t *word = (const uint32_t *)payload;
    uint64_t        chunks = (j->n + GRID_CHUNK - 1) / GRID_CHUNK, table = HEADER + chunks * ENTRY;
    if (len < HEADER) return false;
    uint32_t head = word[0], dead = head >> 16;
    float    step = __uint_as_float(word[1]);
    *kind = head & KIND_MASK;
    if (((head & KIND_TURNED) != 0) != j->turned) return false;
    if ((*kind > KIND_PACKED && *kind != KIND_RANS) || (head >> 8 & 0xff) != GRID_CHUNK_LOG2 || dead < 5000 ||
        dead > 9500 || !(step >= 0 && step <= FLT_MAX))
        return false;
    if (*kind == KIND_RAW) return len - HEADER == 4 * j->n && !codes;
    if (*kind == KIND_ZERO) return len == HEADER;
    if (((head & KIND_SCALED) != 0) != (j->scale != NULL) ||
        (codes ? step != grid_step_of(j) : j->step && step != *j->step))
        return false;
    if ((len - HEADER) / ENTRY < chunks) return false;
    unsigned long long before = 0, all = 0;
    for (uint64_t i = threadIdx.x; i < chunks; i += blockDim.x) {
        all += word[2 + i];
        if (i < k) before += word[2 + i];
    }
    for (int d = 16; d > 0; d /= 2) {
        before += __shfl_xor_sync(TAUT_ALL, before, d);
        all += __shfl_xor_sync(TAUT_ALL, all, d);
    }
    if (TAUT_LANE == 0) sums[threadIdx.x / TAUT_WARP] = before, sums[WARPS + threadIdx.x / TAUT_WARP] = all;
    __syncthreads();
    before = all = 0;
    for (uint32_t w = 0; w < blockDim.x / TAUT_WARP; w++) before += sums[w], all += sums[WARPS + w];
    *from = table + before;
    *bytes = j->n ? word[2 + k] : 0;
    return table + all == len;
}
static __device__ inline bool open_chunk(const taut__cuda_job *j, uint64_t k, bool codes, uint32_t *kind,
                                         uint64_t *from, uint32_t *bytes)
{
    return open_payload(j, j->payload, *j->len, k, codes, kind, from, bytes);
}

/* A chunk of code packed. All threads; false in the warps that saw something malformed. */
static __device__ inline bool decode_packed(const taut__cuda_batch &batch, const taut__cuda_job *j,
                                            const grid_warp_unit &u, sink to, uint64_t first, uint64_t n,
                                            const uint8_t *src, uint32_t bytes)
{
    TAUT_SHARED(uint8_t, cls, GRID_CHUNK_BLOCKS);
    TAUT_SHARED(uint8_t, tail, GRID_CHUNK_BLOCKS / 2 + 4);
    TAUT_SHARED(uint32_t, start, GRID_CHUNK_BLOCKS);
    TAUT_SHARED(int, good, 1);
    const uint8_t *end = src + bytes;
    uint32_t       blocks = (uint32_t)((n + GRID_BLOCK - 1) / GRID_BLOCK),
             held = min(bytes, (uint32_t)GRID_CHUNK_BLOCKS / 2 + 1);
    for (uint32_t i = threadIdx.x; i < held; i += THREADS) tail[i] = end[(int32_t)i - (int32_t)held];
    __syncthreads();
    if (threadIdx.x == 0) {
        int64_t  body = read_classes(tail, held, bytes, blocks, cls);
        bool     ok = body >= 0;
        uint64_t pos = 0;
        for (uint32_t b = 0; ok && b < blocks; b++) {
            start[b] = (uint32_t)pos;
            if (cls[b] == GRID_ZERO) continue;
            uint32_t bits = body_bits(src, end, pos, cls[b]);
            pos += bits;
            ok = bits != 0 && pos <= 8 * (uint64_t)body;
        }
        good[0] = ok && (pos + 7) / 8 == (uint64_t)body;
    }
    __syncthreads();
    bool ok = good[0] != 0;
    for (uint32_t b = threadIdx.x / TAUT_WARP; ok && b < blocks; b += WARPS) {
        grid_warp_block  blk = {0, 0, 0};
        grid_warp_reader rd = {src, end, start[b]};
        bool             raw = false;
        uint64_t         i = first + (uint64_t)b * GRID_BLOCK;
        if (cls[b] == GRID_ZERO && (to == ADD || to == CODES)) continue;
        if (cls[b] != GRID_ZERO &&
            (!grid_warp_read(&rd, cls[b], &blk, &raw) || (raw && (to == CODES || to == VALUES)))) {
            ok = false;
            break;
        }
        if (i + TAUT_LANE < j->n) deliver(batch, j, u, to, i + TAUT_LANE, raw, blk.a, raw ? 0 : grid_code_a(blk));
        if (i + TAUT_LANE + 32 < j->n)
            deliver(batch, j, u, to, i + TAUT_LANE + 32, raw, blk.b, raw ? 0 : grid_code_b(blk));
    }
    return ok;
}

/* A chunk from its slot to its place: the end of an encoder's round. shared: two words of shared memory. All threads. */
static __device__ inline void place_chunk(const taut__cuda_job *j, const settings &set, uint32_t kind,
                                          unsigned long long *state, uint64_t unit, uint64_t k, uint64_t chunks,
                                          uint64_t table, const uint8_t *slot, uint32_t bytes,
                                          unsigned long long *shared)
{
    uint64_t before = taut_chain(state + (unit - k), k, bytes, shared + 1);
    move_bytes(j->payload + table + before, slot, bytes);
    if (threadIdx.x == 0) {
        if (j->n) ((uint32_t *)(j->payload + HEADER))[k] = bytes;
        if (k + 1 >= chunks) {
            bool any = before + bytes != 0;
            put_header(j, set, any ? kind : (uint32_t)KIND_ZERO);
            *j->len = any ? table + before + bytes : (uint64_t)HEADER;
        }
    }
    __syncthreads();
}

#endif
