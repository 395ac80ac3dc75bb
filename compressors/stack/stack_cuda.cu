/* stack_cuda.cu : what puts the stages of a stack together on a GPU, and takes them apart (stack.c has the layout). The stages
 * themselves are encoded by their own codecs, each into a buffer of its own, the next one from what the one before left; only
 * then are all lengths known, on the device. Decoding resolves the payload into one job per stage, on the device as well. */
#include "../cuda/cuda_kernel.h"

enum {
    THREADS = 256,
    BLOCKS = 264,
    PREAMBLE = 16,
    ENTRY = 16,
};

static __device__ __forceinline__ uint64_t padded(uint64_t bytes) { return (bytes + 15) / 16 * 16; }

static __global__ void __launch_bounds__(THREADS)
    stack_assemble(const __grid_constant__ taut__cuda_stages st, uint8_t *payload, uint64_t *len)
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
            entry[0] = st.id[i] | (uint64_t)taut_version_of(st.id[i], st.version[i], st.payload[i]) << 16;
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
static __global__ void stack_open(const __grid_constant__ taut__cuda_stages st, const uint8_t *payload,
                                  const uint64_t *len, taut__cuda_job *jobs, uint32_t *flags)
{
    const uint64_t *word = (const uint64_t *)payload;
    uint64_t        all = *len, at = PREAMBLE;
    bool            good = all >= PREAMBLE && word[0] == st.count && word[1] == 0;
    for (uint32_t i = 0; i < st.count; i++) {
        const uint64_t *entry = (const uint64_t *)(payload + at);
        good = good && all - at >= ENTRY && (entry[0] & 0xffff) == st.id[i] && entry[0] >> 16 >= 1 &&
               entry[0] >> 16 <= st.version[i] && entry[1] <= all - at - ENTRY && padded(entry[1]) <= all - at - ENTRY;
        jobs[i].payload = (uint8_t *)payload + (good ? at + ENTRY : 0);
        *jobs[i].len = good ? entry[1] : 0;
        if (good) at += ENTRY + padded(entry[1]);
    }
    if (good && at == all) return;
    for (uint32_t i = 0; i < st.count; i++) *jobs[i].len = 0;
    if (flags) atomicOr(flags, (uint32_t)TAUT__CUDA_CORRUPT);
}

struct caps {
    uint64_t of[TAUT__CUDA_STAGES];
};
/* Stages, as stack_open found them, to buffers of their own: a block per stage at a time. */
static __global__ void __launch_bounds__(THREADS)
    stack_take(const __grid_constant__ taut__cuda_stages st, caps cap, const taut__cuda_job *jobs, uint32_t *flags)
{
    uint64_t step = (uint64_t)gridDim.x * THREADS;
    for (uint32_t i = 0; i < st.count; i++) {
        uint64_t     bytes = *jobs[i].len;
        bool         fits = bytes <= cap.of[i];
        const uint4 *from = (const uint4 *)jobs[i].payload;
        uint4       *to = (uint4 *)st.payload[i];
        for (uint64_t w = (uint64_t)blockIdx.x * THREADS + threadIdx.x; fits && w < bytes / 16; w += step)
            to[w] = from[w];
        if (blockIdx.x != 0) continue;
        for (uint64_t k = bytes / 16 * 16 + threadIdx.x; fits && k < bytes; k += THREADS)
            ((uint8_t *)to)[k] = jobs[i].payload[k];
        if (threadIdx.x != 0) continue;
        *(uint64_t *)st.len[i] = fits ? bytes : 0;
        if (!fits && flags) atomicOr(flags, (uint32_t)TAUT__CUDA_CORRUPT);
    }
}

struct flag_words {
    const uint32_t *of[TAUT__CUDA_STAGES];
};
static __global__ void stack_flags(flag_words from, uint32_t count, uint32_t *to)
{
    uint32_t all = 0;
    for (uint32_t i = 0; i < count; i++) all |= *from.of[i];
    if (all) atomicOr(to, all);
}

static taut_status check(const taut__cuda_stages *st, const void *payload, const char *what)
{
    if (st->count < 1 || st->count > TAUT__CUDA_STAGES)
        return taut__fail(TAUT_E_RANGE, "%s: %u stages: must be 1..%d", what, st->count, TAUT__CUDA_STAGES);
    if ((uintptr_t)payload & 15)
        return taut__fail(TAUT_E_INVALID, "%s: payload at %p: must be a multiple of 16", what, payload);
    return TAUT_OK;
}
static taut_status assemble(const taut__cuda_stages *st, uint8_t *payload, uint64_t *len, taut__cuda_stream s)
{
    TAUT_TRY(check(st, payload, "stack assemble"));
    for (uint32_t i = 0; i < st->count; i++)
        if ((uintptr_t)st->payload[i] & 15)
            return taut__fail(TAUT_E_INVALID, "stack assemble: stage at %p: must be a multiple of 16",
                              (const void *)st->payload[i]);
    TAUT_LAUNCH(stack_assemble, BLOCKS, THREADS, 0, s, *st, payload, len);
    return taut_launched("stack assemble");
}
static taut_status open(const taut__cuda_stages *st, const uint8_t *payload, const uint64_t *len, taut__cuda_job *jobs,
                        uint32_t *flags, taut__cuda_stream s)
{
    TAUT_TRY(check(st, payload, "stack open"));
    TAUT_LAUNCH(stack_open, 1, 1, 0, s, *st, payload, len, jobs, flags);
    return taut_launched("stack open");
}

/* The lengths that stack_open writes lie behind the jobs. */
static __global__ void stack_begin(const __grid_constant__ taut__cuda_stages st, taut__cuda_job *jobs)
{
    uint64_t *len = (uint64_t *)(jobs + TAUT__CUDA_STAGES);
    for (uint32_t i = 0; i < st.count; i++) jobs[i].len = len + i;
}
static taut_status take(const taut__cuda_stages *st, const uint64_t *cap, const uint8_t *payload, const uint64_t *len,
                        taut__cuda_job *scratch, uint32_t *flags, taut__cuda_stream s)
{
    TAUT_TRY(check(st, payload, "stack take"));
    caps c;
    memset(&c, 0, sizeof c);
    for (uint32_t i = 0; i < st->count; i++) c.of[i] = cap[i];
    TAUT_LAUNCH(stack_begin, 1, 1, 0, s, *st, scratch);
    TAUT_LAUNCH(stack_open, 1, 1, 0, s, *st, payload, len, scratch, flags);
    TAUT_LAUNCH(stack_take, BLOCKS, THREADS, 0, s, *st, c, (const taut__cuda_job *)scratch, flags);
    return taut_launched("stack take");
}
static taut_status gather_flags(const uint32_t *const *from, uint32_t count, uint32_t *to, taut__cuda_stream s)
{
    if (count < 1 || count > TAUT__CUDA_STAGES)
        return taut__fail(TAUT_E_RANGE, "stack flags: %u stages: must be 1..%d", count, TAUT__CUDA_STAGES);
    flag_words words;
    memset(&words, 0, sizeof words);
    for (uint32_t i = 0; i < count; i++) words.of[i] = from[i];
    TAUT_LAUNCH(stack_flags, 1, 1, 0, s, words, count, to);
    return taut_launched("stack flags");
}

extern "C" const taut__cuda_stack TAUT_CUDA_TABLE(stack);
extern "C" const taut__cuda_stack TAUT_CUDA_TABLE(stack) = {assemble, open, take, gather_flags};
