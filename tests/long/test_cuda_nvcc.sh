#!/bin/sh
# nvcc, where it is, makes something of every kernel for every architecture that the Makefile names, no kernel spills registers, and docs/results.md
# has a line of each.
set -eu
. tests/support/shell.sh
command -v "${NVCC:-nvcc}" >/dev/null || { skip "nvcc is missing"; finish; }
make -s cuda-report >"$dir/report"
sed -n 's/^| \([a-z_0-9]*\).*| \(sm_[0-9]*\) .*/\1 \2/p' "$dir/report" | sort -u >"$dir/made"
sed -n '/^static __global__/{N;s/__launch_bounds__([^)]*)//;s/\n */ /;s/^[^(]* \([a-z0-9_]*\)(.*/\1/p}' compressors/*/*_cuda*.cu compressors/*/*_cuda.h | sort -u >"$dir/written"
n=$(wc -l <"$dir/written")
expect "there are kernels" test "$n" -ge 50
for arch in sm_80 sm_90; do
    sed -n "s/ $arch\$//p" "$dir/made" | sort -u >"$dir/of_arch"
    expect "every kernel for $arch" test -z "$(comm -23 "$dir/written" "$dir/of_arch")"
done
awk -F'|' 'NR > 2 && $7 + 0 > 0' "$dir/report" >"$dir/spills"
expect "no spills: $(cat "$dir/spills")" test ! -s "$dir/spills"
for k in $(cat "$dir/written"); do grep -q "^| $k[ <]" docs/results.md || echo "$k"; done >"$dir/untold"
expect "docs/results.md has every kernel: $(tr '\n' ' ' <"$dir/untold")" test ! -s "$dir/untold"
finish
