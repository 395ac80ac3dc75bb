/* fuzz_tar.c : see fuzz_foreign.h. Bit 4: checksums of what looks like a header are made right. max_len=12288 */
#include "fuzz_foreign.h"
#include <stdio.h>
#include <string.h>

static void tar_make_right(uint8_t *file, size_t n)
{
    enum { BLOCK = 512, SUM = 148, SUM_BYTES = 8, MAGIC = 257 };
    for (size_t at = 0; n - at >= BLOCK; at += BLOCK) {
        uint8_t *h = file + at;
        uint32_t sum = 0;
        if (memcmp(h + MAGIC, "ustar", 5) != 0) continue;
        memset(h + SUM, ' ', SUM_BYTES);
        for (size_t i = 0; i < BLOCK; i++) sum += h[i];
        snprintf((char *)h + SUM, SUM_BYTES - 1, "%06o", sum);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_format(&taut__format_tar, false, tar_make_right, data, size);
}
