/* contexts_coded.c : contexts for code `rans` that a payload could carry, with the real coder and its tables.
 * `build/release/tests/bench/contexts_coded TRACE.json FILE [OTHER]`
 *
 * Codes of every matrix of a trace's file, at one relative error for all, as 1, 2 and 4 slices of whole rows: what an allreduce of so many ranks sends. Bytes are
 * those of the payload, 12 of its header included. A change is taken where it makes a chunk shorter.
 *   across   blocks down the columns instead of along the rows: 64 rows of a column
 *   tables   a table per element, the block's shifted by the column's level: mean magnitudes in half octaves, sent per chunk. Tables are those of
 *            grid_model.c, and six more below the smallest; what an element takes by them is its logarithm
 *   order    columns in the order of their levels, here in octaves, sent per chunk; then coded as now
 *   other's  columns in the order of their energies in OTHER (else in the file itself), which all ranks would have to know; nothing is sent
 * Then the classes alone: their share, and what they take where the class of the block one row above (in a basis learnt from OTHER: of the same
 * coordinate, 64 vectors before) is averaged with that of the block before. Last, nanoseconds per element of coding and of what `order` adds
 * (without the levels, whose coding is not written). */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3") /* the loops that are timed are vectors then */
#endif
#include "compressors/basis/basis.h"
#include "compressors/dispatch.h"
#include "compressors/grid/grid.h"
#include "compressors/grid/grid_chunk.h"
#include "compressors/grid/grid_payload.h"
#include "compressors/grid/grid_rans_classes.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    RELS = 5,
    SPLITS = 3,
    FURTHER = 6,
    MOST_COLS = 4096,
    ROWS_LEAST = 8,
    REPEATS = 20,
    COLS_LEAST = 128,
    DIRECTIONS = 32
};
enum { AS_NOW, ACROSS, TABLES, ORDER, OTHERS, KINDS };
static const double      rels[RELS] = {0.05, 0.1, 0.2, 0.4, 0.7}, dead = 0.65;
static const char *const kind_name[KINDS] = {"as now", "across", "tables", "order", "other's"};

static double bits[RELS][SPLITS][KINDS], all;
static double turned[RELS], classes[RELS][2], given_above[RELS][2]; /* [in a basis] */
static float  price[GRID_SHAPES][GRID_MODELS + FURTHER][GRID_SYMBOLS];
static double seconds[4], timed; /* coding, columns' sums and their order, decoding, places back */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *room(size_t bytes)
{
    void *p = calloc(1, bytes + 64);
    if (!p) exit(1);
    return p;
}

static void make_prices(void)
{
    for (unsigned s = 0; s < GRID_SHAPES; s++) {
        const grid_model *m = taut__grid_models(s);
        double            one = m->range[1] >> GRID_RANGE_F & (2 * GRID_PROBS - 1);
        for (int c = 0; c < GRID_MODELS; c++)
            for (int k = 0; k <= 2 * grid_top[c]; k++)
                price[s][c + FURTHER][k] =
                    (float)-log2((m[c].range[k] >> GRID_RANGE_F & (2 * GRID_PROBS - 1)) / (double)GRID_PROBS);
        for (int c = FURTHER - 1; c >= 0; c--) { /* of half an octave less each */
            one /= sqrt(2);
            double f = fmax(1, floor(one + 0.5));
            price[s][c][0] = (float)-log2((GRID_PROBS - 2 * f - 4) / GRID_PROBS);
            for (int k = 1; k <= 6; k++) price[s][c][k] = (float)-log2((k <= 2 ? f : 1) / GRID_PROBS);
        }
    }
}

static double pack(const int32_t *q, size_t n, uint8_t *out)
{
    return 8 * (double)taut__grid_rans_pack(taut__simd_get()->grid, q, n, out);
}

static void column_sums(const int32_t *restrict q, size_t rows, size_t cols, uint32_t *restrict sum)
{
    memset(sum, 0, cols * sizeof *sum);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) sum[c] += (uint32_t)abs(q[r * cols + c]);
}

/* Levels of columns, `per_octave` to the octave, within -most..most; returns the bits that an adaptive coder takes. */
static double levels(const uint32_t *sum, size_t cols, double per_octave, int most, int *level)
{
    double seen[2 * 16 + 1] = {0}, mean = 0, cost = 0;
    for (size_t c = 0; c < cols; c++) mean += sum[c] / (double)cols;
    for (size_t c = 0; c < cols; c++) {
        double l = rint(per_octave * log2((sum[c] + 0.35) / (mean + 0.35)));
        level[c] = (int)fmin(fmax(l, -most), most);
        cost -= log2((seen[level[c] + most] + 0.3) / ((double)c + 0.3 * (2 * most + 1)));
        seen[level[c] + most]++;
    }
    return cost;
}

static void by_level(const int *level, size_t cols, int most, uint32_t *order)
{
    size_t n = 0;
    for (int l = most; l >= -most; l--)
        for (size_t c = 0; c < cols; c++)
            if (level[c] == l) order[n++] = (uint32_t)c;
}

/* Every other row backwards where blocks do not end with rows. */
static void put_in_order(const int32_t *restrict q, size_t n, size_t cols, const uint32_t *restrict order,
                         int32_t *restrict to)
{
    size_t rows = n / cols;
    for (size_t r = 0; r < rows; r++, q += cols, to += cols) {
        if (cols % GRID_BLOCK && r % 2)
            for (size_t c = 0; c < cols; c++) to[cols - 1 - c] = q[order[c]];
        else
            for (size_t c = 0; c < cols; c++) to[c] = q[order[c]];
    }
    memcpy(to, q, (n - rows * cols) * sizeof *q);
}

static void add_back(const int32_t *q, size_t n, size_t cols, const uint32_t *order, int32_t *sum)
{
    for (size_t r = 0; r < n / cols; r++, q += cols, sum += cols)
        for (size_t c = 0; c < cols; c++) sum[order[c]] += q[c];
}

static void front_of(const int32_t *q, size_t n, struct grid_front *f, uint8_t *side)
{
    f->blocks = 0, f->symbols = 0;
    memset(f->count, 0, sizeof f->count);
    f->side = (grid_writer){.p = side};
    taut__simd_get()->grid->front_pack(q, n, f);
}

/* Bits of a chunk's symbols by one shape's tables, of blocks and of elements. */
static void symbol_bits(const struct grid_front *f, unsigned shape, const double *weight, size_t cols,
                        double *of_blocks, double *of_elements)
{
    const uint8_t *symbol = f->symbol;
    for (unsigned b = 0; b < f->blocks; b++) {
        if (!grid_has_symbols(f->cls[b])) continue;
        int    model = (int)grid_class_model(f->cls[b]), top = grid_top[model];
        double mean = 0;
        for (size_t e = 0; e < GRID_BLOCK; e++) mean += weight[(b * GRID_BLOCK + e) % cols] / GRID_BLOCK;
        for (size_t e = 0; e < GRID_BLOCK; e++, symbol++) {
            int at = model, magnitude = (*symbol + 1) / 2;
            if (f->cls[b] < GRID_CLASS_SHIFTED) at += (int)lrint(2 * log2(weight[(b * GRID_BLOCK + e) % cols] / mean));
            at = at < -FURTHER ? -FURTHER : at >= GRID_MODELS ? GRID_MODELS - 1 : at;
            int most = at < 0 ? 3 : grid_top[at];
            *of_blocks += (double)price[shape][model + FURTHER][*symbol];
            *of_elements += (double)price[shape][at + FURTHER][magnitude < most ? *symbol : 2 * most];
            if (magnitude >= most && magnitude < top) *of_elements += 4 + 2 * floor(log2(magnitude - most + 1));
        }
    }
}

static double with_tables(const int32_t *q, size_t n, size_t cols, double as_now)
{
    static struct grid_front f;
    static uint8_t           side[GRID_CHUNK_BLOCKS * GRID_BLOCK_BYTES + 64];
    static int               level[MOST_COLS];
    static double            weight[MOST_COLS];
    static uint32_t          sum[MOST_COLS];
    double                   blocks = INFINITY, elements = INFINITY, sent = 8;
    column_sums(q, n / cols, cols, sum);
    sent += levels(sum, cols, 2, 6, level);
    for (size_t c = 0; c < cols; c++) weight[c] = exp2(level[c] / 2.0);
    front_of(q, n, &f, side);
    for (unsigned s = 0; s < GRID_SHAPES; s++) {
        double b = 0, e = 0;
        symbol_bits(&f, s, weight, cols, &b, &e);
        blocks = fmin(blocks, b), elements = fmin(elements, e);
    }
    return as_now - blocks + elements + sent;
}

static double with_order(const int32_t *q, size_t n, size_t cols, int32_t *scratch, uint8_t *out)
{
    static int      level[MOST_COLS];
    static uint32_t order[MOST_COLS], sum[MOST_COLS];
    column_sums(q, n / cols, cols, sum);
    double sent = 24 + levels(sum, cols, 1, 3, level);
    by_level(level, cols, 3, order);
    put_in_order(q, n, cols, order, scratch);
    return sent + pack(scratch, n, out);
}

static void time_coding(const int32_t *q, size_t n, size_t cols, const uint32_t *order, uint8_t *out)
{
    static int32_t  scratch[GRID_CHUNK + 64], back[GRID_CHUNK + 64];
    static uint32_t sum[MOST_COLS];
    size_t          len = 0;
    double          at[5] = {now()};
    for (int k = 0; k < REPEATS; k++) len = taut__grid_rans_pack(taut__simd_get()->grid, q, n, out);
    grid_rans_chunk c = {.src = out, .len = len, .n = n, .dst = back};
    at[1] = now();
    for (int k = 0; k < REPEATS; k++) column_sums(q, n / cols, cols, sum), put_in_order(q, n, cols, order, scratch);
    at[2] = now();
    memset(back, 0, sizeof back);
    for (int k = 0; k < REPEATS; k++)
        if (len && !taut__grid_rans_decode(taut__simd_get()->grid, &c, 1, GRID_CODES)) exit(1);
    at[3] = now();
    for (int k = 0; k < REPEATS; k++) add_back(scratch, n, cols, order, back);
    at[4] = now();
    for (int k = 0; k < 4; k++) seconds[k] += at[k + 1] - at[k];
    timed += (double)n * REPEATS;
}

/* One slice: q as it is, down: its columns as rows, others: in another's order. */
static void count_slice(double sum[KINDS], const int32_t *q, const int32_t *down, const int32_t *others, size_t n,
                        size_t cols)
{
    static int32_t scratch[GRID_CHUNK + 64];
    uint8_t       *out = room(GRID_CHUNK_BLOCKS * GRID_BLOCK_BYTES + GRID_CHUNK_BYTES);
    for (int k = 0; k < KINDS; k++) sum[k] += 8.0 * GRID_HEADER;
    for (size_t at = 0; at < n; at += GRID_CHUNK) {
        size_t m = taut__min((size_t)GRID_CHUNK, n - at);
        double is = pack(q + at, m, out) + 32, changed[KINDS];
        bool   fits = cols >= COLS_LEAST && cols <= MOST_COLS && m / cols >= ROWS_LEAST;
        changed[AS_NOW] = is;
        changed[ACROSS] = pack(down + at, m, out) + 32;
        changed[OTHERS] = pack(others + at, m, out) + 32;
        changed[TABLES] = fits ? with_tables(q + at, m, cols, is) : is;
        changed[ORDER] = fits ? with_order(q + at, m, cols, scratch, out) + 32 : is;
        for (int k = 0; k < KINDS; k++) sum[k] += k == OTHERS ? changed[k] : fmin(is, changed[k]);
    }
    free(out);
}

/* ---- classes ---- */

static void ask(double *total, grid_question *q, bool yes)
{
    *total -= log2((yes ? q->p : 65536 - q->p) / 65536.0);
    if (yes) q->p += (GRID_P_MAX - q->p) * grid_rate[q->n] >> 15;
    else q->p -= (q->p - GRID_P_MIN) * grid_rate[q->n] >> 15;
    q->n += q->n < GRID_LIMIT;
}

/* Bits of classes as steps from the mean of the class before and that `period` blocks before. */
static double bits_given_above(const uint8_t *cls, unsigned blocks, unsigned period)
{
    struct {
        grid_question same[64][4], up[64][4], unary[2][16][GRID_UNARY_MAX];
    } a;
    double total = 0;
    for (size_t i = 0; i < sizeof a / sizeof(grid_question); i++)
        memcpy((char *)&a + i * sizeof(grid_question), &(grid_question){1 << 15, 0}, sizeof(grid_question));
    for (unsigned k = 0; k < blocks; k++) {
        int before = k ? cls[k - 1] : 0, above = k >= period ? cls[k - period] : before;
        int guess = (before + above + 1) / 2, unlike = abs(before - above), step = cls[k] - guess;
        unlike = unlike > 3 ? 3 : unlike;
        ask(&total, &a.same[guess][unlike], step == 0);
        if (step == 0) continue;
        if (guess > 0) ask(&total, &a.up[guess][unlike], step > 0);
        for (int d = 1; d < GRID_UNARY_MAX; d++) {
            ask(&total, &a.unary[step < 0][guess / 4][d], d < abs(step));
            if (d >= abs(step)) break;
        }
    }
    return total;
}

static void count_classes(int rel, int basis, const int32_t *q, size_t n, size_t period)
{
    static struct grid_front f;
    static uint8_t           side[GRID_CHUNK_BLOCKS * GRID_BLOCK_BYTES + 64], put[20 * GRID_CHUNK_BLOCKS];
    grid_arith               a;
    for (size_t at = 0; at < n; at += GRID_CHUNK) {
        front_of(q + at, taut__min((size_t)GRID_CHUNK, n - at), &f, side);
        classes[rel][basis] += 8 * (double)grid_put_classes(&a, f.cls, f.blocks, put);
        given_above[rel][basis] += bits_given_above(f.cls, f.blocks, (unsigned)taut__max(period, (size_t)1));
    }
}

/* ---- matrices ---- */

typedef struct matrix {
    size_t rows, cols, offset;
} matrix;

static float *read_matrix(FILE *f, const matrix *m)
{
    size_t n = m->rows * m->cols;
    float *x = room(n * sizeof *x);
    if (fseek(f, (long)(m->offset * sizeof *x), SEEK_SET) != 0 || fread(x, sizeof *x, n, f) != n) exit(1);
    return x;
}

static void codes_of(const float *x, size_t n, double step, int32_t *q)
{
    for (size_t i = 0; i < n; i++) q[i] = (int32_t)copysign(floor(fabs((double)x[i]) / step + 1 - dead), (double)x[i]);
}

static void statistics(const matrix *m, const float *x, double *stats)
{
    taut_tensor t = {.elems = m->rows * m->cols, .rows = m->rows, .cols = m->cols};
    taut_spec   spec;
    taut_call   c = {.spec = &spec, .tensor = &t, .n = t.elems};
    if (taut__spec_parse("grid", &spec) != TAUT_OK ||
        taut__op_collect_stats(taut__spec_codec(&spec), &c, x, stats) != TAUT_OK)
        exit(1);
}

static const double *energy; /* of columns, for the comparison */
static int           larger_first(const void *a, const void *b)
{
    double x = energy[*(const uint32_t *)a], y = energy[*(const uint32_t *)b];
    return x < y ? 1 : x > y ? -1 : 0;
}
static uint32_t *order_of(const matrix *m, const float *x)
{
    double   *sum = room(m->cols * sizeof *sum);
    uint32_t *order = room(m->cols * sizeof *order);
    for (size_t i = 0; i < m->rows * m->cols; i++) sum[i % m->cols] += fabs((double)x[i]);
    for (size_t c = 0; c < m->cols; c++) order[c] = (uint32_t)c;
    energy = sum;
    qsort(order, m->cols, sizeof *order, larger_first);
    free(sum);
    return order;
}

static void count_slices(int rel, const matrix *m, const int32_t *q, const uint32_t *order)
{
    size_t   n = m->rows * m->cols;
    int32_t *down = room(n * sizeof *down), *others = room(n * sizeof *others);
    for (int split = 0; split < SPLITS; split++)
        for (size_t s = 0; s < (size_t)1 << split; s++) {
            size_t         from = m->rows * s >> split, rows = (m->rows * (s + 1) >> split) - from;
            const int32_t *here = q + from * m->cols;
            for (size_t r = 0; r < rows; r++)
                for (size_t c = 0; c < m->cols; c++) down[c * rows + r] = here[r * m->cols + c];
            put_in_order(here, rows * m->cols, m->cols, order, others);
            count_slice(bits[rel][split], here, down, others, rows * m->cols, m->cols);
        }
    if (m->cols >= COLS_LEAST && m->cols <= MOST_COLS) {
        uint8_t *out = room(GRID_CHUNK_BLOCKS * GRID_BLOCK_BYTES + GRID_CHUNK_BYTES);
        time_coding(q, taut__min((size_t)GRID_CHUNK, n), m->cols, order, out);
        free(out);
    }
    free(down), free(others);
}

/* Coordinates of x in a basis that was learnt from `other`. */
static void turn(const matrix *m, float *x, const float *other)
{
    taut_tensor t = {.elems = m->rows * m->cols, .rows = m->rows, .cols = m->cols};
    taut_axes  *axes = NULL;
    if (taut__axes_create(&t, DIRECTIONS, 1, &axes) != TAUT_OK) exit(1);
    for (int k = 0; k < 3; k++) {
        taut__axes_learn_begin(axes, 0.9);
        for (size_t i = 0; i < taut__axes_tiles(axes); i++) taut__axes_learn(axes, &t, i, other);
        taut__axes_renew(axes);
    }
    for (size_t i = 0; i < taut__axes_tiles(axes); i++) taut__axes_turn(axes, &t, i, x);
    taut__axes_destroy(axes);
}

static void add_matrix(FILE *f, FILE *g, const matrix *m)
{
    size_t    n = m->rows * m->cols;
    float    *x = read_matrix(f, m), *other = read_matrix(g, m);
    int32_t  *q = room(n * sizeof *q);
    uint32_t *order = order_of(m, other);
    uint8_t  *out = room(GRID_CHUNK_BLOCKS * GRID_BLOCK_BYTES + GRID_CHUNK_BYTES);
    for (int basis = 0; basis < 2; basis++) {
        double stats[GRID_STATS] = {0};
        if (basis) turn(m, x, other);
        statistics(m, x, stats);
        size_t period = !basis ? (m->cols + 32) / 64 : m->rows < m->cols ? m->cols / 64 : m->cols;
        for (int r = 0; r < RELS; r++) {
            codes_of(x, n, (double)taut__grid_estimate_step(stats, rels[r] * stats[GRID_STAT_NORM2], dead), q);
            count_classes(r, basis, q, n, period);
            if (!basis) count_slices(r, m, q, order);
            for (size_t at = 0; basis && at < n; at += GRID_CHUNK)
                turned[r] += pack(q + at, taut__min((size_t)GRID_CHUNK, n - at), out) + 32;
            if (basis) turned[r] += 8.0 * GRID_HEADER;
        }
    }
    all += (double)n;
    free(x), free(other), free(q), free(order), free(out);
}

static void report(void)
{
    printf("bits per element as now, and with each change, at 1, 2 and 4 slices\n");
    for (int r = 0; r < RELS; r++) {
        printf("rel %-5g", rels[r]);
        for (int s = 0; s < SPLITS; s++) {
            printf("%s%.4f", s ? "  | " : "", bits[r][s][AS_NOW] / all);
            for (int k = 1; k < KINDS; k++)
                printf("  %s %+.1f%%", kind_name[k], 100 * (bits[r][s][k] / bits[r][s][AS_NOW] - 1));
        }
        printf("\n");
    }
    for (int basis = 0; basis < 2; basis++) {
        printf("bits%s, classes' part of them, and what classes given those above would change:",
               basis ? " in a basis" : "");
        for (int r = 0; r < RELS; r++) {
            double total = basis ? turned[r] : bits[r][0][AS_NOW];
            printf("  %.4f %.1f%% %+.1f%%", total / all, 100 * classes[r][basis] / total,
                   100 * (given_above[r][basis] - classes[r][basis]) / total);
        }
        printf("\n");
    }
    printf("ns per element, %s: codes to a payload %.2f, columns' sums and order before it %.2f; back to codes %.2f, "
           "to their "
           "places %.2f\n",
           taut__simd_get()->name, 1e9 * seconds[0] / timed, 1e9 * seconds[1] / timed, 1e9 * seconds[2] / timed,
           1e9 * seconds[3] / timed);
}

int main(int argc, char **argv)
{
    json_t *root = argc > 2 ? json_load_file(argv[1], 0, NULL) : NULL, *layer;
    FILE   *f = argc > 2 ? fopen(argv[2], "rb") : NULL, *g = argc > 2 ? fopen(argv[argc > 3 ? 3 : 2], "rb") : NULL;
    size_t  i;
    if (!root || !f || !g) {
        fprintf(stderr, "usage: contexts_coded TRACE.json FILE.f32 [OTHER.f32]\n");
        return 2;
    }
    make_prices();
    json_array_foreach(json_object_get(root, "layers"), i, layer)
    {
        json_t *shape = json_object_get(layer, "shape");
        matrix  m = {(size_t)json_integer_value(json_array_get(shape, 0)), 1,
                     (size_t)json_integer_value(json_object_get(layer, "offset"))};
        for (size_t d = 1; d < json_array_size(shape); d++)
            m.cols *= (size_t)json_integer_value(json_array_get(shape, d));
        if (json_array_size(shape) >= 2) add_matrix(f, g, &m);
    }
    fclose(f), fclose(g);
    json_decref(root);
    report();
    return 0;
}
