#!/bin/sh
# run_gpu.sh: what a borrowed GPU is for, in under five minutes: every kernel against the CPU's codec, compute-sanitizer on the
# same tests, speeds. The report is $BUILD/gpu.json and the last line of stdout. Where there is no GPU everything is skipped with
# a counted reason; where there is one a skip is a failure.
set -eu
BUILD=${BUILD:-build/gpu}
SANITIZER_SECONDS=${SANITIZER_SECONDS:-60} # for each of its tools
BENCH_N=${BENCH_N:-64M}                    # elements: 256 MiB
tests='twin/test_cuda_vec_quant twin/test_cuda_grid twin/test_cuda_sparse twin/test_cuda_powersgd'
passed=0 failed=0 skipped=0 list=
note() { # name, verdict, seconds
    list="$list${list:+, }{\"name\": \"$1\", \"verdict\": \"$2\", \"seconds\": $3}"
    case $2 in passed) passed=$((passed + 1)) ;; failed) failed=$((failed + 1)) ;; *) skipped=$((skipped + 1)) ;; esac
    printf '%-8s %-50s %3d s\n' "$2" "$1" "$3"
}
run() { # name, command...
    name=$1 begin=$(date +%s) verdict=passed
    shift
    "$@" >"$BUILD/gpu.log" 2>&1 || verdict=failed
    [ $verdict = passed ] || tail -n 30 "$BUILD/gpu.log"
    note "$name" $verdict $(($(date +%s) - begin))
}

gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1 || true)
if [ -z "$gpu" ]; then
    for t in $tests sanitizer bench; do
        echo "SKIP $t: no GPU on this machine"
        skipped=$((skipped + 1))
    done
    echo "$passed passed, $failed failed, $skipped skipped"
    exit 0
fi
export TAUT_TEST_GPU=1 CK_FORK=no # a CUDA context does not survive a fork
for t in $tests; do run "$t" timeout 120 "$BUILD/tests/$t"; done
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        for t in $tests; do
            run "compute-sanitizer $tool ${t#twin/}" timeout "$SANITIZER_SECONDS" compute-sanitizer --tool $tool --error-exitcode 9 "$BUILD/tests/$t"
        done
    done
else
    echo "SKIP compute-sanitizer: not installed; it comes with the CUDA toolkit"
    note compute-sanitizer failed 0
fi
bench=null
if "$BUILD/bin/taut" bench codec --device cuda --n "$BENCH_N" --json >"$BUILD/gpu_bench.log" 2>&1; then
    bench=$(tail -n 1 "$BUILD/gpu_bench.log")
    note 'taut bench codec --device cuda' passed 0
    sed '$d' "$BUILD/gpu_bench.log"
else
    tail -n 20 "$BUILD/gpu_bench.log"
    note 'taut bench codec --device cuda' failed 0
fi
printf '{"gpu": "%s", "passed": %d, "failed": %d, "tests": [%s], "bench": %s}\n' "$gpu" $passed $failed "$list" "$bench" | tee "$BUILD/gpu.json"
[ "$failed" -eq 0 ]
