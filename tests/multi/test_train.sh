#!/bin/sh
# taut train over ranks: losses fall with every codec, runs repeat bit for bit, a resumed run is the uninterrupted one,
# and whatever is wrong ends all ranks with one sentence and no hang. Small models on this machine's own text. Jobs run one after the
# other in one process a rank (train_jobs.c), since starting libtorch takes longer than most of them; what starts and ends processes does not.
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
# job RANKS NAME [VARIABLE=VALUE ...] OPTIONS...: is run by run_jobs RANKS, behind those that came before it
job() {
    n=$1
    shift
    echo "$*" >>"$dir/jobs.$n"
}
run_jobs() {
    timeout -k 5 "$((300 * slow))" "$MPIRUN" -n "$1" "$BUILD/tests/multi/train_jobs" "$dir" "$dir/jobs.$1" >"$dir/jobs.log" 2>&1 || fail "jobs of $1 ranks: exit $?: $(tail -n 3 "$dir/jobs.log")"
}
rc_of() { cat "$dir/$1.rc" 2>/dev/null || echo "none, the job did not end"; }
ended() { [ "$(rc_of "$1")" = 0 ]; } # ended NAME: as it should
# train RANKS NAME OPTIONS...: in processes of its own; stdout to NAME.out, stderr to NAME.err; the exit code is mpirun's
train() {
    ranks=$1 name=$2
    shift 2
    timeout -k 5 "${LIMIT:-120}" "$MPIRUN" -n "$ranks" "$TAUT" train "$@" >"$dir/$name.out" 2>"$dir/$name.err"
}
# top FIELD NAME: of the JSON in the last line; layers, which have fields of the same names, are cut off
top() { tail -n 1 "$dir/$2.out" | sed -n "s/^{\(.*\)\"layers\": \[.*/\1/p" | sed -n "s/.*\"$1\": *\"\{0,1\}\([^,\"}]*\).*/\1/p"; }
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a < b) }'; }

# ---- what the jobs read: texts, plain and compressed; images as IDX, 80 of 1x6 pixels in 4 classes ----
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "the %d cats sat on %d mats. ", i % 7, i % 13 }' >"$dir/text.txt"
gzip -k "$dir/text.txt"
mkdir "$dir/idx" "$dir/gz" "$dir/other" "$dir/cut"
octal() { awk -v n="$1" -v kind="$2" 'BEGIN { for (i = 0; i < n; i++) { c = i % 4
    if (kind == "labels") printf "\\%03o", c; else for (j = 0; j < 6; j++) printf "\\%03o", j == c ? 200 + i % 40 : (i * 7 + j * 13) % 60 } }'; }
printf '\000\000\010\003\000\000\000\120\000\000\000\001\000\000\000\006'"$(octal 80 images)" >"$dir/idx/train-images-idx3-ubyte"
printf '\000\000\010\001\000\000\000\120'"$(octal 80 labels)" >"$dir/idx/train-labels-idx1-ubyte"
for f in images-idx3 labels-idx1; do gzip -c "$dir/idx/train-$f-ubyte" >"$dir/gz/train-$f-ubyte.gz"; done
# a file that is named is the file that is read: here the labels are the same for all, so that its loss shows it
cp "$dir"/idx/* "$dir/other/"
cp "$dir/idx/train-images-idx3-ubyte" "$dir/other/t10k-images-idx3-ubyte"
{ head -c 8 "$dir/idx/train-labels-idx1-ubyte"; head -c 80 /dev/zero; } >"$dir/other/t10k-labels-idx1-ubyte"
: >"$dir/empty.txt"
printf 'too short' >"$dir/short.txt"
awk 'BEGIN { for (i = 0; i < 5000; i++) printf "x" }' >"$dir/same.txt"
awk 'BEGIN { for (i = 0; i < 5000; i++) printf "%d", i }' >"$dir/digits.txt"
awk 'BEGIN { for (i = 0; i < 5000; i++) printf "%d", 2 * i }' >"$dir/even.txt"
cp "$dir/gz/train-labels-idx1-ubyte.gz" "$dir/cut/"
head -c 200 "$dir/idx/train-images-idx3-ubyte" >"$dir/cut/train-images-idx3-ubyte"
printf garbage >"$dir/bad.ck"
cp "$dir/idx/train-images-idx3-ubyte" "$dir/images.bin"
head -c $(($(wc -c <"$dir/text.txt.gz") / 2)) "$dir/text.txt.gz" >"$dir/cut.txt.gz"
{ printf '\050\265\057\375'; cat "$dir/text.txt"; } >"$dir/text.zst"

# ---- the jobs of two ranks and of three ----
codecs="none quant:bits=4 auto grid:rel=0.05 topk:density=0.1 powersgd:rank=2"
for codec in $codecs; do job 2 "codec-$codec" $small --codec "$codec" --objective bytes --steps 40 --json; done
run="$small --codec quant:bits=4 --steps 25 --json"
job 2 a $run
job 2 b $run
job 2 c $run --seed 6
job 3 d $run
# Resumed also between the calls in which ranks exchange whole histograms. Plans too, where no clock has a part in them
clockless="TAUT_LINK=20mbit TAUT_REPLAN_STEPS=5"
stops="9 13 20"
resumed() { # resumed NAME OPTIONS...
    name=$1
    shift
    job 2 "whole-$name" $clockless $small "$@" --json --steps 20
    job 2 "half-$name" $clockless $small "$@" --json --steps 4 --checkpoint "$dir/ck-$name"
    for at in $stops; do job 2 "rest$at-$name" $clockless $small "$@" --json --steps $at --checkpoint "$dir/ck-$name" --resume; done
}
# ... with the log of one that was killed in the middle of a line
printf '{"kind":"run","model":"gpt","steps":20}\n{"kind":"step","st' >"$dir/cut.jsonl"
resumed grid --codec grid:rel=0.05
job 2 on $clockless $small --codec grid:rel=0.05 --steps 21 --checkpoint "$dir/ck-grid" --resume --log "$dir/cut.jsonl"
resumed none --codec grid:rel=0.05 --scale none
resumed row --codec grid:rel=0.05 --scale row
resumed bytes --codec auto --objective bytes
resumed rel --codec auto --budget rel=0.1
resumed powersgd --codec powersgd:rank=2
job 2 twin $clockless $small --codec auto --budget rel=0.1 --json --steps 20
job 3 more $small --codec auto --objective bytes --json --steps 30 --checkpoint "$dir/ck-bytes" --resume
job 2 log $small --codec none --layer-codec 'b.*.fc.weight=quant:bits=2' --steps 12 --eval-every 5 --log "$dir/run.jsonl"
job 2 cmp $small --codec quant:bits=4 --compare none --steps 8
job 2 env TAUT_CODEC=quant:bits=4 $small --codec none --steps 6 --json
job 2 plan $small --codec auto --objective bytes --budget like:quant:bits=4 --steps 30 --json --log "$dir/plan.jsonl"
job 2 plain $small --codec none --steps 3 --json --data "$dir/text.txt"
job 2 packed $small --codec none --steps 3 --json --data "$dir/text.txt.gz"
images="--batch 8 --steps 60 --lr 0.01 --codec quant:bits=4 --json"
job 2 mlp --model mlp --dim 64 --data "$dir/idx" $images
job 2 gz --model mlp --dim 64 --data "$dir/gz" $images
job 2 named --model mlp --dim 64 --data "$dir/other/t10k-images-idx3-ubyte" --batch 8 --steps 60 --lr 0.01 --codec none --json
job 2 script --model script:tests/unit/data/perceptron.pt --data "$dir/idx" $images

# Bad input: a non-zero exit, and one sentence with the value. bad CODE TEXT [VARIABLE=VALUE ...] OPTIONS...
bads=0
: >"$dir/bads"
bad() {
    bads=$((bads + 1))
    printf '%s\t%s\t%s\n' "$1" "$2" "bad$bads" >>"$dir/bads"
    shift 2
    case $1 in TAUT_*) job 2 bad$bads "$1" $small --steps 2 "$2" "$3" ;; *) job 2 bad$bads $small --steps 2 "$@" ;; esac
}
bad 2 'bits=9: must be an integer 1..8' TAUT_CODEC=quant:bits=9 --codec none
bad 2 "bits" --codec quant:bits=9
bad 2 "density" --codec topk:density=0
bad 2 "must be PATTERN=SPEC" --layer-codec quant
bad 2 "budget" --codec auto --budget rel=-1
echo kept >"$dir/kept.jsonl"
bad 2 "budget" --codec auto --budget rel=2 --log "$dir/kept.jsonl"
# ... and with half a line that cannot be cut off, as where a log can only be appended to
printf '{"kind":"step","st' >"$dir/sealed.jsonl"
chattr +a "$dir/sealed.jsonl" 2>/dev/null && {
    job 2 sealed $clockless $small --codec grid:rel=0.05 --steps 22 --checkpoint "$dir/ck-grid" --resume --log "$dir/sealed.jsonl"
    printf '1\tcannot be cut off\tsealed\n' >>"$dir/bads"
}
bad 2 "nosuch" --codec nosuch
bad 2 "rank" --layer-codec b.0.fc.weight=powersgd:rank=1000
bad 2 "fits none of the" --layer-codec zz=quant:bits=4
bad 2 "steps=-1" --steps -1
bad 2 "adam" --optimizer sgd --metric optimizer
bad 1 "short.txt: 9 chars: must be at least" --data "$dir/short.txt"
bad 1 "empty.txt: 0 chars: must be at least" --data "$dir/empty.txt"
bad 1 "at least 2 different" --data "$dir/same.txt"
bad 1 "truncated" --model mlp --data "$dir/cut"
bad 2 "data is needed" --model mlp
bad 1 "images.bin: a file of images is called NAME-images-idx3" --model mlp --data "$dir/images.bin"
bad 1 "text.zst: compressed with zstd: unpack it first" --data "$dir/text.zst"
bad 1 "nothere.pt" --model script:"$dir/nothere.pt"
bad 1 "/nowhere/" --checkpoint /nowhere/ck
bad 1 "bad.ck" --checkpoint "$dir/bad.ck" --resume
bad 1 "nothere.ck" --checkpoint "$dir/nothere.ck" --resume
bad 2 "device=gpu: must be cpu, cuda or cuda:N" --device gpu
bad 2 "device=cuda:x: must be cpu, cuda or cuda:N" --device cuda:x
bad 2 "nccl: needs --device cuda or cuda:N" --nccl
if [ "$(nvidia-smi -L 2>/dev/null | wc -l)" -gt 0 ]; then
    skip "there is a GPU: train --device cuda is for make check-gpu"
else
    bad 1 "device='cuda:.': this libtorch sees no CUDA device; use cpu" --device cuda
    bad 1 "device='cuda:3': this libtorch sees no CUDA device; use cpu" --device cuda:3 --nccl
fi
run_jobs 2
[ ! -e "$dir/sealed.rc" ] || chattr -a "$dir/sealed.jsonl" # or the folder could not be removed
run_jobs 3

# ---- every codec learns, and all ranks end with the same parameters ----
for codec in $codecs; do
    it=codec-$codec
    if ! ended "$it"; then
        fail "$codec: exit $(rc_of "$it"): $(head -n 2 "$dir/$it.err")"
        continue
    fi
    limit=$(top loss_first "$it" | awk '{print $1 - 0.6}')
    if less "$(top loss_val "$it")" "$limit"; then pass; else fail "$codec: loss $(top loss_first "$it") -> $(top loss_val "$it")"; fi
    if [ "$(top identical "$it")" = true ]; then pass; else fail "$codec: ranks differ"; fi
    case $codec in
    none) if less "$(top ratio "$it")" 1.01; then pass; else fail "none: ratio $(top ratio "$it")"; fi ;;
    *) # without the probes, which so short a run notices
        ratio=$(awk -v d="$(top bytes_dense "$it")" -v s="$(top bytes_sent "$it")" -v p="$(top bytes_probes "$it")" 'BEGIN { print d / (s - p) }')
        if less 1.2 "$ratio"; then pass; else fail "$codec: ratio $ratio"; fi ;;
    esac
done

# ---- the same seed gives the same run; another one does not; any number of ranks works ----
if [ -n "$(top loss_val a)" ] && [ "$(top loss_val a)" = "$(top loss_val b)" ]; then pass; else fail "repeat: $(top loss_val a), $(top loss_val b)"; fi
if ended c && [ "$(top loss_val a)" != "$(top loss_val c)" ]; then pass; else fail "another seed, the same loss"; fi
if ended d && [ "$(top identical d)" = true ]; then pass; else fail "3 ranks: $(head -n 2 "$dir/d.err")"; fi
if timeout 60 "$TAUT" train $run >"$dir/alone.out" 2>&1 && [ "$(top loss_val alone)" = "$(train 1 e $run; top loss_val e)" ]; then pass; else fail "without mpirun"; fi
# ... and in processes of its own it is the same
train 2 own $run
if [ -n "$(top loss_val a)" ] && [ "$(top loss_val a)" = "$(top loss_val own)" ]; then pass; else fail "other jobs before it: $(top loss_val a), alone $(top loss_val own)"; fi

# ---- stopped and resumed is as if never stopped ----
for name in grid none row bytes rel powersgd; do
    if [ -n "$(top loss_val whole-$name)" ] && [ "$(top loss_val whole-$name)" = "$(top loss_val rest20-$name)" ]; then pass; else
        fail "$name resumed at 4 and before each of $stops: $(top loss_val whole-$name) uninterrupted, $(top loss_val rest20-$name) resumed $(head -n 1 "$dir/rest20-$name.err")"; fi
done
[ "$(top plans whole-rel)" != 0 ] && [ "$(top loss_val whole-rel)" = "$(top loss_val twin)" ] && pass || fail "two runs with auto: $(top loss_val whole-rel), $(top loss_val twin)"
if ended more; then pass; else fail "resume with three ranks: $(head -n 1 "$dir/more.err")"; fi
[ "${LONG:-0}" = 0 ] || if train 1 fewer $small --codec powersgd:rank=2 --json --steps 25 --checkpoint "$dir/ck-powersgd" --resume; then pass; else fail "resume with one rank: $(head -n 1 "$dir/fewer.err")"; fi

# ---- log, table, choice per layer ----
if [ "$(grep -c '"kind":"step"' "$dir/run.jsonl")" = 12 ] && [ "$(grep -c '"kind":"eval"' "$dir/run.jsonl")" = 3 ] &&
    tail -n 1 "$dir/run.jsonl" | grep -q '"kind":"end"'; then pass; else fail "log: $(cut -c1-80 "$dir/run.jsonl" | tail -n 3)"; fi
if ended on && grep -q '"step":21,' "$dir/cut.jsonl" && "$TAUT" report "$dir/cut.jsonl" -o "$dir/cut.html" >"$dir/cut.out" 2>&1; then pass; else fail "a log goes on behind half a line: $(cat "$dir/cut.out")"; fi
if grep -q '^b.0.fc.weight .* quant:bits=2' "$dir/log.out" && grep -q '^b.0.out.weight .* none' "$dir/log.out"; then pass; else fail "table: $(grep fc.weight "$dir/log.out")"; fi
if grep -q '^validation loss [+-][0-9.]*% with' "$dir/cmp.out"; then pass; else fail "compare: $(tail -n 2 "$dir/cmp.out")"; fi

# ---- what the environment overrides is what the summary names; the budget beside what was made of it ----
if [ "$(top codec env)" = quant:bits=4 ] && grep -q '^all .* quant:bits=4 ' "$dir/env.out"; then pass; else fail "TAUT_CODEC: the summary names $(top codec env)"; fi
mean() { sed -n 's/.*"kind":"step".*"rel_err2_metric":\([^,]*\),"budget":\([^,]*\),.*/\1 \2/p' "$dir/plan.jsonl" |
    awk -v k="$1" '$2 > 0 { n++; s += $k } END { printf "%.9g", s / n }'; }
close_to() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && b != "" && d <= 1e-5 * b) }'; }
close_to "$(top budget plan)" "$(mean 2)" && pass || fail "budget $(top budget plan), mean of the steps $(mean 2)"
close_to "$(top budgeted_err2 plan)" "$(mean 1)" && pass || fail "budgeted_err2 $(top budgeted_err2 plan), mean of the steps $(mean 1)"
if less 0 "$(top bytes_probes plan)" && less "$(top bytes_probes plan)" "$(top bytes_sent plan)"; then pass; else fail "bytes_probes $(top bytes_probes plan) of $(top bytes_sent plan)"; fi
[ ! -c /dev/full ] || { TAUT_TRACE=/dev/full "$TAUT" train $small --codec none --steps 2 >/dev/full 2>"$dir/bad.err"
    [ $? -eq 1 ] && grep -q 'standard output: ' "$dir/bad.err" && grep -q "trace could not be written" "$dir/bad.err" && pass || fail "a full disk for the table: $(head -n 2 "$dir/bad.err")"; }

# ---- text that is compressed; images, mlp and a TorchScript module ----
if [ -n "$(top loss_val plain)" ] && [ "$(top loss_val plain)" = "$(top loss_val packed)" ]; then pass; else fail "text.txt.gz: $(top loss_val packed), plain $(top loss_val plain)"; fi
if ended mlp && less 0.9 "$(top accuracy_val mlp)"; then pass; else fail "mlp: accuracy $(top accuracy_val mlp) $(head -n 1 "$dir/mlp.err")"; fi
if less "$(top loss_val named)" 0.01; then pass; else fail "--data .../t10k-images-idx3-ubyte trains on another file: loss $(top loss_val named) $(head -n 1 "$dir/named.err")"; fi
if ended gz && [ "$(top loss_val gz)" = "$(top loss_val mlp)" ]; then pass; else fail "gz: $(head -n 1 "$dir/gz.err")"; fi
if ended script && less "$(top loss_val script)" 1; then pass; else fail "script: $(head -n 1 "$dir/script.err")"; fi

# ---- bad input ----
LIMIT=60
# judge CODE TEXT RC WHAT [NAME]: of the run whose stderr is NAME.err, else bad.err
judge() {
    err=$dir/${5:-bad}.err
    if [ "$3" != "$1" ]; then fail "$4: exit $3, expected $1: $(head -n 1 "$err")"
    elif ! grep -q -e "$2" "$err"; then fail "$4: no '$2' in: $(head -n 1 "$err")"
    elif [ "$(grep -c '^taut train: ' "$err")" != 1 ]; then fail "$4: $(grep -c '^taut train: ' "$err") messages"
    else pass; fi
}
while IFS="$(printf '\t')" read -r code text name; do judge "$code" "$text" "$(rc_of "$name")" "$(grep "^$name " "$dir/jobs.2")" "$name"; done <"$dir/bads"
[ "$(cat "$dir/kept.jsonl")" = kept ] && pass || fail "a log of before is gone, of a run that did not begin"
# the exit codes of the processes themselves, alone and of two ranks
alone() { # alone CODE TEXT OPTIONS...
    code=$1 text=$2
    shift 2
    timeout -k 5 $LIMIT "$TAUT" train $small --steps 2 "$@" >"$dir/bad.out" 2>"$dir/bad.err"
    judge "$code" "$text" $? "$*"
}
alone 2 "model=cnn: must be gpt, mlp or script:FILE" --model cnn
alone 1 "cut.txt.gz: damaged or truncated" --data "$dir/cut.txt.gz"
# what only one rank sees ends all of them
bad_mixed() { # bad_mixed CODE TEXT "OPTIONS OF RANK 0" "OPTIONS OF RANK 1"
    # shellcheck disable=SC2086
    timeout -k 5 $LIMIT "$MPIRUN" -n 1 "$TAUT" train $small --steps 2 $3 : -n 1 "$TAUT" train $small --steps 2 $4 \
        >"$dir/bad.out" 2>"$dir/bad.err"
    judge "$1" "$2" $? "rank 0: $3, rank 1: $4"
}
bad_mixed 1 "rank 1: .*nothere" "--data $dir/digits.txt" "--data $dir/nothere"
bad_mixed 1 "different data" "--data $dir/digits.txt" "--data $dir/even.txt"
[ "${LONG:-0}" = 0 ] || bad_mixed 2 "different options" "--codec none" "--codec quant:bits=4"
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
[ "${LONG:-0}" = 0 ] || each 2 "bits=9: must be an integer 1..8" --codec quant:bits=9
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
