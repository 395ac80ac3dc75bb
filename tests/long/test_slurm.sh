#!/bin/bash
# test_slurm.sh : the batch scripts of launch/slurm, the very files that users copy, in a Slurm of our own (tests/support/slurm.sh): they
# run, are preempted, warned, cancelled and killed, go back into the queue, and end with the loss of a run that nobody disturbed.
# `make check-slurm`; run alone.
set -u
BUILD=$(readlink -f "${BUILD:-build/release}")
HERE=$PWD
WORK=$(mktemp -d)
. tests/support/preload.sh
. tests/support/slurm.sh
leave() { echo "SKIP $*"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
lacks=$(slurm_lacks)
[ -z "$lacks" ] || leave "$lacks"
[ -x "$BUILD/libexec/taut-train" ] && command -v mpirun >/dev/null || leave "taut train was not built, or there is no mpirun"
trap 'cd "$HERE"; slurm_stop; rm -rf "$WORK"' EXIT
slurm_start "$WORK" || { fail "Slurm does not come up"; echo "$passed passed, $failed failed"; exit 1; }

slurm_hurry
# what `module load taut` gives, and the scripts
export PATH=$BUILD/bin:$HERE/launch/slurm:$PATH
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
cp launch/slurm/*.sbatch "$WORK/"
awk '/<!-- begin train.py -->/ { on = 1; next } /<!-- end -->/ { on = 0 } on { sub(/^    /, ""); print }' docs/launch.md >"$WORK/train.py"
cd "$WORK" || exit 1
small="--dim 16 --blocks 1 --heads 2 --ctx 16 --batch 2 --eval-samples 16 --eval-every 0 --seed 5 --codec topk:density=0.1"
submit() { sbatch --parsable "$@" 2>&1; }
loss() { sed -n 's/.*validation \([0-9.]*\).*/\1/p' "$1" | tail -n 1; }
steps() { { cat "$1" 2>/dev/null || true; } | grep -c '"kind":"step"'; }
until_steps() { # LOG N: at least so many lines are there
    for _ in $(seq 6000); do [ "$(steps "$1")" -ge "$2" ] && return 0; sleep 0.1; done
    return 1
}
ran() { # WHAT JOB OUT: it has completed
    slurm_ended "$2" && [ "$(slurm_state "$2")" = COMPLETED ] && pass && return 0
    fail "$1: job $2 is $(slurm_state "$2"): $(tail -n 8 "$3" 2>&1)"
    return 1
}
same() { [ -n "$1" ] && [ "$1" = "$2" ] && pass || fail "$3: ended with loss '$1', undisturbed '$2'"; }
has() { grep -q "$1" "$2" && pass || fail "$2 lacks '$1': $(tail -n 8 "$2")"; }

# ---- what a run that nobody disturbs ends with ----
N=150
mpirun -n 2 taut train $small --steps $N >right.out 2>&1 || fail "a run without Slurm: $(tail -n 3 right.out)"
right=$(loss right.out)

# ---- mpirun and srun inside sbatch ----
# shellcheck disable=SC2086
job=$(RUN=plain submit mpirun.sbatch $small --steps $N)
ran mpirun "$job" "taut-$job.out" && same "$(loss "taut-$job.out")" "$right" mpirun
has 'on n\[0-1\]: plain, restart 0$' "taut-$job.out"
# two slurmd on one host cannot have two PMIx servers, so both ranks on one node here
# shellcheck disable=SC2086
job=$(RUN=tasks submit -N 1 -n 2 --ntasks-per-node=2 srun.sbatch $small --steps $N)
ran "srun --mpi=pmix" "$job" "taut-$job.out" && same "$(loss "taut-$job.out")" "$right" "srun --mpi=pmix"

# ---- preempted: saved, requeued while the other job runs, resumed ----
preempt() { # SCRIPT RUN SBATCH'S ARGUMENTS...
    local script=$1 run=$2 job other; shift 2
    # shellcheck disable=SC2086
    job=$(RUN=$run submit "$@" "$script" $small --steps 100000)
    until_steps "$run.jsonl" 5 || { fail "$script: no steps: $(tail -n 5 "taut-$job.out")"; scancel "$job"; return; }
    other=$(submit --exclusive -p urgent -N 2 -t 10 --wrap 'sleep 3')
    slurm_ended "$other" && [ "$(slurm_state "$other")" = COMPLETED ] && pass || fail "$script: the urgent job: $(slurm_state "$other")"
    until [ "$(grep -c resuming "taut-$job.out")" = 1 ] || [ -z "$(squeue -h -j "$job")" ]; do sleep 0.5; done
    has 'SIGUSR1 at step [0-9]* of 100000; .* holds it' "taut-$job.out"
    has 'restart 1, resuming' "taut-$job.out"
    local at; at=$(sed -n 's/.*SIGUSR1 at step \([0-9]*\) of.*/\1/p' "taut-$job.out" | head -n 1)
    until_steps "$run.jsonl" $((at + 5)) && pass || fail "$script: it does not go on: $(tail -n 5 "taut-$job.out")"
    scancel "$job"
    slurm_ended "$job"
    [ "$(slurm_state "$job")" = CANCELLED ] && pass || fail "$script: a cancelled job is $(slurm_state "$job")"
    # steps before and after, in one row and each once
    awk -v at="$at" -F'"step": *' '/"kind":"step"/ { split($2, a, /[,}]/); if (a[1] + 0 != ++n) { print "step", a[1], "after", n - 1; exit 1 } } END { exit n < at + 5 }' "$run.jsonl" &&
        pass || fail "$script: steps are missing, or came twice"
}
preempt mpirun.sbatch lowly
preempt srun.sbatch lowly2 -N 1 -n 2 --ntasks-per-node=2

# ---- warned by --signal before its time limit, which scancel does here; the loss is that of an undisturbed run; on another number of ranks it goes on ----
# shellcheck disable=SC2086
job=$(RUN=warned submit mpirun.sbatch $small --steps 600)
until_steps warned.jsonl 20 && scancel --signal=USR1 --batch "$job"
until grep -q resuming "taut-$job.out" 2>/dev/null || [ -z "$(squeue -h -j "$job")" ]; do sleep 0.3; done
ran warned "$job" "taut-$job.out"
mpirun -n 2 taut train $small --steps 600 >right2.out 2>&1
same "$(loss "taut-$job.out")" "$(loss right2.out)" "warned and requeued"
has 'holds it: --resume goes on' "taut-$job.out"
# shellcheck disable=SC2086
job=$(RUN=warned submit -N 1 -n 3 --ntasks-per-node=3 mpirun.sbatch $small --steps 640)
ran "on three ranks" "$job" "taut-$job.out" && has '3 ranks, 40 steps' "taut-$job.out"

# ---- a rank that is killed: an error, and with --retries another run ----
sed 's/exec taut-requeue /exec taut-requeue --retries 2 /; s/--checkpoint-every 500/--checkpoint-every 5/' mpirun.sbatch >retry.sbatch
# shellcheck disable=SC2086
job=$(RUN=killed submit retry.sbatch $small --steps 400)
until_steps killed.jsonl 20
pid=$(pgrep -f "taut-train.*killed.checkpoint" | head -n 1)
[ -n "$pid" ] && kill -KILL "$pid"
until grep -q resuming "taut-$job.out" 2>/dev/null || [ -z "$(squeue -h -j "$job")" ]; do sleep 0.3; done
ran "killed" "$job" "taut-$job.out" && has 'restart 1 of at most 2' "taut-$job.out"
mpirun -n 2 taut train $small --steps 400 >right3.out 2>&1
same "$(loss "taut-$job.out")" "$(loss right3.out)" "killed and resumed"
# without --retries it is an error that stays one
# shellcheck disable=SC2086
job=$(RUN=bad submit mpirun.sbatch $small --steps 10 --codec bogus)
slurm_ended "$job"
[ "$(slurm_state "$job")" = FAILED ] && ! grep -q requeueing "taut-$job.out" && pass || fail "a wrong codec: $(slurm_state "$job"): $(tail -n 3 "taut-$job.out")"

# ---- a rank that is killed, and the others go on without it: as mpirun --enable-recovery allows, in a job as elsewhere ----
if [ -x "$BUILD/tests/bench/steps_mpi" ]; then
    # once a rank is lost, mpirun does not end by itself where another daemon than itself started it: docs/launch.md
    job=$(TAUT_TIMEOUT_MS=3000 TAUT_DROPPED=restore submit -N 1 -n 3 --ntasks-per-node=3 -o shrunk.out --wrap \
        "mpirun -n 3 --bind-to none --enable-recovery $BUILD/tests/bench/steps_mpi quant:bits=8 30 lose 1 7 &
         until grep -q '^{' shrunk.out || ! kill -0 \$!; do sleep 1; done
         kill \$!; wait \$!")
    slurm_ended "$job" 300
    has '{"ranks": 2, "lost": 1, "lost_rank": 1, "steps": 7, "wrong": 0, "status": "TAUT_OK"' shrunk.out
else
    skip "no tests/bench/steps_mpi: a rank is lost in a job"
fi

# ---- an array of budgets: one task is warned, and only that one starts again ----
# shellcheck disable=SC2086
job=$(BUDGETS='none rel=0.1 topk:density=0.05' submit --array=1-3 -N 1 -n 2 --ntasks-per-node=2 sweep.sbatch ${small% --codec*} --steps 600)
until [ -f "sweep-$job-3.out" ] && [ "$(slurm_state "${job}_3")" = RUNNING ]; do sleep 0.2; [ -n "$(squeue -h -j "$job")" ] || break; done
sleep 3
scancel --signal=USR1 --batch "${job}_3"
for k in 1 2 3; do ran "task $k of the array" "${job}_$k" "sweep-$job-$k.out"; done
[ "$(cat "sweep-$job"-[12].out | grep -c 'restart 1')" = 0 ] && pass || fail "other tasks of the array were restarted"
has 'restart 1' "sweep-$job-3.out"
taut-sweep "sweep-$job"-[123].json >table 2>&1 && [ "$(grep -c "^\(none\|rel=0.1\|topk:density=0.05\) " table)" = 3 ] && pass || fail "taut-sweep: $(cat table)"
head -n 3 "sweep-$job-1.json" >cut.json
taut-sweep cut.json >table 2>&1 && fail "taut-sweep takes a run that has not ended" || pass

# ---- torchrun, on nodes and on what Slurm takes for GPUs ----
if command -v torchrun >/dev/null && "$(sed -n '1s/^#!//p' "$(command -v torchrun)")" -c 'import torch.distributed' 2>/dev/null; then
    export TORCHRUN='torchrun --redirects 1 --tee 1' # torch 1.13 on Python 3.11, as in Debian 12, stumbles over its own default
    job=$(PROGRAM=train.py RUN=py submit torchrun.sbatch 60)
    ran torchrun "$job" "taut-$job.out" && has 'step 60 loss' "taut-$job.out"
    want=$(sed -n 's/.*step 60 loss \(.*\)/\1/p' "taut-$job.out")
    job=$(PROGRAM=train.py RUN=py2 submit torchrun.sbatch 60 0.1)
    until grep -q 'step 10 ' "taut-$job.out" 2>/dev/null || [ -z "$(squeue -h -j "$job")" ]; do sleep 0.2; done
    scancel --signal=USR1 --batch "$job"
    until grep -q 'resumes at step' "taut-$job.out" 2>/dev/null || [ -z "$(squeue -h -j "$job")" ]; do sleep 0.3; done
    ran "torchrun, warned" "$job" "taut-$job.out" && same "$(sed -n 's/.*step 60 loss \(.*\)/\1/p' "taut-$job.out")" "$want" "torchrun, warned"
    job=$(PROGRAM=train.py RUN=py3 submit --gpus-per-node=2 gpu.sbatch 20)
    ran "GPUs" "$job" "taut-$job.out" && has ', 2 GPUs a node' "taut-$job.out" && has 'step 20 loss.* 4 workers' "taut-$job.out"
    job=$(PROGRAM=missing.py submit torchrun.sbatch)
    slurm_ended "$job"
    has 'PROGRAM=missing.py: no such file' "taut-$job.out"
else
    skip "no torchrun: apt-get install python3-torch"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
