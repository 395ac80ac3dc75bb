#!/bin/sh
# The race checker: the twin tests of the CUDA kernels with every CUDA thread a thread to TSan, and kernels that race on purpose.
set -eu
make -s MODE=tsan BUILD=build/tsan MPI=0 TORCH=0 build/tsan/tests/unit/test_cuda_host build/tsan/tests/twin/test_cuda_vec_quant \
    build/tsan/tests/twin/test_cuda_grid build/tsan/tests/twin/test_cuda_sparse build/tsan/tests/twin/test_cuda_powersgd \
    build/tsan/tests/twin/test_cuda_ops build/tsan/tests/twin/test_cuda_space >/dev/null
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export TSAN_OPTIONS="${TSAN_OPTIONS:-} halt_on_error=1 exitcode=66"
for t in unit/test_cuda_host twin/test_cuda_vec_quant twin/test_cuda_grid twin/test_cuda_sparse twin/test_cuda_powersgd twin/test_cuda_ops twin/test_cuda_space; do
    if CK_TIMEOUT_MULTIPLIER=20 build/tsan/tests/$t >"$log" 2>&1 && ! grep -q 'WARNING: ThreadSanitizer' "$log"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$t:"
        grep -A 12 -m 1 'WARNING: ThreadSanitizer' "$log" || tail -n 20 "$log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
