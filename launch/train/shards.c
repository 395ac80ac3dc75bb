/* shards.c : see shards.h. Rank 0 opens the shards, reads labels, measures pixels, reads the validation samples, and tells
 * the others; the index of a shard is read once. */
#include "shards.h"
#include "checkpoint.h"
#include "ranks.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef TAUT_HAVE_ZSTD
#include "../../comm/taut_data.h"
#include "shard_list.h"

enum { MEASURED_BLOCKS = 64 };

static int data_fault(taut_status s, const char *what)
{
    return fault_status(s == TAUT_E_RANGE || s == TAUT_E_INVALID ? CLI_USAGE : CLI_FAILED, what, taut_last_error(), s);
}

/* ---- values ---- */

int64_t shards_label(const uint8_t *bytes, size_t n)
{
    int64_t v = 0;
    for (size_t i = 0; i < n && i < 8; i++) v |= (int64_t)((uint64_t)bytes[i] << (8 * i));
    return v;
}

/* Value j of a stored sample, as the model sees it. */
static float value_at(const data *d, const uint8_t *bytes, size_t j)
{
    float x = bytes[j];
    if (d->shards->f.floats) memcpy(&x, bytes + 4 * j, 4);
    return (x - d->mean) * d->unit;
}

/* A text longer than ctx + 1 tokens gives a window of it, a shorter one is repeated. */
static void put_tokens(const data *d, const uint8_t *bytes, size_t n, uint64_t pick, int64_t *input, int64_t *target)
{
    size_t   width = (size_t)d->shards->f.width;
    uint64_t tokens = width ? n / width : 0, first = tokens > d->elems + 1 ? pick % (tokens - d->elems) : 0;
    for (size_t j = 0; tokens && j < d->elems; j++) {
        input[j] = shards_label(bytes + (first + j) % tokens * width, width);
        target[j] = shards_label(bytes + (first + j + 1) % tokens * width, width);
    }
}

void shards_put(const data *d, data_room *room, size_t k, const uint8_t *bytes, size_t n, int64_t label, uint64_t pick)
{
    if (d->text) {
        put_tokens(d, bytes, n, pick, room->tokens + k * d->elems, room->targets + k * d->elems);
        return;
    }
    for (size_t j = 0; j < d->elems; j++) room->values[k * d->elems + j] = value_at(d, bytes, j);
    room->targets[k] = label;
}

void shards_put_val(const data *d, data_room *room, size_t k, size_t i)
{
    const struct shards *s = d->shards;
    if (!d->text) {
        memcpy(room->values + k * d->elems, s->val_values + i * d->elems, d->elems * sizeof(float));
        room->targets[k] = s->val_label[i];
        return;
    }
    memcpy(room->tokens + k * d->elems, s->val_tokens + i * (d->elems + 1), d->elems * sizeof(int64_t));
    memcpy(room->targets + k * d->elems, s->val_tokens + i * (d->elems + 1) + 1, d->elems * sizeof(int64_t));
}

/* ---- fields ---- */

static bool is_text(const taut_field *f)
{
    return f->kind == TAUT_KIND_TEXT || f->kind == TAUT_KIND_TOKENS || f->kind == TAUT_KIND_BYTES;
}

/* The first field that this model can be trained on. */
static bool suits(const taut_field *f, bool text)
{
    bool integer = f->type == TAUT_U8 || f->type == TAUT_U16 || f->type == TAUT_U32;
    if (text) return is_text(f) && integer;
    return !f->variable && f->sample_bytes > 0 &&
           (f->kind == TAUT_KIND_IMAGE || f->kind == TAUT_KIND_FLOAT || f->kind == TAUT_KIND_BYTES) &&
           (f->type == TAUT_U8 || f->type == TAUT_FLOAT32);
}

static int choose_fields(shards_facts *f, const taut_shard *s, const options *o)
{
    char            names[300] = "";
    bool            any = !options_is(o->model, "gpt") && !options_is(o->model, "mlp");
    taut_shard_info info = {.size = sizeof info};
    taut_field      input = TAUT_FIELD_INIT;
    int             found = -1;
    taut_shard_get_info(s, &info);
    if (info.label_field >= 0) {
        taut_shard_field(s, (size_t)info.label_field, &input);
        snprintf(f->label, sizeof f->label, "%s", input.name);
    }
    f->text = options_is(o->model, "gpt");
    for (int text = f->text; found < 0 && text <= (any || f->text); text++)
        for (uint32_t k = 0; found < 0 && k < info.fields; k++) {
            taut_field d = TAUT_FIELD_INIT;
            size_t     at = strlen(names);
            taut_shard_field(s, k, &d);
            if (text == f->text)
                snprintf(names + at, sizeof names - at, "%s%s (%s)", k ? ", " : "", d.name, taut_kind_name(d.kind));
            if ((int)k != info.label_field && suits(&d, text)) found = (int)k, input = d, f->text = text;
        }
    if (found < 0)
        return fault(CLI_FAILED, "--data=%s: no field that %s can be trained on: must be %s; fields: %s",
                     taut_shard_path(s), o->model,
                     f->text ? "text, bytes or tokens" : "an image, bytes or floats of one shape", names);
    if (!f->text && info.label_field < 0)
        return fault(CLI_FAILED, "--data=%s: no field of kind label, which is what %s learns; fields: %s",
                     taut_shard_path(s), o->model, names);
    snprintf(f->input, sizeof f->input, "%s", input.name);
    f->width = (int32_t)taut_type_bytes(input.type);
    f->floats = input.type == TAUT_FLOAT32;
    f->elems = f->text ? (uint64_t)o->ctx : input.sample_bytes / (uint64_t)f->width;
    f->targets = f->text ? (int32_t)o->ctx : 1;
    f->ndim = f->text ? 1 : 3;
    f->shape[0] = f->text ? o->ctx : 1;
    f->shape[1] = !f->text && input.ndim == 2 ? (int64_t)input.shape[0] : 1;
    f->shape[2] = (int64_t)f->elems / f->shape[1];
    return 0;
}

/* ---- facts ---- */

typedef struct pile { /* shards of rank 0 */
    taut_shard  **shard;
    taut_reader **reader;
    size_t        n;
} pile;

static void pile_close(pile *p)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->reader) taut_reader_destroy(p->reader[i]);
        if (p->shard) taut_shard_close(p->shard[i]);
    }
    free(p->shard);
    free(p->reader);
    memset(p, 0, sizeof *p);
}

static int pile_open(pile *p, char *const *path, size_t n, const char *option)
{
    p->shard = calloc(n, sizeof *p->shard);
    p->reader = calloc(n, sizeof *p->reader);
    p->n = n;
    if (!p->shard || !p->reader) return fault(CLI_FAILED, "out of memory");
    for (size_t i = 0; i < n; i++) {
        taut_status s = taut_shard_open(path[i], &p->shard[i]);
        if (s == TAUT_OK) s = taut_reader_create(p->shard[i], &p->reader[i]);
        if (s != TAUT_OK) return fault_status(CLI_FAILED, option, taut_last_error(), s);
    }
    return 0;
}

static int find_field(const pile *p, size_t i, const char *name, const shards_facts *f, size_t *field)
{
    int        k = taut_shard_find(p->shard[i], name);
    taut_field d = TAUT_FIELD_INIT;
    if (k < 0)
        return fault(CLI_FAILED, "%s: no field '%s', which the first shard has", taut_shard_path(p->shard[i]), name);
    taut_shard_field(p->shard[i], (size_t)k, &d);
    if (strcmp(name, f->input) == 0 && (!suits(&d, f->text) || (int32_t)taut_type_bytes(d.type) != f->width ||
                                        (!f->text && d.sample_bytes != f->elems * (uint64_t)f->width)))
        return fault(CLI_FAILED, "%s: field '%s' has another type or shape than in the training shards",
                     taut_shard_path(p->shard[i]), name);
    *field = (size_t)k;
    return 0;
}

/* A label as its type says: -1 is no class, and not 255. */
static int64_t signed_label(const taut_field *f, const uint8_t *bytes)
{
    size_t   n = taut_type_bytes(f->type);
    int64_t  v = shards_label(bytes, n);
    unsigned unused = 64 - 8 * (unsigned)n;
    bool     negative = n > 0 && n < 8 && (f->type == TAUT_I8 || f->type == TAUT_I16 || f->type == TAUT_I32);
    return negative ? (int64_t)((uint64_t)v << unused) >> unused : v;
}

static int64_t label_of(const taut_shard *s, size_t field, const uint8_t *bytes)
{
    taut_field d = TAUT_FIELD_INIT;
    taut_shard_field(s, field, &d);
    return signed_label(&d, bytes);
}

/* Classes: one more than the largest label; of tokens wider than a byte, than the largest token. */
static int count_classes(shards_facts *f, const pile *p)
{
    const char *name = f->text ? f->input : f->label;
    f->classes = f->text && f->width == 1 ? 256 : 2;
    for (size_t i = 0; i < p->n && !(f->text && f->width == 1); i++) {
        taut_shard_info info = {.size = sizeof info};
        size_t          field;
        int             code = find_field(p, i, name, f, &field);
        taut_field      d = TAUT_FIELD_INIT;
        if (code) return code;
        taut_shard_get_info(p->shard[i], &info);
        taut_shard_field(p->shard[i], field, &d);
        for (uint64_t b = 0; b < info.blocks; b++) {
            taut_block_view v = {.size = sizeof v};
            taut_status     s = taut_reader_block(p->reader[i], field, b, &v);
            size_t          width = taut_type_bytes(d.type);
            if (s != TAUT_OK) return data_fault(s, "--data");
            for (size_t at = v.offset[0]; at + width <= v.offset[v.n]; at += width) {
                int64_t c = signed_label(&d, v.data + at);
                if (c < 0 || c >= 1 << 20)
                    return fault(CLI_FAILED, "%s: block %llu of field '%s': class %lld: must be 0..%d",
                                 taut_shard_path(p->shard[i]), (unsigned long long)b, name, (long long)c,
                                 (1 << 20) - 1);
                if (c + 1 > f->classes) f->classes = c + 1;
            }
        }
    }
    return 0;
}

/* Soft labels where every shard has them, one for each class; more of them than classes that occur count as classes. */
static int find_soft(shards_facts *f, const pile *p)
{
    for (size_t i = 0; i < p->n && !f->text; i++) {
        int        k = taut_shard_find(p->shard[i], "soft");
        taut_field d = TAUT_FIELD_INIT;
        if (k < 0) return 0;
        taut_shard_field(p->shard[i], (size_t)k, &d);
        if (d.type != TAUT_FLOAT32 || d.variable || strcmp(f->input, "soft") == 0) return 0;
        if (d.sample_bytes / 4 < (uint64_t)f->classes || (i > 0 && d.sample_bytes / 4 != (uint64_t)f->classes))
            return fault(CLI_FAILED, "%s: field 'soft' has %llu numbers a sample for %lld classes",
                         taut_shard_path(p->shard[i]), (unsigned long long)d.sample_bytes / 4, (long long)f->classes);
        f->classes = (int64_t)(d.sample_bytes / 4);
        if (i + 1 == p->n) snprintf(f->soft, sizeof f->soft, "soft");
    }
    return 0;
}

/* Mean and deviation of the values of some blocks, evenly spread. */
static int measure(shards_facts *f, const pile *p)
{
    double   sum = 0, square = 0, n = 0;
    uint64_t each = MEASURED_BLOCKS / p->n + 1;
    f->mean = 0, f->unit = 1;
    for (size_t i = 0; i < p->n && !f->text; i++) {
        taut_shard_info info = {.size = sizeof info};
        size_t          field;
        int             code = find_field(p, i, f->input, f, &field);
        if (code) return code;
        taut_shard_get_info(p->shard[i], &info);
        for (uint64_t k = 0; k < each && k < info.blocks; k++) {
            taut_block_view v = {.size = sizeof v};
            uint64_t        b = each < info.blocks ? k * info.blocks / each : k;
            taut_status     s = taut_reader_block(p->reader[i], field, b, &v);
            if (s != TAUT_OK) return data_fault(s, "--data");
            for (size_t at = v.offset[0]; at < v.offset[v.n]; at += (size_t)f->width) {
                float x = v.data[at];
                if (f->floats) memcpy(&x, v.data + at, 4);
                if (!isfinite(x))
                    return fault(CLI_FAILED, "%s: block %llu of field '%s': a value is %g: must be finite",
                                 taut_shard_path(p->shard[i]), (unsigned long long)b, f->input, (double)x);
                sum += (double)x, square += (double)x * (double)x, n += 1;
            }
        }
    }
    if (n > 0) square = square / n - (sum / n) * (sum / n), f->mean = (float)(sum / n);
    if (n > 0 && square > 0) f->unit = (float)(1 / sqrt(square));
    return 0;
}

/* ---- plan and batch ---- */

/* The global batch of the run that is resumed, from the bytes of its state (56 bytes, batch at 40; the loader checks them). */
static int load_state(shards_facts *f, const options *o)
{
    checkpoint_place at;
    int              code = o->resume ? checkpoint_place_of(o, &at) : 0;
    if (code || !o->resume) return code;
    if (at.data_bytes != 56)
        return fault(CLI_FAILED, "--resume: %s: the run that wrote it did not read shards", o->checkpoint);
    memcpy(f->state, at.data, f->state_bytes = at.data_bytes);
    if (f->batch == 0) f->batch = (uint64_t)shards_label(f->state + 40, 8);
    return 0;
}

static int find_plan(shards_facts *f, const options *o, const pile *p)
{
    taut_data_plan     *plan;
    taut_data_plan_info info = {.size = sizeof info};
    taut_status         s;
    f->batch = (uint64_t)o->global_batch;
    int code = load_state(f, o);
    if (code) return code;
    if (f->batch == 0) f->batch = (uint64_t)o->batch * (uint64_t)ranks_count();
    for (size_t i = 0; i < p->n; i++) {
        taut_shard_info si = {.size = sizeof si};
        taut_shard_get_info(p->shard[i], &si);
        f->samples += si.samples;
        f->hash = data_hash(f->hash, &si.hash, sizeof si.hash);
    }
    f->round = f->samples;
    f->rounds = o->rounds ? (uint64_t)o->rounds : 1;
    snprintf(f->rule, sizeof f->rule, "full");
    if (o->plan) {
        s = taut_data_plan_load(o->plan, &plan);
        if (s == TAUT_OK) s = taut_data_plan_get_info(plan, &info);
        if (s != TAUT_OK) return fault_status(CLI_FAILED, "--plan", taut_last_error(), s);
        f->round = info.samples;
        if (!o->rounds) f->rounds = info.rounds;
        snprintf(f->rule, sizeof f->rule, "%.190s", info.rule);
        f->hash = data_hash(f->hash, &info.hash, sizeof info.hash);
        taut_data_plan_destroy(plan);
    }
    /* one step without --plan and --rounds is not what anybody wants: rounds for all steps */
    if (!o->plan && !o->rounds)
        f->rounds = ((uint64_t)(o->steps ? o->steps : OPTIONS_STEPS) * f->batch + f->round - 1) / f->round;
    if (f->round > UINT64_MAX / 4 / (f->rounds + 1))
        return fault(CLI_USAGE, "--rounds=%llu: too many", (unsigned long long)f->rounds);
    f->steps = (f->rounds * f->round + f->batch - 1) / f->batch;
    return 0;
}

/* ---- validation ---- */

/* n_val samples evenly spread over the pile. */
static int read_validation(data *d, const pile *p)
{
    struct shards *s = d->shards;
    shards_facts  *f = &s->f;
    uint64_t       all = 0, first = 0;
    size_t         i = 0, cap = 0, n, field = 0, label = 0;
    uint8_t       *bytes = NULL;
    int            code = 0;
    for (size_t k = 0; k < p->n; k++) {
        taut_shard_info info = {.size = sizeof info};
        taut_shard_get_info(p->shard[k], &info);
        all += info.samples;
    }
    if (all == 0 || f->elems == 0) return fault(CLI_FAILED, "--data: no samples to validate on");
    if (all < f->n_val) f->n_val = all;
    d->elems = f->elems, d->text = f->text, d->mean = f->mean, d->unit = f->unit;
    s->val_label = calloc(f->n_val, sizeof *s->val_label);
    if (f->text) s->val_tokens = calloc(f->n_val * (f->elems + 1), sizeof *s->val_tokens);
    else s->val_values = calloc(f->n_val * f->elems, sizeof *s->val_values);
    if (!s->val_label || (!s->val_tokens && !s->val_values))
        return fault(CLI_FAILED, "out of memory for %llu validation samples", (unsigned long long)f->n_val);
    for (uint64_t v = 0; !code && v < f->n_val; v++) {
        taut_shard_info info = {.size = sizeof info};
        uint64_t        at = v * all / f->n_val;
        taut_status     st;
        for (taut_shard_get_info(p->shard[i], &info); at >= first + info.samples;
             taut_shard_get_info(p->shard[++i], &info))
            first += info.samples;
        if ((code = find_field(p, i, f->input, f, &field)) != 0 ||
            (!f->text && (code = find_field(p, i, f->label, f, &label)) != 0))
            break;
        st = taut_reader_sample(p->reader[i], field, at - first, NULL, 0, &n);
        if (st == TAUT_OK && n > cap) {
            free(bytes);
            if (!(bytes = malloc(cap = n))) return fault(CLI_FAILED, "out of memory");
        }
        if (st == TAUT_OK && n > 0) st = taut_reader_sample(p->reader[i], field, at - first, bytes, cap, &n);
        if (st != TAUT_OK) code = data_fault(st, "validation");
        else if (!bytes || n < (size_t)f->width)
            code = fault(CLI_FAILED, "%s: sample %llu is empty: nothing to validate on", taut_shard_path(p->shard[i]),
                         (unsigned long long)(at - first));
        else if (f->text)
            put_tokens(d, bytes, n, 0, s->val_tokens + v * (f->elems + 1), s->val_tokens + v * (f->elems + 1) + 1);
        else {
            uint8_t word[8];
            for (size_t j = 0; j < f->elems; j++) s->val_values[v * f->elems + j] = value_at(d, bytes, j);
            if ((st = taut_reader_sample(p->reader[i], label, at - first, word, sizeof word, &n)) != TAUT_OK)
                code = data_fault(st, "validation");
            else s->val_label[v] = label_of(p->shard[i], label, word);
            if (!code && (s->val_label[v] < 0 || s->val_label[v] >= f->classes))
                code = fault(CLI_FAILED, "%s: sample %llu: class %lld: the training shards have %lld classes",
                             taut_shard_path(p->shard[i]), (unsigned long long)(at - first), (long long)s->val_label[v],
                             (long long)f->classes);
        }
    }
    free(bytes);
    return code;
}

/* ---- opening ---- */

static int rank0_facts(data *d, const options *o)
{
    struct shards *s = d->shards;
    pile           p = {0}, val = {0};
    char         **paths = NULL;
    size_t         n = 0;
    int            code = shard_list(o->data, &s->path, &s->n, "--data");
    if (!code) code = pile_open(&p, s->path, s->n, "--data");
    if (!code) code = choose_fields(&s->f, p.shard[0], o);
    if (!code) code = count_classes(&s->f, &p);
    if (!code) code = find_soft(&s->f, &p);
    if (!code) code = measure(&s->f, &p);
    if (!code) code = find_plan(&s->f, o, &p);
    s->f.n_val = (uint64_t)o->eval_samples;
    if (!code && o->validation) code = shard_list(o->validation, &paths, &n, "--validation");
    if (!code && o->validation) code = pile_open(&val, paths, n, "--validation");
    if (!code) code = read_validation(d, o->validation ? &val : &p);
    pile_close(&p);
    pile_close(&val);
    shard_list_free(paths, n);
    return code;
}

/* What rank 0 holds, to the others. */
static int share(data *d, const options *o)
{
    struct shards *s = d->shards;
    shards_facts  *f = &s->f;
    int            code = 0;
    ranks_broadcast(f, sizeof *f);
    if (ranks_rank() != 0) {
        code = shard_list(o->data, &s->path, &s->n, "--data");
        s->val_label = calloc(f->n_val, sizeof *s->val_label);
        if (f->text) s->val_tokens = calloc(f->n_val * (f->elems + 1), sizeof *s->val_tokens);
        else s->val_values = calloc(f->n_val * f->elems, sizeof *s->val_values);
        if (!code && (!s->val_label || (!s->val_tokens && !s->val_values))) code = fault(CLI_FAILED, "out of memory");
    }
    if ((code = ranks_agree(code)) != 0) return code;
    ranks_broadcast(s->val_label, f->n_val * sizeof *s->val_label);
    if (f->text) ranks_broadcast(s->val_tokens, f->n_val * (f->elems + 1) * sizeof *s->val_tokens);
    else ranks_broadcast(s->val_values, f->n_val * f->elems * sizeof *s->val_values);
    return 0;
}

static void describe(data *d, const options *o)
{
    const shards_facts *f = &d->shards->f;
    snprintf(d->what, sizeof d->what, "%llu samples in %zu shard%s, %lld classes, plan %.60s%s",
             (unsigned long long)f->samples, d->shards->n, d->shards->n == 1 ? "" : "s", (long long)f->classes, f->rule,
             o->validation ? "" : ", validated on training samples");
}

int shards_open(data *d, options *o)
{
    const shards_facts *f;
    int                 code;
    memset(d, 0, sizeof *d);
    d->shards = calloc(1, sizeof *d->shards);
    code = d->shards ? 0 : fault(CLI_FAILED, "out of memory");
    if ((code = ranks_agree(code)) != 0) return code;
    if (ranks_rank() == 0) code = rank0_facts(d, o);
    if ((code = ranks_agree(code)) == 0) code = share(d, o);
    if (code) return code;
    f = &d->shards->f;
    d->text = f->text;
    d->classes = f->classes;
    d->n_train = f->samples, d->n_val = f->n_val;
    d->elems = f->elems, d->targets = (size_t)f->targets;
    d->ndim = f->ndim;
    memcpy(d->shape, f->shape, sizeof d->shape);
    d->mean = f->mean, d->unit = f->unit;
    d->hash = f->hash;
    if (o->steps == 0) o->steps = (int64_t)(f->steps < (uint64_t)1 << 40 ? f->steps : (uint64_t)1 << 40);
    describe(d, o);
    if ((uint64_t)o->steps > f->steps)
        return ranks_agree(fault(
            CLI_USAGE,
            "--steps=%lld: the plan has %llu steps: %llu rounds of %llu samples, %llu a step; --rounds gives more",
            (long long)o->steps, (unsigned long long)f->steps, (unsigned long long)f->rounds,
            (unsigned long long)f->round, (unsigned long long)f->batch));
    return 0;
}

void shards_close(data *d)
{
    struct shards *s = d->shards;
    if (!s) return;
    shard_list_free(s->path, s->n);
    free(s->val_values);
    free(s->val_tokens);
    free(s->val_label);
    free(s);
    d->shards = NULL;
}

#else

int shards_open(data *d, options *o)
{
    memset(d, 0, sizeof *d);
    return ranks_agree(
        fault(CLI_FAILED, "--data=%s: shards are left out: built without zstd; see `make print-config`", o->data));
}
void shards_close(data *d) { (void)d; }
void shards_put_val(const data *d, data_room *room, size_t k, size_t i) { (void)d, (void)room, (void)k, (void)i; }

#endif
