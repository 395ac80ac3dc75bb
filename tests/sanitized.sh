#!/bin/sh
# sanitized.sh PROGRAM... : test programs of the Check framework, one after the other; ends with the sum of their checks. A sanitizer ends the process of
# the test in which it finds something, which is then a failure.
set -u
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0}" UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
for program in "$@"; do
    timeout -k 10 "${TIMEOUT:-600}" "$program" >"$log" 2>&1
    rc=$?
    counts=$(sed -n 's/^[0-9]*%: Checks: \([0-9]*\), Failures: \([0-9]*\), Errors: \([0-9]*\)$/\1 \2 \3/p' "$log")
    # shellcheck disable=SC2086
    set -- ${counts:-1 1 0}
    passed=$((passed + $1 - $2 - $3)) failed=$((failed + $2 + $3))
    [ "$rc" -eq 0 ] && continue
    [ $(($2 + $3)) -gt 0 ] || failed=$((failed + 1))
    echo "FAIL $program (exit $rc)"
    grep -a -m 1 -A 12 'ERROR: AddressSanitizer\|runtime error:' "$log" || tail -n 15 "$log"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
