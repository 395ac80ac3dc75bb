/* test_cli.c : the option tables of launch/cli.c, the names of files of launch/cli_files.c and the number work of launch/floats.c. All belong to programs, not to
 * the library, so this test compiles them in. */
#include "launch/cli.c"
#include "launch/cli_files.c"
#include "launch/floats.c"
#include "../support/suite.h"
#include <sys/wait.h>

static FILE *captured; /* what cli.c printed on stderr */
static int   kept_fd;

static void capture(void)
{
    captured = tmpfile();
    fflush(stderr);
    kept_fd = dup(STDERR_FILENO);
    dup2(fileno(captured), STDERR_FILENO);
}

static const char *release(void) /* the text, until the next call */
{
    static char text[4096];
    size_t      n;
    fflush(stderr);
    dup2(kept_fd, STDERR_FILENO);
    close(kept_fd);
    rewind(captured);
    n = fread(text, 1, sizeof text - 1, captured);
    text[n] = 0;
    fclose(captured);
    return text;
}

typedef struct values {
    bool        flag;
    int64_t     whole;
    double      real;
    uint64_t    size;
    cli_range   range;
    const char *text, *word;
    cli_list    list;
    int         operands;
    char       *argv[24];
} values;

/* Parses up to 20 words with one option of every kind. */
static int parse(values *v, const char *line, const char **message)
{
    static char copy[512];
    int         argc = 1, rc;
    cli_option  options[] = {
         {"flag", NULL, CLI_FLAG, &v->flag, "f", 0, 0, NULL},
         {"whole", "N", CLI_INT, &v->whole, "i", -5, 5, NULL},
         {"real", "X", CLI_REAL, &v->real, "r", 0, 0, NULL},
         {"size", "N", CLI_SIZE, &v->size, "s", 1, 0x1p40, NULL},
         {"range", "A:B", CLI_RANGE, &v->range, "g", 4, 0x1p30, NULL},
         {"text", "T", CLI_TEXT, &v->text, "t", 0, 0, NULL},
         {"word", "W", CLI_WORD, &v->word, "w", 0, 0, "time|bytes"},
         {"list", "L", CLI_LIST, &v->list, "l", 0, 0, NULL},
         CLI_END,
    };
    cli_command cmd = {"taut test", "IN OUT", "a test", NULL, options, 1, 2};
    snprintf(copy, sizeof copy, "%s", line);
    *v = (values){.range = {0, 0, 4}, .word = "time"};
    v->argv[0] = copy; /* any text: a program's name is not read */
    for (char *w = strtok(copy, " "); w && argc < 22; w = strtok(NULL, " ")) v->argv[argc++] = w;
    capture();
    rc = cli_parse(&cmd, argc, v->argv, &v->operands);
    *message = release();
    return rc;
}

START_TEST(every_kind_is_read)
{
    values      v;
    const char *m;
    ck_assert_int_eq(parse(&v,
                           "in --flag --whole -5 --real=2.5e-3 --size 64K --range 64K:64M:2 --text a=b "
                           "--word bytes --list x --list=y -",
                           &m),
                     CLI_RUN);
    ck_assert(v.flag);
    ck_assert_int_eq(v.whole, -5);
    ck_assert_double_eq(v.real, 2.5e-3);
    ck_assert_uint_eq(v.size, 65536);
    ck_assert_uint_eq(v.range.from, 65536);
    ck_assert_uint_eq(v.range.to, 64u << 20);
    ck_assert_uint_eq(v.range.factor, 2);
    ck_assert_str_eq(v.text, "a=b");
    ck_assert_str_eq(v.word, "bytes");
    ck_assert_uint_eq(v.list.n, 2);
    ck_assert_str_eq(v.list.item[1], "y");
    ck_assert_int_eq(v.operands, 2);
    ck_assert_str_eq(v.argv[0], "in");
    ck_assert_str_eq(v.argv[1], "-");
    ck_assert_str_eq(m, "");
}
END_TEST

START_TEST(double_dash_ends_options)
{
    values      v;
    const char *m;
    ck_assert_int_eq(parse(&v, "--flag -- --size --help", &m), CLI_RUN);
    ck_assert_int_eq(v.operands, 2);
    ck_assert_str_eq(v.argv[0], "--size");
}
END_TEST

/* Every bad line is a usage error whose message has the bad value and what is allowed. */
static const struct {
    const char *line, *says[3];
} bad[] = {
    {"in --whole 6", {"--whole=6", "-5..5", "taut test --help"}},
    {"in --whole 1x", {"--whole=1x", "whole number", NULL}},
    {"in --whole", {"--whole", "needs a value", "N"}},
    {"in --real nan", {"--real=nan", "a number", NULL}},
    {"in --real -1", {"--real=-1", "not negative", NULL}},
    {"in --size 0", {"--size=0", "1..1024G", NULL}},
    {"in --size 64KB", {"--size=64KB", "K, M or G", NULL}},
    {"in --size -1", {"--size=-1", NULL, NULL}},
    {"in --size 99999999999999999999", {"--size=9999", NULL, NULL}},
    {"in --size 17179869184G", {"--size=17179869184G", NULL, NULL}},
    {"in --range 64M:64K", {"--range=64M:64K", "FROM <= TO", "4..1G"}},
    {"in --range 1:4:1", {"FACTOR >= 2", NULL, NULL}},
    {"in --range 4:8:2:2", {"FROM:TO", NULL, NULL}},
    {"in --range 4:8:4611686018427387904", {"FROM:TO", NULL, NULL}}, /* 4 times that is 0 */
    {"in --range 4:", {"FROM:TO", NULL, NULL}},
    {"in --text=", {"--text", "needs a value", NULL}},
    {"in --word tim", {"--word=tim", "time|bytes", NULL}},
    {"in --flag=1", {"--flag takes no value", NULL, NULL}},
    {"in --sise 4", {"unknown option --sise", "did you mean --size?", NULL}},
    {"in --zzzzzz 4", {"unknown option --zzzzzz", NULL, NULL}},
    {"in -x", {"unknown option -x", NULL, NULL}},
    {"", {"missing operand", "IN OUT", NULL}},
    {"a b c", {"unexpected operand 'c'", "IN OUT", NULL}},
};

START_TEST(bad_lines_are_explained)
{
    values      v;
    const char *m;
    int         rc = parse(&v, bad[_i].line, &m);
    ck_assert_msg(rc == CLI_USAGE, "'%s' gave %d", bad[_i].line, rc);
    for (int k = 0; k < 3 && bad[_i].says[k]; k++)
        ck_assert_msg(strstr(m, bad[_i].says[k]) != NULL, "'%s': no '%s' in: %s", bad[_i].line, bad[_i].says[k], m);
}
END_TEST

START_TEST(only_the_speaker_prints)
{
    values      v;
    const char *m;
    cli_speak(false);
    ck_assert_int_eq(parse(&v, "in --whole 6", &m), CLI_USAGE);
    cli_speak(true);
    ck_assert_str_eq(m, "");
}
END_TEST

START_TEST(sizes)
{
    static const struct {
        const char *text;
        uint64_t    value;
    } good[] = {{"0", 0}, {"1", 1}, {"64k", 65536}, {"16M", 1u << 24}, {"1G", 1u << 30}, {"007", 7}};
    uint64_t v;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert(cli_size(good[i].text, &v));
        ck_assert_uint_eq(v, good[i].value);
    }
    ck_assert(!cli_size("", &v));
    ck_assert(!cli_size("K", &v));
    ck_assert(!cli_size("1T", &v));
    ck_assert(!cli_size("1.5M", &v));
    ck_assert(!cli_size(" 1", &v));
}
END_TEST

START_TEST(nearest_word)
{
    static const char *const words[] = {"encode", "decode", "bench codec", "info"};
    ck_assert_str_eq(cli_nearest("encod", words, 4), "encode");
    ck_assert_str_eq(cli_nearest("dcode", words, 4), "decode");
    ck_assert_str_eq(cli_nearest("bench codek", words, 4), "bench codec");
    ck_assert_str_eq(cli_nearest("inf", words, 4), "info");
    ck_assert_ptr_null(cli_nearest("frobnicate", words, 4));
    ck_assert_ptr_null(cli_nearest("", words, 4));
}
END_TEST

START_TEST(shapes)
{
    size_t shape[SHAPE_MAX];
    int    ndim;
    ck_assert_int_eq(shape_parse("1024x784", 1024 * 784, &ndim, shape), CLI_OK);
    ck_assert_int_eq(ndim, 2);
    ck_assert_uint_eq(shape[1], 784);
    capture();
    ck_assert_int_eq(shape_parse("3x4", 13, &ndim, shape), CLI_USAGE);
    ck_assert_int_eq(shape_parse("3x", 3, &ndim, shape), CLI_USAGE);
    ck_assert_int_eq(shape_parse("0x4", 0, &ndim, shape), CLI_USAGE);
    ck_assert_int_eq(shape_parse("-1x4", 0, &ndim, shape), CLI_USAGE);
    ck_assert_int_eq(shape_parse("3*4", 12, &ndim, shape), CLI_USAGE);
    ck_assert_int_eq(shape_parse("1x1x1x1x1x1x1x1x1", 1, &ndim, shape), CLI_USAGE);
    ck_assert_int_eq(shape_parse("9999999999x9999999999", 0, &ndim, shape), CLI_USAGE);
    ck_assert_ptr_nonnull(strstr(release(), "has 12 elements; the input has 13"));
    shape_square(16u << 20, shape);
    ck_assert_uint_eq(shape[0], 4096);
    shape_square(1, shape);
    ck_assert(shape[0] == 1 && shape[1] == 1);
    shape_square(13, shape);
    ck_assert(shape[0] == 1 && shape[1] == 13);
}
END_TEST

START_TEST(numbers)
{
    float  x[5] = {3, 4, 0, 0, 0}, y[5] = {3, 4, 0, 0, 5};
    double v[4] = {4, 1, 3, 2};
    ck_assert_double_eq(rel_err2(x, y, 5), 1.0);
    ck_assert_double_eq(rel_err2(x, x, 5), 0.0);
    ck_assert(isinf(rel_err2(x + 2, y + 2, 3)));
    x[2] = y[2] = INFINITY;
    x[3] = y[3] = NAN;
    ck_assert_double_eq(rel_err2(x, y, 5), 1.0);
    x[2] = 0;
    ck_assert(isinf(rel_err2(x, y, 5)));
    x[2] = x[3] = 0;
    ck_assert_double_eq(median(v, 4), 2.5);
    ck_assert_double_eq(median(v, 3), 2.0);
    floats_tile(y, 5, x, 2);
    ck_assert(y[0] == 3 && y[3] == 4 && y[4] == 3);
}
END_TEST

START_TEST(threads)
{
    static const struct {
        const char *text;
        int         threads;
    } of[] = {{"4", 4},
              {"4,2", 4},
              {" 3", 3},
              {"0", 0},
              {"", 0},
              {"many", 0},
              {"-1", 0},
              {"4 x", 0},
              {"3000000000", INT_MAX},
              {"99999999999999999999", INT_MAX}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        setenv("OMP_NUM_THREADS", of[i].text, 1);
        ck_assert_msg(cli_threads(7) == of[i].threads, "'%s': %d", of[i].text, cli_threads(7));
    }
    unsetenv("OMP_NUM_THREADS");
    ck_assert_int_eq(cli_threads(7), 7);
}
END_TEST

START_TEST(devices)
{
    static const struct {
        const char *local, *seen;
        int         n;
    } of[] = {{NULL, NULL, -1},    {"3", NULL, 3}, {"3", "0", 0},    {"3", "GPU-0a,GPU-0b", 1},
              {"1", "4,5,6,7", 1}, {"0", "", 0},   {"x", "0,1", -1}, {"-1", NULL, -1}};
    unsetenv("OMPI_COMM_WORLD_LOCAL_RANK"), unsetenv("MPI_LOCALRANKID");
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        unsetenv("SLURM_LOCALID"), unsetenv("CUDA_VISIBLE_DEVICES");
        if (of[i].local) setenv("SLURM_LOCALID", of[i].local, 1);
        if (of[i].seen) setenv("CUDA_VISIBLE_DEVICES", of[i].seen, 1);
        ck_assert_int_eq(cli_device(), of[i].n);
    }
}
END_TEST

/* A file that is opened later takes no stream's number. */
START_TEST(closed_streams)
{
    char  byte = 0;
    int   status;
    pid_t pid = fork();
    if (pid == 0) {
        for (int fd = 0; fd < 3; fd++) close(fd);
        cli_begin();
        bool refuse = write(1, &byte, 1) < 0 && write(2, &byte, 1) < 0 && read(0, &byte, 1) < 0;
        _exit(open("/dev/null", O_RDONLY) > 2 && refuse ? 7 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}
END_TEST

START_TEST(synthetic_data_is_the_same_in_any_length)
{
    enum { N = 5000 };
    float *a = floats_alloc(N), *b = floats_alloc(N), *c = floats_alloc(N);
    double norm = 0;
    floats_synthetic(a, N, 7, 0);
    floats_synthetic(b, 1234, 7, 0);
    floats_synthetic(c, N, 7, 1);
    ck_assert_mem_eq(a, b, 1234 * sizeof *a);
    ck_assert_mem_ne(a, c, N * sizeof *a);
    for (int i = 0; i < N; i++) {
        ck_assert(isfinite(a[i]));
        norm += (double)a[i] * (double)a[i];
    }
    ck_assert_double_gt(norm, 0);
    free(a);
    free(b);
    free(c);
}
END_TEST

START_TEST(what_is_written_is_in_no_list_that_is_read)
{
    static const struct {
        const char *list[2], *found;
    } cases[] = {{{"x.a,x.b", NULL}, "is x.b"},  {{NULL, "x.b"}, "is x.b"},  {{"x.c", "x.a,./x.b"}, "is ./x.b"},
                 {{"x.b,x", NULL}, "is x.b"},    {{"x.a,,x.c", "x.bb"}, ""}, {{NULL, NULL}, ""},
                 {{"x,y.b", "x.b,"}, "is x.b,"}, {{"x.a,x.c,x", "y"}, ""}};
    char dir[] = "/tmp/test_cli_XXXXXX", text[100];
    ck_assert(mkdtemp(dir) && chdir(dir) == 0);
    ck_assert(close(creat("x.b", 0600)) == 0 && link("x.b", "x.b,") == 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        capture();
        int rc = cli_apart_lists("--log", "x.b", 2, cases[i].list);
        snprintf(text, sizeof text, "%s", release());
        ck_assert_msg(rc == (*cases[i].found ? CLI_USAGE : CLI_OK) && strstr(text, cases[i].found), "%zu: %s", i, text);
    }
    ck_assert_int_eq(cli_apart_lists("--log", NULL, 2, cases[0].list), CLI_OK);
    ck_assert(unlink("x.b") == 0 && unlink("x.b,") == 0 && chdir("/") == 0 && rmdir(dir) == 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli");
    TCase *t = suite_case(suite, "cli", 0);
    tcase_add_test(t, every_kind_is_read);
    tcase_add_test(t, double_dash_ends_options);
    tcase_add_loop_test(t, bad_lines_are_explained, 0, sizeof bad / sizeof *bad);
    tcase_add_test(t, only_the_speaker_prints);
    tcase_add_test(t, sizes);
    tcase_add_test(t, nearest_word);
    tcase_add_test(t, shapes);
    tcase_add_test(t, numbers);
    tcase_add_test(t, threads);
    tcase_add_test(t, devices);
    tcase_add_test(t, closed_streams);
    tcase_add_test(t, what_is_written_is_in_no_list_that_is_read);
    tcase_add_test(t, synthetic_data_is_the_same_in_any_length);
    return suite_run(suite);
}
