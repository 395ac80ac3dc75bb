/* memory.c : CUDA memory as a space (space.h), and the passes of vectors.h on it, made of the launchers of cuda.h. */
#include "pieces.h"
#include "../frame.h"

static const taut__cuda_device *device(void)
{
    return taut__cuda_get(NULL)->device;
} /* registered only where there is one */

/* ---- space ---- */

static taut_status zeroed(taut_place p, size_t bytes, void **out)
{
    *out = NULL;
    TAUT_TRY(device()->use(p.device));
    TAUT_TRY(device()->alloc(bytes, out));
    taut_status s = device()->fill(*out, 0, bytes, p.stream);
    if (s == TAUT_OK) s = device()->wait(p.stream); /* other streams may be first to use it */
    if (s != TAUT_OK) device()->release(*out), *out = NULL;
    return s;
}
static void release(taut_place p, void *memory)
{
    (void)p;
    device()->release(memory);
}
static taut_status alloc_in(taut_place p, size_t bytes, void **out)
{
    TAUT_TRY(device()->use(p.device));
    return device()->alloc_in(bytes, out, p.stream);
}
static void        release_in(taut_place p, void *memory) { device()->release_in(memory, p.stream); }
static taut_status copy(taut_place p, void *dst, const void *src, size_t bytes)
{
    return device()->copy(dst, src, bytes, p.stream);
}
static taut_status put(taut_place p, void *dst, const void *src, size_t bytes)
{
    if (bytes > TAUT__PUT_MAX)
        return taut__fail(TAUT_E_RANGE, "put: %zu bytes: must be at most %d", bytes, TAUT__PUT_MAX);
    return device()->put(dst, src, bytes, p.stream);
}
static taut_status fill(taut_place p, void *dst, int byte, size_t bytes)
{
    return device()->fill(dst, byte, bytes, p.stream);
}
static taut_status fill_rows(taut_place p, void *dst, size_t apart, int byte, size_t bytes, size_t rows)
{
    return device()->fill_rows(dst, apart, byte, bytes, rows, p.stream);
}
static taut_status check(taut_place p, const void *memory, const char *what)
{
    if (!memory) return taut__fail(TAUT_E_INVALID, "%s is NULL", what);
    TAUT_TRY(device()->check(memory, true, what));
    int at = device()->where(memory);
    if (at < 0 || at == p.device) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "%s: %p is memory of device %d: must be of device %d, which was named", what,
                      memory, at, p.device);
}
static taut_status stream_create(taut_place *p)
{
    TAUT_TRY(device()->use(p->device));
    return device()->stream_create(&p->stream);
}
static void        stream_destroy(taut_place p) { device()->stream_destroy(p.stream); }
static taut_status wait(taut_place p) { return device()->wait(p.stream); }

static taut_status event_create(taut_place p, taut__event **e)
{
    void *made = NULL;
    *e = NULL;
    TAUT_TRY(device()->use(p.device));
    TAUT_TRY(device()->event_create(&made));
    *e = made;
    return TAUT_OK;
}
static void        event_destroy(taut__event *e) { device()->event_destroy(e); }
static taut_status event_record(taut__event *e, taut_place p) { return device()->event_record(e, p.stream); }
static taut_status event_test(taut__event *e, bool *passed) { return device()->event_test(e, passed); }
static taut_status event_hold(taut__event *e, taut_place p) { return device()->event_hold(e, p.stream); }

static taut_status use(taut_place p) { return device()->use(p.device); }
static int         now(void) { return device()->now(); }
static taut_status failed(taut_place p) { return device()->query(p.stream); }
static void       *host_alloc(taut_place p, size_t bytes)
{
    return device()->use(p.device) == TAUT_OK ? device()->host_alloc(bytes) : NULL;
}
static void host_release(taut_place p, void *memory)
{
    (void)p;
    device()->host_release(memory);
}
static taut_status capturing(taut_place p, bool *is) { return device()->capturing(p.stream, is); }

const taut__space taut__space_cuda = {
    .name = "CUDA",
    .alloc = zeroed,
    .release = release,
    .alloc_in = alloc_in,
    .release_in = release_in,
    .copy = copy,
    .put = put,
    .fill = fill,
    .fill_rows = fill_rows,
    .check = check,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .wait = wait,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_test = event_test,
    .event_hold = event_hold,
    .use = use,
    .now = now,
    .failed = failed,
    .host_alloc = host_alloc,
    .host_release = host_release,
    .capturing = capturing,
};

/* ---- vectors ---- */

static const taut__cuda_vec *vec(void) { return taut__cuda_get(NULL)->vec; }

static taut_status input(taut_place p, float *r, float *u, float momentum, taut_dtype dtype, const void *g, size_t n,
                         bool fresh)
{
    taut__cuda_pass convert = {.kind = TAUT__PASS_CONVERT, .dst = r, .a = g, .to = TAUT_F32, .from = dtype, .n = n};
    if (fresh) TAUT_TRY(vec()->pass(&convert, p.stream));
    convert.dst = u;
    if (fresh) return u ? vec()->pass(&convert, p.stream) : TAUT_OK;
    if (n == 0) return TAUT_OK;
    taut__cuda_job   j = {.n = n, .src = g, .residual = r, .err = r, .codes = (int32_t *)(void *)u};
    taut__cuda_batch b = taut__cuda_single(&j, TAUT__CUDA_TILE);
    b.dtype = dtype;
    return vec()->input(&b, u ? momentum : 0, p.stream);
}
static taut_status output(taut_place p, const float *r, float *u, size_t n)
{
    taut__cuda_pass pass = {.kind = TAUT__PASS_OUTPUT, .dst = u, .a = r, .n = n};
    return vec()->pass(&pass, p.stream);
}
static taut_status scrub(taut_place p, float *x, size_t n, uint64_t *found)
{
    taut__cuda_pass pass = {.kind = TAUT__PASS_SCRUB, .dst = x, .n = n, .found = (unsigned long long *)found};
    return vec()->pass(&pass, p.stream);
}
static taut_status norm2(taut_place p, const taut_tensor *t, const float *e, size_t first, size_t n, taut_norm2 *out,
                         uint32_t *flags)
{
    TAUT_TRY(device()->fill(out, 0, sizeof *out, p.stream));
    if (n == 0) return TAUT_OK;
    taut__cuda_job   j = {.n = n,
                          .first = first,
                          .src = e,
                          .stats = &out->plain,
                          .flags = flags,
                          .scale = t->scale_n ? t->scale : NULL,
                          .stride = t->scale_n <= 1          ? 0
                                    : t->scale_n == t->elems ? 1
                                                             : t->cols};
    taut__cuda_batch b = taut__cuda_single(&j, TAUT__CUDA_TILE);
    return vec()->input_norms(&b, p.stream);
}
static taut_status add(taut_place p, float *acc, taut_dtype dtype, const void *x, size_t n)
{
    taut__cuda_pass pass = {.kind = TAUT__PASS_ADD, .dst = acc, .a = x, .from = dtype, .n = n};
    return vec()->pass(&pass, p.stream);
}
static taut_status scale(taut_place p, float *x, float factor, size_t n)
{
    taut__cuda_pass pass = {.kind = TAUT__PASS_SCALE, .dst = x, .factor = factor, .n = n};
    return vec()->pass(&pass, p.stream);
}
static taut_status convert(taut_place p, void *dst, taut_dtype to, const void *src, taut_dtype from, size_t n)
{
    taut__cuda_pass pass = {.kind = TAUT__PASS_CONVERT, .dst = dst, .a = src, .to = to, .from = from, .n = n};
    if (to != from && to != TAUT_F32 && from != TAUT_F32)
        return taut__fail(TAUT_E_UNSUPPORTED, "convert: from dtype %d to %d: one of them must be f32", (int)from,
                          (int)to);
    if (to == from) return device()->copy(dst, src, n * (to == TAUT_F32 ? 4 : 2), p.stream);
    return vec()->pass(&pass, p.stream);
}
static taut_status residual(taut_place p, float *err, const float *x, const float *y, size_t n)
{
    taut__cuda_pass pass = {.kind = TAUT__PASS_RESIDUAL, .dst = err, .a = x, .b = y, .n = n};
    return vec()->pass(&pass, p.stream);
}

/* Headers look at a payload's address, length and count only. */
static taut_status run_seal(const taut__launch *l)
{
    return l->c->frame->seal(&l->b, l->codec->id, l->codec->version, l->place.stream);
}
static taut_status run_open(const taut__launch *l)
{
    uint16_t oldest = l->codec->oldest ? l->codec->oldest : l->codec->version;
    return l->c->frame->open(&l->b, l->codec->id, oldest, l->codec->version, l->place.stream);
}
static taut_status seal(const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place p)
{
    static const taut__device_codec sealing = {.unit = TAUT__CUDA_TILE, .any_spec = true, .run = run_seal};
    return taut__launch_pieces(&sealing, TAUT_OP_DECODE, codec, pieces, n, p);
}
static taut_status open(const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place p)
{
    static const taut__device_codec opening = {.unit = TAUT__CUDA_TILE, .any_spec = true, .run = run_open};
    return taut__launch_pieces(&opening, TAUT_OP_DECODE, codec, pieces, n, p);
}

static taut_status admit(taut_place p, const uint8_t *slots, size_t stride, size_t n, size_t room, taut__admitted *out,
                         taut_outcome *sum)
{
    return taut__cuda_get(NULL)->frame->admit(slots, stride, (uint32_t)n, room, &out->seen.bytes,
                                              sum ? &sum->reserved : NULL, p.stream);
}
static taut_status pick(taut_place p, float *dst, taut_dtype dtype, const void *src, const uint64_t *at, size_t blocks,
                        size_t elems, size_t first, size_t n, float factor)
{
    taut__cuda_pass pass = {.kind = TAUT__PASS_CONVERT, .dst = dst, .a = src, .from = dtype, .factor = factor, .n = n};
    return vec()->pick(&pass, at, blocks, elems, first, p.stream);
}
static taut_status field_join(taut_place p, uint32_t *words, const int32_t *codes, size_t n, uint32_t per,
                              uint32_t bias)
{
    return taut__cuda_get(NULL)->frame->fields(words, (int32_t *)(uintptr_t)codes, n, per, bias, true, p.stream);
}
static taut_status field_split(taut_place p, int32_t *codes, const uint32_t *words, size_t n, uint32_t per,
                               uint32_t bias)
{
    return taut__cuda_get(NULL)->frame->fields((uint32_t *)(uintptr_t)words, codes, n, per, bias, false, p.stream);
}

static taut_status combine(taut_place p, double *out, const double *from, size_t stride, size_t n, uint32_t ranks,
                           uint32_t *any)
{
    return taut__cuda_get(NULL)->frame->combine(out, from, stride, n, ranks, any, p.stream);
}
static taut_status copy_if(taut_place p, const uint8_t *when, void *dst, const void *src, size_t bytes)
{
    return taut__cuda_get(NULL)->frame->copy_if(when, dst, src, bytes, p.stream);
}
static taut_status digest(taut_place p, void *rows, size_t stride, size_t n, uint32_t first, uint32_t count,
                          uint32_t *differs)
{
    return taut__cuda_get(NULL)->frame->digest(rows, stride, n, first, count, differs, p.stream);
}

/* ---- bases ---- */

enum { BASIS_SCRATCH = 4 << 20 }; /* floats that a pass over a tensor takes beside it, if one tile does not need more */

static taut__cuda_unit unit_of(const taut_tensor *t)
{
    return (taut__cuda_unit){.scale = t->scale_n > 1 ? t->scale : NULL, .each = t->scale_n == t->elems};
}

/* Tiles of `each` floats of scratch that are done together. */
static uint64_t together(uint64_t each, uint64_t tiles)
{
    return taut__min(tiles, taut__max((uint64_t)1, BASIS_SCRATCH / each));
}

static taut_status change_part(taut_place p, const taut__axes_there *m, const taut__cuda_unit *u, float *x,
                               float *scratch, uint64_t first, uint64_t count, bool back)
{
    uint64_t from = first * BASIS_TILE * m->n, to = taut__min((first + count) * BASIS_TILE, m->vectors) * m->n;
    TAUT_TRY(taut__cuda_get(NULL)->basis->change(m, u, x, scratch, first, count, back, p.stream));
    return device()->copy(x + from, scratch, (to - from) * sizeof *x, p.stream);
}

/* Where vectors are rows, coordinates change places within a tile: such tiles go through scratch. */
static taut_status change(taut_place p, const taut__axes_there *m, const taut_tensor *t, float *x, bool back)
{
    taut__cuda_unit u = unit_of(t);
    uint64_t        tiles = taut__ceil_div(m->vectors, (uint64_t)BASIS_TILE), each = BASIS_TILE * m->n;
    uint64_t        at_once = together(each, tiles);
    void           *scratch = NULL;
    taut_status     s = TAUT_OK;
    if (m->across) return taut__cuda_get(NULL)->basis->change(m, &u, x, x, 0, tiles, back, p.stream);
    TAUT_TRY(alloc_in(p, at_once * each * sizeof *x, &scratch));
    for (uint64_t first = 0; first < tiles && s == TAUT_OK; first += at_once)
        s = change_part(p, m, &u, x, scratch, first, taut__min(at_once, tiles - first), back);
    release_in(p, scratch);
    return s;
}

static taut_status learn(taut_place p, const taut__axes_there *m, const taut_tensor *t, const float *x)
{
    taut__cuda_unit u = unit_of(t);
    uint64_t        tiles = taut__ceil_div(m->vectors, (uint64_t)BASIS_TILE), each = BASIS_TILE * m->r;
    uint64_t        at_once = together(each, tiles);
    void           *scratch = NULL;
    taut_status     s = TAUT_OK;
    TAUT_TRY(alloc_in(p, at_once * each * sizeof *x, &scratch));
    for (uint64_t first = 0; first < tiles && s == TAUT_OK; first += at_once)
        s = taut__cuda_get(NULL)->basis->learn(m, &u, x, scratch, first, taut__min(at_once, tiles - first), p.stream);
    release_in(p, scratch);
    return s;
}

const taut__vectors taut__vectors_cuda = {
    .input = input,
    .output = output,
    .scrub = scrub,
    .norm2 = norm2,
    .add = add,
    .scale = scale,
    .convert = convert,
    .residual = residual,
    .seal = seal,
    .open = open,
    .admit = admit,
    .pick = pick,
    .field_join = field_join,
    .field_split = field_split,
    .combine = combine,
    .copy_if = copy_if,
    .digest = digest,
    .change = change,
    .learn = learn,
};
