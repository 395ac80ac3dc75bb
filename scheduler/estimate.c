/* estimate.c : see estimate.h. */
#include "estimate.h"
#include <math.h>

static const double DRIFT = 0.009; /* of the ratio from step to step, as a share of it */
static const double FORGET = 0.95; /* of what is known about the spread over blocks, per step */
static const double PRIOR_BLOCK = 2,
                    PRIOR_WEIGHT = 1; /* a spread of blocks before any was seen, and the blocks that it counts as */
static const double UNSURE = 10;      /* blocks: a spread learnt from so many may be twice as large */
static const double LITTLE =
    0.05;            /* of the control, as blocks have it on average, below which a sample does not tell the ratio */
enum { ENOUGH = 4 }; /* blocks to fit a ratio to */
static const double CALM = 0.1, RESTLESS_MOST = 5; /* the drift is taken as larger where surprises are */
static const double
    LEAN = 0.15,
    LEAN_MOST =
        0.8; /* 2.8 deviations, sqrt(LEAN / (2 - LEAN)) each, of the mean of surprises that have no memory: a false alarm in some 700 steps */
static const double SURPRISE = 12; /* squared deviations, in variances, beyond which the ratio has jumped */

void taut__ratio_reset(taut__ratio *r, double guess, double most)
{
    *r = (taut__ratio){
        .mean = guess, .most = most, .var = most * most, .block = PRIOR_BLOCK, .weight = PRIOR_WEIGHT, .restless = 1};
}

void taut__ratio_within(taut__ratio *r, double low, double high)
{
    double width = high - low, most = width * width / 12;
    if (r->steps == 0 && r->var > most) {
        r->mean = low + width / 2;
        r->block = fmin(r->block, PRIOR_BLOCK * width * width / 4);
        r->steps = 1; /* better known than from one sample */
    }
    /* a sample that is at odds with what must be knows nothing else either */
    if (r->mean < low || r->mean > high) r->var = most;
    r->mean = fmin(fmax(r->mean, low), high);
    r->var = fmin(r->var, most);
}

typedef struct moments {
    double n, t, c, d, d2; /* d = t - rho c */
} moments;

static moments moments_of(const taut__blocks *b, double rho)
{
    moments m = {0};
    for (size_t i = 0; i < b->n; i++) {
        double d = b->t[i] - rho * b->c[i];
        if (!isfinite(d)) continue;
        m.n++;
        m.t += b->t[i];
        m.c += b->c[i];
        m.d += d;
        m.d2 += d * d;
    }
    return m;
}

/* Without a control, or one that tells nothing: the sample alone. */
static taut__measured_sum expand(const taut__blocks *b, const moments *m)
{
    double mean = m->t / m->n, spread = 0;
    for (size_t i = 0; i < b->n; i++)
        if (isfinite(b->t[i])) spread += (b->t[i] - mean) * (b->t[i] - mean);
    spread = m->n > 1 ? spread / (m->n - 1) : 2 * mean * mean;
    return (taut__measured_sum){fmax(b->all * mean, 0), b->all * b->all * spread / m->n};
}

/* The spread over blocks, in units of the ratio, of this sample and earlier ones. */
static void learn_spread(taut__ratio *r, const moments *m, double unit, bool fitted)
{
    double mean = m->d / m->n, now = m->d2 * unit * unit, free = m->n, weight = FORGET * r->weight;
    if (m->n >= 8)
        now = (m->d2 - m->n * mean * mean) * unit *
              unit;                           /* fewer: around the ratio, which is known better than their mean */
    if (m->n >= 8 || fitted) free = m->n - 1; /* one that was fitted to them tells that much less */
    r->block = (weight * r->block + now) / (weight + free);
    r->weight = weight + free;
}

/* What is unknown about a ratio whose surprises lean to one side; 0: they do not. `expected`: their variance. */
static double leaned(taut__ratio *r, double delta, double expected)
{
    double z = expected > 0 ? delta / sqrt(expected) : 0, lean;
    r->lean += LEAN * (fmin(fmax(z, -sqrt(SURPRISE)), sqrt(SURPRISE)) - r->lean);
    if (fabs(r->lean) < LEAN_MOST) return 0;
    lean = r->lean;
    r->lean *= 0.5;                    /* what follows has to show it again */
    return 2 * lean * lean * expected; /* the mean lags behind */
}

taut__measured_sum taut__ratio_step(taut__ratio *r, const taut__blocks *b)
{
    bool    fitted = false;
    double  around = r->mean, unit = b->control > 0 ? b->all / b->control : 0, delta, noise, prior, gain, drift;
    moments m = moments_of(b, around);
    if (m.n == 0) return (taut__measured_sum){fmax(r->mean * b->control, 0), r->var * b->control * b->control};
    if (!(b->control > 0)) return expand(b, &m);
    drift = DRIFT * r->mean * fmin(fmax(r->restless, 1), RESTLESS_MOST);
    if (unit * fmax(m.c, m.t) < LITTLE * m.n) { /* nearly all of it lies elsewhere: these agree with any ratio */
        r->var = fmin(r->var + drift * drift, r->most * r->most);
        return (taut__measured_sum){r->mean * b->control, r->var * b->control * b->control};
    }
    delta = unit * m.d / m.n;
    noise = r->block / m.n;
    prior = r->var + drift * drift;
    if (r->steps > 0) r->restless += CALM * (fmin(delta * delta / (prior + noise), SURPRISE) - r->restless);
    if (r->steps > 0) prior = fmax(prior, leaned(r, delta, prior + noise));
    fitted = m.c > 0 && (r->steps == 0 || (m.n >= ENOUGH && delta * delta > SURPRISE * (prior + noise)));
    if (fitted) r->lean = 0;
    if (fitted) {           /* unknown, or it has jumped */
        around = m.t / m.c; /* differences from a wrong ratio would be as noisy as the control */
        m = moments_of(b, around);
        delta = around - r->mean + unit * m.d / m.n;
        prior = fmax(delta * delta, r->var);
    } else if (delta * delta > SURPRISE * (prior + noise)) {
        prior = delta * delta;
    }
    learn_spread(r, &m, unit, fitted);
    noise = r->block * (1 + UNSURE / r->weight) / m.n * fmax(1 - m.n / b->all, 0);
    gain = prior + noise > 0 ? prior / (prior + noise) : 1;
    r->mean = fmin(fmax(r->mean + gain * delta, 0), r->most);
    r->var = gain * noise;
    r->steps++;
    return (taut__measured_sum){r->mean * b->control, r->var * b->control * b->control};
}

taut__interval taut__relative(taut__measured_sum error, taut__measured_sum norm)
{
    if (!(norm.value > 0)) return (taut__interval){0, 0, 0};
    double value = error.value / norm.value, share = norm.var / (norm.value * norm.value);
    double half = TAUT_SIGMAS * sqrt(error.var / (norm.value * norm.value) + value * value * share);
    return (taut__interval){value, fmax(value - half, 0), value + half};
}
