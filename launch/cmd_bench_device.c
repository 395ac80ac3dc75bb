/* cmd_bench_device.c : `taut bench codec --device cuda`: the kernels of each codec on a GPU, payload and floats in its memory. Times are
 * of CUDA events, medians over rounds; copy_gbps is a copy from device memory to device memory of the same floats in the same
 * rounds, bytes copied per second. */
#include "bench.h"
#include "cli.h"
#include "floats.h"
#include "json.h"
#include "../compressors/cuda/cuda.h"
#include "../compressors/grid/grid.h"
#include "../compressors/grid/grid_model.h"
#include "../compressors/quant/quant_bucket.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 15, TOGETHER = 264 };
enum phase { COPY, ENCODE, ENCODE_EF, DECODE, DECODE_ADD, PHASES };

typedef struct device {
    const taut__cuda *c;
    taut__cuda_stream s;
    taut__cuda_job    job;
    taut__cuda_batch  b;
    float            *err;
    const void       *tables;
    const taut_stage *stage;
    size_t            n;
    uint64_t          list;
} device;

static size_t unit_of(const char *name, const taut_stage *st)
{
    if (strcmp(name, "quant") == 0) return (size_t)st->value[1];
    return strcmp(name, "grid") == 0 ? TAUT__CUDA_CHUNK : TAUT__CUDA_TILE;
}

static taut_dtype kind_of(const char *name)
{
    return name[0] == 'f' ? TAUT_F16 : name[0] == 'b' ? TAUT_BF16 : TAUT_F32;
}

static taut_status encode(device *d)
{
    const taut_stage *st = d->stage;
    const char       *name = st->codec->name;
    quant_params      p = {0};
    if (strcmp(name, "quant") == 0) p = taut__quant_params(st);
    if (strcmp(name, "quant") == 0) return d->c->quant->encode(&d->b, &p, d->s);
    if (strcmp(name, "grid") == 0) return d->c->grid->encode(&d->b, st->value[GRID_KEY_DEAD], 0, d->tables, d->s);
    if (strcmp(name, "topk") == 0) return d->c->topk->encode(&d->b, st->value[0], false, d->list, d->s);
    if (strcmp(name, "randk") == 0) return d->c->randk->encode(&d->b, st->value[0], st->value[1] != 0, false, d->s);
    return d->c->vec->encode(&d->b, kind_of(name), st->value[0] == 0, d->s);
}

static taut_status decode(device *d, bool add)
{
    const taut_stage *st = d->stage;
    const char       *name = st->codec->name;
    quant_params      p = {0};
    if (strcmp(name, "quant") == 0) p = taut__quant_params(st);
    if (strcmp(name, "quant") == 0) return d->c->quant->decode(&d->b, &p, add, d->s);
    if (strcmp(name, "grid") == 0) return d->c->grid->decode(&d->b, add, d->tables, d->s);
    if (strcmp(name, "topk") == 0) return d->c->topk->decode(&d->b, add, d->list, d->s);
    if (strcmp(name, "randk") == 0)
        return d->c->randk->decode(&d->b, st->value[0], st->value[1] != 0, false, add, d->s);
    return d->c->vec->decode(&d->b, kind_of(name), add, d->s);
}

static taut_status pass(device *d, enum phase p, double *seconds)
{
    const taut__cuda_device *dev = d->c->device;
    taut_status              s;
    d->b.one.err = p == ENCODE_EF ? d->err : NULL;
    TAUT_TRY(dev->clock(d->s, 1, NULL));
    if (p == COPY) s = dev->copy(d->job.dst, d->job.src, 4 * d->n, d->s);
    else if (p == ENCODE || p == ENCODE_EF) s = encode(d);
    else s = decode(d, p == DECODE_ADD);
    TAUT_TRY(s);
    return dev->clock(d->s, 0, seconds);
}

/* What stays the same for all codecs: floats in, floats out, room for the error. */
static taut_status open_device(device *d, const bench_input *in)
{
    const taut__cuda_device *dev = d->c->device;
    void                    *src, *dst, *err, *len, *flags;
    d->n = in->n;
    TAUT_TRY(dev->stream_create(&d->s));
    TAUT_TRY(dev->alloc(4 * in->n, &src));
    TAUT_TRY(dev->alloc(4 * in->n, &dst));
    TAUT_TRY(dev->alloc(4 * in->n, &err));
    TAUT_TRY(dev->alloc(16, &len));
    TAUT_TRY(dev->alloc(16, &flags));
    TAUT_TRY(dev->copy(src, in->x, 4 * in->n, d->s));
    TAUT_TRY(dev->fill(flags, 0, 16, d->s));
    d->err = err;
    d->job =
        (taut__cuda_job){.n = in->n, .elems = in->n, .seed = 1, .src = src, .dst = dst, .len = len, .flags = flags};
    return TAUT_OK;
}

/* The step of grid is a matter of the host: calibrated there, from the same floats. */
static taut_status grid_step(device *d, const bench_codec *codec, const float *x)
{
    const taut__cuda_device *dev = d->c->device;
    taut_call                call = bench_call(codec);
    double                   stats[GRID_STATS] = {0};
    taut_calibration         calibration = {0};
    void                    *step, *tables;
    float                    value = (float)d->stage->value[GRID_KEY_STEP];
    if (!(d->stage->given >> GRID_KEY_STEP & 1)) {
        TAUT_TRY(taut__op_collect_stats(codec->spec.stage[0].codec, &call, x, stats));
        TAUT_TRY(taut__op_calibrate(codec->spec.stage[0].codec, &call, stats, 1, x, &calibration));
        value = calibration.f[GRID_CALIBRATED_STEP];
    }
    TAUT_TRY(dev->alloc(16, &step));
    TAUT_TRY(dev->copy(step, &value, 4, d->s));
    TAUT_TRY(dev->wait(d->s));
    d->job.step = step;
    if (d->stage->value[GRID_KEY_CODE] != GRID_RANS) return TAUT_OK;
    TAUT_TRY(dev->alloc(d->c->grid->table_bytes, &tables));
    TAUT_TRY(dev->copy(tables, taut__grid_tables(), d->c->grid->table_bytes, d->s));
    d->tables = tables;
    return TAUT_OK;
}

static taut_status open_codec(device *d, const bench_codec *codec, const float *x)
{
    const taut__cuda_device *dev = d->c->device;
    void                    *payload;
    size_t                   work = 0;
    d->stage = &codec->spec.stage[0];
    d->tables = NULL;
    const char *name = d->stage->codec->name;
    if (codec->spec.stages > 1 || strcmp(name, "powersgd") == 0)
        return taut__fail(TAUT_E_UNSUPPORTED,
                          "--device cuda: none, fp16, bf16, quant, grid, topk and randk are timed there");
    if (strcmp(name, "quant") == 0 && taut__quant_params(d->stage).norm == QUANT_ROTATED)
        return taut__fail(TAUT_E_UNSUPPORTED, "--device cuda: quant with rotate=1 has no kernels");
    TAUT_TRY(dev->alloc(taut__spec_capacity(&codec->spec, &codec->tensor, d->n), &payload));
    d->job.payload = payload;
    if (strcmp(name, "grid") == 0) TAUT_TRY(grid_step(d, codec, x));
    d->b = taut__cuda_single(&d->job, unit_of(name, d->stage));
    if (strcmp(name, "grid") == 0) work = d->c->grid->encode_work(d->b.units, TOGETHER, d->tables != NULL);
    if (strcmp(name, "topk") == 0) {
        d->list = taut__cuda_list(&d->b.one, 1, d->stage->value[0], false);
        work = taut__max(d->c->topk->encode_work(d->b.units, d->list, 1, true), d->c->topk->decode_work(d->list, 1));
    }
    d->b.work_bytes = work;
    return work ? dev->alloc(work, &d->b.work) : TAUT_OK;
}

static void close_codec(device *d)
{
    const taut__cuda_device *dev = d->c->device;
    dev->release(d->job.payload);
    dev->release((void *)(uintptr_t)d->job.step);
    dev->release((void *)(uintptr_t)d->tables);
    dev->release(d->b.work);
    d->job.payload = NULL, d->job.step = NULL, d->tables = NULL, d->b.work = NULL;
}

static taut_status measure(device *d, const bench_codec *codec, const float *x, double gbps[PHASES], uint64_t *bytes,
                           uint32_t *flags)
{
    double seconds[PHASES][ROUNDS];
    TAUT_TRY(open_codec(d, codec, x));
    for (enum phase p = COPY; p < PHASES; p++) TAUT_TRY(pass(d, p, &seconds[p][0])); /* untimed: first use */
    for (int r = 0; r < ROUNDS; r++)
        for (enum phase p = COPY; p < PHASES; p++) TAUT_TRY(pass(d, p, &seconds[p][r]));
    for (enum phase p = COPY; p < PHASES; p++) gbps[p] = 4e-9 * (double)d->n / median(seconds[p], ROUNDS);
    TAUT_TRY(d->c->device->copy(bytes, d->job.len, sizeof *bytes, d->s));
    TAUT_TRY(d->c->device->copy(flags, d->job.flags, sizeof *flags, d->s));
    return d->c->device->wait(d->s);
}

int bench_device(const bench_input *in, const bench_codec *codecs, size_t count, bool json)
{
    const char *gpu;
    device      d = {.c = taut__cuda_get(&gpu)};
    json_t     *o = json_object(), *results = json_array();
    if (!d.c) return cli_fail("--device cuda: %s", gpu);
    taut_status s = open_device(&d, in);
    if (s != TAUT_OK) return cli_status(s, "--device cuda");
    printf("%zu floats (%.1f MiB) on %s, median of %d rounds; GB of float32 per second, x: relative to a copy on the "
           "device\n\n"
           "%-32s %9s %15s %15s %15s %15s %8s\n",
           in->n, (double)in->n / 262144, gpu, ROUNDS, "codec", "bits/elem", "encode", "encode+feedback", "decode",
           "decode+add", "copy");
    for (size_t i = 0; i < count; i++) {
        double   gbps[PHASES];
        uint64_t bytes = 0;
        uint32_t flags = 0;
        s = measure(&d, &codecs[i], in->x, gbps, &bytes, &flags);
        if (s != TAUT_OK) return cli_status(s, "%s", codecs[i].name);
        if (flags) return cli_fail("%s: flags %u on the device: must be 0", codecs[i].name, flags);
        close_codec(&d);
        printf("%-32s %9.4f", codecs[i].name, 8.0 * (double)bytes / (double)in->n);
        for (enum phase p = ENCODE; p < PHASES; p++) printf(" %7.1f %6.2fx", gbps[p], gbps[p] / gbps[COPY]);
        printf(" %8.1f\n", gbps[COPY]);
        json_t *r = json_object();
        jsn_text(r, "codec", codecs[i].name);
        jsn_text(r, "device", gpu);
        jsn_int(r, "n", in->n);
        jsn_int(r, "bytes", bytes);
        jsn_real(r, "bits_per_element", 8.0 * (double)bytes / (double)in->n);
        jsn_real(r, "encode_gbps", gbps[ENCODE]);
        jsn_real(r, "encode_ef_gbps", gbps[ENCODE_EF]);
        jsn_real(r, "decode_gbps", gbps[DECODE]);
        jsn_real(r, "decode_add_gbps", gbps[DECODE_ADD]);
        jsn_real(r, "copy_gbps", gbps[COPY]);
        json_array_append_new(results, r);
    }
    json_object_set_new(o, "results", results);
    if (json) jsn_print(o);
    else json_decref(o);
    return CLI_OK;
}
