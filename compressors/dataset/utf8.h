/* utf8.h : is it UTF-8? */
#ifndef TAUT_UTF8_H
#define TAUT_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* The first byte of p[0..n) that is no valid UTF-8; n if all is. A sequence cut off at n counts as valid where `more`
 * follows: *tail is then how many bytes of it there are. */
size_t taut__utf8_bad(const char *p, size_t n, bool more, size_t *tail);

#endif
