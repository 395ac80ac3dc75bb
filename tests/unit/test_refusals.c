/* test_refusals.c : what callers of taut.h can do wrong, one row each: the status, the sentence that names the bad value and what is allowed, and that
 * out-parameters are empty afterwards. The communicator of one rank goes on as if nothing had been asked. */
#include "comm/taut.h"
#include "comm/taut_tcp.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>

static taut_comm   *comm;
static taut_layer  *layer;
static float        x[64];
static const size_t shape[2] = {8, 8};

static taut_status register_as(const char *name, int dtype, int ndim, const size_t *extents)
{
    taut_layer *l = layer;
    taut_status s = taut_layer_register(comm, name, (taut_dtype)dtype, ndim, extents, &l);
    ck_assert_ptr_null(l);
    return s;
}
static taut_status name_empty(void) { return register_as("", TAUT_F32, 2, shape); }
static taut_status name_long(void)
{
    char name[200];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    return register_as(name, TAUT_F32, 2, shape);
}
static taut_status name_twice(void) { return register_as("fc", TAUT_F32, 2, shape); }
static taut_status dtype_bad(void) { return register_as("other", 3, 2, shape); }
static taut_status ndim_bad(void) { return register_as("other", TAUT_F32, 9, shape); }
static taut_status no_shape(void) { return register_as("other", TAUT_F32, 2, NULL); }
static taut_status register_nothing(void) { return taut_layer_register(NULL, "other", TAUT_F32, 2, shape, &layer); }
static taut_status codec_nothing(void) { return taut_layer_codec(layer, NULL); }
static taut_status codec_empty(void) { return taut_layer_codec(layer, ""); }
static taut_status codec_long(void)
{
    char spec[600];
    memset(spec, 'c', sizeof spec);
    spec[sizeof spec - 1] = 0;
    return taut_layer_codec(layer, spec);
}
static taut_status scale_nothing(void) { return taut_layer_scale(layer, NULL, 1); }
static taut_status scale_negative(void)
{
    float s[8] = {1, 1, 1, -2, 1, 1, 1, 1};
    return taut_layer_scale(layer, s, 8);
}
static taut_status basis_nothing(void) { return taut_layer_basis(layer, NULL, 64); }
static taut_status buffer_nothing(void) { return taut_allreduce(layer, NULL, TAUT_SUM); }
static taut_status buffer_askew(void) { return taut_allreduce(layer, (char *)x + 1, TAUT_SUM); }
static taut_status op_bad(void) { return taut_allreduce(layer, x, (taut_op)7); }
static taut_status wait_unstarted(void) { return taut_wait(layer); }
static taut_status test_nothing(void) { return taut_test(layer, NULL); }
static taut_status part_nothing(void) { return taut_layer_part(layer, 0, NULL, NULL); }
static taut_status step_nothing(void) { return taut_step_end(NULL); }
static taut_status drop_nothing(void) { return taut_step_drop(NULL); }
static taut_status stats_nothing(void)
{
    taut_layer_stats s = {.size = 0};
    return taut_layer_get_stats(layer, &s);
}
static taut_status comm_stats_nothing(void) { return taut_comm_get_stats(comm, NULL); }
static taut_status save_nothing(void) { return taut_state_save(comm, NULL, 0, NULL); }
static taut_status load_nothing(void) { return taut_state_load(comm, NULL, 0); }
static taut_status load_text(void)
{
    static char text[300] = "a checkpoint of another program";
    return taut_state_load(comm, text, sizeof text);
}
static taut_status shrink_whole(void)
{
    taut_comm     *smaller = comm;
    taut_survivors who = TAUT_SURVIVORS_INIT;
    taut_status    s = taut_comm_shrink(comm, &smaller, &who);
    ck_assert_ptr_null(smaller);
    return s;
}
static taut_status shrink_nothing(void) { return taut_comm_shrink(comm, NULL, NULL); }
static taut_status shrink_unsized(void)
{
    taut_comm     *smaller;
    taut_survivors who = TAUT_SURVIVORS_INIT;
    who.size = 1;
    return taut_comm_shrink(comm, &smaller, &who);
}
static taut_status comms_nothing(void) { return taut_comm_create_threads(1, NULL, NULL); }
static taut_status config_unsized(void)
{
    taut_config c = TAUT_CONFIG_INIT;
    taut_comm  *made = comm;
    c.size = 0;
    taut_status s = taut_comm_create_threads(1, &c, &made);
    ck_assert_ptr_null(made);
    return s;
}
static taut_status setting_nothing(void) { return taut_setting_get(0, NULL); }

/* ---- TCP ---- */

static taut_status tcp(taut_tcp where)
{
    taut_comm  *made = comm;
    taut_status s = taut_comm_create_tcp(&where, NULL, &made);
    ck_assert_ptr_null(made);
    return s;
}
static taut_status tcp_nowhere(void)
{
    taut_comm *made;
    return taut_comm_create_tcp(NULL, NULL, &made);
}
static taut_status tcp_nothing(void)
{
    taut_tcp where = TAUT_TCP_INIT;
    return taut_comm_create_tcp(&where, NULL, NULL);
}
static taut_status tcp_unsized(void)
{
    taut_tcp where = TAUT_TCP_INIT;
    where.size = 0;
    return tcp(where);
}
static taut_status tcp_patience(void)
{
    taut_tcp where = TAUT_TCP_INIT;
    where.root = "127.0.0.1:29400", where.ranks = 2, where.connect_ms = -2;
    return tcp(where);
}
static taut_status tcp_no_peer(void)
{
    static const char *const peers[2] = {"127.0.0.1:29400", NULL};
    taut_tcp                 where = TAUT_TCP_INIT;
    where.peers = peers, where.ranks = 2;
    return tcp(where);
}

/* ---- tensors and frames on their own ---- */

static uint8_t frame[4096];
static size_t  frame_len;

static taut_status encode_as(const char *spec, int ndim, const size_t *extents, size_t cap)
{
    size_t      n = 99;
    taut_status s = taut_encode(spec, ndim, extents, x, 1, frame, cap, &n);
    ck_assert_uint_eq(n, 0);
    return s;
}
static taut_status encode_ndim(void) { return encode_as("fp16", 9, shape, sizeof frame); }
static taut_status encode_no_shape(void) { return encode_as("fp16", 2, NULL, sizeof frame); }
static taut_status encode_auto(void) { return encode_as("auto", 2, shape, sizeof frame); }
static taut_status encode_basis(void) { return encode_as("grid:rel=0.1,basis=2", 2, shape, sizeof frame); }
static taut_status encode_extent(void) { return encode_as("fp16", 2, (const size_t[]){8, 0}, sizeof frame); }
static taut_status encode_both(void) { return encode_as("grid:step=0.1,rel=0.1", 2, shape, sizeof frame); }
static taut_status encode_zero(void) { return encode_as("quant:bits=1,zero=1", 2, shape, sizeof frame); }
static taut_status stack_one(void) { return encode_as("stack:topk", 2, shape, sizeof frame); }
static taut_status stack_gap(void) { return encode_as("stack:topk++quant", 2, shape, sizeof frame); }
static taut_status stack_stack(void) { return encode_as("stack:topk+stack:quant", 2, shape, sizeof frame); }

static taut_status decode_changed(size_t at, int flip, size_t len, size_t elems)
{
    float       before[64];
    taut_status s;
    ck_assert_int_eq(taut_encode("quant:bits=4", 2, shape, x, 1, frame, sizeof frame, &frame_len), TAUT_OK);
    frame[at] ^= (uint8_t)flip;
    memcpy(before, x, sizeof x);
    s = taut_decode(frame, len ? len : frame_len, x, elems);
    ck_assert_mem_eq(before, x, sizeof x); /* nothing is written before all is checked */
    return s;
}
/* A header that no encoder writes, of which no checksum tells: what was asked for stays empty. */
static taut_status info_malformed(void)
{
    char        text[96] = "before";
    size_t      elems = 99, bytes = 99;
    taut_status s;
    ck_assert_int_eq(taut_encode("quant:bits=4", 2, shape, x, 1, frame, sizeof frame, &frame_len), TAUT_OK);
    memset(frame + 24, 0, 8);
    frame[5] = 1, frame[32] = 9;
    s = taut_frame_info(frame, frame_len, &elems, &bytes, text, sizeof text);
    ck_assert(elems == 0 && bytes == 0 && text[0] == 0);
    return s;
}
static taut_status spec_both(void) { return taut_spec_check("grid:step=0.1,rel=0.1", 0, NULL); }
static taut_status spec_auto(void) { return taut_spec_check("auto:rel=0.1", 0, NULL); }
static taut_status spec_tab(void) { return taut_spec_check("topk:density=\t0.1", 0, NULL); }
static taut_status config_zero(void)
{
    taut_comm  *made = comm;
    taut_config c = TAUT_CONFIG_INIT;
    c.codec = "quant:bits=1,zero=1";
    return taut_comm_create_threads(1, &c, &made);
}
static taut_status frame_magic(void) { return decode_changed(0, 1, 0, 64); }
static taut_status frame_short(void) { return decode_changed(0, 0, 5, 64); }
static taut_status frame_cut(void) { return decode_changed(0, 0, 60, 64); }
static taut_status frame_flip(void) { return decode_changed(70, 1, 0, 64); }
static taut_status frame_size(void) { return decode_changed(0, 0, 0, 63); }

/* ---- the solver ---- */

static taut_status solve(size_t layers, const size_t *first, double error, double cost, double budget,
                         const char *solver)
{
    double            errors[2] = {error, error}, costs[2] = {cost, cost};
    uint32_t          choice[2];
    taut_plan_problem p = {.size = sizeof p,
                           .layers = layers,
                           .first = first,
                           .error = errors,
                           .cost = costs,
                           .budget = budget,
                           .solver = solver};
    taut_plan_result  r = {.size = sizeof r};
    return taut_plan_solve(&p, choice, &r);
}
static taut_status encode_huge(void)
{
    size_t bytes, huge[2] = {1024, (size_t)1 << 60};
    return taut_encode_bound("quant", 2, huge, &bytes);
}
static taut_status start_twice(void)
{
    ck_assert_int_eq(taut_allreduce_start(layer, x, TAUT_SUM), TAUT_OK);
    return taut_allreduce_start(layer, x, TAUT_SUM); /* the step's end, in refused(), waits for the first */
}
static taut_status codec_late(void)
{
    ck_assert_int_eq(taut_allreduce(layer, x, TAUT_SUM), TAUT_OK);
    return taut_layer_codec(layer, "none");
}
static const size_t one[2] = {0, 2}, none[2] = {0, 0}, late[2] = {1, 2};
static taut_status  solve_nothing(void) { return taut_plan_solve(NULL, NULL, NULL); }
static taut_status  solve_no_layer(void) { return solve(0, one, 1, 1, 1, NULL); }
static taut_status  solve_no_candidate(void) { return solve(1, none, 1, 1, 1, NULL); }
static taut_status  solve_first(void) { return solve(1, late, 1, 1, 1, NULL); }
static taut_status  solve_budget(void) { return solve(1, one, 1, 1, (double)NAN, NULL); }
static taut_status  solve_error(void) { return solve(1, one, -1, 1, 1, NULL); }
static taut_status  solve_cost(void) { return solve(1, one, 1, INFINITY, 1, NULL); }
static taut_status  solve_by(void) { return solve(1, one, 1, 1, 1, "luck"); }

static const struct {
    taut_status (*call)(void);
    taut_status status;
    const char *says;
} rows[] = {
    {name_empty, TAUT_E_INVALID, "name of 0 characters: must be 1..127"},
    {name_long, TAUT_E_INVALID, "name of 199 characters: must be 1..127"},
    {name_twice, TAUT_E_INVALID, "layer 'fc': registered already: each name once"},
    {dtype_bad, TAUT_E_INVALID, "dtype=3: must be TAUT_F32 (0), TAUT_F16 (1) or TAUT_BF16 (2)"},
    {ndim_bad, TAUT_E_RANGE, "layer 'other': ndim=9: must be 0..8, with a shape"},
    {no_shape, TAUT_E_RANGE, "ndim=2: must be 0..8, with a shape"},
    {register_nothing, TAUT_E_INVALID, "taut_layer_register: comm or layer is NULL"},
    {codec_nothing, TAUT_E_INVALID, "taut_layer_codec: layer or spec is NULL"},
    {codec_empty, TAUT_E_INVALID, "empty codec spec: write NAME or NAME:KEY=VALUE,..."},
    {codec_long, TAUT_E_INVALID, "codec spec of 599 characters: must be at most 512"},
    {scale_nothing, TAUT_E_INVALID, "taut_layer_scale: layer or s is NULL"},
    {scale_negative, TAUT_E_RANGE, "scale[3]=-2: must be positive and finite"},
    {basis_nothing, TAUT_E_INVALID, "taut_layer_basis: layer or m is NULL"},
    {buffer_nothing, TAUT_E_INVALID, "collective: layer or buf is NULL"},
    {buffer_askew, TAUT_E_INVALID, "must be aligned to 4 bytes, an element"},
    {op_bad, TAUT_E_INVALID, "op=7: must be TAUT_SUM (0) or TAUT_MEAN (1)"},
    {wait_unstarted, TAUT_E_STATE, "layer 'fc' was not started"},
    {test_nothing, TAUT_E_INVALID, "taut_test: done is NULL"},
    {part_nothing, TAUT_E_INVALID, "taut_layer_part: layer, first or n is NULL"},
    {step_nothing, TAUT_E_INVALID, "taut_step_end: comm is NULL"},
    {drop_nothing, TAUT_E_INVALID, "taut_step_drop: comm is NULL"},
    {stats_nothing, TAUT_E_INVALID, "layer or stats is NULL, or stats.size is not set"},
    {comm_stats_nothing, TAUT_E_INVALID, "comm or stats is NULL, or stats.size is not set"},
    {save_nothing, TAUT_E_INVALID, "taut_state_save: comm or len is NULL"},
    {load_nothing, TAUT_E_INVALID, "comm or src is NULL"},
    {load_text, TAUT_E_CORRUPT, ": not a saved state, which "},
    {shrink_whole, TAUT_E_STATE, "nothing has failed: all ranks are there"},
    {shrink_nothing, TAUT_E_INVALID, "taut_comm_shrink: comm or smaller is NULL"},
    {shrink_unsized, TAUT_E_INVALID, "who.size=1: use TAUT_SURVIVORS_INIT"},
    {comms_nothing, TAUT_E_INVALID, "taut_comm_create_threads: comms is NULL"},
    {config_unsized, TAUT_E_INVALID, "size=0: use TAUT_CONFIG_INIT"},
    {setting_nothing, TAUT_E_INVALID, "taut_setting_get: s is NULL"},
    {tcp_nowhere, TAUT_E_INVALID, "taut_comm_create_tcp: where is NULL"},
    {tcp_nothing, TAUT_E_INVALID, "taut_comm_create_tcp: comm is NULL"},
    {tcp_unsized, TAUT_E_INVALID, "where->size=0: must be set by TAUT_TCP_INIT"},
    {tcp_patience, TAUT_E_RANGE, "connect_ms=-2: must be at least -1"},
    {tcp_no_peer, TAUT_E_INVALID, "peers[1] is NULL: must be HOST:PORT"},
    {encode_ndim, TAUT_E_RANGE, "ndim=9: must be 0..8"},
    {encode_no_shape, TAUT_E_INVALID, "shape is NULL with ndim=2"},
    {encode_auto, TAUT_E_UNSUPPORTED, "codec auto needs a communicator: name a codec to encode one tensor"},
    {encode_basis, TAUT_E_UNSUPPORTED, "basis=2: a basis needs a communicator"},
    {encode_extent, TAUT_E_RANGE, "shape[1]=0: must be at least 1"},
    {encode_huge, TAUT_E_RANGE, "shape[1]=1152921504606846976: with it there are more elements than"},
    {start_twice, TAUT_E_STATE,
     "layer 'fc': started already: wait for it, or call taut_step_end, before the next start"},
    {codec_late, TAUT_E_STATE,
     "layer 'fc': taut_layer_codec after the layer's first step: call it between registration"},
    {encode_both, TAUT_E_INVALID, "step=0.1 and rel=0.1: give one of them"},
    {encode_zero, TAUT_E_RANGE, "zero=1 with bits=1"},
    {stack_one, TAUT_E_INVALID, "stack: needs at least two stages, as in stack:topk+quant"},
    {stack_gap, TAUT_E_INVALID, "stack: an empty stage: write stack:A+B, as in stack:topk+quant"},
    {stack_stack, TAUT_E_INVALID, "stack: a stage cannot be a stack"},
    {spec_both, TAUT_E_INVALID, "step=0.1 and rel=0.1: give one of them"},
    {spec_auto, TAUT_E_INVALID, "codec 'auto:rel=0.1': auto has no keys and is no stage of a stack: write auto alone"},
    {spec_tab, TAUT_E_RANGE, "must be a number above 0 and at most 1"},
    {config_zero, TAUT_E_RANGE, "zero=1 with bits=1"},
    {info_malformed, TAUT_E_CORRUPT, "quant: malformed header: bits=9"},
    {frame_magic, TAUT_E_CORRUPT, "not with TAUT: not a frame"},
    {frame_short, TAUT_E_CORRUPT, "frame: 5 bytes: shorter than a header"},
    {frame_cut, TAUT_E_CORRUPT, "truncated or trailing bytes"},
    {frame_flip, TAUT_E_CORRUPT, ": damaged"},
    {frame_size, TAUT_E_INVALID, "frame holds 64 elements where the caller expects 63"},
    {solve_nothing, TAUT_E_INVALID, "problem and choice must be given, with problem->size set"},
    {solve_no_layer, TAUT_E_INVALID, "plan: 0 layers: must be at least 1, with first, error and cost"},
    {solve_no_candidate, TAUT_E_INVALID, "plan: layer 0 has no candidates: must have at least one"},
    {solve_first, TAUT_E_INVALID, "plan: first[0] is 1: must be 0"},
    {solve_budget, TAUT_E_RANGE, "plan: budget nan: must be finite and at least 0"},
    {solve_error, TAUT_E_RANGE, "error -1 of candidate 0: must be finite and at least 0"},
    {solve_cost, TAUT_E_RANGE, "cost inf of candidate 0: must be finite and at least 0"},
    {solve_by, TAUT_E_INVALID, "solver 'luck': must be hull, dp or exhaustive"},
};
enum { ROWS = sizeof rows / sizeof *rows };

static void setup(void)
{
    taut_config c = TAUT_CONFIG_INIT;
    c.codec = "quant:bits=4", c.small_elems = 1;
    for (int i = 0; i < 64; i++) x[i] = (float)(i % 7) - 3;
    ck_assert_int_eq(taut_comm_create_threads(1, &c, &comm), TAUT_OK);
    ck_assert_int_eq(taut_layer_register(comm, "fc", TAUT_F32, 2, shape, &layer), TAUT_OK);
}

static void teardown(void) { taut_comm_destroy(comm); }

START_TEST(refused)
{
    taut_layer *kept = layer;
    taut_status s = rows[_i].call();
    ck_assert_msg(s == rows[_i].status && strstr(taut_last_error(), rows[_i].says), "%s: \"%s\"; expected %s: \"%s\"",
                  taut_status_name(s), taut_last_error(), taut_status_name(rows[_i].status), rows[_i].says);
    layer = kept;
    (void)taut_wait(layer); /* of one that was started */
    ck_assert_int_eq(taut_allreduce(layer, x, TAUT_MEAN), TAUT_OK);
    ck_assert_int_eq(taut_step_end(comm), TAUT_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("refusals");
    TCase *t = suite_case(suite, "refusals", 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, refused, 0, ROWS);
    return suite_run(suite);
}
