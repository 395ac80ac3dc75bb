/* test_sharded_device.c : reduce-scatter and allgather of layers on a device: by messages, and by NCCL's double, the bytes that they have on the
 * host; allreduces of the same layers in between. */
#include "tests/support/device_case.h"
#include "tests/support/nccl_double.h"
#include "comm/core/nccl.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { ON_HOST, BY_MESSAGES, BY_NCCL, WAYS, CALLS = 3 * STEPS };
static const char *const specs[] = {
    "none", "fp16", "quant:bits=4", "grid", "topk:density=0.1", "stack:quant:bits=2+fp16", "powersgd:rank=2"};
enum { SPECS = sizeof specs / sizeof *specs };

typedef struct sharded {
    setup    set;
    int      way;
    uint64_t part[MOST][CALLS], residual[MOST];
} sharded;

static uint64_t hash_of(const buffer *b, size_t first, size_t n, size_t width)
{
    char copy[N * sizeof(float)];
    if (b->there) mock_read(copy, b->at + first * width, n * width);
    else memcpy(copy, b->at + first * width, n * width);
    return XXH3_64bits(copy, n * width);
}

static void write_in(buffer *b)
{
    if (b->there) taut__memory_of(b->place.space)->copy(b->place, b->at, b->here, b->bytes);
}

static taut_status scatter(taut_layer *l, buffer *b)
{
    return b->there ? taut_reduce_scatter_on(l, b->at, TAUT_MEAN, b->place.space, b->place.device, b->place.stream)
                    : taut_reduce_scatter(l, b->at, TAUT_MEAN);
}
static taut_status gather(taut_layer *l, buffer *b)
{
    return b->there ? taut_allgather_on(l, b->at, b->place.space, b->place.device, b->place.stream)
                    : taut_allgather(l, b->at);
}

static taut_status steps(ranks_ctx *c, sharded *s, taut_layer *l, buffer *b)
{
    size_t    first, n, width = dtype_bytes(s->set.dtype);
    uint64_t *out = s->part[c->rank];
    TAUT_TRY(taut_layer_part(l, c->rank, &first, &n));
    for (int step = 0; step < STEPS; step++) {
        buffer_fill(&s->set, c->rank, step, N, b->here);
        write_in(b);
        TAUT_TRY(scatter(l, b));
        *out++ = hash_of(b, first, n, width);
        TAUT_TRY(gather(l, b)); /* of the parts that are there */
        *out++ = hash_of(b, 0, N, width);
        TAUT_TRY(taut_step_end(c->comm));
        buffer_fill(&s->set, c->rank, step + 20, N, b->here);
        TAUT_TRY(buffer_start(l, b));
        TAUT_TRY(taut_wait(l));
        *out++ = hash_of(b, 0, N, width);
        TAUT_TRY(taut_step_end(c->comm));
    }
    return TAUT_OK;
}

static void keep_residual(sharded *s, int rank, const taut_layer *l)
{
    float                r[N];
    const taut_feedback *f = l->operand.feedback;
    if (!f || !l->operand.residual) return;
    if (taut__on_host(f->place)) memcpy(r, f->r, sizeof r);
    else mock_read(r, f->r, sizeof r);
    s->residual[rank] = XXH3_64bits(r, sizeof r);
}

static taut_status body(ranks_ctx *c)
{
    sharded    *s = c->arg;
    bool        there = s->way != ON_HOST;
    taut_place  place = there ? mock_stream() : (taut_place){0};
    taut_layer *l, *small;
    buffer      b;
    buffer_make(&b, there, place, N * dtype_bytes(s->set.dtype));
    taut_status status = rank_enroll(c, &s->set, &l, &small);
    if (status == TAUT_OK && s->way == BY_NCCL) status = taut__comm_open_nccl(c->comm, mock_place());
    if (status == TAUT_OK) status = steps(c, s, l, &b);
    if (status == TAUT_OK) keep_residual(s, c->rank, l);
    if (there) taut__memory_of(place.space)->wait(place);
    if (there) mock_stream_end(place);
    buffer_drop(&b);
    return status;
}

START_TEST(same_bytes)
{
    for (int ranks = 2; ranks <= 4; ranks++) {
        sharded    *s = calloc(WAYS, sizeof *s);
        setup       set = setup_of(specs[_i], ranks);
        taut_config cfg;
        set.dtype = (taut_dtype)((ranks + _i) % 3), set.feedback = ranks % 2 ? "on" : "auto", set.whole = _i == 0;
        cfg = setup_config(&set);
        mock_open(), nccl_double_open();
        nccl_double_lazy(ranks == 4 ? 2 : 0);
        for (int way = 0; way < WAYS; way++) {
            s[way].set = set, s[way].way = way;
            ranks_ok(ranks, &cfg, body, &s[way]);
        }
        for (int way = 1; way < WAYS; way++)
            for (int r = 0; r < ranks; r++) {
                for (int k = 0; k < CALLS; k++)
                    ck_assert_msg(s[way].part[r][k] == s[0].part[r][k],
                                  "%s dtype %d, %d ranks, way %d: rank %d, call %d differs", set.spec, (int)set.dtype,
                                  ranks, way, r, k);
                ck_assert_msg(s[way].residual[r] == s[0].residual[r], "%s, %d ranks, way %d: rank %d: residuals differ",
                              set.spec, ranks, way, r);
            }
        ck_assert_int_eq(nccl_double_left(), 0);
        ck_assert(nccl_double_operations() > 0 || _i == 0 ||
                  _i == SPECS - 1); /* what cannot be cut, and float32 as it is, go by messages */
        device_left_empty();
        nccl_double_close(), mock_close();
        free(s);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sharded device");
    TCase *t = suite_case(s, "all", 60);
    tcase_add_loop_test(t, same_bytes, 0, SPECS);
    return suite_run(s);
}
