/* time_model.h : how long an allreduce of one layer, or of several under way together, takes, from a few constants.
 *
 *   t = latency + max(codec + copy, wire) + min(codec, wire) / slices,   latency = hops * alpha, wire = bytes * beta
 *
 * because slices are encoded, sent and decoded in a pipeline: the slower part hides the faster one but for one slice of it.
 * copy is the processor's part of the wire's time, which no codec can hide behind; in shared memory it is all of it.
 * Layers that are under way together share the processor and the link, so their codec and wire times add up, and only the
 * longest latency shows. alpha (seconds per hop) and beta (seconds per byte) come from a probe at start and are refined by an
 * exponentially weighted regression on what was observed. docs/planning.md has the table of hops and bytes. */
#ifndef TAUT_TIME_MODEL_H
#define TAUT_TIME_MODEL_H

#include "../comm/base/base.h"

typedef enum taut__algorithm_id {
    TAUT_VIA_NATIVE,
    TAUT_VIA_SRA,
    TAUT_VIA_RING,
    TAUT_VIA_GATHER,
    TAUT_VIA_FIELDS, /* of integer codecs: a native sum of codes in fields of 8 or 16 bits (comm/reduce/exchange_sums.c) */
    TAUT_VIAS
} taut__algorithm_id;
const char *taut__algorithm_name(taut__algorithm_id via); /* "native", "sra", "ring", "gather", "fields" */

typedef struct taut__line {
    double alpha, beta;
} taut__line; /* seconds per hop, seconds per byte */

typedef struct taut__link {
    int        ranks;
    double     slice_bytes;     /* of float32: the pipelining unit */
    taut__line line[TAUT_VIAS]; /* of fields: 0 where nothing adds them, or nobody has measured how fast */
} taut__link;

/* One layer as one rank sees it. */
typedef struct taut__work {
    double   dense_bytes;        /* of float32 */
    double   bytes, sum_bytes;   /* of this rank's encoding, of the encoding of the sum */
    double   encode_s, decode_s; /* of the whole layer, one thread; 0 for none */
    double   rounds;             /* native: allreduces one after the other; 1, or a linear codec's rounds */
    uint32_t vias;               /* bit v: algorithm v can carry it */
    double   agree;              /* exchanges of a few numbers between all ranks before anything is coded: 0 or 1 */
} taut__work;

/* A link as text: a bandwidth, as in "1gbit", "2.5gbit", "100mbit", "64kbit", with a latency of LINK_LATENCY_S; or "measure", which gives
 * zeros. */
taut_status taut__link_parse(const char *text, taut__line *line);

/* What an algorithm puts on the wire: messages after one another, and bytes sent by one rank. Messages to different peers
 * leave together, but each costs its sender and its receiver a part of a hop. */
double taut__algorithm_hops(taut__algorithm_id via, int ranks, const taut__work *w);
double taut__algorithm_bytes(taut__algorithm_id via, int ranks, const taut__work *w);
double taut__algorithm_codec_s(taut__algorithm_id via, int ranks, const taut__work *w);

/* What one layer, or the sum of several, asks of processor and link. */
typedef struct taut__load {
    double codec, copy, wire, latency, slices;
} taut__load;
taut__load taut__algorithm_load(const taut__link *link, taut__algorithm_id via, const taut__work *w);
void       taut__load_add(taut__load *sum, const taut__load *l); /* start from {0} */
double     taut__load_seconds(const taut__load *l);

/* Bits of a field that holds the sum of that many ranks' codes, of at least seven values each (guard bits: ceil(log2 ranks)): 8, 16 or 32. */
uint32_t taut__field_bits(int ranks);

/* The algorithms that may carry it: bits. Two ranks exchange everything, as comm/reduce/algorithms.c has it. */
uint32_t           taut__vias(const taut__link *link, const taut__work *w);
double             taut__copy_seconds(double beta); /* of the processor, per byte on a link of beta seconds per byte */
double             taut__algorithm_seconds(const taut__link *link, taut__algorithm_id via, const taut__work *w);
taut__algorithm_id taut__algorithm_best(const taut__link *link, const taut__work *w,
                                        double *seconds); /* the lower id wins ties */

/* All algorithms on a link of this bandwidth and latency. */
taut__link taut__link_simple(int ranks, double bits_per_second, double latency_s);

/* ---- refinement ----
 * Least squares of seconds on (hops, bytes), old observations fading by `forget` each time. */
typedef struct taut__fit {
    double hh, hb, bb, hs, bs; /* weighted sums of products */
} taut__fit;
void       taut__fit_add(taut__fit *fit, double hops, double bytes, double seconds, double forget);
taut__line taut__fit_line(const taut__fit *fit, taut__line prior); /* prior: where nothing was observed */

#endif
