/* error.cpp : the last error of a thread, and the process-wide settings of libtorch. */
#include "shim.hpp"
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <cstdio>
#include <torch/csrc/api/include/torch/version.h>

namespace taut_shim
{

static thread_local char last_error[1024];

taut_status fail(taut_status s, const char *fmt, ...)
{
    char    text[sizeof last_error]; /* an argument may be the old message */
    va_list ap;
    va_start(ap, fmt);
    std::vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    std::memcpy(last_error, text, sizeof text);
    return s;
}

taut_status fail_caught(const std::exception &e)
{
    const char *text = e.what();
    size_t      len = std::strlen(text), line = std::strcspn(text, "\n");
    /* TorchScript's text opens with a headline and has the reason last */
    const char *reason = std::strstr(text, "RuntimeError: ");
    if (reason) return fail(TAUT_E_TORCH, "%.*s", static_cast<int>(std::strcspn(reason, "\n")), reason);
    return fail(TAUT_E_TORCH, "%.*s", static_cast<int>(line ? line : len), text);
}

} // namespace taut_shim

using namespace taut_shim;

extern "C" void openblas_set_num_threads(int) __attribute__((weak)); /* NULL where another BLAS is loaded */

extern "C" const char *taut_torch_last_error(void) { return last_error; }
extern "C" const char *taut_torch_version(void) { return TORCH_VERSION; }

extern "C" taut_status taut_torch_threads(int threads)
{
    if (threads < 1 || threads > 1024) return fail(TAUT_E_RANGE, "threads=%d: must be 1..1024", threads);
    return guarded([&] {
        at::set_num_threads(threads);
        /* libtorch does not pass the number on to an OpenBLAS with threads of its own, whose default is all cores */
        if (openblas_set_num_threads) openblas_set_num_threads(threads);
        at::globalContext().setDeterministicAlgorithms(true, true);
        return TAUT_OK;
    });
}
