/* test_cuda_space.c : CUDA as a memory space: memory, streams and events, feedback's passes, norms, headers of frames, against the
 * host's; and input that is wrong, each named, with nothing lost. */
#include "compressors/frame.h"
#include "compressors/grid/grid.h"
#include "tests/support/cuda_host/control.h"
#include "tests/support/cuda_twin.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void cuda_model_memory(size_t bytes) __attribute__((weak));

START_TEST(passes)
{
    enum { N = 9001 };
    float               *x = new_floats(N), *r = new_floats(N), *u = new_floats(N), *got = new_floats(N);
    const taut__vectors *host = &taut__vectors_host;
    for (int kind = 0; kind < CUDA_KINDS; kind++)
        for (int d = 0; d < 3; d++) {
            twin_begin((uint64_t)(kind + d));
            const taut__vectors *v = taut__vectors_of(TAUT_CUDA);
            taut_dtype           dtype = d == 0 ? TAUT_F32 : d == 1 ? TAUT_F16 : TAUT_BF16;
            uint16_t            *h = calloc(N, 2);
            const void          *g = d ? (void *)h : x;
            cuda_fill(x, N, kind), cuda_fill(r, N, 0), cuda_fill(u, N, 1);
            host->convert((taut_place){0}, h, d == 2 ? TAUT_BF16 : TAUT_F16, x, TAUT_F32, N);
            void  *dg = cuda_put(g, N * (d ? 2 : 4), 0), *dh = cuda_new(N * 2, 0);
            float *dr = cuda_put(r, 4 * N, 0), *du = cuda_put(u, 4 * N, 0), *dx = cuda_put(x, 4 * N, 0);
#define BOTH(call_there, call_here, there, here, what)                                                                 \
    do {                                                                                                               \
        cuda_must(call_there, what);                                                                                   \
        ck_assert(call_here == TAUT_OK);                                                                               \
        cuda_get(got, there, 4 * N);                                                                                   \
        ck_assert_msg(cuda_same(got, here, N), "%s, %s, dtype %d", what, cuda_kind_name(kind), d);                     \
    } while (0)
            taut_place p = twin_place, here = {0};
            BOTH(v->input(p, dr, NULL, 0, dtype, dg, N, true), host->input(here, r, NULL, 0, dtype, g, N, true), dr, r,
                 "fresh input");
            BOTH(v->input(p, dr, NULL, 0, dtype, dg, N, false), host->input(here, r, NULL, 0, dtype, g, N, false), dr,
                 r, "input");
            BOTH(v->input(p, dr, du, 0.9f, dtype, dg, N, false), host->input(here, r, u, 0.9f, dtype, g, N, false), dr,
                 r, "momentum");
            BOTH(v->output(p, dr, du, N), host->output(here, r, u, N), du, u, "output");
            BOTH(v->add(p, dr, dtype, dg, N), host->add(here, r, dtype, g, N), dr, r, "add");
            BOTH(v->scale(p, dr, 0.7f, N), host->scale(here, r, 0.7f, N), dr, r, "scale");
            BOTH(v->residual(p, dr, dx, dr, N), host->residual(here, r, x, r, N), dr, r, "residual");
            uint64_t found = 0, zero = 0, *dfound = cuda_put(&zero, 8, 0), want = 0;
            BOTH(v->scrub(p, dx, N, dfound), host->scrub(here, x, N, &want), dx, x, "scrub");
            cuda_get(&found, dfound, 8);
            ck_assert_uint_eq(found, want);
            if (d) {
                cuda_must(v->convert(p, dh, dtype, dr, TAUT_F32, N), "to half");
                host->convert(here, h, dtype, r, TAUT_F32, N);
                cuda_get(got, dh, 2 * N);
                ck_assert(memcmp(got, h, 2 * N) == 0 || kind == 3);
                BOTH(v->convert(p, dr, TAUT_F32, dh, dtype, N), host->convert(here, r, TAUT_F32, h, dtype, N), dr, r,
                     "from half");
            }
            ck_assert(v->convert(p, dh, TAUT_F16, dh, TAUT_BF16, N) == TAUT_E_UNSUPPORTED);
            free(h);
            twin_end();
        }
    free(x), free(r), free(u), free(got);
}
END_TEST

START_TEST(norms)
{
    enum { ROWS = 30, COLS = 211, N = ROWS * COLS };
    static const size_t scales[] = {0, 1, ROWS, N};
    float              *x = new_floats(N), *s = new_floats(N);
    cuda_fill(x, N, 6);
    for (int i = 0; i < N; i++) s[i] = 0.5f + (float)(i % 13);
    twin_begin(2);
    const taut__vectors *v = taut__vectors_of(TAUT_CUDA);
    for (int i = 0; i < 4; i++) {
        taut_tensor t = {.elems = N,
                         .rows = ROWS,
                         .cols = COLS,
                         .scale = scales[i] ? cuda_put(s, 4 * N, 0) : NULL,
                         .scale_n = scales[i]};
        taut_tensor here = t;
        taut_norm2  got, *out = cuda_new(sizeof got, 0);
        uint32_t    zero = 0, *flags = cuda_put(&zero, 4, 0);
        here.scale = scales[i] ? s : NULL;
        cuda_must(v->norm2(twin_place, &t, cuda_put(x + 100, 4 * (N - 100), 0), 100, N - 100, out, flags), "norm2");
        cuda_get(&got, out, sizeof got);
        taut_norm2 want = taut__norm2(&here, x + 100, 100, N - 100);
        ck_assert_msg(fabs(got.plain - want.plain) <= 1e-12 * want.plain &&
                          fabs(got.weighted - want.weighted) <= 1e-12 * want.weighted,
                      "%g %g, host %g %g", got.plain, got.weighted, want.plain, want.weighted);
        cuda_get(&zero, flags, 4);
        ck_assert_uint_eq(zero, 0);
    }
    x[200] = INFINITY;
    uint32_t    word = 0, *flags = cuda_put(&word, 4, 0);
    taut_norm2 *out = cuda_new(sizeof *out, 0);
    cuda_must(v->norm2(twin_place, &(taut_tensor){.elems = N}, cuda_put(x, 4 * N, 0), 0, N, out, flags), "norm2");
    cuda_get(&word, flags, 4);
    ck_assert_uint_eq(word, TAUT_FLAG_NOT_FINITE);
    twin_end();
    free(x), free(s);
}
END_TEST

/* Frames made on the device are read on the host, and the reverse; damage to a header is flagged. */
START_TEST(frames)
{
    twin_begin((uint64_t)_i);
    twin     t;
    uint8_t *frame = NULL, *bytes;
    twin_open(&t, twin_specs[_i], 12, 90, 0);
    if (strstr(twin_specs[_i], "rel=")) twin_calibrate(&t, 1, 2);
    bytes = malloc(t.k.cap + TAUT_FRAME_HEADER);
    frame = cuda_new(t.k.cap + TAUT_FRAME_HEADER, 0);
    t.piece.payload = frame + TAUT_FRAME_HEADER;
    twin_enqueue(TAUT_OP_ENCODE, &t, 1);
    cuda_must(taut__vectors_of(TAUT_CUDA)->seal(t.k.codec, &t.piece, 1, twin_place), "seal");
    t.k.len = (size_t)twin_outcome(&t).bytes;
    cuda_get(bytes, frame, t.k.len + TAUT_FRAME_HEADER);
    ck_assert_int_eq(bytes[22] | bytes[23] << 8, taut__payload_version(t.k.codec, bytes + TAUT_FRAME_HEADER));
    size_t         elems, len;
    const uint8_t *payload;
    ck_assert_msg(taut__frame_open(t.k.codec, 12 * 90, bytes, t.k.len + TAUT_FRAME_HEADER, &payload, &len, NULL, &elems,
                                   NULL) == TAUT_OK,
                  "%s", taut_last_error());
    for (int at = 0; at < TAUT_FRAME_HEADER; at++) {
        for (int v = 0; v < 2; v++) {
            uint8_t      kept = bytes[at];
            taut_outcome zero = {.bytes = t.k.len};
            if (v) bytes[at] ^= 0x10;
            cuda_must(twin_place.stream ? cuda_tables()->device->put(frame, bytes, TAUT_FRAME_HEADER, twin_place.stream)
                                        : TAUT_OK,
                      "put");
            cuda_must(cuda_tables()->device->put(t.piece.outcome, &zero, sizeof zero, twin_place.stream), "put");
            cuda_must(taut__vectors_of(TAUT_CUDA)->open(t.k.codec, &t.piece, 1, twin_place), "open");
            ck_assert_msg(twin_outcome(&t).flags == (v ? TAUT_FLAG_CORRUPT : 0), "byte %d", at);
            bytes[at] = kept;
        }
    }
    free(bytes);
    twin_close(&t);
    twin_end();
}
END_TEST

START_TEST(memory)
{
    twin_begin(9);
    const taut__space *m = taut__memory_of(TAUT_CUDA);
    taut_place         other = twin_place;
    taut__event       *e;
    uint8_t            in[5000], out[5000];
    void              *p, *q;
    bool               passed = false;
    for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)(i * 7);
    cuda_must(m->stream_create(&other), "stream");
    cuda_must(m->event_create(twin_place, &e), "event");
    cuda_must(m->alloc(twin_place, sizeof in, &p), "alloc");
    cuda_must(m->copy(twin_place, out, p, sizeof out), "copy");
    cuda_must(m->wait(twin_place), "wait");
    for (size_t i = 0; i < sizeof out; i++) ck_assert_uint_eq(out[i], 0);
    cuda_must(m->put(twin_place, p, in, sizeof in), "put");
    memset(in, 0, 100); /* put has taken them */
    cuda_must(m->event_record(e, twin_place), "record");
    cuda_must(m->event_hold(e, other), "hold");
    cuda_must(m->alloc_in(other, sizeof in, &q), "alloc in order");
    cuda_must(m->copy(other, q, p, sizeof in), "copy");
    cuda_must(m->copy(other, out, q, sizeof in), "copy back");
    m->release_in(other, q);
    cuda_must(m->wait(other), "wait");
    cuda_must(m->event_test(e, &passed), "test");
    ck_assert(passed);
    bool captured = true;
    cuda_must(m->failed(other), "what has failed");
    cuda_must(m->capturing(other, &captured), "capturing");
    ck_assert(!captured);
    cuda_must(cuda_tables()->device->capture_begin(other.stream), "capture");
    cuda_must(m->capturing(other, &captured), "capturing");
    ck_assert(captured);
    void *graph;
    cuda_must(cuda_tables()->device->capture_end(other.stream, &graph), "end of capture");
    cuda_tables()->device->graph_destroy(graph);
    unsigned char *pinned = taut__space_host_alloc(m, twin_place, 100);
    ck_assert(pinned && pinned[0] == 0 && pinned[99] == 0);
    taut__space_host_release(m, twin_place, pinned);
    taut__space_host_release(m, twin_place, NULL);
    for (size_t i = 0; i < sizeof out; i++) ck_assert_uint_eq(out[i], (uint8_t)(i * 7));
    ck_assert_int_eq(m->put(twin_place, p, in, TAUT__PUT_MAX + 1), TAUT_E_RANGE);
    m->event_destroy(e);
    m->release(twin_place, p);
    m->stream_destroy(other);
    twin_end();
}
END_TEST

/* Slots of an exchange: what they say, and what is made of it, on the host and on the device. */
START_TEST(slots)
{
    enum { SLOTS = 7, STRIDE = 64, ROOM = 40 };
    static const uint64_t says[SLOTS] = {0, 1, 40, 41, 5000, 39, UINT64_MAX};
    uint8_t               here[SLOTS * STRIDE];
    taut__admitted        want[SLOTS], got[SLOTS], *out;
    taut_outcome          sum = {.bytes = 9, .flags = 3}, sum_there = sum, *there;
    memset(here, 0xab, sizeof here);
    for (int n = 1; n <= SLOTS; n++) {
        twin_begin((uint64_t)n);
        for (int i = 0; i < SLOTS; i++) {
            taut_outcome o = {.bytes = says[i], .flags = (uint32_t)i, .reserved = (uint32_t)(i * 11)};
            memcpy(here + i * STRIDE, &o, sizeof o);
        }
        uint8_t *slot = cuda_put(here, sizeof here, 0);
        out = cuda_new(sizeof got, 0), there = cuda_put(&sum, sizeof sum, 0);
        cuda_must(taut__vectors_of(TAUT_CUDA)->admit(twin_place, slot, STRIDE, (size_t)n, ROOM, out, there), "admit");
        cuda_must(taut__vectors_of(TAUT_CUDA)->admit(twin_place, slot, STRIDE, (size_t)n, ROOM, out, NULL),
                  "admit without a sum");
        cuda_get(got, out, sizeof got), cuda_get(&sum_there, there, sizeof sum_there);
        ck_assert(taut__vectors_host.admit((taut_place){0}, here, STRIDE, (size_t)n, ROOM, want, &sum) == TAUT_OK);
        for (int i = 0; i < n; i++) {
            ck_assert(memcmp(&got[i], &want[i], sizeof *got) == 0);
            ck_assert_uint_eq(want[i].seen.bytes, says[i] > ROOM ? 0 : says[i]);
            ck_assert(want[i].said == says[i] && want[i].largest == 16u * (unsigned)i * 11 &&
                      want[i].seen.flags == (uint32_t)i);
        }
        ck_assert(memcmp(&sum, &sum_there, sizeof sum) == 0 && sum.bytes == 9 && sum.flags == 3);
        twin_end();
    }
    ck_assert_int_eq(taut__vectors_host.admit((taut_place){0}, here, STRIDE, 5, ROOM, want, &sum), TAUT_OK);
    ck_assert_uint_eq(sum.reserved, (5000 + 15) / 16);
}
END_TEST

/* Blocks of a range, of every dtype, and such as only touch it. */
START_TEST(picks)
{
    enum { N = 3000, BLOCKS = 50, ELEMS = 8, FIRST = 500, SOME = 1777 };
    float    x[N], want[BLOCKS * ELEMS], got[BLOCKS * ELEMS];
    uint16_t half[N];
    uint64_t at[BLOCKS];
    for (int d = 0; d < 3; d++) {
        twin_begin((uint64_t)d);
        taut_dtype dtype = (taut_dtype)d;
        fill_normal(x, N, 1, (uint64_t)d);
        if (d) taut__vectors_host.convert((taut_place){0}, half, dtype, x, TAUT_F32, N);
        for (int k = 0; k < BLOCKS; k++) at[k] = (uint64_t)(k * 59 + k % 3);
        for (int i = 0; i < BLOCKS * ELEMS; i++) want[i] = (float)i;
        float      *there = cuda_put(want, sizeof want, 0);
        const void *src = d ? (const void *)(half + FIRST) : x + FIRST;
        cuda_must(taut__vectors_of(TAUT_CUDA)->pick(twin_place, there, dtype, cuda_put(src, SOME * (d ? 2 : 4), 0),
                                                    cuda_put(at, sizeof at, 0), BLOCKS, ELEMS, FIRST, SOME, 0.3f),
                  "pick");
        ck_assert(taut__vectors_host.pick((taut_place){0}, want, dtype, src, at, BLOCKS, ELEMS, FIRST, SOME, 0.3f) ==
                  TAUT_OK);
        cuda_get(got, there, sizeof got);
        ck_assert(memcmp(got, want, sizeof want) == 0);
        int changed = 0;
        for (int i = 0; i < BLOCKS * ELEMS; i++) {
            uint64_t at_i = at[i / ELEMS] + (uint64_t)(i % ELEMS);
            bool     in = at_i >= FIRST && at_i < FIRST + SOME;
            changed += in;
            ck_assert(in || want[i] == (float)i);
            if (in && !d) ck_assert(want[i] == 0.3f * x[at_i]);
        }
        ck_assert(changed > 100 && changed < BLOCKS * ELEMS);
        twin_end();
    }
}
END_TEST

/* Codes of all ranks in fields of words: the sum of the words holds the sums of the codes, whatever their signs. */
START_TEST(fields)
{
    enum { N = 1003, RANKS = 7 };
    static const uint32_t pers[] = {1, 2, 4, 8, 16};
    const uint32_t        per = pers[_i], bits = 32 / per;
    const int32_t        limit = per == 16 ? 0 : (int32_t)(((bits == 32 ? INT32_MAX : (1u << bits) - 1)) / (2 * RANKS));
    int32_t              codes[N], back[N], exact[N] = {0}, *dc;
    uint32_t             words[N], sum[N] = {0}, got[N], *dw;
    const taut__vectors *host = &taut__vectors_host;
    twin_begin((uint64_t)per);
    for (int r = 0; r < RANKS; r++) {
        for (int i = 0; i < N; i++) {
            uint32_t draw = taut__random32(taut__rng_of(3, (uint64_t)(uint32_t)r << 32), (uint32_t)i);
            codes[i] = i < 5   ? limit
                       : i < 9 ? -limit
                       : limit ? (int32_t)(draw % (2u * (uint32_t)limit + 1)) - limit
                               : 0;
            exact[i] += codes[i];
        }
        size_t count = (N + per - 1) / per;
        ck_assert(host->field_join((taut_place){0}, words, codes, N, per, (uint32_t)limit) == TAUT_OK);
        dc = cuda_put(codes, sizeof codes, 0), dw = cuda_new(sizeof words, 0);
        cuda_must(taut__vectors_of(TAUT_CUDA)->field_join(twin_place, dw, dc, N, per, (uint32_t)limit), "join");
        cuda_get(got, dw, count * 4);
        ck_assert(memcmp(got, words, count * 4) == 0);
        for (size_t i = 0; i < count; i++) sum[i] += words[i];
    }
    ck_assert(host->field_split((taut_place){0}, back, sum, N, per, RANKS * (uint32_t)limit) == TAUT_OK);
    ck_assert(memcmp(back, exact, sizeof back) == 0);
    dw = cuda_put(sum, sizeof sum, 0), dc = cuda_new(sizeof back, 0);
    cuda_must(taut__vectors_of(TAUT_CUDA)->field_split(twin_place, dc, dw, N, per, RANKS * (uint32_t)limit), "split");
    cuda_get(back, dc, sizeof back);
    ck_assert(memcmp(back, exact, sizeof back) == 0);
    ck_assert_int_eq(taut__vectors_of(TAUT_CUDA)->field_join(twin_place, dw, dc, N, 3, 0), TAUT_E_RANGE);
    twin_end();
}
END_TEST

/* Feedback whose residual lives on the device: a step, a checkpoint, and back. */
START_TEST(feedback_there)
{
    enum { N = 700 };
    float          g[N], state[2 * N], want[2 * N];
    size_t         len, len2;
    taut_feedback *here, *there;
    twin_begin(5);
    fill_normal(g, N, 1, 3);
    float *dg = cuda_put(g, sizeof g, 0);
    ck_assert(taut__feedback_create(N, 0.5f, &here) == TAUT_OK &&
              taut__feedback_create_in(twin_place, N, 0.5f, &there) == TAUT_OK);
    for (int step = 0; step < 2; step++) {
        ck_assert(taut__feedback_input(here, 0, N, TAUT_F32, g, false) == TAUT_OK &&
                  taut__feedback_input(there, 0, N, TAUT_F32, dg, false) == TAUT_OK);
        ck_assert(taut__feedback_clear(here, 100, 64) == TAUT_OK && taut__feedback_clear(there, 100, 64) == TAUT_OK);
        ck_assert(taut__feedback_output(here, 0, N) == TAUT_OK && taut__feedback_output(there, 0, N) == TAUT_OK);
    }
    ck_assert(taut__feedback_save(here, want, sizeof want, &len) == TAUT_OK &&
              taut__feedback_save(there, state, sizeof state, &len2) == TAUT_OK);
    ck_assert(len == len2 && memcmp(want, state, len) == 0);
    ck_assert(taut__feedback_load(here, want, len) == TAUT_OK && taut__feedback_load(there, state, len) == TAUT_OK);
    ck_assert(taut__feedback_save(here, want, sizeof want, &len) == TAUT_OK &&
              taut__feedback_save(there, state, sizeof state, &len2) == TAUT_OK);
    ck_assert(memcmp(want, state, len) == 0);
    taut__feedback_destroy(here), taut__feedback_destroy(there);
    twin_end();
}
END_TEST

/* ---- what is wrong is named ---- */

static void refused(taut_status got, taut_status want, const char *text)
{
    ck_assert_msg(got == want && strstr(taut_last_error(), text), "status %d, wanted %d and \"%s\": %s", (int)got,
                  (int)want, text, taut_last_error());
}

START_TEST(bad_input)
{
    twin_begin(7);
    twin       t;
    taut_piece p;
    twin_open(&t, "quant:bucket=64", 2, 320, 0);
    const taut_codec *codec = t.k.codec;
#define WITH(change, status, text)                                                                                     \
    do {                                                                                                               \
        p = t.piece;                                                                                                   \
        change;                                                                                                        \
        refused(taut__enqueue(TAUT_OP_ENCODE, codec, &p, 1, twin_place), status, text);                                \
    } while (0)
    WITH(p.src = t.x, TAUT_E_INVALID, "quant: src");
    WITH(p.payload = t.k.payload, TAUT_E_INVALID, "quant: payload");
    WITH(p.err = t.err, TAUT_E_INVALID, "quant: err");
    WITH(p.outcome = &t.out, TAUT_E_INVALID, "quant: outcome");
    WITH(p.outcome = NULL, TAUT_E_INVALID, "outcome is NULL");
    WITH(p.payload += 4, TAUT_E_INVALID, "must be a multiple of 16");
    WITH(p.src = (const float *)(const void *)((const char *)p.src + 2), TAUT_E_INVALID, "must be multiples of");
    WITH(p.cap = t.k.cap - 1, TAUT_E_CAPACITY, "needed");
    WITH((p.call.first = 32, p.call.n = 64), TAUT_E_INVALID, "must be a multiple of bucket=64");
    WITH(p.call.spec = (const taut_spec[]){{.stages = 0}}, TAUT_E_UNSUPPORTED, "needs the spec");
    /* the reverse: device memory given for the host's, where somebody asks */
    refused(taut__place_check((taut_place){0}, t.piece.src, "gradient"), TAUT_E_INVALID, "gradient");
    ck_assert(taut__place_check((taut_place){0}, t.x, "gradient") == TAUT_OK &&
              taut__place_check(twin_place, t.piece.src, "gradient") == TAUT_OK);
    refused(taut__place_check(twin_place, t.x, "gradient"), TAUT_E_INVALID, "gradient");
    refused(taut__vectors_of(TAUT_CUDA)->add(twin_place, t.piece.dst, (taut_dtype)7, t.piece.src, 64), TAUT_E_INVALID,
            "kind 7");
    refused(taut__op_project(codec, &t.piece.call, 0, t.piece.src, t.piece.dst), TAUT_E_UNSUPPORTED,
            "quant: project: not for memory of space CUDA");
    /* nothing of this was enqueued, and nothing lost: the same piece, as it should be */
    twin_enqueue(TAUT_OP_ENCODE, &t, 1);
    ck_assert(taut__op_encode(codec, &t.k.call, t.x, t.k.payload, t.k.cap, &t.k.len, t.err) == TAUT_OK);
    twin_same_payload(&t, "after refusals");
    twin_close(&t);
    twin_open(&t, "grid:rel=0.1", 2, 320, 0);
    refused(taut__enqueue(TAUT_OP_ENCODE, t.k.codec, &t.piece, 1, twin_place), TAUT_E_UNSUPPORTED, "must be agreed");
    twin_close(&t);
    twin_end();
}
END_TEST

/* The same for every codec: each operand of the host, and each misaligned; what is right afterwards gives the host's bytes. */
START_TEST(bad_operands)
{
    const char *spec = twin_specs[_i];
    twin_begin(9 + (uint64_t)_i);
    twin       t;
    taut_piece p;
    twin_open(&t, spec, 3, 200, 0);
    if (strstr(spec, "rel=")) twin_calibrate(&t, 1, 2);
    const taut_codec *codec = t.k.codec;
#define ONE(op, change, text)                                                                                          \
    do {                                                                                                               \
        p = t.piece;                                                                                                   \
        change;                                                                                                        \
        taut_status got = taut__enqueue(op, codec, &p, 1, twin_place);                                                 \
        ck_assert_msg(got == TAUT_E_INVALID && strstr(taut_last_error(), text), "%s, %s: %d: %s", spec, #change,       \
                      (int)got, taut_last_error());                                                                    \
    } while (0)
    ONE(TAUT_OP_ENCODE, p.src = t.x, "host memory");
    ONE(TAUT_OP_ENCODE, p.err = t.err, "host memory");
    ONE(TAUT_OP_ENCODE, p.payload = t.k.payload, "host memory");
    ONE(TAUT_OP_ENCODE, p.outcome = &t.out, "host memory");
    ONE(TAUT_OP_ENCODE, p.outcome = NULL, "outcome is NULL");
    for (uintptr_t by = 1; by < 4; by++) {
        ONE(TAUT_OP_ENCODE, p.src = (const float *)(const void *)((const char *)p.src + by), "must be multiples of");
        ONE(TAUT_OP_ENCODE, p.err = (float *)(void *)((char *)p.err + by), "must be multiples of");
    }
    for (size_t by = 1; by < 16; by += by) ONE(TAUT_OP_ENCODE, p.payload += by, "multiple of 16");
    p = t.piece;
    p.cap = t.k.cap - 1;
    refused(taut__enqueue(TAUT_OP_ENCODE, codec, &p, 1, twin_place), TAUT_E_CAPACITY, "needed");
    twin_enqueue(TAUT_OP_ENCODE, &t, 1);
    ck_assert(taut__op_encode(codec, &t.k.call, t.x, t.k.payload, t.k.cap, &t.k.len, t.err) == TAUT_OK);
    twin_same_payload(&t, spec);
    for (int add = 0; add < 2; add++) {
        taut__op op = add ? TAUT_OP_DECODE_ADD : TAUT_OP_DECODE;
        ONE(op, p.dst = t.back, "host memory");
        ONE(op, p.payload = t.k.payload, "host memory");
        ONE(op, p.dst = (float *)(void *)((char *)p.dst + 2), "must be multiples of");
        ONE(op, p.payload += 8, "multiple of 16");
    }
    twin_enqueue(TAUT_OP_DECODE, &t, 1);
    ck_assert(taut__op_decode(codec, &t.k.call, t.k.payload, t.k.len, t.back) == TAUT_OK);
    twin_same_floats(&t, t.back, t.piece.dst, spec);
    twin_close(&t);
    twin_end();
}
END_TEST

/* Malformed payloads: flagged, never an access outside. */
START_TEST(bad_payloads)
{
    twin_begin((uint64_t)_i);
    twin t;
    twin_open(&t, twin_specs[_i], 6, 110, 0);
    if (strstr(twin_specs[_i], "rel=")) twin_calibrate(&t, 1, 2);
    twin_enqueue(TAUT_OP_ENCODE, &t, 1);
    t.k.len = (size_t)twin_outcome(&t).bytes;
    for (size_t cut = 0; cut < t.k.len; cut += 1 + t.k.len / 7) {
        taut_outcome o = {.bytes = cut};
        cuda_must(cuda_tables()->device->put(t.piece.outcome, &o, sizeof o, twin_place.stream), "put");
        twin_enqueue(TAUT_OP_DECODE, &t, 1);
        ck_assert_msg(twin_outcome(&t).flags & TAUT_FLAG_CORRUPT, "%s cut to %zu of %zu", twin_specs[_i], cut, t.k.len);
        size_t len = cut;
        refused(taut__op_decode(t.k.codec, &t.piece.call, t.piece.payload, len, t.piece.dst), TAUT_E_CORRUPT,
                "malformed payload");
    }
    twin_close(&t);
    twin_end();
}
END_TEST

START_TEST(out_of_memory)
{
    if (!cuda_model_memory || strcmp(cuda_tables()->name, "gpu") == 0) return;
    twin_begin(8);
    twin t;
    twin_open(&t, "topk:density=0.1", 40, 300, 0);
    cuda_model_memory(1);
    refused(taut__enqueue(TAUT_OP_ENCODE, t.k.codec, &t.piece, 1, twin_place), TAUT_E_NOMEM, "out of device memory");
    void          *p;
    taut_feedback *f;
    refused(taut__memory_of(TAUT_CUDA)->alloc(twin_place, 1 << 20, &p), TAUT_E_NOMEM, "1048576");
    ck_assert_ptr_null(p);
    refused(taut__feedback_create_in(twin_place, 1000, 0, &f), TAUT_E_NOMEM, "residual of 1000");
    ck_assert_ptr_null(f);
    cuda_model_memory(0);
    twin_enqueue(TAUT_OP_ENCODE, &t, 1);
    ck_assert(taut__op_encode(t.k.codec, &t.k.call, t.x, t.k.payload, t.k.cap, &t.k.len, t.err) == TAUT_OK);
    twin_same_payload(&t, "after running out of memory");
    twin_close(&t);
    twin_end();
}
END_TEST

/* Numbers of all ranks added in one order, whatever the host's; and copies that a byte on the device decides. */
START_TEST(agreement)
{
    enum { N = 300, STRIDE = 301, RANKS = 9, WORDS = 5000 };
    static double   from[RANKS * STRIDE], want[N], got[N];
    static uint32_t a[WORDS], b[WORDS], back[WORDS];
    uint64_t        random = 11;
    twin_begin((uint64_t)_i);
    const taut__vectors *host = &taut__vectors_host, *device = taut__vectors_of(TAUT_CUDA);
    uint32_t             ranks = (uint32_t)_i + 1, any = 0, zero = 0, *dany = cuda_put(&zero, sizeof zero, 0);
    for (size_t i = 0; i < RANKS * STRIDE; i++) {
        random = taut__mix64(random);
        from[i] = ldexp((double)(int64_t)random, (int)(random % 40) - 60);
    }
    if (_i % 3 == 0)
        for (uint32_t r = 0; r < RANKS; r++) from[r * STRIDE] = 0;
    double *dfrom = cuda_put(from, sizeof from, 0), *dout = cuda_new(sizeof got, 0);
    ck_assert_int_eq(host->combine((taut_place){0}, want, from, STRIDE, N, ranks, &any), TAUT_OK);
    cuda_must(device->combine(twin_place, dout, dfrom, STRIDE, N, ranks, dany), "combine");
    cuda_get(got, dout, sizeof got);
    cuda_get(&zero, dany, sizeof zero);
    ck_assert_int_eq(memcmp(got, want, sizeof want), 0);
    ck_assert_uint_eq(any, _i % 3 != 0);
    ck_assert_uint_eq(zero, any);
    ck_assert_int_eq(device->combine(twin_place, dout, dfrom, STRIDE, N, 0, NULL), TAUT_E_RANGE);
    for (uint32_t i = 0; i < WORDS; i++) a[i] = i * 2654435761u, b[i] = ~i;
    for (uint8_t when = 0; when < 3; when++) {
        void *da = cuda_put(a, sizeof a, 0), *db = cuda_put(b, sizeof b, 0), *dwhen = cuda_put(&when, 1, 0);
        cuda_must(device->copy_if(twin_place, dwhen, db, da, sizeof a - 4 * (size_t)_i), "copy_if");
        cuda_get(back, db, sizeof back);
        for (size_t i = 0; i < WORDS; i++) ck_assert_uint_eq(back[i], when && i < WORDS - (size_t)_i ? a[i] : b[i]);
        ck_assert_int_eq(device->copy_if(twin_place, dwhen, db, da, 3), TAUT_E_INVALID);
    }
    twin_end();
}
END_TEST

/* Digests of rows: the host's, and whichever word of a row is another one, or its digest, is noticed. */
START_TEST(digests)
{
    enum { STRIDE = 270, RANKS = 5, FIRST = 3 };
    static uint64_t      rows[RANKS * STRIDE], back[RANKS * STRIDE];
    static const size_t  lengths[] = {0, 1, 127, 128, 129, 269};
    const size_t         n = lengths[_i];
    const taut__vectors *host = &taut__vectors_host, *device;
    twin_begin((uint64_t)_i);
    device = taut__vectors_of(TAUT_CUDA);
    for (size_t i = 0; i < RANKS * STRIDE; i++) rows[i] = i % 7 ? taut__mix64(i) : 0;
    void *there = cuda_put(rows, sizeof rows, 0);
    ck_assert_int_eq(host->digest((taut_place){0}, rows, STRIDE, n, FIRST, RANKS, NULL), TAUT_OK);
    cuda_must(device->digest(twin_place, there, STRIDE, n, FIRST, RANKS, NULL), "digest");
    cuda_get(back, there, sizeof back);
    ck_assert_int_eq(memcmp(back, rows, sizeof rows), 0);
    for (uint32_t q = 0; q <= RANKS; q++) {
        size_t   word = q * STRIDE + (q * 53) % (n + 1);
        uint32_t here = 0, zero = 0, *differs = cuda_put(&zero, sizeof zero, 0);
        if (q < RANKS) rows[word] ^= 1ull << (11 * q);
        void *spoilt = cuda_put(rows, sizeof rows, 0);
        if (q < RANKS) ck_assert_int_eq(host->digest((taut_place){0}, rows, STRIDE, n, FIRST, RANKS, &here), TAUT_OK);
        cuda_must(device->digest(twin_place, spoilt, STRIDE, n, FIRST, RANKS, differs), "digest");
        cuda_get(&zero, differs, sizeof zero);
        ck_assert_uint_eq(zero, q < RANKS ? FIRST + q + 1 : 0);
        ck_assert_uint_eq(here, zero);
        if (q < RANKS) rows[word] ^= 1ull << (11 * q);
    }
    /* a row in another's place is noticed too; arguments that are none are refused */
    uint32_t other = 0;
    ck_assert_int_eq(host->digest((taut_place){0}, rows, STRIDE, n, FIRST + 1, 1, &other), TAUT_OK);
    ck_assert_uint_eq(other, n ? FIRST + 2 : 0);
    ck_assert_int_eq(device->digest(twin_place, there, n, n, 0, 1, NULL), TAUT_E_INVALID);
    ck_assert_int_eq(device->digest(twin_place, (char *)there + 4, STRIDE, n, 0, 1, NULL), TAUT_E_INVALID);
    twin_end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cuda_space");
    TCase *t = suite_case(s, "twin", 120);
    tcase_add_test(t, passes);
    tcase_add_test(t, norms);
    tcase_add_loop_test(t, frames, 0, TWIN_SPECS);
    tcase_add_test(t, memory);
    tcase_add_test(t, slots);
    tcase_add_test(t, picks);
    tcase_add_loop_test(t, fields, 0, 5);
    tcase_add_loop_test(t, agreement, 0, 9);
    tcase_add_loop_test(t, digests, 0, 6);
    tcase_add_test(t, feedback_there);
    tcase_add_test(t, bad_input);
    tcase_add_loop_test(t, bad_operands, 0, TWIN_SPECS);
    tcase_add_loop_test(t, bad_payloads, 0, TWIN_SPECS);
    tcase_add_test(t, out_of_memory);
    return suite_run(s);
}
