/* state.c : writes checkpoints: one blob per rank, laid out in state.h. */
#include "state.h"
#include "../../compressors/basis/basis.h"
#include <xxhash.h>

uint64_t taut__state_checksum(const uint8_t *blob, size_t len)
{
    uint64_t head = XXH3_64bits(blob, TAUT_STATE_SUM_AT);
    return XXH3_64bits_withSeed(blob + TAUT_STATE_HEADER, len - TAUT_STATE_HEADER, head);
}

taut_status taut__state_between_steps(const taut_comm *comm, const char *call)
{
    TAUT_TRY(taut__comm_check(comm, call));
    for (size_t i = 0; i < comm->layers; i++)
        if (comm->layer[i]->started)
            return taut__fail(TAUT_E_STATE, "%s: layer '%s' is under way: call it between steps", call,
                              comm->layer[i]->name);
    return TAUT_OK;
}

/* A section that somebody else writes: its length, then the bytes, where there is room. */
typedef taut_status (*section)(const void *self, void *dst, size_t cap, size_t *len);

static taut_status write_section(taut__writer *w, section save, const void *self)
{
    size_t n = 0, at = w->len + 8;
    if (self) TAUT_TRY(save(self, NULL, 0, &n));
    taut__write64(w, n);
    if (n && w->dst && at + n <= w->cap) TAUT_TRY(save(self, w->dst + at, n, &n));
    w->len += n;
    return TAUT_OK;
}

static taut_status save_feedback(const void *self, void *dst, size_t cap, size_t *len)
{
    return taut__feedback_save(self, dst, cap, len);
}
static taut_status save_codec(const void *self, void *dst, size_t cap, size_t *len)
{
    const taut_layer *l = self;
    return taut__op_state_save(taut__spec_codec(&l->operand.wire), taut__layer_place(l), l->operand.state, dst, cap,
                               len);
}
static taut_status save_agreement(const void *self, void *dst, size_t cap, size_t *len)
{
    taut__writer w = {dst, cap, 0};
    taut__agree_save(self, &w);
    *len = w.len;
    return TAUT_OK;
}
static taut_status save_sample(const void *self, void *dst, size_t cap, size_t *len)
{
    return taut__sample_save(self, dst, cap, len);
}
static taut_status save_axes(const void *self, void *dst, size_t cap, size_t *len)
{
    return taut__axes_save(self, dst, cap, len);
}
static taut_status save_sampling(const void *self, void *dst, size_t cap, size_t *len)
{
    return taut__sampling_save(self, dst, cap, len);
}
static taut_status save_auto(const void *self, void *dst, size_t cap, size_t *len)
{
    const taut_comm *comm = self;
    return comm->hooks->save(comm->autom, dst, cap, len);
}

static taut_status write_layer(taut__writer *w, const taut_layer *l, bool residuals)
{
    char spec[TAUT_LONG_SPEC];
    bool state = l->operand.state != NULL;
    taut__spec_print(&l->spec, spec, sizeof spec);
    taut__write_text(w, l->name);
    taut__write16(w, (uint16_t)l->operand.dtype);
    taut__write16(w, (uint16_t)(l->last_op + 1 + (l->operand.sharded ? TAUT_STATE_SHARDED : 0)));
    taut__write64(w, l->operand.tensor.elems);
    taut__write64(w, l->operand.calls);
    taut__write_text(w, spec);
    TAUT_TRY(write_section(w, save_feedback, l->operand.residual && residuals ? l->operand.feedback : NULL));
    TAUT_TRY(write_section(w, save_codec, state ? l : NULL));
    TAUT_TRY(write_section(w, save_agreement, l->reduction.agree ? &l->reduction : NULL));
    TAUT_TRY(write_section(w, save_sample, l));
    return write_section(w, save_axes, l->operand.axes);
}

static taut_status write_all(taut__writer *w, const taut_comm *comm, bool residuals)
{
    taut__write32(w, TAUT_STATE_MAGIC);
    taut__write32(w, TAUT_STATE_VERSION);
    taut__write64(w, 0); /* bytes and checksum: once they are known */
    taut__write64(w, 0);
    taut__write64(w, (uint64_t)comm->ctx.all.rank);
    taut__write64(w, (uint64_t)comm->ctx.all.size);
    taut__write64(w, comm->steps);
    taut__write64(w, comm->layers);
    for (size_t i = 0; i < comm->layers; i++) TAUT_TRY(write_layer(w, comm->layer[i], residuals));
    TAUT_TRY(write_section(w, save_sampling, comm));
    return write_section(w, save_auto, comm->autom ? comm : NULL);
}

taut_status taut_state_save(const taut_comm *comm, void *dst, size_t cap, size_t *len)
{
    if (!comm || !len) return taut__fail(TAUT_E_INVALID, "taut_state_save: comm or len is NULL");
    *len = 0;
    TAUT_TRY(taut__state_between_steps(comm, "taut_state_save"));
    TAUT_KEEP_DEVICE(taut__state_write(comm, true, dst, cap, len));
}

taut_status taut__state_write(const taut_comm *comm, bool residuals, void *dst, size_t cap, size_t *len)
{
    taut__writer w = {dst, cap, 0};
    TAUT_TRY(write_all(&w, comm, residuals));
    *len = w.len;
    if (!dst) return TAUT_OK;
    if (cap < w.len)
        return taut__fail(TAUT_E_CAPACITY, "taut_state_save: %zu bytes of room, %zu are needed", cap, w.len);
    taut__put64(w.dst + TAUT_STATE_BYTES_AT, w.len);
    taut__put64(w.dst + TAUT_STATE_SUM_AT, taut__state_checksum(w.dst, w.len));
    return TAUT_OK;
}
