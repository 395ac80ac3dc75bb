/* test_data_half.c : the data half over messages: groups among ranks that are threads, on the host, where the transport takes buffers as they are, and
 * on the mock device, staged; and reductions by it, which are those by NCCL and, but for native sums, the same bytes as without. */
#include "tests/support/device_case.h"
#include "comm/transport/data.h"
#include "../support/suite.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 4, GROUPS = 20, MOST_BYTES = 5000 };

typedef struct party {
    taut__transport *t;
    taut_place       place;
    bool             there;
    taut_status      status;
    char             why[300];
} party;

static size_t bytes_of(int from, int to, int group)
{
    return 1 + (size_t)(from * 977 + to * 331 + group * 61) % MOST_BYTES;
}
static char byte_of(int from, int to, int group, size_t i) { return (char)(from * 31 + to * 7 + group * 3 + (int)i); }

static void *make(const party *p, size_t bytes)
{
    void *at = NULL;
    if (!p->there) return malloc(bytes);
    ck_assert(taut__space_of(p->place.space)->alloc(p->place, bytes, &at) == TAUT_OK);
    return at;
}
static void drop(const party *p, void *at)
{
    if (p->there) taut__space_of(p->place.space)->release(p->place, at);
    else free(at);
}

static taut_status until_ready(taut__data *d)
{
    bool ready = false;
    for (double begin = taut__now(); !ready;) {
        TAUT_TRY(d->ops->ready(d, &ready));
        if (taut__now() - begin > 20) return taut__fail(TAUT_E_TIMEOUT, "never ready");
        if (!ready) sched_yield();
    }
    return TAUT_OK;
}

/* Everybody to everybody, of different lengths; what is sent is written late, in the order of the stream. */
static taut_status one_group(party *p, taut__data *d, int group, char *out[RANKS], char *in[RANKS])
{
    char late[RANKS][MOST_BYTES], got[MOST_BYTES];
    int  me = p->t->rank;
    for (int q = 0; q < RANKS; q++) {
        for (size_t i = 0; i < bytes_of(me, q, group); i++) late[q][i] = byte_of(me, q, group, i);
        if (p->there) TAUT_TRY(taut__space_of(p->place.space)->copy(p->place, out[q], late[q], bytes_of(me, q, group)));
        else memcpy(out[q], late[q], bytes_of(me, q, group));
    }
    TAUT_TRY(d->ops->group_begin(d, p->place));
    for (int i = 1; i < RANKS; i++) {
        int q = (me + i) % RANKS;
        TAUT_TRY(d->ops->send(d, q, out[q], bytes_of(me, q, group)));
        TAUT_TRY(d->ops->recv(d, q, in[q], bytes_of(q, me, group)));
    }
    TAUT_TRY(d->ops->group_end(d));
    TAUT_TRY(until_ready(d));
    for (int q = 0; q < RANKS; q++) {
        if (q == me) continue;
        if (p->there) {
            TAUT_TRY(taut__space_of(p->place.space)->copy(p->place, got, in[q], bytes_of(q, me, group)));
            TAUT_TRY(taut__space_of(p->place.space)->wait(p->place));
        }
        for (size_t i = 0; i < bytes_of(q, me, group); i++)
            if ((p->there ? got[i] : in[q][i]) != byte_of(q, me, group, i))
                return taut__fail(TAUT_E_CORRUPT, "group %d: byte %zu from rank %d", group, i, q);
    }
    return TAUT_OK;
}

/* What a data half answers that is not used as it should be. */
static taut_status misuse(party *p, taut__data *d, char *buf)
{
    int  me = p->t->rank;
    bool ready;
    NEED(d->ops->send(d, (me + 1) % RANKS, buf, 4) == TAUT_E_STATE);
    NEED(d->ops->group_end(d) == TAUT_E_STATE);
    TAUT_TRY(d->ops->group_begin(d, p->place));
    NEED(d->ops->group_begin(d, p->place) == TAUT_E_STATE);
    TAUT_TRY(d->ops->send(d, (me + 1) % RANKS, buf, 100));
    TAUT_TRY(d->ops->recv(d, (me + RANKS - 1) % RANKS, buf + 200, me == 2 ? 90 : 100)); /* rank 2 expects fewer */
    TAUT_TRY(d->ops->group_end(d));
    taut_status s = until_ready(d);
    NEED(s == (me == 2 ? TAUT_E_CORRUPT : TAUT_OK));
    d->ops->abort(d);
    d->ops->abort(d);
    NEED(d->ops->ready(d, &ready) != TAUT_OK && d->ops->group_begin(d, p->place) != TAUT_OK);
    return TAUT_OK;
}

static taut_status party_body(party *p)
{
    taut__data *d;
    char       *out[RANKS], *in[RANKS];
    TAUT_TRY(taut__data_messages(p->t, 5, 2 * RANKS, !p->there, &d));
    for (int q = 0; q < RANKS; q++) out[q] = make(p, MOST_BYTES), in[q] = make(p, MOST_BYTES);
    taut_status s = TAUT_OK;
    for (int group = 0; group < GROUPS && s == TAUT_OK; group++) s = one_group(p, d, group, out, in);
    if (s == TAUT_OK) s = misuse(p, d, out[0]);
    if (p->there) taut__space_of(p->place.space)->wait(p->place);
    d->ops->destroy(d);
    for (int q = 0; q < RANKS; q++) drop(p, out[q]), drop(p, in[q]);
    return s;
}

static void *party_main(void *arg)
{
    party *p = arg;
    p->status = party_body(p);
    snprintf(p->why, sizeof p->why, "%s", p->status == TAUT_OK ? "" : taut_last_error());
    return NULL;
}

START_TEST(groups)
{
    taut__transport *t[RANKS];
    party            p[RANKS];
    pthread_t        thread[RANKS];
    mock_open();
    mock_delay(_i == 2 ? 100 : 0);
    ck_assert_int_eq(taut__threads_create(RANKS, 0, t), TAUT_OK);
    for (int r = 0; r < RANKS; r++) {
        p[r] = (party){.t = t[r], .there = _i > 0, .place = _i > 0 ? mock_stream() : (taut_place){0}};
        pthread_create(&thread[r], NULL, party_main, &p[r]);
    }
    for (int r = 0; r < RANKS; r++) pthread_join(thread[r], NULL);
    for (int r = 0; r < RANKS; r++) {
        ck_assert_msg(p[r].status == TAUT_OK, "rank %d: %s", r, p[r].why);
        if (p[r].there) mock_stream_end(p[r].place);
        t[r]->ops->destroy(t[r]);
    }
    device_left_empty();
    mock_close();
}
END_TEST

START_TEST(reductions)
{
    static const char *const of[] = {
        "quant:bits=4", "grid", "topk", "fp16", "stack:topk:density=0.05+quant:bits=2", "none", "powersgd:rank=2"};
    static const char *const algorithms[] = {"auto", "sra", "ring", "gather"};
    int                      worked = 0;
    for (int i = 0; i < 4; i++) {
        setup s = setup_of(of[_i], 2 + i);
        s.algorithm = algorithms[i], s.feedback = i % 2 ? "on" : "auto", s.nccl = s.staged = true;
        mock_open();
        worked += same_on_device(s, false);
        mock_close();
    }
    ck_assert_int_ge(worked, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("data half");
    TCase *t = suite_case(s, "all", 60);
    tcase_add_loop_test(t, groups, 0, 3);
    tcase_add_loop_test(t, reductions, 0, 7);
    return suite_run(s);
}
