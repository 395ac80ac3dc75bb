/* export.c : see export.h. */
#include "export.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

static const taut__exporter *const exporters[] = {&taut__export_mds, &taut__export_tar, &taut__export_npy};
enum { EXPORTERS = sizeof exporters / sizeof *exporters };

const char *taut_export_format_name(size_t i) { return i < EXPORTERS ? exporters[i]->name : NULL; }
const char *taut_export_format_help(size_t i) { return i < EXPORTERS ? exporters[i]->help : NULL; }

char *taut__path_join(const char *folder, const char *name)
{
    size_t n = strlen(folder) + strlen(name) + 2;
    char  *p = taut__alloc(n, 1);
    if (p) snprintf(p, n, "%s%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/", name);
    return p;
}

taut_status taut__make_folder(const char *path)
{
    struct stat st;
    if (mkdir(path, 0777) == 0) return TAUT_OK;
    if (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return TAUT_OK;
    return taut__fail(TAUT_E_IO, "%s: cannot be made a folder: %s", path, strerror(errno));
}

/* ---- fields ---- */

static bool wanted(const taut__export *e, const char *name)
{
    for (size_t i = 0; i < e->options->nselect; i++)
        if (strcmp(e->options->select[i], name) == 0) return true;
    return e->options->nselect == 0;
}

static taut_status check_selected(const taut__export *e)
{
    char list[400];
    taut__shard_names(e->shard[0], list, sizeof list);
    for (size_t i = 0; i < e->options->nselect; i++)
        if (taut_shard_find(e->shard[0], e->options->select[i]) < 0)
            return taut__fail(TAUT_E_INVALID, "%s: select=%s: no such field; fields are %s",
                              taut_shard_path(e->shard[0]), e->options->select[i], list);
    return TAUT_OK;
}

static bool alike(const taut_field *a, const taut_field *b)
{
    return a->kind == b->kind && a->type == b->type && a->variable == b->variable && a->ndim == b->ndim &&
           (a->variable || a->sample_bytes == b->sample_bytes) && memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

static taut_status find_fields(taut__export *e)
{
    taut_shard_info info = {.size = sizeof info};
    TAUT_TRY(check_selected(e));
    taut_shard_get_info(e->shard[0], &info);
    if (!(e->number = taut__alloc((size_t)info.fields * e->shards, sizeof *e->number)))
        return taut__fail(TAUT_E_NOMEM, "no memory for %u fields", info.fields);
    for (uint32_t k = 0; k < info.fields; k++) {
        taut_field *f = &e->field[e->fields];
        *f = (taut_field)TAUT_FIELD_INIT;
        taut_shard_field(e->shard[0], k, f);
        if (!wanted(e, f->name)) continue;
        for (size_t s = 0; s < e->shards; s++) {
            int        n = taut_shard_find(e->shard[s], f->name);
            taut_field d = TAUT_FIELD_INIT;
            if (n >= 0) taut_shard_field(e->shard[s], (size_t)n, &d);
            if (n < 0 || !alike(f, &d))
                return taut__fail(TAUT_E_MISMATCH, "%s: field %s is %s", taut_shard_path(e->shard[s]), f->name,
                                  n < 0 ? "missing" : "of another type or shape than in the first shard");
            e->number[e->fields * e->shards + s] = (uint32_t)n;
        }
        e->fields++;
    }
    for (size_t s = 0; s < e->shards; s++) {
        taut_shard_get_info(e->shard[s], &info);
        e->samples += info.samples;
    }
    return TAUT_OK;
}

/* ---- samples ---- */

typedef struct feed {
    taut__export  *e;
    taut_reader   *reader[64]; /* of the shard under way, one per field, so that their blocks stay */
    const uint8_t *data[64];
    size_t         bytes[64];
    uint64_t       done;
    taut_status (*take)(struct feed *f, uint64_t number);
    const taut__exporter *to;
    void                 *state;
} feed;

static taut_status feed_block(feed *f, size_t s, uint64_t b)
{
    taut__export   *e = f->e;
    taut_block_view v[64] = {{0}};
    for (size_t k = 0; k < e->fields; k++) {
        v[k] = (taut_block_view){.size = sizeof v[k]};
        TAUT_TRY(taut_reader_block(f->reader[k], e->number[k * e->shards + s], b, &v[k]));
    }
    for (uint64_t i = 0; i < v[0].n; i++, f->done++) {
        for (size_t k = 0; k < e->fields; k++)
            f->data[k] = v[k].data + v[k].offset[i], f->bytes[k] = v[k].offset[i + 1] - v[k].offset[i];
        TAUT_TRY(f->take(f, f->done));
    }
    if (f->state && e->options->progress && e->options->progress(e->options->progress_ctx, f->done, e->samples) != 0)
        return taut__fail(TAUT_E_STATE, "%s: stopped", e->path);
    return TAUT_OK;
}

static taut_status feed_all(feed *f)
{
    taut__export *e = f->e;
    taut_status   rc = TAUT_OK;
    f->done = 0;
    for (size_t s = 0; s < e->shards && rc == TAUT_OK; s++) {
        taut_shard_info info = {.size = sizeof info};
        taut_shard_get_info(e->shard[s], &info);
        for (size_t k = 0; k < e->fields && rc == TAUT_OK; k++) rc = taut_reader_create(e->shard[s], &f->reader[k]);
        for (uint64_t b = 0; b < info.blocks && rc == TAUT_OK; b++) rc = feed_block(f, s, b);
        for (size_t k = 0; k < e->fields; k++) {
            taut_reader_destroy(f->reader[k]);
            f->reader[k] = NULL;
        }
    }
    return rc;
}

static taut__file_kind kind_of(const uint8_t *p, size_t n)
{
    if (n > 3 && p[0] == 0xff && p[1] == 0xd8 && p[2] == 0xff) return TAUT__FILES_JPEG;
    return n > 8 && memcmp(p, "\x89PNG\r\n\x1a\n", 8) == 0 ? TAUT__FILES_PNG : TAUT__FILES_ANY;
}

static taut_status look(feed *f, uint64_t number)
{
    for (size_t k = 0; k < f->e->fields; k++) {
        taut__file_kind kind =
            f->e->field[k].kind == TAUT_KIND_FILE ? kind_of(f->data[k], f->bytes[k]) : TAUT__FILES_ANY;
        if (number == 0) f->e->files[k] = kind;
        if (kind != f->e->files[k]) f->e->files[k] = TAUT__FILES_ANY;
    }
    return TAUT_OK;
}

static taut_status hand_over(feed *f, uint64_t number) { return f->to->sample(f->state, number, f->data, f->bytes); }

static taut_status run(taut__export *e, const taut__exporter *to)
{
    feed        f = {.e = e, .take = look, .to = to};
    bool        files = false;
    taut_status rc;
    TAUT_TRY(find_fields(e));
    for (size_t k = 0; k < e->fields; k++) files |= e->field[k].kind == TAUT_KIND_FILE;
    if (files) TAUT_TRY(feed_all(&f));
    rc = to->open(e, &f.state);
    f.take = hand_over;
    if (rc == TAUT_OK) rc = feed_all(&f);
    if (rc == TAUT_OK) rc = to->finish(f.state);
    if (f.state) to->close(f.state);
    return rc;
}

taut_status taut_shard_export(const char *format, const char *path, size_t n, const taut_shard *const *shards,
                              const taut_export_options *given)
{
    taut_export_options   o = TAUT_EXPORT_INIT;
    taut__export          e = {.path = path, .shard = shards, .shards = n, .options = &o};
    const taut__exporter *to = NULL;
    char                  names[64] = "";
    taut_status           rc;
    if (given) memcpy(&o, given, taut__min(given->size, sizeof o));
    if (!path || !*path) return taut__fail(TAUT_E_INVALID, "no path to export to");
    if (n < 1 || !shards) return taut__fail(TAUT_E_INVALID, "no shards to export");
    for (size_t i = 0; i < EXPORTERS; i++) {
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? ", " : "", exporters[i]->name);
        if (format && strcmp(format, exporters[i]->name) == 0) to = exporters[i];
    }
    if (!to) return taut__fail(TAUT_E_INVALID, "format=%s: must be one of %s", format ? format : "", names);
    rc = run(&e, to);
    taut__free(e.number);
    return rc;
}
