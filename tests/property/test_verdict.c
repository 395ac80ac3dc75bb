/* test_verdict.c : thousands of jobs with steps of every rhythm, simulated: ranks that compute for times that differ by step and
 * rank, layers summed one after the other on one link, while computing or after it, and links whose times scatter. No plan that
 * makes communication faster is withdrawn, and each that makes it slower is, within 20 steps. The clocks are made up. */
#include "scheduler/step_time.h"
#include "scheduler/verdict.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { RANKS = 4, LAYERS = 16, JOBS = 3000, DENSE_STEPS = 3, STEPS = 400 };

static uint64_t state; /* of the random numbers */
static double   uniform(void) { return (double)(taut__mix64(++state) >> 11) * 0x1p-53; }
static double   between(double a, double b) { return a + (b - a) * uniform(); }
static double   normal(void) { return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform()); }
static int      pick(int n) { return (int)(uniform() * n); }

enum { EVEN, ALTERNATE, JUMP, DRIFT, GROW, EVALUATE, STRAGGLER, RANDOM, RANDOM_RANKS, STALL, RHYTHMS };

typedef struct job {
    int    rhythm[2];     /* two at a time */
    double compute, more; /* seconds; what the rhythm adds at most */
    int    ranks, layers, period;
    bool   overlapped;            /* layers are started while computing goes on */
    double service[LAYERS], gain; /* seconds of a layer, uncompressed; times faster under the plan */
    double noise, outliers;       /* deviation of log(service), and how often a step's are 2 to 6 times as long */
    double slow_start;            /* the first steps' communication, times as long */
    int    skip;                  /* every so many steps only half of the layers are summed; 0: never */
    double predicted[2];
} job;

static double added(const job *j, int rhythm, int step, int rank)
{
    switch (rhythm) {
    case ALTERNATE: return step % j->period == 0 ? j->more : 0;
    case JUMP: return step >= 60 ? j->more : 0;
    case DRIFT: return j->more * (0.5 + 0.5 * sin(step / 37.0));
    case GROW: return j->more * step / STEPS;
    case EVALUATE: return step % 10 == 9 ? 5 * j->more : 0;
    case STRAGGLER: return step % j->ranks == rank ? j->more : 0;
    case RANDOM: {
        state = (uint64_t)step * 7919 + 13; /* all ranks alike */
        return 2 * j->compute * uniform();
    }
    case RANDOM_RANKS: return 2 * j->compute * uniform();
    case STALL: return uniform() < 0.1 ? 3 * j->more : 0;
    default: return 0;
    }
}

static double computing(const job *j, int step, int rank)
{
    uint64_t keep = state;
    double   s = j->compute;
    for (int i = 0; i < 2; i++) {
        s += added(j, j->rhythm[i], step, rank);
        if (j->rhythm[i] == RANDOM) state = keep + 1;
    }
    return s;
}

static double service(const job *j, int layer, int step, bool coded)
{
    double s = j->service[layer] / (coded ? j->gain : 1) * exp(j->noise * normal());
    return step < DENSE_STEPS ? s * j->slow_start : s;
}

/* One step: what every rank's clock says, and from that the seconds that all ranks agree on. */
static double run_step(const job *j, int step, bool coded, int layers)
{
    double           now[RANKS], compute[RANKS], begin[RANKS][LAYERS], end[LAYERS], free = 0, sum = 0;
    double           late = uniform() < j->outliers ? between(2, 6) : 1;
    taut__collective c[LAYERS];
    for (int r = 0; r < j->ranks; r++) {
        compute[r] = computing(j, step, r);
        now[r] = j->overlapped ? 0 : compute[r];
    }
    for (int l = 0; l < layers; l++) {
        double all = 0;
        for (int r = 0; r < j->ranks; r++) {
            if (j->overlapped) now[r] += compute[r] / layers;
            begin[r][l] = now[r];
            all = fmax(all, now[r]);
        }
        end[l] = free = fmax(all, free) + late * service(j, l, step, coded);
        for (int r = 0; r < j->ranks && !j->overlapped; r++) now[r] = end[l];
    }
    for (int r = 0; r < j->ranks; r++) {
        double skew = r * 17.0; /* clocks of different hosts */
        for (int l = 0; l < layers; l++) {
            double least = INFINITY;
            for (int q = 0; q < j->ranks; q++) least = fmin(least, end[l] - begin[q][l]);
            c[l] = (taut__collective){end[l] + skew, least};
        }
        sum += taut__shared_seconds(c, (size_t)layers);
    }
    return sum / j->ranks;
}

typedef struct outcome {
    int      compressed, last_dense; /* steps after the plan; counted from the plan */
    bool     in_force;               /* the plan, at the end */
    uint64_t withdrawals, trials;
} outcome;

static outcome run(const job *j, int steps)
{
    taut__verdict   v;
    taut__arm_offer offer[TAUT_ARMS] = {{true, j->predicted[0], 1}, {true, j->predicted[1], 2}};
    outcome         o = {0};
    int             arm = 0, before = -1;
    double          seconds = 0;
    uint64_t        shape = 0;
    taut__verdict_init(&v);
    for (int step = 0; step < DENSE_STEPS + steps; step++) {
        int    layers = j->skip && step % j->skip == 0 ? (j->layers + 1) / 2 : j->layers;
        double took = run_step(j, step, arm != 0, layers);
        int    next = before < 0 ? 0 : taut__verdict_step(&v, before, shape, before == 0 && step == 1 ? 0 : seconds);
        before = arm, seconds = took, shape = (uint64_t)layers; /* told one step later */
        if (step == DENSE_STEPS - 1) {
            taut__verdict_offer(&v, offer);
            next = v.in_force;
        }
        if (step >= DENSE_STEPS && arm != 0) o.compressed++;
        if (step >= DENSE_STEPS && arm == 0) o.last_dense = step - DENSE_STEPS;
        arm = step < DENSE_STEPS - 1 ? 0 : next;
    }
    o.in_force = v.in_force == 1;
    o.withdrawals = v.withdrawals;
    o.trials = v.trials;
    return o;
}

static job random_job(uint64_t number, double gain)
{
    job    j;
    double total = 0;
    state = taut__mix64(number * 2654435761u);
    j = (job){.rhythm = {pick(RHYTHMS), pick(RHYTHMS)},
              .compute = between(1e-3, 0.1),
              .ranks = 2 + pick(RANKS - 1),
              .layers = 1 + pick(LAYERS),
              .period = 2 + pick(3),
              .overlapped = pick(2),
              .gain = gain,
              .noise = between(0.02, 0.2),
              .outliers = between(0, 0.03),
              .slow_start = between(1, 3),
              .skip = pick(3) ? 0 : 2 + pick(6)};
    j.more = j.compute * between(0.5, 6);
    for (int l = 0; l < j.layers; l++) total += j.service[l] = between(0.1, 1) * j.compute / j.layers;
    j.predicted[0] = total * between(0.7, 1.4);
    j.predicted[1] = fmin(total / gain * between(0.75, 1.4), j.predicted[0] / 1.1); /* or there would be no plan */
    return j;
}

static void describe(const char *what, int number, const job *j, const outcome *o)
{
    printf("%s %d: rhythms %d %d, %d ranks, %d layers, %s, gain %.2f, noise %.2f, outliers %.2f: %d of %d compressed, "
           "%d withdrawals, %d trials, last dense %d\n",
           what, number, j->rhythm[0], j->rhythm[1], j->ranks, j->layers, j->overlapped ? "overlapped" : "blocking",
           j->gain, j->noise, j->outliers, o->compressed, STEPS, (int)o->withdrawals, (int)o->trials, o->last_dense);
}

START_TEST(no_good_plan_is_withdrawn)
{
    int wrong = 0;
    for (int i = 0; i < JOBS; i++) {
        job     j = random_job((uint64_t)i, 2 + 6 * (i % 7) / 7.0);
        outcome o = run(&j, STEPS);
        bool    good = o.withdrawals == 0 && o.compressed >= 0.95 * (STEPS + DENSE_STEPS);
        if (!good) describe("good", i, &j, &o);
        wrong += !good;
    }
    ck_assert_int_eq(wrong, 0);
}
END_TEST

START_TEST(bad_plans_are_withdrawn_within_20_steps)
{
    int late = 0; /* two late uncompressed steps in a row, say */
    for (int i = 0; i < JOBS; i++) {
        job     j = random_job((uint64_t)i + 100000, 1 / (1.4 + 2 * (i % 11) / 11.0));
        outcome o = run(&j, 20);
        if (!o.in_force) continue;
        describe("bad", i, &j, &o);
        late++;
        j = random_job((uint64_t)i + 100000, j.gain);
        o = run(&j, 200);
        ck_assert(!o.in_force); /* then the next trial finds it */
    }
    ck_assert_int_le(late, JOBS / 1000);
}
END_TEST

/* Uncompressed although the plan is twice as fast: how it came so does not matter. */
START_TEST(a_wrong_withdrawal_recovers_in_tens_of_steps)
{
    for (int i = 0; i < 500; i++) {
        job             j = random_job((uint64_t)i + 300000, 2);
        taut__verdict   v;
        taut__arm_offer offer[TAUT_ARMS] = {{true, j.predicted[0], 1}, {true, j.predicted[1], 2}};
        int             arm = 0, step = 0;
        taut__verdict_init(&v);
        taut__verdict_offer(&v, offer);
        v.in_force = 0;
        v.arm[1].fresh = false;
        v.arm[1].lost = 1, v.arm[1].tried = v.arm[0].tried = true;
        v.arm[1].rests_until = 24;
        for (; step < 200 && v.in_force == 0; step++)
            arm = taut__verdict_step(&v, arm, 1, run_step(&j, DENSE_STEPS + step, arm != 0, j.layers));
        ck_assert_msg(step <= 60, "job %d: %d steps", i, step);
    }
}
END_TEST

START_TEST(no_trial_where_the_gain_is_beyond_doubt)
{
    for (int i = 0; i < 200; i++) {
        job j = random_job((uint64_t)i + 400000, 5);
        j.outliers = 0;
        j.slow_start = 1;
        j.predicted[1] = j.predicted[0] / 5;
        outcome o = run(&j, STEPS);
        ck_assert_int_eq((int)o.trials, 0);
        ck_assert_int_eq(o.compressed, STEPS);
    }
}
END_TEST

/* Four ways, whose predictions err by up to a third: the fastest ends up in force, or one that is nearly as fast. */
START_TEST(finds_the_fastest_plan)
{
    int wrong = 0;
    for (int i = 0; i < 500; i++) {
        job    j = random_job((uint64_t)i + 500000, 1);
        double dense = j.predicted[0],
               speed[TAUT_ARMS] = {1, 1 / between(0.5, 4), 1 / between(0.5, 4), 1 / between(0.5, 4)}, least = 1;
        taut__arm_offer offer[TAUT_ARMS];
        taut__verdict   v;
        int             arm = 0;
        j.outliers = 0, j.noise = 0.05;
        for (int k = 0; k < TAUT_ARMS; k++) {
            offer[k] = (taut__arm_offer){true, dense * speed[k] * between(0.85, 1.15), (uint64_t)k + 1};
            least = fmin(least, speed[k]);
        }
        taut__verdict_init(&v);
        taut__verdict_offer(&v, offer);
        for (int step = 0; step < 150; step++)
            arm = taut__verdict_step(&v, arm, 1, speed[arm] * run_step(&j, DENSE_STEPS + step, false, j.layers));
        if (speed[v.in_force] > 1.2 * least) wrong++;
    }
    ck_assert_int_eq(wrong, 0);
}
END_TEST

/* Steps that sum one of a dozen sets of layers in turn, or soon another set each time: few pairs, or none. A trial ends all the same, and
 * most steps go the faster way, which is the plan's, or not. */
START_TEST(many_sets_of_layers)
{
    for (int kind = 0; kind < 4; kind++) {
        taut__arm_offer offer[TAUT_ARMS] = {{true, 1, 1}, {true, 0.9, 2}};
        double          plan = kind % 2 ? 2 : 0.5;
        taut__verdict   v;
        int             arm = 1, faster = 0;
        taut__verdict_init(&v);
        taut__verdict_offer(&v, offer);
        for (int step = 0; step < 2000; step++) {
            uint64_t set = (uint64_t)(kind < 2 ? step % 12 : step < 8 ? 0 : step);
            faster += (arm != TAUT_ARM_DENSE) == (plan < 1);
            arm = taut__verdict_step(&v, arm, 1 + set, (double)(set * 7 % 12 + 3) * (arm ? plan : 1));
        }
        ck_assert_msg(faster > 1600, "%d of 2000 steps the faster way, of sets as in %d", faster, kind);
    }
}
END_TEST

/* A plan that is offered in the middle of another one's trial: what that one took says nothing of it. */
START_TEST(another_plan_is_looked_at_anew)
{
    taut__arm_offer offer[TAUT_ARMS] = {{true, 1, 1}, {true, 0.9, 2}},
                    better[TAUT_ARMS] = {{true, 1, 1}, {true, 0.3, 3}};
    taut__verdict v;
    int           arm, dense = 0;
    taut__verdict_init(&v);
    taut__verdict_offer(&v, offer);
    arm = v.in_force;
    for (int step = 0; step < 40 && v.trial.pairs < 6; step++)
        arm = taut__verdict_step(&v, arm, 1, arm == TAUT_ARM_DENSE ? 1 : 1.12);
    ck_assert_uint_eq(v.trial.pairs, 6);
    taut__verdict_offer(&v, better);
    for (int step = 0; step < 40; step++) {
        dense += arm == TAUT_ARM_DENSE;
        arm = taut__verdict_step(&v, arm, 1, arm == TAUT_ARM_DENSE ? 1 : 0.3);
    }
    ck_assert_msg(v.in_force == 1 && dense <= 4, "%d steps uncompressed, %d in force", dense, v.in_force);
}
END_TEST

/* Two ways within a fifth of each other, times that scatter, and processes that share processors: for some steps on end everything takes
 * up to twice as long. What was used, over what the faster one would have taken. */
START_TEST(close_races_cost_little)
{
    enum { RACES = 1000 };
    double sum = 0, wrong = 0;
    for (int i = 0; i < RACES; i++) {
        job    j = random_job((uint64_t)i + 600000, 1);
        double speed[2] = {1, between(0.8, 1.25)}, least = fmin(speed[0], speed[1]), used = 0, slow = between(1, 2);
        taut__arm_offer offer[TAUT_ARMS] = {{true, 1, 1}, {true, speed[1] * between(0.55, 1.2), 2}};
        taut__verdict   v;
        int             arm = 0;
        bool            mode = false;
        offer[1].predicted = fmin(offer[1].predicted, 0.9); /* or there would be no plan */
        taut__verdict_init(&v);
        taut__verdict_offer(&v, offer);
        arm = v.in_force;
        for (int step = 0; step < STEPS; step++) {
            if (uniform() < 0.15) mode = !mode;
            used += speed[arm];
            arm = taut__verdict_step(&v, arm, 1, speed[arm] * (mode ? slow : 1) * exp(j.noise * normal()));
        }
        sum += used / STEPS / least;
        wrong += speed[v.in_force] > 1.08 * least;
    }
    printf("close races: %.3f times the faster one's time; in %.1f%% the slower one, by more than 8%%, is in force in "
           "the end\n",
           sum / RACES, 100 * wrong / RACES);
    ck_assert_double_le(sum / RACES, 1.02);
    ck_assert_double_le(wrong / RACES, 0.03);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("verdict");
    TCase *t = suite_case(s, "verdict", 120);
    tcase_add_test(t, no_good_plan_is_withdrawn);
    tcase_add_test(t, bad_plans_are_withdrawn_within_20_steps);
    tcase_add_test(t, a_wrong_withdrawal_recovers_in_tens_of_steps);
    tcase_add_test(t, no_trial_where_the_gain_is_beyond_doubt);
    tcase_add_test(t, finds_the_fastest_plan);
    tcase_add_test(t, many_sets_of_layers);
    tcase_add_test(t, another_plan_is_looked_at_anew);
    tcase_add_test(t, close_races_cost_little);
    return suite_run(s);
}
