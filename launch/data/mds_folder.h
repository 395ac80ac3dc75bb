/* mds_folder.h : the shards of a data set of Mosaic Streaming, by its index.json. */
#ifndef TAUT_MDS_FOLDER_H
#define TAUT_MDS_FOLDER_H

#include <stddef.h>

/* Appends the paths of the folder's shards to *files, in their order; free() each and the list, also after a failure. CLI_FAILED: no
 * index.json, of another format, compressed shards, or one that is not there. */
int mds_folder_list(const char *folder, char ***files, size_t *n);

#endif
