/* grid_cuda.cu : the grid codec, code `packed`, on a GPU: a block of threads per chunk of 65536 elements. Same bytes, codes and
 * floats as grid_portable.c.
 *
 * Encoding (grid_cuda_encode.h). Elements are voted into bit planes, then a lane has a block each; whole words leave for a slot of
 * scratch. There are as many slots as blocks of threads, so they stay in L2. Chunks are taken by ticket, in order, and each learns where it
 * begins in the payload by looking back at those before it (decoupled look-back: Merrill and Garland 2016), then moves from its slot to its
 * place. Sums still pass a round of 32 blocks at a time (grid_cuda_chunk.h).
 * Decoding (grid_cuda_decode.h). One lane walks over a chunk's bit string in shared memory, since a body begins where the one before ends,
 * and the other warps decode what it has passed. */
#include "grid_cuda_decode.h"
#include "grid_cuda_encode.h"

/* The next chunk by ticket, of those that are coded this time; task->j NULL: there is none. One thread. */
template <origin OF>
static __device__ __forceinline__ void give_task(const taut__cuda_batch &batch, unsigned long long *ticket,
                                                 encode_task *task)
{
    const taut__cuda_job *j = NULL;
    do {
        task->unit = atomicAdd(ticket, 1ull);
        j = task->unit < batch.units ? taut_job_of(batch, task->unit, &task->number) : NULL;
    } while (j && grid_is_raw(j));
    task->j = j;
    if (!j) return;
    grid_warp_unit none = {0, 0, 0, NULL, 0, 0, false, false};
    task->first = task->number * GRID_CHUNK;
    task->n = (uint32_t)taut__min(GRID_CHUNK, j->n - task->first);
    task->blocks = (task->n + GRID_BLOCK - 1) / GRID_BLOCK;
    task->bytes = 0;
    task->u = OF == OF_FLOATS ? grid_unit_of(j, 1, task->set.bias) : none;
}

template <origin OF>
static __global__ void __launch_bounds__(E_THREADS, 2)
    grid_encode(const __grid_constant__ taut__cuda_batch batch, settings set, unsigned long long *ticket,
                unsigned long long *state, uint8_t *slots)
{
    TAUT_SHARED(unsigned long long, shared, 2);
    TAUT_SHARED(encode_task, task, 1);
    if (threadIdx.x == 0) task[0].set = set, task[0].dtype = batch.dtype;
    for (;;) {
        if (threadIdx.x == 0) give_task<OF>(batch, ticket, &task[0]);
        __syncthreads();
        const taut__cuda_job *j = task[0].j;
        if (!j) return;
        if (task[0].n) pack_chunk<OF>(&task[0], slots + (uint64_t)blockIdx.x * SLOT);
        j = task[0].j;
        uint64_t chunks = (j->n + GRID_CHUNK - 1) / GRID_CHUNK, table = HEADER + chunks * ENTRY;
        place_chunk(j, set, KIND_PACKED, state, task[0].unit, task[0].number, chunks, table,
                    slots + (uint64_t)blockIdx.x * SLOT, task[0].bytes, shared);
    }
}

/* Where the blocks of a peer's chunk begin, and their classes; by one thread. False: malformed. */
static __device__ bool walk_chunk(const uint8_t *src, uint32_t bytes, uint32_t blocks, uint32_t *start)
{
    const uint8_t *end = src + bytes;
    uint32_t       k = 0, i = 0;
    bool           counted = true;
    while (k < blocks) { /* as read_classes() */
        if (i / 2 >= bytes) return false;
        uint32_t v = end[-1 - (int32_t)(i / 2)] >> (i % 2 ? 4 : 0) & 15;
        i++;
        if (!counted) {
            uint32_t run = v + GRID_RUN_MIN;
            if (run > blocks - k) return false;
            for (uint32_t to = k + run; k < to; k++) start[k] = (uint32_t)GRID_ZERO << START_BITS;
            counted = true;
        } else if (v == GRID_RUN) {
            counted = false;
        } else {
            start[k++] = v << START_BITS;
        }
    }
    int64_t  body = (int64_t)bytes - (i + 1) / 2;
    uint64_t pos = 0;
    for (uint32_t b = 0; b < blocks; b++) {
        uint32_t cls = start[b] >> START_BITS;
        if (cls == GRID_ZERO) continue;
        uint32_t bits = body_bits(src, end, pos, cls);
        start[b] |= (uint32_t)pos;
        pos += bits;
        if (bits == 0 || (int64_t)pos > 8 * body) return false;
    }
    return (int64_t)((pos + 7) / 8) == body;
}

/* Chunk k of every peer: opened by all threads, walked by a warp's first lane each. What is malformed counts as zero, and is flagged.
 * peers, start: shared memory. */
static __device__ void open_peers(const taut__cuda_batch &batch, const taut__cuda_job *j, uint64_t k, uint32_t *start,
                                  peer_chunks *peers)
{
    uint32_t warp = threadIdx.x / TAUT_WARP,
             blocks = (uint32_t)((taut__min(GRID_CHUNK, j->n - k * GRID_CHUNK) + GRID_BLOCK - 1) / GRID_BLOCK);
    for (uint32_t p = 0; p < batch.peer_count; p++) {
        const uint8_t *payload = j->peers[p];
        uint64_t       from = 0;
        uint32_t       kind = 0, bytes = 0;
        bool           opened = open_payload(j, payload, *j->peer_len[p], k, true, &kind, &from, &bytes) &&
                      (kind == KIND_PACKED || kind == KIND_ZERO);
        __syncthreads(); /* open_payload's shared memory is used again */
        if (threadIdx.x != 0) continue;
        if (!opened) taut_flag(j, TAUT__CUDA_CORRUPT);
        bool there = opened && kind == KIND_PACKED && bytes != 0;
        peers->src[p] = there ? payload + from : NULL;
        peers->end[p] = there ? payload + from + bytes : NULL;
    }
    if (threadIdx.x == 0) peers->count = batch.peer_count, peers->start = start;
    __syncthreads();
    if (TAUT_LANE == 0 && warp < peers->count && peers->src[warp] &&
        !walk_chunk(peers->src[warp], (uint32_t)(peers->end[warp] - peers->src[warp]), blocks,
                    start + warp * GRID_CHUNK_BLOCKS)) {
        taut_flag(j, TAUT__CUDA_CORRUPT);
        peers->src[warp] = NULL;
    }
    __syncthreads();
}

/* The sum of codes and peers, packed, a chunk at a time: neither codes nor sums go to memory. */
static __global__ void __launch_bounds__(THREADS, 2)
    grid_sum(const __grid_constant__ taut__cuda_batch batch, settings set, unsigned long long *ticket,
             unsigned long long *state, uint8_t *slots)
{
    TAUT_SHARED(unsigned long long, shared, 2);
    TAUT_SHARED(uint32_t, start, TAUT__GRID_PEERS * GRID_CHUNK_BLOCKS);
    TAUT_SHARED(peer_chunks, peers, 1);
    uint8_t *slot = slots + (uint64_t)blockIdx.x * SLOT;
    uint64_t unit, k;
    while (const taut__cuda_job *j = next_chunk(batch, ticket, shared, &unit, &k)) {
        uint64_t chunks = (j->n + GRID_CHUNK - 1) / GRID_CHUNK, table = HEADER + chunks * ENTRY;
        uint32_t bytes = 0;
        if (j->n) {
            open_peers(batch, j, k, start, peers);
            bytes = chunk_of<true>(j, batch.dtype, set, k, slot, false, NULL, peers);
        }
        place_chunk(j, set, KIND_PACKED, state, unit, k, chunks, table, slot, bytes, shared);
    }
}

/* Where floats travel as they are this time: the same operations with the floats' bits as codes and payloads of kind RAW
 * (grid_codes.c). A launch of its own, which does nothing where calibration says otherwise, as the others do nothing where it says so. */
enum { RAW_TO_PAYLOAD = 1, RAW_TO_CODES = 2, RAW_FROM_CODES = 4, RAW_ADD = 8, RAW_VALUES = 16, RAW_PEERS = 32 };

static __device__ bool raw_opens(const taut__cuda_job *j, const uint8_t *payload, uint64_t len)
{
    const uint32_t *word = (const uint32_t *)payload;
    return len == HEADER + 4 * j->n && (word[0] & KIND_MASK) == KIND_RAW &&
           ((word[0] & KIND_TURNED) != 0) == j->turned && (word[0] >> 8 & 0xff) == GRID_CHUNK_LOG2;
}
static __device__ bool raw_peers_open(const taut__cuda_batch &batch, const taut__cuda_job *j)
{
    bool good = true;
    for (uint32_t p = 0; p < batch.peer_count; p++) good = good && raw_opens(j, j->peers[p], *j->peer_len[p]);
    return good;
}

static __global__ void __launch_bounds__(THREADS)
    grid_raw(const __grid_constant__ taut__cuda_batch batch, settings set, uint32_t what, bool always)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    uint64_t              from = unit * GRID_CHUNK, to = taut__min(j->n, from + GRID_CHUNK);
    float                *out = (float *)(j->payload + HEADER);
    if (!always && !grid_is_raw(j)) return;
    if (((what & RAW_ADD) && !raw_opens(j, j->payload, *j->len)) || ((what & RAW_PEERS) && !raw_peers_open(batch, j))) {
        if (threadIdx.x == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
        return;
    }
    for (uint64_t i = from + threadIdx.x; i < to; i += THREADS) {
        float    x = what & (RAW_FROM_CODES | RAW_ADD) ? __uint_as_float(j->codes ? (uint32_t)j->codes[i] : 0)
                                                       : ((const float *)j->src)[i];
        uint32_t peers = what & RAW_PEERS ? batch.peer_count : 0;
        for (uint32_t p = 0; p < peers; p++) x += ((const float *)(j->peers[p] + HEADER))[i];
        if (j->residual && !(what & (RAW_FROM_CODES | RAW_ADD))) x = j->residual[i] + x;
        if (what & RAW_ADD) x += out[i];
        if (what & RAW_TO_PAYLOAD) out[i] = x;
        if (what & RAW_TO_CODES) j->codes[i] = (int32_t)__float_as_uint(x);
        if (what & RAW_VALUES)
            taut_store4_as(j->dst, batch.dtype, i, i + 1,
                           make_float4(batch.factor == 1 ? x : x * batch.factor, 0, 0, 0));
        if (j->err && !(what & (RAW_FROM_CODES | RAW_ADD))) j->err[i] = 0;
    }
    if (unit != 0 || threadIdx.x != 0 || !(what & RAW_TO_PAYLOAD)) return;
    uint32_t *word = (uint32_t *)j->payload;
    word[0] =
        KIND_RAW | (j->scale ? KIND_SCALED : 0) | (j->turned ? KIND_TURNED : 0) | GRID_CHUNK_LOG2 << 8 | set.dead << 16;
    word[1] = 0;
    *j->len = HEADER + 4 * j->n;
}

static __global__ void __launch_bounds__(THREADS)
    grid_quantize(const __grid_constant__ taut__cuda_batch batch, settings set)
{
    uint64_t              k;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &k);
    if (grid_is_raw(j)) return;
    grid_warp_unit u = grid_unit_of(j, 1, set.bias);
    uint64_t       first = k * GRID_CHUNK, n = taut__min(GRID_CHUNK, j->n - first);
    for (uint32_t block = threadIdx.x / TAUT_WARP; (uint64_t)block * GRID_BLOCK < n; block += WARPS) {
        round_block r;
        take_floats(j, batch.dtype, set, u, first + (uint64_t)block * GRID_BLOCK,
                    (uint32_t)taut__min(GRID_BLOCK, n - (uint64_t)block * GRID_BLOCK), false, &r);
    }
}

/* dst = factor * codes */
static __global__ void __launch_bounds__(THREADS) grid_dequantize(const __grid_constant__ taut__cuda_batch batch)
{
    uint64_t              k;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &k);
    if (grid_is_raw(j)) return;
    grid_warp_unit u = grid_unit_of(j, batch.factor, 0);
    uint64_t       from = k * GRID_CHUNK, to = taut__min(j->n, from + GRID_CHUNK);
    for (uint64_t i = from + 4 * threadIdx.x; i < to; i += 4 * THREADS) {
        float    v[4];
        uint64_t left = to - i;
        int4     q = make_int4(0, 0, 0, 0);
        if (left >= 4 && ((uintptr_t)(j->codes + i) & 15) == 0) q = *(const int4 *)(j->codes + i);
        else {
            q.x = j->codes[i];
            if (left > 1) q.y = j->codes[i + 1];
            if (left > 2) q.z = j->codes[i + 2];
            if (left > 3) q.w = j->codes[i + 3];
        }
        v[0] = grid_finite(u, grid_value(q.x, u.at(i)));
        v[1] = left > 1 ? grid_finite(u, grid_value(q.y, u.at(i + 1))) : 0;
        v[2] = left > 2 ? grid_finite(u, grid_value(q.z, u.at(i + 2))) : 0;
        v[3] = left > 3 ? grid_finite(u, grid_value(q.w, u.at(i + 3))) : 0;
        taut_store4_as(j->dst, batch.dtype, i, to, make_float4(v[0], v[1], v[2], v[3]));
    }
}

/* ---- decoding ---- */

template <sink TO>
static __device__ TAUT_NOINLINE void decode_plain(const taut__cuda_batch &batch, const decode_task &k,
                                                  const uint32_t *words)
{
    if (!words && (TO == CODES || TO == ADD)) return;
    target t = target_of(k);
    TAUT_ROLLED
    for (uint32_t i = threadIdx.x; i < t.n; i += D_THREADS)
        put_value<TO, false>(batch, k, t, i, words != NULL, words ? words[k.first + i] : 0,
                             old_at<TO, false>(batch, t, i));
}

template <sink TO>
static __global__ void __launch_bounds__(D_THREADS, 8)
    grid_decode(const __grid_constant__ taut__cuda_batch batch, bool no_rans)
{
    TAUT_SHARED(decode_task, task, 1);
    uint64_t              number, from = 0;
    uint32_t              kind = 0, bytes = 0;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &number);
    bool                  codes = TO == CODES || TO == VALUES;
    if (codes && grid_is_raw(j)) return;
    if (!open_chunk(j, number, codes, &kind, &from, &bytes)) {
        if (threadIdx.x == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
        return;
    }
    if (threadIdx.x == 0) {
        uint64_t first = number * GRID_CHUNK;
        task[0].u = grid_unit_of_payload(j);
        task[0].first = first;
        task[0].n = (uint32_t)taut__min(GRID_CHUNK, j->n - first);
        task[0].dst = (uint8_t *)j->dst + first * (batch.dtype == TAUT_F32 ? 4 : 2);
        task[0].codes = codes ? j->codes + first : NULL;
    }
    __syncthreads();
    if (kind == KIND_RAW || kind == KIND_ZERO || bytes == 0)
        decode_plain<TO>(batch, task[0], kind == KIND_RAW ? (const uint32_t *)(j->payload + HEADER) : NULL);
    else if (kind == KIND_RANS) { /* the kernel of that code follows, if anybody has its tables */
        if (no_rans && threadIdx.x == 0) taut_flag(j, TAUT__CUDA_CORRUPT);
    } else if (!decode_chunk<TO>(batch, &task[0], j->payload + from, bytes) && TAUT_LANE == 0) {
        taut_flag(j, TAUT__CUDA_CORRUPT);
    }
}

/* ---- launchers ---- */

static settings settings_of(double dead, int32_t limit, bool from_codes)
{
    settings s = {(float)(1.0 - dead), (uint32_t)lrint(dead * 10000.0), limit, from_codes};
    return s;
}
static taut_status check(const taut__cuda_batch *b, const char *what)
{
    TAUT_TRY(taut_check_batch(b, what));
    if (!b->jobs && b->one.payload && !b->one.len)
        return taut__fail(TAUT_E_INVALID, "%s: len must be device memory", what);
    if (!b->jobs && b->one.first % GRID_BLOCK)
        return taut__fail(TAUT_E_INVALID, "%s: slice begins at element %llu: must be a multiple of %d", what,
                          (unsigned long long)b->one.first, GRID_BLOCK);
    return TAUT_OK;
}
static size_t fixed_work(uint64_t units) { return 16 + (8 * (size_t)units + 15) / 16 * 16; }

static size_t slot_bytes(bool rans) { return rans ? taut_grid_rans_slot() : (size_t)SLOT; }
static size_t encode_work(uint64_t units, uint32_t together, bool rans)
{
    return fixed_work(units) + (size_t)taut__min(taut__max(units, 1), taut__max(together, 1)) * slot_bytes(rans);
}

static taut_status run_encode(const taut__cuda_batch *b, const settings &set, const void *tables, const char *what,
                              taut__cuda_stream s)
{
    size_t fixed = fixed_work(b->units), slot = slot_bytes(tables != NULL);
    if (b->work_bytes < fixed + slot)
        return taut__fail(TAUT_E_CAPACITY, "%s: %zu bytes of scratch: must be at least %zu", what, b->work_bytes,
                          fixed + slot);
    uint64_t    blocks = taut__min((b->work_bytes - fixed) / slot, b->units);
    uint8_t    *work = (uint8_t *)b->work;
    cudaError_t e = cudaMemsetAsync(work, 0, fixed, s);
    if (e != cudaSuccess) return taut__fail(TAUT_E_DEVICE, "%s: %s", what, cudaGetErrorString(e));
    unsigned long long *ticket = (unsigned long long *)work, *state = ticket + 2;
    if (tables)
        taut_grid_rans_encode(b, set.bias, set.dead, set.limit, set.from_codes, (unsigned)blocks, ticket, state,
                              work + fixed, (const grid_tables *)tables, s);
    else if (set.from_codes)
        TAUT_LAUNCH(grid_encode<OF_CODES>, (unsigned)blocks, E_THREADS, 0, s, *b, set, ticket, state, work + fixed);
    else TAUT_LAUNCH(grid_encode<OF_FLOATS>, (unsigned)blocks, E_THREADS, 0, s, *b, set, ticket, state, work + fixed);
    return taut_launched(what);
}
/* The other way for the same jobs, where they may take it. */
static void run_raw(const taut__cuda_batch *b, double dead, uint32_t what, taut__cuda_stream s)
{
    if (b->one.raw)
        TAUT_LAUNCH(grid_raw, (unsigned)b->units, THREADS, 0, s, *b, settings_of(dead, 0, false), what, false);
}
static taut_status need_step(const taut__cuda_batch *b, const char *what)
{
    if (b->jobs || b->one.step || b->one.given > 0) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "%s: step=%g: must be agreed, in device memory, or given", what,
                      (double)b->one.given);
}
static taut_status encode(const taut__cuda_batch *b, double dead, int32_t limit, const void *tables,
                          taut__cuda_stream s)
{
    TAUT_TRY(check(b, "grid encode"));
    TAUT_TRY(need_step(b, "grid encode"));
    run_raw(b, dead, RAW_TO_PAYLOAD | (b->one.codes ? RAW_TO_CODES : 0), s);
    return run_encode(b, settings_of(dead, limit, false), tables, "grid encode", s);
}
static taut_status pack(const taut__cuda_batch *b, double dead, const void *tables, taut__cuda_stream s)
{
    TAUT_TRY(check(b, "grid pack"));
    TAUT_TRY(need_step(b, "grid pack"));
    run_raw(b, dead, RAW_FROM_CODES | RAW_TO_PAYLOAD, s);
    return run_encode(b, settings_of(dead, 0, true), tables, "grid pack", s);
}
static taut_status sum_pack(const taut__cuda_batch *b, double dead, taut__cuda_stream s)
{
    size_t fixed = fixed_work(b->units), slot = slot_bytes(false);
    TAUT_TRY(check(b, "grid sum"));
    TAUT_TRY(need_step(b, "grid sum"));
    if (b->peer_count < 1 || b->peer_count > TAUT__GRID_PEERS)
        return taut__fail(TAUT_E_RANGE, "grid sum: %u payloads: must be 1..%d", b->peer_count, TAUT__GRID_PEERS);
    if (b->work_bytes < fixed + slot)
        return taut__fail(TAUT_E_CAPACITY, "grid sum: %zu bytes of scratch: must be at least %zu", b->work_bytes,
                          fixed + slot);
    uint8_t    *work = (uint8_t *)b->work;
    cudaError_t e = cudaMemsetAsync(work, 0, fixed, s);
    if (e != cudaSuccess) return taut__fail(TAUT_E_DEVICE, "grid sum: %s", cudaGetErrorString(e));
    unsigned long long *ticket = (unsigned long long *)work, *state = ticket + 2;
    run_raw(b, dead, RAW_FROM_CODES | RAW_PEERS | RAW_TO_PAYLOAD, s);
    TAUT_LAUNCH(grid_sum, (unsigned)taut__min((b->work_bytes - fixed) / slot, b->units), THREADS, 0, s, *b,
                settings_of(dead, 0, true), ticket, state, work + fixed);
    return taut_launched("grid sum");
}
static taut_status raw(const taut__cuda_batch *b, double dead, taut__cuda_stream s)
{
    TAUT_TRY(check(b, "grid raw"));
    if (b->dtype != TAUT_F32)
        return taut__fail(TAUT_E_UNSUPPORTED, "grid raw: dtype %d: must be 0 (f32)", (int)b->dtype);
    TAUT_LAUNCH(grid_raw, (unsigned)b->units, THREADS, 0, s, *b, settings_of(dead, 0, false), (uint32_t)RAW_TO_PAYLOAD,
                true);
    return taut_launched("grid raw");
}
static taut_status quantize(const taut__cuda_batch *b, double dead, int32_t limit, taut__cuda_stream s)
{
    TAUT_TRY(check(b, "grid quantize"));
    TAUT_TRY(need_step(b, "grid quantize"));
    run_raw(b, dead, RAW_TO_CODES, s);
    TAUT_LAUNCH(grid_quantize, (unsigned)b->units, THREADS, 0, s, *b, settings_of(dead, limit, false));
    return taut_launched("grid quantize");
}
static taut_status dequantize(const taut__cuda_batch *b, taut__cuda_stream s)
{
    TAUT_TRY(check(b, "grid dequantize"));
    TAUT_TRY(need_step(b, "grid dequantize"));
    run_raw(b, 0.65, RAW_FROM_CODES | RAW_VALUES, s);
    TAUT_LAUNCH(grid_dequantize, (unsigned)b->units, THREADS, 0, s, *b);
    return taut_launched("grid dequantize");
}
static taut_status run_decode(const taut__cuda_batch *b, sink to, const void *tables, const char *what,
                              taut__cuda_stream s)
{
    TAUT_TRY(check(b, what));
    if (to == CODES || to == VALUES) TAUT_TRY(need_step(b, what));
    if (to == CODES || to == VALUES) run_raw(b, 0.65, RAW_ADD | RAW_TO_CODES | (to == VALUES ? RAW_VALUES : 0), s);
    if (to == STORE) TAUT_LAUNCH(grid_decode<STORE>, (unsigned)b->units, D_THREADS, 0, s, *b, tables == NULL);
    else if (to == ADD) TAUT_LAUNCH(grid_decode<ADD>, (unsigned)b->units, D_THREADS, 0, s, *b, tables == NULL);
    else if (to == CODES) TAUT_LAUNCH(grid_decode<CODES>, (unsigned)b->units, D_THREADS, 0, s, *b, tables == NULL);
    else TAUT_LAUNCH(grid_decode<VALUES>, (unsigned)b->units, D_THREADS, 0, s, *b, tables == NULL);
    if (tables) taut_grid_rans_decode(b, to, (const grid_tables *)tables, s);
    return taut_launched(what);
}
static taut_status decode(const taut__cuda_batch *b, bool add, const void *tables, taut__cuda_stream s)
{
    return run_decode(b, add ? ADD : STORE, tables, "grid decode", s);
}
static taut_status unpack_add(const taut__cuda_batch *b, const void *tables, taut__cuda_stream s)
{
    return run_decode(b, CODES, tables, "grid unpack", s);
}
static taut_status unpack_values(const taut__cuda_batch *b, const void *tables, taut__cuda_stream s)
{
    return run_decode(b, VALUES, tables, "grid unpack values", s);
}

extern "C" const taut__cuda_grid TAUT_CUDA_TABLE(grid);
extern "C" const taut__cuda_grid TAUT_CUDA_TABLE(grid) = {
    sizeof(grid_tables), encode_work, encode,     pack,         sum_pack, raw, quantize,
    dequantize,          decode,      unpack_add, unpack_values};
