/* handshake.c : before layers are first used, all ranks compare what they have registered, and their settings: one exchange
 * of hashes, made by a job, so that start() does not wait for anybody. Jobs of layers wait until theirs is sealed. Only if
 * hashes differ do ranks look for the first line that does, and tell each other what it says. */
#include "communicator.h"
#include <stdio.h>
#include <string.h>

enum { HASH, LINES, ZERO, OTHER };

static uint64_t hash_text(uint64_t h, const char *s)
{
    for (; *s; s++) h = taut__seed(h, (unsigned char)*s);
    return taut__seed(h, '\n');
}

/* Line 0: settings on which the messages depend. Line i+1: layer i. */
static const char *line(const taut_comm *comm, size_t i, char *dst)
{
    const taut_config *c = &comm->set.c;
    if (i > comm->handshake.layers) return strcpy(dst, "nothing");
    if (i > 0) return taut__layer_text(comm->layer[i - 1], dst, TAUT_HANDSHAKE_LINE);
    snprintf(dst, TAUT_HANDSHAKE_LINE, "settings wire=%d codec=%.80s algorithm=%s hierarchy=%s feedback=%s seed=%llu slice_kib=%u "
             "bucket_kib=%u small_elems=%u budget=%.60s", TAUT_WIRE_VERSION, c->codec, c->algorithm, c->hierarchy, c->feedback,
             (unsigned long long)c->seed, c->slice_kib, c->bucket_kib, c->small_elems, c->budget);
    return dst;
}

static uint64_t hash_lines(const taut_comm *comm)
{
    char     text[TAUT_HANDSHAKE_LINE];
    uint64_t h = 0;
    for (size_t i = 0; i <= comm->handshake.layers; i++) h = hash_text(h, line(comm, i, text));
    return h;
}

/* ---- exchanges ---- */

static void compare(taut_comm *comm, uint64_t value)
{
    static const taut__mixed mixed = {0, 1};
    taut__handshake              *s = &comm->handshake;
    s->word[0] = s->word[1] = value; /* AND and OR: equal if all ranks hold the same */
    taut__small_allreduce_begin(&s->job.exchange, &comm->all, TAUT_TAG_HANDSHAKE, s->word, s->word_in, sizeof s->word, taut__combine_mixed, &mixed);
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
    *l = (taut__handshake_line){.rank = offer ? (uint64_t)comm->all.rank : UINT64_MAX};
    line(comm, comm->handshake.at, l->text);
    taut__small_allreduce_begin(&comm->handshake.job.exchange, &comm->all, TAUT_TAG_HANDSHAKE, l, &comm->handshake.in, sizeof *l, keep_lowest, NULL);
}

static void compare_line(taut_comm *comm, size_t i)
{
    char text[TAUT_HANDSHAKE_LINE];
    comm->handshake.at = i;
    compare(comm, hash_text(0, line(comm, i, text)));
}

static taut_status mismatch(const taut__handshake *s)
{
    char where[40] = "";
    if (s->at > 0) snprintf(where, sizeof where, "layer %zu: ", s->at - 1);
    return taut__fail(TAUT_E_MISMATCH, "%srank 0 has %s, rank %d has %s", where, s->zero.text, (int)s->other.rank, s->other.text);
}

static taut_status seal_step(taut__job *job, bool *moved, bool *done)
{
    taut_comm *comm = job->comm;
    taut__handshake *s = &comm->handshake;
    bool       over;
    char       text[TAUT_HANDSHAKE_LINE];
    TAUT_TRY(taut__small_allreduce_advance(&job->exchange, &over));
    if (!over) return TAUT_OK;
    *moved = true;
    comm->control_sent += job->exchange.sent;
    bool equal = s->word[0] == s->word[1];
    switch (s->state) {
    case HASH:
        if (equal) {
            atomic_store(&comm->compared, s->layers);
            *done = true;
            return TAUT_OK;
        }
        s->state = LINES;
        compare_line(comm, 0);
        return TAUT_OK;
    case LINES:
        if (equal) {
            compare_line(comm, s->at + 1); /* one of them differs */
            return TAUT_OK;
        }
        s->state = ZERO;
        ask(comm, &s->zero, comm->all.rank == 0);
        return TAUT_OK;
    case ZERO:
        s->state = OTHER;
        ask(comm, &s->other, strcmp(line(comm, s->at, text), s->zero.text) != 0);
        return TAUT_OK;
    default: return mismatch(s);
    }
}

static void seal_stop(taut__job *job) { taut__small_allreduce_cancel(&job->exchange); }
static int  seal_waiting_for(const taut__job *job) { return taut__small_allreduce_waiting_for(&job->exchange); }

static taut_status close_buckets(taut_comm *comm)
{
    for (size_t b = 0; b < comm->buckets; b++) {
        taut_status s = taut__fuse_close(comm->bucket[b]);
        if (s != TAUT_OK) return taut__engine_fail(&comm->engine, s, taut_last_error());
    }
    return TAUT_OK;
}

taut_status taut__handshake_begin(taut_comm *comm)
{
    taut__handshake *s = &comm->handshake;
    if (s->layers == comm->layers) return TAUT_OK; /* being compared, or done */
    TAUT_TRY(close_buckets(comm));
    TAUT_TRY(taut__handshake_wait(comm)); /* a comparison of earlier layers */
    s->job.comm = comm;
    s->job.name = "comparing the layers of all ranks";
    s->job.step = seal_step, s->job.stop = seal_stop, s->job.waiting_for = seal_waiting_for;
    s->job.g = &comm->all;
    s->layers = comm->layers;
    s->state = HASH;
    compare(comm, hash_lines(comm));
    taut__engine_start(&comm->engine, &s->job, false);
    return TAUT_OK;
}

taut_status taut__handshake_wait(taut_comm *comm) { return taut__engine_wait(&comm->engine, &comm->handshake.job); }
