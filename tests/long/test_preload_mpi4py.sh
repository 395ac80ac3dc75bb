#!/bin/bash
# test_preload_mpi4py.sh : mpi4py's own test suite passes under the preload library exactly as without it. Needs mpi4py's source
# archive: MPI4PY_SDIST=FILE.tar.gz, else pip fetches the version that Debian's python3-mpi4py has.
set -u
BUILD=$(readlink -f "${BUILD:-build/release}")
LIB=$BUILD/lib/libtaut-preload-mpi.so
PYTHON=/usr/bin/python3
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none TAUT_THRESHOLD=4096 TAUT_REPORT=-
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
leave() { echo "SKIP $*"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }

[ -f "$LIB" ] || leave "the preload library was not built"
version=$($PYTHON -c 'import mpi4py; print(mpi4py.__version__)' 2>/dev/null) || leave "no python3-mpi4py"
sdist=${MPI4PY_SDIST:-}
if [ -z "$sdist" ]; then
    python3 -m pip download -q --no-deps --no-binary :all: -d "$WORK" "mpi4py==$version" >/dev/null 2>&1 || leave "no source archive of mpi4py $version"
    sdist=$(ls "$WORK"/mpi4py-*.tar.gz)
fi
tar -xf "$sdist" -C "$WORK" && cd "$WORK"/mpi4py-*/ || leave "$sdist cannot be unpacked"

# spawning processes and one-sided memory need more of the launcher than a test machine has
suite() { # RANKS [mpirun's options]
    ranks=$1; shift
    timeout 600 mpirun -n "$ranks" "$@" $PYTHON test/runtests.py -e spawn -e dynproc -e test_win -e rma -e util 2>&1 |
        grep -E '^(OK|FAILED|FAIL:|ERROR:)' | sort | uniq -c
}
passed=0 failed=0
for n in 1 2 3; do
    plain=$(suite $n)
    under=$(suite $n -x "LD_PRELOAD=$LIB" -x TAUT_THRESHOLD -x TAUT_REPORT)
    if [ -n "$plain" ] && [ "$plain" = "$under" ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        printf 'FAIL %s ranks: without:\n%s\nwith the library:\n%s\n' "$n" "$plain" "$under"
    fi
done
echo "$passed passed, $failed failed"
