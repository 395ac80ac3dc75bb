/* test_mock_device.c : layers whose buffers lie on a device that the host cannot touch: results, messages and checkpoints are those of layers on
 * the host, bit for bit, for all codecs, algorithms and numbers of ranks. */
#include "tests/support/device_case.h"
#include "../support/suite.h"
#include <stdlib.h>
#include <string.h>

static const char *const specs[] = {
    "none",
    "fp16",
    "bf16",
    "quant:bits=4",
    "quant:bits=3,bucket=64,norm=l2",
    "grid",
    "grid:rel=0.1,code=rans",
    "topk",
    "topk:density=0.3",
    "randk:density=0.1",
    "powersgd:rank=2",
    "stack:topk:density=0.05+quant:bits=2",
    "stack:quant:bits=2+fp16",
    "auto",
    "grid:rel=0.2,basis=8",
    "grid:rel=0.4,code=rans,basis=70",
};
enum { SPECS = sizeof specs / sizeof *specs };
static const char *const algorithms[] = {"auto", "native", "sra", "ring", "gather"};
static const int         sizes[] = {1, 2, 3, 4, 7};

/* ---- all of them ---- */

static setup varied(int spec, int algorithm, int size)
{
    static const char *const feedbacks[] = {"auto", "off", "on", "momentum"};
    int                      i = spec * 31 + algorithm * 7 + size * 3;
    setup                    s = setup_of(specs[spec], sizes[size]);
    s.algorithm = algorithms[algorithm];
    s.dtype = (taut_dtype)(i % 3);
    s.scale = (i / 3 + size) % 4;
    s.feedback = feedbacks[(i / 2 + algorithm) % 4];
    s.threads = 1 + i % 2;
    s.poison = i % 5 == 0 ? 1 : -1;
    return s;
}

START_TEST(same_bytes)
{
    int worked = 0;
    mock_open();
    for (size_t a = 0; a < sizeof algorithms / sizeof *algorithms; a++)
        for (size_t p = 0; p < sizeof sizes / sizeof *sizes; p++)
            worked += same_on_device(varied(_i, (int)a, (int)p), (a + p) % 4 == 1);
    ck_assert_int_ge(worked, 5);
    mock_close();
}
END_TEST

/* Every codec under every kind of layer, by its own algorithm. */
START_TEST(every_kind_of_layer)
{
    mock_open();
    bool basis = strstr(specs[_i], "basis"); /* of float32 alone, and without momentum */
    for (int dtype = 0; dtype < (basis ? 1 : 3); dtype++)
        for (int scaled = 0; scaled < 2; scaled++) {
            setup s = setup_of(specs[_i], 3);
            s.dtype = (taut_dtype)dtype, s.scale = scaled ? 2 + dtype % 2 : 0,
            s.feedback = dtype || basis ? "auto" : "momentum";
            ck_assert(same_on_device(s, false) || (dtype == 0 && !basis)); /* not all codecs go with momentum */
        }
    mock_close();
}
END_TEST

/* Steps that are dropped, and such as hold a NaN. */
START_TEST(dropped_steps)
{
    static const char *const of[] = {"quant:bits=4", "topk", "grid", "powersgd:rank=2", "grid:rel=0.2,basis=8"};
    mock_open();
    for (int restore = 0; restore < 2; restore++)
        for (int what = 0; what < 2; what++) {
            setup s = setup_of(of[_i], 3);
            s.dropped = restore ? "restore" : "clear";
            s.feedback = restore || _i == 4 ? "on" : "momentum";
            *(what ? &s.drop : &s.poison) = 1;
            s.dtype = restore && what && _i < 4 ? TAUT_BF16 : TAUT_F32;
            ck_assert(same_on_device(s, what));
        }
    mock_close();
}
END_TEST

/* 16-bit results that overflow are clamped, and the rest goes to the residual. */
START_TEST(clamped_results)
{
    static const char *const of[] = {"quant:bits=8", "grid:rel=0.01", "powersgd:rank=4", "topk:density=0.5"};
    mock_open();
    for (int p = 1; p <= 3; p++) {
        setup s = setup_of(of[_i], p);
        s.dtype = TAUT_F16, s.feedback = "on", s.amplitude = 30000;
        ck_assert(same_on_device(s, p == 3));
    }
    mock_close();
}
END_TEST

START_TEST(within_hosts)
{
    setenv("TAUT_FAKE_HOSTS", _i ? "2" : "3", 1);
    setenv("TAUT_HIERARCHY", "on", 1);
    mock_open();
    for (size_t i = 0; i < SPECS; i += 3) {
        setup s = setup_of(specs[i], _i ? 4 : 7);
        ck_assert(same_on_device(s, true));
    }
    mock_close();
    unsetenv("TAUT_FAKE_HOSTS"), unsetenv("TAUT_HIERARCHY");
}
END_TEST

/* ---- checkpoints: from anywhere to anywhere, into layers that have run, and such as have not ---- */

typedef struct resumed {
    const trial *from;
    trial       *to;
} resumed;

static taut_status resume_body(ranks_ctx *c)
{
    const resumed *r = c->arg;
    outcome       *o = &r->to->of[c->rank];
    bool           there = r->to->set.where == DEVICE;
    taut_place     place = there ? mock_stream() : (taut_place){0};
    taut_layer    *w, *b;
    buffer         x, y;
    buffer_make(&x, there, place, N * dtype_bytes(r->to->set.dtype)),
        buffer_make(&y, there, place, SMALL * dtype_bytes(r->to->set.dtype));
    taut_status s = rank_enroll(c, &r->to->set, &w, &b);
    for (int again = 0; again < 2 && s == TAUT_OK; again++) { /* the second time it is a rollback */
        s = taut_state_load(c->comm, r->from->of[c->rank].state, r->from->of[c->rank].state_bytes);
        if (s == TAUT_OK) s = rank_steps(c, &r->to->set, o, w, b, &x, &y, STEPS - 1, STEPS);
        if (s == TAUT_OK && again && o->result[STEPS] != o->result[STEPS - 1])
            s = taut__fail(TAUT_E_CORRUPT, "another result after a rollback");
        o->result[STEPS] = o->result[STEPS - 1];
    }
    if (s == TAUT_OK) s = rank_save(c, o);
    o->status = s;
    if (there) mock_stream_end(place);
    buffer_drop(&x), buffer_drop(&y);
    return s;
}

START_TEST(checkpoints)
{
    static const char *const of[] = {"quant:bits=4", "grid", "powersgd:rank=2", "topk", "auto", "grid:rel=0.2,basis=8"};
    setup                    s = setup_of(of[_i], 3);
    taut_config              cfg = setup_config(&s);
    trial                   *to[4] = {0};
    mock_open();
    s.feedback = _i % 2 && _i < 5 ? "momentum" : "on"; /* a basis has none */
    s.scale = _i % 4;
    cfg.feedback = s.feedback;
    for (int i = 0; i < 4; i++) {
        trial *from = trial_run(s, i / 2 ? DEVICE : HOST);
        to[i] = calloc(1, sizeof **to);
        to[i]->set = from->set;
        to[i]->set.where = i % 2 ? DEVICE : HOST;
        ranks_ok(s.ranks, &cfg, resume_body, &(resumed){from, to[i]});
        trial_free(from);
        trial_compare(to[0], to[i]);
    }
    for (int i = 0; i < 4; i++) trial_free(to[i]);
    device_left_empty();
    mock_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mock device");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, same_bytes, 0, SPECS);
    tcase_add_loop_test(t, every_kind_of_layer, 0, SPECS);
    tcase_add_loop_test(t, dropped_steps, 0, 5);
    tcase_add_loop_test(t, clamped_results, 0, 4);
    tcase_add_loop_test(t, within_hosts, 0, 2);
    tcase_add_loop_test(t, checkpoints, 0, 6);
    return suite_run(s);
}
