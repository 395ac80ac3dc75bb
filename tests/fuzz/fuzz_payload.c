/* fuzz_payload.c : payloads of every codec, decoded by the kernels of every level that this CPU runs: codec, shape, then the payload.
 * Whatever the bytes are: nothing outside the buffers is touched; all levels give the same answer, and the same floats; what is accepted
 * sets every element, none keeps what was there before; adding to zeros gives what decoding gives; codes add to the same values. max_len=1024 */
#include "compressors/dispatch.h"
#include "compressors/ops.h"
#include "fuzz.h"

enum { PAYLOAD_HEAD = 4, PAYLOAD_ELEMS = 700 };

typedef struct payload_case {
    const taut_codec *codec;
    taut_spec         spec;
    taut_tensor       tensor;
    taut_call         call;
    const uint8_t    *payload;
    size_t            bytes;
} payload_case;

static float *payload_floats_of(size_t n, uint32_t pattern)
{
    float *x = malloc((n ? n : 1) * sizeof *x);
    FUZZ_HOLDS(x);
    for (size_t i = 0; i < n; i++) memcpy(&x[i], &pattern, sizeof pattern);
    return x;
}

/* NaN and NaN are the same answer; so are 0 and -0, which sums may turn into each other. */
static bool payload_same(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(a[i] == b[i] || (a[i] != a[i] && b[i] != b[i]))) return false;
    return true;
}

static taut_status payload_decode(const payload_case *k, uint32_t before, float **out)
{
    *out = payload_floats_of(k->call.n, before);
    return taut__op_decode(k->codec, &k->call, k->payload, k->bytes, *out);
}

static void payload_codes_add(const payload_case *k)
{
    if (!(k->codec->caps & TAUT_CAP_INTEGER)) return;
    int32_t *q = calloc(k->call.n ? k->call.n : 1, sizeof *q);
    FUZZ_HOLDS(q);
    (void)taut__op_unpack_add(k->codec, &k->call, k->payload, k->bytes, q);
    free(q);
}

static void payload_at_one_level(const payload_case *k, taut_status *first, float **reference)
{
    static const uint32_t before[] = {0x7fc12345, 0x40490fdb};
    float                *x, *y = NULL, *sum = payload_floats_of(k->call.n, 0);
    taut_status           s = payload_decode(k, before[0], &x);
    if (!*reference) { /* other levels must set what this one sets */
        FUZZ_HOLDS(payload_decode(k, before[1], &y) == s);
        if (s == TAUT_OK) FUZZ_HOLDS(payload_same(x, y, k->call.n));
    }
    taut_status added = taut__op_decode_add(k->codec, &k->call, k->payload, k->bytes, sum);
    FUZZ_HOLDS((added == TAUT_OK) == (s == TAUT_OK));
    if (s == TAUT_OK) FUZZ_HOLDS(payload_same(x, sum, k->call.n));
    payload_codes_add(k);
    if (*reference) {
        FUZZ_HOLDS(s == *first);
        if (s == TAUT_OK) FUZZ_HOLDS(payload_same(x, *reference, k->call.n));
        free(x);
    } else *first = s, *reference = x;
    free(y);
    free(sum);
}

static void payload_run(payload_case *k)
{
    const taut__simd *level;
    taut_status       first = TAUT_OK;
    float            *reference = NULL;
    for (size_t i = 0; (level = taut__simd_at(i)) != NULL; i++) {
        taut__simd_use(level);
        payload_at_one_level(k, &first, &reference);
    }
    taut__simd_use(NULL);
    free(reference);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    payload_case k = {0};
    size_t       codecs = 0;
    if (size < PAYLOAD_HEAD) return 0;
    while (taut__codec_at(codecs)) codecs++;
    k.codec = taut__codec_at(data[0] % codecs);
    size_t cols = 1 + (data[1] | (size_t)data[2] << 8) % PAYLOAD_ELEMS, rows = 1 + data[3] % 8;
    if (rows * cols > PAYLOAD_ELEMS) rows = 1;
    k.spec = (taut_spec){.stages = 1, .stage = {{.codec = k.codec}}};
    for (uint32_t i = 0; i < k.codec->n_keys; i++) k.spec.stage[0].value[i] = k.codec->keys[i].fallback;
    k.tensor = (taut_tensor){.elems = rows * cols, .rows = rows, .cols = cols};
    k.call = (taut_call){.spec = &k.spec, .tensor = &k.tensor, .n = rows * cols, .shared_seed = 3};
    uint8_t *copy = fuzz_copy(data + PAYLOAD_HEAD, size - PAYLOAD_HEAD);
    k.payload = copy, k.bytes = size - PAYLOAD_HEAD;
    payload_run(&k);
    free(copy);
    return 0;
}
