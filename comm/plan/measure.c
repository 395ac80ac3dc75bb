/* measure.c : encode, decode, subtract. */
#include "measure.h"
#include "../../compressors/feedback.h"
#include "../../compressors/frame.h"
#include <math.h>
#include <string.h>
#include <time.h>

double taut__processor_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void taut__bench_fini(taut__bench *b)
{
    taut__free(b->err);
    taut__free(b->codes);
    taut__free(b->payload);
    *b = (taut__bench){0};
}

static taut_status reserve(taut__bench *b, size_t elems, size_t bytes)
{
    bool there = taut__room(&b->err, &b->errs, elems, sizeof *b->err) &&
                 taut__room(&b->codes, &b->elems, elems, sizeof *b->codes) &&
                 taut__room(&b->payload, &b->bytes, bytes, 1);
    return there ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "measuring %zu elements", elems);
}

/* Seconds of encode and decode as an allreduce has them, where the ranks agree on sums of statistics; alone, a codec may search for the
 * best setting and take longer. Integer codecs keep codes beside the frame, and add. */
static taut_status time_agreed(taut__bench *b, const taut_call *alone, const float *x, size_t cap, double factor,
                               taut__measured *m)
{
    const taut_codec *codec = taut__spec_codec(alone->spec);
    taut_call         call = *alone;
    taut_calibration  calibration = {0};
    size_t            len;
    double            stats[TAUT_STATS_MAX] = {0}, start = taut__processor_s();
    TAUT_TRY(taut__op_collect_stats(codec, &call, x, stats));
    TAUT_TRY(taut__op_calibrate(codec, &call, stats, 2, x, &calibration));
    call.calibration = &calibration;
    bool codes = codec->caps & TAUT_CAP_INTEGER && !calibration.raw;
    /* err: as feedback, or measuring, needs it */
    TAUT_TRY(codes ? taut__op_quantize_pack(codec, &call, x, b->codes, b->err, INT32_MAX / 2, b->payload, cap, &len)
                   : taut__op_encode(codec, &call, x, b->payload, cap, &len, b->err));
    m->encode_s = (taut__processor_s() - start) * factor;
    start = taut__processor_s();
    /* err is only a place to decode to */
    TAUT_TRY(codes ? taut__op_unpack_values(codec, &call, b->payload, len, b->codes, b->err)
                   : taut__op_decode(codec, &call, b->payload, len, b->err));
    m->decode_s = (taut__processor_s() - start) * factor;
    return TAUT_OK;
}

taut_status taut__measure(taut__bench *b, const taut_spec *spec, const taut_tensor *t, const float *x, double factor,
                          uint64_t seed, bool decode, taut__measured *m)
{
    const taut_codec *codec = taut__spec_codec(spec);
    taut_call         call = {.spec = spec, .tensor = t, .n = t->elems, .seed = seed, .shared_seed = seed};
    size_t            cap = taut__spec_capacity(spec, t, t->elems), len = 0;
    double            start, encoded;
    taut_norm2        norm2;
    TAUT_TRY(reserve(b, t->elems, cap));
    start = taut__processor_s();
    TAUT_TRY(taut__op_encode(codec, &call, x, b->payload, cap, &len, b->err));
    encoded = taut__processor_s();
    norm2 = taut__norm2(t, b->err, 0, t->elems);
    *m = (taut__measured){norm2.plain * factor, norm2.weighted * factor, (double)len * factor + TAUT_FRAME_HEADER,
                          (encoded - start) * factor, 0};
    if (!decode) return TAUT_OK;
    if (codec->caps & TAUT_CAP_GLOBAL_STATS) return time_agreed(b, &call, x, cap, factor, m);
    start = taut__processor_s();
    TAUT_TRY(taut__op_decode(codec, &call, b->payload, len, b->err)); /* err is only a place to decode to */
    m->decode_s = (taut__processor_s() - start) * factor;
    return TAUT_OK;
}

taut__work taut__work_dense(const taut_tensor *t)
{
    double bytes = 4.0 * (double)t->elems;
    return (taut__work){
        .dense_bytes = bytes, .bytes = bytes, .sum_bytes = bytes, .rounds = 1, .vias = 1u << TAUT_VIA_NATIVE};
}

/* The sum of p codes: as wide as one for quant; of grid half a bit per doubling wider, where there is something; the
 * union of the indices where sparse. */
static double sum_bytes(const taut_codec *codec, double dense, int ranks, double bytes)
{
    if (codec->caps & TAUT_CAP_SPARSE) return fmin(bytes * ranks, dense);
    if (codec->caps & TAUT_CAP_INTEGER) return fmin(bytes * (1 + 0.25 * log2(ranks)), dense);
    return bytes;
}

/* Factors travel through a plain allreduce, without frames. */
static double factor_bytes(const taut_codec *codec, const taut_stage *stage, const taut_tensor *t)
{
    double elems = 0;
    for (int r = 0; r < codec->linear->rounds; r++) elems += (double)codec->linear->factor_elems(stage, t, r);
    return elems * sizeof(float);
}

taut__work taut__work_of(const taut_spec *spec, const taut_tensor *t, int ranks, const taut__measured *m)
{
    const taut_codec *codec = taut__spec_codec(spec);
    taut__work        w = taut__work_dense(t);
    w.bytes = codec->linear ? factor_bytes(codec, &spec->stage[0], t) : m->bytes;
    w.sum_bytes = sum_bytes(codec, w.dense_bytes, ranks, w.bytes);
    w.encode_s = m->encode_s;
    w.decode_s = m->decode_s;
    if (codec->linear) w.rounds = codec->linear->rounds; /* as algorithms.c chooses under algorithm=auto */
    else w.vias = 1u << (codec->caps & TAUT_CAP_SLICEABLE ? TAUT_VIA_SRA : TAUT_VIA_GATHER);
    if (codec->caps & TAUT_CAP_INTEGER && spec->stages == 1) w.vias |= 1u << TAUT_VIA_FIELDS; /* if the link has it */
    w.agree = (codec->caps & TAUT_CAP_GLOBAL_STATS) != 0;
    return w;
}

void taut__force(const taut__settings *set, const taut_spec *spec, taut__work *w)
{
    bool native = set->algorithm == TAUT_ALGORITHM_NATIVE;
    if (set->algorithm == TAUT_ALGORITHM_AUTO || (spec && taut__spec_codec(spec)->linear)) return;
    if (native && spec) w->bytes = w->sum_bytes = w->dense_bytes; /* codes are added as integers of 32 bits */
    for (int v = 0; v < TAUT_VIAS; v++)
        if (strcmp(taut__algorithm_name((taut__algorithm_id)v), set->c.algorithm) == 0) w->vias = 1u << v;
}
