/* json.h : what launch/ needs beside jansson: numbers that JSON can hold, and the last line. */
#ifndef TAUT_JSON_H
#define TAUT_JSON_H

#include <jansson.h>
#include <stdint.h>

/* Set a member of an object. A number that is not finite becomes null: JSON has no NaN. */
void jsn_text(json_t *o, const char *key, const char *value);
void jsn_real(json_t *o, const char *key, double value);
void jsn_int(json_t *o, const char *key, uint64_t value);
void jsn_bool(json_t *o, const char *key, int value);

/* Says why json_load_file(path) has failed, and on which line, if it has come to one; returns CLI_FAILED. */
int jsn_bad(const char *path, const json_error_t *e);

/* One object, one line, nine significant digits, to stdout; releases it. The last thing that --json prints. */
void jsn_print(json_t *o);

#endif
