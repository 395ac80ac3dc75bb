#!/bin/sh
# run_gpu.sh: what a borrowed GPU is for, in under ten minutes: every kernel against the CPU's codec, compute-sanitizer on the
# same tests, allreduces of 2 and 3 ranks on one GPU by MPI and by NCCL against the host's results, one rank of NCCL, a step captured in a graph, the GPT trained
# there and on the CPU, speeds. The report is $BUILD/gpu.json and the last line of stdout. Where there is a GPU a skip is a failure. Where there is none, that is
# said, and what can be run against the doubles is: the kernels on the execution model, all that goes by NCCL by its double on the mock device, the
# refusals of what needs a device; "gpu" is null in the report then.
set -eu
BUILD=${BUILD:-build/gpu}
PARTS=${PARTS:-kernels allreduce graph training python speeds sanitizer} # with a GPU: which of them, in this order
LIMIT_SECONDS=${LIMIT_SECONDS:-540}                               # after which no part begins; the sanitizer has what the others leave
SANITIZER_SECONDS=${SANITIZER_SECONDS:-60}                        # of that, for each of its tools and tests
BENCH_N=${BENCH_N:-64M}                                           # elements: 256 MiB
MPIRUN=${MPIRUN:-mpirun}
PYTHON=${PYTHON:-python3}
PART_SECONDS=${PART_SECONDS:-300} # for each of the doubles' tests
RANKS_SECONDS=${RANKS_SECONDS:-150} # for each job of several ranks
TRAIN_STEPS=${TRAIN_STEPS:-120}
TRAIN_DATA=${TRAIN_DATA:-docs/results.md} # a text that every copy of the project has
began=$(date +%s)
tests='twin/test_cuda_vec_quant twin/test_cuda_grid twin/test_cuda_sparse twin/test_cuda_powersgd'
more='twin/test_cuda_space twin/test_cuda_ops' # the tables above them
doubles='multi/test_nccl multi/test_nccl_agree multi/test_nccl_graph multi/test_nccl_faults multi/test_nccl_bad multi/test_nccl_hosts multi/test_preload_nccl multi/test_staging'
passed=0 failed=0 skipped=0 partly=0 list=
note() { # name, verdict, seconds; partly: no fault as far as its time went
    list="$list${list:+, }{\"name\": \"$1\", \"verdict\": \"$2\", \"seconds\": $3}"
    case $2 in passed) passed=$((passed + 1)) ;; failed) failed=$((failed + 1)) ;; partly) partly=$((partly + 1)) ;; *) skipped=$((skipped + 1)) ;; esac
    printf '%-8s %-50s %3d s\n' "$2" "$1" "$3"
}
run() { # name, command...
    name=$1 begin=$(date +%s) verdict=passed
    shift
    "$@" >"$BUILD/gpu.log" 2>&1 || verdict=failed
    [ $verdict = passed ] || tail -n 30 "$BUILD/gpu.log"
    note "$name" $verdict $(($(date +%s) - begin))
}
report() { # GPU, as JSON; ALLREDUCE and BENCH
    printf '{"gpu": %s, "nccl": %s, "passed": %d, "failed": %d, "partly": %d, "skipped": %d, "seconds": %d, "tests": [%s], "allreduce": {%s}, "train": %s, "bench": %s}\n' \
        "$1" "$nccl_version" $passed $failed $partly $skipped $(($(date +%s) - began)) "$list" "$2" "$3" "$4" |
        tee "$BUILD/gpu.json"
}
# Open MPI 4 and 5: as root, more ranks than cores, and not bound to one core each, where NCCL's threads and ours would take turns
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe PRTE_MCA_hwloc_default_binding_policy=none
mkdir -p "$BUILD"
rm -f "$BUILD"/gpu_*.json "$BUILD"/train_*.json # of an earlier run
nccl_version=null

# What nvidia-smi says of a driver without a device goes to stdout too: only lines of devices count.
gpu=
if nvidia-smi -L 2>/dev/null | grep -q '^GPU [0-9]'; then
    gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '"\\')
    gpu=${gpu:-a GPU that nvidia-smi does not describe}
fi

# ---- without a GPU ----
refuses() { # WORDS COMMAND...: fails within a minute, and says so
    words=$1
    shift
    if timeout 60 "$@" >"$BUILD/refused.log" 2>&1; then return 1; fi
    cat "$BUILD/refused.log"
    grep -q "$words" "$BUILD/refused.log"
}
if [ -z "$gpu" ]; then
    echo 'no GPU on this machine: kernels run on the execution model, NCCL is its double'
    for t in $tests $more $doubles; do
        if [ -x "$BUILD/tests/$t" ]; then run "$t" timeout "$PART_SECONDS" "$BUILD/tests/$t"; else note "$t: not built" skipped 0; fi
    done
    run 'taut bench codec --device cuda is refused' refuses 'CUDA' "$BUILD/bin/taut" bench codec --device cuda --n 1K --json
    if command -v "$MPIRUN" >/dev/null; then
        run 'taut bench allreduce --device cuda is refused, 2 ranks' refuses 'CUDA' "$MPIRUN" -n 2 "$BUILD/bin/taut" bench allreduce --device cuda --codec fp16 --sizes 4K:4K
        if [ -x "$BUILD/libexec/taut-train" ]; then
            run 'taut train --device cuda is refused, 2 ranks' refuses 'CUDA' "$MPIRUN" -n 2 "$BUILD/bin/taut" train --device cuda --steps 2
        else note 'taut train --device cuda: built without libtorch' skipped 0; fi
    fi
    for t in sanitizer 'allreduce by MPI' 'allreduce by NCCL' 'a graph on a GPU' 'training on a GPU' speeds; do note "$t: no GPU" skipped 0; done
    report null '' null null
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
fi

# ---- with one ----
export TEST_GPU=1 CK_FORK=no # a CUDA context does not survive a fork
wanted() { # PART: asked for, and there is time
    case " $PARTS " in *" $1 "*) ;; *) return 1 ;; esac
    [ $(($(date +%s) - began)) -lt "$LIMIT_SECONDS" ] && return
    note "$1: not begun, $LIMIT_SECONDS s are over" failed 0
    return 1
}
if wanted kernels; then
    for t in $tests $more; do run "$t" timeout 120 "$BUILD/tests/$t"; done
fi

# NCCL where the loader finds it, else where a wheel of python's has put it
if ! "$BUILD/bin/taut" info | grep -q '^NCCL  *[0-9]' && [ -z "${TAUT_NCCL_LIBRARY:-}" ]; then
    wheel=$("$PYTHON" -c 'import nvidia.nccl; print(list(nvidia.nccl.__path__)[0] + "/lib/libnccl.so.2")' 2>/dev/null) || wheel=
    [ ! -f "$wheel" ] || export TAUT_NCCL_LIBRARY="$wheel"
fi
nccl=no
if "$BUILD/bin/taut" info | grep -q '^NCCL  *[0-9]'; then
    nccl=yes nccl_version="\"$("$BUILD/bin/taut" info | sed -n 's/^NCCL *\([0-9.]*\).*/\1/p')\""
fi

# ---- several ranks on one GPU ---- A rank calls itself another host, since NCCL before 2.30.3 wants one rank per GPU of a host; later it is told otherwise.
ranks() { # N COMMAND...
    of=$1
    shift
    NCCL_MULTI_RANK_GPU_ENABLE=1 timeout "$RANKS_SECONDS" "$MPIRUN" -n "$of" sh -c 'NCCL_HOSTID=rank${OMPI_COMM_WORLD_RANK:-$PMI_RANK} exec "$@"' - "$@"
}
codecs='--codec fp16 --codec quant:bits=4 --codec grid:rel=0.03 --codec topk:density=0.01' # the same bytes wherever they are made, by the same algorithm,
sizes='--sizes 256K:16M:8 --repeat 6 --warmup 2 --seconds 3600'                            # after as many calls: random rounding goes by their number
same='--algorithm sra'
json_of() { # OUT RANKS SUBCOMMAND...: its last line
    out=$1 of=$2
    shift 2
    ranks "$of" "$BUILD/bin/taut" "$@" >"$out.log" 2>&1 || { cat "$out.log"; return 1; }
    sed '$d' "$out.log"
    tail -n 1 "$out.log" >"$out"
}
allreduce() { # OUT RANKS OPTIONS...
    out=$1 of=$2
    shift 2
    json_of "$out" "$of" bench allreduce --json "$@"
}
# error, identity and codec of each row, to all digits: sums that differ in a bit differ there
sums() { tr '{' '\n' <"$1" | sed -n 's/.*"codec": "\([^"]*\)".*"bytes": \([0-9]*\).*"rel_err2": \([^,]*\), "bit_identical": \([a-z]*\).*/\1 \2 \3 \4/p'; }
same_sums() { # HOST DEVICE
    sums "$1" >"$1.sums" && sums "$2" >"$2.sums"
    [ -s "$1.sums" ] && ! grep -q 'false$' "$2.sums" && diff "$1.sums" "$2.sums"
}
collected=
allreduce=no
if wanted allreduce; then allreduce=yes; fi
for ranks in 2 3; do
    [ "$allreduce" = yes ] || continue
    # shellcheck disable=SC2086
    run "allreduce on the host, $ranks ranks" allreduce "$BUILD/gpu_host_$ranks.json" $ranks $codecs $sizes $same
    # shellcheck disable=SC2086
    run "allreduce on the GPU by MPI, $ranks ranks" allreduce "$BUILD/gpu_mpi_$ranks.json" $ranks --device cuda:0 $codecs $sizes $same
    run "the host's sums, $ranks ranks, by MPI" same_sums "$BUILD/gpu_host_$ranks.json" "$BUILD/gpu_mpi_$ranks.json"
    if [ $nccl = yes ]; then
        # shellcheck disable=SC2086
        run "allreduce on the GPU by NCCL, $ranks ranks" allreduce "$BUILD/gpu_nccl_$ranks.json" $ranks --device cuda:0 --nccl $codecs $sizes $same
        run "the host's sums, $ranks ranks, by NCCL" same_sums "$BUILD/gpu_host_$ranks.json" "$BUILD/gpu_nccl_$ranks.json"
    fi
done
if [ $nccl = yes ] && [ "$allreduce" = yes ]; then
    # shellcheck disable=SC2086
    run 'allreduce on the GPU by NCCL, 1 rank' allreduce "$BUILD/gpu_nccl_1.json" 1 --device cuda:0 --nccl --codec quant:bits=4 $sizes
    # shellcheck disable=SC2086
    run 'auto and sums that NCCL makes itself, 2 ranks' allreduce "$BUILD/gpu_nccl_auto.json" 2 --device cuda:0 --nccl --codec auto --codec none --codec powersgd:rank=4 $sizes
elif [ "$allreduce" = yes ]; then
    echo "SKIP NCCL: $("$BUILD/bin/taut" info | sed -n 's/^NCCL *//p'); TAUT_NCCL_LIBRARY names another file"
    note NCCL failed 0
fi
if [ $nccl = yes ] && wanted graph; then run 'a step captured in a graph, 2 ranks' ranks 2 "$BUILD/tests/bench/graph_mpi"; fi
for f in "$BUILD"/gpu_*_[123].json "$BUILD/gpu_nccl_auto.json"; do [ -s "$f" ] && collected="$collected${collected:+, }\"$(basename "$f" .json)\": $(cat "$f")"; done

# ---- training: the GPT with `auto`, for bytes, within 1% of the CPU's loss ----
training=null
if ! wanted training; then
    :
elif [ -x "$BUILD/libexec/taut-train" ] && "$BUILD/bin/taut" train --device cuda:0 --data "$TRAIN_DATA" --steps 1 --batch 1 --eval-samples 1 >"$BUILD/gpu.log" 2>&1; then
    gpt="train --model gpt --data $TRAIN_DATA --codec auto --objective bytes --steps $TRAIN_STEPS --batch 8 --seed 3 --json"
    # shellcheck disable=SC2086
    run 'the GPT on the CPU, 2 ranks' json_of "$BUILD/train_cpu.json" 2 $gpt
    ways='mpi'
    [ $nccl = yes ] && ways='mpi nccl'
    training="\"cpu\": $(cat "$BUILD/train_cpu.json" 2>/dev/null || echo null)"
    for way in $ways; do
        flag=
        [ "$way" = nccl ] && flag=--nccl
        # shellcheck disable=SC2086
        run "the GPT on the GPU by $way, 2 ranks" json_of "$BUILD/train_$way.json" 2 $gpt --device cuda:0 $flag
        run "its loss is the CPU's, its bytes are few, by $way" sh -c 'of() { sed "s/.*\"$2\": \([0-9.e+-]*\).*/\1/" "$1"; }
            awk -v a="$(of "$1" loss_val)" -v b="$(of "$2" loss_val)" -v r="$(of "$2" ratio)" \
                "BEGIN { print a, b, r; exit !(a > 0 && b <= 1.01 * a && r >= 2) }"' - "$BUILD/train_cpu.json" "$BUILD/train_$way.json"
        training="$training, \"$way\": $(cat "$BUILD/train_$way.json" 2>/dev/null || echo null)"
    done
    training="{$training}"
else
    [ -x "$BUILD/libexec/taut-train" ] || echo 'built without libtorch' >"$BUILD/gpu.log"
    echo "SKIP training: $(tail -n 1 "$BUILD/gpu.log"); make check-gpu TORCH=pip PYTHON=... builds against a libtorch with CUDA"
    note 'training: no libtorch with CUDA' failed 0
fi

# ---- PyTorch on GPUs: the hook, and unmodified programs under the preload library, by a torch with CUDA ----
if ! wanted python; then
    :
elif "$PYTHON" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' >"$BUILD/gpu.log" 2>&1; then
    run 'PyTorch with gradients on the GPU' env BUILD="$BUILD" timeout 200 "$PYTHON" tests/python/check_gpu.py
else
    echo "SKIP PyTorch: $PYTHON has no torch that sees a GPU; PYTHON names another"
    note 'PyTorch: no torch with CUDA' failed 0
fi

bench=null
if ! wanted speeds; then
    :
elif "$BUILD/bin/taut" bench codec --device cuda --n "$BENCH_N" --json >"$BUILD/gpu_bench.log" 2>&1; then
    bench=$(tail -n 1 "$BUILD/gpu_bench.log")
    note 'taut bench codec --device cuda' passed 0
    sed '$d' "$BUILD/gpu_bench.log"
else
    tail -n 20 "$BUILD/gpu_bench.log"
    note 'taut bench codec --device cuda' failed 0
fi

# ---- compute-sanitizer, in the time that is left: a test that is slower under it has passed as far as it went ----
sanitize() { # TOOL TEST
    name="compute-sanitizer $1 ${2#twin/}" begin=$(date +%s) rc=0 verdict=passed
    left=$((LIMIT_SECONDS - begin + began))
    [ "$left" -lt "$SANITIZER_SECONDS" ] || left=$SANITIZER_SECONDS
    if [ "$left" -le 0 ]; then
        note "$name" partly 0
        return
    fi
    timeout "$left" compute-sanitizer --tool "$1" --error-exitcode 9 "$BUILD/tests/$2" >"$BUILD/gpu.log" 2>&1 || rc=$?
    if grep -Eq '^=+ .*(Device not supported|not supported on this)' "$BUILD/gpu.log"; then
        echo "SKIP $name: it refuses this device" && verdict=skipped
    elif [ $rc = 124 ] && ! grep -Eq '^=+ +(Invalid |Uninitialized |(Error|Warning): .*hazard|Program hit )' "$BUILD/gpu.log"; then verdict=partly
    elif [ $rc != 0 ]; then verdict=failed; fi
    [ $verdict != failed ] || tail -n 30 "$BUILD/gpu.log"
    note "$name" $verdict $(($(date +%s) - begin))
}
case " $PARTS " in *' sanitizer '*)
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck; do
            for t in $tests; do sanitize $tool "$t"; done
        done
    else
        echo "SKIP compute-sanitizer: not installed; it comes with the CUDA toolkit"
        note compute-sanitizer failed 0
    fi ;;
esac
report "\"$gpu\"" "$collected" "$training" "$bench"
[ "$failed" -eq 0 ]
