/* seal.c : before layers are first used, all ranks compare what they have registered, and their settings: one exchange
 * of hashes. Only if they differ do ranks send rank 0 the texts, and learn from it which layer is the first to differ. */
#include "communicator.h"
#include <stdio.h>
#include <string.h>

enum { WORDS = 2, LINE = 320 }; /* AND and OR of the hash */

static uint64_t hash_text(uint64_t h, const char *s)
{
    for (; *s; s++) h = taut__seed(h, (unsigned char)*s);
    return taut__seed(h, '\n');
}

/* Line 0: settings on which the messages depend. Line i+1: layer i. */
static const char *line(const taut_comm *comm, size_t i, char *dst)
{
    const taut_config *c = &comm->set.c;
    if (i > comm->layers) return strcpy(dst, "nothing");
    if (i > 0) return taut__layer_text(comm->layer[i - 1], dst, LINE);
    snprintf(dst, LINE, "settings wire=%d codec=%.80s algorithm=%s hierarchy=%s feedback=%s seed=%llu slice_kib=%u bucket_kib=%u "
             "small_elems=%u budget=%.60s", TAUT_WIRE_VERSION, c->codec, c->algorithm, c->hierarchy, c->feedback,
             (unsigned long long)c->seed, c->slice_kib, c->bucket_kib, c->small_elems, c->budget);
    return dst;
}

static uint64_t hash_lines(const taut_comm *comm, size_t n)
{
    char     text[LINE];
    uint64_t h = 0;
    for (size_t i = 0; i < n; i++) h = hash_text(h, line(comm, i, text));
    return h;
}

/* Does every rank hold the same value? */
static taut_status same(taut_comm *comm, uint64_t value, bool *equal)
{
    static const taut_mixed mixed = {0, 1};
    uint64_t                word[WORDS] = {value, value}, in[WORDS];
    taut_exchange           x;
    taut__exchange_begin(&x, &comm->all, TAUT_TAG_SEAL, word, in, sizeof word, taut__combine_mixed, &mixed);
    TAUT_TRY(taut__engine_exchange(&comm->engine, &x, "comparing the layers of all ranks"));
    comm->control_sent += sizeof word;
    *equal = word[0] == word[1];
    return TAUT_OK;
}

/* The line of the first rank that differs from rank 0, to everybody: every rank enters its line where the ranks before it have
 * none that differs. Word 0: rank+1 of the owner, then the text. */
typedef struct differing {
    uint64_t rank;
    char     text[LINE];
} differing;

static void keep_lowest(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx)
{
    differing       *a = acc;
    const differing *b = in;
    (void)in_first, (void)ctx;
    if (b->rank < a->rank) memcpy(a, b, bytes);
}

static taut_status lowest(taut_comm *comm, differing *d)
{
    differing     in;
    taut_exchange x;
    taut__exchange_begin(&x, &comm->all, TAUT_TAG_SEAL, d, &in, sizeof *d, keep_lowest, NULL);
    return taut__engine_exchange(&comm->engine, &x, "finding the layer that differs");
}

static taut_status explain(taut_comm *comm)
{
    char      text[LINE];
    size_t    i = 0;
    bool      equal = true;
    differing zero, other;
    while (equal) { /* the first line that differs; there is one */
        line(comm, i, text);
        TAUT_TRY(same(comm, hash_text(0, text), &equal));
        i += equal;
    }
    zero = (differing){.rank = (uint64_t)comm->all.rank};
    memcpy(zero.text, text, sizeof text);
    TAUT_TRY(lowest(comm, &zero)); /* rank 0's */
    other = (differing){.rank = strcmp(text, zero.text) ? (uint64_t)comm->all.rank : UINT64_MAX};
    memcpy(other.text, text, sizeof text);
    TAUT_TRY(lowest(comm, &other));
    char why[2 * LINE + 64];
    if (i == 0) snprintf(why, sizeof why, "rank 0 has %s, rank %d has %s", zero.text, (int)other.rank, other.text);
    else snprintf(why, sizeof why, "layer %zu: rank 0 has %s, rank %d has %s", i - 1, zero.text, (int)other.rank, other.text);
    return taut__fail(TAUT_E_MISMATCH, "%s", why);
}

taut_status taut__seal(taut_comm *comm)
{
    bool equal;
    for (size_t b = 0; b < comm->buckets; b++) {
        taut_status s = taut__fuse_close(comm->bucket[b]);
        if (s != TAUT_OK) return taut__engine_fail(&comm->engine, s, taut_last_error());
    }
    TAUT_TRY(same(comm, hash_lines(comm, comm->layers + 1), &equal));
    taut_status s = equal ? TAUT_OK : explain(comm);
    if (s == TAUT_OK && comm->autom && comm->sealed == 0) s = comm->hooks->open(comm->autom);
    if (s != TAUT_OK) return taut__engine_fail(&comm->engine, s, taut_last_error());
    comm->sealed = comm->layers;
    return TAUT_OK;
}
