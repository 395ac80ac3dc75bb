/* foreign_arrow_schema.c : see foreign_arrow.h. */
#include "foreign_arrow.h"
#include <stdio.h>

enum { DEPTH = 8 };

static taut_status bad(const taut__arrow *a, const char *what)
{
    return taut__fail(TAUT_E_CORRUPT, "%s: its schema: %s", a->s->name, what);
}

/* ---- nodes ---- */

static bool int_type(const taut__fb *t, taut_type *type)
{
    int64_t bits = taut__fb_number(t, 0, 4, 0), sign = taut__fb_number(t, 1, 1, 0);
    int     base = bits == 8 ? TAUT_U8 : bits == 16 ? TAUT_U16 : bits == 32 ? TAUT_U32 : bits == 64 ? TAUT_U64 : -1;
    *type = (taut_type)(base + (sign != 0));
    return base >= 0;
}

static taut_status take_dictionary(taut__arrow *a, const taut__fb *field, size_t number)
{
    taut__arrow_node *n = &a->node[number];
    taut__fb          d = taut__fb_table(field, 4), index;
    if (!d.p) return TAUT_OK;
    n->encoded = true;
    n->dictionary = taut__fb_number(&d, 0, 8, 0);
    n->index = TAUT_I32;
    index = taut__fb_table(&d, 1);
    if (index.p && !int_type(&index, &n->index)) return bad(a, "the indices of a dictionary are no integers");
    if (taut__arrow_find(a, n->dictionary)) return TAUT_OK; /* shared by columns */
    if (a->dictionaries == TAUT__ARROW_COLUMNS)
        return taut__fail(TAUT_E_UNSUPPORTED, "%s: more than %d dictionaries", a->s->name, TAUT__ARROW_COLUMNS);
    a->dictionary[a->dictionaries++] = (taut__arrow_dictionary){.id = n->dictionary, .node = number};
    return TAUT_OK;
}

static taut_status take_node(taut__arrow *a, const taut__fb *field, int depth)
{
    size_t            number = a->nodes;
    taut__arrow_node *n;
    taut__fb          type = taut__fb_table(field, 3);
    taut__fb_vector   children = taut__fb_list(field, 5, 4);
    int64_t           precision;
    if (number == TAUT__ARROW_NODES || depth > DEPTH)
        return taut__fail(TAUT_E_UNSUPPORTED, "%s: a schema of more than %d columns or %d levels", a->s->name,
                          TAUT__ARROW_NODES, DEPTH);
    n = &a->node[a->nodes++];
    *n = (taut__arrow_node){.type = (int)(uint8_t)taut__fb_number(field, 2, 1, 0), .children = children.n};
    if (n->type == ARROW_INT) n->known = int_type(&type, &n->element);
    if (n->type == ARROW_FLOAT) {
        precision = taut__fb_number(&type, 0, 2, 0);
        n->known = precision == 1 || precision == 2;
        n->element = precision == 2 ? TAUT_FLOAT64 : TAUT_FLOAT32;
    }
    if (n->type == ARROW_FIXED_BINARY || n->type == ARROW_FIXED_LIST) {
        int64_t width = taut__fb_number(&type, 0, 4, 0);
        if (width < 0 || width > INT32_MAX) return bad(a, "the width of a column is negative");
        n->width = (uint32_t)width;
    }
    if ((n->type == ARROW_LIST || n->type == ARROW_LARGE_LIST || n->type == ARROW_FIXED_LIST || n->type == ARROW_MAP) &&
        children.n != 1)
        return bad(a, "a list without its elements");
    TAUT_TRY(take_dictionary(a, field, number));
    for (size_t k = 0; k < children.n; k++) {
        taut__fb child = taut__fb_table_at(&children, k);
        TAUT_TRY(take_node(a, &child, depth + 1));
    }
    a->node[number].end = a->nodes;
    return TAUT_OK;
}

taut__arrow_dictionary *taut__arrow_find(taut__arrow *a, int64_t id)
{
    for (size_t i = 0; i < a->dictionaries; i++)
        if (a->dictionary[i].id == id) return &a->dictionary[i];
    return NULL;
}

/* ---- columns ---- */

static taut_status no_type(const taut__arrow *a, const taut__arrow_column *c, const char *more)
{
    return taut__fail(TAUT_E_UNSUPPORTED,
                      "%s: column %s: type number %d%s cannot be indexed: must be integers, float32, float64, utf8, "
                      "binary, or lists of numbers; choose others with select",
                      a->s->name, c->name, a->node[c->node].type, more);
}

/* Fixed lists of fixed lists ... of numbers: their extents. */
static taut_status fixed_list(taut__arrow *a, const taut__arrow_column *c, taut_field *f)
{
    size_t   k = c->node, ndim = 0;
    uint64_t shape[TAUT_FIELD_DIMS];
    for (; a->node[k].type == ARROW_FIXED_LIST; k++) {
        if (ndim == TAUT_FIELD_DIMS || a->node[k].encoded) return no_type(a, c, " of this depth");
        shape[ndim++] = a->node[k].width;
    }
    if (!a->node[k].known || a->node[k].encoded) return no_type(a, c, " of these elements");
    return taut__import_array(a->im, c->name, a->node[k].element, shape, ndim, f);
}

static taut_status field_of(taut__arrow *a, taut__arrow_column *c, taut_field *f)
{
    const taut__arrow_node *n = &a->node[c->node], *child = n + 1;
    *f = (taut_field)TAUT_FIELD_INIT;
    switch (n->type) {
    case ARROW_INT:
    case ARROW_FLOAT:
        return n->known ? taut__import_array(a->im, c->name, n->element, NULL, 0, f) : no_type(a, c, " of this width");
    case ARROW_UTF8:
    case ARROW_LARGE_UTF8:
        if (n->encoded && taut__import_is_label(a->im, c->name) && !taut__import_has_label(a->im)) {
            c->label = true;
            f->kind = TAUT_KIND_LABEL;
            f->type = n->index;
            return TAUT_OK;
        }
        f->kind = a->im->options->bytes ? TAUT_KIND_BYTES : TAUT_KIND_TEXT;
        f->variable = 1;
        return TAUT_OK;
    case ARROW_BINARY:
    case ARROW_LARGE_BINARY: f->variable = 1; return TAUT_OK;
    case ARROW_FIXED_BINARY:
        if (n->width == 0) return no_type(a, c, " of width 0");
        f->ndim = 1, f->shape[0] = n->width;
        return TAUT_OK;
    case ARROW_FIXED_LIST: return n->encoded ? no_type(a, c, ", by a dictionary,") : fixed_list(a, c, f);
    case ARROW_LIST:
    case ARROW_LARGE_LIST:
        if (n->encoded || !child->known || child->encoded) return no_type(a, c, " of these elements");
        f->type = child->element;
        f->kind = child->element < TAUT_FLOAT32 ? TAUT_KIND_INT : TAUT_KIND_FLOAT;
        f->variable = 1;
        return TAUT_OK;
    default: return no_type(a, c, "");
    }
}

static taut_status add_column(taut__arrow *a, const taut__fb *field)
{
    taut__arrow_column *c = &a->column[a->columns];
    taut__fb_vector     name = taut__fb_list(field, 0, 1);
    taut_field          f;
    if (a->columns == TAUT__ARROW_COLUMNS)
        return taut__fail(TAUT_E_UNSUPPORTED, "%s: more than %d columns", a->s->name, TAUT__ARROW_COLUMNS);
    a->columns++;
    snprintf(c->name, sizeof c->name, "%.*s", (int)taut__min(name.n, sizeof c->name - 1),
             name.in.p ? (const char *)name.in.p + name.at : "");
    c->node = a->nodes;
    TAUT_TRY(take_node(a, field, 0));
    c->wanted = taut__import_wanted(a->im, c->name);
    if (!c->wanted) return TAUT_OK;
    TAUT_TRY(field_of(a, c, &f));
    return taut__import_tokens_add(a->im, c->name, &f, TAUT__AS_PLAIN, &c->field);
}

taut_status taut__arrow_schema(taut__arrow *a, const taut__fb *schema)
{
    taut__fb_vector fields = taut__fb_list(schema, 1, 4);
    const char     *names[TAUT__ARROW_COLUMNS];
    if (a->columns) return bad(a, "there are two");
    if (taut__fb_number(schema, 0, 2, 0) != 0) return taut__fail(TAUT_E_UNSUPPORTED, "%s: big-endian", a->s->name);
    for (size_t k = 0; k < fields.n; k++) {
        taut__fb field = taut__fb_table_at(&fields, k);
        TAUT_TRY(add_column(a, &field));
        names[k] = a->column[k].name;
    }
    if (a->columns == 0) return bad(a, "no columns");
    return taut__import_selected(a->im, a->s->name, a->columns, names);
}
