/* fuzz_log.c : logs of training runs, as `taut report` and `taut top` read them: lines. Whatever they say, what is made of them, a part of the
 * page, all of it or a frame, can be made, and nothing of the log becomes markup or moves the cursor. max_len=1024 */
#include "fuzz.h"
#include "launch/cli.h"
#include "launch/report/report.h"
#include "launch/top/frame.h"
#ifndef __has_feature
#define __has_feature(f) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

/* ---- jansson's memory ----
 * Most of an input's time was malloc(). Here values come from one block, which is empty again for the next input. Poisoned around what is
 * taken, and where it was given back, so that a sanitizer sees what it would see with malloc(). */
enum { ARENA_BYTES = 1 << 21, ARENA_HEAD = 16, ARENA_EDGE = 16 };
static _Alignas(16) uint8_t arena[ARENA_BYTES];
static size_t arena_used;

static void *arena_take(size_t n)
{
    size_t   whole = ARENA_HEAD + ((n + 15) & ~(size_t)15) + ARENA_EDGE;
    uint8_t *p = arena + arena_used;
    FUZZ_HOLDS(n <= ARENA_BYTES && whole <= ARENA_BYTES - arena_used);
    arena_used += whole;
    ASAN_UNPOISON_MEMORY_REGION(p, ARENA_HEAD + n);
    memcpy(p, &n, sizeof n);
    return p + ARENA_HEAD;
}

static void arena_give(void *p)
{
    size_t n;
    if (!p) return;
    memcpy(&n, (uint8_t *)p - ARENA_HEAD, sizeof n); /* poisoned where it was given back already */
    ASAN_POISON_MEMORY_REGION((uint8_t *)p - ARENA_HEAD, ARENA_HEAD + n);
}

static void arena_open(void)
{
    static bool poisoned;
    ASAN_POISON_MEMORY_REGION(arena, poisoned ? arena_used : sizeof arena);
    poisoned = true;
    arena_used = 0;
    json_set_alloc_funcs(arena_take, arena_give);
}

static void arena_close(void) { json_set_alloc_funcs(malloc, free); }

/* ---- what is made of a log ---- */

typedef void part(FILE *f, const report *p);

static void part_lines(FILE *f, const report *p) { (void)report_lines(f, p); }
static void part_error(FILE *f, const report *p)
{
    if (!report_exact(&p->run[0])) (void)report_error(f, &p->run[0], 0);
}
static void part_heat(FILE *f, const report *p)
{
    const run_log *r = &p->run[0];
    if (!report_exact(r) && r->looks > 0 && r->layers > 0) (void)report_heat(f, r, 0);
}
static void part_phases(FILE *f, const report *p) { (void)report_phases(f, p); }
static void part_break_even(FILE *f, const report *p) { (void)report_break_even_runs(f, p); }
static void part_tables(FILE *f, const report *p)
{
    report_tiles(f, p);
    report_summary(f, p);
    report_layers(f, &p->run[0]);
}
static void part_frame(FILE *f, const report *p)
{
    static const frame_look look = {.width = 61, .height = 30, .quiet_s = 1};
    char                   *text = frame_text(&p->run[0], &look);
    FUZZ_HOLDS(text && !strchr(text, '\033'));
    (void)f;
    free(text);
}
static void part_page(FILE *f, const report *p)
{
    (void)report_write(f, p);
    fputs("the end", f);
}

/* A part takes ten times as long as reading the log, the page a hundred times. */
enum { LOG_DRAWN = 16, LOG_PAGES = 64 };
static part *const parts[] = {part_lines, part_error, part_heat, part_phases, part_break_even, part_tables, part_frame};
enum { PARTS = sizeof parts / sizeof *parts };

static void log_draw(const report *p, part *make)
{
    char  *text = NULL;
    size_t len;
    FILE  *f = open_memstream(&text, &len);
    FUZZ_HOLDS(f);
    make(f, p);
    FUZZ_HOLDS(fclose(f) == 0 && text);
    FUZZ_HOLDS(make != part_page || strstr(text, "</html>\nthe end"));
    FUZZ_HOLDS(!strstr(text, "<fuzz"));
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static report all;
    report       *p = &all;
    size_t        at = 0;
    uint32_t      draw = fuzz_draw(data, size);
    cli_speak(false);
    arena_open();
    p->runs = 1, p->title = "fuzz";
    snprintf(p->run[0].name, sizeof p->run[0].name, "<fuzz>");
    while (at < size) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t         n = end ? (size_t)(end - data) - at : size - at;
        (void)run_log_line(&p->run[0], (const char *)data + at, n);
        at += n + 1;
    }
    if (p->run[0].head && draw % LOG_DRAWN == 0)
        log_draw(p, draw / LOG_DRAWN % LOG_PAGES == 0 ? part_page : parts[draw / LOG_DRAWN % PARTS]);
    run_log_free(&p->run[0]);
    arena_close();
    return 0;
}
