/* cmd_top.c : `taut top`: follows the log of a running job in the terminal. */
#include "cli.h"
#include "cmd.h"
#include "json.h"
#include "top/frame.h"
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

typedef struct args {
    double every_s;
    bool   once, json;
} args;

typedef struct follower {
    const char *path;
    FILE       *f;    /* NULL: not there yet */
    struct stat at;   /* when it was opened */
    char       *rest; /* a line that is not complete */
    size_t      len, room;
    long        read;     /* bytes */
    char        why[300]; /* it cannot be followed: said when the screen is the user's again */
    run_log     log;
} follower;

static int cannot(follower *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int cannot(follower *w, const char *fmt, ...)
{
    va_list list;
    va_start(list, fmt);
    vsnprintf(w->why, sizeof w->why, fmt, list);
    va_end(list);
    return CLI_FAILED;
}

/* ---- the file ---- */

static void forget(follower *w)
{
    if (w->f) fclose(w->f);
    free(w->rest);
    run_log_free(&w->log);
    *w = (follower){.path = w->path};
}

/* Of the bytes at w->rest; none of the first `old` ends a line. */
static int take_lines(follower *w, size_t old)
{
    char *line = w->rest, *from = line + old, *end;
    while (w->len && (end = memchr(from, '\n', w->len - (size_t)(from - w->rest))) != NULL) {
        if (!run_log_line(&w->log, line, (size_t)(end - line)))
            return cannot(w, "line %zu: %s", w->log.lines, w->log.error);
        line = from = end + 1;
    }
    w->len -= (size_t)(line - w->rest);
    memmove(w->rest, line, w->len);
    return CLI_OK;
}

/* What has been written since. A file that was replaced or cut, by a run that began anew, is read from its beginning. */
static int follow(follower *w)
{
    enum { PIECE = 1 << 18 };
    struct stat now;
    if (stat(w->path, &now) != 0) return w->f || errno == ENOENT ? CLI_OK : cannot(w, "%s", strerror(errno));
    if (w->f && (now.st_ino != w->at.st_ino || now.st_dev != w->at.st_dev || now.st_size < w->read)) forget(w);
    if (!w->f) {
        w->f = fopen(w->path, "r");
        if (!w->f) return cannot(w, "%s", strerror(errno));
        snprintf(w->log.name, sizeof w->log.name, "%s", w->path);
    }
    w->at = now;
    clearerr(w->f);
    for (;;) {
        if (w->room - w->len < PIECE) {
            char *more = realloc(w->rest, w->len + 2 * PIECE);
            if (!more) return cannot(w, "out of memory");
            w->rest = more, w->room = w->len + 2 * PIECE;
        }
        size_t n = fread(w->rest + w->len, 1, PIECE, w->f);
        w->len += n, w->read += (long)n;
        int rc = ferror(w->f) ? cannot(w, "%s", strerror(errno)) : take_lines(w, w->len - n);
        if (rc != CLI_OK || n < PIECE) return rc;
    }
}

static double quiet(const follower *w) { return w->f ? difftime(time(NULL), w->at.st_mtime) : NAN; }

/* ---- the terminal ---- */

static volatile sig_atomic_t resized, stop, suspend;
static void                  on_resize(int s) { (void)s, resized = 1; }
static void                  on_stop(int s) { stop = s; }
static void                  on_suspend(int s) { (void)s, suspend = 1; }

static struct termios kept;

static void enter(void)
{
    struct sigaction a = {.sa_handler = on_resize, .sa_flags = SA_RESTART}; /* writing to a slow terminal goes on */
    struct termios   raw;
    sigaction(SIGWINCH, &a, NULL);
    a.sa_handler = on_stop;
    sigaction(SIGINT, &a, NULL), sigaction(SIGTERM, &a, NULL), sigaction(SIGHUP, &a, NULL);
    sigaction(SIGQUIT, &a, NULL);
    a.sa_handler = on_suspend;
    sigaction(SIGTSTP, &a, NULL);
    if (tcgetattr(STDIN_FILENO, &kept) == 0) {
        raw = kept;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    fputs("\033[?1049h\033[?25l", stdout); /* another screen, no cursor */
}

static void leave(void)
{
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (isatty(STDIN_FILENO)) tcsetattr(STDIN_FILENO, TCSANOW, &kept);
}

/* Control-Z: the shell gets its screen, its cursor and its echo back until this program is continued. */
static void rest(void)
{
    leave();
    raise(SIGSTOP);
    suspend = 0;
    enter();
}

static int number_of(const char *variable, int fallback)
{
    const char *e = getenv(variable);
    long        n = e ? strtol(e, NULL, 10) : 0;
    return n > 0 && n < 100000 ? (int)n : fallback;
}

static frame_look look_of(const follower *w)
{
    struct winsize z;
    const char    *names[] = {getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")}, *plain = getenv("NO_COLOR");
    frame_look     l = {.color = isatty(STDOUT_FILENO) && (!plain || !*plain), .quiet_s = quiet(w)};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &z) == 0 && z.ws_col > 0) l.width = z.ws_col, l.height = z.ws_row;
    else l.width = number_of("COLUMNS", 80), l.height = number_of("LINES", 24);
    l.width = l.width < FRAME_WIDTH_MIN ? FRAME_WIDTH_MIN : l.width > FRAME_WIDTH_MAX ? FRAME_WIDTH_MAX : l.width;
    for (int i = 0; i < 3; i++)
        if (names[i] && *names[i]) {
            l.blocks = strstr(names[i], "UTF-8") || strstr(names[i], "utf8") || strstr(names[i], "UTF8");
            break;
        }
    return l;
}

static int show(follower *w, bool screen)
{
    frame_look l = look_of(w);
    char      *text;
    l.height -= screen; /* the last line is for the keys */
    if (!w->log.head) {
        if (screen) printf("\033[H\033[Jtaut top: waiting for %s (q quits)", w->path);
        fflush(stdout);
        return CLI_OK;
    }
    text = frame_text(&w->log, &l);
    if (!text) return cannot(w, "out of memory");
    if (!screen) fputs(text, stdout);
    for (char *line = text; screen && *line;) { /* over what is there, so that nothing flickers */
        size_t n = strcspn(line, "\n");
        printf("%s%.*s\033[K", line == text ? "\033[H" : "\r\n", (int)n, line);
        line += n + (line[n] == '\n');
    }
    if (screen) printf("\033[J\033[%d;1Hq quits", l.height + 1);
    fflush(stdout);
    free(text);
    return CLI_OK;
}

/* Until the time is up, a key quits, or the window has another size. */
static bool pause_or_quit(double seconds)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    double        until = cli_now() + seconds;
    bool          keys = true;
    while (!stop && !resized && !suspend && cli_now() < until) {
        int  ms = (int)(1e3 * (until - cli_now())) + 1;
        char key[16]; /* an arrow is ESC and more */
        if (poll(&p, keys, ms) <= 0) continue;
        ssize_t n = read(STDIN_FILENO, key, sizeof key);
        if (n == 0 || (n < 0 && errno != EINTR)) keys = false;
        else if (n > 0 && (*key == 'q' || *key == 'Q' || (*key == 27 && n == 1))) return true;
    }
    if (suspend) rest();
    resized = 0;
    return stop != 0;
}

static int watch(follower *w, const args *a)
{
    int rc = CLI_OK;
    enter();
    do {
        if ((rc = follow(w)) == CLI_OK) rc = show(w, true);
    } while (rc == CLI_OK && !pause_or_quit(a->every_s));
    leave();
    return rc == CLI_OK ? rc : cli_fail("%s: %s", w->path, w->why);
}

static double last(const run_log *r, run_column c) { return r->steps ? r->column[c][r->steps - 1] : NAN; }

static void print_json(const follower *w)
{
    const run_log *r = &w->log;
    json_t        *o = json_object();
    double         over = 0;
    for (size_t i = 0; i < r->steps; i++) over += r->column[RUN_VIOLATIONS][i] > 0;
    jsn_text(o, "model", run_text(r->head, "model"));
    jsn_real(o, "step", last(r, RUN_STEP));
    jsn_real(o, "steps", run_number(r->head, "steps"));
    jsn_real(o, "loss", last(r, RUN_LOSS));
    jsn_real(o, "step_ms", last(r, RUN_STEP_MS));
    jsn_real(o, "ratio", last(r, RUN_DENSE) / last(r, RUN_SENT));
    jsn_real(o, "rel_err2_metric", last(r, RUN_ERROR));
    jsn_real(o, "budget", last(r, RUN_BUDGET));
    jsn_int(o, "steps_over_budget", (uint64_t)over);
    jsn_bool(o, "ended", r->end != NULL);
    jsn_print(o);
}

static int once(follower *w, const args *a)
{
    int rc = follow(w);
    if (rc == CLI_OK && !w->f) rc = cannot(w, "%s", strerror(ENOENT));
    if (rc == CLI_OK && !w->log.head) rc = cannot(w, "is empty: expected the log of taut train --log");
    if (rc == CLI_OK && !a->json) rc = show(w, false);
    if (rc != CLI_OK) return cli_fail("%s: %s", w->path, w->why);
    if (a->json) print_json(w);
    return CLI_OK;
}

/* A terminal that can be drawn on. */
static bool has_screen(void)
{
    const char *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

int cmd_top(int argc, char **argv)
{
    args             a = {.every_s = 1};
    const cli_option options[] = {
        {"every", "SECONDS", CLI_REAL, &a.every_s, "between looks", 0.05, 3600, NULL},
        {"once", NULL, CLI_FLAG, &a.once,
         "print what it shows now and end; so it does where stdout is no terminal, or TERM is dumb", 0, 0, NULL},
        CLI_JSON(&a.json),
        CLI_END};
    const cli_command command = {"taut top",
                                 "RUN.jsonl",
                                 "follow a running job in the terminal",
                                 "RUN.jsonl is what `taut train --log RUN.jsonl` writes; it need not be there yet. "
                                 "Keys: q quits. NO_COLOR=1: no colours.\n"
                                 "Means of the last 20 steps; lines of characters show the whole run. --json prints "
                                 "the last step as one object and ends.\n",
                                 options,
                                 1,
                                 1};
    int               operands, rc = cli_parse(&command, argc, argv, &operands);
    if (rc != CLI_RUN) return rc;
    follower w = {.path = argv[0]};
    rc = a.once || a.json || !has_screen() ? once(&w, &a) : watch(&w, &a);
    forget(&w);
    return rc;
}
