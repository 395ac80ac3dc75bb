/* fuzz_foreign.h : bytes of others into an importer of `taut data index`. Each fuzz_FORMAT.c says which; tests/fuzz/run.sh builds and
 * runs them with clang's libFuzzer on the seeds in tests/fuzz/corpus/FORMAT, tests/unit/test_fuzz_foreign_data.c without it.
 * The first byte chooses options, the rest is a file (Megatron: u16 bytes of the .idx, it, the .bin). Where a format has checksums, bit 4 of the
 * options lets the target make them right, so that what is behind them is reached. */
#ifndef FUZZ_FOREIGN_H
#define FUZZ_FOREIGN_H

#include "compressors/dataset/import/formats.h"
#include <stdint.h>
#include <stdlib.h>

/* Reads all samples of a field in small blocks, as readers of an index would, into memory of exactly the size. */
static inline void fuzz_read_field(const taut__import *im, const taut__import_field *f)
{
    enum { EACH = 7 };
    taut__places_cursor cursor = {0};
    taut__gather        g = {0};
    taut_bytes          places = {0};
    for (uint64_t first = 0; first < im->samples && first < 100 * EACH; first += EACH) {
        uint32_t  offset[EACH + 1] = {0}, n = im->samples - first < EACH ? (uint32_t)(im->samples - first) : EACH;
        taut_part part = {.n = n, .offset = offset};
        uint64_t  bytes = 0;
        uint8_t  *dst;
        for (uint32_t k = 0; k < n; k++) {
            bytes += !f->field.variable ? f->field.sample_bytes
                     : f->decoded       ? f->decoded[first + k]
                                        : taut__places_length(&f->places, first + k);
            offset[k + 1] = (uint32_t)bytes;
            if (bytes > 1 << 24) goto out;
        }
        part.bytes = (size_t)bytes;
        places.n = 0;
        if (taut__places_write(&f->places, &cursor, n, !taut__as_same_length(f->as), &places) != TAUT_OK ||
            !(dst = malloc(bytes ? bytes : 1)))
            goto out;
        (void)taut__gather_part(&g, &im->foreign, f->as, f->field.type, places.p, places.n, &part, dst);
        free(dst);
    }
out:
    taut__gather_free(&g);
    taut__bytes_free(&places);
}

typedef void fuzz_make_right(uint8_t *file, size_t n); /* NULL: nothing to be made right */

static inline int fuzz_format(const taut__format *format, bool two, fuzz_make_right *right, const uint8_t *data,
                              size_t size)
{
    static const char *const select[] = {"x"};
    taut_index_options       o = TAUT_INDEX_INIT;
    static taut__import      import; /* taut__import_free() leaves it empty: nothing is cleared twice */
    taut__import            *im = &import;
    taut__source             s = {0};
    uint8_t                 *copy[2] = {NULL, NULL};
    size_t                   n[2];
    taut_status              rc = TAUT_OK;
    if (size < 4) return 0;
    o.bytes = data[0] & 1, o.raw = data[0] >> 1 & 1;
    if (data[0] & 4) o.label = "name";
    if (data[0] & 8) o.select = select, o.nselect = 1;
    if (!(data[0] & 16)) right = NULL;
    n[0] = size - 1, n[1] = 0;
    data++;
    if (two) {
        n[1] = taut__min(taut__get16(data), size - 3);
        data += 2;
        n[0] = size - 3 - n[1];
    }
    for (int i = 0; i < 1 + two && rc == TAUT_OK;
         i++) { /* memory of exactly the size, so that reading beyond it is seen */
        copy[i] = malloc(n[i] ? n[i] : 1);
        memcpy(copy[i], i ? data : data + n[1], n[i]);
        if (right) right(copy[i], n[i]);
        rc = taut__source_memory(&s, i ? "fuzz.idx" : "fuzz.bin", copy[i], n[i]);
        if (rc == TAUT_OK) rc = taut__foreign_add_file(&im->foreign, &s, i == 1);
    }
    im->options = &o;
    if (rc == TAUT_OK && taut__import_scan(im, format) == TAUT_OK)
        for (size_t f = 0; f < im->fields; f++) fuzz_read_field(im, &im->field[f]);
    taut__import_free(im);
    free(copy[0]);
    free(copy[1]);
    return 0;
}

#endif
