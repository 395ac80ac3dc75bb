#!/bin/sh
# run.sh: run every test of $BUILD and close with one line "N passed, N failed, N skipped".
#   BUILD=build/release tests/run.sh [PATTERN ...]     only tests whose path matches a PATTERN (grep -E)
# A test is an executable of the Check framework (its line "NN%: Checks: a, Failures: b, Errors: c" is read) or a
# script tests/*/test_*.sh whose last line is "N passed, N failed[, N skipped]". A line "SKIP reason" is counted and
# repeated at the end. A test that prints no such line counts as one failure.
set -eu
BUILD=${BUILD:-build/release}
TIMEOUT=${TIMEOUT:-600} # seconds for one test program
LONG=${LONG:-0}         # 1: tests/long too
export BUILD
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0:protect_shadow_gap=0}"

logs=$BUILD/tests/logs
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

passed=0 failed=0 skipped=0 reasons= failures=
for t in $tests; do
    name=${t#"$BUILD"/}
    log=$logs/$(echo "$name" | tr / _).log
    begin=$(date +%s)
    rc=0
    timeout -k 10 "$TIMEOUT" "$t" >"$log" 2>&1 || rc=$?
    took=$(($(date +%s) - begin))
    # several suites in one program print several lines: add them up
    counts=$(awk '/^[0-9]+%: Checks: /{gsub(",",""); n++; c+=$3; b+=$5+$7}
                  /^[0-9]+ passed, [0-9]+ failed/{gsub(",",""); n++; c+=$1+$3; b+=$3; if ($6=="skipped") {told=1; s+=$5}}
                  /^SKIP /{seen++}
                  END{if (n) print c-b, b, told ? s : seen+0}' "$log")
    [ -n "$counts" ] || counts="0 1 0"
    set -- $counts
    p=$1 f=$2 s=$3
    [ "$rc" -eq 0 ] || [ "$f" -gt 0 ] || f=1
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    reasons=$reasons$(sed -n "s|^SKIP |  $name: |p" "$log" | sort -u)
    [ "$s" -eq 0 ] || reasons="$reasons
"
    if [ "$f" -gt 0 ]; then
        failures="$failures  $name (exit $rc, log $log)
"
        printf 'FAIL %-44s %4d passed %3d failed %3d s\n' "$name" "$p" "$f" "$took"
        tail -n 25 "$log" | sed 's/^/     | /'
    else
        printf 'ok   %-44s %4d passed %3d s\n' "$name" "$p" "$took"
    fi
done
[ -z "$reasons" ] || printf 'skipped:\n%s' "$reasons"
[ -z "$failures" ] || printf 'failed:\n%s' "$failures"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
