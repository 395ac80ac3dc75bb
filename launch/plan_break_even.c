/* plan_break_even.c : for which bandwidth and size each choice wins, every codec at the same error budget.
 *
 * Each family alone plans the whole trace within the budget, as few bytes as it can. Bits per element and seconds per
 * element of those plans, over the layers that they compress, stand for the family in the time model. */
#include "plan.h"
#include "cli.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct contender {
    const char *name, *codec, *with; /* specs of this codec that contain `with` */
    bool        fits;                /* its plan compresses something */
    taut__work  per_elem;
} contender;

static bool belongs(const contender *c, const taut__option *o)
{
    size_t len = strlen(c->codec);
    return strncmp(o->spec, c->codec, len) == 0 && (o->spec[len] == 0 || o->spec[len] == ':') &&
           (c->with[0] != '!' ? strstr(o->spec, c->with) != NULL : strstr(o->spec, c->with + 1) == NULL);
}

/* The observations with this family's options and the dense ones only. */
static int restrict_to(const contender *c, const plan_facts *f, taut__observations *o)
{
    *o = (taut__observations){.layers = f->o.layers};
    o->layer = taut__alloc(f->o.layers, sizeof *o->layer);
    o->option = taut__alloc(f->o.options, sizeof *o->option);
    if (!o->layer || !o->option) return cli_fail("out of memory");
    for (size_t l = 0; l < f->o.layers; l++) {
        const taut__offer *from = &f->o.layer[l];
        o->layer[l] = *from;
        o->layer[l].first = o->options;
        for (size_t i = 0; i < from->n; i++) {
            const taut__option *option = &f->o.option[from->first + i];
            if (option->dense || belongs(c, option)) o->option[o->options++] = *option;
        }
        o->layer[l].n = o->options - o->layer[l].first;
    }
    return CLI_OK;
}

static void add(taut__work *sum, const taut__work *w)
{
    sum->bytes += w->bytes;
    sum->sum_bytes += w->sum_bytes;
    sum->encode_s += w->encode_s;
    sum->decode_s += w->decode_s;
    sum->rounds = w->rounds;
    sum->vias |= w->vias;
    sum->agree = fmax(sum->agree, w->agree);
}

static int evaluate(const plan_facts *f, const plan_settings *s, contender *c)
{
    taut__observations o;
    taut__demand       demand = s->demand;
    taut__decision     d = {.option = taut__alloc(f->o.layers, sizeof *d.option)};
    taut__work        *w = &c->per_elem;
    double             elems = 0;
    int                rc = restrict_to(c, f, &o);
    demand.objective = TAUT_OBJECTIVE_BYTES;
    if (rc == CLI_OK && !d.option) rc = cli_fail("out of memory");
    if (rc == CLI_OK && taut__decide(&o, &demand, &d) != TAUT_OK) rc = cli_fail("%s", taut_last_error());
    for (size_t l = 0; l < o.layers && rc == CLI_OK; l++) {
        const taut__option *option = &o.option[d.option[l]];
        if (o.layer[l].n == 1) continue; /* small: dense whatever the family */
        add(w, &option->work);
        elems += (double)o.layer[l].elems;
        c->fits |= !option->dense;
    }
    if (elems > 0) {
        w->bytes /= elems;
        w->sum_bytes /= elems;
        w->encode_s /= elems;
        w->decode_s /= elems;
    }
    taut__free(d.option);
    taut__free(o.layer);
    taut__free(o.option);
    return rc;
}

static const char *winner(const contender *c, size_t n, const taut__link *link, double elems, double *gain)
{
    taut__work  w = {4 * elems, 4 * elems, 4 * elems, 0, 0, 1, 1u << TAUT_VIA_NATIVE, 0};
    double      best, dense;
    const char *name = "none";
    taut__algorithm_best(link, &w, &dense);
    best = dense;
    for (size_t i = 0; i < n; i++) {
        double seconds;
        if (!c[i].fits) continue;
        w = c[i].per_elem;
        w.dense_bytes = 4 * elems;
        w.bytes *= elems;
        w.sum_bytes *= elems;
        w.encode_s *= elems;
        w.decode_s *= elems;
        taut__algorithm_best(link, &w, &seconds);
        if (seconds >= best) continue;
        best = seconds;
        name = c[i].name;
    }
    *gain = dense / best;
    return name;
}

static void print_contenders(const contender *c, size_t n)
{
    printf("\nEvery codec at the budget   bits/el   encode      decode (GB/s of float32, one thread)\n");
    for (size_t i = 0; i < n; i++)
        if (c[i].fits)
            printf("  %-24s %8.3f %8.2f %11.2f\n", c[i].name, 8 * c[i].per_elem.bytes, 4e-9 / c[i].per_elem.encode_s,
                   4e-9 / c[i].per_elem.decode_s);
}

int report_break_even(const plan_facts *f, const plan_settings *s, double latency_s, json_t *out)
{
    contender c[] = {
        {.name = "fp16", .codec = "fp16", .with = ""},      {.name = "quant", .codec = "quant", .with = ""},
        {.name = "grid", .codec = "grid", .with = "!rans"}, {.name = "grid rans", .codec = "grid", .with = "rans"},
        {.name = "topk", .codec = "topk", .with = ""},      {.name = "powersgd", .codec = "powersgd", .with = ""}};
    static const double gbits[] = {0.1, 1, 10, 25, 100, 400};
    size_t              n = sizeof c / sizeof *c, speeds = sizeof gbits / sizeof *gbits;
    int                 rc = CLI_OK;
    for (size_t i = 0; i < n && rc == CLI_OK; i++) rc = evaluate(f, s, &c[i]);
    if (rc != CLI_OK) return rc;
    print_contenders(c, n);
    printf("\nBreak-even: what wins, and how many times faster than uncompressed; %d ranks, %g us per message\n%-12s",
           s->demand.link.ranks, 1e6 * latency_s, "elements");
    for (size_t b = 0; b < speeds; b++) printf("%11g Gbit/s", gbits[b]);
    for (size_t elems = 1 << 14; elems <= 1 << 26; elems *= 4) {
        printf("\n%-12zu", elems);
        for (size_t b = 0; b < speeds; b++) {
            taut__link  link = taut__link_simple(s->demand.link.ranks, 1e9 * gbits[b], latency_s);
            double      gain;
            const char *name = winner(c, n, &link, (double)elems, &gain);
            printf("%12s %5.2f", name, gain);
            if (out)
                json_array_append_new(out, json_pack("{s:I s:f s:s s:f}", "elements", (json_int_t)elems, "gbit_per_s",
                                                     gbits[b], "codec", name, "speedup", gain));
        }
    }
    printf("\n");
    return CLI_OK;
}
