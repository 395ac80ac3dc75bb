/* json.c : see json.h. */
#include "json.h"
#include "cli.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void jsn_text(json_t *o, const char *key, const char *value)
{
    json_t *text = json_string(value);
    char   *copy = text ? NULL : strdup(value);
    for (char *c = copy; c && *c; c++)
        if ((unsigned char)*c > 127) *c = '?'; /* JSON holds UTF-8 only; names of files may be any bytes */
    if (copy) text = json_string(copy);
    free(copy);
    json_object_set_new(o, key, text);
}

void jsn_bool(json_t *o, const char *key, int value) { json_object_set_new(o, key, json_boolean(value)); }
void jsn_int(json_t *o, const char *key, uint64_t value)
{
    json_object_set_new(o, key, json_integer((json_int_t)value));
}
void jsn_real(json_t *o, const char *key, double value)
{
    json_object_set_new(o, key, isfinite(value) ? json_real(value) : json_null());
}

int jsn_bad(const char *path, const json_error_t *e)
{
    return e->line > 0 ? cli_fail("%s: %s (line %d)", path, e->text, e->line) : cli_fail("%s", e->text);
}

void jsn_print(json_t *o)
{
    char *text = json_dumps(o, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    if (text) puts(text);
    fflush(stdout);
    free(text);
    json_decref(o);
}
