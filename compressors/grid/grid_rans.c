/* grid_rans.c : a chunk of code `rans` put together and taken apart. The layout is in docs/wire-format.md:
 *   u8 shape, u8 0, u16 bytes of classes, u32 words | side bits | words | 16 states of 4 bytes | classes
 *   or u8 4 | the chunk in code packed
 */
#include "grid_rans.h"
#include "grid_chunk.h"
#include "grid_rans_classes.h"

enum {
    HEAD = GRID_RANS_HEAD,
    STATES = GRID_RANS_STATES,
    SHORT = GRID_RANS_SHORT,
    AS_PACKED = GRID_RANS_PACKED,
};

/* ---- chunks ---- */

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8);
}
static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v), put16(p + 2, v >> 16);
}
static uint32_t get16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}
static uint32_t get32(const uint8_t *p)
{
    return get16(p) | get16(p + 2) << 16;
}

/* f->side has written from dst + HEAD on. */
static size_t close_chunk(const struct taut__grid_kernels *kernels, struct grid_front *f, uint8_t *dst)
{
    unsigned used = 0;
    for (unsigned k = 0; k < f->blocks; k++) used |= f->cls[k];
    if (!used) return 0;
    unsigned shape = taut__grid_choose_shape(f->count);
    uint8_t *side_end = grid_flush(&f->side);
    uint32_t state[GRID_LANES];
    uint8_t *words_end = side_end + GRID_SLACK + f->symbols / GRID_BLOCK * GRID_WORDS_BYTES;
    uint8_t *words = kernels->lanes_put(taut__grid_models(shape), f, state, words_end);
    size_t bytes = (size_t)(words_end - words);
    memmove(side_end, words, bytes);
    uint8_t *p = side_end + bytes;
    for (int i = 0; i < GRID_LANES; i++, p += 4) put32(p, state[i]);
    grid_arith a;
    size_t classes = grid_put_classes(&a, f->cls, f->blocks, p);
    dst[0] = (uint8_t)shape;
    dst[1] = 0;
    put16(dst + 2, (uint32_t)classes);
    put32(dst + 4, (uint32_t)(bytes / 2));
    return (size_t)(p + classes - dst);
}

static void open_chunk(struct grid_front *f, uint8_t *dst)
{
    f->blocks = 0, f->symbols = 0;
    memset(f->count, 0, sizeof f->count);
    f->side = (grid_writer){.p = dst + HEAD};
}

static size_t rans_of_codes(const struct taut__grid_kernels *kernels, const int32_t *q, size_t n,
                            uint8_t *dst)
{
    struct grid_front f;
    open_chunk(&f, dst);
    kernels->front_pack(q, n, &f);
    return close_chunk(kernels, &f, dst);
}

/* The states of the lanes are 64 bytes, which a short or sparse chunk cannot win back: code it both ways and
 * keep the shorter. */
size_t taut__grid_rans_pack(const struct taut__grid_kernels *kernels, const int32_t *q, size_t n,
                            uint8_t *dst)
{
    if (n > SHORT) return rans_of_codes(kernels, q, n, dst);
    size_t packed = kernels->pack(q, n, dst + 1);
    size_t rans = packed ? rans_of_codes(kernels, q, n, dst) : 0;
    if (rans <= packed) return rans;
    dst[0] = AS_PACKED;
    return 1 + kernels->pack(q, n, dst + 1);
}

/* A short chunk as codes first; err only when they are all there. */
static bool short_encode(const struct taut__grid_kernels *kernels, const grid_unit *u, const float *x,
                         size_t n, float *err, uint8_t *dst, size_t *len)
{
    int32_t q[SHORT];
    if (!kernels->quantize(u, x, n, q, NULL, INT32_MAX)) return false;
    if (err && !kernels->quantize(u, x, n, q, err, INT32_MAX)) return false;
    *len = taut__grid_rans_pack(kernels, q, n, dst);
    return true;
}

size_t taut__grid_rans_encode(const struct taut__grid_kernels *kernels, const grid_unit *u, const float *x,
                              size_t n, float *err, uint8_t *dst)
{
    struct grid_front f;
    size_t len;
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
    size_t classes = get16(src + 2), words = 2 * (size_t)get32(src + 4);
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
    for (int i = 0; i < GRID_LANES; i++) b->state[i] = get32(states + 4 * i);
    grid_arith a;
    return grid_get_classes(&a, tail, classes, b->blocks, cls);
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
    uint8_t cls[GRID_TOGETHER][GRID_CHUNK_BLOCKS];
    grid_back back[GRID_TOGETHER];
    unsigned open = 0;
    for (unsigned k = 0; k < count; k++) {
        const grid_rans_chunk *c = chunk + k;
        bool packed = c->len > 1 && c->src[0] == AS_PACKED;
        if (packed ? !decode_packed(kernels, c, sink) : !open_back(c, cls[open], &back[open])) return false;
        open += !packed;
    }
    if (open && !kernels->lanes_get(back, open, sink)) return false;
    for (unsigned k = 0; k < open; k++)
        if (!finished(&back[k])) return false;
    return true;
}
