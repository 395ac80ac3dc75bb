/* field_extern.c : the codec of indexes: a block's stored bytes are places, its samples lie in other files (foreign.h). It is made by
 * taut_index_create() only, so it is not among the codecs that people may choose. */
#include "../shard/layout.h"
#include "extern.h"
#include "foreign.h"

enum { KEY_AS };

static const taut_key keys[] = {
    {.name = "as",
     .kind = TAUT_KEY_WORD,
     .words = "plain|swap|ascii|int64list|floatlist",
     .help = "how the other file stores elements"},
};

typedef struct state {
    taut__as             as;
    taut_type            type;
    const taut__foreign *foreign;
    taut__gather         gather;
} state;

static taut_status suits(const taut_field_spec *spec)
{
    const taut_field *f = spec->field;
    taut__as          as = (taut__as)spec->value[KEY_AS];
    bool              ok = as == TAUT__AS_ASCII       ? f->type < TAUT_FLOAT32 && !f->variable && f->ndim == 0
                           : as == TAUT__AS_INT64LIST ? f->type == TAUT_I64 || f->type == TAUT_U64
                           : as == TAUT__AS_FLOATLIST ? f->type == TAUT_FLOAT32
                                                      : true;
    return ok ? TAUT_OK
              : taut__fail(TAUT_E_UNSUPPORTED, "field %s: extern: elements of type %s are not stored like this",
                           f->name, taut_type_name(f->type));
}

static taut_status open_state(const taut_field_spec *spec, const uint8_t *shared, size_t bytes, bool encoding,
                              void **out)
{
    state *s;
    (void)shared, (void)bytes;
    if (encoding)
        return taut__fail(TAUT_E_UNSUPPORTED, "field %s: extern: is made by `taut data index` only", spec->field->name);
    if (!(s = taut__alloc(1, sizeof *s))) return taut__fail(TAUT_E_NOMEM, "extern: no memory");
    s->as = (taut__as)spec->value[KEY_AS];
    s->type = spec->field->type;
    *out = s;
    return TAUT_OK;
}

static taut_status attach(void *p, const taut_shard *shard)
{
    state *s = p;
    s->foreign = shard->foreign;
    return s->foreign ? TAUT_OK
                      : taut__fail(TAUT_E_STATE, "%s: the files that it indexes are not open", taut_shard_path(shard));
}

static void close_state(void *p)
{
    state *s = p;
    taut__gather_free(&s->gather);
    taut__free(s);
}

static taut_status decode(void *p, const uint8_t *src, size_t len, const taut_part *g, uint8_t *dst)
{
    state *s = p;
    if (!s->foreign) return taut__fail(TAUT_E_STATE, "the files that this indexes are not open");
    return taut__gather_part(&s->gather, s->foreign, s->as, s->type, src, len, g, dst);
}

void taut__extern_counters(const void *p, uint64_t *reads, uint64_t *bytes)
{
    const state *s = p;
    *reads += s->gather.reads;
    *bytes += s->gather.read_bytes;
}

const taut_field_codec taut__field_extern = {
    .id = 13,
    .version = 1,
    .name = "extern",
    .help = "samples of another file, where they are",
    .n_keys = 1,
    .keys = keys,
    .suits = suits,
    .open = open_state,
    .attach = attach,
    .close = close_state,
    .decode = decode,
};

/* ---- of a shard ---- */

static bool is_extern(const taut_shard *s, uint32_t f) { return s->spec[f].codec == &taut__field_extern; }

taut_status taut__extern_open(taut_shard *s)
{
    uint8_t    *shared = NULL;
    taut_status rc;
    uint32_t    any = 0;
    for (uint32_t f = 0; f < s->fields; f++) any += is_extern(s, f);
    if (!any || s->fd < 0) return TAUT_OK;
    if (any != s->fields || !s->shared[0].bytes)
        return taut__fail(TAUT_E_CORRUPT, "%s: an index without its table of files", s->path);
    if (!(s->foreign = taut__alloc(1, sizeof *s->foreign)))
        return taut__fail(TAUT_E_NOMEM, "%s: no memory for its index", s->path);
    s->foreign->index_s = s->mtime_s, s->foreign->index_ns = s->mtime_ns;
    TAUT_TRY(taut__read_shared(s, 0, &shared));
    rc =
        taut__foreign_read(s->foreign, shared + TAUT_FRAME_HEAD, (size_t)s->shared[0].bytes - TAUT_FRAME_HEAD, s->path);
    taut__free(shared);
    return rc;
}

void taut__extern_close(taut_shard *s)
{
    if (s->foreign) taut__foreign_free(s->foreign);
    taut__free(s->foreign);
    s->foreign = NULL;
}

const char *taut__extern_blame(const taut_shard *s)
{
    const taut__foreign_file *file = s->foreign ? taut__foreign_changed(s->foreign) : NULL;
    return !s->foreign ? NULL : file ? file->source.name : s->foreign->file[0].source.name;
}

taut_status taut__extern_verify(const taut_shard *s) { return s->foreign ? taut__foreign_verify(s->foreign) : TAUT_OK; }

const char *taut_shard_foreign(const taut_shard *s, size_t i)
{
    return s->foreign && i < s->foreign->files ? s->foreign->file[i].source.name : NULL;
}
