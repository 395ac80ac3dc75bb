/* half.h : 16-bit floats that stay finite. */
#ifndef TAUT_HALF_H
#define TAUT_HALF_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { TAUT_F16_INFINITY = 0x7c00, TAUT_BF16_INFINITY = 0x7f80 };

/* half[0..n), at any alignment, are src[0..n) rounded: those that are infinite though src is not become the largest finite number
 * of their sign. infinity: of the format. Returns how many. */
static inline size_t taut__half_clamp(void *half, const float *src, size_t n, uint16_t infinity)
{
    enum { AT_ONCE = 64 };
    size_t found = 0;
    for (size_t i = 0; i < n; i += AT_ONCE) {
        uint16_t h[AT_ONCE] = {0}, all = 0;
        size_t   m = n - i < AT_ONCE ? n - i : AT_ONCE;
        memcpy(h, (char *)half + 2 * i, 2 * m);
        for (size_t k = 0; k < AT_ONCE; k++) all |= (uint16_t)((h[k] & 0x7fff) == infinity);
        if (!all) continue;
        for (size_t k = 0; k < m; k++) {
            if ((h[k] & 0x7fff) != infinity || !isfinite(src[i + k])) continue;
            h[k]--; /* infinity less 1 is the largest finite number */
            found++;
        }
        memcpy((char *)half + 2 * i, h, 2 * m);
    }
    return found;
}

#endif
