#!/bin/sh
# test_doc_commands.sh: what README, CONTRIBUTING and the documents show as commands and fragments, word by word, with Taut installed into a folder
# (tests/python/check_doc_commands.py). Last line: "N passed, N failed, N skipped".
set -u
BUILD=${BUILD:-build/release}
PYTHON=${TEST_PYTHON:-/usr/bin/python3}
. tests/support/shell.sh
top=$PWD
case $BUILD in /*) ;; *) BUILD=$top/$BUILD ;; esac
command -v "$PYTHON" >/dev/null || { skip "no python3"; finish; }
"$BUILD/bin/taut" data --help >/dev/null 2>&1 || { skip "built without the dataset half"; finish; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1 OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none PYTHONDONTWRITEBYTECODE=1
make --no-print-directory BUILD="$BUILD" DESTDIR= PREFIX="$dir/prefix" install >"$dir/log" 2>&1 || { fail "make install: $(tail -n 3 "$dir/log")"; finish; }
export BUILD PATH="$dir/prefix/bin:$PATH" PKG_CONFIG_PATH="$dir/prefix/lib/pkgconfig"
mkdir "$dir/reader" "$dir/reader/launch"
ln -s "$dir/prefix/bin/tautrun" "$dir/reader/launch/tautrun"
ln -s "$top/launch/lab" "$dir/reader/launch/lab"
cd "$dir/reader" && "$PYTHON" "$top/tests/python/check_doc_commands.py" "$dir/prefix"
