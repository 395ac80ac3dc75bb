/* grid_rans.c : a chunk of code `rans` put together and taken apart. The layout is in docs/wire-format.md:
 *   u8 shape, u8 0, u16 bytes of classes, u32 words | side bits | words | 16 states of 4 bytes | classes
 *   or u8 4 | the chunk in code packed
 *   or u8 5, u16 bytes of classes | bodies as in code packed | its classes, coded as those of rans: of few blocks that are not zero
 */
#include "../../comm/base/bytes.h"
#include "grid_rans.h"
#include "grid_chunk.h"
#include "grid_rans_classes.h"

enum {
    HEAD = GRID_RANS_HEAD,
    STATES = GRID_RANS_STATES,
    SHORT = GRID_RANS_SHORT,
    AS_PACKED = GRID_RANS_PACKED,
    AS_SPARSE = GRID_RANS_SPARSE,
    SPARSE_HEAD = GRID_RANS_SPARSE_HEAD,
    SPARSE_BLOCKS = GRID_RANS_SPARSE_BLOCKS,
};

/* ---- chunks ---- */

/* The chunk without lanes, from the first pass's symbols and side bits. SIZE_MAX: some block holds codes that have no symbols. */
static size_t put_sparse(const struct grid_front *f, const uint8_t *side, size_t side_bytes, uint8_t *dst)
{
    uint8_t        cls[GRID_CHUNK_BLOCKS];
    const uint8_t *symbol = f->symbol;
    grid_writer    w = {.p = dst + SPARSE_HEAD};
    grid_reader    r = {side, side_bytes, 0};
    for (unsigned k = 0; k < f->blocks; k++) {
        grid_block b = {0};
        cls[k] = 0;
        if (f->cls[k] == 0) continue;
        if (f->cls[k] == GRID_CLASS_OTHER || !grid_back_block(symbol, f->cls[k], &r, &b)) return SIZE_MAX;
        symbol += GRID_BLOCK;
        cls[k] = (uint8_t)grid_block_put(&w, &b);
    }
    uint8_t   *end = grid_flush(&w);
    grid_arith a;
    size_t     classes = grid_put_classes(&a, cls, f->blocks, end);
    dst[0] = AS_SPARSE;
    taut__put16(dst + 1, (uint16_t)classes);
    return (size_t)(end - dst) + classes;
}

static unsigned coded_blocks(const struct grid_front *f)
{
    unsigned n = 0;
    for (unsigned k = 0; k < f->blocks; k++) n += f->cls[k] != 0;
    return n;
}

/* f->side has written from dst + HEAD on. */
static size_t close_chunk(const struct taut__grid_kernels *kernels, struct grid_front *f, uint8_t *dst)
{
    unsigned coded = coded_blocks(f);
    if (coded == 0) return 0;
    unsigned shape = taut__grid_choose_shape(f->count);
    uint8_t *side_end = grid_flush(&f->side);
    uint8_t  sparse[SPARSE_HEAD + SPARSE_BLOCKS * GRID_BLOCK_BYTES + 2 * GRID_CHUNK_BLOCKS + GRID_SLACK];
    size_t   without = SIZE_MAX;
    if (coded <= SPARSE_BLOCKS && f->blocks > SHORT / GRID_BLOCK)
        without = put_sparse(f, dst + HEAD, (size_t)(side_end - dst) - HEAD, sparse);
    uint32_t state[GRID_LANES];
    uint8_t *words_end = side_end + GRID_SLACK + f->symbols / GRID_BLOCK * GRID_WORDS_BYTES;
    uint8_t *words = kernels->lanes_put(taut__grid_models(shape), f, state, words_end);
    size_t   bytes = (size_t)(words_end - words);
    memmove(side_end, words, bytes);
    uint8_t *p = side_end + bytes;
    for (int i = 0; i < GRID_LANES; i++, p += 4) taut__put32(p, state[i]);
    grid_arith a;
    size_t     classes = grid_put_classes(&a, f->cls, f->blocks, p);
    if (without < (size_t)(p + classes - dst)) {
        memcpy(dst, sparse, without);
        return without;
    }
    dst[0] = (uint8_t)shape;
    dst[1] = 0;
    taut__put16(dst + 2, (uint16_t)classes);
    taut__put32(dst + 4, (uint32_t)(bytes / 2));
    return (size_t)(p + classes - dst);
}

static void open_chunk(struct grid_front *f, uint8_t *dst)
{
    f->blocks = 0, f->symbols = 0;
    memset(f->count, 0, sizeof f->count);
    f->side = (grid_writer){.p = dst + HEAD};
}

static size_t rans_of_codes(const struct taut__grid_kernels *kernels, const int32_t *q, size_t n, uint8_t *dst)
{
    struct grid_front f;
    open_chunk(&f, dst);
    kernels->front_pack(q, n, &f);
    return close_chunk(kernels, &f, dst);
}

/* The states of the lanes are 64 bytes, which a short or sparse chunk cannot win back: code it both ways and
 * keep the shorter. */
size_t taut__grid_rans_pack(const struct taut__grid_kernels *kernels, const int32_t *q, size_t n, uint8_t *dst)
{
    if (n > SHORT) return rans_of_codes(kernels, q, n, dst);
    size_t packed = kernels->pack(q, n, dst + 1);
    size_t rans = packed ? rans_of_codes(kernels, q, n, dst) : 0;
    if (rans <= packed) return rans;
    dst[0] = AS_PACKED;
    return 1 + kernels->pack(q, n, dst + 1);
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

/* All states must end where the encoder began, and all words and side bits must be used up. */
static bool finished(const grid_back *b)
{
    bool ok = b->words == b->words_end && (b->side.pos + 7) / 8 == b->side.len;
    for (int i = 0; i < GRID_LANES; i++) ok &= b->state[i] == GRID_STATE_LOW;
    return ok;
}

static bool open_back(const grid_rans_chunk *c, uint8_t *cls, grid_back *b)
{
    const uint8_t *src = c->src;
    if (c->len < HEAD + STATES || src[0] >= GRID_SHAPES || src[1] != 0) return false;
    size_t classes = taut__get16(src + 2), words = 2 * (size_t)taut__get32(src + 4);
    if (classes + words > c->len - HEAD - STATES) return false;
    const uint8_t *tail = src + c->len - classes, *states = tail - STATES;
    *b = (grid_back){.u = &c->u,
                     .dst = c->dst,
                     .models = taut__grid_models(src[0]),
                     .cls = cls,
                     .blocks = (unsigned)taut__ceil_div(c->n, GRID_BLOCK),
                     .n = c->n,
                     .words = states - words,
                     .words_end = states,
                     .side = {src + HEAD, (size_t)(states - words - src) - HEAD, 0}};
    for (int i = 0; i < GRID_LANES; i++) b->state[i] = taut__get32(states + 4 * i);
    grid_arith a;
    return grid_get_classes(&a, tail, classes, b->blocks, cls);
}

bool taut__grid_rans_is_sparse(const uint8_t *chunk, size_t len) { return len > SPARSE_HEAD && chunk[0] == AS_SPARSE; }

static bool decode_sparse(const grid_rans_chunk *c, grid_sink sink)
{
    uint8_t  cls[GRID_CHUNK_BLOCKS];
    unsigned blocks = (unsigned)taut__ceil_div(c->n, GRID_BLOCK);
    size_t   classes = taut__get16(c->src + 1), body = c->len - SPARSE_HEAD;
    if (classes > body) return false;
    body -= classes;
    grid_reader r = {c->src + SPARSE_HEAD, body, 0};
    grid_arith  a;
    if (!grid_get_classes(&a, c->src + SPARSE_HEAD + body, classes, blocks, cls)) return false;
    for (unsigned k = 0; k < blocks; k++) {
        size_t   i = (size_t)k * GRID_BLOCK, m = taut__min(GRID_BLOCK, c->n - i);
        uint8_t *out = (uint8_t *)c->dst + 4 * i;
        if (cls[k] >= GRID_RUN) return false;
        if (cls[k] != GRID_ZERO && !grid_block_decode(&c->u, &r, cls[k], i, m, sink, out)) return false;
        if (cls[k] == GRID_ZERO && sink == GRID_STORE) memset(out, 0, 4 * m);
    }
    return (r.pos + 7) / 8 == body;
}

static bool decode_packed(const struct taut__grid_kernels *kernels, const grid_rans_chunk *c, int sink)
{
    const uint8_t *src = c->src + 1;
    return sink == GRID_CODES ? kernels->unpack_add(src, c->len - 1, c->n, c->dst)
                              : kernels->decode(&c->u, src, c->len - 1, c->n, c->dst, sink == GRID_ADD);
}

bool taut__grid_rans_decode(const struct taut__grid_kernels *kernels, const grid_rans_chunk *chunk, unsigned count,
                            int sink)
{
    uint8_t   cls[GRID_TOGETHER][GRID_CHUNK_BLOCKS];
    grid_back back[GRID_TOGETHER];
    unsigned  open = 0;
    for (unsigned k = 0; k < count; k++) {
        const grid_rans_chunk *c = chunk + k;
        bool packed = c->len > 1 && c->src[0] == AS_PACKED, sparse = taut__grid_rans_is_sparse(c->src, c->len);
        bool ok = packed   ? decode_packed(kernels, c, sink)
                  : sparse ? decode_sparse(c, (grid_sink)sink)
                           : open_back(c, cls[open], &back[open]);
        if (!ok) return false;
        open += !packed && !sparse;
    }
    if (open && !kernels->lanes_get(back, open, sink)) return false;
    for (unsigned k = 0; k < open; k++)
        if (!finished(&back[k])) return false;
    return true;
}
