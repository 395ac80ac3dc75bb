/* mock_ops.c : the codecs' operations on the mock device (mock_space.h): the host's own, run late, in stream order, on the device's addresses. */
#include "mock_work.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic size_t calls, joined;
size_t                mock_calls(void) { return atomic_load(&calls); }
size_t                mock_calls_joined(void) { return atomic_load(&joined); }

enum { MOST_PEERS = 32 };
typedef struct batch { /* a copy: what the caller gave is his again when enqueue returns */
    taut__op          op;
    const taut_codec *codec;
    size_t            n;
    struct one {
        const uint8_t      *peers[MOST_PEERS];
        const taut_outcome *peer_bytes[MOST_PEERS];
        taut_piece          piece;
        taut_spec           spec;
        taut_tensor         tensor;
    } each[];
} batch;

/* Not NULL, and so on: what an operation does not name it may be given all the same. */
static void translate(taut_piece *p, taut_tensor *t, bool *bad)
{
    t->scale = mock_reach(t->scale, bad);
    p->call.calibration = mock_reach(p->call.calibration, bad);
    p->src = mock_reach(p->src, bad), p->dst = mock_reach(p->dst, bad), p->err = mock_reach(p->err, bad),
    p->payload = mock_reach(p->payload, bad);
    p->outcome = mock_reach(p->outcome, bad), p->codes = mock_reach(p->codes, bad),
    p->stats = mock_reach(p->stats, bad);
    p->earlier = mock_reach(p->earlier, bad), p->calibration = mock_reach(p->calibration, bad),
    p->factor = mock_reach(p->factor, bad);
    p->call.place = (taut_place){0};
}

static taut_status run_batch(mock_work *w)
{
    batch *b = w->data;
    for (size_t i = 0; i < b->n; i++) {
        struct one *o = &b->each[i];
        bool        bad = false;
        if (o->piece.call.spec) o->piece.call.spec = &o->spec;
        if (o->piece.call.tensor) o->piece.call.tensor = &o->tensor;
        translate(&o->piece, &o->tensor, &bad);
        for (uint32_t k = 0; k < o->piece.peer_count; k++)
            o->peers[k] = mock_reach(o->peers[k], &bad), o->peer_bytes[k] = mock_reach(o->peer_bytes[k], &bad);
        o->piece.peers = o->peers, o->piece.peer_bytes = o->peer_bytes;
        if (bad)
            return taut__fail(TAUT_E_DEVICE, "mock device: %s: an address that is not its own", taut__op_name(b->op));
        taut__run_piece(b->op, b->codec, b->codec->ops[TAUT_HOST], &o->piece); /* what it says is in the outcome */
    }
    return TAUT_OK;
}

static taut_status mock_enqueue(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n,
                                taut_place place)
{
    mock_use(place.device);
    MOCK_FAIL_IF(MOCK_ENQUEUE, TAUT_E_DEVICE, taut__op_name(op));
    batch *b = malloc(sizeof *b + n * sizeof *b->each);
    mock_ensure(b != NULL, "out of memory");
    *b = (batch){.op = op, .codec = codec, .n = n};
    bool several = false;
    for (size_t i = 1; i < n; i++) several |= pieces[i].call.tensor != pieces[0].call.tensor;
    atomic_fetch_add(&calls, 1), atomic_fetch_add(&joined, several);
    for (size_t i = 0; i < n; i++) {
        b->each[i].piece = pieces[i];
        if (pieces[i].call.spec) b->each[i].spec = *pieces[i].call.spec;
        b->each[i].tensor = pieces[i].call.tensor ? *pieces[i].call.tensor : (taut_tensor){0};
        mock_ensure(((uintptr_t)pieces[i].payload & 15) == 0, "a payload that is not aligned to 16 bytes");
        mock_ensure(pieces[i].peer_count <= MOST_PEERS, "too many peers");
        if (pieces[i].peer_count)
            memcpy(b->each[i].peers, pieces[i].peers, pieces[i].peer_count * sizeof *pieces[i].peers);
        if (pieces[i].peer_count)
            memcpy(b->each[i].peer_bytes, pieces[i].peer_bytes, pieces[i].peer_count * sizeof *pieces[i].peer_bytes);
    }
    mock_enqueue_work(place, (mock_work){.run = run_batch, .data = b, .data_bytes = sizeof *b + n * sizeof *b->each});
    return TAUT_OK;
}

/* The state of stateful codecs is the host's own, which only the device's thread looks at while work is under way. */
enum { CODECS = 32 };
static taut_codec_ops    tables[CODECS];
static const taut_codec *owner[CODECS];

static taut_status mock_state_create(const taut_stage *s, const taut_tensor *t, uint64_t seed, taut_place place,
                                     taut_codec_state **st)
{
    (void)place;
    MOCK_FAIL_IF(MOCK_ALLOC, TAUT_E_NOMEM, "state_create");
    return s->codec->ops[TAUT_HOST]->state_create(s, t, seed, (taut_place){0}, st);
}

void mock_ops_register(bool on)
{
    const taut_codec *codec;
    for (size_t i = 0; (codec = taut__codec_at(i)) != NULL; i++) {
        const taut_codec_ops *host = codec->ops[TAUT_HOST];
        mock_ensure(i < CODECS, "too many codecs");
        owner[i] = codec;
        for (int op = 0; op < TAUT_OPS; op++) tables[i].enqueue[op] = mock_enqueue;
        tables[i].state_create = host->state_create ? mock_state_create : NULL;
        tables[i].state_destroy = host->state_destroy;
        tables[i].state_save = host->state_save;
        tables[i].state_load = host->state_load;
        taut__ops_register(codec, TAUT_SPACE_TEST, on ? &tables[i] : NULL);
    }
}
