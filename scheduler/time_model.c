/* time_model.c : hops, bytes and codec work per algorithm, and the line through what was observed. */
#include "time_model.h"
#include <math.h>
#include <string.h>

const char *taut__algorithm_name(taut__algorithm_id via)
{
    static const char *const names[TAUT_VIAS] = {"native", "sra", "ring", "gather", "fields"};
    return names[via];
}

/* Two assumptions, not measurements; verdict.h corrects plans that they mislead. Seconds per byte that the processor spends on a
 * message, copying it out and in at 4 GB/s; where the link is faster than that, as in shared memory, its whole time. And what
 * a further message at the same time takes of a hop. */
static const double COPY = 2.5e-10, SHARE = 0.25;

/* Seconds per hop of a link that is given by its bandwidth alone: a message over TCP in one switch's reach. */
static const double LINK_LATENCY_S = 5e-5;

taut_status taut__link_parse(const char *text, taut__line *line)
{
    *line = (taut__line){0, 0};
    if (strcmp(text, "measure") == 0) return TAUT_OK;
    char  *end = NULL;
    double bits = taut__strtod(text, &end), unit = 0;
    if (strcmp(end, "gbit") == 0) unit = 1e9;
    if (strcmp(end, "mbit") == 0) unit = 1e6;
    if (strcmp(end, "kbit") == 0) unit = 1e3;
    if (end == text || unit == 0 || !(bits * unit >= 1e3 && bits * unit <= 1e15))
        return taut__fail(TAUT_E_INVALID,
                          "TAUT_LINK=%s: must be measure or a bandwidth, as in 100mbit, 2.5gbit; 1kbit to 1000000gbit",
                          text);
    *line = (taut__line){LINK_LATENCY_S, 8 / (bits * unit)};
    return TAUT_OK;
}

double taut__copy_seconds(double beta) { return fmin(COPY, beta); }

uint32_t taut__field_bits(int ranks)
{
    enum { WHOLE = 32 };
    uint32_t bits = 8, p = (uint32_t)ranks;
    while (bits < WHOLE && ((1u << bits) - 1) / (2 * p) < 3) bits *= 2;
    return bits;
}

/* Small sums double recursively: half the hops, all the bytes in each. By size alone, as comm/sum/plain_sum.h and MPI libraries do. */
static bool doubles(double bytes) { return bytes <= 1 << 15; }

static double sum_hops(double p, double bytes) { return (doubles(bytes) ? 1 : 2) * ceil(log2(p)); }
static double sum_bytes(double p, double bytes) { return (doubles(bytes) ? ceil(log2(p)) : 2 * (p - 1) / p) * bytes; }
static double field_bytes(int ranks, const taut__work *w) { return w->dense_bytes * taut__field_bits(ranks) / 32; }

double taut__algorithm_hops(taut__algorithm_id via, int ranks, const taut__work *w)
{
    double p = ranks;
    if (ranks < 2) return 0;
    switch (via) {
    case TAUT_VIA_NATIVE: return sum_hops(p, w->bytes) * w->rounds; /* large: reduce-scatter and allgather by halving */
    case TAUT_VIA_FIELDS: return sum_hops(p, field_bytes(ranks, w));
    case TAUT_VIA_SRA: return 2 * (1 + SHARE * (p - 2)); /* all peers at once, twice */
    case TAUT_VIA_RING: return 2 * (p - 1);
    default: return 1 + SHARE * (p - 2);
    }
}

double taut__algorithm_bytes(taut__algorithm_id via, int ranks, const taut__work *w)
{
    double p = ranks;
    if (ranks < 2) return 0;
    switch (via) {
    case TAUT_VIA_NATIVE: return sum_bytes(p, w->bytes);
    case TAUT_VIA_FIELDS: return sum_bytes(p, field_bytes(ranks, w));
    case TAUT_VIA_GATHER: return (p - 1) * w->bytes;
    default: return (p - 1) / p * (w->bytes + w->sum_bytes);
    }
}

/* sra: every rank encodes the layer, decodes p-1 slices of 1/p, encodes its slice of the sum, decodes the others'.
 * ring: the same amounts, hop by hop. gather: encode once, decode everybody's. native: the codec's own two halves. */
double taut__algorithm_codec_s(taut__algorithm_id via, int ranks, const taut__work *w)
{
    double p = ranks;
    if (ranks < 2) return 0;
    switch (via) {
    case TAUT_VIA_FIELDS:
    case TAUT_VIA_NATIVE: return w->encode_s + w->decode_s;
    case TAUT_VIA_GATHER: return w->encode_s + p * w->decode_s;
    default: return w->encode_s * (1 + 1 / p) + w->decode_s * 2 * (p - 1) / p;
    }
}

/* Pieces of a rank's part that follow each other through codec and wire (comm/base/partition.h): eight, but none below 64 KiB
 * nor above slice_bytes. gather has no parts, and cuts the whole alike. */
static double slices(const taut__link *link, taut__algorithm_id via, const taut__work *w)
{
    double part = via == TAUT_VIA_GATHER ? w->dense_bytes : w->dense_bytes / link->ranks;
    if (via == TAUT_VIA_NATIVE || via == TAUT_VIA_FIELDS) return 1;
    return fmax(fmax(fmin(8, floor(part / 65536)), part / link->slice_bytes), 1);
}

taut__load taut__algorithm_load(const taut__link *link, taut__algorithm_id via, const taut__work *w)
{
    const taut__line *line = &link->line[via];
    double            bytes = taut__algorithm_bytes(via, link->ranks, w);
    if (link->ranks < 2) return (taut__load){.slices = 1};
    double hops = taut__algorithm_hops(via, link->ranks, w) + w->agree * ceil(log2(link->ranks));
    return (taut__load){taut__algorithm_codec_s(via, link->ranks, w), bytes * taut__copy_seconds(line->beta),
                        bytes * line->beta, hops * line->alpha, slices(link, via, w)};
}

void taut__load_add(taut__load *sum, const taut__load *l)
{
    sum->codec += l->codec;
    sum->copy += l->copy;
    sum->wire += l->wire;
    sum->latency = fmax(sum->latency, l->latency);
    sum->slices += l->slices;
}

double taut__load_seconds(const taut__load *l)
{
    return l->latency + fmax(l->codec + l->copy, l->wire) + (l->slices > 0 ? fmin(l->codec, l->wire) / l->slices : 0);
}

double taut__algorithm_seconds(const taut__link *link, taut__algorithm_id via, const taut__work *w)
{
    taut__load l = taut__algorithm_load(link, via, w);
    return taut__load_seconds(&l);
}

uint32_t taut__vias(const taut__link *link, const taut__work *w)
{
    uint32_t sra = 1u << TAUT_VIA_SRA, vias = w->vias;
    if (!(link->line[TAUT_VIA_FIELDS].beta > 0)) vias &= ~(1u << TAUT_VIA_FIELDS);
    return link->ranks == 2 && vias & sra ? (vias & ~sra) | 1u << TAUT_VIA_GATHER : vias;
}

taut__algorithm_id taut__algorithm_best(const taut__link *link, const taut__work *w, double *seconds)
{
    taut__algorithm_id best = TAUT_VIA_NATIVE;
    uint32_t           vias = taut__vias(link, w);
    *seconds = INFINITY;
    for (int v = 0; v < TAUT_VIAS; v++) {
        double s = (vias >> v & 1) ? taut__algorithm_seconds(link, (taut__algorithm_id)v, w) : INFINITY;
        if (s < *seconds) {
            *seconds = s;
            best = (taut__algorithm_id)v;
        }
    }
    return best;
}

taut__link taut__link_simple(int ranks, double bits_per_second, double latency_s)
{
    enum { SLICE = 1 << 18 }; /* a quarter of slice_kib's default */
    taut__link link = {.ranks = ranks, .slice_bytes = SLICE};
    for (int v = 0; v < TAUT_VIA_FIELDS; v++) link.line[v] = (taut__line){latency_s, 8 / bits_per_second};
    return link;
}

void taut__fit_add(taut__fit *fit, double hops, double bytes, double seconds, double forget)
{
    fit->hh = fit->hh * forget + hops * hops;
    fit->hb = fit->hb * forget + hops * bytes;
    fit->bb = fit->bb * forget + bytes * bytes;
    fit->hs = fit->hs * forget + hops * seconds;
    fit->bs = fit->bs * forget + bytes * seconds;
}

/* Two unknowns need observations of different shape: where all lie on one line through the origin, alpha stays the
 * prior's and beta takes the rest. Neither is ever negative. */
taut__line taut__fit_line(const taut__fit *fit, taut__line prior)
{
    double     det = fit->hh * fit->bb - fit->hb * fit->hb;
    taut__line line = prior;
    if (fit->bb <= 0) return prior;
    if (det > 1e-6 * fit->hh * fit->bb) {
        line.alpha = (fit->hs * fit->bb - fit->bs * fit->hb) / det;
        line.beta = (fit->bs * fit->hh - fit->hs * fit->hb) / det;
    } else {
        line.beta = (fit->bs - prior.alpha * fit->hb) / fit->bb;
    }
    if (line.alpha < 0) {
        line.alpha = 0;
        line.beta = fit->bs / fit->bb;
    }
    if (line.beta <= 0) {
        line.beta = prior.beta;
        line.alpha = fit->hh > 0 ? fmax((fit->hs - prior.beta * fit->hb) / fit->hh, 0) : prior.alpha;
    }
    return line;
}
