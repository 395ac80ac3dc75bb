/* dispatch.c : see dispatch.h. The tables are weak: a build without an ISA leaves their address NULL. */
#include "dispatch.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define FAMILY(f)                                                                                             \
    extern const struct taut__##f##_kernels taut__##f##_portable;                                             \
    extern const struct taut__##f##_kernels taut__##f##_avx2 __attribute__((weak));                           \
    extern const struct taut__##f##_kernels taut__##f##_avx512 __attribute__((weak));                         \
    extern const struct taut__##f##_kernels taut__##f##_neon __attribute__((weak));
FAMILY(vec)
FAMILY(quant)
FAMILY(topk)
FAMILY(grid)

#define LEVEL(l) {#l, &taut__vec_##l, &taut__quant_##l, &taut__topk_##l, &taut__grid_##l}
static const taut__simd levels[] = {LEVEL(portable), LEVEL(avx2), LEVEL(avx512), LEVEL(neon)};

/* __builtin_cpu_supports asks cpuid and, through xgetbv, whether the OS saves the registers. */
static bool cpu_runs(const char *name)
{
    if (strcmp(name, "portable") == 0) return true;
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("fma"); /* every such CPU has F16C */
    if (strcmp(name, "avx2") == 0) return avx2;
    if (strcmp(name, "avx512") == 0)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512cd");
#elif defined(__aarch64__)
    if (strcmp(name, "neon") == 0) return true;
#endif
    return false;
}

static bool usable(const taut__simd *t)
{
    return t->vec && t->quant && t->topk && t->grid && cpu_runs(t->name);
}

const taut__simd *taut__simd_at(size_t i)
{
    for (size_t k = 0; k < sizeof levels / sizeof *levels; k++)
        if (usable(&levels[k]) && i-- == 0) return &levels[k];
    return NULL;
}

/* The last usable level up to and including the one named by `cap`. An unknown name caps nothing but is logged. */
static const taut__simd *pick(const char *cap)
{
    const taut__simd *best = &levels[0], *t;
    bool known = !cap || !*cap;
    for (size_t k = 0; cap && k < sizeof levels / sizeof *levels; k++) known |= strcmp(cap, levels[k].name) == 0;
    if (!known) taut__log(TAUT_LOG_WARN, "cpu", "TAUT_CPU=%s: must be portable, avx2, avx512 or neon; ignored", cap);
    for (size_t i = 0; (t = taut__simd_at(i)) != NULL; i++) {
        best = t;
        if (cap && strcmp(cap, t->name) == 0) break;
    }
    return best;
}

static _Atomic(const taut__simd *) chosen; /* NULL until first use; racing threads reach the same answer */

const taut__simd *taut__simd_get(void)
{
    const taut__simd *t = atomic_load_explicit(&chosen, memory_order_acquire);
    if (t == NULL) {
        t = pick(getenv("TAUT_CPU"));
        atomic_store_explicit(&chosen, t, memory_order_release);
    }
    return t;
}

const char *taut_cpu_path(void) { return taut__simd_get()->name; }
