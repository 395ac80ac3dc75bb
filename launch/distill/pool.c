/* pool.c : images of shards. */
#include "distill.h"
#include <stdlib.h>
#include <string.h>

void pool_free(image_pool *p)
{
    free(p->pixels);
    free(p->labels);
    free(p->soft);
    free(p->names);
    memset(p, 0, sizeof *p);
}

/* The image field of a shard, which has the shape that the first shard's has. */
static int find_field(image_pool *p, const taut_shard *s, size_t *field)
{
    taut_shard_info info = {.size = sizeof info};
    taut_shard_get_info(s, &info);
    if (info.label_field < 0) return cli_fail("%s: no field of labels: distillation is by class", taut_shard_path(s));
    for (uint32_t f = 0; f < info.fields; f++) {
        taut_field d = TAUT_FIELD_INIT;
        taut_shard_field(s, f, &d);
        if (d.kind != TAUT_KIND_IMAGE || d.type != TAUT_U8 || d.variable) continue;
        if (*p->field && strcmp(d.name, p->field) != 0) continue;
        taut_torch_images t = {.channels = d.ndim == 3 ? (int64_t)d.shape[2] : 1,
                               .height = (int64_t)d.shape[0],
                               .width = (int64_t)d.shape[1]};
        if (p->t.height && (t.channels != p->t.channels || t.height != p->t.height || t.width != p->t.width))
            return cli_fail("%s: images of another shape than in the first shard", taut_shard_path(s));
        snprintf(p->field, sizeof p->field, "%.*s", (int)sizeof p->field - 1, d.name);
        p->t.channels = t.channels, p->t.height = t.height, p->t.width = t.width;
        *field = f;
        return CLI_OK;
    }
    return cli_fail("%s: no field of u8 images%s%s", taut_shard_path(s), *p->field ? " called " : "", p->field);
}

/* Stored rows, columns, channels -> channels, rows, columns. */
static void planes(uint8_t *to, const uint8_t *from, const taut_torch_images *t)
{
    int64_t plane = t->height * t->width;
    for (int64_t c = 0; c < t->channels; c++)
        for (int64_t i = 0; i < plane; i++) to[c * plane + i] = from[i * t->channels + c];
}

/* A distilled set's probabilities, behind those of the shards before. */
static int read_soft(image_pool *p, taut_shard *s, taut_reader *r)
{
    int             field = taut_shard_find(s, "soft");
    taut_field      d = TAUT_FIELD_INIT;
    taut_shard_info info = {.size = sizeof info};
    float          *more;
    if (field < 0) return CLI_OK;
    taut_shard_get_info(s, &info);
    taut_shard_field(s, (size_t)field, &d);
    if (d.type != TAUT_FLOAT32 || d.variable) return CLI_OK;
    if (p->t.n && (p->soft_n != p->t.n || p->soft_classes != (int64_t)(d.sample_bytes / sizeof(float)))) return CLI_OK;
    p->soft_classes = (int64_t)(d.sample_bytes / sizeof(float));
    if (p->soft_classes > p->t.classes) p->t.classes = p->soft_classes;
    if (!(more = realloc(p->soft, (p->t.n + (size_t)info.samples) * (size_t)d.sample_bytes)))
        return cli_fail("out of memory for soft labels");
    p->soft = more;
    for (uint64_t b = 0; b < info.blocks; b++) {
        taut_block_view v = {.size = sizeof v};
        taut_status     status = taut_reader_block(r, (size_t)field, b, &v);
        if (status != TAUT_OK) return cli_status(status, "%s", taut_shard_path(s));
        memcpy(p->soft + (p->t.n + (size_t)v.first) * (size_t)p->soft_classes, v.data + v.offset[0],
               v.offset[v.n] - v.offset[0]);
    }
    p->soft_n = p->t.n + (size_t)info.samples;
    return CLI_OK;
}

static int read_shard(image_pool *p, taut_shard *s)
{
    taut_shard_info info = {.size = sizeof info};
    taut_reader    *r = NULL;
    size_t          field = 0, elems, n = p->t.n;
    int             rc = find_field(p, s, &field);
    taut_status     status = TAUT_OK;
    if (rc) return rc;
    taut_shard_get_info(s, &info);
    elems = (size_t)(p->t.channels * p->t.height * p->t.width);
    uint8_t *pixels = realloc(p->pixels, (n + (size_t)info.samples) * elems);
    if (pixels) p->pixels = pixels;
    int64_t *labels = realloc(p->labels, (n + (size_t)info.samples) * sizeof *labels);
    if (labels) p->labels = labels;
    if (!pixels || !labels) return cli_fail("out of memory for %llu images", (unsigned long long)info.samples);
    status = taut_reader_create(s, &r);
    if (status == TAUT_OK) status = taut_reader_labels(r, p->labels + n);
    for (uint64_t b = 0; status == TAUT_OK && b < info.blocks; b++) {
        taut_block_view v = {.size = sizeof v};
        if ((status = taut_reader_block(r, field, b, &v)) != TAUT_OK) break;
        for (uint64_t k = 0; k < v.n; k++) planes(p->pixels + (n + v.first + k) * elems, v.data + v.offset[k], &p->t);
    }
    rc = status == TAUT_OK ? read_soft(p, s, r) : CLI_OK;
    taut_reader_destroy(r);
    if (rc) return rc;
    if (status != TAUT_OK) return cli_status(status, "%s", taut_shard_path(s));
    p->t.n += info.samples;
    p->bytes += info.file_bytes;
    for (size_t i = n; i < p->t.n; i++) {
        if (p->labels[i] < 0 || p->labels[i] >= 1 << 20)
            return cli_fail("%s: sample %zu: class %lld: must be 0..%d", taut_shard_path(s), i - n,
                            (long long)p->labels[i], (1 << 20) - 1);
        if (p->labels[i] + 1 > p->t.classes) p->t.classes = p->labels[i] + 1;
    }
    return CLI_OK;
}

int pool_read(image_pool *p, const char *list, const char *option)
{
    char *copy = strdup(list), *save = NULL;
    int   rc = copy ? CLI_OK : cli_fail("out of memory");
    p->t.size = sizeof p->t;
    for (char *path = copy ? strtok_r(copy, ",", &save) : NULL; path && rc == CLI_OK;
         path = strtok_r(NULL, ",", &save)) {
        taut_shard *s;
        taut_status status = taut_shard_open(path, &s);
        if (status != TAUT_OK) rc = cli_status(status, "%s", option);
        else {
            rc = read_shard(p, s);
            if (rc == CLI_OK && !p->names && *taut_shard_labels(s)) p->names = strdup(taut_shard_labels(s));
            taut_shard_close(s);
        }
    }
    free(copy);
    p->t.pixels = p->pixels, p->t.labels = p->labels;
    return rc;
}
