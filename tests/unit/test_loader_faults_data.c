/* test_loader_faults_data.c : what is wrong with a loader's settings, plan, shards or memory ends all ranks with one sentence. */
#include "tests/support/loader_case.h"
#include <fcntl.h>

static void fails(const taut_loader_config *c, uint32_t ranks, taut_status s, const char *says)
{
    member m[RANKS_MAX];
    run_team(m, ranks, ranks, c, NULL, 0);
    for (uint32_t r = 0; r < ranks; r++) {
        taut_status got = m[r].opened != TAUT_OK ? m[r].opened : m[r].ended;
        ck_assert_msg(got == s && strstr(m[r].text, says), "rank %u of %u: %s '%s', expected %s '%s'", r, ranks,
                      taut_status_name(got), m[r].text, taut_status_name(s), says);
    }
}

START_TEST(bad_settings)
{
    taut_loader_config c = config_of(8), good = c;
    member             m[RANKS_MAX];
    uint8_t            state[TAUT_LOADER_STATE];
    make_plan("rs2:budget=20", 3, 4);
    for (uint32_t ranks = 1; ranks <= 3; ranks += 2) {
        c = good, c.batch = 21, fails(&c, ranks, TAUT_E_RANGE, "batch=21");
        c = good, c.batch = 0, fails(&c, ranks, TAUT_E_RANGE, "batch=0");
        c = good, c.nshards = 0, fails(&c, ranks, TAUT_E_INVALID, "no shards");
        c = good, c.threads = 65, fails(&c, ranks, TAUT_E_RANGE, "threads=65: must be 1..64");
        c = good, c.ahead = 2000, fails(&c, ranks, TAUT_E_RANGE, "ahead=2000");
        c = good, c.cache_bytes = 100, fails(&c, ranks, TAUT_E_RANGE, "the cache has 100");
        c = good, c.shards = (const char *[]){path_a, "/nowhere/x.taut"},
        fails(&c, ranks, TAUT_E_IO, "/nowhere/x.taut");
        c = good, c.plan = "/nowhere/p.plan", fails(&c, ranks, TAUT_E_IO, "/nowhere/p.plan");
        c = good, c.nshards = 1, fails(&c, ranks, TAUT_E_MISMATCH, "its shard a.taut (hash ");
        c = good, c.state = "x", c.state_bytes = 1, fails(&c, ranks, TAUT_E_CORRUPT, "data state");
        c = good, c.cache_bytes = 5000, c.batch = 20, fails(&c, ranks, TAUT_E_RANGE, "needs more blocks than");
    }
    c = good, c.batch = 2, fails(&c, 3, TAUT_E_RANGE, "at least 1 sample for each of 3 ranks");
    /* a state of another batch, of another plan */
    run_team(m, 1, 1, &good, NULL, 2);
    memcpy(state, m[0].state, m[0].state_bytes);
    c = good, c.state = state, c.state_bytes = m[0].state_bytes, c.batch = 4,
    fails(&c, 2, TAUT_E_MISMATCH, "saved with 8 samples in a step, now 4");
    make_plan("rs2:budget=21", 3, 4);
    c.batch = 8, fails(&c, 2, TAUT_E_MISMATCH, "of a plan with hash");
    make_plan("static:budget=3", 3, 4);
    c = good, c.batch = 3, fails(&c, 4, TAUT_E_RANGE, "only 3 samples, fewer than ranks");
    make_plan("full", 1, 4);
    write_shard(path_b, N_A, N_B + 1, 16);
    c = good, fails(&c, 2, TAUT_E_MISMATCH, "b.taut has hash");
    write_shard(path_b, N_A, N_B, 16);
}
END_TEST

/* Rank 1 was given another batch, or the fields in another order. */
START_TEST(ranks_disagree)
{
    static const char *const fields[2][2] = {{"item", "note"}, {"note", "item"}};
    team                     t = {.ranks = 2, .per_node = 2};
    taut_loader_config       c[2] = {config_of(8), config_of(_i ? 8 : 10)};
    member                   m[2];
    pthread_t                thread[2];
    make_plan("full", 1, 4);
    for (int r = 0; r < 2 && _i; r++) c[r].nfields = 2, c[r].fields = fields[r];
    pthread_barrier_init(&t.barrier, NULL, 2);
    for (uint32_t r = 0; r < 2; r++) {
        m[r] = (member){.t = &t, .rank = r, .config = c[r], .node = {0, 1}};
        m[r].group =
            (taut_loader_group){sizeof m[r].group, &m[r], r, 2, 2, m[r].node, broadcast, node_broadcast, agree};
    }
    for (uint32_t r = 0; r < 2; r++) pthread_create(&thread[r], NULL, run_member, &m[r]);
    for (uint32_t r = 0; r < 2; r++) pthread_join(thread[r], NULL);
    for (uint32_t r = 0; r < 2; r++) {
        ck_assert_int_eq(m[r].opened, TAUT_E_MISMATCH);
        ck_assert_ptr_nonnull(strstr(m[r].text, _i ? "rank 1: other fields" : "rank 1: batch 10"));
    }
    pthread_barrier_destroy(&t.barrier);
}
END_TEST

START_TEST(strata_without_labels)
{
    char                   path[64];
    taut_field             f = TAUT_FIELD_INIT;
    taut_writer           *w;
    taut_shard            *s;
    taut_data_plan        *p;
    taut_data_plan_options o = TAUT_DATA_PLAN_INIT;
    taut_loader_config     c = config_of(2);
    snprintf(path, sizeof path, "%s/plain.taut", dir);
    strcpy(f.name, "text");
    f.variable = 1;
    ck_assert_int_eq(taut_writer_create(path, 1, &f, NULL, &w), TAUT_OK);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(taut_writer_add(w, (const void *[]){"hello"}, (size_t[]){5}), TAUT_OK);
    ck_assert_int_eq(taut_writer_finish(w), TAUT_OK);
    taut_writer_destroy(w);
    ck_assert_int_eq(taut_shard_open(path, &s), TAUT_OK);
    o.strata = "label", o.budget = "50%";
    ck_assert_int_eq(taut_data_plan_create("rs2", 1, (const taut_shard *const *)&s, &o, &p), TAUT_OK);
    ck_assert_int_eq(taut_data_plan_save(p, path_plan), TAUT_OK);
    taut_data_plan_destroy(p);
    taut_shard_close(s);
    c.shards = (const char *[]){path}, c.nshards = 1;
    fails(&c, 2, TAUT_E_INVALID,
          "no integer field 'label' with one value per sample, which the plan's strata need; its fields: text");
}
END_TEST

/* A flipped byte in a block: all ranks learn file, field and block. A shard that was replaced: the same, and why. */
START_TEST(damaged)
{
    taut_loader_config c = config_of(32);
    taut_shard        *s;
    taut_extent        e;
    uint8_t            byte;
    int                fd;
    make_plan("full", 1, 4);
    ck_assert_int_eq(taut_shard_open(path_a, &s), TAUT_OK);
    e = taut__shard_extent(s, 1, 20);
    taut_shard_close(s);
    fd = open(path_a, O_RDWR);
    ck_assert_int_eq(pread(fd, &byte, 1, (off_t)(e.offset + e.bytes - 3)), 1);
    byte ^= 4;
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)(e.offset + e.bytes - 3)), 1);
    close(fd);
    for (uint32_t ranks = 1; ranks <= 4; ranks++) {
        fails(&c, ranks, TAUT_E_CORRUPT, "a.taut");
        fails(&c, ranks, TAUT_E_CORRUPT, "block 20");
        fails(&c, ranks, TAUT_E_CORRUPT, "note");
    }
    write_shard(path_a, 0, N_A, 16);
}
END_TEST

START_TEST(allocation_failures)
{
    taut_loader_config c = config_of(8);
    taut_status        s = TAUT_E_NOMEM;
    size_t             held = taut__alloc_bytes();
    make_plan("rs2:budget=20%,strata=label", 1, 4);
    for (int n = 1; s != TAUT_OK && n < 500; n++) {
        taut_loader *l;
        taut_batch   b = TAUT_BATCH_INIT;
        taut__alloc_fail_after(n);
        s = taut_loader_open(&c, NULL, &l);
        if (s == TAUT_OK) {
            while ((s = taut_loader_next(l, &b)) == TAUT_OK && !b.end) {}
            taut_loader_close(l);
        } else ck_assert_ptr_null(l);
        taut__alloc_fail_after(-1);
        if (s != TAUT_OK) ck_assert_msg(s == TAUT_E_NOMEM, "%d: %s %s", n, taut_status_name(s), taut_last_error());
        ck_assert_uint_eq(taut__alloc_bytes(), held);
    }
    ck_assert_int_eq(s, TAUT_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loader_faults");
    TCase *t = suite_case(suite, "loader_faults", 120);
    tcase_add_unchecked_fixture(t, set_up, tear_down);
    tcase_add_test(t, bad_settings);
    tcase_add_loop_test(t, ranks_disagree, 0, 2);
    tcase_add_test(t, strata_without_labels);
    tcase_add_test(t, damaged);
    tcase_add_test(t, allocation_failures);
    return suite_run(suite);
}
