/* fuzz_arrow.c : see fuzz_foreign.h. max_len=12288 */
#include "fuzz_foreign.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_format(&taut__format_arrow, false, NULL, data, size);
}
