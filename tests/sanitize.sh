#!/bin/sh
# sanitize.sh [PATTERN...] : runs the tests' C programs, ranks as threads and as MPI processes, as MODE's build has them (asan: ASan and UBSan,
# with stack use after return where the processor has no AVX-512; tsan), and says by tier how many ran, how many failed, and what the sanitizers found.
#   MODE=asan tests/sanitize.sh [PATTERN...]    what they said: $BUILD/findings/
#   LEAKS=1        asan: leaks count, too, but those that Open MPI has kept (tests/lsan.supp)
#   THREADS=FILE   asan: the names of programs that start a second thread are added to it; tsan: programs that are not in it are left out, and told
#   JOBS=2         programs at a time
# A report of a process whose output nobody sees counts too. Reports of kernels that are wrong on purpose (samples.cu) do not.
set -eu
MODE=${MODE:-asan}
export BUILD="${BUILD:-build/$MODE}" MODE LONG="${LONG:-0}" TIMEOUT="${TIMEOUT:-3600}" CK_TIMEOUT_MULTIPLIER="${CK_TIMEOUT_MULTIPLIER:-20}"
THREADS=${THREADS:-}
said=$(realpath -m "$BUILD/findings")
rm -rf "$said" && mkdir -p "$said"
# GCC 12's frames for it begin at multiples of 32 bytes, where its own code for AVX-512 stores vectors of 64, aligned: a SEGV in correct code
after=1
! grep -qm 1 avx512f /proc/cpuinfo 2>/dev/null || [ "${TAUT_CPU:-avx512}" = avx2 ] || [ "${TAUT_CPU:-}" = portable ] || after=0
export ASAN_OPTIONS="detect_leaks=${LEAKS:-0}:protect_shadow_gap=0:detect_stack_use_after_return=$after:verify_asan_link_order=0:log_path=$said/asan"
export LSAN_OPTIONS="suppressions=$PWD/tests/lsan.supp:print_suppressions=0"
export UBSAN_OPTIONS="print_stacktrace=1:log_path=$said/ubsan"
export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp exitcode=66 log_path=$said/tsan"

# Open MPI unloads it at the end, which TSan, that was told to leave it alone, does not bear
if [ "$MODE" = tsan ] && ldconfig -p | grep -q libpmix.so.2; then LD_PRELOAD=libpmix.so.2 && export LD_PRELOAD; fi

# programs, and the scripts that do nothing but run them on ranks of MPI
[ $# -gt 0 ] || set -- "^$BUILD/tests/" '^tests/multi/test_(mpi|survivors)\.sh'

# Which programs start threads: an interposed pthread_create() notes the program's name.
if [ "$MODE" = asan ] && [ -n "$THREADS" ]; then
    cat >"$said/noting.c" <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg)
{
    static int noted;
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    const char *path = getenv("NOTE_THREADS");
    if (path && !noted) {
        int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
        noted = 1;
        if (fd >= 0 && write(fd, program_invocation_short_name, strlen(program_invocation_short_name)) > 0 && write(fd, "\n", 1) > 0) noted = 2;
        if (fd >= 0) close(fd);
    }
    return real(t, a, f, arg);
}
END
    "${CC:-cc}" -shared -fPIC -O1 -o "$said/noting.so" "$said/noting.c" -ldl
    NOTE_THREADS=$(realpath -m "$THREADS") && export NOTE_THREADS
    LD_PRELOAD=$said/noting.so && export LD_PRELOAD
fi
if [ "$MODE" = tsan ] && [ -n "$THREADS" ]; then
    dirs='unit twin golden property multi'
    [ "$LONG" = 0 ] || dirs="$dirs long"
    several='' single=''
    for t in $(for d in $dirs; do ls "$BUILD/tests/$d" | grep '^test_[a-z0-9_]*$' | sed "s|^|$d/|"; done); do
        if grep -qx "${t#*/}" "$THREADS"; then several="$several|$t"; else single="$single $t"; fi
    done
    echo "tsan: programs of one thread, left out:$single"
    set -- "^$BUILD/tests/(${several#|})\$" '^tests/multi/test_(mpi|survivors)\.sh'
fi
ok=0
tests/run.sh "$@" || ok=1
unset LD_PRELOAD

echo "$MODE: $BUILD/tests"
printf '  %-10s %9s %9s %9s %9s\n' tier programs passed failed skipped
for f in "$BUILD"/tests/logs/*.result; do
    tier=${f##*/tests_} && echo "${tier%%_*} $(cat "$f")"
done | awk '{n[$1]++; p[$1] += $2; f[$1] += $3; s[$1] += $4}
    END {for (t in n) printf "  %-10s %9d %9d %9d %9d\n", t, n[t], p[t], f[t], s[t]}' | sort
reports() { find "$said" -name '*san.*' -exec grep "$1" 'cuda_host/samples.cu' {} + 2>/dev/null; }
found=$(reports -L | wc -l)
planted=$(reports -l | wc -l)
echo "$MODE: $found findings in $said, and $planted of kernels that are wrong on purpose"
reports -L | xargs -r grep -h '^SUMMARY\|runtime error:' | sort | uniq -c | sort -rn | head -n 20
[ "$ok" -eq 0 ] && [ "$found" -eq 0 ]
