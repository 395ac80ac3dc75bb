#!/bin/sh
# The race checker: the twin tests of the CUDA kernels with every CUDA thread a thread to TSan, under three schedules each (SEEDS), and
# kernels that race on purpose.
set -eu
twins=$(cd tests/twin && ls test_cuda_*.c | sed 's|\.c$||; s|^|twin/|')
# shellcheck disable=SC2086
make -s MODE=tsan TORCH=0 $(printf 'build/tsan/tests/%s ' unit/test_cuda_host $twins) >/dev/null
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export TSAN_OPTIONS="${TSAN_OPTIONS:-} halt_on_error=1 exitcode=66"
check() { # TEST SEED
    if CK_TIMEOUT_MULTIPLIER=20 TAUT_TEST_SEED=$2 "build/tsan/tests/$1" >"$log" 2>&1 && ! grep -q 'WARNING: ThreadSanitizer' "$log"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$1, schedule $2:"
        grep -A 12 -m 1 'WARNING: ThreadSanitizer' "$log" || tail -n 20 "$log"
    fi
}
check unit/test_cuda_host 0 # goes through schedules of its own
for seed in ${SEEDS:-1 2 3}; do
    for t in $twins; do check "$t" "$seed"; done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
