#!/bin/bash
# test_preload_mpi4py.sh : mpi4py's own test suite passes under the preload library exactly as without it, on both MPIs. Needs mpi4py's
# source archive: MPI4PY_SDIST=FILE.tar.gz, else pip fetches the version that Debian's python3-mpi4py has. For MPICH it is built,
# with pip's setuptools and Cython of that time; MPI4PY_MPICH=DIR: a folder that has it already.
set -u
BUILD=$(readlink -f "${BUILD:-build/release}")
LIB=$BUILD/lib/libtaut-preload-mpi.so
PYTHON=/usr/bin/python3
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
. tests/support/preload.sh
export TAUT_THRESHOLD=4096 TAUT_REPORT=-
leave() { echo "SKIP $*"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }

[ -f "$LIB" ] || leave "the preload library was not built"
version=$($PYTHON -c 'import mpi4py; print(mpi4py.__version__)' 2>/dev/null) || leave "no python3-mpi4py"
sdist=${MPI4PY_SDIST:-}
printf 'setuptools<70\ncython<3\n' >"$WORK/then.txt"
if [ -z "$sdist" ]; then
    PIP_CONSTRAINT=$WORK/then.txt $PYTHON -m pip download -q --no-deps --no-binary :all: -d "$WORK" "mpi4py==$version" >/dev/null 2>&1 || leave "no source archive of mpi4py $version"
    sdist=$(ls "$WORK"/mpi4py-*.tar.gz)
fi
sdist=$(readlink -f "$sdist")
tar -xf "$sdist" -C "$WORK" && cd "$WORK"/mpi4py-*/ || leave "$sdist cannot be unpacked"

# for_mpich: the folder with mpi4py for MPICH
for_mpich() {
    [ -z "${MPI4PY_MPICH:-}" ] || { readlink -f "$MPI4PY_MPICH"; return; }
    $PYTHON -m pip install -q --target "$WORK/tools" 'setuptools<70' 'cython<3' wheel >"$WORK/pip" 2>&1 ||
        $PYTHON -m pip install -q --break-system-packages --target "$WORK/tools" 'setuptools<70' 'cython<3' wheel >"$WORK/pip" 2>&1 || return 1
    PYTHONPATH=$WORK/tools MPICC=mpicc.mpich $PYTHON -m pip install -q --break-system-packages --no-build-isolation --no-deps --target "$WORK/mpich" "$sdist" >"$WORK/pip" 2>&1 || return 1
    echo "$WORK/mpich"
}

# spawning processes and one-sided memory need more of the launcher than a test machine has
suite() { # MPI RANKS PRELOAD(0|1): its verdicts, counted; the test of the tests' own number is not ours
    LIMIT=900 run "$1" "$2" "$3" $PYTHON test/runtests.py -e spawn -e dynproc -e test_win -e rma -e util
    cat "$WORK/out" "$WORK/err" | grep -E '^(OK|FAILED|FAIL:|ERROR:|Ran [0-9]* tests)' | sed 's/ in [0-9.]*s$//' | sort | uniq -c
}
compare() { # MPI
    local n plain under
    for n in 1 2 3; do
        plain=$(suite "$1" $n 0)
        under=$(suite "$1" $n 1)
        [ -n "$plain" ] && [ "$plain" = "$under" ] && pass || fail "$(printf '%s, %s ranks: without:\n%s\nwith the library:\n%s\n' "$1" $n "$plain" "$under")"
        echo "$1, $n ranks: $(echo "$plain" | tr -s ' \n' ' ')"
    done
}
command -v mpirun.openmpi >/dev/null 2>&1 && [ -f "$BUILD/lib/libtaut-preload-openmpi.so" ] && compare openmpi || skip "no Open MPI"
if command -v mpicc.mpich >/dev/null 2>&1 && [ -f "$BUILD/lib/libtaut-preload-mpich.so" ]; then
    dir=$(for_mpich) && { export PYTHONPATH=$dir; compare mpich; } || skip "mpi4py $version was not built for MPICH: $(tail -n 1 "$WORK/pip")"
else skip "no MPICH"; fi
echo "$passed passed, $failed failed, $skipped skipped"
