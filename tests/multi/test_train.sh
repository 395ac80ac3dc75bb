#!/bin/sh
# taut train over ranks: losses fall with every codec, runs repeat bit for bit, a resumed run is the uninterrupted one,
# and whatever is wrong ends all ranks with one sentence and no hang. Small models on this machine's own text.
set -u
BUILD=${BUILD:-build/release}
TAUT=$BUILD/bin/taut
MPIRUN=${MPIRUN:-mpirun}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
. tests/support/shell.sh
if [ ! -x "$BUILD/libexec/taut-train" ]; then
    skipped=1
    echo "SKIP taut train was not built (no libtorch)"
    finish
fi
if ! command -v "$MPIRUN" >/dev/null; then
    skipped=1
    echo "SKIP no mpirun"
    finish
fi

small="--dim 32 --blocks 1 --heads 2 --ctx 32 --batch 4 --eval-samples 64 --seed 5"
# train RANKS NAME OPTIONS...: stdout to NAME.out, stderr to NAME.err; the exit code is mpirun's
train() {
    ranks=$1 name=$2
    shift 2
    timeout -k 5 "${LIMIT:-120}" "$MPIRUN" -n "$ranks" "$TAUT" train "$@" >"$dir/$name.out" 2>"$dir/$name.err"
}
# top FIELD NAME: of the JSON in the last line; layers, which have fields of the same names, are cut off
top() { tail -n 1 "$dir/$2.out" | sed -n "s/^{\(.*\)\"layers\": \[.*/\1/p" | sed -n "s/.*\"$1\": *\"\{0,1\}\([^,\"}]*\).*/\1/p"; }
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a < b) }'; }

# ---- every codec learns, and all ranks end with the same parameters ----
codecs=auto # the others with LONG=1: what they do to a sum is tested without libtorch
[ "${LONG:-0}" = 0 ] || codecs="none quant:bits=4 $codecs grid:rel=0.05 topk:density=0.1 powersgd:rank=2"
for codec in $codecs; do
    if ! train 2 run $small --codec "$codec" --objective bytes --steps 40 --json; then
        fail "$codec: exit $?: $(head -n 2 "$dir/run.err")"
        continue
    fi
    limit=$(top loss_first run | awk '{print $1 - 0.6}')
    if less "$(top loss_val run)" "$limit"; then pass; else fail "$codec: loss $(top loss_first run) -> $(top loss_val run)"; fi
    if [ "$(top identical run)" = true ]; then pass; else fail "$codec: ranks differ"; fi
    case $codec in
    none) if less "$(top ratio run)" 1.01; then pass; else fail "none: ratio $(top ratio run)"; fi ;;
    *) # without the probes, which so short a run notices
        ratio=$(awk -v d="$(top bytes_dense run)" -v s="$(top bytes_sent run)" -v p="$(top bytes_probes run)" 'BEGIN { print d / (s - p) }')
        if less 1.2 "$ratio"; then pass; else fail "$codec: ratio $ratio"; fi ;;
    esac
done

# ---- the same seed gives the same run; another one does not; any number of ranks works ----
run="$small --codec quant:bits=4 --steps 25 --json"
train 2 a $run && train 2 b $run
if [ -n "$(top loss_val a)" ] && [ "$(top loss_val a)" = "$(top loss_val b)" ]; then pass; else fail "repeat: $(top loss_val a), $(top loss_val b)"; fi
[ "${LONG:-0}" = 0 ] || if train 2 c $run --seed 6 && [ "$(top loss_val a)" != "$(top loss_val c)" ]; then pass; else fail "another seed, the same loss"; fi
if train 3 d $run && [ "$(top identical d)" = true ]; then pass; else fail "3 ranks: $(head -n 2 "$dir/d.err")"; fi
if timeout 60 "$TAUT" train $run >"$dir/alone.out" 2>&1 && [ "$(top loss_val alone)" = "$(train 1 e $run; top loss_val e)" ]; then pass; else fail "without mpirun"; fi

# ---- stopped and resumed is as if never stopped, also between the calls in which ranks exchange whole histograms ----
# Plans too, where no clock has a part in them
export TAUT_LINK=20mbit TAUT_REPLAN_STEPS=5
more=
[ "${LONG:-0}" = 0 ] || more="auto --budget rel=0.1"
for codec in grid:rel=0.05 "grid:rel=0.05 --scale none" "grid:rel=0.05 --scale row" "auto --objective bytes" "$more" powersgd:rank=2; do
    case ${LONG:-0}:$codec in 0:grid* | 0:powersgd*) continue ;; esac # plans hold grid, too
    [ -n "$codec" ] || continue
    run="$small --codec $codec --json"
    train 2 whole $run --steps 20
    case ${LONG:-0}:$codec in 1:auto*)
        train 2 twin $run --steps 20
        [ "$(top plans whole)" != 0 ] && [ "$(top loss_val whole)" = "$(top loss_val twin)" ] && pass || fail "two runs with $codec: $(top loss_val whole), $(top loss_val twin)" ;;
    esac
    rm -f "$dir"/ck*
    train 2 half $run --steps 4 --checkpoint "$dir/ck"
    [ "${LONG:-0}" = 0 ] && stops="9 20" || stops="9 13 20"
    for at in $stops; do train 2 rest $run --steps $at --checkpoint "$dir/ck" --resume; done
    if [ -n "$(top loss_val whole)" ] && [ "$(top loss_val whole)" = "$(top loss_val rest)" ]; then pass; else
        fail "$codec resumed at 4 and before each of $stops: $(top loss_val whole) uninterrupted, $(top loss_val rest) resumed $(head -n 1 "$dir/rest.err")"; fi
done
unset TAUT_LINK TAUT_REPLAN_STEPS
[ "${LONG:-0}" = 0 ] || if train 1 fewer $run --steps 25 --checkpoint "$dir/ck" --resume; then pass; else fail "resume with one rank: $(head -n 1 "$dir/fewer.err")"; fi
if train 3 more $run --steps 30 --checkpoint "$dir/ck" --resume; then pass; else fail "resume with three ranks: $(head -n 1 "$dir/more.err")"; fi

# ---- log, table, choice per layer ----
train 2 log $small --codec none --layer-codec 'b.*.fc.weight=quant:bits=2' --steps 12 --eval-every 5 --log "$dir/run.jsonl"
if [ "$(grep -c '"kind":"step"' "$dir/run.jsonl")" = 12 ] && [ "$(grep -c '"kind":"eval"' "$dir/run.jsonl")" = 3 ] &&
    tail -n 1 "$dir/run.jsonl" | grep -q '"kind":"end"'; then pass; else fail "log: $(cut -c1-80 "$dir/run.jsonl" | tail -n 3)"; fi
if grep -q '^b.0.fc.weight .* quant:bits=2' "$dir/log.out" && grep -q '^b.0.out.weight .* none' "$dir/log.out"; then pass; else fail "table: $(grep fc.weight "$dir/log.out")"; fi
train 2 cmp $small --codec quant:bits=4 --compare none --steps 8
if grep -q '^validation loss [+-][0-9.]*% with' "$dir/cmp.out"; then pass; else fail "compare: $(tail -n 2 "$dir/cmp.out")"; fi

# ---- what the environment overrides is what the summary names; the budget beside what was made of it ----
export TAUT_CODEC=quant:bits=4
train 2 env $small --codec none --steps 6 --json
if [ "$(top codec env)" = quant:bits=4 ] && grep -q '^all .* quant:bits=4 ' "$dir/env.out"; then pass; else fail "TAUT_CODEC: the summary names $(top codec env)"; fi
TAUT_CODEC=quant:bits=9
train 1 bad $small --codec none --steps 2
[ $? -eq 2 ] && grep -q 'bits=9: must be an integer 1..8' "$dir/bad.err" && pass || fail "TAUT_CODEC=quant:bits=9: $(head -n 2 "$dir/bad.err")"
unset TAUT_CODEC
train 2 plan $small --codec auto --objective bytes --budget like:quant:bits=4 --steps 30 --json --log "$dir/plan.jsonl"
mean() { sed -n 's/.*"kind":"step".*"rel_err2_metric":\([^,]*\),"budget":\([^,]*\),.*/\1 \2/p' "$dir/plan.jsonl" |
    awk -v k="$1" '$2 > 0 { n++; s += $k } END { printf "%.9g", s / n }'; }
close_to() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && b != "" && d <= 1e-5 * b) }'; }
close_to "$(top budget plan)" "$(mean 2)" && pass || fail "budget $(top budget plan), mean of the steps $(mean 2)"
close_to "$(top budgeted_err2 plan)" "$(mean 1)" && pass || fail "budgeted_err2 $(top budgeted_err2 plan), mean of the steps $(mean 1)"
if less 0 "$(top bytes_probes plan)" && less "$(top bytes_probes plan)" "$(top bytes_sent plan)"; then pass; else fail "bytes_probes $(top bytes_probes plan) of $(top bytes_sent plan)"; fi
[ ! -c /dev/full ] || { "$TAUT" train $small --codec none --steps 2 >/dev/full 2>"$dir/bad.err"
    [ $? -eq 1 ] && grep -q 'standard output: ' "$dir/bad.err" && pass || fail "a full disk for the table: $(head -n 2 "$dir/bad.err")"; }

# ---- text that is compressed ----
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "the %d cats sat on %d mats. ", i % 7, i % 13 }' >"$dir/text.txt"
gzip -k "$dir/text.txt"
train 1 plain $small --codec none --steps 3 --json --data "$dir/text.txt"
train 1 packed $small --codec none --steps 3 --json --data "$dir/text.txt.gz"
if [ -n "$(top loss_val plain)" ] && [ "$(top loss_val plain)" = "$(top loss_val packed)" ]; then pass; else fail "text.txt.gz: $(top loss_val packed), plain $(top loss_val plain)"; fi

# ---- images: IDX made here, 80 of 1x6 pixels in 4 classes, plain and .gz; mlp and a TorchScript module ----
mkdir "$dir/idx"
octal() { awk -v n="$1" -v kind="$2" 'BEGIN { for (i = 0; i < n; i++) { c = i % 4
    if (kind == "labels") printf "\\%03o", c; else for (j = 0; j < 6; j++) printf "\\%03o", j == c ? 200 + i % 40 : (i * 7 + j * 13) % 60 } }'; }
printf '\000\000\010\003\000\000\000\120\000\000\000\001\000\000\000\006'"$(octal 80 images)" >"$dir/idx/train-images-idx3-ubyte"
printf '\000\000\010\001\000\000\000\120'"$(octal 80 labels)" >"$dir/idx/train-labels-idx1-ubyte"
images="--data $dir/idx --batch 8 --steps 60 --lr 0.01 --codec quant:bits=4 --json"
if train 2 mlp --model mlp --dim 64 $images && less 0.9 "$(top accuracy_val mlp)"; then pass; else fail "mlp: accuracy $(top accuracy_val mlp) $(head -n 1 "$dir/mlp.err")"; fi
# a file that is named is the file that is read: here the labels are the same for all, so that its loss shows it
mkdir "$dir/other"
cp "$dir/idx/train-images-idx3-ubyte" "$dir/other/train-images-idx3-ubyte"
cp "$dir/idx/train-labels-idx1-ubyte" "$dir/other/train-labels-idx1-ubyte"
cp "$dir/idx/train-images-idx3-ubyte" "$dir/other/t10k-images-idx3-ubyte"
{ head -c 8 "$dir/idx/train-labels-idx1-ubyte"; head -c 80 /dev/zero; } >"$dir/other/t10k-labels-idx1-ubyte"
train 1 named --model mlp --dim 64 --data "$dir/other/t10k-images-idx3-ubyte" --batch 8 --steps 60 --lr 0.01 --codec none --json
if less "$(top loss_val named)" 0.01; then pass; else fail "--data .../t10k-images-idx3-ubyte trains on another file: loss $(top loss_val named) $(head -n 1 "$dir/named.err")"; fi
gzip "$dir"/idx/*
[ "${LONG:-0}" = 0 ] || if train 2 gz --model mlp --dim 64 $images && [ "$(top loss_val gz)" = "$(top loss_val mlp)" ]; then pass; else fail "gz: $(head -n 1 "$dir/gz.err")"; fi
if train 1 script --model script:tests/unit/data/perceptron.pt $images && less "$(top loss_val script)" 1; then pass; else fail "script: $(head -n 1 "$dir/script.err")"; fi

# ---- bad input: a non-zero exit within the time, and one sentence with the value ----
LIMIT=60
# judge CODE TEXT RC WHAT: of the run whose stderr is bad.err
judge() {
    if [ "$3" -ne "$1" ]; then fail "$4: exit $3, expected $1: $(head -n 1 "$dir/bad.err")"
    elif ! grep -q -e "$2" "$dir/bad.err"; then fail "$4: no '$2' in: $(head -n 1 "$dir/bad.err")"
    elif [ "$(grep -c '^taut train: ' "$dir/bad.err")" != 1 ]; then fail "$4: $(grep -c '^taut train: ' "$dir/bad.err") messages"
    else pass; fi
}
rare() { [ "${LONG:-0}" = 0 ] || "$@"; } # every start loads libtorch, which takes longer than the check: some with LONG=1 only
bad() { # bad CODE TEXT OPTIONS...: one process
    code=$1 text=$2
    shift 2
    timeout -k 5 $LIMIT "$TAUT" train $small --steps 2 "$@" >"$dir/bad.out" 2>"$dir/bad.err"
    judge "$code" "$text" $? "$*"
}
bad2() { # the same on two ranks
    code=$1 text=$2
    shift 2
    train 2 bad $small --steps 2 "$@"
    judge "$code" "$text" $? "2 ranks, $*"
}
bad_mixed() { # bad_mixed CODE TEXT "OPTIONS OF RANK 0" "OPTIONS OF RANK 1"
    # shellcheck disable=SC2086
    timeout -k 5 $LIMIT "$MPIRUN" -n 1 "$TAUT" train $small --steps 2 $3 : -n 1 "$TAUT" train $small --steps 2 $4 \
        >"$dir/bad.out" 2>"$dir/bad.err"
    judge "$1" "$2" $? "rank 0: $3, rank 1: $4"
}
: >"$dir/empty.txt"
printf 'too short' >"$dir/short.txt"
awk 'BEGIN { for (i = 0; i < 5000; i++) printf "x" }' >"$dir/same.txt"
awk 'BEGIN { for (i = 0; i < 5000; i++) printf "%d", i }' >"$dir/digits.txt"
awk 'BEGIN { for (i = 0; i < 5000; i++) printf "%d", 2 * i }' >"$dir/even.txt"
mkdir "$dir/cut"
cp "$dir/idx/train-labels-idx1-ubyte.gz" "$dir/cut/"
gzip -dc "$dir/idx/train-images-idx3-ubyte.gz" | head -c 200 >"$dir/cut/train-images-idx3-ubyte"
printf garbage >"$dir/bad.ck"
gzip -dc "$dir/idx/train-images-idx3-ubyte.gz" >"$dir/images.bin"
head -c $(($(wc -c <"$dir/text.txt.gz") / 2)) "$dir/text.txt.gz" >"$dir/cut.txt.gz"
{ printf '\050\265\057\375'; cat "$dir/text.txt"; } >"$dir/text.zst"
bad 2 "model=cnn: must be gpt, mlp or script:FILE" --model cnn
rare bad 2 "bits" --codec quant:bits=9
rare bad 2 "density" --codec topk:density=0
bad 2 "must be PATTERN=SPEC" --layer-codec quant
rare bad 2 "budget" --codec auto --budget rel=-1
rare bad 2 "steps=-1" --steps -1
rare bad 2 "adam" --optimizer sgd --metric optimizer
rare bad 1 "short.txt: 9 chars: must be at least" --data "$dir/short.txt"
rare bad 1 "at least 2 different" --data "$dir/same.txt"
rare bad 1 "truncated" --model mlp --data "$dir/cut"
rare bad 2 "data is needed" --model mlp
rare bad 1 "images.bin: a file of images is called NAME-images-idx3" --model mlp --data "$dir/images.bin"
bad 1 "cut.txt.gz: damaged or truncated" --data "$dir/cut.txt.gz"
rare bad 1 "text.zst: compressed with zstd: unpack it first" --data "$dir/text.zst"
rare bad 1 "nothere.pt" --model script:"$dir/nothere.pt"
rare bad 1 "/nowhere/" --checkpoint /nowhere/ck
bad 1 "bad.ck" --checkpoint "$dir/bad.ck" --resume
rare bad2 2 "nosuch" --codec nosuch
rare bad2 2 "budget" --codec auto --budget rel=2
rare bad2 2 "rank" --layer-codec b.0.fc.weight=powersgd:rank=1000
bad2 2 "fits none of the" --layer-codec zz=quant:bits=4
rare bad2 1 "empty.txt: 0 chars: must be at least" --data "$dir/empty.txt"
rare bad2 1 "nothere.ck" --checkpoint "$dir/nothere.ck" --resume
rare bad 2 "device=gpu: must be cpu, cuda or cuda:N" --device gpu
rare bad 2 "device=cuda:x: must be cpu, cuda or cuda:N" --device cuda:x
rare bad 2 "nccl: needs --device cuda or cuda:N" --nccl
if [ "$(nvidia-smi -L 2>/dev/null | wc -l)" -gt 0 ]; then
    skip "there is a GPU: train --device cuda is for make check-gpu"
else
    bad2 1 "device='cuda:.': this libtorch sees no CUDA device; use cpu" --device cuda
    rare bad2 1 "device='cuda:3': this libtorch sees no CUDA device; use cpu" --device cuda:3 --nccl
fi
# what only one rank sees ends all of them
bad_mixed 1 "rank 1: .*nothere" "--data $dir/digits.txt" "--data $dir/nothere"
bad_mixed 1 "different data" "--data $dir/digits.txt" "--data $dir/even.txt"
rare bad_mixed 2 "different options" "--codec none" "--codec quant:bits=4"

# every rank ends by itself with that code, not because mpirun kills it
cat >"$dir/each" <<'SH'
#!/bin/sh
dir=$1; shift
"$@" >/dev/null 2>>"$dir/bad.err"
echo $? >>"$dir/codes"
SH
chmod +x "$dir/each"
each() { # each CODE TEXT OPTIONS...: three ranks
    code=$1 text=$2
    shift 2
    rm -f "$dir/codes" "$dir/bad.err"
    timeout -k 5 $LIMIT "$MPIRUN" -n 3 "$dir/each" "$dir" "$TAUT" train $small --steps 2 "$@" >"$dir/bad.out" 2>&1
    codes=$(tr '\n' ' ' <"$dir/codes")
    if [ "$codes" != "$code $code $code " ]; then fail "$*: the ranks exit with '$codes', expected $code"; else judge 0 "$text" 0 "3 ranks, $*"; fi
}
rare each 2 "bits=9: must be an integer 1..8" --codec quant:bits=9
each 1 "empty.txt: 0 chars: must be at least" --data "$dir/empty.txt"

# a rank that stops in the middle ends the others within the timeout; one that only pauses costs time
cat >"$dir/noted" <<'SH'
#!/bin/sh
echo $$ >"$1.$OMPI_COMM_WORLD_RANK"; shift
exec "$@"
SH
chmod +x "$dir/noted"
interrupt() { # interrupt TIMEOUT_MS SECONDS: rank 1 stops once the log has 5 steps; SECONDS later (0: never) it goes on
    rm -f "$dir"/pid.* "$dir/live.jsonl"
    TAUT_TIMEOUT_MS=$1 timeout -k 5 $LIMIT "$MPIRUN" -n 2 "$dir/noted" "$dir/pid" "$TAUT" train $small --codec quant:bits=4 \
        --steps 80 --json --log "$dir/live.jsonl" >"$dir/live.out" 2>"$dir/bad.err" &
    job=$!
    until [ "$(cat "$dir/live.jsonl" 2>/dev/null | grep -c '"kind":"step"')" -ge 5 ] || ! kill -0 $job 2>/dev/null; do sleep 0.02; done
    stopped=$(cat "$dir/pid.1")
    kill -STOP "$stopped"
    if [ "$2" != 0 ]; then
        sleep "$2"
        kill -CONT "$stopped"
    fi
    wait $job
}
if [ "${LONG:-0}" != 0 ]; then
    train 2 a $small --codec quant:bits=4 --steps 80 --json
    interrupt 30000 1
    rc=$?
    if [ $rc -eq 0 ] && [ "$(top loss_val live)" = "$(top loss_val a)" ]; then pass; else fail "a pause: exit $rc, loss $(top loss_val live), not $(top loss_val a)"; fi
fi
interrupt 1000 0
rc=$?
if [ $rc -ne 0 ] && [ $rc -lt 124 ] && grep -q "no progress for 1000 ms, nothing from rank 1" "$dir/bad.err"; then pass; else
    fail "a stopped rank: exit $rc: $(head -n 2 "$dir/bad.err")"; fi

finish
