#!/bin/bash
# test_preload.sh : programs that know nothing of Taut, under the preload library, on every MPI that is installed.
set -u
BUILD=$(readlink -f "${BUILD:-build/release}")
LIB=$BUILD/lib/libtaut-preload-mpi.so
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
here=$(pwd)
passed=0 failed=0 skipped=0
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none
unset TAUT_CODEC TAUT_BUDGET TAUT_REPORT TAUT_DRYRUN TAUT_INCLUDE TAUT_EXCLUDE TAUT_THRESHOLD

pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL $*"; }
skip() { skipped=$((skipped + 1)); echo "SKIP $*"; }
field() { sed -n "s/.*$1=\([^ ]*\).*/\1/p" "$2" | head -n 1; }
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 <= b + 0 && a == a + 0) }'; }
# json FILE EXPRESSION: of the report, j
json() { python3 -c 'import json,sys; j=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"; }

# run MPI RANKS PRELOAD(0|1) COMMAND...: stdout to $WORK/out, stderr to $WORK/err
run() {
    mpi=$1 n=$2 with=$3; shift 3
    names=$(env | sed -n 's/^\(TAUT_[A-Z0-9_]*\)=.*/-x \1/p')
    if [ "$mpi" = openmpi ]; then
        launch="mpirun.openmpi -n $n $names"
        [ "$with" = 0 ] || launch="$launch -x LD_PRELOAD=$LIB"
    else
        launch="mpirun.mpich -n $n"
        [ "$with" = 0 ] || launch="$launch -env LD_PRELOAD $LIB"
    fi
    timeout 90 $launch "$@" >"$WORK/out" 2>"$WORK/err"
}

check_job() { # MPI RANKS MODE CODED(least calls) LIMIT ARGS...
    mpi=$1 n=$2 mode=$3 coded=$4 limit=$5; shift 5
    if ! TAUT_CODEC=quant:bits=4 TAUT_REPORT=$WORK/r.json run "$mpi" "$n" 1 "$WORK/job.$mpi" "$mode" "$@"; then
        fail "$mpi, $n ranks, $mode: exit code, $(tail -n 3 "$WORK/out" "$WORK/err")"; return
    fi
    less "$(field worst "$WORK/out")" "$limit" || { fail "$mpi, $n ranks, $mode: error $(field worst "$WORK/out"), limit $limit"; return; }
    got=$(json "$WORK/r.json" 'sum(s["coded_calls"] for s in j["sites"])')
    all=$(json "$WORK/r.json" 'sum(s["calls"] for s in j["sites"]) + j["passed_through"]')
    [ "$got" -ge "$coded" ] || { fail "$mpi, $n ranks, $mode: $got calls compressed, at least $coded expected"; return; }
    want=$(($(field calls "$WORK/out") + $(field small "$WORK/out") + 1)) # and the one at the end
    [ "$mode" = comms ] || [ "$n" = 1 ] || [ "$all" -eq "$want" ] || { fail "$mpi, $n ranks, $mode: $all calls in the report, $want made"; return; }
    pass
}

# The second MPI shares all of our code but its handles: a part will do, and the whole with LONG=1.
test_few_jobs() {
    check_job "$1" 2 block 60 0.05 30
    check_job "$1" 2 nonblocking 45 0.05 30
    check_job "$1" 2 scatter 45 0.05 30
    check_job "$1" 2 comms 15 0.05 40
}

test_more_jobs() {
    for n in 2 3; do
        check_job "$1" $n block 60 0.05 30
        check_job "$1" $n nonblocking 45 0.05 30
    done
    check_job "$1" 2 out 60 0.05 30
    check_job "$1" 4 block 20 0.07 14 # oversubscribed
    check_job "$1" 2 token 20 0.05 40
    check_job "$1" 2 scatter 45 0.05 30
    check_job "$1" 3 scatterv 45 0.05 30 3 98304
    check_job "$1" 3 scatter 0 1e-12 20       # parts that end inside blocks stay exact
    check_job "$1" 2 comms 15 0.05 40
    check_job "$1" 3 changing 20 0.05 40
    check_job "$1" 2 odd-rank 20 0.05 40
    check_job "$1" 1 block 0 1e-12 10
    check_job "$1" 2 block 0 1e-12 30 3 1000   # below the threshold
}

# codec=none: the same bits as without us
test_none() {
    run "$1" 2 0 "$WORK/job.$1" out 12 && cp "$WORK/out" "$WORK/plain"
    TAUT_CODEC=none run "$1" 2 1 "$WORK/job.$1" out 12
    cmp -s "$WORK/plain" "$WORK/out" && pass || fail "$1: codec=none differs from the plain run"
    grep -q '^taut: .*saved' "$WORK/err" && pass || fail "$1: codec=none: no report"
}

# what must be exact is: the same number of iterations with default settings, and for vectors that are dense on all ranks
test_solver() {
    run "$1" 2 0 "$WORK/solver.$1" 150 && plain=$(field iterations "$WORK/out")
    run "$1" 2 1 "$WORK/solver.$1" 150
    [ "$(field iterations "$WORK/out")" = "$plain" ] && pass || fail "$1: solver took $(field iterations "$WORK/out") iterations, $plain without"
    grep -q "like a solver's vector" "$WORK/err" && pass || fail "$1: the report does not say why the solver's vector was left alone"
}

test_microbench() {
    TAUT_REPORT=$WORK/r.json run "$1" 2 1 "$WORK/microbench.$1" 524288 && pass || fail "$1: constant buffers: wrong sums"
    [ "$(json "$WORK/r.json" 'sum(s["coded_calls"] for s in j["sites"])')" = 0 ] && pass || fail "$1: constants were compressed"
    grep -q 'constant values' "$WORK/err" && pass || fail "$1: the report does not say that buffers were constant"
}

test_overhead() {
    run "$1" 2 0 "$WORK/overhead.$1" && plain=$(head -n 1 "$WORK/out")
    run "$1" 2 1 "$WORK/overhead.$1" && with=$(head -n 1 "$WORK/out")
    echo "$1: a call that passes through: $plain ns without, $with ns with the library"
    # asked: 200 ns more on an idle machine; a loaded one takes the thread away in the middle
    less "$with" $((plain + 1000)) && pass || fail "$1: passing through takes $with ns, $plain without"
}

test_dry_run() {
    TAUT_DRYRUN=1 TAUT_REPORT=$WORK/r.json run "$1" 2 1 "$WORK/job.$1" block 50
    less "$(field worst "$WORK/out")" 1e-12 && pass || fail "$1: a dry run changed sums"
    [ "$(json "$WORK/r.json" 'len(j["dry_run"]) >= 2 and all(t["ms"] > 0 for t in j["sites"][0]["trials"])')" = True ] && pass || fail "$1: dry run predicts nothing"
}

test_choice() {
    TAUT_CODEC=quant:bits=4 TAUT_EXCLUDE=256K..256K run "$1" 2 1 "$WORK/job.$1" block 20
    less "$(field worst "$WORK/out")" 1e-12 && pass || fail "$1: TAUT_EXCLUDE was not heard"
    TAUT_CODEC=quant:bits=4 TAUT_INCLUDE=bogus run "$1" 2 1 "$WORK/job.$1" block 6
    grep -q "TAUT_INCLUDE=bogus: cannot read" "$WORK/err" && pass || fail "$1: a bad TAUT_INCLUDE is not named"
    TAUT_CODEC=bogus run "$1" 2 1 "$WORK/job.$1" block 20
    less "$(field worst "$WORK/out")" 1e-12 && grep -q "bogus" "$WORK/err" && pass || fail "$1: a bad codec is not named, or hurts"
    run "$1" 2 1 "$WORK/job.$1" counts 20
    [ $? -ne 124 ] && pass || fail "$1: counts that differ hang"
}

test_fortran() {
    command -v "mpif90.$1" >/dev/null 2>&1 || { skip "no mpif90.$1"; return; }
    for f in mpif use_mpi use_mpi_f08; do
        if ! "mpif90.$1" -O1 -w -fallow-argument-mismatch -o "$WORK/$f.$1" "$here/tests/preload/$f.f90" 2>"$WORK/err"; then fail "$1: $f.f90 does not compile"; continue; fi
        TAUT_CODEC=quant:bits=4 TAUT_REPORT=$WORK/r.json run "$1" 2 1 "$WORK/$f.$1" || { fail "$1: $f: exit code"; continue; }
        got=$(json "$WORK/r.json" 'sum(s["coded_calls"] for s in j["sites"])')
        [ "$got" -ge 20 ] && less "$(field worst "$WORK/out")" 0.05 && pass || fail "$1: $f: $got calls compressed, error $(field worst "$WORK/out")"
    done
}

test_python() {
    /usr/bin/python3 -c 'import mpi4py' 2>/dev/null || { skip "no python3-mpi4py"; return; }
    TAUT_CODEC=quant:bits=4 TAUT_REPORT=$WORK/r.json run openmpi 2 1 /usr/bin/python3 "$here/tests/preload/loop.py" || { fail "mpi4py: exit code"; return; }
    got=$(json "$WORK/r.json" 'sum(s["coded_calls"] for s in j["sites"])')
    [ "$got" -ge 20 ] && less "$(field worst "$WORK/out")" 0.05 && pass || fail "mpi4py: $got calls compressed, error $(field worst "$WORK/out")"
}

test_tautrun() {
    BUILD=$BUILD launch/tautrun -n 2 --codec quant:bits=4 --report "$WORK/r.json" "$WORK/job.$1" block 20 >"$WORK/out" 2>"$WORK/err"
    [ "$(json "$WORK/r.json" 'j["config"][:11]')" = codec=quant ] && pass || fail "tautrun: $1: $(tail -n 2 "$WORK/err")"
    launch/tautrun --bogus 2>"$WORK/err"; [ $? -eq 2 ] && grep -q bogus "$WORK/err" && pass || fail "tautrun: a bad option"
    launch/tautrun -n 0 true 2>"$WORK/err"; [ $? -eq 2 ] && grep -q 'n 0' "$WORK/err" && pass || fail "tautrun: -n 0"
    launch/tautrun -n 2 /nonexistent 2>"$WORK/err"; [ $? -eq 2 ] && pass || fail "tautrun: no such program"
    launch/tautrun --help | grep -q -- --dry-run && pass || fail "tautrun: --help"
}

[ -f "$LIB" ] || { echo "SKIP the preload library was not built"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
first=
for mpi in ${MPIS:-openmpi mpich}; do
    [ -f "$BUILD/lib/libtaut-preload-$mpi.so" ] && command -v "mpicc.$mpi" >/dev/null 2>&1 || { skip "$mpi is not here"; continue; }
    first=${first:-$mpi}
    for p in job solver overhead microbench; do
        "mpicc.$mpi" -std=gnu11 -O2 -w -o "$WORK/$p.$mpi" "tests/preload/$p.c" -lm || fail "$mpi: $p.c does not compile"
    done
    test_none $mpi
    test_solver $mpi
    test_fortran $mpi
    test_tautrun $mpi
    if [ "$first" != "$mpi" ] && [ "${LONG:-0}" = 0 ]; then
        test_few_jobs $mpi
        continue
    fi
    test_more_jobs $mpi
    test_microbench $mpi
    test_overhead $mpi
    test_dry_run $mpi
    test_choice $mpi
done
[ "$first" != openmpi ] || test_python
echo "$passed passed, $failed failed, $skipped skipped"
