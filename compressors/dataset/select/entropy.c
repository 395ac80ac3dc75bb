/* entropy.c : see entropy.h. */
#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_c_forceAttachDict: else the tables are copied for every larger sample */
#include "entropy.h"
#include <string.h>

static taut_status failed(size_t code)
{
    return taut__fail(TAUT_E_NOMEM, "entropy: zstd: %s", ZSTD_getErrorName(code));
}

static size_t set(ZSTD_CCtx *c, ZSTD_cParameter p, int value) { return ZSTD_CCtx_setParameter(c, p, value); }

taut_status taut__sizer_init(taut__sizer *z)
{
    memset(z, 0, sizeof *z);
    return (z->c = ZSTD_createCCtx()) ? taut__sizer_given(z, NULL, 0)
                                      : taut__fail(TAUT_E_NOMEM, "entropy: out of memory for zstd");
}

void taut__sizer_fini(taut__sizer *z)
{
    ZSTD_freeCCtx(z->c);
    taut__free(z->out);
    memset(z, 0, sizeof *z);
}

taut_status taut__sizer_given(taut__sizer *z, const uint8_t *given, size_t n)
{
    int    log = 17;
    size_t bad;
    while (log < 27 && ((size_t)1 << log) < 2 * n) log++;
    ZSTD_CCtx_reset(z->c, ZSTD_reset_session_and_parameters);
    bad = set(z->c, ZSTD_c_compressionLevel, 3);
    if (!ZSTD_isError(bad)) bad = set(z->c, ZSTD_c_contentSizeFlag, 0);
    if (n && !ZSTD_isError(bad)) bad = set(z->c, ZSTD_c_hashLog, log);
    if (n && !ZSTD_isError(bad)) bad = set(z->c, ZSTD_c_chainLog, log);
    if (n && !ZSTD_isError(bad)) bad = set(z->c, ZSTD_c_windowLog, log);
    if (n && !ZSTD_isError(bad)) bad = set(z->c, ZSTD_c_forceAttachDict, ZSTD_dictForceAttach);
    if (n && !ZSTD_isError(bad))
        bad = ZSTD_CCtx_loadDictionary_advanced(z->c, given, n, ZSTD_dlm_byCopy, ZSTD_dct_rawContent);
    return ZSTD_isError(bad) ? failed(bad) : TAUT_OK;
}

taut_status taut__sizer_size(taut__sizer *z, const uint8_t *data, size_t n, size_t *size)
{
    size_t want = ZSTD_compressBound(n);
    if (want > z->room) {
        taut__free(z->out);
        z->room = 0;
        if (!(z->out = taut__alloc(2 * want, 1)))
            return taut__fail(TAUT_E_NOMEM, "entropy: out of memory for a sample of %zu bytes", n);
        z->room = 2 * want;
    }
    *size = ZSTD_compress2(z->c, z->out, z->room, data, n);
    return ZSTD_isError(*size) ? failed(*size) : TAUT_OK;
}
