/* html.h : pieces of the page. Texts of logs (file names, layers, codecs) are data: they are escaped wherever they are printed. */
#ifndef TAUT_REPORT_HTML_H
#define TAUT_REPORT_HTML_H

#include "bins.h"
#include <stdio.h>

void html_text(FILE *f, const char *s);   /* as text of HTML or of a quoted attribute */
void html_script(FILE *f, const char *s); /* as a quoted string of JSON within <script> */

/* A number as people read it: "12.3 MB", "1,234", "2.416", "3.1e-05". Returns dst. */
enum { NUMBER_TEXT = 40 };
const char         *text_bytes(double v, char dst[NUMBER_TEXT]);
const char         *text_count(double v, char dst[NUMBER_TEXT]);
const char         *text_real(double v, char dst[NUMBER_TEXT]); /* four significant digits */
const char         *text_seconds(double s, char dst[NUMBER_TEXT]);
const char         *text_ms(double ms, char dst[NUMBER_TEXT]);
const char         *text_bits(double bit_per_s, char dst[NUMBER_TEXT]); /* "2.5 Gbit/s" */
typedef const char *text_of(double v, char dst[NUMBER_TEXT]);

/* A number for machines: nine digits as in the log; null where it is not finite. */
void json_number(FILE *f, double v);
void json_numbers(FILE *f, const char *key, const double *v, size_t n); /* "key":[...], */

/* The plot of a figure: drawn in a box of 1000 x 1000 that is stretched to whatever room there is; lines keep their width, and
 * labels are text beside it, so that a phone shows the same with larger letters. */
void plot_begin(FILE *f, const char *label, int height_px, const axis *x, text_of *x_text, const axis *y,
                text_of *y_text, size_t y_ticks);
void plot_end(FILE *f); /* of the drawing; the figure is still open */

/* Path of points (x, y) in 0..1; a NaN breaks it. class: of CSS. */
void plot_line(FILE *f, const char *class, const double *x, const double *y, size_t n);
void plot_band(FILE *f, const char *class, const double *x, const double *low, const double *high, size_t n);
void plot_dot(FILE *f, const char *class, double x, double y, const char *title);

#endif
