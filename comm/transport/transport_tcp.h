/* transport_tcp.h : the inside of the TCP transport, shared by transport_tcp.c and shrink_tcp.c, which makes one of those who are left
 * after a failure. */
#ifndef TAUT_TRANSPORT_TCP_INSIDE_H
#define TAUT_TRANSPORT_TCP_INSIDE_H

#include "tcp.h"
#include "tcp_stream.h"

/* Words of this transport alone; those of core/absence.c are below. */
enum { TAUT_WORD_HERE = 101, TAUT_WORD_BELONG };

typedef struct taut__tcp {
    taut__transport    base;
    int                epoll;
    taut__tcp_stream **stream;  /* by rank; NULL for this one */
    bool              *listens; /* for writing, by rank */
    bool               failed;  /* a notice was sent or has come */
    bool               came;    /* told: it has come, and is not yet taken */
    taut__notice       told;
    taut__notice       word[TAUT_TCP_WORDS]; /* the oldest give way */
    unsigned           words, heard;
    /* of survivors: where they listen (by rank; 0: has not said so), and the first word of who belongs */
    uint16_t               *here;
    bool                    shrunk, settled;
    taut__notice            belong;
    struct sockaddr_storage listened; /* where this rank did, while ranks connected; ss_family 0: nowhere */
    struct taut__tcp       *next;     /* of this process */
} taut__tcp;

/* transport_tcp.c */
taut_status taut__tcp_read(taut__tcp *m, int r);                          /* what rank r has sent */
void        taut__tcp_say(taut__tcp *m, int peer, const taut__notice *w); /* peer -1: to all */
void        taut__tcp_flush(taut__tcp *m);                                /* what goes out now */

/* shrink_tcp.c: taut__transport_ops.shrink */
taut_status taut__tcp_shrink(taut__transport *t, int wait_ms, taut__transport **smaller, int *old);

#endif
