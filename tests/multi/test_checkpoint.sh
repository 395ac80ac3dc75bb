#!/bin/sh
# Checkpoints of taut train: whatever happens to a run or to its files, a set is resumed right or refused with the file's
# name. kill -9 at any moment, a full disk, signals, flipped bits, cut, missing, swapped and foreign files.
# LONG=1: 1,000 mutated sets and 50 kills, else 40 and 1; MUT, KILLS and RUNS ask for other numbers, PATIENCE for longer timeouts (1: a minute).
set -u
BUILD=${BUILD:-build/release}
TAUT=$BUILD/bin/taut
MPIRUN=${MPIRUN:-mpirun}
LONG=${LONG:-0}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
passed=0 failed=0 skipped=0
dir=$(mktemp -d)
trap 'umount "$dir/disk" 2>/dev/null; rm -rf "$dir"' EXIT
pass() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAIL $*"
}
if [ ! -x "$BUILD/libexec/taut-train" ] || ! command -v "$MPIRUN" >/dev/null; then
    echo "SKIP taut train was not built, or there is no mpirun"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
[ "$LONG" = 1 ] && mutations=${MUT:-1000} kills=${KILLS:-50} || mutations=${MUT:-40} kills=${KILLS:-1}
patience=$((60 * ${PATIENCE:-1}))

small="--dim 16 --blocks 1 --heads 2 --ctx 16 --batch 2 --eval-samples 16 --seed 5 --codec topk:density=0.1 --json"
train() { # train RANKS OPTIONS...: one rank without mpirun
    ranks=$1
    shift
    if [ "$ranks" = 1 ]; then timeout -k 5 $patience "$TAUT" train $small "$@"; else timeout -k 5 $((2 * patience)) "$MPIRUN" -n "$ranks" "$TAUT" train $small "$@"; fi >"$dir/out" 2>"$dir/err"
}
# job RANKS NAME OPTIONS...: is run by run_jobs RANKS, in one process a rank with those before it (train_jobs.c), since libtorch takes longer to start
job() {
    ranks=$1
    shift
    name=$1
    shift
    echo "$name $small $*" >>"$dir/jobs.$ranks"
}
run_jobs() {
    [ "$1" = 1 ] && set -- "$1" || set -- "$1" "$MPIRUN" -n "$1"
    jobs=$dir/jobs.$1
    shift
    timeout -k 5 $((10 * patience)) "$@" "$BUILD/tests/multi/train_jobs" "$dir" "$jobs" >"$dir/jobs.log" 2>&1 || fail "jobs: exit $?: $(tail -n 3 "$dir/jobs.log")"
    rm -f "$jobs"
}
rc_of() { cat "$dir/$1.rc" 2>/dev/null || echo "none, the job did not end"; }
ended() { [ "$(rc_of "$1")" = 0 ]; } # ended NAME: as it should
loss_of() { tail -n 1 "$dir/$1.out" | sed -n 's/.*"loss_val": *\([^,]*\),.*/\1/p'; }
loss() { tail -n 1 "$dir/out" | sed -n 's/.*"loss_val": *\([^,]*\),.*/\1/p'; }
step_of() { sed -n 's/^step //p' "$1"; }
generation_of() { sed -n 's/^generation //p' "$1"; }

cat >"$dir/noted" <<'SH'
#!/bin/sh
echo $$ >"$1.${OMPI_COMM_WORLD_RANK:-$PMI_RANK}"; shift
exec "$@"
SH
chmod +x "$dir/noted"

# ---- the last two are kept, and nothing else ----
mkdir "$dir/good" "$dir/foreign"
job 2 saving --steps 9 --checkpoint-every 2 --checkpoint "$dir/good/ck"
job 2 other --steps 9 --checkpoint-every 2 --checkpoint "$dir/foreign/ck" --seed 6
job 2 unkilled --steps 120 --eval-every 0 --log "$dir/whole"
# numbers that are not finite, or far off: below
diverges='--lr 1000 --optimizer adamw --weight-decay 10 --codec none'
[ "$LONG" = 0 ] || diverges="$diverges
--lr 1000
--lr 1000 --optimizer sgd --clip 0
--lr 1000 --codec grid:rel=0.05 --clip 0"
echo "$diverges" | {
    i=0
    while read -r options; do
        i=$((i + 1))
        job 2 diverging-$i --steps 30 --warmup 0 --checkpoint "$dir/div-$i" $options
    done
}
run_jobs 2
for name in saving other unkilled; do ended $name || fail "$name: $(head -n 2 "$dir/$name.err")"; done
now=$(generation_of "$dir/good/ck") old=$(generation_of "$dir/good/ck.prev")
files=$(ls "$dir/good" | tr '\n' ' ')
want="ck ck.$old.model ck.$old.rank0 ck.$old.rank1 ck.$now.model ck.$now.rank0 ck.$now.rank1 ck.prev "
if [ "$files" = "$want" ] && [ "$(step_of "$dir/good/ck")" = 9 ] && [ "$(step_of "$dir/good/ck.prev")" = 8 ]; then pass; else fail "after 9 steps there are: $files"; fi

# ---- mutated sets, in one process, since starting libtorch takes longer than all else: checkpoint_sets.c ----
seed=${SEED:-$(date +%N | sed 's/^0*//')}
echo "seed $seed, $mutations mutated sets, $kills kills"
mutated() { # mutated RANKS COUNT
    mkdir -p "$dir/sets"
    options="$small --steps 12"
    set -- "$1" "$BUILD/tests/multi/checkpoint_sets" "$dir/good" "$dir/foreign" "$dir/sets" "$2" "$seed" $options
    ranks=$1
    shift
    [ "$ranks" = 1 ] || set -- "$MPIRUN" -n "$ranks" "$@"
    timeout -k 5 $((10 * patience)) "$@" >"$dir/out" 2>"$dir/err"
    rc=$?
    tail -n 1 "$dir/out"
    if [ $rc -eq 0 ] && grep -q ', 0 wrong$' "$dir/out"; then pass; else fail "mutated sets, $ranks ranks: exit $rc: $(head -n 8 "$dir/err")"; fi
}
mutated 1 "$mutations"
[ "$LONG" = 0 ] || mutated 2 $((mutations / 4))
# ... and what the command makes of one
cp -r "$dir/good" "$dir/whole-set"
cp -r "$dir/good" "$dir/set"
printf 'x' | dd of="$dir/set/ck.$now.rank1" bs=1 seek=20000 conv=notrunc 2>/dev/null
printf 'my thesis' >"$dir/thesis"
job 1 resumed --steps 12 --checkpoint "$dir/whole-set/ck" --resume
job 1 damaged --steps 12 --checkpoint "$dir/set/ck" --resume
job 1 thesis-job --steps 2 --checkpoint "$dir/thesis"
run_jobs 1
ended resumed && right=$(loss_of resumed) || fail "resume: $(head -n 2 "$dir/resumed.err")"
if [ "$(rc_of damaged)" = 1 ] && grep -q "^taut train: .*set/ck.$now.rank1: damaged" "$dir/damaged.err"; then pass; else fail "a damaged set: $(head -n 2 "$dir/damaged.err")"; fi
# a file that is nobody's checkpoint is not written over
if [ "$(rc_of thesis-job)" = 1 ] && grep -q "thesis: not a checkpoint" "$dir/thesis-job.err" && [ "$(cat "$dir/thesis")" = 'my thesis' ]; then pass; else fail "wrote over a file: $(head -n 1 "$dir/thesis-job.err")"; fi

# ---- kill -9 at any moment ----
start() { # start NAME OPTIONS...: two ranks in the background; their process ids are in NAME.pid.0 and .1
    name=$1
    shift
    rm -f "$dir/$name".pid.*
    timeout -k 5 $((2 * patience)) "$MPIRUN" -n 2 "$dir/noted" "$dir/$name.pid" "$TAUT" train $small "$@" >"$dir/$name.out" 2>"$dir/$name.err" &
    job=$!
}
steps_logged() { cat "$1" 2>/dev/null | grep -c '"kind":"step"'; }
# Each run begins where the one before was killed, and goes on: three steps, and then some.
i=0 lost=0
while [ $i -lt "$kills" ]; do
    i=$((i + 1))
    rm -f "$dir/log"
    resume=
    [ ! -e "$dir/live" ] || resume=--resume
    from=$(step_of "$dir/live" 2>/dev/null)
    start live --steps 1000000 --checkpoint-every 1 --eval-every 0 --checkpoint "$dir/live" --log "$dir/log" $resume
    until [ "$(steps_logged "$dir/log")" -ge 3 ] || ! kill -0 $job 2>/dev/null; do sleep 0.05; done
    sleep "$(awk -v s="$seed" -v i="$i" 'BEGIN { srand(s % 1000000 + i); printf "%.3f", 0.2 * rand() }')"
    kill -KILL "$(cat "$dir/live.pid.$((i % 2))")" "$(cat "$dir/live.pid.$(((i + 1) % 2))")" 2>/dev/null
    wait $job
    first=$(sed -n 's/.*"kind":"step","step":\([0-9]*\).*/\1/p' "$dir/log" 2>/dev/null | head -n 1)
    if [ "${first:-0}" -ne $((${from:-0} + 1)) ]; then lost=$((lost + 1)); fail "run $i begins with step ${first:-none}, killed at ${from:-0}: $(head -n 2 "$dir/live.err")"; fi
done
at=$(step_of "$dir/live")
job 2 last-kill --steps $((${at:-0} + 1)) --checkpoint "$dir/live" --resume # runs with what is resumed below

# ---- killed and resumed until the end: every loss, and the bytes of every step, of a run that nobody killed ----
# A run's first step has the bytes of its beginning beside its own.
compare() { # WHOLE PARTS: logs
    awk -F'[,:{}]' '
        function field(name,   i) { for (i = 4; i < NF; i++) # behind "kind":"step"
            if ($i == "\"" name "\"") return $(i + 1); return "" }
        /"kind":"run"/ { last = -1 }
        /"kind":"step"/ { s = field("step"); b = field("bytes_sent"); l = field("loss")
            if (FILENAME == ARGV[1]) { loss[s] = l; bytes[s] = b - before; all++ }
            else { if (l != loss[s]) { print "step", s, "loss", l, "and not", loss[s]; bad = 1 }
                   if (last == s - 1 && b - before != bytes[s]) { print "step", s, b - before, "bytes, and not", bytes[s]; bad = 1 }
                   seen[s] = 1 }
            before = b; last = s }
        END { for (s in loss) n += seen[s]; if (n != all || all == 0) { print n + 0, "of", all + 0, "steps"; bad = 1 } exit bad }' "$1" "$2"
}
runs=${RUNS:-$([ "$LONG" = 1 ] && echo 20 || echo 1)}
right_end=$(loss_of unkilled)
i=0
while [ $i -lt "$runs" ]; do
    i=$((i + 1))
    start cut$i --steps 120 --eval-every 0 --checkpoint "$dir/cut$i" --checkpoint-every 3 --log "$dir/cutlog$i"
    upto=$(awk -v s="$seed" -v i="$i" 'BEGIN { srand(s % 1000000 + 77 + i); print 3 + int(rand() * 90) }')
    until [ "$(steps_logged "$dir/cutlog$i")" -ge "$upto" ] || ! kill -0 $job 2>/dev/null; do sleep 0.02; done
    kill -KILL "$(cat "$dir/cut$i.pid.$((i % 2))")" "$(cat "$dir/cut$i.pid.$(((i + 1) % 2))")" 2>/dev/null
    wait $job
    resume=--resume
    [ -e "$dir/cut$i" ] || resume=
    # a loaded machine may notice so late that the run has ended
    if [ "$(step_of "$dir/cut$i" 2>/dev/null)" = 120 ]; then
        cp "$dir/cut$i.out" "$dir/cutrest$i.out"
        echo 0 >"$dir/cutrest$i.rc"
    else
        job 2 cutrest$i --steps 120 --eval-every 0 --checkpoint "$dir/cut$i" --checkpoint-every 3 --log "$dir/cutlog$i" $resume
    fi
done

# ---- signals: the step's end is saved, exit 130 or 143, and the run goes on as if it had not stopped ----
[ "$LONG" = 0 ] && signals=TERM:143 || signals="INT:130 TERM:143 USR1:138"
for s in $signals; do
    sig=sig${s%:*}
    rm -f "$dir/log"
    start $sig --steps 1000000 --checkpoint "$dir/$sig" --log "$dir/log"
    until [ "$(steps_logged "$dir/log")" -ge 5 ] || ! kill -0 $job 2>/dev/null; do sleep 0.05; done
    kill -"${s%:*}" "$(cat "$dir/$sig.pid.1")"
    wait $job
    rc=$?
    at=$(step_of "$dir/$sig")
    if [ $rc -eq "${s#*:}" ] && [ "${at:-0}" -ge 5 ] && grep -q "SIG${s%:*} at step $at of" "$dir/$sig.err"; then pass; else
        fail "SIG${s%:*}: exit $rc, step ${at:-none}: $(head -n 2 "$dir/$sig.err")"; fi
    job 2 $sig-rest --steps $((${at:-0} + 3)) --checkpoint "$dir/$sig" --resume
    job 2 $sig-whole --steps $((${at:-0} + 3))
done

# ---- ... and what becomes of those that were stopped ----
run_jobs 2
ended last-kill || { lost=$((lost + 1)); fail "the last kill: $(head -n 2 "$dir/last-kill.err")"; }
echo "$kills kills, $lost not resumed"
[ $lost -eq 0 ] && pass
files=$(ls "$dir" | grep -c '^live\.[0-9][0-9]*\.')
[ "$files" -eq 6 ] && pass || fail "after the kills $files files of generations are left, not 6: $(ls "$dir" | tr '\n' ' ')"
i=0
while [ $i -lt "$runs" ]; do
    i=$((i + 1))
    ended cutrest$i || { fail "resuming a killed run: $(head -n 2 "$dir/cutrest$i.err")"; continue; }
    what=$(compare "$dir/whole" "$dir/cutlog$i") && [ "$(loss_of cutrest$i)" = "$right_end" ] && pass || fail "killed: ends with $(loss_of cutrest$i), not $right_end; $what"
done
for s in $signals; do
    sig=sig${s%:*}
    if [ -n "$(loss_of $sig-rest)" ] && [ "$(loss_of $sig-rest)" = "$(loss_of $sig-whole)" ]; then pass; else fail "SIG${s%:*}: resumed $(loss_of $sig-rest), uninterrupted $(loss_of $sig-whole)"; fi
done

# ---- a disk that is full: one sentence, no abort, and the set before is whole ----
full() { # full KIB: room on the disk beside the set that is there
    mkdir -p "$dir/disk"
    mount -t tmpfs -o size=$(($(du -sk "$dir/good" | cut -f1) + $1))k taut-test "$dir/disk" 2>/dev/null || return 1
    cp "$dir"/good/* "$dir/disk/"
    train 1 --steps 12 --checkpoint "$dir/disk/ck" --resume
    rc=$?
    if [ $rc -eq 1 ] && grep -q '^taut train: .*disk/ck.*No space left on device' "$dir/err" && ! grep -q 'terminate called' "$dir/err"; then pass; else
        fail "$1 KiB of room: exit $rc: $(head -n 2 "$dir/err")"; fi
    if diff -r "$dir/good" "$dir/disk" >/dev/null; then pass; else fail "a full disk left: $(ls "$dir/disk" | tr '\n' ' ')"; fi
    rm -rf "$dir/set"
    cp -r "$dir/disk" "$dir/set"
    umount "$dir/disk"
    if train 1 --steps 12 --checkpoint "$dir/set/ck" --resume && [ "$(loss)" = "$right" ]; then pass; else fail "after a full disk: $(head -n 2 "$dir/err")"; fi
}
state=$(($(wc -c <"$dir/good/ck.$now.rank0") / 1024)) model=$(($(wc -c <"$dir/good/ck.$now.model") / 1024))
if full $((state + model / 2)); then
    [ "$LONG" = 0 ] || { full 4; full $((state / 2)); }
else
    skipped=1
    echo "SKIP no small disk can be mounted here (not root): a full disk"
fi

# ---- numbers that are not finite, or far off, are said and are no success ----
i=0
while [ -e "$dir/diverging-$((i + 1)).err" ]; do
    i=$((i + 1))
    if [ "$(rc_of diverging-$i)" = 1 ] && [ "$(grep -c '^taut train: diverged: ' "$dir/diverging-$i.err")" = 1 ]; then pass; else fail "diverging, $i: exit $(rc_of diverging-$i): $(head -n 2 "$dir/diverging-$i.err")"; fi
done
[ $i -ge 1 ] || fail "nothing diverged"

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
