/* cmd_bench_codec.c : `taut bench codec`: what codecs cost and give on this machine, one thread.
 *
 * Every round runs, for every codec, memcpy, encode, encode with error feedback, decode and decode-and-add over the
 * whole input; the figures are medians over rounds. Neighbours in time share the machine's mood, so compare a codec
 * with the memcpy_gbps of its own line. The clock is the thread's CPU time: other work on the machine costs bandwidth,
 * but not turns. Frames include the checksum, as on the wire. Stateful codecs run without
 * state, as in taut_encode(). */
#include "bench.h"
#include "cli.h"
#include "cmd.h"
#include "floats.h"
#include "json.h"
#include "../compressors/frame.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS_MIN = 3, ROUNDS_MAX = 500, CODECS_MAX = CLI_LIST_MAX + 4, SEED = 1 };
enum phase { COPY, ENCODE, ENCODE_EF, DECODE, DECODE_ADD, PHASES };

static const char *const defaults[] = {
    "none",
    "fp16",
    "bf16",
    "quant:bits=8",
    "quant:bits=4",
    "quant:bits=4,round=nearest",
    "quant:bits=2",
    "grid:rel=0.01",
    "grid:rel=0.03",
    "grid:rel=0.03,code=rans",
    "topk:density=0.1",
    "topk:density=0.01",
    "randk:density=0.1",
    "powersgd:rank=4",
};

typedef struct subject {
    bench_codec codec;
    size_t      bytes;
    double      rel_err2;
    double      seconds[PHASES][ROUNDS_MAX];
} subject;

typedef struct job {
    cli_list    codecs;
    const char *input, *shape_text, *equal, *layers, *device;
    uint64_t    n;
    double      seconds;
    bool        sweep, csv, json;

    bench_input in;
    float      *x, *err;
    subject    *subjects;
    size_t      count;
    int         rounds;
} job;

/* ---- shared with the sweep ---- */

int bench_prepare(bench_input *in, const char *text, size_t rows, size_t cols, bench_codec *c)
{
    size_t      cap;
    uint8_t    *more;
    taut_status s = taut__spec_parse(text, &c->spec);
    if (s != TAUT_OK) return cli_bad(s, "--codec=%s", text);
    if (c->spec.automatic) return cli_usage("--codec=auto: is a plan, not a codec; see `taut plan`");
    c->tensor = (taut_tensor){.elems = rows * cols, .rows = rows, .cols = cols};
    s = taut__spec_suits(&c->spec, &c->tensor);
    if (s != TAUT_OK) return cli_status(s, "--codec=%s", text);
    snprintf(c->name, sizeof c->name, "%s", text);
    cap = taut__frame_capacity(&c->spec, &c->tensor, c->tensor.elems);
    if (cap <= in->cap) return CLI_OK;
    if (!(more = realloc(in->frame, cap))) return cli_fail("out of memory for a frame of %zu bytes", cap);
    memset(more, 0, cap); /* touched now, not while the clock runs */
    in->frame = more;
    in->cap = cap;
    return CLI_OK;
}

bool bench_suits(const char *text, size_t rows, size_t cols)
{
    taut_spec   spec;
    taut_tensor tensor = {.elems = rows * cols, .rows = rows, .cols = cols};
    return taut__spec_parse(text, &spec) == TAUT_OK && taut__spec_suits(&spec, &tensor) == TAUT_OK;
}

taut_call bench_call(const bench_codec *c)
{
    return (taut_call){.spec = &c->spec, .tensor = &c->tensor, .n = c->tensor.elems, .seed = SEED, .shared_seed = SEED};
}

int bench_once(bench_input *in, const bench_codec *c, const float *x, float *back, size_t *bytes)
{
    taut_call   call = bench_call(c);
    taut_status s = taut__frame_encode(&call, x, in->frame, in->cap, bytes, NULL, false);
    if (s != TAUT_OK) return cli_status(s, "%s: cannot encode", c->name);
    s = taut__frame_decode(&call, in->frame, *bytes, back);
    if (s != TAUT_OK) return cli_status(s, "%s: cannot decode", c->name);
    return CLI_OK;
}

/* ---- timing ---- */

static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One timed pass. The frame in `in` is the codec's own from ENCODE on. */
static taut_status pass(job *j, subject *s, enum phase phase, double *seconds)
{
    taut_call   call = bench_call(&s->codec);
    taut_status status = TAUT_OK;
    double      begin = thread_seconds();
    switch (phase) {
    case COPY: memcpy(j->in.back, j->in.x, j->in.n * sizeof(float)); break;
    case ENCODE: status = taut__frame_encode(&call, j->in.x, j->in.frame, j->in.cap, &s->bytes, NULL, false); break;
    case ENCODE_EF:
        status = taut__frame_encode(&call, j->in.x, j->in.frame, j->in.cap, &s->bytes, j->err, false);
        break;
    case DECODE: status = taut__frame_decode(&call, j->in.frame, s->bytes, j->in.back); break;
    default: status = taut__frame_decode_add(&call, j->in.frame, s->bytes, j->in.back); break;
    }
    *seconds = thread_seconds() - begin;
    return status;
}

static int run_round(job *j, int round)
{
    static const char *const what[PHASES] = {"copy", "encode", "encode", "decode", "decode"};
    for (size_t i = 0; i < j->count; i++) {
        subject *s = &j->subjects[i];
        for (enum phase p = COPY; p < PHASES; p++) {
            taut_status status = pass(j, s, p, &s->seconds[p][round]);
            if (status != TAUT_OK) return cli_status(status, "%s: cannot %s", s->codec.name, what[p]);
        }
    }
    return CLI_OK;
}

static int measure(job *j)
{
    cli_progress progress = {0};
    double       begin, goal = j->seconds * (double)j->count;
    int          rc = CLI_OK;
    for (size_t i = 0; i < j->count && rc == CLI_OK; i++) { /* first use, untimed: error, page faults, tables */
        subject *s = &j->subjects[i];
        rc = bench_once(&j->in, &s->codec, j->in.x, j->in.back, &s->bytes);
        s->rel_err2 = rel_err2(j->in.x, j->in.back, j->in.n);
        cli_progress_show(&progress, "measuring the error of %s", s->codec.name);
    }
    begin = cli_now();
    for (j->rounds = 0; rc == CLI_OK && j->rounds < ROUNDS_MAX; j->rounds++) {
        double spent = cli_now() - begin;
        if (j->rounds >= ROUNDS_MIN && spent >= goal) break;
        cli_progress_show(&progress, "round %d, %.0f of %.0f s", j->rounds + 1, spent, goal);
        rc = run_round(j, j->rounds);
    }
    cli_progress_end(&progress);
    return rc;
}

/* GB of float32 per second */
static double gbps(job *j, subject *s, enum phase p)
{
    return 4e-9 * (double)j->in.n / median(s->seconds[p], (size_t)j->rounds);
}

/* ---- report ---- */

static void print_table(job *j)
{
    int width = 5; /* of the longest spec */
    for (size_t i = 0; i < j->count; i++) width = (int)taut__max((size_t)width, strlen(j->subjects[i].codec.name));
    printf("%zu floats (%.1f MiB), one thread, %s kernels, median of %d rounds; GB of float32 per second,\n"
           "x: relative to memcpy in the same rounds\n\n%-*s %9s %10s %15s %15s %15s %15s %7s\n",
           j->in.n, (double)j->in.n / 262144, taut_cpu_path(), j->rounds, width, "codec", "bits/elem", "rel_err2",
           "encode", "encode+feedback", "decode", "decode+add", "memcpy");
    for (size_t i = 0; i < j->count; i++) {
        subject *s = &j->subjects[i];
        double   copy = gbps(j, s, COPY);
        printf("%-*s %9.4f %10.3e", width, s->codec.name, 8.0 * (double)s->bytes / (double)j->in.n, s->rel_err2);
        for (enum phase p = ENCODE; p < PHASES; p++) {
            double v = gbps(j, s, p);
            printf(" %7.2f %6.2fx", v, v / copy);
        }
        printf(" %7.2f\n", copy);
    }
}

static void print_json(job *j)
{
    json_t *o = json_object(), *results = json_array();
    for (size_t i = 0; i < j->count; i++) {
        subject *s = &j->subjects[i];
        json_t  *r = json_object();
        jsn_text(r, "codec", s->codec.name);
        jsn_int(r, "n", j->in.n);
        jsn_int(r, "bytes", s->bytes);
        jsn_real(r, "bits_per_element", 8.0 * (double)s->bytes / (double)j->in.n);
        jsn_real(r, "rel_err2", s->rel_err2);
        jsn_real(r, "encode_gbps", gbps(j, s, ENCODE));
        jsn_real(r, "encode_ef_gbps", gbps(j, s, ENCODE_EF));
        jsn_real(r, "decode_gbps", gbps(j, s, DECODE));
        jsn_real(r, "decode_add_gbps", gbps(j, s, DECODE_ADD));
        jsn_real(r, "memcpy_gbps", gbps(j, s, COPY));
        jsn_text(r, "isa", taut_cpu_path());
        jsn_int(r, "rounds", (uint64_t)j->rounds);
        json_array_append_new(results, r);
    }
    json_object_set_new(o, "results", results);
    jsn_print(o);
}

/* ---- set-up ---- */

static int make_input(job *j)
{
    float *part = NULL;
    size_t m = 0;
    int    rc;
    if (j->input && (rc = floats_read(j->input, &part, &m)) != CLI_OK) return rc;
    if (j->n == 0) j->n = part ? m : 16u << 20;
    j->in.n = (size_t)j->n;
    j->x = floats_alloc(j->in.n);
    j->in.x = j->x;
    j->in.back = floats_alloc(j->in.n);
    j->err = floats_alloc(j->in.n);
    rc = j->x && j->in.back && j->err ? CLI_OK : cli_fail("--n=%zu: out of memory", j->in.n);
    if (rc == CLI_OK && part) floats_tile(j->x, j->in.n, part, m);
    else if (rc == CLI_OK) floats_synthetic(j->x, j->in.n, SEED, 0);
    free(part);
    if (rc == CLI_OK && j->shape_text) {
        size_t shape[SHAPE_MAX];
        int    ndim;
        rc = shape_parse(j->shape_text, j->in.n, &ndim, shape);
        j->in.shape[0] = shape[0];
        j->in.shape[1] = rc == CLI_OK ? j->in.n / shape[0] : 0;
    } else {
        shape_square(j->in.n, j->in.shape);
    }
    return rc;
}

static int add(job *j, const char *text)
{
    int rc = bench_prepare(&j->in, text, j->in.shape[0], j->in.shape[1], &j->subjects[j->count].codec);
    if (rc == CLI_OK) j->count++;
    return rc;
}

/* --equal SPEC: SPEC itself, then grid at the same squared error on this input, in both of its codes. */
static int add_equal(job *j)
{
    char     text[128];
    size_t   bytes;
    subject *s = &j->subjects[j->count];
    double   rel;
    int      rc = add(j, j->equal);
    if (rc == CLI_OK) rc = bench_once(&j->in, &s->codec, j->in.x, j->in.back, &bytes);
    if (rc != CLI_OK) return rc;
    rel = rel_err2(j->in.x, j->in.back, j->in.n);
    if (!(rel > 0 && rel <= 1))
        return cli_fail("--equal=%s: makes a relative squared error of %g on this input: must be above 0 and at most 1 "
                        "for grid to make the same",
                        j->equal, rel);
    snprintf(text, sizeof text, "grid:rel=%.6g,code=packed", rel);
    if ((rc = add(j, text)) != CLI_OK) return rc;
    snprintf(text, sizeof text, "grid:rel=%.6g,code=rans", rel);
    return add(j, text);
}

static int run_on_device(job *j)
{
    bench_codec *codecs = calloc(j->count ? j->count : 1, sizeof *codecs);
    if (!codecs) return cli_fail("out of memory");
    for (size_t i = 0; i < j->count; i++) codecs[i] = j->subjects[i].codec;
    int rc = bench_device(&j->in, codecs, j->count, j->json);
    free(codecs);
    return rc;
}

static int run(job *j)
{
    int rc = make_input(j);
    blas_threads(1);
    if (rc != CLI_OK) return rc;
    if (j->sweep) return bench_sweep(&j->in, j->layers, j->json ? BENCH_JSON : j->csv ? BENCH_CSV : BENCH_TABLE);
    if (!(j->subjects = calloc(CODECS_MAX, sizeof *j->subjects))) return cli_fail("out of memory");
    for (size_t i = 0; i < j->codecs.n && rc == CLI_OK; i++) rc = add(j, j->codecs.item[i]);
    if (j->equal && rc == CLI_OK) rc = add_equal(j);
    if (j->codecs.n == 0 && !j->equal)
        for (size_t i = 0; i < sizeof defaults / sizeof *defaults && rc == CLI_OK; i++)
            if (bench_suits(defaults[i], j->in.shape[0], j->in.shape[1])) rc = add(j, defaults[i]);
    if (rc == CLI_OK && j->device && strcmp(j->device, "cuda") == 0) return run_on_device(j);
    if (rc == CLI_OK) rc = measure(j);
    if (rc != CLI_OK) return rc;
    print_table(j);
    if (j->json) print_json(j);
    return CLI_OK;
}

int cmd_bench_codec(int argc, char **argv)
{
    job              j = {.seconds = 1};
    const cli_option options[] = {
        {"codec", "SPEC", CLI_LIST, &j.codecs, "may be repeated; default: a selection", 0, 0, NULL},
        {"equal", "SPEC", CLI_TEXT, &j.equal, "SPEC, and grid at the squared error that SPEC makes", 0, 0, NULL},
        {"input", "F.f32", CLI_TEXT, &j.input, "float32 file; default: synthetic gradients", 0, 0, NULL},
        {"n", "N", CLI_SIZE, &j.n, "elements; a shorter input is repeated; 0 = the input's, else 16M", 0, 0x1p40, NULL},
        {"shape", "RxC", CLI_TEXT, &j.shape_text, "matrix for low rank; default: nearly square", 0, 0, NULL},
        {"seconds", "S", CLI_REAL, &j.seconds, "to spend on each codec", 0, 3600, NULL},
        {"device", "host|cuda", CLI_TEXT, &j.device, "where to measure; default host", 0, 0, NULL},
        {"sweep", NULL, CLI_FLAG, &j.sweep, "size against error of every family, no timing", 0, 0, NULL},
        {"csv", NULL, CLI_FLAG, &j.csv, "with --sweep: as CSV", 0, 0, NULL},
        {"layers", "T.json", CLI_TEXT, &j.layers, "with --sweep: the trace's layers, for low rank", 0, 0, NULL},
        CLI_JSON(&j.json),
        CLI_END,
    };
    const cli_command cmd = {
        "taut bench codec",
        "",
        "speed, size and error of codecs on this machine, one thread",
        "--json: {\"results\": [{codec n bytes bits_per_element rel_err2 encode_gbps encode_ef_gbps decode_gbps\n"
        "decode_add_gbps memcpy_gbps isa rounds}, ...]}. encode_ef also writes the feedback residual.\n\n"
        "  taut bench codec --codec quant:bits=4 --codec topk:density=0.01\n"
        "  taut bench codec --input grad.f32 --equal quant:bits=4\n"
        "  taut bench codec --input grad.f32 --sweep --csv > sweep.csv\n",
        options,
        0,
        0};
    int rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc != CLI_RUN) return rc;
    if (j.device && strcmp(j.device, "host") != 0 && strcmp(j.device, "cuda") != 0)
        return cli_usage("--device=%s: must be host or cuda", j.device);
    if (j.device && strcmp(j.device, "cuda") == 0 && (j.sweep || j.equal))
        return cli_usage("--device=cuda goes with neither --sweep nor --equal");
    if (j.sweep && (j.codecs.n || j.equal)) return cli_usage("--sweep takes every family: neither --codec nor --equal");
    if (j.csv && j.json) return cli_usage("--csv and --json both say what is printed");
    if (j.csv && !j.sweep) return cli_usage("--csv goes with --sweep");
    if (j.layers && !j.sweep) return cli_usage("--layers goes with --sweep");
    rc = run(&j);
    free(j.x);
    free(j.err);
    free(j.in.back);
    free(j.in.frame);
    free(j.subjects);
    return rc;
}
