#!/bin/sh
# run.sh: run every test of $BUILD and close with one line "N passed, N failed, N skipped".
#   BUILD=build/release tests/run.sh [PATTERN ...]     only tests whose path matches a PATTERN (grep -E)
# JOBS programs run at a time (three, on two processors: ranks wait for each other, and for processes that start), and beside them, as many of those whose
# source says "mostly waits" (WAITING), the longest of these first; one whose source says "run alone" has the machine to itself.
# A test is an executable of the Check framework (its line "NN%: Checks: a, Failures: b, Errors: c" is read) or a
# script tests/*/test_*.sh whose last line is "N passed, N failed[, N skipped]". A line "SKIP reason" is counted and
# repeated at the end. A test that prints no such line counts as one failure.
set -eu
BUILD=${BUILD:-build/release}
TIMEOUT=${TIMEOUT:-600} # seconds for one test program
LONG=${LONG:-0}         # 1: tests/long too
JOBS=${JOBS:-3}
WAITING=${WAITING:-$JOBS}
logs=$BUILD/tests/logs

# one TEST: run it, print its line, leave "passed failed skipped exit" in its .result
one() {
    name=${1#"$BUILD"/}
    log=$logs/$(echo "$name" | tr / _).log
    begin=$(date +%s)
    rc=0
    timeout -k 10 "$TIMEOUT" "$1" >"$log" 2>&1 || rc=$?
    took=$(($(date +%s) - begin))
    times >"$log.cpu" # of this shell, then of what it started: minutes and seconds, of the program and of the kernel
    cpu=$(awk 'NR == 2 { split($1 "m" $2, t, /[ms]+/); print int(60 * (t[1] + t[3]) + t[2] + t[4]) }' "$log.cpu")
    # several suites in one program print several lines: add them up
    counts=$(awk '/^[0-9]+%: Checks: /{gsub(",",""); n++; c+=$3; b+=$5+$7}
                  /^[0-9]+ passed, [0-9]+ failed/{gsub(",",""); n++; c+=$1+$3; b+=$3; if ($6=="skipped") {told=1; s+=$5}}
                  /^SKIP /{seen++}
                  END{if (n) print c-b, b, told ? s : seen+0}' "$log")
    [ -n "$counts" ] || counts="0 1 0"
    # shellcheck disable=SC2086
    set -- $counts
    p=$1 f=$2 s=$3
    [ "$rc" -eq 0 ] || [ "$f" -gt 0 ] || f=1
    echo "$p $f $s $rc" >"$log.result"
    if [ "$f" -gt 0 ]; then
        text=$(printf 'FAIL %-44s %4d passed %3d failed %3d s\n' "$name" "$p" "$f" "$took"; tail -n 25 "$log" | sed 's/^/     | /')
    else
        text=$(printf 'ok   %-44s %4d passed %3d s, processor %3d s' "$name" "$p" "$took" "$cpu")
    fi
    printf '%s\n' "$text" # in one piece, since another test may print at the same time
}
if [ "${1:-}" = --one ]; then
    one "$2"
    exit
fi

export BUILD TIMEOUT LONG
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0:protect_shadow_gap=0}"
export TSAN_OPTIONS="${TSAN_OPTIONS:-suppressions=$PWD/tests/tsan.supp}"
# pyenv's python3 is a script, which looks for the right one at every start: longer than most of what it is started for
case $(command -v python3) in */shims/*) PATH=$(python3 -c 'import os, sys; print(os.path.dirname(sys.executable))'):$PATH ;; esac
mkdir -p "$logs"
pattern=.
[ $# -eq 0 ] || pattern=$(printf '%s|' "$@" | sed 's/|$//')
dirs='tests/unit tests/twin tests/golden tests/property tests/multi'
[ "$LONG" = 0 ] || dirs="$dirs tests/long"

tests=$(for d in $dirs; do
    for f in "$d"/test_*.c; do [ ! -x "$BUILD/${f%.c}" ] || echo "$BUILD/${f%.c}"; done
    for f in "$d"/test_*.sh; do [ ! -x "$f" ] || echo "$f"; done
done | grep -E "$pattern" || true)
[ -n "$tests" ] || { echo "run.sh: no test matches '$pattern' in $BUILD" >&2; exit 2; }

rm -f "$logs"/*.result "$logs/kernels"
[ $# -gt 0 ] || export CUDA_HOST_TALLY="$(cd "$logs" && pwd)/kernels" # which kernels the tests have run, for test_cuda_kernels.sh
source_of() { case $1 in *.sh) echo "$1" ;; *) echo "${1#"$BUILD"/}.c" ;; esac; }
together= waiting= alone=
says() { head -n 12 "$(source_of "$1")" | grep -q "$2"; }
# Those first that wait a minute, and then the scripts: they take longest, and at the end, when one is left, a processor has nothing to do.
tests=$(echo "$tests" | awk '/test_(mpi.sh|shrink|train.sh)$/ { print; next } { rest = rest "\n" $0 } END { print rest }' | sed '/^$/d')
for t in $(echo "$tests" | grep '\.sh$') $(echo "$tests" | grep -v '\.sh$'); do
    if says "$t" 'run alone'; then alone="$alone $t"
    elif says "$t" 'mostly waits'; then waiting="$waiting $t"
    else together="$together $t"; fi
done
# shellcheck disable=SC2086
{
    [ -z "$waiting" ] || printf '%s\n' $waiting | xargs -P "$WAITING" -n 1 "$0" --one &
    [ -z "$together" ] || printf '%s\n' $together | xargs -P "$JOBS" -n 1 "$0" --one
    wait
}
for t in $alone; do one "$t"; done

passed=0 failed=0 skipped=0 reasons= failures=
for t in $tests; do
    name=${t#"$BUILD"/}
    log=$logs/$(echo "$name" | tr / _).log
    p=0 f=1 s=0 rc=-1 # of a test that left no result
    [ ! -f "$log.result" ] || read -r p f s rc <"$log.result"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    [ "$s" -eq 0 ] || reasons="$reasons$(sed -n "s|^SKIP |  $name: |p" "$log" | sort -u)
"
    [ "$f" -eq 0 ] || failures="$failures  $name (exit $rc, log $log)
"
done
[ -z "$reasons" ] || printf 'skipped:\n%s' "$reasons"
[ -z "$failures" ] || printf 'failed:\n%s' "$failures"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
