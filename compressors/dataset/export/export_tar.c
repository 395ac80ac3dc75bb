/* export_tar.c : a tar as WebDataset reads it: members NUMBER.FIELD.ENDING of a sample one behind the other; headers are ustar (POSIX.1-
 * 2017), with owner and time 0, so that the same samples give the same bytes. Endings: text txt, bytes bin, files jpg, png or bin, the label
 * cls (a number in digits), all other numbers npy. A field that is called like its ending, and the label, have only the ending. */
#include "export.h"
#include <inttypes.h>
#include <stdio.h>

enum { BLOCK = 512 };

typedef struct state {
    const taut__export *e;
    taut_output         out;
    char                ending[64][80];
    taut_bytes          member;
} state;

static const char *ending_of(const taut__export *e, size_t k)
{
    static const char *const files[] = {"bin", "jpg", "png"};
    switch (e->field[k].kind) {
    case TAUT_KIND_TEXT: return "txt";
    case TAUT_KIND_FILE: return files[e->files[k]];
    case TAUT_KIND_LABEL: return "cls";
    case TAUT_KIND_BYTES: return e->field[k].type == TAUT_U8 ? "bin" : "npy";
    default: return "npy";
    }
}

static taut_status open_tar(const taut__export *e, void **out)
{
    state *s = taut__alloc(1, sizeof *s);
    if (!s) return taut__fail(TAUT_E_NOMEM, "%s: no memory", e->path);
    s->e = e;
    s->out.fd = -1;
    *out = s;
    for (size_t k = 0; k < e->fields; k++) {
        const char *ending = ending_of(e, k), *name = e->field[k].name;
        bool        alone = strcmp(name, ending) == 0 || e->field[k].kind == TAUT_KIND_LABEL;
        snprintf(s->ending[k], sizeof s->ending[k], "%s%s%s", alone ? "" : name, alone ? "" : ".", ending);
        for (size_t i = 0; i < k; i++)
            if (strcmp(s->ending[i], s->ending[k]) == 0)
                return taut__fail(TAUT_E_UNSUPPORTED, "fields %s and %s would both end with .%s", e->field[i].name,
                                  name, ending);
    }
    return taut__output_open(&s->out, e->path);
}

static void octal(uint8_t *dst, size_t n, uint64_t v)
{
    for (dst[--n] = 0; n-- > 0; v >>= 3) dst[n] = (uint8_t)('0' + (v & 7));
}

static taut_status add_member(state *s, const char *name, const uint8_t *data, size_t bytes)
{
    uint8_t  h[BLOCK] = {0}, zero[BLOCK] = {0};
    uint32_t sum = 0;
    memcpy(h, name, taut__min(strlen(name), 99));
    memcpy(h + 100, "0000444", 8);
    octal(h + 108, 8, 0);
    octal(h + 116, 8, 0);
    octal(h + 124, 12, bytes); /* below 4 GiB: taut's samples are */
    octal(h + 136, 12, 0);
    h[156] = '0';
    memcpy(h + 257,
           "ustar\0"
           "00",
           8);
    memset(h + 148, ' ', 8);
    for (size_t i = 0; i < BLOCK; i++) sum += h[i];
    octal(h + 148, 7, sum);
    TAUT_TRY(taut__output_add(&s->out, h, sizeof h));
    TAUT_TRY(taut__output_add(&s->out, data, bytes));
    return bytes % BLOCK ? taut__output_add(&s->out, zero, BLOCK - bytes % BLOCK) : TAUT_OK;
}

static taut_status add_value(state *s, size_t k, const char *name, const uint8_t *data, size_t bytes)
{
    const taut_field *f = &s->e->field[k];
    size_t            size = taut_type_bytes(f->type);
    char              digits[32];
    if (f->kind == TAUT_KIND_LABEL) {
        uint64_t v = taut__get_uint(data, size);
        unsigned unused = 64 - 8 * (unsigned)size;
        int      n = f->type & 1 ? snprintf(digits, sizeof digits, "%" PRId64, (int64_t)(v << unused) >> unused)
                                 : snprintf(digits, sizeof digits, "%" PRIu64, v);
        return add_member(s, name, (const uint8_t *)digits, (size_t)n);
    }
    if (strcmp(ending_of(s->e, k), "npy") != 0) return add_member(s, name, data, bytes);
    s->member.n = 0;
    TAUT_TRY(taut__npy_write_head(f, UINT64_MAX, bytes / size, &s->member));
    TAUT_TRY(taut__bytes_add(&s->member, data, bytes));
    return add_member(s, name, s->member.p, s->member.n);
}

static taut_status sample(void *p, uint64_t number, const uint8_t *const *data, const size_t *bytes)
{
    state *s = p;
    for (size_t k = 0; k < s->e->fields; k++) {
        char name[100];
        snprintf(name, sizeof name, "%09" PRIu64 ".%.76s", number, s->ending[k]);
        TAUT_TRY(add_value(s, k, name, data[k], bytes[k]));
    }
    return TAUT_OK;
}

static taut_status finish(void *p)
{
    state  *s = p;
    uint8_t end[2 * BLOCK] = {0};
    TAUT_TRY(taut__output_add(&s->out, end, sizeof end));
    return taut__output_publish(&s->out);
}

static void close_tar(void *p)
{
    state *s = p;
    taut__output_close(&s->out);
    taut__bytes_free(&s->member);
    taut__free(s);
}

const taut__exporter taut__export_tar = {
    "tar", "WebDataset: one tar OUT, a member per value", open_tar, sample, finish, close_tar};
