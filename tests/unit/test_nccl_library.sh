#!/bin/sh
# How libnccl is found: not there, too old, a function missing, and one that will do. The library is asked for by name when somebody wants it,
# so `taut info` and everything else run without it.
set -u
BUILD=${BUILD:-build/release}
CC=${CC:-cc}
. tests/support/shell.sh

# NAME VERSION FUNCTIONS...: a library of functions that do nothing
make_library() {
    name=$1 version=$2
    shift 2
    {
        echo "int ncclGetVersion(int *v) { *v = $version; return 0; }"
        for f in "$@"; do echo "int $f(void) { return 0; }"; done
    } >"$dir/$name.c"
    $CC -shared -fPIC -o "$dir/$name.so" "$dir/$name.c"
}
needed=$(sed -n 's/^    {"\(nccl[A-Za-z]*\)", .*, NEEDED},$/\1/p' comm/transport/nccl_table.c | grep -v ncclGetVersion)
make_library good 22809 $needed
make_library old 21304 $needed
make_library lacks 22809 $(echo "$needed" | grep -v ncclCommAbort)
echo 'int something_else(void) { return 0; }' >"$dir/other.c"
$CC -shared -fPIC -o "$dir/other.so" "$dir/other.c"
echo 'no library' >"$dir/text.so"

says() { # NAME LIBRARY WORDS...: what taut info says
    name=$1 library=$2
    shift 2
    out=$(TAUT_NCCL_LIBRARY=$library "$BUILD/bin/taut" info 2>&1) || out="exit code $?: $out"
    for words in "$@"; do
        if printf '%s\n' "$out" | grep '^NCCL ' | grep -qF -- "$words"; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "FAIL $name: no \"$words\" in: $(printf '%s\n' "$out" | grep '^NCCL ')"
        fi
    done
}
says 'one that will do' "$dir/good.so" '2.28.9'
says 'not there' /nonexistent/libnccl.so none /nonexistent/libnccl.so
says 'too old' "$dir/old.so" none 21304 21400
says 'a function missing' "$dir/lacks.so" none ncclCommAbort
says 'another library' "$dir/other.so" none version
says 'no library at all' "$dir/text.so" none
[ "$(echo "$needed" | wc -w)" -ge 15 ] && passed=$((passed + 1)) || { failed=$((failed + 1)) && echo "FAIL the table's needed functions were not found: $needed"; }

# Nothing that is built asks the loader for NCCL or CUDA's driver.
for f in "$BUILD"/lib/libtaut.so "$BUILD/bin/taut"; do
    if ldd "$f" | grep -qE 'libnccl|libcuda\.'; then
        failed=$((failed + 1))
        echo "FAIL $f is linked against NCCL or libcuda"
    else
        passed=$((passed + 1))
    fi
done
finish
