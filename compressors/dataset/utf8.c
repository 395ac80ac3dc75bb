/* utf8.c : by table 3-7 of Unicode 15: which bytes may follow which. */
#include "utf8.h"

static size_t utf8_length(const unsigned char *p, size_t n)
{
    unsigned low = 0x80, high = 0xbf;
    size_t   len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (p[0] == 0xe0) low = 0xa0;
    if (p[0] == 0xed) high = 0x9f;
    if (p[0] == 0xf0) low = 0x90;
    if (p[0] == 0xf4) high = 0x8f;
    for (size_t i = 1; i < len && i < n; i++) {
        if (p[i] < low || p[i] > high) return 0;
        low = 0x80, high = 0xbf;
    }
    return len;
}

size_t taut__utf8_bad(const char *text, size_t n, bool more, size_t *tail)
{
    const unsigned char *p = (const unsigned char *)text;
    *tail = 0;
    for (size_t i = 0, len; i < n; i += len) {
        len = p[i] < 0x80 ? 1 : utf8_length(p + i, n - i);
        if (len == 0) return i;
        if (len > n - i) {
            if (!more) return i;
            *tail = n - i;
            return n;
        }
    }
    return n;
}
