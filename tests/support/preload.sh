# preload.sh : what the tests of the preload library share; sourced. Needs BUILD, LIB, WORK.
# shellcheck shell=bash
passed=0 failed=0 skipped=0
slow=${CK_TIMEOUT_MULTIPLIER:-1}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none
unset TAUT_CODEC TAUT_BUDGET TAUT_REPORT TAUT_DRYRUN TAUT_NONBLOCKING TAUT_INCLUDE TAUT_EXCLUDE TAUT_THRESHOLD

pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL $*"; }
skip() { skipped=$((skipped + 1)); echo "SKIP $*"; }
field() { sed -n "s/.*$1=\([^ ]*\).*/\1/p" "$2" | head -n 1; }
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 <= b + 0 && a == a + 0) }'; }
# json EXPRESSION [FILE]: of the report, j
json() { python3 -c 'import json,sys; j=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "${2:-$WORK/r.json}" "$1"; }

# run MPI RANKS PRELOAD(0|1) COMMAND...: stdout to $WORK/out, stderr to $WORK/err; at most LIMIT seconds
run() {
    local mpi=$1 n=$2 with=$3 names launch; shift 3
    names=$(env | sed -n 's/^\(TAUT_[A-Z0-9_]*\|JOB_[A-Z]*\)=.*/-x \1/p')
    rm -f "$WORK/r.json"
    if [ "$mpi" = openmpi ]; then
        launch="mpirun.openmpi -n $n $names"
        [ "$with" = 0 ] || launch="$launch -x LD_PRELOAD=$LIB"
    else
        launch="mpirun.mpich -n $n" # whose ranks sleep while they wait
        if [ "$with" != 0 ]; then launch="$launch -env LD_PRELOAD $PATIENT$LIB"
        elif [ -n "$PATIENT" ]; then launch="$launch -env LD_PRELOAD ${PATIENT%:}"; fi
    fi
    # shellcheck disable=SC2086
    timeout $((${LIMIT:-240} * slow)) $launch "$@" >"$WORK/out" 2>"$WORK/err"
}

# MPICH on UCX waits without giving the processor away: a third of all that this test took
PATIENT=
patient() { cc -shared -fPIC -O1 -w -o "$WORK/patient.so" tests/preload/patient.c -ldl 2>/dev/null && PATIENT=$WORK/patient.so:; }

# compile MPI NAME SOURCES...
compile() {
    local mpi=$1 name=$2; shift 2
    "mpicc.$mpi" -std=gnu11 -O1 -w -o "$WORK/$name.$mpi" "$@" -lm -pthread || fail "$mpi: $name does not compile"
}

# example NAME: the program of that name in docs/preload.md, on stdout
example() { awk -v begin="<!-- begin $1 -->" '$0 == begin { on = 1; next } /^<!-- end -->/ { on = 0 } on { sub(/^    /, ""); print }' docs/preload.md; }
