/* layer_codec.c : the codec in force on a layer, and the memory that it needs. */
#include "../../compressors/basis/basis.h"
#include "communicator.h"
#include <math.h>

/* 16-bit tensors without a codec travel in their own format: a float32 sum at the owner, rounded once. */
static taut_status wire_spec(const taut_layer *l, const taut_spec *spec, taut_spec *wire)
{
    *wire = *spec;
    bool plain = taut__spec_caps(spec) & TAUT_CAP_LOSSLESS;
    if (!plain || l->operand.dtype == TAUT_F32) return TAUT_OK;
    return taut__spec_parse(l->operand.dtype == TAUT_F16 ? "fp16:overflow=inf" : "bf16:overflow=inf", wire);
}

static bool wants_feedback(const taut_layer *l, const taut_spec *spec)
{
    if (l->bundle) return false; /* rounds may go without it; what is lost is less than 1e-4 */
    return taut__settings_feeds(&l->comm->ctx.set, spec);
}

float taut__layer_momentum(const taut_layer *l)
{
    return l->comm->ctx.set.feedback == TAUT_FEEDBACK_MOMENTUM ? l->comm->ctx.set.c.momentum : 0;
}

/* A tensor without a shorter side has no basis: it is coded as it is. */
static taut_status fit_axes(taut_layer *l)
{
    taut__operand *o = &l->operand;
    size_t         coded = taut__spec_basis(&o->wire), most = coded ? coded : l->directions;
    bool           suits = most > 0 && taut__axes_suit(&o->tensor) && o->dtype == TAUT_F32 &&
                 l->comm->ctx.set.feedback != TAUT_FEEDBACK_MOMENTUM;
    o->turns = suits && coded > 0;
    if (suits && o->axes && taut__axes_most(o->axes) != most) {
        taut__axes_destroy(o->axes);
        o->axes = NULL;
    }
    if (suits && !o->axes) TAUT_TRY(taut__axes_create(&o->tensor, most, o->seed, &o->axes));
    o->learns = suits && !taut__axes_given(o->axes);
    return suits ? taut__axes_place(o->axes, taut__layer_place(l)) : TAUT_OK;
}

/* Memory for x: with feedback, and wherever x cannot be read from buf (16 bit) or must outlive encoding (linear, bases). */
static taut_status need_feedback(taut_layer *l)
{
    const taut__algorithm *via;
    TAUT_TRY(taut__algorithm_for(&l->comm->ctx, &l->operand, &l->operand.wire, &via));
    l->operand.feedback_on = wants_feedback(l, &l->spec);
    if (l->operand.feedback_on) atomic_store(&l->comm->ctx.feeding, true);
    bool needed = l->operand.feedback_on || l->operand.dtype != TAUT_F32 || via == &taut__linear || l->operand.turns;
    if (!needed || l->operand.feedback) return TAUT_OK;
    return taut__feedback_create_in(taut__layer_place(l), l->operand.tensor.elems, taut__layer_momentum(l),
                                    &l->operand.feedback);
}

static taut_status need_state(taut_layer *l)
{
    const taut_codec *codec = taut__spec_codec(&l->operand.wire);
    if (l->operand.wire.stages != 1 || !(codec->caps & TAUT_CAP_STATEFUL) || l->operand.state) return TAUT_OK;
    return taut__op_state_create(codec, &l->operand.wire.stage[0], &l->operand.tensor, l->operand.seed,
                                 taut__layer_place(l), &l->operand.state);
}

static void drop_state(taut_layer *l)
{
    if (l->operand.state)
        taut__op_state_destroy(taut__spec_codec(&l->operand.wire), taut__layer_place(l), l->operand.state);
    l->operand.state = NULL;
}

static taut_status prepare(taut_layer *l)
{
    TAUT_TRY(fit_axes(l));
    TAUT_TRY(need_feedback(l));
    TAUT_TRY(taut__drop_prepare(l));
    TAUT_TRY(need_state(l));
    TAUT_TRY(taut__sample_prepare(l));
    return taut__reduction_prepare(&l->reduction);
}

taut_status taut__layer_axes(taut_layer *l)
{
    taut__engine_hold(&l->comm->ctx.engine);
    taut_status s = fit_axes(l);
    taut__engine_release(&l->comm->ctx.engine);
    return s;
}

/* Other layers' jobs may be running: scratch and requests are shared with them. */
taut_status taut__layer_prepare(taut_layer *l)
{
    if (l->prepared) return TAUT_OK;
    taut__engine_hold(&l->comm->ctx.engine);
    taut_status s = prepare(l);
    taut__engine_release(&l->comm->ctx.engine);
    l->prepared = s == TAUT_OK;
    return s;
}

/* Its slots are on the arena's list, which jobs of other layers may be using. */
void taut__layer_unprepare(taut_layer *l)
{
    taut__engine_hold(&l->comm->ctx.engine);
    taut__graph_leave(l);
    taut__reduction_release(&l->reduction);
    taut__engine_release(&l->comm->ctx.engine);
    l->prepared = false;
}

/* Jobs of other layers, which read the count, may be running. */
static void note_loss(taut_layer *l, bool lossy)
{
    atomic_fetch_add(&l->comm->ctx.lossy, (size_t)lossy - (size_t)l->operand.lossy);
    l->operand.lossy = lossy;
}

static taut_status basis_suits(const taut_layer *l, const taut_spec *spec)
{
    size_t most = taut__spec_basis(spec);
    if (most > 0 && l->operand.dtype != TAUT_F32)
        return taut__fail(TAUT_E_UNSUPPORTED, "layer '%s': basis=%zu: must be 0 for 16-bit layers", l->name, most);
    return TAUT_OK;
}

taut_status taut__layer_use(taut_layer *l, const taut_spec *spec)
{
    const taut__algorithm *via;
    taut_spec              wire;
    TAUT_TRY(wire_spec(l, spec, &wire));
    TAUT_TRY(taut__spec_suits(&wire, &l->operand.tensor));
    TAUT_TRY(basis_suits(l, &wire));
    TAUT_TRY(taut__layer_runs(l, &wire, taut__layer_place(l).space));
    TAUT_TRY(taut__algorithm_for(&l->comm->ctx, &l->operand, &wire, &via));
    taut__layer_unprepare(l);
    drop_state(l);
    l->spec = *spec;
    l->operand.wire = wire;
    taut__sample_reset(l);
    note_loss(l, !(taut__spec_caps(spec) & TAUT_CAP_LOSSLESS));
    return TAUT_OK;
}

taut_status taut__layer_runs(const taut_layer *l, const taut_spec *wire, taut_space space)
{
    const taut_codec *codec = taut__spec_codec(wire);
    if (taut__ops(codec, space)) return TAUT_OK;
    return taut__fail(TAUT_E_UNSUPPORTED, "layer '%s': codec %s has no operations in space %s", l->name, codec->name,
                      taut__space_name(space));
}

/* Another value of a key that changes no memory: the same codec, without state, with feedback or without as it was, and the same capacity. */
static bool fits_as_it_is(const taut_layer *l, const taut_spec *spec)
{
    const taut_codec *codec = taut__spec_codec(spec);
    if (!l->prepared || spec->stages != 1 || l->spec.stages != 1 || codec != taut__spec_codec(&l->spec) ||
        taut__spec_basis(spec) != taut__spec_basis(&l->spec) || wants_feedback(l, spec) != l->operand.feedback_on)
        return false;
    return !(codec->caps & TAUT_CAP_STATEFUL) && taut__spec_suits(spec, &l->operand.tensor) == TAUT_OK &&
           taut__spec_capacity(spec, &l->operand.tensor, l->operand.tensor.elems) ==
               taut__spec_capacity(&l->operand.wire, &l->operand.tensor, l->operand.tensor.elems);
}

taut_status taut__layer_adopt(taut_layer *l, const taut_spec *spec)
{
    if (fits_as_it_is(l, spec)) {
        l->spec = l->operand.wire = *spec;
        return TAUT_OK;
    }
    TAUT_TRY(taut__layer_use(l, spec));
    return taut__layer_prepare(l);
}

static const double REL_MOST = 0.95; /* beyond, nearly nothing would be sent */

void taut__layer_scale_error(taut_layer *l, double factor)
{
    const taut_stage *stage = &l->spec.stage[0];
    uint32_t          key = l->spec.stages == 1 ? stage->codec->error_key : 0;
    if (key > 0) l->operand.wire.stage[0].value[key - 1] = fmin(stage->value[key - 1] * factor, REL_MOST);
}

void taut__layer_drop_codec(taut_layer *l)
{
    taut__graph_leave(l);
    taut__reduction_release(&l->reduction);
    drop_state(l);
    note_loss(l, false);
    taut__feedback_destroy(l->operand.feedback);
    taut__axes_destroy(l->operand.axes);
}
