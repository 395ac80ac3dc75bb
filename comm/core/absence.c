/* absence.c : a rank that will never do what others wait for.
 *
 * A rank that waits while nothing moves asks the ranks that its operations wait for: "I wait for call number c of layer l", or "for the
 * comparison of n layers". Who is asked knows whether that can still come to pass:
 *
 *   - Inside taut_step_end() a program starts nothing until all ranks are there. The one who asks, in the same step, is not, or waits there for that
 *     very layer. So what this rank has not started by now it never will: both have failed, with the layer's name.
 *   - Anywhere else the answer is silence: this rank may yet come to it. The question comes again, at last every second.
 *   - If this rank has started it, and its bucket has not begun a round, since not all members have been started and this rank waits for something
 *     else, it begins one (fusion.c).
 *
 * Whatever a rank waits for, somebody at the end of the chain of ranks waiting for each other is computing, or can tell. A question
 * costs nothing where nobody is late for a tenth of a second.
 *
 * A rank that destroys its communicator says so to all others, and how many collectives it started and steps it ended. One who starts
 * more, or ends more steps, waits in vain. That is true for ever, whenever the word arrives; so is what is told to who asks. */
#include "communicator.h"
#include <stdio.h>

enum { HAS_LEFT = TAUT_WORD_LEAVES, WAITS_FOR_LAYER, WAITS_FOR_HANDSHAKE };

static uint64_t starts_of(const taut_layer *l) { return atomic_load_explicit(&l->starts, memory_order_relaxed); }

/* Step ends that this rank has come out of. What is said in one step tells nothing in another: a rank may ask in the next one while the
 * last message of this one is still on its way to who is asked. */
static uint64_t completed(const taut_comm *comm) { return comm->ends - atomic_load(&comm->ending); }

/* ---- asking: with the engine's lock held ---- */

static void say(taut_comm *comm, int peer, taut__notice *word, const char *text)
{
    word->rank = comm->ctx.all.rank;
    snprintf(word->text, sizeof word->text, "%.400s", text);
    comm->ctx.t->ops->tell(comm->ctx.t, peer, word);
}

static void ask_for_layer(taut_comm *comm, int peer, const taut_layer *l)
{
    taut__notice word = {
        .word = WAITS_FOR_LAYER, .index = (int32_t)l->index, .count = starts_of(l), .steps = completed(comm)};
    say(comm, peer, &word, l->name);
}

/* Of the first n layers, those that the program has registered; last: of them, or NULL. */
static size_t registered(const taut_comm *comm, size_t n, const taut_layer **last)
{
    size_t own = 0;
    *last = NULL;
    for (size_t i = 0; i < n; i++) {
        if (comm->layer[i]->bundle) continue;
        *last = comm->layer[i];
        own++;
    }
    return own;
}

static void ask_about(taut_comm *comm, const taut__job *job)
{
    int hops = 0, peer = job->waiting_for ? job->waiting_for(job, &hops) : -1;
    if (peer < 0) return;
    bool              handshake = job == &comm->handshake.job;
    const taut_layer *l = job->layer ? job->layer : handshake ? NULL : taut__fuse_wanted(job);
    if (l) ask_for_layer(comm, peer, l);
    if (!handshake || comm->handshake.step) return;
    const taut_layer *last;
    size_t            own = registered(comm, comm->handshake.layers, &last);
    taut__notice      word = {.word = WAITS_FOR_HANDSHAKE, .index = (int32_t)own, .steps = completed(comm)};
    say(comm, peer, &word, last ? last->name : "");
}

/* Has somebody left without whom this cannot go on? */
static taut_status check_gone(const taut_comm *comm, const char *what)
{
    const taut__gone *g = &comm->gone;
    if (g->rank < 0) return TAUT_OK;
    if (atomic_load(&comm->ending) && comm->ends > g->steps)
        return taut__fail(
            TAUT_E_PEER, "taut_step_end number %llu%s%s: rank %d has destroyed its communicator after %llu",
            (unsigned long long)comm->ends, *what ? ", " : "", what, g->rank, (unsigned long long)g->steps);
    if (comm->starts > g->starts)
        return taut__fail(TAUT_E_PEER, "%s: rank %d has destroyed its communicator, and takes no part",
                          *what ? what : "a collective", g->rank);
    return TAUT_OK;
}

taut_status taut__absence_ask(void *ctx, const taut__job *waited, bool soon)
{
    taut_comm *comm = ctx;
    char       what[160] = "";
    if (soon) return ask_about(comm, waited), TAUT_OK;
    if (waited) snprintf(what, sizeof what, waited->layer ? "layer '%.128s'" : "%.128s", waited->name);
    TAUT_TRY(check_gone(comm, what));
    for (const taut__job *job = comm->ctx.engine.active; job; job = job->next) ask_about(comm, job);
    return TAUT_OK;
}

taut_status taut__absence_ask_all(taut_comm *comm, const taut_layer *l)
{
    char what[160];
    snprintf(what, sizeof what, "layer '%s'", l->name);
    taut__engine_hold(&comm->ctx.engine);
    taut_status s = check_gone(comm, what);
    ask_for_layer(comm, -1, l);
    taut__engine_release(&comm->ctx.engine);
    return taut__engine_tell(&comm->ctx.engine, s);
}

/* ---- answering: with the engine's lock held. Layers are looked at only while the program is inside taut_step_end ---- */

static taut_status answer_layer(const taut_comm *comm, const taut__notice *q)
{
    if (!atomic_load(&comm->ending) || q->steps != completed(comm)) return TAUT_OK;
    if (q->index < 0 || (size_t)q->index >= comm->layers)
        return taut__fail(TAUT_E_MISMATCH, "rank %d waits for layer '%s', which rank %d has not registered", q->rank,
                          q->text, comm->ctx.all.rank);
    if (starts_of(comm->layer[q->index]) >= q->count) return TAUT_OK;
    return taut__fail(TAUT_E_MISMATCH, "rank %d waits for layer '%s', which rank %d has not started in this step",
                      q->rank, q->text, comm->ctx.all.rank);
}

static taut_status answer_handshake(const taut_comm *comm, const taut__notice *q)
{
    const taut_layer *last;
    size_t            own = registered(comm, comm->layers, &last);
    if (!atomic_load(&comm->ending) || q->steps != completed(comm) || (size_t)q->index <= own) return TAUT_OK;
    return taut__fail(TAUT_E_MISMATCH,
                      "rank %d has registered %d layers, the last one '%s'; rank %d has registered %zu", q->rank,
                      (int)q->index, q->text, comm->ctx.all.rank, own);
}

static taut_status note_leave(taut_comm *comm, const taut__notice *q)
{
    taut__gone *g = &comm->gone;
    bool        first = g->rank < 0;
    if (first || q->count < g->starts || q->steps < g->steps) g->rank = q->rank;
    g->starts = first || q->count < g->starts ? q->count : g->starts;
    g->steps = first || q->steps < g->steps ? q->steps : g->steps;
    return TAUT_OK;
}

taut_status taut__absence_hear(void *ctx, const taut__notice *word, bool answer)
{
    taut_comm *comm = ctx;
    switch (word->word) {
    case WAITS_FOR_LAYER:
        if (answer) return answer_layer(comm, word);
        taut__fuse_asked(comm, word->index);
        return TAUT_OK;
    case WAITS_FOR_HANDSHAKE: return answer ? answer_handshake(comm, word) : TAUT_OK;
    case HAS_LEFT: return answer ? TAUT_OK : note_leave(comm, word);
    default: return TAUT_OK; /* of a newer version */
    }
}

/* ---- leaving ---- */

static const taut_layer *under_way(const taut_comm *comm)
{
    for (size_t i = 0; i < comm->layers; i++) {
        const taut_layer *l = comm->layer[i];
        if (!l->started) continue; /* and its bucket may not be there yet */
        if (l->bucket ? taut__fuse_holds(l) : atomic_load(&l->reduction.job.state) == TAUT_JOB_RUNNING) return l;
    }
    return NULL;
}

void taut__absence_leave(taut_comm *comm)
{
    char              text[256];
    const taut_layer *l = under_way(comm);
    if (comm->ctx.all.size < 2 || atomic_load(&comm->ctx.engine.failed)) return;
    if (l) {
        snprintf(text, sizeof text, "taut_comm_destroy while layer '%.128s' was under way", l->name);
        taut__engine_fail(&comm->ctx.engine, TAUT_E_PEER, text);
        return;
    }
    taut__notice word = {.word = HAS_LEFT, .count = comm->starts, .steps = comm->ends};
    taut__engine_hold(&comm->ctx.engine);
    say(comm, -1, &word, "");
    taut__engine_release(&comm->ctx.engine);
}
