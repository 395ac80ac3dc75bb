/* fuzz_tfrecord.c : see fuzz_foreign.h. Bit 4: the checksums of records are made right. max_len=1024 */
#include "compressors/crc/crc.h"
#include "fuzz_foreign.h"

static uint32_t tfrecord_crc(const uint8_t *p, size_t n)
{
    uint32_t crc = taut__crc32c(p, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void tfrecord_make_right(uint8_t *file, size_t n)
{
    enum { HEAD = 12, TAIL = 4 };
    for (size_t at = 0; n - at >= HEAD + TAIL;) {
        uint64_t bytes = taut__get64(file + at);
        taut__put32(file + at + 8, tfrecord_crc(file + at, 8));
        if (bytes > n - at - HEAD - TAIL) return;
        taut__put32(file + at + HEAD + bytes, tfrecord_crc(file + at + HEAD, (size_t)bytes));
        at += HEAD + (size_t)bytes + TAIL;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_format(&taut__format_tfrecord, false, tfrecord_make_right, data, size);
}
