#!/bin/sh
# test_neon.sh: the codecs built for aarch64 give, under qemu, the same bytes with and without NEON kernels, and the same as
# this machine's. Needs a cross compiler and qemu's user emulation (Debian: gcc-aarch64-linux-gnu qemu-user).
# Last line: "N passed, N failed, N skipped".
set -u
BUILD=${BUILD:-build/release}
CROSS=${CROSS:-aarch64-linux-gnu-gcc}
out=$BUILD/neon
if ! command -v "$CROSS" >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
    echo "SKIP no $CROSS or no qemu-aarch64 (apt-get install gcc-aarch64-linux-gnu qemu-user)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
passed=0 failed=0
check() { # name command...
    name=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL $name"; fi
}

# xxHash has one header that needs no library; the host's own include folder must not come before the cross compiler's
mkdir -p "$out/include"
cp "$(pkg-config --variable=includedir libxxhash)"/xx*.h "$out/include/" || exit 1
sources=$(ls compressors/*.c compressors/*/*.c | grep -v -e _avx2 -e _avx512 -e ^compressors/dataset/)
[ "${LONG:-0}" = 0 ] && opt=-O0 || opt=-O2 # not optimised it compiles in half of the time
flags="-std=c11 -D_GNU_SOURCE $opt -ffp-contract=off -DNDEBUG -I. -Wall -Wextra -Werror"
build() {
    # shellcheck disable=SC2086
    "$CROSS" $flags -DXXH_INLINE_ALL= -isystem "$out/include" -static -o "$out/arm" tests/twin/same_bytes.c comm/base/base.c comm/base/space.c $sources -lm -pthread
}
native() {
    # shellcheck disable=SC2086
    ${CC:-cc} $flags -o "$out/here" tests/twin/same_bytes.c "$BUILD/lib/libtaut.a" $LIBS -lxxhash -lm -pthread
}
LIBS="$(mpicc --showme:link 2>/dev/null || true)"
for p in openblas libzstd libjpeg jansson; do LIBS="$LIBS $(pkg-config --libs $p 2>/dev/null || true)"; done
check "builds for aarch64" build
check "builds here" native
if [ "$failed" -eq 0 ]; then
    TAUT_CPU=portable qemu-aarch64 "$out/arm" >"$out/portable.txt" 2>/dev/null
    qemu-aarch64 "$out/arm" >"$out/neon.txt" 2>"$out/level.txt"
    "$out/here" >"$out/here.txt" 2>/dev/null
    check "chooses NEON" grep -qx neon "$out/level.txt"
    check "all codecs and sizes ran" [ "$(wc -l <"$out/here.txt")" -eq 136 ]
    check "NEON = portable" diff "$out/portable.txt" "$out/neon.txt"
    check "aarch64 = this machine" diff "$out/here.txt" "$out/neon.txt"
fi
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
