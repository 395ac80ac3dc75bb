/* scales.c : see scales.h. */
#include "scales.h"
#include "../cli.h"
#include "ranks.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Does any codec of this run look at the scale? */
static bool used(const options *o)
{
    if (strstr(o->codec, "grid") || strstr(o->codec, "auto") || options_is(o->metric, "optimizer")) return true;
    for (size_t k = 0; k < o->layer_codecs.n; k++)
        if (strstr(o->layer_codecs.item[k], "grid") || strstr(o->layer_codecs.item[k], "=auto")) return true;
    return false;
}

int scales_begin(scales *s)
{
    const options *o = s->o;
    size_t         most = 1; /* those of elements are the optimizer's */
    if (options_is(o->scale, "none") || options_is(o->optimizer, "sgd")) return 0;
    if (options_is(o->scale, "auto") && (o->metric && !options_is(o->metric, "optimizer"))) return 0;
    if (options_is(o->scale, "auto") && !used(o)) return 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->param[i].ndim > 0 && s->param[i].shape[0] > most) most = s->param[i].shape[0];
    s->room = malloc(most * sizeof *s->room);
    return s->room ? 0 : fault(CLI_FAILED, "out of memory");
}

void scales_end(scales *s)
{
    free(s->room);
    s->room = NULL;
}

static int torch_fault(const char *what, taut_status s)
{
    return fault_status(CLI_FAILED, what, taut_torch_last_error(), s);
}

static int refused(const char *name, taut_status status, const float *s, size_t n, double *odd)
{
    for (size_t k = 0; k < n; k++)
        if (!isfinite(s[k])) {
            *odd = (double)s[k];
            return SCALES_ODD;
        }
    return fault_status(CLI_FAILED, name, taut_last_error(), status);
}

/* One number per element: the optimizer's own tensor, where it lies. */
static int lend(const scales *s, size_t i, double *odd)
{
    const taut_torch_param *p = &s->param[i];
    bool                    here = p->device < 0;
    const float            *own;
    taut_status             status = taut_torch_optim_denominator(s->optim, i, s->o->scale_floor, &own);
    if (status != TAUT_OK) return torch_fault(p->name, status);
    status = taut_layer_scale_in_place(s->layer[i], own, here ? TAUT_HOST : TAUT_CUDA, here ? 0 : p->device);
    return status == TAUT_OK ? 0 : refused(p->name, status, own, here ? p->elements : 0, odd);
}

static int copy(const scales *s, size_t i, size_t n, double *odd)
{
    const char *name = s->param[i].name;
    taut_status status = taut_torch_optim_scale(s->optim, i, s->o->scale_floor, s->room, n);
    if (status != TAUT_OK) return torch_fault(name, status);
    status = taut_layer_scale(s->layer[i], s->room, n);
    return status == TAUT_OK ? 0 : refused(name, status, s->room, n, odd);
}

int scales_set(const scales *s, double *odd)
{
    bool layer = options_is(s->o->scale, "layer"), row = options_is(s->o->scale, "row");
    if (!s->room || taut_torch_optim_steps(s->optim) == 0) return 0;
    for (size_t i = 0; i < s->n; i++) {
        const taut_torch_param *p = &s->param[i];
        if (p->ndim < 2 && !options_is(s->o->codec, "auto")) continue; /* travels uncompressed */
        int code = layer || row ? copy(s, i, layer ? 1 : p->shape[0], odd) : lend(s, i, odd);
        if (code) return code;
    }
    return 0;
}
