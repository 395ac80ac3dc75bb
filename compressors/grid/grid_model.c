/* grid_model.c : see grid_model.h. */
#include "grid_model.h"
#include <pthread.h>

/* Frequencies of magnitudes, of 2048: 0, then one sign of 1, 2, ... grid_top. From the density of
 * grid_model.h with the mean in the middle of the class, rounded, at least 1, the remainder on 0;
 * tests/unit/test_grid_model.c derives them anew. */
static const uint16_t frequency[GRID_SHAPES][GRID_MODELS][16] = {
    {
        /* 2 */
        {1900, 72, 1, 1},
        {1836, 104, 1, 1},
        {1738, 152, 1, 1, 1},
        {1616, 213, 1, 1, 1},
        {1436, 295, 8, 1, 1, 1},
        {1228, 374, 32, 1, 1, 1, 1},
        {990, 426, 91, 8, 1, 1, 1, 1},
        {776, 423, 166, 37, 5, 1, 1, 1, 1, 1},
        {576, 372, 222, 97, 31, 7, 1, 1, 1, 1, 1, 1, 1},
        {428, 303, 228, 144, 76, 34, 13, 4, 1, 1, 1, 1, 1, 1, 1, 1},
        {310, 231, 199, 157, 113, 74, 45, 25, 12, 6, 2, 1, 1, 1, 1, 1},
        {232, 173, 160, 141, 118, 95, 72, 53, 37, 24, 15, 9, 5, 3, 2, 1},
    },
    {
        /* 1.4 */
        {1900, 72, 1, 1},
        {1838, 103, 1, 1},
        {1746, 147, 2, 1, 1},
        {1626, 202, 7, 1, 1},
        {1464, 269, 20, 1, 1, 1},
        {1278, 330, 48, 4, 1, 1, 1},
        {1060, 374, 96, 18, 3, 1, 1, 1},
        {856, 382, 148, 47, 12, 3, 1, 1, 1, 1},
        {656, 354, 190, 89, 37, 14, 5, 2, 1, 1, 1, 1, 1},
        {494, 305, 202, 123, 70, 37, 19, 9, 4, 2, 1, 1, 1, 1, 1, 1},
        {370, 244, 188, 137, 96, 65, 42, 27, 16, 10, 6, 3, 2, 1, 1, 1},
        {272, 190, 161, 131, 104, 81, 62, 46, 34, 24, 17, 12, 8, 6, 4, 8},
    },
    {
        /* 1 */
        {1904, 70, 1, 1},
        {1844, 98, 3, 1},
        {1756, 137, 7, 1, 1},
        {1648, 183, 15, 1, 1},
        {1502, 236, 31, 4, 1, 1},
        {1336, 285, 56, 11, 2, 1, 1},
        {1142, 324, 92, 26, 7, 2, 1, 1},
        {946, 339, 130, 50, 19, 7, 3, 1, 1, 1},
        {756, 328, 161, 79, 39, 19, 9, 5, 2, 1, 1, 1, 1},
        {586, 297, 176, 104, 62, 36, 22, 13, 8, 4, 3, 2, 1, 1, 1, 1},
        {446, 252, 173, 118, 81, 56, 38, 26, 18, 12, 8, 6, 4, 3, 2, 4},
        {334, 205, 156, 119, 90, 69, 52, 40, 30, 23, 17, 13, 10, 8, 6, 19},
    },
    {
        /* 0.7 */
        {1910, 65, 3, 1},
        {1856, 89, 6, 1},
        {1776, 121, 12, 2, 1},
        {1682, 157, 21, 4, 1},
        {1556, 198, 36, 9, 2, 1},
        {1410, 237, 56, 17, 6, 2, 1},
        {1240, 270, 83, 30, 12, 5, 2, 2},
        {1066, 289, 109, 47, 22, 11, 6, 3, 2, 2},
        {882, 292, 133, 68, 37, 21, 12, 7, 5, 3, 2, 1, 2},
        {712, 279, 148, 86, 53, 33, 22, 14, 10, 7, 5, 3, 2, 2, 1, 3},
        {556, 251, 152, 99, 67, 47, 33, 24, 18, 13, 10, 7, 6, 4, 3, 12},
        {438, 217, 145, 103, 75, 56, 43, 33, 26, 20, 16, 13, 10, 8, 7, 33},
    },
};

static grid_tables    tables;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* 256 * -log2(f / 2048), rounded down; integers, so that every machine chooses alike */
static uint16_t price_of(uint32_t f)
{
    uint32_t whole = 0, part = 0;
    uint64_t v = (uint64_t)f << 32;
    while (v < (uint64_t)GRID_PROBS << 32) {
        v <<= 1;
        whole++;
    }
    v >>= 12; /* f * 2^whole / 2048 in 1..2 as 31 fraction bits: its log2 is what `whole` counted too much */
    for (int bit = 7; bit >= 0; bit--) {
        v = v * v >> 31;
        if (v >= (UINT64_C(1) << 32)) {
            v >>= 1;
            part |= 1u << bit;
        }
    }
    return (uint16_t)(whole * 256 - part);
}

static void add_symbol(grid_model *m, unsigned symbol, uint32_t *start, uint32_t f)
{
    unsigned log = 0;
    while ((1u << log) < f) log++;
    memset(m->symbol + *start, (int)symbol, f);
    m->range[symbol] = *start | f << GRID_RANGE_F | log << GRID_RANGE_SHIFT;
    m->rcp[symbol] = (uint32_t)(((UINT64_C(1) << (31 + log)) + f - 1) / f);
    if (*start) m->starts[*start / 32] |= UINT32_C(1) << *start % 32;
    for (uint32_t k = *start / 32 + 1; k < GRID_PROBS / 32; k++) m->before[k] = (uint8_t)symbol;
    m->factor[symbol] = f | f << 20;
    m->rest[symbol] = (f << 19) - *start;
    *start += f;
}

static void build(void)
{
    for (unsigned s = 0; s < GRID_SHAPES; s++)
        for (unsigned c = 0; c < GRID_MODELS; c++) {
            const uint16_t *f = frequency[s][c];
            uint32_t        start = 0, beyond = 0;
            add_symbol(&tables.model[s][c], 0, &start, f[0]);
            for (unsigned v = 1; v <= grid_top[c]; v++) {
                add_symbol(&tables.model[s][c], 2 * v - 1, &start, f[v]);
                add_symbol(&tables.model[s][c], 2 * v, &start, f[v]);
                if (v > 1) beyond += 2u * f[v];
            }
            tables.price[s][c][0] = price_of(f[0]);
            tables.price[s][c][1] = price_of(f[1]);
            tables.price[s][c][2] = price_of(beyond ? beyond : 1);
        }
}

const grid_model *taut__grid_models(unsigned shape)
{
    pthread_once(&once, build);
    return tables.model[shape];
}

const grid_tables *taut__grid_tables(void)
{
    pthread_once(&once, build);
    return &tables;
}

unsigned taut__grid_choose_shape(uint32_t count[GRID_MODELS][3])
{
    unsigned best = 0;
    uint64_t least = UINT64_MAX;
    pthread_once(&once, build);
    for (unsigned s = 0; s < GRID_SHAPES; s++) {
        uint64_t bits = 0;
        for (unsigned c = 0; c < GRID_MODELS; c++)
            for (unsigned k = 0; k < 3; k++) bits += (uint64_t)count[c][k] * tables.price[s][c][k];
        if (bits < least) {
            least = bits;
            best = s;
        }
    }
    return best;
}
