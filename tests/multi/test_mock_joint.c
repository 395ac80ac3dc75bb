/* test_mock_joint.c : many layers under way at once on the mock device: pieces of several go into one codec call, and results are those of the host,
 * bit for bit. */
#include "tests/support/device_case.h"
#include "comm/context/joint.h"
#include "../support/suite.h"
#include <stdio.h>

enum { LAYERS = 6, ROUNDS = 2 };

typedef struct many {
    const char *spec, *algorithm;
    bool        there;
    uint64_t    seen[MOST];
} many;

static taut_status many_body(ranks_ctx *c)
{
    many       *m = c->arg;
    setup       s = setup_of(m->spec, c->size);
    taut_layer *l[LAYERS];
    buffer      b[LAYERS];
    taut_place  place = m->there ? mock_stream() : (taut_place){0};
    for (int i = 0; i < LAYERS; i++) {
        char name[8];
        snprintf(name, sizeof name, "w%d", i);
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l[i]));
        buffer_make(&b[i], m->there, place, N * sizeof(float));
    }
    for (int step = 0; step < ROUNDS; step++) {
        for (int i = 0; i < LAYERS; i++) {
            buffer_fill(&s, c->rank, step + 9 * i, N, b[i].here);
            TAUT_TRY(buffer_start(l[i], &b[i]));
        }
        for (int i = 0; i < LAYERS; i++) TAUT_TRY(taut_wait(l[i]));
        for (int i = 0; i < LAYERS; i++) m->seen[c->rank] = m->seen[c->rank] * 31 + buffer_result(&b[i]);
        TAUT_TRY(taut_step_end(c->comm));
    }
    for (int i = 0; i < LAYERS; i++) buffer_drop(&b[i]);
    if (m->there) mock_stream_end(place);
    return TAUT_OK;
}

static void same_in_joint_calls(const char *spec, const char *algorithm, int ranks)
{
    setup       s = setup_of(spec, ranks);
    many        host = {.spec = spec, .algorithm = algorithm}, device = host;
    taut_config cfg;
    s.algorithm = algorithm;
    cfg = setup_config(&s);
    cfg.codec = spec;
    device.there = true;
    ranks_ok(ranks, &cfg, many_body, &host);
    mock_counts        before = mock_left();
    taut__joint_counts asked = taut__joint_counted();
    ranks_ok(ranks, &cfg, many_body, &device);
    mock_counts        after = mock_left();
    taut__joint_counts now = taut__joint_counted();
    for (int r = 0; r < ranks; r++) ck_assert_uint_eq(host.seen[r], device.seen[r]);
    ck_assert_msg(after.joined > before.joined, "%s, %s: no call was for several layers", spec, algorithm);
    ck_assert_uint_lt(now.calls - asked.calls, now.pieces - asked.pieces);
    ck_assert_uint_eq(now.calls - asked.calls, after.calls - before.calls); /* nothing goes another way */
    device_left_empty();
}

START_TEST(several_layers)
{
    static const char *const of[][2] = {
        {"quant:bits=4", "sra"}, {"quant:bits=4", "ring"}, {"quant:bits=4", "gather"},  {"grid", "sra"},
        {"grid", "gather"},      {"grid", "native"},       {"topk:density=0.1", "sra"}, {"powersgd:rank=2", "auto"}};
    mock_open();
    mock_delay(300); /* so that some are waited for while others ask */
    for (int ranks = 2; ranks <= 3; ranks++) same_in_joint_calls(of[_i][0], of[_i][1], ranks);
    mock_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("joint calls");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, several_layers, 0, 8);
    return suite_run(s);
}
