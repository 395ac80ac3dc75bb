/* test_tcp_stream.c : messages between two streams over a socket pair: any sizes, receives posted before or after, cut anywhere, given up
 * anywhere; damaged bytes are an error, never a crash. */
#include "comm/transport/tcp_stream.h"
#include "../support/suite.h"
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { JOB = 77, MOST = 1 << 19 };

typedef struct ends {
    taut__tcp_stream *a, *b;
} ends;

static ends open_pair(void)
{
    int  fd[2], small = 16384;
    ends e = {calloc(1, sizeof *e.a), calloc(1, sizeof *e.b)};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    for (int i = 0; i < 2; i++)
        setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof small); /* so that nothing goes in one piece */
    taut__tcp_stream_init(e.a, fd[0], 1, JOB);
    taut__tcp_stream_init(e.b, fd[1], 0, JOB);
    return e;
}

static void close_pair(ends e)
{
    close(e.a->fd), close(e.b->fd);
    taut__tcp_stream_release(e.a), taut__tcp_stream_release(e.b);
    free(e.a), free(e.b);
}

static taut__request request(bool send, int tag, void *buf, size_t bytes)
{
    taut__request r = {.send = send, .tag = tag, .buf = buf, .bytes = bytes};
    atomic_init(&r.done, false);
    return r;
}

static void turn(ends e)
{
    for (int k = 0; k < 2; k++) {
        taut__tcp_stream *s = k ? e.a : e.b;
        ck_assert_int_eq(taut__tcp_stream_write(s), TAUT_OK);
        ck_assert_int_eq(taut__tcp_stream_read(s), TAUT_OK);
    }
}

static uint8_t byte_at(int message, size_t i) { return (uint8_t)(i * 7 + i / 251 + (size_t)message * 31); }

/* 0, 1, around a header, around EAGER_MOST, above */
static size_t size_of(uint32_t r)
{
    static const size_t edge[] = {0,   1, 23, 24, 25, 511, 8192, 16384, 16385, (1 << 18) - 1, 1 << 18, (1 << 18) + 1,
                                  MOST};
    return r % 3 ? edge[r / 3 % (sizeof edge / sizeof *edge)] : r / 3 % 20000;
}

/* Messages both ways in drawn order; some receives come early, some late, some have less room, some are given up. */
START_TEST(any_order)
{
    enum { MESSAGES = 24, TAGS = 3 };
    static char  *out[2][MESSAGES], *in[2][MESSAGES];
    taut__request send[2][MESSAGES], recv[2][MESSAGES];
    size_t        bytes[2][MESSAGES];
    bool          sent[2][MESSAGES] = {0}, posted[2][MESSAGES] = {0};
    taut__rng     g = taut__rng_of((uint64_t)_i + 1, 0);
    uint32_t      draw = 0;
    ends          e = open_pair();
    for (int d = 0; d < 2; d++)
        for (int m = 0; m < MESSAGES; m++) {
            bytes[d][m] = size_of(taut__random32(g, draw++));
            out[d][m] = malloc(bytes[d][m] + 1), in[d][m] = calloc(1, bytes[d][m] + 1);
            for (size_t i = 0; i < bytes[d][m]; i++) out[d][m][i] = (char)byte_at(m, i);
            send[d][m] = request(true, m % TAGS, out[d][m], bytes[d][m]);
            recv[d][m] = request(false, m % TAGS, in[d][m], bytes[d][m]);
        }
    for (int left = 4 * MESSAGES, idle = 0; left > 0 || idle < 3;) {
        uint32_t r = taut__random32(g, draw++);
        int      d = r & 1, next = 0;
        bool    *done = r & 2 ? sent[d] : posted[d];
        while (next < MESSAGES && done[next]) next++;
        if (next < MESSAGES && r & 12) {
            taut__tcp_stream *s = (r & 2) ? (d ? e.b : e.a) : (d ? e.a : e.b);
            ck_assert_int_eq(
                r & 2 ? taut__tcp_stream_send(s, &send[d][next]) : taut__tcp_stream_recv(s, &recv[d][next]), TAUT_OK);
            done[next] = true, left--;
        } else {
            turn(e);
        }
        if (left == 0) {
            bool all = true;
            turn(e);
            for (int k = 0; k < 2; k++)
                all = all && taut__all_done(send[k], MESSAGES) && taut__all_done(recv[k], MESSAGES);
            idle += all;
        }
    }
    for (int d = 0; d < 2; d++)
        for (int m = 0; m < MESSAGES; m++) {
            ck_assert_uint_eq(recv[d][m].got, bytes[d][m]);
            ck_assert_mem_eq(in[d][m], out[d][m], bytes[d][m]);
            free(in[d][m]), free(out[d][m]);
        }
    close_pair(e);
}
END_TEST

/* Less room than the message: the room is filled, the rest is dropped, and the length tells. The next message is whole. */
START_TEST(too_long)
{
    static const size_t size[] = {100, 20000, MOST};
    for (int early = 0; early < 2; early++)
        for (int k = 0; k < 3; k++) {
            ends  e = open_pair();
            char *big = malloc(size[k]), *room = calloc(1, 64), next[8] = "next", got[8] = "";
            memset(big, 'b', size[k]);
            taut__request s1 = request(true, 1, big, size[k]), s2 = request(true, 1, next, 8),
                          r1 = request(false, 1, room, 10), r2 = request(false, 1, got, 8);
            if (!early) ck_assert_int_eq(taut__tcp_stream_recv(e.b, &r1), TAUT_OK);
            ck_assert_int_eq(taut__tcp_stream_send(e.a, &s1), TAUT_OK);
            ck_assert_int_eq(taut__tcp_stream_send(e.a, &s2), TAUT_OK);
            for (int i = 0; i < 500; i++) turn(e);
            if (early) ck_assert_int_eq(taut__tcp_stream_recv(e.b, &r1), TAUT_OK);
            ck_assert_int_eq(taut__tcp_stream_recv(e.b, &r2), TAUT_OK);
            for (int i = 0; i < 500; i++) turn(e);
            ck_assert(taut__done(&r1) && taut__done(&r2) && taut__done(&s1) && taut__done(&s2));
            ck_assert_uint_eq(r1.got, size[k]);
            ck_assert_str_eq(room, "bbbbbbbbbb");
            ck_assert_str_eq(got, "next");
            free(big), free(room);
            close_pair(e);
        }
}
END_TEST

/* A send given up in its middle, and a receive: the memory is not touched again, and a word behind it still arrives. */
START_TEST(given_up)
{
    for (int k = 0; k < 12; k++) {
        ends          e = open_pair();
        size_t        bytes = k % 2 ? MOST : 1 << 17;
        char         *big = malloc(bytes), *room = malloc(bytes);
        taut__notice  why = {.status = TAUT_E_PEER, .rank = 0, .text = "the reason"};
        taut__request s = request(true, 1, big, bytes), r = request(false, 1, room, bytes);
        memset(big, 'b', bytes);
        if (k % 3) ck_assert_int_eq(taut__tcp_stream_recv(e.b, &r), TAUT_OK);
        ck_assert_int_eq(taut__tcp_stream_send(e.a, &s), TAUT_OK);
        for (int i = 0; i < k; i++) turn(e);
        if (!taut__done(&s)) taut__tcp_stream_cancel(e.a, &s);
        ck_assert(k > 0 || e.a->body == NULL); /* it was in its middle */
        if (k % 3 == 2 && !taut__done(&r)) taut__tcp_stream_cancel(e.b, &r);
        if (k % 3 == 2) memset(room, 'r', bytes);
        memset(big, 'x', bytes);
        taut__tcp_stream_tell(e.a, &why);
        for (int i = 0; i < 2000 && !e.b->news; i++) turn(e);
        ck_assert(e.b->news && e.b->failed);
        ck_assert_str_eq(e.b->heard.text, "the reason");
        for (size_t i = 0; i < bytes && k % 3 == 2; i++) ck_assert_int_eq(room[i], 'r');
        for (size_t i = 0; i < bytes && k % 3 == 1; i++) ck_assert_int_ne(room[i], 'x');
        taut__tcp_stream_cancel(e.b, &r);
        free(big), free(room);
        close_pair(e);
    }
}
END_TEST

/* More words than there is room for: the latest are heard, in order. */
START_TEST(words)
{
    ends         e = open_pair();
    taut__notice w = {.word = 5};
    uint64_t     last = 0;
    int          heard = 0;
    for (int i = 1; i <= 100; i++) w.count = (uint64_t)i, taut__tcp_stream_tell(e.a, &w);
    for (int i = 0; i < 300; i++) {
        turn(e);
        if (!e.b->news) continue;
        ck_assert(e.b->heard.word == 5 && e.b->heard.count > last);
        last = e.b->heard.count;
        heard++;
        e.b->news = false;
    }
    ck_assert_int_ge(heard, TAUT_TCP_WORDS - 1);
    ck_assert_uint_eq(last, 100);
    close_pair(e);
}
END_TEST

/* The peer's process is gone: what had arrived is delivered; who waits for more is told; who does not, is not. */
START_TEST(gone)
{
    ends          e = open_pair();
    char          text[16] = "arrived", got[16] = "", more[16];
    taut__request s = request(true, 1, text, 16), r1 = request(false, 1, got, 16), r2 = request(false, 1, more, 16);
    ck_assert_int_eq(taut__tcp_stream_send(e.a, &s), TAUT_OK);
    shutdown(e.a->fd, SHUT_RDWR);
    for (int i = 0; i < 3; i++) ck_assert_int_eq(taut__tcp_stream_read(e.b), TAUT_OK);
    ck_assert(e.b->gone);
    ck_assert_int_eq(taut__tcp_stream_missed(e.b), TAUT_OK);
    ck_assert_int_eq(taut__tcp_stream_recv(e.b, &r1), TAUT_OK);
    ck_assert_str_eq(got, "arrived");
    ck_assert_int_eq(taut__tcp_stream_recv(e.b, &r2), TAUT_E_PEER);
    ck_assert(strstr(taut_last_error(), "rank 0 has closed its connection"));
    close_pair(e);
}
END_TEST

/* Every bit of a header flipped: an error. Noise: an error, or nothing, and nothing is written past a receive's room. */
START_TEST(damaged)
{
    char copy[4096];
    for (int bit = 0; bit < 24 * 8; bit++) {
        ends          e = open_pair();
        char          text[16] = "hello", got[16];
        taut__request s = request(true, 1, text, 16), r = request(false, 1, got, 16);
        ck_assert_int_eq(taut__tcp_stream_recv(e.b, &r), TAUT_OK);
        ck_assert_int_eq(taut__tcp_stream_send(e.a, &s), TAUT_OK);
        ssize_t n = recv(e.b->fd, copy, sizeof copy, 0);
        ck_assert_int_eq(n, 24 + 16);
        copy[bit / 8] ^= (char)(1 << bit % 8);
        ck_assert_int_eq(send(e.a->fd, copy, (size_t)n, 0), n);
        ck_assert_int_eq(taut__tcp_stream_read(e.b), TAUT_E_CORRUPT);
        ck_assert(strstr(taut_last_error(), "damaged header"));
        close_pair(e);
    }
    for (int k = 0; k < 200; k++) {
        ends          e = open_pair();
        taut__rng     g = taut__rng_of((uint64_t)k, 9);
        char         *room = malloc(64);
        taut__request r = request(false, 0, room, 64);
        ck_assert_int_eq(taut__tcp_stream_recv(e.b, &r), TAUT_OK);
        for (size_t i = 0; i < 1000; i++) copy[i] = (char)taut__random32(g, (uint32_t)i);
        ck_assert_int_eq(send(e.a->fd, copy, 1000, 0), 1000);
        ck_assert_int_eq(taut__tcp_stream_read(e.b), TAUT_E_CORRUPT);
        free(room);
        close_pair(e);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tcp_stream");
    TCase *t = suite_case(s, "all", 60);
    tcase_add_loop_test(t, any_order, 0, suite_long() ? 300 : 6);
    tcase_add_test(t, too_long);
    tcase_add_test(t, given_up);
    tcase_add_test(t, words);
    tcase_add_test(t, gone);
    tcase_add_test(t, damaged);
    return suite_run(s);
}
