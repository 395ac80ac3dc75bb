/* extern.h : what a shard that is an index has beside others: the files that it indexes. All of these do nothing for other shards. */
#ifndef TAUT_EXTERN_H
#define TAUT_EXTERN_H

#include "../shard/shard.h"

taut_status taut__extern_open(taut_shard *s); /* after meta was read: opens the files, notices those that changed */
void        taut__extern_close(taut_shard *s);
/* Whose fault is it when samples are not what they were? The file that changed, as far as its size and time tell, else the first. NULL:
 * no index. */
const char *taut__extern_blame(const taut_shard *s);
/* Files from which no samples are read, but which said where they are (.idx): still the same? */
taut_status taut__extern_verify(const taut_shard *s);

/* Reads and bytes from other files by a state of codec extern, added up. */
void taut__extern_counters(const void *state, uint64_t *reads, uint64_t *bytes);

#endif
