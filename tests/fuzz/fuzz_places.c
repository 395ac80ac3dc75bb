/* fuzz_places.c : the places in an index, which are no more trusted than the files: as, type, samples, length of the places, these, then
 * the file; the second buffer calls its end a zstd frame. See fuzz_foreign.h for how to run it. max_len=512 */
#include "fuzz_foreign.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    taut__foreign f = {0};
    taut__gather  g = {0};
    taut__source  s = {0};
    uint32_t      offset[17] = {0}, number, n;
    taut_part     part = {.offset = offset};
    size_t        places, file;
    uint8_t      *copy, *bytes, *dst;
    taut__as      as;
    taut_type     type;
    if (size < 8) return 0;
    as = (taut__as)(data[0] % 5), type = (taut_type)(data[1] % 10), n = 1 + data[2] % 16;
    for (uint32_t k = 0; k < n; k++)
        offset[k + 1] = offset[k] + (uint32_t)taut_type_bytes(type) * (data[3] >> (k % 4) & 3);
    part.n = n, part.bytes = offset[n];
    places = taut__min(data[4], size - 6);
    file = size - 5 - places;
    copy = malloc(places ? places : 1), bytes = malloc(file), dst = malloc(part.bytes ? part.bytes : 1);
    memcpy(copy, data + 5, places);
    memcpy(bytes, data + 5 + places, file);
    if (taut__source_memory(&s, "fuzz", bytes, file) == TAUT_OK && taut__foreign_add_file(&f, &s, false) == TAUT_OK &&
        taut__foreign_add_buffer(&f, (taut__foreign_buffer){0, false, 0, file, file}, &number) == TAUT_OK &&
        taut__foreign_add_buffer(&f, (taut__foreign_buffer){0, true, file / 2, file - file / 2, 300}, &number) ==
            TAUT_OK)
        (void)taut__gather_part(&g, &f, as, type, copy, places, &part, dst);
    taut__gather_free(&g);
    taut__foreign_free(&f);
    free(copy);
    free(bytes);
    free(dst);
    return 0;
}
