#!/bin/sh
# test_soak.sh : 20,000 steps on 4 ranks, in which layers, codecs and budgets change and messages are delayed: memory stays flat, no descriptor
# is left open, sums are right (tests/bench/soak_mpi.c). SOAK: other numbers of steps, at least 4000. Run alone.
set -u
BUILD=${BUILD:-build/release}
SOAK=${SOAK:-20000}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
if [ ! -x "$BUILD/tests/bench/soak_mpi" ] || ! command -v mpirun >/dev/null; then
    echo "SKIP soak_mpi was not built, or there is no mpirun"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
out=$(mktemp)
trap 'rm -f "$out"' EXIT
TAUT_FAULTS="delay=0.01,delay_us=2000,seed=3" timeout 1700 mpirun -n 4 "$BUILD/tests/bench/soak_mpi" "$SOAK" >"$out" 2>&1
cat "$out"
field() { sed -n "s/.*\"$1\": \([-0-9.]*\).*/\1/p" "$out"; }
if awk -v grown="$(field mib_grown)" -v wrong="$(field wrong)" -v checked="$(field checked)" -v most="$(field fds_most)" -v least="$(field fds_least)" -v steps="$SOAK" \
    'BEGIN { exit !(grown != "" && grown <= 1 && wrong == 0 && checked == int(steps / 100) && most - least <= 8) }'; then
    echo "1 passed, 0 failed"
else
    echo "FAIL memory, descriptors or sums"
    echo "0 passed, 1 failed"
    exit 1
fi
