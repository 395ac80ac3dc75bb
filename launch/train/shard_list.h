/* shard_list.h : the shards that an option names. */
#ifndef TRAIN_SHARD_LIST_H
#define TRAIN_SHARD_LIST_H

#include <stddef.h>

/* shard_list() : "a.taut", "a.taut,b.taut", or a folder: its *.taut in the order of their names. Returns 0, or an exit code after
 *  fault(), which says `option`. */
int  shard_list(const char *text, char ***path, size_t *n, const char *option);
void shard_list_free(char **path, size_t n);

#endif
