/* gauge_mpi.c : what gradients would have gained where a program summed constants, as microbenchmarks of networks do. Such sums stay
 * as they are; at the end, ranks sum made-up gradients of the same sizes with and without Taut, for a second or two. */
#include "channel.h"
#include "../taut_mpi.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 64, WARM = 3, TIMED = 3, LARGEST = 64 << 20 };
static const double SPEND_S = 2, SHARE = 0.03; /* at most so long, or this share of the run */

/* Normal values (sums of six uniform ones) whose scale differs by a factor of 16 between runs of 64: rows and blocks of gradients differ like that. */
static void make_gradient(float *x, size_t n, int rank)
{
    taut__rng shared = taut__rng_of(1, 0), own = taut__rng_of(2 + (uint64_t)rank, 0), block = taut__rng_of(0, 0);
    for (size_t i = 0; i < n; i++) {
        double   v = 0;
        uint32_t at = (uint32_t)i * 2;
        for (uint32_t k = 0; k < 2; k++) {
            uint32_t a = taut__random32(shared, at + k), b = taut__random32(own, at + k);
            v += (double)(a >> 16) + (double)(a & 65535) + (double)(b >> 16) + (double)(b & 65535) - 131070.0;
        }
        x[i] = (float)(v / 65536.0 * exp2((double)(taut__random32(block, (uint32_t)(i / 64)) & 7) / 2.0 - 6.0));
    }
}

/* The distinct sizes of constant sums on MPI_COMM_WORLD, smallest first; all ranks have the same list, or none. */
static size_t sizes_of(taut__channel *c, taut__site *site[MOST])
{
    size_t   n = 0;
    uint64_t word = 1;
    for (size_t i = 0; i < c->sites; i++) {
        taut__site *s = c->site[i];
        bool new = s->like.looks >= TAUT_LOOKS && s->coded_calls == 0 && s->elem_bytes == 4 && s->plain_timed > 0 &&
                   n < MOST && (s->kind == TAUT_KIND_ALLREDUCE || s->kind == TAUT_KIND_IALLREDUCE) &&
                   taut__site_bytes(s) <= LARGEST;
        for (size_t k = 0; k < n && new; k++) new = site[k]->count != s->count;
        size_t at = n;
        if (!new) continue;
        for (; at > 0 && site[at - 1]->count > s->count; at--) site[at] = site[at - 1];
        site[at] = s, n++;
    }
    for (size_t k = 0; k < n; k++) word = taut__seed(word, site[k]->count);
    return taut__all_say(c, n > 0, word | 1) ? n : 0;
}

/* Rank 0 says which of them there is time for: the largest, then every fourth size below, then those between. */
static void choose(taut__channel *c, taut__site *const *site, size_t n, unsigned char *chosen)
{
    double left = fmax(SPEND_S, SHARE * (taut__now() - taut__preload.begun_s));
    memset(chosen, 0, n);
    for (size_t step = 4; step > 0; step /= 2)
        for (size_t i = n; i-- > 0;) {
            double takes = 0.1 + (WARM + 2 * TIMED) * site[i]->plain_s / (double)site[i]->plain_timed;
            bool   constant = taut__likeness_judge(&site[i]->like, site[i]->calls) == TAUT_DOUBT_CONSTANT;
            if (!constant || chosen[i] || (n - 1 - i) % step || takes > left) continue;
            chosen[i] = 1, left -= takes;
        }
    taut__real_mpi.Bcast(chosen, (int)n, MPI_UNSIGNED_CHAR, 0, c->control);
}

/* Seconds of a coded and of a plain sum of n floats in x; the caller has agreed on them. False: no Taut here. */
static bool gauge(taut__channel *c, float *x, float *y, size_t n, double seconds[2])
{
    taut_config cfg = TAUT_CONFIG_INIT;
    taut_comm  *comm = NULL;
    taut_layer *layer;
    size_t      cols = 1;
    while (cols < 1024 && n % (cols * 2) == 0) cols *= 2;
    cfg.timeout_ms = -1;
    seconds[0] = seconds[1] = 0;
    bool ok = taut_comm_create_mpi(c->control, &cfg, &comm) == TAUT_OK &&
              taut_layer_register(comm, "gauge", TAUT_F32, 2, (size_t[]){n / cols, cols}, &layer) == TAUT_OK;
    for (int k = 0; ok && k < WARM + TIMED; k++)
        for (int plain = 0; plain < 1 + (k >= WARM); plain++) {
            memcpy(y, x, n * sizeof *y);
            taut__all_say(c, true, 1);
            double begin = taut__now();
            if (plain)
                ok &= taut__real_mpi.Allreduce(MPI_IN_PLACE, y, (int)n, MPI_FLOAT, MPI_SUM, c->control) == MPI_SUCCESS;
            else ok = taut_allreduce(layer, y, TAUT_SUM) == TAUT_OK && taut_step_end(comm) == TAUT_OK;
            if (k >= WARM) seconds[plain] += (taut__now() - begin) / TIMED;
        }
    taut_comm_destroy(comm);
    return ok;
}

/* would_ms of all constant sites: measured at their size, or in proportion to the nearest measured one. */
static void spread(taut__channel *c, taut__site *const *site, size_t n, const double *ratio)
{
    for (size_t i = 0; i < c->sites; i++) {
        taut__site *s = c->site[i];
        double      best = 0, nearest = INFINITY;
        if (s->plain_timed == 0 || taut__likeness_judge(&s->like, s->calls) != TAUT_DOUBT_CONSTANT) continue;
        for (size_t k = 0; k < n; k++) {
            double apart = fabs(log2((double)s->count / (double)site[k]->count));
            if (ratio[k] > 0 && apart < nearest) nearest = apart, best = ratio[k];
        }
        if (best == 0) continue;
        s->would_ms = 1e3 * best * s->plain_s / (double)s->plain_timed;
        s->would_guessed = nearest > 0;
    }
}

void taut__gauge_constants(void)
{
    taut__channel *c = taut__channel_of(MPI_COMM_WORLD);
    taut__site    *site[MOST];
    unsigned char  chosen[MOST];
    double         ratio[MOST] = {0}, seconds[2];
    const char    *path = taut__preload.option.report;
    if (!c || !c->has_control) return;
    c->said = c->digest; /* the program's calls are over */
    bool   wanted = !(path && strcmp(path, "-") == 0) && !taut__preload.option.off && !c->failed;
    size_t n = taut__all_say(c, wanted, 1) ? sizes_of(c, site) : 0;
    if (n == 0) return;
    choose(c, site, n, chosen);
    for (size_t k = 0; k < n; k++) {
        if (!chosen[k]) continue;
        float *x = malloc(2 * site[k]->count * sizeof *x);
        if (taut__all_say(c, x != NULL, 1) && x) {
            make_gradient(x, site[k]->count, c->rank);
            if (gauge(c, x, x + site[k]->count, site[k]->count, seconds) && seconds[1] > 0)
                ratio[k] = seconds[0] / seconds[1];
        }
        free(x);
    }
    spread(c, site, n, ratio);
}
