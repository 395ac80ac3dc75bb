/* html.c : see html.h. */
#include "html.h"
#include <math.h>
#include <string.h>

void html_text(FILE *f, const char *s)
{
    for (; *s; s++) switch (*s) {
        case '&': fputs("&amp;", f); break;
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '"': fputs("&quot;", f); break;
        default: fputc(*s, f);
        }
}

void html_script(FILE *f, const char *s)
{
    fputc('"', f);
    for (; *s; s++)
        if (strchr("\"\\<>&", *s) || (unsigned char)*s < 0x20) fprintf(f, "\\u%04x", (unsigned)(unsigned char)*s);
        else fputc(*s, f);
    fputc('"', f);
}

/* ---- numbers ---- */

const char *text_real(double v, char dst[NUMBER_TEXT])
{
    double a = fabs(v);
    if (!isfinite(v)) snprintf(dst, NUMBER_TEXT, "–");
    else if (v == 0) snprintf(dst, NUMBER_TEXT, "0");
    else if (a >= 1e-3 && a < 1e5) snprintf(dst, NUMBER_TEXT, "%.4g", v);
    else snprintf(dst, NUMBER_TEXT, "%.2e", v);
    return dst;
}

/* 1234567 as 1,234,567 */
const char *text_count(double v, char dst[NUMBER_TEXT])
{
    char   digits[NUMBER_TEXT], *out = dst;
    size_t n;
    if (!isfinite(v)) return text_real(v, dst);
    if (fabs(v) >= 1e15) return text_real(v, dst);
    snprintf(digits, sizeof digits, v == floor(v) ? "%.0f" : "%.1f", v);
    n = strcspn(digits, ".");
    for (size_t i = 0; digits[i]; i++) {
        if (i > 0 && i < n && (n - i) % 3 == 0 && digits[i - 1] != '-') *out++ = ',';
        *out++ = digits[i];
    }
    *out = 0;
    return dst;
}

static const char *scaled(double v, double base, const char *const *unit, int units, char dst[NUMBER_TEXT])
{
    int k = 0;
    if (!isfinite(v)) return text_real(v, dst);
    while (fabs(v) >= base * 0.9995 && k < units - 1) v /= base, k++;
    snprintf(dst, NUMBER_TEXT, fabs(v) >= 999.5 ? "%.0f %s" : "%.3g %s", v, unit[k]);
    return dst;
}

const char *text_bytes(double v, char dst[NUMBER_TEXT])
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    return scaled(v, 1000, unit, 6, dst);
}

const char *text_bits(double bit_per_s, char dst[NUMBER_TEXT])
{
    static const char *const unit[] = {"bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"};
    return scaled(bit_per_s, 1000, unit, 5, dst);
}

const char *text_seconds(double s, char dst[NUMBER_TEXT])
{
    if (!isfinite(s)) return text_real(s, dst);
    if (s == 0) snprintf(dst, NUMBER_TEXT, "0");
    else if (s < 0.9995e-3) snprintf(dst, NUMBER_TEXT, "%.3g µs", 1e6 * s);
    else if (s < 0.9995) snprintf(dst, NUMBER_TEXT, "%.3g ms", 1e3 * s);
    else if (s < 120) snprintf(dst, NUMBER_TEXT, "%.3g s", s);
    else if (s < 7200) snprintf(dst, NUMBER_TEXT, "%.3g min", s / 60);
    else snprintf(dst, NUMBER_TEXT, "%.3g h", s / 3600);
    return dst;
}

const char *text_ms(double ms, char dst[NUMBER_TEXT]) { return text_seconds(ms / 1e3, dst); }

void json_number(FILE *f, double v)
{
    if (isfinite(v)) fprintf(f, "%.9g", v);
    else fputs("null", f);
}

void json_numbers(FILE *f, const char *key, const double *v, size_t n)
{
    fprintf(f, "\"%s\":[", key);
    for (size_t i = 0; i < n; i++) {
        if (i) fputc(',', f);
        if (isfinite(v[i])) fprintf(f, "%.6g", v[i]);
        else fputs("null", f);
    }
    fputs("],", f);
}

/* ---- plots ---- */

static void tick_texts(FILE *f, char dimension, const axis *a, text_of *text, const double *tick, size_t n)
{
    char number[NUMBER_TEXT];
    for (size_t i = 0; i < n; i++) {
        double at = 100 * axis_at(a, tick[i]);
        fprintf(f, "<span class='%c%s' style='%s:%.2f%%'>", dimension, dimension == 'x' && i % 2 ? " odd" : "",
                dimension == 'x' ? "left" : "top", dimension == 'x' ? at : 100 - at);
        html_text(f, text(tick[i], number));
        fputs("</span>", f);
    }
}

void plot_begin(FILE *f, const char *label, int height_px, const axis *x, text_of *x_text, const axis *y,
                text_of *y_text, size_t y_ticks)
{
    double tick[2][32];
    size_t nx = axis_ticks(x, 7, tick[0]), ny = axis_ticks(y, y_ticks, tick[1]);
    fprintf(f, "<div class='plot'><div class='area' style='height:%dpx'>", height_px);
    tick_texts(f, 'y', y, y_text, tick[1], ny);
    tick_texts(f, 'x', x, x_text, tick[0], nx);
    fputs("<svg viewBox='0 0 1000 1000' preserveAspectRatio='none' role='img' aria-label=\"", f);
    html_text(f, label);
    fputs("\"><path class='grid' d='", f);
    for (size_t i = 0; i < ny; i++) fprintf(f, "M0 %.1fH1000", 1000 - 1000 * axis_at(y, tick[1][i]));
    fputs("'/>", f);
}

void plot_end(FILE *f) { fputs("</svg><i class='cross'></i></div></div>", f); }

static void point(FILE *f, bool begin, double x, double y)
{
    fprintf(f, "%c%.1f %.1f", begin ? 'M' : 'L', 1000 * x, 1000 - 1000 * y);
}

void plot_line(FILE *f, const char *class, const double *x, const double *y, size_t n)
{
    bool open = false;
    fprintf(f, "<path class='line %s' d='", class);
    for (size_t i = 0; i < n; i++) {
        bool drawn = isfinite(x[i]) && isfinite(y[i]), next = i + 1 < n && isfinite(x[i + 1]) && isfinite(y[i + 1]);
        if (drawn) point(f, !open, x[i], y[i]);
        if (drawn && !open && !next) fputs("h0", f); /* alone: a dot, by the round cap of the line */
        open = drawn;
    }
    fputs("'/>", f);
}

void plot_band(FILE *f, const char *class, const double *x, const double *low, const double *high, size_t n)
{
    fprintf(f, "<path class='band %s' d='", class);
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && isfinite(x[end]) && isfinite(low[end]) && isfinite(high[end])) end++;
        for (size_t k = i; k < end; k++) point(f, k == i, x[k], high[k]);
        for (size_t k = end; k-- > i;) point(f, false, x[k], low[k]);
        if (end > i) fputc('Z', f);
        i = end > i ? end : i + 1;
    }
    fputs("'/>", f);
}

void plot_dot(FILE *f, const char *class, double x, double y, const char *title)
{
    if (!isfinite(x) || !isfinite(y)) return;
    fprintf(f, "<path class='dot %s' d='M%.1f %.1fh0'>", class, 1000 * x, 1000 - 1000 * y);
    if (title) {
        fputs("<title>", f);
        html_text(f, title);
        fputs("</title>", f);
    }
    fputs("</path>", f);
}
