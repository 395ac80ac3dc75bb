/* grid_rans.c : a chunk of code `rans` put together and taken apart, which is done from its end. The layout is in docs/wire-format.md:
 *   side bits | words | states of 16 lanes | u8 blocks of the tail, u16 words | classes | u8 shape
 *   or side bits | words and state of one coder | classes | u8 4 + shape
 *   or the chunk in code packed | u8 8
 */
#include "../../comm/base/bytes.h"
#include "grid_rans.h"
#include "grid_chunk.h"
#include "grid_rans_classes.h"

enum { SHORT = GRID_RANS_SHORT, SERIAL = GRID_RANS_SERIAL, AS_PACKED = GRID_RANS_PACKED };

/* ---- chunks ---- */

/* All symbols by one state, from `dst` on; returns the end. */
static uint8_t *put_serial(const grid_model *models, const struct grid_front *f, uint8_t *dst)
{
    grid_serial    s = {GRID_STATE_LOW, dst};
    const uint8_t *symbol = f->symbol + f->symbols;
    for (unsigned k = f->blocks; k-- > 0;) {
        if (!grid_has_symbols(f->cls[k])) continue;
        symbol -= GRID_BLOCK;
        grid_serial_put(&s, models + grid_class_model(f->cls[k]), symbol);
    }
    return f->symbols ? grid_serial_end(&s) : dst;
}

/* The last blocks by one state, the others by lanes that begin with what it wrote. */
static uint8_t *put_lanes(const struct taut__grid_kernels *kernels, const grid_model *models, struct grid_front *f,
                          uint8_t *dst)
{
    uint8_t  tail[GRID_TAIL_BYTES];
    uint32_t state[GRID_LANES];
    unsigned blocks = f->blocks, in_tail = grid_put_tail(models, f->cls, blocks, f->symbol + f->symbols, tail);
    grid_tail_to_states(tail, state);
    for (unsigned left = in_tail; left > 0; left -= grid_has_symbols(f->cls[f->blocks])) f->blocks--;
    f->symbols -= (size_t)in_tail * GRID_BLOCK;
    uint8_t *words_end = dst + GRID_SLACK + f->symbols / GRID_BLOCK * GRID_WORDS_BYTES;
    uint8_t *words = kernels->lanes_put(models, f, state, words_end);
    size_t   bytes = (size_t)(words_end - words);
    memmove(dst, words, bytes);
    f->blocks = blocks;
    uint8_t *p = dst + bytes;
    p += grid_put_states(state, p);
    *p++ = (uint8_t)in_tail;
    taut__put16(p, (uint16_t)(bytes / 2));
    return p + 2;
}

/* f->side has written from dst on. */
static size_t close_chunk(const struct taut__grid_kernels *kernels, struct grid_front *f, uint8_t *dst)
{
    unsigned used = 0;
    for (unsigned k = 0; k < f->blocks; k++) used |= f->cls[k];
    if (used == 0) return 0;
    bool              serial = f->symbols / GRID_BLOCK <= grid_serial_most(f->blocks);
    unsigned          shape = taut__grid_choose_shape(f->count);
    const grid_model *models = taut__grid_models(shape);
    uint8_t          *p = grid_flush(&f->side), classes[20 * GRID_CHUNK_BLOCKS];
    p = serial ? put_serial(models, f, p) : put_lanes(kernels, models, f, p);
    grid_arith a;
    size_t     bytes = grid_put_classes(&a, f->cls, f->blocks, classes);
    while (bytes > 0) *p++ = classes[--bytes];
    *p++ = (uint8_t)(serial ? SERIAL + shape : shape);
    return (size_t)(p - dst);
}

static void open_chunk(struct grid_front *f, uint8_t *dst)
{
    f->blocks = 0, f->symbols = 0;
    memset(f->count, 0, sizeof f->count);
    f->side = (grid_writer){.p = dst};
}

static size_t rans_of_codes(const struct taut__grid_kernels *kernels, const int32_t *q, size_t n, uint8_t *dst)
{
    struct grid_front f;
    open_chunk(&f, dst);
    kernels->front_pack(q, n, &f);
    return close_chunk(kernels, &f, dst);
}

/* What states and classes begin with, a handful of blocks may not win back: code them both ways and keep the shorter. */
size_t taut__grid_rans_pack(const struct taut__grid_kernels *kernels, const int32_t *q, size_t n, uint8_t *dst)
{
    if (n > SHORT) return rans_of_codes(kernels, q, n, dst);
    size_t packed = kernels->pack(q, n, dst);
    size_t rans = packed ? rans_of_codes(kernels, q, n, dst) : 0;
    if (rans <= packed) return rans;
    packed = kernels->pack(q, n, dst);
    dst[packed] = AS_PACKED;
    return packed + 1;
}

/* A short chunk as codes first; err only when they are all there. */
static bool short_encode(const struct taut__grid_kernels *kernels, const grid_unit *u, const float *x, size_t n,
                         float *err, uint8_t *dst, size_t *len)
{
    int32_t q[SHORT];
    if (!kernels->quantize(u, x, n, q, NULL, INT32_MAX)) return false;
    if (err && !kernels->quantize(u, x, n, q, err, INT32_MAX)) return false;
    *len = taut__grid_rans_pack(kernels, q, n, dst);
    return true;
}

size_t taut__grid_rans_encode(const struct taut__grid_kernels *kernels, const grid_unit *u, const float *x, size_t n,
                              float *err, uint8_t *dst)
{
    struct grid_front f;
    size_t            len;
    if (n <= SHORT && short_encode(kernels, u, x, n, err, dst, &len)) return len;
    open_chunk(&f, dst);
    kernels->front_encode(u, x, n, err, &f);
    return close_chunk(kernels, &f, dst);
}

/* ---- back ---- */

/* A chunk that is being decoded. */
typedef struct opened {
    uint8_t            cls[GRID_CHUNK_BLOCKS];
    grid_back          back;   /* its blocks: those of the lanes */
    unsigned           blocks; /* all */
    bool               lanes;
    grid_serial_reader serial;
    uint8_t            tail[GRID_TAIL_BYTES]; /* what the lanes leave */
} opened;

static bool open_lanes(grid_back *b, unsigned blocks, const uint8_t *src, size_t len)
{
    if (len < GRID_LANES_HEAD) return false;
    len -= GRID_LANES_HEAD;
    unsigned in_tail = src[len], states;
    size_t   words = 2 * (size_t)taut__get16(src + len + 1);
    states = grid_get_states(b->state, src + len, len);
    if (states == 0 || words > len - states) return false;
    b->words_end = src + len - states;
    b->words = b->words_end - words;
    b->side.len = len - states - words;
    b->blocks = blocks;
    while (in_tail > 0 && b->blocks > 0) in_tail -= grid_has_symbols(b->cls[--b->blocks]);
    return in_tail == 0;
}

static bool open_back(const grid_rans_chunk *c, opened *o)
{
    const uint8_t *src = c->src;
    size_t         len = c->len - 1;
    unsigned       form = src[len], shape = form % GRID_SHAPES, symbols = 0;
    grid_arith     a;
    if (form >= AS_PACKED) return false;
    o->blocks = (unsigned)taut__ceil_div(c->n, GRID_BLOCK);
    o->lanes = form < SERIAL;
    o->back = (grid_back){
        .u = &c->u, .dst = c->dst, .models = taut__grid_models(shape), .cls = o->cls, .n = c->n, .side = {src, 0, 0}};
    size_t classes = grid_get_classes(&a, src, len, o->blocks, o->cls);
    if (classes == 0) return false;
    len -= classes;
    if (o->lanes) return open_lanes(&o->back, o->blocks, src, len);
    o->back.side.len = len;
    o->serial = (grid_serial_reader){GRID_STATE_LOW, src, src + len};
    for (unsigned k = 0; k < o->blocks; k++) symbols += grid_has_symbols(o->cls[k]);
    return symbols == 0 || grid_serial_open(&o->serial, src, src + len);
}

/* What lanes leave: all words used up, and the states hold the tail's bytes. */
static bool open_tail(opened *o)
{
    uint8_t *tail = o->tail;
    bool     any = o->back.blocks < o->blocks;
    if (o->back.words != o->back.words_end || !grid_tail_of_states(o->back.state, tail)) return false;
    o->serial = (grid_serial_reader){GRID_STATE_LOW, tail, tail + GRID_TAIL_BYTES};
    return !any || grid_serial_open(&o->serial, tail, tail + GRID_TAIL_BYTES);
}

/* The blocks behind those of lanes; then state, words and side bits must be used up. */
static bool finish(opened *o, grid_sink sink)
{
    uint8_t    symbol[GRID_BLOCK];
    grid_back *b = &o->back;
    if (o->lanes && !open_tail(o)) return false;
    for (unsigned k = b->blocks; k < o->blocks; k++) {
        bool ok = grid_has_symbols(o->cls[k])
                      ? grid_serial_get(&o->serial, b->models + grid_class_model(o->cls[k]), symbol) &&
                            grid_back_give(b, k, symbol, sink)
                      : grid_back_bare(b, k, sink);
        if (!ok) return false;
    }
    size_t side = (b->side.pos + 7) / 8;
    if (o->serial.x != GRID_STATE_LOW) return false;
    if (!o->lanes) return side == (size_t)(o->serial.p - o->serial.low);
    for (const uint8_t *p = o->tail; p < o->serial.p; p++)
        if (*p) return false;
    return side == b->side.len;
}

static bool decode_packed(const struct taut__grid_kernels *kernels, const grid_rans_chunk *c, int sink)
{
    return sink == GRID_CODES ? kernels->unpack_add(c->src, c->len - 1, c->n, c->dst)
                              : kernels->decode(&c->u, c->src, c->len - 1, c->n, c->dst, sink == GRID_ADD);
}

bool taut__grid_rans_decode(const struct taut__grid_kernels *kernels, const grid_rans_chunk *chunk, unsigned count,
                            int sink)
{
    opened    open[GRID_TOGETHER];
    grid_back back[GRID_TOGETHER];
    unsigned  which[GRID_TOGETHER], lanes = 0;
    for (unsigned k = 0; k < count; k++) {
        const grid_rans_chunk *c = chunk + k;
        if (c->src[c->len - 1] == AS_PACKED) {
            if (!decode_packed(kernels, c, sink)) return false;
            continue;
        }
        if (!open_back(c, &open[k])) return false;
        if (!open[k].lanes) {
            if (!finish(&open[k], (grid_sink)sink)) return false;
            continue;
        }
        which[lanes] = k;
        back[lanes++] = open[k].back;
    }
    if (lanes && !kernels->lanes_get(back, lanes, sink)) return false;
    for (unsigned k = 0; k < lanes; k++) {
        /* cppcheck-suppress uninitvar ; the first `lanes` were filled above */
        open[which[k]].back = back[k];
        if (!finish(&open[which[k]], (grid_sink)sink)) return false;
    }
    return true;
}
