/* stored.h : files that are complete or not there: written, flushed to the disk and checked, with a checksum over all of
 * their bytes. Functions return 0, or an exit code after fault() with the file's name; `what` opens that sentence. */
#ifndef TRAIN_STORED_H
#define TRAIN_STORED_H

#include <stddef.h>
#include <stdint.h>

typedef struct stored_sum { /* XXH3, 128 bits, of a file's bytes, and how many they are */
    uint64_t bytes, high, low;
} stored_sum;

/* stored_write() : head (text) and body become the file `path`, which is on the disk when this returns; on failure
 *  nothing is left of it. */
int stored_write(const char *what, const char *path, const char *head, const void *body, size_t n);

/* stored_replace() : the same for a text that takes the place of an older file in one step: a reader, or a crash, finds
 *  the old one or the new one. Writes `path`.part first. */
int stored_replace(const char *what, const char *path, const char *text);

/* stored_read() : all bytes and a NUL behind them; *data is freed by the caller. Larger than `most` is a failure. */
int stored_read(const char *what, const char *path, size_t most, char **data, size_t *n);

int stored_checksum(const char *what, const char *path, stored_sum *sum);

/* stored_verify() : is the file what `want` says? The sentence says what is wrong with it: missing, shorter, damaged. */
int stored_verify(const char *what, const char *path, const stored_sum *want);

#endif
