/* test_slots.c : slots and the arena behind them, alone: blocks do not overlap, what is given back can be lent again whole, the
 * own slot is always there first, and the arena is as large as its bound says. */
#include "comm/base/arena.h"
#include "../support/suite.h"
#include <string.h>

enum { KIB = 1024, MIB = 1024 * KIB };

/* count - 1 slots of so many bytes, and requests, may be borrowed */
static void open_slots(taut__slots *s, taut__arena *a, size_t bytes, size_t requests, size_t count)
{
    *s = (taut__slots){0};
    taut__slots_need(s, bytes, requests, count);
    ck_assert_int_eq(taut__slots_open(s, a, NULL), TAUT_OK);
}

START_TEST(own_first)
{
    taut__arena a = {0};
    taut__slots s;
    void       *p[4];
    open_slots(&s, &a, 1000, 8, 4);
    ck_assert(a.due);
    ck_assert_int_eq(taut__arena_fit(&a), TAUT_OK);
    ck_assert(!a.due);
    ck_assert_uint_eq(a.bytes, 3 * taut__arena_block(1000));
    ck_assert_uint_eq(a.requests, 24);
    for (int i = 0; i < 4; i++) {
        p[i] = taut__slots_take(&s, 1000, 8);
        ck_assert_ptr_nonnull(p[i]);
        ck_assert_uint_eq((uintptr_t)p[i] % TAUT_LINE, 0);
        memset(p[i], i + 1, 1000);
    }
    ck_assert_ptr_eq(p[0], s.own);
    ck_assert_ptr_null(taut__slots_take(&s, 1000, 8));
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 1000; k++) ck_assert_int_eq(((char *)p[i])[k], i + 1);
    taut__slots_give(&s, p[0]);
    ck_assert_ptr_eq(taut__slots_take(&s, 1000, 8), s.own);
    taut__slots_give(&s, p[2]);
    ck_assert_ptr_eq(taut__slots_take(&s, 1000, 8), p[2]);
    taut__slots_release(&s);
    taut__arena_fini(&a);
}
END_TEST

/* Random loans of random size; a line at each end says whose they are. At the end one block has all of the arena. */
START_TEST(loans)
{
    enum { ROOM = 64 * KIB, LOANS = 40 };
    taut__arena a = {0};
    taut__slots s;
    char       *p[LOANS] = {0};
    size_t      bytes[LOANS], lent = 0;
    open_slots(&s, &a, ROOM, 100, 2);
    ck_assert_int_eq(taut__arena_fit(&a), TAUT_OK);
    void *own = taut__slots_take(&s, ROOM, 100);
    for (uint32_t step = 0; step < 20000; step++) {
        uint32_t r = taut__random32(taut__rng_of(3, 0), step), i = r % LOANS;
        if (p[i]) {
            ck_assert(p[i][0] == (char)i && p[i][bytes[i] - 1] == (char)i);
            taut__slots_give(&s, p[i]);
            p[i] = NULL;
            lent--;
            continue;
        }
        bytes[i] = 1 + (r >> 8) % (6 * KIB);
        p[i] = taut__slots_take(&s, bytes[i], 1);
        if (!p[i]) continue;
        ck_assert(p[i] > a.memory && p[i] + bytes[i] <= a.memory + a.bytes);
        p[i][0] = p[i][bytes[i] - 1] = (char)i;
        lent++;
    }
    ck_assert_uint_eq(a.lent, lent);
    for (int i = 0; i < LOANS; i++)
        if (p[i]) taut__slots_give(&s, p[i]);
    ck_assert_uint_eq(a.lent + a.requests_lent, 0);
    ck_assert_ptr_nonnull(taut__slots_take(&s, ROOM, 100));
    taut__slots_give(&s, own);
    taut__slots_release(&s);
    taut__arena_fini(&a);
}
END_TEST

/* A constant, unless all users together need less or one alone needs more; and never while something is lent. */
START_TEST(bound)
{
    taut__arena a = {0};
    taut__slots s[40], large;
    for (int i = 0; i < 40; i++) {
        open_slots(&s[i], &a, MIB - TAUT_LINE, 500, 2);
        ck_assert_int_eq(taut__arena_fit(&a), TAUT_OK);
        ck_assert_uint_eq(a.bytes, taut__min((size_t)(i + 1) * MIB, TAUT_ARENA_BYTES));
        ck_assert_uint_eq(a.requests, taut__min((size_t)(i + 1) * 500, TAUT_ARENA_REQUESTS));
    }
    open_slots(&large, &a, 10 * MIB - TAUT_LINE, 5000, 4);
    void *own = taut__slots_take(&large, MIB, 1), *borrowed = taut__slots_take(&large, MIB, 1);
    ck_assert_int_eq(taut__arena_fit(&a), TAUT_OK);
    ck_assert(a.due);
    ck_assert_uint_eq(a.bytes, TAUT_ARENA_BYTES);
    taut__slots_give(&large, own), taut__slots_give(&large, borrowed);
    ck_assert_int_eq(taut__arena_fit(&a), TAUT_OK);
    ck_assert(!a.due);
    ck_assert_uint_eq(a.bytes, 30 * MIB);
    ck_assert_uint_eq(a.requests, 15000);
    taut__slots_release(&large);
    for (int i = 0; i < 40; i++) taut__slots_release(&s[i]);
    ck_assert_int_eq(taut__arena_fit(&a), TAUT_OK);
    ck_assert_uint_eq(a.bytes, 0);
    taut__arena_fini(&a);
}
END_TEST

/* Memory of somebody else, which a user only works in, adds nothing; requests run out before bytes do; memory may be short. */
START_TEST(limits)
{
    taut__arena a = {0};
    taut__slots s = {0}, guest = {0};
    char        memory[TAUT_LINE];
    size_t      before = taut__alloc_bytes();
    taut__slots_need(&guest, sizeof memory, 1, 3);
    ck_assert_int_eq(taut__slots_open(&guest, &a, memory), TAUT_OK);
    ck_assert_int_eq(taut__arena_fit(&a), TAUT_OK);
    ck_assert_uint_eq(a.bytes, 0);
    open_slots(&s, &a, 4096, 8, 3);
    taut__alloc_fail_after(0);
    ck_assert_int_eq(taut__arena_fit(&a), TAUT_E_NOMEM);
    taut__alloc_fail_after(-1);
    ck_assert_uint_eq(a.bytes, 0);
    ck_assert_int_eq(taut__arena_fit(&a), TAUT_OK);
    ck_assert_ptr_eq(taut__slots_take(&guest, sizeof memory, 1), memory);
    ck_assert_ptr_nonnull(taut__slots_take(&guest, sizeof memory, 12));
    ck_assert_ptr_null(taut__slots_take(&guest, sizeof memory, 8));
    taut__slots_release(&guest), taut__slots_release(&s);
    taut__arena_fini(&a);
    ck_assert_uint_eq(taut__alloc_bytes(), before);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("slots");
    TCase *t = suite_case(s, "all", 0);
    tcase_add_test(t, own_first);
    tcase_add_test(t, loans);
    tcase_add_test(t, bound);
    tcase_add_test(t, limits);
    return suite_run(s);
}
