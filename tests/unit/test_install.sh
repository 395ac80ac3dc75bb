#!/bin/sh
# `make install` into an empty DESTDIR gives a tree that works: a program finds taut with pkg-config, compiles, links
# and runs; the command runs from there; uninstall leaves nothing behind.
set -u
BUILD=${BUILD:-build/release}
passed=0 failed=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
ok() { # ok TEXT COMMAND...
    text=$1
    shift
    if "$@" >"$dir/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $text"
        sed 's/^/  | /' "$dir/log"
    fi
}
case $BUILD in
*asan* | *tsan*)
    echo "SKIP sanitizer builds are not installed"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
    ;;
esac

root=$dir/root prefix=/opt/taut
run_make() { make --no-print-directory BUILD="$BUILD" DESTDIR="$root" PREFIX=$prefix "$@"; }
ok "make install" run_make install

cat >"$dir/prog.c" <<'C'
#include <taut.h>
#include <stdio.h>
int main(void)
{
    size_t bytes, shape[1] = {4096};
    taut_status s = taut_encode_bound("quant:bits=4", 1, shape, &bytes);
    printf("%d %s\n", taut_version() == TAUT_VERSION, taut_status_name(s));
    return s != TAUT_OK || taut_version() != TAUT_VERSION;
}
C
PKG_CONFIG_PATH=$root$prefix/lib/pkgconfig
PKG_CONFIG_SYSROOT_DIR=$root
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
compile() { ${CC:-cc} -std=c11 -Wall -Werror -o "$dir/prog" "$dir/prog.c" $(pkg-config --cflags --libs taut); }
version() { [ "$(pkg-config --modversion taut)" = "$("$root$prefix/bin/taut" --version | cut -d' ' -f2)" ]; }
gone() { [ -z "$(find "$root" ! -type d)" ]; }
ok "a program compiles against taut.pc" compile
ok "and runs" env LD_LIBRARY_PATH="$root$prefix/lib" "$dir/prog"
ok "taut.pc and the command have one version" version
ok "the installed command runs" "$root$prefix/bin/taut" info
ok "make uninstall" run_make uninstall
ok "uninstall leaves no file" gone
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
