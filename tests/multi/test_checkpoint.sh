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
train 2 --steps 9 --checkpoint-every 2 --checkpoint "$dir/good/ck" || fail "saving: $(head -n 2 "$dir/err")"
train 2 --steps 9 --checkpoint-every 2 --checkpoint "$dir/foreign/ck" --seed 6 || fail "saving: $(head -n 2 "$dir/err")"
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
cp -r "$dir/good" "$dir/set"
train 1 --steps 12 --checkpoint "$dir/set/ck" --resume && right=$(loss) || fail "resume: $(head -n 2 "$dir/err")"
rm -rf "$dir/set"
cp -r "$dir/good" "$dir/set"
printf 'x' | dd of="$dir/set/ck.$now.rank1" bs=1 seek=20000 conv=notrunc 2>/dev/null
train 1 --steps 12 --checkpoint "$dir/set/ck" --resume
if [ $? -eq 1 ] && grep -q "^taut train: .*set/ck.$now.rank1: damaged" "$dir/err"; then pass; else fail "a damaged set: $(head -n 2 "$dir/err")"; fi

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
train 2 --steps $((${at:-0} + 1)) --checkpoint "$dir/live" --resume || { lost=$((lost + 1)); fail "the last kill, at step ${at:-?}: $(head -n 2 "$dir/err")"; }
echo "$kills kills, $lost not resumed"
[ $lost -eq 0 ] && pass
files=$(ls "$dir" | grep -c '^live\.[0-9]*\.')
[ "$files" -eq 6 ] && pass || fail "after the kills $files files of generations are left, not 6: $(ls "$dir" | tr '\n' ' ')"

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
rm -f "$dir"/whole* "$dir"/cut*
train 2 --steps 120 --eval-every 0 --log "$dir/whole" || fail "a run that nobody kills: $(head -n 2 "$dir/err")"
right_end=$(loss)
i=0
while [ $i -lt "$runs" ]; do
    i=$((i + 1))
    rm -f "$dir"/cut*
    start cut --steps 120 --eval-every 0 --checkpoint "$dir/cut" --checkpoint-every 3 --log "$dir/cutlog"
    upto=$(awk -v s="$seed" -v i="$i" 'BEGIN { srand(s % 1000000 + 77 + i); print 3 + int(rand() * 90) }')
    until [ "$(steps_logged "$dir/cutlog")" -ge "$upto" ] || ! kill -0 $job 2>/dev/null; do sleep 0.02; done
    kill -KILL "$(cat "$dir/cut.pid.$((i % 2))")" "$(cat "$dir/cut.pid.$(((i + 1) % 2))")" 2>/dev/null
    wait $job
    resume=--resume
    [ -e "$dir/cut" ] || resume=
    # a loaded machine may notice so late that the run has ended
    if [ "$(step_of "$dir/cut" 2>/dev/null)" = 120 ]; then cp "$dir/cut.out" "$dir/out"; else
        train 2 --steps 120 --eval-every 0 --checkpoint "$dir/cut" --checkpoint-every 3 --log "$dir/cutlog" $resume || { fail "resuming at ${upto}: $(head -n 2 "$dir/err")"; continue; }
    fi
    what=$(compare "$dir/whole" "$dir/cutlog") && [ "$(loss)" = "$right_end" ] && pass || fail "killed after $upto steps: ends with $(loss), not $right_end; $what"
done

# ---- signals: the step's end is saved, exit 130 or 143, and the run goes on as if it had not stopped ----
[ "$LONG" = 0 ] && signals=TERM:143 || signals="INT:130 TERM:143 USR1:138"
for s in $signals; do
    rm -f "$dir/log" "$dir"/sig*
    start sig --steps 1000000 --checkpoint "$dir/sig" --log "$dir/log"
    until [ "$(steps_logged "$dir/log")" -ge 5 ] || ! kill -0 $job 2>/dev/null; do sleep 0.05; done
    kill -"${s%:*}" "$(cat "$dir/sig.pid.1")"
    wait $job
    rc=$?
    at=$(step_of "$dir/sig")
    if [ $rc -eq "${s#*:}" ] && [ "${at:-0}" -ge 5 ] && grep -q "SIG${s%:*} at step $at of" "$dir/sig.err"; then pass; else
        fail "SIG${s%:*}: exit $rc, step ${at:-none}: $(head -n 2 "$dir/sig.err")"; fi
    train 2 --steps $((at + 3)) --checkpoint "$dir/sig" --resume
    rest=$(loss)
    train 2 --steps $((at + 3))
    if [ -n "$rest" ] && [ "$rest" = "$(loss)" ]; then pass; else fail "SIG${s%:*}: resumed $rest, uninterrupted $(loss)"; fi
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

# a file that is nobody's checkpoint is not written over
printf 'my thesis' >"$dir/thesis"
train 1 --steps 2 --checkpoint "$dir/thesis"
if [ $? -eq 1 ] && grep -q "thesis: not a checkpoint" "$dir/err" && [ "$(cat "$dir/thesis")" = 'my thesis' ]; then pass; else fail "wrote over a file: $(head -n 1 "$dir/err")"; fi

# ---- numbers that are not finite, or far off, are said and are no success ----
diverges() {
    rm -f "$dir/div"*
    train 2 --steps 30 --warmup 0 --checkpoint "$dir/div" "$@"
    rc=$?
    if [ $rc -eq 1 ] && [ "$(grep -c '^taut train: diverged: ' "$dir/err")" = 1 ]; then pass; else fail "diverging with $*: exit $rc: $(head -n 2 "$dir/err")"; fi
}
[ "$LONG" = 0 ] || diverges --lr 1000
[ "$LONG" = 0 ] || diverges --lr 1000 --optimizer sgd --clip 0
[ "$LONG" = 0 ] || diverges --lr 1000 --codec grid:rel=0.05 --clip 0
diverges --lr 1000 --optimizer adamw --weight-decay 10 --codec none

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
