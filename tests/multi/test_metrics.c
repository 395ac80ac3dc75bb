/* test_metrics.c : TAUT_METRICS: the file is whole at any time and says what taut_comm_get_stats() says; its names are those of docs/metrics.md;
 * communicators share it; what cannot be written is an error at the beginning and a line in the log later. */
#include "comm/taut.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { ELEMS = 64 * 64, STEPS = 6 };
static char folder[64], path[128];

static void fresh(void)
{
    snprintf(folder, sizeof folder, "/tmp/taut-metrics-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/m.prom", folder);
    setenv("TAUT_METRICS", path, 1);
    setenv("TAUT_METRICS_SECONDS", "0", 1);
    setenv("SLURM_JOB_ID", "4711\"x", 1);
}

static void clear(void)
{
    char line[200];
    snprintf(line, sizeof line, "rm -r %s", folder);
    ck_assert_int_eq(system(line), 0);
}

static char *read_file(const char *name)
{
    static char text[1 << 16];
    FILE       *f = fopen(name, "r");
    ck_assert_msg(f != NULL, "%s", name);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

/* Of the first sample with this name whose labels contain `label`. */
static double value(const char *text, const char *name, const char *label)
{
    for (const char *at = text; (at = strstr(at, name)) != NULL; at++) {
        const char *open = at + strlen(name), *close;
        if ((at != text && at[-1] != '\n') || *open != '{' || !(close = strchr(open, '}'))) continue;
        const char *found = strstr(open, label);
        if (found && found < close) return strtod(close + 1, NULL);
    }
    return NAN;
}

static void train(taut_comm *comm, const char *codec, taut_comm_stats *last)
{
    static float x[ELEMS];
    taut_layer  *layer;
    ck_assert_int_eq(taut_layer_register(comm, "w", TAUT_F32, 2, (size_t[]){64, 64}, &layer), TAUT_OK);
    if (codec) ck_assert_int_eq(taut_layer_codec(layer, codec), TAUT_OK);
    for (int s = 0; s < STEPS; s++) {
        for (int i = 0; i < ELEMS; i++) x[i] = sinf((float)(i * 7 + s));
        ck_assert_int_eq(taut_allreduce_start(layer, x, TAUT_MEAN), TAUT_OK);
        ck_assert_int_eq(taut_step_end(comm), TAUT_OK);
    }
    last->size = sizeof *last;
    ck_assert_int_eq(taut_comm_get_stats(comm, last), TAUT_OK);
}

static taut_comm *one(void)
{
    taut_comm  *comm;
    taut_config c = TAUT_CONFIG_INIT;
    ck_assert_int_eq(taut_comm_create_threads(1, &c, &comm), TAUT_OK);
    return comm;
}

START_TEST(says_what_statistics_say)
{
    taut_comm_stats s;
    fresh();
    taut_comm *comm = one();
    ck_assert_double_eq(value(read_file(path), "taut_running", "rank=\"0\""), 1); /* before any step */
    train(comm, "quant:bits=4", &s);
    char *text = read_file(path);
    ck_assert_double_eq(value(text, "taut_steps_total", "run=\"4711_x\""), STEPS);
    ck_assert_double_eq(value(text, "taut_layers", "comm=\"0\""), 1);
    ck_assert_double_eq(value(text, "taut_sent_bytes_total", ""), (double)s.bytes_sent);
    ck_assert_double_eq(value(text, "taut_uncompressed_bytes_total", ""), (double)s.bytes_dense);
    ck_assert_double_eq(value(text, "taut_relative_squared_error", ""), s.rel_err2_metric);
    ck_assert_double_eq(value(text, "taut_relative_squared_error_high", ""), s.rel_err2_metric_high);
    ck_assert_double_eq(value(text, "taut_budget_violations_total", ""), 0);
    ck_assert_double_eq(value(text, "taut_codec_elements", "codec=\"quant\""), ELEMS);
    ck_assert_double_eq(value(text, "taut_codec_seconds_total", ""), s.codec_s);
    ck_assert_double_eq_tol(value(text, "taut_last_step_timestamp_seconds", ""), (double)time(NULL), 60);
    taut_comm_destroy(comm);
    text = read_file(path);
    ck_assert_double_eq(value(text, "taut_running", ""), 0);
    ck_assert_double_eq(value(text, "taut_steps_total", ""), STEPS);
    clear();
}
END_TEST

/* Each sample follows the HELP and TYPE of its metric, once, and docs/metrics.md has it with its type. */
START_TEST(names_are_documented)
{
    static char     docs[1 << 15], file[1 << 16];
    char            name[80], type[20], row[140], *line, *save;
    taut_comm_stats s;
    size_t          metrics = 0, samples = 0;
    fresh();
    taut_comm *comm = one();
    train(comm, NULL, &s);
    strcpy(docs, read_file("docs/metrics.md"));
    strcpy(file, read_file(path));
    *name = 0;
    for (line = strtok_r(file, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            ck_assert_int_eq(sscanf(line + 7, "%79s", name), 1);
            ck_assert_ptr_nonnull(strchr(line, '.')); /* help is a sentence */
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            char again[80];
            ck_assert_int_eq(sscanf(line + 7, "%79s %19s", again, type), 2);
            ck_assert_str_eq(again, name);
            snprintf(row, sizeof row, "| `%s` | %s | ", name, type);
            ck_assert_msg(strstr(docs, row) != NULL, "docs/metrics.md has no row %s", row);
            ck_assert_int_eq(strcmp(type, "counter") == 0, strstr(name, "_total") != NULL);
            metrics++;
        } else {
            ck_assert_msg(strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == '{', "%s under %s", line,
                          name);
            samples++;
        }
    }
    size_t rows = 0;
    for (const char *at = docs; (at = strstr(at, "\n| `taut_")) != NULL; at++) rows++;
    ck_assert_uint_eq(rows, metrics);
    ck_assert_uint_ge(samples, metrics);
    taut_comm_destroy(comm);
    clear();
}
END_TEST

START_TEST(communicators_share_a_file)
{
    taut_comm_stats s;
    fresh();
    taut_comm *a = one(), *b = one();
    train(b, "none", &s);
    char *text = read_file(path);
    ck_assert_double_eq(value(text, "taut_steps_total", "comm=\"0\""), 0);
    ck_assert_double_eq(value(text, "taut_steps_total", "comm=\"1\""), STEPS);
    ck_assert_ptr_eq(strstr(strstr(text, "# TYPE taut_steps_total") + 10, "# TYPE taut_steps_total"), NULL);
    taut_comm_destroy(a);
    taut_comm_destroy(b);
    clear();
}
END_TEST

/* One name: rank 0 writes. %r: every rank. */
START_TEST(ranks)
{
    taut_comm  *comm[3];
    taut_config c = TAUT_CONFIG_INIT;
    struct stat st;
    char        name[160];
    fresh();
    if (_i) {
        snprintf(path, sizeof path, "%s/m-%%r.prom", folder);
        setenv("TAUT_METRICS", path, 1);
    }
    ck_assert_int_eq(taut_comm_create_threads(3, &c, comm), TAUT_OK);
    for (int r = 0; r < 3; r++) {
        snprintf(name, sizeof name, _i ? "%s/m-%d.prom" : "%s/m.prom", folder, r);
        ck_assert_int_eq(stat(name, &st), 0);
        char label[20];
        snprintf(label, sizeof label, "rank=\"%d\"", _i ? r : 0);
        ck_assert_double_eq(value(read_file(name), "taut_running", label), 1);
    }
    if (!_i) ck_assert(isnan(value(read_file(path), "taut_running", "rank=\"1\"")));
    for (int r = 0; r < 3; r++) taut_comm_destroy(comm[r]);
    clear();
}
END_TEST

START_TEST(what_cannot_be_written)
{
    taut_comm_stats s;
    taut_comm      *comm;
    taut_config     c = TAUT_CONFIG_INIT;
    fresh();
    setenv("TAUT_METRICS", "/nowhere/at/all.prom", 1);
    ck_assert_int_eq(taut_comm_create_threads(1, &c, &comm), TAUT_E_IO);
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "TAUT_METRICS=/nowhere/at/all.prom"));
    setenv("TAUT_METRICS", path, 1);
    ck_assert_int_eq(mkfifo(path, 0600), 0); /* or a device, whose place a rename would take */
    ck_assert_int_eq(taut_comm_create_threads(1, &c, &comm), TAUT_E_IO);
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "not a regular file"));
    unlink(path);
    comm = one();
    clear(); /* the folder is gone while the job runs */
    train(comm, "fp16", &s);
    taut_comm_destroy(comm);
    setenv("TAUT_METRICS_SECONDS", "-1", 1);
    ck_assert_int_eq(taut_comm_create_threads(1, &c, &comm), TAUT_E_RANGE);
}
END_TEST

/* Not more often than asked: with an hour between, steps write nothing; the end does. */
START_TEST(now_and_then)
{
    taut_comm_stats s;
    fresh();
    setenv("TAUT_METRICS_SECONDS", "3600", 1);
    taut_comm *comm = one();
    train(comm, "none", &s);
    ck_assert_double_eq(value(read_file(path), "taut_steps_total", ""), 0);
    taut_comm_destroy(comm);
    ck_assert_double_eq(value(read_file(path), "taut_steps_total", ""), STEPS);
    clear();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics");
    TCase *t = suite_case(suite, "metrics", 60);
    setenv("TAUT_LOG", "error", 1);
    tcase_add_test(t, says_what_statistics_say);
    tcase_add_test(t, names_are_documented);
    tcase_add_test(t, communicators_share_a_file);
    tcase_add_loop_test(t, ranks, 0, 2);
    tcase_add_test(t, what_cannot_be_written);
    tcase_add_test(t, now_and_then);
    return suite_run(suite);
}
