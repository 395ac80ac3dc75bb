/* grid_payload.h : the payload around the chunks, for grid.c (floats) and grid_codes.c (integers): header, chunk table, lengths.
 * docs/wire-format.md. */
#ifndef TAUT_GRID_PAYLOAD_H
#define TAUT_GRID_PAYLOAD_H

#include "grid.h"
#include "grid_rans.h"

enum {
    GRID_KIND_RAW = 0,
    GRID_KIND_ZERO = 1,
    GRID_KIND_PACKED = 2,
    GRID_KIND_RANS1 = 3, /* no longer written or read: rans of versions 1 and 2 */
    GRID_KIND_RANS2 = 4,
    GRID_KIND_RANS = 5,      /* since version 4 */
    GRID_KIND_TURNED = 0x40, /* elements are coordinates in a basis that both sides hold; since version 3 */
    GRID_KIND_SCALED = 0x80,
    GRID_HEADER = 8,
    GRID_ENTRY = 4
};
/* With steps near the largest float the code above a finite value may stand for an infinite one: it stands for the largest then.
 * Agreed steps only: elsewhere blocks of floats may hold infinities. */
#define GRID_HUGE_STEP 0x1p90f

typedef struct grid_header {
    unsigned kind; /* without the SCALED bit */
    bool     scaled, turned;
    float    step;
    double   dead;
} grid_header;

static inline size_t grid_chunks_of(size_t n) { return taut__ceil_div(n, GRID_CHUNK); }
static inline size_t grid_chunk_elems(size_t n, size_t chunk) { return taut__min(GRID_CHUNK, n - chunk * GRID_CHUNK); }
static inline bool   grid_uses_rans(const taut_call *c) { return taut__stage(c)->value[GRID_KEY_CODE] == GRID_RANS; }

taut_status taut__grid_corrupt(const char *what);
taut_status taut__grid_room(const taut_call *c, size_t cap);
void        taut__grid_put_header(const taut_call *c, unsigned kind, float step, double dead, uint8_t *dst);
/* Checks header, chunk table and lengths, so that the chunks can be walked without looking at them again. */
taut_status taut__grid_open(const taut_call *c, const uint8_t *src, size_t len, grid_header *h);
/* Ends a payload whose chunks lie behind the table, up to dst + end; returns its bytes. */
size_t taut__grid_close(const taut_call *c, float step, uint8_t *dst, size_t end, bool any);
/* The chunks of an opened payload, of kind PACKED or RANS -> dst, floats or codes. */
taut_status taut__grid_decode_chunks(const taut_call *c, const grid_header *h, const uint8_t *src, grid_sink sink,
                                     void *dst);
void        taut__grid_stay_finite(const taut_call *c, float step, float *dst);
void        taut__grid_finite_errors(float step, size_t n, float *err);

extern const taut_integer_ops taut__grid_integer; /* grid_codes.c */

#endif
