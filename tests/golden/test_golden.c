/* test_golden.c : frames as they were when a format was fixed. A mismatch means that the bytes moved: then the codec's
 * version number must move too, and the table below with it (TAUT_GOLDEN_PRINT=1 prints it).
 *
 * Encoders promise the same bytes on every CPU, so each line is checked at every level that this CPU runs. powersgd's
 * encoder uses a BLAS, whose last bits depend on the CPU: for it a stored frame is decoded instead. */
#include "compressors/dispatch.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef struct golden {
    const char *spec;
    size_t      rows, cols;
    size_t      bytes;         /* of the frame */
    uint64_t    frame, floats; /* XXH3 of the frame, and of what it decodes to */
} golden;

static const golden table[] = {
    {"none", 7, 3, 116, 0x914213645028254f, 0x4cfcaeaf329142af},
    {"fp16", 33, 17, 1154, 0x2524db76230fbaca, 0x6c5ddb7b14e833d3},
    {"bf16", 33, 17, 1154, 0x16fbd8cec3578074, 0x63d0f688b6448183},
    {"quant", 40, 129, 2716, 0xf727f0f7b1f46d51, 0xabaaf81400eab9cf},
    {"quant:bits=1", 9, 64, 136, 0xed1c9bbc999fb650, 0x480f2e14a907ff3b},
    {"quant:bits=2,bucket=64,norm=linf", 10, 77, 297, 0x7c92abbf14c0c778, 0xe4e817eb88f695a8},
    {"quant:bits=3,norm=l2,bucket=128", 10, 77, 369, 0xf5a77efd8d30ebb9, 0x14bad23d15388df3},
    {"quant:bits=5,round=nearest", 10, 77, 546, 0x1cb01c92edf104ee, 0x65f3323314dfbbdc},
    {"quant:bits=6,norm=linf,round=nearest", 3, 700, 1647, 0x3821df53b566e851, 0x99ef94a37c4b328d},
    {"quant:bits=7,bucket=8192", 3, 7001, 18450, 0x1341cab441a57afd, 0xf5ad3148167f3234},
    {"quant:bits=8,bucket=192", 1, 1, 57, 0xe12adb7f10020c05, 0xc07c23266d43d097},
    {"quant:rotate=1", 40, 129, 2676, 0xa1947f3c848272bd, 0x18ba0fa1c3461b47},
    {"quant:bits=7,bucket=2048,rotate=1", 3, 700, 1894, 0x4655c936d425b928, 0xae632e7e3151f9e6},
    {"quant:bits=8", 10, 103, 1102, 0xbc6b0767c8e50e78, 0xc730ae0f2757b676},
    {"grid", 64, 1100, 27424, 0xefc1ff2b50fc9a91, 0xbbdc2b13c66e7ee0},
    {"grid:step=0.0001", 40, 129, 5582, 0xcc7a60a69eb2fafe, 0xaa60cf6a961d1ea9},
    {"grid:rel=0.3,dead=0.9", 40, 129, 889, 0xcf52996f44e1863a, 0xfa33eac97c90e81a},
    {"grid:rel=0.05,code=rans", 64, 1100, 20592, 0x09d5cacafe6e8361, 0x1977311721fc667f},
    {"grid:rel=0.6,code=rans", 64, 1100, 4699, 0xbeee3adbd7bc8aa1, 0x208086626c3059f1},
    {"grid:rel=0.97,code=rans", 64, 1100, 73, 0x11160c31dfb713af, 0xa25a126cc43dcc9b},
    {"grid:step=0.00001,code=rans", 3, 7, 129, 0x45047f56325d38ad, 0x66c713438de4b3c1},
    {"topk", 64, 1100, 3584, 0x3db6b4314b7293d3, 0x29550bd58fc6db5c},
    {"topk:density=0.3", 40, 129, 6888, 0xdf91f416dd743e9a, 0xb79c58eb3db2ae00},
    {"topk:density=1", 5, 7, 196, 0xc6d8f91b065096a2, 0x24865d153baa39cc},
    {"randk", 64, 1100, 2896, 0xc78bf4896c100535, 0xa3a4644b9b54d6e4},
    {"randk:density=0.25,scale=1", 40, 129, 5240, 0x7dd72ec436ce26b6, 0xbfab9f5dbf3eff2a},
    {"stack:topk:density=0.05+quant:bits=2", 40, 129, 2736, 0xc164bfe0a7b99bb5, 0xddebf9f2920c1f4a},
    {"stack:fp16+grid:rel=0.1", 40, 129, 11568, 0x30d90528fdea9d4f, 0xc91aea43bde6a585},
};
enum { LINES = sizeof table / sizeof *table, SEED = 20240229 };

/* Multiples of 2^-22 with a prime period, and a large element now and then: exact on every machine. */
static float *input(size_t n)
{
    float *x = new_floats(n);
    for (size_t i = 0; i < n; i++) {
        int v = (int)(i * 7919 % 104729) - 52364;
        x[i] = (float)v * 0x1p-22f * (i % 641 == 17 ? 16.0f : 1.0f);
    }
    return x;
}

static void must(taut_status status, const char *spec) /* also where no test runs: when the table is printed */
{
    if (status == TAUT_OK) return;
    fprintf(stderr, "%s: %s\n", spec, taut_last_error());
    abort();
}

static golden measure(const golden *g)
{
    golden got = {g->spec, g->rows, g->cols, 0, 0, 0};
    size_t n = g->rows * g->cols, shape[] = {g->rows, g->cols}, cap;
    float *x = input(n), *back = new_floats(n);
    must(taut_encode_bound(g->spec, 2, shape, &cap), g->spec);
    uint8_t *frame = malloc(cap);
    must(taut_encode(g->spec, 2, shape, x, SEED, frame, cap, &got.bytes), g->spec);
    must(taut_decode(frame, got.bytes, back, n), g->spec);
    got.frame = XXH3_64bits(frame, got.bytes);
    got.floats = XXH3_64bits(back, n * sizeof *back);
    free(frame), free(x), free(back);
    return got;
}

/* Run for every level: each test is a process of its own, in which TAUT_CPU is read at first use. */
START_TEST(frames_keep_their_bytes)
{
    static const char *const level[] = {"portable", "avx2", "avx512", "avx512vbmi2", "neon"};
    setenv("TAUT_CPU", level[_i], 1);
    for (size_t i = 0; i < LINES; i++) {
        golden got = measure(&table[i]);
        ck_assert_msg(got.bytes == table[i].bytes && got.frame == table[i].frame, "%s %zux%zu on %s: the frame moved",
                      got.spec, got.rows, got.cols, taut_cpu_path());
        ck_assert_msg(got.floats == table[i].floats, "%s %zux%zu on %s: decodes to other floats", got.spec, got.rows,
                      got.cols, taut_cpu_path());
    }
}
END_TEST

START_TEST(every_codec_is_here)
{
    const taut_codec *c;
    for (size_t i = 0; (c = taut__codec_at(i)) != NULL; i++) {
        bool here = strcmp(c->name, "powersgd") == 0;
        for (size_t k = 0; k < LINES; k++) here |= strncmp(table[k].spec, c->name, strlen(c->name)) == 0;
        ck_assert_msg(here, "%s", c->name);
    }
}
END_TEST

/* powersgd:rank=1 of a 5x3 matrix */
static const uint8_t powersgd_frame[] = {
    0x54, 0x41, 0x55, 0x54, 0x01, 0x00, 0x08, 0x00, 0x0f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x9b, 0xd6, 0xba, 0x0a, 0xca, 0xe8, 0x1d, 0xa3,
    0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x01, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x60, 0x84, 0xfb, 0xbd, 0x87, 0xdc, 0x84, 0xbe, 0x0a, 0x3a, 0xcf, 0xbe, 0xb9, 0xdf, 0x09, 0xbf,
    0x76, 0x53, 0x2e, 0xbf, 0xd8, 0x22, 0x7c, 0xbf, 0xbe, 0x23, 0x67, 0x3f, 0x11, 0x09, 0x30, 0x40,
};

START_TEST(powersgd_still_reads_its_frame)
{
    static const float expected[15] = {
        0x1.ef7114p-4f,  -0x1.c62f2p-4f,  -0x1.59e7d4p-2f, 0x1.05b654p-2f,  -0x1.dfd62ap-3f,
        -0x1.6d7146p-1f, 0x1.9832acp-2f,  -0x1.76349cp-2f, -0x1.1cfe7cp+0f, 0x1.0f95fcp-1f,
        -0x1.f1f08p-2f,  -0x1.7b3ac4p+0f, 0x1.5763c4p-1f,  -0x1.3acb4cp-1f, -0x1.df7e36p+0f,
    };
    float back[15];
    ck_assert_msg(taut_decode(powersgd_frame, sizeof powersgd_frame, back, 15) == TAUT_OK, "%s", taut_last_error());
    ck_assert_mem_eq(back, expected, sizeof back);
}
END_TEST

static void print_table(void)
{
    for (size_t i = 0; i < LINES; i++) {
        golden g = measure(&table[i]);
        printf("    {\"%s\", %zu, %zu, %zu, 0x%016llx, 0x%016llx},\n", g.spec, g.rows, g.cols, g.bytes,
               (unsigned long long)g.frame, (unsigned long long)g.floats);
    }
}

int main(void)
{
    if (getenv("TAUT_GOLDEN_PRINT")) {
        print_table();
        return 0;
    }
    Suite *s = suite_create("golden");
    TCase *t = suite_case(s, "all", 60);
    tcase_add_loop_test(t, frames_keep_their_bytes, 0, 5);
    tcase_add_test(t, every_codec_is_here);
    tcase_add_test(t, powersgd_still_reads_its_frame);
    return suite_run(s);
}
