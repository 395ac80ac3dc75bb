/* powersgd_device.c : powersgd on a CUDA device, one matrix at a time. Whether the last averages were finite is known there. */
#include "../cuda/pieces.h"
#include <string.h>

enum { RANK, ITERATIONS };

struct taut_codec_state { /* of this space: on the host, with factors and flag on the device */
    taut_place        place;
    taut__cuda_matrix m;
    uint64_t          seed;
    float            *p, *qt; /* rows x rank, rank x cols; the longer starts the next step */
    uint32_t         *poisoned;
};

static taut__cuda_matrix matrix_of(const taut_stage *s, const taut_tensor *t)
{
    return (taut__cuda_matrix){t->rows, t->cols, (uint64_t)s->value[RANK], (int)s->value[ITERATIONS]};
}
static bool     wide(const taut__cuda_matrix *m) { return m->rows <= m->cols; }
static bool     makes_p(const taut__cuda_matrix *m, int round) { return (round != 1) == wide(m); }
static uint64_t factor_floats(const taut__cuda_matrix *m, bool p_side)
{
    return (p_side ? m->rows : m->cols) * m->rank;
}
static float   *longer(const taut_codec_state *st) { return wide(&st->m) ? st->qt : st->p; }
static uint64_t longer_floats(const taut__cuda_matrix *m) { return factor_floats(m, !wide(m)); }

static taut_status need_state(const taut_piece *p, const taut__cuda_matrix *m)
{
    const taut_codec_state *st = p->call.state;
    if (!st) return taut__fail(TAUT_E_STATE, "powersgd: no state for the factors");
    return st->m.rows == m->rows && st->m.cols == m->cols && st->m.rank == m->rank
               ? TAUT_OK
               : taut__fail(
                     TAUT_E_STATE,
                     "powersgd: state of a matrix of %llu x %llu and rank %llu, here it is %llu x %llu and rank %llu",
                     (unsigned long long)st->m.rows, (unsigned long long)st->m.cols, (unsigned long long)st->m.rank,
                     (unsigned long long)m->rows, (unsigned long long)m->cols, (unsigned long long)m->rank);
}

static taut_status encode(const taut__launch *l, const taut__cuda_matrix *m)
{
    taut_codec_state *st = l->pieces[0].call.state;
    float            *p = (float *)(void *)(l->b.one.payload + 32), *first = wide(m) ? p + m->rows * m->rank : p;
    if (st) TAUT_TRY(need_state(l->pieces, m));
    TAUT_TRY(l->c->powersgd->encode(&l->b, m, st ? 1 : (int)l->stage->value[ITERATIONS], st ? longer(st) : NULL,
                                    l->place.stream));
    if (!st) return TAUT_OK;
    return l->c->powersgd->keep(longer(st), first, longer_floats(m), st->seed, l->b.work, l->place.stream);
}

static taut_status project(const taut__launch *l, const taut__cuda_matrix *m)
{
    const taut_piece *p = l->pieces;
    taut_codec_state *st = p->call.state;
    TAUT_TRY(need_state(p, m));
    TAUT_TRY(taut__on_device(l->c, l->codec, p->factor, "factor"));
    if (p->round == 0)
        TAUT_TRY(l->c->powersgd->restart(longer(st), longer_floats(m), st->seed, st->poisoned, l->place.stream));
    TAUT_TRY(l->c->powersgd->project(m, p->round, p->src, st->p, st->qt, p->factor, l->b.work, l->b.work_bytes,
                                     l->place.stream));
    return l->c->powersgd->poison(p->factor, factor_floats(m, makes_p(m, p->round)), st->poisoned, l->place.stream);
}

static taut_status absorb(const taut__launch *l, const taut__cuda_matrix *m)
{
    const taut_piece *p = l->pieces;
    taut_codec_state *st = p->call.state;
    bool              p_side = makes_p(m, p->round);
    TAUT_TRY(need_state(p, m));
    TAUT_TRY(taut__on_device(l->c, l->codec, p->factor, "factor"));
    TAUT_TRY(l->c->powersgd->absorb(m, p->round, p->factor, p->call.shared_seed, st->poisoned, l->place.stream));
    return l->c->device->copy(p_side ? st->p : st->qt, p->factor, factor_floats(m, p_side) * sizeof(float),
                              l->place.stream);
}

static taut_status fill(const taut__launch *l, const taut_piece *p, taut__cuda_job *j)
{
    (void)l;
    j->seed = p->call.shared_seed;
    return l->codec->check(taut__stage(&p->call), p->call.tensor);
}

static size_t work(taut__launch *l)
{
    taut__cuda_matrix m = matrix_of(l->stage, l->pieces[0].call.tensor);
    return l->c->powersgd->work(&m);
}

static taut_status run(const taut__launch *l)
{
    taut__cuda_matrix m = matrix_of(l->stage, l->pieces[0].call.tensor);
    taut__cuda_batch  b = l->b;
    switch (l->op) {
    case TAUT_OP_ENCODE: return encode(l, &m);
    case TAUT_OP_PROJECT: return project(l, &m);
    case TAUT_OP_ABSORB: return absorb(l, &m);
    case TAUT_OP_RECONSTRUCT:
        TAUT_TRY(need_state(l->pieces, &m));
        b.factor = l->pieces[0].scale_by;
        return l->c->powersgd->reconstruct(&b, &m, l->pieces[0].call.state->p, l->pieces[0].call.state->qt,
                                           l->pieces[0].call.state->poisoned, l->place.stream);
    default: return l->c->powersgd->decode(&b, &m, l->op == TAUT_OP_DECODE_ADD, l->place.stream);
    }
}

static const taut__device_codec device = {.unit = TAUT__CUDA_TILE, .fill = fill, .work = work, .run = run};

static taut_status enqueue(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place place)
{
    for (size_t i = 0; i < n; i++) TAUT_TRY(taut__launch_pieces(&device, op, codec, pieces + i, 1, place));
    return TAUT_OK;
}

/* ---- state: saved and loaded as the host's (powersgd.c), by way of a host state ---- */

static const taut_codec_ops *host_ops(void) { return taut__codec_by_name("powersgd", 8)->ops[TAUT_HOST]; }

static void state_destroy(taut_codec_state *st)
{
    if (!st) return;
    taut__space_cuda.release(st->place, st->p);
    taut__space_cuda.release(st->place, st->qt);
    taut__space_cuda.release(st->place, st->poisoned);
    taut__free(st);
}

enum {
    SAVED_WORDS = 5,
    STATE_VERSION = 2
}; /* u64 version, rows, cols, rank, seed; then the longer factor, as powersgd.c writes it */

static taut_status put_start(taut_codec_state *st, const float *from)
{
    TAUT_TRY(taut__space_cuda.copy(st->place, longer(st), from, longer_floats(&st->m) * sizeof *from));
    return taut__space_cuda.wait(st->place);
}

/* The host's state of the same tensor, from which a start or saved bytes come. */
static taut_status start_like_host(taut_codec_state *st, const taut_stage *s, const taut_tensor *t)
{
    taut_codec_state *host;
    size_t            len, bytes = SAVED_WORDS * sizeof(uint64_t) + longer_floats(&st->m) * sizeof(float);
    uint8_t          *saved = taut__alloc(1, bytes);
    if (!saved) return taut__fail(TAUT_E_NOMEM, "powersgd: out of memory");
    taut_status status = host_ops()->state_create(s, t, st->seed, (taut_place){0}, &host);
    if (status == TAUT_OK) {
        status = host_ops()->state_save(host, saved, bytes, &len);
        host_ops()->state_destroy(host);
    }
    if (status == TAUT_OK)
        status = put_start(st, (const float *)(const void *)(saved + SAVED_WORDS * sizeof(uint64_t)));
    taut__free(saved);
    return status;
}

static taut_status state_create(const taut_stage *s, const taut_tensor *t, uint64_t shared_seed, taut_place place,
                                taut_codec_state **out)
{
    void *p = NULL, *qt = NULL, *poisoned = NULL;
    TAUT_TRY(s->codec->check(s, t));
    taut_codec_state *st = taut__alloc(1, sizeof *st);
    if (!st) return taut__fail(TAUT_E_NOMEM, "powersgd: out of memory");
    *st = (taut_codec_state){.place = place, .m = matrix_of(s, t), .seed = shared_seed};
    taut_status status = taut__space_cuda.alloc(place, factor_floats(&st->m, true) * sizeof(float), &p);
    if (status == TAUT_OK) status = taut__space_cuda.alloc(place, factor_floats(&st->m, false) * sizeof(float), &qt);
    if (status == TAUT_OK) status = taut__space_cuda.alloc(place, sizeof *st->poisoned, &poisoned);
    st->p = p, st->qt = qt, st->poisoned = poisoned;
    if (status == TAUT_OK) status = start_like_host(st, s, t);
    if (status != TAUT_OK) state_destroy(st);
    else *out = st;
    return status;
}

static taut_status state_save(const taut_codec_state *st, void *dst, size_t cap, size_t *len)
{
    uint64_t word[SAVED_WORDS] = {STATE_VERSION, st->m.rows, st->m.cols, st->m.rank, st->seed};
    size_t   bytes = longer_floats(&st->m) * sizeof(float);
    *len = sizeof word + bytes;
    if (!dst) return TAUT_OK;
    if (cap < *len) return taut__fail(TAUT_E_CAPACITY, "powersgd state: %zu bytes given, %zu needed", cap, *len);
    memcpy(dst, word, sizeof word);
    TAUT_TRY(taut__space_cuda.copy(st->place, (uint8_t *)dst + sizeof word, longer(st), bytes));
    return taut__space_cuda.wait(st->place);
}

/* Checked by the host's load, on a host state of the same matrix. */
static taut_status state_load(taut_codec_state *st, const void *src, size_t len)
{
    taut_stage        s = {.codec = taut__codec_by_name("powersgd", 8)};
    taut_tensor       t = {.elems = st->m.rows * st->m.cols, .rows = st->m.rows, .cols = st->m.cols};
    taut_codec_state *host;
    s.value[RANK] = (double)st->m.rank, s.value[ITERATIONS] = st->m.written_iterations;
    TAUT_TRY(host_ops()->state_create(&s, &t, st->seed, (taut_place){0}, &host));
    taut_status status = host_ops()->state_load(host, src, len);
    host_ops()->state_destroy(host);
    if (status != TAUT_OK) return status;
    memcpy(&st->seed, (const uint64_t *)src + 4, sizeof st->seed);
    const uint8_t *factor = (const uint8_t *)src + SAVED_WORDS * sizeof(uint64_t);
    bool           finite = true;
    for (uint64_t i = 0; i < longer_floats(&st->m); i++) {
        uint32_t bits;
        memcpy(&bits, factor + 4 * i, sizeof bits);
        finite &= (bits & 0x7fffffff) < 0x7f800000;
    }
    uint32_t poisoned = !finite;
    TAUT_TRY(taut__space_cuda.put(st->place, st->poisoned, &poisoned, sizeof poisoned));
    return put_start(st, (const float *)(const void *)factor);
}

extern const taut_codec_ops taut__powersgd_device;
const taut_codec_ops        taut__powersgd_device = {
           .enqueue = {[TAUT_OP_ENCODE] = enqueue,
                       [TAUT_OP_DECODE] = enqueue,
                       [TAUT_OP_DECODE_ADD] = enqueue,
                       [TAUT_OP_PROJECT] = enqueue,
                       [TAUT_OP_ABSORB] = enqueue,
                       [TAUT_OP_RECONSTRUCT] = enqueue},
           .state_create = state_create,
           .state_destroy = state_destroy,
           .state_save = state_save,
           .state_load = state_load,
};
