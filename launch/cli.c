/* cli.c : see cli.h. */
#include "cli.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *program = "taut"; /* in front of messages */
static bool        speaking = true;
static bool        line_shown; /* a progress line, in the way of messages */

void cli_speak(bool on) { speaking = on; }

double cli_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- messages ---- */

static void say(const char *fmt, va_list args, const char *tail)
{
    char text[1024];
    if (!speaking) return;
    vsnprintf(text, sizeof text, fmt, args);
    fflush(stdout);
    if (line_shown) fputs("\r\033[K", stderr);
    line_shown = false;
    fprintf(stderr, "%s: %s%s\n", program, text, tail);
}

int(cli_fail)(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(fmt, args, "");
    va_end(args);
    return CLI_FAILED;
}

int(cli_usage)(const char *fmt, ...)
{
    char    tail[128];
    va_list args;
    va_start(args, fmt);
    snprintf(tail, sizeof tail, "\n(%s --help tells more)", program);
    say(fmt, args, tail);
    va_end(args);
    return CLI_USAGE;
}

static void say_status(taut_status s, const char *fmt, va_list args)
{
    char        tail[1024];
    const char *why = taut_last_error();
    snprintf(tail, sizeof tail, ": %s (%s)", *why ? why : taut_status_text(s), taut_status_name(s));
    say(fmt, args, tail);
}

int(cli_status)(taut_status s, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say_status(s, fmt, args);
    va_end(args);
    return CLI_FAILED;
}

int(cli_bad)(taut_status s, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say_status(s, fmt, args);
    va_end(args);
    return CLI_USAGE;
}

/* ---- the nearest word ---- */

enum { WORD_MAX = 48 };

/* Levenshtein distance in one row. */
static int distance(const char *a, const char *b)
{
    int    row[WORD_MAX + 1];
    size_t n = strlen(b);
    if (n > WORD_MAX) return WORD_MAX;
    for (size_t j = 0; j <= n; j++) row[j] = (int)j;
    for (size_t i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = (int)i + 1;
        for (size_t j = 0; j < n; j++) {
            int best = diagonal + (a[i] != b[j]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j + 1] + 1 < best) best = row[j + 1] + 1;
            diagonal = row[j + 1];
            row[j + 1] = best;
        }
    }
    return row[n];
}

const char *cli_nearest(const char *text, const char *const *words, size_t n)
{
    const char *found = NULL;
    int         best = 1 + (int)strlen(text) / 3; /* farther than a third of the word is a guess, not a typo */
    for (size_t i = 0; i < n; i++) {
        int d = distance(text, words[i]);
        if (strlen(text) >= 3 && strncmp(text, words[i], strlen(text)) == 0) d = 0; /* the beginning of it */
        if (d <= best && (!found || d < best)) {
            best = d;
            found = words[i];
        }
    }
    return found;
}

/* ---- values ---- */

bool cli_size(const char *text, uint64_t *value)
{
    char              *end;
    unsigned           shift = 0;
    unsigned long long v;
    if (!isdigit((unsigned char)*text)) return false;
    errno = 0;
    v = strtoull(text, &end, 10);
    if (errno) return false;
    if (*end) {
        switch (toupper((unsigned char)*end)) {
        case 'K': shift = 10; break;
        case 'M': shift = 20; break;
        case 'G': shift = 30; break;
        default: return false;
        }
        if (end[1] || v > (UINT64_MAX >> shift)) return false;
    }
    *value = (uint64_t)v << shift;
    return true;
}

static bool inside(const cli_option *o, double v)
{
    if (o->min == 0 && o->max == 0) return v >= 0;
    return v >= o->min && v <= o->max;
}

/* "64M" where that is exact and short, else digits. */
static void print_size(char *dst, size_t cap, uint64_t v)
{
    static const char unit[] = {0, 'K', 'M', 'G'};
    uint64_t          units = v;
    int               k = 0;
    while (k < 3 && units && units % 1024 == 0) units /= 1024, k++;
    if (k && units < 10000000) snprintf(dst, cap, "%llu%c", (unsigned long long)units, unit[k]);
    else snprintf(dst, cap, "%llu", (unsigned long long)v);
}

static void print_bounds(const cli_option *o, char *dst, size_t cap)
{
    char lo[32], hi[32];
    if (o->min == 0 && o->max == 0) {
        snprintf(dst, cap, "not negative");
    } else if (o->kind == CLI_SIZE || o->kind == CLI_RANGE) {
        print_size(lo, sizeof lo, (uint64_t)o->min);
        print_size(hi, sizeof hi, (uint64_t)o->max);
        snprintf(dst, cap, "%s..%s", lo, hi);
    } else {
        snprintf(dst, cap, "%.10g..%.10g", o->min, o->max);
    }
}

static int bad_value(const cli_option *o, const char *text, const char *what)
{
    char bounds[80];
    print_bounds(o, bounds, sizeof bounds);
    return cli_usage("--%s=%s: must be %s, %s", o->name, text, what, bounds);
}

static int take_range(const cli_option *o, const char *text)
{
    cli_range *r = o->value, v = {0, 0, r->factor};
    char       copy[96], *part[3] = {copy, NULL, NULL};
    int        n = 1;
    bool       ok = strlen(text) < sizeof copy;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *c = copy; *c && ok; c++)
        if (*c == ':') {
            *c = 0;
            ok = n < 3;
            if (ok) part[n++] = c + 1;
        }
    ok = ok && cli_size(part[0], &v.from) && cli_size(n > 1 ? part[1] : part[0], &v.to) &&
         (n < 3 || cli_size(part[2], &v.factor));
    if (!ok || v.from > v.to || v.factor < 2 || v.factor > UINT32_MAX || !inside(o, (double)v.from) ||
        !inside(o, (double)v.to))
        return bad_value(o, text, "FROM:TO[:FACTOR] with FROM <= TO and FACTOR >= 2, as in 64K:64M");
    *r = v;
    return CLI_RUN;
}

static int take_word(const cli_option *o, const char *text)
{
    size_t      len = strlen(text);
    const char *w = o->words;
    while (*w) {
        size_t n = strcspn(w, "|");
        if (n == len && strncmp(w, text, n) == 0) {
            *(const char **)o->value = text;
            return CLI_RUN;
        }
        w += n + (w[n] == '|');
    }
    return cli_usage("--%s=%s: must be one of %s", o->name, text, o->words);
}

static int take_list(const cli_option *o, const char *text)
{
    cli_list *l = o->value;
    if (l->n == CLI_LIST_MAX) return cli_usage("--%s: given more than %d times", o->name, CLI_LIST_MAX);
    l->item[l->n++] = text;
    return CLI_RUN;
}

static int take_number(const cli_option *o, const char *text)
{
    char    *end;
    uint64_t size;
    errno = 0;
    if (o->kind == CLI_REAL) {
        double v = strtod(text, &end);
        if (end == text || *end || !isfinite(v) || !inside(o, v)) return bad_value(o, text, "a number");
        *(double *)o->value = v;
    } else if (o->kind == CLI_INT) {
        long long v = strtoll(text, &end, 10);
        if (end == text || *end || errno || !inside(o, (double)v)) return bad_value(o, text, "a whole number");
        *(int64_t *)o->value = v;
    } else {
        if (!cli_size(text, &size) || !inside(o, (double)size))
            return bad_value(o, text, "a whole number, K, M or G allowed");
        *(uint64_t *)o->value = size;
    }
    return CLI_RUN;
}

static int take(const cli_option *o, const char *text)
{
    if (!*text) return cli_usage("--%s: needs a value (%s)", o->name, o->metavar);
    switch (o->kind) {
    case CLI_RANGE: return take_range(o, text);
    case CLI_WORD: return take_word(o, text);
    case CLI_LIST: return take_list(o, text);
    case CLI_TEXT: *(const char **)o->value = text; return CLI_RUN;
    default: return take_number(o, text);
    }
}

/* ---- help ---- */

/* The default as text; "" where there is none. */
static void print_default(const cli_option *o, char *dst, size_t cap)
{
    char lo[32], hi[32];
    *dst = 0;
    switch (o->kind) {
    case CLI_FLAG:
    case CLI_LIST: break;
    case CLI_INT: snprintf(dst, cap, "%lld", (long long)*(const int64_t *)o->value); break;
    case CLI_REAL: snprintf(dst, cap, "%.6g", *(const double *)o->value); break;
    case CLI_SIZE: print_size(dst, cap, *(const uint64_t *)o->value); break;
    case CLI_RANGE: {
        const cli_range *r = o->value;
        print_size(lo, sizeof lo, r->from);
        print_size(hi, sizeof hi, r->to);
        snprintf(dst, cap, "%s:%s:%llu", lo, hi, (unsigned long long)r->factor);
        break;
    }
    case CLI_TEXT:
    case CLI_WORD:
        if (*(const char *const *)o->value) snprintf(dst, cap, "%s", *(const char *const *)o->value);
        break;
    }
}

static void print_option(const cli_option *o)
{
    char left[64], more[160] = "", text[96];
    snprintf(left, sizeof left, "%s%s%s%s", o->name[1] ? "--" : "-", o->name, o->metavar ? " " : "",
             o->metavar ? o->metavar : "");
    if (o->words) snprintf(more, sizeof more, "; one of %s", o->words);
    if (o->min != 0 || o->max != 0) {
        print_bounds(o, text, sizeof text);
        snprintf(more, sizeof more, "; %s", text);
    }
    print_default(o, text, sizeof text);
    printf("  %-26s %s%s%s%s%s\n", left, o->help, more, *text ? " [" : "", text, *text ? "]" : "");
}

static void print_help(const cli_command *cmd)
{
    printf("%s : %s\n\nusage: %s [options]%s%s\n\noptions:\n", cmd->name, cmd->summary, cmd->name,
           *cmd->operands ? " " : "", cmd->operands);
    for (const cli_option *o = cmd->options; o->name; o++) print_option(o);
    printf("  %-26s %s\n", "--help", "this text");
    if (cmd->details) printf("\n%s", cmd->details);
}

/* ---- parse ---- */

static int unknown_option(const cli_command *cmd, const char *name)
{
    const char *words[CLI_LIST_MAX], *near;
    size_t      n = 0;
    for (const cli_option *o = cmd->options; o->name && n < CLI_LIST_MAX - 1; o++) words[n++] = o->name;
    words[n++] = "help";
    near = cli_nearest(name, words, n);
    if (near) return cli_usage("unknown option --%s; did you mean --%s?", name, near);
    return cli_usage("unknown option --%s", name);
}

/* One "--name[=value]"; *i is its index and moves over a separate value. */
static int parse_option(const cli_command *cmd, int argc, char **argv, int *i)
{
    char        name[WORD_MAX];
    const char *text = argv[*i] + (argv[*i][1] == '-' ? 2 : 1);
    size_t      len = strcspn(text, "=");
    snprintf(name, sizeof name, "%.*s", (int)len, text);
    for (const cli_option *o = cmd->options; o->name; o++) {
        if (strcmp(o->name, name) != 0) continue;
        if (o->kind == CLI_FLAG) {
            if (text[len]) return cli_usage("--%s takes no value", name);
            *(bool *)o->value = true;
            return CLI_RUN;
        }
        if (text[len]) return take(o, text + len + 1);
        if (*i + 1 >= argc) return cli_usage("--%s: needs a value (%s)", name, o->metavar);
        return take(o, argv[++*i]);
    }
    return unknown_option(cmd, name);
}

/* "-o": an option whose name is one letter is written with one dash */
static bool has_letter(const cli_command *cmd, const char *a)
{
    for (const cli_option *o = cmd->options; o->name; o++)
        if (a[1] && a[1] == o->name[0] && !o->name[1] && (!a[2] || a[2] == '=')) return true;
    return false;
}

int cli_parse(const cli_command *cmd, int argc, char **argv, int *operands)
{
    bool options = true;
    int  n = 0;
    program = cmd->name;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            if (speaking) print_help(cmd);
            return CLI_OK;
        }
    for (int i = 1; i < argc; i++) {
        char *a = argv[i];
        if (options && strcmp(a, "--") == 0) {
            options = false;
        } else if (options && a[0] == '-' && (a[1] == '-' || has_letter(cmd, a))) {
            int rc = parse_option(cmd, argc, argv, &i);
            if (rc != CLI_RUN) return rc;
        } else if (options && a[0] == '-' && a[1]) {
            return cli_usage("unknown option %s; options are written --name VALUE", a);
        } else if (n == cmd->max_operands) {
            return cli_usage("unexpected operand '%s'; expected: %s", a, *cmd->operands ? cmd->operands : "none");
        } else {
            argv[n++] = a;
        }
    }
    if (n < cmd->min_operands) return cli_usage("missing operand; expected: %s", cmd->operands);
    *operands = n;
    return CLI_RUN;
}

/* ---- progress ---- */

void cli_progress_show(cli_progress *p, const char *fmt, ...)
{
    char    text[256];
    double  now = cli_now();
    va_list args;
    if (p->start == 0) p->start = now;
    if (!speaking || now - p->start < 2 || now - p->last < 0.2 || !isatty(STDERR_FILENO)) return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fprintf(stderr, "\r\033[K%s", text);
    p->last = now;
    p->shown = line_shown = true;
}

void cli_progress_end(cli_progress *p)
{
    if (p->shown && line_shown) fputs("\r\033[K", stderr);
    p->shown = line_shown = false;
}

void cli_begin(void)
{
    for (int fd = 0; fd < 3; fd++) /* the wrong way round: what is read or written there fails, as it did */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) _exit(CLI_FAILED);
}

int cli_end(int code)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    fprintf(stderr, "%s: standard output: %s\n", program, errno ? strerror(errno) : "could not be written");
    return code == CLI_OK ? CLI_FAILED : code;
}

/* The destructors of libtorch and of the three hundred libraries that Debian's brings along take a sixth of a start. A build for finding faults
 * runs them: what looks for leaks, or counts lines, does so at exit. */
int cli_leave(int code)
{
    code = cli_end(code);
#ifndef TAUT_DEBUG
    _exit(code);
#endif
    return code;
}

int cli_threads(int otherwise)
{
    const char *text = getenv("OMP_NUM_THREADS");
    char       *end;
    long        n;
    if (!text) return otherwise;
    n = strtol(text, &end, 10);
    if (end == text || n < 0 || (*end != '\0' && *end != ',')) return 0;
    return n > INT_MAX ? INT_MAX : (int)n;
}

int cli_device(void)
{
    static const char *const local[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"};
    const char              *seen = getenv("CUDA_VISIBLE_DEVICES"), *text = NULL;
    char                    *end;
    for (size_t i = 0; i < sizeof local / sizeof *local && !text; i++) text = getenv(local[i]);
    if (!text) return -1;
    long n = strtol(text, &end, 10), of = seen && *seen ? 1 : 0;
    if (end == text || *end || n < 0 || n > INT_MAX) return -1;
    for (const char *c = seen; of && *c; c++) of += *c == ',';
    return (int)(of ? n % of : n);
}
