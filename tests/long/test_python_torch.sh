#!/bin/sh
# test_python_torch.sh: everything of the Python package, with Debian's torch and with PyPI's (torch 2.15 in build/venv-torch, 5.4 GB; or
# TORCH_VENV=<one that has a torch>): DDP, FSDP2, the backend, MPI, the programs of docs/python.md, and the loss of a GPT after 200 steps.
# Last line: "N passed, N failed, N skipped".
set -u
BUILD=${BUILD:-build/release}
DEBIAN=${TEST_PYTHON:-/usr/bin/python3}
venv=${TORCH_VENV:-build/venv-torch}
export TAUT_LIBRARY=$PWD/$BUILD/lib/libtaut.so PYTHONPATH=$PWD/shim/python PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 LONG=1 BUILD
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
# Debian 12's OpenBLAS takes a slow kernel on CPUs with AVX512-BF16
if [ -z "${OPENBLAS_CORETYPE:-}" ] && grep -qs avx512_bf16 /proc/cpuinfo; then export OPENBLAS_CORETYPE=Haswell; fi
data=../shared/data/tinyshakespeare.txt
[ ! -f "$data" ] || export DATA="$(readlink -f "$data")"
passed=0 failed=0 skipped=0
case $BUILD in *asan* | *tsan*)
    echo "SKIP a sanitizer's library cannot be loaded by Python"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0 ;;
esac
add() { # NAME COMMAND...
    name=$1
    shift
    out=$(timeout 1700 "$@" 2>&1)
    counts=$(echo "$out" | tail -n 1 | tr -d ,)
    case $counts in
    *passed*failed*)
        echo "$out" | grep -E '^(SKIP|torch |FSDP2|backend)' | sed "s|^SKIP |&$name: |"
        # shellcheck disable=SC2086
        set -- $counts
        passed=$((passed + $1)) failed=$((failed + $3)) skipped=$((skipped + ${5:-0}))
        [ "$3" -eq 0 ] || { echo "FAIL $name"; echo "$out"; } ;;
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
all_of() { # python
    for check in ddp faults gathered sharded backend docs loss; do add "$check with $1" "$1" "tests/python/check_$check.py"; done
}
if "$DEBIAN" -c 'import torch, numpy' 2>/dev/null; then
    all_of "$DEBIAN"
    if "$DEBIAN" -c 'import mpi4py' 2>/dev/null; then
        for n in 2 3; do for what in mpi4py bare ddp; do add "$what on $n ranks" mpirun -n $n "$DEBIAN" tests/python/check_mpi.py $what; done; done
    else
        skip "no python3-mpi4py"
    fi
else
    skip "no python3-torch"
fi
if [ ! -x "$venv/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$venv" && "$venv/bin/pip" install -q torch==2.15.0 numpy || echo "pip could not install torch"
fi
if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import torch, numpy' 2>/dev/null; then all_of "$venv/bin/python"; else skip "no torch 2 from PyPI"; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
