/* fuzz_frame.c : frames as they come from a peer or a file: a byte of options, then the frame. Bit 0: its checksum is made right, so that what
 * is behind it is reached. Any answer is fine, as long as all levels of the CPU give the same one, and an accepted frame is what it says. max_len=1024 */
#include "compressors/dispatch.h"
#include "compressors/frame.h"
#include "fuzz.h"

enum { FRAME_ELEMS = 1 << 14 };

static void frame_make_right(uint8_t *frame, size_t size)
{
    if (size < TAUT_FRAME_HEADER) return;
    frame[5] |= TAUT_FRAME_UNCHECKED;
    memset(frame + 24, 0, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t            elems, len, first_elems = 0;
    char              spec[200];
    const taut__simd *level;
    taut_status       first = TAUT_OK;
    if (size < 1) return 0;
    uint8_t *frame = fuzz_copy(data + 1, size - 1);
    size -= 1;
    if (data[0] & 1) frame_make_right(frame, size);
    for (size_t i = 0; (level = taut__simd_at(i)) != NULL; i++) {
        taut__simd_use(level);
        taut_status s = taut_frame_info(frame, size, &elems, &len, spec, sizeof spec);
        if (i == 0) first = s, first_elems = elems;
        FUZZ_HOLDS(s == first);
        if (s != TAUT_OK) continue;
        FUZZ_HOLDS(elems == first_elems && len >= TAUT_FRAME_HEADER && len <= size);
        if (elems > FRAME_ELEMS) continue;
        float *x = malloc((elems ? elems : 1) * sizeof *x);
        FUZZ_HOLDS(x);
        (void)taut_decode(frame, size, x, elems);
        FUZZ_HOLDS(taut_decode(frame, size, x, elems + 1) != TAUT_OK);
        free(x);
    }
    taut__simd_use(NULL);
    free(frame);
    return 0;
}
