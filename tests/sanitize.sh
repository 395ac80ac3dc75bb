#!/bin/sh
# sanitize.sh [PATTERN...] : runs the tests' C programs, ranks as threads and as MPI processes, as MODE's build has them (asan: ASan and UBSan, with
# stack use after return; tsan), and says by tier how many ran, how many failed, and what the sanitizers found.
#   MODE=asan tests/sanitize.sh [PATTERN...]    what they said: $BUILD/findings/
# A report of a process whose output nobody sees counts too. Reports of kernels that are wrong on purpose (samples.cu) do not.
set -eu
MODE=${MODE:-asan}
export BUILD="${BUILD:-build/$MODE}" MODE LONG="${LONG:-0}" TIMEOUT="${TIMEOUT:-1800}" CK_TIMEOUT_MULTIPLIER="${CK_TIMEOUT_MULTIPLIER:-20}"
said=$(realpath -m "$BUILD/findings")
rm -rf "$said" && mkdir -p "$said"
export ASAN_OPTIONS="detect_leaks=0:protect_shadow_gap=0:detect_stack_use_after_return=1:log_path=$said/asan"
export UBSAN_OPTIONS="print_stacktrace=1:log_path=$said/ubsan"
export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp exitcode=66 log_path=$said/tsan"
# programs, and the scripts that do nothing but run them on ranks of MPI
[ $# -gt 0 ] || set -- "^$BUILD/tests/" '^tests/multi/test_(mpi|survivors)\.sh'
ok=0
tests/run.sh "$@" || ok=1

echo "$MODE: $BUILD/tests"
printf '  %-10s %9s %9s %9s %9s\n' tier programs passed failed skipped
for f in "$BUILD"/tests/logs/*.result; do
    tier=${f##*/tests_} && echo "${tier%%_*} $(cat "$f")"
done | awk '{n[$1]++; p[$1] += $2; f[$1] += $3; s[$1] += $4}
    END {for (t in n) printf "  %-10s %9d %9d %9d %9d\n", t, n[t], p[t], f[t], s[t]}' | sort
found=$(grep -Lr 'cuda_host/samples.cu' "$said" 2>/dev/null | wc -l)
planted=$(grep -lr 'cuda_host/samples.cu' "$said" 2>/dev/null | wc -l)
echo "$MODE: $found findings in $said, and $planted of kernels that are wrong on purpose"
grep -Lr 'cuda_host/samples.cu' "$said" 2>/dev/null | xargs -r grep -h '^SUMMARY\|runtime error:' | sort | uniq -c | sort -rn | head -n 20
[ "$ok" -eq 0 ] && [ "$found" -eq 0 ]
