/* foreign_tar.c : WebDataset: a tar whose members KEY.ENDING belong to one sample while KEY stays the same (Aizman, Maltby, Breuel:
 * High Performance I/O For Large Scale Deep Learning, 2019); the ending, behind the first dot of the last part of a name, is the
 * field. Headers: POSIX.1-2017 pax interchange format and ustar; GNU's long names and base-256 sizes (GNU tar manual, "Basic Tar
 * Format"). Members must be stored as they are, which uncompressed tars do: so offsets are enough. */
#include "foreign_column.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

enum { BLOCK = 512, NAME_MAX_BYTES = 1 << 16, PAX_MAX = 1 << 20 };

typedef struct member {
    uint64_t at, bytes;
    uint32_t column, unused;
} member;

typedef struct tar {
    taut__import *im;
    taut__source *s;
    taut_bytes    members;                        /* of wanted columns, sample after sample */
    taut_bytes    name, key, first_key, pax_name; /* NUL-terminated */
    bool          long_name, pax_size;
    uint64_t      size;       /* from a pax header, for the next member */
    uint64_t      number, at; /* of the member under way, for messages */
    taut__column  column[64];
    char          ending[64][64];
    bool          wanted[64];
    size_t        columns;
    uint64_t      seen, want; /* columns of the sample under way, of the first one */
    uint64_t      samples, links;
} tar;

static taut_status bad(const tar *t, taut_status rc, const char *what)
{
    return taut__fail(rc, "%s: member %" PRIu64 " (byte %" PRIu64 ")%s%.200s: %s", t->s->name, t->number, t->at,
                      t->name.n ? " " : "", t->name.n ? (const char *)t->name.p : "", what);
}

static taut_status set_text(taut_bytes *b, const void *text, size_t n)
{
    b->n = 0;
    TAUT_TRY(taut__bytes_add(b, text, n));
    TAUT_TRY(taut__bytes_add(b, "", 1));
    b->n--;
    return TAUT_OK;
}

/* ---- headers ---- */

/* Octal digits between spaces, or base-256 with the top bit set. */
static bool number_at(const uint8_t *p, size_t n, uint64_t *v)
{
    size_t i = 0, digits = 0;
    *v = 0;
    if (p[0] & 0x80) {
        for (size_t k = 0; k < n; k++) {
            if (*v >> 55) return false;
            *v = *v << 8 | (k ? p[k] : p[0] & 0x7f);
        }
        return true;
    }
    while (i < n && p[i] == ' ') i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++, digits++) *v = *v << 3 | (uint64_t)(p[i] - '0');
    return digits <= 20 && (i == n || p[i] == ' ' || p[i] == 0);
}

static bool checksum_ok(const uint8_t *p)
{
    uint64_t want;
    uint32_t sum = 0;
    int32_t  with_signs = 0; /* of old writers */
    if (!number_at(p + 148, 8, &want)) return false;
    for (size_t i = 0; i < BLOCK; i++) {
        uint8_t c = i >= 148 && i < 156 ? ' ' : p[i];
        sum += c;
        with_signs += (int8_t)c;
    }
    return want == sum || (int64_t)want == with_signs;
}

static bool all_zero(const uint8_t *p)
{
    for (size_t i = 0; i < BLOCK; i++)
        if (p[i]) return false;
    return true;
}

/* Records "LENGTH KEY=VALUE\n" of a pax header. */
static taut_status read_pax(tar *t, const uint8_t *p, size_t n)
{
    for (size_t i = 0, len; i < n; i += len) {
        size_t      k = i, eq;
        const char *text;
        uint64_t    v = 0;
        for (len = 0; k < n && p[k] >= '0' && p[k] <= '9' && len <= PAX_MAX; k++) len = 10 * len + (size_t)(p[k] - '0');
        if (k == i || k >= n || p[k] != ' ' || len < k - i + 4 || len > n - i || p[i + len - 1] != '\n')
            return bad(t, TAUT_E_CORRUPT, "a malformed pax header");
        text = (const char *)p + k + 1;
        size_t record = i + len - 1 - (k + 1);
        for (eq = 0; eq < record && text[eq] != '='; eq++) {}
        if (eq == record) return bad(t, TAUT_E_CORRUPT, "a malformed pax header");
        if (eq >= 11 && memcmp(text, "GNU.sparse.", 11) == 0)
            return bad(t, TAUT_E_UNSUPPORTED,
                       "a sparse file, which is not stored as it is: make the tar without --sparse");
        if (eq == 4 && memcmp(text, "path", 4) == 0) {
            if (record - 5 > NAME_MAX_BYTES || memchr(text + 5, 0, record - 5))
                return bad(t, TAUT_E_CORRUPT, "a malformed name in its pax header");
            TAUT_TRY(set_text(&t->pax_name, text + 5, record - 5));
            t->long_name = true;
        }
        if (eq == 4 && memcmp(text, "size", 4) == 0) {
            for (size_t d = 5; d < record; d++) {
                if (text[d] < '0' || text[d] > '9' || v > (UINT64_C(1) << 58))
                    return bad(t, TAUT_E_CORRUPT, "a malformed size in its pax header");
                v = 10 * v + (uint64_t)(text[d] - '0');
            }
            t->size = v;
            t->pax_size = true;
        }
    }
    return TAUT_OK;
}

static taut_status read_name(tar *t, const uint8_t *h)
{
    size_t prefix = memcmp(h + 257, "ustar\0", 6) == 0 ? strnlen((const char *)h + 345, 155) : 0,
           n = strnlen((const char *)h, 100);
    char name[100 + 155 + 2];
    if (t->long_name) return set_text(&t->name, t->pax_name.p, t->pax_name.n);
    snprintf(name, sizeof name, "%.*s%s%.*s", (int)prefix, (const char *)h + 345, prefix ? "/" : "", (int)n,
             (const char *)h);
    return set_text(&t->name, name, strlen(name));
}

/* ---- samples ---- */

static taut__column_kind kind_of(const char *last, taut__value_head *head)
{
    static const struct {
        const char       *ending;
        taut__column_kind kind;
        taut__value_head  head;
    } known[] = {{"txt", TAUT__COLUMN_TEXT, NULL},
                 {"text", TAUT__COLUMN_TEXT, NULL},
                 {"transcript", TAUT__COLUMN_TEXT, NULL},
                 {"json", TAUT__COLUMN_TEXT, NULL},
                 {"jsn", TAUT__COLUMN_TEXT, NULL},
                 {"md", TAUT__COLUMN_TEXT, NULL},
                 {"html", TAUT__COLUMN_TEXT, NULL},
                 {"cls", TAUT__COLUMN_ASCII, NULL},
                 {"cls2", TAUT__COLUMN_ASCII, NULL},
                 {"class", TAUT__COLUMN_ASCII, NULL},
                 {"count", TAUT__COLUMN_ASCII, NULL},
                 {"index", TAUT__COLUMN_ASCII, NULL},
                 {"inx", TAUT__COLUMN_ASCII, NULL},
                 {"id", TAUT__COLUMN_ASCII, NULL},
                 {"npy", TAUT__COLUMN_ARRAY, taut__npy_value},
                 {"pgm", TAUT__COLUMN_ARRAY, taut__pnm_head},
                 {"ppm", TAUT__COLUMN_ARRAY, taut__pnm_head},
                 {"pnm", TAUT__COLUMN_ARRAY, taut__pnm_head},
                 {"bin", TAUT__COLUMN_BYTES, NULL},
                 {"raw", TAUT__COLUMN_BYTES, NULL}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(last, known[i].ending) == 0) {
            *head = known[i].head;
            return known[i].kind;
        }
    *head = NULL;
    return TAUT__COLUMN_FILE;
}

/* "image.npy" is field image, "npy" field npy. */
static taut_status new_column(tar *t, const char *ending, size_t *number)
{
    taut__column *c = &t->column[t->columns];
    const char   *last = strrchr(ending, '.');
    if (t->columns == sizeof t->column / sizeof *t->column)
        return bad(t, TAUT_E_UNSUPPORTED, "more than 64 endings: choose some with select");
    if (strlen(ending) >= sizeof t->ending[0]) return bad(t, TAUT_E_UNSUPPORTED, "an ending of more than 63 bytes");
    memset(c, 0, sizeof *c);
    c->kind = kind_of(last ? last + 1 : ending, &c->head);
    snprintf(t->ending[t->columns], sizeof t->ending[0], "%s", ending);
    snprintf(c->name, sizeof c->name, "%.*s", last && last > ending ? (int)(last - ending) : (int)strlen(ending),
             ending);
    t->wanted[t->columns] = taut__import_wanted(t->im, ending) || taut__import_wanted(t->im, c->name);
    *number = t->columns++;
    return TAUT_OK;
}

static taut_status end_sample(tar *t)
{
    uint64_t missing = t->want & ~t->seen, more = t->seen & ~t->want;
    if (!t->seen) return TAUT_OK;
    if (t->samples == 0) {
        t->want = t->seen;
        TAUT_TRY(set_text(&t->first_key, t->key.p, t->key.n));
    } else if (missing | more) {
        const char *ending = t->ending[__builtin_ctzll(missing ? missing : more)];
        return taut__fail(
            TAUT_E_CORRUPT,
            "%s: sample %" PRIu64
            " (%.200s) has %s .%s, which the first sample (%.200s) has%s: choose fields that all have with select",
            t->s->name, t->samples, (const char *)t->key.p, missing ? "no" : "a", ending, (const char *)t->first_key.p,
            missing ? "" : " not");
    }
    t->samples++;
    t->seen = 0;
    return TAUT_OK;
}

/* The first dot of the last part of the name; NULL: no part of a sample, as in WebDataset. */
static char *ending_of(const tar *t)
{
    char *name = (char *)t->name.p, *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name,
         *dot = strchr(base, '.');
    return !dot || dot == base || !dot[1] || strncmp(base, "__", 2) == 0 ? NULL : dot;
}

static taut_status add_member(tar *t, uint64_t at, uint64_t bytes)
{
    char  *name = (char *)t->name.p, *dot = ending_of(t);
    size_t k = 0, key;
    member m = {.at = at, .bytes = bytes};
    if (!dot) return TAUT_OK;
    key = (size_t)(dot - name);
    if (t->key.n != key || memcmp(t->key.p, name, key) != 0) {
        TAUT_TRY(end_sample(t));
        TAUT_TRY(set_text(&t->key, name, key));
    }
    while (k < t->columns && strcmp(t->ending[k], dot + 1) != 0) k++;
    if (k == t->columns) TAUT_TRY(new_column(t, dot + 1, &k));
    if (!t->wanted[k]) return TAUT_OK;
    if (t->seen >> k & 1) return bad(t, TAUT_E_CORRUPT, "this sample has two members of that ending");
    t->seen |= UINT64_C(1) << k;
    m.column = (uint32_t)k;
    TAUT_TRY(taut__bytes_add(&t->members, &m, sizeof m));
    taut_status rc = taut__column_look(&t->column[k], t->s, at, bytes);
    char        why[256];
    if (rc == TAUT_OK) return rc;
    snprintf(why, sizeof why, "%s", taut_last_error());
    return bad(t, rc, why);
}

/* ---- the walk ---- */

static taut_status header_data(tar *t, uint64_t at, uint64_t bytes, size_t most, const uint8_t **p)
{
    if (bytes > most) return bad(t, TAUT_E_CORRUPT, "a header of unlikely length");
    return taut__source_view(t->s, at, (size_t)bytes, "a header of the tar", p);
}

static taut_status take(tar *t, char type, uint64_t data, uint64_t bytes)
{
    const uint8_t *p;
    switch (type) {
    case 'x': TAUT_TRY(header_data(t, data, bytes, PAX_MAX, &p)); return read_pax(t, p, (size_t)bytes);
    case 'L':
        TAUT_TRY(header_data(t, data, bytes, NAME_MAX_BYTES, &p));
        t->long_name = true;
        return set_text(&t->pax_name, p, strnlen((const char *)p, (size_t)bytes));
    case 'S':
        return bad(t, TAUT_E_UNSUPPORTED, "a sparse file, which is not stored as it is: make the tar without --sparse");
    case 'M': return bad(t, TAUT_E_UNSUPPORTED, "the continuation of another volume");
    case '0':
    case '7':
    case 0: TAUT_TRY(add_member(t, data, bytes)); break;
    case '1':
    case '2': t->links += ending_of(t) != NULL; break;
    default: break; /* folders, devices, global headers: not data */
    }
    if (type != 'K' && type != 'g') t->long_name = t->pax_size = false;
    return TAUT_OK;
}

/* What fills the last blocks of a tar is nobody's; the header of a member is (tars put one behind the other by cat). */
static taut_status only_zeros_from(tar *t)
{
    const uint8_t *h;
    for (; t->s->bytes - t->at >= BLOCK; t->at += BLOCK) {
        TAUT_TRY(taut__source_view(t->s, t->at, BLOCK, "the end of the tar", &h));
        if (all_zero(h)) continue;
        t->name.n = 0;
        return checksum_ok(h) ? bad(t, TAUT_E_UNSUPPORTED,
                                    "stands behind the zero blocks that end the tar: is it several, put one behind the "
                                    "other? index each of them, or join them by tar --concatenate")
                              : TAUT_OK;
    }
    return TAUT_OK;
}

static taut_status walk(tar *t)
{
    for (t->at = 0; t->s->bytes - t->at >= BLOCK; t->number++) {
        const uint8_t *h;
        uint64_t       bytes, data = t->at + BLOCK, blocks;
        char           type;
        TAUT_TRY(taut__source_view(t->s, t->at, BLOCK, "a header of the tar", &h));
        if (all_zero(h)) return only_zeros_from(t);
        t->name.n = 0;
        if (!checksum_ok(h))
            return bad(t, TAUT_E_CORRUPT, "the checksum of its header does not match: damaged, or not a tar");
        type = (char)h[156];
        if (!strchr("xgLK", type) || !type) TAUT_TRY(read_name(t, h));
        if (!number_at(h + 124, 12, &bytes)) return bad(t, TAUT_E_CORRUPT, "a malformed size");
        if (t->pax_size && type && !strchr("xgLK", type)) bytes = t->size;
        if (type && strchr("123456", type)) bytes = 0; /* links, devices, folders */
        if (bytes > t->s->bytes - data) return bad(t, TAUT_E_CORRUPT, "reaches beyond the end of the tar: truncated");
        TAUT_TRY(take(t, type, data, bytes));
        blocks = (bytes + BLOCK - 1) / BLOCK;
        t->at = blocks * BLOCK > t->s->bytes - data ? t->s->bytes : data + blocks * BLOCK;
    }
    t->name.n = 0;
    return bad(t, TAUT_E_CORRUPT, "the file ends here, without the zero blocks that end a tar: truncated");
}

/* Fields may be selected by their whole ending or by their name. */
static taut_status check_selected(const tar *t)
{
    const char *names[64];
    for (size_t k = 0; k < t->columns; k++)
        names[k] = t->wanted[k] && !taut__import_wanted(t->im, t->ending[k]) ? t->column[k].name : t->ending[k];
    return taut__import_selected(t->im, t->s->name, t->columns, names);
}

static taut_status place_all(tar *t)
{
    taut__import *im = t->im;
    uint32_t      buffer;
    TAUT_TRY(
        taut__foreign_add_buffer(&im->foreign, (taut__foreign_buffer){0, false, 0, t->s->bytes, t->s->bytes}, &buffer));
    for (size_t k = 0; k < t->columns; k++)
        if (t->want >> k & 1) TAUT_TRY(taut__column_field(im, &t->column[k]));
    im->samples = t->samples;
    for (size_t i = 0; i < t->members.n / sizeof(member); i++) {
        member m;
        char   what[64];
        memcpy(&m, t->members.p + i * sizeof m, sizeof m);
        snprintf(what, sizeof what, "the member at byte %" PRIu64, m.at);
        TAUT_TRY(taut__column_place(im, &t->column[m.column], t->s, buffer, m.at, m.bytes, what));
    }
    return TAUT_OK;
}

static taut_status scan(taut__import *im)
{
    tar        *t = taut__alloc(1, sizeof *t);
    taut_status rc;
    if (!t) return taut__fail(TAUT_E_NOMEM, "%s: no memory", im->foreign.file[0].source.name);
    t->im = im;
    t->s = &im->foreign.file[0].source;
    rc = walk(t);
    if (rc == TAUT_OK) rc = end_sample(t);
    if (rc == TAUT_OK && t->columns) rc = check_selected(t);
    if (rc == TAUT_OK && t->samples == 0)
        rc = taut__fail(
            TAUT_E_CORRUPT,
            "%s: no samples in it: members are to be called KEY.ENDING, and KEY stays the same within a sample",
            t->s->name);
    if (rc == TAUT_OK) rc = place_all(t);
    if (rc == TAUT_OK && t->links)
        taut__log(TAUT_LOG_WARN, "data",
                  "%s: %" PRIu64
                  " members are links, which are left out: make the tar with --hard-dereference --dereference",
                  t->s->name, t->links);
    taut__bytes_free(&t->members);
    taut__bytes_free(&t->name);
    taut__bytes_free(&t->key);
    taut__bytes_free(&t->first_key);
    taut__bytes_free(&t->pax_name);
    taut__free(t);
    return rc;
}

static bool knows(const char *path, const uint8_t *p, size_t n)
{
    return n >= BLOCK && (memcmp(p + 257, "ustar", 5) == 0 || taut__import_ends(path, ".tar")) &&
           (checksum_ok(p) || taut__import_ends(path, ".tar"));
}

const taut__format taut__format_tar = {"tar", "WebDataset: members KEY.ENDING, a sample per KEY", knows, false, scan};
