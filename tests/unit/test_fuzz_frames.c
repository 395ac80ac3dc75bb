/* test_fuzz_frames.c : frames, payloads, specs and a step's exchange: the fuzz targets over their corpus and over what encoders write, damaged.
 * LONG=1: a million damaged inputs each. Needs the codecs alone, no communicator: `make sanitized` runs it too. */
#define LLVMFuzzerTestOneInput fuzz_payload
#include "tests/fuzz/fuzz_payload.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_frame
#include "tests/fuzz/fuzz_frame.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_text
#include "tests/fuzz/fuzz_text.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_step
#include "tests/fuzz/fuzz_step.c"
#undef LLVMFuzzerTestOneInput
#include "../support/codec_case.h"
#include "../support/fuzz_case.h"

static const char *const specs[] = {"none",
                                    "fp16",
                                    "bf16",
                                    "quant:bits=1",
                                    "quant:bits=4",
                                    "quant:bits=8,norm=l2",
                                    "quant:bits=3,bucket=256,rotate=1",
                                    "grid:step=0.5",
                                    "grid:step=0.3,code=rans",
                                    "grid:step=0.02,code=rans",
                                    "topk:density=0.05",
                                    "topk:density=0.4",
                                    "randk:density=0.1",
                                    "powersgd:rank=2",
                                    "stack:topk:density=0.1+quant:bits=4"};
enum { SPECS = sizeof specs / sizeof *specs, ELEMS = 700 };
static const struct {
    const char  *name;
    fuzz_target *target;
} targets[] = {{"payload", fuzz_payload}, {"frame", fuzz_frame}, {"text", fuzz_text}, {"step", fuzz_step}};

/* What has made trouble once, or covers something that nothing else does (tests/fuzz/run.sh minimises it). */
START_TEST(corpus)
{
    ck_assert_int_ge(fuzz_corpus(targets[_i].target, targets[_i].name, fuzz_copies(1000, 1000000)), 2);
}
END_TEST

/* A payload with what fuzz_payload puts in front of it; its frame behind the bytes, for fuzz_frame. */
static size_t encode(const char *spec, uint8_t *dst, size_t cap, uint8_t **frame, size_t *frame_n)
{
    static float x[ELEMS];
    size_t       shape[] = {20, ELEMS / 20}, bound;
    uint16_t     id;
    fill_normal(x, ELEMS, 1, 5);
    ck_assert_int_eq(taut_encode_bound(spec, 2, shape, &bound), TAUT_OK);
    *frame = malloc(bound + 1);
    ck_assert_int_eq(taut_encode(spec, 2, shape, x, 3, *frame + 1, bound, frame_n), TAUT_OK);
    (*frame)[0] = 1;
    memcpy(&id, *frame + 1 + 6, sizeof id);
    for (size_t i = 0; taut__codec_at(i); i++)
        if (taut__codec_at(i)->id == id) dst[0] = (uint8_t)i;
    dst[1] = (uint8_t)((ELEMS / 20 - 1) & 255), dst[2] = 0, dst[3] = 19;
    ck_assert_uint_le(*frame_n - TAUT_FRAME_HEADER + PAYLOAD_HEAD, cap);
    memcpy(dst + PAYLOAD_HEAD, *frame + 1 + TAUT_FRAME_HEADER, *frame_n - TAUT_FRAME_HEADER);
    *frame_n += 1;
    return *frame_n - 1 - TAUT_FRAME_HEADER + PAYLOAD_HEAD;
}

START_TEST(encoded)
{
    static uint8_t payload[ELEMS * 8 + 64];
    uint8_t       *frame;
    size_t         frame_n, n = encode(specs[_i], payload, sizeof payload, &frame, &frame_n);
    fuzz_keep("payload", specs[_i], payload, n);
    fuzz_keep("frame", specs[_i], frame, frame_n);
    fuzz_seed(fuzz_payload, payload, n, fuzz_copies(500, 80000));
    fuzz_seed(fuzz_frame, frame, frame_n, fuzz_copies(500, 80000));
    free(frame);
}
END_TEST

/* With its checksum on, a frame that differs in any byte is refused, whatever the damage: nothing else is the frame that was sent. */
START_TEST(checked_frames_are_refused_when_they_differ)
{
    static uint8_t payload[ELEMS * 8 + 64];
    static float   back[ELEMS];
    uint8_t       *frame;
    size_t         n, copies = fuzz_copies(1500, 100000);
    encode(specs[_i], payload, sizeof payload, &frame, &n);
    uint8_t *sent = frame + 1, *copy = malloc(n);
    n -= 1;
    ck_assert_int_eq(taut_decode(sent, n, back, ELEMS), TAUT_OK);
    for (size_t k = 0; k < copies; k++) {
        memcpy(copy, sent, n);
        fuzz_damage(copy, n);
        bool checked = !(copy[5] & TAUT_FRAME_UNCHECKED);
        if (checked && memcmp(copy, sent, n) != 0) ck_assert_int_ne(taut_decode(copy, n, back, ELEMS), TAUT_OK);
        ck_assert_int_ne(taut_decode(sent, fuzz_dice((uint32_t)n), back, ELEMS), TAUT_OK);
    }
    free(copy);
    free(frame);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fuzz_frames");
    TCase *c = suite_case(suite, "fuzz_corpus", 3000), *t = suite_case(suite, "fuzz_frames", 3000);
    setenv("TAUT_LOG", "error", 1);
    tcase_add_loop_test(c, corpus, 0, sizeof targets / sizeof *targets);
    tcase_add_loop_test(t, encoded, 0, SPECS);
    tcase_add_loop_test(t, checked_frames_are_refused_when_they_differ, 0, SPECS);
    return suite_run(suite);
}
