/* test_fuzz_foreign_data.c : the fuzz targets of the importers over their seeds, whole and damaged in many ways, without a fuzzer. What
 * can go wrong is seen by the sanitizers (make MODE=asan); without them it is that nothing crashes. LONG=1: many more. */
#define LLVMFuzzerTestOneInput fuzz_mds
#include "tests/fuzz/fuzz_mds.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_tar
#include "tests/fuzz/fuzz_tar.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_npy
#include "tests/fuzz/fuzz_npy.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_idx
#include "tests/fuzz/fuzz_idx.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_tfrecord
#include "tests/fuzz/fuzz_tfrecord.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_arrow
#include "tests/fuzz/fuzz_arrow.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_megatron
#include "tests/fuzz/fuzz_megatron.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_places
#include "tests/fuzz/fuzz_places.c"
#undef LLVMFuzzerTestOneInput
#include "../support/fuzz_case.h"

static const struct {
    const char  *name;
    fuzz_target *target;
} targets[] = {{"mds", fuzz_mds},           {"tar", fuzz_tar},           {"npy", fuzz_npy},
               {"idx", fuzz_idx},           {"tfrecord", fuzz_tfrecord}, {"arrow", fuzz_arrow},
               {"megatron", fuzz_megatron}, {"places", fuzz_places}};

START_TEST(seeds)
{
    ck_assert_int_ge(fuzz_corpus(targets[_i].target, targets[_i].name, fuzz_copies(3000, 1000000)), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fuzz_foreign");
    TCase *t = suite_case(suite, "fuzz_foreign", 600);
    setenv("TAUT_LOG", "error", 1);
    tcase_add_loop_test(t, seeds, 0, sizeof targets / sizeof *targets);
    return suite_run(suite);
}
