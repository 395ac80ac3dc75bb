/* grid_rans_cuda.cu : the grid codec, code `rans`, on a GPU. Same bytes as grid_rans.c.
 *
 * Encoding, a block of threads per chunk: rounds as in code packed make symbols, side bits and classes; then the sixteen rANS
 * states, which run backwards over the whole chunk, are sixteen lanes of the first warp, while the second codes the classes.
 * Words leave in the order of elements: a lane's place is the number of lanes behind it that have one too. What the serial coder
 * takes, few blocks or the last ones, is the work of one thread.
 * Decoding, a warp per chunk: sixteen lanes hold the states, all of them read side bits. Parallelism comes from chunks. */
#include "grid_cuda_chunk.h"
#include "grid_cuda_source.h"

enum {
    SYMBOLS = GRID_CHUNK,
    WORDS = GRID_CHUNK_BLOCKS * GRID_WORDS_BYTES,
    PACKED_AT = SLOT + GRID_CHUNK_BYTES + WORDS, /* a short chunk in code packed */
    SYMBOLS_AT = PACKED_AT + 64 + GRID_RANS_SHORT / GRID_BLOCK * (GRID_BLOCK_BYTES + 1),
    WORDS_AT = SYMBOLS_AT + SYMBOLS,
    CLASSES_AT = WORDS_AT + WORDS + 64,
    RANS_SLOT = (CLASSES_AT + 20 * GRID_CHUNK_BLOCKS + 64 + 15) / 16 *
                16, /* a class takes at most 13 answers of 10 bits and 6 */
};

/* ---- encoding: one block's symbols and side bits ---- */

struct rans_block {
    round_block r;
    uint32_t    cls, bits; /* class of code rans; side bits */
};

static __device__ __forceinline__ uint32_t gamma_bits(uint32_t v) { return 3 + (uint32_t)grid_bitlen(v); }

static __device__ void shape_rans(rans_block *b)
{
    const grid_warp_block &k = b->r.k;
    if (b->r.raw) {
        b->cls = GRID_CLASS_OTHER, b->bits = 4 + 5 + 64 * 32;
        return;
    }
    uint64_t sum = grid_warp_sum(k.a, k.b);
    b->cls = grid_class_of_sum(sum);
    b->bits = 0;
    if (b->cls == 0) return;
    if (b->cls <= GRID_FEW) {
        b->bits = grid_few_bits(b->cls);
        return;
    }
    if (b->cls == GRID_CLASS_OTHER) {
        b->r.s = grid_warp_shape(k);
        b->bits = 4 + b->r.s.bits;
        return;
    }
    uint32_t r = grid_class_shift(b->cls), top = grid_top[grid_class_model(b->cls)], a = k.a >> r, c = k.b >> r;
    uint32_t mine = (a >= top ? gamma_bits(a - top + 1) : 0) + (c >= top ? gamma_bits(c - top + 1) : 0);
    mine += (a == 0 && k.a != 0) + (c == 0 && k.b != 0); /* a sign each */
    b->bits = 64 * r + __reduce_add_sync(TAUT_ALL, mine);
}

static __device__ void write_rans(const rans_block &b, uint32_t *window, uint32_t pos, uint8_t *symbol,
                                  uint32_t *counts)
{
    const grid_warp_block &k = b.r.k;
    if (b.cls == GRID_CLASS_OTHER) {
        grid_warp_put(window, &pos, b.r.raw ? (uint32_t)GRID_WIDE : b.r.s.cls, 4);
        if (b.r.raw) grid_warp_raw(__uint_as_float(k.a), __uint_as_float(k.b), window, &pos);
        else grid_warp_body(k, b.r.s, window, &pos);
        return;
    }
    if (b.cls <= GRID_FEW) {
        uint64_t nz = grid_vote(k.a != 0, k.b != 0), two = grid_vote(k.a > 1, k.b > 1);
        grid_warp_put(window, &pos, grid_few_number(b.cls, nz, two, k.sign), grid_few_bits(b.cls));
        return;
    }
    uint32_t r = grid_class_shift(b.cls), model = grid_class_model(b.cls), top = grid_top[model],
             h[2] = {k.a >> r, k.b >> r};
    for (uint32_t p = 0; p < r; p++) grid_warp_put(window, &pos, grid_vote(k.a >> p & 1, k.b >> p & 1), 64);
    for (uint32_t q = 0; q < 2; q++) {
        uint32_t v = min(h[q], top);
        bool     negative = q ? grid_bit_b(k.sign) : grid_bit_a(k.sign);
        symbol[TAUT_LANE + 32 * q] = (uint8_t)(v ? 2 * v - !negative : 0);
        for (uint32_t kind = 0; kind < 3; kind++) {
            uint32_t n = (uint32_t)__popc(__ballot_sync(TAUT_ALL, min(v, 2u) == kind));
            if (TAUT_LANE == 0 && n) atomicAdd(&counts[model * 3 + kind], n);
        }
    }
    for (uint64_t m = grid_vote(h[0] >= top, h[1] >= top); m; m &= m - 1) {
        uint32_t i = grid_low_bit(m), v = __shfl_sync(TAUT_ALL, i < 32 ? h[0] : h[1], (int)(i % 32)) - top + 1,
                 len = (uint32_t)grid_bitlen(v) - 1;
        grid_warp_put(window, &pos, len | (uint64_t)(v - (1u << len)) << 4, 4 + len);
    }
    uint64_t lost = grid_vote(h[0] == 0 && k.a != 0, h[1] == 0 && k.b != 0);
    if (lost) grid_warp_put(window, &pos, grid_warp_pext(k.sign, lost), grid_count_bits(lost));
}

/* ---- encoding: the states ---- */

/* symbols of the blocks with a model, which lie back to back -> words that end at `end`; returns where they begin. One warp. *x: the
 * lane's state, before and after. */
static __device__ uint8_t *put_lanes(const grid_model *models, const uint8_t *cls, uint32_t blocks,
                                     const uint8_t *symbol_end, uint8_t *end, uint32_t *x)
{
    uint32_t lane = TAUT_LANE;
    for (uint32_t k = blocks; k-- > 0;) {
        if (!grid_has_symbols(cls[k])) continue;
        const grid_model *m = models + grid_class_model(cls[k]);
        for (uint32_t group = GRID_BLOCK / GRID_LANES; group-- > 0;) {
            symbol_end -= GRID_LANES;
            uint32_t s = lane < GRID_LANES ? symbol_end[lane] : 0, range = m->range[s],
                     start = range & (GRID_PROBS - 1), f = range >> GRID_RANGE_F & (2 * GRID_PROBS - 1);
            bool     out = lane < GRID_LANES && *x >= f << (31 - GRID_PROB_BITS);
            uint32_t all = __ballot_sync(TAUT_ALL, out),
                     behind = (uint32_t)__popc(all & ~TAUT_LANES_LT & ~(1u << lane));
            if (out) {
                uint8_t *to = end - 2 * (behind + 1);
                to[0] = (uint8_t)*x, to[1] = (uint8_t)(*x >> 8);
                *x >>= 16;
            }
            end -= 2 * __popc(all);
            uint32_t q = (uint32_t)((uint64_t)*x * m->rcp[s] >> (31 + (range >> GRID_RANGE_SHIFT)));
            *x = (q << GRID_PROB_BITS) + (*x - q * f) + start;
        }
    }
    return end;
}

static __device__ uint32_t choose_shape(const grid_tables *t, const uint32_t *counts)
{
    uint32_t best = 0;
    uint64_t least = ~UINT64_C(0);
    for (uint32_t s = 0; s < GRID_SHAPES; s++) {
        uint64_t bits = 0;
        for (uint32_t c = 0; c < GRID_MODELS; c++)
            for (uint32_t k = 0; k < 3; k++) bits += (uint64_t)counts[c * 3 + k] * t->price[s][c][k];
        if (bits < least) least = bits, best = s;
    }
    return best;
}

/* The symbols of `coded` blocks, by one state. By one thread; returns the end. */
static __device__ uint8_t *put_serial(const grid_model *models, const uint8_t *cls, uint32_t blocks, uint32_t coded,
                                      const uint8_t *symbol, uint8_t *dst)
{
    grid_serial s = {GRID_STATE_LOW, dst};
    symbol += (uint64_t)coded * GRID_BLOCK;
    for (uint32_t k = blocks; k-- > 0;) {
        if (!grid_has_symbols(cls[k])) continue;
        symbol -= GRID_BLOCK;
        grid_serial_put(&s, models + grid_class_model(cls[k]), symbol);
    }
    return coded ? grid_serial_end(&s) : dst;
}

/* The same by lanes: words into scratch that ends at words_end, how many bytes into *words; what follows them to dst + *words.
 * Returns its end. One warp. */
static __device__ uint8_t *put_all_lanes(const grid_model *models, const uint8_t *cls, uint32_t blocks, uint32_t coded,
                                         const uint8_t *symbol, uint8_t *words_end, uint32_t *words, uint8_t *dst)
{
    TAUT_SHARED(uint32_t, states, GRID_LANES);
    TAUT_SHARED(uint32_t, tailed, 2); /* blocks with symbols in the tail, blocks before it */
    const uint8_t *symbol_end = symbol + (uint64_t)coded * GRID_BLOCK;
    if (TAUT_LANE == 0) {
        uint8_t  tail[GRID_TAIL_BYTES];
        uint32_t left = tailed[0] = grid_put_tail(models, cls, blocks, symbol_end, tail);
        grid_tail_to_states(tail, states);
        for (; left > 0; left -= grid_has_symbols(cls[blocks])) blocks--;
        tailed[1] = blocks;
    }
    __syncwarp();
    uint32_t x = TAUT_LANE < GRID_LANES ? states[TAUT_LANE] : 0, in_tail = tailed[0];
    uint8_t *begin = put_lanes(models, cls, tailed[1], symbol_end - (uint64_t)in_tail * GRID_BLOCK, words_end, &x);
    uint32_t bytes = (uint32_t)(words_end - begin), count = bytes / 2;
    if (TAUT_LANE < GRID_LANES) states[TAUT_LANE] = x;
    __syncwarp();
    uint8_t *p = dst + bytes;
    if (TAUT_LANE == 0) {
        *words = bytes;
        p += grid_put_states(states, p);
        p[0] = (uint8_t)in_tail, p[1] = (uint8_t)count, p[2] = (uint8_t)(count >> 8);
    }
    return p + GRID_LANES_HEAD;
}

/* Chunk k -> slot in code rans proper; returns its bytes. */
static __device__ uint32_t rans_chunk(const taut__cuda_job *j, taut_dtype dtype, const settings &set, uint64_t k,
                                      uint8_t *slot, const grid_tables *tables)
{
    TAUT_SHARED(uint32_t, window, WINDOW);
    TAUT_SHARED(uint32_t, sizes, ROUND);
    TAUT_SHARED(uint8_t, cls, GRID_CHUNK_BLOCKS);
    TAUT_SHARED(uint32_t, counts, GRID_MODELS * 3);
    TAUT_SHARED(grid_arith, arith, 1);
    TAUT_SHARED(uint32_t, lengths, 3); /* words in scratch, classes; bytes of the chunk before the classes */
    uint64_t first = k * GRID_CHUNK, n = taut__min(GRID_CHUNK, j->n - first);
    uint32_t blocks = (uint32_t)((n + GRID_BLOCK - 1) / GRID_BLOCK), carry = 0, warp = threadIdx.x / TAUT_WARP,
             coded = 0, used = 0;
    uint32_t      *out = (uint32_t *)slot;
    grid_warp_unit u = {0, 0, 0, NULL, 0, 0, false, false};
    if (!set.from_codes) u = grid_unit_of(j, 1, set.bias);
    for (uint32_t i = threadIdx.x; i < WINDOW; i += THREADS) window[i] = 0;
    if (threadIdx.x < GRID_MODELS * 3) counts[threadIdx.x] = 0;
    __syncthreads();
    for (uint32_t base = 0; base < blocks; base += ROUND) {
        rans_block b[PER_WARP];
        TAUT_UNROLL
        for (uint32_t q = 0; q < PER_WARP; q++) {
            uint32_t block = base + warp * PER_WARP + q;
            b[q].cls = 0, b[q].bits = 0, b[q].r.raw = false;
            if (block < blocks) {
                uint32_t m = (uint32_t)taut__min(GRID_BLOCK, n - (uint64_t)block * GRID_BLOCK);
                if (set.from_codes) take_codes(j, first + (uint64_t)block * GRID_BLOCK, m, &b[q].r);
                else take_floats(j, dtype, set, u, first + (uint64_t)block * GRID_BLOCK, m, false, &b[q].r);
                shape_rans(&b[q]);
                if (TAUT_LANE == 0) cls[block] = (uint8_t)b[q].cls;
            }
            if (TAUT_LANE == 0)
                sizes[warp * PER_WARP + q] =
                    b[q].bits | (grid_has_symbols(b[q].cls) ? 1u << 31 : 0) | (b[q].cls ? 1u << 30 : 0);
        }
        __syncthreads();
        uint32_t v = sizes[TAUT_LANE], bits = v & 0x3fffffff, sum = taut_warp_scan(bits),
                 modelled = __ballot_sync(TAUT_ALL, v >> 31);
        uint32_t total = __shfl_sync(TAUT_ALL, sum, 31) + carry;
        used |= __ballot_sync(TAUT_ALL, v >> 30);
        TAUT_UNROLL
        for (uint32_t q = 0; q < PER_WARP; q++) {
            uint32_t at = warp * PER_WARP + q, pos = carry + __shfl_sync(TAUT_ALL, sum - bits, (int)at);
            uint32_t place = coded + (uint32_t)__popc(modelled & ((1u << at) - 1));
            if (b[q].cls) write_rans(b[q], window, pos, slot + SYMBOLS_AT + (uint64_t)place * GRID_BLOCK, counts);
        }
        coded += (uint32_t)__popc(modelled);
        __syncthreads();
        uint32_t full = total / 32, rest = window[full];
        for (uint32_t i = threadIdx.x; i < full; i += THREADS) out[i] = window[i];
        __syncthreads();
        for (uint32_t i = threadIdx.x; i <= full + 2 && i < WINDOW; i += THREADS) window[i] = i == 0 ? rest : 0;
        out += full;
        carry = total % 32;
        __syncthreads();
    }
    if (!used) return 0; /* the same in all threads */
    if (threadIdx.x == 0 && carry) out[0] = window[0];
    uint32_t side_end = (uint32_t)((uint8_t *)out - slot) + (carry + 7) / 8, shape = choose_shape(tables, counts);
    uint8_t *words_end = slot + WORDS_AT + WORDS, *p = slot + side_end;
    bool     serial = coded <= grid_serial_most(blocks);
    const grid_model *models = tables->model[shape];
    const uint8_t    *symbol = slot + SYMBOLS_AT;
    if (threadIdx.x == 0) lengths[0] = 0;
    __syncthreads();
    if (warp == 0 && !serial) {
        uint8_t *end = put_all_lanes(models, cls, blocks, coded, symbol, words_end, &lengths[0], p);
        if (TAUT_LANE == 0) lengths[2] = (uint32_t)(end - slot);
    } else if (threadIdx.x == 0) {
        lengths[2] = (uint32_t)(put_serial(models, cls, blocks, coded, symbol, p) - slot);
    } else if (threadIdx.x == TAUT_WARP) {
        lengths[1] = (uint32_t)grid_put_classes(&arith[0], cls, blocks, slot + CLASSES_AT);
    }
    __syncthreads();
    uint32_t words = lengths[0], classes = lengths[1], end = lengths[2];
    for (uint32_t i = threadIdx.x; i < words; i += THREADS) p[i] = words_end[(int32_t)i - (int32_t)words];
    for (uint32_t i = threadIdx.x; i < classes; i += THREADS) slot[end + i] = slot[CLASSES_AT + classes - 1 - i];
    if (threadIdx.x == 0) slot[end + classes] = (uint8_t)(serial ? GRID_RANS_SERIAL + shape : shape);
    __syncthreads();
    return end + classes + 1;
}

/* The shorter of both codes where a chunk is short and all of it has codes. */
static __device__ uint32_t either_chunk(const taut__cuda_job *j, taut_dtype dtype, const settings &set, uint64_t k,
                                        uint8_t *slot, const grid_tables *tables)
{
    uint64_t n = taut__min(GRID_CHUNK, j->n - k * GRID_CHUNK);
    bool     raw = false;
    uint32_t packed = 0;
    if (n <= GRID_RANS_SHORT) packed = encode_chunk(j, dtype, set, k, slot + PACKED_AT, true, &raw);
    uint32_t rans = rans_chunk(j, dtype, set, k, slot, tables);
    if (n > GRID_RANS_SHORT || raw || rans <= packed) return rans;
    __syncthreads();
    if (threadIdx.x == 0) slot[packed] = GRID_RANS_PACKED;
    for (uint32_t i = threadIdx.x; i < packed; i += THREADS) slot[i] = slot[PACKED_AT + i];
    __syncthreads();
    return packed + 1;
}

static __global__ void __launch_bounds__(THREADS)
    grid_rans_encode(const __grid_constant__ taut__cuda_batch batch, settings set, unsigned long long *ticket,
                     unsigned long long *state, uint8_t *slots, const grid_tables *tables)
{
    TAUT_SHARED(unsigned long long, shared, 2);
    uint8_t *slot = slots + (uint64_t)blockIdx.x * RANS_SLOT;
    uint64_t unit, k;
    while (const taut__cuda_job *j = next_chunk(batch, ticket, shared, &unit, &k)) {
        uint64_t chunks = (j->n + GRID_CHUNK - 1) / GRID_CHUNK, table = HEADER + chunks * ENTRY;
        uint32_t bytes = j->n ? either_chunk(j, batch.dtype, set, k, slot, tables) : 0;
        place_chunk(j, set, KIND_RANS, state, unit, k, chunks, table, slot, bytes, shared);
    }
}

/* ---- decoding ---- */

/* Symbols of one block, element lane and lane + 32. false: words run out. */
static __device__ bool block_symbols(const grid_model *m, uint32_t *x, const uint8_t **words, const uint8_t *words_end,
                                     uint8_t *symbol)
{
    for (uint32_t group = 0; group < GRID_BLOCK / GRID_LANES; group++) {
        uint8_t  s = 0;
        uint32_t next = *x;
        if (TAUT_LANE < GRID_LANES) next = grid_lane_get(*x, m, &s);
        bool     need = TAUT_LANE < GRID_LANES && next < GRID_STATE_LOW;
        uint32_t all = __ballot_sync(TAUT_ALL, need), count = (uint32_t)__popc(all);
        if (2 * count > (uint64_t)(words_end - *words)) return false;
        if (need) {
            const uint8_t *w = *words + 2 * __popc(all & TAUT_LANES_LT);
            next = next << 16 | w[0] | (uint32_t)w[1] << 8;
        }
        *words += 2 * count;
        *x = next;
        if (TAUT_LANE < GRID_LANES) symbol[group * GRID_LANES + TAUT_LANE] = s;
    }
    __syncwarp();
    return true;
}

/* grid_back_block() by a warp */
static __device__ void back_block(const uint8_t *symbol, uint32_t cls, grid_warp_reader *side, grid_warp_block *k)
{
    uint32_t r = grid_class_shift(cls), top = grid_top[grid_class_model(cls)], sa = symbol[TAUT_LANE],
             sb = symbol[TAUT_LANE + 32];
    uint32_t h[2] = {(sa + 1) >> 1, (sb + 1) >> 1}, low[2] = {0, 0};
    for (uint32_t p = 0; p < r; p++) {
        uint64_t plane = grid_take(side, 64);
        low[0] |= (uint32_t)grid_bit_a(plane) << p;
        low[1] |= (uint32_t)grid_bit_b(plane) << p;
    }
    k->sign = grid_vote(h[0] && !(sa & 1), h[1] && !(sb & 1));
    for (uint64_t m = grid_vote(h[0] == top, h[1] == top); m; m &= m - 1) {
        uint32_t i = grid_low_bit(m), len = (uint32_t)grid_take(side, 4),
                 v = (1u << len) + (len ? (uint32_t)grid_take(side, len) : 0) - 1;
        if (i == TAUT_LANE) h[0] += v;
        if (i == TAUT_LANE + 32) h[1] += v;
    }
    uint64_t lost = grid_vote(h[0] == 0 && low[0], h[1] == 0 && low[1]);
    k->a = low[0] | h[0] << r;
    k->b = low[1] | h[1] << r;
    if (lost) k->sign |= grid_warp_pdep(grid_take(side, grid_count_bits(lost)), lost);
    __syncwarp();
}

static __device__ bool back_few(uint32_t cls, grid_warp_reader *side, grid_warp_block *k)
{
    grid_few f;
    if (!grid_few_of(grid_take(side, grid_few_bits(cls)), cls, &f)) return false;
    for (uint32_t i = 0; i < cls; i++) {
        k->a += f.at[i] == TAUT_LANE;
        k->b += f.at[i] == TAUT_LANE + 32;
    }
    k->sign = f.sign;
    return true;
}

/* What the first lane has found, and its writes, for all of them. */
static __device__ __forceinline__ bool of_first(bool v)
{
    __syncwarp();
    return __shfl_sync(TAUT_ALL, (uint32_t)v, 0) != 0;
}

/* One chunk of code rans proper, by the first warp. false: malformed, in all lanes. */
static __device__ bool decode_rans(const taut__cuda_batch &batch, const taut__cuda_job *j, const grid_warp_unit &u,
                                   sink to, uint64_t first, uint64_t n, const uint8_t *src, uint32_t len,
                                   const grid_tables *tables)
{
    TAUT_SHARED(uint8_t, cls, GRID_CHUNK_BLOCKS);
    TAUT_SHARED(uint8_t, symbol, GRID_BLOCK);
    TAUT_SHARED(rans_source, source, 1);
    rans_source *s = &source[0];
    uint32_t     blocks = (uint32_t)((n + GRID_BLOCK - 1) / GRID_BLOCK), b = 0;
    if (!of_first(TAUT_LANE == 0 && open_source(s, cls, blocks, src, len))) return false;
    grid_warp_reader  side = {src, src + len, 0};
    const grid_model *models = tables->model[s->shape];
    const uint8_t    *words = s->words;
    uint32_t          x = !s->serial && TAUT_LANE < GRID_LANES ? s->state[TAUT_LANE] : (uint32_t)GRID_STATE_LOW;
    for (;; b++) {
        if (b == s->lanes && !s->serial) {
            if (TAUT_LANE < GRID_LANES) s->state[TAUT_LANE] = x;
            __syncwarp();
            if (!of_first(TAUT_LANE == 0 && words == s->words_end && open_tail(s, b < blocks))) return false;
        }
        if (b == blocks) break;
        grid_warp_block k = {0, 0, 0};
        bool            raw = false, few = cls[b] && cls[b] <= GRID_FEW;
        uint64_t        i = first + (uint64_t)b * GRID_BLOCK;
        if (cls[b] == 0 && (to == ADD || to == CODES)) continue;
        if (cls[b] == GRID_CLASS_OTHER) {
            uint32_t nibble = (uint32_t)grid_take(&side, 4);
            if (nibble == GRID_ZERO || nibble == GRID_RUN || !grid_warp_read(&side, nibble, &k, &raw) ||
                (raw && (to == CODES || to == VALUES)))
                return false;
        } else if (few) {
            if (!back_few(cls[b], &side, &k)) return false;
        } else if (cls[b]) {
            const grid_model *m = models + grid_class_model(cls[b]);
            if (b < s->lanes) {
                if (!block_symbols(m, &x, &words, s->words_end, symbol)) return false;
            } else {
                if (!of_first(TAUT_LANE == 0 && grid_serial_get(&s->tail, m, symbol))) return false;
            }
            back_block(symbol, cls[b], &side, &k);
        }
        if (side.pos > 8 * (uint64_t)s->side_len) return false;
        bool every = !few || to != ADD; /* where few are added, nothing is added to the others */
        if (i + TAUT_LANE < j->n && (every || k.a))
            deliver(batch, j, u, to, i + TAUT_LANE, raw, k.a, raw ? 0 : grid_code_a(k));
        if (i + TAUT_LANE + 32 < j->n && (every || k.b))
            deliver(batch, j, u, to, i + TAUT_LANE + 32, raw, k.b, raw ? 0 : grid_code_b(k));
    }
    return of_first(TAUT_LANE == 0 && used_up(s, src, (side.pos + 7) / 8));
}

/* Chunks in code rans, after grid_decode has seen to the others. */
static __global__ void __launch_bounds__(THREADS)
    grid_rans_decode(const __grid_constant__ taut__cuda_batch batch, sink to, const grid_tables *tables)
{
    uint64_t              k, from = 0;
    uint32_t              kind = 0, bytes = 0;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &k);
    uint64_t              first = k * GRID_CHUNK, n = taut__min(GRID_CHUNK, j->n - first);
    if ((to == CODES || to == VALUES) && grid_is_raw(j)) return;
    if (!open_chunk(j, k, to == CODES || to == VALUES, &kind, &from, &bytes)) return; /* flagged already */
    if (kind != KIND_RANS || bytes == 0) return;
    const uint8_t *src = j->payload + from;
    grid_warp_unit u = grid_unit_of_payload(j);
    bool           ok;
    if (src[bytes - 1] == GRID_RANS_PACKED) ok = decode_packed(batch, j, u, to, first, n, src, bytes - 1);
    else ok = threadIdx.x >= TAUT_WARP || decode_rans(batch, j, u, to, first, n, src, bytes, tables);
    if (!ok && TAUT_LANE == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
}

/* ---- launchers, for grid_cuda.cu ---- */

size_t taut_grid_rans_slot(void) { return RANS_SLOT; }
void   taut_grid_rans_encode(const taut__cuda_batch *b, float bias, uint32_t dead, int32_t limit, uint32_t from_codes,
                             unsigned blocks, unsigned long long *ticket, unsigned long long *state, uint8_t *slots,
                             const grid_tables *tables, taut__cuda_stream s)
{
    settings set = {bias, dead, limit, from_codes};
    TAUT_LAUNCH(grid_rans_encode, blocks, THREADS, 0, s, *b, set, ticket, state, slots, tables);
}
void taut_grid_rans_decode(const taut__cuda_batch *b, int to, const grid_tables *tables, taut__cuda_stream s)
{
    TAUT_LAUNCH(grid_rans_decode, (unsigned)b->units, THREADS, 0, s, *b, (sink)to, tables);
}
