/* tcp_greet.c : sockets, and the first words on a connection. Whoever may connect is not trusted: words that are not good, or do not come, end
 * in a closed connection, and hold nobody up. */
#include "tcp.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

static const double PATIENCE_S = 3; /* with one that has connected and says nothing */

/* ---- sockets ---- */

int taut__tcp_listen(const struct sockaddr_storage *at)
{
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6};
    struct sockaddr_in  any4 = {.sin_family = AF_INET};
    int                 one = 1, zero = 0, family = at ? at->ss_family : AF_INET6;
    int                 fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 && !at) fd = socket(family = AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); /* no IPv6 here */
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    const struct sockaddr *addr = at                   ? (const void *)at
                                  : family == AF_INET6 ? (const void *)&any6
                                                       : (const void *)&any4;
    if (bind(fd, addr, family == AF_INET6 ? sizeof any6 : sizeof any4) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

int taut__tcp_port(int fd)
{
    struct sockaddr_storage a;
    socklen_t               n = sizeof a;
    memset(&a, 0, sizeof a); /* its padding too, where the port lies */
    if (getsockname(fd, (void *)&a, &n) != 0) return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&a)->sin6_port
                                         : ((struct sockaddr_in *)(void *)&a)->sin_port);
}

void taut__tcp_close(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Nonblocking, no delay. */
static void tune(int fd)
{
    int one = 1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
}

int taut__tcp_connect(const struct sockaddr_storage *to)
{
    int fd = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    tune(fd);
    if (connect(fd, (const void *)to, taut__tcp_address_length(to)) == 0 || errno == EINPROGRESS) return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

int taut__tcp_connected(int fd, int wait_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int           why = 0;
    socklen_t     n = sizeof why;
    int           rc = poll(&p, 1, wait_ms);
    if (rc <= 0) return rc < 0 && errno != EINTR ? -1 : 0;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n) != 0) return -1;
    errno = why;
    return why ? -1 : 1;
}

bool taut__tcp_exhausted(int why) { return why == EMFILE || why == ENFILE || why == ENOMEM || why == ENOBUFS; }

double taut__tcp_deadline(int32_t ms) { return ms < 0 ? 1e300 : taut__now() + ms * 1e-3; }

/* Nonblocking sockets, until a time. */
static int wait_for(int fd, short what, double until)
{
    double        left = until - taut__now();
    struct pollfd p = {.fd = fd, .events = what};
    if (left <= 0) {
        errno = ETIMEDOUT;
        return -1;
    }
    poll(&p, 1, left > 0.5 ? 500 : (int)(left * 1000) + 1);
    return 0;
}

int taut__tcp_send_all(int fd, const void *src, size_t n, double until)
{
    for (const char *p = src; n > 0;) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (k > 0) p += k, n -= (size_t)k;
        else if (k < 0 && errno != EAGAIN && errno != EINTR) return -1;
        else if (wait_for(fd, POLLOUT, until) != 0) return -1;
    }
    return 0;
}

int taut__tcp_recv_all(int fd, void *dst, size_t n, double until)
{
    for (char *p = dst; n > 0;) {
        ssize_t k = recv(fd, p, n, MSG_DONTWAIT);
        if (k == 0) errno = ECONNRESET;
        if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR)) return -1;
        if (k > 0) p += k, n -= (size_t)k;
        else if (wait_for(fd, POLLIN, until) != 0) return -1;
    }
    return 0;
}

/* ---- first words ---- */

static uint64_t check_of(const taut__tcp_hello *h) { return XXH3_64bits(h, offsetof(taut__tcp_hello, check)); }

void taut__tcp_hello_fill(taut__tcp_hello *h, uint32_t kind, int from, int to, int ranks, uint64_t job)
{
    *h = (taut__tcp_hello){TAUT_TCP_MAGIC, TAUT_TCP_VERSION, kind, from, to, ranks, job, 0};
    h->check = check_of(h);
}

bool taut__tcp_hello_good(const taut__tcp_hello *h)
{
    return h->magic == TAUT_TCP_MAGIC && h->check == check_of(h) && h->ranks >= 1 && h->from >= 0 &&
           h->from < h->ranks && h->to >= 0 && h->to < h->ranks;
}

static void dismiss(taut__tcp_greeter *g, int i)
{
    taut__tcp_close(&g->guest[i].fd);
    g->guest[i] = g->guest[--g->n];
}

static void let_in(taut__tcp_greeter *g)
{
    int fd = 0; /* while all seats are taken others wait outside: whoever has one says something soon, or loses it */
    while (g->n < TAUT_TCP_GUESTS && (fd = accept4(g->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        tune(fd);
        memset(&g->guest[g->n], 0, sizeof g->guest[0]);
        g->guest[g->n].fd = fd;
        g->guest[g->n++].since = taut__now();
    }
    g->why = fd < 0 && taut__tcp_exhausted(errno) ? errno : 0;
}

/* 1: has said all; 0: not yet; -1: goes. */
static int listen_to(taut__tcp_greeter *g, int i)
{
    ssize_t k = recv(g->guest[i].fd, (char *)&g->guest[i].hello + g->guest[i].got,
                     sizeof g->guest[i].hello - g->guest[i].got, MSG_DONTWAIT);
    if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR)) return -1;
    if (k > 0) g->guest[i].got += (size_t)k;
    if (g->guest[i].got == sizeof g->guest[i].hello) return taut__tcp_hello_good(&g->guest[i].hello) ? 1 : -1;
    return taut__now() - g->guest[i].since > PATIENCE_S ? -1 : 0;
}

static int next_guest(taut__tcp_greeter *g, taut__tcp_hello *hello)
{
    let_in(g);
    for (int i = 0; i < g->n; i++) {
        int said = listen_to(g, i);
        if (said == 0) continue;
        if (said < 0) {
            dismiss(g, i--);
            continue;
        }
        int fd = g->guest[i].fd;
        *hello = g->guest[i].hello;
        g->guest[i] = g->guest[--g->n];
        return fd;
    }
    return -1;
}

int taut__tcp_greet(taut__tcp_greeter *g, int wait_ms, taut__tcp_hello *hello)
{
    struct pollfd p[TAUT_TCP_GUESTS + 1];
    int           fd = next_guest(g, hello);
    if (fd >= 0 || wait_ms == 0) return fd;
    p[0] = (struct pollfd){.fd = g->n < TAUT_TCP_GUESTS ? g->listener : -1, .events = POLLIN};
    for (int i = 0; i < g->n; i++) p[i + 1] = (struct pollfd){.fd = g->guest[i].fd, .events = POLLIN};
    poll(p, (nfds_t)g->n + 1, wait_ms);
    return next_guest(g, hello);
}

void taut__tcp_greeter_close(taut__tcp_greeter *g)
{
    while (g->n > 0) dismiss(g, 0);
    taut__tcp_close(&g->listener);
}
