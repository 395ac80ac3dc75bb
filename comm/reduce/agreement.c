/* agreement.c : what ranks agree on before a layer is coded: statistics of x, summed over ranks, and what the codec makes of them.
 *
 * Statistics are large (a histogram) and change slowly, except for a few numbers (norms, is there a NaN), which must be those of
 * this very call. So every FULL_EVERY calls all of them are exchanged; in between the few are, and the codec adapts what
 * it would calibrate for the earlier call (`adapt`). Every exchange of the few also asks whether any rank needs all of them: one
 * whose earlier ones are too old, tell nothing, or were lost with a checkpoint; and the few themselves tell whether x has another shape
 * now (`reshaped`). Then all ranks exchange all, those that had not looked for them after a second look at x. */
#include "agreement.h"
#include "input.h"
#include "placed.h"
#include <math.h>
#include <string.h>

enum { FULL_EVERY = 8, BRIEF_MAX = 8 };

typedef struct taut__agree {
    double                    stats[TAUT_STATS_MAX], in[TAUT_STATS_MAX]; /* this rank's, then of all; received */
    double                    earlier[TAUT_STATS_MAX]; /* of all, of the last call that exchanged them */
    double                    few[BRIEF_MAX + 1], few_in[BRIEF_MAX + 1]; /* the first ones; how many ranks need all */
    uint32_t                  age;        /* calls since then, that one included; 0: there was none */
    size_t                    scale_n;    /* the tensor's then */
    bool                      turned;     /* they are of coordinates in a basis */
    taut_calibration          calibrated; /* for `earlier`, under */
    taut_stage                under;
    bool                      all;           /* this rank has looked, or looks, for all */
    bool                      asked, asking; /* the few have been exchanged in this call; are under way */
    struct memory            *there;         /* outside the host: what operations read and write */
    struct taut__agree_there *data;          /* ... with a data half */
    bool                      stands;        /* data has `earlier` and `calibrated` as they are here */
} taut__agree;

/* Memory of the place. */
typedef struct memory {
    double           stats[TAUT_STATS_MAX];
    taut_calibration calibration;
} memory;

static bool shared(const taut__reduction *red) { return taut__codec_of(red)->caps & TAUT_CAP_GLOBAL_STATS; }
static bool adapts(const taut__reduction *red) { return shared(red) && taut__codec_of(red)->n_brief > 0; }

bool taut__agree_wanted(const taut_spec *spec) { return spec->stages == 1 && spec->stage[0].codec->n_stats > 0; }

taut_status taut__agree_prepare(taut__reduction *red)
{
    if (!taut__agree_wanted(red->call.spec)) return TAUT_OK;
    red->agree = taut__alloc(1, sizeof *red->agree);
    if (!red->agree) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", red->job.name);
    return taut__at_home(red) ? TAUT_OK : taut__placed_alloc(red, sizeof(memory), "statistics", &red->agree->there);
}

void taut__agree_release(taut__reduction *red)
{
    if (red->agree) taut__placed_release(red, red->agree->there);
    taut__free(red->agree);
    red->agree = NULL;
}

/* ---- operations ----
 *
 * Statistics are collected where x lies. What ranks agree on is agreed on by the host, which has it therefore, so a shared calibration is made there,
 * by the same code on all ranks, wherever their tensors lie, and goes to the place in stream order: nobody waits for the device a second time, and
 * whether a tensor goes raw this time is part of what has been agreed before any of it is coded. A calibration of this rank alone is made, and
 * stays, in the place. */

static taut_status collect(taut__reduction *red, const taut_call *c, const float *x)
{
    taut__agree *a = red->agree;
    taut_piece   p = {.call = *c, .src = x, .stats = a->stats};
    if (taut__at_home(red)) return taut__placed_do(red, TAUT_OP_COLLECT_STATS, &p, NULL);
    p.stats = a->there->stats;
    TAUT_TRY(red->lane->space->put(red->lane->place, p.stats, a->stats, sizeof a->stats));
    TAUT_TRY(taut__placed_do(red, TAUT_OP_COLLECT_STATS, &p, NULL));
    return taut__lane_copy(red->lane, a->stats, p.stats, sizeof a->stats);
}

/* Of statistics alone: the tensor, which may lie elsewhere, is not looked at. */
static taut_call by_host(const taut__reduction *red)
{
    taut_call c = red->call;
    c.place = (taut_place){0};
    return c;
}

/* red->calibration is what the call's operations go by. */
static taut_status publish(taut__reduction *red)
{
    taut__agree *a = red->agree;
    bool         home = taut__at_home(red);
    red->call.calibration = home ? &red->calibration : &a->there->calibration;
    return home ? TAUT_OK
                : red->lane->space->put(red->lane->place, &a->there->calibration, &red->calibration,
                                        sizeof red->calibration);
}

/* The codec takes a second look at this rank's x. */
static taut_status calibrate_alone(taut__reduction *red)
{
    taut__agree *a = red->agree;
    bool         home = taut__at_home(red);
    taut_piece   p = {.call = red->call,
                      .src = taut__form(red, 0, red->call.n),
                      .stats = home ? a->stats : a->there->stats,
                      .ranks = red->g->size,
                      .calibration = home ? &red->calibration : &a->there->calibration};
    TAUT_TRY(taut__placed_do(red, TAUT_OP_CALIBRATE, &p, NULL));
    red->call.calibration = p.calibration;
    return TAUT_OK;
}

/* ---- the exchange ---- */

static bool stale(const taut__reduction *red)
{
    const taut__agree *a = red->agree;
    return a->age == 0 || a->age >= FULL_EVERY || a->scale_n != red->call.tensor->scale_n ||
           a->turned != red->rotation.will;
}

/* ---- the same, where the operand lies ---- */

struct taut__agree_there **taut__agree_data(const taut__reduction *red)
{
    return red->agree ? &red->agree->data : NULL;
}

void taut__agree_begin(taut__reduction *red)
{
    taut__agree *a = red->agree;
    if (!a) return;
    memset(a->stats, 0, sizeof a->stats);
    a->asked = a->asking = false;
    a->all = !adapts(red) || stale(red);
}

taut_status taut__agree_look(taut__reduction *red, taut__range r, const float *x)
{
    taut_call c = taut__slice_call(red, r.first, r.n);
    c.brief = !red->agree->all;
    return collect(red, &c, x);
}

static void exchange(taut__reduction *red, double *v, double *in, size_t n)
{
    taut__small_allreduce_begin(&red->exchange, red->g, red->job.tag + TAUT_TAG_CONTROL, v, in, n * sizeof *v,
                                taut__combine_mixed, NULL);
}

static taut_status exchange_all(taut__reduction *red)
{
    taut__agree *a = red->agree;
    taut_call    c = by_host(red);
    if (a->asked) TAUT_TRY(taut__op_rebase(taut__codec_of(red), &c, a->few, a->stats));
    exchange(red, a->stats, a->in, taut__codec_of(red)->n_stats);
    return TAUT_OK;
}

static taut_status calibrate(taut__reduction *red, const double *stats)
{
    taut_call c = by_host(red);
    TAUT_TRY(taut__op_calibrate(taut__codec_of(red), &c, stats, red->g->size, NULL, &red->calibration));
    red->agree->calibrated = red->calibration;
    red->agree->stands = false;
    red->agree->under = *taut__stage(&red->call);
    return TAUT_OK;
}

static bool same_keys(const taut_stage *a, const taut_stage *b)
{
    /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): values as given, no sums of them */
    return a->given == b->given && memcmp(a->value, b->value, sizeof a->value) == 0;
}

static taut_status calibrate_again(taut__reduction *red)
{
    taut__agree *a = red->agree;
    if (!same_keys(&a->under, taut__stage(&red->call))) return calibrate(red, a->earlier);
    red->calibration = a->calibrated;
    return TAUT_OK;
}

bool taut__agree_knows_norms(const taut__reduction *red) { return red->agree && taut__codec_of(red)->norms; }

static void keep_norms(taut__reduction *red)
{
    const double *at = red->agree->stats + taut__codec_of(red)->norms;
    if (taut__agree_knows_norms(red)) red->record.own = (taut_norm2){.plain = at[1], .weighted = at[0]};
}

taut__agreed_before taut__agree_before(taut__reduction *red)
{
    taut__agree *a = red->agree;
    return (taut__agreed_before){.wants_all = !adapts(red) || stale(red),
                                 .stands = a->stands,
                                 .same_keys = same_keys(&a->under, taut__stage(&red->call)),
                                 .earlier = a->earlier,
                                 .calibrated = &a->calibrated};
}

void taut__agree_settle(taut__reduction *red, const taut__agreed_now *now)
{
    taut__agree *a = red->agree;
    size_t       n = taut__codec_of(red)->n_stats;
    memcpy(a->stats, now->own, n * sizeof *a->stats);
    keep_norms(red);
    red->calibration = *now->calibration;
    if (!shared(red)) return;
    if (now->all) memcpy(a->earlier, now->all, n * sizeof *a->earlier);
    a->calibrated = *now->calibrated;
    a->under = *taut__stage(&red->call);
    a->scale_n = red->call.tensor->scale_n;
    a->turned = false;
    a->stands = true;
    a->age = red->calibration.raw ? 0 : now->all ? 1 : a->age + 1; /* as calibrate_all and calibrate_few */
}

static taut_status calibrate_all(taut__reduction *red)
{
    taut__agree *a = red->agree;
    TAUT_TRY(calibrate(red, a->stats));
    memcpy(a->earlier, a->stats, sizeof a->earlier);
    a->scale_n = red->call.tensor->scale_n;
    a->turned = red->rotation.will;
    a->age = red->calibration.raw ? 0 : 1; /* what holds a NaN tells nothing about later calls */
    return publish(red);
}

static taut_status calibrate_few(taut__reduction *red)
{
    taut__agree *a = red->agree;
    taut_call    c = by_host(red);
    TAUT_TRY(calibrate_again(red));
    TAUT_TRY(taut__op_adapt(taut__codec_of(red), &c, a->earlier, a->few, red->g->size, &red->calibration));
    a->age = red->calibration.raw ? 0 : a->age + 1;
    return publish(red);
}

static const uint32_t TURNED = 1u << 31; /* beside the age */

/* ---- checkpoints: u32 age, u32 n, u64 scale_n, n doubles: the earlier statistics, from which calibrate() makes the rest again ---- */

void taut__agree_save(const taut__reduction *red, taut__writer *w)
{
    const taut__agree *a = red->agree;
    if (a->age == 0) return;
    uint32_t n = taut__codec_of(red)->n_stats;
    taut__write32(w, a->age | (a->turned ? TURNED : 0));
    taut__write32(w, n);
    taut__write64(w, a->scale_n);
    for (uint32_t i = 0; i < n; i++) taut__write_f64(w, a->earlier[i]);
}

taut_status taut__agree_check(const void *src, size_t len)
{
    taut__reader r = {src, len, false};
    uint32_t     age = taut__read32(&r) & ~TURNED, n = taut__read32(&r);
    bool         good = age > 0 && age <= FULL_EVERY && n > 0 && n <= TAUT_STATS_MAX;
    taut__read64(&r);
    for (uint32_t i = 0; good && i < n; i++) good = isfinite(taut__read_f64(&r));
    return good && !r.bad && r.left == 0 ? TAUT_OK
                                         : taut__fail(TAUT_E_CORRUPT, "statistics: %zu saved bytes are malformed", len);
}

void taut__agree_load(taut__reduction *red, const void *src, size_t len)
{
    taut__agree *a = red->agree;
    taut__reader r = {src, len, false};
    if (!a) return;
    struct memory            *there = a->there;
    struct taut__agree_there *data = a->data;
    memset(a, 0, sizeof *a);
    a->there = there, a->data = data;
    uint32_t first = len ? taut__read32(&r) : 0, age = first & ~TURNED;
    if (age == 0 || taut__read32(&r) != taut__codec_of(red)->n_stats)
        return; /* of another codec: they are exchanged anew */
    a->age = age;
    a->turned = first & TURNED;
    a->scale_n = (size_t)taut__read64(&r);
    for (uint32_t i = 0; i < taut__codec_of(red)->n_stats; i++) a->earlier[i] = taut__read_f64(&r);
}

taut_status taut__agree_ask(taut__reduction *red, bool *calibrated)
{
    taut__agree *a = red->agree;
    size_t       n = taut__codec_of(red)->n_brief;
    if (!a->asked) keep_norms(red);
    *calibrated = !shared(red);
    if (*calibrated) return taut__aside_begin(red, calibrate_alone);
    a->asking = adapts(red) && !a->asked;
    if (!a->asking) return exchange_all(red);
    a->asked = true;
    memcpy(a->few, a->stats, n * sizeof *a->few);
    a->few[n] = a->all;
    exchange(red, a->few, a->few_in, n + 1);
    return TAUT_OK;
}

/* Decided alike by all ranks: of the sums. */
static bool reshaped(const taut__reduction *red)
{
    const taut_codec *codec = taut__codec_of(red);
    return codec->reshaped && codec->reshaped(taut__stage(&red->call), red->agree->earlier, red->agree->few);
}

taut_status taut__agree_advance(taut__reduction *red, bool *moved, taut__agreed *outcome)
{
    taut__agree *a = red->agree;
    bool         done;
    *outcome = TAUT_AGREE_WAITING;
    TAUT_TRY(taut__small_allreduce_advance(&red->exchange, &done));
    if (!done) return TAUT_OK;
    *moved = true;
    red->record.bytes_sent += red->exchange.sent;
    if (a->asking && a->all && a->few[taut__codec_of(red)->n_brief] > 0) {
        a->asking = false;
        return exchange_all(red);
    }
    if (a->asking && (a->few[taut__codec_of(red)->n_brief] > 0 || reshaped(red))) {
        a->all = true;
        memset(a->stats, 0, sizeof a->stats);
        *outcome = TAUT_AGREE_AGAIN;
        return TAUT_OK;
    }
    *outcome = TAUT_AGREED;
    return a->asking ? calibrate_few(red) : calibrate_all(red);
}
