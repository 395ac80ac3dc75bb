/* main.c : `taut data distill`, started by the command as libexec/taut-distill. */
#include "../json.h"
#include "distill.h"
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static cli_progress line;

int distill_progress(void *ctx, int64_t done, int64_t total, double loss)
{
    cli_progress_show(&line, "%s %lld of %lld, loss %.4g", (const char *)ctx, (long long)done, (long long)total, loss);
    return 0;
}

int distill_fail(const char *what, taut_status s)
{
    cli_progress_end(&line);
    return cli_fail("%s: %s (%s)", what, taut_torch_last_error(), taut_status_name(s));
}

double distill_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

typedef struct run {
    distill_options   o;
    image_pool        train, validation;
    taut_torch_judge *teacher;
    double            teacher_s, teacher_cpu_s, teacher_accuracy;
    image_choice      set[4]; /* the method's first, then what it stands beside */
    size_t            sets;
} run;

static int train_judge(run *r, const image_choice *c, const char *word, int64_t steps, int64_t filters, uint64_t seed,
                       taut_torch_judge **judge)
{
    taut_torch_judge_config j = TAUT_TORCH_JUDGE_INIT;
    taut_torch_images       t = r->train.t;
    taut_status             s;
    j.seed = seed, j.filters = filters, j.steps = steps, j.lr = r->o.judge_lr, j.mirror = r->o.mirror,
    j.augment = distill_augment(&r->o), j.progress = distill_progress, j.ctx = (void *)(uintptr_t)word;
    if (c) {
        j.height = t.height, j.width = t.width;
        t.pixels = c->pixels, t.labels = c->labels, t.soft = c->soft, t.n = c->n;
        t.height = c->height, t.width = c->width;
    }
    s = taut_torch_judge_train(&j, &t, judge);
    cli_progress_end(&line);
    return s == TAUT_OK ? CLI_OK : distill_fail(word, s);
}

static int accuracy_of(const run *r, taut_torch_judge *j, double *accuracy)
{
    taut_torch_images v = r->validation.t;
    int64_t           hits;
    taut_status       s;
    v.classes = r->train.t.classes;
    s = taut_torch_judge_ask(j, &v, 1, NULL, &hits);
    *accuracy = 100.0 * (double)hits / (double)v.n;
    return s == TAUT_OK ? CLI_OK : distill_fail("--validation", s);
}

static int make_teacher(run *r)
{
    double begin = cli_now(), cpu = distill_cpu();
    int    rc = train_judge(r, NULL, "teacher", r->o.teacher_steps, r->o.judge_filters, r->o.seed, &r->teacher);
    r->teacher_s = cli_now() - begin, r->teacher_cpu_s = distill_cpu() - cpu;
    return rc == CLI_OK && r->validation.t.n ? accuracy_of(r, r->teacher, &r->teacher_accuracy) : rc;
}

/* The mean over seeds of networks that learned nothing but this set. */
static int judge(run *r, image_choice *c)
{
    double least = 1e9, most = -1, sum = 0;
    for (int64_t k = 0; k < r->o.seeds; k++) {
        taut_torch_judge *j;
        double            a;
        int rc = train_judge(r, c, c->name, r->o.judge_steps, r->o.judge_filters, r->o.seed + 100 + (uint64_t)k, &j);
        if (rc == CLI_OK) rc = accuracy_of(r, j, &a);
        taut_torch_judge_destroy(j);
        if (rc) return rc;
        sum += a, least = fmin(least, a), most = fmax(most, a);
    }
    c->accuracy = sum / (double)r->o.seeds;
    c->spread = most - least;
    return CLI_OK;
}

static int make_set(run *r, const char *name, const char *method, bool soft, const char *path)
{
    image_choice *c = &r->set[r->sets++];
    double        begin = cli_now(), cpu = distill_cpu();
    bool          teaches = soft || strcmp(method, "rded") == 0;
    int           rc;
    c->name = name;
    rc = strcmp(method, "from") == 0   ? choose_given(&r->o, &r->train, c)
         : strcmp(method, "dm") == 0   ? choose_distilled(&r->o, &r->train, c)
         : strcmp(method, "rded") == 0 ? choose_easiest(&r->o, &r->train, r->teacher, c)
                                       : choose_random(&r->o, &r->train, c);
    if (rc == CLI_OK && soft) rc = choose_soft(&r->o, &r->train, r->teacher, c);
    cli_progress_end(&line);
    c->seconds = cli_now() - begin + (teaches ? r->teacher_s : 0);
    c->cpu_s = distill_cpu() - cpu + (teaches ? r->teacher_cpu_s : 0);
    if (rc == CLI_OK && path) rc = store_choice(&r->o, &r->train, c, path);
    return rc == CLI_OK && r->validation.t.n ? judge(r, c) : rc;
}

/* ---- report ---- */

static void table(const run *r)
{
    printf("%zu images in %lld classes, %llu bytes\n\n| set | images | bytes | of it soft labels | accuracy %% | "
           "spread | seconds | CPU seconds |\n|---|---|---|---|---|---|---|---|\n",
           r->train.t.n, (long long)r->train.t.classes, (unsigned long long)r->train.bytes);
    for (size_t i = 0; i < r->sets; i++) {
        const image_choice *c = &r->set[i];
        printf("| %s | %zu | %llu | %llu | ", c->name, c->n, (unsigned long long)c->bytes,
               (unsigned long long)c->soft_bytes);
        if (c->accuracy >= 0) printf("%.2f | %.2f", c->accuracy, c->spread);
        else printf("|");
        printf(" | %.1f | %.1f |\n", c->seconds, c->cpu_s);
    }
    if (r->teacher && r->validation.t.n)
        printf("| all images, %lld steps | %zu | %llu | | %.2f | | %.1f | %.1f |\n", (long long)r->o.teacher_steps,
               r->train.t.n, (unsigned long long)r->train.bytes, r->teacher_accuracy, r->teacher_s, r->teacher_cpu_s);
}

static void print_json(const run *r)
{
    json_t *o = json_object(), *sets = json_array();
    jsn_text(o, "out", r->o.out ? r->o.out : r->o.from);
    jsn_text(o, "method", r->o.from ? "from" : r->o.method);
    jsn_int(o, "per_class", (uint64_t)r->o.per_class);
    jsn_int(o, "parts", (uint64_t)r->o.parts);
    jsn_int(o, "classes", (uint64_t)r->train.t.classes);
    jsn_int(o, "images", r->train.t.n);
    jsn_int(o, "bytes", r->train.bytes);
    jsn_int(o, "seed", r->o.seed);
    jsn_text(o, "augment", r->o.augment);
    jsn_int(o, "judge_steps", (uint64_t)r->o.judge_steps);
    jsn_real(o, "judge_lr", r->o.judge_lr);
    for (size_t i = 0; i < r->sets; i++) {
        const image_choice *c = &r->set[i];
        json_t             *s = json_object();
        jsn_text(s, "set", c->name);
        jsn_int(s, "images", c->n);
        jsn_int(s, "bytes", c->bytes);
        jsn_int(s, "soft_bytes", c->soft_bytes);
        jsn_real(s, "accuracy", c->accuracy >= 0 ? c->accuracy : NAN);
        jsn_real(s, "spread", c->spread);
        jsn_real(s, "seconds", c->seconds);
        jsn_real(s, "cpu_s", c->cpu_s);
        json_array_append_new(sets, s);
    }
    json_object_set_new(o, "sets", sets);
    jsn_real(o, "teacher_accuracy", r->teacher && r->validation.t.n ? r->teacher_accuracy : NAN);
    jsn_print(o);
}

static int work(run *r, const char *list)
{
    const char *method = r->o.method;
    char        beside[4200];
    bool        soft = r->o.soft, judged = r->o.validation != NULL;
    int         rc = r->o.out ? cli_replaceable("-o", r->o.out) : CLI_OK; /* not after minutes of work */
    if (rc == CLI_OK) rc = cli_apart_lists("-o", r->o.out, 2, (const char *[]){list, r->o.validation});
    if (rc == CLI_OK) rc = pool_read(&r->train, list, "shard");
    if (rc == CLI_OK && judged) rc = pool_read(&r->validation, r->o.validation, "--validation");
    if (rc == CLI_OK && judged && r->validation.t.classes > r->train.t.classes)
        return cli_fail("--validation: class %lld: the training shards have classes 0..%lld",
                        (long long)r->validation.t.classes - 1, (long long)r->train.t.classes - 1);
    if (rc == CLI_OK && (soft || (judged && !r->o.alone) || strcmp(method, "rded") == 0)) rc = make_teacher(r);
    if (rc == CLI_OK && r->o.from) {
        rc = make_set(r, r->o.from, "from", false, NULL);
        if (rc == CLI_OK) { /* what stands beside it has as many, of its size */
            r->o.parts = (r->train.t.height + r->set[0].height - 1) / r->set[0].height;
            r->o.per_class = (int64_t)r->set[0].n / r->train.t.classes / (r->o.parts * r->o.parts);
        }
        if (rc == CLI_OK && r->o.per_class < 1)
            rc = cli_fail("--from=%s: %zu images for %lld classes: must be at least one each", r->o.from, r->set[0].n,
                          (long long)r->train.t.classes);
    } else if (rc == CLI_OK)
        rc = make_set(r,
                      soft ? strcmp(method, "dm") == 0     ? "dm, soft labels"
                             : strcmp(method, "rded") == 0 ? "rded, soft labels"
                                                           : "random, soft labels"
                           : method,
                      method, soft, r->o.out);
    if (rc || !judged || r->o.alone) return rc;
    snprintf(beside, sizeof beside, "%.4000s.beside%ld.taut", r->o.out ? r->o.out : r->o.from,
             (long)getpid()); /* only to count their bytes */
    if (strcmp(method, "random") != 0 || soft) rc = make_set(r, "random", "random", false, beside);
    if (rc == CLI_OK && (strcmp(method, "random") != 0 || !soft))
        rc = make_set(r, "random, soft labels", "random", true, beside);
    unlink(beside);
    return rc;
}

int main(int argc, char **argv)
{
    run              r = {.o = {.method = "dm",
                                .soft_codec = "quant:8",
                                .augment = "auto",
                                .per_class = 10,
                                .parts = 1,
                                .teacher_steps = 600,
                                .judge_steps = 600,
                                .judge_filters = 64,
                                .seeds = 1,
                                .candidates = 30,
                                .temperature = 2,
                                .seed = 1}};
    distill_options *o = &r.o;
    const cli_option options[] = {
        {"o", "OUT.taut", CLI_TEXT, &o->out, "the shard to write", 0, 0, NULL},
        {"from", "FILE", CLI_TEXT, &o->from, "make nothing: judge this set, a shard of images and labels", 0, 0, NULL},
        {"method", "NAME", CLI_WORD, &o->method,
         "dm: distribution matching; rded: those a teacher finds easiest; random", 0, 0, "dm|rded|random"},
        {"per-class", "N", CLI_INT, &o->per_class, "images of each class", 1, 10000, NULL},
        {"parts", "F", CLI_INT, &o->parts,
         "of dm, random: F x F smaller images in the pixels of each, enlarged when they are learned from", 1, 8, NULL},
        {"soft-labels", NULL, CLI_FLAG, &o->soft, "a teacher's class probabilities as field `soft`", 0, 0, NULL},
        {"validation", "SHARDS", CLI_TEXT, &o->validation,
         "judge the set on these, beside random images with and without soft labels", 0, 0, NULL},
        {"alone", NULL, CLI_FLAG, &o->alone, "judge this set and nothing beside it", 0, 0, NULL},
        {"seed", "N", CLI_SIZE, &o->seed, "of every choice", 0, 9e15, NULL},
        {"seeds", "N", CLI_INT, &o->seeds, "networks that judge a set", 1, 100, NULL},
        {"iterations", "N", CLI_INT, &o->iterations, "of dm; 0 = 1200", 0, 1e6, NULL},
        {"real", "N", CLI_INT, &o->real, "of dm: real images of a class in an iteration; 0 = 64", 0, 10000, NULL},
        {"filters", "N", CLI_INT, &o->filters, "of dm: width of the random networks; 0 = 64", 0, 1024, NULL},
        {"lr", "X", CLI_REAL, &o->lr, "of dm: step, times images of a class; falls like a cosine; 0 = 0.25", 0, 1e6,
         NULL},
        {"mirror", NULL, CLI_FLAG, &o->mirror, "images may be mirrored: not for digits", 0, 0, NULL},
        {"augment", "HOW", CLI_WORD, &o->augment,
         "of dm, teacher and judges: random transformations, several at once or one; auto: one with --mirror, else "
         "several",
         0, 0, "auto|several|one|none"},
        {"candidates", "N", CLI_INT, &o->candidates, "of rded: random images of a class for each one kept", 1, 10000,
         NULL},
        {"temperature", "X", CLI_REAL, &o->temperature, "of soft labels", 0.01, 100, NULL},
        {"soft-codec", "SPEC", CLI_TEXT, &o->soft_codec, "how soft labels are stored", 0, 0, NULL},
        {"teacher-steps", "N", CLI_INT, &o->teacher_steps, "of 128 images", 1, 1e7, NULL},
        {"judge-steps", "N", CLI_INT, &o->judge_steps, "of up to 128 images", 1, 1e7, NULL},
        {"judge-lr", "X", CLI_REAL, &o->judge_lr, "learning rate of teacher and judges; 0 = 0.02", 0, 100, NULL},
        {"judge-filters", "N", CLI_INT, &o->judge_filters, "width of teacher and judges", 1, 1024, NULL},
        CLI_JSON(&o->json),
        CLI_END,
    };
    const cli_command cmd = {
        "taut data distill",
        "SHARDS",
        "few images that stand for many",
        "SHARDS: files *.taut with u8 images and labels, joined by commas. OUT.taut is an ordinary shard: image, "
        "label, and with --soft-labels soft.\n"
        "Columns: bytes of the whole shard, soft labels included; accuracy of a small network that learned nothing "
        "else; seconds to make the set,\n"
        "with the teacher's where one was asked. Random images with soft labels are what a distilled set has to beat.\n"
        "--json: out method per_class parts classes images bytes seed augment judge_steps judge_lr teacher_accuracy "
        "sets[]: set images bytes "
        "soft_bytes "
        "accuracy spread seconds cpu_s\n\n"
        "  taut data distill mnist.taut -o ten.taut --per-class 10 --validation t10k.taut\n",
        options,
        1,
        1};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int  rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc != CLI_RUN) return cli_leave(rc);
    if (!o->out && !o->from) return cli_leave(cli_usage("-o OUT.taut is missing"));
    if (o->parts > 1 && strcmp(o->method, "rded") == 0)
        return cli_leave(cli_usage("--parts=%lld: rded keeps images as they are", (long long)o->parts));
    if (o->from && (o->out || !o->validation))
        return cli_leave(cli_usage("--from=%s: makes nothing: needs --validation, and no -o", o->from));
    mallopt(M_MMAP_THRESHOLD,
            1 << 30); /* tensors come and go by the megabyte: without this a third of the time is page faults */
    mallopt(M_TRIM_THRESHOLD, 2000000000);
    if (taut_torch_threads(cli_threads(cores > 0 && cores < 1024 ? (int)cores : 1)) != TAUT_OK)
        rc = cli_usage("OMP_NUM_THREADS=%s: %s", getenv("OMP_NUM_THREADS"), taut_torch_last_error());
    else rc = work(&r, argv[0]);
    cli_progress_end(&line);
    if (rc == CLI_OK) table(&r);
    if (rc == CLI_OK && o->json) print_json(&r);
    for (size_t i = 0; i < r.sets; i++) choice_free(&r.set[i]);
    taut_torch_judge_destroy(r.teacher);
    pool_free(&r.train);
    pool_free(&r.validation);
    return cli_leave(rc);
}
