/* pool.h : the samples that a method chooses from, one field of them: what a plan's earlier stages left of some shards, or a text. */
#ifndef TAUT_POOL_H
#define TAUT_POOL_H

#include "../../../comm/base/base.h"
#include "../../../comm/taut_data.h"

typedef struct taut__pool { /* zero-initialise; taut__pool_close() */
    uint64_t  n;            /* samples; they are called places 0..n-1 */
    char      name[TAUT_FIELD_NAME];
    taut_kind kind;
    taut_type type;
    uint64_t  hash; /* of its content: of the shards' hashes, or of the text */

    /* of shards */
    size_t                   shards;
    const taut_shard *const *shard;
    taut_shard              *own;   /* a shard that the pool opened */
    uint64_t                *first; /* shards + 1: sample numbers */
    uint64_t                *id;    /* of each place, the sample's number; NULL: the place itself */
    uint64_t                *visit; /* places in the order of their ids; NULL: as they are */
    taut_reader            **reader;
    uint32_t                *field;

    /* of a text */
    uint8_t  *text;
    uint64_t *at; /* n + 1: where each sample begins */
} taut__pool;

/* What a pool needs of the field: the first one that fits is taken where the user names none. */
typedef enum taut__pool_want {
    TAUT__WANT_TEXT,
    TAUT__WANT_FLOATS,
    TAUT__WANT_ANY,
    TAUT__WANT_NONE
} taut__pool_want; /* NONE: nothing is read */

/* taut__pool_open() : places id[0..n) (taken over, taut__alloc; NULL: all) of shards that stay open. field NULL: the first that fits.
 *  TAUT_E_INVALID names a shard without it, and its fields. */
taut_status taut__pool_open(taut__pool *p, size_t shards, const taut_shard *const *shard, uint64_t *id, uint64_t n,
                            const char *field, taut__pool_want want);
/* taut__pool_open_file() : a target: a shard *.taut, or any other file as a text, cut into windows of 1 KiB. */
taut_status taut__pool_open_file(taut__pool *p, const char *path, const char *field, taut__pool_want want);
void        taut__pool_close(taut__pool *p);

/* taut__pool_get() : the field of one sample, borrowed until the next call. */
taut_status taut__pool_get(taut__pool *p, uint64_t place, const uint8_t **data, size_t *bytes);
/* Where the sample of a place lies, for messages: "sample 17 of a.taut". */
void taut__pool_where(const taut__pool *p, uint64_t place, char *dst, size_t cap);

/* The place that is visited k-th, and the run of a rank: [begin, end). */
static inline uint64_t taut__pool_visited(const taut__pool *p, uint64_t k) { return p->visit ? p->visit[k] : k; }
void taut__pool_part(const taut__pool *p, uint32_t rank, uint32_t ranks, uint64_t *begin, uint64_t *end);

#endif
