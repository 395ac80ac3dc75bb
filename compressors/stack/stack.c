/* stack.c : stack:A+B+C. A codes x, B what A left, C what B left; decoding adds them up.
 *
 * Every stage collects the statistics of its own input, slice by slice, and runs without state: the table's functions see one stage, and a
 * stage after the first cannot know its whole tensor before the first has coded it. So a stack is SLICEABLE if all its
 * stages are, never LINEAR or INTEGER, and PowerSGD in a stack starts from a random Q each time. */
#include "stack.h"
#include <string.h>

enum {
    PREAMBLE = 16, /* u32 stages, u32 0, u64 0 */
    ENTRY = 16,    /* u16 codec id, u16 codec version, u32 0, u64 payload bytes; then the payload */
    PAD = 16,      /* payloads are zero-padded to this, so that each starts as aligned as the first */
};

static size_t padded(size_t bytes) { return taut__ceil_div(bytes, PAD) * PAD; }

uint32_t taut__spec_caps(const taut_spec *spec)
{
    const taut_stage *s = &spec->stage[0];
    bool              coarse = s->codec->coarse > 0 && s->value[s->codec->error_key - 1] >= s->codec->coarse;
    if (spec->stages == 1) return s->codec->caps | (coarse || taut__spec_basis(spec) > 0 ? TAUT_CAP_FEEDBACK : 0);
    uint32_t all = TAUT_CAP_SLICEABLE | TAUT_CAP_FIXED_SIZE;
    for (uint32_t i = 0; i < spec->stages; i++) all &= spec->stage[i].codec->caps;
    return all | TAUT_CAP_FEEDBACK;
}

size_t taut__stack_align(const taut_spec *spec)
{
    size_t lcm = 1;
    for (uint32_t i = 0; i < spec->stages; i++) {
        const taut_codec *k = spec->stage[i].codec;
        size_t            step = k->align ? taut__max(1, k->align(&spec->stage[i])) : 1, a = lcm, b = step;
        while (b != 0) {
            size_t rest = a % b;
            a = b, b = rest;
        }
        lcm = lcm / a * step;
    }
    return lcm;
}

static size_t stage_capacity(const taut_spec *spec, uint32_t i, const taut_tensor *t, size_t n)
{
    return spec->stage[i].codec->capacity(&spec->stage[i], t, n);
}

/* The remainder lies behind everything that stages may write. */
static size_t remainder_offset(const taut_spec *spec, const taut_tensor *t, size_t n)
{
    size_t bytes = PREAMBLE;
    for (uint32_t i = 0; i < spec->stages; i++) bytes += ENTRY + padded(stage_capacity(spec, i, t, n));
    return bytes;
}

size_t taut__stack_capacity(const taut_spec *spec, const taut_tensor *t, size_t n)
{
    return remainder_offset(spec, t, n) + n * sizeof(float) + sizeof(float) - 1;
}

bool taut__stack_fixed(const taut_spec *spec, const taut_tensor *t, size_t first, size_t n, size_t *bytes)
{
    *bytes = PREAMBLE;
    for (uint32_t i = 0; i < spec->stages; i++) {
        const taut_codec *codec = spec->stage[i].codec;
        if (!(codec->caps & TAUT_CAP_FIXED_SIZE)) return false;
        *bytes += ENTRY + padded(codec->fixed(&spec->stage[i], t, first, n));
    }
    return true;
}

/* Stages draw different random numbers. */
taut_call taut__stack_call(const taut_call *c, uint32_t i)
{
    taut_call stage = *c;
    stage.stage = i;
    stage.calibration = NULL;
    stage.state = NULL;
    if (i > 0) {
        stage.seed = taut__seed(c->seed, i);
        stage.shared_seed = taut__seed(c->shared_seed, i);
    }
    return stage;
}

/* The stage's payload follows. */
static void put_entry(uint8_t *dst, const taut_codec *codec, uint64_t bytes)
{
    uint16_t id[2] = {codec->id, taut__payload_version(codec, dst + ENTRY)};
    memset(dst, 0, ENTRY);
    memcpy(dst, id, sizeof id);
    memcpy(dst + 8, &bytes, sizeof bytes);
}

static taut_status encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err)
{
    const taut_spec *spec = c->spec;
    size_t           need = taut__stack_capacity(spec, c->tensor, c->n), at = PREAMBLE;
    if (cap < need) return taut__fail(TAUT_E_CAPACITY, "stack: %zu bytes given, %zu needed", cap, need);
    uint8_t *spare = dst + remainder_offset(spec, c->tensor, c->n);
    float   *rest = err ? err : (float *)(void *)(spare + (-(uintptr_t)spare & (sizeof(float) - 1)));

    memset(dst, 0, PREAMBLE);
    memcpy(dst, &spec->stages, sizeof spec->stages);
    for (uint32_t i = 0; i < spec->stages; i++) {
        const taut_codec *codec = spec->stage[i].codec;
        taut_call         stage = taut__stack_call(c, i);
        bool              last = i + 1 == spec->stages;
        size_t            room = padded(stage_capacity(spec, i, c->tensor, c->n)), bytes;
        TAUT_TRY(
            taut__op_encode(codec, &stage, i == 0 ? src : rest, dst + at + ENTRY, room, &bytes, last ? err : rest));
        put_entry(dst + at, codec, bytes);
        memset(dst + at + ENTRY + bytes, 0, padded(bytes) - bytes);
        at += ENTRY + padded(bytes);
    }
    *len = at;
    return TAUT_OK;
}

/* ---- decode ---- */

typedef struct reader {
    const uint8_t *at, *end;
    uint32_t       left; /* stages */
} reader;

static taut_status corrupt(const char *what) { return taut__fail(TAUT_E_CORRUPT, "stack payload: %s", what); }

static taut_status open_payload(reader *r, const uint8_t *src, size_t len)
{
    if (len < PREAMBLE) return corrupt("shorter than its header");
    *r = (reader){src + PREAMBLE, src + len, 0};
    memcpy(&r->left, src, sizeof r->left);
    for (size_t i = sizeof r->left; i < PREAMBLE; i++)
        if (src[i]) return corrupt("reserved bytes are not 0");
    return r->left >= 1 && r->left <= TAUT_SPEC_STAGES ? TAUT_OK : corrupt("number of stages out of range");
}

static taut_status next_stage(reader *r, const taut_codec **codec, const uint8_t **payload, size_t *bytes)
{
    uint16_t id[2];
    uint32_t zero;
    uint64_t length;
    size_t   left = (size_t)(r->end - r->at);
    if (left < ENTRY) return corrupt("shorter than its stages");
    memcpy(id, r->at, sizeof id);
    memcpy(&zero, r->at + 4, sizeof zero);
    memcpy(&length, r->at + 8, sizeof length);
    left -= ENTRY;
    if (zero || length > left || padded((size_t)length) > left) return corrupt("stage longer than the payload");
    *codec = taut__codec_by_id(id[0]);
    if (!*codec || *codec == taut__codec_by_name("stack", 5)) return corrupt("unknown codec in a stage");
    if (!taut__reads_version(*codec, id[1]))
        return taut__fail(TAUT_E_VERSION, "stack payload: %s version %u, must be %u", (*codec)->name, id[1],
                          (*codec)->version);
    *payload = r->at + ENTRY;
    *bytes = (size_t)length;
    r->at += ENTRY + padded((size_t)length);
    r->left--;
    if (r->left == 0 && r->at != r->end) return corrupt("bytes left over");
    return TAUT_OK;
}

static taut_status decode_stages(const taut_call *c, const uint8_t *src, size_t len, float *dst, bool add)
{
    reader            r;
    const taut_codec *codec;
    const uint8_t    *payload;
    size_t            bytes;
    TAUT_TRY(open_payload(&r, src, len));
    for (uint32_t i = 0; r.left > 0; i++) {
        taut_call stage = taut__stack_call(c, i);
        TAUT_TRY(next_stage(&r, &codec, &payload, &bytes));
        TAUT_TRY((add || i > 0 ? taut__op_decode_add : taut__op_decode)(codec, &stage, payload, bytes, dst));
    }
    return TAUT_OK;
}

static taut_status decode(const taut_call *c, const uint8_t *src, size_t len, float *dst)
{
    return decode_stages(c, src, len, dst, false);
}

static taut_status decode_add(const taut_call *c, const uint8_t *src, size_t len, float *acc)
{
    return decode_stages(c, src, len, acc, true);
}

taut_status taut__stack_describe(const uint8_t *src, size_t len, taut_spec *spec)
{
    reader         r;
    const uint8_t *payload;
    size_t         bytes;
    *spec = (taut_spec){0};
    TAUT_TRY(open_payload(&r, src, len));
    while (r.left > 0) {
        taut_stage *s = &spec->stage[spec->stages++];
        TAUT_TRY(next_stage(&r, &s->codec, &payload, &bytes));
        for (uint32_t k = 0; k < s->codec->n_keys; k++) s->value[k] = s->codec->keys[k].fallback;
        if (s->codec->describe) TAUT_TRY(s->codec->describe(payload, bytes, s));
    }
    return TAUT_OK;
}

static const taut_codec_ops host = {.encode = encode, .decode = decode, .decode_add = decode_add};

extern const taut_codec_ops taut__stack_device;
const taut_codec            taut__codec_stack = {
               .id = 9,
               .version = 1,
               .name = "stack",
               .help = "stack:A+B+C: each stage codes what the one before left; up to 4 stages",
               .caps = TAUT_CAP_FEEDBACK, /* of a spec: taut__spec_caps */
               .ops = {[TAUT_HOST] = &host, [TAUT_CUDA] = &taut__stack_device},
};
