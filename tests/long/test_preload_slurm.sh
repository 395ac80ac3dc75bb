#!/bin/bash
# test_preload_slurm.sh : the sbatch lines of docs/preload.md, submitted to a Slurm of our own (tests/support/slurm.sh).
set -u
BUILD=$(readlink -f "${BUILD:-build/release}")
LIB=$BUILD/lib/libtaut-preload-mpi.so
WORK=$(mktemp -d)
. tests/support/preload.sh
. tests/support/slurm.sh
leave() { echo "SKIP $*"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
[ -f "$LIB" ] && [ -f "$BUILD/lib/libtaut-preload-openmpi.so" ] || leave "the preload library was not built for Open MPI"
lacks=$(slurm_lacks)
[ -z "$lacks" ] || leave "$lacks"
command -v mpicc.openmpi >/dev/null 2>&1 || leave "no mpicc.openmpi"
trap 'slurm_stop; rm -rf "$WORK"' EXIT
slurm_start "$WORK" || { fail "Slurm does not come up"; echo "$passed passed, $failed failed"; exit 1; }

example loop.c >"$WORK/loop.c" && mpicc.openmpi -O2 -o "$WORK/loop" "$WORK/loop.c" || fail "loop.c does not compile"
example loop.sbatch >"$WORK/loop.sbatch"
cd "$WORK" || exit 1
PATH=$OLDPWD/launch:$PATH
export BUILD PATH
check() { # WHAT SBATCH'S ARGUMENTS...
    local what=$1 job; shift
    rm -f saved.json
    job=$(sbatch --parsable "$@") || { fail "$what: sbatch: $job"; return; }
    slurm_ended "$job" || { fail "$what: job $job does not end: $(tail -n 5 "slurm-$job.out")"; return; }
    grep -q '^step 40 loss 0.0' "slurm-$job.out" && grep -q 'Taut saved' "slurm-$job.out" && pass || fail "$what: $(tail -n 8 "slurm-$job.out")"
    [ -f saved.json ] && [ "$(json 'j["ranks"] == 2 and sum(s["calls"] for s in j["sites"]) == 40' saved.json)" = True ] && pass || fail "$what: no report, or a wrong one: $(cat saved.json)"
}
check "the script" loop.sbatch
TAUT_CODEC=quant:bits=4 check "the line" -N 2 -n 2 --wrap "tautrun -n 2 --report saved.json ./loop"
[ "$(json 'j["sites"][0]["coded_calls"] > 30' saved.json)" = True ] && pass || fail "the line: TAUT_CODEC did not reach the ranks"
echo "$passed passed, $failed failed, $skipped skipped"
