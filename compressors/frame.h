/* frame.h : a self-describing frame around one payload (docs/wire-format.md). Little-endian.
 *
 *   offset 0  u32 magic "TAUT"      4  u8 wire version   5  u8 flags                           6  u16 codec id
 *          8  u64 elements         16  u32 payload bytes, low   20  u16 payload bytes, high    22  u16 codec version
 *         24  u64 XXH3 of bytes 0..23 (with seed = XXH3 of the payload); 0 with flag UNCHECKED
 *         32  payload
 */
#ifndef TAUT_FRAME_H
#define TAUT_FRAME_H

#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TAUT_FRAME_HEADER = 32, TAUT_FRAME_UNCHECKED = 1 };

size_t taut__frame_capacity(const taut_spec *spec, const taut_tensor *t, size_t n); /* header included */

/* encode c->n elements of src into dst as a frame. exact: use encode_exact where the codec has it. */
taut_status taut__frame_encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err,
                               bool exact);
/* Wrap / unwrap payloads that somebody else wrote (integer sums). seal: payload of `bytes`, of c->n elements, is already at dst+HEADER. */
taut_status taut__frame_seal(const taut_codec *codec, const taut_call *c, uint8_t *dst, size_t bytes, size_t *len);
/* Checks magic, versions, codec, element count, lengths (frame == len exactly unless `more` is given, then at most), and
 * checksum, unless the frame says that it has none. codec NULL: any registered codec, reported in *found. */
taut_status taut__frame_open(const taut_codec *codec, size_t n, const uint8_t *src, size_t len, const uint8_t **payload,
                             size_t *bytes, const taut_codec **found, size_t *elems, size_t *more);
taut_status taut__frame_decode(const taut_call *c, const uint8_t *src, size_t len, float *dst);
taut_status taut__frame_decode_add(const taut_call *c, const uint8_t *src, size_t len, float *acc);

#ifdef __cplusplus
}
#endif

#endif
