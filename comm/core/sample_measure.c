/* sample_measure.c : the error and the norm of a layer's sum, from samples of it and of what went in; see sample.h. */
#include "sample_blocks.h"

static const double TINY2 = 1e-66; /* mean square below which bf16, least 1.2e-38, has fewer than its eight bits */
/* Squared errors over squared inputs from which on samples travel as bf16, or in groups. Rounding x of p ranks to it, and their sums in every round, errs
 * by about 2.4e-6 (1 + log2 p) of the inputs' squares where ranks are independent, p times that where they are equal. */
static const double COARSE = 2e-3;
/* ... and in groups of 8 and of 6 bits, whose roundings err by some 2e-5 and 3.5e-4 of them, most of which is taken off again. */
static const double COARSE8 = 0.004, COARSE6 = 0.05;

static double sum_at(const taut_layer *l, size_t i)
{
    const taut__sample *s = &l->sample;
    double              sum = 0;
    for (size_t q = 0; q < encoders(l); q++) sum += s->sums[q * s->blocks * BLOCK + i];
    return sum;
}

/* Squared roundings of all that was added (small_allreduce.h), in those of the last sum. With a share c of the inputs' squares in common, sums of n
 * ranks have squares (1 - c) + n c times those of their inputs. */
static double roundings(const taut_layer *l)
{
    double p = l->comm->ctx.all.size, w = taut__power_below((int)p), folded = (p - w) / p, back = w < p;
    double own = l->shown.own.plain, together = own > 0 ? l->shown.sum.plain / own : 1, c;
    double apart = taut__log2((int)w) + folded + back, common = p / w * (w - 1) + folded + back * p;
    together = fmin(fmax(together, 0.25), p);
    c = fmax((together - 1) / (p - 1), 0);
    return (apart * (1 - c) + common * c) / together;
}

static double grain2(const taut_layer *l, const float *x, size_t at, double unit)
{
    double most = 0, grain;
    for (size_t i = 0; i < BLOCK; i++) most = fmax(most, fabs((double)x[i] * group_gain(l, unit, at + i)));
    grain = (double)taut__step_grain(as_of(l), (float)most);
    return grain * grain;
}

/* The expected square of what rounding added to an element of block k, in units of the group. */
static double rounding2(const taut_layer *l, size_t k, double unit)
{
    const taut__sample *s = &l->sample;
    size_t              x = s->blocks * BLOCK;
    double              sum = 0, times = l->comm->sampling.apart ? 1 : roundings(l);
    if (!in_groups(l)) return 0;
    for (size_t q = 0; q < encoders(l); q++) sum += times * grain2(l, s->sums + q * x + k * BLOCK, s->at[k], unit);
    if (s->scattered) sum += grain2(l, s->result + k * BLOCK, s->at[k], unit) / ((double)s->factor * (double)s->factor);
    return sum / 12;
}

typedef struct block_sums {
    double error, inner, result, sum; /* |e|^2, <result, e>, |result|^2, |sum|^2 */
} block_sums;

static block_sums look(const taut_layer *l, size_t k, bool weighted)
{
    const taut__sample *s = &l->sample;
    block_sums          b = {0};
    double              unit = group_unit(l), rounding = rounding2(l, k, unit);
    for (size_t i = 0; i < BLOCK && s->at[k] + i < l->operand.tensor.elems; i++) {
        double y = s->result[k * BLOCK + i] / s->factor, x = sum_at(l, k * BLOCK + i), e = y - x;
        double u = weighted ? unit2(&l->operand.tensor, s->at[k] + i) : 1;
        double g = group_gain(l, unit, s->at[k] + i);
        b.error += u * (e * e - rounding / (g * g));
        b.inner += u * y * e;
        b.result += u * y * y;
        b.sum += u * x * x;
    }
    return b;
}

/* Samples are of a step's last sum. Of several, what they tell is a ratio to the control of these blocks, which holds for all as far as the others are
 * like the last one. */
static taut__measured_sum ratio_step(taut__ratio *r, taut__blocks b, bool several)
{
    double total = b.control, control = 0;
    if (!several) return taut__ratio_step(r, &b);
    for (size_t k = 0; k < b.n; k++) control += b.c[k];
    b.control = b.n > 0 ? b.all * control / (double)b.n : 0;
    if (b.control > 0) taut__ratio_step(r, &b);
    return (taut__measured_sum){r->mean * total, r->var * total * total};
}

/* |sum|^2 - |error|^2 = |result|^2 - 2 <result, error>, over |result|^2: an error of which it is known that it is small leaves no room for
 * another value (Cauchy and Schwarz). */
static taut__measured_sum norm_near(taut__ratio *r, const taut__blocks *b, bool several,
                                    const taut__measured_sum *error)
{
    const double sigmas = 3, small = 0.25; /* of |result|^2 */
    double       share = b->control > 0 ? (error->value + sigmas * sqrt(error->var)) / b->control : 1;
    double       room = 2 * sqrt(share);
    if (!(share < small)) return ratio_step(r, *b, several);
    taut__ratio_within(r, 1 - room, 1 + room);
    ratio_step(r, *b, several);
    taut__ratio_within(r, 1 - room, 1 + room);
    return (taut__measured_sum){r->mean * b->control, r->var * b->control * b->control};
}

/* Of two estimates of |sum|^2 from the same blocks: what lies between them, nearer to the more precise one; where they contradict each other,
 * that one alone, and what it is said to know is not believed. What a few blocks say of <result, error> passes for precise where the large
 * ones are not among them, so a fifth of the error's square counts against it. */
static taut__measured_sum agreed(const taut__measured_sum *direct, const taut__measured_sum *inner, double error)
{
    const double       doubt = 0.2, sigmas = 3;
    double             apart = direct->value - inner->value, inner_var = inner->var + doubt * doubt * error * error;
    double             weight = inner_var + direct->var > 0 ? inner_var / (inner_var + direct->var) : 1; /* of direct */
    taut__measured_sum better = weight > 0.5 ? *direct : *inner;
    if (apart * apart > sigmas * sigmas * (direct->var + inner->var)) {
        better.var = fmax(better.var, apart * apart / (sigmas * sigmas));
    } else {
        double moved = inner->value + weight * apart - better.value;
        better.value += moved;
        better.var += moved * moved;
    }
    return better;
}

static taut__measured_sum scaled(taut__measured_sum x, double by)
{
    return (taut__measured_sum){x.value * by, x.var * by * by};
}

/* One kind of squares of a layer. own_error, own, result: over all elements, of all sums that the step made of it. What ranks share in the inputs of the
 * last one says nothing of the others'. */
static void estimate(taut_layer *l, int kind, bool several, double own_error, double own, double result,
                     taut__layer_measured *m)
{
    taut__sample      *s = &l->sample;
    const float       *lost = s->control + CONTROLS * (size_t)kind * s->blocks, *x = lost + s->blocks;
    taut__sampling    *a = &l->comm->sampling;
    double             all = (double)blocks_of(l);
    taut__measured_sum inner, direct;
    for (size_t k = 0; k < s->blocks; k++) {
        block_sums b = look(l, k, kind);
        double     by = kind ? weighted_unit(l, k) : control_unit(l);
        a->error[k] = b.error, a->lost[k] = lost[k] / by;
        a->rest[k] = b.result - 2 * b.inner, a->result[k] = b.result;
        a->sum[k] = b.sum, a->own[k] = x[k] / by;
    }
    m->error[kind] = ratio_step(&s->error[kind], (taut__blocks){all, s->blocks, a->error, a->lost, own_error}, several);
    inner = norm_near(&s->near[kind], &(taut__blocks){all, s->blocks, a->rest, a->result, result}, several,
                      &m->error[kind]);
    inner.value += m->error[kind].value, inner.var += m->error[kind].var;
    m->norm[kind] = inner;
    if (several) return;
    direct = taut__ratio_step(&s->norm[kind], &(taut__blocks){all, s->blocks, a->sum, a->own, own});
    m->norm[kind] = agreed(&direct, &inner, m->error[kind].value);
}

/* Is the step's last sum, by its samples, like the mean of all? Where it is far from that, it tells nothing of the others. */
static bool like_the_last(const taut_layer *l, const taut__layer_sums *raw, double calls)
{
    enum { FEW = 12 }; /* blocks, of which the result's norm is anything */
    const double        most = 4;
    const taut__sample *s = &l->sample;
    double              lost = 0, result = 0, all = (double)blocks_of(l) / control_unit(l), mean;
    if (s->blocks == 0) return true;
    for (size_t k = 0; k < s->blocks; k++) {
        lost += s->control[k] * all / (double)s->blocks;
        result += look(l, k, false).result * (double)blocks_of(l) / (double)s->blocks;
    }
    mean = raw->own_error.plain / calls;
    if (lost > most * mean || lost * most < mean) return false;
    mean = raw->sum.plain / calls;
    return s->blocks < FEW || (result <= most * mean && result * most >= mean);
}

/* False where squares of either unit are no numbers, too. */
static bool above(const taut__layer_sums *raw, const taut__layer_measured *m, double share)
{
    return m->error[0].value > share * raw->own.plain && m->error[1].value > share * raw->own.weighted;
}

/* In a scale's units only where that is what counts: else what is coarse in one unit may be all there is in another. */
static taut__sample_form next_form(const taut_layer *l, const taut__layer_sums *raw, const taut__layer_measured *m)
{
    if (!above(raw, m, COARSE) || !(raw->own.plain > TINY2 * (double)l->operand.tensor.elems)) return TAUT_SAMPLES_F32;
    if (!above(raw, m, COARSE8) || (has_scale(l) && !scaled_groups(l))) return TAUT_SAMPLES_BF16;
    return above(raw, m, COARSE6) ? TAUT_SAMPLES_6BIT : TAUT_SAMPLES_8BIT;
}

bool taut__sample_measure(taut_layer *l, const taut__layer_sums *raw, double calls, taut__layer_measured *m)
{
    bool several = calls > 1;
    if (!l->operand.lossy || l->bucket || l->comm->ctx.all.size < 2 || l->sample.room == 0) return false;
    if (several && !like_the_last(l, raw, calls)) return false;
    estimate(l, 0, several, raw->own_error.plain, raw->own.plain, raw->sum.plain, m);
    if (has_scale(l)) {
        estimate(l, 1, several, raw->own_error.weighted, raw->own.weighted, raw->sum.weighted, m);
    } else {
        double unit = unit2(&l->operand.tensor, 0);
        m->error[1] = scaled(m->error[0], unit), m->norm[1] = scaled(m->norm[0], unit);
    }
    l->sample.form = next_form(l, raw, m);
    return true;
}
