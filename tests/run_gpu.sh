#!/bin/sh
# run_gpu.sh: what a borrowed GPU is for, in under ten minutes: every kernel against the CPU's codec, compute-sanitizer on the
# same tests, allreduces of 2 and 3 ranks on one GPU by MPI and by NCCL against the host's results, speeds. The report is $BUILD/gpu.json and the last line of stdout. Where there is no GPU everything is skipped with
# a counted reason; where there is one a skip is a failure.
set -eu
BUILD=${BUILD:-build/gpu}
SANITIZER_SECONDS=${SANITIZER_SECONDS:-60} # for each of its tools
BENCH_N=${BENCH_N:-64M}                    # elements: 256 MiB
MPIRUN=${MPIRUN:-mpirun}
tests='twin/test_cuda_vec_quant twin/test_cuda_grid twin/test_cuda_sparse twin/test_cuda_powersgd'
more='twin/test_cuda_space twin/test_cuda_ops' # the tables above them
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
    for t in $tests $more sanitizer allreduce-mpi allreduce-nccl bench; do
        echo "SKIP $t: no GPU on this machine"
        skipped=$((skipped + 1))
    done
    echo "$passed passed, $failed failed, $skipped skipped"
    exit 0
fi
export TAUT_TEST_GPU=1 CK_FORK=no # a CUDA context does not survive a fork
for t in $tests $more; do run "$t" timeout 120 "$BUILD/tests/$t"; done
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

# ---- allreduces: several ranks on one GPU ----
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
codecs='--codec fp16 --codec quant:bits=4 --codec grid:rel=0.03 --codec topk:density=0.01' # the same bytes wherever they are made
sizes='--sizes 256K:16M:8 --repeat 10'
allreduce() { # OUT RANKS OPTIONS...: a rank calls itself another host, since NCCL before 2.30.3 wants one rank per GPU of a host; later it is told otherwise
    out=$1 ranks=$2
    shift 2
    NCCL_MULTI_RANK_GPU_ENABLE=1 timeout 150 "$MPIRUN" -n "$ranks" sh -c 'NCCL_HOSTID=rank${OMPI_COMM_WORLD_RANK:-$PMI_RANK} exec "$@"' - \
        "$BUILD/bin/taut" bench allreduce --json "$@" >"$out.log" 2>&1 || { cat "$out.log"; return 1; }
    sed '$d' "$out.log"
    tail -n 1 "$out.log" >"$out"
}
# error, identity and codec of each row, to all digits: sums that differ in a bit differ there
sums() { tr '{' '\n' <"$1" | sed -n 's/.*"codec": "\([^"]*\)".*"bytes": \([0-9]*\).*"rel_err2": \([^,]*\), "bit_identical": \([a-z]*\).*/\1 \2 \3 \4/p'; }
same_sums() { # HOST DEVICE
    sums "$1" >"$1.sums" && sums "$2" >"$2.sums"
    [ -s "$1.sums" ] && ! grep -q 'false$' "$2.sums" && diff "$1.sums" "$2.sums"
}
nccl=no
"$BUILD/bin/taut" info | grep -q '^NCCL  *[0-9]' && nccl=yes
collected=
for ranks in 2 3; do
    # shellcheck disable=SC2086
    run "allreduce on the host, $ranks ranks" allreduce "$BUILD/gpu_host_$ranks.json" $ranks $codecs $sizes
    # shellcheck disable=SC2086
    run "allreduce on the GPU by MPI, $ranks ranks" allreduce "$BUILD/gpu_mpi_$ranks.json" $ranks --device cuda:0 $codecs $sizes
    run "the host's sums, $ranks ranks, by MPI" same_sums "$BUILD/gpu_host_$ranks.json" "$BUILD/gpu_mpi_$ranks.json"
    if [ $nccl = yes ]; then
        # shellcheck disable=SC2086
        run "allreduce on the GPU by NCCL, $ranks ranks" allreduce "$BUILD/gpu_nccl_$ranks.json" $ranks --device cuda:0 --nccl $codecs $sizes
        run "the host's sums, $ranks ranks, by NCCL" same_sums "$BUILD/gpu_host_$ranks.json" "$BUILD/gpu_nccl_$ranks.json"
    fi
done
if [ $nccl = yes ]; then
    run 'allreduce on the GPU by NCCL, 1 rank' allreduce "$BUILD/gpu_nccl_1.json" 1 --device cuda:0 --nccl --codec quant:bits=4 $sizes
    run 'auto and sums that NCCL makes itself, 2 ranks' allreduce "$BUILD/gpu_nccl_auto.json" 2 --device cuda:0 --nccl --codec auto --codec none --codec powersgd:rank=4 $sizes
else
    echo "SKIP NCCL: $("$BUILD/bin/taut" info | sed -n 's/^NCCL *//p')"
    note NCCL failed 0
fi
for f in "$BUILD"/gpu_*_[123].json "$BUILD/gpu_nccl_auto.json"; do [ -s "$f" ] && collected="$collected${collected:+, }\"$(basename "$f" .json)\": $(cat "$f")"; done

bench=null
if "$BUILD/bin/taut" bench codec --device cuda --n "$BENCH_N" --json >"$BUILD/gpu_bench.log" 2>&1; then
    bench=$(tail -n 1 "$BUILD/gpu_bench.log")
    note 'taut bench codec --device cuda' passed 0
    sed '$d' "$BUILD/gpu_bench.log"
else
    tail -n 20 "$BUILD/gpu_bench.log"
    note 'taut bench codec --device cuda' failed 0
fi
printf '{"gpu": "%s", "passed": %d, "failed": %d, "tests": [%s], "allreduce": {%s}, "bench": %s}\n' "$gpu" $passed $failed "$list" "$collected" "$bench" | tee "$BUILD/gpu.json"
[ "$failed" -eq 0 ]
