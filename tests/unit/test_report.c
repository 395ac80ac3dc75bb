/* test_report.c : logs of runs, what the page of `taut report` and the screen of `taut top` make of them: figures are the log's, a picture of
 * many steps hides none, texts of the log stay texts. */
#include "launch/cli.h"
#include "launch/report/report.h"
#include "launch/top/frame.h"
#include "../support/suite.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static void line(run_log *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void line(run_log *r, const char *fmt, ...)
{
    char    text[4096];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    ck_assert_msg(run_log_line(r, text, (size_t)n), "%s: %s", r->error, text);
}

static void head(run_log *r, int steps)
{
    line(r,
         "{\"kind\":\"run\",\"model\":\"gpt\",\"params\":1234567,\"data\":\"d\",\"ranks\":2,\"steps\":%d,\"codec\":"
         "\"auto\",\"budget\":\"rel=0.05\",\"optimizer\":\"adam\"}",
         steps);
}

static void step(run_log *r, int k, double loss, double error, int violations)
{
    line(r,
         "{\"kind\":\"step\",\"step\":%d,\"loss\":%.9g,\"step_ms\":10,\"data_ms\":1,\"forward_ms\":2,\"backward_ms\":3,"
         "\"wait_ms\":2.5,\"optimizer_ms\":1,\"scale_ms\":0.5,"
         "\"comm_ms\":4,\"codec_ms\":1.5,\"bytes_sent\":%d,\"bytes_dense\":%d,\"rel_err2_metric\":%.9g,\"rel_err2_"
         "metric_low\":%.9g,\"rel_err2_metric_high\":%.9g,"
         "\"measured\":1,\"budget\":%g,\"budget_violations\":%d}",
         k, loss, 1000 * k, 8000 * k, error, 0.9 * error, 1.1 * error, k > 2 ? 0.05 : 0.0, violations);
}

static void layers(run_log *r, int k, double bits)
{
    line(r,
         "{\"kind\":\"layers\",\"step\":%d,\"layers\":[{\"name\":\"fc1\",\"elements\":4096,\"codec\":\"grid:rel=0.1\","
         "\"bits_per_element\":%g,\"rel_err2\":0.01},"
         "{\"name\":\"</script><fuzz "
         "a='\\\"&\",\"elements\":64,\"codec\":\"none\",\"bits_per_element\":0,\"rel_err2\":0}]}",
         k, bits);
}

static char *page_of(report *p)
{
    char  *text = NULL;
    size_t n;
    FILE  *f = open_memstream(&text, &n);
    p->title = "a <title> & more";
    ck_assert_int_eq(report_write(f, p), CLI_OK);
    ck_assert_int_eq(fclose(f), 0);
    return text;
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (; (text = strstr(text, what)) != NULL; text += strlen(what)) n++;
    return n;
}

START_TEST(columns)
{
    run_log r = {0};
    head(&r, 10);
    for (int k = 1; k <= 6; k++) step(&r, k, 5.0 / k, 0.01 * k, k >= 5);
    ck_assert_uint_eq(r.steps, 6);
    ck_assert_double_eq(r.column[RUN_LOSS][3], 1.25);
    ck_assert_double_eq(r.column[RUN_STEP_SENT][3], 1000);
    ck_assert_double_eq(r.column[RUN_SENT][3], 4000);
    ck_assert_double_eq_tol(r.column[RUN_TIME_S][3], 0.04, 1e-12);
    ck_assert(isnan(r.column[RUN_BUDGET][1]) && r.column[RUN_BUDGET][2] == 0.05);
    ck_assert(r.column[RUN_VIOLATIONS][3] == 0 && r.column[RUN_VIOLATIONS][4] == 1 && r.column[RUN_VIOLATIONS][5] == 0);
    ck_assert_double_eq(run_mean(&r, RUN_CODEC_MS, 0), 1.5);
    run_log_free(&r);
}
END_TEST

/* Resumed from the checkpoint of step 4: steps 5 and 6 are done again, bytes are counted anew, violations from where they were then. */
START_TEST(resumed)
{
    run_log r = {0};
    head(&r, 10);
    for (int k = 1; k <= 6; k++) step(&r, k, 5, 0.01, k < 3 ? 0 : k < 5 ? 1 : k - 3);
    layers(&r, 3, 2), layers(&r, 6, 2);
    line(&r, "{\"kind\":\"end\",\"steps\":6}");
    ck_assert_ptr_nonnull(r.end);
    head(&r, 10);
    ck_assert_ptr_null(r.end); /* it goes on */
    for (int k = 5; k <= 8; k++) {
        line(&r,
             "{\"kind\":\"step\",\"step\":%d,\"loss\":3,\"step_ms\":10,\"bytes_sent\":%d,\"bytes_dense\":%d,\"budget_"
             "violations\":%d}",
             k, 1000 * (k - 4), 8000 * (k - 4), k < 7 ? 1 : 2);
    }
    ck_assert_uint_eq(r.steps, 8);
    ck_assert_uint_eq(r.repeated, 2);
    ck_assert_uint_eq(r.resumes, 1);
    ck_assert_uint_eq(r.looks, 1);
    ck_assert_double_eq(r.column[RUN_SENT][7], 8000);
    for (size_t i = 0; i < r.steps; i++) {
        ck_assert_double_eq(r.column[RUN_STEP][i], (double)i + 1);
        ck_assert_double_eq(r.column[RUN_VIOLATIONS][i], i == 2 || i == 6);
    }
    run_log_free(&r);
}
END_TEST

START_TEST(what_is_no_log)
{
    static const char *const bad[] = {"x", "[1]", "{\"kind\":\"step\",\"step\":1}", "{\"a\":1}", "{\"kind\":\"run\""};
    run_log                  r = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert(!run_log_line(&r, bad[i], strlen(bad[i])));
        ck_assert(*r.error);
    }
    head(&r, 3);
    ck_assert(!run_log_line(&r, "{\"kind\":\"step\",\"loss\":1}", 24));
    ck_assert(run_log_line(&r, "{\"kind\":\"weather\"}", 18)); /* of a later version */
    ck_assert(run_log_line(&r, "", 0));
    ck_assert_uint_eq(r.steps, 0);
    run_log_free(&r);
}
END_TEST

/* Every step is in one bin; mean, least and largest are those of the steps. */
START_TEST(bins_hide_nothing)
{
    static const int sizes[] = {1, 2, REPORT_BINS - 1, REPORT_BINS, REPORT_BINS + 1, 3 * REPORT_BINS, 7001};
    run_log          r = {0};
    bins             b;
    int              n = sizes[_i];
    head(&r, n);
    for (int k = 1; k <= n; k++) step(&r, k, k % 97 == 5 ? 100 : sin(k), 0.01, 0);
    ck_assert_int_eq(bins_make(&r, RUN_STEP, RUN_LOSS, &b), CLI_OK);
    ck_assert_uint_le(b.n, REPORT_BINS);
    size_t at = 0;
    double all = 0;
    for (size_t k = 0; k < b.n; k++) {
        double sum = 0, low = INFINITY, high = -INFINITY, steps = 0;
        ck_assert_double_eq(b.from[k], (double)at + 1);
        for (size_t i = 0; i < b.each && at < r.steps; i++, at++, steps++) {
            double v = r.column[RUN_LOSS][at];
            sum += v, low = fmin(low, v), high = fmax(high, v);
        }
        ck_assert_double_eq(b.to[k], (double)at);
        ck_assert_double_eq_tol(b.mean[k], sum / steps, 1e-12);
        ck_assert(b.low[k] == low && b.high[k] == high);
        all += steps;
    }
    ck_assert_double_eq(all, n);
    bins_free(&b);
    run_log_free(&r);
}
END_TEST

START_TEST(axes)
{
    static const double range[][2] = {{0, 1},      {-3, 5}, {1e-9, 2e-9},   {1, 1},       {0, 0},
                                      {1e-4, 1e6}, {2, 3},  {1e6, 1e6 + 5}, {-1e30, 1e30}};
    for (int log = 0; log < 2; log++)
        for (size_t i = 0; i < sizeof range / sizeof *range; i++)
            for (size_t most = 2; most < 9; most++) {
                axis   a = {.lo = NAN, .hi = NAN, .log = log, .seconds = i % 2};
                double tick[32];
                axis_grow(&a, range[i][0]), axis_grow(&a, range[i][1]), axis_grow(&a, NAN), axis_grow(&a, INFINITY);
                axis_round(&a);
                ck_assert(a.lo < a.hi && isfinite(a.lo) && isfinite(a.hi));
                size_t n = axis_ticks(&a, most, tick);
                ck_assert_msg(n >= 1 && n <= 2 * most, "%zu ticks of %zu in %g..%g", n, most, a.lo, a.hi);
                for (size_t k = 0; k < n; k++) {
                    ck_assert(tick[k] >= a.lo - 1e-9 * fabs(a.lo) && tick[k] <= a.hi + 1e-9 * fabs(a.hi));
                    ck_assert(k == 0 || axis_at(&a, tick[k]) > axis_at(&a, tick[k - 1]));
                }
            }
}
END_TEST

/* Whether the shades of a page are drawn whole: no corner lies on the edge of its plot. */
static bool shades_are_whole(const char *text)
{
    size_t shades = 0;
    while ((text = strstr(text, "<path class='band ")) != NULL) {
        const char *end = strchr(text = strstr(text, " d='") + 4, '\''), *edge = strstr(text, " 1000.0"),
                   *top = strstr(text, " 0.0");
        if ((edge && edge < end) || (top && top < end)) return false;
        shades++;
    }
    return shades > 0;
}

START_TEST(page)
{
    report *p = calloc(1, sizeof *p);
    p->runs = 2;
    for (int i = 0; i < 2; i++) {
        run_log *r = &p->run[i];
        snprintf(r->name, sizeof r->name, "<run> %d", i);
        head(r, 20);
        for (int k = 1; k <= 20; k++) step(r, k, 5.0 / k, k == 9 ? 0.07 : 0.04, k >= 9);
        layers(r, 10, 3.25), layers(r, 20, 1.75);
        line(r, "{\"kind\":\"eval\",\"step\":20,\"loss_val\":0.3125,\"accuracy_val\":0.5}");
    }
    line(&p->run[0], "{\"kind\":\"end\",\"ranks\":2,\"steps\":20,\"loss_val\":0.312500009,\"ratio\":7.98765432,\"bytes_"
                     "sent\":40000,\"budget_violations\":1,\"plans\":3,"
                     "\"layers\":[{\"name\":\"fc1\",\"elements\":4096,\"codec\":\"grid\",\"bits_per_element\":2.5,"
                     "\"rel_err2\":0.01,\"bytes_sent\":12345}]}");
    char *text = page_of(p);
    ck_assert(strstr(text, "data-key='loss_val' data-value='0.312500009'"));
    ck_assert(strstr(
        text, "data-key='loss_val' data-value='0.3125'")); /* of the run that has not ended: its last evaluation */
    ck_assert(strstr(text, "data-key='ratio' data-value='7.98765432'"));
    ck_assert(strstr(text, "data-key='bytes_sent' data-value='40000' title='40000'>40 kB<"));
    ck_assert(strstr(text, "data-over='1' data-of='18'>1 of 18 steps with a budget was over it</span>: step 9. "));
    ck_assert(strstr(text, "data-key='communication' data-value='4'"));
    ck_assert(strstr(text, "data-key='backward' data-value='3'"));
    ck_assert(strstr(text, "class='even' data-value='37333333.3'>37.3 Mbit/s")); /* 8 * 7000 bytes in 1.5 ms */
    ck_assert(strstr(text, "step 9: 0.07, allowed 0.05"));
    ck_assert(shades_are_whole(strstr(text, "id='error-0'")));
    ck_assert(strstr(text, "validation loss 0.3125 after step 20"));
    ck_assert(!strstr(text, "<run>") && !strstr(text, "<fuzz") && !strstr(text, "<title> &"));
    ck_assert(strstr(text, "a &lt;title&gt; &amp; more"));
    ck_assert_uint_eq(count(text, "<script"), count(text, "</script>"));
    ck_assert_uint_eq(count(text, "<figure"), count(text, "</figure>"));
    ck_assert(!strstr(text, "http://") && !strstr(text, "https://") && !strstr(text, "url(") && !strstr(text, "src=") &&
              !strstr(text, "nan") && !strstr(text, "inf"));
    free(text);
    for (int i = 0; i < 2; i++) run_log_free(&p->run[i]);
    free(p);
}
END_TEST

/* A log of an earlier version, one that has just begun, one without codecs: a page all the same. */
START_TEST(little_to_show)
{
    report *p = calloc(1, sizeof *p);
    p->runs = 1;
    head(&p->run[0], 5);
    if (_i > 0) line(&p->run[0], "{\"kind\":\"step\",\"step\":1,\"loss\":null}");
    if (_i > 1)
        line(&p->run[0], "{\"kind\":\"step\",\"step\":2,\"loss\":2,\"step_ms\":10,\"bytes_sent\":8000,\"bytes_dense\":"
                         "8000,\"rel_err2_metric\":0}");
    if (_i > 2) line(&p->run[0], "{\"kind\":\"layers\",\"step\":2,\"layers\":[]}");
    if (_i > 3)
        line(&p->run[0], "{\"kind\":\"step\",\"step\":1e300,\"loss\":1e300,\"step_ms\":-1e300,\"bytes_sent\":1e300,"
                         "\"budget\":1e-300,\"budget_violations\":7}");
    char *text = page_of(p);
    ck_assert(strstr(text, "</html>"));
    ck_assert_uint_eq(count(text, "<figure"), count(text, "</figure>"));
    free(text);
    text = frame_text(&p->run[0], &(frame_look){.width = 80, .height = 24, .quiet_s = NAN});
    ck_assert_msg(!strstr(text, "nan"), "%s", text);
    free(text);
    run_log_free(&p->run[0]);
    free(p);
}
END_TEST

/* No line is wider or higher than the screen, whatever its size; nothing of the log moves the cursor. */
START_TEST(screens)
{
    run_log r = {0};
    snprintf(r.name, sizeof r.name, "a\033[2J\302\2332Krun\n.jsonl");
    head(&r, 50);
    for (int k = 1; k <= 30; k++) step(&r, k, 5.0 / k, 0.04, k >= 9);
    layers(&r, 30, 2);
    for (int w = FRAME_WIDTH_MIN; w <= 160; w += 7)
        for (int h = 1; h <= 40; h += 3) {
            frame_look look = {.width = w, .height = h, .blocks = w % 2, .quiet_s = 60};
            char      *text = frame_text(&r, &look), *at = text;
            int        rows = 0;
            while (*at) {
                size_t n = strcspn(at, "\n"), wide = 0;
                for (size_t i = 0; i < n; i++) wide += ((unsigned char)at[i] & 0xc0) != 0x80;
                ck_assert_uint_le(wide, (size_t)w);
                at += n + (at[n] == '\n');
                rows++;
            }
            ck_assert_int_le(rows, h);
            ck_assert(!strchr(text, '\033') && !strstr(text, "\302\233"));
            if (w > 100 && h > 20)
                ck_assert(strstr(text, "step 30/50") && strstr(text, "1 of 28 steps over the budget") &&
                          strstr(text, "fc1") && strstr(text, "8x fewer"));
            free(text);
        }
    run_log_free(&r);
}
END_TEST

START_TEST(numbers_for_people)
{
    char t[NUMBER_TEXT];
    ck_assert_str_eq(text_bytes(999, t), "999 B");
    ck_assert_str_eq(text_bytes(999999, t), "1 MB");
    ck_assert_str_eq(text_bytes(83707043, t), "83.7 MB");
    ck_assert_str_eq(text_count(1234567, t), "1,234,567");
    ck_assert_str_eq(text_count(-123, t), "-123");
    ck_assert_str_eq(text_count(999, t), "999");
    ck_assert_str_eq(text_seconds(0.0005, t), "500 µs");
    ck_assert_str_eq(text_seconds(90, t), "90 s");
    ck_assert_str_eq(text_bits(2.5e9, t), "2.5 Gbit/s");
    ck_assert_str_eq(text_real(0.0439262979, t), "0.04393");
    ck_assert_str_eq(text_real(NAN, t), "–");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("report");
    TCase *t = suite_case(suite, "report", 60);
    tcase_add_test(t, columns);
    tcase_add_test(t, resumed);
    tcase_add_test(t, what_is_no_log);
    tcase_add_loop_test(t, bins_hide_nothing, 0, 7);
    tcase_add_test(t, axes);
    tcase_add_test(t, page);
    tcase_add_loop_test(t, little_to_show, 0, 5);
    tcase_add_test(t, screens);
    tcase_add_test(t, numbers_for_people);
    return suite_run(suite);
}
