/* test_fuzz_plan_data.c : plans of data sets: the fuzz target over its corpus and damaged copies. LONG=1: a million. */
#include "tests/fuzz/fuzz_plan.c"
#include "../support/fuzz_case.h"

START_TEST(corpus) { ck_assert_int_ge(fuzz_corpus(LLVMFuzzerTestOneInput, "plan", fuzz_copies(2000, 1000000)), 2); }
END_TEST

int main(void)
{
    Suite *suite = suite_create("fuzz_plan");
    TCase *t = suite_case(suite, "fuzz_plan", 3000);
    setenv("TAUT_LOG", "error", 1);
    tcase_add_test(t, corpus);
    return suite_run(suite);
}
