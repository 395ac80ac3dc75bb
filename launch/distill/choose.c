/* choose.c : random images, those that a teacher finds easiest, images made by distribution matching; soft labels. */
#include "distill.h"
#include <stdlib.h>
#include <string.h>

void choice_free(image_choice *c)
{
    free(c->pixels);
    free(c->labels);
    free(c->soft);
    c->pixels = NULL, c->labels = NULL, c->soft = NULL;
}

static size_t elements(const image_pool *p) { return (size_t)(p->t.channels * p->t.height * p->t.width); }

static int64_t each_class(const distill_options *o) { return o->per_class * o->parts * o->parts; }

static int make_room(const distill_options *o, const image_pool *p, image_choice *c)
{
    c->n = (size_t)(p->t.classes * each_class(o));
    c->accuracy = -1;
    c->height = (p->t.height + o->parts - 1) / o->parts, c->width = (p->t.width + o->parts - 1) / o->parts;
    c->pixels = malloc(c->n * (size_t)(p->t.channels * c->height * c->width));
    c->labels = malloc(c->n * sizeof *c->labels);
    if (!c->pixels || !c->labels) return cli_fail("out of memory for %zu images", c->n);
    for (size_t i = 0; i < c->n; i++) c->labels[i] = (int64_t)(i / (size_t)each_class(o));
    return CLI_OK;
}

static uint64_t draw(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* `want` different images of a class (all of it where it has fewer), at random; to: their numbers. */
static size_t draw_class(const image_pool *p, int64_t class, size_t want, uint64_t *state, size_t *to)
{
    size_t n = 0, k = 0;
    for (size_t i = 0; i < p->t.n; i++)
        if (p->labels[i] == class) to[n++] = i;
    for (; k < want && k < n; k++) { /* the first steps of Fisher and Yates */
        size_t at = k + (size_t)(draw(state) % (n - k)), swap = to[at];
        to[at] = to[k], to[k] = swap;
    }
    return k;
}

static int too_few(const image_pool *p, int64_t class, size_t n, int64_t want)
{
    (void)p;
    return cli_fail("class %lld has %zu images: %lld of each class were asked for", (long long)class, n,
                    (long long)want);
}

/* Means of boxes: [channels, p's rows, columns] -> [channels, c's]. */
static void reduce(const image_pool *p, const image_choice *c, const uint8_t *from, uint8_t *to)
{
    int64_t h = p->t.height, w = p->t.width;
    for (int64_t plane = 0; plane < p->t.channels; plane++)
        for (int64_t i = 0; i < c->height; i++)
            for (int64_t j = 0; j < c->width; j++) {
                int64_t top = i * h / c->height, end = ((i + 1) * h + c->height - 1) / c->height;
                int64_t left = j * w / c->width, right = ((j + 1) * w + c->width - 1) / c->width;
                int64_t sum = 0, n = (end - top) * (right - left);
                for (int64_t y = top; y < end; y++)
                    for (int64_t x = left; x < right; x++) sum += from[(plane * h + y) * w + x];
                *to++ = (uint8_t)((2 * sum + n) / (2 * n));
            }
}

int choose_random(const distill_options *o, const image_pool *p, image_choice *c)
{
    size_t  *which = malloc(p->t.n * sizeof *which), e = elements(p), small = 0;
    uint64_t state = o->seed * 77u + 5;
    int      rc = which ? make_room(o, p, c) : cli_fail("out of memory");
    if (rc == CLI_OK) small = (size_t)(p->t.channels * c->height * c->width);
    for (int64_t k = 0; rc == CLI_OK && k < p->t.classes; k++) {
        size_t n = draw_class(p, k, (size_t)each_class(o), &state, which);
        if (n < (size_t)each_class(o)) rc = too_few(p, k, n, each_class(o));
        for (size_t i = 0; rc == CLI_OK && i < n; i++)
            reduce(p, c, p->pixels + which[i] * e, c->pixels + ((size_t)(k * each_class(o)) + i) * small);
    }
    free(which);
    return rc;
}

typedef struct scored {
    float  score;
    size_t image;
} scored;

static int falling(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->image > y->image) - (x->image < y->image);
}

/* RDED's realism score (Sun et al., CVPR 2024, equation 6): the teacher's loss on the class; of `candidates` random images of a class for each one that is
 * kept, those with the smallest. Their mosaics of crops make sense for photographs, not for 28x28 pixels. */
int choose_easiest(const distill_options *o, const image_pool *p, taut_torch_judge *teacher, image_choice *c)
{
    size_t            e = elements(p), most = (size_t)(o->per_class * o->candidates);
    size_t           *which = malloc(p->t.n * sizeof *which);
    scored           *s = malloc(p->t.n * sizeof *s);
    uint8_t          *pixels = malloc(most * e);
    float            *probability = malloc(most * (size_t)p->t.classes * sizeof *probability);
    uint64_t          state = o->seed * 77u + 5;
    taut_torch_images t = p->t;
    int               rc =
        which && s && pixels && probability ? make_room(o, p, c) : cli_fail("out of memory for %zu candidates", most);
    for (int64_t k = 0; rc == CLI_OK && k < p->t.classes; k++) {
        size_t      n = draw_class(p, k, most, &state, which);
        taut_status status;
        if (n < (size_t)o->per_class) rc = too_few(p, k, n, o->per_class);
        for (size_t i = 0; i < n; i++) memcpy(pixels + i * e, p->pixels + which[i] * e, e);
        t.pixels = pixels, t.labels = NULL, t.n = n;
        if (rc == CLI_OK && (status = taut_torch_judge_ask(teacher, &t, 1, probability, NULL)) != TAUT_OK)
            rc = distill_fail("teacher", status);
        for (size_t i = 0; rc == CLI_OK && i < n; i++)
            s[i] = (scored){probability[i * (size_t)p->t.classes + (size_t)k], which[i]};
        if (rc == CLI_OK) qsort(s, n, sizeof *s, falling);
        for (size_t i = 0; rc == CLI_OK && i < (size_t)o->per_class; i++)
            memcpy(c->pixels + ((size_t)(k * o->per_class) + i) * e, p->pixels + s[i].image * e, e);
    }
    free(which);
    free(s);
    free(pixels);
    free(probability);
    return rc;
}

int32_t distill_augment(const distill_options *o)
{
    return strcmp(o->augment, "one") == 0       ? TAUT_TORCH_AUGMENT_ONE
           : strcmp(o->augment, "none") == 0    ? TAUT_TORCH_AUGMENT_NONE
           : strcmp(o->augment, "several") == 0 ? TAUT_TORCH_AUGMENT_SEVERAL
                                                : TAUT_TORCH_AUGMENT_AUTO;
}

int choose_distilled(const distill_options *o, const image_pool *p, image_choice *c)
{
    taut_torch_distill_config d = TAUT_TORCH_DISTILL_INIT;
    char                      word[] = "distilling";
    int                       rc = make_room(o, p, c);
    taut_status               s;
    if (rc) return rc;
    d.per_class = o->per_class, d.seed = o->seed, d.iterations = o->iterations, d.real = o->real,
    d.filters = o->filters, d.lr = o->lr, d.mirror = o->mirror, d.parts = o->parts, d.augment = distill_augment(o);
    d.progress = distill_progress, d.ctx = word;
    s = taut_torch_distill(&d, &p->t, c->pixels);
    return s == TAUT_OK ? CLI_OK : distill_fail("--method=dm", s);
}

int choose_soft(const distill_options *o, const image_pool *p, taut_torch_judge *teacher, image_choice *c)
{
    taut_torch_images t = p->t;
    taut_status       s;
    c->soft = malloc(c->n * (size_t)p->t.classes * sizeof *c->soft);
    if (!c->soft) return cli_fail("out of memory for soft labels");
    t.pixels = c->pixels, t.labels = c->labels, t.n = c->n, t.height = c->height, t.width = c->width;
    s = taut_torch_judge_ask(teacher, &t, o->temperature, c->soft, NULL);
    return s == TAUT_OK ? CLI_OK : distill_fail("soft labels", s);
}

int choose_given(const distill_options *o, const image_pool *p, image_choice *c)
{
    image_pool g = {0};
    int        rc = pool_read(&g, o->from, "--from");
    if (rc == CLI_OK && (g.t.height > p->t.height || g.t.width > p->t.width || g.t.channels != p->t.channels))
        rc = cli_fail("--from=%s: %lldx%lldx%lld: no larger images, and as many channels as those of the shards",
                      o->from, (long long)g.t.channels, (long long)g.t.height, (long long)g.t.width);
    if (rc == CLI_OK && g.t.classes > p->t.classes)
        rc = cli_fail("--from=%s: %lld classes: the shards have %lld", o->from, (long long)g.t.classes,
                      (long long)p->t.classes);
    if (rc == CLI_OK && g.soft && g.soft_classes != p->t.classes)
        rc = cli_fail("--from=%s: soft labels of %lld classes: the shards have %lld", o->from,
                      (long long)g.soft_classes, (long long)p->t.classes);
    if (rc == CLI_OK && g.soft && g.soft_n != g.t.n)
        rc = cli_fail("--from=%s: %zu of %zu images have soft labels: all or none must", o->from, g.soft_n, g.t.n);
    if (rc == CLI_OK) {
        c->n = g.t.n, c->accuracy = -1, c->bytes = g.bytes, c->height = g.t.height, c->width = g.t.width;
        c->pixels = g.pixels, c->labels = g.labels, c->soft = g.soft; /* taken over */
        g.pixels = NULL, g.labels = NULL, g.soft = NULL;
    }
    pool_free(&g);
    return rc;
}
