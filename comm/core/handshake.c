/* handshake.c : ranks compare what must be alike, line by line of text: their settings and what they have registered, before layers
 * are first used; and, if the exchange of a step's end says so, what they did in that step.
 *
 * At first one hash of all lines is exchanged, by a job, so that start() does not wait for anybody. Jobs of layers wait until
 * theirs is compared. Only if hashes differ do ranks look for the first line that does, and tell each other what it says. */
#include "../../compressors/basis/basis.h"
#include "communicator.h"
#include <stdio.h>
#include <xxhash.h>

enum { HASH, LINES, ZERO, OTHER };

static taut__handshake *handshake_of(taut__job *job) { return (taut__handshake *)(void *)job; }

static uint64_t hash_text(uint64_t h, const char *s) { return XXH3_64bits_withSeed(s, strlen(s), h); }

/* Not as text, which would take long every step. */
static uint64_t spec_hash(const taut_spec *spec, uint64_t h)
{
    for (uint32_t i = 0; i < spec->stages; i++) {
        uint64_t id = spec->stage[i].codec->id;
        h = XXH3_64bits_withSeed(spec->stage[i].value, sizeof spec->stage[i].value, h ^ id);
    }
    return h;
}

/* Codecs whose choices, or states, all ranks share count their calls. */
static uint64_t shared_calls(const taut_layer *l)
{
    bool counts = l->spec.stages > 1 || taut__spec_caps(&l->operand.wire) & (TAUT_CAP_LINEAR | TAUT_CAP_STATEFUL);
    return counts ? l->operand.calls : 0;
}

static bool called(const taut_layer *l) { return l->operand.calls > l->calls_at_step; }

/* "op=sum", or of several calls "op=sum,mean": the last six. */
static const char *ops_text(const taut_layer *l, char *dst, size_t cap)
{
    enum { SHOWN = 6 };
    size_t at = (size_t)snprintf(dst, cap, "%s", called(l) ? "op=" : "no collective");
    for (int i = SHOWN - 1; i >= 0 && called(l); i--) {
        uint64_t op = l->ops >> (2 * i) & 3;
        if (op)
            at += (size_t)snprintf(dst + at, cap - at, "%s%s", dst[at - 1] == '=' ? "" : ",",
                                   op == TAUT_MEAN + 1 ? "mean" : "sum");
    }
    return dst;
}

static const char *step_line(const taut_layer *l, char *dst)
{
    char spec[TAUT_SPEC_ROOM], scale[56] = "no scale", ops[36], basis[32] = "";
    taut__spec_print(&l->operand.wire, spec, sizeof spec);
    if (l->operand.tensor.scale_n)
        snprintf(scale, sizeof scale, "scale of %zu (%016llx)", l->operand.tensor.scale_n,
                 (unsigned long long)l->scale_hash);
    if (l->operand.axes)
        snprintf(basis, sizeof basis, ", basis %016llx", (unsigned long long)taut__axes_digest(l->operand.axes));
    snprintf(dst, TAUT_HANDSHAKE_LINE, "'%.80s' with %s, %s, %s, call %llu%s", l->name, ops_text(l, ops, sizeof ops),
             scale, spec, (unsigned long long)shared_calls(l), basis);
    return dst;
}

uint64_t taut__handshake_digest(const taut_comm *comm)
{
    uint64_t h = taut__seed(comm->drops, comm->steps); /* what is sampled depends on the step */
    for (size_t i = 0; i < comm->layers; i++) {
        const taut_layer *l = comm->layer[i];
        uint64_t          did[] = {called(l) ? l->ops : 0,
                          l->operand.calls - l->calls_at_step,
                          l->gathers,
                          l->operand.tensor.scale_n,
                          l->scale_hash,
                          shared_calls(l),
                          taut__axes_digest(l->operand.axes)};
        h = spec_hash(&l->operand.wire, XXH3_64bits_withSeed(did, sizeof did, h));
    }
    return h;
}

void taut__handshake_versions(char dst[TAUT_HANDSHAKE_LINE])
{
    snprintf(dst, TAUT_HANDSHAKE_LINE, "wire version %d, exchange version %d", TAUT_WIRE_VERSION,
             TAUT_EXCHANGE_VERSION);
}

/* Lines of registrations: versions, settings, layers. Of steps: drops, layers, count. What is past the end: "nothing". */
static size_t settings_lines(const taut__handshake *s) { return 1 + (s->step ? 0 : taut__settings_lines()); }

static const char *line(const taut_comm *comm, size_t i, char *dst)
{
    const taut__handshake *s = &comm->handshake;
    size_t                 head = settings_lines(s);
    if (i == 0 && s->step) snprintf(dst, TAUT_HANDSHAKE_LINE, "dropped %llu steps", (unsigned long long)comm->drops);
    else if (i == 0) taut__handshake_versions(dst);
    else if (i < head) taut__settings_line(&comm->ctx.set, i - 1, dst, TAUT_HANDSHAKE_LINE);
    else if (i - head >= s->layers && s->step)
        snprintf(dst, TAUT_HANDSHAKE_LINE, "ended %llu steps", (unsigned long long)comm->steps);
    else if (i - head >= s->layers) snprintf(dst, TAUT_HANDSHAKE_LINE, "nothing");
    else if (s->step) step_line(comm->layer[i - head], dst);
    else taut__layer_text(comm->layer[i - head], dst, TAUT_HANDSHAKE_LINE);
    return dst;
}

static uint64_t hash_lines(const taut_comm *comm)
{
    char     text[TAUT_HANDSHAKE_LINE];
    uint64_t h = comm->handshake.layers;
    for (size_t i = 0; i < settings_lines(&comm->handshake) + comm->handshake.layers; i++)
        h = hash_text(h, line(comm, i, text));
    return h;
}

/* ---- exchanges ---- */

static void compare(taut_comm *comm, uint64_t value)
{
    static const taut__mixed mixed = {0, 1};
    taut__handshake         *s = &comm->handshake;
    s->word[0] = s->word[1] = value; /* AND and OR: equal if all ranks hold the same */
    taut__small_allreduce_begin(&s->exchange, &comm->ctx.all, TAUT_TAG_HANDSHAKE, s->word, s->word_in, sizeof s->word,
                                taut__combine_mixed, &mixed);
}

static void keep_lowest(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx)
{
    taut__handshake_line       *a = acc;
    const taut__handshake_line *b = in;
    (void)in_first, (void)ctx;
    if (b->rank < a->rank) memcpy(a, b, bytes);
}

/* The line of the lowest rank among those that offer one. */
static void ask(taut_comm *comm, taut__handshake_line *l, bool offer)
{
    *l = (taut__handshake_line){.rank = offer ? (uint64_t)comm->ctx.all.rank : UINT64_MAX};
    line(comm, comm->handshake.at, l->text);
    taut__small_allreduce_begin(&comm->handshake.exchange, &comm->ctx.all, TAUT_TAG_HANDSHAKE, l, &comm->handshake.in,
                                sizeof *l, keep_lowest, NULL);
}

static void compare_line(taut_comm *comm, size_t i)
{
    char text[TAUT_HANDSHAKE_LINE];
    comm->handshake.at = i;
    compare(comm, hash_text(0, line(comm, i, text)));
}

static taut_status mismatch(const taut__handshake *s)
{
    char   where[40] = "";
    size_t head = settings_lines(s);
    if (s->at >= head && !(s->step && s->at >= head + s->layers))
        snprintf(where, sizeof where, "layer %zu: ", s->at - head);
    return taut__fail(TAUT_E_MISMATCH, "%srank 0 has %s, rank %d has %s", where, s->zero.text, (int)s->other.rank,
                      s->other.text);
}

static taut_status handshake_step(taut__job *job, bool *moved, bool *done)
{
    taut__handshake *s = handshake_of(job);
    taut_comm       *comm = s->comm;
    bool             over;
    char             text[TAUT_HANDSHAKE_LINE];
    TAUT_TRY(taut__small_allreduce_advance(&s->exchange, &over));
    if (!over) return TAUT_OK;
    *moved = true;
    comm->control_sent += s->exchange.sent;
    bool equal = s->word[0] == s->word[1];
    switch (s->state) {
    case HASH:
        if (equal) {
            atomic_store(&comm->ctx.engine.compared, s->layers);
            *done = true;
            return TAUT_OK;
        }
        s->state = LINES;
        compare_line(comm, 0);
        return TAUT_OK;
    case LINES:
        if (equal && s->at >= settings_lines(s) + s->layers)
            return taut__fail(TAUT_E_MISMATCH, "ranks differ in their settings or layers, and no line of them shows "
                                               "where: do all run the same library?");
        if (equal) {
            compare_line(comm, s->at + 1); /* one of them differs */
            return TAUT_OK;
        }
        s->state = ZERO;
        ask(comm, &s->zero, comm->ctx.all.rank == 0);
        return TAUT_OK;
    case ZERO:
        s->state = OTHER;
        ask(comm, &s->other, strcmp(line(comm, s->at, text), s->zero.text) != 0);
        return TAUT_OK;
    default: return mismatch(s);
    }
}

static void handshake_stop(taut__job *job) { taut__small_allreduce_cancel(&handshake_of(job)->exchange); }
static int  handshake_waiting_for(const taut__job *job, int *hops)
{
    return taut__small_allreduce_waiting_for(&((const taut__handshake *)(const void *)job)->exchange, hops);
}

static taut__job *job_of(taut_comm *comm)
{
    taut__job *job = &comm->handshake.job;
    comm->handshake.comm = comm;
    job->name = comm->handshake.step ? "comparing what ranks did in this step" : "comparing the layers of all ranks";
    job->step = handshake_step, job->stop = handshake_stop, job->waiting_for = handshake_waiting_for;
    return job;
}

taut_status taut__handshake_begin(taut_comm *comm)
{
    taut__handshake *s = &comm->handshake;
    if (s->layers == comm->layers) return TAUT_OK; /* being compared, or done */
    TAUT_TRY(taut__fuse_close_all(comm));
    TAUT_TRY(taut__handshake_wait(comm)); /* a comparison of earlier layers */
    s->layers = comm->layers;
    s->state = HASH;
    compare(comm, hash_lines(comm));
    taut__engine_start(&comm->ctx.engine, job_of(comm), false);
    return TAUT_OK;
}

taut_status taut__handshake_step(taut_comm *comm)
{
    taut__handshake *s = &comm->handshake;
    s->step = true;
    s->state = LINES;
    compare_line(comm, 0);
    taut__engine_start(&comm->ctx.engine, job_of(comm), true);
    return taut__handshake_wait(comm);
}

taut_status taut__handshake_wait(taut_comm *comm) { return taut__engine_wait(&comm->ctx.engine, &comm->handshake.job); }
