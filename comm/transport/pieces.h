/* pieces.h : the bytes of pieces of messages, and of answers to them, as assured.c exchanges them. Little-endian.
 *
 *   piece    u32 magic, tag, bytes, 0 | u64 job, number, seq, total, at | u64 sum of the payload, sum of the 64 bytes before | payload
 *   answer   u32 magic, what | u64 job, number, 0 | u64 sum of the 32 bytes before
 *
 * Sums are XXH3 of 64 bits; the payload's is seeded with the number, so that pieces that were mixed up do not fit each other. */
#ifndef TAUT_PIECES_H
#define TAUT_PIECES_H

#include "../base/bytes.h"
#include <xxhash.h>

enum { TAUT_PIECE_HEAD = 72, TAUT_PIECE = 1 << 16, TAUT_PIECE_ANSWER = 40, TAUT_PIECE_MAGIC = 0x61757431 };
enum { TAUT_PIECE_GOOD = 1, TAUT_PIECE_AGAIN = 2, TAUT_PIECE_ALL = 3 };

typedef struct taut__piece_head {
    uint64_t job, number;    /* of the communicator; of all pieces from this rank to that one */
    uint64_t seq, total, at; /* of the messages of this tag; bytes of the whole message; where in it this piece lies */
    uint32_t tag, bytes;     /* of the message; of this piece, without the header */
} taut__piece_head;

static inline void taut__put_head(uint8_t *dst, const taut__piece_head *h)
{
    taut__put32(dst, TAUT_PIECE_MAGIC), taut__put32(dst + 4, h->tag), taut__put32(dst + 8, h->bytes),
        taut__put32(dst + 12, 0);
    taut__put64(dst + 16, h->job), taut__put64(dst + 24, h->number), taut__put64(dst + 32, h->seq),
        taut__put64(dst + 40, h->total);
    taut__put64(dst + 48, h->at);
    taut__put64(dst + 56, XXH3_64bits_withSeed(dst + TAUT_PIECE_HEAD, h->bytes, h->number));
    taut__put64(dst + 64, XXH3_64bits(dst, 64));
}

/* False: not even the header is what was sent. */
static inline bool taut__get_head(const uint8_t *src, size_t bytes, taut__piece_head *h)
{
    if (bytes < TAUT_PIECE_HEAD || taut__get32(src) != TAUT_PIECE_MAGIC ||
        taut__get64(src + 64) != XXH3_64bits(src, 64))
        return false;
    *h = (taut__piece_head){.job = taut__get64(src + 16),
                            .number = taut__get64(src + 24),
                            .seq = taut__get64(src + 32),
                            .total = taut__get64(src + 40),
                            .at = taut__get64(src + 48),
                            .tag = taut__get32(src + 4),
                            .bytes = taut__get32(src + 8)};
    return true;
}

/* Of a piece with this header: all of it is there, as it was sent. */
static inline bool taut__piece_whole(const uint8_t *src, size_t bytes, const taut__piece_head *h)
{
    return bytes == TAUT_PIECE_HEAD + (size_t)h->bytes && h->bytes <= TAUT_PIECE && h->at <= h->total &&
           h->bytes <= h->total - h->at &&
           taut__get64(src + 56) == XXH3_64bits_withSeed(src + TAUT_PIECE_HEAD, h->bytes, h->number);
}

static inline void taut__put_answer(uint8_t *dst, uint64_t job, uint32_t what, uint64_t number)
{
    taut__put32(dst, TAUT_PIECE_MAGIC), taut__put32(dst + 4, what);
    taut__put64(dst + 8, job), taut__put64(dst + 16, number), taut__put64(dst + 24, 0);
    taut__put64(dst + 32, XXH3_64bits(dst, 32));
}

static inline bool taut__get_answer(const uint8_t *src, size_t bytes, uint64_t *job, uint32_t *what, uint64_t *number)
{
    if (bytes != TAUT_PIECE_ANSWER || taut__get32(src) != TAUT_PIECE_MAGIC ||
        taut__get64(src + 32) != XXH3_64bits(src, 32))
        return false;
    *what = taut__get32(src + 4), *job = taut__get64(src + 8), *number = taut__get64(src + 16);
    return true;
}

#endif
