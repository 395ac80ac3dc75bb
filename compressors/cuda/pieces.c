/* pieces.c : see pieces.h. */
#include "pieces.h"
#include <pthread.h>
#include <string.h>

taut_status taut__scratch(const taut__cuda *c, taut_place place, size_t bytes, void **p)
{
    *p = NULL;
    return bytes ? c->device->alloc_in(bytes, p, place.stream) : TAUT_OK;
}

taut_status taut__on_device(const taut__cuda *c, const taut_codec *codec, const void *p, const char *what)
{
    char name[64];
    if (!p) return TAUT_OK;
    taut__snprintf(name, sizeof name, "%s: %s", codec->name, what);
    return c->device->check(p, true, name);
}

taut_status taut__payload_room(const taut_codec *codec, const taut_piece *p)
{
    const taut_call *c = &p->call;
    size_t           need = c->spec->stages > 1 && codec != c->spec->stage[c->stage].codec
                                ? taut__spec_capacity(c->spec, c->tensor, c->n)
                                : codec->capacity(taut__stage(c), c->tensor, c->n);
    return p->cap >= need ? TAUT_OK
                          : taut__fail(TAUT_E_CAPACITY, "%s: %zu bytes given, %zu needed", codec->name, p->cap, need);
}

static bool makes_payload(taut__op op)
{
    return op == TAUT_OP_ENCODE || op == TAUT_OP_ENCODE_EXACT || op == TAUT_OP_PACK || op == TAUT_OP_QUANTIZE_PACK ||
           op == TAUT_OP_SUM_PACK;
}

static bool needs_outcome(taut__op op)
{
    return op >= TAUT_OP_ENCODE && op <= TAUT_OP_SUM_PACK && op != TAUT_OP_DEQUANTIZE;
}

static taut_status check(const taut__device_codec *d, const taut__launch *l, const taut_piece *p)
{
    if (!d->any_spec && taut__stage(&p->call)->codec != l->codec)
        return taut__fail(TAUT_E_UNSUPPORTED, "%s: %s: a device needs the spec, not only the payload", l->codec->name,
                          taut__op_name(l->op));
    if (taut__ceil_div(p->call.n, 64) > INT32_MAX)
        return taut__fail(TAUT_E_RANGE, "%s: %s: %zu elements: too many for one launch", l->codec->name,
                          taut__op_name(l->op), p->call.n);
    TAUT_TRY(taut__on_device(l->c, l->codec, p->src, "src"));
    TAUT_TRY(taut__on_device(l->c, l->codec, p->dst, "dst"));
    TAUT_TRY(taut__on_device(l->c, l->codec, p->err, "err"));
    TAUT_TRY(taut__on_device(l->c, l->codec, p->codes, "codes"));
    TAUT_TRY(taut__on_device(l->c, l->codec, p->payload, "payload"));
    TAUT_TRY(taut__on_device(l->c, l->codec, p->stats, "statistics"));
    TAUT_TRY(taut__on_device(l->c, l->codec, p->earlier, "statistics"));
    TAUT_TRY(taut__on_device(l->c, l->codec, p->calibration, "calibration"));
    TAUT_TRY(taut__on_device(l->c, l->codec, p->call.calibration, "calibration"));
    if (p->call.tensor->scale_n) TAUT_TRY(taut__on_device(l->c, l->codec, p->call.tensor->scale, "scale"));
    if (!p->outcome && needs_outcome(l->op))
        return taut__fail(TAUT_E_INVALID, "%s: %s: outcome is NULL", l->codec->name, taut__op_name(l->op));
    TAUT_TRY(taut__on_device(l->c, l->codec, p->outcome, "outcome"));
    return makes_payload(l->op) ? taut__payload_room(l->codec, p) : TAUT_OK;
}

static taut__cuda_job job_of(const taut_piece *p)
{
    const taut_call   *c = &p->call;
    const taut_tensor *t = c->tensor;
    return (taut__cuda_job){.n = c->n,
                            .first = c->first,
                            .elems = t->elems,
                            .seed = c->seed,
                            .src = p->src,
                            .err = p->err,
                            .dst = p->dst,
                            .codes = p->codes,
                            .payload = p->payload,
                            .len = p->outcome ? &p->outcome->bytes : NULL,
                            .flags = p->outcome ? &p->outcome->flags : NULL,
                            .scale = t->scale_n ? t->scale : NULL,
                            .stride = t->scale_n <= 1          ? 0
                                      : t->scale_n == t->elems ? 1
                                                               : t->cols,
                            .stats = p->stats,
                            .step = c->calibration ? c->calibration->f : NULL,
                            .turned = c->turned,
                            .raw = c->calibration ? &c->calibration->raw : NULL,
                            .earlier = p->earlier,
                            .calibration = p->calibration};
}

/* The same parameters, apart from the error aimed at, which no kernel but calibrate's looks at. */
static bool alike(taut__op op, const taut_codec *codec, const taut_piece *p, const taut_piece *q)
{
    const taut_call  *a = &p->call, *b = &q->call;
    const taut_stage *s = taut__stage(a), *t = taut__stage(b);
    if (p->limit != q->limit || p->peer_count != q->peer_count || p->scale_by != q->scale_by || p->ranks != q->ranks)
        return false;
    for (uint32_t k = 0; k < codec->n_keys; k++)
        if (s->value[k] != t->value[k] && (op == TAUT_OP_CALIBRATE || k + 1 != codec->error_key)) return false;
    return s->codec == t->codec && a->brief == b->brief;
}

/* The lists of peers, which came on the host: all payloads of a job, then all lengths. *there: scratch, or NULL. */
static taut_status bring_peers(taut__launch *l, size_t n, void **there)
{
    const void *list[TAUT__LAUNCH_MAX * 2];
    size_t      count = l->pieces[0].peer_count, at = 0;
    *there = NULL;
    if (l->op != TAUT_OP_SUM_PACK || count == 0) return TAUT_OK;
    if (count > TAUT__GRID_PEERS)
        return taut__fail(TAUT_E_RANGE, "%s: %zu payloads: must be 1..%d", l->codec->name, count, TAUT__GRID_PEERS);
    TAUT_TRY(taut__scratch(l->c, l->place, n * 2 * count * sizeof *list, there));
    for (size_t i = 0; i < n; i++) {
        const void **base = (const void **)*there + i * 2 * count;
        l->jobs[i].peers = (const uint8_t *const *)base;
        l->jobs[i].peer_len = (const uint64_t *const *)(base + count);
        for (size_t k = 0; k < count; k++) {
            TAUT_TRY(taut__on_device(l->c, l->codec, l->pieces[i].peers[k], "payload of a peer"));
            list[at + k] = l->pieces[i].peers[k];
            list[at + count + k] = &l->pieces[i].peer_bytes[k]->bytes;
        }
        at += 2 * count;
        if (at + 2 * count <= sizeof list / sizeof *list && i + 1 < n) continue;
        size_t begin = (i + 1) * 2 * count - at;
        TAUT_TRY(l->c->device->put((const void **)*there + begin, list, at * sizeof *list, l->place.stream));
        at = 0;
    }
    l->b.peer_count = (uint32_t)count;
    return TAUT_OK;
}

static taut_status launch(const taut__device_codec *d, taut__launch *l, size_t n)
{
    taut__cuda_job  *jobs = l->jobs;
    taut__cuda_batch zero = {.count = (uint32_t)n, .factor = 1, .dtype = TAUT_F32};
    void            *there = NULL, *work = NULL, *peers = NULL;
    l->b = zero;
    for (size_t i = 0; i < n; i++) {
        TAUT_TRY(check(d, l, &l->pieces[i]));
        jobs[i] = job_of(&l->pieces[i]);
        if (d->fill) TAUT_TRY(d->fill(l, &l->pieces[i], &jobs[i]));
    }
    l->b.units = taut__cuda_number(jobs, n, d->unit);
    l->b.work_bytes = d->work ? d->work(l) : 0;
    taut_status s = taut__scratch(l->c, l->place, n > 1 ? n * sizeof *jobs : 0, &there);
    if (s == TAUT_OK) s = taut__scratch(l->c, l->place, l->b.work_bytes, &work);
    if (s == TAUT_OK) s = bring_peers(l, n, &peers);
    if (s == TAUT_OK && n > 1) s = l->c->device->put(there, jobs, n * sizeof *jobs, l->place.stream);
    l->b.jobs = there;
    l->b.work = work;
    l->b.one = jobs[0];
    if (s == TAUT_OK) s = d->run(l);
    l->c->device->release_in(work, l->place.stream);
    l->c->device->release_in(there, l->place.stream);
    l->c->device->release_in(peers, l->place.stream);
    return s;
}

taut_status taut__launch_pieces(const taut__device_codec *d, taut__op op, const taut_codec *codec,
                                const taut_piece *pieces, size_t n, taut_place place)
{
    taut__cuda_job jobs[TAUT__LAUNCH_MAX];
    taut__launch   l = {.c = taut__cuda_get(NULL), .place = place, .op = op, .codec = codec, .jobs = jobs};
    if (!l.c) return taut__fail(TAUT_E_UNSUPPORTED, "%s: %s: no CUDA device", codec->name, taut__op_name(op));
    TAUT_TRY(l.c->device->use(place.device));
    for (size_t i = 0, m; i < n; i += m) {
        for (m = 1; m < TAUT__LAUNCH_MAX && i + m < n && alike(op, codec, &pieces[i], &pieces[i + m]);) m++;
        l.pieces = pieces + i;
        l.stage = taut__stage(&pieces[i].call);
        TAUT_TRY(launch(d, &l, m));
    }
    return TAUT_OK;
}

/* ---- tables that stay on a device ---- */

enum { TABLES_MAX = 64 };
typedef struct table {
    const taut__cuda *c;
    int               device;
    const void       *host;
    void             *there;
} table;
static table           held[TABLES_MAX];
static size_t          tables;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static taut_status bring(const taut__cuda *c, taut_place place, const void *host, size_t bytes, const void **there)
{
    for (size_t i = 0; i < tables; i++)
        if (held[i].c == c && held[i].device == place.device && held[i].host == host) {
            *there = held[i].there;
            return TAUT_OK;
        }
    if (tables == TABLES_MAX) return taut__fail(TAUT_E_RANGE, "more than %d tables on devices", TABLES_MAX);
    void *p;
    TAUT_TRY(c->device->alloc(bytes, &p));
    taut_status s = c->device->copy(p, host, bytes, place.stream);
    if (s == TAUT_OK) s = c->device->wait(place.stream); /* once: other streams will read it too */
    if (s != TAUT_OK) {
        c->device->release(p);
        return s;
    }
    held[tables++] = (table){c, place.device, host, p};
    *there = p;
    return TAUT_OK;
}

taut_status taut__device_table(const taut__cuda *c, taut_place place, const void *host, size_t bytes,
                               const void **there)
{
    *there = NULL;
    pthread_mutex_lock(&lock);
    taut_status s = bring(c, place, host, bytes, there);
    pthread_mutex_unlock(&lock);
    return s;
}

void taut__device_tables_release(void)
{
    pthread_mutex_lock(&lock);
    while (tables) held[tables - 1].c->device->release(held[tables - 1].there), tables--;
    pthread_mutex_unlock(&lock);
}
