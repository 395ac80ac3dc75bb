/* test_fuzz_import_data.c : the fuzz target of what `taut data pack` reads, over its seeds, whole and damaged in many ways, without a fuzzer. LONG=1: many
 * more. */
#include "tests/fuzz/fuzz_import.c"
#include "../support/fuzz_case.h"

START_TEST(seeds) { ck_assert_int_ge(fuzz_corpus(LLVMFuzzerTestOneInput, "import", fuzz_copies(3000, 1000000)), 8); }
END_TEST

int main(void)
{
    Suite *suite = suite_create("fuzz_import");
    TCase *t = suite_case(suite, "fuzz_import", 600);
    tcase_add_test(t, seeds);
    return suite_run(suite);
}
