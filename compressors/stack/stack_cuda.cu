/* stack_cuda.cu : what puts the stages of a stack together on a GPU, and takes them apart (stack.c has the layout). The stages
 * themselves are encoded by their own codecs, each into a buffer of its own, the next one from what the one before left; only
 * then are all lengths known, on the device. Decoding resolves the payload into one job per stage, on the device as well. */
#include "../cuda/cuda_kernel.h"

enum {
    THREADS = 256, BLOCKS = 264, PREAMBLE = 16, ENTRY = 16,
    GRID_ID = 5, GRID_SPARSE = 4, /* grid payloads of that kind have version 2, the others 1 (grid.c) */
};

static __device__ __forceinline__ uint64_t padded(uint64_t bytes) { return (bytes + 15) / 16 * 16; }

static __global__ void __launch_bounds__(THREADS) stack_assemble(const __grid_constant__ taut__cuda_stages st, uint8_t *payload, uint64_t *len)
{
    uint64_t at = PREAMBLE, step = (uint64_t)gridDim.x * THREADS;
    for (uint32_t i = 0; i < st.count; i++) {
        uint64_t     bytes = *st.len[i];
        const uint4 *from = (const uint4 *)st.payload[i];
        uint4       *to = (uint4 *)(payload + at + ENTRY);
        for (uint64_t w = (uint64_t)blockIdx.x * THREADS + threadIdx.x; w < padded(bytes) / 16; w += step) {
            uint64_t left = bytes - 16 * w;
            uint4    v = make_uint4(0, 0, 0, 0);
            if (left >= 16) {
                v = from[w];
            } else { /* the last one: zeros behind the payload */
                const uint8_t *b = (const uint8_t *)(from + w);
                uint32_t       word[4] = {0, 0, 0, 0};
                for (uint64_t k = 0; k < left; k++) word[k / 4] |= (uint32_t)b[k] << 8 * (k % 4);
                v = make_uint4(word[0], word[1], word[2], word[3]);
            }
            to[w] = v;
        }
        if (blockIdx.x == 0 && threadIdx.x == 0) {
            uint64_t *entry = (uint64_t *)(payload + at);
            bool sparse_grid = st.id[i] == GRID_ID && (st.payload[i][0] & 0x7f) == GRID_SPARSE;
            entry[0] = st.id[i] | (uint64_t)(st.id[i] != GRID_ID ? st.version[i] : sparse_grid ? 2 : 1) << 16;
            entry[1] = bytes;
        }
        at += ENTRY + padded(bytes);
    }
    if (blockIdx.x != 0 || threadIdx.x != 0) return;
    uint64_t *word = (uint64_t *)payload;
    word[0] = st.count, word[1] = 0;
    *len = at;
}

/* jobs[i].payload and *jobs[i].len of each stage; a length of 0, which no codec takes, where the payload is malformed. */
static __global__ void stack_open(const __grid_constant__ taut__cuda_stages st, const uint8_t *payload, const uint64_t *len, taut__cuda_job *jobs, uint32_t *flags)
{
    const uint64_t *word = (const uint64_t *)payload;
    uint64_t        all = *len, at = PREAMBLE;
    bool            good = all >= PREAMBLE && word[0] == st.count && word[1] == 0;
    for (uint32_t i = 0; i < st.count; i++) {
        const uint64_t *entry = (const uint64_t *)(payload + at);
        good = good && all - at >= ENTRY && (entry[0] & 0xffff) == st.id[i] && entry[0] >> 16 >= 1 && entry[0] >> 16 <= st.version[i] && entry[1] <= all - at - ENTRY &&
               padded(entry[1]) <= all - at - ENTRY;
        jobs[i].payload = (uint8_t *)payload + (good ? at + ENTRY : 0);
        *jobs[i].len = good ? entry[1] : 0;
        if (good) at += ENTRY + padded(entry[1]);
    }
    if (good && at == all) return;
    for (uint32_t i = 0; i < st.count; i++) *jobs[i].len = 0;
    if (flags) atomicOr(flags, (uint32_t)TAUT__CUDA_CORRUPT);
}

static taut_status check(const taut__cuda_stages *st, const void *payload, const char *what)
{
    if (st->count < 1 || st->count > TAUT__CUDA_STAGES) return taut__fail(TAUT_E_RANGE, "%s: %u stages: must be 1..%d", what, st->count, TAUT__CUDA_STAGES);
    if ((uintptr_t)payload & 15) return taut__fail(TAUT_E_INVALID, "%s: payload at %p: must be a multiple of 16", what, payload);
    return TAUT_OK;
}
static taut_status assemble(const taut__cuda_stages *st, uint8_t *payload, uint64_t *len, taut__cuda_stream s)
{
    TAUT_TRY(check(st, payload, "stack assemble"));
    for (uint32_t i = 0; i < st->count; i++)
        if ((uintptr_t)st->payload[i] & 15) return taut__fail(TAUT_E_INVALID, "stack assemble: stage at %p: must be a multiple of 16", (const void *)st->payload[i]);
    TAUT_LAUNCH(stack_assemble, BLOCKS, THREADS, 0, s, *st, payload, len);
    return taut_launched("stack assemble");
}
static taut_status open(const taut__cuda_stages *st, const uint8_t *payload, const uint64_t *len, taut__cuda_job *jobs, uint32_t *flags, taut__cuda_stream s)
{
    TAUT_TRY(check(st, payload, "stack open"));
    TAUT_LAUNCH(stack_open, 1, 1, 0, s, *st, payload, len, jobs, flags);
    return taut_launched("stack open");
}

extern "C" const taut__cuda_stack TAUT_CUDA_TABLE(stack);
extern "C" const taut__cuda_stack TAUT_CUDA_TABLE(stack) = {assemble, open};
