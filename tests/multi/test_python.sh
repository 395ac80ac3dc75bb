#!/bin/sh
# test_python.sh: the Python package over the library of this build: NumPy, DistributedDataParallel with Debian's torch, mpi4py. LONG=1 takes every
# case. Last line: "N passed, N failed, N skipped".
set -u
BUILD=${BUILD:-build/release}
PYTHON=${TEST_PYTHON:-/usr/bin/python3}
export TAUT_LIBRARY=$PWD/$BUILD/lib/libtaut.so PYTHONPATH=$PWD/shim/python PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
passed=0 failed=0 skipped=0
add() { # NAME COMMAND...
    name=$1
    shift
    out=$(timeout 300 "$@" 2>&1)
    line=$(echo "$out" | tail -n 1)
    case $line in
    *passed*failed*)
        counts=$(echo "$line" | tr -d ,)
        # shellcheck disable=SC2086
        set -- $counts
        passed=$((passed + $1)) failed=$((failed + $3)) skipped=$((skipped + ${5:-0}))
        [ "$3" -eq 0 ] || echo "$out"
        echo "$out" | grep '^SKIP' ;;
    *)
        failed=$((failed + 1))
        echo "FAIL $name ended without a count"
        echo "$out" | tail -n 20 ;;
    esac
}
skip() {
    skipped=$((skipped + 1))
    echo "SKIP $1"
}
has() { "$PYTHON" -c "import $1" 2>/dev/null; }
case $BUILD in *asan* | *tsan*)
    echo "SKIP a sanitizer's library cannot be loaded by Python"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0 ;;
esac
if has numpy; then add basics "$PYTHON" tests/python/check_basics.py; else skip "no python3-numpy"; fi
if has torch; then add ddp "$PYTHON" tests/python/check_ddp.py; else skip "no python3-torch"; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
