/* cmd_bench_device.c : `taut bench codec --device cuda`: each codec on a GPU through its table of operations, as layers use it: payload, floats,
 * lengths, statistics and state in its memory. Times are of CUDA events, medians over rounds, and hold what an operation enqueues
 * besides its kernels (scratch, descriptors). copy_gbps is a copy from device memory to device memory of the same floats in the
 * same rounds, bytes copied per second. */
#include "bench.h"
#include "cli.h"
#include "floats.h"
#include "json.h"
#include "../compressors/cuda/cuda.h"
#include "../compressors/ops.h"
#include "../compressors/vectors.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 15, PEERS = 4, FACTORS = 2 };
enum phase { COPY, PREPARE, ENCODE, ENCODE_EF, DECODE, DECODE_ADD, SUM, PHASES };
static const char *const columns[PHASES] = {"copy",   "prepare",    "encode",  "encode+feedback",
                                            "decode", "decode+add", "sum of 4"};
static const char *const fields[PHASES] = {"copy_gbps",   "prepare_gbps",    "encode_gbps", "encode_ef_gbps",
                                           "decode_gbps", "decode_add_gbps", "sum_gbps"};

typedef struct device {
    const taut__cuda  *c;
    const taut__space *memory;
    taut_place         place;
    size_t             n;
    float             *src, *dst, *err;
    /* of one codec */
    const taut_codec   *codec;
    taut_piece          piece;
    const uint8_t      *peers[PEERS];
    const taut_outcome *lengths[PEERS];
    float              *factor[FACTORS];
    void               *taken[16]; /* to be given back with it */
    int                 count;
} device;

/* Device memory until the codec is closed, and with bytes of the host in it if there are. */
static taut_status take(device *d, size_t bytes, const void *from, void **out)
{
    TAUT_TRY(d->memory->alloc(d->place, bytes, out));
    d->taken[d->count++] = *out;
    if (!from) return TAUT_OK;
    TAUT_TRY(d->memory->copy(d->place, *out, from, bytes));
    return d->memory->wait(d->place);
}

static taut_status enqueue(device *d, taut__op op) { return taut__enqueue(op, d->codec, &d->piece, 1, d->place); }

/* Whether the codec does it there, in a call of its own. */
static bool has(const device *d, enum phase p)
{
    bool linear = d->codec->caps & TAUT_CAP_LINEAR && strcmp(d->codec->name, "randk") != 0;
    switch (p) {
    case PREPARE: return d->codec->n_stats > 0;
    case ENCODE_EF:
    case DECODE_ADD: return !linear;
    case SUM: return (d->codec->caps & TAUT_CAP_INTEGER) != 0;
    default: return true;
    }
}

static taut_status rounds(device *d)
{
    for (d->piece.round = 0; d->piece.round < d->codec->linear->rounds; d->piece.round++) {
        d->piece.factor = d->factor[d->piece.round];
        TAUT_TRY(enqueue(d, TAUT_OP_PROJECT));
        TAUT_TRY(enqueue(d, TAUT_OP_ABSORB));
    }
    return TAUT_OK;
}

static taut_status prepare(device *d)
{
    TAUT_TRY(d->memory->fill(d->place, d->piece.stats, 0, TAUT_STATS_MAX * sizeof(double)));
    TAUT_TRY(enqueue(d, TAUT_OP_COLLECT_STATS));
    if (d->codec->caps & TAUT_CAP_GLOBAL_STATS) d->piece.src = NULL; /* as where ranks agree: from statistics alone */
    taut_status s = enqueue(d, TAUT_OP_CALIBRATE);
    d->piece.src = d->src;
    return s;
}

static taut_status one(device *d, enum phase p)
{
    d->piece.err = p == ENCODE_EF ? d->err : NULL;
    switch (p) {
    case COPY: return d->memory->copy(d->place, d->dst, d->src, 4 * d->n);
    case PREPARE: return prepare(d);
    case ENCODE:
    case ENCODE_EF: return has(d, ENCODE_EF) ? enqueue(d, TAUT_OP_ENCODE) : rounds(d);
    case DECODE: return enqueue(d, has(d, DECODE_ADD) ? TAUT_OP_DECODE : TAUT_OP_RECONSTRUCT);
    case DECODE_ADD: return enqueue(d, TAUT_OP_DECODE_ADD);
    default: return enqueue(d, TAUT_OP_SUM_PACK);
    }
}

static taut_status pass(device *d, enum phase p, double *seconds)
{
    const taut__cuda_device *dev = d->c->device;
    taut__cuda_stream        s = (taut__cuda_stream)d->place.stream;
    *seconds = NAN;
    if (!has(d, p)) return TAUT_OK;
    if (p == SUM) TAUT_TRY(d->memory->fill(d->place, d->piece.codes, 0, 4 * d->n));
    TAUT_TRY(dev->clock(s, 1, NULL));
    TAUT_TRY(one(d, p));
    return dev->clock(s, 0, seconds);
}

/* What stays the same for all codecs: floats in, floats out, room for the error. */
static taut_status open_device(device *d, const bench_input *in)
{
    d->n = in->n;
    d->memory = taut__memory_of(TAUT_CUDA);
    if (!d->memory) return TAUT_E_UNSUPPORTED;
    d->place.space = TAUT_CUDA;
    TAUT_TRY(d->memory->stream_create(&d->place));
    TAUT_TRY(take(d, 4 * in->n, in->x, (void **)&d->src));
    TAUT_TRY(take(d, 4 * in->n, NULL, (void **)&d->dst));
    TAUT_TRY(take(d, 4 * in->n, NULL, (void **)&d->err));
    d->count = 0;
    return TAUT_OK;
}

static taut_status open_linear(device *d, const bench_codec *b)
{
    const taut_stage *stage = &b->spec.stage[0];
    if (!(d->codec->caps & TAUT_CAP_LINEAR)) return TAUT_OK;
    TAUT_TRY(
        taut__op_state_create(d->codec, stage, &b->tensor, d->piece.call.shared_seed, d->place, &d->piece.call.state));
    for (int k = 0; k < d->codec->linear->rounds && k < FACTORS; k++)
        TAUT_TRY(take(d, 4 * d->codec->linear->factor_elems(stage, &b->tensor, k), NULL, (void **)&d->factor[k]));
    return TAUT_OK;
}

/* Payloads to be summed: copies of the one, which do not share lines of a cache. */
static taut_status open_sum(device *d)
{
    TAUT_TRY(take(d, 4 * d->n, NULL, (void **)&d->piece.codes));
    TAUT_TRY(enqueue(d, TAUT_OP_ENCODE));
    for (int k = 0; k < PEERS; k++) {
        TAUT_TRY(take(d, d->piece.cap, NULL, (void **)&d->peers[k]));
        TAUT_TRY(d->memory->copy(d->place, (void *)(uintptr_t)d->peers[k], d->piece.payload, d->piece.cap));
    }
    taut_outcome *own;
    TAUT_TRY(take(d, sizeof *own, NULL, (void **)&own));
    TAUT_TRY(d->memory->copy(d->place, own, d->piece.outcome, sizeof *own));
    for (int k = 0; k < PEERS; k++) d->lengths[k] = own;
    d->piece.peers = d->peers, d->piece.peer_bytes = d->lengths, d->piece.peer_count = PEERS;
    return d->memory->wait(d->place);
}

static taut_status open_codec(device *d, const bench_codec *b)
{
    taut_outcome none = {0};
    d->codec = taut__spec_codec(&b->spec);
    d->piece = (taut_piece){.call = bench_call(b), .src = d->src, .dst = d->dst, .ranks = 1, .scale_by = 1};
    d->piece.call.place = d->place;
    d->piece.cap = taut__spec_capacity(&b->spec, &b->tensor, d->n);
    TAUT_TRY(take(d, d->piece.cap, NULL, (void **)&d->piece.payload));
    TAUT_TRY(take(d, sizeof none, &none, (void **)&d->piece.outcome));
    TAUT_TRY(open_linear(d, b));
    if (has(d, PREPARE)) {
        TAUT_TRY(take(d, TAUT_STATS_MAX * sizeof(double), NULL, (void **)&d->piece.stats));
        TAUT_TRY(take(d, sizeof(taut_calibration), NULL, (void **)&d->piece.calibration));
        TAUT_TRY(prepare(d));
        if (d->codec->caps & TAUT_CAP_GLOBAL_STATS) d->piece.call.calibration = d->piece.calibration;
    }
    return has(d, SUM) ? open_sum(d) : TAUT_OK;
}

static void close_codec(device *d)
{
    if (d->piece.call.state) taut__op_state_destroy(d->codec, d->place, d->piece.call.state);
    while (d->count) d->memory->release(d->place, d->taken[--d->count]);
    memset(d->factor, 0, sizeof d->factor);
}

static taut_status measure(device *d, const bench_codec *codec, double gbps[PHASES], taut_outcome *told)
{
    double seconds[PHASES][ROUNDS];
    TAUT_TRY(open_codec(d, codec));
    for (enum phase p = COPY; p < PHASES; p++) TAUT_TRY(pass(d, p, &seconds[p][0])); /* untimed: first use */
    for (int r = 0; r < ROUNDS; r++)
        for (enum phase p = COPY; p < PHASES; p++) TAUT_TRY(pass(d, p, &seconds[p][r]));
    for (enum phase p = COPY; p < PHASES; p++)
        gbps[p] = has(d, p) ? 4e-9 * (double)d->n / median(seconds[p], ROUNDS) : NAN;
    if (has(d, SUM)) TAUT_TRY(enqueue(d, TAUT_OP_ENCODE)); /* the sum has written another length */
    TAUT_TRY(d->memory->copy(d->place, told, d->piece.outcome, sizeof *told));
    TAUT_TRY(d->memory->wait(d->place));
    if (!has(d, ENCODE_EF))
        for (int k = 0; k < d->codec->linear->rounds; k++)
            told->bytes += 4 * d->codec->linear->factor_elems(&codec->spec.stage[0], &codec->tensor, k);
    return TAUT_OK;
}

static void print_row(const char *name, const double gbps[PHASES], double bits)
{
    printf("%-32s %9.4f", name, bits);
    for (enum phase p = PREPARE; p < PHASES; p++)
        if (isnan(gbps[p])) printf(" %15s", "-");
        else printf(" %7.1f %6.2fx", gbps[p], gbps[p] / gbps[COPY]);
    printf(" %8.1f\n", gbps[COPY]);
}

static json_t *row_of(const char *name, const char *gpu, size_t n, uint64_t bytes, const double gbps[PHASES])
{
    json_t *r = json_object();
    jsn_text(r, "codec", name);
    jsn_text(r, "device", gpu);
    jsn_int(r, "n", n);
    jsn_int(r, "bytes", bytes);
    jsn_real(r, "bits_per_element", 8.0 * (double)bytes / (double)n);
    for (enum phase p = COPY; p < PHASES; p++)
        if (!isnan(gbps[p])) jsn_real(r, fields[p], gbps[p]);
    return r;
}

int bench_device(const bench_input *in, const bench_codec *codecs, size_t count, bool json)
{
    const char *gpu;
    device      d = {.c = taut__cuda_get(&gpu)};
    if (!d.c) return cli_fail("--device cuda: %s", gpu);
    taut_status s = open_device(&d, in);
    if (s != TAUT_OK) return cli_status(s, "--device cuda");
    printf("%zu floats (%.1f MiB) on %s, median of %d rounds; GB of float32 per second, x: relative to a copy on the "
           "device\n\n%-32s %9s",
           in->n, (double)in->n / 262144, gpu, ROUNDS, "codec", "bits/elem");
    for (enum phase p = PREPARE; p < PHASES; p++) printf(" %15s", columns[p]);
    printf(" %8s\n", columns[COPY]);
    json_t *o = json_object(), *results = json_array();
    for (size_t i = 0; i < count; i++) {
        double       gbps[PHASES];
        taut_outcome told = {0};
        s = measure(&d, &codecs[i], gbps, &told);
        if (s != TAUT_OK) return cli_status(s, "%s", codecs[i].name);
        if (told.flags) return cli_fail("%s: flags %u on the device: must be 0", codecs[i].name, told.flags);
        close_codec(&d);
        print_row(codecs[i].name, gbps, 8.0 * (double)told.bytes / (double)in->n);
        json_array_append_new(results, row_of(codecs[i].name, gpu, in->n, told.bytes, gbps));
    }
    json_object_set_new(o, "results", results);
    if (json) jsn_print(o);
    else json_decref(o);
    return CLI_OK;
}
