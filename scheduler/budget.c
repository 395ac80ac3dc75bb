/* budget.c : parses the words of a plan's settings. */
#include "budget.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

taut_status taut__budget_parse(const char *text, taut__budget *b)
{
    static const char form[] = "must be rel=X with 0 < X < 1, or like:SPEC as in like:quant:bits=4";
    char             *end;
    *b = (taut__budget){0};
    if (!text || !*text) return taut__fail(TAUT_E_INVALID, "budget '': %s", form);
    if (strncmp(text, "like:", 5) == 0 && text[5]) {
        if (strlen(text + 5) >= sizeof b->reference)
            return taut__fail(TAUT_E_RANGE, "budget '%s': the spec must be shorter than %zu bytes", text,
                              sizeof b->reference);
        b->like = true;
        snprintf(b->reference, sizeof b->reference, "%s", text + 5);
        return TAUT_OK;
    }
    if (strncmp(text, "rel=", 4) != 0) return taut__fail(TAUT_E_INVALID, "budget '%s': %s", text, form);
    b->rel = taut__strtod(text + 4, &end);
    if (end == text + 4 || *end) return taut__fail(TAUT_E_INVALID, "budget '%s': %s", text, form);
    if (!(b->rel > 0 && b->rel < 1)) return taut__fail(TAUT_E_RANGE, "budget '%s': %s", text, form);
    return TAUT_OK;
}

static const char *const metrics[] = {"plain", "layer", "optimizer"};

const char *taut__metric_name(taut__metric m) { return metrics[m]; }

taut_status taut__metric_parse(const char *text, taut__metric *m)
{
    *m = TAUT_METRIC_OPTIMIZER;
    if (!text || !*text) return TAUT_OK;
    for (int i = 0; i <= TAUT_METRIC_OPTIMIZER; i++)
        if (strcmp(text, metrics[i]) == 0) {
            *m = (taut__metric)i;
            return TAUT_OK;
        }
    return taut__fail(TAUT_E_INVALID, "metric '%s': must be plain, layer or optimizer", text);
}

double taut__layer_weight(size_t elems, double sum_norm2, double own_norm2)
{
    double norm2 = fmax(sum_norm2, own_norm2 * 1e-3);
    return norm2 > 0 ? (double)elems / norm2 : 0;
}

taut_status taut__objective_parse(const char *text, taut__objective *o)
{
    *o = TAUT_OBJECTIVE_TIME;
    if (!text || !*text || strcmp(text, "time") == 0) return TAUT_OK;
    *o = TAUT_OBJECTIVE_BYTES;
    if (strcmp(text, "bytes") == 0) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "objective '%s': must be time or bytes", text);
}
