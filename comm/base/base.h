/* base.h : what everything else stands on: status, log, memory, counter-based random numbers.
 * Includes only the public header (for taut_status) and libc. */
#ifndef TAUT_BASE_H
#define TAUT_BASE_H

#include "../taut.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of functions in headers that CUDA kernels share with the CPU's code. Such headers compile as C11, C++17 and CUDA. */
#if defined(__CUDACC__)
#define TAUT_INLINE static inline __host__ __device__
#else
#define TAUT_INLINE static inline
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Errors ----
 * taut__fail() records the message that taut_last_error() returns, logs it at debug level, and returns `s`:
 *     return taut__fail(TAUT_E_RANGE, "quant: bits=%d: must be 1..8", bits);
 * TAUT_TRY() passes a failure up. A function that owns things uses one `out:` label instead. */
taut_status taut__fail(taut_status s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define TAUT_TRY(expr)                                                                                                 \
    do {                                                                                                               \
        taut_status taut_try_ = (expr);                                                                                \
        if (taut_try_ != TAUT_OK) return taut__failed_at(taut_try_, __FILE__, __LINE__);                               \
    } while (0)
taut_status taut__failed_at(taut_status s, const char *file, int line); /* logs at trace level, returns s */

/* taut_last_error(), kept over calls that may say something else: taut__fail(s, "%s", kept.text). */
typedef struct taut__kept {
    char text[1024];
} taut__kept;
taut__kept taut__keep_error(void);

/* ---- Log ----  stderr, one write per line. TAUT_LOG=error|warn|info|debug|trace (default warn),
 * TAUT_LOG_SUBSYS=comm,sched,... (default all); both read once. */
typedef enum taut__log_level {
    TAUT_LOG_ERROR,
    TAUT_LOG_WARN,
    TAUT_LOG_INFO,
    TAUT_LOG_DEBUG,
    TAUT_LOG_TRACE
} taut__log_level;
bool taut__log_on(taut__log_level level, const char *subsys);
void taut__log(taut__log_level level, const char *subsys, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void taut__log_rank(int rank); /* shown in every line; -1 = none */

/* ---- Numbers as text ---- with a decimal point, whatever locale the program has set. */
double taut__strtod(const char *text, char **end);
int    taut__vsnprintf(char *dst, size_t cap, const char *fmt, va_list ap);
int    taut__snprintf(char *dst, size_t cap, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- Memory ---- zeroed, 64-byte aligned; NULL when out of memory. Counted, so that tests can prove that a step
 * allocates nothing, and can make the n-th allocation fail. */
void *taut__alloc(size_t count, size_t size); /* NULL also when count*size overflows */
void  taut__free(void *p);
/* A larger copy of an array of `used` elements in its place, the old one released; false, and nothing is touched, when out of memory. array: points to
 * the pointer. */
bool taut__grow(void *array, size_t used, size_t room, size_t size);
/* Room for n elements at *array (array: as above), where there are *room; what was in it is lost where those are fewer. False: out of memory, and
 * nothing is there. */
bool   taut__room(void *array, size_t *room, size_t n, size_t size);
size_t taut__alloc_count(void);           /* successful allocations since start, all threads */
size_t taut__alloc_bytes(void);           /* bytes held now */
void   taut__alloc_fail_after(int64_t n); /* tests: the n-th allocation from now fails, once; -1 = never */

/* ---- Random numbers ---- r(seed, i): uniform 32 bits, computed, never drawn from a stream: independent of
 * slicing and the same on CPU and GPU. The mixer is the two-multiply 32-bit finaliser with lowest known bias
 * (Wellons, hash-prospector, 2018), keyed twice. All of i's 2^32-blocks have their own key. */
typedef struct taut__rng {
    uint32_t k0, k1;
} taut__rng; /* key of one block of 2^32 counters */

TAUT_INLINE uint64_t taut__mix64(uint64_t x) /* splitmix64 finaliser: derive seeds, not streams */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
TAUT_INLINE uint64_t  taut__seed(uint64_t a, uint64_t b) { return taut__mix64(taut__mix64(a) ^ b); }
TAUT_INLINE taut__rng taut__rng_of(uint64_t seed, uint64_t i)
{
    uint64_t  k = taut__seed(seed, i >> 32);
    taut__rng g = {(uint32_t)k, (uint32_t)(k >> 32)};
    return g;
}
TAUT_INLINE uint32_t taut__random32(taut__rng g, uint32_t i_low)
{
    uint32_t x = i_low + g.k0;
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15) ^ g.k1) * 0x846ca68bu;
    return x ^ (x >> 16);
}

/* ---- Small helpers ---- */
TAUT_INLINE size_t taut__min(size_t a, size_t b) { return a < b ? a : b; }
TAUT_INLINE size_t taut__max(size_t a, size_t b) { return a > b ? a : b; }
TAUT_INLINE size_t taut__ceil_div(size_t a, size_t b) { return a / b + (a % b != 0); }
static inline bool taut__mul_ok(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool taut__add_ok(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }
/* What a rename is to replace so that links stay (/dev/stdout is one, too): in dst, of PATH_MAX bytes, where a file at `path` is or would be, behind all symbolic
 * links, also where the last one points to nothing yet. TAUT_E_IO: there is no regular file, or one without a name, as /dev/stdout of a deleted one;
 * TAUT_E_RANGE: too long. */
taut_status taut__behind_links(const char *path, char *dst);

double taut__now(void); /* monotonic seconds; comm/ and launch/ only: compressors and scheduler know no clocks */

#ifdef __cplusplus
}
#endif

#ifdef __clang_analyzer__ /* which sees only declarations of taut__fail() and taut__failed_at(): both return s */
#define taut__fail(s, ...)             ((void)(taut__fail)(s, __VA_ARGS__), (s))
#define taut__failed_at(s, file, line) (s)
#endif

#endif
