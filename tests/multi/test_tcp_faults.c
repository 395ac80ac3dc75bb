/* test_tcp_faults.c : how ranks over TCP find each other, and do not; ranks that differ, die, stop, leave; strangers; children. It mostly waits. */
#include "comm/transport/tcp.h"
#include "tests/support/processes.h"
#include "../support/suite.h"
#include <arpa/inet.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

enum { ROWS = 60, COLS = 50, N = ROWS * COLS };
static const double AT_ONCE_S = 5; /* far below the timeouts here */

static taut_config config(int timeout_ms)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = "quant:bits=8";
    cfg.timeout_ms = timeout_ms;
    return cfg;
}

static void nap(int ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL); }

static taut_status one_step(taut_comm *comm, int rank, int size)
{
    static float x[N];
    taut_layer  *l = taut_comm_layer(comm, 0);
    double       err = 0, norm = 0;
    if (!l) TAUT_TRY(taut_layer_register(comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    for (size_t i = 0; i < N; i++) x[i] = ranks_value(rank, i, 0);
    TAUT_TRY(taut_allreduce_start(l, x, TAUT_SUM));
    TAUT_TRY(taut_step_end(comm));
    for (size_t i = 0; i < N; i++) {
        double exact = ranks_sum(size, i, 0), d = (double)x[i] - exact;
        err += d * d, norm += exact * exact;
    }
    NEED(err <= 0.01 * norm);
    return TAUT_OK;
}

static taut_status works(const taut_tcp *where, const taut_config *cfg)
{
    taut_comm *comm;
    TAUT_TRY(taut_comm_create_tcp(where, cfg, &comm));
    NEED(taut_comm_rank(comm) == where->rank && taut_comm_size(comm) == where->ranks);
    taut_status s = one_step(comm, where->rank, where->ranks);
    taut_comm_destroy(comm);
    return s;
}

/* ---- the ways to meet ---- */

typedef struct board { /* what an exchange needs: shared memory */
    _Atomic int there[4][16];
    char        bytes[4][16][TAUT_TCP_ROUND_MOST];
} board;
static board *shared;
static int    break_round = -1;

static int exchange(void *ctx, int round, const void *mine, size_t bytes, void *all)
{
    const process *p = ctx;
    if (round == break_round) return -1;
    memcpy(shared->bytes[round][p->rank], mine, bytes);
    shared->there[round][p->rank] = 1;
    for (int r = 0; r < p->size; r++) {
        for (int i = 0; !shared->there[round][r]; i++) {
            if (i > 1500) return -2;
            nap(1);
        }
        memcpy((char *)all + (size_t)r * bytes, shared->bytes[round][r], bytes);
    }
    return 0;
}

enum { BY_ROOT, BY_PEERS, BY_EXCHANGE, BY_NAME, BY_BIND, WAYS };
static int         way;
static char        peer_text[8][32];
static const char *peers[8];

/* This machine's own name, if that is a loopback address here: others come from outside, and do not see that. */
static void name_root(int rank, const char *port, char dst[300])
{
    char                    name[256] = "", outside[64];
    taut__tcp_card          mine = {0};
    struct sockaddr_storage a;
    int                     n;
    snprintf(dst, 300, "localhost%s", port);
    if (gethostname(name, sizeof name - 1) != 0 || taut__tcp_own_addresses(NULL, &mine) != TAUT_OK) return;
    snprintf(name + strlen(name), sizeof name - strlen(name), "%s", port);
    if (mine.address[0].family != 4 || taut__tcp_resolve(name, false, &a, 1, &n) != TAUT_OK) return;
    if (a.ss_family != AF_INET || ntohl(((struct sockaddr_in *)(void *)&a)->sin_addr.s_addr) >> 24 != 127) return;
    inet_ntop(AF_INET, mine.address[0].bytes, outside, sizeof outside);
    if (rank == 0) snprintf(dst, 300, "%s", name);
    else snprintf(dst, 300, "%s%s", outside, port);
}

static taut_status meets(process *p, taut_comm **comm)
{
    taut_tcp    w = p->where;
    char        named[300];
    taut_config cfg = config(20000);
    (void)comm;
    if (way == BY_PEERS) w.root = NULL, w.peers = peers;
    if (way == BY_EXCHANGE || way == BY_BIND) w.root = NULL, w.exchange = exchange, w.ctx = p;
    if (way == BY_NAME) name_root(p->rank, strchr(w.root, ':'), named), w.root = named;
    if (way == BY_BIND) w.bind = p->rank % 2 ? "lo" : "127.0.0.1";
    if (p->rank == 0) nap(200); /* others are there first */
    return works(&w, &cfg);
}
START_TEST(ways_to_meet)
{
    way = _i;
    for (int size = 1; size <= 4; size++) {
        shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        for (int r = 0; r < size; r++)
            snprintf(peer_text[r], sizeof *peer_text, "127.0.0.1:%d", processes_port()), peers[r] = peer_text[r];
        processes_ok(processes_run(size, NULL, meets, NULL, true), size);
        munmap(shared, sizeof *shared);
    }
}
END_TEST

static void refused(taut_tcp w, taut_status s, const char *word)
{
    taut_comm  *comm = (taut_comm *)(void *)peers;
    taut_config cfg = config(300);
    ck_assert_int_eq(taut_comm_create_tcp(&w, &cfg, &comm), s);
    ck_assert_msg(strstr(taut_last_error(), word) && !comm, "%s", taut_last_error());
}
START_TEST(bad_arguments)
{
    taut_tcp    w = TAUT_TCP_INIT, good = TAUT_TCP_INIT;
    taut_comm  *comm;
    taut_config cfg = config(300);
    good.ranks = 2, good.rank = 1, good.root = "127.0.0.1:1";
    w = good, w.ranks = 0, refused(w, TAUT_E_RANGE, "ranks=0: must be 1..1024");
    w = good, w.ranks = 1025, refused(w, TAUT_E_RANGE, "ranks=1025");
    w = good, w.rank = 2, refused(w, TAUT_E_RANGE, "rank=2: must be 0..1");
    w = good, w.rank = -1, refused(w, TAUT_E_RANGE, "rank=-1");
    w = good, w.connect_ms = -2, refused(w, TAUT_E_RANGE, "connect_ms=-2");
    w = good, w.root = NULL, refused(w, TAUT_E_INVALID, "exactly one");
    w = good, w.exchange = exchange, refused(w, TAUT_E_INVALID, "exactly one");
    w = good, w.size = 3, refused(w, TAUT_E_INVALID, "TAUT_TCP_INIT");
    w = good, w.root = NULL, peers[0] = "127.0.0.1:1", peers[1] = NULL, w.peers = peers,
    refused(w, TAUT_E_INVALID, "peers[1]");
    static const char *const text[] = {"",         "host",   ":80",   "host:",   "host:0",  "host:65536",
                                       "host:12x", "::1:80", "[]:80", "[::1:80", "host:-1", "999.1.1.1:80"};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        w = good, w.root = text[i], refused(w, TAUT_E_INVALID, "address '");
    w = good, refused(w, TAUT_E_TIMEOUT, "rank 1 cannot reach rank 0 at 127.0.0.1:1 within 300 ms");
    w = good, w.rank = 0, w.root = "203.0.113.7:80", refused(w, TAUT_E_TRANSPORT, "cannot listen on 203.0.113.7:80");
    ck_assert_int_eq(taut_comm_create_tcp(NULL, &cfg, &comm), TAUT_E_INVALID);
    double begin = taut__now();
    ck_assert_int_eq(taut_comm_create_tcp(&good, &cfg, NULL), TAUT_E_INVALID);
    ck_assert_double_lt(taut__now() - begin, AT_ONCE_S); /* tells the others, whom it waits for as long as cfg says */
    w = (taut_tcp)TAUT_TCP_INIT, w.bind = "no-such-interface";
    refused(w, TAUT_E_INVALID, "bind 'no-such-interface'");
    ck_assert_int_eq(works(&(taut_tcp)TAUT_TCP_INIT, &cfg), TAUT_OK); /* one rank needs nothing */
}
END_TEST

/* ---- who does not belong, or does not come ---- */

static int knock(const char *root)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)atoi(strchr(root, ':') + 1)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 2000; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (void *)&a, sizeof a) == 0) return fd;
        close(fd);
        nap(1);
    }
    return -1;
}

/* Strangers that say nothing, or nonsense, while ranks meet; more of them than there are seats for guests. */
static taut_status strangers(process *p, taut_comm **comm)
{
    taut_config cfg = config(20000);
    (void)comm;
    if (p->rank == 1) {
        static char noise[3000];
        memset(noise, 'x', sizeof noise);
        for (int i = 0; i < 100; i++) {
            int fd = knock(p->where.root);
            NEED(fd >= 0);
            if (i % 2) NEED(send(fd, noise, i % 3 ? sizeof noise : 20, MSG_NOSIGNAL) != 0);
            if (i % 4 == 3) close(fd);
        }
    }
    return works(&p->where, &cfg);
}
START_TEST(strangers_are_turned_away) { processes_ok(processes_run(3, NULL, strangers, NULL, true), 3); }
END_TEST

enum { SAME_RANK, OTHER_SIZE, NOBODY, WRONG_SETTING, OTHER_SETTING, OTHER_VERSION, NO_EXCHANGE, KINDS };
static int         how;
static taut_status does_not_fit(process *p, taut_comm **comm)
{
    taut_config cfg = config(1500);
    taut_tcp    w = p->where;
    bool        odd = p->rank == p->size - 1;
    (void)comm;
    if (how == SAME_RANK && odd) w.rank = 1;
    if (how == OTHER_SIZE && odd) w.ranks++;
    if (how == NOBODY && odd) return taut__fail(TAUT_E_TIMEOUT, "rank 3 did not come");
    if (how == WRONG_SETTING && odd) cfg.budget = "rel=7";
    if (how == OTHER_SETTING && odd) cfg.replan_steps = 7;
    if (how == NO_EXCHANGE) w.root = NULL, w.exchange = exchange, w.ctx = p, break_round = odd ? 0 : -1;
    if (how == OTHER_VERSION && odd) {
        taut__tcp_hello h;
        taut__tcp_hello_fill(&h, TAUT_TCP_TO_MEET, w.rank, 0, w.ranks, 0);
        h.version = 9;
        h.check = XXH3_64bits(&h, offsetof(taut__tcp_hello, check));
        int fd = knock(w.root);
        NEED(send(fd, &h, sizeof h, MSG_NOSIGNAL) == (ssize_t)sizeof h);
        nap(500);
        close(fd);
        return taut__fail(TAUT_E_VERSION, "rank 3 has version 9");
    }
    return works(&w, &cfg);
}
START_TEST(not_a_job)
{
    static const struct {
        taut_status s;
        const char *word;
    } want[KINDS] = {{TAUT_E_MISMATCH, "two processes have rank=1"},
                     {TAUT_E_MISMATCH, "rank 0 has ranks=4, rank 3 has ranks=5"},
                     {TAUT_E_TIMEOUT, "rank 3 did not come"},
                     {TAUT_E_RANGE, "rel=7"},
                     {TAUT_E_MISMATCH, "rank 0 has TAUT_REPLAN_STEPS=50, rank 3 has TAUT_REPLAN_STEPS=7"},
                     {TAUT_E_VERSION, "rank 3 has version 9"},
                     {TAUT_E_TRANSPORT, "exchange failed"}};
    how = _i;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const process *p = processes_run(4, NULL, does_not_fit, NULL, true);
    for (int r = 0; r < 4; r++) {
        bool lost =
            how == SAME_RANK &&
            r == 1; /* whichever of the two came second was told so; the other lost its connection, or was told too */
        ck_assert_msg(p[r].status != TAUT_OK && p[r].status != TAUT_STATUS_END_, "how %d, rank %d: %s %s (%x)", how, r,
                      taut_status_name(p[r].status), p[r].error, (unsigned)p[r].wait);
        ck_assert_msg(p[r].status == want[how].s || lost || (how == NO_EXCHANGE), "how %d, rank %d: %s: %s", how, r,
                      taut_status_name(p[r].status), p[r].error);
        ck_assert_msg(strstr(p[r].error, want[how].word) || lost, "how %d, rank %d: %s", how, r, p[r].error);
        ck_assert_msg(p[r].seconds < 8, "how %d, rank %d took %.1f s", how, r, p[r].seconds);
    }
    munmap(shared, sizeof *shared);
}
END_TEST

/* ---- ranks that go in the middle ---- */

enum { KILLED, EXITED, STOPPED, LEFT, FAILED, GOES };
static taut_status goes_away(process *p, taut_comm **comm)
{
    static float big[400 * 500];
    taut_layer  *heavy;
    bool         odd = p->rank == p->size - 1;
    TAUT_TRY(one_step(*comm, p->rank, p->size));
    TAUT_TRY(taut_layer_register(*comm, "heavy", TAUT_F32, 2, (size_t[]){400, 500}, &heavy));
    TAUT_TRY(taut_layer_codec(heavy, "none"));
    if (odd) {
        p->at = 1;
        if (how == KILLED) raise(SIGKILL);
        if (how == EXITED)
            p->status = TAUT_E_PEER, snprintf(p->error, sizeof p->error, "rank %d", p->rank), suite_leave(0);
        if (how == STOPPED) {
            nap(2000);
            return taut__fail(TAUT_E_TIMEOUT, "rank %d", p->rank);
        }
        if (how == FAILED) taut__engine_fail(&(*comm)->ctx.engine, TAUT_E_NOMEM, "out of memory for the test");
        taut_comm_destroy(*comm);
        *comm = NULL;
        return taut__fail(TAUT_E_PEER, "rank %d", p->rank);
    }
    while (!p->all[p->size - 1].at) nap(1);
    TAUT_TRY(taut_allreduce_start(heavy, big, TAUT_SUM));
    taut_status s = one_step(*comm, p->rank, p->size);
    if (s == TAUT_OK) return s;
    char text[300];
    snprintf(text, sizeof text, "%s", taut_last_error());
    TAUT_TRY(taut_allreduce(heavy, big, TAUT_SUM) == s
                 ? TAUT_OK
                 : taut__fail(TAUT_E_INVALID, "it does not stay dead")); /* and stays so */
    return taut__fail(s, "%s", text);
}
START_TEST(gone)
{
    static const int sizes[] = {2, 3, 4, 7};
    char             who[20];
    how = _i / 2;
    for (int k = how == STOPPED ? 1 : 0; k < 4; k += how == STOPPED ? 3 : 1) {
        int         size = sizes[k];
        taut_config cfg = config(how == STOPPED ? 800 : 20000);
        cfg.progress = _i % 2 ? 2 : 0;
        const process *p = processes_run(size, &cfg, goes_away, NULL, false);
        snprintf(who, sizeof who, "rank %d", size - 1);
        for (int r = 0; r < size - 1; r++) {
            ck_assert_msg(p[r].status == (how == STOPPED ? TAUT_E_TIMEOUT : TAUT_E_PEER),
                          "how %d, rank %d of %d: %s: %s (%x)", how, r, size, taut_status_name(p[r].status), p[r].error,
                          (unsigned)p[r].wait);
            ck_assert_msg(strstr(p[r].error, who), "how %d, rank %d of %d: %s", how, r, size, p[r].error);
            if (how == FAILED)
                ck_assert_msg(strstr(p[r].error, "out of memory for the test"), "rank %d: %s", r, p[r].error);
            ck_assert_msg(p[r].seconds < AT_ONCE_S, "how %d, rank %d of %d took %.1f s", how, r, size, p[r].seconds);
        }
        if (how == KILLED) ck_assert(WIFSIGNALED(p[size - 1].wait));
    }
}
END_TEST

/* Who has done all that others wait for may leave, or exit without a word, at once: nobody misses it. */
static taut_status ends(process *p, taut_comm **comm)
{
    for (int step = 0; step < 5; step++) TAUT_TRY(one_step(*comm, p->rank, p->size));
    if (p->rank == how % p->size) {
        p->status = TAUT_OK;
        if (how < 3) suite_leave(0);
    } else {
        nap(30 * p->rank);
    }
    return TAUT_OK;
}
START_TEST(ends_in_order)
{
    taut_config cfg = config(20000);
    how = _i;
    processes_ok(processes_run(3, &cfg, ends, NULL, false), 3);
}
END_TEST

/* What a rank sent last arrives, though it leaves at once and the others say something to it meanwhile. Slow readers, full buffers. */
static taut_status last_words(process *p, taut_comm **comm)
{
    enum { HEAVY = 1200 * 1000 };
    taut_layer *l;
    float      *x = calloc(HEAVY, sizeof *x);
    TAUT_TRY(taut_layer_register(*comm, "heavy", TAUT_F32, 2, (size_t[]){1200, 1000}, &l));
    TAUT_TRY(taut_layer_codec(l, "none"));
    for (int step = 0; step < 3; step++) {
        for (size_t i = 0; i < HEAVY; i += 61) x[i] = ranks_value(p->rank, i, step);
        if (p->rank) nap(100); /* rank 0 waits, asks, and is through first or last */
        TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
        for (size_t i = 0; i < HEAVY; i += 61) NEED(fabs((double)x[i] - ranks_sum(p->size, i, step)) < 1e-4);
    }
    free(x);
    return TAUT_OK;
}
START_TEST(last_words_arrive)
{
    taut_config cfg = config(20000);
    cfg.progress = _i ? 2 : 0;
    processes_ok(processes_run(3, &cfg, last_words, NULL, false), 3);
}
END_TEST

/* ---- children: they cannot use it, and do not keep its connections open ---- */

static taut_status children(process *p, taut_comm **comm)
{
    TAUT_TRY(one_step(*comm, p->rank, p->size));
    if (p->rank == 1) {
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            alarm(20);
            bool told = one_step(*comm, 1, 2) == TAUT_E_STATE;
            taut_comm_destroy(*comm);
            p->at = told ? 1 : 2;
            while (p->at < 10) nap(5); /* outlives its parent */
            suite_leave(0);
        }
        while (!p->at) nap(1);
        TAUT_TRY(one_step(*comm, p->rank, p->size)); /* the parent's is as before */
        p->status = TAUT_OK;
        raise(SIGKILL);
    }
    TAUT_TRY(one_step(*comm, p->rank, p->size));
    double      begin = taut__now();
    taut_status s = one_step(*comm, p->rank, p->size);
    int         said = p->all[1].at;
    p->all[1].at = 10;
    NEED(s == TAUT_E_PEER && taut__now() - begin < AT_ONCE_S && said == 1);
    return TAUT_OK;
}
START_TEST(forked)
{
    taut_config cfg = config(20000);
    processes_ok(processes_run(2, &cfg, children, NULL, false), 2);
}
END_TEST

/* ---- a job that is suspended for longer than its timeout, as a batch system does, goes on ---- */

static taut_status suspended(process *p, taut_comm **comm)
{
    TAUT_TRY(one_step(*comm, p->rank, p->size));
    if (p->rank == 1) {
        nap(100); /* rank 0 waits by now */
        fflush(stdout);
        if (fork() == 0) {
            for (int r = 0; r < 2; r++) kill(p->all[r].pid, SIGSTOP);
            nap(1300);
            for (int r = 0; r < 2; r++) kill(p->all[r].pid, SIGCONT), nap(100);
            _exit(0);
        }
        nap(100);
    }
    return one_step(*comm, p->rank, p->size);
}
START_TEST(suspended_job)
{
    taut_config cfg = config(1000);
    processes_ok(processes_run(2, &cfg, suspended, NULL, false), 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tcp_faults");
    TCase *t = suite_case(s, "meeting", 120);
    tcase_add_loop_test(t, ways_to_meet, 0, WAYS);
    tcase_add_test(t, bad_arguments);
    tcase_add_test(t, strangers_are_turned_away);
    tcase_add_loop_test(t, not_a_job, 0, KINDS);
    t = suite_case(s, "going", 120);
    tcase_add_loop_test(t, gone, 0, 2 * GOES);
    tcase_add_loop_test(t, ends_in_order, 0, 6);
    tcase_add_loop_test(t, last_words_arrive, 0, 2);
    tcase_add_test(t, forked);
    tcase_add_test(t, suspended_job);
    return suite_run(s);
}
