/* test_fuzz_logs.c : checkpoints, traces, records and logs: the fuzz targets over their corpus and over what is written, damaged. LONG=1: a million damaged
 * inputs each. */
#define LLVMFuzzerTestOneInput fuzz_state
#include "tests/fuzz/fuzz_state.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_trace
#include "tests/fuzz/fuzz_trace.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_log
#include "tests/fuzz/fuzz_log.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_record
#include "tests/fuzz/fuzz_record.c"
#undef LLVMFuzzerTestOneInput
#include "../support/fuzz_case.h"

static const struct {
    const char  *name;
    fuzz_target *target;
} targets[] = {{"state", fuzz_state}, {"trace", fuzz_trace}, {"log", fuzz_log}, {"record", fuzz_record}};

/* What has made trouble once, or covers something that nothing else does (tests/fuzz/run.sh minimises it). */
START_TEST(corpus)
{
    ck_assert_int_ge(fuzz_corpus(targets[_i].target, targets[_i].name, fuzz_copies(1000, 1000000)), 2);
}
END_TEST

/* A checkpoint that differs in any byte is refused; with its checksum made right, whatever is accepted leaves a communicator that works. */
START_TEST(checkpoints)
{
    size_t   n;
    uint8_t *blob, *seed, *copy;
    fuzz_state(NULL, 0); /* opens */
    n = state_saved(NULL, 0);
    blob = malloc(n), seed = malloc(n + 1), copy = malloc(n + 1);
    ck_assert_uint_eq(state_saved(blob, n), n);
    seed[0] = 1;
    memcpy(seed + 1, blob, n);
    fuzz_keep("state", "saved", seed, n + 1);
    fuzz_keep("state", "patched", (const uint8_t *)"\4\40\0\2\1\0", 6);
    fuzz_seed(fuzz_state, seed, n + 1, fuzz_copies(600, 500000));
    seed[0] = 3;
    fuzz_seed(fuzz_state, seed, n + 1, fuzz_copies(200, 100000));
    for (size_t k = 0; k < fuzz_copies(2000, 500000); k++) {
        memcpy(copy, blob, n);
        fuzz_damage(copy, n);
        if (memcmp(copy, blob, n) != 0) ck_assert_int_ne(taut_state_load(state_comm, copy, n), TAUT_OK);
        ck_assert_int_ne(taut_state_load(state_comm, blob, fuzz_dice((uint32_t)n)), TAUT_OK);
    }
    free(copy);
    free(seed);
    free(blob);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fuzz_logs");
    TCase *c = suite_case(suite, "fuzz_corpus", 3000), *t = suite_case(suite, "fuzz_logs", 3000);
    setenv("TAUT_LOG", "error", 1);
    cli_speak(false);
    tcase_add_loop_test(c, corpus, 0, sizeof targets / sizeof *targets);
    tcase_add_test(t, checkpoints);
    return suite_run(suite);
}
