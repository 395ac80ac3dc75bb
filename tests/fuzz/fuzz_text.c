/* fuzz_text.c : what people type: a byte that says what, then the text. Specs of codecs, budgets, metrics, objectives, links, sizes. What is
 * accepted is within its range, and prints as a text that means the same. max_len=256 */
#include "compressors/codec.h"
#include "compressors/frame.h"
#include "fuzz.h"
#include "scheduler/budget.h"
#include "scheduler/time_model.h"
#include <math.h>

static void text_spec(const char *text)
{
    taut_spec   a, b;
    taut_tensor t = {.elems = 600, .rows = 20, .cols = 30};
    char        first[TAUT_SPEC_ROOM], second[TAUT_SPEC_ROOM];
    if (taut__spec_parse(text, &a) != TAUT_OK) return;
    taut__spec_print(&a, first, sizeof first);
    FUZZ_HOLDS(strlen(first) < sizeof first - 1);
    FUZZ_HOLDS(taut__spec_parse(first, &b) == TAUT_OK);
    taut__spec_print(&b, second, sizeof second);
    FUZZ_HOLDS(strcmp(first, second) == 0);
    for (uint32_t s = 0; s < a.stages; s++)
        for (uint32_t k = 0; k < a.stage[s].codec->n_keys; k++) {
            const taut_key *key = &a.stage[s].codec->keys[k];
            if (key->kind != TAUT_KEY_WORD)
                FUZZ_HOLDS(a.stage[s].value[k] >= key->min && a.stage[s].value[k] <= key->max);
        }
    if (!a.automatic && taut__spec_suits(&a, &t) == TAUT_OK)
        FUZZ_HOLDS(taut__frame_capacity(&a, &t, t.elems) > TAUT_FRAME_HEADER);
}

static void text_budget(const char *text)
{
    taut__budget b;
    if (taut__budget_parse(text, &b) != TAUT_OK) return;
    if (b.like) FUZZ_HOLDS(memchr(b.reference, 0, sizeof b.reference) && *b.reference);
    else FUZZ_HOLDS(b.rel > 0 && b.rel < 1);
}

static void text_link(const char *text)
{
    taut__line l;
    if (taut__link_parse(text, &l) == TAUT_OK)
        FUZZ_HOLDS(isfinite(l.alpha) && isfinite(l.beta) && l.alpha >= 0 && l.beta >= 0);
}

static void text_words(const char *text)
{
    taut__metric    m;
    taut__objective o;
    if (taut__metric_parse(text, &m) == TAUT_OK)
        FUZZ_HOLDS(m == TAUT_METRIC_PLAIN || m == TAUT_METRIC_LAYER || m == TAUT_METRIC_OPTIMIZER);
    if (taut__objective_parse(text, &o) == TAUT_OK) FUZZ_HOLDS(o == TAUT_OBJECTIVE_TIME || o == TAUT_OBJECTIVE_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[])(const char *) = {text_spec, text_budget, text_link, text_words};
    if (size < 1) return 0;
    char *text = fuzz_string(data + 1, size - 1);
    kinds[data[0] % 4](text);
    free(text);
    return 0;
}
