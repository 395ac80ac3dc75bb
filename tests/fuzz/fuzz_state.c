/* fuzz_state.c : checkpoints: a byte of options, then the blob, into a communicator of one rank with layers of several codecs. Bit 0: length and
 * checksum are made right. Bit 1: taut_state_join(). Bit 2: what follows are patches of the blob that this communicator saves, so that seeds outlive
 * versions of the format: 2 bytes where (their top bit: put in between), 1 byte how many (0: the blob ends there), then these; length and
 * checksum are made right.
 * A blob that is refused changes nothing: one of eight is looked at afterwards, and who had changed something would be found with the next one.
 * After a blob that is accepted the first can be loaded again. max_len=1024 */
#include "comm/base/bytes.h"
#include "comm/core/state.h"
#include "fuzz.h"

static taut_comm *state_comm;

static const struct {
    const char *name, *codec;
    size_t      shape[2];
} state_layers[] = {{"auto", NULL, {40, 32}},
                    {"grid", "grid:rel=0.1", {16, 8}},
                    {"topk", "topk:density=0.1", {20, 10}},
                    {"low", "powersgd:rank=2", {12, 10}},
                    {"quant", "quant:bits=4", {8, 16}},
                    {"bias", NULL, {7, 1}}};
enum { STATE_LAYERS = sizeof state_layers / sizeof *state_layers };

/* A few steps, so that there is a plan, residuals and statistics to be replaced. */
static void state_open(void)
{
    static float g[STATE_LAYERS][40 * 32];
    taut_config  c = TAUT_CONFIG_INIT;
    taut_layer  *layer[STATE_LAYERS];
    c.link = "1gbit", c.replan_steps = 3, c.small_elems = 64, c.feedback = "on", c.objective = "bytes";
    FUZZ_HOLDS(taut_comm_create_threads(1, &c, &state_comm) == TAUT_OK);
    for (size_t i = 0; i < STATE_LAYERS; i++) {
        FUZZ_HOLDS(taut_layer_register(state_comm, state_layers[i].name, TAUT_F32, 2, state_layers[i].shape,
                                       &layer[i]) == TAUT_OK);
        if (state_layers[i].codec) FUZZ_HOLDS(taut_layer_codec(layer[i], state_layers[i].codec) == TAUT_OK);
    }
    for (uint32_t step = 0; step < 5; step++) {
        for (size_t i = 0; i < STATE_LAYERS; i++) {
            for (uint32_t k = 0; k < 40 * 32; k++)
                g[i][k] = (float)(int32_t)taut__random32(taut__rng_of(step + 1, i), k) * 1e-9f;
            FUZZ_HOLDS(taut_allreduce_start(layer[i], g[i], TAUT_MEAN) == TAUT_OK);
        }
        FUZZ_HOLDS(taut_step_end(state_comm) == TAUT_OK);
    }
}

/* Into `blob` of `cap` bytes. */
static size_t state_saved(uint8_t *blob, size_t cap)
{
    size_t len;
    FUZZ_HOLDS(taut_state_save(state_comm, blob, cap, &len) == TAUT_OK);
    return len;
}

static void state_make_right(uint8_t *blob, size_t size)
{
    if (size < TAUT_STATE_HEADER) return;
    taut__put64(blob + TAUT_STATE_BYTES_AT, size);
    taut__put64(blob + TAUT_STATE_SUM_AT, taut__state_checksum(blob, size));
}

/* The good blob with the patches, in memory of exactly its size. */
static uint8_t *state_patched(const uint8_t *good, size_t *n, const uint8_t *data, size_t size)
{
    enum { TOP = 1 << 15, ROOM = 1 << 17 };
    static uint8_t whole[ROOM];
    FUZZ_HOLDS(*n <= TOP); /* or its end could not be patched */
    memcpy(whole, good, *n);
    while (size >= 3) {
        bool   between = data[1] >> 7;
        size_t at = taut__get16(data) % TOP, count = data[2];
        data += 3, size -= 3;
        if (at >= *n) continue;
        if (count == 0) *n = at;
        count = taut__min(count, taut__min(size, between ? ROOM - *n : *n - at));
        if (between) {
            memmove(whole + at + count, whole + at, *n - at);
            *n += count;
        }
        memcpy(whole + at, data, count);
        data += count, size -= count;
    }
    return fuzz_copy(whole, *n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t *good, *after;
    static size_t   good_n;
    if (!state_comm) {
        state_open();
        good_n = state_saved(NULL, 0);
        good = malloc(good_n), after = malloc(good_n);
        FUZZ_HOLDS(good && after && state_saved(good, good_n) == good_n);
    }
    if (size < 1) return 0;
    bool     right = data[0] & 5;
    size_t   n = data[0] & 4 ? good_n : size - 1;
    uint8_t *blob = data[0] & 4 ? state_patched(good, &n, data + 1, size - 1) : fuzz_copy(data + 1, n);
    if (right) state_make_right(blob, n);
    taut_status s = data[0] & 2 ? taut_state_join(state_comm, blob, n) : taut_state_load(state_comm, blob, n);
    if (s == TAUT_OK)
        FUZZ_HOLDS(taut_state_load(state_comm, good, good_n) == TAUT_OK); /* the next input meets the same */
    else if (fuzz_one_of(data, size, 8))
        FUZZ_HOLDS(state_saved(after, good_n) == good_n && memcmp(after, good, good_n) == 0);
    free(blob);
    return 0;
}
