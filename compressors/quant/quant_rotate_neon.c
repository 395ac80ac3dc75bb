/* quant_rotate_neon.c : rotated buckets, quant_rotate_simd.h; vectors are two registers, tables are read element by element. */
#include "quant_rotate_vector.h"

static inline f8 f8_gather(const float *table, i8 i)
{
    f8 v;
    for (int k = 0; k < 8; k++) v[k] = table[i[k]];
    return v;
}
static inline f8 f8_pick(f8 table, i8 i)
{
    f8 v;
    for (int k = 0; k < 8; k++) v[k] = table[i[k]];
    return v;
}
static inline i8 i8_bytes(const uint8_t *table, i8 i)
{
    i8 v;
    for (int k = 0; k < 8; k++) v[k] = table[i[k]];
    return v;
}
static inline f8 f8_min(f8 a, f8 b)
{
    for (int k = 0; k < 8; k++) a[k] = a[k] < b[k] ? a[k] : b[k];
    return a;
}
static inline f8 f8_max(f8 a, f8 b)
{
    for (int k = 0; k < 8; k++) a[k] = a[k] > b[k] ? a[k] : b[k];
    return a;
}

#define ROTATE_TABLE taut__rotate_neon
#include "quant_rotate_simd.h"
