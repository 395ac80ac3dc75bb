/* dense_stream.h : a stream of bytes through the model: which contexts a byte has. Text: orders 1 to 5, word, match. Images:
 * the neighbours on the left and above. */
#ifndef TAUT_DENSE_STREAM_H
#define TAUT_DENSE_STREAM_H

#include "dense_model.h"

enum { TAUT_DENSE_MATCH_BITS = 16, TAUT_DENSE_MATCH_MIN = 5 };

typedef struct taut_dense_stream {
    uint32_t rows, cols, channels; /* of an image; 0: text */
    uint32_t four;                 /* the last four bytes, the nearest in the high bits; 0 before the beginning */
    uint32_t key;                  /* hash of the last five */
    uint32_t word, before;         /* hashes of the word under way and of what came before it */
    uint32_t match, length;        /* where the longest match goes on, and how long it is; length 0: none */
    uint32_t last[1 << TAUT_DENSE_MATCH_BITS]; /* by hash of the last bytes: position behind them; 0: none */
} taut_dense_stream;

void taut__dense_stream_init(taut_dense_stream *s, uint32_t rows, uint32_t cols, uint32_t channels);

/* history[0..at) is known, and history[at..at+n) is coded. Encoding reads it, decoding writes it; false: the coder's bytes do not end
 * where that does. Bytes that end early are noticed soon, so that a few of them cannot ask for the work of many. */
void taut__dense_encode_bytes(taut_dense_stream *s, taut_dense_model *m, taut_dense_coder *a, const uint8_t *history,
                              size_t at, size_t n);
bool taut__dense_decode_bytes(taut_dense_stream *s, taut_dense_model *m, taut_dense_coder *a, uint8_t *history,
                              size_t at, size_t n);

#endif
