#!/bin/sh
# taut data plan's methods under mpirun, taut train --score, taut data distill and taut data compare on it: small data made here.
set -u
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
good() {
    text=$1
    shift
    if timeout -k 5 $((240 * slow)) "$@" >"$dir/out" 2>"$dir/err"; then pass; else fail "$text: exit $?: $(tail -n 2 "$dir/err")"; fi
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
field() { tail -n 1 "$dir/out" | sed -n "s/.*\"$1\": *\"\{0,1\}\([^,\"}]*\).*/\1/p"; }

# ---- texts: 300 lines of words, every tenth nearly another one; a target ----
words() { awk -v n="$1" -v seed="$2" -v topic="$3" 'BEGIN { srand(seed); for (i = 0; i < n; i++) {
    if (i % 10 == 9) { $0 = line[i - 5]; $3 = "other"; print; continue }
    line[i] = ""; for (k = 0; k < 40; k++) line[i] = line[i] "w" int(rand() * rand() * 400) + (rand() < 0.3 ? topic : 0) " "; print line[i] } }'; }
words 300 1 0 >"$dir/a.txt"
words 200 2 500 >"$dir/b.txt"
words 60 3 500 >"$dir/target.txt"
for f in a b; do good "pack $f" "$TAUT" data pack "$dir/$f.txt" -o "$dir/$f.taut" --split lines --codec zstd:1; done

ranks="1"
command -v "$MPIRUN" >/dev/null 2>&1 && grep -q TAUT_HAVE_MPI "$BUILD/.C" && ranks="1 2 4"
for rule in dedup 'dedup|prior|dsir:budget=40%|zipfit:budget=50%|rs2:budget=20%' entropy:budget=60; do
    first=
    for n in $ranks; do
        run=
        [ "$n" = 1 ] || run="$MPIRUN -n $n"
        good "$rule, $n ranks" $run "$TAUT" data plan "$rule" "$dir/a.taut" "$dir/b.taut" -o "$dir/$n.plan" --target "$dir/target.txt" --json
        [ "$(field ranks)" = "$n" ] || fail "$rule: ranks $(field ranks), not $n"
        [ -n "$first" ] || first=$(field hash)
        if [ "$(field hash)" = "$first" ] && [ "$(sed -n 's/^end //p' "$dir/$n.plan")" = "$first" ]; then pass; else fail "$rule: another plan with $n ranks"; fi
    done
done
good "dedup" "$TAUT" data plan dedup "$dir/a.taut" -o "$dir/d.plan" --json
if [ "$(field samples)" = 270 ]; then pass; else fail "dedup left $(field samples) of 300, of which 30 are near copies"; fi
if grep -q '^stage list of 300 keep 270 by dedup$' "$dir/d.plan"; then pass; else fail "no line of the stage"; fi
good "overlap" "$TAUT" data plan dsir:budget=10% "$dir/a.taut" -o "$dir/d.plan" --target "$dir/a.taut"
if grep -q "warning: dsir: the target overlaps the pool: 300 of its 300" "$dir/err"; then pass; else fail "no warning of the overlap: $(cat "$dir/err")"; fi
printf '\000\000\010\003\000\000\000\004\000\000\000\002\000\000\000\002abcdefghijklmnop' >"$dir/tiny-images-idx3-ubyte"
good "pack images" "$TAUT" data pack "$dir/tiny-images-idx3-ubyte" -o "$dir/tiny.taut" --codec zstd:1
bad 2 "dedup: field 'image' is image: near duplicates are of text, bytes and tokens: must be mode=exact" "$TAUT" data plan dedup "$dir/tiny.taut" -o "$dir/x.plan"
good "exact copies of images" "$TAUT" data plan dedup:mode=exact "$dir/tiny.taut" -o "$dir/tiny.plan"
bad 2 "'dedupe': must be full, static, rs2, mix, list or a method" "$TAUT" data plan dedupe "$dir/tiny.taut" -o "$dir/x.plan"
bad 2 "needs a target" "$TAUT" data plan dsir:budget=10% "$dir/a.taut" -o "$dir/x.plan"
if [ "$ranks" != 1 ]; then
    bad 2 "dedup: 3 ranks for 2 samples" "$MPIRUN" -n 3 "$TAUT" data plan 'static:budget=2|dedup' "$dir/a.taut" -o "$dir/x.plan"
    bad 1 "nothere.taut" "$MPIRUN" -n 2 "$TAUT" data plan dedup "$dir/nothere.taut" -o "$dir/x.plan"
fi
if [ ! -e "$dir/x.plan" ]; then pass; else fail "a failed plan left a file"; fi

if [ ! -x "$BUILD/libexec/taut-train" ]; then
    skipped=1
    echo "SKIP taut train was not built (no libtorch)"
    finish
fi

# ---- images: 400 of 8x8 in 4 classes, a bright band with noise; every 40th has a wrong label ----
octal() { awk -v n="$1" -v kind="$2" -v salt="$3" 'BEGIN { srand(salt); for (i = 0; i < n; i++) { c = i % 4
    if (kind == "labels") printf "\\%03o", salt == 1 && i % 40 == 7 ? (c + 1) % 4 : c; else for (j = 0; j < 64; j++) printf "\\%03o", int(rand() * 90) + (int(j / 16) == c ? 120 : 0) } }'; }
image() { printf '\000\000\010\003\000\000\001\220\000\000\000\010\000\000\000\010'"$(octal 400 images "$1")" >"$dir/$2-images-idx3-ubyte"
    printf '\000\000\010\001\000\000\001\220'"$(octal 400 labels "$1")" >"$dir/$2-labels-idx1-ubyte"
    good "pack $2" "$TAUT" data pack "$dir/$2-images-idx3-ubyte" "$dir/$2-labels-idx1-ubyte" -o "$dir/$2.taut" --samples-per-block 16 --codec zstd:3 --field label=raw; }
image 1 train
image 2 val
last=${ranks##* }
run="$MPIRUN -n 2"
[ "$last" != 1 ] || run=
good "score" $run "$TAUT" train --model mlp --dim 32 --data "$dir/train.taut" --rounds 6 --global-batch 40 --codec none --score "$dir/s.txt" --seed 1 --eval-every 0
if [ "$(grep -c . "$dir/s.txt")" = 404 ] && grep -q '^columns loss el2n forgetting$' "$dir/s.txt"; then pass; else fail "scores: $(head -n 3 "$dir/s.txt")"; fi
good "el2n" "$TAUT" data plan el2n:budget=10 "$dir/train.taut" -o "$dir/e.plan" --scores "$dir/s.txt"
# the ten wrong labels are the hardest: 7 47 ...
found=$(sed -n 's/^index//p' "$dir/e.plan" | tr ' ' '\n' | awk '$1 ~ /^[0-9]+$/ && $1 % 40 == 7' | wc -l)
if [ "$found" -ge 8 ]; then pass; else fail "el2n found $found of 10 wrong labels"; fi
good "infobatch" "$TAUT" data plan infobatch "$dir/train.taut" -o "$dir/i.plan" --scores "$dir/s.txt" --rounds 3
good "train on it" $run "$TAUT" train --model mlp --dim 32 --data "$dir/train.taut" --plan "$dir/i.plan" --global-batch 40 --codec none --eval-every 0
bad 1 "which is not among the shards" "$TAUT" data plan el2n:budget=10 "$dir/val.taut" -o "$dir/x.plan" --scores "$dir/s.txt"
sed '9d' "$dir/s.txt" >"$dir/short.txt"
bad 1 "only 399 scores: the shards have 400 samples" "$TAUT" data plan el2n:budget=10 "$dir/train.taut" -o "$dir/x.plan" --scores "$dir/short.txt"
bad 2 "need --data with shards" "$TAUT" train --model mlp --data "$dir/a.txt" --score "$dir/s.txt"

# ---- distillation ----
for m in dm rded random; do
    good "$m" "$TAUT" data distill "$dir/train.taut" -o "$dir/$m.taut" --method $m --per-class 3 --iterations 8 --real 8 --filters 8 --soft-labels --validation "$dir/val.taut" \
        --teacher-steps 60 --judge-steps 30 --judge-filters 8 --json
    if [ "$(tail -n 1 "$dir/out" | grep -o '"images": 12,' | wc -l)" -ge 2 ] && [ "$(wc -c <"$dir/$m.taut")" = "$(tail -n 1 "$dir/out" | sed 's/.*"sets": \[{[^}]*"bytes": \([0-9]*\).*/\1/; s/,.*//')" ]; then pass
    else fail "$m: $(tail -n 1 "$dir/out")"; fi
done
good "an ordinary shard" "$TAUT" data verify "$dir/dm.taut"
good "soft labels are learned" "$TAUT" train --model mlp --dim 32 --data "$dir/dm.taut" --validation "$dir/val.taut" --rounds 20 --batch 12 --codec none --eval-every 0
good parts "$TAUT" data distill "$dir/train.taut" -o "$dir/parts.taut" --method random --parts 2 --per-class 3
good "parts judged" "$TAUT" data distill "$dir/train.taut" --from "$dir/parts.taut" --validation "$dir/val.taut" --teacher-steps 5 --judge-steps 5 --judge-filters 8 --json
if [ "$(tail -n 1 "$dir/out" | grep -o '"images": 48,' | wc -l)" -eq 3 ]; then pass; else fail "parts: $(tail -n 1 "$dir/out")"; fi
good "judged alone" "$TAUT" data distill "$dir/train.taut" --from "$dir/dm.taut" --validation "$dir/val.taut" --alone --augment one --judge-lr 0.03 --judge-steps 5 --judge-filters 8 --json
if [ "$(tail -n 1 "$dir/out" | grep -o '"set":' | wc -l)" = 1 ] && [ "$(field teacher_accuracy)" = null ] && [ "$(field augment)" = one ] && [ "$(field judge_lr)" = 0.03 ]; then pass
else fail "alone: $(tail -n 1 "$dir/out")"; fi
good "no soft labels" "$TAUT" data distill "$dir/train.taut" -o "$dir/plain.taut" --method random --per-class 3
bad 1 "12 of 24 images have soft labels" "$TAUT" data distill "$dir/train.taut" --from "$dir/dm.taut,$dir/plain.taut" --validation "$dir/val.taut" --alone
bad 1 "nowhere/x.taut: cannot be written" "$TAUT" data distill "$dir/train.taut" -o "$dir/nowhere/x.taut"
bad 2 "plain.taut, which is read" "$TAUT" data distill "$dir/train.taut,$dir/plain.taut" -o "$dir/plain.taut"
bad 2 "--augment=much: must be one of auto|several|one|none" "$TAUT" data distill "$dir/train.taut" -o "$dir/x.taut" --augment much
bad 2 "--parts=2: rded keeps images as they are" "$TAUT" data distill "$dir/train.taut" -o "$dir/x.taut" --method rded --parts 2
bad 1 "of each class were asked for" "$TAUT" data distill "$dir/train.taut" -o "$dir/x.taut" --method random --per-class 500
bad 1 "no field of labels" "$TAUT" data distill "$dir/a.taut" -o "$dir/x.taut"
bad 2 "--method=magic: must be one of dm|rded|random" "$TAUT" data distill "$dir/train.taut" -o "$dir/x.taut" --method magic
if [ ! -e "$dir/x.taut" ]; then pass; else fail "a failed distillation left a file"; fi
good "compare" "$TAUT" data compare "$dir/train.taut" --validation "$dir/val.taut" --budget 10% --rounds 4 --seeds 1 --batch 20 --train-option dim=32 --method static \
    --method 'el2n:budget=10%' --scores "$dir/s.txt" --plan "$dir/e.plan" --distilled "$dir/dm.taut" --soft-labels --teacher-steps 40 --whole --json
if [ "$(tail -n 1 "$dir/out" | grep -o '"method":' | wc -l)" = 7 ]; then pass; else fail "compare: $(tail -n 1 "$dir/err")"; fi
# equal steps but for the row of all rounds over all samples; the plan's ten samples, again and again
steps=$(tail -n 1 "$dir/out" | grep -o '"steps": [0-9]*, "bytes"' | sort | uniq -c | tr '\n' ' ' | tr -s ' ')
if [ "$steps" = ' 6 "steps": 8, "bytes" 1 "steps": 80, "bytes" ' ] && grep -q "^| $dir/e.plan | 10 | 10 | 8 |" "$dir/out"; then pass; else fail "compare: $steps, $(grep e.plan "$dir/out")"; fi
bad 1 "e.plan.*is not among the 1 given\|made for a shard" "$TAUT" data compare "$dir/val.taut" --validation "$dir/val.taut" --rounds 1 --seeds 1 --batch 10 --method static --plan "$dir/e.plan"
finish
