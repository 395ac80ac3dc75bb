/* fuzz_idx.c : see fuzz_foreign.h. max_len=1024 */
#include "fuzz_foreign.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_format(&taut__format_idx, false, NULL, data, size);
}
