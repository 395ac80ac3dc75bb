/* fuzz_log.c : logs of training runs, as `taut report` and `taut top` read them: lines. Whatever they say, a page and a frame are made, and
 * nothing of the log becomes markup or moves the cursor. max_len=2048 */
#include "fuzz.h"
#include "launch/cli.h"
#include "launch/report/report.h"
#include "launch/top/frame.h"

static void log_draw(report *p)
{
    static const frame_look look = {.width = 61, .height = 30, .quiet_s = 1};
    char                   *page = NULL, *text;
    size_t                  len;
    FILE                   *f = open_memstream(&page, &len);
    FUZZ_HOLDS(f);
    (void)report_write(f, p);
    FUZZ_HOLDS(fclose(f) == 0 && page);
    FUZZ_HOLDS(strstr(page, "</html>") && !strstr(page, "<fuzz"));
    free(page);
    text = frame_text(&p->run[0], &look);
    FUZZ_HOLDS(text && !strchr(text, '\033'));
    free(text);
}

enum { LOG_DRAWN = 64 }; /* one of so many logs is drawn: a page takes a hundred times as long as reading it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static report all;
    report       *p = &all;
    size_t        at = 0;
    cli_speak(false);
    p->runs = 1, p->title = "fuzz";
    snprintf(p->run[0].name, sizeof p->run[0].name, "<fuzz>");
    while (at < size) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t         n = end ? (size_t)(end - data) - at : size - at;
        (void)run_log_line(&p->run[0], (const char *)data + at, n);
        at += n + 1;
    }
    if (p->run[0].head && fuzz_one_of(data, size, LOG_DRAWN)) log_draw(p);
    run_log_free(&p->run[0]);
    return 0;
}
