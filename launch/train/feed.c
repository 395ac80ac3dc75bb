/* feed.c : see feed.h. */
#include "feed.h"
#include "../json.h"
#include "ranks.h"
#include "shards.h"
#include <stdlib.h>
#include <string.h>

#ifdef TAUT_HAVE_ZSTD
#include "../../comm/taut_data.h"
#else
typedef struct taut_loader taut_loader;
#endif

struct feed {
    const data     *d;
    const options  *o;
    taut_loader    *loader;
    uint64_t        taken; /* samples, by all ranks in all steps so far */
    const uint64_t *id;    /* of the last batch; the loader's */
    size_t          n;
};

int64_t feed_most(const data *d, const options *o)
{
    return d->shards ? (int64_t)(d->shards->f.batch / (uint64_t)ranks_count() + 1) : o->batch;
}

#ifdef TAUT_HAVE_ZSTD

static int open_loader(feed *f, int64_t first)
{
    const struct shards *s = f->d->shards;
    const char          *fields[3] = {s->f.input, s->f.label, s->f.soft};
    taut_loader_config   c = TAUT_LOADER_INIT;
    taut_status          status;
    c.shards = (const char *const *)s->path, c.nshards = s->n;
    c.plan = f->o->plan;
    c.rounds = s->f.rounds, c.batch = s->f.batch;
    c.fields = fields, c.nfields = s->f.text ? 1 : s->f.soft[0] ? 3 : 2;
    c.first_step = (uint64_t)first;
    c.cache_bytes = f->o->data_cache;
    c.threads = (int32_t)f->o->data_threads, c.ahead = (int32_t)f->o->data_ahead,
    c.read_delay_us = (int32_t)f->o->read_delay_us;
    if (s->f.state_bytes) c.state = s->f.state, c.state_bytes = s->f.state_bytes;
    status = ranks_loader(&c, &f->loader);
    if (status == TAUT_OK) return 0;
    return ranks_agree(fault_status(status == TAUT_E_RANGE || status == TAUT_E_INVALID ? CLI_USAGE : CLI_FAILED,
                                    "--data", taut_last_error(), status));
}

static int fill_from_loader(feed *f, data_room *room)
{
    const data *d = f->d;
    taut_batch  b = TAUT_BATCH_INIT;
    taut_status s = taut_loader_next(f->loader, &b);
    uint64_t    shown;
    bool        weighted;
    if (s != TAUT_OK) return fault_status(CLI_FAILED, "--data", taut_last_error(), s);
    if (b.end) return fault(CLI_FAILED, "--data: the plan has ended before the last step");
    f->id = b.id, f->n = (size_t)b.n;
    weighted = b.n * (uint64_t)ranks_count() != b.all;
    for (uint64_t i = 0; i < b.n; i++) {
        if (b.bytes[0][i] < (size_t)d->shards->f.width)
            return fault(CLI_FAILED, "--data: sample %llu is empty: nothing to train on", (unsigned long long)b.id[i]);
        shards_put(d, room, i, b.data[0][i], b.bytes[0][i], d->text ? 0 : shards_label(b.data[1][i], b.bytes[1][i]),
                   b.id[i] * 0x9e3779b97f4a7c15u + b.round);
        if (room->soft)
            memcpy(room->soft + i * (size_t)d->classes, b.data[2][i], (size_t)d->classes * sizeof *room->soft);
        weighted = weighted || b.weight[i] != 1;
    }
    room->batch.soft = room->soft;
    shown = b.n ? b.n : 1; /* nobody for this rank: what the room holds, with weight 0 */
    for (uint64_t k = 0; k < shown * d->targets; k++)
        room->weights[k] = b.n ? b.weight[k / d->targets] * (float)((double)b.n * ranks_count() / (double)b.all) : 0;
    room->batch.weights = weighted || b.n == 0 ? room->weights : NULL;
    room->batch.shape[0] = (int64_t)shown;
    room->batch.n_targets = shown * d->targets;
    return 0;
}

int feed_place(const feed *f, checkpoint_place *at)
{
    _Static_assert((int)TAUT_LOADER_STATE <= (int)MANIFEST_DATA_MAX, "a manifest has room for it");
    at->samples = f->taken;
    at->data_bytes = 0;
    if (!f->loader) return 0;
    taut_status s = taut_loader_state(f->loader, at->data, sizeof at->data, &at->data_bytes);
    return s == TAUT_OK ? 0 : fault_status(CLI_FAILED, "--checkpoint", taut_last_error(), s);
}

json_t *feed_report(feed *f, double seconds)
{
    taut_loader_stats s = {.size = sizeof s};
    double            sum[6];
    json_t           *j;
    if (!f->loader) return NULL;
    taut_loader_get_stats(f->loader, &s);
    sum[0] = s.stall_s - s.first_stall_s, sum[1] = (double)s.used_bytes, sum[2] = (double)s.read_bytes,
    sum[3] = (double)s.decoded_bytes;
    sum[4] = s.first_stall_s, sum[5] = (double)s.decodes;
    ranks_sum(sum, 6);
    j = json_object();
    jsn_text(j, "plan", f->d->shards->f.rule);
    jsn_int(j, "samples", f->d->shards->f.samples);
    jsn_int(j, "round_samples", f->d->shards->f.round);
    jsn_int(j, "rounds", f->d->shards->f.rounds);
    jsn_int(j, "global_batch", f->d->shards->f.batch);
    jsn_real(j, "stall_ms", s.steps > 1 ? 1e3 * sum[0] / ranks_count() / (double)(s.steps - 1) : 0);
    jsn_real(j, "stall_share", seconds > 0 ? sum[0] / ranks_count() / seconds : 0);
    jsn_real(j, "first_stall_ms", 1e3 * sum[4] / ranks_count());
    jsn_int(j, "used_bytes", (uint64_t)sum[1]);
    jsn_int(j, "read_bytes", (uint64_t)sum[2]);
    jsn_int(j, "decoded_bytes", (uint64_t)sum[3]);
    jsn_int(j, "decodes", (uint64_t)sum[5]);
    jsn_real(j, "decoded_per_used", sum[1] > 0 ? sum[3] / sum[1] : 0);
    jsn_real(j, "decodes_per_block", s.node_blocks ? (double)s.node_decodes / (double)s.node_blocks : 0);
    jsn_int(j, "sharing_ranks", (uint64_t)s.shared);
    return j;
}

static void close_loader(taut_loader *l) { taut_loader_close(l); }

#else

static int open_loader(feed *f, int64_t first)
{
    (void)first;
    return fault(CLI_FAILED, "--data=%s: built without zstd", f->o->data);
}
static int fill_from_loader(feed *f, data_room *room)
{
    (void)room;
    return fault(CLI_FAILED, "--data=%s: built without zstd", f->o->data);
}
int feed_place(const feed *f, checkpoint_place *at)
{
    at->samples = f->taken, at->data_bytes = 0;
    return 0;
}
json_t *feed_report(feed *f, double seconds)
{
    (void)f, (void)seconds;
    return NULL;
}
static void close_loader(taut_loader *l) { (void)l; }

#endif

int feed_open(feed **f, const data *d, const options *o, const checkpoint_place *at)
{
    int code;
    *f = calloc(1, sizeof **f);
    if ((code = ranks_agree(*f ? 0 : fault(CLI_FAILED, "out of memory"))) != 0) return code;
    (*f)->d = d;
    (*f)->o = o;
    (*f)->taken = at->samples;
    return d->shards ? open_loader(*f, at->step) : 0;
}

void feed_close(feed *f)
{
    if (!f) return;
    close_loader(f->loader);
    free(f);
}

const uint64_t *feed_ids(const feed *f, size_t *n)
{
    *n = f->n;
    return f->id;
}

int feed_fill(feed *f, data_room *room)
{
    uint64_t batch = (uint64_t)f->o->batch, first = f->taken + (uint64_t)ranks_rank() * batch;
    f->taken += f->d->shards ? f->d->shards->f.batch : (uint64_t)ranks_count() * batch;
    if (f->loader && f->d->shards) return fill_from_loader(f, room);
    data_fill_train(f->d, room, f->o->seed, first, f->o->batch);
    return 0;
}
