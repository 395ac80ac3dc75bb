#!/bin/sh
# taut data plan, taut data compare and taut train on shards: small shards made here; under MPI where there is one.
# LONG=1: five ranks too, a run stopped three times, and every complaint of several ranks; else two ranks, one stop, and the first of them.
set -u
LONG=${LONG:-0}
BUILD=${BUILD:-build/release}
TAUT=$BUILD/bin/taut
MPIRUN=${MPIRUN:-mpirun}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
. tests/support/shell.sh
if ! "$TAUT" data --help >/dev/null 2>&1; then
    skipped=1
    echo "SKIP taut data was not built (no zstd)"
    finish
fi
# good TEXT COMMAND...: succeeds; bad CODE TEXT COMMAND...: fails with that code and that sentence
good() {
    text=$1
    shift
    if timeout -k 5 $((120 * slow)) "$@" >"$dir/out" 2>"$dir/err"; then pass; else fail "$text: exit $?: $(tail -n 2 "$dir/err")"; fi
}
bad() {
    code=$1 text=$2
    shift 2
    timeout -k 5 $((60 * slow)) "$@" >"$dir/out" 2>"$dir/err"
    rc=$?
    if [ $rc -ne "$code" ]; then fail "$*: exit $rc, expected $code: $(head -n 1 "$dir/err")"
    elif ! grep -q -e "$text" "$dir/err"; then fail "$*: no '$text' in: $(head -n 1 "$dir/err")"
    else pass; fi
}
field() { tail -n 1 "$dir/$2" | sed -n "s/.*\"$1\": *\"\{0,1\}\([^,\"}]*\).*/\1/p"; }
top() { tail -n 1 "$dir/$2" | sed 's/"split": .*//' | sed -n "s/.*\"$1\": *\"\{0,1\}\([^,\"}]*\).*/\1/p"; }
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a < b) }'; }

# ---- shards: 600 and 200 images of 1x12 pixels in 4 classes; a text ----
octal() { awk -v n="$1" -v kind="$2" -v salt="$3" 'BEGIN { srand(salt); for (i = 0; i < n; i++) { c = i % 4
    if (kind == "labels") printf "\\%03o", c; else for (j = 0; j < 12; j++) printf "\\%03o", int(rand() * 90) + (j % 4 == c ? 120 : 0) } }'; }
printf '\000\000\010\003\000\000\002\130\000\000\000\001\000\000\000\014'"$(octal 600 images 1)" >"$dir/train-images-idx3-ubyte"
printf '\000\000\010\001\000\000\002\130'"$(octal 600 labels 1)" >"$dir/train-labels-idx1-ubyte"
printf '\000\000\010\003\000\000\000\310\000\000\000\001\000\000\000\014'"$(octal 200 images 2)" >"$dir/val-images-idx3-ubyte"
printf '\000\000\010\001\000\000\000\310'"$(octal 200 labels 2)" >"$dir/val-labels-idx1-ubyte"
pack() { good "pack $2" "$TAUT" data pack "$@"; }
pack "$dir/train-images-idx3-ubyte" "$dir/train-labels-idx1-ubyte" -o "$dir/a.taut" --samples-per-block 16 --field image=zstd --field label=raw
pack "$dir/val-images-idx3-ubyte" "$dir/val-labels-idx1-ubyte" -o "$dir/val.taut" --samples-per-block 16 --field image=zstd --field label=raw
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "%d and %d, ", i, i * i % 97 }' >"$dir/text.txt"
pack "$dir/text.txt" -o "$dir/text.taut" --split windows --window 100 --codec zstd

# ---- plans ----
good "rs2" "$TAUT" data plan rs2 "$dir/a.taut" -o "$dir/rs2.plan" --budget 10% --rounds 20 --seed 3 --json
if [ "$(field samples out)" = 60 ] && [ "$(field rounds out)" = 20 ] && [ "$(field hash out)" = "$(sed -n 's/^end //p' "$dir/rs2.plan")" ]; then pass; else fail "plan: $(tail -n 1 "$dir/out")"; fi
good "strata" "$TAUT" data plan 'static:budget=50%|rs2:budget=20%' "$dir/a.taut" -o "$dir/strata.plan" --strata label
good "two shards" "$TAUT" data plan full "$dir/a.taut" "$dir/val.taut" -o "$dir/two.plan"
if [ "$(grep -c '^shard ' "$dir/two.plan")" = 2 ]; then pass; else fail "two shards"; fi
bad 2 "must be full, static, rs2, mix, list or a method" "$TAUT" data plan rs3 "$dir/a.taut" -o "$dir/x.plan"
bad 2 "needs a budget" "$TAUT" data plan rs2 "$dir/a.taut" -o "$dir/x.plan"
bad 2 "budget=700: must be 1..600" "$TAUT" data plan static "$dir/a.taut" -o "$dir/x.plan" --budget 700
bad 1 "no field 'label' for the strata; its fields: text" "$TAUT" data plan rs2 "$dir/text.taut" -o "$dir/x.plan" --budget 10% --strata label
bad 1 "nothere.taut" "$TAUT" data plan full "$dir/nothere.taut" -o "$dir/x.plan"
bad 2 "is missing" "$TAUT" data plan full "$dir/a.taut"
if [ ! -e "$dir/x.plan" ]; then pass; else fail "a failed plan left a file"; fi

if [ ! -x "$BUILD/libexec/taut-train" ]; then
    skipped=1
    echo "SKIP taut train was not built (no libtorch)"
    finish
fi
small="--model mlp --dim 16 --blocks 1 --codec none --data $dir/a.taut --validation $dir/val.taut --lr 0.02 --json"

# ---- one process: learns; steps come from the plan; the same seed gives the same run ----
# shellcheck disable=SC2086
good "train" "$TAUT" train $small --plan "$dir/rs2.plan" --batch 12
if [ "$(top steps out)" = 100 ] && less 0.9 "$(top accuracy_val out)"; then pass; else fail "train: $(top steps out) steps, accuracy $(top accuracy_val out)"; fi
alone=$(top loss_val out)
# shellcheck disable=SC2086
good "again" "$TAUT" train $small --plan "$dir/rs2.plan" --batch 12 --data-cache 4K --data-threads 1 --data-ahead 1
if [ -n "$alone" ] && [ "$(top loss_val out)" = "$alone" ]; then pass; else fail "less memory, another run: $alone, $(top loss_val out)"; fi
# shellcheck disable=SC2086
[ "$LONG" = 0 ] || good "schedule" "$TAUT" train $small --plan "$dir/strata.plan" --batch 10 --schedule cosine --rounds 7
[ "$LONG" = 0 ] || if [ "$(top steps out)" = 42 ]; then pass; else fail "rounds: $(top steps out) steps"; fi
good "text" "$TAUT" train --model gpt --dim 16 --blocks 1 --heads 2 --ctx 24 --codec none --data "$dir/text.taut" --steps 30 --batch 4 --eval-samples 32 --json
if less "$(top loss_val out)" "$(top loss_first out)"; then pass; else fail "text: $(top loss_first out) -> $(top loss_val out)"; fi
good "no plan" "$TAUT" train --model mlp --dim 16 --codec none --data "$dir/a.taut,$dir/val.taut" --steps 5 --batch 8 --json
if grep -q 'validated on training samples' "$dir/out"; then pass; else fail "validation on training samples is not told"; fi
mkdir "$dir/folder"
cp "$dir/a.taut" "$dir/val.taut" "$dir/folder/"
good "folder" "$TAUT" train --model mlp --dim 16 --codec none --data "$dir/folder" --plan "$dir/two.plan" --steps 5 --batch 8

# ---- bad input; what other tests see of the same reader, with LONG=1 only ----
rare() { [ "$LONG" = 0 ] || "$@"; }
quick="--model mlp --dim 8 --codec none --steps 2"
# shellcheck disable=SC2086
{
    cp "$dir/val.taut" "$dir/folder/a.taut"
    bad 1 "made for a shard a.taut with hash [0-9a-f]* and 600 samples; .*folder/a.taut has hash" "$TAUT" train $quick --data "$dir/folder/a.taut" --plan "$dir/rs2.plan"
    rare bad 1 "its shard val.taut .* is not among the 1 given" "$TAUT" train $quick --data "$dir/a.taut" --plan "$dir/two.plan"
    sed 's/keep 60/keep 61/' "$dir/rs2.plan" >"$dir/edited.plan"
    bad 1 "edited.plan: line 7: the plan was changed" "$TAUT" train $quick --data "$dir/a.taut" --plan "$dir/edited.plan"
    head -n 3 "$dir/rs2.plan" >"$dir/cut.plan"
    rare bad 1 "cut.plan: the plan is cut off" "$TAUT" train $quick --data "$dir/a.taut" --plan "$dir/cut.plan"
    printf '{"x":[1.5,2],"label":-1}\n{"x":[2.5,1],"label":1}\n' >"$dir/signs.jsonl"
    pack "$dir/signs.jsonl" -o "$dir/signs.taut"
    bad 1 "field 'label': class -1: must be 0" "$TAUT" train $quick --data "$dir/signs.taut" --batch 1
    printf 'x,label\n1.5,0\nnan,1\n' >"$dir/nan.csv"
    pack "$dir/nan.csv" -o "$dir/nan.taut"
    bad 1 "field 'x': a value is -\{0,1\}nan: must be finite" "$TAUT" train $quick --data "$dir/nan.taut" --batch 1
    bad 1 "score=.*nowhere/s.txt: cannot be written" "$TAUT" train $quick --data "$dir/a.taut" --batch 6 --score "$dir/nowhere/s.txt"
    rare bad 1 "nothere.taut" "$TAUT" train $quick --data "$dir/nothere.taut"
    bad 1 "no field of kind label\|no field that mlp" "$TAUT" train $quick --data "$dir/text.taut"
    bad 2 "batch=61: must be at least 1 .* at most the 60 of a round" "$TAUT" train $quick --data "$dir/a.taut" --plan "$dir/rs2.plan" --batch 61
    rare bad 2 "the plan has 20 steps" "$TAUT" train --model mlp --codec none --data "$dir/a.taut" --plan "$dir/rs2.plan" --batch 60 --steps 21
    rare bad 2 "need --data with shards" "$TAUT" train $quick --data "$dir/text.txt" --plan "$dir/rs2.plan"
    head -c 3000 "$dir/a.taut" >"$dir/short.taut"
    rare bad 1 "short.taut" "$TAUT" train $quick --data "$dir/short.taut"
    size=$(wc -c <"$dir/a.taut")
    cp "$dir/a.taut" "$dir/hurt.taut"
    printf 'XXXX' | dd of="$dir/hurt.taut" bs=1 seek=$((size / 3)) conv=notrunc 2>/dev/null
    rare bad 1 "hurt.taut.*\(block\|damaged\)" "$TAUT" train $quick --data "$dir/hurt.taut" --steps 60 --batch 10
}

# ---- compare ----
seeds=2
[ "$LONG" != 0 ] || seeds=1
good "compare" "$TAUT" data compare "$dir/a.taut" --validation "$dir/val.taut" --budget 10% --rounds 3 --seeds $seeds --batch 10 --lr 0.02 --train-option dim=16 \
    --method rs2 --method 'static:strata=label' --csv "$dir/curve.csv" --json
if [ "$(grep -c '^| ' "$dir/out")" = 4 ] && [ "$(wc -l <"$dir/curve.csv")" = 4 ] && tail -n 1 "$dir/out" | grep -q '"different": 180.*"different": 60.*"different": 180'; then pass; else
    fail "compare: $(cat "$dir/out" | head -n 8)"; fi
if command -v gnuplot >/dev/null; then
    good "figure" "$TAUT" data compare "$dir/a.taut" --validation "$dir/val.taut" --budget 60 --rounds 2 --seeds 1 --batch 10 --method rs2 --train-option dim=8 --figure "$dir/x.svg"
    if grep -q '</svg>' "$dir/x.svg"; then pass; else fail "figure"; fi
else
    skipped=$((skipped + 1))
    echo "SKIP no gnuplot: no figure of taut data compare"
fi
bad 2 "validation SHARDS is missing" "$TAUT" data compare "$dir/a.taut"
bad 1 "a run failed: taut train: .*nothere" "$TAUT" data compare "$dir/a.taut" --validation "$dir/nothere.taut" --rounds 1 --seeds 1 --batch 10

# ---- ranks: the order, and so the result, does not depend on how many there are; stopped runs go on, on another number ----
if ! command -v "$MPIRUN" >/dev/null || ! "$TAUT" info --json | grep -q '"mpi": true'; then
    skipped=$((skipped + 1))
    echo "SKIP no mpirun, or built without MPI"
    finish
fi
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && b != "" && d <= 1e-3 * a) }'; }
ranks() { # ranks N OPTIONS...
    n=$1
    shift
    # shellcheck disable=SC2086
    good "$n ranks: $*" "$MPIRUN" -n "$n" "$TAUT" train $small --plan "$dir/rs2.plan" --global-batch 12 "$@"
}
[ "$LONG" = 0 ] && counts=2 || counts="2 5"
for n in $counts; do # 5: slices of 3, 3, 2, 2, 2, which weights make equal; float sums differ in their last bits only
    ranks $n
    if near "$(top loss_val out)" "$alone" && [ "$(top identical out)" = true ]; then pass; else fail "$n ranks: loss $(top loss_val out), one rank $alone"; fi
    if [ "$(field sharing_ranks out)" = "$n" ] && less "$(field decodes_per_block out)" 1.05; then pass; else fail "$n ranks: $(tail -n 1 "$dir/out" | sed 's/.*"data"//; s/"layers".*//')"; fi
done
ranks 2 --steps 40 --checkpoint "$dir/ck"
last=40
if [ "$LONG" != 0 ]; then
    ranks 3 --steps 41 --checkpoint "$dir/ck" --resume
    ranks 1 --steps 90 --checkpoint "$dir/ck" --resume
    last=90
fi
ranks 3 --checkpoint "$dir/ck" --resume
if near "$(top loss_val out)" "$alone" && [ "$(top first_step out)" = $last ]; then pass; else fail "stopped at $last: loss $(top loss_val out), never stopped $alone"; fi
# shellcheck disable=SC2086
{
    good "static of 3" "$TAUT" data plan static "$dir/a.taut" -o "$dir/three.plan" --budget 3 --rounds 50
    bad 2 "only 3 samples, fewer than ranks" "$MPIRUN" -n 4 "$TAUT" train $small --plan "$dir/three.plan" --global-batch 3
    bad 1 "hurt.taut.*\(block\|damaged\)" "$MPIRUN" -n 2 "$TAUT" train --model mlp --codec none --data "$dir/hurt.taut" --steps 60 --global-batch 30
}
# shellcheck disable=SC2086
if [ "$LONG" != 0 ]; then
    good "the batch is that of the checkpoint" "$MPIRUN" -n 2 "$TAUT" train $small --plan "$dir/rs2.plan" --steps 95 --checkpoint "$dir/ck2" --global-batch 12
    good "and is remembered" "$MPIRUN" -n 3 "$TAUT" train $small --plan "$dir/rs2.plan" --checkpoint "$dir/ck2" --resume
    bad 1 "saved with 12 samples in a step, now 13" "$MPIRUN" -n 2 "$TAUT" train $small --plan "$dir/rs2.plan" --steps 110 --checkpoint "$dir/ck2" --resume --global-batch 13 --rounds 30
    bad 1 "of a plan with hash" "$MPIRUN" -n 2 "$TAUT" train $small --plan "$dir/strata.plan" --rounds 300 --checkpoint "$dir/ck2" --resume
    bad 2 "at least 1 sample for each of 4 ranks" "$MPIRUN" -n 4 "$TAUT" train $small --plan "$dir/rs2.plan" --global-batch 3
    good "a sample a rank" "$MPIRUN" -n 3 "$TAUT" train $small --plan "$dir/three.plan" --global-batch 3 --steps 3
    good "a last step of fewer samples than ranks" "$MPIRUN" -n 4 "$TAUT" train $small --plan "$dir/rs2.plan" --global-batch 59
    bad 1 "a.taut" "$MPIRUN" -n 3 "$TAUT" train $small --data "$dir/folder/a.taut" --plan "$dir/rs2.plan"
fi

# ---- killed: no shared memory stays ----
before=$(ls /dev/shm 2>/dev/null | grep -c taut)
# shellcheck disable=SC2086
timeout -s KILL 4 "$MPIRUN" -n 2 "$TAUT" train $small --plan "$dir/rs2.plan" --rounds 100000 --global-batch 12 --eval-every 0 >/dev/null 2>&1
sleep 1
if [ "$(ls /dev/shm 2>/dev/null | grep -c taut)" = "$before" ]; then pass; else fail "shared memory stays: $(ls /dev/shm)"; fi
finish
