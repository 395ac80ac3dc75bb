#!/bin/sh
# test_survivors.sh : a rank of an MPI job is killed in the middle of a step; the others shrink the communicator and go on
# (taut_comm_shrink), with right sums and with what their residuals carry. Under Open MPI's --enable-recovery, and where an Open MPI has ULFM
# (5 and later) under --with-ft ulfm: there at once, and also if another rank dies while they shrink, if one is stopped, and if they are
# inside MPI_Allreduce. Without such a setting the launcher ends the job.
#   ULFM_MPI=PREFIX: an Open MPI 5 to run the same binary with, whatever it was built with (libmpi.so.40 is its binary interface)
# It mostly waits.
set -u
BUILD=${BUILD:-build/release}
STEPS=$BUILD/tests/bench/steps_mpi
MPIRUN=${MPIRUN:-mpirun}
. tests/support/shell.sh
if [ ! -x "$STEPS" ] || ! $MPIRUN --version 2>/dev/null | grep -q 'Open MPI'; then
    skip "no $STEPS, or $MPIRUN is not Open MPI's"
    finish
fi

run() { # LAUNCHER... : steps_mpi and its arguments follow; one line of JSON in $line
    TAUT_DROPPED=restore timeout $((120 * slow)) "$@" >"$dir/out" 2>"$dir/err"
    line=$(grep '^{' "$dir/out")
}
survive() { # WHAT RANKS STEPS LOST, in order: the survivors are right
    lost=$(echo "$4" | wc -w)
    case $line in
    "{\"ranks\": $(($2 - lost)), \"lost\": $lost, \"lost_rank\": ${4%% *}, \"steps\": $3, \"wrong\": 0, \"status\": \"TAUT_OK\","*) pass ;;
    *) fail "$1: $line $(grep -v '^$' "$dir/err" | head -n 6)" ;;
    esac
}

lose() { # RANKS CODEC LOST STEP
    TAUT_TIMEOUT_MS=$((${WAIT:-3000} * slow)) run "$MPIRUN" -n "$1" --enable-recovery "$STEPS" "$2" 20 lose "$3" "$4"
    survive "$1 ranks, $2, rank $3 killed in step $4" "$1" "$4" "$3"
}
lose 3 topk:density=0.1 1 7
lose 4 none 0 3
if [ "${LONG:-0}" = 1 ]; then
    for codec in none fp16 quant:bits=8 grid:rel=0.02 auto stack:quant:bits=4+quant:bits=4; do
        for n in 2 3 4; do
            for lost in 0 $((n - 1)); do lose $n $codec $lost $((n * 4 + 1 - lost)); done
        done
    done
fi

# ---- ULFM ----
launcher=$MPIRUN
if [ -n "${ULFM_MPI:-}" ]; then
    launcher=$ULFM_MPI/bin/mpirun
    export LD_LIBRARY_PATH="$ULFM_MPI/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
if ! "$launcher" --version 2>/dev/null | grep -qE 'Open MPI\)? (v)?([5-9]|[1-9][0-9])\.'; then
    skip "no ULFM: $("$launcher" --version 2>/dev/null | head -n 1) has none; ULFM_MPI=PREFIX names an Open MPI 5 (tests/long/test_ulfm.sh)"
    finish
fi
SLOW=20000 # a timeout that nothing here may need: MPI knows who is lost
ulfm() { # WHAT RANKS "LOST..." STEP CODEC lose|loseblocking ARGUMENTS...
    what=$1 ranks=$2 gone=$3 at=$4 codec=$5 way=$6
    shift 6
    TAUT_TIMEOUT_MS=${WAIT:-$SLOW} run "$launcher" -n "$ranks" --with-ft ulfm --oversubscribe "$STEPS" "$codec" 20 "$way" "$@"
    if [ $# = 4 ] && [ "$4" -gt 0 ] && [ -z "$line" ] && ! grep 'afterwards:' "$dir/err" | grep -vq 'TAUT_E_PEER: .*rank [0-9] is gone' && grep -q 'afterwards:' "$dir/err"; then pass
    elif grep -q 'ompi_comm_revoke_local' "$dir/err"; then skip "$what: Open MPI itself crashed in a survivor, told of a lost rank while it made a communicator (ompi_comm_revoke_local)"
    else survive "$what, $ranks ranks, $codec" "$ranks" "$at" "$gone"; fi
}
told() { # PATTERN: in the error that the survivors had before
    if echo "$line" | sed -n 's/.*"error": "//p' | grep -qE "$1"; then pass; else fail "no '$1' in $line"; fi
}
for n in 3 4; do
    for codec in none quant:bits=8 topk:density=0.1; do
        ulfm "killed in step 7" $n 1 7 $codec lose 1 7
        told "step (7, small layers 0|6, taut_step_end): " # the others may not have heard all of the end of the step before
        told "rank 1 is gone"
    done
    ulfm "killed, the others in MPI_Allreduce" $n 0 4 none loseblocking 0 4
    told "step (4, small layers 0|3, taut_step_end): "
    told "rank 0 is gone"
    WAIT=3000 ulfm "one killed, one stopped" $n "0 1" 6 topk:density=0.1 lose 1 6 0 -1
done
ulfm "killed, one is left" 2 0 5 quant:bits=4 lose 0 5
again=$([ "${LONG:-0}" = 1 ] && seq 0 700 30000 || echo 0 3000 15000) # microseconds
for us in $again; do # while they shrink or, where that was sooner, afterwards: then they are told
    ulfm "another one dies after $us us" 4 "0 3" 9 topk:density=0.1 lose 3 9 0 "$us"
done
if [ "${LONG:-0}" = 1 ]; then
    for codec in fp16 grid:rel=0.02 auto randk:density=0.2 powersgd:rank=2 stack:quant:bits=4+quant:bits=4; do
        for n in 2 3 4; do ulfm "killed in step $n" $n 1 $n $codec lose 1 $n; done
    done
fi
finish
