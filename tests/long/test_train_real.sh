#!/bin/sh
# Training on real data (DATA, default ../shared/data: tinyshakespeare.txt and MNIST's IDX files; what is missing is
# made), in the corners where threads, hosts and phases meet. Run by check-long, also in the sanitizer build: every run
# must end with the same parameters on all ranks, and with no report of a sanitizer.
set -u
BUILD=${BUILD:-build/release}
TAUT=$BUILD/bin/taut
DATA=${DATA:-../shared/data}
MPIRUN=${MPIRUN:-mpirun}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0:protect_shadow_gap=0}"
passed=0 failed=0 skipped=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}
if [ ! -x "$BUILD/libexec/taut-train" ] || ! command -v "$MPIRUN" >/dev/null; then
    skipped=1
    echo "SKIP taut train was not built, or no mpirun"
    finish
fi
text=
[ ! -f "$DATA/tinyshakespeare.txt" ] || text="--data $DATA/tinyshakespeare.txt"

run() { # run RANKS OPTIONS...: ends well, the same parameters everywhere
    ranks=$1
    shift
    timeout -k 5 300 "$MPIRUN" -n "$ranks" "$TAUT" train --json --seed 5 "$@" >"$dir/out" 2>"$dir/err"
    rc=$?
    if [ $rc -eq 0 ] && tail -n 1 "$dir/out" | grep -q '"identical": true' && ! grep -q 'Sanitizer\|runtime error' "$dir/err"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL exit $rc: $ranks ranks, $*"
        head -n 20 "$dir/err"
    fi
}
gpt() { # gpt RANKS OPTIONS...
    n=$1
    shift
    # shellcheck disable=SC2086
    run "$n" --model gpt $text --dim 64 --blocks 1 --ctx 32 --batch 4 --eval-samples 32 --steps 8 "$@"
}

for codec in none fp16 quant:bits=4 grid:rel=0.05 grid:rel=0.05,code=rans topk:density=0.01 randk:density=0.1 powersgd:rank=2 \
    stack:topk:density=0.1+quant:bits=4 auto; do
    gpt 2 --codec "$codec" --objective bytes
done
for algorithm in ring gather; do gpt 3 --codec grid:rel=0.05 --algorithm $algorithm; done
gpt 3 --codec topk:density=0.05 --feedback momentum
TAUT_FAKE_HOSTS=2 gpt 4 --codec quant:bits=4                        # two hosts of two ranks
TAUT_FAKE_HOSTS=2 TAUT_THREADS=2 gpt 3 --codec auto --objective bytes # of which one has a single rank
TAUT_PROGRESS=2 gpt 2 --codec grid:rel=0.05
TAUT_THREADS=3 TAUT_SLICE_KIB=64 gpt 2 --codec quant:bits=2
TAUT_REPLAN_STEPS=2 TAUT_AUDIT_STEPS=1 gpt 2 --codec auto --budget rel=0.05 --objective bytes
TAUT_TRACE="$dir/trace%r.json" gpt 2 --codec quant:bits=4
gpt 2 --codec topk:density=0.05 --checkpoint "$dir/ck" --checkpoint-every 3
gpt 3 --codec topk:density=0.05 --checkpoint "$dir/ck" --resume --steps 12

images=$DATA
if [ ! -f "$DATA/train-images-idx3-ubyte.gz" ]; then # of the same shape, made here: 512 images of noise
    images=$dir/idx
    mkdir "$images"
    { printf '\000\000\010\003\000\000\002\000\000\000\000\034\000\000\000\034'; head -c $((512 * 784)) /dev/urandom; } >"$images/train-images-idx3-ubyte"
    { printf '\000\000\010\001\000\000\002\000'; for i in $(seq 512); do printf "\\00$((i % 8))"; done; } >"$images/train-labels-idx1-ubyte"
fi
mlp="--data $images --batch 8 --eval-samples 64 --steps 8"
# shellcheck disable=SC2086
{
    run 2 --model mlp $mlp --codec auto --objective bytes
    run 3 --model mlp $mlp --codec powersgd:rank=4
    for codec in quant:bits=4 grid:rel=0.05 topk:density=0.01 powersgd:rank=2 auto; do # diverges: NaN and Inf travel
        run 2 --model mlp $mlp --codec $codec --optimizer sgd --lr 1000 --clip 0 --warmup 0
    done
}
finish
