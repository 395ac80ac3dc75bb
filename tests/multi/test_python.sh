#!/bin/sh
# test_python.sh: the Python package over the library of this build: NumPy, DistributedDataParallel with Debian's torch, mpi4py, shards. The rest is in
# tests/long/test_python_torch.sh. Last line: "N passed, N failed, N skipped".
set -u
BUILD=${BUILD:-build/release}
PYTHON=${TEST_PYTHON:-/usr/bin/python3}
export TAUT_LIBRARY=$PWD/$BUILD/lib/libtaut.so PYTHONPATH=$PWD/shim/python PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
passed=0 failed=0 skipped=0 slow=${CK_TIMEOUT_MULTIPLIER:-1}
add() { # NAME COMMAND...
    name=$1
    shift
    out=$(timeout $((300 * slow)) "$@" 2>&1)
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
if has torch; then
    add ddp "$PYTHON" tests/python/check_ddp.py gradients_are_plain_ones one_line accumulation unused_parameters sparse_gradients_pass_through \
        overflow_and_scaler checkpoints wrong_uses a_rank_that_dies
else
    skip "no python3-torch"
fi
if [ -x "$BUILD/bin/taut" ] && has numpy && "$BUILD/bin/taut" data --help >/dev/null 2>&1; then add data "$PYTHON" tests/python/check_data.py; else skip "no shards"; fi
if has mpi4py && nm -D "$BUILD/lib/libtaut.so" | grep -q ' T taut_comm_create_mpi$'; then
    add mpi4py mpirun -n 2 "$PYTHON" tests/python/check_mpi.py mpi4py
else
    skip "no mpi4py, or no MPI"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
