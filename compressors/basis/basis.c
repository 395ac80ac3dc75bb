/* basis.c : see basis.h. */
#include "basis.h"
#include "../../comm/base/bytes.h"
#include "../dispatch.h"
#include "../vectors.h"
#include "basis_kernels.h"
#include <math.h>
#include <string.h>
#include <xxhash.h>

enum { TILE = BASIS_TILE, SAVED_VERSION = 1 };
_Static_assert(TILE % BASIS_ROWS == 0, "tiles are whole blocks");

struct taut_axes {
    size_t            n, vectors, most, r; /* r: directions, rounded up to BASIS_LANES */
    size_t            k;                   /* directions that there are: most, or n where that is less */
    bool              given;               /* see taut__axes_given */
    bool              across;              /* vectors are columns of the tensor: rows are the shorter side */
    uint64_t          seed, renewals;
    taut__reflections q;
    float            *w, *wt, *t, *tt; /* q's */
    float            *v, *a;           /* n x r: leading directions; what is learnt */
    double           *energy;          /* r: s^2 */
    double           *work, *square;   /* n x r; r x r, and r more */
    float            *block, *ab;      /* TILE rows of n; 2 * BASIS_ROWS * r */
    taut_place        place;           /* where `there` lies */
    float            *there;           /* not on the host: w, wt, v, a, t, tt once more, in one piece; NULL: nowhere */
    bool              sent;            /* it holds this basis */
};

static const struct taut__basis_kernels *kernels(void) { return taut__simd_get()->basis; }

/* ---- life ---- */

bool taut__axes_suit(const taut_tensor *t) { return taut__min(t->rows, t->cols) > 1; }

bool taut__axes_given(const taut_axes *a) { return a && a->given; }
void taut__axes_give(taut_axes *a, bool given) { a->given = given; }

size_t   taut__axes_most(const taut_axes *a) { return a->most; }
bool     taut__axes_ready(const taut_axes *a) { return a && a->renewals > 0; }
uint64_t taut__axes_digest(const taut_axes *a)
{
    if (!taut__axes_ready(a)) return 0;
    return XXH3_64bits_withSeed(a->t, a->r * a->r * sizeof *a->t,
                                XXH3_64bits_withSeed(a->w, a->n * a->r * sizeof *a->w, a->renewals)) |
           1;
}

/* Independent of anything but the seed, without a function whose last bit depends on a library. */
static void begin_anywhere(taut_axes *a)
{
    taut__rng rng = taut__rng_of(a->seed, 0);
    for (size_t j = 0; j < a->n; j++)
        for (size_t k = 0; k < a->k; k++)
            a->v[j * a->r + k] = (float)((int32_t)taut__random32(rng, (uint32_t)(j * a->k + k)) >> 8) * 0x1p-24f;
}

static taut_status out_of_memory(const taut_axes *a)
{
    return taut__fail(TAUT_E_NOMEM, "basis: out of memory for %zu directions of %zu", a->k, a->n);
}

static bool make_room(taut_axes *a)
{
    size_t m = a->n * a->r, s = a->r * a->r;
    a->w = taut__alloc(4 * m + 2 * s + TILE * a->n + 2 * BASIS_ROWS * a->r, sizeof *a->w);
    a->energy = taut__alloc(2 * a->r + m + s, sizeof *a->energy);
    if (!a->w || !a->energy) return false;
    a->wt = a->w + m, a->v = a->wt + m, a->a = a->v + m, a->t = a->a + m, a->tt = a->t + s; /* see matrices() */
    a->block = a->tt + s, a->ab = a->block + TILE * a->n;
    a->work = a->energy + a->r, a->square = a->work + m;
    a->q = (taut__reflections){a->n, a->r, a->w, a->wt, a->t, a->tt};
    return true;
}

taut_status taut__axes_create(const taut_tensor *t, size_t most, uint64_t seed, taut_axes **out)
{
    *out = NULL;
    if (!taut__axes_suit(t))
        return taut__fail(TAUT_E_UNSUPPORTED, "basis: needs a matrix, this tensor is one-dimensional (%zu x %zu)",
                          t->rows, t->cols);
    taut_axes *a = taut__alloc(1, sizeof *a);
    if (!a) return taut__fail(TAUT_E_NOMEM, "basis: out of memory");
    a->across = t->rows < t->cols;
    a->n = taut__min(t->rows, t->cols), a->vectors = taut__max(t->rows, t->cols);
    a->most = most, a->k = taut__min(most, a->n), a->r = taut__ceil_div(a->k, BASIS_LANES) * BASIS_LANES;
    a->seed = seed;
    if (!make_room(a)) {
        taut_status s = out_of_memory(a);
        taut__axes_destroy(a);
        return s;
    }
    begin_anywhere(a);
    *out = a;
    return TAUT_OK;
}

static void leave(taut_axes *a)
{
    if (a->there) taut__memory_of(a->place.space)->release(a->place, a->there);
    a->there = NULL;
    a->sent = false;
}

void taut__axes_destroy(taut_axes *a)
{
    if (!a) return;
    leave(a);
    taut__free(a->w);
    taut__free(a->energy);
    taut__free(a);
}

/* ---- tiles: TILE vectors, at most ---- */

size_t taut__axes_tiles(const taut_axes *a) { return taut__ceil_div(a->vectors, TILE); }

static size_t vectors_in(const taut_axes *a, size_t tile) { return taut__min(TILE, a->vectors - tile * TILE); }

/* Where number j of vector v of a tile lies: first + v * by_vector + j * by_place. */
typedef struct layout {
    size_t first, by_vector, by_place;
} layout;

/* Coordinates of a tile lie in its own elements, one coordinate of all its vectors after the other: blocks of them have like sizes, which codecs
 * make use of. Where vectors are columns that is so anyway. */
static layout elements(const taut_axes *a, size_t tile, bool turned)
{
    if (a->across) return (layout){tile * TILE, 1, a->vectors};
    return turned ? (layout){tile * TILE * a->n, 1, vectors_in(a, tile)} : (layout){tile * TILE * a->n, a->n, 1};
}

static layout scales(const taut_axes *a, const taut_tensor *t, size_t tile)
{
    if (t->scale_n == t->elems) return elements(a, tile, false);
    return a->across ? (layout){0, 0, 1} : (layout){tile * TILE, 1, 0};
}

enum { STRIP = 16 }; /* numbers of a vector: a cache line */

/* The tile's vectors as rows of block; rows that there are not are zero. */
static void load(taut_axes *a, size_t tile, layout at, const float *x)
{
    size_t m = vectors_in(a, tile);
    x += at.first;
    for (size_t from = 0; from < a->n; from += STRIP)
        for (size_t v = 0; v < m; v++)
            for (size_t j = from; j < taut__min(from + STRIP, a->n); j++)
                a->block[v * a->n + j] = x[v * at.by_vector + j * at.by_place];
    memset(a->block + m * a->n, 0, (TILE - m) * a->n * sizeof *a->block);
}

static void store(const taut_axes *a, size_t tile, layout at, float *x)
{
    size_t m = vectors_in(a, tile);
    x += at.first;
    for (size_t from = 0; from < a->n; from += STRIP)
        for (size_t v = 0; v < m; v++)
            for (size_t j = from; j < taut__min(from + STRIP, a->n); j++)
                x[v * at.by_vector + j * at.by_place] = a->block[v * a->n + j];
}

static void divide(taut_axes *a, const taut_tensor *t, size_t tile)
{
    layout at = scales(a, t, tile);
    if (t->scale_n <= 1) return;
    for (size_t v = 0; v < vectors_in(a, tile); v++)
        for (size_t j = 0; j < a->n; j++)
            a->block[v * a->n + j] /= t->scale[at.first + v * at.by_vector + j * at.by_place];
}

static void multiply(taut_axes *a, const taut_tensor *t, size_t tile)
{
    layout at = scales(a, t, tile);
    if (t->scale_n <= 1) return;
    for (size_t v = 0; v < vectors_in(a, tile); v++)
        for (size_t j = 0; j < a->n; j++)
            a->block[v * a->n + j] *= t->scale[at.first + v * at.by_vector + j * at.by_place];
}

static void reflect(taut_axes *a, bool back)
{
    for (size_t v = 0; v < TILE; v += BASIS_ROWS) kernels()->reflect(&a->q, a->block + v * a->n, a->n, back, a->ab);
}

void taut__axes_turn(taut_axes *a, const taut_tensor *t, size_t tile, float *x)
{
    load(a, tile, elements(a, tile, false), x);
    divide(a, t, tile);
    reflect(a, false);
    store(a, tile, elements(a, tile, true), x);
}

void taut__axes_back(taut_axes *a, const taut_tensor *t, size_t tile, float *x)
{
    load(a, tile, elements(a, tile, true), x);
    reflect(a, true);
    multiply(a, t, tile);
    store(a, tile, elements(a, tile, false), x);
}

size_t taut__axes_run(const taut_axes *a, size_t tile, size_t i, size_t *at)
{
    layout e = elements(a, tile, false);
    if (i >= (a->across ? a->n : 1)) return 0;
    *at = e.first + i * e.by_place;
    return a->across ? vectors_in(a, tile) : vectors_in(a, tile) * a->n;
}

void taut__axes_look(taut_axes *a, const taut_tensor *t, size_t tile, float *x, float *y)
{
    size_t m = vectors_in(a, tile);
    layout own = a->across ? (layout){0, 1, m} : (layout){0, a->n, 1};
    load(a, tile, own, x);
    divide(a, t, tile);
    store(a, tile, own, x);
    reflect(a, false);
    store(a, tile, (layout){0, 1, m}, y);
}

/* ---- learning ---- */

void taut__axes_learn_begin(taut_axes *a, double keep)
{
    for (size_t j = 0; j < a->n; j++)
        for (size_t k = 0; k < a->r; k++)
            a->a[j * a->r + k] = (float)(keep * a->energy[k] * (double)a->v[j * a->r + k]);
}

void taut__axes_learn(taut_axes *a, const taut_tensor *t, size_t tile, const float *x)
{
    load(a, tile, elements(a, tile, false), x);
    divide(a, t, tile);
    for (size_t v = 0; v < TILE; v += BASIS_ROWS) {
        kernels()->project(a->block + v * a->n, a->n, a->n, a->v, a->r, a->ab);
        kernels()->outer(a->block + v * a->n, a->n, a->n, a->ab, a->r, a->a);
    }
}

/* Sum of x[j] y[j] over j in [from, n), of columns of n x r. */
static double dot(const taut_axes *a, const double *x, const double *y, size_t from)
{
    double sum = 0;
    for (size_t j = from; j < a->n; j++) sum += x[j * a->r] * y[j * a->r];
    return sum;
}

/* Column k of work, from place k on, goes to +-norm e_k by a reflection, whose unit vector, rounded to what w holds, replaces it there;
 * nothing where the norm is not above `least`: the column is nothing beside the first. Returns the norm. */
static double reflection(taut_axes *a, size_t k, double least)
{
    double *c = a->work + k, norm = sqrt(dot(a, c, c, k)), length;
    for (size_t j = 0; j < k; j++) c[j * a->r] = 0;
    if (norm > least) c[k * a->r] += copysign(norm, c[k * a->r]);
    length = sqrt(dot(a, c, c, k));
    for (size_t j = k; j < a->n; j++) c[j * a->r] = norm > least ? (double)(float)(c[j * a->r] / length) : 0;
    return norm > least ? norm : 0;
}

/* 2 / |w|^2 of the reflection in column k of work; 0: there is none. */
static double tau_of(const taut_axes *a, size_t k)
{
    double length2 = dot(a, a->work + k, a->work + k, 0);
    return length2 > 0 ? 2 / length2 : 0;
}

/* Column l of work less its part along the reflection in column k. */
static void reflect_column(taut_axes *a, size_t k, double tau, size_t l)
{
    double by = tau * dot(a, a->work + k, a->work + l, k);
    for (size_t j = k; j < a->n; j++) a->work[j * a->r + l] -= by * a->work[j * a->r + k];
}

/* T of the reflections in work (Schreiber and Van Loan 1989, section 2): column k from those before. */
static void triangle(taut_axes *a)
{
    size_t  r = a->r;
    double *t = a->square, *z = t + r * r;
    memset(t, 0, r * r * sizeof *t);
    for (size_t k = 0; k < a->k; k++) {
        double tau = tau_of(a, k);
        for (size_t l = 0; l < k; l++) z[l] = dot(a, a->work + l, a->work + k, k);
        for (size_t l = 0; l < k; l++) {
            double sum = 0;
            for (size_t m = l; m < k; m++) sum += t[l * r + m] * z[m];
            t[l * r + k] = -tau * sum;
        }
        t[k * r + k] = tau;
    }
    for (size_t l = 0; l < r; l++)
        for (size_t k = 0; k < r; k++) a->t[l * r + k] = a->tt[k * r + l] = (float)t[l * r + k];
}

/* The first directions: v = I - (W T) W^T of those columns. */
static void leading(taut_axes *a)
{
    size_t  r = a->r;
    double *row = a->square + r * r; /* of W T */
    for (size_t j = 0; j < a->n; j++) {
        for (size_t m = 0; m < r; m++) {
            row[m] = 0;
            for (size_t l = 0; l <= m; l++) row[m] += a->work[j * r + l] * (double)a->t[l * r + m];
        }
        for (size_t k = 0; k < a->k; k++) {
            double sum = j == k;
            for (size_t m = 0; m <= k; m++) sum -= row[m] * a->work[k * r + m]; /* beyond, w has zeros */
            a->v[j * r + k] = (float)sum;
        }
    }
}

/* The basis of the reflections in work, which floats hold. */
static void adopt(taut_axes *a)
{
    for (size_t j = 0; j < a->n; j++)
        for (size_t k = 0; k < a->r; k++) a->w[j * a->r + k] = a->wt[k * a->n + j] = (float)a->work[j * a->r + k];
    triangle(a);
    leading(a);
    a->sent = false;
}

bool taut__axes_renew(taut_axes *a)
{
    const double nothing = 1e-10; /* of the first column's norm: below, a column is rounding */
    double       most = 0;
    for (size_t i = 0; i < a->n * a->r; i++) {
        if (!isfinite(a->a[i])) return false;
        a->work[i] = a->a[i];
    }
    for (size_t k = 0; k < a->k; k++) {
        a->energy[k] = reflection(a, k, nothing * most);
        most = fmax(most, a->energy[k]);
        double tau = tau_of(a, k);
        for (size_t l = k + 1; l < a->k; l++) reflect_column(a, k, tau, l);
    }
    adopt(a);
    a->renewals++;
    return true;
}

/* ---- whole tensors, in a place ---- */

/* Axes for as long as a call lasts, with somebody's matrices. */
static taut_status borrow(const taut__axes_there *m, taut_axes *a)
{
    *a = (taut_axes){.n = m->n, .vectors = m->vectors, .r = m->r, .across = m->across, .a = m->a};
    a->v = (float *)(uintptr_t)m->v;
    a->q = (taut__reflections){m->n, m->r, m->w, m->wt, m->t, m->tt};
    a->block = taut__alloc(TILE * a->n + 2 * BASIS_ROWS * a->r, sizeof *a->block);
    if (!a->block) return taut__fail(TAUT_E_NOMEM, "basis: out of memory for %d vectors of %zu", TILE, a->n);
    a->ab = a->block + TILE * a->n;
    return TAUT_OK;
}

taut_status taut__axes_change_here(const taut__axes_there *m, const taut_tensor *t, float *x, bool back)
{
    taut_axes a;
    TAUT_TRY(borrow(m, &a));
    for (size_t i = 0; i < taut__axes_tiles(&a); i++) (back ? taut__axes_back : taut__axes_turn)(&a, t, i, x);
    taut__free(a.block);
    return TAUT_OK;
}

taut_status taut__axes_learn_here(const taut__axes_there *m, const taut_tensor *t, const float *x)
{
    taut_axes a;
    TAUT_TRY(borrow(m, &a));
    for (size_t i = 0; i < taut__axes_tiles(&a); i++) taut__axes_learn(&a, t, i, x);
    taut__free(a.block);
    return TAUT_OK;
}

static size_t there_floats(const taut_axes *a) { return 4 * a->n * a->r + 2 * a->r * a->r; }

/* w, wt, v, a, t, tt lie one after the other, here (make_room) and there. */
static taut__axes_there matrices(const taut_axes *a)
{
    const float *w = a->there;
    size_t       m = a->n * a->r;
    return (taut__axes_there){.n = a->n,
                              .vectors = a->vectors,
                              .r = a->r,
                              .across = a->across,
                              .w = w,
                              .wt = w + m,
                              .v = w + 2 * m,
                              .a = a->there + 3 * m,
                              .t = w + 4 * m,
                              .tt = w + 4 * m + a->r * a->r};
}

taut_status taut__axes_place(taut_axes *a, taut_place p)
{
    void *memory = NULL;
    bool  same = a->place.space == p.space && a->place.device == p.device;
    if (taut__on_host(p) || !same) leave(a);
    a->place = p;
    if (taut__on_host(p) || a->there) return TAUT_OK;
    const taut__space *space = taut__memory_of(p.space);
    if (!space) return TAUT_E_UNSUPPORTED;
    TAUT_TRY(space->alloc(p, there_floats(a) * sizeof *a->there, &memory));
    a->there = memory;
    return TAUT_OK;
}

/* In the order of the stream: what uses them is enqueued behind. They stay as they are here until that has been waited for. */
static taut_status send(taut_axes *a)
{
    if (a->sent) return TAUT_OK;
    TAUT_TRY(taut__memory_of(a->place.space)->copy(a->place, a->there, a->w, there_floats(a) * sizeof *a->there));
    a->sent = true;
    return TAUT_OK;
}

taut_status taut__axes_change(taut_axes *a, const taut_tensor *t, float *x, bool back)
{
    TAUT_TRY(send(a));
    taut__axes_there m = matrices(a);
    return taut__vectors_of(a->place.space)->change(a->place, &m, t, x, back);
}

taut_status taut__axes_learn_all(taut_axes *a, const taut_tensor *t, const float *x, double keep)
{
    size_t n = a->n * a->r, bytes = n * sizeof *a->a;
    taut__axes_learn_begin(a, keep);
    a->sent = false;
    TAUT_TRY(send(a));
    taut__axes_there m = matrices(a);
    TAUT_TRY(taut__vectors_of(a->place.space)->learn(a->place, &m, t, x));
    return taut__memory_of(a->place.space)->copy(a->place, a->a, m.a, bytes);
}

/* ---- checkpoints: u32 version, u32 most, u64 n, u64 vectors, u64 renewals, u64 given; of a basis, w as n x k floats, then k doubles of energy ---- */

enum { SAVED_HEADER = 40 };

static size_t saved_bytes(const taut_axes *a)
{
    return SAVED_HEADER + (a->renewals > 0 ? a->n * a->k * sizeof(float) + a->k * sizeof(double) : 0);
}

taut_status taut__axes_save(const taut_axes *a, void *dst, size_t cap, size_t *len)
{
    taut__writer w = {dst, cap, 0};
    *len = saved_bytes(a);
    if (!dst) return TAUT_OK;
    if (cap < *len) return taut__fail(TAUT_E_CAPACITY, "basis: %zu bytes given, %zu needed", cap, *len);
    taut__write32(&w, SAVED_VERSION);
    taut__write32(&w, (uint32_t)a->most);
    taut__write64(&w, a->n);
    taut__write64(&w, a->vectors);
    taut__write64(&w, a->renewals);
    taut__write64(&w, a->given);
    for (size_t j = 0; j < a->n && a->renewals > 0; j++)
        for (size_t k = 0; k < a->k; k++) taut__write_f32(&w, a->w[j * a->r + k]);
    for (size_t k = 0; k < a->k && a->renewals > 0; k++) taut__write_f64(&w, a->energy[k]);
    return TAUT_OK;
}

static taut_status damaged(const char *what)
{
    return taut__fail(TAUT_E_CORRUPT, "basis: saved bytes are malformed: %s", what);
}

/* Reflections are unit vectors, or nothing, with nothing before their place: anything else would not be orthonormal. */
static taut_status check_reflections(taut__reader r, size_t n, size_t directions)
{
    const double   near = 1e-5;
    const uint8_t *w = taut__read(&r, n * directions * sizeof(float));
    for (size_t k = 0; k < directions; k++) {
        double length2 = 0;
        for (size_t j = 0; j < n; j++) {
            double x = (double)taut__float_at(w + 4 * (j * directions + k));
            if (!isfinite(x) || (j < k && x != 0)) return damaged("a reflection");
            length2 += x * x;
        }
        if (length2 != 0 && fabs(length2 - 1) > near) return damaged("a reflection's length");
        double energy = taut__read_f64(&r);
        if (!(energy >= 0) || !isfinite(energy)) return damaged("an energy");
    }
    return TAUT_OK;
}

taut_status taut__axes_check(const taut_tensor *t, const void *src, size_t len, size_t *most)
{
    taut__reader r = {src, len, false};
    uint32_t     version = taut__read32(&r), wanted = taut__read32(&r);
    uint64_t n = taut__read64(&r), vectors = taut__read64(&r), renewals = taut__read64(&r), given = taut__read64(&r);
    size_t   side = taut__min(t->rows, t->cols), directions = taut__min(wanted, side);
    *most = wanted;
    if (r.bad) return damaged("shorter than their header");
    if (version != SAVED_VERSION)
        return taut__fail(TAUT_E_VERSION, "basis: saved by version %u: this library reads %d", version, SAVED_VERSION);
    if (wanted < 1 || wanted > BASIS_MOST || given > 1) return damaged("directions");
    if (n != side || vectors != taut__max(t->rows, t->cols))
        return taut__fail(TAUT_E_MISMATCH, "basis: saved of a matrix of %llu x %llu, this one has %zu x %zu",
                          (unsigned long long)n, (unsigned long long)vectors, side, taut__max(t->rows, t->cols));
    if (r.left != (renewals ? side * directions * sizeof(float) + directions * sizeof(double) : 0))
        return damaged("their length");
    return renewals ? check_reflections(r, side, directions) : TAUT_OK;
}

taut_status taut__axes_load(taut_axes *a, const void *src, size_t len)
{
    taut__reader r = {src, len, false};
    taut_tensor  t = {
         .elems = a->n * a->vectors, .rows = a->across ? a->n : a->vectors, .cols = a->across ? a->vectors : a->n};
    size_t most;
    TAUT_TRY(taut__axes_check(&t, src, len, &most));
    if (most != a->most)
        return taut__fail(TAUT_E_MISMATCH, "basis: saved with %zu directions, this one has %zu", most, a->most);
    taut__read(&r, SAVED_HEADER - 2 * sizeof(uint64_t));
    a->renewals = taut__read64(&r);
    a->given = taut__read64(&r);
    memset(a->work, 0, a->n * a->r * sizeof *a->work);
    if (a->renewals == 0) {
        begin_anywhere(a);
        a->sent = false;
        return TAUT_OK;
    }
    for (size_t j = 0; j < a->n; j++)
        for (size_t k = 0; k < a->k; k++) a->work[j * a->r + k] = (double)taut__read_f32(&r);
    for (size_t k = 0; k < a->k; k++) a->energy[k] = taut__read_f64(&r);
    adopt(a);
    return TAUT_OK;
}
