/* dispatch.c : see dispatch.h. The tables are weak: a build without an ISA leaves their address NULL. */
#include "dispatch.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define FAMILY(f)                                                                                                      \
    extern const struct taut__##f##_kernels taut__##f##_portable;                                                      \
    extern const struct taut__##f##_kernels taut__##f##_avx2 __attribute__((weak));                                    \
    extern const struct taut__##f##_kernels taut__##f##_avx512 __attribute__((weak));                                  \
    extern const struct taut__##f##_kernels taut__##f##_avx512vbmi2 __attribute__((weak));                             \
    extern const struct taut__##f##_kernels taut__##f##_neon __attribute__((weak));
FAMILY(vec)
FAMILY(quant)
FAMILY(topk)
FAMILY(grid)
FAMILY(crc)
FAMILY(basis)
FAMILY(rotate)

#define LEVEL(l)                                                                                                       \
    {                                                                                                                  \
#l, &taut__vec_##l, &taut__quant_##l, &taut__topk_##l, &taut__grid_##l, &taut__crc_##l, &taut__basis_##l,      \
            &taut__rotate_##l                                                                                          \
    }
static const taut__simd built[] = {LEVEL(portable), LEVEL(avx2), LEVEL(avx512), LEVEL(avx512vbmi2), LEVEL(neon)};
enum { LEVELS = sizeof built / sizeof *built };

#if defined(__x86_64__)
/* What the files of level avx2 are built for, too, and __builtin_cpu_supports does not know in all compilers: bits of cpuid's leaves. */
static bool has_f16c_and_lzcnt(void)
{
    unsigned a, b, c = 0, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 29 & 1)) return false;
    return __get_cpuid(0x80000001, &a, &b, &c, &d) && c >> 5 & 1;
}
#endif

/* __builtin_cpu_supports asks cpuid and, through xgetbv, whether the OS saves the registers. */
static bool cpu_runs(const char *name)
{
    if (strcmp(name, "portable") == 0) return true;
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("fma") && has_f16c_and_lzcnt();
    if (strcmp(name, "avx2") == 0) return avx2;
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512cd");
    if (strcmp(name, "avx512") == 0) return avx512;
    if (strcmp(name, "avx512vbmi2") == 0)
        return avx512 && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
               __builtin_cpu_supports("avx512ifma") && __builtin_cpu_supports("avx512vnni") &&
               __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("gfni");
#elif defined(__aarch64__)
    if (strcmp(name, "neon") == 0) return true;
#endif
    return false;
}

/* The levels that this CPU runs, lowest first. A family without kernels of its own at a level (not written, or the
 * compiler lacks the ISA) takes the level below's, and a level without any is left out. Filled once, then read only. */
static taut__simd     level[LEVELS];
static size_t         levels;
static pthread_once_t filled = PTHREAD_ONCE_INIT;

static void fill(void)
{
    for (size_t k = 0; k < LEVELS; k++) {
        taut__simd t = built[k];
        if (!cpu_runs(t.name) || !(t.vec || t.quant || t.topk || t.grid || t.crc || t.basis || t.rotate)) continue;
        const taut__simd *below = levels ? &level[levels - 1] : &built[0];
        if (!t.vec) t.vec = below->vec;
        if (!t.quant) t.quant = below->quant;
        if (!t.topk) t.topk = below->topk;
        if (!t.grid) t.grid = below->grid;
        if (!t.crc) t.crc = below->crc;
        if (!t.basis) t.basis = below->basis;
        if (!t.rotate) t.rotate = below->rotate;
        level[levels++] = t;
    }
}

const taut__simd *taut__simd_at(size_t i)
{
    pthread_once(&filled, fill);
    return i < levels ? &level[i] : NULL;
}

/* Place of a level in built[]; LEVELS if there is none of this name */
static size_t rank_of(const char *name)
{
    size_t k = 0;
    while (k < LEVELS && strcmp(name, built[k].name) != 0) k++;
    return k;
}

/* The last level up to and including the one named by `cap`. An unknown name caps nothing but is logged. */
static const taut__simd *pick(const char *cap)
{
    size_t            most = cap && *cap ? rank_of(cap) : LEVELS - 1;
    const taut__simd *best = taut__simd_at(0), *t;
    if (most == LEVELS)
        taut__log(TAUT_LOG_WARN, "cpu", "TAUT_CPU=%s: must be portable, avx2, avx512, avx512vbmi2 or neon; ignored",
                  cap);
    for (size_t i = 0; (t = taut__simd_at(i)) != NULL; i++)
        if (rank_of(t->name) <= most) best = t;
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

void taut__simd_use(const taut__simd *t) { atomic_store_explicit(&chosen, t, memory_order_release); }

const char *taut_cpu_path(void) { return taut__simd_get()->name; }
