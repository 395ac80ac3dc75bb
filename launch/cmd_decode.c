/* cmd_decode.c : `taut decode`: a frame, written by `taut encode` or taut_encode(), back to a file of float32. */
#include "cli.h"
#include "cmd.h"
#include "floats.h"
#include "json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int decode(const char *in, const char *out, const uint8_t *frame, size_t bytes, bool json)
{
    size_t      n, used;
    char        spec[128];
    float      *x;
    int         rc;
    taut_status s = taut_frame_info(frame, bytes, &n, &used, spec, sizeof spec);
    if (s != TAUT_OK) return cli_status(s, "%s: not a taut frame", in);
    if (used != bytes) return cli_fail("%s: %zu bytes after the frame's end at byte %zu", in, bytes - used, used);
    if (!(x = floats_alloc(n))) return cli_fail("%s: out of memory for %zu floats", in, n);
    s = taut_decode(frame, bytes, x, n);
    rc = s == TAUT_OK ? bytes_write(out, x, n * sizeof *x) : cli_status(s, "%s: cannot decode", in);
    free(x);
    if (rc != CLI_OK) return rc;
    fprintf(strcmp(out, "-") == 0 ? stderr : stdout, "%s: %zu bytes -> %zu floats\n", spec, bytes, n);
    if (json) {
        json_t *o = json_object();
        jsn_text(o, "codec", spec);
        jsn_int(o, "n", n);
        jsn_int(o, "bytes", bytes);
        jsn_real(o, "bits_per_element", 8.0 * (double)bytes / (double)n);
        jsn_print(o);
    }
    return CLI_OK;
}

int cmd_decode(int argc, char **argv)
{
    bool             json = false;
    uint8_t         *frame;
    size_t           bytes;
    const cli_option options[] = {
        CLI_JSON(&json),
        CLI_END,
    };
    const cli_command cmd = {"taut decode",
                             "IN.taut BACK.f32",
                             "one frame back to float32 (little-endian)",
                             "IN or BACK may be - for stdin or stdout. BACK is replaced only when complete.\n"
                             "--json: codec n bytes bits_per_element\n",
                             options,
                             2,
                             2};
    int               rc = cli_parse(&cmd, argc, argv, &argc);
    if (rc != CLI_RUN) return rc;
    if (json && strcmp(argv[1], "-") == 0) return cli_usage("--json and BACK.f32 '-' both write to stdout");
    if ((rc = bytes_read(argv[0], &frame, &bytes)) != CLI_OK) return rc;
    rc = decode(argv[0], argv[1], frame, bytes, json);
    free(frame);
    return rc;
}
