/* cmd_encode.c : `taut encode`: a file of float32 to one frame (docs/wire-format.md). Decodes it again to report the
 * error that was made. */
#include "cli.h"
#include "cmd.h"
#include "floats.h"
#include "json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    const char *codec, *shape_text, *in, *out;
    uint64_t    seed;
    bool        json;

    float   *x, *back;
    size_t   n, shape[SHAPE_MAX];
    int      ndim;
    uint8_t *frame;
    size_t   bytes;
} job;

static int encode(job *j)
{
    size_t      cap;
    taut_status s = taut_encode_bound(j->codec, j->ndim, j->shape, &cap);
    if (s != TAUT_OK) return cli_status(s, "--codec=%s, shape %s", j->codec, j->shape_text ? j->shape_text : "flat");
    if (!(j->frame = malloc(cap)) || !(j->back = floats_alloc(j->n))) return cli_fail("out of memory");
    s = taut_encode(j->codec, j->ndim, j->shape, j->x, j->seed, j->frame, cap, &j->bytes);
    if (s != TAUT_OK) return cli_status(s, "%s: cannot encode", j->in);
    s = taut_decode(j->frame, j->bytes, j->back, j->n);
    if (s != TAUT_OK) return cli_status(s, "%s: the frame does not decode", j->in);
    return CLI_OK;
}

static void report(const job *j)
{
    double bits = 8.0 * (double)j->bytes / (double)j->n, error = rel_err2(j->x, j->back, j->n);
    fprintf(strcmp(j->out, "-") == 0 ? stderr : stdout,
            "%s: %zu floats -> %zu bytes, %.4f bits per element (%.1f times smaller), rel_err2 %.3e\n", j->codec, j->n,
            j->bytes, bits, 32 / bits, error);
    if (j->json) {
        json_t *o = json_object();
        jsn_text(o, "codec", j->codec);
        jsn_int(o, "n", j->n);
        jsn_int(o, "bytes", j->bytes);
        jsn_real(o, "bits_per_element", bits);
        jsn_real(o, "rel_err2", error);
        jsn_print(o);
    }
}

static int run(job *j)
{
    int rc = floats_read(j->in, &j->x, &j->n);
    if (rc != CLI_OK) return rc;
    j->ndim = 1;
    j->shape[0] = j->n;
    if (j->shape_text && (rc = shape_parse(j->shape_text, j->n, &j->ndim, j->shape)) != CLI_OK) return rc;
    if ((rc = encode(j)) != CLI_OK) return rc;
    if ((rc = bytes_write(j->out, j->frame, j->bytes)) != CLI_OK) return rc;
    report(j);
    return CLI_OK;
}

int cmd_encode(int argc, char **argv)
{
    job              j = {.seed = 1};
    taut_status      s;
    const cli_option options[] = {
        {"codec", "SPEC", CLI_TEXT, &j.codec, "how; `taut info` lists codecs and their keys (required)", 0, 0, NULL},
        {"shape", "RxC", CLI_TEXT, &j.shape_text, "extents, for codecs that need a matrix; default: flat", 0, 0, NULL},
        {"seed", "N", CLI_SIZE, &j.seed, "of stochastic rounding and random selection", 0, 0, NULL},
        CLI_JSON(&j.json),
        CLI_END,
    };
    const cli_command cmd = {
        "taut encode",
        "IN.f32 OUT.taut",
        "compress a file of float32 (little-endian) into one frame",
        "IN or OUT may be - for stdin or stdout. OUT is replaced only when complete.\n"
        "--json: codec n bytes bits_per_element rel_err2 (|decoded-x|^2/|x|^2; bytes count all headers)\n\n"
        "  taut encode --codec quant:bits=4 grad.f32 grad.taut\n"
        "  taut encode --codec powersgd:rank=4 --shape 1024x784 fc1.f32 fc1.taut\n",
        options,
        2,
        2};
    int rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc != CLI_RUN) return rc;
    if (!j.codec) return cli_usage("--codec is missing; for example --codec quant:bits=4");
    j.in = argv[0];
    j.out = argv[1];
    s = taut_spec_check(j.codec, 0, NULL);
    if (s != TAUT_OK) return cli_bad(s, "--codec=%s", j.codec);
    if (j.json && strcmp(j.out, "-") == 0) return cli_usage("--json and OUT.taut '-' both write to stdout");
    rc = run(&j);
    free(j.x);
    free(j.back);
    free(j.frame);
    return rc;
}
