/* fuzz_trace.c : recorded gradients as `taut plan` reads them: the JSON that names layers. Layers that are accepted lie back to back and
 * fill what the trace says. max_len=1024 */
#include "launch/plan_trace.c"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    trace  t = {0};
    size_t end = 0;
    cli_speak(false);
    t.json = json_loadb((const char *)data, size, 0, NULL);
    if (t.json && load_layers("fuzz", &t) == CLI_OK) {
        for (size_t i = 0; i < t.layers; i++) {
            FUZZ_HOLDS(t.layer[i].offset == end && t.layer[i].elems >= 1 && t.layer[i].ndim <= TRACE_NDIM);
            end += t.layer[i].elems;
        }
        FUZZ_HOLDS(end == t.floats);
    }
    trace_free(&t);
    return 0;
}
