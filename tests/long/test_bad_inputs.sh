#!/bin/sh
# The subcommands of `taut data` that read files, with damaged ones: files of eleven formats, files that change under their index, shards and indexes.
# SHARE=0.1: a tenth of the damaged copies. LONG=1 MODE=asan make test T=bad_inputs: with ASan and UBSan looking on.
set -u
BUILD=${BUILD:-build/release}
PYTHON=${PYTHON:-python3}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0}" UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
. tests/support/shell.sh
if ! "$BUILD/bin/taut" data --help 2>&1 | grep -q export; then
    skip "built without zstd"
    finish
fi
"$PYTHON" tests/support/foreign_files.py "$dir/files" || { echo "0 passed, 1 failed"; exit 1; }
"$PYTHON" tests/long/bad_inputs.py "$BUILD/bin/taut" "$dir/files"
