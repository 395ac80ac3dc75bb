#!/bin/sh
# The BLAS of powersgd is opened by its first product, and by nothing before: OpenBLAS starts threads that spin in every process that loads it.
# Where it cannot be opened, plain C makes the products, and the log says so.
set -u
BUILD=${BUILD:-build/release}
TAUT=$BUILD/bin/taut
. tests/support/shell.sh

for f in "$TAUT" "$BUILD"/lib/libtaut*.so; do
    if readelf -d "$f" | grep NEEDED | grep -qi blas; then fail "$f is linked with a BLAS: $(readelf -d "$f" | grep -i blas)"; else pass; fi
done

# opened CODEC: the libraries called *blas* that a benchmark of it opens
opened() { LD_DEBUG=files "$TAUT" bench codec -n 4096 --shape 64x64 --seconds 0 --codec "$1" 2>&1 >"$dir/out" | grep -i 'file=.*blas.* dynamically loaded'; }
opened none >"$dir/none" && fail "none opens $(head -n 1 "$dir/none")" || pass
if ! "$TAUT" info | grep -q '^ *blas *found'; then
    skip "built without BLAS"
    finish
fi
opened powersgd:rank=2 >"$dir/lowrank" && pass || fail "powersgd opens no BLAS: $(cat "$dir/out")"

library=$(sed -n "s/.*file=\([^ ]*\) .*/\1/p" "$dir/lowrank" | head -n 1)
echo 'no library' >"$dir/${library##*/}"
expect "powersgd without BLAS" env LD_LIBRARY_PATH="$dir" "$TAUT" bench codec -n 4096 --shape 64x64 --seconds 0 --codec powersgd:rank=2
grep -q 'plain C makes the products' "$dir/log" && pass || fail "the log says nothing of it: $(cat "$dir/log")"
finish
