/* verdict.c : see verdict.h. */
#include "verdict.h"
#include <math.h>
#include <string.h>

/* How many times faster than another arm leaves no doubt. Measured uncompressed steps may be the first ones of a run, which are slow
 * for many reasons, so the prediction has to agree; predictions alone are off by less than UNSEEN. */
static const double SEEN = 2, SEEN_PREDICTED = 2, UNSEEN = 3;
static const double PLANS = 1.5; /* between plans: predictions of codecs err by about as much */
static const double CHANGED =
    2; /* of the arm in force, twice in a row: what was known about the others is not any more */

/* Of the test. A pair's x = (a - b) / (a + b) lies in (-1, 1), so that no single step decides; it is about half the logarithm of
 * a / b. Its variance is taken as if PRIOR pairs with a deviation of SIGMA had been seen before: in the practice cluster single
 * steps deviate by 5 to 20%. */
enum {
    TO_CONFIRM = 2,
    TO_DECIDE = 3,
    PRIOR = 2
}; /* pairs at least: to say what the prediction says, and anything else */
static const double SIGMA = 0.125;
static const double CLEAR = 3; /* standard errors */
/* Where it is not clear after ENOUGH pairs, the median x decides, unless that is CLOSE to 0, which is within 15%: then looking on costs
 * little, and TAUT_PAIRS are taken. What is not faster by 4% changes nothing. */
enum { ENOUGH = 7 };
static const double CLOSE = 0.07, AT_LAST = -0.02;

enum {
    FRESH_STEPS = 200, /* samples say something about now */
    LONGEST = 100,     /* steps of a trial; 15 pairs take 30 where all steps sum the same */
    REST = 24,         /* steps from a withdrawal to the next trial */
    REST_DENSE = 64,   /* from a trial that the plan has won to the next one */
    REST_DOUBLINGS = 6,
};
static const double REST_PER_LOSS = 150; /* steps per time that a step of the loser takes longer: 3 of them cost 2% */

void taut__verdict_init(taut__verdict *v)
{
    *v = (taut__verdict){.trial.arm = -1};
    v->arm[TAUT_ARM_DENSE].offer.offered = true;
}

/* ---- samples ---- */

static taut__samples *samples_of(taut__arm *a, uint64_t shape)
{
    taut__samples *oldest = &a->samples[0];
    for (int i = 0; i < TAUT_SHAPES; i++) {
        if (a->samples[i].shape == shape && a->samples[i].n > 0) return &a->samples[i];
        if (a->samples[i].at < oldest->at) oldest = &a->samples[i];
    }
    *oldest = (taut__samples){.shape = shape};
    return oldest;
}

/* The same to look at: nothing is forgotten for it. */
static const taut__samples *known_of(const taut__arm *a, uint64_t shape)
{
    static const taut__samples none;
    for (int i = 0; i < TAUT_SHAPES; i++)
        if (a->samples[i].shape == shape && a->samples[i].n > 0) return &a->samples[i];
    return &none;
}

/* The lower one of two in the middle, because what is late is later than what is early is early; 0 if there is none. */
static double median(const double *of, uint32_t n)
{
    double v[TAUT_PAIRS];
    if (n == 0) return 0;
    memcpy(v, of, n * sizeof *v);
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = i; k > 0 && v[k] < v[k - 1]; k--) {
            double t = v[k];
            v[k] = v[k - 1], v[k - 1] = t;
        }
    return v[(n - 1) / 2];
}

static double typical(const taut__samples *s) { return median(s->seconds, s->n < TAUT_RECENT ? s->n : TAUT_RECENT); }

/* Of the last three: near the step that it is compared with, and no late one. */
static double lately(const taut__samples *s)
{
    double   v[3] = {0};
    uint32_t n = s->n < 3 ? s->n : 3;
    for (uint32_t i = 0; i < n; i++) v[i] = s->seconds[(s->n - 1 - i) % TAUT_RECENT];
    return median(v, n);
}

/* What is known of the others rests on a network that has changed. */
static void doubt_all(taut__verdict *v)
{
    for (int i = 0; i < TAUT_ARMS; i++) {
        v->arm[i].tried = false;
        v->arm[i].lost = 0;
        v->arm[i].rests_until = 0;
        if (i != v->in_force) memset(v->arm[i].samples, 0, sizeof v->arm[i].samples);
    }
}

static void watch(taut__verdict *v, taut__samples *s)
{
    double now = typical(s);
    if (s->n % TAUT_RECENT != 0) return;
    bool moved = s->settled > 0 && (now > CHANGED * s->settled || CHANGED * now < s->settled);
    if (moved && ++s->moved < 2) return; /* one burst of late steps is no change */
    if (moved) doubt_all(v);
    s->settled = now;
    s->moved = 0;
}

/* ---- offers ---- */

static int least_predicted(const taut__verdict *v)
{
    int best = TAUT_ARM_DENSE;
    for (int i = 0; i < TAUT_ARMS; i++)
        if (v->arm[i].offer.offered && v->arm[i].offer.predicted < v->arm[best].offer.predicted) best = i;
    return best;
}

void taut__verdict_offer(taut__verdict *v, const taut__arm_offer offer[TAUT_ARMS])
{
    bool first = true;
    for (int i = 1; i < TAUT_ARMS; i++) first &= !v->arm[i].offer.offered;
    for (int i = 0; i < TAUT_ARMS; i++) {
        taut__arm *a = &v->arm[i];
        double     was = a->offer.predicted, is = offer[i].predicted;
        bool       same = a->offer.offered && offer[i].offered && is <= 1.1 * was && was <= 1.1 * is;
        a->fresh = i != TAUT_ARM_DENSE && (a->fresh || !a->offer.offered || a->offer.plan != offer[i].plan);
        if (!same && i != TAUT_ARM_DENSE) {
            memset(a->samples, 0, sizeof a->samples);
            if (v->trial.arm >= 0 && (v->trial.arm == i || v->in_force == i))
                v->trial = (taut__trial){.arm = v->trial.arm, .began = v->steps};
        }
        a->offer = offer[i];
    }
    if (first || !v->arm[v->in_force].offer.offered) v->in_force = least_predicted(v);
    if (v->trial.arm >= 0 && (!v->arm[v->trial.arm].offer.offered || v->trial.arm == v->in_force)) v->trial.arm = -1;
}

/* ---- doubt ---- */

/* Seconds of arm i over those of the arm in force, as far as is known; 0: no doubt that it is slower. */
static double doubtful(const taut__verdict *v, int i)
{
    const taut__arm     *a = &v->arm[i], *f = &v->arm[v->in_force];
    const taut__samples *s = known_of(a, v->shape);
    double measured = typical(known_of(f, v->shape)), said = a->offer.predicted / f->offer.predicted, limit;
    bool   recent = s->n >= 2 && v->steps - s->at <= FRESH_STEPS;
    if (!a->offer.offered || i == v->in_force || v->steps < a->rests_until || !(measured > 0)) return 0;
    if (recent) {
        double ratio = typical(s) / measured;
        if (ratio < (a->tried ? PLANS : SEEN)) return ratio;
        return i == TAUT_ARM_DENSE && !a->tried && said < SEEN_PREDICTED ? ratio : 0;
    }
    limit = i == TAUT_ARM_DENSE ? UNSEEN : v->in_force == TAUT_ARM_DENSE ? 1 : PLANS;
    return said < limit ? said : 0;
}

/* Uncompressed steps first, where they seem faster; else whatever seems fastest. */
static int whom_to_try(const taut__verdict *v)
{
    int    best = -1;
    double least = INFINITY, dense = doubtful(v, TAUT_ARM_DENSE);
    if (dense > 0 && dense < 1) return TAUT_ARM_DENSE;
    for (int i = 0; i < TAUT_ARMS; i++) {
        double ratio = doubtful(v, i);
        if (ratio <= 0 || ratio >= least) continue;
        least = ratio;
        best = i;
    }
    return best;
}

/* ---- trials ---- */

double taut__trial_ratio(const taut__trial *t)
{
    double x = median(t->x, t->pairs);
    return (1 + x) / (1 - x);
}

static uint64_t rest(const taut__verdict *v, const taut__arm *a, double steps)
{
    uint32_t doublings = a->lost > 0 ? a->lost - 1 : 0;
    return v->steps + ((uint64_t)steps << taut__min(doublings, REST_DOUBLINGS));
}

static void end_trial(taut__verdict *v, bool won)
{
    taut__trial *t = &v->trial;
    int          loser = won ? v->in_force : t->arm;
    double       ratio = won ? 1 / taut__trial_ratio(t) : taut__trial_ratio(t), steps = REST;
    taut__arm   *l = &v->arm[loser];
    if (loser == TAUT_ARM_DENSE || (won ? t->arm : v->in_force) != TAUT_ARM_DENSE) {
        steps = ratio > 1 ? REST_PER_LOSS * (ratio - 1) : 0; /* it costs that much to look at the slower one again */
        if (steps < REST_DENSE) steps = REST_DENSE;
    }
    l->lost++;
    l->rests_until = rest(v, l, steps);
    v->arm[TAUT_ARM_DENSE].tried |= v->in_force == TAUT_ARM_DENSE || t->arm == TAUT_ARM_DENSE;
    v->arm[t->arm].tried = true;
    v->withdrawals += won && t->arm == TAUT_ARM_DENSE;
    if (won) {
        v->in_force = t->arm;
        v->arm[t->arm].lost = 0;
    }
    t->arm = -1;
}

/* The mean of the pairs so far, in standard errors; from four on without the largest and the least. */
static double errors_from_0(const taut__trial *t)
{
    double n = t->pairs, sum = 0, sum2 = 0, most = -1, least = 1, mean;
    for (uint32_t i = 0; i < t->pairs; i++) {
        double x = t->x[i];
        sum += x, sum2 += x * x;
        if (x > most) most = x;
        if (x < least) least = x;
    }
    if (t->pairs > 3) sum -= most + least, sum2 -= most * most + least * least, n -= 2;
    mean = sum / n;
    return mean / sqrt((sum2 - n * mean * mean + PRIOR * SIGMA * SIGMA) / (n - 1 + PRIOR) / n);
}

/* A further pair: is the outcome clear? After the last one the median decides, which few late steps do not move. Two that are about as
 * fast are compared for longer. */
static void judge(taut__verdict *v, double tried, double in_force)
{
    taut__trial *t = &v->trial;
    double       errors;
    t->x[t->pairs++] = (tried - in_force) / (tried + in_force);
    errors = errors_from_0(t);
    bool said = v->arm[t->arm].offer.predicted > PLANS * v->arm[v->in_force].offer.predicted;
    bool plans =
        t->arm != TAUT_ARM_DENSE && v->in_force != TAUT_ARM_DENSE; /* a mistake costs little, and pairs may cost much */
    if (t->pairs >= (said || plans ? TO_CONFIRM : TO_DECIDE) && errors >= CLEAR) end_trial(v, false);
    else if (t->pairs >= TO_DECIDE && errors <= -CLEAR) end_trial(v, true);
    else if (t->pairs == TAUT_PAIRS || (t->pairs >= ENOUGH && fabs(median(t->x, t->pairs)) > CLOSE))
        end_trial(v, median(t->x, t->pairs) <= AT_LAST);
}

/* Where steps hardly ever sum what an earlier one did there are few pairs, or none, and a trial would not end. Since it is drawn which step is
 * whose, the mean step of each tells, though less precisely. */
static void give_up(taut__verdict *v)
{
    const taut__trial *t = &v->trial;
    if (t->steps[0] + t->steps[1] < LONGEST) return;
    if (t->pairs >= ENOUGH) end_trial(v, median(t->x, t->pairs) <= AT_LAST);
    else end_trial(v, PLANS * t->seconds[1] * t->steps[0] < t->seconds[0] * t->steps[1]);
}

static void note(taut__verdict *v, int arm, uint64_t shape, double seconds)
{
    taut__arm     *a = &v->arm[arm];
    taut__samples *s;
    if (!(seconds > 0) || shape == 0) return;
    if (a->fresh) {
        a->fresh = false;
        return;
    }
    s = samples_of(a, shape);
    s->seconds[s->n++ % TAUT_RECENT] = seconds;
    s->at = v->steps;
    v->shape = shape;
    if (arm == v->in_force) watch(v, s);
    if (v->trial.arm < 0) return;
    v->trial.seconds[arm == v->trial.arm] += seconds;
    v->trial.steps[arm == v->trial.arm]++;
    if (v->trial.arm == arm) {
        const taut__samples *other = known_of(&v->arm[v->in_force], shape);
        if (other->n > 0) judge(v, seconds, lately(other));
    }
    if (v->trial.arm >= 0) give_up(v);
}

/* In every pair of steps of a trial one, which is drawn. */
static int turn(const taut__verdict *v)
{
    uint64_t since = v->steps - v->trial.began;
    uint64_t second = taut__mix64(v->trial.began + since / 2) & 1;
    return (since & 1) == second ? v->trial.arm : v->in_force;
}

int taut__verdict_step(taut__verdict *v, int arm, uint64_t shape, double seconds)
{
    v->steps++;
    note(v, arm, shape, seconds);
    if (v->trial.arm < 0) {
        int whom = whom_to_try(v);
        if (whom < 0) return v->in_force;
        v->trial = (taut__trial){.arm = whom, .began = v->steps};
        v->trials++;
    }
    return turn(v);
}
