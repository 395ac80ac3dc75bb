#!/bin/sh
# libtaut-audit-nccl.so (LD_AUDIT) under programs that open NCCL by dlopen: calls go by libtaut-preload-nccl.so, whatever way the names are looked
# up; what is not served, and what goes wrong, leaves the program with NCCL's own calls.
set -u
BUILD=${BUILD:-build/release}
CC=${CC:-cc}
. tests/support/shell.sh
audit=$(readlink -f "$BUILD/lib/libtaut-audit-nccl.so")
case $(nm "$BUILD/lib/libtaut-preload-nccl.so" 2>/dev/null) in *__asan_init* | *__tsan_init*)
    skip 'a sanitizer wants to be the first library of a program, and an audit library has a C library of its own'
    finish ;;
esac

cp tests/preload/nccl_plain.c "$dir/nccl.c"
echo 'NCCL_2.0 { global: nccl*; local: *; };' >"$dir/version.map"
mkdir "$dir/other" "$dir/versioned"
expect 'a libnccl.so.2' $CC -shared -fPIC -Wl,-soname,libnccl.so.2 -o "$dir/libnccl.so.2" "$dir/nccl.c"
expect 'another one' $CC -shared -fPIC -Wl,-soname,libnccl.so.2 -o "$dir/other/libnccl.so.2.28.9" "$dir/nccl.c"
expect 'one with versions' $CC -shared -fPIC -Wl,-soname,libnccl.so.2 -Wl,--version-script="$dir/version.map" -o "$dir/versioned/libnccl.so.2" "$dir/nccl.c"
# a module as Python opens them: linked with NCCL, which nobody else sees
echo 'int ncclAllReduce(const void *, void *, unsigned long, int, int, void *, void *), ncclCommDestroy(void *); static float x[1 << 20]; int comm;
int module(void) { return ncclAllReduce(x, x, 1 << 20, 7, 0, &comm, 0) | ncclCommDestroy(&comm); }' >"$dir/module.c"
expect 'a module' $CC -shared -fPIC -o "$dir/module.so" "$dir/module.c" "$dir/libnccl.so.2" -Wl,-rpath,"$dir"
expect 'a program' $CC -Wall -Werror -o "$dir/program" tests/preload/nccl_opener.c -ldl -pthread
expect 'a linked program' $CC -Wall -Werror -DLINKED -o "$dir/linked" tests/preload/nccl_opener.c "$dir/libnccl.so.2" -fplt -Wl,-rpath,"$dir" -ldl -pthread

# run NAME PROGRAM CASE: $said, what NCCL and the program say, and $report
run() {
    said=$(LD_AUDIT=$audit TAUT_CODEC=quant:bits=4 TAUT_REPORT=$dir/report.json "$@" 2>"$dir/report") || said="exit code $?: $said"
    report=$(cat "$dir/report")
}
served() { # NAME CALLS [GROUPED]: the report has so many calls of 4 MiB
    expect "$1: $said" [ "$said" = "destroyed, $2 reduces, 1 scatters, ${3:-1} in a group" ]
    expect "$1: reported: $report" grep -Eq "1 +allreduce +4.0 MiB +$2 +0" "$dir/report"
}
plain() { # NAME SAID: NCCL has been called directly, and there is no report
    expect "$1: $said" [ "$said" = "$2" ]
    expect "$1: no report: $report" [ -z "$report" ]
}

alone=$("$dir/program" "$dir/libnccl.so.2" dlsym) || alone=failed
expect "without: $alone" [ "$alone" = 'destroyed, 3 reduces, 1 scatters, 1 in a group' ]
run "$dir/program" "$dir/libnccl.so.2" dlsym
served 'names by dlsym' 3
expect 'over 2 ranks of NCCL' grep -q 'over 2 ranks of NCCL 2.28.9' "$dir/report"
expect 'the reason' grep -q 'site 1 stayed exact: no CUDA device can be used' "$dir/report"
expect 'JSON' grep -q '"calls": 3' "$dir/report.json"
run "$dir/program" "$dir/libnccl.so.2" global
served 'opened for all' 3
run "$dir/program" "$dir/versioned/libnccl.so.2" dlvsym
served 'names with a version' 3
run "$dir/program" "$dir/libnccl.so.2" again
served 'closed and opened again' 3
run "$dir/program" "$dir/libnccl.so.2" closed
served 'closed while its names are in use' 3
run "$dir/program" "$dir/libnccl.so.2" threads
served 'looked up and called by threads at once' 24 0
run "$dir/linked" "$dir/libnccl.so.2" linked
served 'a program that is linked with NCCL' 3
LD_PRELOAD=$(readlink -f "$BUILD/lib/libtaut-preload-nccl.so")
export LD_PRELOAD
run "$dir/program" "$dir/libnccl.so.2" dlsym
served 'with LD_PRELOAD as well' 3
run "$dir/linked" "$dir/libnccl.so.2" linked
served 'linked, with LD_PRELOAD as well' 3
# without LD_AUDIT: a module finds the preloaded names first, and NCCL behind them is in nobody's scope
said=$(TAUT_REPORT='' "$dir/program" "$dir/module.so" module 2>"$dir/report") || said="exit code $?"
expect "a module, by LD_PRELOAD: $said" [ "$said" = 'destroyed, 1 reduces, 0 scatters, 0 in a group' ]
expect 'a module, by LD_PRELOAD: reported' grep -Eq '1 +allreduce +4.0 MiB +1 +0' "$dir/report"
unset LD_PRELOAD
run "$dir/program" "$dir/module.so" module
expect "a module that is linked with NCCL: $said" [ "$said" = 'destroyed, 1 reduces, 0 scatters, 0 in a group' ]
expect 'such a module: reported' grep -Eq '1 +allreduce +4.0 MiB +1 +0' "$dir/report"

# what is left alone
run "$dir/program" "$dir/libnccl.so.2" dlmopen
plain 'in a namespace of its own' 'destroyed, 3 reduces, 1 scatters, 1 in a group'
run "$dir/program" "$dir/libnccl.so.2" second "$dir/other/libnccl.so.2.28.9"
expect "a second NCCL: $said" [ "$said" = "destroyed, 3 reduces, 1 scatters, 1 in a group
destroyed, 3 reduces, 1 scatters, 1 in a group" ]
expect 'the first one is served' grep -Eq '1 +allreduce +4.0 MiB +3 +0' "$dir/report"
run "$dir/program" "$dir/none/libnccl.so.2" dlsym
expect "NCCL missing: $said" [ "$said" = 'exit code 3: cannot be opened' ]
run echo fine
plain 'a program without NCCL' fine
cp "$audit" "$dir/libtaut-audit-nccl.so"
audit=$dir/libtaut-audit-nccl.so
run "$dir/program" "$dir/libnccl.so.2" dlsym
expect "nothing to bring in: $said" [ "$said" = 'destroyed, 3 reduces, 1 scatters, 1 in a group' ]
expect 'and it is said once' [ "$(grep -c 'libtaut-preload-nccl.so is not used, and nothing is compressed' "$dir/report")" = 1 ]

# tautrun sets it for the ranks
audit=$(readlink -f "$BUILD/lib/libtaut-audit-nccl.so")
tautrun() { BUILD=$BUILD launch/tautrun -n 2 --launcher openmpi --codec quant:bits=4 --report "$dir/tautrun.json" "$@" 2>"$dir/report"; }
if command -v mpirun.openmpi >/dev/null 2>&1 && [ -f "$BUILD/lib/libtaut-preload-mpi.so" ]; then
    preload=$(readlink -f "$BUILD/lib")/libtaut-preload-nccl.so
    expect 'tautrun --nccl on' sh -c "echo '$(tautrun --nccl on --print "$dir/program")' | grep -q 'LD_AUDIT=$audit .*LD_PRELOAD=.*:$preload'"
    expect 'tautrun, a linked program' sh -c "echo '$(tautrun --print "$dir/linked")' | grep 'LD_PRELOAD=.*:$preload' | grep -vq LD_AUDIT"
    expect 'tautrun, another one' sh -c "! echo '$(tautrun --print "$dir/program")' | grep -q nccl.so"
    expect 'tautrun --nccl off' sh -c "! echo '$(tautrun --nccl off --print "$dir/linked")' | grep -q nccl.so"
    tautrun --nccl bogus true
    expect 'tautrun --nccl bogus' [ $? -eq 2 ]
    said=$(tautrun --nccl on "$dir/program" "$dir/libnccl.so.2" dlsym | sort -u)
    expect "started by tautrun: $said" [ "$said" = 'destroyed, 3 reduces, 1 scatters, 1 in a group' ]
    expect 'its report lies beside that of MPI' grep -q '"mpi": "NCCL 2.28.9"' "$dir/tautrun.json.nccl"
else
    skip 'tautrun: no Open MPI here'
fi

names=$(nm -D --defined-only "$audit" | awk '$2 ~ /[TBDRVW]/ {print $3}' | sort | tr '\n' ' ')
expect "exports what the loader asks for: $names" [ "$names" = 'la_objclose la_objopen la_symbind64 la_version ' ]
expect 'is linked with the C library only' sh -c "! ldd $audit | grep -vE 'libc\\.|linux-vdso|ld-linux|libdl|libpthread'"
finish
