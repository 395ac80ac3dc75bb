/* tags.h : how many messages of each tag were sent to a rank, and are wanted of it. */
#ifndef TAUT_TAG_TABLE_H
#define TAUT_TAG_TABLE_H

#include "../base/base.h"

typedef struct taut__tag_counts {
    int      tag; /* -1: a free place */
    uint64_t sent, wanted;
} taut__tag_counts;

typedef struct taut__tag_table { /* of zeros at first; open addressing, at most half full */
    taut__tag_counts *place;
    size_t            n, room; /* room: a power of two */
} taut__tag_table;

/* tag: 0 or above. *c is good until the next call. */
taut_status taut__tags_find(taut__tag_table *t, int tag, taut__tag_counts **c);
void        taut__tags_free(taut__tag_table *t);

#endif
