/* powersgd.c : PowerSGD (Vogels, Karimireddy, Jaggi 2019, algorithms 1 and 2) with half an iteration more: X ~ P Q^T by
 * subspace iteration, started from the last step's longer factor.
 *
 * As a linear codec, for rows <= cols: round 0 averages P = X Q over ranks, absorb orthonormalises it; round 1 averages
 * Q = X^T P, orthonormalised too; round 2 averages P = X Q again; every rank reconstructs the same P Q^T. For rows > cols
 * P and Q change places, so that the longer factor travels once and the shorter twice. As a payload (gather, files): each
 * rank's own P and Q, found with `iterations` iterations from a random start where there is no state.
 *
 * A NaN or Inf anywhere makes the whole tensor NaN, on all ranks, for this step; the state then starts afresh. */
#include "../ops.h"
#include "powersgd_math.h"
#include <math.h>
#include <string.h>

enum { KEY_RANK, KEY_ITERATIONS, KEYS };
enum { HEADER = 32 }; /* u64 rows, u64 cols, u32 rank, u32 iterations, u64 0; then P and Qt */
enum { ALIGN = sizeof(float), TILE = 512, STATE_VERSION = 2 };
enum { ROUNDS = 3 }; /* the shorter factor, the longer, the shorter: P and Q, or Q and P */

static const taut_key keys[KEYS] = {
    [KEY_RANK] = {.name = "rank",
                  .kind = TAUT_KEY_INT,
                  .min = 1,
                  .max = 1024,
                  .fallback = 4,
                  .help = "columns of P and Q; at most the smaller side of the matrix"},
    [KEY_ITERATIONS] = {.name = "iterations",
                        .kind = TAUT_KEY_INT,
                        .min = 1,
                        .max = 16,
                        .fallback = 2,
                        .help = "subspace iterations where there is no state to start from"},
};

struct taut_codec_state {
    taut__lowrank d;
    uint64_t      seed;     /* shared by all ranks: they start afresh alike */
    bool          poisoned; /* the last averages were not finite */
    float        *p, *qt;   /* rows x rank, rank x cols; the longer starts the next step */
};

static taut__lowrank dims(const taut_stage *s, const taut_tensor *t)
{
    return (taut__lowrank){t->rows, t->cols, (size_t)s->value[KEY_RANK]};
}
static size_t p_elems(taut__lowrank d) { return d.rows * d.rank; }
static size_t qt_elems(taut__lowrank d) { return d.cols * d.rank; }
static size_t payload_bytes(taut__lowrank d) { return HEADER + (p_elems(d) + qt_elems(d)) * sizeof(float); }

static taut_status check(const taut_stage *s, const taut_tensor *t)
{
    size_t side = taut__min(t->rows, t->cols), rank = (size_t)s->value[KEY_RANK];
    if (side <= 1)
        return taut__fail(TAUT_E_UNSUPPORTED, "powersgd: needs a matrix, this tensor is one-dimensional (%zu x %zu)",
                          t->rows, t->cols);
    if (rank > side)
        return taut__fail(TAUT_E_RANGE, "powersgd: rank=%zu: must be 1..%zu for a matrix of %zu x %zu", rank, side,
                          t->rows, t->cols);
    return TAUT_OK;
}

static size_t capacity(const taut_stage *s, const taut_tensor *t, size_t n)
{
    (void)n;
    return payload_bytes(dims(s, t)) + ALIGN - 1; /* factors are computed in place, at an aligned address */
}

static size_t fixed(const taut_stage *s, const taut_tensor *t, size_t first, size_t n)
{
    (void)first, (void)n;
    return payload_bytes(dims(s, t));
}

static void fill(float *x, size_t n, float v)
{
    for (size_t i = 0; i < n; i++) x[i] = v;
}

/* ---- half iterations ---- */

static bool   wide(taut__lowrank d) { return d.rows <= d.cols; }
static bool   makes_p(taut__lowrank d, int round) { return (round != 1) == wide(d); }
static float *longer(taut__lowrank d, float *p, float *qt) { return wide(d) ? qt : p; }
static size_t longer_elems(taut__lowrank d) { return wide(d) ? qt_elems(d) : p_elems(d); }

static void start(taut__lowrank d, uint64_t seed, float *factor)
{
    taut__lowrank_random(seed, 0, factor, longer_elems(d), 1);
}

/* The round's factor from the other one. */
static void multiply(taut__lowrank d, int round, const float *x, const float *p, const float *qt, float *factor)
{
    if (makes_p(d, round)) taut__lowrank_p(d, x, qt, factor);
    else taut__lowrank_qt(d, x, p, factor);
}

static void orthonormalise(taut__lowrank d, int round, float *factor, uint64_t seed)
{
    if (makes_p(d, round)) taut__lowrank_orthonormalise(d, factor, seed);
    else taut__lowrank_orthonormalise_rows(d, factor, seed);
}

/* ---- payloads ---- */

/* From the longer factor to the next P and Qt. False if something is not finite. */
static bool iterate(taut__lowrank d, const float *x, int iterations, uint64_t seed, float *p, float *qt)
{
    for (int half = 0; half <= 2 * iterations; half++) {
        bool   last = half == 2 * iterations;
        int    round = half % 2;
        float *factor = makes_p(d, round) ? p : qt;
        multiply(d, round, x, p, qt, factor);
        if (!taut__all_finite(factor, makes_p(d, round) ? p_elems(d) : qt_elems(d))) return false;
        if (!last) orthonormalise(d, round, factor, seed);
    }
    return true;
}

/* err = src - P Qt, in place if wanted. */
static void remainder_of(taut__lowrank d, const float *p, const float *qt, const float *src, float *err)
{
    float tile[TILE];
    for (size_t i = 0; i < d.rows; i++)
        for (size_t j = 0; j < d.cols; j += TILE) {
            size_t n = taut__min(TILE, d.cols - j), at = i * d.cols + j;
            taut__lowrank_row(d, p + i * d.rank, qt, 1, j, n, tile);
            for (size_t l = 0; l < n; l++) {
                float e = src[at + l] - tile[l];
                err[at + l] = isfinite(e) ? e : 0;
            }
        }
}

static void put_header(uint8_t *dst, taut__lowrank d, uint32_t iterations)
{
    uint64_t side[2] = {d.rows, d.cols}, zero = 0;
    uint32_t word[2] = {(uint32_t)d.rank, iterations};
    memcpy(dst, side, sizeof side);
    memcpy(dst + 16, word, sizeof word);
    memcpy(dst + 24, &zero, sizeof zero);
}

static taut_status encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err)
{
    const taut_stage *s = taut__stage(c);
    taut__lowrank     d = dims(s, c->tensor);
    taut_codec_state *st = c->state;
    size_t            need = capacity(s, c->tensor, c->n);
    TAUT_TRY(check(s, c->tensor));
    if (cap < need) return taut__fail(TAUT_E_CAPACITY, "powersgd: %zu bytes given, %zu needed", cap, need);

    uint8_t *body = dst + HEADER;
    float   *p = (float *)(void *)(body + (-(uintptr_t)body & (ALIGN - 1))), *qt = p + p_elems(d);
    int      iterations = st ? 1 : (int)s->value[KEY_ITERATIONS];
    float   *first = longer(d, p, qt), *kept = st ? longer(d, st->p, st->qt) : NULL;
    if (st) memcpy(first, kept, longer_elems(d) * sizeof *first);
    else start(d, c->shared_seed, first);
    bool finite = iterate(d, src, iterations, c->shared_seed, p, qt);
    if (!finite) fill(p, p_elems(d) + qt_elems(d), NAN);
    if (st && finite) memcpy(kept, first, longer_elems(d) * sizeof *kept);
    if (st && !finite) start(d, st->seed, kept);
    if (err && finite) remainder_of(d, p, qt, src, err);
    if (err && !finite) memset(err, 0, c->n * sizeof *err);

    memmove(body, p, (p_elems(d) + qt_elems(d)) * sizeof *p);
    put_header(dst, d, (uint32_t)s->value[KEY_ITERATIONS]);
    *len = payload_bytes(d);
    return TAUT_OK;
}

static taut_status corrupt(const char *what) { return taut__fail(TAUT_E_CORRUPT, "powersgd payload: %s", what); }

static taut_status open_payload(const uint8_t *src, size_t len, taut__lowrank *d, uint32_t *iterations)
{
    if (len < HEADER) return corrupt("shorter than its header");
    uint64_t side[2], zero;
    uint32_t word[2];
    memcpy(side, src, sizeof side);
    memcpy(word, src + 16, sizeof word);
    memcpy(&zero, src + 24, sizeof zero);
    size_t floats = (len - HEADER) / sizeof(float), rank = word[0], sum, product;
    if (zero || word[1] < 1 || word[1] > keys[KEY_ITERATIONS].max) return corrupt("iterations out of range");
    if (rank < 1 || rank > side[0] || rank > side[1]) return corrupt("rank out of range");
    if (!taut__add_ok(side[0], side[1], &sum) || !taut__mul_ok(sum, rank, &product) || product != floats ||
        (len - HEADER) % sizeof(float) != 0)
        return corrupt("length does not match the factors");
    *d = (taut__lowrank){side[0], side[1], rank};
    *iterations = word[1];
    return TAUT_OK;
}

static taut_status open_matrix(const uint8_t *src, size_t len, size_t n, taut__lowrank *d)
{
    uint32_t iterations;
    size_t   elems;
    TAUT_TRY(open_payload(src, len, d, &iterations));
    return taut__mul_ok(d->rows, d->cols, &elems) && elems == n ? TAUT_OK
                                                                : corrupt("matrix is not of the tensor's size");
}

static taut_status decode(const taut_call *c, const uint8_t *src, size_t len, float *dst)
{
    taut__lowrank d;
    TAUT_TRY(open_matrix(src, len, c->n, &d));
    const uint8_t *p = src + HEADER, *qt = p + p_elems(d) * sizeof(float);
    for (size_t i = 0; i < d.rows; i++)
        taut__lowrank_row(d, p + i * d.rank * sizeof(float), qt, 1, 0, d.cols, dst + i * d.cols);
    return TAUT_OK;
}

static taut_status decode_add(const taut_call *c, const uint8_t *src, size_t len, float *acc)
{
    float         tile[TILE];
    taut__lowrank d;
    TAUT_TRY(open_matrix(src, len, c->n, &d));
    const uint8_t *p = src + HEADER, *qt = p + p_elems(d) * sizeof(float);
    for (size_t i = 0; i < d.rows; i++)
        for (size_t j = 0; j < d.cols; j += TILE) {
            size_t n = taut__min(TILE, d.cols - j);
            taut__lowrank_row(d, p + i * d.rank * sizeof(float), qt, 1, j, n, tile);
            for (size_t l = 0; l < n; l++) acc[i * d.cols + j + l] += tile[l];
        }
    return TAUT_OK;
}

static taut_status describe(const uint8_t *src, size_t len, taut_stage *s)
{
    taut__lowrank d;
    uint32_t      iterations;
    TAUT_TRY(open_payload(src, len, &d, &iterations));
    if ((double)d.rank > keys[KEY_RANK].max) return corrupt("rank out of range");
    s->value[KEY_RANK] = (double)d.rank;
    s->value[KEY_ITERATIONS] = iterations;
    return TAUT_OK;
}

/* ---- linear ---- */

static taut_status need_state(const taut_call *c)
{
    taut__lowrank d = dims(taut__stage(c), c->tensor);
    if (!c->state) return taut__fail(TAUT_E_STATE, "powersgd: no state for the factors");
    const taut__lowrank *h = &c->state->d;
    return h->rows == d.rows && h->cols == d.cols && h->rank == d.rank
               ? TAUT_OK
               : taut__fail(TAUT_E_STATE,
                            "powersgd: state of a matrix of %zu x %zu and rank %zu, here it is %zu x %zu and rank %zu",
                            h->rows, h->cols, h->rank, d.rows, d.cols, d.rank);
}

static size_t factor_elems(const taut_stage *s, const taut_tensor *t, int round)
{
    taut__lowrank d = dims(s, t);
    return makes_p(d, round) ? p_elems(d) : qt_elems(d);
}

static taut_status project(const taut_call *c, int round, const float *src, float *factor)
{
    TAUT_TRY(need_state(c));
    taut_codec_state *st = c->state;
    if (round == 0 && st->poisoned) {
        start(st->d, st->seed, longer(st->d, st->p, st->qt));
        st->poisoned = false;
    }
    if (st->poisoned) fill(factor, factor_elems(taut__stage(c), c->tensor, round), NAN);
    else multiply(st->d, round, src, st->p, st->qt, factor);
    return TAUT_OK;
}

static taut_status absorb(const taut_call *c, int round, float *factor)
{
    TAUT_TRY(need_state(c));
    taut_codec_state *st = c->state;
    size_t            n = factor_elems(taut__stage(c), c->tensor, round);
    st->poisoned |= !taut__all_finite(factor, n);
    if (round < ROUNDS - 1 && !st->poisoned) orthonormalise(st->d, round, factor, c->shared_seed);
    memcpy(makes_p(st->d, round) ? st->p : st->qt, factor, n * sizeof *factor);
    return TAUT_OK;
}

static taut_status reconstruct(const taut_call *c, float factor, float *dst)
{
    TAUT_TRY(need_state(c));
    const taut_codec_state *st = c->state;
    if (st->poisoned) {
        fill(dst, c->n, NAN);
        return TAUT_OK;
    }
    for (size_t i = 0; i < st->d.rows; i++)
        taut__lowrank_row(st->d, st->p + i * st->d.rank, st->qt, factor, 0, st->d.cols, dst + i * st->d.cols);
    return TAUT_OK;
}

static const taut_codec_linear linear = {.rounds = ROUNDS, .factor_elems = factor_elems};
static const taut_linear_ops   linear_host = {.project = project, .absorb = absorb, .reconstruct = reconstruct};

/* ---- state ---- */

static void state_destroy(taut_codec_state *st)
{
    if (!st) return;
    taut__free(st->p);
    taut__free(st->qt);
    taut__free(st);
}

static taut_status state_create(const taut_stage *s, const taut_tensor *t, uint64_t shared_seed, taut_place place,
                                taut_codec_state **out)
{
    (void)place;
    *out = NULL;
    TAUT_TRY(check(s, t));
    taut_codec_state *st = taut__alloc(1, sizeof *st);
    if (!st) return taut__fail(TAUT_E_NOMEM, "powersgd: out of memory");
    st->d = dims(s, t);
    st->seed = shared_seed;
    st->p = taut__alloc(p_elems(st->d), sizeof *st->p);
    st->qt = taut__alloc(qt_elems(st->d), sizeof *st->qt);
    if (!st->p || !st->qt) {
        size_t floats = p_elems(st->d) + qt_elems(st->d);
        state_destroy(st);
        return taut__fail(TAUT_E_NOMEM, "powersgd: out of memory for factors of %zu floats", floats);
    }
    start(st->d, shared_seed, longer(st->d, st->p, st->qt));
    *out = st;
    return TAUT_OK;
}

enum { SAVED_WORDS = 5 }; /* u64 version, rows, cols, rank, seed; then the longer factor */

static taut_status state_save(const taut_codec_state *st, void *dst, size_t cap, size_t *len)
{
    uint64_t word[SAVED_WORDS] = {STATE_VERSION, st->d.rows, st->d.cols, st->d.rank, st->seed};
    size_t   bytes = longer_elems(st->d) * sizeof(float);
    *len = sizeof word + bytes;
    if (!dst) return TAUT_OK;
    if (cap < *len) return taut__fail(TAUT_E_CAPACITY, "powersgd state: %zu bytes given, %zu needed", cap, *len);
    memcpy(dst, word, sizeof word);
    memcpy((uint8_t *)dst + sizeof word, longer(st->d, st->p, st->qt), bytes);
    return TAUT_OK;
}

/* A state that was saved poisoned holds factors that are not finite, and starts afresh here as it would have there. */
static taut_status state_load(taut_codec_state *st, const void *src, size_t len)
{
    uint64_t word[SAVED_WORDS];
    size_t   bytes = longer_elems(st->d) * sizeof(float);
    float   *kept = longer(st->d, st->p, st->qt);
    if (len != sizeof word + bytes)
        return taut__fail(TAUT_E_CORRUPT, "powersgd state: %zu bytes, must be %zu", len, sizeof word + bytes);
    memcpy(word, src, sizeof word);
    if (word[0] != STATE_VERSION)
        return taut__fail(TAUT_E_VERSION, "powersgd state: version %llu, must be %d", (unsigned long long)word[0],
                          STATE_VERSION);
    if (word[1] != st->d.rows || word[2] != st->d.cols || word[3] != st->d.rank)
        return taut__fail(TAUT_E_MISMATCH,
                          "powersgd state: of a matrix of %llu x %llu and rank %llu, here it is %zu x %zu and rank %zu",
                          (unsigned long long)word[1], (unsigned long long)word[2], (unsigned long long)word[3],
                          st->d.rows, st->d.cols, st->d.rank);
    memcpy(kept, (const uint8_t *)src + sizeof word, bytes);
    st->seed = word[4];
    st->poisoned = !taut__all_finite(kept, longer_elems(st->d));
    return TAUT_OK;
}

static const taut_codec_ops host = {
    .encode = encode,
    .decode = decode,
    .decode_add = decode_add,
    .linear = &linear_host,
    .state_create = state_create,
    .state_destroy = state_destroy,
    .state_save = state_save,
    .state_load = state_load,
};

extern const taut_codec_ops taut__powersgd_device;
const taut_codec            taut__codec_powersgd = {
               .id = 8,
               .version = 1,
               .name = "powersgd",
               .help = "low rank with warm start, for matrices; rank: 1 to the smaller side, default 4; "
                                  "iterations: 1..16 without state, default 2",
               .caps = TAUT_CAP_LINEAR | TAUT_CAP_STATEFUL | TAUT_CAP_FEEDBACK | TAUT_CAP_FIXED_SIZE,
               .keys = keys,
               .n_keys = KEYS,
               .check = check,
               .capacity = capacity,
               .fixed = fixed,
               .describe = describe,
               .linear = &linear,
               .ops = {[TAUT_HOST] = &host, [TAUT_CUDA] = &taut__powersgd_device},
};
