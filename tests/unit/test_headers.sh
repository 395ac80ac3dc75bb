#!/bin/sh
# Headers that C, C++ and CUDA share compile alone: those of the interfaces, and every one that a kernel includes. As C11 and as
# C++17; with nvcc, where it is, all together, and with LONG=1 each alone.
set -u
CC=${CC:-cc} CXX=${CXX:-c++} NVCC=${NVCC:-nvcc}
. tests/support/shell.sh

# What kernels include, and what that includes; headers of kernels alone (CUDA in all they say) are not shared.
reached() {
    for f in "$@"; do
        sed -n 's/^#include "\(.*\)"$/\1/p' "$f" | while read -r h; do realpath -m --relative-to=. "$(dirname "$f")/$h"; done
    done
}
shared=$(reached compressors/*/*_cuda.cu | sort -u)
for _ in 1 2 3 4; do
    # shellcheck disable=SC2086
    shared=$({ echo "$shared" | tr ' ' '\n'; reached $shared; } | sort -u)
done
kernels=$(echo $(grep -l 'cuda_runtime.h\|__device__ __forceinline__' $shared))
for _ in 1 2 3 4; do # and what includes one of those
    for h in $shared; do
        for inner in $(reached "$h"); do case " $kernels " in *" $inner "*) kernels="$kernels $h" ;; esac done
    done
    kernels=$(printf '%s\n' $kernels | sort -u | tr '\n' ' ')
done
shared=$(printf '%s\n' $shared | grep -vxF "$(printf '%s\n' $kernels)")
interfaces='comm/base/base.h comm/base/place.h comm/base/space.h compressors/codec.h compressors/ops.h compressors/vectors.h
    compressors/feedback.h compressors/frame.h compressors/dispatch.h compressors/cuda/cuda.h'
all=$(printf '%s\n' $shared $interfaces | sort -u)

# shellcheck disable=SC2086
expect "as C11" $CC -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused -fsyntax-only -I. -x c $all
# shellcheck disable=SC2086
expect "as C++17" $CXX -std=c++17 -Wall -Wextra -Werror -Wno-unused -fsyntax-only -I. -x c++ $all
[ "$(echo "$shared" | wc -l)" -ge 8 ] && passed=$((passed + 1)) || { failed=$((failed + 1)) && echo "FAIL only these are shared: $shared"; }

# The test sees what it should: a header that needs another one first.
echo 'static inline uint32_t needs_stdint(uint32_t x) { return x; }' >"$dir/alone.h"
if $CXX -std=c++17 -fsyntax-only -x c++ "$dir/alone.h" 2>/dev/null; then failed=$((failed + 1)) && echo "FAIL a header that does not stand alone passes"; else passed=$((passed + 1)); fi

skipped=0
if command -v "$NVCC" >/dev/null; then
    printf '#include "%s"\n' $all >"$dir/all.cu"
    expect "with nvcc, together" "$NVCC" -std=c++17 -arch=sm_80 -I. -ptx -o "$dir/all.ptx" "$dir/all.cu"
    if [ "${LONG:-0}" = 1 ]; then
        for h in $all; do
            echo "#include \"$h\"" >"$dir/one.cu"
            expect "$h with nvcc" "$NVCC" -std=c++17 -arch=sm_80 -I. -ptx -o "$dir/one.ptx" "$dir/one.cu"
        done
    fi
else
    skip "$NVCC is missing: headers are not compiled as CUDA"
fi
finish
