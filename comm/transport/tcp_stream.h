/* tcp_stream.h : messages over the connection to one peer, both ways; tcp_stream.c says what travels. */
#ifndef TAUT_TRANSPORT_TCP_STREAM_H
#define TAUT_TRANSPORT_TCP_STREAM_H

#include "transport.h"

/* A header, before every message. check: 32 bits of a hash over it, the job and how many came before. */
typedef struct taut__tcp_header {
    uint32_t kind, id;
    int32_t  tag;
    uint32_t check;
    uint64_t bytes;
} taut__tcp_header;

typedef struct
    taut__tcp_early { /* a message that came before its receive was posted; or, asks, one that waits for it */
    struct taut__tcp_early *next;
    int32_t                 tag;
    uint32_t                id;
    bool                    asks, complete;
    taut__request          *claimed; /* its receive, while it is still coming */
    size_t                  bytes, room;
    _Alignas(64) char data[];
} taut__tcp_early;

typedef struct taut__tcp_list {
    taut__request *head, **tail;
} taut__tcp_list;

enum { TAUT_TCP_WORDS = 16, TAUT_TCP_READ = 1 << 14 };

typedef struct taut__tcp_stream {
    int      fd, peer;
    uint64_t job;
    bool     left;   /* said that it leaves */
    bool     gone;   /* its end of the connection is closed */
    bool     failed; /* a notice of failure has come from it */
    int      why;    /* errno that closed it; 0: in order */
    /* going out */
    taut__tcp_list   out;     /* requests whose turn comes */
    taut__tcp_list   waiting; /* sends that have asked */
    uint32_t         last_id, sent_headers;
    bool             writing;
    taut__tcp_header oh;
    size_t           oh_at;
    taut__request   *current; /* whose header and bytes are being written; NULL: a word, or given up */
    const char      *body;    /* NULL: zeros, of one that was given up */
    size_t           body_left;
    bool             word_out; /* word[0] is being written */
    taut__notice     word[TAUT_TCP_WORDS];
    int              words;
    /* coming in */
    taut__tcp_list   posted, granted;
    taut__tcp_early *early, *spare;
    uint32_t         got_headers;
    taut__tcp_header ih;
    size_t           ih_got;
    taut__request   *into;
    taut__tcp_early *into_early;
    char            *dst;               /* NULL: to nowhere */
    size_t           dst_left, left_in; /* room; bytes to come of the message */
    taut__notice     heard;             /* being received, or the last one */
    bool             news;              /* heard is complete, and to be taken */
    size_t           rx_at, rx_end;
    char             rx[TAUT_TCP_READ];
} taut__tcp_stream;

void taut__tcp_stream_init(taut__tcp_stream *s, int fd, int peer, uint64_t job);
void taut__tcp_stream_release(taut__tcp_stream *s);
/* Takes a request whose fields are filled in; sends what can be sent now. */
taut_status taut__tcp_stream_send(taut__tcp_stream *s, taut__request *r);
taut_status taut__tcp_stream_recv(taut__tcp_stream *s, taut__request *r);
void        taut__tcp_stream_cancel(taut__tcp_stream *s, taut__request *r);
void        taut__tcp_stream_tell(taut__tcp_stream *s, const taut__notice *word); /* before all that has not begun */
taut_status taut__tcp_stream_write(taut__tcp_stream *s);                          /* as much as goes out now */
taut_status taut__tcp_stream_read(taut__tcp_stream *s);  /* what is there, up to a limit, or until there is news */
void        taut__tcp_stream_drain(taut__tcp_stream *s); /* what is there, to nowhere */
bool        taut__tcp_stream_writes(const taut__tcp_stream *s); /* there is more to write */
taut_status taut__tcp_stream_missed(const taut__tcp_stream *s); /* an error if it is gone and something waits for it */

#endif
