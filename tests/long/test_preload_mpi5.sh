#!/bin/bash
# test_preload_mpi5.sh : the preload library that was built with Debian's MPIs under Open MPI 5 and MPICH 5, which have what those lack:
# half types, and MPI_Allreduce_init in Open MPI. They come from PyPI (OPENMPI5, MPICH5: prefixes of ones that are here).
set -u
BUILD=$(readlink -f "${BUILD:-build/release}")
LIB=$BUILD/lib/libtaut-preload-mpi.so
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
. tests/support/preload.sh
export TAUT_REPORT=$WORK/r.json TAUT_CODEC=quant:bits=4
[ -f "$LIB" ] || { echo "SKIP the preload library was not built"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }

prefix() { # MPI PACKAGE GIVEN: the folder with its bin/, or nothing
    [ -z "$3" ] || { echo "$3"; return; }
    python3 -m venv "$WORK/$1" >"$WORK/pip" 2>&1 && "$WORK/$1/bin/pip" install -q "$2>=5" >"$WORK/pip" 2>&1 && echo "$WORK/$1"
}
# coded MODE LEAST LIMIT: of the run before
coded() {
    local n; n=$(json 'sum(s["coded_calls"] for s in j["sites"])')
    [ "$n" -ge "$2" ] && less "$(field worst "$WORK/out")" "$3" && pass || fail "$1: $n calls compressed, at least $2 expected; error $(field worst "$WORK/out")"
}
try() { # MPI PACKAGE PREFIX
    local at m; at=$(prefix "$1" "$2" "$3")
    [ -n "$at" ] || { skip "no $2 5: pip: $(tail -n 1 "$WORK/pip")"; return; }
    mkdir -p "$WORK/bin"
    for m in mpicc mpirun; do
        printf '#!/bin/sh\nexec %s/bin/%s "$@"\n' "$at" $m >"$WORK/bin/$m.$1" && chmod +x "$WORK/bin/$m.$1"
    done
    compile "$1" job tests/preload/job.c tests/preload/job_requests.c
    for m in block:14=20 nonblocking:20=30 persistent:12=10 half:20=30 gather:12=20; do
        run "$1" 2 1 "$WORK/job.$1" "${m%=*}" && coded "$1 5, ${m%=*}" "${m#*=}" 0.05 || fail "$1 5, ${m%=*}: $(tail -n 3 "$WORK/err")"
    done
}
export PATH="$WORK/bin:$PATH"
try openmpi openmpi "${OPENMPI5:-}"
try mpich mpich "${MPICH5:-}"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
