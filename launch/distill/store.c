/* store.c : a choice as an ordinary shard. */
#include "distill.h"
#include <stdlib.h>
#include <string.h>

static taut_field field(const char *name, const char *codec, taut_kind kind, taut_type type)
{
    taut_field f = TAUT_FIELD_INIT;
    snprintf(f.name, sizeof f.name, "%s", name);
    snprintf(f.codec, sizeof f.codec, "%s", codec);
    f.kind = kind, f.type = type;
    return f;
}

static taut_status write_all(taut_writer *w, const image_pool *p, const image_choice *c)
{
    size_t      plane = (size_t)(c->height * c->width), channels = (size_t)p->t.channels;
    uint8_t    *image = malloc(plane * channels);
    taut_status s = image ? TAUT_OK : TAUT_E_NOMEM;
    for (size_t i = 0; s == TAUT_OK && i < c->n; i++) {
        int32_t label = (int32_t)c->labels[i];
        for (size_t k = 0; k < plane; k++)
            for (size_t ch = 0; ch < channels; ch++)
                image[k * channels + ch] = c->pixels[(i * channels + ch) * plane + k];
        s = taut_writer_add(w, (const void *[]){image, &label, c->soft ? c->soft + i * (size_t)p->t.classes : NULL},
                            (size_t[]){plane * channels, sizeof label, (size_t)p->t.classes * sizeof(float)});
    }
    free(image);
    return s == TAUT_OK ? taut_writer_finish(w) : s;
}

static int count(image_choice *c, const char *path)
{
    taut_shard     *s;
    taut_shard_info info = {.size = sizeof info};
    taut_field      f = TAUT_FIELD_INIT;
    taut_status     status = taut_shard_open(path, &s);
    if (status != TAUT_OK) return cli_status(status, "%s", path);
    taut_shard_get_info(s, &info);
    c->bytes = info.file_bytes;
    if (c->soft) {
        taut_shard_field(s, 2, &f);
        c->soft_bytes = f.stored_bytes;
    }
    taut_shard_close(s);
    return CLI_OK;
}

int store_choice(const distill_options *o, const image_pool *p, image_choice *c, const char *path)
{
    taut_field f[3] = {field(p->field, "", TAUT_KIND_IMAGE, TAUT_U8), field("label", "", TAUT_KIND_LABEL, TAUT_I32),
                       field("soft", o->soft_codec, TAUT_KIND_FLOAT, TAUT_FLOAT32)};
    taut_writer_options w = TAUT_WRITER_INIT;
    taut_writer        *writer = NULL;
    char                source[160];
    taut_status         s;
    f[0].ndim = p->t.channels > 1 ? 3 : 2;
    f[0].shape[0] = (uint64_t)c->height, f[0].shape[1] = (uint64_t)c->width,
    f[0].shape[2] = p->t.channels > 1 ? (uint64_t)p->t.channels : 0;
    f[2].ndim = 1, f[2].shape[0] = (uint64_t)p->t.classes;
    snprintf(source, sizeof source, "%s, %lld of a class, seed %llu", c->name, (long long)o->per_class,
             (unsigned long long)o->seed);
    w.source = source, w.labels = p->names;
    s = taut_writer_create(path, c->soft ? 3 : 2, f, &w, &writer);
    if (s == TAUT_OK) s = write_all(writer, p, c);
    taut_writer_destroy(writer);
    return s == TAUT_OK ? count(c, path) : cli_status(s, "%s", path);
}
