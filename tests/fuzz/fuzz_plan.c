/* fuzz_plan.c : plans of data sets, as files say them: a byte of options, then the text. Bit 0: its last line is made the hash of what stands
 * before it. What is accepted prints as a text that means the same. max_len=1024 */
#include "compressors/dataset/plan/plan.h"
#include "fuzz.h"
#include <xxhash.h>

enum { PLAN_END = 32 };

/* In room for PLAN_END more bytes. Returns the length. */
static size_t plan_make_right(char *text, size_t n)
{
    char *end = n >= 5 ? strstr(text, "\nend ") : NULL;
    if (end) n = (size_t)(end - text) + 1;
    else if (n > 0 && text[n - 1] != '\n') text[n++] = '\n';
    return n + (size_t)sprintf(text + n, "end %016llx\n", (unsigned long long)XXH64(text, n, 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    taut__plan p = {0}, q = {0};
    char      *printed = NULL;
    size_t     bytes;
    if (size < 1) return 0;
    size_t n = size - 1;
    char  *text = malloc(n + PLAN_END + 1);
    FUZZ_HOLDS(text);
    memcpy(text, data + 1, n);
    text[n] = 0;
    if (data[0] & 1) n = plan_make_right(text, n);
    if (taut__plan_parse(&p, "fuzz", text, n) == TAUT_OK) {
        FUZZ_HOLDS(taut__plan_print(&p, &printed, &bytes) == TAUT_OK);
        FUZZ_HOLDS(taut__plan_parse(&q, "printed", printed, bytes) == TAUT_OK && q.hash == p.hash);
        FUZZ_HOLDS(taut__plan_samples(&q) == taut__plan_samples(&p) && taut__plan_of(&q) == taut__plan_of(&p));
    }
    taut__free(printed);
    taut__plan_free(&p);
    taut__plan_free(&q);
    free(text);
    return 0;
}
