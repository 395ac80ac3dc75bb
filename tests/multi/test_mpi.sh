#!/bin/sh
# test_mpi.sh: test_ranks_mpi, test_contracts_mpi and test_creation_mpi under mpirun: 2, 3 and 4 ranks, both kinds of progress. Last line: "N passed, N failed, N skipped".
# It mostly waits.
set -u
BUILD=${BUILD:-build/release}
program=$BUILD/tests/multi/test_ranks_mpi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
if [ ! -x "$program" ] || ! command -v mpirun >/dev/null; then
    echo "SKIP no MPI"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
passed=0 failed=0 slow=${CK_TIMEOUT_MULTIPLIER:-1}
for level in funneled multiple; do
    # each number of ranks once; all of them with both kinds of progress: LONG=1
    case ${LONG:-0}:$level in 0:funneled) numbers="2 4" ;; 0:*) numbers=3 ;; *) numbers="2 3 4" ;; esac
    for ranks in $numbers; do for p in "$program" "${program%/*}/test_contracts_mpi" "${program%/*}/test_creation_mpi"; do
        case ${LONG:-0}:$ranks:$p in 0:2:*test_creation_mpi) continue ;; esac
        out=$(timeout $((100 * slow)) mpirun -n $ranks "$p" $level 2>&1) || true
        counts=$(echo "$out" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' | tail -n 1)
        [ -n "$counts" ] || counts="0 1"
        set -- $counts
        passed=$((passed + $1)) failed=$((failed + $2))
        [ "$2" -eq 0 ] || { echo "-- ${p##*/}, $ranks ranks, $level:"; echo "$out" | tail -n 20; }
    done; done
done
# a rank that stops inside MPI_Allreduce: the job ends, with the layer's name
for level in funneled multiple; do
    out=$(timeout $((60 * slow)) mpirun -n 3 "$program" $level stuck 2>&1)
    rc=$?
    if [ $rc -ne 0 ] && [ $rc -ne 124 ] && echo "$out" | grep -q 'taut: rank [01]: heavy: the sum of all ranks has not come back'; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "-- stopped inside MPI_Allreduce, $level: exit $rc"; echo "$out" | tail -n 20
    fi
done
# a rank that never creates the communicator: the others say so in time; one that stops while it does: the job ends
vain() { # HOW WORDS TIMES: so many ranks say so
    out=$(timeout $((60 * slow)) mpirun -n 3 "${program%/*}/test_creation_mpi" multiple "$1" 2>&1)
    rc=$?
    if [ $rc -ne 0 ] && [ $rc -ne 124 ] && [ "$(echo "$out" | grep -c "$2")" -ge "$3" ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "-- $1 while a communicator is created: exit $rc"; echo "$out" | tail -n 20
    fi
}
vain absent '^rank [01]: TAUT_E_TIMEOUT after 1\.[5-9] s: taut_comm_create_mpi: not all 3 ranks of the MPI communicator have come within 1500 ms' 2
vain stopped '^taut: rank [01]: taut_comm_create_mpi: .*a rank is stopped or gone' 1
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
