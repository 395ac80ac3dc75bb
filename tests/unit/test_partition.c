/* test_partition.c : index arithmetic of comm/base/partition.h: parts cover a tensor once, in order, at block boundaries, evenly; so do
 * sub-slices; a ring visits every part. No network. */
#include "comm/base/partition.h"
#include "../support/suite.h"
#include <stdlib.h>

static const size_t lengths[] = {1, 2, 3, 63, 64, 65, 127, 511, 512, 513, 1000, 4097, 65536, 1000003, (size_t)5 << 31};
static const int    ranks[] = {1, 2, 3, 4, 7, 16, 100, 4096};
static const size_t blocks[] = {1, 64, 512, 8192};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static void check_parts(const taut__partition *p)
{
    size_t at = 0, least = SIZE_MAX, most = 0;
    for (int r = 0; r < p->parts; r++) {
        taut__range part = taut__part(p, r);
        ck_assert_uint_eq(part.first, at);
        ck_assert_uint_eq(part.n == 0 ? 0 : part.first % p->block, 0);
        at += part.n;
        least = taut__min(least, taut__ceil_div(part.n, p->block)),
        most = taut__max(most, taut__ceil_div(part.n, p->block));
    }
    ck_assert_uint_eq(at, p->n);
    ck_assert_uint_le(most - least, 1);
}

static void check_subs(const taut__partition *p, int r)
{
    taut__range part = taut__part(p, r);
    size_t      at = part.first;
    for (size_t k = 0; k < p->slices; k++) {
        taut__range s = taut__sub(p, r, k);
        if (s.n == 0) continue;
        ck_assert_uint_eq(s.first, at);
        ck_assert_uint_le(s.n, p->sub);
        at += s.n;
    }
    ck_assert_uint_eq(at, part.first + part.n);
    ck_assert_uint_eq(taut__sub(p, r, p->slices).n, 0);
}

START_TEST(cover)
{
    for (size_t l = 0; l < COUNT(lengths); l++)
        for (size_t b = 0; b < COUNT(blocks); b++) {
            taut__partition p = taut__partition_of(lengths[l], ranks[_i], blocks[b], 1 << 18);
            ck_assert_uint_eq(p.sub % p.block, 0);
            ck_assert_uint_ge(p.slices, 1);
            check_parts(&p);
            if (p.slices > 100000) continue;
            check_subs(&p, 0);
            check_subs(&p, ranks[_i] - 1);
            check_subs(&p, ranks[_i] / 2);
        }
}
END_TEST

/* In p-1 steps a rank sends every part but its own, receives what its neighbour sends, and ends with its own. */
START_TEST(ring)
{
    for (int p = 2; p <= 9; p++)
        for (int r = 0; r < p; r++) {
            unsigned sent = 0;
            for (int s = 0; s < p - 1; s++) {
                sent |= 1u << taut__ring_send(r, s, p);
                ck_assert_int_eq(taut__ring_recv(r, s, p), taut__ring_send(taut__mod(r - 1, p), s, p));
                if (s > 0) ck_assert_int_eq(taut__ring_send(r, s, p), taut__ring_recv(r, s - 1, p));
            }
            ck_assert_uint_eq(sent, ((1u << p) - 1) & ~(1u << r));
            ck_assert_int_eq(taut__ring_recv(r, p - 2, p), r);
        }
}
END_TEST

START_TEST(powers)
{
    static const int want[] = {1, 2, 2, 4, 4, 4, 4, 8, 8};
    for (int p = 1; p <= 9; p++) ck_assert_int_eq(taut__power_below(p), want[p - 1]);
    ck_assert_int_eq(taut__power_below(4096), 4096);
    ck_assert_int_eq(taut__power_below(4095), 2048);
}
END_TEST

/* After all halvings the ranks hold n elements once, in order; before the last, a rank and its partner held the same. */
START_TEST(halving)
{
    static const size_t sizes[] = {0, 1, 3, 8, 13, 4097};
    for (int d = 0; d <= 4; d++) ck_assert_int_eq(taut__log2(1 << d), d);
    for (size_t k = 0; k < COUNT(sizes); k++)
        for (int d = 0; d <= 4; d++) {
            size_t at = 0;
            for (int r = 0, p = 1 << d; r < p; r++) {
                taut__range mine = taut__halved(sizes[k], p, r, d);
                ck_assert_uint_eq(mine.first, at);
                at += mine.n;
                for (int t = 1; t <= d; t++) {
                    taut__range a = taut__halved(sizes[k], p, r, t), b = taut__halved(sizes[k], p, r ^ p >> t, t);
                    taut__range both = taut__halved(sizes[k], p, r, t - 1);
                    ck_assert_uint_eq(a.n + b.n, both.n);
                    ck_assert_uint_eq(taut__min(a.first, b.first), both.first);
                    ck_assert_uint_le(taut__max(a.n, b.n), both.n / 2 + both.n % 2);
                }
            }
            ck_assert_uint_eq(at, sizes[k]);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("partition");
    TCase *t = suite_case(s, "all", 0);
    tcase_add_loop_test(t, cover, 0, (int)COUNT(ranks));
    tcase_add_test(t, ring);
    tcase_add_test(t, powers);
    tcase_add_test(t, halving);
    return suite_run(s);
}
