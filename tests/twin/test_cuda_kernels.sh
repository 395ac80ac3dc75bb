#!/bin/sh
# Every kernel in compressors/*/*_cuda.cu is run by the twin tests; kernels and launches are counted. A kernel that no test launches fails here.
# In a run of the whole suite this comes last (run alone), and looks at what the twin tests have noted; else it runs them. LONG=1: under two more
# schedules than the one that they begin with.
set -eu
BUILD=${BUILD:-build/release}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
if [ "${LONG:-0}" = 0 ] && [ -n "${CUDA_HOST_TALLY:-}" ] && [ -s "$CUDA_HOST_TALLY" ]; then
    cp "$CUDA_HOST_TALLY" "$work/tally"
    set --
else
    set -- "$BUILD"/tests/twin/test_cuda_*
fi
for t in "$@"; do
    case $t in *.o | *.d | *.sh | *'*') continue ;; esac
    case $t in *_ops | *_space | *_large) seeds=1 ;; *) [ "${LONG:-0}" = 0 ] && seeds=1 || seeds='1 2' ;; esac # the former run the same kernels, with what only they need
    for seed in $seeds; do
        if CUDA_HOST_TALLY=$work/tally TAUT_TEST_SEED=$seed "$t" >"$work/log" 2>&1; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "${t##*/} under schedule $seed:"
            tail -n 20 "$work/log"
        fi
    done
done
sed 's/[<(].*//' "$work/tally" | sort -u >"$work/ran"
# a kernel's name may stand in the line below
sed -n '/^static __global__/{N;s/__launch_bounds__([^)]*)//;s/\n */ /;s/^[^(]* \([a-z0-9_]*\)(.*/\1/p}' compressors/*/*_cuda*.cu compressors/*/*_cuda.h | sort -u >"$work/written"
echo "$(wc -l <"$work/ran") kernels ran of $(wc -l <"$work/written") written, $(wc -l <"$work/tally") first launches in test processes"
for k in $(comm -13 "$work/ran" "$work/written"); do
    echo "kernel $k: no test runs it"
    failed=$((failed + 1))
done
[ "$(wc -l <"$work/written")" -ge 60 ] && passed=$((passed + 1)) || failed=$((failed + 1))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
