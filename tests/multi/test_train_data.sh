#!/bin/sh
# taut data plan, taut data compare and taut train on shards: small shards made here; under MPI where there is one.
# Jobs of taut train run one after the other in one process a rank (train_jobs.c), since starting libtorch takes longer than most of them.
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
# job RANKS NAME OPTIONS...: is run by run_jobs RANKS, behind those that came before it; what it says is in NAME.out and NAME.err
job() {
    n=$1
    shift
    echo "$*" >>"$dir/jobs.$n"
}
run_jobs() {
    [ "$1" = 1 ] && run= || run="$MPIRUN -n $1"
    # shellcheck disable=SC2086
    timeout -k 5 $((240 * slow)) $run "$BUILD/tests/multi/train_jobs" "$dir" "$dir/jobs.$1" >"$dir/jobs.log" 2>&1 || fail "jobs of $1 ranks: exit $?: $(tail -n 3 "$dir/jobs.log")"
    rm -f "$dir/jobs.$1"
}
rc_of() { cat "$dir/$1.rc" 2>/dev/null || echo "none, the job did not end"; }
ended() { if [ "$(rc_of "$1")" = 0 ]; then pass; else fail "$1: exit $(rc_of "$1"): $(tail -n 2 "$dir/$1.err")"; fi; }
# wrong RANKS CODE TEXT OPTIONS...: a job that fails with that code and that sentence, which judge_wrong looks at
wrongs=0
wrong() {
    wrongs=$((wrongs + 1))
    printf '%s\t%s\twrong%s\n' "$2" "$3" $wrongs >>"$dir/wrong"
    n=$1
    shift 3
    job "$n" wrong$wrongs "$@"
}
judge_wrong() {
    while IFS="$(printf '\t')" read -r code text name; do
        if [ "$(rc_of "$name")" != "$code" ]; then fail "$name: exit $(rc_of "$name"), expected $code with '$text': $(head -n 1 "$dir/$name.err")"
        elif ! grep -q -e "$text" "$dir/$name.err"; then fail "$name: no '$text' in: $(head -n 1 "$dir/$name.err")"
        else pass; fi
    done <"$dir/wrong"
    rm -f "$dir/wrong"
}
small="--model mlp --dim 16 --blocks 1 --codec none --data $dir/a.taut --validation $dir/val.taut --lr 0.02 --json"

# ---- one process: learns; steps come from the plan; the same seed gives the same run ----
# shellcheck disable=SC2086
{
    job 1 train $small --plan "$dir/rs2.plan" --batch 12
    job 1 again $small --plan "$dir/rs2.plan" --batch 12 --data-cache 4K --data-threads 1 --data-ahead 1
    [ "$LONG" = 0 ] || job 1 schedule $small --plan "$dir/strata.plan" --batch 10 --schedule cosine --rounds 7
}
job 1 text --model gpt --dim 16 --blocks 1 --heads 2 --ctx 24 --codec none --data "$dir/text.taut" --steps 30 --batch 4 --eval-samples 32 --json
job 1 planless --model mlp --dim 16 --codec none --data "$dir/a.taut,$dir/val.taut" --steps 5 --batch 8 --json
mkdir "$dir/folder" "$dir/other"
cp "$dir/a.taut" "$dir/val.taut" "$dir/folder/"
job 1 folder-of-shards --model mlp --dim 16 --codec none --data "$dir/folder" --plan "$dir/two.plan" --steps 5 --batch 8

# ---- bad input; what other tests see of the same reader, with LONG=1 only ----
rare() { [ "$LONG" = 0 ] || "$@"; }
quick="--model mlp --dim 8 --codec none --steps 2"
# shellcheck disable=SC2086
{
    cp "$dir/val.taut" "$dir/other/a.taut"
    wrong 1 1 "made for a shard a.taut with hash [0-9a-f]* and 600 samples; .*other/a.taut has hash" $quick --data "$dir/other/a.taut" --plan "$dir/rs2.plan"
    rare wrong 1 1 "its shard val.taut .* is not among the 1 given" $quick --data "$dir/a.taut" --plan "$dir/two.plan"
    sed 's/keep 60/keep 61/' "$dir/rs2.plan" >"$dir/edited.plan"
    wrong 1 1 "edited.plan: line 7: the plan was changed" $quick --data "$dir/a.taut" --plan "$dir/edited.plan"
    head -n 3 "$dir/rs2.plan" >"$dir/cut.plan"
    rare wrong 1 1 "cut.plan: the plan is cut off" $quick --data "$dir/a.taut" --plan "$dir/cut.plan"
    printf '{"x":[1.5,2],"label":-1}\n{"x":[2.5,1],"label":1}\n' >"$dir/signs.jsonl"
    pack "$dir/signs.jsonl" -o "$dir/signs.taut"
    wrong 1 1 "field 'label': class -1: must be 0" $quick --data "$dir/signs.taut" --batch 1
    printf 'x,label\n1.5,0\nnan,1\n' >"$dir/nan.csv"
    pack "$dir/nan.csv" -o "$dir/nan.taut"
    wrong 1 1 "field 'x': a value is -\{0,1\}nan: must be finite" $quick --data "$dir/nan.taut" --batch 1
    wrong 1 1 "score=.*nowhere/s.txt: cannot be written" $quick --data "$dir/a.taut" --batch 6 --score "$dir/nowhere/s.txt"
    wrong 1 2 "log .*val.taut: is .*val.taut, which is read" $quick --data "$dir/a.taut,$dir/val.taut" --log "$dir/val.taut"
    wrong 1 2 "log .*val.taut: is .*val.taut, which is read" $quick --data "$dir/a.taut" --validation "$dir/val.taut" --log "$dir/val.taut"
    wrong 1 2 "score .*rs2.plan: is .*rs2.plan, which is read" $quick --data "$dir/a.taut" --plan "$dir/rs2.plan" --batch 6 --score "$dir/rs2.plan"
    rare wrong 1 1 "nothere.taut" $quick --data "$dir/nothere.taut"
    wrong 1 1 "no field of kind label\|no field that mlp" $quick --data "$dir/text.taut"
    wrong 1 2 "batch=61: must be at least 1 .* at most the 60 of a round" $quick --data "$dir/a.taut" --plan "$dir/rs2.plan" --batch 61
    rare wrong 1 2 "the plan has 20 steps" --model mlp --codec none --data "$dir/a.taut" --plan "$dir/rs2.plan" --batch 60 --steps 21
    rare wrong 1 2 "need --data with shards" $quick --data "$dir/text.txt" --plan "$dir/rs2.plan"
    head -c 3000 "$dir/a.taut" >"$dir/short.taut"
    rare wrong 1 1 "short.taut" $quick --data "$dir/short.taut"
    size=$(wc -c <"$dir/a.taut")
    cp "$dir/a.taut" "$dir/hurt.taut"
    printf 'XXXX' | dd of="$dir/hurt.taut" bs=1 seek=$((size / 3)) conv=notrunc 2>/dev/null
    rare wrong 1 1 "hurt.taut.*\(block\|damaged\)" $quick --data "$dir/hurt.taut" --steps 60 --batch 10
}
run_jobs 1
ended train
if [ "$(top steps train.out)" = 100 ] && less 0.9 "$(top accuracy_val train.out)"; then pass; else fail "train: $(top steps train.out) steps, accuracy $(top accuracy_val train.out)"; fi
alone=$(top loss_val train.out)
ended again
if [ -n "$alone" ] && [ "$(top loss_val again.out)" = "$alone" ]; then pass; else fail "less memory, another run: $alone, $(top loss_val again.out)"; fi
[ "$LONG" = 0 ] || ended schedule
[ "$LONG" = 0 ] || if [ "$(top steps schedule.out)" = 42 ]; then pass; else fail "rounds: $(top steps schedule.out) steps"; fi
ended text
if less "$(top loss_val text.out)" "$(top loss_first text.out)"; then pass; else fail "text: $(top loss_first text.out) -> $(top loss_val text.out)"; fi
ended planless
if grep -q 'validated on training samples' "$dir/planless.out"; then pass; else fail "validation on training samples is not told"; fi
ended folder-of-shards
judge_wrong

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
plain=$small small="$small --global-batch 12 --plan $dir/rs2.plan"
# shellcheck disable=SC2086
{
    good "static of 2" "$TAUT" data plan static "$dir/a.taut" -o "$dir/few.plan" --budget 2 --rounds 50
    job 2 of-2 $small
    job 2 stopped $small --steps 40 --checkpoint "$dir/ck"
    wrong 2 1 "hurt.taut.*\(block\|damaged\)" --model mlp --codec none --data "$dir/hurt.taut" --steps 60 --global-batch 30
    run_jobs 2
    counts=2 last=40
    if [ "$LONG" != 0 ]; then
        counts="2 5"
        job 5 of-5 $small
        run_jobs 5
        job 3 again-3 $small --steps 41 --checkpoint "$dir/ck" --resume
        run_jobs 3
        job 1 again-1 $small --steps 90 --checkpoint "$dir/ck" --resume
        run_jobs 1
        ended again-3
        ended again-1
        last=90
    fi
    job 3 resumed $small --checkpoint "$dir/ck" --resume
    wrong 3 2 "only 2 samples, fewer than ranks" --model mlp --dim 16 --codec none --data "$dir/a.taut" --plan "$dir/few.plan" --global-batch 3
    run_jobs 3
}
for n in $counts; do # 5: slices of 3, 3, 2, 2, 2, which weights make equal; float sums differ in their last bits only
    ended of-$n
    if near "$(top loss_val of-$n.out)" "$alone" && [ "$(top identical of-$n.out)" = true ]; then pass; else fail "$n ranks: loss $(top loss_val of-$n.out), one rank $alone"; fi
    if [ "$(field sharing_ranks of-$n.out)" = "$n" ] && less "$(field decodes_per_block of-$n.out)" 1.05; then pass; else fail "$n ranks: $(tail -n 1 "$dir/of-$n.out" | sed 's/.*"data"//; s/"layers".*//')"; fi
done
ended stopped
ended resumed
if near "$(top loss_val resumed.out)" "$alone" && [ "$(top first_step resumed.out)" = $last ]; then pass; else fail "stopped at $last: loss $(top loss_val resumed.out), never stopped $alone"; fi
judge_wrong
# shellcheck disable=SC2086
if [ "$LONG" != 0 ]; then
    good "static of 3" "$TAUT" data plan static "$dir/a.taut" -o "$dir/three.plan" --budget 3 --rounds 50
    good "the batch is that of the checkpoint" "$MPIRUN" -n 2 "$TAUT" train $plain --plan "$dir/rs2.plan" --steps 95 --checkpoint "$dir/ck2" --global-batch 12
    good "and is remembered" "$MPIRUN" -n 3 "$TAUT" train $plain --plan "$dir/rs2.plan" --checkpoint "$dir/ck2" --resume
    bad 1 "saved with 12 samples in a step, now 13" "$MPIRUN" -n 2 "$TAUT" train $plain --plan "$dir/rs2.plan" --steps 110 --checkpoint "$dir/ck2" --resume --global-batch 13 --rounds 30
    bad 1 "of a plan with hash" "$MPIRUN" -n 2 "$TAUT" train $plain --plan "$dir/strata.plan" --rounds 300 --checkpoint "$dir/ck2" --resume
    bad 2 "at least 1 sample for each of 4 ranks" "$MPIRUN" -n 4 "$TAUT" train $plain --plan "$dir/rs2.plan" --global-batch 3
    good "a sample a rank" "$MPIRUN" -n 3 "$TAUT" train $plain --plan "$dir/three.plan" --global-batch 3 --steps 3
    good "a last step of fewer samples than ranks" "$MPIRUN" -n 4 "$TAUT" train $plain --plan "$dir/rs2.plan" --global-batch 59
    bad 1 "made for a shard a.taut with hash" "$MPIRUN" -n 3 "$TAUT" train $plain --data "$dir/other/a.taut" --plan "$dir/rs2.plan"
fi

# ---- killed: no shared memory stays ----
before=$(ls /dev/shm 2>/dev/null | grep -c taut)
# shellcheck disable=SC2086
timeout -s KILL 4 "$MPIRUN" -n 2 "$TAUT" train $plain --plan "$dir/rs2.plan" --rounds 100000 --global-batch 12 --eval-every 0 >/dev/null 2>&1
sleep 1
if [ "$(ls /dev/shm 2>/dev/null | grep -c taut)" = "$before" ]; then pass; else fail "shared memory stays: $(ls /dev/shm)"; fi
finish
