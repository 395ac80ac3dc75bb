/* test_scale_in_place.c : a scale that is read where the program keeps it gives what a copy of it gives, bit for bit and step after step: results,
 * measured errors in its units, plans; on the host, on a device, by messages and by NCCL, on both at once. And what is no scale. */
#include "tests/support/device_case.h"
#include "tests/support/nccl_double.h"
#include "comm/core/nccl.h"
#include "compressors/vectors.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SCALE_STEPS = 10 };
typedef enum lend { COPY, LEND } lend;

static const char *const specs[] = {"grid:rel=0.05", "grid:rel=0.1,code=rans", "quant:bits=4", "topk:density=0.05",
                                    "auto"};
enum { SPECS = sizeof specs / sizeof *specs };

typedef struct run {
    const char *spec;
    where       where;
    lend        lend;
    bool        nccl;
    uint64_t    result[MOST][SCALE_STEPS];
    double      error[MOST][SCALE_STEPS], residual[MOST][SCALE_STEPS];
    char        codec[MOST][SCALE_STEPS][96];
} run;

/* As Adam's: spread over decades, other rows are larger, and it changes from step to step. */
static void scale_of_step(int step, float *s)
{
    for (size_t i = 0; i < N; i++)
        s[i] = exp2f((float)(taut__mix64(i * 77 + 5) % 9)) * (1 + 0.3f * (float)step) * (i / COLS % 7 == 3 ? 40 : 1);
}

typedef struct scale_room { /* the program's own tensor */
    bool       there;
    taut_place place;
    float     *here, *at;
} scale_room;

static scale_room room_make(bool there, taut_place place)
{
    scale_room r = {there, place, malloc(N * sizeof(float)), NULL};
    void      *at = NULL;
    if (there) taut__memory_of(place.space)->alloc(place, N * sizeof(float), &at);
    r.at = there ? at : malloc(N * sizeof(float));
    return r;
}
/* Late, in the order of the stream, as an optimizer's kernels write it. */
static taut_status room_write(scale_room *r)
{
    if (r->there) return taut__memory_of(r->place.space)->copy(r->place, r->at, r->here, N * sizeof(float));
    memcpy(r->at, r->here, N * sizeof(float));
    return TAUT_OK;
}
static taut_status room_lend(taut_layer *l, scale_room *r)
{
    TAUT_TRY(room_write(r));
    return taut_layer_scale_in_place(l, r->at, r->place.space, r->place.device);
}
static void room_drop(scale_room *r)
{
    if (r->there) taut__memory_of(r->place.space)->release(r->place, r->at);
    else free(r->at);
    free(r->here);
}

static taut_status step_of(ranks_ctx *c, run *r, taut_layer *w, buffer *x, scale_room *scale, int step)
{
    taut_layer_stats t = {.size = sizeof t};
    for (size_t i = 0; i < N; i++) {
        uint64_t h = taut__mix64(i * 31 + (uint64_t)(step * 7 + c->rank) * 1000003);
        ((float *)(void *)x->here)[i] = (float)((double)(h >> 11) * 0x1p-52 - 1) * exp2f((float)(i / COLS % 8));
    }
    if (step > 0) scale_of_step(step, scale->here);
    if (step > 0) TAUT_TRY(r->lend == COPY ? taut_layer_scale(w, scale->here, N) : room_lend(w, scale));
    TAUT_TRY(buffer_start(w, x));
    TAUT_TRY(taut_step_end(c->comm));
    TAUT_TRY(taut_layer_get_stats(w, &t));
    r->result[c->rank][step] = buffer_result(x);
    r->error[c->rank][step] = t.rel_err2_metric;
    r->residual[c->rank][step] = t.residual_norm2;
    memcpy(r->codec[c->rank][step], t.codec, sizeof t.codec);
    return TAUT_OK;
}

static bool is_there(const run *r, int rank) { return r->where == DEVICE || (r->where == MIXED && rank % 2); }

static taut_status body(ranks_ctx *c)
{
    run        *r = c->arg;
    bool        there = is_there(r, c->rank);
    taut_place  place = there ? mock_stream() : (taut_place){0};
    taut_layer *w;
    buffer      x;
    buffer_make(&x, there, place, N * sizeof(float));
    scale_room  scale = room_make(there, place);
    taut_status s = taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &w);
    if (s == TAUT_OK && strcmp(r->spec, "auto") != 0) s = taut_layer_codec(w, r->spec);
    if (s == TAUT_OK && r->nccl) s = taut__comm_open_nccl(c->comm, mock_place());
    for (int step = 0; step < SCALE_STEPS && s == TAUT_OK; step++) s = step_of(c, r, w, &x, &scale, step);
    if (there) taut__memory_of(place.space)->wait(place);
    if (there) mock_stream_end(place);
    buffer_drop(&x), room_drop(&scale);
    return s;
}

static run run_all(const char *spec, int ranks, where at, lend how, bool nccl)
{
    run         r = {.spec = spec, .where = at, .lend = how, .nccl = nccl};
    setup       s = setup_of(spec, ranks);
    taut_config cfg = setup_config(&s);
    if (strcmp(spec, "auto") == 0)
        cfg.codec = "auto", cfg.metric = "optimizer", cfg.objective = "bytes", cfg.budget = "like:quant:bits=4";
    if (at != HOST) mock_open();
    if (nccl) nccl_double_open();
    ranks_ok(ranks, &cfg, body, &r);
    if (at != HOST) device_left_empty();
    if (nccl) nccl_double_close();
    if (at != HOST) mock_close();
    return r;
}

static void compare(const run *a, const run *b, int ranks)
{
    for (int q = 0; q < ranks; q++)
        for (int k = 0; k < SCALE_STEPS; k++) {
            ck_assert_msg(strcmp(a->codec[q][k], b->codec[q][k]) == 0, "%s, %d ranks, where=%d: step %d: %s and %s",
                          a->spec, ranks, (int)b->where, k, a->codec[q][k], b->codec[q][k]);
            ck_assert_msg(a->result[q][k] == b->result[q][k],
                          "%s, %d ranks, where=%d lend=%d: rank %d, step %d: another result", a->spec, ranks,
                          (int)b->where, (int)b->lend, q, k);
            ck_assert(fabs(a->residual[q][k] - b->residual[q][k]) <= 1e-9 * a->residual[q][k]);
            /* norms of slices are added as slices come */
            ck_assert_msg(fabs(a->error[q][k] - b->error[q][k]) <= 1e-9 * a->error[q][k],
                          "%s, %d ranks, where=%d lend=%d: rank %d, step %d: error %.17g and %.17g", a->spec, ranks,
                          (int)b->where, (int)b->lend, q, k, a->error[q][k], b->error[q][k]);
        }
}

START_TEST(as_a_copy)
{
    for (int ranks = 2; ranks <= 3; ranks++) {
        run copied = run_all(specs[_i], ranks, HOST, COPY, false), lent;
        ck_assert(copied.error[0][SCALE_STEPS - 1] > 0);
        lent = run_all(specs[_i], ranks, HOST, LEND, false), compare(&copied, &lent, ranks);
        lent = run_all(specs[_i], ranks, DEVICE, LEND, false), compare(&copied, &lent, ranks);
        lent = run_all(specs[_i], ranks, MIXED, LEND, false), compare(&copied, &lent, ranks);
        if (strcmp(specs[_i], "auto") == 0) continue; /* what NCCL's line costs is another plan */
        copied = run_all(specs[_i], ranks, DEVICE, COPY, true);
        lent = run_all(specs[_i], ranks, DEVICE, LEND, true), compare(&copied, &lent, ranks);
    }
}
END_TEST

/* ---- nothing is copied ---- */

static taut_status reading_body(ranks_ctx *c)
{
    run        *r = c->arg;
    taut_place  place = mock_stream();
    taut_layer *w;
    buffer      x;
    buffer_make(&x, true, place, N * sizeof(float));
    scale_room scale = room_make(true, place);
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &w));
    TAUT_TRY(taut_layer_codec(w, "grid:rel=0.05"));
    for (int step = 0; step < 4; step++) TAUT_TRY(step_of(c, r, w, &x, &scale, step));
    const taut_tensor *t = &w->operand.there;
    NEED(r->lend == LEND ? t->scale == scale.at : t->scale != scale.at && t->scale != NULL);
    taut__memory_of(place.space)->wait(place);
    mock_stream_end(place);
    buffer_drop(&x), room_drop(&scale);
    return TAUT_OK;
}
START_TEST(codecs_read_the_programs_tensor)
{
    for (int how = COPY; how <= LEND; how++) {
        run         r = {.spec = "grid", .where = DEVICE, .lend = (lend)how};
        setup       s = setup_of("grid:rel=0.05", 2);
        taut_config cfg = setup_config(&s);
        mock_open();
        ranks_ok(2, &cfg, reading_body, &r);
        device_left_empty();
        mock_close();
    }
}
END_TEST

/* ---- what is no scale ---- */

typedef enum fault {
    NOT_FINITE,
    ZERO,
    OTHERS,
    ELSEWHERE,
    BUFFER_ELSEWHERE,
    UNDER_WAY,
    NO_SPACE,
    NO_MEMORY_OF_IT
} fault;

static taut_status expect(taut_status got, taut_status want, const char *word)
{
    if (got != want) return taut__fail(TAUT_E_INVALID, "%d instead of %d: %s", (int)got, (int)want, taut_last_error());
    if (!strstr(taut_last_error(), word))
        return taut__fail(TAUT_E_INVALID, "'%s' is not in: %s", word, taut_last_error());
    return TAUT_OK;
}

/* One bad number among many: on the host it is found at once; on a device when it is sampled, or all of it is looked at. */
static taut_status bad_number(taut_layer *w, buffer *x, scale_room *scale, ranks_ctx *c, float bad)
{
    taut_status s = TAUT_OK;
    TAUT_TRY(room_lend(w, scale));
    if (scale->there) TAUT_TRY(taut__memory_of(scale->place.space)->wait(scale->place)); /* it is read late */
    for (size_t i = 0; i < N; i += scale->there ? 1 : N) scale->here[i] = bad;
    for (int step = 0; step < 4 && s == TAUT_OK; step++) {
        s = room_lend(w, scale);
        if (s == TAUT_OK) TAUT_TRY(buffer_start(w, x));
        if (s == TAUT_OK) TAUT_TRY(taut_step_end(c->comm));
    }
    return expect(s, TAUT_E_RANGE, "must be positive and finite");
}

static taut_status fault_of(ranks_ctx *c, fault f, taut_layer *w, buffer *x, scale_room *scale)
{
    taut_space here = scale->place.space, elsewhere = scale->there ? TAUT_HOST : TAUT_SPACE_TEST;
    float     *own = scale->here;
    switch (f) {
    case NOT_FINITE: return bad_number(w, x, scale, c, INFINITY);
    case ZERO: return bad_number(w, x, scale, c, 0);
    case OTHERS: /* ranks differ: seen as soon as a sample hits it, here at once */
        for (size_t i = 0; i < N; i++) scale->here[i] *= c->rank == 1 ? 1.5f : 1;
        TAUT_TRY(room_lend(w, scale));
        TAUT_TRY(buffer_start(w, x));
        return expect(taut_step_end(c->comm), TAUT_E_MISMATCH, "scale of");
    case ELSEWHERE:
        TAUT_TRY(buffer_start(w, x));
        TAUT_TRY(taut_step_end(c->comm));
        return expect(taut_layer_scale_in_place(w, own, elsewhere, 0), TAUT_E_STATE, "where its buffers lie");
    case BUFFER_ELSEWHERE:
        TAUT_TRY(room_lend(w, scale));
        return expect(taut_allreduce_start_on(w, own, TAUT_MEAN, elsewhere, 0, NULL), TAUT_E_STATE, "read in place");
    case UNDER_WAY:
        TAUT_TRY(buffer_start(w, x));
        TAUT_TRY(expect(taut_layer_scale_in_place(w, scale->at, here, scale->place.device), TAUT_E_STATE,
                        "between start and wait"));
        return taut_step_end(c->comm);
    case NO_SPACE: return expect(taut_layer_scale_in_place(w, own, (taut_space)9, 0), TAUT_E_INVALID, "space=9");
    default:
        return scale->there
                   ? expect(taut_layer_scale_in_place(w, own, here, scale->place.device), TAUT_E_INVALID, "scale")
                   : TAUT_OK;
    }
}

typedef struct fault_run {
    fault fault;
    bool  there;
} fault_run;

static taut_status fault_body(ranks_ctx *c)
{
    const fault_run *f = c->arg;
    taut_place       place = f->there ? mock_stream() : (taut_place){0};
    taut_layer      *w;
    buffer           x;
    buffer_make(&x, f->there, place, N * sizeof(float));
    for (size_t i = 0; i < N; i++) ((float *)(void *)x.here)[i] = ranks_value(c->rank, i, 1);
    scale_room scale = room_make(f->there, place);
    scale_of_step(1, scale.here);
    taut_status s = taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &w);
    if (s == TAUT_OK) s = taut_layer_codec(w, "grid:rel=0.05");
    if (s == TAUT_OK) s = fault_of(c, f->fault, w, &x, &scale);
    if (f->there) taut__memory_of(place.space)->wait(place);
    if (f->there) mock_stream_end(place);
    buffer_drop(&x), room_drop(&scale);
    return s;
}

START_TEST(no_scale)
{
    setup       s = setup_of("grid:rel=0.05", 2);
    taut_config cfg = setup_config(&s);
    mock_open();
    for (int there = 0; there < 2; there++) ranks_ok(2, &cfg, fault_body, &(fault_run){(fault)_i, there});
    mock_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("scale in place");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, as_a_copy, 0, SPECS);
    tcase_add_test(t, codecs_read_the_programs_tensor);
    tcase_add_loop_test(t, no_scale, 0, NO_MEMORY_OF_IT + 1);
    return suite_run(s);
}
