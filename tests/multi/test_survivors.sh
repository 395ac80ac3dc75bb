#!/bin/sh
# test_survivors.sh : a rank of an MPI job is killed in the middle of a step; the others shrink the communicator and go on
# (taut_comm_shrink), with right sums, under Open MPI's --enable-recovery. Without it the launcher ends the job.
# It mostly waits.
set -u
BUILD=${BUILD:-build/release}
STEPS=$BUILD/tests/bench/steps_mpi
passed=0 failed=0
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL $*"; }
if [ ! -x "$STEPS" ] || ! mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
    echo "SKIP no $STEPS, or mpirun is not Open MPI's"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
out=$(mktemp)
trap 'rm -f "$out"' EXIT
lose() { # RANKS CODEC LOST STEP
    TAUT_TIMEOUT_MS=${WAIT:-1500} TAUT_DROPPED=restore timeout 60 mpirun -n "$1" --enable-recovery "$STEPS" "$2" 30 lose "$3" "$4" >"$out" 2>"$out.err"
    line=$(grep '^{' "$out")
    case $line in
    "{\"ranks\": $(($1 - 1)), \"lost\": 1, \"lost_rank\": $3, \"steps\": $4, \"wrong\": 0, \"status\": \"TAUT_OK\","*) pass ;;
    *) fail "$1 ranks, $2, rank $3 killed in step $4: $line $(grep -v '^$' "$out.err" | head -n 4)" ;;
    esac
    rm -f "$out.err"
}
lose 3 quant:bits=8 1 7
lose 4 none 0 3
if [ "${LONG:-0}" = 1 ]; then
    for codec in none fp16 quant:bits=8 grid:rel=0.02 auto stack:quant:bits=4+quant:bits=4; do
        for n in 2 3 4; do
            for lost in 0 $((n - 1)); do lose $n $codec $lost $((n * 5 - lost)); done
        done
    done
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
