/* output.h : a file that appears complete or not at all. It is written as ".NAME.part" in the folder of NAME, locked while
 * it is written, fsynced and renamed. A process that is killed leaves NAME as it was (and at most the .part, which is no
 * shard, is in nobody's way, and is reused by the next writer); a second writer of the same name is refused. */
#ifndef TAUT_OUTPUT_H
#define TAUT_OUTPUT_H

#include "bytes.h"
#include "layout.h"

typedef struct taut_output {
    int        fd;
    char      *path, *part;
    uint64_t   written; /* bytes, buffered ones included */
    taut_bytes buffer;
} taut_output;

taut_status taut__output_open(taut_output *o, const char *path);
taut_status taut__output_add(taut_output *o, const void *src, size_t bytes);
taut_status taut__output_put(taut_output *o, const void *src, size_t bytes, uint64_t offset); /* over what was added */
/* The front of a shard over its place, when all else has been added. f: version and meta_offset are given, the rest is filled in from meta. */
taut_status taut__front_put(taut_output *o, taut_front *f, const taut_bytes *meta);
taut_status taut__output_publish(taut_output *o); /* then taut__output_close() */
void        taut__output_close(taut_output *o);   /* removes the part unless it was published */

/* An unnamed temporary file in the folder of `path`. */
taut_status taut__spool_open(const char *path, int *fd);
taut_status taut__write_all(int fd, const char *name, const void *src, size_t bytes);

#endif
