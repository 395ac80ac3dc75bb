/* state.h : what state.c writes and state_load.c reads. A blob, little-endian (bytes.h):
 *
 *   u32 magic "TAUS", u32 version, u64 bytes of all, u64 checksum of all but itself,
 *   u64 rank, u64 ranks, u64 steps, u64 layers, then per layer
 *     text name, u16 dtype, u16 last op + 1 (+ 256 if it has had sharded collectives), u64 elements, u64 calls, text spec,
 *     sections: residual (feedback.h), codec state, agreed statistics (agreement.c), what was measured (sample_state.c), basis (basis.h)
 *   section of what is measured in all layers (sample_state.c),
 *   section of codec=auto.
 *
 * A text is a u16 length and its characters, a section a u64 length and its bytes. */
#ifndef TAUT_STATE_H
#define TAUT_STATE_H

#include "communicator.h"

enum { TAUT_STATE_MAGIC = 0x53554154, TAUT_STATE_VERSION = 5, TAUT_STATE_SHARDED = 256 };
enum { TAUT_STATE_BYTES_AT = 8, TAUT_STATE_SUM_AT = 16, TAUT_STATE_HEADER = 24 }; /* in the blob */
enum { TAUT_LONG_SPEC = 640 }; /* any spec as text: 512 characters can be parsed, and four stages print no longer */

uint64_t    taut__state_checksum(const uint8_t *blob, size_t len); /* len >= TAUT_STATE_HEADER */
taut_status taut__state_between_steps(const taut_comm *comm, const char *call);
/* taut_state_save() without looking whether the communicator can be used; residuals: or all but them. */
taut_status taut__state_write(const taut_comm *comm, bool residuals, void *dst, size_t cap, size_t *len);

#endif
