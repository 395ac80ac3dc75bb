/* tcp_address.c : at which addresses a rank can be reached, and which of another rank's to try first.
 *
 * An address may stand for different machines in different places (172.17.0.1 is every Docker host's own), so whoever connects checks whom
 * he has reached (tcp_mesh.c), and goes on to the next candidate if it is somebody else. */
#include "tcp.h"
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* ---- texts ---- */

socklen_t taut__tcp_address_length(const struct sockaddr_storage *a)
{
    return a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

void taut__tcp_address_text(const struct sockaddr_storage *a, char *dst, size_t cap)
{
    char                       host[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr_in  *v4 = (const void *)a;
    const struct sockaddr_in6 *v6 = (const void *)a;
    if (a->ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(dst, cap, "[%s]:%d", host, ntohs(v6->sin6_port));
    } else {
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(dst, cap, "%s:%d", host, ntohs(v4->sin_port));
    }
}

/* "HOST:PORT" or "[HOST]:PORT". */
static bool split(const char *text, char host[256], char port[8])
{
    const char *colon = strrchr(text, ':'), *from = text;
    if (!colon || colon == text || !colon[1] || strlen(colon + 1) > 5 ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return false;
    size_t n = (size_t)(colon - text);
    if (*text == '[') {
        if (n < 3 || text[n - 1] != ']') return false;
        from++, n -= 2;
    } else if (memchr(text, ':', n)) {
        return false; /* an IPv6 address without its brackets */
    }
    if (n >= 256) return false;
    memcpy(host, from, n);
    host[n] = 0;
    snprintf(port, 8, "%s", colon + 1);
    long number = strtol(port, NULL, 10);
    return number >= 1 && number <= 65535;
}

/* Many systems give their own name an address of the loopback interface (Debian's /etc/hosts: 127.0.1.1), where no other host can come: who is to be
 * reached by that name listens on all addresses. Not by numbers, nor as localhost: those mean what they say. */
static void open_to_others(const char *host, struct sockaddr_storage *a)
{
    struct sockaddr_in  *v4 = (void *)a;
    struct sockaddr_in6 *v6 = (void *)a;
    uint8_t              number[16];
    if (inet_pton(AF_INET, host, number) == 1 || inet_pton(AF_INET6, host, number) == 1) return;
    if (strncmp(host, "localhost", 9) == 0) return;
    if (a->ss_family == AF_INET && ntohl(v4->sin_addr.s_addr) >> 24 == 127) v4->sin_addr.s_addr = htonl(INADDR_ANY);
    if (a->ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr)) v6->sin6_addr = in6addr_any;
}

taut_status taut__tcp_resolve(const char *text, bool passive, struct sockaddr_storage *to, int most, int *n)
{
    char            host[256], port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0)},
                    *list = NULL;
    *n = 0;
    if (!split(text, host, port))
        return taut__fail(TAUT_E_INVALID,
                          "taut_comm_create_tcp: address '%s': must be HOST:PORT or [IPV6]:PORT, PORT 1..65535", text);
    int rc = getaddrinfo(host, port, &hints, &list);
    if (rc != 0) return taut__fail(TAUT_E_INVALID, "taut_comm_create_tcp: address '%s': %s", text, gai_strerror(rc));
    for (const struct addrinfo *a = list; a && *n < most; a = a->ai_next) {
        if (a->ai_family != AF_INET && a->ai_family != AF_INET6) continue;
        memset(&to[*n], 0, sizeof *to);
        memcpy(&to[*n], a->ai_addr, a->ai_addrlen);
        if (passive) open_to_others(host, &to[*n]);
        ++*n;
    }
    freeaddrinfo(list);
    return *n ? TAUT_OK : taut__fail(TAUT_E_INVALID, "taut_comm_create_tcp: address '%s': neither IPv4 nor IPv6", text);
}

/* ---- this machine ---- */

static int mask_bits(const uint8_t *mask, size_t n)
{
    int bits = 0;
    for (size_t i = 0; i < n; i++) bits += __builtin_popcount(mask[i]);
    return bits;
}

/* False for what others cannot use: loopback, link-local addresses. */
static bool address_of(const struct ifaddrs *i, bool loopback, taut__tcp_address *a)
{
    memset(a, 0, sizeof *a);
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || ((i->ifa_flags & IFF_LOOPBACK) && !loopback)) return false;
    if (i->ifa_addr->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)i->ifa_addr, *mask = (const void *)i->ifa_netmask;
        a->family = 4;
        memcpy(a->bytes, &v4->sin_addr, 4);
        a->prefix = mask ? (uint8_t)mask_bits((const void *)&mask->sin_addr, 4) : 32;
        return true;
    }
    if (i->ifa_addr->sa_family != AF_INET6) return false;
    const struct sockaddr_in6 *v6 = (const void *)i->ifa_addr, *mask = (const void *)i->ifa_netmask;
    a->family = 6;
    memcpy(a->bytes, &v6->sin6_addr, 16);
    a->prefix = mask ? (uint8_t)mask_bits((const void *)&mask->sin6_addr, 16) : 128;
    return !IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr);
}

static bool wanted(const struct ifaddrs *i, const taut__tcp_address *a, const char *bind)
{
    uint8_t named[16];
    if (!bind) return true;
    if (strcmp(i->ifa_name, bind) == 0) return true;
    return inet_pton(a->family == 4 ? AF_INET : AF_INET6, bind, named) == 1 &&
           memcmp(named, a->bytes, a->family == 4 ? 4 : 16) == 0;
}

taut_status taut__tcp_own_addresses(const char *bind, taut__tcp_card *card)
{
    struct ifaddrs *list = NULL;
    char            names[200] = "";
    int             n = 0;
    if (bind && !*bind) bind = NULL;
    if (getifaddrs(&list) != 0)
        return taut__fail(TAUT_E_TRANSPORT, "taut_comm_create_tcp: getifaddrs: %s", strerror(errno));
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        taut__tcp_address a;
        if (!address_of(i, bind != NULL, &a)) continue;
        size_t at = strlen(names);
        if (!strstr(names, i->ifa_name)) snprintf(names + at, sizeof names - at, "%s%s", at ? ", " : "", i->ifa_name);
        if (n < TAUT_TCP_ADDRESSES && wanted(i, &a, bind)) card->address[n++] = a;
    }
    freeifaddrs(list);
    if (n > 0 || !bind) return TAUT_OK; /* none at all: ranks of one machine still reach each other */
    return taut__fail(
        TAUT_E_INVALID,
        "taut_comm_create_tcp: bind '%s': no address or interface of this machine that is up; there are: %s", bind,
        names);
}

/* Ranks with the same boot of the same kernel in the same network namespace. */
uint64_t taut__tcp_host(void)
{
    char        boot[64] = "";
    struct stat net = {0};
    FILE       *f = fopen("/proc/sys/kernel/random/boot_id", "r");
    uint64_t    h = 0;
    if (f) {
        if (fgets(boot, sizeof boot, f)) h = XXH3_64bits(boot, strlen(boot));
        fclose(f);
    }
    if (stat("/proc/self/ns/net", &net) != 0) net.st_ino = (ino_t)getpid(); /* unknown: a host of its own */
    return taut__seed(h, (uint64_t)net.st_ino);
}

/* ---- whom to try where ---- */

static bool same_subnet(const taut__tcp_address *a, const taut__tcp_address *b)
{
    int bits = a->prefix < b->prefix ? a->prefix : b->prefix;
    if (a->family != b->family) return false;
    if (memcmp(a->bytes, b->bytes, (size_t)bits / 8) != 0) return false;
    uint8_t mask = (uint8_t)(0xff00 >> (bits % 8));
    return bits % 8 == 0 || ((a->bytes[bits / 8] ^ b->bytes[bits / 8]) & mask) == 0;
}

static void put(const taut__tcp_address *a, uint32_t port, struct sockaddr_storage *to)
{
    struct sockaddr_in  *v4 = (void *)to;
    struct sockaddr_in6 *v6 = (void *)to;
    memset(to, 0, sizeof *to);
    if (a->family == 4) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        memcpy(&v4->sin_addr, a->bytes, 4);
    } else {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        memcpy(&v6->sin6_addr, a->bytes, 16);
    }
}

static bool near(const taut__tcp_card *mine, const taut__tcp_address *a)
{
    for (int i = 0; i < TAUT_TCP_ADDRESSES && mine->address[i].family; i++)
        if (same_subnet(&mine->address[i], a)) return true;
    return false;
}

int taut__tcp_candidates(const taut__tcp_card *mine, const taut__tcp_card *theirs, struct sockaddr_storage *to)
{
    static const taut__tcp_address loopback = {.family = 4, .prefix = 8, .bytes = {127, 0, 0, 1}};
    int                            n = 0;
    if (mine->host == theirs->host) put(&loopback, theirs->port, &to[n++]);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < TAUT_TCP_ADDRESSES && theirs->address[i].family; i++)
            if (near(mine, &theirs->address[i]) == (round == 0)) put(&theirs->address[i], theirs->port, &to[n++]);
    return n;
}
