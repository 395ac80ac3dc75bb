/* grid_portable.c : the specification of the grid kernels; see grid_unit.h (rounding) and grid_block.h
 * (bits). */
#include "grid_rans.h"

static size_t encode(const grid_unit *u, const float *x, size_t n, float *err, uint8_t *dst)
{
    grid_writer     w = {.p = dst};
    grid_class_list l;
    grid_list_init(&l);
    for (size_t i = 0; i < n; i += GRID_BLOCK)
        grid_list_add(&l, grid_block_encode(u, x + i, i, taut__min(GRID_BLOCK, n - i), err ? err + i : NULL, &w));
    return grid_list_close(&l, &w, dst);
}

static size_t pack(const int32_t *q, size_t n, uint8_t *dst)
{
    grid_writer     w = {.p = dst};
    grid_class_list l;
    grid_list_init(&l);
    for (size_t i = 0; i < n; i += GRID_BLOCK) {
        grid_block b;
        grid_block_load(q + i, taut__min(GRID_BLOCK, n - i), &b);
        grid_list_add(&l, grid_block_put(&w, &b));
    }
    return grid_list_close(&l, &w, dst);
}

static bool quantize(const grid_unit *u, const float *x, size_t n, int32_t *q, float *err, int32_t limit)
{
    for (size_t i = 0; i < n; i += GRID_BLOCK)
        if (!grid_quantize_plain(u, x + i, i, taut__min(GRID_BLOCK, n - i), q + i, err ? err + i : NULL, limit))
            return false;
    return true;
}

static size_t quantize_pack(const grid_unit *u, const float *x, size_t n, int32_t *q, float *err, int32_t limit,
                            uint8_t *dst)
{
    return quantize(u, x, n, q, err, limit) ? pack(q, n, dst) : GRID_NO_CODES;
}

/* dst: floats or, for GRID_CODES, int32. Both have 4 bytes. */
static bool decode_into(const grid_unit *u, const uint8_t *src, size_t len, size_t n, grid_sink sink, void *dst)
{
    uint8_t  cls[GRID_CHUNK_BLOCKS];
    unsigned blocks = (unsigned)taut__ceil_div(n, GRID_BLOCK);
    size_t   body;
    if (!grid_classes_get(src, len, blocks, cls, &body)) return false;
    grid_reader r = {src, body, 0};
    for (unsigned k = 0; k < blocks; k++) {
        size_t   i = (size_t)k * GRID_BLOCK, m = taut__min(GRID_BLOCK, n - i);
        uint8_t *out = (uint8_t *)dst + 4 * i;
        if (cls[k] != GRID_ZERO) {
            if (!grid_block_decode(u, &r, cls[k], i, m, sink, out)) return false;
        } else if (sink == GRID_STORE) {
            memset(out, 0, 4 * m);
        }
    }
    return (r.pos + 7) / 8 == body;
}
static bool decode(const grid_unit *u, const uint8_t *src, size_t len, size_t n, float *dst, bool add)
{
    return decode_into(u, src, len, n, add ? GRID_ADD : GRID_STORE, dst);
}
static bool unpack_add(const uint8_t *src, size_t len, size_t n, int32_t *acc)
{
    return decode_into(NULL, src, len, n, GRID_CODES, acc);
}

static bool unpack_values(const grid_unit *u, const uint8_t *src, size_t len, size_t n, int32_t *acc, float *dst)
{
    if (!unpack_add(src, len, n, acc)) return false;
    grid_dequantize_all(u, acc, n, dst);
    return true;
}

static void front_encode(const grid_unit *u, const float *x, size_t n, float *err, struct grid_front *f)
{
    for (size_t i = 0; i < n; i += GRID_BLOCK)
        grid_front_encode(f, u, x + i, i, taut__min(GRID_BLOCK, n - i), err ? err + i : NULL);
}

static void front_pack(const int32_t *q, size_t n, struct grid_front *f)
{
    for (size_t i = 0; i < n; i += GRID_BLOCK) {
        grid_block b;
        grid_block_load(q + i, taut__min(GRID_BLOCK, n - i), &b);
        grid_front_block(f, &b);
    }
}

static uint8_t *lanes_put(const grid_model *models, const struct grid_front *f, uint32_t *state, uint8_t *words_end)
{
    const uint8_t *symbol = f->symbol + f->symbols;
    for (unsigned k = f->blocks; k-- > 0;) {
        if (!grid_has_symbols(f->cls[k])) continue;
        const grid_model *m = models + grid_class_model(f->cls[k]);
        for (unsigned i = GRID_BLOCK; i-- > 0;) {
            uint32_t *x = state + i % GRID_LANES;
            *x = grid_lane_put(*x, m, *--symbol, &words_end);
        }
    }
    return words_end;
}

static bool block_symbols(grid_back *b, unsigned cls, uint8_t symbol[GRID_BLOCK])
{
    const grid_model *m = b->models + grid_class_model(cls);
    for (unsigned i = 0; i < GRID_BLOCK; i++) {
        uint32_t x = grid_lane_get(b->state[i % GRID_LANES], m, symbol + i);
        if (x < GRID_STATE_LOW) {
            if (b->words == b->words_end) return false;
            x = x << 16 | b->words[0] | (uint32_t)b->words[1] << 8;
            b->words += 2;
        }
        b->state[i % GRID_LANES] = x;
    }
    return true;
}

static bool lanes_get_one(grid_back *b, grid_sink sink)
{
    for (unsigned k = 0; k < b->blocks; k++) {
        uint8_t symbol[GRID_BLOCK];
        bool    ok = grid_has_symbols(b->cls[k])
                         ? block_symbols(b, b->cls[k], symbol) && grid_back_give(b, k, symbol, sink)
                         : grid_back_bare(b, k, sink);
        if (!ok) return false;
    }
    return true;
}
static bool lanes_get(grid_back *b, unsigned count, int sink)
{
    return lanes_get_one(b, sink) && (count == 1 || lanes_get_one(b + 1, sink));
}

const struct taut__grid_kernels taut__grid_portable = {
    .encode = encode,
    .quantize = quantize,
    .pack = pack,
    .decode = decode,
    .unpack_add = unpack_add,
    .dequantize = grid_dequantize_all,
    .quantize_pack = quantize_pack,
    .unpack_values = unpack_values,
    .front_encode = front_encode,
    .front_pack = front_pack,
    .lanes_put = lanes_put,
    .lanes_get = lanes_get,
    .errors = grid_errors_all,
    .norms = grid_norms_all,
    .count = grid_count_plain,
};
