/* score.c : see score.h. */
#include "score.h"
#include "ranks.h"
#include "shards.h"
#include <stdlib.h>
#include <string.h>

#ifdef TAUT_HAVE_ZSTD
#include "../../comm/taut_data.h"

enum { CHUNK = 32, MANY = 1 << 20 }; /* samples of an evaluation; numbers of one sum */

struct score {
    const data       *d;
    const options    *o;
    taut_torch_model *model;
    uint64_t          n;
    double   *seen;   /* of the steps since the last exchange: 1 a visit that was wrong, 1000 one that was right */
    int64_t   window; /* steps between two exchanges: a round */
    uint8_t  *hit;    /* of a batch's targets */
    uint8_t  *right;  /* 1: at the last visit; 2: at some visit */
    uint32_t *forgotten, *visits;
    uint64_t *first,
        *base; /* of each shard in the plan's order: its first number there, and in the order of the paths */
};

/* A plan may have the shards in another order than their paths: rank 0 looks, by hash. */
static int map_shards(score *s)
{
    const struct shards *sh = s->d->shards;
    taut_data_plan      *plan = NULL;
    taut_status          status = TAUT_OK;
    uint64_t             at = 0, samples;
    if (s->o->plan) status = taut_data_plan_load(s->o->plan, &plan);
    for (size_t i = 0; status == TAUT_OK && i < sh->n; i++) { /* the paths' order */
        taut_shard     *shard;
        taut_shard_info info = {.size = sizeof info};
        uint64_t        hash = 0, number = 0;
        if ((status = taut_shard_open(sh->path[i], &shard)) != TAUT_OK) break;
        taut_shard_get_info(shard, &info);
        taut_shard_close(shard);
        size_t k = plan ? 0 : i;
        for (uint64_t before = 0; plan && k < sh->n; k++, before += number) {
            if ((status = taut_data_plan_shard(plan, k, &hash, &number)) != TAUT_OK) break;
            s->first[k] = before;
            if (hash == info.hash) break;
        }
        samples = info.samples;
        if (!plan) s->first[k] = at;
        if (status == TAUT_OK) s->base[k] = at;
        at += samples;
    }
    taut_data_plan_destroy(plan);
    return status == TAUT_OK ? 0 : fault_status(CLI_FAILED, "--score", taut_last_error(), status);
}

static uint64_t in_paths_order(const score *s, uint64_t id)
{
    size_t k = s->d->shards->n - 1;
    while (k > 0 && id < s->first[k]) k--;
    return id - s->first[k] + s->base[k];
}

int score_open(score **to, const data *d, const options *o, taut_torch_model *model)
{
    score      *s;
    const char *why;
    int         code = 0;
    *to = NULL;
    if (!o->score) return 0;
    if (!(s = calloc(1, sizeof *s))) return ranks_agree(fault(CLI_FAILED, "out of memory"));
    s->d = d, s->o = o, s->model = model;
    s->n = d->shards->f.samples;
    s->window = (int64_t)((d->shards->f.round + d->shards->f.batch - 1) / d->shards->f.batch);
    s->seen = calloc(s->n, sizeof *s->seen);
    s->right = calloc(s->n, 1);
    s->forgotten = calloc(s->n, sizeof *s->forgotten);
    s->visits = calloc(s->n, sizeof *s->visits);
    s->first = calloc(d->shards->n + 1, sizeof *s->first);
    s->base = calloc(d->shards->n + 1, sizeof *s->base);
    s->hit = calloc((size_t)(feed_most(d, o) > CHUNK ? feed_most(d, o) : CHUNK) * d->targets, 1);
    if (!s->seen || !s->right || !s->forgotten || !s->visits || !s->hit || !s->first || !s->base)
        code = fault(CLI_FAILED, "--score: out of memory for %llu samples", (unsigned long long)s->n);
    if (!code && taut_torch_keep(model, 1) != TAUT_OK) code = fault(CLI_FAILED, "--score: %s", taut_torch_last_error());
    if (!code && ranks_rank() == 0 && (why = cli_unreplaceable(o->score))) /* which is written when all is done */
        code = fault(CLI_FAILED, "--score=%s: cannot be written: %s", o->score, why);
    if (!code && ranks_rank() == 0) code = map_shards(s);
    if ((code = ranks_agree(code)) != 0) score_close(s);
    else {
        ranks_broadcast(s->first, d->shards->n * sizeof *s->first);
        ranks_broadcast(s->base, d->shards->n * sizeof *s->base);
        *to = s;
    }
    return code;
}

void score_close(score *s)
{
    if (!s) return;
    free(s->seen);
    free(s->right);
    free(s->forgotten);
    free(s->visits);
    free(s->hit);
    free(s->first);
    free(s->base);
    free(s);
}

static bool mostly(const uint8_t *hit, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += hit[i];
    return 2 * sum > n;
}

static void sum_all(double *x, uint64_t n)
{
    for (uint64_t at = 0; at < n; at += MANY) ranks_sum(x + at, (int)(n - at < MANY ? n - at : MANY));
}

/* A round is over: who was right where, on all ranks. Two visits of a sample in one exchange have no order; the right one counts last. */
static void exchange(score *s)
{
    sum_all(s->seen, s->n);
    for (uint64_t i = 0; i < s->n; i++) {
        uint64_t right = (uint64_t)s->seen[i] / 1000, wrong = (uint64_t)s->seen[i] % 1000;
        s->visits[i] += (uint32_t)(right + wrong);
        if (wrong && (s->right[i] & 1)) s->forgotten[i]++, s->right[i] &= 2;
        if (right) s->right[i] = 3;
    }
    memset(s->seen, 0, s->n * sizeof *s->seen);
}

int score_step(score *s, const feed *f, int64_t step)
{
    size_t          n;
    const uint64_t *id;
    if (!s) return 0;
    id = feed_ids(f, &n);
    if (n > 0 && taut_torch_hits(s->model, s->hit) != TAUT_OK)
        return fault(CLI_FAILED, "--score: %s", taut_torch_last_error());
    for (size_t i = 0; i < n; i++)
        s->seen[in_paths_order(s, id[i])] += mostly(s->hit + i * s->d->targets, s->d->targets) ? 1000 : 1;
    if ((step + 1) % s->window == 0) exchange(s);
    return 0;
}

/* ---- the end ---- */

typedef struct rows { /* of one chunk */
    float *loss, *el2n;
} rows;

static int rate_batch(score *s, data_room *room, rows *r, const taut_batch *b, double *value)
{
    size_t targets = s->d->targets;
    for (uint64_t first = 0; first < b->n; first += CHUNK) {
        uint64_t n = b->n - first < CHUNK ? b->n - first : CHUNK;
        for (uint64_t i = 0; i < n; i++) {
            if (b->bytes[0][first + i] < (size_t)s->d->shards->f.width)
                return fault(CLI_FAILED, "--score: sample %llu is empty", (unsigned long long)b->id[first + i]);
            shards_put(s->d, room, i, b->data[0][first + i], b->bytes[0][first + i],
                       s->d->text ? 0 : shards_label(b->data[1][first + i], b->bytes[1][first + i]), 0);
        }
        room->batch.shape[0] = (int64_t)n;
        room->batch.n_targets = n * targets;
        if (taut_torch_rows(s->model, &room->batch, r->loss, r->el2n, NULL) != TAUT_OK)
            return fault(CLI_FAILED, "--score: %s", taut_torch_last_error());
        for (uint64_t i = 0; i < n * targets; i++) {
            value[3 * b->id[first + i / targets]] += (double)r->loss[i] / (double)targets;
            value[3 * b->id[first + i / targets] + 1] += (double)r->el2n[i] / (double)targets;
        }
    }
    return 0;
}

/* All samples once, each rank its slices. */
static int rate_all(score *s, double *value)
{
    const struct shards *sh = s->d->shards;
    const char          *fields[2] = {sh->f.input, sh->f.label};
    taut_loader_config   c = TAUT_LOADER_INIT;
    taut_loader         *l = NULL;
    taut_batch           b = TAUT_BATCH_INIT;
    data_room            room;
    rows        r = {calloc(CHUNK * s->d->targets, sizeof *r.loss), calloc(CHUNK * s->d->targets, sizeof *r.el2n)};
    taut_status status;
    int         code = data_room_create(s->d, CHUNK, &room);
    if (!code && (!r.loss || !r.el2n)) code = fault(CLI_FAILED, "--score: out of memory");
    if ((code = ranks_agree(code)) == 0) {
        c.shards = (const char *const *)sh->path, c.nshards = sh->n, c.rounds = 1;
        c.batch = (uint64_t)ranks_count() * CHUNK < s->n ? (uint64_t)ranks_count() * CHUNK : s->n;
        c.fields = fields, c.nfields = sh->f.text ? 1 : 2;
        status = ranks_loader(&c, &l);
        if (status != TAUT_OK) code = ranks_agree(fault_status(CLI_FAILED, "--score", taut_last_error(), status));
        else {
            while (!code && (status = taut_loader_next(l, &b)) == TAUT_OK && !b.end)
                code = rate_batch(s, &room, &r, &b, value);
            if (!code && status != TAUT_OK) code = fault_status(CLI_FAILED, "--score", taut_last_error(), status);
            code = ranks_agree(code);
        }
        taut_loader_close(l);
    }
    data_room_destroy(&room);
    free(r.loss);
    free(r.el2n);
    return code;
}

/* Rank 0 writes; the values lie in the order of the loader's samples, which is that of the shards' paths. */
static int save(const score *s, const double *value)
{
    static const char *const column[3] = {"loss", "el2n", "forgetting"};
    const struct shards     *sh = s->d->shards;
    taut_shard             **shard = calloc(sh->n, sizeof *shard);
    taut_status              status = shard ? TAUT_OK : TAUT_E_NOMEM;
    for (size_t i = 0; status == TAUT_OK && i < sh->n; i++) status = taut_shard_open(sh->path[i], &shard[i]);
    if (status == TAUT_OK)
        status = taut_scores_save(s->o->score, sh->n, (const taut_shard *const *)shard, 3, column, value);
    for (size_t i = 0; shard && i < sh->n; i++) taut_shard_close(shard[i]);
    free(shard);
    return status == TAUT_OK ? 0 : fault_status(CLI_FAILED, "--score", taut_last_error(), status);
}

int score_write(score *s)
{
    double *value;
    int     code;
    if (!s) return 0;
    exchange(s);
    value = calloc(3 * s->n, sizeof *value);
    code =
        ranks_agree(value ? 0 : fault(CLI_FAILED, "--score: out of memory for %llu samples", (unsigned long long)s->n));
    if (!code) code = rate_all(s, value);
    if (!code) {
        sum_all(value, 3 * s->n);
        for (uint64_t i = 0; i < s->n; i++)
            value[3 * i + 2] = s->right[i] || !s->visits[i] ? s->forgotten[i] : s->visits[i] + 1;
        code = ranks_agree(ranks_rank() == 0 ? save(s, value) : 0);
    }
    free(value);
    return code;
}

#else

int score_open(score **s, const data *d, const options *o, taut_torch_model *model)
{
    (void)d, (void)o, (void)model;
    *s = NULL;
    return 0;
}
void score_close(score *s) { (void)s; }
int  score_step(score *s, const feed *f, int64_t step)
{
    (void)s, (void)f, (void)step;
    return 0;
}
int score_write(score *s)
{
    (void)s;
    return 0;
}

#endif
