/* foreign_source.h : a file of somebody else's, to be read in any order and never trusted: every read is checked against its size. */
#ifndef TAUT_SOURCE_H
#define TAUT_SOURCE_H

#include "../../../comm/base/base.h"

typedef struct taut__source { /* zero-initialise; taut__source_close() */
    char          *name;
    int            fd;     /* valid where memory is NULL and name is not */
    const uint8_t *memory; /* the file's bytes, for tests; NULL: read from fd */
    uint64_t       bytes;
    int64_t        mtime_s;
    uint32_t       mtime_ns;
    uint8_t       *window; /* what taut__source_view() has read last */
    size_t         window_bytes, window_cap;
    uint64_t       window_at;
} taut__source;

/* TAUT_E_IO: cannot be opened, no regular file; TAUT_E_CORRUPT: empty. */
taut_status taut__source_open(taut__source *s, const char *path);
/* The same from memory, borrowed. */
taut_status taut__source_memory(taut__source *s, const char *name, const void *bytes, uint64_t n);
void        taut__source_close(taut__source *s);

/* taut__source_read() : dst[0..n) from offset `at`. TAUT_E_CORRUPT where the file does not reach there; the message names it and
 *  `what`. Any number of threads. */
taut_status taut__source_read(const taut__source *s, void *dst, size_t n, uint64_t at, const char *what);

/* taut__source_view() : n bytes (at most 1 GiB) at offset `at`, borrowed until the next view of this source; small views near each
 *  other cost one read together. One thread. */
taut_status taut__source_view(taut__source *s, uint64_t at, size_t n, const char *what, const uint8_t **p);

/* XXH64 of the whole file. */
taut_status taut__source_hash(taut__source *s, uint64_t *hash);

#endif
