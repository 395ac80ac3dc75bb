/* tcp.h : the inside of the TCP transport: how ranks find each other (tcp_address.c, tcp_meet.c), connect (tcp_greet.c, tcp_mesh.c), and
 * exchange messages (transport_tcp.c, tcp_stream.c). What is documented here is what travels; numbers are in the order of bytes of
 * the sender, and a first word tells when that is not the receiver's. */
#ifndef TAUT_TRANSPORT_TCP_H
#define TAUT_TRANSPORT_TCP_H

#include "../taut_tcp.h"
#include "transport.h"
#include <netinet/in.h>
#include <sys/socket.h>

enum { TAUT_TCP_MAGIC = 0x54435001, TAUT_TCP_VERSION = 1 };
enum { TAUT_TCP_ADDRESSES = 8, TAUT_TCP_ROUND_MOST = 1024, TAUT_TCP_RANKS = 1024 };

/* ---- where a rank can be reached ---- */

typedef struct taut__tcp_address {
    uint8_t family; /* 4 or 6; 0: none */
    uint8_t prefix; /* bits of its subnet */
    uint8_t pad[2];
    uint8_t bytes[16];
} taut__tcp_address;

/* taut__tcp_card : what every rank tells all others first. */
typedef struct taut__tcp_card {
    uint32_t          magic, version;
    int32_t           rank, ranks;
    int32_t           status; /* of what this rank has done until now; not TAUT_OK: nobody goes on */
    uint32_t          port;
    uint64_t          nonce;    /* the job's number is made of all of them */
    uint64_t          host;     /* equal on ranks between which 127.0.0.1 works */
    uint64_t          settings; /* hash of what must be alike */
    taut__tcp_address address[TAUT_TCP_ADDRESSES];
    char              text[96]; /* of status */
} taut__tcp_card;

/* Of this machine, or of the one address or interface named by bind (NULL: all). */
taut_status taut__tcp_own_addresses(const char *bind, taut__tcp_card *card);
uint64_t    taut__tcp_host(void);
/* Where to try a rank, best first: at most TAUT_TCP_ADDRESSES + 1. */
int       taut__tcp_candidates(const taut__tcp_card *mine, const taut__tcp_card *theirs, struct sockaddr_storage *to);
void      taut__tcp_address_text(const struct sockaddr_storage *a, char *dst, size_t cap); /* "10.0.0.1:80" */
socklen_t taut__tcp_address_length(const struct sockaddr_storage *a);
/* "HOST:PORT" to addresses: at most `most`; returns how many. passive: to listen on. */
taut_status taut__tcp_resolve(const char *text, bool passive, struct sockaddr_storage *to, int most, int *n);

/* ---- connections ---- */

int  taut__tcp_listen(const struct sockaddr_storage *at); /* -1, with errno; at: NULL for any address and port */
int  taut__tcp_port(int fd);
void taut__tcp_close(int *fd);                             /* does nothing for -1 */
int  taut__tcp_connect(const struct sockaddr_storage *to); /* begins to; -1, with errno */
int  taut__tcp_connected(int fd, int wait_ms);             /* 1, 0: not yet, -1 with errno */
#define TAUT_TCP_SILENT "no answer, as behind a firewall that drops packets"
/* All of it, until the time `until` of taut__now(), or -1. */
int    taut__tcp_send_all(int fd, const void *src, size_t n, double until);
int    taut__tcp_recv_all(int fd, void *dst, size_t n, double until);
double taut__tcp_deadline(int32_t ms); /* in so many ms; -1: never */
bool   taut__tcp_exhausted(int why);   /* errno: no more descriptors or memory here: waiting does not help */

/* The first words on a connection, from who connects; who accepts answers with his. */
typedef struct taut__tcp_hello {
    uint32_t magic, version;
    uint32_t kind; /* TAUT_TCP_TO_MEET, TAUT_TCP_TO_STAY */
    int32_t  from, to, ranks;
    uint64_t job;
    uint64_t check; /* hash of what comes before */
} taut__tcp_hello;
enum { TAUT_TCP_TO_MEET = 1, TAUT_TCP_TO_STAY = 2 };
void taut__tcp_hello_fill(taut__tcp_hello *h, uint32_t kind, int from, int to, int ranks, uint64_t job);
bool taut__tcp_hello_good(const taut__tcp_hello *h);

/* taut__tcp_greeter : accepts connections and reads their first words; one that stays silent holds nobody up. */
enum { TAUT_TCP_GUESTS = 64 };
typedef struct taut__tcp_greeter {
    int listener, n;
    int why; /* errno, where this process can accept no more connections for lack of descriptors or memory; 0: it can */
    struct {
        int             fd;
        size_t          got;
        double          since;
        taut__tcp_hello hello;
    } guest[TAUT_TCP_GUESTS];
} taut__tcp_greeter;
int  taut__tcp_greet(taut__tcp_greeter *g, int wait_ms, taut__tcp_hello *hello); /* of good words; -1: none came */
void taut__tcp_greeter_close(taut__tcp_greeter *g);                              /* guests and listener */

/* ---- meeting ---- */

/* taut__tcp_meeting : an allgather before there are connections: by the program's callback, or over rank 0. */
typedef struct taut__tcp_meeting {
    int32_t           rank, ranks;
    taut_tcp_exchange exchange; /* NULL: over rank 0 */
    void             *ctx;
    int               round;
    int               guest[TAUT_TCP_RANKS]; /* on rank 0: connections, by rank; -1: none yet */
    int               root;                  /* elsewhere */
    taut__tcp_greeter greeter;
    double            until;
    int32_t           connect_ms;
    const char       *place; /* in messages */
} taut__tcp_meeting;
/* where: checked. A failed one is closed too. */
taut_status taut__tcp_meet(taut__tcp_meeting *m, const taut_tcp *where, int32_t connect_ms);
taut_status taut__tcp_tell_all(taut__tcp_meeting *m, const void *mine, size_t bytes, void *all);
void        taut__tcp_meeting_close(taut__tcp_meeting *m);

/* ---- the mesh ---- */

/* fd[r] for every other rank; on failure none. listener is used, not closed. room: of taut__tcp_mesh_room(), NULL where memory is out, which
 * belongs to the caller: who knows before others expect it that it has none can say so. */
void       *taut__tcp_mesh_room(int ranks);
taut_status taut__tcp_mesh(int listener, const taut__tcp_card *cards, int rank, int ranks, uint64_t job,
                           int32_t connect_ms, void *room, int *fd);

/* The transport over those connections, which it takes, also on failure. listener: where this rank was reached, which is where survivors of
 * a failure will look for it; stays the caller's. -1: nowhere. */
taut_status taut__tcp_create(int rank, int ranks, uint64_t job, const uint64_t *hosts, int fake_hosts, int listener,
                             int *fd, taut__transport **t);

#endif
