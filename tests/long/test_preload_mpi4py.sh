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

# module MPI RANKS PRELOAD(0|1) NAME: which of its tests fail on some rank, one a line, and how many ran; "no end" after LIMIT seconds. Which rank of a
# failing test says so first, and what follows on the others, is left to chance: names alone are compared.
module() {
    run "$1" "$2" "$3" $PYTHON test/runtests.py -i "^test_$4\$"
    [ $? -ne 124 ] || echo "no end within $LIMIT s"
    cat "$WORK/out" "$WORK/err" | sed -n 's/^\(FAIL\|ERROR\): \(.*\)/\2 fails/p; s/^\(Ran [0-9]* tests\?\) in .*/\1/p' | sort -u
}
# Spawning processes and one-sided memory need more of the launcher than a test machine has.
modules() { ls test/test_*.py | sed "s|test/test_||; s|\.py$||" | grep -vE "^(spawn|dynproc|win|rma|rma_nb)$"; }
compare() { # MPI: the whole suite under the library, module by module, as without it
    local n m plain under bad tests ran
    for n in ${RANKS:-1 2 3}; do
        bad=0 tests=0
        for m in ${MODULES:-$(modules)}; do
            plain=$(module "$1" "$n" 0 "$m") under=$(module "$1" "$n" 1 "$m")
            ran=$(echo "$plain" | sed -n 's/^Ran \([0-9]*\) .*/\1/p' | head -n 1) tests=$((tests + ${ran:-0}))
            [ -n "$plain" ] && [ "$plain" = "$under" ] && continue
            bad=$((bad + 1))
            printf '%s, %s ranks, test_%s: without:\n%s\nwith the library:\n%s\n' "$1" "$n" "$m" "$plain" "$under"
        done
        [ $bad -eq 0 ] && [ $tests -gt 0 ] && pass || fail "$1, $n ranks: $bad modules differ"
        echo "$1, $n ranks: $tests tests"
    done
}
export LIMIT=${LIMIT:-90}
command -v mpirun.openmpi >/dev/null 2>&1 && [ -f "$BUILD/lib/libtaut-preload-openmpi.so" ] && compare openmpi || skip "no Open MPI"
if command -v mpicc.mpich >/dev/null 2>&1 && [ -f "$BUILD/lib/libtaut-preload-mpich.so" ]; then
    dir=$(for_mpich) && { export PYTHONPATH=$dir; compare mpich; } || skip "mpi4py $version was not built for MPICH: $(tail -n 1 "$WORK/pip")"
else skip "no MPICH"; fi
echo "$passed passed, $failed failed, $skipped skipped"
