/* site.h : one row of the report: a call that a program makes once in each cycle, and what became of it. No MPI. */
#ifndef TAUT_SITE_H
#define TAUT_SITE_H

#include "likeness.h"
#include "preload_options.h"
#include "sequence.h"

/* Budgets that a dry run tries; elements of a scattered sum to know it again; sums whose size is remembered, elements it is taken from. */
enum { TAUT_COURSES = 3, TAUT_SCATTERED = 64, TAUT_SEEN = 48, TAUT_SEEN_SAMPLE = 128 };

/* Dry runs: seconds of timed trials under each budget, what they lost; and of plain calls in cycles without a trial, where each meets
 * the network as the one before has left it: behind a coded call a plain one of 4 MiB at 1 Gbit/s took 45 ms, behind a plain one 68. */
typedef struct taut__trials {
    double   coded_s[TAUT_COURSES], error[TAUT_COURSES], plain_s;
    uint64_t n[TAUT_COURSES], plain_n;
} taut__trials;

/* Of a communicator's non-blocking calls: what matters is how long the program waits for them, which only it knows. */
enum { TAUT_WAITS_PLAIN, TAUT_WAITS_CODED, TAUT_WAITS };
typedef struct taut__waits {
    uint64_t     calls[TAUT_WAITS];    /* that went this way */
    double       waited_s[TAUT_WAITS]; /* in Wait, Waitall, Waitany, Waitsome */
    double       busy_s[TAUT_WAITS];   /* while one or more were under way */
    uint64_t     per_cycle;            /* of those that are, or would be, compressed */
    taut__trials trials;               /* of all of a cycle's together; plain_s, plain_n: unused */
} taut__waits;

typedef struct taut__site {
    size_t          number; /* from 1, in order of first call in this process */
    taut__call_kind kind;
    uint64_t        key;   /* of its calls */
    uint64_t        count; /* elements on each rank */
    uint32_t        elem_bytes;
    uint32_t        ordinal; /* among the calls of this size in a cycle */
    int             ranks;
    taut__likeness  like;
    taut__doubt     doubt;
    struct {
        uint64_t event;
        double   norm;
    } seen[TAUT_SEEN]; /* a ring: root mean squares of plain sums */
    uint64_t     seens;
    bool         excluded;  /* TAUT_EXCLUDE */
    bool         unaligned; /* on this rank a buffer was at an odd address */
    bool         misfit;    /* reduce-scatter whose parts do not end where codec blocks do */
    char         codec[96]; /* the last in force */
    uint64_t     calls, coded_calls, plain_timed;
    uint64_t     shadowed;                /* dry runs: calls that would have been compressed */
    uint64_t     bytes_dense, bytes_sent; /* by this rank, of coded calls */
    double       plain_s, coded_s;        /* of plain_timed and coded_calls */
    double       error2, norm2; /* sums over sampled cycles: measured squared error of the result, its squared norm */
    taut__trials trials;
    taut__waits *waits; /* of its communicator; NULL: a blocking call */
    const void  *out;   /* of the latest call, and its bytes: what a broadcast may be of */
    size_t       out_bytes;
    uint64_t     broadcast_call;            /* the last call whose result was broadcast */
    float        scattered[TAUT_SCATTERED]; /* reduce-scatter: a sample of this rank's part of the latest sum */
    uint64_t     scatters;                  /* sums sampled so */
    double       would_ms;                  /* constant values: a call with gradients in them; 0: not known */
    bool         would_guessed;             /* from another size */
} taut__site;

static inline uint64_t taut__site_bytes(const taut__site *s) { return s->count * s->elem_bytes; }

typedef struct taut__job_report {
    const taut__site *const *site;
    size_t                   sites;
    const char              *mpi;                  /* name of the MPI library */
    const char              *budget[TAUT_COURSES]; /* of a dry run; NULL: not one */
    int                      ranks;
    double                   wall_s, in_calls_s; /* since init; in reducing calls, this rank */
    uint64_t                 small_calls;        /* passed through: below the threshold, other types or operations */
    uint64_t unserved; /* passed through though they could have been compressed: no MPI_THREAD_MULTIPLE */
    bool     aborted;
    char     config[96]; /* codec and budget asked for */
} taut__job_report;

/* The table for people, on stderr; JSON to path, if any (docs/preload.md has the fields). */
void        taut__report_print(const taut__job_report *r);
taut_status taut__report_write(const taut__job_report *r, const char *path);

#endif
